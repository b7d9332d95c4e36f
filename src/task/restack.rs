//! The rewrite of all versions of a key, in their order.
//!
//! The unit of work is the key, whichever of its rows comes first; the others wait for it. What is to be copied and whether it would
//! come through whole is found out for all versions before the first write: all or nothing.
//!
//! How a row knows that its version was superseded by an earlier one's work, so that no key is restacked twice:
//!
//! 1. In the same run it is remembered ([`super::keys`]), as far as memory is given to it. The row has succeeded, with no bytes of its own.
//! 2. Otherwise the key tells. What a restack leaves is a block of versions under the target that mirrors the block right below it, in
//!    order and number. Where the oldest version that is not under the target is the last of such a lower block, where HEAD shows each
//!    pair alike, and where checksums or the bytes, read, show each pair's content to be the same, there is nothing left to do, whoever
//!    did it: the row is skipped. So restacking twice is restacking once, and nothing is claimed that was not looked at.
//! 3. A run that ended in the middle left word of the stack's version ids before its first write. Whichever row of the key comes first
//!    goes on with it. Where that word is lost, what looks like such a beginning is left alone ([`super::halfway`]).
//!
//! With `--delete-superseded` a row may name a version that an earlier run has deleted. It is skipped where all that is left of its key
//! is under the target.

use super::pile::{Pile, Way};
use super::supersede::{Read, Sure, came_back_wrong};
use super::{Look, Stop, Task};
use crate::bucket::Versioning;
use crate::checkpoint::Checkpoint;
use crate::encryption::Target;
use crate::event::{Event, Operation};
use crate::evidence::Told;
use crate::object::NULL_VERSION;
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};
use crate::plan::stack::{self, Progress, Work};
use crate::plan::{self, NEEDS_RESTORE, Plan, Refusal, Seen, Started};
use crate::retry::Verdict;
use crate::s3::{Directive, Version};
use crate::s3_error::S3Error;

/// One version of the key.
#[derive(Clone, Debug)]
pub(super) struct Layer<'a> {
    /// As it was listed.
    pub(super) version: Version,
    /// The look at it; a delete marker can't be looked at.
    pub(super) look: Option<Look<'a>>,
}

/// What was done to a key so far.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Whether anything was, by this row.
    any: bool,
    /// Whether a stack was found complete that an earlier run had begun.
    found: bool,
    /// Sizes of the versions that were rewritten, together.
    bytes: u64,
    /// Whether it was told what the key was found under.
    is_told: bool,
}

