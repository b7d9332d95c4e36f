//! Rows of a prepared manifest, part by part.
//!
//! Preparing has found every row sound, so anything that is not as it was then means that the file was changed.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

use crate::object::ManifestEntry;

use super::error::{ManifestError, Problem};
use super::hash::{Fingerprint, Hashing};
use super::prepare::{PartFacts, Prepared};
use super::records::{RecordError, Records};
use super::sieve::{Sieve, Sifted};
use super::text::{self, Text};

/// Holds a local file against what preparing found of that part.
///
/// # Errors
/// [`ManifestError::Changed`] where its content is another; or it can't be read.
pub fn verify_part(path: &Path, facts: &PartFacts) -> Result<(), ManifestError> {
    verify(&mut text::open(path, &facts.name)?, facts)
}

fn verify(file: &mut File, facts: &PartFacts) -> Result<(), ManifestError> {
    let mut hashing = Hashing::new(file);
    io::copy(&mut hashing, &mut io::sink())
        .map_err(|error| ManifestError::io(&facts.name, error))?;
    let (bytes, sha256) = hashing.finish();
    if bytes == facts.bytes && sha256 == facts.sha256 {
        return Ok(());
    }
    Err(changed(&facts.name, "its content is another"))
}

fn changed(name: &str, what: &str) -> ManifestError {
    ManifestError::Changed {
        what: format!("{name}: {what}"),
    }
}

/// Iterates over a shard's rows of one part, numbered among the shard's. After an error it is at its end.
pub struct RowReader {
    facts: PartFacts,
    sieve: Sieve,
    records: Records<Text<'static>>,
    /// The file once more, to see at the end whether it was written to.
    file: File,
    fingerprint: Fingerprint,
    /// Records of the part, of all shards and those that are left out, that are not read yet.
    left: u64,
    next_row: u64,
    end_row: u64,
    ended: bool,
}

impl RowReader {
    /// Opens a part: the local file that was prepared, or one that was fetched again. Unless length and times are those
    /// of preparing, the file is hashed first (at some GB/s) and must be the same to the byte.
    ///
    /// # Errors
    /// [`ManifestError::Changed`] where it is not; or it can't be read.
    ///
    /// # Panics
    /// There is no part of that index.
    pub fn open(
        path: &Path,
        prepared: &Prepared,
        part_index: usize,
    ) -> Result<Self, ManifestError> {
        let facts = &prepared.parts[part_index];
        let io = |error| ManifestError::io(&facts.name, error);
        let mut file = text::open(path, &facts.name)?;
        let fingerprint = Fingerprint::of(&file.metadata().map_err(io)?);
        if facts.fingerprint != Some(fingerprint) {
            verify(&mut file, facts)?;
            file.rewind().map_err(io)?;
        }
        let schema = &prepared.schema;
        let mut records = Records::open(file.try_clone().map_err(io)?, &facts.name, schema)?;
        if schema.has_header() {
            let header = records.advance();
            header.map_err(|error| error.of_file(&facts.name))?;
        }
        let first_row = prepared.first_row(part_index);
        Ok(Self {
            facts: facts.clone(),
            sieve: Sieve {
                schema: schema.clone(),
                bucket: prepared.bucket.clone(),
                shard: prepared.shard,
                selection: prepared.selection.clone(),
            },
            records,
            file,
            fingerprint,
            left: facts.rows + facts.left_out,
            next_row: first_row,
            end_row: first_row + facts.own_rows,
            ended: false,
        })
    }

    /// Passes over rows as long as `skip` says so of their numbers, without decoding them (but their keys, which tell the shard).
    ///
    /// # Errors
    /// As for the rows themselves.
    pub fn skip_rows_while(
        &mut self,
        mut skip: impl FnMut(u64) -> bool,
    ) -> Result<(), ManifestError> {
        while !self.ended && self.next_row < self.end_row && skip(self.next_row) {
            let passed = self.advance(|sieve, record, _| Ok(sieve.is_own(record)?.then_some(())));
            passed.inspect_err(|_| self.ended = true)?;
        }
        Ok(())
    }

    /// Goes on to the shard's next row, of which it makes something; `None` at the end, with everything as it was prepared.
    fn advance<T>(
        &mut self,
        make: impl Fn(&Sieve, &Records<Text<'static>>, u64) -> Result<Option<T>, Problem>,
    ) -> Result<Option<T>, ManifestError> {
        while self.next_record()? {
            let made = make(&self.sieve, &self.records, self.next_row);
            let Some(made) = made.map_err(|problem| self.changed_row(&problem.to_string()))? else {
                continue;
            };
            if self.next_row == self.end_row {
                return Err(changed(&self.facts.name, "it has more rows of this shard"));
            }
            self.next_row += 1;
            return Ok(Some(made));
        }
        if self.next_row < self.end_row {
            return Err(changed(&self.facts.name, "it has fewer rows of this shard"));
        }
        self.check_unchanged().map(|()| None)
    }

    /// Goes on to the next record of any shard; `false` at the end.
    fn next_record(&mut self) -> Result<bool, ManifestError> {
        match self.records.advance() {
            Ok(true) if self.left > 0 => {
                self.left -= 1;
                Ok(true)
            }
            Ok(true) => Err(changed(&self.facts.name, "it has more rows")),
            Ok(false) if self.left > 0 => Err(changed(&self.facts.name, "it has fewer rows")),
            Ok(false) => Ok(false),
            Err(RecordError::Io(error)) => Err(ManifestError::io(&self.facts.name, error)),
            Err(RecordError::Malformed(problem) | RecordError::Broken(problem)) => {
                Err(self.changed_row(&problem.to_string()))
            }
        }
    }

    fn entry(&mut self) -> Result<Option<ManifestEntry>, ManifestError> {
        self.advance(|sieve, record, number| {
            Ok(match sieve.sift(record, number)? {
                Sifted::Own(row) => Some(row.entry),
                Sifted::Others | Sifted::LeftOut { .. } => None,
            })
        })
    }

    /// A file that was touched or moved meanwhile is still the same.
    fn check_unchanged(&mut self) -> Result<(), ManifestError> {
        let io = |error| ManifestError::io(&self.facts.name, error);
        if Fingerprint::of(&self.file.metadata().map_err(io)?) == self.fingerprint {
            return Ok(());
        }
        self.file.rewind().map_err(io)?;
        match verify(&mut self.file, &self.facts) {
            Err(ManifestError::Changed { .. }) => Err(changed(
                &self.facts.name,
                "it was written to while it was read",
            )),
            checked => checked,
        }
    }

    fn changed_row(&self, what: &str) -> ManifestError {
        let place = format!("{}{}", self.facts.name, self.records.place());
        changed(&place, what)
    }
}

impl Iterator for RowReader {
    type Item = Result<ManifestEntry, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}
