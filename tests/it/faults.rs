//! A store that fails in 2 % of answers in each of six ways: every row succeeds, every object is changed exactly once.
//! And another writer, whose objects are never put back to what they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::RngExt as _;

use crate::support::chance::{self, long, seed};
use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::objects::{self, Under};
use crate::support::{Job, Store};

#[tokio::test]
async fn every_object_is_changed_once_whatever_the_answers_are() {
    let seed = seed();
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    let rows = if long() { 20_000 } else { 1_200 };
    let keys: Vec<_> = (0..rows).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let proxy = Proxy::start(store.s3.addr(), Weather::Faults(seed));
    let job = Job::new(&proxy.url(), store.s3.credentials(), &keys);
    let job = job.args("--to sse-kms --kms-key-id").args(&arn);
    let run = job.run().expect(0);
    let seen = proxy.seen();

    for fault in Fault::ALL {
        let met = seen.faults.get(&fault).copied().unwrap_or_default();
        assert!(met > 0, "{fault:?} was not met: {seen:?}");
    }
    assert_eq!(run.count("succeeded"), rows);
    let copies = store.copies();
    assert_eq!(copies.len() as u64, rows);
    let more: Vec<_> = copies.iter().filter(|(_, count)| **count != 1).collect();
    assert!(more.is_empty(), "{more:?}");

    // What is told is what happened.
    let summary = run.summary();
    assert_eq!(summary["requests"]["CopyObject"], seen.requests["COPY"]);
    assert_eq!(summary["requests"]["HeadObject"], seen.requests["HEAD"]);
    assert_eq!(
        summary["bytes"],
        keys.iter().map(String::len).sum::<usize>()
    );
    assert!(run.count("retries") > 0);
    // What was asked about the bucket is in no count, nor what it met.
    let throttled = seen.faults[&Fault::SlowDown];
    let questions = seen
        .operations
        .iter()
        .filter(|(of, _)| of.starts_with("Get"));
    let asked_again: u64 = questions.map(|(_, times)| times - 1).sum();
    let told = run.count("throttles");
    assert!(
        told <= throttled && throttled <= told + asked_again,
        "{told} of {throttled}, {asked_again} questions asked again"
    );
    let report = job.report();
    assert_eq!(report.len() as u64, rows);
    assert!(report.iter().all(|row| row.status == "succeeded"));
    for key in keys.iter().step_by(97) {
        let head = objects::head(&store.client, key, None).await;
        assert!(Under::Kms(arn.clone()).is_shown_by(&head), "{key}");
        let read = objects::read(&store.client, key, None).await;
        assert_eq!(read.as_deref(), Ok(key.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_another_writer_puts_meanwhile_is_never_overwritten() {
    let seed = seed();
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    let keys: Vec<_> = (0..40).map(|n| format!("object/{n}")).collect();
    objects::put_many(&store.client, &keys).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (client, keys, stop) = (store.client.clone(), keys.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut rng = chance::rng(seed);
            let mut last = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                let key = &keys[rng.random_range(0..keys.len())];
                let body = format!("write {}", rng.random::<u64>());
                objects::put_plain(&client, key, body.as_bytes()).await;
                last.insert(key.clone(), body);
            }
            last
        })
    };
    let mut conflicts = 0;
    for _ in 0..4 {
        let job = store
            .job(&keys)
            .args("--concurrency 40 --to sse-kms --kms-key-id")
            .args(&arn);
        let run = job.run();
        assert!(matches!(run.status.code(), Some(0 | 3)), "{}", run.stderr);
        conflicts += run.count("retries") + run.count("failed");
    }
    stop.store(true, Ordering::SeqCst);
    let last = writer.await.expect("the writer");
    assert!(conflicts > 0, "nobody got into anybody's way");
    for (key, body) in last {
        let read = objects::read(&store.client, &key, None)
            .await
            .expect("readable");
        assert_eq!(String::from_utf8_lossy(&read), body, "{key}");
    }
}
