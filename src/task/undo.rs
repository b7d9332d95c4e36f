//! Writes back what a rewrite has superseded, by its evidence.
//!
//! The superseded version is copied onto its key under the encryption that it has, and only while the current version is the one that the
//! rewrite has made: its id and its ETag are looked at, and the ETag is the condition of the copy. In a bucket that keeps versions nothing
//! is lost by it: what the rewrite has made is a noncurrent version then.
//!
//! There is no journal. Whoever is killed and begins anew finds the version that it has written back on top, held against the superseded
//! one, and leaves it.

use super::pile::Way;
use super::supersede::{Read, Sure};
use super::{Context, Look, Start, Stop, Task, Unsettled};
use crate::bucket::Versioning;
use crate::encryption::{Encryption, KmsTarget, Target};
use crate::event::Operation;
use crate::evidence::{Rewritten, State};
use crate::object::{ManifestEntry, NULL_VERSION};
use crate::outcome::{Failure, Method, TaskOutcome};
use crate::plan::Started;
use crate::s3::{Copy, Destination, SourceCondition};
use crate::s3_error::S3Error;

/// How a rewrite was undone, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The superseded version was written back.
    WrittenBack,
    /// It would be: nothing is to be changed.
    Would,
    /// It is on top again already.
    Already,
    /// It was not, and why.
    Failed(Failure),
}

/// Undoes one rewrite. `dry`: everything is looked at and nothing changed.
///
/// # Errors
/// Nothing can be said of it: asked to stop, or a fault that every object would meet.
pub async fn undo(
    ctx: &Context<'_>,
    entry: &ManifestEntry,
    rewritten: &Rewritten,
    dry: bool,
) -> Result<Undone, Unsettled> {
    let mut task = Task::new(ctx, entry, Start::default());
    let mut undone = Undone::WrittenBack;
    let ended = match task.undo(rewritten, dry).await {
        Ok(done) => {
            undone = done;
            Ok(TaskOutcome::Succeeded {
                method: Method::Copy,
                bytes: 0,
            })
        }
        Err(stop) => Err(stop),
    };
    match task.without_uploads(ended).await {
        Ok(_) => Ok(undone),
        Err(Stop::Row(failure) | Stop::Wrong(failure)) => Ok(Undone::Failed(failure)),
        Err(Stop::Skip(reason)) => Ok(Undone::Failed(refused(
            "ChangedSinceRewrite",
            reason.message().to_owned(),
        ))),
        Err(Stop::Unsettled(why)) => Err(why),
    }
}

fn refused(code: &str, message: impl Into<String>) -> Failure {
    Failure {
        code: code.to_owned(),
        http_status: 0,
        message: message.into(),
    }
}

fn changed(message: String) -> Stop {
    Stop::Row(refused("ChangedSinceRewrite", message))
}

/// The version that a rewrite has superseded, and what was known of it.
///
/// # Errors
/// There is none that could be written back.
fn superseded(rewritten: &Rewritten) -> Result<(&State, &str), Failure> {
    match rewritten.method {
        Some(Method::Update) => {
            return Err(refused(
                "UpdatedInPlace",
                "its encryption was updated where it is, so that nothing was superseded; `reseal run` with the former key as target updates it back",
            ));
        }
        Some(Method::Restack) => {
            return Err(refused(
                "Restacked",
                "all versions of its key were written again: the former ones lie below them in their order",
            ));
        }
        Some(Method::Copy | Method::MultipartCopy) | None => {}
    }
    let before = rewritten.before.as_ref().ok_or_else(|| {
        refused(
            "BeforeUnknown",
            "an interruption has taken along what was there before the rewrite",
        )
    })?;
    let id = before.version_id.as_deref();
    let is_superseded = id != rewritten.after.version_id.as_deref();
    match id.filter(|_| is_superseded && rewritten.after.version_id.is_some()) {
        Some(id) => Ok((before, id)),
        None => Err(refused(
            "NoSupersededVersion",
            "the bucket kept no versions: the rewrite has replaced the object",
        )),
    }
}

