//! Each filter on both sides of its bounds, by the row and by the look.

use super::*;
use crate::object::Known;

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// A row that tells everything, and what a look at its object tells.
fn object() -> (ManifestEntry, ObjectHead) {
    let entry = ManifestEntry {
        row: 0,
        key: "logs/a.gz".to_owned(),
        version_id: Some("v1".to_owned()),
        known: Known {
            size: Some(100),
            etag: Some("e".to_owned()),
            last_modified: Some(1_000),
            storage_class: Some("STANDARD".to_owned()),
            encryption: Some(Mode::SseS3),
            is_latest: Some(true),
            is_delete_marker: false,
        },
    };
    let head = ObjectHead {
        last_modified: Some(1_000),
        ..ObjectHead::bare("\"e\"".to_owned(), 100, Encryption::SseS3)
    };
    (entry, head)
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    let parsed = texts.iter().map(|text| text.parse());
    parsed.collect::<Result<_, _>>().expect("sound")
}

/// What row and look say must be the same where both know everything.
fn judged(selection: &Selection) -> Option<Filter> {
    let (entry, head) = object();
    let by_look = selection.rejects(&entry.key, &head, true);
    let by_row = match selection.judge_row(&entry) {
        Verdict::Taken => None,
        Verdict::LeftOut(filter) => Some(filter),
        Verdict::Unknown => panic!("the row tells everything"),
    };
    assert_eq!(by_row, by_look, "{selection:?}");
    by_row
}

#[test]
fn each_filter_takes_what_is_on_its_side_of_the_bound() {
    let all = Selection::default;
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let table = [
        (all(), None),
        (
            Selection {
                include: patterns(&["logs/*"]),
                ..all()
            },
            None,
        ),
        (
            Selection {
                include: patterns(&["x", "*.gz"]),
                ..all()
            },
            None,
        ),
        (
            Selection {
                include: patterns(&["log/*"]),
                ..all()
            },
            Some(Filter::Include),
        ),
        (
            Selection {
                exclude: patterns(&["x", "*.gz"]),
                ..all()
            },
            Some(Filter::Exclude),
        ),
        (
            Selection {
                exclude: patterns(&["*.g"]),
                ..all()
            },
            None,
        ),
        (
            Selection {
                include: patterns(&["logs/*"]),
                exclude: patterns(&["*a.gz"]),
                ..all()
            },
            Some(Filter::Exclude),
        ),
        (
            Selection {
                min_size: Some(99),
                ..all()
            },
            None,
        ),
        (
            Selection {
                min_size: Some(100),
                ..all()
            },
            None,
        ),
        (
            Selection {
                min_size: Some(101),
                ..all()
            },
            Some(Filter::MinSize),
        ),
        (
            Selection {
                max_size: Some(101),
                ..all()
            },
            None,
        ),
        (
            Selection {
                max_size: Some(100),
                ..all()
            },
            None,
        ),
        (
            Selection {
                max_size: Some(99),
                ..all()
            },
            Some(Filter::MaxSize),
        ),
        (
            Selection {
                modified_after: Some(999),
                ..all()
            },
            None,
        ),
        (
            Selection {
                modified_after: Some(1_000),
                ..all()
            },
            None,
        ),
        (
            Selection {
                modified_after: Some(1_001),
                ..all()
            },
            Some(Filter::ModifiedAfter),
        ),
        (
            Selection {
                modified_before: Some(1_001),
                ..all()
            },
            None,
        ),
        (
            Selection {
                modified_before: Some(1_000),
                ..all()
            },
            Some(Filter::ModifiedBefore),
        ),
        (
            Selection {
                modified_before: Some(999),
                ..all()
            },
            Some(Filter::ModifiedBefore),
        ),
        (
            Selection {
                storage_classes: words(&["GLACIER", "standard"]),
                ..all()
            },
            None,
        ),
        (
            Selection {
                storage_classes: words(&["STANDARD_IA"]),
                ..all()
            },
            Some(Filter::StorageClass),
        ),
        (
            Selection {
                encryptions: vec![Mode::NotSse, Mode::SseS3],
                ..all()
            },
            None,
        ),
        (
            Selection {
                encryptions: vec![Mode::SseKms],
                ..all()
            },
            Some(Filter::Encryption),
        ),
        // Not under KMS is under none of the keys, and the row knows it.
        (
            Selection {
                current_kms_keys: words(&[ID]),
                ..all()
            },
            Some(Filter::CurrentKmsKey),
        ),
        (
            Selection {
                latest_only: true,
                ..all()
            },
            None,
        ),
        // All of them at once; and one that fails among those that pass.
        (
            Selection {
                min_size: Some(100),
                max_size: Some(100),
                modified_after: Some(1_000),
                ..all()
            },
            None,
        ),
        (
            Selection {
                min_size: Some(100),
                encryptions: vec![Mode::SseC],
                latest_only: true,
                ..all()
            },
            Some(Filter::Encryption),
        ),
    ];
    for (selection, expected) in table {
        assert_eq!(judged(&selection), expected, "{selection:?}");
    }
}

