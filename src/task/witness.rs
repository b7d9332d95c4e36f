//! Evidence of rewrites, on its way to whoever keeps it.

use std::cell::RefCell;

use super::{Look, Stop, Task};
use crate::bucket::Versioning;
use crate::evidence::{Rewritten, State, Told, first_of};
use crate::object::ObjectHead;
use crate::s3::Written;

/// Rewrites that were seen and not taken yet: a few for each task in flight, for whoever runs the tasks takes them in every turn.
#[derive(Debug, Default)]
pub struct Witness(RefCell<Vec<(u64, Rewritten)>>);

impl Witness {
    /// Takes what was seen, with the row of each.
    pub fn take(&self) -> Vec<(u64, Rewritten)> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

impl<'a> Task<'_, 'a> {
    /// Remembers what was looked at, before a request may change it.
    pub(super) fn attempts_at(&mut self, head: &ObjectHead) {
        if self.ctx.settings.evidence {
            self.attempted = Some(State::of(head));
        }
    }

    /// What an interrupted rewrite has superseded, most likely: the version right below, where that is the same but for its encryption.
    /// `None` where the key does not tell.
    pub(super) async fn below(&self, look: &Look<'a>) -> Result<Option<State>, Stop> {
        if self.ctx.bucket.versioning != Some(Versioning::Enabled) {
            return Ok(None);
        }
        let found = async {
            let listed = self.listed().await?;
            let id = look.head.version_id.as_deref();
            let at = listed
                .iter()
                .position(|version| Some(&*version.version_id) == id);
            let Some(below) = at.and_then(|at| listed.get(at + 1)) else {
                return Ok(None);
            };
            if below.is_delete_marker {
                return Ok(None);
            }
            let below = self.look_at(Some(&below.version_id)).await?;
            Ok(Some(below).filter(|below| self.looks_same(look, below)))
        };
        match found.await {
            Ok(below) => Ok(below.map(|below| State::of(&below.head))),
            // It may not be listed, or looked at: nothing is made up then.
            Err(Stop::Row(_) | Stop::Skip(_)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Notes a rewrite that is known to have happened.
    pub(super) fn bear_witness(&self, told: Told, before: Option<State>, written: &Written) {
        if !self.ctx.settings.evidence {
            return;
        }
        let size = before.as_ref().and_then(|before| before.size);
        let rewritten = Rewritten {
            key: self.entry.key.clone(),
            method: (told != Told::Interruption).then_some(self.method),
            told,
            at_ms: now_ms(),
            after: State {
                encryption: written.encryption.clone(),
                etag: written.etag.clone(),
                version_id: written.version_id.clone(),
                size,
                checksum: first_of(&written.checksums),
            },
            before,
            request_id: written.request_id.clone(),
        };
        let row = self.entry.row;
        self.ctx.witness.0.borrow_mut().push((row, rewritten));
    }
}

/// Now, in milliseconds since 1970.
fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc();
    i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
