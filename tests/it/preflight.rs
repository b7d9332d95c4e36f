//! What is told of the bucket before the first write, in the summary and on standard error.

use aws_sdk_s3::types::{
    BlockedEncryptionTypes, BucketVersioningStatus, EncryptionType, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    VersioningConfiguration,
};

use crate::support::objects;
use crate::support::{BUCKET, Run, Store};

async fn set_default(store: &Store, blocked: EncryptionType) {
    let blocked = BlockedEncryptionTypes::builder()
        .encryption_type(blocked)
        .build();
    let default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::Aes256)
        .build()
        .expect("whole");
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default)
        .blocked_encryption_types(blocked)
        .build();
    let configuration = ServerSideEncryptionConfiguration::builder()
        .rules(rule)
        .build()
        .expect("whole");
    store
        .client
        .put_bucket_encryption()
        .bucket(BUCKET)
        .server_side_encryption_configuration(configuration)
        .send()
        .await
        .expect("a default encryption");
}

/// Level and code of each finding.
fn findings(run: &Run) -> Vec<String> {
    let summary = run.summary();
    let findings = summary["findings"].as_array().expect("a list");
    let brief = |finding: &serde_json::Value| {
        let text = |name: &str| finding[name].as_str().expect("text").to_owned();
        assert!(!text("message").is_empty());
        format!("{} {}", text("level"), text("code"))
    };
    findings.iter().map(brief).collect()
}

#[tokio::test]
async fn what_would_fail_every_object_stops_the_job_before_the_first_write() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "a", b"1").await;
    set_default(&store, EncryptionType::SseC).await;
    let job = store.job(&["a"]);
    let key = job.write("key", [7; 32]);
    let job = job.args("--to sse-c").arg("--sse-c-key-file", key);
    let writes = store.writes();
    let run = job.run().expect(4);
    assert_eq!(run.summary()["status"], "failed");
    assert_eq!(findings(&run)[0], "stop sse-c-blocked");
    assert_eq!(
        store.writes(),
        writes,
        "nothing was sent that changes anything"
    );
    run.says(&[
        "error: the bucket blocks writes under SSE-C",
        "hint: this run has changed nothing",
    ]);

    // The same command goes on once the cause is gone.
    set_default(&store, EncryptionType::None).await;
    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded"), 1);
    assert!(findings(&run).contains(&"warning default-differs".to_owned()));
}

#[tokio::test]
async fn new_versions_are_told_of() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "a", b"1").await;
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let put = store.client.put_bucket_versioning().bucket(BUCKET);
    let put = put.versioning_configuration(versioning);
    put.send().await.expect("versioning");
    let arn = store.add_kms_key(None);
    let job = store
        .job(&["a"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    let run = job.run().expect(0);
    let found = findings(&run);
    assert!(
        found.contains(&"warning new-versions".to_owned()),
        "{found:?}"
    );
    run.says(&["each copy is a new one"]);

    // As text, after the counts.
    let text = store.job(&["a"]).args("--output text --to sse-s3").run();
    let text = text.expect(0).stdout;
    assert!(
        text.contains("\nwarning: the bucket keeps versions"),
        "{text}"
    );
}
