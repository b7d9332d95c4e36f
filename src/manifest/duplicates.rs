//! Rows that name an object again, as far as there is memory to tell.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use serde::{Deserialize, Serialize};

use crate::object::ManifestEntry;

/// Rows that are held against each other: as many as a table of 2^20 places of nine bytes holds.
///
/// Rows are known by 64 bits. That two objects among so many share them comes about once in forty million manifests.
pub const COMPARED_MAX: u64 = (1 << 20) / 8 * 7;

/// How many rows name an object that a row before them names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Duplicates {
    /// Rows that were held against all before them: the first ones of the shard, at most [`COMPARED_MAX`].
    pub compared: u64,
    /// Those among them that are a second one.
    pub found: u64,
}

/// Finds them.
#[derive(Debug, Default)]
pub(super) struct Finder {
    seen: HashSet<u64>,
    random: RandomState,
    so_far: Duplicates,
}

impl Finder {
    pub(super) fn add(&mut self, entry: &ManifestEntry) {
        let Duplicates { compared, found } = &mut self.so_far;
        if self.seen.len() as u64 == COMPARED_MAX {
            return;
        }
        *compared += 1;
        let object = (entry.key.as_str(), entry.version_id.as_deref());
        *found += u64::from(!self.seen.insert(self.random.hash_one(object)));
    }

    pub(super) fn so_far(&self) -> Duplicates {
        self.so_far
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Known;

    fn entry(key: String, version_id: Option<&str>) -> ManifestEntry {
        ManifestEntry {
            row: 0,
            key,
            version_id: version_id.map(str::to_owned),
            known: Known::default(),
        }
    }

    #[test]
    fn a_second_row_is_found_and_what_was_not_compared_is_not_claimed() {
        let mut finder = Finder::default();
        for version in [None, Some("v1"), Some("v2"), Some("v1"), None, None] {
            finder.add(&entry("k".to_owned(), version));
        }
        let expected = Duplicates {
            compared: 6,
            found: 3,
        };
        assert_eq!(finder.so_far(), expected);
        for n in 0..COMPARED_MAX + 10 {
            finder.add(&entry(n.to_string(), None));
        }
        let Duplicates { compared, found } = finder.so_far();
        assert_eq!((compared - found, found), (COMPARED_MAX, 3));
        // Rows beyond are not looked at, though they are there twice.
        finder.add(&entry("k".to_owned(), None));
        assert_eq!(finder.so_far().found, 3);
    }
}
