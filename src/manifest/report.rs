//! A completion report as a manifest: the rows of a former job that failed, or others.
//!
//! Ours and S3 Batch Operations' have one format: a `manifest.json` that names result files with their MD5s, each of rows that
//! all succeeded or all failed. Only those are read that are wanted. A report without any is a manifest without rows.
//! Source: S3 User Guide, "Examples: S3 Batch Operations completion reports".

use serde::Deserialize;

use super::error::{ManifestError, Problem, excerpt};
use super::inventory::{DataFile, bucket_of_arn, check_once};
use super::reading::ReportRows;
use super::schema::{Schema, bucket_name};

/// The format that S3 has had since there are reports, and that ours have.
const FORMAT: &str = "Report_CSV_20180820";

/// The folder of result files in a report.
pub(super) const FOLDER: &str = "results";

/// The parts of a key behind a report's root: the job's folder and `manifest.json`.
const MANIFEST_DEPTH: usize = 2;

/// The completion report of a former job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionReport {
    /// The name it was read by, for messages.
    pub name: String,
    /// The files of rows that are wanted, in the order of their rows.
    pub files: Vec<ResultFile>,
    /// The columns of every file.
    pub schema: Schema,
}

/// One file of such rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFile {
    /// The bucket it was written to; none where the report was written to a folder, and the key is relative to that.
    pub bucket: Option<String>,
    /// Its key and MD5.
    pub file: DataFile,
}

/// What tells a report's `manifest.json` from others.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "Format")]
    format: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    results: Vec<JsonResult>,
    report_schema: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JsonResult {
    task_execution_status: String,
    #[serde(default)]
    bucket: String,
    #[serde(rename = "MD5Checksum")]
    md5: String,
    key: String,
}

impl CompletionReport {
    /// Reads a `manifest.json`; `None` where it is not a report's.
    ///
    /// # Errors
    /// It is one that can't be used; `name` is in the message.
    pub fn parse(json: &[u8], name: &str, rows: ReportRows) -> Option<Result<Self, ManifestError>> {
        let Head { format } = serde_json::from_slice(json).ok()?;
        let parsed = if format == FORMAT {
            Self::parse_problem(json, name, rows)
        } else {
            let format = excerpt(format.as_bytes());
            Err(Problem::ReportJson(format!(
                "Format is {format:?}, not {FORMAT}"
            )))
        };
        Some(parsed.map_err(|problem| ManifestError::fault(name, None, problem)))
    }

    fn parse_problem(json: &[u8], name: &str, rows: ReportRows) -> Result<Self, Problem> {
        let json: Json =
            serde_json::from_slice(json).map_err(|error| Problem::ReportJson(error.to_string()))?;
        let schema = Schema::of_report(&json.report_schema, rows)?;
        let wanted = json
            .results
            .into_iter()
            .filter(|result| rows.has(&result.task_execution_status));
        let files: Vec<_> = wanted.map(JsonResult::checked).collect::<Result<_, _>>()?;
        check_once(files.iter().map(|result| &result.file.key)).map_err(Problem::ReportJson)?;
        Ok(Self {
            name: name.to_owned(),
            files,
            schema,
        })
    }
}

impl JsonResult {
    fn checked(self) -> Result<ResultFile, Problem> {
        let bucket = bucket_of_arn(self.bucket);
        let bucket = match bucket.as_str() {
            "" => None,
            name => Some(bucket_name(name.as_bytes())?),
        };
        let file =
            DataFile::checked(self.key, None, Some(self.md5)).map_err(Problem::ReportJson)?;
        Ok(ResultFile { bucket, file })
    }
}

impl ResultFile {
    /// Bucket and key of the file of a report whose `manifest.json` is at `manifest_key` of `manifest_bucket`. Where it names no
    /// bucket, the report was written to a folder and has been copied: it lies as it did there.
    pub fn in_s3(&self, manifest_bucket: &str, manifest_key: &str) -> (String, String) {
        let key = &self.file.key;
        if let Some(bucket) = &self.bucket {
            return (bucket.clone(), key.clone());
        }
        let mut parts = manifest_key.rsplitn(MANIFEST_DEPTH + 1, '/');
        let root = parts.nth(MANIFEST_DEPTH);
        let key = root.map_or_else(|| key.clone(), |root| format!("{root}/{key}"));
        (manifest_bucket.to_owned(), key)
    }

