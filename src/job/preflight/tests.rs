use super::*;
use crate::encryption::CustomerKey;

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn kms(key_id: Option<&str>) -> KmsTarget {
    KmsTarget {
        key_id: key_id.map(str::to_owned),
        ..KmsTarget::default()
    }
}

fn to_kms() -> Target {
    Target::SseKms(kms(Some(ARN)))
}

fn to_sse_c() -> Target {
    Target::SseC(CustomerKey::from_file_content(&[7; 32]).expect("32 bytes"))
}

fn default_of(mode: Mode, key: Option<&str>) -> DefaultEncryption {
    DefaultEncryption {
        mode: Some(mode),
        kms_key: key.map(str::to_owned),
        ..DefaultEncryption::default()
    }
}

fn rule(id: &str, includes_kms: bool) -> ReplicationRule {
    ReplicationRule {
        id: id.to_owned(),
        includes_kms,
    }
}

/// Of which there is nothing to say to a job with that target, but where that can't be.
fn quiet(target: &Target) -> BucketFacts {
    let key = target.kms().and_then(|kms| kms.key_id.as_deref());
    BucketFacts {
        name: "photos".to_owned(),
        versioning: Some(Versioning::Never),
        acls: Some(Acls::Disabled),
        object_lock: Some(ObjectLock::Disabled),
        default_encryption: Some(default_of(target.mode(), key)),
        website: Some(false),
        replication: Some(Vec::new()),
        notifications: Some(Notifications::default()),
        lifecycle: Some(Lifecycle::default()),
    }
}

fn with(target: &Target, change: impl FnOnce(&mut BucketFacts)) -> BucketFacts {
    let mut facts = quiet(target);
    change(&mut facts);
    facts
}

struct Told {
    by_copies: Vec<Finding>,
    by_updates: Vec<Finding>,
}

fn told(facts: &BucketFacts, target: &Target) -> Told {
    let by = |method| {
        let allowed = Losses::default();
        let job = Rewrites {
            rows: 1_000,
            method,
            delete_superseded: false,
            allowed: &allowed,
        };
        findings(facts, target, &job)
    };
    assert_eq!(by(MethodChoice::Auto), by(MethodChoice::Copy));
    Told {
        by_copies: by(MethodChoice::Copy),
        by_updates: by(MethodChoice::Update),
    }
}

/// Code and level, as the table below writes them.
fn brief(findings: &[Finding]) -> String {
    let brief: Vec<_> = findings
        .iter()
        .map(|finding| format!("{} {}", finding.level.name(), finding.code))
        .collect();
    brief.join(", ")
}

type Change = fn(&mut BucketFacts);

/// One fact changed, what it says to a job that copies to a KMS key, words of that, and what it says to one that updates.
const FACTS: &[(Change, &str, &[&str], &str)] = &[
    (|_| {}, "", &[], ""),
    (
        |b| b.versioning = Some(Versioning::Enabled),
        "warning new-versions",
        &["no lifecycle rule", "1,000 rows", "billed"],
        "",
    ),
    (
        |b| {
            b.versioning = Some(Versioning::Enabled);
            b.lifecycle = Some(Lifecycle {
                noncurrent_expirations: true,
                ..Lifecycle::default()
            });
        },
        "note new-versions",
        &["a lifecycle rule removes"],
        "",
    ),
    (
        |b| {
            b.versioning = Some(Versioning::Enabled);
            b.lifecycle = None;
        },
        "warning new-versions, note unknown",
        &["s3:GetLifecycleConfiguration"],
        "",
    ),
    (
        |b| b.versioning = Some(Versioning::Suspended),
        "warning versioning-suspended",
        &["null version"],
        "",
    ),
    (
        |b| b.versioning = None,
        "warning versioning-unknown",
        &["s3:GetBucketVersioning"],
        "",
    ),
    (
        |b| b.acls = Some(Acls::Enabled),
        "note acls-enabled",
        &["one more request"],
        "",
    ),
    (
        |b| b.acls = None,
        "note acls-unknown",
        &["s3:GetBucketOwnershipControls", "s3:GetObjectAcl"],
        "",
    ),
    (
        |b| b.object_lock = Some(ObjectLock::Enabled),
        "note object-lock",
        &["two more requests"],
        "warning object-lock",
    ),
    (
        |b| b.object_lock = Some(ObjectLock::DefaultRetention),
        "warning default-retention",
        &["is refused", "would be locked"],
        "warning object-lock",
    ),
    (
        |b| b.object_lock = None,
        "warning object-lock-unknown",
        &["s3:GetBucketObjectLockConfiguration"],
        "note object-lock-unknown",
    ),
    (
        |b| b.replication = Some(vec![rule("with", true)]),
        "note replication-runs",
        &["1 replication rule:"],
        "note replicas-stay",
    ),
    (
        |b| b.replication = Some(vec![rule("with", true), rule("with\nout", false)]),
        "warning replication-leaves-out-kms",
        &["(with\\nout)"],
        "warning replication-leaves-out-kms",
    ),
    (
        |b| {
            b.notifications = Some(Notifications {
                destinations: 2,
                event_bridge: true,
            });
        },
        "warning notifications",
        &["2 queues", "EventBridge", "up to 1,000"],
        "",
    ),
    (
        |b| {
            b.lifecycle = Some(Lifecycle {
                expirations: true,
                aborts_uploads: true,
                ..Lifecycle::default()
            });
        },
        "warning lifecycle-restarts",
        &["the expirations come later"],
        "",
    ),
    (
        |b| {
            b.lifecycle = Some(Lifecycle {
                transitions: true,
                ..Lifecycle::default()
            });
        },
        "warning lifecycle-restarts",
        &["another storage class"],
        "",
    ),
    (
        |b| (b.replication, b.notifications) = (None, None),
        "note unknown",
        &["s3:GetReplicationConfiguration", "s3:GetBucketNotification"],
        "note unknown",
    ),
    (
        |b| b.default_encryption = None,
        "warning default-encryption-unknown",
        &["s3:GetEncryptionConfiguration"],
        "warning default-encryption-unknown",
    ),
    (
        |b| b.default_encryption = Some(DefaultEncryption::default()),
        "warning default-differs",
        &["where their writer asks for it"],
        "warning default-differs",
    ),
];

