//! The look: HeadObject of the version that the row means, with the customer key that opens it.

use super::{Context, DIAGNOSIS_INTERVAL, Start, Stop, Task, Unsettled};
use crate::encryption::{CustomerKey, Encryption, Mode};
use crate::object::{ManifestEntry, ObjectHead, ObjectRef};
use crate::outcome::{Failure, SkipReason};
use crate::plan::{self, Refusal, Started};
use crate::retry::Attempts;
use crate::s3::Ask;
use crate::s3_error::{DELETE_MARKER, S3Error};

/// The code of a row of which nobody can say whether an earlier run has rewritten it.
const REWRITE_UNKNOWN: &str = "RewriteUnknown";

/// What a look told, and the customer key that it took.
#[derive(Clone, Debug)]
pub(super) struct Look<'a> {
    /// HEAD's answer, or what the row says in its place.
    pub(super) head: ObjectHead,
    /// The key that opens it, where it is under SSE-C.
    pub(super) key: Option<&'a CustomerKey>,
    /// Whether it is the current version.
    pub(super) is_current: bool,
    /// The row stands for it: nobody has looked.
    pub(super) is_unseen: bool,
    /// Checksums were asked for, so that it has those that there are.
    pub(super) has_checksums: bool,
}

/// What a row's object is, looked at and left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There it is.
    Found {
        /// HEAD's answer.
        head: Box<ObjectHead>,
        /// Whether it is known to be the current version of its key.
        is_current: bool,
    },
    /// It is a delete marker, which has no data and no encryption.
    DeleteMarker,
    /// It can't be looked at, and why.
    Failed(Failure),
}

/// Looks at one version of a row's key: at the one of that id, or at the current one. As [`Context::settings`] say how much is verified,
/// checksums are asked for.
///
/// # Errors
/// Nothing can be said of it: the survey drains, or met a fault that every object would meet.
pub async fn look_at_row(
    ctx: &Context<'_>,
    entry: &ManifestEntry,
    version_id: Option<&str>,
) -> Result<Looked, Unsettled> {
    let task = Task::new(ctx, entry, Start::default());
    match task.look_at(version_id).await {
        Ok(look) => Ok(Looked::of(look)),
        Err(stop) => Looked::without(stop),
    }
}

impl Looked {
    pub(super) fn of(look: Look<'_>) -> Self {
        Self::Found {
            head: Box::new(look.head),
            is_current: look.is_current,
        }
    }

    /// Why there is no look.
    ///
    /// # Errors
    /// As [`look_at_row`].
    pub(super) fn without(stop: Stop) -> Result<Self, Unsettled> {
        match stop {
            Stop::Skip(_) => Ok(Self::DeleteMarker),
            Stop::Row(failure) | Stop::Wrong(failure) => Ok(Self::Failed(failure)),
            Stop::Unsettled(why) => Err(why),
        }
    }
}

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp() * 1_000
}

