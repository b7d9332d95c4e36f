//! The store probe: what it finds out about stores that do well and stores that don't, and that it leaves nothing behind.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use reseal::bucket::{BucketFacts, ObjectLock, Versioning};
use reseal::encryption::{CustomerKey, KmsTarget, Mode, Target};
use reseal::limiter::{Budgets, Limiter};
use reseal::probe::{Findings, ProbeError, Wish, probe, verdict};
use reseal::profile::{Rung, StoreProfile};
use reseal::s3::{Connection, S3, StaticCredentials};

use crate::support::faults::{Proxy, Weather};
use crate::support::moto::Moto;
use crate::support::{BUCKET, Store, chance};

/// Of a shard, and of a runner of it.
const SHARD_PREFIX: &str = ".reseal-scratch/a-job/0/";
const PREFIX: &str = ".reseal-scratch/a-job/0/a-runner/";
const MOTO_KEY: &str =
    "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";

async fn connect(url: &str, access_key: &str, secret_key: &str) -> S3 {
    S3::connect(&Connection {
        endpoint_url: Some(url.to_owned()),
        credentials: Some(StaticCredentials {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        }),
        path_style: true,
        ..Connection::default()
    })
    .await
}

async fn connect_to(store: &Store) -> S3 {
    let keys = store.s3.credentials();
    connect(
        &store.s3.endpoint_url(),
        keys.access_key(),
        keys.secret_key(),
    )
    .await
}

fn customer_key(byte: u8) -> CustomerKey {
    CustomerKey::from_file_content(&[byte; 32]).expect("a key")
}

fn kms(key_id: &str) -> KmsTarget {
    KmsTarget {
        key_id: Some(key_id.to_owned()),
        ..KmsTarget::default()
    }
}

fn facts(versioning: Versioning) -> BucketFacts {
    BucketFacts {
        versioning: Some(versioning),
        object_lock: Some(ObjectLock::Disabled),
        ..BucketFacts::unknown(BUCKET)
    }
}

async fn set_versioning(client: &Client, status: BucketVersioningStatus) {
    let status = VersioningConfiguration::builder().status(status).build();
    let versioning = client.put_bucket_versioning().bucket(BUCKET);
    let versioning = versioning.versioning_configuration(status).send().await;
    versioning.expect("versioning");
}

fn unlimited() -> Limiter {
    Limiter::new(&Budgets::default(), 8, 1)
}

/// What a job on a store other than AWS asks.
async fn try_store(s3: &S3, bucket: &BucketFacts, target: &Target) -> Result<Findings, ProbeError> {
    let wish = Wish {
        bucket,
        prefix: PREFIX,
        shard_prefix: SHARD_PREFIX,
        target,
        source_keys: &[customer_key(1)],
        wants_update: target.mode() == Mode::SseKms,
        wants_copies: true,
        // Ten MiB: slow under the embedded store's cipher in a debug build, so only once.
        wants_parts: target == &Target::SseS3 && bucket.versioning == Some(Versioning::Never),
    };
    probe(s3, &unlimited(), &wish).await
}

/// Every version, delete marker and upload of the bucket.
async fn remains(client: &Client) -> Vec<String> {
    let versions = client.list_object_versions().bucket(BUCKET);
    let versions = versions.send().await.expect("versions");
    let uploads = client.list_multipart_uploads().bucket(BUCKET);
    let uploads = uploads.send().await.expect("uploads");
    let versions_of = versions.versions().iter().filter_map(|it| it.key());
    let markers = versions.delete_markers().iter().filter_map(|it| it.key());
    let uploads = uploads.uploads().iter().filter_map(|it| it.key());
    let all = versions_of.chain(markers).chain(uploads);
    all.map(str::to_owned).collect()
}

fn all_by(rung: Option<Rung>, modes: &[Mode]) -> BTreeMap<Mode, Option<Rung>> {
    modes.iter().map(|mode| (*mode, rung)).collect()
}