/// Whether there is no object among a key's versions.
pub(super) fn has_only_markers(layers: &[Layer<'_>]) -> bool {
    layers.iter().all(|layer| layer.look.is_none())
}

impl<'a> Task<'_, 'a> {
    /// Whether the row's version was superseded in this run, for another row of its key.
    pub(super) fn is_restacked(&self) -> bool {
        let version_id = self.entry.version_id.as_deref();
        let keys = &self.ctx.learnt.keys;
        version_id.is_some_and(|id| keys.is_superseded(&self.entry.key, id))
    }

    /// The outcome of a row whose work was done with another row's.
    pub(super) fn restacked(&self) -> TaskOutcome {
        TaskOutcome::Succeeded {
            method: Method::Restack,
            bytes: 0,
        }
    }

    /// Whether a version that is not there may have been deleted by an earlier run of this job.
    pub(super) fn may_be_deleted(&self) -> bool {
        let target = self.ctx.target.borrow();
        self.entry.version_id.is_some()
            && self.deletes_superseded()
            && plan::restacks(self.ctx.circumstances(&target))
    }

    /// Rewrites all versions of the row's key that need it. `gone`: the row's own version is not there, and how the row fails if
    /// that can't be explained.
    pub(super) async fn restack(&mut self, gone: Option<Failure>) -> Result<TaskOutcome, Stop> {
        let ctx = self.ctx;
        // Whoever is alone with the key may wait for a place.
        self.place = None;
        let mut alone = ctx.learnt.keys.queue(&self.entry.key);
        ctx.unless_drained(alone.reached()).await?;
        if self.is_restacked() {
            return Ok(self.restacked());
        }
        if ctx.learnt.keys.is_lost(&self.entry.key) {
            return Err(Stop::Row(Failure {
                code: super::pile::INTERRUPTED.to_owned(),
                http_status: 0,
                message: "the restack of its key was given up halfway, for another row of it: that row tells where its versions are"
                    .to_owned(),
            }));
        }
        let mut done = Done::default();
        // Every turn but the first follows a counted failure, or the one refusal of an update.
        loop {
            match self.restack_once(&mut done, gone.as_ref()).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                // Somebody else, or a runner that was replaced a moment ago, has deleted what was listed: the next listing tells.
                Err(Stop::Row(failure)) if is_gone(&failure) && !self.wrote.get() => {
                    Box::pin(self.listed_too_early()).await?;
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Waits before the key is listed once more, within the bound of conflicts.
    async fn listed_too_early(&mut self) -> Result<(), Stop> {
        let operation = Operation::ListObjectVersions;
        let error = S3Error::changed_meanwhile(operation.name());
        let mut attempts = self.attempts;
        let pause = self.pause(operation, &mut attempts, &Verdict::Conflict, &error);
        let paused = pause.await;
        self.attempts = attempts;
        paused
    }

    /// Lists, plans and rewrites; `None` means: once more.
    async fn restack_once(
        &mut self,
        done: &mut Done,
        gone: Option<&Failure>,
    ) -> Result<Option<TaskOutcome>, Stop> {
        let mut layers = self.layers().await?;
        let heads = || layers.iter().filter_map(|layer| layer.look.as_ref());
        if !std::mem::replace(&mut done.is_told, true)
            && let Some(newest) = heads().next()
        {
            let mode = newest.head.encryption.mode();
            (self.ctx.emit)(Event::Found { mode });
        }
        let unresolved =
            heads().find(|look| plan::needs_resolved_key(&look.head, &self.ctx.target.borrow()));
        let unresolved = unresolved.map(|look| look.head.clone());
        if unresolved.is_some() {
            self.enter_canary().await?;
        }
        let _resolving = match &unresolved {
            Some(head) => self.key_resolver(head).await,
            None => None,
        };
        let target = self.ctx.target.borrow().clone();
        self.bear_witness_of_update(&layers, &target);
        self.bear_witness_of_updated(&layers, &target);
        if let Some(mut pile) = self.begun(&layers) {
            let progress = self.whereabouts(&mut pile, &target).await?;
            self.bear_witness_of_begun(&pile, &layers);
            match progress {
                Progress::Untouched => {}
                Progress::Complete => {
                    self.finish(&pile, &target, true).await?;
                    done.found = true;
                    if self.deletes_superseded() {
                        layers = self.layers().await?;
                    }
                }
                Progress::Halfway(_) => {
                    self.enter_canary().await?;
                    if self.wants_checksums(&layers) {
                        return Ok(None);
                    }
                    self.go_on(&mut pile, &target).await?;
                    done.any = true;
                    done.bytes += pile.bytes;
                    return Ok(None);
                }
                Progress::Lost(_) => {
                    return Err(
                        self.lost(&pile, "somebody else wrote meanwhile, or removed versions")
                    );
                }
            }
        }
        let (kinds, work) = self.work(&layers, &target).await?;
        if work.is_nothing() {
            if self.started == Started::Before && !done.any {
                self.bear_witness_of_found(&layers, &target);
            }
            return match gone {
                Some(failure) if layers.is_empty() => Err(Stop::Row(failure.clone())),
                None if layers.is_empty() => Err(Stop::Row(no_version())),
                None if has_only_markers(&layers) => Err(Stop::Skip(SkipReason::DeleteMarker)),
                _ => Ok(Some(self.nothing_left(*done)?)),
            };
        }
        if let Some(failure) = gone {
            return Err(Stop::Row(failure.clone()));
        }
        self.refuse_halfway(&layers, &kinds, work.rewritten).await?;
        if let Some(failure) = self.given_up.take() {
            return Err(Stop::Row(failure));
        }
        self.enter_canary().await?;
        if self.wants_checksums(&layers) {
            return Ok(None);
        }
        let mut pile = self
            .pile(&layers[..work.rewritten], layers.len(), &target)
            .await?;
        for at in work.updates {
            let Some(look) = &layers[at].look else {
                continue;
            };
            let before = self.whole_before(look).await?;
            self.attempts_at(&look.head);
            self.note_rewriting(look, true).await?;
            let Some(written) = self.update(look, &target).await? else {
                return Ok(None);
            };
            let attempted = self.attempted.take();
            self.bear_witness(Told::Answer, Some(self.method), attempted, &written);
            done.any = true;
            done.bytes += look.head.size;
            if let Some(before) = &before
                && !self.verify(before, &target, &written).await?
            {
                return Ok(None);
            }
        }
        if pile.ids.is_empty() {
            return Ok(Some(self.nothing_left(*done)?));
        }
        if pile.ids.len() > 1 || self.deletes_superseded() || self.ctx.settings.evidence {
            let versions = pile.ids.clone();
            let noted = Checkpoint::Restack { versions };
            self.ctx.note(self.entry.row, noted).await?;
        }
        let is_new = self.pile_up(&mut pile, &target).await?;
        if !is_new {
            return Ok(None);
        }
        self.finish(&pile, &target, false).await?;
        Ok(Some(TaskOutcome::Succeeded {
            method: Method::Restack,
            bytes: done.bytes + pile.bytes,
        }))
    }

    /// Whether the versions have to be looked at once more: what the canary reads back is held against all that there was.
    fn wants_checksums(&self, layers: &[Layer<'a>]) -> bool {
        let mut looks = layers.iter().filter_map(|layer| layer.look.as_ref());
        self.place.is_some() && looks.any(|look| !look.has_checksums)
    }

    /// What each version needs, and what is to be done to the key.
    pub(super) async fn work(
        &self,
        layers: &[Layer<'a>],
        target: &Target,
    ) -> Result<(Vec<stack::Layer>, Work), Stop> {
        let kinds = self.kinds(layers, target);
        let superseded = self.superseded(layers, &kinds).await?;
        let work = stack::plan(&kinds, |at| superseded[at]);
        Ok((kinds, work))
    }

    /// The stack that an earlier run has begun to rewrite, and that this one has not found complete.
    fn begun<'s>(&self, layers: &'s [Layer<'a>]) -> Option<Pile<'s, 'a>> {
        let id = |layer: &'s Layer<'a>| layer.version.version_id.as_str();
        let listed: Vec<_> = layers.iter().map(id).collect();
        let keys = &self.ctx.learnt.keys;
        let ids = keys.begun_among(self.checkpoints, &listed)?;
        let is_done = |id: &String| keys.is_superseded(&self.entry.key, id);
        (!ids.iter().all(is_done)).then(|| Pile::begun(ids, layers))
    }

    /// Goes on with a stack that an earlier run has left halfway.
    async fn go_on(&mut self, pile: &mut Pile<'_, 'a>, target: &Target) -> Result<(), Stop> {
        let missing = pile.old[pile.copies.len()..].iter().flatten();
        let missing = missing.copied().collect();
        pile.ways = match self.ways(missing, target).await {
            Ok(ways) => ways,
            Err(Stop::Row(cause)) => return Err(self.lost(pile, &cause.message)),
            Err(stop) => return Err(stop),
        };
        // A stack that has copies is completed or lost, never planned anew.
        self.pile_up(pile, target).await?;
        self.finish(pile, target, true).await
    }

    /// The key's versions, newest first, each looked at.
    pub(super) async fn layers(&self) -> Result<Vec<Layer<'a>>, Stop> {
        let mut layers = Vec::new();
        for version in self.listed().await? {
            let look = if version.is_delete_marker {
                None
            } else {
                let mut look = self.look_at(Some(&version.version_id)).await?;
                look.head.version_id = Some(version.version_id.clone());
                Some(look)
            };
            layers.push(Layer { version, look });
        }
        Ok(layers)
    }

    /// What each version needs by itself.
    fn kinds(&self, layers: &[Layer<'a>], target: &Target) -> Vec<stack::Layer> {
        let kind = |layer: &Layer<'a>| {
            let Some(look) = &layer.look else {
                return stack::Layer::DeleteMarker;
            };
            let seen = Seen {
                head: &look.head,
                is_current: false,
                update_refused: self.update_refused,
            };
            if target.is_satisfied_by(&look.head.encryption) {
                stack::Layer::Satisfied
            } else if plan::can_update(seen, self.ctx.circumstances(target)) {
                stack::Layer::Update
            } else {
                stack::Layer::Copy
            }
        };
        layers.iter().map(kind).collect()
    }

    /// Which versions are superseded: those that are remembered, and by looking those with their mirror above them, which are
    /// remembered then.
    async fn superseded(
        &self,
        layers: &[Layer<'a>],
        kinds: &[stack::Layer],
    ) -> Result<Vec<bool>, Stop> {
        let keys = &self.ctx.learnt.keys;
        let is_known =
            |layer: &Layer<'a>| keys.is_superseded(&self.entry.key, &layer.version.version_id);
        let mut superseded: Vec<_> = layers.iter().map(is_known).collect();
        let mut read = Read::new();
        let looks = |at: usize| layers[at].look.as_ref();
        let is_alike = |copy: usize, old: usize| {
            looks(copy)
                .zip(looks(old))
                .is_some_and(|(copy, old)| self.looks_same(copy, old))
        };
        let mut end = layers.len();
        while let Some(oldest) = (0..end)
            .rev()
            .find(|&at| kinds[at].is_unsatisfied() && !superseded[at])
        {
            let mut found = None;
            for length in stack::mirrors(kinds, oldest, is_alike) {
                let block = &layers[oldest + 1 - 2 * length..=oldest];
                let (copies, old) = block.split_at(length);
                if self.are_same(copies, old, &mut read).await? {
                    found = Some(length);
                    break;
                }
            }
            match found {
                Some(length) => {
                    end = oldest + 1 - length;
                    superseded[end..=oldest].fill(true);
                    for layer in &layers[end..=oldest] {
                        self.remember_superseded(&layer.version.version_id);
                    }
                }
                // It has to be copied, and with it all that is newer, superseded or not.
                None if kinds[oldest] == stack::Layer::Copy => break,
                None => end = oldest,
            }
        }
        Ok(superseded)
    }

    pub(super) async fn are_same(
        &self,
        copies: &[Layer<'a>],
        old: &[Layer<'a>],
        read: &mut Read,
    ) -> Result<bool, Stop> {
        for (copy, old) in copies.iter().zip(old) {
            if let (Some(copy), Some(old)) = (&copy.look, &old.look)
                && !self.is_same(copy, old, Sure::ToLeaveIt, read).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn remember_superseded(&self, version_id: &str) {
        let keys = &self.ctx.learnt.keys;
        keys.supersede(&self.entry.key, version_id);
    }

    /// The outcome of a row whose key needs nothing, or nothing more.
    fn nothing_left(&self, done: Done) -> Result<TaskOutcome, Stop> {
        match self.started {
            _ if done.any => {}
            Started::Now => {}
            _ if done.found => return Err(Stop::Skip(SkipReason::DoneBeforeInterruption)),
            Started::Before => return Err(Stop::Skip(SkipReason::DoneBeforeInterruption)),
            Started::Not => return Err(Stop::Skip(SkipReason::AlreadyEncrypted)),
        }
        Ok(TaskOutcome::Succeeded {
            method: self.method,
            bytes: done.bytes,
        })
    }

    /// The stack that is to be written again, with all that its copies need. `all`: so many versions the key has.
    ///
    /// # Errors
    /// One of them would not come through whole, so that none is touched.
    pub(super) async fn pile<'s>(
        &self,
        stack: &'s [Layer<'a>],
        all: usize,
        target: &Target,
    ) -> Result<Pile<'s, 'a>, Stop> {
        let is_enabled = self.ctx.bucket.versioning == Some(Versioning::Enabled);
        if !stack.is_empty() && !is_enabled && all > 1 {
            return Err(Stop::Row(Refusal::VersioningSuspended.to_failure()));
        }
        let ways = self.ways(stack.iter().rev().collect(), target).await?;
        Ok(Pile::new(stack, ways))
    }

    /// How versions are copied, the first of them last.
    async fn ways(&self, layers: Vec<&Layer<'a>>, target: &Target) -> Result<Vec<Way>, Stop> {
        let mut ways = Vec::new();
        for layer in layers.into_iter().rev() {
            let way = match &layer.look {
                None => Ok(Way::DeleteMarker),
                Some(look) => self.way(look, target).await,
            };
            ways.push(way.map_err(|stop| about_version(stop, &layer.version.version_id))?);
        }
        Ok(ways)
    }

    pub(super) async fn way(&self, look: &Look<'a>, target: &Target) -> Result<Way, Stop> {
        match plan::plan_copy(&look.head, self.ctx.circumstances(target)) {
            Plan::CopyInPlace { resend } => Ok(Way::Copy {
                carry: self.gather(look, target, resend, false).await?,
                directive: if resend {
                    Directive::Replace
                } else {
                    Directive::Copy
                },
            }),
            Plan::MultipartCopy => Ok(Way::Parts {
                carry: self.gather(look, target, true, true).await?,
            }),
            Plan::Refuse(refusal) => Err(Stop::Row(refusal.to_failure())),
            Plan::Done | Plan::Skip(_) | Plan::UpdateEncryption | Plan::Restack => {
                unreachable!("how an object is copied is a copy or a refusal")
            }
        }
    }

    /// What comes after the last copy: superseded versions are remembered, and deleted where that was asked for. `found`: copies
    /// were recognised by looking, not all of them were made by this run.
    async fn finish(&self, pile: &Pile<'_, 'a>, target: &Target, found: bool) -> Result<(), Stop> {
        if self.deletes_superseded() {
            self.delete_all(pile, target, found).await?;
        }
        for id in &pile.ids {
            self.remember_superseded(id);
        }
        Ok(())
    }

    /// Proves every copy, and then deletes what they are of.
    async fn delete_all(
        &self,
        pile: &Pile<'_, 'a>,
        target: &Target,
        found: bool,
    ) -> Result<(), Stop> {
        let mut read = Read::new();
        for (old, copy) in pile.old.iter().zip(&pile.copies) {
            let Some(Layer {
                look: Some(old), ..
            }) = old
            else {
                continue;
            };
            let copy = self.look_at(Some(copy)).await?;
            let is_equal = target.is_confirmed_by(&copy.head.encryption)
                && self.is_same(&copy, old, Sure::ToDelete, &mut read).await?;
            if !is_equal {
                let id = old.head.version_id.as_deref().unwrap_or(NULL_VERSION);
                return Err(if found {
                    self.lost(pile, "what stands there is not its copy")
                } else {
                    came_back_wrong(id)
                });
            }
        }
        // `null` first: what is left of the others after an interruption still tells which stack it was.
        let mut there: Vec<_> = pile.old.iter().flatten().collect();
        there.sort_by_key(|layer| layer.version.version_id != NULL_VERSION);
        for layer in there {
            self.delete_version(&layer.version.version_id).await?;
        }
        Ok(())
    }
}

/// The code of a row whose key has nothing at all.
const NO_KEY: &str = "NoSuchKey";

/// Whether a version that was listed was not there any more when it was asked for.
fn is_gone(failure: &Failure) -> bool {
    failure.http_status == 404 && failure.code != NO_KEY
}

/// How a row fails whose key has nothing at all.
pub(super) fn no_version() -> Failure {
    Failure {
        code: NO_KEY.to_owned(),
        http_status: 404,
        message: "ListObjectVersions: the key has no version".to_owned(),
    }
}

/// A failure that is one version's, told so.
fn about_version(stop: Stop, version_id: &str) -> Stop {
    match stop {
        Stop::Row(mut failure) => {
            // The manifest of what waits for a restore names the row's version, and this may be another.
            if failure.code == NEEDS_RESTORE {
                failure.code = "VersionNeedsRestore".to_owned();
            }
            failure.message = format!("version {version_id}: {}", failure.message);
            Stop::Row(failure)
        }
        stop => stop,
    }
}
