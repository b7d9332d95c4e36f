//! One row: look, plan, rewrite, check what came back.
//!
//! The order of things is what keeps objects whole. A rewrite is pinned to the look before it. An attempt of which
//! it is not known whether it happened is followed by a look, never by the same request again. An answer counts
//! when it names the target; where it doesn't, a look decides.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use crate::encryption::{CustomerKey, Encryption, Mode, Target};
use crate::event::{Event, Operation, ResponseClass};
use crate::limiter::Limiter;
use crate::object::{ManifestEntry, ObjectHead};
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};
use crate::plan::{self, Plan, Refusal, Started};
use crate::retry::{self, Attempts, Verdict};
use crate::s3::{AclState, Copy, ObjectGrants, ObjectLock, S3};
use crate::s3_error::{DELETE_MARKER, S3Error};

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

/// What is true of the whole bucket.
#[derive(Clone, Debug)]
pub struct BucketFacts {
    /// Its name.
    pub name: String,
    /// Whether its objects may have grants that a copy would reset.
    pub acls: AclState,
    /// Whether its objects may be under retention or legal hold, which a copy would not carry, or would come under it.
    pub object_lock: ObjectLock,
}

/// What all tasks of a job share.
pub struct Context<'a> {
    /// The store.
    pub s3: &'a S3,
    /// The manifest's bucket.
    pub bucket: &'a BucketFacts,
    /// Keys that SSE-C objects may be under now.
    pub source_keys: &'a [CustomerKey],
    /// The budgets.
    pub limiter: &'a Limiter,
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
    /// The key that opened the last SSE-C object: most likely it opens the next.
    source_key: Cell<usize>,
}

impl Context<'_> {
    /// The key ARN that the target's alias stands for, once the store has told it.
    pub fn resolved_key(&self) -> Option<String> {
        self.target.borrow().kms()?.resolved.clone()
    }

    /// Tasks that wait, for a permit or before another attempt, end unsettled; requests on the wire are waited for.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits for `what`, unless the run drains.
    async fn unless_drained(&self, what: impl Future<Output = ()>) -> Result<(), Stop> {
        let mut draining = self.draining.subscribe();
        tokio::select! {
            biased;
            _ = draining.wait_for(|on| *on) => Err(Stop::Unsettled(Unsettled::Drained)),
            () = what => Ok(()),
        }
    }
}

/// Runs one row. `doubtful`: an earlier run had started it and not settled it.
///
/// # Errors
/// Why the row stays unsettled.
pub async fn run(
    ctx: &Context<'_>,
    entry: &ManifestEntry,
    doubtful: bool,
) -> Result<TaskOutcome, Unsettled> {
    if let Some(reason) = plan::plan_row(entry) {
        return Ok(TaskOutcome::Skipped(reason));
    }
    let mut task = Task {
        ctx,
        entry,
        started: if doubtful {
            Started::Before
        } else {
            Started::Not
        },
        attempts: Attempts::default(),
        given_up: None,
    };
    match task.run().await {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Row(failure)) => Ok(TaskOutcome::Failed(failure)),
        Err(Stop::Skip(reason)) => Ok(TaskOutcome::Skipped(reason)),
        Err(Stop::Unsettled(why)) => Err(why),
    }
}

struct Task<'c, 'a> {
    ctx: &'c Context<'a>,
    entry: &'c ManifestEntry,
    /// Whether the object may have been rewritten already.
    started: Started,
    /// Failed attempts of the rewrite; each look counts its own.
    attempts: Attempts,
    /// The last attempt failed for good; a last look decides what is told.
    given_up: Option<Failure>,
}

enum Stop {
    Row(Failure),
    Skip(SkipReason),
    Unsettled(Unsettled),
}

/// What a look told, and the customer key that it took.
struct Look<'a> {
    head: ObjectHead,
    key: Option<&'a CustomerKey>,
}