#[tokio::test]
async fn a_store_that_does_as_documented_passes_and_is_left_as_it_was() {
    let store = Store::start().await;
    let key = store.add_kms_key(Some("alias/the-target"));
    let s3 = connect_to(&store).await;
    for (versioning, status) in [
        (Versioning::Never, None),
        (Versioning::Enabled, Some(BucketVersioningStatus::Enabled)),
        (
            Versioning::Suspended,
            Some(BucketVersioningStatus::Suspended),
        ),
    ] {
        if let Some(status) = status {
            set_versioning(&store.client, status).await;
        }
        for target in [
            Target::SseS3,
            Target::SseKms(kms("alias/the-target")),
            Target::DsseKms(kms(&key)),
            Target::SseC(customer_key(2)),
        ] {
            let bucket = facts(versioning);
            let found = try_store(&s3, &bucket, &target).await.expect("findings");
            assert_eq!(
                found.notes,
                Vec::<String>::new(),
                "{versioning:?} {target:?}"
            );
            let of_kms = target.kms().map(|_| Mode::SseKms);
            let mut modes = vec![Mode::SseS3, Mode::SseC];
            modes.extend(of_kms);
            let expected = StoreProfile {
                probed: true,
                rungs: all_by(Some(Rung::Copy), &modes),
                updates_encryption: target.mode() == Mode::SseKms,
                shows_tag_count: true,
                ..StoreProfile::documented()
            };
            assert_eq!(found.profile, expected, "{versioning:?} {target:?}");
            assert_eq!(found.key_arn, of_kms.map(|_| key.clone()));
            assert_eq!(verdict(&found.profile, &bucket, false), Ok(Vec::new()));
            assert_eq!(remains(&store.client).await, Vec::<String>::new());
        }
    }
}

/// Whatever a runner before has left, an object, a version below a delete marker or an upload, the next one removes; not what another
/// shard has there.
#[tokio::test]
async fn what_others_of_the_shard_have_left_is_removed() {
    let store = Store::start().await;
    let s3 = connect_to(&store).await;
    let [left, others] =
        ["0/killed/plain", "01/alive/plain"].map(|key| format!(".reseal-scratch/a-job/{key}"));
    for (versioning, status) in [
        (Versioning::Never, None),
        (Versioning::Enabled, Some(BucketVersioningStatus::Enabled)),
    ] {
        if let Some(status) = status {
            set_versioning(&store.client, status).await;
        }
        for key in [&left, &others] {
            let put = store.client.put_object().bucket(BUCKET).key(key);
            put.send().await.expect("put");
        }
        let upload = store.client.create_multipart_upload().bucket(BUCKET);
        upload.key(&left).send().await.expect("begun");
        if versioning == Versioning::Enabled {
            let delete = store.client.delete_object().bucket(BUCKET).key(&left);
            delete.send().await.expect("a marker");
        }
        let found = try_store(&s3, &facts(versioning), &Target::SseS3).await;
        assert_eq!(found.expect("findings").notes, Vec::<String>::new());
        assert_eq!(
            remains(&store.client).await,
            [others.as_str()],
            "{versioning:?}"
        );
        let delete = store.client.delete_object().bucket(BUCKET).key(&others);
        delete.version_id("null").send().await.expect("removed");
    }
}

/// On AWS copies are what is documented: only the key's ARN and the update are tried.
#[tokio::test]
async fn where_copies_are_not_in_doubt_only_the_update_is_tried() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    let s3 = connect_to(&store).await;
    let bucket = facts(Versioning::Never);
    let target = Target::SseKms(kms(&key));
    let wish = Wish {
        bucket: &bucket,
        prefix: PREFIX,
        shard_prefix: SHARD_PREFIX,
        target: &target,
        source_keys: &[],
        wants_update: true,
        wants_copies: false,
        wants_parts: true,
    };
    let found = probe(&s3, &unlimited(), &wish).await.expect("findings");
    let expected = StoreProfile {
        updates_encryption: true,
        ..StoreProfile::documented()
    };
    assert_eq!(found.profile, expected);
    assert_eq!(found.key_arn, Some(key));
    assert_eq!(store.copies(), BTreeMap::new());
    assert_eq!(remains(&store.client).await, Vec::<String>::new());

    let before = store.writes();
    let target = Target::SseS3;
    let wish = Wish {
        target: &target,
        ..wish
    };
    let found = probe(&s3, &unlimited(), &wish).await.expect("findings");
    assert_eq!(found.profile, StoreProfile::documented());
    assert_eq!(store.writes(), before, "nothing to try");
}

