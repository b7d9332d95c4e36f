//! A state that others can write too: who goes on, who has to stop, and that nothing is changed twice for it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reseal::journal::LEADER_PROOF_AGE_MAX;

use crate::support::versioned::Versioned;
use crate::support::{Job, finish, send};

/// A job whose state is in S3, in a bucket of its own.
async fn with_state_in_s3(setup: &Versioned) -> Job {
    let bucket = setup.store.client.create_bucket().bucket("states");
    bucket.send().await.expect("a bucket");
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
