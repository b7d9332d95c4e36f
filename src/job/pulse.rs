//! The pulse of a run: told once a second, whatever else happens.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Event, Limit};
use crate::limiter::Limiter;
use crate::stall::{Change, Watch};

/// Between two events that say nothing but that time passes.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Tells while something goes on: that time passes, what is waited for, and what goes through.
pub struct Pulse<'a> {
    emit: &'a dyn Fn(Event<'_>),
    stalls: Watch,
    limiter: &'a Limiter,
    /// What holds everything, and since when.
    holds: BTreeMap<Limit, Instant>,
}

impl<'a> Pulse<'a> {
    /// Nothing has been told yet.
    pub fn new(emit: &'a dyn Fn(Event<'_>), stalls: Watch, limiter: &'a Limiter) -> Self {
        Self {
            emit,
            stalls,
            limiter,
            holds: BTreeMap::new(),
        }
    }

    /// Tells what has begun, and ended, to hold everything.
    fn tell_holds(&mut self) {
        let holds = self.limiter.holds();
        for (by, why) in &holds {
            if let Entry::Vacant(new) = self.holds.entry(*by) {
                new.insert(Instant::now());
                (self.emit)(Event::HoldBegan { by: *by, why });
            }
        }
        let emit = self.emit;
        self.holds.retain(|by, since| {
            let goes_on = holds.contains_key(by);
            if !goes_on {
                let lasted = since.elapsed();
                emit(Event::HoldEnded { by: *by, lasted });
            }
            goes_on
        });
    }

    /// Does `work`, and tells meanwhile.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut beats = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                change = self.stalls.next() => match change {
                    Change::Began { why } => (self.emit)(Event::StallBegan { why: &why }),
                    Change::Ended { lasted } => (self.emit)(Event::StallEnded { lasted }),
                },
                _ = beats.tick() => {
                    (self.emit)(Event::Heartbeat);
                    (self.emit)(Event::Pressure(self.limiter.pressure()));
                    self.tell_holds();
                }
            }
        }
    }
}
