//! The key that an SSE-C request brings along.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::Mac as _;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::VaultError;
use super::secret::{SALT_BYTES, Secret, random_bytes};

/// The only algorithm of SSE-C. Source: S3 API, `x-amz-server-side-encryption-customer-algorithm`.
const ALGORITHM: &str = "AES256";
const MARK_LABEL: &str = "reseal vault v1 customer key";

/// An SSE-C key: 32 bytes, overwritten when dropped, never printed, never stored.
#[derive(Clone)]
pub struct CustomerKey(Secret);

impl CustomerKey {
    /// Reads the three `…-customer-*` (or `…-copy-source-…-customer-*`) headers of a request, `None`
    /// for one that is not there. Without any of them there is no customer key: `Ok(None)`.
    ///
    /// # Errors
    /// The `Customer…` variants, in the order in which S3 checks: something missing, a wrong
    /// algorithm, a key that is not 32 bytes, an MD5 that is not the key's.
    pub fn from_headers(
        algorithm: Option<&str>,
        key_base64: Option<&str>,
        md5_base64: Option<&str>,
    ) -> Result<Option<CustomerKey>, VaultError> {
        if algorithm.is_none() && key_base64.is_none() && md5_base64.is_none() {
            return Ok(None);
        }
        let algorithm = algorithm.ok_or(VaultError::CustomerAlgorithmMissing)?;
        let key_base64 = key_base64.ok_or(VaultError::CustomerKeyMissing)?;
        if algorithm != ALGORITHM {
            return Err(VaultError::CustomerAlgorithmUnknown);
        }
        let key = Secret::from_base64(key_base64).ok_or(VaultError::CustomerKeyLength)?;
        let key = CustomerKey(key);
        let md5_base64 = md5_base64.ok_or(VaultError::CustomerMd5Missing)?;
        let same: bool = key
            .md5_base64()
            .as_bytes()
            .ct_eq(md5_base64.as_bytes())
            .into();
        if !same {
            return Err(VaultError::CustomerMd5Mismatch);
        }
        Ok(Some(key))
    }

    /// The key of these 32 bytes; `None` when there are more or fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<CustomerKey> {
        Secret::from_slice(bytes).map(CustomerKey)
    }

    /// Base64 of the key's MD5, as requests and responses carry it.
    pub fn md5_base64(&self) -> String {
        let digest = Zeroizing::new(<[u8; 16]>::from(Md5::digest(self.0.expose())));
        BASE64.encode(*digest)
    }

    /// A salted mark by which the key can be recognised, but not found.
    pub(super) fn mark(&self) -> Result<KeyMark, VaultError> {
        let salt = random_bytes::<SALT_BYTES>()?;
        let mac = self.0.mac(MARK_LABEL, &[&salt]).finalize().into_bytes();
        Ok(KeyMark(BASE64.encode([&salt[..], &mac].concat())))
    }

    /// # Errors
    /// `CustomerKeyWrong` unless `mark` was made of this key.
    pub(super) fn check(&self, mark: &KeyMark) -> Result<(), VaultError> {
        let unreadable = || VaultError::Damaged("the mark of a customer key".to_owned());
        let bytes = BASE64.decode(&mark.0).map_err(|_| unreadable())?;
        let (salt, mac) = bytes.split_at_checked(SALT_BYTES).ok_or_else(unreadable)?;
        self.0
            .mac(MARK_LABEL, &[salt])
            .verify_slice(mac)
            .map_err(|_| VaultError::CustomerKeyWrong)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(redacted)")
    }
}

/// Base64 of `salt ‖ HMAC-SHA256(customer key, label ‖ salt)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct KeyMark(String);
