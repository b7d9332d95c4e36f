//! One row of an inventory, the columns that it has, and counts of many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encryption::Encryption;
use crate::object::ListedObject;

/// One object, or one version of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// What the listing shows.
    pub listed: ListedObject,
    /// What a look has told, where one was asked for.
    pub looked: Looked,
}

/// What a look has told, in the inventory's words. Empty where it has told nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// `SSE-KMS` and its like.
    pub encryption: Option<&'static str>,
    /// `ENABLED` or `DISABLED`.
    pub bucket_key: Option<&'static str>,
    /// `COMPLETED` and its like; most objects have none.
    pub replication: Option<String>,
}

impl Looked {
    /// What the encryption of an object is in an inventory.
    pub fn of(encryption: &Encryption) -> Self {
        let has_bucket_key = matches!(
            encryption,
            Encryption::SseKms {
                bucket_key: true,
                ..
            }
        );
        Self {
            encryption: Some(encryption.mode().inventory_name()),
            bucket_key: Some(if has_bucket_key {
                "ENABLED"
            } else {
                "DISABLED"
            }),
            replication: None,
        }
    }
}

/// A column, in S3's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// The bucket.
    Bucket,
    /// The key.
    Key,
    /// The version; empty for the null version.
    VersionId,
    /// Whether it is the current version of its key.
    IsLatest,
    /// Whether it is a delete marker.
    IsDeleteMarker,
    /// Size in bytes.
    Size,
    /// When it was written.
    LastModifiedDate,
    /// Its ETag, without quotes.
    ETag,
    /// Its storage class.
    StorageClass,
    /// How far its replication is.
    ReplicationStatus,
    /// Its encryption's mode.
    EncryptionStatus,
    /// Whether it uses an S3 Bucket Key.
    BucketKeyStatus,
    /// The algorithm of its checksum.
    ChecksumAlgorithm,
}

impl Column {
    const ALL: [Self; 13] = [
        Self::Bucket,
        Self::Key,
        Self::VersionId,
        Self::IsLatest,
        Self::IsDeleteMarker,
        Self::Size,
        Self::LastModifiedDate,
        Self::ETag,
        Self::StorageClass,
        Self::ReplicationStatus,
        Self::EncryptionStatus,
        Self::BucketKeyStatus,
        Self::ChecksumAlgorithm,
    ];

    /// The columns of an inventory of all versions or of what is current, with what a look tells or without. A column that nobody has
    /// looked for is not there: an empty one would say something.
    pub fn of(with_versions: bool, with_looks: bool) -> Vec<Self> {
        let is_there = |column: &Self| match column {
            Self::VersionId | Self::IsLatest | Self::IsDeleteMarker => with_versions,
            Self::ReplicationStatus | Self::EncryptionStatus | Self::BucketKeyStatus => with_looks,
            _ => true,
        };
        Self::ALL.into_iter().filter(is_there).collect()
    }

    /// Its name in CSV. Source: S3 User Guide, "Amazon S3 Inventory list".
    pub fn name(self) -> &'static str {
        match self {
            Self::Bucket => "Bucket",
            Self::Key => "Key",
            Self::VersionId => "VersionId",
            Self::IsLatest => "IsLatest",
            Self::IsDeleteMarker => "IsDeleteMarker",
            Self::Size => "Size",
            Self::LastModifiedDate => "LastModifiedDate",
            Self::ETag => "ETag",
            Self::StorageClass => "StorageClass",
            Self::ReplicationStatus => "ReplicationStatus",
            Self::EncryptionStatus => "EncryptionStatus",
            Self::BucketKeyStatus => "BucketKeyStatus",
            Self::ChecksumAlgorithm => "ChecksumAlgorithm",
        }
    }

    /// Its line in Parquet's schema. Source: S3 User Guide, "Locating your inventory list".
    pub fn in_parquet(self) -> &'static str {
        match self {
            Self::Bucket => "required binary bucket (STRING)",
            Self::Key => "required binary key (STRING)",
            Self::VersionId => "optional binary version_id (STRING)",
            Self::IsLatest => "optional boolean is_latest",
            Self::IsDeleteMarker => "optional boolean is_delete_marker",
            Self::Size => "optional int64 size",
            Self::LastModifiedDate => "optional int64 last_modified_date (TIMESTAMP(MILLIS,true))",
            Self::ETag => "optional binary e_tag (STRING)",
            Self::StorageClass => "optional binary storage_class (STRING)",
            Self::ReplicationStatus => "optional binary replication_status (STRING)",
            Self::EncryptionStatus => "optional binary encryption_status (STRING)",
            Self::BucketKeyStatus => "optional binary bucket_key_status (STRING)",
            Self::ChecksumAlgorithm => "optional binary checksum_algorithm (STRING)",
        }
    }
}

/// What many rows come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Rows that are the current version of their key, and no delete marker.
    pub objects: u64,
    /// Rows that are noncurrent versions, with data.
    pub noncurrent_versions: u64,
    /// Rows that are delete markers.
    pub delete_markers: u64,
    /// Size of all of them.
    pub bytes: u64,
    /// Rows by what a look told of their encryption.
    pub encryption: BTreeMap<String, u64>,
    /// Rows of which a look told nothing.
    pub unknown: Unknown,
}

/// Rows of which a look told nothing, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// The store refused.
    pub refused: u64,
    /// Between the listing and the look the object was removed.
    pub gone: u64,
    /// Or written anew.
    pub changed: u64,
}

impl Unknown {
    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.refused += others.refused;
        self.gone += others.gone;
        self.changed += others.changed;
    }
}

impl Counts {
    /// Counts one more.
    pub fn count(&mut self, row: &Row) {
        self.rows += 1;
        self.bytes += row.listed.size.unwrap_or(0);
        *match &row.listed {
            listed if listed.is_delete_marker => &mut self.delete_markers,
            listed if listed.is_latest => &mut self.objects,
            _ => &mut self.noncurrent_versions,
        } += 1;
        if let Some(mode) = row.looked.encryption {
            match self.encryption.get_mut(mode) {
                Some(count) => *count += 1,
                None => drop(self.encryption.insert(mode.to_owned(), 1)),
            }
        }
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.rows += others.rows;
        self.objects += others.objects;
        self.noncurrent_versions += others.noncurrent_versions;
        self.delete_markers += others.delete_markers;
        self.bytes += others.bytes;
        for (mode, count) in &others.encryption {
            *self.encryption.entry(mode.clone()).or_default() += count;
        }
        self.unknown.add(others.unknown);
    }
}

/// Rows for tests.
#[cfg(test)]
pub mod examples {
    use super::*;

    /// With something in each column.
    pub fn example(key: &str, version_id: Option<&str>) -> Row {
        Row {
            listed: ListedObject {
                key: key.to_owned(),
                version_id: version_id.map(str::to_owned),
                is_latest: true,
                is_delete_marker: false,
                size: Some(12),
                last_modified_ms: Some(1_713_748_266_789),
                etag: Some("9b2cf535f27731c974343645a3985328-2".to_owned()),
                storage_class: Some("STANDARD".to_owned()),
                checksum_algorithm: Some("CRC64NVME".to_owned()),
            },
            looked: Looked {
                replication: Some("COMPLETED".to_owned()),
                ..Looked::of(&Encryption::SseS3)
            },
        }
    }
}
