//! The rewrite by one request: UpdateObjectEncryption, or CopyObject onto itself.

use super::asked::Asked;
use super::{Look, Stop, Task};
use crate::encryption::{CustomerKey, Encryption, Target};
use crate::event::Operation;
use crate::outcome::{Failure, Method};
use crate::plan::{MethodChoice, Started};
use crate::retry::{self, Verdict};
use crate::s3::{Carry, Copy, Destination, Directive, SourceCondition, Written};
use crate::s3_error::S3Error;

/// What becomes of a rewrite whose request has failed.
pub(super) enum Next {
    /// The same request once more.
    Again,
    /// Look, and plan anew.
    Look,
}

impl<'a> Task<'_, 'a> {
    /// Updates the object's encryption where it is; `None` means: look again. S3's answer says nothing, so a look confirms it.
    ///
    /// What the store refuses for the object (403, 400, 501) is copied instead, unless `--method update` was asked for.
    pub(super) async fn update(
        &mut self,
        look: &Look<'a>,
        target: &Target,
    ) -> Result<Option<Written>, Stop> {
        self.method = Method::Update;
        let ctx = self.ctx;
        let kms = target.kms().expect("the plan updates to SSE-KMS only");
        let arn = kms.full_arn().expect("the plan updates to a full ARN only");
        // The current one is named where the row names it; any other one always.
        let is_named = self.entry.version_id.is_some() || !look.is_current;
        let version_id = look.head.version_id.as_deref().filter(|_| is_named);
        let request_id = loop {
            let object = self.object(version_id);
            let request = ctx
                .s3
                .update_encryption(object, arn, kms.bucket_key.unwrap_or(true));
            let asked = Asked::from(Operation::UpdateObjectEncryption);
            let asked = asked.with_keys(&look.head.encryption, target);
            let error = match self.send(asked, request).await? {
                Ok(request_id) => break request_id,
                Err(error) => error,
            };
            let falls_back = ctx.settings.rules.method == MethodChoice::Auto;
            if falls_back && is_refused_for_the_object(&error) {
                self.update_refused = true;
                return Ok(None);
            }
            match self
                .failed(Operation::UpdateObjectEncryption, look, target, &error)
                .await?
            {
                Next::Again => {}
                Next::Look => return Ok(None),
            }
        };
        let head = match self.head(version_id, None).await? {
            Ok(head) => head,
            Err(error) => return Err(Stop::Row(error.to_failure())),
        };
        if head.etag != look.head.etag {
            // Somebody has written the object meanwhile, or since the inventory: an update keeps the ETag. What is there now may
            // be under the target by it.
            self.started = Started::Now;
            let error = S3Error::changed_meanwhile(Operation::UpdateObjectEncryption.name());
            self.failed(Operation::UpdateObjectEncryption, look, target, &error)
                .await?;
            return Ok(None);
        }
        self.confirm(target, &head.encryption)?;
        Ok(Some(Written {
            encryption: Some(head.encryption),
            etag: Some(head.etag),
            version_id: head.version_id,
            checksums: head.checksums,
            request_id,
        }))
    }

    /// Copies the object onto itself, under what was looked at; `None` means: look again.
    pub(super) async fn copy(
        &mut self,
        look: &Look<'a>,
        target: &Target,
        carry: &Carry,
        directive: Directive,
    ) -> Result<Option<Written>, Stop> {
        self.method = Method::Copy;
        let ctx = self.ctx;
        // A copy onto itself may keep the ETag and change metadata or class: where nobody has looked, the date tells. S3 takes
        // a date beside an ETag for no condition at all, so it stands alone; the destination has the ETag.
        // Where a copy of before may still be on its way, which may keep the ETag too, the date is asked for once: a store may have
        // its own opinion of dates.
        let may_be_late = self.started != Started::Not
            && ctx.profile.destination_condition
            && !std::mem::replace(&mut self.dated, true);
        let source = match look.head.last_modified {
            Some(at) if look.is_unseen || may_be_late => SourceCondition::UnmodifiedSince(at),
            _ => SourceCondition::Etag,
        };
        loop {
            let copy = Copy {
                object: self.object(None),
                head: &look.head,
                target,
                source_key: look.key,
                directive,
                carry,
                source,
                destination: Destination::Etag(&look.head.etag),
            };
            let asked = self.asked_to_copy(look, target);
            let error = match self.send(asked, ctx.s3.copy_in_place(copy)).await? {
                Ok(written) => return self.check(target, written).await.map(Some),
                Err(error) => error,
            };
            match self
                .failed(Operation::CopyObject, look, target, &error)
                .await?
            {
                Next::Again => {}
                Next::Look => return Ok(None),
            }
        }
    }

    /// What a copy by one request takes of the budgets.
    pub(super) fn asked_to_copy(&self, look: &Look<'_>, target: &Target) -> Asked {
        Asked::from(Operation::CopyObject)
            .moving(look.head.size)
            .with_keys(&look.head.encryption, target)
    }

    /// Judges a rewrite's error, and waits where there is another attempt.
    ///
    /// # Errors
    /// There shall be none.
    pub(super) async fn failed(
        &mut self,
        operation: Operation,
        look: &Look<'a>,
        target: &Target,
        error: &S3Error,
    ) -> Result<Next, Stop> {
        let verdict = retry::judge_rewrite(error, &look.head.encryption, target);
        self.failed_as(verdict, operation, look, error).await
    }

    /// The same for an error that is judged already.
    pub(super) async fn failed_as(
        &mut self,
        verdict: Verdict,
        operation: Operation,
        look: &Look<'a>,
        error: &S3Error,
    ) -> Result<Next, Stop> {
        if look.is_unseen && verdict == Verdict::FailRow {
            // The row was out of date, or the object is not what it seemed: a look tells.
            return Ok(Next::Look);
        }
        let mut attempts = self.attempts;
        let pause = self.pause(operation, &mut attempts, &verdict, error).await;
        self.attempts = attempts;
        match (verdict, pause) {
            (Verdict::Again { .. } | Verdict::Stall, Ok(())) => Ok(Next::Again),
            (Verdict::Conflict, Ok(())) => Ok(Next::Look),
            (Verdict::LookFirst, Ok(())) => {
                self.started = Started::Now;
                Ok(Next::Look)
            }
            (Verdict::LookFirst, Err(Stop::Row(failure))) => {
                self.started = Started::Now;
                self.given_up = Some(failure);
                Ok(Next::Look)
            }
            (_, Err(stop)) => Err(stop),
            (Verdict::FailRow | Verdict::FailJob, Ok(())) => {
                unreachable!("a verdict that fails is never paused for")
            }
        }
    }

    /// Holds the store's answer against the target. Where the answer doesn't name it, HTTP 200 proves nothing: look.
    pub(super) async fn check(&self, target: &Target, written: Written) -> Result<Written, Stop> {
        if let Some(answered) = &written.encryption
            && target.is_confirmed_by(answered)
        {
            self.learn_key(answered);
            return self.with_version_id(target, written).await;
        }
        let version_id = written.version_id.as_deref();
        let found = match self.head(version_id, target_key(target)).await? {
            Ok(head) => head.encryption,
            Err(error) => return Err(Stop::Row(error.to_failure())),
        };
        self.confirm(target, &found)?;
        let written = Written {
            encryption: Some(found),
            ..written
        };
        self.with_version_id(target, written).await
    }

    /// Some stores don't name the version that they have made (Ceph RGW); a look does, where it is needed.
    async fn with_version_id(&self, target: &Target, written: Written) -> Result<Written, Stop> {
        if written.version_id.is_some() || !self.deletes_superseded() {
            return Ok(written);
        }
        let found = self.head(None, target_key(target)).await?.ok();
        let found = found.filter(|head| written.etag.as_ref() == Some(&head.etag));
        Ok(Written {
            version_id: found.and_then(|head| head.version_id),
            ..written
        })
    }

    /// What a look after the rewrite shows must be the target.
    fn confirm(&self, target: &Target, found: &Encryption) -> Result<(), Stop> {
        if target.is_confirmed_by(found) {
            self.learn_key(found);
            return Ok(());
        }
        Err(Stop::Row(Failure {
            code: "EncryptionNotApplied".to_owned(),
            http_status: 200,
            message: format!(
                "the store answered OK, but what it shows ({}) is not {} under the key that was asked for",
                shown(found),
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
}

/// Whether UpdateObjectEncryption does not serve for this object, while a copy may.
/// Source: S3 API Reference, UpdateObjectEncryption: 403 for Object Lock and for keys of another account, 400 InvalidRequest for a
/// source that it does not take; 405 and 501 are stores that do not have it.
fn is_refused_for_the_object(error: &S3Error) -> bool {
    matches!(error.http_status, 405 | 501)
        || (error.http_status == 400 && error.code == "InvalidRequest")
        || (error.http_status == 403 && error.code == "AccessDenied")
}

/// The key that a look at the target takes.
pub(super) fn target_key(target: &Target) -> Option<&CustomerKey> {
    match target {
        Target::SseC(key) => Some(key),
        Target::SseS3 | Target::SseKms(_) | Target::DsseKms(_) => None,
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
