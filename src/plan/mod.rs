//! The decision for one object: pure, from its row, a look at it, the target, and what is known of the bucket and the store.
//!
//! First what needs nothing, or may not be done at all:
//!
//! | found | decision |
//! |---|---|
//! | the row is a delete marker | `Skip` |
//! | under the target after an attempt that did not tell | `Done` |
//! | under the target, the row started before an interruption | `Skip(DoneBeforeInterruption)` |
//! | already under the target | `Skip(AlreadyEncrypted)` |
//! | it does not pass the job's filters, and no attempt of this run may have changed it | `Skip(Filtered)` |
//! | the row names a version and the object has none | `Refuse(NoVersion)` |
//!
//! Then the method, by what the object is under and shall be under ([`re_wraps`] is this table):
//!
//! | from ↓ to → | SSE-S3 | SSE-KMS | DSSE-KMS | SSE-C |
//! |---|---|---|---|---|
//! | NOT-SSE | copy | copy | copy | copy |
//! | SSE-S3 | – | **update** | copy | copy |
//! | SSE-KMS | copy | **update** | copy | copy |
//! | DSSE-KMS | copy | copy | copy | copy |
//! | SSE-C | copy | copy | copy | copy |
//!
//! Source: S3 API Reference, UpdateObjectEncryption: the source is SSE-S3 or SSE-KMS, the target SSE-KMS by its full key ARN, the
//! object under no Object Lock. It takes no encryption context, and it changes any version, of any size, archived or not, where it is.
//!
//! Last how a copy is made, where an update does not serve:
//!
//! | found | decision |
//! |---|---|
//! | `--method update` | `Refuse(UpdateNotPossible)` |
//! | `--versions restack`, the bucket is versioned | `Restack`; a row without a version means all of them from the start |
//! | not the current version | `Refuse(Noncurrent)` |
//! | archived and not restored | `Refuse(NeedsRestore)`: nothing can read it |
//! | under a KMS key, to one, and no context is given | `Refuse(KmsContext)` unless allowed |
//! | no rung of the store's ladder holds | `Refuse(NoWorkingMethod)` |
//! | above the threshold (at most 5,368,709,120 bytes), or the rung says so | `MultipartCopy` |
//! | everything else | `CopyInPlace`, by the rung with the store's copying of metadata or with everything sent again |

mod kms;
mod parts;
mod refusal;
mod requests;
pub mod stack;
#[cfg(test)]
mod tests;

pub use kms::kms_requests;
pub use parts::{
    Layout, PART_BYTES_DEFAULT, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, checksum_to_ask,
};
pub use refusal::{NEEDS_RESTORE, Refusal};
pub use requests::Requests;

use crate::bucket::{Acls, BucketFacts, ObjectLock, Versioning};
use crate::closure::{Loss, Losses};
use crate::encryption::{Encryption, Mode, Target};
use crate::object::{COPY_OBJECT_BYTES_MAX, Known, ManifestEntry, NULL_VERSION, ObjectHead};
use crate::outcome::SkipReason;
use crate::profile::{Rung, StoreProfile};
use crate::selection::{Selection, Verdict};

/// What to do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing more: an attempt that ended without telling has done it.
    Done,
    /// Nothing.
    Skip(SkipReason),
    /// Have its data key wrapped anew.
    UpdateEncryption,
    /// Copy it onto itself under the target by one request.
    CopyInPlace {
        /// Whether the store copies metadata and tags, or everything is sent again.
        resend: bool,
    },
    /// Copy it onto itself in parts.
    MultipartCopy,
    /// Rewrite all versions of its key, in their order.
    Restack,
    /// Not touch it: it would not come through whole.
    Refuse(Refusal),
}

/// Which methods the operator lets be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MethodChoice {
    /// The best that serves.
    #[default]
    Auto,
    /// Copies only.
    Copy,
    /// UpdateObjectEncryption only.
    Update,
}

/// What becomes of versions that UpdateObjectEncryption can't change where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// The current one is rewritten, noncurrent ones are refused.
    #[default]
    Current,
    /// All of them are rewritten, oldest first, so that their order stays what it was.
    Restack,
}

/// What the operator has said about how objects are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which methods.
    pub method: MethodChoice,
    /// Larger objects are copied in parts; at most [`COPY_OBJECT_BYTES_MAX`].
    pub multipart_threshold: u64,
    /// Which versions.
    pub versions: Versions,
    /// What may be lost.
    pub allowed: Losses,
    /// Which objects are meant.
    pub selection: Selection,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            method: MethodChoice::Auto,
            multipart_threshold: COPY_OBJECT_BYTES_MAX,
            versions: Versions::Current,
            allowed: Losses::default(),
            selection: Selection::default(),
        }
    }
}

