//! Multipart uploads in progress.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::bucket::{BucketStore, Draft};
use super::layout::random_id;
use super::{PendingData, StoreError, lock, read, write};
use crate::local_s3::model::{Content, Part, Upload, Version};

/// The uploads of one bucket by key and initiation, the order in which S3 lists them.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    by_place: RwLock<BTreeMap<(String, u64), Arc<UploadState>>>,
}

/// One upload and its parts.
#[derive(Debug)]
pub struct UploadState {
    /// What was said when it was initiated.
    pub upload: Upload,
    /// `None` once it was completed or aborted.
    parts: Mutex<Option<BTreeMap<u32, Part>>>,
    next_segment: AtomicU32,
}

impl UploadState {
    pub(super) fn new(upload: Upload, parts: BTreeMap<u32, Part>) -> Self {
        let last = parts
            .values()
            .map(|part| part.segment.number)
            .max()
            .unwrap_or(0);
        Self {
            upload,
            parts: Mutex::new(Some(parts)),
            next_segment: AtomicU32::new(last + 1),
        }
    }

    /// The parts by number; empty once the upload is over.
    pub fn parts(&self) -> BTreeMap<u32, Part> {
        lock(&self.parts).clone().unwrap_or_default()
    }
}

impl Uploads {
    pub(super) fn insert(&self, state: UploadState) {
        let place = (state.upload.key.clone(), state.upload.sequence);
        write(&self.by_place).insert(place, Arc::new(state));
    }

    fn remove(&self, upload: &Upload) {
        write(&self.by_place).remove(&(upload.key.clone(), upload.sequence));
    }
}

impl BucketStore {
    /// A new upload id.
    pub fn new_upload_id(&self) -> String {
        random_id()
    }

    /// Remembers an upload that was just initiated.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn create_upload(&self, upload: Upload) -> Result<(), StoreError> {
        let _open = self.open()?;
        let dir = self.dir.upload(&upload.upload_id);
        fs::create_dir(&dir).map_err(StoreError::io(&dir))?;
        super::layout::sync_parent(&dir)?;
        self.dir
            .write(&self.dir.upload_description(&upload.upload_id), &upload)?;
        self.uploads
            .insert(UploadState::new(upload, BTreeMap::new()));
        Ok(())
    }

    /// The uploads in progress by key, and those of a key in the order of their initiation.
    pub fn uploads(&self) -> Vec<Arc<UploadState>> {
        read(&self.uploads.by_place).values().cloned().collect()
    }

    /// One upload in progress.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`], also when it is another key's.
    pub fn upload(&self, key: &str, upload_id: &str) -> Result<Arc<UploadState>, StoreError> {
        let uploads = read(&self.uploads.by_place);
        let mut of_key = uploads.range((key.to_owned(), 0)..=(key.to_owned(), u64::MAX));
        let found = of_key.find(|(_, state)| state.upload.upload_id == upload_id);
        found
            .map(|(_, state)| state.clone())
            .ok_or(StoreError::NoSuchUpload)
    }

    /// The version that an upload was completed into, as long as it is there.
    pub fn completed_upload(&self, key: &str, upload_id: &str) -> Option<Arc<Version>> {
        let keys = self.keys();
        let is_it = |version: &&Arc<Version>| {
            version
                .object()
                .is_some_and(|object| object.data.0 == upload_id)
        };
        keys.versions(key).iter().find(is_it).cloned()
    }

    /// Makes the file for a part of an upload.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create_part_data(&self, state: &UploadState) -> Result<(PendingData, File), StoreError> {
        let number = state.next_segment.fetch_add(1, Ordering::Relaxed);
        self.data.create(state.upload.data(), number)
    }

    /// Adds a part, in place of the one with the same number.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`] when it was completed or aborted meanwhile; [`StoreError::NoSuchBucket`]; when the file
    /// system refuses.
    pub fn put_part(
        &self,
        state: &UploadState,
        part: Part,
        pending: PendingData,
    ) -> Result<(), StoreError> {
        let _open = self.open()?;
        let mut parts = lock(&state.parts);
        let parts = parts.as_mut().ok_or(StoreError::NoSuchUpload)?;
        pending.sync()?;
        let path = self
            .dir
            .part_description(&state.upload.upload_id, part.number);
        pending.settle(self.dir.write(&path, &part))?;
        if let Some(replaced) = parts.insert(part.number, part) {
            self.data
                .discard(&state.upload.data(), [replaced.segment.number]);
        }
        Ok(())
    }

    /// Writes the object of an upload, when `assemble` makes one of the parts and `allowed` agrees to the newest
    /// version of the key. The upload is over then; parts that the object does not use are removed.
    ///
    /// # Errors
    /// What `assemble` and `allowed` say, and the upload goes on; [`StoreError::NoSuchUpload`];
    /// [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn complete_upload<E: From<StoreError>>(
        &self,
        state: &UploadState,
        assemble: impl FnOnce(&BTreeMap<u32, Part>) -> Result<Content, E>,
        allowed: impl FnOnce(Option<&Version>) -> Result<(), E>,
    ) -> Result<Arc<Version>, E> {
        let _open = self.open()?;
        let mut parts = lock(&state.parts);
        let uploaded = parts.as_ref().ok_or(StoreError::NoSuchUpload)?;
        let upload = &state.upload;
        let draft = Draft {
            content: assemble(uploaded)?,
            last_modified: Some(upload.initiated),
            sequence: Some(upload.sequence),
        };
        let version = self.put_opened(&upload.key, draft, None, allowed)?;
        let used = version
            .object()
            .map(|object| object.segments.as_slice())
            .unwrap_or_default();
        let unused = uploaded
            .values()
            .map(|part| part.segment)
            .filter(|segment| !used.contains(segment));
        self.data
            .discard(&upload.data(), unused.map(|segment| segment.number));
        *parts = None;
        self.forget_upload(upload)?;
        Ok(version)
    }

    /// Ends an upload without an object.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`]; [`StoreError::NoSuchBucket`]; when the file system refuses.
    pub fn abort_upload(&self, state: &UploadState) -> Result<(), StoreError> {
        let _open = self.open()?;
        let mut parts = lock(&state.parts);
        let uploaded = parts.as_ref().ok_or(StoreError::NoSuchUpload)?;
        let segments: Vec<u32> = uploaded.values().map(|part| part.segment.number).collect();
        self.forget_upload(&state.upload)?;
        *parts = None;
        self.data.discard(&state.upload.data(), segments);
        Ok(())
    }

    fn forget_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        self.dir.discard_dir(&self.dir.upload(&upload.upload_id))?;
        self.uploads.remove(upload);
        Ok(())
    }
}
