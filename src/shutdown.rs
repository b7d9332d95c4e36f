//! Being asked to stop: by a signal, or because the time is up.
//!
//! What is asked becomes more urgent with time: what is in flight may end, then it is given up, then nothing is waited for any
//! more. A second signal is the same as the end of the time to drain. Each is a point in time from the first one on, so that the
//! whole way to the end of the process has one bound, whatever the process was doing.

use std::fmt;
use std::io;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::human;

/// How long the process may take to end, where nobody has said. Source: Kubernetes, `terminationGracePeriodSeconds`: after 30 s a
/// pod is killed.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(25);

/// What is kept back of that time for the last records of the journal.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// It is at most this part of the time.
const CLOSING_DIVISOR: u32 = 5;

/// Between two looks at the machine's clock while it is waited for a time of it: the clock may be set, and the machine may sleep.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// Signals that wait to be heard: the first two count.
const SIGNALS_MAX: usize = 2;

/// Why the process has been asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A signal, by its name.
    Signal(&'static str),
    /// The run has lasted as long as it may.
    MaxDuration,
    /// The time has come until which it may run.
    Until,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal(name) => name,
            Self::MaxDuration => "--max-duration is over",
            Self::Until => "the time of --until has come",
        })
    }
}

/// How urgently the process has been asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Not at all.
    None,
    /// Begin nothing more, let what is in flight finish.
    Drain(Reason),
    /// Give up what is in flight: the next run looks at it. The journal may still be closed.
    Now,
    /// Wait for nothing.
    Over,
}

/// Where everybody hears of it.
pub type Shutdown = watch::Receiver<Urgency>;

/// How long a run may go on, and how long it may take to end.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From being asked to stop to the end of the process.
    pub drain_timeout: Duration,
    /// From the start to being asked to stop.
    pub max_duration: Option<Duration>,
    /// When it is asked to stop, by the machine's clock.
    pub until: Option<Zoned>,
}

impl Limits {
    /// When a run that begins now ends by itself, in seconds since 1970.
    pub fn end(&self) -> Option<f64> {
        let now = Timestamp::now();
        let of_run = self.max_duration.and_then(|max| now.checked_add(max).ok());
        let on_clock = self.until.as_ref().map(Zoned::timestamp);
        let end = of_run.into_iter().chain(on_clock).min()?;
        Some(end.as_duration().as_secs_f64())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            max_duration: None,
            until: None,
        }
    }
}

/// Turns SIGTERM and SIGINT, and the end of the time that a run has, into [`Urgency`]. Must be called inside the runtime.
///
/// # Errors
/// The signal handlers could not be installed.
pub fn start(limits: Limits) -> io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (heard, signals) = mpsc::channel(SIGNALS_MAX);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if heard.send(name).await.is_err() {
                return;
            }
        }
    });
    tell_the_end(&limits);
    Ok(watch_over(limits, signals, Timestamp::now))
}

/// A shutdown that never comes.
pub fn never() -> Shutdown {
    let (sender, receiver) = watch::channel(Urgency::None);
    tokio::spawn(async move { sender.closed().await });
    receiver
}

/// Resolves when the process is asked to stop, in whatever way.
pub async fn asked(shutdown: &mut Shutdown) -> Urgency {
    reached(shutdown, |urgency| urgency > Urgency::None).await
}

/// Resolves when what is in flight is to be given up.
pub async fn given_up(shutdown: &mut Shutdown) {
    reached(shutdown, |urgency| urgency >= Urgency::Now).await;
}

/// Resolves when nothing is to be waited for any more.
pub async fn over(shutdown: &mut Shutdown) {
    reached(shutdown, |urgency| urgency >= Urgency::Over).await;
}

async fn reached(shutdown: &mut Shutdown, is_it: impl Fn(Urgency) -> bool) -> Urgency {
    match shutdown.wait_for(|urgency| is_it(*urgency)).await {
        Ok(urgency) => *urgency,
        // Who is gone can't ask for anything any more.
        Err(_) => std::future::pending().await,
    }
}

