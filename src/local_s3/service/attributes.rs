//! GetObjectAttributes.

use s3s::dto::{
    self, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Service, blocking, object_version};
use crate::local_s3::model::{Checksum, ChecksumAlgorithm, ChecksumKind, Object, ObjectPart};
use crate::local_s3::vault::CustomerKey;

/// Parts in one answer, and when the request names no number. Source: S3 API, GetObjectAttributes.
const PARTS_MAX: usize = 1_000;

/// The attributes that can be asked for.
const KNOWN: [&str; 5] = [
    dto::ObjectAttributes::CHECKSUM,
    dto::ObjectAttributes::ETAG,
    dto::ObjectAttributes::OBJECT_PARTS,
    dto::ObjectAttributes::OBJECT_SIZE,
    dto::ObjectAttributes::STORAGE_CLASS,
];

pub(super) async fn get_object_attributes(
    service: &Service,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = request.input;
    let asked = input.object_attributes.iter().map(|list| list.as_str());
    let asked: Vec<&str> = asked
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    if !asked.iter().all(|name| KNOWN.contains(name)) {
        return Err(s3_error!(
            InvalidArgument,
            "Invalid attribute name specified."
        ));
    }
    let asks = |name: &str| asked.contains(&name);

    let bucket = service.bucket(&input.bucket)?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let version = object_version::find(&bucket, &input.key, version_id.as_ref())?;
    let object = version
        .object()
        .ok_or_else(|| s3_error!(MethodNotAllowed))?;
    let customer_key = CustomerKey::from_headers(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    // As for HEAD: an SSE-C object answers only to its key.
    let (vault, envelope) = (service.vault.clone(), object.envelope.clone());
    let (bucket_name, key) = (input.bucket.clone(), input.key.clone());
    if customer_key.is_some() || envelope.customer_key_md5_base64().is_some() {
        blocking(move || {
            vault.unseal(&envelope, &bucket_name, &key, customer_key.as_ref())?;
            Ok(())
        })
        .await?;
    }

    let marker = input.part_number_marker.unwrap_or(0);
    let max = input.max_parts.map_or(PARTS_MAX, |max| {
        usize::try_from(max).unwrap_or(0).min(PARTS_MAX)
    });
    let has_parts = asks(dto::ObjectAttributes::OBJECT_PARTS) && !object.parts.is_empty();
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: asks(dto::ObjectAttributes::CHECKSUM).then(|| whole(&object.checksum)),
        e_tag: asks(dto::ObjectAttributes::ETAG).then(|| dto::ETag::Strong(object.etag.clone())),
        last_modified: Some(version.last_modified.whole_second().into()),
        object_parts: has_parts.then(|| parts(object, marker, max)),
        object_size: asks(dto::ObjectAttributes::OBJECT_SIZE).then(|| signed(object.size)),
        storage_class: asks(dto::ObjectAttributes::STORAGE_CLASS)
            .then(|| object.properties.storage_class.clone().into()),
        version_id: object_version::shown_id(&bucket.config(), &version),
        ..Default::default()
    }))
}

/// The object's checksum; a composite one is shown without its number of parts here.
fn whole(checksum: &Checksum) -> dto::Checksum {
    let value = checksum.value.split('-').next().unwrap_or_default();
    let value = |algorithm| (checksum.algorithm == algorithm).then(|| value.to_owned());
    let kind = match checksum.kind {
        ChecksumKind::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumKind::Composite => dto::ChecksumType::COMPOSITE,
    };
    dto::Checksum {
        checksum_crc32: value(ChecksumAlgorithm::Crc32),
        checksum_crc32c: value(ChecksumAlgorithm::Crc32c),
        checksum_crc64nvme: value(ChecksumAlgorithm::Crc64nvme),
        checksum_sha1: value(ChecksumAlgorithm::Sha1),
        checksum_sha256: value(ChecksumAlgorithm::Sha256),
        checksum_type: Some(dto::ChecksumType::from_static(kind)),
    }
}

/// Sizes of parts are told only for objects with a composite checksum; of others just the number of parts.
/// Source: S3 API, GetObjectAttributesParts.
fn parts(object: &Object, marker: i32, max: usize) -> GetObjectAttributesParts {
    let total = i32::try_from(object.parts.len()).unwrap_or(i32::MAX);
    if object.checksum.kind == ChecksumKind::FullObject {
        return GetObjectAttributesParts {
            total_parts_count: Some(total),
            ..Default::default()
        };
    }
    let after = u32::try_from(marker).unwrap_or(0);
    let mut rest = object.parts.iter().filter(|part| part.number > after);
    let page: Vec<&ObjectPart> = rest.by_ref().take(max).collect();
    let number = |part: &ObjectPart| i32::try_from(part.number).unwrap_or(i32::MAX);
    GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: Some(i32::try_from(max).unwrap_or(i32::MAX)),
        next_part_number_marker: Some(page.last().map_or(marker, |part| number(part))),
        part_number_marker: Some(marker),
        parts: Some(page.into_iter().map(|part| shown(object, part)).collect()),
        total_parts_count: Some(total),
    }
}

fn shown(object: &Object, part: &ObjectPart) -> dto::ObjectPart {
    let algorithm = object.checksum.algorithm;
    let value = |of| (algorithm == of).then(|| part.checksum.clone());
    dto::ObjectPart {
        checksum_crc32: value(ChecksumAlgorithm::Crc32),
        checksum_crc32c: value(ChecksumAlgorithm::Crc32c),
        checksum_crc64nvme: value(ChecksumAlgorithm::Crc64nvme),
        checksum_sha1: value(ChecksumAlgorithm::Sha1),
        checksum_sha256: value(ChecksumAlgorithm::Sha256),
        part_number: i32::try_from(part.number).ok(),
        size: Some(signed(part.size)),
    }
}

/// Sizes are signed on the wire; none of ours comes near the end.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
