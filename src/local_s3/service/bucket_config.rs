//! Configuration of buckets: versioning, policy, public access block, and what is never set here. Documents that are only
//! kept are in [`super::bucket_documents`].
//!
//! A policy and a public access block are kept and given back; they decide nothing, since there is one
//! account and no anonymous access. Default encryption is in [`super::encryptions`].

use hyper::StatusCode;
use s3s::dto::{
    self, DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeletePublicAccessBlockInput,
    DeletePublicAccessBlockOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketLoggingInput,
    GetBucketLoggingOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetBucketRequestPaymentInput,
    GetBucketRequestPaymentOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    GetPublicAccessBlockInput, GetPublicAccessBlockOutput, PutBucketPolicyInput,
    PutBucketPolicyOutput, PutBucketVersioningInput, PutBucketVersioningOutput,
    PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Service;
use crate::local_s3::error::with_detail;
use crate::local_s3::model::{Document, PublicAccessBlock, Versioning};

/// Source: S3 User Guide, "Bucket policies": 20 KB.
const POLICY_BYTES_MAX: usize = 20 << 10;

pub(super) async fn get_bucket_versioning(
    service: &Service,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let status = match service.bucket(&request.input.bucket)?.config().versioning {
        Versioning::Unversioned => None,
        Versioning::Enabled => Some(dto::BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(dto::BucketVersioningStatus::SUSPENDED),
    };
    Ok(S3Response::new(GetBucketVersioningOutput {
        mfa_delete: None,
        status: status.map(dto::BucketVersioningStatus::from_static),
    }))
}

pub(super) async fn put_bucket_versioning(
    service: &Service,
    request: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let input = request.input;
    let wanted = input.versioning_configuration;
    if wanted.mfa_delete.as_ref().map(dto::MFADelete::as_str) == Some(dto::MFADelete::ENABLED) {
        return Err(s3_error!(NotImplemented, "MFA delete is not available."));
    }
    let status = wanted
        .status
        .as_ref()
        .map(dto::BucketVersioningStatus::as_str);
    let versioning = match status {
        Some(dto::BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(dto::BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        Some(_) => return Err(s3_error!(MalformedXML)),
        None => {
            let code = S3ErrorCode::IllegalVersioningConfigurationException;
            let message = "The Versioning element must be specified";
            return Err(S3Error::with_message(code, message));
        }
    };
    service
        .change_bucket(&input.bucket, move |bucket| {
            if bucket.object_lock.is_some() && versioning != Versioning::Enabled {
                return Err(s3_error!(
                    InvalidBucketState,
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
                ));
            }
            let replicated = bucket.documents.contains_key(&Document::Replication);
            if replicated && versioning != Versioning::Enabled {
                return Err(s3_error!(
                    InvalidBucketState,
                    "A replication configuration is present on this bucket, so the versioning state cannot be changed."
                ));
            }
            bucket.versioning = versioning;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub(super) async fn get_bucket_policy(
    service: &Service,
    request: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    if config.policy.is_none() {
        return Err(no_policy());
    }
    Ok(S3Response::new(GetBucketPolicyOutput {
        policy: config.policy.clone(),
    }))
}

pub(super) async fn get_bucket_policy_status(
    service: &Service,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    if config.policy.is_none() {
        return Err(no_policy());
    }
    let status = dto::PolicyStatus {
        is_public: Some(false),
    };
    Ok(S3Response::new(GetBucketPolicyStatusOutput {
        policy_status: Some(status),
    }))
}

fn no_policy() -> S3Error {
    let code = S3ErrorCode::NoSuchBucketPolicy;
    S3Error::with_message(code, "The bucket policy does not exist")
}

pub(super) async fn put_bucket_policy(
    service: &Service,
    request: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let input = request.input;
    let is_object = input.policy.starts_with('{')
        && serde_json::from_str::<serde_json::Value>(&input.policy).is_ok();
    if !is_object || input.policy.len() > POLICY_BYTES_MAX {
        return Err(s3_error!(
            MalformedPolicy,
            "Policies must be valid JSON of at most 20 KB and the first byte must be '{{'"
        ));
    }
    service
        .change_bucket(&input.bucket, move |bucket| {
            bucket.policy = Some(input.policy);
            Ok(())
        })
        .await?;
    let output = PutBucketPolicyOutput::default();
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

pub(super) async fn delete_bucket_policy(
    service: &Service,
    request: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    service
        .change_bucket(&request.input.bucket, |bucket| {
            bucket.policy = None;
            Ok(())
        })
        .await?;
    let output = DeleteBucketPolicyOutput::default();
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

pub(super) async fn get_public_access_block(
    service: &Service,
    request: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let block = config.public_access_block.ok_or_else(|| {
        not_set(
            S3ErrorCode::Custom("NoSuchPublicAccessBlockConfiguration".into()),
            "The public access block configuration was not found",
            &config.name,
        )
    })?;
    let shown = dto::PublicAccessBlockConfiguration {
        block_public_acls: Some(block.block_public_acls),
        block_public_policy: Some(block.block_public_policy),
        ignore_public_acls: Some(block.ignore_public_acls),
        restrict_public_buckets: Some(block.restrict_public_buckets),
    };
    Ok(S3Response::new(GetPublicAccessBlockOutput {
        public_access_block_configuration: Some(shown),
    }))
}

pub(super) async fn put_public_access_block(
    service: &Service,
    request: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let wanted = request.input.public_access_block_configuration;
    let block = PublicAccessBlock {
        block_public_acls: wanted.block_public_acls.unwrap_or(false),
        ignore_public_acls: wanted.ignore_public_acls.unwrap_or(false),
        block_public_policy: wanted.block_public_policy.unwrap_or(false),
        restrict_public_buckets: wanted.restrict_public_buckets.unwrap_or(false),
    };
    service
        .change_bucket(&request.input.bucket, move |bucket| {
            bucket.public_access_block = Some(block);
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) async fn delete_public_access_block(
    service: &Service,
    request: S3Request<DeletePublicAccessBlockInput>,
) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
    service
        .change_bucket(&request.input.bucket, |bucket| {
            bucket.public_access_block = None;
            Ok(())
        })
        .await?;
    let output = DeletePublicAccessBlockOutput::default();
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

/// What AWS answers for a configuration that nobody has set.
pub(super) fn not_set(code: S3ErrorCode, message: &'static str, bucket: &str) -> S3Error {
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::NOT_FOUND);
    with_detail(error, "BucketName", bucket)
}

pub(super) async fn get_bucket_cors(
    service: &Service,
    request: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let code = S3ErrorCode::NoSuchCORSConfiguration;
    let message = "The CORS configuration does not exist";
    Err(not_set(code, message, &config.name))
}

pub(super) async fn get_bucket_logging(
    service: &Service,
    request: S3Request<GetBucketLoggingInput>,
) -> S3Result<S3Response<GetBucketLoggingOutput>> {
    service.bucket(&request.input.bucket)?;
    Ok(S3Response::new(GetBucketLoggingOutput::default()))
}

pub(super) async fn get_bucket_request_payment(
    service: &Service,
    request: S3Request<GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    service.bucket(&request.input.bucket)?;
    let payer = dto::Payer::from_static(dto::Payer::BUCKET_OWNER);
    Ok(S3Response::new(GetBucketRequestPaymentOutput {
        payer: Some(payer),
    }))
}
