//! Every cell of the tables.

use super::*;
use crate::bucket::Lifecycle;
use crate::encryption::{CustomerKey, KmsTarget};
use crate::outcome::REFUSAL_CODES;
use crate::outcome::SkipReason::{AlreadyEncrypted, DoneBeforeInterruption};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/new";
const OLD_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/old";

fn entry() -> ManifestEntry {
    ManifestEntry {
        row: 0,
        key: "k".to_owned(),
        version_id: None,
        known: Known::default(),
    }
}

fn head() -> ObjectHead {
    ObjectHead::bare("\"e\"".to_owned(), 1, Encryption::NotSse)
}

fn found() -> [Encryption; 5] {
    let key = Some(OLD_KEY.to_owned());
    [
        Encryption::NotSse,
        Encryption::SseS3,
        Encryption::SseKms {
            key: key.clone(),
            bucket_key: false,
        },
        Encryption::DsseKms { key },
        Encryption::SseC {
            key_md5: "another".to_owned(),
        },
    ]
}

fn kms() -> KmsTarget {
    KmsTarget {
        key_id: Some(KEY.to_owned()),
        ..KmsTarget::default()
    }
}

fn targets() -> [Target; 4] {
    let customer = CustomerKey::from_file_content(&[7; 32]).expect("32 bytes");
    [
        Target::SseS3,
        Target::SseKms(kms()),
        Target::DsseKms(kms()),
        Target::SseC(customer),
    ]
}

/// What is the same for all objects, to be changed cell by cell.
struct World {
    target: Target,
    bucket: BucketFacts,
    profile: StoreProfile,
    rules: Rules,
}

impl World {
    fn to(target: Target) -> Self {
        Self {
            target,
            bucket: BucketFacts {
                versioning: Some(Versioning::Never),
                acls: Some(Acls::Disabled),
                object_lock: Some(ObjectLock::Disabled),
                website: Some(false),
                lifecycle: Some(Lifecycle::default()),
                ..BucketFacts::unknown("b")
            },
            profile: StoreProfile {
                updates_encryption: true,
                ..StoreProfile::documented()
            },
            rules: Rules {
                allowed: Losses::new(vec![Loss::KmsContext]),
                ..Rules::default()
            },
        }
    }

    fn on(&self) -> Circumstances<'_> {
        Circumstances {
            target: &self.target,
            bucket: &self.bucket,
            profile: &self.profile,
            rules: &self.rules,
        }
    }

    fn plan(&self, head: &ObjectHead) -> Plan {
        self.plan_started(&entry(), head, Started::Not)
    }

    fn plan_started(&self, entry: &ManifestEntry, head: &ObjectHead, started: Started) -> Plan {
        let seen = Seen {
            head,
            is_current: true,
            update_refused: false,
        };
        plan_object(entry, seen, started, self.on())
    }
}

fn under(encryption: Encryption) -> ObjectHead {
    ObjectHead {
        encryption,
        ..head()
    }
}

const COPY: Plan = Plan::CopyInPlace { resend: false };
const RESEND: Plan = Plan::CopyInPlace { resend: true };

#[test]
fn every_cell_of_the_method_table() {
    let update = Plan::UpdateEncryption;
    let done = Plan::Skip(AlreadyEncrypted);
    // From NOT-SSE, SSE-S3, SSE-KMS, DSSE-KMS, SSE-C; to SSE-S3, SSE-KMS, DSSE-KMS, SSE-C.
    let expected = [
        [COPY, COPY, COPY, COPY],
        [done, update.clone(), COPY, COPY],
        [COPY, update, COPY, COPY],
        [COPY, COPY, COPY, COPY],
        [COPY, COPY, COPY, COPY],
    ];
    for (from, row) in found().into_iter().zip(expected) {
        for (target, expected) in targets().into_iter().zip(row) {
            let world = World::to(target);
            let plan = world.plan(&under(from.clone()));
            assert_eq!(plan, expected, "{from:?} to {:?}", world.target);
        }
    }
}

