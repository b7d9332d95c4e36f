//! What an object costs in requests, counted by the store.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{ObjectOwnership, OwnershipControls, OwnershipControlsRule};
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use std::io::Write as _;

use crate::support::objects::{self, Under};
use crate::support::{BUCKET, Job, Store};

/// Requests for `key`, by operation.
fn requests(store: &Store, key: &str) -> BTreeMap<String, u64> {
    let mut requests = BTreeMap::new();
    for (request, count) in store.s3.requests() {
        // A copy is two lines; the other one is its reading.
        if request.key == key && request.operation != "REST.COPY.OBJECT_GET" {
            *requests.entry(request.operation).or_default() += count;
        }
    }
    requests
}

/// An inventory of one object, with all that S3 would say of it.
async fn write_inventory(store: &Store, job: &Job, key: &str, status: &str) {
    let head = objects::head(&store.client, key, None).await;
    let modified = head.last_modified.expect("a date");
    let modified = modified
        .fmt(aws_sdk_s3::primitives::DateTimeFormat::DateTime)
        .expect("a date");
    let class = head
        .storage_class
        .map_or("STANDARD".to_owned(), |class| class.as_str().to_owned());
    let row = format!(
        "\"{BUCKET}\",\"{key}\",\"{}\",\"{modified}\",\"{}\",\"{class}\",\"{status}\"\n",
        head.content_length.expect("a length"),
        head.e_tag.expect("an ETag").trim_matches('"'),
    );
    let mut data = GzEncoder::new(Vec::new(), Compression::fast());
    data.write_all(row.as_bytes()).expect("in memory");
    let data = data.finish().expect("in memory");
    let md5: String = Md5::digest(&data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let manifest = serde_json::json!({
        "sourceBucket": BUCKET,
        "destinationBucket": "arn:aws:s3:::inventories",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag, StorageClass, EncryptionStatus",
        "files": [{"key": "data.csv.gz", "size": data.len(), "MD5checksum": md5}],
    });
    job.write("data.csv.gz", &data);
    job.write("manifest.json", manifest.to_string());
}

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected
        .map(|(operation, count)| (operation.to_owned(), count))
        .into()
}

const HEAD: &str = "REST.HEAD.OBJECT";
const COPY: &str = "REST.COPY.OBJECT";

#[tokio::test]
async fn one_where_the_inventory_says_enough_and_two_with_a_look() {
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    let to = |job: Job| job.args("--to sse-kms --kms-key-id").args(&arn);
    for key in ["inventory", "listed"] {
        objects::put_plain(&store.client, key, b"1").await;
    }
    let kept = objects::kept(&store.client, "inventory", None).await;
    let before = requests(&store, "inventory");
    let since = |key: &str, before: &BTreeMap<String, u64>| {
        let mut now = requests(&store, key);
        for (operation, count) in before {
            *now.entry(operation.clone()).or_default() -= count;
        }
        now.retain(|_, count| *count > 0);
        now
    };

    let job = store.job(&["listed"]);
    write_inventory(&store, &job, "inventory", "SSE-S3").await;
    let looked = requests(&store, "inventory");
    assert_ne!(before, looked);
    let manifest = job.path("manifest.json");
    to(job).arg("--manifest", manifest).run().expect(0);
    assert_eq!(since("inventory", &looked), counts([(COPY, 1)]));
    assert_eq!(kept, objects::kept(&store.client, "inventory", None).await);

    // Evidence has what was seen.
    objects::put_plain(&store.client, "seen", b"1").await;
    let job = store.job(&["seen"]).args("--evidence evidence");
    write_inventory(&store, &job, "seen", "SSE-S3").await;
    let looked = requests(&store, "seen");
    let manifest = job.path("manifest.json");
    to(job).arg("--manifest", manifest).run().expect(0);
    assert_eq!(since("seen", &looked), counts([(HEAD, 1), (COPY, 1)]));

    let before = requests(&store, "listed");
    to(store.job(&["listed"])).run().expect(0);
    assert_eq!(since("listed", &before), counts([(HEAD, 1), (COPY, 1)]));
    let before = requests(&store, "listed");
    to(store.job(&["listed"])).run().expect(0);
    assert_eq!(since("listed", &before), counts([(HEAD, 1)]));

    // Updated in place, and confirmed: the store's answer says nothing.
    objects::put_plain(&store.client, "updated", b"1").await;
    let before = requests(&store, "updated");
    let etag = objects::head(&store.client, "updated", None).await.e_tag;
    let run = to(store.job(&["updated"]))
        .args("--probe auto")
        .run()
        .expect(0);
    assert_eq!(run.summary()["methods"]["update"], 1);
    let spent = since("updated", &before);
    assert_eq!(spent.get(COPY), None);
    let after = objects::head(&store.client, "updated", None).await;
    assert!(Under::Kms(arn.clone()).is_shown_by(&after));
    assert_eq!(etag, after.e_tag);
}

/// A row that is out of date is no harm: the copy is refused, and the object is looked at.
#[tokio::test]
async fn an_outdated_inventory_is_found_out() {
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    objects::put_plain(&store.client, "k", b"old").await;
    let job = store
        .job(&["k"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    write_inventory(&store, &job, "k", "SSE-S3").await;
    objects::put(&store.client, "k", b"new", &Under::SseS3).await;
    let kept = objects::kept(&store.client, "k", None).await;
    let manifest = job.path("manifest.json");
    let run = job.arg("--manifest", manifest).run().expect(0);
    assert_eq!(run.count("succeeded"), 1);
    assert_eq!(run.summary()["requests"]["CopyObject"], 2);
    assert_eq!(kept, objects::kept(&store.client, "k", None).await);
}

#[tokio::test]
async fn acls_cost_one_more() {
    let store = Store::start().await;
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter);
    let controls = OwnershipControls::builder().rules(rule.build().expect("a rule"));
    let put = store.client.put_bucket_ownership_controls().bucket(BUCKET);
    let put = put.ownership_controls(controls.build().expect("controls"));
    put.send().await.expect("ACLs enabled");
    objects::put_plain(&store.client, "k", b"1").await;
    let arn = store.add_kms_key(None);
    let job = store
        .job(&["k"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    let run = job.run().expect(0);
    let requests = &run.summary()["requests"];
    for operation in ["HeadObject", "GetObjectAcl", "CopyObject"] {
        assert_eq!(requests[operation], 1, "{operation}");
    }
}
