//! UploadPart and UploadPartCopy.

use std::ops::Range;
use std::sync::Arc;

use s3s::dto::{
    CopyPartResult, ETag, Timestamp, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::PARTS_MAX;
use crate::local_s3::model::{ChecksumAlgorithm, ChecksumKind, Moment, Part};
use crate::local_s3::service::body::{self, Received, Sink, Source};
use crate::local_s3::service::checksums::{self, Claim, sent_checksums, show_checksum};
use crate::local_s3::service::copy::check_copy_size;
use crate::local_s3::service::copy_source::CopySource;
use crate::local_s3::service::put::etag;
use crate::local_s3::service::sse::{customer_key, show_sse, source_customer_key};
use crate::local_s3::service::{Service, blocking};
use crate::local_s3::store::{BucketStore, UploadState};
use crate::local_s3::vault::{CustomerKey, DataKeys, Vault, VaultError};

/// Receives a part.
pub(in crate::local_s3::service) async fn upload_part(
    service: &Service,
    mut req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = &mut req.input;
    let body = input.body.take();
    let bucket = service.bucket(&input.bucket)?;
    let number = part_number(input.part_number)?;
    body::check_length(&req.method, &req.headers, input.content_length)?;
    let state = bucket.upload(&input.key, &input.upload_id)?;
    let md5 = body::content_md5(input.content_md5.as_deref())?;
    let claim = Claim::of(
        sent_checksums!(input),
        &req.headers,
        req.trailing_headers.clone(),
    )?;
    check_algorithm(&state, claim.as_ref())?;
    let key = customer_key!(input)?;
    let keys = unseal(service, &bucket, &state, key).await?;

    let stored = algorithm(&state);
    let shown = claim.as_ref().map_or(stored, |claim| claim.algorithm);
    let sink = create_sink(&bucket, &state, keys, vec![stored, shown]).await?;
    let received = body::receive(body, sink).await?;
    body::check_md5(md5, &received)?;
    if let Some(claim) = claim {
        claim.check(&checksums::value(&received.checksums, shown))?;
    }
    let mut output = UploadPartOutput::default();
    show_checksum!(output, shown, checksums::value(&received.checksums, shown));
    let part = put_part(bucket, state.clone(), number, received).await?;
    output.e_tag = Some(ETag::Strong(part.etag));
    show_sse!(output, &state.upload.envelope);
    Ok(S3Response::new(output))
}

/// Makes a part out of an object, or a range of one.
pub(in crate::local_s3::service) async fn upload_part_copy(
    service: &Service,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = &req.input;
    let bucket = service.bucket(&input.bucket)?;
    let number = part_number(input.part_number)?;
    let source = CopySource::of(&req.headers)?;
    let state = bucket.upload(&input.key, &input.upload_id)?;
    let (key, source_key) = (customer_key!(input)?, source_customer_key!(input)?);
    let keys = unseal(service, &bucket, &state, key).await?;
    let found = source.find(service, input.expected_source_bucket_owner.as_deref())?;
    let range = source_range(input.copy_source_range.as_deref(), found.object().size)?;
    check_copy_size(range.end - range.start)?;
    let source_keys = found.unseal(service, source_key).await?;

    let stored = algorithm(&state);
    let source_version_id = CopySource::shown_version_id(&found);
    let sink = create_sink(&bucket, &state, keys, vec![stored]).await?;
    let received = blocking(move || {
        Source::new(&found.version, found.pin, source_keys, range)?.copy_into(sink)
    })
    .await?;
    let mut result = CopyPartResult::default();
    if state.upload.checksum.is_some() {
        show_checksum!(
            result,
            stored,
            checksums::value(&received.checksums, stored)
        );
    }
    let part = put_part(bucket, state.clone(), number, received).await?;
    result.e_tag = Some(ETag::Strong(part.etag));
    result.last_modified = Some(Timestamp::from(part.last_modified.whole_second()));
    let mut output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: source_version_id,
        ..UploadPartCopyOutput::default()
    };
    show_sse!(output, &state.upload.envelope);
    Ok(S3Response::new(output))
}

