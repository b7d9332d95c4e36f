//! `reseal inventory`: what it lists and writes, read back by others; killed, stopped, and before stores that list badly.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use flate2::read::MultiGzDecoder;
use md5::{Digest as _, Md5};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use reseal::limiter::{Budgets, Limiter};
use reseal::listing::{self, Asker, Range, Scope};
use reseal::local_s3::credentials::Credentials;
use reseal::s3::S3;
use reseal::shutdown;
use reseal::stall::Stall;
use serde_json::{Value, json};

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::lister::{Lister, Manner};
use crate::support::moto::Moto;
use crate::support::objects::{self, SseC, Under};
use crate::support::{BUCKET, Job, Run, Store, chance, direct, finish, send, url_decode};

/// Keys with something of everything.
const ODD: [&str; 9] = [
    "a b+c%41",
    "a/\u{1}\n\t",
    "a//b/",
    "\"q\",x",
    "\u{e4}/\u{e9}",
    "\u{10ffff}",
    "~*'()",
    "<&>",
    "z",
];

/// `reseal inventory`, in place of the run that a job is.
struct Inventory {
    job: Job,
    args: Vec<String>,
}

impl Inventory {
    fn of(url: &str, credentials: &Credentials, source: &str, args: &str) -> Self {
        let job = Job::new(url, credentials, &[] as &[&str]);
        let mut all = vec!["inventory".to_owned(), source.to_owned()];
        all.extend(["--endpoint-url", url, "--path-style", "--output", "json"].map(str::to_owned));
        if !args.contains("--out ") {
            all.extend(["--out".to_owned(), job.path("out").display().to_string()]);
        }
        all.extend(["--state".to_owned(), job.state().display().to_string()]);
        all.extend(args.split_whitespace().map(str::to_owned));
        Self { job, args: all }
    }

    fn of_store(store: &Store, args: &str) -> Self {
        let source = format!("s3://{BUCKET}");
        Self::of(
            &store.s3.endpoint_url(),
            store.s3.credentials(),
            &source,
            args,
        )
    }

    fn of_lister(lister: &Lister, args: &str) -> Self {
        let keys = Credentials::new("AKIA", "secret");
        Self::of(&lister.url(), &keys, &format!("s3://{BUCKET}"), args)
    }

    fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reseal"));
        command.args(&self.args);
        self.job.prepare(&mut command);
        command
    }

    fn run(&self) -> Run {
        Run::of(self.command().output().expect("it starts"))
    }
}

/// A `manifest.json` that was told, held against its checksum and its data files; every row, by the names of the columns.
fn rows_of(manifest: &Path) -> Vec<BTreeMap<String, String>> {
    let json = fs::read(manifest).expect("manifest.json");
    let checksum =
        fs::read_to_string(manifest.with_file_name("manifest.checksum")).expect("a checksum");
    assert_eq!(checksum, hex(&json));
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let columns: Vec<_> = json["fileSchema"]
        .as_str()
        .expect("columns")
        .split(", ")
        .collect();
    let out = manifest
        .ancestors()
        .nth(4)
        .expect("the folder that it went to");
    let mut rows = Vec::new();
    for file in json["files"].as_array().expect("files") {
        let path = out.join(file["key"].as_str().expect("a key"));
        let bytes = fs::read(&path).expect("a data file");
        assert_eq!(file["size"].as_u64(), Some(bytes.len() as u64));
        assert_eq!(file["MD5checksum"], hex(&bytes));
        rows.extend(records(&path).into_iter().map(|record| {
            assert_eq!(record.len(), columns.len());
            columns
                .iter()
                .map(|name| (*name).to_owned())
                .zip(record)
                .collect()
        }));
    }
    rows
}

fn hex(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn records(path: &Path) -> Vec<Vec<String>> {
    let text = MultiGzDecoder::new(File::open(path).expect("a file"));
    let mut records = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text);
    let records = records.records().map(|record| record.expect("CSV"));
    records
        .map(|record| record.iter().map(str::to_owned).collect())
        .collect()
}

fn manifest_in(run: &Run) -> PathBuf {
    run.summary()["manifest"]
        .as_str()
        .expect("a manifest")
        .into()
}

fn keys_in(rows: &[BTreeMap<String, String>]) -> Vec<String> {
    let mut keys: Vec<_> = rows
        .iter()
        .map(|row| url_decode(&row["Key"].replace('+', " ")))
        .collect();
    keys.sort();
    keys
}

