//! A manifest is pinned: what has changed is refused with 5 and named before anything is sent that could change an object. What
//! decides no outcome may change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aws_sdk_s3::primitives::ByteStream;
use md5::{Digest as _, Md5};
use reseal::local_s3::admin;
use reseal::local_s3::vault::KeyState;
use serde_json::{Value, json};

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::{BUCKET, Job, Run, Store, csv_of, objects};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A store with a job that has prepared its manifest and could not begin: the target's key was disabled.
struct Setup {
    store: Store,
    arn: String,
    writes: u64,
}

impl Setup {
    async fn new() -> Self {
        let store = Store::start().await;
        for key in KEYS {
            objects::put_plain(&store.client, key, b"1").await;
        }
        let arn = store.add_kms_key(None);
        Self {
            store,
            arn,
            writes: 0,
        }
    }

    fn job(&self) -> Job {
        let job = self.store.job(&KEYS);
        job.args("--to sse-kms --kms-key-id").args(&self.arn)
    }

    fn prepare(&mut self, job: &Job) {
        let set = |state| admin::set_key_state(self.store.data(), &self.arn, state);
        set(KeyState::Disabled).expect("disabled");
        job.run().expect(4).says(&["KMS.DisabledException"]);
        set(KeyState::Enabled).expect("enabled");
        self.writes = self.store.writes();
    }

    #[track_caller]
    fn refused(&self, job: &Job, phrases: &[&str]) {
        let run = job.run().expect(5);
        run.says(phrases).says(&["hint: put the old manifest back"]);
        assert_eq!(self.store.writes(), self.writes, "{phrases:?}");
    }
}

/// Changes a file, if it is another then, and keeps its time.
fn rewrite(path: &Path, content: impl AsRef<[u8]>) {
    if fs::read(path).expect("it is there") == content.as_ref() {
        return;
    }
    let before = fs::metadata(path).expect("it is there");
    fs::write(path, content).expect("written");
    let file = File::options().append(true).open(path).expect("a file");
    let time = before.modified().expect("a time");
    file.set_modified(time).expect("set back");
}

#[tokio::test]
async fn a_csv_that_was_edited_is_another_manifest() {
    let mut setup = Setup::new().await;
    let job = setup.job();
    setup.prepare(&job);
    let path = job.path("manifest.csv");
    let old = csv_of(&KEYS);
    for (new, phrase) in [
        (old.replace(",c", ",C"), "the content of"),
        (format!("{old}{BUCKET},e\n"), "it had 4 rows and has 5"),
        (old.replace("bucket,d\n", ""), "it had 4 rows and has 3"),
        (
            old.replace("bucket,", "rocket,"),
            "\"bucket\" and is for \"rocket\"",
        ),
        (format!("{old}{BUCKET},%\n"), "not sound any more: "),
    ] {
        rewrite(&path, new);
        setup.refused(&job, &["another manifest", phrase]);
    }
    rewrite(&path, &old);

    // What says how, not what, may be another.
    let other = setup.job().arg("--state", job.state());
    let other =
        other.args("--concurrency 3 --rate 500 --verify read --canary 0 --failure-threshold 9");
    let other = other.args("--report-scope failed --report elsewhere --probe auto");
    assert_eq!(other.run().expect(0).count("succeeded"), 4);
    assert!(other.path("elsewhere").is_dir());
}

/// Two data files, and what the `manifest.json` says of them.
fn data_files() -> [(String, Value); 2] {
    [("one", &KEYS[..1]), ("two", &KEYS[1..])].map(|(name, keys)| {
        let content = csv_of(keys);
        (content.clone(), file_of(name, &content))
    })
}

fn file_of(name: &str, content: &str) -> Value {
    let md5 = Md5::digest(content);
    let md5: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"key": format!("inv/data/{name}.csv"), "size": content.len(), "MD5checksum": md5})
}

fn manifest_json(files: &[Value]) -> String {
    let inventory = json!({
        "sourceBucket": BUCKET, "destinationBucket": "arn:aws:s3:::bucket", "version": "2016-11-30",
        "fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": files,
    });
    inventory.to_string()
}

