//! What a task is told of its row beside the manifest's line, and how it ends.

use super::Unsettled;
use crate::checkpoint::Checkpoint;
use crate::evidence::Left;
use crate::outcome::{Failure, TaskOutcome};

/// How a row starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// An earlier run had started it and not settled it.
    pub doubtful: bool,
    /// What an earlier run has left word of, oldest first.
    pub checkpoints: &'a [Checkpoint],
    /// What an earlier run's rewrites of it have left, where there is evidence of them.
    pub rewritten: &'a [Left],
}

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The row has its outcome.
    Settled(TaskOutcome),
    /// The row has failed, because its object is not what it was, and no other may be touched.
    CameBackWrong(Failure),
    /// The row has no outcome.
    Unsettled(Unsettled),
}
