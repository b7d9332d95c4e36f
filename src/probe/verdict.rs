//! What a profile means for a job: it may go on, with what it has to do without, or it stops before the first write. Pure.

use crate::bucket::{BucketFacts, Versioning};
use crate::profile::{Rung, StoreProfile};

/// Judges a profile. `Ok` has a sentence for each thing that is done in a lesser way than AWS would allow.
///
/// # Errors
/// The reason why no object may be touched: no way of rewriting holds, or the store would overwrite what others write in the moment
/// of a rewrite, nothing keeps that, and nobody has accepted it.
pub fn verdict(
    profile: &StoreProfile,
    facts: &BucketFacts,
    accepts_race: bool,
) -> Result<Vec<String>, String> {
    let holds = profile.rungs.is_empty() || profile.rungs.values().any(Option::is_some);
    if !holds && !profile.updates_encryption {
        return Err(
            "no way of rewriting objects holds in this store: on scratch keys none left an object under the target with \
             everything else as it was"
                .to_owned(),
        );
    }
    let mut lines = rungs(profile);
    if !profile.copies_parts {
        lines.push(
            "multipart copies do not hold in this store: objects that need one, as all over 5 GiB do, are refused"
                .to_owned(),
        );
    }
    lines.extend(race(profile, facts, accepts_race)?);
    Ok(lines)
}

/// The modes whose objects take another way than a plain copy.
fn rungs(profile: &StoreProfile) -> Vec<String> {
    let line = |(mode, rung): (_, &Option<Rung>)| {
        let how = match rung {
            Some(Rung::Copy) => return None,
            Some(Rung::Replace) => "copied with metadata, content headers and tags sent again",
            Some(Rung::Multipart) => {
                "copied in parts, with metadata, content headers and tags sent again"
            }
            None if profile.updates_encryption => "refused where they can't be updated in place",
            None => "refused: no way of rewriting them holds in this store",
        };
        Some(format!("objects found under {mode} are {how}"))
    };
    profile.rungs.iter().filter_map(line).collect()
}

/// Whether somebody else's object can be lost to a rewrite.
fn race(
    profile: &StoreProfile,
    facts: &BucketFacts,
    accepts_race: bool,
) -> Result<Vec<String>, String> {
    let rungs = || profile.rungs.values().flatten();
    let copies = profile.rungs.is_empty() || rungs().any(|rung| *rung != Rung::Multipart);
    let parts = profile.copies_parts || rungs().any(|rung| *rung == Rung::Multipart);
    let copies_race = copies && !profile.destination_condition;
    let parts_race = parts && !profile.completion_condition;
    let requests = match (copies_race, parts_race) {
        (false, false) => return Ok(Vec::new()),
        (true, false) => "CopyObject",
        (false, true) => "CompleteMultipartUpload",
        (true, true) => "CopyObject and CompleteMultipartUpload",
    };
    let ignores = format!("this store ignores If-Match on {requests}");
    let bucket = &facts.name;
    let versioning = match facts.versioning {
        Some(Versioning::Enabled) => {
            return Ok(vec![format!(
                "{ignores}: what somebody else writes to an object in the moment of its rewrite is superseded; it stays in bucket \
                 {bucket} as a noncurrent version"
            )]);
        }
        Some(Versioning::Suspended) => "has its versioning suspended",
        Some(Versioning::Never) => "keeps no versions",
        None => "is not known to keep versions",
    };
    if !accepts_race {
        return Err(format!(
            "{ignores}, and bucket {bucket} {versioning}: what somebody else writes to an object in the moment of its rewrite would \
             be lost; enable versioning, or see to it that nobody writes and say so with --accept-race"
        ));
    }
    let mut lines = vec![format!(
        "{ignores}, and bucket {bucket} {versioning}: what somebody else writes to an object in the moment of its rewrite is lost \
         (--accept-race)"
    )];
    if copies_race && !profile.source_condition || parts_race && !profile.part_condition {
        lines.push(
            "this store ignores x-amz-copy-source-if-match too: an object that is overwritten while it is rewritten may come out \
             with parts of both, or the new content under the old metadata"
                .to_owned(),
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Mode;

    fn bucket(versioning: Option<Versioning>) -> BucketFacts {
        BucketFacts {
            versioning,
            ..BucketFacts::unknown("b")
        }
    }

    fn with(rungs: &[(Mode, Option<Rung>)]) -> StoreProfile {
        StoreProfile {
            rungs: rungs.iter().copied().collect(),
            ..StoreProfile::documented()
        }
    }

    #[test]
    fn what_is_documented_passes_everywhere_and_says_nothing() {
        for versioning in [None, Some(Versioning::Never), Some(Versioning::Enabled)] {
            let lines = verdict(&StoreProfile::documented(), &bucket(versioning), false);
            assert_eq!(lines, Ok(Vec::new()), "{versioning:?}");
        }
    }

    #[test]
    fn without_a_way_that_holds_nothing_is_touched() {
        let mut none = with(&[(Mode::NotSse, None), (Mode::SseS3, None)]);
        let facts = bucket(Some(Versioning::Enabled));
        assert!(verdict(&none, &facts, true).is_err());
        none.updates_encryption = true;
        assert_eq!(
            verdict(&none, &facts, false).map(|lines| lines.len()),
            Ok(2)
        );
        let some = with(&[(Mode::NotSse, None), (Mode::SseS3, Some(Rung::Replace))]);
        let lines = verdict(&some, &facts, false).expect("one way holds");
        assert!(lines[0].contains("NOT-SSE are refused"), "{lines:?}");
        assert!(lines[1].contains("SSE-S3 are copied with"), "{lines:?}");
    }

    /// Only a bucket that is known to keep versions keeps what a race would lose.
    #[test]
    fn a_race_needs_versions_or_somebody_who_accepts_it() {
        let copies = StoreProfile {
            destination_condition: false,
            ..StoreProfile::documented()
        };
        let completions = StoreProfile {
            completion_condition: false,
            ..StoreProfile::documented()
        };
        for profile in [&copies, &completions] {
            for versioning in [
                None,
                Some(Versioning::Never),
                Some(Versioning::Suspended),
                Some(Versioning::Enabled),
            ] {
                let facts = bucket(versioning);
                let kept = versioning == Some(Versioning::Enabled);
                let stops = verdict(profile, &facts, false).is_err();
                assert_eq!(stops, !kept, "{versioning:?}");
                assert_eq!(verdict(profile, &facts, true).map(|it| it.len()), Ok(1));
            }
        }
    }

    #[test]
    fn a_condition_of_requests_that_are_never_sent_does_not_matter() {
        let facts = bucket(Some(Versioning::Never));
        let only_parts = StoreProfile {
            destination_condition: false,
            ..with(&[(Mode::NotSse, Some(Rung::Multipart))])
        };
        assert!(verdict(&only_parts, &facts, false).is_ok());
        let no_parts = StoreProfile {
            completion_condition: false,
            copies_parts: false,
            ..with(&[(Mode::NotSse, Some(Rung::Copy))])
        };
        let lines = verdict(&no_parts, &facts, false).expect("nothing is lost");
        assert!(lines[0].contains("over 5 GiB"), "{lines:?}");
        let blind = StoreProfile {
            source_condition: false,
            destination_condition: false,
            ..StoreProfile::documented()
        };
        assert_eq!(
            verdict(&blind, &facts, true).map(|lines| lines.len()),
            Ok(2)
        );
    }
}
