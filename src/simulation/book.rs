//! The state of a simulated job, and what is durable of it.
//!
//! Three kinds: one in memory that behaves as a directory, which one runner has for itself and where a failed write is the last; one
//! in memory where several may write and nothing but the number tells who leads; and the real one in S3, over the same line as the
//! objects.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::wire::By;
use super::world::World;
use crate::checkpoint::Checkpoint;
use crate::event::Operation;
use crate::evidence::Left;
use crate::journal::memory::{self, MemoryStore};
use crate::journal::{
    Batch, Hold, Log, Mark, Record, Replay, S3Store, StateError, StateRoot, Store, Writer,
};
use crate::outcome::TaskOutcome;
use crate::s3_error::S3Error;
use crate::shard::Shard;

pub const JOB: &str = "simulated";
const FOLDER: &str = "shard-0";
/// How long a runner waits for a state that does not answer. Longer than those of a scenario stay away.
const MAX_STALL: Duration = Duration::from_secs(600);

/// What the state is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory, for one runner at a time.
    Directory,
    /// Memory, for whoever has the next number.
    Shared,
    /// The simulated S3.
    S3,
}

/// The bucket of a state in S3.
pub const BUCKET: &str = "state";
const PREFIX: &str = "of/the/job";

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not written, and the error says so.
    Refused,
    /// It is written, and the error says that it was not.
    AnswerLost,
}

/// What is durable.
#[derive(Debug, Default)]
pub struct Durable {
    /// The header, once it is there.
    header: Option<Vec<u8>>,
    batches: u64,
    pub replay: Replay,
    pub outcomes: BTreeMap<u64, TaskOutcome>,
    /// Uploads that were written down.
    pub uploads: BTreeSet<String>,
    /// What rewrites have left of which there is evidence, by their rows.
    pub rewritten: Vec<(u64, Left)>,
    /// Rows whose versions were written down.
    pub piles: BTreeSet<u64>,
}

/// The state of the job.
#[derive(Default)]
pub struct Book {
    pub store: MemoryStore,
    durable: Mutex<Durable>,
}

impl Durable {
    fn take(&mut self, frame: &[u8]) {
        let Some(header) = &self.header else {
            self.header = Some(frame.to_vec());
            return;
        };
        self.batches += 1;
        for record in memory::records_of(header, self.batches, frame) {
            match &record {
                Record::Settled { row, outcome } => {
                    self.outcomes.entry(*row).or_insert(outcome.clone());
                }
                Record::Checkpoint {
                    checkpoint: Checkpoint::Upload { upload_id, .. },
                    ..
                } => {
                    self.uploads.insert(upload_id.clone());
                }
                Record::Rewritten { row, rewritten } => {
                    self.rewritten.push((*row, rewritten.left()));
                }
                Record::Checkpoint {
                    row,
                    checkpoint: Checkpoint::Restack { .. },
                } => {
                    self.piles.insert(*row);
                }
                _ => {}
            }
            self.replay.apply(&record);
        }
    }
}

impl Book {
    fn durable(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().expect("nobody has panicked")
    }

    /// Looks something up in what is durable by now.
    pub fn look<T>(&self, at: impl FnOnce(&Durable) -> T) -> T {
        let mut durable = self.durable();
        let have = durable.batches + u64::from(durable.header.is_some());
        for frame in self.store.frames(FOLDER, have as usize) {
            durable.take(&frame);
        }
        at(&durable)
    }

    /// Takes an object that was made in S3; whether it belongs to the journal, but as its header.
    pub fn landed(&self, key: &str, bytes: &[u8]) -> bool {
        let journal = format!("{PREFIX}/{FOLDER}/journal/");
        let number = key.strip_prefix(&journal).map(str::parse::<u64>);
        let Some(Ok(number)) = number else {
            return false;
        };
        let mut durable = self.durable();
        let next = durable.batches + u64::from(durable.header.is_some());
        assert_eq!(next, number, "a batch out of its order");
        durable.take(bytes);
        next > 0
    }
}

/// The state as one runner gets to it.
pub struct Runners {
    world: Arc<World>,
    runner: u32,
}

/// Makes sure beforehand that the store can keep a state: that takes requests.
pub async fn found(world: &Arc<World>) {
    let s3 = world.store(By::Judge);
    S3Store::open(s3, BUCKET, PREFIX).await.expect("a state");
}

