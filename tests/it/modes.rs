//! Every mode into every mode on the embedded S3: the bytes read back with the right key and not with the wrong one, and
//! everything else as it was.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use crate::support::objects::{self, SseC, Under};
use crate::support::{BUCKET, Job, Store};

const OLD: SseC = SseC(*b"old customer key, 32 bytes long!");
const NEW: SseC = SseC(*b"new customer key, 32 bytes long!");
const OTHER: SseC = SseC(*b"not the key, but 32 bytes long!!");

/// Flags that ask for a target, with its key file in the job's folder.
pub fn to(job: Job, target: &Under) -> Job {
    match target {
        Under::SseS3 => job.args("--to sse-s3"),
        Under::Kms(key) => job.args("--to sse-kms --kms-key-id").args(key),
        Under::Dsse(key) => job.args("--to dsse-kms --kms-key-id").args(key),
        Under::Customer(key) => {
            let file = job.write("new.key", key.0);
            job.args("--to sse-c").arg("--sse-c-key-file", file)
        }
    }
}

/// An empty one, a small one, one over several frames.
fn bodies() -> [Vec<u8>; 3] {
    let long = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    [Vec::new(), b"a small one".to_vec(), long]
}

#[tokio::test]
async fn every_mode_into_every_mode() {
    let store = Store::start().await;
    let client = &store.client;
    let (k1, k2) = (store.add_kms_key(None), store.add_kms_key(None));
    let sources = [
        Under::SseS3,
        Under::Kms(k1.clone()),
        Under::Dsse(k1.clone()),
        Under::Customer(OLD),
    ];
    let targets = [
        Under::SseS3,
        Under::Kms(k2.clone()),
        Under::Dsse(k2.clone()),
        Under::Customer(NEW),
    ];
    for (number, target) in targets.iter().enumerate() {
        let mut objects = Vec::new();
        for source in &sources {
            for (size, body) in bodies().into_iter().enumerate() {
                let key = format!("{number}/{source:?}/{size}").replace(['"', ' '], "");
                objects::put(client, &key, &body, source).await;
                let before = objects::head(client, &key, source.customer_key()).await;
                assert!(source.is_shown_by(&before), "{before:?}");
                let kept = objects::kept(client, &key, source.customer_key()).await;
                assert_eq!(kept.body, body);
                objects.push((key, source, kept));
            }
        }
        let keys: Vec<_> = objects.iter().map(|(key, ..)| key).collect();
        let job = to(store.job(&keys), target);
        let old_key = job.write("old.key", OLD.base64());
        let job = job.arg("--source-sse-c-key-file", old_key);
        let run = job.run().expect(0);
        let same = sources.iter().filter(|source| *source == target).count() as u64 * 3;
        assert_eq!(
            (run.count("succeeded"), run.count("skipped")),
            (12 - same, same)
        );

        for (key, source, before) in &objects {
            let copies = store.copies().get(key).copied().unwrap_or_default();
            assert_eq!(copies, u64::from(*source != target), "{key}");
            let after = objects::head(client, key, target.customer_key()).await;
            assert!(target.is_shown_by(&after), "{key}: {after:?}");
            assert_eq!(
                *before,
                objects::kept(client, key, target.customer_key()).await
            );
            refused_without_its_key(&store, key, target).await;
        }

        let again = job.run().expect(0);
        assert_eq!(again.count("already_settled"), 12);
        let fresh = to(store.job(&keys), target).run().expect(0);
        assert_eq!((fresh.count("skipped"), fresh.count("succeeded")), (12, 0));
        assert_eq!(fresh.summary()["skips"]["already-encrypted"], 12);
    }
}

/// Reads with what is not the key: no key for a customer's, another one, one for an object that has none.
async fn refused_without_its_key(store: &Store, key: &str, under: &Under) {
    let read = |customer_key| objects::read(&store.client, key, customer_key);
    match under {
        Under::Customer(_) => {
            assert_eq!(read(None).await.expect_err("no key").0, 400, "{key}");
            assert_eq!(read(Some(OTHER)).await.expect_err("wrong").0, 403, "{key}");
            assert_eq!(read(Some(OLD)).await.expect_err("old").0, 403, "{key}");
        }
        Under::SseS3 | Under::Kms(_) | Under::Dsse(_) => {
            assert_eq!(read(Some(OLD)).await.expect_err("a key").0, 400, "{key}");
        }
    }
}

