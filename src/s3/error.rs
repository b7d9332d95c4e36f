//! From the SDK's errors to ours.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat as Format};

use crate::s3_error::{
    CREDENTIALS_UNAVAILABLE, DELETE_MARKER, NO_ANSWER, NO_CONNECTION, NOT_SENT, S3Error,
    UNREADABLE_ANSWER,
};

/// How hyper's client calls an error of a connection that did not come up: refused, no such host, time-out, no TLS. Its type is not
/// within reach. Source: hyper-util 0.1, `client::legacy::Error`; where it is put otherwise, the error counts as one of a request
/// that may have been sent, which is looked after.
const CONNECT_ERROR: &str = "client error (Connect)";

/// Most links of an error's chain of causes that are told.
const CAUSES_MAX: usize = 8;

/// Translates an error of `operation`.
pub(super) fn translate<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> S3Error
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let raw = error.raw_response();
    let http_status = raw.map_or(0, |response| response.status().as_u16());
    let header = |name: &str| raw.and_then(|response| response.headers().get(name));
    let request_id = header("x-amz-request-id").map(str::to_owned);
    let retry_after = header("retry-after").and_then(|asked| retry_after(asked, header("date")));
    let (code, message) = match &error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            (
                meta.code()
                    // `NotFound` is the SDK's own word for a HEAD's 404, no code of S3's.
                    .filter(|code| !code.is_empty() && *code != "NotFound")
                    .unwrap_or_else(|| code_of_status(operation, http_status))
                    .to_owned(),
                meta.message().unwrap_or_default().to_owned(),
            )
        }
        SdkError::ResponseError(_) => (
            code_of_status(operation, http_status).to_owned(),
            causes(&error),
        ),
        SdkError::ConstructionFailure(_) => (NOT_SENT.to_owned(), causes(&error)),
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            (NOT_SENT.to_owned(), causes(&error))
        }
        SdkError::DispatchFailure(_) => (
            code_of_credentials(&error)
                .or_else(|| code_of_connection(&error))
                .unwrap_or(NO_ANSWER)
                .to_owned(),
            causes(&error),
        ),
        _ => (NO_ANSWER.to_owned(), causes(&error)),
    };
    let code = match header("x-amz-delete-marker") {
        Some("true") => DELETE_MARKER.to_owned(),
        _ => code,
    };
    S3Error {
        operation,
        http_status: if code == NO_ANSWER { 0 } else { http_status },
        code,
        message,
        request_id,
        retry_after,
    }
}

/// How long to wait: seconds, or until a date on the clock of whoever asks for it. Source: RFC 9110, section 10.2.3.
fn retry_after(asked: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = asked.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let parse = |date: &str| DateTime::from_str(date.trim(), Format::HttpDate).ok();
    let seconds = parse(asked)?.secs().saturating_sub(parse(date?)?.secs());
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// Our code for credentials that can't be had. They fail like a connection that can't be had; only the cause tells.
fn code_of_credentials(error: &(dyn Error + 'static)) -> Option<&'static str> {
    links(error).find_map(|link| match link.downcast_ref()? {
        CredentialsError::ProviderError(_) | CredentialsError::ProviderTimedOut(_) => {
            Some(CREDENTIALS_UNAVAILABLE)
        }
        _ => Some(NOT_SENT),
    })
}

/// Our code for a connection that did not come up: nothing was sent over it.
fn code_of_connection(error: &(dyn Error + 'static)) -> Option<&'static str> {
    links(error)
        .any(|link| link.to_string() == CONNECT_ERROR)
        .then_some(NO_CONNECTION)
}

/// An error and its causes, as far as they are told.
fn links<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    })
    .take(CAUSES_MAX)
}

/// Answers without a body (HEAD's, a proxy's) name no code: S3's usual one for the status stands in.
fn code_of_status(operation: &str, status: u16) -> &'static str {
    match status {
        200..=299 => UNREADABLE_ANSWER,
        301 | 307 | 308 => "PermanentRedirect",
        400 => "BadRequest",
        401 | 403 => "AccessDenied",
        404 => "NoSuchKey",
        405 => "MethodNotAllowed",
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        429 => "TooManyRequests",
        500 => "InternalError",
        501 => "NotImplemented",
        // S3's own 503 to a HEAD is SlowDown; a 503 without a body to anything else is a proxy's, and proves nothing.
        503 if operation.starts_with("Head") => "SlowDown",
        502 => "BadGateway",
        503 => "ServiceUnavailable",
        504 => "GatewayTimeout",
        _ => "UnexpectedStatus",
    }
}

/// The chain of causes as one line; links that repeat the one before are left out.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for link in links(error) {
        let said = link.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            let _ = write!(text, "{said}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_asked_for_in_seconds_or_until_a_date() {
        let noon = Some("Sat, 28 Nov 2026 12:00:00 GMT");
        for (asked, date, expected) in [
            (" 7 ", None, Some(7)),
            ("0", noon, Some(0)),
            ("Sat, 28 Nov 2026 12:00:30 GMT", noon, Some(30)),
            ("Sat, 28 Nov 2026 11:59:00 GMT", noon, Some(0)),
            ("Sat, 28 Nov 2026 12:00:30 GMT", None, None),
            ("Sat, 28 Nov 2026 12:00:30 GMT", Some("noon"), None),
            ("-1", noon, None),
            ("tomorrow", noon, None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(asked, date), expected, "{asked}, {date:?}");
        }
    }
}
