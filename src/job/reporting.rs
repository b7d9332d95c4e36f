//! The report of a command that has no job: written while it works, and put in its place at the end.

use tempfile::TempDir;
use time::OffsetDateTime;

use super::home::scratch_in;
use super::source::patiently;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::report::{Destination, Report, ReportError, ReportWriter, Scope, Told};
use crate::s3::S3;
use crate::stall::Stall;

/// What a report is of.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// Where it goes: a folder or a prefix in S3.
    pub to: &'a Location,
    /// What tells it from others there.
    pub id: &'a str,
    /// The bucket of its rows.
    pub bucket: &'a str,
    /// Whether its rows may name versions.
    pub with_versions: bool,
    /// Which rows it has.
    pub scope: Scope,
}

/// A report that is being written.
pub struct Reporting {
    writer: ReportWriter,
    destination: Destination,
    /// Where it lies until it is uploaded.
    _scratch: Option<TempDir>,
}

impl Reporting {
    /// Begins it.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub fn begin(of: &Begin<'_>) -> Result<Self, Error> {
        let (folder, destination, scratch) = match of.to {
            Location::Path(path) => (path.clone(), Destination::Directory, None),
            Location::S3 { bucket, key } => {
                let prefix = match key.trim_end_matches('/') {
                    "" => String::new(),
                    prefix => format!("{prefix}/"),
                };
                let scratch = scratch_in(&std::env::temp_dir())?;
                let destination = Destination::S3 {
                    bucket: bucket.clone(),
                    prefix,
                };
                (scratch.path().to_owned(), destination, Some(scratch))
            }
            Location::Stdin => {
                return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
            }
        };
        let writer = ReportWriter::create(
            &folder,
            of.id,
            of.bucket,
            of.with_versions,
            of.scope,
            destination.clone(),
            &format!("process-{}", std::process::id()),
        );
        Ok(Self {
            writer: writer.map_err(unwritable)?,
            destination,
            _scratch: scratch,
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It can't be written.
    pub fn tell(
        &mut self,
        key: &str,
        version_id: Option<&str>,
        told: Told<'_>,
    ) -> Result<(), Error> {
        self.writer.tell(key, version_id, told).map_err(unwritable)
    }

    /// Puts the report in its place; tells the path or the URL of its `manifest.json`.
    ///
    /// # Errors
    /// It can't be written, or uploaded.
    pub async fn publish(self, s3: &S3, stall: &Stall) -> Result<String, Error> {
        let created = OffsetDateTime::now_utc();
        let created = created.replace_nanosecond(0).unwrap_or(created);
        let Report {
            manifest_path,
            files,
            ..
        } = self.writer.finish(created).map_err(unwritable)?;
        let Destination::S3 { bucket, prefix } = &self.destination else {
            return Ok(manifest_path.display().to_string());
        };
        let mut last = String::new();
        for file in &files {
            let key = format!("{prefix}{}", file.name);
            patiently(stall, || s3.upload(bucket, &key, &file.path))
                .await
                .map_err(|error| {
                    let what = format!("cannot upload the report to s3://{bucket}/{key}: {error}");
                    Error::new(Exit::Internal, what).hint("the same command begins anew")
                })?;
            last = format!("s3://{bucket}/{key}");
        }
        Ok(last)
    }
}

fn unwritable(error: ReportError) -> Error {
    Error::new(Exit::Internal, error.to_string())
}
