//! One budget: so many units a second, smoothly.
//!
//! A token bucket lets units through as they accrue, and what a late timer has missed a little later. Where the budget is a ceiling
//! that somebody has set, every second counts: a window that slides over the last one holds the bucket's bursts back. So the rate is
//! met on average *and* in each second.

use std::collections::VecDeque;
use std::time::Duration;

/// What may be made up for at once, as a time: timers that are late by less lose nothing.
const BURST: Duration = Duration::from_millis(50);

/// The sliding second is kept in so many slots of a millisecond; it is longer than a second by one of them.
const SLOTS: u64 = 1_000;

/// Below this many units a second, a part of one would be felt if it were rounded off.
const WHOLE_UNITS: f64 = 30.0;

/// So many units a second.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    burst: f64,
    /// What is left: negative where a single request took more than there was.
    left: f64,
    at: Duration,
    second: Option<Second>,
}

impl Budget {
    /// A ceiling in every second.
    pub(super) fn ceiling(per_second: f64) -> Self {
        let is_whole = per_second.fract() == 0.0 || per_second >= WHOLE_UNITS;
        let second = (is_whole && per_second >= 2.0).then(|| Second::new(per_second as u64));
        // Without the window, nothing but the distance between two units holds the ceiling.
        let burst = match second {
            Some(_) => (per_second * BURST.as_secs_f64()).max(2.0),
            None => 1.0,
        };
        Self {
            second,
            ..Self::new(per_second, burst)
        }
    }

    /// A ceiling from the beginning of a run on. What would be sent at once then goes over connections that have to come up first, and
    /// gets to the store late, in a second that has its own.
    pub(super) fn first_ceiling(per_second: f64) -> Self {
        let ceiling = Self::ceiling(per_second);
        match per_second >= WHOLE_UNITS {
            true => ceiling.empty(Duration::ZERO),
            false => ceiling,
        }
    }

    /// A rate that is found, and no ceiling.
    pub(super) fn found(per_second: f64) -> Self {
        Self::new(per_second, burst_of(per_second))
    }

    fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            left: burst,
            at: Duration::ZERO,
            second: None,
        }
    }

    /// Nothing is left of it now.
    pub(super) fn empty(mut self, now: Duration) -> Self {
        (self.left, self.at) = (0.0, now);
        self
    }

    /// Units a second.
    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Changes the rate of a budget that is no ceiling.
    pub(super) fn set(&mut self, per_second: f64, now: Duration) {
        self.accrue(now);
        self.per_second = per_second;
        self.burst = burst_of(per_second);
        self.left = self.left.min(self.burst);
    }

    fn accrue(&mut self, now: Duration) {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.burst);
        self.at = self.at.max(now);
    }

    /// How long until `units` may be taken; zero is now. More than there can be at once wait for all of it.
    pub(super) fn wait(&mut self, units: u64, now: Duration) -> Duration {
        self.accrue(now);
        // A rounding error is no reason to wait.
        let missing = (units as f64).min(self.burst) - self.left - 1e-6;
        let by_rate = if missing > 0.0 {
            Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
        } else {
            Duration::ZERO
        };
        let by_second = self
            .second
            .as_mut()
            .map_or(Duration::ZERO, |second| second.wait(units, now));
        by_rate.max(by_second)
    }

    /// Takes units, whatever is left.
    pub(super) fn take(&mut self, units: u64, now: Duration) {
        self.accrue(now);
        self.left -= units as f64;
        if let Some(second) = &mut self.second {
            second.take(units, now);
        }
    }

    /// Gives units back that were taken and not used, at once.
    pub(super) fn give_back(&mut self, units: u64) {
        self.left = (self.left + units as f64).min(self.burst);
        if let Some(second) = &mut self.second {
            second.give_back(units);
        }
    }

    /// Whether it is as if nothing had ever been taken.
    pub(super) fn is_full(&mut self, now: Duration) -> bool {
        self.accrue(now);
        let in_second = self.second.as_mut().map_or(0, |second| {
            second.forget(now);
            second.sum
        });
        self.left >= self.burst && in_second == 0
    }
}

fn burst_of(per_second: f64) -> f64 {
    (per_second * BURST.as_secs_f64() / 2.0).max(1.0)
}

