//! A state of which something is gone or can't be read any more: what is said of it, and with which exit code.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::versioned::Versioned;
use crate::support::{Job, Run, csv_of, finish, send};

const KEYS: usize = 60;

/// A job that was stopped late, whose journal is damaged before the snapshot: whoever goes on does not read so far back.
async fn damaged_before_its_snapshot(setup: &Versioned) -> Job {
    let job = setup.job().args("--rate 20 --concurrency 4");
    let mut keys = setup.keys.clone();
    keys.push("gone".to_owned());
    job.write_manifest(&csv_of(&keys));
    let stopped = job.command().spawn().expect("it starts");
    setup.wait_for_copies(KEYS / 2);
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
