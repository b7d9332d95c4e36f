//! Which column is what, and rows made of it.

use std::io::BufRead;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::encryption::Mode;
use crate::object::{Known, ManifestEntry, NULL_VERSION};
use crate::shard::Shard;

use super::decode::KeyEncoding;
use super::error::{Problem, excerpt};
use super::format::Format;
use super::reading::ReportRows;
use super::records::{Records, Value};

/// The longest version id, in bytes. Source: S3 User Guide, "How S3 Versioning works": "no more than 1,024 bytes long".
pub const VERSION_ID_BYTES_MAX: usize = 1024;

/// The longest bucket name, in bytes. Source: S3 User Guide, "Bucket naming rules": 63, and 255 for buckets made in
/// us-east-1 before 2018; other stores allow as much.
const BUCKET_BYTES_MAX: usize = 255;

/// Most columns of a text's schema; an inventory knows some 25.
const COLUMNS_MAX: usize = 100;

/// What a column holds. Named as in an inventory's `fileSchema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Column {
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

    fn among(name: &str, known: &[(&str, Self)]) -> Self {
        known
            .iter()
            .find(|(known, _)| is_spelt(name, known))
            .map_or(Self::Other, |(_, column)| *column)
    }

    /// Its name in an inventory's `fileSchema`; of a column that is not used, nothing.
    pub(super) fn name(self) -> &'static str {
        let mut known = Self::NAMED.iter().chain(&Self::OF_REPORTS);
        known
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether a column of that name is this one.
    pub(super) fn is_named(self, name: &str) -> bool {
        is_spelt(name, self.name())
    }
}

