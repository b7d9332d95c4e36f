//! What `reseal undo` came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::human;
use crate::outcome::{Tally, TaskOutcome};

/// Failure codes that the text names.
const CODES_SHOWN_MAX: usize = 10;

/// What an undo came to; the field names are those of `--output json`.
#[derive(Clone, Debug, Serialize)]
pub struct Undoing {
    /// Whether nothing was changed, and only told what would be.
    pub dry_run: bool,
    /// Rewrites in the evidence.
    pub total: u64,
    /// Objects that were written back, or would be.
    pub written_back: u64,
    /// Objects whose former version is on top again already.
    pub already: u64,
    /// Rewrites that were not undone.
    pub failed: u64,
    /// These by code.
    pub failures: BTreeMap<String, u64>,
    /// Requests by operation, retries included.
    pub requests: BTreeMap<&'static str, u64>,
    /// Path or URL of the report's `manifest.json`.
    pub report: String,
    /// Duration, in seconds.
    pub elapsed_seconds: f64,
}

/// Counts an undo.
#[derive(Debug)]
pub struct Collector {
    dry_run: bool,
    tally: Tally,
}

impl Collector {
    /// Nothing is counted yet.
    pub fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            tally: Tally::default(),
        }
    }

    /// Counts how one rewrite was undone: written back is success, left alone is skipped.
    pub fn end(&mut self, outcome: &TaskOutcome) {
        self.tally.add(outcome);
    }

    /// What it comes to.
    pub fn undoing(
        self,
        total: u64,
        requests: BTreeMap<&'static str, u64>,
        report: String,
        elapsed: Duration,
    ) -> Undoing {
        let tally = self.tally;
        Undoing {
            dry_run: self.dry_run,
            total,
            written_back: tally.succeeded_total(),
            already: tally.skipped_total(),
            failed: tally.failed_total(),
            failures: tally.failed,
            requests,
            report,
            elapsed_seconds: elapsed.as_secs_f64(),
        }
    }
}

impl Undoing {
    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }
}

impl fmt::Display for Undoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = match self.dry_run {
            true => "would be",
            false => "written back",
        };
        writeln!(f, "rewrites      {}", human::count(self.total))?;
        writeln!(f, "{written:<13} {}", human::count(self.written_back))?;
        if self.already > 0 {
            writeln!(f, "already back  {}", human::count(self.already))?;
        }
        writeln!(f, "not undone    {}", human::count(self.failed))?;
        let mut codes: Vec<_> = self.failures.iter().collect();
        codes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (code, n) in codes.iter().take(CODES_SHOWN_MAX) {
            writeln!(
                f,
                "  {:>10}  {}",
                human::count(**n),
                human::sanitize(code, 100)
            )?;
        }
        let left = self.total - self.written_back - self.already - self.failed;
        if left > 0 {
            writeln!(f, "not looked at {}", human::count(left))?;
        }
        writeln!(
            f,
            "report        {}",
            human::sanitize(&self.report, usize::MAX)
        )?;
        let took = Duration::from_secs_f64(self.elapsed_seconds);
        write!(f, "took          {}", human::duration(took))
    }
}
