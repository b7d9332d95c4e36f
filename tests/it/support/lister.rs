//! A store that only lists, as well or as badly as it is told: for listings that a real one would take long to be filled for, and for
//! stores that no real one is like.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{url_decode, url_encode};

/// Longest wait for a request that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a store does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing.
    Sound,
    /// It begins with the first key whatever is asked.
    IgnoresStartAfter,
    /// Each page is turned round.
    TurnsPages,
    /// Each page begins with the last key of the one before.
    Repeats,
    /// It always says that there is more, on the same empty page at the end.
    NeverEnds,
    /// It lists keys that don't begin with the prefix.
    IgnoresPrefix,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    /// Requests that are answered; those after them wait.
    let_through: u64,
}

struct Shared {
    keys: BTreeSet<String>,
    manner: Manner,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// A running one. Its threads end with the process.
pub struct Lister {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Lister {
    pub fn start(keys: BTreeSet<String>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            keys,
            manner,
            seen: Mutex::new(Seen {
                requests: 0,
                let_through: u64::MAX,
            }),
            changed: Condvar::new(),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // Whoever hangs up is gone.
                std::thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { addr, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Requests so far, those that wait among them.
    pub fn requests(&self) -> u64 {
        self.shared.seen.lock().expect("nobody panicked").requests
    }

    /// From now on so many more requests are answered, and the others wait.
    pub fn let_through(&self, more: u64) {
        let mut seen = self.shared.seen.lock().expect("nobody panicked");
        seen.let_through = seen.requests.saturating_add(more);
        self.shared.changed.notify_all();
    }

    /// Waits until a request waits.
    pub fn wait_until_held(&self) {
        let seen = self.shared.seen.lock().expect("nobody panicked");
        let is_free = |seen: &mut Seen| seen.requests <= seen.let_through;
        let (_seen, waited) = self
            .shared
            .changed
            .wait_timeout_while(seen, PATIENCE, is_free)
            .expect("nobody panicked");
        assert!(!waited.timed_out(), "no request waits");
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        {
            let mut seen = shared.seen.lock().expect("nobody panicked");
            seen.requests += 1;
            let number = seen.requests;
            shared.changed.notify_all();
            let waits = |seen: &mut Seen| seen.let_through < number;
            let _seen = shared
                .changed
                .wait_while(seen, waits)
                .expect("nobody panicked");
        }
        let (status, body) = if first.contains("list-type=2") {
            ("200 OK", page(shared, &first))
        } else if first.contains("?versioning") {
            ("200 OK", "<VersioningConfiguration/>".to_owned())
        } else {
            ("501 Not Implemented", String::new())
        };
        let length = body.len();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
    }
}

fn page(shared: &Shared, first: &str) -> String {
    let target = first.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next();
        url_decode(value.unwrap_or_default())
    };
    let (prefix, after) = (parameter("prefix"), parameter("start-after"));
    let max: usize = parameter("max-keys").parse().expect("a number");
    let manner = shared.manner;
    let from = match manner {
        Manner::IgnoresStartAfter => Bound::Unbounded,
        Manner::Repeats if !after.is_empty() => Bound::Included(after),
        _ => Bound::Excluded(after),
    };
    let is_wanted = |key: &&String| manner == Manner::IgnoresPrefix || key.starts_with(&prefix);
    let mut found = shared
        .keys
        .range((from, Bound::Unbounded))
        .filter(is_wanted);
    let mut keys: Vec<_> = found.by_ref().take(max).collect();
    let has_more = found.next().is_some() || manner == Manner::NeverEnds;
    if manner == Manner::TurnsPages {
        keys.reverse();
    }
    let rows: String = keys
        .iter()
        .map(|key| {
            let name = url_encode(key);
            format!(
                "<Contents><Key>{name}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>\
                 <ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        })
        .collect();
    format!(
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{has_more}</IsTruncated>\
         <NextContinuationToken>token</NextContinuationToken>{rows}</ListBucketResult>"
    )
}