/// Everything that is the same for all objects of a job.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What the objects shall be under.
    pub target: &'a Target,
    /// What is known of the bucket.
    pub bucket: &'a BucketFacts,
    /// What the store has shown.
    pub profile: &'a StoreProfile,
    /// What the operator has said.
    pub rules: &'a Rules,
}

/// What a look at an object told.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// HEAD's answer.
    pub head: &'a ObjectHead,
    /// Whether it is the current version of its key.
    pub is_current: bool,
    /// The store has refused UpdateObjectEncryption for it: a copy is next.
    pub update_refused: bool,
}

/// Whether an object may have been rewritten for its row already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was not.
    Not,
    /// An earlier run had started the row and not settled it.
    Before,
    /// An attempt of this run ended without telling whether it happened.
    Now,
}

/// What the row alone decides, before any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowPlan {
    /// Nothing is done.
    Skip(SkipReason),
    /// The object is looked at.
    Look,
    /// All versions of its key are listed and rewritten.
    Restack,
    /// The row says all that a look would: the object is rewritten under the ETag that the row names.
    Unseen(Box<ObjectHead>),
}

/// What the row alone decides, before any request.
///
/// A row stands for a look where it says which object it means (its ETag and date), how large it is, where it lies and what it is under; where
/// the target is another mode, so that it can't be under it already; and where nothing can be lost that only a look shows. That last is
/// so in a bucket without ACLs, without Object Lock, without a website's redirects, and without lifecycle rules that could have moved
/// the object to another class since. What is not known of the bucket is no "none".
pub fn plan_row(entry: &ManifestEntry, started: Started, on: Circumstances<'_>) -> RowPlan {
    let known = &entry.known;
    if known.is_delete_marker {
        return RowPlan::Skip(SkipReason::DeleteMarker);
    }
    if restacks(on) && entry.version_id.is_none() {
        return RowPlan::Restack;
    }
    let bucket = on.bucket;
    // What is locked can't be updated where it is.
    let nothing_is_locked = bucket.object_lock == Some(ObjectLock::Disabled);
    let nothing_hides = bucket.acls == Some(Acls::Disabled)
        && nothing_is_locked
        && bucket.website == Some(false)
        && bucket.lifecycle.is_some_and(|rules| !rules.transitions);
    let is_plain = started == Started::Not
        && on.rules.selection.judge_row(entry) == Verdict::Taken
        && !on.rules.selection.asks_what_changes_in_place()
        && on.rules.versions == Versions::Current
        && known.is_latest != Some(false)
        && on.profile.destination_condition
        && on.profile.source_condition;
    match unseen(entry) {
        Some(head) if is_plain => {
            let seen = Seen {
                head: &head,
                is_current: true,
                update_refused: false,
            };
            match plan_object(entry, seen, started, on) {
                Plan::CopyInPlace { resend: false } if nothing_hides => {
                    RowPlan::Unseen(Box::new(head))
                }
                // It loses nothing, and is confirmed by a look afterwards.
                Plan::UpdateEncryption if nothing_is_locked => RowPlan::Unseen(Box::new(head)),
                _ => RowPlan::Look,
            }
        }
        _ => RowPlan::Look,
    }
}

/// What a look would tell, as far as a complete row tells it. A KMS key it does not name: a look has to.
fn unseen(entry: &ManifestEntry) -> Option<ObjectHead> {
    let Known {
        size: Some(size),
        etag: Some(etag),
        storage_class: Some(class),
        encryption: Some(mode),
        last_modified: Some(_),
        ..
    } = &entry.known
    else {
        return None;
    };
    let encryption = match mode {
        Mode::NotSse => Encryption::NotSse,
        Mode::SseS3 => Encryption::SseS3,
        Mode::SseKms | Mode::DsseKms | Mode::SseC => return None,
    };
    // Archived objects may be restored, and Intelligent-Tiering may have archived one: a look tells.
    let is_at_hand = matches!(
        class.as_str(),
        "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "GLACIER_IR" | "REDUCED_REDUNDANCY"
    );
    is_at_hand.then(|| ObjectHead {
        version_id: entry.version_id.clone(),
        last_modified: entry.known.last_modified,
        storage_class: Some(class.clone()),
        ..ObjectHead::bare(format!("\"{}\"", etag.trim_matches('"')), *size, encryption)
    })
}

/// Whether UpdateObjectEncryption serves from one mode to another.
pub fn re_wraps(from: Mode, to: Mode) -> bool {
    matches!((from, to), (Mode::SseS3 | Mode::SseKms, Mode::SseKms))
}

