//! Objects in a bucket that keeps versions: they tell how often each was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use super::objects::{self, Under};
use super::{BUCKET, Job, Store};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Much longer than a copy of a few bytes takes.
const QUIET: Duration = Duration::from_millis(300);

/// A store with objects in a bucket that keeps versions: they count how often an object was changed, whatever the log missed.
pub struct Versioned {
    pub store: Store,
    pub keys: Vec<String>,
    pub arn: String,
}

impl Versioned {
    pub async fn with_objects(count: usize) -> Self {
        let store = Store::start().await;
        let enabled = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let versioning = store.client.put_bucket_versioning().bucket(BUCKET);
        let versioning = versioning.versioning_configuration(enabled);
        versioning.send().await.expect("versioning");
        let keys: Vec<_> = (0..count).map(|n| format!("object/{n}")).collect();
        objects::put_many(&store.client, &keys).await;
        let arn = store.add_kms_key(None);
        Self { store, keys, arn }
    }

    pub fn job(&self) -> Job {
        let job = self.store.job(&self.keys);
        job.args("--to sse-kms --kms-key-id").args(&self.arn)
    }

    pub fn copied(&self) -> usize {
        self.store.copies().len()
    }

    /// Waits until so many objects have been copied.
    pub fn wait_for_copies(&self, count: usize) {
        let begun = Instant::now();
        while self.copied() < count {
            assert!(begun.elapsed() < PATIENCE, "{} copies", self.copied());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until there have been so many writes, or nothing more comes.
    pub fn wait_for_writes(&self, count: u64) {
        let begun = Instant::now();
        let mut seen = (self.store.writes(), Instant::now());
        while seen.0 < count && seen.1.elapsed() < 4 * QUIET {
            assert!(begun.elapsed() < PATIENCE, "{} writes", seen.0);
            std::thread::sleep(Duration::from_millis(5));
            let writes = self.store.writes();
            if writes > seen.0 {
                seen = (writes, Instant::now());
            }
        }
    }

    /// Waits until nothing is copied any more: for as long as a copy never takes.
    pub fn wait_until_quiet(&self) {
        let mut seen = (self.copied(), Instant::now());
        while seen.1.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(20));
            let copied = self.copied();
            if copied > seen.0 {
                seen = (copied, Instant::now());
            }
        }
    }

    /// How many versions each key has.
    pub async fn versions(&self) -> BTreeMap<String, u64> {
        let mut versions = BTreeMap::new();
        for (key, _) in self.listed().await {
            *versions.entry(key).or_default() += 1;
        }
        versions
    }

    /// Every version: its key and its id.
    pub async fn listed(&self) -> BTreeSet<(String, String)> {
        let mut versions = BTreeSet::new();
        let (mut key, mut id) = (None, None);
        loop {
            let list = self.store.client.list_object_versions().bucket(BUCKET);
            let list = list.set_key_marker(key).set_version_id_marker(id);
            let page = list.send().await.expect("a page");
            for version in page.versions() {
                let key = version.key().expect("a key").to_owned();
                let id = version.version_id().expect("an id").to_owned();
                versions.insert((key, id));
            }
            if page.is_truncated() != Some(true) {
                return versions;
            }
            (key, id) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    /// Every object has been changed exactly once, is under the target and has its bytes; the report has it once.
    pub async fn assert_complete(&self, job: &Job) {
        let versions = self.versions().await;
        assert_eq!(versions.len(), self.keys.len());
        let wrong: Vec<_> = versions.iter().filter(|(_, count)| **count != 2).collect();
        assert!(wrong.is_empty(), "versions of each key: {wrong:?}");
        let copies = self.store.copies();
        let more: Vec<_> = copies.iter().filter(|(_, count)| **count > 1).collect();
        assert!(more.is_empty(), "copied more than once: {more:?}");

        let report = job.report();
        let mut rows: Vec<_> = report.iter().map(|row| row.key.clone()).collect();
        rows.sort();
        let mut keys = self.keys.clone();
        keys.sort();
        assert_eq!(rows, keys);
        assert!(
            report.iter().all(|row| row.status == "succeeded"),
            "{report:?}"
        );
        for key in self.keys.iter().step_by(self.keys.len() / 20) {
            let head = objects::head(&self.store.client, key, None).await;
            assert!(Under::Kms(self.arn.clone()).is_shown_by(&head), "{key}");
            let read = objects::read(&self.store.client, key, None).await;
            assert_eq!(read.as_deref(), Ok(key.as_bytes()));
        }
    }
}
