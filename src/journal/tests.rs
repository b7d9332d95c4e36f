//! Crash tests: the bytes that a crash would leave are rebuilt and replayed.
//!
//! The oracle is always the same: the fold of a prefix of what was appended. `Disk` is a storage that forgets what was not
//! synced and fails on request; the file system itself is tested in `dir`.

use std::io;
use std::sync::{Arc, Mutex};

use std::time::Duration;

use proptest::prelude::*;

use super::dir::FileLog;
use super::frame::{self, Frames};
use super::memory::MemoryStore;
use super::outcomes::Outcomes;
use super::record::{self, Record};
use super::replay::Replay;
use super::state::fold_rest;
use super::storage::Storage;
use super::store::{Log, Mark};
use super::writer::{Committer, Proof, Writer};
use super::{FRAME_BYTES_MAX, StateError, WINDOW_ROWS_MAX};
use crate::checkpoint::{Checkpoint, VERSIONS_BYTES_MAX, VERSIONS_MAX};
use crate::event::Limit;
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};

mod runners;
mod writing;

const JOB: &str = "job-1";

/// What a disk holds, and when it fails.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    bytes: Vec<u8>,
    synced: usize,
    /// Verbs that still succeed; `None`: all.
    good_verbs: Option<usize>,
    /// How much of the append that fails gets through.
    partial: usize,
    kind: Option<io::ErrorKind>,
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Self {
        let synced = bytes.len();
        Self(Arc::new(Mutex::new(DiskState {
            bytes,
            synced,
            ..DiskState::default()
        })))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    /// What is left after a power failure that lets `unsynced` bytes through of those not synced.
    fn after_crash(&self, unsynced: usize) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let kept = state.bytes.len().min(state.synced + unsynced);
        state.bytes[..kept].to_vec()
    }

    fn fail_after(&self, good_verbs: usize, partial: usize, kind: io::ErrorKind) {
        let mut state = self.0.lock().unwrap();
        state.good_verbs = Some(good_verbs);
        state.partial = partial;
        state.kind = Some(kind);
    }
}

