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

use rand::RngExt as _;

use faults::chance;
use run::Ended;
use scenario::Scenario;
use world::World;

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

/// Runs what a seed stands for.
async fn simulate(seed: u64) -> Result<String, String> {
    let folder = folder();
    let world = World::new(folder.path(), |keys| Scenario::of(seed, keys)).await;
    let rows = world.rows().await;
    let mut ends = Vec::new();
    for runner in 0..RUNNERS_MAX {
        if runner < world.scenario.crashes {
            let within =
                chance(seed, 300 + u64::from(runner)).random_range(1..world.scenario.crash_within);
            let mut ledger = world.ledger();
            ledger.crash_at = Some(ledger.steps + within);
        } else {
            world.ledger().crash_at = None;
        }
        let ended = run::live(&world, runner, &rows).await;
        if !world.ledger().wrongs.is_empty() {
            break;
        }
        ends.push(format!("{ended:?}"));
        match ended {
            Ended::Complete => break,
            Ended::Died | Ended::Gave(_) => {}
            Ended::Wrong(how) => {
                world.ledger().wrong(wire::By::Judge, how);
                break;
            }
        }
    }
    world.quiesce().await;
    verdict::judge(&world).await;
    let ledger = world.ledger();
    if ledger.wrongs.is_empty() {
        return Ok(ledger.told());
    }
    Err(format!(
        "{}\n\n{:?}\n\n{}\n",
        ledger.told(),
        world.scenario,
        ledger.wrongs.join("\n")
    ))
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

fn seeds(default: u64) -> u64 {
    let asked = std::env::var("RESEAL_SIMULATION_SEEDS").ok();
    asked
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(default)
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..12 {
        let [first, second] = [0, 1].map(|_| in_its_own_time(|| simulate(seed)));
        assert_eq!(first, second);
    }
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let only = std::env::var("RESEAL_SIMULATION_SEED").ok();
    if let Some(seed) = only.and_then(|seed| seed.parse().ok()) {
        let told = in_its_own_time(|| simulate(seed));
        panic!("{}", told.unwrap_or_else(|why| why));
    }
    for seed in 0..seeds(30) {
        if let Err(why) = in_its_own_time(|| simulate(seed)) {
            panic!(
                "{why}\nseed {seed}; again: RESEAL_SIMULATION_SEED={seed} cargo test --lib simulation"
            );
        }
    }
}