#[tokio::test]
async fn where_it_could_not_be_removed_nothing_is_put() {
    let store = Store::start().await;
    let s3 = connect_to(&store).await;
    let bucket = BucketFacts {
        object_lock: Some(ObjectLock::DefaultRetention),
        ..facts(Versioning::Enabled)
    };
    let before = store.writes();
    let found = try_store(&s3, &bucket, &Target::SseS3).await;
    let found = found.expect("findings");
    assert_eq!(found.profile, StoreProfile::documented());
    assert!(found.notes[0].contains("under retention"), "{found:?}");
    assert_eq!(store.writes(), before);
}

#[tokio::test]
async fn a_fault_of_the_job_ends_it() {
    let store = Store::start().await;
    let s3 = connect_to(&store).await;
    let bucket = facts(Versioning::Never);
    for (target, code) in [
        (Target::SseKms(kms("alias/nobody")), "KMS.NotFoundException"),
        (Target::SseS3, "NoSuchBucket"),
    ] {
        let bucket = match target {
            Target::SseS3 => BucketFacts::unknown("nowhere"),
            _ => bucket.clone(),
        };
        let error = try_store(&s3, &bucket, &target).await.expect_err(code);
        assert!(error.to_string().contains(code), "{error}");
        assert_eq!(
            reseal::error::Error::from(error).exit,
            reseal::exit::Exit::JobFailed
        );
    }
    assert_eq!(remains(&store.client).await, Vec::<String>::new());
}

/// Before anything else is put, a first object tells whether the bucket locks it.
#[tokio::test]
async fn where_a_lock_is_not_known_of_one_object_finds_out() {
    let store = Store::without_bucket();
    let bucket = store.client.create_bucket().bucket(BUCKET);
    let bucket = bucket.object_lock_enabled_for_bucket(true);
    bucket.send().await.expect("a bucket");
    let s3 = connect_to(&store).await;
    let bucket = BucketFacts {
        object_lock: None,
        ..facts(Versioning::Enabled)
    };
    let found = try_store(&s3, &bucket, &Target::SseS3).await;
    assert!(found.expect("findings").profile.probed);
    assert_eq!(remains(&store.client).await, Vec::<String>::new());

    let retention = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .days(1);
    let rule = ObjectLockRule::builder().default_retention(retention.build());
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(rule.build());
    let put = store.client.put_object_lock_configuration().bucket(BUCKET);
    let put = put.object_lock_configuration(lock.build());
    put.send().await.expect("configured");
    let found = try_store(&s3, &bucket, &Target::SseS3).await;
    let found = found.expect("findings");
    assert_eq!(found.profile, StoreProfile::documented());
    let left = format!("{PREFIX}first");
    assert!(found.notes[0].contains(&left), "{found:?}");
    assert_eq!(remains(&store.client).await, [left]);
}

/// Where no scratch object can be put: on AWS the update is not used, elsewhere nothing is trusted.
#[tokio::test]
async fn where_nothing_can_be_put_nothing_new_is_trusted() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    let s3 = connect_to(&store).await;
    let bucket = facts(Versioning::Never);
    let target = Target::SseKms(kms(&key));
    // No key is that long.
    let prefix = "x".repeat(2_000);
    let wish = Wish {
        bucket: &bucket,
        prefix: &prefix,
        shard_prefix: SHARD_PREFIX,
        target: &target,
        source_keys: &[],
        wants_update: true,
        wants_copies: false,
        wants_parts: false,
    };
    let found = probe(&s3, &unlimited(), &wish).await.expect("findings");
    assert_eq!(found.profile, StoreProfile::documented());
    assert!(found.notes[0].contains("UpdateObjectEncryption was not tried"));

    let wish = Wish {
        wants_copies: true,
        ..wish
    };
    let error = probe(&s3, &unlimited(), &wish)
        .await
        .expect_err("nothing was tried");
    let error = reseal::error::Error::from(error);
    assert_eq!(error.exit, reseal::exit::Exit::JobFailed);
    assert!(error.hint.expect("a hint").contains("--probe off"));
}

