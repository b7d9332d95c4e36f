//! One row: look, plan, rewrite, check what came back.
//!
//! The order of things is what keeps objects whole. A rewrite is pinned to the look before it. An attempt of which
//! it is not known whether it happened is followed by a look, never by the same request again. An answer counts
//! when it names the target; where it doesn't, a look decides.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::sync::{Mutex, MutexGuard, SemaphorePermit, watch};
use tokio::time::Instant;

use crate::bucket::BucketFacts;
use crate::checkpoint::Checkpoint;
use crate::closure::Whole;
use crate::encryption::{CustomerKey, Target};
use crate::event::{Event, Operation};
use crate::evidence::{Left, State, Told};
use crate::journal::Leader;
use crate::limiter::Limiter;
use crate::object::{ManifestEntry, ObjectHead};
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};
use crate::plan::{self, Circumstances, Plan, Requests, RowPlan, Rules, Seen, Started};
use crate::profile::StoreProfile;
use crate::retry::Attempts;
use crate::s3::{Carry, Destination, Directive, S3, Written};
use crate::s3_error::S3Error;
use crate::stall::Stall;
pub use canary::Canary;
pub use decide::{Act, Decided, Decision, decide, takes_a_look};
pub use foresee::{Foretold, foretell, foretell_questions};
use gather::Absent;
use keys::{Keys, Place};
use look::Look;
pub use look::{Looked, look_at_row};
use multipart::{InParts, Uploads};
pub use notes::{NoNote, Note, Notes};
pub use readback::{ReadObject, read_row};
pub use row::{Ended, Start};
pub use undo::{Undone, undo};
use verify::Proof;
pub use verify::Verify;
pub use witness::Witness;

mod asked;
mod canary;
mod decide;
mod foresee;
mod gather;
mod halfway;
mod keys;
mod look;
mod multipart;
mod notes;
mod pile;
mod readback;
mod restack;
mod rewrite;
mod row;
mod supersede;
mod undo;
mod verify;
mod waiting;
mod witness;

/// Between two questions whether refusals without a code are the job's fault: they cost a request each.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(5);

/// Why a row is left without an outcome, for another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// A fault that every object would meet.
    Fault(S3Error),
    /// The run drains, and this row had nothing on the wire.
    Drained,
}

/// What the operator has set for all rows.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How objects are rewritten.
    pub rules: Rules,
    /// Bytes of a part, where the operator has said; else an object keeps its layout, or gets one.
    pub part_bytes: Option<u64>,
    /// Whether versions that were superseded are deleted, once their rewrite is verified.
    pub delete_superseded: bool,
    /// How much of each rewrite is checked.
    pub verify: Verify,
    /// Whether evidence of each rewrite is kept: then every object is looked at before.
    pub evidence: bool,
}

/// What all tasks of a job share.
pub struct Context<'a> {
    /// The store.
    pub s3: &'a S3,
    /// What the store has shown that it does.
    pub profile: &'a StoreProfile,
    /// What the operator has set.
    pub settings: &'a Settings,
    /// The manifest's bucket.
    pub bucket: &'a BucketFacts,
    /// Keys that SSE-C objects may be under now.
    pub source_keys: &'a [CustomerKey],
    /// The budgets.
    pub limiter: &'a Limiter,
    /// Whether anything may be changed.
    pub right: Right,
    /// Who is told.
    pub emit: &'a dyn Fn(Event<'_>),
    /// The target; its KMS alias gets resolved on the way.
    pub target: RefCell<Target>,
    /// Jitters the back-off.
    pub rng: RefCell<SmallRng>,
    /// What the tasks learn from each other.
    pub learnt: Learnt,
    /// Set once nothing more is to be begun.
    pub draining: watch::Sender<bool>,
    /// Where checkpoints are left.
    pub notes: Notes,
    /// What has to come through before the rest is rewritten.
    pub canary: Canary,
    /// Whether anything goes on at all.
    pub stall: Stall,
    /// Where rewrites are noted of which evidence is kept.
    pub witness: Witness,
}

/// Whether requests may be sent that change something.
pub enum Right {
    /// None: a survey only looks.
    ToLook,
    /// As long as this runner is still the one that holds the state.
    ToLead(Leader),
    /// All: there is no state that another could take over, and each change is conditional.
    Alone,
}

