//! How fast a bucket is listed by many at once, against one page after the other.

use std::error::Error;
use std::ffi::OsStr;

use super::number;
use super::run::{BUCKET, Cost, NullStore, binary, measured};

pub fn run() -> Result<(), Box<dyn Error>> {
    let objects = number("RESEAL_BENCH_ROWS", 1_000_000)?;
    println!("{objects} keys, a page of 1,000 at a time");
    for latency in [0, 20] {
        for shape in ["flat", "spread"] {
            let mut alone = None;
            // One lists page after page.
            for lanes in ["1", "16", "64"] {
                let behaviour = format!("latency={latency},objects={objects},listing={shape}");
                let store = NullStore::start(&behaviour)?;
                let cost = inventory(&store.url, Some(lanes))?;
                let requests = store.counts()?.others;
                let first = *alone.get_or_insert(cost.wall);
                println!(
                    "{shape:<6} {latency:>3} ms {lanes:>2} at a time: {requests:>5} requests, {:>6.2} s ({:.1} times as fast), {:.2} s of CPU, {:.0} MiB",
                    cost.wall,
                    first / cost.wall,
                    cost.cpu,
                    cost.mebibytes()
                );
            }
        }
    }
    Ok(())
}

/// Runs `reseal inventory` over the bucket of a store, into a folder that is removed.
pub fn inventory(url: &str, concurrency: Option<&str>) -> Result<Cost, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (binary, source) = (binary()?, format!("s3://{BUCKET}"));
    let (out, state) = (folder.path().join("out"), folder.path().join("state"));
    let mut command: Vec<&OsStr> = vec![binary.as_os_str(), "inventory".as_ref(), source.as_ref()];
    command.extend(["--out".as_ref(), out.as_os_str()]);
    command.extend(["--state".as_ref(), state.as_os_str()]);
    command.extend(["--endpoint-url", url, "--path-style"].map(OsStr::new));
    command.extend(["--progress", "none", "--output=json"].map(OsStr::new));
    if let Some(concurrency) = concurrency {
        command.extend(["--concurrency", concurrency].map(OsStr::new));
    }
    measured(&command)
}