/// Trouble on the way says nothing about the store: it is tried again, and found as it is.
#[tokio::test]
async fn faults_on_the_way_are_not_held_against_the_store() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    let bucket = facts(Versioning::Enabled);
    let target = Target::SseKms(kms(&key));
    let calm = try_store(&connect_to(&store).await, &bucket, &target).await;
    let mut met = 0;
    for _ in 0..4 {
        let proxy = Proxy::start(store.s3.addr(), Weather::Faults(chance::seed()));
        let keys = store.s3.credentials();
        let s3 = connect(&proxy.url(), keys.access_key(), keys.secret_key()).await;
        assert_eq!(try_store(&s3, &bucket, &target).await, calm);
        assert_eq!(remains(&store.client).await, Vec::<String>::new());
        met += proxy.seen().faults.values().sum::<u64>();
    }
    assert!(met > 0, "a fair day");
}

/// A store in some weather, and everything that a probe towards SSE-KMS finds there.
async fn try_weather(
    store: &Store,
    key: &str,
    weather: Weather,
    versioning: Versioning,
) -> Findings {
    let proxy = Proxy::before(&store.s3, weather);
    let keys = store.s3.credentials();
    let s3 = connect(&proxy.url(), keys.access_key(), keys.secret_key()).await;
    let target = Target::SseKms(kms(key));
    let found = try_store(&s3, &facts(versioning), &target).await;
    found.unwrap_or_else(|error| panic!("{weather:?}: {error}"))
}

#[tokio::test]
async fn what_each_store_gets_wrong_is_found() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    let modes = [Mode::SseS3, Mode::SseKms, Mode::SseC];
    let good = StoreProfile {
        probed: true,
        rungs: all_by(Some(Rung::Copy), &modes),
        updates_encryption: true,
        shows_tag_count: true,
        ..StoreProfile::documented()
    };
    let without_update = StoreProfile {
        updates_encryption: false,
        ..good.clone()
    };
    for (weather, expected, note) in [
        (Weather::Fair, good.clone(), ""),
        (
            Weather::RefusesSelfCopy,
            StoreProfile {
                rungs: all_by(Some(Rung::Replace), &modes),
                ..good.clone()
            },
            "CopyObject onto itself does not hold for objects under SSE-S3, SSE-KMS, SSE-C: CopyObject: HTTP 400",
        ),
        (
            Weather::IgnoresDestination,
            StoreProfile {
                destination_condition: false,
                ..good.clone()
            },
            "",
        ),
        (
            Weather::OverwritesOnUpdate,
            without_update.clone(),
            "overwrites",
        ),
        (Weather::NoUpdate, without_update, "HTTP 501"),
        (
            Weather::SilentlyUnencrypted,
            StoreProfile {
                rungs: all_by(None, &[Mode::NotSse]),
                updates_encryption: false,
                copies_parts: false,
                source_condition: false,
                destination_condition: false,
                part_condition: false,
                completion_condition: false,
                ..good.clone()
            },
            "the answer says OK, and then HeadObject shows NOT-SSE",
        ),
    ] {
        let found = try_weather(&store, &key, weather, Versioning::Never).await;
        assert_eq!(found.profile, expected, "{weather:?}: {:?}", found.notes);
        let said = found.notes.iter().any(|said| said.contains(note));
        assert_eq!(said, !note.is_empty(), "{weather:?}: {:?}", found.notes);
        assert_eq!(remains(&store.client).await, Vec::<String>::new());
    }
}

