//! What a run comes to: one object for programs, a few lines for a person.
//!
//! Rows are counted over the **whole job**: what earlier runs settled and what this one did, so that
//! `total = succeeded + skipped + failed + rows not settled` whatever was interrupted in between. `already_settled` says
//! how many of them came from earlier runs; `bytes`, `methods`, `skips` and `failures` follow the rows. Requests,
//! retries, throttles and time are those of **this run**.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::event::Event;
use crate::exit::Exit;
use crate::human;
use crate::outcome::Tally;

/// Failure codes that the text names; JSON and the report have all.
const CODES_SHOWN_MAX: usize = 10;

/// Findings that are kept. There is one of each code at most, and fewer codes than this.
const FINDINGS_MAX: usize = 64;

/// One finding about the bucket or the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, the same in every run.
    pub code: &'static str,
    /// `stop`, `warning` or `note`.
    pub level: &'static str,
    /// One or two sentences.
    pub message: String,
}

/// What was found in the manifest: of the shard's rows, where the job is cut in several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ManifestCounts {
    /// Where it is; of a folder of inventories, the one that was taken.
    pub location: String,
    /// Its rows: those of the job, and those that the filters leave out.
    pub rows: u64,
    /// Those by filter.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Rows of the job that name an object which a row before them names, among those compared.
    pub duplicates: u64,
    /// The first rows of the job, as many as there was memory for: these were compared.
    pub duplicates_compared: u64,
    /// Rows of the job that are delete markers.
    pub delete_markers: u64,
    /// Rows of empty objects whose key ends with a slash.
    pub directory_markers: u64,
    /// Rows with a column for the version id, and nothing in it.
    pub empty_version_ids: u64,
    /// Rows whose key is spelt with a `+` or a `%`.
    pub plus_or_percent: u64,
}

impl ManifestCounts {
    /// What is remarkable about its rows, in words; nothing where nothing is.
    fn remarks(&self) -> String {
        let counts = [
            (self.delete_markers, "delete markers"),
            (self.directory_markers, "directory markers"),
            (self.empty_version_ids, "empty version ids"),
            (self.plus_or_percent, "keys spelt with + or %"),
            (self.duplicates, "duplicates"),
        ];
        let some = counts.iter().filter(|(n, _)| *n > 0);
        let some: Vec<_> = some
            .map(|(n, what)| format!("{what} {}", human::count(*n)))
            .collect();
        let mut text = some.join(", ");
        if self.duplicates > 0 && self.is_partly_compared() {
            let compared = human::count(self.duplicates_compared);
            text.push_str(&format!(" (of the first {compared} rows)"));
        }
        text
    }

    fn is_partly_compared(&self) -> bool {
        self.duplicates_compared + self.left_out.values().sum::<u64>() < self.rows
    }
}

/// Most shards that are named in the text.
const SHARDS_SHOWN_MAX: usize = 20;

/// The summary, with the field names of `--output json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The job.
    pub job_id: String,
    /// `complete`, `interrupted` or `failed`: [`Exit::status`].
    pub status: &'static str,
    /// The target's name on the command line.
    pub target: String,
    /// Which shard this run had, where the job is cut in several; the counts are its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// How many shards there are then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// What was found in the manifest.
    pub manifest: ManifestCounts,
    /// Rows of the job, or of the shard: those of the manifest that pass the filters.
    pub total: u64,
    /// Rows that were rewritten.
    pub succeeded: u64,
    /// Rows that needed nothing.
    pub skipped: u64,
    /// Rows that were not rewritten.
    pub failed: u64,
    /// Rows among these three that earlier runs had settled.
    pub already_settled: u64,
    /// Size of the rewritten objects, in bytes.
    pub bytes: u64,
    /// Duration of this run, in seconds.
    pub elapsed_seconds: f64,
    /// Time of it in which nothing went on, in seconds.
    pub stalled_seconds: f64,
    /// Requests that this run sent again.
    pub retries: u64,
    /// Answers that asked this run for fewer requests.
    pub throttles: u64,
    /// Requests of this run by operation, retries included.
    pub requests: BTreeMap<&'static str, u64>,
    /// Rewritten rows by method.
    pub methods: BTreeMap<&'static str, u64>,
    /// Skipped rows by reason.
    pub skips: BTreeMap<&'static str, u64>,
    /// Failed rows by code.
    pub failures: BTreeMap<String, u64>,
    /// What this run found of the bucket and the store before the first row.
    pub findings: Vec<Finding>,
    /// Path or URL of the report's `manifest.json`, when one was written.
    pub report: Option<String>,
    /// Path or URL of the manifest of rows that wait for a restore, when there are any and the report was written.
    pub needs_restore: Option<String>,
    /// Path or URL of `evidence.json`, when evidence was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// SHA-256 of that file: kept elsewhere, it tells whether anything was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_sha256: Option<String>,
    /// Shards that still had rows when this one had none left: the last of them writes the report.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished_shards: Vec<u32>,
}

