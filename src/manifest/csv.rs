//! CSV records out of bytes, strictly.
//!
//! The `csv` crate prefers *a* parse over *no* parse: it takes a quoted field that the end of the file cuts off for a
//! whole one, joins what follows a closing quote to the field, skips blank lines, and has no limit on a record's
//! length. Here a cut field would be the key of another object, and an open quote would take the whole manifest into
//! memory. So the splitting is done by hand, by RFC 4180: LF or CRLF, fields quoted or not, `""` for a quote,
//! line breaks inside quotes; everything else is a [`Problem`]. Both buffers are used again for every record.

use std::io::{self, BufRead};
use std::ops::Range;

use super::error::Problem;
use super::format::Format;
use super::records::RecordError;

/// The longest record, in bytes of its text. A key has at most 3 KiB when every byte is percent-encoded; the longest
/// column is an ACL of 100 grants in base64, some 25 KiB. The rest is room.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Splits text into records.
pub(super) struct Records<R> {
    text: R,
    /// The current record, its quotes and line ends included; unescaping happens in place.
    raw: Vec<u8>,
    /// Where its fields are.
    fields: Vec<Range<usize>>,
    /// Lines read so far.
    lines: u64,
    /// The line that the current record begins on.
    line: u64,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(text: R) -> Self {
        Self {
            text,
            raw: Vec::new(),
            fields: Vec::new(),
            lines: 0,
            line: 0,
        }
    }

    /// Line on which the current record begins, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Number of fields of the current record.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// One field of the current record; empty where there is none.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        self.fields
            .get(index)
            .map_or(&[], |field| &self.raw[field.clone()])
    }

    /// Goes on to the next record; `false` at the end of the text.
    pub(super) fn advance(&mut self) -> Result<bool, RecordError> {
        self.raw.clear();
        self.fields.clear();
        self.line = self.lines + 1;
        let line = self.append_line();
        if self.line == 1 {
            check_start(&self.raw)?;
        }
        if !line? {
            return Ok(false);
        }
        if self.content_end() == 0 {
            return Err(RecordError::Malformed(Problem::BlankLine));
        }
        self.split()?;
        Ok(true)
    }

    /// Finds the fields of the record that begins with the line in `raw`.
    fn split(&mut self) -> Result<(), RecordError> {
        let mut at = 0;
        loop {
            let (field, next) = if self.raw.get(at) == Some(&b'"') {
                self.quoted_field(at)?
            } else {
                self.plain_field(at)?
            };
            self.fields.push(field);
            if next >= self.content_end() {
                return Ok(());
            }
            if self.raw[next] != b',' {
                return Err(RecordError::Malformed(Problem::StrayQuote));
            }
            at = next + 1;
        }
    }

    /// The unquoted field at `at`, and where it ends.
    fn plain_field(&self, at: usize) -> Result<(Range<usize>, usize), RecordError> {
        let end = self.content_end();
        let Some(found) = memchr::memchr3(b',', b'"', b'\r', &self.raw[at..end]) else {
            return Ok((at..end, end));
        };
        match self.raw[at + found] {
            b'"' => Err(RecordError::Malformed(Problem::StrayQuote)),
            b'\r' => Err(RecordError::Malformed(Problem::CarriageReturn)),
            _ => Ok((at..at + found, at + found)),
        }
    }

    /// The field whose opening quote is at `at`, and what follows its closing quote. Reads on where the field has line
    /// breaks.
    fn quoted_field(&mut self, at: usize) -> Result<(Range<usize>, usize), RecordError> {
        let start = at + 1;
        // What is between `run` and `search` holds no quote; what is before `write` is unescaped.
        let (mut write, mut run, mut search) = (start, start, start);
        loop {
            let Some(found) = memchr::memchr(b'"', &self.raw[search..]) else {
                search = self.raw.len();
                if !self.append_line()? {
                    return Err(RecordError::Broken(Problem::UnclosedQuote));
                }
                continue;
            };
            let quote = search + found;
            if write != run {
                self.raw.copy_within(run..quote, write);
            }
            write += quote - run;
            if self.raw.get(quote + 1) != Some(&b'"') {
                return Ok((start..write, quote + 1));
            }
            self.raw[write] = b'"';
            write += 1;
            run = quote + 2;
            search = run;
        }
    }

    /// Length of `raw` without the line end.
    fn content_end(&self) -> usize {
        let raw = self.raw.strip_suffix(b"\n").unwrap_or(&self.raw);
        raw.strip_suffix(b"\r").unwrap_or(raw).len()
    }

    /// Reads one line more into `raw`, its line end included; `false` at the end of the text.
    fn append_line(&mut self) -> Result<bool, RecordError> {
        let before = self.raw.len();
        loop {
            let available = match self.text.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(error)),
            };
            let newline = memchr::memchr(b'\n', available);
            let taken = newline.map_or(available.len(), |at| at + 1);
            if self.raw.len() + taken > RECORD_BYTES_MAX {
                return Err(RecordError::Broken(Problem::RowTooLong));
            }
            self.raw.extend_from_slice(&available[..taken]);
            self.text.consume(taken);
            if newline.is_some() || taken == 0 {
                let any = self.raw.len() > before;
                self.lines += u64::from(any);
                return Ok(any);
            }
        }
    }
}

