//! A state that is not what was written: cut off, or a bit of it turned. A run either goes on rightly or refuses.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::support::chance::{self, long, seed};
use crate::support::versioned::Versioned;
use crate::support::{BUCKET, Run, objects};

/// The end of each file that is cut off byte by byte.
const TAIL_BYTES: u64 = 1024;

/// One thing that happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// So many bytes are left.
    CutTo(u64),
    /// A bit is turned.
    Flip(u64),
}

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).expect("a file");
        match self {
            Self::CutTo(len) => bytes.truncate(len as usize),
            Self::Flip(bit) => bytes[(bit / 8) as usize] ^= 1 << (bit % 8),
        }
        fs::write(path, bytes).expect("written");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if fs::metadata(&path).expect("metadata").len() > 0 {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy_all(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(&file, &target).expect("copied");
    }
}

/// Every byte of the tails and a flip in every byte, or a few of each.
fn damages(path: &Path, rng: &mut SmallRng) -> Vec<Damage> {
    let len = fs::metadata(path).expect("metadata").len();
    let tail = len.saturating_sub(TAIL_BYTES)..len;
    if long() {
        let flips = (0..len).map(|byte| Damage::Flip(byte * 8 + rng.random_range(0..8)));
        return tail.map(Damage::CutTo).chain(flips).collect();
    }
    // The first leaves a journal with a torn tail, and any other file damaged: whatever chance brings, some go on.
    let mut damages = vec![
        Damage::CutTo(len - 1),
        Damage::CutTo(rng.random_range(tail)),
    ];
    damages.extend((0..2).map(|_| Damage::Flip(rng.random_range(0..len * 8))));
    damages
}

#[tokio::test]
async fn a_damaged_state_is_gone_on_with_rightly_or_refused() {
    let mut rng = chance::rng(seed());
    let setup = Versioned::with_objects(120).await;
    // Killed in the middle, with something on its way; then stopped once more, so that there is more than one epoch.
    let job = setup.job().args("--rate 100");
    for copies in [20, 50] {
        let mut child = job.command().spawn().expect("it starts");
        setup.wait_for_copies(copies);
        child.kill().expect("killed");
        child.wait().expect("dead");
    }
    // What was on its way may still be done: no run that refuses is to blame for it.
    setup.wait_until_quiet();
    let kept = job.path("kept");
    copy_all(&job.state(), &kept);
    let (mut went_on, mut refused) = (0, 0);
    for file in files_below(&kept) {
        let name = file.strip_prefix(&kept).expect("below");
        for damage in damages(&file, &mut rng) {
            copy_all(&kept, &job.state());
            damage.apply(&job.state().join(name));
            let copied = setup.copied();
            let run = job.run();
            match run.status.code() {
                Some(0) => went_on += 1,
                Some(5) => {
                    refused += 1;
                    assert_eq!(setup.copied(), copied, "{name:?} {damage:?}");
                }
                _ => panic!("{name:?} {damage:?}: {run:?}"),
            }
        }
    }
    assert!(
        went_on > 0 && refused > 0,
        "{went_on} went on, {refused} were refused"
    );
    copy_all(&kept, &job.state());
    job.run().expect(0);
    setup.assert_complete(&job).await;
}

/// Rows that name their versions, and a journal of which nothing is left but its header: what was rewritten is known again as ours, and
/// not taken for somebody else's newer version.
#[tokio::test]
async fn a_lost_reservation_makes_no_version_noncurrent() {
    let setup = Versioned::with_objects(60).await;
    let job = setup.job().args("--rate 100");
    let mut manifest = String::new();
    for key in &setup.keys {
        let head = objects::head(&setup.store.client, key, None).await;
        let version = head.version_id.expect("a version");
        writeln!(manifest, "{BUCKET},{key},{version}").expect("to memory");
    }
    job.write_manifest(&manifest);
    let mut child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(20);
    child.kill().expect("killed");
    child.wait().expect("dead");
    setup.wait_until_quiet();
    let copied = setup.copied() as u64;
    // Magic, version, length, an id of 32 digits, CRC.
    Damage::CutTo(8 + 2 + 2 + 32 + 4).apply(&job.state().join("shard-0/journal"));
    let run = job.run().expect(0);
    assert_eq!(run.summary()["skips"]["done-before-interruption"], copied);
    setup.assert_complete(&job).await;
}

