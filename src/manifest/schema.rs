//! Which column is what, and rows made of it.

use std::io::BufRead;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::encryption::Mode;
use crate::object::{Known, ManifestEntry, NULL_VERSION};
use crate::shard::Shard;

use super::csv::Records;
use super::decode::{decode_bytes, decode_key};
use super::error::{Problem, excerpt};

/// The longest version id, in bytes. Source: S3 User Guide, "How S3 Versioning works": "no more than 1,024 bytes long".
pub const VERSION_ID_BYTES_MAX: usize = 1024;

/// The longest bucket name, in bytes. Source: S3 User Guide, "Bucket naming rules": 63, and 255 for buckets made in
/// us-east-1 before 2018; other stores allow as much.
const BUCKET_BYTES_MAX: usize = 255;

/// Most columns of an inventory's schema; S3 knows some 25.
const COLUMNS_MAX: usize = 100;

/// The status of failed rows in a completion report, and of the files that list them. Source: S3 User Guide, "Examples: S3 Batch
/// Operations completion reports".
pub(super) const FAILED: &str = "failed";

/// What a column holds. Named as in an inventory's `fileSchema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Column {
    Bucket,
    Key,
    VersionId,
    IsLatest,
    IsDeleteMarker,
    Size,
    ETag,
    LastModifiedDate,
    StorageClass,
    EncryptionStatus,
    /// Of a completion report; an inventory's column of that name is another.
    TaskStatus,
    /// Anything else: not used.
    Other,
}

impl Column {
    const NAMED: [(&str, Self); 10] = [
        ("Bucket", Self::Bucket),
        ("Key", Self::Key),
        ("VersionId", Self::VersionId),
        ("IsLatest", Self::IsLatest),
        ("IsDeleteMarker", Self::IsDeleteMarker),
        ("Size", Self::Size),
        ("ETag", Self::ETag),
        ("LastModifiedDate", Self::LastModifiedDate),
        ("StorageClass", Self::StorageClass),
        ("EncryptionStatus", Self::EncryptionStatus),
    ];

    /// Those of a completion report that are used.
    const OF_REPORTS: [(&str, Self); 4] = [
        ("Bucket", Self::Bucket),
        ("Key", Self::Key),
        ("VersionId", Self::VersionId),
        ("TaskStatus", Self::TaskStatus),
    ];

    fn named(name: &str, known: &[(&str, Self)]) -> Self {
        known
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(Self::Other, |(_, column)| *column)
    }
}

/// The columns of a manifest, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    columns: Vec<Column>,
}

impl Schema {
    /// The schema of a CSV manifest of that many columns: `bucket,key` or `bucket,key,version-id`.
    pub(super) fn of_csv(columns: usize) -> Option<Self> {
        let all = [Column::Bucket, Column::Key, Column::VersionId];
        let columns = (2..=all.len())
            .contains(&columns)
            .then(|| all[..columns].to_vec())?;
        Some(Self { columns })
    }

    /// The schema that an inventory's `fileSchema` spells: names with commas between them.
    pub(super) fn of_inventory(file_schema: &str) -> Result<Self, Problem> {
        Self::of_names("fileSchema", file_schema, &Column::NAMED)
    }

    /// The schema that a completion report's `ReportSchema` spells, likewise. S3's own names the columns of the two codes in the
    /// order that they don't have; neither is used.
    pub(super) fn of_report(report_schema: &str) -> Result<Self, Problem> {
        Self::of_names("ReportSchema", report_schema, &Column::OF_REPORTS)
    }

