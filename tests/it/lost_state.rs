//! A state of which something is gone or can't be read any more: what is said of it, and with which exit code.

use std::fs;
use std::process::{Child, Command};

use nix::sys::signal::Signal;

use crate::support::versioned::Versioned;
use crate::support::{BUCKET, Job, Run, csv_of, finish, send};

const KEYS: usize = 60;

/// A job that was stopped late, whose journal is damaged before the snapshot: whoever goes on does not read so far back.
async fn damaged_before_its_snapshot(setup: &Versioned) -> Job {
    let job = setup.job().args("--rate 20 --concurrency 4");
    let mut keys = setup.keys.clone();
    keys.push("gone".to_owned());
    job.write_manifest(&csv_of(&keys));
    let stopped = job.command().spawn().expect("it starts");
    // Enough batches for a snapshot, each of one or two copies.
    setup.wait_for_copies(KEYS * 4 / 5);
    send(&stopped, Signal::SIGTERM);
    finish(stopped).expect(75);
    let shard = job.state().join("shard-0");
    assert!(shard.join("snapshot").exists());
    let journal = shard.join("journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    bytes[150] ^= 1;
    fs::write(journal, bytes).expect("written");
    job
}

/// Holds that the objects are counted and the report is what can't be had.
fn says_only_the_report_is_lost(run: Run) {
    let summary = run.summary();
    assert!(summary["report"].is_null(), "{summary}");
    assert!(
        !run.stderr.contains("nothing was changed"),
        "{}",
        run.stderr
    );
    run.says(&[
        "no report can be written from this state: ",
        "shard-0/journal is damaged at byte ",
        "how the rows ended that were settled from there on can't be told",
    ]);
}

#[tokio::test]
async fn a_report_that_the_journal_does_not_give_is_5_and_says_that_the_objects_are_done() {
    let setup = Versioned::with_objects(KEYS).await;
    let job = damaged_before_its_snapshot(&setup).await;
    let run = job.run().expect(5);
    assert_eq!(run.count("succeeded"), KEYS as u64);
    assert!(
        run.stderr
            .contains("hint: the objects are as they are counted"),
        "{}",
        run.stderr
    );
    says_only_the_report_is_lost(run);
}

/// What ended the job is the news, but not all of it.
#[tokio::test]
async fn a_job_that_failed_says_that_it_has_no_report() {
    let setup = Versioned::with_objects(KEYS).await;
    let job = damaged_before_its_snapshot(&setup).await;
    let job = job.args("--stop-on NoSuchKey");
    let run = job.run().expect(4).says(&["which --stop-on names"]);
    says_only_the_report_is_lost(run);
}

#[tokio::test]
async fn damage_that_is_seen_before_anything_is_done_says_so() {
    let setup = Versioned::with_objects(KEYS).await;
    let job = damaged_before_its_snapshot(&setup).await;
    fs::remove_file(job.state().join("shard-0/snapshot")).expect("removed");
    let writes = setup.store.writes();
    job.run().expect(5).says(&[
        "shard-0/journal is damaged at byte ",
        "this run has changed nothing",
        "hint: restore the state from a copy",
    ]);
    assert_eq!(setup.store.writes(), writes);
}

/// Starts a run, and stops it when it has copied some.
fn stopped_halfway(setup: &Versioned, job: Job, start: impl FnOnce(&Job) -> Child) -> Job {
    let job = job.env("RESEAL_RATE", "20").env("RESEAL_CONCURRENCY", "4");
    let runner = start(&job);
    setup.wait_for_copies(5);
    send(&runner, Signal::SIGTERM);
    finish(runner).expect(75);
    job.env("RESEAL_RATE", "1000")
}

/// Without `--state`: it is found again by what it is.
fn job_that_finds_its_state(setup: &Versioned) -> Job {
    let credentials = setup.store.s3.credentials();
    Job::bare(&setup.store.s3.endpoint_url())
        .env("AWS_ACCESS_KEY_ID", credentials.access_key())
        .env("AWS_SECRET_ACCESS_KEY", credentials.secret_key())
        .args("--output json --progress none --probe off --to sse-kms --kms-key-id")
        .args(&setup.arn)
}

async fn put(setup: &Versioned, bucket: &str, key: &str, content: String) {
    let put = setup.store.client.put_object().bucket(bucket).key(key);
    put.body(content.into_bytes().into())
        .send()
        .await
        .expect("put");
}

async fn remove(setup: &Versioned, bucket: &str, key: &str) {
    let remove = setup.store.client.delete_object().bucket(bucket).key(key);
    remove.send().await.expect("removed");
}

async fn bucket_for_states(setup: &Versioned) {
    let bucket = setup.store.client.create_bucket().bucket("states");
    bucket.send().await.expect("a bucket");
}

fn report(setup: &Versioned, job: &Job, state: &str) -> Run {
    let mut reseal = Command::new(env!("CARGO_BIN_EXE_reseal"));
    job.prepare(&mut reseal);
    reseal.args(["report", "--state", state, "--report", "told"]);
    reseal.args(["--output", "json", "--path-style", "--endpoint-url"]);
    reseal.arg(setup.store.s3.endpoint_url());
    Run::of(reseal.output().expect("it starts"))
}

const LIST: &str = "list.csv";

/// A job over a manifest in S3 that was stopped halfway; then the manifest was removed.
async fn with_manifest_gone(setup: &Versioned, job: Job) -> Job {
    put(setup, BUCKET, LIST, csv_of(&setup.keys)).await;
    let job = job.args("--manifest s3://bucket/list.csv");
    let job = stopped_halfway(setup, job, |job| job.command().spawn().expect("it starts"));
    remove(setup, BUCKET, LIST).await;
    job
}

#[tokio::test]
async fn a_manifest_in_s3_that_is_gone_is_read_from_the_copy_in_the_state() {
    for is_named in [true, false] {
        let setup = Versioned::with_objects(30).await;
        let job = if is_named {
            setup.job()
        } else {
            job_that_finds_its_state(&setup)
        };
        let job = with_manifest_gone(&setup, job).await;
        let state = match is_named {
            true => job.state(),
            false => {
                let mut states = fs::read_dir(job.path(".reseal")).expect("states");
                states.next().expect("one").expect("an entry").path()
            }
        };
        let told = report(&setup, &job, state.to_str().expect("UTF-8")).expect(0);
        assert!(told.count("remaining") > 0 && told.count("settled") > 0);
        let done = job
            .run()
            .expect(0)
            .says(&["goes on with what the state has of it"]);
        assert_eq!(done.count("succeeded"), 30);
        // Now that all is done there is no copy any more.
        job.run().expect(5).says(&[LIST, "has no copy"]);
    }
}

/// Two lists that were there under one name, and neither is: which job is meant can't be told.
#[tokio::test]
async fn of_several_states_one_has_to_be_named() {
    let setup = Versioned::with_objects(40).await;
    let job = job_that_finds_its_state(&setup);
    let mut job = job.args("--manifest s3://bucket/list.csv");
    for half in setup.keys.chunks(20) {
        let copied = setup.copied();
        put(&setup, BUCKET, LIST, csv_of(half)).await;
        job = job.env("RESEAL_RATE", "10").env("RESEAL_CONCURRENCY", "4");
        let runner = job.command().spawn().expect("it starts");
        setup.wait_for_copies(copied + 2);
        send(&runner, Signal::SIGTERM);
        finish(runner).expect(75);
    }
    remove(&setup, BUCKET, LIST).await;
    let writes = setup.store.writes();
    let several = [
        "several states",
        "hint: name the one that shall go on with --state",
    ];
    job.run().expect(5).says(&several);
    assert_eq!(setup.store.writes(), writes);
}

#[tokio::test]
async fn a_manifest_that_is_nowhere_is_5_and_may_come_back() {
    let setup = Versioned::with_objects(30).await;
    let job = with_manifest_gone(&setup, setup.job()).await;
    let copy = job.state().join("shard-0/manifest/part-000000");
    fs::remove_file(copy).expect("it was kept");
    let lost = [
        "s3://bucket/list.csv",
        "DeleteMarker",
        "has no copy",
        "hint: ",
    ];
    for _ in 0..2 {
        job.run().expect(5).says(&lost);
    }
    report(&setup, &job, "state").expect(5).says(&lost);
    // What never was its manifest is none.
    let other = job.without_args().args("--to sse-kms --kms-key-id");
    let other = other
        .args(&setup.arn)
        .args("--manifest s3://bucket/other.csv");
    other.run().expect(2).says(&["other.csv"]);
}

#[tokio::test]
async fn a_manifest_that_is_gone_and_was_never_there_is_2() {
    let setup = Versioned::with_objects(1).await;
    let job = setup.job().args("--manifest s3://bucket/list.csv");
    job.run().expect(2).says(&["list.csv", "NoSuchKey"]);
    assert!(!job.state().exists());
}

/// A state in S3 has no copy of what can be fetched.
#[tokio::test]
async fn a_state_in_s3_whose_manifest_is_gone_is_5() {
    let setup = Versioned::with_objects(30).await;
    bucket_for_states(&setup).await;
    let job = setup.job().args("--state s3://states/one");
    let job = with_manifest_gone(&setup, job).await;
    job.run()
        .expect(5)
        .says(&["s3://states/one", "has no copy"]);
    put(&setup, BUCKET, LIST, csv_of(&setup.keys)).await;
    assert_eq!(job.run().expect(0).count("succeeded"), 30);
}

fn fed(job: &Job, input: &str) -> Child {
    let input = job.write("input", input);
    let mut command = job.command();
    command.stdin(fs::File::open(input).expect("there"));
    command.spawn().expect("it starts")
}

fn feed(job: &Job, input: &str) -> Run {
    finish(fed(job, input))
}

/// What has gone of a state whose manifest came on standard input, and what is said then: that it is wanted again.
async fn wants_its_input_again(setup: &Versioned, job: &Job) {
    let wanted = [
        "came on standard input",
        "hint: give the same manifest on standard input again",
    ];
    for _ in 0..2 {
        feed(job, "").expect(5).says(&wanted);
    }
    let other = format!("{BUCKET},other\n");
    feed(job, &other).expect(5).says(&["another manifest"]);
    let done = feed(job, &csv_of(&setup.keys)).expect(0);
    assert_eq!(done.count("succeeded"), setup.keys.len() as u64);
    assert!(setup.store.copies().values().all(|count| *count == 1));
    // It is kept again.
    feed(job, "").expect(0);
}

#[tokio::test]
async fn input_that_the_state_has_lost_is_wanted_again() {
    for lost in ["manifest/top", "shard.json"] {
        let setup = Versioned::with_objects(30).await;
        let job = setup.job().args("--manifest -");
        let csv = csv_of(&setup.keys);
        let job = stopped_halfway(&setup, job, |job| fed(job, &csv));
        report(&setup, &job, "state").expect(0);
        fs::remove_file(job.state().join("shard-0").join(lost)).expect("it was there");
        if lost == "manifest/top" {
            report(&setup, &job, "state")
                .expect(5)
                .says(&["came on standard input"]);
        }
        wants_its_input_again(&setup, &job).await;
    }
}

#[tokio::test]
async fn input_that_a_state_in_s3_has_lost_is_wanted_again() {
    let setup = Versioned::with_objects(30).await;
    bucket_for_states(&setup).await;
    let job = setup.job().args("--manifest - --state s3://states/one");
    let csv = csv_of(&setup.keys);
    let job = stopped_halfway(&setup, job, |job| fed(job, &csv));
    remove(&setup, "states", "one/shard-0/manifest").await;
    wants_its_input_again(&setup, &job).await;
}
