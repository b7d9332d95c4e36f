//! The budgets: what may be sent, and when.
//!
//! One admission point. Whoever wants to send a request asks for a [`Permit`] with what the request [`Need`]s: it is a read or a
//! write, of a key, moves so many bytes, and has the store ask KMS so many times. The permit is given when *every* budget that it
//! needs has room at once, so that nobody holds a part of one budget while waiting for another. Who needs the same waits in one line;
//! lines don't wait for each other. Each permit tells afterwards what became of its request, and from that the budgets are found
//! that nobody has set.
//!
//! - `budget`: so many units a second; a ceiling that was set holds in each second.
//! - `adaptive`: a rate that is found, by being told that it was too high; `usual`: being told so at any rate.
//! - `prefix`: ceilings by key prefix, and prefixes that the store slows down alone.
//! - `in_flight`: how many are on the wire, and fewer where a store only answers more slowly.
//! - `state`: all of them together, and the lines before them: without a clock and without waiting.
//!
//! Who waits is woken by one task with one timer, however many wait.

mod adaptive;
mod budget;
#[cfg(test)]
mod experiments;
mod in_flight;
mod prefix;
mod state;
#[cfg(test)]
mod tests;
mod usual;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::event::{Limit, Pressure, ResponseClass, Throttler};
use crate::retry;
use crate::s3_error::S3Error;
pub use prefix::Depth;
use prefix::Place;
use state::{State, Taken, Waiter};

/// The budgets that were set, of all shards together.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Requests per second that change objects.
    pub writes: Option<NonZeroU32>,
    /// Requests per second.
    pub requests: Option<NonZeroU32>,
    /// Bytes per second that are copied, or read back.
    pub bytes: Option<NonZeroU64>,
    /// Requests per second that change objects, under each key prefix.
    pub prefix_writes: Option<NonZeroU32>,
    /// How deep those prefixes are.
    pub prefix_depth: Depth,
    /// Requests per second that the store has to send to KMS.
    pub kms: Option<NonZeroU32>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            writes: None,
            requests: None,
            bytes: None,
            prefix_writes: None,
            prefix_depth: Depth::Learnt,
            kms: None,
        }
    }
}

/// What a request is to the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It asks.
    Read,
    /// It changes an object, or makes a part of one.
    Write,
    /// It is more of an answer that is on the wire: nothing but bytes.
    More,
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub struct Need<'k> {
    /// What it is.
    pub kind: Kind,
    /// The object's key; empty where it is about the bucket.
    pub key: &'k str,
    /// How much.
    pub units: Units,
}

/// How much a request takes of the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Requests: itself, and a question that goes right before it.
    pub requests: u32,
    /// Bytes that it has the store copy or send.
    pub bytes: u64,
    /// Requests that it has the store send to KMS.
    pub kms: u32,
    /// Whether it may have the store ask KMS at all: a bucket key only makes it rare.
    pub may_ask_kms: bool,
}

impl Units {
    /// One request, and nothing else.
    pub const ONE: Self = Self {
        requests: 1,
        bytes: 0,
        kms: 0,
        may_ask_kms: false,
    };
}

impl<'k> Need<'k> {
    /// A question about the bucket.
    pub const ABOUT_THE_BUCKET: Need<'static> = Need::read("");

    /// A question about an object.
    pub const fn read(key: &'k str) -> Self {
        Self {
            kind: Kind::Read,
            key,
            units: Units::ONE,
        }
    }

    /// A change.
    pub const fn write(key: &'k str) -> Self {
        Self {
            kind: Kind::Write,
            ..Self::read(key)
        }
    }
}

/// What became of a request, as far as it says something about the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It was taken, whatever else.
    Taken,
    /// There were too many; and how long the store wants to be left alone, where it says.
    TooMany(Throttler, Option<Duration>),
    /// Nothing that says anything: no answer, or trouble of another kind.
    Unknown,
}