    fn of_names(
        field: &'static str,
        names: &str,
        known: &[(&str, Column)],
    ) -> Result<Self, Problem> {
        let fault = |what: &str| Problem::FileSchema {
            field,
            schema: excerpt(names.as_bytes()),
            what: what.to_owned(),
        };
        let columns: Vec<Column> = names
            .split(',')
            .take(COLUMNS_MAX + 1)
            .map(|name| Column::named(name.trim(), known))
            .collect();
        if columns.len() > COLUMNS_MAX {
            return Err(fault("has too many columns"));
        }
        for &(name, column) in known {
            let times = columns.iter().filter(|&&found| found == column).count();
            let needed = matches!(column, Column::Bucket | Column::Key | Column::TaskStatus);
            if times > 1 {
                return Err(fault(&format!("names {name} more than once")));
            }
            if needed && times == 0 {
                return Err(fault(&format!(
                    "has no column {name}, which every row needs"
                )));
            }
        }
        Ok(Self { columns })
    }

    /// What identifies the schema: its columns' names.
    pub(super) fn identity(&self) -> String {
        let names = self.columns.iter().map(|column| {
            let mut known = Column::NAMED.iter().chain(&Column::OF_REPORTS);
            let named = known.find(|(_, known)| known == column);
            named.map_or("", |(name, _)| name)
        });
        names.collect::<Vec<_>>().join(",")
    }

    /// An inventory of all versions shows the null version with an empty version id; S3's requests want the word.
    /// A CSV that leaves the version out names none: the current version is meant. (S3 Batch Operations fails both.)
    fn empty_version_is_null(&self) -> bool {
        self.columns.contains(&Column::IsLatest)
    }

    /// Whether rows say which version is the current one: an inventory of all versions has that column, one of the current ones has not.
    pub fn names_latest(&self) -> bool {
        self.columns.contains(&Column::IsLatest) && self.names_versions()
    }

    /// Whether its rows can name versions.
    pub fn names_versions(&self) -> bool {
        self.columns.contains(&Column::VersionId)
    }

    fn position(&self, wanted: Column) -> Option<usize> {
        self.columns.iter().position(|&column| column == wanted)
    }

    /// The entry that a record spells, in a manifest of that bucket.
    pub(super) fn entry<R: BufRead>(
        &self,
        record: &Records<R>,
        bucket: &str,
        row: u64,
    ) -> Result<ManifestEntry, Problem> {
        self.check_width(record.len())?;
        let mut entry = ManifestEntry {
            row,
            key: String::new(),
            version_id: None,
            known: Known::default(),
        };
        let known = &mut entry.known;
        for (column, field) in self.columns.iter().zip(record.fields()) {
            match column {
                Column::Bucket => check_bucket(field, bucket)?,
                Column::Key => entry.key = decode_key(field)?,
                Column::VersionId => entry.version_id = self.version_id(field)?,
                Column::IsLatest => known.is_latest = boolean(field),
                Column::IsDeleteMarker => known.is_delete_marker = boolean(field) == Some(true),
                Column::Size => known.size = size(field)?,
                Column::ETag => known.etag = text(unquoted(field), "ETag")?,
                Column::LastModifiedDate => known.last_modified = instant(field),
                Column::StorageClass => known.storage_class = text(field, "StorageClass")?,
                Column::EncryptionStatus => known.encryption = mode(field),
                Column::TaskStatus => check_failed(field)?,
                Column::Other => {}
            }
        }
        Ok(entry)
    }

    /// Whether a record is a row of that shard: its key alone is decoded.
    pub(super) fn is_of<R: BufRead>(
        &self,
        shard: Shard,
        record: &Records<R>,
    ) -> Result<bool, Problem> {
        if shard.count == 1 {
            return Ok(true);
        }
        self.check_width(record.len())?;
        let key = self
            .position(Column::Key)
            .map_or(&[][..], |at| record.field(at));
        Ok(shard.owns(decode_bytes(key)?))
    }

    pub(super) fn check_width(&self, found: usize) -> Result<(), Problem> {
        if found == self.columns.len() {
            return Ok(());
        }
        Err(Problem::ColumnCount {
            expected: self.columns.len().to_string(),
            found,
        })
    }

