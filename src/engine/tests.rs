//! The loop, with tasks that send nothing: what they do is what a test says.

use std::cell::{Cell, RefCell};
use std::path::Path;

use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::journal::StateRoot;
use crate::journal::tests::writer_on_a_failing_disk;
use crate::object::Known;
use crate::outcome::{Failure, Method};
use crate::plan::Refusal;
use crate::shard::Shard;
use crate::shutdown::{self, Reason};
use crate::task::{NoNote, Notes};

const SETTINGS: Settings = Settings {
    tasks: 8,
    failure_threshold_percent: 50,
    stop_on: BTreeSet::new(),
};

const REWRITTEN: TaskOutcome = TaskOutcome::Succeeded {
    method: Method::Copy,
    bytes: 1,
};

fn entry(row: u64) -> ManifestEntry {
    ManifestEntry {
        row,
        key: format!("key-{row}"),
        version_id: None,
        known: Known::default(),
    }
}

fn superseding(version_id: &str) -> Checkpoint {
    Checkpoint::Superseding {
        version_id: version_id.to_owned(),
    }
}

/// What a run of the engine left beside its end.
#[derive(Default)]
struct Seen {
    told: RefCell<Vec<String>>,
    drained: Cell<bool>,
}

impl Seen {
    fn on(&self, event: &Event<'_>) {
        let line = match event {
            Event::Settled { key, .. } => format!("settled {key}"),
            Event::Draining { reason, .. } => format!("draining: {reason}"),
            Event::Warning { message } => format!("warning: {message}"),
            _ => return,
        };
        self.told.borrow_mut().push(line);
    }

    /// Runs the rows from 0 on that `before` has not settled.
    async fn run<T>(
        &self,
        rows: u64,
        settings: Settings,
        before: &Replay,
        journal: &mut Writer,
        task: impl Fn(Notes, ManifestEntry, Start<'_>) -> T,
    ) -> Result<End, EngineError>
    where
        T: Future<Output = Ended>,
    {
        let shutdown = shutdown::never();
        self.run_until(shutdown, rows, settings, before, journal, task)
            .await
    }

    async fn run_until<T>(
        &self,
        shutdown: Shutdown,
        rows: u64,
        settings: Settings,
        before: &Replay,
        journal: &mut Writer,
        task: impl Fn(Notes, ManifestEntry, Start<'_>) -> T,
    ) -> Result<End, EngineError>
    where
        T: Future<Output = Ended>,
    {
        let (sender, receiver) = mpsc::channel(1);
        let unsettled = (0..rows).filter(|row| !before.settled.contains(*row));
        sender.try_send(Ok(unsettled.map(entry).collect())).unwrap();
        drop(sender);
        let (notes, noted) = Notes::channel(settings.tasks);
        let job = Job {
            rewritten: &Vec::new,
            emit: &|event| self.on(&event),
            resolved_key: &|| None,
            drain: &|| self.drained.set(true),
            crowd: &|_| None,
            held_by: &|| None,
            tasks: &|| None,
            has_room: &|_| true,
        };
        let task = |entry: ManifestEntry, start: Start<'_>| {
            let running = task(notes.clone(), entry.clone(), start);
            async { (entry, running.await) }
        };
        let engine = Engine::new(job, settings, before, journal);
        engine.run(receiver, noted, shutdown, task).await
    }
}

async fn replay(state: &Path) -> Replay {
    let replay = StateRoot::dir(state).peek(Shard::ONLY).await;
    replay.unwrap().unwrap()
}

async fn open(state: &Path) -> (Replay, Writer) {
    let state = StateRoot::dir(state).take(Shard::ONLY).await.unwrap();
    state.journal("j", Duration::ZERO).await.unwrap()
}

#[tokio::test]
async fn a_note_is_on_the_disk_when_its_task_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    // Every other task ends without an outcome after its second note.
    for run in 0..2 {
        let (before, mut journal) = open(path).await;
        let left = RefCell::new(Vec::new());
        let task = |notes: Notes, entry: ManifestEntry, start: Start<'_>| {
            left.borrow_mut()
                .push((entry.row, start.doubtful, start.checkpoints.to_vec()));
            async move {
                for version in ["a", "b"] {
                    notes.leave(entry.row, superseding(version)).await.unwrap();
                    let on_disk = replay(path).await;
                    let of_row = on_disk.checkpoints_of(entry.row);
                    assert_eq!(of_row.last(), Some(&superseding(version)), "{on_disk:?}");
                }
                if run == 0 && entry.row % 2 == 1 {
                    return Ended::Unsettled(Unsettled::Drained);
                }
                Ended::Settled(REWRITTEN)
            }
        };
        let seen = Seen::default();
        let end = seen.run(20, SETTINGS, &before, &mut journal, task);
        assert!(matches!(end.await, Ok(End::Complete)));
        journal.close().await.unwrap();
        let expected: Vec<_> = match run {
            0 => (0..20).map(|row| (row, false, vec![])).collect(),
            _ => (1..20)
                .step_by(2)
                .map(|row| (row, true, ["a", "b"].map(superseding).to_vec()))
                .collect(),
        };
        assert_eq!(left.into_inner(), expected);
    }
    let all = replay(path).await;
    assert_eq!((all.settled.len(), all.checkpoints.len()), (20, 0));
}

