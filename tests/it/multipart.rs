//! Objects that are copied in parts: whole, by nobody else's leave, and with nothing left behind. The threshold is low, so that two
//! parts of the smallest size do.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
    Tag, Tagging,
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::objects::{self, SseC, Under};
use crate::support::{BUCKET, Job, Run, Store};

/// The smallest part but the last.
const PART: usize = 5 * 1024 * 1024;
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "large";
const OLD: SseC = SseC(*b"old customer key, 32 bytes long!");
const NEW: SseC = SseC(*b"new customer key, 32 bytes long!");

/// Two parts.
fn body(seed: u8) -> Vec<u8> {
    let pattern: Vec<_> = (0..=250_u8).map(|byte| byte.wrapping_mul(seed)).collect();
    let mut body = pattern.repeat((PART + 1_000).div_ceil(pattern.len()));
    body.truncate(PART + 1_000);
    body
}

fn in_parts(job: Job) -> Job {
    job.args("--multipart-threshold 5MiB")
}

/// Flags that ask for a target, with its key file in the job's folder.
fn to(job: Job, target: &Under) -> Job {
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

/// How often the store answered OK to a request about an object in parts.
fn answered(store: &Store, operation: &str) -> u64 {
    let requests = store.s3.requests();
    let met = requests.iter().filter(|(request, _)| {
        request.operation == operation && request.key == KEY && request.status / 100 == 2
    });
    met.map(|(_, count)| count).sum()
}

fn parts_copied(store: &Store) -> u64 {
    answered(store, "REST.COPY.PART")
}

#[track_caller]
fn assert_in_parts(run: &Run, rows: u64) {
    assert_eq!(run.summary()["methods"]["multipart-copy"], rows);
}

async fn assert_nothing_left(store: &Store) {
    let uploads = store.client.list_multipart_uploads().bucket(BUCKET);
    let uploads = uploads.send().await.expect("the uploads");
    assert!(uploads.uploads().is_empty(), "{:?}", uploads.uploads());
}

/// The checksum that a look shows, with its algorithm and kind.
async fn checksum(store: &Store, key: Option<SseC>) -> String {
    let mut head = store.client.head_object().bucket(BUCKET).key(KEY);
    if let Some(key) = key {
        head = head
            .sse_customer_algorithm("AES256")
            .sse_customer_key(key.base64())
            .sse_customer_key_md5(key.md5());
    }
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await;
    let head = head.expect("a look");
    format!(
        "{:?} {:?} {:?} {:?}",
        head.checksum_type(),
        head.checksum_crc32(),
        head.checksum_crc64_nvme(),
        head.checksum_sha256()
    )
}

/// Puts an object in parts of [`PART`] with a checksum that is made of theirs; its ETag.
async fn put_in_parts(store: &Store, key: &str, algorithm: ChecksumAlgorithm) -> String {
    let client = &store.client;
    let create = client.create_multipart_upload().bucket(BUCKET).key(key);
    let create = create.server_side_encryption(ServerSideEncryption::Aes256);
    let upload = create.checksum_algorithm(algorithm.clone());
    let upload = upload.send().await.expect("an upload");
    let id = upload.upload_id().expect("an id");
    let mut parts = CompletedMultipartUpload::builder();
    for (number, bytes) in (1..).zip(body(3).chunks(PART)) {
        let part = client.upload_part().bucket(BUCKET).key(key).upload_id(id);
        let part = part
            .part_number(number)
            .body(ByteStream::from(bytes.to_vec()));
        let crc32 = BASE64.encode(crc32fast::hash(bytes).to_be_bytes());
        let sha256 = BASE64.encode(Sha256::digest(bytes));
        let (crc32, sha256) = match algorithm {
            ChecksumAlgorithm::Crc32 => (Some(crc32), None),
            _ => (None, Some(sha256)),
        };
        let part = part.set_checksum_crc32(crc32).set_checksum_sha256(sha256);
        let part = part.send().await.expect("a part");
        let done = CompletedPart::builder()
            .part_number(number)
            .e_tag(part.e_tag().expect("an ETag"))
            .set_checksum_crc32(part.checksum_crc32)
            .set_checksum_sha256(part.checksum_sha256);
        parts = parts.parts(done.build());
    }
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(key);
    let complete = complete.upload_id(id).multipart_upload(parts.build());
    let done = complete.send().await.expect("an object");
    done.e_tag().expect("an ETag").to_owned()
}

async fn set_tag(store: &Store, value: &str) {
    let tag = Tag::builder().key("state").value(value).build();
    let tags = Tagging::builder().tag_set(tag.expect("a tag")).build();
    let put = store.client.put_object_tagging().bucket(BUCKET).key(KEY);
    let put = put.tagging(tags.expect("tags"));
    put.send().await.expect("tagged");
}

#[tokio::test]
async fn an_object_in_parts_comes_through_whole_into_every_mode() {
    let store = Store::start().await;
    let client = &store.client;
    let (k1, k2) = (store.add_kms_key(None), store.add_kms_key(None));
    for (source, target) in [
        (Under::SseS3, Under::Kms(k2.clone())),
        (Under::Kms(k1.clone()), Under::Customer(NEW)),
        (Under::Customer(OLD), Under::SseS3),
        (Under::Customer(OLD), Under::Customer(NEW)),
        (Under::SseS3, Under::Dsse(k2.clone())),
    ] {
        objects::put(client, KEY, &body(1), &source).await;
        let before = objects::kept(client, KEY, source.customer_key()).await;
        let sum = checksum(&store, source.customer_key()).await;
        let job = to(in_parts(store.job(&[KEY])), &target);
        let old_key = job.write("old.key", OLD.base64());
        let run = job.arg("--source-sse-c-key-file", old_key).run().expect(0);
        assert_in_parts(&run, 1);
        let head = objects::head(client, KEY, target.customer_key()).await;
        assert!(target.is_shown_by(&head), "{source:?} {target:?} {head:?}");
        let after = objects::kept(client, KEY, target.customer_key()).await;
        assert!(before == after, "{source:?} {target:?}");
        assert_eq!(checksum(&store, target.customer_key()).await, sum);
        if let Under::Customer(_) = target {
            let wrong = objects::read(client, KEY, Some(OLD)).await;
            assert!(wrong.is_err(), "the old key still opens it");
        }
        assert_nothing_left(&store).await;
    }
}

/// Nothing of an upload comes from the object by itself, so that nothing of another one may come along either.
#[tokio::test]
async fn what_one_object_has_does_not_show_on_the_next() {
    let store = Store::start().await;
    let client = &store.client;
    objects::put(client, "a/rich", &body(1), &Under::SseS3).await;
    let odd = client.put_object().bucket(BUCKET).key("b/odd");
    let odd = odd
        .metadata("title", "=?UTF-8?B?w6TDtsO8?=")
        .expires(aws_sdk_s3::primitives::DateTime::from_secs(2_553_523_200))
        .body(ByteStream::from(body(2)));
    odd.send().await.expect("an object");
    objects::put_plain(client, "c/bare", &body(3)).await;
    let keys = ["a/rich", "b/odd", "c/bare"];
    let mut before = Vec::new();
    for key in keys {
        before.push(objects::kept(client, key, None).await);
    }
    let job = in_parts(store.job(&keys)).args("--concurrency 1 --to sse-kms --kms-key-id");
    let arn = store.add_kms_key(None);
    assert_in_parts(&job.args(&arn).run().expect(0), 3);
    for (key, before) in keys.iter().zip(before) {
        let after = objects::kept(client, key, None).await;
        assert!(before == after, "{key}");
        let head = objects::head(client, key, None).await;
        assert!(Under::Kms(arn.clone()).is_shown_by(&head), "{key}");
    }
}

#[tokio::test]
async fn an_object_keeps_the_parts_that_it_was_uploaded_in() {
    let store = Store::start().await;
    let arn = store.add_kms_key(None);
    for algorithm in [ChecksumAlgorithm::Sha256, ChecksumAlgorithm::Crc32] {
        let etag = put_in_parts(&store, KEY, algorithm).await;
        assert!(etag.ends_with("-2\""), "{etag}");
        let sum = checksum(&store, None).await;
        assert!(sum.contains("-2") && sum.contains("Composite"), "{sum}");
        let job = in_parts(store.job(&[KEY]));
        let run = job.args("--to sse-kms --kms-key-id").args(&arn).run();
        assert_in_parts(&run.expect(0), 1);
        let head = objects::head(&store.client, KEY, None).await;
        assert!(head.e_tag().expect("an ETag").ends_with("-2\""));
        assert_eq!(checksum(&store, None).await, sum);
        // Back under SSE-S3 its ETag is what it was: made of the same parts.
        let back = in_parts(store.job(&[KEY])).args("--to sse-s3");
        back.run().expect(0);
        let head = objects::head(&store.client, KEY, None).await;
        assert_eq!(head.e_tag(), Some(etag.as_str()));
        assert_eq!(checksum(&store, None).await, sum);
    }
    // The operator's word is above the object's.
    let job = in_parts(store.job(&[KEY])).args("--part-size 6MiB --to sse-kms --kms-key-id");
    job.args(&arn).run().expect(0);
    let head = objects::head(&store.client, KEY, None).await;
    assert!(head.e_tag().expect("an ETag").ends_with("-1\""));
    let read = objects::read(&store.client, KEY, None).await;
    assert!(read == Ok(body(3)));
}

/// A store with a large object, and a proxy before it.
struct Setup {
    store: Store,
    proxy: Proxy,
    arn: String,
}

impl Setup {
    async fn with(rule: fn(&str, u64) -> Option<Fault>) -> Self {
        let store = Store::start().await;
        let arn = store.add_kms_key(None);
        objects::put_plain(&store.client, KEY, &body(1)).await;
        set_tag(&store, "first").await;
        let proxy = Proxy::start(store.s3.addr(), Weather::Rule(rule));
        Self { store, proxy, arn }
    }

    fn job(&self) -> Job {
        let job = in_parts(self.store.job(&[KEY]));
        let job = job.args("--probe off --part-size 5MiB --endpoint-url");
        let job = job.args(&self.proxy.url());
        job.args("--to sse-kms --kms-key-id").args(&self.arn)
    }

    /// The object is under the target with these bytes and this tag, and nothing is left of how it came there.
    async fn assert_done(&self, bytes: &[u8], tag: &str) {
        let head = objects::head(&self.store.client, KEY, None).await;
        assert!(Under::Kms(self.arn.clone()).is_shown_by(&head), "{head:?}");
        self.assert_untouched(bytes, tag).await;
    }

    /// The object has these bytes and this tag, and no upload is left.
    async fn assert_untouched(&self, bytes: &[u8], tag: &str) {
        let read = objects::read(&self.store.client, KEY, None).await;
        assert!(read.as_deref() == Ok(bytes), "other bytes");
        let tags = self
            .store
            .client
            .get_object_tagging()
            .bucket(BUCKET)
            .key(KEY);
        let tags = tags.send().await.expect("the tags");
        let values: Vec<_> = tags.tag_set().iter().map(Tag::value).collect();
        assert_eq!(values, [tag]);
        assert_nothing_left(&self.store).await;
    }
}

fn is_part(line: &str, number: u32) -> bool {
    line.contains(&format!("partNumber={number}&"))
        || line.contains(&format!("partNumber={number} "))
}

fn is_completion(line: &str) -> bool {
    line.starts_with(&format!("POST /{BUCKET}/{KEY}?")) && line.contains("uploadId=")
}

fn is_abort(line: &str) -> bool {
    line.starts_with(&format!("DELETE /{BUCKET}/{KEY}?")) && line.contains("uploadId=")
}

/// Keeps the second part from being copied until it is let go.
fn second_part_waits(line: &str, attempt: u64) -> Option<Fault> {
    (is_part(line, 2) && attempt == 1).then_some(Fault::Held)
}

#[tokio::test]
async fn an_object_written_between_two_parts_is_rewritten_as_it_is_then() {
    let setup = Setup::with(second_part_waits).await;
    let job = setup.job();
    let child = job.command().spawn().expect("it starts");
    setup.proxy.wait_for(Fault::Held);
    objects::put_plain(&setup.store.client, KEY, &body(2)).await;
    set_tag(&setup.store, "second").await;
    setup.proxy.let_go();
    let run = Run::of(child.wait_with_output().expect("it ends")).expect(0);
    assert_in_parts(&run, 1);
    setup.assert_done(&body(2), "second").await;
    assert_eq!(answered(&setup.store, "REST.POST.UPLOADS"), 2);
    assert_eq!(answered(&setup.store, "REST.POST.UPLOAD"), 1);
}

#[tokio::test]
async fn after_a_kill_only_the_parts_that_are_missing_are_copied() {
    let setup = Setup::with(second_part_waits).await;
    let job = setup.job();
    kill_at_the_second_part(&setup, &job);
    let run = job.run().expect(0);
    assert_in_parts(&run, 1);
    setup.assert_done(&body(1), "first").await;
    assert_eq!(parts_copied(&setup.store), 2);
    assert_eq!(answered(&setup.store, "REST.POST.UPLOADS"), 1);
}

#[tokio::test]
async fn a_signal_waits_for_the_parts_on_the_wire_and_the_rest_is_for_the_next_run() {
    let setup = Setup::with(second_part_waits).await;
    let job = setup.job();
    let mut child = job.command().spawn().expect("it starts");
    setup.proxy.wait_for(Fault::Held);
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("signalled");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(child.try_wait().expect("asked"), None, "it did not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    setup.proxy.let_go();
    Run::of(child.wait_with_output().expect("it ends")).expect(75);
    assert_eq!(parts_copied(&setup.store), 2);
    assert_eq!(answered(&setup.store, "REST.POST.UPLOAD"), 0);
    assert_in_parts(&job.run().expect(0), 1);
    setup.assert_done(&body(1), "first").await;
    assert_eq!(parts_copied(&setup.store), 2);
}

#[tokio::test]
async fn after_a_kill_an_upload_of_what_is_not_there_any_more_is_given_up() {
    // Other tags on the same bytes: the upload was given the old ones.
    let setup = Setup::with(second_part_waits).await;
    let job = setup.job();
    kill_at_the_second_part(&setup, &job);
    set_tag(&setup.store, "second").await;
    job.run().expect(0);
    setup.assert_done(&body(1), "second").await;
    assert_eq!(parts_copied(&setup.store), 3);

    // Somebody else has done it meanwhile; or has deleted it.
    for (code, deletes) in [(0, false), (3, true)] {
        let setup = Setup::with(second_part_waits).await;
        let job = setup.job();
        kill_at_the_second_part(&setup, &job);
        if deletes {
            let delete = setup.store.client.delete_object().bucket(BUCKET).key(KEY);
            delete.send().await.expect("deleted");
        } else {
            let under = Under::Kms(setup.arn.clone());
            objects::put(&setup.store.client, KEY, b"small", &under).await;
        }
        let run = job.run().expect(code);
        assert_eq!(run.count("succeeded"), 0);
        assert_nothing_left(&setup.store).await;
    }
}

/// Runs a job until its first part is copied and its second one waits, and kills it.
fn kill_at_the_second_part(setup: &Setup, job: &Job) {
    let mut child = job.command().spawn().expect("it starts");
    setup.proxy.wait_for(Fault::Held);
    let begun = Instant::now();
    while parts_copied(&setup.store) < 1 {
        assert!(begun.elapsed() < PATIENCE, "the first part is not copied");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL. What it had on the wire has gone no further than the proxy.
    child.kill().expect("killed");
    child.wait().expect("dead");
    // The second part of another upload is another request, and would wait for its time-out.
    setup.proxy.cut_off();
}

#[tokio::test]
async fn a_failed_object_leaves_no_upload_and_says_so_where_it_must() {
    let setup = Setup::with(|line, _| is_part(line, 2).then_some(Fault::Denied)).await;
    let job = setup.job();
    job.run().expect(3);
    let report = job.report();
    assert_eq!(report[0].code, "AccessDenied");
    assert!(!report[0].message.contains("upload id"), "{report:?}");
    setup.assert_untouched(&body(1), "first").await;

    let setup =
        Setup::with(|line, _| (is_part(line, 2) || is_abort(line)).then_some(Fault::Denied));
    let setup = setup.await;
    let job = setup.job();
    job.run().expect(3);
    let uploads = setup.store.client.list_multipart_uploads().bucket(BUCKET);
    let uploads = uploads.send().await.expect("the uploads");
    let id = uploads.uploads()[0].upload_id().expect("an id");
    let report = job.report();
    assert!(report[0].message.contains(id), "{report:?}");
}

#[tokio::test]
async fn whatever_the_answers_are_each_part_is_copied_as_seldom_as_can_be() {
    type Rule = fn(&str, u64) -> Option<Fault>;
    // How the first answer is lost, and how many parts the store has copied then.
    let rules: [(Rule, u64); 4] = [
        (
            |line, n| (is_completion(line) && n == 1).then_some(Fault::CutBefore),
            2,
        ),
        (
            |line, n| (is_completion(line) && n == 1).then_some(Fault::CutAfter),
            2,
        ),
        (
            |line, n| (is_completion(line) && n == 1).then_some(Fault::Empty200),
            2,
        ),
        (
            |line, n| (is_part(line, 1) && n == 1).then_some(Fault::ErrorInside200),
            3,
        ),
    ];
    for (number, (rule, parts)) in rules.into_iter().enumerate() {
        let setup = Setup::with(rule).await;
        let run = setup.job().run().expect(0);
        assert_in_parts(&run, 1);
        setup.assert_done(&body(1), "first").await;
        assert_eq!(setup.proxy.seen().faults.len(), 1, "{number}");
        assert_eq!(parts_copied(&setup.store), parts, "{number}");
        let completed = answered(&setup.store, "REST.POST.UPLOAD");
        assert_eq!(completed, 1, "{number}");
    }
}
