//! What HEAD does not show and a rewrite would reset: grants, locks, tags, annotations.
//!
//! Asked for only where the bucket can have it. A refusal to say is *unknown*: then the object is refused, unless the operator allows
//! the loss. A store that does not know the question has no such thing, and is not asked again.

use super::look::now_ms;
use super::{Look, Stop, Task};
use crate::bucket::{Acls, ObjectLock, Versioning};
use crate::closure::Loss;
use crate::encryption::{Encryption, Target};
use crate::event::Operation;
use crate::object::{Acl, Lock, ObjectRef, Tag};
use crate::plan::Refusal;
use crate::s3::Carry;
use crate::s3_error::S3Error;

/// What of an object's state the store does not know at all, as it has shown.
#[derive(Debug, Default)]
pub(super) struct Absent {
    acls: std::cell::Cell<bool>,
    locks: std::cell::Cell<bool>,
    tags: std::cell::Cell<bool>,
    annotations: std::cell::Cell<bool>,
}

/// How a store says that it has no such thing; or, with a 405, that the version has become a delete marker.
fn is_unheard_of(error: &S3Error) -> bool {
    matches!(error.http_status, 405 | 501)
        || matches!(
            error.code.as_str(),
            "AccessControlListNotSupported" | "NotImplemented" | "MethodNotAllowed"
        )
}

