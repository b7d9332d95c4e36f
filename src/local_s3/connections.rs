//! Connections: accepted, bounded, served, and ended in order.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::front::Front;
use super::server::SHUTDOWN_GRACE;

/// Connections at a time; further ones wait in the listen queue. A run opens more of them than it has requests on the wire at its
/// start, and idle ones stay.
const CONNECTIONS_MAX: usize = 4_096;
/// Files that may be open for each connection, as far as the system's limit goes: its own, and those of the object that it is about.
const FILES_PER_CONNECTION: u64 = 2;
/// Files that are open beside those.
const FILES_BESIDE: u64 = 128;

/// How many connections the limit of open files leaves room for.
fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = files
        .current
        .unwrap_or(u64::MAX)
        .saturating_sub(FILES_BESIDE);
    usize::try_from(files / FILES_PER_CONNECTION)
        .unwrap_or(CONNECTIONS_MAX)
        .clamp(1, CONNECTIONS_MAX)
}

/// For a request's headers to arrive, and for a connection to be idle. Longer than clients keep idle
/// connections in their pools (hyper-util: 90 s), so that the client closes first and never sends a
/// request into a connection that is being closed.
const HEADER_TIME_MAX: Duration = Duration::from_secs(120);

/// A client that takes no byte of its answer for so long is dropped.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// How far the access log may lag behind.
const LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// After a failed accept (too many open files, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stopped` says so, then gives running requests [`SHUTDOWN_GRACE`].
pub(super) async fn run(
    listener: StdTcpListener,
    front: Front,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded S3 cannot listen");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(connections_max()));
    let mut connections = JoinSet::new();
    let mut flush = tokio::time::interval(LOG_FLUSH_INTERVAL);
    loop {
        // Waiting for room and for a client are one step, so that stopping interrupts both.
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, Arc::new(permit))
        };
        tokio::select! {
            () = until_stopped(&mut stopped) => break,
            _ = flush.tick() => front.log.flush(),
            Some(_) = connections.join_next() => {}
            (accepted, permit) = next => match accepted {
                Ok((stream, remote)) => {
                    let (front, stopped) = (front.clone(), stopped.clone());
                    connections.spawn(serve_connection(stream, remote, front, stopped, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is not finished by then is cut off, as by a crash: nothing half done is visible.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, finish).await;
}

/// The right to one connection, held until its last request has ended too.
type Permit = Result<OwnedSemaphorePermit, AcquireError>;

/// A handle that is gone counts as stopped.
async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve_connection(
    stream: TcpStream,
    remote: SocketAddr,
    front: Front,
    mut stopped: watch::Receiver<bool>,
    permit: Arc<Permit>,
) {
    // Without it small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Impatient::new(stream, WRITE_STALL_MAX));
    let service = service_fn(move |request| {
        let (front, permit) = (front.clone(), Arc::clone(&permit));
        // A task of its own: what is under way is done, and logged, even where the client has hung up.
        tokio::spawn(async move {
            let answer = front.answer(request, remote.ip()).await;
            drop(permit);
            answer
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = until_stopped(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, %remote, "a connection ended early");
    }
}

/// A stream that gives up on a peer that does not take what is written.
struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Running while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            stall: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        stall.as_mut().poll(cx).map(|()| {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
            Err(error)
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Impatient::new(server, Duration::from_millis(20));
        let error = server.write_all(&[1; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Once it reads again, writing goes on and the clock starts anew.
        client.read_exact(&mut [0; 8]).await.unwrap();
        server.write_all(&[2; 8]).await.unwrap();
    }
}
