//! GetObject and HeadObject.

use std::ops::Range;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use s3s::dto::{
    ChecksumMode, ChecksumType, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, Metadata, ObjectLockLegalHoldStatus, ObjectLockMode, StorageClass, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use time::OffsetDateTime;

use super::body::Source;
use super::checksums::show_checksum;
use super::object_version::{parse_version_id, shown_id};
use super::restore;
use super::sse::{self, customer_key, show_sse};
use super::{Service, blocking};
use crate::local_s3::conditions::{ReadConditions, Validators};
use crate::local_s3::error::{with_detail, with_header};
use crate::local_s3::model::{Bucket, Moment, Object, Properties, STANDARD, Version, VersionId};
use crate::local_s3::store::{BucketStore, DataPin};
use crate::local_s3::vault::{CustomerKey, DataKeys, Mode};

/// Fills in what the outputs of GET and HEAD have in common.
macro_rules! describe {
    ($output:ident, $found:expr, $part:expr, $checksum_mode:expr) => {{
        let (found, part) = (&$found, &$part);
        let object = found.object();
        let properties = &object.properties;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = properties.headers.cache_control.clone();
        $output.content_disposition = properties.headers.content_disposition.clone();
        $output.content_encoding = properties.headers.content_encoding.clone();
        $output.content_language = properties.headers.content_language.clone();
        $output.content_type = properties.headers.content_type.clone();
        $output.content_length = Some(length(&part.range)?);
        $output.content_range = part.content_range(object);
        $output.e_tag = Some(ETag::Strong(object.etag.clone()));
        $output.last_modified = Some(Timestamp::from(found.version.last_modified.whole_second()));
        let (metadata, missing) = shown_metadata(properties);
        $output.metadata = Some(metadata);
        $output.missing_meta = missing;
        $output.parts_count = part.parts_count;
        $output.version_id = shown_id(&found.config, &found.version);
        $output.website_redirect_location = properties.website_redirect.clone();
        $output.restore = restore::shown(object);
        $output.storage_class = (properties.storage_class != STANDARD)
            .then(|| StorageClass::from(properties.storage_class.clone()));
        if let Some(retention) = properties.lock.retention {
            $output.object_lock_mode = Some(ObjectLockMode::from_static(retention.mode.as_str()));
            $output.object_lock_retain_until_date =
                Some(Timestamp::from(retention.until.whole_second()));
        }
        $output.object_lock_legal_hold_status = properties.lock.legal_hold.map(|on| {
            let status = if on {
                ObjectLockLegalHoldStatus::ON
            } else {
                ObjectLockLegalHoldStatus::OFF
            };
            ObjectLockLegalHoldStatus::from_static(status)
        });
        show_sse!($output, &object.envelope);
        let wanted = $checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        if let Some(value) = part.checksum(object).filter(|_| wanted) {
            show_checksum!($output, object.checksum.algorithm, value);
            $output.checksum_type = Some(ChecksumType::from_static(object.checksum.kind.as_str()));
        }
    }};
}

/// Gives an object's description and its bytes, or some of them.
pub(super) async fn get_object(
    service: &Service,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    sse::refuse_on_read(&req.headers)?;
    let bucket = service.bucket(&input.bucket)?;
    let found = find(&bucket, &input.key, input.version_id.as_deref())?;
    if found.object().properties.needs_restore(Moment::now()) {
        return Err(archived(found.object()));
    }
    let customer_key = customer_key!(input)?;
    let keys = found.unseal(service, customer_key).await?;
    found.check(&ReadConditions::from_headers(&req.headers)?)?;
    let part = Part::asked(found.object(), input.range.as_ref(), input.part_number)?;

    let mut output = GetObjectOutput::default();
    describe!(output, found, part, input.checksum_mode.as_ref());
    let tags = found.object().properties.tags.len();
    output.tag_count = i32::try_from(tags).ok().filter(|count| *count > 0);
    let headers = kept_headers(found.object(), input.response_expires.is_some())?;
    let source = Source::new(&found.version, found.pin, keys, part.range)?;
    output.body = Some(source.into_body().await?);
    Ok(S3Response::with_headers(output, headers))
}

/// Gives an object's description.
pub(super) async fn head_object(
    service: &Service,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    sse::refuse_on_read(&req.headers)?;
    let bucket = service.bucket(&input.bucket)?;
    let found = find(&bucket, &input.key, input.version_id.as_deref())?;
    let customer_key = customer_key!(input)?;
    // Of the other modes HEAD needs no key: it answers also when a KMS key is disabled.
    if found.object().envelope.mode() == Mode::SseC || customer_key.is_some() {
        found.unseal(service, customer_key).await?;
    }
    found.check(&ReadConditions::from_headers(&req.headers)?)?;
    let part = Part::asked(found.object(), input.range.as_ref(), input.part_number)?;

    let mut output = HeadObjectOutput::default();
    describe!(output, found, part, input.checksum_mode.as_ref());
    let mut headers = kept_headers(found.object(), input.response_expires.is_some())?;
    output.cache_control = input.response_cache_control.or(output.cache_control);
    output.content_disposition = input
        .response_content_disposition
        .or(output.content_disposition);
    output.content_encoding = input.response_content_encoding.or(output.content_encoding);
    output.content_language = input.response_content_language.or(output.content_language);
    output.content_type = input.response_content_type.or(output.content_type);
    output.expires = input.response_expires;
    let tags = found.object().properties.tags.len();
    if tags > 0 {
        headers.insert(
            HeaderName::from_static("x-amz-tagging-count"),
            HeaderValue::from(tags),
        );
    }
    Ok(S3Response::with_headers(output, headers))
}

/// An object that a request addresses.
pub(super) struct Found {
    pub config: Arc<Bucket>,
    pub version: Arc<Version>,
    pub pin: DataPin,
}

/// Looks an object up as GET and HEAD do.
///
/// # Errors
/// 404 NoSuchKey and NoSuchVersion; 405 MethodNotAllowed for the version id of a delete marker. Both say so when it is one.
pub(super) fn find(bucket: &BucketStore, key: &str, version_id: Option<&str>) -> S3Result<Found> {
    let config = bucket.config();
    let asked = parse_version_id(version_id)?;
    let found = bucket.look_up(key, asked.as_ref());
    match (found, asked) {
        (Some((version, Some(pin))), _) => Ok(Found {
            config,
            version,
            pin,
        }),
        (Some((marker, None)), asked) => Err(is_delete_marker(&marker, asked.is_some())),
        (None, None) => Err(no_such_key(key)),
        (None, Some(asked)) => Err(no_such_version(key, &asked)),
    }
}

pub(super) fn no_such_key(key: &str) -> S3Error {
    let error = S3Error::with_message(S3ErrorCode::NoSuchKey, "The specified key does not exist.");
    with_detail(error, "Key", key)
}

pub(super) fn no_such_version(key: &str, version_id: &VersionId) -> S3Error {
    let error = S3Error::with_message(
        S3ErrorCode::NoSuchVersion,
        "The specified version does not exist.",
    );
    with_detail(
        with_detail(error, "Key", key),
        "VersionId",
        version_id.as_str(),
    )
}

fn is_delete_marker(marker: &Version, by_version_id: bool) -> S3Error {
    let mut error = no_such_key(&marker.key);
    if by_version_id {
        let message = "The specified method is not allowed against this resource.";
        error = S3Error::with_message(S3ErrorCode::MethodNotAllowed, message);
        error = with_detail(
            with_detail(error, "Method", "GET"),
            "ResourceType",
            "DeleteMarker",
        );
        error = with_header(
            error,
            hyper::header::ALLOW,
            HeaderValue::from_static("DELETE"),
        );
    }
    let yes = HeaderValue::from_static("true");
    error = with_header(error, HeaderName::from_static("x-amz-delete-marker"), yes);
    match HeaderValue::from_str(marker.version_id.as_str()) {
        Ok(id) => with_header(error, HeaderName::from_static("x-amz-version-id"), id),
        Err(_) => error,
    }
}

/// 403 for bytes that want a restore first.
pub(super) fn archived(object: &Object) -> S3Error {
    let message = "The operation is not valid for the object's storage class";
    let error = S3Error::with_message(S3ErrorCode::InvalidObjectState, message);
    with_detail(error, "StorageClass", &object.properties.storage_class)
}

impl Found {
    /// The object; [`find`] gives nothing else.
    pub(super) fn object(&self) -> &Object {
        self.version
            .object()
            .expect("a pin is only taken for an object")
    }

    /// What conditions compare with.
    pub(super) fn validators(&self) -> Validators<'_> {
        Validators {
            etag: &self.object().etag,
            last_modified: self.version.last_modified.whole_second(),
        }
    }

    fn check(&self, conditions: &ReadConditions) -> S3Result<()> {
        conditions.check(self.validators(), OffsetDateTime::now_utc())
    }

    /// The keys to the object's bytes.
    pub(super) async fn unseal(
        &self,
        service: &Service,
        customer_key: Option<CustomerKey>,
    ) -> S3Result<DataKeys> {
        let (vault, config, version) = (
            service.vault.clone(),
            self.config.clone(),
            self.version.clone(),
        );
        blocking(move || {
            let object = version.object().ok_or(S3ErrorCode::InternalError)?;
            Ok(vault.unseal(
                &object.envelope,
                &config.name,
                &version.key,
                customer_key.as_ref(),
            )?)
        })
        .await
    }
}

