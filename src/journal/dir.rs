//! The state of a job in a directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    ///
    /// # Panics
    ///
    /// Where the job id is longer than [`JOB_ID_BYTES_MAX`](super::JOB_ID_BYTES_MAX).
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

/// How long ago the journal of a state was written to; `None` where there is none, or the system can't tell.
pub fn last_written(state: &Path) -> Option<Duration> {
    let modified = fs::metadata(state.join(JOURNAL)).and_then(|metadata| metadata.modified());
    modified.ok()?.elapsed().ok()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::journal::{Outcomes, Record};
    use crate::outcome::{SkipReason, TaskOutcome};

    fn settled(row: u64) -> Record {
        let outcome = TaskOutcome::Skipped(SkipReason::AlreadyEncrypted);
        Record::Settled { row, outcome }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_job_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        assert_eq!(replay_unlocked(&path).unwrap(), None);
        assert_eq!(read_job_unlocked::<String>(&path).unwrap(), None);
        for run in 0..3 {
            let state = StateDir::open(&path).unwrap();
            let before: Option<String> = state.read_job().unwrap();
            assert_eq!(before, (run > 0).then(|| format!("run {}", run - 1)));
            state.write_job(&format!("run {run}")).unwrap();
            let (replay, mut writer) = state.journal("j").unwrap();
            assert_eq!((replay.settled.len(), replay.frames), (run, run));
            writer.append(&settled(run));
            writer.close().unwrap();
        }
        assert_eq!(replay_unlocked(&path).unwrap().unwrap().settled.len(), 3);
        let mut outcomes = Outcomes::open(&path, "j").unwrap();
        assert!(outcomes.of(2).unwrap().is_some() && outcomes.of(3).unwrap().is_none());

        let made = [dir.path().join("a"), path.clone()];
        assert!(made.iter().all(|dir| mode(dir) == DIR_MODE));
        let mut names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        assert_eq!(names, [JOB, JOURNAL, LOCK].map(|name| path.join(name)));
        assert!(names.iter().all(|file| mode(file) == FILE_MODE));
    }

    #[test]
    fn one_runner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let is_busy =
            |result: Result<_, StateError>| matches!(result, Err(StateError::Busy { .. }));
        let opened = || StateDir::open(dir.path()).map(drop);
        let state = StateDir::open(dir.path()).unwrap();
        assert!(is_busy(opened()));
        let (_, writer) = state.journal("j").unwrap();
        assert!(is_busy(state.journal("j").map(drop)), "a second writer");
        drop(state);
        assert!(is_busy(opened()), "the writer still writes");
        writer.close().unwrap();
        opened().unwrap();
    }

    #[test]
    fn another_jobs_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.journal("j1").unwrap().1.close().unwrap();
        let errors = [
            state.journal("j2").map(drop).unwrap_err(),
            Outcomes::open(dir.path(), "j2").map(drop).unwrap_err(),
        ];
        for error in errors {
            let StateError::OtherJob { found, wanted, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((found.as_str(), wanted.as_str()), ("j1", "j2"));
            assert_eq!(error.exit().code(), 5);
        }
        assert_eq!(replay_unlocked(dir.path()).unwrap().unwrap().job_id, "j1");
    }

    #[test]
    fn a_job_document_is_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let job = vec!["line\nfeed".to_owned(), "\u{1F511}".to_owned()];
        state.write_job(&job).unwrap();
        let path = dir.path().join(JOB);
        let good = fs::read(&path).unwrap();
        let as_json: serde_json::Value = serde_json::from_slice(&good).unwrap();
        assert_eq!(as_json["job"][0], "line\nfeed");

        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let read = state.read_job::<Vec<String>>();
            matches!(read, Err(StateError::Damaged { .. }))
        };
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&bytes), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(refused(&good[..len]), "{len} bytes");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(state.read_job().unwrap(), Some(job));
        let other_fields = state.read_job::<u64>();
        assert!(matches!(other_fields, Err(StateError::Newer { .. })));
    }

    #[test]
    fn looking_at_a_torn_journal_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (_, mut writer) = state.journal("j").unwrap();
        writer.append(&settled(0));
        writer.close().unwrap();
        let path = dir.path().join(JOURNAL);
        let whole = fs::read(&path).unwrap();
        let torn = [&whole[..], &[1, 2, 3]].concat();
        fs::write(&path, &torn).unwrap();

        let replay = replay_unlocked(dir.path()).unwrap().unwrap();
        assert_eq!((replay.settled.len(), replay.torn_bytes), (1, 3));
        assert!(
            Outcomes::open(dir.path(), "j")
                .unwrap()
                .of(0)
                .unwrap()
                .is_some()
        );
        assert_eq!(fs::read(&path).unwrap(), torn);

        state.journal("j").unwrap().1.close().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
