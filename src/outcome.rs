//! How a task ended, and the counts of many.
//!
//! Everything that is told of a job (journal, report, summary, metrics, progress) is a fold over [`TaskOutcome`]s, so the
//! vocabulary here is closed: a reason has one name, and it is the same in all of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How one row of the manifest ended. A row has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskOutcome {
    /// The object was rewritten and the store's answer names the target.
    Succeeded {
        /// How it was rewritten.
        method: Method,
        /// The object's size in bytes.
        bytes: u64,
    },
    /// Nothing had to be done, or nothing may be done by this job.
    Skipped(SkipReason),
    /// It was not rewritten, and why.
    Failed(Failure),
}

/// How an object is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// CopyObject onto itself.
    Copy,
    /// UpdateObjectEncryption: the data key is wrapped anew, no data moves.
    Update,
    /// A multipart copy onto itself.
    MultipartCopy,
    /// All versions of the key, one after the other.
    Restack,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Copy, Self::Update, Self::MultipartCopy, Self::Restack];

    /// The name in the summary and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Update => "update",
            Self::MultipartCopy => "multipart-copy",
            Self::Restack => "restack",
        }
    }
}

/// Why a row needed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// The object is under the target already.
    AlreadyEncrypted,
    /// The object is under the target, and the row was started but not settled before an interruption: most likely it
    /// is this job's own work.
    DoneBeforeInterruption,
    /// The row is a delete marker.
    DeleteMarker,
    /// A look says that it does not pass the filters.
    Filtered,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::AlreadyEncrypted,
        Self::DoneBeforeInterruption,
        Self::DeleteMarker,
        Self::Filtered,
    ];

    /// The name in the summary and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlreadyEncrypted => "already-encrypted",
            Self::DoneBeforeInterruption => "done-before-interruption",
            Self::DeleteMarker => "delete-marker",
            Self::Filtered => "filtered",
        }
    }

    /// A sentence for the report.
    pub fn message(self) -> &'static str {
        match self {
            Self::AlreadyEncrypted => "Skipped: already under the target encryption",
            Self::DoneBeforeInterruption => {
                "Skipped: found under the target encryption after an interruption"
            }
            Self::DeleteMarker => "Skipped: a delete marker has no data",
            Self::Filtered => "Skipped: it does not pass the job's filters",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a row failed, as the completion report tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// S3's error code, or one of ours where S3 was not at fault (`ObjectTooLarge`, `EncryptionNotApplied` ...).
    pub code: String,
    /// HTTP status; 0 where no answer came.
    pub http_status: u16,
    /// What happened, for a person.
    pub message: String,
}

/// The codes of rows that were refused: nothing was sent that could have changed their object. Why is the planner's matter.
pub const REFUSAL_CODES: [&str; 18] = [
    "AclUnknown",
    "AnnotationsUnknown",
    "BucketDefaultRetention",
    "KeyNotSupported",
    "KmsContextUnknown",
    "LockUnknown",
    "MetadataNotShown",
    "NeedsRestore",
    "NoSuchVersion",
    "NoWorkingMethod",
    "NoncurrentVersion",
    "ObjectHasAnnotations",
    "ObjectHasGrants",
    "ObjectTooLarge",
    "TagsUnknown",
    "TooManyVersions",
    "UpdateNotPossible",
    "VersioningSuspended",
];

impl Failure {
    /// Whether the row was refused. Some of the codes are S3's too: what the store answered is no refusal.
    pub fn is_refused(&self) -> bool {
        self.http_status == 0 && REFUSAL_CODES.contains(&self.code.as_str())
    }
}

/// The code of a rewritten object that is not what it was.
pub const CAME_BACK_WRONG: &str = "CameBackWrong";

/// Most distinct failure codes that a [`Tally`] keeps apart; what comes after them counts as [`OTHER_CODES`]. Codes
/// come from the store, so their number is not ours to trust.
pub const FAILURE_CODES_MAX: usize = 64;

/// Where failures beyond [`FAILURE_CODES_MAX`] codes are counted.
pub const OTHER_CODES: &str = "Other";

/// Counts over outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows that succeeded, by method.
    pub succeeded: BTreeMap<Method, u64>,
    /// Rows that were skipped, by reason.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// Rows that failed, by code.
    pub failed: BTreeMap<String, u64>,
    /// Rows among the failed ones that were refused.
    pub refused: u64,
    /// Bytes of the objects that succeeded.
    pub bytes: u64,
}

impl Tally {
    /// Objects that came back wrong.
    pub fn came_back_wrong(&self) -> u64 {
        self.failed.get(CAME_BACK_WRONG).copied().unwrap_or(0)
    }

    /// Counts one outcome.
    pub fn add(&mut self, outcome: &TaskOutcome) {
        match outcome {
            TaskOutcome::Succeeded { method, bytes } => {
                *self.succeeded.entry(*method).or_default() += 1;
                self.bytes += bytes;
            }
            TaskOutcome::Skipped(reason) => *self.skipped.entry(*reason).or_default() += 1,
            TaskOutcome::Failed(failure) => {
                self.add_failures(&failure.code, 1);
                self.refused += u64::from(failure.is_refused());
            }
        }
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (method, n) in &other.succeeded {
            *self.succeeded.entry(*method).or_default() += n;
        }
        for (reason, n) in &other.skipped {
            *self.skipped.entry(*reason).or_default() += n;
        }
        for (code, n) in &other.failed {
            self.add_failures(code, *n);
        }
        self.bytes += other.bytes;
        self.refused += other.refused;
    }

    fn add_failures(&mut self, code: &str, n: u64) {
        let known = self.failed.contains_key(code);
        let code = if known || self.failed.len() < FAILURE_CODES_MAX {
            code
        } else {
            OTHER_CODES
        };
        *self.failed.entry(code.to_owned()).or_default() += n;
    }

    /// Rows that succeeded.
    pub fn succeeded_total(&self) -> u64 {
        self.succeeded.values().sum()
    }

    /// Rows that were skipped.
    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Rows that failed.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Rows that have an outcome.
    pub fn settled(&self) -> u64 {
        self.succeeded_total() + self.skipped_total() + self.failed_total()
    }
}
