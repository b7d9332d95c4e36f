//! Why an object is not touched: it would not come through whole, or it can't be rewritten at all.

use crate::closure::Loss;
use crate::outcome::Failure;

/// Why an object is not touched. The row is a failed one, under a code of ours: no request was sent that S3 could have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Above what a copy in the largest parts takes, or above 5 GiB on a store without multipart copies.
    TooLarge,
    /// In an archive tier, not restored, and UpdateObjectEncryption does not serve.
    NeedsRestore,
    /// Not the current version of its key: a copy would make it current.
    Noncurrent,
    /// The row names a version, and the object has none.
    NoVersion,
    /// `--method update`, and it does not serve here.
    UpdateNotPossible,
    /// The store has shown no way that holds for objects in this encryption.
    NoWorkingMethod,
    /// The bucket puts new objects under retention, and the object is under none.
    DefaultRetention,
    /// With grants that request headers can't say.
    Grants,
    /// Its grants can't be read.
    AclUnknown,
    /// Its tags can't be read, and would have to be sent again.
    TagsUnknown,
    /// Its retention or legal hold can't be read.
    LockUnknown,
    /// With annotations, which the method would lose.
    Annotations,
    /// Whether it has annotations can't be read.
    AnnotationsUnknown,
    /// Under a KMS key, perhaps with an encryption context that nobody can read.
    KmsContext,
    /// With user metadata that HTTP can't show, and that would have to be sent again.
    MetadataNotShown,
    /// Its versions can't be put in order again: versioning is suspended, or not known.
    VersioningSuspended,
    /// It has more versions than are rewritten in one go.
    TooManyVersions,
    /// Its key is white space alone, and the AWS SDK sends no request for such a one.
    KeyNotSupported,
}

/// The code of rows that wait for a restore: they are in a manifest of their own beside the report.
pub const NEEDS_RESTORE: &str = "NeedsRestore";

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 18] = [
        Self::TooLarge,
        Self::NeedsRestore,
        Self::Noncurrent,
        Self::NoVersion,
        Self::UpdateNotPossible,
        Self::NoWorkingMethod,
        Self::DefaultRetention,
        Self::Grants,
        Self::AclUnknown,
        Self::TagsUnknown,
        Self::LockUnknown,
        Self::Annotations,
        Self::AnnotationsUnknown,
        Self::KmsContext,
        Self::MetadataNotShown,
        Self::VersioningSuspended,
        Self::TooManyVersions,
        Self::KeyNotSupported,
    ];

    /// Code and message in the report.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::TooLarge => (
                "ObjectTooLarge",
                "larger than what this store copies: 5368709120 bytes by one CopyObject, 10000 such parts where it has multipart copies",
            ),
            Self::NeedsRestore => (
                NEEDS_RESTORE,
                "needs-restore: in an archive storage class and not restored; restore what needs-restore.csv beside the report names, then run that as the manifest",
            ),
            Self::Noncurrent => (
                "NoncurrentVersion",
                "not the current version, a copy would make it current; --versions restack rewrites all versions in their order",
            ),
            Self::NoVersion => (
                "NoSuchVersion",
                "the manifest names a version, and the object in the bucket has none",
            ),
            Self::UpdateNotPossible => (
                "UpdateNotPossible",
                "--method update serves objects under SSE-S3 or SSE-KMS that Object Lock does not hold",
            ),
            Self::NoWorkingMethod => (
                "NoWorkingMethod",
                "the store has shown no way that rewrites objects in this encryption and brings them through whole",
            ),
            Self::DefaultRetention => (
                "BucketDefaultRetention",
                "the bucket's default retention would lock the copy, and the object is not under it",
            ),
            Self::Grants => (
                "ObjectHasGrants",
                "its ACL has grants that can't be sent with a copy",
            ),
            Self::AclUnknown => (
                "AclUnknown",
                "its ACL can't be read (s3:GetObjectAcl), and a copy would reset it",
            ),
            Self::TagsUnknown => (
                "TagsUnknown",
                "its tags can't be read (s3:GetObjectTagging), and would have to be sent again, or compared (--canary, --verify read)",
            ),
            Self::LockUnknown => (
                "LockUnknown",
                "its retention or legal hold, or what the bucket gives new objects, can't be read (s3:GetObjectRetention, s3:GetObjectLegalHold, s3:GetBucketObjectLockConfiguration)",
            ),
            Self::Annotations => (
                "ObjectHasAnnotations",
                "it has annotations, which a copy in parts or under SSE-C loses",
            ),
            Self::AnnotationsUnknown => (
                "AnnotationsUnknown",
                "whether it has annotations can't be read (s3:ListObjectAnnotations), and the method would lose them",
            ),
            Self::KmsContext => (
                "KmsContextUnknown",
                "under a KMS key, perhaps with an encryption context that nobody can read; --kms-encryption-context says what the copy gets",
            ),
            Self::MetadataNotShown => (
                "MetadataNotShown",
                "it has user metadata that HTTP can't show, and that would have to be sent again",
            ),
            Self::VersioningSuspended => (
                "VersioningSuspended",
                "versions can be put in order again only where versioning is enabled, and known to be (s3:GetBucketVersioning)",
            ),
            Self::TooManyVersions => (
                "TooManyVersions",
                "the key has more than 1000 versions, more than are rewritten in one go",
            ),
            Self::KeyNotSupported => (
                "KeyNotSupported",
                "its key is white space alone, and the AWS SDK sends no request for such a key",
            ),
        }
    }

    /// The code in the report.
    pub fn code(self) -> &'static str {
        self.told().0
    }

    /// The loss that the operator may allow instead.
    pub fn loss(self) -> Option<Loss> {
        match self {
            Self::Grants | Self::AclUnknown => Some(Loss::Acl),
            Self::TagsUnknown => Some(Loss::Tags),
            Self::LockUnknown | Self::DefaultRetention => Some(Loss::ObjectLock),
            Self::Annotations | Self::AnnotationsUnknown => Some(Loss::Annotations),
            Self::KmsContext => Some(Loss::KmsContext),
            Self::MetadataNotShown => Some(Loss::Metadata),
            Self::TooLarge
            | Self::NeedsRestore
            | Self::Noncurrent
            | Self::NoVersion
            | Self::UpdateNotPossible
            | Self::NoWorkingMethod
            | Self::VersioningSuspended
            | Self::TooManyVersions
            | Self::KeyNotSupported => None,
        }
    }

    /// As the failure of a row.
    pub fn to_failure(self) -> Failure {
        let (code, message) = self.told();
        let message = match self.loss() {
            Some(loss) => format!("{message}; --allow-loss {loss} goes on all the same"),
            None => message.to_owned(),
        };
        Failure {
            code: code.to_owned(),
            http_status: 0,
            message,
        }
    }
}
