//! Runs that end before their time, and what the next one makes of it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt as _;

use crate::support::chance::{self, long, seed};
use crate::support::faults::{Proxy, Weather};
use crate::support::objects;
use crate::support::versioned::{PATIENCE, Versioned};
use crate::support::{BUCKET, Job, Run, finish, send};

/// Kills runs of a job with SIGKILL at random moments until it is complete.
async fn kill_at_random_moments(setup: &Versioned, job: &Job, kills: usize) {
    let mut rng = chance::rng(seed());
    let objects = setup.keys.len();
    let mut in_the_middle = 0;
    for _ in 0..kills {
        let before = setup.copied();
        let mut child = job.command().spawn().expect("it starts");
        // Anywhere from the first instruction on, and anywhere between two copies.
        let after = (before + rng.random_range(0..objects / kills)).min(objects - 1);
        setup.wait_for_copies(after);
        std::thread::sleep(Duration::from_millis(rng.random_range(0..30)));
        // SIGKILL.
        child.kill().expect("killed");
        child.wait().expect("dead");
        in_the_middle += usize::from(setup.copied() > before && setup.copied() < objects);
    }
    assert!(in_the_middle > 0, "no kill met a run that was copying");
    let run = job.run().expect(0);
    assert_eq!(run.count("total"), objects as u64);
    let reasons = run.summary()["skips"].clone();
    let doubtful = reasons["done-before-interruption"]
        .as_u64()
        .unwrap_or_default();
    assert_eq!(run.count("skipped"), doubtful, "{reasons}");
    setup.assert_complete(job).await;
}

#[tokio::test]
async fn killed_at_random_moments_it_changes_every_object_exactly_once() {
    let (objects, kills, rate) = if long() {
        (8_000, 200, 400)
    } else {
        (400, 6, 250)
    };
    let setup = Versioned::with_objects(objects).await;
    let job = setup.job().args(&format!("--rate {rate}"));
    kill_at_random_moments(&setup, &job, kills).await;
}

#[tokio::test]
async fn with_its_state_in_s3_too() {
    let (objects, kills, rate) = if long() {
        (8_000, 200, 400)
    } else {
        (300, 4, 250)
    };
    let setup = Versioned::with_objects(objects).await;
    let bucket = setup.store.client.create_bucket().bucket("states");
    bucket.send().await.expect("a bucket");
    let job = setup
        .job()
        .args(&format!("--rate {rate} --state s3://states/of/one"));
    kill_at_random_moments(&setup, &job, kills).await;
}

#[tokio::test]
async fn a_first_signal_drains_and_the_same_command_continues() {
    let setup = Versioned::with_objects(300).await;
    for (number, signal) in [Signal::SIGTERM, Signal::SIGINT].into_iter().enumerate() {
        let job = setup.job().args("--rate 60");
        let child = job.command().spawn().expect("it starts");
        setup.wait_for_copies(setup.copied() + 20);
        send(&child, signal);
        let run = finish(child).expect(75);
        assert_eq!(run.summary()["status"], "interrupted", "{number}");
        let settled = run.count("succeeded") + run.count("skipped");
        assert!((20..300).contains(&settled), "{}", run.stdout);
        assert!(
            !job.path("report").exists(),
            "a report of an interrupted job"
        );
        // Drained: nothing was left in doubt.
        let copied = setup.copied();
        if number == 0 {
            assert_eq!(run.count("succeeded"), copied as u64);
            continue;
        }
        let job = job
            .without_args()
            .args("--to sse-kms --kms-key-id")
            .args(&setup.arn);
        let run = job.run().expect(0);
        assert_eq!(run.count("already_settled"), settled);
        assert_eq!(run.count("succeeded") + run.count("skipped"), 300);
        setup.assert_complete(&job).await;
    }
}

