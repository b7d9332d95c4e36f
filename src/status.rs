//! Where a job stands, read from its state; also while another process runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::exit::Exit;
use crate::human;
use crate::job::JobFile;
use crate::journal::StateRoot;
use crate::shard::Shard;

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
    /// Seconds since the last outcome reached the disk.
    pub last_written_seconds_ago: Option<u64>,
}

/// Reads a state.
///
/// # Errors
/// There is no job in it, or it is damaged.
pub async fn read(state: &Path) -> Result<Status, Error> {
    let root = StateRoot::dir(state);
    let job: Option<JobFile> = root.read_shard(Shard::ONLY).await?;
    let job = job.ok_or_else(|| {
        Error::new(Exit::Usage, format!("{} holds no job", state.display())).hint(
            "give the folder that `reseal run` names at its start, by default .reseal/<job id>",
        )
    })?;
    let replay = root.peek(Shard::ONLY).await?.unwrap_or_default();
    let (total, settled) = (job.prepared.rows, replay.settled.len());
    let tally = &replay.tally;
    Ok(Status {
        job_id: job.job_id,
        status: match settled {
            _ if settled == total => "complete",
            0 if replay.reserved == 0 => "prepared",
            _ => "in-progress",
        },
        target: job.spec.target,
        manifest: job.source.location,
        bucket: job.prepared.bucket,
        total,
        succeeded: tally.succeeded_total(),
        skipped: tally.skipped_total(),
        failed: tally.failed_total(),
        remaining: total - settled,
        // Every settled row was reserved before.
        doubtful: replay.reserved.min(total).saturating_sub(settled),
        bytes: tally.bytes,
        skips: tally
            .skipped
            .iter()
            .map(|(reason, n)| (reason.name(), *n))
            .collect(),
        failures: tally.failed.clone(),
        last_written_seconds_ago: root
            .last_written(Shard::ONLY)
            .await?
            .map(|ago| ago.as_secs()),
    })
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
        if let Some(seconds) = self.last_written_seconds_ago {
            write!(
                f,
                "\nlast outcome  {} ago",
                human::duration(Duration::from_secs(seconds))
            )?;
        }
        Ok(())
    }
}