/// What the tasks of a job learn from each other.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Held by the one task that lets the store resolve the target's alias.
    resolving: Mutex<()>,
    /// The last question why something is refused: when it was asked, and its answer.
    diagnosis: Mutex<Option<(Instant, Result<(), S3Error>)>>,
    /// When that was, readable while the next question is on its way.
    diagnosed: Cell<Option<Instant>>,
    /// What the store does not know at all.
    absent: Absent,
    /// What copies in parts share.
    in_parts: InParts,
    /// The key that opened the last SSE-C object: most likely it opens the next.
    source_key: Cell<usize>,
    /// What tasks of the same key know of each other.
    keys: Keys,
}

impl Learnt {
    /// With what the rows have left word of that earlier runs have not settled.
    pub fn after<'c>(checkpoints: impl IntoIterator<Item = &'c Checkpoint>) -> Self {
        Self {
            keys: Keys::after(checkpoints),
            ..Self::default()
        }
    }
}

impl Context<'_> {
    /// What the planner decides from, beside the object.
    fn circumstances<'t>(&'t self, target: &'t Target) -> Circumstances<'t> {
        Circumstances {
            target,
            bucket: self.bucket,
            profile: self.profile,
            rules: &self.settings.rules,
        }
    }

    /// The key ARN that the target's alias stands for, once the store has told it.
    pub fn resolved_key(&self) -> Option<String> {
        self.target.borrow().kms()?.resolved.clone()
    }

    /// Tasks that wait, for a permit or before another attempt, end unsettled; requests on the wire are waited for.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits for `what`, unless the run drains.
    async fn unless_drained<T>(&self, what: impl Future<Output = T>) -> Result<T, Stop> {
        let mut draining = self.draining.subscribe();
        tokio::select! {
            biased;
            _ = draining.wait_for(|on| *on) => Err(Stop::Unsettled(Unsettled::Drained)),
            done = what => Ok(done),
        }
    }
}

/// Runs one row.
pub async fn run(ctx: &Context<'_>, entry: &ManifestEntry, start: Start<'_>) -> Ended {
    let mut task = Task::new(ctx, entry, start);
    let ended = task.run().await;
    match task.without_uploads(ended).await {
        Ok(outcome) => {
            if let Some(place) = task.place.take() {
                ctx.canary.prove(place);
            }
            Ended::Settled(outcome)
        }
        Err(Stop::Row(failure)) => Ended::Settled(TaskOutcome::Failed(failure)),
        Err(Stop::Wrong(failure)) => Ended::CameBackWrong(failure),
        Err(Stop::Skip(reason)) => Ended::Settled(TaskOutcome::Skipped(reason)),
        Err(Stop::Unsettled(why)) => Ended::Unsettled(why),
    }
}

struct Task<'c, 'a> {
    ctx: &'c Context<'a>,
    entry: &'c ManifestEntry,
    /// Whether the object may have been rewritten already.
    started: Started,
    /// How much of the rewrite is checked.
    proof: Proof,
    /// How much would be, were the canary over.
    usual_proof: Proof,
    /// The place among those that prove the store.
    place: Option<SemaphorePermit<'c>>,
    /// The right to be alone with the key while its object is copied.
    alone: Option<Place<'c>>,
    /// Somebody's old version is current until this row is through: no drain stops it.
    must_finish: Cell<bool>,
    /// A copy was pinned by the date of what it copies.
    dated: bool,
    /// A change was sent: what is asked after it is asked also while the run drains.
    wrote: Cell<bool>,
    /// What was asked and answered.
    counted: Cell<Requests>,
    /// What was there before the last attempt, as far as it is to be proven.
    before: Option<Whole>,
    /// What was looked at before the last attempt, where evidence is kept.
    attempted: Option<State>,
    /// What an earlier run has left word of, oldest first.
    checkpoints: &'c [Checkpoint],
    /// What an earlier run's rewrites have left, of which there is evidence.
    rewritten: &'c [Left],
    /// And what this run's have left.
    borne: RefCell<Vec<Left>>,
    /// Uploads of the row that may be on the store still.
    uploads: Uploads,
    /// The version that was current before the copy, where it is to be deleted after it.
    superseding: Option<String>,
    /// What this run has left word of last, before it sent a rewrite.
    noted: Option<Checkpoint>,
    /// The method of the last attempt.
    method: Method,
    /// The store has refused UpdateObjectEncryption for this object.
    update_refused: bool,
    /// Failed attempts of the rewrite; each look counts its own.
    attempts: Attempts,
    /// The last attempt failed for good; a last look decides what is told.
    given_up: Option<Failure>,
}

