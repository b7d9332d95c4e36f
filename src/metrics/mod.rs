//! What Prometheus sees: counters, gauges and one histogram, produced from [`Event`]s and from nothing else.
//!
//! [`table`] says what exists; [`Metrics::on`] says when it changes; [`endpoint`] serves it. There is no global recorder:
//! two runs in one process, as tests have them, don't mix. Every series whose labels are known exists at zero from the
//! start, so that `rate()` sees the first increase and an alert can be written before anything has happened.

pub mod endpoint;
pub mod last_run;
pub mod table;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::time::Instant;

use crate::encryption::Mode;
use crate::event::{self, Event, Limit, Operation, Pressure, ResponseClass};
use crate::exit::Exit;
use crate::outcome::{FAILURE_CODES_MAX, Method, OTHER_CODES, Tally, TaskOutcome};
use crate::pace::Pace;
use crate::shard::Shard;
use last_run::LastRun;
use table::{Kind, Metric, RunState};

/// The recorder keeps every observed duration until somebody folds them into the buckets. A scrape does; where nobody
/// scrapes, we do it after so many observations, so that memory stays flat.
const FOLD_EVERY: u32 = 4_096;

/// The longest failure code that becomes a label value. S3's own longest is below 60 characters.
const CODE_CHARS_MAX: usize = 64;

/// The metrics of one run.
pub struct Metrics {
    handle: PrometheusHandle,
    begun: Instant,
    counters: Family<Counter>,
    gauges: Family<Gauge>,
    failures: Failures,
    hot: Hot,
    pace: Pace,
    in_flight: u32,
    /// Stalls that are not over.
    stalls: u32,
    /// Outcomes that are not in the state yet.
    pending: u64,
    /// Rows of the shard that succeeded, were skipped, failed.
    settled_rows: [u64; 3],
    /// Rows that this process settled.
    own_rows: u64,
    unfolded: u32,
}