/// Counts a run's events for its [`Summary`].
#[derive(Debug)]
pub struct Collector {
    begun: Instant,
    total: u64,
    already_settled: u64,
    tally: Tally,
    stalled: Stalled,
    retries: u64,
    throttles: u64,
    requests: BTreeMap<&'static str, u64>,
    findings: Vec<Finding>,
}

/// The time in which nothing went on: from the first of some stalls to the end of the last.
#[derive(Debug, Default)]
struct Stalled {
    open: u32,
    since: Option<Instant>,
    before: Duration,
}

impl Stalled {
    fn begin(&mut self) {
        self.open += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.before = self.so_far();
            self.since = None;
        }
    }

    fn so_far(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    /// The run begins now.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            total: 0,
            already_settled: 0,
            tally: Tally::default(),
            stalled: Stalled::default(),
            retries: 0,
            throttles: 0,
            requests: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// Takes one event.
    pub fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { total, before, .. } => {
                self.total = *total;
                self.already_settled = before.settled();
                self.tally = (*before).clone();
            }
            Event::Settled { outcome, .. } => self.tally.add(outcome),
            Event::Request { operation, .. } => {
                *self.requests.entry(operation.name()).or_default() += 1;
            }
            Event::StallBegan { .. } => self.stalled.begin(),
            Event::StallEnded { .. } => self.stalled.end(),
            Event::Retried { .. } => self.retries += 1,
            Event::Throttled { .. } => self.throttles += 1,
            Event::Finding {
                level,
                code,
                message,
            } => {
                if self.findings.len() < FINDINGS_MAX {
                    self.findings.push(Finding {
                        code,
                        level: level.name(),
                        message: (*message).to_owned(),
                    });
                }
            }
            Event::Preparing { .. }
            | Event::TaskStarted
            | Event::TaskEnded
            | Event::Recorded
            | Event::Synced
            | Event::Verified { .. }
            | Event::HoldBegan { .. }
            | Event::HoldEnded { .. }
            | Event::Found { .. }
            | Event::Draining { .. }
            | Event::Heartbeat
            | Event::Pressure(_)
            | Event::Warning { .. }
            | Event::Finished { .. } => {}
        }
    }

    /// Rows of the manifest; 0 until it is validated.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts of the whole job so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The summary of a run that ends now, in that way.
    pub fn summary(
        &self,
        job_id: &str,
        target: &str,
        exit: Exit,
        report: Option<String>,
    ) -> Summary {
        let tally = &self.tally;
        Summary {
            job_id: job_id.to_owned(),
            status: exit.status(),
            target: target.to_owned(),
            manifest: ManifestCounts::default(),
            total: self.total,
            succeeded: tally.succeeded_total(),
            skipped: tally.skipped_total(),
            failed: tally.failed_total(),
            already_settled: self.already_settled,
            bytes: tally.bytes,
            elapsed_seconds: milliseconds(self.begun.elapsed()),
            stalled_seconds: milliseconds(self.stalled.so_far()),
            retries: self.retries,
            throttles: self.throttles,
            requests: self.requests.clone(),
            methods: named(&tally.succeeded, |method| method.name()),
            skips: named(&tally.skipped, |reason| reason.name()),
            failures: tally.failed.clone(),
            findings: self.findings.clone(),
            report,
            needs_restore: None,
            evidence: None,
            evidence_sha256: None,
            shard: None,
            shards: None,
            unfinished_shards: Vec::new(),
        }
    }
}

/// Seconds, to the millisecond: what is finer is noise.
fn milliseconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn named<K: Copy>(
    counts: &BTreeMap<K, u64>,
    name: impl Fn(K) -> &'static str,
) -> BTreeMap<&'static str, u64> {
    counts.iter().map(|(key, n)| (name(*key), *n)).collect()
}

