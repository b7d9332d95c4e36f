use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::manifest::{decode_key, encode_key};
use crate::outcome::{Failure, Method, SkipReason};

const COPIED: TaskOutcome = TaskOutcome::Succeeded {
    method: Method::Copy,
    bytes: 1,
};

fn failed(code: &str, http_status: u16, message: &str) -> TaskOutcome {
    TaskOutcome::Failed(Failure {
        code: code.to_owned(),
        http_status,
        message: message.to_owned(),
    })
}

/// Writes a report of three kinds of rows.
fn write(root: &Path, scope: Scope, destination: Destination) -> Report {
    let mut report = ReportWriter::create(root, "f00d", "photos", true, scope, destination, "w")
        .expect("create");
    let rows = [
        ("a b/é~.jpg", Some("v1"), COPIED),
        (
            "plain",
            None,
            TaskOutcome::Skipped(SkipReason::DoneBeforeInterruption),
        ),
        (
            "x,y",
            None,
            failed("AccessDenied", 403, "Access \"Denied\",\r\nreally"),
        ),
        ("gone", Some("null"), failed("NoAnswer", 0, "")),
    ];
    for (key, version, outcome) in &rows {
        report.row(key, *version, outcome).expect("row");
    }
    report.finish(OffsetDateTime::now_utc()).expect("finish")
}

fn manifest(report: &Report) -> Value {
    let text = fs::read(&report.manifest_path).expect("manifest.json");
    serde_json::from_slice(&text).expect("JSON")
}

/// The content of the result file with that status, its MD5 checked.
fn results(root: &Path, report: &Report, status: &str) -> String {
    let manifest = manifest(report);
    let results = manifest["Results"].as_array().expect("a list");
    let entry = results
        .iter()
        .find(|entry| entry["TaskExecutionStatus"] == status)
        .expect("the status is listed");
    let content = fs::read(root.join(entry["Key"].as_str().expect("Key"))).expect("the file");
    assert_eq!(entry["MD5Checksum"], human::hex(&Md5::digest(&content)));
    String::from_utf8(content).expect("UTF-8")
}

#[test]
fn rows_are_written_as_s3_writes_them() {
    let root = tempfile::tempdir().expect("tempdir");
    let report = write(root.path(), Scope::All, Destination::Directory);
    assert_eq!(
        results(root.path(), &report, "succeeded"),
        "photos,a+b/%C3%A9%7E.jpg,v1,succeeded,200,,Successful\n\
         photos,plain,,succeeded,200,,Skipped: found under the target encryption after an interruption\n"
    );
    assert_eq!(
        results(root.path(), &report, "failed"),
        "photos,x%2Cy,,failed,403,AccessDenied,\"Access \"\"Denied\"\",  really\"\n\
         photos,gone,null,failed,0,NoAnswer,\n"
    );
}

#[test]
fn the_manifest_names_every_file_and_comes_last() {
    let root = tempfile::tempdir().expect("tempdir");
    let report = write(root.path(), Scope::All, Destination::Directory);
    let manifest = manifest(&report);
    assert_eq!(manifest["Format"], "Report_CSV_20180820");
    assert_eq!(
        manifest["ReportSchema"],
        "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
    );
    let created = manifest["ReportCreationDate"].as_str().expect("a date");
    let age =
        OffsetDateTime::now_utc() - OffsetDateTime::parse(created, &Rfc3339).expect("RFC 3339");
    assert!((0..60).contains(&age.whole_seconds()), "{created}");
    for entry in manifest["Results"].as_array().expect("a list") {
        assert_eq!(entry["Bucket"], "");
        let key = entry["Key"].as_str().expect("Key");
        let hex = key
            .strip_prefix("job-f00d/results/")
            .and_then(|name| name.strip_suffix(".csv"))
            .expect("the layout");
        assert_eq!(hex.len(), 40);
        assert!(hex.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    let names: Vec<&str> = report.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names.len(), 4);
    assert_eq!(
        names[2..],
        ["job-f00d/manifest.json.md5", "job-f00d/manifest.json"]
    );
    for file in &report.files {
        assert_eq!(file.path, root.path().join(&file.name));
        assert!(file.path.is_file(), "{}", file.name);
    }
    let text = fs::read(&report.manifest_path).expect("manifest.json");
    let md5 = fs::read_to_string(root.path().join("job-f00d/manifest.json.md5")).expect("md5");
    assert_eq!(md5, human::hex(&Md5::digest(text)));
}

#[test]
fn on_s3_keys_are_whole_and_the_bucket_is_named() {
    let root = tempfile::tempdir().expect("tempdir");
    let destination = Destination::S3 {
        bucket: "reports".to_owned(),
        prefix: "re/seal/".to_owned(),
    };
    let report = write(root.path(), Scope::Failed, destination);
    let manifest = manifest(&report);
    let results = manifest["Results"].as_array().expect("a list");
    assert_eq!(results.len(), 1, "only failed rows were asked for");
    assert_eq!(results[0]["Bucket"], "reports");
    let wanted = format!("re/seal/{}", report.files[0].name);
    assert_eq!(results[0]["Key"], wanted.as_str());
}

#[test]
fn writing_again_changes_nothing_but_the_date_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().expect("tempdir");
    let first = write(root.path(), Scope::All, Destination::Directory);
    let before = manifest(&first);
    let second = write(root.path(), Scope::All, Destination::Directory);
    assert_eq!(first, second);
    assert_eq!(before["Results"], manifest(&second)["Results"]);
    // Now without succeeded rows: their file of the earlier writing goes.
    let third = write(root.path(), Scope::Failed, Destination::Directory);
    assert_eq!(
        manifest(&third)["Results"].as_array().map(Vec::len),
        Some(1)
    );
    let left = fs::read_dir(root.path().join("job-f00d/results")).expect("results");
    assert_eq!(left.count(), 1);
}