impl Metrics {
    /// Every series at zero, the run in its preparing state. Where a job is cut, all of them are labelled with the shard.
    pub fn new(shard: Shard) -> Self {
        let recorder = recorder(shard);
        let counters = Family::new(Kind::Counter, |key| {
            recorder.register_counter(key, &METADATA)
        });
        let gauges = Family::new(Kind::Gauge, |key| recorder.register_gauge(key, &METADATA));
        let histograms = Family::new(Kind::Histogram, |key| {
            recorder.register_histogram(key, &METADATA)
        });
        let metrics = Self {
            handle: recorder.handle(),
            begun: Instant::now(),
            hot: Hot::of(&counters, &gauges, &histograms),
            counters,
            gauges,
            failures: Failures::new(recorder),
            pace: Pace::default(),
            in_flight: 0,
            stalls: 0,
            pending: 0,
            settled_rows: [0; 3],
            own_rows: 0,
            unfolded: 0,
        };
        for not_yet in [&table::JOURNAL_WRITTEN, &table::EXIT_CODE] {
            metrics.gauge(not_yet, &[]).set(f64::NAN);
        }
        for none in [&table::WRITE_RATE_SET, &table::DEADLINE] {
            metrics.gauge(none, &[]).set(f64::INFINITY);
        }
        metrics.gauge(&table::ETA, &[]).set(f64::NAN);
        metrics.gauge(&table::LAST_SETTLED, &[]).set(f64::NAN);
        metrics
            .gauge(&table::WRITE_RATE_LIMIT, &[])
            .set(f64::INFINITY);
        metrics.gauge(&table::START_TIME, &[]).set(unix_seconds());
        metrics
            .gauge(&table::SHARDS, &[])
            .set(f64::from(shard.count));
        metrics
            .gauge(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        metrics.enter(RunState::Preparing);
        metrics
    }

    /// Takes one event.
    pub fn on(&mut self, event: &Event<'_>) {
        self.on_at(event, Instant::now());
    }

    fn on_at(&mut self, event: &Event<'_>, now: Instant) {
        match event {
            Event::Preparing { rows } => {
                self.gauge(&table::ROWS_PREPARED, &[]).set(*rows as f64);
            }
            Event::Started {
                total,
                before,
                doubtful,
            } => {
                self.gauge(&table::ROWS_DOUBTFUL, &[]).set(*doubtful as f64);
                self.start(*total, before, now);
            }
            Event::TaskStarted => self.set_in_flight(self.in_flight + 1),
            Event::TaskEnded => self.set_in_flight(self.in_flight.saturating_sub(1)),
            Event::Recorded => self.pending += 1,
            Event::Synced => self.gauge(&table::JOURNAL_WRITTEN, &[]).set(unix_seconds()),
            Event::Verified { is_same } => {
                let result = if *is_same {
                    table::PASSED
                } else {
                    table::MISMATCHED
                };
                self.count(&table::VERIFICATIONS, &[result]);
            }
            Event::Found { mode } => self.hot.found[*mode as usize].increment(1),
            Event::Request {
                operation,
                class,
                elapsed,
            } => {
                self.hot.requests[*operation as usize][*class as usize].increment(1);
                self.observe(*operation, *elapsed);
            }
            Event::Retried { operation, class } => {
                self.count(&table::RETRIES, &[operation.name(), class.name()]);
            }
            Event::Throttled { by } => self.count(&table::THROTTLES, &[by.name()]),
            Event::Settled { outcome, .. } => self.settle(outcome, now),
            Event::Draining { .. } => self.enter(RunState::Draining),
            Event::StallBegan { .. } => self.set_stalls(self.stalls + 1),
            Event::StallEnded { .. } => self.set_stalls(self.stalls.saturating_sub(1)),
            Event::Heartbeat => self.show_pace(now),
            Event::Pressure(pressure) => self.show_pressure(pressure),
            // What holds the job is in the pressure.
            Event::HoldBegan { .. } | Event::HoldEnded { .. } => {}
            Event::Warning { .. }
            | Event::Finding {
                level: event::Level::Stop | event::Level::Warning,
                ..
            } => self.count(&table::WARNINGS, &[]),
            Event::Finding {
                level: event::Level::Note,
                ..
            } => {}
            Event::Finished { exit } => self.finish(*exit, now),
        }
    }

    /// So many rows of the manifest are listed under that mode.
    pub fn lists(&self, mode: Option<Mode>, rows: u64) {
        let mode = mode.map_or(table::UNKNOWN, Mode::inventory_name);
        self.gauge(&table::ROWS_LISTED, &[mode]).set(rows as f64);
    }

    /// The manifest has so many rows, those of the other shards included.
    pub fn is_of(&self, rows: u64) {
        self.gauge(&table::JOB_ROWS, &[]).set(rows as f64);
    }

    /// The run ends by itself at this time, in seconds since 1970.
    pub fn ends_at(&self, unix_seconds: f64) {
        self.gauge(&table::DEADLINE, &[]).set(unix_seconds);
    }

    /// The summary of a run that has ended so, in Prometheus' text format.
    pub fn last_run(&self, exit: Exit) -> String {
        let rows = self.settled_rows;
        LastRun {
            exit,
            end: unix_seconds(),
            seconds: self.begun.elapsed().as_secs_f64(),
            rows,
            settled: self.own_rows,
        }
        .render()
    }

    /// The present state in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// What the [`endpoint`] renders, from any thread, while the run goes on.
    fn renderer(&self) -> impl Fn() -> String + Clone + Send + Sync + 'static {
        let handle = self.handle.clone();
        move || handle.render()
    }

    fn start(&mut self, total: u64, before: &Tally, now: Instant) {
        self.pace.start(total, before.settled(), now);
        self.gauge(&table::ROWS, &[]).set(total as f64);
        let settled = [
            (table::SUCCEEDED, before.succeeded_total()),
            (table::SKIPPED, before.skipped_total()),
            (table::FAILED, before.failed_total()),
        ];
        self.settled_rows = settled.map(|(_, rows)| rows);
        for (outcome, rows) in settled {
            self.gauge(&table::ROWS_SETTLED, &[outcome])
                .set(rows as f64);
        }
        self.enter(RunState::Running);
        self.show_pace(now);
    }

    fn settle(&mut self, outcome: &TaskOutcome, now: Instant) {
        let settled = match outcome {
            TaskOutcome::Succeeded { method, bytes } => {
                self.hot.methods[*method as usize].increment(1);
                self.hot.bytes.increment(*bytes);
                self.settled_rows[0] += 1;
                &self.hot.succeeded
            }
            TaskOutcome::Skipped(reason) => {
                self.count(&table::TASKS_SKIPPED, &[reason.name()]);
                self.settled_rows[1] += 1;
                &self.hot.skipped
            }
            TaskOutcome::Failed(failure) => {
                self.failures.count(&failure.code);
                self.settled_rows[2] += 1;
                &self.hot.failed
            }
        };
        self.own_rows += 1;
        self.pending = self.pending.saturating_sub(1);
        settled.tasks.increment(1);
        settled.rows.increment(1.0);
        self.hot.last_settled.set(unix_seconds());
        self.pace.settle(now);
        if self.pace.remaining() == 0 {
            self.show_pace(now);
        }
    }

