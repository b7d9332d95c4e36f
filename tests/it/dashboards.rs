//! Dashboards, held against the table of metrics: what a panel asks for is exported, what is exported is shown.

use std::collections::BTreeSet;
use std::fs;

use reseal::metrics::table::{Metric, TABLE};
use serde_json::Value;

/// Exported and on no dashboard, each with its reason.
const NOT_SHOWN: [(&str, &str); 1] = [(
    "reseal_tasks_succeeded_total",
    "there is one method: the same curve as reseal_tasks_total{outcome=\"succeeded\"}",
)];

/// Labels that a scrape in Kubernetes adds.
const SCRAPE_LABELS: [&str; 3] = ["namespace", "job", "pod"];

fn dashboard() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/reseal.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the dashboard")).expect("JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Every target with its panel's title.
fn targets(dashboard: &Value) -> Vec<(&str, &Value)> {
    list(dashboard, "panels")
        .iter()
        .flat_map(|panel| {
            list(panel, "targets")
                .iter()
                .map(|target| (text(panel, "title"), target))
        })
        .collect()
}

/// The words of an expression that begin with that prefix.
fn words<'a>(expr: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with(prefix))
        .collect()
}

fn metric_of(series: &str) -> Option<&'static Metric> {
    TABLE
        .into_iter()
        .find(|metric| metric.series_names().iter().any(|name| name == series))
}

/// The labels that the expression groups by.
fn grouped_by(expr: &str) -> BTreeSet<&str> {
    expr.split("by (")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .flat_map(|labels| labels.split(',').map(str::trim))
        .collect()
}

/// The label names of the expression's matchers.
fn matched(expr: &str) -> BTreeSet<&str> {
    expr.split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .flat_map(|matchers| matchers.split(','))
        .filter_map(|matcher| matcher.split(['=', '!']).next())
        .collect()
}

#[test]
fn every_metric_on_a_dashboard_is_exported_with_its_labels() {
    let dashboard = dashboard();
    let mut exprs: Vec<(&str, &str, &str)> = targets(&dashboard)
        .into_iter()
        .map(|(title, target)| (title, text(target, "expr"), text(target, "legendFormat")))
        .collect();
    for variable in list(&dashboard["templating"], "list") {
        exprs.push((
            text(variable, "name"),
            text(&variable["query"], "query"),
            "",
        ));
    }
    for (title, expr, legend) in exprs {
        let mut labels = BTreeSet::from(SCRAPE_LABELS);
        for series in words(expr, "reseal_") {
            let metric =
                metric_of(series).unwrap_or_else(|| panic!("{title}: {series} is not exported"));
            labels.extend(metric.labels.iter().map(|label| label.name));
            if series.ends_with("_bucket") {
                labels.insert("le");
            }
        }
        for label in grouped_by(expr).iter().chain(&matched(expr)) {
            assert!(labels.contains(label), "{title}: no label {label}: {expr}");
        }
        for name in legend
            .split("{{")
            .skip(1)
            .filter_map(|rest| rest.split("}}").next())
        {
            assert!(
                grouped_by(expr).contains(name),
                "{title}: {legend} is not grouped by {name}"
            );
        }
    }
}

#[test]
fn every_exported_metric_is_shown_or_has_a_reason_not_to_be() {
    let dashboard = dashboard();
    let shown: BTreeSet<&str> = targets(&dashboard)
        .into_iter()
        .flat_map(|(_, target)| words(text(target, "expr"), "reseal_"))
        .filter_map(metric_of)
        .map(|metric| metric.name)
        .collect();
    let hidden = BTreeSet::from(NOT_SHOWN.map(|(name, _)| name));
    let all: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(shown.intersection(&hidden).count(), 0, "shown after all");
    assert_eq!(shown.union(&hidden).copied().collect::<BTreeSet<_>>(), all);
}

#[test]
fn counters_are_rated_and_every_query_keeps_to_the_selection() {
    let dashboard = dashboard();
    let variables: BTreeSet<&str> = list(&dashboard["templating"], "list")
        .iter()
        .map(|variable| text(variable, "name"))
        .collect();
    assert_eq!(
        variables,
        BTreeSet::from(["datasource", "namespace", "job", "pod"])
    );
    for (title, target) in targets(&dashboard) {
        let expr = text(target, "expr");
        assert_eq!(
            text(&target["datasource"], "uid"),
            "${datasource}",
            "{title}"
        );
        let series = expr.matches("reseal_").count();
        let selected = expr
            .matches(r#"{namespace=~"$namespace",job=~"$job",pod=~"$pod"}"#)
            .count();
        assert!(series > 0 && series == selected, "{title}: {expr}");
        assert_eq!(
            expr.matches('(').count(),
            expr.matches(')').count(),
            "{title}: {expr}"
        );
        let is_rated = expr.contains("rate(") || expr.contains("increase(");
        let is_instant = target["instant"] == true;
        let has_counter = words(expr, "reseal_")
            .iter()
            .any(|name| name.ends_with("_total") || name.ends_with("_bucket"));
        assert!(
            !has_counter || is_rated || is_instant,
            "{title}: a counter over time without rate(): {expr}"
        );
        assert!(
            !is_rated || expr.contains("[$__rate_interval]"),
            "{title}: {expr}"
        );
    }
}

#[test]
fn panels_have_their_own_place_and_number() {
    let dashboard = dashboard();
    assert!(
        dashboard["schemaVersion"]
            .as_u64()
            .is_some_and(|version| version >= 39)
    );
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "{title}: the id of another"
        );
        assert!(!title.is_empty());
        assert!(
            panel["type"] == "row" || !list(panel, "targets").is_empty(),
            "{title}"
        );
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(
            place("x") + place("w") <= 24,
            "{title}: wider than the grid"
        );
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                assert!(
                    cells.insert((x, y)),
                    "{title}: over another panel at {x},{y}"
                );
            }
        }
    }
}