impl Summary {
    /// Rows that have no outcome yet.
    pub fn remaining(&self) -> u64 {
        self.total
            .saturating_sub(self.succeeded + self.skipped + self.failed)
    }

    /// One object on one line, as `--output json` prints it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers, strings and maps is always JSON")
    }

    fn hint(&self) -> Option<String> {
        match self.status {
            "interrupted" if self.total > 0 && self.remaining() == 0 => {
                Some("every row is settled; the same command writes the report".to_owned())
            }
            "interrupted" => Some(format!(
                "{} not settled yet; the same command continues",
                human::count_of(self.remaining(), "row")
            )),
            "failed" if self.shards.is_some() => Some(
                "what is settled is kept; remove the cause, then the same command continues; `reseal report` writes the report \
                 of what is settled in all shards"
                    .to_owned(),
            ),
            "failed" => Some(
                "what is settled is kept; remove the cause, then the same command continues"
                    .to_owned(),
            ),
            _ if self.failed > 0 => Some(match &self.report {
                Some(_) => "look at the failed rows in the report; the same command does not try them again".to_owned(),
                None if self.shards.is_some() => {
                    "the failed rows will be in the report of all shards; the same command does not try them again".to_owned()
                }
                None => "run the same command with --report to see which rows failed".to_owned(),
            }),
            _ => None,
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("job", self.job_id.clone())];
        if !self.manifest.location.is_empty() {
            let location = human::sanitize(&self.manifest.location, usize::MAX);
            lines.push(("manifest", location));
        }
        if let (Some(shard), Some(shards)) = (self.shard, self.shards) {
            lines.push(("shard", format!("{shard} of {shards}")));
        }
        lines.extend([
            ("status", self.status.to_owned()),
            ("target", self.target.clone()),
        ]);
        let left_out: u64 = self.manifest.left_out.values().sum();
        if left_out > 0 {
            let left_out = with_parts(left_out, &self.manifest.left_out, None);
            lines.push(("left out", left_out));
        }
        lines.push(("rows", human::count(self.total)));
        let remarks = self.manifest.remarks();
        if !remarks.is_empty() {
            lines.push(("  among them", remarks));
        }
        lines.extend([
            (
                "  succeeded",
                with_parts(self.succeeded, &self.methods, Some(self.bytes)),
            ),
            ("  skipped", with_parts(self.skipped, &self.skips, None)),
            ("  failed", human::count(self.failed)),
        ]);
        if self.remaining() > 0 {
            lines.push(("  not settled", human::count(self.remaining())));
        }
        if self.already_settled > 0 {
            let rows = human::count(self.already_settled);
            lines.push(("earlier runs", format!("{rows} of the settled rows")));
        }
        lines.push(("time", self.time()));
        if self.stalled_seconds > 0.0 {
            let stalled = Duration::from_secs_f64(self.stalled_seconds);
            lines.push(("  stood still", human::duration(stalled)));
        }
        let requests: u64 = self.requests.values().sum();
        lines.push(("requests", with_parts(requests, &self.requests, None)));
        if self.retries > 0 || self.throttles > 0 {
            let (retries, throttles) = (human::count(self.retries), human::count(self.throttles));
            lines.push(("retries", format!("{retries}, throttled {throttles}x")));
        }
        if !self.unfinished_shards.is_empty() {
            lines.push(("report", self.waiting()));
        }
        if let Some(report) = &self.report {
            lines.push(("report", human::sanitize(report, usize::MAX)));
        }
        if let Some(manifest) = &self.needs_restore {
            lines.push(("needs restore", human::sanitize(manifest, usize::MAX)));
        }
        if let Some(evidence) = &self.evidence {
            lines.push(("evidence", human::sanitize(evidence, usize::MAX)));
        }
        if let Some(sha256) = &self.evidence_sha256 {
            lines.push(("  sha256", sha256.clone()));
        }
        lines
    }

    fn waiting(&self) -> String {
        let shown = self.unfinished_shards.iter().take(SHARDS_SHOWN_MAX);
        let mut shards: Vec<_> = shown.map(u32::to_string).collect();
        if self.unfinished_shards.len() > SHARDS_SHOWN_MAX {
            shards.push("…".to_owned());
        }
        format!(
            "the last shard writes it; still at work: {}",
            shards.join(", ")
        )
    }

    fn time(&self) -> String {
        let elapsed = human::duration(Duration::from_secs_f64(self.elapsed_seconds));
        let here = (self.succeeded + self.skipped + self.failed) - self.already_settled;
        if self.elapsed_seconds < 1.0 || here == 0 {
            return elapsed;
        }
        let rate = here as f64 / self.elapsed_seconds;
        format!("{elapsed}, {rate:.1} rows/s")
    }

    fn failure_lines(&self) -> Vec<String> {
        let mut by_count: Vec<(&String, u64)> =
            self.failures.iter().map(|(code, n)| (code, *n)).collect();
        by_count.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let hidden: u64 = by_count.iter().skip(CODES_SHOWN_MAX).map(|(_, n)| n).sum();
        let mut lines: Vec<String> = by_count
            .iter()
            .take(CODES_SHOWN_MAX)
            .map(|(code, n)| format!("{:>10}  {}", human::count(*n), human::sanitize(code, 100)))
            .collect();
        if hidden > 0 {
            lines.push(format!("{:>10}  with other codes", human::count(hidden)));
        }
        lines
    }
}

