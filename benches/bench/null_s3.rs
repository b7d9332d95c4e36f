//! A store that keeps hardly anything: it answers at once, counts who asks for what, and takes no more than it is told to.
//!
//! What is measured against it is the client. It remembers of an object that it was copied, and nothing else. It knows HeadObject and CopyObject of any key, the questions about a bucket that
//! reseal asks, and `GET /_null/counts`. It runs in a process of its own, so that its CPU time is nobody else's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// The ETag of every object.
pub const ETAG: &str = "\"9b2cf535f27731c974343645a3985328\"";
/// When every object was written.
const LAST_MODIFIED: &str = "Fri, 01 Mar 2024 00:00:00 GMT";
/// What goes through at once at most, unless it is told otherwise, in seconds of the capacity.
const BURST: f64 = 0.05;
/// Objects on a page of a listing.
const PAGE: u64 = 1_000;
/// Seconds that are counted one by one.
const SECONDS_MAX: usize = 600;

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Before each answer.
    pub latency: Duration,
    /// Requests per second that it takes, from so many seconds after the first request on; none: all.
    pub capacity: Vec<(f64, f64)>,
    /// What goes through at once at most, in seconds of the capacity.
    pub burst: f64,
    /// Share of copies that meet each of: 500, 503 without a reason, cut after they were applied, an error in a 200, an empty 200.
    pub faults: f64,
    /// Share of copies that are never answered.
    pub silence: f64,
    /// Objects that a listing shows.
    pub objects: u64,
    /// How their keys are, where it begins behind any key that it is asked for.
    pub shape: Option<Shape>,
}

/// How the keys of a bucket are that is listed in the order of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All under one prefix.
    Flat,
    /// In folders of many depths, some of which have most of them.
    Spread,
}

impl Shape {
    /// The key of a number: both rise together.
    fn key(self, number: u64) -> String {
        match self {
            Self::Flat => format!("data/part-{number:012}.parquet"),
            // One folder has a half of all, the next one a half of the rest.
            Self::Spread => {
                let folder = (number + 1).leading_zeros();
                format!(
                    "tenant-{:02}/2024/{:03}/{:012}",
                    64 - folder,
                    (number / 4_096) % 1_000,
                    number
                )
            }
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            capacity: Vec::new(),
            burst: BURST,
            faults: 0.0,
            silence: 0.0,
            objects: 0,
            shape: None,
        }
    }
}

impl FromStr for Behaviour {
    type Err = String;

    /// `latency=20,capacity=0:1000;10:300;20:1000,burst=0.05,faults=0.02,silence=0.002,objects=20000`, each optional; latency in
    /// milliseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut behaviour = Self::default();
        let number = |text: &str| {
            text.parse::<f64>()
                .map_err(|error| format!("{text}: {error}"))
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("latency", value)) => {
                    behaviour.latency = Duration::from_secs_f64(number(value)? / 1_000.0);
                }
                Some(("capacity", value)) => {
                    for step in value.split(';') {
                        let (at, rate) = step.split_once(':').unwrap_or(("0", step));
                        behaviour.capacity.push((number(at)?, number(rate)?));
                    }
                }
                Some(("burst", value)) => behaviour.burst = number(value)?,
                Some(("faults", value)) => behaviour.faults = number(value)?,
                Some(("silence", value)) => behaviour.silence = number(value)?,
                Some(("objects", value)) => behaviour.objects = number(value)? as u64,
                Some(("listing", "flat")) => behaviour.shape = Some(Shape::Flat),
                Some(("listing", "spread")) => behaviour.shape = Some(Shape::Spread),
                _ => {
                    return Err(format!(
                        "{part} is none of latency=, capacity=, burst=, faults=, silence=, objects=, listing="
                    ));
                }
            }
        }
        Ok(behaviour)
    }
}

/// What was asked for, as `GET /_null/counts` tells it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// HeadObject.
    pub heads: u64,
    /// CopyObject that were applied.
    pub copies: u64,
    /// CopyObject that were refused for the rate.
    pub throttled: u64,
    /// Everything else.
    pub others: u64,
    /// Keys that were copied.
    pub keys: u64,
    /// Keys that were copied more than once.
    pub keys_twice: u64,
    /// Copies that were applied in each second from the first on.
    pub by_second: Vec<u32>,
    /// Between the first and the last copy that was applied, in seconds.
    pub seconds: f64,
}

struct Store {
    behaviour: Behaviour,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    /// How often each key was copied, by the key's hash.
    copies: HashMap<u64, u8>,
    first: Option<Instant>,
    /// What is left of the capacity, and since when.
    left: f64,
    left_at: Option<Instant>,
    /// Copies that have asked for a fault, as a sum of shares: a fault is due whenever it passes a whole number.
    asked: u64,
}

enum Fate {
    Done,
    Throttled,
    Fault(u64),
    Silence,
}

