//! What a real Prometheus makes of it all: it scrapes two of a job's three shards, which meet faults, and every panel of the dashboard
//! shows something. promtool reads the page, the rules, and runs their tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::objects::{self, Under};
use crate::support::prometheus::{Prometheus, Pushgateway, is_installed, promtool, scrape};
use crate::support::{Store, finish, send};

/// Longest wait until everything has been shown once: the job takes some eight seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What no run here exports or pushes, each with its reason: queries for it show nothing.
const EMPTY: [(&str, &str); 2] = [
    (
        "reseal_last_run_success_timestamp_seconds",
        "pushed by a run that ends with 0, and here rows fail",
    ),
    (
        "} unless on (namespace, job, pod, instance, shard) last_over_time(reseal_exit_code",
        "of processes that went without being seen to end, and here both are",
    ),
];

/// What is shown only when the processes are gone.
const WHEN_GONE: &str = ">= 0 unless on (namespace, job, pod, instance, shard) reseal_run_state";

/// What fires at the end: two shards that had failed rows linger, and have pushed it too. Whatever else the job met is too
/// short for an alert.
const FIRES: [&str; 4] = ["ResealRowsFailed"; 4];

/// Both shards have been scraped.
const ALL_SEEN: &str = "count(reseal_run_state{state=\"preparing\"}) == 2";

/// Both shards are done, and linger.
const ALL_ENDED: &str = "count(reseal_exit_code == 3) == 2";

/// Whatever has fired for a moment.
const HAVE_FIRED: &str = "count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[10m]))";

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Keys say what becomes of them. Nothing reaches the store before Prometheus is there to see it.
fn weather(line: &str, attempt: u64) -> Option<Fault> {
    let is_write = line.starts_with("PUT ");
    match () {
        () if is_write && line.contains("/denied/") => Some(Fault::Denied),
        () if is_write && attempt == 1 && line.contains("/slow/") => Some(Fault::SlowDown),
        () if is_write && attempt == 1 && line.contains("/broken/") => Some(Fault::InternalError),
        () => Some(Fault::Held),
    }
}