    /// The run is over: nothing is in flight, nothing holds it, and an end that left rows has no time at which they will be done.
    fn finish(&mut self, exit: Exit, now: Instant) {
        self.gauge(&table::EXIT_CODE, &[])
            .set(f64::from(exit.code()));
        self.show_pace(now);
        self.enter(RunState::Finished);
        self.set_in_flight(0);
        self.set_stalls(0);
        self.show_holder(None);
        if self.pace.remaining() > 0 {
            self.gauge(&table::ETA, &[]).set(f64::NAN);
        }
    }

    /// Once a second: what is left, and until when, changes with each row, and is looked at seldom.
    fn show_pace(&self, now: Instant) {
        let eta = self.pace.eta(now).map_or(f64::NAN, |eta| eta.as_secs_f64());
        self.gauge(&table::ETA, &[]).set(eta);
        self.gauge(&table::PROGRESS, &[]).set(self.pace.ratio());
        self.gauge(&table::ROWS_REMAINING, &[])
            .set(self.pace.remaining() as f64);
        self.gauge(&table::JOURNAL_PENDING, &[])
            .set(self.pending as f64);
    }

    fn show_holder(&self, held_by: Option<Limit>) {
        for limit in Limit::ALL {
            let value = if held_by == Some(limit) { 1.0 } else { 0.0 };
            self.gauge(&table::LIMITED_BY, &[limit.name()]).set(value);
        }
    }

    fn show_pressure(&self, pressure: &Pressure) {
        self.show_holder(pressure.held_by);
        self.gauge(&table::WRITE_RATE_LIMIT, &[])
            .set(pressure.writes_per_second);
        self.gauge(&table::WRITE_RATE_SET, &[])
            .set(pressure.writes_set);
        self.gauge(&table::IN_FLIGHT_LIMIT, &[])
            .set(pressure.in_flight_max as f64);
    }

    fn enter(&self, state: RunState) {
        for other in RunState::ALL {
            let value = if other == state { 1.0 } else { 0.0 };
            self.gauge(&table::RUN_STATE, &[other.name()]).set(value);
        }
    }

    fn set_in_flight(&mut self, tasks: u32) {
        self.in_flight = tasks;
        self.hot.in_flight.set(f64::from(tasks));
    }

    fn set_stalls(&mut self, stalls: u32) {
        self.stalls = stalls;
        self.gauge(&table::STALLED, &[])
            .set(f64::from(stalls.min(1)));
    }

    fn observe(&mut self, operation: Operation, elapsed: Duration) {
        self.hot.durations[operation as usize].record(elapsed);
        self.unfolded += 1;
        if self.unfolded >= FOLD_EVERY {
            self.handle.run_upkeep();
            self.unfolded = 0;
        }
    }

    fn count(&self, metric: &'static Metric, values: &[&'static str]) {
        self.counter(metric, values).increment(1);
    }

    fn counter(&self, metric: &'static Metric, values: &[&'static str]) -> &Counter {
        self.counters.get(metric, values)
    }

    fn gauge(&self, metric: &'static Metric, values: &[&'static str]) -> &Gauge {
        self.gauges.get(metric, values)
    }
}

const METADATA: Metadata<'static> = Metadata::new("reseal", Level::INFO, None);

