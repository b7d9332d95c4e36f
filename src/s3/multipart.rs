//! The rewrite in parts.

use std::time::Duration;

use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};

use super::copy::copy_limit;
use super::request::{
    checksum_type, checksums_in, copy_source, customer_key_of, decoded, encryption_in,
    encryption_of, from_key, send_expires, tagging, under_key, under_target, version_of,
    with_carried, with_content,
};
use super::{Carry, Destination, S3, Written, answer, empty, unreadable};
use crate::encryption::{CustomerKey, Encryption, Target};
use crate::event::Operation;
use crate::object::{ChecksumKind, Checksums, ObjectHead, ObjectRef};
use crate::s3_error::S3Error;

/// How long a request may take that moves no data.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the completion may take. Source: S3 API Reference, CompleteMultipartUpload: "could take several minutes".
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// Begins a multipart copy.
#[derive(Clone, Copy, Debug)]
pub struct Create<'a> {
    /// Where the object shall be; its version does not matter.
    pub object: ObjectRef<'a>,
    /// What the look told: content headers, metadata, storage class and redirect are sent along.
    pub head: &'a ObjectHead,
    /// The encryption to write.
    pub target: &'a Target,
    /// What else is sent along; no tags are no tags.
    pub carry: &'a Carry,
    /// The checksum that the store shall keep: its algorithm in S3's spelling, and what it is over.
    pub checksum: Option<(&'a str, ChecksumKind)>,
}

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: String,
    /// The encryption that the answer names; `None` where it names none.
    pub encryption: Option<Encryption>,
}

/// Copies one part.
#[derive(Clone, Copy, Debug)]
pub struct CopyPart<'a> {
    /// The object; its version is the copy's source.
    pub object: ObjectRef<'a>,
    /// The upload.
    pub upload_id: &'a str,
    /// The part's number, from 1.
    pub number: u32,
    /// Its first byte in the source.
    pub first: u64,
    /// Its last byte in the source, inclusive.
    pub last: u64,
    /// The ETag that the source must have still.
    pub etag: &'a str,
    /// The key that the source is under, where it is SSE-C.
    pub source_key: Option<&'a CustomerKey>,
    /// The upload's target.
    pub target: &'a Target,
}

/// One part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Its ETag with quotes.
    pub etag: String,
    /// Its size in bytes, where the answer tells it.
    pub size: Option<u64>,
    /// Its checksums.
    pub checksums: Checksums,
}

/// Some parts of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsPage {
    /// By number.
    pub parts: Vec<Part>,
    /// Whether there are parts after these.
    pub more: bool,
}

/// Puts the parts in the object's place.
#[derive(Clone, Copy, Debug)]
pub struct Complete<'a> {
    /// Where.
    pub object: ObjectRef<'a>,
    /// The upload.
    pub upload_id: &'a str,
    /// All of its parts, by number.
    pub parts: &'a [Part],
    /// What must be in the object's place still.
    pub destination: Destination<'a>,
    /// The upload's target.
    pub target: &'a Target,
    /// What the upload's checksum is over, where it was given one.
    pub checksum: Option<ChecksumKind>,
    /// The whole size in bytes: the store refuses what does not add up to it.
    pub size: u64,
}

/// A page of uploads in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadsPage {
    /// The key of each: a key may have several.
    pub keys: Vec<String>,
    /// Where the next page begins: behind this upload of this key.
    pub next: Option<(String, String)>,
}

