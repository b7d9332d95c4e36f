//! Every metric that reseal exports: one table, which the recorder, the dashboards' test and the documents read.
//!
//! Names follow Prometheus' rules: base units, the unit last, counters end in `_total`. Label values are closed lists,
//! so that the number of series is known before a run; the one that a store decides (`code`) is bounded. A key, a prefix,
//! a bucket or a job id is never a label: who runs what is told by the labels of the scrape. Where a job is cut, each series has
//! [`SHARD`] too: which part of the job it is about is nothing that a scrape could know.
//!
//! **Counters** tell what this process did and begin at zero with it, as Prometheus expects of them: `rate()` and
//! `increase()` are right over a resume. **Gauges** of rows tell of the whole shard, earlier runs included; [`JOB_ROWS`] of the
//! whole job, so that what other shards have to do is known while they do not run.

use crate::encryption::Mode;
use crate::event::{Limit, Operation, ResponseClass, Throttler};
use crate::outcome::{Method, OTHER_CODES, SkipReason};

/// What Prometheus calls the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in [`Metric::buckets`], with `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// The unit of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things counted; the name says which.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds; a point in time is seconds since 1970-01-01T00:00:00Z.
    Seconds,
    /// A share from 0 to 1.
    Ratio,
}

/// A label with the values that exist from the start.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The label's name.
    pub name: &'static str,
    /// Its values: all of them, but for `code`, where stores add their own up to a bound.
    pub values: fn() -> Vec<&'static str>,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The exported name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit of its values.
    pub unit: Unit,
    /// Its labels, in the order in which their values are given.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets; empty for the other kinds.
    pub buckets: &'static [f64],
    /// What it tells: the `# HELP` line.
    pub help: &'static str,
}

impl Metric {
    const fn counter(
        name: &'static str,
        unit: Unit,
        labels: &'static [Label],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            unit,
            labels,
            buckets: &[],
            help,
        }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [Label],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            unit,
            labels,
            buckets: &[],
            help,
        }
    }

    /// The names that a query may use for it.
    pub fn series_names(&self) -> Vec<String> {
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![self.name.to_owned()],
            Kind::Histogram => ["bucket", "sum", "count"]
                .map(|part| format!("{}_{part}", self.name))
                .to_vec(),
        }
    }
}

/// The label of every series of a job that is cut: the shard's number.
pub const SHARD: &str = "shard";

/// The label of outcomes.
pub const OUTCOME: Label = Label {
    name: "outcome",
    values: || vec![SUCCEEDED, SKIPPED, FAILED],
};
const METHOD: Label = Label {
    name: "method",
    values: || Method::ALL.map(Method::name).to_vec(),
};
const REASON: Label = Label {
    name: "reason",
    values: || SkipReason::ALL.map(SkipReason::name).to_vec(),
};
const CODE: Label = Label {
    name: "code",
    values: || EXPECTED_CODES.to_vec(),
};
const OPERATION: Label = Label {
    name: "operation",
    values: || Operation::ALL.map(Operation::name).to_vec(),
};
const CLASS: Label = Label {
    name: "class",
    values: || ResponseClass::ALL.map(ResponseClass::name).to_vec(),
};
const BY: Label = Label {
    name: "by",
    values: || Throttler::ALL.map(Throttler::name).to_vec(),
};
const LIMIT: Label = Label {
    name: "limit",
    values: || Limit::ALL.map(Limit::name).to_vec(),
};
const MODE: Label = Label {
    name: "mode",
    values: || Mode::ALL.map(Mode::inventory_name).to_vec(),
};
const STATE: Label = Label {
    name: "state",
    values: || RunState::ALL.map(RunState::name).to_vec(),
};
const LISTED: Label = Label {
    name: "mode",
    values: || {
        let modes = Mode::ALL.map(Mode::inventory_name);
        modes.into_iter().chain([UNKNOWN]).collect()
    },
};
const RESULT: Label = Label {
    name: "result",
    values: || vec![PASSED, MISMATCHED],
};
const VERSION: Label = Label {
    name: "version",
    values: || vec![env!("CARGO_PKG_VERSION")],
};

