//! `reseal report`: the report of what is settled, at any time.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::completion::Completion;
use super::evidence::{Keeping, Kept};
use super::home::Home;
use super::source::{self, unbegun};
use super::spec::{JobFile, ShardFile};
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::human;
use crate::report::Scope;
use crate::s3::{Connection, S3};
use crate::shard::Shard;

/// What is asked for.
#[derive(Debug)]
pub struct ReportConfig {
    /// Where the job's state is.
    pub state: Location,
    /// Where the report goes; `None` is the state.
    pub report: Option<Location>,
    /// Where the evidence goes that the job has kept; `None` writes none.
    pub evidence: Option<Location>,
    /// Which rows it has.
    pub scope: Scope,
    /// The store.
    pub connection: Connection,
}

/// A report that was written.
#[derive(Clone, Debug, Serialize)]
pub struct Reported {
    /// The job.
    pub job_id: String,
    /// Rows of the manifest.
    pub total: u64,
    /// Rows that have an outcome.
    pub settled: u64,
    /// Rows that have none yet: they are not in the report.
    pub remaining: u64,
    /// Path or URL of its `manifest.json`.
    pub report: String,
    /// Path or URL of the manifest of rows that wait for a restore, where there are any.
    pub needs_restore: Option<String>,
    /// The evidence, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Kept>,
}

/// Writes the report of everything that is settled in all shards of a job, also while they are at work.
///
/// # Errors
/// There is no job, its manifest or a journal can't be read, or the report can't be written.
pub async fn report(config: ReportConfig) -> Result<Reported, Error> {
    let mut connection = config.connection;
    let home = Home::look(&config.state, &connection).await?;
    let job = home.job().await?;
    if connection.endpoint_url.is_none() {
        connection.endpoint_url = job.spec.endpoint_url.clone();
    }
    let s3 = S3::connect(&connection).await;
    let shard = prepared_shard(&home, &job).await?;
    let folder = home.scratch()?;
    // What the runs have fetched need not be there any more, and standard input is nowhere else.
    for shard in Shard::all(job.shards) {
        if let Some(kept) = home.shard_folder(shard) {
            lend_copies(&kept, folder.path())?;
        }
    }
    let completion = Completion {
        s3: &s3,
        stall: &unbegun(),
        home: &home,
        shard: &shard,
        folder: folder.path(),
        writer: format!("report-{}", std::process::id()),
        scope: config.scope,
        to: config.report.as_ref(),
    };
    let written = completion.write().await?;
    let evidence = match &config.evidence {
        Some(to) => {
            let keeping = Keeping {
                s3: &s3,
                stall: completion.stall,
                home: &home,
                shard: &shard,
                folder: folder.path(),
                to,
            };
            Some(keeping.write().await?)
        }
        None => None,
    };
    Ok(Reported {
        job_id: job.job_id,
        total: job.manifest.rows,
        settled: written.settled,
        remaining: written.unsettled,
        report: written.manifest,
        needs_restore: written.needs_restore,
        evidence,
    })
}

/// A shard that has prepared the manifest: it says where that is.
async fn prepared_shard(home: &Home, job: &JobFile) -> Result<ShardFile, Error> {
    for shard in Shard::all(job.shards) {
        if let Some(found) = home.root.read_shard(shard).await? {
            return Ok(found);
        }
    }
    let place = home.root.place();
    Err(Error::new(
        Exit::Usage,
        format!("no shard in {place} has prepared the manifest yet: there is nothing to report"),
    ))
}

/// Lends what a state keeps of a manifest to a folder that is read in its place, and removed after it.
///
/// # Errors
/// The folder can't be made.
fn lend_copies(state: &Path, to: &Path) -> Result<(), Error> {
    let to = source::folder(to)?;
    // What is not there has to be fetched.
    let Ok(kept) = std::fs::read_dir(source::kept_in(state)) else {
        return Ok(());
    };
    for kept in kept.flatten() {
        let (from, to) = (kept.path(), to.join(kept.file_name()));
        if to.exists() {
            continue;
        }
        // A file system without links, or a copy that is not needed any more.
        let _ = std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(drop));
    }
    Ok(())
}

impl Reported {
    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job           {}", self.job_id)?;
        writeln!(f, "rows          {}", human::count(self.total))?;
        writeln!(f, "  settled     {}", human::count(self.settled))?;
        if self.remaining > 0 {
            let rows = human::count(self.remaining);
            writeln!(f, "  no outcome  {rows} (not in the report)")?;
        }
        write!(
            f,
            "report        {}",
            human::sanitize(&self.report, usize::MAX)
        )?;
        if let Some(manifest) = &self.needs_restore {
            write!(
                f,
                "\nneeds restore {}",
                human::sanitize(manifest, usize::MAX)
            )?;
        }
        if let Some(evidence) = &self.evidence {
            let index = human::sanitize(&evidence.index, usize::MAX);
            write!(
                f,
                "\nevidence      {index}\n  sha256      {}",
                evidence.sha256
            )?;
        }
        Ok(())
    }
}
