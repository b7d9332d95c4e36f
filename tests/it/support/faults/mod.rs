//! An HTTP proxy that is unreliable on purpose, between the binary and a store.
//!
//! Whether a request meets a fault, and which, follows from the seed, the request and how often it came before, not from
//! when it came: the same seed gives the same faults. Stores that do something else than they say are in [`faithless`].

mod faithless;
mod message;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reseal::local_s3::server::LocalS3;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use faithless::Faithless;
use message::{Message, read_message};

/// One in so many requests meets each fault: 2 %.
const ONE_IN: u64 = 50;

/// Longest wait for a request that must come.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// 403 without having reached the store.
    Denied,
    /// 400 without having reached the store: its session token is one that [`Proxy::expire`] has named.
    Expired,
    /// It reaches the store once [`Proxy::let_go`] says so, or never if [`Proxy::cut_off`] does.
    Held,
}

impl Fault {
    /// Those that happen by chance.
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
    /// What this says of a request's first line and how often that line has come.
    Rule(fn(&str, u64) -> Option<Fault>),
    /// The store does the first so many rewrites (CopyObject, CompleteMultipartUpload) of objects that are not scratch, and
    /// then writes rubbish: what is rewritten reads back with one byte changed, and every answer says that all is well.
    Rubbish { after: u64 },
    /// As Ceph does: a copy of an object onto itself is refused unless it replaces the metadata.
    RefusesSelfCopy,
    /// As Garage does: encryption headers are taken, and no answer shows any.
    SilentlyUnencrypted,
    /// As many do: UpdateObjectEncryption is taken for PutObject, and the object is the XML then.
    OverwritesOnUpdate,
    /// UpdateObjectEncryption is not implemented.
    NoUpdate,
    /// A copy is done whatever `If-Match` and `If-None-Match` say of its destination.
    IgnoresDestination,
    /// `If-None-Match` on a PutObject is taken for nothing.
    IgnoresIfNoneMatch,
    /// As Garage does: of many who make one object at once all are told that they did, though the second of two that come one after
    /// the other is refused.
    LetsAllWin,
    /// `If-None-Match` on a PutObject is not implemented.
    NoIfNoneMatch,
    /// These operations, by their names in the API, are not allowed.
    Forbids(&'static [&'static str]),
}

/// What came through, counted.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Requests by S3 operation.
    pub operations: BTreeMap<String, u64>,
    pub faults: BTreeMap<Fault, u64>,
    attempts: BTreeMap<String, u64>,
}

/// What becomes of a request that is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Waits,
    Goes,
    IsCut,
}

/// A running proxy. Its thread ends with the process.
pub struct Proxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    gone: Arc<AtomicBool>,
    down: watch::Sender<bool>,
    expired: Arc<Mutex<String>>,
    held: watch::Sender<Held>,
}

impl Proxy {
    /// In front of any store, in a weather that needs no request of the proxy's own.
    pub fn start(store: SocketAddr, weather: Weather) -> Self {
        Self::with(store, Faithless::new(weather, None))
    }

    /// In front of an embedded S3, in any weather.
    pub fn before(store: &LocalS3, weather: Weather) -> Self {
        Self::with(store.addr(), Faithless::new(weather, Some(store.client())))
    }

