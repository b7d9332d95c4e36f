//! Preparing: one validating pass over the whole manifest before anything is written.
//!
//! It reads local files, part after part: a CSV manifest is one part, an inventory has one for each data file, a report one
//! for each file of failed rows, and whoever fetches them from S3 needs to keep only one at a time. A part that a
//! `manifest.json` lists is hashed first, and its rows count only if MD5 and size are as it says; a CSV has nothing to
//! be held against and is hashed while it is read. What comes out, [`Prepared`], pins the content: whoever reads rows
//! later reads the same rows, with the same numbers, or gets [`ManifestError::Changed`].
//!
//! Faults don't end the pass: the operator gets to see all that is wrong, as far as an error is long.

use std::fs::File;
use std::io::{BufRead, Seek as _};
use std::mem;
use std::ops::ControlFlow;
use std::path::Path;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Source;
use super::columns::Table;
use super::csv;
use super::decode::KeyEncoding;
use super::duplicates::{Duplicates, Finder};
use super::error::{Fault, Faults, ManifestError, Place, Problem};
use super::format::Format;
use super::hash::{Fingerprint, Hashing, each_chunk};
use super::inventory::DataFile;
use super::reading::{ColumnNames, Reading};
use super::records::{RecordError, Records};
use super::schema::Schema;
use super::sieve::{Counts, Sieve, Sifted};
use super::text;
use crate::encryption::Mode;
use crate::human;
use crate::selection::Selection;
use crate::shard::Shard;

/// Rows between two calls of the progress function.
const PROGRESS_ROWS: u64 = 10_000;

/// What the digest of a manifest begins with; another number if ever another thing is digested.
const DIGEST_DOMAIN: &str = "reseal manifest 1";

/// Told the rows read so far, says whether to go on. It is called every few milliseconds.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Where a part's local file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stays where it is until the job is over: length and time will tell whether it is still the same.
    Local,
    /// It was fetched for this pass, and will be fetched again: only its hash can tell.
    Fetched,
}

/// What preparing found: kept in a job's state, so that the pass is made once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The bucket of every row; empty for a report without rows.
    pub bucket: String,
    /// Rows of all parts that pass the filters.
    pub rows: u64,
    /// The filters.
    #[serde(default)]
    pub selection: Selection,
    /// Rows of the shard that name an object again.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// The shard that the pass was made for.
    pub shard: Shard,
    /// The parts, in the order of their rows.
    pub parts: Vec<PartFacts>,
    /// The columns of every part.
    pub schema: Schema,
    /// SHA-256, in hexadecimal, over bucket, schema and the parts' contents: it pins the manifest, wherever it lies.
    pub digest: String,
}

/// What is known of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    /// The manifest's name, or the data file's key.
    pub name: String,
    /// Its rows that pass the filters.
    pub rows: u64,
    /// Those that don't.
    #[serde(default)]
    pub left_out: u64,
    /// The shard's rows among those that do.
    pub own_rows: u64,
    /// Those by the encryption that the manifest lists.
    #[serde(default)]
    pub listed: Listed,
    /// What the shard's records are beside rows.
    #[serde(default)]
    pub counts: Counts,
    /// Its size in bytes, as it is stored.
    pub bytes: u64,
    /// SHA-256 of it as it is stored, in hexadecimal.
    pub sha256: String,
    /// MD5 of it, where a `manifest.json` names one and it was compared.
    pub md5: Option<String>,
    /// Length and time of the local file; `None` where it was fetched.
    pub fingerprint: Option<Fingerprint>,
}

/// Rows by the encryption that a manifest lists of their objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// In the order of [`Mode::ALL`].
    modes: [u64; Mode::ALL.len()],
    /// Rows of which it does not tell.
    pub unknown: u64,
}

impl Listed {
    fn add(&mut self, mode: Option<Mode>) {
        match mode {
            Some(mode) => self.modes[mode as usize] += 1,
            None => self.unknown += 1,
        }
    }

    /// Rows under that mode.
    pub fn of(&self, mode: Mode) -> u64 {
        self.modes[mode as usize]
    }
}

impl Prepared {
    /// The shard's rows of all parts by the encryption that the manifest lists.
    pub fn listed(&self) -> Listed {
        let mut sum = Listed::default();
        for part in &self.parts {
            for (sum, rows) in sum.modes.iter_mut().zip(part.listed.modes) {
                *sum += rows;
            }
            sum.unknown += part.listed.unknown;
        }
        sum
    }

