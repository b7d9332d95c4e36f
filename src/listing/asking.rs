//! One request, until it is answered: within the budgets, with the retries and the patience that every request of the house has.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::{Answered, Limiter, Need};
use crate::retry::{self, Verdict};
use crate::s3::S3;
use crate::s3_error::{S3Error, UNREADABLE_ANSWER};
use crate::shutdown::{self, Shutdown, Urgency};
use crate::stall::{Patience, Stall};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process was asked to stop: nothing more is sent.
    Drained,
    /// The store refuses, or is not there.
    Store(S3Error),
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// By S3's names, retries among them.
    pub sent: BTreeMap<&'static str, u64>,
    /// Those that were sent again.
    pub retries: u64,
    /// Answers that asked for fewer.
    pub throttles: u64,
}

/// Who asks the store.
#[derive(Debug)]
pub struct Asker {
    /// The store.
    pub s3: S3,
    /// What may be sent in a second, and be on the wire.
    pub limiter: Limiter,
    /// That nothing goes on.
    pub stall: Stall,
    shutdown: Shutdown,
    requests: RefCell<Requests>,
    /// Operations that have been answered so that it could be read.
    readable: RefCell<BTreeSet<&'static str>>,
    /// What waits for nothing.
    never: Stall,
}

impl Asker {
    /// Nothing has been asked yet.
    pub fn new(s3: S3, limiter: Limiter, stall: Stall, shutdown: Shutdown) -> Self {
        Self {
            s3,
            limiter,
            stall,
            shutdown,
            requests: RefCell::default(),
            readable: RefCell::default(),
            never: Stall::new(Duration::ZERO),
        }
    }

    /// What was sent so far.
    pub fn requests(&self) -> Requests {
        self.requests.borrow().clone()
    }

    /// Where it is told to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Whether it is.
    pub fn is_drained(&self) -> bool {
        *self.shutdown.borrow() > Urgency::None
    }

    /// Sends a request until it is answered, within the bounds of [`Patience`].
    ///
    /// # Errors
    /// A refusal, or what was borne long enough; or nothing more may be sent.
    pub async fn ask<T, F>(
        &self,
        operation: &'static str,
        need: Need<'_>,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        let mut patience = Patience::default();
        loop {
            let permit = self.unless_drained(self.limiter.permit(need)).await?;
            self.count(|requests| *requests.sent.entry(operation).or_default() += 1);
            let sent = Instant::now();
            let answer = request().await;
            permit.answered(need.key, Answered::of(&answer));
            self.stall.heard(sent, &answer);
            let error = match answer {
                Ok(answer) => {
                    self.readable.borrow_mut().insert(operation);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let verdict = retry::judge_look(&error);
            if matches!(
                verdict,
                Verdict::Again {
                    throttled_by: Some(_)
                }
            ) {
                self.count(|requests| requests.throttles += 1);
            }
            // Answers of one kind that never could be read are no trouble that passes.
            let is_unreadable =
                error.code == UNREADABLE_ANSWER && !self.readable.borrow().contains(operation);
            let stall = if is_unreadable {
                &self.never
            } else {
                &self.stall
            };
            let pause = patience.pause(stall, &error, sent).map_err(Stop::Store)?;
            self.count(|requests| requests.retries += 1);
            self.unless_drained(tokio::time::sleep(pause)).await?;
        }
    }

    fn count(&self, count: impl FnOnce(&mut Requests)) {
        count(&mut self.requests.borrow_mut());
    }

    async fn unless_drained<T>(&self, wait: impl Future<Output = T>) -> Result<T, Stop> {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            _ = shutdown::asked(&mut shutdown) => Err(Stop::Drained),
            done = wait => Ok(done),
        }
    }
}
