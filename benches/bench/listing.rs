//! How fast a bucket is listed by many at once, against one page after the other.

use std::error::Error;
use std::ffi::OsStr;

use super::number;
use super::run::{BUCKET, NullStore, binary, measured};

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
                let folder = tempfile::tempdir()?;
                let (binary, source) = (binary()?, format!("s3://{BUCKET}"));
                let (out, state) = (folder.path().join("out"), folder.path().join("state"));
                let command: [&OsStr; 15] = [
                    binary.as_os_str(),
                    "inventory".as_ref(),
                    source.as_ref(),
                    "--out".as_ref(),
                    out.as_os_str(),
                    "--state".as_ref(),
                    state.as_os_str(),
                    "--endpoint-url".as_ref(),
                    store.url.as_ref(),
                    "--path-style".as_ref(),
                    "--concurrency".as_ref(),
                    lanes.as_ref(),
                    "--progress".as_ref(),
                    "none".as_ref(),
                    "--output=json".as_ref(),
                ];
                let cost = measured(&command)?;
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