#[test]
fn an_update_is_only_for_what_it_serves() {
    let updates = |change: fn(&mut World, &mut ObjectHead)| {
        let mut world = World::to(Target::SseKms(kms()));
        let mut head = under(Encryption::SseS3);
        change(&mut world, &mut head);
        world.plan(&head)
    };
    assert_eq!(updates(|_, _| {}), Plan::UpdateEncryption);
    // Any size, archived or not, and not the bucket's business.
    assert_eq!(
        updates(|_, head| {
            head.size = COPY_OBJECT_BYTES_MAX + 1;
            head.archived = true;
            head.missing_meta = 1;
        }),
        Plan::UpdateEncryption
    );
    let copies: [fn(&mut World, &mut ObjectHead); 6] = [
        |world, _| world.profile.updates_encryption = false,
        |world, _| world.rules.method = MethodChoice::Copy,
        |_, head| head.lock.legal_hold = true,
        |world, _| {
            world.target = Target::SseKms(KmsTarget {
                context: Some("{}".to_owned()),
                ..kms()
            });
        },
        |world, _| {
            world.target = Target::SseKms(KmsTarget {
                key_id: Some("alias/a".to_owned()),
                ..kms()
            });
        },
        |world, _| world.target = Target::DsseKms(kms()),
    ];
    for (index, change) in copies.into_iter().enumerate() {
        assert_eq!(updates(change), COPY, "{index}");
    }
    // An alias serves once the store has told its key.
    assert_eq!(
        updates(|world, _| {
            world.target = Target::SseKms(KmsTarget {
                key_id: Some("alias/a".to_owned()),
                resolved: Some(KEY.to_owned()),
                ..kms()
            });
        }),
        Plan::UpdateEncryption
    );
}

#[test]
fn update_alone_refuses_what_it_does_not_serve() {
    let mut world = World::to(Target::SseKms(kms()));
    world.rules.method = MethodChoice::Update;
    for (from, expected) in found().into_iter().zip([
        Plan::Refuse(Refusal::UpdateNotPossible),
        Plan::UpdateEncryption,
        Plan::UpdateEncryption,
        Plan::Refuse(Refusal::UpdateNotPossible),
        Plan::Refuse(Refusal::UpdateNotPossible),
    ]) {
        assert_eq!(world.plan(&under(from.clone())), expected, "{from:?}");
    }
}

