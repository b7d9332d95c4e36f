//! ORC: stripes, in each some streams for each column.
//!
//! Read here and not by a crate: the one that there is panics where a file is damaged, reads whole stripes into memory, and brings all
//! of Arrow along; what has to be understood are top-level columns of a few plain types.
//! Source: Apache ORC, "ORC Specification v1".

mod proto;
mod runs;
mod stream;

use std::fs::File;
use std::sync::Arc;

use jiff::civil::date;
use jiff::tz::TimeZone;

use self::proto::fields;
use self::runs::{Bits, Coding, Numbers};
use self::stream::{BLOCK_BYTES_MAX, Codec, Source, Stream, raw};
use super::cells::{BATCH_ROWS, Cells, Kind, check_text};
use super::{RecordError, damaged, unfit};
use crate::manifest::error::Problem;
use crate::manifest::schema::Column;

/// The largest description of a file or a stripe, in bytes, decompressed.
const FOOTER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most words that a stripe's dictionary has for a column, and their bytes. Writers give dictionaries up long before that.
const WORDS_MAX: u64 = 4 * 1024 * 1024;
const WORDS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most stripes, and the most columns.
const STRIPES_MAX: usize = 1_000_000;
const COLUMNS_MAX: usize = 10_000;

/// What ends a file: the length of the postscript, in one byte, and before that the postscript.
const POSTSCRIPT_BYTES_MAX: u64 = 256;

/// 2015-01-01 in UTC, in seconds since 1970: what times are counted from.
const EPOCH: i64 = 1_420_070_400;

/// Kinds of types.
mod kind {
    pub(super) const BOOLEAN: u64 = 0;
    pub(super) const SHORT: u64 = 2;
    pub(super) const INT: u64 = 3;
    pub(super) const LONG: u64 = 4;
    pub(super) const DOUBLE: u64 = 6;
    pub(super) const STRING: u64 = 7;
    pub(super) const BINARY: u64 = 8;
    pub(super) const TIMESTAMP: u64 = 9;
    pub(super) const STRUCT: u64 = 12;
    pub(super) const VARCHAR: u64 = 16;
    pub(super) const CHAR: u64 = 17;
    pub(super) const TIMESTAMP_INSTANT: u64 = 18;
    /// Their names, for messages.
    pub(super) const NAMES: [&str; 19] = [
        "boolean",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "float",
        "double",
        "string",
        "binary",
        "timestamp",
        "array",
        "map",
        "struct",
        "union",
        "decimal",
        "date",
        "varchar",
        "char",
        "timestamp with local time zone",
    ];
}

/// Kinds of streams that are used.
mod stream_kind {
    pub(super) const PRESENT: u64 = 0;
    pub(super) const DATA: u64 = 1;
    pub(super) const LENGTH: u64 = 2;
    pub(super) const DICTIONARY_DATA: u64 = 3;
}

/// One stripe: where it lies.
#[derive(Clone, Copy, Debug, Default)]
struct Stripe {
    offset: u64,
    index_len: u64,
    data_len: u64,
    footer_len: u64,
    rows: u64,
}

/// One type of the tree; the first one is the root.
#[derive(Clone, Debug, Default)]
struct TypeOf {
    kind: u64,
    children: Vec<u64>,
    names: Vec<String>,
}

/// An ORC file whose description has been read.
pub(super) struct Table {
    source: Source,
    stripes: Vec<Stripe>,
    /// Top-level columns: name, number, kind.
    columns: Vec<(String, u64, u64)>,
}

