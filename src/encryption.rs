//! The encryption an object is in, and the encryption we want.
//!
//! `Encryption` is what S3 told us about an object; `Target` is what the operator asked for. The one question
//! between them is [`Target::is_satisfied_by`]: every skip, every check of a response and every look after an
//! interruption asks it, so that they can't disagree.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The server-side encryption that an object is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Encryption {
    /// None: written before S3 encrypted every upload, or by a store that encrypts nothing.
    NotSse,
    /// Keys that S3 manages (`AES256`).
    SseS3,
    /// A KMS key (`aws:kms`).
    SseKms {
        /// The key as the store names it: AWS answers with the ARN, whatever was sent.
        key: Option<String>,
        /// Whether the object uses an S3 Bucket Key.
        bucket_key: bool,
    },
    /// Two layers under a KMS key (`aws:kms:dsse`).
    DsseKms {
        /// The key as the store names it.
        key: Option<String>,
    },
    /// A key that the customer sends with each request.
    SseC {
        /// Base64 of the MD5 of the key: S3 shows it, the key itself it does not keep.
        key_md5: String,
    },
}

impl Encryption {
    /// The KMS key, as the store names it, or the MD5 of the customer's key in base64.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::SseKms { key, .. } | Self::DsseKms { key } => key.as_deref(),
            Self::SseC { key_md5 } => Some(key_md5),
            Self::NotSse | Self::SseS3 => None,
        }
    }

    /// Whether it is under that key: a KMS key by its ARN or id, a customer's by its MD5. `None`: the store names none.
    pub fn is_under(&self, key: &str) -> Option<bool> {
        match self {
            Self::NotSse | Self::SseS3 => Some(false),
            _ => Some(same_key(key, self.key()?)),
        }
    }

    /// The mode alone, for counts and labels.
    pub fn mode(&self) -> Mode {
        match self {
            Self::NotSse => Mode::NotSse,
            Self::SseS3 => Mode::SseS3,
            Self::SseKms { .. } => Mode::SseKms,
            Self::DsseKms { .. } => Mode::DsseKms,
            Self::SseC { .. } => Mode::SseC,
        }
    }
}

/// An encryption mode without its parameters, spelled as S3 Inventory spells its `EncryptionStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Not encrypted by the server.
    #[serde(rename = "NOT-SSE")]
    NotSse,
    /// Keys that S3 manages.
    #[serde(rename = "SSE-S3")]
    SseS3,
    /// A KMS key.
    #[serde(rename = "SSE-KMS")]
    SseKms,
    /// Two layers under a KMS key.
    #[serde(rename = "DSSE-KMS")]
    DsseKms,
    /// A customer's key.
    #[serde(rename = "SSE-C")]
    SseC,
}

impl Mode {
    /// Every mode, in the order of the tables that we print.
    pub const ALL: [Self; 5] = [
        Self::NotSse,
        Self::SseS3,
        Self::SseKms,
        Self::DsseKms,
        Self::SseC,
    ];

    /// S3 Inventory's spelling: `NOT-SSE`, `SSE-S3`, `SSE-KMS`, `DSSE-KMS`, `SSE-C`.
    /// Source: S3 User Guide, "Amazon S3 Inventory list", field *Encryption status*.
    pub fn inventory_name(self) -> &'static str {
        match self {
            Self::NotSse => "NOT-SSE",
            Self::SseS3 => "SSE-S3",
            Self::SseKms => "SSE-KMS",
            Self::DsseKms => "DSSE-KMS",
            Self::SseC => "SSE-C",
        }
    }

    /// The mode that an inventory's `EncryptionStatus` names, if it is one of the five.
    pub fn from_inventory(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.inventory_name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.inventory_name())
    }
}

/// The encryption that a job gives its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Keys that S3 manages.
    SseS3,
    /// A KMS key.
    SseKms(KmsTarget),
    /// Two layers under a KMS key. Its `bucket_key` is always `None`: DSSE-KMS has none.
    DsseKms(KmsTarget),
    /// A customer's key.
    SseC(CustomerKey),
}

/// The parameters of a KMS target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsTarget {
    /// Key ARN, key id, alias (`alias/name`) or alias ARN; `None` is the AWS-managed key `aws/s3`.
    pub key_id: Option<String>,
    /// Whether objects shall use an S3 Bucket Key. `None`: use one, but don't rewrite an object for it.
    pub bucket_key: Option<bool>,
    /// The additional encryption context: a JSON object of strings, as text.
    pub context: Option<String>,
    /// The ARN that `key_id` stands for, once a response of the store has told it.
    pub resolved: Option<String>,
}

impl KmsTarget {
    /// Whether `key`, as the store named it in a response, is the key that was asked for. An alias can't be told from its
    /// text: it matches only once [`resolved`](Self::resolved) is known, or when the store echoes the alias itself.
    pub fn is_key(&self, key: &str) -> bool {
        [self.key_id.as_deref(), self.resolved.as_deref()]
            .into_iter()
            .flatten()
            .any(|wanted| same_key(wanted, key))
    }

