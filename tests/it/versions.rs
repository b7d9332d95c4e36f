//! Versions: updated where they are, refused, or all of a key rewritten in their order; and what was superseded deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectLockLegalHold, ObjectLockLegalHoldStatus, VersioningConfiguration,
};
use nix::sys::signal::Signal;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use reseal::local_s3::credentials::Credentials;
use reseal::s3::{Connection, S3, StaticCredentials};

use crate::support::chance::{self, long, seed};
use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::moto::Moto;
use crate::support::objects::{self, Under};
use crate::support::{BUCKET, Job, Run, Store, finish, send, url_encode};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// One version as the store lists and shows it, without what a rewrite changes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    DeleteMarker,
    /// The bytes, and what else a rewrite could lose.
    Object(String, String),
}

/// One version, with what tells it from others.
#[derive(Clone, Debug)]
struct Seen {
    id: String,
    shown: Shown,
    /// KMS key, or none.
    kms_key: Option<String>,
}

async fn set_versioning(client: &Client, status: BucketVersioningStatus) {
    let wanted = VersioningConfiguration::builder().status(status).build();
    let request = client.put_bucket_versioning().bucket(BUCKET);
    let request = request.versioning_configuration(wanted);
    request.send().await.expect("versioning");
}

async fn put_marker(client: &Client, key: &str) {
    let request = client.delete_object().bucket(BUCKET).key(key);
    request.send().await.expect("a delete marker");
}

/// reseal's own client, which lists versions and delete markers in one.
async fn lister(endpoint: String, credentials: &Credentials) -> S3 {
    S3::connect(&Connection {
        endpoint_url: Some(endpoint),
        credentials: Some(StaticCredentials {
            access_key: credentials.access_key().to_owned(),
            secret_key: credentials.secret_key().to_owned(),
        }),
        path_style: true,
        ..Connection::default()
    })
    .await
}

/// All versions of a key, newest first.
async fn versions(store: &Store, key: &str) -> Vec<Seen> {
    let client = &store.client;
    let s3 = lister(store.s3.endpoint_url(), store.s3.credentials()).await;
    let listed = s3.versions(BUCKET, key).await.expect("versions");
    let mut seen = Vec::new();
    for version in listed {
        let (shown, kms_key) = if version.is_delete_marker {
            (Shown::DeleteMarker, None)
        } else {
            let get = client.get_object().bucket(BUCKET).key(key);
            let got = get.version_id(&version.version_id).send().await;
            let got = got.expect("an object");
            let metadata: BTreeMap<_, _> = got
                .metadata
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect();
            let told = format!(
                "{metadata:?} {:?} {:?} {:?} {:?}",
                got.content_type, got.cache_control, got.storage_class, got.tag_count,
            );
            let kms_key = got.ssekms_key_id.clone();
            let body = got.body.collect().await.expect("a body").into_bytes();
            let body = String::from_utf8(body.into()).expect("text");
            (Shown::Object(body, told), kms_key)
        };
        seen.push(Seen {
            id: version.version_id,
            shown,
            kms_key,
        });
    }
    seen
}

fn shown(versions: &[Seen]) -> Vec<Shown> {
    versions
        .iter()
        .map(|version| version.shown.clone())
        .collect()
}

fn ids(versions: &[Seen]) -> Vec<String> {
    versions.iter().map(|version| version.id.clone()).collect()
}

/// Puts versions on a key by letters, the oldest first: `o` an object under SSE-S3, `t` one that is under the target, `d`
/// a delete marker.
async fn stack(store: &Store, key: &str, letters: &str, target: &str) {
    for (number, letter) in letters.chars().enumerate() {
        let body = format!("{key} {number}");
        match letter {
            'd' => put_marker(&store.client, key).await,
            't' => {
                objects::put(
                    &store.client,
                    key,
                    body.as_bytes(),
                    &Under::Kms(target.to_owned()),
                )
                .await;
            }
            _ => objects::put(&store.client, key, body.as_bytes(), &Under::SseS3).await,
        }
    }
}

