//! What is true of the whole bucket, asked once before any object is touched.

use super::source::patiently;
use crate::event::Event;
use crate::retry::{self, Verdict};
use crate::s3::{AclState, S3};
use crate::s3_error::{NO_ANSWER, S3Error};
use crate::task::BucketFacts;

/// Asks the bucket. A store that can't be reached, credentials that are wrong and a bucket that is not there show here, and not
/// as a failure of every row.
///
/// # Errors
/// What every object would meet too.
pub async fn ask(s3: &S3, bucket: &str, emit: &dyn Fn(Event<'_>)) -> Result<BucketFacts, S3Error> {
    let acls = known(patiently(|| s3.acl_state(bucket)).await)?.unwrap_or(AclState::Unknown);
    let object_lock = known(patiently(|| s3.object_lock_enabled(bucket)).await)?;
    let warning = match acls {
        AclState::Disabled => None,
        AclState::Enabled => Some(
            "the bucket has ACLs enabled: one more request for each object, and objects with grants beside the owner's are \
             refused, because a copy would reset them",
        ),
        AclState::Unknown => Some(
            "whether the bucket has ACLs could not be asked (s3:GetBucketOwnershipControls): grants beside the owner's, if \
             there are any, are reset by a copy",
        ),
    };
    if let Some(message) = warning {
        emit(Event::Warning { message });
    }
    let warning = match object_lock {
        Some(false) => None,
        Some(true) => Some(
            "the bucket has Object Lock: two more requests for each object, and objects under retention or legal hold are \
             refused, because a copy would not carry them",
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
        name: bucket.to_owned(),
        acls,
        object_lock: object_lock.unwrap_or(false),
    })
}

/// An answer; `None` where the store won't or can't say, which is its right.
fn known<T>(answer: Result<T, S3Error>) -> Result<Option<T>, S3Error> {
    let error = match answer {
        Ok(answer) => return Ok(Some(answer)),
        Err(error) => error,
    };
    match retry::judge_look(&error) {
        _ if error.code == NO_ANSWER => Err(error),
        Verdict::FailJob if error.code != "NotImplemented" => Err(error),
        _ => Ok(None),
    }
}
