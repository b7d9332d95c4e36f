//! The store against a model of it, and against what crashes leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::local_s3::model::{
    Checksum, ChecksumAlgorithm, ChecksumKind, Content, DataId, Object, Part, Properties, Segment,
    Upload, Version, VersionId, Versioning,
};
use crate::local_s3::vault::{DataKeys, Envelope, SegmentReader, SegmentWriter, Vault, Want};

const BUCKET: &str = "bucket";

/// A store with one bucket, and the keys to fill it.
pub(in crate::local_s3) struct Fixture {
    dir: TempDir,
    envelope: Envelope,
    keys: DataKeys,
    store: Option<Arc<Store>>,
}

impl Fixture {
    pub(in crate::local_s3) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (envelope, keys) = Vault::open(dir.path())
            .unwrap()
            .seal(&Want::SseS3, BUCKET, "key")
            .unwrap();
        let store = Store::open(dir.path()).unwrap();
        store
            .create_bucket(Bucket::new(BUCKET, "us-east-1"))
            .unwrap();
        Self {
            dir,
            envelope,
            keys,
            store: Some(store),
        }
    }

    pub(in crate::local_s3) fn bucket(&self) -> Arc<BucketStore> {
        self.store.as_ref().unwrap().bucket(BUCKET).unwrap()
    }

    /// What a server does that is started after another one was stopped or killed.
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.dir.path()).unwrap());
    }

    fn write(&self, created: (PendingData, std::fs::File), bytes: &[u8]) -> PendingData {
        let (pending, file) = created;
        let mut writer = SegmentWriter::create(file, &self.keys, pending.number()).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap();
        pending
    }

    fn object(&self, data: DataId, segments: Vec<Segment>) -> Content {
        Content::Object(Box::new(Object {
            size: segments.iter().map(|segment| segment.size).sum(),
            etag: "etag".to_owned(),
            properties: Properties::default(),
            checksum: Checksum {
                algorithm: ChecksumAlgorithm::Crc32,
                kind: ChecksumKind::FullObject,
                value: "AAAAAA==".to_owned(),
            },
            parts: Vec::new(),
            envelope: self.envelope.clone(),
            segments,
            data,
        }))
    }

    pub(in crate::local_s3) fn put(&self, key: &str, bytes: &[u8]) -> Arc<Version> {
        self.put_if(key, bytes, |_| Ok(())).unwrap()
    }

    fn put_if(
        &self,
        key: &str,
        bytes: &[u8],
        allowed: impl FnOnce(Option<&Version>) -> Result<(), StoreError>,
    ) -> Result<Arc<Version>, StoreError> {
        let bucket = self.bucket();
        let pending = self.write(bucket.create_data().unwrap(), bytes);
        let segment = Segment {
            number: pending.number(),
            size: bytes.len() as u64,
        };
        let content = self.object(pending.data().clone(), vec![segment]);
        let draft = Draft {
            content,
            last_modified: None,
            sequence: None,
        };
        bucket.put(key, draft, Some(pending), allowed)
    }

    fn read(&self, key: &str, version_id: Option<&VersionId>) -> Option<Vec<u8>> {
        let (version, pin) = self.bucket().look_up(key, version_id)?;
        Some(read_all(&self.keys, version.object()?, &pin?))
    }

    pub(in crate::local_s3) fn version(&self, versioning: Versioning) {
        let changed: Result<_, StoreError> = self.bucket().update_config(|bucket| {
            bucket.versioning = versioning;
            Ok(())
        });
        changed.unwrap();
    }

    fn data_files(&self) -> BTreeSet<String> {
        files_below(&self.dir.path().join("buckets").join(BUCKET).join("data"))
    }
}

fn read_all(keys: &DataKeys, object: &Object, pin: &DataPin) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in &object.segments {
        let file = pin.open(*segment).unwrap();
        let mut reader = SegmentReader::open(file, keys, segment.number, segment.size).unwrap();
        reader.read_at(0, usize::MAX, &mut bytes).unwrap();
    }
    bytes
}

fn files_below(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for shard in fs::read_dir(dir).unwrap() {
        for file in fs::read_dir(shard.unwrap().path()).unwrap() {
            found.insert(file.unwrap().file_name().into_string().unwrap());
        }
    }
    found
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Delete(usize),
    /// Removes the version of a key at a place, newest first.
    DeleteVersion(usize, usize),
    Enable,
    Suspend,
    Reopen,
}