/// Whether a name is that one: `VersionId`, `version_id` and `VERSIONID` are the same. S3 spells the columns of CSV one way and those
/// of ORC and Parquet the other.
fn is_spelt(name: &str, known: &str) -> bool {
    let letters = name.bytes().filter(|byte| *byte != b'_');
    letters
        .map(|byte| byte.to_ascii_lowercase())
        .eq(known.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The columns of a manifest, in their order, and how what is in them is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    columns: Vec<Column>,
    /// What data files are written in.
    #[serde(default)]
    format: Format,
    /// How keys are spelt.
    #[serde(default)]
    keys: KeyEncoding,
    /// Of a report: which rows its files have.
    #[serde(default)]
    statuses: ReportRows,
    /// The first record holds the names of the columns.
    #[serde(default)]
    has_header: bool,
}

/// A record's row, and what is remarkable about it.
pub(super) struct Row {
    pub(super) entry: ManifestEntry,
    /// There is a column for the version id, and nothing in it.
    pub(super) has_empty_version: bool,
    /// The key is spelt with a `+` or a `%`.
    pub(super) has_plus_or_percent: bool,
}

impl Schema {
    fn of(columns: Vec<Column>, keys: KeyEncoding) -> Self {
        Self {
            columns,
            format: Format::Csv,
            keys,
            statuses: ReportRows::default(),
            has_header: false,
        }
    }

    /// The schema of a CSV manifest of that many columns: `bucket,key` or `bucket,key,version-id`.
    pub(super) fn of_csv(columns: usize, keys: KeyEncoding) -> Option<Self> {
        let all = [Column::Bucket, Column::Key, Column::VersionId];
        let columns = (2..=all.len())
            .contains(&columns)
            .then(|| all[..columns].to_vec())?;
        Some(Self::of(columns, keys))
    }

    /// The schema that an inventory's `fileSchema` spells: names with commas between them.
    pub(super) fn of_inventory(file_schema: &str, keys: KeyEncoding) -> Result<Self, Problem> {
        let names = file_schema.split(',');
        Self::of_names("fileSchema", names, &Column::NAMED, false)
            .map(|columns| Self::of(columns, keys))
    }

    /// The schema that a completion report's `ReportSchema` spells, likewise. S3's own names the columns of the two codes in the
    /// order that they don't have; neither is used.
    pub(super) fn of_report(report_schema: &str, statuses: ReportRows) -> Result<Self, Problem> {
        let names = report_schema.split(',');
        let columns = Self::of_names("ReportSchema", names, &Column::OF_REPORTS, false)?;
        Ok(Self {
            statuses,
            ..Self::of(columns, KeyEncoding::Url)
        })
    }

    /// The schema that the operator spells, for a CSV. `-` and `ignore` are columns that are not used.
    pub(super) fn of_flag(
        names: &[String],
        keys: KeyEncoding,
        has_bucket: bool,
    ) -> Result<Self, Problem> {
        let names = names.iter().map(String::as_str);
        let columns = Self::of_names("--manifest-columns", names, &Column::NAMED, has_bucket)?;
        Ok(Self::of(columns, keys))
    }

    /// The schema that the first record of a CSV spells.
    pub(super) fn of_header<R: BufRead>(
        record: &Records<R>,
        keys: KeyEncoding,
        has_bucket: bool,
    ) -> Result<Self, Problem> {
        let names: Vec<_> = record
            .values()
            .map(|value| String::from_utf8_lossy(value.text()).into_owned())
            .collect();
        let names = names.iter().map(String::as_str);
        let columns = Self::of_names("the first row", names, &Column::NAMED, has_bucket)?;
        Ok(Self {
            has_header: true,
            ..Self::of(columns, keys)
        })
    }

    /// The schema of a file with columns of those names, which lie apart: only those that are used are in it.
    pub(super) fn of_table(
        names: &[&str],
        format: Format,
        keys: KeyEncoding,
        has_bucket: bool,
    ) -> Result<Self, Problem> {
        let used = Column::NAMED.iter().flat_map(|&(known, _)| {
            let named = names.iter().copied();
            named.filter(move |name| is_spelt(name, known))
        });
        let columns = Self::of_names("its columns", used, &Column::NAMED, has_bucket)?;
        Ok(Self {
            format,
            ..Self::of(columns, keys)
        })
    }

    /// The schema of an inventory without data files.
    pub(super) fn of_nothing() -> Self {
        Self::of(vec![Column::Bucket, Column::Key], KeyEncoding::Url)
    }

    /// `has_bucket`: the operator says which one it is.
    fn of_names<'n>(
        field: &'static str,
        names: impl Iterator<Item = &'n str>,
        known: &[(&str, Column)],
        has_bucket: bool,
    ) -> Result<Vec<Column>, Problem> {
        let names: Vec<&str> = names.map(str::trim).take(COLUMNS_MAX + 1).collect();
        let fault = |what: String| Problem::FileSchema {
            field,
            schema: excerpt(names.join(", ").as_bytes()),
            what,
        };
        if names.len() > COLUMNS_MAX {
            return Err(fault("has too many columns".to_owned()));
        }
        let columns: Vec<Column> = names
            .iter()
            .map(|name| Column::among(name, known))
            .collect();
        for &(name, column) in known {
            let times = columns.iter().filter(|&&found| found == column).count();
            let needed = match column {
                Column::Bucket => !has_bucket,
                Column::Key | Column::TaskStatus => true,
                _ => false,
            };
            if times > 1 {
                return Err(fault(format!("names {name} more than once")));
            }
            if needed && times == 0 {
                return Err(fault(format!(
                    "has no column {name}, which every row needs"
                )));
            }
        }
        Ok(columns)
    }

    /// The names of the columns that are used, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name()).collect();
        names.join(", ")
    }

    /// What identifies the schema: its columns' names, and how keys are spelt where it is not S3's way for CSV.
    pub(super) fn identity(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name()).collect();
        let names = names.join(",");
        match self.keys {
            KeyEncoding::Url => names,
            keys => format!("{names};keys={}", keys.name()),
        }
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

    /// The names that columns may have.
    pub(super) fn known_names() -> Vec<&'static str> {
        Column::NAMED.map(|(name, _)| name).to_vec()
    }

    /// The one of these that a name spells.
    pub(super) fn known_name(name: &str) -> Option<&'static str> {
        let mut names = Self::known_names().into_iter();
        names.find(|known| is_spelt(name, known))
    }

    /// Whether its rows can name versions.
    pub fn names_versions(&self) -> bool {
        self.columns.contains(&Column::VersionId)
    }

    /// What data files are written in.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn has_header(&self) -> bool {
        self.has_header
    }

    fn position(&self, wanted: Column) -> Option<usize> {
        self.columns.iter().position(|&column| column == wanted)
    }

    /// The row that a record spells, in a manifest of that bucket.
    pub(super) fn row<R: BufRead>(
        &self,
        record: &Records<R>,
        bucket: &str,
        row: u64,
    ) -> Result<Row, Problem> {
        self.check_width(record.len())?;
        let mut made = Row {
            entry: ManifestEntry {
                row,
                key: String::new(),
                version_id: None,
                known: Known::default(),
            },
            has_empty_version: false,
            has_plus_or_percent: false,
        };
        let entry = &mut made.entry;
        let known = &mut entry.known;
        for (column, value) in self.columns.iter().zip(record.values()) {
            match column {
                Column::Bucket => check_bucket(value.text(), bucket)?,
                Column::Key => {
                    made.has_plus_or_percent = memchr::memchr2(b'+', b'%', value.text()).is_some();
                    entry.key = self.keys.decode(value.text())?;
                }
                Column::VersionId => {
                    made.has_empty_version = value == Value::Absent;
                    entry.version_id = self.version_id(value.text())?;
                }
                Column::IsLatest => known.is_latest = boolean(value),
                Column::IsDeleteMarker => known.is_delete_marker = boolean(value) == Some(true),
                Column::Size => known.size = size(value)?,
                Column::ETag => known.etag = text(unquoted(value.text()), "ETag")?,
                Column::LastModifiedDate => known.last_modified = instant(value),
                Column::StorageClass => known.storage_class = text(value.text(), "StorageClass")?,
                Column::EncryptionStatus => known.encryption = mode(value.text()),
                Column::TaskStatus => self.check_status(value.text())?,
                Column::Other => {}
            }
        }
        Ok(made)
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
            .map_or(&[][..], |at| record.value(at).text());
        Ok(shard.owns(self.keys.bytes(key)?))
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

    /// Whether a report's row ended as the rows do that are wanted.
    fn check_status(&self, field: &[u8]) -> Result<(), Problem> {
        let fits = std::str::from_utf8(field).is_ok_and(|field| self.statuses.has(field));
        if fits {
            return Ok(());
        }
        Err(Problem::TaskStatus {
            found: excerpt(field),
            wanted: self.statuses,
        })
    }

    /// Whether a record holds the column names `Bucket` and `Key` where this schema has these columns. A report's row has a status,
    /// which tells it from one; what lies in columns has its names elsewhere.
    pub(super) fn is_header<R: BufRead>(&self, record: &Records<R>) -> bool {
        if self.columns.contains(&Column::TaskStatus) || self.format != Format::Csv {
            return false;
        }
        let spells = |column: Column| {
            self.position(column).is_some_and(|at| {
                let field = record.value(at).text().trim_ascii();
                field.eq_ignore_ascii_case(column.name().as_bytes())
            })
        };
        spells(Column::Bucket) && spells(Column::Key)
    }

    /// Whether a [header](Self::is_header) can't be somebody's bucket and key: these are lower-case, and no version id
    /// is called that.
    pub(super) fn is_certainly_header<R: BufRead>(&self, record: &Records<R>) -> bool {
        let is_lower = |column: Column, name: &[u8]| {
            let at = self.position(column);
            at.is_some_and(|at| record.value(at).text() == name)
        };
        let names_version = |at| {
            let field = record.value(at).text();
            field.to_ascii_lowercase().starts_with(b"version")
        };
        !is_lower(Column::Bucket, b"bucket")
            || !is_lower(Column::Key, b"key")
            || self.position(Column::VersionId).is_some_and(names_version)
    }

    /// The bucket that a record names.
    pub(super) fn bucket<R: BufRead>(&self, record: &Records<R>) -> Result<String, Problem> {
        bucket_name(self.bucket_field(record).unwrap_or_default())
    }

    /// What stands in the bucket's column, if there is one.
    pub(super) fn bucket_field<'a, R: BufRead>(&self, record: &'a Records<R>) -> Option<&'a [u8]> {
        let at = self.position(Column::Bucket)?;
        Some(record.value(at).text())
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