/// A manifest of versions.
fn rows(versions: &[(&str, &str)]) -> String {
    versions
        .iter()
        .map(|(key, id)| format!("{BUCKET},{},{id}\n", url_encode(key)))
        .collect()
}

fn job(store: &Store, keys: &[&str], target: &str, flags: &str) -> Job {
    let job = store.job(keys).args("--to sse-kms --kms-key-id");
    job.args(target).args(flags)
}

const RESTACK: &str = "--method copy --versions restack";

#[tokio::test]
async fn every_stack_comes_out_in_its_order_under_the_target() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    let stacks = [
        // Letters, oldest first, `n` for the null version; and how many of them, from the newest, are written again.
        ("n", 1),
        ("no", 2),
        ("nod", 3),
        ("ndo", 3),
        ("nddod", 5),
        ("not", 3),
        ("ntotdto", 7),
        ("nto", 3),
    ];
    for (letters, _) in stacks {
        // The null version is what is written before versioning is enabled.
        let key = format!("null/{letters}");
        objects::put(&store.client, &key, b"null", &Under::SseS3).await;
    }
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    let mut all = Vec::new();
    for (letters, rewritten) in stacks {
        let key = format!("null/{letters}");
        stack(&store, &key, &letters[1..], &target).await;
        all.push((key, rewritten));
    }
    for (letters, rewritten) in [("ttod", 2), ("dto", 1), ("ttt", 0), ("td", 0)] {
        let key = format!("ids/{letters}");
        stack(&store, &key, letters, &target).await;
        all.push((key, rewritten));
    }
    let mut before = BTreeMap::new();
    for (key, _) in &all {
        before.insert(key.clone(), versions(&store, key).await);
    }
    assert_eq!(
        before["null/nto"].last().map(|v| v.id.clone()),
        Some("null".to_owned())
    );

    let keys: Vec<_> = all.iter().map(|(key, _)| key.as_str()).collect();
    let job = job(&store, &keys, &target, RESTACK);
    let run = job.run().expect(0);
    assert_eq!(run.count("skipped"), 2);
    assert_eq!(run.summary()["methods"]["restack"], 10);
    for (key, rewritten) in &all {
        let (before, after) = (&before[key], versions(&store, key).await);
        let mut expected = shown(&before[..*rewritten]);
        expected.extend(shown(before));
        assert_eq!(shown(&after), expected, "{key}");
        // Nothing that was there is gone.
        assert_eq!(ids(&after)[*rewritten..], ids(before)[..], "{key}");
        let above = &after[..(*rewritten).max(1)];
        let is_under =
            |v: &Seen| v.shown == Shown::DeleteMarker || v.kms_key.as_ref() == Some(&target);
        assert!(above.iter().all(is_under), "{key}: {above:?}");
    }

    // A job that knows nothing of the first finds nothing to do.
    let writes = store.writes();
    let again = job_again(&store, &keys, &target).run().expect(0);
    assert_eq!(again.count("skipped"), 12, "{}", again.summary());
    assert_eq!(store.writes(), writes);
}

/// The same job with a state of its own.
fn job_again(store: &Store, keys: &[&str], target: &str) -> Job {
    job(store, keys, target, RESTACK).args("--canary 0 --probe off")
}

#[tokio::test]
async fn versions_that_can_be_updated_keep_their_ids_and_others_are_refused() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    stack(&store, "key", "ootod", &target).await;
    let before = versions(&store, "key").await;
    let manifest = |job: &Job| {
        let named: Vec<_> = before.iter().map(|v| ("key", v.id.as_str())).collect();
        job.write_manifest(&rows(&named));
    };

    // By copies: noncurrent ones are refused, and nothing is touched.
    let copying = job(&store, &["key"], &target, "--method copy");
    manifest(&copying);
    copying.run().expect(3);
    let mut codes: Vec<_> = copying
        .report()
        .into_iter()
        .map(|row| (row.status, row.code))
        .collect();
    codes.sort();
    let refused = ("failed".to_owned(), "NoncurrentVersion".to_owned());
    assert_eq!(codes[..3], [refused.clone(), refused.clone(), refused]);
    assert_eq!(ids(&versions(&store, "key").await), ids(&before));

    // In place: each where it is.
    let updating = job(&store, &["key"], &target, "--probe auto");
    manifest(&updating);
    let run = updating.run().expect(0);
    assert_eq!(run.summary()["methods"], serde_json::json!({ "update": 3 }));
    let after = versions(&store, "key").await;
    assert_eq!(ids(&after), ids(&before));
    assert_eq!(shown(&after), shown(&before));
    let is_under = |v: &Seen| v.shown == Shown::DeleteMarker || v.kms_key.as_ref() == Some(&target);
    assert!(after.iter().all(is_under), "{after:?}");
}