#[test]
fn every_line_of_the_copy_table() {
    let plan = |change: fn(&mut World, &mut ObjectHead)| {
        let mut world = World::to(Target::SseS3);
        let mut head = head();
        change(&mut world, &mut head);
        world.plan(&head)
    };
    let refuse = Plan::Refuse;
    type Change = fn(&mut World, &mut ObjectHead);
    let lines: [(Change, Plan); 17] = [
        (|_, _| {}, COPY),
        (
            |_, head| head.archived = true,
            refuse(Refusal::NeedsRestore),
        ),
        (|_, head| head.lock.legal_hold = true, COPY),
        (|_, head| head.size = COPY_OBJECT_BYTES_MAX, COPY),
        (
            |_, head| head.size = COPY_OBJECT_BYTES_MAX + 1,
            Plan::MultipartCopy,
        ),
        (
            |world, head| {
                world.rules.multipart_threshold = 9;
                head.size = 9;
            },
            COPY,
        ),
        (
            |world, head| {
                world.rules.multipart_threshold = 9;
                head.size = 10;
            },
            Plan::MultipartCopy,
        ),
        (
            |_, head| head.size = PART_BYTES_MAX * u64::from(PARTS_MAX) + 1,
            refuse(Refusal::TooLarge),
        ),
        (
            |world, head| {
                world.profile.copies_parts = false;
                head.size = COPY_OBJECT_BYTES_MAX + 1;
            },
            refuse(Refusal::TooLarge),
        ),
        (
            |world, _| {
                world
                    .profile
                    .rungs
                    .insert(Mode::NotSse, Some(Rung::Replace));
            },
            RESEND,
        ),
        (
            |world, _| {
                world
                    .profile
                    .rungs
                    .insert(Mode::NotSse, Some(Rung::Multipart));
            },
            Plan::MultipartCopy,
        ),
        (
            |world, head| {
                world
                    .profile
                    .rungs
                    .insert(Mode::NotSse, Some(Rung::Multipart));
                head.size = 0;
            },
            refuse(Refusal::NoWorkingMethod),
        ),
        (
            |world, _| {
                world.profile.rungs.insert(Mode::NotSse, None);
            },
            refuse(Refusal::NoWorkingMethod),
        ),
        // Metadata that can't be shown is copied by the store, and by nobody else.
        (|_, head| head.missing_meta = 1, COPY),
        (
            |world, head| {
                world
                    .profile
                    .rungs
                    .insert(Mode::NotSse, Some(Rung::Replace));
                head.missing_meta = 1;
            },
            refuse(Refusal::MetadataNotShown),
        ),
        (
            |world, head| {
                world.rules.multipart_threshold = 0;
                world.rules.allowed = Losses::new(vec![Loss::Metadata]);
                head.missing_meta = 1;
            },
            Plan::MultipartCopy,
        ),
        // Nothing has to be copied, so nothing can be lost.
        (
            |_, head| {
                head.archived = true;
                head.size = COPY_OBJECT_BYTES_MAX + 1;
                head.encryption = Encryption::SseS3;
            },
            Plan::Skip(AlreadyEncrypted),
        ),
    ];
    for (index, (change, expected)) in lines.into_iter().enumerate() {
        assert_eq!(plan(change), expected, "line {index}");
    }
}

#[test]
fn a_context_that_nobody_can_read_is_lost_between_kms_keys_only() {
    for from in found() {
        for target in targets() {
            let mut world = World::to(target);
            world.rules.allowed = Losses::default();
            world.rules.method = MethodChoice::Copy;
            let is_kms = |mode| matches!(mode, Mode::SseKms | Mode::DsseKms);
            let between_keys = is_kms(from.mode()) && is_kms(world.target.mode());
            let plan = world.plan(&under(from.clone()));
            assert_eq!(
                plan == Plan::Refuse(Refusal::KmsContext),
                between_keys,
                "{from:?} to {:?}",
                world.target
            );
        }
    }
}

#[test]
fn versions_are_updated_where_they_are_and_else_refused_or_restacked() {
    let mut row = entry();
    row.version_id = Some("v1".to_owned());
    let mut noncurrent = under(Encryption::SseS3);
    noncurrent.version_id = Some("v1".to_owned());
    let plan = |world: &World, head: &ObjectHead| {
        let seen = Seen {
            head,
            is_current: false,
            update_refused: false,
        };
        plan_object(&row, seen, Started::Not, world.on())
    };
    let mut world = World::to(Target::SseKms(kms()));
    world.bucket.versioning = Some(Versioning::Enabled);
    assert_eq!(plan(&world, &noncurrent), Plan::UpdateEncryption);
    world.profile.updates_encryption = false;
    assert_eq!(plan(&world, &noncurrent), Plan::Refuse(Refusal::Noncurrent));
    world.rules.versions = Versions::Restack;
    assert_eq!(plan(&world, &noncurrent), Plan::Restack);
    world.target = Target::SseS3;
    assert_eq!(plan(&world, &noncurrent), Plan::Skip(AlreadyEncrypted));
    // A row that names no version means all of them.
    assert_eq!(
        plan_row(&entry(), Started::Not, world.on()),
        RowPlan::Restack
    );
    world.bucket.versioning = Some(Versioning::Never);
    assert_eq!(plan_row(&entry(), Started::Not, world.on()), RowPlan::Look);
    // A version that can't be checked.
    let unversioned = World::to(Target::SseS3);
    let plan = unversioned.plan_started(&row, &head(), Started::Not);
    assert_eq!(plan, Plan::Refuse(Refusal::NoVersion));
    row.version_id = Some(NULL_VERSION.to_owned());
    assert_eq!(
        unversioned.plan_started(&row, &head(), Started::Not),
        COPY.clone()
    );
}

