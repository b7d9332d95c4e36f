//! Opens any range of a segment, touching only the frames it lies in.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::{
    FRAME_BYTES, FrameCipher, HEADER_BYTES, Header, MAGIC, file_bytes, last_frame, layers,
    sealed_frame_bytes,
};
use crate::local_s3::vault::envelope::DataKeys;
use crate::local_s3::vault::error::VaultError;
use crate::local_s3::vault::secret::TAG_BYTES;

/// Reads one segment. Keeps the last frame it opened, so that reading on in small pieces opens each
/// frame once.
pub struct SegmentReader {
    file: File,
    cipher: FrameCipher,
    segment: u32,
    layers: u8,
    plain_len: u64,
    last: u32,
    /// The frame that `plain` holds.
    opened: Option<u32>,
    plain: Vec<u8>,
}

impl SegmentReader {
    /// Opens the segment that a `SegmentWriter` with these keys and this number made out of
    /// `plain_len` bytes.
    ///
    /// # Errors
    /// `Damaged` when the file has not exactly the length of such a segment, or another header; `Io`.
    /// That the keys or the number are wrong shows when the first frame is read; an empty segment's
    /// only frame is read here.
    pub fn open(
        mut file: File,
        keys: &DataKeys,
        segment: u32,
        plain_len: u64,
    ) -> Result<SegmentReader, VaultError> {
        let layers = layers(keys);
        let actual = file.metadata().map_err(read_failed)?.len();
        if Some(actual) != file_bytes(plain_len, layers) {
            return Err(VaultError::Damaged(format!(
                "segment {segment} has {actual} bytes in its file, which does not fit {plain_len} bytes of data"
            )));
        }
        let last = last_frame(plain_len).ok_or_else(|| {
            VaultError::Damaged(format!("segment {segment} cannot have {plain_len} bytes"))
        })?;
        let mut header: Header = [0; HEADER_BYTES];
        file.rewind().map_err(read_failed)?;
        file.read_exact(&mut header).map_err(read_failed)?;
        if header[..MAGIC.len()] != MAGIC || header[MAGIC.len()] != layers {
            return Err(VaultError::Damaged(format!(
                "segment {segment} does not begin like one of {layers} layers"
            )));
        }
        let mut reader = SegmentReader {
            file,
            cipher: FrameCipher::new(keys, segment, &header),
            segment,
            layers,
            plain_len,
            last,
            opened: None,
            plain: Vec::new(),
        };
        if plain_len == 0 {
            // No read would ever look at the one frame, so look now.
            reader.frame(0)?;
        }
        Ok(reader)
    }

    /// Appends to `out` the plaintext from `offset` on, `max` bytes or what there is up to the
    /// segment's end, and returns how many. Only bytes that authenticated are ever appended.
    ///
    /// # Errors
    /// `Damaged` when a frame is not what was sealed there under these keys; `Io`. Frames before it
    /// may have been appended.
    pub fn read_at(
        &mut self,
        offset: u64,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, VaultError> {
        let available = self.plain_len.saturating_sub(offset);
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(max);
        let mut done = 0;
        while done < wanted {
            let position = offset + done as u64;
            let frame = u32::try_from(position / FRAME_BYTES as u64)
                .expect("a position before the end lies in a frame");
            let within = (position % FRAME_BYTES as u64) as usize;
            let plain = self.frame(frame)?;
            let end = plain.len().min(within + (wanted - done));
            out.extend_from_slice(&plain[within..end]);
            done += end - within;
        }
        Ok(done)
    }

    /// The plaintext of a frame. An unchecked frame is never kept.
    fn frame(&mut self, frame: u32) -> Result<&[u8], VaultError> {
        if self.opened != Some(frame) {
            self.opened = None;
            self.open_frame(frame)?;
            self.opened = Some(frame);
        }
        Ok(&self.plain)
    }

    fn open_frame(&mut self, frame: u32) -> Result<(), VaultError> {
        let sealed = sealed_frame_bytes(self.layers);
        let start = HEADER_BYTES as u64 + u64::from(frame) * sealed as u64;
        let plain_before = u64::from(frame) * FRAME_BYTES as u64;
        let plain_here = (self.plain_len - plain_before).min(FRAME_BYTES as u64) as usize;
        self.plain
            .resize(plain_here + usize::from(self.layers) * TAG_BYTES, 0);
        self.file
            .seek(SeekFrom::Start(start))
            .map_err(read_failed)?;
        self.file.read_exact(&mut self.plain).map_err(read_failed)?;
        self.cipher
            .open(frame, frame == self.last, &mut self.plain)
            .map_err(|_| {
                VaultError::Damaged(format!(
                    "frame {frame} of segment {} is not what was sealed there",
                    self.segment
                ))
            })
    }
}

fn read_failed(error: io::Error) -> VaultError {
    VaultError::io("reading a segment", error)
}
