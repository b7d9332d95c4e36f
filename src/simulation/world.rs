//! The store, everybody who writes to it, and what is seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Request, Response};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use sha2::{Digest as _, Sha256};

use super::book::{self, Book};
use super::faults::{Fault, chance};
use super::ledger::{Begun, Ledger};
use super::scenario::{ALIAS, BUCKET, Scenario, Thing};
use super::wire::{Asked, By, Line};
use crate::bucket::Versioning;
use crate::encryption::Target;
use crate::journal::LEADER_PROOF_AGE_MAX;
use crate::local_s3::in_process::{InProcess, Stored};
use crate::object::{ContentHeaders, Known, ManifestEntry, ObjectRef, Tag};
use crate::plan::Versions;
use crate::s3::{Ask, Put, S3, StaticCredentials, Written};

/// Runners after which credentials expire no more.
const PATIENCE: u32 = 12;

/// A simulated world.
pub struct World {
    pub door: InProcess,
    pub book: Book,
    pub scenario: Scenario,
    ledger: Mutex<Ledger>,
    fortune: Mutex<SmallRng>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// Counts something as long as it lives.
pub struct Counted {
    world: Arc<World>,
    less: fn(&mut Ledger, u32),
    runner: u32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.less)(&mut self.world.ledger(), self.runner);
    }
}

impl World {
    /// A store with the objects of `scenario` in it.
    pub async fn new(folder: &Path, scenario: impl FnOnce(&[String; 2]) -> Scenario) -> Arc<Self> {
        let door = InProcess::open(folder).expect("a store");
        let keys = [door.add_key(Some(ALIAS)), door.add_key(None)];
        let scenario = scenario(&keys);
        door.create_bucket(BUCKET, scenario.versioning);
        door.create_bucket(book::BUCKET, Versioning::Never);
        let world = Arc::new(Self {
            door,
            book: Book::default(),
            ledger: Mutex::new(Ledger::new(scenario.bounds())),
            fortune: Mutex::new(chance(scenario.seed, 2)),
            scenario,
        });
        if world.scenario.is_founded {
            book::found(&world).await;
        }
        for thing in &world.scenario.things {
            for _ in 0..=thing.older {
                world
                    .put(By::Judge, &thing.key, thing.bytes, &thing.under)
                    .await;
            }
        }
        world
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody has panicked")
    }

