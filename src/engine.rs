//! Runs the rows of a manifest: admits them within the bounds, records how each ended, and tells it.
//!
//! One loop owns everything; tasks are futures that it polls, no threads. Three things happen to a row, in this order and
//! with a wait for the disk between them: it is *reserved* (the journal knows that it may have been started), it *runs*, and it
//! is *settled* (the journal knows how it ended). Only then is its outcome told.
//!
//! Admission waits while any of these is full: tasks ([`Settings::tasks`]), outcomes that wait for the disk
//! ([`PENDING_RECORDS_MAX`]; none while the state does not answer), the distance from the lowest unsettled row to the next ([`crate::journal::WINDOW_ROWS_MAX`]).
//!
//! Rows of a key prefix for whose own budget many wait already are set aside, so that they don't keep the others waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::Error;
use crate::event::{Event, Limit};
use crate::evidence::Rewritten;
use crate::journal::{PENDING_RECORDS_MAX, Record, Replay, StateError, WINDOW_ROWS_MAX, Writer};
use crate::limiter::Crowd;
use crate::object::ManifestEntry;
use crate::outcome::{Failure, Tally, TaskOutcome};
use crate::s3_error::S3Error;
use crate::shutdown::{Shutdown, Urgency};
use crate::task::{self, Context, Ended, Note, Start, Unsettled};

/// Rows that are reserved ahead of the one that is admitted next. After a crash so many are looked at as doubtful, and twice as many
/// because the last reservation may be lost.
const RESERVE_ROWS: u64 = 8_192;
/// Rows that are set aside at most. With so many, the others wait too.
const ASIDE_ROWS_MAX: usize = 16_384;
/// Between two records of what holds the job, at least.
const LIMIT_RECORDED_EVERY: Duration = Duration::from_secs(5);
/// Settled rows before the failure threshold is applied. Source: S3 User Guide, "Tracking job status and completion
/// reports": a Batch Operations job is judged once 1,000 tasks have run.
const THRESHOLD_AFTER: u64 = 1_000;

/// Tasks beyond those that may have a request on the wire, as a share of them: while these wait for a permit, for the disk or for their
/// next attempt, the wire stays full.
const TASKS_BEYOND_DIVISOR: usize = 4;

/// How many tasks keep so many requests on the wire.
pub fn tasks_for(requests: usize) -> usize {
    requests + requests.div_ceil(TASKS_BEYOND_DIVISOR)
}

/// Rows as the reader hands them over: many at once, or the error that ended the reading.
pub type Rows = mpsc::Receiver<Result<Vec<ManifestEntry>, Error>>;

/// What the operator set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most tasks at a time, unless the limiter is set to another concurrency. Those that have no request on the wire wait for a permit, or for their next attempt.
    pub tasks: usize,
    /// Share of failed rows, in percent of those that the job has settled, above which it fails. Rows that were refused don't
    /// count as failed.
    pub failure_threshold_percent: u8,
    /// Codes with which no row may fail: the first that would ends the job, and stays unsettled.
    pub stop_on: BTreeSet<String>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// Every row of the manifest is settled.
    Complete,
    /// A signal, or the end of the time that the run had; the same command continues.
    Interrupted,
    /// A fault that every object would meet.
    Fault(S3Error),
    /// What was found before the first row lets none be touched.
    Stopped(Error),
    /// An object that was rewritten is not what it was.
    CameBackWrong {
        /// Its key: untrusted text.
        key: String,
        /// What differs.
        what: String,
    },
    /// A row failed as none may.
    StoppedOn {
        /// Its key: untrusted text.
        key: String,
        /// How it failed.
        failure: Failure,
    },
    /// Too many rows failed.
    ThresholdCrossed(Crossed),
}

/// A failure threshold that was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// Rows of the job that failed, and were not refused.
    pub failed: u64,
    /// Rows of the job that have an outcome.
    pub settled: u64,
    /// The threshold.
    pub percent: u8,
}

