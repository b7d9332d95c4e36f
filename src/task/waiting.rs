//! Requests that are not answered as asked: sent again after a pause, or once everything goes on again.
//!
//! What is seldom on the way of a row is boxed: the futures of requests are large, and the one of a task has room for all that it may
//! come to hold.

use std::time::Duration;

use tokio::time::Instant;

use super::asked::Asked;
use super::{Stop, Task, Unsettled};
use crate::event::{Event, Operation, ResponseClass};
use crate::limiter::{Answered, Need};
use crate::retry::{self, Attempts, Verdict};
use crate::s3_error::S3Error;
use crate::stall;

impl Task<'_, '_> {
    /// A question with its retries; the inner error is a refusal by the store, of this object and not of everything.
    pub(super) async fn ask<T, F>(
        &self,
        asked: impl Into<Asked>,
        request: impl Fn() -> F,
    ) -> Result<Result<T, S3Error>, Stop>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        let (asked, mut attempts) = (asked.into(), Attempts::default());
        loop {
            let answer = Box::pin(self.answer(asked, &request, &mut attempts));
            let refused = match answer.await? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(refused) => refused,
            };
            let may_be_everything = asked.operation == Operation::HeadObject
                && matches!(refused.http_status, 400 | 403);
            if !may_be_everything || !self.was_everything(&mut attempts).await? {
                return Ok(Err(refused));
            }
        }
    }

    /// The same; a HEAD's refusal may still be one of everything.
    pub(super) async fn answer<T, F>(
        &self,
        asked: Asked,
        request: impl Fn() -> F,
        attempts: &mut Attempts,
    ) -> Result<Result<T, S3Error>, Stop>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        loop {
            let error = match self.send(asked, request()).await? {
                Ok(answer) => {
                    self.count(asked);
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            let verdict = retry::judge_look(&error);
            if verdict == Verdict::FailRow {
                self.count(asked);
                return Ok(Err(error));
            }
            self.pause(asked.operation, attempts, &verdict, &error)
                .await?;
        }
    }

    /// Sends a request once it may be, and tells of it and of its answer.
    ///
    /// # Errors
    /// It was not sent: the run drains, or this runner is not the one any more.
    pub(super) async fn send<T>(
        &self,
        asked: impl Into<Asked>,
        request: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<Result<T, S3Error>, Stop> {
        let asked = asked.into();
        let permit = self.permit(asked).await?;
        let answer = self.observed(asked.operation, request).await;
        permit.answered(&self.entry.key, Answered::of(&answer));
        Ok(answer)
    }

    /// Whether what was refused without a code would have been refused whatever it was; then that has been waited for.
    ///
    /// # Errors
    /// Every object would meet it, and nobody waits for the end of it.
    pub(super) async fn was_everything(&self, attempts: &mut Attempts) -> Result<bool, Stop> {
        let Err(cause) = Box::pin(self.diagnose()).await else {
            return Ok(false);
        };
        match self.judged(retry::judge_look(&cause), &cause) {
            Verdict::FailJob => Err(Stop::Unsettled(Unsettled::Fault(cause))),
            Verdict::Stall => self.sit_out(attempts, &cause).await.map(|()| true),
            _ => Ok(false),
        }
    }

    /// Asks the bucket something small. Whoever comes while the question is on its way shares the next one: an answer counts
    /// only for refusals that came before it was asked.
    async fn diagnose(&self) -> Result<(), S3Error> {
        let ctx = self.ctx;
        let refused_at = Instant::now();
        let learnt = &ctx.learnt;
        let mut last = learnt.diagnosis.lock().await;
        if let Some((asked_at, answer)) = &*last
            && *asked_at >= refused_at
        {
            return answer.clone();
        }
        let permit = ctx.limiter.permit(Need::ABOUT_THE_BUCKET).await;
        let asked_at = Instant::now();
        let answer = ctx.s3.diagnose(&ctx.bucket.name).await;
        permit.answered("", Answered::of(&answer));
        ctx.stall.heard(asked_at, &answer);
        learnt.diagnosed.set(Some(asked_at));
        *last = Some((asked_at, answer.clone()));
        answer
    }

    /// Tells of a request and its answer.
    pub(super) async fn observed<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, S3Error> {
        let sent = Instant::now();
        let answer = request.await;
        self.ctx.stall.heard(sent, &answer);
        (self.ctx.emit)(Event::Request {
            operation,
            class: answer
                .as_ref()
                .map_or_else(S3Error::class, |_| ResponseClass::Ok),
            elapsed: sent.elapsed(),
        });
        answer
    }

    /// A verdict in the light of how everybody fares: what has never worked is not waited for, and what gets no answer while
    /// nobody does is no fault of this row.
    fn judged(&self, verdict: Verdict, error: &S3Error) -> Verdict {
        let stall = &self.ctx.stall;
        match verdict {
            verdict if !stall.may_wait() => verdict.without_waiting(error),
            Verdict::Again { throttled_by: None } | Verdict::LookFirst if stall.is_on() => {
                Verdict::Stall
            }
            verdict => verdict,
        }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// There shall be none: the verdict fails, or the bound is reached.
    pub(super) async fn pause(
        &self,
        operation: Operation,
        attempts: &mut Attempts,
        verdict: &Verdict,
        error: &S3Error,
    ) -> Result<(), Stop> {
        let verdict = self.judged(verdict.clone(), error);
        if let Verdict::Again {
            throttled_by: Some(by),
        } = verdict
        {
            (self.ctx.emit)(Event::Throttled { by });
        }
        let wait = match verdict {
            Verdict::FailJob => return Err(Stop::Unsettled(Unsettled::Fault(error.clone()))),
            Verdict::FailRow => return Err(Stop::Row(error.to_failure())),
            Verdict::Stall => {
                self.sit_out(attempts, error).await?;
                Some(Duration::ZERO)
            }
            _ => attempts.next(&verdict, error, &mut *self.ctx.rng.borrow_mut()),
        };
        let Some(wait) = wait else {
            return self.unless_nobody_fares_better(attempts, error).await;
        };
        (self.ctx.emit)(Event::Retried {
            operation,
            class: error.class(),
        });
        self.unless_drained(tokio::time::sleep(wait)).await
    }

    /// A row has had all its attempts. Where the bucket fares no better, every row would end like this one: then that is waited for,
    /// and the row begins again to count.
    ///
    /// # Errors
    /// It is this object; or there is no waiting.
    async fn unless_nobody_fares_better(
        &self,
        attempts: &mut Attempts,
        error: &S3Error,
    ) -> Result<(), Stop> {
        if let Err(cause) = Box::pin(self.diagnose()).await {
            if self.ctx.stall.may_wait() && retry::is_trouble(&cause) {
                self.sit_out(attempts, &cause).await?;
                attempts.forgive();
                return Ok(());
            }
            if retry::judge_look(&cause) != Verdict::FailRow {
                return Err(Stop::Unsettled(Unsettled::Fault(cause)));
            }
        }
        let mut failure = error.to_failure();
        failure.message = format!(
            "gave up after {} attempts: {}",
            attempts.count(),
            failure.message
        );
        Err(Stop::Row(failure))
    }

    /// Waits until everything goes on, and a little longer, so that not all come back at once.
    ///
    /// # Errors
    /// It does not, for as long as it may be waited for; or it did time and again, and not for this row.
    async fn sit_out(&self, attempts: &mut Attempts, error: &S3Error) -> Result<(), Stop> {
        let wait = attempts.next(&Verdict::Stall, error, &mut *self.ctx.rng.borrow_mut());
        let Some(wait) = wait else {
            return Err(self.stood_still_too_often(error).await);
        };
        self.ctx.stall.begin(stall::why(error));
        let outcome = self
            .unless_drained(Box::pin(self.ask_until_it_is_over(error)))
            .await?;
        outcome.map_err(|error| Stop::Unsettled(Unsettled::Fault(error)))?;
        self.unless_drained(tokio::time::sleep(wait)).await
    }

    /// One task asks the bucket now and then, the others wait for the outcome.
    async fn ask_until_it_is_over(&self, error: &S3Error) -> Result<(), S3Error> {
        let (ctx, stall) = (self.ctx, &self.ctx.stall);
        let Some(_turn) = stall.turn().await else {
            return Ok(());
        };
        while stall.is_on() {
            let pause = stall.pause(&mut *ctx.rng.borrow_mut());
            let Some(pause) = pause else {
                return Err(stall.given_up(error));
            };
            let asked = async {
                tokio::time::sleep(pause).await;
                let _permit = ctx.limiter.permit(Need::ABOUT_THE_BUCKET).await;
                let sent = Instant::now();
                let question = ctx.s3.diagnose(&ctx.bucket.name);
                if let Ok(answer) = tokio::time::timeout(stall.left(), question).await
                    && !stall.heard(sent, &answer)
                    && let Err(error) = answer
                {
                    stall.begin(stall::why(&error));
                }
            };
            tokio::select! {
                biased;
                () = stall.over() => {}
                () = asked => {}
            }
        }
        Ok(())
    }

    /// Why a row is not gone on with that has met the beginning of too many stalls. Credentials that are good for everything else
    /// are refused for this object only.
    async fn stood_still_too_often(&self, error: &S3Error) -> Stop {
        if error.is_of_credentials() && Box::pin(self.diagnose()).await.is_ok() {
            return Stop::Row(error.to_failure());
        }
        let message = format!(
            "{} (it came and went {} times)",
            stall::why(error),
            retry::STALLS_MAX
        );
        Stop::Unsettled(Unsettled::Fault(stall::stalled(error.operation, message)))
    }
}