fn part_number(number: i32) -> S3Result<u32> {
    if !(1..=PARTS_MAX).contains(&number) {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "Part number must be an integer between 1 and 10000, inclusive",
        ));
    }
    Ok(number.unsigned_abs())
}

/// The algorithm that the upload's parts are remembered with.
pub(super) fn algorithm(state: &UploadState) -> ChecksumAlgorithm {
    state
        .upload
        .checksum
        .map_or(checksums::DEFAULT, |(algorithm, _)| algorithm)
}

/// An upload with a checksum wants each part to come with that checksum and no other; only where the parts' checksums are
/// the object's does a part without one not do.
fn check_algorithm(state: &UploadState, claim: Option<&Claim>) -> S3Result<()> {
    let Some((algorithm, kind)) = state.upload.checksum else {
        return Ok(());
    };
    let actual = match claim {
        Some(claim) if claim.algorithm == algorithm => return Ok(()),
        None if kind == ChecksumKind::FullObject => return Ok(()),
        Some(claim) => claim.algorithm.as_str().to_lowercase(),
        None => "null".to_owned(),
    };
    let expected = algorithm.as_str().to_lowercase();
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        format!(
            "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
        ),
    ))
}

async fn unseal(
    service: &Service,
    bucket: &Arc<BucketStore>,
    state: &Arc<UploadState>,
    customer_key: Option<CustomerKey>,
) -> S3Result<DataKeys> {
    let (vault, bucket, state) = (service.vault.clone(), bucket.config(), state.clone());
    blocking(move || unseal_upload(&vault, &bucket.name, &state, customer_key.as_ref())).await
}

/// The data keys of an upload. Under SSE-C each request for it brings the key that it was begun with.
pub(super) fn unseal_upload(
    vault: &Vault,
    bucket: &str,
    state: &UploadState,
    customer_key: Option<&CustomerKey>,
) -> S3Result<DataKeys> {
    let upload = &state.upload;
    vault.unseal(&upload.envelope, bucket, &upload.key, customer_key).map_err(|error| {
        let message = match error {
            VaultError::CustomerKeyRequired => {
                "The multipart upload initiate requested encryption. Subsequent part requests must include the \
                 appropriate encryption parameters."
            }
            VaultError::CustomerKeyWrong => {
                "The provided encryption parameters did not match the ones used originally."
            }
            VaultError::CustomerKeyNotApplicable => {
                "The multipart upload initiate did not request encryption. Please resend the request without sending \
                 encryption parameters."
            }
            other => return other.into(),
        };
        S3Error::with_message(S3ErrorCode::InvalidRequest, message)
    })
}

async fn create_sink(
    bucket: &Arc<BucketStore>,
    state: &Arc<UploadState>,
    keys: DataKeys,
    algorithms: Vec<ChecksumAlgorithm>,
) -> S3Result<Sink> {
    let (bucket, state) = (bucket.clone(), state.clone());
    blocking(move || Sink::create(bucket.create_part_data(&state)?, &keys, &algorithms)).await
}

async fn put_part(
    bucket: Arc<BucketStore>,
    state: Arc<UploadState>,
    number: u32,
    received: Received,
) -> S3Result<Part> {
    let part = Part {
        number,
        etag: etag(
            state.upload.envelope.mode(),
            received.pending.data(),
            &received.md5,
        ),
        last_modified: Moment::now(),
        checksum: checksums::value(&received.checksums, algorithm(&state)),
        segment: received.segment(),
    };
    let put = part.clone();
    blocking(move || Ok(bucket.put_part(&state, put, received.pending)?)).await?;
    Ok(part)
}

