//! The look: HeadObject of the version that the row means, with the customer key that opens it.

use super::{DIAGNOSIS_INTERVAL, Stop, Task};
use crate::encryption::{CustomerKey, Encryption, Mode};
use crate::event::Operation;
use crate::object::{ObjectHead, ObjectRef};
use crate::outcome::{Failure, SkipReason};
use crate::plan::{self, Started};
use crate::retry::{self, Verdict};
use crate::s3::Ask;
use crate::s3_error::{DELETE_MARKER, S3Error};
use crate::task::Unsettled;

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
        let is_satisfied = |found| self.ctx.target.borrow().is_satisfied_by(found);
        let may_be_ours = self.started != Started::Not && is_satisfied(&current.head.encryption);
        match (wanted, current.head.version_id.as_deref()) {
            (Some(wanted), Some(found)) if wanted != found && !may_be_ours => {
                self.look_at(Some(wanted)).await
            }
            _ => Ok(current),
        }
    }

    /// Looks at the current version, or at one by its id. An SSE-C object shows itself only to its key: S3 answers 400 without one, and
    /// 403 to a wrong one. The key that opened the last one is tried first.
    pub(super) async fn look_at(&self, version_id: Option<&str>) -> Result<Look<'a>, Stop> {
        let seen = |head: ObjectHead, key: Option<&'a CustomerKey>| Look {
            // The store may have been lenient with a key that the object doesn't need.
            key: key.filter(|_| matches!(head.encryption, Encryption::SseC { .. })),
            head,
            is_current: version_id.is_none(),
            is_unseen: false,
        };
        if self.entry.known.encryption != Some(Mode::SseC) {
            match self.head(version_id, None).await? {
                Ok(head) => return Ok(seen(head, None)),
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
            match self.head(version_id, Some(key)).await? {
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
                    return Ok(seen(head, Some(shown)));
                }
                Err(error) if error.code == DELETE_MARKER => {
                    return Err(Stop::Skip(SkipReason::DeleteMarker));
                }
                Err(error) if matches!(error.http_status, 400 | 403) => refused = Some(error),
                Err(error) => return Err(self.refused(error).await),
            }
        }
        // The row may have been wrong about SSE-C; and without a key there has been no look at all yet.
        let error = match self.head(version_id, None).await? {
            Ok(head) => return Ok(seen(head, None)),
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
    pub(super) async fn head(
        &self,
        version_id: Option<&str>,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Result<ObjectHead, S3Error>, Stop> {
        let ask = Ask {
            customer_key,
            // Showing a checksum costs a request to KMS.
            checksums: self.proof.looks(),
            part: None,
        };
        let object = self.object(version_id);
        let answer = self
            .ask(Operation::HeadObject, || self.ctx.s3.head(object, ask))
            .await?;
        Ok(answer.map(|mut head| {
            head.lock.drop_what_is_over(now_ms());
            head
        }))
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
}
