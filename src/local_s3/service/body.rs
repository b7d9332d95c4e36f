//! The way of an object's bytes: from a request into a sealed segment, and from sealed segments into a
//! response or another segment.
//!
//! Files and ciphers work on threads for blocking work, and only while there is something to do: no thread
//! waits for a client. Memory per transfer is a few [`BATCH_BYTES`], whatever the object's size.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hyper::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::{self, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::task::JoinHandle;

use super::blocking;
use crate::local_s3::model::{ChecksumAlgorithm, Segment, Version};
use crate::local_s3::service::checksums;
use crate::local_s3::store::{DataPin, PendingData};
use crate::local_s3::vault::{DataKeys, SegmentReader, SegmentWriter};

/// How many bytes are worked on at once: large enough that handing them to another thread costs nothing.
const BATCH_BYTES: usize = 1 << 20;
/// The most that one PUT, one part or one copy can carry.
/// Source: S3 User Guide, "Uploading objects" and "Multipart upload limits": 5 GiB.
pub(super) const PUT_BYTES_MAX: u64 = 5 << 30;

/// A segment being written.
pub(super) struct Sink {
    writer: SegmentWriter,
    pending: PendingData,
    md5: Md5,
    hasher: ChecksumHasher,
    size: u64,
}

/// A segment that is written and synced and that no object names yet.
pub(super) struct Received {
    pub pending: PendingData,
    pub size: u64,
    pub md5: [u8; 16],
    pub checksums: dto::Checksum,
}

impl Received {
    /// What to write down about where the bytes are.
    pub(super) fn segment(&self) -> Segment {
        Segment {
            number: self.pending.number(),
            size: self.size,
        }
    }
}

impl Sink {
    /// Begins the segment that `created` is the file of.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn create(
        created: (PendingData, std::fs::File),
        keys: &DataKeys,
        algorithms: &[ChecksumAlgorithm],
    ) -> S3Result<Self> {
        let (pending, file) = created;
        Ok(Self {
            writer: SegmentWriter::create(file, keys, pending.number())?,
            pending,
            md5: Md5::new(),
            hasher: checksums::hasher(algorithms),
            size: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> S3Result<()> {
        self.size += bytes.len() as u64;
        if self.size > PUT_BYTES_MAX {
            return Err(too_large());
        }
        self.md5.update(bytes);
        self.hasher.update(bytes);
        Ok(self.writer.write(bytes)?)
    }

    fn finish(self) -> S3Result<Received> {
        let size = self.writer.finish()?;
        Ok(Received {
            pending: self.pending,
            size,
            md5: self.md5.finalize().into(),
            checksums: self.hasher.finalize(),
        })
    }
}

/// Reads a body to its end into a segment. While one batch is sealed the next one is received.
///
/// # Errors
/// What is wrong with the body, or with the disk.
pub(super) async fn receive(body: Option<StreamingBlob>, sink: Sink) -> S3Result<Received> {
    let mut working = Working::Idle(Box::new(sink));
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    let mut body = body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| unreadable(error.as_ref()))?;
        batch_bytes += chunk.len();
        batch.push(chunk);
        if batch_bytes >= BATCH_BYTES {
            working = working.write(std::mem::take(&mut batch)).await?;
            batch_bytes = 0;
        }
    }
    let mut sink = working.idle().await?;
    blocking(move || {
        for chunk in &batch {
            sink.write(chunk)?;
        }
        sink.finish()
    })
    .await
}

/// A sink at work, or not.
enum Working {
    Idle(Box<Sink>),
    Busy(JoinHandle<S3Result<Box<Sink>>>),
}

impl Working {
    async fn idle(self) -> S3Result<Box<Sink>> {
        match self {
            Self::Idle(sink) => Ok(sink),
            Self::Busy(task) => task.await.map_err(S3Error::internal_error)?,
        }
    }

    async fn write(self, batch: Vec<Bytes>) -> S3Result<Self> {
        let mut sink = self.idle().await?;
        Ok(Self::Busy(tokio::task::spawn_blocking(move || {
            for chunk in &batch {
                sink.write(chunk)?;
            }
            Ok(sink)
        })))
    }
}

/// s3s tells what is wrong with a body in errors whose types it keeps to itself, so their texts have to do.
fn unreadable(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") || text.contains("SHA256") {
        let message =
            "The provided 'x-amz-content-sha256' header does not match what was computed.";
        let mut error = S3Error::with_message(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            message,
        );
        error.set_status_code(hyper::StatusCode::BAD_REQUEST);
        return error;
    }
    if text.contains("SignatureMismatch") {
        return S3Error::new(S3ErrorCode::SignatureDoesNotMatch);
    }
    S3Error::with_message(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

/// Refuses a body that says no length, or one that is too long. A form's length is known when its file begins.
///
/// # Errors
/// 411 MissingContentLength, 400 EntityTooLarge.
pub(super) fn check_length(method: &Method, headers: &HeaderMap, length: Option<i64>) -> S3Result {
    let told = ["content-length", "x-amz-decoded-content-length"]
        .iter()
        .any(|name| headers.contains_key(*name));
    if method == Method::PUT && !told {
        return Err(S3Error::new(S3ErrorCode::MissingContentLength));
    }
    if length.is_some_and(|length| length.unsigned_abs() > PUT_BYTES_MAX) {
        return Err(too_large());
    }
    Ok(())
}

fn too_large() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::EntityTooLarge,
        "Your proposed upload exceeds the maximum allowed object size.",
    )
}