/// Where a run serves its metrics, by its log.
fn listens_at(log: &Path) -> SocketAddr {
    let begun = Instant::now();
    loop {
        let told = fs::read_to_string(log).expect("the log");
        let address = told.split_once("metrics at http://");
        if let Some((address, _)) = address.and_then(|(_, rest)| rest.split_once("/metrics")) {
            return address.parse().expect("an address");
        }
        assert!(begun.elapsed() < PATIENCE, "no address in {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that end when the test does.
#[derive(Default)]
struct Shards(Vec<Child>);

impl Drop for Shards {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A question to Prometheus, and where it stands on the dashboard.
struct Query {
    title: String,
    expr: String,
    is_instant: bool,
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.expr)
    }
}

struct Dashboard(Value);

impl Dashboard {
    fn read() -> Self {
        let text = fs::read_to_string(dashboards().join("reseal.json")).expect("the dashboard");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    fn variables(&self) -> &[Value] {
        let list = self.0["templating"]["list"].as_array();
        list.expect("variables")
    }

    fn queries(&self) -> Vec<Query> {
        let panels = self.0["panels"].as_array().expect("panels").iter();
        let queries = panels.flat_map(|panel| {
            let title = panel["title"].as_str().expect("a title");
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(move |target| Query {
                title: title.to_owned(),
                expr: target["expr"].as_str().expect("a query").to_owned(),
                is_instant: target["instant"] == true,
            })
        });
        queries.collect()
    }
}

/// A query with Grafana's variables put in.
fn put_in(query: &str, variables: &BTreeMap<String, String>) -> String {
    let mut query = query
        .replace("$__rate_interval", "4s")
        .replace("$__range", "10m");
    for (name, value) in variables {
        query = query.replace(&format!("${name}"), value);
    }
    assert!(!query.contains('$'), "not put in: {query}");
    query
}

/// What Grafana finds for each variable: all values of a label, or what stands in a field. `None` where there is none yet.
fn values(prometheus: &Prometheus, dashboard: &Dashboard) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for variable in dashboard.variables() {
        let name = variable["name"].as_str().expect("a name").to_owned();
        let value = match variable["type"].as_str().expect("a type") {
            "datasource" => continue,
            "textbox" => variable["query"].as_str().expect("a default").to_owned(),
            _ => {
                let query = variable["query"]["query"].as_str().expect("a query");
                let query = query.strip_prefix("label_values(").expect("label_values");
                let query = query.strip_suffix(')').expect("its end");
                let (series, label) = query.rsplit_once(',').expect("of a label");
                let chosen = put_in(series, &found);
                let path = format!("label/{label}/values");
                let values = prometheus.ask(&path, &[("match[]", &chosen)]);
                let values: Vec<_> = values
                    .as_array()?
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                if values.is_empty() {
                    return None;
                }
                values.join("|")
            }
        };
        found.insert(name, value);
    }
    Some(found)
}

/// Whether an answer has a number in it.
fn has_number(answer: &Value) -> bool {
    let is_number = |sample: &Value| {
        let value = sample[1]
            .as_str()
            .and_then(|value| value.parse::<f64>().ok());
        value.is_some_and(f64::is_finite)
    };
    let series = answer["result"].as_array().expect("series");
    series.iter().any(|series| {
        let over_time = series["values"].as_array().into_iter().flatten();
        is_number(&series["value"]) || over_time.into_iter().any(is_number)
    })
}

/// The alerts that fire, by name.
fn firing(prometheus: &Prometheus) -> Vec<String> {
    let alerts = prometheus.ask("alerts", &[]);
    let alerts = alerts["alerts"].as_array().expect("alerts").iter();
    alerts
        .filter(|alert| alert["state"] == "firing")
        .filter_map(|alert| alert["labels"]["alertname"].as_str())
        .map(str::to_owned)
        .collect()
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64().to_string()
}

#[tokio::test]
async fn every_panel_and_every_variable_shows_what_was_scraped() {
    if !is_installed("every_panel_and_every_variable_shows_what_was_scraped") {
        return;
    }
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    let mut keys: Vec<_> = (0..160).map(|n| format!("object/{n}")).collect();
    for kind in ["denied", "slow", "broken"] {
        keys.extend((0..12).map(|n| format!("{kind}/{n}")));
    }
    objects::put_many(&store.client, &keys).await;
    for n in 0..12 {
        let key = format!("done/{n}");
        objects::put(&store.client, &key, b"content", &Under::Kms(arn.clone())).await;
        keys.push(key);
    }
    let pushgateway = Pushgateway::start();
    let proxy = Proxy::start(store.s3.addr(), Weather::Rule(weather));
    let job = store
        .job(&keys)
        .args("--shards 3 --rate 30 --canary 3 --max-duration 10m --metrics-linger 60s")
        .args("--to sse-kms --kms-key-id")
        .args(&arn)
        .args("--endpoint-url")
        .args(&proxy.url())
        .args("--pushgateway")
        .args(&pushgateway.url());

    let start = now();
    let mut shards = Shards::default();
    let mut targets = Vec::new();
    for shard in ["0", "1"] {
        let log = job.path(&format!("log-{shard}"));
        let mut command = job.command();
        command.args(["--shard", shard, "--metrics-listen", "127.0.0.1:0"]);
        command.stderr(fs::File::create(&log).expect("a log"));
        shards.0.push(command.spawn().expect("it starts"));
        targets.push((format!("reseal-{shard}"), listens_at(&log)));
    }
    let rules = dashboards().join("alerts.yml");
    let prometheus = Prometheus::start(&targets, &pushgateway, &rules);
    let begun = Instant::now();
    while !has_number(&prometheus.ask("query", &[("query", ALL_SEEN)])) {
        assert!(begun.elapsed() < PATIENCE, "they are not scraped");
        std::thread::sleep(Duration::from_millis(50));
    }
    proxy.let_go();

    let dashboard = Dashboard::read();
    let queries = dashboard.queries();
    for (series, reason) in EMPTY {
        let is_asked_for = queries.iter().any(|query| query.expr.contains(series));
        assert!(is_asked_for, "nobody asks for {series}: {reason}");
    }
    // Some show something only while rows settle, others only once it is over.
    let mut waiting = queries;
    waiting.retain(|query| !EMPTY.iter().any(|(series, _)| query.expr.contains(series)));
    let (when_gone, mut waiting): (Vec<_>, Vec<_>) = waiting
        .into_iter()
        .partition(|query| query.expr.contains(WHEN_GONE));
    assert!(!when_gone.is_empty());
    let begun = Instant::now();
    let variables = loop {
        let variables = values(&prometheus, &dashboard);
        waiting.retain(|query| {
            let Some(variables) = &variables else {
                return true;
            };
            let expr = put_in(&query.expr, variables);
            let end = now();
            let answer = if query.is_instant {
                prometheus.ask("query", &[("query", &expr)])
            } else {
                let range = [("start", start.as_str()), ("end", &end), ("step", "1")];
                let parameters = [&[("query", expr.as_str())], &range[..]].concat();
                prometheus.ask("query_range", &parameters)
            };
            !has_number(&answer)
        });
        let ended = prometheus.ask("query", &[("query", ALL_ENDED)]);
        let alerts = firing(&prometheus);
        if waiting.is_empty() && has_number(&ended) && alerts == FIRES {
            let variables = variables.expect("found");
            assert_eq!(variables["pod"], "reseal-0|reseal-1");
            break variables;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "nothing is shown by\n{}\nof {variables:?}; {alerts:?} fire",
            waiting
                .iter()
                .map(Query::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        );
        std::thread::sleep(Duration::from_millis(200));
    };

    let fired = prometheus.ask("query", &[("query", HAVE_FIRED)]);
    let fired = fired["result"].as_array().expect("series").iter();
    for alert in fired.map(|series| series["metric"]["alertname"].as_str()) {
        assert_eq!(alert, Some(FIRES[0]), "it has fired in between");
    }

    // Every rule could be evaluated over two processes: what matches one with many only shows then.
    let rules = prometheus.ask("rules", &[]);
    let rules = rules["groups"][0]["rules"]
        .as_array()
        .expect("rules")
        .clone();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for (_, addr) in &targets {
        promtool(&["check", "metrics"], &scrape(*addr));
    }
    for shard in shards.0.drain(..) {
        send(&shard, Signal::SIGTERM);
        finish(shard).expect(3);
    }
    let begun = Instant::now();
    let is_shown = |query: &Query| {
        let expr = put_in(&query.expr, &variables);
        has_number(&prometheus.ask("query", &[("query", &expr)]))
    };
    for query in when_gone {
        while !is_shown(&query) {
            assert!(begun.elapsed() < PATIENCE, "nothing is shown by {query}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn promtool_finds_the_rules_sound_and_their_tests_pass() {
    if !is_installed("promtool_finds_the_rules_sound_and_their_tests_pass") {
        return;
    }
    promtool(&["check", "rules", "dashboards/alerts.yml"], "");
    let tests = ["alerts_test.yml", "alerts_nightly_test.yml"];
    let tests = tests.map(|name| format!("dashboards/{name}"));
    promtool(&["test", "rules", &tests[0], &tests[1]], "");
}
