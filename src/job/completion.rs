//! The completion report: the manifest and the journal, folded together.

use std::path::{Path, PathBuf};

use super::source::{blocking, local_part, patiently};
use super::spec::JobFile;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{Outcomes, ShardState, StateRoot};
use crate::manifest::{Prepared, RowReader};
use crate::outcome::TaskOutcome;
use crate::plan::NEEDS_RESTORE;
use crate::report::{Destination, Report, ReportWriter, Scope};
use crate::s3::S3;
use crate::shard::Shard;
use crate::stall::Stall;

/// The folder in the state for a report that is uploaded, and for one that nobody wanted elsewhere.
const FOLDER: &str = "report";

/// Where a report is: paths, or URLs in S3.
#[derive(Debug)]
pub struct Written {
    /// Its `manifest.json`.
    pub manifest: String,
    /// The manifest of the rows that wait for a restore, where there are any.
    pub needs_restore: Option<String>,
}

/// Writes the report of everything that is settled.
///
/// # Errors
/// The manifest or the journal can't be read, the report can't be written.
pub async fn write(
    s3: &S3,
    stall: &Stall,
    root: &StateRoot,
    state: &ShardState,
    job: &JobFile,
    scope: Scope,
    to: Option<&Location>,
) -> Result<Written, Error> {
    let mut paths = Vec::new();
    for (index, part) in job.parts.iter().enumerate() {
        paths.push(local_part(s3, stall, part, index, state.folder()).await?);
    }
    let (folder, destination) = match to {
        Some(Location::S3 { bucket, key }) => {
            let prefix = match key.trim_end_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            };
            let bucket = bucket.clone();
            (
                state.folder().join(FOLDER),
                Destination::S3 { bucket, prefix },
            )
        }
        Some(Location::Path(path)) => (path.clone(), Destination::Directory),
        Some(Location::Stdin) | None => (state.folder().join(FOLDER), Destination::Directory),
    };
    let report = {
        let outcomes = root
            .outcomes(Shard::ONLY, &job.job_id, state.folder())
            .await?;
        let (prepared, job_id) = (job.prepared.clone(), job.job_id.clone());
        let destination = destination.clone();
        blocking(move || {
            fold(
                outcomes,
                &prepared,
                &job_id,
                &paths,
                &folder,
                scope,
                destination,
            )
        })
        .await??
    };
    let Destination::S3 { bucket, prefix } = destination else {
        let needs_restore = report.needs_restore;
        return Ok(Written {
            manifest: report.manifest_path.display().to_string(),
            needs_restore: needs_restore.map(|file| file.path.display().to_string()),
        });
    };
    let url = |name: &str| format!("s3://{bucket}/{prefix}{name}");
    let mut last = String::new();
    for file in &report.files {
        let key = format!("{prefix}{}", file.name);
        patiently(stall, || s3.upload(&bucket, &key, &file.path))
            .await
            .map_err(|error| Error {
                exit: Exit::Internal,
                message: format!("cannot upload the report to s3://{bucket}/{key}: {error}"),
                hint: Some(format!(
                    "it is complete in {}; the same command uploads it again",
                    report.manifest_path.display()
                )),
            })?;
        last = url(&file.name);
    }
    Ok(Written {
        manifest: last,
        needs_restore: report.needs_restore.map(|file| url(&file.name)),
    })
}

fn fold(
    mut outcomes: Option<Outcomes>,
    prepared: &Prepared,
    job_id: &str,
    parts: &[PathBuf],
    root: &Path,
    scope: Scope,
    destination: Destination,
) -> Result<Report, Error> {
    let unwritable =
        |error: crate::report::ReportError| Error::new(Exit::Internal, error.to_string());
    let with_versions = prepared.schema.names_versions();
    let bucket = &prepared.bucket;
    let mut writer = ReportWriter::create(root, job_id, bucket, with_versions, scope, destination)
        .map_err(unwritable)?;
    for (index, path) in parts.iter().enumerate() {
        for entry in RowReader::open(path, prepared, index)? {
            let entry = entry?;
            let settled = match &mut outcomes {
                Some(outcomes) => outcomes.of(entry.row)?,
                None => None,
            };
            let Some(outcome) = settled else {
                continue;
            };
            let (key, version_id) = (&entry.key, entry.version_id.as_deref());
            writer.row(key, version_id, &outcome).map_err(unwritable)?;
            if matches!(&outcome, TaskOutcome::Failed(failure) if failure.code == NEEDS_RESTORE) {
                writer.needs_restore(key, version_id).map_err(unwritable)?;
            }
        }
    }
    writer.finish().map_err(unwritable)
}
