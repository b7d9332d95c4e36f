//! Records of a data file, whatever its format: rows and values by their columns. What comes after knows no formats.

use std::fs::File;
use std::io::{self, BufRead};

use super::columns;
use super::csv;
use super::error::{ManifestError, Place, Problem};
use super::format::Format;
use super::schema::Schema;
use super::text::{self, Text};

/// Why there is no record.
#[derive(Debug)]
pub(super) enum RecordError {
    /// This record is malformed; the next one may be sound.
    Malformed(Problem),
    /// The file can't be read on.
    Broken(Problem),
    /// Reading failed.
    Io(io::Error),
}

/// What stands in one column of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing. In text, nothing is an empty field.
    Absent,
    /// Text, or what shall be text.
    Text(&'a [u8]),
    /// A number.
    Integer(i64),
    /// A point in time, in seconds since 1970.
    Seconds(i64),
    /// Yes or no.
    Boolean(bool),
}

impl<'a> Value<'a> {
    /// The text; empty where there is none.
    pub(super) fn text(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text,
            Self::Absent | Self::Integer(_) | Self::Seconds(_) | Self::Boolean(_) => &[],
        }
    }
}

/// Reads a data file, record by record.
pub(super) enum Records<R> {
    /// Text, with the columns in the order of the schema.
    Csv(csv::Records<R>),
    /// Columns by their names; what a record has of them is in the order of the schema.
    Columns(Box<columns::Records>),
}

impl Records<Text<'static>> {
    /// Opens a data file that is of that schema.
    ///
    /// # Errors
    /// It can't be read; it is of another format, or without the columns of the schema.
    pub(super) fn open(file: File, name: &str, schema: &Schema) -> Result<Self, ManifestError> {
        match schema.format() {
            Format::Csv => {
                let text = text::text(file).map_err(|error| ManifestError::io(name, error))?;
                Ok(Self::Csv(csv::Records::new(text)))
            }
            format => {
                let table = columns::Table::open(file, name, format)?;
                let records = table.records(schema);
                let records = records.map_err(|error| error.of_file(name))?;
                Ok(Self::Columns(Box::new(records)))
            }
        }
    }
}

impl<R: BufRead> Records<R> {
    /// Goes on to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, RecordError> {
        match self {
            Self::Csv(records) => records.advance(),
            Self::Columns(records) => records.advance(),
        }
    }

    /// Where the current record begins.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Csv(records) => Place::Line(records.line()),
            Self::Columns(records) => Place::Row(records.row()),
        }
    }

    /// Number of columns of the current record.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Csv(records) => records.len(),
            Self::Columns(records) => records.len(),
        }
    }

    /// One value of the current record.
    pub(super) fn value(&self, column: usize) -> Value<'_> {
        match self {
            Self::Csv(records) => match records.field(column) {
                [] => Value::Absent,
                text => Value::Text(text),
            },
            Self::Columns(records) => records.value(column),
        }
    }

    /// The values of the current record.
    pub(super) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.len()).map(|column| self.value(column))
    }
}

impl RecordError {
    /// As an error of the manifest, of a whole file.
    pub(super) fn of_file(self, name: &str) -> ManifestError {
        match self {
            Self::Malformed(problem) | Self::Broken(problem) => {
                ManifestError::fault(name, None, problem)
            }
            Self::Io(error) => ManifestError::io(name, error),
        }
    }
}
