//! CopyObject, onto itself too.

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use s3s::dto::{
    ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, ETag, MetadataDirective,
    TaggingDirective, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::body::{PUT_BYTES_MAX, Sink, Source};
use super::checksums::show_checksum;
use super::copy_source::CopySource;
use super::properties::{Sent, sent_properties};
use super::put::{check_key, check_write, made_version_id, whole_object, write_object};
use super::read::Found;
use super::sse::{show_sse, source_customer_key, sse_headers};
use super::{Service, blocking};
use crate::local_s3::conditions::WriteConditions;
use crate::local_s3::model::{Bucket, ChecksumAlgorithm, Properties};
use crate::local_s3::vault::{Mode, Want};

/// s3s does not know it.
const ANNOTATION_DIRECTIVE: &str = "x-amz-object-annotation-directive";

/// Writes an object with the bytes of another, or of itself.
pub(super) async fn copy_object(
    service: &Service,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let input = &req.input;
    let bucket = service.bucket(&input.bucket)?;
    let config = bucket.config();
    check_key(&input.key)?;
    let sent = sent_properties!(input, req.headers);
    let directives = Directives::of(input, &req.headers)?;
    let sse = sse_headers!(input);
    let want = sse.resolve(&config)?;
    let asked_checksum = input
        .checksum_algorithm
        .as_ref()
        .map(|name| ChecksumAlgorithm::parse(name.as_str()))
        .transpose()?;
    let conditions = WriteConditions::from_headers(&req.headers)?;
    let source_key = source_customer_key!(input)?;

    let source = CopySource::of(&req.headers)?;
    let found = source.find(service, input.expected_source_bucket_owner.as_deref())?;
    let current = bucket.current(&input.key);
    if source.is(&config.name, &input.key, &found, current.as_ref()) {
        let changes = sse.name_a_mode() || directives.replace_metadata || sent.changes_itself();
        check_self_copy(&config, &found, changes)?;
    }
    check_copy_size(found.object().size)?;
    let mut properties = directives.properties(&sent, &config, &found)?;
    if matches!(want, Want::SseC(_)) {
        // An object under SSE-C has none; that S3 drops them is not documented.
        properties.annotations.clear();
    }
    check_write(&conditions, current.as_deref())?;
    let source_keys = found.unseal(service, source_key).await?;

    let algorithm = asked_checksum.unwrap_or(found.object().checksum.algorithm);
    let source_version_id = CopySource::shown_version_id(&found);
    let (vault, store, name, key) = (
        service.vault.clone(),
        bucket.clone(),
        config.name.clone(),
        input.key.clone(),
    );
    let (envelope, received) = blocking(move || {
        let (envelope, keys) = vault.seal(&want, &name, &key)?;
        let sink = Sink::create(store.create_data()?, &keys, &[algorithm])?;
        let all = 0..found.object().size;
        Ok((
            envelope,
            Source::new(&found.version, found.pin, source_keys, all)?.copy_into(sink)?,
        ))
    })
    .await?;
    let object = whole_object(&received, properties, envelope, algorithm);
    let version = write_object(bucket, input.key.clone(), object, received, conditions).await?;

    let object = version.object().ok_or(S3ErrorCode::InternalError)?;
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(Timestamp::from(version.last_modified.whole_second())),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.as_str())),
        ..CopyObjectResult::default()
    };
    show_checksum!(
        result,
        object.checksum.algorithm,
        object.checksum.value.clone()
    );
    let mut output = CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: source_version_id,
        version_id: made_version_id(config.versioning, &version.version_id),
        ..CopyObjectOutput::default()
    };
    show_sse!(output, &object.envelope, context);
    Ok(S3Response::new(output))
}

/// Which of the source's descriptions are taken over.
struct Directives {
    replace_metadata: bool,
    replace_tags: bool,
    exclude_annotations: bool,
}

impl Directives {
    fn of(input: &CopyObjectInput, headers: &HeaderMap) -> S3Result<Self> {
        let replace_metadata = match input
            .metadata_directive
            .as_ref()
            .map(MetadataDirective::as_str)
        {
            None | Some(MetadataDirective::COPY) => false,
            Some(MetadataDirective::REPLACE) => true,
            Some(_) => return Err(invalid_argument("Unknown metadata directive.")),
        };
        let replace_tags = match input
            .tagging_directive
            .as_ref()
            .map(TaggingDirective::as_str)
        {
            None | Some(TaggingDirective::COPY) => false,
            Some(TaggingDirective::REPLACE) => true,
            Some(_) => return Err(invalid_argument("Unknown tagging directive.")),
        };
        let annotations = headers.get(ANNOTATION_DIRECTIVE).map(HeaderValue::as_bytes);
        let exclude_annotations = match annotations {
            None | Some(b"COPY") => false,
            Some(b"EXCLUDE") => true,
            Some(_) => return Err(invalid_argument("Unknown annotation directive.")),
        };
        Ok(Self {
            replace_metadata,
            replace_tags,
            exclude_annotations,
        })
    }

    fn properties(&self, sent: &Sent<'_>, config: &Bucket, found: &Found) -> S3Result<Properties> {
        let mut properties = sent.never_copied(config)?;
        let source = &found.object().properties;
        if self.replace_metadata {
            properties.headers = sent.content_headers();
            properties.metadata = sent.metadata()?;
        } else {
            properties.headers = source.headers.clone();
            properties.metadata = source.metadata.clone();
        }
        properties.tags = if self.replace_tags {
            sent.tags()?
        } else {
            source.tags.clone()
        };
        if !self.exclude_annotations {
            properties.annotations = source.annotations.clone();
        }
        Ok(properties)
    }
}

impl Sent<'_> {
    /// Whether a header other than those of encryption and metadata lets an object be copied onto itself. That the
    /// header is there counts, not that its value differs.
    /// Source: AWS-validated snapshots of LocalStack, `test_s3_copy_object_in_place*`.
    fn changes_itself(&self) -> bool {
        self.storage_class.is_some() || self.website_redirect.is_some()
    }
}

/// Refuses a copy onto itself that asks for no change. Without a request for a change S3 still makes the copy where
/// the bucket has a default encryption of its own, or where the default would change the object's mode.
/// Source: as above.
fn check_self_copy(config: &Bucket, found: &Found, changes: bool) -> S3Result<()> {
    if changes || config.encryption.is_some() || found.object().envelope.mode() != Mode::SseS3 {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
         metadata, storage class, website redirect location or encryption attributes.",
    ))
}

/// Refuses to copy more than a copy can carry.
///
/// # Errors
/// 400 InvalidRequest.
pub(super) fn check_copy_size(bytes: u64) -> S3Result<()> {
    if bytes <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_BYTES_MAX}"
        ),
    ))
}

fn invalid_argument(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}
