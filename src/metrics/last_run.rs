//! What is pushed of a run once it is over: its summary, under names of its own, so that nothing is counted twice that was scraped too.

use std::fmt::Write as _;

use super::table::{FAILED, Kind, Metric, OUTCOME, SKIPPED, SUCCEEDED, Unit};
use crate::exit::Exit;

/// How it ended.
pub const EXIT_CODE: Metric = Metric::gauge(
    "reseal_last_run_exit_code",
    Unit::Count,
    &[],
    "The exit code of the last run.",
);
/// When it ended.
pub const END: Metric = Metric::gauge(
    "reseal_last_run_end_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When the last run ended, in seconds since 1970.",
);
/// When one ended well.
pub const SUCCESS: Metric = Metric::gauge(
    "reseal_last_run_success_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When a run last ended with 0, in seconds since 1970; another end leaves it as it was.",
);
/// How long it took.
pub const DURATION: Metric = Metric::gauge(
    "reseal_last_run_duration_seconds",
    Unit::Seconds,
    &[],
    "How long the last run took.",
);
/// Rows that have their outcome.
pub const ROWS: Metric = Metric::gauge(
    "reseal_last_run_rows",
    Unit::Count,
    &[OUTCOME],
    "Rows of the manifest that had their outcome at the end of the last run, by outcome.",
);

/// Rows that it settled itself.
pub const SETTLED: Metric = Metric::gauge(
    "reseal_last_run_rows_settled",
    Unit::Count,
    &[],
    "Rows that the last run settled itself; 0 where nothing was left to do.",
);

/// Everything that is pushed.
pub const TABLE: [&Metric; 6] = [&EXIT_CODE, &END, &SUCCESS, &DURATION, &ROWS, &SETTLED];

/// A run that is over.
pub(super) struct LastRun {
    pub exit: Exit,
    /// In seconds since 1970.
    pub end: f64,
    pub seconds: f64,
    /// Succeeded, skipped, failed; in earlier runs, too.
    pub rows: [u64; 3],
    /// In this run.
    pub settled: u64,
}

impl LastRun {
    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for metric in TABLE {
            let values: Vec<(String, f64)> = match metric.name {
                name if name == SUCCESS.name && self.exit != Exit::Complete => continue,
                name if name == EXIT_CODE.name => vec![(String::new(), self.exit.code().into())],
                name if name == DURATION.name => vec![(String::new(), self.seconds)],
                name if name == SETTLED.name => vec![(String::new(), self.settled as f64)],
                name if name == ROWS.name => [SUCCEEDED, SKIPPED, FAILED]
                    .iter()
                    .zip(self.rows)
                    .map(|(outcome, rows)| (format!("{{outcome=\"{outcome}\"}}"), rows as f64))
                    .collect(),
                _ => vec![(String::new(), self.end)],
            };
            debug_assert_eq!(metric.kind, Kind::Gauge);
            // Writing to a string can't fail.
            let _ = writeln!(text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(text, "# TYPE {} gauge", metric.name);
            for (labels, value) in values {
                let _ = writeln!(text, "{}{labels} {value}", metric.name);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_not_succeed_leaves_the_time_of_the_last_success() {
        let run = |exit| LastRun {
            exit,
            end: 1_700_000_000.0,
            seconds: 1.5,
            rows: [3, 2, 1],
            settled: 4,
        };
        let failed = run(Exit::RowsFailed).render();
        assert!(failed.contains("reseal_last_run_exit_code 3\n"), "{failed}");
        assert!(failed.contains("reseal_last_run_rows{outcome=\"failed\"} 1\n"));
        assert!(failed.contains("reseal_last_run_rows_settled 4\n"));
        assert!(!failed.contains(SUCCESS.name));
        let done = run(Exit::Complete).render();
        assert!(done.contains("reseal_last_run_success_timestamp_seconds 1700000000\n"));
        for metric in TABLE {
            assert!(done.contains(&format!("# TYPE {} gauge\n", metric.name)));
        }
    }
}
