//! Local files, opened as text: gunzipped where their first bytes say so.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::{ManifestError, Problem};

/// Capacity of each read buffer, in bytes.
const BUFFER_BYTES: usize = 128 * 1024;

/// How gzip data begins. Source: RFC 1952, section 2.3.1. No bucket's name does.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Text that is read once, from its start.
pub(super) type Text<'a> = Box<dyn BufRead + Send + 'a>;

/// Opens a regular file; `name` is for messages. A pipe can't be read a second time, and every manifest is.
pub(super) fn open(path: &Path, name: &str) -> Result<File, ManifestError> {
    let io = |error| ManifestError::io(name, error);
    if !fs::metadata(path).map_err(io)?.is_file() {
        let what = "it is no regular file; a pipe is read with --manifest -".to_owned();
        return Err(ManifestError::fault(name, None, Problem::Unreadable(what)));
    }
    File::open(path).map_err(io)
}

/// The text in `raw`, gzip or not, of one or more gzip members. What is wrong with the gzip data, or follows it, is an
/// error when the reading gets there.
pub(super) fn text<'a>(mut raw: impl Read + Send + 'a) -> io::Result<Text<'a>> {
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    raw.by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    let gzip = head == GZIP_MAGIC;
    let raw = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(raw));
    if !gzip {
        return Ok(Box::new(raw));
    }
    let gunzip = MultiGzDecoder::new(raw);
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, gunzip)))
}
