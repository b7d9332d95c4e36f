//! One bucket: its configuration, its keys, and the commits that change them.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::data::DataFiles;
use super::index::KeyIndex;
use super::layout::{BucketDir, random_id};
use super::uploads::Uploads;
use super::{DataPin, PendingData, Sequence, StoreError, lock, read, write};
use crate::local_s3::model::{
    Bucket, Content, DataId, Moment, Object, Version, VersionId, Versioning,
};

/// How many locks the keys of a bucket share. Two writers meet only when they write the same key, or with a
/// chance of one in so many.
const KEY_LOCKS: usize = 256;

/// One bucket of a store.
#[derive(Debug)]
pub struct BucketStore {
    pub(super) dir: BucketDir,
    /// Held for reading by every change to the bucket, for writing by its removal; `true` once it is gone.
    removed: RwLock<bool>,
    config: RwLock<Arc<Bucket>>,
    config_change: Mutex<()>,
    keys: RwLock<KeyIndex>,
    key_locks: Box<[Mutex<()>]>,
    key_hash: RandomState,
    pub(super) uploads: Uploads,
    pub(super) data: Arc<DataFiles>,
    sequence: Arc<Sequence>,
}

/// A version that is about to be written.
#[derive(Debug)]
pub struct Draft {
    /// What it will be.
    pub content: Content,
    /// When it says it was written; `None` is now.
    pub last_modified: Option<Moment>,
    /// Its place among the versions when it is not the newest: a multipart upload has that of its initiation.
    /// It counts in a bucket with versioning enabled; elsewhere the write replaces what is there.
    pub sequence: Option<u64>,
}

/// What a DELETE without a version id did.
#[derive(Debug)]
pub enum Deleted {
    /// The null version was removed, or there was nothing to remove.
    Removed,
    /// A delete marker was written.
    Marker(Arc<Version>),
}

impl BucketStore {
    pub(super) fn empty(dir: BucketDir, config: Bucket, sequence: Arc<Sequence>) -> Self {
        Self::with(
            dir,
            config,
            KeyIndex::default(),
            Uploads::default(),
            sequence,
        )
    }

    pub(super) fn with(
        dir: BucketDir,
        config: Bucket,
        keys: KeyIndex,
        uploads: Uploads,
        sequence: Arc<Sequence>,
    ) -> Self {
        let data = DataFiles::new(dir.data());
        Self {
            dir,
            removed: RwLock::new(false),
            config: RwLock::new(Arc::new(config)),
            config_change: Mutex::new(()),
            keys: RwLock::new(keys),
            key_locks: (0..KEY_LOCKS).map(|_| Mutex::new(())).collect(),
            key_hash: RandomState::new(),
            uploads,
            data,
            sequence,
        }
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Bucket> {
        read(&self.config).clone()
    }

    /// Changes the configuration and makes the change durable, unless `change` refuses.
    ///
    /// # Errors
    /// What `change` says; [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn update_config<E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Bucket) -> Result<(), E>,
    ) -> Result<Arc<Bucket>, E> {
        let _open = self.open()?;
        let _one_at_a_time = lock(&self.config_change);
        let mut config = Bucket::clone(&self.config());
        change(&mut config)?;
        self.dir.write(&self.dir.config(), &config)?;
        let config = Arc::new(config);
        *write(&self.config) = config.clone();
        Ok(config)
    }

