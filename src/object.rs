//! One object: the row that names it, and everything of it that a rewrite has to bring through.

use std::collections::BTreeMap;

use crate::encryption::{Encryption, Mode};

/// The largest object that one CopyObject takes, in bytes, inclusive.
/// Source: S3 API Reference, CopyObject: "up to 5 GB"; the error text names 5368709120.
pub const COPY_OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// The longest key, in bytes of UTF-8. Source: S3 User Guide, "Naming Amazon S3 objects".
pub const KEY_BYTES_MAX: usize = 1024;

/// S3's id of the version that was written without versioning.
pub const NULL_VERSION: &str = "null";

/// One validated line of a manifest. The bucket is the manifest's: one for a whole job, as in S3 Batch Operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Number of the row among its shard's rows of the whole manifest, from 0, data files counted in their order.
    pub row: u64,
    /// The key, decoded; 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// The version, where the manifest names one; the word `null` is S3's own id of the null version.
    pub version_id: Option<String>,
    /// What the inventory already knows.
    pub known: Known,
}

/// What a manifest row says of its object beside its name. All of it may be out of date: an inventory is a rolling
/// snapshot of up to two days ago.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Size in bytes.
    pub size: Option<u64>,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// When it was written, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// Storage class, S3's spelling.
    pub storage_class: Option<String>,
    /// Encryption mode; the inventory has no column for the key.
    pub encryption: Option<Mode>,
    /// Whether this is the current version of its key.
    pub is_latest: Option<bool>,
    /// Whether the row is a delete marker, which has no data.
    pub is_delete_marker: bool,
}

/// An object, or one version of it, as requests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The version; `None` is the current one.
    pub version_id: Option<&'a str>,
}

/// An object, or one version of it, as a listing shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: String,
    /// The version, where versions were listed; the null version is the word `null`.
    pub version_id: Option<String>,
    /// Whether it is the current version of its key.
    pub is_latest: bool,
    /// Whether it is a delete marker, which has no data.
    pub is_delete_marker: bool,
    /// Size in bytes; a delete marker has none.
    pub size: Option<u64>,
    /// When it was written, in milliseconds since 1970.
    pub last_modified_ms: Option<i64>,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Storage class, S3's spelling.
    pub storage_class: Option<String>,
    /// Checksum algorithms, S3's spelling, with commas between them.
    pub checksum_algorithm: Option<String>,
}

/// What HeadObject told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// ETag as S3 sent it, with its quotes.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// Version id; `None` where the bucket never had versioning.
    pub version_id: Option<String>,
    /// When it was written, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// The encryption it is stored under.
    pub encryption: Encryption,
    /// Storage class; S3 sends none for STANDARD.
    pub storage_class: Option<String>,
    /// Target of the website redirect.
    pub website_redirect: Option<String>,
    /// Whether S3 must restore it from an archive before it can be read.
    pub archived: bool,
    /// The headers that describe the content.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case without `x-amz-meta-`. Values are as S3 sent them: RFC 2047 encoded where they are
    /// not ASCII, and so they are sent again, because S3 decodes them when it stores them.
    /// Source: S3 User Guide, "Working with object metadata".
    pub metadata: BTreeMap<String, String>,
    /// User metadata that HTTP can't show (`x-amz-missing-meta`): S3 copies it, nobody can send it again.
    pub missing_meta: u32,
    /// Number of tags, where the store shows it: only to those who may read tags, and never a 0.
    pub tag_count: Option<u32>,
    /// Object Lock, as far as HEAD shows it: only to those who may read it.
    pub lock: Lock,
    /// Checksums, where they were asked for.
    pub checksums: Checksums,
    /// Number of parts that it was uploaded in; shown where one part was asked for.
    pub parts: Option<u32>,
    /// How far its replication is, where a rule applies to it; S3's spelling.
    pub replication_status: Option<String>,
}

impl ObjectHead {
    /// The MD5 of its bytes in hexadecimal, where its ETag is that. Source: S3 API Reference, "Object", ETag: for objects that were
    /// uploaded or copied in one piece, under SSE-S3 or none.
    pub fn md5_by_etag(&self) -> Option<&str> {
        let etag = self.etag.trim_matches('"');
        let is_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_told = matches!(self.encryption, Encryption::NotSse | Encryption::SseS3);
        (is_md5 && is_told).then_some(etag)
    }

    /// An object of which no more than this is known.
    pub fn bare(etag: String, size: u64, encryption: Encryption) -> Self {
        Self {
            etag,
            size,
            version_id: None,
            last_modified: None,
            encryption,
            storage_class: None,
            website_redirect: None,
            archived: false,
            headers: ContentHeaders::default(),
            metadata: BTreeMap::new(),
            missing_meta: 0,
            tag_count: None,
            lock: Lock::default(),
            checksums: Checksums::default(),
            parts: None,
            replication_status: None,
        }
    }

