//! The versions of a key as a stack, newest first: which of them have to be written again so that all stand under the target in the
//! order that they had.
//!
//! A copy always comes on top. So where one version has to be copied, everything newer than it is written again too, oldest first,
//! delete markers and versions that need nothing included: then the copies stand above the old stack as its mirror, and the
//! current one is the same. What is older stays where it is.
//!
//! | found | what is done |
//! |---|---|
//! | a version that has to be copied, none older | it and all newer ones are written again |
//! | a version that can be updated, older than those | updated where it is |
//! | a version that can be updated, among those | written again with them |
//! | a version that is under the target, older than those | nothing |
//! | versions that are superseded: their mirror stands right above them, under the target | nothing |
//!
//! | copies of the oldest of those on top, and not of all: what an interrupted rewriting leaves, of which no word is left | nothing, the row fails: writing all again would make an old version the current one |
//!
//! The last line but one makes it idempotent: whoever looks at what a restack has left finds nothing to do, and needs no memory for that.

/// What one version of a key needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It is a delete marker, which has no bytes.
    DeleteMarker,
    /// Nothing: it is under the target.
    Satisfied,
    /// Its data key wrapped anew, where it is.
    Update,
    /// A copy.
    Copy,
}

impl Layer {
    /// Whether it is an object that is not under the target.
    pub fn is_unsatisfied(self) -> bool {
        matches!(self, Self::Update | Self::Copy)
    }
}

/// What is to be done to a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Layers that are updated where they are, oldest first.
    pub updates: Vec<usize>,
    /// So many layers, counted from the newest, are written again, oldest first.
    pub rewritten: usize,
}

impl Work {
    /// Whether nothing is to be done.
    pub fn is_nothing(&self) -> bool {
        self.rewritten == 0 && self.updates.is_empty()
    }
}

/// What is to be done to a key whose layers these are, newest first, without those that are superseded.
pub fn plan(stack: &[Layer], is_superseded: impl Fn(usize) -> bool) -> Work {
    let needs = |layer: Layer| {
        let is_superseded = &is_superseded;
        move |&index: &usize| stack[index] == layer && !is_superseded(index)
    };
    let rewritten = (0..stack.len())
        .rev()
        .find(needs(Layer::Copy))
        .map_or(0, |oldest| oldest + 1);
    let updates = (rewritten..stack.len()).rev();
    Work {
        updates: updates.filter(needs(Layer::Update)).collect(),
        rewritten,
    }
}

/// How many layers, from `oldest` upward, the same number right above may have superseded: all lengths that fit, the shortest first.
/// `is_same(copy, layer)`: whether two objects are the same but for the encryption.
pub fn mirrors(
    stack: &[Layer],
    oldest: usize,
    is_same: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let longest = oldest.div_ceil(2);
    (1..=longest)
        .filter(|length| {
            (0..*length).all(|up| fits(stack, oldest - up - length, oldest - up, &is_same))
        })
        .collect()
}

/// How many layers on top may be what a rewriting of all down to `oldest` has left that came to no end, and of which no word is left: they
/// mirror the oldest ones, and below them are more. All numbers that fit. `is_same` as for [`mirrors`].
pub fn halfway(
    stack: &[Layer],
    oldest: usize,
    is_same: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let most = oldest / 2;
    (1..=most)
        .filter(|copies| (0..*copies).all(|up| fits(stack, copies - 1 - up, oldest - up, &is_same)))
        .collect()
}

/// Whether one layer may be the copy of another, which needs a copy or not.
fn fits(
    stack: &[Layer],
    copy: usize,
    layer: usize,
    is_same: impl Fn(usize, usize) -> bool,
) -> bool {
    match (stack[copy], stack[layer]) {
        (Layer::DeleteMarker, Layer::DeleteMarker) => true,
        (Layer::Satisfied, Layer::Satisfied | Layer::Update | Layer::Copy) => is_same(copy, layer),
        _ => false,
    }
}

