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

    /// User metadata. s3s has decoded it; what came in RFC 2047 words of text beyond ASCII is kept as those words, so that it
    /// is given back in them.
    ///
    /// # Errors
    /// 400 MetadataTooLarge.
    pub(super) fn metadata(&self) -> S3Result<BTreeMap<String, String>> {
        let decoded = || self.metadata.into_iter().flatten();
        let bytes: usize = decoded().map(|(name, text)| name.len() + text.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(S3Error::with_message(
                S3ErrorCode::MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size",
            ));
        }
        let in_words = |name: &str, text: &str| {
            let shown = !text.is_ascii() && !text.chars().any(|c| c.is_ascii_control());
            let sent = self.request.get(format!("x-amz-meta-{name}"))?;
            sent.to_str().ok().filter(|_| shown).map(str::to_owned)
        };
        let kept = |(name, text): (&String, &String)| {
            let value = in_words(name, text).unwrap_or_else(|| text.clone());
            (name.clone(), value)
        };
        Ok(decoded().map(kept).collect())
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_s3::Client;
    use aws_sdk_s3::primitives::{ByteStream, DateTime};
    use aws_sdk_s3::types::{
        CompletedMultipartUpload, CompletedPart, MetadataDirective, ObjectLockLegalHoldStatus,
        ObjectLockMode, ObjectOwnership, OwnershipControls, OwnershipControlsRule, StorageClass,
        TaggingDirective,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use md5::{Digest as _, Md5};

    use crate::local_s3::service::OWNER_ID;
    use crate::local_s3::service::tests::{BUCKET, Fixture};

    /// The far end of a retention, in seconds since the Unix epoch.
    const UNTIL: i64 = 2_209_000_000;

    /// Sends everything that describes an object along with a write.
    macro_rules! described {
        ($write:expr) => {
            $write
                .bucket("locked")
                .metadata("colour", "green")
                .content_type("text/x")
                .cache_control("no-store")
                .tagging("a=b&c=d%20e")
                .storage_class(StorageClass::StandardIa)
                .website_redirect_location("/to")
                .grant_full_control(format!("id={OWNER_ID}"))
                .grant_read(format!("id={}", "b".repeat(64)))
                .object_lock_mode(ObjectLockMode::Governance)
                .object_lock_retain_until_date(DateTime::from_secs(UNTIL))
                .object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On)
        };
    }

    async fn locked_bucket_with_acls(client: &Client) {
        let create = client.create_bucket().bucket("locked");
        let create = create.object_lock_enabled_for_bucket(true);
        create.send().await.unwrap();
        let rule = OwnershipControlsRule::builder()
            .object_ownership(ObjectOwnership::ObjectWriter)
            .build();
        let controls = OwnershipControls::builder().rules(rule.unwrap()).build();
        let put = client.put_bucket_ownership_controls().bucket("locked");
        let put = put.ownership_controls(controls.unwrap());
        put.send().await.unwrap();
    }

    /// What was sent with a write, as the reads show it.
    async fn shown(client: &Client, key: &str) -> String {
        let head = client.head_object().bucket("locked").key(key);
        let head = head.send().await.unwrap();
        let tags = client.get_object_tagging().bucket("locked").key(key);
        let acl = client.get_object_acl().bucket("locked").key(key);
        let grants: Vec<_> = acl
            .send()
            .await
            .unwrap()
            .grants()
            .iter()
            .map(|grant| {
                let id = grant.grantee().unwrap().id().unwrap_or_default();
                format!("{}={:?}", &id[..4], grant.permission().unwrap())
            })
            .collect();
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {grants:?}",
            head.metadata(),
            head.content_type(),
            head.cache_control(),
            head.storage_class(),
            head.website_redirect_location(),
            head.object_lock_mode(),
            head.object_lock_retain_until_date().map(DateTime::secs),
            head.object_lock_legal_hold_status(),
            head.tag_count(),
            tags.send().await.unwrap().tag_set(),
        )
    }

    /// PutObject, CopyObject and CreateMultipartUpload take the same description.
    #[tokio::test]
    async fn every_way_of_writing_takes_the_whole_description() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        locked_bucket_with_acls(client).await;
        fixture.put("source", b"x").await;
        let source = format!("{BUCKET}/source");

        let put = described!(client.put_object()).key("put");
        let put = put.content_md5(BASE64.encode(Md5::digest(b"x")));
        let put = put.body(ByteStream::from_static(b"x"));
        put.send().await.unwrap();
        let expected = shown(client, "put").await;
        for part in [
            "green",
            "text/x",
            "no-store",
            "StandardIa",
            "/to",
            "Governance",
            "2209000000",
            "Some(On)",
            "Some(2)",
            "d e",
            "bbbb=Read",
        ] {
            assert!(expected.contains(part), "{part}: {expected}");
        }

        let copy = described!(client.copy_object()).key("copy");
        let copy = copy
            .copy_source(&source)
            .metadata_directive(MetadataDirective::Replace)
            .tagging_directive(TaggingDirective::Replace);
        copy.send().await.unwrap();
        assert_eq!(shown(client, "copy").await, expected);

        let create = described!(client.create_multipart_upload()).key("parts");
        let upload_id = create.send().await.unwrap().upload_id.unwrap();
        let part = client.upload_part_copy().bucket("locked").key("parts");
        let part = part.upload_id(&upload_id).part_number(1);
        let part = part.copy_source(&source).send().await.unwrap();
        let etag = part.copy_part_result.unwrap().e_tag.unwrap();
        let part = CompletedPart::builder().part_number(1).e_tag(etag).build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = client.complete_multipart_upload().bucket("locked");
        let complete = complete.key("parts").upload_id(upload_id);
        complete.multipart_upload(parts).send().await.unwrap();
        assert_eq!(shown(client, "parts").await, expected);
    }

    /// RFC 2047 words come back as they were sent, also after a copy; what no header can carry is counted.
    #[tokio::test]
    async fn metadata_beyond_ascii() {
        let word = |text: &str| format!("=?UTF-8?B?{}?=", BASE64.encode(text));
        let sent = [
            ("ascii", "=?like this".to_owned()),
            ("base64", word("Größe")),
            ("long", word(&"日本".repeat(40))),
            ("quoted", "=?UTF-8?Q?Gr=C3=B6=C3=9Fe?=".to_owned()),
        ];
        let fixture = Fixture::new().await;
        let put = fixture.client.put_object().bucket(BUCKET).key("key");
        let metadata = sent.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
        let expected: HashMap<_, _> = metadata.collect();
        let mut put = put.set_metadata(Some(expected.clone()));
        // What needs no words comes back without, and what is not printable not at all.
        put = put.metadata("needless", word("abc"));
        put = put
            .metadata("bell", word("a\u{7}b"))
            .metadata("both", word("ö\u{7}"));
        put.send().await.unwrap();
        for _ in 0..2 {
            let head = fixture.head("key").await;
            let mut found = head.metadata.unwrap();
            assert_eq!(found.remove("needless").as_deref(), Some("abc"));
            assert_eq!(found, expected);
            assert_eq!(head.missing_meta, Some(2));
            let copy = fixture.copy_onto_itself("key");
            let copy = copy.storage_class(StorageClass::StandardIa);
            copy.send().await.unwrap();
        }
    }
}
