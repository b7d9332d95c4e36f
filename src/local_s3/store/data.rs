//! The files of ciphertext: made before the description that names them, removed after it is gone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::layout::{make_parent, random_id, sync_parent};
use super::{StoreError, lock};
use crate::local_s3::model::{DataId, Segment};

/// The `data` folder of one bucket.
#[derive(Debug)]
pub(super) struct DataFiles {
    dir: PathBuf,
    /// Data that is being read, and which of its segments are to go afterwards.
    pinned: Mutex<HashMap<DataId, Pinned>>,
}

#[derive(Debug, Default)]
struct Pinned {
    readers: usize,
    doomed: Vec<u32>,
}

impl DataFiles {
    pub(super) fn new(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            dir,
            pinned: Mutex::default(),
        })
    }

    fn path(&self, data: &DataId, number: u32) -> PathBuf {
        self.dir
            .join(&data.0[..2])
            .join(format!("{}.{number}", data.0))
    }

    /// Keeps the segments of `data` readable until the pin is dropped.
    pub(super) fn pin(self: &Arc<Self>, data: &DataId) -> DataPin {
        lock(&self.pinned).entry(data.clone()).or_default().readers += 1;
        DataPin {
            files: self.clone(),
            data: data.clone(),
        }
    }

    /// Removes segments that no description names any more: now, or after their last reader.
    pub(super) fn discard(&self, data: &DataId, numbers: impl IntoIterator<Item = u32>) {
        let mut pinned = lock(&self.pinned);
        if let Some(pin) = pinned.get_mut(data) {
            pin.doomed.extend(numbers);
            return;
        }
        drop(pinned);
        self.remove(data, numbers);
    }

    fn unpin(&self, data: &DataId) {
        let mut pinned = lock(&self.pinned);
        let Some(pin) = pinned.get_mut(data) else {
            return;
        };
        pin.readers -= 1;
        if pin.readers > 0 {
            return;
        }
        let doomed = pinned
            .remove(data)
            .map(|pin| pin.doomed)
            .unwrap_or_default();
        drop(pinned);
        self.remove(data, doomed);
    }

    fn remove(&self, data: &DataId, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let path = self.path(data, number);
            if let Err(e) = fs::remove_file(&path) {
                // Nothing names it: it only costs space, and the next start removes it.
                tracing::warn!(path = %path.display(), error = %e, "leftover stays until the next start");
            }
        }
    }

    /// Makes the file of a new segment. Until [`PendingData::keep`] it is removed when it is dropped.
    pub(super) fn create(
        self: &Arc<Self>,
        data: DataId,
        number: u32,
    ) -> Result<(PendingData, File), StoreError> {
        let path = self.path(&data, number);
        let file = create_file(&path).map_err(StoreError::io(&path))?;
        Ok((
            PendingData {
                files: self.clone(),
                data,
                number,
                keep: false,
            },
            file,
        ))
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_parent(path)?;
            File::create_new(path)
        }
        other => other,
    }
}

impl DataId {
    /// A new name for the segments of an object.
    pub(super) fn random() -> Self {
        Self(random_id())
    }

    /// The data and the segment's number that a file name stands for, when the store gave that name.
    pub(super) fn of_file_name(name: &str) -> Option<(Self, u32)> {
        let (id, number) = name.split_once('.')?;
        Some((Self(id.to_owned()), number.parse().ok()?))
    }
}

/// Keeps the segments of one object readable, whatever happens to its key.
#[derive(Debug)]
pub struct DataPin {
    files: Arc<DataFiles>,
    data: DataId,
}

impl DataPin {
    /// Opens a segment.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(&self, segment: Segment) -> Result<File, StoreError> {
        let path = self.files.path(&self.data, segment.number);
        File::open(&path).map_err(StoreError::io(&path))
    }
}

impl Drop for DataPin {
    fn drop(&mut self) {
        self.files.unpin(&self.data);
    }
}

/// A segment that is being written and that no description names yet.
#[derive(Debug)]
#[must_use = "the segment is removed when this is dropped"]
pub struct PendingData {
    files: Arc<DataFiles>,
    data: DataId,
    number: u32,
    keep: bool,
}

impl PendingData {
    /// The name of the data that the segment belongs to.
    pub fn data(&self) -> &DataId {
        &self.data
    }

    /// The segment's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Makes the file's name durable; its bytes have been synced by whoever wrote them.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_parent(&self.files.path(&self.data, self.number))
    }

    /// Keeps the segment when a description names it now, or may do so.
    pub(super) fn settle<T>(mut self, committed: Result<T, StoreError>) -> Result<T, StoreError> {
        self.keep = matches!(committed, Ok(_) | Err(StoreError::InDoubt { .. }));
        committed
    }
}

impl Drop for PendingData {
    fn drop(&mut self) {
        if !self.keep {
            self.files.remove(&self.data, [self.number]);
        }
    }
}