impl State {
    fn take(&mut self, behaviour: &Behaviour) -> bool {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        let age = now.duration_since(first).as_secs_f64();
        let step = behaviour.capacity.iter().rev().find(|(at, _)| *at <= age);
        let Some((_, rate)) = step.copied() else {
            return true;
        };
        let since = self
            .left_at
            .replace(now)
            .map_or(1.0, |at| now.duration_since(at).as_secs_f64());
        self.left = (self.left + since * rate).min((rate * behaviour.burst).max(1.0));
        let is_enough = self.left >= 1.0;
        if is_enough {
            self.left -= 1.0;
        }
        is_enough
    }

    fn fate(&mut self, behaviour: &Behaviour) -> Fate {
        if !self.take(behaviour) {
            return Fate::Throttled;
        }
        self.asked += 1;
        let is_due = |share: f64, offset: f64| {
            let before = ((self.asked - 1) as f64 * share + offset).floor();
            (self.asked as f64 * share + offset).floor() > before
        };
        if is_due(behaviour.silence, 0.5) {
            return Fate::Silence;
        }
        // Each of the five has its place in the sequence.
        (0..5)
            .find(|kind| is_due(behaviour.faults, 0.1 + *kind as f64 * 0.17))
            .map_or(Fate::Done, Fate::Fault)
    }

