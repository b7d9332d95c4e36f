//! What must hold when all is over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ledger::Begun;
use super::scenario::BUCKET;
use super::wire::By;
use super::world::{World, open_contents};
use crate::bucket::Versioning;
use crate::encryption::{CustomerKey, Encryption};
use crate::evidence::Left;
use crate::local_s3::in_process::Stored;
use crate::object::ObjectRef;
use crate::outcome::{Method, TaskOutcome};
use crate::plan::Versions;
use crate::s3::unpaced;

/// Holds journal and store against each other and against what was put; everything that is wrong is in the ledger then.
pub async fn judge(world: &Arc<World>) {
    let (settled_twice, outcomes, rewritten) = world.book.look(|durable| {
        (
            durable.replay.settled_twice,
            durable.outcomes.clone(),
            durable.rewritten.clone(),
        )
    });
    let mut wrongs = Vec::new();
    if settled_twice > 0 {
        wrongs.push(format!("{} records settle a row twice", settled_twice));
    }
    for (row, thing) in (0..).zip(&world.scenario.things) {
        let versions = world.door.versions(BUCKET, &thing.key);
        let Some(outcome) = outcomes.get(&row) else {
            wrongs.push(format!("row {row} has no outcome"));
            continue;
        };
        if let Err(why) = is_true(world, &thing.key, outcome, &versions) {
            wrongs.push(format!(
                "{} is {outcome:?}, but {why}: {versions:?}",
                thing.key
            ));
        }
        if let Err(why) = has_evidence(world, row, outcome, &versions, &rewritten) {
            wrongs.push(format!(
                "{} is {outcome:?}, but {why}: {rewritten:?} {versions:?}",
                thing.key
            ));
        }
        if let Err(why) = is_in_order(world, &thing.key, &versions) {
            wrongs.push(format!("{}: {why}: {versions:?}", thing.key));
        }
        for version in &versions {
            if let Err(why) = is_whole(world, &thing.key, version).await {
                wrongs.push(format!("{}: {why}: {version:?}", thing.key));
            }
        }
    }
    let (begun, completed) = {
        let ledger = world.ledger();
        (ledger.uploads.clone(), ledger.completed.clone())
    };
    let written_down = world.book.look(|durable| durable.uploads.clone());
    for (key, id) in world.door.uploads(BUCKET).expect("a bucket") {
        // One whose creation was not answered, or whose runner died or was replaced before it was written down, nobody knows.
        let is_known = |upload: &Begun| upload.id == id && completed.contains(&upload.runner);
        if written_down.contains(&id) || begun.iter().any(is_known) {
            wrongs.push(format!("{key}: upload {id} is left"));
        }
    }
    let mut ledger = world.ledger();
    for wrong in wrongs {
        ledger.wrong(By::Judge, wrong);
    }
}

/// Whether what the journal says of a row is true in the store.
fn is_true(
    world: &World,
    key: &str,
    outcome: &TaskOutcome,
    versions: &[Stored],
) -> Result<(), &'static str> {
    let target = &world.scenario.target;
    let current = versions.first().and_then(|version| version.object.as_ref());
    let satisfied = current.is_some_and(|object| target.is_satisfied_by(&object.encryption));
    let ledger = world.ledger();
    let meddled = ledger.meddled.contains(key);
    if let TaskOutcome::Succeeded {
        method: Method::Restack,
        ..
    } = outcome
    {
        return (meddled || open_contents(target, versions) == 0)
            .then_some(())
            .ok_or("a version is not under the target");
    }
    match outcome {
        TaskOutcome::Succeeded { .. } | TaskOutcome::Skipped(_) if !satisfied && !meddled => {
            Err("it is not under the target")
        }
        // A look that was refused while credentials had expired, and not when the bucket was asked why, counts as refused.
        TaskOutcome::Failed(failure)
            if world.scenario.expires()
                && (matches!(failure.http_status, 400 | 403)
                    || failure.code == "RestackInterrupted") =>
        {
            Ok(())
        }
        // What became of a rewrite is not known where the look at it has had all its attempts.
        TaskOutcome::Failed(failure)
            if failure.message.starts_with("rewritten, but")
                || failure.message.contains("gave up after") =>
        {
            Ok(())
        }
        // Where only a rewrite tells what the alias stands for, and its runner died before that was written down.
        TaskOutcome::Failed(failure)
            if world.scenario.alias.is_some() && failure.code == "RewriteUnknown" =>
        {
            Ok(())
        }
        TaskOutcome::Failed(_)
            if ledger.rewrites.get(key).is_some_and(|count| *count > 0) && !meddled =>
        {
            Err("it was rewritten")
        }
        TaskOutcome::Failed(failure) if !meddled => Err("nobody had anything against it"),
        _ => Ok(()),
    }
}

