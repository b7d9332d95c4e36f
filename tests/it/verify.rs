//! `reseal verify`: what holds and what does not, what was read, and whether a key may be retired. It changes nothing.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::Signal;
use reseal::local_s3::credentials::Credentials;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::faults::{Proxy, Weather};
use crate::support::lister::{Lister, Manner};
use crate::support::moto::Moto;
use crate::support::objects::{self, SseC, Under};
use crate::support::versioned::Versioned;
use crate::support::{BUCKET, Job, Run, Store, finish, read_report, send};

const KEY: SseC = SseC(*b"a customer's key of 32 bytes ...");

/// `reseal verify` with what a job has: its store, its credentials and its folder.
fn command(job: &Job, endpoint: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command
        .args(["verify", "--endpoint-url", endpoint, "--path-style"])
        .args([
            "--progress",
            "none",
            "--report",
            "verified",
            "--output",
            "json",
        ])
        .args(args.split_whitespace());
    job.prepare(&mut command);
    command
}

fn verify(job: &Job, endpoint: &str, args: &str) -> Run {
    // Each has a report of its own.
    let _ = std::fs::remove_dir_all(job.path("verified"));
    let run = command(job, endpoint, args).output();
    Run::of(run.expect("the binary starts"))
}

/// What is told of the one key, and why.
fn verdict(told: &Value) -> (&str, String) {
    let key = &told["keys"][0];
    let answer = key["may_be_retired"].as_str().expect("an answer");
    (answer, key["reasons"].to_string())
}

#[tokio::test]
async fn each_row_is_told_and_nothing_is_changed() {
    let store = Store::start().await;
    let (old, new) = (store.add_kms_key(None), store.add_kms_key(None));
    for (key, under) in [
        ("a", Under::SseS3),
        ("b", Under::Kms(old.clone())),
        ("c", Under::Kms(new.clone())),
        ("d", Under::Customer(KEY)),
        ("e", Under::Dsse(new.clone())),
    ] {
        objects::put(&store.client, key, key.as_bytes(), &under).await;
    }
    let keys = ["a", "b", "c", "d", "e", "gone"];
    let job = store.job(&keys);
    job.write("customer.key", KEY.base64());
    let (url, before) = (store.s3.endpoint_url(), store.writes());
    let target = format!("--to sse-kms --kms-key-id {new} --source-sse-c-key-file customer.key");
    let run = verify(&job, &url, &format!("--manifest manifest.csv {target}")).expect(3);
    let rows: Vec<_> = read_report(&job.path("verified"))
        .into_iter()
        .map(|row| (row.key, row.status, row.code))
        .collect();
    let row = |key: &str, status: &str, code: &str| (key.into(), status.into(), code.into());
    let other = |key| row(key, "failed", "NotUnderTarget");
    let expected: [(String, String, String); 6] = [
        row("c", "succeeded", ""),
        other("a"),
        other("b"),
        other("d"),
        other("e"),
        row("gone", "failed", "NotFound"),
    ];
    assert_eq!(rows[..5], expected[..5]);
    assert_eq!((&*rows[5].0, &*rows[5].1), ("gone", "failed"));
    let told = run.summary();
    assert_eq!(told["held"], 1, "{told}");
    assert_eq!(told["failures"]["NotUnderTarget"], 4, "{told}");
    assert_eq!(told["found"].as_array().map(Vec::len), Some(5), "{told}");

    // What the bucket key is is held against what was asked by name, and against nothing else.
    let asked = format!("--bucket {BUCKET} --prefix c {target} --bucket-key true");
    let run = verify(&job, &url, &asked).expect(3);
    assert_eq!(run.summary()["failures"]["BucketKeyDiffers"], 1);

    // The key of everything that is under it.
    let asked =
        format!("--bucket {BUCKET} --retire-key {old} --source-sse-c-key-file customer.key");
    let told = verify(&job, &url, &asked).expect(3).summary();
    let (answer, why) = verdict(&told);
    assert_eq!(
        (answer, &told["keys"][0]["examples"][0]["key"]),
        ("no", &"b".into()),
        "{why}"
    );
    // Without the customer's key one object can't be looked at: nobody knows what it is under.
    let unused = store.add_kms_key(None);
    let told = verify(
        &job,
        &url,
        &format!("--bucket {BUCKET} --retire-key {unused}"),
    )
    .expect(3);
    let told = told.summary();
    let (answer, why) = verdict(&told);
    assert_eq!(answer, "unknown", "{why}");
    assert!(why.contains("could not be looked at"), "{why}");

    let asked =
        format!("--bucket {BUCKET} --retire-key {unused} --source-sse-c-key-file customer.key");
    let told = verify(&job, &url, &asked).expect(0).summary();
    assert_eq!(verdict(&told).0, "yes", "{told}");
    assert_eq!(store.writes(), before);
}

