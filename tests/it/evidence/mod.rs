//! Evidence: one line for each rewrite, whatever was killed on the way; a chain that shows each change; and the way back.

mod kills;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, Tag, Tagging, VersioningConfiguration};
use flate2::read::GzDecoder;
use nix::sys::signal::Signal;
use rand::RngExt as _;
use serde_json::Value;

use crate::support::chance::{self, seed};
use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::moto::Moto;
use crate::support::objects::{self, SseC, Under};
use crate::support::versioned::Versioned;
use crate::support::{BUCKET, Job, Run, finish, read_report, send, url_decode};

const KEY: SseC = SseC(*b"a customer's key of 32 bytes ...");

/// One line of evidence, by its columns.
type Line = BTreeMap<String, String>;

fn command(job: &Job, endpoint: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command
        .args(args.split_whitespace())
        .args(["--endpoint-url", endpoint, "--path-style"])
        .args(["--progress", "none", "--output", "json"]);
    job.prepare(&mut command);
    command
}

fn reseal(job: &Job, endpoint: &str, args: &str) -> Run {
    Run::of(command(job, endpoint, args).output().expect("it starts"))
}

/// Writes report and evidence once more, from the state alone.
fn write_again(job: &Job) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args(["report", "--state", "state", "--report", "again"]);
    command.args(["--evidence", "evidence"]);
    job.prepare(&mut command);
    Run::of(command.output().expect("it starts")).expect(0);
}

/// The folder of the one job's evidence.
fn folder(job: &Job) -> PathBuf {
    let jobs = fs::read_dir(job.path("evidence")).expect("evidence");
    let jobs: Vec<_> = jobs.map(|job| job.expect("an entry").path()).collect();
    assert_eq!(jobs.len(), 1);
    jobs[0].clone()
}

fn index(job: &Job) -> Value {
    let json = fs::read(folder(job).join("evidence.json")).expect("an index");
    serde_json::from_slice(&json).expect("JSON")
}

fn key_of(line: &Line) -> String {
    url_decode(&line["Key"].replace('+', " "))
}

/// Every line, read without reseal.
fn lines(job: &Job) -> Vec<Line> {
    let mut all = Vec::new();
    for chain in index(job)["chains"].as_array().expect("chains") {
        for part in chain["parts"].as_array().expect("parts") {
            let path = folder(job).join(part["name"].as_str().expect("a name"));
            let mut csv = String::new();
            let file = fs::File::open(&path).expect("a part");
            GzDecoder::new(file).read_to_string(&mut csv).expect("gzip");
            let reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(csv.as_bytes());
            let mut records = reader.into_records().map(|record| record.expect("CSV"));
            records.next().expect("a head");
            let columns = records.next().expect("columns");
            all.extend(records.map(|record| {
                let names = columns.iter().map(str::to_owned);
                names
                    .zip(record.iter().map(str::to_owned))
                    .collect::<Line>()
            }));
        }
    }
    all
}

