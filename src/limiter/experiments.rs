//! Experiments: stores of many tempers, on tokio's paused clock. What each is like and what is expected of the limiter stands in a
//! file of its own under `experiments/`.

use std::cell::RefCell;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;
use tokio::time::sleep;

use super::*;

/// An experiment as its file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    /// What it shows.
    about: String,
    /// Requests that may be on the wire, and how many want to be.
    concurrency: usize,
    workers: usize,
    /// How long an answer takes, in milliseconds.
    latency_ms: f64,
    /// How much more or less an answer takes, as a share.
    #[serde(default = "a_tenth")]
    jitter: f64,
    /// What a bucket holds, in seconds of the capacity.
    #[serde(default = "a_twentieth")]
    depth: f64,
    /// What the store takes per second, from so many seconds on.
    capacity: Vec<(f64, f64)>,
    /// How it takes it.
    #[serde(default)]
    manner: Manner,
    /// Who says that it is too much.
    #[serde(default)]
    throttler: Who,
    /// Seconds of the experiment.
    seconds: f64,
    /// How long a refused worker waits before it asks again, in milliseconds.
    #[serde(default = "back_off")]
    back_off_ms: u64,
    /// When the store says that a refused one may come back, in milliseconds.
    #[serde(default)]
    retry_after_ms: Option<u64>,
    /// From when to when, and what is expected then.
    expect: Vec<Expectation>,
}

fn a_tenth() -> f64 {
    0.1
}

fn a_twentieth() -> f64 {
    0.05
}

fn back_off() -> u64 {
    200
}

/// How a store takes its capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Manner {
    /// A bucket.
    #[default]
    Bucket,
    /// A bucket that holds a whole second's.
    DeepBucket,
    /// So many in each second of the clock, as fast as they come.
    Window,
    /// It refuses nothing: requests queue.
    Queue,
    /// A bucket for keys under `hot/` alone; the others are never refused.
    HotPrefix,
    /// A bucket that refuses such a share of what it has room for, too.
    Random(f64),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    #[default]
    S3,
    Kms,
    Store,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    from: f64,
    to: f64,
    /// Requests that were taken, as a share of what the store would have taken.
    #[serde(default)]
    used: Option<(f64, f64)>,
    /// Requests that were taken, per second.
    #[serde(default)]
    per_second: Option<(f64, f64)>,
    /// Requests that were refused, as a share of all.
    #[serde(default)]
    refused_max: Option<f64>,
    /// What holds the job at the end of it.
    #[serde(default)]
    held_by: Option<String>,
    /// Requests on the wire at the end of it.
    #[serde(default)]
    in_flight: Option<(usize, usize)>,
}

struct Store {
    experiment: Experiment,
    begin: Instant,
    left: f64,
    at: f64,
    /// Of the present second of the clock.
    second: (u64, f64),
    /// When the queue is empty.
    queue_until: f64,
    rng: SmallRng,
    taken: Vec<(f64, bool)>,
    refused: Vec<f64>,
}

impl Store {
    fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    fn capacity(&self, at: f64) -> f64 {
        let steps = self.experiment.capacity.iter().rev();
        steps
            .clone()
            .find(|(from, _)| *from <= at)
            .map_or(0.0, |(_, rate)| *rate)
    }

    /// Whether it takes a request that comes now, and how long it takes to answer.
    fn ask(&mut self, is_hot: bool) -> (bool, Duration) {
        let now = self.now();
        let rate = self.capacity(now);
        let latency = self.experiment.latency_ms / 1_000.0
            * self
                .rng
                .random_range(1.0 - self.experiment.jitter..1.0 + self.experiment.jitter);
        let depth = match self.experiment.manner {
            Manner::DeepBucket => rate,
            _ => (rate * self.experiment.depth).max(1.0),
        };
        let mut took = latency;
        let is_unlucky = match self.experiment.manner {
            Manner::Random(share) => self.rng.random_bool(share),
            _ => false,
        };
        let is_taken = match self.experiment.manner {
            Manner::HotPrefix if !is_hot => true,
            Manner::Bucket | Manner::DeepBucket | Manner::HotPrefix | Manner::Random(_) => {
                self.left = (self.left + (now - self.at) * rate).min(depth);
                self.at = now;
                let is_enough = self.left >= 1.0;
                self.left -= if is_enough { 1.0 } else { 0.0 };
                is_enough && !is_unlucky
            }
            Manner::Window => {
                let second = now as u64;
                if self.second.0 != second {
                    self.second = (second, 0.0);
                }
                self.second.1 += 1.0;
                self.second.1 <= rate
            }
            Manner::Queue => {
                self.queue_until = self.queue_until.max(now) + 1.0 / rate;
                took += self.queue_until - now;
                true
            }
        };
        match is_taken {
            true => self.taken.push((now, is_hot)),
            false => self.refused.push(now),
        }
        (is_taken, Duration::from_secs_f64(took))
    }

    fn offered(&self, from: f64, to: f64) -> f64 {
        let mut at = from;
        let mut sum = 0.0;
        while at < to {
            sum += self.capacity(at) * 0.01;
            at += 0.01;
        }
        sum
    }
}