    /// The encryption context as its request header wants it.
    pub fn context_base64(&self) -> Option<String> {
        self.context.as_ref().map(|context| BASE64.encode(context))
    }

    /// The key as requests name it: what an alias was resolved to, so that all objects of a job come under one key even where the
    /// alias is moved meanwhile.
    pub fn key_to_send(&self) -> Option<String> {
        let key_id = self.key_id.as_ref()?;
        Some(self.resolved.as_ref().unwrap_or(key_id).clone())
    }

    /// The key's full ARN, no alias, where it is known: UpdateObjectEncryption takes nothing else.
    pub fn full_arn(&self) -> Option<&str> {
        let names = [self.resolved.as_deref(), self.key_id.as_deref()];
        let is_arn = |name: &&str| name.starts_with("arn:") && name.contains(":key/");
        names.into_iter().flatten().find(is_arn)
    }

    /// Whether the key's name must be resolved by the store before [`is_key`](Self::is_key) can say "no" for certain.
    pub fn needs_resolving(&self) -> bool {
        self.resolved.is_none()
            && self
                .key_id
                .as_deref()
                .is_none_or(|id| id.starts_with("alias/") || id.contains(":alias/"))
    }
}

/// Whether two names are one KMS key's: a key id equals the last part of a key's ARN; everything else must be equal to the letter.
pub fn same_key(a: &str, b: &str) -> bool {
    let id_of = |arn: &str, id: &str| {
        arn.strip_suffix(id)
            .is_some_and(|head| head.starts_with("arn:") && head.ends_with(":key/"))
    };
    !a.is_empty() && !b.is_empty() && (a == b || id_of(a, b) || id_of(b, a))
}

/// Whether a text names a KMS key and nothing else: `arn:…:key/ID`, or its id, a UUID or `mrk-` and 32 digits.
pub fn is_kms_key(text: &str) -> bool {
    let id = match text.strip_prefix("arn:") {
        Some(rest) => match rest.split_once(":key/") {
            // arn:PARTITION:kms:REGION:ACCOUNT:key/ID
            Some((head, id)) if head.split(':').count() == 4 && head.contains(":kms:") => id,
            _ => return false,
        },
        None => text,
    };
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<_> = id.split('-').collect();
    match parts.as_slice() {
        ["mrk", digits] => is_hex(digits, 32),
        [a, b, c, d, e] => {
            is_hex(a, 8) && [b, c, d].iter().all(|part| is_hex(part, 4)) && is_hex(e, 12)
        }
        _ => false,
    }
}

impl Target {
    /// The mode that objects will be in.
    pub fn mode(&self) -> Mode {
        match self {
            Self::SseS3 => Mode::SseS3,
            Self::SseKms(_) => Mode::SseKms,
            Self::DsseKms(_) => Mode::DsseKms,
            Self::SseC(_) => Mode::SseC,
        }
    }

    /// The name on the command line: `sse-s3`, `sse-kms`, `dsse-kms`, `sse-c`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SseS3 => "sse-s3",
            Self::SseKms(_) => "sse-kms",
            Self::DsseKms(_) => "dsse-kms",
            Self::SseC(_) => "sse-c",
        }
    }

    /// Whether an object in that state needs nothing done: same mode, same key, and the bucket key that was asked for
    /// by name.
    pub fn is_satisfied_by(&self, found: &Encryption) -> bool {
        match (self, found) {
            (Self::SseS3, Encryption::SseS3) => true,
            (Self::SseKms(want), Encryption::SseKms { key, bucket_key }) => {
                key.as_deref().is_some_and(|key| want.is_key(key))
                    && want.bucket_key.is_none_or(|wanted| wanted == *bucket_key)
            }
            (Self::DsseKms(want), Encryption::DsseKms { key }) => {
                key.as_deref().is_some_and(|key| want.is_key(key))
            }
            (Self::SseC(want), Encryption::SseC { key_md5 }) => want.md5_base64() == key_md5,
            _ => false,
        }
    }

    /// Whether what a write answered is what was asked for. Mode and key must be there; a bucket key is not held against
    /// a store that does not echo it (Ceph RGW doesn't), it is sent with every write.
    pub fn is_confirmed_by(&self, answered: &Encryption) -> bool {
        match (self, answered) {
            (Self::SseKms(want), Encryption::SseKms { key, .. })
            | (Self::DsseKms(want), Encryption::DsseKms { key }) => key
                .as_deref()
                .is_some_and(|key| want.needs_resolving() || want.is_key(key)),
            _ => self.is_satisfied_by(answered),
        }
    }

    /// The KMS parameters, where the mode has them.
    pub fn kms(&self) -> Option<&KmsTarget> {
        match self {
            Self::SseKms(kms) | Self::DsseKms(kms) => Some(kms),
            Self::SseS3 | Self::SseC(_) => None,
        }
    }
}

/// An SSE-C key: 32 bytes that are wiped when dropped and that no `Debug` shows.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CustomerKey {
    base64: String,
    #[zeroize(skip)]
    md5_base64: String,
}