/// Says at the start until when the run goes on.
fn tell_the_end(limits: &Limits) {
    let now = Zoned::now();
    let end_of_run = limits.max_duration.and_then(|max| {
        let end = now.checked_add(max).ok()?;
        Some((end, Reason::MaxDuration))
    });
    let end_on_clock = limits.until.clone().map(|end| (end, Reason::Until));
    let ends = [end_of_run, end_on_clock].into_iter().flatten();
    if let Some((end, reason)) = ends.min_by_key(|(end, _)| end.timestamp()) {
        let left = Duration::try_from(now.duration_until(&end)).unwrap_or_default();
        tracing::info!(
            "rows are admitted until {} ({}), for {}; then what is in flight has {} to end",
            end.strftime("%Y-%m-%d %H:%M:%S %:z"),
            match reason {
                Reason::MaxDuration => "--max-duration",
                _ => "--until",
            },
            human::duration(left),
            human::duration(limits.drain_timeout),
        );
    }
}

/// Raises the urgency, from the first signal or the end of the time on. `clock` is the machine's.
fn watch_over(
    limits: Limits,
    mut signals: mpsc::Receiver<&'static str>,
    clock: impl Fn() -> Timestamp + Send + 'static,
) -> Shutdown {
    let (sender, receiver) = watch::channel(Urgency::None);
    tokio::spawn(async move {
        let closing = CLOSING_TIME.min(limits.drain_timeout / CLOSING_DIVISOR);
        let reason = tokio::select! {
            Some(signal) = signals.recv() => Reason::Signal(signal),
            reason = time_is_up(&limits, clock) => reason,
        };
        tracing::info!(
            "asked to stop ({reason}): what is in flight may end within {}",
            human::duration(limits.drain_timeout)
        );
        sender.send_replace(Urgency::Drain(reason));
        tokio::select! {
            Some(signal) = signals.recv() => tracing::info!("asked to stop at once ({signal})"),
            () = sleep(limits.drain_timeout - closing) => {}
        }
        sender.send_replace(Urgency::Now);
        sleep(closing).await;
        sender.send_replace(Urgency::Over);
        // Keeps the channel open: a closed one would read as an answer.
        sender.closed().await;
    });
    receiver
}

