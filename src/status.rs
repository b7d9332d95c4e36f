//! Where a job stands, read from its state; also while another process runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::event::Limit;
use crate::human;
use crate::job::{self, Home, Seen};
use crate::outcome::Tally;

/// Where a job stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The job's id.
    pub job_id: String,
    /// `prepared`, `in-progress` or `complete`.
    pub status: &'static str,
    /// The target's name.
    pub target: String,
    /// The manifest as it was typed.
    pub manifest: String,
    /// The bucket of its rows.
    pub bucket: String,
    /// Rows of the manifest.
    pub total: u64,
    /// Rows that succeeded.
    pub succeeded: u64,
    /// Rows that were skipped.
    pub skipped: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows without an outcome.
    pub remaining: u64,
    /// Rows among them that may have been started: they are looked at before anything is done to them.
    pub doubtful: u64,
    /// Bytes of the objects that succeeded.
    pub bytes: u64,
    /// Skipped rows by reason.
    pub skips: BTreeMap<&'static str, u64>,
    /// Failed rows by code.
    pub failures: BTreeMap<String, u64>,
    /// Seconds since the last outcome of any shard reached the state.
    pub last_written_seconds_ago: Option<u64>,
    /// The shards, in their order; one where the job is not cut.
    pub shards: Vec<ShardStatus>,
}

/// Where one shard stands.
#[derive(Clone, Debug, Serialize)]
pub struct ShardStatus {
    /// Its number, from 0 on.
    pub shard: u32,
    /// `not-begun`, `prepared`, `in-progress` or `complete`.
    pub status: &'static str,
    /// Its rows; nothing while it has not read the manifest.
    pub total: Option<u64>,
    /// Rows among them with an outcome.
    pub settled: u64,
    /// Rows among them that may have been started and have none.
    pub doubtful: u64,
    /// How often a process has taken it over: 1 in a run that was never interrupted.
    pub taken_over: u64,
    /// What held it back when that was last recorded; nothing where requests hardly waited, or it is complete.
    pub limited_by: Option<&'static str>,
    /// Seconds since its last outcome reached the state.
    pub last_written_seconds_ago: Option<u64>,
}

/// Reads a state: the whole job, or `only` one shard of it.
///
/// # Errors
/// There is no job in it, no shard of that number, or it is damaged.
pub async fn read(home: &Home, only: Option<u32>) -> Result<Status, Error> {
    let job = home.job().await?;
    let mut seen = job::look(&home.root, job.shards).await?;
    let total = match only {
        None => job.manifest.rows,
        Some(shard) => {
            seen.retain(|seen| seen.shard.index == shard);
            let no_such = || {
                Error::usage(format!(
                    "there is no shard {shard}: the job has {}, numbered from 0 on",
                    job.shards
                ))
            };
            seen.first().ok_or_else(no_such)?.rows.unwrap_or_default()
        }
    };
    let mut tally = Tally::default();
    let mut shards = Vec::new();
    for seen in seen {
        tally.merge(&seen.tally);
        shards.push(shard_status(&seen));
    }
    let settled = tally.settled();
    let is_begun = shards.iter().any(|shard| shard.status == "in-progress");
    Ok(Status {
        job_id: job.job_id,
        status: match settled {
            _ if shards.iter().all(|shard| shard.status == "complete") => "complete",
            0 if !is_begun => "prepared",
            _ => "in-progress",
        },
        target: job.spec.target,
        manifest: job.manifest.location,
        bucket: job.manifest.bucket,
        total,
        succeeded: tally.succeeded_total(),
        skipped: tally.skipped_total(),
        failed: tally.failed_total(),
        remaining: total.saturating_sub(settled),
        doubtful: shards.iter().map(|shard| shard.doubtful).sum(),
        bytes: tally.bytes,
        skips: tally
            .skipped
            .iter()
            .map(|(reason, n)| (reason.name(), *n))
            .collect(),
        failures: tally.failed.clone(),
        last_written_seconds_ago: shards
            .iter()
            .filter_map(|shard| shard.last_written_seconds_ago)
            .min(),
        shards,
    })
}

fn shard_status(seen: &Seen) -> ShardStatus {
    ShardStatus {
        shard: seen.shard.index,
        status: match seen.rows {
            None => "not-begun",
            _ if seen.is_finished() => "complete",
            _ if seen.reserved == 0 => "prepared",
            _ => "in-progress",
        },
        total: seen.rows,
        settled: seen.settled,
        doubtful: seen.doubtful,
        taken_over: seen.epochs,
        limited_by: seen
            .limited_by
            .filter(|_| !seen.is_finished())
            .map(Limit::name),
        last_written_seconds_ago: seen.last_written.map(|ago| ago.as_secs()),
    }
}

impl Status {
    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and maps are always JSON")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * (self.total - self.remaining) as f64 / self.total.max(1) as f64;
        writeln!(f, "job           {}", self.job_id)?;
        writeln!(f, "status        {} ({percent:.1} %)", self.status)?;
        writeln!(f, "target        {}", self.target)?;
        writeln!(f, "manifest      {}", human::sanitize(&self.manifest, 200))?;
        writeln!(f, "bucket        {}", self.bucket)?;
        writeln!(f, "rows          {}", human::count(self.total))?;
        writeln!(
            f,
            "  succeeded   {} ({})",
            human::count(self.succeeded),
            human::bytes(self.bytes)
        )?;
        writeln!(f, "  skipped     {}", human::count(self.skipped))?;
        for (reason, n) in &self.skips {
            writeln!(f, "    {:>8}  {reason}", human::count(*n))?;
        }
        writeln!(f, "  failed      {}", human::count(self.failed))?;
        for (code, n) in &self.failures {
            writeln!(
                f,
                "    {:>8}  {}",
                human::count(*n),
                human::sanitize(code, 80)
            )?;
        }
        write!(f, "  remaining   {}", human::count(self.remaining))?;
        if self.doubtful > 0 {
            write!(
                f,
                " ({} may have been started)",
                human::count(self.doubtful)
            )?;
        }
        if let Some(seconds) = self.last_written_seconds_ago
            && self.remaining < self.total
        {
            write!(f, "\nlast outcome  {}", ago(seconds))?;
        }
        if let [only] = self.shards.as_slice() {
            if let Some(limit) = only.limited_by {
                write!(f, "\nlimited by    {limit}")?;
            }
            return Ok(());
        }
        write!(
            f,
            "\n\nshard  status            settled            of  doubtful  taken over  last outcome  limited by"
        )?;
        self.shards
            .iter()
            .try_for_each(|shard| write!(f, "\n{shard}"))
    }
}

impl fmt::Display for ShardStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total.map_or_else(|| "?".to_owned(), human::count);
        let last = self.last_written_seconds_ago.map(ago).unwrap_or_default();
        let line = format!(
            "{:>5}  {:<11}  {:>12}  {total:>12}  {:>8}  {:>9}x  {last:<12}  {}",
            self.shard,
            self.status,
            human::count(self.settled),
            human::count(self.doubtful),
            self.taken_over,
            self.limited_by.unwrap_or_default(),
        );
        f.write_str(line.trim_end())
    }
}

fn ago(seconds: u64) -> String {
    format!("{} ago", human::duration(Duration::from_secs(seconds)))
}
