//! What a plan foretells, held against what the run then does, by the store's own count.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use serde_json::Value;

use crate::support::objects::{SseC, Under, put, put_plain};
use crate::support::{BUCKET, Job, Run, Store};

/// The same words with `plan` in place of `run`, and without what only a run takes.
fn plan(job: &Job) -> Run {
    let mut words = job.arguments();
    words[0] = "plan".to_owned();
    for flag in ["--state", "--report"] {
        if let Some(at) = words.iter().position(|word| word == flag) {
            words.drain(at..at + 2);
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args(words);
    job.prepare(&mut command);
    Run::of(command.output().expect("the binary starts"))
}

/// Shares by their names: objects and bytes.
fn shares(told: &Value, facet: &str) -> BTreeMap<String, (u64, u64)> {
    let shares = told[facet].as_array().expect("a list").iter();
    let number = |share: &Value, of: &str| share[of]["value"].as_u64().expect("a number");
    shares
        .map(|share| {
            let name = share["name"].as_str().expect("a name").to_owned();
            (name, (number(share, "objects"), number(share, "bytes")))
        })
        .collect()
}

fn requests(told: &Value) -> BTreeMap<String, u64> {
    let requests = told["requests"].as_array().expect("a list").iter();
    requests
        .map(|of| {
            let name = of["operation"].as_str().expect("a name").to_owned();
            (name, of["requests"]["value"].as_u64().expect("a number"))
        })
        .collect()
}

/// What the store was asked about objects since, by the names of its log. A copy is two lines there; one is its reading.
fn counted(store: &Store, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut counted = of_objects(store);
    for (operation, count) in before {
        *counted.entry(operation.clone()).or_default() -= count;
    }
    counted.retain(|_, count| *count > 0);
    counted
}

fn of_objects(store: &Store) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (request, count) in store.s3.requests() {
        let is_reading =
            request.operation.ends_with("OBJECT_GET") || request.operation.ends_with("PART_GET");
        let is_of_the_bucket =
            request.key.is_empty() && !request.operation.ends_with("BUCKETVERSIONS");
        if !is_reading && !is_of_the_bucket {
            *counts.entry(request.operation).or_default() += count;
        }
    }
    counts
}

/// Everything that a bucket may have under a target of SSE-KMS.
async fn fill(store: &Store, old: &str, new: &str) -> (Vec<String>, SseC) {
    let customer = SseC([7; 32]);
    let objects = [
        ("a/plain", Under::SseS3),
        ("a/old", Under::Kms(old.to_owned())),
        ("b/done", Under::Kms(new.to_owned())),
        ("b/layers", Under::Dsse(old.to_owned())),
        ("c/customer", Under::Customer(customer)),
    ];
    for (key, under) in &objects {
        put(&store.client, key, b"some bytes", under).await;
    }
    put_plain(&store.client, "c/empty", b"").await;
    let large = vec![7; 6 << 20];
    put(&store.client, "c/large", &large, &Under::SseS3).await;
    let mut keys: Vec<_> = objects.iter().map(|(key, _)| (*key).to_owned()).collect();
    keys.extend(["c/empty", "c/large", "c/gone", " "].map(str::to_owned));
    (keys, customer)
}

#[tokio::test]
async fn a_run_does_what_its_plan_foretells() {
    let usual = "--multipart-threshold 5MiB --part-size 5MiB";
    for (is_versioned, args) in [
        (false, "--canary 0"),
        (false, "--canary 0 --verify head"),
        (false, "--canary 0 --verify read"),
        (true, "--canary 1000"),
        (true, "--canary 0 --delete-superseded"),
        (true, "--canary 0 --versions restack"),
        (true, "--canary 0 --versions restack --method copy"),
        (
            true,
            "--canary 2 --concurrency 1 --versions restack --delete-superseded",
        ),
        (false, "--canary 0 --verify sample=50%"),
        (
            true,
            "--canary 0 --versions restack --verify head --delete-superseded",
        ),
        (true, "--canary 0 --verify read --to sse-c"),
        (false, "--canary 0 --to sse-s3"),
    ] {
        let store = Store::start().await;
        let (old, new) = (store.add_kms_key(None), store.add_kms_key(None));
        if is_versioned {
            let enabled = VersioningConfiguration::builder();
            let enabled = enabled.status(BucketVersioningStatus::Enabled).build();
            let request = store.client.put_bucket_versioning().bucket(BUCKET);
            let request = request.versioning_configuration(enabled);
            request.send().await.expect("versions");
            put_plain(&store.client, "a/plain", b"an older version").await;
            put_plain(&store.client, "c/large", &vec![3; 6 << 20]).await;
            let marker = store.client.delete_object().bucket(BUCKET).key("a/plain");
            marker.send().await.expect("a delete marker");
        }
        let (keys, customer) = fill(&store, &old, &new).await;
        // Whether an upload under SSE-C is answered with checksums, or a look has to follow, is the store's choice.
        let in_parts = if args.contains("sse-c") { "" } else { usual };
        let job = store.job(&keys).args(in_parts).args(args);
        let key = job.write("customer.key", customer.0);
        let target_key = job.write("target.key", [9; 32]);
        let job = job.arg("--source-sse-c-key-file", key);
        let job = if args.contains("--to sse-c") {
            job.arg("--sse-c-key-file", target_key)
        } else if args.contains("--to") {
            job
        } else {
            job.args(&format!("--to sse-kms --kms-key-id {new}"))
        };
        let (writes, seen) = (store.writes(), of_objects(&store));
        let told = plan(&job).expect(0).summary();
        assert_eq!(store.writes(), writes, "{args}: a plan writes nothing");
        let asked = counted(&store, &seen);
        let seen = of_objects(&store);
        let run = job.run().expect(3).summary();
        let case = format!("{args}\nplan {told}\nrun {run}\nasked {asked:?}");
        let did = counted(&store, &seen);
        let foretold: u64 = requests(&told).values().sum();
        assert_eq!(foretold, did.values().sum::<u64>(), "{did:?} {case}");
        let of_run: BTreeMap<String, u64> =
            serde_json::from_value(run["requests"].clone()).expect("counts");
        assert_eq!(requests(&told), of_run, "{case}");
        let courses = shares(&told, "courses");
        let rows = |name: &str| courses.get(name).map_or(0, |(rows, _)| *rows);
        assert_eq!(Some(rows("rewrite")), run["succeeded"].as_u64(), "{case}");
        assert_eq!(
            courses["rewrite"].1,
            run["bytes"].as_u64().expect("bytes"),
            "{case}"
        );
        assert_eq!(Some(rows("skip")), run["skipped"].as_u64(), "{case}");
        assert_eq!(
            Some(rows("refuse") + rows("fail")),
            run["failed"].as_u64(),
            "{case}"
        );
        let names = |facet: &str| {
            shares(&told, facet)
                .into_iter()
                .map(|(name, (n, _))| (name, n))
        };
        let methods: BTreeMap<String, u64> = names("methods").collect();
        assert_eq!(serde_json::json!(methods), run["methods"], "{case}");
        let failures: BTreeMap<String, u64> = names("failures").chain(names("refusals")).collect();
        assert_eq!(serde_json::json!(failures), run["failures"], "{case}");
    }
}

/// However many rows are at work while the first ones are read back: those are as many as were said, and no other is looked at for it.
#[tokio::test]
async fn the_canary_is_foretold_to_the_request() {
    const OBJECTS: u64 = 120;
    const CANARY: u64 = 7;
    // Those of the canary are looked at once more.
    const LOOKS: u64 = OBJECTS + CANARY;
    let keys: Vec<_> = (0..OBJECTS).map(|n| format!("p/{n}")).collect();
    for (has_inventory, args, looks) in [
        (false, "", LOOKS),
        (true, "", CANARY),
        (true, "--evidence evidence", LOOKS),
    ] {
        let store = Store::start().await;
        crate::support::objects::put_many(&store.client, &keys).await;
        let new = store.add_kms_key(None);
        let job = store.job(&keys).args(&format!(
            "--to sse-kms --kms-key-id {new} --canary {CANARY} {args}"
        ));
        let job = if has_inventory {
            let manifest = inventory(&store, &job);
            job.arg("--manifest", manifest)
        } else {
            job
        };
        let told = plan(&job).expect(0).summary();
        let seen = of_objects(&store);
        let run = job.run().expect(0).summary();
        let of_run: BTreeMap<String, u64> =
            serde_json::from_value(run["requests"].clone()).expect("counts");
        let case = format!("{has_inventory} {args}\nplan {told}\nrun {run}");
        assert_eq!(requests(&told), of_run, "{case}");
        let did = counted(&store, &seen);
        assert_eq!(
            of_run.values().sum::<u64>(),
            did.values().sum::<u64>(),
            "{did:?} {case}"
        );
        assert_eq!(of_run["HeadObject"], looks + CANARY, "{case}");
        assert_eq!(of_run["GetObject"], 2 * CANARY, "{case}");
    }
}

/// The `manifest.json` of what the bucket lists now, with what each object is under.
fn inventory(store: &Store, job: &Job) -> String {
    let url = store.s3.endpoint_url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args([
        "inventory",
        &format!("s3://{BUCKET}"),
        "--with",
        "encryption",
    ]);
    command.args(["--endpoint-url", &url, "--path-style", "--output", "json"]);
    command.arg("--out").arg(job.path("inventory"));
    command.arg("--state").arg(job.path("listing"));
    job.prepare(&mut command);
    let listed = Run::of(command.output().expect("the binary starts"));
    let manifest = listed.expect(0).summary()["manifest"].clone();
    manifest.as_str().expect("a path").to_owned()
}

#[tokio::test]
async fn a_sample_looks_at_no_more_and_the_page_needs_nothing_else() {
    const ROWS: usize = 300;
    const SAMPLE: u64 = 40;
    let store = Store::start().await;
    let new = store.add_kms_key(None);
    let keys: Vec<_> = (0..ROWS).map(|n| format!("p/{n}<&")).collect();
    crate::support::objects::put_many(&store.client, &keys).await;
    let job = store.job(&keys);
    let page = job.path("plan.html");
    let prices = job.write(
        "prices.json",
        r#"{"date": "2030-01-01", "region": "here", "currency": "CHF", "kms_per_10000": 0, "dsse_kms_per_gb": 0,
            "classes": {"STANDARD": {"write_per_1000": 1000, "read_per_1000": 0, "retrieval_per_gb": 0,
            "storage_per_gb_month": 0, "minimum_days": 0}}}"#,
    );
    let job = job
        .args(&format!(
            "--to sse-kms --sample {SAMPLE} --rate 10 --kms-key-id {new}"
        ))
        .arg("--html", &page)
        .arg("--prices", prices);
    let seen = of_objects(&store);
    let told = plan(&job).expect(0).summary();
    let looks = counted(&store, &seen);
    assert_eq!(
        looks,
        BTreeMap::from([("REST.HEAD.OBJECT".to_owned(), SAMPLE)])
    );
    let number = |name: &str| told[name].as_u64().expect(name);
    assert_eq!(number("looked_at"), SAMPLE);
    assert_eq!(number("not_looked_at"), ROWS as u64 - SAMPLE);
    assert_eq!(number("rows"), ROWS as u64);
    assert_eq!(shares(&told, "courses")["rewrite"].0, ROWS as u64);
    // One franc a write.
    assert_eq!(
        told["cost"]["total"]["value"].as_f64(),
        Some(ROWS as f64),
        "{told}"
    );
    let slowest = &told["time"][0];
    assert_eq!(slowest["limit"], "--rate", "{told}");
    assert_eq!(
        slowest["seconds"].as_f64(),
        Some(ROWS as f64 / 10.0),
        "{told}"
    );
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("CHF"), "{page}");
    for foreign in ["<script", "http://", "https://", "<link", "url("] {
        assert!(
            !page.replace(&store.s3.endpoint_url(), "").contains(foreign),
            "{foreign}"
        );
    }
    let text = plan(&job.args("--output text")).expect(0).stdout;
    assert!(text.contains("a sample of 40 was looked at"), "{text}");
}

#[tokio::test]
async fn what_would_end_a_run_ends_its_plan_with_the_same_code() {
    let store = Store::start().await;
    put_plain(&store.client, "key", b"bytes").await;
    let job = store
        .job(&["key"])
        .args("--to sse-kms --kms-key-id alias/nobody-has-it");
    plan(&job).expect(4).says(&["alias/nobody-has-it"]);
    let job = store.job(&["key"]).args("--to sse-s3 --sample 0");
    plan(&job).expect(2).says(&["--sample"]);
    let job = store
        .job(&["key"])
        .args("--to sse-s3 --prices nowhere.json");
    plan(&job).expect(2).says(&["--prices nowhere.json"]);
    let job = store.job(&["key"]).args("--to sse-s3");
    plan(&job).expect(0);
}