/// Takes the journal over.
pub async fn open(world: &Arc<World>, runner: u32) -> Result<(Replay, Writer), StateError> {
    let root = if world.scenario.state == Kind::S3 {
        let s3 = world.store(By::Runner(runner));
        StateRoot::on(S3Store::open(s3, BUCKET, PREFIX).await?)
    } else {
        StateRoot::on(Runners {
            world: Arc::clone(world),
            runner,
        })
    };
    let state = root.take(Shard::ONLY).await?;
    state.journal(JOB, MAX_STALL).await
}

impl Runners {
    fn inner(&self) -> &MemoryStore {
        &self.world.book.store
    }

    async fn step(&self, what: &str) {
        self.world.step(self.runner, || what.to_owned()).await;
    }
}

#[async_trait]
impl Store for Runners {
    fn place(&self, name: &str) -> String {
        self.inner().place(name)
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.inner().read(name).await
    }

    async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        self.step(&format!("writes {name}")).await;
        self.inner().replace(name, bytes).await
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StateError> {
        self.inner().create(name, bytes).await
    }

    async fn hold(&self, folder: &str) -> Result<Hold, StateError> {
        self.inner().hold(folder).await
    }

    async fn log(&self, folder: &str, job_id: &str) -> Result<Box<dyn Log>, StateError> {
        self.step("opens the journal").await;
        Ok(Box::new(RunnersLog {
            world: Arc::clone(&self.world),
            runner: self.runner,
            log: self.inner().log(folder, job_id).await?,
            failed: false,
        }))
    }

    async fn peek(&self, folder: &str) -> Result<Option<Box<dyn Log>>, StateError> {
        self.inner().peek(folder).await
    }

    async fn file(&self, folder: &str, scratch: &Path) -> Result<Option<PathBuf>, StateError> {
        self.inner().file(folder, scratch).await
    }

    async fn last_written(&self, folder: &str) -> Result<Option<Duration>, StateError> {
        self.inner().last_written(folder).await
    }
}

struct RunnersLog {
    world: Arc<World>,
    runner: u32,
    log: Box<dyn Log>,
    /// An exclusive log after its first failed write.
    failed: bool,
}

impl RunnersLog {
    fn error(&mut self) -> StateError {
        if self.is_exclusive() {
            self.failed = true;
            return StateError::Io {
                action: "write",
                place: "the journal".to_owned(),
                source: Arc::new(io::Error::other("simulated")),
            };
        }
        let error = S3Error::no_answer(Operation::HeadObject, "simulated".to_owned());
        StateError::Store {
            action: "write",
            place: "the journal".to_owned(),
            source: Arc::new(error),
        }
    }
}

#[async_trait]
impl Log for RunnersLog {
    fn place(&self) -> &str {
        self.log.place()
    }

    fn job_id(&self) -> &str {
        self.log.job_id()
    }

    fn is_exclusive(&self) -> bool {
        self.world.scenario.state == Kind::Directory
    }

    fn commit_interval(&self) -> Duration {
        self.log.commit_interval()
    }

    async fn skip_to(&mut self, mark: Mark) -> Result<(), StateError> {
        self.log.skip_to(mark).await
    }

    async fn next(&mut self) -> Result<Option<Batch>, StateError> {
        self.log.next().await
    }

    fn mark(&self) -> Mark {
        self.log.mark()
    }

    fn torn_bytes(&self) -> u64 {
        self.log.torn_bytes()
    }

    async fn recover(&mut self) -> Result<(), StateError> {
        self.log.recover().await
    }

    async fn append(&mut self, payload: Vec<u8>) -> Result<bool, StateError> {
        assert!(!self.failed, "a write after one that failed");
        let number = self.log.mark().batches + 1;
        self.world
            .step(self.runner, || format!("appends batch {number}"))
            .await;
        let (fault, there, back) = self.world.journal_weather();
        tokio::time::sleep(there).await;
        if self.is_exclusive() && !self.world.lives(self.runner) {
            // The lock is another's by now.
            std::future::pending::<()>().await;
        }
        let done = match fault {
            None => {
                let is_ours = self.log.append(payload).await?;
                if is_ours {
                    self.world.ledger().leads_by_batch(self.runner, number);
                }
                Ok(is_ours)
            }
            Some(Fault::Refused) => Err(self.error()),
            Some(Fault::AnswerLost) => {
                let mut other = self.world.book.store.log(FOLDER, JOB).await?;
                other.skip_to(self.log.mark()).await?;
                if other.append(payload).await? {
                    self.world.ledger().leads_by_batch(self.runner, number);
                }
                Err(self.error())
            }
        };
        tokio::time::sleep(back).await;
        self.world
            .step(self.runner, || format!("batch {number}: {done:?}"))
            .await;
        done
    }
}