    fn version_id(&self, field: &[u8]) -> Result<Option<String>, Problem> {
        if field.is_empty() && self.empty_version_is_null() {
            return Ok(Some(NULL_VERSION.to_owned()));
        }
        if field.len() > VERSION_ID_BYTES_MAX {
            return Err(Problem::VersionIdTooLong { bytes: field.len() });
        }
        text(field, "VersionId")
    }

    /// Whether a record holds the column names `Bucket` and `Key` where this schema has these columns. A report's row has a status,
    /// which tells it from one.
    pub(super) fn is_header<R: BufRead>(&self, record: &Records<R>) -> bool {
        if self.columns.contains(&Column::TaskStatus) {
            return false;
        }
        let spells = |column: Column, name: &str| {
            self.position(column).is_some_and(|at| {
                record
                    .field(at)
                    .trim_ascii()
                    .eq_ignore_ascii_case(name.as_bytes())
            })
        };
        spells(Column::Bucket, "Bucket") && spells(Column::Key, "Key")
    }

    /// Whether a [header](Self::is_header) can't be somebody's bucket and key: these are lower-case, and no version id
    /// is called that.
    pub(super) fn is_certainly_header<R: BufRead>(&self, record: &Records<R>) -> bool {
        let mut fields = record.fields();
        fields.next() != Some(b"bucket")
            || fields.next() != Some(b"key")
            || fields.any(|field| field.to_ascii_lowercase().starts_with(b"version"))
    }

    /// The bucket that a record names.
    pub(super) fn bucket<R: BufRead>(&self, record: &Records<R>) -> Result<String, Problem> {
        bucket_name(self.bucket_field(record))
    }

    /// What stands in the bucket's column.
    pub(super) fn bucket_field<'a, R: BufRead>(&self, record: &'a Records<R>) -> &'a [u8] {
        self.position(Column::Bucket)
            .map_or(&[], |at| record.field(at))
    }
}

/// A bucket's name as stores allow them: AWS's rules are stricter, other stores' are not.
pub(super) fn bucket_name(field: &[u8]) -> Result<String, Problem> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if !(1..=BUCKET_BYTES_MAX).contains(&field.len()) || !field.iter().all(allowed) {
        return Err(Problem::BucketName(excerpt(field)));
    }
    Ok(String::from_utf8_lossy(field).into_owned())
}

fn check_bucket(field: &[u8], bucket: &str) -> Result<(), Problem> {
    if field == bucket.as_bytes() {
        return Ok(());
    }
    Err(Problem::OtherBucket {
        expected: bucket.to_owned(),
        found: excerpt(field),
    })
}

/// Whether a report's row is one that failed.
fn check_failed(field: &[u8]) -> Result<(), Problem> {
    if field == FAILED.as_bytes() {
        return Ok(());
    }
    Err(Problem::TaskStatus(excerpt(field)))
}

fn text(field: &[u8], column: &'static str) -> Result<Option<String>, Problem> {
    if field.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(field).map_err(|_| Problem::NotUtf8 { column })?;
    Ok(Some(text.to_owned()))
}

/// An ETag without quotes: S3's inventory has none, other tools copy them from a header.
fn unquoted(field: &[u8]) -> &[u8] {
    field
        .strip_prefix(b"\"")
        .and_then(|field| field.strip_suffix(b"\""))
        .unwrap_or(field)
}

/// Empty for delete markers.
fn size(field: &[u8]) -> Result<Option<u64>, Problem> {
    if field.is_empty() {
        return Ok(None);
    }
    let digits = field.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(field).ok().filter(|_| digits);
    match number.and_then(|number| number.parse().ok()) {
        Some(size) => Ok(Some(size)),
        None => Err(Problem::Size(excerpt(field))),
    }
}

fn boolean(field: &[u8]) -> Option<bool> {
    if field.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if field.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// A point in time, in seconds since 1970. What is none is not known: nothing depends on it.
fn instant(field: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(field).ok()?;
    let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(instant.unix_timestamp())
}

fn mode(field: &[u8]) -> Option<Mode> {
    Mode::from_inventory(std::str::from_utf8(field).ok()?)
}
