//! What a task is told of its row beside the manifest's line.

use crate::checkpoint::Checkpoint;

/// How a row starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// An earlier run had started it and not settled it.
    pub doubtful: bool,
    /// What that run has left word of, oldest first.
    pub checkpoints: &'a [Checkpoint],
}