#[test]
fn a_kms_key_is_known_by_a_look_alone() {
    let (mut entry, head) = object();
    entry.known.encryption = Some(Mode::SseKms);
    let under = |key: Option<&str>| ObjectHead {
        encryption: Encryption::SseKms {
            key: key.map(str::to_owned),
            bucket_key: true,
        },
        ..head.clone()
    };
    for wanted in [ARN, ID] {
        let selection = Selection {
            current_kms_keys: vec!["another".to_owned(), wanted.to_owned()],
            ..Selection::default()
        };
        assert_eq!(selection.judge_row(&entry), Verdict::Unknown);
        assert_eq!(selection.rejects("k", &under(Some(ARN)), true), None);
        // Half an id is none, and a store that does not tell has not said yes.
        for other in [
            Some("34567890ab"),
            Some("arn:aws:kms:us-east-1:1:key/x"),
            None,
        ] {
            let rejected = selection.rejects("k", &under(other), true);
            assert_eq!(rejected, Some(Filter::CurrentKmsKey), "{other:?}");
        }
    }
}

#[test]
fn what_a_row_does_not_tell_is_asked_and_what_it_does_is_not() {
    let (full, head) = object();
    let bare = ManifestEntry {
        known: Known::default(),
        ..full.clone()
    };
    let all = Selection::default;
    let unknown = [
        Selection {
            min_size: Some(1),
            ..all()
        },
        Selection {
            max_size: Some(1_000),
            ..all()
        },
        Selection {
            modified_after: Some(1),
            ..all()
        },
        Selection {
            modified_before: Some(2_000),
            ..all()
        },
        Selection {
            storage_classes: vec!["STANDARD".to_owned()],
            ..all()
        },
        Selection {
            encryptions: vec![Mode::SseS3],
            ..all()
        },
        Selection {
            latest_only: true,
            ..all()
        },
    ];
    for selection in unknown {
        assert_eq!(
            selection.judge_row(&bare),
            Verdict::Unknown,
            "{selection:?}"
        );
        // One that tells anyway settles it.
        let strict = Selection {
            exclude: patterns(&["*"]),
            ..selection.clone()
        };
        assert_eq!(strict.judge_row(&bare), Verdict::LeftOut(Filter::Exclude));
        assert_eq!(selection.rejects(&bare.key, &head, true), None);
    }
    let latest = Selection {
        latest_only: true,
        ..all()
    };
    let without_version = ManifestEntry {
        version_id: None,
        ..bare
    };
    assert_eq!(latest.judge_row(&without_version), Verdict::Taken);
    let mut noncurrent = full;
    noncurrent.known.is_latest = Some(false);
    assert_eq!(
        latest.judge_row(&noncurrent),
        Verdict::LeftOut(Filter::LatestOnly)
    );
    assert_eq!(latest.rejects("k", &head, false), Some(Filter::LatestOnly));
    // A store that does not tell the date has not said that it fits.
    let undated = ObjectHead {
        last_modified: None,
        ..head
    };
    let dated = Selection {
        modified_after: Some(1),
        ..all()
    };
    assert_eq!(
        dated.rejects("k", &undated, true),
        Some(Filter::ModifiedAfter)
    );
}

#[test]
fn what_is_not_asked_for_is_not_written_down() {
    let json = serde_json::to_string(&Selection::default()).expect("plain data");
    assert_eq!(json, "{}");
    let some = Selection {
        include: patterns(&["a\\*"]),
        encryptions: vec![Mode::NotSse],
        latest_only: true,
        ..Selection::default()
    };
    let json = serde_json::to_string(&some).expect("plain data");
    assert_eq!(
        serde_json::from_str::<Selection>(&json).expect("ours"),
        some
    );
    assert!(some.tells_versions_apart() && !some.is_all());
    let by_key = Selection {
        include: patterns(&["a"]),
        ..Selection::default()
    };
    assert!(!by_key.tells_versions_apart());
}