const KEYS: [&str; 6] = ["a", "a/", "a/b", "..", "/a", "ä\n%2F+"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS.len()).prop_map(Step::Put),
        3 => (0..KEYS.len()).prop_map(Step::Delete),
        3 => (0..KEYS.len(), 0..3_usize).prop_map(|(key, place)| Step::DeleteVersion(key, place)),
        1 => Just(Step::Enable),
        1 => Just(Step::Suspend),
        1 => Just(Step::Reopen),
    ]
}

/// What S3 documents of versioning, with the bytes of each version; `None` is a delete marker.
#[derive(Default)]
struct Model {
    versioning: Versioning,
    keys: BTreeMap<&'static str, Vec<ModelVersion>>,
}

type ModelVersion = (VersionId, Option<Vec<u8>>);

impl Model {
    fn write(&mut self, key: &'static str, id: VersionId, bytes: Option<Vec<u8>>) {
        let versions = self.keys.entry(key).or_default();
        versions.retain(|(other, _)| id != *other);
        versions.insert(0, (id, bytes));
    }

    fn remove(&mut self, key: &'static str, id: &VersionId) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.retain(|(other, _)| id != other);
        }
        self.keys.retain(|_, versions| !versions.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is written, deleted, switched and restarted: keys, versions, their order and their bytes are those of
    /// the model, and there is one file of data for each object.
    #[test]
    fn behaves_like_the_model(steps in prop::collection::vec(step(), 1..25)) {
        let mut fixture = Fixture::new();
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            apply(&mut fixture, &mut model, number, step);
        }
        let bucket = fixture.bucket();
        let index = bucket.keys();
        let listed: Vec<_> = index.from(Bound::Unbounded).collect();
        prop_assert_eq!(listed.len(), model.keys.len());
        let mut objects = 0;
        for ((key, versions), (model_key, model_versions)) in listed.into_iter().zip(&model.keys) {
            prop_assert_eq!(key, *model_key);
            let ids: Vec<_> = versions.iter().map(|version| version.version_id.clone()).collect();
            let model_ids: Vec<_> = model_versions.iter().map(|(id, _)| id.clone()).collect();
            prop_assert_eq!(ids, model_ids);
            for (id, bytes) in model_versions {
                prop_assert_eq!(&fixture.read(key, Some(id)), bytes);
                objects += usize::from(bytes.is_some());
            }
        }
        prop_assert_eq!(fixture.data_files().len(), objects);
    }
}

fn apply(fixture: &mut Fixture, model: &mut Model, number: usize, step: Step) {
    match step {
        Step::Put(key) => {
            let bytes = format!("bytes {number}").into_bytes();
            let version = fixture.put(KEYS[key], &bytes);
            assert_eq!(
                version.version_id == VersionId::Null,
                model.versioning != Versioning::Enabled
            );
            model.write(KEYS[key], version.version_id.clone(), Some(bytes));
        }
        Step::Delete(key) => match fixture
            .bucket()
            .delete::<StoreError>(KEYS[key], |_| Ok(()))
            .unwrap()
        {
            Deleted::Removed => {
                assert_eq!(model.versioning, Versioning::Unversioned);
                model.remove(KEYS[key], &VersionId::Null);
            }
            Deleted::Marker(marker) => model.write(KEYS[key], marker.version_id.clone(), None),
        },
        Step::DeleteVersion(key, place) => {
            let there = model
                .keys
                .get(KEYS[key])
                .and_then(|versions| versions.get(place));
            let id = there.map_or(VersionId::from("none"), |(id, _)| id.clone());
            let removed = fixture
                .bucket()
                .delete_version::<StoreError>(KEYS[key], &id, |_| Ok(()))
                .unwrap();
            assert_eq!(removed.is_some(), there.is_some());
            model.remove(KEYS[key], &id);
        }
        Step::Enable => {
            fixture.version(Versioning::Enabled);
            model.versioning = Versioning::Enabled;
        }
        Step::Suspend if model.versioning == Versioning::Enabled => {
            fixture.version(Versioning::Suspended);
            model.versioning = Versioning::Suspended;
        }
        Step::Suspend => {}
        Step::Reopen => fixture.reopen(),
    }
}

