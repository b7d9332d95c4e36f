//! An HTTP proxy that is unreliable on purpose, between the binary and a store.
//!
//! Whether a request meets a fault, and which, follows from the seed, the request and how often it came before, not from
//! when it came: the same seed gives the same faults.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One in so many requests meets each fault: 2 %.
const ONE_IN: u64 = 50;

/// What may happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 503 without having reached the store.
    SlowDown,
    /// 500 without having reached the store.
    InternalError,
    /// The connection is cut before the request reaches the store.
    CutBefore,
    /// The connection is cut after the store has done what it was asked.
    CutAfter,
    /// The store has done it, and the answer is an error under status 200.
    ErrorInside200,
    /// The store has done it, and the answer is status 200 and nothing.
    Empty200,
}

impl Fault {
    pub const ALL: [Self; 6] = [
        Self::SlowDown,
        Self::InternalError,
        Self::CutBefore,
        Self::CutAfter,
        Self::ErrorInside200,
        Self::Empty200,
    ];

    fn is_of_copies(self) -> bool {
        matches!(self, Self::ErrorInside200 | Self::Empty200)
    }
}

/// What a proxy does to the requests that pass it.
#[derive(Clone, Copy, Debug)]
pub enum Weather {
    /// Each [`Fault`] now and then, by this seed.
    Faults(u64),
    /// Copies are done and never answered; everything else passes.
    SilentCopies,
    /// Everything passes.
    Fair,
}

/// What came through, counted.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    pub faults: BTreeMap<Fault, u64>,
    attempts: BTreeMap<String, u64>,
}

/// A running proxy. Its thread ends with the process.
pub struct Proxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    gone: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of `store`.
    pub fn start(store: SocketAddr, weather: Weather) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = Arc::clone(&seen);
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = Arc::clone(&gone);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((client, _)) = listener.accept().await {
                    let (seen, gone) = (Arc::clone(&counted), Arc::clone(&is_gone));
                    // Whoever hangs up is gone; that is what a proxy is for.
                    tokio::spawn(async move { serve(client, store, weather, &seen, &gone).await });
                }
            });
        });
        Self { addr, seen, gone }
    }

    /// From now on every request is cut off; or no longer.
    pub fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("nobody panicked").clone()
    }
}

/// One connection: request by request, until somebody cuts it.
async fn serve(
    client: TcpStream,
    store: SocketAddr,
    weather: Weather,
    seen: &Mutex<Seen>,
    gone: &AtomicBool,
) -> io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    let (from_store, mut to_store) = TcpStream::connect(store).await?.into_split();
    let mut from_store = BufReader::new(from_store);
    loop {
        let request = read_message(&mut read, false).await?;
        let head = String::from_utf8_lossy(&request).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        let is_head = line.starts_with("HEAD ");
        if gone.load(Ordering::SeqCst) {
            return Ok(());
        }
        let is_copy = head.contains("x-amz-copy-source");
        let fault = choose(&line, is_copy, weather, seen);
        match fault {
            Some(Fault::SlowDown) => write.write_all(&error(503, "SlowDown", is_head)).await?,
            Some(Fault::InternalError) => {
                write
                    .write_all(&error(500, "InternalError", is_head))
                    .await?;
            }
            Some(Fault::CutBefore) => return Ok(()),
            Some(Fault::CutAfter | Fault::ErrorInside200 | Fault::Empty200) | None => {
                to_store.write_all(&request).await?;
                let answer = read_message(&mut from_store, is_head).await?;
                match fault {
                    _ if is_copy && matches!(weather, Weather::SilentCopies) => {
                        std::future::pending().await
                    }
                    Some(Fault::CutAfter) => return Ok(()),
                    Some(Fault::ErrorInside200) => {
                        write.write_all(&error(200, "InternalError", false)).await?;
                    }
                    Some(Fault::Empty200) => {
                        let empty = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        write.write_all(empty).await?;
                    }
                    _ => write.write_all(&answer).await?,
                }
            }
        }
    }
}

/// Counts a request and rolls its die.
fn choose(line: &str, is_copy: bool, weather: Weather, seen: &Mutex<Seen>) -> Option<Fault> {
    let mut seen = seen.lock().expect("nobody panicked");
    let method = if is_copy {
        "COPY"
    } else {
        line.split(' ').next().unwrap_or_default()
    };
    *seen.requests.entry(method.to_owned()).or_default() += 1;
    let attempt = seen.attempts.entry(line.to_owned()).or_default();
    *attempt += 1;
    let attempt = *attempt;
    let Weather::Faults(seed) = weather else {
        return None;
    };
    let mut die = DefaultHasher::new();
    (seed, line, attempt).hash(&mut die);
    let side = usize::try_from(die.finish() % ONE_IN).expect("small");
    let fault = Fault::ALL.get(side).copied();
    let fault = fault.filter(|fault| is_copy || !fault.is_of_copies())?;
    *seen.faults.entry(fault).or_default() += 1;
    Some(fault)
}

fn error(status: u16, code: &str, is_head: bool) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    let head = format!(
        "HTTP/1.1 {status} Injected\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let body = if is_head { String::new() } else { body };
    format!("{head}{body}").into_bytes()
}

/// Reads one HTTP message whole. `no_body`: it answers a HEAD.
async fn read_message(from: &mut (impl AsyncRead + Unpin), no_body: bool) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    read_until(from, &mut message, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap_or(0));
    if no_body {
        return Ok(message);
    }
    if head.contains("transfer-encoding: chunked") {
        loop {
            let start = message.len();
            read_until(from, &mut message, b"\r\n").await?;
            let size = String::from_utf8_lossy(&message[start..]).trim().to_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            read_exactly(from, &mut message, size + 2).await?;
            if size == 0 {
                return Ok(message);
            }
        }
    }
    read_exactly(from, &mut message, length).await?;
    Ok(message)
}

async fn read_until(
    from: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
    end: &[u8],
) -> io::Result<()> {
    while !message.ends_with(end) {
        message.push(from.read_u8().await?);
    }
    Ok(())
}

async fn read_exactly(
    from: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
    bytes: usize,
) -> io::Result<()> {
    let start = message.len();
    message.resize(start + bytes, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(())
}
