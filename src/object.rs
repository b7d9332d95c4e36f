//! One object: the row that names it and what a look at it told.

use crate::encryption::{Encryption, Mode};

/// The largest object that one CopyObject takes, in bytes, inclusive.
/// Source: S3 API Reference, CopyObject: "up to 5 GB"; the error text names 5368709120.
pub const COPY_OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// The longest key, in bytes of UTF-8. Source: S3 User Guide, "Naming Amazon S3 objects".
pub const KEY_BYTES_MAX: usize = 1024;

/// One validated line of a manifest. The bucket is the manifest's: one for a whole job, as in S3 Batch Operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Number of the row in the whole manifest, from 0, data files counted in their order.
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
    /// Storage class, S3's spelling.
    pub storage_class: Option<String>,
    /// Encryption mode; the inventory has no column for the key.
    pub encryption: Option<Mode>,
    /// Whether this is the current version of its key.
    pub is_latest: Option<bool>,
    /// Whether the row is a delete marker, which has no data.
    pub is_delete_marker: bool,
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
    /// The encryption it is stored under.
    pub encryption: Encryption,
    /// Storage class; S3 sends none for STANDARD.
    pub storage_class: Option<String>,
    /// Target of the website redirect.
    pub website_redirect: Option<String>,
    /// Whether S3 must restore it from an archive before it can be read.
    pub archived: bool,
    /// Object Lock holds it: retention or legal hold.
    pub locked: bool,
}
