//! A manifest is pinned: a job that goes on has the rows that it began with, or does not go on.
//!
//! What tells that it is the same is cheap: length and times of local files, ETags in S3. What tells that it is another is its
//! content. Both come before the first request that could change an object; later, each part is held against its SHA-256
//! where it is opened.

use futures::{StreamExt as _, TryStreamExt as _};

use super::source::{PartSource, Unprepared, patiently, unbegun, unreadable};
use super::spec::{ManifestFacts, PartDigest, ShardFile};
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::manifest::{Fingerprint, ManifestError, Prepared, Problem};
use crate::object::ObjectRef;
use crate::s3::{Ask, S3};

/// Parts in S3 that are asked for at a time. Each answer takes some 30 ms, and a large inventory has thousands of parts.
const LOOKS_MAX: usize = 16;

/// Whether every part is as it was when the manifest was prepared, as far as that can be told without reading it.
///
/// # Errors
/// S3 refuses to say.
pub async fn are_unchanged(s3: &S3, manifest: &Location, job: &ShardFile) -> Result<bool, Error> {
    let mut in_s3 = Vec::new();
    for (part, facts) in job.parts.iter().zip(&job.prepared.parts) {
        match part {
            PartSource::Path(path) => {
                let found = std::fs::metadata(path).ok();
                if found.map(|found| Fingerprint::of(&found)) != facts.fingerprint {
                    return Ok(false);
                }
            }
            PartSource::S3 { bucket, key, etag } => {
                let location = Location::S3 {
                    bucket: bucket.clone(),
                    key: key.clone(),
                };
                // That one was asked for to begin with.
                if location != *manifest {
                    in_s3.push((location, bucket, key, etag));
                }
            }
            PartSource::Spooled => {}
        }
    }
    let looks = in_s3
        .into_iter()
        .map(|(location, bucket, key, etag)| async move {
            let object = ObjectRef {
                bucket,
                key,
                version_id: None,
            };
            match patiently(&unbegun(), || s3.head(object, Ask::default())).await {
                Ok(head) => Ok(head.etag == *etag),
                // Inventories expire. What is gone is not another, and the state may have a copy.
                Err(error) if error.http_status == 404 => Ok(true),
                Err(error) => Err(unreadable(&location, error)),
            }
        });
    let looks = futures::stream::iter(looks).buffer_unordered(LOOKS_MAX);
    looks
        .try_fold(true, |so_far, same| async move { Ok(so_far && same) })
        .await
}

/// Holds a manifest against the one that the job began with.
///
/// # Errors
/// It is another.
pub fn check(before: &ManifestFacts, now: &Prepared, state: &str) -> Result<(), Error> {
    if now.digest == before.digest {
        return Ok(());
    }
    Err(another(what_changed(before, now), state))
}

/// Holds what a manifest is now, if it is one, against what it was when the job was prepared.
///
/// # Errors
/// It is another; or it can't be told.
pub fn held_against(
    before: &ManifestFacts,
    now: Result<(Vec<PartSource>, Prepared), Unprepared>,
    state: &str,
) -> Result<(Vec<PartSource>, Prepared), Error> {
    let what = match now {
        Ok((parts, now)) => return check(before, &now, state).map(|()| (parts, now)),
        // It was sound once. What is out of sight may still be the same.
        Err(Unprepared::Manifest(ManifestError::Invalid(faults)))
            if !faults.shown.iter().any(|fault| {
                matches!(
                    fault.problem,
                    Problem::Unreadable(_) | Problem::DataFileMissing { .. }
                )
            }) =>
        {
            format!("it is not sound any more: {faults}")
        }
        Err(error) => return Err(error.into()),
    };
    Err(another(what, state))
}

fn another(what: String, state: &str) -> Error {
    let message = format!("the state {state} belongs to another manifest: {what}");
    Error::new(Exit::State, message).hint(
        "put the old manifest back to continue that job, or give another --state for a new one",
    )
}

/// How a manifest differs from the one that was prepared.
fn what_changed(before: &ManifestFacts, now: &Prepared) -> String {
    let now = &ManifestFacts::of("", now);
    if before.bucket != now.bucket {
        return format!(
            "it was for bucket {:?} and is for {:?}",
            before.bucket, now.bucket
        );
    }
    let contents = |manifest: &ManifestFacts| {
        let parts = manifest.parts.iter();
        let mut all: Vec<_> = parts.map(|part| part.sha256.clone()).collect();
        all.sort_unstable();
        all
    };
    let (before_files, files) = (before.parts.len(), now.parts.len());
    let what = match differing_parts(&before.parts, &now.parts) {
        Some(_) if contents(before) == contents(now) => "its files are in another order".to_owned(),
        Some((before, now)) if before.name == now.name => {
            format!("the content of {} has changed", now.name)
        }
        Some((before, now)) => {
            format!("the content of {} is not that of {}", now.name, before.name)
        }
        None if before_files != files => format!("it had {before_files} files and has {files}"),
        None => "its columns are others".to_owned(),
    };
    if before.rows == now.rows {
        return what;
    }
    format!("{what}; it had {} rows and has {}", before.rows, now.rows)
}

fn differing_parts<'a>(
    before: &'a [PartDigest],
    now: &'a [PartDigest],
) -> Option<(&'a PartDigest, &'a PartDigest)> {
    let mut both = before.iter().zip(now);
    both.find(|(before, now)| before.sha256 != now.sha256)
}
