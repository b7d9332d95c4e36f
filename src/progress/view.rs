//! What progress knows and how it puts it into words; no clock, no terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Event, Limit};
use crate::human;
use crate::outcome::{Failure, TaskOutcome};
use crate::pace::Pace;

/// Failed rows that are told one by one; the report has them all.
pub const FAILURES_TOLD_MAX: u64 = 10;

/// Warnings that are told one by one.
pub const WARNINGS_TOLD_MAX: u64 = 100;

/// Between two lines that say that nothing goes on still.
pub const STALL_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Characters of a key, and of a store's message, that a line shows.
const TEXT_CHARS_MAX: usize = 200;

/// A fold over the events of one run.
#[derive(Debug, Default)]
pub struct View {
    phase: Phase,
    rows_prepared: u64,
    pace: Pace,
    failed: u64,
    failed_here: u64,
    retries: u64,
    throttles: u64,
    in_flight: u64,
    /// What holds the job, if anything; nothing before that was told.
    held_by: Option<Option<Limit>>,
    warnings: u64,
    /// Stalls that are not over, and the last one.
    stalls: u32,
    stall: Option<Stalled>,
    /// What holds everything, and since when.
    holds: BTreeMap<Limit, Instant>,
}

/// Where the run is, as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// `preparing`, `running`, `waiting`, `on hold`, `draining` or `finished`.
    pub phase: &'static str,
    /// Rows of the manifest; so far, while it is prepared.
    pub rows: u64,
    /// Rows that have an outcome.
    pub settled: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Tasks.
    pub in_flight: u64,
    /// The pace of the last seconds.
    pub rows_per_second: Option<f64>,
    /// The time that is left at that pace.
    pub seconds_left: Option<u64>,
    /// What holds the job.
    pub limited_by: Option<&'static str>,
    /// Requests that were sent again.
    pub retries: u64,
    /// Answers that asked for fewer requests.
    pub throttles: u64,
}

/// Nothing goes on.
#[derive(Debug)]
struct Stalled {
    why: String,
    since: Instant,
    told_at: Instant,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Preparing,
    Running,
    Draining(String),
    Finished,
}

impl View {
    /// Takes one event. What comes back is a line that the operator should see now, whatever the style.
    pub fn on(&mut self, event: &Event<'_>, now: Instant) -> Option<String> {
        match event {
            Event::Preparing { rows } => self.rows_prepared = *rows,
            Event::Started { total, before, .. } => {
                self.pace.start(*total, before.settled(), now);
                self.failed = before.failed_total();
                self.phase = Phase::Running;
            }
            Event::TaskStarted => self.in_flight += 1,
            Event::TaskEnded => self.in_flight = self.in_flight.saturating_sub(1),
            Event::Retried { .. } => self.retries += 1,
            Event::Throttled { .. } => self.throttles += 1,
            Event::Settled { key, outcome } => {
                self.pace.settle(now);
                if let TaskOutcome::Failed(failure) = outcome {
                    self.failed += 1;
                    self.failed_here += 1;
                    return self.failure_line(key, failure);
                }
            }
            Event::Draining { reason, .. } => {
                self.phase = Phase::Draining(human::sanitize(reason, TEXT_CHARS_MAX));
            }
            Event::Warning { message } => {
                self.warnings += 1;
                return self.warning_line(message);
            }
            // Told once in a run, so that none is hidden behind warnings.
            Event::Finding { message, .. } => {
                return Some(human::sanitize(message, 10 * TEXT_CHARS_MAX));
            }
            Event::StallBegan { why } => return self.stall_began(why, now),
            Event::StallEnded { lasted } => return self.stall_ended(*lasted),
            Event::HoldBegan { by, why } => {
                self.holds.insert(*by, now);
                let why = human::sanitize(why, 10 * TEXT_CHARS_MAX);
                return Some(format!("on hold ({}): {why}", by.name()));
            }
            Event::HoldEnded { by, lasted } => {
                self.holds.remove(by);
                let lasted = human::duration(*lasted);
                return Some(format!("no more on hold ({}), after {lasted}", by.name()));
            }
            Event::Heartbeat => return self.still_stalled(now),
            Event::Pressure(pressure) => self.held_by = Some(pressure.held_by),
            Event::Finished { .. } => {
                self.phase = Phase::Finished;
                self.stall = None;
            }
            Event::Recorded
            | Event::Synced
            | Event::Verified { .. }
            | Event::Found { .. }
            | Event::Request { .. } => {}
        }
        None
    }

