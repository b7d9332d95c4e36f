//! What the embedded S3 remembers: buckets, object versions, uploads in progress.
//!
//! Plain data with S3's own terms, written to disk as JSON by [`store`](super::store). Nothing here
//! knows about HTTP, files or ciphers; the key material of an object is inside its opaque
//! [`Envelope`](super::vault::Envelope).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::vault::Envelope;

/// A point in time: whole milliseconds since the Unix epoch. S3 shows and compares whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// The wall clock's current time.
    pub fn now() -> Self {
        Self::from(OffsetDateTime::now_utc())
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// This moment as S3 shows it: the fraction of the second is dropped.
    pub fn whole_second(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000)).expect(
            "a moment is made from a valid date, or read from a file that was written from one",
        )
    }
}

impl From<OffsetDateTime> for Moment {
    fn from(at: OffsetDateTime) -> Self {
        let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
        Self(
            i64::try_from(millis).expect("a date of the `time` crate fits 64 bits of milliseconds"),
        )
    }
}

/// The id of one version of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum VersionId {
    /// The version written while versioning was not enabled; S3 spells it `null`.
    Null,
    /// A version written while versioning was enabled: 32 letters and digits.
    Id(String),
}

impl VersionId {
    /// The id as S3 spells it in `versionId=` and `x-amz-version-id`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Id(id) => id,
        }
    }
}

impl From<String> for VersionId {
    fn from(text: String) -> Self {
        if text == "null" {
            Self::Null
        } else {
            Self::Id(text)
        }
    }
}

impl From<&str> for VersionId {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> Self {
        match id {
            VersionId::Null => "null".to_owned(),
            VersionId::Id(id) => id,
        }
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One bucket and its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name, valid by S3's naming rules.
    pub name: String,
    /// When it was created.
    pub created: Moment,
    /// The Region it was created in.
    pub region: String,
    /// Whether writes make versions.
    pub versioning: Versioning,
    /// The default encryption somebody has put; without it SSE-S3 applies.
    pub encryption: Option<DefaultEncryption>,
    /// Object Lock; it is enabled when the bucket is created or with versioning on, and never disabled.
    pub object_lock: Option<ObjectLock>,
    /// Who owns what others upload. `None` after DeleteBucketOwnershipControls.
    pub ownership: Option<Ownership>,
    /// Who may do what to the bucket.
    pub acl: Acl,
    /// Its tags in the order they were put; empty means none were put.
    pub tags: Vec<Tag>,
    /// The four switches of the public access block, when somebody has put them.
    pub public_access_block: Option<PublicAccessBlock>,
    /// The bucket policy as it was put. It is given back and decides nothing.
    #[serde(default)]
    pub policy: Option<String>,
    /// Configurations that are given back as they were put, as XML, and do nothing.
    #[serde(default)]
    pub documents: BTreeMap<Document, String>,
}

impl Bucket {
    /// A bucket as CreateBucket makes it when nothing is asked for.
    pub fn new(name: &str, region: &str) -> Self {
        Self {
            name: name.to_owned(),
            created: Moment::now(),
            region: region.to_owned(),
            versioning: Versioning::Unversioned,
            encryption: None,
            object_lock: None,
            ownership: Some(Ownership::BucketOwnerEnforced),
            acl: Acl::private(),
            tags: Vec::new(),
            public_access_block: None,
            policy: None,
            documents: BTreeMap::new(),
        }
    }

    /// Whether ACLs are switched off, which is S3's default since April 2023.
    pub fn acls_disabled(&self) -> bool {
        self.ownership == Some(Ownership::BucketOwnerEnforced)
    }
}

/// A configuration of a bucket that is only kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Document {
    /// Static website hosting.
    Website,
    /// Replication rules.
    Replication,
    /// Event notifications.
    Notification,
    /// Lifecycle rules.
    Lifecycle,
}

/// The versioning state of a bucket. There is no way back to `Unversioned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never enabled.
    #[default]
    Unversioned,
    /// Each write makes a version.
    Enabled,
    /// Writes replace the null version; the versions with ids stay.
    Suspended,
}

/// Default encryption of a bucket: what a write without encryption headers gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultEncryption {
    /// The mode.
    pub algorithm: SseAlgorithm,
    /// KMS key id, ARN or alias as it was put; `None` means the managed key `aws/s3`.
    pub kms_key_id: Option<String>,
    /// Whether SSE-KMS objects use a bucket key.
    pub bucket_key_enabled: bool,
    /// Whether writes under SSE-C are refused. `None` when the configuration that was put says nothing of it.
    pub blocks_sse_c: Option<bool>,
}

/// A value of `x-amz-server-side-encryption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SseAlgorithm {
    /// SSE-S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// SSE-KMS.
    #[serde(rename = "aws:kms")]
    AwsKms,
    /// DSSE-KMS.
    #[serde(rename = "aws:kms:dsse")]
    AwsKmsDsse,
}

impl SseAlgorithm {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::AwsKms => "aws:kms",
            Self::AwsKmsDsse => "aws:kms:dsse",
        }
    }

    /// Reads a header's value; letter case counts.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Aes256, Self::AwsKms, Self::AwsKmsDsse]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
    }
}