impl Answered {
    /// What an answer says.
    pub fn of<T>(answer: &Result<T, S3Error>) -> Self {
        let Err(error) = answer else {
            return Self::Taken;
        };
        match error.class() {
            ResponseClass::Throttled => Self::TooMany(retry::throttler(error), error.retry_after),
            ResponseClass::Ok | ResponseClass::ClientError => Self::Taken,
            ResponseClass::ServerError | ResponseClass::NoAnswer => Self::Unknown,
        }
    }
}

/// A key prefix for whose own budget many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crowd(Place);

/// The budgets of one shard of a job. Clones share them.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    state: Mutex<State>,
    wake: Arc<Notify>,
    /// The task with the timer.
    timer: OnceLock<AbortHandle>,
}

impl Limiter {
    /// The budgets of one of `shards`, each of which has the same part of them, and may have `concurrency` requests on the wire. Inside
    /// a runtime.
    pub fn new(budgets: &Budgets, concurrency: usize, shards: u32) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            state: Mutex::new(State::new(budgets, concurrency, shards)),
            wake: Arc::default(),
            timer: OnceLock::new(),
        });
        let timer = keep_time(Arc::downgrade(&shared), Arc::clone(&shared.wake));
        let _ = shared.timer.set(tokio::spawn(timer).abort_handle());
        Self(shared)
    }

    /// The right to send a request, where nobody has to be waited for.
    pub fn permit_now(&self, need: Need<'_>) -> Option<Permit<'_>> {
        let now = self.0.now();
        let mut state = self.0.state();
        let line = state.line_of(&need, now);
        let is_free = state.waiting == 0 && state.held_up(line, need.units, now).is_none();
        is_free.then(|| Permit {
            limiter: self,
            taken: Some(state.take(line, need.units, now)),
        })
    }

    /// Waits until a request may be sent. First come, first served, among those that need the same.
    pub async fn permit(&self, need: Need<'_>) -> Permit<'_> {
        if let Some(permit) = self.permit_now(need) {
            return permit;
        }
        let mut waiting = {
            let now = self.0.now();
            let mut state = self.0.state();
            let line = state.line_of(&need, now);
            let (granted, waiting) = oneshot::channel();
            let waiter = Waiter {
                units: need.units,
                granted,
            };
            if state.queue(line, waiter) {
                self.0.dispatch(&mut state, now);
            }
            Waiting {
                limiter: self,
                granted: waiting,
            }
        };
        let taken = (&mut waiting.granted).await;
        Permit {
            limiter: self,
            taken: Some(taken.expect("the budgets outlive who waits for them")),
        }
    }

    /// Waits until one more request is within the budgets that has no place on the wire and whose answer says nothing about them: one
    /// beside those of a job's rows.
    pub async fn turn(&self, kind: Kind) {
        let need = Need {
            kind,
            ..Need::ABOUT_THE_BUCKET
        };
        self.permit(need).await.answered("", Answered::Unknown);
    }

    /// Waits until so many bytes more of an answer that is on the wire may be read.
    pub async fn more(&self, bytes: u64) {
        if self.0.state().bytes.is_some() {
            let need = Need {
                kind: Kind::More,
                key: "",
                units: Units {
                    bytes,
                    ..Units::ONE
                },
            };
            self.permit(need).await.answered("", Answered::Unknown);
        }
    }

    /// Where so many wait already for the budget of a key's own prefix that others should come first.
    pub fn crowd(&self, key: &str) -> Option<Crowd> {
        let now = self.0.now();
        let mut state = self.0.state();
        if !state.prefixes.are_any() {
            return None;
        }
        let crowd = Crowd(state.prefixes.place(key, true, now));
        (!state.has_room(crowd.0)).then_some(crowd)
    }

    /// Whether it is time to come back to where there was a crowd.
    pub fn has_room(&self, crowd: Crowd) -> bool {
        self.0.state().has_room(crowd.0)
    }

    /// Holds everything back from now on, for that reason; or no more.
    pub fn hold(&self, by: Limit, why: Option<String>) {
        let now = self.0.now();
        let mut state = self.0.state();
        match why {
            Some(why) => drop(state.holds.insert(by, why)),
            None => drop(state.holds.remove(&by)),
        }
        self.0.dispatch(&mut state, now);
    }

    /// What holds everything back, and why.
    pub fn holds(&self) -> BTreeMap<Limit, String> {
        self.0.state().holds.clone()
    }

    /// Sets the ceiling of writes per second, of all shards together; `None` is none.
    pub fn set_rate(&self, writes: Option<NonZeroU32>) {
        let now = self.0.now();
        let mut state = self.0.state();
        state.set_rate(writes, now);
        self.0.dispatch(&mut state, now);
    }

    /// Sets how many requests this shard may have on the wire.
    pub fn set_concurrency(&self, requests: usize) {
        let now = self.0.now();
        let mut state = self.0.state();
        state.in_flight.set_ceiling(requests);
        state.concurrency_set = Some(requests);
        self.0.dispatch(&mut state, now);
    }

    /// What that was set to since the beginning.
    pub fn concurrency_set(&self) -> Option<usize> {
        self.0.state().concurrency_set
    }

    /// What held the job when [`pressure`](Self::pressure) was asked last.
    pub fn held_by(&self) -> Option<Limit> {
        self.0.state().held_by()
    }

    /// What goes through at this moment. What held the job before it is what [`pressure`](Self::pressure) has told last.
    pub fn pressure_now(&self) -> Pressure {
        self.0.state().pressure_now()
    }

    /// What goes through, and what has held the job since this was asked last.
    pub fn pressure(&self) -> Pressure {
        let now = self.0.now();
        self.0.state().pressure(now)
    }
}

impl Shared {
    /// Nothing that holds the lock can leave the budgets half-changed, so a panic elsewhere does not spoil them.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Gives what can be given, and sees to it that the timer is early enough for the rest.
    fn dispatch(&self, state: &mut State, now: Duration) {
        let next = state.dispatch(now);
        if next < state.timer_at {
            self.wake.notify_one();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.get() {
            timer.abort();
        }
    }
}

/// Wakes who waits, when it is time.
async fn keep_time(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let until = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let now = shared.now();
            let mut state = shared.state();
            state.timer_at = state.dispatch(now);
            shared.began.checked_add(state.timer_at)
        };
        let Some(until) = until else {
            wake.notified().await;
            continue;
        };
        // Whoever wakes it has found that it is earlier.
        let _ = tokio::time::timeout_at(until, wake.notified()).await;
    }
}