/// How far the rewriting of a stack has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it is there.
    Untouched,
    /// So many copies stand on top, and nothing of somebody else's.
    Halfway(usize),
    /// All copies stand above the old stack.
    Complete,
    /// So many copies are there, and what comes next can't be put on them: somebody else has written, or removed what is to be copied.
    Lost(usize),
}

/// How far a rewriting has come. `recorded`: for each version of the stack, oldest first, whether it is there still. `above`: so many
/// versions stand above the newest of them. `copies`: so many of these, the oldest first, mirror the stack.
pub fn progress(recorded: &[bool], above: usize, copies: usize) -> Progress {
    if copies == recorded.len() {
        Progress::Complete
    } else if copies < above && copies > 0 {
        Progress::Lost(copies)
    } else if copies == 0 {
        Progress::Untouched
    } else if recorded[copies..].iter().all(|is_there| *is_there) {
        Progress::Halfway(copies)
    } else {
        Progress::Lost(copies)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// A version, and what it holds.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Version {
        layer: Layer,
        content: u8,
    }

    fn layers(stack: &[Version]) -> Vec<Layer> {
        stack.iter().map(|version| version.layer).collect()
    }

    /// What can be seen of a stack beside the encryption.
    fn contents(stack: &[Version]) -> Vec<Option<u8>> {
        let content =
            |version: &Version| (version.layer != Layer::DeleteMarker).then_some(version.content);
        stack.iter().map(content).collect()
    }

    /// The layers that are superseded, as whoever restacks finds them.
    fn superseded(stack: &[Version]) -> Vec<bool> {
        let kinds = layers(stack);
        let mut found = vec![false; stack.len()];
        let mut end = stack.len();
        while let Some(oldest) = (0..end).rev().find(|&at| kinds[at].is_unsatisfied()) {
            let is_same = |a: usize, b: usize| stack[a].content == stack[b].content;
            match mirrors(&kinds, oldest, is_same).first() {
                Some(length) => {
                    end = oldest + 1 - length;
                    found[end..=oldest].fill(true);
                }
                None if kinds[oldest] == Layer::Copy => break,
                None => end = oldest,
            }
        }
        found
    }

    fn planned(stack: &[Version]) -> Work {
        let superseded = superseded(stack);
        plan(&layers(stack), |at| superseded[at])
    }

    /// Does what is planned, as S3 would.
    fn apply(work: &Work, stack: &[Version]) -> Vec<Version> {
        let mut stack = stack.to_vec();
        for &at in &work.updates {
            stack[at].layer = Layer::Satisfied;
        }
        let old = stack.clone();
        for version in old[..work.rewritten].iter().rev() {
            let layer = match version.layer {
                Layer::DeleteMarker => Layer::DeleteMarker,
                _ => Layer::Satisfied,
            };
            stack.insert(0, Version { layer, ..*version });
        }
        stack
    }

    fn any_stack(rng: &mut SmallRng) -> Vec<Version> {
        let length = rng.random_range(1..9);
        let version = |rng: &mut SmallRng| Version {
            layer: match rng.random_range(0..5) {
                0 => Layer::DeleteMarker,
                1 => Layer::Satisfied,
                2 => Layer::Update,
                _ => Layer::Copy,
            },
            // Few contents: what is alike must not be taken for what is superseded where it isn't.
            content: rng.random_range(0..3),
        };
        (0..length).map(|_| version(rng)).collect()
    }

    #[test]
    fn the_order_and_the_current_one_stay_what_they_were_and_twice_is_once() {
        for seed in 0..20_000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let before = any_stack(&mut rng);
            let work = planned(&before);
            let after = apply(&work, &before);
            let told = format!("seed {seed}: {before:?} {work:?} {after:?}");
            let n = work.rewritten;
            assert_eq!(contents(&after)[n..], contents(&before)[..], "{told}");
            assert_eq!(contents(&after)[..n], contents(&before)[..n], "{told}");
            assert_eq!(contents(&after)[0], contents(&before)[0], "{told}");
            assert!(
                after[..n].iter().all(|copy| !copy.layer.is_unsatisfied()),
                "{told}"
            );
            assert!(planned(&after).is_nothing(), "{told}");
            // What is left under another encryption has its like under the target.
            for (at, is_superseded) in superseded(&after).into_iter().enumerate() {
                let left = after[at];
                let has_like = after[..at]
                    .iter()
                    .any(|newer| newer.layer == Layer::Satisfied && newer.content == left.content);
                assert!(
                    !left.layer.is_unsatisfied() || (is_superseded && has_like),
                    "{told}"
                );
            }
        }
    }

    /// A rewriting ends after any of its copies, and what was known of it is lost.
    #[test]
    fn what_was_left_halfway_is_seen_or_does_no_harm() {
        let (mut seen, mut harmless, mut mistaken) = (0, 0, 0);
        for seed in 0..20_000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let before = any_stack(&mut rng);
            let work = planned(&before);
            let whole = apply(&work, &before);
            let oldest = work.rewritten.saturating_sub(1);
            for copies in 1..work.rewritten {
                let left = &whole[work.rewritten - copies..];
                let told = format!("seed {seed}, {copies} copies: {before:?} {left:?}");
                let kinds = layers(left);
                let work = planned(left);
                let is_same = |a: usize, b: usize| left[a].content == left[b].content;
                let is_other_current =
                    |copies: &usize| contents(left)[0] != contents(left)[*copies];
                if superseded(left)[copies + oldest] {
                    // With what was under the target before, the copies are a mirror of all: nothing is written.
                    mistaken += 1;
                    continue;
                }
                assert_eq!(work.rewritten, copies + oldest + 1, "{told}");
                let begun = halfway(&kinds, copies + oldest, is_same);
                if begun.iter().any(is_other_current) {
                    seen += 1;
                    continue;
                }
                harmless += 1;
                let current = contents(&apply(&work, left))[0];
                assert_eq!(current, contents(&before)[0], "{told}");
            }
        }
        let told = format!("{seen} seen, {harmless} harmless, {mistaken} mistaken");
        assert!(
            seen > 1_000 && harmless > 1_000 && mistaken * 50 < seen,
            "{told}"
        );
    }

    #[test]
    fn nothing_older_than_what_has_to_be_copied_is_touched() {
        use Layer::{Copy, DeleteMarker, Satisfied, Update};
        let work = |stack: &[Layer]| plan(stack, |_| false);
        let expected = |updates: &[usize], rewritten| Work {
            updates: updates.to_vec(),
            rewritten,
        };
        assert_eq!(
            work(&[DeleteMarker, Satisfied, Copy, Update, Satisfied, Update]),
            expected(&[5, 3], 3)
        );
        assert_eq!(work(&[Update, Copy]), expected(&[], 2));
        assert_eq!(work(&[DeleteMarker, Update]), expected(&[1], 0));
        assert!(work(&[Satisfied, DeleteMarker]).is_nothing());
    }

    #[test]
    fn a_half_restack_is_gone_on_with_only_where_nobody_else_was() {
        let all = [true; 4];
        assert_eq!(progress(&all, 0, 0), Progress::Untouched);
        // Somebody wrote before the first copy: nothing of ours is there.
        assert_eq!(progress(&all, 1, 0), Progress::Untouched);
        assert_eq!(progress(&all, 2, 2), Progress::Halfway(2));
        assert_eq!(progress(&all, 3, 2), Progress::Lost(2));
        assert_eq!(progress(&all, 4, 4), Progress::Complete);
        assert_eq!(progress(&all, 6, 4), Progress::Complete);
        // What has been copied may be gone, what has not been may not.
        assert_eq!(
            progress(&[false, true, true, true], 2, 2),
            Progress::Halfway(2)
        );
        assert_eq!(
            progress(&[true, true, false, true], 2, 2),
            Progress::Lost(2)
        );
    }
}