async fn run(experiment: Experiment) {
    let limiter = Limiter::new(&Budgets::default(), experiment.concurrency, 1);
    let (workers, back_off) = (experiment.workers, experiment.back_off_ms);
    let retry_after = experiment.retry_after_ms.map(Duration::from_millis);
    let back_off = experiment.retry_after_ms.unwrap_or(back_off);
    let by = match experiment.throttler {
        Who::S3 => Throttler::S3,
        Who::Kms => Throttler::Kms,
        Who::Store => Throttler::Store,
    };
    let end = Duration::from_secs_f64(experiment.seconds);
    let store = Rc::new(RefCell::new(Store {
        experiment,
        begin: Instant::now(),
        left: f64::MAX,
        at: 0.0,
        second: (0, 0.0),
        queue_until: 0.0,
        rng: SmallRng::seed_from_u64(1),
        taken: Vec::new(),
        refused: Vec::new(),
    }));
    let begin = Instant::now();
    let worker = |number: usize| {
        let (store, limiter) = (Rc::clone(&store), limiter.clone());
        async move {
            let is_hot = number.is_multiple_of(2);
            let key = if is_hot {
                "all/hot/k".to_owned()
            } else {
                format!("all/cold-{}/k", number % 16)
            };
            while begin.elapsed() < end {
                let units = Units {
                    kms: 1,
                    may_ask_kms: true,
                    ..Units::ONE
                };
                let permit = limiter
                    .permit(Need {
                        units,
                        ..Need::write(&key)
                    })
                    .await;
                let (is_taken, took) = store.borrow_mut().ask(is_hot);
                sleep(took).await;
                if is_taken {
                    permit.answered(&key, Answered::Taken);
                } else {
                    permit.answered(&key, Answered::TooMany(by, retry_after));
                    sleep(Duration::from_millis(back_off)).await;
                }
            }
        }
    };
    let looks = RefCell::new(Vec::new());
    let watch = async {
        while begin.elapsed() < end {
            sleep(Duration::from_secs(1)).await;
            let on_the_wire = limiter.0.state().in_flight.now();
            let Pressure {
                held_by,
                writes_per_second,
                ..
            } = limiter.pressure();
            let at = begin.elapsed().as_secs_f64();
            looks
                .borrow_mut()
                .push((at, held_by, on_the_wire, writes_per_second));
        }
    };
    tokio::join!(futures::future::join_all((0..workers).map(worker)), watch);
    let looks = looks.take();
    let store = store.borrow();
    for expected in &store.experiment.expect {
        judge(&store, expected, &looks);
    }
}

/// What was seen at a time: what holds the job, how many are on the wire, and the rate.
type Look = (f64, Option<Limit>, usize, f64);

/// The course of an experiment, for whoever has to find out what is wrong.
fn course(store: &Store, looks: &[Look]) -> String {
    let second = |(second, (_, held_by, wire, rate)): (usize, &Look)| {
        let within = |at: f64| at as usize == second;
        let taken = store.taken.iter().filter(|(at, _)| within(*at)).count();
        let refused = store.refused.iter().filter(|at| within(**at)).count();
        format!(
            "{second:4} s: {taken} taken, {refused} refused, rate {rate:.0}, {wire} on the wire, {held_by:?}\n"
        )
    };
    looks.iter().enumerate().map(second).collect()
}

fn judge(store: &Store, expected: &Expectation, looks: &[Look]) {
    let about = &store.experiment.about;
    let (from, to) = (expected.from, expected.to);
    let within = |at: f64| (from..to).contains(&at);
    let is_prefix = store.experiment.manner == Manner::HotPrefix;
    let taken = store
        .taken
        .iter()
        .filter(|(at, is_hot)| within(*at) && (*is_hot || !is_prefix))
        .count() as f64;
    let refused = store.refused.iter().filter(|at| within(**at)).count() as f64;
    let all = store.taken.iter().filter(|(at, _)| within(*at)).count() as f64;
    let used = taken / store.offered(from, to);
    let told = format!(
        "{about}, {from} to {to} s: {used:.3} used, {:.1}/s taken, {:.4} refused
{}",
        all / (to - from),
        refused / (all + refused),
        course(store, looks),
    );
    let between = |value: f64, bounds: Option<(f64, f64)>| {
        bounds.is_none_or(|(low, high)| (low..=high).contains(&value))
    };
    assert!(between(used, expected.used), "{told}");
    assert!(between(all / (to - from), expected.per_second), "{told}");
    assert!(
        expected
            .refused_max
            .is_none_or(|most| refused / (all + refused) <= most),
        "{told}"
    );
    let last = looks.iter().rfind(|(at, ..)| *at <= to + 0.1);
    let (_, held_by, in_flight, _) = last.expect("one look each second");
    if let Some(name) = &expected.held_by {
        assert_eq!(held_by.map(Limit::name), Some(name.as_str()), "{told}");
    }
    assert!(
        expected
            .in_flight
            .is_none_or(|(low, high)| (low..=high).contains(in_flight)),
        "{told}: {in_flight} on the wire"
    );
}

#[tokio::test(start_paused = true)]
async fn every_store_gets_what_it_takes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/limiter/experiments");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("a name").path())
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let text = std::fs::read_to_string(&name).expect("a file");
        let experiment = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        run(experiment).await;
    }
}
