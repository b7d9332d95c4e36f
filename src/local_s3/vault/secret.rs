//! A 256-bit key, and the three things that are done with one: derive from it, wrap another key
//! under it, and make a cipher of it.
//!
//! The cipher is AWS-LC's, which the HTTP client brings for TLS: its code is as fast in a debug build as in any other.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::error::VaultError;

/// Length of every key in the vault, in bytes. Source: AES-256.
pub(super) const KEY_BYTES: usize = 32;
/// Length of every salt, in bytes: with 256 random bits no two are ever equal.
pub(super) const SALT_BYTES: usize = 32;
/// Length of an AES-GCM tag, in bytes.
pub(super) const TAG_BYTES: usize = 16;
/// Length of an AES-GCM nonce, in bytes.
pub(super) const NONCE_BYTES: usize = 12;
/// A wrapped key: salt, the 32 sealed bytes, tag.
const WRAPPED_BYTES: usize = SALT_BYTES + KEY_BYTES + TAG_BYTES;
const WRAP_LABEL: &str = "reseal vault v1 wrap";

/// Random bytes from the operating system.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| VaultError::io("drawing random bytes", std::io::Error::other(error)))?;
    Ok(bytes)
}

/// A 256-bit key. Boxed, so that moving it leaves no copies behind; overwritten when dropped.
#[derive(Clone)]
pub(super) struct Secret(Box<[u8; KEY_BYTES]>);

impl Secret {
    pub(super) fn random() -> Result<Secret, VaultError> {
        let bytes = Zeroizing::new(random_bytes::<KEY_BYTES>()?);
        Ok(Secret(Box::new(*bytes)))
    }

    /// `None` when there are not exactly 32 bytes.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Secret> {
        bytes.try_into().ok().map(|key| Secret(Box::new(key)))
    }

    pub(super) fn from_base64(text: &str) -> Option<Secret> {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        Secret::from_slice(&bytes)
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// HMAC-SHA256 keyed with this key, over the label, a zero byte and the parts. Every caller's
    /// parts have fixed lengths, so that no two inputs run together.
    pub(super) fn mac(&self, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac =
            <Hmac<Sha256>>::new_from_slice(self.expose()).expect("HMAC takes keys of every length");
        mac.update(label.as_bytes());
        mac.update(&[0]);
        for part in parts {
            mac.update(part);
        }
        mac
    }

    /// Another key, which says nothing about this one or about keys derived with another label or salt.
    pub(super) fn derive(&self, label: &str, parts: &[&[u8]]) -> Secret {
        let mut output = self.mac(label, parts).finalize().into_bytes();
        let mut key = Box::new([0; KEY_BYTES]);
        key.copy_from_slice(&output);
        output.as_mut_slice().zeroize();
        Secret(key)
    }

    pub(super) fn cipher(&self) -> Cipher {
        let key = UnboundKey::new(&AES_256_GCM, self.expose()).expect("it has 32 bytes");
        Cipher(LessSafeKey::new(key))
    }
}

/// AES-256-GCM under one key. Whoever seals sees to it that no nonce comes twice; the vault's docs tell how.
pub(super) struct Cipher(LessSafeKey);

/// What was to be opened did not authenticate.
pub(super) struct NotAuthentic;

impl Cipher {
    /// Seals in place, and appends the tag.
    pub(super) fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], bytes: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), bytes)
            .expect("what the vault seals at a time is far below what AES-GCM does");
        bytes.extend_from_slice(tag.as_ref());
    }

    /// Opens in place, and takes the tag off. After an error the bytes mean nothing.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Result<(), NotAuthentic> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(aad), bytes);
        let plain = opened.map_err(|_| NotAuthentic)?.len();
        bytes.truncate(plain);
        Ok(())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Serde for the two key files, where keys stand in clear. Named at each field, because a secret must
/// not become text by accident.
pub(super) mod in_clear {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use zeroize::Zeroizing;

    use super::{BASE64, Secret};
    use base64::Engine as _;

    pub(in super::super) fn serialize<S: Serializer>(
        secret: &Secret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(BASE64.encode(secret.expose()));
        serializer.serialize_str(&text)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Secret::from_base64(&text)
            .ok_or_else(|| D::Error::custom("a key must be the base64 of 32 bytes"))
    }
}

/// A key sealed under another key: `salt ‖ ciphertext ‖ tag`.
///
/// The sealing key is derived from the wrapping key and the salt and is used this once, so the nonce
/// is zero, and a root key may wrap any number of data keys without a birthday bound on nonces.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Wrapped([u8; WRAPPED_BYTES]);

impl Wrapped {
    pub(super) fn wrap(under: &Secret, key: &Secret, aad: &[u8]) -> Result<Wrapped, VaultError> {
        let salt = random_bytes::<SALT_BYTES>()?;
        // Room for the tag: a Vec that grew would leave the key behind.
        let mut sealed = Vec::with_capacity(KEY_BYTES + TAG_BYTES);
        sealed.extend_from_slice(key.expose());
        let cipher = under.derive(WRAP_LABEL, &[&salt]).cipher();
        cipher.seal([0; NONCE_BYTES], aad, &mut sealed);
        let mut bytes = [0; WRAPPED_BYTES];
        bytes[..SALT_BYTES].copy_from_slice(&salt);
        bytes[SALT_BYTES..].copy_from_slice(&sealed);
        Ok(Wrapped(bytes))
    }

    /// `None` when the wrapping key or the associated data is another one, or a bit has changed.
    pub(super) fn unwrap(&self, under: &Secret, aad: &[u8]) -> Option<Secret> {
        let (salt, sealed) = self.0.split_at(SALT_BYTES);
        let mut key = Zeroizing::new(sealed.to_vec());
        let cipher = under.derive(WRAP_LABEL, &[salt]).cipher();
        cipher.open([0; NONCE_BYTES], aad, &mut key).ok()?;
        Secret::from_slice(&key)
    }
}

impl TryFrom<String> for Wrapped {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Wrapped, &'static str> {
        let bytes = BASE64
            .decode(text)
            .map_err(|_| "a wrapped key must be base64")?;
        let bytes = bytes
            .try_into()
            .map_err(|_| "a wrapped key must have 80 bytes")?;
        Ok(Wrapped(bytes))
    }
}

impl From<Wrapped> for String {
    fn from(wrapped: Wrapped) -> String {
        BASE64.encode(wrapped.0)
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped(…)")
    }
}
