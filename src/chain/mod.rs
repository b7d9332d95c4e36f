//! Evidence as files: what was rewritten, in parts that are chained to one another by their digests.
//!
//! ```text
//! <root>/evidence.json                          what there is: every part with its rows and its SHA-256; written last
//! <root>/shard-00000/part-000000.csv.gz         up to 100,000 rewrites of a shard, in the order in which they became known
//! <root>/shard-00000/part-000001.csv.gz         begins with the SHA-256 of the part before it
//! ```
//!
//! A part is gzip of CSV. Its first record is `reseal-evidence,1,JOB,SHARD,PART,DIGEST`: the digest is the SHA-256 of the file before it,
//! as it lies there, or 64 zeros; the second one names the columns. So no row can be changed, left out or put in but the digest of every
//! part from there on changes, and in the end that of `evidence.json`, which whoever keeps it elsewhere holds against it.
//!
//! What is written follows from the journal: writing it again gives the same bytes. Customer's keys are not in it, their MD5s are.

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{Break, Line, PartReader, check_part};
pub use write::{ChainError, ChainWriter};

/// The name of what says what there is.
pub const INDEX: &str = "evidence.json";
/// The largest such file that is read, in bytes: 100,000 parts.
pub const INDEX_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Rewrites in a part.
pub const PART_ROWS: u64 = 100_000;

/// How the first record of a part begins.
const MARK: &str = "reseal-evidence";
/// The version of the format.
const VERSION: &str = "1";
/// The digest before the first part.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The columns, in their order.
pub const COLUMNS: [&str; 21] = [
    "Row",
    "Bucket",
    "Key",
    "Method",
    "ToldBy",
    "Time",
    "RequestId",
    "Size",
    "BeforeEncryption",
    "BeforeKey",
    "BeforeBucketKey",
    "BeforeETag",
    "BeforeVersionId",
    "BeforeChecksum",
    "AfterEncryption",
    "AfterKey",
    "AfterBucketKey",
    "AfterETag",
    "AfterVersionId",
    "AfterChecksum",
    "BeforeKnown",
];

/// `evidence.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// `reseal-evidence`.
    pub format: String,
    /// The format's version.
    pub version: String,
    /// The job.
    pub job_id: String,
    /// The bucket.
    pub bucket: String,
    /// Rewrites in all parts.
    pub rewrites: u64,
    /// Rows of the job that had succeeded. A row has one rewrite; where all versions of a key were rewritten, as many as it had, or none.
    pub succeeded: u64,
    /// The chains, one for each shard.
    pub chains: Vec<Chain>,
}

/// The parts of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The shard.
    pub shard: u32,
    /// The parts, in their order.
    pub parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name below the root.
    pub name: String,
    /// Its rewrites.
    pub rows: u64,
    /// SHA-256 of the file as it lies there, in hexadecimal.
    pub sha256: String,
}

impl Index {
    /// What there is of a job.
    pub fn new(job_id: &str, bucket: &str, succeeded: u64, chains: Vec<Chain>) -> Self {
        let parts = chains.iter().flat_map(|chain| &chain.parts);
        Self {
            format: MARK.to_owned(),
            version: VERSION.to_owned(),
            job_id: job_id.to_owned(),
            bucket: bucket.to_owned(),
            rewrites: parts.map(|part| part.rows).sum(),
            succeeded,
            chains,
        }
    }

    /// As it is written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and strings are always JSON")
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is none, or not of this format; parts that are named twice, or lead elsewhere; numbers that don't add up.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if index.format != MARK || index.version != VERSION {
            return Err(format!(
                "it is of the format {} {}, not {MARK} {VERSION}",
                index.format, index.version
            ));
        }
        for chain in &index.chains {
            for (number, part) in chain.parts.iter().enumerate() {
                if part.name != part_name(chain.shard, number as u64) {
                    return Err(format!(
                        "part {number} of shard {} is named {}",
                        chain.shard, part.name
                    ));
                }
            }
        }
        let parts = index.chains.iter().flat_map(|chain| &chain.parts);
        let rows: u64 = parts.map(|part| part.rows).sum();
        if rows != index.rewrites {
            return Err(format!(
                "it counts {} rewrites, and its parts have {rows}",
                index.rewrites
            ));
        }
        Ok(index)
    }
}

fn part_name(shard: u32, number: u64) -> String {
    format!("shard-{shard:05}/part-{number:06}.csv.gz")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
