//! What an inventory comes to: one object for programs, a few lines for a person.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::diff::Difference;
use super::row::{Counts, Unknown};
use crate::human;

/// The summary, with the field names of `--output json`. Rows are counted over the whole inventory, also what earlier runs listed; requests
/// and time are this run's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// `complete`, `interrupted` or `failed`.
    pub status: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The prefix of the keys that were listed.
    pub prefix: String,
    /// The `manifest.json`; none before the inventory is complete.
    pub manifest: Option<String>,
    /// `CSV` or `Parquet`.
    pub format: &'static str,
    /// Data files.
    pub files: usize,
    /// Rows that were listed.
    pub rows: u64,
    /// Current objects among them.
    pub objects: u64,
    /// Noncurrent versions, where all versions are listed.
    pub noncurrent_versions: u64,
    /// Delete markers, likewise.
    pub delete_markers: u64,
    /// Size of all of them.
    pub bytes: u64,
    /// By encryption, where it was looked up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub encryption: BTreeMap<String, u64>,
    /// Those of which that is not known, where it was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_unknown: Option<Unknown>,
    /// Against the earlier inventory, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// The list of what is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
    /// Rows that earlier runs had listed.
    pub already_listed: u64,
    /// Time of this run.
    pub elapsed_seconds: f64,
    /// Requests about the bucket, by S3's names, retries among them.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests that were sent again.
    pub retries: u64,
    /// Answers that asked for fewer.
    pub throttles: u64,
    /// `None` where it is complete.
    #[serde(skip)]
    pub state: Option<String>,
}

impl Summary {
    /// Takes what was counted.
    pub fn count(&mut self, counts: Counts) {
        self.rows = counts.rows;
        self.objects = counts.objects;
        self.noncurrent_versions = counts.noncurrent_versions;
        self.delete_markers = counts.delete_markers;
        self.bytes = counts.bytes;
        self.encryption = counts.encryption;
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers only")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = human::count;
        writeln!(
            f,
            "source        s3://{}/{}",
            self.bucket,
            human::sanitize(&self.prefix, 1_024)
        )?;
        writeln!(f, "status        {}", self.status)?;
        writeln!(
            f,
            "objects       {}, {}",
            count(self.objects),
            human::bytes(self.bytes)
        )?;
        if self.noncurrent_versions + self.delete_markers > 0 {
            writeln!(f, "  noncurrent  {}", count(self.noncurrent_versions))?;
            writeln!(f, "  markers     {}", count(self.delete_markers))?;
        }
        for (mode, rows) in &self.encryption {
            writeln!(f, "  {mode:<10}  {}", count(*rows))?;
        }
        if let Some(Unknown {
            refused,
            gone,
            changed,
        }) = self.encryption_unknown
            && refused + gone + changed > 0
        {
            let told = [
                (refused, "refused"),
                (gone, "gone meanwhile"),
                (changed, "written meanwhile"),
            ];
            let told = told.iter().filter(|(rows, _)| *rows > 0);
            let told: Vec<_> = told
                .map(|(rows, why)| format!("{why} {}", count(*rows)))
                .collect();
            writeln!(f, "  unknown     {}", told.join(", "))?;
        }
        if let Some(found) = self.difference {
            writeln!(f, "new           {}", count(found.added))?;
            writeln!(f, "changed       {}", count(found.changed))?;
            writeln!(f, "gone          {}", count(found.gone))?;
            writeln!(f, "as it was     {}", count(found.unchanged))?;
        }
        if self.already_listed > 0 {
            writeln!(f, "listed before {}", count(self.already_listed))?;
        }
        let elapsed = std::time::Duration::from_secs_f64(self.elapsed_seconds);
        writeln!(f, "time          {}", human::duration(elapsed))?;
        let requests: Vec<_> = self
            .requests
            .iter()
            .map(|(name, sent)| format!("{name} {}", count(*sent)))
            .collect();
        let total: u64 = self.requests.values().sum();
        writeln!(
            f,
            "requests      {} ({})",
            count(total),
            requests.join(", ")
        )?;
        if let Some(gone) = &self.gone {
            writeln!(f, "gone is       {gone}")?;
        }
        if let Some(state) = &self.state {
            writeln!(f, "state         {state}")?;
        }
        match &self.manifest {
            Some(manifest) => write!(f, "manifest      {manifest}"),
            None => write!(f, "manifest      none; the same command goes on"),
        }
    }
}