/// Which of an object's bytes a request asks for.
struct Part {
    range: Range<u64>,
    /// Whether the answer is 206 with a `Content-Range`.
    partial: bool,
    /// How many parts the object has, when one was asked for by its number.
    parts_count: Option<i32>,
    /// The place of that one among them.
    place: Option<usize>,
}

impl Part {
    fn asked(
        object: &Object,
        range: Option<&s3s::dto::Range>,
        part_number: Option<i32>,
    ) -> S3Result<Self> {
        match (range, part_number) {
            (Some(_), Some(_)) => Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            )),
            (None, None) => Ok(Self {
                range: 0..object.size,
                partial: false,
                parts_count: None,
                place: None,
            }),
            (Some(range), None) => {
                let asked = range
                    .check(object.size)
                    .map_err(|_| not_satisfiable(object, range))?;
                Ok(Self {
                    range: asked,
                    partial: true,
                    parts_count: None,
                    place: None,
                })
            }
            (None, Some(number)) => Self::by_number(object, number),
        }
    }

    /// An object that was written at once has one part, and does not say how many.
    fn by_number(object: &Object, number: i32) -> S3Result<Self> {
        if !(1..=super::multipart::PARTS_MAX).contains(&number) {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive",
            ));
        }
        let place = usize::try_from(number - 1).map_err(S3Error::internal_error)?;
        if object.parts.is_empty() && place == 0 {
            return Ok(Self {
                range: 0..object.size,
                partial: object.size > 0,
                parts_count: None,
                place: None,
            });
        }
        let Some(part) = object.parts.get(place) else {
            let mut error = S3Error::with_message(
                S3ErrorCode::Custom("InvalidPartNumber".into()),
                "The requested partnumber is not satisfiable",
            );
            error.set_status_code(hyper::StatusCode::RANGE_NOT_SATISFIABLE);
            return Err(error);
        };
        let begin = object.parts[..place]
            .iter()
            .map(|part| part.size)
            .sum::<u64>();
        let parts_count = i32::try_from(object.parts.len()).ok();
        Ok(Self {
            range: begin..begin + part.size,
            partial: part.size > 0,
            parts_count,
            place: Some(place),
        })
    }

    fn content_range(&self, object: &Object) -> Option<String> {
        let Range { start, end } = self.range;
        self.partial
            .then(|| format!("bytes {start}-{}/{}", end.saturating_sub(1), object.size))
    }

    /// The checksum over exactly the bytes that are given, if there is one.
    fn checksum(&self, object: &Object) -> Option<String> {
        if let Some(place) = self.place {
            return object.parts.get(place).map(|part| part.checksum.clone());
        }
        (self.range == (0..object.size)).then(|| object.checksum.value.clone())
    }
}

