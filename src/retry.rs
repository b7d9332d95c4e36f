//! What an error means for the row, and how long to wait. Pure: no I/O, no clock, chance comes in.
//!
//! reseal owns its retries (the SDK's are off), because a retry must know what the SDK can't: whether the object may have been
//! changed by the attempt that failed. Three answers matter. *Determinate*: it did not happen, send it again.
//! *Indeterminate*: it may have happened, look before anything else. *Conflict*: somebody else was there, look and plan anew.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::encryption::{Encryption, Target};
use crate::event::{ResponseClass, Throttler};
use crate::s3_error::{
    CREDENTIALS_UNAVAILABLE, EMPTY_ANSWER, FILE_NOT_READ, FILE_NOT_WRITTEN, NO_CONNECTION,
    NOT_SENT, S3Error, is_credentials_code,
};

/// Most attempts of a row's requests that failed for reasons other than throttling. At 10 % failing answers one row in
/// 10⁸ would exhaust them.
pub const FAULT_ATTEMPTS_MAX: u32 = 8;
/// Most throttled attempts of a row's requests: with [`BACKOFF_MAX`] some ten minutes of a store that says no.
pub const THROTTLE_ATTEMPTS_MAX: u32 = 50;
/// Most times that a row is planned anew because its object changed between the look and the rewrite.
pub const CONFLICTS_MAX: u32 = 4;
/// Most stalls that one row, or one transfer, waits out: a store that comes and goes so often is none to work with.
pub const STALLS_MAX: u32 = 20;
/// Ceiling of the first back-off; it doubles from there.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Ceiling of every back-off. Source: the AWS SDKs' standard retry mode, 20 s.
pub const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// The longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not happen: send the same request again, later.
    Again {
        /// Who asked for less, if that was it.
        throttled_by: Option<Throttler>,
    },
    /// It may have happened: look at the object first.
    LookFirst,
    /// It did not happen, and nobody fares better for the moment: wait until that is over, and send the same request again. Where
    /// it has never worked, it is wrong and not in trouble: see [`Verdict::without_waiting`].
    Stall,
    /// The object is not what it was: look and plan anew.
    Conflict,
    /// This row fails.
    FailRow,
    /// Every row would fail: the job stops.
    FailJob,
}

impl Verdict {
    /// What is done where nobody waits for the end of a stall.
    #[must_use]
    pub fn without_waiting(self, error: &S3Error) -> Self {
        match self {
            Self::Stall if is_job_fault(&error.code) => Self::FailJob,
            Self::Stall => Self::Again { throttled_by: None },
            verdict => verdict,
        }
    }
}

/// Whether an error says that nobody can do anything for the moment: credentials that are refused or can't be had, a store to
/// which there is no connection. The request was not carried out.
fn is_stall(error: &S3Error) -> bool {
    error.is_of_credentials()
        || matches!(error.code.as_str(), NO_CONNECTION | CREDENTIALS_UNAVAILABLE)
}

/// Whether an error tells nothing but that the store, or the way there, is in trouble. Asking for fewer requests is none.
pub fn is_trouble(error: &S3Error) -> bool {
    matches!(
        judge_look(error),
        Verdict::Stall | Verdict::Again { throttled_by: None }
    )
}

/// Whether an error shows a store that answers, and lets us in. A HEAD's refusal has no body, and so does not tell why.
pub fn is_answer(error: &S3Error) -> bool {
    !error.is_of_credentials()
        && !error.operation.starts_with("Head")
        && matches!(
            error.class(),
            ResponseClass::Throttled | ResponseClass::ClientError
        )
}

/// Judges an error of a look.
pub fn judge_look(error: &S3Error) -> Verdict {
    // The store does not know the question: whoever asks has to do without, which is no fault of the job.
    if error.http_status == 501 {
        return Verdict::FailRow;
    }
    // The store did its part: a disk of this machine is full, say.
    if matches!(error.code.as_str(), FILE_NOT_WRITTEN | FILE_NOT_READ) {
        return Verdict::FailRow;
    }
    if is_stall(error) {
        return Verdict::Stall;
    }
    if is_job_fault(&error.code) {
        return Verdict::FailJob;
    }
    match error.class() {
        ResponseClass::Throttled => Verdict::Again {
            throttled_by: Some(throttler(error)),
        },
        ResponseClass::NoAnswer | ResponseClass::ServerError => {
            Verdict::Again { throttled_by: None }
        }
        ResponseClass::Ok | ResponseClass::ClientError => Verdict::FailRow,
    }
}

