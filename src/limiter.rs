//! The budgets: what may be sent, and when.
//!
//! One admission point: whoever wants to write queues at a fair lock, and only the head of the queue asks governor's cell
//! and sleeps until the instant that it names. Were every task to wait for itself, all of them would wake for each permit,
//! and all but one in vain.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The share of a second's budget that may go out at once, as a divisor: the burst adds at most that much to the first second, and
/// makes up for timers that wake late.
const BURST_DIVISOR: u32 = 200;
/// The smallest burst: with one, each late timer would be lost for good.
const BURST_MIN: u32 = 2;
/// From so much time between two writes on, the burst is one: a timer that is late by a millisecond is nothing to that, and a burst
/// for each of a thousand shards would be a crowd.
const NO_BURST_PERIOD: Duration = Duration::from_millis(100);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The budgets of one shard of a job.
#[derive(Debug)]
pub struct Limiter {
    writes: Option<Mutex<Cell>>,
}

type Cell = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>;

impl Limiter {
    /// `writes_per_second`: requests that change objects, retries among them, of all shards together; `None` is no limit. Each of
    /// `shards` has the same part of it, which may be less than one write per second.
    pub fn new(writes_per_second: Option<NonZeroU32>, shards: u32) -> Self {
        let cell = writes_per_second.map(|rate| {
            Mutex::new(RateLimiter::direct_with_clock(
                quota(rate, shards.max(1)),
                TokioClock(Instant::now()),
            ))
        });
        Self { writes: cell }
    }

    /// Waits until one more write is within the budget. First come, first served.
    ///
    /// `may` is asked in one's turn and right before the permit is given: what it waits for, others wait for too, so that permits don't
    /// pile up in the hands of those who may not use them yet.
    ///
    /// # Errors
    /// What `may` says; then there is no permit.
    pub async fn write<E>(&self, may: impl AsyncFn() -> Result<(), E>) -> Result<(), E> {
        let Some(cell) = &self.writes else {
            return may().await;
        };
        let cell = cell.lock().await;
        loop {
            may().await?;
            let Err(not_until) = cell.check() else {
                return Ok(());
            };
            let wait = not_until.wait_time_from(cell.clock().now());
            tokio::time::sleep(wait).await;
        }
    }
}

/// A shard's part of a rate.
fn quota(rate: NonZeroU32, shards: u32) -> Quota {
    let (rate, shards) = (u64::from(rate.get()), u64::from(shards));
    // Rounded up, so that all of them together are never above it.
    let period = Duration::from_nanos((NANOS_PER_SECOND * shards).div_ceil(rate));
    let burst = if period >= NO_BURST_PERIOD {
        1
    } else {
        u32::try_from(rate / shards / u64::from(BURST_DIVISOR))
            .unwrap_or(u32::MAX)
            .max(BURST_MIN)
    };
    Quota::with_period(period)
        .expect("longer than nothing")
        .allow_burst(NonZeroU32::new(burst).expect("at least one"))
}

/// Tokio's clock, so that tests can pause it.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::rc::Rc;

    use super::*;

    async fn anybody() -> Result<(), Infallible> {
        Ok(())
    }

    /// Permits in each second of `seconds`, with so many tasks asking at once.
    async fn permits(rate: u32, shards: u32, tasks: usize, seconds: u64) -> Vec<u32> {
        let limiter = Rc::new(Limiter::new(NonZeroU32::new(rate), shards));
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let counts = Rc::new(std::cell::RefCell::new(vec![0_u32; seconds as usize]));
        let task = || {
            let (limiter, counts) = (Rc::clone(&limiter), Rc::clone(&counts));
            async move {
                loop {
                    limiter.write(anybody).await.expect("it can't fail");
                    if Instant::now() >= end {
                        return;
                    }
                    counts.borrow_mut()[start.elapsed().as_secs() as usize] += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        futures::future::join_all((0..tasks).map(|_| task())).await;
        counts.take()
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_is_above_the_rate_and_none_is_wasted() {
        for rate in [10, 100, 1_000, 3_500] {
            let burst = (rate / BURST_DIVISOR).max(BURST_MIN);
            for (second, count) in permits(rate, 1, 256, 5).await.into_iter().enumerate() {
                assert!(count <= rate + burst, "{rate}/s, second {second}: {count}");
                assert!(count + burst >= rate, "{rate}/s, second {second}: {count}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shards_share_a_rate_to_the_last_write() {
        for (rate, shards, seconds) in [(10, 4, 60), (1, 3, 60), (1_000, 7, 5), (3, 1_000, 1_000)] {
            let of_one: u32 = permits(rate, shards, 8, seconds).await.iter().sum();
            let all = u64::from(of_one) * u64::from(shards);
            let budget = u64::from(rate) * seconds;
            let bursts = u64::from(shards * BURST_MIN);
            assert!(all <= budget + bursts, "{rate}/s on {shards}: {all}");
            assert!(all + bursts >= budget, "{rate}/s on {shards}: {all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_not_given_ahead_of_what_they_wait_for() {
        let (limiter, begin) = (Limiter::new(NonZeroU32::new(5), 1), Instant::now());
        let later = begin + Duration::from_secs(60);
        let wait = async || {
            tokio::time::sleep_until(later).await;
            Ok::<_, Infallible>(())
        };
        let write = async || {
            limiter.write(wait).await.expect("it can't fail");
            begin.elapsed()
        };
        let sent = futures::future::join_all((0..20).map(|_| write())).await;
        let in_a_second = sent.iter().filter(|at| at.as_secs() == 60).count();
        assert!(in_a_second <= 7, "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let before = Instant::now();
        let limiter = Limiter::new(None, 1);
        for _ in 0..10_000 {
            limiter.write(anybody).await.expect("it can't fail");
        }
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
