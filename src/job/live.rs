//! What reaches into a run from outside: an operator over the control socket, and whatever comes first.

use std::cell::Cell;
use std::path::Path;

use tokio::sync::oneshot;

use crate::config::JobConfig;
use crate::control::{Answer, Command, Socket};
use crate::error::Error;
use crate::event::{Limit, Pressure};
use crate::http::Http;
use crate::limiter::Limiter;
use crate::outcome::Tally;
use crate::shard::Shard;
use crate::throttle::Throttle;

/// Why the operator's pause holds a job.
const PAUSED: &str = "paused by reseal control";

/// How far a run is.
pub struct Standing {
    /// Rows of the shard.
    pub total: u64,
    /// What is settled of them.
    pub tally: Tally,
}

/// A run, for whoever reaches into it.
pub struct Live<'a> {
    /// Which shard it has.
    pub shard: Shard,
    /// What it may send.
    pub limiter: &'a Limiter,
    /// What went through in the last second.
    pub pressure: &'a Cell<Option<Pressure>>,
    /// How far it is.
    pub standing: &'a dyn Fn() -> Standing,
}

impl Live<'_> {
    /// Looks after everything that reaches into the run, for ever. `socket`: where to listen, once that is known.
    pub async fn watch(&self, throttle: &Throttle, socket: oneshot::Receiver<Socket>) {
        let control = async {
            if let Ok(socket) = socket.await {
                socket.serve(|command| self.obey(command)).await;
            }
        };
        tokio::join!(
            throttle.watch(|by, why| self.limiter.hold(by, why)),
            control
        );
    }

    fn obey(&self, command: Command) -> Answer {
        if command != Command::Status {
            tracing::info!("told to {command}");
        }
        match command {
            Command::Pause => self.limiter.hold(Limit::Paused, Some(PAUSED.to_owned())),
            Command::Resume => self.limiter.hold(Limit::Paused, None),
            Command::Rate(rate) => self.limiter.set_rate(rate),
            Command::Concurrency(requests) => {
                self.limiter.set_concurrency(requests.get().into());
            }
            Command::Status => {}
        }
        let Standing { total, tally } = (self.standing)();
        let pressure = self.pressure.get();
        let finite = |rate: f64| rate.is_finite().then_some(rate);
        let holds = self.limiter.holds();
        Answer {
            shard: self.shard.index,
            limited_by: pressure
                .and_then(|now| now.held_by)
                .map(|by| by.name().to_owned()),
            rate: finite(self.limiter.rate_set()),
            rate_now: pressure.and_then(|now| finite(now.writes_per_second)),
            in_flight_max: pressure.map(|now| now.in_flight_max),
            on_hold: holds
                .into_iter()
                .map(|(by, why)| (by.name().to_owned(), why))
                .collect(),
            total,
            succeeded: tally.succeeded_total(),
            skipped: tally.skipped_total(),
            failed: tally.failed_total(),
        }
    }
}

/// Listens at a path; where that can't be, the job runs without.
pub fn listen(path: &Path) -> Option<Socket> {
    match Socket::bind(path) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(
                "no live control: {}: {error}; give a short path with --control-socket",
                path.display()
            );
            None
        }
    }
}

/// What comes before the job.
///
/// # Errors
/// An address that can't be asked.
pub fn throttle(config: &JobConfig) -> Result<Throttle, Error> {
    let url = match &config.throttle_url {
        Some(address) => {
            let http =
                Http::to(address).map_err(|error| Error::usage(format!("{address}: {error}")))?;
            Some((address.to_string(), http))
        }
        None => None,
    };
    Ok(Throttle {
        file: config.throttle_file.clone(),
        url,
    })
}