/// Value of `outcome` for rows that were rewritten.
pub const SUCCEEDED: &str = "succeeded";
/// Value of `outcome` for rows that needed nothing.
pub const SKIPPED: &str = "skipped";
/// Value of `outcome` for rows that were not rewritten.
pub const FAILED: &str = "failed";

/// Value of `mode` for rows of which the manifest does not tell.
pub const UNKNOWN: &str = "unknown";
/// Value of `result` for objects that are what they were.
pub const PASSED: &str = "passed";
/// Value of `result` for objects that are not.
pub const MISMATCHED: &str = "failed";

/// The failure codes that an operator may want to alert on before they have happened once: they exist at zero. Others
/// appear when a store answers with them, up to [`FAILURE_CODES_MAX`](crate::outcome::FAILURE_CODES_MAX) in all.
/// Source: S3 API Reference, "Error responses"; the KMS ones as S3 hands them on; those that S3 does not know are ours.
pub const EXPECTED_CODES: [&str; 20] = [
    "AccessDenied",
    "EncryptionNotApplied",
    "InternalError",
    "InvalidObjectState",
    "InvalidRequest",
    "KMS.DisabledException",
    "KMS.KMSInvalidStateException",
    "KMS.NotFoundException",
    "NoAnswer",
    "NoCustomerKey",
    "NoSuchKey",
    "NoSuchVersion",
    "ObjectArchived",
    "ObjectHasGrants",
    "ObjectLocked",
    "ObjectTooLarge",
    "PreconditionFailed",
    "RequestTimeout",
    "SlowDown",
    OTHER_CODES,
];

/// Where the process is in its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The validating pass over the manifest, and whatever comes before the first admission.
    Preparing,
    /// Rows are admitted.
    Running,
    /// Nothing more is admitted; what is in flight may finish.
    Draining,
    /// The run is over; its report may still be written.
    Finished,
}

impl RunState {
    /// Every state, in the order in which they follow.
    pub const ALL: [Self; 4] = [
        Self::Preparing,
        Self::Running,
        Self::Draining,
        Self::Finished,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Finished => "finished",
        }
    }
}