/// Nothing for delete markers.
fn size(value: Value<'_>) -> Result<Option<u64>, Problem> {
    let size = match value {
        Value::Absent => return Ok(None),
        Value::Integer(number) => u64::try_from(number).map_err(|_| number.to_string()),
        Value::Text(field) => {
            let digits = field.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(field).ok().filter(|_| digits);
            let number = number.and_then(|number| number.parse().ok());
            number.ok_or_else(|| excerpt(field))
        }
        Value::Seconds(_) | Value::Boolean(_) => Err(String::new()),
    };
    size.map(Some).map_err(Problem::Size)
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Boolean(truth) => Some(truth),
        Value::Text(field) if field.eq_ignore_ascii_case(b"true") => Some(true),
        Value::Text(field) if field.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// A point in time, in seconds since 1970. What is none is not known.
fn instant(value: Value<'_>) -> Option<i64> {
    let field = match value {
        Value::Seconds(seconds) => return Some(seconds),
        value => std::str::from_utf8(value.text()).ok()?,
    };
    if let Ok(instant) = OffsetDateTime::parse(field, &Rfc3339) {
        return Some(instant.unix_timestamp());
    }
    // As SQL engines write it: `2024-04-22 01:11:06.000`, perhaps with ` UTC` after it.
    let field = field.strip_suffix(" UTC").unwrap_or(field);
    let (date, time) = field.split_once([' ', 'T'])?;
    let instant = OffsetDateTime::parse(&format!("{date}T{time}Z"), &Rfc3339).ok()?;
    Some(instant.unix_timestamp())
}

fn mode(field: &[u8]) -> Option<Mode> {
    Mode::from_inventory(std::str::from_utf8(field).ok()?)
}
