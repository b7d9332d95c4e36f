//! ListObjectVersions.

use std::ops::Bound;
use std::sync::Arc;

use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, DeleteMarkerEntry, ETag, ListObjectVersionsInput,
    ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Names, Scope, behind};
use crate::local_s3::front::VersionsInOrder;
use crate::local_s3::model::{Version, VersionId};
use crate::local_s3::service::Service;
use crate::local_s3::service::acl::owner;
use crate::local_s3::store::KeyIndex;

/// Lists all versions and delete markers, newest first within a key.
pub(in crate::local_s3::service) fn list_object_versions(
    service: &Service,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let names = Names::of(input.encoding_type.as_ref())?;
    let scope = Scope::of(input.prefix, input.delimiter, input.max_keys, "maxKeys")?;
    let key_marker = input.key_marker.unwrap_or_default();
    let version_id_marker = input.version_id_marker.filter(|marker| !marker.is_empty());
    if version_id_marker.is_some() && key_marker.is_empty() {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "A version-id marker cannot be specified without a key marker.",
        ));
    }
    let page = Page::read(
        &bucket.keys(),
        &scope,
        &key_marker,
        version_id_marker.as_deref(),
    );
    let next = page.last.as_ref().filter(|_| page.truncated);
    let mut output = ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(names.write(&scope.prefix)),
        delimiter: scope
            .delimiter
            .as_deref()
            .map(|delimiter| names.write(delimiter)),
        key_marker: Some(names.write(&key_marker)),
        version_id_marker: Some(version_id_marker.unwrap_or_default()),
        next_key_marker: next.map(|(key, _)| names.write(key)),
        next_version_id_marker: next
            .and_then(|(_, version_id)| version_id.as_ref().map(VersionId::to_string)),
        max_keys: Some(scope.shown_max()),
        is_truncated: Some(page.truncated),
        encoding_type: input.encoding_type,
        common_prefixes: Some(names.prefixes(&page.prefixes)),
        ..ListObjectVersionsOutput::default()
    };
    let (markers, objects): (Vec<_>, Vec<_>) = page
        .versions
        .iter()
        .partition(|(v, _)| v.is_delete_marker());
    output.delete_markers = Some(
        markers
            .iter()
            .map(|(v, latest)| listed_marker(v, *latest, names))
            .collect(),
    );
    output.versions = Some(
        objects
            .iter()
            .filter_map(|(v, latest)| listed(v, *latest, names))
            .collect(),
    );
    let kinds = page.versions.iter().map(|(v, _)| v.is_delete_marker());
    let order = VersionsInOrder(kinds.collect());
    let mut response = S3Response::new(output);
    response.extensions.insert(order);
    Ok(response)
}

/// One page.
#[derive(Default)]
struct Page {
    /// Each with whether it is its key's newest.
    versions: Vec<(Arc<Version>, bool)>,
    prefixes: Vec<String>,
    truncated: bool,
    /// The last entry: a key with a version, or a common prefix.
    last: Option<(String, Option<VersionId>)>,
}

impl Page {
    fn read(
        index: &KeyIndex,
        scope: &Scope,
        key_marker: &str,
        version_id_marker: Option<&str>,
    ) -> Self {
        let mut page = Self::default();
        let mut place = match version_id_marker {
            // The key goes on behind the version that the marker names.
            Some(_) if key_marker >= scope.prefix.as_str() => {
                Bound::Included(key_marker.to_owned())
            }
            None if scope.is_group(key_marker) => behind(key_marker),
            _ => scope.start(Some(key_marker)),
        };
        while scope.max > 0 && !page.truncated {
            let next = index.from(place.as_ref().map(String::as_str)).next();
            let Some((key, versions)) = next.filter(|(key, _)| key.starts_with(&scope.prefix))
            else {
                break;
            };
            place = Bound::Excluded(key.to_owned());
            if let Some(group) = scope.group(key) {
                place = page
                    .add_group(group, scope.max, key_marker)
                    .unwrap_or(place);
                continue;
            }
            let passed = version_id_marker
                .filter(|_| key == key_marker)
                .map(VersionId::from);
            let begin =
                passed.and_then(|passed| versions.iter().position(|v| v.version_id == passed));
            page.add_versions(versions, begin.map_or(0, |passed| passed + 1), scope.max);
        }
        page
    }

