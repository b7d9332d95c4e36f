//! Copies: from every encryption that objects may be found in, the first way that holds.

use std::collections::BTreeMap;

use super::asking::said;
use super::conditions;
use super::rungs::{Trial, try_rung};
use super::scratch::{BODY_BYTES, Scratch, Seen};
use super::{Reason, Wish, place};
use crate::encryption::{Mode, Target};
use crate::profile::{Rung, StoreProfile};
use crate::s3_error::S3Error;

/// An encryption that objects may be found in, and the object that is put to stand for them.
struct Source {
    /// What scratch keys call it.
    name: &'static str,
    /// What its objects are put under; `None` sends no header.
    under: Option<Target>,
}

impl Source {
    /// The rewrite of its objects, by the first rung.
    fn trial<'a>(&'a self, wish: &Wish<'a>) -> Trial<'a> {
        Trial {
            name: self.name,
            under: self.under.as_ref(),
            target: wish.target,
            rung: Rung::Copy,
            parts: 1,
        }
    }
}

/// Every source that can be made.
fn sources(wish: &Wish<'_>) -> Vec<Source> {
    let kms = wish.target.kms().cloned().map(Target::SseKms);
    let customer = wish.source_keys.first().cloned().map(Target::SseC);
    let headed = [
        ("sse-s3", Some(Target::SseS3)),
        ("sse-kms", kms),
        ("sse-c", customer),
    ];
    let headed = headed.into_iter().filter(|(_, under)| under.is_some());
    [("plain", None)]
        .into_iter()
        .chain(headed)
        .map(|(name, under)| Source { name, under })
        .collect()
}

/// What was seen of all sources.
#[derive(Default)]
struct Climbed {
    /// Why a rung does not hold, and for which modes.
    failures: BTreeMap<(Rung, String), Vec<Mode>>,
    /// A source that can be copied, and by which rung.
    copied: Option<(usize, Rung)>,
    /// A source that can be copied in parts.
    in_parts: Option<usize>,
    /// Whether there is one that can be rewritten, but not in parts.
    parts_fail: bool,
}

/// Fills a profile with what holds for copies.
pub(super) async fn try_copies(
    scratch: &mut Scratch<'_>,
    wish: &Wish<'_>,
    profile: &mut StoreProfile,
) -> Result<(), Reason> {
    profile.probed = true;
    let sources = sources(wish);
    let mut climbed = Climbed::default();
    let mut refusal = None;
    for (index, source) in sources.iter().enumerate() {
        let seen = match put(scratch, wish, source).await? {
            Ok(seen) => seen,
            Err(refused) => {
                refusal.get_or_insert(refused);
                continue;
            }
        };
        let found = seen.head.encryption.mode();
        if profile.rungs.contains_key(&found) {
            continue;
        }
        if profile.rungs.is_empty() {
            profile.shows_tag_count = seen.shows_tag_count();
        }
        let rung = climb(scratch, source.trial(wish), found, &mut climbed, index).await?;
        profile.rungs.insert(found, rung);
    }
    if let (true, Some(refusal)) = (profile.rungs.is_empty(), refusal) {
        return Err(Reason::NoScratch {
            place: place(wish),
            refusal: refusal.to_string(),
        });
    }
    profile.copies_parts = climbed.in_parts.is_some() && !climbed.parts_fail;
    let (copied, in_parts) = (climbed.copied, climbed.in_parts);
    scratch.notes.extend(climbed.failures.iter().map(told));
    if let (true, Some(index)) = (profile.copies_parts && wish.wants_parts, in_parts) {
        profile.copies_parts = two_parts(scratch, sources[index].trial(wish)).await?;
    }
    let copied = copied.map(|(index, rung)| Trial {
        rung,
        ..sources[index].trial(wish)
    });
    let in_parts = in_parts.map(|index| Trial {
        rung: Rung::Multipart,
        ..sources[index].trial(wish)
    });
    conditions::try_conditions(scratch, copied, in_parts, profile).await
}

/// Puts the first object of a source, which shows what it is stored under.
async fn put(
    scratch: &mut Scratch<'_>,
    wish: &Wish<'_>,
    source: &Source,
) -> Result<Result<Seen, S3Error>, Reason> {
    let name = format!("{}-put", source.name);
    let put = scratch
        .put(&name, BODY_BYTES, source.under.as_ref())
        .await?;
    let asked = source.under.as_ref().map(Target::mode);
    match (&put, asked) {
        (Ok(seen), Some(asked)) if seen.head.encryption.mode() != asked => {
            let found = seen.head.encryption.mode();
            scratch.notes.push(format!(
                "this store keeps what is put under {asked} as {found}"
            ));
        }
        (Ok(_), _) => {}
        (Err(refused), _) => {
            let mode = asked.map_or("the bucket's default".to_owned(), |mode| mode.to_string());
            scratch.notes.push(format!(
                "how objects under {mode} are rewritten was not tried: none can be put below {} ({})",
                place(wish),
                said(refused)
            ));
        }
    }
    Ok(put)
}

/// The first rung that holds for a source. The last, by parts, is tried in any case: large objects have no other.
async fn climb(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    found: Mode,
    climbed: &mut Climbed,
    index: usize,
) -> Result<Option<Rung>, Reason> {
    let mut holding = None;
    for rung in Rung::ALL {
        if holding.is_some() && rung != Rung::Multipart {
            continue;
        }
        match try_rung(scratch, Trial { rung, ..trial }).await? {
            Ok(()) if rung == Rung::Multipart => {
                climbed.in_parts.get_or_insert(index);
                holding.get_or_insert(rung);
            }
            Ok(()) => {
                climbed.copied.get_or_insert((index, rung));
                holding = Some(rung);
            }
            Err(why) => {
                climbed.failures.entry((rung, why)).or_default().push(found);
                climbed.parts_fail |= rung == Rung::Multipart && holding.is_some();
            }
        }
    }
    Ok(holding)
}

/// Whether a copy in more than one part holds.
async fn two_parts(scratch: &mut Scratch<'_>, trial: Trial<'_>) -> Result<bool, Reason> {
    let trial = Trial {
        rung: Rung::Multipart,
        parts: 2,
        ..trial
    };
    let tried = try_rung(scratch, trial).await?;
    if let Err(why) = &tried {
        let note = format!("a multipart copy of two parts does not hold: {why}");
        scratch.notes.push(note);
    }
    Ok(tried.is_ok())
}

/// A note on a rung that does not hold.
fn told(((rung, why), modes): (&(Rung, String), &Vec<Mode>)) -> String {
    let what = match rung {
        Rung::Copy => "CopyObject onto itself",
        Rung::Replace => "CopyObject onto itself with metadata and tags sent again",
        Rung::Multipart => "a multipart copy onto itself",
    };
    let modes: Vec<_> = modes.iter().map(Mode::to_string).collect();
    format!(
        "{what} does not hold for objects under {}: {why}",
        modes.join(", ")
    )
}