impl Table {
    pub(super) fn open(file: File) -> Result<Self, RecordError> {
        let len = file.metadata().map_err(RecordError::Io)?.len();
        let mut source = Source {
            file: Arc::new(file),
            len,
            codec: Codec::None,
            block_max: BLOCK_BYTES_MAX,
        };
        let (footer_at, footer_len) = read_postscript(&mut source)?;
        let footer = Stream::open(&source, footer_at, footer_len)?.all(FOOTER_BYTES_MAX)?;
        let (mut stripes, mut types) = (Vec::new(), Vec::new());
        for field in fields(&footer) {
            match field? {
                (3, stripe) => stripes.push(read_stripe(stripe.bytes()?)?),
                (4, found) => types.push(read_type(found.bytes()?)?),
                (10, _) => return Err(damaged("its columns are encrypted")),
                _ => {}
            }
            if stripes.len() > STRIPES_MAX || types.len() > COLUMNS_MAX {
                return Err(damaged("too many stripes or columns"));
            }
        }
        Ok(Self {
            columns: top_level(&types)?,
            source,
            stripes,
        })
    }

    /// The names of the top-level columns.
    pub(super) fn names(&self) -> Vec<&str> {
        let names = self.columns.iter();
        names.map(|(name, ..)| name.as_str()).collect()
    }

    /// The values of these columns, batch by batch, and the cells for them.
    pub(super) fn batches(
        self,
        wanted: &[(Column, usize)],
    ) -> Result<(Batches, Vec<Cells>), RecordError> {
        let (mut columns, mut cells) = (Vec::new(), Vec::new());
        for &(column, at) in wanted {
            let (_, number, kind) = self.columns[at];
            let reads = Reads::of(column, kind).ok_or_else(|| {
                let found = kind::NAMES.get(kind as usize);
                unfit(column, found.copied().unwrap_or("of an unknown type"))
            })?;
            cells.push(Cells::of(reads.kind()));
            columns.push(Wanted { number, reads });
        }
        let batches = Batches {
            source: self.source,
            stripes: self.stripes.into_iter(),
            columns,
            open: Vec::new(),
            left: 0,
        };
        Ok((batches, cells))
    }
}

/// Reads how the file is compressed, and where its footer lies.
fn read_postscript(source: &mut Source) -> Result<(u64, u64), RecordError> {
    let tail_len = source.len.min(POSTSCRIPT_BYTES_MAX);
    let tail_at = source.len - tail_len;
    let tail = raw(source, tail_at, tail_len as usize).map_err(RecordError::Io)?;
    let not_whole = || damaged("it does not end as an ORC file does");
    let (length, tail) = tail.split_last().ok_or_else(not_whole)?;
    let start = tail.len().checked_sub(usize::from(*length));
    let postscript = start
        .and_then(|start| tail.get(start..))
        .ok_or_else(not_whole)?;
    if !postscript.ends_with(b"ORC") {
        return Err(not_whole());
    }
    let (mut footer_len, mut codec, mut block_max) = (0, 0, BLOCK_BYTES_MAX as u64);
    for field in fields(postscript) {
        match field? {
            (1, length) => footer_len = length.number()?,
            (2, kind) => codec = kind.number()?,
            (3, bytes) => block_max = bytes.number()?,
            _ => {}
        }
    }
    source.codec = match codec {
        0 => Codec::None,
        1 => Codec::Zlib,
        2 => Codec::Snappy,
        3 => return Err(damaged("it is compressed with LZO, which is not read")),
        4 => Codec::Lz4,
        5 => Codec::Zstd,
        _ => return Err(damaged("it is compressed in a way that is not known")),
    };
    if block_max > BLOCK_BYTES_MAX as u64 {
        return Err(damaged("its blocks are too large"));
    }
    source.block_max = block_max as usize;
    let behind = u64::from(*length) + 1;
    let footer_at = (source.len - behind).checked_sub(footer_len);
    Ok((footer_at.ok_or_else(not_whole)?, footer_len))
}

fn read_stripe(message: &[u8]) -> Result<Stripe, RecordError> {
    let mut stripe = Stripe::default();
    for field in fields(message) {
        match field? {
            (1, value) => stripe.offset = value.number()?,
            (2, value) => stripe.index_len = value.number()?,
            (3, value) => stripe.data_len = value.number()?,
            (4, value) => stripe.footer_len = value.number()?,
            (5, value) => stripe.rows = value.number()?,
            _ => {}
        }
    }
    Ok(stripe)
}

