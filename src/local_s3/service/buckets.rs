//! Buckets themselves: made, removed, looked at, listed.

use hyper::HeaderMap;
use s3s::dto::{
    Bucket as ListedBucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput,
    DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput,
    HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::acl::{self, owner};
use super::{Service, blocking};
use crate::local_s3::model::{Bucket, ObjectLock, Ownership, Versioning};
use crate::local_s3::store::StoreError;

/// The Region whose name is not said as a location, and where making a bucket again is no error.
/// Source: S3 API, CreateBucket and GetBucketLocation.
const FIRST_REGION: &str = "us-east-1";
/// The most buckets of a page. Source: S3 API, ListBuckets.
const BUCKETS_PAGE_MAX: usize = 10_000;

/// Makes a bucket.
pub(super) async fn create_bucket(
    service: &Service,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let bucket = wanted(service, &req.input, &req.headers)?;
    let location = format!("/{}", bucket.name);
    let is_first_region = service.region == FIRST_REGION;
    let store = service.store.clone();
    let created = blocking(move || match store.create_bucket(bucket) {
        Err(StoreError::BucketExists(_)) if is_first_region => Ok(()),
        other => Ok(other.map(drop)?),
    });
    created.await?;
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(location),
    }))
}

fn wanted(service: &Service, input: &CreateBucketInput, headers: &HeaderMap) -> S3Result<Bucket> {
    let constraint = input
        .create_bucket_configuration
        .as_ref()
        .and_then(|c| c.location_constraint.as_ref());
    let region = constraint
        .map(BucketLocationConstraint::as_str)
        .filter(|region| !region.is_empty());
    if region == Some(FIRST_REGION) {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidLocationConstraint,
            "The specified location-constraint is not valid",
        ));
    }
    let mut bucket = Bucket::new(&input.bucket, region.unwrap_or(&service.region));
    if let Some(ownership) = &input.object_ownership {
        bucket.ownership = Some(Ownership::parse(ownership.as_str())?);
    }
    if let Some((acl, canned)) = acl::from_headers(headers)? {
        if bucket.acls_disabled() && canned.as_deref() != Some("private") {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidBucketAclWithObjectOwnership,
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            ));
        }
        bucket.acl = acl;
    }
    if input.object_lock_enabled_for_bucket == Some(true) {
        bucket.versioning = Versioning::Enabled;
        bucket.object_lock = Some(ObjectLock::default());
    }
    Ok(bucket)
}

impl Ownership {
    /// Reads S3's word.
    ///
    /// # Errors
    /// 400 InvalidArgument.
    pub(super) fn parse(word: &str) -> S3Result<Self> {
        match word {
            "BucketOwnerEnforced" => Ok(Self::BucketOwnerEnforced),
            "BucketOwnerPreferred" => Ok(Self::BucketOwnerPreferred),
            "ObjectWriter" => Ok(Self::ObjectWriter),
            _ => Err(S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                "Invalid x-amz-object-ownership header",
            )),
        }
    }
}

/// Removes an empty bucket.
pub(super) async fn delete_bucket(
    service: &Service,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let input = req.input;
    service.bucket(&input.bucket)?;
    let store = service.store.clone();
    blocking(move || Ok(store.delete_bucket(&input.bucket)?)).await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

/// Says whether a bucket is there, and in which Region.
pub(super) fn head_bucket(
    service: &Service,
    req: &S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let input = &req.input;
    let bucket = service.bucket(&input.bucket)?;
    let bucket_region = Some(bucket.config().region.clone());
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region,
        ..HeadBucketOutput::default()
    }))
}

/// Says in which Region a bucket is; nothing stands for the first one.
pub(super) fn get_bucket_location(
    service: &Service,
    req: &S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let input = &req.input;
    let bucket = service.bucket(&input.bucket)?;
    let region = bucket.config().region.clone();
    let location_constraint =
        (region != FIRST_REGION).then(|| BucketLocationConstraint::from(region));
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint,
    }))
}

/// Lists the buckets by name.
pub(super) fn list_buckets(
    service: &Service,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let input = req.input;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let region = input
        .bucket_region
        .as_ref()
        .map(|region| region.as_str().to_owned());
    let max = input
        .max_buckets
        .and_then(|max| usize::try_from(max).ok())
        .unwrap_or(BUCKETS_PAGE_MAX);
    let configs = service
        .store
        .buckets()
        .into_iter()
        .map(|bucket| bucket.config())
        .filter(|config| {
            let in_region = region
                .as_ref()
                .is_none_or(|region| *region == config.region);
            config.name.starts_with(&prefix) && config.name > after && in_region
        });
    let configs: Vec<_> = configs.collect();
    let page = &configs[..configs.len().min(max)];
    let next = if page.len() < configs.len() {
        page.last().map(|config| config.name.clone())
    } else {
        None
    };
    let listed = page.iter().map(|config| ListedBucket {
        name: Some(config.name.clone()),
        creation_date: Some(Timestamp::from(config.created.whole_second())),
        bucket_region: Some(config.region.clone()),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(listed.collect()),
        continuation_token: next,
        owner: Some(owner()),
        prefix: input.prefix,
    }))
}
