//! The simulation: engine, limiter, journal and tasks, run against the embedded S3 under one seed, with everything between them that
//! can go wrong.

mod book;
mod faults;
mod ledger;
mod run;
mod scenario;
mod verdict;
mod wire;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use book::Kind;
use run::Ended;
use scenario::Scenario;
use wire::By;
use world::World;

use crate::object::ManifestEntry;

/// Seeds of the short form.
const SEEDS_DEFAULT: u64 = 30;

/// Most runners of one job.
const RUNNERS_MAX: u32 = 60;

/// A folder in memory, where there is one: syncs cost nothing there.
fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).expect("a folder")
    } else {
        tempfile::tempdir().expect("a folder")
    }
}

/// Between two runners, where the first has given up: as Kubernetes does it at first.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// Has runners work at the job until it is complete, and holds everything against everything. What is told is the end of the story.
async fn play(world: &Arc<World>) -> Result<String, String> {
    let rows = world.rows().await;
    let mut runner = 0;
    let mut ended = match world.scenario.rival_after {
        Some(after) => {
            runner += 1;
            rivals(world, &rows, after).await
        }
        None => run::live(world, runner, &rows).await,
    };
    loop {
        match ended {
            Ended::Complete => break,
            Ended::Wrong(how) => world.ledger().wrong(By::Judge, how),
            Ended::GaveUp => tokio::time::sleep(RESTART_AFTER).await,
            Ended::Died | Ended::Replaced => {}
        }
        world.meanwhile().await;
        runner += 1;
        if runner == RUNNERS_MAX {
            world
                .ledger()
                .wrong(By::Judge, format!("{runner} runners were not enough"));
        }
        if !world.ledger().wrongs.is_empty() {
            break;
        }
        ended = run::live(world, runner, &rows).await;
    }
    world.quiesce().await;
    verdict::judge(world).await;
    let ledger = world.ledger();
    if ledger.wrongs.is_empty() {
        return Ok(ledger.told(only_seed().is_some()));
    }
    Err(format!(
        "{}\n\n{:#?}\n\n{}\n",
        ledger.told(only_seed().is_some()),
        world.scenario,
        ledger.wrongs.join("\n")
    ))
}

/// Two runners on one state. Whichever ends first, the other goes on until it finds out.
async fn rivals(world: &Arc<World>, rows: &[ManifestEntry], after: Duration) -> Ended {
    let second = async {
        tokio::time::sleep(after).await;
        run::live(world, 1, rows).await
    };
    let ends = tokio::join!(run::live(world, 0, rows), second);
    match ends {
        (Ended::Wrong(how), _) | (_, Ended::Wrong(how)) => Ended::Wrong(how),
        (Ended::Complete, _) | (_, Ended::Complete) => Ended::Complete,
        (_, second) => second,
    }
}

/// Runs what a seed stands for.
async fn simulate(seed: u64) -> Result<String, String> {
    let folder = folder();
    let world = World::new(folder.path(), |keys| Scenario::of(seed, keys)).await;
    play(&world).await
}

/// Runs a job with everything in it, with one runner that dies at a step. How many steps there were.
async fn die_at(step: u64, state: Kind) -> Result<u64, String> {
    let folder = folder();
    let world = World::new(folder.path(), |keys| Scenario::of_everything(keys, state)).await;
    world.ledger().crash_at = Some(step);
    play(&world).await?;
    Ok(world.ledger().steps)
}

/// The stack of a simulation, in bytes: client and server are called from each other, and futures are large in a debug build.
const STACK_BYTES: usize = 64 << 20;

/// Runs something with a clock of its own, on one thread.
fn in_its_own_time<F, T>(what: impl FnOnce() -> F + Send) -> T
where
    F: Future<Output = T>,
    T: Send,
{
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(what())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, run).expect("a thread");
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// How many seeds are asked for: the long form.
fn seeds() -> Option<u64> {
    std::env::var("RESEAL_SIMULATION_SEEDS").ok()?.parse().ok()
}

/// The one seed that is asked for, with all that happens.
fn only_seed() -> Option<u64> {
    std::env::var("RESEAL_SIMULATION_SEED").ok()?.parse().ok()
}

fn lines(told: &Result<String, String>) -> impl Iterator<Item = &str> {
    told.as_ref().unwrap_or_else(|why| why).lines()
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..12 {
        let [first, second] = [0, 1].map(|_| in_its_own_time(|| simulate(seed)));
        for (first, second) in lines(&first).zip(lines(&second)) {
            assert_eq!(first, second, "seed {seed}");
        }
    }
}

#[test]
fn nothing_is_lost_wherever_a_runner_dies() {
    let is_long = seeds().is_some();
    for state in [Kind::Directory, Kind::Shared, Kind::S3] {
        let steps = in_its_own_time(|| die_at(u64::MAX, state)).expect("nobody dies");
        assert!(steps > 40, "{steps}");
        for step in 1..=steps {
            // In the short form each step has its turn for one of them.
            if !is_long && step % 3 != state as u64 {
                continue;
            }
            if let Err(why) = in_its_own_time(|| die_at(step, state)) {
                panic!("{why}\na runner died at step {step} of {steps}, state: {state:?}");
            }
        }
    }
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    if let Some(seed) = only_seed() {
        let told = in_its_own_time(|| simulate(seed));
        panic!("{}", told.unwrap_or_else(|why| why));
    }
    for seed in 0..seeds().unwrap_or(SEEDS_DEFAULT) {
        if let Err(why) = in_its_own_time(|| simulate(seed)) {
            panic!(
                "{why}\nseed {seed}; again: RESEAL_SIMULATION_SEED={seed} cargo test --lib simulation"
            );
        }
    }
}
