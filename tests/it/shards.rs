//! A job that several processes share: each row is one's, and there is one report and one status of all.

use std::process::Child;

use serde_json::{Value, json};

use crate::support::versioned::{PATIENCE, Versioned};
use crate::support::{BUCKET, Job, Run, csv_of, finish, read_report};

const SHARDS: usize = 4;

fn start(job: &Job, shard: usize) -> Child {
    let mut command = job.command();
    command.args(["--shard", &shard.to_string()]);
    command.spawn().expect("it starts")
}

/// Another command in the job's environment; the words after its name are its own.
fn reseal(job: &Job, args: &str) -> Run {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args(args.split_whitespace());
    job.prepare(&mut command);
    Run::of(command.output().expect("it starts"))
}

fn told(run: Run) -> Value {
    let run = run.expect(0);
    serde_json::from_str(&run.stdout).expect("JSON")
}

/// What is told of each shard under a name.
fn of_each(status: &Value, name: &str) -> Vec<Value> {
    let shards = status["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard[name].clone()).collect()
}

#[tokio::test]
async fn four_processes_share_a_job_and_one_of_them_is_killed() {
    let setup = Versioned::with_objects(160).await;
    let job = setup.job().args("--shards 4 --rate 100");
    let mut children: Vec<_> = (0..SHARDS).map(|shard| start(&job, shard)).collect();
    setup.wait_for_copies(40);
    let mut killed = children.remove(2);
    killed.kill().expect("killed");
    killed.wait().expect("dead");
    let mut rows = 0;
    for child in children {
        let run = finish(child).expect(0);
        let summary = run.summary();
        rows += run.count("total");
        assert_eq!(summary["shards"], SHARDS);
        assert_eq!(summary["report"], Value::Null, "{summary}");
        let unfinished = summary["unfinished_shards"].as_array().expect("a list");
        assert!(unfinished.contains(&json!(2)), "{summary}");
    }
    assert!(!job.path("report").exists(), "nobody has written it");

    // The whole job can be looked at, and reported as far as it is.
    let status = told(reseal(&job, "status --state state --output json"));
    assert_eq!(status["status"], "in-progress");
    assert_eq!(status["total"], setup.keys.len());
    let complete = of_each(&status, "status");
    assert_eq!(
        complete.iter().filter(|told| *told == "complete").count(),
        3
    );
    let settled: u64 = of_each(&status, "settled")
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(status["remaining"], setup.keys.len() as u64 - settled);
    let early = told(reseal(&job, "report --state state --output json"));
    assert_eq!(
        (&early["settled"], &early["remaining"]),
        (&json!(settled), &status["remaining"])
    );
    assert_eq!(
        read_report(&job.state().join("report")).len() as u64,
        settled
    );

    // A row stays with its shard.
    let other = reseal(
        &job,
        &job.arguments()
            .join(" ")
            .replace("--shards 4", "--shards 3 --shard 2"),
    );
    other
        .expect(5)
        .says(&["cut in 4 shards", "hint: give --shards 4"]);
    let missing = job.run().expect(2);
    missing.says(&["--shard 0 to 3", "JOB_COMPLETION_INDEX"]);

    let last = finish(start(&job, 2)).expect(0);
    assert_eq!(rows + last.count("total"), setup.keys.len() as u64);
    assert!(last.summary()["report"].is_string(), "{}", last.stdout);
    setup.assert_complete(&job).await;
    let keys: Vec<_> = job.report().into_iter().map(|row| row.key).collect();
    assert_eq!(keys, setup.keys, "in the order of the manifest");

    let status = told(reseal(&job, "status --state state --output json"));
    assert_eq!(
        (&status["status"], &status["remaining"]),
        (&json!("complete"), &json!(0))
    );
    assert_eq!(of_each(&status, "taken_over"), [1, 1, 2, 1]);
    // Whoever comes once more writes the same again.
    let folder = job
        .path("report")
        .join(format!("job-{}", status["job_id"].as_str().expect("an id")));
    let manifest = || std::fs::read(folder.join("manifest.json")).expect("there");
    let before = manifest();
    let again = finish(start(&job, 0)).expect(0);
    assert!(again.summary()["report"].is_string() && manifest() == before);
}

/// A report is asked for while a shard is at work. Before it has its files in place, the shard ends, agrees on the date of the last report
/// and is killed before that is written: what stands then is not the report from before.
#[tokio::test]
async fn a_report_that_was_begun_before_the_end_is_not_the_last() {
    let setup = Versioned::with_objects(20).await;
    let job = setup.job().args("--shards 2");
    finish(start(&job, 0)).expect(0);
    let early = told(reseal(
        &job,
        "report --state state --report report --output json",
    ));
    let remaining = early["remaining"].as_u64().expect("a number");
    assert!(remaining > 0, "{early}");

    let folder = job.path(early["report"].as_str().expect("a path"));
    let folder = folder.parent().expect("a folder");
    let lock = std::fs::File::open(folder).expect("a folder");
    lock.lock().expect("nobody writes");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args("report --state state --report report --output json".split_whitespace());
    job.prepare(&mut command);
    let begun = command.spawn().expect("it starts");
    let partial = |writer: &str| {
        let results = std::fs::read_dir(folder.join("results")).expect("a folder");
        let names = results.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.contains(writer)).count() > 0
    };
    wait_until(|| partial("report-"));
    let mut last = start(&job, 1);
    wait_until(|| job.state().join("report.json").exists());
    last.kill().expect("killed");
    last.wait().expect("dead");
    drop(lock);
    let report = told(finish(begun));
    assert_eq!(report["remaining"], 0, "{report}");
    assert_eq!(job.report().len(), setup.keys.len());
}

