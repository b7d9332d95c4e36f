//! Data files, while they are written: rows from many ranges on a thread of its own, and what they come to at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use tokio::sync::mpsc;

use super::covered::Segment;
use super::row::{Column, Counts, Row, Unknown};
use super::{csv, parquet};
use crate::listing::Place;

/// The buffer before each file, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// How data files look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV, gzip.
    Csv,
    /// Parquet, Snappy.
    Parquet,
}

impl Format {
    /// As `fileFormat` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        }
    }

    /// How its files' names end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv.gz",
            Self::Parquet => "parquet",
        }
    }

    /// As `fileSchema` names it.
    pub fn schema(self, columns: &[Column]) -> String {
        match self {
            Self::Csv => {
                let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
                names.join(", ")
            }
            Self::Parquet => parquet::schema(columns),
        }
    }
}

/// Counts and digests what goes by.
struct Digesting {
    file: BufWriter<File>,
    md5: Md5,
    bytes: u64,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.md5.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Content {
    Csv(Box<GzEncoder<Digesting>>, Vec<u8>),
    Parquet(Box<parquet::Rows<Digesting>>),
}

/// A data file that is being written.
pub struct DataFile {
    path: PathBuf,
    bucket: String,
    columns: Vec<Column>,
    content: Content,
    /// What its rows come to.
    pub counts: Counts,
}

/// A data file that is whole, and on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its MD5, in lower-case hexadecimal.
    pub md5: String,
}

impl DataFile {
    /// Begins a file, in the place of one that may be there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(
        path: &Path,
        bucket: &str,
        columns: &[Column],
        format: Format,
    ) -> io::Result<Self> {
        let digesting = Digesting {
            file: BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?),
            md5: Md5::new(),
            bytes: 0,
        };
        Ok(Self {
            path: path.to_owned(),
            bucket: bucket.to_owned(),
            columns: columns.to_vec(),
            content: match format {
                Format::Csv => {
                    let gzip = GzEncoder::new(digesting, Compression::default());
                    Content::Csv(Box::new(gzip), Vec::new())
                }
                Format::Parquet => {
                    let rows = parquet::Rows::new(bucket, columns, digesting);
                    Content::Parquet(Box::new(rows.map_err(io::Error::other)?))
                }
            },
            counts: Counts::default(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&mut self, row: Row) -> io::Result<()> {
        self.counts.count(&row);
        match &mut self.content {
            Content::Csv(gzip, line) => {
                line.clear();
                csv::write_row(line, &self.bucket, &self.columns, &row);
                gzip.write_all(line)
            }
            Content::Parquet(rows) => rows.write(row).map_err(io::Error::other),
        }
    }

    /// Ends it. It is on the disk then.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self) -> io::Result<(Written, Counts)> {
        let digesting = match self.content {
            Content::Csv(gzip, _) => gzip.finish()?,
            Content::Parquet(rows) => rows.finish().map_err(io::Error::other)?,
        };
        let file = digesting
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let digest = digesting.md5.finalize();
        let written = Written {
            path: self.path,
            bytes: digesting.bytes,
            md5: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok((written, self.counts))
    }
}

/// What a thread that writes is told.
#[derive(Debug)]
pub enum Tell {
    /// What was listed of a range.
    Batch {
        /// The range.
        range: u64,
        /// From where to where.
        segment: Segment,
        /// What is between.
        rows: Vec<Row>,
        /// What looks did not tell of them.
        unknown: Unknown,
    },
    /// End the file: it has been open for long enough.
    End,
}

/// A part of the inventory that is on the disk of this machine, and nowhere else yet.
#[derive(Debug)]
pub struct Part {
    /// The data file; `None` where nothing was found.
    pub file: Option<Written>,
    /// What its rows come to.
    pub counts: Counts,
    /// Everything between these is in it.
    pub segments: Vec<Segment>,
}

/// What a thread that writes has to know.
#[derive(Clone, Debug)]
pub struct Writing {
    /// The file while it is written.
    pub path: PathBuf,
    /// The bucket that is listed.
    pub bucket: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// How it looks.
    pub format: Format,
    /// Rows after which a file ends.
    pub rows_max: u64,
}

/// Writes what it is told, file after file, until nobody tells it anything any more. Each file is named anew before it is handed on, so
/// that the next one may be begun.
///
/// # Errors
/// A file can't be written.
pub fn write_parts(
    writing: &Writing,
    told: &mut mpsc::Receiver<Tell>,
    parts: &mpsc::Sender<Part>,
) -> io::Result<()> {
    let mut open = OpenPart::default();
    let mut number = 0_u64;
    loop {
        let tell = told.blocking_recv();
        let is_last = tell.is_none();
        let is_end = match tell {
            Some(Tell::Batch {
                range,
                segment,
                rows,
                unknown,
            }) => {
                open.add(writing, range, segment, rows, unknown)?;
                open.rows() >= writing.rows_max
            }
            Some(Tell::End) | None => true,
        };
        if is_end && let Some(mut part) = open.end()? {
            if let Some(file) = &mut part.file {
                let whole = file.path.with_extension(format!("{number}"));
                number += 1;
                fs::rename(&file.path, &whole)?;
                file.path = whole;
            }
            if parts.blocking_send(part).is_err() {
                // Whoever keeps them has failed, and says why.
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What has come since the last part.
#[derive(Default)]
struct OpenPart {
    file: Option<DataFile>,
    unknown: Unknown,
    segments: BTreeMap<u64, Segment>,
}

impl OpenPart {
    fn rows(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.counts.rows)
    }

    fn add(
        &mut self,
        writing: &Writing,
        range: u64,
        segment: Segment,
        rows: Vec<Row>,
        unknown: Unknown,
    ) -> io::Result<()> {
        if self.file.is_none() && !rows.is_empty() {
            let Writing {
                path,
                bucket,
                columns,
                format,
                ..
            } = writing;
            self.file = Some(DataFile::create(path, bucket, columns, *format)?);
        }
        if let Some(file) = &mut self.file {
            for row in rows {
                file.write(row)?;
            }
        }
        self.unknown.add(unknown);
        match self.segments.get_mut(&range) {
            // One range's batches come in their order, each from where the one before it ended.
            Some(before) => before.to = segment.to,
            None => drop(self.segments.insert(range, segment)),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<Option<Part>> {
        let open = std::mem::take(self);
        if open.segments.is_empty() {
            return Ok(None);
        }
        let written = open.file.map(DataFile::finish).transpose()?;
        let (file, mut counts) = written.map_or_else(
            || (None, Counts::default()),
            |(file, counts)| (Some(file), counts),
        );
        counts.unknown.add(open.unknown);
        Ok(Some(Part {
            file,
            counts,
            segments: open.segments.into_values().collect(),
        }))
    }
}

impl Segment {
    /// Everything between two places.
    pub fn new(from: Place, to: Option<Place>) -> Self {
        Self { from, to }
    }
}
