//! Digests of files, and what tells without them that a file is probably still the same.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::human;

/// Bytes that are hashed at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Length and times of a local file: while all are the same, its content is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 where the system has none.
    pub modified_nanos: u64,
    /// Time of the last change of the file or of what is known of it (`ctime`), likewise. Whoever sets the other time back cannot
    /// set this one.
    #[serde(default)]
    pub changed_nanos: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            len,
            modified_nanos,
            changed_nanos,
        } = self;
        write!(f, "{len} bytes, {modified_nanos} ns, {changed_nanos} ns")
    }
}

impl Fingerprint {
    /// What a file's metadata tell.
    pub fn of(metadata: &Metadata) -> Self {
        let since = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            len: metadata.len(),
            // Wraps in the year 2554; it is only ever compared.
            modified_nanos: since.map_or(0, |since| since.as_nanos() as u64),
            changed_nanos: (metadata.ctime() as u64)
                .wrapping_mul(NANOS_PER_SECOND)
                .wrapping_add(metadata.ctime_nsec() as u64),
        }
    }
}

/// Passes on what it reads, and hashes it.
pub(super) struct Hashing<R> {
    inner: R,
    sha256: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            sha256: Sha256::new(),
            bytes: 0,
        }
    }

    /// Bytes that went through, and the hexadecimal SHA-256 of them.
    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, human::hex(&self.sha256.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.sha256.update(&buf[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Reads a file to its end, chunk by chunk.
pub(super) fn each_chunk(
    file: &mut File,
    mut chunk: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut buf = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Ok(read) => {
                if chunk(&buf[..read]).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
