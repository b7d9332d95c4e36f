//! All budgets together, and who waits for them. No clock: everything is told the time, counted from the limiter's beginning.

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use tokio::sync::oneshot;

use super::adaptive::{Adaptive, Answer};
use super::budget::Budget;
use super::in_flight::InFlight;
use super::prefix::{Place, Prefixes};
use super::{Answered, Budgets, Kind, Need, Units};
use crate::event::{Limit, Pressure, Throttler};

/// The longest that the store is left alone by everybody because it has asked one for it.
const ALONE_MAX: Duration = Duration::from_secs(30);
/// A limit holds the job where it keeps at least so many requests waiting on average.
const HOLDS_FROM: f64 = 0.5;
/// A prefix is crowded where such a share of what may be on the wire waits for it, as a divisor; and so many at least.
const CROWD_DIVISOR: usize = 8;
const CROWD_MIN: usize = 4;

/// Requests that need the same budgets wait in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    kind: Kind,
    place: Place,
    bytes: bool,
    kms: bool,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) units: Units,
    pub(super) granted: oneshot::Sender<Taken>,
}

/// What a permit has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    line: Line,
    units: Units,
    at: Duration,
}

/// The budgets and the lines before them.
#[derive(Debug)]
pub(super) struct State {
    pub(super) writes: Option<Budget>,
    pub(super) requests: Option<Budget>,
    pub(super) bytes: Option<Budget>,
    pub(super) kms: Option<Budget>,
    pub(super) prefixes: Prefixes,
    /// Found: what S3 takes of reads and of writes, what KMS takes of it, and what the store as a whole takes.
    s3: [Adaptive; 2],
    kms_found: Adaptive,
    store: Adaptive,
    pub(super) in_flight: InFlight,
    lines: BTreeMap<Line, VecDeque<Waiter>>,
    /// How many wait.
    pub(super) waiting: usize,
    /// Whether somebody waits for a place on the wire.
    pub(super) waits_for_room: bool,
    /// The line that was served last.
    served: Option<Line>,
    /// What holds everything back, and why.
    pub(super) holds: BTreeMap<Limit, String>,
    /// How many requests may be on the wire, where somebody has changed it.
    pub(super) concurrency_set: Option<usize>,
    shards: f64,
    /// When the timer goes off.
    pub(super) timer_at: Duration,
    held: Held,
    /// What held the job when it was asked last.
    held_by: Option<Limit>,
}

impl State {
    pub(super) fn new(budgets: &Budgets, concurrency: usize, shards: u32) -> Self {
        let shards = f64::from(shards.max(1));
        let share = |units: u64| units as f64 / shards;
        let ceiling = |units: Option<u64>| units.map(|units| Budget::first_ceiling(share(units)));
        let of = |units: Option<NonZeroU32>| units.map(|units| u64::from(units.get()));
        Self {
            writes: ceiling(of(budgets.writes)),
            requests: ceiling(of(budgets.requests)),
            bytes: ceiling(budgets.bytes.map(NonZeroU64::get)),
            kms: ceiling(of(budgets.kms)),
            prefixes: Prefixes::new(of(budgets.prefix_writes).map(share), budgets.prefix_depth),
            s3: [Adaptive::careful(), Adaptive::careful()],
            kms_found: Adaptive::open(),
            store: Adaptive::open(),
            in_flight: InFlight::new(concurrency.max(1)),
            lines: BTreeMap::new(),
            waiting: 0,
            waits_for_room: false,
            served: None,
            holds: BTreeMap::new(),
            concurrency_set: None,
            shards,
            timer_at: Duration::MAX,
            held: Held::default(),
            held_by: None,
        }
    }

    /// Sets the ceiling of writes per second of all shards. What it was before is not made up for.
    pub(super) fn set_rate(&mut self, writes: Option<NonZeroU32>, now: Duration) {
        let share = |writes: NonZeroU32| f64::from(writes.get()) / self.shards;
        self.writes = writes.map(|writes| Budget::ceiling(share(writes)).empty(now));
    }

    pub(super) fn line_of(&mut self, need: &Need<'_>, now: Duration) -> Line {
        let is_of_a_key = !need.key.is_empty();
        Line {
            kind: need.kind,
            place: match is_of_a_key && self.prefixes.are_any() {
                true => self.prefixes.place(need.key, need.kind == Kind::Write, now),
                false => Place::default(),
            },
            bytes: need.units.bytes > 0,
            kms: need.units.may_ask_kms,
        }
    }