    /// Bucket and key of the file of a report whose `manifest.json` came from nowhere in particular.
    ///
    /// # Errors
    /// It names no bucket.
    pub fn by_name(&self) -> Result<(String, String), ManifestError> {
        match &self.bucket {
            Some(bucket) => Ok((bucket.clone(), self.file.key.clone())),
            None => Err(ManifestError::fault(
                &self.file.key,
                None,
                Problem::ReportPlace,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "22ee037f3515975f7719699e5c416eaa";

    /// As S3's user guide shows one, with these results.
    fn json(results: &str) -> String {
        format!(
            r#"{{"Format": "Report_CSV_20180820", "ReportCreationDate": "2019-04-05T17:48:39.725Z", "Results": [{results}],
                "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"}}"#
        )
    }

    fn result(status: &str, bucket: &str, key: &str) -> String {
        format!(
            r#"{{"TaskExecutionStatus": "{status}", "Bucket": "{bucket}", "MD5Checksum": "{MD5}", "Key": "{key}"}}"#
        )
    }

    fn parse(json: &str) -> Result<CompletionReport, ManifestError> {
        CompletionReport::parse(json.as_bytes(), "dir/manifest.json", ReportRows::Failed)
            .expect("a report")
    }

    #[test]
    fn only_files_of_failed_rows_are_listed() {
        let results = [
            result("succeeded", "reports", "p/job-1/results/a.csv"),
            result("failed", "reports", "p/job-1/results/b.csv"),
            result("failed", "arn:aws-cn:s3:::other", "p/job-1/results/c.csv"),
            result("failed", "", "job-1/results/d.csv"),
        ];
        let report = parse(&json(&results.join(", "))).expect("sound");
        let places: Vec<_> = report
            .files
            .iter()
            .map(|file| file.in_s3("copies", "deep/er/job-9/manifest.json"))
            .collect();
        let place = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        assert_eq!(
            places,
            [
                place("reports", "p/job-1/results/b.csv"),
                place("other", "p/job-1/results/c.csv"),
                place("copies", "deep/er/job-1/results/d.csv"),
            ]
        );
        let relative = &report.files[2];
        for root in ["manifest.json", "job-1/manifest.json"] {
            assert_eq!(relative.in_s3("c", root), place("c", "job-1/results/d.csv"));
        }
        assert_eq!(report.files[0].file.md5.as_deref(), Some(MD5));
        assert!(report.files[0].by_name().is_ok());
        let message = relative.by_name().expect_err("nowhere").to_string();
        assert!(message.contains("standard input"), "{message}");
        assert_eq!(
            report.schema.identity(),
            "Bucket,Key,VersionId,TaskStatus,,,"
        );
        assert!(parse(&json("")).is_ok_and(|report| report.files.is_empty()));
    }

    #[test]
    fn what_is_no_usable_report_is_refused() {
        let one = result("failed", "b", "x.csv");
        let table = [
            (json(&format!("{one}, {one}")), "names \"x.csv\" twice"),
            (json(&one.replace(MD5, "22ee")), "\"22ee\" is no MD5"),
            (json(&one.replace("MD5Checksum", "ETag")), "MD5Checksum"),
            (json(&result("failed", "b", "")), "without a key"),
            (json(&result("failed", "b/c", "x")), "no bucket name"),
            (
                json(&one).replace("2018", "2031"),
                "Format is \"Report_CSV_20310820\"",
            ),
            (
                json(&one).replace("TaskStatus", "Status"),
                "no column TaskStatus",
            ),
            (json(&one).replace("ReportSchema", "Schema"), "ReportSchema"),
        ];
        for (text, phrase) in table {
            let message = parse(&text).expect_err(phrase).to_string();
            assert!(message.starts_with("dir/manifest.json: "), "{message}");
            assert!(message.contains(phrase), "{phrase}: {message}");
        }
        for other in ["{}", "{", r#"{"fileFormat": "CSV"}"#] {
            let parsed = CompletionReport::parse(other.as_bytes(), "m", ReportRows::Failed);
            assert!(parsed.is_none());
        }
    }
}