fn read_type(message: &[u8]) -> Result<TypeOf, RecordError> {
    let mut found = TypeOf::default();
    for field in fields(message) {
        match field? {
            (1, value) => found.kind = value.number()?,
            (2, value) => value.numbers(&mut found.children)?,
            (3, value) => found.names.push(value.text()?),
            _ => {}
        }
    }
    Ok(found)
}

fn top_level(types: &[TypeOf]) -> Result<Vec<(String, u64, u64)>, RecordError> {
    let not_whole = || damaged("its columns have no names");
    let root = types.first().filter(|root| root.kind == kind::STRUCT);
    let root = root.ok_or_else(not_whole)?;
    if root.children.len() != root.names.len() {
        return Err(not_whole());
    }
    let children = root.names.iter().zip(&root.children);
    children
        .map(|(name, &number)| {
            let found = usize::try_from(number).ok().and_then(|at| types.get(at));
            let found = found.ok_or_else(not_whole)?;
            Ok((name.clone(), number, found.kind))
        })
        .collect()
}

/// How a column's values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Nothing,
    Text,
    Boolean,
    Integer,
    Double,
    /// Seconds since the beginning of 2015, where the writer was.
    LocalTime,
    /// The same in UTC.
    Time,
}

impl Reads {
    /// How the values of a column are read that are of that kind; `None` where they don't serve.
    fn of(column: Column, kind: u64) -> Option<Self> {
        match (column, kind) {
            (_, kind::STRING | kind::BINARY | kind::VARCHAR | kind::CHAR) => Some(Self::Text),
            (Column::LastModifiedDate, kind::TIMESTAMP) => Some(Self::LocalTime),
            (Column::LastModifiedDate, kind::TIMESTAMP_INSTANT) => Some(Self::Time),
            // Nothing depends on it; a date without a time is none.
            (Column::LastModifiedDate, _) => Some(Self::Nothing),
            (Column::IsLatest | Column::IsDeleteMarker, kind::BOOLEAN) => Some(Self::Boolean),
            (Column::Size, kind::SHORT | kind::INT | kind::LONG) => Some(Self::Integer),
            (Column::Size, kind::DOUBLE) => Some(Self::Double),
            _ => None,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Nothing => Kind::Nothing,
            Self::Text => Kind::Text,
            Self::Boolean => Kind::Boolean,
            Self::Integer | Self::Double => Kind::Integer,
            Self::LocalTime | Self::Time => Kind::Seconds,
        }
    }
}

#[derive(Clone, Copy)]
struct Wanted {
    number: u64,
    reads: Reads,
}

/// The rows of a file, some at a time.
pub(super) struct Batches {
    source: Source,
    stripes: std::vec::IntoIter<Stripe>,
    columns: Vec<Wanted>,
    /// The columns of the current stripe.
    open: Vec<Leaf>,
    /// Rows of it that are not read yet.
    left: u64,
}

impl Batches {
    /// Puts the next rows into the cells, and says how many they are; 0 at the end.
    pub(super) fn fill(&mut self, cells: &mut [Cells]) -> Result<usize, RecordError> {
        while self.left == 0 {
            let Some(stripe) = self.stripes.next() else {
                return Ok(0);
            };
            let layout = Layout::read(&self.source, &stripe)?;
            let leaves = self.columns.iter();
            self.open = leaves
                .map(|wanted| layout.open(&self.source, *wanted))
                .collect::<Result<_, _>>()?;
            self.left = stripe.rows;
        }
        let rows = self.left.min(BATCH_ROWS as u64) as usize;
        for (leaf, cells) in self.open.iter_mut().zip(cells) {
            for _ in 0..rows {
                leaf.push_next(cells)?;
            }
        }
        self.left -= rows as u64;
        Ok(rows)
    }
}

/// What a stripe's footer says.
#[derive(Debug, Default)]
struct Layout {
    /// Streams: kind, column, place, length.
    streams: Vec<(u64, u64, u64, u64)>,
    /// Encodings of the columns: kind, and words of the dictionary.
    encodings: Vec<(u64, u64)>,
    zone: Option<String>,
}

