//! URL-decoding of keys as S3 Inventory and S3 Batch Operations write them.
//!
//! The encoding is that of HTML forms, with `/` left alone: a space is `+`, everything unusual is `%XX` of its UTF-8
//! bytes, and a literal plus is `%2B`. Written by hand because it runs for every row: one allocation, one pass.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::object::KEY_BYTES_MAX;

use super::error::{Problem, excerpt};

/// How keys are spelt in a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyEncoding {
    /// URL-encoded, as in S3's own CSV.
    #[default]
    Url,
    /// As they are, as in S3's own ORC and Parquet.
    None,
    /// Nobody has said, and it is not S3's own: only keys that are the same either way are taken.
    Unsaid,
}

impl KeyEncoding {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::None => "none",
            Self::Unsaid => "unsaid",
        }
    }

    /// The key that is spelt like that.
    pub(super) fn decode(self, spelt: &[u8]) -> Result<String, Problem> {
        match self {
            Self::Url => decode_key(spelt),
            Self::None | Self::Unsaid => key_of(self.bytes(spelt)?.into_owned()),
        }
    }

    /// Its bytes, which may be none of S3's.
    pub(super) fn bytes(self, spelt: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
        match self {
            Self::Url => decode_bytes(spelt),
            Self::Unsaid if memchr::memchr2(b'%', b'+', spelt).is_some() => {
                Err(Problem::EncodingUnsaid(excerpt(spelt)))
            }
            Self::None | Self::Unsaid => Ok(Cow::Borrowed(spelt)),
        }
    }
}

/// Decodes a key.
///
/// # Errors
/// A `%` without two hexadecimal digits, bytes that are no UTF-8, no key at all, or more than [`KEY_BYTES_MAX`] bytes.
pub fn decode_key(encoded: &[u8]) -> Result<String, Problem> {
    key_of(decode_bytes(encoded)?.into_owned())
}

/// A key of these bytes.
fn key_of(bytes: Vec<u8>) -> Result<String, Problem> {
    match bytes.len() {
        0 => return Err(Problem::KeyEmpty),
        1..=KEY_BYTES_MAX => {}
        bytes => return Err(Problem::KeyTooLong { bytes }),
    }
    String::from_utf8(bytes).map_err(|_| Problem::NotUtf8 { column: "Key" })
}

/// The bytes of a key, which may be none of S3's: no copy is made of one that stands for itself.
///
/// # Errors
/// A `%` without two hexadecimal digits.
fn decode_bytes(encoded: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    match memchr::memchr2(b'%', b'+', encoded) {
        None => Ok(Cow::Borrowed(encoded)),
        Some(first) => decode_from(encoded, first).map(Cow::Owned),
    }
}

/// Decodes from `first` on, the first byte that stands for another.
fn decode_from(encoded: &[u8], first: usize) -> Result<Vec<u8>, Problem> {
    let mut decoded = Vec::with_capacity(encoded.len());
    decoded.extend_from_slice(&encoded[..first]);
    let mut at = first;
    while let Some(&byte) = encoded.get(at) {
        match byte {
            b'%' => {
                let digits = encoded
                    .get(at + 1..at + 3)
                    .and_then(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?));
                let Some(byte) = digits else {
                    let text = excerpt(&encoded[at..encoded.len().min(at + 3)]);
                    return Err(Problem::PercentEncoding { at, text });
                };
                decoded.push(byte);
                at += 3;
            }
            b'+' => {
                decoded.push(b' ');
                at += 1;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Ok(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A key as S3's manifests and reports spell it: `/` and the unreserved characters of Java's `URLEncoder` as they are,
/// a space as `+`, every other byte as `%XX`.
/// Source: S3 User Guide, "Amazon S3 Inventory list", field *Key name*: URL-encoded; `~` is seen as `%7E`.
pub fn encode_key(key: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'*' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_decoded_as_s3_encodes_them() {
        let table: [(&[u8], &str); 7] = [
            (b"plain/key.txt", "plain/key.txt"),
            (b"a+b%20c%2Bd", "a b c+d"),
            (b"%7Etilde%e2%82%AC", "~tilde€"),
            (b"../%2F..", "..//.."),
            (b"%00", "\0"),
            (b"100%25", "100%"),
            ("naïve".as_bytes(), "naïve"),
        ];
        for (encoded, key) in table {
            assert_eq!(decode_key(encoded).as_deref(), Ok(key));
        }
        assert_eq!(
            decode_key(&[b'k'; KEY_BYTES_MAX]).map(|key| key.len()),
            Ok(KEY_BYTES_MAX)
        );
        assert_eq!(
            decode_key("%41".repeat(KEY_BYTES_MAX).as_bytes()).map(|key| key.len()),
            Ok(KEY_BYTES_MAX)
        );
    }

    #[test]
    fn what_no_key_encodes_to_is_refused() {
        let percent = |at, text: &str| Problem::PercentEncoding {
            at,
            text: text.to_owned(),
        };
        let long = KEY_BYTES_MAX + 1;
        let table: [(&[u8], Problem); 7] = [
            (b"", Problem::KeyEmpty),
            (b"a%", percent(1, "%")),
            (b"a%4", percent(1, "%4")),
            (b"+%zz%", percent(1, "%zz")),
            (b"%+1", percent(0, "%+1")),
            (b"%ff", Problem::NotUtf8 { column: "Key" }),
            (&vec![b'k'; long], Problem::KeyTooLong { bytes: long }),
        ];
        for (encoded, problem) in table {
            assert_eq!(decode_key(encoded), Err(problem));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(key) = decode_key(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&key.len()));
            }
        }
    }
}