impl<'a> Task<'_, 'a> {
    /// Everything that is sent along with a copy.
    ///
    /// # Errors
    /// The object is refused, or a question failed.
    pub(super) async fn gather(
        &self,
        look: &Look<'a>,
        target: &Target,
        resend: bool,
        in_parts: bool,
    ) -> Result<Carry, Stop> {
        let (object, etag) = (self.version_of(look), &*look.head.etag);
        let carry = Carry {
            acl: self.acl_to_send(object, etag).await?,
            lock: self.lock_to_send(object, etag, &look.head.lock).await?,
            tags: match resend {
                true => Some(self.tags_to_send(object, etag, look.head.tag_count).await?),
                false => None,
            },
        };
        let from_sse_c = matches!(look.head.encryption, Encryption::SseC { .. });
        // An object under SSE-C can have no annotations.
        if !from_sse_c && (in_parts || matches!(target, Target::SseC(_))) {
            self.refuse_annotations(object, etag).await?;
        }
        Ok(carry)
    }

    async fn acl_to_send(&self, object: ObjectRef<'_>, etag: &str) -> Result<Option<Acl>, Stop> {
        if self.ctx.bucket.acls == Some(Acls::Disabled) {
            return Ok(None);
        }
        let acl = self.acl(object, etag).await?;
        match acl {
            Some(acl) if acl.is_owners_only() => Ok(None),
            Some(acl) if acl.can_be_sent() => Ok(Some(acl)),
            Some(_) => self
                .refuse_unless(Loss::Acl, Refusal::Grants)
                .map(|()| None),
            None => Ok(None),
        }
    }

    /// The ACL; `None` where there is none, or it may get lost.
    pub(super) async fn acl(&self, object: ObjectRef<'_>, etag: &str) -> Result<Option<Acl>, Stop> {
        let absent = &self.ctx.learnt.absent.acls;
        if absent.get() {
            return Ok(None);
        }
        let asked = || self.ctx.s3.acl(object);
        match self.ask(Operation::GetObjectAcl, asked).await? {
            Ok(acl) => Ok(Some(acl)),
            Err(error) if is_unheard_of(&error) => {
                self.unless_deleted(&error, object, etag).await?;
                absent.set(true);
                Ok(None)
            }
            Err(error) => self.unknown(error, Loss::Acl, Refusal::AclUnknown),
        }
    }

    /// Retention and legal hold. Retention that is over can't be sent, and holds nothing.
    async fn lock_to_send(
        &self,
        object: ObjectRef<'_>,
        etag: &str,
        shown: &Lock,
    ) -> Result<Lock, Stop> {
        let facts = self.ctx.bucket.object_lock;
        if facts == Some(ObjectLock::Disabled) || self.ctx.learnt.absent.locks.get() {
            return Ok(shown.clone());
        }
        let lock = self.lock(object, etag, shown).await?;
        if lock.retention.is_none() && !self.ctx.learnt.absent.locks.get() {
            // The bucket's default would lock the copy, or may.
            match facts {
                Some(ObjectLock::DefaultRetention) => {
                    self.refuse_unless(Loss::ObjectLock, Refusal::DefaultRetention)?;
                }
                None => self.refuse_unless(Loss::ObjectLock, Refusal::LockUnknown)?,
                Some(ObjectLock::Enabled | ObjectLock::Disabled) => {}
            }
        }
        Ok(lock)
    }

    /// Retention and legal hold, asked for where HEAD does not show them: it does so only to those who may read them.
    pub(super) async fn lock(
        &self,
        object: ObjectRef<'_>,
        etag: &str,
        shown: &Lock,
    ) -> Result<Lock, Stop> {
        let mut lock = shown.clone();
        if lock.retention.is_none() {
            let asked = || self.ctx.s3.retention(object);
            let answer = self.ask(Operation::GetObjectRetention, asked).await?;
            lock.retention = self.lock_answer(answer, object, etag).await?.flatten();
        }
        if !lock.legal_hold && !self.ctx.learnt.absent.locks.get() {
            let asked = || self.ctx.s3.legal_hold(object);
            let answer = self.ask(Operation::GetObjectLegalHold, asked).await?;
            lock.legal_hold = self
                .lock_answer(answer, object, etag)
                .await?
                .unwrap_or(false);
        }
        lock.drop_what_is_over(now_ms());
        Ok(lock)
    }

    async fn lock_answer<T>(
        &self,
        answer: Result<T, S3Error>,
        object: ObjectRef<'_>,
        etag: &str,
    ) -> Result<Option<T>, Stop> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            // "Bucket is missing Object Lock Configuration".
            Err(error) if is_unheard_of(&error) || error.code == "InvalidRequest" => {
                // A bucket that has said it has one is believed over an object's odd answer.
                if self.ctx.bucket.object_lock.is_some() {
                    return self.unknown(error, Loss::ObjectLock, Refusal::LockUnknown);
                }
                self.unless_deleted(&error, object, etag).await?;
                self.ctx.learnt.absent.locks.set(true);
                Ok(None)
            }
            Err(error) => self.unknown(error, Loss::ObjectLock, Refusal::LockUnknown),
        }
    }

    async fn tags_to_send(
        &self,
        object: ObjectRef<'_>,
        etag: &str,
        shown: Option<u32>,
    ) -> Result<Vec<Tag>, Stop> {
        // AWS shows the number only to those who may read the tags: there, none shown is not none.
        let shows = self.ctx.profile.shows_tag_count && !self.ctx.s3.is_aws();
        if shows && shown.unwrap_or(0) == 0 {
            return Ok(Vec::new());
        }
        Ok(self.tags(object, etag).await?.unwrap_or_default())
    }

    /// The tags; `None` where the store has none, or they may get lost.
    pub(super) async fn tags(
        &self,
        object: ObjectRef<'_>,
        etag: &str,
    ) -> Result<Option<Vec<Tag>>, Stop> {
        let absent = &self.ctx.learnt.absent.tags;
        if absent.get() {
            return Ok(None);
        }
        let asked = || self.ctx.s3.tags(object);
        match self.ask(Operation::GetObjectTagging, asked).await? {
            Ok(tags) => Ok(Some(tags)),
            Err(error) if is_unheard_of(&error) => {
                self.unless_deleted(&error, object, etag).await?;
                absent.set(true);
                Ok(None)
            }
            Err(error) => self.unknown(error, Loss::Tags, Refusal::TagsUnknown),
        }
    }

    async fn refuse_annotations(&self, object: ObjectRef<'_>, etag: &str) -> Result<(), Stop> {
        let absent = &self.ctx.learnt.absent.annotations;
        let allowed = self.ctx.settings.rules.allowed.allow(Loss::Annotations);
        // Only AWS has them; another store may answer the question with the object itself.
        if allowed || absent.get() || !self.ctx.s3.is_aws() {
            return Ok(());
        }
        let asked = || self.ctx.s3.has_annotations(object);
        match self.ask(Operation::ListObjectAnnotations, asked).await? {
            Ok(true) => Err(Stop::Row(Refusal::Annotations.to_failure())),
            Ok(false) => Ok(()),
            Err(error) if is_unheard_of(&error) => {
                self.unless_deleted(&error, object, etag).await?;
                absent.set(true);
                Ok(())
            }
            Err(error) => self
                .unknown(error, Loss::Annotations, Refusal::AnnotationsUnknown)
                .map(|_: Option<()>| ()),
        }
    }

    /// Makes sure that the store refused the question, and not the version, for which somebody has put a delete marker since it was
    /// looked at with this ETag: what is learnt here holds for every object.
    ///
    /// # Errors
    /// It is not what it was, as a condition that did not hold.
    async fn unless_deleted(
        &self,
        error: &S3Error,
        object: ObjectRef<'_>,
        etag: &str,
    ) -> Result<(), Stop> {
        if error.http_status != 405 || self.ctx.bucket.versioning == Some(Versioning::Never) {
            return Ok(());
        }
        let is_the_same = match self.head(object.version_id, None).await? {
            Ok(head) => head.etag == etag,
            // An object under SSE-C answers 400 where its key is missing.
            Err(error) => !matches!(error.http_status, 404 | 405),
        };
        if is_the_same {
            return Ok(());
        }
        let changed = S3Error::changed_meanwhile(error.operation);
        Err(Stop::Row(changed.to_failure()))
    }

    /// A question that the store refused to answer.
    fn unknown<T>(&self, error: S3Error, loss: Loss, refusal: Refusal) -> Result<Option<T>, Stop> {
        if error.http_status != 403 {
            return Err(Stop::Row(error.to_failure()));
        }
        self.refuse_unless(loss, refusal).map(|()| None)
    }

    fn refuse_unless(&self, loss: Loss, refusal: Refusal) -> Result<(), Stop> {
        if self.ctx.settings.rules.allowed.allow(loss) {
            Ok(())
        } else {
            Err(Stop::Row(refusal.to_failure()))
        }
    }
}
