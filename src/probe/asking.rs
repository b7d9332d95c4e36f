//! One request and its tries: what a store says of itself, told from what says nothing about it.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::Reason;
use crate::event::ResponseClass;
use crate::retry::{self, Attempts, Verdict};
use crate::s3_error::S3Error;

/// Most tries of a request that the store answers with an error of its own, a 500, while it does others. A store that is gone or
/// asks for time gets the tries that a row gets.
const TRIES_MAX: u32 = 4;

/// Counts the tries of one request.
pub(super) struct Patience {
    attempts: Attempts,
    /// Tries that the store answered with an error of its own.
    failed: u32,
    rng: SmallRng,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            attempts: Attempts::default(),
            failed: 0,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    /// How long to wait before the next try; `None` where this answer is the one to go by.
    pub(super) fn wait(&mut self, error: &S3Error) -> Option<Duration> {
        if !is_trouble(error) {
            self.failed += 1;
            if self.failed >= TRIES_MAX {
                return None;
            }
        }
        let verdict = retry::judge_look(error).without_waiting(error);
        self.attempts.next(&verdict, error, &mut self.rng)
    }
}

/// Sends a request until it is answered, within bounds. The inner error is a refusal that says something about the store; the outer one
/// says nothing, and ends the probe.
pub(super) async fn ask<T, F>(mut request: impl FnMut() -> F) -> Result<Result<T, S3Error>, Reason>
where
    F: Future<Output = Result<T, S3Error>>,
{
    let mut patience = Patience::new();
    loop {
        let error = match request().await {
            Ok(answer) => return Ok(Ok(answer)),
            Err(error) => error,
        };
        match patience.wait(&error) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return refusal(error).map(Err),
        }
    }
}

/// Tells what a store refuses from what is wrong with the job, its credentials or the network.
///
/// # Errors
/// The latter.
pub(super) fn refusal(error: S3Error) -> Result<S3Error, Reason> {
    // What a store doesn't know is what a probe is there to find out.
    let unknown = matches!(
        error.code.as_str(),
        "NotImplemented" | "InvalidEncryptionAlgorithmError"
    );
    // The only KMS key that a probe uses is the target's.
    let verdict = retry::judge_look(&error).without_waiting(&error);
    let of_the_job = error.code.starts_with("KMS.") || verdict == Verdict::FailJob;
    if !unknown && (of_the_job || is_trouble(&error)) {
        return Err(Reason::Store(error));
    }
    Ok(error)
}

/// Whether the store is gone, or in no state to be judged.
fn is_trouble(error: &S3Error) -> bool {
    match error.class() {
        ResponseClass::NoAnswer | ResponseClass::Throttled => true,
        ResponseClass::ServerError => matches!(error.http_status, 502..=504),
        ResponseClass::Ok | ResponseClass::ClientError => false,
    }
}

/// A refusal in a note: alike for every object that meets it.
pub(super) fn said(error: &S3Error) -> String {
    let S3Error {
        operation,
        code,
        http_status,
        message,
        ..
    } = error;
    let separator = if message.is_empty() { "" } else { ": " };
    format!("{operation}: HTTP {http_status} {code}{separator}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3_error::{EMPTY_ANSWER, NO_ANSWER};

    fn error(http_status: u16, code: &str) -> S3Error {
        S3Error {
            operation: "CopyObject",
            code: code.to_owned(),
            http_status,
            message: String::new(),
            request_id: None,
            retry_after: None,
        }
    }

    #[test]
    fn only_what_a_store_says_of_itself_is_held_against_it() {
        for (status, code, says_something) in [
            (400, "InvalidRequest", true),
            (403, "AccessDenied", true),
            (412, "PreconditionFailed", true),
            (500, "InternalError", true),
            (501, "NotImplemented", true),
            (200, EMPTY_ANSWER, true),
            (400, "InvalidEncryptionAlgorithmError", true),
            (400, "KMS.DisabledException", false),
            (403, "InvalidAccessKeyId", false),
            (404, "NoSuchBucket", false),
            (0, NO_ANSWER, false),
            (503, "SlowDown", false),
            (503, "ServiceUnavailable", false),
            (502, "BadGateway", false),
        ] {
            let refusal = refusal(error(status, code));
            assert_eq!(refusal.is_ok(), says_something, "{status} {code}");
        }
    }

    #[test]
    fn a_store_that_is_gone_gets_more_tries_than_one_that_fails() {
        let tries = |error: S3Error| {
            let mut patience = Patience::new();
            1 + std::iter::from_fn(|| patience.wait(&error)).count()
        };
        assert_eq!(tries(error(400, "InvalidRequest")), 1);
        assert_eq!(tries(error(501, "NotImplemented")), 1);
        assert_eq!(tries(error(500, "InternalError")), TRIES_MAX as usize);
        assert_eq!(
            tries(error(0, NO_ANSWER)),
            retry::FAULT_ATTEMPTS_MAX as usize
        );
    }
}
