//! Conditional requests, by S3's rules.
//!
//! Three families, told apart because S3 answers each in its own way:
//!
//! - [`ReadConditions`] of GET and HEAD: a failed condition is 412, or 304 for the two that ask
//!   "only if it is newer than mine";
//! - [`SourceConditions`] of CopyObject and UploadPartCopy: a failed condition is always 412;
//! - [`WriteConditions`] of PutObject, CopyObject and CompleteMultipartUpload, about the current
//!   version of the destination: 412, 404 when `If-Match` finds nothing, 501 for what S3 does not offer.
//!
//! In the first two an ETag outranks the date of its pair, as RFC 9110 section 13.2.2 orders it:
//! If-Match that holds makes If-Unmodified-Since irrelevant, If-None-Match does the same to
//! If-Modified-Since. Dates compare in whole seconds, because HTTP dates have no more.
//!
//! Everything is read from the request's headers and not from s3s's typed inputs, which lack the
//! destination conditions of CopyObject.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use s3s::{S3Error, S3ErrorCode, S3Result};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use super::error::{with_detail, with_header};

/// The date format of HTTP headers (RFC 9110 section 5.6.7, IMF-fixdate).
pub const HTTP_DATE: &[FormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// What an object version is compared by.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// The ETag without quotes.
    pub etag: &'a str,
    pub last_modified: OffsetDateTime,
}

/// Conditions of a GET or HEAD.
#[derive(Debug, Default)]
pub struct ReadConditions(Conditions);

/// `x-amz-copy-source-if-*` of a copy.
#[derive(Debug, Default)]
pub struct SourceConditions(Conditions);

/// `If-Match` and `If-None-Match` of a write.
#[derive(Debug, Default)]
pub struct WriteConditions {
    if_match: Option<ETags>,
    if_none_match: Option<ETags>,
}

#[derive(Debug, Default)]
struct Conditions {
    if_match: Option<ETags>,
    if_none_match: Option<ETags>,
    if_modified_since: Option<OffsetDateTime>,
    if_unmodified_since: Option<OffsetDateTime>,
}

/// The four conditions, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the headers are named so")]
enum Condition {
    IfMatch,
    IfUnmodifiedSince,
    IfNoneMatch,
    IfModifiedSince,
}

impl Condition {
    /// As it stands in an error's `<Condition>` element.
    fn name(self) -> &'static str {
        match self {
            Self::IfMatch => "If-Match",
            Self::IfUnmodifiedSince => "If-Unmodified-Since",
            Self::IfNoneMatch => "If-None-Match",
            Self::IfModifiedSince => "If-Modified-Since",
        }
    }

    fn asks_for_news(self) -> bool {
        matches!(self, Self::IfNoneMatch | Self::IfModifiedSince)
    }
}

impl ReadConditions {
    /// Reads the four standard headers.
    ///
    /// # Errors
    /// 400 InvalidArgument for an ETag header that is not text.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        Conditions::from_headers(headers, "").map(Self)
    }

    /// # Errors
    /// 304 NotModified (with the object's ETag and Last-Modified) or 412 PreconditionFailed.
    pub fn check(&self, object: Validators<'_>, now: OffsetDateTime) -> S3Result {
        match self.0.first_failed(object, now) {
            None => Ok(()),
            Some(condition) if condition.asks_for_news() => Err(not_modified(object)),
            Some(condition) => Err(precondition_failed(condition.name())),
        }
    }
}

impl SourceConditions {
    /// Reads the four `x-amz-copy-source-if-*` headers.
    ///
    /// # Errors
    /// 400 InvalidArgument for an ETag header that is not text.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        Conditions::from_headers(headers, "x-amz-copy-source-").map(Self)
    }

    /// # Errors
    /// 412 PreconditionFailed.
    pub fn check(&self, source: Validators<'_>, now: OffsetDateTime) -> S3Result {
        match self.0.first_failed(source, now) {
            None => Ok(()),
            Some(condition) => {
                let name = format!("x-amz-copy-source-{}", condition.name());
                Err(precondition_failed(&name))
            }
        }
    }
}

