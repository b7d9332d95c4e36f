//! Bad input, one by one: exit 2, a message that names the place, and no request to the store.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use reseal::local_s3::credentials::Credentials;
use serde_json::json;

use crate::support::{Counting, Job, Run};

const NOBODY: [&str; 0] = [];

fn job(store: &Counting) -> Job {
    Job::new(
        &store.url(),
        &Credentials::new("AKIANOBODY", "secret"),
        &NOBODY,
    )
    .args("--to sse-s3")
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// Holds that the job ends with 2, says so, keeps nothing and asks the store nothing.
#[track_caller]
fn refused(store: &Counting, job: &Job, phrases: &[&str]) {
    refused_run(store, job, job.run(), phrases);
}

#[track_caller]
fn refused_run(store: &Counting, job: &Job, run: Run, phrases: &[&str]) {
    let run = run.expect(2).says(&["error: "]).says(phrases);
    assert_eq!(run.stdout, "", "{phrases:?}");
    assert_eq!(store.connections(), 0, "{phrases:?}");
    for name in ["state/job.json", "state/shard-0/journal", "report"] {
        assert!(!job.path(name).exists(), "{name} after {phrases:?}");
    }
}

#[test]
fn a_csv_manifest_that_is_not_sound() {
    let store = Counting::start();
    let long = format!("bucket,{}\n", "k".repeat(1025));
    let cases: [(&[u8], &str, &str); 22] = [
        (b"", "", "has no rows"),
        (b"bucket,a\nbucket,b,v,x\n", ":2:", "4 columns where 2"),
        (b"bucket,a\nbucket\n", ":2:", "1 columns where 2"),
        (b"a,b,c,d\n", ":1:", "4 columns where 2 or 3"),
        (b"bucket,a,\nbucket,b\n", ":2:", "2 columns where 3"),
        (b"bucket,a\nbucket,%4\n", ":2:", "bad percent-encoding"),
        (b"bucket,a\nbucket,50%\n", ":2:", "bad percent-encoding"),
        (b"bucket,%zz\n", ":1:", "bad percent-encoding"),
        (b"bucket,a\nbucket,b\nbucket,%FF%FE\n", ":3:", "not UTF-8"),
        (b"bucket,a\nbucket,\xff\xfe\n", ":2:", "not UTF-8"),
        (b"\xef\xbb\xbfbucket,a\n", ":1:", "byte order mark"),
        (b"\xff\xfeb\0u\0", ":1:", "UTF-16"),
        (
            b"bucket,a\nother,b\n",
            ":2:",
            "bucket \"other\" where \"bucket\"",
        ),
        (b"bucket,a\n\nbucket,b\n", ":2:", "blank line"),
        (b"Bucket,Key\nbucket,a\n", ":1:", "header row"),
        (b"bucket,key\nreal-bucket,a\n", ":1:", "header row"),
        (
            b"bucket,a\nbucket,\"b\n",
            ":2:",
            "does not end before the file does",
        ),
        (b"bucket,a\nbucket,b\"c\n", ":2:", "quote inside a field"),
        (b"bucket,a\rbucket,b\n", ":1:", "carriage return"),
        (b"bucket,a\nbucket,\n", ":2:", "key is empty"),
        (b"s3://bucket,a\n", ":1:", "is no bucket name"),
        (long.as_bytes(), ":1:", "1025 bytes"),
    ];
    for (content, line, phrase) in cases {
        let job = job(&store);
        let file = job.write("manifest.csv", content);
        refused(
            &store,
            &job,
            &[&format!("{}{line}", file.display()), phrase],
        );
    }
}

#[test]
fn every_fault_of_a_manifest_is_told_at_once() {
    let store = Counting::start();
    let job = job(&store);
    job.write_manifest("bucket,a\nbucket\nbucket,%\nother,c\nbucket,d\n");
    refused(&store, &job, &["csv:2: ", "csv:3: ", "csv:4: "]);
}

#[test]
fn gzip_that_is_cut_or_damaged() {
    let store = Counting::start();
    let rows: String = (0..2_000).map(|n| format!("bucket,key-{n}\n")).collect();
    let whole = gzip(rows.as_bytes());
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0x55);
    let mut wrong_sum = whole.clone();
    let checksum = wrong_sum.len() - 8;
    wrong_sum[checksum] ^= 1;
    let followed = [whole.as_slice(), b"bucket,more\n"].concat();
    let bad_row = gzip(b"bucket,a\nbucket,%\n");
    for (content, phrase) in [
        (&whole[..whole.len() / 2], "ends too early"),
        (&whole[..whole.len() - 4], "ends too early"),
        (&damaged, "gzip"),
        (&wrong_sum, "damaged gzip"),
        (&followed, "damaged gzip"),
        (&bad_row, "csv.gz:2: bad percent-encoding"),
    ] {
        let job = job(&store);
        let file = job.write("m.csv.gz", content);
        let job = job.arg("--manifest", &file);
        refused(&store, &job, &[&file.display().to_string(), phrase]);
    }
}

