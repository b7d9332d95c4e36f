//! Multipart uploads: begun and given up here, filled in [`parts`], finished in [`complete`], listed in [`listing`].

mod complete;
mod listing;
mod parts;

pub(super) use complete::complete;
pub(super) use listing::{list_multipart_uploads, list_parts};
pub(super) use parts::{upload_part, upload_part_copy};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm as ShownAlgorithm,
    ChecksumType, CreateMultipartUploadInput, CreateMultipartUploadOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::properties::sent_properties;
use super::put::check_key;
use super::sse::{show_sse, sse_headers};
use super::{Service, blocking};
use crate::local_s3::model::{ChecksumAlgorithm, ChecksumKind, Moment, Upload};

/// The highest part number. Source: S3 User Guide, "Multipart upload limits".
pub(super) const PARTS_MAX: i32 = 10_000;

/// Begins an upload.
pub(super) async fn create(
    service: &Service,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = &req.input;
    let bucket = service.bucket(&input.bucket)?;
    let config = bucket.config();
    check_key(&input.key)?;
    let properties = sent_properties!(input, req.headers).properties(&config)?;
    let want = sse_headers!(input).resolve(&config)?;
    let checksum = checksum(input)?;

    let (vault, key, name) = (
        service.vault.clone(),
        input.key.clone(),
        config.name.clone(),
    );
    let upload = blocking(move || {
        let (envelope, _keys) = vault.seal(&want, &name, &key)?;
        let upload = Upload {
            had_object: bucket
                .current(&key)
                .is_some_and(|it| !it.is_delete_marker()),
            key,
            upload_id: bucket.new_upload_id(),
            initiated: Moment::now(),
            sequence: bucket.next_sequence(),
            properties,
            envelope,
            checksum,
        };
        bucket.create_upload(upload.clone())?;
        Ok(upload)
    })
    .await?;
    let mut output = CreateMultipartUploadOutput {
        bucket: Some(config.name.clone()),
        key: Some(upload.key),
        upload_id: Some(upload.upload_id),
        checksum_algorithm: upload
            .checksum
            .map(|(algorithm, _)| ShownAlgorithm::from_static(algorithm.as_str())),
        checksum_type: upload
            .checksum
            .map(|(_, kind)| ChecksumType::from_static(kind.as_str())),
        ..CreateMultipartUploadOutput::default()
    };
    show_sse!(output, &upload.envelope, context);
    Ok(S3Response::new(output))
}

/// The checksum that an upload will have, when it asks for one.
fn checksum(
    input: &CreateMultipartUploadInput,
) -> S3Result<Option<(ChecksumAlgorithm, ChecksumKind)>> {
    let kind = input
        .checksum_type
        .as_ref()
        .map(|kind| ChecksumKind::parse(kind.as_str()))
        .transpose()?;
    let Some(name) = &input.checksum_algorithm else {
        if kind.is_some() {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            ));
        }
        return Ok(None);
    };
    let algorithm = ChecksumAlgorithm::parse(name.as_str())?;
    let kind = kind.unwrap_or(algorithm.default_kind());
    if algorithm.allows(kind) {
        return Ok(Some((algorithm, kind)));
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.as_str(),
            algorithm.as_str().to_lowercase()
        ),
    ))
}

/// Gives an upload up; its parts are gone then.
pub(super) async fn abort(
    service: &Service,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let state = bucket.upload(&input.key, &input.upload_id)?;
    blocking(move || Ok(bucket.abort_upload(&state)?)).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
