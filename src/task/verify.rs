//! Proof: what came back is held against what was there before.

use std::cell::Cell;

use sha2::{Digest as _, Sha256};

use super::asked::Asked;
use super::rewrite::target_key;
use super::{Look, Stop, Task};
use crate::closure::{self, Whole};
use crate::encryption::{CustomerKey, Target};
use crate::event::{Event, Operation};
use crate::limiter::Limiter;
use crate::object::{ManifestEntry, ObjectHead, ObjectRef};
use crate::outcome::{CAME_BACK_WRONG, Failure};
use crate::s3::{ReadBack, Written};
use crate::s3_error::S3Error;

/// Bytes of an object that is read back which are within the budget before it is asked for: the store sends so many, and they wait
/// in the system's buffers, whoever reads them. Source: Linux's `net.ipv4.tcp_rmem`, 6 MB at most.
pub(super) const AHEAD_BYTES: u64 = 6 << 20;

/// How much is checked of each rewrite beyond its answer, which is always held against the target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Verify {
    /// No more.
    #[default]
    Answer,
    /// HEAD before and after: size, headers, metadata, class, checksums.
    Head,
    /// The same, and tags, ACL, lock, and the bytes, read before and after.
    Read,
    /// `Read` for this share of the objects, from 0 to 1, and `Answer` for the others.
    Sample(f64),
}

/// How much is checked of this object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The answer.
    Answer,
    /// What HEAD shows.
    Head,
    /// Everything.
    Read,
}

impl Proof {
    /// Whether anything is looked at but the answer.
    pub(super) fn looks(self) -> bool {
        self != Self::Answer
    }
}

impl Proof {
    /// The same, or more.
    pub(super) fn at_least_head(self) -> Self {
        match self {
            Self::Answer => Self::Head,
            proof => proof,
        }
    }
}

impl Verify {
    /// What that means for one object.
    pub(super) fn for_object(self, entry: &ManifestEntry) -> Proof {
        match self {
            Self::Answer => Proof::Answer,
            Self::Head => Proof::Head,
            Self::Read => Proof::Read,
            Self::Sample(share) if drawn(entry) < share => Proof::Read,
            Self::Sample(_) => Proof::Answer,
        }
    }
}

/// A number from 0 to 1, drawn by what a row names: a plan, and a run that goes on, draw the same.
fn drawn(entry: &ManifestEntry) -> f64 {
    let mut digest = Sha256::new();
    digest.update(&entry.key);
    digest.update([0]);
    digest.update(entry.version_id.as_deref().unwrap_or_default());
    let digest = digest.finalize();
    let number = digest
        .iter()
        .take(4)
        .fold(0, |n, byte| (n << 8) | u32::from(*byte));
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

/// Waits for what is read beyond the bytes that were paid for when it was asked for.
pub(super) fn paced(limiter: &Limiter, paid: u64) -> impl AsyncFn(u64) {
    let left = Cell::new(paid);
    async move |bytes: u64| {
        let more = bytes.saturating_sub(left.get());
        left.set(left.get().saturating_sub(bytes));
        if more > 0 {
            limiter.more(more).await;
        }
    }
}

fn rewritten_but(why: &str) -> String {
    format!("rewritten, but it can't be checked: {why}")
}

impl<'a> Task<'_, 'a> {
    /// What there is of the object before its rewrite, as far as it is to be proven.
    pub(super) async fn whole_before(&self, look: &Look<'a>) -> Result<Option<Whole>, Stop> {
        if !self.proof.looks() {
            return Ok(None);
        }
        let object = self.version_of(look);
        self.seen(object, look.head.clone(), look.key)
            .await
            .map(Some)
    }

    /// Holds the rewritten object against what was there. `false`: somebody has written it since, so that nothing can be told.
    ///
    /// # Errors
    /// It came back wrong, or could not be looked at.
    pub(super) async fn verify(
        &self,
        before: &Whole,
        target: &Target,
        written: &Written,
    ) -> Result<bool, Stop> {
        let key = target_key(target);
        // A store that gives ids where there are no versions can't be asked by them.
        let is_versioned = before.head.version_id.is_some();
        let version_id = written.version_id.as_deref().filter(|_| is_versioned);
        let unproven = |error: S3Error| {
            let mut failure = error.to_failure();
            failure.message = rewritten_but(&failure.message);
            Stop::Row(failure)
        };
        let head = self.head(version_id, key).await?.map_err(unproven)?;
        if written.etag.as_ref().is_some_and(|etag| *etag != head.etag) {
            return Ok(false);
        }
        let after = match self.seen(self.object(version_id), head, key).await {
            // What is read is pinned to the look.
            Err(Stop::Row(failure)) if failure.http_status == 412 => return Ok(false),
            Err(Stop::Row(mut failure)) => {
                failure.message = rewritten_but(&failure.message);
                return Err(Stop::Row(failure));
            }
            after => after?,
        };
        let allowed = &self.ctx.settings.rules.allowed;
        let differences = closure::differences(before, &after, allowed);
        let is_same = differences.is_empty();
        (self.ctx.emit)(Event::Verified { is_same });
        if is_same {
            return Ok(true);
        }
        Err(Stop::Wrong(Failure {
            code: CAME_BACK_WRONG.to_owned(),
            http_status: 200,
            message: format!(
                "the store answered OK, but after the rewrite differ: {}",
                differences.join(", ")
            ),
        }))
    }

    /// Reads an object, at the pace of the bytes that may be read.
    pub(super) async fn read(
        &self,
        object: ObjectRef<'_>,
        key: Option<&CustomerKey>,
        head: &ObjectHead,
    ) -> Result<ReadBack, Stop> {
        let ctx = self.ctx;
        let paid = head.size.min(AHEAD_BYTES);
        let request = || {
            let pace = paced(ctx.limiter, paid);
            ctx.s3.read(object, key, Some(&head.etag), pace)
        };
        let asked = Asked::from(Operation::GetObject)
            .reading(&head.encryption)
            .moving(paid);
        let read = self.ask(asked, request).await?;
        read.map_err(|error| Stop::Row(error.to_failure()))
    }

    async fn seen(
        &self,
        object: ObjectRef<'_>,
        head: ObjectHead,
        key: Option<&CustomerKey>,
    ) -> Result<Whole, Stop> {
        let mut whole = Whole::of(head);
        if self.proof != Proof::Read {
            return Ok(whole);
        }
        let etag = whole.head.etag.clone();
        whole.tags = self.tags(object, &etag).await?;
        if self.ctx.bucket.acls != Some(crate::bucket::Acls::Disabled) {
            whole.acl = self.acl(object, &etag).await?;
        }
        if self.ctx.bucket.object_lock != Some(crate::bucket::ObjectLock::Disabled) {
            whole.head.lock = self.lock(object, &etag, &whole.head.lock).await?;
        }
        // What is archived can't be read; its encryption alone is changed, where it is.
        if !whole.head.archived {
            let read = self.read(object, key, &whole.head).await?;
            whole.sha256 = Some(read.sha256);
        }
        Ok(whole)
    }
}
