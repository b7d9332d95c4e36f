//! The completion report: the manifest and the journals of all shards, folded together.
//!
//! Each shard that finishes looks whether the others have: the last one writes the report. Two that finish at the same moment
//! may both see it and both write, which does no harm: of a job whose every row has an outcome there is one report, to the
//! byte, and whoever writes it second puts the same in its place. A report that was begun before is not put in its place any more: the
//! date of the last one, which is agreed on before that is written, says that there is one.

use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::home::Home;
use super::shards;
use super::source::{blocking, local_part, patiently};
use super::spec::ShardFile;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{Outcomes, StateError};
use crate::manifest::{Prepared, RowReader};
use crate::outcome::TaskOutcome;
use crate::plan::NEEDS_RESTORE;
use crate::report::{Destination, Report, ReportError, ReportWriter, Scope};
use crate::s3::S3;
use crate::shard::Shard;
use crate::stall::Stall;

/// The folder for a report that is uploaded.
const FOLDER: &str = "report";
/// Most journals that are fetched at once.
const JOURNALS_MAX: usize = 4;
/// How often all rows are read: once more where the last of them settled meanwhile.
const FOLDS_MAX: u32 = 2;
/// The document in the state that says when the report was complete.
const DATED: &str = "report.json";

/// Where a report is: paths, or URLs in S3.
#[derive(Debug)]
pub struct Written {
    /// Its `manifest.json`.
    pub manifest: String,
    /// The manifest of the rows that wait for a restore, where there are any.
    pub needs_restore: Option<String>,
    /// Rows that have an outcome.
    pub settled: u64,
    /// Rows that have none yet.
    pub unsettled: u64,
}

/// What is reported, and where to.
pub struct Completion<'a> {
    /// The store.
    pub s3: &'a S3,
    /// Whether it answers.
    pub stall: &'a Stall,
    /// Where the job is.
    pub home: &'a Home,
    /// One of its shards: it says where the manifest is.
    pub shard: &'a ShardFile,
    /// A folder of nobody else's, for what is fetched and what is uploaded.
    pub folder: &'a Path,
    /// Whose writing it is, among all who may write at once.
    pub writer: String,
    /// Which rows.
    pub scope: Scope,
    /// Where the report goes; `None` is beside the state.
    pub to: Option<&'a Location>,
}

impl Completion<'_> {
    /// Writes the report of everything that is settled.
    ///
    /// # Errors
    /// The manifest or a journal can't be read, the report can't be written.
    pub async fn write(&self) -> Result<Written, Error> {
        let default;
        let to = match self.to {
            Some(to) => to,
            None => {
                default = self.home.report();
                &default
            }
        };
        let mut parts = Vec::new();
        for (index, part) in self.shard.parts.iter().enumerate() {
            parts.push(local_part(self.s3, self.stall, part, index, self.folder).await?);
        }
        let (folder, destination) = match to {
            Location::S3 { bucket, key } => {
                let prefix = match key.trim_end_matches('/') {
                    "" => String::new(),
                    prefix => format!("{prefix}/"),
                };
                let bucket = bucket.clone();
                let destination = Destination::S3 { bucket, prefix };
                (self.folder.join(FOLDER), destination)
            }
            Location::Path(path) => (path.clone(), Destination::Directory),
            Location::Stdin => {
                return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
            }
        };
        let report_in = (folder, destination);
        for _ in 0..FOLDS_MAX {
            let folded = self.folded(&report_in, parts.clone()).await?;
            // Where every row is settled after all, the last ones came while the journals were read.
            if folded.unsettled > 0 && self.is_finished().await? {
                continue;
            }
            if let Some(written) = self.publish(folded, &report_in.1).await? {
                return Ok(written);
            }
        }
        Err(self.incomplete())
    }

    /// All rows, with the outcomes that they have now, in files without their names yet.
    async fn folded(
        &self,
        (folder, destination): &(PathBuf, Destination),
        parts: Vec<PathBuf>,
    ) -> Result<Folded, Error> {
        let prepared = self.shard.prepared.clone();
        let writer = ReportWriter::create(
            folder,
            &self.shard.job_id,
            &prepared.bucket,
            prepared.schema.names_versions(),
            self.scope,
            destination.clone(),
            &self.writer,
        )
        .map_err(unwritable)?;
        let outcomes = self.outcomes().await?;
        blocking(move || fold(writer, prepared, outcomes, &parts)).await?
    }

    /// Whether every row of every shard has an outcome.
    async fn is_finished(&self) -> Result<bool, Error> {
        let count = self.shard.shard().count;
        Ok(shards::unfinished(&self.home.root, count).await?.is_empty())
    }

    /// The journals say of all rows together that they are settled, and don't have the outcome of each.
    fn incomplete(&self) -> Error {
        let place = self.home.root.place();
        let message = format!(
            "the state {place} is damaged: every row is settled, and outcomes are missing in the journals: there is no whole report"
        );
        Error::new(Exit::State, message).hint(
            "restore the state from a copy; or begin with an empty one: objects that are under the target already will be skipped",
        )
    }

    /// Puts the report in its place; `None` where the last one was written meanwhile, so that this one is out of date.
    async fn publish(
        &self,
        folded: Folded,
        destination: &Destination,
    ) -> Result<Option<Written>, Error> {
        let (settled, unsettled) = (folded.settled, folded.unsettled);
        // The last report's date is there before anybody can see the report, so that whoever writes after it knows.
        let created = self.created(unsettled).await?;
        let mut writer = folded.writer;
        let locked = blocking(move || writer.lock().map(|()| writer)).await?;
        let writer = locked.map_err(unwritable)?;
        if self.is_outdated(unsettled).await? {
            return Ok(None);
        }
        let report = blocking(move || writer.finish(created).map_err(unwritable)).await??;
        let (manifest, needs_restore) = match destination {
            Destination::Directory => (
                report.manifest_path.display().to_string(),
                report
                    .needs_restore
                    .map(|file| file.path.display().to_string()),
            ),
            Destination::S3 { bucket, prefix } => {
                match self.upload(bucket, prefix, report, unsettled).await? {
                    Some(urls) => urls,
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Written {
            manifest,
            needs_restore,
            settled,
            unsettled,
        }))
    }

    /// Whether a report that lacks so many rows comes after the one that lacks none.
    async fn is_outdated(&self, unsettled: u64) -> Result<bool, Error> {
        Ok(unsettled > 0 && self.home.root.read::<Dated>(DATED).await?.is_some())
    }

    /// The outcomes of each shard.
    async fn outcomes(&self) -> Result<Vec<Option<Outcomes>>, Error> {
        let (root, job_id) = (&self.home.root, &self.shard.job_id);
        let shards = Shard::all(self.shard.shard().count);
        let reads = shards.map(|shard| root.outcomes(shard, job_id, self.folder));
        let reads = futures::stream::iter(reads).buffered(JOURNALS_MAX);
        reads.try_collect().await.map_err(untold)
    }

    /// When the report came to be what it is. All who write the report of a finished job say the same.
    async fn created(&self, unsettled: u64) -> Result<OffsetDateTime, Error> {
        let now = OffsetDateTime::now_utc();
        if unsettled > 0 {
            return Ok(now);
        }
        let mine = Dated {
            created: now.unix_timestamp(),
        };
        let agreed: Dated = self.home.root.agree(DATED, mine).await?;
        Ok(OffsetDateTime::from_unix_timestamp(agreed.created).unwrap_or(now))
    }

    /// Puts a report into S3, `manifest.json` last; tells the URLs of it and of the rows that wait for a restore. `None`: it is out of
    /// date. Nobody can be kept out there, so that is asked right before `manifest.json` and after it; the one that is written then takes
    /// its place.
    async fn upload(
        &self,
        bucket: &str,
        prefix: &str,
        report: Report,
        unsettled: u64,
    ) -> Result<Option<(String, Option<String>)>, Error> {
        let url = |name: &str| format!("s3://{bucket}/{prefix}{name}");
        let mut last = String::new();
        for file in &report.files {
            if file.path == report.manifest_path && self.is_outdated(unsettled).await? {
                return Ok(None);
            }
            let key = format!("{prefix}{}", file.name);
            patiently(self.stall, || self.s3.upload(bucket, &key, &file.path))
                .await
                .map_err(|error| {
                    Error::new(
                        Exit::Internal,
                        format!("cannot upload the report to s3://{bucket}/{key}: {error}"),
                    )
                    .hint("nothing that is settled is lost; the same command uploads it again")
                })?;
            last = url(&file.name);
        }
        if self.is_outdated(unsettled).await? {
            return Ok(None);
        }
        let needs_restore = report.needs_restore.map(|file| url(&file.name));
        Ok(Some((last, needs_restore)))
    }
}

