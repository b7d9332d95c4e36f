//! Which rows: a set that is small because it is nearly one range.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of row numbers, kept as ranges.
///
/// Memory is bounded by the number of gaps, not of rows. Rows settle almost in order, and no row is admitted further than
/// [`WINDOW_ROWS_MAX`](super::WINDOW_ROWS_MAX) above the lowest unsettled one, so there are at most half as many gaps as
/// that, and in practice about as many as requests run at once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RowSet {
    /// First row of each range, and its last, inclusive. No two ranges touch.
    ranges: BTreeMap<u64, u64>,
    rows: u64,
}

impl RowSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row; `false` where it was there already.
    pub fn insert(&mut self, row: u64) -> bool {
        let before = self
            .ranges
            .range(..=row)
            .next_back()
            .map(|(&first, &last)| (first, last));
        if before.is_some_and(|(_, last)| row <= last) {
            return false;
        }
        // The range after begins above `row`, since no range that begins at or below it holds it.
        let joined_last = row
            .checked_add(1)
            .and_then(|next| self.ranges.remove(&next))
            .unwrap_or(row);
        match before {
            // `row > last`, so neither side can overflow.
            Some((first, last)) if last + 1 == row => self.ranges.insert(first, joined_last),
            _ => self.ranges.insert(row, joined_last),
        };
        self.rows += 1;
        true
    }

    /// Whether a row is in it.
    pub fn contains(&self, row: u64) -> bool {
        self.ranges
            .range(..=row)
            .next_back()
            .is_some_and(|(_, &last)| row <= last)
    }

    /// How many rows are in it.
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The lowest row that is not in it.
    pub fn lowest_missing(&self) -> u64 {
        match self.ranges.first_key_value() {
            Some((0, &last)) => last.saturating_add(1),
            _ => 0,
        }
    }

    /// The highest row that is in it.
    pub fn highest(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, &last)| last)
    }

    /// How many ranges it is kept as.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// For asking in ascending order: each question costs a comparison.
    pub fn cursor(&self) -> Cursor<'_> {
        let mut ranges = self.ranges.range(..);
        let current = ranges.next().map(|(&first, &last)| (first, last));
        Cursor { ranges, current }
    }
}

/// As its ranges: first row and last, inclusive.
impl Serialize for RowSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.ranges)
    }
}

impl<'de> Deserialize<'de> for RowSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = Vec::<(u64, u64)>::deserialize(deserializer)?;
        let mut set = Self::new();
        let mut next = 0;
        for (first, last) in ranges {
            if first < next || last < first {
                return Err(D::Error::custom("ranges of rows that overlap"));
            }
            // Two ranges that touch would be one.
            next = last.saturating_add(2);
            set.rows += last - first + 1;
            set.ranges.insert(first, last);
        }
        Ok(set)
    }
}

impl FromIterator<u64> for RowSet {
    fn from_iter<I: IntoIterator<Item = u64>>(rows: I) -> Self {
        let mut set = Self::new();
        for row in rows {
            set.insert(row);
        }
        set
    }
}

impl fmt::Debug for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.ranges.iter().map(|(first, last)| first..=last))
            .finish()
    }
}

/// Walks a [`RowSet`] upwards.
pub struct Cursor<'a> {
    ranges: Range<'a, u64, u64>,
    /// The lowest range that does not end below the row asked for last.
    current: Option<(u64, u64)>,
}

impl Cursor<'_> {
    /// Whether a row is in the set. Rows must be asked for in ascending order; one may be asked for again.
    pub fn contains(&mut self, row: u64) -> bool {
        while let Some((first, last)) = self.current {
            if row <= last {
                return first <= row;
            }
            self.current = self.ranges.next().map(|(&first, &last)| (first, last));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Rows that collide and touch: near zero, and at the far end, where a range has no row after it.
    fn row() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0_u64..60, 1 => (u64::MAX - 10)..=u64::MAX]
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(rows in prop::collection::vec(row(), 0..120)) {
            let mut set = RowSet::new();
            let mut oracle = BTreeSet::new();
            for row in rows {
                prop_assert_eq!(set.insert(row), oracle.insert(row));
                prop_assert_eq!(set.len(), oracle.len() as u64);
            }
            let asked = (0..70).chain(u64::MAX - 12..=u64::MAX);
            let mut cursor = set.cursor();
            for row in asked {
                prop_assert_eq!(set.contains(row), oracle.contains(&row), "row {}", row);
                prop_assert_eq!(cursor.contains(row), oracle.contains(&row), "cursor at row {}", row);
            }
            prop_assert_eq!(set.lowest_missing(), (0..).find(|row| !oracle.contains(row)).unwrap());
            prop_assert_eq!(set.highest(), oracle.last().copied());
            // As few ranges as there are runs: a row begins a run when its predecessor is missing.
            let runs = oracle.iter().filter(|&&row| row == 0 || !oracle.contains(&(row - 1))).count();
            prop_assert_eq!(set.ranges(), runs);
        }
    }
}
