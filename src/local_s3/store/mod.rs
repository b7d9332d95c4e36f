//! The folder that the embedded S3 keeps its objects in, and the index over it.
//!
//! ```text
//! DIR/store.lock                               held while the store is open
//! DIR/tmp/…                                    files and folders that are not committed; emptied at start
//! DIR/buckets/NAME/bucket.json                 the bucket's configuration
//! DIR/buckets/NAME/objects/HH/HASH.VERSION.json   one version of one key; HASH is SHA-256 of the key
//! DIR/buckets/NAME/data/HH/ID.N                segment N of an object's ciphertext; ID is random
//! DIR/buckets/NAME/uploads/ID/upload.json      a multipart upload
//! DIR/buckets/NAME/uploads/ID/part-N.json      a part of it; its ciphertext is in data/
//! ```
//!
//! **Commit.** Every change ends in one atomic step of the file system: the rename of a description
//! (`*.json`) that was written and synced under `tmp/`, or the removal of one. Ciphertext is written and
//! synced before, and what the change made superfluous is removed after. So after a crash a change is there
//! as a whole or not at all, and what is left over is ciphertext that no description names: it is removed at
//! start.
//!
//! **Keys** never become part of a path: their hash does, and the key is inside the description.
//!
//! **The index** holds every description in memory, by bucket and key in UTF-8 order; it is read from disk at
//! start. That costs about 1.5 KiB of memory per version and one small file to read per version at start:
//! fine for the hundred thousand objects of a laptop or a test, and not meant for more.
//!
//! **Concurrency.** One write at a time per key: the check of a condition and the commit that depends on it
//! happen under the key's lock. Readers take a [`DataPin`], and data that is replaced under them
//! is removed when the last of them is done.
//!
//! All of it blocks; callers in async code go through `spawn_blocking`.

mod bucket;
mod data;
mod index;
mod layout;
mod recovery;
#[cfg(test)]
pub(in crate::local_s3) mod tests;
mod uploads;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use bucket::{BucketStore, Deleted, Draft};
pub use data::{DataPin, PendingData};
pub use index::KeyIndex;
pub use uploads::UploadState;

use super::model::{Bucket, Moment};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such bucket (any more).
    #[error("bucket {0:?} does not exist")]
    NoSuchBucket(String),
    /// A bucket of that name is there already.
    #[error("bucket {0:?} exists already")]
    BucketExists(String),
    /// The bucket holds versions or uploads.
    #[error("bucket {0:?} is not empty")]
    BucketNotEmpty(String),
    /// The key has no such version.
    #[error("no such version of the key")]
    NoSuchVersion,
    /// The upload was completed or aborted, or never was.
    #[error("no such multipart upload")]
    NoSuchUpload,
    /// Another server has the folder open.
    #[error("{0} is in use by another server: stop it, or choose another folder")]
    InUse(PathBuf),
    /// A file of the store cannot be understood.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A change was made and its durability could not be: it may be gone after a power cut.
    #[error("{path} was changed, but the change may not survive a power cut: {source}")]
    InDoubt {
        /// What was changed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// All buckets of one folder.
#[derive(Debug)]
pub struct Store {
    root: layout::Root,
    buckets: RwLock<BTreeMap<String, Arc<BucketStore>>>,
    sequence: Arc<Sequence>,
    /// The folder is ours as long as this file is open.
    _lock: File,
}

impl Store {
    /// Opens the folder, makes it when it is not there, removes what a crash left over, reads the index.
    ///
    /// # Errors
    /// When another server has the folder open, when a description in it is damaged, and when the file system
    /// refuses.
    pub fn open(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let root = layout::Root::create(dir)?;
        let lock = root.lock()?;
        let sequence = Arc::new(Sequence::new());
        root.empty_tmp()?;
        let buckets = recovery::read_buckets(&root, &sequence)?;
        Ok(Arc::new(Self {
            root,
            buckets: RwLock::new(buckets),
            sequence,
            _lock: lock,
        }))
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`StoreError::BucketExists`], or when the file system refuses.
    pub fn create_bucket(&self, config: Bucket) -> Result<Arc<BucketStore>, StoreError> {
        let mut buckets = write(&self.buckets);
        if buckets.contains_key(&config.name) {
            return Err(StoreError::BucketExists(config.name));
        }
        let name = config.name.clone();
        let dir = self.root.create_bucket(&config)?;
        let bucket = Arc::new(BucketStore::empty(dir, config, self.sequence.clone()));
        buckets.insert(name, bucket.clone());
        Ok(bucket)
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBucket`], [`StoreError::BucketNotEmpty`] when it holds versions or delete markers, or when the file
    /// system refuses. Uploads in progress do not keep a bucket: they go with it.
    pub fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let mut buckets = write(&self.buckets);
        let bucket = buckets
            .get(name)
            .ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))?;
        bucket.close_if_empty(|dir| self.root.discard_dir(dir))?;
        buckets.remove(name);
        Ok(())
    }

    /// One bucket.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBucket`].
    pub fn bucket(&self, name: &str) -> Result<Arc<BucketStore>, StoreError> {
        read(&self.buckets)
            .get(name)
            .cloned()
            .ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))
    }

    /// All buckets by name.
    pub fn buckets(&self) -> Vec<Arc<BucketStore>> {
        read(&self.buckets).values().cloned().collect()
    }
}

/// Numbers the writes of a store. It starts at the clock's microseconds, and above every number that the
/// folder holds, so that it also rises across restarts and when the clock goes back.
#[derive(Debug)]
pub(super) struct Sequence(AtomicU64);

impl Sequence {
    fn new() -> Self {
        let micros = u64::try_from(Moment::now().unix_millis())
            .unwrap_or(0)
            .saturating_mul(1_000);
        Self(AtomicU64::new(micros))
    }

    /// A number above all before it.
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes sure that what comes next is above `seen`.
    fn observe(&self, seen: u64) {
        self.0.fetch_max(seen, Ordering::Relaxed);
    }
}

/// A poisoned lock is still good here: every critical section changes its data in one step at its end.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`].
fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`].
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