    /// What the shard's records are beside rows, in all parts.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for part in &self.parts {
            sum.add_all(&part.counts);
        }
        sum
    }

    /// The shard's rows of all parts. They are numbered among themselves, from 0 on.
    pub fn own_rows(&self) -> u64 {
        self.first_row(self.parts.len())
    }

    /// The number of the shard's first row of a part: its rows of the parts before it.
    pub fn first_row(&self, part_index: usize) -> u64 {
        self.parts
            .iter()
            .take(part_index)
            .map(|part| part.own_rows)
            .sum()
    }

    /// As it is for whoever reads the rows of all shards.
    pub fn whole(mut self) -> Self {
        self.shard = Shard::ONLY;
        for part in &mut self.parts {
            part.own_rows = part.rows;
        }
        self
    }

    fn digest_of(bucket: &str, schema: &Schema, parts: &[PartFacts]) -> String {
        let mut digest = Sha256::new();
        let mut field = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        field(DIGEST_DOMAIN);
        field(bucket);
        field(&schema.identity());
        for part in parts {
            field(&part.sha256);
        }
        human::hex(&digest.finalize())
    }
}

/// The pass, while it goes on: [`new`](Self::new), [`add_part`](Self::add_part) for each part in its order,
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Preparation {
    /// All parts, and what the `manifest.json` says of them.
    files: Vec<DataFile>,
    /// Known from the start where a `manifest.json` says it; for a CSV, the first row tells.
    schema: Option<Schema>,
    /// Known from the start for an inventory, and where the operator says it.
    bucket: Option<String>,
    shard: Shard,
    /// What the operator says.
    reading: Reading,
    /// How keys are spelt.
    keys: KeyEncoding,
    /// What data files are written in.
    format: Format,
    /// Whether a `manifest.json` lists the parts and says what they are.
    listed: bool,
    /// The first row of a CSV reads `bucket,key`: column names, unless the next row is of a bucket of that name.
    header_suspected: bool,
    parts: Vec<PartFacts>,
    rows: u64,
    /// Rows that pass the filters, and those that don't.
    records: u64,
    duplicates: Finder,
    faults: Faults,
}

impl Preparation {
    /// Begins the pass over a manifest that was detected with that reading.
    pub fn new(source: &Source, reading: &Reading) -> Self {
        let mut new = Self {
            files: Vec::new(),
            schema: None,
            bucket: reading.selection.bucket.clone(),
            shard: Shard::ONLY,
            reading: reading.clone(),
            keys: source.keys(reading),
            format: Format::Csv,
            listed: true,
            header_suspected: false,
            parts: Vec::new(),
            rows: 0,
            records: 0,
            duplicates: Finder::default(),
            faults: Faults::default(),
        };
        match source {
            Source::File { name, format } => {
                new.files = vec![DataFile {
                    key: name.clone(),
                    size: None,
                    md5: None,
                }];
                new.format = *format;
                new.listed = false;
            }
            Source::Inventory(inventory) => {
                new.files = inventory.files.clone();
                new.schema = inventory.schema.clone();
                new.format = inventory.format;
                new.bucket = Some(inventory.source_bucket.clone());
            }
            Source::Report(report) => {
                let files = report.files.iter().map(|result| result.file.clone());
                new.files = files.collect();
                new.schema = Some(report.schema.clone());
            }
        }
        new
    }

    /// Counts the rows of that shard too.
    pub fn of_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Reads the next part from a local file. Faults in it are kept for [`finish`](Self::finish).
    ///
    /// # Errors
    /// The file can't be read, it changed meanwhile, or `progress` said to stop: the pass is over.
    ///
    /// # Panics
    /// Every part has been added already.
    pub fn add_part(
        &mut self,
        path: &Path,
        origin: Origin,
        progress: Progress<'_>,
    ) -> Result<(), ManifestError> {
        let expected = self.files[self.parts.len()].clone();
        let name = expected.key.as_str();
        let io = |error| ManifestError::io(name, error);
        let mut file = text::open(path, name)?;
        let before = Fingerprint::of(&file.metadata().map_err(io)?);
        let facts = if self.listed || self.format != Format::Csv {
            self.read_data_file(&mut file, &expected, progress)?
        } else {
            self.read_csv(&mut file, name, progress)?
        };
        let after = Fingerprint::of(&file.metadata().map_err(io)?);
        if after != before {
            return Err(ManifestError::fault(name, None, Problem::WrittenMeanwhile));
        }
        self.rows += facts.rows;
        self.records += facts.rows + facts.left_out;
        self.parts.push(PartFacts {
            fingerprint: (origin == Origin::Local).then_some(before),
            ..facts
        });
        Ok(())
    }