/// A restack is killed after the first of its copies, which is the current version then. With what it left word of it is gone on
/// with. Without, nobody can tell that it is not somebody's new version: it is left alone, also by another job.
#[tokio::test]
async fn a_lost_checkpoint_makes_no_old_version_the_current_one() {
    let setup = Versioned::with_objects(1).await;
    let (client, key) = (&setup.store.client, &setup.keys[0]);
    objects::put_plain(client, key, b"the current one").await;
    let restack = || {
        setup
            .job()
            .args("--rate 1 --versions restack --method copy")
    };
    let job = restack();
    let mut child = job.command().spawn().expect("it starts");
    setup.wait_for_copies(1);
    child.kill().expect("killed");
    child.wait().expect("dead");
    setup.wait_until_quiet();
    let kept = job.path("kept");
    copy_all(&job.state(), &kept);
    assert_eq!(setup.versions().await[key], 3);
    // Magic, version, length, an id of 32 digits, CRC.
    Damage::CutTo(8 + 2 + 2 + 32 + 4).apply(&job.state().join("shard-0/journal"));
    for job in [&job, &restack()] {
        job.run().expect(3);
        assert_eq!(setup.versions().await[key], 3);
        let report = job.report();
        assert_eq!(report[0].code, "RestackInterrupted", "{report:?}");
    }
    copy_all(&kept, &job.state());
    job.run().expect(0);
    assert_eq!(setup.versions().await[key], 4);
    let read = objects::read(client, key, None).await;
    assert_eq!(read.as_deref(), Ok(&b"the current one"[..]));
}

/// Every row is settled, and the journals lack outcomes: whoever looks takes the snapshots' word, and no report may leave rows out.
#[tokio::test]
async fn a_journal_that_ends_before_its_snapshot_gives_no_report() {
    let setup = Versioned::with_objects(120).await;
    // So many batches that a snapshot is made at the end.
    let job = setup.job().args("--shards 2 --rate 80");
    let shard = |index: &str| {
        let mut command = job.command();
        command.args(["--shard", index]);
        Run::of(command.output().expect("it starts"))
    };
    shard("0").expect(0);
    assert!(job.state().join("shard-0/snapshot").exists());
    let journal = job.state().join("shard-0/journal");
    let whole = fs::read(&journal).expect("a journal");
    let len = whole.len() as u64;
    // The last frame ends with an outcome's record.
    Damage::Flip(len * 8 - 4).apply(&journal);
    let last = shard("1").expect(5);
    last.says(&["shard-0/journal", "a snapshot counts"]);
    let is_report = |path: &PathBuf| path.ends_with("manifest.json");
    assert!(!files_below(&job.path("report")).iter().any(is_report));
    let report = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reseal"));
        command.args(["report", "--state", "state", "--output", "json"]);
        job.prepare(&mut command);
        Run::of(command.output().expect("it starts"))
    };
    report().expect(5).says(&["a snapshot counts"]);
    Damage::CutTo(len - 1).apply(&journal);
    report().expect(5);

    fs::write(&journal, whole).expect("written");
    shard("1").expect(0);
    setup.assert_complete(&job).await;
}

/// A run that is killed while it prepares leaves its scratch folder: the next one that has the state to itself removes it.
#[tokio::test]
async fn what_was_left_of_preparing_is_removed() {
    let setup = Versioned::with_objects(1).await;
    let job = setup.job();
    let left = job.state().join("shard-0/.preparing-left");
    job.write("state/shard-0/.preparing-left/manifest/part-000000", "half");
    job.run().expect(0);
    assert!(!left.exists());
}