/// A recorder of our own that knows the help texts and buckets of the table, and which shard all of it is about.
fn recorder(shard: Shard) -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    if shard.count > 1 {
        builder = builder.add_global_label(table::SHARD, shard.index.to_string());
    }
    for metric in table::TABLE {
        if metric.kind == Kind::Histogram {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .expect("the table gives every histogram its buckets");
        }
    }
    let recorder = builder.build_recorder();
    for metric in table::TABLE {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
    recorder
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn key(metric: &Metric, values: &[&str]) -> Key {
    let labels: Vec<Label> = metric
        .labels
        .iter()
        .zip(values)
        .map(|(label, value)| Label::new(label.name, (*value).to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}

/// The handles of every metric of one kind, by name and label values.
struct Family<T>(HashMap<&'static str, BTreeMap<Vec<&'static str>, T>>);

impl<T> Family<T> {
    fn new(kind: Kind, register: impl Fn(&Key) -> T) -> Self {
        let of_kind = table::TABLE
            .into_iter()
            .filter(|metric| metric.kind == kind);
        Self(
            of_kind
                .map(|metric| {
                    let series = label_sets(metric)
                        .into_iter()
                        .map(|values| {
                            let handle = register(&key(metric, &values));
                            (values, handle)
                        })
                        .collect();
                    (metric.name, series)
                })
                .collect(),
        )
    }

    fn get(&self, metric: &'static Metric, values: &[&'static str]) -> &T {
        self.0
            .get(metric.name)
            .and_then(|series| series.get(values))
            .expect("the table lists every label value, and values come from its enums")
    }
}

/// The series that each object moves, by the numbers of their labels' values.
struct Hot {
    in_flight: Gauge,
    found: [Counter; Mode::ALL.len()],
    requests: [[Counter; ResponseClass::ALL.len()]; Operation::ALL.len()],
    durations: [Histogram; Operation::ALL.len()],
    methods: [Counter; Method::ALL.len()],
    bytes: Counter,
    succeeded: Settled,
    skipped: Settled,
    failed: Settled,
    last_settled: Gauge,
}

/// The series of one outcome.
struct Settled {
    tasks: Counter,
    rows: Gauge,
}

impl Hot {
    fn of(
        counters: &Family<Counter>,
        gauges: &Family<Gauge>,
        histograms: &Family<Histogram>,
    ) -> Self {
        let settled = |outcome| Settled {
            tasks: counters.get(&table::TASKS, &[outcome]).clone(),
            rows: gauges.get(&table::ROWS_SETTLED, &[outcome]).clone(),
        };
        let requests = |operation: Operation| {
            let of_class = |class: ResponseClass| {
                let labels = [operation.name(), class.name()];
                counters.get(&table::REQUESTS, &labels).clone()
            };
            ResponseClass::ALL.map(of_class)
        };
        Self {
            in_flight: gauges.get(&table::TASKS_IN_FLIGHT, &[]).clone(),
            found: Mode::ALL.map(|mode| {
                let labels = [mode.inventory_name()];
                counters.get(&table::OBJECTS_FOUND, &labels).clone()
            }),
            requests: Operation::ALL.map(requests),
            durations: Operation::ALL.map(|operation| {
                let labels = [operation.name()];
                histograms.get(&table::REQUEST_DURATION, &labels).clone()
            }),
            methods: Method::ALL.map(|method| {
                let labels = [method.name()];
                counters.get(&table::TASKS_SUCCEEDED, &labels).clone()
            }),
            bytes: counters.get(&table::REWRITTEN_BYTES, &[]).clone(),
            succeeded: settled(table::SUCCEEDED),
            skipped: settled(table::SKIPPED),
            failed: settled(table::FAILED),
            last_settled: gauges.get(&table::LAST_SETTLED, &[]).clone(),
        }
    }
}

/// Every combination of the metric's label values.
fn label_sets(metric: &Metric) -> Vec<Vec<&'static str>> {
    metric.labels.iter().fold(vec![Vec::new()], |sets, label| {
        let values = (label.values)();
        sets.iter()
            .flat_map(|set| {
                values.iter().map(move |value| {
                    let mut longer = set.clone();
                    longer.push(*value);
                    longer
                })
            })
            .collect()
    })
}

/// Failures by code. Codes come from a store, so both their number and their form are checked here.
struct Failures {
    recorder: PrometheusRecorder,
    by_code: HashMap<String, Counter>,
}

impl Failures {
    fn new(recorder: PrometheusRecorder) -> Self {
        let mut failures = Self {
            recorder,
            by_code: HashMap::new(),
        };
        for code in table::EXPECTED_CODES {
            failures.register(code);
        }
        failures
    }

    fn register(&mut self, code: &str) -> &Counter {
        let counter = self
            .recorder
            .register_counter(&key(&table::TASKS_FAILED, &[code]), &METADATA);
        self.by_code.entry(code.to_owned()).or_insert(counter)
    }

    fn count(&mut self, code: &str) {
        let known = self.by_code.contains_key(code);
        let code = if known || (is_code(code) && self.by_code.len() < FAILURE_CODES_MAX) {
            code
        } else {
            OTHER_CODES
        };
        match self.by_code.get(code) {
            Some(counter) => counter.increment(1),
            None => self.register(code).increment(1),
        }
    }
}

/// Whether the text has the form of S3's error codes: `NoSuchKey`, `KMS.DisabledException`.
fn is_code(code: &str) -> bool {
    (1..=CODE_CHARS_MAX).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests;
