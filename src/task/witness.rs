//! Evidence of rewrites, on its way to whoever keeps it.

use std::cell::RefCell;

use super::pile::Pile;
use super::restack::Layer;
use super::{Look, Stop, Task, written_as};
use crate::bucket::Versioning;
use crate::checkpoint::Checkpoint;
use crate::encryption::Target;
use crate::evidence::{Rewritten, State, Told, first_of};
use crate::object::{NULL_VERSION, ObjectHead};
use crate::outcome::Method;
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

    /// Bears witness of what an earlier run has rewritten, by the word that it left before: of a version that it was about to update, or of
    /// a copy, and of what lies right below it if that is the version that was to be superseded.
    pub(super) async fn bear_witness_of_interrupted(&self, look: &Look<'a>) -> Result<(), Stop> {
        let found = look.head.version_id.as_deref().unwrap_or(NULL_VERSION);
        let is_updated = |left: &Checkpoint| matches!(left, Checkpoint::Updating { version_id } if version_id == found);
        let written = written_as(&look.head);
        if self.checkpoints.iter().any(is_updated) {
            self.bear_witness(Told::Interruption, Some(Method::Update), None, &written);
            return Ok(());
        }
        let below = self.below(look).await?;
        let is_superseded = |below: &State| {
            self.checkpoints.iter().any(|left| {
                matches!(left, Checkpoint::Superseding { version_id } if below.version_id.as_ref() == Some(version_id))
            })
        };
        let before = below.filter(is_superseded);
        self.bear_witness(Told::Interruption, None, before, &written);
        Ok(())
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
            let written = written_as(&copy.head);
            self.bear_witness(Told::Interruption, Some(Method::Restack), before, &written);
        }
    }

    /// Bears witness of the versions of a key that an earlier run has updated where they are, by the word that it left before.
    pub(super) fn bear_witness_of_updated(&self, layers: &[Layer<'a>], target: &Target) {
        for look in layers.iter().filter_map(|layer| layer.look.as_ref()) {
            let is_it = |left: &Checkpoint| matches!(left, Checkpoint::Updating { version_id } if look.head.version_id.as_ref() == Some(version_id));
            if target.is_satisfied_by(&look.head.encryption) && self.checkpoints.iter().any(is_it) {
                let written = written_as(&look.head);
                self.bear_witness(Told::Interruption, Some(Method::Update), None, &written);
            }
        }
    }

    /// Bears witness of the copies that an earlier run has made of a key's versions, by the word that it left before, where the key needs
    /// nothing any more and those versions are gone. Nobody knows what they were.
    pub(super) fn bear_witness_of_found(&self, layers: &[Layer<'a>], target: &Target) {
        let begun = self.checkpoints.iter().rev().find_map(|left| match left {
            Checkpoint::Restack { versions } => Some(versions.as_slice()),
            _ => None,
        });
        let Some(old) = begun else { return };
        let looks = layers.iter().filter_map(|layer| {
            let look = layer.look.as_ref()?;
            let is_rewritten = target.is_satisfied_by(&look.head.encryption)
                && !old.contains(&layer.version.version_id);
            is_rewritten.then_some(look)
        });
        for look in looks.take(old.len()) {
            let written = written_as(&look.head);
            self.bear_witness(Told::Interruption, Some(Method::Restack), None, &written);
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
            self.bear_witness(
                Told::Look,
                Some(Method::Update),
                Some(attempted),
                &written_as(&found.head),
            );
        }
    }

    /// Notes a rewrite that is known to have happened.
    pub(super) fn bear_witness(
        &self,
        told: Told,
        method: Option<Method>,
        before: Option<State>,
        written: &Written,
    ) {
        if !self.ctx.settings.evidence {
            return;
        }
        let size = before.as_ref().and_then(|before| before.size);
        let rewritten = Rewritten {
            key: self.entry.key.clone(),
            method,
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