impl Crossed {
    /// Whether `tally`, of everything that the job has settled, is above the threshold.
    pub fn by(tally: &Tally, percent: u8) -> Option<Self> {
        let (failed, settled) = (tally.failed_total() - tally.refused, tally.settled());
        let is_above = u128::from(failed) * 100 > u128::from(settled) * u128::from(percent);
        (settled >= THRESHOLD_AFTER && is_above).then_some(Self {
            failed,
            settled,
            percent,
        })
    }
}

/// A run that could not go on, although the store could.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The manifest can't be read on, or is not what it was.
    #[error(transparent)]
    Feed(Error),
    /// The journal's thread is gone without a word.
    #[error("the journal's writer has ended")]
    JournalGone,
    /// The state can't be written.
    #[error("{0}")]
    State(std::sync::Arc<StateError>),
}

/// A row that has ended and waits for its record to be on disk.
struct Unsynced {
    sequence: u64,
    entry: ManifestEntry,
    outcome: TaskOutcome,
}

/// Runs `rows` until they end, a signal comes or the job fails. `notes` is the other end of the context's, `before` what earlier
/// runs have left in the journal.
///
/// # Errors
/// The manifest or the state gave out. What is on disk stays valid.
pub async fn run(
    ctx: &Context<'_>,
    settings: Settings,
    rows: Rows,
    notes: mpsc::Receiver<Note>,
    before: &Replay,
    journal: &mut Writer,
    shutdown: Shutdown,
) -> Result<End, EngineError> {
    let job = Job {
        emit: ctx.emit,
        resolved_key: &|| ctx.resolved_key(),
        drain: &|| ctx.drain(),
        crowd: &|key| ctx.limiter.crowd(key),
        held_by: &|| ctx.limiter.held_by(),
        tasks: &|| ctx.limiter.concurrency_set().map(tasks_for),
        has_room: &|crowd| ctx.limiter.has_room(crowd),
        rewritten: &|| ctx.witness.take(),
    };
    let engine = Engine::new(job, settings, before, journal);
    let task = async |entry: ManifestEntry, start: Start<'_>| {
        let ended = task::run(ctx, &entry, start).await;
        (entry, ended)
    };
    engine.run(rows, notes, shutdown, task).await
}

/// What the engine needs of the job beside its tasks.
#[derive(Clone, Copy)]
struct Job<'c> {
    emit: &'c dyn Fn(Event<'_>),
    /// The key ARN that the target's alias stands for, once the store has told it.
    resolved_key: &'c dyn Fn() -> Option<String>,
    /// Lets tasks that wait end unsettled.
    drain: &'c dyn Fn(),
    /// Where a key would wait with many others.
    crowd: &'c dyn Fn(&str) -> Option<Crowd>,
    /// What holds the job.
    held_by: &'c dyn Fn() -> Option<Limit>,
    /// How many tasks keep the wire full, where that was changed.
    tasks: &'c dyn Fn() -> Option<usize>,
    /// Whether it would not any more.
    has_room: &'c dyn Fn(Crowd) -> bool,
    /// Rewrites that were seen since it was asked last.
    rewritten: &'c dyn Fn() -> Vec<(u64, Rewritten)>,
}

struct Engine<'c> {
    job: Job<'c>,
    settings: Settings,
    before: &'c Replay,
    journal: &'c mut Writer,
    /// Rows that are read and not admitted.
    queue: VecDeque<ManifestEntry>,
    /// Rows that are set aside, by what they would wait for, and how many they are.
    aside: BTreeMap<Crowd, VecDeque<ManifestEntry>>,
    aside_rows: usize,
    /// Rows that are admitted, or set aside, and not on disk as settled.
    unsettled: BTreeSet<u64>,
    /// Outcomes that wait for the disk, in the order of their records.
    unsynced: VecDeque<Unsynced>,
    /// The last record that is on disk.
    synced: u64,
    /// Since when the state does not answer.
    stalled: Option<Instant>,
    /// Tasks whose checkpoints wait for the disk, in the order of their records: at most one for each in flight.
    noted: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Rows below this one may be started: the reservation is on disk.
    reserved: u64,
    /// A reservation on its way to the disk: its record, and what it reserves up to.
    reserving: Option<(u64, u64)>,
    resolved_key: Option<String>,
    /// What was last recorded to hold the job, and when.
    limited_by: (Option<Limit>, Instant),
    /// What the job has settled, in earlier runs and in this one.
    tally: Tally,
    /// Why nothing is admitted any more.
    end: Option<End>,
}

