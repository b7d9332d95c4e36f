//! The dashboard, held against the table of metrics: what a panel asks for is exported, what is exported is shown. Against a
//! real Prometheus it is held in `prometheus.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use reseal::metrics::table::Metric;
use serde_json::Value;

use crate::support::promql::{
    assert_is_balanced, assert_is_exported, listed, metric_of, metrics, series,
};

/// Labels that a scrape adds, or a push.
const SCRAPE_LABELS: [&str; 5] = ["namespace", "job", "pod", "instance", "shard"];

/// What a query of scraped metrics is about; more conditions may follow.
const SELECTION: &str = r#"{namespace=~"$namespace",job=~"$job",pod=~"$pod""#;

/// What an operator sees without scrolling must tell: how far, how long, whether in time, how fast, what holds it back, what
/// failed, and that it is kept.
const AT_A_GLANCE: [&str; 8] = [
    "reseal_progress_ratio",
    "reseal_eta_seconds",
    "reseal_deadline_timestamp_seconds",
    "reseal_tasks_total",
    "reseal_rewritten_bytes_total",
    "reseal_limited_by",
    "reseal_rows_settled",
    "reseal_journal_last_write_timestamp_seconds",
];

/// Rows of the grid that a screen has.
const SCREEN_ROWS: u64 = 20;

const PANELS: [&str; 7] = [
    "row",
    "stat",
    "gauge",
    "bargauge",
    "timeseries",
    "state-timeline",
    "table",
];

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

fn names<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> BTreeSet<&'a str> {
    metrics.into_iter().map(|metric| metric.name).collect()
}

#[test]
fn every_metric_on_a_dashboard_is_exported_with_its_labels() {
    let dashboard = dashboard();
    for (title, target) in targets(&dashboard) {
        let (expr, legend) = (text(target, "expr"), text(target, "legendFormat"));
        assert_is_balanced(title, expr);
        assert_is_exported(title, expr, &SCRAPE_LABELS);
        let in_legend = legend.split("{{").skip(1);
        for name in in_legend.filter_map(|rest| rest.split("}}").next()) {
            assert!(
                listed(expr, &["by ("]).contains(name),
                "{title}: {legend} is not grouped by {name}"
            );
        }
    }
    for variable in list(&dashboard["templating"], "list") {
        let query = text(&variable["query"], "query");
        assert_is_exported(text(variable, "name"), query, &SCRAPE_LABELS);
    }
}

#[test]
fn every_exported_metric_is_shown() {
    let dashboard = dashboard();
    let shown = targets(&dashboard)
        .into_iter()
        .flat_map(|(_, target)| series(text(target, "expr")))
        .filter_map(metric_of);
    assert_eq!(names(shown), names(metrics()));
}

#[test]
fn a_glance_tells_how_far_how_fast_what_holds_it_what_failed_and_whether_in_time() {
    let dashboard = dashboard();
    let panels = list(&dashboard, "panels").iter().filter(|panel| {
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        place("y") + place("h") <= SCREEN_ROWS
    });
    let seen: BTreeSet<_> = panels
        .flat_map(|panel| list(panel, "targets"))
        .flat_map(|target| series(text(target, "expr")))
        .collect();
    for name in AT_A_GLANCE {
        assert!(seen.contains(name), "{name} is too far down");
    }
}

#[test]
fn counters_are_rated_and_every_query_keeps_to_the_selection() {
    let dashboard = dashboard();
    for (title, target) in targets(&dashboard) {
        let expr = text(target, "expr");
        // What was pushed is of processes that are gone.
        let named = expr.matches("reseal_").count() - expr.matches("reseal_last_run_").count();
        assert_eq!(expr.matches(SELECTION).count(), named, "{title}: {expr}");
        let is_rated = expr.contains("rate(") || expr.contains("increase(");
        let is_instant = target["instant"] == true;
        let has_counter = series(expr)
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
fn every_variable_is_used_and_every_one_that_is_used_is_there() {
    let dashboard = dashboard();
    let variables = list(&dashboard["templating"], "list");
    let declared: BTreeSet<_> = variables.iter().map(|known| text(known, "name")).collect();
    let mut used = BTreeSet::from(["datasource"]);
    for (_, target) in targets(&dashboard) {
        let parts = text(target, "expr").split('$').skip(1);
        used.extend(parts.map(|part| {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            &part[..end.unwrap_or(part.len())]
        }));
    }
    used.remove("__rate_interval");
    assert_eq!(declared, used);
    for variable in variables {
        let name = text(variable, "name");
        match text(variable, "type") {
            "datasource" => assert_eq!(text(variable, "query"), "prometheus"),
            "query" => assert_eq!(variable["definition"], variable["query"]["query"], "{name}"),
            // What is typed there is multiplied with.
            "textbox" => {
                let value = text(variable, "query");
                assert!(value.parse::<f64>().is_ok(), "{name}: {value}");
                assert_eq!(variable["current"]["value"], value, "{name}");
            }
            other => panic!("{name}: a variable of type {other}"),
        }
    }
}

#[test]
fn panels_are_whole() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let (title, kind) = (text(panel, "title"), text(panel, "type"));
        assert!(PANELS.contains(&kind), "{title}: {kind}");
        assert!(titles.insert(title), "two panels are called {title:?}");
        if kind == "row" {
            continue;
        }
        let mut legends = BTreeMap::new();
        for target in list(panel, "targets") {
            let (letter, legend) = (text(target, "refId"), text(target, "legendFormat"));
            for of in [panel, target] {
                assert_eq!(text(&of["datasource"], "uid"), "${datasource}", "{title}");
            }
            assert!(
                legends.insert(letter, legend).is_none(),
                "{title}: {letter}"
            );
            assert_eq!(kind == "table", legend.is_empty(), "{title}: {letter}");
            let is_instant = target["instant"] == true;
            assert_eq!(target["range"] == true, !is_instant, "{title}: {letter}");
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(!text(defaults, "unit").is_empty(), "{title}: no unit");
        // What is made to look different is there.
        for change in list(&panel["fieldConfig"], "overrides") {
            let name = text(&change["matcher"], "options");
            let renamed = &list(panel, "transformations").last().map(|organize| {
                let names = organize["options"]["renameByName"].as_object();
                names
                    .into_iter()
                    .flat_map(|names| names.values())
                    .any(|known| known == name)
            });
            let is_fixed = legends.values().any(|legend| *legend == name);
            let is_open = legends.values().any(|legend| legend.contains("{{"));
            assert!(
                is_fixed || is_open || *renamed == Some(true),
                "{title}: nothing is called {name:?}"
            );
        }
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
