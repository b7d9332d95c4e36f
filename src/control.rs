//! Live control: a job that runs is paused, continued, slowed down and asked, over a unix socket beside its state.
//!
//! Whoever may write into the state's folder may speak to the runner: the socket is its owner's alone. A question is one line, and so
//! is the answer, as JSON. What is set lasts as long as the process: the next one begins as its command line says.
//!
//! Nothing is done from here: what a [`Command`] does is told by whoever serves.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::human;

/// The socket's name in the folder of a shard.
pub const SOCKET: &str = "control.sock";

/// Longest line that is read, a question or an answer.
const LINE_BYTES_MAX: u64 = 4 * 1024;
/// Who is served at once; others wait.
const CONNECTIONS_MAX: usize = 16;
/// Most time that a question takes, from the connection to the end of its answer.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(1);
/// How long whoever asks waits for it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept: it fails at once again while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Most requests on the wire that may be asked for: what `--concurrency` takes.
const CONCURRENCY_MAX: u16 = 4_096;

/// Characters of a reason that are shown.
const WHY_CHARS_MAX: usize = 400;
/// The word for no limit.
const NONE: &str = "none";

/// What a runner may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send nothing more; what is on the wire may end.
    Pause,
    /// Go on.
    Resume,
    /// The ceiling of writes per second of all shards; `None` is none.
    Rate(Option<NonZeroU32>),
    /// How many requests of this shard may be on the wire.
    Concurrency(NonZeroU16),
    /// Nothing: it is only asked.
    Status,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.split_once('=') {
            None if text == "pause" => Ok(Self::Pause),
            None if text == "resume" => Ok(Self::Resume),
            None if text == "status" => Ok(Self::Status),
            Some(("rate", NONE)) => Ok(Self::Rate(None)),
            Some(("rate", number)) => match number.parse() {
                Ok(rate) => Ok(Self::Rate(Some(rate))),
                Err(_) => Err(format!(
                    "rate={number}: give writes per second, at least 1, or {NONE}"
                )),
            },
            Some(("concurrency", number)) => match number.parse::<NonZeroU16>() {
                Ok(requests) if requests.get() <= CONCURRENCY_MAX => {
                    Ok(Self::Concurrency(requests))
                }
                _ => Err(format!(
                    "concurrency={number}: give a number from 1 to {CONCURRENCY_MAX}"
                )),
            },
            _ => Err(format!(
                "{text:?} is none of pause, resume, rate=N, rate={NONE}, concurrency=N, status"
            )),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Resume => f.write_str("resume"),
            Self::Rate(None) => write!(f, "rate={NONE}"),
            Self::Rate(Some(rate)) => write!(f, "rate={rate}"),
            Self::Concurrency(requests) => write!(f, "concurrency={requests}"),
            Self::Status => f.write_str("status"),
        }
    }
}

/// What a runner answers to any command, once it has done it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The shard that it has.
    pub shard: u32,
    /// What holds everything, and why; empty where it goes on.
    pub on_hold: BTreeMap<String, String>,
    /// What held it back in the last second; nothing where requests hardly waited.
    pub limited_by: Option<String>,
    /// Writes per second of this shard that were set; nothing where none were.
    pub rate: Option<f64>,
    /// Writes per second that may be sent: the rate, or the less that the store takes; nothing where nothing limits them.
    pub rate_now: Option<f64>,
    /// Requests of this shard that may be on the wire.
    pub in_flight_max: usize,
    /// Rows of the shard.
    pub total: u64,
    /// Rows that succeeded.
    pub succeeded: u64,
    /// Rows that were skipped.
    pub skipped: u64,
    /// Rows that failed.
    pub failed: u64,
}

/// What is sent back: the answer, or what is wrong with the question.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ok(Answer),
    Error(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settled = self.succeeded + self.skipped + self.failed;
        let rows = human::count_of(self.total, "row");
        write!(
            f,
            "shard {}: {} of {rows}, {} failed",
            self.shard,
            human::count(settled),
            human::count(self.failed)
        )?;
        let rate =
            |rate: Option<f64>| rate.map_or_else(|| NONE.to_owned(), |rate| format!("{rate:.1}/s"));
        write!(
            f,
            ", rate {} (now {})",
            rate(self.rate),
            rate(self.rate_now)
        )?;
        write!(f, ", at most {} on the wire", self.in_flight_max)?;
        if self.on_hold.is_empty() {
            return match &self.limited_by {
                Some(limit) => write!(f, ", limited by {limit}"),
                None => f.write_str(", not limited"),
            };
        }
        for (by, why) in &self.on_hold {
            write!(
                f,
                ", on hold ({by}): {}",
                human::sanitize(why, WHY_CHARS_MAX)
            )?;
        }
        Ok(())
    }
}

