//! What the commands share that look at objects by themselves, without a job: how much at once, and where they report.

use clap::Args;

use super::shards::CONCURRENCY_DEFAULT;
use super::{LimitArgs, Scope, StoreArgs};
use crate::config::Location;
use crate::error::Error;
use crate::job::survey::SurveyConfig;
use crate::limiter::Budgets;

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// How much is done at once.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Budgets")]
pub struct ConcurrencyArgs {
    /// Most requests on the wire.
    #[arg(
        long,
        env = "RESEAL_CONCURRENCY",
        default_value_t = CONCURRENCY_DEFAULT,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    pub concurrency: u16,
}

impl ConcurrencyArgs {
    /// The store and the bounds.
    pub fn survey(self, store: StoreArgs, budgets: Budgets, limits: LimitArgs) -> SurveyConfig {
        SurveyConfig {
            connection: store.into(),
            budgets,
            concurrency: self.concurrency.into(),
            max_stall: limits.max_stall,
            throttle_file: limits.throttle_file,
            throttle_url: limits.throttle_url,
        }
    }
}

/// What is reported of rows that no job has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Report")]
pub struct RowReportArgs {
    /// Where the report goes: a folder or s3://bucket/prefix [default: a folder in .reseal].
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
}

impl RowReportArgs {
    /// Where it goes; `default` where nobody says.
    ///
    /// # Errors
    /// A place that is none.
    pub fn place(self, default: &str) -> Result<Location, Error> {
        match self.report {
            Some(Location::Stdin) => {
                Err(Error::usage("--report is a folder or s3://bucket/prefix"))
            }
            Some(place) => Ok(place),
            None => Ok(Location::Path(default.into())),
        }
    }
}

/// A SHA-256 in hexadecimal.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    if text.len() == SHA256_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("it has {SHA256_DIGITS} hexadecimal digits"))
}
