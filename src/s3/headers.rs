//! Answers whose headers are no text.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::http::Headers;

/// Header with the number of metadata that HTTP can't show. Source: S3 API Reference, HeadObject.
const MISSING_META: &str = "x-amz-missing-meta";

/// Takes headers out of answers that are not UTF-8, which the SDK can't read: it fails the whole answer for one in metadata, and
/// panics for one in Expires. Those that belong to the object count as what HTTP can't show.
#[derive(Debug)]
pub(super) struct OnlyText;

impl Intercept for OnlyText {
    fn name(&self) -> &'static str {
        "OnlyText"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        only_text(context.response_mut().headers_mut());
        Ok(())
    }
}

/// What [`OnlyText`] does.
pub(super) fn only_text(headers: &mut Headers) {
    let mut broken: Vec<String> = headers
        .iter_bytes()
        .filter(|(_, value)| std::str::from_utf8(value).is_err())
        .map(|(name, _)| name.to_owned())
        .collect();
    broken.dedup();
    for name in &broken {
        headers.remove(name);
    }
    let lost = broken.iter().filter(|name| describes_an_object(name));
    let lost = lost.count();
    if lost > 0 {
        let told = headers.get(MISSING_META);
        let told: usize = told.and_then(|told| told.parse().ok()).unwrap_or(0);
        headers.insert(MISSING_META, (told + lost).to_string());
    }
}

fn describes_an_object(header: &str) -> bool {
    header.starts_with("x-amz-meta-")
        || header.starts_with("content-")
        || matches!(header, "cache-control" | "expires")
        || header == "x-amz-website-redirect-location"
}

/// The longest document that is read where a store may send an object instead: it is held in memory, whole.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// Refuses an answer that is a whole object and no document: it names too great a length.
#[derive(Debug)]
pub(super) struct NoObject;

impl Intercept for NoObject {
    fn name(&self) -> &'static str {
        "NoObject"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let length = response.headers().get("content-length");
        let length: Option<u64> = length.and_then(|length| length.parse().ok());
        // S3 sends its documents chunked; whoever sends an object knows its length.
        if length.is_some_and(|length| length > DOCUMENT_BYTES_MAX) {
            return Err("the store answered with an object where a document was asked for".into());
        }
        Ok(())
    }
}
