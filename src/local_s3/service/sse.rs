//! Encryption of a request: which one mode a write gets, and how a response shows what an object has.
//!
//! A write's explicit headers win, then the bucket's default, then SSE-S3. The three SSE-C headers and
//! `x-amz-server-side-encryption` exclude each other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::local_s3::model::{Bucket, DefaultEncryption, SseAlgorithm};
use crate::local_s3::vault::{CustomerKey, EncryptionContext, Envelope, Mode, Want};

/// The encryption headers of a write, as they came.
#[derive(Default)]
pub(super) struct SseHeaders<'a> {
    pub algorithm: Option<&'a str>,
    pub kms_key_id: Option<&'a str>,
    pub context: Option<&'a str>,
    pub bucket_key_enabled: Option<bool>,
    pub customer_algorithm: Option<&'a str>,
    pub customer_key: Option<&'a str>,
    pub customer_key_md5: Option<&'a str>,
}

/// Takes the encryption headers out of an s3s input that has all of them.
macro_rules! sse_headers {
    ($input:expr) => {
        $crate::local_s3::service::sse::SseHeaders {
            algorithm: $input
                .server_side_encryption
                .as_ref()
                .map(|value| value.as_str()),
            kms_key_id: $input.ssekms_key_id.as_deref(),
            context: $input.ssekms_encryption_context.as_deref(),
            bucket_key_enabled: $input.bucket_key_enabled,
            customer_algorithm: $input.sse_customer_algorithm.as_deref(),
            customer_key: $input.sse_customer_key.as_deref(),
            customer_key_md5: $input.sse_customer_key_md5.as_deref(),
        }
    };
}
pub(super) use sse_headers;

/// Reads the three SSE-C headers of an s3s input that has them.
macro_rules! customer_key {
    ($input:expr) => {
        $crate::local_s3::vault::CustomerKey::from_headers(
            $input.sse_customer_algorithm.as_deref(),
            $input.sse_customer_key.as_deref(),
            $input.sse_customer_key_md5.as_deref(),
        )
    };
}
pub(super) use customer_key;

/// Reads the three SSE-C headers for the source of a copy.
macro_rules! source_customer_key {
    ($input:expr) => {
        $crate::local_s3::vault::CustomerKey::from_headers(
            $input.copy_source_sse_customer_algorithm.as_deref(),
            $input.copy_source_sse_customer_key.as_deref(),
            $input.copy_source_sse_customer_key_md5.as_deref(),
        )
    };
}
pub(super) use source_customer_key;

/// Shows in an s3s output how an object is encrypted. `context` for outputs that show the KMS context too.
macro_rules! show_sse {
    ($output:expr, $envelope:expr) => {{
        let shown = $crate::local_s3::service::sse::ShownSse::of($envelope);
        $output.server_side_encryption = shown
            .algorithm
            .map(s3s::dto::ServerSideEncryption::from_static);
        $output.ssekms_key_id = shown.kms_key_arn;
        $output.bucket_key_enabled = shown.bucket_key_enabled;
        $output.sse_customer_algorithm = shown.customer_algorithm;
        $output.sse_customer_key_md5 = shown.customer_key_md5;
    }};
    ($output:expr, $envelope:expr, context) => {{
        $crate::local_s3::service::sse::show_sse!($output, $envelope);
        $output.ssekms_encryption_context =
            $crate::local_s3::service::sse::shown_context($envelope);
    }};
}
pub(super) use show_sse;

