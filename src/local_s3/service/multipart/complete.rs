//! CompleteMultipartUpload.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::HOST;
use s3s::dto::{
    ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::parts::{algorithm, unseal_upload};
use crate::local_s3::conditions::WriteConditions;
use crate::local_s3::error::{default_message, with_detail};
use crate::local_s3::model::{
    Checksum, ChecksumAlgorithm, ChecksumKind, Content, Object, ObjectPart, Part, Upload, Version,
};
use crate::local_s3::service::checksums::{self, sent_checksums, show_checksum};
use crate::local_s3::service::list::url_encoded;
use crate::local_s3::service::put::{check_write, etag_of_parts, made_version_id};
use crate::local_s3::service::sse::{ShownSse, customer_key};
use crate::local_s3::service::{Service, blocking};
use crate::local_s3::store::{StoreError, UploadState};
use crate::local_s3::vault::Mode;

/// What every part but the last must have. Source: S3 User Guide, "Multipart upload limits".
const PART_BYTES_MIN: u64 = 5 << 20;

/// Makes an object of an upload's parts. Their bytes stay where they are.
pub(in crate::local_s3::service) async fn complete(
    service: &Service,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let customer_key = customer_key!(input)?;
    let conditions = WriteConditions::from_headers(&req.headers)?;
    let wish = Wish::of(&input)?;
    let config = bucket.config();
    let state = match bucket.upload(&input.key, &input.upload_id) {
        Ok(state) => state,
        // A Complete that was lost on its way back is sent again.
        Err(StoreError::NoSuchUpload) => {
            let done = bucket.completed_upload(&input.key, &input.upload_id);
            let version = done.ok_or(StoreError::NoSuchUpload)?;
            return answer(&config, &version, req.headers.get(HOST));
        }
        Err(error) => return Err(error.into()),
    };
    let (vault, name) = (service.vault.clone(), config.name.clone());
    let version = blocking(move || {
        // S3 wants the key again where it has checksums to combine, and looks at one that comes anyway.
        let wants_key =
            state.upload.checksum.is_some() && state.upload.envelope.mode() == Mode::SseC;
        if wants_key || customer_key.is_some() {
            unseal_upload(&vault, &name, &state, customer_key.as_ref())?;
        }
        let assemble = |parts: &BTreeMap<u32, Part>| wish.assemble(&state, parts);
        let allowed = |current: Option<&Version>| check(&conditions, &state.upload, current);
        bucket.complete_upload(&state, assemble, allowed)
    })
    .await?;
    answer(&config, &version, req.headers.get(HOST))
}

fn answer(
    config: &crate::local_s3::model::Bucket,
    version: &Arc<Version>,
    host: Option<&hyper::header::HeaderValue>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let object = version.object().ok_or(S3ErrorCode::InternalError)?;
    let host = host
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let sse = ShownSse::of(&object.envelope);
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(config.name.clone()),
        key: Some(version.key.clone()),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        location: Some(format!(
            "http://{host}/{}/{}",
            config.name,
            url_encoded(&version.key)
        )),
        version_id: made_version_id(config.versioning, &version.version_id),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.as_str())),
        server_side_encryption: sse
            .algorithm
            .map(s3s::dto::ServerSideEncryption::from_static),
        ssekms_key_id: sse.kms_key_arn,
        bucket_key_enabled: sse.bucket_key_enabled,
        ..CompleteMultipartUploadOutput::default()
    };
    show_checksum!(
        output,
        object.checksum.algorithm,
        object.checksum.value.clone()
    );
    Ok(S3Response::new(output))
}

/// The conditions of a Complete. They ask for more than what is there now: `If-Match` for no write at all since the upload
/// was begun, `If-None-Match` for no object then either.
/// Source: AWS-validated snapshots of LocalStack, `test_multipart_if_match_*` and `test_multipart_if_none_match_*`.
fn check(conditions: &WriteConditions, upload: &Upload, current: Option<&Version>) -> S3Result<()> {
    check_write(conditions, current)?;
    let written_since = current.is_some_and(|current| current.written > upload.sequence);
    let condition = if conditions.has_if_match() && written_since {
        "If-Match"
    } else if conditions.has_if_none_match() && upload.had_object {
        "If-None-Match"
    } else {
        return Ok(());
    };
    let message = "The conditional request cannot succeed due to a conflicting operation against this resource.";
    let error = S3Error::with_message(S3ErrorCode::ConditionalRequestConflict, message);
    Err(with_detail(error, "Condition", condition))
}

/// What a Complete asks for.
struct Wish {
    parts: Vec<CompletedPart>,
    checksum: Option<(ChecksumAlgorithm, String)>,
    kind: Option<ChecksumKind>,
    size: Option<u64>,
}

