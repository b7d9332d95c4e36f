//! How many requests are on the wire: at most so many, and fewer where a store has begun to queue them.
//!
//! How many are needed is a result and no setting: a rate times the time that an answer takes. What is found out here is only when
//! more are of no use. A store that is overloaded and has no other way of saying so answers more slowly, the more it is asked: where
//! answers take several times as long as they have taken, and a quarter of a second longer, fewer are sent at once, until that ends.

use std::time::Duration;

use super::Kind;

/// Overload is answers that take so many times as long as they did,
const GROWTH: u32 = 4;
/// and longer by so much: below that, nobody is hurt.
const GROWTH_MIN: Duration = Duration::from_millis(250);
/// Answers that are looked at together, at least and at most, and for how long.
const ANSWERS: std::ops::Range<usize> = 20..64;
const WINDOW: Duration = Duration::from_millis(500);
/// The share that is left in flight after each such window.
const DECREASE: f64 = 0.8;
/// What is given back after one without, as a share; and at least one.
const INCREASE: f64 = 0.1;
/// So many are always let through.
const LOWEST: f64 = 4.0;
/// An answer about more bytes takes its time for other reasons.
const BYTES_MAX: u64 = 1 << 20;

/// What is on the wire, and what may be.
#[derive(Debug)]
pub(super) struct InFlight {
    now: usize,
    ceiling: usize,
    limit: f64,
    latencies: [Latency; 2],
    window_began: Duration,
}

/// How long answers of one kind take.
#[derive(Debug, Default)]
struct Latency {
    window: Vec<Duration>,
    /// The lowest median of a window so far.
    floor: Option<Duration>,
}

impl InFlight {
    pub(super) fn new(ceiling: usize) -> Self {
        Self {
            now: 0,
            ceiling,
            limit: ceiling as f64,
            latencies: Default::default(),
            window_began: Duration::ZERO,
        }
    }

    /// How many are on the wire.
    #[cfg(test)]
    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// How many may be.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Changes how many may be where the store is well. What was found of the store stays.
    pub(super) fn set_ceiling(&mut self, ceiling: usize) {
        let was_reduced = self.is_reduced();
        self.ceiling = ceiling.max(1);
        let most = self.ceiling as f64;
        self.limit = match was_reduced {
            true => self.limit.min(most),
            false => most,
        };
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.now < self.limit()
    }

    /// Whether fewer are let through than were set.
    pub(super) fn is_reduced(&self) -> bool {
        self.limit() < self.ceiling
    }

    pub(super) fn begin(&mut self) {
        self.now += 1;
    }

    pub(super) fn end(&mut self) {
        self.now = self.now.saturating_sub(1);
    }

    /// Hears how long an answer took that was as asked.
    pub(super) fn hear(&mut self, kind: Kind, bytes: u64, took: Duration, now: Duration) {
        if bytes > BYTES_MAX {
            return;
        }
        let window = &mut self.latencies[kind as usize].window;
        if window.len() < ANSWERS.end {
            window.push(took);
        }
        if now.saturating_sub(self.window_began) >= WINDOW {
            self.window_began = now;
            self.judge();
        }
    }

    fn judge(&mut self) {
        let is_lowest = self.limit <= LOWEST;
        let judged = self
            .latencies
            .iter_mut()
            .filter_map(|latency| latency.judge(is_lowest));
        match judged.max() {
            Some(true) => self.limit = (self.limit * DECREASE).max(LOWEST.min(self.ceiling as f64)),
            Some(false) => {
                let more = (self.limit * INCREASE).max(1.0);
                self.limit = (self.limit + more).min(self.ceiling as f64);
            }
            None => {}
        }
    }
}

impl Latency {
    /// Whether answers take too long; `None` where there were too few.
    fn judge(&mut self, is_lowest: bool) -> Option<bool> {
        if self.window.len() < ANSWERS.start {
            return None;
        }
        self.window.sort_unstable();
        let median = self.window[self.window.len() / 2];
        self.window.clear();
        let floor = *self.floor.get_or_insert(median);
        if median < floor {
            self.floor = Some(median);
        }
        let is_slow = median > floor * GROWTH && median > floor + GROWTH_MIN;
        if is_slow && is_lowest {
            // It is not for us that it is slow: this is how it is now.
            self.floor = Some(median / 2);
        }
        Some(is_slow)
    }
}
