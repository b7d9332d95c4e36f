//! UpdateObjectEncryption: a store that doesn't know it overwrites the object with the request's XML and says OK.

use super::Reason;
use super::asking::said;
use super::rungs::difference;
use super::scratch::{BODY_BYTES, Scratch, Seen};
use crate::encryption::{KmsTarget, Target};
use crate::object::ObjectRef;

/// Whether UpdateObjectEncryption brings an object from `under` to the target's key, named by its ARN, and changes nothing else. The
/// inner error says what is wrong. `by_version` names the version in the request, where there is one.
pub(super) async fn try_update(
    scratch: &mut Scratch<'_>,
    under: &Target,
    target: &KmsTarget,
    key_arn: &str,
    by_version: bool,
) -> Result<Result<(), String>, Reason> {
    let name = format!("{}-update", under.name());
    let before = match scratch.put(&name, BODY_BYTES, Some(under)).await? {
        Ok(before) => before,
        Err(refused) => return Ok(Err(said(&refused))),
    };
    let versions = count_versions(scratch, &before).await?;
    // The same as a copy to this target sends.
    let bucket_key = target.bucket_key.unwrap_or(true);
    let object = ObjectRef {
        version_id: before.head.version_id.as_deref().filter(|_| by_version),
        ..scratch.object(&before.key)
    };
    let s3 = scratch.s3;
    if let Err(refused) = scratch
        .ask(|| s3.update_encryption(object, key_arn, bucket_key))
        .await?
    {
        return Ok(Err(said(&refused)));
    }
    let after = match scratch.look(&before.key, None).await? {
        Ok(after) => after,
        Err(refused) => {
            return Ok(Err(format!(
                "the answer says OK, and then {}",
                said(&refused)
            )));
        }
    };
    let target = Target::SseKms(target.clone());
    let wrong = if after.body != before.body {
        Some("the content is another: this store overwrites what it is asked to update".to_owned())
    } else if (&after.head.etag, &after.head.version_id)
        != (&before.head.etag, &before.head.version_id)
    {
        Some("it is not the same object: ETag or version id is another".to_owned())
    } else if count_versions(scratch, &before).await? != versions {
        Some("it has made a new version".to_owned())
    } else {
        difference(&target, &before, &after)
    };
    Ok(wrong.map_or(Ok(()), |wrong| {
        Err(format!("the answer says OK, and then {wrong}"))
    }))
}

/// How many versions a scratch key has, where that is told.
async fn count_versions(scratch: &Scratch<'_>, seen: &Seen) -> Result<Option<usize>, Reason> {
    let versions = scratch.versions(&seen.key).await?;
    Ok(versions.map(|versions| versions.len()))
}
