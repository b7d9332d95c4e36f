//! Which records are rows of a job, and of which shard: one answer for the pass that counts them and for those that read them later.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use super::error::Problem;
use super::records::Records;
use super::schema::{Row, Schema};
use crate::selection::{Filter, Selection, Verdict};
use crate::shard::Shard;

/// What a record is.
pub(super) enum Sifted {
    /// A row of the shard.
    Own(Row),
    /// A row of another shard.
    Others,
    /// No row of the job, because of that filter.
    LeftOut {
        filter: Filter,
        /// Whether it would be the shard's.
        is_own: bool,
    },
}

/// What tells.
#[derive(Clone, Debug)]
pub(super) struct Sieve {
    pub(super) schema: Schema,
    pub(super) bucket: String,
    pub(super) shard: Shard,
    pub(super) selection: Selection,
}

impl Sieve {
    /// What a record is, which must be a sound row.
    pub(super) fn sift<R: BufRead>(
        &self,
        record: &Records<R>,
        number: u64,
    ) -> Result<Sifted, Problem> {
        let Self {
            schema,
            bucket,
            shard,
            selection,
        } = self;
        let is_elsewhere = |found: &[u8]| found != bucket.as_bytes();
        if selection.bucket.is_some() && schema.bucket_field(record).is_some_and(is_elsewhere) {
            return Ok(Sifted::LeftOut {
                filter: Filter::Bucket,
                is_own: schema.is_of(*shard, record)?,
            });
        }
        let row = schema.row(record, bucket, number)?;
        let is_own = shard.owns(&row.entry.key);
        Ok(match selection.judge_row(&row.entry) {
            Verdict::LeftOut(filter) => Sifted::LeftOut { filter, is_own },
            Verdict::Taken | Verdict::Unknown if is_own => Sifted::Own(row),
            Verdict::Taken | Verdict::Unknown => Sifted::Others,
        })
    }

    /// Whether a record is a row of the shard. Where nothing is filtered its key alone is decoded, or nothing.
    pub(super) fn is_own<R: BufRead>(&self, record: &Records<R>) -> Result<bool, Problem> {
        if self.selection.is_all() {
            return self.schema.is_of(self.shard, record);
        }
        Ok(matches!(self.sift(record, 0)?, Sifted::Own(_)))
    }
}

/// What the records of a manifest are beside rows: those of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that are no rows, in the order of [`Filter::ALL`].
    left_out: [u64; Filter::ALL.len()],
    /// Rows that are delete markers, which have no data.
    pub delete_markers: u64,
    /// Rows of empty objects whose key ends with a slash: objects like others, which stand for folders.
    pub directory_markers: u64,
    /// Rows with a column for the version id, and nothing in it.
    pub empty_version_ids: u64,
    /// Rows whose key is spelt with a `+` or a `%`.
    pub plus_or_percent: u64,
}

impl Counts {
    /// Counts a row.
    pub(super) fn add(&mut self, row: &Row) {
        let entry = &row.entry;
        let is_directory = entry.key.ends_with('/') && entry.known.size == Some(0);
        self.delete_markers += u64::from(entry.known.is_delete_marker);
        self.directory_markers += u64::from(is_directory && !entry.known.is_delete_marker);
        self.empty_version_ids += u64::from(row.has_empty_version);
        self.plus_or_percent += u64::from(row.has_plus_or_percent);
    }

    /// Counts a record that is no row.
    pub(super) fn leave_out(&mut self, filter: Filter) {
        self.left_out[filter as usize] += 1;
    }

    /// Records that a filter leaves out.
    pub fn left_out_by(&self, filter: Filter) -> u64 {
        self.left_out[filter as usize]
    }

    /// Records that any leaves out.
    pub fn left_out(&self) -> u64 {
        self.left_out.iter().sum()
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (sum, rows) in self.left_out.iter_mut().zip(other.left_out) {
            *sum += rows;
        }
        self.delete_markers += other.delete_markers;
        self.directory_markers += other.directory_markers;
        self.empty_version_ids += other.empty_version_ids;
        self.plus_or_percent += other.plus_or_percent;
    }
}