/// The right to send one request. It tells what became of it; dropped without that, the request counts as sent and says nothing.
#[derive(Debug)]
#[must_use = "what is not answered tells the budgets nothing"]
pub struct Permit<'l> {
    limiter: &'l Limiter,
    taken: Option<Taken>,
}

impl Permit<'_> {
    /// Tells what became of the request about `key`.
    pub fn answered(mut self, key: &str, how: Answered) {
        self.end(|state, taken, now| state.hear(&taken, key, how, now));
    }

    /// Nothing was sent, nor will be.
    pub fn unused(mut self) {
        self.end(|state, taken, _| state.give_back(&taken));
    }

    fn end(&mut self, end: impl FnOnce(&mut State, Taken, Duration)) {
        if let Some(taken) = self.taken.take() {
            self.limiter.0.end(taken, end);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.end(|state, taken, now| state.hear(&taken, "", Answered::Unknown, now));
    }
}

impl Shared {
    fn end(&self, taken: Taken, end: impl FnOnce(&mut State, Taken, Duration)) {
        let now = self.now();
        let mut state = self.state();
        end(&mut state, taken, now);
        if state.waits_for_room {
            self.dispatch(&mut state, now);
        }
    }
}

/// Somebody who waits; whoever gives up has what it was given in the last moment taken back.
struct Waiting<'l> {
    limiter: &'l Limiter,
    granted: oneshot::Receiver<Taken>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.granted.close();
        if let Ok(taken) = self.granted.try_recv() {
            let give_back = |state: &mut State, taken: Taken, _| state.give_back(&taken);
            self.limiter.0.end(taken, give_back);
        }
    }
}