/// Judges an error of a rewrite of an object that was found under `source` and shall be under `target`.
pub fn judge_rewrite(error: &S3Error, source: &Encryption, target: &Target) -> Verdict {
    if is_stall(error) {
        return Verdict::Stall;
    }
    if is_job_fault(&error.code) {
        return Verdict::FailJob;
    }
    if error.code.starts_with("KMS.") && error.http_status == 400 {
        return judge_kms(error, source, target);
    }
    match (error.code.as_str(), error.class()) {
        ("PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted", _) => {
            Verdict::Conflict
        }
        (_, ResponseClass::Throttled) => Verdict::Again {
            throttled_by: Some(throttler(error)),
        },
        // What the store does not know it has not done.
        ("NotImplemented", ResponseClass::ServerError) if error.http_status == 501 => {
            Verdict::FailRow
        }
        (_, ResponseClass::NoAnswer | ResponseClass::ServerError) => Verdict::LookFirst,
        (_, ResponseClass::Ok | ResponseClass::ClientError) => {
            match error.http_status {
                // A conflict by another name, on stores that spell the code otherwise.
                409 | 412 => Verdict::Conflict,
                _ if error.code == EMPTY_ANSWER => Verdict::LookFirst,
                _ => Verdict::FailRow,
            }
        }
    }
}

/// Judges an error of a request that begins a rewrite in parts, or makes a part: neither touches the object, so that it may be
/// sent again whatever became of it. [`Verdict::Conflict`]: the source has changed or the upload is gone, begin anew.
pub fn judge_part(error: &S3Error, source: &Encryption, target: &Target) -> Verdict {
    match judge_rewrite(error, source, target) {
        Verdict::LookFirst => Verdict::Again { throttled_by: None },
        Verdict::FailRow if error.http_status == 404 => Verdict::Conflict,
        verdict => verdict,
    }
}

/// Judges an error of the request that puts the parts in the object's place. [`Verdict::LookFirst`]: the parts may still be there.
pub fn judge_completion(error: &S3Error, source: &Encryption, target: &Target) -> Verdict {
    match (error.code.as_str(), judge_rewrite(error, source, target)) {
        // An attempt before it may have done it; or an attempt at a part came late, and the part has another ETag since.
        ("NoSuchUpload" | "InvalidPart", Verdict::FailRow) => Verdict::LookFirst,
        (_, Verdict::FailRow) if error.http_status == 404 => Verdict::Conflict,
        (_, verdict) => verdict,
    }
}

/// A KMS key that can't be used: the target's stops the job, an object's own old key fails that row only. S3's message
/// names the key; where it doesn't, an object that is under no KMS key can only have met the target's.
fn judge_kms(error: &S3Error, source: &Encryption, target: &Target) -> Verdict {
    let source_key = match source {
        Encryption::SseKms { key, .. } | Encryption::DsseKms { key } => key.as_deref(),
        Encryption::NotSse | Encryption::SseS3 | Encryption::SseC { .. } => None,
    };
    let Some(kms) = target.kms() else {
        return Verdict::FailRow;
    };
    let names = |key: &str| !key.is_empty() && error.message.contains(key);
    let names_target = [kms.key_id.as_deref(), kms.resolved.as_deref()]
        .into_iter()
        .flatten()
        .any(names);
    match source_key {
        _ if names_target => Verdict::FailJob,
        Some(key) if kms.is_key(key) => Verdict::FailJob,
        Some(key) if names(key) => Verdict::FailRow,
        // A key that is not the object's is the target's, under whatever alias.
        Some(_) if error.message.contains(":key/") => Verdict::FailJob,
        Some(_) => Verdict::FailRow,
        None => Verdict::FailJob,
    }
}

