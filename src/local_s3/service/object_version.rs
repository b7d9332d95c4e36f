//! The object version that a request about a subresource names: tags, ACL, lock, encryption.

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use s3s::{S3Error, S3Result, s3_error};

use crate::local_s3::error::{with_detail, with_header};
use crate::local_s3::model::{Bucket, Content, Object, Version, VersionId, Versioning};
use crate::local_s3::store::{BucketStore, StoreError};

/// Version ids are so many letters and digits; what is not is no id at all.
const VERSION_ID_CHARS: usize = 32;

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// Reads a `versionId` parameter.
///
/// # Errors
/// 400 InvalidArgument for what never was a version id.
pub(super) fn parse_version_id(text: Option<&str>) -> S3Result<Option<VersionId>> {
    let Some(text) = text else { return Ok(None) };
    let is_id = text.len() == VERSION_ID_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_id && text != "null" {
        let error = s3_error!(InvalidArgument, "Invalid version id specified");
        let error = with_detail(error, "ArgumentName", "versionId");
        return Err(with_detail(error, "ArgumentValue", text));
    }
    Ok(Some(VersionId::from(text)))
}

/// The named version, which is an object.
///
/// # Errors
/// 404 NoSuchKey or NoSuchVersion, 405 MethodNotAllowed for a delete marker that is named.
pub(super) fn find(
    bucket: &BucketStore,
    key: &str,
    version_id: Option<&VersionId>,
) -> S3Result<Arc<Version>> {
    let Some((version, _pin)) = bucket.look_up(key, version_id) else {
        return Err(missing(version_id));
    };
    if version.is_delete_marker() {
        return Err(is_delete_marker(version_id));
    }
    Ok(version)
}

/// Changes the named version in place: no new version, no new date.
///
/// # Errors
/// As [`find`], and what `change` says.
pub(super) fn change(
    bucket: &BucketStore,
    key: &str,
    version_id: Option<&VersionId>,
    change: impl FnOnce(&mut Object) -> S3Result,
) -> S3Result<Arc<Version>> {
    let changed = bucket.update(key, version_id, |version| match &mut version.content {
        Content::Object(object) => change(object).map_err(Refused::ByS3),
        Content::DeleteMarker => Err(Refused::ByS3(is_delete_marker(version_id))),
    });
    changed.map_err(|refused| match refused {
        Refused::ByS3(error) => error,
        Refused::ByStore(StoreError::NoSuchVersion) => missing(version_id),
        Refused::ByStore(error) => error.into(),
    })
}

/// The version's id as responses show it: not at all in a bucket that never had versioning.
pub(super) fn shown_id(bucket: &Bucket, version: &Version) -> Option<String> {
    let shown = bucket.versioning != Versioning::Unversioned;
    shown.then(|| version.version_id.to_string())
}

enum Refused {
    ByS3(S3Error),
    ByStore(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::ByStore(error)
    }
}

fn missing(version_id: Option<&VersionId>) -> S3Error {
    match version_id {
        None => s3_error!(NoSuchKey),
        Some(id) => with_detail(s3_error!(NoSuchVersion), "VersionId", id.as_str()),
    }
}

fn is_delete_marker(version_id: Option<&VersionId>) -> S3Error {
    let error = match version_id {
        None => s3_error!(NoSuchKey),
        Some(_) => s3_error!(MethodNotAllowed),
    };
    with_header(error, DELETE_MARKER, HeaderValue::from_static("true"))
}
