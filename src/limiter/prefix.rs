//! Budgets by key prefix: a ceiling for each, where one is set, and a rate of its own for a prefix that the store slows down alone.
//!
//! S3 divides a bucket by key prefixes, and each division takes so many requests a second. Where they lie it does not tell. So a
//! ceiling counts for prefixes of a depth that is given, or that the keys show: the first level at which they differ. And when a
//! store objects, it is looked at whose keys it objects to: if nearly all of them lie under one prefix and the others get through,
//! that prefix alone is slowed.
//!
//! Source: S3 User Guide, "Best practices design patterns": 3,500 PUT, COPY, POST or DELETE and 5,500 GET or HEAD requests a second
//! for each partitioned prefix, and no bound on the number of prefixes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::adaptive::{Adaptive, Answer};
use super::budget::Budget;

/// So many prefixes with a ceiling are remembered before those are forgotten that have rested, by which nothing is lost: what is
/// remembered is at most twice what was used within the time that a ceiling takes to let one request through.
const FORGET_FROM: usize = 4_096;
/// Prefixes that are slowed alone.
const HOT_MAX: usize = 64;
/// A prefix that was not objected to for so long is one of many again.
const COOLED_AFTER: Duration = Duration::from_secs(60);

/// Levels of a key at which a hot prefix is looked for.
const LEVELS_MAX: usize = 4;
/// Prefixes that are counted at a time.
const COUNTED_MAX: usize = 1_024;
/// Answers that it takes to tell, and objections among them.
const ANSWERS_MIN: u32 = 100;
const OBJECTIONS_MIN: u32 = 10;
/// Answers that the others must have had, to be known to fare better.
const OTHERS_MIN: u32 = 20;
/// A hot prefix has this share of the objections,
const HOT_SHARE: f64 = 0.9;
/// and the others meet at most this share of its own rate of them.
const OTHERS_SHARE: f64 = 0.2;
/// Counting is given up after so long without a result, and begins with the next objection.
const COUNTED_FOR: Duration = Duration::from_secs(2);

/// How deep the prefixes are that have a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many levels, each up to a `/`.
    Levels(u32),
    /// The first level at which the keys differ.
    Learnt,
}

/// Where a key lies: its budgets, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    ceiling: Option<u32>,
    hot: Option<u32>,
}

impl Place {
    /// Whether both need the same budget of a prefix.
    pub(super) fn shares(self, other: Self) -> bool {
        let same = |one: Option<u32>, other| one.is_some() && one == other;
        same(self.ceiling, other.ceiling) || same(self.hot, other.hot)
    }

    pub(super) fn is_hot(self) -> bool {
        self.hot.is_some()
    }
}

#[derive(Debug)]
struct Hot {
    prefix: String,
    rate: Adaptive,
}

/// The budgets by prefix.
#[derive(Debug)]
pub(super) struct Prefixes {
    ceiling: Option<f64>,
    depth: Depth,
    /// What all keys so far begin with, up to a `/`.
    common: Option<String>,
    ceilings: HashMap<String, u32>,
    budgets: BTreeMap<u32, Budget>,
    /// With so many, those that rest are forgotten.
    forget_from: usize,
    hot: BTreeMap<u32, Hot>,
    next: u32,
    contrast: Option<Contrast>,
}

impl Prefixes {
    pub(super) fn new(ceiling: Option<f64>, depth: Depth) -> Self {
        Self {
            ceiling,
            depth,
            common: None,
            ceilings: HashMap::new(),
            budgets: BTreeMap::new(),
            forget_from: FORGET_FROM,
            hot: BTreeMap::new(),
            next: 0,
            contrast: None,
        }
    }

    /// Whether any prefix has a budget of its own.
    pub(super) fn are_any(&self) -> bool {
        self.ceiling.is_some() || !self.hot.is_empty()
    }

    /// Where a key lies. `writes`: ceilings count writes only.
    pub(super) fn place(&mut self, key: &str, writes: bool, now: Duration) -> Place {
        Place {
            ceiling: self
                .ceiling
                .filter(|_| writes)
                .map(|rate| self.with_ceiling(key, rate, now)),
            hot: self.hot_place(key),
        }
    }

    fn hot_place(&self, key: &str) -> Option<u32> {
        let mut hot = self.hot.iter();
        hot.find(|(_, hot)| key.starts_with(&hot.prefix))
            .map(|(number, _)| *number)
    }

