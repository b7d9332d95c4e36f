//! What can be wrong with a manifest, and how it is told: file, line, what, what to do.

use std::fmt;
use std::io;

use crate::exit::Exit;
use crate::object::KEY_BYTES_MAX;

use super::columns::CELL_BYTES_MAX;
use super::csv::RECORD_BYTES_MAX;
use super::reading::ReportRows;
use super::schema::VERSION_ID_BYTES_MAX;

/// Most faults that an error names one by one; the rest is counted.
pub const FAULTS_SHOWN_MAX: usize = 20;

/// Most characters of the manifest's own text that a message repeats.
const EXCERPT_CHARS_MAX: usize = 64;

/// Why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not sound. Nothing but another manifest helps.
    #[error("{0}")]
    Invalid(Faults),
    /// Reading it failed on the way.
    #[error("{file}: {source}")]
    Io {
        /// What was read.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what the job was prepared from.
    #[error(
        "{what}: the manifest has changed since the job was prepared; put the old one back, or start a new job with another state"
    )]
    Changed {
        /// What differs, and where.
        what: String,
    },
    /// The caller's progress function asked to stop.
    #[error("stopped while reading the manifest")]
    Stopped,
}

impl ManifestError {
    /// An error about one place.
    pub(super) fn fault(file: &str, place: Option<Place>, problem: Problem) -> Self {
        let mut faults = Faults::default();
        faults.add(Fault {
            file: file.to_owned(),
            place,
            problem,
        });
        Self::Invalid(faults)
    }

    /// An error of the system. That a file is missing, closed to us or a folder is the operator's to mend; everything
    /// else may go away by itself.
    pub(super) fn io(file: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput => {
                Self::fault(file, None, Problem::Unreadable(source.to_string()))
            }
            _ => Self::Io {
                file: file.to_owned(),
                source,
            },
        }
    }

    /// How a command ends that met this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Invalid(_) => Exit::Usage,
            Self::Io { .. } => Exit::Internal,
            Self::Changed { .. } => Exit::State,
            Self::Stopped => Exit::Interrupted,
        }
    }
}

/// The faults of a manifest: the first [`FAULTS_SHOWN_MAX`], and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first ones, in the order of the manifest.
    pub shown: Vec<Fault>,
    /// How many there are in all.
    pub total: u64,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.total += 1;
        if self.shown.len() < FAULTS_SHOWN_MAX {
            self.shown.push(fault);
        }
    }
}

impl Faults {
    pub(super) fn add_all(&mut self, other: Self) {
        self.total += other.total - other.shown.len() as u64;
        other.shown.into_iter().for_each(|fault| self.add(fault));
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.shown.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        match self.total - self.shown.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\nand {more} more; {} in all", self.total),
        }
    }
}

