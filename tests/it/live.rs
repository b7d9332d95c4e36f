//! What reaches into a run: the operator, and what comes first.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Job, Run, Store, finish, objects, send};

/// How long something is waited for that has to come.
const SOON: Duration = Duration::from_secs(20);
/// How long it is looked that nothing comes: requests would, within milliseconds.
const A_WHILE: Duration = Duration::from_millis(700);

/// Waits until it is so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

async fn job(objects: usize) -> (Store, Job) {
    let store = Store::start().await;
    let keys: Vec<_> = (0..objects).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let arn = store.add_kms_key(None);
    let job = store
        .job(&keys)
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    (store, job)
}

fn reseal(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    Run::of(command.args(args).output().expect("it runs"))
}

/// Tells a run something, and returns its answer.
#[track_caller]
fn control(job: &Job, what: &str) -> Value {
    let state = job.state();
    let state = state.to_str().expect("UTF-8");
    let run = reseal(&["control", "--state", state, "--output", "json", what]).expect(0);
    serde_json::from_str(&run.stdout).expect("JSON")
}

fn copies(store: &Store) -> u64 {
    store.copies().values().sum()
}

#[tokio::test]
async fn a_run_is_paused_slowed_and_continued() {
    let (store, job) = job(150).await;
    let job = job.args("--rate 20 --progress log");
    let child = job.command().spawn().expect("it starts");
    until("the first copies", || copies(&store) > 3);
    let answer = control(&job, "pause");
    assert_eq!(answer["on_hold"]["paused"], "paused by reseal control");
    assert_eq!(
        (answer["rate"].as_f64(), answer["total"].as_u64()),
        (Some(20.0), Some(150))
    );
    // What was on the wire ends.
    thread::sleep(A_WHILE);
    let before = copies(&store);
    thread::sleep(A_WHILE);
    assert_eq!(copies(&store), before, "nothing is sent");
    until("it to be said", || {
        control(&job, "status")["limited_by"] == "paused"
    });

    assert_eq!(control(&job, "concurrency=3")["rate"], 20.0);
    assert_eq!(control(&job, "rate=none")["rate"], Value::Null);
    let begun = Instant::now();
    assert_eq!(control(&job, "resume")["on_hold"], serde_json::json!({}));
    let run = finish(child).expect(0);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "20/s would take longer"
    );
    let run = run.says(&[
        "on hold (paused): paused by reseal control",
        "limited by paused",
        "no more on hold (paused)",
        "told to rate=none",
    ]);
    assert_eq!(run.count("succeeded"), 150);
    assert!(store.copies().values().all(|copies| *copies == 1));

    let state = job.state();
    let over = reseal(&[
        "control",
        "--state",
        state.to_str().expect("UTF-8"),
        "pause",
    ]);
    over.expect(2).says(&["no run listens there", "hint: "]);
}

#[tokio::test]
async fn a_shard_that_was_killed_keeps_nobody_from_the_others() {
    let (_store, job) = job(20).await;
    let file = job.write("busy", "");
    let job = job
        .arg("--throttle-file", &file)
        .args("--shards 2 --shard 1");
    let child = job.command().spawn().expect("it starts");
    let state = job.state();
    until("it to listen", || {
        state.join("shard-1/control.sock").exists()
    });
    let dead = state.join("shard-0");
    std::fs::create_dir_all(&dead).expect("a folder");
    drop(UnixListener::bind(dead.join("control.sock")).expect("a socket"));
    let state = state.to_str().expect("UTF-8");
    let told = reseal(&["control", "--state", state, "status"]);
    let told = told.expect(1).says(&["nobody listens", "hint: "]);
    assert!(told.stdout.starts_with("shard 1: 0 of "), "{}", told.stdout);
    std::fs::remove_file(&file).expect("it was there");
    finish(child).expect(0);
}

#[test]
fn what_can_not_be_told_is_said() {
    for (args, phrase) in [
        (vec!["control", "pause"], "--state"),
        (
            vec!["control", "--state", ".", "stop"],
            "none of pause, resume",
        ),
        (vec!["control", "--state", ".", "rate=0"], "at least 1"),
        (vec!["control", "--state", "/nowhere", "pause"], "/nowhere"),
        (
            vec!["control", "--control-socket", "/nowhere", "pause"],
            "nobody listens",
        ),
    ] {
        let run = reseal(&args);
        let code = if phrase == "nobody listens" { 1 } else { 2 };
        run.expect(code).says(&[phrase]);
    }
}

#[tokio::test]
async fn while_a_file_is_there_nothing_is_sent() {
    let (store, job) = job(20).await;
    let file = job.write("busy", "");
    let job = job.arg("--throttle-file", &file).args("--progress log");
    let child = job.command().spawn().expect("it starts");
    until("it to be said", || {
        job.state().join("shard-0/control.sock").exists()
            && control(&job, "status")["limited_by"] == "throttle-file"
    });
    thread::sleep(A_WHILE);
    assert_eq!(copies(&store), 0);
    std::fs::remove_file(&file).expect("it was there");
    let run = finish(child)
        .expect(0)
        .says(&["on hold (throttle-file)", "is there"]);
    assert_eq!(run.count("succeeded"), 20);
}

