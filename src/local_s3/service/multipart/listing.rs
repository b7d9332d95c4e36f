//! ListParts and ListMultipartUploads.

use std::sync::Arc;

use s3s::dto::{
    ChecksumAlgorithm as ShownAlgorithm, ChecksumType, ETag, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    Part as ListedPart, StorageClass, Timestamp,
};
use s3s::{S3Request, S3Response, S3Result};

use super::parts::algorithm;
use crate::local_s3::service::acl::owner;
use crate::local_s3::service::checksums::show_checksum;
use crate::local_s3::service::list::{Names, Scope};
use crate::local_s3::service::{OWNER_ID, OWNER_NAME, Service};
use crate::local_s3::store::UploadState;

/// Lists the parts of an upload.
pub(in crate::local_s3::service) fn list_parts(
    service: &Service,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let state = bucket.upload(&input.key, &input.upload_id)?;
    let scope = Scope::of(None, None, input.max_parts, "max-parts")?;
    let marker = input.part_number_marker.unwrap_or(0).max(0);
    let parts = state.parts();
    let mut after = parts
        .range(marker.unsigned_abs() + 1..)
        .map(|(_, part)| part);
    let page: Vec<_> = after.by_ref().take(scope.max).collect();
    let truncated = scope.max > 0 && after.next().is_some();
    let last = page.last().and_then(|part| i32::try_from(part.number).ok());
    let listed = page.iter().map(|part| {
        let mut listed = ListedPart {
            part_number: i32::try_from(part.number).ok(),
            e_tag: Some(ETag::Strong(part.etag.clone())),
            size: i64::try_from(part.segment.size).ok(),
            last_modified: Some(Timestamp::from(part.last_modified.whole_second())),
            ..ListedPart::default()
        };
        show_checksum!(listed, algorithm(&state), part.checksum.clone());
        listed
    });
    let upload = &state.upload;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(marker),
        next_part_number_marker: Some(last.unwrap_or(0)),
        max_parts: Some(scope.shown_max()),
        is_truncated: Some(truncated),
        parts: Some(listed.collect()),
        storage_class: Some(StorageClass::from(upload.properties.storage_class.clone())),
        checksum_algorithm: upload
            .checksum
            .map(|(algorithm, _)| ShownAlgorithm::from_static(algorithm.as_str())),
        checksum_type: upload
            .checksum
            .map(|(_, kind)| ChecksumType::from_static(kind.as_str())),
        owner: Some(owner()),
        initiator: Some(initiator()),
        ..ListPartsOutput::default()
    }))
}

/// Lists uploads in progress by key, and those of a key in the order of their initiation.
pub(in crate::local_s3::service) fn list_multipart_uploads(
    service: &Service,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let names = Names::of(input.encoding_type.as_ref())?;
    let scope = Scope::of(
        input.prefix,
        input.delimiter,
        input.max_uploads,
        "max-uploads",
    )?;
    let key_marker = input.key_marker.unwrap_or_default();
    let upload_id_marker = input
        .upload_id_marker
        .filter(|_| !key_marker.is_empty())
        .unwrap_or_default();
    let page = Page::read(bucket.uploads(), &scope, &key_marker, &upload_id_marker);
    let next = page.last.as_ref().filter(|_| page.truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(names.write(&scope.prefix)),
        delimiter: scope
            .delimiter
            .as_deref()
            .map(|delimiter| names.write(delimiter)),
        key_marker: Some(names.write(&key_marker)),
        upload_id_marker: Some(upload_id_marker),
        next_key_marker: next.map(|(key, _)| names.write(key)),
        next_upload_id_marker: next.map(|(_, upload_id)| upload_id.clone()),
        max_uploads: Some(scope.shown_max()),
        is_truncated: Some(page.truncated),
        encoding_type: input.encoding_type,
        uploads: Some(
            page.uploads
                .iter()
                .map(|state| listed(state, names))
                .collect(),
        ),
        common_prefixes: Some(names.prefixes(&page.prefixes)),
        ..ListMultipartUploadsOutput::default()
    }))
}

#[derive(Default)]
struct Page {
    uploads: Vec<Arc<UploadState>>,
    prefixes: Vec<String>,
    truncated: bool,
    /// The last entry: key and upload id, or a common prefix and nothing.
    last: Option<(String, String)>,
}

impl Page {
    fn read(
        uploads: Vec<Arc<UploadState>>,
        scope: &Scope,
        key_marker: &str,
        upload_id_marker: &str,
    ) -> Self {
        let mut page = Self::default();
        let passed = uploads
            .iter()
            .find(|state| state.upload.upload_id == upload_id_marker);
        let passed = passed.map(|state| state.upload.sequence);
        for state in uploads {
            let key = state.upload.key.as_str();
            let behind_marker = key > key_marker
                || key == key_marker && passed.is_some_and(|passed| state.upload.sequence > passed);
            if !behind_marker || !key.starts_with(&scope.prefix) {
                continue;
            }
            let group = scope.group(key);
            if group.is_some_and(|group| {
                group == key_marker || page.prefixes.last().is_some_and(|p| p == group)
            }) {
                continue;
            }
            if page.uploads.len() + page.prefixes.len() == scope.max {
                page.truncated = scope.max > 0;
                break;
            }
            if let Some(group) = group {
                page.prefixes.push(group.to_owned());
                page.last = Some((group.to_owned(), String::new()));
            } else {
                page.last = Some((key.to_owned(), state.upload.upload_id.clone()));
                page.uploads.push(state);
            }
        }
        page
    }
}

fn listed(state: &UploadState, names: Names) -> MultipartUpload {
    let upload = &state.upload;
    MultipartUpload {
        key: Some(names.write(&upload.key)),
        upload_id: Some(upload.upload_id.clone()),
        initiated: Some(Timestamp::from(upload.initiated.whole_second())),
        storage_class: Some(StorageClass::from(upload.properties.storage_class.clone())),
        checksum_algorithm: upload
            .checksum
            .map(|(algorithm, _)| ShownAlgorithm::from_static(algorithm.as_str())),
        checksum_type: upload
            .checksum
            .map(|(_, kind)| ChecksumType::from_static(kind.as_str())),
        owner: Some(owner()),
        initiator: Some(initiator()),
    }
}

fn initiator() -> Initiator {
    Initiator {
        display_name: Some(OWNER_NAME.to_owned()),
        id: Some(OWNER_ID.to_owned()),
    }
}
