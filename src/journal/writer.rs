//! The writer: a task that makes records durable in groups.
//!
//! One sync costs milliseconds and a journal gets thousands of records a second, so they share it: the task waits for the
//! first record, collects for a while or until [`COMMIT_BYTES`] are there, commits one batch, and tells through a watch how far
//! everything is durable. Whoever appends is never held up: it is the engine that runs on one thread.
//!
//! While the store does not answer, the task waits and tries again, and says so; nothing is durable meanwhile. After any other
//! failure it ends for good, and nothing after is ever reported durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::record::{self, RECORD_BYTES_MAX, Record};
use super::replay::Replay;
use super::store::{Hold, Log, Mark, Store};
use super::{COMMIT_BYTES, COMMIT_INTERVAL, StateError, frame, snapshot};

const _: () = assert!(COMMIT_BYTES + RECORD_BYTES_MAX <= frame::PAYLOAD_BYTES_MAX);

/// Before a batch is tried again that the store did not answer; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a batch is tried again.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A store that has not answered for so long is a stall; before, it only stutters.
const STALL_AFTER: Duration = Duration::from_secs(1);

/// How long the writer of a journal that is being closed still waits for a store that does not answer.
const CLOSE_STALL_MAX: Duration = Duration::from_secs(5);

/// How old the last proof may be that this runner is still the one. Whoever has been stopped for longer finds out before it
/// changes anything.
pub const LEADER_PROOF_AGE_MAX: Duration = Duration::from_secs(5);

/// A snapshot is written at the end of a run where so many batches have come since the last: the next run, and whoever
/// asks how things stand, need not read them.
pub(super) const SNAPSHOT_AT_END_BATCHES: u64 = 16;

/// How far the journal is durable.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Every record up to this sequence number, inclusive, is durable.
    pub sequence: u64,
    /// Why nothing more will be.
    pub failed: Option<Arc<StateError>>,
    /// Why nothing is for the moment.
    pub stalled: Option<Arc<StateError>>,
    /// When the last batch that is durable was sent first.
    proven: Proof,
}

/// A moment at which this runner was the one, on both clocks: the one stands still while a machine sleeps, the other can be set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    at: Instant,
    by_the_wall: SystemTime,
}

impl Proof {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            by_the_wall: SystemTime::now(),
        }
    }

    fn is_fresh(&self) -> bool {
        let by_the_wall = self.by_the_wall.elapsed();
        self.at.elapsed() <= LEADER_PROOF_AGE_MAX
            && by_the_wall.is_ok_and(|age| age <= LEADER_PROOF_AGE_MAX)
    }
}

/// Appends to a journal.
///
/// Dropping it has the task write what is left, like [`close`](Self::close), but nobody waits for it.
pub struct Writer {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    sequence: u64,
    task: Option<JoinHandle<()>>,
    is_exclusive: bool,
}

impl Writer {
    /// Goes on where a journal that has been taken over ends. Inside a runtime.
    pub(super) fn start(committer: Committer) -> Self {
        let shared = Arc::new(Shared::default());
        let (told, progress) = watch::channel(Progress {
            sequence: 0,
            failed: None,
            stalled: None,
            proven: committer.proven,
        });
        let is_exclusive = committer.log.is_exclusive();
        let task = tokio::spawn(committer.run(Arc::clone(&shared), told));
        Self {
            shared,
            progress,
            sequence: 0,
            task: Some(task),
            is_exclusive,
        }
    }

    /// Takes a record to be written, and returns its sequence number, counted from 1 in each run. Never waits; after a failure it
    /// only keeps the record in memory. The record counts once [`durable`](Self::durable) has reached the number.
    pub fn append(&mut self, record: &Record) -> u64 {
        self.sequence += 1;
        let mut queue = self.shared.lock();
        if queue.push(record, self.sequence) {
            self.shared.wake.notify_one();
        }
        self.sequence
    }

