//! What can go wrong in the vault, in S3's own words.

use std::io;
use std::path::Path;

use super::envelope::Mode;

/// Why the vault refused, with the code, the HTTP status and the text that S3 answers in this case.
///
/// `Display` is for whoever runs the server and may name files; [`VaultError::message`] is for the
/// client and never does. Neither ever holds key material.
///
/// Source of codes and texts: S3 API error responses, and answers of AWS as recorded by LocalStack's
/// AWS-validated tests for SSE-C and KMS key validation.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No KMS key goes by this id, ARN or alias. The text says which.
    #[error("{0}")]
    KeyNotFound(String),
    /// The KMS key, named by its ARN, is disabled.
    #[error("{0} is disabled.")]
    KeyDisabled(String),
    /// The KMS key, named by its ARN, waits for its deletion.
    #[error("{0} is pending deletion.")]
    KeyPendingDeletion(String),
    /// The encryption context holds `aws:s3:arn`, which S3 fills in itself.
    #[error("The encryption context must not contain the reserved key 'aws:s3:arn'.")]
    ReservedContext,
    /// SSE-C headers without the algorithm.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm."
    )]
    CustomerAlgorithmMissing,
    /// SSE-C headers with another algorithm than `AES256`.
    #[error("The Encryption request you specified is not valid. Supported value: AES256.")]
    CustomerAlgorithmUnknown,
    /// SSE-C headers without the key.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key."
    )]
    CustomerKeyMissing,
    /// A customer key that is not the base64 of exactly 32 bytes.
    #[error("The secret key was invalid for the specified algorithm.")]
    CustomerKeyLength,
    /// SSE-C headers without the key's MD5.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key."
    )]
    CustomerMd5Missing,
    /// The MD5 that came with a customer key is not the MD5 of that key.
    #[error("The calculated MD5 hash of the key did not match the hash that was provided.")]
    CustomerMd5Mismatch,
    /// An SSE-C object was asked for without a key.
    #[error(
        "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
    )]
    CustomerKeyRequired,
    /// A customer key came for an object that is not SSE-C.
    #[error("The encryption parameters are not applicable to this object.")]
    CustomerKeyNotApplicable,
    /// An SSE-C object was asked for with another key than it was stored under.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret key."
    )]
    CustomerKeyWrong,
    /// `UpdateObjectEncryption` of an object whose mode it does not serve.
    #[error("An object encrypted with {0} cannot have its encryption updated in place.")]
    NotRewrappable(Mode),
    /// An alias that KMS would not take. The text says why.
    #[error("{0}")]
    InvalidAlias(String),
    /// The alias already names a key.
    #[error("An alias with the name {0} already exists.")]
    AliasTaken(String),
    /// AWS-managed keys have no switch.
    #[error("{0} is managed by AWS: its state cannot be changed. Add a key of your own.")]
    AwsManagedKey(String),
    /// A named bound was reached.
    #[error("There are already {max} {what}, which is the most that the vault keeps.")]
    LimitExceeded {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Stored bytes are not what the vault wrote, or belong to another object. The text says which bytes.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path where there is one.
        doing: String,
        /// What the system said; `StorageFull` is worth telling apart.
        source: io::Error,
    },
}

impl VaultError {
    pub(super) fn io(doing: &str, source: io::Error) -> VaultError {
        VaultError::Io {
            doing: doing.to_owned(),
            source,
        }
    }

    pub(super) fn io_at(doing: &str, path: &Path, source: io::Error) -> VaultError {
        VaultError::Io {
            doing: format!("{doing} {}", path.display()),
            source,
        }
    }

    /// S3's error code.
    pub fn code(&self) -> &'static str {
        match self {
            VaultError::KeyNotFound(_) => "KMS.NotFoundException",
            VaultError::KeyDisabled(_) => "KMS.DisabledException",
            VaultError::KeyPendingDeletion(_) => "KMS.KMSInvalidStateException",
            VaultError::CustomerAlgorithmUnknown => "InvalidEncryptionAlgorithmError",
            VaultError::ReservedContext
            | VaultError::CustomerAlgorithmMissing
            | VaultError::CustomerKeyMissing
            | VaultError::CustomerKeyLength
            | VaultError::CustomerMd5Missing
            | VaultError::CustomerMd5Mismatch => "InvalidArgument",
            VaultError::CustomerKeyRequired
            | VaultError::CustomerKeyNotApplicable
            | VaultError::NotRewrappable(_) => "InvalidRequest",
            VaultError::CustomerKeyWrong => "AccessDenied",
            VaultError::InvalidAlias(_) => "InvalidAliasNameException",
            VaultError::AliasTaken(_) => "AlreadyExistsException",
            VaultError::AwsManagedKey(_) => "AccessDeniedException",
            VaultError::LimitExceeded { .. } => "LimitExceededException",
            VaultError::Damaged(_) | VaultError::Io { .. } => "InternalError",
        }
    }

    /// The HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        match self {
            VaultError::CustomerKeyWrong => 403,
            VaultError::Damaged(_) | VaultError::Io { .. } => 500,
            _ => 400,
        }
    }

    /// The text for the client. What happened inside stays inside.
    pub fn message(&self) -> String {
        match self {
            VaultError::Damaged(_) | VaultError::Io { .. } => {
                "We encountered an internal error. Please try again.".to_owned()
            }
            told => told.to_string(),
        }
    }
}
