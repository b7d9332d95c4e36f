//! How far an inventory is: what it is of, made once, and a journal of its parts. The same command goes on with it; at the end it is gone.
//!
//! ```text
//! inventory.json   what is listed, how, and since when
//! journal          a line for each part that is where it belongs: CRC-32, a space, JSON
//! lock             held by the process that is at work
//! parts/           data files on their way
//! ```
//!
//! A line is synced before the next part is handed over, so a crash leaves one torn line at most, the last one: it is cut off, and what it
//! told of is listed again. Anything else that doesn't check is damage, and refused.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::covered::{Covered, Segment};
use super::row::Counts;
use crate::durable::sync_parent;
use crate::error::Error;
use crate::exit::Exit;

const HEAD: &str = "inventory.json";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const PARTS: &str = "parts";

/// The form of these files.
const VERSION: u32 = 1;

/// Bytes of a head or a journal that are read: a part's line has two keys for each range that was listed, a few hundred KiB at most.
const BYTES_MAX: u64 = 1 << 30;

/// What an inventory is of, by the flags that say so.
pub type Pinned = BTreeMap<String, String>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    id: String,
    began_ms: i64,
    folder_at: i64,
    pinned: Pinned,
}

/// A data file that is where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its name in the folder for data files.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its MD5, in lower-case hexadecimal.
    pub md5: String,
}

/// A part that is where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its data file; `None` where nothing was found.
    pub file: Option<KeptFile>,
    /// What its rows come to.
    pub counts: Counts,
    /// Everything between these is in it.
    pub segments: Vec<Segment>,
}

/// The state of an inventory.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Held as long as this is there.
    _lock: File,
    journal: File,
    head: Head,
    /// The parts, in the order in which they came.
    pub kept: Vec<Kept>,
    covered: Covered,
}

/// A folder that may hold a state, and is this process's.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    lock: File,
}

impl Claim {
    /// Takes a folder, which need not be there.
    ///
    /// # Errors
    /// Another process has it; it can't be made.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        let io = |error: io::Error| Error::io(format!("cannot use {}", folder.display()), &error);
        fs::create_dir_all(folder).map_err(io)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                Exit::State,
                format!(
                    "another process is at work with the state in {}",
                    folder.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// The state that is here, where there is one.
    ///
    /// # Errors
    /// It is of another inventory, or damaged.
    pub fn open(self, pinned: &Pinned) -> Result<Result<State, Self>, Error> {
        let path = self.folder.join(HEAD);
        let json = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(self)),
            read => {
                read.map_err(|error| Error::io(format!("cannot read {}", path.display()), &error))?
            }
        };
        let head: Head =
            serde_json::from_slice(&json).map_err(|error| damaged(&path, &error.to_string()))?;
        if head.version != VERSION {
            return Err(damaged(&path, "another version of reseal wrote it"));
        }
        check_pinned(&self.folder, &head.pinned, pinned)?;
        State::with(self, head).map(Ok)
    }

    /// Makes a state here. `folder_at` names the inventory's folder, in seconds since 1970.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create(
        self,
        id: String,
        began_ms: i64,
        folder_at: i64,
        pinned: Pinned,
    ) -> Result<State, Error> {
        let head = Head {
            version: VERSION,
            id,
            began_ms,
            folder_at,
            pinned,
        };
        let json = serde_json::to_vec_pretty(&head).expect("text and numbers only");
        let path = self.folder.join(HEAD);
        let io = |error: io::Error| Error::io(format!("cannot write {}", path.display()), &error);
        // What is left of an inventory that is complete counts no more.
        match fs::remove_file(self.folder.join(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let partial = path.with_extension("partial");
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            sync_parent(&path)
        });
        written.map_err(io)?;
        State::with(self, head)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Exit::State, format!("{} is damaged: {why}", path.display()))
        .hint("nothing was listed; remove the folder, or give another --state, to begin anew")
}