    /// Ends the pass. A CSV without rows is a fault (it names no bucket, and is what a failed export leaves behind); an
    /// inventory without rows is not: it says of which bucket it is. Nor is a report without failed rows: nothing is left to do.
    ///
    /// # Errors
    /// The faults of all parts.
    ///
    /// # Panics
    /// Parts are missing.
    pub fn finish(self) -> Result<Prepared, ManifestError> {
        assert_eq!(self.parts.len(), self.files.len(), "a part was not added");
        if self.faults.total > 0 {
            return Err(ManifestError::Invalid(self.faults));
        }
        if !self.listed && self.records == 0 {
            let name = &self.files[0].key;
            return Err(ManifestError::fault(name, None, Problem::NoRows));
        }
        let bucket = self.bucket.unwrap_or_default();
        let schema = self.schema.unwrap_or_else(Schema::of_nothing);
        let digest = Prepared::digest_of(&bucket, &schema, &self.parts);
        Ok(Prepared {
            bucket,
            rows: self.rows,
            selection: self.reading.selection,
            duplicates: self.duplicates.so_far(),
            shard: self.shard,
            parts: self.parts,
            schema,
            digest,
        })
    }

    /// A data file of an inventory or a report, or one of columns: hash it, compare, and only then read its rows.
    fn read_data_file(
        &mut self,
        file: &mut File,
        expected: &DataFile,
        progress: Progress<'_>,
    ) -> Result<PartFacts, ManifestError> {
        let name = expected.key.as_str();
        let io = |error| ManifestError::io(name, error);
        let (mut sha256, mut md5, mut bytes) = (Sha256::new(), Md5::new(), 0);
        let flow = each_chunk(file, |chunk| {
            sha256.update(chunk);
            md5.update(chunk);
            bytes += chunk.len() as u64;
            progress(self.rows)
        });
        if flow.map_err(io)?.is_break() {
            return Err(ManifestError::Stopped);
        }
        let mut facts = PartFacts::default();
        match differs(expected, bytes, &human::hex(&md5.finalize())) {
            Some(problem) => self.fault(name, None, problem),
            None => {
                file.rewind().map_err(io)?;
                let file = file.try_clone().map_err(io)?;
                if let Some(schema) = self.schema_of(&file, name)? {
                    let records = Records::open(file, name, &schema);
                    match records {
                        Ok(records) => facts = self.read_rows(name, records, progress)?,
                        Err(ManifestError::Invalid(faults)) => self.faults.add_all(faults),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(PartFacts {
            name: name.to_owned(),
            bytes,
            sha256: human::hex(&sha256.finalize()),
            md5: expected.md5.clone(),
            ..facts
        })
    }

    /// The schema of a data file. One of columns says itself what they are, and must have the same as those before it; what is
    /// wrong with that is kept as its fault.
    fn schema_of(&mut self, file: &File, name: &str) -> Result<Option<Schema>, ManifestError> {
        if self.format == Format::Csv {
            // What a first row has yet to tell.
            let schema = self.schema.clone();
            return Ok(Some(schema.unwrap_or_else(Schema::of_nothing)));
        }
        let again = file
            .try_clone()
            .map_err(|error| ManifestError::io(name, error))?;
        let has_bucket = self.reading.selection.bucket.is_some();
        let found = Table::open(again, name, self.format).and_then(|table| {
            Schema::of_table(&table.names(), self.format, self.keys, has_bucket)
                .map_err(|problem| ManifestError::fault(name, None, problem))
        });
        let found = match found {
            Ok(found) => found,
            Err(ManifestError::Invalid(faults)) => {
                self.faults.add_all(faults);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let schema = &*self.schema.get_or_insert_with(|| found.clone());
        if *schema == found {
            return Ok(Some(found));
        }
        let problem = Problem::OtherColumns {
            before: schema.names(),
            found: found.names(),
        };
        self.fault(name, None, problem);
        Ok(None)
    }

    /// A CSV manifest: read its rows and hash it on the way.
    fn read_csv(
        &mut self,
        file: &mut File,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<PartFacts, ManifestError> {
        let io = |error| ManifestError::io(name, error);
        let mut hashing = Hashing::new(file);
        let text = text::text(&mut hashing).map_err(io)?;
        let facts = self.read_rows(name, Records::Csv(csv::Records::new(text)), progress)?;
        let (bytes, sha256) = hashing.finish();
        Ok(PartFacts {
            name: name.to_owned(),
            bytes,
            sha256,
            ..facts
        })
    }

    /// Reads a part's rows, keeps its faults, and tells how many rows are sound, how many of them are the shard's, and what they are.
    fn read_rows<R: BufRead>(
        &mut self,
        name: &str,
        mut records: Records<R>,
        progress: Progress<'_>,
    ) -> Result<PartFacts, ManifestError> {
        let mut facts = PartFacts::default();
        let mut sieve = None;
        for turn in 1_u64.. {
            let problem = match records.advance() {
                Ok(false) => break,
                Ok(true) => {
                    let sifted = match &sieve {
                        Some(sieve) => Sieve::sift(sieve, &records, 0).map(Some),
                        None => self.check_first(&records, name, &mut sieve),
                    };
                    sifted.map(|sifted| self.count(sifted, &mut facts)).err()
                }
                Err(RecordError::Malformed(problem)) => Some(problem),
                Err(RecordError::Broken(problem)) => {
                    self.fault(name, Some(records.place()), problem);
                    break;
                }
                Err(RecordError::Io(error)) => return Err(ManifestError::io(name, error)),
            };
            if let Some(problem) = problem {
                self.fault(name, Some(records.place()), problem);
            }
            if turn % PROGRESS_ROWS == 0 && progress(self.rows + facts.rows).is_break() {
                return Err(ManifestError::Stopped);
            }
        }
        if progress(self.rows + facts.rows).is_break() {
            return Err(ManifestError::Stopped);
        }
        Ok(facts)
    }

    /// Counts what a record is; a header is none.
    fn count(&mut self, sifted: Option<Sifted>, facts: &mut PartFacts) {
        match sifted {
            None => {}
            Some(Sifted::Own(row)) => {
                facts.rows += 1;
                facts.own_rows += 1;
                facts.listed.add(row.entry.known.encryption);
                facts.counts.add(&row);
                self.duplicates.add(&row.entry);
            }
            Some(Sifted::Others) => facts.rows += 1,
            Some(Sifted::LeftOut { filter, is_own }) => {
                facts.left_out += 1;
                if is_own {
                    facts.counts.leave_out(filter);
                }
            }
        }
    }

    /// What one of the first records of a part is, which say what all are like where nothing else does. Once that is known, there is
    /// a sieve.
    fn check_first<R: BufRead>(
        &mut self,
        record: &Records<R>,
        name: &str,
        sieve: &mut Option<Sieve>,
    ) -> Result<Option<Sifted>, Problem> {
        let has_bucket = self.reading.selection.bucket.is_some();
        let schema = match (self.schema.take(), &self.reading.columns) {
            (Some(schema), _) => schema,
            (None, Some(ColumnNames::Header)) => {
                // Its columns are missing then, or doubled, and what follows can't be told.
                self.schema = Some(Schema::of_header(record, self.keys, has_bucket)?);
                return Ok(None);
            }
            (None, Some(ColumnNames::Named(names))) => {
                Schema::of_flag(names, self.keys, has_bucket)?
            }
            (None, None) => {
                Schema::of_csv(record.len(), self.keys).ok_or_else(|| Problem::ColumnCount {
                    expected: "2 or 3 (bucket,key or bucket,key,version-id)".to_owned(),
                    found: record.len(),
                })?
            }
        };
        let schema = &*self.schema.insert(schema);
        schema.check_width(record.len())?;
        let mut header_found = false;
        if record.place() == Place::Line(1) && schema.is_header(record) {
            // These words may also be somebody's bucket and key. An inventory says what its bucket is called; in a
            // CSV the next row does, unless the spelling rules it out.
            let field = schema.bucket_field(record).unwrap_or_default();
            match &self.bucket {
                Some(bucket) if bucket.as_bytes() != field => return Err(Problem::HeaderRow),
                None if schema.is_certainly_header(record) => return Err(Problem::HeaderRow),
                None => self.header_suspected = true,
                Some(_) => {}
            }
        } else if mem::take(&mut self.header_suspected) {
            header_found = self.bucket != schema.bucket(record).ok();
        }
        if header_found || self.bucket.is_none() {
            self.bucket = Some(schema.bucket(record)?);
        }
        let made = Sieve {
            schema: schema.clone(),
            bucket: self.bucket.clone().unwrap_or_default(),
            shard: self.shard,
            selection: self.reading.selection.clone(),
        };
        let sifted = made.sift(record, 0).map(Some);
        if !self.header_suspected {
            *sieve = Some(made);
        }
        if header_found {
            self.fault(name, Some(Place::Line(1)), Problem::HeaderRow);
        }
        sifted
    }

    fn fault(&mut self, name: &str, place: Option<Place>, problem: Problem) {
        self.faults.add(Fault {
            file: name.to_owned(),
            place,
            problem,
        });
    }
}

/// How a data file differs from what its `manifest.json` says of it.
fn differs(expected: &DataFile, bytes: u64, md5: &str) -> Option<Problem> {
    if let Some(size) = expected.size.filter(|&size| size != bytes) {
        return Some(Problem::FileSize {
            expected: size,
            found: bytes,
        });
    }
    let wanted = expected.md5.as_deref().filter(|&wanted| wanted != md5)?;
    Some(Problem::Md5 {
        expected: wanted.to_owned(),
        found: md5.to_owned(),
    })
}