/// What a look shows of a rewrite that did not tell.
fn written_as(head: &ObjectHead) -> Written {
    Written {
        encryption: Some(head.encryption.clone()),
        etag: Some(head.etag.clone()),
        version_id: head.version_id.clone(),
        checksums: head.checksums.clone(),
        request_id: None,
    }
}

/// The code of a row whose object may be somebody else's, or may have come back wrong.
const UNPROVEN: &str = "Unproven";

/// What differs after an attempt that did not tell may be somebody else's object.
fn untold(mut failure: Failure) -> Failure {
    UNPROVEN.clone_into(&mut failure.code);
    failure.message = format!(
        "an attempt did not tell whether it happened, and what is there now is under the target but not the same, so that it is \
         somebody else's or came back wrong: {}",
        failure.message
    );
    failure
}

/// Whether an object was refused as one is that lies under another customer's key than was sent. Once it has come under the target, by
/// an attempt or a run before this one, S3 says that of it, and not that it has changed.
fn may_be_of_another_key(failure: &Failure, target: &Target) -> bool {
    matches!(target, Target::SseC(_))
        && matches!(failure.http_status, 400 | 403)
        && !failure.code.starts_with("KMS.")
}

/// What is to be done first with a row.
enum Beginning<'a> {
    /// It is looked at.
    Look,
    /// It stands for a look.
    Known(Box<Look<'a>>),
    /// All versions of its key are listed.
    Restack,
    /// Nothing: another row of its key has done it.
    Restacked,
}

/// Why a row is not gone on with.
enum Stop {
    /// It fails.
    Row(Failure),
    /// Nothing is to be done.
    Skip(SkipReason),
    /// It stays without an outcome.
    Unsettled(Unsettled),
    /// The object came back wrong: nothing more may be rewritten.
    Wrong(Failure),
}

impl From<NoNote> for Stop {
    fn from(reason: NoNote) -> Self {
        match reason {
            NoNote::TooLong(failure) => Self::Row(failure),
            NoNote::Unsettled(why) => Self::Unsettled(why),
        }
    }
}

impl<'c, 'a> Task<'c, 'a> {
    /// A row that nothing has been asked about yet.
    fn new(ctx: &'c Context<'a>, entry: &'c ManifestEntry, start: Start<'c>) -> Self {
        let usual_proof = ctx.settings.verify.for_object(entry);
        Self {
            ctx,
            entry,
            // Where evidence is kept, nothing is rewritten but what word was left of before.
            started: match start.doubtful {
                true if !ctx.settings.evidence || !start.checkpoints.is_empty() => Started::Before,
                _ => Started::Not,
            },
            proof: usual_proof,
            usual_proof,
            place: None,
            alone: None,
            must_finish: Cell::new(false),
            wrote: Cell::new(false),
            counted: Cell::default(),
            dated: false,
            before: None,
            attempted: None,
            checkpoints: start.checkpoints,
            rewritten: start.rewritten,
            borne: RefCell::default(),
            uploads: Uploads::of(start.checkpoints),
            attempts: Attempts::default(),
            superseding: start.checkpoints.iter().rev().find_map(|left| match left {
                Checkpoint::Superseding { version_id } => Some(version_id.clone()),
                _ => None,
            }),
            noted: None,
            method: Method::Copy,
            update_refused: false,
            given_up: None,
        }
    }

