//! Where everything of an inventory is, and the `manifest.json` that says so, as S3 has it.
//! Source: S3 User Guide, "Locating your inventory list".

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::part::Format;
use super::row::Column;
use crate::human;

const FOLDER: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]Z");
const HIVE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]-[hour]-[minute]");

/// S3's inventories name it so since they have the column that tells versions apart; it says nothing else.
const VERSION: &str = "2016-11-30";

/// The names of one inventory, below the folder or prefix that it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `<source-bucket>/<config-id>`.
    base: String,
    /// When it began, to the minute.
    at: OffsetDateTime,
}

impl Layout {
    /// Of an inventory of a bucket that has begun at a time, in seconds since 1970.
    pub fn new(bucket: &str, config_id: &str, began: i64) -> Option<Self> {
        Some(Self {
            base: format!("{bucket}/{config_id}"),
            at: OffsetDateTime::from_unix_timestamp(began).ok()?,
        })
    }

    fn dated(&self, format: &[BorrowedFormatItem<'_>]) -> String {
        self.at.format(format).expect("no year is too large here")
    }

    /// The dated folder.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.base, self.dated(FOLDER))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    /// The folder for data files.
    pub fn data(&self) -> String {
        format!("{}/data", self.base)
    }

    /// A data file.
    pub fn data_file(&self, name: &str) -> String {
        format!("{}/{name}", self.data())
    }

    /// The list of data files for Hive.
    pub fn symlink(&self) -> String {
        format!("{}/hive/dt={}/symlink.txt", self.base, self.dated(HIVE))
    }
}

/// The name of a data file: as S3 has it, a UUID, which follows from the inventory's id and the file's number.
pub fn data_name(id: &str, number: usize, format: Format) -> String {
    let digest = Sha256::digest(format!("{id}/{number}"));
    let hex: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    format!("{}.{}", groups.join("-"), format.extension())
}

/// A data file, as a `manifest.json` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its key where it was written.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its MD5, in lower-case hexadecimal.
    #[serde(rename = "MD5checksum")]
    pub md5: String,
}

/// A `manifest.json`, fields in S3's order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    source_bucket: &'a str,
    /// A folder is in no bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_bucket: Option<String>,
    version: &'static str,
    creation_timestamp: String,
    file_format: &'static str,
    file_schema: String,
    files: &'a [Named],
}

/// What a `manifest.json` says.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The bucket that was listed.
    pub source_bucket: &'a str,
    /// The bucket that it goes to, where it is one.
    pub destination_bucket: Option<&'a str>,
    /// When the listing began, in milliseconds since 1970.
    pub began_ms: i64,
    /// How data files look.
    pub format: Format,
    /// Their columns.
    pub columns: &'a [Column],
    /// They.
    pub files: &'a [Named],
}

impl Content<'_> {
    /// As JSON.
    pub fn to_json(self) -> String {
        let manifest = Manifest {
            source_bucket: self.source_bucket,
            destination_bucket: self
                .destination_bucket
                .map(|bucket| format!("arn:aws:s3:::{bucket}")),
            version: VERSION,
            creation_timestamp: self.began_ms.to_string(),
            file_format: self.format.name(),
            file_schema: self.format.schema(self.columns),
            files: self.files,
        };
        serde_json::to_string_pretty(&manifest).expect("text and numbers only")
    }
}

/// Bytes of a prefix's digest in the name of its inventories' folder.
const PREFIX_ID_BYTES: usize = 6;

/// The folder for inventories that nobody wanted in another: what takes the newest one of a folder must not take a part of one for all of
/// it.
pub fn config_id(prefix: &str, is_diff: bool) -> String {
    let kind = if is_diff { "reseal-diff" } else { "reseal" };
    if prefix.is_empty() {
        return kind.to_owned();
    }
    let digest = Sha256::digest(prefix.as_bytes());
    format!("{kind}-prefix-{}", human::hex(&digest[..PREFIX_ID_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_s3s() {
        let layout = Layout::new("photos", "weekly", 1_767_488_461).expect("a date");
        assert_eq!(
            layout.file("manifest.json"),
            "photos/weekly/2026-01-04T01-01Z/manifest.json"
        );
        assert_eq!(
            layout.symlink(),
            "photos/weekly/hive/dt=2026-01-04-01-01/symlink.txt"
        );
        let name = data_name("id", 3, Format::Csv);
        assert_eq!(name.len(), 36 + ".csv.gz".len());
        assert_eq!(
            layout.data_file(&name),
            format!("photos/weekly/data/{name}")
        );
        assert_ne!(name, data_name("id", 4, Format::Csv));
    }

    #[test]
    fn a_manifest_says_what_s3s_says() {
        let content = Content {
            source_bucket: "photos",
            destination_bucket: Some("lists"),
            began_ms: 1_514_944_800_000,
            format: Format::Csv,
            columns: &Column::of(false, true),
            files: &[Named {
                key: "p/data/x.csv.gz".to_owned(),
                size: 7,
                md5: "f11166069f1990abeb9c97ace9cdfabc".to_owned(),
            }],
        };
        let expected = r#"{
  "sourceBucket": "photos",
  "destinationBucket": "arn:aws:s3:::lists",
  "version": "2016-11-30",
  "creationTimestamp": "1514944800000",
  "fileFormat": "CSV",
  "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag, StorageClass, ReplicationStatus, EncryptionStatus, BucketKeyStatus, ChecksumAlgorithm",
  "files": [
    {
      "key": "p/data/x.csv.gz",
      "size": 7,
      "MD5checksum": "f11166069f1990abeb9c97ace9cdfabc"
    }
  ]
}"#;
        assert_eq!(content.to_json(), expected);
        let parquet = Content {
            format: Format::Parquet,
            destination_bucket: None,
            ..content
        };
        let json: serde_json::Value = serde_json::from_str(&parquet.to_json()).expect("JSON");
        let schema = json["fileSchema"].as_str().expect("text");
        assert!(schema.starts_with(
            "message s3.inventory {  required binary bucket (STRING);  required binary key"
        ));
        assert!(json.get("destinationBucket").is_none());
    }
}
