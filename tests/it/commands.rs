//! The commands beside `run`: `demo`, `status`, `local-s3`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::objects::{self, Under};
use crate::support::{BUCKET, Job, Run, Store};

/// The binary, with an environment of its own, in a folder.
fn reseal(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command
        .args(args.split_whitespace())
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, args: &str) -> Run {
    Run::of(reseal(folder, args).output().expect("it starts"))
}

#[test]
fn the_demo_shows_its_proof_and_leaves_everything_to_look_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = run(folder.path(), "demo --data d --objects 60 --progress none").expect(0);
    for phrase in [
        "All 60 objects were read back",
        "copy 30",
        "update 30",
        "Try next:",
    ] {
        assert!(shown.stdout.contains(phrase), "{}", shown.stdout);
    }
    let row = shown
        .stdout
        .lines()
        .find(|line| line.starts_with("SSE-KMS"));
    let cells: Vec<_> = row.expect("a row").split_whitespace().collect();
    assert_eq!(cells, ["SSE-KMS", "15", "60"]);
    let status = run(folder.path(), "status --state d/state --output json").expect(0);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(
        (&status["status"], &status["succeeded"]),
        (&"complete".into(), &60.into())
    );
    assert!(folder.path().join("d/inventory").is_dir());

    let again = run(folder.path(), "demo --data d --objects 60").expect(2);
    again.says(&["is not an empty folder", "hint: "]);
}

#[tokio::test]
async fn log_lines_have_for_programs_what_they_say_for_people() {
    let store = Store::start().await;
    objects::put_many(&store.client, &["a".to_owned(), "b".to_owned()]).await;
    let job = store
        .job(&["a", "b", "gone"])
        .args("--to sse-kms --progress log --canary 0");
    let text = job.run().expect(3).stderr;
    assert!(text.contains("finished: 3 of 3 rows (100.0 %)"), "{text}");
    assert!(!text.contains("run."), "{text}");
    let other = job
        .args("--log-format json")
        .arg("--state", store.data().join("other"));
    let lines = other.run().expect(3).stderr;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let fields = lines.iter().map(|line| &line["fields"]);
    let last = fields
        .clone()
        .rfind(|fields| fields["run.phase"] == "finished");
    let last = last.expect("a last line");
    assert_eq!(
        (&last["run.settled"], &last["run.failed"]),
        (&3.into(), &1.into()),
        "{last}"
    );
    let codes: Vec<_> = fields
        .filter_map(|fields| fields["run.code"].as_str())
        .collect();
    assert!(
        codes.contains(&"NoSuchKey") && codes.contains(&"default-differs"),
        "{codes:?}"
    );
}

#[tokio::test]
async fn status_is_told_while_a_job_runs_and_after() {
    let store = Store::start().await;
    let keys: Vec<_> = (0..60).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let arn = store.add_kms_key(None);
    let job = store
        .job(&keys)
        .args("--rate 20 --to sse-kms --kms-key-id")
        .args(&arn);
    let status = |job: &Job| {
        let status = run(&job.path(""), "status --state state --output json");
        status.expect(0).stdout
    };
    let empty = run(&job.path(""), "status --state state").expect(2);
    empty.says(&["holds no job", "hint: "]);

    let child = job.command().spawn().expect("it starts");
    while store.copies().len() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let told: Value = serde_json::from_str(&status(&job)).expect("JSON");
    let (settled, remaining) = (&told["succeeded"], &told["remaining"]);
    assert_eq!(told["status"], "in-progress", "{told}");
    assert_eq!(
        settled.as_u64().zip(remaining.as_u64()).map(|(a, b)| a + b),
        Some(60),
        "{told}"
    );
    Run::of(child.wait_with_output().expect("it ends")).expect(0);
    let told: Value = serde_json::from_str(&status(&job)).expect("JSON");
    assert_eq!(
        (&told["status"], &told["succeeded"]),
        (&"complete".into(), &60.into())
    );
    assert_eq!(told["bytes"], keys.iter().map(String::len).sum::<usize>());
    let text = run(&job.path(""), "status --state state").expect(0);
    assert!(text.stdout.contains("complete"), "{}", text.stdout);
}

/// A served store, stopped with the test.
struct Served(Child);

impl Served {
    /// Starts it, and makes a client out of what it prints.
    fn start(folder: &Path) -> (Self, Client) {
        let mut command = reseal(folder, "local-s3 serve --data s3 --listen 127.0.0.1:0");
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let served = Self(child);
        let mut exports = std::collections::BTreeMap::new();
        let mut not_for_production = false;
        for line in stdout.lines() {
            let line = line.expect("text");
            not_for_production |= line.contains("not a production store");
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
            {
                exports.insert(name.to_owned(), value.to_owned());
            }
            if exports.len() == 4 {
                break;
            }
        }
        assert!(not_for_production);
        let credentials = Credentials::new(
            &exports["AWS_ACCESS_KEY_ID"],
            &exports["AWS_SECRET_ACCESS_KEY"],
            None,
            None,
            "test",
        );
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(exports["AWS_REGION"].clone()))
            .endpoint_url(&exports["AWS_ENDPOINT_URL"])
            .credentials_provider(credentials)
            .force_path_style(true)
            .build();
        (served, Client::from_conf(config))
    }

    /// SIGTERM ends it in order.
    fn stop(mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("signalled");
        assert_eq!(self.0.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_served_folder_keeps_objects_and_keys_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    run(at, "local-s3 keys --data s3")
        .expect(2)
        .says(&["holds no keys"]);
    let (served, client) = Served::start(at);
    let added = run(at, "local-s3 keys --data s3 add --alias alias/mine").expect(0);
    let arn = added
        .stdout
        .split_whitespace()
        .nth(1)
        .expect("an ARN")
        .to_owned();
    let bucket = client.create_bucket().bucket(BUCKET);
    bucket.send().await.expect("a bucket");
    for (key, under) in [("plain", Under::SseS3), ("kms", Under::Kms(arn.clone()))] {
        objects::put(&client, key, key.as_bytes(), &under).await;
    }
    // Killed, not stopped: what was answered is there.
    drop(served);
    run(at, "local-s3 rotate --data s3").expect(0);
    let (served, client) = Served::start(at);
    for key in ["plain", "kms"] {
        let read = objects::read(&client, key, None).await;
        assert_eq!(read.as_deref(), Ok(key.as_bytes()));
    }
    let second = run(at, "local-s3 serve --data s3 --listen 127.0.0.1:0").expect(2);
    assert!(!second.stderr.is_empty());
    run(at, "local-s3 keys --data s3 disable alias/mine").expect(0);
    let refused = objects::read(&client, "kms", None).await;
    assert_eq!(refused.expect_err("disabled").1, "KMS.DisabledException");
    let listed = run(at, "local-s3 keys --data s3").expect(0);
    let mine = listed
        .stdout
        .lines()
        .find(|line| line.contains("alias/mine"));
    assert!(
        mine.is_some_and(|line| line.starts_with("disabled")),
        "{}",
        listed.stdout
    );
    run(at, "local-s3 keys --data s3 enable no-such-key").expect(2);
    served.stop();
}
