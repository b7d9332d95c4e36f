//! Values out of pages.

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;

use super::super::cells::Cells;
use super::super::{RecordError, damaged, whole};
use super::pages::Pages;
use super::{Reads, Stored, delta};

/// 1970-01-01, in the days that twelve-byte times are counted in.
const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;
const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The widest number in a dictionary page's references, in bits.
const INDEX_BITS_MAX: u8 = 32;

fn short() -> RecordError {
    damaged("a page ends before its values do")
}

/// One column of a row group, at its next row.
pub(super) struct Leaf {
    stored: Stored,
    pages: Pages,
    dictionary: Option<Dictionary>,
    page: Option<Values>,
}

impl Leaf {
    pub(super) fn new(stored: Stored, pages: Pages) -> Self {
        Self {
            stored,
            pages,
            dictionary: None,
            page: None,
        }
    }

    /// Puts the values of the next rows into the cells.
    pub(super) fn fill(&mut self, rows: usize, cells: &mut Cells) -> Result<(), RecordError> {
        if self.stored.reads == Reads::Nothing {
            (0..rows).for_each(|_| cells.push_nothing());
            return Ok(());
        }
        for _ in 0..rows {
            loop {
                if let Some(page) = self.page.as_mut().filter(|page| page.rows > 0) {
                    page.push_next(self.stored, self.dictionary.as_ref(), cells)?;
                    break;
                }
                self.turn_page()?;
            }
        }
        Ok(())
    }

    fn turn_page(&mut self) -> Result<(), RecordError> {
        let page = self.pages.next()?;
        let page = page.ok_or_else(|| damaged("a column ends before its row group does"))?;
        if let Page::DictionaryPage { buf, encoding, .. } = &page {
            let is_plain = matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY);
            if !is_plain {
                return Err(damaged("a dictionary in an encoding that none has"));
            }
            self.dictionary = Some(Dictionary::of(self.stored, buf)?);
            return Ok(());
        }
        self.page = Some(Values::of(self.stored, &page)?);
        Ok(())
    }
}

/// A page's values, from the next on.
struct Values {
    /// Rows that are not read.
    rows: usize,
    levels: Option<Hybrid>,
    encoded: Encoded,
}

enum Encoded {
    Plain(Plain),
    /// References to a dictionary.
    References(Hybrid),
    /// Truth.
    Truth(Hybrid),
}

impl Values {
    fn of(stored: Stored, page: &Page) -> Result<Self, RecordError> {
        let buffer = page.buffer();
        let cut = |at: usize| {
            let is_within = at <= buffer.len();
            is_within
                .then(|| (buffer.slice(..at), buffer.slice(at..)))
                .ok_or_else(|| damaged("levels that are longer than their page"))
        };
        let (levels, values) = match page {
            // Of nothing but columns of the first level there is none but whether a value is there.
            Page::DataPageV2 {
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let (before, length) =
                    (*rep_levels_byte_len as usize, *def_levels_byte_len as usize);
                let (levels, values) = cut(before.saturating_add(length))?;
                (levels.slice(before..), values)
            }
            Page::DataPage {
                def_level_encoding, ..
            } if stored.has_levels => {
                if *def_level_encoding != Encoding::RLE {
                    return Err(damaged("levels in an encoding that nobody writes any more"));
                }
                let length = buffer.first_chunk().ok_or_else(short)?;
                let (levels, values) =
                    cut((u32::from_le_bytes(*length) as usize).saturating_add(4))?;
                (levels.slice(4..), values)
            }
            Page::DataPage { .. } | Page::DictionaryPage { .. } => (Bytes::new(), buffer.clone()),
        };
        Ok(Self {
            rows: page.num_values() as usize,
            levels: stored.has_levels.then(|| Hybrid::new(levels, 1)),
            encoded: Encoded::of(stored.kind, page.encoding(), values)?,
        })
    }

    fn push_next(
        &mut self,
        stored: Stored,
        dictionary: Option<&Dictionary>,
        cells: &mut Cells,
    ) -> Result<(), RecordError> {
        self.rows -= 1;
        if let Some(levels) = &mut self.levels
            && levels.next()? == 0
        {
            cells.push_nothing();
            return Ok(());
        }
        match &mut self.encoded {
            Encoded::Plain(plain) if stored.reads == Reads::Text => {
                let text = plain.text()?;
                cells.push_text(text).map_err(RecordError::Broken)
            }
            Encoded::Plain(plain) => {
                cells.push_number(plain.number(stored)?);
                Ok(())
            }
            Encoded::Truth(hybrid) => {
                cells.push_number(i64::from(hybrid.next()?));
                Ok(())
            }
            Encoded::References(hybrid) => {
                let at = hybrid.next()? as usize;
                let none = || damaged("a page that refers to what no dictionary before it has");
                dictionary.ok_or_else(none)?.push(at, cells, none)
            }
        }
    }
}