/// Length of an SSE-C key in bytes. Source: S3 API Reference, `x-amz-server-side-encryption-customer-key`: AES-256.
pub const CUSTOMER_KEY_BYTES: usize = 32;

impl CustomerKey {
    /// Takes the content of a key file: 32 raw bytes, or their base64 with optional white space around it.
    ///
    /// # Errors
    /// Says what length was found; never what was in it.
    pub fn from_file_content(content: &[u8]) -> Result<Self, String> {
        if content.len() == CUSTOMER_KEY_BYTES {
            return Ok(Self::from_bytes(content));
        }
        let decoded = zeroize::Zeroizing::new(
            BASE64
                .decode(content.trim_ascii())
                .map_err(|_| Self::wrong_length(content.len()))?,
        );
        if decoded.len() == CUSTOMER_KEY_BYTES {
            Ok(Self::from_bytes(&decoded))
        } else {
            Err(Self::wrong_length(content.len()))
        }
    }

    fn wrong_length(found: usize) -> String {
        format!(
            "an SSE-C key is {CUSTOMER_KEY_BYTES} raw bytes or their base64, found {found} bytes"
        )
    }

    fn from_bytes(key: &[u8]) -> Self {
        Self {
            base64: BASE64.encode(key),
            md5_base64: BASE64.encode(Md5::digest(key)),
        }
    }

    /// Base64 of the key, as the request header wants it. A secret.
    pub fn expose_base64(&self) -> &str {
        &self.base64
    }

    /// Base64 of the key's MD5: no secret, S3 shows it in responses.
    pub fn md5_base64(&self) -> &str {
        &self.md5_base64
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerKey")
            .field("md5", &self.md5_base64)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    fn kms(key_id: Option<&str>, bucket_key: Option<bool>) -> Target {
        Target::SseKms(KmsTarget {
            key_id: key_id.map(str::to_owned),
            bucket_key,
            ..KmsTarget::default()
        })
    }

    fn under(key: &str, bucket_key: bool) -> Encryption {
        Encryption::SseKms {
            key: Some(key.to_owned()),
            bucket_key,
        }
    }

    #[test]
    fn a_kms_key_is_equal_by_arn_or_id_and_never_by_substring() {
        assert!(kms(Some(ARN), None).is_satisfied_by(&under(ARN, false)));
        assert!(kms(Some(ID), None).is_satisfied_by(&under(ARN, false)));
        assert!(kms(Some(ARN), None).is_satisfied_by(&under(ID, false)));
        assert!(!kms(Some("34567890ab"), None).is_satisfied_by(&under(ARN, false)));
        assert!(!kms(Some(""), None).is_satisfied_by(&under(ARN, false)));
        assert!(!kms(Some(ARN), None).is_satisfied_by(&under("", false)));
        assert!(!kms(Some("alias/app"), None).is_satisfied_by(&under(ARN, false)));
        assert!(!kms(None, None).is_satisfied_by(&under(ARN, false)));
    }

    #[test]
    fn a_bucket_key_counts_only_when_it_was_asked_for() {
        assert!(kms(Some(ID), None).is_satisfied_by(&under(ARN, false)));
        assert!(kms(Some(ID), None).is_satisfied_by(&under(ARN, true)));
        assert!(!kms(Some(ID), Some(true)).is_satisfied_by(&under(ARN, false)));
        assert!(!kms(Some(ID), Some(false)).is_satisfied_by(&under(ARN, true)));
        assert!(kms(Some(ID), Some(true)).is_confirmed_by(&under(ARN, false)));
    }

    #[test]
    fn only_the_same_mode_satisfies() {
        let key = CustomerKey::from_file_content(&[7; 32]).expect("32 bytes");
        let targets = [
            Target::SseS3,
            kms(Some(ID), None),
            Target::DsseKms(KmsTarget {
                key_id: Some(ID.to_owned()),
                ..KmsTarget::default()
            }),
            Target::SseC(key.clone()),
        ];
        let found = [
            Encryption::SseS3,
            under(ARN, false),
            Encryption::DsseKms {
                key: Some(ARN.to_owned()),
            },
            Encryption::SseC {
                key_md5: key.md5_base64().to_owned(),
            },
        ];
        for (i, target) in targets.iter().enumerate() {
            assert!(!target.is_satisfied_by(&Encryption::NotSse));
            for (j, found) in found.iter().enumerate() {
                assert_eq!(
                    target.is_satisfied_by(found),
                    i == j,
                    "{target:?} {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_customer_key_file_is_raw_or_base64_and_stays_out_of_debug() {
        let raw = CustomerKey::from_file_content(&[9; 32]).expect("raw");
        let text = format!("{}\n", BASE64.encode([9; 32]));
        let encoded = CustomerKey::from_file_content(text.as_bytes()).expect("base64");
        assert_eq!(raw, encoded);
        assert!(!format!("{raw:?}").contains(raw.expose_base64()));
        for bad in [&[1; 31][..], b"", b"not base64 at all, really not!!"] {
            if bad.len() != CUSTOMER_KEY_BYTES {
                assert!(CustomerKey::from_file_content(bad).is_err());
            }
        }
    }
}
