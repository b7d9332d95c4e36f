//! What a store answered when it did not do what it was asked, or that it did not answer.

use std::fmt;
use std::time::Duration;

use crate::event::{Operation, ResponseClass};
use crate::outcome::Failure;

/// Code of a request that got no whole answer. Ours: S3 has no code for silence.
pub const NO_ANSWER: &str = "NoAnswer";
/// Code of a download whose file could not be written. Ours.
pub const FILE_NOT_WRITTEN: &str = "FileNotWritten";
/// Code of an upload whose file could not be read. Ours.
pub const FILE_NOT_READ: &str = "FileNotRead";
/// Code of an answer with status 200 and no content where S3 always sends some. Ours.
pub const EMPTY_ANSWER: &str = "EmptyAnswer";
/// Code of an answer that is cut off, or not what S3 sends, under a status that says OK. Ours.
pub const UNREADABLE_ANSWER: &str = "UnreadableAnswer";
/// Code of a request that the SDK would not send: no credentials, an endpoint that is no URL. Ours.
pub const NOT_SENT: &str = "RequestNotSent";

/// Code of a request for which there were no credentials for the moment: whoever gives them did not answer. Ours.
pub const CREDENTIALS_UNAVAILABLE: &str = "CredentialsUnavailable";

/// Code of a request that was never sent, because no connection came up: refused, no such host, time-out. Ours.
pub const NO_CONNECTION: &str = "NoConnection";

/// Code of what was waited for in vain. Ours.
pub const STALLED: &str = "Stalled";

/// Code of a look at a delete marker: S3 answers 404 and says in a header why. Ours.
pub const DELETE_MARKER: &str = "DeleteMarker";

/// S3's code of a condition that did not hold.
pub const PRECONDITION_FAILED: &str = "PreconditionFailed";

/// An error of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// What was asked.
    pub operation: &'static str,
    /// S3's error code; where the answer has none (HEAD has no body), the code that S3 uses for its status.
    pub code: String,
    /// HTTP status; 0 where no answer came.
    pub http_status: u16,
    /// S3's message, or what the transport said.
    pub message: String,
    /// S3's id of the request, for its support.
    pub request_id: Option<String>,
    /// How long the store asks us to wait.
    pub retry_after: Option<Duration>,
}

impl S3Error {
    /// How the request counts.
    pub fn class(&self) -> ResponseClass {
        match self.http_status {
            0 => ResponseClass::NoAnswer,
            _ if is_throttling_code(&self.code) => ResponseClass::Throttled,
            429 => ResponseClass::Throttled,
            400..=499 if self.code != "RequestTimeout" => ResponseClass::ClientError,
            _ => ResponseClass::ServerError,
        }
    }

    /// A request that was given up on.
    pub fn no_answer(operation: Operation, message: String) -> Self {
        Self {
            operation: operation.name(),
            code: NO_ANSWER.to_owned(),
            http_status: 0,
            message,
            request_id: None,
            retry_after: None,
        }
    }

    /// No request is sent for a key that is white space alone.
    pub fn unsupported_key() -> Self {
        Self {
            operation: "HeadObject",
            code: "KeyNotSupported".to_owned(),
            http_status: 0,
            message: "the AWS SDK sends no request for a key that is white space alone".to_owned(),
            request_id: None,
            retry_after: None,
        }
    }

    /// The object is not what was looked at, as a look has told and not the store: a conflict like any other.
    pub fn changed_meanwhile(operation: &'static str) -> Self {
        Self {
            operation,
            code: PRECONDITION_FAILED.to_owned(),
            http_status: 412,
            message: "somebody has written the object meanwhile".to_owned(),
            request_id: None,
            retry_after: None,
        }
    }

    /// Whether it is the credentials that are refused, or the time that they are used at: nothing was done.
    pub fn is_of_credentials(&self) -> bool {
        is_credentials_code(&self.code)
    }

    /// As the failure of a row.
    pub fn to_failure(&self) -> Failure {
        Failure {
            code: self.code.clone(),
            http_status: self.http_status,
            message: self.to_string(),
        }
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request id {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for S3Error {}

/// Codes with which stores refuse whoever asks, whatever is asked for.
/// Source: S3 API Reference, "Error responses"; `InvalidTokenId` is MinIO's `InvalidToken`, `ExpiredTokenException` STS'.
pub fn is_credentials_code(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "InvalidToken"
            | "InvalidTokenId"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
    )
}

/// Codes with which stores ask for fewer requests.
/// Source: AWS SDK reference, "Retry behavior", throttling error codes; 503 without a code is not among them.
fn is_throttling_code(code: &str) -> bool {
    matches!(
        code,
        "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "SlowDownRead"
            | "SlowDownWrite"
    )
}
