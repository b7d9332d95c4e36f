use std::collections::BTreeSet;

use super::table::TABLE;
use super::*;
use crate::encryption::Mode;
use crate::event::{Operation, ResponseClass, Throttler};
use crate::outcome::{Failure, Method, SkipReason};

/// The value of the series, as rendered.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.render();
    let line = text
        .lines()
        .find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })
        .unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line[series.len() + 1..].parse().expect("a number")
}

fn settle(metrics: &mut Metrics, outcome: &TaskOutcome, now: Instant) {
    metrics.on_at(&Event::Settled { key: "k", outcome }, now);
}

fn failed(code: &str) -> TaskOutcome {
    TaskOutcome::Failed(Failure {
        code: code.to_owned(),
        http_status: 400,
        message: String::new(),
    })
}

const COPIED: TaskOutcome = TaskOutcome::Succeeded {
    method: Method::Copy,
    bytes: 100,
};

#[test]
fn the_table_follows_prometheus_rules() {
    let names: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), TABLE.len(), "a name twice");
    for metric in TABLE {
        let name = metric.name;
        assert!(name.starts_with("reseal_"), "{name}");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}"
        );
        let stem = name.trim_end_matches("_total");
        let unit = match metric.unit {
            table::Unit::Count => "",
            table::Unit::Bytes => "_bytes",
            table::Unit::Seconds => "_seconds",
            table::Unit::Ratio => "_ratio",
        };
        assert!(stem.ends_with(unit), "{name} is in {:?}", metric.unit);
        assert_eq!(
            metric.buckets.is_empty(),
            metric.kind != Kind::Histogram,
            "{name}"
        );
        assert!(metric.buckets.is_sorted(), "{name}");
        assert!(metric.help.ends_with('.'), "{name}: help is a sentence");
        for label in metric.labels {
            assert!(
                !["key", "prefix", "bucket", "job_id", "le"].contains(&label.name),
                "{name}"
            );
        }
    }
}

#[test]
fn every_series_exists_from_the_start_with_its_help_and_type() {
    let text = Metrics::new(Shard::ONLY).render();
    for metric in TABLE {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(
            text.contains(&format!("# TYPE {} {kind}\n", metric.name)),
            "{}",
            metric.name
        );
        assert!(
            text.contains(&format!("# HELP {} ", metric.name)),
            "{}",
            metric.name
        );
        for values in label_sets(metric) {
            let labels: Vec<String> = metric
                .labels
                .iter()
                .zip(&values)
                .map(|(label, value)| format!("{}=\"{value}\"", label.name))
                .collect();
            let labels = match labels.len() {
                0 => String::new(),
                _ => format!("{{{}}}", labels.join(",")),
            };
            let part = if metric.kind == Kind::Histogram {
                "_count"
            } else {
                ""
            };
            let series = format!("{}{part}{labels} ", metric.name);
            assert!(text.contains(&series), "no {series} in\n{text}");
        }
    }
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let listed: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(exported, listed, "exported and listed are the same");
}

#[test]
fn a_resumed_run_counts_its_own_rows_and_gauges_the_whole_job() {
    let (mut metrics, now) = (Metrics::new(Shard::ONLY), Instant::now());
    let mut before = Tally::default();
    before.add(&COPIED);
    before.add(&TaskOutcome::Skipped(SkipReason::DeleteMarker));
    metrics.on_at(&Event::Preparing { rows: 7 }, now);
    assert_eq!(
        value(&metrics, "reseal_run_state{state=\"preparing\"}"),
        1.0
    );
    let started = Event::Started {
        total: 8,
        before: &before,
        doubtful: 0,
    };
    metrics.on_at(&started, now);
    settle(&mut metrics, &COPIED, now);
    settle(
        &mut metrics,
        &TaskOutcome::Skipped(SkipReason::AlreadyEncrypted),
        now,
    );
    settle(&mut metrics, &failed("AccessDenied"), now);
    metrics.on_at(&Event::Heartbeat, now);
    let expected = [
        ("reseal_rows", 8.0),
        ("reseal_rows_prepared", 7.0),
        ("reseal_rows_settled{outcome=\"succeeded\"}", 2.0),
        ("reseal_rows_settled{outcome=\"skipped\"}", 2.0),
        ("reseal_rows_settled{outcome=\"failed\"}", 1.0),
        ("reseal_rows_remaining", 3.0),
        ("reseal_progress_ratio", 5.0 / 8.0),
        ("reseal_tasks_total{outcome=\"succeeded\"}", 1.0),
        ("reseal_tasks_total{outcome=\"skipped\"}", 1.0),
        ("reseal_tasks_total{outcome=\"failed\"}", 1.0),
        ("reseal_tasks_succeeded_total{method=\"copy\"}", 1.0),
        (
            "reseal_tasks_skipped_total{reason=\"already-encrypted\"}",
            1.0,
        ),
        ("reseal_tasks_skipped_total{reason=\"delete-marker\"}", 0.0),
        ("reseal_tasks_failed_total{code=\"AccessDenied\"}", 1.0),
        ("reseal_rewritten_bytes_total", 100.0),
        ("reseal_run_state{state=\"running\"}", 1.0),
        ("reseal_run_state{state=\"preparing\"}", 0.0),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&metrics, series), wanted, "{series}");
    }
    let pushed = metrics.last_run(Exit::RowsFailed);
    assert!(
        pushed.contains("reseal_last_run_rows_settled 3\n"),
        "{pushed}"
    );
    assert!(pushed.contains("reseal_last_run_rows{outcome=\"succeeded\"} 2\n"));
    let age = unix_seconds() - value(&metrics, "reseal_last_settled_timestamp_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");
}