async fn enable_versioning(client: &aws_sdk_s3::Client) {
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let put = client.put_bucket_versioning().bucket(BUCKET);
    put.versioning_configuration(enabled)
        .send()
        .await
        .expect("versioning");
}

#[tokio::test]
async fn what_is_listed_is_read_back_and_can_be_rewritten() {
    let store = Store::start().await;
    let mut keys: Vec<String> = ODD.iter().map(|key| (*key).to_owned()).collect();
    keys.extend((0..150).map(|n| format!("flat/{n:04}")));
    objects::put_many(&store.client, &keys).await;
    keys.sort();
    let inventory = Inventory::of_store(&store, "--part-rows 40");
    let run = inventory.run().expect(0);
    assert_eq!((run.count("objects"), run.count("rows")), (159, 159));
    let manifest = manifest_in(&run);
    let rows = rows_of(&manifest);
    assert_eq!(keys_in(&rows), keys);
    let head = objects::head(&store.client, "z", None).await;
    let z = rows.iter().find(|row| row["Key"] == "z").expect("a row");
    assert_eq!(z["ETag"], head.e_tag().expect("an ETag").trim_matches('"'));
    assert_eq!(
        (z["Size"].as_str(), z["StorageClass"].as_str()),
        ("1", "STANDARD")
    );
    assert!(
        z["LastModifiedDate"].ends_with('Z') && z["LastModifiedDate"].len() == 24,
        "{z:?}"
    );
    assert!(!z.contains_key("EncryptionStatus"), "nobody has looked");
    // Of a prefix, into S3, and from there into a job.
    let bucket = store.client.create_bucket().bucket("lists");
    bucket.send().await.expect("a bucket");
    let source = format!("s3://{BUCKET}/flat/");
    let into_s3 = Inventory::of(
        &store.s3.endpoint_url(),
        store.s3.credentials(),
        &source,
        "--out s3://lists/of/mine/",
    );
    let run = into_s3.run().expect(0);
    let manifest = run.summary()["manifest"]
        .as_str()
        .expect("a manifest")
        .to_owned();
    assert!(
        manifest.starts_with("s3://lists/of/mine/bucket/reseal-prefix-"),
        "{manifest}"
    );
    let job = store
        .job(&[] as &[&str])
        .arg("--manifest", &manifest)
        .args("--to sse-kms");
    let rewritten = job.run().expect(0);
    assert_eq!(rewritten.count("succeeded"), 150);
    let folder = manifest.trim_start_matches("s3://lists/");
    let folder = folder
        .rsplitn(3, '/')
        .nth(2)
        .expect("a configuration's folder");
    let listed = store
        .client
        .list_objects_v2()
        .bucket("lists")
        .prefix(format!("{folder}/hive/"));
    let listed = listed.send().await.expect("a listing");
    assert_eq!(listed.key_count(), Some(1), "a symlink.txt for Hive");
}

#[tokio::test]
async fn all_versions_are_there_with_what_they_are() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "old", b"null version").await;
    enable_versioning(&store.client).await;
    for key in ["old", "new", "gone"] {
        objects::put_plain(&store.client, key, b"1").await;
        objects::put_plain(&store.client, key, b"22").await;
    }
    let delete = store.client.delete_object().bucket(BUCKET).key("gone");
    delete.send().await.expect("a delete marker");
    let inventory = Inventory::of_store(&store, "--versions all");
    let run = inventory.run().expect(0);
    let counts =
        ["rows", "objects", "noncurrent_versions", "delete_markers"].map(|name| run.count(name));
    assert_eq!(counts, [8, 2, 5, 1]);
    let rows = rows_of(&manifest_in(&run));
    let of = |key: &str| {
        rows.iter()
            .filter(|row| row["Key"] == key)
            .collect::<Vec<_>>()
    };
    let null: Vec<_> = of("old")
        .into_iter()
        .filter(|row| row["VersionId"].is_empty())
        .collect();
    assert_eq!(
        (
            null.len(),
            null[0]["Size"].as_str(),
            null[0]["IsLatest"].as_str()
        ),
        (1, "12", "false")
    );
    let latest: Vec<_> = of("gone")
        .into_iter()
        .filter(|row| row["IsLatest"] == "true")
        .collect();
    assert_eq!(
        (latest.len(), latest[0]["IsDeleteMarker"].as_str()),
        (1, "true")
    );
    assert_eq!(latest[0]["Size"], "");
    let ids: BTreeSet<_> = rows
        .iter()
        .map(|row| (&row["Key"], &row["VersionId"]))
        .collect();
    assert_eq!(ids.len(), 8);
    // Its own reader takes it.
    let job = store
        .job(&[] as &[&str])
        .arg("--manifest", manifest_in(&run))
        .args("--to sse-s3");
    let summary = job.run().expect(0).summary();
    assert_eq!(
        summary["skips"],
        json!({"already-encrypted": 7, "delete-marker": 1})
    );
}

