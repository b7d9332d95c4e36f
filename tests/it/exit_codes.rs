//! How the process ends, by its code: what `podFailurePolicy` acts on. Codes 5 and 75 are with the crash tests.

use std::process::{Command, Stdio};

use reseal::local_s3::admin;
use reseal::local_s3::credentials::Credentials;
use reseal::local_s3::vault::KeyState;

use crate::support::objects::{self, Under};
use crate::support::{Counting, Job, Run, Store};

#[tokio::test]
async fn complete_is_0_and_rows_failed_is_3() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "there", b"1").await;
    let arn = store.add_kms_key(None);
    let kms = |job: Job| job.args("--to sse-kms --kms-key-id").args(&arn);
    let run = kms(store.job(&["there"])).run().expect(0);
    assert_eq!(run.summary()["status"], "complete");
    assert_eq!(run.count("succeeded"), 1);

    let job = kms(store.job(&["there", "gone"]));
    let run = job.run().expect(3);
    assert_eq!(run.summary()["status"], "complete");
    assert_eq!(run.summary()["failures"]["NoSuchKey"], 1);
    let report = job.report();
    let gone = report.iter().find(|row| row.key == "gone").expect("a row");
    assert_eq!(
        (gone.status.as_str(), gone.http_status.as_str()),
        ("failed", "404")
    );
    assert_eq!(gone.code, "NoSuchKey");
    // Settled is settled: again, nothing is asked for a second time.
    let again = job.run().expect(3);
    assert_eq!(again.count("already_settled"), 2);
    assert_eq!(again.summary()["requests"], serde_json::json!({}));
}

/// Both wait between their attempts, so they do it at the same time.
#[test]
fn a_store_that_is_not_there_or_hangs_up_is_1_after_a_bounded_number_of_attempts() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let store = Counting::start();
    let credentials = Credentials::new("AKIANOBODY", "secret");
    let runs = [nobody, store.url()].map(|url| {
        let job = Job::new(&url, &credentials, &["a"]).args("--to sse-s3");
        let child = job.command().spawn().expect("it starts");
        (job, child)
    });
    for (_job, child) in runs {
        let run = Run::of(child.wait_with_output().expect("it ends"));
        run.expect(1)
            .says(&["the store can't be reached", "hint: ", "--endpoint-url"]);
    }
    assert!(
        (1..=16).contains(&store.connections()),
        "{}",
        store.connections()
    );
}

#[tokio::test]
async fn what_every_object_would_meet_is_4_and_changes_nothing() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "a", b"1").await;
    let writes = store.writes();
    let job = |credentials: &Credentials| {
        Job::new(&store.s3.endpoint_url(), credentials, &["a"]).args("--to sse-kms")
    };
    let known = store.s3.credentials();

    let stranger = job(&Credentials::new("AKIASTRANGER", known.secret_key()));
    stranger
        .run()
        .expect(4)
        .says(&["InvalidAccessKeyId", "hint: check the credentials"]);
    let forger = job(&Credentials::new(known.access_key(), "wrong"));
    forger
        .run()
        .expect(4)
        .says(&["SignatureDoesNotMatch", "hint: check the credentials"]);
    let elsewhere = job(known);
    elsewhere.write_manifest("no-such-bucket,a\n");
    elsewhere
        .run()
        .expect(4)
        .says(&["NoSuchBucket", "hint: check the bucket"]);
    let unknown_key = job(known).args("--kms-key-id 00000000-0000-0000-0000-000000000000");
    unknown_key
        .run()
        .expect(4)
        .says(&["KMS.NotFoundException", "hint: "]);
    let disabled = store.add_kms_key(None);
    admin::set_key_state(store.data(), &disabled, KeyState::Disabled).expect("disabled");
    let disabled = job(known).args("--kms-key-id").args(&disabled);
    disabled
        .run()
        .expect(4)
        .says(&["KMS.DisabledException", "hint: "]);

    assert!(store.copies().is_empty());
    // Two copies were tried, and refused.
    assert_eq!(store.writes(), writes + 2);
    let head = objects::head(&store.client, "a", None).await;
    assert!(Under::SseS3.is_shown_by(&head));
}

#[tokio::test]
async fn a_target_key_that_is_made_usable_lets_the_same_command_go_on() {
    let store = Store::start().await;
    let old = store.add_kms_key(None);
    for (number, alias) in [None, Some("alias/target")].into_iter().enumerate() {
        let plain = format!("plain/{number}");
        objects::put_plain(&store.client, &plain, b"1").await;
        // Its own key is another that may be the one that is meant by "disabled".
        let under_old = format!("kms/{number}");
        objects::put(&store.client, &under_old, b"2", &Under::Kms(old.clone())).await;
        let arn = store.add_kms_key(alias);
        let name = alias.unwrap_or(&arn);
        for keys in [vec![under_old.as_str()], vec![&plain, &under_old, "gone"]] {
            let job = store
                .job(&keys)
                .args("--to sse-kms --kms-key-id")
                .args(name);
            admin::set_key_state(store.data(), &arn, KeyState::Disabled).expect("disabled");
            let run = job.run().expect(4);
            let failures = &run.summary()["failures"];
            assert!(failures["KMS.DisabledException"].is_null(), "{failures}");
            if keys.len() > 1 {
                admin::set_key_state(store.data(), &arn, KeyState::Enabled).expect("enabled");
                let run = job.run().expect(3);
                assert_eq!((run.count("succeeded"), run.count("failed")), (2, 1));
            }
        }
        assert_eq!(store.copies().get(&plain), Some(&1));
        assert_eq!(store.copies().get(&under_old), Some(&1));
    }
}