#[tokio::test]
async fn the_kms_key_that_is_named_is_the_key_it_is_under() {
    use reseal::local_s3::admin;
    use reseal::local_s3::vault::KeyState;

    let store = Store::start().await;
    let (old, new) = (store.add_kms_key(None), store.add_kms_key(None));
    for mode in ["sse-kms", "dsse-kms"] {
        objects::put(&store.client, mode, b"content", &Under::Kms(old.clone())).await;
        let job = store.job(&[mode]).args("--to").args(mode);
        job.args("--kms-key-id").args(&new).run().expect(0);
    }
    let set = |key: &str, state| {
        admin::set_key_state(store.data(), key, state).expect("set");
    };
    set(&old, KeyState::Disabled);
    for mode in ["sse-kms", "dsse-kms"] {
        let read = objects::read(&store.client, mode, None).await;
        assert_eq!(read.as_deref(), Ok(&b"content"[..]));
    }
    set(&new, KeyState::Disabled);
    for mode in ["sse-kms", "dsse-kms"] {
        let read = objects::read(&store.client, mode, None).await;
        assert_eq!(read.expect_err("disabled").1, "KMS.DisabledException");
    }
}

#[tokio::test]
async fn awkward_keys_come_through_and_nobody_elses_object_is_touched() {
    let store = Store::start().await;
    let long = "k".repeat(1024);
    let keys = [
        "plain",
        "with space",
        "plus+plus",
        "percent%41",
        "%2F",
        "a//b",
        "/leading",
        "trailing/",
        "..",
        "../up",
        ".",
        "ümlaut/日本語",
        "new\nline",
        "tab\tand\rreturn",
        "quote\"and'",
        "comma,comma",
        "question?versionId=x",
        "hash#",
        "semi;colon:and&amp",
        "\u{7f}",
        "back\\slash",
        long.as_str(),
    ];
    for key in keys {
        objects::put_plain(&store.client, key, key.as_bytes()).await;
    }
    // What a key decoded once too often, or not at all, would hit.
    let bystanders = [
        "percentA",
        "plus plus",
        "with+space",
        "with%20space",
        "/",
        "question",
    ];
    for key in bystanders {
        objects::put_plain(&store.client, key, b"not ours").await;
    }
    let arn = store.add_kms_key(None);
    let job = store
        .job(&keys)
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    let run = job.run().expect(0);
    assert_eq!(run.count("succeeded"), keys.len() as u64);
    let copies = store.copies();
    assert_eq!(copies.len(), keys.len());
    for key in keys {
        assert_eq!(copies.get(key), Some(&1), "{key:?}");
        let head = objects::head(&store.client, key, None).await;
        assert!(Under::Kms(arn.clone()).is_shown_by(&head), "{key:?}");
        let read = objects::read(&store.client, key, None).await;
        assert_eq!(read.as_deref(), Ok(key.as_bytes()));
    }
    for key in bystanders {
        let head = objects::head(&store.client, key, None).await;
        assert!(Under::SseS3.is_shown_by(&head), "{key:?}");
    }
    let mut reported: Vec<_> = job.report().into_iter().map(|row| row.key).collect();
    reported.sort();
    reported.dedup();
    assert_eq!(reported.len(), keys.len());
}

