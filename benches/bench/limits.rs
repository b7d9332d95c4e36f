//! What is used below a limit, and whether it is kept: the store's, and one's own.

use std::cell::Cell;
use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use reseal::limiter::{Answered, Budgets, Limiter, Need};

use super::number;
use super::run::{self, Manifest, NullStore, Rows};

/// Peak memory with a manifest of few rows and of many.
pub fn memory() -> Result<(), Box<dyn Error>> {
    let many = number("RESEAL_BENCH_MANY", 500_000)?;
    for objects in [10_000, many] {
        let manifest = Manifest::write(Rows::Full, objects)?;
        let store = NullStore::start("")?;
        let cost = run::reseal(&manifest, &store.url, &[])?;
        println!(
            "{objects:>9} rows, 256 in flight: {:5.1} MiB at most",
            cost.mebibytes()
        );
    }
    Ok(())
}

/// Objects per second where every answer takes its time, as a share of what 256 requests on the wire can be.
pub fn latency() -> Result<(), Box<dyn Error>> {
    for (milliseconds, objects) in [(20, 100_000), (100, 30_000)] {
        let manifest = Manifest::write(Rows::Full, objects)?;
        let store = NullStore::start(&format!("latency={milliseconds}"))?;
        run::reseal(&manifest, &store.url, &[])?;
        let counts = store.counts()?;
        let rate = counts.copies as f64 / counts.seconds;
        let most = 256.0 / (f64::from(milliseconds) / 1_000.0);
        println!(
            "{milliseconds:>3} ms: {rate:6.0} objects/s, {:.3} of what 256 on the wire can be",
            rate / most
        );
    }
    Ok(())
}

/// A store that takes 1,000 requests a second, and one that takes fewer for a while.
pub fn capacity() -> Result<(), Box<dyn Error>> {
    for (behaviour, objects) in [
        ("latency=1,capacity=0:1000", 20_000),
        ("latency=20,capacity=0:1000", 20_000),
        ("latency=20,capacity=0:1000;10:300;20:1000", 24_000),
    ] {
        let manifest = Manifest::write(Rows::Full, objects)?;
        let store = NullStore::start(behaviour)?;
        run::reseal(&manifest, &store.url, &[])?;
        let counts = store.counts()?;
        let refused = counts.throttled as f64 / (counts.throttled + counts.copies) as f64;
        println!(
            "{behaviour}: {:5.1} s, {:.1} % refused, {} twice; by second {:?}",
            counts.seconds,
            refused * 100.0,
            counts.keys_twice,
            counts.by_second
        );
    }
    Ok(())
}

/// Whether a rate that was set is the rate that there is.
pub fn rate() -> Result<(), Box<dyn Error>> {
    for (rate, seconds) in [(3_500, 30), (500, 20), (50, 20)] {
        let manifest = Manifest::write(Rows::Full, rate * seconds)?;
        let store = NullStore::start("latency=5")?;
        run::reseal(&manifest, &store.url, &["--rate", &rate.to_string()])?;
        let counts = store.counts()?;
        // The last second is not a whole one, and the first begins with the first request.
        let whole = &counts.by_second[..counts.by_second.len().saturating_sub(1)];
        let most = whole.iter().max().copied().unwrap_or(0);
        println!(
            "--rate {rate}: {:.1}/s over {:.1} s, {most} in the worst second",
            counts.copies as f64 / counts.seconds,
            counts.seconds
        );
    }
    Ok(())
}

/// A store that fails in six ways.
pub fn faults() -> Result<(), Box<dyn Error>> {
    let objects = number("RESEAL_BENCH_OBJECTS", 20_000)?;
    let manifest = Manifest::write(Rows::Full, objects)?;
    let store = NullStore::start("faults=0.02,silence=0.002")?;
    let cost = run::reseal(&manifest, &store.url, &[])?;
    let counts = store.counts()?;
    println!(
        "{objects} objects, 2 % each of 500, 503, cut after applied, error in a 200, empty 200, 0.2 % never answered: {} done, {} twice, {:.0} s",
        counts.keys, counts.keys_twice, cost.wall
    );
    Ok(())
}

/// CPU time of a permit, with 256 who wait for one.
pub fn permit() -> Result<(), Box<dyn Error>> {
    const SECONDS: u64 = 4;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let budgets = Budgets {
            writes: NonZeroU32::new(3_500),
            ..Budgets::default()
        };
        let limiter = Limiter::new(&budgets, 512, 1);
        let given = Cell::new(0_u64);
        let worker = async || {
            loop {
                limiter
                    .permit(Need::write("key"))
                    .await
                    .answered("key", Answered::Taken);
                given.set(given.get() + 1);
            }
        };
        let before = cpu()?;
        let all = futures::future::join_all((0..256).map(|_| worker()));
        // They never end.
        let _ = tokio::time::timeout(Duration::from_secs(SECONDS), all).await;
        println!(
            "{:.2} µs of CPU a permit at 3,500/s, {:.0}/s given",
            (cpu()? - before) * 1e6 / given.get() as f64,
            given.get() as f64 / SECONDS as f64
        );
        Ok(())
    })
}

fn cpu() -> Result<f64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}
