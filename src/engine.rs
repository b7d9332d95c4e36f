//! Runs the rows of a manifest: admits them within the bounds, records how each ended, and tells it.
//!
//! One loop owns everything; tasks are futures that it polls, no threads. Three things happen to a row, in this order and
//! with a wait for the disk between them: it is *reserved* (the journal knows that it may have been started), it *runs*, and it
//! is *settled* (the journal knows how it ended). Only then is its outcome told.
//!
//! Admission waits while any of these is full: tasks in flight ([`Settings::concurrency`]), outcomes that wait for the disk
//! ([`PENDING_RECORDS_MAX`]), the distance from the lowest unsettled row to the next ([`crate::journal::WINDOW_ROWS_MAX`]).

use std::collections::{BTreeSet, VecDeque};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::event::Event;
use crate::journal::{PENDING_RECORDS_MAX, Record, Replay, StateError, WINDOW_ROWS_MAX, Writer};
use crate::object::ManifestEntry;
use crate::outcome::{Tally, TaskOutcome};
use crate::s3_error::S3Error;
use crate::shutdown::{Shutdown, Urgency};
use crate::task::{self, Context, Unsettled};

/// Rows that are reserved ahead of the one that is admitted next. After a crash so many are looked at as doubtful.
const RESERVE_ROWS: u64 = 8_192;
/// Settled rows before the failure threshold is applied. Source: S3 User Guide, "Tracking job status and completion
/// reports": a Batch Operations job is judged once 1,000 tasks have run.
const THRESHOLD_AFTER: u64 = 1_000;

/// Rows as the reader hands them over: many at once, or the error that ended the reading.
pub type Rows = mpsc::Receiver<Result<Vec<ManifestEntry>, Error>>;

/// What the operator set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most tasks in flight.
    pub concurrency: usize,
    /// Share of failed rows, in percent of those settled in this run, above which the job fails.
    pub failure_threshold_percent: u8,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// Every row of the manifest is settled.
    Complete,
    /// A signal; the same command continues.
    Interrupted,
    /// A fault that every object would meet.
    Fault(S3Error),
    /// Too many rows failed.
    ThresholdCrossed {
        /// Rows that failed in this run.
        failed: u64,
        /// Rows that were settled in this run.
        settled: u64,
    },
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

/// Runs `rows` until they end, a signal comes or the job fails. `before` is what earlier runs have left in the journal.
///
/// # Errors
/// The manifest or the state gave out. What is on disk stays valid.
pub async fn run(
    ctx: &Context<'_>,
    settings: Settings,
    mut rows: Rows,
    before: &Replay,
    journal: &mut Writer,
    mut shutdown: Shutdown,
) -> Result<End, EngineError> {
    let mut durable = journal.durable();
    let mut engine = Engine {
        ctx,
        settings,
        before,
        journal,
        queue: VecDeque::new(),
        unsettled: BTreeSet::new(),
        unsynced: VecDeque::new(),
        reserved: 0,
        reserving: None,
        resolved_key: ctx.resolved_key(),
        tally: Tally::default(),
        end: None,
    };
    let mut tasks = FuturesUnordered::new();
    let mut rows_ended = false;
    let mut may_be_asked = true;
    loop {
        while let Some((entry, doubtful)) = engine.admit(tasks.len()) {
            (ctx.emit)(Event::TaskStarted);
            tasks.push(async move {
                let result = task::run(ctx, &entry, doubtful).await;
                (entry, result)
            });
        }
        if tasks.is_empty() && engine.unsynced.is_empty() {
            if let Some(end) = engine.end.take() {
                return Ok(end);
            }
            if rows_ended && engine.queue.is_empty() {
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
                        Urgency::Drain => engine.drain(End::Interrupted, "interrupted", tasks.len()),
                        Urgency::Now => return Ok(End::Interrupted),
                    }
                }
            }
            changed = durable.changed() => {
                if changed.is_err() {
                    return Err(EngineError::JournalGone);
                }
                let progress = durable.borrow_and_update().clone();
                engine.synced(progress.sequence);
                if let Some(error) = progress.failed {
                    return Err(EngineError::State(error));
                }
            }
            Some((entry, result)) = tasks.next() => {
                (ctx.emit)(Event::TaskEnded);
                match result {
                    Ok(outcome) => engine.settle(entry, outcome),
                    Err(Unsettled::Drained) => {
                        engine.unsettled.remove(&entry.row);
                    }
                    Err(Unsettled::Fault(error)) => {
                        engine.unsettled.remove(&entry.row);
                        let reason = error.to_string();
                        engine.drain(End::Fault(error), &reason, tasks.len());
                    }
                }
                engine.check_threshold(tasks.len());
            }
            batch = rows.recv(), if engine.queue.is_empty() && !rows_ended && engine.end.is_none() => {
                match batch {
                    Some(Ok(batch)) => engine.enqueue(batch),
                    Some(Err(error)) => return Err(EngineError::Feed(error)),
                    None => rows_ended = true,
                }
            }
        }
    }
}