/// What is not allowed is said, and what it leaves in doubt is not relied on.
#[tokio::test]
async fn what_is_not_allowed_is_said() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    set_versioning(&store.client, BucketVersioningStatus::Enabled).await;
    let enabled = Versioning::Enabled;
    for (forbidden, note) in [
        (&["ListObjectVersions", "ListMultipartUploads"][..], ""),
        (
            &["GetObjectTagging"],
            "whether a rewrite keeps tags was not tried",
        ),
        (&["UpdateObjectEncryption"], "HTTP 403"),
        (&["CopyObject"], "HTTP 403"),
    ] {
        let weather = Weather::Forbids(forbidden);
        let found = try_weather(&store, &key, weather, enabled).await;
        let said = found.notes.iter().any(|said| said.contains(note));
        assert_eq!(said, !note.is_empty(), "{forbidden:?}: {:?}", found.notes);
        assert_eq!(
            remains(&store.client).await,
            Vec::<String>::new(),
            "{forbidden:?}"
        );
        let profile = found.profile;
        assert_eq!(
            profile.updates_encryption,
            forbidden[0] != "UpdateObjectEncryption"
        );
        let copied = profile.rungs[&Mode::SseS3];
        let expected = match forbidden[0] {
            "CopyObject" => Rung::Multipart,
            _ => Rung::Copy,
        };
        assert_eq!(copied, Some(expected), "{forbidden:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_removed_is_named() {
    let store = Store::start().await;
    let key = store.add_kms_key(None);
    let weather = Weather::Forbids(&["DeleteObject", "AbortMultipartUpload"]);
    let found = try_weather(&store, &key, weather, Versioning::Never).await;
    assert!(found.profile.updates_encryption, "{found:?}");
    let [note] = &found.notes[..] else {
        panic!("{:?}", found.notes);
    };
    assert!(note.contains("upload "), "{note}");
    let remains = remains(&store.client).await;
    assert!(remains.iter().any(|key| key.ends_with("stale-parts")));
    for key in remains {
        assert!(
            key.starts_with(PREFIX) && note.contains(&key),
            "{key}: {note}"
        );
    }
}

/// moto overwrites what it is asked to update, takes every condition for fulfilled, and has neither DSSE-KMS nor SSE-C.
#[tokio::test]
async fn moto_is_seen_through() {
    let Some(moto) = Moto::start("moto_is_seen_through").await else {
        return;
    };
    let s3 = connect(&moto.url, "AKIAMOTO", "secret").await;
    for versioning in [Versioning::Never, Versioning::Enabled] {
        if versioning == Versioning::Enabled {
            set_versioning(&moto.client, BucketVersioningStatus::Enabled).await;
        }
        let bucket = facts(versioning);
        for (target, rung) in [
            (Target::SseKms(kms(MOTO_KEY)), Some(Rung::Copy)),
            (Target::SseS3, Some(Rung::Copy)),
            (Target::DsseKms(kms(MOTO_KEY)), None),
            (Target::SseC(customer_key(2)), None),
        ] {
            let found = try_store(&s3, &bucket, &target).await.expect("findings");
            let mut modes = vec![Mode::NotSse, Mode::SseS3];
            modes.extend(target.kms().map(|_| Mode::SseKms));
            let expected = StoreProfile {
                probed: true,
                rungs: all_by(rung, &modes),
                updates_encryption: false,
                copies_parts: rung.is_some(),
                source_condition: false,
                destination_condition: false,
                part_condition: false,
                completion_condition: false,
                shows_tag_count: true,
            };
            assert_eq!(found.profile, expected, "{versioning:?} {target:?}");
            let said = |what: &str| found.notes.iter().any(|note| note.contains(what));
            assert!(said("put under SSE-C as NOT-SSE"), "{found:?}");
            assert_eq!(said("overwrites"), target.mode() == Mode::SseKms);
            assert_eq!(
                said("does not hold for objects under NOT-SSE"),
                rung.is_none()
            );
            assert_eq!(remains(&moto.client).await, Vec::<String>::new());

            let is_kept = versioning == Versioning::Enabled;
            let unasked = verdict(&found.profile, &bucket, false);
            assert_eq!(unasked.is_ok(), rung.is_some() && is_kept, "{unasked:?}");
            let accepted = verdict(&found.profile, &bucket, true);
            assert_eq!(accepted.is_ok(), rung.is_some(), "{accepted:?}");
        }
    }
}
