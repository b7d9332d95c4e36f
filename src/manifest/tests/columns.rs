//! Parquet and ORC, as other tools write them, and damaged.

use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::human;

/// What pyarrow and Spark wrote: see `make.py` and `spark.py` in `tests/inventories`.
const TABLES: [&str; 12] = [
    "as-s3.parquet",
    "odd.parquet",
    "int96.parquet",
    "strings.parquet",
    "as-s3.orc",
    "odd.orc",
    "words.orc",
    "first.orc",
    "strings.orc",
    "spark.orc",
    "java-lz4.orc",
    "spark.parquet",
];

fn inventories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventories")
}

/// An inventory whose only data file has this content.
fn inventory_of(folder: &Folder, format: &str, schema: &str, content: &[u8]) -> PathBuf {
    folder.write("0", content);
    let json = serde_json::json!({
        "sourceBucket": "src", "destinationBucket": "arn:aws:s3:::dst", "version": "2016-11-30",
        "fileFormat": format, "fileSchema": schema,
        "files": [{
            "key": "inv/data/0",
            "size": content.len(),
            "MD5checksum": human::hex(&Md5::digest(content)),
        }],
    });
    folder.write("manifest.json", json.to_string().as_bytes())
}

fn format_of(name: &str) -> &'static str {
    if name.ends_with(".orc") {
        "ORC"
    } else {
        "Parquet"
    }
}

/// What the same rows are in S3's own CSV.
fn expected() -> Vec<ManifestEntry> {
    const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass, \
                          EncryptionStatus";
    let folder = Folder::new();
    let text = fs::read(inventories().join("rows.csv.gz")).expect("it is there");
    rows_of(&inventory_of(&folder, "CSV", SCHEMA, &text))
}

#[test]
fn what_other_tools_write_is_what_s3_writes_as_csv() {
    let expected = expected();
    assert_eq!(expected.len(), 1_200);
    assert_eq!(expected[0].key, "a+b %2F/é");
    let nothing: Vec<_> = expected
        .iter()
        .filter(|row| row.known.size.is_none())
        .collect();
    assert!(nothing.iter().all(|row| row.known.is_delete_marker) && !nothing.is_empty());
    for name in TABLES {
        let folder = Folder::new();
        let table = fs::read(inventories().join(name)).expect("it is there");
        let path = inventory_of(&folder, format_of(name), "", &table);
        let rows = rows_of(&path);
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "{name}");
        }
        assert_eq!(rows.len(), expected.len(), "{name}");
        // By itself, where nothing says how keys are spelt.
        let alone = folder.0.path().join("0");
        let error = prepare(&alone).expect_err("keys with + and %");
        let message = error.to_string();
        assert!(
            message.starts_with("0 row 1: the key \"a+b %2F/é\" has a + or a %"),
            "{message}"
        );
        assert!(
            message.contains("0 row 3: ") && message.contains("0 row 4: "),
            "{message}"
        );
        let said = Reading {
            keys: Some(KeyEncoding::None),
            ..Reading::default()
        };
        let prepared = prepare_with(&alone, Origin::Fetched, &said).expect("it is said");
        assert_eq!(
            read_with(&alone, &prepared, &said).expect("unchanged"),
            rows
        );
        // Each shard has its rows, skipped or not.
        let third = &rows[400..];
        let mut reader = RowReader::open(&alone, &prepared, 0).expect("unchanged");
        reader.skip_rows_while(|row| row < 400).expect("unchanged");
        assert!(
            reader
                .map(|row| row.expect("unchanged"))
                .eq(third.iter().cloned())
        );
    }
}

/// A Parquet file with these columns, which hold text or numbers, of three rows.
fn parquet(message: &str) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(message).expect("a schema"));
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::new()))
            .expect("to memory");
    let mut group = writer.next_row_group().expect("to memory");
    let texts = ["src", "src", "src"].map(ByteArray::from);
    while let Some(mut column) = group.next_column().expect("to memory") {
        match column.untyped() {
            ::parquet::column::writer::ColumnWriter::ByteArrayColumnWriter(_) => {
                let typed = column.typed::<ByteArrayType>();
                typed
                    .write_batch(&texts, Some(&[1; 3]), None)
                    .expect("to memory");
            }
            _ => {
                let typed = column.typed::<Int64Type>();
                typed
                    .write_batch(&[1, 2, 3], Some(&[1; 3]), None)
                    .expect("to memory");
            }
        }
        column.close().expect("to memory");
    }
    group.close().expect("to memory");
    writer.into_inner().expect("to memory")
}

