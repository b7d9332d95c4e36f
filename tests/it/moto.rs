//! The same job against moto, an S3 that this project did not write.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use reseal::local_s3::credentials::Credentials;
use serde_json::json;

use crate::support::moto::Moto;
use crate::support::objects::{self, SseC, Under};
use crate::support::{BUCKET, Job};

const K1: &str = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";
const K2: &str = "arn:aws:kms:us-east-1:123456789012:key/22222222-2222-2222-2222-222222222222";
const KEY: SseC = SseC(*b"a customer's key of 32 bytes ...");

fn job(moto: &Moto, keys: &[impl AsRef<str>]) -> Job {
    Job::new(&moto.url, &Credentials::new("AKIAMOTO", "secret"), keys)
}

async fn versions(moto: &Moto, key: &str) -> usize {
    let list = moto.client.list_object_versions().bucket(BUCKET);
    let list = list.prefix(key).send().await.expect("versions");
    list.versions().len()
}

#[tokio::test]
async fn into_the_modes_that_moto_has() {
    let Some(moto) = Moto::start("into_the_modes_that_moto_has").await else {
        return;
    };
    // Versions count how often an object was changed.
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let versioning = moto.client.put_bucket_versioning().bucket(BUCKET);
    let versioning = versioning.versioning_configuration(enabled);
    versioning.send().await.expect("versioning");

    let (k1, k2) = (K1.to_owned(), K2.to_owned());
    let sources = [Under::SseS3, Under::Kms(k1.clone()), Under::Kms(k2.clone())];
    for (name, target, flags) in [
        ("s3", Under::SseS3, "--to sse-s3".to_owned()),
        (
            "kms",
            Under::Kms(k2.clone()),
            format!("--to sse-kms --kms-key-id {K2}"),
        ),
    ] {
        let mut seen = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            for key in ["plain", "with space+plus", "ümlaut%41"] {
                let key = format!("{name}/{number}/{key}");
                objects::put(&moto.client, &key, key.as_bytes(), source).await;
                let kept = objects::kept(&moto.client, &key, None).await;
                seen.push((key, source, kept));
            }
        }
        let keys: Vec<_> = seen.iter().map(|(key, ..)| key).collect();
        let run = job(&moto, &keys).args(&flags).run().expect(0);
        assert_eq!((run.count("succeeded"), run.count("skipped")), (6, 3));
        for (key, source, before) in &seen {
            let head = objects::head(&moto.client, key, None).await;
            assert!(target.is_shown_by(&head), "{key}: {head:?}");
            assert_eq!(*before, objects::kept(&moto.client, key, None).await);
            let changes = usize::from(*source != &target);
            assert_eq!(versions(&moto, key).await, 1 + changes, "{key}");
        }
        let again = job(&moto, &keys).args(&flags).run().expect(0);
        assert_eq!(again.count("skipped"), 9);
    }
}

/// Its parts and everything on it, by a store that is not ours.
#[tokio::test]
async fn in_parts() {
    let Some(moto) = Moto::start("in_parts").await else {
        return;
    };
    let body = vec![7; 11 << 20];
    objects::put(&moto.client, "large", &body, &Under::SseS3).await;
    let before = objects::head(&moto.client, "large", None).await;
    let tags = async || {
        let tags = moto.client.get_object_tagging().bucket(BUCKET);
        let mut tags = tags.key("large").send().await.expect("tags").tag_set;
        tags.sort_by_key(|tag| tag.key.clone());
        tags
    };
    let tags_before = tags().await;
    let job = job(&moto, &["large"]).args("--multipart-threshold 5MiB --part-size 5MiB");
    let job = job.args("--to sse-kms --kms-key-id").args(K2);
    let run = job.run().expect(0);
    assert_eq!(run.summary()["methods"], json!({"multipart-copy": 1}));
    let head = objects::head(&moto.client, "large", None).await;
    assert!(Under::Kms(K2.to_owned()).is_shown_by(&head), "{head:?}");
    assert!(head.e_tag().expect("an ETag").ends_with("-3\""), "{head:?}");
    // Its ACL moto can't show: it answers 500 for every object that was uploaded in parts.
    assert_eq!(head.metadata, before.metadata);
    assert_eq!(head.content_type, before.content_type);
    assert_eq!(head.cache_control, before.cache_control);
    assert_eq!(head.content_disposition, before.content_disposition);
    assert_eq!(head.content_language, before.content_language);
    assert_eq!(head.storage_class, before.storage_class);
    assert_eq!(
        head.website_redirect_location,
        before.website_redirect_location
    );
    assert_eq!(tags().await, tags_before);
    let read = objects::read(&moto.client, "large", None).await;
    assert!(read == Ok(body), "other bytes");
    let uploads = moto.client.list_multipart_uploads().bucket(BUCKET);
    let uploads = uploads.send().await.expect("the uploads");
    assert!(uploads.uploads().is_empty(), "{uploads:?}");
}

