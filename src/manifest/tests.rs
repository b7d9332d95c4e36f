//! Whole manifests through the whole room: detect, prepare, read.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::{Compression, write::GzEncoder};
use md5::{Digest as _, Md5};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::encryption::Mode;
use crate::exit::Exit;
use crate::human;
use crate::object::{KEY_BYTES_MAX, ManifestEntry};

mod columns;
mod reading;
mod reports;
mod shards;

/// A folder with one manifest in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// An inventory with these data files, all of its facts true.
    fn inventory(&self, schema: &str, files: &[&[u8]]) -> PathBuf {
        let list: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(i, content)| {
                let name = format!("{i}.csv");
                self.write(&name, content);
                serde_json::json!({
                    "key": format!("inv/data/{name}"),
                    "size": content.len(),
                    "MD5checksum": human::hex(&Md5::digest(content)),
                })
            })
            .collect();
        let json = serde_json::json!({
            "sourceBucket": "src", "destinationBucket": "arn:aws:s3:::dst", "version": "2016-11-30",
            "fileFormat": "CSV", "fileSchema": schema, "files": list,
        });
        self.write("manifest.json", json.to_string().as_bytes())
    }
}

/// The parts of a manifest with their local files.
fn parts(path: &Path, source: &Source) -> Vec<PathBuf> {
    match source {
        Source::File { .. } => vec![path.to_owned()],
        Source::Inventory(inventory) => inventory
            .files
            .iter()
            .map(|file| source.find_local(path, &file.key).expect("beside it"))
            .collect(),
        Source::Report(report) => report
            .files
            .iter()
            .map(|result| {
                source
                    .find_local(path, &result.file.key)
                    .expect("beside it")
            })
            .collect(),
    }
}

fn prepare_as(path: &Path, origin: Origin) -> Result<Prepared, ManifestError> {
    prepare_with(path, origin, &Reading::default())
}

fn prepare_with(path: &Path, origin: Origin, reading: &Reading) -> Result<Prepared, ManifestError> {
    let name = path.file_name().expect("a file").to_string_lossy();
    let source = Source::detect(path, &name, reading)?;
    let mut preparation = Preparation::new(&source, reading);
    for part in parts(path, &source) {
        preparation.add_part(&part, origin, &mut |_| ControlFlow::Continue(()))?;
    }
    preparation.finish()
}

fn prepare(path: &Path) -> Result<Prepared, ManifestError> {
    prepare_as(path, Origin::Local)
}

/// All rows of a prepared manifest, its facts having been through the state.
fn read(path: &Path, prepared: &Prepared) -> Result<Vec<ManifestEntry>, ManifestError> {
    read_with(path, prepared, &Reading::default())
}

fn read_with(
    path: &Path,
    prepared: &Prepared,
    reading: &Reading,
) -> Result<Vec<ManifestEntry>, ManifestError> {
    let json = serde_json::to_string(prepared).expect("it is plain data");
    let prepared: Prepared = serde_json::from_str(&json).expect("it was written by us");
    let name = path.file_name().expect("a file").to_string_lossy();
    let source = Source::detect(path, &name, reading)?;
    let mut rows = Vec::new();
    for (index, part) in parts(path, &source).iter().enumerate() {
        for row in RowReader::open(part, &prepared, index)? {
            rows.push(row?);
        }
    }
    Ok(rows)
}

fn rows_of(path: &Path) -> Vec<ManifestEntry> {
    let prepared = prepare(path).expect("sound");
    let rows = read(path, &prepared).expect("unchanged");
    assert_eq!(prepared.rows, rows.len() as u64);
    assert!(rows.iter().map(|row| row.row).eq(0..prepared.rows));
    rows
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("to memory");
    encoder.finish().expect("to memory")
}