/// What was taken in the last second.
#[derive(Debug)]
struct Second {
    max: u64,
    sum: u64,
    /// Slots in which something was taken, oldest first: at most [`SLOTS`].
    taken: VecDeque<(u64, u64)>,
}

impl Second {
    fn new(max: u64) -> Self {
        Self {
            max,
            sum: 0,
            taken: VecDeque::new(),
        }
    }

    fn forget(&mut self, now: Duration) {
        let slot = slot_of(now);
        while let Some((at, units)) = self.taken.front()
            && at + SLOTS < slot
        {
            self.sum -= units;
            self.taken.pop_front();
        }
    }

    fn wait(&mut self, units: u64, now: Duration) -> Duration {
        self.forget(now);
        let mut sum = self.sum;
        let mut until = now;
        for (at, taken) in &self.taken {
            // What is more than a second's worth goes when nothing else did.
            if sum == 0 || sum + units <= self.max {
                break;
            }
            sum -= taken;
            until = Duration::from_millis(at + SLOTS + 1);
        }
        until.saturating_sub(now)
    }

    fn take(&mut self, units: u64, now: Duration) {
        let slot = slot_of(now);
        self.sum += units;
        match self.taken.back_mut() {
            Some((at, taken)) if *at >= slot => *taken += units,
            _ => self.taken.push_back((slot, units)),
        }
    }

    fn give_back(&mut self, units: u64) {
        if let Some((_, taken)) = self.taken.back_mut() {
            let back = units.min(*taken);
            *taken -= back;
            self.sum -= back;
        }
    }
}

fn slot_of(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The instants, in milliseconds, at which somebody who wants all there is may take one unit, when timers are late by turns.
    fn taken(budget: &mut Budget, for_ms: u64, late: &[u64]) -> Vec<u64> {
        let mut taken = Vec::new();
        let (mut now, mut turn) = (Duration::ZERO, 0);
        while now < Duration::from_millis(for_ms) {
            let wait = budget.wait(1, now);
            if wait.is_zero() {
                budget.take(1, now);
                taken.push(slot_of(now));
            } else {
                // Timers have milliseconds.
                let until = (now + wait).as_nanos().div_ceil(1_000_000) as u64;
                now = Duration::from_millis(until + late[turn % late.len()]);
                turn += 1;
            }
        }
        taken
    }

    fn in_worst_second(taken: &[u64]) -> usize {
        let mut first = 0;
        let counts = taken.iter().enumerate().map(|(last, at)| {
            while taken[first] + 1_000 <= *at {
                first += 1;
            }
            last + 1 - first
        });
        counts.max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_second_is_above_a_ceiling_and_late_timers_lose_nothing(
            rate in prop_oneof![2_u32..40, 90_u32..4_000],
            late in prop::collection::vec(0_u64..20, 1..8),
        ) {
            let mut budget = Budget::ceiling(rate.into());
            let taken = taken(&mut budget, 5_000, &late);
            prop_assert!(in_worst_second(&taken) <= rate as usize);
            let expected = f64::from(rate) * 5.0;
            prop_assert!(taken.len() as f64 >= expected * 0.985 - 2.0, "{} of {expected}", taken.len());
        }
    }

    #[test]
    fn parts_of_units_add_up_over_the_shards() {
        for (rate, shards) in [(10.0, 3.0), (1.0, 4.0), (1_000.0, 7.0)] {
            let mut budget = Budget::ceiling(rate / shards);
            let taken = taken(&mut budget, 60_000, &[0]).len() as f64 * shards;
            assert!(taken <= rate * 60.0 + shards, "{taken} at {rate}/s");
            assert!(taken >= rate * 60.0 * 0.98, "{taken} at {rate}/s");
        }
    }

    #[test]
    fn what_is_more_than_a_second_has_takes_the_seconds_after_it_too() {
        let mut budget = Budget::ceiling(1_000.0);
        budget.take(10_000, Duration::ZERO);
        let wait = budget.wait(1, Duration::ZERO);
        assert!(wait > Duration::from_millis(9_900), "{wait:?}");
        let later = wait + Duration::from_millis(1);
        assert_eq!(budget.wait(1, later), Duration::ZERO);
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let mut budget = Budget::ceiling(10.0);
        for _ in 0..100 {
            assert_eq!(budget.wait(1, Duration::ZERO), Duration::ZERO);
            budget.take(1, Duration::ZERO);
            budget.give_back(1);
        }
    }
}
