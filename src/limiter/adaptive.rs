//! A rate that nobody has set: found by being told that it was too high.
//!
//! At first it doubles with every round trip, until the store objects. From then on: *multiplicative decrease*, by the share of the
//! answers that objected, and growth that is slow around the rate at which the store last objected and fast far below and above it.
//! So a store of a fixed capacity is used almost whole and objects seldom, and one whose capacity rises is found out within seconds.
//!
//! Only answers to what was sent after the last decision count for the next: a decrease needs a round trip to show. What is
//! taken while there is too much shows better than any share of refusals what the capacity is.
//!
//! Source: the shape of the growth is that of CUBIC (RFC 9438), scaled to the rate.

use std::collections::VecDeque;
use std::time::Duration;

use super::budget::Budget;
use super::usual::Usual;

/// The rate at which a run begins that nobody has throttled yet.
const FIRST_RATE: f64 = 500.0;
/// The lowest rate: who asks for less can't find out that there is more.
const LOWEST_RATE: f64 = 1.0;
/// How fast the rate doubles at first, and after everything was refused, at the most: once in a round trip, and not faster than this.
const DOUBLE_IN: Duration = Duration::from_millis(50);
/// How fast it doubles again after most was refused.
const DOUBLE_AGAIN_IN: Duration = Duration::from_millis(100);
/// How long it stays down before that.
const STAY_DOWN: Duration = Duration::from_millis(500);
/// And how far down it goes at most, as a divisor of where it shall come back to.
const DOWN_DIVISOR: f64 = 64.0;
/// From which part of it on it is learnt that it can't, as a divisor.
const LEARNS_DIVISOR: f64 = 8.0;

/// Answers that a decision needs, or refusals among fewer, or so much time.
const ANSWERS_MIN: u32 = 20;
const REFUSALS_MIN: u32 = 3;
const DECIDE_AFTER: Duration = Duration::from_secs(2);
/// A store that refuses nothing for so long, and for a round trip, has had enough.
const SATURATED_GAP: Duration = Duration::from_millis(50);
/// And one that has refused less than this part of what it took had hardly too much.
const SATURATED_FROM: f64 = 0.15;
/// What is taken lately is the average of so much time.
const ACCEPTED_OVER: Duration = Duration::from_millis(100);
/// Answers are counted together for so long, and until there are enough.
const WINDOW: Duration = Duration::from_millis(200);
/// Where more than this share was refused, the capacity is anybody's guess.
const MOST: f64 = 0.5;

/// What is left below the capacity that a decision has found.
const BELOW: f64 = 0.96;
/// How far above the last capacity the rate is so many seconds after it has come back there: this, times their cube.
const STEEPNESS: f64 = 0.02;
/// How many times as fast it is, at most, for so long after the first guess: as often as a round trip is in this time.
const HASTE_MAX: f64 = 4.0;
const HASTE_WITHIN: Duration = Duration::from_millis(80);
const HASTY_FOR: Duration = Duration::from_secs(3);
/// From how far above it on the capacity has plainly risen, and how fast the rate doubles then.
const PLAINLY_ABOVE: f64 = 0.5;
const DOUBLE_LATER_IN: Duration = Duration::from_secs(1);
/// So often at most: whoever asks for more bounds it otherwise, and a number that is none would help nobody.
const DOUBLINGS_MAX: f64 = 60.0;
/// A rate that is not used does not grow beyond this multiple of what is used.
const UNUSED_MAX: f64 = 2.0;
/// A rate of which such a share is used is what is used.
const NEARLY: f64 = 0.8;
/// What is used is the average of the last so much time,
const USED_OVER: Duration = Duration::from_millis(250);
/// or of the longer time, up to a second, in which so many units go through.
const USED_UNITS: f64 = 5.0;

