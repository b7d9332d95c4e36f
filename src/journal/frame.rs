//! The header and the frames of a journal: their layout, and the judgement of what follows the last good one.

use super::storage::Storage;
use super::store::Mark;
use super::{FRAME_BYTES_MAX, JOB_ID_BYTES_MAX, StateError};

const MAGIC: [u8; 8] = *b"RESEALJ\0";

/// The version of everything in the file. Raised when an older reseal would read it wrongly.
const FORMAT_VERSION: u16 = 1;

/// Magic, version and length of the job id.
const HEADER_FIXED_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// The longest header.
pub(super) const HEADER_BYTES_MAX: u64 = (HEADER_FIXED_BYTES + JOB_ID_BYTES_MAX + CRC_BYTES) as u64;

/// Payload length, batch number, CRC-32.
pub(super) const FRAME_HEADER_BYTES: usize = 16;

/// The largest payload of a frame.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

/// How much is read at a time.
const READ_BYTES: u64 = 2 * FRAME_BYTES_MAX as u64;

/// The header of a job's journal.
pub(super) fn header(job_id: &str) -> Vec<u8> {
    assert!(
        job_id.len() <= JOB_ID_BYTES_MAX,
        "a job id of {} bytes",
        job_id.len()
    );
    let mut header = Vec::with_capacity(HEADER_FIXED_BYTES + job_id.len() + CRC_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&(job_id.len() as u16).to_le_bytes());
    header.extend_from_slice(job_id.as_bytes());
    let crc = crc32fast::hash(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header
}

/// What a journal begins with, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose journal it is.
    pub(super) job_id: String,
    /// Its CRC, which the frames' CRCs begin with.
    pub(super) seed: u32,
    /// Its length.
    pub(super) bytes: u64,
}

impl Header {
    /// Reads and checks the header that `bytes` begin with. `place` is for messages.
    pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<Self, StateError> {
        let damaged = |offset, problem: &str| StateError::damaged(place, offset, problem);
        let short = || damaged(0, "its header is cut off");
        if !bytes.starts_with(&MAGIC) {
            return Err(damaged(0, "it does not begin as a journal of reseal does"));
        }
        let &[v0, v1, l0, l1] = bytes[MAGIC.len()..].first_chunk::<4>().ok_or_else(short)?;
        let id_end = HEADER_FIXED_BYTES + usize::from(u16::from_le_bytes([l0, l1]));
        let crc = bytes.get(id_end..).and_then(|rest| rest.first_chunk::<4>());
        let seed = u32::from_le_bytes(*crc.ok_or_else(short)?);
        if crc32fast::hash(&bytes[..id_end]) != seed {
            return Err(damaged(0, "the checksum of its header is wrong"));
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != FORMAT_VERSION {
            return Err(StateError::Newer {
                place: place.to_owned(),
                offset: MAGIC.len() as u64,
                problem: format!("format {version}"),
            });
        }
        let job_id = String::from_utf8(bytes[HEADER_FIXED_BYTES..id_end].to_vec())
            .map_err(|_| damaged(HEADER_FIXED_BYTES as u64, "its job id is not text"))?;
        Ok(Self {
            job_id,
            seed,
            bytes: (id_end + CRC_BYTES) as u64,
        })
    }
}

/// The payload of the frame of that number, where `bytes` are the frame, whole, and nothing else.
pub(super) fn payload(seed: u32, number: u64, bytes: &[u8]) -> Option<&[u8]> {
    let header = FrameHeader::parse(bytes)?;
    let is_it = header.number == number && bytes.len() == FRAME_HEADER_BYTES + header.payload_len;
    header.payload(seed, bytes).filter(|_| is_it)
}

/// A whole frame. `seed` is the CRC of the journal's header.
pub(super) fn frame(seed: u32, number: u64, payload: &[u8]) -> Vec<u8> {
    assert!(
        !payload.is_empty() && payload.len() <= PAYLOAD_BYTES_MAX,
        "a payload of {} bytes",
        payload.len()
    );
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&number.to_le_bytes());
    let crc = frame_crc(seed, &frame, payload);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn frame_crc(seed: u32, length_and_number: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(length_and_number);
    hasher.update(payload);
    hasher.finalize()
}

/// The first bytes of a frame, as read: nothing of it is checked yet.
struct FrameHeader {
    payload_len: usize,
    number: u64,
    crc: u32,
}

impl FrameHeader {
    /// `None` where there are too few bytes, or the length is one that is never written.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let crc = rest.first_chunk::<4>()?;
        let payload_len = u32::from_le_bytes(*len) as usize;
        (1..=PAYLOAD_BYTES_MAX)
            .contains(&payload_len)
            .then_some(Self {
                payload_len,
                number: u64::from_le_bytes(*number),
                crc: u32::from_le_bytes(*crc),
            })
    }

    /// The payload, if `bytes`, which begin with this header, hold all of it and the CRC agrees.
    fn payload<'a>(&self, seed: u32, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let payload = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.payload_len)?;
        (frame_crc(seed, &bytes[..FRAME_HEADER_BYTES - CRC_BYTES], payload) == self.crc)
            .then_some(payload)
    }
}

/// One good frame.
pub(super) struct Frame<'a> {
    /// Where its payload begins in the file.
    pub(super) payload_at: u64,
    pub(super) payload: &'a [u8],
}

