//! Pages of a listing, as the store gives them: whether they are in order is whoever's to see who puts them together.

use std::cmp::Ordering;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, DeleteMarkerEntry, EncodingType, Object, ObjectVersion,
};

use super::request::decoded_strictly;
use super::{S3, answer, unreadable};
use crate::event::Operation;
use crate::object::{ListedObject, NULL_VERSION};
use crate::s3_error::S3Error;

/// How long one page may take. Source: none; a page behind a million delete markers takes S3 many seconds.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// What it shows. Of versions, those of one key are together, in no promised order.
    pub rows: Vec<ListedObject>,
    /// Whether the store says that there is more.
    pub has_more: bool,
    /// ListObjectsV2's token for the next page.
    pub token: Option<String>,
    /// ListObjectVersions' markers for the next page.
    pub next: Option<(String, Option<String>)>,
}

impl S3 {
    /// ListObjectsV2: a page of the keys with a prefix behind a key, at most `rows_max` of them. A token goes on behind an earlier page.
    ///
    /// # Errors
    /// What the store answered; a key that can't be read.
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        token: Option<&str>,
        rows_max: u16,
    ) -> Result<ListPage, S3Error> {
        let operation = "ListObjectsV2";
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let request = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .set_prefix(some(prefix))
            .set_start_after(some(after))
            .set_continuation_token(token.map(str::to_owned))
            .max_keys(i32::from(rows_max))
            // Keys may hold characters that XML can't.
            .encoding_type(EncodingType::Url);
        let page = answer(LIST_TIMEOUT, operation, request.send()).await?;
        let encoding = page.encoding_type();
        let rows = page.contents().iter();
        let rows = rows.map(|object| object_in(object, encoding));
        Ok(ListPage {
            rows: rows
                .collect::<Option<_>>()
                .ok_or_else(|| no_key(operation))?,
            has_more: page.is_truncated() == Some(true),
            token: page.next_continuation_token().and_then(some),
            next: None,
        })
    }

    /// ListObjectVersions: a page of the versions and delete markers of the keys with a prefix, behind all of a key or behind one of its
    /// versions, at most `rows_max` of them.
    ///
    /// # Errors
    /// What the store answered; a key that can't be read.
    pub async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        key_marker: &str,
        version_id_marker: Option<&str>,
        rows_max: u16,
    ) -> Result<ListPage, S3Error> {
        let operation = Operation::ListObjectVersions.name();
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let request = self
            .client
            .list_object_versions()
            .bucket(bucket)
            .set_prefix(some(prefix))
            .set_key_marker(some(key_marker))
            .set_version_id_marker(version_id_marker.map(str::to_owned))
            .max_keys(i32::from(rows_max))
            // Keys may hold characters that XML can't.
            .encoding_type(EncodingType::Url);
        let page = answer(LIST_TIMEOUT, operation, request.send()).await?;
        let encoding = page.encoding_type();
        let versions = page.versions().iter();
        let versions = versions.map(|version| version_in(version, encoding));
        let markers = page.delete_markers().iter();
        let markers = markers.map(|marker| marker_in(marker, encoding));
        let versions = versions.collect::<Option<_>>();
        let markers = markers.collect::<Option<_>>();
        let (versions, markers) = versions.zip(markers).ok_or_else(|| no_key(operation))?;
        let next_key = page.next_key_marker().filter(|key| !key.is_empty());
        let next_key =
            next_key.map(|key| decoded_strictly(key, encoding).ok_or_else(|| no_key(operation)));
        let next_version = page.next_version_id_marker().and_then(some);
        Ok(ListPage {
            rows: merged(versions, markers),
            has_more: page.is_truncated() == Some(true),
            token: None,
            next: next_key.transpose()?.map(|key| (key, next_version)),
        })
    }
}

fn no_key(operation: &'static str) -> S3Error {
    unreadable(operation, "a listing with a key that is none, or no UTF-8")
}

