//! Pages of a column's chunk, as far as they are what their values can be read from.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::{Page, PageReader as _};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::{RecordError, damaged};
use super::thrift;

/// The largest page, in bytes, decompressed. Writers make them of some 1 MiB.
const PAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the crate says of a codec that it was built without.
const NOT_BUILT_IN: &str = "Disabled feature at compile time";

/// Bytes that a page's header has at most: all but the statistics are a few numbers, and those are cut to a few hundred by writers.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read for a page's header at first.
const HEADER_BYTES: usize = 256;

/// A file, read at places: whoever else has it open keeps their own.
pub(super) struct Source {
    pub(super) file: File,
    pub(super) len: u64,
}

/// A reader from a place on.
pub(super) struct From {
    source: Arc<Source>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.file.read_at(buf, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What the crate reads from.
pub(super) struct Chunks(pub(super) Arc<Source>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len
    }
}

impl ChunkReader for Chunks {
    type T = io::BufReader<From>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let from = From {
            source: Arc::clone(&self.0),
            at: start,
        };
        Ok(io::BufReader::with_capacity(HEADER_BYTES, from))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let is_there = start
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.0.len);
        if !is_there {
            return Err(ParquetError::EOF("it is cut off".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.0.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// What went wrong in the crate: the system's errors are the system's.
pub(super) fn told(error: ParquetError) -> RecordError {
    let error = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) if io.raw_os_error().is_some() => return RecordError::Io(*io),
            Ok(io) => return damaged(io.to_string()),
            Err(inner) => return damaged(inner.to_string()),
        },
        error => error,
    };
    let text = error.to_string();
    if text.contains(NOT_BUILT_IN) {
        return damaged("it is compressed in another way than with Snappy, gzip, LZ4 or zstd");
    }
    let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
    damaged(text)
}

/// The pages of a chunk.
pub(super) struct Pages {
    source: Arc<Source>,
    inner: SerializedPageReader<Chunks>,
    /// Where the next page's header is, and where the chunk ends.
    at: u64,
    end: u64,
}

impl Pages {
    pub(super) fn open(
        source: &Arc<Source>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<Self, RecordError> {
        if chunk.file_path().is_some() {
            return Err(damaged("a column lies in another file"));
        }
        let start = chunk.dictionary_page_offset();
        let start = start.unwrap_or_else(|| chunk.data_page_offset());
        let range = u64::try_from(start)
            .ok()
            .zip(u64::try_from(chunk.compressed_size()).ok());
        let within = range.and_then(|(start, len)| Some((start, start.checked_add(len)?)));
        let within = within.filter(|(_, end)| *end <= source.len);
        let (at, end) = within.ok_or_else(|| damaged("a column lies outside the file"))?;
        let chunks = Arc::new(Chunks(Arc::clone(source)));
        let inner = SerializedPageReader::new(chunks, chunk, rows, None).map_err(told)?;
        Ok(Self {
            source: Arc::clone(source),
            inner,
            at,
            end,
        })
    }

    /// The next page; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Page>, RecordError> {
        if !self.check_next()? {
            return Ok(None);
        }
        self.inner.get_next_page().map_err(told)
    }

    /// Looks at the next page's sizes before anything is made of them; `false` at the end.
    fn check_next(&mut self) -> Result<bool, RecordError> {
        if self.at >= self.end {
            return Ok(false);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let mut header = vec![0; HEADER_BYTES.min(left)];
        let sizes = loop {
            let read = self.source.file.read_exact_at(&mut header, self.at);
            read.map_err(RecordError::Io)?;
            match thrift::page_sizes(&header) {
                Some(sizes) => break sizes,
                None if header.len() < HEADER_BYTES_MAX.min(left) => {
                    header.resize(HEADER_BYTES_MAX.min(left), 0);
                }
                None => return Err(damaged("a page without a header")),
            }
        };
        if sizes.unpacked.max(sizes.stored) > PAGE_BYTES_MAX {
            let most = PAGE_BYTES_MAX >> 20;
            return Err(damaged(format!("a page of more than {most} MiB")));
        }
        self.at = self.at.saturating_add(sizes.header + sizes.stored);
        Ok(true)
    }
}
