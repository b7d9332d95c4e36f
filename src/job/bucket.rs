//! What is true of the whole bucket, asked once before any object is touched.

use super::source::patiently;
use crate::bucket::BucketFacts;
use crate::encryption::Target;
use crate::limiter::{Kind, Limiter};
use crate::retry::{self, Verdict};
use crate::s3::S3;
use crate::s3_error::{S3Error, UNREADABLE_ANSWER};
use crate::stall::Stall;

/// Asks the bucket everything: one question first, and then the others at once. A store that can't be reached, credentials that are wrong and a bucket that is not there
/// show here, and not as a failure of every row.
///
/// # Errors
/// What every object would meet too.
pub async fn ask(
    s3: &S3,
    stall: &Stall,
    limiter: &Limiter,
    bucket: &str,
) -> Result<BucketFacts, S3Error> {
    let asked = (stall, limiter);
    // Alone, so that a store that can't be reached has the attempts of one question.
    let versioning = learn(asked, || s3.versioning(bucket)).await?;
    let (acls, object_lock, default_encryption, website, replication, notifications, lifecycle) = tokio::try_join!(
        learn(asked, || s3.acls(bucket)),
        learn(asked, || s3.object_lock(bucket)),
        learn(asked, || s3.default_encryption(bucket)),
        learn(asked, || s3.website(bucket)),
        learn(asked, async || or_absent(s3.replication(bucket).await)),
        learn(asked, async || or_absent(s3.notifications(bucket).await)),
        learn(asked, async || or_absent(s3.lifecycle(bucket).await)),
    )?;
    Ok(BucketFacts {
        name: bucket.to_owned(),
        versioning,
        acls,
        object_lock,
        default_encryption,
        website,
        replication,
        notifications,
        lifecycle,
    })
}

/// Asks one question, in its turn, until it is answered.
async fn learn<T>(
    (stall, limiter): (&Stall, &Limiter),
    question: impl AsyncFn() -> Result<T, S3Error>,
) -> Result<Option<T>, S3Error> {
    let asked = patiently(stall, async || {
        limiter.turn(Kind::Read).await;
        known(question().await)
    });
    asked.await
}

/// What a store doesn't have, it sets off nothing with.
fn or_absent<T: Default>(answer: Result<T, S3Error>) -> Result<T, S3Error> {
    match answer {
        Err(error) if matches!(error.http_status, 405 | 501) => Ok(T::default()),
        answer => answer,
    }
}

/// Which key the target's alias stands for; `None` where the store doesn't tell.
///
/// # Errors
/// What every object would meet too: the key is disabled or unknown, nobody answers.
pub async fn resolve_key(
    s3: &S3,
    stall: &Stall,
    bucket: &str,
    target: &Target,
) -> Result<Option<String>, S3Error> {
    let answer = patiently(stall, async || {
        match s3.resolve_kms_key(bucket, target).await {
            Err(error) if error.code.starts_with("KMS.") => Ok(Err(error)),
            answer => known(answer).map(|key| Ok(key.flatten())),
        }
    });
    answer.await?
}

/// An answer; `None` where the store won't or can't say, which is its right. That it is busy or in trouble is no answer.
fn known<T>(answer: Result<T, S3Error>) -> Result<Option<T>, S3Error> {
    let error = match answer {
        Ok(answer) => return Ok(Some(answer)),
        Err(error) => error,
    };
    let cannot_say = matches!(error.code.as_str(), "NotImplemented" | UNREADABLE_ANSWER);
    if cannot_say || retry::judge_look(&error) == Verdict::FailRow {
        Ok(None)
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_no_answer_and_a_refusal_is_not_known() {
        let refused = |http_status: u16, code: &str| S3Error {
            operation: "GetObjectLockConfiguration",
            code: code.to_owned(),
            http_status,
            message: String::new(),
            request_id: None,
            retry_after: None,
        };
        let answer = |status: u16, code: &str| known::<bool>(Err(refused(status, code)));
        for (status, code) in [
            (403, "AccessDenied"),
            (404, "NoSuchKey"),
            (405, "MethodNotAllowed"),
            (501, "NotImplemented"),
            (200, UNREADABLE_ANSWER),
        ] {
            assert_eq!(answer(status, code), Ok(None), "{code}");
        }
        // What there can't be is not unknown; what may not be told is.
        for (status, code, expected) in [
            (501, "NotImplemented", Some(false)),
            (405, "MethodNotAllowed", Some(false)),
            (403, "AccessDenied", None),
        ] {
            let answer = known(or_absent::<bool>(Err(refused(status, code))));
            assert_eq!(answer, Ok(expected), "{code}");
        }
        for (status, code) in [
            (503, "SlowDown"),
            (503, "ServiceUnavailable"),
            (500, "InternalError"),
            (0, "NoAnswer"),
            (0, "CredentialsUnavailable"),
            (404, "NoSuchBucket"),
            (400, "InvalidBucketName"),
            (403, "InvalidAccessKeyId"),
        ] {
            assert!(answer(status, code).is_err(), "{code}");
        }
    }
}