/// What an answer says about the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The request was taken.
    Taken,
    /// There were too many; and how long the store wants to be left alone, where it says.
    TooMany(Option<Duration>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nobody has objected, and nothing is held back.
    Open,
    /// Nobody has objected.
    Doubling,
    /// Most was refused: down until then, and then up again to that rate.
    Down { until: Duration, to: f64 },
    /// Around the rate at which the store objected, since then.
    Around { capacity: f64, since: Duration },
}

/// A rate that adapts.
#[derive(Debug)]
pub(super) struct Adaptive {
    phase: Phase,
    budget: Budget,
    rate: f64,
    /// When the rate was last brought up to date.
    at: Duration,
    /// When the last decision was made: what was sent before does not count any more.
    decided: Duration,
    window_began: Duration,
    taken: u32,
    refused: u32,
    /// Units that were taken in each of the last seconds' parts.
    used: Recent,
    accepted: Recent,
    round_trip: Duration,
    /// When the store last objected.
    objected: Option<Duration>,
    /// Until then, the store wants to be left alone.
    alone_until: Duration,
    /// The longest that it has asked for since the last decision.
    alone_asked: Option<Duration>,
    /// Until then the rate grows faster than usual: a capacity that was found in a hurry is a rough guess.
    hasty_until: Duration,
    /// Whether the store has too much now, and what it takes meanwhile.
    saturated: Saturated,
    usual: Usual,
}

impl Adaptive {
    /// Begins slowly.
    pub(super) fn careful() -> Self {
        Self::new(Phase::Doubling, FIRST_RATE)
    }

    /// Begins without holding anything back.
    pub(super) fn open() -> Self {
        Self::new(Phase::Open, f64::INFINITY)
    }

    /// Begins around a capacity that is known.
    pub(super) fn around(capacity: f64, now: Duration) -> Self {
        let capacity = capacity.max(LOWEST_RATE);
        let phase = Phase::Around {
            capacity,
            since: now,
        };
        let mut found = Self::new(phase, capacity * BELOW);
        (found.at, found.decided, found.window_began) = (now, now, now);
        found.objected = Some(now);
        found
    }

    fn new(phase: Phase, rate: f64) -> Self {
        Self {
            phase,
            budget: Budget::found(rate.min(f64::MAX)),
            rate,
            at: Duration::ZERO,
            decided: Duration::ZERO,
            window_began: Duration::ZERO,
            taken: 0,
            refused: 0,
            used: Recent::default(),
            accepted: Recent::default(),
            round_trip: Duration::ZERO,
            objected: None,
            alone_until: Duration::ZERO,
            alone_asked: None,
            hasty_until: Duration::ZERO,
            saturated: Saturated::default(),
            usual: Usual::default(),
        }
    }