#[tokio::test]
async fn a_signal_does_not_wait_for_what_has_not_begun() {
    let setup = Versioned::with_objects(100).await;
    // At one write a second, the tasks in flight would take longer than anybody's patience.
    let job = setup.job().args("--rate 1");
    let begun = Instant::now();
    let child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(1);
    send(&child, Signal::SIGTERM);
    let run = finish(child).expect(75);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(run.count("succeeded"), setup.copied() as u64);
    let job = job
        .without_args()
        .args("--to sse-kms --kms-key-id")
        .args(&setup.arn);
    job.run().expect(0);
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_store_that_goes_away_burns_no_rows() {
    let setup = Versioned::with_objects(300).await;
    let proxy = Proxy::start(setup.store.s3.addr(), Weather::Fair);
    let job = setup
        .job()
        .args("--rate 100 --max-stall 1s --endpoint-url")
        .args(&proxy.url());
    let child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(50);
    proxy.set_gone(true);
    let run = finish(child)
        .expect(1)
        .says(&["can't be reached", "hint: "]);
    assert_eq!(run.count("failed"), 0, "{}", run.stdout);
    proxy.set_gone(false);
    job.run().expect(0);
    setup.assert_complete(&job).await;
}

/// A row that names its version: what we wrote ourselves is another version, and still ours.
#[tokio::test]
async fn a_rewrite_whose_answer_was_lost_is_known_again_by_rows_with_versions() {
    let setup = Versioned::with_objects(40).await;
    let proxy = Proxy::start(setup.store.s3.addr(), Weather::SilentCopies);
    let job = setup.job().args("--endpoint-url").args(&proxy.url());
    let mut csv = String::new();
    for key in &setup.keys {
        let head = objects::head(&setup.store.client, key, None).await;
        let version = head.version_id().expect("a version");
        csv.push_str(&format!("{BUCKET},{key},{version}\n"));
    }
    job.write_manifest(&csv);
    let mut child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(setup.keys.len());
    child.kill().expect("killed");
    child.wait().expect("dead");
    let run = job.run().expect(0);
    assert_eq!(
        run.summary()["skips"]["done-before-interruption"],
        setup.keys.len()
    );
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_second_signal_stops_now() {
    let setup = Versioned::with_objects(50).await;
    // What is in flight would be waited for: a minute, which is how long a copy may take.
    let proxy = Proxy::start(setup.store.s3.addr(), Weather::SilentCopies);
    let job = setup.job().args("--endpoint-url").args(&proxy.url());
    let mut child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(setup.keys.len());
    send(&child, Signal::SIGTERM);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(child.try_wait().expect("asked"), None, "it did not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&child, Signal::SIGTERM);
    finish(child).expect(75);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    // Every copy was done, and no answer came: the next run has only to look.
    let run = job.run().expect(0);
    assert_eq!(
        run.summary()["skips"]["done-before-interruption"],
        setup.keys.len()
    );
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_second_runner_on_the_same_state_is_5_and_harms_nothing() {
    let setup = Versioned::with_objects(200).await;
    let job = setup.job().args("--rate 80");
    let child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(1);
    let state = job.state().display().to_string();
    job.run().expect(5).says(&["another", &state]);
    finish(child).expect(0);
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_state_of_another_job_is_5_and_the_job_it_belongs_to_still_continues() {
    let setup = Versioned::with_objects(60).await;
    let job = setup.job().args("--rate 30");
    let child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(5);
    send(&child, Signal::SIGTERM);
    finish(child).expect(75);
    let copied = setup.copied();
    let state = job.state();
    let other = setup.store.add_kms_key(None);
    let on_this_state = |job: Job| job.arg("--state", &state).run();

    let sse_s3 = setup.store.job(&setup.keys).args("--to sse-s3");
    on_this_state(sse_s3)
        .expect(5)
        .says(&["--to", "--kms-key-id", "hint: "]);
    let other = setup
        .store
        .job(&setup.keys)
        .args("--to sse-kms --kms-key-id")
        .args(&other);
    on_this_state(other).expect(5).says(&["--kms-key-id"]);
    on_this_state(setup.job().args("--bucket-key false"))
        .expect(5)
        .says(&["--bucket-key"]);
    let more: Vec<_> = setup
        .keys
        .iter()
        .map(String::as_str)
        .chain(["more"])
        .collect();
    let more = setup
        .store
        .job(&more)
        .args("--to sse-kms --kms-key-id")
        .args(&setup.arn);
    on_this_state(more)
        .expect(5)
        .says(&["another manifest", "60 rows and has 61", "hint: "]);
    let mut swapped = setup.keys.clone();
    swapped.swap(0, 1);
    let swapped = setup
        .store
        .job(&swapped)
        .args("--to sse-kms --kms-key-id")
        .args(&setup.arn);
    on_this_state(swapped)
        .expect(5)
        .says(&["another manifest", "is not that of"]);
    assert_eq!(setup.copied(), copied, "something was changed");

    job.run().expect(0);
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_manifest_that_was_moved_or_touched_is_still_the_same() {
    let setup = Versioned::with_objects(40).await;
    let job = setup.job().args("--rate 40");
    let child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(5);
    send(&child, Signal::SIGTERM);
    finish(child).expect(75);
    let moved = job.path("elsewhere.csv");
    fs::copy(job.path("manifest.csv"), &moved).expect("copied");
    fs::remove_file(job.path("manifest.csv")).expect("removed");
    let job = job.arg("--manifest", &moved);
    job.run().expect(0);
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn a_damaged_journal_is_5_and_nothing_is_sent() {
    let setup = Versioned::with_objects(60).await;
    // Over a second, so that there are many frames: damage in the last one can't be told from a torn write.
    let job = setup.job().args("--rate 60");
    job.run().expect(0);
    let path = job.state().join("shard-0/journal");
    let mut journal = fs::read(&path).expect("a journal");
    let middle = journal.len() / 2;
    journal[middle] ^= 0x40;
    fs::write(&path, journal).expect("written");
    let requests = setup.store.s3.requests();
    job.run()
        .expect(5)
        .says(&["damaged", &path.display().to_string()]);
    assert_eq!(setup.store.s3.requests(), requests);
}

/// The shell sets the limit: a file that would grow beyond it can't be written, as on a disk without room.
#[tokio::test]
async fn a_state_that_can_not_grow_stops_the_job_and_loses_nothing() {
    let setup = Versioned::with_objects(1_500).await;
    let job = setup.job();
    let mut shell = Command::new("sh");
    // In blocks of 512 bytes. Ignored, the signal becomes an error of the write.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_reseal")])
        .args(job.arguments());
    job.prepare(&mut shell);
    shell.stdin(Stdio::null());
    // The manifest is in place and is not written; the journal needs more than the limit.
    let run = Run::of(shell.output().expect("it starts")).expect(1);
    let journal = job.state().join("shard-0/journal").display().to_string();
    let run = run.says(&["error: ", &journal]);
    assert_eq!(run.stdout, "");
    let copied = setup.copied();
    assert!((1..1_500).contains(&copied), "{copied} copies");

    let run = job.run().expect(0);
    assert!(run.count("already_settled") > 0);
    assert_eq!(run.count("succeeded") + run.count("skipped"), 1_500);
    setup.assert_complete(&job).await;
}