/// What may happen to an inventory: its `manifest.json` and its second data file then, and what is said of it.
fn changed_inventories() -> [(String, String, &'static str); 4] {
    let [(_, first), (old, second)] = data_files();
    let json = manifest_json(&[first.clone(), second.clone()]);
    let new = old.replace(",c", ",C");
    let named_anew = manifest_json(&[first.clone(), file_of("two", &new)]);
    [
        (json, new.clone(), "inv/data/two.csv: MD5 is "),
        (
            named_anew,
            new,
            "the content of inv/data/two.csv has changed",
        ),
        (
            manifest_json(&[second, first.clone()]),
            old.clone(),
            "in another order",
        ),
        (manifest_json(&[first]), old, "it had 2 files and has 1"),
    ]
}

#[tokio::test]
async fn an_inventory_of_which_any_file_was_replaced_is_another_manifest() {
    let mut setup = Setup::new().await;
    let job = setup.job();
    let [(one, first), (two, second)] = data_files();
    let json = manifest_json(&[first, second]);
    job.write("inv/data/one.csv", one);
    let data: PathBuf = job.write("inv/data/two.csv", &two);
    let manifest = job.write("inv/T/manifest.json", &json);
    let job = job.arg("--manifest", &manifest);
    setup.prepare(&job);
    for (new_json, new_data, phrase) in changed_inventories() {
        rewrite(&manifest, new_json);
        rewrite(&data, new_data);
        setup.refused(&job, &["another manifest", phrase]);
    }
    rewrite(&manifest, &json);
    rewrite(&data, &two);
    assert_eq!(job.run().expect(0).count("succeeded"), 4);
}

#[tokio::test]
async fn an_inventory_in_s3_of_which_any_file_was_replaced_is_another_manifest() {
    let mut setup = Setup::new().await;
    let client = setup.store.client.clone();
    let put = async |name: &str, content: &str| {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key(format!("inv/{name}"));
        let put = put.body(ByteStream::from(content.as_bytes().to_vec()));
        put.send().await.expect("put");
    };
    let [(one, first), (two, second)] = data_files();
    let json = manifest_json(&[first, second]);
    put("data/one.csv", &one).await;
    put("data/two.csv", &two).await;
    put("T/manifest.json", &json).await;
    let job = setup
        .job()
        .args("--manifest s3://bucket/inv/T/manifest.json");
    setup.prepare(&job);
    for (new_json, new_data, phrase) in changed_inventories() {
        put("T/manifest.json", &new_json).await;
        put("data/two.csv", &new_data).await;
        setup.writes = setup.store.writes();
        setup.refused(&job, &["another manifest", phrase]);
    }
    put("T/manifest.json", &json).await;
    put("data/two.csv", &two).await;
    // What is gone is not another: the state has a copy.
    let delete = client
        .delete_object()
        .bucket(BUCKET)
        .key("inv/data/one.csv");
    delete.send().await.expect("deleted");
    assert_eq!(job.run().expect(0).count("succeeded"), 4);
}

/// The manifest is sound when it is prepared, and another before its rows are read.
#[tokio::test]
async fn a_manifest_that_changes_after_it_was_prepared_stops_the_run() {
    let setup = Setup::new().await;
    let rule = |_: &str, _| Some(Fault::Held);
    let proxy = Proxy::start(setup.store.s3.addr(), Weather::Rule(rule));
    let job = Job::new(&proxy.url(), setup.store.s3.credentials(), &KEYS).args("--to sse-s3");
    let writes = setup.store.writes();
    let child = job.command().spawn().expect("it starts");
    proxy.wait_for(Fault::Held);
    rewrite(&job.path("manifest.csv"), csv_of(&["a", "b", "c", "e"]));
    proxy.let_go();
    let run = Run::of(child.wait_with_output().expect("it ends"));
    run.expect(5)
        .says(&["manifest.csv", "the manifest has changed"]);
    assert_eq!(setup.store.writes(), writes);
}