    /// Units a second that go through now.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether nobody objects: nobody has yet, or not to what is far more than was objected to.
    pub(super) fn is_rising(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Doubling => true,
            Phase::Down { .. } => false,
            Phase::Around { capacity, .. } => self.rate > capacity * (1.0 + PLAINLY_ABOVE),
        }
    }

    /// When the store last objected.
    pub(super) fn objected(&self) -> Option<Duration> {
        self.objected
    }

    /// How long until `units` may be taken.
    pub(super) fn wait(&mut self, units: u64, now: Duration) -> Duration {
        let alone = self.alone_until.saturating_sub(now);
        if self.phase == Phase::Open {
            return alone;
        }
        self.grow(now);
        self.budget.wait(units, now).max(alone)
    }

    /// Takes units.
    pub(super) fn take(&mut self, units: u64, now: Duration) {
        self.used.add(units, now);
        if self.phase != Phase::Open {
            self.budget.take(units, now);
        }
    }

    /// Gives units back that were not used.
    pub(super) fn give_back(&mut self, units: u64) {
        self.budget.give_back(units);
    }

    /// Units that were taken in a second, on average over a time in which there are some.
    pub(super) fn used(&self, now: Duration) -> f64 {
        let some = Duration::from_secs_f64(USED_UNITS / self.rate.clamp(USED_UNITS, f64::MAX));
        self.used.per_second(USED_OVER.max(some), now)
    }

    /// The same of a round trip.
    fn lately(&self, now: Duration) -> f64 {
        self.used.per_second(DOUBLE_IN.max(self.round_trip), now)
    }

    /// Hears what became of `units` that were sent at `sent`.
    pub(super) fn hear(&mut self, answer: Answer, units: u64, sent: Duration, now: Duration) {
        match answer {
            Answer::Taken => {
                self.accepted.add(units, now);
                let took = now.saturating_sub(sent);
                self.round_trip = match self.round_trip {
                    Duration::ZERO => took,
                    known => (known * 7 + took) / 8,
                };
            }
            Answer::TooMany(alone) => {
                self.objected = Some(now);
                // Of a few, each waits for itself; everybody does where nearly all are told so.
                self.alone_asked = self.alone_asked.max(alone);
            }
        }
        let gap = SATURATED_GAP.max(self.round_trip);
        if let Some((began, per_second)) = self.saturated.hear(answer, gap, now)
            && began <= self.decided
        {
            self.is_known(per_second, now);
        }
        if sent < self.decided {
            return;
        }
        match answer {
            Answer::Taken => self.taken += 1,
            Answer::TooMany(_) => self.refused += 1,
        }
        self.usual.hear(answer != Answer::Taken);
        let answers = self.taken + self.refused;
        let age = now.saturating_sub(self.window_began);
        let is_enough = answers >= ANSWERS_MIN
            || (self.refused >= REFUSALS_MIN && age >= WINDOW)
            || age >= DECIDE_AFTER;
        let is_unusual = self.refused > 0 && !self.usual.explains(self.refused, answers);
        if is_unusual && is_enough {
            self.decide(now);
        } else if age >= WINDOW && answers >= ANSWERS_MIN {
            self.count_anew(now);
        }
    }

    /// The store has objected to something else: the rate is again what it was.
    pub(super) fn restore(&mut self, rate: f64, now: Duration) {
        self.phase = Phase::Doubling;
        self.rate = rate.max(self.rate);
        self.budget.set(self.rate, now);
        (self.at, self.decided) = (now, now);
        self.count_anew(now);
    }

    /// The store took so much a second while it refused more: that is its capacity. Of two guesses the higher one is the better: too
    /// high is found out soon.
    fn is_known(&mut self, taken: f64, now: Duration) {
        let is_news = match self.phase {
            Phase::Around { capacity, .. } => taken > capacity,
            // It takes some: there is nothing to stay down for.
            Phase::Down { .. } => true,
            Phase::Open | Phase::Doubling => false,
        };
        if is_news {
            let (capacity, since) = (taken, now);
            self.phase = Phase::Around { capacity, since };
            self.rate = taken * BELOW;
            self.budget.set(self.rate, now);
            (self.at, self.decided) = (now, now);
        }
    }

    fn count_anew(&mut self, now: Duration) {
        (self.taken, self.refused, self.window_began) = (0, 0, now);
        self.alone_asked = None;
    }

    /// The store has objected to a part of what it was sent.
    fn decide(&mut self, now: Duration) {
        let share = f64::from(self.taken) / f64::from(self.taken + self.refused);
        if let Some(before) = self.usual.cut(self.rate, 1.0 - share) {
            self.restore(before, now);
            return;
        }
        // A longer time would be the average of a rate that has changed meanwhile; a shorter one falters.
        let lately = self.lately(now);
        let used = match lately >= self.rate * NEARLY {
            true => self.rate,
            false => lately.max(self.used(now)).clamp(LOWEST_RATE, self.rate),
        };
        // A share of a few answers is a moment that may say little: where most went through, so did what was taken lately.
        let taken_lately = match share >= MOST {
            true => self.accepted.per_second(ACCEPTED_OVER, now).min(used),
            false => 0.0,
        };
        let capacity = (used * share).max(taken_lately).max(LOWEST_RATE);
        let was_around = matches!(self.phase, Phase::Around { .. });
        let is_far_below = matches!(self.phase, Phase::Down { to, .. } if capacity < to / 2.0);
        if share >= MOST && !is_far_below {
            self.phase = Phase::Around {
                capacity,
                since: now,
            };
            self.rate = capacity * BELOW;
        } else {
            let accepted = self.accepted.of_the_last_second(now);
            let to = match self.phase {
                // From so far down nothing is learnt of where it shall come back to.
                Phase::Down { to, .. } if used < to / LEARNS_DIVISOR => to,
                Phase::Down { to, .. } => to / 2.0,
                Phase::Around { .. } => accepted,
                Phase::Open | Phase::Doubling if accepted >= f64::from(ANSWERS_MIN) => accepted,
                // Nothing is known of it.
                Phase::Open | Phase::Doubling => FIRST_RATE,
            };
            if let Some(alone) = self.alone_asked.take() {
                self.alone_until = now + alone;
            }
            let to = to.max(capacity);
            self.phase = Phase::Down {
                until: now + STAY_DOWN,
                to,
            };
            self.rate = (capacity * BELOW).max(to / DOWN_DIVISOR).max(LOWEST_RATE);
        }
        if !was_around {
            self.hasty_until = now + HASTY_FOR;
        }
        self.budget.set(self.rate, now);
        (self.at, self.decided) = (now, now);
        self.count_anew(now);
    }

    fn grow(&mut self, now: Duration) {
        let since = now.saturating_sub(self.at);
        // Now and then is enough.
        if since < Duration::from_millis(1) {
            return;
        }
        self.at = now;
        let used = self.used(now).max(self.lately(now));
        // Of a few requests a second it can't be told whether they are all that there is.
        let most = (used * UNUSED_MAX).max(self.rate).max(FIRST_RATE);
        let rate = match self.phase {
            Phase::Open => return,
            Phase::Doubling => {
                let double_in = DOUBLE_IN.max(self.round_trip);
                doubled(self.rate, since, double_in).min(most)
            }
            Phase::Down { until, to } => {
                if now < until {
                    return;
                }
                let rate = doubled(
                    self.rate,
                    since.min(now - until),
                    DOUBLE_AGAIN_IN.max(self.round_trip),
                );
                if rate >= to * BELOW {
                    self.phase = Phase::Around {
                        capacity: to,
                        since: now,
                    };
                }
                rate.min(to * BELOW).max(self.rate)
            }
            Phase::Around { capacity, since } => {
                let back_after = ((1.0 - BELOW) / STEEPNESS).cbrt();
                let hasty = self.hasty_until.min(now).saturating_sub(since);
                // Where the store is far away, haste goes too far before it is told so.
                let haste = HASTE_WITHIN.as_secs_f64() / self.round_trip.as_secs_f64();
                let more = hasty.as_secs_f64() * (haste.clamp(1.0, HASTE_MAX) - 1.0);
                let beyond = now.saturating_sub(since).as_secs_f64() + more - back_after;
                let plainly_after = (PLAINLY_ABOVE / STEEPNESS).cbrt();
                let above = match beyond - plainly_after {
                    later if later > 0.0 => {
                        let later = Duration::from_secs_f64(later);
                        doubled(1.0 + PLAINLY_ABOVE, later, DOUBLE_LATER_IN)
                    }
                    _ => 1.0 + STEEPNESS * beyond.powi(3),
                };
                (capacity * above).min(most.max(capacity))
            }
        };
        if rate != self.rate {
            self.rate = rate;
            self.budget.set(rate, now);
        }
    }
}