impl Layout {
    fn read(source: &Source, stripe: &Stripe) -> Result<Self, RecordError> {
        let outside = || damaged("a stripe lies outside the file");
        let footer_at = stripe.offset.checked_add(stripe.index_len);
        let footer_at = footer_at.and_then(|at| at.checked_add(stripe.data_len));
        let footer_at = footer_at.ok_or_else(outside)?;
        let footer = Stream::open(source, footer_at, stripe.footer_len)?.all(FOOTER_BYTES_MAX)?;
        let mut layout = Self::default();
        let mut at = stripe.offset;
        for field in fields(&footer) {
            match field? {
                (1, stream) => {
                    let (mut kind, mut column, mut length) = (0, 0, 0);
                    for field in fields(stream.bytes()?) {
                        match field? {
                            (1, value) => kind = value.number()?,
                            (2, value) => column = value.number()?,
                            (3, value) => length = value.number()?,
                            _ => {}
                        }
                    }
                    layout.streams.push((kind, column, at, length));
                    at = at.checked_add(length).ok_or_else(outside)?;
                }
                (2, encoding) => {
                    let (mut kind, mut words) = (0, 0);
                    for field in fields(encoding.bytes()?) {
                        match field? {
                            (1, value) => kind = value.number()?,
                            (2, value) => words = value.number()?,
                            _ => {}
                        }
                    }
                    layout.encodings.push((kind, words));
                }
                (3, zone) => layout.zone = Some(zone.text()?),
                _ => {}
            }
        }
        if at > footer_at {
            return Err(damaged("streams that are longer than their stripe"));
        }
        if layout.find(stream_kind::PRESENT, 0).is_some() {
            return Err(damaged("rows that are null"));
        }
        Ok(layout)
    }

    fn find(&self, kind: u64, column: u64) -> Option<(u64, u64)> {
        let mut streams = self.streams.iter();
        let found = streams.find(|(found, of, ..)| (*found, *of) == (kind, column));
        found.map(|&(_, _, at, length)| (at, length))
    }

    /// One column of the stripe, at its first row. A stream that is not there is one without a byte.
    fn open(&self, source: &Source, wanted: Wanted) -> Result<Leaf, RecordError> {
        let Wanted { number, reads } = wanted;
        let stream = |kind| {
            let (at, length) = self.find(kind, number).unwrap_or_default();
            Stream::open(source, at, length)
        };
        let present = self.find(stream_kind::PRESENT, number);
        let present = present.map(|(at, length)| Stream::open(source, at, length).map(Bits::new));
        let encoding = usize::try_from(number)
            .ok()
            .and_then(|at| self.encodings.get(at));
        let &(encoding, words) = encoding.ok_or_else(|| damaged("a column without an encoding"))?;
        let (has_words, second) = match encoding {
            0..=3 => (encoding & 1 == 1, encoding & 2 == 2),
            _ => return Err(damaged("an encoding that is not known")),
        };
        let numbers = |kind, signed| {
            Ok::<_, RecordError>(Numbers::new(stream(kind)?, Coding { second, signed }))
        };
        let values = match reads {
            Reads::Nothing => Values::Nothing,
            Reads::Text if has_words => {
                let lengths = numbers(stream_kind::LENGTH, false)?;
                let dictionary =
                    Words::read(words, lengths, stream(stream_kind::DICTIONARY_DATA)?)?;
                Values::Words(numbers(stream_kind::DATA, false)?, dictionary)
            }
            Reads::Text => Values::Text {
                lengths: numbers(stream_kind::LENGTH, false)?,
                bytes: stream(stream_kind::DATA)?,
                scratch: Vec::new(),
            },
            Reads::Boolean => Values::Boolean(Bits::new(stream(stream_kind::DATA)?)),
            Reads::Integer => Values::Integer(numbers(stream_kind::DATA, true)?, 0),
            Reads::Double => Values::Double(stream(stream_kind::DATA)?),
            Reads::Time => Values::Integer(numbers(stream_kind::DATA, true)?, EPOCH),
            Reads::LocalTime => match self.epoch() {
                Some(epoch) => Values::Integer(numbers(stream_kind::DATA, true)?, epoch),
                None => Values::Nothing,
            },
        };
        Ok(Leaf {
            present: present.transpose()?,
            values,
        })
    }

