//! A state that others can write too: who goes on, who has to stop, and that nothing is changed twice for it.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reseal::journal::LEADER_PROOF_AGE_MAX;
use serde_json::Value;

use crate::support::versioned::{PATIENCE, Versioned};
use crate::support::{BUCKET, Job, Run, finish, send};

/// Where scratch objects are.
const SCRATCH: &str = ".reseal-scratch/";

async fn with_bucket_for_states(setup: &Versioned) {
    let bucket = setup.store.client.create_bucket().bucket("states");
    bucket.send().await.expect("a bucket");
}

/// A job whose state is in S3, in a bucket of its own.
async fn with_state_in_s3(setup: &Versioned) -> Job {
    with_bucket_for_states(setup).await;
    setup.job().args("--state s3://states/of/one")
}

/// Requests to copy, whatever became of them.
fn copy_requests(setup: &Versioned) -> u64 {
    let requests = setup.store.s3.requests();
    let copies = requests
        .iter()
        .filter(|(request, _)| request.operation == "REST.COPY.OBJECT");
    copies.map(|(_, count)| count).sum()
}

#[tokio::test]
async fn of_two_runners_one_goes_on_and_one_is_5() {
    let setup = Versioned::with_objects(200).await;
    let job = with_state_in_s3(&setup).await.args("--rate 60");
    let first = job.command().spawn().expect("it starts");
    let second = job.command().spawn().expect("it starts");
    let (first, second) = (finish(first), finish(second));
    let (winner, loser) = if first.status.code() == Some(0) {
        (first, second)
    } else {
        (second, first)
    };
    winner.expect(0);
    loser
        .expect(5)
        .says(&["another runner", "s3://states/of/one"]);
    setup.assert_complete(&job).await;
}

#[tokio::test]
async fn who_was_stopped_and_replaced_finds_out_before_it_does_anything() {
    let setup = Versioned::with_objects(120).await;
    let job = with_state_in_s3(&setup).await.args("--rate 40");
    let stopped = job.command().spawn().expect("it starts");
    setup.wait_for_copies(10);
    send(&stopped, Signal::SIGSTOP);
    let since = Instant::now();
    job.run().expect(0);
    // Long enough that what it knew is too old.
    let rest = (LEADER_PROOF_AGE_MAX + Duration::from_secs(1)).saturating_sub(since.elapsed());
    tokio::time::sleep(rest).await;
    let before = copy_requests(&setup);
    send(&stopped, Signal::SIGCONT);
    finish(stopped).expect(5).says(&["another runner"]);
    assert_eq!(copy_requests(&setup), before, "it has sent a copy");
    setup.assert_complete(&job).await;
}

/// Scratch objects that were put so far.
fn scratch_puts(setup: &Versioned) -> u64 {
    let requests = setup.store.s3.requests();
    let puts = requests.iter().filter(|(request, _)| {
        request.operation == "REST.PUT.OBJECT" && request.key.starts_with(SCRATCH)
    });
    puts.map(|(_, count)| count).sum()
}

/// Starts a runner, and waits until it tries the store.
fn probing(setup: &Versioned, job: &Job) -> Child {
    let (before, begun) = (scratch_puts(setup), Instant::now());
    let runner = job.command().spawn().expect("it starts");
    while scratch_puts(setup) < before + 3 {
        assert!(begun.elapsed() < PATIENCE, "it does not try the store");
        std::thread::sleep(Duration::from_millis(2));
    }
    runner
}

/// What the state says of the store.
async fn profile(setup: &Versioned, prefix: &str) -> Value {
    let object = setup.store.client.get_object().bucket("states");
    let object = object.key(format!("{prefix}/shard-0/shard.json"));
    let object = object.send().await.expect("a shard");
    let bytes = object.body.collect().await.expect("its bytes").to_vec();
    let sealed: Value = serde_json::from_slice(&bytes).expect("JSON");
    sealed["job"]["profile"].clone()
}

/// Holds that no scratch object is left, in no version.
async fn assert_no_scratch(setup: &Versioned) {
    let listed = setup.store.client.list_object_versions();
    let listed = listed.bucket(BUCKET).prefix(SCRATCH).send().await;
    let listed = listed.expect("versions");
    assert_eq!(listed.versions(), []);
    assert_eq!(listed.delete_markers(), []);
}

/// What a store shows a runner that nobody disturbs.
async fn undisturbed(setup: &Versioned) -> Value {
    with_bucket_for_states(setup).await;
    let job = setup.job().args("--probe auto --state s3://states/alone");
    job.run().expect(0);
    let found = profile(setup, "alone").await;
    assert_eq!(found["probed"], true, "{found}");
    found
}

/// Holds that of two runners one is done and the other was replaced.
fn assert_one_is_replaced(one: Run, other: Run) {
    let (done, replaced) = match one.status.code() {
        Some(0) => (one, other),
        _ => (other, one),
    };
    done.expect(0);
    replaced.expect(5).says(&["another runner"]);
}

#[tokio::test]
async fn two_that_try_the_store_at_once_find_what_is_so() {
    let setup = Versioned::with_objects(4).await;
    let expected = undisturbed(&setup).await;
    for round in 0..3 {
        let state = format!("round/{round}");
        let job = setup.job().args("--probe auto --state");
        let job = job.args(&format!("s3://states/{state}"));
        let first = probing(&setup, &job);
        send(&first, Signal::SIGSTOP);
        let second = probing(&setup, &job);
        send(&first, Signal::SIGCONT);
        assert_one_is_replaced(finish(first), finish(second));
        assert_eq!(profile(&setup, &state).await, expected);
        assert_no_scratch(&setup).await;
    }
}

#[tokio::test]
async fn who_is_replaced_while_it_tries_the_store_has_no_say() {
    let setup = Versioned::with_objects(4).await;
    let expected = undisturbed(&setup).await;
    let job = setup.job().args("--probe auto --state s3://states/two");
    let stopped = probing(&setup, &job);
    send(&stopped, Signal::SIGSTOP);
    job.run().expect(0);
    // What the other had put is gone.
    assert_no_scratch(&setup).await;
    send(&stopped, Signal::SIGCONT);
    finish(stopped).expect(5).says(&["another runner"]);
    assert_eq!(profile(&setup, "two").await, expected);
    assert_no_scratch(&setup).await;
}

#[tokio::test]
async fn what_a_killed_runner_left_of_its_tries_is_removed() {
    let setup = Versioned::with_objects(4).await;
    undisturbed(&setup).await;
    let job = setup.job().args("--probe auto --state s3://states/three");
    let mut killed = probing(&setup, &job);
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    job.run().expect(0);
    assert_no_scratch(&setup).await;
}