struct Engine<'c, 'a> {
    ctx: &'c Context<'a>,
    settings: Settings,
    before: &'c Replay,
    journal: &'c mut Writer,
    /// Rows that are read and not admitted.
    queue: VecDeque<ManifestEntry>,
    /// Rows that are admitted and not on disk as settled.
    unsettled: BTreeSet<u64>,
    /// Outcomes that wait for the disk, in the order of their records.
    unsynced: VecDeque<Unsynced>,
    /// Rows below this one may be started: the reservation is on disk.
    reserved: u64,
    /// A reservation on its way to the disk: its record, and what it reserves up to.
    reserving: Option<(u64, u64)>,
    resolved_key: Option<String>,
    /// What this run settled.
    tally: Tally,
    /// Why nothing is admitted any more.
    end: Option<End>,
}

impl Engine<'_, '_> {
    /// Takes what the feed has read: rows that earlier runs have not settled.
    fn enqueue(&mut self, batch: Vec<ManifestEntry>) {
        self.queue.extend(batch);
    }

    /// The next row that may start now, and whether it is doubtful.
    fn admit(&mut self, in_flight: usize) -> Option<(ManifestEntry, bool)> {
        if self.end.is_some() {
            return None;
        }
        let next = self.queue.front()?.row;
        self.reserve(next);
        let lowest = self.unsettled.first().copied().unwrap_or(next);
        let may = in_flight < self.settings.concurrency
            && (self.unsynced.len() as u64) < PENDING_RECORDS_MAX
            && next < self.reserved
            && next - lowest < WINDOW_ROWS_MAX;
        if !may {
            return None;
        }
        self.unsettled.insert(next);
        let entry = self.queue.pop_front()?;
        Some((entry, next < self.before.reserved))
    }

    /// Keeps the reservation ahead of `next`, early enough that nobody waits for the disk.
    fn reserve(&mut self, next: u64) {
        if self.reserving.is_none() && next + RESERVE_ROWS / 2 >= self.reserved {
            let up_to = next + RESERVE_ROWS;
            let sequence = self.journal.append(&Record::Reserved { up_to });
            self.reserving = Some((sequence, up_to));
        }
    }

    /// Records how a row ended.
    fn settle(&mut self, entry: ManifestEntry, outcome: TaskOutcome) {
        let resolved = self.ctx.resolved_key();
        if resolved != self.resolved_key {
            if let Some(arn) = resolved.clone() {
                self.journal.append(&Record::KeyResolved { arn });
            }
            self.resolved_key = resolved;
        }
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

    /// Tells of everything that has reached the disk.
    fn synced(&mut self, sequence: u64) {
        if let Some((record, up_to)) = self.reserving
            && record <= sequence
        {
            self.reserved = up_to;
            self.reserving = None;
        }
        while let Some(row) = self.unsynced.pop_front_if(|row| row.sequence <= sequence) {
            self.unsettled.remove(&row.entry.row);
            (self.ctx.emit)(Event::Settled {
                key: &row.entry.key,
                outcome: &row.outcome,
            });
        }
    }

    fn check_threshold(&mut self, in_flight: usize) {
        let (failed, settled) = (self.tally.failed_total(), self.tally.settled());
        let limit = u128::from(self.settings.failure_threshold_percent);
        if settled >= THRESHOLD_AFTER && u128::from(failed) * 100 > u128::from(settled) * limit {
            let reason = format!("{failed} of {settled} rows failed");
            self.drain(
                End::ThresholdCrossed { failed, settled },
                &reason,
                in_flight,
            );
        }
    }

    /// Admits nothing more. The first reason stands.
    fn drain(&mut self, end: End, reason: &str, in_flight: usize) {
        if self.end.is_none() {
            self.end = Some(end);
            self.queue.clear();
            self.ctx.drain();
            (self.ctx.emit)(Event::Draining { reason, in_flight });
        }
    }
}