/// Faults of the account, the credentials, the bucket or the Region: no object would fare better.
/// Source: S3 API Reference, "Error responses".
fn is_job_fault(code: &str) -> bool {
    is_credentials_code(code)
        || matches!(
            code,
            "NoSuchBucket"
                | "InvalidBucketName"
                | "NotSignedUp"
                | "AccountProblem"
                | "AllAccessDisabled"
                | "PermanentRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
                | "InvalidEncryptionAlgorithmError"
                | NOT_SENT
        )
}

/// Who asked for fewer requests. KMS throttling reaches us as S3's own code; only the text tells it apart. S3 itself never answers 429.
/// Source: S3's message "Please reduce your request rate for operations involving AWS KMS."
pub fn throttler(error: &S3Error) -> Throttler {
    if error.message.contains("AWS KMS") {
        Throttler::Kms
    } else if error.http_status == 429 {
        Throttler::Store
    } else {
        Throttler::S3
    }
}

/// How many attempts a row has had, over all its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempts {
    faults: u32,
    throttles: u32,
    conflicts: u32,
    stalls: u32,
}

impl Attempts {
    /// Counts one more failed attempt. `Some(wait)` where another may follow, `None` where the bound is reached.
    pub fn next(
        &mut self,
        verdict: &Verdict,
        error: &S3Error,
        rng: &mut impl Rng,
    ) -> Option<Duration> {
        let (count, max) = match verdict {
            Verdict::Again {
                throttled_by: Some(_),
            } => (&mut self.throttles, THROTTLE_ATTEMPTS_MAX),
            Verdict::Again { throttled_by: None } | Verdict::LookFirst => {
                (&mut self.faults, FAULT_ATTEMPTS_MAX)
            }
            Verdict::Conflict => (&mut self.conflicts, CONFLICTS_MAX),
            Verdict::Stall => (&mut self.stalls, STALLS_MAX),
            Verdict::FailRow | Verdict::FailJob => return None,
        };
        *count += 1;
        (*count < max).then(|| {
            let jittered = backoff(*count, rng);
            error
                .retry_after
                .map_or(jittered, |asked| asked.min(RETRY_AFTER_MAX).max(jittered))
        })
    }

    /// Nobody fared better: what failed was not this row's fault.
    pub fn forgive(&mut self) {
        (self.faults, self.throttles) = (0, 0);
    }

    /// Attempts so far that failed; those that were not carried out because everything stood still don't count.
    pub fn count(&self) -> u32 {
        self.faults + self.throttles + self.conflicts
    }
}