#[tokio::test]
async fn encryption_is_looked_up_and_what_is_not_known_stays_empty() {
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    let customer = SseC(*b"a customer's key of 32 bytes ...");
    for (key, under) in [
        ("s3", Under::SseS3),
        ("kms", Under::Kms(arn)),
        ("c", Under::Customer(customer)),
        ("forbidden", Under::SseS3),
    ] {
        objects::put(&store.client, key, b"1", &under).await;
    }
    let proxy = Proxy::before(
        &store.s3,
        Weather::Rule(|line, _| line.contains("/forbidden").then_some(Fault::Denied)),
    );
    let source = format!("s3://{BUCKET}");
    let keys = store.s3.credentials();
    let inventory = Inventory::of(&proxy.url(), keys, &source, "--with encryption");
    // Complete, and something could not be asked.
    let run = inventory
        .run()
        .expect(3)
        .says(&["forbidden", "AccessDenied"]);
    assert_eq!(
        run.summary()["encryption_unknown"],
        json!({"refused": 1, "gone": 0, "changed": 0})
    );
    assert_eq!(
        run.summary()["encryption"],
        json!({"SSE-C": 1, "SSE-KMS": 1, "SSE-S3": 1})
    );
    let told: BTreeMap<_, _> = rows_of(&manifest_in(&run))
        .into_iter()
        .map(|row| {
            (
                row["Key"].clone(),
                (
                    row["EncryptionStatus"].clone(),
                    row["BucketKeyStatus"].clone(),
                ),
            )
        })
        .collect();
    let of = |key: &str| (told[key].0.as_str(), told[key].1.as_str());
    assert_eq!(of("s3"), ("SSE-S3", "DISABLED"));
    assert_eq!(of("kms").0, "SSE-KMS");
    assert_eq!(of("c"), ("SSE-C", "DISABLED"));
    assert_eq!(of("forbidden"), ("", ""));
}

#[tokio::test]
async fn against_an_earlier_one_there_is_what_is_new_changed_and_gone() {
    let store = Store::start().await;
    let keys: Vec<String> = (0..60).map(|n| format!("k/{n:02}")).collect();
    objects::put_many(&store.client, &keys).await;
    let first = Inventory::of_store(&store, "");
    let earlier = manifest_in(&first.run().expect(0)).display().to_string();
    objects::put_plain(&store.client, "k/05", b"changed").await;
    objects::put_plain(&store.client, "odd +%", b"new").await;
    for key in ["k/10", "k/11"] {
        let delete = store.client.delete_object().bucket(BUCKET).key(key);
        delete.send().await.expect("deleted");
    }
    let inventory = Inventory::of_store(&store, "--part-rows 25").with(&["--diff", &earlier]);
    let run = inventory.run().expect(0);
    let expected = json!({"added": 1, "changed": 1, "unchanged": 57, "gone": 2});
    assert_eq!(run.summary()["difference"], expected);
    let manifest = manifest_in(&run);
    assert!(
        manifest.to_string_lossy().contains("/reseal-diff/"),
        "{manifest:?}"
    );
    assert_eq!(keys_in(&rows_of(&manifest)), ["k/05", "odd +%"]);
    let gone = run.summary()["gone"].as_str().expect("a list").to_owned();
    let mut gone = records(Path::new(&gone));
    gone.sort();
    assert_eq!(gone, [["bucket", "k/10"], ["bucket", "k/11"]]);
    // Of a prefix, what the earlier one has beside it is another matter.
    let source = format!("s3://{BUCKET}/k/1");
    let keys = store.s3.credentials();
    let of_prefix = Inventory::of(&store.s3.endpoint_url(), keys, &source, "");
    let run_of_prefix = of_prefix.with(&["--diff", &earlier]).run().expect(0);
    let expected = json!({"added": 0, "changed": 0, "unchanged": 8, "gone": 2});
    assert_eq!(run_of_prefix.summary()["difference"], expected);
    // The list of what is gone is no part of the inventory, and nothing is left of what it was made with.
    let data = manifest.ancestors().nth(2).expect("a folder").join("data");
    let left = fs::read_dir(data)
        .expect("a folder")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert_eq!(left.count(), 0);
    assert!(!inventory.job.state().exists());
}

