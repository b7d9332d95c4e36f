//! Which keys are listed for good, and which are left: the same command goes on with these. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::listing::{Place, Range};

/// Everything between two places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Behind this.
    pub from: Place,
    /// Up to here; `None` is the end of all.
    pub to: Option<Place>,
}

/// All that is listed for good.
///
/// Segments of a range come in their order, each from where the one before it ended, so that what is covered of a range is its beginning.
/// And a range begins behind all of a key, never between two versions: so is where a gap ends.
#[derive(Clone, Debug, Default)]
pub struct Covered {
    /// From behind a key to a place.
    runs: BTreeMap<String, Option<Place>>,
    /// The runs by their ends.
    by_end: HashMap<Place, String>,
}

impl Covered {
    /// Adds a segment. `false` where it can't be: it begins between two versions, and what is before it is not there.
    #[must_use]
    pub fn add(&mut self, segment: Segment) -> bool {
        let from = match self.by_end.remove(&segment.from) {
            Some(from) => from,
            None if segment.from.version_id.is_none() => segment.from.key,
            None => return false,
        };
        let mut to = segment.to;
        // What it touches is one with it.
        while let Some(end) = to.as_ref().filter(|end| end.version_id.is_none())
            && let Some(next) = self.runs.remove(&end.key)
        {
            if let Some(end) = &next {
                self.by_end.remove(end);
            }
            to = next;
        }
        if let Some(end) = &to {
            self.by_end.insert(end.clone(), from.clone());
        }
        self.runs.insert(from, to);
        true
    }

    /// What is left, in its order.
    pub fn left(&self) -> Vec<Range> {
        let mut left = Vec::new();
        let mut at = Some(Place::default());
        for (from, to) in &self.runs {
            let Some(from_here) = at else { return left };
            if from_here != Place::behind(from.as_str()) {
                left.push(Range {
                    from: from_here,
                    until: Some(from.clone()),
                });
            }
            at = to.clone();
        }
        left.extend(at.map(|from| Range { from, until: None }));
        left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(n: u32) -> Place {
        match (n / 3, n % 3) {
            (0, _) => Place::default(),
            (key, 0) => Place::behind(format!("{key:03}")),
            // Between versions of the key that comes next.
            (key, version) => Place {
                key: format!("{:03}", key + 1),
                version_id: Some(version.to_string()),
            },
        }
    }

    #[test]
    fn nothing_covered_is_all_left_and_the_other_way_round() {
        let mut covered = Covered::default();
        assert_eq!(covered.left(), [Range::whole()]);
        let segment = |from, to| Segment { from, to };
        assert!(covered.add(segment(place(30), Some(place(31)))));
        assert!(!covered.clone().add(segment(place(32), None)));
        let gaps = covered.left();
        let expected = [
            Range {
                from: Place::default(),
                until: Some("010".to_owned()),
            },
            Range {
                from: place(31),
                until: None,
            },
        ];
        assert_eq!(gaps, expected);
        assert!(covered.add(segment(place(31), None)));
        assert!(covered.add(segment(Place::default(), Some(place(30)))));
        assert_eq!(covered.left(), []);
        assert_eq!(covered.runs.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Ranges side by side, each covered in steps as far as chance has it, in any order among them: what is left begins where
        /// each stopped, and ends where the next begins.
        #[test]
        fn what_is_left_is_what_no_range_has_covered(
            ranges in proptest::collection::vec((proptest::collection::vec(1..9_u32, 0..4), any::<bool>(), any::<prop::sample::Index>()), 1..8),
        ) {
            let mut covered = Covered::default();
            let mut steps = Vec::new();
            let mut expected = Vec::new();
            let mut at = 0_u32;
            for (index, (lengths, is_whole, chance)) in ranges.iter().enumerate() {
                let is_last = index + 1 == ranges.len();
                let begin = at;
                let end = (begin + 30).next_multiple_of(3);
                let mut from = begin;
                for (step, length) in lengths.iter().enumerate() {
                    let to = (from + length).min(end - 1).max(from);
                    // Before the first key there are no versions, and so no places between them.
                    if to > from && to >= 3 {
                        steps.push((chance.index(9), index, step, Segment { from: place(from), to: Some(place(to)) }));
                        from = to;
                    }
                }
                let until = (!is_last).then(|| place(end));
                if *is_whole {
                    steps.push((chance.index(9), index, 99, Segment { from: place(from), to: until.clone() }));
                } else {
                    expected.push(Range { from: place(from), until: until.map(|place| place.key) });
                }
                at = end;
            }
            // Those of a range stay in their order.
            steps.sort_by_key(|(chance, index, step, _)| (*chance, *index, *step));
            for (_, _, _, segment) in steps {
                prop_assert!(covered.add(segment));
            }
            // Ranges side by side of which nothing is covered are one gap.
            expected.dedup_by(|next, before| {
                let is_one = before.until.as_deref().map(Place::behind).as_ref() == Some(&next.from);
                if is_one {
                    before.until = next.until.take();
                }
                is_one
            });
            prop_assert_eq!(covered.left(), expected);
        }
    }
}
