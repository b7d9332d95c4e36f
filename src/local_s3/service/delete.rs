//! DeleteObject and DeleteObjects.

use hyper::HeaderMap;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETag, ETagCondition, Error, ObjectIdentifier,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::sync::Arc;

use super::lock::check_removable;
use super::object_version::parse_version_id;
use super::put::check_key;
use super::read::no_such_key;
use super::{Service, blocking};
use crate::local_s3::error::{default_message, with_detail};
use crate::local_s3::model::Version;
use crate::local_s3::store::{BucketStore, Deleted};

/// The most keys of one DeleteObjects. Source: S3 API, DeleteObjects.
const KEYS_MAX: usize = 1_000;

/// One thing to delete, and under which condition.
struct Wish {
    key: String,
    version_id: Option<String>,
    if_match: Option<ETagCondition>,
    bypass_governance: bool,
}

/// What became of it.
#[derive(Default)]
struct Done {
    /// Whether a delete marker was written or removed.
    delete_marker: bool,
    /// The version that was removed, or the delete marker that was written.
    version_id: Option<String>,
}

/// Deletes an object, or one version of it.
pub(super) async fn delete_object(
    service: &Service,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
        let error = S3Error::with_message(
            S3ErrorCode::NotImplemented,
            default_message("NotImplemented"),
        );
        return Err(with_detail(
            error,
            "Header",
            "x-amz-if-match-size,x-amz-if-match-last-modified-time",
        ));
    }
    let wish = Wish {
        key: input.key,
        version_id: input.version_id,
        if_match: input.if_match,
        bypass_governance: input.bypass_governance_retention == Some(true),
    };
    let done = blocking(move || wish.fulfil(&bucket)).await?;
    Ok(S3Response::new(DeleteObjectOutput {
        delete_marker: done.delete_marker.then_some(true),
        version_id: done.version_id,
        ..DeleteObjectOutput::default()
    }))
}

/// Deletes up to a thousand; each succeeds or fails on its own.
pub(super) async fn delete_objects(
    service: &Service,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    require_integrity_header(&req.headers)?;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(S3Error::with_message(
            S3ErrorCode::MalformedXML,
            default_message("MalformedXML"),
        ));
    }
    let quiet = input.delete.quiet == Some(true);
    let bypass_governance = input.bypass_governance_retention == Some(true);
    let (deleted, errors) =
        blocking(move || Ok(delete_each(&bucket, objects, bypass_governance))).await?;
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(if quiet { Vec::new() } else { deleted }),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

fn delete_each(
    bucket: &Arc<BucketStore>,
    objects: Vec<ObjectIdentifier>,
    bypass_governance: bool,
) -> (Vec<DeletedObject>, Vec<Error>) {
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in objects {
        let (key, version_id) = (object.key.clone(), object.version_id.clone());
        let if_match = object.e_tag.map(ETagCondition::ETag);
        let wish = Wish {
            key: object.key,
            version_id: object.version_id,
            if_match,
            bypass_governance,
        };
        match wish.fulfil(bucket) {
            Ok(done) => deleted.push(DeletedObject {
                delete_marker: done.delete_marker.then_some(true),
                delete_marker_version_id: done.version_id.filter(|_| done.delete_marker),
                key: Some(key),
                version_id,
            }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                message: Some(
                    error
                        .message()
                        .unwrap_or(default_message(error.code().as_str()))
                        .to_owned(),
                ),
                key: Some(key),
                version_id,
            }),
        }
    }
    (deleted, errors)
}

/// S3 wants the list of keys protected against damage on the way.
fn require_integrity_header(headers: &HeaderMap) -> S3Result<()> {
    let protects = |name: &str| {
        name == "content-md5" || name == "x-amz-trailer" || name.starts_with("x-amz-checksum-")
    };
    if headers.keys().any(|name| protects(name.as_str())) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        "Missing required header for this request: Content-MD5",
    ))
}

impl Wish {
    fn fulfil(self, bucket: &BucketStore) -> S3Result<Done> {
        check_key(&self.key)?;
        let Some(asked) = parse_version_id(self.version_id.as_deref())? else {
            return Ok(
                match bucket.delete(&self.key, |current| self.check(current))? {
                    Deleted::Removed => Done::default(),
                    Deleted::Marker(marker) => Done {
                        delete_marker: true,
                        version_id: Some(marker.version_id.to_string()),
                    },
                },
            );
        };
        let removed = bucket.delete_version(&self.key, &asked, |version| {
            self.check(Some(version))?;
            check_removable(version, self.bypass_governance)
        })?;
        // A version that is not there counts as deleted.
        let delete_marker = removed.is_some_and(|version| version.is_delete_marker());
        Ok(Done {
            delete_marker,
            version_id: Some(asked.to_string()),
        })
    }

    fn check(&self, current: Option<&Version>) -> S3Result<()> {
        let Some(condition) = &self.if_match else {
            return Ok(());
        };
        let object = current
            .and_then(Version::object)
            .ok_or_else(|| no_such_key(&self.key))?;
        let holds = condition
            .as_etag()
            .map(ETag::value)
            .is_none_or(|etag| etag == object.etag);
        if holds {
            return Ok(());
        }
        let error = S3Error::with_message(
            S3ErrorCode::PreconditionFailed,
            default_message("PreconditionFailed"),
        );
        Err(with_detail(error, "Condition", "If-Match"))
    }
}