#[tokio::test]
async fn what_is_superseded_is_deleted_only_where_that_is_asked_for() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    objects::put(&store.client, "null", b"null", &Under::SseS3).await;
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    stack(&store, "null", "do", &target).await;
    stack(&store, "kept", "tdo", &target).await;
    stack(&store, "plain", "oo", &target).await;
    stack(&store, "held", "oo", &target).await;
    let held = versions(&store, "held").await;
    let mut before = BTreeMap::new();
    for key in ["null", "kept", "plain", "held"] {
        before.insert(key, versions(&store, key).await);
    }

    // The current version only: what it was is deleted, what is older is not.
    let current = job(
        &store,
        &["plain"],
        &target,
        "--method copy --delete-superseded",
    );
    current.run().expect(0);
    let after = versions(&store, "plain").await;
    assert_eq!(shown(&after), shown(&before["plain"]));
    assert_eq!(after[0].kms_key.as_ref(), Some(&target));
    assert_eq!(after[1].id, before["plain"][1].id);

    let all = job(&store, &["null", "kept"], &target, RESTACK).args("--delete-superseded");
    all.run().expect(0);
    for (key, rewritten) in [("null", 3), ("kept", 1)] {
        let after = versions(&store, key).await;
        assert_eq!(shown(&after), shown(&before[key]), "{key}");
        let old = ids(&before[key]);
        assert_eq!(ids(&after)[rewritten..], old[rewritten..], "{key}");
        let is_new = |v: &Seen| !old.contains(&v.id);
        assert!(after[..rewritten].iter().all(is_new), "{key}");
    }
    assert_eq!(ids(&versions(&store, "held").await), ids(&held));
}

#[tokio::test]
async fn a_version_that_may_not_be_deleted_is_told() {
    let store = Store::without_bucket();
    let create = store.client.create_bucket().bucket(BUCKET);
    let create = create.object_lock_enabled_for_bucket(true);
    create.send().await.expect("a bucket");
    let target = store.add_kms_key(None);
    stack(&store, "held", "o", &target).await;
    let hold = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::On);
    let request = store.client.put_object_legal_hold().bucket(BUCKET);
    let request = request.key("held").legal_hold(hold.build());
    request.send().await.expect("held");
    let before = versions(&store, "held").await;

    let job = job(
        &store,
        &["held"],
        &target,
        "--method copy --delete-superseded",
    );
    job.run().expect(3);
    let report = job.report();
    assert_eq!(report[0].code, "SupersededVersionKept", "{report:?}");
    let told = "rewritten and verified, the superseded version";
    assert!(report[0].message.contains(told), "{report:?}");
    let after = versions(&store, "held").await;
    assert_eq!(ids(&after)[1..], ids(&before)[..]);
    assert_eq!(after[0].kms_key.as_ref(), Some(&target));
}

