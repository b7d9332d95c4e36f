//! What requests have in common. The SDK's builders share no trait, only the names of their methods: so these are macros.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumType, EncodingType, ObjectLockLegalHoldStatus, ObjectLockMode, ServerSideEncryption,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::encryption::{Encryption, Target};
use crate::object::{Acl, ChecksumKind, Checksums, Grantee, Lock, ObjectRef, Retention, Tag};

/// SSE-C's only algorithm. Source: S3 API Reference, `x-amz-server-side-encryption-customer-algorithm`.
pub(super) const SSE_C_ALGORITHM: &str = "AES256";

/// Names the object, and its version where one is meant.
macro_rules! of_object {
    ($request:expr, $object:expr) => {{
        let object: $crate::object::ObjectRef<'_> = $object;
        $request
            .bucket(object.bucket)
            .key(object.key)
            .set_version_id(object.version_id.map(str::to_owned))
    }};
}

/// The three headers of the customer key that the object is, or shall be, under.
macro_rules! under_key {
    ($request:expr, $key:expr) => {{
        let key: Option<&$crate::encryption::CustomerKey> = $key;
        $request
            .set_sse_customer_algorithm(
                key.map(|_| $crate::s3::request::SSE_C_ALGORITHM.to_owned()),
            )
            .set_sse_customer_key(key.map(|key| key.expose_base64().to_owned()))
            .set_sse_customer_key_md5(key.map(|key| key.md5_base64().to_owned()))
    }};
}

/// The three headers of the customer key that a copy's source is under.
macro_rules! from_key {
    ($request:expr, $key:expr) => {{
        let key: Option<&$crate::encryption::CustomerKey> = $key;
        $request
            .set_copy_source_sse_customer_algorithm(
                key.map(|_| $crate::s3::request::SSE_C_ALGORITHM.to_owned()),
            )
            .set_copy_source_sse_customer_key(key.map(|key| key.expose_base64().to_owned()))
            .set_copy_source_sse_customer_key_md5(key.map(|key| key.md5_base64().to_owned()))
    }};
}

/// The target's headers, on a request that makes an object; none for the bucket's default.
macro_rules! under_target {
    ($request:expr, $target:expr) => {{
        let target: Option<&$crate::encryption::Target> = $target;
        let kms = target.and_then(|target| target.kms());
        let request = $request
            .set_server_side_encryption(target.and_then($crate::s3::request::mode_of))
            .set_ssekms_key_id(kms.and_then(|kms| kms.key_to_send()))
            .set_ssekms_encryption_context(kms.and_then(|kms| kms.context_base64()))
            .set_bucket_key_enabled(target.and_then($crate::s3::request::bucket_key_of));
        let key = target.and_then($crate::s3::request::customer_key_of);
        $crate::s3::request::under_key!(request, key)
    }};
}

/// Content headers but Expires, and all metadata.
macro_rules! with_content {
    ($request:expr, $headers:expr, $metadata:expr) => {{
        let headers: &$crate::object::ContentHeaders = $headers;
        $request
            .set_content_type(headers.content_type.clone())
            .set_content_encoding(headers.content_encoding.clone())
            .set_content_disposition(headers.content_disposition.clone())
            .set_content_language(headers.content_language.clone())
            .set_cache_control(headers.cache_control.clone())
            .set_metadata($crate::s3::request::metadata_to_send($metadata))
    }};
}

/// Storage class and redirect, which no copy keeps by itself, and what the caller carries: grants, lock.
macro_rules! with_carried {
    ($request:expr, $head:expr, $carry:expr) => {{
        let head: &$crate::object::ObjectHead = $head;
        let carry: &$crate::s3::Carry = $carry;
        let granted = |permission| $crate::s3::request::granted(carry.acl.as_ref(), permission);
        let (mode, until, hold) = $crate::s3::request::lock_to_send(&carry.lock);
        $request
            .set_storage_class(
                head.storage_class
                    .as_deref()
                    .map(aws_sdk_s3::types::StorageClass::from),
            )
            .set_website_redirect_location(head.website_redirect.clone())
            .set_grant_full_control(granted("FULL_CONTROL"))
            .set_grant_read(granted("READ"))
            .set_grant_read_acp(granted("READ_ACP"))
            .set_grant_write_acp(granted("WRITE_ACP"))
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until)
            .set_object_lock_legal_hold_status(hold)
    }};
}