    fn with_ceiling(&mut self, key: &str, rate: f64, now: Duration) -> u32 {
        let levels = match self.depth {
            Depth::Levels(levels) => levels as usize,
            Depth::Learnt => self.levels_to(key),
        };
        let prefix = up_to_level(key, levels);
        if let Some(number) = self.ceilings.get(prefix) {
            return *number;
        }
        if self.ceilings.len() >= self.forget_from {
            self.budgets.retain(|_, budget| !budget.is_full(now));
            self.ceilings
                .retain(|_, number| self.budgets.contains_key(number));
            self.forget_from = FORGET_FROM.max(2 * self.ceilings.len());
        }
        let number = self.next;
        self.next += 1;
        // A prefix that was a part of another one until now has had its share of this second.
        let is_first = self.budgets.is_empty();
        let budget = Budget::ceiling(rate);
        let budget = if is_first { budget } else { budget.empty(now) };
        self.budgets.insert(number, budget);
        self.ceilings.insert(prefix.to_owned(), number);
        number
    }

    /// The level at which the keys so far differ, this one among them.
    fn levels_to(&mut self, key: &str) -> usize {
        let common = match &mut self.common {
            Some(common) => {
                while !key.starts_with(common.as_str()) {
                    let shorter = common
                        .trim_end_matches('/')
                        .rfind('/')
                        .map_or(0, |at| at + 1);
                    common.truncate(shorter);
                }
                common
            }
            None => self
                .common
                .insert(key[..key.rfind('/').map_or(0, |at| at + 1)].to_owned()),
        };
        common.matches('/').count() + 1
    }

    /// How long until a request of a place may be sent: for the ceiling of its prefix, and for the rate of a hot one.
    pub(super) fn wait(&mut self, place: Place, now: Duration) -> (Duration, Duration) {
        let ceiling = place
            .ceiling
            .and_then(|number| self.budgets.get_mut(&number));
        let hot = place.hot.and_then(|number| self.hot.get_mut(&number));
        (
            ceiling.map_or(Duration::ZERO, |budget| budget.wait(1, now)),
            hot.map_or(Duration::ZERO, |hot| hot.rate.wait(1, now)),
        )
    }

    pub(super) fn take(&mut self, place: Place, now: Duration) {
        if let Some(budget) = place
            .ceiling
            .and_then(|number| self.budgets.get_mut(&number))
        {
            budget.take(1, now);
        }
        if let Some(hot) = place.hot.and_then(|number| self.hot.get_mut(&number)) {
            hot.rate.take(1, now);
        }
    }

    pub(super) fn give_back(&mut self, place: Place) {
        if let Some(budget) = place
            .ceiling
            .and_then(|number| self.budgets.get_mut(&number))
        {
            budget.give_back(1);
        }
        if let Some(hot) = place.hot.and_then(|number| self.hot.get_mut(&number)) {
            hot.rate.give_back(1);
        }
    }

    /// Hears what became of a request in a hot prefix.
    pub(super) fn hear(&mut self, place: Place, answer: Answer, sent: Duration, now: Duration) {
        let Some(number) = place.hot else {
            return;
        };
        if let Some(hot) = self.hot.get_mut(&number) {
            hot.rate.hear(answer, 1, sent, now);
            let objected = hot.rate.objected().unwrap_or_default();
            if now.saturating_sub(objected) > COOLED_AFTER {
                self.hot.remove(&number);
            }
        }
    }

    /// Whether it is being looked whose requests the store objects to.
    pub(super) fn are_compared(&self) -> bool {
        self.contrast.is_some()
    }

    /// Looks whether it is one prefix that the store objects to, from a request that is in no hot one. `used`: requests a second of
    /// all of them, of `rate` that there may be. Where one is found, it tells the rate there was before the store objected: nobody
    /// else need be slowed.
    pub(super) fn compare(
        &mut self,
        key: &str,
        answer: Answer,
        rate: f64,
        used: f64,
        now: Duration,
    ) -> Option<f64> {
        if self.contrast.is_none() && matches!(answer, Answer::TooMany(_)) {
            self.contrast = Some(Contrast::new(rate, now));
        }
        let contrast = self.contrast.as_mut()?;
        contrast.add(key, answer);
        let is_over = now.saturating_sub(contrast.began) > COUNTED_FOR;
        if !is_over && !contrast.is_enough() {
            return None;
        }
        let contrast = self.contrast.take()?;
        let (prefix, count) = contrast.hot().filter(|_| self.hot.len() < HOT_MAX)?;
        let share = f64::from(count.total()) / f64::from(contrast.all.total());
        let guess = used * share * (1.0 - count.refused_share());
        // It had too much all the time, so that what it took is what it takes. Too high is found out soon.
        let taken = f64::from(count.taken) / now.saturating_sub(contrast.began).as_secs_f64();
        let capacity = if taken.is_finite() {
            guess.max(taken)
        } else {
            guess
        };
        let number = self.next;
        self.next += 1;
        let rate = Adaptive::around(capacity, now);
        self.hot.insert(number, Hot { prefix, rate });
        Some(contrast.rate_before)
    }
}