/// Waits for something that must happen.
fn wait_until(has_happened: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !has_happened() {
        assert!(begun.elapsed() < PATIENCE, "it has not happened");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_job_that_lives_in_s3_needs_nothing_of_this_machine() {
    let setup = Versioned::with_objects(40).await;
    let bucket = setup.store.client.create_bucket().bucket("state");
    bucket.send().await.expect("a bucket");
    let state = "s3://state/jobs/1/";
    let csv = csv_of(&setup.keys);
    let credentials = setup.store.s3.credentials();
    let job = || {
        Job::bare(&setup.store.s3.endpoint_url())
            .env("AWS_ACCESS_KEY_ID", credentials.access_key())
            .env("AWS_SECRET_ACCESS_KEY", credentials.secret_key())
    };
    let run = |index: &str, stdin: &str| {
        // Each time another machine.
        let job = job()
            .args("--manifest - --shards 2 --output json --progress none --probe off")
            .args("--to sse-kms --kms-key-id")
            .args(&setup.arn)
            .args("--state")
            .args(state)
            .env("JOB_COMPLETION_INDEX", index);
        let list = job.write("stdin", stdin);
        let mut command = job.command();
        command.stdin(std::fs::File::open(list).expect("there"));
        Run::of(command.output().expect("it starts"))
    };
    let first = run("0", &csv).expect(0);
    // What is not the job's manifest is refused before it takes the place of what is kept.
    let kept = async || {
        let get = setup.store.client.get_object().bucket("state");
        let got = get.key("jobs/1/shard-0/manifest").send().await;
        let body = got.expect("there").body.collect().await;
        String::from_utf8(body.expect("a body").to_vec()).expect("text")
    };
    let shard_file = "jobs/1/shard-0/shard.json";
    let get = setup.store.client.get_object().bucket("state");
    let said = get.key(shard_file).send().await.expect("there").body;
    let said = said.collect().await.expect("a body").into_bytes();
    let delete = setup.store.client.delete_object().bucket("state");
    delete.key(shard_file).send().await.expect("deleted");
    run("0", &format!("{BUCKET},other\n")).expect(5);
    assert_eq!(kept().await, csv);
    let put = setup.store.client.put_object().bucket("state");
    let put = put.key(shard_file).body(said.into());
    put.send().await.expect("put back");
    assert_eq!(first.summary()["unfinished_shards"], json!([1]));
    let look = |command: &str| {
        let url = setup.store.s3.endpoint_url();
        let args =
            format!("{command} --state {state} --endpoint-url {url} --path-style --output json");
        told(reseal(&job(), &args))
    };
    let status = look("status");
    assert_eq!(of_each(&status, "status"), ["complete", "not-begun"]);
    assert_eq!(status["total"], setup.keys.len());

    let last = run("1", &csv).expect(0);
    let id = status["job_id"].as_str().expect("an id");
    let report = format!("s3://state/jobs/1/report/job-{id}/manifest.json");
    assert_eq!(last.summary()["report"], report.as_str());
    assert_eq!(look("status")["status"], "complete");
    // Another pod goes on with what is kept, and knows what is not that.
    run("1", "").expect(0);
    let other = run("1", &format!("{BUCKET},other\n")).expect(5);
    other.says(&["standard input is not the manifest"]);
    let copies = setup.store.copies();
    assert!(
        copies.len() == setup.keys.len() && copies.values().all(|count| *count == 1),
        "{copies:?}"
    );
    let written = look("report");
    assert_eq!(
        (&written["report"], &written["remaining"]),
        (&json!(report), &json!(0))
    );
    let read = setup.store.client.get_object().bucket("state");
    let read = read.key(format!("jobs/1/report/job-{id}/manifest.json"));
    let body = read.send().await.expect("there").body.collect();
    let manifest: Value =
        serde_json::from_slice(&body.await.expect("a body").to_vec()).expect("JSON");
    assert_eq!(manifest["Results"][0]["Bucket"], "state", "{manifest}");
}