/// Sends a request with an Expires header to the letter: the SDK takes dates only, and S3 keeps what is none too.
macro_rules! send_expires {
    ($request:expr, $expires:expr) => {{
        let expires: Option<String> = $expires;
        $request
            .customize()
            .mutate_request(move |request| {
                if let Some(expires) = &expires {
                    // It came as a header, so it can go as one.
                    let _ = request.headers_mut().try_insert("expires", expires.clone());
                }
            })
            .send()
    }};
}

/// Every checksum that an answer names.
macro_rules! checksums_in {
    ($answer:expr, $kind:expr) => {{
        let answer = $answer;
        $crate::s3::request::checksums(
            $kind,
            [
                ("CRC32", answer.checksum_crc32()),
                ("CRC32C", answer.checksum_crc32_c()),
                ("CRC64NVME", answer.checksum_crc64_nvme()),
                ("MD5", answer.checksum_md5()),
                ("SHA1", answer.checksum_sha1()),
                ("SHA256", answer.checksum_sha256()),
                ("SHA512", answer.checksum_sha512()),
                ("XXHASH128", answer.checksum_xxhash128()),
                ("XXHASH3", answer.checksum_xxhash3()),
                ("XXHASH64", answer.checksum_xxhash64()),
            ],
        )
    }};
}

/// The encryption that an answer's headers name; `None` where they name none.
macro_rules! encryption_in {
    ($answer:expr) => {{
        let answer = $answer;
        $crate::s3::request::encryption_of(
            answer.server_side_encryption(),
            answer.ssekms_key_id(),
            answer.bucket_key_enabled(),
            answer.sse_customer_key_md5(),
        )
    }};
}

pub(super) use {
    checksums_in, encryption_in, from_key, of_object, send_expires, under_key, under_target,
    with_carried, with_content,
};

pub(super) fn mode_of(target: &Target) -> Option<ServerSideEncryption> {
    match target {
        Target::SseS3 => Some(ServerSideEncryption::Aes256),
        Target::SseKms(_) => Some(ServerSideEncryption::AwsKms),
        Target::DsseKms(_) => Some(ServerSideEncryption::AwsKmsDsse),
        Target::SseC(_) => None,
    }
}

/// Always sent for SSE-KMS: what S3 does when it is left out is disputed (a bucket key cuts KMS requests by up to 99 %).
pub(super) fn bucket_key_of(target: &Target) -> Option<bool> {
    match target {
        Target::SseKms(kms) => Some(kms.bucket_key.unwrap_or(true)),
        _ => None,
    }
}

pub(super) fn customer_key_of(target: &Target) -> Option<&crate::encryption::CustomerKey> {
    match target {
        Target::SseC(key) => Some(key),
        _ => None,
    }
}