#[tokio::test]
async fn moto_lists_the_same_however_it_orders_versions() {
    let Some(moto) = Moto::start("moto_lists_the_same_however_it_orders_versions").await else {
        return;
    };
    enable_versioning(&moto.client).await;
    for key in ["a", "b c+d", "b/\u{e4}", "gone"] {
        for body in ["1", "22", "333"] {
            objects::put_plain(&moto.client, key, body.as_bytes()).await;
        }
    }
    let delete = moto.client.delete_object().bucket(BUCKET).key("gone");
    delete.send().await.expect("a delete marker");
    let keys = Credentials::new("AKIAMOTO", "secret");
    let source = format!("s3://{BUCKET}");
    let current = Inventory::of(&moto.url, &keys, &source, "--with encryption");
    let run = current.run().expect(0);
    assert_eq!(
        keys_in(&rows_of(&manifest_in(&run))),
        ["a", "b c+d", "b/\u{e4}"]
    );
    let inventory = Inventory::of(&moto.url, &keys, &source, "--versions all");
    let all = inventory.run().expect(0);
    let counts =
        ["rows", "objects", "noncurrent_versions", "delete_markers"].map(|name| all.count(name));
    assert_eq!(counts, [13, 3, 9, 1]);
    let rows = rows_of(&manifest_in(&all));
    let latest = rows.iter().filter(|row| row["IsLatest"] == "true").count();
    assert_eq!(latest, 4);
}

fn many(count: usize) -> BTreeSet<String> {
    let keys = (0..count).map(|n| format!("{}/{n:06}", ["a", "b", "logs/2026"][n % 3]));
    keys.chain(ODD.map(str::to_owned)).collect()
}