fn check_pinned(folder: &Path, was: &Pinned, is: &Pinned) -> Result<(), Error> {
    let names = was.keys().chain(is.keys());
    let differs = |name: &&String| was.get(*name) != is.get(*name);
    let Some(name) = names.into_iter().find(differs) else {
        return Ok(());
    };
    let shown = |pinned: &Pinned| {
        pinned
            .get(name)
            .map_or_else(|| "none".to_owned(), Clone::clone)
    };
    let message = format!(
        "the state in {} is of another inventory: {name} was {}, and is {}",
        folder.display(),
        shown(was),
        shown(is),
    );
    Err(Error::new(Exit::State, message)
        .hint("give another --state, or what it began with to go on; nothing was listed"))
}

impl State {
    fn with(claim: Claim, head: Head) -> Result<Self, Error> {
        let path = claim.folder.join(JOURNAL);
        let io = |error: io::Error| Error::io(format!("cannot open {}", path.display()), &error);
        let mut journal = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        if journal.metadata().map_err(io)?.len() > BYTES_MAX {
            return Err(damaged(&path, "it is larger than any of ours"));
        }
        let mut bytes = Vec::new();
        (&journal).read_to_end(&mut bytes).map_err(io)?;
        let (kept, whole) =
            lines(&bytes).map_err(|line| damaged(&path, &format!("line {line}")))?;
        journal.set_len(whole).map_err(io)?;
        journal.seek(SeekFrom::End(0)).map_err(io)?;
        journal
            .sync_all()
            .and_then(|()| sync_parent(&path))
            .map_err(io)?;
        let mut covered = Covered::default();
        for segment in kept.iter().flat_map(|kept| &kept.segments) {
            if !covered.add(segment.clone()) {
                return Err(damaged(&path, "a part is missing"));
            }
        }
        Ok(Self {
            folder: claim.folder,
            _lock: claim.lock,
            journal,
            head,
            kept,
            covered,
        })
    }

    /// The inventory's own id.
    pub fn id(&self) -> &str {
        &self.head.id
    }

    /// When it began, in milliseconds since 1970.
    pub fn began_ms(&self) -> i64 {
        self.head.began_ms
    }

    /// What its folder is named after, in seconds since 1970.
    pub fn folder_at(&self) -> i64 {
        self.head.folder_at
    }

    /// A folder of its own for data files on their way.
    pub fn parts(&self) -> PathBuf {
        self.folder.join(PARTS)
    }

    /// What is listed for good.
    pub fn covered(&self) -> &Covered {
        &self.covered
    }