/// Exponential back-off with jitter: anywhere in the upper half below the ceiling, so that many tasks that failed together
/// don't come back together, and none has had all its attempts before a store could start again (12 s for faults).
fn backoff(attempt: u32, rng: &mut impl Rng) -> Duration {
    let ceiling = BACKOFF_FIRST
        .saturating_mul(
            1_u32
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u32::MAX),
        )
        .min(BACKOFF_MAX);
    ceiling.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use crate::event::Operation;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::encryption::KmsTarget;

    const TARGET_KEY: &str = "arn:aws:kms:us-east-1:1:key/target";
    const OLD_KEY: &str = "arn:aws:kms:us-east-1:1:key/old";

    fn error(http_status: u16, code: &str, message: &str) -> S3Error {
        S3Error {
            operation: Operation::CopyObject.name(),
            code: code.to_owned(),
            http_status,
            message: message.to_owned(),
            request_id: None,
            retry_after: None,
        }
    }

    fn kms(key: &str) -> Target {
        Target::SseKms(KmsTarget {
            key_id: Some(key.to_owned()),
            ..KmsTarget::default()
        })
    }

    fn under(key: &str) -> Encryption {
        Encryption::SseKms {
            key: Some(key.to_owned()),
            bucket_key: false,
        }
    }

    #[test]
    fn a_rewrite_that_may_have_happened_is_never_sent_again_unseen() {
        let throttled = |by| Verdict::Again {
            throttled_by: Some(by),
        };
        for (status, code, message, expected) in [
            (0, "NoAnswer", "", Verdict::LookFirst),
            (500, "InternalError", "", Verdict::LookFirst),
            (200, "InternalError", "", Verdict::LookFirst),
            (200, "EmptyAnswer", "", Verdict::LookFirst),
            (502, "BadGateway", "", Verdict::LookFirst),
            (503, "ServiceUnavailable", "", Verdict::LookFirst),
            (400, "RequestTimeout", "", Verdict::LookFirst),
            (503, "SlowDown", "", throttled(Throttler::S3)),
            (200, "SlowDown", "", throttled(Throttler::S3)),
            (429, "Whatever", "", throttled(Throttler::Store)),
            (
                503,
                "SlowDown",
                "Please reduce your request rate for operations involving AWS KMS.",
                throttled(Throttler::Kms),
            ),
            (412, "PreconditionFailed", "", Verdict::Conflict),
            (409, "ConditionalRequestConflict", "", Verdict::Conflict),
            (404, "NoSuchKey", "", Verdict::FailRow),
            (403, "AccessDenied", "", Verdict::FailRow),
            (403, "InvalidObjectState", "", Verdict::FailRow),
            (404, "NoSuchBucket", "", Verdict::FailJob),
            (404, "PermanentRedirect", "", Verdict::FailJob),
            (403, "InvalidAccessKeyId", "", Verdict::Stall),
            (400, "ExpiredToken", "", Verdict::Stall),
            (200, "ExpiredToken", "", Verdict::Stall),
            (0, "NoConnection", "", Verdict::Stall),
            (0, "CredentialsUnavailable", "", Verdict::Stall),
            (0, "RequestNotSent", "", Verdict::FailJob),
        ] {
            let error = error(status, code, message);
            assert_eq!(
                judge_rewrite(&error, &Encryption::SseS3, &kms("k")),
                expected,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_part_may_be_made_twice_and_the_completion_is_looked_after() {
        let again = Verdict::Again { throttled_by: None };
        for (status, code, part, completion) in [
            (0, "NoAnswer", again.clone(), Verdict::LookFirst),
            (200, "EmptyAnswer", again.clone(), Verdict::LookFirst),
            (500, "InternalError", again, Verdict::LookFirst),
            (404, "NoSuchUpload", Verdict::Conflict, Verdict::LookFirst),
            (400, "InvalidPart", Verdict::FailRow, Verdict::LookFirst),
            (404, "NoSuchKey", Verdict::Conflict, Verdict::Conflict),
            (
                412,
                "PreconditionFailed",
                Verdict::Conflict,
                Verdict::Conflict,
            ),
            (404, "NoSuchBucket", Verdict::FailJob, Verdict::FailJob),
            (400, "ExpiredToken", Verdict::Stall, Verdict::Stall),
            (0, "NoConnection", Verdict::Stall, Verdict::Stall),
            (403, "AccessDenied", Verdict::FailRow, Verdict::FailRow),
            (400, "EntityTooSmall", Verdict::FailRow, Verdict::FailRow),
        ] {
            let error = error(status, code, "");
            let (source, target) = (Encryption::SseS3, kms("k"));
            assert_eq!(judge_part(&error, &source, &target), part, "{code}");
            assert_eq!(
                judge_completion(&error, &source, &target),
                completion,
                "{code}"
            );
        }
    }

    #[test]
    fn a_question_that_a_store_does_not_know_is_its_answer() {
        let unknown = error(501, "NotImplemented", "");
        assert_eq!(judge_look(&unknown), Verdict::FailRow);
        let rewrite = judge_rewrite(&unknown, &Encryption::SseS3, &kms("k"));
        assert_eq!(rewrite, Verdict::FailRow);
    }

    #[test]
    fn what_never_worked_is_not_waited_for() {
        let again = Verdict::Again { throttled_by: None };
        for (status, code, expected) in [
            (400, "ExpiredToken", Verdict::FailJob),
            (403, "SignatureDoesNotMatch", Verdict::FailJob),
            (0, "NoConnection", again.clone()),
            (0, "CredentialsUnavailable", again),
            (0, "NoAnswer", Verdict::LookFirst),
            (403, "AccessDenied", Verdict::FailRow),
        ] {
            let error = error(status, code, "");
            let verdict = judge_rewrite(&error, &Encryption::SseS3, &kms("k"));
            assert_eq!(verdict.without_waiting(&error), expected, "{code}");
        }
    }

    #[test]
    fn an_answer_is_what_shows_that_the_store_answers_and_lets_us_in() {
        for (status, code, trouble, answer) in [
            (0, "NoAnswer", true, false),
            (0, "FileNotWritten", false, false),
            (0, "FileNotRead", false, false),
            (0, "NoConnection", true, false),
            (0, "CredentialsUnavailable", true, false),
            (400, "ExpiredToken", true, false),
            (500, "InternalError", true, false),
            (503, "ServiceUnavailable", true, false),
            (503, "SlowDown", false, true),
            (403, "AccessDenied", false, true),
            (412, "PreconditionFailed", false, true),
        ] {
            let mut error = error(status, code, "");
            assert_eq!(is_trouble(&error), trouble, "{code}");
            assert_eq!(is_answer(&error), answer, "{code}");
            error.operation = Operation::HeadObject.name();
            assert!(!is_answer(&error), "{code}");
        }
    }

    #[test]
    fn a_disabled_key_stops_the_job_only_when_it_is_the_targets() {
        let disabled =
            |key: &str| error(400, "KMS.DisabledException", &format!("{key} is disabled."));
        let target = kms(TARGET_KEY);
        for (message_names, source, expected) in [
            (TARGET_KEY, Encryption::SseS3, Verdict::FailJob),
            (TARGET_KEY, under(OLD_KEY), Verdict::FailJob),
            (OLD_KEY, under(OLD_KEY), Verdict::FailRow),
            ("the key", under(OLD_KEY), Verdict::FailRow),
            ("the key", Encryption::SseS3, Verdict::FailJob),
            ("the key", under(TARGET_KEY), Verdict::FailJob),
        ] {
            assert_eq!(
                judge_rewrite(&disabled(message_names), &source, &target),
                expected,
                "{message_names} {source:?}"
            );
        }
        assert_eq!(
            judge_rewrite(&disabled(OLD_KEY), &under(OLD_KEY), &Target::SseS3),
            Verdict::FailRow
        );
    }

    #[test]
    fn a_disabled_key_behind_an_alias_is_the_targets() {
        let error = error(
            400,
            "KMS.DisabledException",
            &format!("{TARGET_KEY} is disabled."),
        );
        for target in [kms("alias/target"), Target::SseKms(KmsTarget::default())] {
            assert_eq!(
                judge_rewrite(&error, &under(OLD_KEY), &target),
                Verdict::FailJob
            );
        }
    }

    #[test]
    fn attempts_end_and_waits_stay_below_their_ceiling() {
        let mut rng = SmallRng::seed_from_u64(7);
        for (verdict, max) in [
            (Verdict::LookFirst, FAULT_ATTEMPTS_MAX),
            (
                Verdict::Again {
                    throttled_by: Some(Throttler::S3),
                },
                THROTTLE_ATTEMPTS_MAX,
            ),
            (Verdict::Conflict, CONFLICTS_MAX),
            (Verdict::Stall, STALLS_MAX),
        ] {
            let mut attempts = Attempts::default();
            let error = error(503, "SlowDown", "");
            for n in 1..max {
                let wait = attempts
                    .next(&verdict, &error, &mut rng)
                    .expect("below the bound");
                assert!(wait <= BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(n - 1)));
            }
            assert_eq!(attempts.next(&verdict, &error, &mut rng), None);
        }
    }

    #[test]
    fn a_store_that_asks_for_time_gets_it() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut asked = error(503, "SlowDown", "");
        asked.retry_after = Some(Duration::from_secs(3));
        let verdict = judge_look(&asked);
        assert_eq!(
            Attempts::default().next(&verdict, &asked, &mut rng),
            Some(Duration::from_secs(3))
        );
    }
}
