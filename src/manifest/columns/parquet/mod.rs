//! Parquet: row groups, in each a chunk for each column, in each chunk pages.
//!
//! The crate reads the description of a file, and unpacks pages. What is in them is read here: the crate's decoders believe a page, and
//! panic where it is damaged. What else it would take at its word is held against the bytes that there are first.
//! Source: parquet-format, `README.md` and `Encodings.md`.

mod delta;
mod pages;
mod thrift;
mod values;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::ColumnDescriptor;

use self::pages::{Chunks, Pages, Source, told};
use self::values::Leaf;
use super::cells::{BATCH_ROWS, Cells, Kind};
use super::{RecordError, damaged, unfit};
use crate::manifest::schema::Column;

/// The largest description of a file, in bytes: some 100 for each column of each row group.
const FOOTER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The magic at both ends, and what stands before the last one: the length of the description.
const MAGIC: &[u8] = b"PAR1";
const TAIL_BYTES: u64 = 8;

/// A Parquet file whose description has been read.
pub(super) struct Table {
    source: Arc<Source>,
    about: ParquetMetaData,
}

impl Table {
    pub(super) fn open(file: File) -> Result<Self, RecordError> {
        let len = file.metadata().map_err(RecordError::Io)?.len();
        let source = Arc::new(Source { file, len });
        check_footer(&source)?;
        let about = ParquetMetaDataReader::new().parse_and_finish(&Chunks(Arc::clone(&source)));
        Ok(Self {
            about: about.map_err(told)?,
            source,
        })
    }

    /// Names of the leaves, in their order; of those that lie deeper, nothing.
    pub(super) fn names(&self) -> Vec<&str> {
        let leaves = self.about.file_metadata().schema_descr().columns().iter();
        leaves
            .map(|leaf| match leaf.path().parts() {
                [name] if leaf.max_rep_level() == 0 => name.as_str(),
                _ => "",
            })
            .collect()
    }

    /// The values of these columns, batch by batch, and the cells for them.
    pub(super) fn batches(
        self,
        wanted: &[(Column, usize)],
    ) -> Result<(Batches, Vec<Cells>), RecordError> {
        let schema = self.about.file_metadata().schema_descr_ptr();
        let (mut columns, mut cells) = (Vec::new(), Vec::new());
        for &(column, leaf) in wanted {
            let about = schema.column(leaf);
            let reads = Reads::of(column, &about).ok_or_else(|| {
                let found = format!("{} ({})", about.physical_type(), about.converted_type());
                unfit(column, found.trim_end_matches(" (NONE)"))
            })?;
            cells.push(Cells::of(reads.kind()));
            columns.push((leaf, Stored::of(reads, &about)));
        }
        let batches = Batches {
            table: self,
            columns,
            open: Vec::new(),
            next_group: 0,
            left: 0,
        };
        Ok((batches, cells))
    }
}

/// The length of the description, and that no list in it is longer than it can be.
fn check_footer(source: &Source) -> Result<(), RecordError> {
    let cut = || damaged("it is cut off");
    let tail_at = source.len.checked_sub(TAIL_BYTES).ok_or_else(cut)?;
    let mut tail = [0; TAIL_BYTES as usize];
    let read = |bytes: &mut [u8], at| source.file.read_exact_at(bytes, at);
    read(&mut tail, tail_at).map_err(RecordError::Io)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != MAGIC {
        return Err(damaged("it does not end as a Parquet file does"));
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > FOOTER_BYTES_MAX {
        return Err(damaged("its description is too long"));
    }
    let at = tail_at.checked_sub(length).ok_or_else(cut)?;
    let mut about = vec![0; length as usize];
    read(&mut about, at).map_err(RecordError::Io)?;
    if !thrift::is_description(&about) {
        return Err(damaged("its description is not whole"));
    }
    Ok(())
}

/// How a leaf's values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Nothing,
    Text,
    Boolean,
    Integer32,
    Integer64,
    /// A whole number: some tools write numbers that may be missing as floating point.
    Double,
    /// Units in a second.
    Time(i64),
    Time96,
}

impl Reads {
    /// How the values of a column are read that are stored like that; `None` where they don't serve.
    fn of(column: Column, leaf: &ColumnDescriptor) -> Option<Self> {
        let unit = match (leaf.logical_type_ref(), leaf.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => Some(match timestamp.unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            }),
            (_, ConvertedType::TIMESTAMP_MILLIS) => Some(1_000),
            (_, ConvertedType::TIMESTAMP_MICROS) => Some(1_000_000),
            _ => None,
        };
        match (column, leaf.physical_type()) {
            (_, Type::BYTE_ARRAY) => Some(Self::Text),
            (Column::LastModifiedDate, Type::INT64) => Some(unit.map_or(Self::Nothing, Self::Time)),
            (Column::LastModifiedDate, Type::INT96) => Some(Self::Time96),
            // Nothing depends on it; a date without a time is none.
            (Column::LastModifiedDate, _) => Some(Self::Nothing),
            (Column::IsLatest | Column::IsDeleteMarker, Type::BOOLEAN) => Some(Self::Boolean),
            (Column::Size, Type::INT32) => Some(Self::Integer32),
            (Column::Size, Type::INT64) => Some(Self::Integer64),
            (Column::Size, Type::DOUBLE) => Some(Self::Double),
            _ => None,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Nothing => Kind::Nothing,
            Self::Text => Kind::Text,
            Self::Boolean => Kind::Boolean,
            Self::Integer32 | Self::Integer64 | Self::Double => Kind::Integer,
            Self::Time(_) | Self::Time96 => Kind::Seconds,
        }
    }
}

/// How a column's values lie in its pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) reads: Reads,
    pub(super) kind: Type,
    /// Whether values may be missing: then each row has a level, 1 where there is one.
    pub(super) has_levels: bool,
}

impl Stored {
    fn of(reads: Reads, leaf: &ColumnDescriptor) -> Self {
        Self {
            reads,
            kind: leaf.physical_type(),
            has_levels: leaf.max_def_level() > 0,
        }
    }
}

/// The rows of a file, some at a time.
pub(super) struct Batches {
    table: Table,
    columns: Vec<(usize, Stored)>,
    /// The columns of the current row group.
    open: Vec<Leaf>,
    next_group: usize,
    /// Rows of it that are not read yet.
    left: usize,
}

impl Batches {
    /// Puts the next rows into the cells, and says how many they are; 0 at the end.
    pub(super) fn fill(&mut self, cells: &mut [Cells]) -> Result<usize, RecordError> {
        while self.left == 0 {
            if self.next_group == self.table.about.num_row_groups() {
                return Ok(0);
            }
            self.open_group()?;
        }
        let rows = self.left.min(BATCH_ROWS);
        for (leaf, cells) in self.open.iter_mut().zip(cells) {
            leaf.fill(rows, cells)?;
        }
        self.left -= rows;
        Ok(rows)
    }

    fn open_group(&mut self) -> Result<(), RecordError> {
        let group = self.table.about.row_group(self.next_group);
        self.next_group += 1;
        let rows = usize::try_from(group.num_rows()).map_err(|_| damaged("negative rows"))?;
        self.open.clear();
        for &(leaf, stored) in &self.columns {
            let chunk = group.columns().get(leaf);
            let chunk = chunk.ok_or_else(|| damaged("a row group without a column"))?;
            let pages = Pages::open(&self.table.source, chunk, rows)?;
            self.open.push(Leaf::new(stored, pages));
        }
        self.left = rows;
        Ok(())
    }
}