/// The encoding as Java's `URLEncoder` and Python's `quote_plus(safe="/")` make it, told apart from the decoder.
fn encode(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    key.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn csv_line(quoted: bool, fields: &[&str]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| {
            if quoted {
                format!("\"{field}\"")
            } else {
                (*field).to_owned()
            }
        })
        .collect();
    fields.join(",")
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\n\r\t]{1,40}",
        "[a-z+%/ .]{1,20}",
        "\u{20ac}{341}",
    ]
    .prop_filter("a key has 1 to 1,024 bytes", |key| {
        (1..=KEY_BYTES_MAX).contains(&key.len())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_key_comes_back_in_its_row(
        keys in prop::collection::vec(any_key(), 1..20),
        quoted in any::<bool>(),
        crlf in any::<bool>(),
        last_newline in any::<bool>(),
        members in prop::option::of(1_usize..4),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let lines: Vec<_> = keys.iter().map(|key| csv_line(quoted, &["b", &encode(key)])).collect();
        let mut text = lines.join(end);
        if last_newline {
            text.push_str(end);
        }
        let content = match members {
            None => text.into_bytes(),
            Some(n) => text.as_bytes().chunks(text.len().div_ceil(n)).flat_map(gzip).collect(),
        };
        let folder = Folder::new();
        let rows = rows_of(&folder.write("m.csv", &content));
        prop_assert!(rows.iter().all(|row| row.version_id.is_none()));
        prop_assert_eq!(rows.into_iter().map(|row| row.key).collect::<Vec<_>>(), keys);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order(
        names in Just(vec![
            "Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag",
            "StorageClass", "EncryptionStatus", "ObjectOwner",
        ]).prop_shuffle(),
    ) {
        let value = |name: &str| match name {
            "Bucket" => "src",
            "Key" => "a+b",
            "VersionId" => "v1",
            "IsLatest" => "true",
            "IsDeleteMarker" => "false",
            "Size" => "7",
            "ETag" => "e-2",
            "LastModifiedDate" => "2024-04-22T01:11:06.000Z",
            "StorageClass" => "GLACIER",
            "EncryptionStatus" => "SSE-KMS",
            _ => "\"\"junk,",
        };
        let values: Vec<_> = names.iter().map(|name| value(name)).collect();
        let folder = Folder::new();
        let path = folder.inventory(&names.join(", "), &[csv_line(true, &values).as_bytes()]);
        let rows = rows_of(&path);
        let row = &rows[0];
        prop_assert_eq!((row.key.as_str(), row.version_id.as_deref()), ("a b", Some("v1")));
        prop_assert_eq!((row.known.size, row.known.etag.as_deref()), (Some(7), Some("e-2")));
        prop_assert_eq!(row.known.storage_class.as_deref(), Some("GLACIER"));
        prop_assert_eq!(row.known.last_modified, Some(1_713_748_266));
        prop_assert_eq!((row.known.encryption, row.known.is_latest), (Some(Mode::SseKms), Some(true)));
        prop_assert!(!row.known.is_delete_marker);
    }

    #[test]
    fn any_bytes_are_rows_or_faults(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "[ab,\"\r\n%+]{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| [&[0x1f, 0x8b, 8, 0][..], &bytes].concat()),
        ],
    ) {
        let folder = Folder::new();
        let path = folder.write("m.csv", &bytes);
        match prepare(&path) {
            Ok(prepared) => {
                let rows = read(&path, &prepared).expect("what was sound once is again");
                prop_assert_eq!(rows.len() as u64, prepared.rows);
                prop_assert!(prepared.rows > 0);
            }
            Err(error) => prop_assert_eq!(error.exit(), Exit::Usage, "{}", error),
        }
    }
}

#[test]
fn an_empty_version_id_is_null_only_where_all_versions_are_listed() {
    let folder = Folder::new();
    let version = |path: &Path| rows_of(path)[0].version_id.clone();
    let all = folder.inventory(
        "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, EncryptionStatus",
        &[b"src,k,,FALSE,true,,SSE-XYZ\n"],
    );
    assert_eq!(version(&all).as_deref(), Some("null"));
    let known = &rows_of(&all)[0].known;
    assert!(known.is_delete_marker && known.is_latest == Some(false));
    assert_eq!((known.size, known.encryption), (None, None));
    assert_eq!(version(&folder.write("m.csv", b"b,k,\n")), None);
    assert_eq!(
        version(&folder.write("m.csv", b"b,k,v\n")).as_deref(),
        Some("v")
    );
    assert_eq!(
        version(&folder.write("m.csv", b"b,k,null\n")).as_deref(),
        Some("null")
    );
}

#[test]
fn rows_are_counted_by_the_encryption_that_is_listed() {
    let folder = Folder::new();
    let rows: [&[u8]; 2] = [
        b"src,a,SSE-S3\nsrc,b,NOT-SSE\nsrc,c,sse-s3\n",
        b"src,d,SSE-C\nsrc,e,\nsrc,f,a mode of tomorrow\n",
    ];
    let path = folder.inventory("Bucket, Key, EncryptionStatus", &rows);
    let listed = prepare(&path).expect("sound").listed();
    let of = Mode::ALL.map(|mode| listed.of(mode));
    let expected = Mode::ALL.map(|mode| match mode {
        Mode::SseS3 => 2,
        Mode::NotSse | Mode::SseC => 1,
        Mode::SseKms | Mode::DsseKms => 0,
    });
    assert_eq!((of, listed.unknown), (expected, 2));
}

#[test]
fn words_of_a_header_may_be_a_bucket_and_a_key() {
    let folder = Folder::new();
    let keys = |text: &[u8]| -> Vec<String> {
        let rows = rows_of(&folder.write("m.csv", text));
        rows.into_iter().map(|row| row.key).collect()
    };
    assert_eq!(keys(b"bucket,key\nbucket,other\n"), ["key", "other"]);
    assert_eq!(keys(b"bucket,key\n"), ["key"]);
}

#[test]
fn each_bad_input_names_its_line_and_what_is_wrong() {
    let long = format!("b,ok\nb,{}\n", "k".repeat(KEY_BYTES_MAX + 1));
    let version = format!("b,k,{}\n", "v".repeat(VERSION_ID_BYTES_MAX + 1));
    let garbage = [gzip(b"b,k\n"), b"garbage".to_vec()].concat();
    let mut damaged = gzip("b,key\n".repeat(100).as_bytes());
    let crc = damaged.len() - 6;
    damaged[crc] ^= 1;
    let marked = gzip(b"\xef\xbb\xbfb,k\n");
    let table: [(&[u8], &str, &str); 29] = [
        (b"", "m.csv: ", "has no rows"),
        (&gzip(b""), "m.csv: ", "has no rows"),
        (b"key\n", "m.csv:1: ", "1 columns where 2 or 3"),
        (b"b,k\nb\n", "m.csv:2: ", "1 columns where 2"),
        (b"b,k\nb,k,v\n", "m.csv:2: ", "3 columns where 2"),
        (b"b,k,v\nb,k\n", "m.csv:2: ", "2 columns where 3"),
        (b"b,k,v,w\n", "m.csv:1: ", "4 columns where 2 or 3"),
        (
            b"b,k\nb,a%2\n",
            "m.csv:2: ",
            "bad percent-encoding in the key at byte 1: \"%2\"",
        ),
        (b"b,k\nb,%ff\n", "m.csv:2: ", "Key is not UTF-8"),
        (b"b,k,\xff\n", "m.csv:1: ", "VersionId is not UTF-8"),
        (b"b,k\nb,\n", "m.csv:2: ", "the key is empty"),
        (long.as_bytes(), "m.csv:2: ", "the key has 1025 bytes"),
        (
            version.as_bytes(),
            "m.csv:1: ",
            "the version id has 1025 bytes",
        ),
        (
            b"b,k\nc,k\n",
            "m.csv:2: ",
            "bucket \"c\" where \"b\" is expected",
        ),
        (b"s3://b,k\n", "m.csv:1: ", "\"s3://b\" is no bucket name"),
        (b",k\n", "m.csv:1: ", "\"\" is no bucket name"),
        (b"\xef\xbb\xbfb,k\n", "m.csv:1: ", "byte order mark"),
        (&marked, "m.csv:1: ", "byte order mark"),
        (b"\xff\xfeb\0,\0k\0", "m.csv:1: ", "UTF-16"),
        (
            b"PAR1\x15\x04",
            "m.csv: ",
            "can't be read as its format asks",
        ),
        (b"b,k\n\nb,l\n", "m.csv:2: ", "blank line"),
        (b"Bucket,Key\nb,k\n", "m.csv:1: ", "header row"),
        (b"bucket,key\nb,k\n", "m.csv:1: ", "header row"),
        (b"bucket,key,VersionId\n", "m.csv:1: ", "header row"),
        (
            b"b,\"two\nlines\"\nb,k\"\n",
            "m.csv:3: ",
            "a quote inside a field",
        ),
        (
            b"b,k\nb,\"k",
            "m.csv:2: ",
            "does not end before the file does",
        ),
        (b"b,k\rb,l\r", "m.csv:1: ", "carriage return"),
        (&garbage, "m.csv:2: ", "gzip"),
        (&damaged, "m.csv:101: ", "damaged gzip data"),
    ];
    let folder = Folder::new();
    for (content, place, phrase) in table {
        let path = folder.write("m.csv", content);
        let error = prepare(&path).expect_err(phrase);
        let message = error.to_string();
        assert_eq!(error.exit(), Exit::Usage, "{message}");
        assert!(
            message.starts_with(place) && message.contains(phrase),
            "{place}{phrase}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "one fault, one line: {message}");
    }
}

#[test]
fn a_bad_data_file_is_named_and_its_rows_do_not_count() {
    let folder = Folder::new();
    let schema = "Bucket, Key, Size";
    let message = |path: &Path| prepare(path).expect_err("a fault").to_string();
    let table: [(&[u8], &str); 5] = [
        (b"src,k\n", "inv/data/0.csv:1: 2 columns where 3"),
        (
            b"src,k,12x\n",
            "inv/data/0.csv:1: Size \"12x\" is not a number",
        ),
        (
            b"src,k,+1\n",
            "inv/data/0.csv:1: Size \"+1\" is not a number",
        ),
        (
            b"other,k,1\n",
            "inv/data/0.csv:1: bucket \"other\" where \"src\"",
        ),
        (
            b"\"Bucket\",\"Key\",\"Size\"\n",
            "inv/data/0.csv:1: header row",
        ),
    ];
    for (content, expected) in table {
        let message = message(&folder.inventory(schema, &[content]));
        assert!(message.starts_with(expected), "{message}");
    }
    let path = folder.inventory(schema, &[b"src,k,1\n"]);
    folder.write("0.csv", b"src,K,1\n");
    let found = message(&path);
    assert!(found.starts_with("inv/data/0.csv: MD5 is "), "{found}");
    folder.write("0.csv", b"src,k,11\n");
    assert_eq!(
        message(&path),
        "inv/data/0.csv: has 9 bytes, manifest.json says 8; fetch it again"
    );
}

#[test]
fn no_truncated_gzip_passes_for_a_shorter_manifest() {
    let lines: String = (0..50).map(|i| format!("b,key-{i}\n")).collect();
    let whole = gzip(lines.as_bytes());
    let folder = Folder::new();
    assert_eq!(rows_of(&folder.write("m.csv.gz", &whole)).len(), 50);
    for cut in 0..whole.len() {
        let path = folder.write("m.csv.gz", &whole[..cut]);
        let error = prepare(&path).expect_err("it is cut");
        assert_eq!(error.exit(), Exit::Usage, "{cut}: {error}");
        if cut > 2 {
            assert!(
                error.to_string().contains("gzip data ends too early"),
                "{cut}: {error}"
            );
        }
    }
}

#[test]
fn many_faults_are_counted_and_the_first_are_shown() {
    let folder = Folder::new();
    let path = folder.write("m.csv", format!("b,k\n{}", "b,%\n".repeat(30)).as_bytes());
    let ManifestError::Invalid(faults) = prepare(&path).expect_err("thirty faults") else {
        panic!("bad input");
    };
    assert_eq!((faults.shown.len(), faults.total), (FAULTS_SHOWN_MAX, 30));
    assert_eq!(faults.shown[19].place, Some(Place::Line(21)));
    assert!(
        faults.to_string().ends_with("\nand 10 more; 30 in all"),
        "{faults}"
    );
}

#[test]
fn what_the_file_is_depends_on_its_content() {
    let folder = Folder::new();
    let json = fs::read(folder.inventory("Bucket, Key", &[])).expect("written");
    let renamed = folder.write("list.txt", &[b"\n  ", &json[..]].concat());
    let source = Source::detect(&renamed, "list.txt", &Reading::default()).expect("an inventory");
    assert!(matches!(&source, Source::Inventory(inventory) if inventory.source_bucket == "src"));
    let empty = prepare(&renamed).expect("an inventory of nothing is sound");
    assert_eq!((empty.rows, empty.bucket.as_str()), (0, "src"));

    let fault = |path: &Path, name: &str| {
        let error = Source::detect(path, name, &Reading::default()).expect_err("no manifest");
        assert_eq!(error.exit(), Exit::Usage);
        error.to_string()
    };
    let csv = folder.write("x.json", b"b,k\n");
    assert!(fault(&csv, "x.json").contains("does not begin with {"));
    assert!(fault(&folder.write("cut.json", &json[..20]), "cut.json").contains("EOF"));
    assert!(fault(folder.0.path(), "folder").contains("no regular file"));
    assert!(fault(&folder.0.path().join("absent"), "absent").starts_with("absent: cannot be read"));
}

#[test]
fn a_table_is_told_from_text_that_begins_alike() {
    for (format, heads) in [
        (
            Format::Orc,
            &[&b"ORC\x0a\x06"[..], b"ORC%\0\0\x0a", b"ORC,\0\0\x0a"][..],
        ),
        (Format::Parquet, &[b"PAR1\x15\x04"]),
        (
            Format::Csv,
            &[
                b"ORC,k\n",
                b"ORC,k\r\n",
                b"ORC,\"k\"\n",
                b"ORC,\xc3\xa9\n",
                b"ORCHID,k\n",
                b"PAR1,k\n",
                b"OR",
                b"ORC",
            ],
        ),
    ] {
        for head in heads {
            assert_eq!(Format::of(head), format, "{}", head.escape_ascii());
        }
    }
}

#[test]
fn the_digest_pins_the_content_and_nothing_else() {
    let digest = |name: &str, content: &[u8]| {
        let folder = Folder::new();
        prepare(&folder.write(name, content)).expect("sound").digest
    };
    assert_eq!(digest("m.csv", b"b,k\n"), digest("other.csv", b"b,k\n"));
    assert_ne!(digest("m.csv", b"b,k\n"), digest("m.csv", b"b,K\n"));
    let inventory = |schema: &str| {
        let folder = Folder::new();
        let path = folder.inventory(schema, &[b"src,k,v,1\n"]);
        prepare(&path).expect("sound").digest
    };
    assert_ne!(
        inventory("Bucket, Key, ETag, Size"),
        inventory("Bucket, Key, VersionId, Size")
    );
    assert_eq!(
        inventory("Bucket, Key, ETag, Size"),
        inventory("bucket,key,etag,size")
    );
}

/// A report with these result files, all of its facts true.
fn report(folder: &Folder, files: &[(&str, &[u8])]) -> PathBuf {
    let results: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(i, (status, content))| {
            let name = format!("{i}.csv");
            folder.write(&name, content);
            serde_json::json!({
                "TaskExecutionStatus": status, "Bucket": "arn:aws:s3:::reports",
                "MD5Checksum": human::hex(&Md5::digest(content)), "Key": format!("p/job-1/results/{name}"),
            })
        })
        .collect();
    let json = serde_json::json!({
        "Format": "Report_CSV_20180820", "ReportCreationDate": "2024-04-22T01:11:06.000Z", "Results": results,
        "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
    });
    folder.write("manifest.json", json.to_string().as_bytes())
}

fn set_modified(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::options()
        .append(true)
        .open(path)
        .expect("it is there");
    file.set_modified(time).expect("a time");
}

/// Waits until what is written has another time than what was: file systems count in milliseconds.
fn let_the_clock_tick(folder: &Folder) {
    let written = || {
        let path = folder.write("clock", b"");
        Fingerprint::of(&fs::metadata(path).expect("written")).changed_nanos
    };
    let before = written();
    while written() == before {
        std::thread::yield_now();
    }
}

#[test]
fn a_changed_file_is_noticed_and_a_touched_one_is_not_minded() {
    let folder = Folder::new();
    let path = folder.write("m.csv", b"b,k1\nb,k2\n");
    set_modified(&path, 1_000);
    for origin in [Origin::Local, Origin::Fetched] {
        let prepared = prepare_as(&path, origin).expect("sound");
        let facts = &prepared.parts[0];
        assert_eq!(facts.fingerprint.is_some(), origin == Origin::Local);
        set_modified(&path, 2_000);
        assert_eq!(read(&path, &prepared).expect("the same bytes").len(), 2);
        assert!(verify_part(&path, &prepared.parts[0]).is_ok());

        // With the old time: length and time alone would not tell.
        let_the_clock_tick(&folder);
        fs::write(&path, b"b,k1\nb,k3\n").expect("written");
        set_modified(&path, 1_000);
        let error = read(&path, &prepared).expect_err("changed");
        assert_eq!(error.exit(), Exit::State);
        assert!(
            error
                .to_string()
                .starts_with("m.csv: its content is another"),
            "{error}"
        );
        assert!(verify_part(&path, &prepared.parts[0]).is_err());
        fs::write(&path, b"b,k1\nb,k2\n").expect("written");
        set_modified(&path, 1_000);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let folder = Folder::new();
    for (then, phrase) in [
        (&b"b,k1\nb,k2\nb,k3\n"[..], "more rows"),
        (b"b,k1\n", "fewer rows"),
        (b"b,k1\nc,k2\n", "m.csv:2: bucket"),
        (b"b,k1\nb,K2\n", "written to while it was read"),
    ] {
        let path = folder.write("m.csv", b"b,k1\nb,k2\n");
        set_modified(&path, 1_000);
        let prepared = prepare(&path).expect("sound");
        let mut reader = RowReader::open(&path, &prepared, 0).expect("unchanged");
        let_the_clock_tick(&folder);
        fs::write(&path, then).expect("written");
        set_modified(&path, 1_000);
        let error = reader.by_ref().find_map(Result::err).expect(phrase);
        assert_eq!(error.exit(), Exit::State);
        assert!(error.to_string().contains(phrase), "{phrase}: {error}");
        assert!(reader.next().is_none(), "an error ends it");
    }
    // Touched, or moved, it is still the same.
    let path = folder.write("m.csv", b"b,k1\nb,k2\n");
    let prepared = prepare(&path).expect("sound");
    let reader = RowReader::open(&path, &prepared, 0).expect("unchanged");
    set_modified(&path, 2_000);
    let rows: Result<Vec<_>, _> = reader.collect();
    assert_eq!(rows.expect("the same bytes").len(), 2);
}

#[test]
fn a_preparation_can_be_watched_and_stopped() {
    let folder = Folder::new();
    let path = folder.write("m.csv", "b,k\n".repeat(25_000).as_bytes());
    let source = Source::detect(&path, "m.csv", &Reading::default()).expect("rows");
    let mut told = Vec::new();
    Preparation::new(&source, &Reading::default())
        .add_part(&path, Origin::Local, &mut |rows| {
            told.push(rows);
            ControlFlow::Continue(())
        })
        .expect("sound");
    assert_eq!(told, [10_000, 20_000, 25_000]);
    let error = Preparation::new(&source, &Reading::default())
        .add_part(&path, Origin::Local, &mut |_| ControlFlow::Break(()))
        .expect_err("stopped");
    assert_eq!(error.exit(), Exit::Interrupted);
    let error = Preparation::new(&source, &Reading::default())
        .add_part(&path, Origin::Local, &mut |_| {
            folder.write("m.csv", b"b,k\n");
            ControlFlow::Continue(())
        })
        .expect_err("written to");
    assert!(
        error.to_string().contains("written to while it was read"),
        "{error}"
    );
}