/// `12 (copy 10, other 2), 3.0 MiB`
fn with_parts(n: u64, parts: &BTreeMap<&'static str, u64>, bytes: Option<u64>) -> String {
    let mut text = human::count(n);
    if n > 0 && !parts.is_empty() {
        let parts: Vec<String> = parts
            .iter()
            .map(|(name, n)| format!("{name} {}", human::count(*n)))
            .collect();
        text.push_str(&format!(" ({})", parts.join(", ")));
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
        text.push_str(&format!(", {}", human::bytes(bytes)));
    }
    text
}

/// For a person: `--output text`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.lines() {
            writeln!(f, "{name:<14}{value}")?;
            if name == "  failed" {
                for line in self.failure_lines() {
                    writeln!(f, "    {line}")?;
                }
            }
        }
        for finding in &self.findings {
            let message = human::sanitize(&finding.message, usize::MAX);
            writeln!(f, "{}: {message}", finding.level)?;
        }
        if let Some(hint) = self.hint() {
            writeln!(f, "hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Level, Operation, ResponseClass, Throttler};
    use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};

    fn failed(code: &str) -> TaskOutcome {
        TaskOutcome::Failed(Failure {
            code: code.to_owned(),
            http_status: 403,
            message: String::new(),
        })
    }

    const COPIED: TaskOutcome = TaskOutcome::Succeeded {
        method: Method::Copy,
        bytes: 1_000_000,
    };

    /// Ten rows; three settled before, four now.
    fn collector() -> Collector {
        let mut collector = Collector::new();
        let mut before = Tally::default();
        for outcome in [
            COPIED,
            failed("AccessDenied"),
            TaskOutcome::Skipped(SkipReason::DeleteMarker),
        ] {
            before.add(&outcome);
        }
        let (operation, class) = (Operation::CopyObject, ResponseClass::Ok);
        let started = Event::Started {
            total: 10,
            before: &before,
            doubtful: 0,
        };
        let request = Event::Request {
            operation,
            class,
            elapsed: Duration::ZERO,
        };
        for event in [
            started,
            request.clone(),
            request,
            Event::Retried { operation, class },
            Event::Throttled { by: Throttler::S3 },
            Event::Finding {
                level: Level::Note,
                code: "replicas-stay",
                message: "replicas keep theirs",
            },
        ] {
            collector.on(&event);
        }
        for outcome in [COPIED, COPIED, failed("AccessDenied"), failed("NoSuchKey")] {
            let key = "k";
            collector.on(&Event::Settled {
                key,
                outcome: &outcome,
            });
        }
        collector
    }

    #[test]
    fn rows_are_of_the_whole_job_and_requests_of_this_run() {
        let summary = collector().summary("f00d", "sse-kms", Exit::Interrupted, None);
        let mut json: serde_json::Value =
            serde_json::from_str(&summary.to_json()).expect("one JSON object");
        assert!(
            json["elapsed_seconds"]
                .take()
                .as_f64()
                .is_some_and(|s| s < 60.0)
        );
        let expected = serde_json::json!({
            "job_id": "f00d", "status": "interrupted", "target": "sse-kms", "total": 10,
            "succeeded": 3, "skipped": 1, "failed": 3, "already_settled": 3, "bytes": 3_000_000,
            "elapsed_seconds": null, "stalled_seconds": 0.0, "retries": 1, "throttles": 1, "requests": {"CopyObject": 2},
            "methods": {"copy": 3}, "skips": {"delete-marker": 1},
            "failures": {"AccessDenied": 2, "NoSuchKey": 1},
            "findings": [{"code": "replicas-stay", "level": "note", "message": "replicas keep theirs"}], "report": null,
            "needs_restore": null,
            "manifest": {
                "location": "", "rows": 0, "left_out": {}, "duplicates": 0, "duplicates_compared": 0, "delete_markers": 0,
                "directory_markers": 0, "empty_version_ids": 0, "plus_or_percent": 0,
            },
        });
        assert_eq!(json, expected);
        assert_eq!(summary.remaining(), 3);
        assert!(!summary.to_json().contains('\n'));
    }

    #[tokio::test(start_paused = true)]
    async fn stalls_beside_each_other_count_once_and_one_that_never_ends_counts() {
        let mut collector = Collector::new();
        let began = Event::StallBegan { why: "why" };
        let lasted = Duration::ZERO;
        let ended = Event::StallEnded { lasted };
        for event in [&began, &began, &ended, &ended, &began] {
            collector.on(event);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        let summary = collector.summary("f00d", "sse-s3", Exit::Internal, None);
        // Three stretches of the first two, one of the last.
        assert_eq!(summary.stalled_seconds, 40.0);
        assert!(
            summary.to_string().contains("  stood still 40s\n"),
            "{summary}"
        );
    }

    #[test]
    fn what_is_remarkable_about_the_manifest_is_named_and_nothing_is_claimed_beyond_it() {
        let mut summary = collector().summary("f00d", "sse-kms", Exit::Complete, None);
        summary.manifest = ManifestCounts {
            location: "s3://inventories/2026-01-04T01-00Z/manifest.json".to_owned(),
            rows: 22,
            left_out: BTreeMap::from([("exclude", 10), ("other", 2)]),
            duplicates: 1,
            duplicates_compared: 10,
            delete_markers: 3,
            directory_markers: 0,
            empty_version_ids: 0,
            plus_or_percent: 4,
        };
        let expected = "\
job           f00d
manifest      s3://inventories/2026-01-04T01-00Z/manifest.json
status        complete
target        sse-kms
left out      12 (exclude 10, other 2)
rows          10
  among them  delete markers 3, keys spelt with + or % 4, duplicates 1
";
        let text = summary.to_string();
        assert!(text.starts_with(expected), "{text}");
        summary.manifest.duplicates_compared = 9;
        let text = summary.to_string();
        assert!(
            text.contains("duplicates 1 (of the first 9 rows)\n"),
            "{text}"
        );
    }

    #[test]
    fn the_text_says_what_happened_and_what_to_do() {
        let report = Some("out/job-f00d/manifest.json".to_owned());
        let mut summary = collector().summary("f00d", "sse-kms", Exit::Interrupted, report);
        summary.elapsed_seconds = 2.0;
        summary.needs_restore = Some("out/job-f00d/needs-restore.csv".to_owned());
        let expected = "\
job           f00d
status        interrupted
target        sse-kms
rows          10
  succeeded   3 (copy 3), 2.9 MiB
  skipped     1 (delete-marker 1)
  failed      3
             2  AccessDenied
             1  NoSuchKey
  not settled 3
earlier runs  3 of the settled rows
time          2.0s, 2.0 rows/s
requests      2 (CopyObject 2)
retries       1, throttled 1x
report        out/job-f00d/manifest.json
needs restore out/job-f00d/needs-restore.csv
note: replicas keep theirs
hint: 3 rows not settled yet; the same command continues
";
        assert_eq!(summary.to_string(), expected);
    }

    #[test]
    fn the_hint_follows_the_status() {
        let with = |exit, report: Option<&str>| {
            collector()
                .summary("f00d", "sse-s3", exit, report.map(str::to_owned))
                .hint()
                .unwrap_or_default()
        };
        assert!(with(Exit::RowsFailed, Some("r")).contains("in the report"));
        assert!(with(Exit::RowsFailed, None).contains("--report"));
        assert!(with(Exit::JobFailed, None).contains("remove the cause"));
        let clean = Collector::new().summary("f00d", "sse-s3", Exit::Complete, None);
        assert_eq!(clean.hint(), None);
    }
}
