//! Rows and their numbers, also of a manifest that is cut in shards.

use super::*;
use crate::shard::Shard;

#[test]
fn rows_are_numbered_through_the_data_files_and_can_be_skipped() {
    let folder = Folder::new();
    let second = gzip(b"\"src\",\"c\"\r\n\"src\",\"d\"");
    let path = folder.inventory("Bucket, Key", &[b"src,a\nsrc,b\n", b"", &second]);
    let keys: Vec<_> = rows_of(&path)
        .into_iter()
        .map(|row| (row.row, row.key))
        .collect();
    let expected = ["a", "b", "c", "d"].map(str::to_owned);
    assert!(keys.into_iter().eq((0..).zip(expected)));

    let prepared = prepare(&path).expect("sound");
    let part = folder.0.path().join("2.csv");
    let mut reader = RowReader::open(&part, &prepared, 2).expect("unchanged");
    reader.skip_rows_while(|row| row < 3).expect("unchanged");
    let row = reader.next().expect("one left").expect("unchanged");
    assert_eq!((row.row, row.key.as_str()), (3, "d"));
    reader.skip_rows_while(|_| true).expect("at the end");
    assert!(reader.next().is_none());
}

/// Keys that come more than once, in data files of any size: each row is one shard's, and all rows of a key are the same shard's.
fn each_row_is_one_shards(keys: &[u8], cuts: &[usize], count: u32) {
    let folder = Folder::new();
    let row = |key: &u8| format!("src,k%2F{}+{key}\n", key % 3);
    let mut files = vec![String::new()];
    for (at, key) in keys.iter().enumerate() {
        if cuts.contains(&at) {
            files.push(String::new());
        }
        files.last_mut().expect("one").push_str(&row(key));
    }
    let contents: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
    let path = folder.inventory("Bucket, Key", &contents);
    let source = Source::detect(&path, "manifest.json", &Reading::default()).expect("an inventory");
    let mut merged = Vec::new();
    for shard in Shard::all(count) {
        let mut preparation = Preparation::new(&source, &Reading::default()).of_shard(shard);
        for part in parts(&path, &source) {
            let mut go_on = |_| ControlFlow::Continue(());
            let added = preparation.add_part(&part, Origin::Local, &mut go_on);
            added.expect("sound");
        }
        let prepared = preparation.finish().expect("sound");
        let rows = read(&path, &prepared).expect("unchanged");
        assert_eq!(prepared.rows, keys.len() as u64);
        assert_eq!(prepared.own_rows(), rows.len() as u64);
        let numbers = rows.iter().map(|row| row.row);
        assert!(numbers.eq(0..prepared.own_rows()), "numbered without gaps");
        assert!(rows.iter().all(|row| shard.owns(&row.key)));
        // Passing over rows comes to the same rows.
        let half = prepared.own_rows() / 2;
        let mut rest = Vec::new();
        for (index, part) in parts(&path, &source).iter().enumerate() {
            let mut reader = RowReader::open(part, &prepared, index).expect("unchanged");
            reader.skip_rows_while(|row| row < half).expect("unchanged");
            rest.extend(reader.map(|row| row.expect("unchanged")));
        }
        assert_eq!(rest, rows[half as usize..]);
        merged.extend(rows.into_iter().map(|row| row.key));
    }
    let whole = prepare(&path).expect("sound");
    let all = read(&path, &whole).expect("unchanged").into_iter();
    let mut all: Vec<_> = all.map(|row| row.key).collect();
    all.sort();
    merged.sort();
    assert_eq!(merged, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_row_is_one_shards(
        keys in prop::collection::vec(0_u8..40, 1..60),
        cuts in prop::collection::vec(0_usize..60, 0..5),
        count in 1_u32..9,
    ) {
        each_row_is_one_shards(&keys, &cuts, count);
    }
}