impl<'a> Task<'_, 'a> {
    /// The object, or the version, of this row.
    pub(super) fn object<'k>(&'k self, version_id: Option<&'k str>) -> ObjectRef<'k> {
        ObjectRef {
            bucket: &self.ctx.bucket.name,
            key: &self.entry.key,
            version_id,
        }
    }

    /// The version that a look has found.
    pub(super) fn version_of<'k>(&'k self, look: &'k Look<'_>) -> ObjectRef<'k> {
        self.object(look.head.version_id.as_deref())
    }

    /// Looks at what the row means: the current version, or the one that it names.
    ///
    /// Our own copy is another version than the row's: after an attempt that may have happened, the current one is looked at first.
    /// Where all versions are rewritten, a row means its own.
    pub(super) async fn look(&self) -> Result<Look<'a>, Stop> {
        let wanted = self.entry.version_id.as_deref();
        let is_known_noncurrent = self.entry.known.is_latest == Some(false);
        let target = self.ctx.target.borrow().clone();
        let restacks = plan::restacks(self.ctx.circumstances(&target));
        if let Some(wanted) = wanted
            && (restacks || (is_known_noncurrent && self.started == Started::Not))
        {
            return self.look_at(Some(wanted)).await;
        }
        let current = match (self.look_at(None).await, wanted) {
            // What the row names may lie under a delete marker.
            (Err(Stop::Skip(SkipReason::DeleteMarker)), Some(wanted)) => {
                return self.look_at(Some(wanted)).await;
            }
            (current, None) => return current,
            (current, Some(_)) => current?,
        };
        match (wanted, current.head.version_id.as_deref()) {
            (Some(wanted), Some(found))
                if wanted != found && !self.may_be_ours(&current.head).await? =>
            {
                self.look_at(Some(wanted)).await
            }
            _ => Ok(current),
        }
    }

    /// Whether a version that the row does not name may be what an attempt for it has written.
    ///
    /// A key that nobody has told yet is waited for. Where no other row lets the store tell it, the row fails: what it names is no
    /// longer current, and whether by us can't be said.
    async fn may_be_ours(&self, current: &ObjectHead) -> Result<bool, Stop> {
        if self.started == Started::Not {
            return Ok(false);
        }
        if self.key_resolver(current).await.is_some() {
            return Err(Stop::Row(Failure {
                code: REWRITE_UNKNOWN.to_owned(),
                http_status: 0,
                message: "it may have been rewritten already, by an attempt that did not tell or before an interruption: a newer version than the row names is under a KMS key, \
                          and the store has not told whether that is what the alias stands for"
                    .to_owned(),
            }));
        }
        let target = self.ctx.target.borrow();
        Ok(target.is_satisfied_by(&current.encryption))
    }

    /// Looks at the current version, or at one by its id.
    pub(super) async fn look_at(&self, version_id: Option<&str>) -> Result<Look<'a>, Stop> {
        can_be_asked_about(&self.entry.key)?;
        let mut attempts = Attempts::default();
        loop {
            let refused = match self.try_to_look(version_id, &mut attempts).await? {
                Ok(look) => return Ok(look),
                Err(refused) => refused,
            };
            if !self
                .is_about_everything(&refused.error, &mut attempts)
                .await?
            {
                return Err(Stop::Row(refused.to_failure()));
            }
        }
    }

    /// An SSE-C object shows itself only to its key: S3 answers 400 without one, and 403 to a wrong one. The key that opened the last
    /// one is tried first. The inner error is a refusal, perhaps of everything.
    async fn try_to_look(
        &self,
        version_id: Option<&str>,
        attempts: &mut Attempts,
    ) -> Result<Result<Look<'a>, Refused>, Stop> {
        let refused = |error, with_keys| Ok(Err(Refused { error, with_keys }));
        let seen = |head: ObjectHead, key: Option<&'a CustomerKey>| Look {
            // The store may have been lenient with a key that the object doesn't need.
            key: key.filter(|_| matches!(head.encryption, Encryption::SseC { .. })),
            head,
            is_current: version_id.is_none(),
            is_unseen: false,
            has_checksums: self.proof.looks(),
        };
        // What the row knows is over once something was written.
        if self.entry.known.encryption != Some(Mode::SseC) || self.wrote.get() {
            match self.try_head(version_id, None, attempts).await? {
                Ok(head) => return Ok(Ok(seen(head, None))),
                Err(error) if error.http_status == 400 => {}
                Err(error) if error.code == DELETE_MARKER => {
                    return Err(Stop::Skip(SkipReason::DeleteMarker));
                }
                Err(error) => return refused(error, false),
            }
        }
        let ctx = self.ctx;
        let last = ctx.learnt.source_key.get();
        let mut refused_key = None;
        for index in
            std::iter::once(last).chain((0..ctx.source_keys.len()).filter(|index| *index != last))
        {
            let Some(key) = ctx.source_keys.get(index) else {
                continue;
            };
            match self.try_head(version_id, Some(key), attempts).await? {
                Ok(head) => {
                    ctx.learnt.source_key.set(index);
                    // A lenient store shows the object to any key: its MD5 says which one it is.
                    let shown = match &head.encryption {
                        Encryption::SseC { key_md5 } => {
                            let fits = |key: &&CustomerKey| key.md5_base64() == key_md5;
                            ctx.source_keys.iter().find(fits).unwrap_or(key)
                        }
                        _ => key,
                    };
                    return Ok(Ok(seen(head, Some(shown))));
                }
                Err(error) if error.code == DELETE_MARKER => {
                    return Err(Stop::Skip(SkipReason::DeleteMarker));
                }
                Err(error) if matches!(error.http_status, 400 | 403) => refused_key = Some(error),
                Err(error) => return refused(error, false),
            }
        }
        // The row may have been wrong about SSE-C; and without a key there has been no look at all yet.
        match self.try_head(version_id, None, attempts).await? {
            Ok(head) => Ok(Ok(seen(head, None))),
            Err(error) => refused(refused_key.unwrap_or(error), true),
        }
    }

    /// One HeadObject with its retries; the inner error is a refusal by the store, of this object.
    pub(super) async fn head(
        &self,
        version_id: Option<&str>,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Result<ObjectHead, S3Error>, Stop> {
        let (object, ask) = (self.object(version_id), self.head_ask(customer_key));
        let answer = self.ask(self.asked_to_head(ask.checksums), || {
            self.ctx.s3.head(object, ask)
        });
        Ok(answer.await?.map(without_what_is_over))
    }

    /// The same; the refusal may be one of everything.
    async fn try_head(
        &self,
        version_id: Option<&str>,
        customer_key: Option<&CustomerKey>,
        attempts: &mut Attempts,
    ) -> Result<Result<ObjectHead, S3Error>, Stop> {
        let (object, ask) = (self.object(version_id), self.head_ask(customer_key));
        let request = || self.ctx.s3.head(object, ask);
        let answer = self.answer(self.asked_to_head(ask.checksums), request, attempts);
        Ok(answer.await?.map(without_what_is_over))
    }

    fn head_ask<'k>(&self, customer_key: Option<&'k CustomerKey>) -> Ask<'k> {
        Ask {
            customer_key,
            // Showing a checksum costs a request to KMS.
            checksums: self.proof.looks(),
            part: None,
        }
    }

    /// A HEAD's refusal names no code: a request that gets one tells whether it is this object that is refused, or everything; the
    /// latter has been waited for then. For objects that are gone it is asked now and then only: a bucket seldom goes.
    async fn is_about_everything(
        &self,
        error: &S3Error,
        attempts: &mut Attempts,
    ) -> Result<bool, Stop> {
        let last = self.ctx.learnt.diagnosed.get();
        if error.http_status == 404 && last.is_some_and(|at| at.elapsed() < DIAGNOSIS_INTERVAL) {
            return Ok(false);
        }
        self.was_everything(attempts).await
    }
}

/// Refuses a key that the SDK sends no request for: without this, its complaint would be one about every object.
///
/// # Errors
/// It is white space alone.
pub(super) fn can_be_asked_about(key: &str) -> Result<(), Stop> {
    if key.trim().is_empty() {
        return Err(Stop::Row(Refusal::KeyNotSupported.to_failure()));
    }
    Ok(())
}

/// A look that was refused.
struct Refused {
    error: S3Error,
    /// Whether customer keys were tried.
    with_keys: bool,
}

impl Refused {
    fn to_failure(&self) -> Failure {
        let failure = self.error.to_failure();
        if !self.with_keys || !matches!(failure.http_status, 400 | 403) {
            return failure;
        }
        Failure {
            code: "NoCustomerKey".to_owned(),
            message: format!(
                "no key opens it, it seems to be under SSE-C: give its key with --source-sse-c-key-file ({})",
                failure.message
            ),
            ..failure
        }
    }
}

fn without_what_is_over(mut head: ObjectHead) -> ObjectHead {
    head.lock.drop_what_is_over(now_ms());
    head
}
