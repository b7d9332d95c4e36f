//! That nothing goes on for the moment, and what is waited for: shared by everybody who asks the store.
//!
//! Credentials that are refused and can't be renewed, a store to which there is no connection, one that has nothing but errors
//! for everybody: nothing that a row could do about it, and so nothing that is held against one. A stall begins with the first
//! error that says so and ends with the first answer to a request that was sent after. Those who wait count no attempts; one of
//! them asks now and then, the others wait for what it finds. Only what has worked before is waited for, and only so long.
//!
//! Nothing is sent from here, and nobody is told: whoever runs the job watches ([`Watch`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt as _, SeedableRng as _};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use crate::human;
use crate::retry::{self, Attempts, Verdict};
use crate::s3_error::{CREDENTIALS_UNAVAILABLE, S3Error, STALLED};

/// Between two questions at first: most stalls are new credentials that have to be fetched.
const ASK_FIRST: Duration = Duration::from_millis(500);
/// Between two questions at most: a store that is back is noticed within that.
const ASK_MAX: Duration = Duration::from_secs(15);
/// The pause grows with the stall: such a share of what it has lasted, as a divisor.
const ASK_DIVISOR: u32 = 8;

/// What is waited for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it began.
    pub since: Instant,
    /// What is the matter, in a few words; they may be a store's own.
    pub why: String,
}

/// How a request that is no row's is borne with: within the bounds of [`Attempts`], and those of the stall where nothing goes on.
#[derive(Debug)]
pub struct Patience {
    attempts: Attempts,
    /// When the first request was sent that met a stall.
    waiting_since: Option<Instant>,
    rng: SmallRng,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: Attempts::default(),
            waiting_since: None,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }
}

impl Patience {
    /// How long to wait before the same is asked again that was sent at `sent` and answered with an error.
    ///
    /// # Errors
    /// A refusal, or what was borne long enough.
    pub fn pause(
        &mut self,
        stall: &Stall,
        error: &S3Error,
        sent: Instant,
    ) -> Result<Duration, S3Error> {
        let verdict = retry::judge_look(error);
        let is_waited_for = stall.may_wait() && retry::is_trouble(error);
        if !(is_waited_for && (verdict == Verdict::Stall || stall.is_on())) {
            let verdict = verdict.without_waiting(error);
            match self.attempts.next(&verdict, error, &mut self.rng) {
                Some(pause) if verdict != Verdict::FailRow => return Ok(pause),
                None if is_waited_for => {}
                _ => return Err(error.clone()),
            }
        }
        stall.begin(why(error));
        let since = *self.waiting_since.get_or_insert(sent);
        match stall.pause(&mut self.rng) {
            // Others may fare better time and again.
            Some(pause) if since.elapsed() < stall.max() => Ok(pause),
            _ => Err(stall.given_up(error)),
        }
    }
}

/// The state of a store for everybody who asks it. Clones share it.
#[derive(Clone, Debug)]
pub struct Stall(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: Duration,
    has_worked: AtomicBool,
    now: watch::Sender<Option<Waiting>>,
    /// Held by the one who asks.
    turn: Mutex<()>,
}

impl Stall {
    /// Nothing is the matter yet. A stall is waited for so long, from its beginning; with zero not at all.
    pub fn new(max: Duration) -> Self {
        Self(Arc::new(Shared {
            max,
            has_worked: AtomicBool::new(false),
            now: watch::Sender::new(None),
            turn: Mutex::new(()),
        }))
    }

    /// Whether the end of a stall is waited for: what has never worked is wrong, and not in trouble.
    pub fn may_wait(&self) -> bool {
        !self.0.max.is_zero() && self.0.has_worked.load(Ordering::Relaxed)
    }

    /// Whether nothing goes on.
    pub fn is_on(&self) -> bool {
        self.0.now.borrow().is_some()
    }

