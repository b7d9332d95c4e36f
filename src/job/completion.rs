//! The completion report: the manifest and the journal, folded together.

use std::path::{Path, PathBuf};

use super::source::{blocking, local_part, patiently};
use super::spec::JobFile;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::Outcomes;
use crate::manifest::{Prepared, RowReader};
use crate::report::{Destination, Report, ReportWriter, Scope};
use crate::s3::S3;

/// The folder in the state for a report that is uploaded, and for one that nobody wanted elsewhere.
const FOLDER: &str = "report";

/// Writes the report of everything that is settled, and returns where its `manifest.json` is.
///
/// # Errors
/// The manifest or the journal can't be read, the report can't be written.
pub async fn write(
    s3: &S3,
    state: &Path,
    job: &JobFile,
    scope: Scope,
    to: Option<&Location>,
) -> Result<String, Error> {
    let mut paths = Vec::new();
    for (index, part) in job.parts.iter().enumerate() {
        paths.push(local_part(s3, part, index, state).await?);
    }
    let (root, destination) = match to {
        Some(Location::S3 { bucket, key }) => {
            let prefix = match key.trim_end_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            };
            let bucket = bucket.clone();
            (state.join(FOLDER), Destination::S3 { bucket, prefix })
        }
        Some(Location::Path(path)) => (path.clone(), Destination::Directory),
        Some(Location::Stdin) | None => (state.join(FOLDER), Destination::Directory),
    };
    let report = {
        let (state, prepared, job_id) =
            (state.to_owned(), job.prepared.clone(), job.job_id.clone());
        let (root, destination) = (root, destination.clone());
        blocking(move || {
            fold(
                &state,
                &prepared,
                &job_id,
                &paths,
                &root,
                scope,
                destination,
            )
        })
        .await??
    };
    let Destination::S3 { bucket, prefix } = destination else {
        return Ok(report.manifest_path.display().to_string());
    };
    let mut last = String::new();
    for file in &report.files {
        let key = format!("{prefix}{}", file.name);
        patiently(|| s3.upload(&bucket, &key, &file.path))
            .await
            .map_err(|error| Error {
                exit: Exit::Internal,
                message: format!("cannot upload the report to s3://{bucket}/{key}: {error}"),
                hint: Some(format!(
                    "it is complete in {}; the same command uploads it again",
                    report.manifest_path.display()
                )),
            })?;
        last = format!("s3://{bucket}/{key}");
    }
    Ok(last)
}

fn fold(
    state: &Path,
    prepared: &Prepared,
    job_id: &str,
    parts: &[PathBuf],
    root: &Path,
    scope: Scope,
    destination: Destination,
) -> Result<Report, Error> {
    let unwritable =
        |error: crate::report::ReportError| Error::new(Exit::Internal, error.to_string());
    let mut outcomes = Outcomes::open(state, job_id)?;
    let mut writer = ReportWriter::create(root, job_id, &prepared.bucket, scope, destination)
        .map_err(unwritable)?;
    for (index, path) in parts.iter().enumerate() {
        for entry in RowReader::open(path, prepared, index)? {
            let entry = entry?;
            if let Some(outcome) = outcomes.of(entry.row)? {
                writer
                    .row(&entry.key, entry.version_id.as_deref(), &outcome)
                    .map_err(unwritable)?;
            }
        }
    }
    writer.finish().map_err(unwritable)
}