/// Resolves when the run has no more time. The clock is asked again and again: it may be set, and while the machine sleeps
/// no timer runs.
async fn time_is_up(limits: &Limits, clock: impl Fn() -> Timestamp) -> Reason {
    let begun = Instant::now();
    loop {
        let of_run = limits
            .max_duration
            .map(|max| (max.saturating_sub(begun.elapsed()), Reason::MaxDuration));
        let on_clock = limits.until.as_ref().map(|end| {
            let left = clock().duration_until(end.timestamp());
            // What is negative is over.
            (Duration::try_from(left).unwrap_or_default(), Reason::Until)
        });
        match of_run.into_iter().chain(on_clock).min() {
            None => std::future::pending().await,
            Some((Duration::ZERO, reason)) => return reason,
            Some((left, _)) => sleep(left.min(CLOCK_INTERVAL)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// When each urgency was reached, counted from now on.
    async fn times(mut shutdown: Shutdown) -> Vec<(Urgency, Duration)> {
        let begun = Instant::now();
        let mut told = Vec::new();
        while shutdown.changed().await.is_ok() {
            let urgency = *shutdown.borrow_and_update();
            told.push((urgency, begun.elapsed()));
            if urgency == Urgency::Over {
                break;
            }
        }
        told
    }

    /// Rounds away what timers are late.
    fn whole(told: Vec<(Urgency, Duration)>) -> Vec<(Urgency, u64)> {
        let round = |time: Duration| (time.as_secs_f64() * 10.0).round() as u64 * 100;
        told.into_iter().map(|(u, time)| (u, round(time))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn from_the_first_signal_on_everything_has_its_time() {
        for (drain_timeout, given_up) in [(25_000, 23_000), (5_000, 4_000), (0, 0)] {
            let (signal, signals) = mpsc::channel(2);
            let limits = Limits {
                drain_timeout: Duration::from_millis(drain_timeout),
                max_duration: Some(HOUR),
                until: None,
            };
            let shutdown = watch_over(limits, signals, Timestamp::now);
            sleep(seconds(60)).await;
            signal.send("SIGTERM").await.expect("heard");
            let told = whole(times(shutdown).await);
            let expected = [
                (Urgency::Drain(Reason::Signal("SIGTERM")), 0),
                (Urgency::Now, given_up),
                (Urgency::Over, drain_timeout),
            ];
            // Without any time, nobody sees what is between.
            assert!(expected.ends_with(&told), "{told:?}");
            assert!(drain_timeout == 0 || told.len() == 3, "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_waiting_and_leaves_the_time_to_close() {
        let (signal, signals) = mpsc::channel(2);
        let shutdown = watch_over(Limits::default(), signals, Timestamp::now);
        tokio::spawn(async move {
            signal.send("SIGINT").await.expect("heard");
            sleep(seconds(3)).await;
            signal.send("SIGTERM").await.expect("heard");
            signal.closed().await;
        });
        let expected = [
            (Urgency::Drain(Reason::Signal("SIGINT")), 0),
            (Urgency::Now, 3_000),
            (Urgency::Over, 5_000),
        ];
        assert_eq!(whole(times(shutdown).await), expected);
    }

    /// A clock that follows tokio's, and can be set.
    fn settable_clock() -> (Arc<AtomicI64>, impl Fn() -> Timestamp + Send + 'static) {
        let set_by = Arc::new(AtomicI64::new(0));
        let (begun, of_clock) = (Instant::now(), Arc::clone(&set_by));
        let clock = move || {
            let since = i64::try_from(begun.elapsed().as_millis()).expect("small");
            let at = since + of_clock.load(Ordering::SeqCst);
            Timestamp::from_millisecond(at).expect("in range")
        };
        (set_by, clock)
    }

    /// Limits of a run that begins at the beginning of Unix time.
    fn until(after: Duration, max_duration: Option<Duration>) -> Limits {
        let at = Timestamp::UNIX_EPOCH + after;
        Limits {
            max_duration,
            until: Some(at.to_zoned(jiff::tz::TimeZone::UTC)),
            ..Limits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_ends_counts() {
        for (until_after, max, reason, expected) in [
            (2 * HOUR, Some(HOUR), Reason::MaxDuration, HOUR),
            (HOUR, Some(2 * HOUR), Reason::Until, HOUR),
            (HOUR, None, Reason::Until, HOUR),
        ] {
            let (_signal, signals) = mpsc::channel(1);
            let (_, clock) = settable_clock();
            let begun = Instant::now();
            let mut shutdown = watch_over(until(until_after, max), signals, clock);
            assert_eq!(asked(&mut shutdown).await, Urgency::Drain(reason));
            let late = begun.elapsed() - expected;
            assert!(late < seconds(1), "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_followed_and_does_not_change_how_long_a_run_lasts() {
        let (_signal, signals) = mpsc::channel(1);
        let (set_by, clock) = settable_clock();
        let mut shutdown = watch_over(until(8 * HOUR, None), signals, clock);
        sleep(seconds(100)).await;
        // As after a night with the lid closed.
        set_by.store(9 * 3_600_000, Ordering::SeqCst);
        let woken = Instant::now();
        assert_eq!(asked(&mut shutdown).await, Urgency::Drain(Reason::Until));
        assert!(woken.elapsed() <= CLOCK_INTERVAL);

        let (_signal, signals) = mpsc::channel(1);
        let (set_by, clock) = settable_clock();
        let begun = Instant::now();
        let mut shutdown = watch_over(until(8 * HOUR, Some(HOUR)), signals, clock);
        set_by.store(-9 * 3_600_000, Ordering::SeqCst);
        let urgency = asked(&mut shutdown).await;
        assert_eq!(urgency, Urgency::Drain(Reason::MaxDuration));
        assert!(begun.elapsed() < HOUR + seconds(1));
    }
}