#[tokio::test]
async fn a_key_is_refused_as_a_whole_before_anything_of_it_is_written() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    stack(&store, "archived", "o", &target).await;
    let put = store.client.put_object().bucket(BUCKET).key("archived");
    let put = put.storage_class(aws_sdk_s3::types::StorageClass::Glacier);
    put.send().await.expect("archived");
    stack(&store, "archived", "o", &target).await;
    stack(&store, "suspended", "oo", &target).await;
    let writes = store.writes();
    let run = job(&store, &["archived"], &target, RESTACK).args("--probe off --canary 0");
    run.run().expect(3);
    assert_eq!(run.report()[0].code, "VersionNeedsRestore");
    set_versioning(&store.client, BucketVersioningStatus::Suspended).await;
    let run = job(&store, &["suspended"], &target, RESTACK).args("--probe off --canary 0");
    run.run().expect(3);
    assert_eq!(run.report()[0].code, "VersioningSuspended");
    // Suspending was one.
    assert_eq!(store.writes(), writes + 1);
}

/// Several keys with all their versions, one row each, in random order.
struct Many {
    store: Store,
    target: String,
    keys: Vec<String>,
    before: BTreeMap<String, Vec<Seen>>,
    manifest: String,
}

impl Many {
    async fn new(rng: &mut impl rand::Rng, keys: usize) -> Self {
        let store = Store::start().await;
        let target = store.add_kms_key(None);
        set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
        let keys: Vec<_> = (0..keys).map(|n| format!("key/{n}")).collect();
        let mut before = BTreeMap::new();
        let mut named = Vec::new();
        for key in &keys {
            let mut letters = String::from("o");
            for _ in 0..rng.random_range(1..6) {
                letters.push(['o', 'o', 'o', 't', 'd'][rng.random_range(0..5)]);
            }
            stack(&store, key, &letters, &target).await;
            let seen = versions(&store, key).await;
            named.extend(seen.iter().map(|v| (key.clone(), v.id.clone())));
            before.insert(key.clone(), seen);
        }
        named.shuffle(rng);
        let named: Vec<_> = named
            .iter()
            .map(|(key, id)| (key.as_str(), id.as_str()))
            .collect();
        Self {
            manifest: rows(&named),
            store,
            target,
            keys,
            before,
        }
    }

    fn job(&self, flags: &str) -> Job {
        let job = job(&self.store, &["-"], &self.target, RESTACK);
        job.write_manifest(&self.manifest);
        job.args("--probe off --canary 0 --rate 100").args(flags)
    }

    fn copied(&self) -> u64 {
        self.store.copies().values().sum()
    }

    /// Objects that have to be copied.
    fn to_copy(&self) -> u64 {
        let object = |v: &&Seen| v.shown != Shown::DeleteMarker;
        let all = self.before.values().flatten().filter(object);
        all.count() as u64
    }

    /// Kills runs at random moments, and lets the last one end.
    fn run_with_kills(&self, job: &Job, rng: &mut impl rand::Rng, kills: u64) -> Run {
        let mut in_the_middle = 0;
        for kill in 0..kills {
            let mut child = job.command().spawn().expect("it starts");
            let wanted = self.to_copy() * (kill + 1) / (kills + 1);
            let begun = Instant::now();
            while self.copied() < wanted {
                assert!(begun.elapsed() < PATIENCE, "{} copies", self.copied());
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..20)));
            child.kill().expect("killed");
            child.wait().expect("dead");
            in_the_middle += u64::from(self.copied() < self.to_copy());
        }
        assert!(in_the_middle > 0, "no kill met a run that was copying");
        job.run().expect(0)
    }
}

#[tokio::test]
async fn killed_at_random_moments_it_rewrites_every_version_exactly_once() {
    let seed = seed();
    let mut rng = chance::rng(seed);
    let (keys, kills) = if long() { (200, 30) } else { (30, 5) };
    let many = Many::new(&mut rng, keys).await;
    // Few at a time: some rows of a key come in a later run than the one that has rewritten it.
    let job = many.job("--concurrency 3");
    many.run_with_kills(&job, &mut rng, kills);
    for key in &many.keys {
        let (before, after) = (&many.before[key], versions(&many.store, key).await);
        let mut expected = shown(before);
        expected.extend(shown(before));
        assert_eq!(shown(&after), expected, "{key}");
        assert_eq!(ids(&after)[before.len()..], ids(before)[..], "{key}");
    }
    assert_eq!(many.copied(), many.to_copy());
    let report = job.report();
    assert_eq!(report.len(), many.before.values().flatten().count());
}