#[test]
fn what_we_wrote_ourselves_is_known_again() {
    let world = World::to(Target::SseS3);
    let mut row = entry();
    row.version_id = Some("v1".to_owned());
    let mut now = under(Encryption::SseS3);
    now.version_id = Some("v2".to_owned());
    for (started, expected) in [
        (Started::Not, Plan::Skip(AlreadyEncrypted)),
        (Started::Before, Plan::Skip(DoneBeforeInterruption)),
        (Started::Now, Plan::Done),
    ] {
        assert_eq!(world.plan_started(&row, &now, started), expected);
    }
}

/// A row that says everything.
fn complete() -> ManifestEntry {
    let mut row = entry();
    row.known = Known {
        size: Some(1),
        etag: Some("e".to_owned()),
        last_modified: Some(1),
        storage_class: Some("STANDARD_IA".to_owned()),
        encryption: Some(Mode::NotSse),
        is_latest: Some(true),
        is_delete_marker: false,
    };
    row
}

#[test]
fn a_complete_row_stands_for_a_look_where_nothing_can_hide() {
    let world = World::to(Target::SseS3);
    let plan = plan_row(&complete(), Started::Not, world.on());
    let RowPlan::Unseen(head) = plan else {
        panic!("{plan:?}");
    };
    assert_eq!(head.etag, "\"e\"");
    assert_eq!(head.storage_class.as_deref(), Some("STANDARD_IA"));

    let rows: [fn(&mut ManifestEntry); 8] = [
        |row| row.known.size = None,
        |row| row.known.etag = None,
        |row| row.known.storage_class = None,
        |row| row.known.storage_class = Some("INTELLIGENT_TIERING".to_owned()),
        |row| row.known.encryption = None,
        |row| row.known.encryption = Some(Mode::SseKms),
        |row| row.known.encryption = Some(Mode::SseS3),
        |row| row.known.size = Some(COPY_OBJECT_BYTES_MAX + 1),
    ];
    for (index, change) in rows.into_iter().enumerate() {
        let mut row = complete();
        change(&mut row);
        assert_eq!(
            plan_row(&row, Started::Not, world.on()),
            RowPlan::Look,
            "row {index}"
        );
    }
    let worlds: [fn(&mut World); 9] = [
        |world| world.bucket.acls = Some(Acls::Enabled),
        |world| world.bucket.acls = None,
        |world| world.bucket.object_lock = None,
        |world| world.bucket.object_lock = Some(ObjectLock::Enabled),
        |world| world.bucket.website = Some(true),
        |world| world.bucket.website = None,
        |world| world.bucket.lifecycle = None,
        |world| {
            world.bucket.lifecycle = Some(Lifecycle {
                transitions: true,
                ..Lifecycle::default()
            });
        },
        |world| world.profile.destination_condition = false,
    ];
    for (index, change) in worlds.into_iter().enumerate() {
        let mut world = World::to(Target::SseS3);
        change(&mut world);
        let plan = plan_row(&complete(), Started::Not, world.on());
        assert_eq!(plan, RowPlan::Look, "world {index}");
    }
    for started in [Started::Before, Started::Now] {
        assert_eq!(plan_row(&complete(), started, world.on()), RowPlan::Look);
    }
    // An update loses nothing. But it is refused for what is locked.
    let mut world = World::to(Target::SseKms(kms()));
    let mut row = complete();
    row.known.encryption = Some(Mode::SseS3);
    world.bucket.acls = None;
    for (lock, is_unseen) in [
        (Some(ObjectLock::Disabled), true),
        (Some(ObjectLock::Enabled), false),
        (None, false),
    ] {
        world.bucket.object_lock = lock;
        let plan = plan_row(&row, Started::Not, world.on());
        assert_eq!(matches!(plan, RowPlan::Unseen(_)), is_unseen, "{plan:?}");
    }
    let mut marker = complete();
    marker.known.is_delete_marker = true;
    assert_eq!(
        plan_row(&marker, Started::Not, world.on()),
        RowPlan::Skip(SkipReason::DeleteMarker)
    );
}

