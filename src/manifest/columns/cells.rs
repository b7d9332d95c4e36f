//! Values of one column, some rows of them.

use super::super::error::Problem;
use super::super::records::Value;

/// Rows that are decoded at a time.
pub(super) const BATCH_ROWS: usize = 512;

/// The longest text in a column that is used, in bytes: a key or a version id has 1,024 at most, and three times as many where it is
/// URL-encoded. The rest is room.
pub(in super::super) const CELL_BYTES_MAX: usize = 16 * 1024;

/// What a column's values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// None of them tells anything.
    #[default]
    Nothing,
    Text,
    Integer,
    Seconds,
    Boolean,
}

/// Values of one column.
#[derive(Debug, Default)]
pub(super) struct Cells {
    kind: Kind,
    /// Whether each row has a value.
    present: Vec<bool>,
    /// Numbers, and truth as 0 and 1. Of text, where each row's ends.
    numbers: Vec<i64>,
    text: Vec<u8>,
}

impl Cells {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    pub(super) fn clear(&mut self) {
        self.present.clear();
        self.numbers.clear();
        self.text.clear();
    }

    pub(super) fn push_nothing(&mut self) {
        self.present.push(false);
        let end = self.text.len() as i64;
        self.numbers.push(end);
    }

    pub(super) fn push_number(&mut self, number: i64) {
        self.present.push(true);
        self.numbers.push(number);
    }

    pub(super) fn push_text(&mut self, text: &[u8]) -> Result<(), Problem> {
        check_text(text.len())?;
        self.present.push(!text.is_empty());
        self.text.extend_from_slice(text);
        self.numbers.push(self.text.len() as i64);
        Ok(())
    }

    /// The value of a row; `Absent` where there is no such row.
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        let has_value = self.present.get(row).copied().unwrap_or_default();
        let Some(number) = self.numbers.get(row).copied().filter(|_| has_value) else {
            return Value::Absent;
        };
        match self.kind {
            Kind::Nothing => Value::Absent,
            Kind::Integer => Value::Integer(number),
            Kind::Seconds => Value::Seconds(number),
            Kind::Boolean => Value::Boolean(number != 0),
            Kind::Text => {
                let before = row.checked_sub(1).and_then(|row| self.numbers.get(row));
                let range = before.map_or(0, |end| *end as usize)..number as usize;
                Value::Text(self.text.get(range).unwrap_or_default())
            }
        }
    }
}

/// Whether a text is one that a column in use may have.
pub(super) fn check_text(bytes: usize) -> Result<(), Problem> {
    if bytes > CELL_BYTES_MAX {
        return Err(Problem::CellTooLong { bytes });
    }
    Ok(())
}