impl<'c, 'a> Task<'c, 'a> {
    /// Looks, plans and rewrites until the row has an outcome. Every turn but the first follows a counted failure, so that the
    /// bounds of [`Attempts`] bound it.
    async fn run(&mut self) -> Result<TaskOutcome, Stop> {
        let mut first = true;
        loop {
            let look = self.look().await?;
            if std::mem::take(&mut first) {
                (self.ctx.emit)(Event::Found {
                    mode: look.head.encryption.mode(),
                });
            }
            let _resolving = self.key_resolver(&look.head).await;
            let target = self.ctx.target.borrow().clone();
            match plan::plan_object(self.entry, &look.head, &target, self.started) {
                Plan::Done => return Ok(succeeded(&look)),
                Plan::Skip(reason) => return Ok(TaskOutcome::Skipped(reason)),
                Plan::Refuse(refusal) => return Err(Stop::Row(refusal.to_failure())),
                Plan::CopyInPlace => {}
            }
            if let Some(failure) = self.given_up.take() {
                return Err(Stop::Row(failure));
            }
            self.refuse_losses().await?;
            if let Some(outcome) = self.rewrite(&look, &target).await? {
                return Ok(outcome);
            }
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

    /// Looks at the object. An SSE-C object shows itself only to its key: S3 answers 400 without one, and 403 to a wrong one.
    async fn look(&self) -> Result<Look<'a>, Stop> {
        if self.entry.known.encryption != Some(Mode::SseC) {
            match self.head(None).await? {
                Ok(head) => return Ok(Look { head, key: None }),
                Err(refused) if refused.http_status == 400 => {}
                Err(refused) if refused.code == DELETE_MARKER => {
                    return Err(Stop::Skip(SkipReason::DeleteMarker));
                }
                Err(refused) => return Err(self.refused(refused).await),
            }
        }
        let ctx = self.ctx;
        let last = ctx.learnt.source_key.get();
        let mut refused = None;
        for index in
            std::iter::once(last).chain((0..ctx.source_keys.len()).filter(|index| *index != last))
        {
            let Some(key) = ctx.source_keys.get(index) else {
                continue;
            };
            match self.head(Some(key)).await? {
                Ok(head) => {
                    ctx.learnt.source_key.set(index);
                    // The store may have been lenient with a key that the object doesn't need.
                    let key = matches!(head.encryption, Encryption::SseC { .. }).then_some(key);
                    return Ok(Look { head, key });
                }
                Err(error) if matches!(error.http_status, 400 | 403) => refused = Some(error),
                Err(error) => return Err(self.refused(error).await),
            }
        }
        // The row may have been wrong about SSE-C; and without a key there has been no look at all yet.
        let error = match self.head(None).await? {
            Ok(head) => return Ok(Look { head, key: None }),
            Err(error) => refused.unwrap_or(error),
        };
        match self.refused(error).await {
            Stop::Row(failure) if matches!(failure.http_status, 400 | 403) => {
                Err(Stop::Row(Failure {
                    code: "NoCustomerKey".to_owned(),
                    message: format!(
                        "no key opens it, it seems to be under SSE-C: give its key with --source-sse-c-key-file ({})",
                        failure.message
                    ),
                    ..failure
                }))
            }
            stop => Err(stop),
        }
    }

    /// One HeadObject with its retries; the inner error is a refusal by the store.
    async fn head(&self, key: Option<&CustomerKey>) -> Result<Result<ObjectHead, S3Error>, Stop> {
        let ctx = self.ctx;
        self.ask(Operation::HeadObject, || {
            ctx.s3.head_object(&ctx.bucket.name, &self.entry.key, key)
        })
        .await
    }

    /// A question with its retries; the inner error is a refusal by the store.
    async fn ask<T, F>(
        &self,
        operation: Operation,
        request: impl Fn() -> F,
    ) -> Result<Result<T, S3Error>, Stop>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        let mut attempts = Attempts::default();
        loop {
            let error = match self.observed(operation, request()).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            let verdict = retry::judge_look(&error);
            if verdict == Verdict::FailRow {
                return Ok(Err(error));
            }
            self.pause(operation, &mut attempts, &verdict, &error)
                .await?;
        }
    }