#[tokio::test]
async fn killed_while_it_deletes_it_leaves_one_of_each_version() {
    let seed = seed();
    let mut rng = chance::rng(seed);
    let (keys, kills) = if long() { (100, 30) } else { (20, 5) };
    let many = Many::new(&mut rng, keys).await;
    let job = many.job("--delete-superseded");
    many.run_with_kills(&job, &mut rng, kills);
    for key in &many.keys {
        let (before, after) = (&many.before[key], versions(&many.store, key).await);
        assert_eq!(shown(&after), shown(before), "{key}");
        let old = ids(before);
        assert!(after.iter().all(|v| !old.contains(&v.id)), "{key}");
    }
    assert_eq!(many.copied(), many.to_copy());
}

#[tokio::test]
async fn killed_between_copy_and_deletion_it_deletes_what_it_has_superseded() {
    let seed = seed();
    let mut rng = chance::rng(seed);
    let (keys, kills) = if long() { (300, 30) } else { (60, 5) };
    let mut many = Many::new(&mut rng, 0).await;
    many.keys = (0..keys).map(|n| format!("key/{n}")).collect();
    objects::put_many(&many.store.client, &many.keys).await;
    for key in &many.keys {
        let seen = versions(&many.store, key).await;
        many.before.insert(key.clone(), seen);
    }
    let keys: Vec<_> = many.keys.iter().map(String::as_str).collect();
    let job = job(&many.store, &keys, &many.target, "--method copy");
    let job = job.args("--probe off --canary 0 --rate 100 --delete-superseded");
    many.run_with_kills(&job, &mut rng, kills);
    for key in &many.keys {
        let (before, after) = (&many.before[key], versions(&many.store, key).await);
        assert_eq!(shown(&after), shown(before), "{key}");
        assert_ne!(ids(&after), ids(before), "{key}");
        assert_eq!(after[0].kms_key.as_ref(), Some(&many.target), "{key}");
    }
    assert_eq!(many.copied(), many.to_copy());
}

/// A restack that has begun waits for no drain, but it is given up when the time is over: what it left word of is gone on with.
#[tokio::test]
async fn given_up_between_two_copies_it_is_completed_by_the_next_run() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    stack(&store, "key", "ooo", &target).await;
    let before = versions(&store, "key").await;
    let second_copy = |line: &str, attempt: u64| {
        (line.starts_with("PUT /bucket/key") && attempt == 2).then_some(Fault::Held)
    };
    let proxy = Proxy::start(store.s3.addr(), Weather::Rule(second_copy));
    let job = job(&store, &["key"], &target, RESTACK)
        .args("--drain-timeout 500ms --endpoint-url")
        .args(&proxy.url());
    let child = job.command().spawn().expect("it starts");
    proxy.wait_for(Fault::Held);
    send(&child, Signal::SIGTERM);
    let run = finish(child).expect(75).says(&["1 in flight"]);
    assert_eq!(run.count("succeeded") + run.count("failed"), 0);
    assert_eq!(versions(&store, "key").await.len(), 4);

    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded") + run.count("skipped"), 1);
    let after = versions(&store, "key").await;
    let expected = [shown(&before), shown(&before)].concat();
    assert_eq!(shown(&after), expected);
    assert_eq!(ids(&after)[3..], ids(&before)[..]);
}

#[tokio::test]
async fn what_somebody_else_puts_meanwhile_is_neither_covered_nor_deleted() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    stack(&store, "key", "oooo", &target).await;
    let before = versions(&store, "key").await;
    let job = job(&store, &["key"], &target, RESTACK)
        .args("--probe off --canary 0 --rate 2 --delete-superseded");
    let child = job.command().spawn().expect("it starts");
    let begun = Instant::now();
    while store.copies().values().sum::<u64>() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no copy");
        std::thread::sleep(Duration::from_millis(2));
    }
    objects::put_plain(&store.client, "key", b"somebody else's").await;
    let run = Run::of(child.wait_with_output().expect("it ends"));
    run.expect(3);

    let after = versions(&store, "key").await;
    let Shown::Object(current, _) = &after[0].shown else {
        panic!("{after:?}");
    };
    assert_eq!(current, "somebody else's");
    let copies = after.len() - before.len() - 1;
    assert!((1..before.len()).contains(&copies), "{after:?}");
    assert_eq!(ids(&after)[1 + copies..], ids(&before)[..]);
    let report = job.report();
    assert_eq!(report[0].code, "RestackInterrupted", "{report:?}");
    for id in ids(&after) {
        assert!(
            report[0].message.contains(&id),
            "{id} is not in {}",
            report[0].message
        );
    }
}