impl<'c> Engine<'c> {
    fn new(job: Job<'c>, settings: Settings, before: &'c Replay, journal: &'c mut Writer) -> Self {
        Self {
            job,
            settings,
            before,
            journal,
            queue: VecDeque::new(),
            aside: BTreeMap::new(),
            aside_rows: 0,
            unsettled: BTreeSet::new(),
            unsynced: VecDeque::new(),
            synced: 0,
            stalled: None,
            noted: VecDeque::new(),
            reserved: 0,
            reserving: None,
            resolved_key: (job.resolved_key)(),
            limited_by: (None, Instant::now()),
            tally: before.tally.clone(),
            end: None,
        }
    }

    /// The loop. `task` runs a row.
    async fn run<T>(
        mut self,
        mut rows: Rows,
        mut notes: mpsc::Receiver<Note>,
        mut shutdown: Shutdown,
        task: impl Fn(ManifestEntry, Start<'c>) -> T,
    ) -> Result<End, EngineError>
    where
        T: Future<Output = (ManifestEntry, Ended)>,
    {
        let mut durable = self.journal.durable();
        let mut tasks = FuturesUnordered::new();
        let mut rows_ended = false;
        let mut may_be_asked = true;
        // What holds the job is told to the state also while nothing settles.
        let mut beats = tokio::time::interval(LIMIT_RECORDED_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some((entry, start)) = self.admit(tasks.len()) {
                (self.job.emit)(Event::TaskStarted);
                tasks.push(task(entry, start));
            }
            if tasks.is_empty() && self.unsynced.is_empty() {
                if let Some(end) = self.end.take() {
                    return Ok(end);
                }
                if rows_ended && self.queue.is_empty() && self.aside_rows == 0 {
                    return Ok(End::Complete);
                }
            }
            tokio::select! {
                biased;
                changed = shutdown.changed(), if may_be_asked => {
                    // A sender that is gone can't ask for anything any more.
                    may_be_asked = changed.is_ok();
                    if may_be_asked {
                        match *shutdown.borrow_and_update() {
                            Urgency::None => {}
                            Urgency::Drain(reason) => {
                                self.drain(End::Interrupted, &reason.to_string(), tasks.len());
                            }
                            Urgency::Now | Urgency::Over => return Ok(self.give_up(tasks.len())),
                        }
                    }
                }
                changed = durable.changed() => {
                    if changed.is_err() {
                        return Err(EngineError::JournalGone);
                    }
                    let progress = durable.borrow_and_update().clone();
                    self.synced(progress.sequence);
                    self.tell_stall(progress.stalled.as_deref());
                    if let Some(error) = progress.failed {
                        return match self.end {
                            Some(End::Interrupted) if error.is_passing() => Ok(self.give_up(tasks.len())),
                            _ => Err(EngineError::State(error)),
                        };
                    }
                }
                _ = beats.tick() => {
                    // Those of rows that take long.
                    self.record_rewrites();
                    self.record_limit();
                }
                Some(note) = notes.recv() => self.note(note),
                Some((entry, ended)) = tasks.next() => self.ended(entry, ended, tasks.len()),
                batch = rows.recv(), if self.queue.is_empty() && !rows_ended && self.end.is_none() => {
                    match batch {
                        Some(Ok(batch)) => self.enqueue(batch),
                        Some(Err(error)) => return Err(EngineError::Feed(error)),
                        None => rows_ended = true,
                    }
                }
            }
        }
    }

    /// Takes what the feed has read: rows that earlier runs have not settled.
    fn enqueue(&mut self, batch: Vec<ManifestEntry>) {
        self.queue.extend(batch);
    }

    /// The next row that may start now, and how.
    fn admit(&mut self, in_flight: usize) -> Option<(ManifestEntry, Start<'c>)> {
        let may = self.end.is_none()
            && in_flight < (self.job.tasks)().unwrap_or(self.settings.tasks)
            && (self.unsynced.len() as u64) < PENDING_RECORDS_MAX
            && !self.journal.is_stalled();
        if !may {
            return None;
        }
        let entry = self.back_from_aside().or_else(|| self.next_in_order())?;
        let start = Start {
            doubtful: entry.row < self.before.started_below(RESERVE_ROWS),
            checkpoints: self.before.checkpoints_of(entry.row),
            rewritten: self.before.rewritten_of(entry.row),
        };
        Some((entry, start))
    }

    /// The next row of the manifest that would not have to wait with many others; those that would are set aside.
    fn next_in_order(&mut self) -> Option<ManifestEntry> {
        loop {
            let next = self.queue.front()?.row;
            self.reserve(next);
            let lowest = self.unsettled.first().copied().unwrap_or(next);
            if next >= self.reserved || next - lowest >= WINDOW_ROWS_MAX {
                return None;
            }
            let crowd = (self.job.crowd)(&self.queue.front()?.key);
            if crowd.is_some() && self.aside_rows >= ASIDE_ROWS_MAX {
                return None;
            }
            let entry = self.queue.pop_front()?;
            self.unsettled.insert(next);
            let Some(crowd) = crowd else {
                return Some(entry);
            };
            self.aside.entry(crowd).or_default().push_back(entry);
            self.aside_rows += 1;
        }
    }

    /// A row that was set aside and need not wait any more.
    fn back_from_aside(&mut self) -> Option<ManifestEntry> {
        let mut crowds = self.aside.keys().copied();
        let crowd = crowds.find(|crowd| (self.job.has_room)(*crowd))?;
        let rows = self.aside.get_mut(&crowd)?;
        let entry = rows.pop_front()?;
        if rows.is_empty() {
            self.aside.remove(&crowd);
        }
        self.aside_rows -= 1;
        Some(entry)
    }

    /// Keeps the reservation ahead of `next`, early enough that nobody waits for the disk.
    fn reserve(&mut self, next: u64) {
        if self.reserving.is_none() && next + RESERVE_ROWS / 2 >= self.reserved {
            let up_to = next + RESERVE_ROWS;
            let sequence = self.journal.append(&Record::Reserved { up_to });
            self.reserving = Some((sequence, up_to));
        }
    }

    /// Records a checkpoint, and remembers who waits for it.
    fn note(&mut self, note: Note) {
        let Note {
            row,
            checkpoint,
            durable,
        } = note;
        let sequence = self.journal.append(&Record::Checkpoint { row, checkpoint });
        self.noted.push_back((sequence, durable));
    }

    /// Takes a task that is over.
    fn ended(&mut self, entry: ManifestEntry, ended: Ended, in_flight: usize) {
        (self.job.emit)(Event::TaskEnded);
        self.record_rewrites();
        self.record_key();
        match ended {
            Ended::Settled(TaskOutcome::Failed(failure))
                if self.settings.stop_on.contains(&failure.code) =>
            {
                self.unsettled.remove(&entry.row);
                let reason = format!("a row failed with {}", failure.code);
                let key = entry.key;
                self.drain(End::StoppedOn { key, failure }, &reason, in_flight);
            }
            Ended::Settled(outcome) => self.settle(entry, outcome),
            Ended::CameBackWrong(failure) => {
                let (key, what) = (entry.key.clone(), failure.message.clone());
                self.settle(entry, TaskOutcome::Failed(failure));
                let reason = format!("{key} came back wrong");
                self.drain(End::CameBackWrong { key, what }, &reason, in_flight);
            }
            Ended::Unsettled(Unsettled::Drained) => {
                self.unsettled.remove(&entry.row);
            }
            Ended::Unsettled(Unsettled::Fault(error)) => {
                self.unsettled.remove(&entry.row);
                let reason = error.to_string();
                self.drain(End::Fault(error), &reason, in_flight);
            }
        }
        self.check_threshold(in_flight);
    }

    /// Records how a row ended.
    fn settle(&mut self, entry: ManifestEntry, outcome: TaskOutcome) {
        self.record_limit();
        (self.job.emit)(Event::Recorded);
        self.tally.add(&outcome);
        let sequence = self.journal.append(&Record::Settled {
            row: entry.row,
            outcome: outcome.clone(),
        });
        self.unsynced.push_back(Unsynced {
            sequence,
            entry,
            outcome,
        });
    }

    /// Records which key the target's alias stands for, once a task has learnt it: by it the next run knows its predecessor's copies,
    /// also those of rows that did not settle.
    fn record_key(&mut self) {
        let resolved = (self.job.resolved_key)();
        if resolved != self.resolved_key {
            if let Some(arn) = resolved.clone() {
                self.journal.append(&Record::KeyResolved { arn });
            }
            self.resolved_key = resolved;
        }
    }

    /// Records the evidence of what was rewritten: before the outcome of its row, so that none is settled without.
    fn record_rewrites(&mut self) {
        for (row, rewritten) in (self.job.rewritten)() {
            let rewritten = Box::new(rewritten);
            self.journal.append(&Record::Rewritten { row, rewritten });
        }
    }

    /// Records what holds the job, now and then, where that has changed.
    fn record_limit(&mut self) {
        let (recorded, at) = self.limited_by;
        if at.elapsed() < LIMIT_RECORDED_EVERY {
            return;
        }
        let limit = (self.job.held_by)();
        if limit != recorded {
            self.journal.append(&Record::LimitedBy { limit });
        }
        self.limited_by = (limit, Instant::now());
    }

    /// Tells of everything that has reached the disk.
    fn synced(&mut self, sequence: u64) {
        if sequence > self.synced {
            self.synced = sequence;
            (self.job.emit)(Event::Synced);
        }
        if let Some((record, up_to)) = self.reserving
            && record <= sequence
        {
            self.reserved = up_to;
            self.reserving = None;
        }
        while let Some((_, durable)) = self.noted.pop_front_if(|(record, _)| *record <= sequence) {
            // A task that is gone needs no answer.
            let _ = durable.send(());
        }
        while let Some(row) = self.unsynced.pop_front_if(|row| row.sequence <= sequence) {
            self.unsettled.remove(&row.entry.row);
            (self.job.emit)(Event::Settled {
                key: &row.entry.key,
                outcome: &row.outcome,
            });
        }
    }

    /// Tells when the state stops to answer, and when it does again.
    fn tell_stall(&mut self, why: Option<&StateError>) {
        match (self.stalled, why) {
            (None, Some(why)) => {
                self.stalled = Some(Instant::now());
                let why = why.to_string();
                (self.job.emit)(Event::StallBegan { why: &why });
            }
            (Some(since), None) => {
                self.stalled = None;
                let lasted = since.elapsed();
                (self.job.emit)(Event::StallEnded { lasted });
            }
            _ => {}
        }
    }

    fn check_threshold(&mut self, in_flight: usize) {
        let percent = self.settings.failure_threshold_percent;
        if let Some(crossed) = Crossed::by(&self.tally, percent) {
            let reason = format!("{} of {} rows failed", crossed.failed, crossed.settled);
            self.drain(End::ThresholdCrossed(crossed), &reason, in_flight);
        }
    }

    /// The end of a run whose time to drain is over. What made it drain stands; what is in flight stays unsettled, and reserved, so
    /// that the next run looks at it first.
    fn give_up(&mut self, in_flight: usize) -> End {
        self.record_rewrites();
        if in_flight > 0 {
            let message = format!(
                "{in_flight} in flight when the time to drain was over: the next run looks at them first"
            );
            (self.job.emit)(Event::Warning { message: &message });
        }
        self.end.take().unwrap_or(End::Interrupted)
    }

    /// Admits nothing more. The first reason stands, unless an object came back wrong: whatever else there was, the same command
    /// must not go on.
    fn drain(&mut self, end: End, reason: &str, in_flight: usize) {
        let is_wrong = |end: &End| matches!(end, End::CameBackWrong { .. });
        let stands = self
            .end
            .as_ref()
            .is_some_and(|first| is_wrong(first) || !is_wrong(&end));
        if !stands {
            self.end = Some(end);
            self.queue.clear();
            for row in std::mem::take(&mut self.aside).into_values().flatten() {
                self.unsettled.remove(&row.row);
            }
            self.aside_rows = 0;
            (self.job.drain)();
            (self.job.emit)(Event::Draining { reason, in_flight });
        }
    }
}

#[cfg(test)]
mod tests;
