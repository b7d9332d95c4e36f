//! The format of a segment, shared by its writer and its reader. The module docs of the vault tell why.

use super::envelope::DataKeys;
use super::secret::{Cipher, NONCE_BYTES, NotAuthentic, SALT_BYTES, Secret, TAG_BYTES};

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::SegmentReader;
pub use writer::SegmentWriter;

/// Plaintext in every frame but the last, in bytes: large enough that a tag costs nothing
/// (16 in 65,536), small enough that a range of one byte does not decrypt much.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Names the format and its version.
const MAGIC: [u8; 7] = *b"RESEAL1";
/// Magic, number of layers, salt.
const HEADER_BYTES: usize = MAGIC.len() + 1 + SALT_BYTES;
const FRAME_LABEL: &str = "reseal vault v1 segment";

type Header = [u8; HEADER_BYTES];

/// The header of a new segment: its salt makes this segment's keys its own.
fn header(layers: u8, salt: &[u8; SALT_BYTES]) -> Header {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()] = layers;
    header[MAGIC.len() + 1..].copy_from_slice(salt);
    header
}

/// How many layers the keys make.
fn layers(keys: &DataKeys) -> u8 {
    1 + u8::from(keys.outer.is_some())
}

/// Number of the last frame of a segment of `plain_len` bytes. An empty segment has one empty frame.
/// `None` when it would have more than 2³² frames.
fn last_frame(plain_len: u64) -> Option<u32> {
    u32::try_from(plain_len.saturating_sub(1) / FRAME_BYTES as u64).ok()
}

/// Length in the file of a full frame, in bytes.
fn sealed_frame_bytes(layers: u8) -> usize {
    FRAME_BYTES + usize::from(layers) * TAG_BYTES
}

/// Length of the file of a segment of `plain_len` bytes; `None` when there is no such segment.
fn file_bytes(plain_len: u64, layers: u8) -> Option<u64> {
    let frames = u64::from(last_frame(plain_len)?) + 1;
    Some(HEADER_BYTES as u64 + plain_len + frames * u64::from(layers) * TAG_BYTES as u64)
}

/// The ciphers of one segment file, the inner layer first.
struct FrameCipher {
    layers: Vec<Cipher>,
    segment: u32,
}

impl FrameCipher {
    /// Keys are derived from the whole header and the segment's number: change either and nothing opens.
    fn new(keys: &DataKeys, segment: u32, header: &Header) -> FrameCipher {
        let cipher = |layer: u8, key: &Secret| {
            let parts: [&[u8]; 3] = [&[layer], &segment.to_be_bytes(), header];
            key.derive(FRAME_LABEL, &parts).cipher()
        };
        let mut layers = vec![cipher(0, &keys.inner)];
        if let Some(outer) = &keys.outer {
            layers.push(cipher(1, outer));
        }
        FrameCipher { layers, segment }
    }

    /// Seals in place, tags appended. The caller never passes a frame number twice.
    fn seal(&self, frame: u32, last: bool, bytes: &mut Vec<u8>) {
        let (nonce, aad) = (nonce(frame), self.aad(frame, last));
        for layer in &self.layers {
            layer.seal(nonce, &aad, bytes);
        }
    }

    /// Opens in place. After an error the bytes mean nothing.
    fn open(&self, frame: u32, last: bool, bytes: &mut Vec<u8>) -> Result<(), NotAuthentic> {
        let (nonce, aad) = (nonce(frame), self.aad(frame, last));
        for layer in self.layers.iter().rev() {
            layer.open(nonce, &aad, bytes)?;
        }
        Ok(())
    }

    fn aad(&self, frame: u32, last: bool) -> [u8; 9] {
        let mut aad = [0; 9];
        aad[..4].copy_from_slice(&self.segment.to_be_bytes());
        aad[4..8].copy_from_slice(&frame.to_be_bytes());
        aad[8] = u8::from(last);
        aad
    }
}

/// The frame's number: unique, because the key belongs to this one file.
fn nonce(frame: u32) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[8..].copy_from_slice(&frame.to_be_bytes());
    nonce
}