    /// A HEAD's refusal names no code: a request that gets one tells whether it is this object that is refused, or everything.
    /// For objects that are gone it is asked now and then only: a bucket seldom goes.
    async fn refused(&self, error: S3Error) -> Stop {
        let last = self.ctx.learnt.diagnosed.get();
        if error.http_status == 404 && last.is_some_and(|at| at.elapsed() < DIAGNOSIS_INTERVAL) {
            return Stop::Row(error.to_failure());
        }
        match self.diagnose().await {
            Err(cause) if retry::judge_look(&cause) == Verdict::FailJob => {
                Stop::Unsettled(Unsettled::Fault(cause))
            }
            _ => Stop::Row(error.to_failure()),
        }
    }

    /// Asks the bucket something small. Whoever comes while the question is on its way shares the next one: an answer counts
    /// only for refusals that came before it was asked.
    async fn diagnose(&self) -> Result<(), S3Error> {
        let refused_at = Instant::now();
        let learnt = &self.ctx.learnt;
        let mut last = learnt.diagnosis.lock().await;
        if let Some((asked_at, answer)) = &*last
            && *asked_at >= refused_at
        {
            return answer.clone();
        }
        let asked_at = Instant::now();
        let answer = self.ctx.s3.diagnose(&self.ctx.bucket.name).await;
        learnt.diagnosed.set(Some(asked_at));
        *last = Some((asked_at, answer.clone()));
        answer
    }

    /// Refuses an object of which a copy would lose what HEAD does not show: grants, and retention or legal hold that we may
    /// not be allowed to see. Where we may not look, that is no "none": the row fails with the store's refusal.
    async fn refuse_losses(&self) -> Result<(), Stop> {
        let (ctx, key) = (self.ctx, &self.entry.key);
        let bucket = &ctx.bucket.name;
        let refused = |error: S3Error| Stop::Row(error.to_failure());
        if ctx.bucket.acls == AclState::Enabled {
            let grants = self.ask(Operation::GetObjectAcl, || {
                ctx.s3.object_grants(bucket, key)
            });
            if grants.await?.map_err(refused)? == ObjectGrants::Others {
                return Err(Stop::Row(Refusal::Grants.to_failure()));
            }
        }
        if ctx.bucket.object_lock == ObjectLock::DefaultRetention {
            return Err(Stop::Row(Refusal::DefaultRetention.to_failure()));
        }
        if ctx.bucket.object_lock == ObjectLock::Enabled {
            let retention = self.ask(Operation::GetObjectRetention, || {
                ctx.s3.has_retention(bucket, key)
            });
            let held = self.ask(Operation::GetObjectLegalHold, || {
                ctx.s3.has_legal_hold(bucket, key)
            });
            if retention.await?.map_err(refused)? || held.await?.map_err(refused)? {
                return Err(Stop::Row(Refusal::Locked.to_failure()));
            }
        }
        Ok(())
    }

    /// Copies the object onto itself; `None` means: look again.
    async fn rewrite(
        &mut self,
        look: &Look<'_>,
        target: &Target,
    ) -> Result<Option<TaskOutcome>, Stop> {
        let ctx = self.ctx;
        loop {
            ctx.unless_drained(ctx.limiter.write()).await?;
            let copy = Copy {
                bucket: &ctx.bucket.name,
                key: &self.entry.key,
                head: &look.head,
                target,
                source_key: look.key,
            };
            let error = match self
                .observed(Operation::CopyObject, ctx.s3.copy_in_place(copy))
                .await
            {
                Ok(copied) => return self.check(look, target, copied.encryption).await.map(Some),
                Err(error) => error,
            };
            let verdict = retry::judge_rewrite(&error, &look.head.encryption, target);
            let mut attempts = self.attempts;
            let pause = self
                .pause(Operation::CopyObject, &mut attempts, &verdict, &error)
                .await;
            self.attempts = attempts;
            match (verdict, pause) {
                (Verdict::Again { .. }, Ok(())) => {}
                (Verdict::Conflict, Ok(())) => return Ok(None),
                (Verdict::LookFirst, Ok(())) => {
                    self.started = Started::Now;
                    return Ok(None);
                }
                (Verdict::LookFirst, Err(Stop::Row(failure))) => {
                    self.started = Started::Now;
                    self.given_up = Some(failure);
                    return Ok(None);
                }
                (_, Err(stop)) => return Err(stop),
                (Verdict::FailRow | Verdict::FailJob, Ok(())) => {
                    unreachable!("a verdict that fails is never paused for")
                }
            }
        }
    }