#[test]
fn a_manifest_that_is_not_there_or_no_file() {
    let store = Counting::start();
    let missing = job(&store);
    let path = missing.path("nowhere.csv");
    let missing = missing.arg("--manifest", &path);
    refused(&store, &missing, &["nowhere.csv: "]);
    let folder = job(&store);
    let path = folder.path("");
    let folder = folder.arg("--manifest", path);
    refused(&store, &folder, &["has no complete inventory"]);
}

#[test]
fn standard_input_that_is_not_sound() {
    let store = Counting::start();
    for (content, phrase) in [("", "has no rows"), ("bucket,a\nbucket,%\n", "-:2: ")] {
        let job = job(&store).args("--manifest -");
        let file = job.write("in", content);
        let mut command = job.command();
        command.stdin(std::fs::File::open(file).expect("a file"));
        let run = Run::of(command.output().expect("it starts"));
        refused_run(&store, &job, run, &[phrase]);
    }
}

/// An inventory in the job's folder, changed by `change` before it is written.
fn inventory(job: Job, data: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Job {
    let data = gzip(data);
    let mut manifest = json!({
        "sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::inventories", "version": "2016-11-30",
        "creationTimestamp": "1514944800000", "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "prefix/data/one.csv.gz", "size": data.len(),
                   "MD5checksum": format!("{:x}", HexOf(&Md5::digest(&data)))}],
    });
    change(&mut manifest);
    job.write("data/one.csv.gz", &data);
    let path = job.write("inventory/manifest.json", manifest.to_string());
    job.arg("--manifest", path)
}

struct HexOf<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[test]
fn an_inventory_that_is_not_sound() {
    type Change = fn(&mut serde_json::Value);
    let store = Counting::start();
    let row = "\"bucket\",\"a\",\"1\"\n";
    let other = "\"bucket\",\"a\",\"1\"\n\"other\",\"b\",\"1\"\n";
    let size = "\"bucket\",\"a\",\"one\"\n";
    let narrow = "\"bucket\",\"a\"\n";
    let cases: [(&str, Change, &str); 12] = [
        (
            row,
            |m| m["files"][0]["MD5checksum"] = json!("0".repeat(32)),
            "one.csv.gz: MD5 is",
        ),
        (row, |m| m["files"][0]["size"] = json!(1), "one.csv.gz: has"),
        (
            row,
            |m| m["files"][0]["key"] = json!("data/two.csv.gz"),
            "two.csv.gz: is not beside",
        ),
        (
            row,
            |m| m["files"][0]["key"] = json!("../../../etc/passwd"),
            "is not beside",
        ),
        (row, |m| m["fileFormat"] = json!("Parquet"), "Parquet"),
        (
            row,
            |m| m["fileSchema"] = json!("Bucket, Size"),
            "fileSchema",
        ),
        (row, |m| m["files"] = json!("none"), "manifest.json"),
        (
            row,
            |m| m["sourceBucket"] = json!("else"),
            "one.csv.gz:1: bucket \"bucket\"",
        ),
        (
            row,
            |m| m["fileSchema"] = json!("Bucket, Key"),
            "one.csv.gz:1: 3 columns where 2",
        ),
        (other, |_| {}, "one.csv.gz:2: bucket \"other\""),
        (size, |_| {}, "one.csv.gz:1: Size \"one\""),
        (narrow, |_| {}, "one.csv.gz:1: 2 columns where 3"),
    ];
    for (data, change, phrase) in cases {
        let job = inventory(job(&store), data.as_bytes(), change);
        refused(&store, &job, &[phrase]);
    }
    let job = inventory(job(&store), row.as_bytes(), |_| {});
    job.write("inventory/manifest.checksum", "0".repeat(32));
    refused(
        &store,
        &job,
        &["manifest.json: MD5 is", "manifest.checksum"],
    );
}