/// Uploads of two writings may mix: no name stands for other rows than those of its `manifest.json`.
#[test]
fn in_s3_other_rows_have_other_names() {
    let name_with = |rows: usize| {
        let root = tempfile::tempdir().expect("tempdir");
        let to = Destination::S3 {
            bucket: "reports".to_owned(),
            prefix: String::new(),
        };
        let mut report =
            ReportWriter::create(root.path(), "f00d", "photos", false, Scope::All, to, "w")
                .expect("create");
        for key in &["a", "b"][..rows] {
            report.row(key, None, &COPIED).expect("row");
        }
        let report = report.finish(OffsetDateTime::now_utc()).expect("finish");
        let listed = manifest(&report)["Results"][0]["Key"].clone();
        assert_eq!(listed, report.files[0].name.as_str());
        report.files[0].name.clone()
    };
    assert_eq!(name_with(2), name_with(2));
    assert_ne!(name_with(2), name_with(1));
}

#[test]
fn until_it_is_finished_the_earlier_report_stands() {
    let root = tempfile::tempdir().expect("tempdir");
    let report = write(root.path(), Scope::All, Destination::Directory);
    let mut next = ReportWriter::create(
        root.path(),
        "f00d",
        "photos",
        false,
        Scope::All,
        Destination::Directory,
        "w",
    )
    .expect("create");
    for i in 0..10_000 {
        next.row(&format!("key-{i}"), None, &COPIED).expect("row");
    }
    drop(next);
    assert_eq!(
        results(root.path(), &report, "succeeded").lines().count(),
        2
    );
}

#[test]
fn what_waits_for_a_restore_is_a_manifest() {
    let root = tempfile::tempdir().expect("tempdir");
    let path = root.path().join("job-f00d/needs-restore.csv");
    let write = |with_versions, rows: &[(&str, Option<&str>)]| {
        let (scope, to) = (Scope::Failed, Destination::Directory);
        let mut report =
            ReportWriter::create(root.path(), "f00d", "photos", with_versions, scope, to, "w")
                .expect("create");
        for (key, version) in rows {
            report
                .row(key, *version, &failed("NeedsRestore", 0, ""))
                .expect("row");
            report.needs_restore(key, *version).expect("row");
        }
        report.finish(OffsetDateTime::now_utc()).expect("finish")
    };
    let report = write(true, &[("a b/é,.jpg", Some("v1")), ("current", None)]);
    let written = fs::read_to_string(&path).expect("the file");
    assert_eq!(written, "photos,a+b/%C3%A9%2C.jpg,v1\nphotos,current,\n");
    let names: Vec<_> = report.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names[1..],
        [
            "job-f00d/needs-restore.csv",
            "job-f00d/manifest.json.md5",
            "job-f00d/manifest.json"
        ]
    );
    assert_eq!(
        report.needs_restore.map(|file| file.path),
        Some(path.clone())
    );
    // S3's own manifest lists results only.
    let listed = fs::read_to_string(&report.manifest_path).expect("manifest.json");
    assert!(!listed.contains("needs-restore"), "{listed}");

    write(false, &[("plain", None)]);
    let written = fs::read_to_string(&path).expect("the file");
    assert_eq!(written, "photos,plain\n");
    let report = write(false, &[]);
    assert_eq!(report.needs_restore, None);
    assert!(!path.exists(), "nothing waits any more");
}

#[test]
fn two_may_write_one_report_at_once() {
    let root = tempfile::tempdir().expect("tempdir");
    let at = OffsetDateTime::UNIX_EPOCH;
    let begun = |writer: &str| {
        let to = Destination::Directory;
        let mut report =
            ReportWriter::create(root.path(), "f00d", "photos", false, Scope::All, to, writer)
                .expect("create");
        report.row("a", None, &COPIED).expect("row");
        report
    };
    let (mut first, mut second) = (begun("shard-0"), begun("shard-1"));
    for report in [&mut second, &mut first] {
        report.row("b", None, &COPIED).expect("row");
    }
    let report = first.finish(at).expect("finish");
    let content = |report: &Report| {
        let read = |file: &ReportFile| fs::read(&file.path).expect("there");
        report.files.iter().map(read).collect::<Vec<_>>()
    };
    let written = content(&report);
    let again = second.finish(at).expect("finish");
    assert_eq!((&report, written), (&again, content(&again)));
    let left = fs::read_dir(root.path().join("job-f00d/results")).expect("results");
    assert_eq!(left.count(), 1, "nobody's partial file");
    assert_eq!(results(root.path(), &again, "succeeded").lines().count(), 2);
}

#[test]
fn what_cannot_be_written_is_named() {
    let root = tempfile::tempdir().expect("tempdir");
    let file = root.path().join("file");
    fs::write(&file, "").expect("write");
    let error = ReportWriter::create(
        &file,
        "f00d",
        "b",
        false,
        Scope::All,
        Destination::Directory,
        "w",
    )
    .err()
    .expect("a file is no directory")
    .to_string();
    assert!(error.contains("job-f00d"), "{error}");
}

proptest! {
    #[test]
    fn keys_survive_their_encoding(key in "\\PC{1,250}|[\\x00-\\x7f]{1,40}") {
        let encoded = encode_key(&key);
        prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"'));
        // What reads a report as a manifest gets the same key.
        prop_assert_eq!(decode_key(encoded.as_bytes()).expect("sound"), key);
    }
}
