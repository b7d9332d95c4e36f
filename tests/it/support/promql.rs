//! What can be told of a PromQL expression by looking at its words: enough to hold one against the table of metrics.

use std::collections::BTreeSet;

use reseal::metrics::last_run;
use reseal::metrics::table::{self, Metric};

/// Series of others that rules ask for, with the labels that they have beside those of a scrape.
/// Source: kube-state-metrics, docs/metrics/workload.
const FOREIGN: [(&str, &[&str]); 8] = [
    ("kube_cronjob_created", &["cronjob"]),
    ("kube_cronjob_info", &["cronjob", "schedule"]),
    ("kube_cronjob_spec_suspend", &["cronjob"]),
    ("kube_cronjob_status_last_successful_time", &["cronjob"]),
    ("kube_job_failed", &["job_name", "condition"]),
    ("kube_job_status_failed", &["job_name", "reason"]),
    ("kube_job_status_start_time", &["job_name"]),
    (
        "kube_pod_container_status_terminated_reason",
        &["container", "reason"],
    ),
];

fn foreign(series: &str) -> Option<&'static [&'static str]> {
    let mut known = FOREIGN.iter();
    known
        .find(|(name, _)| *name == series)
        .map(|(_, labels)| *labels)
}

/// Everything that is exported or pushed.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    table::TABLE.into_iter().chain(last_run::TABLE)
}

/// The metric that a series of this name belongs to.
pub fn metric_of(series: &str) -> Option<&'static Metric> {
    metrics().find(|metric| metric.series_names().iter().any(|name| name == series))
}

/// The series that an expression names.
pub fn series(expr: &str) -> BTreeSet<&str> {
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("reseal_") || word.starts_with("kube_"))
        .collect()
}

/// The labels in the lists that are opened so, as by `by (`.
pub fn listed<'a>(expr: &'a str, openings: &[&str]) -> BTreeSet<&'a str> {
    openings
        .iter()
        .flat_map(|opening| expr.split(opening).skip(1))
        .filter_map(|rest| rest.split(')').next())
        .flat_map(|labels| labels.split(',').map(str::trim))
        .filter(|label| !label.is_empty())
        .collect()
}

/// One condition on a label: `label="value"`, `label=~"one|two"`.
#[derive(Debug)]
pub struct Matcher<'a> {
    /// The series that it chooses from.
    pub series: &'a str,
    pub label: &'a str,
    /// What is between the quotes.
    pub value: &'a str,
}

/// Every condition of an expression. No value in this repository has a comma or a brace.
pub fn matchers(expr: &str) -> Vec<Matcher<'_>> {
    let mut found = Vec::new();
    for (at, _) in expr.match_indices('{') {
        let before = &expr[..at];
        let start = before.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let series = &before[start.map_or(0, |start| start + 1)..];
        let list = expr[at + 1..].split('}').next().unwrap_or_default();
        for matcher in list.split(',') {
            let (label, value) = matcher.split_once(['=', '!']).unwrap_or_default();
            found.push(Matcher {
                series,
                label: label.trim(),
                value: value.trim_start_matches(['=', '~']).trim_matches('"'),
            });
        }
    }
    found
}

/// Holds an expression against the table: its series exist, with the labels and values that it asks for. Labels that a
/// scrape adds may have any value.
#[track_caller]
pub fn assert_is_exported(name: &str, expr: &str, scrape_labels: &[&str]) {
    let mut known: BTreeSet<&str> = scrape_labels.iter().copied().collect();
    for series in series(expr) {
        if let Some(labels) = foreign(series) {
            known.extend(labels);
            continue;
        }
        let metric = metric_of(series);
        let metric = metric.unwrap_or_else(|| panic!("{name}: {series} is not exported"));
        known.extend(metric.labels.iter().map(|label| label.name));
        if series.ends_with("_bucket") {
            known.insert("le");
        }
    }
    for label in listed(
        expr,
        &["by (", "without (", "on (", "ignoring (", "group_left ("],
    ) {
        assert!(known.contains(label), "{name}: no label {label}: {expr}");
    }
    for matcher in matchers(expr) {
        if scrape_labels.contains(&matcher.label) {
            continue;
        }
        if let Some(labels) = foreign(matcher.series) {
            assert!(labels.contains(&matcher.label), "{name}: {matcher:?}");
            continue;
        }
        let metric = metric_of(matcher.series);
        let metric = metric.unwrap_or_else(|| panic!("{name}: {matcher:?} of what?"));
        let mut labels = metric.labels.iter();
        let label = labels.find(|label| label.name == matcher.label);
        let label = label.unwrap_or_else(|| panic!("{name}: {matcher:?}: no such label"));
        let values = (label.values)();
        for value in matcher.value.split('|') {
            let is_one = match value.strip_suffix(".+") {
                Some(start) => values.iter().any(|known| known.starts_with(start)),
                None => values.contains(&value),
            };
            assert!(is_one, "{name}: never {value}: {matcher:?}");
        }
    }
}

/// Holds that what is opened is closed.
#[track_caller]
pub fn assert_is_balanced(name: &str, expr: &str) {
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        let counts = [open, close].map(|bracket| expr.matches(bracket).count());
        assert_eq!(counts[0], counts[1], "{name}: {expr}");
    }
}