    /// What a request waits for longest, and how long at least; `None` where it may be sent. Who waits for a place on the wire waits
    /// until there is one.
    pub(super) fn held_up(
        &mut self,
        line: Line,
        units: Units,
        now: Duration,
    ) -> Option<(Limit, Duration)> {
        let Units {
            requests,
            bytes,
            kms,
            ..
        } = units;
        let mut longest: Option<(Limit, Duration)> = None;
        let mut see = |limit, wait: Duration| {
            if !wait.is_zero() && longest.is_none_or(|(_, known)| wait > known) {
                longest = Some((limit, wait));
            }
        };
        let mut ceiling = |limit, budget: &mut Option<Budget>, units| {
            if units > 0
                && let Some(budget) = budget
            {
                see(limit, budget.wait(units, now));
            }
        };
        ceiling(Limit::Bandwidth, &mut self.bytes, bytes);
        if line.kind == Kind::More {
            return longest;
        }
        // What is on the wire may end; nothing more begins.
        if let Some(by) = self.holds.keys().next() {
            return Some((*by, Duration::MAX));
        }
        ceiling(Limit::RequestRate, &mut self.requests, requests.into());
        ceiling(Limit::KmsRate, &mut self.kms, kms.into());
        if line.kind == Kind::Write {
            ceiling(Limit::Rate, &mut self.writes, 1);
        }
        let (prefix, hot) = self.prefixes.wait(line.place, now);
        see(Limit::PrefixRate, prefix);
        see(Limit::PrefixThrottling, hot);
        let s3 = &mut self.s3[line.kind as usize];
        let limit = if s3.is_rising() {
            Limit::RampUp
        } else {
            Limit::S3Throttling
        };
        see(limit, s3.wait(1, now));
        see(Limit::StoreOverload, self.store.wait(1, now));
        if line.kms {
            see(Limit::KmsThrottling, self.kms_found.wait(1, now));
        }
        if longest.is_none() && !self.in_flight.has_room() {
            let limit = match self.in_flight.is_reduced() {
                true => Limit::StoreOverload,
                false => Limit::Concurrency,
            };
            return Some((limit, Duration::MAX));
        }
        longest
    }

    pub(super) fn take(&mut self, line: Line, units: Units, now: Duration) -> Taken {
        let Units {
            requests,
            bytes,
            kms,
            ..
        } = units;
        let take = |budget: &mut Option<Budget>, units| {
            if units > 0
                && let Some(budget) = budget
            {
                budget.take(units, now);
            }
        };
        take(&mut self.bytes, bytes);
        if line.kind != Kind::More {
            take(&mut self.requests, requests.into());
            take(&mut self.kms, kms.into());
            take(&mut self.writes, u64::from(line.kind == Kind::Write));
            self.prefixes.take(line.place, now);
            self.s3[line.kind as usize].take(1, now);
            self.store.take(1, now);
            if line.kms {
                self.kms_found.take(1, now);
            }
            self.in_flight.begin();
        }
        Taken {
            line,
            units,
            at: now,
        }
    }

    /// Takes a permit back that nothing was sent for.
    pub(super) fn give_back(&mut self, taken: &Taken) {
        let line = taken.line;
        let Units {
            requests,
            bytes,
            kms,
            ..
        } = taken.units;
        let back = |budget: &mut Option<Budget>, units| {
            if let Some(budget) = budget {
                budget.give_back(units);
            }
        };
        back(&mut self.bytes, bytes);
        if line.kind != Kind::More {
            back(&mut self.requests, requests.into());
            back(&mut self.kms, kms.into());
            back(&mut self.writes, u64::from(line.kind == Kind::Write));
            self.prefixes.give_back(line.place);
            self.s3[line.kind as usize].give_back(1);
            self.store.give_back(1);
            if line.kms {
                self.kms_found.give_back(1);
            }
            self.in_flight.end();
        }
    }

    /// Takes what became of a request.
    pub(super) fn hear(&mut self, taken: &Taken, key: &str, how: Answered, now: Duration) {
        let (line, sent) = (taken.line, taken.at);
        if line.kind == Kind::More {
            return;
        }
        self.in_flight.end();
        match how {
            Answered::Unknown => {}
            Answered::Taken => {
                self.hear_s3(line, key, Answer::Taken, sent, now);
                self.store.hear(Answer::Taken, 1, sent, now);
                if line.kms {
                    self.kms_found.hear(Answer::Taken, 1, sent, now);
                }
                let took = now.saturating_sub(sent);
                self.in_flight.hear(line.kind, taken.units.bytes, took, now);
            }
            Answered::TooMany(by, alone) => {
                let too_many = Answer::TooMany(alone.map(|alone| alone.min(ALONE_MAX)));
                match by {
                    Throttler::Kms if line.kms => self.kms_found.hear(too_many, 1, sent, now),
                    // What nobody knew to ask KMS is slowed with everything.
                    Throttler::S3 | Throttler::Kms => self.hear_s3(line, key, too_many, sent, now),
                    Throttler::Store => self.store.hear(too_many, 1, sent, now),
                }
            }
        }
    }

    fn hear_s3(&mut self, line: Line, key: &str, answer: Answer, sent: Duration, now: Duration) {
        if line.place.is_hot() {
            self.prefixes.hear(line.place, answer, sent, now);
            return;
        }
        let s3 = &mut self.s3[line.kind as usize];
        if answer != Answer::Taken || self.prefixes.are_compared() {
            let (rate, used) = (s3.rate(), s3.used(now));
            if let Some(before) = self.prefixes.compare(key, answer, rate, used, now) {
                // It was the one prefix all the time.
                s3.restore(before, now);
                return;
            }
        }
        s3.hear(answer, 1, sent, now);
    }