/// Rows settled by this process.
pub const TASKS: Metric = Metric::counter(
    "reseal_tasks_total",
    Unit::Count,
    &[OUTCOME],
    "Rows that this process settled, by outcome.",
);
/// Rows rewritten, by how.
pub const TASKS_SUCCEEDED: Metric = Metric::counter(
    "reseal_tasks_succeeded_total",
    Unit::Count,
    &[METHOD],
    "Rows that this process rewrote, by method.",
);
/// Rows skipped, by why.
pub const TASKS_SKIPPED: Metric = Metric::counter(
    "reseal_tasks_skipped_total",
    Unit::Count,
    &[REASON],
    "Rows that this process skipped, by reason.",
);
/// Rows failed, by code.
pub const TASKS_FAILED: Metric = Metric::counter(
    "reseal_tasks_failed_total",
    Unit::Count,
    &[CODE],
    "Rows that failed in this process, by the code that the report names; rare and malformed codes count as Other.",
);
/// Bytes of the rewritten objects.
pub const REWRITTEN_BYTES: Metric = Metric::counter(
    "reseal_rewritten_bytes_total",
    Unit::Bytes,
    &[],
    "Size of the objects that this process rewrote; the bytes move inside the store.",
);
/// Requests sent.
pub const REQUESTS: Metric = Metric::counter(
    "reseal_requests_total",
    Unit::Count,
    &[OPERATION, CLASS],
    "Requests sent to S3, retries included, by operation and how they ended.",
);
/// Their latency.
pub const REQUEST_DURATION: Metric = Metric {
    name: "reseal_request_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &[OPERATION],
    // From a store in the same rack to a 5 GiB copy, which takes S3 about a minute.
    buckets: &[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    ],
    help: "Time from sending a request to the end of its answer, by operation.",
};
/// Requests sent again.
pub const RETRIES: Metric = Metric::counter(
    "reseal_retries_total",
    Unit::Count,
    &[OPERATION, CLASS],
    "Requests that were sent again, by operation and what the attempt before met.",
);
/// Calls to slow down.
pub const THROTTLES: Metric = Metric::counter(
    "reseal_throttles_total",
    Unit::Count,
    &[BY],
    "Answers that asked for fewer requests, by who asked: S3, KMS behind it, or a store as a whole.",
);
/// Modes that objects were found in.
pub const OBJECTS_FOUND: Metric = Metric::counter(
    "reseal_objects_found_total",
    Unit::Count,
    &[MODE],
    "Objects looked at, by the encryption they were found under.",
);
/// Warnings, and findings that are no mere notes.
pub const WARNINGS: Metric = Metric::counter(
    "reseal_warnings_total",
    Unit::Count,
    &[],
    "Warnings that the operator should know of; each is in the log.",
);
/// Tasks in flight.
pub const TASKS_IN_FLIGHT: Metric = Metric::gauge(
    "reseal_tasks_in_flight",
    Unit::Count,
    &[],
    "Tasks that were admitted and have not ended.",
);
/// What holds the job.
pub const LIMITED_BY: Metric = Metric::gauge(
    "reseal_limited_by",
    Unit::Count,
    &[LIMIT],
    "1 for the limit that holds the job for the moment, 0 for the others; all 0 where requests hardly wait.",
);
/// Writes that may be sent.
pub const WRITE_RATE_LIMIT: Metric = Metric::gauge(
    "reseal_write_rate_limit",
    Unit::Count,
    &[],
    "Writes per second that may be sent for the moment: what was set, or the less that the store takes; +Inf where nothing limits them.",
);
/// Writes that were set.
pub const WRITE_RATE_SET: Metric = Metric::gauge(
    "reseal_configured_write_rate",
    Unit::Count,
    &[],
    "Writes per second that were set, by --rate or reseal control, this shard's part of them; +Inf where none were.",
);
/// Requests that may be on the wire.
pub const IN_FLIGHT_LIMIT: Metric = Metric::gauge(
    "reseal_requests_in_flight_limit",
    Unit::Count,
    &[],
    "Requests that may be on the wire for the moment: --concurrency, or fewer where the store is overloaded.",
);
/// Whether nothing goes on.
pub const STALLED: Metric = Metric::gauge(
    "reseal_stalled",
    Unit::Count,
    &[],
    "1 while nothing goes on and that is waited for (credentials, the store), else 0; the log says what for.",
);
/// Outcomes on their way to the state.
pub const JOURNAL_PENDING: Metric = Metric::gauge(
    "reseal_journal_pending_records",
    Unit::Count,
    &[],
    "Outcomes that are on their way to the state and not there yet.",
);
/// When the state was written.
pub const JOURNAL_WRITTEN: Metric = Metric::gauge(
    "reseal_journal_last_write_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When this process last wrote the state, in seconds since 1970; NaN before the first time.",
);
/// Objects held against what they were.
pub const VERIFICATIONS: Metric = Metric::counter(
    "reseal_verifications_total",
    Unit::Count,
    &[RESULT],
    "Rewritten objects that were held against what they were before, by --verify or as the canary.",
);
/// Rows in doubt.
pub const ROWS_DOUBTFUL: Metric = Metric::gauge(
    "reseal_rows_doubtful",
    Unit::Count,
    &[],
    "Rows that an earlier run may have begun and not settled, when this one began: each is looked at first.",
);
/// When the run ends whatever is left.
pub const DEADLINE: Metric = Metric::gauge(
    "reseal_deadline_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When this run ends by --until or --max-duration, in seconds since 1970; +Inf where it does not.",
);
/// How the run has ended.
pub const EXIT_CODE: Metric = Metric::gauge(
    "reseal_exit_code",
    Unit::Count,
    &[],
    "The exit code of the run; NaN until it is over.",
);
/// Rows checked while preparing.
pub const ROWS_PREPARED: Metric = Metric::gauge(
    "reseal_rows_prepared",
    Unit::Count,
    &[],
    "Rows that the validating pass over the manifest has read, those of other shards too; 0 when an earlier run did it.",
);
/// Shards of the job.
pub const SHARDS: Metric = Metric::gauge(
    "reseal_shards",
    Unit::Count,
    &[],
    "Shards that the job is cut into; 1 where it is not.",
);
/// Rows of the manifest.
pub const JOB_ROWS: Metric = Metric::gauge(
    "reseal_job_rows",
    Unit::Count,
    &[],
    "Rows of the manifest, those of all shards together; 0 until it is validated.",
);
/// Rows of the shard.
pub const ROWS: Metric = Metric::gauge(
    "reseal_rows",
    Unit::Count,
    &[],
    "Rows of the manifest that are this shard's; 0 until it is validated.",
);
/// Rows by what the manifest lists.
pub const ROWS_LISTED: Metric = Metric::gauge(
    "reseal_rows_listed",
    Unit::Count,
    &[LISTED],
    "This shard's rows by the encryption that the manifest lists of their objects; an inventory tells it, a list of keys does not.",
);
/// Rows of the shard that are settled.
pub const ROWS_SETTLED: Metric = Metric::gauge(
    "reseal_rows_settled",
    Unit::Count,
    &[OUTCOME],
    "This shard's rows that have their outcome, those that earlier runs settled included.",
);
/// Rows to do.
pub const ROWS_REMAINING: Metric = Metric::gauge(
    "reseal_rows_remaining",
    Unit::Count,
    &[],
    "This shard's rows that have no outcome yet; 0 until the manifest is validated.",
);
/// Progress.
pub const PROGRESS: Metric = Metric::gauge(
    "reseal_progress_ratio",
    Unit::Ratio,
    &[],
    "Share of this shard's rows that have their outcome, 0 to 1.",
);
/// Time left.
pub const ETA: Metric = Metric::gauge(
    "reseal_eta_seconds",
    Unit::Seconds,
    &[],
    "Time until the last of this shard's rows settles at the present rate; NaN until 1 % of this run's rows have settled and when it stopped early.",
);
/// Where the run is.
pub const RUN_STATE: Metric = Metric::gauge(
    "reseal_run_state",
    Unit::Count,
    &[STATE],
    "1 for the state that the run is in, 0 for the others.",
);
/// When it began.
pub const START_TIME: Metric = Metric::gauge(
    "reseal_start_time_seconds",
    Unit::Seconds,
    &[],
    "When this process began, in seconds since 1970.",
);
/// When a row settled last.
pub const LAST_SETTLED: Metric = Metric::gauge(
    "reseal_last_settled_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When a row settled last in this process, in seconds since 1970; NaN before the first.",
);
/// Build.
pub const BUILD_INFO: Metric = Metric::gauge(
    "reseal_build_info",
    Unit::Count,
    &[VERSION],
    "Always 1; the label names the version.",
);

/// Every metric, in the order of the documents.
pub const TABLE: [&Metric; 36] = [
    &RUN_STATE,
    &STALLED,
    &LIMITED_BY,
    &WRITE_RATE_LIMIT,
    &WRITE_RATE_SET,
    &IN_FLIGHT_LIMIT,
    &SHARDS,
    &JOB_ROWS,
    &ROWS,
    &ROWS_LISTED,
    &ROWS_SETTLED,
    &ROWS_REMAINING,
    &PROGRESS,
    &ETA,
    &DEADLINE,
    &ROWS_PREPARED,
    &ROWS_DOUBTFUL,
    &TASKS,
    &TASKS_SUCCEEDED,
    &TASKS_SKIPPED,
    &TASKS_FAILED,
    &TASKS_IN_FLIGHT,
    &REWRITTEN_BYTES,
    &OBJECTS_FOUND,
    &REQUESTS,
    &REQUEST_DURATION,
    &RETRIES,
    &THROTTLES,
    &VERIFICATIONS,
    &WARNINGS,
    &JOURNAL_PENDING,
    &JOURNAL_WRITTEN,
    &LAST_SETTLED,
    &START_TIME,
    &EXIT_CODE,
    &BUILD_INFO,
];
