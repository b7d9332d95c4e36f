//! What a journal costs in bytes, and how long a job with many settled rows takes to go on.
//!
//! ```text
//! RESEAL_BENCH_ROWS=100000000 cargo run --release --example bench -- resume
//! ```
//!
//! Writes a journal of so many rows (default 1,000,000) as 256 requests at once settle them, in a directory under `RESEAL_BENCH_DIR`
//! (default: the system's for temporary files). Then it is opened twice: as a run that resumes does, and once more without its
//! snapshot. Bytes are exact; times are of this machine and one run, so the ratio of the two is what counts.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reseal::journal::{PENDING_RECORDS_MAX, Record, Replay, StateRoot};
use reseal::outcome::{Method, TaskOutcome};
use reseal::shard::Shard;

const JOB: &str = "bench";
const IN_FLIGHT: u64 = 256;
const ROWS_DEFAULT: u64 = 1_000_000;

pub fn run() -> Result<(), Box<dyn Error>> {
    let rows = super::number("RESEAL_BENCH_ROWS", ROWS_DEFAULT)?;
    let parent =
        std::env::var_os("RESEAL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let root = StateRoot::dir(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let began = Instant::now();
        write(&root, rows).await?;
        let wrote = began.elapsed();
        let (resumed, with_snapshot) = open(&root).await?;
        std::fs::remove_file(dir.path().join("shard-0/snapshot"))?;
        let (replayed, without) = open(&root).await?;
        assert_eq!(resumed.settled, replayed.settled, "the snapshot is wrong");
        let bytes = resumed.mark.bytes;
        println!("rows settled              {rows}");
        println!(
            "journal                   {bytes} bytes, {:.2} for each row",
            bytes as f64 / rows as f64
        );
        println!("batches                   {}", resumed.mark.batches);
        println!("written in                {wrote:.1?}");
        println!("resumed from the snapshot {with_snapshot:.1?}");
        println!("resumed without it        {without:.1?}");
        Ok(())
    })
}

async fn write(root: &StateRoot, rows: u64) -> Result<(), Box<dyn Error>> {
    let state = root.take(Shard::ONLY).await?;
    let (_, mut journal) = state.journal(JOB, Duration::ZERO).await?;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut running: Vec<u64> = Vec::new();
    let mut next = 0;
    let mut durable = journal.durable();
    while next < rows || !running.is_empty() {
        while next < rows && (running.len() as u64) < IN_FLIGHT {
            if next % 8_192 == 0 {
                journal.append(&Record::Reserved {
                    up_to: next + 8_192,
                });
            }
            running.push(next);
            next += 1;
        }
        let row = running.swap_remove(rng.random_range(0..running.len()));
        let outcome = TaskOutcome::Succeeded {
            method: Method::Copy,
            bytes: 4_096 << rng.random_range(0..20),
        };
        let sequence = journal.append(&Record::Settled { row, outcome });
        if journal.pending() >= PENDING_RECORDS_MAX {
            durable
                .wait_for(|told| told.sequence >= sequence || told.failed.is_some())
                .await?;
        }
    }
    Ok(journal.close().await?)
}

async fn open(root: &StateRoot) -> Result<(Replay, Duration), Box<dyn Error>> {
    let began = Instant::now();
    let state = root.take(Shard::ONLY).await?;
    let (replay, journal) = state.journal(JOB, Duration::ZERO).await?;
    let elapsed = began.elapsed();
    journal.close().await?;
    Ok((replay, elapsed))
}
