//! What is true of the whole bucket, asked once before any object is touched.

use super::source::patiently;
use crate::bucket::{Acls, BucketFacts, ObjectLock};
use crate::encryption::Target;
use crate::event::Event;
use crate::retry::{self, Verdict};
use crate::s3::S3;
use crate::s3_error::{S3Error, UNREADABLE_ANSWER};

/// Asks the bucket. A store that can't be reached, credentials that are wrong and a bucket that is not there show here, and not
/// as a failure of every row.
///
/// # Errors
/// What every object would meet too.
pub async fn ask(s3: &S3, bucket: &str, emit: &dyn Fn(Event<'_>)) -> Result<BucketFacts, S3Error> {
    let acls = patiently(async || known(s3.acls(bucket).await)).await?;
    let object_lock = patiently(async || known(s3.object_lock(bucket).await)).await?;
    let warning = match acls {
        Some(Acls::Disabled) => None,
        Some(Acls::Enabled) => Some(
            "the bucket has ACLs enabled: one more request for each object, and objects with grants beside the owner's are \
             refused, because a copy would reset them",
        ),
        None => Some(
            "whether the bucket has ACLs could not be asked (s3:GetBucketOwnershipControls): grants beside the owner's, if \
             there are any, are reset by a copy",
        ),
    };
    if let Some(message) = warning {
        emit(Event::Warning { message });
    }
    let warning = match &object_lock {
        Some(ObjectLock::Disabled) => None,
        Some(ObjectLock::Enabled) => Some(
            "the bucket has Object Lock: two more requests for each object, and objects under retention or legal hold are \
             refused, because a copy would not carry them",
        ),
        Some(ObjectLock::DefaultRetention) => Some(
            "the bucket puts every new object under retention: all rewrites are refused, because the copy would be locked",
        ),
        None => Some(
            "whether the bucket has Object Lock could not be asked (s3:GetBucketObjectLockConfiguration): an object is only \
             refused for it where HeadObject shows retention or legal hold",
        ),
    };
    if let Some(message) = warning {
        emit(Event::Warning { message });
    }
    Ok(BucketFacts {
        acls,
        object_lock,
        ..BucketFacts::unknown(bucket)
    })
}

/// Which key the target's alias stands for; `None` where the store doesn't tell.
///
/// # Errors
/// What every object would meet too: the key is disabled or unknown, nobody answers.
pub async fn resolve_key(
    s3: &S3,
    bucket: &str,
    target: &Target,
) -> Result<Option<String>, S3Error> {
    let answer = patiently(async || match s3.resolve_kms_key(bucket, target).await {
        Err(error) if error.code.starts_with("KMS.") => Ok(Err(error)),
        answer => known(answer).map(|key| Ok(key.flatten())),
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
        let answer = |http_status: u16, code: &str| {
            known::<bool>(Err(S3Error {
                operation: "GetObjectLockConfiguration",
                code: code.to_owned(),
                http_status,
                message: String::new(),
                request_id: None,
                retry_after: None,
            }))
        };
        for (status, code) in [
            (403, "AccessDenied"),
            (404, "NoSuchKey"),
            (405, "MethodNotAllowed"),
            (501, "NotImplemented"),
            (200, UNREADABLE_ANSWER),
        ] {
            assert_eq!(answer(status, code), Ok(None), "{code}");
        }
        for (status, code) in [
            (503, "SlowDown"),
            (503, "ServiceUnavailable"),
            (500, "InternalError"),
            (0, "NoAnswer"),
            (0, "CredentialsUnavailable"),
            (404, "NoSuchBucket"),
            (403, "InvalidAccessKeyId"),
        ] {
            assert!(answer(status, code).is_err(), "{code}");
        }
    }
}