    /// Holds the store's answer against the target. Where the answer doesn't name it, HTTP 200 proves nothing: look.
    async fn check(
        &self,
        look: &Look<'_>,
        target: &Target,
        answered: Option<Encryption>,
    ) -> Result<TaskOutcome, Stop> {
        if let Some(answered) = &answered
            && target.is_confirmed_by(answered)
        {
            self.learn_key(answered);
            return Ok(succeeded(look));
        }
        let key = match target {
            Target::SseC(key) => Some(key),
            Target::SseS3 | Target::SseKms(_) | Target::DsseKms(_) => None,
        };
        let found = match self.head(key).await? {
            Ok(head) => head.encryption,
            Err(error) => return Err(Stop::Row(error.to_failure())),
        };
        if target.is_confirmed_by(&found) {
            self.learn_key(&found);
            return Ok(succeeded(look));
        }
        Err(Stop::Row(Failure {
            code: "EncryptionNotApplied".to_owned(),
            http_status: 200,
            message: format!(
                "the store answered OK, but what it shows ({}) is not {} under the key that was asked for",
                shown(&found),
                target.mode()
            ),
        }))
    }

    /// The store names the key that an alias stands for in its answer.
    fn learn_key(&self, answered: &Encryption) {
        let (Encryption::SseKms { key: Some(arn), .. } | Encryption::DsseKms { key: Some(arn) }) =
            answered
        else {
            return;
        };
        let mut target = self.ctx.target.borrow_mut();
        if let Target::SseKms(kms) | Target::DsseKms(kms) = &mut *target
            && kms.needs_resolving()
        {
            kms.resolved = Some(arn.clone());
        }
    }

    /// Tells of a request and its answer.
    async fn observed<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, S3Error> {
        let sent = Instant::now();
        let answer = request.await;
        (self.ctx.emit)(Event::Request {
            operation,
            class: answer
                .as_ref()
                .map_or_else(S3Error::class, |_| ResponseClass::Ok),
            elapsed: sent.elapsed(),
        });
        answer
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// There shall be none: the verdict fails, or the bound is reached.
    async fn pause(
        &self,
        operation: Operation,
        attempts: &mut Attempts,
        verdict: &Verdict,
        error: &S3Error,
    ) -> Result<(), Stop> {
        if let Verdict::Again {
            throttled_by: Some(by),
        } = verdict
        {
            (self.ctx.emit)(Event::Throttled { by: *by });
        }
        let wait = match verdict {
            Verdict::FailJob => return Err(Stop::Unsettled(Unsettled::Fault(error.clone()))),
            Verdict::FailRow => return Err(Stop::Row(error.to_failure())),
            _ => attempts.next(verdict, error, &mut *self.ctx.rng.borrow_mut()),
        };
        let Some(wait) = wait else {
            // Not this object, when the bucket fares no better: then every row would end like this one.
            if let Err(cause) = self.diagnose().await
                && retry::judge_look(&cause) != Verdict::FailRow
            {
                return Err(Stop::Unsettled(Unsettled::Fault(cause)));
            }
            let mut failure = error.to_failure();
            failure.message = format!(
                "gave up after {} attempts: {}",
                attempts.count(),
                failure.message
            );
            return Err(Stop::Row(failure));
        };
        (self.ctx.emit)(Event::Retried {
            operation,
            class: error.class(),
        });
        self.ctx.unless_drained(tokio::time::sleep(wait)).await
    }
}

/// An encryption as a message tells it.
fn shown(found: &Encryption) -> String {
    match found {
        Encryption::SseKms { key, .. } | Encryption::DsseKms { key } => {
            let key = key.as_deref().unwrap_or("a key that it does not name");
            format!("{} under {key}", found.mode())
        }
        Encryption::NotSse | Encryption::SseS3 | Encryption::SseC { .. } => {
            found.mode().to_string()
        }
    }
}

fn succeeded(look: &Look<'_>) -> TaskOutcome {
    TaskOutcome::Succeeded {
        method: Method::Copy,
        bytes: look.head.size,
    }
}
