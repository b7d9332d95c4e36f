//! Rows as S3 Inventory's Parquet has them: its column names and types, Snappy, keys as they are.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::csv::version_id;
use super::row::{Column, Row};

/// Rows of a row group: they are in memory until it is written, a kilobyte each at most as a rule.
const GROUP_ROWS: usize = 32_768;

/// The schema, as `fileSchema` names it too. Source: S3 User Guide, "Locating your inventory list".
pub fn schema(columns: &[Column]) -> String {
    let lines = columns.iter().map(|column| column.in_parquet());
    let lines: String = lines.map(|line| format!("  {line};")).collect();
    format!("message s3.inventory {{{lines}}}")
}

/// Writes one file.
pub struct Rows<W: Write + Send> {
    bucket: ByteArray,
    columns: Vec<Column>,
    file: SerializedFileWriter<W>,
    group: Vec<Row>,
}

impl<W: Write + Send> Rows<W> {
    /// To a new file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(bucket: &str, columns: &[Column], file: W) -> Result<Self> {
        let schema = parse_message_type(&schema(columns))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("reseal {}", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            bucket: bucket.into(),
            columns: columns.to_vec(),
            file: SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?,
            group: Vec::new(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&mut self, row: Row) -> Result<()> {
        self.group.push(row);
        match self.group.len() >= GROUP_ROWS {
            true => self.write_group(),
            false => Ok(()),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self) -> Result<W> {
        self.write_group()?;
        self.file.into_inner()
    }

    fn write_group(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.group);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in &self.columns {
            write_column(&mut group, *column, &self.bucket, &rows)?;
        }
        group.close()?;
        Ok(())
    }
}

fn write_column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: Column,
    bucket: &ByteArray,
    rows: &[Row],
) -> Result<()> {
    let mut writer = group.next_column()?.expect("as many as there are columns");
    let is_required = matches!(column, Column::Bucket | Column::Key);
    let text = |row: &Row| match column {
        Column::Bucket => Some(bucket.clone()),
        Column::Key => Some(row.listed.key.as_str().into()),
        Column::VersionId => version_id(&row.listed).map(ByteArray::from),
        Column::ETag => row.listed.etag.as_deref().map(ByteArray::from),
        Column::StorageClass => row.listed.storage_class.as_deref().map(ByteArray::from),
        Column::ReplicationStatus => row.looked.replication.as_deref().map(ByteArray::from),
        Column::EncryptionStatus => row.looked.encryption.map(ByteArray::from),
        Column::BucketKeyStatus => row.looked.bucket_key.map(ByteArray::from),
        Column::ChecksumAlgorithm => row
            .listed
            .checksum_algorithm
            .as_deref()
            .map(ByteArray::from),
        Column::IsLatest | Column::IsDeleteMarker | Column::Size | Column::LastModifiedDate => None,
    };
    match writer.untyped() {
        ColumnWriter::ByteArrayColumnWriter(typed) => {
            let (values, levels) = apart(rows.iter().map(text));
            typed.write_batch(&values, (!is_required).then_some(&levels[..]), None)?;
        }
        ColumnWriter::BoolColumnWriter(typed) => {
            let value = |row: &Row| match column {
                Column::IsLatest => row.listed.is_latest,
                _ => row.listed.is_delete_marker,
            };
            let (values, levels) = apart(rows.iter().map(|row| Some(value(row))));
            typed.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::Int64ColumnWriter(typed) => {
            let value = |row: &Row| match column {
                Column::Size => row.listed.size.and_then(|size| i64::try_from(size).ok()),
                _ => row.listed.last_modified_ms,
            };
            let (values, levels) = apart(rows.iter().map(value));
            typed.write_batch(&values, Some(&levels), None)?;
        }
        _ => unreachable!("no column is of another type"),
    }
    writer.close()
}

/// Values, and for each row whether it has one.
fn apart<T>(cells: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let mut values = Vec::new();
    let levels = cells.map(|cell| match cell {
        Some(value) => {
            values.push(value);
            1
        }
        None => 0,
    });
    let levels = levels.collect();
    (values, levels)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    use super::*;
    use crate::inventory::row::examples::example;
    use crate::object::NULL_VERSION;

    #[test]
    fn rows_are_read_by_the_librarys_own_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let columns = Column::of(true, true);
        let mut rows = Rows::new("photos", &columns, File::create(&path).unwrap()).unwrap();
        let total = GROUP_ROWS + 5;
        for n in 0..total {
            let version = if n % 2 == 0 { NULL_VERSION } else { "v1" };
            let mut row = example(&format!("a b/{n}"), Some(version));
            if n % 3 == 0 {
                row.looked = Default::default();
                row.listed.size = None;
            }
            rows.write(row).unwrap();
        }
        rows.finish().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        assert_eq!(
            reader.metadata().file_metadata().schema().name(),
            "s3.inventory"
        );
        let mut n = 0;
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            assert_eq!(row.get_string(0).unwrap(), "photos");
            assert_eq!(*row.get_string(1).unwrap(), format!("a b/{n}"));
            assert_eq!(row.get_string(2).is_ok(), n % 2 == 1);
            assert!(row.get_bool(3).unwrap());
            assert_eq!(row.get_long(5).ok(), (n % 3 != 0).then_some(12));
            assert_eq!(row.get_timestamp_millis(6).unwrap(), 1_713_748_266_789);
            assert_eq!(row.get_string(10).is_ok(), n % 3 != 0);
            n += 1;
        }
        assert_eq!(n, total);
    }
}
