//! Manifests as people have them, and the rows of them that are meant.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::support::faults::{Proxy, Weather};
use crate::support::objects::{self, Under};
use crate::support::{BUCKET, Job, Run, Store};

fn md5(content: &[u8]) -> String {
    let md5 = Md5::digest(content);
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Parquet file of these keys.
fn parquet_of(keys: &[&str]) -> Vec<u8> {
    let message =
        "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); }";
    let schema = Arc::new(parse_message_type(message).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("to memory");
    let mut group = writer.next_row_group().expect("to memory");
    for value in [None, Some(keys)] {
        let values: Vec<_> = (0..keys.len())
            .map(|at| ByteArray::from(value.map_or(BUCKET, |keys| keys[at])))
            .collect();
        let mut column = group
            .next_column()
            .expect("to memory")
            .expect("two of them");
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, None, None).expect("to memory");
        column.close().expect("to memory");
    }
    group.close().expect("to memory");
    writer.into_inner().expect("to memory")
}

/// A `manifest.json` of a data file.
fn inventory_of(format: &str, schema: &str, key: &str, content: &[u8]) -> String {
    let json = json!({
        "sourceBucket": BUCKET, "destinationBucket": format!("arn:aws:s3:::{BUCKET}"), "version": "2016-11-30",
        "fileFormat": format, "fileSchema": schema,
        "files": [{"key": key, "size": content.len(), "MD5checksum": md5(content)}],
    });
    json.to_string()
}

fn left_out(run: &Run) -> Value {
    run.summary()["manifest"]["left_out"].clone()
}

#[tokio::test]
async fn the_newest_complete_inventory_of_a_folder_is_taken() {
    let store = Store::start().await;
    let keys = ["a+b %2F", "plain"];
    for key in keys {
        objects::put_plain(&store.client, key, b"1").await;
    }
    const FOLDER: &str = "inv/bucket/weekly";
    let table = parquet_of(&keys);
    let data = format!("{FOLDER}/data/1.parquet");
    objects::put_plain(&store.client, &data, &table).await;
    let sound = inventory_of("Parquet", "message s3.inventory {…}", &data, &table);
    // An older one, which is wrong, the newest complete one, one without its end, and what else lies there.
    for (date, json, is_complete) in [
        ("2025-12-28T01-00Z", "{}", true),
        ("2026-01-04T01-00Z", sound.as_str(), true),
        ("2026-01-11T01-00Z", "{}", false),
        ("hive", "{}", true),
    ] {
        let put = |name: &str, content: String| {
            let key = format!("{FOLDER}/{date}/{name}");
            let client = &store.client;
            async move { objects::put_plain(client, &key, content.as_bytes()).await }
        };
        put("manifest.json", json.to_owned()).await;
        if is_complete {
            put("manifest.checksum", md5(json.as_bytes())).await;
        }
    }
    let job = |folder: &str| {
        store
            .job(&["not this"])
            .args("--to sse-s3 --manifest")
            .args(folder)
    };
    let folder = format!("s3://{BUCKET}/{FOLDER}/");
    let taken = format!("{folder}2026-01-04T01-00Z/manifest.json");
    let arn = store.add_kms_key(None);
    let first = store
        .job(&["not this"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn)
        .arg("--manifest", &folder);
    let run = first.run().expect(0);
    assert_eq!(run.count("succeeded"), 2);
    assert_eq!(run.summary()["manifest"]["location"], json!(taken));
    assert_eq!(run.summary()["manifest"]["plus_or_percent"], json!(1));
    run.says(&[
        "the newest complete inventory in",
        "2026-01-11T01-00Z",
        "passed over",
    ]);
    assert!(store.copies().values().all(|copies| *copies == 1));

    // A newer one comes: the state goes on with its own, and says so; without a state the newest is another job.
    let newer = format!("{FOLDER}/2026-01-18T01-00Z");
    let checksum = md5(sound.as_bytes());
    for (name, content) in [("manifest.json", &sound), ("manifest.checksum", &checksum)] {
        objects::put_plain(
            &store.client,
            &format!("{newer}/{name}"),
            content.as_bytes(),
        )
        .await;
    }
    let run = first.run().expect(0);
    assert_eq!(run.summary()["manifest"]["location"], json!(taken));
    run.says(&["2026-01-18T01-00Z/manifest.json, which is newer, give another --state"]);
    let run = job(&format!("s3://{BUCKET}/{newer}/")).run().expect(0);
    let itself = format!("s3://{BUCKET}/{newer}/manifest.json");
    assert_eq!(run.summary()["manifest"]["location"], json!(itself));

    // A folder of this machine.
    let local = job("inventories");
    for (name, content) in [
        (
            "inventories/2026-01-04T01-00Z/manifest.json",
            sound.as_bytes(),
        ),
        (
            "inventories/2026-01-04T01-00Z/manifest.checksum",
            checksum.as_bytes(),
        ),
        ("inventories/2026-02-01T01-00Z/manifest.json", b"{}"),
        ("inventories/data/1.parquet", &table),
    ] {
        local.write(name, content);
    }
    let run = local.run().expect(0);
    let found = run.summary()["manifest"]["location"].to_string();
    assert!(
        found.ends_with("inventories/2026-01-04T01-00Z/manifest.json\""),
        "{found}"
    );

    for (folder, phrase) in [
        (
            format!("s3://{BUCKET}/inv/"),
            "no folder in it is called as S3 calls those",
        ),
        (format!("s3://{BUCKET}/none/"), "has no complete inventory"),
    ] {
        job(&folder).run().expect(2).says(&[phrase]);
    }
}

#[tokio::test]
async fn the_same_command_every_night_does_what_is_left() {
    let store = Store::start().await;
    let put = async |key: &str| objects::put_plain(&store.client, key, b"1").await;
    let files = store.job(&["not this"]);
    let inventory = |date: &str, keys: &[&str]| {
        let rows: String = keys
            .iter()
            .map(|key| format!("\"{BUCKET}\",\"{key}\"\n"))
            .collect();
        let data = format!("data/{date}.csv");
        files.write(&format!("inv/{data}"), &rows);
        let json = inventory_of("CSV", "Bucket, Key", &data, rows.as_bytes());
        files.write(&format!("inv/{date}/manifest.json"), &json);
        files.write(
            &format!("inv/{date}/manifest.checksum"),
            md5(json.as_bytes()),
        );
    };
    put("a").await;
    put("b").await;
    inventory("2026-01-04T01-00Z", &["a", "b"]);
    let arn = store.add_kms_key(None);
    let state = files.path("states/{inventory}");
    let job = store
        .job(&["not this"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn)
        .arg("--manifest", files.path("inv"))
        .arg("--report", files.path("reports"))
        .arg("--state", &state);
    let first = job.run().expect(0);
    assert_eq!(
        (first.count("succeeded"), first.count("already_settled")),
        (2, 0)
    );
    // Nothing is new: nothing is asked about any object.
    let asked = store.s3.requests();
    let second = job.run().expect(0);
    assert_eq!(
        (second.count("total"), second.count("already_settled")),
        (2, 2)
    );
    assert_eq!(store.s3.requests(), asked);
    // The next inventory has one more.
    put("c").await;
    inventory("2026-01-11T01-00Z", &["a", "b", "c"]);
    let third = job.run().expect(0);
    assert_eq!((third.count("succeeded"), third.count("skipped")), (1, 2));
    assert!(files.path("states/2026-01-11T01-00Z/job.json").is_file());
    assert!(store.copies().values().all(|copies| *copies == 1));
    let elsewhere = store.job(&["a"]).args("--to sse-s3").arg("--state", &state);
    elsewhere
        .run()
        .expect(2)
        .says(&["{inventory}", "manifest.csv"]);
}

#[tokio::test]
async fn what_the_row_tells_is_no_row_and_what_a_look_tells_is_skipped() {
    let store = Store::start().await;
    let (old, new) = (store.add_kms_key(None), store.add_kms_key(None));
    let under_old = Under::Kms(old.clone());
    for key in ["old/1", "old/2", "old/large"] {
        let size = if key.ends_with("large") { 100 } else { 10 };
        objects::put(&store.client, key, &vec![1; size], &under_old).await;
    }
    objects::put_plain(&store.client, "other/1", b"0123456789").await;
    let kms = |job: Job| job.args("--to sse-kms --kms-key-id").args(&new);
    let keys = ["old/1", "old/2", "old/large", "other/1", "old/2"];
    let job = kms(store.job(&keys))
        .args("--max-size 10 --exclude *1 --current-kms-key")
        .args(old.rsplit('/').next().expect("an id"));
    let run = job.run().expect(0);
    // A CSV tells keys alone: the rest is looked at.
    assert_eq!(left_out(&run), json!({"exclude": 2}));
    assert_eq!((run.count("total"), run.count("succeeded")), (3, 1));
    // The second row of the same object, too: it is under another key then.
    assert_eq!(run.summary()["skips"], json!({"filtered": 2}));
    let manifest = &run.summary()["manifest"];
    assert_eq!(
        (&manifest["duplicates"], &manifest["rows"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(store.copies(), [("old/2".to_owned(), 1)].into());
    let reported: Vec<_> = job.report().into_iter().map(|row| row.key).collect();
    assert_eq!(reported, ["old/2", "old/large", "old/2"]);

    // Other filters are another job; the state says in what it differs.
    let other = store
        .job(&keys)
        .args("--to sse-kms --kms-key-id")
        .args(&new)
        .args("--max-size 11 --exclude *1")
        .arg("--state", job.state());
    other
        .run()
        .expect(5)
        .says(&["--max-size", "--current-kms-key"]);

    // An inventory tells what it tells: nothing is looked at.
    let text = format!("{BUCKET},a,7,SSE-S3\n{BUCKET},b,,SSE-KMS\n{BUCKET},c,70,SSE-KMS\n");
    let job = kms(store.job(&["not this"])).args("--encryption sse-kms,dsse-kms --max-size 69");
    job.write("data/1.csv", &text);
    let json = inventory_of(
        "CSV",
        "Bucket, Key, Size, EncryptionStatus",
        "data/1.csv",
        text.as_bytes(),
    );
    let job = {
        let path = job.write("manifest.json", json);
        job.arg("--manifest", path)
    };
    let run = job.run().expect(3);
    assert_eq!(left_out(&run), json!({"encryption": 1, "max-size": 1}));
    // Its size is not told, and it is not there.
    assert_eq!((run.count("total"), run.count("failed")), (1, 1));
}

#[tokio::test]
async fn a_table_that_an_engine_exports_says_its_columns_and_how_keys_are_spelt() {
    let store = Store::start().await;
    for key in ["a+b", "c%20d", "e"] {
        objects::put_plain(&store.client, key, b"1").await;
    }
    let kms = store.add_kms_key(None);
    let job = |text: &str| {
        let job = store
            .job(&["not this"])
            .args("--to sse-kms --kms-key-id")
            .args(&kms);
        job.write_manifest(text);
        job
    };
    let text = format!(
        "\"key\",\"size\",\"last_modified_date\",\"bucket\"\n\"a+b\",\"1\",\"2024-04-22 01:11:06.000\",\"{BUCKET}\"\n\
         \"c%20d\",\"1\",\"\",\"{BUCKET}\"\n\"e\",,,\"{BUCKET}\"\n\"x\",,,\"elsewhere\"\n"
    );
    let before = store.writes();
    job(&text).run().expect(2);
    let by_header = || job(&text).args("--manifest-columns header");
    by_header().run().expect(2).says(&[
        "manifest.csv:2: the key \"a+b\" has a + or a %",
        "give --manifest-encoding url or none",
        "manifest.csv:5: bucket \"elsewhere\"",
        "take the rows of one with --bucket",
    ]);
    assert_eq!(store.writes(), before);
    let run = by_header()
        .args("--manifest-encoding none --bucket bucket")
        .run()
        .expect(0);
    assert_eq!(
        (run.count("succeeded"), left_out(&run)),
        (3, json!({"bucket": 1}))
    );

    // Without a header, and without a bucket.
    let names = "--manifest-columns -,key --bucket bucket --manifest-encoding none";
    let run = job("1,e\n2,a+b\n").args(names).run().expect(0);
    assert_eq!(run.summary()["skips"], json!({"already-encrypted": 2}));
    job("1,e\n")
        .args("--manifest-columns -,kye")
        .run()
        .expect(2)
        .says(&["none of Bucket, Key"]);
    // What would do nothing is told.
    job("bucket,e\n")
        .args("--manifest-rows all")
        .run()
        .expect(2)
        .says(&["--manifest-rows does not go with a CSV"]);
    job("bucket,e\n")
        .args("--versions restack --min-size 1")
        .run()
        .expect(2)
        .says(&["--versions restack rewrites all versions"]);
}

#[tokio::test]
async fn rows_of_a_report_that_succeeded_are_a_manifest_too() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "there", b"1").await;
    let (one, two) = (store.add_kms_key(None), store.add_kms_key(None));
    let job = store
        .job(&["there", "gone"])
        .args("--to sse-kms --kms-key-id")
        .args(&one);
    let run = job.run().expect(3);
    let report = run.summary()["report"]
        .as_str()
        .expect("a report")
        .to_owned();
    for (rows, code, total) in [("succeeded", 0, 1), ("all", 3, 2), ("failed", 3, 1)] {
        let again = store
            .job(&["not this"])
            .args("--to sse-kms --kms-key-id")
            .args(&two);
        let again = again
            .arg("--manifest", &report)
            .args("--manifest-rows")
            .args(rows);
        assert_eq!(again.run().expect(code).count("total"), total, "{rows}");
    }
}

/// A store that ignores conditions would do what each of two tasks asks that are at work on one object.
#[tokio::test]
async fn rows_that_name_one_object_at_once_copy_it_once() {
    let store = Store::start().await;
    let keys: Vec<String> = (0..4).map(|n| format!("k{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let proxy = Proxy::before(&store.s3, Weather::IgnoresDestination);
    let arn = store.add_kms_key(None);
    let rows: Vec<&String> = keys.iter().cycle().take(64).collect();
    let job = Job::new(&proxy.url(), store.s3.credentials(), &rows);
    let run = job
        .args("--accept-race --to sse-kms --kms-key-id")
        .args(&arn)
        .run()
        .expect(0);
    assert_eq!((run.count("succeeded"), run.count("skipped")), (4, 60));
    assert_eq!(run.summary()["manifest"]["duplicates"], json!(60));
    assert_eq!(proxy.seen().operations["CopyObject"], 4);
}
