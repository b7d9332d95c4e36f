//! Outcomes in the order of the manifest, for the report; rewrites in their own, for the evidence.

use std::collections::VecDeque;

use super::frame::Frames;
use super::record::{OUTCOME_BYTES_MAX, Position, Record, Records};
use super::replay::next_record;
use super::storage::Storage;
use super::store::Mark;
use super::{StateError, WINDOW_ROWS_MAX};
use crate::evidence::Rewritten;
use crate::outcome::{Method, SkipReason, TaskOutcome};

/// The outcomes of a job by ascending row, read from its journal as a stream.
///
/// The journal has the rows as they settled, the report wants them as the manifest has them. Rows that settled before
/// their turn are held back, each in 16 bytes: what a failure says stays in the file and is read again when its row comes.
/// No row is admitted [`WINDOW_ROWS_MAX`] or more above the lowest unsettled one, so that is as many as there can be.
pub struct Outcomes {
    frames: Frames,
    /// The payload of the frame that is being read, where in the file it begins, and how far it has been read.
    payload: Vec<u8>,
    payload_at: u64,
    position: Position,
    ended: bool,
    /// Batches that were there when a snapshot was made.
    counted: u64,
    window: Window,
}

impl Outcomes {
    /// Reads the file of a journal. A torn tail is left alone, and what is appended from now on is not seen. `counted`: how far the
    /// journal's last snapshot goes, made before the file was opened. A tail that is shorter is not torn, something is missing.
    pub(super) fn read(
        storage: Box<dyn Storage>,
        job_id: &str,
        counted: Mark,
    ) -> Result<Self, StateError> {
        let frames = Frames::open(storage)?;
        frames.check_job(job_id)?;
        Ok(Self {
            frames,
            payload: Vec::new(),
            payload_at: 0,
            position: Position::default(),
            ended: false,
            counted: counted.batches,
            window: Window::default(),
        })
    }

    /// The outcome of a row; `None` where it has none. Rows must be asked for in ascending order, each at most once;
    /// rows may be left out. One that has none costs reading to the journal's end, once.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] where the journal is, or where rows settled in an order that no run of reseal produces.
    ///
    /// # Panics
    ///
    /// Where a row is asked for that is not above the one before.
    pub fn of(&mut self, row: u64) -> Result<Option<TaskOutcome>, StateError> {
        self.window.advance_to(row);
        // Record by record, not frame by frame: only as long as the row has not settled does the bound of the window
        // hold for what comes.
        while !self.ended && !self.window.holds_first() {
            self.read_record()?;
        }
        Ok(match self.window.take_first() {
            Slot::Empty => None,
            Slot::Succeeded(method, bytes) => Some(TaskOutcome::Succeeded { method, bytes }),
            Slot::Skipped(reason) => Some(TaskOutcome::Skipped(reason)),
            Slot::FailedAt(offset) => Some(self.failure_at(offset)?),
        })
    }

    fn read_record(&mut self) -> Result<(), StateError> {
        let mut records = Records::new(&self.payload, self.position);
        let Some(next) = next_record(&mut records, self.payload_at) else {
            return self.read_frame();
        };
        self.position = records.reached();
        let (offset, record) =
            next.map_err(|malformed| malformed.in_journal(self.frames.storage().place()))?;
        let Record::Settled { row, outcome } = record else {
            return Ok(());
        };
        let slot = match outcome {
            TaskOutcome::Succeeded { method, bytes } => Slot::Succeeded(method, bytes),
            TaskOutcome::Skipped(reason) => Slot::Skipped(reason),
            TaskOutcome::Failed(_) => Slot::FailedAt(offset),
        };
        if self.window.put(row, slot) {
            return Ok(());
        }
        let first = self.window.first;
        let problem = format!(
            "row {row} has settled before row {first}, and only rows less than {WINDOW_ROWS_MAX} apart may"
        );
        Err(self.frames.damaged(offset, problem))
    }

    fn read_frame(&mut self) -> Result<(), StateError> {
        let Some(frame) = self.frames.next()? else {
            self.ended = true;
            return self.check_end();
        };
        self.payload.clear();
        self.payload.extend_from_slice(frame.payload);
        self.payload_at = frame.payload_at;
        self.position = Position::default();
        Ok(())
    }

