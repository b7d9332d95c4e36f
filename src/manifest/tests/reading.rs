//! What the operator says about a manifest, and what is counted in one.

use super::*;
use crate::selection::{Filter, Selection};
use crate::shard::Shard;

fn prepare_by(path: &Path, reading: &Reading) -> Result<Prepared, ManifestError> {
    prepare_with(path, Origin::Local, reading)
}

fn keys_by(path: &Path, reading: &Reading) -> Vec<String> {
    let prepared = prepare_by(path, reading).expect("sound");
    let rows = read_with(path, &prepared, reading).expect("unchanged");
    assert!(rows.iter().map(|row| row.row).eq(0..prepared.rows));
    rows.into_iter().map(|row| row.key).collect()
}

fn columns(names: &str) -> Reading {
    Reading {
        columns: Some(names.parse().expect("columns")),
        ..Reading::default()
    }
}

#[test]
fn columns_are_what_the_operator_or_the_first_row_says() {
    let folder = Folder::new();
    let file = folder.write("m.csv", b"1,a,,src,x\n2,b,v,src,y\n");
    let named = columns("size,key,version_id,bucket,-");
    let prepared = prepare_by(&file, &named).expect("sound");
    let rows = read_with(&file, &prepared, &named).expect("unchanged");
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.key.as_str(), row.version_id.as_deref(), row.known.size))
        .collect();
    assert_eq!(told, [("a", None, Some(1)), ("b", Some("v"), Some(2))]);

    let header = b"\"Key\",\"is_latest\",\"BUCKET\",\"version_id\"\n\"k\",\"false\",\"src\",\n\"l\",\"true\",\"src\",\"null\"\n";
    let file = folder.write("h.csv", &gzip(header));
    let by_header = columns("header");
    let prepared = prepare_by(&file, &by_header).expect("sound");
    let rows = read_with(&file, &prepared, &by_header).expect("unchanged");
    // There are all versions, so that nothing stands for the null version.
    assert!(
        rows.iter()
            .all(|row| row.version_id.as_deref() == Some("null"))
    );
    assert_eq!((prepared.rows, prepared.counts().empty_version_ids), (2, 1));

    for (text, reading, phrase) in [
        (
            &b"bucket,size\n"[..],
            &by_header,
            "m.csv:1: the first row \"bucket, size\" has no column Key",
        ),
        (b"bucket,key,key\n", &by_header, "names Key more than once"),
        (b"bucket,key\n", &by_header, "m.csv: has no rows"),
        (
            b"bucket,key\nsrc\n",
            &by_header,
            "m.csv:2: 1 columns where 2",
        ),
        (b"src,k\n", &named, "m.csv:1: 2 columns where 5"),
        (b"", &named, "m.csv: has no rows"),
        (
            b"key,bucket\nk,src\n",
            &columns("key,bucket"),
            "m.csv:1: header row",
        ),
    ] {
        let message = prepare_by(&folder.write("m.csv", text), reading);
        let message = message.expect_err(phrase).to_string();
        assert!(message.contains(phrase), "{phrase}: {message}");
    }
}

#[test]
fn how_keys_are_spelt_is_said_or_makes_no_difference() {
    let folder = Folder::new();
    let plain = folder.write("plain.csv", b"src,a\nsrc,b/c\n");
    let odd = folder.write("odd.csv", b"src,a%20b\nsrc,c+d\nsrc,e\n");
    let as_named = columns("bucket,key");
    assert_eq!(keys_by(&plain, &as_named), ["a", "b/c"]);
    let message = prepare_by(&odd, &as_named).expect_err("unsaid").to_string();
    assert_eq!(message.lines().count(), 2, "{message}");
    for (keys, expected) in [
        (KeyEncoding::Url, ["a b", "c d", "e"]),
        (KeyEncoding::None, ["a%20b", "c+d", "e"]),
    ] {
        for columns in [None, as_named.columns.clone()] {
            let reading = Reading {
                columns,
                keys: Some(keys),
                ..Reading::default()
            };
            assert_eq!(keys_by(&odd, &reading), expected);
            let prepared = prepare_by(&odd, &reading).expect("sound");
            assert_eq!(prepared.counts().plus_or_percent, 2);
        }
    }
    // The same bytes are another manifest where they are read in another way.
    let digest = |keys| {
        let reading = Reading {
            keys: Some(keys),
            ..Reading::default()
        };
        prepare_by(&odd, &reading).expect("sound").digest
    };
    assert_ne!(digest(KeyEncoding::Url), digest(KeyEncoding::None));
    assert_eq!(
        digest(KeyEncoding::Url),
        prepare(&odd).expect("sound").digest
    );
}