/// The bytes that `x-amz-copy-source-range` means, all without it. Both ends must be given and inside the object.
fn source_range(header: Option<&str>, size: u64) -> S3Result<Range<u64>> {
    let Some(header) = header else {
        return Ok(0..size);
    };
    let ends = header
        .strip_prefix("bytes=")
        .and_then(|ends| ends.split_once('-'));
    let number = |text: &str| {
        text.parse::<u64>()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let ends = ends.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        ));
    };
    if last >= size {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            format!("Range specified is not valid for source object of size: {size}"),
        ));
    }
    Ok(first..last + 1)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::{
        ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use crate::local_s3::service::tests::{BUCKET, Fixture, refused, told};

    const FIRST: usize = 5 << 20;

    /// The CRC-32 of an object that is made of two copied parts.
    async fn checksum_of_copied_parts(fixture: &Fixture, kind: ChecksumType) -> (String, i32) {
        let client = &fixture.client;
        let create = client.create_multipart_upload().bucket(BUCKET).key("to");
        let create = create
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .checksum_type(kind.clone());
        let upload_id = create.send().await.unwrap().upload_id.unwrap();
        let mut parts = CompletedMultipartUpload::builder();
        for (number, range) in [(1, (0, FIRST - 1)), (2, (FIRST, FIRST + 3))] {
            let copy = client.upload_part_copy().bucket(BUCKET).key("to");
            let copy = copy.upload_id(&upload_id).part_number(number);
            let copy = copy
                .copy_source(format!("{BUCKET}/from"))
                .copy_source_range(format!("bytes={}-{}", range.0, range.1));
            let copied = copy.send().await.unwrap().copy_part_result.unwrap();
            let part = CompletedPart::builder()
                .part_number(number)
                .e_tag(copied.e_tag.unwrap())
                .checksum_crc32(copied.checksum_crc32.unwrap());
            parts = parts.parts(part.build());
        }
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("to");
        let complete = complete
            .upload_id(upload_id)
            .multipart_upload(parts.build());
        complete.send().await.unwrap();
        let head = client.head_object().bucket(BUCKET).key("to");
        let head = head.checksum_mode(ChecksumMode::Enabled);
        let whole = head.clone().send().await.unwrap();
        assert_eq!(whole.checksum_type(), Some(&kind));
        let second = head.part_number(2).send().await.unwrap();
        assert_eq!(second.content_length(), Some(4));
        (
            whole.checksum_crc32.unwrap(),
            second.parts_count.unwrap_or_default(),
        )
    }

    /// Copied parts have checksums as uploaded ones have, and both kinds follow from them.
    #[tokio::test]
    async fn an_object_of_copied_parts_has_the_checksum_it_was_begun_with() {
        let fixture = Fixture::new().await;
        let body = [vec![7; FIRST], b"tail".to_vec()].concat();
        fixture.put("from", &body).await;
        let crc = |bytes: &[u8]| crc32fast::hash(bytes).to_be_bytes();
        let full = BASE64.encode(crc(&body));
        let composite = [crc(&body[..FIRST]), crc(b"tail")].concat();
        let composite = format!("{}-2", BASE64.encode(crc(&composite)));
        for (kind, expected) in [
            (ChecksumType::FullObject, full),
            (ChecksumType::Composite, composite),
        ] {
            let found = checksum_of_copied_parts(&fixture, kind).await;
            assert_eq!(found, (expected, 2));
        }
    }

    /// Each part is copied from what the request says that the source is, or not at all.
    #[tokio::test]
    async fn a_part_is_copied_under_conditions() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let etag = fixture.put("from", b"x").await;
        let create = client.create_multipart_upload().bucket(BUCKET).key("to");
        let upload_id = create.send().await.unwrap().upload_id.unwrap();
        let part = || {
            let part = client.upload_part_copy().bucket(BUCKET).key("to");
            let part = part.upload_id(&upload_id).part_number(1);
            part.copy_source(format!("{BUCKET}/from"))
        };
        let long_ago = DateTime::from_secs(1);
        let now = fixture.head("from").await.last_modified.unwrap();
        let failed = refused(412, "PreconditionFailed");
        for (part, expected) in [
            (part().copy_source_if_match(&etag), refused(200, "")),
            (part().copy_source_if_match("\"x\""), failed.clone()),
            (part().copy_source_if_none_match(&etag), failed.clone()),
            (
                part().copy_source_if_unmodified_since(now),
                refused(200, ""),
            ),
            (
                part().copy_source_if_unmodified_since(long_ago),
                failed.clone(),
            ),
            (
                part()
                    .copy_source_if_match(&etag)
                    .copy_source_if_unmodified_since(long_ago),
                refused(200, ""),
            ),
        ] {
            assert_eq!(told(part.send().await), expected);
        }
    }
}