impl SseHeaders<'_> {
    /// Whether the request says anything about the mode; S3 lets an object be copied onto itself then.
    pub(super) fn name_a_mode(&self) -> bool {
        self.algorithm.is_some() || self.customer_algorithm.is_some()
    }

    /// What the write gets.
    ///
    /// # Errors
    /// 400 for headers that contradict each other or make no sense, 403 when the bucket refuses SSE-C.
    pub(super) fn resolve(&self, bucket: &Bucket) -> S3Result<Want> {
        let customer_key = CustomerKey::from_headers(
            self.customer_algorithm,
            self.customer_key,
            self.customer_key_md5,
        )?;
        let default = bucket.encryption.as_ref();
        if let Some(key) = customer_key {
            if self.algorithm.is_some() || self.kms_key_id.is_some() {
                return Err(invalid_argument(BOTH_MODES));
            }
            if default.is_some_and(|default| default.blocks_sse_c == Some(true)) {
                return Err(S3Error::with_message(
                    S3ErrorCode::AccessDenied,
                    SSE_C_BLOCKED,
                ));
            }
            return Ok(Want::SseC(key));
        }
        let Some(algorithm) = self.algorithm else {
            if self.kms_key_id.is_some() || self.context.is_some() {
                return Err(invalid_argument(KMS_WITHOUT_ALGORITHM));
            }
            return Ok(self.by_default(default));
        };
        match SseAlgorithm::parse(algorithm).ok_or_else(|| invalid_argument(UNKNOWN_ALGORITHM))? {
            SseAlgorithm::Aes256 if self.kms_key_id.is_some() || self.context.is_some() => {
                Err(invalid_argument(KMS_WITHOUT_ALGORITHM))
            }
            SseAlgorithm::Aes256 => Ok(Want::SseS3),
            SseAlgorithm::AwsKms => Ok(Want::SseKms {
                key: self.kms_key_id.map(str::to_owned),
                bucket_key: self.bucket_key_enabled.unwrap_or_else(|| {
                    default.is_some_and(|default| {
                        default.algorithm == SseAlgorithm::AwsKms && default.bucket_key_enabled
                    })
                }),
                context: self.context()?,
            }),
            SseAlgorithm::AwsKmsDsse if self.bucket_key_enabled == Some(true) => {
                Err(invalid_argument(DSSE_WITH_BUCKET_KEY))
            }
            SseAlgorithm::AwsKmsDsse => Ok(Want::DsseKms {
                key: self.kms_key_id.map(str::to_owned),
                context: self.context()?,
            }),
        }
    }

    fn by_default(&self, default: Option<&DefaultEncryption>) -> Want {
        let Some(default) = default else {
            return Want::SseS3;
        };
        let key = default.kms_key_id.clone();
        let context = EncryptionContext::new();
        match default.algorithm {
            SseAlgorithm::Aes256 => Want::SseS3,
            SseAlgorithm::AwsKms => {
                let bucket_key = self
                    .bucket_key_enabled
                    .unwrap_or(default.bucket_key_enabled);
                Want::SseKms {
                    key,
                    bucket_key,
                    context,
                }
            }
            SseAlgorithm::AwsKmsDsse => Want::DsseKms { key, context },
        }
    }

    /// The encryption context: base64 of a JSON object whose values are text.
    fn context(&self) -> S3Result<EncryptionContext> {
        let Some(header) = self.context else {
            return Ok(EncryptionContext::new());
        };
        let json = BASE64
            .decode(header)
            .map_err(|_| invalid_argument(BAD_CONTEXT))?;
        serde_json::from_slice(&json).map_err(|_| invalid_argument(BAD_CONTEXT))
    }
}

// Texts as AWS gives them. Source: LocalStack's AWS-validated tests, and S3's own answers quoted in public issues.
const BOTH_MODES: &str = "Server Side Encryption with Customer provided key is incompatible with the encryption method specified";
const KMS_WITHOUT_ALGORITHM: &str = "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";
const UNKNOWN_ALGORITHM: &str = "The encryption method specified is not supported";
const DSSE_WITH_BUCKET_KEY: &str = "S3 Bucket Keys are not supported for DSSE-KMS";
const BAD_CONTEXT: &str = "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map";
const SSE_C_BLOCKED: &str = "The bucket's encryption configuration blocks requests that specify server-side encryption with customer-provided keys (SSE-C).";
const NOT_FOR_READS: &str =
    "x-amz-server-side-encryption header is not supported for this operation.";

fn invalid_argument(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

/// Refuses a GET or HEAD that carries headers of SSE-S3 or SSE-KMS.
pub(super) fn refuse_on_read(headers: &HeaderMap) -> S3Result<()> {
    let names = [
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
    ];
    if names.iter().any(|name| headers.contains_key(*name)) {
        return Err(invalid_argument(NOT_FOR_READS));
    }
    Ok(())
}

/// How a response shows an object's encryption.
pub(super) struct ShownSse {
    pub algorithm: Option<&'static str>,
    pub kms_key_arn: Option<String>,
    /// Only ever `true`: S3 leaves the header out otherwise.
    pub bucket_key_enabled: Option<bool>,
    pub customer_algorithm: Option<String>,
    pub customer_key_md5: Option<String>,
}

impl ShownSse {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let algorithm = match envelope.mode() {
            Mode::SseS3 => Some(SseAlgorithm::Aes256),
            Mode::SseKms => Some(SseAlgorithm::AwsKms),
            Mode::DsseKms => Some(SseAlgorithm::AwsKmsDsse),
            Mode::SseC => None,
        };
        let customer_key_md5 = envelope.customer_key_md5_base64().map(str::to_owned);
        Self {
            algorithm: algorithm.map(SseAlgorithm::as_str),
            kms_key_arn: envelope.kms_key_arn().map(str::to_owned),
            bucket_key_enabled: envelope.bucket_key().then_some(true),
            customer_algorithm: customer_key_md5.is_some().then(|| "AES256".to_owned()),
            customer_key_md5,
        }
    }
}

