//! One of the parts that a job is cut into, so that several processes share it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most shards of a job. Kubernetes' Indexed Jobs have up to 100,000 indexes; a report reads the journals of all of them at once.
pub const SHARDS_MAX: u32 = 1024;

/// A shard of a job, by its number. Which rows are its own follows from their keys alone: not from the manifest's files, their
/// number or their order. All rows of a key are one shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Its number, from 0 on.
    pub index: u32,
    /// How many there are: 1 to [`SHARDS_MAX`].
    pub count: u32,
}

impl Shard {
    /// The one shard of a job that is not cut.
    pub const ONLY: Self = Self { index: 0, count: 1 };

    /// All shards of a job.
    pub fn all(count: u32) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { index, count })
    }

    /// The shard that the rows of a key belong to. It is kept in states: the same key is always the same shard's.
    pub fn of_key(key: impl AsRef<[u8]>, count: u32) -> Self {
        let hash = u64::from(crc32fast::hash(key.as_ref()));
        // The high bits of the product: every shard gets as many of the 2³² hashes, but for one.
        let index = (hash * u64::from(count)) >> 32;
        Self {
            index: u32::try_from(index).expect("less than the count"),
            count,
        }
    }

    /// Whether the rows of a key are this shard's.
    pub fn owns(&self, key: impl AsRef<[u8]>) -> bool {
        self.count == 1 || Self::of_key(key, self.count) == *self
    }

    /// This shard's share of a number that is the whole job's: the shares of all shards add up to it.
    pub fn share_of(&self, whole: u64) -> u64 {
        let (index, count) = (u64::from(self.index), u64::from(self.count));
        whole / count + u64::from(index < whole % count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_has_one_shard_and_shares_add_up(key in "\\PC{0,20}", count in 1..=SHARDS_MAX, whole in any::<u32>()) {
            let owners = Shard::all(count).filter(|shard| shard.owns(&key)).count();
            prop_assert_eq!(owners, 1);
            let shares: Vec<u64> = Shard::all(count).map(|shard| shard.share_of(whole.into())).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), u64::from(whole));
            prop_assert!(shares[0] - shares[shares.len() - 1] <= 1);
        }
    }

    #[test]
    fn shards_are_about_equal_and_never_move() {
        let mut rows = [0_u32; 8];
        for i in 0..8_000 {
            rows[Shard::of_key(format!("logs/2026/{i:08}.gz"), 8).index as usize] += 1;
        }
        assert!(rows.iter().all(|n| (850..1_150).contains(n)), "{rows:?}");
        // States depend on these.
        let pinned = ["", "a", "photos/2026/01.jpg", "\u{1F511}"];
        assert_eq!(
            pinned.map(|key| Shard::of_key(key, 1_000).index),
            [0, 909, 706, 762]
        );
    }
}