    /// Nothing goes on, for this reason. The beginning of a stall that is on already stands; its reason is the last one.
    pub fn begin(&self, why: impl Into<String>) {
        let why = why.into();
        self.0.now.send_modify(|now| match now {
            Some(waiting) => waiting.why = why,
            None => {
                let since = Instant::now();
                *now = Some(Waiting { since, why });
            }
        });
    }

    /// It goes on.
    pub fn end(&self) {
        self.0.now.send_if_modified(|now| now.take().is_some());
    }

    /// Takes what became of a request that was sent at `sent`. Whether it shows that the store answers and lets us in: that ends the
    /// stall, unless the request was on its way when it began.
    pub fn heard<T>(&self, sent: Instant, answer: &Result<T, S3Error>) -> bool {
        let is_answer = answer.as_ref().err().is_none_or(retry::is_answer);
        if is_answer {
            self.0.has_worked.store(true, Ordering::Relaxed);
            let is_after = |waiting: &Waiting| waiting.since <= sent;
            let end = |now: &mut Option<Waiting>| now.take_if(|now| is_after(now)).is_some();
            self.0.now.send_if_modified(end);
        }
        is_answer
    }

    /// Waits until it goes on.
    pub async fn over(&self) {
        let mut now = self.0.now.subscribe();
        // The sender is ours.
        let _ = now.wait_for(Option::is_none).await;
    }

    /// Waits for the right to ask; `None` where it goes on before that.
    pub async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        tokio::select! {
            biased;
            () = self.over() => None,
            turn = self.0.turn.lock() => Some(turn),
        }
    }

    /// How long a stall is waited for still.
    pub fn left(&self) -> Duration {
        let now = self.0.now.borrow();
        let lasted = now.as_ref().map(|waiting| waiting.since.elapsed());
        self.0.max.saturating_sub(lasted.unwrap_or_default())
    }

    /// How long to wait before the next question, jittered; `None` where the stall has been waited for long enough.
    pub fn pause(&self, rng: &mut impl Rng) -> Option<Duration> {
        let left = self.left();
        let lasted = self.0.max - left;
        let pause = (lasted / ASK_DIVISOR).clamp(ASK_FIRST, ASK_MAX);
        (!left.is_zero()).then(|| pause.mul_f64(rng.random_range(0.5..=1.0)).min(left))
    }

    /// How long any stall is waited for.
    pub fn max(&self) -> Duration {
        self.0.max
    }

    /// What an error becomes that has been waited for in vain.
    pub fn given_up(&self, error: &S3Error) -> S3Error {
        let now = self.0.now.borrow();
        let lasted = now
            .as_ref()
            .map_or(self.0.max, |waiting| waiting.since.elapsed());
        let why = now
            .as_ref()
            .map_or_else(|| why(error), |waiting| waiting.why.clone());
        let message = format!("{why} (waited {} in vain)", human::duration(lasted));
        stalled(error.operation, message)
    }

    /// To be told of stalls.
    pub fn watch(&self) -> Watch {
        Watch {
            now: self.0.now.subscribe(),
            told: None,
        }
    }
}

/// The error of something that stood still too long, or too often.
pub fn stalled(operation: &'static str, message: String) -> S3Error {
    S3Error {
        operation,
        code: STALLED.to_owned(),
        http_status: 0,
        message,
        request_id: None,
        retry_after: None,
    }
}

/// What an error says is the matter.
pub fn why(error: &S3Error) -> String {
    let what = if error.is_of_credentials() {
        "the credentials are refused"
    } else if error.code == CREDENTIALS_UNAVAILABLE {
        "no credentials for the moment"
    } else if error.http_status == 0 {
        "the store can't be reached"
    } else {
        "the store is in trouble"
    };
    format!("{what}: {error}")
}

/// A stall that has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing goes on.
    Began {
        /// What is the matter.
        why: String,
    },
    /// It goes on.
    Ended {
        /// How long it has taken.
        lasted: Duration,
    },
}