/// Object Lock of a bucket that has it enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// What a new version gets that asks for no retention of its own.
    pub default_retention: Option<DefaultRetention>,
}

/// The default retention of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// How strict it is.
    pub mode: RetentionMode,
    /// How long, counted from the write.
    pub period: RetentionPeriod,
}

/// The length of a default retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionPeriod {
    /// Days of 24 hours.
    Days(u32),
    /// Years of 365 days.
    Years(u32),
}

/// Who can shorten a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RetentionMode {
    /// Those who may bypass it and say so.
    Governance,
    /// Nobody.
    Compliance,
}

impl RetentionMode {
    /// The word S3 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    /// Reads the word S3 uses; letter case counts.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// A value of the bucket's ownership controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// ACLs are disabled; the bucket's owner owns everything.
    BucketOwnerEnforced,
    /// Uploads with the `bucket-owner-full-control` ACL belong to the bucket's owner.
    BucketOwnerPreferred,
    /// Uploads belong to whoever made them.
    ObjectWriter,
}

/// The four switches of a public access block. They are remembered; the embedded S3 has no anonymous access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAccessBlock {
    /// Refuse public ACLs.
    pub block_public_acls: bool,
    /// Ignore public ACLs.
    pub ignore_public_acls: bool,
    /// Refuse public policies.
    pub block_public_policy: bool,
    /// Restrict access under public policies.
    pub restrict_public_buckets: bool,
}

/// A tag of a bucket or an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// 1 to 128 characters, unique within its set.
    pub key: String,
    /// 0 to 256 characters.
    pub value: String,
}

/// Grants on a bucket or an object, in the order they were put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// Who may do what.
    pub grants: Vec<Grant>,
}

/// One line of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// To whom a grant is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    /// The one account that the embedded S3 has.
    Owner,
    /// Another account, by its canonical user id.
    Canonical(String),
    /// A predefined group, by its URI.
    Group(String),
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Permission {
    /// All of the others.
    FullControl,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Read the ACL.
    ReadAcp,
    /// Write the ACL.
    WriteAcp,
}

/// The group of everybody, anonymous included. Source: S3 User Guide, "Access control list (ACL) overview".
pub const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
/// The group of everybody with an AWS account. Source: as above.
pub const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
/// The group that delivers access logs. Source: as above.
pub const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

impl Acl {
    /// The owner may do everything, nobody else anything.
    pub fn private() -> Self {
        Self {
            grants: vec![Grant {
                grantee: Grantee::Owner,
                permission: Permission::FullControl,
            }],
        }
    }

    /// The ACL that a canned name stands for; `None` when S3 knows no such name. There is one account, so the
    /// two `bucket-owner-…` names add nothing to `private`.
    pub fn canned(name: &str) -> Option<Self> {
        let more: &[(&str, Permission)] = match name {
            "private" | "bucket-owner-read" | "bucket-owner-full-control" | "aws-exec-read" => &[],
            "public-read" => &[(ALL_USERS, Permission::Read)],
            "public-read-write" => &[
                (ALL_USERS, Permission::Read),
                (ALL_USERS, Permission::Write),
            ],
            "authenticated-read" => &[(AUTHENTICATED_USERS, Permission::Read)],
            "log-delivery-write" => &[
                (LOG_DELIVERY, Permission::Write),
                (LOG_DELIVERY, Permission::ReadAcp),
            ],
            _ => return None,
        };
        let mut acl = Self::private();
        for (group, permission) in more {
            acl.grants.push(Grant {
                grantee: Grantee::Group((*group).to_owned()),
                permission: *permission,
            });
        }
        Some(acl)
    }
}

/// One version of one key: an object or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The key: opaque UTF-8 of 1 to 1,024 bytes.
    pub key: String,
    /// Which version.
    pub version_id: VersionId,
    /// Orders the versions of a key: the highest is the current one.
    pub sequence: u64,
    /// Counts the writes of the store. It differs from `sequence` for a multipart upload, whose place among
    /// the versions is that of its initiation.
    pub written: u64,
    /// When it was written; for a multipart upload when the upload was initiated.
    pub last_modified: Moment,
    /// What it is.
    pub content: Content,
}

impl Version {
    /// The object, unless this is a delete marker.
    pub fn object(&self) -> Option<&Object> {
        match &self.content {
            Content::Object(object) => Some(object),
            Content::DeleteMarker => None,
        }
    }

    /// Whether this is a delete marker.
    pub fn is_delete_marker(&self) -> bool {
        matches!(self.content, Content::DeleteMarker)
    }
}

/// What a version of a key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Bytes with properties.
    Object(Box<Object>),
    /// The mark that a DELETE left.
    DeleteMarker,
}

