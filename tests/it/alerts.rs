//! The alerts, held against the table of metrics, their tests and their runbook. promtool runs the tests, and a real Prometheus
//! evaluates the rules, in `prometheus.rs`.

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;

use crate::support::promql::{assert_is_balanced, assert_is_exported};

const TESTS: [&str; 2] = [
    "dashboards/alerts_test.yml",
    "dashboards/alerts_nightly_test.yml",
];

/// Labels that a scrape adds, or a push.
const SCRAPE_LABELS: [&str; 5] = ["namespace", "job", "pod", "instance", "shard"];

/// The longest time between two scrapes that is usual.
const SCRAPE_SECONDS: u64 = 60;

/// Alerts that fire at once, each with its reason.
const AT_ONCE: [(&str, &str); 4] = [
    (
        "ResealVerificationMismatch",
        "a counter of what must never happen",
    ),
    (
        "ResealRunFailed",
        "a process that has ended lingers for a minute, perhaps",
    ),
    (
        "ResealRowsFailed",
        "a process that has ended lingers for a minute, perhaps",
    ),
    (
        "ResealNoRecentSuccess",
        "26 hours are long enough, and a pushed time does not flap",
    ),
];

/// Alerts that also hold for a run that is over, each with its reason; the others ask for the state.
const AFTER_THE_END: [(&str, &str); 8] = [
    ("ResealStalled", "0 from the end on"),
    ("ResealVerificationMismatch", "the first one ends the run"),
    ("ResealRunFailed", "it is about the end"),
    ("ResealRowsFailed", "it is about the end"),
    ("ResealNoRecentSuccess", "it is about ends"),
    ("ResealJobFailed", "it is about the end of a Job"),
    ("ResealOutOfMemory", "it is about the end of a pod"),
    ("ResealCronJobNoSuccess", "it is about ends of Jobs"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "name")]
    _name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    alert_rule_test: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    alertname: String,
    exp_alerts: Vec<serde_yaml_ng::Value>,
}

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_yaml_ng::from_str(&read("dashboards/alerts.yml")).expect("rules");
    let mut groups = rules.groups.into_iter();
    groups.next().expect("a group").rules
}

/// Prometheus' durations of one unit, as these files have them.
fn seconds(duration: &str) -> u64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let number: u64 = number.parse().expect("a number");
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => panic!("{duration}"),
    };
    number * unit
}

fn lists(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(listed, _)| *listed == name)
}

#[test]
fn every_alert_asks_for_what_is_exported() {
    for rule in rules() {
        assert_is_balanced(&rule.alert, &rule.expr);
        assert_is_exported(&rule.alert, &rule.expr, &SCRAPE_LABELS);
        // Those of label_replace() are numbers.
        let mut after = rule.expr.split('$').skip(1);
        let is_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        assert!(after.all(is_number), "{}: no variables", rule.alert);
    }
}

#[test]
fn windows_hold_two_scrapes_and_one_more() {
    for rule in rules() {
        let windows = rule.expr.split('[').skip(1);
        for window in windows.filter_map(|rest| rest.split(']').next()) {
            let long_enough = seconds(window) >= 3 * SCRAPE_SECONDS;
            assert!(long_enough, "{}: [{window}]", rule.alert);
        }
        match &rule.lasting {
            None => assert!(lists(&AT_ONCE, &rule.alert), "{} has no `for`", rule.alert),
            Some(lasting) => {
                assert!(!lists(&AT_ONCE, &rule.alert), "{}: listed", rule.alert);
                let long_enough = seconds(lasting) >= 2 * SCRAPE_SECONDS;
                assert!(long_enough, "{}: for {lasting}", rule.alert);
            }
        }
    }
}

#[test]
fn what_is_about_a_run_asks_whether_it_runs() {
    for rule in rules() {
        let asks = rule.expr.contains("reseal_run_state{state=");
        let is_listed = lists(&AFTER_THE_END, &rule.alert);
        assert_ne!(asks, is_listed, "{}", rule.alert);
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_read_on() {
    let runbook = read("docs/monitoring.md");
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = &rule.alert;
        assert!(name.starts_with("Reseal") && names.insert(name.clone()));
        let severity = rule.labels.severity.as_str();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        let told = [&rule.annotations.summary, &rule.annotations.description];
        assert!(told.iter().all(|text| !text.is_empty()), "{name}");
        let who = ["job", "job_name", "pod", "cronjob"];
        let is_named = |label: &&str| {
            let named = format!("{{{{ $labels.{label} }}}}");
            rule.annotations.summary.contains(&named)
        };
        assert!(who.iter().any(is_named), "{name}: whose?");
        let anchor = format!("docs/monitoring.md#{}", name.to_lowercase());
        assert_eq!(rule.annotations.runbook_url, anchor);
        let (_, section) = runbook
            .split_once(&format!("\n### {name}\n"))
            .unwrap_or_else(|| panic!("docs/monitoring.md has no section {name}"));
        let section = section.split("\n#").next().unwrap_or_default();
        for part in ["**What it means.**", "**Look at**", "**Do.**"] {
            assert!(section.contains(part), "{name}: {part} in {section}");
        }
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    for section in sections.filter(|section| section.starts_with("Reseal")) {
        assert!(names.contains(section), "there is no alert {section}");
    }
}

#[test]
fn every_alert_is_tested_both_ways() {
    let (mut fires, mut is_silent) = (BTreeSet::new(), BTreeSet::new());
    for path in TESTS {
        let tests: Tests = serde_yaml_ng::from_str(&read(path)).expect("tests");
        for test in tests.tests {
            let has_fired = test
                .alert_rule_test
                .iter()
                .any(|check| !check.exp_alerts.is_empty());
            for check in test.alert_rule_test {
                // A run that is well is no near miss.
                if test.name.starts_with(&format!("{} fires", check.alertname)) && has_fired {
                    fires.insert(check.alertname);
                } else if test.name == format!("{} is silent", check.alertname) && !has_fired {
                    is_silent.insert(check.alertname);
                }
            }
        }
    }
    let alerts: BTreeSet<_> = rules().into_iter().map(|rule| rule.alert).collect();
    assert_eq!(fires, alerts, "in some test it fires");
    assert_eq!(is_silent, alerts, "in some test it nearly does");
}
