//! A state in memory, for tests: it outlives its runners, loses what they had not made durable, and fails when it is told to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::frame::{self, Header};
use super::record::{Position, Record, Records};
use super::store::{Batch, Hold, Log, Mark, Store};
use super::{COMMIT_INTERVAL, StateError};

/// What happens to one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is refused for the moment, and nothing is written.
    Refused,
    /// It is written, and the answer says that it was not.
    AnswerLost,
    /// It is not written, and never answered: the runner dies here.
    Dies,
    /// It is written, and never answered: the runner dies here.
    DiesAfter,
}

type Plan = Box<dyn FnMut(u64) -> Fault + Send>;

#[derive(Default)]
struct World {
    documents: BTreeMap<String, Vec<u8>>,
    /// The frames of each folder's journal; the first is the header.
    frames: BTreeMap<String, Vec<Vec<u8>>>,
    appends: u64,
    plan: Option<Plan>,
    /// Documents that are to be replaced wait for ever.
    is_stuck: bool,
}

/// A state in memory. Clones are the same state, as seen by another runner.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<World>>);

impl MemoryStore {
    /// Decides what happens to each append from now on, by its number, counted from 1 over all runners.
    pub(crate) fn plan(&self, plan: impl FnMut(u64) -> Fault + Send + 'static) {
        self.0.lock().unwrap().plan = Some(Box::new(plan));
    }

    /// From now on no document is replaced, and whoever tries has no answer.
    pub(crate) fn get_stuck(&self) {
        self.0.lock().unwrap().is_stuck = true;
    }

    /// How many appends there were.
    pub(crate) fn appends(&self) -> u64 {
        self.0.lock().unwrap().appends
    }

    /// Removes a document.
    pub(crate) fn forget(&self, name: &str) -> bool {
        self.0.lock().unwrap().documents.remove(name).is_some()
    }

    /// The journal of a folder as one file.
    pub(crate) fn bytes(&self, folder: &str) -> Vec<u8> {
        self.0.lock().unwrap().frames[folder].concat()
    }

    /// The frames of a folder's journal that come after so many; the first is the header.
    pub(crate) fn frames(&self, folder: &str, after: usize) -> Vec<Vec<u8>> {
        let world = self.0.lock().unwrap();
        let frames = world.frames.get(folder);
        frames.map_or_else(Vec::new, |frames| {
            frames.iter().skip(after).cloned().collect()
        })
    }

    fn open(&self, folder: &str) -> Option<MemoryLog> {
        let world = self.0.lock().unwrap();
        let header = world.frames.get(folder)?.first()?;
        let Header { job_id, seed, .. } = Header::parse("memory", header).expect("made by this");
        Some(MemoryLog {
            store: self.clone(),
            folder: folder.to_owned(),
            job_id,
            seed,
            mark: Mark {
                batches: 0,
                bytes: header.len() as u64,
            },
        })
    }
}

/// What a frame of the journal with that header says.
pub(crate) fn records_of(header: &[u8], number: u64, frame: &[u8]) -> Vec<Record> {
    let header = Header::parse("memory", header).expect("a header");
    let payload = frame::payload(header.seed, number, frame).expect("a frame");
    let records = Records::new(payload, Position::default());
    records.map(|record| record.expect("a record")).collect()
}

#[async_trait]
impl Store for MemoryStore {
    fn place(&self, name: &str) -> String {
        format!("memory/{name}")
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.lock().unwrap().documents.get(name).cloned())
    }

    async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        if self.0.lock().unwrap().is_stuck {
            std::future::pending().await
        }
        let mut world = self.0.lock().unwrap();
        world.documents.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StateError> {
        let mut world = self.0.lock().unwrap();
        let is_new = !world.documents.contains_key(name);
        world.documents.entry(name.to_owned()).or_insert(bytes);
        Ok(is_new)
    }

    async fn hold(&self, _folder: &str) -> Result<Hold, StateError> {
        Ok(Arc::new(()))
    }

    async fn log(&self, folder: &str, job_id: &str) -> Result<Box<dyn Log>, StateError> {
        let mut world = self.0.lock().unwrap();
        let frames = world.frames.entry(folder.to_owned());
        frames.or_insert_with(|| vec![frame::header(job_id)]);
        drop(world);
        Ok(Box::new(self.open(folder).expect("just made")))
    }

    async fn peek(&self, folder: &str) -> Result<Option<Box<dyn Log>>, StateError> {
        Ok(self.open(folder).map(|log| Box::new(log) as Box<dyn Log>))
    }

    async fn file(&self, folder: &str, scratch: &Path) -> Result<Option<PathBuf>, StateError> {
        let path = scratch.join("journal");
        std::fs::write(&path, self.bytes(folder)).unwrap();
        Ok(Some(path))
    }

    async fn last_written(&self, _folder: &str) -> Result<Option<Duration>, StateError> {
        Ok(None)
    }
}

struct MemoryLog {
    store: MemoryStore,
    folder: String,
    job_id: String,
    seed: u32,
    mark: Mark,
}

impl MemoryLog {
    fn passed(&mut self, frame: &[u8]) {
        self.mark.batches += 1;
        self.mark.bytes += frame.len() as u64;
    }
}

#[async_trait]
impl Log for MemoryLog {
    fn place(&self) -> &str {
        "memory"
    }

    fn job_id(&self) -> &str {
        &self.job_id
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn commit_interval(&self) -> Duration {
        COMMIT_INTERVAL
    }

    async fn skip_to(&mut self, mark: Mark) -> Result<(), StateError> {
        self.mark = mark;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>, StateError> {
        let number = self.mark.batches + 1;
        let world = self.store.0.lock().unwrap();
        let frame = world.frames[&self.folder].get(number as usize).cloned();
        drop(world);
        let Some(frame) = frame else { return Ok(None) };
        let payload = frame::payload(self.seed, number, &frame).expect("made by this");
        let batch = Batch {
            number,
            payload_at: self.mark.bytes + (frame.len() - payload.len()) as u64,
            payload: payload.to_vec(),
        };
        self.passed(&frame);
        Ok(Some(batch))
    }

    fn mark(&self) -> Mark {
        self.mark
    }

    fn torn_bytes(&self) -> u64 {
        0
    }

    async fn recover(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    async fn append(&mut self, payload: Vec<u8>) -> Result<bool, StateError> {
        let number = self.mark.batches + 1;
        let frame = frame::frame(self.seed, number, &payload);
        let fault = {
            let mut world = self.store.0.lock().unwrap();
            world.appends += 1;
            let appends = world.appends;
            let plan = world.plan.as_mut();
            let fault = plan.map_or(Fault::None, |plan| plan(appends));
            let frames = world.frames.get_mut(&self.folder).expect("opened");
            if !matches!(fault, Fault::Refused | Fault::Dies) {
                match frames.get(number as usize) {
                    None => frames.push(frame.clone()),
                    Some(there) if *there == frame => {}
                    Some(_) => return Ok(false),
                }
            }
            fault
        };
        match fault {
            Fault::None => {}
            Fault::Refused | Fault::AnswerLost => {
                return Err(StateError::unanswered("write", "memory"));
            }
            Fault::Dies | Fault::DiesAfter => std::future::pending().await,
        }
        self.passed(&frame);
        Ok(true)
    }
}