    /// The index, for listings. Writers wait as long as the guard lives: keep it short.
    pub fn keys(&self) -> RwLockReadGuard<'_, KeyIndex> {
        read(&self.keys)
    }

    /// The newest version of a key, which may be a delete marker.
    pub fn current(&self, key: &str) -> Option<Arc<Version>> {
        self.keys().current(key).cloned()
    }

    /// A version by its id, or the newest one.
    ///
    /// The version is given with a pin, so that its bytes can be read whatever happens to the key; a delete marker
    /// has none.
    pub fn look_up(
        &self,
        key: &str,
        version_id: Option<&VersionId>,
    ) -> Option<(Arc<Version>, Option<DataPin>)> {
        let keys = self.keys();
        let version = match version_id {
            Some(version_id) => keys.version(key, version_id),
            None => keys.current(key),
        }?;
        // Under the index's lock: data is discarded only after its version has left the index.
        let pin = version.object().map(|object| self.data.pin(&object.data));
        Some((version.clone(), pin))
    }

    /// Makes the file for the first segment of a new object.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create_data(&self) -> Result<(PendingData, File), StoreError> {
        self.data.create(DataId::random(), FIRST_SEGMENT)
    }

    /// Writes a version of `key`, when `allowed` agrees to what is there: the newest version, which
    /// cannot change until the write is done. `pending` is the draft's data, unless it is there already.
    ///
    /// # Errors
    /// What `allowed` says; [`StoreError::NoSuchBucket`]; when the file system refuses. Nothing has changed then and
    /// the pending data is gone, unless the error is [`StoreError::InDoubt`].
    pub fn put<E: From<StoreError>>(
        &self,
        key: &str,
        draft: Draft,
        pending: Option<PendingData>,
        allowed: impl FnOnce(Option<&Version>) -> Result<(), E>,
    ) -> Result<Arc<Version>, E> {
        let _open = self.open()?;
        self.put_opened(key, draft, pending, allowed)
    }

    /// As [`BucketStore::put`], for who holds the bucket open already: to take that lock twice could wait for ever.
    pub(super) fn put_opened<E: From<StoreError>>(
        &self,
        key: &str,
        draft: Draft,
        pending: Option<PendingData>,
        allowed: impl FnOnce(Option<&Version>) -> Result<(), E>,
    ) -> Result<Arc<Version>, E> {
        let _key = self.lock_key(key);
        allowed(self.current(key).as_deref())?;
        let Some(pending) = pending else {
            return Ok(self.commit(key, draft)?);
        };
        pending.sync()?;
        let committed = self.commit(key, draft);
        Ok(pending.settle(committed)?)
    }

    /// Changes what can be changed in place: tags, ACL, lock, envelope. Without a version id it is the
    /// newest version.
    ///
    /// # Errors
    /// What `change` says; [`StoreError::NoSuchVersion`]; [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn update<E: From<StoreError>>(
        &self,
        key: &str,
        version_id: Option<&VersionId>,
        change: impl FnOnce(&mut Version) -> Result<(), E>,
    ) -> Result<Arc<Version>, E> {
        let _open = self.open()?;
        let _key = self.lock_key(key);
        let (found, _pin) = self
            .look_up(key, version_id)
            .ok_or(StoreError::NoSuchVersion)?;
        let mut version = Version::clone(&found);
        change(&mut version)?;
        self.dir
            .write(&self.dir.version(key, &version.version_id), &version)?;
        let version = Arc::new(version);
        write(&self.keys).insert(version.clone());
        Ok(version)
    }

    /// Does what a DELETE without a version id does in the bucket's versioning state, when `allowed` agrees to
    /// the newest version.
    ///
    /// # Errors
    /// What `allowed` says; [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn delete<E: From<StoreError>>(
        &self,
        key: &str,
        allowed: impl FnOnce(Option<&Version>) -> Result<(), E>,
    ) -> Result<Deleted, E> {
        let _open = self.open()?;
        let _key = self.lock_key(key);
        allowed(self.current(key).as_deref())?;
        if self.config().versioning == Versioning::Unversioned {
            self.remove(key, &VersionId::Null)?;
            return Ok(Deleted::Removed);
        }
        let draft = Draft {
            content: Content::DeleteMarker,
            last_modified: None,
            sequence: None,
        };
        Ok(Deleted::Marker(self.commit(key, draft)?))
    }

    /// Removes one version for good, when `allowed` agrees to it; gives back what was removed.
    ///
    /// # Errors
    /// What `allowed` says; [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn delete_version<E: From<StoreError>>(
        &self,
        key: &str,
        version_id: &VersionId,
        allowed: impl FnOnce(&Version) -> Result<(), E>,
    ) -> Result<Option<Arc<Version>>, E> {
        let _open = self.open()?;
        let _key = self.lock_key(key);
        if let Some((version, _pin)) = self.look_up(key, Some(version_id)) {
            allowed(&version)?;
        }
        Ok(self.remove(key, version_id)?)
    }

    /// A sequence number for something that takes its place among the versions now.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.next()
    }

    /// Closes the bucket for changes for good when there is nothing in it, and lets `discard` take its folder.
    pub(super) fn close_if_empty(
        &self,
        discard: impl FnOnce(&std::path::Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut removed = write(&self.removed);
        if !self.keys().is_empty() {
            return Err(StoreError::BucketNotEmpty(self.config().name.clone()));
        }
        discard(self.dir.path())?;
        *removed = true;
        Ok(())
    }

    /// Keeps the bucket from being removed while the guard lives.
    pub(super) fn open(&self) -> Result<RwLockReadGuard<'_, bool>, StoreError> {
        let removed = read(&self.removed);
        if *removed {
            Err(StoreError::NoSuchBucket(self.config().name.clone()))
        } else {
            Ok(removed)
        }
    }

    fn lock_key(&self, key: &str) -> MutexGuard<'_, ()> {
        let place = self.key_hash.hash_one(key) % KEY_LOCKS as u64;
        lock(&self.key_locks[usize::try_from(place).expect("it is less than KEY_LOCKS")])
    }

    /// Writes a version under the key's lock and discards what it replaces.
    fn commit(&self, key: &str, draft: Draft) -> Result<Arc<Version>, StoreError> {
        let enabled = self.config().versioning == Versioning::Enabled;
        let written = self.sequence.next();
        let version = Arc::new(Version {
            key: key.to_owned(),
            version_id: if enabled {
                VersionId::Id(random_id())
            } else {
                VersionId::Null
            },
            sequence: draft.sequence.filter(|_| enabled).unwrap_or(written),
            written,
            last_modified: draft.last_modified.unwrap_or_else(Moment::now),
            content: draft.content,
        });
        self.dir
            .write(&self.dir.version(key, &version.version_id), &*version)?;
        let replaced = write(&self.keys).insert(version.clone());
        self.discard_data(replaced.as_deref());
        Ok(version)
    }

    fn remove(
        &self,
        key: &str,
        version_id: &VersionId,
    ) -> Result<Option<Arc<Version>>, StoreError> {
        if self.keys().version(key, version_id).is_none() {
            return Ok(None);
        }
        self.dir.remove(&self.dir.version(key, version_id))?;
        let removed = write(&self.keys).remove(key, version_id);
        self.discard_data(removed.as_deref());
        Ok(removed)
    }

    fn discard_data(&self, gone: Option<&Version>) {
        if let Some(Object { data, segments, .. }) = gone.and_then(Version::object) {
            self.data
                .discard(data, segments.iter().map(|segment| segment.number));
        }
    }
}

/// The number of the only segment of an object that was written at once.
const FIRST_SEGMENT: u32 = 1;
