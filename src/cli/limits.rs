//! When a run, or a survey, ends before its rows do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::deadline::{self, DeadlineError};
use crate::error::Error;
use crate::http::Address;
use crate::shutdown::Limits;

/// When a run ends before its rows do.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Wait so long for credentials to be renewed, or a store to come back, once it has worked; 0s doesn't wait.
    #[arg(
        long,
        env = "RESEAL_MAX_STALL",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub max_stall: Duration,
    /// From SIGTERM, SIGINT or the end of the run's time to the end of the process; what is in flight may end meanwhile.
    #[arg(
        long,
        env = "RESEAL_DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub drain_timeout: Duration,
    /// Stop after this time, as with SIGTERM.
    #[arg(
        long,
        env = "RESEAL_MAX_DURATION",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub max_duration: Option<Duration>,
    /// Stop at this time, as with SIGTERM: 06:00, 06:00Z, 06:00+02:00, "06:00 Europe/Berlin", or a date and time as RFC 3339
    /// has them.
    #[arg(long, env = "RESEAL_UNTIL", value_name = "TIME")]
    pub until: Option<String>,
    /// Send nothing while this file is there: what shares the bucket comes first.
    #[arg(long, env = "RESEAL_THROTTLE_FILE", value_name = "PATH")]
    pub throttle_file: Option<PathBuf>,
    /// Send nothing while this address answers other than 2xx, or not at all; it is asked once a second.
    #[arg(long, env = "RESEAL_THROTTLE_URL", value_name = "URL")]
    pub throttle_url: Option<Address>,
}

impl LimitArgs {
    /// How long the run may go on, and how long it may take to end.
    ///
    /// # Errors
    /// What is no time, a time that is over, no time at all.
    pub fn limits(&self) -> Result<Limits, Error> {
        if self.max_duration == Some(Duration::ZERO) {
            return Err(Error::usage("--max-duration leaves no time to do anything"));
        }
        Ok(Limits {
            drain_timeout: self.drain_timeout,
            max_duration: self.max_duration,
            until: self.until.as_deref().map(until).transpose()?,
        })
    }
}

/// The codes with which no row may fail: `--stop-on`.
///
/// # Errors
/// One that is empty.
pub fn codes(stop_on: &[String]) -> Result<BTreeSet<String>, Error> {
    let code = |code: &String| {
        match code.trim() {
        "" => Err(Error::usage("--stop-on has an empty code")
            .hint("give the codes of the report's failed rows, as in --stop-on AccessDenied,KMS.DisabledException")),
        code => Ok(code.to_owned()),
    }
    };
    stop_on.iter().map(code).collect()
}

fn until(text: &str) -> Result<Zoned, Error> {
    let here = machine_zone();
    deadline::parse(text, Timestamp::now(), here.as_ref()).map_err(|error| {
        let hint = match error {
            DeadlineError::NoTime(_) => {
                "give 06:00, 06:00Z, 06:00+02:00, \"06:00 Europe/Berlin\" or 2026-01-31T06:00:00Z"
            }
            DeadlineError::NoZone(_) | DeadlineError::NoMachineZone => {
                "give a zone by its name, as in \"06:00 Europe/Berlin\", or an offset, as in 06:00+02:00"
            }
            DeadlineError::Past(_) => "a time of day, as in 06:00, is always the next one",
        };
        Error::usage(format!("--until: {error}")).hint(hint)
    })
}

/// The zone of this machine: that of the variable `TZ`, else of /etc/localtime, else UTC. `None` where `TZ` names none.
fn machine_zone() -> Option<TimeZone> {
    match TimeZone::try_system() {
        Ok(zone) => Some(zone),
        Err(_) if std::env::var_os("TZ").is_some() => None,
        Err(_) => Some(TimeZone::UTC),
    }
}