#[tokio::test]
async fn a_key_is_retired_when_nothing_can_be_under_it_any_more() {
    let versioned = Versioned::with_objects(3).await;
    let (store, url) = (&versioned.store, versioned.store.s3.endpoint_url());
    let old = store.add_kms_key(None);
    objects::put(&store.client, "object/1", b"1", &Under::Kms(old.clone())).await;
    let job = versioned.job();
    job.run().expect(0);
    let ask = |what: &str| {
        let told = verify(&job, &url, &format!("{what} --retire-key {old}"));
        let told = told.summary();
        let (answer, why) = verdict(&told);
        (answer.to_owned(), why, told)
    };
    // The superseded version is under it still.
    let (answer, why, told) = ask(&format!("--bucket {BUCKET}"));
    assert_eq!(
        (&*answer, &told["keys"][0]["noncurrent"]),
        ("no", &1.into()),
        "{why}"
    );
    // Whoever does not look at it must not say yes.
    let (answer, why, _) = ask(&format!("--bucket {BUCKET} --versions-listed current"));
    assert_eq!(answer, "unknown", "{why}");
    let (answer, why, _) = ask("--manifest manifest.csv");
    assert_eq!(answer, "unknown", "{why}");
    assert!(why.contains("no inventory of all versions"), "{why}");
    let (answer, why, _) = ask(&format!("--bucket {BUCKET} --prefix object/0"));
    assert_eq!(answer, "unknown", "{why}");

    let superseded = told["keys"][0]["examples"][0]["version_id"]
        .as_str()
        .expect("an id");
    let delete = store.client.delete_object().bucket(BUCKET).key("object/1");
    delete.version_id(superseded).send().await.expect("deleted");
    let (answer, why, _) = ask(&format!("--bucket {BUCKET}"));
    assert_eq!(answer, "yes", "{why}");

    // What an upload is under nobody can see.
    let upload = store
        .client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("large");
    let upload = upload
        .send()
        .await
        .expect("an upload")
        .upload_id
        .expect("an id");
    let (answer, why, told) = ask(&format!("--bucket {BUCKET}"));
    assert_eq!(
        (&*answer, &told["uploads"]["in_progress"]),
        ("unknown", &1.into()),
        "{why}"
    );
    let abort = store
        .client
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("large");
    abort.upload_id(upload).send().await.expect("aborted");
    assert_eq!(ask(&format!("--bucket {BUCKET}")).0, "yes");
}

#[tokio::test]
async fn a_superseded_version_holds_only_where_that_was_asked_for() {
    let versioned = Versioned::with_objects(2).await;
    let (store, url) = (&versioned.store, versioned.store.s3.endpoint_url());
    let head = objects::head(&store.client, "object/0", None).await;
    let version = head.version_id.expect("a version");
    let job = versioned.job();
    job.write_manifest(&format!("{BUCKET},object/0,{version}\n"));
    job.run().expect(0);
    let asked = format!(
        "--manifest manifest.csv --to sse-kms --kms-key-id {}",
        versioned.arn
    );
    let told = verify(&job, &url, &asked).expect(3).summary();
    assert_eq!(told["failures"]["VersionSuperseded"], 1, "{told}");
    let told = verify(&job, &url, &format!("{asked} --accept-superseded")).expect(0);
    assert_eq!(told.summary()["held"], 1);
}