/// A time in which a store has too much: it refuses again and again.
#[derive(Debug, Default)]
struct Saturated {
    /// The first refusal and the last one; nothing where there was none.
    time: Option<(Duration, Duration)>,
    /// What was taken between them, and since the last one.
    taken: u32,
    since: u32,
    refused: u32,
}

impl Saturated {
    /// Hears an answer. Where the time is over: when it began, and what was taken in it a second.
    fn hear(&mut self, answer: Answer, gap: Duration, now: Duration) -> Option<(Duration, f64)> {
        let over = match self.time {
            Some((_, last)) if now > last + gap => self.end(),
            _ => None,
        };
        match (answer, &mut self.time) {
            (Answer::Taken, None) => {}
            (Answer::Taken, Some(_)) => self.since += 1,
            (Answer::TooMany(_), None) => {
                *self = Self {
                    time: Some((now, now)),
                    refused: 1,
                    ..Self::default()
                }
            }
            (Answer::TooMany(_), Some((_, last))) => {
                *last = now;
                self.refused += 1;
                self.taken += std::mem::take(&mut self.since);
            }
        }
        over
    }

    fn end(&mut self) -> Option<(Duration, f64)> {
        let Self {
            time,
            taken,
            refused,
            ..
        } = std::mem::take(self);
        let (began, last) = time?;
        let seconds = last.saturating_sub(began).as_secs_f64();
        // A few refusals at any rate are no saturation.
        let is_much = f64::from(refused) >= f64::from(taken) * SATURATED_FROM;
        (is_much && taken >= ANSWERS_MIN && seconds > 0.0)
            .then(|| (began, f64::from(taken) / seconds))
    }
}