    fn fortune(&self) -> MutexGuard<'_, SmallRng> {
        self.fortune.lock().expect("nobody has panicked")
    }

    /// The store, as somebody gets to it.
    pub fn store(self: &Arc<Self>, by: By) -> S3 {
        let line = Line {
            world: Arc::clone(self),
            by,
        };
        let credentials = self.door.credentials();
        let keys = StaticCredentials {
            access_key: credentials.access_key().to_owned(),
            secret_key: credentials.secret_key().to_owned(),
        };
        S3::over(line, &keys)
    }

    /// Puts an object that is like no other.
    async fn put(self: &Arc<Self>, by: By, key: &str, bytes: usize, under: &Target) -> Written {
        let serial = self.ledger().put.values().map(Vec::len).sum::<usize>();
        let body: Vec<u8> = format!("{key} {serial} ")
            .bytes()
            .cycle()
            .take(bytes)
            .collect();
        let object = ObjectRef {
            bucket: BUCKET,
            key,
            version_id: None,
        };
        let put = Put {
            object,
            body: &body,
            target: Some(under),
            headers: &ContentHeaders {
                content_type: Some("text/x-test".to_owned()),
                ..ContentHeaders::default()
            },
            metadata: &BTreeMap::from([("serial".to_owned(), serial.to_string())]),
            tags: &[Tag {
                key: "serial".to_owned(),
                value: serial.to_string(),
            }],
            storage_class: None,
        };
        let written = self.store(by).put(put).await.expect("a put");
        let versions = self.door.versions(BUCKET, key);
        let kept = versions[0].object.as_ref().expect("an object").kept.clone();
        let mut ledger = self.ledger();
        ledger
            .bytes
            .insert(kept.clone(), Sha256::digest(&body).into());
        ledger
            .put
            .entry(key.to_owned())
            .or_default()
            .push(Some(kept));
        written
    }

    /// Somebody else does something to a key.
    async fn meddle(self: &Arc<Self>, key: &str) {
        let (deletes, bytes) = {
            let mut fortune = self.fortune();
            let restacks = self.scenario.settings.rules.versions == Versions::Restack;
            let deletes = !restacks && fortune.random_ratio(1, 5);
            // What is empty has the ETag of everything that is, and is taken for it.
            let bytes = [0, 10, 200, 400, 123][fortune.random_range(usize::from(restacks)..5)];
            (deletes, bytes)
        };
        self.ledger().meddled.insert(key.to_owned());
        if deletes {
            let store = self.store(By::Writer);
            store
                .put_delete_marker(BUCKET, key)
                .await
                .expect("a deletion");
            self.ledger()
                .put
                .entry(key.to_owned())
                .or_default()
                .push(None);
        } else {
            self.put(By::Writer, key, bytes, &Target::SseS3).await;
        }
    }

    /// Somebody else uses the time in which nobody runs.
    pub async fn meanwhile(self: &Arc<Self>) {
        for thing in &self.scenario.things {
            let meddles = self.scenario.meddling > 0 && self.fortune().random_ratio(1, 8);
            if meddles {
                self.meddle(&thing.key).await;
            }
        }
    }

    /// The manifest's rows.
    pub async fn rows(self: &Arc<Self>) -> Vec<ManifestEntry> {
        let mut rows = Vec::new();
        for (row, thing) in (0..).zip(&self.scenario.things) {
            let known = if thing.is_known {
                self.known(thing).await
            } else {
                Known::default()
            };
            let version = self.door.versions(BUCKET, &thing.key).remove(0).version_id;
            rows.push(ManifestEntry {
                row,
                key: thing.key.clone(),
                version_id: thing.is_named.then_some(version),
                known,
            });
        }
        rows
    }

    /// What an inventory would say.
    async fn known(self: &Arc<Self>, thing: &Thing) -> Known {
        let object = ObjectRef {
            bucket: BUCKET,
            key: &thing.key,
            version_id: None,
        };
        let ask = Ask {
            customer_key: match &thing.under {
                Target::SseC(key) => Some(key),
                _ => None,
            },
            checksums: false,
            part: None,
        };
        let head = self
            .store(By::Judge)
            .head(object, ask)
            .await
            .expect("a look");
        Known {
            size: Some(head.size),
            etag: Some(head.etag.trim_matches('"').to_owned()),
            last_modified: head.last_modified,
            storage_class: Some("STANDARD".to_owned()),
            encryption: Some(head.encryption.mode()),
            is_latest: Some(true),
            is_delete_marker: false,
        }
    }

    /// A point where a runner may die. Who is dead comes back no more.
    pub async fn step(&self, runner: u32, what: impl FnOnce() -> String) {
        let lives = self.ledger().step(runner, &what());
        if !lives {
            std::future::pending::<()>().await;
        }
    }

    /// Holds a request against what its runner may do. It is in flight until the answer is dropped.
    pub fn sent(self: &Arc<Self>, runner: u32, asked: &Asked) -> Counted {
        let mut ledger = self.ledger();
        ledger.sent(runner, asked);
        if let Some(row) = self.row_of(&asked.key)
            && asked.writes()
            && let Err(why) = self.may_write(&ledger, runner, row, asked)
        {
            ledger.wrong(By::Runner(runner), format!("{asked}: {why}"));
        }
        Counted {
            world: Arc::clone(self),
            less: if asked.is_of_the_job() {
                |ledger, runner| {
                    ledger.lives.get_mut(&runner).expect("it lived").requests -= 1;
                }
            } else {
                |_, _| {}
            },
            runner,
        }
    }

    /// Whether a runner may write for a row: it leads, as far as it can know, and the journal has the row as begun and not as settled.
    fn may_write(
        &self,
        ledger: &Ledger,
        runner: u32,
        row: u64,
        asked: &Asked,
    ) -> Result<(), String> {
        if let Some(replaced) = ledger.replaced_for(runner) {
            return (replaced <= LEADER_PROOF_AGE_MAX)
                .then_some(())
                .ok_or_else(|| format!("it was replaced {replaced:?} ago"));
        }
        let is_part = matches!(
            asked.operation,
            "UploadPartCopy" | "CompleteMultipartUpload"
        );
        let rules = &self.scenario.settings.rules;
        let versions = ledger.keys.get(&asked.key).map_or(&[][..], Vec::as_slice);
        let piles = rules.versions == Versions::Restack
            && asked.operation == "CopyObject"
            && !ledger.meddled.contains(&asked.key)
            && open_contents(&self.scenario.target, versions) > 1;
        let (reserved, outcome, is_noted) = self.book.look(|durable| {
            let outcome = durable.outcomes.get(&row).cloned();
            let upload = asked.upload.as_ref().filter(|_| is_part);
            let is_noted = upload.is_none_or(|id| durable.uploads.contains(id))
                && (!piles || durable.piles.contains(&row));
            (durable.replay.reserved, outcome, is_noted)
        });
        if !is_noted {
            return Err(format!("it has not been written down for row {row}"));
        }
        match outcome {
            Some(outcome) => Err(format!("row {row} is settled: {outcome:?}")),
            None if row >= reserved => Err(format!("row {row} is not reserved")),
            None => Ok(()),
        }
    }

    pub fn row_of(&self, key: &str) -> Option<u64> {
        let place = self
            .scenario
            .things
            .iter()
            .position(|thing| thing.key == key);
        place.map(|row| row as u64)
    }

    /// The store is at work as long as this lives.
    pub fn at_work(self: &Arc<Self>) -> Counted {
        self.ledger().at_work += 1;
        Counted {
            world: Arc::clone(self),
            less: |ledger, _| ledger.at_work -= 1,
            runner: 0,
        }
    }

    /// What goes wrong with an exchange, and how long it takes there and back.
    pub fn weather(&self, runner: u32, asked: &Asked) -> (Option<Fault>, Duration, Duration) {
        let mut fortune = self.fortune();
        let mut weather = self.scenario.weather;
        if runner > PATIENCE {
            weather.expired = 0;
        }
        let now = self.ledger().now();
        let outages = &self.scenario.outages;
        let outage = outages
            .iter()
            .find(|outage| (outage.begin..outage.end).contains(&now));
        let fault = match outage {
            Some(outage) => Some(outage.fault),
            None => weather.fault(asked, &mut fortune),
        };
        let mut wait = || Duration::from_micros(fortune.random_range(200..20_000));
        (fault, wait(), wait())
    }

    /// What goes wrong with an append, and how long it takes there and back.
    pub fn journal_weather(&self) -> (Option<book::Fault>, Duration, Duration) {
        let mut fortune = self.fortune();
        let fault = match fortune.random_ratio(self.scenario.journal_faults, 1_000) {
            true if fortune.random() => Some(book::Fault::Refused),
            true => Some(book::Fault::AnswerLost),
            false => None,
        };
        let mut wait = || Duration::from_micros(fortune.random_range(200..20_000));
        (fault, wait(), wait())
    }

    pub fn lives(&self, runner: u32) -> bool {
        !*self.ledger().lives[&runner].dead.borrow()
    }

    /// The store answers.
    pub async fn apply(
        self: &Arc<Self>,
        by: By,
        asked: &Asked,
        request: Request<Bytes>,
    ) -> Response<Bytes> {
        if matches!(by, By::Runner(_)) && asked.is_of_the_job() && self.row_of(&asked.key).is_some()
        {
            let meddles = self.fortune().random_ratio(self.scenario.meddling, 1_000);
            if meddles {
                self.meddle(&asked.key).await;
            }
        }
        let body = request.body().clone();
        let answer = self.door.answer(request).await;
        if asked.is_of_the_job() {
            self.seen(by, asked, answer.status().as_u16());
        } else if let By::Runner(runner) = by
            && asked.operation == "PutObject"
            && answer.status() == 200
            && self.book.landed(&asked.key, &body)
        {
            self.ledger().leads(runner);
        }
        answer
    }

    /// Takes note of what an exchange has changed, and holds it against what may change.
    fn seen(&self, by: By, asked: &Asked, status: u16) {
        if !asked.writes() && asked.operation != "PutObject" {
            return;
        }
        let now = self.door.versions(BUCKET, &asked.key);
        let mut ledger = self.ledger();
        let before = ledger
            .keys
            .insert(asked.key.clone(), now.clone())
            .unwrap_or_default();
        if before == now {
            return;
        }
        ledger.trace(by, &format!("{asked}: {status} changed it"));
        let By::Runner(_) = by else {
            ledger.rewrites.remove(&asked.key);
            return;
        };
        if let Err(why) = self.is_rewrite(asked, &before, &now) {
            let what = format!("{asked}: {why}\n  before {before:?}\n  after {now:?}");
            ledger.wrong(by, what);
        }
        if asked.operation != "DeleteObject"
            && self.scenario.settings.rules.versions == Versions::Current
        {
            let count = ledger.rewrites.entry(asked.key.clone()).or_default();
            *count += 1;
            // A runner that dies before it has written down which key the alias stands for leaves that to the next one.
            if *count > 1 && self.scenario.alias.is_none() {
                let what = format!("{} has been rewritten {count} times", asked.key);
                ledger.wrong(by, what);
            }
        }
    }

    /// Whether nothing has changed but the encryption of one object, and that for the target's.
    fn is_rewrite(&self, asked: &Asked, before: &[Stored], now: &[Stored]) -> Result<(), String> {
        let target = &self.scenario.target;
        let restacks = self.scenario.settings.rules.versions == Versions::Restack;
        if asked.operation == "UpdateObjectEncryption" {
            for (was, is) in before.iter().zip(now) {
                let (Some(was), Some(is)) = (&was.object, &is.object) else {
                    continue;
                };
                if was.encryption != is.encryption && !target.is_satisfied_by(&is.encryption) {
                    return Err("it is not under the target".to_owned());
                }
                if (&was.kept, &was.etag) != (&is.kept, &is.etag) {
                    return Err("more than its encryption has changed".to_owned());
                }
            }
            return (before.len() == now.len())
                .then_some(())
                .ok_or_else(|| "an update made or removed a version".to_owned());
        }
        if asked.operation == "DeleteObject" {
            return self.is_superseded(before, now);
        }
        if restacks {
            return self.is_one_more(before, now);
        }
        let was = before.first().and_then(|version| version.object.as_ref());
        let is = now.first().and_then(|version| version.object.as_ref());
        let (Some(was), Some(is)) = (was, is) else {
            return Err("an object came into being".to_owned());
        };
        if was.kept != is.kept {
            return Err("it is not what it was".to_owned());
        }
        if !target.is_satisfied_by(&is.encryption) {
            return Err("it is not under the target".to_owned());
        }
        // Which key an alias stands for, the first rewrite tells: it may be one of an object that was under it.
        if target.is_satisfied_by(&was.encryption) && self.scenario.alias.is_none() {
            return Err("it was under the target already".to_owned());
        }
        let others = match self.scenario.versioning {
            Versioning::Enabled => before,
            _ => &before[1..],
        };
        let stay = now[1..].iter().map(|version| &version.version_id);
        if !stay.eq(others.iter().map(|version| &version.version_id)) {
            return Err("other versions are not what they were".to_owned());
        }
        Ok(())
    }

    /// Whether nothing is gone that is not there under the target, in a newer version.
    fn is_superseded(&self, before: &[Stored], now: &[Stored]) -> Result<(), String> {
        let gone = |version: &&Stored| !now.contains(version);
        for version in before.iter().filter(gone) {
            let Some(object) = &version.object else {
                continue;
            };
            let is_it = |newer: &Stored| {
                newer.written > version.written
                    && newer.object.as_ref().is_some_and(|newer| {
                        newer.kept == object.kept
                            && self.scenario.target.is_satisfied_by(&newer.encryption)
                    })
            };
            if !now.iter().any(is_it) {
                return Err("something is gone that is nowhere else".to_owned());
            }
        }
        Ok(())
    }

    /// Whether there is one version more, under the target, with the content of one that was there, and not under the target.
    fn is_one_more(&self, before: &[Stored], now: &[Stored]) -> Result<(), String> {
        let target = &self.scenario.target;
        let Some((new, others)) = now.split_first() else {
            return Err("it is gone".to_owned());
        };
        if others != before {
            return Err("other versions are not what they were".to_owned());
        }
        let Some(object) = &new.object else {
            return Ok(());
        };
        let same = |version: &&Stored| {
            let was = version.object.as_ref();
            was.is_some_and(|was| was.kept == object.kept)
        };
        let was = before.iter().find(same).and_then(|was| was.object.as_ref());
        let Some(was) = was else {
            return Err("it is not what any version was".to_owned());
        };
        if !target.is_satisfied_by(&object.encryption) {
            return Err("it is not under the target".to_owned());
        }
        // As for an object: which key an alias stands for, the first rewrite tells.
        let newer_has_it = self.scenario.alias.is_none()
            && target.is_satisfied_by(&was.encryption)
            && before.first().and_then(|top| top.object.as_ref()) == Some(was);
        if newer_has_it {
            return Err("the newest version was under the target already".to_owned());
        }
        Ok(())
    }

    /// Takes note of what a runner was told.
    pub fn told(&self, runner: u32, asked: &Asked, answer: Option<&Response<Bytes>>) {
        let Some(answer) = answer.filter(|answer| answer.status() == 200) else {
            return;
        };
        if asked.operation != "CreateMultipartUpload" {
            return;
        }
        let text = String::from_utf8_lossy(answer.body());
        let id = text
            .split_once("<UploadId>")
            .and_then(|(_, rest)| rest.split_once("</UploadId>"));
        if let Some((id, _)) = id {
            let id = id.to_owned();
            self.ledger().uploads.push(Begun { runner, id });
        }
    }

    /// Waits until the store has done everything that was asked of it.
    pub async fn quiesce(&self) {
        while self.ledger().at_work > 0 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}

/// How many different contents are under the target in no version that is newer than those that are not.
pub fn open_contents(target: &Target, versions: &[Stored]) -> usize {
    let mut seen = BTreeSet::new();
    let objects = versions
        .iter()
        .filter_map(|version| version.object.as_ref());
    let newest = objects.filter(|object| seen.insert(&object.kept));
    newest
        .filter(|object| !target.is_satisfied_by(&object.encryption))
        .count()
}
