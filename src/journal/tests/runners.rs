//! Runners on one state, one after the other and at once; stores that stutter; snapshots.

use std::time::Duration;

use super::*;
use crate::journal::memory::{Fault, MemoryStore};
use crate::journal::snapshot::{SNAPSHOT_BATCHES, WRITE_TIME_MAX};
use crate::journal::{COMMIT_INTERVAL, LEADER_PROOF_AGE_MAX, StateRoot};
use crate::shard::Shard;

const ONLY: Shard = Shard::ONLY;
/// Longer than any of these waits.
const STALL: Duration = Duration::from_secs(600);

/// A runner on a state in memory: what it finds, and its writer.
async fn runner(store: &MemoryStore) -> (Replay, Writer) {
    let state = StateRoot::on(store.clone()).take(ONLY).await.unwrap();
    state.journal(JOB, STALL).await.unwrap()
}

/// Waits until everything is durable; `false` where it never will be.
async fn synced(writer: &Writer, sequence: u64) -> bool {
    let mut durable = writer.durable();
    let told = durable
        .wait_for(|told| told.sequence >= sequence || told.failed.is_some())
        .await;
    told.unwrap().failed.is_none()
}

/// What the whole journal says, from its first batch on.
async fn from_the_start(store: &MemoryStore) -> Replay {
    let (replay, _) = read(Disk::with(store.bytes("shard-0"))).await.unwrap();
    replay
}

#[tokio::test(start_paused = true)]
async fn whoever_is_replaced_stops_at_the_next_batch() {
    let store = MemoryStore::default();
    let (_, mut first) = runner(&store).await;
    let one = first.append(&succeeded(0, 1));
    assert!(synced(&first, one).await);
    let leader = first.leader();
    leader.confirm().await.unwrap();

    let (before, mut second) = runner(&store).await;
    assert_eq!((before.settled.len(), before.epochs), (1, 2));
    // The proof is fresh enough for a while; then it is asked for, and not to be had.
    tokio::time::advance(LEADER_PROOF_AGE_MAX * 2).await;
    let error = leader.confirm().await.unwrap_err();
    assert!(matches!(*error, StateError::Replaced { .. }), "{error}");
    assert_eq!(error.exit().code(), 5);
    let lost = first.append(&succeeded(1, 1));
    assert!(!synced(&first, lost).await);
    assert!(first.close().await.is_err());

    second.leader().confirm().await.unwrap();
    let two = second.append(&succeeded(1, 1));
    assert!(synced(&second, two).await);
    second.close().await.unwrap();
    let all = from_the_start(&store).await;
    assert_eq!(
        (all.settled.len(), all.settled_twice, all.epochs),
        (2, 0, 2)
    );
}

/// The first runner sends a batch whose answer gets lost; the second takes over behind it; the first sends it again and is told that it
/// is there. That proves what was so when it was sent first, and nothing of now.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_sent_again_proves_nothing_of_now() {
    for waits_already in [false, true] {
        let store = MemoryStore::default();
        let (_, mut first) = runner(&store).await;
        let leader = first.leader();
        let begun = store.appends();
        if waits_already {
            tokio::time::advance(LEADER_PROOF_AGE_MAX * 2).await;
        }
        let back_at = tokio::time::Instant::now() + LEADER_PROOF_AGE_MAX * 2;
        store.plan(move |append| match append - begun {
            1 => Fault::AnswerLost,
            // The second runner's.
            2 => Fault::None,
            _ if tokio::time::Instant::now() < back_at => Fault::Refused,
            _ => Fault::None,
        });
        let asked = waits_already.then(|| {
            let leader = leader.clone();
            tokio::spawn(async move { leader.confirm().await })
        });
        let sequence = first.append(&succeeded(0, 1));
        tokio::time::sleep(COMMIT_INTERVAL * 3 / 2).await;
        assert_eq!(store.appends(), begun + 1);
        let (_, second) = runner(&store).await;
        synced(&first, sequence).await;
        assert_eq!(first.pending(), 0, "the batch is its own");
        assert!(tokio::time::Instant::now() >= back_at);
        let error = match asked {
            Some(asked) => asked.await.unwrap().unwrap_err(),
            None => leader.confirm().await.unwrap_err(),
        };
        assert!(matches!(*error, StateError::Replaced { .. }), "{error}");
        second.close().await.unwrap();
    }
}

/// The same of the batch with which a runner takes over.
#[tokio::test(start_paused = true)]
async fn a_take_over_that_was_sent_again_proves_nothing_of_now() {
    let store = MemoryStore::default();
    let back_at = tokio::time::Instant::now() + LEADER_PROOF_AGE_MAX * 3 / 2;
    store.plan(move |append| match append {
        1 => Fault::AnswerLost,
        2 => Fault::None,
        _ if tokio::time::Instant::now() < back_at => Fault::Refused,
        _ => Fault::None,
    });
    let first = tokio::spawn({
        let store = store.clone();
        async move { runner(&store).await }
    });
    tokio::task::yield_now().await;
    let (before, second) = runner(&store).await;
    assert_eq!(before.epochs, 2, "it came behind the first");
    let (_, first) = first.await.unwrap();
    assert!(tokio::time::Instant::now() >= back_at);
    let error = first.leader().confirm().await.unwrap_err();
    assert!(matches!(*error, StateError::Replaced { .. }), "{error}");
    second.close().await.unwrap();
}