fn not_satisfiable(object: &Object, range: &s3s::dto::Range) -> S3Error {
    let error = S3Error::with_message(
        S3ErrorCode::InvalidRange,
        "The requested range is not satisfiable",
    );
    let error = with_detail(error, "ActualObjectSize", &object.size.to_string());
    let error = with_detail(error, "RangeRequested", &range.to_header_string());
    match HeaderValue::from_str(&format!("bytes */{}", object.size)) {
        Ok(value) => with_header(error, hyper::header::CONTENT_RANGE, value),
        Err(_) => error,
    }
}

/// User metadata as an answer shows it, and how many entries it cannot show: those with characters that no header can carry.
/// s3s encodes what is not ASCII as RFC 2047 says, and decodes it on the way in.
/// Source: S3 User Guide, "Working with object metadata".
fn shown_metadata(properties: &Properties) -> (Metadata, Option<i32>) {
    let all = &properties.metadata;
    let printable = |value: &str| !value.chars().any(|c| c.is_ascii_control());
    let shown: Metadata = all
        .iter()
        .filter(|(_, value)| printable(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let missing = i32::try_from(all.len() - shown.len()).ok();
    (shown, missing.filter(|count| *count > 0))
}

/// Headers that s3s's outputs cannot carry as they were sent.
fn kept_headers(object: &Object, expires_overridden: bool) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(expires) = object
        .properties
        .headers
        .expires
        .as_deref()
        .filter(|_| !expires_overridden)
    {
        headers.insert(
            hyper::header::EXPIRES,
            HeaderValue::from_str(expires).map_err(S3Error::internal_error)?,
        );
    }
    Ok(headers)
}

fn length(range: &Range<u64>) -> S3Result<i64> {
    i64::try_from(range.end - range.start).map_err(S3Error::internal_error)
}
