//! Rows as S3 Inventory's CSV has them, and back.
//! Source: S3 User Guide, "Amazon S3 Inventory list", and inventories as S3 wrote them: gzip, no header, every field in quotes, lines that
//! end with LF, keys URL-encoded, dates with milliseconds and Z.

use std::io::{self, Read};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::row::{Column, Row};
use crate::encryption::Mode;
use crate::manifest::{decode_key, encode_key};
use crate::object::{ListedObject, NULL_VERSION};

const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

const NANOS_PER_MILLI: i128 = 1_000_000;

/// A date as the inventory has it; `None` where it is out of the calendar.
pub fn date(millis: i64) -> Option<String> {
    let at =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * NANOS_PER_MILLI).ok()?;
    at.format(DATE).ok()
}

fn millis(date: &str) -> Option<i64> {
    let at = time::PrimitiveDateTime::parse(date, DATE)
        .ok()?
        .assume_utc();
    i64::try_from(at.unix_timestamp_nanos() / NANOS_PER_MILLI).ok()
}

/// Appends a row.
pub fn write_row(out: &mut Vec<u8>, bucket: &str, columns: &[Column], row: &Row) {
    let listed = &row.listed;
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match column {
            Column::Bucket => field(out, bucket),
            Column::Key => field(out, &encode_key(&listed.key)),
            Column::VersionId => field(out, version_id(listed).unwrap_or_default()),
            Column::IsLatest => field(out, truth(listed.is_latest)),
            Column::IsDeleteMarker => field(out, truth(listed.is_delete_marker)),
            Column::Size => field(
                out,
                &listed.size.map(|size| size.to_string()).unwrap_or_default(),
            ),
            Column::LastModifiedDate => {
                field(
                    out,
                    &listed.last_modified_ms.and_then(date).unwrap_or_default(),
                );
            }
            Column::ETag => optional(out, listed.etag.as_deref()),
            Column::StorageClass => optional(out, listed.storage_class.as_deref()),
            Column::ReplicationStatus => optional(out, row.looked.replication.as_deref()),
            Column::EncryptionStatus => optional(out, row.looked.encryption),
            Column::BucketKeyStatus => optional(out, row.looked.bucket_key),
            Column::ChecksumAlgorithm => optional(out, listed.checksum_algorithm.as_deref()),
        }
    }
    out.push(b'\n');
}

/// The version as an inventory has it: the null version has none.
pub fn version_id(listed: &ListedObject) -> Option<&str> {
    listed
        .version_id
        .as_deref()
        .filter(|id| *id != NULL_VERSION)
}

fn truth(is_so: bool) -> &'static str {
    if is_so { "true" } else { "false" }
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    field(out, text.unwrap_or_default());
}

/// A field in quotes.
pub fn field(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Reads rows back that were written here.
pub struct Rows<R> {
    columns: Vec<Column>,
    with_versions: bool,
    records: csv::Reader<R>,
    record: csv::StringRecord,
}

impl<R: Read> Rows<R> {
    /// Of the text of a data file.
    pub fn new(columns: &[Column], text: R) -> Self {
        let records = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(text);
        Self {
            with_versions: columns.contains(&Column::VersionId),
            columns: columns.to_vec(),
            records,
            record: csv::StringRecord::new(),
        }
    }

    fn row(&self) -> Option<Row> {
        let mut row = Row::default();
        let listed = &mut row.listed;
        listed.is_latest = true;
        for (column, text) in self.columns.iter().zip(&self.record) {
            let some = || Some(text.to_owned()).filter(|text| !text.is_empty());
            match column {
                Column::Bucket => {}
                Column::Key => listed.key = decode_key(text.as_bytes()).ok()?,
                Column::VersionId => listed.version_id = some(),
                Column::IsLatest => listed.is_latest = text == "true",
                Column::IsDeleteMarker => listed.is_delete_marker = text == "true",
                Column::Size => listed.size = some().map(|size| size.parse()).transpose().ok()?,
                Column::LastModifiedDate => listed.last_modified_ms = millis(text),
                Column::ETag => listed.etag = some(),
                Column::StorageClass => listed.storage_class = some(),
                Column::ReplicationStatus => row.looked.replication = some(),
                Column::EncryptionStatus => {
                    let names = Mode::ALL.map(Mode::inventory_name);
                    row.looked.encryption = names.into_iter().find(|name| *name == text);
                }
                Column::BucketKeyStatus => {
                    let names = ["ENABLED", "DISABLED"].into_iter();
                    row.looked.bucket_key = names.into_iter().find(|name| *name == text);
                }
                Column::ChecksumAlgorithm => listed.checksum_algorithm = some(),
            }
        }
        if self.with_versions && listed.version_id.is_none() {
            listed.version_id = Some(NULL_VERSION.to_owned());
        }
        (self.record.len() == self.columns.len()).then_some(row)
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<io::Result<Row>> {
        match self.records.read_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => Some(
                self.row()
                    .ok_or_else(|| io::Error::other("a row that is none of ours")),
            ),
            Err(error) => Some(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::inventory::row::Looked;
    use crate::inventory::row::examples::example;

    fn text(columns: &[Column], row: &Row) -> String {
        let mut out = Vec::new();
        write_row(&mut out, "photos", columns, row);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_row_is_as_s3_writes_it() {
        let row = example("a b/c+d~\"\n\u{e4}", Some("v1"));
        assert_eq!(
            text(&Column::of(true, true), &row),
            "\"photos\",\"a+b/c%2Bd%7E%22%0A%C3%A4\",\"v1\",\"true\",\"false\",\"12\",\"2024-04-22T01:11:06.789Z\",\
             \"9b2cf535f27731c974343645a3985328-2\",\"STANDARD\",\"COMPLETED\",\"SSE-S3\",\"DISABLED\",\"CRC64NVME\"\n"
        );
        let marker = Row {
            listed: ListedObject {
                key: "k".to_owned(),
                version_id: Some(NULL_VERSION.to_owned()),
                is_delete_marker: true,
                last_modified_ms: Some(0),
                ..ListedObject::default()
            },
            looked: Looked::default(),
        };
        let columns = Column::of(true, false);
        let expected = "\"photos\",\"k\",\"\",\"false\",\"true\",\"\",\"1970-01-01T00:00:00.000Z\",\"\",\"\",\"\"\n";
        assert_eq!(text(&columns, &marker), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_back(
            keys in proptest::collection::vec("\\PC{1,20}|[\u{1}-\u{7f}]{1,9}", 0..20), with_versions: bool, with_looks: bool,
        ) {
            let columns = Column::of(with_versions, with_looks);
            let rows: Vec<_> = keys.iter().enumerate().map(|(n, key)| {
                let mut row = example(key, with_versions.then_some(if n % 2 == 0 { NULL_VERSION } else { "v" }));
                if !with_looks {
                    row.looked = Looked::default();
                }
                row
            }).collect();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            for row in &rows {
                let line = text(&columns, row);
                gzip.write_all(line.as_bytes())?;
            }
            let file = gzip.finish()?;
            let text = MultiGzDecoder::new(file.as_slice());
            let back: Vec<_> = Rows::new(&columns, text).collect::<io::Result<_>>()?;
            prop_assert_eq!(back, rows);
        }
    }
}