    /// The storage class by its name; S3 leaves out STANDARD.
    pub fn storage_class_name(&self) -> &str {
        self.storage_class.as_deref().unwrap_or("STANDARD")
    }
}

/// Headers that describe an object's content: S3 keeps them and gives them back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentHeaders {
    /// Content-Type.
    pub content_type: Option<String>,
    /// Content-Encoding.
    pub content_encoding: Option<String>,
    /// Content-Disposition.
    pub content_disposition: Option<String>,
    /// Content-Language.
    pub content_language: Option<String>,
    /// Cache-Control.
    pub cache_control: Option<String>,
    /// Expires, as text: S3 keeps what is no date too.
    pub expires: Option<String>,
}

/// Object Lock's hold on an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Retention.
    pub retention: Option<Retention>,
    /// Whether it is under legal hold.
    pub legal_hold: bool,
}

impl Lock {
    /// Retention that is over holds nothing, and can't be set again.
    pub fn drop_what_is_over(&mut self, now_ms: i64) {
        self.retention.take_if(|held| held.until_ms <= now_ms);
    }

    /// Whether anything holds the object.
    pub fn holds(&self) -> bool {
        self.legal_hold || self.retention.is_some()
    }
}

/// An object's retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    /// Until when, in milliseconds since 1970.
    pub until_ms: i64,
}

/// One tag of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// An object's access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// Canonical id of the owner.
    pub owner: Option<String>,
    /// The grants, sorted.
    pub grants: Vec<Grant>,
}

/// One grant of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// S3's name: `FULL_CONTROL`, `READ`, `READ_ACP`, `WRITE_ACP`, `WRITE`.
    pub permission: String,
}

/// Whom a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// An account, by its canonical id.
    Account(String),
    /// A group that S3 defines, by its URI.
    Group(String),
    /// Something that a request header can't name.
    Other,
}

impl Acl {
    /// Whether it grants the owner's full control and nothing else: what a copy gives by itself.
    pub fn is_owners_only(&self) -> bool {
        self.grants.iter().all(|grant| {
            grant.permission == "FULL_CONTROL"
                && matches!((&grant.grantee, &self.owner), (Grantee::Account(id), Some(owner)) if id == owner)
        })
    }

    /// Whether request headers can say all of it. There is none for `WRITE` on an object.
    pub fn can_be_sent(&self) -> bool {
        self.grants.iter().all(|grant| {
            grant.grantee != Grantee::Other
                && matches!(
                    grant.permission.as_str(),
                    "FULL_CONTROL" | "READ" | "READ_ACP" | "WRITE_ACP"
                )
        })
    }
}

/// The checksums that S3 keeps of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Over the whole object, or over its parts' checksums.
    pub kind: Option<ChecksumKind>,
    /// By algorithm, S3's spelling (`CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256` …): the value as S3 shows it, base64, and
    /// with `-N` where it is composite.
    pub values: BTreeMap<String, String>,
}

/// What a checksum is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// The bytes of the object.
    FullObject,
    /// The checksums of its parts.
    Composite,
}

/// What came of reading an object back and holding its bytes against the checksum that the store keeps of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The same, by this checksum.
    Same(String),
    /// Something else.
    Differs {
        /// By which checksum.
        algorithm: String,
        /// What the store keeps.
        stored: String,
        /// What was read has.
        read: String,
    },
    /// Read to its end; the store keeps no checksum of the whole object that could be computed.
    NothingToCompare,
    /// Not read: in an archive tier, and not restored.
    Archived,
}

impl Checksums {
    /// The checksums of all bytes: by algorithm, as S3 shows them. One of parts' checksums is none.
    pub fn of_whole(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_whole = self.kind != Some(ChecksumKind::Composite);
        let values = self
            .values
            .iter()
            .filter(move |(_, value)| is_whole && !value.contains('-'));
        values.map(|(algorithm, value)| (algorithm.as_str(), value.as_str()))
    }

    /// Whether two objects have the same bytes as far as their checksums tell: by the first algorithm that both have, of the
    /// same kind. `None` where there is none.
    pub fn agree(&self, other: &Self) -> Option<bool> {
        let kind = |checksums: &Self| checksums.kind.unwrap_or(ChecksumKind::FullObject);
        if kind(self) != kind(other) {
            return None;
        }
        self.values
            .iter()
            .find_map(|(algorithm, value)| Some(other.values.get(algorithm)? == value))
    }
}
