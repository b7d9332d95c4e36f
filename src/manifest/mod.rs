//! The list of objects: manifests of S3 Batch Operations, inventories of S3 Inventory, tables as SQL engines export them, and the
//! rows of completion reports, out of local files.
//!
//! ```text
//! Source (File | Inventory | Report) ─parts→ Preparation ─→ Prepared (in the state) ─→ RowReader ─→ ManifestEntry …
//!                                                     └───── Records (CSV | Parquet | ORC) → Sieve ─────┘
//! ```
//!
//! The way of a manifest: [`Source::detect`] looks what the named file is; [`Preparation`] reads all of it once, finds
//! every fault, counts the rows and pins the content; [`RowReader`] hands out the rows, as often as a job is resumed,
//! and notices when they are no longer the rows that were prepared.
//!
//! Nothing here knows S3's requests or `async`: whoever owns them fetches a part into a file and comes here with its
//! path. Everything streams: memory holds a record, buffers and the list of the parts.
//!
//! A gzip file that is cut off is an error at every place but one: between two of its members it is a whole, shorter
//! file. Only the MD5 in a `manifest.json` can tell that.
//!
//! The rules for rows:
//! - All rows are of one bucket, and as wide as the first row or as the `manifest.json` says.
//! - Keys in S3's CSV are URL-encoded, `+` is a space; in its ORC and Parquet they stand as they are, and so does everything else.
//!   Where a file is not S3's own, a key that is not the same either way is a fault until the operator says which way it is.
//! - A CSV row names a version or, where the third column is missing or empty, the current one. An empty version id in
//!   an inventory of all versions is the null version, whose id is the word `null`.
//! - Columns that an inventory may have and that we only use as hints are read leniently, except Size.

mod beside;
mod columns;
mod csv;
mod decode;
mod duplicates;
mod error;
mod format;
mod hash;
mod inventory;
mod prepare;
mod read;
mod reading;
mod records;
mod report;
mod schema;
mod sieve;
mod text;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use csv::RECORD_BYTES_MAX;
pub use decode::{KeyEncoding, decode_key, encode_key};
pub use duplicates::{COMPARED_MAX, Duplicates};
pub use error::{FAULTS_SHOWN_MAX, Fault, Faults, ManifestError, Place, Problem};
pub use format::Format;
pub use hash::Fingerprint;
pub use inventory::{DataFile, Inventory, JSON_BYTES_MAX};
pub use prepare::{Listed, Origin, PartFacts, Preparation, Prepared, Progress};
pub use read::{RowReader, verify_part};
pub use reading::{ColumnNames, Reading, ReportRows};
pub use report::{CompletionReport, ResultFile};
pub use schema::{Schema, VERSION_ID_BYTES_MAX};
pub use sieve::Counts;

/// Bytes in which a file that is JSON shows its brace.
const SNIFF_BYTES: u64 = 64;

/// What the file is that `--manifest` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Rows: it is its own only part.
    File {
        /// Its name, for messages.
        name: String,
        /// What it is written in.
        format: Format,
    },
    /// An inventory's `manifest.json`; its data files are the parts.
    Inventory(Inventory),
    /// A completion report's `manifest.json`; its files of rows that are wanted are the parts.
    Report(CompletionReport),
}

impl Source {
    /// Looks what a local file is: by its content, a JSON object is a report or an inventory; `name` is what the operator called it.
    ///
    /// # Errors
    /// It can't be read; it is JSON and neither an inventory nor a report that we can use; its name says JSON and its content doesn't;
    /// or the operator has said something about it that does not fit.
    pub fn detect(path: &Path, name: &str, reading: &Reading) -> Result<Self, ManifestError> {
        let io = |error| ManifestError::io(name, error);
        let file = text::open(path, name)?;
        let mut content = Vec::new();
        let mut file = file.take(SNIFF_BYTES);
        file.read_to_end(&mut content).map_err(io)?;
        if first_byte(&content) == Some(b'{') {
            file.set_limit(JSON_BYTES_MAX + 1 - content.len() as u64);
            file.read_to_end(&mut content).map_err(io)?;
            let json = content.strip_prefix(UTF8_MARK).unwrap_or(&content);
            let source = match CompletionReport::parse(json, name, reading.rows) {
                Some(report) => Self::Report(report?),
                None => Self::Inventory(Inventory::parse(json, name, reading)?),
            };
            return source.fitting(reading, name);
        }
        let named_json = Path::new(name)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if named_json {
            let problem = Problem::Json("it does not begin with {".to_owned());
            return Err(ManifestError::fault(name, None, problem));
        }
        let source = Self::File {
            name: name.to_owned(),
            format: Format::of(&content),
        };
        source.fitting(reading, name)
    }

