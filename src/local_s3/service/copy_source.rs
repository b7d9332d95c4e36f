//! The source of CopyObject and UploadPartCopy.

use std::sync::Arc;

use hyper::HeaderMap;
use s3s::{S3Error, S3ErrorCode, S3Result};
use time::OffsetDateTime;

use super::object_version::shown_id;
use super::properties::form_decoded;
use super::read::{Found, find};
use super::{ACCOUNT_ID, Service};
use crate::local_s3::conditions::SourceConditions;
use crate::local_s3::error::with_detail;
use crate::local_s3::model::{Moment, Version};

/// What `x-amz-copy-source` addresses.
pub(super) struct CopySource {
    bucket: String,
    pub key: String,
    version_id: Option<String>,
    conditions: SourceConditions,
}

impl CopySource {
    /// Reads the header: `bucket/key`, encoded as in a URL's query (a `+` is a space), a slash before it or not,
    /// `?versionId=` after it or not.
    ///
    /// s3s's own reading leaves a `+` as it is, which is another key.
    ///
    /// # Errors
    /// 400 InvalidArgument.
    pub(super) fn of(headers: &HeaderMap) -> S3Result<Self> {
        let bad = || {
            let message =
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
            let error = S3Error::with_message(S3ErrorCode::InvalidArgument, message);
            with_detail(error, "ArgumentName", "x-amz-copy-source")
        };
        let header = headers
            .get("x-amz-copy-source")
            .and_then(|value| value.to_str().ok())
            .ok_or_else(bad)?;
        let (path, version_id) = match header.split_once("?versionId=") {
            Some((path, version_id)) => (path, Some(form_decoded(version_id).ok_or_else(bad)?)),
            None => (header, None),
        };
        let path = form_decoded(path).ok_or_else(bad)?;
        let (bucket, key) = path
            .strip_prefix('/')
            .unwrap_or(&path)
            .split_once('/')
            .ok_or_else(bad)?;
        if bucket.is_empty() || key.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id,
            conditions: SourceConditions::from_headers(headers)?,
        })
    }

    /// Looks the source up and checks the conditions on it.
    ///
    /// # Errors
    /// 403 AccessDenied when the bucket is somebody else's; 404 when there is no such bucket, key or version; 400 InvalidRequest for a delete marker addressed by its id; 403
    /// InvalidObjectState for an archived source; 412 when a condition does not hold.
    pub(super) fn find(&self, service: &Service, expected_owner: Option<&str>) -> S3Result<Found> {
        let bucket = service.bucket(&self.bucket)?;
        if expected_owner.is_some_and(|owner| owner != ACCOUNT_ID) {
            return Err(S3Error::new(S3ErrorCode::AccessDenied));
        }
        let found = find(&bucket, &self.key, self.version_id.as_deref()).map_err(|error| {
            if *error.code() == S3ErrorCode::MethodNotAllowed {
                delete_marker_source()
            } else {
                error
            }
        })?;
        self.conditions
            .check(found.validators(), OffsetDateTime::now_utc())?;
        if found.object().properties.needs_restore(Moment::now()) {
            let message = "Operation is not valid for the source object's storage class";
            let error = S3Error::with_message(S3ErrorCode::InvalidObjectState, message);
            return Err(with_detail(
                error,
                "StorageClass",
                &found.object().properties.storage_class,
            ));
        }
        Ok(found)
    }

    /// Whether the source is what a write to this key would replace.
    pub(super) fn is(
        &self,
        bucket: &str,
        key: &str,
        found: &Found,
        current: Option<&Arc<Version>>,
    ) -> bool {
        let same_key = self.bucket == bucket && self.key == key;
        same_key && current.is_some_and(|current| current.version_id == found.version.version_id)
    }

    /// The version id that the response shows.
    pub(super) fn shown_version_id(found: &Found) -> Option<String> {
        shown_id(&found.config, &found.version)
    }
}

fn delete_marker_source() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        "The source of a copy request may not specifically refer to a delete marker by version id.",
    )
}