#[test]
fn requests_and_tasks_are_counted_by_their_labels() {
    let mut metrics = Metrics::new(Shard::ONLY);
    let (operation, class) = (Operation::CopyObject, ResponseClass::Throttled);
    let events = [
        Event::TaskStarted,
        Event::TaskStarted,
        Event::TaskEnded,
        Event::Found { mode: Mode::SseC },
        Event::Request {
            operation,
            class,
            elapsed: Duration::from_millis(30),
        },
        Event::Retried { operation, class },
        Event::Throttled { by: Throttler::Kms },
    ];
    for event in &events {
        metrics.on(event);
    }
    let labels = "operation=\"CopyObject\"";
    let expected = [
        ("reseal_tasks_in_flight".to_owned(), 1.0),
        ("reseal_objects_found_total{mode=\"SSE-C\"}".to_owned(), 1.0),
        (
            format!("reseal_requests_total{{{labels},class=\"throttled\"}}"),
            1.0,
        ),
        (
            format!("reseal_requests_total{{{labels},class=\"ok\"}}"),
            0.0,
        ),
        (
            format!("reseal_retries_total{{{labels},class=\"throttled\"}}"),
            1.0,
        ),
        ("reseal_throttles_total{by=\"kms\"}".to_owned(), 1.0),
        (
            format!("reseal_request_duration_seconds_bucket{{{labels},le=\"0.025\"}}"),
            0.0,
        ),
        (
            format!("reseal_request_duration_seconds_bucket{{{labels},le=\"0.05\"}}"),
            1.0,
        ),
        (
            format!("reseal_request_duration_seconds_sum{{{labels}}}"),
            0.03,
        ),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&metrics, &series), wanted, "{series}");
    }
    metrics.on(&Event::Draining {
        reason: "SIGTERM",
        in_flight: 1,
    });
    assert_eq!(value(&metrics, "reseal_run_state{state=\"draining\"}"), 1.0);
    metrics.on(&Event::Finished {
        exit: Exit::Complete,
    });
    assert_eq!(value(&metrics, "reseal_run_state{state=\"finished\"}"), 1.0);
    assert_eq!(value(&metrics, "reseal_tasks_in_flight"), 0.0);
}

#[test]
fn eta_is_nan_until_it_is_known_and_after_an_early_end() {
    let (mut metrics, start) = (Metrics::new(Shard::ONLY), Instant::now());
    assert!(value(&metrics, "reseal_eta_seconds").is_nan());
    assert!(value(&metrics, "reseal_last_settled_timestamp_seconds").is_nan());
    let started = Event::Started {
        total: 1_000,
        before: &Tally::default(),
        doubtful: 0,
    };
    metrics.on_at(&started, start);
    assert!(value(&metrics, "reseal_eta_seconds").is_nan());
    for i in 1..=100 {
        settle(
            &mut metrics,
            &COPIED,
            start + Duration::from_millis(100 * i),
        );
    }
    metrics.on_at(&Event::Heartbeat, start + Duration::from_secs(10));
    let eta = value(&metrics, "reseal_eta_seconds");
    assert!((eta - 90.0).abs() < 1.0, "{eta}");
    metrics.on(&Event::Finished {
        exit: Exit::Complete,
    });
    assert!(value(&metrics, "reseal_eta_seconds").is_nan());
}