    /// The same, unless a flag was given that is about something else: it would do nothing, without a word.
    fn fitting(self, reading: &Reading, name: &str) -> Result<Self, ManifestError> {
        let what = match &self {
            Self::File {
                format: Format::Csv,
                ..
            } => "a CSV",
            Self::File { .. } => "a file that names its columns itself",
            Self::Inventory(_) => "an inventory's manifest.json",
            Self::Report(_) => "a completion report",
        };
        let is_csv = what == "a CSV";
        let is_report = matches!(self, Self::Report(_));
        let misfit = if reading.columns.is_some() && !is_csv {
            Some("--manifest-columns")
        } else if reading.keys.is_some() && is_report {
            Some("--manifest-encoding")
        } else if reading.rows != ReportRows::default() && !is_report {
            Some("--manifest-rows")
        } else {
            None
        };
        match misfit {
            None => Ok(self),
            Some(flag) => Err(ManifestError::fault(
                name,
                None,
                Problem::FlagMisfit { flag, what },
            )),
        }
    }

    /// How keys are spelt in it.
    fn keys(&self, reading: &Reading) -> KeyEncoding {
        let by_itself = match self {
            Self::Report(_) => KeyEncoding::Url,
            Self::Inventory(inventory) => match inventory.format {
                Format::Csv => KeyEncoding::Url,
                Format::Orc | Format::Parquet => KeyEncoding::None,
            },
            // As S3 Batch Operations reads it.
            Self::File {
                format: Format::Csv,
                ..
            } if reading.columns.is_none() => KeyEncoding::Url,
            Self::File { .. } => KeyEncoding::Unsaid,
        };
        reading.keys.unwrap_or(by_itself)
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        match self {
            Self::File { .. } => 1,
            Self::Inventory(inventory) => inventory.files.len(),
            Self::Report(report) => report.files.len(),
        }
    }

    /// The local file of a key that a local `manifest.json` names: under each folder above that, in its folder for such files,
    /// or next to it. The key is untrusted: no other place is looked at.
    ///
    /// # Errors
    /// It is in none of these places; the message names them.
    pub fn find_local(
        &self,
        manifest_path: &Path,
        file_key: &str,
    ) -> Result<PathBuf, ManifestError> {
        let folder = match self {
            Self::Report(_) => report::FOLDER,
            Self::File { .. } | Self::Inventory(_) => inventory::FOLDER,
        };
        beside::find(manifest_path, file_key, folder)
    }

    /// The name of the file beside a `manifest.json` of that name that holds its MD5, where there is one.
    pub fn checksum_name(&self, manifest_name: &str) -> Option<String> {
        match self {
            Self::File { .. } => None,
            Self::Inventory(_) => {
                let stem = manifest_name.strip_suffix("json")?;
                Some(format!("{stem}checksum"))
            }
            Self::Report(_) => Some(format!("{manifest_name}.md5")),
        }
    }

    /// Holds a `manifest.json` against the content of its checksum file.
    ///
    /// # Errors
    /// The two differ; `name` is in the message.
    pub fn check_checksum(
        &self,
        json: &[u8],
        checksum: &[u8],
        name: &str,
    ) -> Result<(), ManifestError> {
        let file = match self {
            Self::Report(_) => "manifest.json.md5",
            Self::File { .. } | Self::Inventory(_) => "manifest.checksum",
        };
        beside::check_checksum(json, checksum, file, name)
    }
}

/// A byte order mark before JSON does no harm.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

fn first_byte(content: &[u8]) -> Option<u8> {
    let content = content.strip_prefix(UTF8_MARK).unwrap_or(content);
    content.trim_ascii_start().first().copied()
}