/// The encryption that response headers name; `None` where they name none. A mode that we don't know (`aws:fsx`) is not ours to
/// call anything but unencrypted by the modes that we know, so it is told as KMS without a key: it satisfies no target.
pub(super) fn encryption_of(
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

pub(super) fn checksums<const N: usize>(
    kind: Option<&ChecksumType>,
    values: [(&str, Option<&str>); N],
) -> Checksums {
    Checksums {
        kind: match kind {
            Some(ChecksumType::FullObject) => Some(ChecksumKind::FullObject),
            Some(ChecksumType::Composite) => Some(ChecksumKind::Composite),
            _ => None,
        },
        values: values
            .into_iter()
            .filter_map(|(algorithm, value)| Some((algorithm.to_owned(), value?.to_owned())))
            .collect(),
    }
}

pub(super) fn checksum_type(kind: ChecksumKind) -> ChecksumType {
    match kind {
        ChecksumKind::FullObject => ChecksumType::FullObject,
        ChecksumKind::Composite => ChecksumType::Composite,
    }
}

pub(super) fn count(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

pub(super) fn retention(mode: Option<&str>, until: Option<&DateTime>) -> Option<Retention> {
    Some(Retention {
        mode: mode?.to_owned(),
        until_ms: until?.to_millis().ok()?,
    })
}

/// The `x-amz-copy-source` header: every byte but the unreserved ones and `/` is percent-encoded. The SDK does not do it, and
/// S3 reads a bare `+` as a space.
pub(super) fn copy_source(object: ObjectRef<'_>) -> String {
    let mut source = format!("{}/{}", object.bucket, percent_encoded(object.key, b"/"));
    if let Some(version) = object.version_id {
        source.push_str("?versionId=");
        source.push_str(&percent_encoded(version, b""));
    }
    source
}

/// Tags as the `x-amz-tagging` header wants them: a URL's query string. `None` for no tags.
pub(super) fn tagging(tags: &[Tag]) -> Option<String> {
    let pairs = tags.iter().map(|tag| {
        let (key, value) = (
            percent_encoded(&tag.key, b""),
            percent_encoded(&tag.value, b""),
        );
        format!("{key}={value}")
    });
    (!tags.is_empty()).then(|| pairs.collect::<Vec<_>>().join("&"))
}

fn percent_encoded(text: &str, kept: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if unreserved || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// Metadata as headers. What is not ASCII goes as RFC 2047 has it, and S3 decodes that when it stores it.
/// Source: S3 User Guide, "Working with object metadata".
pub(super) fn metadata_to_send(
    metadata: &BTreeMap<String, String>,
) -> Option<HashMap<String, String>> {
    let values = metadata
        .iter()
        .map(|(name, value)| (name.clone(), header_text(value)));
    Some(values.collect()).filter(|metadata: &HashMap<_, _>| !metadata.is_empty())
}

fn header_text(value: &str) -> String {
    if value
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
    {
        value.to_owned()
    } else {
        format!("=?UTF-8?B?{}?=", BASE64.encode(value))
    }
}

/// Everybody that an ACL grants a permission to, as the `x-amz-grant-*` headers name them. What they can't name is left out:
/// whoever carries an ACL has asked [`Acl::can_be_sent`].
pub(super) fn granted(acl: Option<&Acl>, permission: &str) -> Option<String> {
    let grantees: Vec<String> = acl?
        .grants
        .iter()
        .filter(|grant| grant.permission == permission)
        .filter_map(|grant| match &grant.grantee {
            Grantee::Account(id) => Some(format!("id=\"{id}\"")),
            Grantee::Group(uri) => Some(format!("uri=\"{uri}\"")),
            Grantee::Other => None,
        })
        .collect();
    (!grantees.is_empty()).then(|| grantees.join(", "))
}

/// The lock's headers. A retention that is over holds nothing, and S3 refuses its date.
pub(super) fn lock_to_send(
    lock: &Lock,
) -> (
    Option<ObjectLockMode>,
    Option<DateTime>,
    Option<ObjectLockLegalHoldStatus>,
) {
    let now_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
    let retention = lock
        .retention
        .as_ref()
        .filter(|kept| kept.until_ms > now_ms);
    (
        retention.map(|kept| ObjectLockMode::from(kept.mode.as_str())),
        retention.map(|kept| DateTime::from_millis(kept.until_ms)),
        lock.legal_hold.then_some(ObjectLockLegalHoldStatus::On),
    )
}

/// The version, where an answer names one; the null version has a name too.
pub(super) fn version_of(version_id: Option<&str>) -> Option<String> {
    version_id.filter(|id| !id.is_empty()).map(str::to_owned)
}

/// A key of a listing. A store that doesn't know the encoding doesn't name it.
pub(super) fn decoded(name: &str, encoding: Option<&EncodingType>) -> String {
    match encoding {
        Some(EncodingType::Url) => String::from_utf8_lossy(&url_decoded(name)).into_owned(),
        _ => name.to_owned(),
    }
}

/// The same; `None` where it is no UTF-8, which no key is.
pub(super) fn decoded_strictly(name: &str, encoding: Option<&EncodingType>) -> Option<String> {
    match encoding {
        Some(EncodingType::Url) => String::from_utf8(url_decoded(name)).ok(),
        _ => Some(name.to_owned()),
    }
}

fn url_decoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Grant, NULL_VERSION};

    #[test]
    fn a_copy_source_names_exactly_its_key_and_version() {
        for (key, version_id, expected) in [
            ("a/b c", None, "b/a/b%20c"),
            ("plus+percent%41", None, "b/plus%2Bpercent%2541"),
            ("ä?versionId=1", None, "b/%C3%A4%3FversionId%3D1"),
            ("\n", Some(NULL_VERSION), "b/%0A?versionId=null"),
            ("k", Some("a/b+c"), "b/k?versionId=a%2Fb%2Bc"),
        ] {
            let object = ObjectRef {
                bucket: "b",
                key,
                version_id,
            };
            assert_eq!(copy_source(object), expected);
        }
    }

    #[test]
    fn tags_are_a_query_string() {
        let tag = |key: &str, value: &str| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        assert_eq!(tagging(&[]), None);
        assert_eq!(
            tagging(&[tag("a b", "1+1=2&c"), tag("ä", "")]).as_deref(),
            Some("a%20b=1%2B1%3D2%26c&%C3%A4=")
        );
    }

    #[test]
    fn only_what_a_header_cannot_hold_is_encoded() {
        for (value, sent) in [
            ("plain, with a space", "plain, with a space"),
            ("=?UTF-8?B?w6Q=?=", "=?UTF-8?B?w6Q=?="),
            ("ä", "=?UTF-8?B?w6Q=?="),
            ("a\nb", "=?UTF-8?B?YQpi?="),
            ("", ""),
        ] {
            assert_eq!(header_text(value), sent);
        }
    }

    #[test]
    fn grants_go_by_permission() {
        let grant = |grantee, permission: &str| Grant {
            grantee,
            permission: permission.to_owned(),
        };
        let acl = Acl {
            owner: Some("me".to_owned()),
            grants: vec![
                grant(Grantee::Account("me".to_owned()), "FULL_CONTROL"),
                grant(Grantee::Account("you".to_owned()), "READ"),
                grant(Grantee::Group("http://all".to_owned()), "READ"),
            ],
        };
        let sent = |permission| granted(Some(&acl), permission);
        assert_eq!(sent("FULL_CONTROL").as_deref(), Some("id=\"me\""));
        assert_eq!(
            sent("READ").as_deref(),
            Some("id=\"you\", uri=\"http://all\"")
        );
        assert_eq!(sent("READ_ACP"), None);
        assert_eq!(granted(None, "READ"), None);
    }

    #[test]
    fn a_retention_that_is_over_is_not_sent() {
        let lock = |until_ms| Lock {
            retention: Some(Retention {
                mode: "GOVERNANCE".to_owned(),
                until_ms,
            }),
            legal_hold: true,
        };
        let on = Some(ObjectLockLegalHoldStatus::On);
        assert_eq!(lock_to_send(&lock(1_000)), (None, None, on.clone()));
        let far = 4_000_000_000_123;
        assert_eq!(
            lock_to_send(&lock(far)),
            (
                Some(ObjectLockMode::Governance),
                Some(DateTime::from_millis(far)),
                on
            )
        );
    }

    #[test]
    fn a_listed_key_is_decoded_where_the_store_says_so() {
        let url = Some(&EncodingType::Url);
        assert_eq!(decoded("a%0Ab+c%2B%zz%4", url), "a\nb c+%zz%4");
        assert_eq!(decoded("a%0Ab+c", None), "a%0Ab+c");
        assert_eq!(decoded("a%FF", url), "a\u{fffd}");
        assert_eq!(decoded_strictly("a%FF", url), None);
        assert_eq!(decoded_strictly("a+%C3%A4", url).as_deref(), Some("a ä"));
    }
}