#[tokio::test]
async fn a_note_that_did_not_reach_the_disk_is_none() {
    // The reservation gets through: its write and its sync.
    let mut journal = writer_on_a_failing_disk(2).await;
    let went_on = Cell::new(0);
    let task = |notes: Notes, entry: ManifestEntry, _: Start<'_>| {
        let went_on = &went_on;
        async move {
            let noted = notes.leave(entry.row, superseding("a")).await;
            if noted.is_ok() {
                went_on.set(went_on.get() + 1);
            }
            Ended::Settled(REWRITTEN)
        }
    };
    let before = Replay::default();
    let seen = Seen::default();
    let end = seen.run(4, SETTINGS, &before, &mut journal, task);
    assert!(matches!(end.await, Err(EngineError::State(_))));
    assert_eq!(went_on.get(), 0);
}

#[tokio::test]
async fn without_an_engine_there_is_no_note() {
    let (notes, noted) = Notes::channel(1);
    drop(noted);
    let left = notes.leave(0, superseding("a")).await;
    assert_eq!(left, Err(NoNote::Unsettled(Unsettled::Drained)));
    let too_long = notes.leave(0, superseding(&"a".repeat(2_000))).await;
    assert!(
        matches!(too_long, Err(NoNote::TooLong(failure)) if failure.code == "CheckpointTooLong")
    );
}

fn failure(code: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        http_status: 403,
        message: "why".to_owned(),
    }
}

/// A journal in a folder of its own.
async fn journal() -> (tempfile::TempDir, Replay, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let (before, journal) = open(dir.path()).await;
    (dir, before, journal)
}

#[tokio::test]
async fn an_object_that_came_back_wrong_stops_the_job_whatever_else_does() {
    let (dir, before, mut journal) = journal().await;
    let started = Cell::new(0);
    let task = |_: Notes, entry: ManifestEntry, _: Start<'_>| {
        started.set(started.get() + 1);
        async move {
            // The first in flight finds the fault of the whole store, and the second what is worse.
            match entry.row {
                10 => Ended::Unsettled(Unsettled::Fault(S3Error {
                    operation: "CopyObject",
                    code: "KMS.DisabledException".to_owned(),
                    http_status: 400,
                    message: String::new(),
                    request_id: None,
                    retry_after: None,
                })),
                11 => Ended::CameBackWrong(failure("ContentChanged")),
                _ => Ended::Settled(REWRITTEN),
            }
        }
    };
    let seen = Seen::default();
    let end = seen.run(1_000, SETTINGS, &before, &mut journal, task).await;
    let Ok(End::CameBackWrong { key, what }) = end else {
        panic!("{end:?}")
    };
    assert_eq!((key.as_str(), what.as_str()), ("key-11", "why"));
    journal.close().await.unwrap();
    let left = replay(dir.path()).await;
    assert!(left.settled.contains(11) && !left.settled.contains(10));
    assert_eq!(left.tally.failed_total(), 1);
    assert!(started.get() < 30, "{} were started", started.get());
    let told = seen.told.borrow();
    assert!(told.contains(&"settled key-11".to_owned()), "{told:?}");
    assert!(told.contains(&"draining: key-11 came back wrong".to_owned()));
    assert!(seen.drained.get());
}