fn doubled(rate: f64, since: Duration, double_in: Duration) -> f64 {
    rate * (since.as_secs_f64() / double_in.as_secs_f64())
        .min(DOUBLINGS_MAX)
        .exp2()
}

/// Units of the last second, by tenths of a tenth of it.
#[derive(Debug, Default)]
struct Recent(VecDeque<(u64, u64)>);

impl Recent {
    /// Slots of so many milliseconds.
    const SLOT_MS: u64 = 10;
    /// So many slots are kept.
    const SLOTS: u64 = 100;

    fn slot(now: Duration) -> u64 {
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX) / Self::SLOT_MS
    }

    fn add(&mut self, units: u64, now: Duration) {
        let slot = Self::slot(now);
        match self.0.back_mut() {
            Some((at, sum)) if *at >= slot => *sum += units,
            _ => self.0.push_back((slot, units)),
        }
        while self
            .0
            .front()
            .is_some_and(|(at, _)| at + Self::SLOTS < slot)
        {
            self.0.pop_front();
        }
    }

    /// What there was in the last second.
    fn of_the_last_second(&self, now: Duration) -> f64 {
        let first = Self::slot(now).saturating_sub(Self::SLOTS);
        let recent = self.0.iter().filter(|(at, _)| *at > first);
        recent.map(|(_, sum)| sum).sum::<u64>() as f64
    }

    /// The average of the last `over`, at most a second; of what there is, at the beginning.
    fn per_second(&self, over: Duration, now: Duration) -> f64 {
        let slots = (Self::slot(over)).clamp(1, Self::SLOTS);
        let first = Self::slot(now).saturating_sub(slots);
        let sum: u64 = self
            .0
            .iter()
            .filter(|(at, _)| *at > first)
            .map(|(_, sum)| sum)
            .sum();
        let began = self.0.front().map_or(0, |(at, _)| *at);
        let had = (Self::slot(now) + 1)
            .saturating_sub(began.max(first + 1))
            .clamp(1, slots);
        sum as f64 * 1_000.0 / (had * Self::SLOT_MS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_that_was_one_is_found_to_be_thousands() {
        let mut found = Adaptive::around(1.0, Duration::ZERO);
        assert!(!found.is_rising());
        for millisecond in 0..15_000 {
            let now = Duration::from_millis(millisecond);
            while found.wait(1, now).is_zero() {
                found.take(1, now);
                found.hear(Answer::Taken, 1, now, now);
            }
        }
        assert!(found.rate() > 1_000.0, "{}", found.rate());
        assert!(found.is_rising());
    }
}