    /// Whether the journal goes as far as its snapshot says.
    fn check_end(&self) -> Result<(), StateError> {
        let (count, counted) = (self.frames.count(), self.counted);
        if count >= counted {
            return Ok(());
        }
        let next = count + 1;
        let problem = format!("batch {next} can't be read, though a snapshot counts {counted}");
        Err(self.frames.damaged(self.frames.offset(), problem))
    }

    /// Reads a failure's record again. Its CRC was good the first time.
    fn failure_at(&self, offset: u64) -> Result<TaskOutcome, StateError> {
        let storage = self.frames.storage();
        let mut bytes = vec![0; OUTCOME_BYTES_MAX];
        let read = storage
            .read_at(offset, &mut bytes)
            .map_err(|error| StateError::io("read", storage.place(), error))?;
        match Records::new(&bytes[..read], Position::default()).next() {
            Some(Ok(Record::Settled { outcome, .. })) => Ok(outcome),
            _ => Err(self
                .frames
                .damaged(offset, "a record has changed since it was read")),
        }
    }
}

/// What a job has rewritten, in the order in which it became known, read from its journal as a stream.
pub struct Rewrites {
    frames: Frames,
    payload: Vec<u8>,
    payload_at: u64,
    position: Position,
}

impl Rewrites {
    /// As [`Outcomes::read`].
    pub(super) fn read(storage: Box<dyn Storage>, job_id: &str) -> Result<Self, StateError> {
        let frames = Frames::open(storage)?;
        frames.check_job(job_id)?;
        Ok(Self {
            frames,
            payload: Vec::new(),
            payload_at: 0,
            position: Position::default(),
        })
    }

    /// The next one, with its row.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where the journal is.
    pub fn read_next(&mut self) -> Result<Option<(u64, Rewritten)>, StateError> {
        loop {
            let mut records = Records::new(&self.payload, self.position);
            let Some(next) = next_record(&mut records, self.payload_at) else {
                let Some(frame) = self.frames.next()? else {
                    return Ok(None);
                };
                self.payload.clear();
                self.payload.extend_from_slice(frame.payload);
                self.payload_at = frame.payload_at;
                self.position = Position::default();
                continue;
            };
            self.position = records.reached();
            let (_, record) =
                next.map_err(|malformed| malformed.in_journal(self.frames.storage().place()))?;
            if let Record::Rewritten { row, rewritten } = record {
                return Ok(Some((row, *rewritten)));
            }
        }
    }
}

/// What is kept of an outcome until its row is asked for.
#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Succeeded(Method, u64),
    Skipped(SkipReason),
    /// Where in the file the record is.
    FailedAt(u64),
}
const _: () = assert!(size_of::<Slot>() == 16);

/// The rows from `first` on that have been read and not asked for.
#[derive(Default)]
struct Window {
    first: u64,
    slots: VecDeque<Slot>,
}

impl Window {
    /// Forgets the rows below `row`: nobody will ask for them any more.
    fn advance_to(&mut self, row: u64) {
        assert!(
            row >= self.first,
            "row {row} was asked for after row {}",
            self.first.saturating_sub(1)
        );
        let passed = (row - self.first).min(self.slots.len() as u64);
        self.slots.drain(..passed as usize);
        self.first = row;
    }

    fn holds_first(&self) -> bool {
        !matches!(self.slots.front(), None | Some(Slot::Empty))
    }

    /// Takes the outcome of the first row, which then is behind.
    fn take_first(&mut self) -> Slot {
        self.first = self.first.saturating_add(1);
        self.slots.pop_front().unwrap_or(Slot::Empty)
    }

    /// Keeps a row, unless it is behind or settled before. `false` where it is too far ahead.
    fn put(&mut self, row: u64, slot: Slot) -> bool {
        let Some(ahead) = row.checked_sub(self.first) else {
            return true;
        };
        if ahead >= WINDOW_ROWS_MAX {
            return false;
        }
        let ahead = ahead as usize;
        if ahead >= self.slots.len() {
            self.slots.resize(ahead + 1, Slot::Empty);
        }
        if matches!(self.slots[ahead], Slot::Empty) {
            self.slots[ahead] = slot;
        }
        true
    }
}
