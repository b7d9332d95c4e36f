//! Data files that hold columns: Parquet and ORC.
//!
//! Both say at their end what their columns are called and where they lie. Only those that a manifest uses are read, and of these a
//! page (Parquet) or a compressed block (ORC) at a time, so that neither row groups nor stripes have to fit into memory. What a file
//! says of sizes is believed within bounds only: it comes from outside.

mod cells;
mod orc;
mod parquet;

use std::fs::File;

pub(super) use cells::CELL_BYTES_MAX;

use self::cells::Cells;
use super::error::{ManifestError, Problem};
use super::format::Format;
use super::records::{RecordError, Value};
use super::schema::{Column, Schema};

/// A data file of columns, of which the end has been read.
pub(super) struct Table(Inner);

enum Inner {
    Parquet(parquet::Table),
    Orc(orc::Table),
}

impl Table {
    /// Reads the end of a file.
    ///
    /// # Errors
    /// It can't be read, or is none of that format.
    pub(super) fn open(file: File, name: &str, format: Format) -> Result<Self, ManifestError> {
        let opened = match format {
            Format::Parquet => parquet::Table::open(file).map(Inner::Parquet),
            Format::Orc => orc::Table::open(file).map(Inner::Orc),
            Format::Csv => Err(RecordError::Broken(Problem::Format("CSV".to_owned()))),
        };
        opened.map(Self).map_err(|error| error.of_file(name))
    }

    /// The names of its columns.
    pub(super) fn names(&self) -> Vec<&str> {
        match &self.0 {
            Inner::Parquet(table) => table.names(),
            Inner::Orc(table) => table.names(),
        }
    }

    /// Its records, as far as the schema uses them.
    ///
    /// # Errors
    /// A column of the schema is not there, or of a type that does not serve.
    pub(super) fn records(self, schema: &Schema) -> Result<Records, RecordError> {
        let names = self.names();
        let mut positions = Vec::new();
        for column in schema.columns() {
            let at = names.iter().position(|name| column.is_named(name));
            let at = at.ok_or_else(|| {
                RecordError::Broken(Problem::NoColumn {
                    column: column.name(),
                })
            })?;
            positions.push((*column, at));
        }
        let (batches, columns) = match self.0 {
            Inner::Parquet(table) => {
                let (batches, columns) = table.batches(&positions)?;
                (Batches::Parquet(batches), columns)
            }
            Inner::Orc(table) => {
                let (batches, columns) = table.batches(&positions)?;
                (Batches::Orc(batches), columns)
            }
        };
        Ok(Records {
            batches,
            columns,
            rows: 0,
            at: 0,
            row: 0,
        })
    }
}

enum Batches {
    Parquet(parquet::Batches),
    Orc(orc::Batches),
}

/// The records of a table.
pub(super) struct Records {
    batches: Batches,
    /// The values of the current batch, in the order of the schema.
    columns: Vec<Cells>,
    /// How many rows it has.
    rows: usize,
    /// The one after the current record.
    at: usize,
    /// Records read so far.
    row: u64,
}

impl Records {
    /// Goes on to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, RecordError> {
        if self.at == self.rows {
            self.columns.iter_mut().for_each(Cells::clear);
            (self.rows, self.at) = (0, 0);
            self.rows = match &mut self.batches {
                Batches::Parquet(batches) => batches.fill(&mut self.columns)?,
                Batches::Orc(batches) => batches.fill(&mut self.columns)?,
            };
            if self.rows == 0 {
                return Ok(false);
            }
            if self.columns.iter().any(|cells| cells.len() != self.rows) {
                return Err(damaged("its columns have different numbers of rows"));
            }
        }
        self.at += 1;
        self.row += 1;
        Ok(true)
    }

    /// Number of the current record in the file, from 1.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// Number of columns.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// A value of the current record.
    pub(super) fn value(&self, column: usize) -> Value<'_> {
        let row = self.at.checked_sub(1);
        let cells = self.columns.get(column).zip(row);
        cells.map_or(Value::Absent, |(cells, row)| cells.value(row))
    }
}

/// The file is not what its format asks for.
fn damaged(what: impl Into<String>) -> RecordError {
    RecordError::Broken(Problem::DamagedTable(what.into()))
}

/// A column that can't be what the manifest has in it.
fn unfit(column: Column, found: impl Into<String>) -> RecordError {
    RecordError::Broken(Problem::ColumnType {
        column: column.name(),
        found: found.into(),
    })
}

/// A whole number that is not negative, or −1, which is no size. Above 2^53 not every number is there, and no object is so large.
fn whole(number: f64) -> i64 {
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && (0.0..EXACT_BELOW).contains(&number) {
        number as i64
    } else {
        -1
    }
}
