//! Replay: what a job has done so far, as a fold over its journal.

use std::collections::BTreeMap;

use super::StateError;
use super::record::{Malformed, Record, Records};
use super::rows::RowSet;
use super::store::Mark;
use crate::checkpoint::Checkpoint;
use crate::event::Limit;
use crate::evidence::Left;
use crate::outcome::Tally;

use serde::{Deserialize, Serialize};

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Whose journal it is.
    pub job_id: String,
    /// The rows that have an outcome.
    pub settled: RowSet,
    /// The counts over their outcomes.
    pub tally: Tally,
    /// Rows below this may have been started; those that are not settled are doubtful.
    pub reserved: u64,
    /// The ARN that the target's key id stands for, as far as the store has told it.
    pub resolved_key: Option<String>,
    /// What held the last run, when it was last said.
    #[serde(default)]
    pub limited_by: Option<Limit>,
    /// What rows have left word of that have no outcome, each row's oldest first. As many rows as were in flight, and of each
    /// what its attempts have left: both are bounded where rows run.
    pub checkpoints: BTreeMap<u64, Vec<Checkpoint>>,
    /// What rewrites have left of which there is evidence, of rows that have no outcome: as bounded as `checkpoints`.
    #[serde(default)]
    pub rewritten: BTreeMap<u64, Vec<Left>>,
    /// Settled records of rows that were settled before. The first record counts, in the tally and in the report; a
    /// number other than 0 here is a fault of whoever wrote the journal, and worth a warning.
    pub settled_twice: u64,
    /// How often the state has been taken over.
    pub epochs: u64,
    /// Who took it over last.
    pub runner: Option<u64>,
    /// How far the journal goes, without a torn tail.
    pub mark: Mark,
    /// Bytes of the torn tail.
    pub torn_bytes: u64,
    /// Whether a run before this one has begun the journal: then there may have been more in it than there is. Set by who takes it over.
    #[serde(skip)]
    pub is_resumed: bool,
}

impl Replay {
    /// Folds one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Reserved { up_to } => self.reserved = self.reserved.max(*up_to),
            Record::Epoch { runner } => {
                if self.runner.replace(*runner) != Some(*runner) {
                    self.epochs += 1;
                    self.limited_by = None;
                }
            }
            // The rest of it is asked of the journal itself.
            Record::Rewritten { row, rewritten } => {
                if !self.settled.contains(*row) {
                    let of_row = self.rewritten.entry(*row).or_default();
                    of_row.push(rewritten.left());
                }
            }
            Record::LimitedBy { limit } => self.limited_by = *limit,
            Record::KeyResolved { arn } => self.resolved_key = Some(arn.clone()),
            Record::Settled { row, outcome } => {
                if self.settled.insert(*row) {
                    self.tally.add(outcome);
                    self.checkpoints.remove(row);
                    self.rewritten.remove(row);
                } else {
                    self.settled_twice += 1;
                }
            }
            Record::Checkpoint { row, checkpoint } => {
                if !self.settled.contains(*row) {
                    let of_row = self.checkpoints.entry(*row).or_default();
                    of_row.push(checkpoint.clone());
                }
            }
        }
    }

    /// Whether a row may have been started and has no outcome: look at its object before doing anything to it.
    pub fn is_doubtful(&self, row: u64) -> bool {
        row < self.reserved && !self.settled.contains(row)
    }

    /// How many rows of the first `rows` may have been started and have no outcome.
    pub fn doubtful(&self, rows: u64) -> u64 {
        // Every settled row was reserved before.
        self.reserved.min(rows).saturating_sub(self.settled.len())
    }

    /// Rows below this may have been started by an earlier run, whatever became of the journal's last records. A reservation among
    /// them is not there any more; `ahead`: how much further than the one before it reached.
    pub fn started_below(&self, ahead: u64) -> u64 {
        let lost = if self.is_resumed { ahead } else { 0 };
        self.reserved.saturating_add(lost)
    }

    /// What a row that has no outcome has left word of, oldest first.
    pub fn checkpoints_of(&self, row: u64) -> &[Checkpoint] {
        self.checkpoints.get(&row).map_or(&[], Vec::as_slice)
    }

    /// What rewrites of a row have left of which there is evidence, while it has no outcome.
    pub fn rewritten_of(&self, row: u64) -> &[Left] {
        self.rewritten.get(&row).map_or(&[], Vec::as_slice)
    }
}

/// The next record of a frame's payload, and where in the file it begins.
pub(super) fn next_record(
    records: &mut Records<'_>,
    payload_at: u64,
) -> Option<Result<(u64, Record), MalformedAt>> {
    let offset = payload_at + records.reached().at as u64;
    Some(match records.next()? {
        Ok(record) => Ok((offset, record)),
        Err(malformed) => Err(MalformedAt { offset, malformed }),
    })
}

/// A record that can't be read, and where in the file it begins.
pub(super) struct MalformedAt {
    offset: u64,
    malformed: Malformed,
}

impl MalformedAt {
    pub(super) fn in_journal(self, place: &str) -> StateError {
        match self.malformed {
            Malformed::Unknown(tag) => StateError::Newer {
                place: place.to_owned(),
                offset: self.offset,
                problem: format!("a record of the unknown kind {tag:#04x}"),
            },
            Malformed::Field(problem) => StateError::damaged(place, self.offset, problem),
        }
    }
}