    fn stall_began(&mut self, why: &str, now: Instant) -> Option<String> {
        self.stalls += 1;
        let why = human::sanitize(why, 10 * TEXT_CHARS_MAX);
        let line = format!("waiting: {why}");
        let since = self.stall.as_ref().map_or(now, |stall| stall.since);
        self.stall = Some(Stalled {
            why,
            since,
            told_at: now,
        });
        Some(line)
    }

    fn stall_ended(&mut self, lasted: Duration) -> Option<String> {
        self.stalls = self.stalls.saturating_sub(1);
        if self.stalls > 0 {
            return None;
        }
        self.stall = None;
        Some(format!("going on after {}", human::duration(lasted)))
    }

    fn still_stalled(&mut self, now: Instant) -> Option<String> {
        let stall = self.stall.as_mut()?;
        if now < stall.told_at + STALL_TOLD_EVERY {
            return None;
        }
        stall.told_at = now;
        let lasted = human::duration(now.duration_since(stall.since));
        Some(format!("still waiting after {lasted}: {}", stall.why))
    }

    fn failure_line(&self, key: &str, failure: &Failure) -> Option<String> {
        let clean = |text| human::sanitize(text, TEXT_CHARS_MAX);
        match self.failed_here {
            ..=FAILURES_TOLD_MAX => Some(format!(
                "failed: {}: {} ({}): {}",
                clean(key),
                clean(&failure.code),
                failure.http_status,
                clean(&failure.message)
            )),
            n if n == FAILURES_TOLD_MAX + 1 => {
                Some("further failures are in the report".to_owned())
            }
            _ => None,
        }
    }

    fn warning_line(&self, message: &str) -> Option<String> {
        match self.warnings {
            ..=WARNINGS_TOLD_MAX => Some(human::sanitize(message, 10 * TEXT_CHARS_MAX)),
            n if n == WARNINGS_TOLD_MAX + 1 => {
                Some("further warnings are counted but not shown".to_owned())
            }
            _ => None,
        }
    }

    /// Rows that have their outcome.
    pub fn settled(&self) -> u64 {
        self.pace.settled()
    }

    /// Where the run is, on one line.
    pub fn line(&self, now: Instant) -> String {
        let (phase, is_over) = match &self.phase {
            Phase::Running if let Some(stall) = &self.stall => {
                let lasted = human::duration(now.duration_since(stall.since));
                (format!("waiting for {lasted}"), false)
            }
            Phase::Running if let Some(since) = self.holds.values().min() => {
                let lasted = human::duration(now.duration_since(*since));
                (format!("on hold for {lasted}"), false)
            }
            Phase::Preparing => return self.preparing_line(),
            Phase::Running => ("running".to_owned(), false),
            Phase::Draining(reason) => (format!("draining ({reason})"), false),
            Phase::Finished => ("finished".to_owned(), true),
        };
        let (settled, total) = (self.pace.settled(), self.pace.total());
        let mut line = match total {
            // Nobody knows how many they are: a bucket is listed meanwhile.
            0 => format!("{phase}: {}", human::count_of(settled, "row")),
            _ => format!(
                "{phase}: {} of {} rows ({:.1} %)",
                human::count(settled),
                human::count(total),
                // Rounded down: 100 % is said when it is so.
                (self.pace.ratio() * 1_000.0).floor() / 10.0,
            ),
        };
        if !is_over {
            if let Some(rate) = self.pace.rate(now) {
                line.push_str(&format!(", {}/s", rate_text(rate)));
            }
            if let Some(eta) = self.pace.eta(now).filter(|_| total > 0) {
                line.push_str(&format!(", {} left", human::duration(eta)));
            }
            line.push_str(&format!(", {} in flight", human::count(self.in_flight)));
            match self.held_by {
                _ if self.stall.is_some() => {}
                Some(Some(limit)) => line.push_str(&format!(", limited by {}", limit.name())),
                Some(None) => line.push_str(", not limited"),
                None => {}
            }
        }
        line.push_str(&format!(", {} failed", human::count(self.failed)));
        if self.retries > 0 {
            let noun = if self.retries == 1 {
                "retry"
            } else {
                "retries"
            };
            line.push_str(&format!(", {} {noun}", human::count(self.retries)));
        }
        if self.throttles > 0 {
            line.push_str(&format!(", throttled {}x", human::count(self.throttles)));
        }
        line
    }

