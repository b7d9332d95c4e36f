//! Requests for one object: look, copy.

use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHoldStatus, ObjectLockMode, ServerSideEncryption, StorageClass,
};

use super::{S3, answer};
use crate::encryption::{CustomerKey, Encryption, Target};
use crate::event::Operation;
use crate::object::{Checksums, ContentHeaders, Lock, ObjectHead, Retention};
use crate::s3_error::{EMPTY_ANSWER, S3Error};

/// How long a look may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a copy of nothing may take. S3 answers when it is done.
const COPY_TIMEOUT_BASE: Duration = Duration::from_secs(60);
/// The slowest copying that is still waited for: 5 GiB in 18 minutes.
const COPY_BYTES_PER_SECOND_MIN: u64 = 5 * 1024 * 1024;

/// SSE-C's only algorithm. Source: S3 API Reference, `x-amz-server-side-encryption-customer-algorithm`.
const SSE_C_ALGORITHM: &str = "AES256";

/// A copy of an object onto itself.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// What the look told: its ETag pins both ends, what CopyObject would reset is sent along.
    pub head: &'a ObjectHead,
    /// The encryption to write.
    pub target: &'a Target,
    /// The key that the object is under now, where it is SSE-C.
    pub source_key: Option<&'a CustomerKey>,
}

/// What a copy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The encryption that the answer names; `None` where it names none.
    pub encryption: Option<Encryption>,
}