#[test]
fn every_line_of_the_table() {
    for (change, by_copies, words, by_updates) in FACTS {
        let facts = with(&to_kms(), change);
        let told = told(&facts, &to_kms());
        assert_eq!(brief(&told.by_copies), *by_copies, "{facts:?}");
        assert_eq!(brief(&told.by_updates), *by_updates, "{facts:?}");
        for word in *words {
            let text = &told.by_copies[0].message;
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
    // Whatever is wrong, the worst is told first.
    let mut all = with(&to_sse_c(), |b| {
        b.versioning = Some(Versioning::Enabled);
        b.acls = None;
    });
    all.default_encryption = Some(DefaultEncryption {
        blocks_sse_c: true,
        ..DefaultEncryption::default()
    });
    let told = told(&all, &to_sse_c());
    assert_eq!(
        brief(&told.by_copies),
        "stop sse-c-blocked, warning new-versions, note acls-unknown"
    );
}

#[test]
fn the_default_is_held_against_the_target_as_far_as_it_can_be() {
    let alias = Target::SseKms(kms(Some("alias/app")));
    let mut resolved = kms(Some("alias/app"));
    resolved.resolved = Some(ARN.to_owned());
    let resolved = Target::SseKms(resolved);
    let differs = "warning default-differs";
    let may = "note default-may-differ";
    for (default, target, expected) in [
        (default_of(Mode::SseS3, None), Target::SseS3, ""),
        (default_of(Mode::SseS3, None), to_kms(), differs),
        (default_of(Mode::SseKms, Some(ARN)), to_kms(), ""),
        (
            default_of(Mode::SseKms, Some("1234abcd-12ab-34cd-56ef-1234567890ab")),
            to_kms(),
            "",
        ),
        (default_of(Mode::SseKms, Some("other")), to_kms(), differs),
        (default_of(Mode::SseKms, None), to_kms(), differs),
        (
            default_of(Mode::SseKms, None),
            Target::SseKms(kms(None)),
            "",
        ),
        (default_of(Mode::SseKms, Some("alias/app")), to_kms(), may),
        (default_of(Mode::SseKms, Some(ARN)), alias.clone(), may),
        (default_of(Mode::SseKms, Some("alias/app")), alias, ""),
        (default_of(Mode::SseKms, Some(ARN)), resolved.clone(), ""),
        (default_of(Mode::SseKms, Some("other")), resolved, differs),
        (default_of(Mode::DsseKms, Some(ARN)), to_kms(), differs),
        (default_of(Mode::SseS3, None), to_sse_c(), differs),
    ] {
        let facts = with(&target, |b| b.default_encryption = Some(default.clone()));
        let found = told(&facts, &target).by_copies;
        assert_eq!(brief(&found), expected, "{default:?} and {target:?}");
    }
    let facts = with(&to_kms(), |b| {
        b.default_encryption = Some(default_of(Mode::SseKms, Some("old\u{1b}key")));
    });
    let message = told(&facts, &to_kms()).by_copies.remove(0).message;
    assert!(message.contains("SSE-KMS under old\\u{1b}key"), "{message}");
}

#[test]
fn what_the_operator_has_said_changes_what_is_told() {
    let facts = with(&Target::SseS3, |b| {
        b.versioning = Some(Versioning::Enabled);
        b.object_lock = Some(ObjectLock::DefaultRetention);
        b.replication = Some(vec![rule("r", false)]);
    });
    let allowed = Losses::new(vec![Loss::ObjectLock]);
    let job = Rewrites {
        rows: 1,
        method: MethodChoice::Auto,
        delete_superseded: true,
        allowed: &allowed,
    };
    let found = findings(&facts, &Target::SseS3, &job);
    // What leaves out KMS keys does not matter to SSE-S3.
    assert_eq!(
        brief(&found),
        "warning default-retention, note replication-runs"
    );
    assert!(found[0].message.contains("--allow-loss object-lock"));
}