    /// When 2015 began where the writer was, in seconds since 1970; `None` where that can't be told.
    fn epoch(&self) -> Option<i64> {
        let Some(zone) = &self.zone else {
            return Some(EPOCH);
        };
        let zone = TimeZone::get(zone).ok()?;
        let begin = date(2015, 1, 1).to_zoned(zone).ok()?;
        Some(begin.timestamp().as_second())
    }
}

/// One column of a stripe, at its next row.
struct Leaf {
    present: Option<Bits>,
    values: Values,
}

enum Values {
    Nothing,
    Text {
        lengths: Numbers,
        bytes: Stream,
        scratch: Vec<u8>,
    },
    Words(Numbers, Words),
    Boolean(Bits),
    /// Numbers, and what is added to each.
    Integer(Numbers, i64),
    Double(Stream),
}

impl Leaf {
    fn push_next(&mut self, cells: &mut Cells) -> Result<(), RecordError> {
        if let Some(present) = &mut self.present
            && !present.next()?
        {
            cells.push_nothing();
            return Ok(());
        }
        match &mut self.values {
            Values::Nothing => cells.push_nothing(),
            Values::Text {
                lengths,
                bytes,
                scratch,
            } => {
                let length = text_length(lengths.next()?)?;
                let text = bytes.take(length, scratch)?;
                cells.push_text(text).map_err(RecordError::Broken)?;
            }
            Values::Words(numbers, words) => {
                let word = words.get(numbers.next()?)?;
                cells.push_text(word).map_err(RecordError::Broken)?;
            }
            Values::Boolean(bits) => cells.push_number(i64::from(bits.next()?)),
            Values::Integer(numbers, more) => {
                cells.push_number(numbers.next()?.wrapping_add(*more));
            }
            Values::Double(stream) => {
                let mut bytes = [0; 8];
                for byte in &mut bytes {
                    *byte = stream.byte()?;
                }
                cells.push_number(super::whole(f64::from_le_bytes(bytes)));
            }
        }
        Ok(())
    }
}

fn text_length(length: i64) -> Result<usize, RecordError> {
    let length = usize::try_from(length).map_err(|_| damaged("a negative length"))?;
    check_text(length).map_err(RecordError::Broken)?;
    Ok(length)
}

/// A dictionary.
struct Words {
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<u32>,
}

impl Words {
    fn read(words: u64, mut lengths: Numbers, mut bytes: Stream) -> Result<Self, RecordError> {
        if words > WORDS_MAX {
            return Err(RecordError::Broken(Problem::DictionaryTooLarge));
        }
        let (mut all, mut ends, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..words {
            let length = text_length(lengths.next()?)?;
            all.extend_from_slice(bytes.take(length, &mut scratch)?);
            if all.len() > WORDS_BYTES_MAX {
                return Err(RecordError::Broken(Problem::DictionaryTooLarge));
            }
            ends.push(all.len() as u32);
        }
        Ok(Self { bytes: all, ends })
    }

    fn get(&self, word: i64) -> Result<&[u8], RecordError> {
        let at = usize::try_from(word).ok();
        let end = at.and_then(|at| self.ends.get(at));
        let start = at
            .and_then(|at| at.checked_sub(1))
            .map_or(Some(&0), |at| self.ends.get(at));
        let range = start
            .zip(end)
            .map(|(start, end)| *start as usize..*end as usize);
        let word = range.and_then(|range| self.bytes.get(range));
        word.ok_or_else(|| damaged("a word that the dictionary does not have"))
    }
}
