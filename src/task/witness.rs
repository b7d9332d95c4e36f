//! Evidence of rewrites, on its way to whoever keeps it.

use std::cell::RefCell;

use super::pile::Pile;
use super::restack::Layer;
use super::{Look, Stop, Task, written_as};
use crate::bucket::Versioning;
use crate::checkpoint::Checkpoint;
use crate::encryption::Target;
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

    /// Bears witness of the copies of a stack that an earlier run has begun, where it left no evidence of them.
    pub(super) fn bear_witness_of_begun(&self, pile: &Pile<'_, 'a>, layers: &[Layer<'a>]) {
        for (copy, old) in pile.copies.iter().zip(&pile.old) {
            let copy = layers.iter().find(|of| of.version.version_id == *copy);
            if let Some(copy) = copy {
                self.bear_witness_of_copy(copy, *old);
            }
        }
    }

    /// The same of one copy, and the version that it is of, where that is there still.
    pub(super) fn bear_witness_of_copy(&self, copy: &Layer<'a>, old: Option<&Layer<'a>>) {
        if let Some(copy) = &copy.look {
            let old = old.and_then(|old| old.look.as_ref());
            let before = old.map(|old| State::of(&old.head));
            self.bear_witness(Told::Interruption, before, &written_as(&copy.head));
        }
    }

    /// Bears witness of versions that an earlier run has rewritten, most likely, of a key that needs nothing any more: as many as it has
    /// left word of, or all that are under the target where the row means all. Nobody knows what they were.
    pub(super) fn bear_witness_of_found(&self, layers: &[Layer<'a>], target: &Target) {
        let begun = self.checkpoints.iter().rev().find_map(|left| match left {
            Checkpoint::Restack { versions } => Some(versions.as_slice()),
            Checkpoint::Upload { .. } | Checkpoint::Superseding { .. } => None,
        });
        let (old, most) = match (begun, &self.entry.version_id) {
            (Some(versions), _) => (versions, versions.len()),
            (None, None) => (&[][..], layers.len()),
            (None, Some(_)) => return,
        };
        let looks = layers.iter().filter_map(|layer| {
            let look = layer.look.as_ref()?;
            let is_rewritten = target.is_satisfied_by(&look.head.encryption)
                && !old.contains(&layer.version.version_id);
            is_rewritten.then_some(look)
        });
        for look in looks.take(most) {
            self.bear_witness(Told::Interruption, None, &written_as(&look.head));
        }
    }

    /// Bears witness of an update whose answer got lost, where the version is under the target now.
    pub(super) fn bear_witness_of_update(&mut self, layers: &[Layer<'a>], target: &Target) {
        let Some(attempted) = self.attempted.take() else {
            return;
        };
        let mut looks = layers.iter().filter_map(|layer| layer.look.as_ref());
        let found = looks.find(|look| look.head.version_id == attempted.version_id);
        if let Some(found) = found.filter(|look| target.is_satisfied_by(&look.head.encryption)) {
            self.bear_witness(Told::Look, Some(attempted), &written_as(&found.head));
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
        let left = rewritten.left();
        let mut borne = self.borne.borrow_mut();
        // An earlier run has borne witness, and was killed before its row had an outcome; or this one has.
        if told != Told::Answer && (self.rewritten.contains(&left) || borne.contains(&left)) {
            return;
        }
        borne.push(left);
        let row = self.entry.row;
        self.ctx.witness.0.borrow_mut().push((row, rewritten));
    }
}

/// Now, in milliseconds since 1970.
fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc();
    i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