/// A key's prefix of so many levels; one with fewer has as many as it has.
fn up_to_level(key: &str, levels: usize) -> &str {
    let ends = key.match_indices('/').map(|(at, _)| at + 1).take(levels);
    &key[..ends.last().unwrap_or(0)]
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    taken: u32,
    refused: u32,
}

impl Count {
    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Taken => self.taken += 1,
            Answer::TooMany(_) => self.refused += 1,
        }
    }

    fn total(self) -> u32 {
        self.taken + self.refused
    }

    fn refused_share(self) -> f64 {
        f64::from(self.refused) / f64::from(self.total().max(1))
    }

    fn without(self, other: Self) -> Self {
        Self {
            taken: self.taken - other.taken,
            refused: self.refused - other.refused,
        }
    }
}

/// Whose requests the store has objected to, and whose it has taken.
#[derive(Debug)]
struct Contrast {
    began: Duration,
    /// What went through before.
    rate_before: f64,
    all: Count,
    by_prefix: BTreeMap<String, Count>,
}

impl Contrast {
    fn new(rate_before: f64, now: Duration) -> Self {
        Self {
            began: now,
            rate_before,
            all: Count::default(),
            by_prefix: BTreeMap::new(),
        }
    }

    fn add(&mut self, key: &str, answer: Answer) {
        self.all.add(answer);
        for (at, _) in key.match_indices('/').take(LEVELS_MAX) {
            let prefix = &key[..=at];
            if let Some(count) = self.by_prefix.get_mut(prefix) {
                count.add(answer);
            } else if self.by_prefix.len() < COUNTED_MAX {
                let mut count = Count::default();
                count.add(answer);
                self.by_prefix.insert(prefix.to_owned(), count);
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.all.total() >= ANSWERS_MIN && self.all.refused >= OBJECTIONS_MIN
    }

    /// The shortest prefix that is hot.
    fn hot(&self) -> Option<(String, Count)> {
        if self.all.refused < OBJECTIONS_MIN {
            return None;
        }
        let is_hot = |count: &Count| {
            let others = self.all.without(*count);
            f64::from(count.refused) >= HOT_SHARE * f64::from(self.all.refused)
                && others.total() >= OTHERS_MIN
                && others.refused_share() <= OTHERS_SHARE * count.refused_share()
        };
        self.by_prefix
            .iter()
            .filter(|(_, count)| is_hot(count))
            .min_by_key(|(prefix, _)| prefix.len())
            .map(|(prefix, count)| (prefix.clone(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_given_or_is_where_the_keys_differ() {
        let prefix_of = |prefixes: &mut Prefixes, key: &str| {
            let number = prefixes.with_ceiling(key, 10.0, Duration::ZERO);
            let mut all = prefixes.ceilings.iter();
            all.find(|(_, other)| **other == number)
                .map(|(prefix, _)| prefix.clone())
        };
        for (depth, keys) in [
            (
                Depth::Levels(2),
                vec![("a/b/c", "a/b/"), ("a/b", "a/"), ("x", "")],
            ),
            (Depth::Levels(0), vec![("a/b/c", ""), ("x", "")]),
            (
                Depth::Learnt,
                vec![
                    ("logs/1/a", "logs/1/"),
                    ("logs/1/b", "logs/1/"),
                    ("logs/2/a", "logs/2/"),
                    ("data/2/a", "data/"),
                    ("logs/2/a", "logs/"),
                    ("plain", ""),
                ],
            ),
        ] {
            let mut prefixes = Prefixes::new(Some(10.0), depth);
            for (key, expected) in keys {
                assert_eq!(
                    prefix_of(&mut prefixes, key).as_deref(),
                    Some(expected),
                    "{depth:?} {key}"
                );
            }
        }
    }

    #[test]
    fn prefixes_that_rest_are_forgotten() {
        let mut prefixes = Prefixes::new(Some(10.0), Depth::Levels(1));
        for number in 0..3 * FORGET_FROM {
            let now = Duration::from_millis(number as u64);
            let place = prefixes.place(&format!("{number}/k"), true, now);
            prefixes.take(place, now);
            assert!(prefixes.ceilings.len() <= FORGET_FROM);
            assert_eq!(prefixes.ceilings.len(), prefixes.budgets.len());
        }
    }

    #[test]
    fn one_prefix_is_hot_only_where_the_others_fare_better() {
        let refused = Answer::TooMany(None);
        for (others, expected) in [(Answer::Taken, Some("a/hot/")), (refused, None)] {
            let mut contrast = Contrast::new(1_000.0, Duration::ZERO);
            for number in 0..100 {
                contrast.add(
                    &format!("a/hot/{number}"),
                    if number % 2 == 0 {
                        refused
                    } else {
                        Answer::Taken
                    },
                );
                contrast.add(&format!("a/cold-{}/{number}", number % 7), others);
            }
            let hot = contrast.hot().map(|(prefix, _)| prefix);
            assert_eq!(hot.as_deref(), expected);
        }
    }
}