    /// What the parts come to.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.kept.iter().for_each(|kept| counts.add(&kept.counts));
        counts
    }

    /// Remembers a part that is where it belongs. It is durable then.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&mut self, kept: Kept) -> Result<(), Error> {
        let line = line_of(&kept);
        let written = self
            .journal
            .write_all(&line)
            .and_then(|()| self.journal.sync_all());
        written.map_err(|error| {
            let path = self.folder.join(JOURNAL);
            Error::io(format!("cannot write {}", path.display()), &error)
        })?;
        for segment in &kept.segments {
            if !self.covered.add(segment.clone()) {
                return Err(Error::new(
                    Exit::Internal,
                    "a part has come before the one that it follows",
                ));
            }
        }
        self.kept.push(kept);
        Ok(())
    }

    /// Removes it: the inventory is complete. The head comes first, without which nothing counts.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(self) -> Result<(), Error> {
        let remove = || {
            fs::remove_file(self.folder.join(HEAD))?;
            sync_parent(&self.folder.join(HEAD))?;
            fs::remove_file(self.folder.join(JOURNAL))?;
            match fs::remove_dir_all(self.parts()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        let io = |error: io::Error| {
            Error::io(
                format!("cannot remove the state in {}", self.folder.display()),
                &error,
            )
        };
        remove().map_err(io)?;
        // Where somebody has other things there, or waits at the lock, it stays.
        if fs::remove_file(self.folder.join(LOCK)).is_ok() {
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(())
    }
}

fn line_of(kept: &Kept) -> Vec<u8> {
    let json = serde_json::to_string(kept).expect("text and numbers only");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// The lines of a journal, and how many bytes are whole ones.
///
/// # Errors
/// The number of a line that doesn't check, and is not the last.
fn lines(bytes: &[u8]) -> Result<(Vec<Kept>, u64), usize> {
    let mut kept = Vec::new();
    let mut whole = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match line_in(line) {
            Some(part) => kept.push(part),
            None if whole + line.len() == bytes.len() => break,
            None => return Err(number + 1),
        }
        whole += line.len();
    }
    Ok((kept, whole as u64))
}

fn line_in(line: &[u8]) -> Option<Kept> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (crc, json) = text.split_once(' ')?;
    let is_whole = u32::from_str_radix(crc, 16) == Ok(crc32fast::hash(json.as_bytes()));
    serde_json::from_str(json).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Place;

    fn part(name: &str, from: &str, to: Option<&str>) -> Kept {
        Kept {
            file: Some(KeptFile {
                name: name.to_owned(),
                bytes: 3,
                md5: "f1".to_owned(),
            }),
            counts: Counts {
                rows: 2,
                ..Counts::default()
            },
            segments: vec![Segment {
                from: Place::behind(from),
                to: to.map(Place::behind),
            }],
        }
    }

    fn pinned(source: &str) -> Pinned {
        [("source".to_owned(), source.to_owned())].into()
    }

    fn fresh(folder: &Path) -> State {
        let claim = Claim::take(folder).unwrap().open(&pinned("a")).unwrap();
        claim
            .expect_err("nothing is there")
            .create("id".to_owned(), 5, 60, pinned("a"))
            .unwrap()
    }

    fn again(folder: &Path, source: &str) -> Result<State, Error> {
        Claim::take(folder)?
            .open(&pinned(source))
            .map(|opened| opened.expect("a state"))
    }

    #[test]
    fn what_was_kept_is_there_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = fresh(folder.path());
        let parts = [part("1", "", Some("k")), part("2", "k", Some("m\n\u{e4}"))];
        for part in &parts {
            state.keep(part.clone()).unwrap();
        }
        let busy = again(folder.path(), "a").unwrap_err();
        assert_eq!(busy.exit, Exit::State);
        drop(state);
        let journal = folder.path().join(JOURNAL);
        let whole = fs::read(&journal).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in first..=whole.len() {
            fs::write(&journal, &whole[..length]).unwrap();
            let state = again(folder.path(), "a").unwrap();
            let expected = if length == whole.len() { 2 } else { 1 };
            assert_eq!(state.kept, parts[..expected]);
            assert_eq!(state.counts().rows, 2 * expected as u64);
            assert_eq!(
                (state.id(), state.began_ms(), state.folder_at()),
                ("id", 5, 60)
            );
            drop(state);
        }
        // It goes on behind what is whole.
        fs::write(&journal, &whole[..whole.len() - 1]).unwrap();
        let mut state = again(folder.path(), "a").unwrap();
        state.keep(part("3", "k", None)).unwrap();
        assert_eq!(state.covered().left(), []);
        drop(state);
        assert_eq!(again(folder.path(), "a").unwrap().kept.len(), 2);
    }

    #[test]
    fn damage_and_another_inventory_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = fresh(folder.path());
        state.keep(part("1", "", Some("k"))).unwrap();
        state.keep(part("2", "k", None)).unwrap();
        drop(state);
        let other = again(folder.path(), "b").unwrap_err();
        assert_eq!(other.exit, Exit::State);
        assert!(other.message.contains("source was a, and is b"), "{other}");
        let journal = folder.path().join(JOURNAL);
        let mut bytes = fs::read(&journal).unwrap();
        bytes[12] ^= 1;
        fs::write(&journal, bytes).unwrap();
        let damage = again(folder.path(), "a").unwrap_err();
        assert!(damage.message.contains("line 1"), "{damage}");
    }

    #[test]
    fn at_the_end_it_is_gone_and_another_may_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = fresh(&path);
        state.keep(part("1", "", None)).unwrap();
        state.remove().unwrap();
        assert!(!path.exists());
        assert_eq!(fresh(&path).kept, []);
    }
}
