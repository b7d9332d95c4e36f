//! The completion report, exactly as S3 Batch Operations writes it, so that tools that read theirs read ours.
//!
//! ```text
//! <root>/job-<id>/manifest.json            what there is, with MD5s; written last, so that it means "complete"
//! <root>/job-<id>/manifest.json.md5        its MD5 in hex
//! <root>/job-<id>/results/<40 hex>.csv     the rows that succeeded (skipped ones among them); in S3 another name for other rows
//! <root>/job-<id>/results/<40 hex>.csv     the rows that failed
//! <root>/job-<id>/needs-restore.csv        those of them that wait for a restore, where there are any: ours, S3 has none
//! ```
//!
//! Columns are `Bucket, Key, VersionId, TaskStatus, HTTPStatusCode, ErrorCode, ResultMessage`. `ReportSchema` in
//! `manifest.json` names the last but two in the other order: so does S3's, and the rows that it writes are as ours.
//! Keys are URL-encoded as in S3's manifests. Names are derived from the job, so writing a report again, with the same date, overwrites it
//! with the same content: several may do so at once. In S3, where nobody keeps two uploads from mixing, the results' names are derived
//! from their content too, so that no `manifest.json` names rows that another writing has put in the place of its own. Nothing is kept in
//! memory but buffers.
//!
//! `needs-restore.csv` is a manifest: bucket, key and, where the job's manifest has such a column, version id. S3 Batch Operations'
//! restore takes it, and so does a next run.
//! Source: S3 User Guide, "Examples: S3 Batch Operations completion reports".

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use serde::Serialize;
use sha2::Sha256;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::durable;
use crate::human;
use crate::manifest::encode_key;
use crate::outcome::{Failure, TaskOutcome};

/// Source: S3 User Guide, field *Format* of a report's manifest.
const FORMAT: &str = "Report_CSV_20180820";
/// S3's own text, whose order of the two codes is not that of the rows.
const SCHEMA: &str = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage";
/// Hex digits in the name of a result file, as S3 has them.
const RESULT_NAME_HEX: usize = 40;
/// The manifest of rows that wait for a restore.
const NEEDS_RESTORE: &str = "needs-restore.csv";
/// Buffer before each result file.
const BUFFER_BYTES: usize = 256 * 1024;

/// Which rows a report lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every settled row.
    All,
    /// Rows that failed.
    Failed,
}

/// Where the report will be read, which `manifest.json` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A directory: the bucket is empty, keys are relative to the report's root.
    Directory,
    /// A bucket: keys begin with the prefix as it is given, with its `/` where it has one.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix; may be empty.
        prefix: String,
    },
}

/// The report could not be written.
#[derive(Debug, Error)]
#[error("cannot write the report: {}: {source}", path.display())]
pub struct ReportError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn failed_at(path: &Path) -> impl Fn(io::Error) -> ReportError + '_ {
    |source| ReportError {
        path: path.to_owned(),
        source,
    }
}