impl Encoded {
    fn of(kind: Type, encoding: Encoding, values: Bytes) -> Result<Self, RecordError> {
        let plain = |bytes: Result<Vec<u8>, &str>| {
            let bytes = bytes.map_err(damaged)?;
            Ok(Self::Plain(Plain::new(bytes.into())))
        };
        match (encoding, kind) {
            (Encoding::PLAIN, Type::BOOLEAN) => Ok(Self::Truth(Hybrid::all_packed(values))),
            (Encoding::PLAIN, _) => Ok(Self::Plain(Plain::new(values))),
            // The length, which nobody needs, and runs.
            (Encoding::RLE, Type::BOOLEAN) if values.len() >= 4 => {
                Ok(Self::Truth(Hybrid::new(values.slice(4..), 1)))
            }
            (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, _) => {
                let width = *values.first().unwrap_or(&0);
                if width > INDEX_BITS_MAX {
                    return Err(damaged("references that are too wide"));
                }
                let references = values.slice(values.len().min(1)..);
                Ok(Self::References(Hybrid::new(references, u32::from(width))))
            }
            (Encoding::DELTA_BINARY_PACKED, Type::INT32) => plain(delta::numbers(&values, 4)),
            (Encoding::DELTA_BINARY_PACKED, Type::INT64) => plain(delta::numbers(&values, 8)),
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, Type::BYTE_ARRAY) => plain(delta::texts(&values)),
            (Encoding::DELTA_BYTE_ARRAY, Type::BYTE_ARRAY) => plain(delta::prefixed_texts(&values)),
            (encoding, kind) => Err(damaged(format!("{kind} in {encoding}, which is not read"))),
        }
    }
}

/// Values as they are, one after the other.
struct Plain {
    bytes: Bytes,
    at: usize,
}

impl Plain {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], RecordError> {
        let end = self.at.checked_add(bytes).ok_or_else(short)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| short())
    }

    fn text(&mut self) -> Result<&[u8], RecordError> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    fn number(&mut self, stored: Stored) -> Result<i64, RecordError> {
        Ok(match stored.reads {
            Reads::Integer32 => i64::from(i32::from_le_bytes(self.array()?)),
            Reads::Integer64 => i64::from_le_bytes(self.array()?),
            Reads::Double => whole(f64::from_le_bytes(self.array()?)),
            Reads::Time(unit) => i64::from_le_bytes(self.array()?).div_euclid(unit),
            Reads::Time96 => {
                let nanos = u64::from_le_bytes(self.array()?);
                let day = i64::from(u32::from_le_bytes(self.array()?));
                let seconds = (nanos / NANOS_PER_SECOND).cast_signed();
                (day - JULIAN_DAY_OF_EPOCH) * SECONDS_PER_DAY + seconds
            }
            Reads::Nothing | Reads::Text | Reads::Boolean => {
                return Err(damaged("a number in a column that has none"));
            }
        })
    }

    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// The values that pages refer to.
enum Dictionary {
    Text {
        bytes: Bytes,
        /// Where each begins, its length before it.
        starts: Vec<u32>,
    },
    Numbers(Vec<i64>),
}

impl Dictionary {
    /// Everything in the page: it need not be believed how many they are.
    fn of(stored: Stored, page: &Bytes) -> Result<Self, RecordError> {
        let mut plain = Plain::new(page.clone());
        if stored.reads == Reads::Text {
            let mut starts = Vec::new();
            while !plain.is_at_end() {
                starts.push(plain.at as u32);
                plain.text()?;
            }
            return Ok(Self::Text {
                bytes: page.clone(),
                starts,
            });
        }
        let mut numbers = Vec::new();
        while !plain.is_at_end() {
            numbers.push(plain.number(stored)?);
        }
        Ok(Self::Numbers(numbers))
    }

    fn push(
        &self,
        at: usize,
        cells: &mut Cells,
        none: impl Fn() -> RecordError,
    ) -> Result<(), RecordError> {
        match self {
            Self::Numbers(numbers) => {
                cells.push_number(*numbers.get(at).ok_or_else(none)?);
                Ok(())
            }
            Self::Text { bytes, starts } => {
                let start = *starts.get(at).ok_or_else(&none)? as usize;
                let rest = bytes.get(start..).ok_or_else(&none)?;
                let (length, rest) = rest.split_first_chunk().ok_or_else(&none)?;
                let text = rest.get(..u32::from_le_bytes(*length) as usize);
                let text = text.ok_or_else(none)?;
                cells.push_text(text).map_err(RecordError::Broken)
            }
        }
    }
}

/// Small numbers, in runs of the same and runs of some that are packed, the first in the lowest bits.
struct Hybrid {
    bytes: Bytes,
    at: usize,
    width: u32,
    /// Of the current run.
    left: u64,
    /// The number of a run of the same; none where they are packed.
    same: Option<u32>,
    held: u64,
    bits: u32,
}

impl Hybrid {
    fn new(bytes: Bytes, width: u32) -> Self {
        Self {
            bytes,
            at: 0,
            width,
            left: 0,
            same: None,
            held: 0,
            bits: 0,
        }
    }

    /// Truth without runs.
    fn all_packed(bytes: Bytes) -> Self {
        Self {
            left: u64::MAX,
            ..Self::new(bytes, 1)
        }
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.at).ok_or_else(short)?;
        self.at += 1;
        Ok(byte)
    }

    fn next(&mut self) -> Result<u32, RecordError> {
        while self.left == 0 {
            self.next_run()?;
        }
        self.left -= 1;
        if let Some(same) = self.same {
            return Ok(same);
        }
        while self.bits < self.width {
            self.held |= u64::from(self.byte()?) << self.bits;
            self.bits += 8;
        }
        let mask = (1_u64 << self.width) - 1;
        let number = (self.held & mask) as u32;
        self.held >>= self.width;
        self.bits -= self.width;
        Ok(number)
    }

    fn next_run(&mut self) -> Result<(), RecordError> {
        let mut head = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            head |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        (self.held, self.bits) = (0, 0);
        if head & 1 == 1 {
            self.left = (head >> 1) * 8;
            self.same = None;
            return Ok(());
        }
        self.left = head >> 1;
        let mut same = 0;
        for at in 0..self.width.div_ceil(8) {
            same |= u32::from(self.byte()?) << (at * 8);
        }
        self.same = Some(same);
        Ok(())
    }
}