/// Each line says what the store shows: the version that was superseded is what it was, the new one what it became.
async fn assert_true(setup: &Versioned, lines: &[Line]) {
    for line in lines {
        let key = key_of(line);
        for state in ["Before", "After"] {
            let of = |name: &str| line[&format!("{state}{name}")].clone();
            if state == "Before" && line["BeforeKnown"] == "false" {
                continue;
            }
            let head = setup.store.client.head_object().bucket(BUCKET).key(&key);
            let head = head
                .version_id(of("VersionId"))
                .send()
                .await
                .expect("a version");
            assert_eq!(head.e_tag.as_deref(), Some(&*of("ETag")), "{line:?}");
            assert_eq!(
                head.ssekms_key_id.as_deref().unwrap_or_default(),
                of("Key"),
                "{line:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_chain_is_checked_without_the_state_and_each_change_shows() {
    let setup = Versioned::with_objects(8).await;
    let job = setup.job().args("--evidence evidence --shards 2");
    let shard = |index: &str| {
        let mut command = job.command();
        command.args(["--shard", index]);
        Run::of(command.output().expect("it starts")).expect(0)
    };
    assert_eq!(shard("0").summary()["evidence"], Value::Null);
    let told = shard("1").summary();
    let url = setup.store.s3.endpoint_url();
    assert_eq!(index(&job)["chains"].as_array().map(Vec::len), Some(2));
    fs::remove_dir_all(job.state()).expect("the state is gone");
    let at = told["evidence"].as_str().expect("a path").to_owned();
    let sha256 = told["evidence_sha256"].as_str().expect("a digest");
    let check = |args: &str| reseal(&job, &url, &format!("verify --evidence {at} {args}"));
    let checked = check(&format!("--evidence-sha256 {sha256}"))
        .expect(0)
        .summary();
    assert_eq!(checked["evidence"]["rewrites"], 8, "{checked}");
    assert_eq!(checked["rows"], 0);
    check(&format!("--evidence-sha256 {}", "0".repeat(64))).expect(5);
    // Its objects, looked at.
    let target = format!("--to sse-kms --kms-key-id {} --report verified", setup.arn);
    assert_eq!(check(&target).expect(0).summary()["held"], 8);
    objects::put_plain(&setup.store.client, "object/1", b"later").await;
    let line = &lines(&job)[0];
    let key = key_of(line);
    let delete = setup.store.client.delete_object().bucket(BUCKET).key(key);
    delete
        .version_id(&line["AfterVersionId"])
        .send()
        .await
        .expect("deleted");
    assert_eq!(check(&target).expect(3).summary()["failed"], 1);

    let part = folder(&job).join("shard-00000/part-000000.csv.gz");
    let mut bytes = fs::read(&part).expect("a part");
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&part, bytes).expect("written");
    check("")
        .expect(5)
        .says(&["shard-00000/part-000000.csv.gz", "SHA-256", "hint: "]);
    fs::remove_file(&part).expect("removed");
    check("")
        .expect(5)
        .says(&["shard-00000/part-000000.csv.gz"]);
    reseal(&job, &url, "verify --evidence nowhere").expect(2);
}

/// A bucket whose objects were of all modes, rewritten with evidence. What each was, by its key.
async fn rewritten() -> (
    Versioned,
    Job,
    BTreeMap<&'static str, (Under, objects::Kept)>,
) {
    let setup = Versioned::with_objects(0).await;
    let client = &setup.store.client;
    let old = setup.store.add_kms_key(None);
    let mut before = BTreeMap::new();
    for (key, under) in [
        ("a b+c", Under::SseS3),
        ("k", Under::Kms(old.clone())),
        ("d", Under::Dsse(old)),
        ("customer", Under::Customer(KEY)),
        ("changed", Under::SseS3),
        ("gone", Under::SseS3),
    ] {
        objects::put(client, key, key.as_bytes(), &under).await;
        let kept = objects::kept(client, key, under.customer_key()).await;
        before.insert(key, (under, kept));
    }
    let keys: Vec<_> = before.keys().copied().collect();
    let job = setup.store.job(&keys);
    job.write("customer.key", KEY.base64());
    let job = job
        .args("--evidence evidence --source-sse-c-key-file customer.key --to sse-kms --kms-key-id")
        .args(&setup.arn);
    assert_eq!(job.run().expect(0).count("succeeded"), 6);
    (setup, job, before)
}

const UNDO: &str =
    "undo --evidence evidence/EVIDENCE --source-sse-c-key-file customer.key --report undone";

fn undo(job: &Job, url: &str, args: &str) -> Run {
    let _ = fs::remove_dir_all(job.path("undone"));
    let name = folder(job);
    let name = name
        .file_name()
        .and_then(|name| name.to_str())
        .expect("UTF-8");
    reseal(
        job,
        url,
        &format!("{} {args}", UNDO.replace("EVIDENCE", name)),
    )
}

fn codes(job: &Job) -> BTreeMap<String, String> {
    let rows = read_report(&job.path("undone"));
    rows.into_iter()
        .map(|row| (url_decode(&row.key.replace('+', " ")), row.code))
        .collect()
}

#[tokio::test]
async fn what_was_superseded_is_written_back_and_nothing_else() {
    let (setup, job, before) = rewritten().await;
    let (client, url) = (&setup.store.client, setup.store.s3.endpoint_url());
    assert_true(
        &setup,
        &lines(&job)
            .into_iter()
            .filter(|line| line["Key"] != "customer")
            .collect::<Vec<_>>(),
    )
    .await;
    assert!(
        !fs::read_dir(folder(&job)).is_ok_and(|mut all| all.any(|path| {
            let path = path.expect("an entry").path();
            path.is_file()
                && fs::read_to_string(path)
                    .expect("text")
                    .contains(&KEY.base64())
        }))
    );
    // Somebody has written one since, and a version that was superseded is gone.
    objects::put_plain(client, "changed", b"later").await;
    let line = lines(&job)
        .into_iter()
        .find(|line| line["Key"] == "gone")
        .expect("its line");
    let delete = client.delete_object().bucket(BUCKET).key("gone");
    delete
        .version_id(&line["BeforeVersionId"])
        .send()
        .await
        .expect("deleted");

    let writes = setup.store.writes();
    let told = undo(&job, &url, "--dry-run").expect(3).summary();
    assert_eq!(
        (&told["written_back"], &told["failed"]),
        (&4.into(), &2.into()),
        "{told}"
    );
    assert_eq!(setup.store.writes(), writes, "a dry run has written");

    // Tags that somebody has set since are nobody's to lose, though neither version nor ETag has moved.
    let known = ["changed", "gone", "customer"];
    let tagged = lines(&job)
        .into_iter()
        .map(|line| line["Key"].clone())
        .find(|key| !known.contains(&key.as_str()))
        .expect("another one");
    let tagged = url_decode(&tagged.replace('+', " "));
    let tags = client.get_object_tagging().bucket(BUCKET).key(&tagged);
    let tags = tags.send().await.expect("tags").tag_set;
    let set = async |tags: Vec<Tag>| {
        let tagging = Tagging::builder().set_tag_set(Some(tags)).build();
        let put = client.put_object_tagging().bucket(BUCKET).key(&tagged);
        let put = put.tagging(tagging.expect("tags"));
        put.send().await.expect("tagged");
    };
    let tag = Tag::builder().key("since").value("then").build();
    set(vec![tag.expect("a tag")]).await;
    let told = undo(&job, &url, "--dry-run").expect(3).summary();
    assert_eq!(
        (&told["written_back"], &told["failed"]),
        (&3.into(), &3.into()),
        "{told}"
    );
    assert_eq!(codes(&job)[&tagged], "ChangedSinceRewrite");
    set(tags).await;

    let told = undo(&job, &url, "--verify read").expect(3).summary();
    assert_eq!(
        (&told["written_back"], &told["failed"]),
        (&4.into(), &2.into()),
        "{told}"
    );
    let codes_of = codes(&job);
    assert_eq!(codes_of["changed"], "ChangedSinceRewrite");
    assert_eq!(codes_of["gone"], "SupersededVersionGone");
    for (key, (under, kept)) in &before {
        let head =
            objects::head(client, key, under.customer_key().filter(|_| *key != "gone")).await;
        match *key {
            "changed" => assert_eq!(
                objects::read(client, key, None).await.as_deref(),
                Ok(&b"later"[..])
            ),
            "gone" => assert!(Under::Kms(setup.arn.clone()).is_shown_by(&head)),
            _ => {
                assert!(under.is_shown_by(&head), "{key}: {head:?}");
                assert_eq!(
                    &objects::kept(client, key, under.customer_key()).await,
                    kept,
                    "{key}"
                );
            }
        }
    }
    // Again, it has nothing to do.
    let writes = setup.store.writes();
    let told = undo(&job, &url, "").expect(3).summary();
    assert_eq!(
        (&told["already"], &told["written_back"]),
        (&4.into(), &0.into()),
        "{told}"
    );
    assert_eq!(setup.store.writes(), writes);
}

#[tokio::test]
async fn killed_or_stopped_or_unanswered_it_writes_back_once() {
    let setup = Versioned::with_objects(120).await;
    let url = setup.store.s3.endpoint_url();
    let job = setup.job().args("--evidence evidence");
    job.run().expect(0);
    let name = folder(&job);
    let args = format!(
        "undo --evidence {} --report undone --rate 100",
        name.display()
    );
    let copies = || -> u64 { setup.store.copies().values().sum() };
    let wait_for = |count: u64| {
        while copies() < count {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let seen = copies();
    let mut child = command(&job, &url, &args).spawn().expect("it starts");
    wait_for(seen + 10);
    child.kill().expect("killed");
    child.wait().expect("dead");
    // What was on the wire comes in still: a copy of a few bytes takes much less.
    let mut quiet = (copies(), Instant::now());
    while quiet.1.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
        if copies() > quiet.0 {
            quiet = (copies(), Instant::now());
        }
    }
    let seen = copies();
    let child = command(&job, &url, &args).spawn().expect("it starts");
    wait_for(seen + 10);
    send(&child, Signal::SIGTERM);
    let run = finish(child).expect(75);
    assert!(
        run.summary()["written_back"].as_u64() > Some(0),
        "{}",
        run.stdout
    );
    // The answer gets lost: a look tells that it has happened.
    let weather = Weather::Rule(|line, _| line.starts_with("PUT ").then_some(Fault::CutAfter));
    let proxy = Proxy::start(setup.store.s3.addr(), weather);
    let fast = format!("undo --evidence {} --report undone", name.display());
    let told = reseal(&job, &proxy.url(), &fast).expect(0).summary();
    assert_eq!(told["failed"], 0, "{told}");
    let versions = setup.versions().await;
    let wrong: Vec<_> = versions.iter().filter(|(_, count)| **count != 3).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn where_there_is_no_way_back_it_says_why() {
    // Updated in place; without versions; in a bucket that does not keep them any more.
    let setup = Versioned::with_objects(2).await;
    let url = setup.store.s3.endpoint_url();
    let job = setup
        .job()
        .args("--evidence evidence --probe auto --canary 0");
    let run = job.run().expect(0);
    assert_eq!(run.summary()["methods"]["update"], 2, "{}", run.stdout);
    let line = &lines(&job)[0];
    assert_eq!(line["BeforeVersionId"], line["AfterVersionId"]);
    assert_true(&setup, &[]).await;
    job.write("customer.key", KEY.base64());
    undo(&job, &url, "").expect(3);
    assert!(
        codes(&job).values().all(|code| code == "UpdatedInPlace"),
        "{:?}",
        codes(&job)
    );

    let store = crate::support::Store::start().await;
    let arn = store.add_kms_key(None);
    objects::put_plain(&store.client, "plain", b"bytes").await;
    let job = store
        .job(&["plain"])
        .args("--evidence evidence --to sse-kms --kms-key-id")
        .args(&arn);
    job.run().expect(0);
    job.write("customer.key", KEY.base64());
    let writes = store.writes();
    undo(&job, &store.s3.endpoint_url(), "").expect(3);
    assert_eq!(codes(&job)["plain"], "NoSupersededVersion");
    assert_eq!(store.writes(), writes);
    assert!(Path::new(&folder(&job)).exists());
}

#[tokio::test]
async fn moto_does_not_say_enough_for_a_way_back() {
    let Some(moto) = Moto::start("moto_does_not_say_enough_for_a_way_back").await else {
        return;
    };
    const K1: &str = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";
    const K2: &str = "arn:aws:kms:us-east-1:123456789012:key/22222222-2222-2222-2222-222222222222";
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let versioning = moto.client.put_bucket_versioning().bucket(BUCKET);
    let versioning = versioning.versioning_configuration(enabled);
    versioning.send().await.expect("versioning");
    let before = [("a b", Under::SseS3), ("ü", Under::Kms(K1.to_owned()))];
    for (key, under) in &before {
        objects::put(&moto.client, key, key.as_bytes(), under).await;
    }
    let credentials = reseal::local_s3::credentials::Credentials::new("AKIAMOTO", "secret");
    let job = Job::new(
        &moto.url,
        &credentials,
        &before.each_ref().map(|(key, _)| *key),
    );
    job.write("customer.key", KEY.base64());
    let job = job
        .args("--evidence evidence --to sse-kms --kms-key-id")
        .args(K2);
    job.run().expect(0);
    // moto does not say, in S3's words, that the bucket keeps versions: then nothing is touched.
    let versions = async || {
        let list = moto.client.list_object_versions().bucket(BUCKET).send();
        list.await.expect("versions").versions().len()
    };
    assert_eq!(versions().await, 4);
    undo(&job, &moto.url, "").expect(3);
    assert!(
        codes(&job)
            .values()
            .all(|code| code == "VersioningNotEnabled")
    );
    assert_eq!(versions().await, 4);
    assert_eq!(lines(&job).len(), 2);
}

/// State, report and evidence are all in the bucket's store: what is written is what a folder would have, and is read from there.
#[tokio::test]
async fn in_s3_it_is_the_same_and_leads_back() {
    let setup = Versioned::with_objects(5).await;
    let (client, url) = (&setup.store.client, setup.store.s3.endpoint_url());
    let places = client.create_bucket().bucket("places");
    places.send().await.expect("a bucket");
    let job = setup.job().args("--evidence s3://places/evidence");
    let told = job.run().expect(0).summary();
    let text = |name: &str| told[name].as_str().expect(name).to_owned();
    let (at, sha256) = (text("evidence"), text("evidence_sha256"));
    assert!(at.starts_with("s3://places/evidence/job-"), "{at}");

    // The same job's evidence in a folder has the same bytes.
    write_again(&job);
    let name = folder(&job);
    let name = name.file_name().expect("a name").to_string_lossy();
    for file in ["evidence.json", "shard-00000/part-000000.csv.gz"] {
        let key = format!("evidence/{name}/{file}");
        let stored = client.get_object().bucket("places").key(&key).send().await;
        let stored = stored.expect("it is there").body.collect().await;
        let here = fs::read(folder(&job).join(file)).expect("a file");
        assert_eq!(stored.expect("whole").to_vec(), here, "{file}");
    }

    let evidence = format!("--evidence s3://places/evidence/{name}");
    let pinned = format!("verify {evidence} --evidence-sha256 {sha256}");
    let checked = reseal(&job, &url, &pinned).expect(0).summary();
    assert_eq!(checked["evidence"]["rewrites"], 5, "{checked}");
    let told = reseal(
        &job,
        &url,
        &format!("undo {evidence} --report s3://places/undone"),
    )
    .expect(0)
    .summary();
    assert_eq!(told["written_back"], 5, "{told}");
    for key in &setup.keys {
        let head = objects::head(client, key, None).await;
        assert!(Under::SseS3.is_shown_by(&head), "{key}");
    }
    let reported = told["report"].as_str().expect("a report");
    let key = reported.strip_prefix("s3://places/").expect("there");
    let head = client.head_object().bucket("places").key(key).send().await;
    head.expect("the report is there");

    // A part that is changed there is found there.
    let part = format!("evidence/{name}/shard-00000/part-000000.csv.gz");
    let bytes = client.get_object().bucket("places").key(&part).send().await;
    let mut bytes = bytes
        .expect("there")
        .body
        .collect()
        .await
        .expect("whole")
        .to_vec();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    let put = client.put_object().bucket("places").key(&part);
    put.body(bytes.into()).send().await.expect("written");
    reseal(&job, &url, &pinned)
        .expect(5)
        .says(&["shard-00000/part-000000.csv.gz", "SHA-256"]);
}

/// All of a key's versions are rewritten: each has its line, and the old one's is true before, the copy's after.
#[tokio::test]
async fn a_restack_has_a_line_for_each_version() {
    let setup = Versioned::with_objects(0).await;
    let client = &setup.store.client;
    let old = setup.store.add_kms_key(None);
    for (version, under) in [
        ("first", Under::SseS3),
        ("second", Under::Kms(old.clone())),
        ("third", Under::Dsse(old)),
    ] {
        objects::put(client, "key", version.as_bytes(), &under).await;
    }
    objects::put_plain(client, "alone", b"only one").await;
    let versions = setup.versions().await;
    let listed = client.list_object_versions().bucket(BUCKET).send().await;
    let listed = listed.expect("a page");
    let rows = listed.versions().iter().map(|version| {
        let (key, id) = (version.key(), version.version_id());
        format!("{BUCKET},{},{}\n", key.expect("a key"), id.expect("an id"))
    });
    let job = setup.store.job(&[] as &[&str]);
    job.write_manifest(&rows.collect::<String>());
    let job = job
        .args("--versions restack --evidence evidence --to sse-kms --kms-key-id")
        .args(&setup.arn);
    job.run().expect(0);
    let lines = lines(&job);
    assert_eq!(lines.len() as u64, versions.values().sum::<u64>());
    assert!(lines.iter().all(|line| line["BeforeKnown"] == "true"));
    assert_true(&setup, &lines).await;
    let of = |name: &str| {
        let versions = lines.iter().map(|line| line[name].clone());
        versions.collect::<BTreeSet<_>>()
    };
    let before: BTreeSet<_> = listed
        .versions()
        .iter()
        .map(|version| version.version_id().expect("an id").to_owned())
        .collect();
    assert_eq!(of("BeforeVersionId"), before);
    assert!(of("AfterVersionId").is_disjoint(&before));
    assert_eq!(of("AfterVersionId").len(), before.len());
    assert_eq!(of("AfterKey"), BTreeSet::from([setup.arn.clone()]));
    // There is no way back for those.
    job.write("customer.key", KEY.base64());
    undo(&job, &setup.store.s3.endpoint_url(), "").expect(3);
    let codes = codes(&job);
    assert!(codes.values().all(|code| code == "Restacked"), "{codes:?}");
}