    /// Puts somebody at the end of a line; whether it is the first there.
    pub(super) fn queue(&mut self, line: Line, waiter: Waiter) -> bool {
        self.waiting += 1;
        let queue = self.lines.entry(line).or_default();
        queue.push_back(waiter);
        queue.len() == 1
    }

    /// Gives permits, one line after the other, as long as there is room, and tells when there is more.
    pub(super) fn dispatch(&mut self, now: Duration) -> Duration {
        self.held.passes(now);
        let (mut next, mut is_served) = (Duration::MAX, true);
        while is_served && self.waiting > 0 {
            (next, is_served) = (Duration::MAX, false);
            self.waits_for_room = false;
            self.held.waiting = [0; Limit::ALL.len()];
            let mut lines = std::mem::take(&mut self.lines);
            let after = |line: &Line| self.served.is_none_or(|served| *line > served);
            // Turn by turn: who was served last comes last.
            let order: Vec<Line> = lines
                .keys()
                .filter(|line| after(line))
                .chain(lines.keys().filter(|line| !after(line)))
                .copied()
                .collect();
            for line in order {
                let queue = lines.get_mut(&line).expect("it was there");
                if self.serve(line, queue, now) {
                    is_served = true;
                }
                if let Some(first) = queue.front() {
                    match self.held_up(line, first.units, now) {
                        Some((limit, wait)) => {
                            self.held.waiting[limit as usize] += queue.len();
                            self.waits_for_room |= wait == Duration::MAX;
                            next = next.min(now.saturating_add(wait));
                        }
                        None => is_served = true,
                    }
                }
            }
            lines.retain(|_, queue| !queue.is_empty());
            self.lines = lines;
        }
        next
    }

    /// Gives the first of a line its permit, if it may have it; those who have gone are passed over.
    fn serve(&mut self, line: Line, queue: &mut VecDeque<Waiter>, now: Duration) -> bool {
        while let Some(first) = queue.front() {
            if !first.granted.is_closed() && self.held_up(line, first.units, now).is_some() {
                return false;
            }
            let first = queue.pop_front().expect("it was looked at");
            self.waiting -= 1;
            if first.granted.is_closed() {
                continue;
            }
            let taken = self.take(line, first.units, now);
            self.served = Some(line);
            match first.granted.send(taken) {
                Ok(()) => return true,
                Err(taken) => self.give_back(&taken),
            }
        }
        false
    }

    /// Whether few enough wait for the budget of a prefix that more may come.
    pub(super) fn has_room(&self, place: Place) -> bool {
        let crowd = (self.in_flight.limit() / CROWD_DIVISOR).max(CROWD_MIN);
        let there = self
            .lines
            .iter()
            .filter(|(line, _)| line.place.shares(place));
        there.map(|(_, queue)| queue.len()).sum::<usize>() < crowd
    }

    pub(super) fn pressure(&mut self, now: Duration) -> Pressure {
        self.held.passes(now);
        self.held_by = self.held.by(now);
        self.pressure_now()
    }

    pub(super) fn pressure_now(&self) -> Pressure {
        let set = [&self.writes, &self.requests].into_iter().flatten();
        let found = [&self.s3[Kind::Write as usize], &self.store];
        Pressure {
            held_by: self.held_by(),
            writes_set: self
                .writes
                .as_ref()
                .map_or(f64::INFINITY, Budget::per_second),
            writes_per_second: match self.holds.is_empty() {
                true => set
                    .map(Budget::per_second)
                    .chain(found.map(Adaptive::rate))
                    .fold(f64::INFINITY, f64::min),
                false => 0.0,
            },
            in_flight_max: self.in_flight.limit(),
        }
    }

    /// What holds the job: everything at once, or else what held it when it was asked last.
    pub(super) fn held_by(&self) -> Option<Limit> {
        let everything = self.holds.keys().next();
        everything.copied().or(self.held_by)
    }
}

/// What has kept requests waiting, and for how long.
#[derive(Debug, Default)]
struct Held {
    /// How many wait for what, now.
    waiting: [usize; Limit::ALL.len()],
    /// Since when they do.
    at: Duration,
    /// How long they have, added up, since it was asked last.
    seconds: [f64; Limit::ALL.len()],
    asked: Duration,
}

impl Held {
    fn passes(&mut self, now: Duration) {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        for (seconds, waiting) in self.seconds.iter_mut().zip(self.waiting) {
            *seconds += since * waiting as f64;
        }
    }

    fn by(&mut self, now: Duration) -> Option<Limit> {
        let since = now.saturating_sub(self.asked).as_secs_f64();
        self.asked = now;
        let seconds = std::mem::take(&mut self.seconds);
        let (limit, most) = Limit::ALL
            .into_iter()
            .zip(seconds)
            .max_by(|one, other| one.1.total_cmp(&other.1))?;
        (since > 0.0 && most / since >= HOLDS_FROM).then_some(limit)
    }
}