#[tokio::test]
async fn through_faults_every_version_is_rewritten_exactly_once() {
    let seed = seed();
    let mut rng = chance::rng(seed);
    let many = Many::new(&mut rng, if long() { 300 } else { 60 }).await;
    let proxy = Proxy::start(many.store.s3.addr(), Weather::Faults(seed));
    let job = Job::new(&proxy.url(), many.store.s3.credentials(), &["-"]);
    job.write_manifest(&many.manifest);
    let job = job.args("--to sse-kms --kms-key-id").args(&many.target);
    let job = job.args(RESTACK).args("--probe off --canary 0");
    job.run().expect(0);
    let faults: u64 = proxy.seen().faults.values().sum();
    assert!(faults > 0, "fair weather");
    for key in &many.keys {
        let (before, after) = (&many.before[key], versions(&many.store, key).await);
        let mut expected = shown(before);
        expected.extend(shown(before));
        assert_eq!(shown(&after), expected, "{key}");
    }
}

#[tokio::test]
async fn large_versions_are_rewritten_in_parts_in_their_place() {
    let store = Store::start().await;
    let target = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    for body in [
        "a small one".to_owned(),
        "x".repeat(6 << 20),
        "y".repeat(7 << 20),
    ] {
        objects::put(&store.client, "key", body.as_bytes(), &Under::SseS3).await;
        put_marker(&store.client, "key").await;
    }
    let before = versions(&store, "key").await;
    let job = job(&store, &["key"], &target, RESTACK);
    let job = job.args("--multipart-threshold 5MiB --part-size 5MiB --probe off --canary 0");
    job.run().expect(0);
    let after = versions(&store, "key").await;
    let mut expected = shown(&before);
    expected.extend(shown(&before));
    assert!(shown(&after) == expected, "{:?}", ids(&after));
    let in_parts = store
        .s3
        .requests()
        .into_iter()
        .filter(|(request, _)| request.operation == "REST.COPY.PART" && request.status == 200);
    assert_eq!(in_parts.map(|(_, count)| count).sum::<u64>(), 4);
}

#[tokio::test]
async fn where_both_kinds_stand_apart_pages_of_one_tell_their_order() {
    let Some(moto) =
        Moto::start("where_both_kinds_stand_apart_pages_of_one_tell_their_order").await
    else {
        return;
    };
    let client = &moto.client;
    set_versioning(client, BucketVersioningStatus::Enabled).await;
    for body in ["1", "22", "", "4444"] {
        match body {
            "" => put_marker(client, "key").await,
            body => objects::put(client, "key", body.as_bytes(), &Under::SseS3).await,
        }
    }
    let credentials = Credentials::new("AKIAMOTO", "secret");
    let s3 = lister(moto.url.clone(), &credentials).await;
    let listed = async || {
        let listed = s3.versions(BUCKET, "key").await.expect("versions");
        let sizes = listed.iter().map(|version| version.size);
        sizes.collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [4, 0, 2, 1]);
    // This store's word on versioning can't be read: what is not known is not taken for enabled.
    let job = Job::new(&moto.url, &credentials, &["key"]);
    let key = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";
    let job = job
        .args("--to sse-kms --kms-key-id")
        .args(key)
        .args(RESTACK);
    job.run().expect(3);
    assert_eq!(job.report()[0].code, "VersioningSuspended");
    assert_eq!(listed().await, [4, 0, 2, 1]);
}
