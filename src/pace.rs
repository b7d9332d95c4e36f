//! How far a run is and how fast it goes: the one place where progress, rate and remaining time are computed, so that
//! the bar, the log lines and the metrics can't disagree.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The rate is that of the last so much time.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);

/// One sample of the count in so much time; with [`RATE_WINDOW`] it bounds what is kept.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Below this much time a rate says nothing.
const RATE_AFTER: Duration = Duration::from_secs(1);

/// The remaining time is told once this share of the run's rows has settled: what comes first is not typical.
pub const ETA_AFTER_SHARE: f64 = 0.01;

/// Counts of rows against the clock.
#[derive(Debug, Default)]
pub struct Pace {
    total: u64,
    before: u64,
    settled: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// The run begins: rows of the manifest, and how many of them earlier runs have settled.
    pub fn start(&mut self, total: u64, before: u64, now: Instant) {
        *self = Self {
            total,
            before,
            settled: 0,
            samples: VecDeque::from([(now, 0)]),
        };
    }

    /// One row more has its outcome.
    pub fn settle(&mut self, now: Instant) {
        self.settled += 1;
        let due = self
            .samples
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE_EVERY);
        if due {
            self.samples.push_back((now, self.settled));
            // The newest sample from before the window is kept: the window is measured from it.
            while self.samples.len() > 1 && now.duration_since(self.samples[1].0) >= RATE_WINDOW {
                self.samples.pop_front();
            }
        }
    }

    /// Rows of the manifest.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Rows that have their outcome, from this run and those before it.
    pub fn settled(&self) -> u64 {
        self.before + self.settled
    }

    /// Rows that have no outcome yet.
    pub fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.settled())
    }

    /// Share of the manifest's rows that have their outcome, 0 to 1. An empty manifest is done.
    pub fn ratio(&self) -> f64 {
        if self.total == 0 {
            1.0
        } else {
            self.settled() as f64 / self.total as f64
        }
    }

    /// Rows per second over the last [`RATE_WINDOW`]; `None` in the first second.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let (since, count) = self
            .samples
            .iter()
            .rev()
            .find(|(at, _)| now.duration_since(*at) >= RATE_WINDOW)
            .or(self.samples.front())?;
        let elapsed = now.duration_since(*since);
        (elapsed >= RATE_AFTER).then(|| (self.settled - count) as f64 / elapsed.as_secs_f64())
    }

    /// Time until the last row settles if the rate stays: `None` before [`ETA_AFTER_SHARE`] of this run's rows have
    /// settled, and while nothing settles.
    pub fn eta(&self, now: Instant) -> Option<Duration> {
        if self.remaining() == 0 && !self.samples.is_empty() {
            return Some(Duration::ZERO);
        }
        let to_do = self.total.saturating_sub(self.before);
        if self.settled == 0 || (self.settled as f64) < to_do as f64 * ETA_AFTER_SHARE {
            return None;
        }
        let seconds = self.remaining() as f64 / self.rate(now).filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pace: &mut Pace, start: Instant, from_ms: u64, rows: u64, every_ms: u64) -> Instant {
        for i in 1..=rows {
            pace.settle(start + Duration::from_millis(from_ms + i * every_ms));
        }
        start + Duration::from_millis(from_ms + rows * every_ms)
    }

    #[test]
    fn a_steady_run_tells_its_rate_and_what_remains() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.start(100_000, 50_000, start);
        let now = run(&mut pace, start, 0, 10_000, 10);
        assert_eq!(pace.settled(), 60_000);
        assert_eq!(pace.remaining(), 40_000);
        assert!((pace.ratio() - 0.6).abs() < 1e-9);
        let rate = pace.rate(now).expect("a hundred seconds in");
        assert!((rate - 100.0).abs() < 1.0, "{rate}");
        let eta = pace.eta(now).expect("a fifth is done").as_secs_f64();
        assert!((eta - 400.0).abs() < 5.0, "{eta}");
    }

    #[test]
    fn the_rate_is_that_of_the_window_and_falls_in_a_stall() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.start(1_000_000, 0, start);
        run(&mut pace, start, 0, 60_000, 1);
        let now = run(&mut pace, start, 60_000, 400, 100);
        let rate = pace.rate(now).expect("known");
        assert!(
            (rate - 10.0).abs() < 0.5,
            "the fast first minute is past: {rate}"
        );
        let later = now + 2 * RATE_WINDOW;
        assert!(pace.rate(later).expect("known") < 0.2);
        assert!(pace.samples.len() < 100, "bounded: {}", pace.samples.len());
    }

    #[test]
    fn no_eta_before_it_means_something() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.eta(start), None);
        pace.start(10_000, 0, start);
        assert_eq!(pace.eta(start + Duration::from_secs(5)), None);
        let now = run(&mut pace, start, 0, 99, 100);
        assert_eq!(pace.eta(now), None, "99 of 10,000");
        pace.settle(now);
        assert!(pace.eta(now).is_some(), "100 of 10,000");
        pace.start(0, 0, start);
        assert_eq!((pace.ratio(), pace.eta(start)), (1.0, Some(Duration::ZERO)));
    }
}