/// Watches a [`Stall`]: each beginning has its end, in this order, also where both come between two looks.
#[derive(Debug)]
pub struct Watch {
    now: watch::Receiver<Option<Waiting>>,
    told: Option<Instant>,
}

impl Watch {
    /// The next change; waits for it. Once the stall's last clone is gone there is none.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.take() {
                return change;
            }
            if self.now.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&mut self) -> Option<Change> {
        let now = self.now.borrow_and_update();
        let since = now.as_ref().map(|waiting| waiting.since);
        if since == self.told {
            return None;
        }
        if let Some(told) = self.told.take() {
            let lasted = told.elapsed();
            return Some(Change::Ended { lasted });
        }
        self.told = since;
        let why = now.as_ref()?.why.clone();
        Some(Change::Began { why })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::s3_error::NO_CONNECTION;

    fn refused(code: &str, http_status: u16) -> Result<(), S3Error> {
        Err(S3Error {
            code: code.to_owned(),
            http_status,
            ..stalled("CopyObject", String::new())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_has_worked_is_waited_for() {
        let stall = Stall::new(Duration::from_secs(60));
        assert!(!stall.may_wait());
        for (code, status) in [
            (NO_CONNECTION, 0),
            ("InternalError", 500),
            ("ExpiredToken", 400),
        ] {
            assert!(
                !stall.heard(Instant::now(), &refused(code, status)),
                "{code}"
            );
        }
        assert!(!stall.may_wait());
        assert!(stall.heard(Instant::now(), &refused("AccessDenied", 403)));
        assert!(stall.may_wait());
        let never = Stall::new(Duration::ZERO);
        never.heard(Instant::now(), &Ok(()));
        assert!(!never.may_wait());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_request_from_before_ends_nothing() {
        let stall = Stall::new(Duration::from_secs(60));
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        stall.begin("why");
        stall.heard(before, &Ok(()));
        assert!(stall.is_on());
        stall.heard(Instant::now(), &refused("ExpiredToken", 400));
        assert!(stall.is_on());
        stall.heard(Instant::now(), &Ok(()));
        assert!(!stall.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_and_all_go_on() {
        let stall = Stall::new(Duration::from_secs(60));
        stall.begin("why");
        let asker = stall.turn().await.expect("the first one asks");
        let mut second = std::pin::pin!(stall.turn());
        assert!(futures::poll!(&mut second).is_pending());
        stall.end();
        assert!(second.await.is_none());
        drop(asker);
        stall.begin("why");
        assert!(stall.turn().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_with_the_bound() {
        let (stall, mut rng) = (
            Stall::new(Duration::from_secs(900)),
            SmallRng::seed_from_u64(7),
        );
        stall.begin("the store can't be reached");
        let (begun, mut asked) = (Instant::now(), 0);
        while let Some(pause) = stall.pause(&mut rng) {
            assert!(pause <= ASK_MAX);
            tokio::time::advance(pause).await;
            asked += 1;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(900));
        assert!((60..200).contains(&asked), "{asked}");
        let error = stall.given_up(&refused(NO_CONNECTION, 0).expect_err("an error"));
        assert_eq!(error.code, STALLED);
        assert_eq!(
            error.message,
            "the store can't be reached (waited 15m 00s in vain)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_beginning_is_told_and_has_its_end() {
        let stall = Stall::new(Duration::from_secs(60));
        let mut watch = stall.watch();
        stall.begin("first");
        stall.begin("first, in other words");
        let second = Duration::from_secs(1);
        let began = |why: &str| Change::Began {
            why: why.to_owned(),
        };
        assert_eq!(watch.next().await, began("first, in other words"));
        tokio::time::advance(second).await;
        stall.end();
        stall.begin("second");
        assert_eq!(watch.next().await, Change::Ended { lasted: second });
        assert_eq!(watch.next().await, began("second"));
        assert!(futures::poll!(std::pin::pin!(watch.next())).is_pending());
    }
}
