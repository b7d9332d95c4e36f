//! A command that could not do its work: the exit code, what happened, and what to do about it.
//!
//! Everything that ends a command is translated here and nowhere else. An object that could not be rewritten is no error:
//! it is a row of the report.

use std::fmt;

use crate::event::ResponseClass;
use crate::exit::Exit;
use crate::journal::StateError;
use crate::listing::Disorder;
use crate::manifest::ManifestError;
use crate::probe::{ProbeError, Reason};
use crate::s3_error::{CREDENTIALS_UNAVAILABLE, NOT_SENT, S3Error, STALLED};

/// The status of a request that a store does not know.
const NOT_IMPLEMENTED: u16 = 501;

/// Why a command ended without doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// How the process ends.
    pub exit: Exit,
    /// What happened, and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Another runner has the job: what becomes of it, that one tells.
    pub is_of_another: bool,
}

impl Error {
    /// An error without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            is_of_another: false,
        }
    }

    /// Wrong use of the command.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error of the system while doing `what`.
    pub fn io(what: impl fmt::Display, source: &std::io::Error) -> Self {
        Self::new(Exit::Internal, format!("{what}: {source}"))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

impl From<Disorder> for Error {
    fn from(disorder: Disorder) -> Self {
        Self::new(
            Exit::JobFailed,
            format!("the store's listing can't be relied on: {disorder}"),
        )
        .hint("it could lack keys, or have some twice, and so would all that is said of it. Nothing in the bucket has changed")
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        Self {
            exit: error.exit(),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
            is_of_another: matches!(error, StateError::Busy { .. } | StateError::Replaced { .. }),
        }
    }
}

/// A store that could not be tried.
impl From<ProbeError> for Error {
    fn from(error: ProbeError) -> Self {
        let message = error.to_string();
        match error.reason {
            Reason::Store(fault) => {
                let mut fault = Self::from(fault);
                if let Some(left) = error.left {
                    fault.message = format!("{}; {left}", fault.message);
                }
                fault
            }
            Reason::NoScratch { .. } => Self::new(Exit::JobFailed, message).hint(
                "allow s3:PutObject and s3:DeleteObject there, or leave the probe out with --probe off, if you know the store",
            ),
        }
    }
}

/// A fault that every object would meet.
impl From<S3Error> for Error {
    fn from(error: S3Error) -> Self {
        let hint = match error.code.as_str() {
            NOT_SENT => Some(
                "no request could be sent: check --endpoint-url and the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, an \
                 instance or pod role)",
            ),
            "NoSuchBucket" | "InvalidBucketName" => {
                Some("check the bucket in the manifest, --endpoint-url and --region")
            }
            "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "InvalidToken"
            | "InvalidTokenId"
            | "SignatureDoesNotMatch" => Some("check the credentials"),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Some("renew the credentials; the same command continues where it stopped")
            }
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                Some("the bucket is in another Region: give it with --region")
            }
            "RequestTimeTooSkewed" => Some("this machine's clock is wrong"),
            "KMS.NotFoundException" => Some(
                "check --kms-key-id: an alias is given as alias/NAME, and the key must be in the bucket's Region",
            ),
            code if code.starts_with("KMS.") => Some(
                "make the target's KMS key usable; the same command continues where it stopped",
            ),
            _ if error.http_status == NOT_IMPLEMENTED => {
                Some("the store does not have that request, and will not have it the next time")
            }
            _ => None,
        };
        if error.code == STALLED {
            return Self::new(Exit::Internal, error.message)
                .hint("the same command continues; --max-stall says how long a run waits");
        }
        if error.code == CREDENTIALS_UNAVAILABLE {
            return Self::new(
                Exit::Internal,
                format!("no credentials for the moment: {error}"),
            )
            .hint("whoever gives them did not answer; the same command continues");
        }
        let is_trouble = match error.class() {
            ResponseClass::Throttled => true,
            ResponseClass::ServerError => error.http_status != NOT_IMPLEMENTED,
            _ => false,
        };
        if is_trouble {
            return Self::new(Exit::Internal, format!("the store is in trouble: {error}"))
                .hint("the same command continues when it has recovered");
        }
        if error.class() == ResponseClass::NoAnswer && error.code != NOT_SENT {
            // It may be back by the time that somebody tries again.
            return Self::new(
                Exit::Internal,
                format!("the store can't be reached: {error}"),
            )
            .hint("check --endpoint-url and the network; the same command continues");
        }
        Self {
            exit: Exit::JobFailed,
            message: error.to_string(),
            hint: hint.map(str::to_owned),
            is_of_another: false,
        }
    }
}
