//! The dashboard, held against the table of metrics: what a panel asks for is exported, what is exported is shown. Against a
//! real Prometheus it is held in `prometheus.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use reseal::metrics::table::Metric;
use serde_json::Value;

use crate::support::prometheus::{is_installed, promtool};
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
    "reseal_job_rows",
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
                listed(expr, &["by ("]).contains(name)
                    || expr.contains(&format!("count_values(\"{name}\"")),
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
    used.remove("__range");
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

/// The dashboard's estimate begins with the prices that `reseal plan` reckons with.
#[test]
fn prices_are_those_of_the_plan() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/forecast/prices.json");
    let prices = fs::read_to_string(path).expect("the prices");
    let prices: Value = serde_json::from_str(&prices).expect("JSON");
    let standard = &prices["classes"]["STANDARD"];
    let per_1000 = [
        ("price_write", standard["write_per_1000"].as_f64()),
        ("price_read", standard["read_per_1000"].as_f64()),
        (
            "price_kms",
            prices["kms_per_10000"].as_f64().map(|price| price / 10.0),
        ),
    ];
    let dashboard = dashboard();
    for (name, price) in per_1000 {
        let mut variables = list(&dashboard["templating"], "list").iter();
        let variable = variables.find(|variable| variable["name"] == name);
        let value = variable.map(|variable| text(variable, "query").parse());
        assert_eq!(value, Some(Ok(price.expect("a price"))), "{name}");
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

/// A job of 800 rows in eight shards, as Prometheus has it. Four have ended with 0, lingered and gone; one was killed and goes on in
/// a second pod; one was killed and does not; one runs; one has not begun. Between 40 m and 50 m nothing is there any more but
/// what was.
const EIGHT_SHARDS: &[(&str, &str)] = &[
    ("0", "start 600 rows 90,10 exit 0 until 48"),
    ("1", "start 600 rows 90,10 exit 0 until 48"),
    ("2", "start 600 rows 90,10 exit 0 until 48"),
    ("3", "start 600 rows 90,10 exit 0 until 48"),
    ("4", "start 600 rows 40,0 until 20"),
    ("4", "start 900 rows 50,0 eta 600 from 24 until 160"),
    ("5", "start 600 rows 20,0 until 32"),
    ("6", "start 600 rows 10,0 eta 1200 until 160"),
];

/// A job in one process that is not cut, killed while it ran.
const ONE_KILLED: &[(&str, &str)] = &[("", "start 600 rows 300,0 eta 100 until 160")];

/// A job in one process that is complete and lingers.
const ONE_DONE: &[(&str, &str)] = &[("", "start 600 rows 790,10 exit 3 until 160")];

/// The series of these processes, four samples a minute. Each had all of its rows before its first sample, but settles one a second
/// while it runs, if the counters are to be believed.
fn input_series(processes: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (number, (shard, life)) in processes.iter().enumerate() {
        let words: Vec<_> = life.split(' ').collect();
        let told = |name: &str| {
            let mut pairs = words.chunks(2);
            pairs.find(|pair| pair[0] == name).map(|pair| pair[1])
        };
        let count = |name: &str| told(name).map_or(0, |n| n.parse::<u64>().expect("a number"));
        let (from, samples) = (count("from"), count("until") - count("from"));
        let (succeeded, failed) = told("rows")
            .and_then(|rows| rows.split_once(','))
            .expect("rows");
        let settled: u64 = [succeeded, failed]
            .iter()
            .map(|n| n.parse::<u64>().expect("a number"))
            .sum();
        let (shards, rows) = if shard.is_empty() { (1, 800) } else { (8, 100) };
        let exit = told("exit").unwrap_or("NaN");
        let state = if exit == "NaN" { "running" } else { "finished" };
        let mut labels = format!("job=\"j\",instance=\"i{number}\"");
        if !shard.is_empty() {
            let _ = write!(
                labels,
                ",pod=\"p{number}\",namespace=\"n\",shard=\"{shard}\""
            );
        }
        let mut add = |name: &str, label: &str, first: &str, step: u64| {
            let absent = match from {
                0 => String::new(),
                from => format!("_x{from} "),
            };
            let values = match first.parse::<f64>() {
                Ok(number) if number.is_finite() => format!("{first}+{step}x{}", samples - 1),
                _ => vec![first; usize::try_from(samples).expect("few")].join(" "),
            };
            let _ = writeln!(text, "      - series: 'reseal_{name}{{{labels}{label}}}'");
            let _ = writeln!(text, "        values: '{absent}{values} stale'");
        };
        add("start_time_seconds", "", told("start").expect("start"), 0);
        add("shards", "", &shards.to_string(), 0);
        add("job_rows", "", "800", 0);
        add("rows_settled", ",outcome=\"succeeded\"", succeeded, 0);
        add("rows_settled", ",outcome=\"failed\"", failed, 0);
        add("rows_remaining", "", &(rows - settled).to_string(), 0);
        add(
            "tasks_total",
            ",outcome=\"succeeded\"",
            "0",
            if state == "running" { 15 } else { 0 },
        );
        add(
            "eta_seconds",
            "",
            told("eta").unwrap_or(if state == "running" { "NaN" } else { "0" }),
            0,
        );
        add("exit_code", "", exit, 0);
        add("deadline_timestamp_seconds", "", "3000", 0);
        add("limited_by", ",limit=\"rate\"", "0", 0);
        for known in ["preparing", "running", "draining", "finished"] {
            let value = if known == state { "1" } else { "0" };
            add("run_state", &format!(",state=\"{known}\""), value, 0);
        }
    }
    text
}

/// What a panel shows: its queries' samples, each as labels and value.
type Shows<'a> = (&'a str, &'a [&'a [(&'a str, f64)]]);

/// What the first screen says of a job whose processes are not all there, held against what is true of the job.
#[test]
fn the_dashboard_is_right_about_shards_that_are_gone_and_jobs_that_are_dead() {
    let name = "the_dashboard_is_right_about_shards_that_are_gone_and_jobs_that_are_dead";
    if !is_installed(name) {
        return;
    }
    let none: &[(&str, f64)] = &[];
    let ended: &[(&str, f64)] = &[("{code=\"0\"}", 4.0)];
    let lost: &[(&str, f64)] = &[("{}", 1.0)];
    // Two run, and each settles a row a second: the 180 rows that nobody is at take 90 s more than the 1200 of the slower one.
    let whole: &[Shows<'_>] = &[
        ("Progress", &[&[("{}", 0.6)]]),
        ("Time left", &[&[("{}", 1290.0)]]),
        (
            "In time for the deadline",
            &[&[("{}", 1.0)], &[("{}", 510.0)]],
        ),
        ("Rows per second", &[&[("{}", 2.0)]]),
        ("Failed", &[&[("{}", 40.0)], none]),
        (
            "Shards, by state",
            &[&[("{state=\"running\"}", 2.0)], ended, lost, lost],
        ),
        ("Held back by", &[&[("{limit=\"nothing\"}", 2.0)]]),
        (
            "Rows",
            &[
                &[
                    ("{outcome=\"succeeded\"}", 440.0),
                    ("{outcome=\"failed\"}", 40.0),
                ],
                &[("{}", 320.0)],
            ],
        ),
        (
            "Slowest against the middle one",
            &[&[("{}", 1200.0 / 900.0)]],
        ),
        ("Ended with", &[ended]),
    ];
    let dead: &[Shows<'_>] = &[
        ("Progress", &[&[("{}", 0.6)]]),
        ("Time left", &[none]),
        ("In time for the deadline", &[none, none]),
        ("Rows per second", &[&[("{}", 0.0)]]),
        ("Failed", &[&[("{}", 40.0)], none]),
        ("Shards, by state", &[none, ended, &[("{}", 3.0)], lost]),
        ("Held back by", &[none]),
        ("Slowest against the middle one", &[none]),
        ("Ended with", &[ended]),
    ];
    let killed: &[Shows<'_>] = &[
        ("Progress", &[&[("{}", 0.375)]]),
        ("Time left", &[none]),
        ("Shards, by state", &[none, none, lost, none]),
        ("Held back by", &[none]),
        ("Ended with", &[none]),
    ];
    let done: &[Shows<'_>] = &[
        ("Progress", &[&[("{}", 1.0)]]),
        ("Time left", &[&[("{}", 0.0)]]),
        ("In time for the deadline", &[&[("{}", 1.0)], none]),
        (
            "Shards, by state",
            &[&[("{state=\"finished\"}", 1.0)], none, none, none],
        ),
        ("Held back by", &[none]),
        ("Ended with", &[&[("{code=\"3\"}", 1.0)]]),
    ];
    let mut tests = "rule_files: []\ntests:\n".to_owned();
    for (processes, at, shows) in [
        (EIGHT_SHARDS, 20, whole),
        (EIGHT_SHARDS, 45, dead),
        (ONE_KILLED, 45, killed),
        (ONE_DONE, 30, done),
    ] {
        let _ = write!(
            tests,
            "  - interval: 15s\n    input_series:\n{}",
            input_series(processes)
        );
        tests.push_str("    promql_expr_test:\n");
        for (title, shown) in shows {
            let dashboard = dashboard();
            let asked: Vec<_> = targets(&dashboard)
                .into_iter()
                .filter(|(of, _)| of == title)
                .map(|(_, target)| text(target, "expr").to_owned())
                .collect();
            assert_eq!(asked.len(), shown.len(), "{title}");
            for (expr, samples) in asked.iter().zip(*shown) {
                let expr = expr
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "1h")
                    .replace("$namespace", ".*")
                    .replace("$job", "j")
                    .replace("$pod", ".*");
                let _ = writeln!(
                    tests,
                    "      - eval_time: {at}m\n        expr: {}",
                    Value::String(expr)
                );
                tests.push_str("        exp_samples:\n");
                for (labels, value) in *samples {
                    let _ = writeln!(tests, "          - {{labels: '{labels}', value: {value}}}");
                }
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dashboard_test.yml");
    fs::write(&path, tests).expect("written");
    promtool(&["test", "rules", path.to_str().expect("UTF-8")], "");
}