/// The client's encryption context as a response to a write shows it.
pub(super) fn shown_context(envelope: &Envelope) -> Option<String> {
    let context = envelope.context().filter(|context| !context.is_empty())?;
    let json = serde_json::to_vec(context).expect("a map of text to text is JSON");
    Some(BASE64.encode(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(pairs: &[(&str, &'a str)]) -> SseHeaders<'a> {
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| *value)
        };
        SseHeaders {
            algorithm: value("sse"),
            kms_key_id: value("key"),
            context: value("context"),
            bucket_key_enabled: value("bucket-key").map(|text| text == "true"),
            customer_algorithm: value("c-algorithm"),
            customer_key: value("c-key"),
            customer_key_md5: value("c-md5"),
        }
    }

    fn shown(want: S3Result<Want>) -> String {
        match want {
            Ok(Want::SseS3) => "SSE-S3".to_owned(),
            Ok(Want::SseKms {
                key,
                bucket_key,
                context,
            }) => {
                format!(
                    "SSE-KMS {} {bucket_key} {context:?}",
                    key.unwrap_or_default()
                )
            }
            Ok(Want::DsseKms { key, .. }) => format!("DSSE-KMS {}", key.unwrap_or_default()),
            Ok(Want::SseC(_)) => "SSE-C".to_owned(),
            Err(error) => format!(
                "{} {}",
                error.status_code().unwrap().as_u16(),
                error.code().as_str()
            ),
        }
    }

    /// One mode, never two; explicit headers before the bucket's default, and that before SSE-S3.
    #[test]
    fn a_write_gets_one_mode() {
        let plain = Bucket::new("bucket", "us-east-1");
        let mut kms = plain.clone();
        kms.encryption = Some(DefaultEncryption {
            algorithm: SseAlgorithm::AwsKms,
            kms_key_id: Some("default".to_owned()),
            bucket_key_enabled: true,
            blocks_sse_c: Some(true),
        });
        let (key, md5) = (
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "cLyPS3KoaSFGi/joRB3OUQ==",
        );
        let customer = [("c-algorithm", "AES256"), ("c-key", key), ("c-md5", md5)];
        let both = [customer[0], customer[1], customer[2], ("sse", "AES256")];
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Case; 12] = [
            (&[], "SSE-S3", "SSE-KMS default true {}"),
            (
                &[("bucket-key", "false")],
                "SSE-S3",
                "SSE-KMS default false {}",
            ),
            (&[("sse", "AES256")], "SSE-S3", "SSE-S3"),
            (
                &[("sse", "aws:kms"), ("bucket-key", "true")],
                "SSE-KMS  true {}",
                "SSE-KMS  true {}",
            ),
            (
                &[("sse", "aws:kms")],
                "SSE-KMS  false {}",
                "SSE-KMS  true {}",
            ),
            (
                &[
                    ("sse", "aws:kms"),
                    ("key", "k"),
                    ("context", "eyJhIjoiYiJ9"),
                    ("bucket-key", "false"),
                ],
                "SSE-KMS k false {\"a\": \"b\"}",
                "SSE-KMS k false {\"a\": \"b\"}",
            ),
            (
                &[("sse", "aws:kms:dsse"), ("key", "k")],
                "DSSE-KMS k",
                "DSSE-KMS k",
            ),
            (
                &[("key", "k")],
                "400 InvalidArgument",
                "400 InvalidArgument",
            ),
            (
                &[("sse", "AES256"), ("key", "k")],
                "400 InvalidArgument",
                "400 InvalidArgument",
            ),
            (
                &[("sse", "rot13")],
                "400 InvalidArgument",
                "400 InvalidArgument",
            ),
            (&customer, "SSE-C", "403 AccessDenied"),
            (&both, "400 InvalidArgument", "400 InvalidArgument"),
        ];
        for (pairs, in_plain, in_kms) in cases {
            assert_eq!(shown(headers(pairs).resolve(&plain)), in_plain, "{pairs:?}");
            assert_eq!(shown(headers(pairs).resolve(&kms)), in_kms, "{pairs:?}");
        }
        let bad = headers(&[("sse", "aws:kms"), ("context", "bm8=")]).resolve(&plain);
        assert_eq!(shown(bad), "400 InvalidArgument");
    }
}
