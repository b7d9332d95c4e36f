use std::fs;

use proptest::prelude::*;

use super::*;
use crate::evidence::any::rewritten;
use crate::evidence::{Rewritten, State, Told};
use crate::outcome::Method;

/// Writes a chain; tells its index.
fn write(root: &std::path::Path, all: &[Rewritten]) -> Index {
    let mut writer = ChainWriter::new(root, "job", "bucket", 3);
    for (row, rewritten) in all.iter().enumerate() {
        writer.add(row as u64, rewritten).expect("written");
    }
    let (_, chain) = writer.finish().expect("written");
    Index::new("job", "bucket", all.len() as u64, vec![chain])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_and_written_again_it_is_the_same(all in proptest::collection::vec(rewritten(), 1..6)) {
        let folder = tempfile::tempdir().expect("a folder");
        let index = write(folder.path(), &all);
        prop_assert_eq!(&Index::parse(&index.to_json()), &Ok(index.clone()));
        let part = &index.chains[0].parts[0];
        let path = folder.path().join(&part.name);
        prop_assert_eq!(check_part(&path, &index, 0, 0), Ok(()));
        let read: Vec<_> = PartReader::open(&path, &part.name, "bucket")
            .expect("opened")
            .map(|line| line.expect("sound").rewritten)
            .collect();
        prop_assert_eq!(&read, &all);
        let again = tempfile::tempdir().expect("a folder");
        prop_assert_eq!(write(again.path(), &all), index);
    }
}

fn sample(key: &str) -> Rewritten {
    Rewritten {
        key: key.to_owned(),
        method: Some(Method::Copy),
        told: Told::Answer,
        at_ms: 0,
        before: None,
        after: State::default(),
        request_id: None,
    }
}

#[test]
fn every_change_breaks_the_chain_at_its_part_or_at_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let all: Vec<_> = (0..=PART_ROWS).map(|n| sample(&n.to_string())).collect();
    let index = write(folder.path(), &all);
    let parts = &index.chains[0].parts;
    assert_eq!(parts.len(), 2);
    let path = |n: usize| folder.path().join(&parts[n].name);
    for n in 0..2 {
        assert_eq!(check_part(&path(n), &index, 0, n), Ok(()));
    }
    // A byte is another.
    let whole = fs::read(path(0)).expect("read");
    let mut spoilt = whole.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    fs::write(path(0), spoilt).expect("written");
    let broken = check_part(&path(0), &index, 0, 0).expect_err("broken");
    assert!(broken.what.contains("SHA-256"), "{broken}");
    // A part is written anew with a row less, and the index with it: the next part still knows.
    let other = tempfile::tempdir().expect("a folder");
    let mut forged = write(other.path(), &all[1..]);
    forged.chains[0].parts.push(parts[1].clone());
    let broken = check_part(&path(1), &forged, 0, 1).expect_err("broken");
    assert!(broken.what.contains("it says that it is"), "{broken}");
    // Left out, or counted wrongly.
    let mut short = index.clone();
    short.chains[0].parts.remove(0);
    assert!(Index::parse(&short.to_json()).is_err());
    short = index.clone();
    short.chains[0].parts[1].rows += 1;
    short.rewrites += 1;
    assert!(check_part(&path(1), &short, 0, 1).is_err());
    fs::remove_file(path(1)).expect("removed");
    assert!(check_part(&path(1), &index, 0, 1).is_err());
}