/// A report that is complete on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Path of `manifest.json`.
    pub manifest_path: PathBuf,
    /// Every file, in the order in which they should be published: `manifest.json` is the last.
    pub files: Vec<ReportFile>,
    /// The manifest of the rows that wait for a restore, where there are any.
    pub needs_restore: Option<ReportFile>,
}

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Name relative to the report's root, with `/`: `job-<id>/manifest.json`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What a row of a report tells.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// That it is as it shall be, in one sentence.
    Succeeded(&'a str),
    /// That it is not.
    Failed(&'a Failure),
}

/// Writes one report, row by row.
pub struct ReportWriter {
    root: PathBuf,
    job: String,
    bucket: String,
    scope: Scope,
    destination: Destination,
    succeeded: Results,
    failed: Results,
    needs_restore: Results,
    writer: String,
    with_versions: bool,
    /// Held from [`lock`](Self::lock) to the end.
    lock: Option<File>,
}

impl ReportWriter {
    /// Begins the report of job `job_id` over objects of `bucket`. An earlier report of the job stays until
    /// [`finish`](Self::finish). `with_versions`: the job's manifest has a column for them. `writer` names this writing among those that
    /// go on at once; what one that was killed has left, the next of that name overwrites.
    ///
    /// # Errors
    /// The directories can't be made.
    pub fn create(
        root: &Path,
        job_id: &str,
        bucket: &str,
        with_versions: bool,
        scope: Scope,
        destination: Destination,
        writer: &str,
    ) -> Result<Self, ReportError> {
        let job = format!("job-{job_id}");
        let folder = root.join(&job);
        let results = folder.join("results");
        fs::create_dir_all(&results).map_err(failed_at(&results))?;
        for made in [&results, &folder] {
            let _ = durable::sync_parent(made);
        }
        Ok(Self {
            succeeded: Results::new(&results, &job, "succeeded", writer),
            failed: Results::new(&results, &job, "failed", writer),
            needs_restore: Results::named(&folder, NEEDS_RESTORE.to_owned(), "failed", writer),
            writer: writer.to_owned(),
            with_versions,
            root: root.to_owned(),
            job,
            bucket: bucket.to_owned(),
            scope,
            destination,
            lock: None,
        })
    }

    /// Adds a settled row; rows outside the scope are passed over.
    ///
    /// # Errors
    /// The file can't be written, as when the disk is full.
    pub fn row(
        &mut self,
        key: &str,
        version_id: Option<&str>,
        outcome: &TaskOutcome,
    ) -> Result<(), ReportError> {
        let told = match outcome {
            TaskOutcome::Failed(failure) => Told::Failed(failure),
            TaskOutcome::Succeeded { .. } => Told::Succeeded("Successful"),
            TaskOutcome::Skipped(reason) => Told::Succeeded(reason.message()),
        };
        self.tell(key, version_id, told)
    }

    /// Adds a row in words of one's own; rows outside the scope are passed over.
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub fn tell(
        &mut self,
        key: &str,
        version_id: Option<&str>,
        told: Told<'_>,
    ) -> Result<(), ReportError> {
        let status;
        let (results, http_status, code, message) = match told {
            Told::Failed(failure) => {
                status = failure.http_status.to_string();
                (
                    &mut self.failed,
                    status.as_str(),
                    one_line(&failure.code),
                    one_line(&failure.message),
                )
            }
            Told::Succeeded(_) if self.scope == Scope::Failed => return Ok(()),
            Told::Succeeded(message) => {
                (&mut self.succeeded, "200", String::new(), one_line(message))
            }
        };
        results.row(&[
            &self.bucket,
            &encode_key(key),
            version_id.unwrap_or_default(),
            results.status,
            http_status,
            &code,
            &message,
        ])
    }

    /// Adds a row to the manifest of those that wait for a restore.
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub fn needs_restore(
        &mut self,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<(), ReportError> {
        let key = encode_key(key);
        let fields = [&self.bucket, key.as_str(), version_id.unwrap_or_default()];
        // Every row has as many columns, or S3 refuses the manifest.
        let columns = if self.with_versions { 3 } else { 2 };
        self.needs_restore.row(&fields[..columns])
    }

    /// Waits until no other writing of the job's report puts files into the folder, and keeps others from it until this one has. Where a
    /// file system can't lock a folder, the names that are put in place are still whole ones.
    ///
    /// # Errors
    /// The folder is not there.
    pub fn lock(&mut self) -> Result<(), ReportError> {
        if self.lock.is_none() {
            let folder = self.root.join(&self.job);
            let lock = File::open(&folder).map_err(failed_at(&folder))?;
            let _ = lock.lock();
            self.lock = Some(lock);
        }
        Ok(())
    }

    /// Puts everything in its place, `manifest.json` last. `created`: when the report came to be what it is. One that is there already and
    /// is the same stays whole meanwhile.
    ///
    /// # Errors
    /// A file can't be written. What an earlier run of the same job has left may then be without its `manifest.json`.
    pub fn finish(mut self, created: OffsetDateTime) -> Result<Report, ReportError> {
        self.lock()?;
        let folder = self.root.join(&self.job);
        let manifest_path = folder.join("manifest.json");
        let md5_path = folder.join("manifest.json.md5");
        let (succeeded, failed) = (self.succeeded.close()?, self.failed.close()?);
        let needs_restore = self.needs_restore.close()?;
        let mut files = Vec::new();
        let mut results = Vec::new();
        for closed in [&succeeded, &failed] {
            let Some(md5) = closed.md5.clone() else {
                continue;
            };
            let (bucket, prefix, file_name) = match &self.destination {
                Destination::Directory => ("", "", closed.file_name.clone()),
                Destination::S3 { bucket, prefix } => {
                    let name = result_name(&self.job, closed.status, Some(&md5));
                    (bucket.as_str(), prefix.as_str(), name)
                }
            };
            let name = format!("{}/results/{file_name}", self.job);
            results.push(ManifestResult {
                status: closed.status,
                bucket: bucket.to_owned(),
                md5,
                key: format!("{prefix}{name}"),
            });
            files.push(ReportFile {
                name,
                path: closed.path.clone(),
            });
        }
        let manifest = manifest_json(results, created);
        if fs::read(&manifest_path).is_ok_and(|there| there != manifest) {
            // A manifest must never name a file of another writing.
            remove(&manifest_path)?;
            remove(&md5_path)?;
        }
        for closed in [&succeeded, &failed, &needs_restore] {
            closed.publish()?;
        }
        let needs_restore = needs_restore.md5.is_some().then(|| ReportFile {
            name: format!("{}/{NEEDS_RESTORE}", self.job),
            path: needs_restore.path,
        });
        files.extend(needs_restore.clone());
        let md5 = human::hex(&Md5::digest(&manifest));
        write_whole(&md5_path, md5.as_bytes(), &self.writer)?;
        write_whole(&manifest_path, &manifest, &self.writer)?;
        drop(self.lock);
        for path in [&md5_path, &manifest_path] {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(ReportFile {
                name: format!("{}/{file}", self.job),
                path: path.clone(),
            });
        }
        Ok(Report {
            manifest_path,
            files,
            needs_restore,
        })
    }
}

/// `manifest.json` of a report, in S3's order of fields.
#[derive(Serialize)]
struct Manifest {
    #[serde(rename = "Format")]
    format: &'static str,
    #[serde(rename = "ReportCreationDate")]
    created: String,
    #[serde(rename = "Results")]
    results: Vec<ManifestResult>,
    #[serde(rename = "ReportSchema")]
    schema: &'static str,
}

#[derive(Serialize)]
struct ManifestResult {
    #[serde(rename = "TaskExecutionStatus")]
    status: &'static str,
    #[serde(rename = "Bucket")]
    bucket: String,
    #[serde(rename = "MD5Checksum")]
    md5: String,
    #[serde(rename = "Key")]
    key: String,
}

fn manifest_json(results: Vec<ManifestResult>, created: OffsetDateTime) -> Vec<u8> {
    let manifest = Manifest {
        format: FORMAT,
        created: created
            .format(&Rfc3339)
            .expect("the present has a year of four digits"),
        results,
        schema: SCHEMA,
    };
    serde_json::to_vec_pretty(&manifest).expect("strings and lists are always JSON")
}

/// The name of a result file. `md5`: of its content, where the name says that too.
fn result_name(job: &str, status: &str, md5: Option<&str>) -> String {
    let mut said = format!("reseal report\n{job}\n{status}");
    if let Some(md5) = md5 {
        said.push('\n');
        said.push_str(md5);
    }
    let name = human::hex(&Sha256::digest(said));
    format!("{}.csv", &name[..RESULT_NAME_HEX])
}

/// One result file, which comes into being with its first row.
struct Results {
    status: &'static str,
    file_name: String,
    path: PathBuf,
    partial: PathBuf,
    csv: Option<csv::Writer<Hashed<BufWriter<File>>>>,
}

impl Results {
    fn new(folder: &Path, job: &str, status: &'static str, writer: &str) -> Self {
        Self::named(folder, result_name(job, status, None), status, writer)
    }

    fn named(folder: &Path, file_name: String, status: &'static str, writer: &str) -> Self {
        Self {
            status,
            path: folder.join(&file_name),
            partial: folder.join(format!("{file_name}.{writer}.partial")),
            file_name,
            csv: None,
        }
    }

    fn row(&mut self, fields: &[&str]) -> Result<(), ReportError> {
        if self.csv.is_none() {
            let file = File::create(&self.partial).map_err(failed_at(&self.partial))?;
            let hashed = Hashed {
                inner: BufWriter::with_capacity(BUFFER_BYTES, file),
                md5: Md5::new(),
            };
            self.csv = Some(csv::Writer::from_writer(hashed));
        }
        let csv = self.csv.as_mut().expect("made above");
        csv.write_record(fields)
            .map_err(io::Error::from)
            .map_err(failed_at(&self.partial))
    }

    /// Everything on disk, under the partial name.
    fn close(self) -> Result<Closed, ReportError> {
        let md5 = match self.csv {
            None => None,
            Some(csv) => {
                let failed = failed_at(&self.partial);
                let hashed = csv.into_inner().map_err(|e| failed(e.into_error()))?;
                let file = hashed
                    .inner
                    .into_inner()
                    .map_err(|e| failed(e.into_error()))?;
                file.sync_all().map_err(&failed)?;
                Some(human::hex(&hashed.md5.finalize()))
            }
        };
        Ok(Closed {
            status: self.status,
            file_name: self.file_name,
            path: self.path,
            partial: self.partial,
            md5,
        })
    }
}

/// A result file whose rows are all on disk.
struct Closed {
    status: &'static str,
    file_name: String,
    path: PathBuf,
    partial: PathBuf,
    /// In hex; `None` without rows.
    md5: Option<String>,
}

impl Closed {
    /// Gives the file its name. Without rows there is no file, nor one of an earlier writing.
    fn publish(&self) -> Result<(), ReportError> {
        match &self.md5 {
            Some(_) => rename(&self.partial, &self.path),
            None => remove(&self.path),
        }
    }
}

/// Hashes what passes through.
struct Hashed<W> {
    inner: W,
    md5: Md5,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.md5.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Synced before it is renamed, so that the name never stands for half a file.
fn write_whole(path: &Path, content: &[u8], writer: &str) -> Result<(), ReportError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{writer}.partial"));
    let partial = PathBuf::from(partial);
    let mut file = File::create(&partial).map_err(failed_at(&partial))?;
    file.write_all(content).map_err(failed_at(&partial))?;
    file.sync_all().map_err(failed_at(&partial))?;
    rename(&partial, path)
}

/// Gives a file its name, for good before anything is written that counts on it. Where a file system can't sync a folder, a crash may
/// cost the report, and the same command writes it again.
fn rename(partial: &Path, path: &Path) -> Result<(), ReportError> {
    fs::rename(partial, path).map_err(failed_at(path))?;
    let _ = durable::sync_parent(path);
    Ok(())
}

fn remove(path: &Path) -> Result<(), ReportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed_at(path)(error)),
        _ => Ok(()),
    }
}

/// A store's text without line breaks and other control characters: a report has one row on a line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
