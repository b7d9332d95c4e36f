//! Reads a chain, and finds where it breaks.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{COLUMNS, Index, MARK, NO_DIGEST, VERSION, hex};
use crate::encryption::{Encryption, Mode};
use crate::evidence::{Rewritten, State, Told};
use crate::manifest::{RECORD_BYTES_MAX, decode_key};
use crate::outcome::Method;

/// Buffer before each file.
const BUFFER_BYTES: usize = 128 * 1024;

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The part's name, or the index's.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// One rewrite, as a part has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The row of its shard.
    pub row: u64,
    /// What was seen.
    pub rewritten: Rewritten,
}

/// The rewrites of one part.
pub struct PartReader {
    name: String,
    bucket: String,
    rows: csv::StringRecordsIntoIter<Box<dyn Read + Send>>,
}

/// Holds part `number` of the `chain`th chain, which lies at `path`, against the index and against the part before it.
///
/// # Errors
/// What is wrong with it.
pub fn check_part(path: &Path, index: &Index, chain: usize, number: usize) -> Result<(), Break> {
    let chain = &index.chains[chain];
    let part = &chain.parts[number];
    let broken = |what: String| Break {
        at: part.name.clone(),
        what,
    };
    let digest = digest_of(path).map_err(|error| broken(error.to_string()))?;
    if digest != part.sha256 {
        return Err(broken(format!(
            "its SHA-256 is {digest}, and the index has {}",
            part.sha256
        )));
    }
    let mut reader = PartReader::begin(path, &part.name, &index.bucket)?;
    let head = reader.head()?;
    let before = number.checked_sub(1).and_then(|n| chain.parts.get(n));
    let previous = before.map_or(NO_DIGEST, |part| part.sha256.as_str());
    let (shard, number) = (chain.shard.to_string(), number.to_string());
    let expected = [MARK, VERSION, &index.job_id, &shard, &number, previous];
    if head.iter().ne(expected) {
        return Err(broken(format!(
            "it says that it is {}, and it should be {}",
            head.iter().collect::<Vec<_>>().join(","),
            expected.join(",")
        )));
    }
    reader.columns()?;
    let mut rows = 0;
    for line in reader {
        line?;
        rows += 1;
    }
    if rows != part.rows {
        return Err(broken(format!(
            "it has {rows} rewrites, and the index counts {}",
            part.rows
        )));
    }
    Ok(())
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sha256.finalize())),
            n => sha256.update(&buffer[..n]),
        }
    }
}

impl PartReader {
    /// The rewrites of a part that was [checked](check_part).
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: &Path, name: &str, bucket: &str) -> Result<Self, Break> {
        let mut reader = Self::begin(path, name, bucket)?;
        reader.head()?;
        reader.columns()?;
        Ok(reader)
    }

    fn begin(path: &Path, name: &str, bucket: &str) -> Result<Self, Break> {
        let file = File::open(path).map_err(|error| Break {
            at: name.to_owned(),
            what: error.to_string(),
        })?;
        let gzip = MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file));
        let reader: Box<dyn Read + Send> = Box::new(gzip);
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(reader);
        Ok(Self {
            name: name.to_owned(),
            bucket: bucket.to_owned(),
            rows: csv.into_records(),
        })
    }

    fn broken(&self, what: impl Into<String>) -> Break {
        Break {
            at: self.name.clone(),
            what: what.into(),
        }
    }

    fn record(&mut self) -> Result<Option<csv::StringRecord>, Break> {
        let record = self.rows.next().transpose();
        let record = record.map_err(|error| self.broken(error.to_string()))?;
        match &record {
            Some(record) if record.as_slice().len() > RECORD_BYTES_MAX => {
                Err(self.broken("a record that is too long"))
            }
            _ => Ok(record),
        }
    }

    fn head(&mut self) -> Result<csv::StringRecord, Break> {
        self.record()?.ok_or_else(|| self.broken("it is empty"))
    }

    fn columns(&mut self) -> Result<(), Break> {
        let columns = self.record()?;
        match columns.is_some_and(|columns| columns.iter().eq(COLUMNS)) {
            true => Ok(()),
            false => Err(self.broken("its columns are others")),
        }
    }

    fn line(&self, record: &csv::StringRecord) -> Result<Line, Break> {
        let line = record.position().map_or(0, csv::Position::line);
        let wrong =
            |column: usize| self.broken(format!("line {line}: {} is not sound", COLUMNS[column]));
        if record.len() != COLUMNS.len() {
            return Err(self.broken(format!("line {line} has {} columns", record.len())));
        }
        let some = |column: usize| Some(record[column].to_owned()).filter(|text| !text.is_empty());
        if record[1] != self.bucket {
            return Err(wrong(1));
        }
        let size = match &record[7] {
            "" => None,
            text => Some(text.parse().map_err(|_| wrong(7))?),
        };
        let at = OffsetDateTime::parse(&record[5], &Rfc3339).map_err(|_| wrong(5))?;
        let state = |first: usize| {
            let key = some(first + 1);
            let encryption = match &record[first] {
                "" => None,
                name => {
                    Some(encryption(name, key, &record[first + 2]).ok_or_else(|| wrong(first))?)
                }
            };
            let checksum = record[first + 5].split_once(':');
            let checksum =
                checksum.map(|(algorithm, value)| (algorithm.to_owned(), value.to_owned()));
            Ok(State {
                encryption,
                etag: some(first + 3),
                version_id: some(first + 4),
                size,
                checksum,
            })
        };
        let before = match &record[20] {
            "true" => Some(state(8)?),
            "false" => None,
            _ => return Err(wrong(20)),
        };
        let find_method = |name: &str| Method::ALL.into_iter().find(|m| m.name() == name);
        Ok(Line {
            row: record[0].parse().map_err(|_| wrong(0))?,
            rewritten: Rewritten {
                key: decode_key(record[2].as_bytes()).map_err(|_| wrong(2))?,
                method: match &record[3] {
                    "" => None,
                    name => Some(find_method(name).ok_or_else(|| wrong(3))?),
                },
                told: Told::ALL
                    .into_iter()
                    .find(|told| told.name() == &record[4])
                    .ok_or_else(|| wrong(4))?,
                at_ms: i64::try_from(at.unix_timestamp_nanos() / 1_000_000)
                    .map_err(|_| wrong(5))?,
                request_id: some(6),
                before,
                after: state(14)?,
            },
        })
    }
}

impl Iterator for PartReader {
    type Item = Result<Line, Break>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.record() {
            Ok(record) => record.map(|record| self.line(&record)),
            Err(broken) => Some(Err(broken)),
        }
    }
}

fn encryption(name: &str, key: Option<String>, bucket_key: &str) -> Option<Encryption> {
    Some(match Mode::from_inventory(name)? {
        Mode::NotSse => Encryption::NotSse,
        Mode::SseS3 => Encryption::SseS3,
        Mode::SseKms => Encryption::SseKms {
            key,
            bucket_key: bucket_key == "true",
        },
        Mode::DsseKms => Encryption::DsseKms { key },
        Mode::SseC => Encryption::SseC { key_md5: key? },
    })
}