#[test]
fn flags_that_are_wrong_or_do_not_go_together() {
    let store = Counting::start();
    for (args, phrase) in [
        ("", "--to"),
        ("--to sse-x", "sse-x"),
        ("--to sse-s3 --nonsense", "--nonsense"),
        ("--to sse-s3 extra", "extra"),
        ("--to sse-s3 --to sse-kms", "--to"),
        ("--to sse-s3 --kms-key-id k", "--kms-key-id"),
        ("--to sse-c --kms-key-id k", "--kms-key-id"),
        ("--to sse-s3 --bucket-key true", "--bucket-key"),
        ("--to sse-c --bucket-key false", "--bucket-key"),
        ("--to dsse-kms --bucket-key true", "--bucket-key"),
        ("--to sse-kms --bucket-key maybe", "--bucket-key"),
        (
            "--to sse-s3 --kms-encryption-context {}",
            "--kms-encryption-context",
        ),
        (
            "--to sse-c --kms-encryption-context {}",
            "--kms-encryption-context",
        ),
        (
            "--to sse-kms --kms-encryption-context []",
            "--kms-encryption-context",
        ),
        (
            "--to sse-kms --kms-encryption-context {\"a\":1}",
            "--kms-encryption-context",
        ),
        ("--to sse-c", "--sse-c-key-file"),
        ("--to sse-s3 --sse-c-key-file f", "--sse-c-key-file"),
        ("--to sse-kms --sse-c-key-file f", "--sse-c-key-file"),
        ("--to dsse-kms --sse-c-key-file f", "--sse-c-key-file"),
        ("--to sse-c --sse-c-key-file nowhere", "nowhere: "),
        ("--to sse-s3 --source-sse-c-key-file nowhere", "nowhere: "),
        ("--to sse-s3 --concurrency 0", "--concurrency"),
        ("--to sse-s3 --concurrency 4097", "--concurrency"),
        ("--to sse-s3 --rate 0", "--rate"),
        ("--to sse-s3 --rate fast", "--rate"),
        ("--to sse-s3 --failure-threshold 101", "--failure-threshold"),
        ("--to sse-s3 --metrics-listen here", "--metrics-listen"),
        ("--to sse-s3 --metrics-linger long", "--metrics-linger"),
        ("--to sse-s3 --output xml", "--output"),
        ("--to sse-s3 --progress loud", "--progress"),
        ("--to sse-s3 --log-format xml", "--log-format"),
        ("--to sse-s3 --report-scope some", "--report-scope"),
        ("--to sse-s3 --report -", "--report"),
        ("--to sse-s3 --report https://host/x", "https"),
        ("--to sse-s3 --manifest https://host/x", "https"),
        ("--to sse-s3 --manifest s3://", "s3://bucket/key"),
        ("--to sse-s3 --metrics-listen 192.0.2.1:1", "192.0.2.1:1"),
    ] {
        let job = job(&store).without_args().args(args);
        job.write_manifest("bucket,a\n");
        let run = job.run().expect(2).says(&["error: ", phrase]);
        assert_eq!(run.stdout, "", "{args}");
        assert_eq!(store.connections(), 0, "{args}");
        assert!(!job.path("state/journal").exists(), "{args}");
    }
}

#[test]
fn a_log_filter_that_is_none() {
    let store = Counting::start();
    for filter in ["reseal=loud", "inof", "info,debgu"] {
        let job = job(&store).env("RESEAL_LOG", filter);
        let phrase = format!("error: RESEAL_LOG: {filter}");
        refused(&store, &job, &[&phrase, "hint: "]);
    }
}

#[test]
fn the_manifest_flag_is_required() {
    let store = Counting::start();
    let job = Job::bare(&store.url()).args("--to sse-s3");
    job.run().expect(2).says(&["--manifest"]);
    assert_eq!(store.connections(), 0);
}

#[test]
fn files_that_hold_no_customer_key() {
    let store = Counting::start();
    let base64_of_31 = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQ==";
    let long = "A".repeat(5_000);
    for content in [
        "",
        "short",
        base64_of_31,
        "not base64 at all, but 44 characters of text",
        &long,
    ] {
        for flag in ["--sse-c-key-file", "--source-sse-c-key-file"] {
            let to = if flag == "--sse-c-key-file" {
                "sse-c"
            } else {
                "sse-s3"
            };
            let job = job(&store).without_args().args("--to").args(to);
            job.write_manifest("bucket,a\n");
            let file = job.write("the.key", content);
            let run = job
                .arg(flag, file)
                .run()
                .expect(2)
                .says(&["the.key: ", "32 raw bytes"]);
            assert!(
                content.is_empty() || !run.stderr.contains(content),
                "{}",
                run.stderr
            );
            assert_eq!(store.connections(), 0);
        }
    }
}

/// What is typed as an environment variable is held to the same rules.
#[test]
fn environment_variables_are_checked_as_flags_are() {
    let store = Counting::start();
    let job = job(&store).without_args().env("RESEAL_TO", "sse-x");
    job.run().expect(2).says(&["sse-x"]);
    assert_eq!(store.connections(), 0);
}
