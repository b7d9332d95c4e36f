//! What the engine tells while it runs: a closed vocabulary of plain data.
//!
//! The engine hands each event to one function and knows nobody behind it; progress and metrics know the events
//! and not the engine. That an outcome is told at all means that its journal record is durable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::encryption::Mode;
use crate::exit::Exit;
use crate::outcome::{Tally, TaskOutcome};

/// A request that reseal sends for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// The look at an object.
    HeadObject,
    /// The look at an object's grants, in buckets with ACLs.
    GetObjectAcl,
    /// The look at an object's retention, in buckets with Object Lock.
    GetObjectRetention,
    /// The look at an object's legal hold, in buckets with Object Lock.
    GetObjectLegalHold,
    /// The rewrite by one request.
    CopyObject,
    /// The rewrite in place: the data key is wrapped anew.
    UpdateObjectEncryption,
    /// Begins a rewrite in parts.
    CreateMultipartUpload,
    /// Rewrites one part.
    UploadPartCopy,
    /// Puts the parts in the object's place.
    CompleteMultipartUpload,
    /// Gives a rewrite in parts up.
    AbortMultipartUpload,
    /// Asks which parts an interrupted rewrite has.
    ListParts,
    /// The look at an object's tags, where they have to be sent again.
    GetObjectTagging,
    /// The look at an object's annotations, where a rewrite would lose them.
    ListObjectAnnotations,
    /// Reads an object back.
    GetObject,
    /// The look at all versions of a key.
    ListObjectVersions,
    /// Puts a delete marker back, or removes a version that was superseded.
    DeleteObject,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 16] = [
        Self::HeadObject,
        Self::GetObjectAcl,
        Self::GetObjectRetention,
        Self::GetObjectLegalHold,
        Self::CopyObject,
        Self::UpdateObjectEncryption,
        Self::CreateMultipartUpload,
        Self::UploadPartCopy,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListParts,
        Self::GetObjectTagging,
        Self::ListObjectAnnotations,
        Self::GetObject,
        Self::ListObjectVersions,
        Self::DeleteObject,
    ];

    /// Whether it changes an object, or makes a part of one.
    pub fn writes(self) -> bool {
        match self {
            Self::CopyObject
            | Self::UpdateObjectEncryption
            | Self::CreateMultipartUpload
            | Self::UploadPartCopy
            | Self::CompleteMultipartUpload
            | Self::AbortMultipartUpload
            | Self::DeleteObject => true,
            Self::HeadObject
            | Self::GetObjectAcl
            | Self::GetObjectRetention
            | Self::GetObjectLegalHold
            | Self::ListParts
            | Self::GetObjectTagging
            | Self::ListObjectAnnotations
            | Self::GetObject
            | Self::ListObjectVersions => false,
        }
    }

    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HeadObject => "HeadObject",
            Self::GetObjectAcl => "GetObjectAcl",
            Self::GetObjectRetention => "GetObjectRetention",
            Self::GetObjectLegalHold => "GetObjectLegalHold",
            Self::CopyObject => "CopyObject",
            Self::UpdateObjectEncryption => "UpdateObjectEncryption",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::GetObjectTagging => "GetObjectTagging",
            Self::ListObjectAnnotations => "ListObjectAnnotations",
            Self::GetObject => "GetObject",
            Self::ListObjectVersions => "ListObjectVersions",
            Self::DeleteObject => "DeleteObject",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResponseClass {
    /// Answered as asked.
    Ok,
    /// The store asks for fewer requests: 503 `SlowDown` and its like, 429.
    Throttled,
    /// Refused: another 4xx.
    ClientError,
    /// The store's own trouble: another 5xx, or an error inside a 200.
    ServerError,
    /// No whole answer: connection refused or cut, time-out.
    NoAnswer,
}

impl ResponseClass {
    /// Every class.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Throttled,
        Self::ClientError,
        Self::ServerError,
        Self::NoAnswer,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// Who asked us to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Throttler {
    /// S3's own request rate.
    S3,
    /// KMS behind S3.
    Kms,
    /// A store as a whole, or a proxy before it: 429.
    Store,
}

impl Throttler {
    /// Every throttler.
    pub const ALL: [Self; 3] = [Self::S3, Self::Kms, Self::Store];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Kms => "kms",
            Self::Store => "store",
        }
    }
}

