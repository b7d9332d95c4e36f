//! What can go wrong between a runner and its store.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::wire::Asked;

/// How an exchange goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is refused; nothing happens.
    Refused,
    /// 503 SlowDown; nothing happens.
    Throttled { retry_after: bool, by_kms: bool },
    /// A 5xx; nothing happens.
    Trouble(u16),
    /// 400 ExpiredToken; nothing happens.
    Expired,
    /// It happens, and the connection is cut before the answer.
    Lost,
    /// It happens, and a 5xx is the answer.
    TroubleAfter(u16),
    /// It happens, and the answer is cut off in its middle.
    CutOff,
    /// An error inside a 200, whether it happened or not.
    ErrorInside { applied: bool },
    /// A 200 without content, whether it happened or not.
    Empty { applied: bool },
    /// It takes longer than anybody waits until it happens.
    Late(Duration),
    /// It happens at once, and the answer takes longer than anybody waits.
    Slow,
}

/// How often what goes wrong, in thousandths of the exchanges.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub any: u32,
    /// Among those that go wrong: credentials that have expired, in thousandths.
    pub expired: u32,
}

impl Weather {
    pub fn of(rng: &mut SmallRng) -> Self {
        Self {
            any: [0, 20, 80, 200, 350][rng.random_range(0..5)],
            expired: [0, 0, 15][rng.random_range(0..3)],
        }
    }

    /// What becomes of an exchange.
    pub fn fault(self, asked: &Asked, rng: &mut SmallRng) -> Option<Fault> {
        if !rng.random_ratio(self.any, 1_000) {
            return None;
        }
        if rng.random_ratio(self.expired, 1_000) {
            return Some(Fault::Expired);
        }
        let trouble = [500, 502, 503, 504][rng.random_range(0..4)];
        let applied = rng.random();
        Some(match rng.random_range(0..10) {
            0 => Fault::Refused,
            1 | 2 => Fault::Throttled {
                retry_after: rng.random_ratio(1, 4),
                by_kms: rng.random_ratio(1, 4),
            },
            3 => Fault::Trouble(trouble),
            4 => Fault::Lost,
            5 => Fault::TroubleAfter(trouble),
            6 => Fault::CutOff,
            7 if asked.may_fail_inside() => Fault::ErrorInside { applied },
            8 if asked.tells_something() => Fault::Empty { applied },
            // Requests are waited for 30 s to 20 min.
            9 => Fault::Late(Duration::from_secs(rng.random_range(1..3_000))),
            _ => Fault::Slow,
        })
    }
}

impl Fault {
    /// Whether the store gets to see the request.
    pub fn is_applied(self) -> bool {
        match self {
            Self::Refused | Self::Throttled { .. } | Self::Trouble(_) | Self::Expired => false,
            Self::ErrorInside { applied } | Self::Empty { applied } => applied,
            Self::Lost | Self::TroubleAfter(_) | Self::CutOff | Self::Late(_) | Self::Slow => true,
        }
    }

    /// What the runner gets, where it is not the store's answer; `None` is a connection that breaks.
    pub fn answer(self, asked: &Asked, real: Option<Response<Bytes>>) -> Option<Response<Bytes>> {
        let (status, code, message) = match self {
            Self::Refused | Self::Lost => return None,
            Self::Late(_) | Self::Slow => return real,
            Self::Throttled { by_kms: true, .. } => (
                503,
                "SlowDown",
                "Please reduce your request rate for operations involving AWS KMS.",
            ),
            Self::Throttled { .. } => (503, "SlowDown", "Please reduce your request rate."),
            Self::Expired => (400, "ExpiredToken", "The provided token has expired."),
            Self::ErrorInside { .. } => (200, "InternalError", "We encountered an internal error."),
            Self::Empty { .. } => {
                let mut answer = Response::new(Bytes::new());
                answer.headers_mut().insert("content-length", 0.into());
                return Some(answer);
            }
            Self::CutOff => {
                let (head, body) = real?.into_parts();
                return (!body.is_empty())
                    .then(|| Response::from_parts(head, body.slice(..body.len() / 2)));
            }
            Self::Trouble(status) | Self::TroubleAfter(status) => match status {
                500 => (500, "InternalError", "We encountered an internal error."),
                // A proxy's, without a document.
                _ => (status, "", ""),
            },
        };
        let document = match code {
            "" => String::new(),
            _ if asked.is_head() => String::new(),
            _ => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
                 <RequestId>SIMULATED</RequestId></Error>"
            ),
        };
        let mut answer = Response::new(Bytes::from(document));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        if let Self::Throttled {
            retry_after: true, ..
        } = self
        {
            answer.headers_mut().insert("retry-after", 3.into());
        }
        Some(answer)
    }
}

/// Chance for one purpose: what one of them draws changes nothing for the others.
pub fn chance(seed: u64, purpose: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ purpose)
}