impl S3 {
    /// CreateMultipartUpload. Nothing of an object is in the way of a copy in parts but what is sent here.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn create_upload(&self, create: Create<'_>) -> Result<Upload, S3Error> {
        let operation = Operation::CreateMultipartUpload.name();
        let (head, carry) = (create.head, create.carry);
        let tags = carry.tags.as_deref().and_then(tagging);
        let algorithm = create
            .checksum
            .map(|(algorithm, _)| ChecksumAlgorithm::from(algorithm));
        let kind = create.checksum.map(|(_, kind)| checksum_type(kind));
        let request = self
            .client
            .create_multipart_upload()
            .bucket(create.object.bucket)
            .key(create.object.key)
            .set_tagging(tags)
            .set_checksum_algorithm(algorithm)
            .set_checksum_type(kind);
        let request = with_carried!(request, head, carry);
        let request = with_content!(request, &head.headers, &head.metadata);
        let request = under_target!(request, Some(create.target));
        let sent = send_expires!(request, head.headers.expires.clone());
        let answer = answer(UPLOAD_TIMEOUT, operation, sent).await?;
        let id = answer
            .upload_id()
            .filter(|id| !id.is_empty())
            .ok_or_else(|| empty(operation, "the answer has no upload id"))?;
        Ok(Upload {
            id: id.to_owned(),
            encryption: encryption_in!(&answer),
        })
    }

    /// UploadPartCopy. Only a customer's key is sent again: the store knows the upload's other modes.
    ///
    /// # Errors
    /// What the store answered, also inside a 200; an empty 200 is [`EMPTY_ANSWER`](crate::s3_error::EMPTY_ANSWER).
    pub async fn copy_part(&self, part: CopyPart<'_>) -> Result<Part, S3Error> {
        let operation = Operation::UploadPartCopy.name();
        let request = self
            .client
            .upload_part_copy()
            .bucket(part.object.bucket)
            .key(part.object.key)
            .upload_id(part.upload_id)
            .part_number(wire_number(part.number))
            .copy_source(copy_source(part.object))
            .copy_source_range(format!("bytes={}-{}", part.first, part.last))
            .copy_source_if_match(part.etag);
        let request = from_key!(request, part.source_key);
        let request = under_key!(request, customer_key_of(part.target));
        let bytes = part.last.saturating_sub(part.first) + 1;
        let answer = answer(copy_limit(bytes), operation, request.send()).await?;
        let (result, etag) = answer
            .copy_part_result()
            .and_then(|result| Some((result, result.e_tag()?)))
            .ok_or_else(|| empty(operation, "the answer says OK and nothing else"))?;
        Ok(Part {
            number: part.number,
            etag: etag.to_owned(),
            size: Some(bytes),
            checksums: checksums_in!(result, None),
        })
    }

    /// CompleteMultipartUpload. The answer never names an SSE-C key: a look does.
    ///
    /// # Errors
    /// What the store answered, also inside a 200; an empty 200 is [`EMPTY_ANSWER`](crate::s3_error::EMPTY_ANSWER).
    pub async fn complete_upload(&self, complete: Complete<'_>) -> Result<Written, S3Error> {
        let operation = Operation::CompleteMultipartUpload.name();
        let composite = complete.checksum == Some(ChecksumKind::Composite);
        let parts = complete
            .parts
            .iter()
            .map(|part| completed(part, composite))
            .collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(complete.object.bucket)
            .key(complete.object.key)
            .upload_id(complete.upload_id)
            .multipart_upload(parts.build())
            .set_checksum_type(complete.checksum.map(checksum_type))
            .set_mpu_object_size(i64::try_from(complete.size).ok())
            .set_if_match(complete.destination.if_match())
            .set_if_none_match(complete.destination.if_none_match());
        // AWS takes it, other stores need it.
        let request = under_key!(request, customer_key_of(complete.target));
        let answer = answer(COMPLETE_TIMEOUT, operation, request.send()).await?;
        let etag = answer
            .e_tag()
            .ok_or_else(|| empty(operation, "the answer says OK and nothing else"))?;
        let (mode, key) = (answer.server_side_encryption(), answer.ssekms_key_id());
        Ok(Written {
            encryption: encryption_of(mode, key, answer.bucket_key_enabled(), None),
            // Ceph RGW 16 sends an empty one: it names nothing.
            etag: Some(etag.to_owned()).filter(|etag| !etag.trim_matches('"').is_empty()),
            version_id: version_of(answer.version_id()),
            checksums: checksums_in!(&answer, answer.checksum_type()),
            request_id: answer.request_id().map(str::to_owned),
        })
    }

    /// AbortMultipartUpload. An upload that is not there has been aborted, or completed.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn abort_upload(
        &self,
        object: ObjectRef<'_>,
        upload_id: &str,
    ) -> Result<(), S3Error> {
        let operation = Operation::AbortMultipartUpload.name();
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(object.bucket)
            .key(object.key)
            .upload_id(upload_id);
        match answer(UPLOAD_TIMEOUT, operation, request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == "NoSuchUpload" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// ListMultipartUploads: a page of the uploads in progress of keys with a prefix, behind one of them: up to 1,000. What they are under
    /// S3 does not show.
    ///
    /// # Errors
    /// What the store answered; a page that does not say where the next begins.
    pub async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&(String, String)>,
    ) -> Result<UploadsPage, S3Error> {
        const OPERATION: &str = "ListMultipartUploads";
        let request = self
            .client
            .list_multipart_uploads()
            .bucket(bucket)
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_key_marker(after.map(|(key, _)| key.clone()))
            .set_upload_id_marker(after.map(|(_, id)| id.clone()))
            // Keys may hold characters that XML can't.
            .encoding_type(EncodingType::Url);
        let page = answer(UPLOAD_TIMEOUT, OPERATION, request.send()).await?;
        let encoding = page.encoding_type();
        let keys = page.uploads().iter().filter_map(|upload| upload.key());
        let keys = keys.map(|key| decoded(key, encoding)).collect();
        let next = match page.is_truncated() {
            Some(true) => {
                let marker = page.next_key_marker().filter(|key| !key.is_empty());
                let key = marker
                    .map(|key| decoded(key, encoding))
                    .ok_or_else(|| unreadable(OPERATION, "a page without a marker for the next"))?;
                let id = page.next_upload_id_marker().unwrap_or_default();
                Some((key, id.to_owned()))
            }
            _ => None,
        };
        if next.is_some() && next.as_ref() == after {
            return Err(unreadable(OPERATION, "a page that leads to itself"));
        }
        Ok(UploadsPage { keys, next })
    }

    /// ListParts after a part's number, 0 for the first page: up to 1,000.
    ///
    /// # Errors
    /// What the store answered; `NoSuchUpload` where there is none.
    pub async fn list_parts(
        &self,
        object: ObjectRef<'_>,
        upload_id: &str,
        after: u32,
    ) -> Result<PartsPage, S3Error> {
        let operation = Operation::ListParts.name();
        let request = self
            .client
            .list_parts()
            .bucket(object.bucket)
            .key(object.key)
            .upload_id(upload_id)
            .set_part_number_marker((after > 0).then(|| after.to_string()));
        let answer = answer(UPLOAD_TIMEOUT, operation, request.send()).await?;
        let parts = answer.parts().iter().filter_map(|part| {
            Some(Part {
                number: part.part_number().and_then(|n| u32::try_from(n).ok())?,
                etag: part.e_tag()?.to_owned(),
                size: part.size().and_then(|size| u64::try_from(size).ok()),
                checksums: checksums_in!(part, None),
            })
        });
        Ok(PartsPage {
            parts: parts.collect(),
            more: answer.is_truncated().unwrap_or(false),
        })
    }
}

/// Part numbers go up to 10,000. Source: S3 User Guide, "Amazon S3 multipart upload limits".
fn wire_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A part as the completion names it. S3 wants its checksum back where the object's is made of them.
fn completed(part: &Part, composite: bool) -> CompletedPart {
    let value = |algorithm: &str| {
        let value = part.checksums.values.get(algorithm);
        value.filter(|_| composite).cloned()
    };
    CompletedPart::builder()
        .part_number(wire_number(part.number))
        .e_tag(&part.etag)
        .set_checksum_crc32(value("CRC32"))
        .set_checksum_crc32_c(value("CRC32C"))
        .set_checksum_crc64_nvme(value("CRC64NVME"))
        .set_checksum_md5(value("MD5"))
        .set_checksum_sha1(value("SHA1"))
        .set_checksum_sha256(value("SHA256"))
        .set_checksum_sha512(value("SHA512"))
        .set_checksum_xxhash128(value("XXHASH128"))
        .set_checksum_xxhash3(value("XXHASH3"))
        .set_checksum_xxhash64(value("XXHASH64"))
        .build()
}
