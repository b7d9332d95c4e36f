//! A state in the embedded S3, over TCP.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use tempfile::TempDir;

use super::*;
use crate::exit::Exit;
use crate::journal::frame::Header;
use crate::journal::store::{Batch, Mark};
use crate::local_s3::server::{LocalS3, Options};
use crate::s3::{Connection, StaticCredentials};

const BUCKET: &str = "states";
const JOB: &str = "job-1";
const SHARD: &str = "shard-0";

/// So few keys to a page that short journals have several.
const PAGE_KEYS: u16 = 3;

struct Cloud {
    server: LocalS3,
    client: Client,
    folder: TempDir,
}

impl Cloud {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalS3::start(Options::for_tests(folder.path().join("s3"))).unwrap();
        let client = server.client();
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        Self {
            server,
            client,
            folder,
        }
    }

    async fn connect(&self) -> S3 {
        let keys = self.server.credentials();
        S3::connect(&Connection {
            endpoint_url: Some(self.server.endpoint_url()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(StaticCredentials {
                access_key: keys.access_key().to_owned(),
                secret_key: keys.secret_key().to_owned(),
            }),
            path_style: true,
            ..Connection::default()
        })
        .await
    }

    /// The state below `a/b`, not tried.
    async fn state(&self) -> S3Store {
        let store = S3Store::at(self.connect().await, BUCKET, "a/b/");
        let mut home = Arc::into_inner(store.home).unwrap();
        home.page_keys = PAGE_KEYS;
        S3Store {
            home: Arc::new(home),
        }
    }

    /// A journal of so many batches, and the objects' bytes: the header, and a frame for each.
    async fn journal(&self, store: &S3Store, batches: u64) -> Vec<Vec<u8>> {
        let header = frame::header(JOB);
        let mut log = store.log(SHARD, JOB).await.unwrap();
        assert_eq!(log.next().await.unwrap(), None);
        log.recover().await.unwrap();
        let mut objects = vec![header];
        for number in 1..=batches {
            assert!(log.append(payload(number)).await.unwrap());
            objects.push(frame::frame(seed(), number, &payload(number)));
        }
        let bytes = objects.iter().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(log.mark(), Mark { batches, bytes });
        objects
    }

    async fn put(&self, key: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        let body = ByteStream::from(bytes.to_vec());
        put.body(body).send().await.unwrap();
    }

    async fn delete(&self, key: &str) {
        let delete = self.client.delete_object().bucket(BUCKET).key(key);
        delete.send().await.unwrap();
    }

    /// How many requests of an operation came for keys below the state's prefix, or for the bucket.
    fn count(&self, operation: &str) -> u64 {
        let requests = self.server.requests();
        let of_it = requests
            .iter()
            .filter(|(asked, _)| asked.bucket == BUCKET && asked.operation == operation);
        of_it.map(|(_, count)| count).sum()
    }
}

fn seed() -> u32 {
    Header::parse("", &frame::header(JOB)).unwrap().seed
}

fn payload(number: u64) -> Vec<u8> {
    format!("what batch {number} says").into_bytes()
}

fn key(number: u64) -> String {
    format!("a/b/{SHARD}/journal/{number:020}")
}

async fn read(log: &mut dyn Log) -> Result<Vec<Batch>, StateError> {
    let mut batches = Vec::new();
    while let Some(batch) = log.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

#[tokio::test]
async fn a_journal_is_read_as_it_was_appended_and_is_the_directorys_file() {
    let cloud = Cloud::start().await;
    let store = cloud.state().await;
    assert!(store.peek(SHARD).await.unwrap().is_none());
    assert_eq!(store.file(SHARD, cloud.folder.path()).await.unwrap(), None);
    let objects = cloud.journal(&store, 20).await;
    let file = objects.concat();

    let mut log = store.peek(SHARD).await.unwrap().unwrap();
    let batches = read(&mut *log).await.unwrap();
    assert_eq!(batches.len(), 20);
    for (batch, number) in batches.iter().zip(1..) {
        assert_eq!((batch.number, &batch.payload), (number, &payload(number)));
        assert!(file[batch.payload_at as usize..].starts_with(&batch.payload));
    }
    assert_eq!((log.job_id(), log.torn_bytes()), (JOB, 0));
    assert_eq!(log.place(), "s3://states/a/b/shard-0/journal");
    for (object, number) in objects.iter().zip(0..) {
        let get = cloud.client.get_object().bucket(BUCKET).key(key(number));
        let there = get.send().await.unwrap().body.collect().await.unwrap();
        assert_eq!(there.to_vec(), *object);
    }

    let scratch = cloud.folder.path().join("made/anew");
    for _ in 0..2 {
        let path = store.file(SHARD, &scratch).await.unwrap().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), file);
    }
}

