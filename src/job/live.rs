//! What reaches into a run from outside: an operator over the control socket, and whatever comes first.

use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::control::{self, Answer, Command, Socket};
use crate::error::Error;
use crate::event::Limit;
use crate::http::{Address, Http};
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
        let pressure = self.limiter.pressure_now();
        let finite = |rate: f64| rate.is_finite().then_some(rate);
        let holds = self.limiter.holds();
        Answer {
            shard: self.shard.index,
            limited_by: pressure.held_by.map(|by| by.name().to_owned()),
            rate: finite(pressure.writes_set),
            rate_now: finite(pressure.writes_per_second),
            in_flight_max: pressure.in_flight_max,
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

/// Listens where the operator wants to reach the run, or in a shard's `folder`: where that can't be, the run goes on without.
///
/// # Errors
/// Nobody can listen at the path that was asked for, or somebody does.
pub fn listen(asked: Option<&Path>, folder: Option<PathBuf>) -> Result<Option<Socket>, Error> {
    if let Some(path) = asked {
        let socket = Socket::bind(path).map_err(|error| {
            Error::usage(format!("--control-socket {}: {error}", path.display())).hint(
                "give a path of at most some hundred bytes, in a folder that is there, where nothing is and no run listens",
            )
        })?;
        return Ok(Some(socket));
    }
    let Some(path) = folder.map(|folder| folder.join(control::SOCKET)) else {
        return Ok(None);
    };
    let bound = Socket::bind(&path);
    if let Err(error) = &bound {
        tracing::warn!(
            "no live control: {}: {error}; give a short path with --control-socket",
            path.display()
        );
    }
    Ok(bound.ok())
}

/// What comes before the job.
///
/// # Errors
/// An address that can't be asked.
pub fn throttle(file: Option<PathBuf>, url: Option<&Address>) -> Result<Throttle, Error> {
    let url = match url {
        Some(address) => {
            let http =
                Http::to(address).map_err(|error| Error::usage(format!("{address}: {error}")))?;
            Some((address.to_string(), http))
        }
        None => None,
    };
    Ok(Throttle { file, url })
}
