//! What can't be read before it is restored: kept apart in a manifest that a restore takes, and then the next run.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, StorageClass, Tier};

use crate::support::objects;
use crate::support::{BUCKET, Store};

async fn restore(store: &Store, key: &str) {
    let tier = GlacierJobParameters::builder().tier(Tier::Standard);
    let request = RestoreRequest::builder()
        .days(1)
        .glacier_job_parameters(tier.build().expect("whole"));
    let restore = store.client.restore_object().bucket(BUCKET).key(key);
    let restore = restore.restore_request(request.build());
    restore.send().await.expect("restored");
}

#[tokio::test]
async fn what_waits_for_a_restore_is_a_manifest_for_the_next_run() {
    const KEY: &str = "cold storage/ä,1";
    let store = Store::start().await;
    objects::put_plain(&store.client, "warm", b"1").await;
    let put = store.client.put_object().bucket(BUCKET).key(KEY);
    let put = put.storage_class(StorageClass::DeepArchive);
    let put = put.body(ByteStream::from_static(b"2"));
    put.send().await.expect("archived");
    let arn = store.add_kms_key(None);
    let to_kms = |job: crate::support::Job| {
        job.args("--method copy --to sse-kms --kms-key-id")
            .args(&arn)
    };

    let first = to_kms(store.job(&["warm", KEY]));
    let run = first.run().expect(3);
    assert_eq!(run.count("succeeded"), 1);
    assert_eq!(run.summary()["failures"]["NeedsRestore"], 1);
    let summary = run.summary();
    let manifest = summary["needs_restore"].as_str().expect("a path");
    let listed = std::fs::read_to_string(manifest).expect("the manifest");
    assert_eq!(listed, format!("{BUCKET},cold+storage/%C3%A4%2C1\n"));

    restore(&store, KEY).await;
    let next = to_kms(store.job(&["not this"])).arg("--manifest", manifest);
    let run = next.run().expect(0);
    assert_eq!((run.count("total"), run.count("succeeded")), (1, 1));
    assert_eq!(run.summary()["needs_restore"], serde_json::Value::Null);
    let head = store.client.head_object().bucket(BUCKET).key(KEY);
    let head = head.send().await.expect("there");
    assert_eq!(head.storage_class(), Some(&StorageClass::DeepArchive));
    assert_eq!(head.ssekms_key_id(), Some(arn.as_str()));
}
