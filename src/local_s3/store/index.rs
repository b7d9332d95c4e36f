//! The versions of a bucket's keys in memory, in the order in which S3 lists them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::local_s3::model::{Version, VersionId};

/// Keys in UTF-8 binary order, each with its versions, newest first. No key is without versions.
#[derive(Debug, Default)]
pub struct KeyIndex {
    keys: BTreeMap<String, Vec<Arc<Version>>>,
}

impl KeyIndex {
    /// Whether there are neither objects nor delete markers.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The versions of a key, newest first; empty when there are none.
    pub fn versions(&self, key: &str) -> &[Arc<Version>] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// The newest version of a key, which may be a delete marker.
    pub fn current(&self, key: &str) -> Option<&Arc<Version>> {
        self.versions(key).first()
    }

    /// One version of a key.
    pub fn version(&self, key: &str, version_id: &VersionId) -> Option<&Arc<Version>> {
        self.versions(key)
            .iter()
            .find(|version| version.version_id == *version_id)
    }

    /// Keys from a bound on, in order, each with its versions, newest first.
    pub fn from<'a>(
        &'a self,
        start: Bound<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a [Arc<Version>])> + use<'a> {
        let range = self.keys.range::<str, _>((start, Bound::Unbounded));
        range.map(|(key, versions)| (key.as_str(), versions.as_slice()))
    }

    /// Puts a version in its place; gives back the one with the same id, which it replaces.
    pub(super) fn insert(&mut self, version: Arc<Version>) -> Option<Arc<Version>> {
        if !self.keys.contains_key(&version.key) {
            self.keys.insert(version.key.clone(), vec![version]);
            return None;
        }
        let replaced = self.take(&version.key, &version.version_id);
        let versions = self.keys.entry(version.key.clone()).or_default();
        let place = versions.partition_point(|other| other.sequence > version.sequence);
        versions.insert(place, version);
        replaced
    }

    /// Takes a version out.
    pub(super) fn remove(&mut self, key: &str, version_id: &VersionId) -> Option<Arc<Version>> {
        let removed = self.take(key, version_id)?;
        if self.versions(key).is_empty() {
            self.keys.remove(key);
        }
        Some(removed)
    }

    fn take(&mut self, key: &str, version_id: &VersionId) -> Option<Arc<Version>> {
        let versions = self.keys.get_mut(key)?;
        let place = versions
            .iter()
            .position(|version| version.version_id == *version_id)?;
        Some(versions.remove(place))
    }
}