/// Where a runner listens. The socket goes with this.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at a path. A socket that a runner has left there which was killed is removed; nothing else is.
    ///
    /// # Errors
    /// Nobody can listen there, or somebody does; the system allows paths of some hundred bytes only.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if is_left_behind(path) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves whoever asks, for ever.
    pub async fn serve(&self, answer: impl Fn(Command) -> Answer) {
        let mut replies = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if replies.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => replies.push(timeout(QUESTION_TIME_MAX, reply(stream, &answer))),
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                // Whoever hangs up, or says nothing, has no answer.
                Some(_) = replies.next() => {}
            }
        }
    }
}

/// Whether there is a socket at a path, and nobody behind it.
fn is_left_behind(path: &Path) -> bool {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let nobody = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(nobody)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn reply(mut stream: UnixStream, answer: impl Fn(Command) -> Answer) -> io::Result<()> {
    let line = read_line(&mut stream).await?;
    let reply = match line.parse() {
        Ok(command) => Reply::Ok(answer(command)),
        Err(error) => Reply::Error(error),
    };
    let mut told = serde_json::to_string(&reply)?;
    told.push('\n');
    stream.write_all(told.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(LINE_BYTES_MAX);
    reader.read_line(&mut line).await?;
    match line.ends_with('\n') {
        true => Ok(line),
        false => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "no whole line",
        )),
    }
}

/// Why a runner could not be told.
#[derive(Debug, Error)]
pub enum AskError {
    /// There is no socket, or nobody behind it.
    #[error("nobody listens at {}", .0.display())]
    Nobody(PathBuf),
    /// It did not answer, or not in time.
    #[error("{}: {source}", .path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Tells a runner something, and returns its answer.
///
/// # Errors
/// Nobody listens, or answers.
pub async fn ask(path: &Path, command: Command) -> Result<Answer, AskError> {
    let told = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let line = read_line(&mut stream).await?;
        match serde_json::from_str(&line)? {
            Reply::Ok(answer) => Ok(answer),
            // A runner of another version may know other commands.
            Reply::Error(why) => Err(io::Error::new(io::ErrorKind::InvalidInput, why)),
        }
    };
    let told = match timeout(ANSWER_TIME_MAX, told).await {
        Ok(told) => told,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    told.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::Nobody(path.to_owned())
        }
        _ => AskError::NoAnswer {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_command_is_written_as_it_is_read() {
        for text in [
            "pause",
            "resume",
            "status",
            "rate=500",
            "rate=none",
            "concurrency=4096",
        ] {
            assert_eq!(text.parse::<Command>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "stop",
            "rate",
            "rate=0",
            "rate=fast",
            "rate=-1",
            "concurrency=0",
            "concurrency=4097",
            "pause=1",
        ] {
            let error = bad.parse::<Command>().unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_whatever_came_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        assert!(matches!(
            ask(&path, Command::Status).await,
            Err(AskError::Nobody(_))
        ));
        // A runner that was killed leaves its socket.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = Socket::bind(&path).expect_err("somebody listens");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let file = folder.path().join("precious");
        std::fs::write(&file, "mine").unwrap();
        assert!(Socket::bind(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        let heard = RefCell::new(Vec::new());
        let serve = socket.serve(|command| {
            heard.borrow_mut().push(command);
            Answer::default()
        });
        let asked = async {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX - 1 {
                silent.push(UnixStream::connect(&path).await.unwrap());
            }
            let mut rude = UnixStream::connect(&path).await.unwrap();
            rude.write_all(b"pau").await.unwrap();
            drop(rude);
            let mut long = UnixStream::connect(&path).await.unwrap();
            let _ = long
                .write_all(&vec![b'x'; 2 * LINE_BYTES_MAX as usize])
                .await;
            let mut wrong = UnixStream::connect(&path).await.unwrap();
            wrong.write_all(b"stop\n").await.unwrap();
            let error = read_line(&mut wrong).await.unwrap();
            assert!(error.contains("none of pause"), "{error}");
            ask(&path, Command::Pause).await.unwrap()
        };
        tokio::select! {
            answer = asked => assert_eq!(answer, Answer::default()),
            () = serve => unreachable!("it serves for ever"),
        }
        assert_eq!(heard.into_inner(), [Command::Pause]);
        drop(socket);
        assert!(!path.exists());
    }
}
