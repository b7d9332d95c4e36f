//! The store probe: on scratch keys, reseal tries what it is about to rely on, before it touches an object.
//!
//! HTTP 200 proves nothing: stores are known that answer it and encrypt nothing, drop the tags, or overwrite the object with the request's
//! XML. So every way of rewriting is carried out on an object that nobody misses, and what comes back is compared with what was there.
//! What is put is removed again, on every path. Each runner has keys of its own, so that nobody disturbs another's tries; what is left
//! by one that was killed or replaced the next removes.

mod asking;
mod conditions;
mod copies;
mod removal;
mod rungs;
mod scratch;
mod update;
mod verdict;

use std::fmt;

pub use verdict::verdict;

use asking::said;
use scratch::{BODY_BYTES, Scratch};

use crate::bucket::{BucketFacts, ObjectLock, Versioning};
use crate::encryption::{CustomerKey, Encryption, KmsTarget, Target};
use crate::limiter::Limiter;
use crate::profile::StoreProfile;
use crate::s3::S3;
use crate::s3_error::S3Error;

/// What a job wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The bucket that its objects are in.
    pub bucket: &'a BucketFacts,
    /// What scratch keys begin with. Nobody else may use it, not even another runner of the same shard: what is found under its keys
    /// is removed, and every upload below it is aborted.
    pub prefix: &'a str,
    /// What the scratch keys of all runners of the shard begin with. What is there before anything is tried is removed, so that only
    /// the one that leads may probe.
    pub shard_prefix: &'a str,
    /// The encryption that its objects shall have.
    pub target: &'a Target,
    /// The keys that objects may be under now.
    pub source_keys: &'a [CustomerKey],
    /// Whether UpdateObjectEncryption would serve. It is never tried towards another target than SSE-KMS without an encryption context.
    pub wants_update: bool,
    /// Whether copies are tried. On AWS they are what is documented.
    pub wants_copies: bool,
    /// Whether a copy in more than one part is tried, with a scratch object of 10 MiB.
    pub wants_parts: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// What the store does.
    pub profile: StoreProfile,
    /// What the store calls the target's KMS key: on AWS its ARN, whatever id or alias was given.
    pub key_arn: Option<String>,
    /// A sentence for each thing that was found wanting or could not be tried, for the operator.
    pub notes: Vec<String>,
}

/// Why nothing can be said about the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError {
    /// What happened.
    pub reason: Reason,
    /// What of the scratch could not be removed, where something could not.
    pub left: Option<String>,
}

