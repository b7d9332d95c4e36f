//! What happened in a simulated world, and what was wrong about it the moment it happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{Asked, By};
use crate::local_s3::in_process::Stored;

/// Events that are kept, and that a failure of many seeds shows.
const TRACE_MAX: usize = 10_000;
const SHOWN_MAX: usize = 120;

/// One runner, from its start to its end.
#[derive(Debug)]
pub struct Life {
    /// Told when it dies.
    pub dead: watch::Sender<bool>,
    /// Steps until then.
    crash_in: Option<u64>,
    /// Tasks in flight.
    pub tasks: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Writes of the last second.
    writes: VecDeque<Instant>,
}

/// What holds for every runner.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub tasks: usize,
    pub requests: usize,
    /// Writes in any second.
    pub writes: Option<usize>,
}

/// What is known of an upload that a runner has been told of.
#[derive(Clone, Debug)]
pub struct Begun {
    pub runner: u32,
    pub id: String,
}

pub struct Ledger {
    start: Instant,
    bounds: Bounds,
    trace: VecDeque<String>,
    pub wrongs: Vec<String>,
    /// Exchanges and writes of the journal, each with a before and an after.
    pub steps: u64,
    /// The step at which whoever takes it dies.
    pub crash_at: Option<u64>,
    pub lives: BTreeMap<u32, Life>,
    /// Who has written to the journal last, and since when that is so.
    leader: Option<(u32, Instant)>,
    /// The last batch that made somebody the leader.
    batches: u64,
    /// Requests that the store is at work on.
    pub at_work: usize,
    /// The versions of each key as last seen, newest first.
    pub keys: BTreeMap<String, Vec<Stored>>,
    /// What was put by others than runners, in its order; `None` is a delete marker, or the deletion.
    pub put: BTreeMap<String, Vec<Option<String>>>,
    /// SHA-256 of the bytes that belong to what was put.
    pub bytes: BTreeMap<String, [u8; 32]>,
    /// Keys that somebody else has written to after the beginning.
    pub meddled: BTreeSet<String>,
    /// Rewrites of each key since the last time that somebody else wrote to it.
    pub rewrites: BTreeMap<String, u32>,
    pub uploads: Vec<Begun>,
    /// Who has ended with every row settled.
    pub completed: BTreeSet<u32>,
}

impl Ledger {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            start: Instant::now(),
            bounds,
            trace: VecDeque::new(),
            wrongs: Vec::new(),
            steps: 0,
            crash_at: None,
            lives: BTreeMap::new(),
            leader: None,
            batches: 0,
            at_work: 0,
            keys: BTreeMap::new(),
            put: BTreeMap::new(),
            bytes: BTreeMap::new(),
            meddled: BTreeSet::new(),
            rewrites: BTreeMap::new(),
            uploads: Vec::new(),
            completed: BTreeSet::new(),
        }
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn trace(&mut self, who: By, what: &str) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let at = self.start.elapsed().as_secs_f64();
        self.trace
            .push_back(format!("{at:>12.3} {:>5} {who:?} {what}", self.steps));
    }

    /// What happened, one event a line: lately, or from the beginning.
    pub fn told(&self, all: bool) -> String {
        let skipped = if all {
            0
        } else {
            self.trace.len().saturating_sub(SHOWN_MAX)
        };
        let shown = self.trace.iter().skip(skipped).map(String::as_str);
        Vec::from_iter(shown).join("\n")
    }

    pub fn wrong(&mut self, who: By, what: String) {
        self.trace(who, &format!("WRONG: {what}"));
        self.wrongs.push(what);
    }

    /// Where a step may be the last of its runner: `false` where it is, or has been.
    pub fn step(&mut self, runner: u32, what: &str) -> bool {
        self.steps += 1;
        if *self.lives[&runner].dead.borrow() {
            return false;
        }
        self.trace(By::Runner(runner), what);
        let life = self.lives.get_mut(&runner).expect("it lives");
        life.crash_in = life.crash_in.map(|steps| steps.saturating_sub(1));
        if self.crash_at != Some(self.steps) && life.crash_in != Some(0) {
            return true;
        }
        life.dead.send_replace(true);
        self.crash_at = None;
        self.trace(By::Runner(runner), "dies");
        false
    }

    /// Holds a request against what its runner may send.
    pub fn sent(&mut self, runner: u32, asked: &Asked) {
        let bounds = self.bounds;
        let who = By::Runner(runner);
        let life = self.lives.get_mut(&runner).expect("it lives");
        life.requests += usize::from(asked.is_of_the_job());
        let requests = life.requests;
        let now = Instant::now();
        let mut writes = 0;
        if asked.writes() {
            life.writes.push_back(now);
            while life
                .writes
                .front()
                .is_some_and(|at| now - *at >= Duration::from_secs(1))
            {
                life.writes.pop_front();
            }
            writes = life.writes.len();
        }
        if requests > bounds.requests {
            self.wrong(who, format!("{requests} requests in flight"));
        }
        if let Some(most) = bounds.writes
            && writes > most
        {
            self.wrong(
                who,
                format!("{writes} writes in a second, at most {most} are allowed"),
            );
        }
    }

    /// Takes note of who has written to the journal.
    pub fn leads(&mut self, runner: u32) {
        if self.leader.is_none_or(|(leader, _)| leader != runner) {
            self.trace(By::Runner(runner), "leads");
            self.leader = Some((runner, Instant::now()));
        }
    }

    /// The same by a batch of that number. One that is there already, and is sent again, makes nobody the leader.
    pub fn leads_by_batch(&mut self, runner: u32, number: u64) {
        if number > self.batches {
            self.batches = number;
            self.leads(runner);
        }
    }

    /// How long somebody else leads in a runner's place.
    pub fn replaced_for(&self, runner: u32) -> Option<Duration> {
        let replaced = self.leader.filter(|(leader, _)| *leader != runner);
        replaced.map(|(_, since)| since.elapsed())
    }

    /// Counts a task that begins or ends.
    pub fn tasks(&mut self, runner: u32, by: isize) {
        let life = self.lives.get_mut(&runner).expect("it lives");
        life.tasks = life
            .tasks
            .checked_add_signed(by)
            .expect("none ends that has not begun");
        let tasks = life.tasks;
        if tasks > self.bounds.tasks {
            self.wrong(By::Runner(runner), format!("{tasks} tasks in flight"));
        }
    }

    /// Somebody lives, perhaps for so many steps.
    pub fn live(&mut self, runner: u32, crash_in: Option<u64>) -> watch::Receiver<bool> {
        let (dead, died) = watch::channel(false);
        let life = Life {
            dead,
            crash_in,
            tasks: 0,
            requests: 0,
            writes: VecDeque::new(),
        };
        self.lives.insert(runner, life);
        died
    }
}