/// When a report was complete, in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Dated {
    created: i64,
}

struct Folded {
    writer: ReportWriter,
    settled: u64,
    unsettled: u64,
}

fn unwritable(error: ReportError) -> Error {
    Error::new(Exit::Internal, error.to_string())
}

/// A journal that does not give what its rows came to, though they are counted: a run that goes on from a snapshot does not read what
/// is before it.
fn untold(error: StateError) -> Error {
    let is_damaged = matches!(error, StateError::Damaged { .. });
    let error = Error::from(error);
    if !is_damaged {
        return error;
    }
    let message = format!(
        "no report can be written from this state: {error}; how the rows ended that were settled from there on can't be told"
    );
    Error::new(error.exit, message).hint(
        "the objects are as they are counted in the summary and by `reseal status`: restore the state from a copy for the report, or \
         start over with an empty one: objects that are under the target already will be skipped",
    )
}

/// Reads all rows in the order of the manifest, and the outcome of each from its shard's journal: there it has the number that
/// counting the rows of the shard gives.
fn fold(
    mut writer: ReportWriter,
    prepared: Prepared,
    mut outcomes: Vec<Option<Outcomes>>,
    parts: &[PathBuf],
) -> Result<Folded, Error> {
    let prepared = prepared.whole();
    let count = u32::try_from(outcomes.len()).expect("as many as shards");
    let mut next_rows = vec![0; outcomes.len()];
    let (mut settled, mut unsettled) = (0, 0);
    for (index, path) in parts.iter().enumerate() {
        for entry in RowReader::open(path, &prepared, index)? {
            let entry = entry?;
            let shard = Shard::of_key(&entry.key, count).index as usize;
            let row = next_rows[shard];
            next_rows[shard] += 1;
            let outcome = match &mut outcomes[shard] {
                Some(outcomes) => outcomes.of(row).map_err(untold)?,
                None => None,
            };
            let Some(outcome) = outcome else {
                unsettled += 1;
                continue;
            };
            settled += 1;
            let (key, version_id) = (&entry.key, entry.version_id.as_deref());
            writer.row(key, version_id, &outcome).map_err(unwritable)?;
            if matches!(&outcome, TaskOutcome::Failed(failure) if failure.code == NEEDS_RESTORE) {
                writer.needs_restore(key, version_id).map_err(unwritable)?;
            }
        }
    }
    Ok(Folded {
        writer,
        settled,
        unsettled,
    })
}