/// An object's description. Its bytes are in the segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Plain bytes.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// What the writer said about it, and what can be changed later without touching the bytes.
    pub properties: Properties,
    /// The checksum that came with it, or the one S3 adds.
    pub checksum: Checksum,
    /// The parts of a multipart object in order; empty for an object written at once.
    pub parts: Vec<ObjectPart>,
    /// How its data keys are kept.
    pub envelope: Envelope,
    /// Where its bytes are, in order. Never empty: an empty object has one empty segment.
    pub segments: Vec<Segment>,
    /// The name that its segments' files share.
    pub data: DataId,
}

/// What a writer says about an object besides its bytes and its encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Headers that are stored and given back.
    pub headers: ContentHeaders,
    /// User metadata: names in lower case without `x-amz-meta-`, values as UTF-8, or as the RFC 2047 words that they
    /// came in.
    pub metadata: BTreeMap<String, String>,
    /// The storage class, S3's own word.
    pub storage_class: String,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// Tags in the order they were put; empty means none.
    pub tags: Vec<Tag>,
    /// Who may do what.
    pub acl: Acl,
    /// Object Lock.
    pub lock: Lock,
    /// Until when an archived object can be read; `None` when nobody has restored it.
    #[serde(default)]
    pub restored_until: Option<Moment>,
    /// Annotations by name.
    #[serde(default)]
    pub annotations: BTreeMap<String, Annotation>,
}

/// A text that was put beside an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// The text.
    pub payload: String,
    /// When it was put.
    pub last_modified: Moment,
}

/// The storage class of an object that asked for none.
pub const STANDARD: &str = "STANDARD";

impl Default for Properties {
    fn default() -> Self {
        Self {
            headers: ContentHeaders::default(),
            metadata: BTreeMap::new(),
            storage_class: STANDARD.to_owned(),
            website_redirect: None,
            tags: Vec::new(),
            acl: Acl::private(),
            lock: Lock::default(),
            restored_until: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Properties {
    /// Whether the class wants a restore before the bytes can be read.
    pub fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
    }

    /// Whether a restore has made the bytes readable, and still does.
    pub fn is_restored(&self, now: Moment) -> bool {
        self.restored_until.is_some_and(|until| until > now)
    }

    /// Whether the bytes can be read neither by a GET nor by a copy.
    pub fn needs_restore(&self, now: Moment) -> bool {
        self.is_archived() && !self.is_restored(now)
    }
}

/// The standard headers that S3 stores with an object, each exactly as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentHeaders {
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`, without the `aws-chunked` of the transfer.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Type`; S3 says `binary/octet-stream` when it is absent.
    pub content_type: Option<String>,
    /// `Expires`.
    pub expires: Option<String>,
}

/// Object Lock of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Until when it cannot be deleted.
    pub retention: Option<Retention>,
    /// Whether a legal hold is on. `None` when none was ever put.
    pub legal_hold: Option<bool>,
}

/// A retention of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How strict it is.
    pub mode: RetentionMode,
    /// The end.
    pub until: Moment,
}

/// A checksum of an object or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Which one.
    pub algorithm: ChecksumAlgorithm,
    /// Over what.
    pub kind: ChecksumKind,
    /// Base64; composite ones end in `-` and the number of parts.
    pub value: String,
}

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// CRC-32 as in gzip.
    Crc32,
    /// CRC-32C, Castagnoli.
    Crc32c,
    /// CRC-64/NVME, what S3 adds on its own.
    Crc64nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What a checksum was computed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChecksumKind {
    /// All bytes of the object.
    FullObject,
    /// The parts' checksums, one after the other.
    Composite,
}

/// A part of a finished multipart object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPart {
    /// 1 to 10,000, as it was uploaded.
    pub number: u32,
    /// Plain bytes.
    pub size: u64,
    /// Base64 of the part's checksum in the object's algorithm.
    pub checksum: String,
}

/// One file of ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number, unique among the segments that share data keys.
    pub number: u32,
    /// Plain bytes in it.
    pub size: u64,
}

/// The random name that the segments of one object or upload share on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DataId(pub(super) String);

impl DataId {
    /// The name itself: letters and digits.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The key it will write.
    pub key: String,
    /// Its id: 32 letters and digits.
    pub upload_id: String,
    /// When it was initiated, which becomes the object's date.
    pub initiated: Moment,
    /// The place among the key's versions that initiation has won.
    pub sequence: u64,
    /// What was said at CreateMultipartUpload.
    pub properties: Properties,
    /// Whether the key had an object at initiation.
    #[serde(default)]
    pub had_object: bool,
    /// How the data keys of all its parts are kept.
    pub envelope: Envelope,
    /// The checksum asked for at CreateMultipartUpload. Without it S3 computes CRC-64/NVME.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

impl Upload {
    /// The name that its parts' files share, which the finished object keeps: so a Complete that is repeated
    /// can be recognised.
    pub fn data(&self) -> DataId {
        DataId(self.upload_id.clone())
    }
}

/// A part that has been uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// The part's ETag without quotes: 32 hexadecimal digits.
    pub etag: String,
    /// When it was uploaded.
    pub last_modified: Moment,
    /// Base64 of its checksum in the upload's algorithm.
    pub checksum: String,
    /// Where its bytes are.
    pub segment: Segment,
}
