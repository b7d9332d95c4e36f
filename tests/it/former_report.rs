//! The failed rows of a former report, ours or one of S3 Batch Operations, as a manifest.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use aws_sdk_s3::primitives::ByteStream;
use md5::{Digest as _, Md5};
use reseal::local_s3::admin;
use reseal::local_s3::vault::KeyState;
use serde_json::{Value, json};

use crate::support::{BUCKET, Job, Run, Store, objects};

/// Keys whose spelling in a manifest is another than their own.
const MISSING: [&str; 2] = ["gone/ä +1%,\"", "gone/2"];

fn md5(content: &[u8]) -> String {
    let md5 = Md5::digest(content);
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest_of(run: &Run) -> String {
    let summary = run.summary();
    summary["report"].as_str().expect("a report").to_owned()
}

#[tokio::test]
async fn what_has_failed_is_tried_again_and_nothing_else() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "there", b"1").await;
    let arn = store.add_kms_key(None);
    let kms = |job: Job| job.args("--to sse-kms --kms-key-id").args(&arn);
    let job = kms(store.job(&["there", MISSING[0], MISSING[1]]));
    let first = job.run().expect(3);
    assert_eq!(first.count("failed"), 2);

    for key in MISSING {
        objects::put_plain(&store.client, key, b"2").await;
    }
    let again = kms(store.job(&["not this"])).arg("--manifest", manifest_of(&first));
    let run = again.run().expect(0);
    assert_eq!((run.count("total"), run.count("succeeded")), (2, 2));
    assert!(store.copies().values().all(|copies| *copies == 1));

    // Of that one nothing is left.
    let last = kms(store.job(&["not this"])).arg("--manifest", manifest_of(&run));
    let requests = store.s3.requests();
    let run = last.run().expect(0);
    assert_eq!(
        (run.count("total"), &run.summary()["status"]),
        (0, &json!("complete"))
    );
    run.says(&["no rows", "nothing to do"]);
    assert_eq!(store.s3.requests(), requests);
    assert_eq!(last.report().len(), 0);
}

#[tokio::test]
async fn a_report_in_s3_and_of_a_job_that_has_failed_serves_too() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "there", b"1").await;
    let arn = store.add_kms_key(None);
    let kms = |job: Job| job.args("--to sse-kms --kms-key-id").args(&arn);
    let set = |state| admin::set_key_state(store.data(), &arn, state).expect("set");
    set(KeyState::Disabled);
    let job = kms(store.job(&[MISSING[0], "there"])).args("--concurrency 1");
    let first = job.args("--report s3://bucket/re/ports").run().expect(4);
    assert_eq!(first.count("failed"), 1);
    set(KeyState::Enabled);

    objects::put_plain(&store.client, MISSING[0], b"2").await;
    let again = kms(store.job(&["not this"])).arg("--manifest", manifest_of(&first));
    let run = again.run().expect(0);
    assert_eq!((run.count("total"), run.count("succeeded")), (1, 1));
    assert_eq!(store.copies().keys().collect::<Vec<_>>(), [MISSING[0]]);

    // A report that was written to a folder and copied to S3 names no bucket; one on standard input lies nowhere.
    let put = async |key: &str, content: &[u8]| {
        let put = store.client.put_object().bucket(BUCKET).key(key);
        let put = put.body(ByteStream::from(content.to_vec()));
        put.send().await.expect("put");
    };
    let rows =
        b"bucket,there,,failed,200,PermanentFailure,\"Lambda: {\"\"errorMessage\"\":\"\"x\"\"}\"\n";
    let named = |bucket: &str, key: &str| {
        let report = report_json(&[json!({
            "TaskExecutionStatus": "failed", "Bucket": bucket, "MD5Checksum": md5(rows), "Key": key,
        })]);
        report.to_string()
    };
    let relative = named("", "job-1/results/x.csv");
    put("copied/job-1/results/x.csv", rows).await;
    put("copied/job-1/manifest.json", relative.as_bytes()).await;
    let copied =
        kms(store.job(&["not this"])).args("--manifest s3://bucket/copied/job-1/manifest.json");
    assert_eq!(copied.run().expect(0).count("succeeded"), 1);

    let piped = kms(store.job(&["not this"])).args("--manifest -");
    let feed = |json: String| {
        let file = piped.write("in", json);
        let mut command = piped.command();
        command.stdin(Stdio::from(fs::File::open(file).expect("a file")));
        Run::of(command.output().expect("it starts"))
    };
    feed(relative)
        .expect(2)
        .says(&["standard input has no place"]);
    let run = feed(named("arn:aws:s3:::bucket", "copied/job-1/results/x.csv")).expect(0);
    assert_eq!(run.summary()["skips"]["already-encrypted"], 1);
}

fn report_json(results: &[Value]) -> Value {
    json!({
        "Format": "Report_CSV_20180820", "ReportCreationDate": "2019-04-05T17:48:39.725Z", "Results": results,
        "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
    })
}

#[tokio::test]
async fn a_report_whose_files_are_others_is_2() {
    let store = Store::start().await;
    let job = store.job(&["not this"]).args("--to sse-s3");
    let rows = b"bucket,a,,failed,403,AccessDenied,no\n";
    let path: PathBuf = job.write("job-1/results/x.csv", rows);
    let json = report_json(&[json!({
        "TaskExecutionStatus": "failed", "Bucket": "reports", "MD5Checksum": md5(rows), "Key": "p/job-1/results/x.csv",
    })]);
    let json = json.to_string();
    let manifest = job.write("job-1/manifest.json", &json);
    let job = job.arg("--manifest", manifest);
    let requests = store.s3.requests();
    for (content, phrases) in [
        (
            &b"bucket,b,,failed,403,AccessDenied,no\n"[..],
            ["p/job-1/results/x.csv: MD5 is", "fetch"],
        ),
        (b"", ["p/job-1/results/x.csv: MD5 is", "manifest.json says"]),
    ] {
        fs::write(&path, content).expect("written");
        job.run().expect(2).says(&phrases);
    }
    fs::write(&path, rows).expect("written");
    job.write("job-1/manifest.json.md5", md5(b"another"));
    job.run()
        .expect(2)
        .says(&["manifest.json: MD5 is", "manifest.json.md5"]);
    fs::remove_file(&path).expect("removed");
    job.write("job-1/manifest.json.md5", md5(json.as_bytes()));
    job.run()
        .expect(2)
        .says(&["is not beside", "job-1/results/x.csv"]);
    assert_eq!(store.s3.requests(), requests);
}