impl WriteConditions {
    /// Reads `If-Match` and `If-None-Match`. S3 offers one of them at a time, `If-Match` with an
    /// ETag and `If-None-Match` with `*`.
    ///
    /// # Errors
    /// 501 NotImplemented for every other combination.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let if_match = ETags::from_header(headers, "if-match")?;
        let if_none_match = ETags::from_header(headers, "if-none-match")?;
        match (&if_match, &if_none_match) {
            (Some(_), Some(_)) => Err(not_implemented("If-Match,If-None-Match")),
            (Some(ETags::Any), None) => Err(not_implemented("If-Match")),
            (None, Some(ETags::These(_))) => Err(not_implemented("If-None-Match")),
            _ => Ok(Self {
                if_match,
                if_none_match,
            }),
        }
    }

    /// Whether `If-Match` is set: a multipart upload with it also refuses every write to its key
    /// that came after its creation (409), which only the caller can see.
    #[must_use]
    pub fn has_if_match(&self) -> bool {
        self.if_match.is_some()
    }

    /// Whether `If-None-Match` is set: a multipart upload with it also wants that there was no object at its creation.
    #[must_use]
    pub fn has_if_none_match(&self) -> bool {
        self.if_none_match.is_some()
    }

    /// `current` is the ETag (without quotes) of the destination's current version; `None` when
    /// there is none, or when it is a delete marker.
    ///
    /// # Errors
    /// 412 PreconditionFailed, or 404 NoSuchKey for an `If-Match` that finds no object.
    pub fn check(&self, current: Option<&str>) -> S3Result {
        if let Some(etags) = &self.if_match {
            let Some(current) = current else {
                return Err(S3Error::with_message(
                    S3ErrorCode::NoSuchKey,
                    "The specified key does not exist.",
                ));
            };
            if !etags.contain(current) {
                return Err(precondition_failed("If-Match"));
            }
        }
        if self.if_none_match.is_some() && current.is_some() {
            return Err(precondition_failed("If-None-Match"));
        }
        Ok(())
    }
}

impl Conditions {
    fn from_headers(headers: &HeaderMap, prefix: &str) -> S3Result<Self> {
        Ok(Self {
            if_match: ETags::from_header(headers, &format!("{prefix}if-match"))?,
            if_none_match: ETags::from_header(headers, &format!("{prefix}if-none-match"))?,
            if_modified_since: date(headers, &format!("{prefix}if-modified-since")),
            if_unmodified_since: date(headers, &format!("{prefix}if-unmodified-since")),
        })
    }

    fn first_failed(&self, object: Validators<'_>, now: OffsetDateTime) -> Option<Condition> {
        let modified = object.last_modified.unix_timestamp();
        if let Some(etags) = &self.if_match {
            if !etags.contain(object.etag) {
                return Some(Condition::IfMatch);
            }
        } else if let Some(since) = self.if_unmodified_since
            && modified > since.unix_timestamp()
        {
            return Some(Condition::IfUnmodifiedSince);
        }
        if let Some(etags) = &self.if_none_match {
            if etags.contain(object.etag) {
                return Some(Condition::IfNoneMatch);
            }
        } else if let Some(since) = self.if_modified_since
            // A date in the future cannot be a date at which the client saw the object.
            && since <= now
            && modified <= since.unix_timestamp()
        {
            return Some(Condition::IfModifiedSince);
        }
        None
    }
}

/// What an ETag header lists.
#[derive(Debug, PartialEq, Eq)]
enum ETags {
    /// `*`
    Any,
    /// Values without quotes and without the weakness mark: S3's ETags are all strong.
    These(Vec<String>),
}

impl ETags {
    fn from_header(headers: &HeaderMap, name: &str) -> S3Result<Option<Self>> {
        let Some(value) = headers.get(name) else {
            return Ok(None);
        };
        let text = value.to_str().map_err(|_| {
            S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                format!("The header {name} is not printable ASCII."),
            )
        })?;
        let text = text.trim();
        if text == "*" {
            return Ok(Some(Self::Any));
        }
        let etags = text.split(',').map(|etag| {
            let etag = etag.trim();
            let etag = etag.strip_prefix("W/").unwrap_or(etag);
            etag.trim_matches('"').to_owned()
        });
        Ok(Some(Self::These(etags.collect())))
    }

    fn contain(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(etags) => etags.iter().any(|listed| listed == etag),
        }
    }
}