    fn with(store: SocketAddr, faithless: Faithless) -> Self {
        let faithless = Arc::new(faithless);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = Arc::clone(&seen);
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = Arc::clone(&gone);
        let (down, expired) = (watch::Sender::new(false), Arc::default());
        let (mut is_down, is_expired) = (down.subscribe(), Arc::clone(&expired));
        let held = watch::Sender::new(Held::Waits);
        let may_go = held.subscribe();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let mut listener = TcpListener::from_std(listener).expect("a listener");
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted.ok(),
                        () = turned(&mut is_down, true) => None,
                    };
                    let Some((client, _)) = accepted else {
                        drop(listener);
                        turned(&mut is_down, false).await;
                        listener = TcpListener::bind(addr).await.expect("the same port");
                        continue;
                    };
                    let (seen, gone) = (Arc::clone(&counted), Arc::clone(&is_gone));
                    let (faithless, may_go) = (Arc::clone(&faithless), may_go.clone());
                    let (expired, mut down) = (Arc::clone(&is_expired), is_down.clone());
                    // Whoever hangs up is gone; that is what a proxy is for.
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = serve(client, store, &faithless, &seen, &gone, &expired, may_go) => {}
                            () = turned(&mut down, true) => {}
                        }
                    });
                }
            });
        });
        Self {
            addr,
            seen,
            gone,
            down,
            expired,
            held,
        }
    }

    /// From now on nobody listens at the port, and every connection is cut; or somebody does again.
    pub fn set_down(&self, down: bool) {
        self.down.send_replace(down);
    }

    /// From now on requests with this session token are refused as the store would.
    pub fn expire(&self, token: &str) {
        token.clone_into(&mut self.expired.lock().expect("nobody panicked"));
    }

    /// Requests that are held go on to the store, and none is held any more.
    pub fn let_go(&self) {
        self.held.send_replace(Held::Goes);
    }

    /// Requests that are held are cut off, and none is held any more.
    pub fn cut_off(&self) {
        self.held.send_replace(Held::IsCut);
    }

    /// Waits until a request has met a fault.
    pub fn wait_for(&self, fault: Fault) {
        let begun = Instant::now();
        while !self.seen().faults.contains_key(&fault) {
            assert!(begun.elapsed() < PATIENCE, "no request met {fault:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// Waits until a switch is turned so.
async fn turned(switch: &mut watch::Receiver<bool>, on: bool) {
    if switch.wait_for(|is_on| *is_on == on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One connection: request by request, until somebody cuts it.
async fn serve(
    client: TcpStream,
    store: SocketAddr,
    faithless: &Faithless,
    seen: &Mutex<Seen>,
    gone: &AtomicBool,
    expired: &Mutex<String>,
    mut may_go: watch::Receiver<Held>,
) -> io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    let (from_store, mut to_store) = TcpStream::connect(store).await?.into_split();
    let mut from_store = BufReader::new(from_store);
    loop {
        let bytes = read_message(&mut read, false).await?;
        if gone.load(Ordering::SeqCst) {
            return Ok(());
        }
        let request = Message::parse(&bytes);
        let is_head = request.method() == "HEAD";
        let is_copy = request.header("x-amz-copy-source").is_some();
        let weather = faithless.weather();
        let mut fault = choose(&request, is_copy, weather, seen);
        let token = request.header("x-amz-security-token").unwrap_or_default();
        if !token.is_empty() && *expired.lock().expect("nobody panicked") == token {
            fault = Some(Fault::Expired);
            let mut seen = seen.lock().expect("nobody panicked");
            *seen.faults.entry(Fault::Expired).or_default() += 1;
        }
        if fault == Some(Fault::Held) && *may_go.borrow() == Held::Waits {
            let held = may_go.wait_for(|held| *held != Held::Waits).await;
            if *held.map_err(io::Error::other)? == Held::IsCut {
                return Ok(());
            }
        }
        let early = match fault {
            Some(Fault::CutBefore) => return Ok(()),
            Some(Fault::SlowDown) => Some(Message::error(503, "SlowDown", is_head)),
            Some(Fault::InternalError) => Some(Message::error(500, "InternalError", is_head)),
            Some(Fault::Expired) => Some(Message::error(400, "ExpiredToken", is_head)),
            Some(Fault::Denied) => Some(Message::error(403, "AccessDenied", is_head)),
            _ => faithless.instead(&request).await,
        };
        if let Some(answer) = early {
            write.write_all(&answer.to_bytes()).await?;
            continue;
        }
        to_store.write_all(&bytes).await?;
        let answer = read_message(&mut from_store, is_head).await?;
        let answer = match fault {
            _ if is_copy && matches!(weather, Weather::SilentCopies) => {
                std::future::pending().await
            }
            Some(Fault::CutAfter) => return Ok(()),
            Some(Fault::ErrorInside200) => Message::error(200, "InternalError", false).to_bytes(),
            Some(Fault::Empty200) => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
            _ => match faithless.changed(&request, &answer).await {
                Some(changed) => changed.to_bytes(),
                None => answer,
            },
        };
        write.write_all(&answer).await?;
    }
}

/// Counts a request and rolls its die.
fn choose(request: &Message, is_copy: bool, weather: Weather, seen: &Mutex<Seen>) -> Option<Fault> {
    let mut seen = seen.lock().expect("nobody panicked");
    let line = request.line.as_str();
    let method = if is_copy { "COPY" } else { request.method() };
    *seen.requests.entry(method.to_owned()).or_default() += 1;
    *seen.operations.entry(request.operation()).or_default() += 1;
    let attempt = seen.attempts.entry(line.to_owned()).or_default();
    *attempt += 1;
    let attempt = *attempt;
    let fault = match weather {
        Weather::Rule(rule) => rule(line, attempt)?,
        Weather::Faults(seed) => {
            let mut die = DefaultHasher::new();
            (seed, line, attempt).hash(&mut die);
            let side = usize::try_from(die.finish() % ONE_IN).expect("small");
            let fault = Fault::ALL.get(side).copied();
            fault.filter(|fault| is_copy || !fault.is_of_copies())?
        }
        _ => return None,
    };
    *seen.faults.entry(fault).or_default() += 1;
    Some(fault)
}