#[tokio::test]
async fn what_is_read_is_compared_and_what_can_not_be_is_not_claimed() {
    let store = Store::start().await;
    let keys: Vec<_> = (0..4).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let arn = store.add_kms_key(None);
    // A checksum of parts' checksums is none of the object.
    let upload = store
        .client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("parts");
    let upload = upload
        .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256)
        .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
        .ssekms_key_id(&arn);
    let id = upload
        .send()
        .await
        .expect("an upload")
        .upload_id
        .expect("an id");
    let part = store
        .client
        .upload_part()
        .bucket(BUCKET)
        .key("parts")
        .upload_id(&id);
    let sha256 = BASE64.encode(Sha256::digest(b"some bytes"));
    let part = part
        .part_number(1)
        .checksum_sha256(sha256)
        .body(b"some bytes".to_vec().into());
    let part = part.send().await.expect("a part");
    let part = aws_sdk_s3::types::CompletedPart::builder()
        .part_number(1)
        .e_tag(part.e_tag.expect("an ETag"))
        .set_checksum_sha256(part.checksum_sha256)
        .build();
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part);
    let done = store
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("parts");
    let done = done.upload_id(&id).multipart_upload(parts.build());
    done.send().await.expect("completed");

    let proxy = Proxy::before(&store.s3, Weather::Rubbish { after: 3 });
    let job = Job::new(&proxy.url(), store.s3.credentials(), &keys);
    let job = job
        .args("--concurrency 1 --to sse-kms --kms-key-id")
        .args(&arn);
    job.run().expect(0);
    let target = format!("--bucket {BUCKET} --to sse-kms --kms-key-id {arn} --read all");
    let told = verify(&job, &proxy.url(), &target).expect(3).summary();
    assert_eq!(told["failures"]["ChecksumMismatch"], 1, "{told}");
    let read = &told["read"];
    assert_eq!(read["same"], 3, "{read}");
    assert_eq!(read["differ"], 1, "{read}");
    assert_eq!(read["nothing_to_compare"], 1, "{read}");
    // Nothing is wrong but on the way through the proxy.
    verify(&job, &store.s3.endpoint_url(), &target).expect(0);
}

#[tokio::test]
async fn asked_to_stop_it_stops_and_says_nothing() {
    let store = Store::start().await;
    let keys: Vec<_> = (0..2_000).map(|n| format!("object/{n}")).collect();
    let job = store.job(&keys);
    objects::put_many(&store.client, &keys[..1]).await;
    let url = store.s3.endpoint_url();
    let args = "--manifest manifest.csv --to sse-s3 --request-rate 20";
    let child = command(&job, &url, args).spawn().expect("started");
    let looks = || {
        store
            .s3
            .requests()
            .keys()
            .any(|seen| seen.operation.contains("HEAD.OBJECT"))
    };
    while !looks() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    send(&child, Signal::SIGTERM);
    let run = finish(child).expect(75);
    assert_eq!(run.stdout, "");
    assert!(!job.path("verified").join("manifest.json").exists());
}

#[tokio::test]
async fn moto_is_verified_too() {
    let Some(moto) = Moto::start("moto_is_verified_too").await else {
        return;
    };
    const K1: &str = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";
    const UNUSED: &str =
        "arn:aws:kms:us-east-1:123456789012:key/22222222-2222-2222-2222-222222222222";
    for (key, under) in [("a b", Under::SseS3), ("ü", Under::Kms(K1.to_owned()))] {
        objects::put(&moto.client, key, b"bytes", &under).await;
    }
    let credentials = reseal::local_s3::credentials::Credentials::new("AKIAMOTO", "secret");
    let job = Job::new(&moto.url, &credentials, &["a b"]);
    let args = format!("--bucket {BUCKET} --to sse-kms --kms-key-id {K1} --retire-key {K1}");
    let told = verify(&job, &moto.url, &args).expect(3).summary();
    assert_eq!(
        (&told["held"], &told["failed"]),
        (&1.into(), &1.into()),
        "{told}"
    );
    assert_eq!(verdict(&told).0, "no");
    let args = format!("--bucket {BUCKET} --retire-key {UNUSED} --read all");
    let told = verify(&job, &moto.url, &args).expect(0).summary();
    assert_eq!(verdict(&told).0, "yes", "{told}");
}

/// Keys that such a listing has left out could be under the key.
#[test]
fn a_listing_without_order_is_no_verdict() {
    let keys = (0..2_500).map(|n| format!("key/{n:05}"));
    let keys: BTreeSet<_> = keys.chain(["other".to_owned()]).collect();
    const UNSEEN: &str = "2b1059be-8f80-40b9-8c0d-38f8c45e811e";
    for manner in [Manner::TurnsPages, Manner::Repeats, Manner::IgnoresPrefix] {
        let lister = Lister::start(keys.clone(), manner);
        let credentials = Credentials::new("AKIA", "secret");
        let job = Job::new(&lister.url(), &credentials, &[] as &[&str]);
        let args = format!("--bucket {BUCKET} --prefix key/ --retire-key {UNSEEN}");
        let run = verify(&job, &lister.url(), &args);
        run.expect(4).says(&["can't be relied on"]);
    }
}