/// A proof that is fresh enough to write is none that nobody has come since.
#[tokio::test(start_paused = true)]
async fn who_asks_for_a_new_proof_finds_out_at_once() {
    let store = MemoryStore::default();
    let (_, first) = runner(&store).await;
    let leader = first.leader();
    tokio::time::advance(Duration::from_millis(1)).await;
    leader.prove().await.unwrap();
    let (_, second) = runner(&store).await;
    tokio::time::advance(LEADER_PROOF_AGE_MAX / 2).await;
    leader.confirm().await.unwrap();
    let error = leader.prove().await.unwrap_err();
    assert!(matches!(*error, StateError::Replaced { .. }), "{error}");
    second.leader().prove().await.unwrap();
    second.close().await.unwrap();
    assert!(first.close().await.is_err());
}

/// An answer that got lost is not somebody else's batch, and what could not be sent is sent again.
#[tokio::test(start_paused = true)]
async fn a_store_that_stutters_loses_nothing() {
    let store = MemoryStore::default();
    let (_, mut writer) = runner(&store).await;
    let faults = [
        Fault::Refused,
        Fault::AnswerLost,
        Fault::Refused,
        Fault::None,
    ];
    let begun = store.appends();
    store.plan(move |append| faults[(append - begun) as usize % faults.len()]);
    for row in 0..40 {
        let sequence = writer.append(&succeeded(row, 1));
        if row % 4 == 0 {
            assert!(synced(&writer, sequence).await, "row {row}");
        }
    }
    writer.close().await.unwrap();
    let all = from_the_start(&store).await;
    assert_eq!((all.settled.len(), all.settled_twice), (40, 0));
}

/// While the state does not answer nothing is durable and everybody can see it; the bound holds.
#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_ends_the_run() {
    let store = MemoryStore::default();
    let (_, mut writer) = runner(&store).await;
    store.plan(|_| Fault::Refused);
    let began = tokio::time::Instant::now();
    let sequence = writer.append(&succeeded(0, 1));
    let mut durable = writer.durable();
    let why = durable
        .wait_for(|told| told.stalled.is_some())
        .await
        .unwrap()
        .stalled
        .clone()
        .unwrap();
    assert!(writer.is_stalled());
    // It is told while the run waits: no word of what to do once it has ended.
    assert!(!why.to_string().contains("command"), "{why}");
    assert!(!synced(&writer, sequence).await);
    let waited = began.elapsed();
    assert!(waited <= STALL && waited > STALL / 2, "{waited:?}");
    let error = writer.close().await.unwrap_err();
    assert_eq!(error.exit().code(), 1, "{error}");
    assert!(error.hint().unwrap().contains("the same command continues"));

    // Closing does not wait as long.
    let (_, mut writer) = runner(&MemoryStore::default()).await;
    let store = MemoryStore::default();
    let (_, mut stuck) = runner(&store).await;
    store.plan(|_| Fault::Refused);
    let began = tokio::time::Instant::now();
    stuck.append(&succeeded(0, 1));
    assert!(stuck.close().await.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    writer.append(&succeeded(0, 1));
    writer.close().await.unwrap();
}

/// A snapshot and the tail say what the whole journal says; without it, the journal says it alone.
#[tokio::test(start_paused = true)]
async fn a_snapshot_changes_nothing() {
    let store = MemoryStore::default();
    let rows = 5 * SNAPSHOT_BATCHES;
    for run in 0..2 {
        let (_, mut writer) = runner(&store).await;
        for row in 0..rows {
            // Runs overlap, rows come out of order, some stay open with a checkpoint.
            let row = (run * rows / 2 + row) ^ 5;
            let record = match row % 97 {
                0 => Record::Checkpoint {
                    row,
                    checkpoint: Checkpoint::Superseding {
                        version_id: format!("v{row}"),
                    },
                },
                1 => failed(row),
                _ => succeeded(row, row),
            };
            let sequence = writer.append(&record);
            if row.is_multiple_of(3) {
                assert!(synced(&writer, sequence).await);
            }
        }
        let sequence = writer.append(&Record::KeyResolved {
            arn: format!("arn:{run}"),
        });
        assert!(synced(&writer, sequence).await);
        // No close: the runner dies.
        let fault = [Fault::Dies, Fault::DiesAfter][run as usize];
        store.plan(move |_| fault);
        writer.append(&succeeded(rows * 9, 1));
        drop(writer);
        store.plan(|_| Fault::None);
    }
    let with = StateRoot::on(store.clone()).peek(ONLY).await.unwrap();
    assert!(store.forget("shard-0/snapshot"), "there was one");
    let without = StateRoot::on(store.clone()).peek(ONLY).await.unwrap();
    assert_eq!(with, without);
    let with = with.unwrap();
    assert!(with.settled_twice > 0 && !with.checkpoints.is_empty() && with.epochs == 2);
    assert_eq!(with, from_the_start(&store).await);
}

/// Batches come first: a store that does not answer to a snapshot holds them up for a moment only.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_gets_no_answer_holds_nobody_up_for_long() {
    let store = MemoryStore::default();
    let (_, mut writer) = runner(&store).await;
    store.get_stuck();
    let (mut longest, rows) = (Duration::ZERO, SNAPSHOT_BATCHES + 20);
    for row in 0..rows {
        let sent = tokio::time::Instant::now();
        let sequence = writer.append(&succeeded(row, 1));
        let written = tokio::time::timeout(STALL, synced(&writer, sequence));
        assert!(written.await.expect("it goes on"), "row {row}");
        longest = longest.max(sent.elapsed());
    }
    assert!(longest >= WRITE_TIME_MAX, "a snapshot was tried");
    assert!(longest < WRITE_TIME_MAX * 2, "{longest:?}");
    let closed = tokio::time::timeout(WRITE_TIME_MAX * 2, writer.close());
    closed.await.expect("it ends").unwrap();
    let all = from_the_start(&store).await;
    assert_eq!(all.settled.len(), rows);
}