#[test]
fn every_series_of_a_shard_says_which_it_is() {
    let shard = Shard { index: 3, count: 8 };
    let mut metrics = Metrics::new(shard);
    settle(&mut metrics, &failed("Unheard"), Instant::now());
    metrics.is_of(1_000);
    assert_eq!(value(&metrics, "reseal_shards{shard=\"3\"}"), 8.0);
    assert_eq!(value(&metrics, "reseal_job_rows{shard=\"3\"}"), 1_000.0);
    let text = metrics.render();
    let series = |line: &&str| !line.starts_with('#') && !line.is_empty();
    for line in text.lines().filter(series) {
        assert!(line.contains("shard=\"3\""), "{line}");
    }
    let whole = Metrics::new(Shard::ONLY);
    assert_eq!(value(&whole, "reseal_shards"), 1.0);
    assert!(!whole.render().contains("shard=\""));
}

#[test]
fn nothing_holds_a_run_that_is_over() {
    let mut metrics = Metrics::new(Shard::ONLY);
    let series = "reseal_limited_by{limit=\"rate\"}";
    metrics.on(&Event::Pressure(Pressure {
        held_by: Some(Limit::Rate),
        writes_per_second: 5.0,
        writes_set: 5.0,
        in_flight_max: 8,
    }));
    assert_eq!(value(&metrics, series), 1.0);
    metrics.on(&Event::Finished {
        exit: Exit::Complete,
    });
    assert_eq!(value(&metrics, series), 0.0);
}

#[test]
fn codes_from_a_store_are_bounded_in_number_and_form() {
    let mut metrics = Metrics::new(Shard::ONLY);
    let now = Instant::now();
    let bad = ["", "a b", "x\"} 1\nevil 1", &"A".repeat(65), "Ünknown"];
    for code in bad {
        settle(&mut metrics, &failed(code), now);
    }
    for i in 0..10 * FAILURE_CODES_MAX {
        settle(&mut metrics, &failed(&format!("Code{i}")), now);
    }
    let text = metrics.render();
    let series = text
        .lines()
        .filter(|l| l.starts_with("reseal_tasks_failed_total{"));
    assert_eq!(series.count(), FAILURE_CODES_MAX);
    assert_eq!(
        value(&metrics, "reseal_tasks_failed_total{code=\"Code0\"}"),
        1.0
    );
    let new = FAILURE_CODES_MAX - table::EXPECTED_CODES.len();
    let other = value(&metrics, "reseal_tasks_failed_total{code=\"Other\"}");
    assert_eq!(other as usize, bad.len() + 10 * FAILURE_CODES_MAX - new);
    assert!(!text.contains("evil"), "{text}");
}

#[test]
fn a_stall_shows_until_the_last_one_is_over() {
    let mut metrics = Metrics::new(Shard::ONLY);
    let began = Event::StallBegan { why: "why" };
    let lasted = Duration::ZERO;
    let ended = Event::StallEnded { lasted };
    let steps = [(&began, 1.0), (&began, 1.0), (&ended, 1.0), (&ended, 0.0)];
    assert_eq!(value(&metrics, "reseal_stalled"), 0.0);
    for (event, expected) in steps {
        metrics.on(event);
        assert_eq!(value(&metrics, "reseal_stalled"), expected, "{event:?}");
    }
    metrics.on(&began);
    metrics.on(&Event::Finished {
        exit: Exit::Complete,
    });
    assert_eq!(value(&metrics, "reseal_stalled"), 0.0);
}

#[test]
fn what_is_listed_is_listed_in_its_order() {
    // The numbers of values are places in arrays.
    assert!(
        Mode::ALL
            .into_iter()
            .map(|mode| mode as usize)
            .eq(0..Mode::ALL.len())
    );
    assert!(
        Method::ALL
            .into_iter()
            .map(|method| method as usize)
            .eq(0..Method::ALL.len())
    );
    let operations = Operation::ALL
        .into_iter()
        .map(|operation| operation as usize);
    assert!(operations.eq(0..Operation::ALL.len()));
    let classes = ResponseClass::ALL.into_iter().map(|class| class as usize);
    assert!(classes.eq(0..ResponseClass::ALL.len()));
    let limits = Limit::ALL.into_iter().map(|limit| limit as usize);
    assert!(limits.eq(0..Limit::ALL.len()));
}