/// What may hold a job back: the limits that the operator has set, and those that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `--rate`.
    Rate,
    /// `--request-rate`.
    RequestRate,
    /// `--bandwidth`.
    Bandwidth,
    /// `--prefix-rate`.
    PrefixRate,
    /// `--kms-rate`.
    KmsRate,
    /// `--concurrency`: everything that may be on the wire is.
    Concurrency,
    /// Nobody objects, and the rate rises fast: at the beginning, or above what was once too much.
    RampUp,
    /// S3 has asked for fewer requests.
    S3Throttling,
    /// S3 has asked for fewer requests, for keys of this prefix alone.
    PrefixThrottling,
    /// KMS behind S3 has.
    KmsThrottling,
    /// The store answers 429, or much more slowly than it did.
    StoreOverload,
    /// `reseal control pause`: nothing is sent.
    Paused,
    /// `--throttle-file`: nothing is sent while it is there.
    ThrottleFile,
    /// `--throttle-url`: nothing is sent while it is not well.
    ThrottleUrl,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 14] = [
        Self::Rate,
        Self::RequestRate,
        Self::Bandwidth,
        Self::PrefixRate,
        Self::KmsRate,
        Self::Concurrency,
        Self::RampUp,
        Self::S3Throttling,
        Self::PrefixThrottling,
        Self::KmsThrottling,
        Self::StoreOverload,
        Self::Paused,
        Self::ThrottleFile,
        Self::ThrottleUrl,
    ];

    /// Its name in the progress line, the metrics and the status; that of the flag, where there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::RequestRate => "request-rate",
            Self::Bandwidth => "bandwidth",
            Self::PrefixRate => "prefix-rate",
            Self::KmsRate => "kms-rate",
            Self::Concurrency => "concurrency",
            Self::RampUp => "ramp-up",
            Self::S3Throttling => "s3-throttling",
            Self::PrefixThrottling => "prefix-throttling",
            Self::KmsThrottling => "kms-throttling",
            Self::StoreOverload => "store-overload",
            Self::Paused => "paused",
            Self::ThrottleFile => "throttle-file",
            Self::ThrottleUrl => "throttle-url",
        }
    }
}

/// What goes through for the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// What holds the job; nothing where hardly any request waits.
    pub held_by: Option<Limit>,
    /// Writes per second that may be sent: what was set, or less. Infinite where nothing limits them.
    pub writes_per_second: f64,
    /// Writes per second that were set, for this shard. Infinite where none were.
    pub writes_set: f64,
    /// Requests that may be on the wire.
    pub in_flight_max: usize,
}

/// What a finding means for the job, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every object would fail: nothing is begun.
    Stop,
    /// It may not be what the operator wants.
    Warning,
    /// What the job costs or sets off.
    Note,
}

impl Level {
    /// The name in the summary and before the message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The validating pass over the manifest has read so many rows.
    Preparing {
        /// Rows so far.
        rows: u64,
    },
    /// The run begins, or goes on.
    Started {
        /// Rows of the manifest.
        total: u64,
        /// What earlier runs of the same job have settled.
        before: &'a Tally,
        /// Rows that they may have begun, and not settled.
        doubtful: u64,
    },
    /// A task was admitted; it is in flight until it is [`Event::TaskEnded`].
    TaskStarted,
    /// A task has ended.
    TaskEnded,
    /// A row's outcome is on its way to the state; it is [`Event::Settled`] once it is there.
    Recorded,
    /// What was on its way is in the state.
    Synced,
    /// A rewritten object was held against what it was.
    Verified {
        /// Whether it is the same but for its encryption.
        is_same: bool,
    },
    /// A look told how an object was encrypted.
    Found {
        /// Its mode before anything was done to it.
        mode: Mode,
    },
    /// A request got its answer, or none.
    Request {
        /// Which.
        operation: Operation,
        /// How it ended.
        class: ResponseClass,
        /// From sending to the end of the answer.
        elapsed: Duration,
    },
    /// A request will be sent again.
    Retried {
        /// Which.
        operation: Operation,
        /// What the last attempt met.
        class: ResponseClass,
    },
    /// The store or KMS asked us to slow down.
    Throttled {
        /// Who.
        by: Throttler,
    },
    /// A row has its outcome, and the record of it is durable.
    Settled {
        /// The object's key: untrusted text, to be cleaned before it reaches a terminal.
        key: &'a str,
        /// The outcome.
        outcome: &'a TaskOutcome,
    },
    /// Nothing more is admitted; what is in flight may finish.
    Draining {
        /// Why, in a few words.
        reason: &'a str,
        /// Tasks in flight.
        in_flight: usize,
    },
    /// Nothing goes on, and that is waited for. There may be several at once: credentials, a store, the place of the state.
    StallBegan {
        /// What is the matter: untrusted text.
        why: &'a str,
    },
    /// One of those stalls is over. A run may end without.
    StallEnded {
        /// How long it has taken.
        lasted: Duration,
    },
    /// Nothing is sent, because somebody wants it so.
    HoldBegan {
        /// What holds everything.
        by: Limit,
        /// Why, in a few words: untrusted text.
        why: &'a str,
    },
    /// It does not any more.
    HoldEnded {
        /// What held everything.
        by: Limit,
        /// How long it has.
        lasted: Duration,
    },
    /// A second has passed, whatever else has happened.
    Heartbeat,
    /// What goes through for the moment; told once a second.
    Pressure(Pressure),
    /// Something that the operator should know of; the run goes on.
    Warning {
        /// One sentence.
        message: &'a str,
    },
    /// What was found of the bucket or the store before the first row; told once in a run.
    Finding {
        /// What it means for the job.
        level: Level,
        /// Its name, the same in every run.
        code: &'static str,
        /// One or two sentences.
        message: &'a str,
    },
    /// The run is over.
    Finished {
        /// How.
        exit: Exit,
    },
}
