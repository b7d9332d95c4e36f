//! What a task has remembered for a run after it, before it goes on.
//!
//! A task knows no journal. It leaves its note in a channel, and whoever runs the tasks answers it once the note is durable; an
//! answer that never comes says that it isn't.

use tokio::sync::{mpsc, oneshot};

use super::{Context, Unsettled};
use crate::checkpoint::Checkpoint;
use crate::outcome::Failure;

/// A checkpoint on its way to the disk.
#[derive(Debug)]
pub struct Note {
    /// The row that leaves it.
    pub row: u64,
    /// What is to be remembered.
    pub checkpoint: Checkpoint,
    /// Told when it is durable; dropped when it can't become so any more.
    pub durable: oneshot::Sender<()>,
}

/// Where tasks leave their notes.
#[derive(Clone, Debug)]
pub struct Notes(mpsc::Sender<Note>);

impl Notes {
    /// The tasks' end and that of whoever runs them. Holds one note for each of `tasks` in flight: a task waits for its note.
    pub fn channel(tasks: usize) -> (Self, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(tasks.max(1));
        (Self(sender), receiver)
    }
}

/// Why there is no note, so that nothing may be done that needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoNote {
    /// The store gave names that are longer than what can be remembered: the row fails.
    TooLong(Failure),
    /// The run ends: the row stays unsettled.
    Unsettled(Unsettled),
}

impl Notes {
    /// Leaves a note, and waits until it is durable.
    ///
    /// # Errors
    /// It is not, and it may or may not be there later.
    pub async fn leave(&self, row: u64, checkpoint: Checkpoint) -> Result<(), NoNote> {
        if !checkpoint.is_within_bounds() {
            return Err(NoNote::TooLong(Failure {
                code: "CheckpointTooLong".to_owned(),
                http_status: 0,
                message: "its upload or version ids are longer than what can be remembered over an interruption"
                    .to_owned(),
            }));
        }
        let (durable, noted) = oneshot::channel();
        let note = Note {
            row,
            checkpoint,
            durable,
        };
        let is_taken = self.0.send(note).await.is_ok();
        if is_taken && noted.await.is_ok() {
            Ok(())
        } else {
            Err(NoNote::Unsettled(Unsettled::Drained))
        }
    }
}

impl Context<'_> {
    /// Has a checkpoint of a row remembered; it is on the disk when this returns.
    ///
    /// # Errors
    /// As [`Notes::leave`].
    pub async fn note(&self, row: u64, checkpoint: Checkpoint) -> Result<(), NoNote> {
        self.notes.leave(row, checkpoint).await
    }
}