/// A range of an object's bytes, read in order.
pub(super) struct Source {
    pin: DataPin,
    keys: DataKeys,
    segments: Vec<Segment>,
    /// The segment being read: its place among the segments and where it begins in the object.
    place: usize,
    begin: u64,
    reader: Option<SegmentReader>,
    position: u64,
    end: u64,
}

impl Source {
    /// `range` in plain bytes, within the object.
    ///
    /// # Errors
    /// InternalError for a delete marker.
    pub(super) fn new(
        version: &Version,
        pin: DataPin,
        keys: DataKeys,
        range: Range<u64>,
    ) -> S3Result<Self> {
        let object = version.object().ok_or(S3ErrorCode::InternalError)?;
        Ok(Self {
            pin,
            keys,
            segments: object.segments.clone(),
            place: 0,
            begin: 0,
            reader: None,
            position: range.start,
            end: range.end,
        })
    }

    /// The next bytes, none at the end. It blocks.
    ///
    /// # Errors
    /// When the data is damaged or cannot be read.
    fn next(&mut self) -> S3Result<Option<Bytes>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let wanted = usize::try_from(self.end - self.position)
            .unwrap_or(usize::MAX)
            .min(BATCH_BYTES);
        let mut out = Vec::with_capacity(wanted);
        while out.len() < wanted {
            let (offset, reader) = self.reader_at_position()?;
            let read = reader.read_at(offset, wanted - out.len(), &mut out)?;
            self.position += read as u64;
        }
        Ok(Some(out.into()))
    }

    /// The reader of the segment that `position` is in, and where in it.
    fn reader_at_position(&mut self) -> S3Result<(u64, &mut SegmentReader)> {
        loop {
            let segment = *self.segments.get(self.place).ok_or_else(|| {
                S3Error::with_message(
                    S3ErrorCode::InternalError,
                    "the segments are shorter than the object",
                )
            })?;
            if self.position >= self.begin + segment.size {
                self.begin += segment.size;
                self.place += 1;
                self.reader = None;
                continue;
            }
            let reader = match self.reader.take() {
                Some(reader) => reader,
                None => SegmentReader::open(
                    self.pin.open(segment)?,
                    &self.keys,
                    segment.number,
                    segment.size,
                )?,
            };
            return Ok((self.position - self.begin, self.reader.insert(reader)));
        }
    }

    /// The bytes as the body of a response. The first of them are read before this returns, so that what is
    /// damaged from the start is an error and not a broken answer.
    ///
    /// # Errors
    /// When the first bytes are damaged or cannot be read.
    pub(super) async fn into_body(self) -> S3Result<StreamingBlob> {
        let Some((first, source)) = self.step().await? else {
            return Ok(StreamingBlob::from(s3s::Body::empty()));
        };
        let rest = stream::try_unfold(source, Self::step);
        Ok(StreamingBlob::wrap(
            stream::once(std::future::ready(Ok(first))).chain(rest),
        ))
    }

    async fn step(self) -> S3Result<Option<(Bytes, Self)>> {
        let mut source = self;
        blocking(move || Ok(source.next()?.map(|bytes| (bytes, source)))).await
    }

    /// Writes the bytes into another segment. It blocks until all is written.
    ///
    /// # Errors
    /// When the data is damaged, or the disk does not take it.
    pub(super) fn copy_into(mut self, mut sink: Sink) -> S3Result<Received> {
        while let Some(bytes) = self.next()? {
            sink.write(&bytes)?;
        }
        sink.finish()
    }
}

/// The MD5 that `Content-MD5` carries.
///
/// # Errors
/// 400 InvalidDigest when it is none.
pub(super) fn content_md5(header: Option<&str>) -> S3Result<Option<[u8; 16]>> {
    use base64::Engine as _;
    let Some(header) = header else {
        return Ok(None);
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(header)
        .ok();
    let bytes = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes.map(Some).ok_or_else(|| {
        S3Error::with_message(
            S3ErrorCode::InvalidDigest,
            "The Content-MD5 you specified was invalid.",
        )
    })
}

/// Compares the bytes with their `Content-MD5`.
///
/// # Errors
/// 400 BadDigest.
pub(super) fn check_md5(claimed: Option<[u8; 16]>, received: &Received) -> S3Result<()> {
    if claimed.is_none_or(|claimed| claimed == received.md5) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::BadDigest,
        "The Content-MD5 you specified did not match what we received.",
    ))
}