/// A kill can leave: a description that was not renamed yet, data without a description, an upload without one, and an
/// upload whose object was already committed. All of it goes at the next start, and nothing else does.
#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    let mut fixture = Fixture::new();
    fixture.put("kept", b"kept");
    let (state, part) = begin_upload(&fixture, "done", b"part");
    let bucket_dir = fixture.dir.path().join("buckets").join(BUCKET);
    let upload_dir = bucket_dir.join("uploads").join(&state.upload.upload_id);
    let upload_json = fs::read(upload_dir.join("upload.json")).unwrap();
    let content = fixture.object(state.upload.data(), vec![part.segment]);
    let completed: Result<_, StoreError> =
        fixture
            .bucket()
            .complete_upload(&state, |_| Ok(content), |_| Ok(()));
    completed.unwrap();
    let (open, _) = begin_upload(&fixture, "open", b"goes on");
    let expected = fixture.data_files();

    fs::create_dir(&upload_dir).unwrap();
    fs::write(upload_dir.join("upload.json"), upload_json).unwrap();
    fs::create_dir(bucket_dir.join("uploads/begun")).unwrap();
    fs::write(fixture.dir.path().join("tmp/half"), b"{\"key\":").unwrap();
    std::mem::forget(fixture.write(fixture.bucket().create_data().unwrap(), b"never committed"));
    assert_ne!(fixture.data_files(), expected);
    fixture.reopen();

    assert_eq!(fixture.data_files(), expected);
    assert_eq!(
        fs::read_dir(fixture.dir.path().join("tmp"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(fixture.read("kept", None).unwrap(), b"kept");
    assert_eq!(fixture.read("done", None).unwrap(), b"part");
    let uploads = fixture.bucket().uploads();
    assert_eq!(
        uploads
            .iter()
            .map(|state| &state.upload)
            .collect::<Vec<_>>(),
        [&open.upload]
    );
    assert_eq!(uploads[0].parts().len(), 1);
}

fn begin_upload(fixture: &Fixture, key: &str, bytes: &[u8]) -> (Arc<UploadState>, Part) {
    let bucket = fixture.bucket();
    let upload = Upload {
        key: key.to_owned(),
        upload_id: bucket.new_upload_id(),
        initiated: Moment::now(),
        sequence: bucket.next_sequence(),
        had_object: false,
        properties: Properties::default(),
        envelope: fixture.envelope.clone(),
        checksum: None,
    };
    bucket.create_upload(upload.clone()).unwrap();
    let state = bucket.upload(key, &upload.upload_id).unwrap();
    let pending = fixture.write(bucket.create_part_data(&state).unwrap(), bytes);
    let part = Part {
        number: 1,
        etag: "etag".to_owned(),
        last_modified: Moment::now(),
        checksum: "AAAAAA==".to_owned(),
        segment: Segment {
            number: pending.number(),
            size: bytes.len() as u64,
        },
    };
    bucket.put_part(&state, part.clone(), pending).unwrap();
    (state, part)
}

/// A reader that has begun sees its object to the end, and the bytes go when it is done.
#[test]
fn replaced_data_stays_as_long_as_it_is_read() {
    let fixture = Fixture::new();
    fixture.put("key", b"old");
    let (version, pin) = fixture.bucket().look_up("key", None).unwrap();
    let pin = pin.unwrap();
    fixture.put("key", b"new");
    assert_eq!(fixture.data_files().len(), 2);
    assert_eq!(
        read_all(&fixture.keys, version.object().unwrap(), &pin),
        b"old"
    );
    drop(pin);
    assert_eq!(fixture.data_files().len(), 1);
    assert_eq!(fixture.read("key", None).unwrap(), b"new");
}

/// Of many writers that each want to be the first, one is; the others leave nothing behind.
#[test]
fn one_writer_wins_under_a_condition() {
    let fixture = Fixture::new();
    let winners = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let (fixture, winners) = (&fixture, &winners);
            scope.spawn(move || {
                let absent = |current: Option<&Version>| match current {
                    None => Ok(()),
                    Some(_) => Err(StoreError::NoSuchVersion),
                };
                if fixture.put_if("key", &[writer], absent).is_ok() {
                    winners.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(winners.into_inner(), 1);
    assert_eq!(fixture.data_files().len(), 1);
}

/// A folder has one user at a time, and a bucket that is gone takes no writes.
#[test]
fn folders_and_removed_buckets_are_closed() {
    let fixture = Fixture::new();
    assert!(matches!(
        Store::open(fixture.dir.path()),
        Err(StoreError::InUse(_))
    ));
    let bucket = fixture.bucket();
    let version = fixture.put("key", b"x");
    let store = fixture.store.as_ref().unwrap();
    assert!(matches!(
        store.delete_bucket(BUCKET),
        Err(StoreError::BucketNotEmpty(_))
    ));
    bucket
        .delete_version::<StoreError>("key", &version.version_id, |_| Ok(()))
        .unwrap();
    store.delete_bucket(BUCKET).unwrap();
    let late: Result<_, StoreError> = bucket.delete("key", |_| Ok(()));
    assert!(matches!(late, Err(StoreError::NoSuchBucket(_))));
    assert!(!fixture.dir.path().join("buckets").join(BUCKET).exists());
}
