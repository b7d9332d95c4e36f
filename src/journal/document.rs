//! Documents: JSON with a checksum, written and read as a whole.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DOCUMENT_BYTES_MAX, StateError};

const SEAL_BEFORE_CRC: &[u8] = b"{\"crc32\":\"";
const SEAL_AFTER_CRC: &[u8] = b"\",\"job\":";
const SEAL_END: &[u8] = b"}\n";

/// The document as JSON, wrapped into an object that has its CRC beside it. It is read back byte by byte, not as JSON, so
/// that no change of any byte goes unseen.
///
/// # Errors
/// [`StateError::Io`] where it is larger than [`DOCUMENT_BYTES_MAX`].
pub(super) fn seal<T: Serialize>(document: &T, place: &str) -> Result<Vec<u8>, StateError> {
    let unwritable = |error: io::Error| StateError::io("write", place, error);
    let document =
        serde_json::to_vec_pretty(document).map_err(|error| unwritable(io::Error::other(error)))?;
    let crc = format!("{:08x}", crc32fast::hash(&document));
    let parts = [
        SEAL_BEFORE_CRC,
        crc.as_bytes(),
        SEAL_AFTER_CRC,
        &document,
        SEAL_END,
    ];
    let sealed = parts.concat();
    if sealed.len() as u64 > DOCUMENT_BYTES_MAX {
        let problem = format!("{} bytes, more than {DOCUMENT_BYTES_MAX}", sealed.len());
        return Err(unwritable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            problem,
        )));
    }
    Ok(sealed)
}

/// Reads a document back.
///
/// # Errors
/// [`StateError::Damaged`] where it is not what was written; [`StateError::Newer`] where it is, and has other fields.
pub(super) fn unseal<T: DeserializeOwned>(sealed: &[u8], place: &str) -> Result<T, StateError> {
    let document = open(sealed)
        .ok_or_else(|| StateError::damaged(place, 0, "its checksum is wrong or missing"))?;
    // The checksum says that it is what was written, so whoever wrote it had other fields.
    serde_json::from_slice(document).map_err(|error| StateError::Newer {
        place: place.to_owned(),
        offset: (sealed.len() - document.len()) as u64,
        problem: error.to_string(),
    })
}

fn open(sealed: &[u8]) -> Option<&[u8]> {
    let (crc, rest) = sealed
        .strip_prefix(SEAL_BEFORE_CRC)?
        .split_first_chunk::<8>()?;
    let document = rest.strip_prefix(SEAL_AFTER_CRC)?.strip_suffix(SEAL_END)?;
    (format!("{:08x}", crc32fast::hash(document)).as_bytes() == crc).then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_whole_or_refused() {
        let job = vec!["line\nfeed".to_owned(), "\u{1F511}".to_owned()];
        let good = seal(&job, "job").unwrap();
        let as_json: serde_json::Value = serde_json::from_slice(&good).unwrap();
        assert_eq!(as_json["job"][0], "line\nfeed");
        let refused = |bytes: &[u8]| {
            let read = unseal::<Vec<String>>(bytes, "job");
            matches!(read, Err(StateError::Damaged { .. }))
        };
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&bytes), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(refused(&good[..len]), "{len} bytes");
        }
        assert_eq!(unseal::<Vec<String>>(&good, "job").unwrap(), job);
        let other_fields = unseal::<u64>(&good, "job");
        assert!(matches!(other_fields, Err(StateError::Newer { .. })));
    }
}
