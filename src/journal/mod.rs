//! The journal: the durable state of a job.
//!
//! A job's only state is what is written here. Resume is "replay the journal, subtract it from the manifest"; the report
//! and the counters are folds over it. So the room makes one promise: whatever a crash, a full disk or a bad sector left
//! behind, a replay gives *the fold of a prefix of what was appended, with everything in it that was ever reported durable*,
//! or it is refused. Bytes lost behind our back from the very end (someone truncated the file) can't be told from a torn
//! write: then it is a shorter prefix, and the rows of the dropped frames are simply looked at again.
//!
//! # The state
//!
//! A state is kept in a directory or under a prefix in S3 (the trait `Store`); names are the same in both. A job is cut into shards, of
//! which there may be one.
//!
//! | name                 | what                                                                                       |
//! |----------------------|--------------------------------------------------------------------------------------------|
//! | `job.json`           | what the job is; made once, with a CRC                                                       |
//! | `shard-0/shard.json` | what the shard knows of its rows and its store; replaced as a whole, with a CRC              |
//! | `shard-0/journal`    | the records, append-only: a file, or in S3 an object for each batch                          |
//! | `shard-0/snapshot`   | the fold of the journal up to some batch, so that reading it back does not begin at the first |
//! | `shard-0/manifest/`  | the caller's: what preparing the manifest left                                               |
//! | `lock`, `shard-0/lock` | a directory's: held with `flock` by the one runner; it vanishes with the process            |
//!
//! Directories are made 0700 and files 0600: object keys and error messages are nobody else's business.
//!
//! # One runner
//!
//! Batches are numbered, and a number is given once: in a directory because a lock keeps others out, in S3 because each batch is made
//! with "only if there is none". Whoever takes a state over reads it to its end and then appends an epoch of its own. The runner
//! before it, if it still lives, loses the race for its next number and stops ([`StateError::Replaced`]); and as a runner changes an
//! object only after a proof of leadership that is a few seconds old at most ([`Leader::confirm`]), one that was stopped in
//! between finds out before it does harm. What it had on the wire is conditional and so harmless.
//!
//! # The journal's bytes
//!
//! All integers are little-endian.
//!
//! ```text
//! header   magic "RESEALJ\0" · format version u16 · length of the job id u16 · job id · CRC-32 of all before
//! frame    payload length u32 · batch number u64, from 1 · CRC-32 · payload
//! payload  records, one after the other (the layout is in `record`)
//! ```
//!
//! In S3, number 0 is the header and number n the frame n, each an object: in their order they are the file.
//!
//! A frame's CRC runs over the header's CRC, the length, the number and the payload: a frame of another job's journal that
//! a file system left in a recycled block never counts. The header is put in place by a rename, so it is whole or absent.
//!
//! A frame is written and synced before the next one is begun. A crash therefore leaves at most one frame that is not
//! whole, and it is the last. Which gives the rule for what follows the last good frame:
//!
//! - nothing: the end;
//! - at most [`FRAME_BYTES_MAX`] bytes without a valid frame in them: a torn tail, cut off before anything is appended;
//! - more, or a valid frame further on, or a valid frame with the wrong number: damage, refused.
//!
//! # What we assume of the disk
//!
//! What was synced stays, unless the medium fails; bytes that were not synced may be there, not be there, or be anything. After
//! a failed write or sync nothing more is written (fail-stop): the kernel may have dropped the dirty pages, and a second
//! sync that succeeds would say nothing about them. A runner that opens a journal syncs it before it trusts it: what a
//! killed process wrote and did not sync is readable, but not yet durable.
//!
//! # Seam
//!
//! Batches and documents go through the traits `Log` and `Store`: a directory, a prefix in S3, and in tests a memory that fails when it
//! is told to. Below them, a directory's bytes go through the trait `Storage`: a file, and in tests one that loses what was not
//! synced. Everything above the frames (records, fold, row sets) knows nothing of either.

use std::io;
use std::sync::Arc;

use crate::exit::Exit;
use crate::retry::{self, Verdict};
use crate::s3::TOO_LARGE;
use crate::s3_error::S3Error;

mod dir;
mod document;
mod frame;
#[cfg(test)]
pub(crate) mod memory;
mod outcomes;
mod record;
mod replay;
mod rows;
mod s3;
mod snapshot;
mod state;
mod storage;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use outcomes::{Outcomes, Rewrites};
pub use record::{ARN_BYTES_MAX, CODE_BYTES_MAX, MESSAGE_BYTES_MAX, Record};
pub use replay::Replay;
pub use rows::{Cursor, RowSet};
pub use s3::S3Store;
pub use state::{ShardState, StateRoot};
#[cfg(test)]
pub(crate) use store::{Batch, Hold, Log, Mark, Store};
pub use writer::{LEADER_PROOF_AGE_MAX, Leader, Progress, Writer};

/// The largest frame, header included, in bytes: it bounds what a replay holds in memory and how far a torn tail reaches.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// A batch that has grown to this many bytes is written at once, and the next record begins a new one.
pub const COMMIT_BYTES: usize = 128 * 1024;

/// How long the writer collects records, from the first one on, before it writes and syncs them as one frame. It is
/// also what a crash costs at most: the rows of the last 50 ms are looked at again. For a directory; in S3 it is longer.
pub const COMMIT_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Most records that may wait to become durable. [`Writer::append`] never blocks: whoever appends stops admitting
/// rows while [`Writer::pending`] is not below this.
pub const PENDING_RECORDS_MAX: u64 = 65_536;

