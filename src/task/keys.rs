//! What tasks of the same key have to know of each other.
//!
//! A manifest of all versions has a row for each, and the key is restacked for one of them. The others wait, and then learn that it
//! is done: here where it was in this run and is remembered, otherwise by looking at the key.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::checkpoint::Checkpoint;

/// Most superseded versions, and most keys, that are remembered, in two generations: 16 bytes each. Whoever is not remembered is
/// recognised by looking.
const REMEMBERED_MAX: usize = 1 << 17;

/// What tasks of the same key know of each other.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Locks of the keys that somebody works at or waits for: at most one for each task in flight.
    locks: RefCell<HashMap<String, Arc<Mutex<()>>>>,
    /// Versions that a restack of this run has superseded.
    superseded: RefCell<Generations>,
    /// Keys whose restack was given up halfway in this run.
    lost: RefCell<Generations>,
    /// Stacks whose rewriting an earlier run has begun and perhaps not ended, oldest version first: those of the rows that were in
    /// flight.
    begun: Vec<Vec<String>>,
}

impl Keys {
    /// With what earlier runs have left word of.
    pub(super) fn after<'c>(checkpoints: impl IntoIterator<Item = &'c Checkpoint>) -> Self {
        let begun = checkpoints.into_iter().filter_map(|left| match left {
            Checkpoint::Restack { versions } => Some(versions.clone()),
            _ => None,
        });
        Self {
            begun: begun.collect(),
            ..Self::default()
        }
    }

    /// A place in the queue for a key.
    pub(super) fn queue(&self, key: &str) -> Place<'_> {
        let mut locks = self.locks.borrow_mut();
        let lock = Arc::clone(locks.entry(key.to_owned()).or_default());
        Place {
            keys: self,
            key: key.to_owned(),
            lock,
            guard: None,
        }
    }

    /// Remembers that a version has been superseded.
    pub(super) fn supersede(&self, key: &str, version_id: &str) {
        self.superseded.borrow_mut().insert(hash(key, version_id));
    }

    /// Whether a version was superseded in this run; `false` where it is not remembered.
    pub(super) fn is_superseded(&self, key: &str, version_id: &str) -> bool {
        self.superseded.borrow().contains(hash(key, version_id))
    }

    /// Remembers that a key's restack was given up halfway.
    pub(super) fn lose(&self, key: &str) {
        self.lost.borrow_mut().insert(hash(key, ""));
    }

    /// Whether a key's restack was given up halfway in this run.
    pub(super) fn is_lost(&self, key: &str) -> bool {
        self.lost.borrow().contains(hash(key, ""))
    }

    /// The stack among a key's versions, newest first, whose rewriting an earlier run has begun; the last one where there are several.
    ///
    /// Version ids tell which key it is. `null` is every key's: a stack is known by it only where the row itself has left word.
    pub(super) fn begun_among(
        &self,
        of_row: &[Checkpoint],
        listed: &[&str],
    ) -> Option<Vec<String>> {
        let of_row = of_row.iter().filter_map(|left| match left {
            Checkpoint::Restack { versions } => Some((versions, true)),
            _ => None,
        });
        let of_others = self.begun.iter().map(|versions| (versions, false));
        let newest_at = |(versions, is_own): &(&Vec<String>, bool)| {
            let is_there = |id: &str| versions.iter().any(|recorded| recorded == id);
            let tells = |id: &&str| is_there(id) && (*is_own || *id != crate::object::NULL_VERSION);
            listed.iter().find(|id| tells(id))?;
            listed.iter().position(|id| is_there(id))
        };
        let found = of_row
            .chain(of_others)
            .filter_map(|begun| Some((newest_at(&begun)?, begun.0)));
        found
            .min_by_key(|(at, _)| *at)
            .map(|(_, versions)| versions.clone())
    }
}

/// The right to be alone with a key, once it is that task's turn.
#[derive(Debug)]
pub(super) struct Place<'k> {
    keys: &'k Keys,
    key: String,
    lock: Arc<Mutex<()>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Place<'_> {
    /// Takes its turn where nobody else has it or waits for it; says whether it has it.
    pub(super) fn try_reached(&mut self) -> bool {
        self.guard = Arc::clone(&self.lock).try_lock_owned().ok();
        self.guard.is_some()
    }

    /// Waits for its turn.
    pub(super) async fn reached(&mut self) {
        self.guard = Some(Arc::clone(&self.lock).lock_owned().await);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.guard = None;
        // The map's, and this one's: nobody waits.
        if Arc::strong_count(&self.lock) <= 2 {
            self.keys.locks.borrow_mut().remove(&self.key);
        }
    }
}

/// Hashes, of which the older half is forgotten when there are too many.
#[derive(Debug, Default)]
struct Generations {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Generations {
    fn insert(&mut self, hash: u128) {
        if self.young.len() >= REMEMBERED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    fn contains(&self, hash: u128) -> bool {
        self.young.contains(&hash) || self.old.contains(&hash)
    }
}

/// Half of a SHA-256: that two of a manifest's versions share it needs not be thought of.
fn hash(key: &str, version_id: &str) -> u128 {
    let mut digest = Sha256::new();
    digest.update((key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(version_id);
    let digest: [u8; 32] = digest.finalize().into();
    digest
        .iter()
        .take(16)
        .fold(0, |hash, byte| hash << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let keys = Keys::default();
        let mut first = keys.queue("a");
        assert!(first.try_reached());
        let mut second = keys.queue("a");
        assert!(!second.try_reached());
        let mut other = keys.queue("b");
        other.reached().await;
        {
            let waits = second.reached();
            tokio::pin!(waits);
            assert!(futures::poll!(&mut waits).is_pending());
            drop(first);
            waits.await;
        }
        // Whoever gives up waiting leaves nothing either.
        let third = keys.queue("a");
        drop(second);
        assert_eq!(keys.locks.borrow().len(), 2);
        drop(third);
        drop(other);
        assert_eq!(keys.locks.borrow().len(), 0);
    }

    #[test]
    fn what_is_forgotten_is_the_oldest() {
        let keys = Keys::default();
        let id = |n: usize| n.to_string();
        for n in 0..=REMEMBERED_MAX {
            keys.supersede("key", &id(n));
        }
        assert!(!keys.is_superseded("key", &id(0)));
        assert!(keys.is_superseded("key", &id(REMEMBERED_MAX / 2)));
        assert!(keys.is_superseded("key", &id(REMEMBERED_MAX)));
        assert!(!keys.is_superseded("ke", &format!("y{REMEMBERED_MAX}")));
        let remembered = keys.superseded.borrow();
        assert!(remembered.young.len() + remembered.old.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn a_stack_is_found_by_its_ids_and_null_tells_nothing() {
        let restack = |ids: &[&str]| Checkpoint::Restack {
            versions: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let left = [
            restack(&["null"]),
            restack(&["v1", "v2"]),
            restack(&["v1", "v2", "v3"]),
        ];
        let keys = Keys::after(&left);
        let found = |of_row: &[Checkpoint], listed: &[&str]| {
            keys.begun_among(of_row, listed).unwrap_or_default()
        };
        assert_eq!(found(&[], &["x", "null"]), Vec::<String>::new());
        assert_eq!(found(&left[..1], &["x", "null"]), ["null"]);
        assert_eq!(found(&[], &["c", "v3", "v2", "v1"]), ["v1", "v2", "v3"]);
        assert_eq!(found(&[], &["c", "w", "v2", "v1"]).len(), 2);
    }
}
