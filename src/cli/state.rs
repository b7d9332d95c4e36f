//! Commands that look at the state of a job: `reseal status` and `reseal report`.

use std::time::Duration;

use clap::Args;

use super::{OutputFormat, Scope, StoreArgs};
use crate::config::Location;

/// `reseal status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The job's state: a folder or s3://bucket/prefix.
    #[arg(long, env = "RESEAL_STATE", value_name = "DIR|S3-URL")]
    pub state: Location,
    /// This shard alone.
    #[arg(long, value_name = "I")]
    pub shard: Option<u32>,
    /// Tell it again and again, so long apart, until the job is complete.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        default_missing_value = "5s",
        value_parser = pause
    )]
    pub watch: Option<Duration>,
    /// The store, for a state in S3.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Text for a person, or one JSON object.
    #[arg(
        long,
        env = "RESEAL_OUTPUT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
}

/// The shortest pause between two looks at a state.
const PAUSE_MIN: Duration = Duration::from_millis(100);

fn pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if pause >= PAUSE_MIN => Ok(pause),
        Ok(_) => Err("at least 100ms".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `reseal report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The job's state: a folder or s3://bucket/prefix.
    #[arg(long, env = "RESEAL_STATE", value_name = "DIR|S3-URL")]
    pub state: Location,
    /// Where the report goes: a folder or s3://bucket/prefix [default: report/ in the state].
    #[arg(long, env = "RESEAL_REPORT", value_name = "DIR|S3-URL")]
    pub report: Option<Location>,
    /// Which rows the report has.
    #[arg(
        long,
        env = "RESEAL_REPORT_SCOPE",
        default_value = "all",
        value_name = "SCOPE"
    )]
    pub report_scope: Scope,
    /// Write the evidence too that a job with --evidence has kept so far: below this folder or s3://bucket/prefix.
    #[arg(long, env = "RESEAL_EVIDENCE", value_name = "DIR|S3-URL")]
    pub evidence: Option<Location>,
    /// The store, for a state, a manifest or a report in S3.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Text for a person, or one JSON object.
    #[arg(
        long,
        env = "RESEAL_OUTPUT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
}