impl DiskState {
    fn verb(&mut self) -> io::Result<()> {
        match &mut self.good_verbs {
            Some(0) => Err(self.kind.unwrap_or(io::ErrorKind::Other).into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Storage for Disk {
    fn place(&self) -> &str {
        "disk"
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.0.lock().unwrap();
        let from = state.bytes.len().min(offset as usize);
        let read = buffer.len().min(state.bytes.len() - from);
        buffer[..read].copy_from_slice(&state.bytes[from..from + read]);
        Ok(read)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let done = state.verb();
        let through = match done {
            Ok(()) => bytes.len(),
            Err(_) => bytes.len().min(state.partial),
        };
        state.bytes.extend_from_slice(&bytes[..through]);
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.verb()?;
        state.synced = state.bytes.len();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.verb()?;
        state.bytes.truncate(len as usize);
        state.synced = state.synced.min(len as usize);
        Ok(())
    }
}

fn succeeded(row: u64, bytes: u64) -> Record {
    let method = Method::Copy;
    let outcome = TaskOutcome::Succeeded { method, bytes };
    Record::Settled { row, outcome }
}

fn failed(row: u64) -> Record {
    let outcome = TaskOutcome::Failed(Failure {
        code: "AccessDenied".to_owned(),
        http_status: 403,
        message: format!("row {row}: Zugriff verweigert – не разрешено"),
    });
    Record::Settled { row, outcome }
}

fn outcome() -> impl Strategy<Value = TaskOutcome> {
    prop_oneof![
        3 => prop_oneof![Just(0_u64), 0..5_000_000_000_u64, Just(u64::MAX)]
            .prop_map(|bytes| TaskOutcome::Succeeded { method: Method::Copy, bytes: bytes >> 8 }),
        1 => prop::sample::select(SkipReason::ALL.to_vec()).prop_map(TaskOutcome::Skipped),
        1 => ("[A-Za-z]{0,12}", any::<u16>(), "\\PC{0,20}").prop_map(|(code, http_status, message)| {
            TaskOutcome::Failed(Failure { code, http_status, message })
        }),
    ]
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let versions = prop::collection::vec("[A-Za-z0-9._]{1,32}|null", 0..6);
    prop_oneof![
        ("\\PC{0,40}", "\"[0-9a-f-]{0,36}\"", any::<u64>()).prop_map(|(upload_id, etag, sent)| {
            Checkpoint::Upload {
                upload_id,
                etag,
                sent,
            }
        }),
        versions.prop_map(|versions| Checkpoint::Restack { versions }),
        "[A-Za-z0-9._]{1,32}|null".prop_map(|version_id| Checkpoint::Superseding { version_id }),
        "[A-Za-z0-9._]{1,32}|null".prop_map(|version_id| Checkpoint::Updating { version_id }),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    let row = prop_oneof![8 => 0_u64..40, 1 => any::<u64>()];
    prop_oneof![
        3 => (0_u64..40, checkpoint()).prop_map(|(row, checkpoint)| Record::Checkpoint { row, checkpoint }),
        8 => (row, outcome()).prop_map(|(row, outcome)| Record::Settled { row, outcome }),
        1 => any::<u64>().prop_map(|up_to| Record::Reserved { up_to }),
        1 => any::<u64>().prop_map(|runner| Record::Epoch { runner }),
        1 => prop::option::of(prop::sample::select(Limit::ALL.to_vec()))
            .prop_map(|limit| Record::LimitedBy { limit }),
        2 => (0_u64..40, crate::evidence::any::rewritten())
            .prop_map(|(row, rewritten)| Record::Rewritten { row, rewritten: Box::new(rewritten) }),
        1 => "arn:aws:kms:[a-z0-9:/-]{1,20}".prop_map(|arn| Record::KeyResolved { arn }),
    ]
}

/// Batches of records: what the writer would have put into one frame each.
fn batches() -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(any_record(), 1..5), 1..6)
}

fn payload_of(batch: &[Record]) -> Vec<u8> {
    let (mut row_before, mut payload) = (0, Vec::new());
    for record in batch {
        record::encode(record, &mut row_before, &mut payload);
    }
    payload
}

/// A journal, and where its header and each of its frames end.
fn journal_of(batches: &[Vec<Record>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::header(JOB);
    let seed = u32::from_le_bytes(*bytes.last_chunk().unwrap());
    let mut ends = vec![bytes.len()];
    for (batch, number) in batches.iter().zip(1..) {
        bytes.extend(frame::frame(seed, number, &payload_of(batch)));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// A runtime for one test: what waits for the disk, waits on its threads.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(work)
}

async fn read(disk: Disk) -> Result<(Replay, FileLog), StateError> {
    let mut log = FileLog::open(Box::new(disk))?;
    let mut replay = Replay {
        job_id: log.job_id().to_owned(),
        ..Replay::default()
    };
    fold_rest(&mut log, &mut replay).await?;
    Ok((replay, log))
}

fn replayed(bytes: &[u8]) -> Result<Replay, StateError> {
    block_on(read(Disk::with(bytes.to_vec()))).map(|(replay, _)| replay)
}

/// What the records alone decide.
fn essence(mut replay: Replay) -> Replay {
    (replay.mark, replay.torn_bytes) = (Mark::default(), 0);
    replay
}

fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Replay {
    let mut replay = Replay {
        job_id: JOB.to_owned(),
        ..Replay::default()
    };
    records.into_iter().for_each(|record| replay.apply(record));
    replay
}

/// Nobody takes the journal over here: what is in it is what is appended.
async fn start_writer(disk: &Disk) -> Result<Writer, StateError> {
    let (fold, mut log) = read(disk.clone()).await?;
    log.recover().await?;
    Ok(Writer::start(Committer {
        log: Box::new(log),
        store: Arc::new(MemoryStore::default()),
        folder: "shard-0".to_owned(),
        epoch: Record::Epoch { runner: 1 },
        proven: Proof::now(),
        snapshot: fold.mark,
        fold,
        max_stall: Duration::ZERO,
        _hold: Arc::new(()),
    }))
}

/// A writer of an empty journal on a disk that fails after so many writes and syncs.
pub(crate) async fn writer_on_a_failing_disk(good_verbs: usize) -> Writer {
    let disk = Disk::with(frame::header(JOB));
    let writer = start_writer(&disk).await.unwrap();
    disk.fail_after(good_verbs, 0, io::ErrorKind::Other);
    writer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Cut off anywhere: exactly the whole frames are left, or the header is not whole and it is refused.
    #[test]
    fn cut_at_any_byte(batches in batches()) {
        let (bytes, ends) = journal_of(&batches);
        for cut in 0..=bytes.len() {
            let result = replayed(&bytes[..cut]);
            let Some(whole) = ends.iter().rposition(|&end| end <= cut) else {
                prop_assert!(matches!(result, Err(StateError::Damaged { .. })), "cut at {}", cut);
                continue;
            };
            let replay = result.unwrap();
            prop_assert_eq!(replay.mark.batches, whole as u64);
            prop_assert_eq!(replay.torn_bytes, (cut - ends[whole]) as u64);
            prop_assert_eq!(essence(replay), fold(batches[..whole].iter().flatten()), "cut at {}", cut);
        }
    }

    /// Any bit flipped: in the last frame it may be taken for a torn write, anywhere else it is refused.
    #[test]
    fn any_bit_flipped(batches in batches()) {
        let (mut bytes, ends) = journal_of(&batches);
        let last = batches.len() - 1;
        let without_last = fold(batches[..last].iter().flatten());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match replayed(&bytes) {
                Ok(replay) => {
                    prop_assert!(bit / 8 >= ends[last], "bit {} is not in the last frame", bit);
                    prop_assert_eq!(essence(replay), without_last.clone(), "bit {}", bit);
                }
                Err(error) => prop_assert!(matches!(error, StateError::Damaged { .. }), "bit {}: {}", bit, error),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// A torn write leaves anything: garbage, zeros, holes. What was synced before stands, and writing goes on after it.
    #[test]
    fn any_torn_tail_is_cut_and_written_over(
        batches in batches(), more in prop::collection::vec(any_record(), 1..5), garbage in prop::collection::vec(any::<u8>(), 0..400),
        zeros in 0_usize..100,
    ) {
        let (mut bytes, _) = journal_of(&batches);
        bytes.extend(garbage);
        bytes.resize(bytes.len() + zeros, 0);
        let disk = Disk::with(bytes);
        block_on(async {
            let mut writer = start_writer(&disk).await.unwrap();
            for record in &more {
                writer.append(record);
            }
            writer.close().await.unwrap();
        });
        let replay = replayed(&disk.after_crash(0)).unwrap();
        prop_assert_eq!(replay.torn_bytes, 0);
        prop_assert_eq!(essence(replay), fold(batches.iter().flatten().chain(&more)));
    }

    /// Outcomes by row are the first that the journal has for each, in whatever order and batches they settled.
    #[test]
    fn outcomes_equal_a_map(batches in batches(), asked in prop::collection::btree_set(0_u64..45, 0..45), tail in 0_usize..9) {
        let beyond = |record: &Record| matches!(record, Record::Settled { row, .. } if *row >= WINDOW_ROWS_MAX);
        let batches: Vec<Vec<Record>> = batches
            .into_iter()
            .map(|batch| batch.into_iter().filter(|record| !beyond(record)).collect())
            .filter(|batch: &Vec<Record>| !batch.is_empty())
            .collect();
        let mut first = std::collections::BTreeMap::new();
        for record in batches.iter().flatten() {
            if let Record::Settled { row, outcome } = record {
                first.entry(*row).or_insert_with(|| outcome.clone());
            }
        }
        let (mut bytes, _) = journal_of(&batches);
        bytes.resize(bytes.len() + tail, 0xA5);
        let mut outcomes = Outcomes::read(Box::new(Disk::with(bytes)), JOB, Mark::default()).unwrap();
        for row in asked {
            prop_assert_eq!(outcomes.of(row).unwrap(), first.get(&row).cloned(), "row {}", row);
        }
    }

    /// Everything reported durable survives whatever a crash keeps of the rest, and a disk that fails at any verb.
    #[test]
    fn what_was_acknowledged_survives(
        records in prop::collection::vec(any_record(), 1..40), good_verbs in 1_usize..6, partial in 0_usize..200, unsynced in 0_usize..200,
    ) {
        let disk = Disk::with(frame::header(JOB));
        let (closed, told) = block_on(async {
            let mut writer = start_writer(&disk).await.unwrap();
            disk.fail_after(good_verbs, partial, io::ErrorKind::Other);
            let mut durable = writer.durable();
            for (record, sequence) in records.iter().zip(1_u64..) {
                assert_eq!(writer.append(record), sequence);
                // Now and then wait, so that there are several frames.
                if sequence % 16 == 0 {
                    let reached = durable.wait_for(|told| told.sequence >= sequence || told.failed.is_some());
                    assert!(reached.await.is_ok());
                }
            }
            let closed = writer.close().await;
            let told = durable.borrow().clone();
            (closed, told)
        });
        prop_assert_eq!(closed.is_ok(), told.failed.is_none());
        prop_assert_eq!(closed.is_ok(), told.sequence == records.len() as u64);

        let left = essence(replayed(&disk.after_crash(unsynced)).unwrap());
        let acknowledged = usize::try_from(told.sequence).unwrap();
        let found = (acknowledged..=records.len()).any(|kept| left == fold(&records[..kept]));
        prop_assert!(found, "{} acknowledged, left {:?}", acknowledged, left);
    }
}

/// Row 0 settles as late as it may: the window is full, and the next row follows in the same frame.
#[test]
fn the_window_is_as_wide_as_promised_and_no_wider() {
    let rows_before: Vec<Record> = (1..WINDOW_ROWS_MAX)
        .map(|row| succeeded(row, row))
        .collect();
    let mut batches: Vec<Vec<Record>> =
        rows_before.chunks(20_000).map(<[Record]>::to_vec).collect();
    let last = batches.last_mut().unwrap();
    last.extend([
        failed(0),
        succeeded(WINDOW_ROWS_MAX, 7),
        succeeded(2 * WINDOW_ROWS_MAX, 8),
    ]);
    let (bytes, _) = journal_of(&batches);
    let mut outcomes = Outcomes::read(Box::new(Disk::with(bytes)), JOB, Mark::default()).unwrap();
    for row in 0..=WINDOW_ROWS_MAX {
        assert!(outcomes.of(row).unwrap().is_some(), "row {row}");
    }

    let last = batches.last_mut().unwrap();
    let zero = last.iter().position(|record| *record == failed(0)).unwrap();
    last.swap(zero, zero + 1);
    let (bytes, _) = journal_of(&batches);
    let mut outcomes = Outcomes::read(Box::new(Disk::with(bytes)), JOB, Mark::default()).unwrap();
    let error = outcomes.of(0).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
}

/// 256 requests at once, objects of 4 KiB to 4 GiB, a hundred rows to a frame, far into a long manifest.
#[test]
fn a_success_takes_at_most_eight_bytes() {
    let rows = 100_000_u64;
    let mut running: Vec<u64> = Vec::new();
    let mut next = 1_000_000_000;
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut records = Vec::new();
    for _ in 0..rows {
        while running.len() < 256 {
            running.push(next);
            next += 1;
        }
        let row = running.swap_remove(random(256) as usize);
        records.push(succeeded(row, 4096 << random(20)));
    }
    let batches: Vec<Vec<Record>> = records.chunks(100).map(<[Record]>::to_vec).collect();
    let (bytes, ends) = journal_of(&batches);
    let per_row = (bytes.len() - ends[0]) as f64 / rows as f64;
    assert!(per_row <= 8.0, "{per_row} bytes");
}

#[test]
fn damage_before_a_good_frame_is_refused_with_its_place() {
    let batches: Vec<Vec<Record>> = (0..3).map(|row| vec![succeeded(row, 1)]).collect();
    let (bytes, ends) = journal_of(&batches);
    // A frame is missing: the numbers have a gap.
    let gap = [&bytes[..ends[1]], &bytes[ends[2]..]].concat();
    // A frame is there twice.
    let twice = [&bytes[..ends[2]], &bytes[ends[1]..]].concat();
    // More than one write can have left torn.
    let mut long = bytes.clone();
    long.resize(ends[3] + FRAME_BYTES_MAX + 1, 0);
    for (what, bytes, at) in [
        ("gap", gap, ends[1]),
        ("twice", twice, ends[2]),
        ("long", long, ends[3]),
    ] {
        let error = replayed(&bytes).unwrap_err();
        assert!(
            matches!(error, StateError::Damaged { offset, .. } if offset == at as u64),
            "{what}: {error}"
        );
        assert_eq!(error.exit().code(), 5);
    }
    // A frame of another job's journal does not count as one.
    let other = frame::header("job-2");
    let seed = u32::from_le_bytes(*other.last_chunk().unwrap());
    let foreign = [
        bytes.clone(),
        frame::frame(seed, 4, &payload_of(&[succeeded(9, 1)])),
    ]
    .concat();
    assert_eq!(replayed(&foreign).unwrap().settled.len(), 3);
}

#[test]
fn a_newer_version_is_named() {
    let header = frame::header(JOB);
    let seed = u32::from_le_bytes(*header.last_chunk().unwrap());
    for tag in [0x00, 0x05, 0x1f, 0x3f, 0x41, 0x4f, 0x54, 0xff] {
        let bytes = [
            header.clone(),
            frame::frame(seed, 1, &[0x01, 0x05, tag, 0x00]),
        ]
        .concat();
        let error = replayed(&bytes).unwrap_err();
        let at = bytes.len() as u64 - 2;
        assert!(
            matches!(error, StateError::Newer { offset, .. } if offset == at),
            "{tag:#x}: {error}"
        );
        assert_eq!(error.exit().code(), 5);
    }
    let mut newer = header[..header.len() - 4].to_vec();
    newer[8] = 2;
    newer.extend(crc32fast::hash(&newer).to_le_bytes());
    assert!(matches!(
        replayed(&newer),
        Err(StateError::Newer { offset: 8, .. })
    ));
}

#[test]
fn a_row_settles_once() {
    let twice = vec![
        vec![succeeded(3, 10), failed(3)],
        vec![succeeded(3, 20), Record::Reserved { up_to: 9 }],
    ];
    let (bytes, _) = journal_of(&twice);
    let replay = replayed(&bytes).unwrap();
    assert_eq!(
        (
            replay.tally.settled(),
            replay.tally.bytes,
            replay.settled_twice
        ),
        (1, 10, 2)
    );
    assert!(replay.is_doubtful(8) && !replay.is_doubtful(3) && !replay.is_doubtful(9));
}

/// A row's checkpoints are there, oldest first, until it settles.
#[test]
fn checkpoints_are_kept_until_their_row_settles() {
    let superseding = |version_id: &str| Checkpoint::Superseding {
        version_id: version_id.to_owned(),
    };
    let note = |row, version: &str| Record::Checkpoint {
        row,
        checkpoint: superseding(version),
    };
    let batches = [
        vec![note(3, "a"), note(9, "x"), note(3, "b")],
        vec![note(3, "a"), succeeded(9, 1), note(9, "late")],
    ];
    let (bytes, _) = journal_of(&batches);
    let replay = replayed(&bytes).unwrap();
    assert_eq!(
        replay.checkpoints_of(3),
        ["a", "b", "a"].map(superseding),
        "in the order in which they were left"
    );
    assert_eq!(replay.checkpoints_of(9), []);
    assert_eq!(replay.checkpoints.len(), 1, "{replay:?}");
}

/// The file format, byte by byte: a journal that an earlier reseal wrote must stay readable.
#[test]
fn the_format_is_pinned() {
    let skipped = Record::Settled {
        row: 5,
        outcome: TaskOutcome::Skipped(SkipReason::DeleteMarker),
    };
    let arn = "arn:k".to_owned();
    let batch = vec![
        Record::Reserved { up_to: 300 },
        Record::KeyResolved { arn },
        succeeded(7, 128),
        skipped,
        failed(6),
    ];
    let (bytes, _) = journal_of(&[batch]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        // Magic, version, job id, CRC.
        "52455345414c4a00",
        "0100",
        "05006a6f622d31",
        "3aa4abf7",
        // Length, number, CRC.
        "57000000",
        "0100000000000000",
        "82b3f698",
        // Reserved, resolved, succeeded, skipped, failed.
        "01ac02",
        "020561726e3a6b",
        "100e8001",
        "2203",
        "400293030c41636365737344656e696564",
        "35726f7720363a205a756772696666207665727765696765727420e2809320",
        "d0bdd0b520d180d0b0d0b7d180d0b5d188d0b5d0bdd0be",
    ];
    assert_eq!(hex, parts.concat());
}

/// A frame reader never sees more than there was when it began.
#[test]
fn what_is_appended_while_reading_is_not_looked_at() {
    // More than is read at a time. The last frame but one is half written when reading begins, and whole with another
    // behind it when reading gets there.
    let rows: Vec<Record> = (0..10_000).map(failed).collect();
    let batches: Vec<Vec<Record>> = rows.chunks(1_000).map(<[Record]>::to_vec).collect();
    let (bytes, ends) = journal_of(&batches);
    assert!(ends[8] > 2 * FRAME_BYTES_MAX);
    let disk = Disk::with(bytes[..ends[9] - 3].to_vec());
    let mut frames = Frames::open(Box::new(disk.clone())).unwrap();
    disk.0.lock().unwrap().bytes = bytes;
    while frames.next().unwrap().is_some() {}
    assert_eq!((frames.count(), frames.offset()), (8, ends[8] as u64));
}

/// A journal is opened, its runner writes on and makes a snapshot of that, and then the snapshot is read: it goes further than the
/// journal did, and no further than it does.
#[test]
fn a_snapshot_may_be_younger_than_the_reader() {
    let batches: Vec<Vec<Record>> = (0..4).map(|row| vec![succeeded(row, 1)]).collect();
    let (bytes, ends) = journal_of(&batches);
    let mark = |batches: usize| Mark {
        batches: batches as u64,
        bytes: ends[batches] as u64,
    };
    let disk = Disk::with(bytes[..ends[1]].to_vec());
    let mut frames = Frames::open(Box::new(disk.clone())).unwrap();
    disk.0.lock().unwrap().bytes = bytes[..ends[4] - 1].to_vec();
    frames.skip_to(mark(2)).unwrap();
    while frames.next().unwrap().is_some() {}
    assert_eq!((frames.count(), frames.offset()), (3, ends[3] as u64));

    let mut frames = Frames::open(Box::new(disk)).unwrap();
    let error = frames.skip_to(mark(4)).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
}