impl S3 {
    /// HeadObject of the current version.
    ///
    /// # Errors
    /// What the store answered; a HEAD has no body, so the code stands for its status.
    pub async fn head_object(
        &self,
        bucket: &str,
        key: &str,
        customer_key: Option<&CustomerKey>,
    ) -> Result<ObjectHead, S3Error> {
        let operation = Operation::HeadObject.name();
        let mut request = self.client.head_object().bucket(bucket).key(key);
        if let Some(customer_key) = customer_key {
            request = request
                .sse_customer_algorithm(SSE_C_ALGORITHM)
                .sse_customer_key(customer_key.expose_base64())
                .sse_customer_key_md5(customer_key.md5_base64());
        }
        let answer = answer(HEAD_TIMEOUT, operation, request.send()).await?;
        let missing = |what: &str| S3Error {
            operation,
            code: EMPTY_ANSWER.to_owned(),
            http_status: 200,
            message: format!("the answer has no {what}"),
            request_id: None,
            retry_after: None,
        };
        let storage_class = answer
            .storage_class()
            .map(|class| class.as_str().to_owned());
        let archived = answer.archive_status().is_some()
            || matches!(storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"));
        let restored = answer
            .restore()
            .is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
        Ok(ObjectHead {
            encryption: encryption_of(
                answer.server_side_encryption(),
                answer.ssekms_key_id(),
                answer.bucket_key_enabled(),
                answer.sse_customer_key_md5(),
            )
            .unwrap_or(Encryption::NotSse),
            etag: answer.e_tag().ok_or_else(|| missing("ETag"))?.to_owned(),
            size: answer
                .content_length()
                .and_then(|length| u64::try_from(length).ok())
                .ok_or_else(|| missing("Content-Length"))?,
            version_id: answer.version_id().map(str::to_owned),
            website_redirect: answer.website_redirect_location().map(str::to_owned),
            storage_class,
            archived: archived && !restored,
            last_modified: answer.last_modified().map(DateTime::secs),
            headers: ContentHeaders {
                content_type: answer.content_type().map(str::to_owned),
                content_encoding: answer.content_encoding().map(str::to_owned),
                content_disposition: answer.content_disposition().map(str::to_owned),
                content_language: answer.content_language().map(str::to_owned),
                cache_control: answer.cache_control().map(str::to_owned),
                expires: answer.expires_string().map(str::to_owned),
            },
            missing_meta: count(answer.missing_meta()).unwrap_or(0),
            tag_count: count(answer.tag_count()),
            lock: Lock {
                retention: retention(
                    answer.object_lock_mode().map(ObjectLockMode::as_str),
                    answer.object_lock_retain_until_date(),
                ),
                legal_hold: answer.object_lock_legal_hold_status()
                    == Some(&ObjectLockLegalHoldStatus::On),
            },
            checksums: Checksums::default(),
            parts: count(answer.parts_count()),
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        })
    }

    /// CopyObject onto itself, pinned at both ends by the ETag that was looked at. Sends along what a copy resets: storage
    /// class and website redirect. Metadata, content headers and tags S3 copies by itself.
    ///
    /// # Errors
    /// What the store answered, also inside a 200; an empty 200 is [`EMPTY_ANSWER`].
    pub async fn copy_in_place(&self, copy: Copy<'_>) -> Result<Copied, S3Error> {
        let operation = Operation::CopyObject.name();
        let head = copy.head;
        let mut request = self
            .client
            .copy_object()
            .bucket(copy.bucket)
            .key(copy.key)
            .copy_source(copy_source(copy.bucket, copy.key))
            .copy_source_if_match(&head.etag)
            .if_match(&head.etag)
            .set_storage_class(head.storage_class.as_deref().map(StorageClass::from))
            .set_website_redirect_location(head.website_redirect.clone());
        if let Some(key) = copy.source_key {
            request = request
                .copy_source_sse_customer_algorithm(SSE_C_ALGORITHM)
                .copy_source_sse_customer_key(key.expose_base64())
                .copy_source_sse_customer_key_md5(key.md5_base64());
        }
        request = match copy.target {
            Target::SseS3 => request.server_side_encryption(ServerSideEncryption::Aes256),
            Target::SseKms(kms) => request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .set_ssekms_key_id(kms.key_to_send())
                .set_ssekms_encryption_context(kms.context_base64())
                // Always sent: what S3 does when it is left out is disputed (a bucket key cuts KMS requests by up to 99 %).
                .bucket_key_enabled(kms.bucket_key.unwrap_or(true)),
            Target::DsseKms(kms) => request
                .server_side_encryption(ServerSideEncryption::AwsKmsDsse)
                .set_ssekms_key_id(kms.key_to_send())
                .set_ssekms_encryption_context(kms.context_base64()),
            Target::SseC(key) => request
                .sse_customer_algorithm(SSE_C_ALGORITHM)
                .sse_customer_key(key.expose_base64())
                .sse_customer_key_md5(key.md5_base64()),
        };
        let limit = COPY_TIMEOUT_BASE + Duration::from_secs(head.size / COPY_BYTES_PER_SECOND_MIN);
        let answer = answer(limit, operation, request.send()).await?;
        if answer
            .copy_object_result()
            .is_none_or(|result| result.e_tag().is_none())
        {
            return Err(S3Error {
                operation,
                code: EMPTY_ANSWER.to_owned(),
                http_status: 200,
                message: "the answer says OK and nothing else".to_owned(),
                request_id: None,
                retry_after: None,
            });
        }
        Ok(Copied {
            encryption: encryption_of(
                answer.server_side_encryption(),
                answer.ssekms_key_id(),
                answer.bucket_key_enabled(),
                answer.sse_customer_key_md5(),
            ),
        })
    }
}

fn count(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

fn retention(mode: Option<&str>, until: Option<&DateTime>) -> Option<Retention> {
    Some(Retention {
        mode: mode?.to_owned(),
        until_ms: until?.to_millis().ok()?,
    })
}

/// The encryption that response headers name; `None` where they name none. A mode that we don't know (`aws:fsx`) is not ours to
/// call anything but unencrypted by the modes that we know, so it is told as KMS without a key: it satisfies no target.
fn encryption_of(
    mode: Option<&ServerSideEncryption>,
    kms_key: Option<&str>,
    bucket_key: Option<bool>,
    customer_key_md5: Option<&str>,
) -> Option<Encryption> {
    if let Some(key_md5) = customer_key_md5 {
        return Some(Encryption::SseC {
            key_md5: key_md5.to_owned(),
        });
    }
    let key = kms_key.filter(|key| !key.is_empty()).map(str::to_owned);
    Some(match mode? {
        ServerSideEncryption::Aes256 => Encryption::SseS3,
        ServerSideEncryption::AwsKms => Encryption::SseKms {
            key,
            bucket_key: bucket_key.unwrap_or(false),
        },
        ServerSideEncryption::AwsKmsDsse => Encryption::DsseKms { key },
        _ => Encryption::SseKms {
            key: None,
            bucket_key: false,
        },
    })
}

/// The `x-amz-copy-source` header: every byte but the unreserved ones and `/` is percent-encoded. The SDK does not do it, and
/// S3 reads a bare `+` as a space.
fn copy_source(bucket: &str, key: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut source = String::with_capacity(bucket.len() + key.len() + 8);
    source.push_str(bucket);
    source.push('/');
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            source.push(char::from(byte));
        } else {
            source.push('%');
            source.push(char::from(HEX[usize::from(byte >> 4)]));
            source.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_source_names_exactly_its_key() {
        for (key, expected) in [
            ("a/b c", "b/a/b%20c"),
            ("plus+percent%41", "b/plus%2Bpercent%2541"),
            ("ä?versionId=1", "b/%C3%A4%3FversionId%3D1"),
            ("\n", "b/%0A"),
        ] {
            assert_eq!(copy_source("b", key), expected);
        }
    }
}