impl<'a> Task<'_, 'a> {
    async fn undo(&mut self, rewritten: &Rewritten, dry: bool) -> Result<Undone, Stop> {
        let (before, id) = superseded(rewritten).map_err(Stop::Row)?;
        if self.ctx.bucket.versioning != Some(Versioning::Enabled) {
            return Err(Stop::Row(refused(
                "VersioningNotEnabled",
                "the bucket does not keep versions now, or does not say: what the rewrite has made would be replaced",
            )));
        }
        let target = self.former(before)?;
        // Every turn but the first follows a counted failure.
        loop {
            let old = self.old(before, id).await?;
            let current = self.current().await?;
            if !is_what_was_left(&current, &rewritten.after) {
                return match self.is_back(&current, &old).await? {
                    true if self.started == Started::Now => Ok(Undone::WrittenBack),
                    true => Ok(Undone::Already),
                    false => Err(changed(format!(
                        "the current version is {} with the ETag {}, and not what the rewrite has made",
                        current.head.version_id.as_deref().unwrap_or(NULL_VERSION),
                        current.head.etag
                    ))),
                };
            }
            // Neither version nor ETag moves with tags, grants and locks.
            let (now, then) = (self.whole_of(&current).await?, self.whole_of(&old).await?);
            if !self.is_alike(&then, &now) {
                return Err(changed(
                    "its tags, grants or lock are not those of the version that the rewrite has superseded: somebody has changed them since"
                        .to_owned(),
                ));
            }
            let way = self.way(&old, &target).await?;
            if dry {
                return Ok(Undone::Would);
            }
            if self.write_back(&old, &current, way, &target).await? {
                return Ok(Undone::WrittenBack);
            }
        }
    }

    /// The target that gives an object the encryption that it had.
    fn former(&self, before: &State) -> Result<Target, Stop> {
        let kms = |key: &Option<String>, bucket_key| {
            let key_id = key.clone().ok_or_else(|| {
                Stop::Row(refused(
                    "FormerKeyUnknown",
                    "the store has not named the KMS key that it was under",
                ))
            })?;
            Ok(KmsTarget {
                key_id: Some(key_id),
                bucket_key,
                ..KmsTarget::default()
            })
        };
        match before.encryption.as_ref() {
            Some(Encryption::SseS3) => Ok(Target::SseS3),
            Some(Encryption::SseKms { key, bucket_key }) => {
                kms(key, Some(*bucket_key)).map(Target::SseKms)
            }
            Some(Encryption::DsseKms { key }) => kms(key, None).map(Target::DsseKms),
            Some(Encryption::SseC { key_md5 }) => {
                let mut keys = self.ctx.source_keys.iter();
                let key = keys.find(|key| key.md5_base64() == key_md5).ok_or_else(|| {
                    Stop::Row(refused(
                        "NoCustomerKey",
                        format!("it was under a customer's key with MD5 {key_md5}: give that with --source-sse-c-key-file"),
                    ))
                })?;
                Ok(Target::SseC(key.clone()))
            }
            Some(Encryption::NotSse) => Err(Stop::Row(refused(
                "NotEncryptedBefore",
                "it was not encrypted, and a store that encrypts whatever is written can't write it so again",
            ))),
            None => Err(Stop::Row(refused(
                "BeforeUnknown",
                "what it was under before the rewrite is not known",
            ))),
        }
    }

    /// The superseded version, which must be what it was.
    async fn old(&self, before: &State, id: &str) -> Result<Look<'a>, Stop> {
        let mut old = match self.look_at(Some(id)).await {
            Ok(old) => old,
            Err(Stop::Row(failure)) if failure.http_status == 404 => {
                return Err(Stop::Row(refused(
                    "SupersededVersionGone",
                    format!(
                        "version {id}, which the rewrite has superseded, is not there any more"
                    ),
                )));
            }
            Err(stop) => return Err(stop),
        };
        let is_it = Some(&old.head.etag) == before.etag.as_ref()
            && Some(&old.head.encryption) == before.encryption.as_ref();
        if !is_it {
            return Err(changed(format!(
                "version {id} is not what the evidence says that was superseded"
            )));
        }
        old.head.version_id = Some(id.to_owned());
        Ok(old)
    }

    async fn current(&self) -> Result<Look<'a>, Stop> {
        match self.look_at(None).await {
            Err(Stop::Row(failure)) if failure.http_status == 404 => {
                Err(changed("the object is not there any more".to_owned()))
            }
            Err(Stop::Skip(_)) => Err(changed("it was deleted since the rewrite".to_owned())),
            look => look,
        }
    }

    /// Whether a version is the superseded one, written back.
    async fn is_back(&self, current: &Look<'a>, old: &Look<'a>) -> Result<bool, Stop> {
        if current.head.encryption != old.head.encryption || !self.looks_same(current, old) {
            return Ok(false);
        }
        self.is_same(current, old, Sure::ToLeaveIt, &mut Read::new())
            .await
    }

    /// Copies the superseded version onto the key; `false` means: look again.
    async fn write_back(
        &mut self,
        old: &Look<'a>,
        current: &Look<'a>,
        way: Way,
        target: &Target,
    ) -> Result<bool, Stop> {
        let destination = Destination::Etag(&current.head.etag);
        let before = self.whole_before(old).await?;
        let written = match way {
            Way::Parts { carry } => {
                Box::pin(self.copy_in_parts(old, target, &carry, destination)).await?
            }
            Way::Copy { carry, directive } => loop {
                let copy = Copy {
                    object: self.version_of(old),
                    head: &old.head,
                    target,
                    source_key: old.key,
                    directive,
                    carry: &carry,
                    source: SourceCondition::Etag,
                    destination,
                };
                let asked = self.asked_to_copy(old, target);
                let error = match self.send(asked, self.ctx.s3.copy_in_place(copy)).await? {
                    Ok(written) => break Some(self.check(target, written).await?),
                    Err(error) => error,
                };
                match self
                    .failed(Operation::CopyObject, old, target, &error)
                    .await?
                {
                    super::rewrite::Next::Again => {}
                    super::rewrite::Next::Look => break None,
                }
            },
            Way::DeleteMarker => unreachable!("a version that was looked at is no delete marker"),
        };
        if let Some(failure) = self.given_up.take()
            && written.is_none()
        {
            // Whether the last attempt happened, the next look tells.
            let now = self.current().await?;
            return match self.is_back(&now, old).await? {
                true => Ok(true),
                false => Err(Stop::Row(failure)),
            };
        }
        let Some(written) = written else {
            return Ok(false);
        };
        if let Some(before) = &before
            && !Box::pin(self.verify(before, target, &written)).await?
        {
            let error = S3Error::changed_meanwhile(Operation::HeadObject.name());
            self.failed(Operation::HeadObject, old, target, &error)
                .await?;
            self.started = Started::Now;
            return Ok(false);
        }
        Ok(true)
    }
}

/// Whether the current version is the one that the rewrite has made.
fn is_what_was_left(current: &Look<'_>, after: &State) -> bool {
    current.head.version_id == after.version_id && Some(&current.head.etag) == after.etag.as_ref()
}
