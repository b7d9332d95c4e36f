//! A state in S3: of stores that can't keep one, of answers that get lost, and on a store that this project did not write.

use std::time::Duration;

use reseal::exit::Exit;
use reseal::journal::{Record, Replay, S3Store, StateError, StateRoot, Writer};
use reseal::outcome::{SkipReason, TaskOutcome};
use reseal::s3::S3;
use reseal::shard::Shard;

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::moto::Moto;
use crate::support::{BUCKET, Store, direct};

const STALL_MAX: Duration = Duration::from_secs(30);

/// Through a proxy before an embedded S3.
async fn through(store: &Store, proxy: &Proxy) -> S3 {
    let keys = store.s3.credentials();
    direct::connect(proxy.url(), keys.access_key(), keys.secret_key()).await
}

async fn open(s3: &S3) -> Result<StateRoot, StateError> {
    let store = S3Store::open(s3.clone(), BUCKET, "state").await?;
    Ok(StateRoot::on(store))
}

async fn journal(root: &StateRoot) -> (Replay, Writer) {
    let shard = root.take(Shard::ONLY).await.expect("nobody is kept out");
    shard.journal("job", STALL_MAX).await.expect("a journal")
}

fn settled(row: u64) -> Record {
    let outcome = TaskOutcome::Skipped(SkipReason::AlreadyEncrypted);
    Record::Settled { row, outcome }
}

#[tokio::test]
async fn a_store_that_lets_two_win_keeps_no_state() {
    for weather in [
        Weather::IgnoresIfNoneMatch,
        Weather::LetsAllWin,
        Weather::NoIfNoneMatch,
    ] {
        let store = Store::start().await;
        let proxy = Proxy::before(&store.s3, weather);
        let s3 = through(&store, &proxy).await;
        // The second time, too: what the first has left says nothing else.
        for _ in 0..2 {
            let error = open(&s3).await.err().expect("refused");
            let is_it = matches!(error, StateError::NoConditionalCreate { .. });
            assert!(is_it, "{weather:?}: {error}");
            assert_eq!(error.exit(), Exit::Usage);
            let told = error.to_string();
            let says = ["s3://bucket/state", "directory"].map(|word| told.contains(word));
            assert_eq!(says, [true, true], "{told}");
        }
    }
}

/// A store that came to ignore the condition after the state was begun.
#[tokio::test]
async fn a_store_is_tried_again_by_whoever_opens_a_state() {
    let store = Store::start().await;
    let fair = direct::connect_to(&store).await;
    open(&fair).await.expect("a state");
    let proxy = Proxy::before(&store.s3, Weather::IgnoresIfNoneMatch);
    let error = open(&through(&store, &proxy).await).await.err();
    let error = error.expect("refused");
    assert!(
        matches!(error, StateError::NoConditionalCreate { .. }),
        "{error}"
    );
}

/// The first answer to each request for an object of the state gets lost. (A trial whose answers get lost is no trial: it is made anew
/// on another object.)
fn loses_first_answers(line: &str, attempt: u64) -> Option<Fault> {
    let is_of_state = line.contains("/state/") && !line.contains("/trial-");
    (attempt == 1 && is_of_state).then_some(Fault::CutAfter)
}

#[tokio::test]
async fn answers_that_get_lost_make_nothing_twice() {
    let store = Store::start().await;
    let proxy = Proxy::before(&store.s3, Weather::Rule(loses_first_answers));
    let s3 = through(&store, &proxy).await;
    let root = open(&s3).await.expect("a state");
    assert!(
        root.create_job(&"job").await.expect("written"),
        "it is ours"
    );
    assert!(
        !root.create_job(&"other").await.expect("answered"),
        "it is there"
    );
    for run in 0..2 {
        let (replay, mut writer) = journal(&root).await;
        assert_eq!((replay.settled.len(), replay.epochs), (run, run + 1));
        writer.append(&settled(run));
        writer.close().await.expect("durable");
    }
    assert!(
        proxy.seen().faults[&Fault::CutAfter] > 8,
        "{:?}",
        proxy.seen()
    );
    let fair = StateRoot::on(S3Store::at(
        direct::connect_to(&store).await,
        BUCKET,
        "state/",
    ));
    let replay = fair.peek(Shard::ONLY).await.expect("read").expect("there");
    assert_eq!(
        (
            replay.settled.len(),
            replay.settled_twice,
            replay.mark.batches
        ),
        (2, 0, 4)
    );
    let job: Option<String> = fair.read_job().await.expect("read");
    assert_eq!(job.as_deref(), Some("job"));
}

/// The one goes on, the other finds out when it writes, and what it wrote is not there.
async fn one_is_replaced(s3: &S3) {
    let root = open(s3).await.expect("a state");
    let (_, mut one) = journal(&root).await;
    one.append(&settled(1));
    let mut durable = one.durable();
    durable
        .wait_for(|told| told.sequence == 1)
        .await
        .expect("durable");
    let (replay, mut other) = journal(&root).await;
    assert!(replay.settled.contains(1));
    one.append(&settled(2));
    let error = one.close().await.expect_err("replaced");
    assert!(matches!(error, StateError::Replaced { .. }), "{error}");
    assert_eq!(error.exit(), Exit::State);
    other.append(&settled(3));
    other.close().await.expect("durable");
    let scratch = tempfile::tempdir().expect("a folder");
    let outcomes = root.outcomes(Shard::ONLY, "job", scratch.path()).await;
    let mut outcomes = outcomes.expect("read").expect("there");
    let there = [1, 2, 3].map(|row| outcomes.of(row).expect("read").is_some());
    assert_eq!(there, [true, false, true]);
    let age = root.last_written(Shard::ONLY).await.expect("told");
    assert!(
        age.is_some_and(|age| age < Duration::from_secs(3600)),
        "{age:?}"
    );
}

#[tokio::test]
async fn who_is_replaced_writes_nothing_more() {
    let store = Store::start().await;
    one_is_replaced(&direct::connect_to(&store).await).await;
}

#[tokio::test]
async fn moto_can_keep_a_state() {
    let Some(moto) = Moto::start("moto_can_keep_a_state").await else {
        return;
    };
    let s3 = direct::connect(moto.url.clone(), "AKIAMOTO", "secret").await;
    one_is_replaced(&s3).await;
}
