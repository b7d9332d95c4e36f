//! The writer on a disk: what it reports, and what is left when the disk fails.

use super::*;

/// A crash in the middle of a run, seen from the one who was told: while the writer works, whatever has been reported is on
/// the disk, synced.
#[tokio::test]
async fn nothing_is_reported_before_it_is_synced() {
    let disk = Disk::with(frame::header(JOB));
    let mut writer = start_writer(&disk).await.unwrap();
    let records: Vec<Record> = (0..4_000).map(|row| succeeded(row, 1 << 20)).collect();
    let mut durable = writer.durable();
    for batch in records.chunks(1_000) {
        let last = batch
            .iter()
            .map(|record| writer.append(record))
            .last()
            .unwrap();
        let told = durable
            .wait_for(|told| told.sequence > last - 1_000)
            .await
            .unwrap()
            .sequence;
        let survived = read(Disk::with(disk.after_crash(0)))
            .await
            .unwrap()
            .0
            .settled
            .len();
        assert!(
            survived >= told,
            "{told} were reported, {survived} survived"
        );
    }
    writer.close().await.unwrap();
    let (survived, _) = read(Disk::with(disk.after_crash(0))).await.unwrap();
    assert_eq!(survived.settled.len(), 4_000);
}

/// What a killed process wrote can be read and need not be on the disk; the next run must not build on it before it is.
#[tokio::test]
async fn what_is_found_is_synced_before_it_is_trusted() {
    let survived = async |disk: &Disk| {
        let (replay, _) = read(Disk::with(disk.after_crash(0))).await.unwrap();
        replay.settled.len()
    };
    let disk = Disk::with(frame::header(JOB));
    let (whole, _) = journal_of(&[vec![succeeded(0, 1)]]);
    disk.0.lock().unwrap().bytes = whole;
    assert_eq!(survived(&disk).await, 0);
    let mut writer = start_writer(&disk).await.unwrap();
    assert_eq!(survived(&disk).await, 1);
    // A writer that is dropped writes what it has.
    writer.append(&succeeded(1, 1));
    let mut durable = writer.durable();
    drop(writer);
    durable.wait_for(|told| told.sequence == 1).await.unwrap();
    assert_eq!(survived(&disk).await, 2);
    // And a disk that can't sync is found out at once.
    disk.fail_after(0, 0, io::ErrorKind::Other);
    assert!(matches!(
        start_writer(&disk).await,
        Err(StateError::Io {
            action: "recover",
            ..
        })
    ));
}

#[tokio::test]
async fn after_a_failure_nothing_more_is_durable() {
    let disk = Disk::with(frame::header(JOB));
    let mut writer = start_writer(&disk).await.unwrap();
    let mut durable = writer.durable();
    writer.append(&succeeded(0, 1));
    durable.wait_for(|told| told.sequence == 1).await.unwrap();

    // One sync fails; the disk is well again at once, which must not help.
    disk.fail_after(0, 5, io::ErrorKind::StorageFull);
    writer.append(&succeeded(1, 1));
    let failed = durable.wait_for(|told| told.failed.is_some()).await;
    let told = failed.unwrap().clone();
    disk.0.lock().unwrap().good_verbs = None;
    writer.append(&succeeded(2, 1));
    assert_eq!((told.sequence, writer.pending()), (1, 2));

    let error = writer.close().await.unwrap_err();
    assert!(matches!(error, StateError::Full { .. }));
    assert!(
        error.to_string().contains("same command continues"),
        "{error}"
    );
    let (left, _) = read(Disk::with(disk.bytes())).await.unwrap();
    assert_eq!((left.settled.len(), left.torn_bytes), (1, 5));
}

#[tokio::test]
async fn a_burst_larger_than_a_frame_is_split() {
    let disk = Disk::with(frame::header(JOB));
    let mut writer = start_writer(&disk).await.unwrap();
    for row in 0..10_000 {
        writer.append(&failed(row));
    }
    writer.close().await.unwrap();
    let (replay, _) = read(disk.clone()).await.unwrap();
    assert_eq!(replay.tally.failed["AccessDenied"], 10_000);
    assert!(
        replay.mark.bytes > 2 * FRAME_BYTES_MAX as u64 && replay.mark.batches > 2,
        "{replay:?}"
    );
    // And it is read back in any order, from the file, failures and all.
    let mut outcomes = Outcomes::read(Box::new(disk), JOB, Mark::default()).unwrap();
    for row in [0, 7_000, 9_999] {
        let Record::Settled { outcome, .. } = failed(row) else {
            unreachable!()
        };
        assert_eq!(outcomes.of(row).unwrap(), Some(outcome));
    }
}

/// The longest checkpoints, behind a batch that is as full as one gets before it is written.
#[tokio::test]
async fn the_longest_checkpoints_fit_into_frames() {
    let disk = Disk::with(frame::header(JOB));
    let mut writer = start_writer(&disk).await.unwrap();
    let longest = Checkpoint::Restack {
        versions: vec!["v".repeat(VERSIONS_BYTES_MAX / VERSIONS_MAX); VERSIONS_MAX],
    };
    for row in 0..3_000 {
        writer.append(&failed(row));
        if row % 100 == 0 {
            let (row, checkpoint) = (1_000_000 + row, longest.clone());
            writer.append(&Record::Checkpoint { row, checkpoint });
        }
    }
    writer.close().await.unwrap();
    let (replay, _) = read(disk.clone()).await.unwrap();
    assert_eq!(
        (replay.settled.len(), replay.checkpoints.len()),
        (3_000, 30)
    );
    assert_eq!(replay.checkpoints_of(1_002_900), [longest]);
    // And a report is none the wiser.
    let mut outcomes = Outcomes::read(Box::new(disk), JOB, Mark::default()).unwrap();
    assert!(outcomes.of(2_999).unwrap().is_some() && outcomes.of(1_000_000).unwrap().is_none());
}
