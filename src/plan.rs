//! The decision for one object: pure, from its row, a look at it, and the target.
//!
//! | found | decision |
//! |---|---|
//! | the row is a delete marker, or not the current version | `Skip` |
//! | under the target after an attempt that did not tell | `Done` |
//! | under the target, the row started before an interruption | `Skip(DoneBeforeInterruption)` |
//! | the row names a version and the object has none | `Refuse(NoVersion)` |
//! | already under the target | `Skip` |
//! | more than 5,368,709,120 bytes | `Refuse(ObjectTooLarge)`: CopyObject can't |
//! | archived and not restored | `Refuse(ObjectArchived)`: nothing can read it |
//! | Object Lock retention or legal hold | `Refuse(ObjectLocked)`: a copy would not carry it |
//! | everything else | `CopyInPlace` |

use crate::encryption::{Encryption, Target};
use crate::object::{COPY_OBJECT_BYTES_MAX, ManifestEntry, NULL_VERSION, ObjectHead};
use crate::outcome::{Failure, SkipReason};

/// What to do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing more: an attempt that ended without telling has done it.
    Done,
    /// Nothing.
    Skip(SkipReason),
    /// Copy it onto itself under the target.
    CopyInPlace,
    /// Not touch it: it would not come through whole.
    Refuse(Refusal),
}

/// Why an object is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Above what one CopyObject takes.
    TooLarge,
    /// In an archive tier, not restored.
    Archived,
    /// Under Object Lock.
    Locked,
    /// The bucket puts new objects under retention.
    DefaultRetention,
    /// The row names a version, and the object has none.
    NoVersion,
    /// With grants beside the owner's, which a copy resets.
    Grants,
}

impl Refusal {
    /// As the failure of a row. The codes are ours: no request was sent that S3 could have answered.
    pub fn to_failure(self) -> Failure {
        let (code, message) = match self {
            Self::TooLarge => (
                "ObjectTooLarge",
                "larger than 5368709120 bytes, the most that CopyObject takes",
            ),
            Self::Archived => (
                "ObjectArchived",
                "in an archive storage class and not restored: restore it, then run a manifest of what failed",
            ),
            Self::Locked => (
                "ObjectLocked",
                "under Object Lock retention or legal hold, which a copy would not carry",
            ),
            Self::DefaultRetention => (
                "BucketDefaultRetention",
                "the bucket's default retention would lock the copy, and the object is not under it",
            ),
            Self::NoVersion => (
                "NoSuchVersion",
                "the manifest names a version, and the object in the bucket has none",
            ),
            Self::Grants => (
                "ObjectHasGrants",
                "its ACL grants more than the owner's full control, which a copy would reset",
            ),
        };
        Failure {
            code: code.to_owned(),
            http_status: 0,
            message: message.to_owned(),
        }
    }
}