    /// Looks, plans and rewrites until the row has an outcome. Every turn but the first follows a counted failure, or the one
    /// refusal of an update, or the one attempt without a look (which the canary may not make), or the one wait for another row of
    /// the key, so that the bounds of [`Attempts`] bound it.
    async fn run(&mut self) -> Result<TaskOutcome, Stop> {
        let target = self.ctx.target.borrow().clone();
        let mut known = match self.begin(&target)? {
            Beginning::Restack => return Box::pin(self.restack(None)).await,
            Beginning::Restacked => return Ok(self.restacked()),
            Beginning::Known(look) => Some(*look),
            Beginning::Look => None,
        };
        let (mut first, mut was_refused) = (true, false);
        loop {
            let look = match known.take() {
                Some(look) => look,
                None => match self.look().await {
                    // Perhaps an earlier run has superseded and deleted it.
                    Err(Stop::Row(gone)) if gone.http_status == 404 && self.may_be_deleted() => {
                        return Box::pin(self.restack(Some(gone))).await;
                    }
                    look => look?,
                },
            };
            if std::mem::take(&mut first) {
                (self.ctx.emit)(Event::Found {
                    mode: look.head.encryption.mode(),
                });
            }
            match self.turn(&look).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                Err(Stop::Row(failure)) if may_be_of_another_key(&failure, &target) => {
                    let changed = Box::pin(self.changed_since(&look, &mut was_refused)).await?;
                    known = Some(changed.ok_or(Stop::Row(failure))?);
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// What is to be done first, as far as the row alone tells.
    fn begin(&self, target: &Target) -> Result<Beginning<'a>, Stop> {
        look::can_be_asked_about(&self.entry.key)?;
        match plan::plan_row(self.entry, self.started, self.ctx.circumstances(target)) {
            RowPlan::Skip(reason) => Err(Stop::Skip(reason)),
            RowPlan::Restack => Ok(Beginning::Restack),
            RowPlan::Look if self.is_restacked() => Ok(Beginning::Restacked),
            RowPlan::Unseen(head)
                if !self.proof.looks()
                    && !self.deletes_superseded()
                    && !self.ctx.settings.evidence =>
            {
                Ok(Beginning::Known(Box::new(Look {
                    head: *head,
                    key: None,
                    is_current: true,
                    is_unseen: true,
                    has_checksums: false,
                })))
            }
            RowPlan::Unseen(_) | RowPlan::Look => Ok(Beginning::Look),
        }
    }

    /// What an object has become whose key was refused, if it is not the one that was looked at any more. Asked once for a row.
    async fn changed_since(
        &self,
        look: &Look<'a>,
        was_refused: &mut bool,
    ) -> Result<Option<Look<'a>>, Stop> {
        if std::mem::replace(was_refused, true) {
            return Ok(None);
        }
        match self.look().await {
            Ok(now) => Ok(Some(now).filter(|now| now.head.etag != look.head.etag)),
            // What was refused first says more.
            Err(Stop::Row(_)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Plans and rewrites what a look has told; `None` means: look again.
    async fn turn(&mut self, look: &Look<'a>) -> Result<Option<TaskOutcome>, Stop> {
        if plan::needs_resolved_key(&look.head, &self.ctx.target.borrow()) {
            self.enter_canary().await?;
        }
        let resolving = self.key_resolver(&look.head).await;
        let target = self.ctx.target.borrow().clone();
        let plan = self.planned(look, &target);
        match plan {
            Plan::Done => {
                if let Some(before) = self.before.take() {
                    let written = written_as(&look.head);
                    match Box::pin(self.verify(&before, &target, &written)).await {
                        Ok(true) => {}
                        Ok(false) => {
                            return Box::pin(self.changed_meanwhile(look, &target))
                                .await
                                .map(|()| None);
                        }
                        // While the store has yet to earn trust, it has none.
                        Err(Stop::Wrong(failure)) if self.place.is_none() => {
                            return Err(Stop::Row(untold(failure)));
                        }
                        Err(stop) => return Err(stop),
                    }
                }
                let attempted = self.attempted.take();
                self.bear_witness(
                    Told::Look,
                    Some(self.method),
                    attempted,
                    &written_as(&look.head),
                );
                self.delete_superseded(&target, None).await?;
                return Ok(Some(self.succeeded(look)));
            }
            Plan::Skip(reason @ SkipReason::Filtered) => return Err(Stop::Skip(reason)),
            Plan::Skip(reason) => {
                if reason == SkipReason::DoneBeforeInterruption && self.ctx.settings.evidence {
                    Box::pin(self.bear_witness_of_interrupted(look)).await?;
                }
                self.delete_superseded(&target, None).await?;
                return Err(Stop::Skip(reason));
            }
            Plan::Refuse(refusal) => return Err(Stop::Row(refusal.to_failure())),
            Plan::UpdateEncryption
            | Plan::CopyInPlace { .. }
            | Plan::MultipartCopy
            | Plan::Restack => {}
        }
        if let Some(failure) = self.given_up.take() {
            return Err(Stop::Row(failure));
        }
        if plan == Plan::Restack {
            // It asks itself, for each version.
            drop(resolving);
            // In another order than there, two tasks could wait for each other.
            self.place = None;
            return Box::pin(self.restack(None)).await.map(Some);
        }
        if plan != Plan::UpdateEncryption && self.alone.is_none() {
            // Another row may name the same object, and a store that ignores conditions would copy it twice.
            let mut alone = self.ctx.learnt.keys.queue(&self.entry.key);
            let is_first = alone.try_reached();
            if !is_first {
                // Whoever waits here holds nothing that others wait for.
                drop(resolving);
                self.place = None;
                self.unless_drained(alone.reached()).await?;
            }
            self.alone = Some(alone);
            if !is_first {
                return Ok(None);
            }
        }
        self.enter_canary().await?;
        if self.place.is_some() && !look.has_checksums {
            // What is held against its rewrite has to be seen.
            return Ok(None);
        }
        let (before, carry) = match self.known_of(&plan, look, &target).await {
            // What is asked and read is pinned to the look.
            Err(Stop::Row(failure)) if failure.http_status == 412 => {
                return Box::pin(self.changed_meanwhile(look, &target))
                    .await
                    .map(|()| None);
            }
            known => known?,
        };
        self.before = before;
        self.attempts_at(&look.head);
        self.note_rewriting(look, plan == Plan::UpdateEncryption)
            .await?;
        let written = match plan {
            Plan::UpdateEncryption => Box::pin(self.update(look, &target)).await?,
            Plan::CopyInPlace { resend } => {
                let directive = if resend {
                    Directive::Replace
                } else {
                    Directive::Copy
                };
                self.copy(look, &target, &carry, directive).await?
            }
            Plan::MultipartCopy => {
                let destination = Destination::Etag(&look.head.etag);
                Box::pin(self.copy_in_parts(look, &target, &carry, destination)).await?
            }
            Plan::Done | Plan::Skip(_) | Plan::Refuse(_) | Plan::Restack => {
                unreachable!("returned above")
            }
        };
        let Some(written) = written else {
            return Ok(None);
        };
        let attempted = self.attempted.take();
        self.bear_witness(Told::Answer, Some(self.method), attempted, &written);
        if let Some(before) = self.before.take()
            && !Box::pin(self.verify(&before, &target, &written)).await?
        {
            // Under the target it may still be ours, and is held against what there was.
            self.before = Some(before);
            self.started = Started::Now;
            return Box::pin(self.changed_meanwhile(look, &target))
                .await
                .map(|()| None);
        }
        if plan != Plan::UpdateEncryption {
            self.delete_superseded(&target, Some(&written)).await?;
        }
        Ok(Some(self.succeeded(look)))
    }

    /// What a look decides.
    fn planned(&self, look: &Look<'a>, target: &Target) -> Plan {
        let seen = Seen {
            head: &look.head,
            is_current: look.is_current,
            update_refused: self.update_refused,
        };
        let on = self.ctx.circumstances(target);
        plan::plan_object(self.entry, seen, self.started, on)
    }

    /// What has to be known of an object beside what the look shows: to prove its rewrite, and to be sent along.
    async fn known_of(
        &self,
        plan: &Plan,
        look: &Look<'a>,
        target: &Target,
    ) -> Result<(Option<Whole>, Carry), Stop> {
        let before = self.whole_before(look).await?;
        let carry = match plan {
            Plan::CopyInPlace { resend } => self.gather(look, target, *resend, false).await?,
            Plan::MultipartCopy => self.gather(look, target, true, true).await?,
            _ => Carry::default(),
        };
        Ok((before, carry))
    }

    /// Somebody has written the object since our look, or since our rewrite: it is planned anew, within the bound of conflicts.
    async fn changed_meanwhile(&mut self, look: &Look<'a>, target: &Target) -> Result<(), Stop> {
        let error = S3Error::changed_meanwhile(Operation::HeadObject.name());
        self.failed(Operation::HeadObject, look, target, &error)
            .await
            .map(|_| ())
    }

    fn succeeded(&self, look: &Look<'_>) -> TaskOutcome {
        TaskOutcome::Succeeded {
            method: self.method,
            bytes: look.head.size,
        }
    }

    /// Where the target's key is an alias that nobody knows yet, and this object may be under that key: the right to be the one
    /// that lets the store tell. Everybody else waits for the answer.
    async fn key_resolver(&self, head: &ObjectHead) -> Option<MutexGuard<'c, ()>> {
        let unknown = || plan::needs_resolved_key(head, &self.ctx.target.borrow());
        if !unknown() {
            return None;
        }
        let guard = self.ctx.learnt.resolving.lock().await;
        unknown().then_some(guard)
    }

    /// Waits for `what`, unless the run drains and the row may be left as it is.
    async fn unless_drained<T>(&self, what: impl Future<Output = T>) -> Result<T, Stop> {
        if self.must_finish.get() {
            return Ok(what.await);
        }
        self.ctx.unless_drained(what).await
    }
}
