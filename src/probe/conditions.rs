//! Conditions: whether a request whose ETag is out of date is refused, or carried out over what is there now.

use super::Reason;
use super::asking::ask;
use super::rungs::{Trial, complete, copy, copy_part, create};
use super::scratch::{BODY_BYTES, Scratch, Seen};
use crate::profile::StoreProfile;
use crate::s3::Destination;
use crate::s3_error::S3Error;

/// Tries the conditions of the ways of copying that hold. What can't be tried is not honoured.
pub(super) async fn try_conditions(
    scratch: &mut Scratch<'_>,
    copied: Option<Trial<'_>>,
    in_parts: Option<Trial<'_>>,
    profile: &mut StoreProfile,
) -> Result<(), Reason> {
    profile.source_condition = false;
    profile.destination_condition = false;
    profile.part_condition = false;
    profile.completion_condition = false;
    if let Some(trial) = copied {
        of_copies(scratch, trial, profile).await?;
    }
    if let Some(trial) = in_parts {
        of_parts(scratch, trial, profile).await?;
    }
    Ok(())
}

async fn of_copies(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    profile: &mut StoreProfile,
) -> Result<(), Reason> {
    if let Some((seen, stale)) = superseded(scratch, trial, "source").await? {
        let destination = Destination::Etag(&seen.head.etag);
        let shared = &*scratch;
        let copied = ask(|| copy(shared, trial, &seen, &stale, destination)).await?;
        profile.source_condition = is_refused(&copied);
        scratch.saw(&seen.key, copied.ok().flatten());
    }
    if let Some((seen, stale)) = superseded(scratch, trial, "destination").await? {
        let destination = Destination::Etag(&stale);
        let shared = &*scratch;
        let copied = ask(|| copy(shared, trial, &seen, &seen.head.etag, destination)).await?;
        profile.destination_condition = is_refused(&copied);
        scratch.saw(&seen.key, copied.ok().flatten());
    }
    Ok(())
}

async fn of_parts(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    profile: &mut StoreProfile,
) -> Result<(), Reason> {
    let Some((seen, stale)) = superseded(scratch, trial, "parts").await? else {
        return Ok(());
    };
    scratch.begins();
    let shared = &*scratch;
    let Ok(upload) = ask(|| create(shared, trial, &seen)).await? else {
        return Ok(());
    };
    scratch.began(&seen.key, &upload);
    let shared = &*scratch;
    let copied = ask(|| copy_part(shared, trial, &seen, &upload, 1, &stale)).await?;
    profile.part_condition = is_refused(&copied);
    let copied = ask(|| copy_part(shared, trial, &seen, &upload, 1, &seen.head.etag)).await?;
    let Ok(part) = copied else {
        return Ok(());
    };
    let parts = [part];
    let destination = Destination::Etag(&stale);
    let completed = ask(|| complete(shared, trial, &seen, &upload, &parts, destination)).await?;
    profile.completion_condition = is_refused(&completed);
    if let Ok(version) = completed {
        scratch.saw(&seen.key, version);
        scratch.completed(&seen.key, &upload);
    }
    Ok(())
}

/// A scratch object, and the ETag of the other one that was under its key before.
async fn superseded(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    what: &str,
) -> Result<Option<(Seen, String)>, Reason> {
    let name = format!("stale-{what}");
    let Ok(before) = scratch.put(&name, BODY_BYTES, trial.under).await? else {
        return Ok(None);
    };
    let Ok(now) = scratch.put(&name, BODY_BYTES, trial.under).await? else {
        return Ok(None);
    };
    let stale = before.head.etag;
    Ok((stale != now.head.etag).then_some((now, stale)))
}

/// Whether the condition was what it was refused for. Source: S3 User Guide, "Conditional writes": 412 where the ETag is another, 409
/// where a write came between, 404 where there is no object.
fn is_refused<T>(answer: &Result<T, S3Error>) -> bool {
    answer
        .as_ref()
        .is_err_and(|error| matches!(error.http_status, 404 | 409 | 412))
}