/// What ended a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A fault that every object would meet, or a store that does not answer.
    Store(S3Error),
    /// No scratch object could be put.
    NoScratch {
        /// Where.
        place: String,
        /// What the store said.
        refusal: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::NoScratch { place, refusal } => write!(
                f,
                "the store can't be tried before it is trusted: no scratch object can be put below {place}: {refusal}"
            ),
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match &self.left {
            Some(left) => write!(f, "; {left}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProbeError {}

/// Tries the store, and removes what that took.
///
/// # Errors
/// The job can't run at all, the store does not answer, or nothing can be put.
pub async fn probe(s3: &S3, limiter: &Limiter, wish: &Wish<'_>) -> Result<Findings, ProbeError> {
    if wish.bucket.object_lock == Some(ObjectLock::DefaultRetention) {
        return Ok(untried(
            "its bucket puts every new object under retention, so that a scratch object could not be removed again",
        ));
    }
    let mut scratch = Scratch::new(s3, limiter, wish.bucket, wish.prefix, wish.wants_copies);
    let tried = try_all(&mut scratch, wish).await;
    let left = scratch.remove_all().await;
    match tried {
        Ok(mut findings) => {
            findings.notes.append(&mut scratch.notes);
            findings.notes.extend(left);
            Ok(findings)
        }
        Err(reason) => Err(ProbeError { reason, left }),
    }
}

/// What is believed of a store that could not be tried.
fn untried(why: &str) -> Findings {
    Findings {
        profile: StoreProfile::documented(),
        key_arn: None,
        notes: vec![format!(
            "the store was not tried: {why}; it is taken to copy as AWS documents it, and UpdateObjectEncryption is not used"
        )],
    }
}

async fn try_all(scratch: &mut Scratch<'_>, wish: &Wish<'_>) -> Result<Findings, Reason> {
    if !wish.wants_copies && wish.target.kms().is_none() {
        return Ok(Findings {
            profile: StoreProfile::documented(),
            key_arn: None,
            notes: Vec::new(),
        });
    }
    let left = scratch.remove_left(wish.shard_prefix).await?;
    scratch.notes.extend(left);
    if let Some(left) = locked(scratch, wish).await? {
        return Ok(untried(&left));
    }
    let key_arn = match wish.target.kms() {
        Some(_) => key_arn(scratch, wish).await?,
        None => None,
    };
    let target = resolved(wish.target, key_arn.as_deref());
    let mut profile = StoreProfile::documented();
    if let (true, Target::SseKms(kms), Some(key)) = (wish.wants_update, &target, &key_arn)
        && kms.context.is_none()
    {
        profile.updates_encryption = updates(scratch, kms, key).await?;
    }
    if wish.wants_copies {
        let wish = Wish {
            target: &target,
            ..*wish
        };
        copies::try_copies(scratch, &wish, &mut profile).await?;
    }
    Ok(Findings {
        profile,
        key_arn,
        notes: Vec::new(),
    })
}

/// Where it is not known whether new objects come under retention, a first one tells. What is left of it, if it does.
async fn locked(scratch: &mut Scratch<'_>, wish: &Wish<'_>) -> Result<Option<String>, Reason> {
    // Only a bucket with versioning can have Object Lock. Source: S3 User Guide, "Locking objects with Object Lock".
    let can_lock = !matches!(
        wish.bucket.versioning,
        Some(Versioning::Never | Versioning::Suspended)
    );
    if wish.bucket.object_lock.is_some() || !can_lock {
        return Ok(None);
    }
    let put = scratch.put("first", BODY_BYTES, Some(wish.target)).await?;
    if put.is_err() {
        return Ok(None);
    }
    Ok(scratch
        .remove_all()
        .await
        .map(|left| format!("whether its bucket locks new objects is not known, and {left}")))
}

/// What the store calls the target's KMS key, on an object that is under it.
async fn key_arn(scratch: &mut Scratch<'_>, wish: &Wish<'_>) -> Result<Option<String>, Reason> {
    let consequence = if wish.wants_update {
        "UpdateObjectEncryption was not tried, objects are copied"
    } else {
        "the name that the store has for the target's key is not known"
    };
    let seen = match scratch.put("target", BODY_BYTES, Some(wish.target)).await? {
        Ok(seen) => seen,
        Err(refused) => {
            let place = place(wish);
            scratch.notes.push(format!(
                "{consequence}: putting an object under the target below {place} is refused ({})",
                said(&refused)
            ));
            return Ok(None);
        }
    };
    let found = seen.head.encryption;
    if wish.target.is_confirmed_by(&found)
        && let Encryption::SseKms { key, .. } | Encryption::DsseKms { key } = found
    {
        return Ok(key);
    }
    let mode = found.mode();
    scratch.notes.push(format!(
        "{consequence}: an object that was put under the target shows {mode}, and not the key that was asked for"
    ));
    Ok(None)
}

fn place(wish: &Wish<'_>) -> String {
    format!("s3://{}/{}", wish.bucket.name, wish.prefix)
}

/// The target with its key under the store's name for it, so that nothing passes that is under another.
fn resolved(target: &Target, key_arn: Option<&str>) -> Target {
    let mut target = target.clone();
    if let (Target::SseKms(kms) | Target::DsseKms(kms), Some(key)) = (&mut target, key_arn) {
        kms.resolved = Some(key.to_owned());
    }
    target
}

/// Whether UpdateObjectEncryption holds for both modes that it takes.
async fn updates(
    scratch: &mut Scratch<'_>,
    target: &KmsTarget,
    key_arn: &str,
) -> Result<bool, Reason> {
    if !key_arn.starts_with("arn:") || !key_arn.contains(":key/") {
        scratch.notes.push(format!(
            "UpdateObjectEncryption was not tried: it takes a key's ARN, and the store calls the target's key {key_arn}"
        ));
        return Ok(false);
    }
    let kms = Target::SseKms(target.clone());
    for (under, by_version) in [(&Target::SseS3, false), (&kms, true)] {
        let tried = update::try_update(scratch, under, target, key_arn, by_version).await?;
        if let Err(why) = tried {
            let mode = under.mode();
            scratch.notes.push(format!(
                "UpdateObjectEncryption does not hold for objects under {mode}: {why}; objects are copied"
            ));
            return Ok(false);
        }
    }
    Ok(true)
}
