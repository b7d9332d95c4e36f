//! The writer: a thread that makes records durable in groups.
//!
//! One sync costs milliseconds and a journal gets thousands of records a second, so they share it: the thread waits for the
//! first record, collects for [`COMMIT_INTERVAL`] or until [`COMMIT_BYTES`] are there, writes one frame, syncs, and tells
//! through a watch how far everything is durable. Whoever appends is never held up: it is the engine that runs on one thread.
//!
//! After a failed write or sync the thread ends for good, and nothing after is ever reported durable.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::frame::{self, Frames};
use super::record::{self, RECORD_BYTES_MAX, Record};
use super::storage::Storage;
use super::{COMMIT_BYTES, COMMIT_INTERVAL, StateError};

const _: () = assert!(COMMIT_BYTES + RECORD_BYTES_MAX <= frame::PAYLOAD_BYTES_MAX);

/// How far the journal is durable.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Every record up to this sequence number, inclusive, is on the disk.
    pub sequence: u64,
    /// Why nothing more will be.
    pub failed: Option<Arc<StateError>>,
}

/// Appends to a journal.
///
/// Dropping it writes what is left, like [`close`](Self::close), but tells nobody whether that worked.
pub struct Writer {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    sequence: u64,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Goes on where `frames`, read to their end, end.
    pub(super) fn start(frames: Frames, lock: Option<Arc<File>>) -> Result<Self, StateError> {
        let place = frames.storage().place().to_owned();
        let log = Log::open(frames)?;
        let shared = Arc::new(Shared::default());
        let (told, progress) = watch::channel(Progress::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                write_batches(&of_thread, log, &told);
                // The state is another runner's only after the last write.
                drop(lock);
            })
            .map_err(|error| StateError::io("start the writer of", place, error))?;
        Ok(Self {
            shared,
            progress,
            sequence: 0,
            thread: Some(thread),
        })
    }

    /// Takes a record to be written, and returns its sequence number, counted from 1 in each run. Never blocks on the
    /// disk; after a failure it only keeps the record in memory. The record counts once [`durable`](Self::durable) has reached the number.
    pub fn append(&mut self, record: &Record) -> u64 {
        self.sequence += 1;
        let mut queue = self.shared.lock();
        if queue.push(record, self.sequence) {
            self.shared.wake.notify_one();
        }
        self.sequence
    }

    /// Tells how far everything is on the disk.
    pub fn durable(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// How many records wait to become durable. Keep it below
    /// [`PENDING_RECORDS_MAX`](super::PENDING_RECORDS_MAX).
    pub fn pending(&self) -> u64 {
        self.sequence - self.progress.borrow().sequence
    }

    /// Writes and syncs what is left, and ends the thread. Blocks for that long: one sync, mostly.
    ///
    /// # Errors
    ///
    /// The first that a write or a sync met, now or earlier.
    pub fn close(mut self) -> Result<(), StateError> {
        self.finish();
        let failed = self.progress.borrow().failed.clone();
        failed.map_or(Ok(()), |error| Err(StateError::clone(&error)))
    }

    fn finish(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread: until it is closed and everything is written, or something fails.
fn write_batches(shared: &Shared, mut log: Log, told: &watch::Sender<Progress>) {
    while let Some(batch) = shared.next_batch() {
        match log.commit(&batch.payload) {
            Ok(()) => told.send_modify(|progress| progress.sequence = batch.last),
            Err(error) => {
                told.send_modify(|progress| progress.failed = Some(Arc::new(error)));
                return;
            }
        }
    }
}

/// The end of a journal.
struct Log {
    storage: Box<dyn Storage>,
    seed: u32,
    next_number: u64,
}

impl Log {
    /// Cuts off a torn tail. Syncs even where there is none: what a killed process wrote can be read, and need not be
    /// durable yet.
    fn open(frames: Frames) -> Result<Self, StateError> {
        let (seed, next_number) = (frames.seed(), frames.count() + 1);
        let (end, torn) = (frames.offset(), frames.rest() > 0);
        let mut storage = frames.into_storage();
        let cut = if torn { storage.truncate(end) } else { Ok(()) };
        cut.and_then(|()| storage.sync())
            .map_err(|error| StateError::io("recover", storage.place(), error))?;
        Ok(Self {
            storage,
            seed,
            next_number,
        })
    }

    /// Makes a batch durable. After an error the log must not be used any more.
    fn commit(&mut self, payload: &[u8]) -> Result<(), StateError> {
        if payload.is_empty() {
            return Ok(());
        }
        let frame = frame::frame(self.seed, self.next_number, payload);
        self.storage
            .append(&frame)
            .map_err(|error| StateError::io("write", self.storage.place(), error))?;
        self.storage
            .sync()
            .map_err(|error| StateError::io("sync", self.storage.place(), error))?;
        self.next_number += 1;
        Ok(())
    }
}

/// What the thread and its owner share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// What is to be written; only the last one grows. The engine bounds them, see
    /// [`PENDING_RECORDS_MAX`](super::PENDING_RECORDS_MAX).
    batches: VecDeque<Batch>,
    closed: bool,
}

/// The payload of a frame to be.
#[derive(Default)]
struct Batch {
    payload: Vec<u8>,
    row_before: u64,
    /// The sequence number of its last record.
    last: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.payload.len() >= COMMIT_BYTES
    }
}

impl Queue {
    /// Whether the thread has a reason to wake up: there is something, or enough of it.
    fn push(&mut self, record: &Record, sequence: u64) -> bool {
        let mut begun = false;
        if self.batches.back().is_none_or(Batch::is_full) {
            self.batches.push_back(Batch::default());
            begun = true;
        }
        let batch = self.batches.back_mut().expect("one was just made sure of");
        record::encode(record, &mut batch.row_before, &mut batch.payload);
        batch.last = sequence;
        begun || batch.is_full()
    }

    /// Whether the first batch need not wait for more records.
    fn is_ripe(&self) -> bool {
        self.closed || self.batches.front().is_some_and(Batch::is_full)
    }
}

impl Shared {
    /// Nothing that holds the lock can leave the queue half-changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for records, and for more to join them; `None` once closed and empty.
    fn next_batch(&self) -> Option<Batch> {
        let idle = |queue: &mut Queue| queue.batches.is_empty() && !queue.closed;
        let queue = self.wake.wait_while(self.lock(), idle);
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let growing = |queue: &mut Queue| !queue.batches.is_empty() && !queue.is_ripe();
        let waited = self
            .wake
            .wait_timeout_while(queue, COMMIT_INTERVAL, growing);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.batches.pop_front()
    }
}
