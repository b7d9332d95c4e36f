//! State closure: what an object was is what it is, but for its encryption; and what can't be seen is not lost unseen.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold,
    ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule,
    ObjectOwnership, OwnershipControls, OwnershipControlsRule,
};

use crate::modes::to;
use crate::support::faults::{Proxy, Weather};
use crate::support::objects::{self, SseC, Under};
use crate::support::{BUCKET, Job, Store};

const OLD: SseC = SseC(*b"old customer key, 32 bytes long!");
const NEW: SseC = SseC(*b"new customer key, 32 bytes long!");
/// S3's own group of everybody.
const EVERYBODY: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// A bucket with everything that an object can have: ACLs, versions, Object Lock.
async fn rich_store() -> Store {
    let store = Store::without_bucket();
    let bucket = store.client.create_bucket().bucket(BUCKET);
    let bucket = bucket.object_lock_enabled_for_bucket(true);
    bucket.send().await.expect("a bucket");
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter);
    let controls = OwnershipControls::builder().rules(rule.build().expect("a rule"));
    let put = store.client.put_bucket_ownership_controls().bucket(BUCKET);
    let put = put.ownership_controls(controls.build().expect("controls"));
    put.send().await.expect("ACLs enabled");
    store
}

async fn hold(store: &Store, key: &str) {
    let hold = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::On);
    let put = store.client.put_object_legal_hold().bucket(BUCKET).key(key);
    put.legal_hold(hold.build()).send().await.expect("held");
}

/// Puts an object, and on it everything that the bucket allows.
async fn put_rich(store: &Store, key: &str, under: &Under) {
    objects::put(&store.client, key, key.as_bytes(), under).await;
    let owner = store.client.get_object_acl().bucket(BUCKET).key(key);
    let owner = owner.send().await.expect("an ACL").owner.expect("an owner");
    let put = store.client.put_object_acl().bucket(BUCKET).key(key);
    let put = put.grant_full_control(format!("id=\"{}\"", owner.id().expect("an id")));
    let put = put.grant_read(format!("uri=\"{EVERYBODY}\""));
    put.send().await.expect("granted");
    hold(store, key).await;
    let until = DateTime::from_secs(2_200_000_000);
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .retain_until_date(until);
    let put = store.client.put_object_retention().bucket(BUCKET).key(key);
    let put = put.retention(retention.build());
    put.send().await.expect("retained");
}

/// Copies with metadata copied by the store, and with everything sent again, on a store that wants that. Beside each object lies a
/// bare one, which comes after it and must get nothing of it.
#[tokio::test]
async fn everything_comes_through_a_copy_and_nothing_of_it_is_on_the_next_object() {
    let store = rich_store().await;
    let client = &store.client;
    let (k1, k2) = (store.add_kms_key(None), store.add_kms_key(None));
    let replaces = Proxy::before(&store.s3, Weather::RefusesSelfCopy);
    let sources = [Under::SseS3, Under::Kms(k1), Under::Customer(OLD)];
    let targets = [
        Under::SseS3,
        Under::Kms(k2.clone()),
        Under::Dsse(k2),
        Under::Customer(NEW),
    ];
    for (way, endpoint) in [
        ("copy", store.s3.endpoint_url()),
        ("replace", replaces.url()),
    ] {
        for (number, target) in targets.iter().enumerate() {
            let mut seen = Vec::new();
            for (source, under) in sources
                .iter()
                .filter(|source| *source != target)
                .enumerate()
            {
                let rich = format!("{way}/{number}/{source}/rich");
                let bare = format!("{way}/{number}/{source}/then");
                put_rich(&store, &rich, under).await;
                objects::put_plain(client, &bare, b"bare").await;
                for (key, under) in [(rich, under), (bare, &Under::SseS3)] {
                    let kept = objects::kept(client, &key, under.customer_key()).await;
                    seen.push((key, kept));
                }
            }
            let keys: Vec<_> = seen.iter().map(|(key, _)| key).collect();
            let job = to(Job::new(&endpoint, store.s3.credentials(), &keys), target);
            let file = job.write("old.key", OLD.0);
            // One after the other, so that the second has the first before it.
            let job = job.args("--method copy --concurrency 1 --verify read");
            let job = job.arg("--source-sse-c-key-file", file);
            let job = match way {
                "copy" => job,
                _ => job.args("--probe auto"),
            };
            job.run().expect(0);
            for (key, before) in &seen {
                let after = objects::kept(client, key, target.customer_key()).await;
                assert_eq!(*before, after, "{way} {key} to {target:?}");
                assert_eq!(
                    before.grants.len(),
                    if key.ends_with("rich") { 2 } else { 1 }
                );
            }
        }
    }
}

/// Every question that is refused is unknown, never none: nothing is written, until the operator allows the loss by name.
#[tokio::test]
async fn what_may_not_be_seen_is_refused_unless_its_loss_is_allowed() {
    let store = Store::start().await;
    objects::put(&store.client, "k", b"1", &Under::SseS3).await;
    let arn = store.add_kms_key(None);
    let cases: [(&'static [&'static str], &str, &str, &str); 3] = [
        (
            &["GetBucketOwnershipControls", "GetObjectAcl"],
            "AclUnknown",
            "acl",
            "",
        ),
        (
            &["GetObjectLockConfiguration", "GetObjectRetention"],
            "LockUnknown",
            "object-lock",
            "",
        ),
        (
            &["GetObjectTagging"],
            "TagsUnknown",
            "tags",
            "--multipart-threshold 0B",
        ),
    ];
    for (forbidden, code, loss, args) in cases {
        let proxy = Proxy::before(&store.s3, Weather::Forbids(forbidden));
        let job = || {
            let job = Job::new(&proxy.url(), store.s3.credentials(), &["k"]);
            job.args("--to sse-kms --kms-key-id").args(&arn).args(args)
        };
        let before = objects::head(&store.client, "k", None).await.e_tag;
        let writes = store.writes();
        let run = job().run().expect(3);
        assert_eq!(run.summary()["failures"][code], 1, "{forbidden:?}");
        assert_eq!(store.writes(), writes, "{forbidden:?}");
        let after = objects::head(&store.client, "k", None).await.e_tag;
        assert_eq!(before, after);
        job().args("--allow-loss").args(loss).run().expect(0);
        objects::put(&store.client, "k", b"1", &Under::SseS3).await;
    }
}

