//! `reseal control`: reaches into a run.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::OutputFormat;
use super::commands::{block_on, write_out};
use crate::control::{self, Answer, AskError, Command};
use crate::error::Error;
use crate::exit::Exit;

/// `reseal control`.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// What to tell it: pause, resume, rate=N (writes per second of all shards), rate=none, concurrency=N (of a shard), or status.
    #[arg(value_name = "WHAT")]
    pub command: Command,
    /// The job's state, a folder: whoever runs a shard of it is told.
    #[arg(
        long,
        env = "RESEAL_STATE",
        value_name = "DIR",
        required_unless_present = "control_socket"
    )]
    pub state: Option<PathBuf>,
    /// This shard alone.
    #[arg(
        long,
        env = "RESEAL_SHARD",
        value_name = "I",
        conflicts_with = "control_socket"
    )]
    pub shard: Option<u32>,
    /// The socket that the run was given, in place of the state.
    #[arg(long, env = "RESEAL_CONTROL_SOCKET", value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
    /// Text for a person, or one JSON object for each shard, a line each.
    #[arg(
        long,
        env = "RESEAL_OUTPUT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
}

pub(super) fn control(args: &ControlArgs, out: &mut dyn Write) -> Result<Exit, Error> {
    let sockets = args.sockets()?;
    block_on(async {
        let mut told = Ok(Exit::Complete);
        for socket in &sockets {
            match control::ask(socket, args.command).await {
                Ok(answer) => write_out(out, &shown(&answer, args.output))?,
                // One that was killed keeps nobody from the others.
                Err(error) => told = Err(not_told(&error)),
            }
        }
        told
    })
}

fn shown(answer: &Answer, format: OutputFormat) -> String {
    match format {
        OutputFormat::Text => answer.to_string(),
        OutputFormat::Json => {
            serde_json::to_string(answer).expect("numbers, strings and maps are always JSON")
        }
    }
}

fn not_told(error: &AskError) -> Error {
    let told = Error::new(Exit::Internal, error.to_string());
    match error {
        AskError::Nobody(_) => {
            told.hint("the run is over, or was killed; `reseal status` reads its state")
        }
        AskError::NoAnswer { .. } => told,
    }
}

impl ControlArgs {
    /// Where to ask.
    fn sockets(&self) -> Result<Vec<PathBuf>, Error> {
        let Some(state) = self
            .state
            .as_ref()
            .filter(|_| self.control_socket.is_none())
        else {
            return Ok(self.control_socket.clone().into_iter().collect());
        };
        let of = |shard: u32| state.join(format!("shard-{shard}")).join(control::SOCKET);
        if let Some(shard) = self.shard {
            return Ok(vec![of(shard)]);
        }
        let sockets = sockets_in(state)?;
        if sockets.is_empty() {
            return Err(nobody_in(state));
        }
        Ok(sockets)
    }
}

fn nobody_in(state: &Path) -> Error {
    Error::usage(format!("{}: no run listens there", state.display())).hint(
        "give the state's folder that `reseal run` names at its start; a run whose state is in S3 has a socket only where \
         --control-socket names one",
    )
}

/// The sockets below a state, in the order of their shards.
fn sockets_in(state: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(state)
        .map_err(|error| Error::usage(format!("{}: {error}", state.display())))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(state.display(), &error))?;
        let name = entry.file_name();
        let shard = name.to_str().and_then(|name| name.strip_prefix("shard-"));
        let Some(shard) = shard.and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let socket = entry.path().join(control::SOCKET);
        if socket.exists() {
            found.push((shard, socket));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, socket)| socket).collect())
}