#[tokio::test]
async fn who_is_on_hold_ends_at_once_when_asked() {
    let (store, job) = job(20).await;
    let file = job.write("busy", "");
    let job = job.arg("--throttle-file", &file).args("--drain-timeout 1h");
    let child = job.command().spawn().expect("it starts");
    until("it to listen", || {
        job.state().join("shard-0/control.sock").exists()
    });
    send(&child, Signal::SIGTERM);
    finish(child).expect(75);
    assert_eq!(copies(&store), 0);
    std::fs::remove_file(&file).expect("it was there");
    job.run().expect(0);
}

/// A web server with one answer for everybody, which can be changed.
struct Web {
    addr: SocketAddr,
    status: Arc<AtomicU16>,
    heard: Mutex<Receiver<String>>,
}

impl Web {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (addr, status) = (
            listener.local_addr().expect("bound"),
            Arc::new(AtomicU16::new(status)),
        );
        let (tell, heard) = channel();
        let answers = Arc::clone(&status);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &answers, &tell);
            }
        });
        let heard = Mutex::new(heard);
        Self {
            addr,
            status,
            heard,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

/// Reads one request to the end of its body, tells of it, and hangs up after the answer.
fn serve(mut stream: TcpStream, status: &AtomicU16, tell: &Sender<String>) -> std::io::Result<()> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        if read == 0 || body.len() >= length {
            break;
        }
    }
    let status = status.load(Ordering::SeqCst);
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let _ = tell.send(text);
    Ok(())
}

#[tokio::test]
async fn while_another_is_not_well_nothing_is_sent() {
    let (store, job) = job(20).await;
    let web = Web::start(503);
    let job = job
        .args("--progress log --throttle-url")
        .args(&web.url("/health?token=hush"));
    let child = job.command().spawn().expect("it starts");
    until("it to be said", || {
        job.state().join("shard-0/control.sock").exists()
            && control(&job, "status")["limited_by"] == "throttle-url"
    });
    thread::sleep(A_WHILE);
    assert_eq!(copies(&store), 0);
    web.status.store(204, Ordering::SeqCst);
    let run = finish(child)
        .expect(0)
        .says(&["on hold (throttle-url)", "/health answers 503"]);
    assert_eq!(run.count("succeeded"), 20);
    assert!(!run.stderr.contains("hush"), "what is asked may be secret");
    let first = web
        .heard
        .lock()
        .expect("unpoisoned")
        .recv()
        .expect("it was asked");
    assert!(
        first.starts_with("GET /health?token=hush HTTP/1.1\r\n"),
        "{first}"
    );
}

#[tokio::test]
async fn the_summary_is_pushed_once_and_a_gateway_that_is_down_spoils_nothing() {
    let (_store, job) = job(5).await;
    let web = Web::start(202);
    let job = job.args("--pushgateway").args(&web.url(""));
    job.run().expect(0);
    let pushed = web
        .heard
        .lock()
        .expect("unpoisoned")
        .recv()
        .expect("it was pushed");
    assert!(
        pushed.starts_with("POST /metrics/job/reseal HTTP/1.1\r\n"),
        "{pushed}"
    );
    assert!(
        pushed.contains("reseal_last_run_rows{outcome=\"succeeded\"} 5\n"),
        "{pushed}"
    );
    assert!(pushed.contains("reseal_last_run_exit_code 0\n"), "{pushed}");
    assert!(
        web.heard.lock().expect("unpoisoned").try_recv().is_err(),
        "once"
    );
    web.status.store(500, Ordering::SeqCst);
    job.run()
        .expect(0)
        .says(&["was not pushed", "it answers 500"]);
    // An end without a summary is told, too.
    job.write_manifest("bucket,object/0\n");
    job.run().expect(5);
    let heard = web.heard.lock().expect("unpoisoned");
    let pushed = heard.try_iter().last().expect("it was pushed");
    assert!(pushed.contains("reseal_last_run_exit_code 5\n"), "{pushed}");
}

#[tokio::test]
async fn a_status_is_watched_until_the_job_is_complete() {
    let (_store, job) = job(40).await;
    let job = job.args("--rate 20");
    let child = job.command().spawn().expect("it starts");
    until("it to listen", || {
        job.state().join("shard-0/control.sock").exists()
    });
    let state = job.state();
    let state = state.to_str().expect("UTF-8");
    let watched = reseal(&[
        "status",
        "--state",
        state,
        "--output",
        "json",
        "--watch=200ms",
        "--shard",
        "0",
    ]);
    finish(child).expect(0);
    let watched = watched.expect(0);
    let lines: Vec<Value> = watched
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(lines.len() > 2, "{}", watched.stdout);
    assert_eq!(lines[lines.len() - 1]["status"], "complete");
    assert_ne!(lines[0]["status"], "complete");
    reseal(&["status", "--state", state, "--shard", "1"])
        .expect(2)
        .says(&["no shard 1", "has 1"]);
}