/// What the row alone decides, before any request.
pub fn plan_row(entry: &ManifestEntry) -> Option<SkipReason> {
    if entry.known.is_delete_marker {
        Some(SkipReason::DeleteMarker)
    } else if entry.known.is_latest == Some(false) {
        Some(SkipReason::NoncurrentVersion)
    } else {
        None
    }
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

/// What a look at the current version decides.
pub fn plan_object(
    entry: &ManifestEntry,
    head: &ObjectHead,
    target: &Target,
    started: Started,
) -> Plan {
    let is_satisfied = target.is_satisfied_by(&head.encryption);
    // Before the version is asked for: our own copy is another version than the row's.
    match started {
        Started::Now if is_satisfied => return Plan::Done,
        Started::Before if is_satisfied => return Plan::Skip(SkipReason::DoneBeforeInterruption),
        Started::Not | Started::Before | Started::Now => {}
    }
    match (entry.version_id.as_deref(), head.version_id.as_deref()) {
        (Some(wanted), Some(current)) if wanted != current => {
            return Plan::Skip(SkipReason::NoncurrentVersion);
        }
        (Some(wanted), None) if wanted != NULL_VERSION => return Plan::Refuse(Refusal::NoVersion),
        _ => {}
    }
    if is_satisfied {
        return Plan::Skip(SkipReason::AlreadyEncrypted);
    }
    if head.lock.holds() {
        Plan::Refuse(Refusal::Locked)
    } else if head.archived {
        Plan::Refuse(Refusal::Archived)
    } else if head.size > COPY_OBJECT_BYTES_MAX {
        Plan::Refuse(Refusal::TooLarge)
    } else {
        Plan::CopyInPlace
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::object::{Checksums, ContentHeaders, Known, Lock};

    fn entry() -> ManifestEntry {
        ManifestEntry {
            row: 0,
            key: "k".to_owned(),
            version_id: None,
            known: Known::default(),
        }
    }

    fn head() -> ObjectHead {
        ObjectHead {
            etag: "\"e\"".to_owned(),
            size: 1,
            version_id: None,
            encryption: Encryption::NotSse,
            storage_class: None,
            website_redirect: None,
            archived: false,
            last_modified: None,
            headers: ContentHeaders::default(),
            metadata: BTreeMap::new(),
            missing_meta: 0,
            tag_count: None,
            lock: Lock::default(),
            checksums: Checksums::default(),
            parts: None,
        }
    }

    #[test]
    fn every_line_of_the_table() {
        let plan = |head: &ObjectHead| plan_object(&entry(), head, &Target::SseS3, Started::Not);
        let with = |change: fn(&mut ObjectHead)| {
            let mut head = head();
            change(&mut head);
            head
        };
        for (head, expected) in [
            (head(), Plan::CopyInPlace),
            (
                with(|h| h.encryption = Encryption::SseS3),
                Plan::Skip(SkipReason::AlreadyEncrypted),
            ),
            (with(|h| h.size = COPY_OBJECT_BYTES_MAX), Plan::CopyInPlace),
            (
                with(|h| h.size = COPY_OBJECT_BYTES_MAX + 1),
                Plan::Refuse(Refusal::TooLarge),
            ),
            (with(|h| h.archived = true), Plan::Refuse(Refusal::Archived)),
            (
                with(|h| h.lock.legal_hold = true),
                Plan::Refuse(Refusal::Locked),
            ),
            // Nothing has to be copied, so nothing can be lost.
            (
                with(|h| {
                    h.lock.legal_hold = true;
                    h.size = COPY_OBJECT_BYTES_MAX + 1;
                    h.encryption = Encryption::SseS3;
                }),
                Plan::Skip(SkipReason::AlreadyEncrypted),
            ),
        ] {
            assert_eq!(plan(&head), expected, "{head:?}");
        }
    }

    #[test]
    fn only_the_current_version_is_copied() {
        let mut row = entry();
        row.version_id = Some("v1".to_owned());
        let mut now = head();
        now.version_id = Some("v2".to_owned());
        assert_eq!(
            plan_object(&row, &now, &Target::SseS3, Started::Not),
            Plan::Skip(SkipReason::NoncurrentVersion)
        );
        now.version_id = Some("v1".to_owned());
        assert_eq!(
            plan_object(&row, &now, &Target::SseS3, Started::Not),
            Plan::CopyInPlace
        );
        row.known.is_latest = Some(false);
        assert_eq!(plan_row(&row), Some(SkipReason::NoncurrentVersion));
        row.known.is_delete_marker = true;
        assert_eq!(plan_row(&row), Some(SkipReason::DeleteMarker));
    }

    #[test]
    fn what_we_wrote_ourselves_is_another_version_than_the_rows() {
        let mut row = entry();
        row.version_id = Some("v1".to_owned());
        let mut now = head();
        now.version_id = Some("v2".to_owned());
        now.encryption = Encryption::SseS3;
        for (started, expected) in [
            (Started::Not, Plan::Skip(SkipReason::NoncurrentVersion)),
            (
                Started::Before,
                Plan::Skip(SkipReason::DoneBeforeInterruption),
            ),
            (Started::Now, Plan::Done),
        ] {
            assert_eq!(plan_object(&row, &now, &Target::SseS3, started), expected);
        }
        // Not ours: it is not under the target.
        now.encryption = Encryption::NotSse;
        for started in [Started::Not, Started::Before, Started::Now] {
            let plan = plan_object(&row, &now, &Target::SseS3, started);
            assert_eq!(plan, Plan::Skip(SkipReason::NoncurrentVersion));
        }
    }

    #[test]
    fn a_version_that_can_not_be_checked_is_refused() {
        let mut row = entry();
        row.version_id = Some("v1".to_owned());
        let plan = |row: &ManifestEntry| plan_object(row, &head(), &Target::SseS3, Started::Not);
        assert_eq!(plan(&row), Plan::Refuse(Refusal::NoVersion));
        row.version_id = Some(NULL_VERSION.to_owned());
        assert_eq!(plan(&row), Plan::CopyInPlace);
    }
}