/// Whether each version that was rewritten has its evidence, and no more of it than one line.
fn has_evidence(
    world: &World,
    row: u64,
    outcome: &TaskOutcome,
    versions: &[Stored],
    rewritten: &[(u64, Left)],
) -> Result<(), &'static str> {
    let scenario = &world.scenario;
    let thing = &scenario.things[row as usize];
    let ids = rewritten.iter().filter(|(of, _)| *of == row);
    let ids: Vec<_> = ids.map(|(_, left)| left.version_id.as_deref()).collect();
    let is_told = scenario.settings.evidence
        && scenario.versioning == Versioning::Enabled
        && !matches!(outcome, TaskOutcome::Failed(_))
        && !world.ledger().meddled.contains(&thing.key);
    // Who is under the target from the start was not rewritten; and under which an alias stands, perhaps for nothing.
    if !is_told || scenario.alias.is_some() || thing.under.name() == scenario.target.name() {
        return Ok(());
    }
    let all: BTreeSet<_> = ids.iter().collect();
    if all.len() < ids.len() {
        return Err("a rewrite has two lines of evidence");
    }
    let current = match scenario.settings.rules.versions {
        Versions::Current => 1,
        Versions::Restack => versions.len(),
    };
    let is_missing = |version: &Stored| {
        let object = version.object.as_ref();
        object.is_some_and(|object| scenario.target.is_satisfied_by(&object.encryption))
            && !ids.contains(&Some(&*version.version_id))
    };
    match versions.iter().take(current).any(is_missing) {
        true => Err("a rewrite has no evidence"),
        false => Ok(()),
    }
}

/// Whether everything that was put is there, the last on top.
fn is_in_order(world: &World, key: &str, versions: &[Stored]) -> Result<(), String> {
    let ledger = world.ledger();
    let put = &ledger.put[key];
    let kept = |version: &Stored| version.object.as_ref().map(|object| object.kept.clone());
    let mut found: Vec<_> = versions.iter().map(kept).collect();
    // What was rewritten lies above what it was rewritten from.
    let mut seen = BTreeSet::new();
    found.retain(|kept| kept.is_none() || seen.insert(kept.clone()));
    found.dedup();
    let mut expected: Vec<_> = put.iter().rev().cloned().collect();
    if world.scenario.versioning != Versioning::Enabled {
        expected.truncate(1);
        if world.scenario.versioning == Versioning::Never && expected == [None] {
            expected.clear();
        }
    }
    expected.dedup();
    // A pile that somebody else has written to may be left halfway, which its row tells; nothing of it is lost.
    if world.scenario.settings.rules.versions == Versions::Restack && ledger.meddled.contains(key) {
        found.sort();
        expected.sort();
    }
    (found == expected)
        .then_some(())
        .ok_or_else(|| format!("expected {expected:?}, newest first"))
}

/// Whether an object can be read, and has the bytes that were put.
async fn is_whole(world: &Arc<World>, key: &str, version: &Stored) -> Result<(), String> {
    let Some(object) = &version.object else {
        return Ok(());
    };
    let named = ObjectRef {
        bucket: BUCKET,
        key,
        version_id: Some(&version.version_id),
    };
    let read = world.store(By::Judge);
    let read = read
        .read(named, key_of(world, &object.encryption), None, unpaced)
        .await;
    let read = read.map_err(|error| error.to_string())?;
    let expected = world.ledger().bytes.get(&object.kept).copied();
    (expected == Some(read.sha256))
        .then_some(())
        .ok_or_else(|| "its bytes are not what was put".to_owned())
}

fn key_of<'w>(world: &'w World, encryption: &Encryption) -> Option<&'w CustomerKey> {
    let Encryption::SseC { key_md5 } = encryption else {
        return None;
    };
    let mut keys = world.scenario.source_keys.iter();
    keys.find(|key| key.md5_base64() == key_md5)
}