/// One fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The manifest, or the data file of an inventory.
    pub file: String,
    /// Where in it.
    pub place: Option<Place>,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(place) = self.place {
            write!(f, "{place}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The line where the row begins, from 1, in the text as it is after gunzip.
    Line(u64),
    /// The row, from 1, of a file that has no lines.
    Row(u64),
}

/// As it stands behind a file's name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, ":{line}"),
            Self::Row(row) => write!(f, " row {row}"),
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The system won't let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Somebody writes to it while we read.
    #[error("was written to while it was read; try again when it is whole")]
    WrittenMeanwhile,
    /// A CSV without rows. It might be what a failed export left, and it names no bucket: better told than "complete".
    #[error("has no rows, so it names neither bucket nor objects; was it written to its end?")]
    NoRows,
    /// A UTF-8 byte order mark.
    #[error("begins with a byte order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// UTF-16, as some shells write it.
    #[error("is UTF-16 text; save it as UTF-8 without a byte order mark")]
    Utf16,
    /// A data file of another format than it should have.
    #[error(
        "is not what it is said to be, or in a format that is not read ({0}); CSV, ORC and Parquet are"
    )]
    Format(String),
    /// A table where CSV should be.
    #[error(
        "holds {0} and not CSV; a file of that format is given as it is, without gzip, and an inventory says which one it is"
    )]
    Table(&'static str),
    /// A data file of columns that is damaged, or uses what is not read.
    #[error("can't be read as its format asks: {0}; fetch or make the file again")]
    DamagedTable(String),
    /// A data file of columns without one that is used.
    #[error("has no column {column}, which the manifest's other files have")]
    NoColumn {
        /// Its name.
        column: &'static str,
    },
    /// A data file of columns that has others than those before it.
    #[error(
        "has the columns {found} where the files before it have {before}; one manifest has the same in all of its files"
    )]
    OtherColumns {
        /// The columns in use, of the files before it.
        before: String,
        /// Its own.
        found: String,
    },
    /// A column whose type does not serve.
    #[error(
        "the column {column} is {found}, which can't be read as one; make the file again with a plain type"
    )]
    ColumnType {
        /// Its name.
        column: &'static str,
        /// Its type in the file.
        found: String,
    },
    /// A text that no column in use has.
    #[error(
        "a value of {bytes} bytes; in the columns that are used none has more than {CELL_BYTES_MAX}"
    )]
    CellTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A dictionary that would not fit into memory.
    #[error("a dictionary that is too large to be read; write the file again with smaller stripes")]
    DictionaryTooLarge,
    /// A flag that this manifest has no use for.
    #[error("{flag} does not go with {what}")]
    FlagMisfit {
        /// The flag.
        flag: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A key that is one or another, depending on how it is spelt.
    #[error(
        "the key {0:?} has a + or a %, and nothing says whether keys are URL-encoded here: give --manifest-encoding url or none"
    )]
    EncodingUnsaid(String),
    /// Broken gzip, or something after it.
    #[error(
        "damaged gzip data ({0}), or something that is not gzip comes after it; fetch or make the file again"
    )]
    Gzip(String),
    /// gzip that ends too early.
    #[error("gzip data ends too early; fetch or make the file again")]
    GzipTruncated,
    /// A line without anything.
    #[error("blank line; remove it")]
    BlankLine,
    /// Column names.
    #[error(
        "header row; a manifest has none: remove it, or say that it names the columns with --manifest-columns header"
    )]
    HeaderRow,
    /// A row of another width.
    #[error("{found} columns where {expected} are expected; every row has the same")]
    ColumnCount {
        /// Columns of the rows before, or of the inventory's schema.
        expected: String,
        /// Columns of this row.
        found: usize,
    },
    /// A `"` where none may be.
    #[error(
        "a quote inside a field; quote the whole field and double the quote, or write the key's quotes as %22"
    )]
    StrayQuote,
    /// A `"` that nothing closes.
    #[error("a quoted field does not end before the file does; was the file cut off?")]
    UnclosedQuote,
    /// A carriage return without a line feed.
    #[error(
        "a carriage return inside a row; end lines with LF or CRLF, and write one in a key as %0D"
    )]
    CarriageReturn,
    /// A row that is no row.
    #[error(
        "a row of more than {RECORD_BYTES_MAX} bytes; is a quote left open, or is this no CSV?"
    )]
    RowTooLong,
    /// `%` without two hexadecimal digits.
    #[error(
        "bad percent-encoding in the key at byte {at}: {text:?}; keys are URL-encoded, a literal % is %25"
    )]
    PercentEncoding {
        /// Offset in the key's field, from 0.
        at: usize,
        /// What stands there.
        text: String,
    },
    /// Bytes that are no UTF-8.
    #[error("{column} is not UTF-8 (after URL-decoding); S3 keys are UTF-8")]
    NotUtf8 {
        /// Which column.
        column: &'static str,
    },
    /// No key.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key that no object can have.
    #[error("the key has {bytes} bytes after URL-decoding; S3 allows {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A version id that no object can have.
    #[error("the version id has {bytes} bytes; S3 allows {VERSION_ID_BYTES_MAX}")]
    VersionIdTooLong {
        /// Its length.
        bytes: usize,
    },
    /// No bucket name.
    #[error("{0:?} is no bucket name; the first column is the bucket's plain name")]
    BucketName(String),
    /// A second bucket.
    #[error(
        "bucket {found:?} where {expected:?} is expected; a job has one bucket: split the manifest, or take the rows of one with --bucket"
    )]
    OtherBucket {
        /// The bucket of the first row, or the inventory's.
        expected: String,
        /// The row's.
        found: String,
    },
    /// A size that is no number.
    #[error("Size {0:?} is not a number of bytes")]
    Size(String),
    /// A `manifest.json` that is none.
    #[error("is the manifest.json of neither an S3 Inventory nor a completion report: {0}")]
    Json(String),
    /// The `manifest.json` of a report that is none that we read.
    #[error(
        "is not the manifest.json of a completion report as reseal and S3 Batch Operations write it: {0}"
    )]
    ReportJson(String),
    /// A report without the name of a bucket, from standard input.
    #[error(
        "its result files lie beside it, and standard input has no place; give --manifest the path or the s3:// URL of the \
         report's manifest.json"
    )]
    ReportPlace,
    /// A row of a report that ended otherwise than the rows of its file.
    #[error(
        "TaskStatus is {found:?} in a file of {wanted} rows; is this a result file of the report?"
    )]
    TaskStatus {
        /// What stands there.
        found: String,
        /// Which rows are meant.
        wanted: ReportRows,
    },
    /// A `manifest.json` without end.
    #[error("is larger than {} MiB, which no manifest.json is", super::inventory::JSON_BYTES_MAX >> 20)]
    JsonTooLarge,
    /// An inventory or a report without what every row needs.
    #[error("{field} {schema:?} {what}")]
    FileSchema {
        /// Its name in the `manifest.json`.
        field: &'static str,
        /// The schema.
        schema: String,
        /// What is wrong with it.
        what: String,
    },
    /// `manifest.checksum`, or a report's `manifest.json.md5`, says otherwise.
    #[error("MD5 is {found}, {file} beside it says {expected:?}; fetch both again")]
    Checksum {
        /// The checksum file's name.
        file: &'static str,
        /// What it says.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A data file of another size than its `manifest.json` says.
    #[error("has {found} bytes, manifest.json says {expected}; fetch it again")]
    FileSize {
        /// What `manifest.json` says.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A data file of other content than its `manifest.json` says.
    #[error("MD5 is {found}, manifest.json says {expected}; fetch it again")]
    Md5 {
        /// What `manifest.json` says.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A data file that is nowhere.
    #[error("is not beside the manifest.json; looked for {}", looked.join(", "))]
    DataFileMissing {
        /// Where it was looked for.
        looked: Vec<String>,
    },
}

/// Text of the manifest as it may stand in a message: cut, and never with control characters (the messages quote it
/// with `{:?}`).
pub(super) fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(EXCERPT_CHARS_MAX * 4)]);
    let mut cut: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
