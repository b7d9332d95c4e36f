//! Writes a chain.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{COLUMNS, Chain, MARK, NO_DIGEST, PART_ROWS, Part, VERSION, hex, part_name};
use crate::durable;
use crate::encryption::Encryption;
use crate::evidence::{Rewritten, State};
use crate::manifest::encode_key;

/// Buffer before each file.
const BUFFER_BYTES: usize = 256 * 1024;

/// Evidence that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the evidence: {}: {source}", path.display())]
pub struct ChainError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes the parts of one shard, one after the other.
pub struct ChainWriter {
    root: PathBuf,
    job: String,
    bucket: String,
    shard: u32,
    open: Option<Open>,
    parts: Vec<Part>,
}

/// A part that is being written.
struct Open {
    name: String,
    partial: PathBuf,
    rows: u64,
    csv: csv::Writer<GzEncoder<Hashed>>,
}

impl ChainWriter {
    /// Begins the chain of a shard below `root`.
    pub fn new(root: &Path, job: &str, bucket: &str, shard: u32) -> Self {
        Self {
            root: root.to_owned(),
            job: job.to_owned(),
            bucket: bucket.to_owned(),
            shard,
            open: None,
            parts: Vec::new(),
        }
    }

    /// Adds a rewrite. A part that is full with it is complete on disk, and is told: `root` joined with its name.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&mut self, row: u64, rewritten: &Rewritten) -> Result<Option<Part>, ChainError> {
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        let open = self.open.as_mut().expect("made above");
        let record = record_of(row, &self.bucket, rewritten);
        open.csv
            .write_record(record)
            .map_err(|error| failed_at(&open.partial)(error.into()))?;
        open.rows += 1;
        match open.rows < PART_ROWS {
            true => Ok(None),
            false => self.close(),
        }
    }

    /// The last part, where it is not full, and the chain.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(mut self) -> Result<(Option<Part>, Chain), ChainError> {
        let last = self.close()?;
        let chain = Chain {
            shard: self.shard,
            parts: self.parts,
        };
        Ok((last, chain))
    }

    fn begin(&self) -> Result<Open, ChainError> {
        let number = self.parts.len() as u64;
        let name = part_name(self.shard, number);
        let path = self.root.join(&name);
        let partial = path.with_extension("partial");
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed_at(folder))?;
        let file = File::create(&partial).map_err(failed_at(&partial))?;
        let hashed = Hashed {
            inner: BufWriter::with_capacity(BUFFER_BYTES, file),
            sha256: Sha256::new(),
        };
        // Without a time and a name: the same rewrites are the same bytes.
        let gzip = GzBuilder::new().write(hashed, Compression::default());
        let mut csv = csv::WriterBuilder::new().flexible(true).from_writer(gzip);
        let before = self.parts.last();
        let previous = before.map_or(NO_DIGEST, |part| part.sha256.as_str());
        let (shard, number) = (self.shard.to_string(), number.to_string());
        csv.write_record([MARK, VERSION, &self.job, &shard, &number, previous])
            .and_then(|()| csv.write_record(COLUMNS))
            .map_err(|error| failed_at(&partial)(error.into()))?;
        Ok(Open {
            name,
            partial,
            rows: 0,
            csv,
        })
    }

    fn close(&mut self) -> Result<Option<Part>, ChainError> {
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let path = self.root.join(&open.name);
        let failed = failed_at(&open.partial);
        let gzip = open.csv.into_inner().map_err(|e| failed(e.into_error()))?;
        let hashed = gzip.finish().map_err(&failed)?;
        let file = hashed
            .inner
            .into_inner()
            .map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(&failed)?;
        fs::rename(&open.partial, &path)
            .and_then(|()| durable::sync_parent(&path))
            .map_err(failed_at(&path))?;
        let part = Part {
            name: open.name,
            rows: open.rows,
            sha256: hex(&hashed.sha256.finalize()),
        };
        self.parts.push(part.clone());
        Ok(Some(part))
    }
}

fn failed_at(path: &Path) -> impl Fn(io::Error) -> ChainError + '_ {
    |source| ChainError {
        path: path.to_owned(),
        source,
    }
}

fn record_of(row: u64, bucket: &str, rewritten: &Rewritten) -> [String; COLUMNS.len()] {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (before, after) = (rewritten.before.as_ref(), &rewritten.after);
    let bucket_key = |state: &State| match &state.encryption {
        Some(Encryption::SseKms { bucket_key, .. }) => bucket_key.to_string(),
        _ => String::new(),
    };
    let mode = |state: &State| {
        let encryption = state.encryption.as_ref();
        text(encryption.map(|encryption| encryption.mode().inventory_name()))
    };
    let key = |state: &State| text(state.encryption.as_ref().and_then(Encryption::key));
    let checksum = |state: &State| {
        let checksum = state.checksum.as_ref();
        checksum.map_or(String::new(), |(algorithm, value)| {
            format!("{algorithm}:{value}")
        })
    };
    let none = State::default();
    let was = before.unwrap_or(&none);
    let size = was.size.or(after.size);
    [
        row.to_string(),
        bucket.to_owned(),
        encode_key(&rewritten.key),
        text(rewritten.method.map(crate::outcome::Method::name)),
        rewritten.told.name().to_owned(),
        time_of(rewritten.at_ms),
        text(rewritten.request_id.as_deref()),
        size.map_or(String::new(), |size| size.to_string()),
        mode(was),
        key(was),
        bucket_key(was),
        text(was.etag.as_deref()),
        text(was.version_id.as_deref()),
        checksum(was),
        mode(after),
        key(after),
        bucket_key(after),
        text(after.etag.as_deref()),
        text(after.version_id.as_deref()),
        checksum(after),
        before.is_some().to_string(),
    ]
}

/// A time as RFC 3339 has it, in UTC.
fn time_of(ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    at.ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// A file, and the digest of what went into it.
struct Hashed {
    inner: BufWriter<File>,
    sha256: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