#[test]
fn what_is_remarkable_about_rows_is_counted() {
    let folder = Folder::new();
    let rows: [&[u8]; 2] = [
        b"src,dir/,v1,true,false,0\nsrc,dir/,v0,false,true,\nsrc,dir/full/,v,true,false,1\nsrc,%2F,,true,false,0\n",
        b"src,dir/,v1,true,false,0\nsrc,a+b,,false,false,3\nsrc,x,v,true,false,\n",
    ];
    let path = folder.inventory(
        "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size",
        &rows,
    );
    let prepared = prepare(&path).expect("sound");
    let counts = prepared.counts();
    assert_eq!(
        (
            counts.delete_markers,
            counts.directory_markers,
            counts.empty_version_ids,
            counts.plus_or_percent
        ),
        (1, 3, 2, 2)
    );
    let expected = Duplicates {
        compared: 7,
        found: 1,
    };
    assert_eq!((prepared.duplicates, counts.left_out()), (expected, 0));
}

#[test]
fn rows_that_are_left_out_have_no_number_and_are_counted_by_their_filter() {
    let folder = Folder::new();
    let text: String = (0..100)
        .map(|n| format!("{},k/{n},{n}\n", if n % 10 == 3 { "other" } else { "src" }))
        .collect();
    let file = folder.write("m.csv", text.as_bytes());
    let reading = Reading {
        selection: Selection {
            bucket: Some("src".to_owned()),
            exclude: vec!["*/7?".parse().expect("a pattern")],
            max_size: Some(89),
            ..Selection::default()
        },
        ..columns("bucket,key,size")
    };
    let keys = keys_by(&file, &reading);
    assert_eq!(keys.len(), 72);
    assert!(
        !keys
            .iter()
            .any(|key| key.ends_with('3') || key.starts_with("k/7") && key.len() == 4)
    );
    let mut sum = Counts::default();
    let mut merged = Vec::new();
    for shard in Shard::all(3) {
        let source = Source::detect(&file, "m.csv", &reading).expect("rows");
        let mut preparation = Preparation::new(&source, &reading).of_shard(shard);
        let mut go_on = |_| ControlFlow::Continue(());
        preparation
            .add_part(&file, Origin::Local, &mut go_on)
            .expect("sound");
        let prepared = preparation.finish().expect("sound");
        assert_eq!((prepared.rows, prepared.parts[0].left_out), (72, 28));
        let rows = read_with(&file, &prepared, &reading).expect("unchanged");
        assert_eq!(rows.len() as u64, prepared.own_rows());
        let mut reader = RowReader::open(&file, &prepared, 0).expect("unchanged");
        reader.skip_rows_while(|row| row < 5).expect("unchanged");
        assert!(
            reader
                .map(|row| row.expect("unchanged"))
                .eq(rows[5..].iter().cloned())
        );
        merged.extend(rows.into_iter().map(|row| row.key));
        sum.add_all(&prepared.counts());
    }
    merged.sort();
    let mut all = keys;
    all.sort();
    assert_eq!(merged, all);
    let by =
        [Filter::Bucket, Filter::Exclude, Filter::MaxSize].map(|filter| sum.left_out_by(filter));
    assert_eq!((by, sum.left_out()), ([10, 9, 9], 28));

    // All of another bucket is nothing to do, and not a mistake.
    let mut nothing = reading;
    nothing.selection.bucket = Some("third".to_owned());
    let prepared = prepare_by(&file, &nothing).expect("sound");
    assert_eq!((prepared.rows, prepared.bucket.as_str()), (0, "third"));
}

#[test]
fn a_flag_that_would_do_nothing_is_refused() {
    let folder = Folder::new();
    let inventory = folder.inventory("Bucket, Key", &[b"src,k\n"]);
    let csv = folder.write("m.csv", b"src,k\n");
    let report = {
        let folder = Folder::new();
        fs::read(report(&folder, &[])).expect("written")
    };
    let report = folder.write("report.json", &report);
    let rows = Reading {
        rows: ReportRows::All,
        ..Reading::default()
    };
    let keys = Reading {
        keys: Some(KeyEncoding::None),
        ..Reading::default()
    };
    for (path, reading, phrase) in [
        (
            &inventory,
            &columns("header"),
            "--manifest-columns does not go with an inventory",
        ),
        (
            &report,
            &columns("header"),
            "--manifest-columns does not go with a completion report",
        ),
        (
            &report,
            &keys,
            "--manifest-encoding does not go with a completion report",
        ),
        (
            &inventory,
            &rows,
            "--manifest-rows does not go with an inventory",
        ),
        (&csv, &rows, "--manifest-rows does not go with a CSV"),
    ] {
        let error = prepare_by(path, reading).expect_err(phrase);
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains(phrase), "{error}");
    }
    let differences: Vec<_> = rows.differences(&keys).collect();
    assert_eq!(differences, ["--manifest-encoding", "--manifest-rows"]);
}