/// A 403 on the bucket alone costs a question for each object, and loses nothing.
#[tokio::test]
async fn what_the_bucket_does_not_tell_each_object_is_asked() {
    let store = rich_store().await;
    put_rich(&store, "k", &Under::SseS3).await;
    let before = objects::kept(&store.client, "k", None).await;
    let forbidden: &[&str] = &["GetBucketOwnershipControls", "GetObjectLockConfiguration"];
    let proxy = Proxy::before(&store.s3, Weather::Forbids(forbidden));
    let arn = store.add_kms_key(None);
    let job = Job::new(&proxy.url(), store.s3.credentials(), &["k"]);
    let run = job
        .args("--to sse-kms --kms-key-id")
        .args(&arn)
        .run()
        .expect(0);
    assert_eq!(run.summary()["requests"]["GetObjectAcl"], 1);
    assert_eq!(before, objects::kept(&store.client, "k", None).await);
}

#[tokio::test]
async fn a_bucket_that_locks_new_objects_gets_none_from_us() {
    let store = rich_store().await;
    objects::put_plain(&store.client, "free", b"1").await;
    put_rich(&store, "held", &Under::SseS3).await;
    let retention = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .days(3_650);
    let rule = ObjectLockRule::builder().default_retention(retention.build());
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(rule.build());
    let put = store.client.put_object_lock_configuration().bucket(BUCKET);
    let put = put.object_lock_configuration(lock.build());
    put.send().await.expect("configured");
    let before = objects::kept(&store.client, "held", None).await;
    let arn = store.add_kms_key(None);
    // Asked for, and all the same nothing is tried where it could not be removed.
    let job = store.job(&["free", "held"]).args("--probe auto");
    let run = job
        .args("--to sse-kms --kms-key-id")
        .args(&arn)
        .run()
        .expect(3);
    assert_eq!(run.summary()["failures"]["BucketDefaultRetention"], 1);
    assert_eq!(run.count("succeeded"), 1);
    assert_eq!(store.copies().get("free"), None);
    assert_eq!(before, objects::kept(&store.client, "held", None).await);
    let versions = store.client.list_object_versions().bucket(BUCKET);
    let versions = versions
        .send()
        .await
        .expect("versions")
        .versions
        .unwrap_or_default();
    assert!(
        versions
            .iter()
            .all(|version| ["free", "held"].contains(&version.key().unwrap_or_default()))
    );
}

/// A store that says OK and writes rubbish: the canary stops the job, and names the object.
#[tokio::test]
async fn an_object_that_comes_back_wrong_stops_the_job() {
    let store = Store::start().await;
    let keys: Vec<_> = (0..400).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let arn = store.add_kms_key(None);
    for (rotten_after, args, at_most) in [
        (0, "--probe auto", 1),
        // Three that held, and as many at once and one.
        (3, "--probe auto --canary 8", 7),
        // A few more tasks than requests on the wire.
        (0, "--verify read --concurrency 4", 5),
    ] {
        let proxy = Proxy::before(
            &store.s3,
            Weather::Rubbish {
                after: rotten_after,
            },
        );
        let job = Job::new(&proxy.url(), store.s3.credentials(), &keys);
        let job = job.args("--to sse-kms --kms-key-id").args(&arn);
        let job = job.args("--method copy").args(args);
        let before = store.copies();
        let run = job
            .run()
            .expect(4)
            .says(&["object/", "came back wrong", "bytes"]);
        let wrong = run.summary()["failures"]["CameBackWrong"].as_u64();
        assert!(
            wrong.is_some_and(|wrong| wrong <= at_most),
            "{args}: {wrong:?}"
        );
        let copied = |copies: &std::collections::BTreeMap<String, u64>| {
            let ours = copies.iter().filter(|(key, _)| key.starts_with("object/"));
            ours.map(|(_, count)| count).sum::<u64>()
        };
        let now = copied(&store.copies()) - copied(&before);
        assert!(now <= at_most, "{args}: {now}");
        // The same command, by which a schedule comes back, does not go on by itself, not even over a store that is well again.
        let wrong = wrong.unwrap_or_default();
        let hint = format!("--acknowledge-wrong {wrong}");
        let copies = store.copies();
        job.run().expect(4).says(&["in earlier runs", &hint]);
        assert_eq!(store.copies(), copies, "{args}");
        let on = job.args(&format!("{hint} --endpoint-url {}", proxy.url()));
        let on = on.run().expect(4);
        let more = on.summary()["failures"]["CameBackWrong"].as_u64();
        assert!(
            more.is_some_and(|more| more > wrong && more - wrong <= at_most),
            "{args}: {more:?}"
        );
        // For the next turn.
        objects::put_many(&store.client, &keys).await;
    }
}