/// Reads a journal from its start, or from where a snapshot ends, frame by frame, as far as it went when reading began: what a runner
/// appends meanwhile is not looked at, so that a half-written frame is never taken for damage.
pub(super) struct Frames {
    storage: Box<dyn Storage>,
    job_id: String,
    seed: u32,
    /// The end of the last good frame.
    offset: u64,
    /// The end of the file.
    end: u64,
    next_number: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Frames {
    /// Reads and checks the header.
    pub(super) fn open(storage: Box<dyn Storage>) -> Result<Self, StateError> {
        let mut frames = Self {
            storage,
            job_id: String::new(),
            seed: 0,
            offset: 0,
            end: 0,
            next_number: 1,
            buffer: Vec::new(),
            buffer_at: 0,
        };
        frames.end = frames.size()?;
        frames.read_header()?;
        Ok(frames)
    }

    /// How long the file is now.
    fn size(&self) -> Result<u64, StateError> {
        let size = self.storage.size();
        size.map_err(|error| StateError::io("read", self.storage.place(), error))
    }

    fn read_header(&mut self) -> Result<(), StateError> {
        let bytes = self.window(0, HEADER_BYTES_MAX)?.to_vec();
        let header = Header::parse(self.storage.place(), &bytes)?;
        self.job_id = header.job_id;
        self.seed = header.seed;
        self.offset = header.bytes;
        Ok(())
    }

    /// Leaves out what is before a mark: only what follows is read and checked.
    pub(super) fn skip_to(&mut self, mark: Mark) -> Result<(), StateError> {
        if mark.bytes > self.end {
            // Another process may have written on since it was opened, and then a snapshot.
            self.end = self.size()?;
        }
        if mark.bytes > self.end || mark.bytes < self.offset {
            let problem = format!(
                "batch {} ended at byte {} and the journal ends before: a part of it is missing",
                mark.batches, mark.bytes
            );
            return Err(self.damaged(self.end, problem));
        }
        self.offset = mark.bytes;
        self.next_number = mark.batches + 1;
        Ok(())
    }

    /// The next frame; `None` at the end or before a torn tail.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, StateError> {
        let at = self.offset;
        let (seed, expected) = (self.seed, self.next_number);
        let bytes = self.window(at, FRAME_BYTES_MAX as u64)?;
        let Some(header) =
            FrameHeader::parse(bytes).filter(|header| header.payload(seed, bytes).is_some())
        else {
            self.judge_tail()?;
            return Ok(None);
        };
        if header.number != expected {
            let problem = format!("batch {} where {expected} should be", header.number);
            return Err(self.damaged(at, problem));
        }
        let payload_at = at + FRAME_HEADER_BYTES as u64;
        self.next_number += 1;
        self.offset = payload_at + header.payload_len as u64;
        let payload = self.window(payload_at, header.payload_len as u64)?;
        Ok(Some(Frame {
            payload_at,
            payload,
        }))
    }

    /// What follows the last good frame is a torn write only if one torn write can have left it.
    fn judge_tail(&mut self) -> Result<(), StateError> {
        let (at, seed, expected) = (self.offset, self.seed, self.next_number);
        let tail_len = self.end - at;
        if tail_len > FRAME_BYTES_MAX as u64 {
            let problem = format!("batch {expected} can't be read, and {tail_len} bytes follow");
            return Err(self.damaged(at, problem));
        }
        let tail = self.window(at, tail_len)?;
        let numbers = expected..=expected.saturating_add(tail_len);
        let later = (1..tail.len()).find_map(|skipped| {
            let bytes = &tail[skipped..];
            let header = FrameHeader::parse(bytes)?;
            (numbers.contains(&header.number) && header.payload(seed, bytes).is_some())
                .then_some(header.number)
        });
        match later {
            None => Ok(()),
            Some(number) => {
                let problem = format!("batch {expected} can't be read, though batch {number} can");
                Err(self.damaged(at, problem))
            }
        }
    }

    /// Up to `len` bytes from `offset` on: fewer only at the end of the file.
    fn window(&mut self, offset: u64, len: u64) -> Result<&[u8], StateError> {
        let len = len.min(self.end.saturating_sub(offset));
        let buffered_to = self.buffer_at + self.buffer.len() as u64;
        if offset < self.buffer_at || offset + len > buffered_to {
            let wanted = READ_BYTES.min(self.end - offset) as usize;
            self.buffer.resize(wanted, 0);
            let read = self
                .storage
                .read_at(offset, &mut self.buffer)
                .map_err(|error| StateError::io("read", self.storage.place(), error))?;
            self.buffer.truncate(read);
            self.buffer_at = offset;
            if read < wanted {
                // A runner that opened it meanwhile has cut off a torn tail.
                self.end = offset + read as u64;
            }
        }
        let start = (offset - self.buffer_at) as usize;
        let stop = self.buffer.len().min(start + len as usize);
        Ok(&self.buffer[start..stop])
    }

    /// Refuses another job's journal.
    pub(super) fn check_job(&self, job_id: &str) -> Result<(), StateError> {
        if self.job_id == job_id {
            return Ok(());
        }
        Err(StateError::OtherJob {
            place: self.storage.place().to_owned(),
            found: self.job_id.clone(),
            wanted: job_id.to_owned(),
        })
    }

    /// Whose journal it is.
    pub(super) fn job_id(&self) -> &str {
        &self.job_id
    }

    /// The CRC of the header.
    pub(super) fn seed(&self) -> u32 {
        self.seed
    }

    /// How many frames were good so far.
    pub(super) fn count(&self) -> u64 {
        self.next_number - 1
    }

    /// The end of the last good frame.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes follow the last good frame.
    pub(super) fn rest(&self) -> u64 {
        self.end - self.offset
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    pub(super) fn into_storage(self) -> Box<dyn Storage> {
        self.storage
    }

    pub(super) fn damaged(&self, offset: u64, problem: impl ToString) -> StateError {
        StateError::damaged(self.storage.place(), offset, problem)
    }
}