#[tokio::test]
async fn an_object_that_was_never_encrypted() {
    let Some(moto) = Moto::start("an_object_that_was_never_encrypted").await else {
        return;
    };
    objects::put_plain(&moto.client, "bare", b"content").await;
    let head = objects::head(&moto.client, "bare", None).await;
    assert_eq!(head.server_side_encryption, None);
    job(&moto, &["bare"]).args("--to sse-s3").run().expect(0);
    let head = objects::head(&moto.client, "bare", None).await;
    assert!(Under::SseS3.is_shown_by(&head), "{head:?}");
    let read = objects::read(&moto.client, "bare", None).await;
    assert_eq!(read.as_deref(), Ok(&b"content"[..]));
}

/// moto answers 200 to DSSE-KMS and ignores it. A copy to SSE-C it refuses, unless a storage class comes along: then it
/// says 200 too, and leaves the object without encryption.
#[tokio::test]
async fn what_moto_gets_wrong_is_a_failed_row() {
    let Some(moto) = Moto::start("what_moto_gets_wrong_is_a_failed_row").await else {
        return;
    };
    let keys = ["classed", "kms", "plain"];
    let dsse = job(&moto, &keys)
        .args("--to dsse-kms --kms-key-id")
        .args(K2);
    let customer = job(&moto, &keys).args("--to sse-c");
    let file = customer.write("the.key", KEY.0);
    let customer = customer.arg("--sse-c-key-file", file);
    for (job, failures) in [
        (dsse, json!({"EncryptionNotApplied": 3})),
        (
            customer,
            json!({"EncryptionNotApplied": 2, "InvalidRequest": 1}),
        ),
    ] {
        objects::put(&moto.client, "classed", b"content", &Under::SseS3).await;
        objects::put(&moto.client, "kms", b"content", &Under::Kms(K1.to_owned())).await;
        objects::put_plain(&moto.client, "plain", b"content").await;
        let run = job.run().expect(3);
        assert_eq!(run.summary()["failures"], failures);
        for row in job.report() {
            assert_eq!(row.status, "failed", "{row:?}");
            assert!(!row.code.is_empty() && !row.message.is_empty(), "{row:?}");
        }
        for key in keys {
            let read = objects::read(&moto.client, key, None).await;
            assert_eq!(read.as_deref(), Ok(&b"content"[..]), "{key}");
        }
    }
}

#[tokio::test]
async fn manifest_and_report_are_in_the_store_too() {
    let Some(moto) = Moto::start("manifest_and_report_are_in_the_store_too").await else {
        return;
    };
    objects::put_plain(&moto.client, "a", b"1").await;
    let manifest = format!("{BUCKET},a\n");
    objects::put_plain(&moto.client, "lists/m.csv", manifest.as_bytes()).await;
    let job = job(&moto, &["unused"]).args("--to sse-s3 --manifest");
    let job = job.args(&format!(
        "s3://{BUCKET}/lists/m.csv --report s3://{BUCKET}/reports"
    ));
    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded"), 1);
    let at = run.summary()["report"]
        .as_str()
        .expect("a report")
        .to_owned();
    let key = at.strip_prefix(&format!("s3://{BUCKET}/")).expect("in S3");
    let report = objects::read(&moto.client, key, None).await.expect("there");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let results = report["Results"][0]["Key"].as_str().expect("a key");
    let results = objects::read(&moto.client, results, None)
        .await
        .expect("there");
    let results = String::from_utf8(results).expect("text");
    assert!(
        results.contains("a") && results.contains("succeeded"),
        "{results}"
    );
}