    /// Adds a common prefix unless it was listed; gives the place behind it.
    fn add_group(&mut self, group: &str, max: usize, key_marker: &str) -> Option<Bound<String>> {
        if self.prefixes.last().is_some_and(|last| last == group) || key_marker == group {
            return None;
        }
        if self.len() == max {
            self.truncated = true;
            return None;
        }
        self.prefixes.push(group.to_owned());
        self.last = Some((group.to_owned(), None));
        Some(behind(group))
    }

    fn add_versions(&mut self, versions: &[Arc<Version>], begin: usize, max: usize) {
        for (place, version) in versions.iter().enumerate().skip(begin) {
            if self.len() == max {
                self.truncated = true;
                return;
            }
            self.versions.push((version.clone(), place == 0));
            self.last = Some((version.key.clone(), Some(version.version_id.clone())));
        }
    }

    fn len(&self) -> usize {
        self.versions.len() + self.prefixes.len()
    }
}

fn listed_marker(version: &Version, is_latest: bool, names: Names) -> DeleteMarkerEntry {
    DeleteMarkerEntry {
        key: Some(names.write(&version.key)),
        version_id: Some(version.version_id.to_string()),
        is_latest: Some(is_latest),
        last_modified: Some(Timestamp::from(version.last_modified.whole_second())),
        owner: Some(owner()),
    }
}

fn listed(version: &Version, is_latest: bool, names: Names) -> Option<ObjectVersion> {
    let object = version.object()?;
    Some(ObjectVersion {
        key: Some(names.write(&version.key)),
        version_id: Some(version.version_id.to_string()),
        is_latest: Some(is_latest),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        size: i64::try_from(object.size).ok(),
        last_modified: Some(Timestamp::from(version.last_modified.whole_second())),
        storage_class: Some(ObjectVersionStorageClass::from(
            object.properties.storage_class.clone(),
        )),
        owner: Some(owner()),
        checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(
            object.checksum.algorithm.as_str(),
        )]),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.as_str())),
        restore_status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_s3::service::list::tests::{bucket_with, scope};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Pages of any size, put together by their markers, are the one big page.
        #[test]
        fn pages_are_the_whole_in_pieces(
            prefix in prop::sample::select(vec!["", "a", "a/", "b", "\u{10FFFF}", "zz"]),
            delimiter in prop::sample::select(vec!["", "/", "//", "b"]),
            max in 1..6_usize,
        ) {
            let (bucket, _) = bucket_with();
            let index = bucket.keys();
            let names = |page: &Page| {
                let ids = page.versions.iter().map(|(v, latest)| (v.key.clone(), v.version_id.to_string(), *latest));
                (ids.collect::<Vec<_>>(), page.prefixes.clone())
            };
            let whole = names(&Page::read(&index, &scope(prefix, delimiter, 1_000), "", None));
            let (mut versions, mut prefixes) = (Vec::new(), Vec::new());
            let (mut key_marker, mut id_marker) = (String::new(), None);
            loop {
                let page = Page::read(&index, &scope(prefix, delimiter, max), &key_marker, id_marker.as_deref());
                prop_assert!(page.len() == max || !page.truncated);
                let listed = names(&page);
                versions.extend(listed.0);
                prefixes.extend(listed.1);
                prop_assert!(versions.len() <= whole.0.len());
                if !page.truncated {
                    break;
                }
                let (key, id) = page.last.unwrap();
                (key_marker, id_marker) = (key, id.map(String::from));
            }
            prop_assert_eq!((versions, prefixes), whole);
        }
    }
}
