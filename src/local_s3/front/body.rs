//! The bodies of requests and answers, watched.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use s3s::Body;
use tokio::time::Sleep;

use crate::local_s3::access_log::{AccessLog, Entry};

/// An error answered before the body was read would reset the connection under a client that is
/// still sending; so much of the body is read and dropped first, for so long.
const DRAIN_BYTES_MAX: u64 = 16 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Where a request body goes that nobody read to its end.
pub(super) struct Unread<B>(pub(super) Arc<Mutex<Option<B>>>);

impl<B> Clone for Unread<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Unread<B> {
    fn slot(&self) -> MutexGuard<'_, Option<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and drops what is left, within bounds.
    pub(super) async fn drain(&self) {
        let Some(mut body) = self.slot().take() else {
            return;
        };
        let read = async {
            let mut bytes = 0;
            while bytes < DRAIN_BYTES_MAX
                && let Some(Ok(frame)) = body.frame().await
            {
                bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
        };
        // Too slow or too long: the connection is closed, as without draining.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, read).await;
    }
}

/// A request's body, which fails when the client stalls.
pub(super) struct RequestBody<B: HttpBody<Data = Bytes> + Unpin> {
    incoming: Option<B>,
    patience: Duration,
    stall: Pin<Box<Sleep>>,
    unread: Unread<B>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> RequestBody<B> {
    pub(super) fn new(incoming: B, patience: Duration, unread: Unread<B>) -> Self {
        Self {
            incoming: Some(incoming),
            patience,
            stall: Box::pin(tokio::time::sleep(patience)),
            unread,
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<s3s::StdError>,
{
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let deadline = tokio::time::Instant::now() + this.patience;
                this.stall.as_mut().reset(deadline);
                if !matches!(frame, Some(Ok(_))) {
                    this.incoming = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(this.stall.as_mut().poll(cx));
                this.incoming = None;
                let error = io::Error::new(io::ErrorKind::TimedOut, "the request body stalled");
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let exact_zero = || SizeHint::with_exact(0);
        self.incoming
            .as_ref()
            .map_or_else(exact_zero, HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            *self.unread.slot() = Some(incoming);
        }
    }
}

/// An answer's body, which writes the access log when its last byte is handed over, or when the
/// client leaves.
pub struct AnswerBody {
    body: Body,
    log: Arc<AccessLog>,
    /// Empty once written.
    entries: Vec<Entry>,
    started: Instant,
    bytes: u64,
}

impl AnswerBody {
    pub(super) fn new(
        body: Body,
        log: Arc<AccessLog>,
        entries: Vec<Entry>,
        started: Instant,
    ) -> Self {
        let mut answer = Self {
            body,
            log,
            entries,
            started,
            bytes: 0,
        };
        if answer.body.is_end_stream() {
            answer.write();
        }
        answer
    }

    fn write(&mut self) {
        for mut entry in self.entries.drain(..) {
            entry.bytes_sent = self.bytes;
            entry.total_ms = self.started.elapsed().as_millis();
            self.log.write(&entry);
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.write();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_stalls_fails_and_one_that_is_left_is_drained() {
        use futures::stream::{self, StreamExt as _};
        use http_body_util::StreamBody;
        type Frames = Vec<Result<Frame<Bytes>, io::Error>>;
        let frames = || -> Frames { vec![Ok(Frame::data(Bytes::from_static(b"abc")))] };
        let patience = Duration::from_millis(20);

        let unread = Unread(Arc::default());
        let stalling = StreamBody::new(stream::iter(frames()).chain(stream::pending()));
        let mut body = RequestBody::new(stalling, patience, unread.clone());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        drop(body);
        assert!(unread.slot().is_none());

        let unread = Unread(Arc::default());
        let left = StreamBody::new(stream::iter(frames()));
        drop(RequestBody::new(left, patience, unread.clone()));
        assert!(unread.slot().is_some());
        unread.drain().await;
        assert!(unread.slot().is_none());
    }
}