    /// Tells how far everything is durable.
    pub fn durable(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// How many records wait to become durable. Keep it below
    /// [`PENDING_RECORDS_MAX`](super::PENDING_RECORDS_MAX).
    pub fn pending(&self) -> u64 {
        self.sequence - self.progress.borrow().sequence
    }

    /// Whether the store does not answer for the moment, so that nothing more should be begun.
    pub fn is_stalled(&self) -> bool {
        self.progress.borrow().stalled.is_some()
    }

    /// What tells tasks whether this runner is still the one.
    pub fn leader(&self) -> Leader {
        Leader {
            shared: Arc::clone(&self.shared),
            progress: self.progress.clone(),
            turn: Arc::default(),
            is_exclusive: self.is_exclusive,
        }
    }

    /// Makes what is left durable, and ends the task.
    ///
    /// # Errors
    ///
    /// The first that a write met, now or earlier.
    pub async fn close(mut self) -> Result<(), StateError> {
        self.shared.close();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        let failed = self.progress.borrow().failed.clone();
        failed.map_or(Ok(()), |error| Err(StateError::clone(&error)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Whether this runner is still the one that holds the state.
#[derive(Clone)]
pub struct Leader {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    /// Of those who wait for a proof one asks, and the others have theirs after it in the order in which they came.
    turn: Arc<tokio::sync::Mutex<()>>,
    is_exclusive: bool,
}

impl Leader {
    /// Whether it has been proven, not longer than [`LEADER_PROOF_AGE_MAX`] ago, that nobody has taken the state over.
    pub fn is_proven(&self) -> bool {
        let told = self.progress.borrow();
        told.failed.is_none() && (self.is_exclusive || told.proven.is_fresh())
    }

    /// Returns once it has been proven anew, by a batch that is sent after this call, that nobody has taken the state over: what
    /// came before it was nobody else's doing. For what is believed for good, where [`confirm`](Self::confirm)'s few seconds are
    /// too much.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub async fn prove(&self) -> Result<(), Arc<StateError>> {
        let asked = Instant::now();
        if !self.is_exclusive {
            self.shared.lock().proof_wanted = true;
            self.shared.wake.notify_one();
        }
        let is_known = |told: &Progress| told.failed.is_some() || told.proven.at >= asked;
        let mut progress = self.progress.clone();
        let known = progress.wait_for(|told| self.is_exclusive || is_known(told));
        match known.await {
            Ok(told) => told.failed.clone().map_or(Ok(()), Err),
            Err(_) => Err(Arc::new(StateError::Closed)),
        }
    }

    /// Returns once it has been proven, not longer than [`LEADER_PROOF_AGE_MAX`] ago, that nobody has taken the state over: mostly at
    /// once. To be asked before everything that changes an object.
    ///
    /// A proof that was asked for can be too old when it comes: the store took long, or this process was stopped meanwhile. Then
    /// another one is asked for.
    ///
    /// # Errors
    /// Somebody has, or the state can't be written any more.
    pub async fn confirm(&self) -> Result<(), Arc<StateError>> {
        if let Some(known) = self.known() {
            return known;
        }
        let _turn = self.turn.lock().await;
        loop {
            if let Some(known) = self.known() {
                return known;
            }
            self.prove().await?;
        }
    }

    /// Whether it is the one, as far as that is known without asking.
    fn known(&self) -> Option<Result<(), Arc<StateError>>> {
        let told = self.progress.borrow();
        match &told.failed {
            Some(failed) => Some(Err(Arc::clone(failed))),
            None => (self.is_exclusive || told.proven.is_fresh()).then_some(Ok(())),
        }
    }
}

/// What the task has: a journal that was read to its end and taken over.
pub(super) struct Committer {
    pub(super) log: Box<dyn Log>,
    pub(super) store: Arc<dyn Store>,
    /// The shard's.
    pub(super) folder: String,
    /// The record with which this runner took over. Written again, it proves that nobody has since.
    pub(super) epoch: Record,
    /// When it was sent.
    pub(super) proven: Proof,
    /// What the durable batches say.
    pub(super) fold: Replay,
    /// Where the last snapshot is.
    pub(super) snapshot: Mark,
    pub(super) max_stall: Duration,
    /// The state is another runner's only after the last write.
    pub(super) _hold: Hold,
}

impl Committer {
    /// Until it is closed and everything is written, or something fails.
    async fn run(mut self, shared: Arc<Shared>, told: watch::Sender<Progress>) {
        let interval = self.log.commit_interval();
        while let Some(mut batch) = shared.next_batch(interval).await {
            if batch.payload.is_empty() {
                record::encode(&self.epoch, &mut batch.row_before, &mut batch.payload);
            }
            match self.commit(batch.payload, &shared, &told).await {
                Ok(proven) => {
                    told.send_modify(|progress| {
                        progress.sequence = batch.last.unwrap_or(progress.sequence);
                        progress.stalled = None;
                        progress.proven = proven;
                    });
                    if !self.log.is_exclusive() && !proven.is_fresh() {
                        tracing::warn!(
                            "the state {} took {} s to keep a batch: no object is changed before one took less than {} s",
                            self.log.place(),
                            proven.at.elapsed().as_secs(),
                            LEADER_PROOF_AGE_MAX.as_secs()
                        );
                    }
                }
                Err(error) => {
                    told.send_modify(|progress| progress.failed = Some(Arc::new(error)));
                    return;
                }
            }
            if snapshot::is_due(self.snapshot, self.log.mark()) {
                self.take_snapshot().await;
            }
        }
        if self.log.mark().batches - self.snapshot.batches >= SNAPSHOT_AT_END_BATCHES {
            self.take_snapshot().await;
        }
    }

    /// Makes a batch durable, for as long as that takes within the bound.
    async fn commit(
        &mut self,
        payload: Vec<u8>,
        shared: &Shared,
        told: &watch::Sender<Progress>,
    ) -> Result<Proof, StateError> {
        let (began, max_stall) = (Instant::now(), self.max_stall);
        let stalled = |error| {
            if began.elapsed() >= STALL_AFTER {
                told.send_modify(|progress| progress.stalled = Some(Arc::new(error)));
            }
            match shared.lock().closed {
                true => max_stall.min(CLOSE_STALL_MAX),
                false => max_stall,
            }
        };
        match append_patiently(self.log.as_mut(), &payload, stalled).await? {
            Some(sent) => {
                self.fold_in(&payload);
                Ok(sent)
            }
            None => Err(StateError::Replaced {
                place: self.log.place().to_owned(),
            }),
        }
    }

    fn fold_in(&mut self, payload: &[u8]) {
        for record in record::Records::new(payload, record::Position::default()) {
            self.fold
                .apply(&record.expect("what was encoded can be decoded"));
        }
        self.fold.mark = self.log.mark();
    }

    /// A snapshot only saves time: where it can't be written, the next run reads more.
    async fn take_snapshot(&mut self) {
        let mark = self.log.mark();
        let written = snapshot::write(self.store.as_ref(), &self.folder, mark, &self.fold).await;
        if let Err(error) = written {
            tracing::warn!("no snapshot of the journal was written: {error}");
        }
        // After a failure too: not before each batch.
        self.snapshot = mark;
    }
}

/// Appends a batch to a log that may not answer for a while. Tells when it was sent first; `None` where its number is somebody
/// else's. `stalled` is told of each error that may pass, and says how long to bear with them.
///
/// First, and not when the attempt was sent that was answered: what made the batch durable may be an earlier one whose answer got
/// lost, and another runner may have followed it since.
pub(super) async fn append_patiently(
    log: &mut dyn Log,
    payload: &[u8],
    mut stalled: impl FnMut(StateError) -> Duration + Send,
) -> Result<Option<Proof>, StateError> {
    let sent_first = Proof::now();
    let mut wait = RETRY_FIRST;
    loop {
        match log.append(payload.to_vec()).await {
            Ok(is_ours) => return Ok(is_ours.then_some(sent_first)),
            Err(error) if error.is_passing() => {
                if sent_first.at.elapsed() + wait > stalled(error.clone()) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// What the task and its owner share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    /// What is to be written; only the last one grows. The engine bounds them, see
    /// [`PENDING_RECORDS_MAX`](super::PENDING_RECORDS_MAX).
    batches: VecDeque<Batch>,
    /// Somebody waits for a proof that this runner is still the one.
    proof_wanted: bool,
    closed: bool,
}

/// The payload of a batch to be.
#[derive(Default)]
struct Batch {
    payload: Vec<u8>,
    row_before: u64,
    /// The sequence number of its last record.
    last: Option<u64>,
    /// A task or the admission waits for one of its records.
    is_urgent: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.payload.len() >= COMMIT_BYTES
    }
}

impl Queue {
    /// Whether the task has a reason to wake up: there is something, enough of it, or something urgent.
    fn push(&mut self, record: &Record, sequence: u64) -> bool {
        let mut wakes = false;
        if self.batches.back().is_none_or(Batch::is_full) {
            self.batches.push_back(Batch::default());
            wakes = true;
        }
        let batch = self.batches.back_mut().expect("one was just made sure of");
        record::encode(record, &mut batch.row_before, &mut batch.payload);
        batch.last = Some(sequence);
        if record.is_waited_for() && !batch.is_urgent {
            batch.is_urgent = true;
            wakes = true;
        }
        wakes || batch.is_full()
    }

    fn is_idle(&self) -> bool {
        self.batches.is_empty() && !self.proof_wanted && !self.closed
    }

    /// How long the first batch may wait for more records.
    fn patience(&self, interval: Duration) -> Duration {
        let first = self.batches.front();
        if self.closed || self.proof_wanted || first.is_some_and(Batch::is_full) {
            Duration::ZERO
        } else if first.is_some_and(|batch| batch.is_urgent) {
            interval.min(COMMIT_INTERVAL)
        } else {
            interval
        }
    }
}

impl Shared {
    /// Nothing that holds the lock can leave the queue half-changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for records, and for more to join them; `None` once closed and empty. One without records is a proof that is wanted.
    async fn next_batch(&self, interval: Duration) -> Option<Batch> {
        while self.lock().is_idle() {
            self.wake.notified().await;
        }
        let began = Instant::now();
        loop {
            let until = began + self.lock().patience(interval);
            if Instant::now() >= until {
                break;
            }
            // Whoever wakes it may have shortened the wait.
            let _ = tokio::time::timeout_at(until, self.wake.notified()).await;
        }
        let mut queue = self.lock();
        let batch = queue.batches.pop_front();
        let proof_wanted = std::mem::take(&mut queue.proof_wanted);
        batch.or_else(|| proof_wanted.then(Batch::default))
    }
}
