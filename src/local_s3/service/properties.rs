//! What a write says about its object besides bytes and encryption, checked as S3 checks it.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use s3s::dto::{Metadata, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::{acl, lock, tagging};
use crate::local_s3::model::{Bucket, ContentHeaders, Moment, Properties, STANDARD, Tag};

/// The classes that an object can be written in. Source: S3 API, PutObject, `x-amz-storage-class`.
const STORAGE_CLASSES: [&str; 8] = [
    STANDARD,
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
];
/// What S3 says of an object whose writer named no type.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
/// Names and values of user metadata together, in bytes. Source: S3 User Guide, "Working with object metadata".
const METADATA_BYTES_MAX: usize = 2 * 1024;

/// The members of an s3s input for a write that describe the object.
pub(super) struct Sent<'a> {
    pub headers: ContentHeaders,
    pub metadata: Option<&'a Metadata>,
    pub storage_class: Option<&'a str>,
    pub website_redirect: Option<&'a str>,
    pub tagging: Option<&'a str>,
    /// All of the request's headers: ACL and Object Lock are read from them.
    pub request: &'a HeaderMap,
}

/// Takes the describing members out of an s3s input for a write.
macro_rules! sent_properties {
    ($input:expr, $headers:expr) => {{
        use $crate::local_s3::model::ContentHeaders;
        use $crate::local_s3::service::properties::{Sent, expires, without_aws_chunked};
        Sent {
            headers: ContentHeaders {
                cache_control: $input.cache_control.clone(),
                content_disposition: $input.content_disposition.clone(),
                content_encoding: $input
                    .content_encoding
                    .as_deref()
                    .and_then(without_aws_chunked),
                content_language: $input.content_language.clone(),
                content_type: $input.content_type.clone(),
                expires: expires(&$headers, $input.expires.as_ref()),
            },
            metadata: $input.metadata.as_ref(),
            storage_class: $input.storage_class.as_ref().map(|value| value.as_str()),
            website_redirect: $input.website_redirect_location.as_deref(),
            tagging: $input.tagging.as_deref(),
            request: &$headers,
        }
    }};
}
pub(super) use sent_properties;

impl Sent<'_> {
    /// All of it, for an object that takes nothing from elsewhere.
    ///
    /// # Errors
    /// What S3 says of a member that it does not take.
    pub(super) fn properties(&self, bucket: &Bucket) -> S3Result<Properties> {
        Ok(Properties {
            headers: self.content_headers(),
            metadata: self.metadata()?,
            tags: self.tags()?,
            ..self.never_copied(bucket)?
        })
    }

    /// What a copy does not take from its source: storage class, website redirect, ACL, Object Lock.
    ///
    /// # Errors
    /// As [`Sent::properties`].
    pub(super) fn never_copied(&self, bucket: &Bucket) -> S3Result<Properties> {
        Ok(Properties {
            storage_class: self.storage_class()?,
            website_redirect: self.website_redirect()?,
            acl: acl::of_new_object(self.request, bucket)?,
            lock: lock::of_new_object(self.request, bucket, Moment::now())?,
            ..Properties::default()
        })
    }

    /// Whether there is an Object Lock header.
    pub(super) fn locks(&self) -> bool {
        self.request
            .keys()
            .any(|name| name.as_str().starts_with("x-amz-object-lock-"))
    }

    /// Headers with the content type that S3 fills in.
    pub(super) fn content_headers(&self) -> ContentHeaders {
        let mut headers = self.headers.clone();
        headers
            .content_type
            .get_or_insert_with(|| DEFAULT_CONTENT_TYPE.to_owned());
        headers
    }

    /// User metadata.
    ///
    /// # Errors
    /// 400 MetadataTooLarge.
    pub(super) fn metadata(&self) -> S3Result<BTreeMap<String, String>> {
        let metadata: BTreeMap<_, _> = self
            .metadata
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let bytes: usize = metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(S3Error::with_message(
                S3ErrorCode::MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size",
            ));
        }
        Ok(metadata)
    }

    /// Tags of the `x-amz-tagging` header.
    ///
    /// # Errors
    /// 400 for a header or tags that S3 does not take.
    pub(super) fn tags(&self) -> S3Result<Vec<Tag>> {
        self.tagging
            .map(tagging::parse_header)
            .transpose()
            .map(Option::unwrap_or_default)
    }

    fn storage_class(&self) -> S3Result<String> {
        let class = self.storage_class.unwrap_or(STANDARD);
        if STORAGE_CLASSES.contains(&class) {
            return Ok(class.to_owned());
        }
        Err(S3Error::with_message(
            S3ErrorCode::InvalidStorageClass,
            "The storage class you specified is not valid",
        ))
    }

    fn website_redirect(&self) -> S3Result<Option<String>> {
        let Some(location) = self.website_redirect else {
            return Ok(None);
        };
        if ["/", "http://", "https://"]
            .iter()
            .any(|start| location.starts_with(start))
        {
            return Ok(Some(location.to_owned()));
        }
        let mut error = S3Error::with_message(
            S3ErrorCode::Custom("InvalidRedirectLocation".into()),
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        );
        error.set_status_code(hyper::StatusCode::BAD_REQUEST);
        Err(error)
    }
}

/// `Expires` as it was sent; a form upload has it only as a date.
pub(super) fn expires(headers: &HeaderMap, date: Option<&Timestamp>) -> Option<String> {
    if let Some(sent) = headers.get(hyper::header::EXPIRES) {
        return sent.to_str().ok().map(str::to_owned);
    }
    let mut text = Vec::new();
    date?.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// `Content-Encoding` without the `aws-chunked` that only says how the request was sent.
pub(super) fn without_aws_chunked(encoding: &str) -> Option<String> {
    if !encoding.contains("aws-chunked") {
        return Some(encoding.to_owned());
    }
    let stored: Vec<_> = encoding
        .split(',')
        .map(str::trim)
        .filter(|name| *name != "aws-chunked")
        .collect();
    if stored.is_empty() {
        None
    } else {
        Some(stored.join(","))
    }
}

/// Decodes what HTML forms and S3's copy source and tagging headers use: `%XX`, and `+` for a space. `None` when it
/// is not UTF-8 then or a `%` is not followed by two hexadecimal digits.
pub(super) fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits)
                    .ok()
                    .filter(|d| !d.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}