/// How far above the lowest unsettled row a row may be admitted. It bounds the gaps of a [`RowSet`] and what
/// [`Outcomes`] holds back while it waits for a row that settled late (16 bytes for each: 4 MiB).
pub const WINDOW_ROWS_MAX: u64 = 262_144;

/// The longest job id, in bytes.
pub const JOB_ID_BYTES_MAX: usize = 256;

/// The largest document, in bytes. A shard of an inventory of 100,000 data files with their digests is 20 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the state can't be used. Every one stops the job, and says nothing of what was done before.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process holds the state.
    #[error(
        "the state {place} is in use by another runner; wait for it to end or stop it, or give this job a state of its own"
    )]
    Busy {
        /// The state.
        place: String,
    },
    /// The journal is another job's.
    #[error(
        "{place} belongs to job {found}, this is job {wanted}; what decides an outcome (manifest, target, endpoint) must stay \
         as it was, or the job needs a state of its own"
    )]
    OtherJob {
        /// The journal.
        place: String,
        /// The job id in it.
        found: String,
        /// The job id that was asked for.
        wanted: String,
    },
    /// What is there is not what was written.
    #[error("{place} is damaged at byte {offset}: {problem}")]
    Damaged {
        /// The file.
        place: String,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A newer reseal wrote it.
    #[error(
        "{place} was written by a newer version of reseal (byte {offset}: {problem}); continue with that version"
    )]
    Newer {
        /// The file.
        place: String,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What this version does not know.
        problem: String,
    },
    /// The disk under the state is full.
    #[error(
        "the disk under the state is full: cannot {action} {place}: {source}; what was reported as done is kept. Make room, \
         then the same command continues"
    )]
    Full {
        /// What was tried.
        action: &'static str,
        /// The file.
        place: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {place}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        place: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Somebody else appends to the journal now.
    #[error(
        "another runner has taken over the state {place}; this one has stopped and changes nothing more"
    )]
    Replaced {
        /// The journal.
        place: String,
    },
    /// The store did not do what it was asked, or did not answer.
    #[error("cannot {action} {place}: {source}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// The object.
        place: String,
        /// The store's answer.
        source: Arc<S3Error>,
    },
    /// The writer of this process has ended.
    #[error("the journal is closed")]
    Closed,
    /// The store makes an object though there is one.
    #[error(
        "{place} can't keep a state: the store does not refuse to make an object a second time (PutObject with If-None-Match: *), so \
         that two runners of one job would not notice each other. Keep the state in a directory instead (--state DIR)"
    )]
    NoConditionalCreate {
        /// The state.
        place: String,
    },
}

/// Whether time may mend it: the store did not answer, is in trouble or asks for less, or credentials have to be renewed.
fn is_passing(error: &S3Error) -> bool {
    if error.code == TOO_LARGE {
        return false;
    }
    match retry::judge_look(error).without_waiting(error) {
        Verdict::Again { .. } => true,
        Verdict::FailJob => matches!(error.code.as_str(), "ExpiredToken" | "TokenRefreshRequired"),
        _ => matches!(
            error.code.as_str(),
            "ConditionalRequestConflict" | "OperationAborted"
        ),
    }
}

/// What to do about a store's answer.
fn advice(error: &S3Error) -> &'static str {
    if is_passing(error) {
        "the same command continues when the store does what it is asked again"
    } else {
        "check that the bucket is there and the credentials, which need s3:GetObject, s3:PutObject and s3:ListBucket"
    }
}

/// What trying again does not help.
fn is_refused(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
    )
}

impl StateError {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Busy { .. }
            | Self::OtherJob { .. }
            | Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Replaced { .. } => Exit::State,
            Self::NoConditionalCreate { .. } => Exit::Usage,
            Self::Io { source, .. } if is_refused(source.kind()) => Exit::Usage,
            Self::Store { source, .. } if !is_passing(source) => Exit::Usage,
            Self::Full { .. } | Self::Io { .. } | Self::Store { .. } | Self::Closed => {
                Exit::Internal
            }
        }
    }

    /// What to do about it, for whoever is told that the run has ended for it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some(
                "restore the state from a copy, or start over with an empty one: objects that are under the target already will be skipped",
            ),
            Self::Store { source, .. } => Some(advice(source)),
            _ => None,
        }
    }

    /// Whether the same may be tried again, and nothing was lost. No error of a disk is: what it dropped can't be told.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store { source, .. } if is_passing(source))
    }

    /// An error of the system, with its own kind for a disk or a quota that is full.
    fn io(action: &'static str, place: impl ToString, source: io::Error) -> Self {
        let (place, source) = (place.to_string(), Arc::new(source));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                action,
                place,
                source,
            },
            _ => Self::Io {
                action,
                place,
                source,
            },
        }
    }

    /// An answer of a store that keeps a state.
    fn store(action: &'static str, place: impl ToString, source: S3Error) -> Self {
        Self::Store {
            action,
            place: place.to_string(),
            source: Arc::new(source),
        }
    }

    fn damaged(place: &str, offset: u64, problem: impl ToString) -> Self {
        Self::Damaged {
            place: place.to_owned(),
            offset,
            problem: problem.to_string(),
        }
    }

    /// An answer that did not come.
    #[cfg(test)]
    fn unanswered(action: &'static str, place: &str) -> Self {
        let answer = S3Error::no_answer(crate::event::Operation::CopyObject, "lost".to_owned());
        Self::Store {
            action,
            place: place.to_owned(),
            source: Arc::new(answer),
        }
    }
}