    fn applied(&mut self, key: u64) {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        let since = now.duration_since(first).as_secs_f64();
        let counts = &mut self.counts;
        counts.copies += 1;
        counts.seconds = since;
        let second = since as usize;
        if second < SECONDS_MAX {
            if counts.by_second.len() <= second {
                counts.by_second.resize(second + 1, 0);
            }
            counts.by_second[second] += 1;
        }
        let times = self.copies.entry(key).or_default();
        *times = times.saturating_add(1);
        match *times {
            1 => counts.keys += 1,
            2 => counts.keys_twice += 1,
            _ => {}
        }
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    text(
        status,
        format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"),
    )
}

/// Why a connection is given up.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl Error for Cut {}

async fn answer(store: Arc<Store>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    if !store.behaviour.latency.is_zero() {
        tokio::time::sleep(store.behaviour.latency).await;
    }
    let path = request.uri().path();
    if path == "/_null/counts" {
        let counts = store.state.lock().expect("nobody panics").counts.clone();
        let counts = serde_json::to_string(&counts).expect("numbers only");
        return Ok(text(StatusCode::OK, counts));
    }
    let is_object = path.trim_start_matches('/').contains('/')
        && request
            .uri()
            .query()
            .is_none_or(|query| query.starts_with("x-id"));
    match *request.method() {
        Method::HEAD if is_object => Ok(look(&store, path)),
        Method::PUT if is_object => copy(&store, &request).await,
        _ => {
            store.state.lock().expect("nobody panics").counts.others += 1;
            let query = request.uri().query().unwrap_or_default();
            Ok(match query.contains("list-type=2") {
                true => match store.behaviour.shape {
                    Some(shape) => sorted_listing(query, shape, store.behaviour.objects),
                    None => listing(query, store.behaviour.objects),
                },
                false => about_the_bucket(query),
            })
        }
    }
}

/// An object, under the target where it has been copied.
fn look(store: &Store, path: &str) -> Response<Body> {
    let is_copied = {
        let mut state = store.state.lock().expect("nobody panics");
        state.counts.heads += 1;
        state.copies.contains_key(&store.hasher.hash_one(path))
    };
    let mut response = Response::new(Empty::new().boxed());
    let mut insert = |name: &'static str, value: &'static str| {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    };
    insert("etag", ETAG);
    insert("content-length", "1024");
    insert("content-type", "binary/octet-stream");
    insert("last-modified", LAST_MODIFIED);
    if is_copied {
        insert("x-amz-server-side-encryption", "aws:kms");
        insert(
            "x-amz-server-side-encryption-aws-kms-key-id",
            super::run::KEY_ARN,
        );
        insert("x-amz-server-side-encryption-bucket-key-enabled", "true");
    } else {
        insert("x-amz-server-side-encryption", "AES256");
    }
    response
}

async fn copy(store: &Store, request: &Request<Incoming>) -> Result<Response<Body>, Cut> {
    let key = store.hasher.hash_one(request.uri().path());
    let fate = {
        let mut state = store.state.lock().expect("nobody panics");
        let fate = state.fate(&store.behaviour);
        match fate {
            Fate::Throttled => state.counts.throttled += 1,
            Fate::Done | Fate::Fault(2) => state.applied(key),
            Fate::Fault(_) | Fate::Silence => {}
        }
        fate
    };
    match fate {
        Fate::Throttled => Ok(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Fate::Silence => std::future::pending().await,
        Fate::Fault(0) => Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Fate::Fault(1) => Ok(error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")),
        Fate::Fault(2) => Err(Cut),
        Fate::Fault(3) => Ok(error(StatusCode::OK, "InternalError")),
        Fate::Fault(_) => Ok(text(StatusCode::OK, String::new())),
        Fate::Done => {
            let mut response = text(
                StatusCode::OK,
                format!(
                    "<CopyObjectResult><ETag>{ETAG}</ETag><LastModified>2024-03-02T00:00:00.000Z</LastModified></CopyObjectResult>"
                ),
            );
            for name in [
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-bucket-key-enabled",
            ] {
                if let Some(value) = request.headers().get(name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            Ok(response)
        }
    }
}

/// A page of all objects.
fn listing(query: &str, objects: u64) -> Response<Body> {
    let token = query
        .split('&')
        .find_map(|part| part.strip_prefix("continuation-token="));
    let first: u64 = token.and_then(|token| token.parse().ok()).unwrap_or(0);
    let end = (first + PAGE).min(objects);
    let rows: String = (first..end)
        .map(|number| {
            let key = super::run::key(number);
            format!("<Contents><Key>{key}</Key><LastModified>2024-03-01T00:00:00.000Z</LastModified><ETag>{ETAG}</ETag><Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>")
        })
        .collect();
    let more = end < objects;
    let next = match more {
        true => format!("<NextContinuationToken>{end}</NextContinuationToken>"),
        false => String::new(),
    };
    text(
        StatusCode::OK,
        format!(
            "<ListBucketResult><Name>bench</Name><KeyCount>{}</KeyCount><IsTruncated>{more}</IsTruncated>{next}{rows}</ListBucketResult>",
            end - first
        ),
    )
}

/// A page of the keys behind another, in their order; up to a delimiter, where one is given.
fn sorted_listing(query: &str, shape: Shape, objects: u64) -> Response<Body> {
    let parameter = |name: &str| {
        let value = query
            .split('&')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().replace("%2F", "/")
    };
    // The first number from which on all keys are so.
    let first = |is_so: &dyn Fn(String) -> bool| {
        let (mut low, mut high) = (0, objects);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_so(shape.key(middle)) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        low
    };
    let behind = |prefix: &str| first(&|key| *key > *prefix && !key.starts_with(prefix));
    let (after, prefix, delimiter) = (
        parameter("start-after"),
        parameter("prefix"),
        parameter("delimiter"),
    );
    let rows: u64 = parameter("max-keys").parse().unwrap_or(PAGE);
    // A token is the number of the next key.
    let mut next = match parameter("continuation-token").parse() {
        Ok(next) => next,
        Err(_) => first(&|key| key > after && key >= prefix),
    };
    let end = behind(&prefix);
    let mut body = String::with_capacity(64 + rows as usize * 256);
    body.push_str("<ListBucketResult><EncodingType>url</EncodingType>");
    for _ in 0..rows {
        if next >= end {
            break;
        }
        let key = shape.key(next);
        let folder = key[prefix.len()..].find('/');
        if let Some(at) = folder.filter(|_| delimiter == "/") {
            let folder = &key[..prefix.len() + at + 1];
            body.push_str(&format!(
                "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            ));
            next = behind(folder);
            continue;
        }
        body.push_str("<Contents><Key>");
        body.push_str(&key);
        body.push_str("</Key><LastModified>2024-03-01T00:00:00.000Z</LastModified><ETag>");
        body.push_str(ETAG);
        body.push_str("</ETag><Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>");
        next += 1;
    }
    if next < end {
        body.push_str(&format!(
            "<NextContinuationToken>{next}</NextContinuationToken>"
        ));
    }
    body.push_str(&format!(
        "<IsTruncated>{}</IsTruncated></ListBucketResult>",
        next < end
    ));
    text(StatusCode::OK, body)
}

/// A bucket in which nothing hides: no ACLs, no lock, no website, no rules.
fn about_the_bucket(query: &str) -> Response<Body> {
    let (status, body) = match query.split(['=', '&']).next().unwrap_or_default() {
        "versioning" => (200, "<VersioningConfiguration/>"),
        "ownershipControls" => (
            200,
            "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
        ),
        "notification" => (200, "<NotificationConfiguration/>"),
        "encryption" => (
            404,
            "<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>",
        ),
        "object-lock" => (
            404,
            "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>",
        ),
        "website" => (
            404,
            "<Error><Code>NoSuchWebsiteConfiguration</Code></Error>",
        ),
        "replication" => (
            404,
            "<Error><Code>ReplicationConfigurationNotFoundError</Code></Error>",
        ),
        "lifecycle" => (
            404,
            "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>",
        ),
        "location" => (200, "<LocationConstraint/>"),
        _ => (501, "<Error><Code>NotImplemented</Code></Error>"),
    };
    text(
        StatusCode::from_u16(status).expect("one of the above"),
        body.to_owned(),
    )
}

/// Serves until the process is killed, and tells its address on standard output.
pub fn serve(listen: SocketAddr, behaviour: Behaviour) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(Store {
        behaviour,
        hasher: RandomState::new(),
        state: Mutex::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let store = Arc::clone(&store);
            let service =
                hyper::service::service_fn(move |request| answer(Arc::clone(&store), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // Whoever hangs up has what it wanted.
                let _ = connection.await;
            });
        }
    })
}
