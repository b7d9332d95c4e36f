//! A stream of a stripe: a range of the file, in compressed blocks, one of which is in memory.
//! Source: ORC specification, "Compression".

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;

use super::super::{RecordError, damaged};

/// The largest block, in bytes, compressed or not: what the three bytes before one can say is 8 MiB.
pub(super) const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that are read at a time where nothing is compressed.
const PLAIN_BYTES: u64 = 64 * 1024;

/// What zstd may look back, as a power of two of bytes: a block.
const WINDOW_LOG_MAX: u32 = 23;

/// Bytes before each compressed block.
const HEADER_BYTES: u64 = 3;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Zlib,
    Snappy,
    Lz4,
    Zstd,
}

/// A file and how it is compressed.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    pub(super) codec: Codec,
    /// The largest block that the file says it has, decompressed.
    pub(super) block_max: usize,
}

/// A range of a file, read from its start to its end.
pub(super) struct Stream {
    source: Source,
    at: u64,
    end: u64,
    stored: Vec<u8>,
    block: Vec<u8>,
    /// Bytes of the block that are read.
    read: usize,
}

impl Stream {
    /// The stream of `len` bytes at `at`.
    pub(super) fn open(source: &Source, at: u64, len: u64) -> Result<Self, RecordError> {
        let end = at.checked_add(len).filter(|end| *end <= source.len);
        let end = end.ok_or_else(|| damaged("a stream lies outside the file"))?;
        Ok(Self {
            source: source.clone(),
            at,
            end,
            stored: Vec::new(),
            block: Vec::new(),
            read: 0,
        })
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        loop {
            if let Some(byte) = self.block.get(self.read) {
                self.read += 1;
                return Ok(*byte);
            }
            self.refill()?;
        }
    }

    /// The next bytes, without a copy where they are in one block.
    pub(super) fn take<'a>(
        &'a mut self,
        bytes: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], RecordError> {
        if let Some(end) = self.read.checked_add(bytes)
            && end <= self.block.len()
        {
            let start = std::mem::replace(&mut self.read, end);
            return Ok(&self.block[start..end]);
        }
        scratch.clear();
        while scratch.len() < bytes {
            if self.read == self.block.len() {
                self.refill()?;
            }
            let rest = &self.block[self.read..];
            let some = &rest[..rest.len().min(bytes - scratch.len())];
            scratch.extend_from_slice(some);
            self.read += some.len();
        }
        Ok(scratch)
    }

    /// Everything to the end, which is at most so much.
    pub(super) fn all(mut self, bytes_max: usize) -> Result<Vec<u8>, RecordError> {
        let mut all = Vec::new();
        while self.at < self.end {
            self.refill()?;
            all.extend_from_slice(&self.block);
            if all.len() > bytes_max {
                return Err(damaged("its description is too long"));
            }
        }
        Ok(all)
    }

    /// The next block.
    fn refill(&mut self) -> Result<(), RecordError> {
        let left = self.end - self.at;
        if left == 0 {
            return Err(damaged("a stream ends before its rows do"));
        }
        self.read = 0;
        if self.source.codec == Codec::None {
            self.block.resize(left.min(PLAIN_BYTES) as usize, 0);
            return self.load(|stream| &mut stream.block);
        }
        let mut header = [0; HEADER_BYTES as usize];
        if left < HEADER_BYTES {
            return Err(damaged("a block is cut off"));
        }
        let read = self.source.file.read_exact_at(&mut header, self.at);
        read.map_err(RecordError::Io)?;
        self.at += HEADER_BYTES;
        let [a, b, c] = header;
        let header = u32::from_le_bytes([a, b, c, 0]);
        let (length, is_original) = (header >> 1, header & 1 == 1);
        if u64::from(length) > left - HEADER_BYTES {
            return Err(damaged("a block is cut off"));
        }
        if is_original {
            self.block.resize(length as usize, 0);
            return self.load(|stream| &mut stream.block);
        }
        self.stored.resize(length as usize, 0);
        self.load(|stream| &mut stream.stored)?;
        self.decompress()
    }

    /// Reads what `buffer` has room for.
    fn load(&mut self, buffer: impl Fn(&mut Self) -> &mut Vec<u8>) -> Result<(), RecordError> {
        let (file, at) = (Arc::clone(&self.source.file), self.at);
        let buffer = buffer(self);
        file.read_exact_at(buffer, at).map_err(RecordError::Io)?;
        let bytes = buffer.len() as u64;
        self.at += bytes;
        Ok(())
    }

    fn decompress(&mut self) -> Result<(), RecordError> {
        let max = self.source.block_max;
        let fault = |_| damaged("a block that can't be decompressed");
        self.block.clear();
        match self.source.codec {
            Codec::None => {}
            Codec::Zlib => {
                let inflate = DeflateDecoder::new(self.stored.as_slice());
                let mut inflate = inflate.take(max as u64 + 1);
                inflate.read_to_end(&mut self.block).map_err(fault)?;
            }
            Codec::Snappy => {
                let fault = |_| damaged("a block that can't be decompressed");
                let bytes = snap::raw::decompress_len(&self.stored).map_err(fault)?;
                if bytes <= max {
                    self.block.resize(bytes, 0);
                    let mut decoder = snap::raw::Decoder::new();
                    let done = decoder.decompress(&self.stored, &mut self.block);
                    done.map_err(fault)?;
                } else {
                    return Err(too_large());
                }
            }
            Codec::Lz4 => {
                self.block.resize(max, 0);
                let done = lz4_flex::block::decompress_into(&self.stored, &mut self.block);
                let bytes = done.map_err(|_| {
                    damaged("a block that can't be decompressed, or is larger than the file says its blocks are")
                })?;
                self.block.truncate(bytes);
            }
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(self.stored.as_slice());
                let mut decoder = decoder.map_err(fault)?;
                decoder.window_log_max(WINDOW_LOG_MAX).map_err(fault)?;
                let mut decoder = decoder.take(max as u64 + 1);
                decoder.read_to_end(&mut self.block).map_err(fault)?;
            }
        }
        if self.block.len() > max {
            return Err(too_large());
        }
        Ok(())
    }
}

fn too_large() -> RecordError {
    damaged("a block that is larger than the file says its blocks are")
}

/// The bytes of a range, as they lie there.
pub(super) fn raw(source: &Source, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    source.file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
