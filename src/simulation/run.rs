//! One runner, from its start to its end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{mpsc, watch};

use super::book;
use super::faults::chance;
use super::wire::By;
use super::world::World;
use crate::engine::{self, End, EngineError, Rows};
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::{Replay, StateError};
use crate::limiter::{Budgets, Limiter};
use crate::metrics::Metrics;
use crate::object::ManifestEntry;
use crate::outcome::{Tally, TaskOutcome};
use crate::shard::Shard;
use crate::shutdown::{Reason, Urgency};
use crate::stall::Stall;
use crate::summary::Collector;
use crate::task::{Canary, Context, Learnt, Notes, Right, Witness};

/// How long a runner that is asked to stop may go on with what is in flight.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// How a runner ended.
#[derive(Debug)]
pub enum Ended {
    /// Every row is settled.
    Complete,
    /// It died.
    Died,
    /// Another one has taken over.
    Replaced,
    /// It gave up, for what another runner may get over.
    GaveUp,
    /// It ended as no runner should here.
    Wrong(String),
}

/// Who is told.
struct Listeners {
    collector: Collector,
    metrics: Metrics,
}

/// Lives until it ends or dies.
pub async fn live(world: &Arc<World>, runner: u32, rows: &[ManifestEntry]) -> Ended {
    let crash_in = world.scenario.crashes.get(runner as usize).copied();
    let mut died = world.ledger().live(runner, crash_in);
    let ended = tokio::select! {
        biased;
        _ = died.wait_for(|dead| *dead) => Ended::Died,
        ended = run(world, runner, rows) => ended,
    };
    let mut ledger = world.ledger();
    ledger.trace(By::Runner(runner), &format!("has ended: {ended:?}"));
    if matches!(ended, Ended::Replaced) && ledger.replaced_for(runner).is_none() {
        ledger.wrong(By::Runner(runner), "nobody has replaced it".to_owned());
    }
    if matches!(ended, Ended::Complete) {
        ledger.completed.insert(runner);
    }
    drop(ledger);
    // Whatever is left of it does nothing any more.
    world.ledger().lives[&runner].dead.send_replace(true);
    ended
}

async fn run(world: &Arc<World>, runner: u32, rows: &[ManifestEntry]) -> Ended {
    let scenario = &world.scenario;
    let gave_up = |why: String| {
        let why = why
            .split(" (request id")
            .next()
            .unwrap_or_default()
            .to_owned();
        world
            .ledger()
            .trace(By::Runner(runner), &format!("gives up: {why}"));
        Ended::GaveUp
    };
    let (before, mut journal) = match book::open(world, runner).await {
        Ok(open) => open,
        Err(StateError::Replaced { .. }) => return Ended::Replaced,
        Err(error) => return gave_up(error.to_string()),
    };
    let listeners = RefCell::new(Listeners {
        collector: Collector::new(),
        metrics: Metrics::new(Shard::ONLY),
    });
    let emit = |event: Event<'_>| {
        listeners.borrow_mut().collector.on(&event);
        listeners.borrow_mut().metrics.on(&event);
        on(world, runner, &event);
    };
    emit(Event::Started {
        total: rows.len() as u64,
        before: &before.tally,
        doubtful: 0,
    });
    let s3 = world.store(By::Runner(runner));
    let facts = scenario.facts();
    let budgets = Budgets {
        writes: scenario.rate.and_then(std::num::NonZeroU32::new),
        ..Budgets::default()
    };
    let limiter = Limiter::new(&budgets, scenario.concurrency, 1);
    let (notes, noted) = Notes::channel(scenario.engine.tasks);
    let ctx = Context {
        s3: &s3,
        bucket: &facts,
        profile: &scenario.profile,
        settings: &scenario.settings,
        source_keys: &scenario.source_keys,
        limiter: &limiter,
        right: Right::ToLead(journal.leader()),
        stall: Stall::new(scenario.max_stall),
        emit: &emit,
        target: RefCell::new(scenario.asked_target(before.resolved_key.clone())),
        rng: RefCell::new(chance(scenario.seed, 100 + u64::from(runner))),
        witness: Witness::default(),
        learnt: Learnt::after(before.checkpoints.values().flatten()),
        draining: watch::Sender::new(false),
        notes,
        canary: Canary::new(scenario.canary, before.tally.succeeded_total()),
    };
    let (asks, shutdown) = watch::channel(Urgency::None);
    let drains = runner < scenario.drains;
    let patience = Duration::from_millis(
        chance(scenario.seed, 200 + u64::from(runner)).random_range(0..2_000),
    );
    let drain = async {
        if drains {
            tokio::time::sleep(patience).await;
            asks.send_replace(Urgency::Drain(Reason::Signal("SIGTERM")));
            tokio::time::sleep(DRAIN_TIME).await;
            asks.send_replace(Urgency::Now);
        }
        std::future::pending::<()>().await;
    };
    let engine = engine::run(
        &ctx,
        scenario.engine.clone(),
        fed(rows, &before),
        noted,
        &before,
        &mut journal,
        shutdown,
    );
    let end = tokio::select! {
        end = engine => end,
        () = drain => unreachable!("it never ends"),
    };
    // Whoever gives up what is in flight does not wait for the journal to tell it.
    let all_told = matches!(end, Ok(End::Complete | End::Fault(_)));
    let closed = journal.close().await;
    emit(Event::Finished {
        exit: Exit::Complete,
    });
    let ended = match end {
        Ok(End::Complete) => Ended::Complete,
        Ok(End::Interrupted) if drains => Ended::GaveUp,
        Ok(End::Fault(error)) => gave_up(error.to_string()),
        Err(EngineError::State(error)) if matches!(*error, StateError::Replaced { .. }) => {
            Ended::Replaced
        }
        Err(EngineError::State(error)) => gave_up(error.to_string()),
        // While the canary is out, an object that somebody else has put under the target meanwhile counts as one that came back wrong.
        Ok(End::CameBackWrong { key, what }) if world.ledger().meddled.contains(&key) => {
            gave_up(what)
        }
        other => Ended::Wrong(format!("{other:?}")),
    };
    let leads = world.ledger().replaced_for(runner).is_none();
    if closed.is_ok() && leads && all_told {
        let counts = listeners.borrow().collector.tally().clone();
        agree(
            world,
            runner,
            &world.book.look(|durable| durable.replay.clone()),
            &counts,
            &listeners.borrow().metrics.render(),
        );
    }
    ended
}