impl Wish {
    fn of(input: &CompleteMultipartUploadInput) -> S3Result<Self> {
        let parts = input
            .multipart_upload
            .as_ref()
            .and_then(|upload| upload.parts.clone())
            .unwrap_or_default();
        if parts.is_empty()
            || parts
                .iter()
                .any(|part| part.part_number.is_none() || part.e_tag.is_none())
        {
            return Err(S3Error::with_message(
                S3ErrorCode::MalformedXML,
                default_message("MalformedXML"),
            ));
        }
        if !parts.is_sorted_by(|one, next| one.part_number < next.part_number) {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidPartOrder,
                default_message("InvalidPartOrder"),
            ));
        }
        Ok(Self {
            parts,
            checksum: checksums::the_one(sent_checksums!(input))?,
            kind: input
                .checksum_type
                .as_ref()
                .map(|kind| ChecksumKind::parse(kind.as_str()))
                .transpose()?,
            size: input
                .mpu_object_size
                .and_then(|size| u64::try_from(size).ok()),
        })
    }

    /// The object that the named parts make.
    fn assemble(&self, state: &UploadState, uploaded: &BTreeMap<u32, Part>) -> S3Result<Content> {
        let upload = &state.upload;
        let parts = self
            .parts
            .iter()
            .map(|wanted| find_part(upload, wanted, uploaded))
            .collect::<S3Result<Vec<_>>>()?;
        if let Some((_, all_but_last)) = parts.split_last() {
            all_but_last
                .iter()
                .try_for_each(|part| check_part_size(part))?;
        }
        let size = parts.iter().map(|part| part.segment.size).sum();
        if let Some(claimed) = self.size.filter(|claimed| *claimed != size) {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The provided 'x-amz-mp-object-size' header value {claimed} does not match what was computed: {size}"
                ),
            ));
        }
        let checksum = self.checksum(state, &parts)?;
        let object_part = |part: &&Part| ObjectPart {
            number: part.number,
            size: part.segment.size,
            checksum: part.checksum.clone(),
        };
        Ok(Content::Object(Box::new(Object {
            size,
            etag: etag_of_parts(parts.iter().map(|part| part.etag.as_str())),
            properties: upload.properties.clone(),
            checksum,
            parts: parts.iter().map(object_part).collect(),
            envelope: upload.envelope.clone(),
            segments: parts.iter().map(|part| part.segment).collect(),
            data: upload.data(),
        })))
    }

    fn checksum(&self, state: &UploadState, parts: &[&Part]) -> S3Result<Checksum> {
        let algorithm = algorithm(state);
        let kind = state
            .upload
            .checksum
            .map_or(ChecksumKind::FullObject, |(_, kind)| kind);
        if self.kind.is_some_and(|asked| asked != kind) {
            return Err(S3Error::with_message(
                S3ErrorCode::BadDigest,
                format!(
                    "The upload was created using the {} checksum mode. The complete request must use the same \
                     checksum mode.",
                    kind.as_str()
                ),
            ));
        }
        let sums = parts
            .iter()
            .map(|part| (part.checksum.as_str(), part.segment.size));
        let value = checksums::of_parts(algorithm, kind, sums)?;
        if let Some((claimed_algorithm, claimed)) = &self.checksum {
            // A composite value may come with or without the number of parts behind it.
            let bare = value
                .split_once('-')
                .map_or(value.as_str(), |(bare, _)| bare);
            if *claimed_algorithm != algorithm || (*claimed != value && claimed != bare) {
                return Err(checksums::mismatch(*claimed_algorithm));
            }
        }
        Ok(Checksum {
            algorithm,
            kind,
            value,
        })
    }
}

/// The uploaded part that a Complete names, when its ETag and checksum are those that it names.
fn find_part<'a>(
    upload: &Upload,
    wanted: &CompletedPart,
    uploaded: &'a BTreeMap<u32, Part>,
) -> S3Result<&'a Part> {
    let number = wanted.part_number.unwrap_or_default();
    let etag = wanted.e_tag.as_ref().map(ETag::value).unwrap_or_default();
    let invalid = || {
        let error = S3Error::with_message(S3ErrorCode::InvalidPart, default_message("InvalidPart"));
        let error = with_detail(error, "UploadId", &upload.upload_id);
        with_detail(
            with_detail(error, "PartNumber", &number.to_string()),
            "ETag",
            etag,
        )
    };
    let part = u32::try_from(number)
        .ok()
        .and_then(|number| uploaded.get(&number))
        .ok_or_else(invalid)?;
    if part.etag != etag {
        return Err(invalid());
    }
    let Some((algorithm, kind)) = upload.checksum else {
        return Ok(part);
    };
    match checksums::the_one(sent_checksums!(wanted))? {
        Some((claimed, value)) if claimed != algorithm || value != part.checksum => Err(invalid()),
        None if kind == ChecksumKind::Composite => Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            format!(
                "The upload was created using a {} checksum. The complete request must include the checksum for each \
                 part. It was missing for part {number} in the request.",
                algorithm.as_str().to_lowercase()
            ),
        )),
        _ => Ok(part),
    }
}

fn check_part_size(part: &Part) -> S3Result<()> {
    if part.segment.size >= PART_BYTES_MIN {
        return Ok(());
    }
    let message = "Your proposed upload is smaller than the minimum allowed size";
    let error = S3Error::with_message(S3ErrorCode::EntityTooSmall, message);
    let error = with_detail(error, "ProposedSize", &part.segment.size.to_string());
    let error = with_detail(error, "MinSizeAllowed", &PART_BYTES_MIN.to_string());
    Err(with_detail(
        with_detail(error, "PartNumber", &part.number.to_string()),
        "ETag",
        &part.etag,
    ))
}