#[tokio::test]
async fn a_versioned_bucket_gets_one_more_version_and_old_ones_stay_as_they_are() {
    let store = Store::start().await;
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let versioning = store.client.put_bucket_versioning().bucket(BUCKET);
    let versioning = versioning.versioning_configuration(enabled);
    versioning.send().await.expect("versioning");
    for body in ["first", "second"] {
        objects::put_plain(&store.client, "k", body.as_bytes()).await;
    }
    objects::put_plain(&store.client, "gone", b"deleted since").await;
    let delete = store.client.delete_object().bucket(BUCKET).key("gone");
    delete.send().await.expect("deleted");
    let arn = store.add_kms_key(None);
    let versions = || async {
        let list = store.client.list_object_versions().bucket(BUCKET);
        let list = list.prefix("k").send().await.expect("versions");
        let ids = list.versions().iter();
        ids.map(|version| version.version_id().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    let before = versions().await;
    assert_eq!(before.len(), 2);

    // Newest first: the current version is copied, the one before it is not ours to touch.
    let job = store
        .job(&["k"])
        .args("--to sse-kms --kms-key-id")
        .args(&arn);
    job.write_manifest(&format!(
        "{BUCKET},k,{}\n{BUCKET},k,{}\n{BUCKET},gone,\n",
        before[0], before[1]
    ));
    let run = job.run().expect(3);
    assert_eq!(run.summary()["failures"]["NoncurrentVersion"], 1);
    assert_eq!(run.summary()["skips"]["delete-marker"], 1);
    assert_eq!((run.count("succeeded"), run.count("failed")), (1, 1));
    let after = versions().await;
    assert_eq!(after[1..], before[..]);
    for (version, body, under) in [
        (&after[0], "second", Under::Kms(arn.clone())),
        (&before[0], "second", Under::SseS3),
        (&before[1], "first", Under::SseS3),
    ] {
        let get = store.client.get_object().bucket(BUCKET).key("k");
        let get = get.version_id(version).send().await.expect("readable");
        let read = get.body.collect().await.expect("a body").into_bytes();
        assert_eq!(read, body.as_bytes());
        let head = store.client.head_object().bucket(BUCKET).key("k");
        let head = head.version_id(version).send().await.expect("a head");
        assert!(under.is_shown_by(&head), "{version}: {head:?}");
    }
}

#[tokio::test]
async fn an_alias_is_its_key_and_what_is_under_it_is_skipped() {
    let store = Store::start().await;
    let arn = store.add_kms_key(Some("alias/mine"));
    let other = store.add_kms_key(None);
    objects::put(&store.client, "there", b"1", &Under::Kms(arn.clone())).await;
    objects::put(&store.client, "other", b"2", &Under::Kms(other)).await;
    objects::put_plain(&store.client, "plain", b"3").await;
    let job = || store.job(&["there", "other", "plain"]);
    let run = job()
        .args("--to sse-kms --kms-key-id alias/mine")
        .run()
        .expect(0);
    assert_eq!((run.count("succeeded"), run.count("skipped")), (2, 1));
    for key in ["there", "other", "plain"] {
        let head = objects::head(&store.client, key, None).await;
        assert!(Under::Kms(arn.clone()).is_shown_by(&head), "{key}");
        assert!(store.copies().get(key).is_none_or(|copies| *copies == 1));
    }
    let id = arn.rsplit('/').next().expect("an id");
    for name in [arn.as_str(), id, "alias/mine"] {
        let run = job()
            .args("--to sse-kms --kms-key-id")
            .args(name)
            .run()
            .expect(0);
        assert_eq!(run.count("skipped"), 3, "{name}");
    }
    // Nothing is left of the question which key the alias is.
    let uploads = store.client.list_multipart_uploads().bucket(BUCKET);
    assert_eq!(uploads.send().await.expect("a list").uploads(), []);
    // The AWS-managed key has no name on the command line at all.
    for expected in [(3, 0), (0, 3)] {
        let run = job().args("--to sse-kms").run().expect(0);
        assert_eq!((run.count("succeeded"), run.count("skipped")), expected);
    }
}

#[tokio::test]
async fn a_customer_key_that_is_missing_or_wrong_is_a_failed_row_and_nothing_is_changed() {
    let store = Store::start().await;
    objects::put(&store.client, "locked", b"secret", &Under::Customer(OLD)).await;
    objects::put_plain(&store.client, "open", b"1").await;
    let arn = store.add_kms_key(None);
    let job = || {
        let job = store.job(&["locked", "open"]);
        job.args("--to sse-kms --kms-key-id").args(&arn)
    };
    let missing = job();
    missing.run().expect(3);
    let wrong = job();
    let file = wrong.write("wrong.key", OTHER.0);
    let wrong = wrong.arg("--source-sse-c-key-file", file);
    let run = wrong.run().expect(3);
    for job in [&missing, &wrong] {
        let failed: Vec<_> = job
            .report()
            .into_iter()
            .filter(|row| row.status == "failed")
            .collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(
            (failed[0].key.as_str(), failed[0].code.as_str()),
            ("locked", "NoCustomerKey")
        );
        assert!(
            failed[0].message.contains("--source-sse-c-key-file"),
            "{failed:?}"
        );
    }
    assert_eq!(store.copies().get("locked"), None);
    let read = objects::read(&store.client, "locked", Some(OLD)).await;
    assert_eq!(read.as_deref(), Ok(&b"secret"[..]));
    // No secret in anything that was told or kept.
    let told = format!("{}{}", run.stdout, run.stderr);
    assert!(!told.contains(&OTHER.base64()));
    for name in ["job.json", "shard-0/shard.json", "shard-0/journal"] {
        let state = std::fs::read(wrong.state().join(name)).expect(name);
        assert!(!String::from_utf8_lossy(&state).contains(&OTHER.base64()));
    }
}

/// What other crates log of a request has its headers in it.
#[tokio::test]
async fn no_log_level_shows_a_customer_key() {
    let store = Store::start().await;
    for filter in [
        "trace",
        "aws_smithy_runtime=trace",
        "aws_smithy_runtime::client::orchestrator=trace,aws_sigv4::http_request=trace,aws_runtime::auth=trace,hyper=trace",
    ] {
        objects::put(&store.client, "locked", b"secret", &Under::Customer(OLD)).await;
        let job = to(store.job(&["locked"]), &Under::Customer(NEW));
        let old_key = job.write("old.key", OLD.base64());
        let job = job
            .arg("--source-sse-c-key-file", old_key)
            .env("RESEAL_LOG", filter);
        let run = job.run().expect(0);
        assert_eq!(run.count("succeeded"), 1);
        for key in [OLD, NEW] {
            assert!(!run.stderr.contains(&key.base64()), "{filter}");
        }
    }
}