/// Feeds the rows that are not settled, a few at a time.
fn fed(rows: &[ManifestEntry], before: &Replay) -> Rows {
    let (sender, receiver) = mpsc::channel(1 + rows.len());
    let unsettled = rows
        .iter()
        .filter(|entry| !before.settled.contains(entry.row));
    let unsettled: Vec<_> = unsettled.cloned().collect();
    for batch in unsettled.chunks(3) {
        sender.try_send(Ok(batch.to_vec())).expect("there is room");
    }
    receiver
}

/// Takes note of what a runner tells, and holds it against what is on disk.
fn on(world: &World, runner: u32, event: &Event<'_>) {
    let who = By::Runner(runner);
    match event {
        Event::TaskStarted => world.ledger().tasks(runner, 1),
        Event::TaskEnded => world.ledger().tasks(runner, -1),
        Event::Settled { key, outcome } => {
            let row = world.row_of(key).expect("a key of the manifest");
            let on_disk = world
                .book
                .look(|durable| durable.outcomes.get(&row).cloned());
            let mut ledger = world.ledger();
            ledger.trace(who, &format!("{key} is settled: {}", without_ids(outcome)));
            if on_disk.as_ref() != Some(outcome) {
                ledger.wrong(
                    who,
                    format!("{key} is told as {outcome:?}, and on disk it is {on_disk:?}"),
                );
            }
        }
        Event::Draining { reason, .. } => world.ledger().trace(who, &format!("drains: {reason}")),
        _ => {}
    }
}

/// An outcome without what the store draws anew in each run.
fn without_ids(outcome: &TaskOutcome) -> String {
    match outcome {
        TaskOutcome::Failed(failure) => {
            let message = failure.message.split(" (request id").next();
            format!("{} {}", failure.code, message.unwrap_or_default())
        }
        other => format!("{other:?}"),
    }
}

/// Whether journal, summary and metrics say the same.
fn agree(world: &World, runner: u32, journal: &Replay, counts: &Tally, metrics: &str) {
    let mut ledger = world.ledger();
    let who = By::Runner(runner);
    if *counts != journal.tally {
        ledger.wrong(
            who,
            format!(
                "the summary has {counts:?}, the journal {:?}",
                journal.tally
            ),
        );
    }
    let rows = |outcome: &str| {
        let series = format!("reseal_rows_settled{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    for (outcome, count) in [
        ("succeeded", counts.succeeded_total()),
        ("skipped", counts.skipped_total()),
        ("failed", counts.failed_total()),
    ] {
        if rows(outcome) != Some(count as f64) {
            let shown: Vec<_> = metrics
                .lines()
                .filter(|line| line.contains("settled"))
                .collect();
            ledger.wrong(
                who,
                format!("{count} rows {outcome}, the metrics have {shown:?}"),
            );
        }
    }
}