#[test]
fn killed_at_any_moment_the_same_command_ends_with_each_key_once() {
    let keys = many(20_000);
    let lister = Lister::start(keys.clone(), Manner::Sound);
    let inventory = Inventory::of_lister(&lister, "--part-rows 1500 --concurrency 4");
    let journal = inventory.job.state().join("journal");
    let mut chance = chance::rng(chance::seed());
    for _ in 0..4 {
        lister.let_through(rand::RngExt::random_range(&mut chance, 1..12));
        let mut child = inventory.command().spawn().expect("it starts");
        lister.wait_until_held();
        // SIGKILL.
        child.kill().expect("killed");
        child.wait().expect("dead");
        lister.let_through(u64::MAX);
    }
    // And once where it is known that some parts are there.
    lister.let_through(9);
    let mut child = inventory.command().spawn().expect("it starts");
    lister.wait_until_held();
    while fs::read(&journal).is_ok_and(|lines| lines.is_empty()) {
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("dead");
    lister.let_through(u64::MAX);
    let run = inventory.run().expect(0);
    let listed = keys_in(&rows_of(&manifest_in(&run)));
    assert_eq!(listed, keys.into_iter().collect::<Vec<_>>());
    assert!(run.count("already_listed") >= 1_500, "{}", run.stdout);
    assert!(!inventory.job.state().exists(), "the state is gone");
}

#[test]
fn asked_to_stop_it_keeps_what_it_has_and_goes_on() {
    let keys = many(9_000);
    let lister = Lister::start(keys.clone(), Manner::Sound);
    let inventory = Inventory::of_lister(&lister, "--concurrency 2");
    lister.let_through(3);
    let child = inventory.command().spawn().expect("it starts");
    lister.wait_until_held();
    send(&child, Signal::SIGTERM);
    while !fs::read_to_string(format!("/proc/{}/status", child.id()))
        .is_ok_and(|status| status.contains("State:\tS"))
    {
        std::thread::yield_now();
    }
    // What is on the wire may end.
    lister.let_through(u64::MAX);
    let run = finish(child).expect(75);
    assert_eq!(run.summary()["status"], "interrupted");
    let had = run.count("rows");
    assert!(had > 0 && had < keys.len() as u64, "{had}");
    // Another inventory can't have the state.
    let other = Inventory::of_lister(&lister, "--versions all")
        .with(&["--state", &inventory.job.state().display().to_string()]);
    other
        .without_first_state()
        .run()
        .expect(5)
        .says(&["is of another inventory"]);
    let before = lister.requests();
    let run = inventory.run().expect(0);
    assert_eq!(run.count("already_listed"), had);
    assert_eq!(run.count("rows"), keys.len() as u64);
    assert!(lister.requests() > before);
    assert_eq!(
        keys_in(&rows_of(&manifest_in(&run))),
        keys.into_iter().collect::<Vec<_>>()
    );
}

impl Inventory {
    /// A flag is given once.
    fn without_first_state(mut self) -> Self {
        let at = self
            .args
            .iter()
            .position(|arg| arg == "--state")
            .expect("a state");
        self.args.drain(at..at + 2);
        self
    }
}

#[test]
fn a_store_that_lists_badly_is_told_and_not_believed() {
    for (manner, says) in [
        (Manner::IgnoresStartAfter, "asked for what comes behind"),
        (Manner::TurnsPages, "comes behind"),
        (Manner::Repeats, "asked for what comes behind"),
        (
            Manner::NeverEnds,
            "an empty page that says that there is more",
        ),
        (Manner::IgnoresPrefix, "does not begin with the prefix"),
    ] {
        let lister = Lister::start(many(9_000), manner);
        let keys = Credentials::new("AKIA", "secret");
        let source = format!("s3://{BUCKET}/logs/");
        let inventory = Inventory::of(&lister.url(), &keys, &source, "");
        let run = inventory.run().expect(4).says(&[says]);
        assert_eq!(run.summary()["manifest"], Value::Null, "{manner:?}");
        let out = inventory.job.path("out").join("bucket/reseal");
        let dated = fs::read_dir(out).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_name() != "data")
                .count()
        });
        assert_eq!(dated, 0, "{manner:?}");
    }
}

/// A listing alone, at the library's front.
async fn list(s3: &S3, prefix: &str, page_rows: u16, lanes: usize) -> Vec<(u64, String)> {
    let limiter = Limiter::new(&Budgets::default(), 4_096, 1);
    let asker = Asker::new(
        s3.clone(),
        limiter,
        Stall::new(std::time::Duration::ZERO),
        shutdown::never(),
    );
    let scope = Scope {
        bucket: BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        with_versions: false,
        page_rows,
    };
    let listed = RefCell::new(Vec::new());
    let take = async |batch: listing::Batch| {
        let rows = batch.rows.into_iter().map(|row| (batch.range, row.key));
        listed.borrow_mut().extend(rows);
        Ok::<_, ()>(())
    };
    let ended = listing::list(&asker, &scope, vec![Range::whole()], lanes, take, |_| {}).await;
    ended.expect("listed");
    listed.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    /// Over the wire, whatever is in the keys: each once, and a range's in their order.
    #[test]
    fn every_key_is_listed_once_over_the_wire(
        keys in proptest::collection::btree_set("[ab/+ %&<\u{1}\n\u{e4}\u{1f600}]{1,8}|\\PC{1,6}|p/[0-9]{4}", 0..300),
        prefix in prop::sample::select(vec!["", "p/", "a", "\u{e4}"]),
        page_rows in 1..50_u16, lanes in 1..24_usize,
    ) {
        let lister = Lister::start(keys.clone(), Manner::Sound);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listed = runtime.block_on(async {
            let s3 = direct::connect(lister.url(), "key", "secret").await;
            list(&s3, prefix, page_rows, lanes).await
        });
        let mut by_range: BTreeMap<u64, Vec<&String>> = BTreeMap::new();
        for (range, key) in &listed {
            by_range.entry(*range).or_default().push(key);
        }
        for keys in by_range.values() {
            prop_assert!(keys.is_sorted());
        }
        let mut all: Vec<_> = listed.iter().map(|(_, key)| key.clone()).collect();
        all.sort();
        let expected: Vec<_> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        prop_assert_eq!(all, expected);
    }
}