#[tokio::test]
async fn rows_that_were_refused_do_not_cross_the_threshold() {
    for (refused, crossed) in [(true, false), (false, true)] {
        let (_dir, before, mut journal) = journal().await;
        let task = |_: Notes, entry: ManifestEntry, _: Start<'_>| async move {
            Ended::Settled(match entry.row {
                0..400 => TaskOutcome::Failed(failure("AccessDenied")),
                400..900 if refused => TaskOutcome::Failed(Refusal::NoVersion.to_failure()),
                // The code of the refusal, in the store's mouth.
                400..900 => TaskOutcome::Failed(failure("NoSuchVersion")),
                _ => REWRITTEN,
            })
        };
        let seen = Seen::default();
        let end = seen.run(2_000, SETTINGS, &before, &mut journal, task).await;
        match end {
            Ok(End::Complete) => assert!(!crossed),
            Ok(End::ThresholdCrossed(by)) => {
                assert!(crossed);
                assert_eq!((by.failed, by.settled, by.percent), (900, 1_000, 50));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What earlier runs have settled counts; what was refused in them does not.
#[tokio::test]
async fn the_threshold_is_the_jobs_and_not_a_runs() {
    for (refused, crossed) in [(true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let task = |_: Notes, entry: ManifestEntry, _: Start<'_>| async move {
            Ended::Settled(match entry.row {
                0..200 if refused => TaskOutcome::Failed(Refusal::NoVersion.to_failure()),
                0..600 => TaskOutcome::Failed(failure("AccessDenied")),
                _ => REWRITTEN,
            })
        };
        let mut ends = Vec::new();
        for rows in [900, 1_200] {
            let (before, mut journal) = open(dir.path()).await;
            let seen = Seen::default();
            ends.push(seen.run(rows, SETTINGS, &before, &mut journal, task).await);
            journal.close().await.unwrap();
        }
        // Below a thousand nothing is judged, whatever the share.
        assert!(matches!(ends[0], Ok(End::Complete)), "{ends:?}");
        let by = Crossed {
            failed: 600,
            settled: 1_000,
            percent: 50,
        };
        match &ends[1] {
            Ok(End::Complete) => assert!(!crossed),
            Ok(End::ThresholdCrossed(found)) => assert_eq!((crossed, found), (true, &by)),
            other => panic!("{other:?}"),
        }
        let tally = replay(dir.path()).await.tally;
        assert_eq!(tally.refused, if refused { 200 } else { 0 });
        assert_eq!(Crossed::by(&tally, 50).is_some(), crossed);
        assert_eq!(Crossed::by(&tally, 60), None);
    }
}

#[tokio::test]
async fn a_code_to_stop_on_settles_no_row_that_failed_with_it() {
    let (dir, before, mut journal) = journal().await;
    let settings = Settings {
        stop_on: ["AccessDenied", "NoSuchVersion"].map(str::to_owned).into(),
        ..SETTINGS
    };
    let task = |_: Notes, entry: ManifestEntry, _: Start<'_>| async move {
        Ended::Settled(match entry.row {
            20 => TaskOutcome::Failed(failure("AccessDenied")),
            // As it is in the report, whoever says it.
            21 => TaskOutcome::Failed(Refusal::NoVersion.to_failure()),
            19 | 22 => TaskOutcome::Failed(failure("NoSuchKey")),
            _ => REWRITTEN,
        })
    };
    let seen = Seen::default();
    let end = seen.run(1_000, settings, &before, &mut journal, task).await;
    let Ok(End::StoppedOn { key, failure }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        (key.as_str(), failure.code.as_str()),
        ("key-20", "AccessDenied")
    );
    journal.close().await.unwrap();
    let left = replay(dir.path()).await;
    let settled = |rows: &[u64]| rows.iter().all(|row| left.settled.contains(*row));
    assert!(settled(&[0, 18, 19, 22, 23]), "{left:?}");
    assert!(left.is_doubtful(20) && left.is_doubtful(21));
    assert!(left.settled.len() < 30);
    assert_eq!(left.tally.failed_total(), 2);
    assert!(seen.drained.get());
    let told = seen.told.borrow();
    assert!(told.contains(&"draining: a row failed with AccessDenied".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_the_time_to_drain_stays_in_doubt() {
    const DRAIN: Duration = Duration::from_secs(20);
    for faulty in [false, true] {
        let (dir, before, mut journal) = journal().await;
        let (ask, shutdown) = watch::channel(Urgency::None);
        let started = Cell::new(0);
        let task = |_: Notes, entry: ManifestEntry, _: Start<'_>| {
            started.set(started.get() + 1);
            if started.get() == SETTINGS.tasks {
                // All are in flight.
                let ask = ask.clone();
                tokio::spawn(async move {
                    ask.send_replace(Urgency::Drain(Reason::Signal("SIGTERM")));
                    tokio::time::sleep(DRAIN).await;
                    ask.send_replace(Urgency::Now);
                });
            }
            async move {
                match entry.row {
                    0 if faulty => Ended::CameBackWrong(failure("ContentChanged")),
                    0..4 => {
                        tokio::time::sleep(DRAIN / 2).await;
                        Ended::Settled(REWRITTEN)
                    }
                    _ => std::future::pending().await,
                }
            }
        };
        let seen = Seen::default();
        let begun = Instant::now();
        let end = seen.run_until(shutdown, 100, SETTINGS, &before, &mut journal, task);
        let end = end.await;
        assert_eq!(begun.elapsed().as_secs(), DRAIN.as_secs());
        // Whatever made it drain first, the time is the same; what must not go on does not.
        match end {
            Ok(End::Interrupted) => assert!(!faulty),
            Ok(End::CameBackWrong { .. }) => assert!(faulty),
            other => panic!("{other:?}"),
        }
        assert_eq!(started.get(), SETTINGS.tasks);
        journal.close().await.unwrap();
        let left = replay(dir.path()).await;
        let settled: Vec<_> = (0..100).filter(|row| left.settled.contains(*row)).collect();
        assert_eq!(settled, [0, 1, 2, 3]);
        assert!((4..8).all(|row| left.is_doubtful(row)));
        let told = seen.told.borrow();
        let given_up = told
            .iter()
            .find(|line| line.starts_with("warning: 4 in flight"));
        assert!(given_up.is_some(), "{told:?}");
        let why = if faulty {
            "key-0 came back wrong"
        } else {
            "SIGTERM"
        };
        assert!(told.contains(&format!("draining: {why}")), "{told:?}");
    }
}
