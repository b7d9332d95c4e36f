//! PutObject, and the steps that it shares with the other ways of writing an object.

use md5::{Digest as _, Md5};
use s3s::dto::{ETag, PutObjectInput, PutObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::body::{self, Received, Sink};
use super::checksums::{self, Claim, sent_checksums, show_checksum};
use super::properties::sent_properties;
use super::sse::{show_sse, sse_headers};
use super::{Service, blocking};
use crate::human;
use crate::local_s3::conditions::WriteConditions;
use crate::local_s3::model::{
    Checksum, ChecksumAlgorithm, ChecksumKind, Content, DataId, Object, Properties, Version,
    VersionId, Versioning,
};
use crate::local_s3::store::{BucketStore, Draft};
use crate::local_s3::vault::{Envelope, Mode};

/// Writes an object from a request's body.
pub(super) async fn put_object(
    service: &Service,
    mut req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let input = &mut req.input;
    let body = input.body.take();
    let bucket = service.bucket(&input.bucket)?;
    let config = bucket.config();
    check_key(&input.key)?;
    if input.write_offset_bytes.is_some() {
        return Err(S3Error::with_message(
            S3ErrorCode::NotImplemented,
            "Only directory buckets can be appended to.",
        ));
    }
    body::check_length(&req.method, &req.headers, input.content_length)?;
    let sent = sent_properties!(input, req.headers);
    let md5 = body::content_md5(input.content_md5.as_deref())?;
    let claim = Claim::of(
        sent_checksums!(input),
        &req.headers,
        req.trailing_headers.clone(),
    )?;
    if sent.locks() && md5.is_none() && claim.is_none() {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        ));
    }
    let properties = sent.properties(&config)?;
    let want = sse_headers!(input).resolve(&config)?;
    let conditions = WriteConditions::from_headers(&req.headers)?;
    check_write(&conditions, bucket.current(&input.key).as_deref())?;

    let algorithm = claim
        .as_ref()
        .map_or(checksums::DEFAULT, |claim| claim.algorithm);
    let (vault, store, name, key) = (
        service.vault.clone(),
        bucket.clone(),
        config.name.clone(),
        input.key.clone(),
    );
    let (envelope, sink) = blocking(move || {
        let (envelope, keys) = vault.seal(&want, &name, &key)?;
        Ok((
            envelope,
            Sink::create(store.create_data()?, &keys, &[algorithm])?,
        ))
    })
    .await?;
    let received = body::receive(body, sink).await?;
    body::check_md5(md5, &received)?;
    if let Some(claim) = claim {
        claim.check(&checksums::value(&received.checksums, algorithm))?;
    }

    let object = whole_object(&received, properties, envelope, algorithm);
    let version = write_object(bucket, input.key.clone(), object, received, conditions).await?;
    let object = version.object().ok_or(S3ErrorCode::InternalError)?;
    let mut output = PutObjectOutput {
        e_tag: Some(ETag::Strong(object.etag.clone())),
        checksum_type: Some(s3s::dto::ChecksumType::from_static(
            object.checksum.kind.as_str(),
        )),
        version_id: made_version_id(config.versioning, &version.version_id),
        ..PutObjectOutput::default()
    };
    show_checksum!(
        output,
        object.checksum.algorithm,
        object.checksum.value.clone()
    );
    show_sse!(output, &object.envelope, context);
    Ok(S3Response::new(output))
}

/// The description of an object that is written as one segment.
pub(super) fn whole_object(
    received: &Received,
    properties: Properties,
    envelope: Envelope,
    algorithm: ChecksumAlgorithm,
) -> Object {
    Object {
        size: received.size,
        etag: etag(envelope.mode(), received.pending.data(), &received.md5),
        properties,
        checksum: Checksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            value: checksums::value(&received.checksums, algorithm),
        },
        parts: Vec::new(),
        envelope,
        segments: vec![received.segment()],
        data: received.pending.data().clone(),
    }
}

/// Commits an object whose bytes are on disk, under conditions on what is there.
pub(super) async fn write_object(
    bucket: std::sync::Arc<BucketStore>,
    key: String,
    object: Object,
    received: Received,
    conditions: WriteConditions,
) -> S3Result<std::sync::Arc<Version>> {
    blocking(move || {
        let draft = Draft {
            content: Content::Object(Box::new(object)),
            last_modified: None,
            sequence: None,
        };
        bucket.put(&key, draft, Some(received.pending), |current| {
            check_write(&conditions, current)
        })
    })
    .await
}

/// Checks the conditions of a write on the newest version; a delete marker counts as no object.
pub(super) fn check_write(conditions: &WriteConditions, current: Option<&Version>) -> S3Result<()> {
    conditions.check(
        current
            .and_then(Version::object)
            .map(|object| object.etag.as_str()),
    )
}

/// The ETag of an object or a part: the MD5 of its bytes under SSE-S3. In the other modes S3 says that it is not the
/// MD5; here it depends on the bytes and on the random name of their data, so that a part that is sent again keeps it.
pub(super) fn etag(mode: Mode, data: &DataId, md5: &[u8; 16]) -> String {
    if mode == Mode::SseS3 {
        return human::hex(md5);
    }
    let mut opaque = Md5::new();
    opaque.update(data.name());
    opaque.update(md5);
    human::hex(&opaque.finalize())
}

/// The ETag of a multipart object: the MD5 of its parts' ETags, and how many they are.
pub(super) fn etag_of_parts<'a>(etags: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = etags.len();
    let mut md5 = Md5::new();
    for etag in etags {
        let digits = etag
            .as_bytes()
            .chunks(2)
            .filter_map(|pair| std::str::from_utf8(pair).ok());
        md5.update(
            digits
                .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
                .collect::<Vec<u8>>(),
        );
    }
    format!("{}-{count}", human::hex(&md5.finalize()))
}

/// The version id as the response to a write shows it: only where the write made a version.
/// Source: AWS-validated snapshots of LocalStack.
pub(super) fn made_version_id(versioning: Versioning, version_id: &VersionId) -> Option<String> {
    (versioning == Versioning::Enabled).then(|| version_id.to_string())
}

/// Source: S3 User Guide, "Naming Amazon S3 objects": 1,024 bytes of UTF-8.
const KEY_BYTES_MAX: usize = 1_024;

/// Refuses a key that is too long, however it came.
pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::KeyTooLongError,
        "Your key is too long",
    ))
}