/// A date that cannot be read counts as absent, as RFC 9110 section 13.1.3 asks.
fn date(headers: &HeaderMap, name: &str) -> Option<OffsetDateTime> {
    let text = headers.get(name)?.to_str().ok()?;
    let date = time::PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok()?;
    Some(date.assume_utc())
}

fn precondition_failed(condition: &str) -> S3Error {
    let error = S3Error::with_message(
        S3ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold",
    );
    with_detail(error, "Condition", condition)
}

fn not_implemented(header: &str) -> S3Error {
    let error = S3Error::with_message(
        S3ErrorCode::NotImplemented,
        "A header you provided implies functionality that is not implemented",
    );
    with_detail(error, "Header", header)
}

fn not_modified(object: Validators<'_>) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let values = [
        ("etag", Some(format!("\"{}\"", object.etag))),
        ("last-modified", object.last_modified.format(HTTP_DATE).ok()),
    ];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            error = with_header(error, HeaderName::from_static(name), value);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const MODIFIED: OffsetDateTime = datetime!(2026-03-01 12:00:00.7 UTC);
    const NOW: OffsetDateTime = datetime!(2026-03-10 00:00 UTC);
    const OBJECT: Validators<'static> = Validators {
        etag: "abc",
        last_modified: MODIFIED,
    };
    const BEFORE: &str = "Sun, 01 Mar 2026 11:59:59 GMT";
    const EQUAL: &str = "Sun, 01 Mar 2026 12:00:00 GMT";
    const AFTER: &str = "Sun, 01 Mar 2026 12:00:01 GMT";
    const FUTURE: &str = "Sat, 01 Mar 2036 12:00:00 GMT";

    fn headers(pairs: &[(&str, &str)], prefix: &str) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(format!("{prefix}{name}")).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    /// The status and the named condition or header, or 200.
    fn told(result: S3Result) -> (u16, String) {
        let Err(error) = result else {
            return (200, String::new());
        };
        let mut headers = error.headers().cloned().unwrap_or_default();
        let details = super::super::error::take_details(&mut headers);
        let detail = details.into_iter().map(|(_, value)| value).collect();
        (error.status_code().unwrap().as_u16(), detail)
    }

    /// Request headers, then the answer to a read and to a copy from the same object.
    type Row = (
        &'static [(&'static str, &'static str)],
        u16,
        u16,
        &'static str,
    );

    #[test]
    fn reads_and_copy_sources() {
        let table: &[Row] = &[
            (&[], 200, 200, ""),
            (&[("if-match", "\"abc\"")], 200, 200, ""),
            (&[("if-match", "abc")], 200, 200, ""),
            (&[("if-match", "*")], 200, 200, ""),
            (&[("if-match", "\"x\", \"abc\"")], 200, 200, ""),
            (&[("if-match", "\"x\"")], 412, 412, "If-Match"),
            (&[("if-none-match", "\"x\"")], 200, 200, ""),
            (&[("if-none-match", "W/\"abc\"")], 304, 412, "If-None-Match"),
            (&[("if-none-match", "*")], 304, 412, "If-None-Match"),
            (&[("if-modified-since", BEFORE)], 200, 200, ""),
            (
                &[("if-modified-since", EQUAL)],
                304,
                412,
                "If-Modified-Since",
            ),
            (
                &[("if-modified-since", AFTER)],
                304,
                412,
                "If-Modified-Since",
            ),
            (&[("if-modified-since", FUTURE)], 200, 200, ""),
            (&[("if-modified-since", "yesterday")], 200, 200, ""),
            (
                &[("if-unmodified-since", BEFORE)],
                412,
                412,
                "If-Unmodified-Since",
            ),
            (&[("if-unmodified-since", EQUAL)], 200, 200, ""),
            (&[("if-unmodified-since", AFTER)], 200, 200, ""),
            // The ETag outranks its date, both ways.
            (
                &[("if-match", "abc"), ("if-unmodified-since", BEFORE)],
                200,
                200,
                "",
            ),
            (
                &[("if-match", "x"), ("if-unmodified-since", AFTER)],
                412,
                412,
                "If-Match",
            ),
            (
                &[("if-none-match", "abc"), ("if-modified-since", BEFORE)],
                304,
                412,
                "If-None-Match",
            ),
            (
                &[("if-none-match", "x"), ("if-modified-since", AFTER)],
                200,
                200,
                "",
            ),
            // The guards are looked at before the news.
            (
                &[("if-match", "x"), ("if-none-match", "abc")],
                412,
                412,
                "If-Match",
            ),
        ];
        for (pairs, read, copy, condition) in table {
            let conditions = ReadConditions::from_headers(&headers(pairs, "")).unwrap();
            let named = if *read == 412 { condition } else { "" };
            let expected = (*read, named.to_owned());
            assert_eq!(
                told(conditions.check(OBJECT, NOW)),
                expected,
                "GET {pairs:?}"
            );

            let prefix = "x-amz-copy-source-";
            let conditions = SourceConditions::from_headers(&headers(pairs, prefix)).unwrap();
            let named = match *copy {
                412 => format!("{prefix}{condition}"),
                _ => String::new(),
            };
            let expected = (*copy, named);
            assert_eq!(
                told(conditions.check(OBJECT, NOW)),
                expected,
                "COPY {pairs:?}"
            );
        }
    }

    #[test]
    fn the_families_do_not_read_each_others_headers() {
        let for_source = headers(&[("if-match", "x")], "x-amz-copy-source-");
        let for_read = headers(&[("if-match", "x")], "");
        let read = ReadConditions::from_headers(&for_source).unwrap();
        let source = SourceConditions::from_headers(&for_read).unwrap();
        assert_eq!(told(read.check(OBJECT, NOW)).0, 200);
        assert_eq!(told(source.check(OBJECT, NOW)).0, 200);
        let write = WriteConditions::from_headers(&for_source).unwrap();
        assert!(write.if_match.is_none() && write.if_none_match.is_none());
    }

    #[test]
    fn not_modified_names_the_object() {
        let conditions = ReadConditions::from_headers(&headers(&[("if-none-match", "*")], ""));
        let error = conditions.unwrap().check(OBJECT, NOW).unwrap_err();
        let sent = error.headers().unwrap();
        assert_eq!(sent["etag"], "\"abc\"");
        assert_eq!(sent["last-modified"], EQUAL);
    }

    #[test]
    fn writes() {
        type Row = (
            &'static [(&'static str, &'static str)],
            Option<&'static str>,
            u16,
            &'static str,
        );
        let table: &[Row] = &[
            (&[], None, 200, ""),
            (&[], Some("abc"), 200, ""),
            (&[("if-match", "\"abc\"")], Some("abc"), 200, ""),
            (&[("if-match", "abc")], Some("abc"), 200, ""),
            (&[("if-match", "abc")], Some("abd"), 412, "If-Match"),
            (&[("if-match", "abc")], None, 404, ""),
            (&[("if-match", "*")], Some("abc"), 501, "If-Match"),
            (&[("if-none-match", "*")], None, 200, ""),
            (&[("if-none-match", "*")], Some("abc"), 412, "If-None-Match"),
            (&[("if-none-match", "abc")], None, 501, "If-None-Match"),
            (
                &[("if-none-match", "*"), ("if-match", "abc")],
                Some("abc"),
                501,
                "If-Match,If-None-Match",
            ),
        ];
        for (pairs, current, status, detail) in table {
            let conditions = WriteConditions::from_headers(&headers(pairs, ""));
            let result = conditions.and_then(|conditions| conditions.check(*current));
            let expected = (*status, (*detail).to_owned());
            assert_eq!(told(result), expected, "{pairs:?} on {current:?}");
        }
    }
}