#[test]
fn refusals_are_told_apart_and_name_the_loss_that_may_be_allowed() {
    let codes: std::collections::BTreeSet<_> =
        Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
    assert_eq!(codes.len(), Refusal::ALL.len());
    assert_eq!(codes, REFUSAL_CODES.into());
    for refusal in Refusal::ALL {
        let failure = refusal.to_failure();
        assert!(failure.is_refused());
        if let Some(loss) = refusal.loss() {
            assert!(failure.message.contains(&format!("--allow-loss {loss} ")));
        }
    }
}

#[test]
fn what_does_not_pass_the_filters_is_not_touched_and_what_was_begun_is_finished() {
    let mut world = World::to(Target::SseS3);
    world.rules.selection = Selection {
        max_size: Some(1),
        ..Selection::default()
    };
    let large = ObjectHead { size: 2, ..head() };
    let filtered = Plan::Skip(SkipReason::Filtered);
    for (head, started, expected) in [
        (&head(), Started::Not, Plan::CopyInPlace { resend: false }),
        (&large, Started::Not, filtered.clone()),
        (&large, Started::Before, filtered),
        // Half of it may be ours.
        (&large, Started::Now, Plan::CopyInPlace { resend: false }),
    ] {
        let plan = world.plan_started(&entry(), head, started);
        assert_eq!(plan, expected, "{started:?}");
    }
    // What is done is done, whatever it looks like now.
    let done = ObjectHead {
        encryption: Encryption::SseS3,
        ..large
    };
    let plan = world.plan_started(&entry(), &done, Started::Before);
    assert_eq!(plan, Plan::Skip(DoneBeforeInterruption));
    // What nobody has begun is left out before it is looked at further.
    let plan = world.plan_started(&entry(), &done, Started::Not);
    assert_eq!(plan, Plan::Skip(SkipReason::Filtered));
    assert!(matches!(
        plan_row(&complete(), Started::Not, world.on()),
        RowPlan::Unseen(_)
    ));
    // An update in place and a lifecycle rule change neither ETag nor date: a look tells.
    let in_place = [
        Selection {
            encryptions: vec![Mode::NotSse, Mode::SseS3],
            ..Selection::default()
        },
        Selection {
            storage_classes: vec!["STANDARD".to_owned(), "STANDARD_IA".to_owned()],
            ..Selection::default()
        },
    ];
    for selection in in_place {
        let sizes = std::mem::replace(&mut world.rules.selection, selection);
        assert_eq!(
            plan_row(&complete(), Started::Not, world.on()),
            RowPlan::Look
        );
        world.rules.selection = sizes;
    }
    // The row says which version it is, and not whether it is the current one.
    world.rules.selection.latest_only = true;
    let mut row = complete();
    row.version_id = Some("v1".to_owned());
    row.known.is_latest = None;
    assert_eq!(plan_row(&row, Started::Not, world.on()), RowPlan::Look);
    // Of a key that is restacked, no version is left out.
    world.rules.versions = Versions::Restack;
    world.bucket.versioning = Some(Versioning::Enabled);
    let seen = Seen {
        head: &ObjectHead {
            size: 2,
            version_id: Some("v1".to_owned()),
            ..head()
        },
        is_current: false,
        update_refused: false,
    };
    assert_eq!(
        plan_object(&row, seen, Started::Not, world.on()),
        Plan::Restack
    );
}