#[tokio::test]
async fn reading_a_tail_does_not_grow_with_the_journal() {
    let cloud = Cloud::start().await;
    let store = cloud.state().await;
    let objects = cloud.journal(&store, 20).await;
    let bytes = |batches: u64| objects[..=batches as usize].concat().len() as u64;
    let mark = |batches| Mark {
        batches,
        bytes: bytes(batches),
    };
    for from in [0, 1, 17, 18, 20] {
        let mut log = store.log(SHARD, JOB).await.unwrap();
        let asked = || {
            (
                cloud.count("REST.GET.OBJECT"),
                cloud.count("REST.GET.BUCKET"),
            )
        };
        let before = asked();
        log.skip_to(mark(from)).await.unwrap();
        let tail = read(&mut *log).await.unwrap();
        let numbers: Vec<_> = tail.iter().map(|batch| batch.number).collect();
        assert_eq!(numbers, Vec::from_iter(from + 1..=20));
        assert_eq!(log.mark(), mark(20));
        let after = asked();
        // The mark's own batch is listed, too.
        let listed = 20 - from.saturating_sub(1);
        assert_eq!(after.0 - before.0, 20 - from, "objects from {from}");
        assert_eq!(
            after.1 - before.1,
            listed.div_ceil(3).max(1),
            "pages from {from}"
        );
    }
    for beyond in [21, 22, 500] {
        let mut log = store.log(SHARD, JOB).await.unwrap();
        let beyond = Mark {
            batches: beyond,
            bytes: 1,
        };
        let error = log.skip_to(beyond).await.unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_batch() {
    let cloud = Cloud::start().await;
    let store = cloud.state().await;
    cloud.journal(&store, 2).await;
    // Its first attempt is made by another client, so that this one never hears of it.
    let mut log = store.log(SHARD, JOB).await.unwrap();
    assert_eq!(read(&mut *log).await.unwrap().len(), 2);
    cloud
        .put(&key(3), &frame::frame(seed(), 3, &payload(3)))
        .await;
    assert!(log.append(payload(3)).await.unwrap());
    assert!(log.append(payload(4)).await.unwrap());
    let mut again = store.peek(SHARD).await.unwrap().unwrap();
    assert_eq!(read(&mut *again).await.unwrap().len(), 4);
    assert_eq!(again.mark(), log.mark());
}

#[tokio::test]
async fn of_two_runners_one_has_each_number_and_the_other_reads_on() {
    let cloud = Cloud::start().await;
    let one = cloud.state().await;
    let mut logs = [
        one.log(SHARD, JOB).await.unwrap(),
        cloud.state().await.log(SHARD, JOB).await.unwrap(),
    ];
    for log in &mut logs {
        assert!(read(&mut **log).await.unwrap().is_empty());
        assert!(!log.is_exclusive());
    }
    let mut expected = Vec::new();
    let mut wins = [0, 0];
    for round in 1..=20_u64 {
        let said = ["one", "two"].map(|who| format!("{who} in round {round}").into_bytes());
        let [first, second] = &mut logs;
        let (first, second) = tokio::join!(
            first.append(said[0].clone()),
            second.append(said[1].clone())
        );
        let won = [first.unwrap(), second.unwrap()];
        assert_ne!(won[0], won[1], "round {round}");
        let winner = usize::from(won[1]);
        wins[winner] += 1;
        expected.push(said[winner].clone());
        let missed = read(&mut *logs[1 - winner]).await.unwrap();
        let missed: Vec<_> = missed.iter().map(|batch| &batch.payload).collect();
        assert_eq!(missed, [&said[winner]]);
        assert_eq!(logs[0].mark(), logs[1].mark());
    }
    let mut log = one.peek(SHARD).await.unwrap().unwrap();
    let there = read(&mut *log).await.unwrap();
    assert!(there.iter().map(|batch| &batch.payload).eq(&expected));
    assert_eq!(wins[0] + wins[1], 20);
}

/// Opens and reads it to its end.
async fn replay(store: &S3Store) -> Result<usize, StateError> {
    let mut log = store.log(SHARD, JOB).await?;
    Ok(read(&mut *log).await?.len())
}

#[tokio::test]
async fn what_is_not_what_was_written_is_damage() {
    let cloud = Cloud::start().await;
    let store = cloud.state().await;
    let objects = cloud.journal(&store, 5).await;
    let whole = |number: usize| objects[number].clone();
    let mut flipped = whole(3);
    flipped[20] ^= 1;
    let wrong = [
        (3, flipped),
        (3, [whole(3), whole(4)].concat()),
        (3, vec![0; FRAME_BYTES_MAX + 1]),
        (0, Vec::new()),
        (0, [whole(0), vec![0]].concat()),
        (0, vec![b'x'; 4096]),
    ];
    for (number, bytes) in wrong {
        cloud.put(&key(number as u64), &bytes).await;
        let error = replay(&store).await.unwrap_err();
        let StateError::Damaged { place, .. } = &error else {
            panic!("{bytes:?} in place of {number}: {error}");
        };
        assert_eq!(*place, format!("s3://{BUCKET}/{}", key(number as u64)));
        assert_eq!(error.exit(), Exit::State);
        cloud.put(&key(number as u64), &objects[number]).await;
    }
    for number in [1, 3, 4] {
        cloud.delete(&key(number)).await;
        let error = replay(&store).await.unwrap_err().to_string();
        assert!(error.contains(&key(number)), "{error}");
        cloud.put(&key(number), &objects[number as usize]).await;
    }
    let foreign = format!("{}.old", key(5));
    cloud.put(&foreign, b"?").await;
    let error = replay(&store).await.unwrap_err().to_string();
    assert!(error.contains(&foreign), "{error}");
    cloud.delete(&foreign).await;
    assert_eq!(replay(&store).await.unwrap(), 5);

    let error = store.log(SHARD, "job-2").await.err().unwrap();
    assert!(matches!(error, StateError::OtherJob { .. }), "{error}");
}

/// What the bytes of a batch's object are judged by.
#[test]
fn a_frame_is_whole_and_of_its_place_or_it_is_none() {
    let whole = frame::frame(seed(), 3, &payload(3));
    let judged = |bytes: &[u8]| frame::payload(seed(), 3, bytes).map(<[u8]>::to_vec);
    assert_eq!(judged(&whole), Some(payload(3)));
    for at in 0..whole.len() {
        assert_eq!(judged(&whole[..at]), None, "cut off at {at}");
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(judged(&flipped), None, "bit {bit} of byte {at}");
        }
    }
    assert_eq!(judged(&[&whole[..], &[0]].concat()), None);
    // Another number's, and another job's.
    assert_eq!(judged(&frame::frame(seed(), 4, &payload(3))), None);
    assert_eq!(judged(&frame::frame(seed() ^ 1, 3, &payload(3))), None);
}

#[tokio::test]
async fn documents_are_made_once_or_replaced() {
    let cloud = Cloud::start().await;
    let store = S3Store::open(cloud.connect().await, BUCKET, "")
        .await
        .unwrap();
    assert_eq!(store.place("shard-0/x"), "s3://states/shard-0/x");
    assert_eq!(store.place(""), "s3://states");
    let name = "shard-0/ü +%41?&<.json";
    assert_eq!(store.read(name).await.unwrap(), None);
    assert!(store.create(name, b"one".to_vec()).await.unwrap());
    assert!(!store.create(name, b"two".to_vec()).await.unwrap());
    assert!(!store.create(name, b"one".to_vec()).await.unwrap());
    assert_eq!(store.read(name).await.unwrap().unwrap(), b"one");
    store.replace(name, b"three".to_vec()).await.unwrap();
    assert_eq!(store.read(name).await.unwrap().unwrap(), b"three");
    store.replace(name, Vec::new()).await.unwrap();
    assert_eq!(store.read(name).await.unwrap().unwrap(), b"");
}

#[tokio::test]
async fn the_age_is_that_of_the_newest_batch() {
    let cloud = Cloud::start().await;
    let store = cloud.state().await;
    assert_eq!(store.last_written(SHARD).await.unwrap(), None);
    for (batches, pages) in [(0, 1), (2, 1), (3, 3), (40, 8)] {
        let folder = format!("with-{batches}");
        let mut log = store.log(&folder, JOB).await.unwrap();
        for number in 1..=batches {
            assert!(log.append(payload(number)).await.unwrap());
        }
        let before = cloud.count("REST.GET.BUCKET");
        let home = &store.home;
        let written = newest(home, &folder).await.unwrap().unwrap();
        let took = cloud.count("REST.GET.BUCKET") - before;
        assert!(took <= pages, "{took} pages of {batches}");
        let name = format!("a/b/{folder}/journal/{batches:020}");
        let head = cloud.client.head_object().bucket(BUCKET).key(&name);
        let head = head.send().await.unwrap();
        assert_eq!(head.last_modified().unwrap().secs(), written);
    }
    let age = store.last_written("with-40").await.unwrap().unwrap();
    assert!(age < Duration::from_secs(3600), "{age:?}");
}

#[tokio::test]
async fn a_place_that_is_no_states_is_refused() {
    let cloud = Cloud::start().await;
    let s3 = cloud.connect().await;
    for _ in 0..2 {
        S3Store::open(s3.clone(), BUCKET, "good").await.unwrap();
    }
    let list = cloud.client.list_objects_v2().bucket(BUCKET).send();
    let there = list.await.unwrap();
    let keys: Vec<_> = there.contents().iter().filter_map(|o| o.key()).collect();
    assert_eq!(keys, ["good/lock"]);

    let error = S3Store::open(s3.clone(), "nowhere", "x").await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    let told = error.to_string();
    assert!(
        told.contains("NoSuchBucket") && told.contains("s3://nowhere/x"),
        "{told}"
    );

    cloud.put("taken/lock", b"mine").await;
    let error = S3Store::open(s3, BUCKET, "taken").await.unwrap_err();
    assert_eq!(error.exit(), Exit::State);
    assert!(
        error.to_string().contains("s3://states/taken/lock"),
        "{error}"
    );
}

#[test]
fn what_passes_is_tried_again_and_nothing_else() {
    for (http_status, code, passes) in [
        (0, "NoAnswer", true),
        (0, "CredentialsUnavailable", true),
        (0, "RequestNotSent", false),
        (500, "InternalError", true),
        (503, "SlowDown", true),
        (429, "Whatever", true),
        (400, "RequestTimeout", true),
        (400, "ExpiredToken", true),
        (409, "ConditionalRequestConflict", true),
        (200, "EmptyAnswer", true),
        (200, TOO_LARGE, false),
        (501, "NotImplemented", false),
        (403, "AccessDenied", false),
        (403, "InvalidAccessKeyId", false),
        (404, "NoSuchBucket", false),
        (301, "PermanentRedirect", false),
    ] {
        let source = S3Error {
            operation: "PutObject",
            code: code.to_owned(),
            http_status,
            message: String::new(),
            request_id: None,
            retry_after: None,
        };
        let error = StateError::store("write", "s3://states/a", source);
        assert_eq!(error.is_passing(), passes, "{error}");
        let exit = if passes { Exit::Internal } else { Exit::Usage };
        assert_eq!(error.exit(), exit, "{error}");
    }
}
