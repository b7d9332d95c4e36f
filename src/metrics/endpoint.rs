//! `--metrics-listen`: the metrics over HTTP, for Prometheus to scrape.
//!
//! One page behind a handful of bounds, spoken by hand: the exporter's own listener cannot say which port it was given,
//! accepts without a limit, and waits for slow clients for ever.
//!
//! `GET /metrics` (and `/`) answers the metrics, `GET /healthz` answers `ok`. Every answer closes its connection:
//! a scrape comes every few seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Metrics;

/// Scrapes served at the same time; more wait in the backlog.
const CONNECTIONS_MAX: usize = 16;
/// Longest request head that is read.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most time that one connection may take, request and answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept: it fails at once again while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Source: Prometheus, "Exposition formats", text format 0.0.4.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The address could not be listened on.
#[derive(Debug, Error)]
#[error("cannot serve metrics on {addr}: {source}; choose another address with --metrics-listen")]
pub struct ListenError {
    /// The address that was asked for.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// A bound address with the metrics behind it.
pub struct Endpoint<R> {
    listener: TcpListener,
    addr: SocketAddr,
    render: R,
}

impl Metrics {
    /// Binds `addr` (port 0: any free one). Nothing is answered until [`Endpoint::serve`] is polled.
    ///
    /// # Errors
    /// The address is taken, not of this host, or not allowed.
    pub async fn listen(
        &self,
        addr: SocketAddr,
    ) -> Result<Endpoint<impl Fn() -> String + Clone + Send + Sync + 'static>, ListenError> {
        let error = |source| ListenError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(error)?;
        let addr = listener.local_addr().map_err(error)?;
        Ok(Endpoint {
            listener,
            addr,
            render: self.renderer(),
        })
    }
}

impl<R: Fn() -> String + Clone + Send + Sync + 'static> Endpoint<R> {
    /// The address that is listened on, with the port that was chosen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until it is dropped.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let render = self.render.clone();
                    tokio::spawn(async move {
                        // A client that is slow or gone hurts only itself.
                        let _ = timeout(CONNECTION_TIME_MAX, answer(stream, render)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the metrics endpoint cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(mut stream: TcpStream, render: impl Fn() -> String) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let response = respond(head.as_deref(), render);
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread input would reset the connection under the answer.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The request's head up to its empty line; `None` when it is longer than [`HEAD_BYTES_MAX`] or breaks off.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

fn respond(head: Option<&[u8]>, render: impl Fn() -> String) -> String {
    let line = head
        .and_then(|head| head.split(|b| *b == b'\r').next())
        .and_then(|line| str::from_utf8(line).ok())
        .unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let path = target.map(|target| target.split('?').next().unwrap_or_default());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1."));
    let (status, body) = match (method, path) {
        _ if !is_http => ("400 Bad Request", "not an HTTP/1 request\n".to_owned()),
        (Some("GET" | "HEAD"), Some("/metrics" | "/")) => ("200 OK", render()),
        (Some("GET" | "HEAD"), Some("/healthz")) => ("200 OK", "ok\n".to_owned()),
        (Some("GET" | "HEAD"), _) => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET and HEAD\n".to_owned()),
    };
    let length = body.len();
    let body = if method == Some("HEAD") { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::shard::Shard;

    async fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    }

    async fn serving(metrics: &Metrics) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = metrics.listen(any).await.expect("a free port");
        let addr = endpoint.addr();
        tokio::spawn(endpoint.serve());
        addr
    }

    #[tokio::test]
    async fn a_scrape_sees_the_present_state() {
        let mut metrics = Metrics::new(Shard::ONLY);
        let addr = serving(&metrics).await;
        let scrape = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let before = ask(addr, scrape).await;
        assert!(before.starts_with("HTTP/1.1 200 OK\r\n"), "{before}");
        assert!(before.contains(CONTENT_TYPE), "{before}");
        assert!(before.contains("\nreseal_warnings_total 0\n"), "{before}");
        metrics.on(&Event::Warning { message: "look" });
        let after = ask(addr, scrape).await;
        assert!(after.contains("\nreseal_warnings_total 1\n"), "{after}");
        let (head, body) = after.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
    }

    #[tokio::test]
    async fn what_is_not_a_scrape_gets_its_own_status() {
        let addr = serving(&Metrics::new(Shard::ONLY)).await;
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
        let cases = [
            ("GET /healthz HTTP/1.1\r\n\r\n", "200 "),
            ("HEAD /metrics HTTP/1.0\r\n\r\n", "200 "),
            ("GET /metrics?x=1 HTTP/1.1\r\n\r\n", "200 "),
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", "404 "),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
                "405 ",
            ),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400 "),
            (&long, "400 "),
        ];
        for (request, status) in cases {
            let answer = ask(addr, request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{request:.60}: {answer}"
            );
        }
        let head = ask(addr, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.ends_with("\r\n\r\n"), "HEAD has no body: {head}");
    }

    #[tokio::test]
    async fn a_taken_address_is_a_clear_error() {
        let metrics = Metrics::new(Shard::ONLY);
        let addr = serving(&metrics).await;
        let error = metrics.listen(addr).await.err().expect("taken").to_string();
        assert!(error.contains(&addr.to_string()), "{error}");
        assert!(error.contains("--metrics-listen"), "{error}");
    }
}