/// What a look decides.
pub fn plan_object(
    entry: &ManifestEntry,
    seen: Seen<'_>,
    started: Started,
    on: Circumstances<'_>,
) -> Plan {
    let head = seen.head;
    let is_satisfied = on.target.is_satisfied_by(&head.encryption);
    match started {
        Started::Now if is_satisfied => return Plan::Done,
        Started::Before if is_satisfied => return Plan::Skip(SkipReason::DoneBeforeInterruption),
        // What an attempt of ours has left is ours to finish, whatever it looks like now.
        Started::Now => {}
        Started::Before | Started::Not => {
            let selection = &on.rules.selection;
            let is_left_out = || {
                selection
                    .rejects(&entry.key, head, seen.is_current)
                    .is_some()
            };
            if !restacks(on) && is_left_out() {
                return Plan::Skip(SkipReason::Filtered);
            }
            if is_satisfied {
                return Plan::Skip(SkipReason::AlreadyEncrypted);
            }
        }
    }
    if head.version_id.is_none()
        && entry
            .version_id
            .as_deref()
            .is_some_and(|wanted| wanted != NULL_VERSION)
    {
        return Plan::Refuse(Refusal::NoVersion);
    }
    if can_update(seen, on) {
        return Plan::UpdateEncryption;
    }
    if on.rules.method == MethodChoice::Update {
        return Plan::Refuse(Refusal::UpdateNotPossible);
    }
    if restacks(on) {
        return Plan::Restack;
    }
    if !seen.is_current {
        return Plan::Refuse(Refusal::Noncurrent);
    }
    plan_copy(head, on)
}

/// Whether all versions of a key are rewritten together.
pub fn restacks(on: Circumstances<'_>) -> bool {
    on.rules.versions == Versions::Restack && on.bucket.versioning != Some(Versioning::Never)
}

/// Whether an object's encryption can be updated where it is.
pub fn can_update(seen: Seen<'_>, on: Circumstances<'_>) -> bool {
    on.profile.updates_encryption
        && on.rules.method != MethodChoice::Copy
        && !seen.update_refused
        && re_wraps(seen.head.encryption.mode(), on.target.mode())
        && !seen.head.lock.holds()
        && on
            .target
            .kms()
            .is_some_and(|kms| kms.context.is_none() && kms.full_arn().is_some())
}

/// How an object is copied onto itself, or why it can't be.
pub fn plan_copy(head: &ObjectHead, on: Circumstances<'_>) -> Plan {
    if head.archived {
        return Plan::Refuse(Refusal::NeedsRestore);
    }
    let mode = head.encryption.mode();
    let is_kms = |mode| matches!(mode, Mode::SseKms | Mode::DsseKms);
    let loses_context = is_kms(mode) && on.target.kms().is_some_and(|kms| kms.context.is_none());
    if loses_context && !on.rules.allowed.allow(Loss::KmsContext) {
        return Plan::Refuse(Refusal::KmsContext);
    }
    let Some(rung) = on.profile.rung(mode) else {
        return Plan::Refuse(Refusal::NoWorkingMethod);
    };
    let threshold = on.rules.multipart_threshold.min(COPY_OBJECT_BYTES_MAX);
    // The operator's threshold is a wish, CopyObject's bound is none.
    let wants_parts = head.size > threshold && on.profile.copies_parts;
    let in_parts = wants_parts || head.size > COPY_OBJECT_BYTES_MAX || rung == Rung::Multipart;
    if in_parts {
        let fits = head.size > 0 && head.size <= PART_BYTES_MAX * u64::from(PARTS_MAX);
        if !fits || !on.profile.copies_parts {
            return Plan::Refuse(if rung == Rung::Multipart && head.size <= threshold {
                Refusal::NoWorkingMethod
            } else {
                Refusal::TooLarge
            });
        }
    }
    let resend = in_parts || rung != Rung::Copy;
    if resend && head.missing_meta > 0 && !on.rules.allowed.allow(Loss::Metadata) {
        return Plan::Refuse(Refusal::MetadataNotShown);
    }
    if in_parts {
        Plan::MultipartCopy
    } else {
        Plan::CopyInPlace { resend }
    }
}

/// Whether an alias has to be resolved before this object can be planned: it is under a KMS key of the mode that is
/// wanted, and whether it is *the* key only the store can tell.
pub fn needs_resolved_key(head: &ObjectHead, target: &Target) -> bool {
    let same_mode = matches!(
        (&head.encryption, target),
        (Encryption::SseKms { .. }, Target::SseKms(_))
            | (Encryption::DsseKms { .. }, Target::DsseKms(_))
    );
    same_mode && target.kms().is_some_and(|kms| kms.needs_resolving())
}
