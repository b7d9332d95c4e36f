//! A restack that was begun and not ended, of which nobody has left word: its checkpoint was lost with the end of a journal, or it is
//! another job that comes upon it.
//!
//! What it leaves is copies of the key's oldest versions on top. Whoever took those for somebody's new versions would write them again
//! last, and so make an old version the current one. It can't be told which of the two it is. So where it matters, which is where
//! the newest copy is not as the version that was the current one before, nothing is written, and the row says what was found.

use super::pile::INTERRUPTED;
use super::restack::Layer;
use super::supersede::Read;
use super::{Stop, Task};
use crate::outcome::Failure;
use crate::plan::stack;

impl<'a> Task<'_, 'a> {
    /// Makes sure that the newest `rewritten` layers, which are about to be written again, are no restack that was left halfway.
    ///
    /// # Errors
    /// The failure of the row where they may be one.
    pub(super) async fn refuse_halfway(
        &self,
        layers: &[Layer<'a>],
        kinds: &[stack::Layer],
        rewritten: usize,
    ) -> Result<(), Stop> {
        let Some(oldest) = rewritten.checked_sub(1) else {
            return Ok(());
        };
        let looks = |at: usize| layers[at].look.as_ref();
        let is_alike = |copy: usize, old: usize| {
            looks(copy)
                .zip(looks(old))
                .is_some_and(|(copy, old)| self.looks_same(copy, old))
        };
        let mut read = Read::new();
        for copies in stack::halfway(kinds, oldest, is_alike) {
            let (made, of) = (&layers[..copies], &layers[oldest + 1 - copies..=oldest]);
            if !self.are_same(made, of, &mut read).await? {
                continue;
            }
            let (newest, current) = (&layers[..1], &layers[copies..=copies]);
            let both_are_objects = looks(0).is_some() && looks(copies).is_some();
            let stays = if both_are_objects {
                is_alike(0, copies) && self.are_same(newest, current, &mut read).await?
            } else {
                looks(0).is_none() && looks(copies).is_none()
            };
            if !stays {
                return Err(Stop::Row(left(copies, &layers[..=oldest])));
            }
        }
        Ok(())
    }
}

/// `copies` on top mirror the oldest of `stack`.
fn left(copies: usize, stack: &[Layer<'_>]) -> Failure {
    let id = |at: usize| &stack[at].version.version_id;
    let oldest = stack.len() - copies;
    Failure {
        code: INTERRUPTED.to_owned(),
        http_status: 0,
        message: format!(
            "the newest versions down to {} ({copies}) are as the oldest that are not under the target from {} on: a restack was \
             interrupted there, it seems, and {} was the current version. Nothing was changed. If it was, delete those {copies}; if \
             somebody has written {} since, write it once more with other metadata",
            id(copies - 1),
            id(oldest),
            id(copies),
            id(0),
        ),
    }
}
