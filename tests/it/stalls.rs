//! Credentials that expire and stores that go away: waited for, and no row pays for it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::{Job, Run, Store, objects};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose log is read while it goes on.
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(job: &Job) -> Self {
        let mut child = job.command().spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, read) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("UTF-8");
                *read.lock().expect("nobody panicked") += &format!("{line}\n");
            }
        });
        Self { child, log, reader }
    }

    fn log(&self) -> String {
        self.log.lock().expect("nobody panicked").clone()
    }

    /// Waits until the log has a line with this, and gives it.
    fn wait_for(&self, phrase: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(phrase)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "no {phrase:?} in:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The value of a metric without labels.
    fn metric(&self, name: &str) -> String {
        let line = self.wait_for("metrics at http://");
        let (_, rest) = line.split_once("http://").expect("a URL");
        let mut endpoint =
            TcpStream::connect(rest.split('/').next().expect("an address")).expect("it listens");
        write!(endpoint, "GET /metrics HTTP/1.0\r\n\r\n").expect("asked");
        let mut text = String::new();
        endpoint.read_to_string(&mut text).expect("answered");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.expect("the metric").trim().to_owned()
    }

    fn finish(mut self) -> Run {
        let mut stdout = String::new();
        let mut piped = self.child.stdout.take().expect("piped");
        piped.read_to_string(&mut stdout).expect("UTF-8");
        let status = self.child.wait().expect("it ends");
        self.reader.join().expect("it ends");
        Run {
            status,
            stdout,
            stderr: self.log.lock().expect("nobody panicked").clone(),
        }
    }
}

fn wait_for_copies(store: &Store, count: usize) {
    let begun = Instant::now();
    while store.copies().len() < count {
        assert!(
            begun.elapsed() < PATIENCE,
            "{} copies",
            store.copies().len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn store_with(count: usize) -> (Store, Vec<String>) {
    let store = Store::start().await;
    let keys: Vec<_> = (0..count).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    (store, keys)
}

/// AWS's file of credentials with a session token.
fn profile(store: &Store, token: &str) -> String {
    let known = store.s3.credentials();
    format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {token}\n",
        known.access_key(),
        known.secret_key()
    )
}

#[tokio::test]
async fn a_token_that_expires_is_waited_for_until_its_file_has_another() {
    let (store, keys) = store_with(200).await;
    let arn = store.add_kms_key(None);
    let proxy = Proxy::start(store.s3.addr(), Weather::Fair);
    let file = "AWS_SHARED_CREDENTIALS_FILE";
    let job = store
        .job(&keys)
        .with_aws_file(file, &profile(&store, "one"))
        .args("--rate 200 --max-stall 60s --metrics-listen 127.0.0.1:0 --to sse-kms --kms-key-id")
        .args(&arn)
        .args("--endpoint-url")
        .args(&proxy.url());
    let running = Running::start(&job);
    wait_for_copies(&store, 40);
    proxy.expire("one");
    let line = running.wait_for("waiting: ");
    assert!(line.contains("the credentials are refused"), "{line}");
    assert!(line.contains("ExpiredToken"), "{line}");
    assert_eq!(running.metric("reseal_stalled"), "1");
    // Not before somebody has asked in vain.
    let refused = proxy.seen().faults[&Fault::Expired];
    let begun = Instant::now();
    while proxy.seen().faults[&Fault::Expired] < refused + 2 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(job.path(file), profile(&store, "two")).expect("rewritten");
    let run = running.finish().expect(0).says(&["going on after"]);
    assert_eq!((run.count("succeeded"), run.count("failed")), (200, 0));
    let summary = run.summary();
    assert!(summary["stalled_seconds"].as_f64() > Some(0.5), "{summary}");
    // Whatever was in flight was refused once, and few have asked after it.
    let refused = proxy.seen().faults[&Fault::Expired];
    assert!(refused < 256 + 100, "{refused}");
    assert!(store.copies().values().all(|count| *count == 1));

    // What never worked is told at once.
    proxy.expire("two");
    job.write_manifest("bucket,object/0\n");
    let begun = Instant::now();
    job.arg("--state", "other")
        .run()
        .expect(4)
        .says(&["ExpiredToken", "hint: renew the credentials"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_store_that_comes_back_finds_everybody_waiting() {
    let (store, keys) = store_with(200).await;
    let proxy = Proxy::start(store.s3.addr(), Weather::Fair);
    let job = store
        .job(&keys)
        .args("--rate 200 --to sse-kms --endpoint-url")
        .args(&proxy.url());
    let running = Running::start(&job);
    wait_for_copies(&store, 40);
    proxy.set_down(true);
    let line = running.wait_for("waiting: ");
    assert!(line.contains("the store can't be reached"), "{line}");
    proxy.set_down(false);
    let run = running.finish().expect(0).says(&["going on after"]);
    assert_eq!((run.count("succeeded"), run.count("failed")), (200, 0));
    let copies = store.copies();
    assert!(copies.values().all(|count| *count == 1), "{copies:?}");
}

#[tokio::test]
async fn a_store_that_stays_away_ends_the_run_and_no_row() {
    let (store, keys) = store_with(100).await;
    let proxy = Proxy::start(store.s3.addr(), Weather::Fair);
    let job = store
        .job(&keys)
        .args("--rate 100 --max-stall 1s --to sse-kms --endpoint-url")
        .args(&proxy.url());
    let running = Running::start(&job);
    wait_for_copies(&store, 20);
    proxy.set_down(true);
    let run = running.finish().expect(1).says(&[
        "the store can't be reached",
        "(waited 1.",
        "in vain)",
        "hint: the same command continues",
    ]);
    assert_eq!(run.count("failed"), 0);
    assert!(run.count("succeeded") < 100);
    proxy.set_down(false);
    // What was cut off may have happened.
    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded") + run.count("skipped"), 100);
}

#[tokio::test]
async fn credentials_that_name_their_end_are_fetched_again_before_it() {
    let (store, keys) = store_with(70).await;
    let known = store.s3.credentials();
    let job = store.job(&keys).args("--rate 10 --to sse-kms");
    let script = format!(
        "#!/bin/sh\necho called >> calls\nend=$(date -u -d '+8 seconds' +%Y-%m-%dT%H:%M:%SZ)\n\
         printf '{{\"Version\":1,\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\",\"Expiration\":\"%s\"}}' \"$end\"\n",
        known.access_key(),
        known.secret_key()
    );
    let script = job.write("who-am-i", script);
    let config = format!("[default]\ncredential_process = sh {}\n", script.display());
    let job = job.with_aws_file("AWS_CONFIG_FILE", &config);
    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded"), 70);
    assert_eq!(run.summary()["stalled_seconds"], 0.0);
    let calls = fs::read_to_string(job.path("calls")).expect("it was called");
    assert_eq!(calls.lines().count(), 2);
}