/// Two lists in the order of their keys as one; one that is in no order stays in none.
fn merged(versions: Vec<ListedObject>, markers: Vec<ListedObject>) -> Vec<ListedObject> {
    let mut all = Vec::with_capacity(versions.len() + markers.len());
    let (mut versions, mut markers) = (
        versions.into_iter().peekable(),
        markers.into_iter().peekable(),
    );
    loop {
        let order = match (versions.peek(), markers.peek()) {
            (Some(version), Some(marker)) => version.key.cmp(&marker.key),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let next = match order {
            Ordering::Less | Ordering::Equal => versions.next(),
            Ordering::Greater => markers.next(),
        };
        match next {
            Some(row) => all.push(row),
            None => return all,
        }
    }
}

fn object_in(object: &Object, encoding: Option<&EncodingType>) -> Option<ListedObject> {
    Some(ListedObject {
        key: key_in(object.key(), encoding)?,
        version_id: None,
        is_latest: true,
        is_delete_marker: false,
        size: size_in(object.size()),
        last_modified_ms: millis_in(object.last_modified()),
        etag: etag_in(object.e_tag()),
        storage_class: object
            .storage_class()
            .map(|class| class.as_str().to_owned()),
        checksum_algorithm: algorithms_in(object.checksum_algorithm()),
    })
}

fn version_in(version: &ObjectVersion, encoding: Option<&EncodingType>) -> Option<ListedObject> {
    Some(ListedObject {
        key: key_in(version.key(), encoding)?,
        version_id: Some(id_in(version.version_id())),
        is_latest: version.is_latest() == Some(true),
        is_delete_marker: false,
        size: size_in(version.size()),
        last_modified_ms: millis_in(version.last_modified()),
        etag: etag_in(version.e_tag()),
        storage_class: version
            .storage_class()
            .map(|class| class.as_str().to_owned()),
        checksum_algorithm: algorithms_in(version.checksum_algorithm()),
    })
}

fn marker_in(marker: &DeleteMarkerEntry, encoding: Option<&EncodingType>) -> Option<ListedObject> {
    Some(ListedObject {
        key: key_in(marker.key(), encoding)?,
        version_id: Some(id_in(marker.version_id())),
        is_latest: marker.is_latest() == Some(true),
        is_delete_marker: true,
        last_modified_ms: millis_in(marker.last_modified()),
        ..ListedObject::default()
    })
}

fn key_in(key: Option<&str>, encoding: Option<&EncodingType>) -> Option<String> {
    decoded_strictly(key?, encoding).filter(|key| !key.is_empty())
}

fn id_in(version_id: Option<&str>) -> String {
    let id = version_id.filter(|id| !id.is_empty());
    id.unwrap_or(NULL_VERSION).to_owned()
}

fn size_in(size: Option<i64>) -> Option<u64> {
    size.and_then(|size| u64::try_from(size).ok())
}

fn millis_in(at: Option<&DateTime>) -> Option<i64> {
    at.and_then(|at| at.to_millis().ok())
}

fn etag_in(etag: Option<&str>) -> Option<String> {
    etag.map(|etag| etag.trim_matches('"').to_owned())
}

fn algorithms_in(algorithms: &[ChecksumAlgorithm]) -> Option<String> {
    let names: Vec<_> = algorithms.iter().map(ChecksumAlgorithm::as_str).collect();
    (!names.is_empty()).then(|| names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[&str], is_delete_marker: bool) -> Vec<ListedObject> {
        let row = |key: &&str| ListedObject {
            key: (*key).to_owned(),
            is_delete_marker,
            ..ListedObject::default()
        };
        keys.iter().map(row).collect()
    }

    #[test]
    fn versions_and_markers_of_a_key_come_together() {
        let all = merged(rows(&["a", "b", "b", "d"], false), rows(&["a", "c"], true));
        let keys: Vec<_> = all
            .iter()
            .map(|row| (row.key.as_str(), row.is_delete_marker))
            .collect();
        let expected = [
            ("a", false),
            ("a", true),
            ("b", false),
            ("b", false),
            ("c", true),
            ("d", false),
        ];
        assert_eq!(keys, expected);
        let unsorted = merged(rows(&["b", "a"], false), rows(&["a"], true));
        assert!(!unsorted.is_sorted_by(|one, next| one.key <= next.key));
    }
}
