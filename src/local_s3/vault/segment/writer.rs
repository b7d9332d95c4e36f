//! Seals a segment, front to back, one frame in memory.

use std::fs::File;
use std::io::{self, Write};

use super::{FRAME_BYTES, FrameCipher, header, layers, sealed_frame_bytes};
use crate::local_s3::vault::envelope::DataKeys;
use crate::local_s3::vault::error::VaultError;
use crate::local_s3::vault::secret::random_bytes;

/// Writes one segment into one new file.
///
/// After an error, or without [`SegmentWriter::finish`], the file is worthless: remove it and begin
/// again in another.
pub struct SegmentWriter {
    file: File,
    cipher: FrameCipher,
    /// Plaintext of the frame being filled. A full frame waits here until it is known whether it is the last.
    pending: Vec<u8>,
    frame: u32,
    plain_len: u64,
}

impl SegmentWriter {
    /// Begins a segment in an empty file that is open for writing. `segment` is its place in the
    /// object: 0 for a PUT, the part number for a part; the reader must name the same.
    ///
    /// # Errors
    /// `Io`.
    pub fn create(
        mut file: File,
        keys: &DataKeys,
        segment: u32,
    ) -> Result<SegmentWriter, VaultError> {
        let layers = layers(keys);
        let header = header(layers, &random_bytes()?);
        file.write_all(&header).map_err(write_failed)?;
        Ok(SegmentWriter {
            file,
            cipher: FrameCipher::new(keys, segment, &header),
            pending: Vec::with_capacity(sealed_frame_bytes(layers)),
            frame: 0,
            plain_len: 0,
        })
    }

    /// Appends plaintext, in pieces of any length.
    ///
    /// # Errors
    /// `Io`, also when the segment would exceed 256 TiB (2³² frames).
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), VaultError> {
        self.plain_len += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.pending.len() == FRAME_BYTES {
                self.flush_frame(false)?;
            }
            let room = FRAME_BYTES - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Seals the last frame, makes the file durable and returns the length of the plaintext in bytes,
    /// without which the segment cannot be opened.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<u64, VaultError> {
        self.flush_frame(true)?;
        self.file
            .sync_all()
            .map_err(|error| VaultError::io("syncing a segment", error))?;
        Ok(self.plain_len)
    }

    /// The number is spent before the bytes go out, so that not even a failed write can use it again.
    fn flush_frame(&mut self, last: bool) -> Result<(), VaultError> {
        let frame = self.frame;
        if !last {
            self.frame = frame.checked_add(1).ok_or_else(too_long)?;
        }
        self.cipher.seal(frame, last, &mut self.pending);
        let written = self.file.write_all(&self.pending).map_err(write_failed);
        self.pending.clear();
        written
    }
}

fn write_failed(error: io::Error) -> VaultError {
    VaultError::io("writing a segment", error)
}

fn too_long() -> VaultError {
    write_failed(io::Error::new(
        io::ErrorKind::FileTooLarge,
        "a segment holds at most 2^32 frames",
    ))
}