#[test]
fn a_table_that_does_not_serve_says_what_is_missing() {
    let table = [
        (
            "message m { optional binary key (UTF8); }",
            "its columns \"key\" has no column Bucket, which every row needs",
        ),
        (
            "message m { optional binary bucket (UTF8); optional int64 size; }",
            "has no column Key",
        ),
        (
            "message m { optional binary bucket (UTF8); optional int64 key; }",
            "the column Key is INT64, which can't be read as one",
        ),
        (
            "message m { optional binary bucket (UTF8); optional binary key (UTF8); optional binary Key (UTF8); }",
            "names Key more than once",
        ),
        (
            "message m { optional binary bucket (UTF8); optional group key { optional binary key (UTF8); } }",
            "has no column Key",
        ),
    ];
    for (message, phrase) in table {
        let folder = Folder::new();
        let file = folder.write("t.parquet", &parquet(message));
        let error = prepare(&file).expect_err(phrase);
        let told = error.to_string();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(
            told.starts_with("t.parquet: ") && told.contains(phrase),
            "{told}"
        );
    }
    let sound = parquet("message m { optional binary bucket (UTF8); optional binary key (UTF8); }");
    let folder = Folder::new();
    assert_eq!(rows_of(&folder.write("t", &sound)).len(), 3);
    // A column may be missing where the operator says the bucket.
    let keys = folder.write(
        "keys",
        &parquet("message m { optional binary key (UTF8); }"),
    );
    let mut reading = Reading::default();
    reading.selection.bucket = Some("elsewhere".to_owned());
    let prepared = prepare_with(&keys, Origin::Local, &reading).expect("sound");
    assert_eq!((prepared.bucket.as_str(), prepared.rows), ("elsewhere", 3));
}

#[test]
fn data_files_of_one_inventory_have_the_same_columns() {
    let folder = Folder::new();
    let two = parquet("message m { optional binary bucket (UTF8); optional binary key (UTF8); }");
    let three = parquet(
        "message m { optional binary junk; optional binary KEY (UTF8); optional int64 size; optional binary bucket (UTF8); }",
    );
    let file = |name: &str, content: &[u8]| {
        folder.write(name, content);
        serde_json::json!({"key": name, "MD5checksum": human::hex(&Md5::digest(content))})
    };
    let manifest = |files: &[serde_json::Value]| {
        let json = serde_json::json!({
            "sourceBucket": "src", "fileFormat": "Parquet", "fileSchema": "message s3.inventory {…}", "files": files,
        });
        folder.write("manifest.json", json.to_string().as_bytes())
    };
    let (a, b, c) = (file("a", &two), file("b", &two), file("c", &three));
    assert_eq!(rows_of(&manifest(&[a.clone(), b])).len(), 6);
    let error = prepare(&manifest(&[a, c]))
        .expect_err("other columns")
        .to_string();
    assert!(
        error.starts_with(
            "c: has the columns Bucket, Key, Size where the files before it have Bucket, Key"
        ),
        "{error}"
    );
    let empty = prepare(&manifest(&[])).expect("the bucket was empty");
    assert_eq!((empty.rows, empty.bucket.as_str()), (0, "src"));
    // A CSV among them, and the other way round.
    let text = file("d", b"src,k\n");
    let error = prepare(&manifest(&[text])).expect_err("a CSV").to_string();
    assert!(
        error.contains("d: can't be read as its format asks"),
        "{error}"
    );
}

/// A file that is damaged is refused, or read; nothing else may come of it. What is refused is the operator's to mend.
fn survives(name: &str, content: &[u8]) {
    let folder = Folder::new();
    let path = folder.write("damaged", content);
    let reading = Reading {
        keys: Some(KeyEncoding::None),
        ..Reading::default()
    };
    let prepared = std::panic::catch_unwind(|| prepare_with(&path, Origin::Fetched, &reading));
    match prepared.unwrap_or_else(|_| panic!("{name}: a panic")) {
        Ok(prepared) => {
            let rows = read_with(&path, &prepared, &reading).expect("what was sound once is again");
            assert_eq!(rows.len() as u64, prepared.rows);
        }
        Err(error) => assert_eq!(error.exit(), Exit::Usage, "{name}: {error}"),
    }
}

/// As many damaged files of each kind as `RESEAL_DAMAGED_TABLES` says.
#[test]
fn damaged_tables_are_told_and_never_a_panic() {
    let count = std::env::var("RESEAL_DAMAGED_TABLES");
    let count: usize = count.map_or(30, |count| count.parse().expect("a number"));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for name in TABLES {
        let whole = fs::read(inventories().join(name)).expect("it is there");
        for _ in 0..count {
            let mut draw = |below: usize| {
                let tree = (0..below).new_tree(&mut runner).expect("a number");
                proptest::strategy::ValueTree::current(&tree)
            };
            let mut damaged = whole.clone();
            match draw(4) {
                0 => damaged.truncate(draw(whole.len())),
                // The end describes all of it.
                1 => {
                    let at = whole.len() - 1 - draw(whole.len().min(3_000));
                    damaged[at] ^= 1 << draw(8);
                }
                2 => {
                    for _ in 0..8 {
                        damaged[draw(whole.len())] = draw(256) as u8;
                    }
                }
                _ => damaged[draw(whole.len())] ^= 1 << draw(8),
            }
            survives(name, &damaged);
        }
    }
    for (name, content) in [
        ("parquet", &b"PAR1\x00PAR1"[..]),
        ("parquet", b"PAR1\x00\x00\x00\x00\xff\xff\xff\xffPAR1"),
        ("orc", b"ORC\x00"),
        ("orc", b"ORC\x00\x00ORC\x04"),
    ] {
        survives(name, content);
    }
}
