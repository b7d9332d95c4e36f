//! What is stored beside an object so that its data keys can be found again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::customer::{CustomerKey, KeyMark};
use super::secret::{Secret, Wrapped};

/// KMS encryption context: pairs that must be presented again, unchanged, to open what was sealed.
pub type EncryptionContext = BTreeMap<String, String>;

/// What a request asks for, already resolved against the bucket default.
#[derive(Debug, Clone)]
pub enum Want {
    /// Under the vault's own root key.
    SseS3,
    /// Under a KMS key.
    SseKms {
        /// Id, key ARN, alias name or alias ARN; `None` is the AWS-managed `aws/s3`.
        key: Option<String>,
        /// Whether a bucket key stands between the KMS key and the data key.
        bucket_key: bool,
        /// The client's pairs, without `aws:s3:arn`.
        context: EncryptionContext,
    },
    /// Under a KMS key, in two layers.
    DsseKms {
        /// As for `SseKms`.
        key: Option<String>,
        /// As for `SseKms`.
        context: EncryptionContext,
    },
    /// Under the key that came with the request.
    SseC(CustomerKey),
}

/// The four modes. An object is in exactly one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `x-amz-server-side-encryption: AES256`
    SseS3,
    /// `x-amz-server-side-encryption: aws:kms`
    SseKms,
    /// `x-amz-server-side-encryption: aws:kms:dsse`
    DsseKms,
    /// `x-amz-server-side-encryption-customer-algorithm: AES256`
    SseC,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::SseS3 => "SSE-S3",
            Mode::SseKms => "SSE-KMS",
            Mode::DsseKms => "DSSE-KMS",
            Mode::SseC => "SSE-C",
        })
    }
}

/// An object's data keys, wrapped, with all that one needs to know to unwrap them and to answer HEAD.
///
/// It holds no secret: store it as it is (serde) beside the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope(pub(super) Sealing);

/// One variant for each mode. The serialised form is kept for as long as objects are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all_fields = "snake_case")]
pub(super) enum Sealing {
    #[serde(rename = "SSE-S3")]
    SseS3 {
        root_version: u32,
        data_key: Wrapped,
    },
    #[serde(rename = "SSE-KMS")]
    SseKms {
        key_arn: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        context: EncryptionContext,
        /// The bucket key, wrapped by the KMS key; it then wraps the data key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket_key: Option<Wrapped>,
        data_key: Wrapped,
    },
    #[serde(rename = "DSSE-KMS")]
    DsseKms {
        key_arn: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        context: EncryptionContext,
        inner_key: Wrapped,
        outer_key: Wrapped,
    },
    #[serde(rename = "SSE-C")]
    SseC {
        key_md5: String,
        /// Tells a wrong customer key from damaged data.
        key_mark: KeyMark,
        data_key: Wrapped,
    },
}

impl Envelope {
    /// The object's mode.
    pub fn mode(&self) -> Mode {
        match self.0 {
            Sealing::SseS3 { .. } => Mode::SseS3,
            Sealing::SseKms { .. } => Mode::SseKms,
            Sealing::DsseKms { .. } => Mode::DsseKms,
            Sealing::SseC { .. } => Mode::SseC,
        }
    }

    /// The KMS key as a full ARN, whatever form the request named it in. Only SSE-KMS and DSSE-KMS have one.
    pub fn kms_key_arn(&self) -> Option<&str> {
        match &self.0 {
            Sealing::SseKms { key_arn, .. } | Sealing::DsseKms { key_arn, .. } => Some(key_arn),
            Sealing::SseS3 { .. } | Sealing::SseC { .. } => None,
        }
    }

    /// Whether a bucket key is in use.
    pub fn bucket_key(&self) -> bool {
        matches!(
            &self.0,
            Sealing::SseKms {
                bucket_key: Some(_),
                ..
            }
        )
    }

    /// The client's encryption context, without `aws:s3:arn`. Only SSE-KMS and DSSE-KMS have one; it may be empty.
    pub fn context(&self) -> Option<&EncryptionContext> {
        match &self.0 {
            Sealing::SseKms { context, .. } | Sealing::DsseKms { context, .. } => Some(context),
            Sealing::SseS3 { .. } | Sealing::SseC { .. } => None,
        }
    }

    /// Base64 of the MD5 of the customer key, which HEAD and GET show. Only SSE-C has one.
    pub fn customer_key_md5_base64(&self) -> Option<&str> {
        match &self.0 {
            Sealing::SseC { key_md5, .. } => Some(key_md5),
            _ => None,
        }
    }
}

/// The keys that seal an object's segments: one, or for DSSE two that know nothing of each other.
///
/// Overwritten when dropped, never printed.
#[derive(Clone)]
pub struct DataKeys {
    pub(super) inner: Secret,
    pub(super) outer: Option<Secret>,
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = 1 + usize::from(self.outer.is_some());
        write!(f, "DataKeys({layers} layers, redacted)")
    }
}