    /// The same as numbers, for programs that read the log.
    pub fn figures(&self, now: Instant) -> Figures {
        let is_running = self.phase == Phase::Running;
        Figures {
            phase: match self.phase {
                Phase::Preparing => "preparing",
                Phase::Running if self.stall.is_some() => "waiting",
                Phase::Running if !self.holds.is_empty() => "on hold",
                Phase::Running => "running",
                Phase::Draining(_) => "draining",
                Phase::Finished => "finished",
            },
            rows: match self.phase {
                Phase::Preparing => self.rows_prepared,
                _ => self.pace.total(),
            },
            settled: self.pace.settled(),
            failed: self.failed,
            in_flight: self.in_flight,
            rows_per_second: self.pace.rate(now).filter(|_| is_running),
            seconds_left: self
                .pace
                .eta(now)
                .filter(|_| is_running)
                .map(|left| left.as_secs()),
            limited_by: self.held_by.flatten().map(Limit::name),
            retries: self.retries,
            throttles: self.throttles,
        }
    }

    fn preparing_line(&self) -> String {
        match self.rows_prepared {
            0 => "preparing".to_owned(),
            rows => format!("preparing: {} checked", human::count_of(rows, "row")),
        }
    }
}

fn rate_text(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        human::count(rate.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Level, Pressure};
    use crate::exit::Exit;
    use crate::outcome::{SkipReason, Tally};

    fn failed(code: &str, message: &str) -> TaskOutcome {
        TaskOutcome::Failed(Failure {
            code: code.to_owned(),
            http_status: 403,
            message: message.to_owned(),
        })
    }

    const SKIPPED: TaskOutcome = TaskOutcome::Skipped(SkipReason::AlreadyEncrypted);

    #[test]
    fn one_line_tells_where_the_run_is() {
        let (mut view, start) = (View::default(), Instant::now());
        assert_eq!(view.line(start), "preparing");
        view.on(&Event::Preparing { rows: 12_000 }, start);
        assert_eq!(view.line(start), "preparing: 12,000 rows checked");

        let mut before = Tally::default();
        before.add(&failed("AccessDenied", ""));
        let started = Event::Started {
            total: 10_001,
            before: &before,
            doubtful: 0,
        };
        view.on(&started, start);
        assert_eq!(
            view.line(start),
            "running: 1 of 10,001 rows (0.0 %), 0 in flight, 1 failed"
        );
        view.on(&Event::TaskStarted, start);
        for i in 1..=1_000 {
            let settled = Event::Settled {
                key: "k",
                outcome: &SKIPPED,
            };
            view.on(&settled, start + Duration::from_millis(10 * i));
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(
            view.line(now),
            "running: 1,001 of 10,001 rows (10.0 %), 100/s, 1m 30s left, 1 in flight, 1 failed"
        );
        let pressure = |held_by| {
            Event::Pressure(Pressure {
                held_by,
                writes_per_second: 100.0,
                writes_set: 100.0,
                in_flight_max: 8,
            })
        };
        view.on(&pressure(Some(Limit::PrefixThrottling)), now);
        assert!(
            view.line(now)
                .contains("1 in flight, limited by prefix-throttling, 1 failed")
        );
        view.on(&pressure(None), now);
        let draining = Event::Draining {
            reason: "SIGTERM",
            in_flight: 1,
        };
        view.on(&draining, now);
        assert!(view.line(now).starts_with("draining (SIGTERM): 1,001 of"));
        view.on(
            &Event::Finished {
                exit: Exit::Complete,
            },
            now,
        );
        assert_eq!(
            view.line(now),
            "finished: 1,001 of 10,001 rows (10.0 %), 1 failed"
        );
    }

    #[test]
    fn the_first_failures_are_told_and_then_the_report_is_named() {
        let (mut view, now) = (View::default(), Instant::now());
        let outcome = failed("Access\u{1b}Denied", "no\nway");
        let event = Event::Settled {
            key: "a\u{1b}[2Jb\r\n",
            outcome: &outcome,
        };
        let told: Vec<String> = (0..100).filter_map(|_| view.on(&event, now)).collect();
        assert_eq!(told.len() as u64, FAILURES_TOLD_MAX + 1);
        assert_eq!(
            told[0],
            "failed: a\\u{1b}[2Jb\\r\\n: Access\\u{1b}Denied (403): no\\nway"
        );
        assert!(told[10].contains("report"), "{told:?}");
    }

    #[test]
    fn findings_are_told_whatever_warnings_there_were() {
        let (mut view, now) = (View::default(), Instant::now());
        let warning = Event::Warning { message: "odd" };
        (0..1_000).for_each(|_| drop(view.on(&warning, now)));
        let finding = Event::Finding {
            level: Level::Note,
            code: "replicas-stay",
            message: "rule\u{1b}: replicas keep theirs",
        };
        let told = view.on(&finding, now);
        assert_eq!(told.as_deref(), Some("rule\\u{1b}: replicas keep theirs"));
    }

    #[test]
    fn a_stall_is_told_at_once_then_now_and_then_and_its_end() {
        let (mut view, start) = (View::default(), Instant::now());
        let before = Tally::default();
        let (total, before) = (10, &before);
        view.on(
            &Event::Started {
                total,
                before,
                doubtful: 0,
            },
            start,
        );
        let began = |why| Event::StallBegan { why };
        let told = view.on(&began("no\nanswer"), start);
        assert_eq!(told.as_deref(), Some("waiting: no\\nanswer"));
        let told: Vec<String> = (1..=150)
            .filter_map(|s| view.on(&Event::Heartbeat, start + Duration::from_secs(s)))
            .collect();
        let expected = [
            "still waiting after 1m 00s: no\\nanswer",
            "still waiting after 2m 00s: no\\nanswer",
        ];
        assert_eq!(told, expected);
        let now = start + Duration::from_secs(150);
        assert_eq!(
            view.line(now),
            "waiting for 2m 30s: 0 of 10 rows (0.0 %), 0.0/s, 0 in flight, 0 failed"
        );
        // Another beside it: it goes on when both are over.
        view.on(&began("the state"), now);
        let lasted = Duration::from_secs(150);
        let ended = Event::StallEnded { lasted };
        assert_eq!(view.on(&ended, now), None);
        assert!(view.line(now).starts_with("waiting"));
        let told = view.on(&ended, now);
        assert_eq!(told.as_deref(), Some("going on after 2m 30s"));
        assert!(view.line(now).starts_with("running"));
        assert_eq!(view.on(&Event::Heartbeat, now + lasted), None);
    }

    #[test]
    fn warnings_are_told_up_to_their_bound() {
        let (mut view, now) = (View::default(), Instant::now());
        let event = Event::Warning {
            message: "the bucket has ACLs",
        };
        let told: Vec<String> = (0..1_000).filter_map(|_| view.on(&event, now)).collect();
        assert_eq!(told.len() as u64, WARNINGS_TOLD_MAX + 1);
        assert_eq!(told[0], "the bucket has ACLs");
    }
}