/// Finds out by its first bytes that a file is no UTF-8 text, or has a mark before it.
fn check_start(text: &[u8]) -> Result<(), RecordError> {
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(RecordError::Broken(Problem::ByteOrderMark));
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(RecordError::Broken(Problem::Utf16));
    }
    match Format::of(text) {
        Format::Csv => Ok(()),
        other => Err(RecordError::Broken(Problem::Table(other.name()))),
    }
}

/// Tells a decompressor's complaint from the system's: only the system's has an error number.
fn read_error(error: io::Error) -> RecordError {
    if error.raw_os_error().is_some() {
        RecordError::Io(error)
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        RecordError::Broken(Problem::GzipTruncated)
    } else {
        RecordError::Broken(Problem::Gzip(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<Vec<u8>>;

    /// All records of a text with their lines, or the first problem with its line.
    fn records(text: &[u8]) -> Result<Vec<(u64, Fields)>, (u64, Problem)> {
        let mut records = Records::new(text);
        let mut all = Vec::new();
        loop {
            match records.advance() {
                Ok(true) => {
                    let fields = (0..records.len()).map(|at| records.field(at).to_vec());
                    let fields = fields.collect();
                    all.push((records.line(), fields));
                }
                Ok(false) => return Ok(all),
                Err(RecordError::Malformed(problem) | RecordError::Broken(problem)) => {
                    return Err((records.line(), problem));
                }
                Err(RecordError::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn records_begin_on_the_lines_that_an_editor_shows() {
        let text = b"a,b\r\n\"x\ny\",\"\"\"q\"\"\"\n,\nlast,";
        let expected: [(u64, [&[u8]; 2]); 4] = [
            (1, [b"a", b"b"]),
            (2, [b"x\ny", b"\"q\""]),
            (4, [b"", b""]),
            (5, [b"last", b""]),
        ];
        let found = records(text).expect("sound");
        assert_eq!(found.len(), expected.len());
        for ((line, fields), (expected_line, expected)) in found.iter().zip(expected) {
            assert_eq!(
                (*line, fields.as_slice()),
                (expected_line, &expected.map(<[u8]>::to_vec)[..])
            );
        }
    }

    #[test]
    fn what_a_lenient_parser_would_guess_is_refused() {
        let long = [b"\"", "x\n".repeat(RECORD_BYTES_MAX / 2).as_bytes()].concat();
        let table: [(&[u8], u64, Problem); 9] = [
            (b"a,b\n\na,b\n", 2, Problem::BlankLine),
            (b"a,b\n\r\n", 2, Problem::BlankLine),
            (b"a,b\na,\"cut", 2, Problem::UnclosedQuote),
            (b"a,\"b\"c\n", 1, Problem::StrayQuote),
            (b"a,b\"c\"\n", 1, Problem::StrayQuote),
            (b"a,b\rc,d\n", 1, Problem::CarriageReturn),
            (b"\xef\xbb\xbf\"a\",b\n", 1, Problem::ByteOrderMark),
            (b"\xff\xfea\0,\0", 1, Problem::Utf16),
            (&long, 1, Problem::RowTooLong),
        ];
        for (text, line, problem) in table {
            assert_eq!(records(text), Err((line, problem)));
        }
    }

    proptest! {
        /// The `csv` crate is the oracle: what it writes is read, ...
        #[test]
        fn what_a_writer_wrote_is_read(
            rows in prop::collection::vec(prop::collection::vec("[a\",\r\n\u{e9}]{0,6}", 2..4), 0..6),
            always in any::<bool>(),
            crlf in any::<bool>(),
        ) {
            let mut writer = ::csv::WriterBuilder::new()
                .flexible(true)
                .quote_style(if always { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary })
                .terminator(if crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("to memory");
            }
            let text = writer.into_inner().expect("to memory");
            let found: Vec<_> = records(&text).expect("sound").into_iter().map(|(_, row)| row).collect();
            let rows: Vec<Fields> = rows
                .into_iter()
                .map(|row| row.into_iter().map(String::into_bytes).collect())
                .collect();
            prop_assert_eq!(found, rows);
        }

        /// ... and what is read at all is read as it reads it.
        #[test]
        fn what_is_accepted_is_what_every_parser_sees(text in "[a,\"\r\n]{0,24}") {
            let Ok(found) = records(text.as_bytes()) else { return Ok(()) };
            let mut reader = ::csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes());
            let expected: Vec<Fields> = reader
                .byte_records()
                .map(|row| row.expect("it never refuses").iter().map(<[u8]>::to_vec).collect())
                .collect();
            let found: Vec<_> = found.into_iter().map(|(_, row)| row).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
