//! A state in a directory: documents put in place by a rename, and the journal in one file.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::frame::{self, Frames};
use super::storage::{FileStorage, Storage};
use super::store::{Batch, Hold, Log, Mark, Store};
use super::{COMMIT_INTERVAL, DOCUMENT_BYTES_MAX, StateError};
use crate::durable::sync_parent;

/// The file in a folder that its holder has locked.
pub(super) const LOCK: &str = "lock";
/// The file in a folder that has its batches.
const JOURNAL: &str = "journal";

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A state in a directory.
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// The state in a directory, which need not be there.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

#[async_trait]
impl Store for DirStore {
    fn place(&self, name: &str) -> String {
        let path = if name.is_empty() {
            self.root.clone()
        } else {
            self.path(name)
        };
        path.display().to_string()
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path(name);
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io("read", path.display(), error)),
            Ok(_) => Ok(Some(bytes)),
        }
    }

    async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        let path = self.path(name);
        replace_file(&path, &bytes).map_err(|error| StateError::io("write", path.display(), error))
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StateError> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        let lock = open_lock(folder)?;
        // Held for one look and one rename: whoever waits here waits for a disk.
        lock.lock()
            .map_err(|error| StateError::io("lock", folder.join(LOCK).display(), error))?;
        if path.exists() {
            return Ok(false);
        }
        replace_file(&path, &bytes)
            .map_err(|error| StateError::io("write", path.display(), error))?;
        Ok(true)
    }

    async fn hold(&self, folder: &str) -> Result<Hold, StateError> {
        let folder = self.path(folder);
        let lock = open_lock(&folder)?;
        match lock.try_lock() {
            Ok(()) => Ok(Arc::new(lock)),
            Err(TryLockError::WouldBlock) => Err(StateError::Busy {
                place: folder.display().to_string(),
            }),
            Err(TryLockError::Error(error)) => {
                let place = folder.join(LOCK);
                Err(StateError::io("lock", place.display(), error))
            }
        }
    }

    async fn log(&self, folder: &str, job_id: &str) -> Result<Box<dyn Log>, StateError> {
        let path = self.path(folder).join(JOURNAL);
        let storage = match FileStorage::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace_file(&path, &frame::header(job_id)).and_then(|()| FileStorage::open(&path))
            }
            opened => opened,
        };
        let storage = storage.map_err(|error| StateError::io("open", path.display(), error))?;
        Ok(Box::new(FileLog::open(Box::new(storage))?))
    }

    async fn peek(&self, folder: &str) -> Result<Option<Box<dyn Log>>, StateError> {
        let path = self.path(folder).join(JOURNAL);
        match FileStorage::open_read_only(&path) {
            Ok(storage) => Ok(Some(Box::new(FileLog::open(Box::new(storage))?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io("open", path.display(), error)),
        }
    }

    async fn file(&self, folder: &str, _scratch: &Path) -> Result<Option<PathBuf>, StateError> {
        let path = self.path(folder).join(JOURNAL);
        Ok(path.exists().then_some(path))
    }

    async fn last_written(&self, folder: &str) -> Result<Option<Duration>, StateError> {
        let path = self.path(folder).join(JOURNAL);
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        Ok(modified.ok().and_then(|time| time.elapsed().ok()))
    }
}

/// A journal in one file.
pub(super) struct FileLog {
    place: String,
    job_id: String,
    seed: u32,
    mark: Mark,
    torn_bytes: u64,
    file: Access,
}

/// Read first, then written. The disk is waited for on a thread of its own, which takes the storage with it.
enum Access {
    Reading(Frames),
    Writing(Box<dyn Storage>),
    /// A write has failed: nothing more is written.
    Gone,
}

impl FileLog {
    pub(super) fn open(storage: Box<dyn Storage>) -> Result<Self, StateError> {
        let place = storage.place().to_owned();
        let frames = Frames::open(storage)?;
        Ok(Self {
            place,
            job_id: frames.job_id().to_owned(),
            seed: frames.seed(),
            mark: mark_of(&frames),
            torn_bytes: 0,
            file: Access::Reading(frames),
        })
    }

    /// Lets the disk do something. After an error nothing more is: the kernel may have dropped the pages, and a second sync that
    /// succeeds would say nothing about them.
    async fn on_disk(
        &mut self,
        verbs: impl FnOnce(&mut dyn Storage) -> Result<(), (&'static str, io::Error)> + Send + 'static,
    ) -> Result<(), StateError> {
        let mut storage = match std::mem::replace(&mut self.file, Access::Gone) {
            Access::Reading(frames) => frames.into_storage(),
            Access::Writing(storage) => storage,
            Access::Gone => {
                return Err(self.failed("write", io::Error::other("an earlier write failed")));
            }
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = verbs(storage.as_mut());
            (storage, done)
        });
        let (storage, done) = done
            .await
            .map_err(|error| self.failed("write", io::Error::other(error)))?;
        done.map_err(|(action, error)| self.failed(action, error))?;
        self.file = Access::Writing(storage);
        Ok(())
    }

    fn failed(&self, action: &'static str, error: io::Error) -> StateError {
        StateError::io(action, &self.place, error)
    }
}

fn mark_of(frames: &Frames) -> Mark {
    Mark {
        batches: frames.count(),
        bytes: frames.offset(),
    }
}

#[async_trait]
impl Log for FileLog {
    fn place(&self) -> &str {
        &self.place
    }

    fn job_id(&self) -> &str {
        &self.job_id
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn commit_interval(&self) -> Duration {
        COMMIT_INTERVAL
    }

    async fn skip_to(&mut self, mark: Mark) -> Result<(), StateError> {
        if let Access::Reading(frames) = &mut self.file {
            frames.skip_to(mark)?;
            self.mark = mark;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>, StateError> {
        let Access::Reading(frames) = &mut self.file else {
            return Ok(None);
        };
        let batch = frames.next()?.map(|frame| Batch {
            number: 0,
            payload_at: frame.payload_at,
            payload: frame.payload.to_vec(),
        });
        self.mark = mark_of(frames);
        self.torn_bytes = frames.rest();
        Ok(batch.map(|batch| Batch {
            number: self.mark.batches,
            ..batch
        }))
    }

    fn mark(&self) -> Mark {
        self.mark
    }

    fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Syncs even where no tail is torn: what a killed process wrote can be read, and need not be durable yet.
    async fn recover(&mut self) -> Result<(), StateError> {
        let torn_from = (self.torn_bytes > 0).then_some(self.mark.bytes);
        self.on_disk(move |storage| {
            let cut = torn_from.map_or(Ok(()), |end| storage.truncate(end));
            let done = cut.and_then(|()| storage.sync());
            done.map_err(|error| ("recover", error))
        })
        .await
    }

    async fn append(&mut self, payload: Vec<u8>) -> Result<bool, StateError> {
        let frame = frame::frame(self.seed, self.mark.batches + 1, &payload);
        let len = frame.len() as u64;
        self.on_disk(move |storage| {
            storage.append(&frame).map_err(|error| ("write", error))?;
            storage.sync().map_err(|error| ("sync", error))
        })
        .await?;
        self.mark.batches += 1;
        self.mark.bytes += len;
        Ok(true)
    }
}

/// Opens the lock of a folder, making both where they are missing.
fn open_lock(folder: &Path) -> Result<File, StateError> {
    make_dir(folder).map_err(|error| StateError::io("make", folder.display(), error))?;
    let path = folder.join(LOCK);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(|error| StateError::io("open", path.display(), error))
}

/// Makes a directory and those above it, and makes their names durable: a journal is lost with the entry that leads to it.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir())
        .collect();
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Puts a file in place as a whole: after a crash there is the old one or the new one, never a part.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&temporary)?;
    file.write_all(bytes)?;
    // Before the rename, or a crash could leave the new name on an empty file.
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}
