//! The state of a job in a directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame;
use super::replay::{Replay, replay};
use super::storage::FileStorage;
use super::writer::Writer;
use super::{JOB_BYTES_MAX, StateError};

const LOCK: &str = "lock";
const JOB: &str = "job.json";
const JOURNAL: &str = "journal";

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The state directory of a job, held by this process alone for as long as this or a [`Writer`] of it lives.
pub struct StateDir {
    path: PathBuf,
    lock: Arc<File>,
}

impl StateDir {
    /// Takes the state, making the directory where there is none.
    ///
    /// # Errors
    ///
    /// [`StateError::Busy`] at once where another runner has it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        make_dir(path).map_err(|error| StateError::io("make", path.display(), error))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock_path)
            .map_err(|error| StateError::io("open", lock_path.display(), error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => busy(path),
            TryLockError::Error(error) => StateError::io("lock", lock_path.display(), error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            lock: Arc::new(lock),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The job document; `None` where none was written yet.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] where it is not what was written.
    pub fn read_job<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        read_job_unlocked(&self.path)
    }

    /// Writes the job document. It is durable when this returns; after an error the one before is still there.
    ///
    /// # Errors
    ///
    /// As the system has them.
    pub fn write_job<T: Serialize>(&self, job: &T) -> Result<(), StateError> {
        let path = self.path.join(JOB);
        let written = seal_document(job).and_then(|bytes| replace_file(&path, &bytes));
        written.map_err(|error| StateError::io("write", path.display(), error))
    }

    /// Reads the journal back, cuts off a torn tail and starts the thread that writes on. Where there is no journal yet, an
    /// empty one is made.
    ///
    /// # Errors
    ///
    /// [`StateError::OtherJob`] and [`StateError::Damaged`], and [`StateError::Busy`] while another [`Writer`] of this
    /// state lives.
    pub fn journal(&self, job_id: &str) -> Result<(Replay, Writer), StateError> {
        let lock = Arc::clone(&self.lock);
        if Arc::strong_count(&self.lock) > 2 {
            return Err(busy(&self.path));
        }
        let path = self.path.join(JOURNAL);
        let storage = match FileStorage::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace_file(&path, &frame::header(job_id)).and_then(|()| FileStorage::open(&path))
            }
            opened => opened,
        };
        let storage = storage.map_err(|error| StateError::io("open", path.display(), error))?;
        let (replay, frames) = replay(Box::new(storage))?;
        frames.check_job(job_id)?;
        let writer = Writer::start(frames, Some(lock))?;
        Ok((replay, writer))
    }
}

fn busy(path: &Path) -> StateError {
    StateError::Busy {
        place: path.display().to_string(),
    }
}

/// The job document of a state that another process may hold; `None` where there is none. Writes nothing.
///
/// # Errors
///
/// As [`StateDir::read_job`].
pub fn read_job_unlocked<T: DeserializeOwned>(state: &Path) -> Result<Option<T>, StateError> {
    let path = state.join(JOB);
    let mut bytes = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(JOB_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::io("read", path.display(), error)),
        Ok(_) => {}
    }
    let place = path.display().to_string();
    let document = open_document(&bytes)
        .ok_or_else(|| StateError::damaged(&place, 0, "its checksum is wrong or missing"))?;
    // The checksum says that it is what was written, so whoever wrote it had other fields.
    let job = serde_json::from_slice(document).map_err(|error| StateError::Newer {
        place,
        offset: (bytes.len() - document.len()) as u64,
        problem: error.to_string(),
    })?;
    Ok(Some(job))
}

/// What the journal of a state says that another process may be writing; `None` where there is none. Writes nothing, and
/// leaves a tail that is being written alone.
///
/// # Errors
///
/// [`StateError::Damaged`] where it is not what was written.
pub fn replay_unlocked(state: &Path) -> Result<Option<Replay>, StateError> {
    let path = state.join(JOURNAL);
    match FileStorage::open_read_only(&path) {
        Ok(storage) => Ok(Some(replay(Box::new(storage))?.0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::io("open", path.display(), error)),
    }
}

pub(super) fn open_journal_read_only(state: &Path) -> Result<FileStorage, StateError> {
    let path = state.join(JOURNAL);
    FileStorage::open_read_only(&path)
        .map_err(|error| StateError::io("open", path.display(), error))
}

const SEAL_BEFORE_CRC: &[u8] = b"{\"crc32\":\"";
const SEAL_AFTER_CRC: &[u8] = b"\",\"job\":";
const SEAL_END: &[u8] = b"}\n";

/// The document as JSON, wrapped into an object that has its CRC beside it. It is read back byte by byte, not as JSON, so
/// that no change of any byte goes unseen.
fn seal_document<T: Serialize>(job: &T) -> io::Result<Vec<u8>> {
    let document = serde_json::to_vec_pretty(job)?;
    let crc = format!("{:08x}", crc32fast::hash(&document));
    let parts = [
        SEAL_BEFORE_CRC,
        crc.as_bytes(),
        SEAL_AFTER_CRC,
        &document,
        SEAL_END,
    ];
    let sealed = parts.concat();
    if sealed.len() as u64 > JOB_BYTES_MAX {
        let problem = format!("{} bytes, more than {JOB_BYTES_MAX}", sealed.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(sealed)
}

fn open_document(sealed: &[u8]) -> Option<&[u8]> {
    let (crc, rest) = sealed
        .strip_prefix(SEAL_BEFORE_CRC)?
        .split_first_chunk::<8>()?;
    let document = rest.strip_prefix(SEAL_AFTER_CRC)?.strip_suffix(SEAL_END)?;
    (format!("{:08x}", crc32fast::hash(document)).as_bytes() == crc).then_some(document)
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

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}