#[test]
fn credentials_that_are_missing_are_4() {
    let store = Counting::start();
    let job = Job::bare(&store.url()).args("--to sse-s3");
    let manifest = job.write("m.csv", "bucket,a\n");
    let run = job.arg("--manifest", manifest).run().expect(4);
    run.says(&["credentials", "hint: ", "AWS_ACCESS_KEY_ID"]);
    assert_eq!(store.connections(), 0);
}

#[tokio::test]
async fn an_object_under_another_disabled_key_fails_by_itself() {
    let store = Store::start().await;
    let (old, new) = (store.add_kms_key(None), store.add_kms_key(None));
    objects::put(&store.client, "old", b"1", &Under::Kms(old.clone())).await;
    objects::put_plain(&store.client, "plain", b"2").await;
    admin::set_key_state(store.data(), &old, KeyState::Disabled).expect("disabled");
    let job = store
        .job(&["old", "plain"])
        .args("--to sse-kms --kms-key-id")
        .args(&new);
    let run = job.run().expect(3);
    assert_eq!((run.count("succeeded"), run.count("failed")), (1, 1));
    assert_eq!(run.summary()["failures"]["KMS.DisabledException"], 1);
}

#[tokio::test]
async fn too_many_failed_rows_are_4() {
    let store = Store::start().await;
    let keys: Vec<_> = (0..1_500).map(|n| format!("gone-{n}")).collect();
    let job = store.job(&keys).args("--to sse-s3 --failure-threshold 10");
    let run = job
        .run()
        .expect(4)
        .says(&["rows failed", "hint: ", "--failure-threshold"]);
    assert_eq!(run.summary()["status"], "failed");
    assert!(
        (1_000..1_500).contains(&run.count("failed")),
        "{}",
        run.stdout
    );
    // It is the job's, not the run's: as long as it is the same, nothing is begun.
    let requests = store.s3.requests();
    let again = job.run().expect(4).says(&["in earlier runs", "hint: "]);
    assert_eq!(again.count("failed"), run.count("failed"));
    assert_eq!(store.s3.requests(), requests);
    let tolerant = job
        .without_args()
        .args("--to sse-s3 --failure-threshold 100");
    let run = tolerant.run().expect(3);
    assert_eq!(run.count("failed"), 1_500);
    assert!(run.count("already_settled") >= 1_000);
}

#[tokio::test]
async fn a_code_to_stop_on_is_4_and_its_row_is_not_settled() {
    let store = Store::start().await;
    objects::put_plain(&store.client, "there", b"1").await;
    let arn = store.add_kms_key(None);
    let kms = |job: Job| job.args("--to sse-kms --kms-key-id").args(&arn);
    let job = kms(store.job(&["there", "go\u{1b}ne", "missing"]))
        .args("--stop-on AccessDenied,NoSuchKey --concurrency 1");
    let run =
        job.run()
            .expect(4)
            .says(&["go\\u{1b}ne failed with NoSuchKey", "--stop-on", "hint: "]);
    assert_eq!((run.count("succeeded"), run.count("failed")), (1, 0));
    objects::put_plain(&store.client, "go\u{1b}ne", b"2").await;
    let job = job.without_args();
    let run = kms(job).run().expect(3);
    assert_eq!((run.count("succeeded"), run.count("failed")), (2, 1));
    assert_eq!(run.count("already_settled"), 1);
}

#[test]
fn help_and_version_are_0_and_go_to_standard_output() {
    for (args, phrase) in [
        (&["--help"][..], "Usage: reseal"),
        (&["--version"], "reseal 0."),
        (&["run", "--help"], "--kms-key-id"),
        (&["help", "run"], "--kms-key-id"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
        command.args(args).stdin(Stdio::null());
        let run = Run::of(command.output().expect("it starts")).expect(0);
        assert!(run.stdout.contains(phrase), "{args:?}: {}", run.stdout);
    }
    let mut nothing = Command::new(env!("CARGO_BIN_EXE_reseal"));
    let run = Run::of(nothing.output().expect("it starts")).expect(2);
    run.says(&["Usage: reseal"]);
}

#[tokio::test]
async fn a_metrics_address_that_is_taken_is_2() {
    let store = Store::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let job = store
        .job(&["a"])
        .args("--to sse-s3 --metrics-listen")
        .args(&addr);
    job.run().expect(2).says(&[&addr]);
}
