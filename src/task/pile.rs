//! Copies put on top of a key's versions one after the other, and where that stands after something went wrong.
//!
//! Each copy is conditional: its source is a version by its id and ETag, and what is on top must be what we know to be there. After
//! an attempt that may have happened, and after a conflict, the listing tells. Once the first copy is there, the rest has to follow:
//! until the last one does, readers see an old version as the current one. So nothing but the end of the process stops it then; and
//! where somebody else has written on top of it, it is left as it is, and told.

use super::asked::Asked;
use super::restack::Layer;
use super::rewrite::target_key;
use super::{Look, Stop, Task, written_as};
use crate::bucket::Versioning;
use crate::encryption::{Encryption, Target};
use crate::event::Operation;
use crate::evidence::{State, Told};
use crate::limiter::Answered;
use crate::object::NULL_VERSION;
use crate::outcome::{Failure, Method};
use crate::plan::Started;
use crate::plan::stack::{self, Progress};
use crate::retry::{self, Attempts, Verdict};
use crate::s3::{Ask, Carry, Copy, Destination, Directive, SourceCondition, Version, Written};
use crate::s3_error::{DELETE_MARKER, S3Error};

/// Code of a row whose key was left halfway. Ours.
pub(super) const INTERRUPTED: &str = "RestackInterrupted";

/// Most looks before a delete marker is put: each that has no answer is followed by one with all its retries.
const MARKER_LOOKS_MAX: u32 = 8;

/// Most version ids that a message names of one kind; the others are counted.
const NAMED_MAX: usize = 3;

/// How one version is put on top.
#[derive(Debug)]
pub(super) enum Way {
    /// As a delete marker.
    DeleteMarker,
    /// By CopyObject.
    Copy {
        /// What is sent along.
        carry: Carry,
        /// Who brings metadata along.
        directive: Directive,
    },
    /// By a copy in parts.
    Parts {
        /// What is sent along.
        carry: Carry,
    },
}

/// What stands on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Top {
    version_id: String,
    /// `None` is a delete marker.
    etag: Option<String>,
}

impl Top {
    fn of(version: &Version) -> Self {
        Self {
            version_id: version.version_id.clone(),
            etag: version.etag.clone().filter(|_| !version.is_delete_marker),
        }
    }
}

/// A stack of versions that is written again.
#[derive(Debug)]
pub(super) struct Pile<'s, 'a> {
    /// Ids of its versions, oldest first.
    pub(super) ids: Vec<String>,
    /// Those that are there still.
    pub(super) old: Vec<Option<&'s Layer<'a>>>,
    /// How those are put on top that have no copy yet; the oldest of them last.
    pub(super) ways: Vec<Way>,
    /// Ids of the copies, oldest first.
    pub(super) copies: Vec<String>,
    /// Ids of what others have put on top since, newest first.
    others: Vec<String>,
    top: Option<Top>,
    /// Sizes of what this run has copied, together.
    pub(super) bytes: u64,
}

impl<'s, 'a> Pile<'s, 'a> {
    /// Of which nothing is done. `stack` is newest first.
    pub(super) fn new(stack: &'s [Layer<'a>], ways: Vec<Way>) -> Self {
        Self {
            ids: stack
                .iter()
                .rev()
                .map(|layer| layer.version.version_id.clone())
                .collect(),
            old: stack.iter().rev().map(Some).collect(),
            ways,
            copies: Vec::new(),
            others: Vec::new(),
            top: stack.first().map(|layer| Top::of(&layer.version)),
            bytes: 0,
        }
    }

    /// Which an earlier run has begun. `layers` are all versions of the key.
    pub(super) fn begun(ids: Vec<String>, layers: &'s [Layer<'a>]) -> Self {
        let there = |id: &String| layers.iter().find(|layer| layer.version.version_id == *id);
        Self {
            old: ids.iter().map(there).collect(),
            ids,
            ways: Vec::new(),
            copies: Vec::new(),
            others: Vec::new(),
            top: layers.first().map(|layer| Top::of(&layer.version)),
            bytes: 0,
        }
    }

    /// What is put on top next; `None` is a delete marker.
    fn next(&self) -> Option<&'s Look<'a>> {
        let layer = self.old.get(self.copies.len()).copied().flatten()?;
        layer.look.as_ref()
    }

    fn is_complete(&self) -> bool {
        self.copies.len() == self.ids.len()
    }
}

impl<'a> Task<'_, 'a> {
    /// Puts everything on top that is not there yet. `false`: nothing of it is there, and the key is not what it was.
    ///
    /// # Errors
    /// It can't be completed.
    pub(super) async fn pile_up(
        &mut self,
        pile: &mut Pile<'_, 'a>,
        target: &Target,
    ) -> Result<bool, Stop> {
        while !pile.is_complete() {
            self.must_finish.set(!pile.copies.is_empty());
            self.method = Method::Restack;
            match self.put_next(pile, target).await {
                Ok(Ok(None)) => {
                    if !self.find_next(pile, target).await? {
                        return Ok(false);
                    }
                }
                Ok(Ok(Some(top))) => {
                    pile.copies.push(top.version_id.clone());
                    pile.top = Some(top);
                    pile.ways.pop();
                    // The bounds are each version's.
                    self.attempts = Attempts::default();
                }
                Ok(Err(error)) => {
                    if !self.may_go_on(pile, target, &error).await? {
                        return Ok(false);
                    }
                }
                Err(Stop::Row(cause)) => {
                    let progress = self.whereabouts(pile, target).await?;
                    let is_untouched = progress == Progress::Untouched && pile.others.is_empty();
                    return Err(match is_untouched {
                        true => Stop::Row(cause),
                        false => self.lost(pile, &cause.message),
                    });
                }
                Err(Stop::Wrong(mut failure)) => {
                    self.whereabouts(pile, target).await?;
                    if let Stop::Row(lost) = self.lost(pile, &failure.message) {
                        failure.message = lost.message;
                    }
                    return Err(Stop::Wrong(failure));
                }
                Err(stop) => return Err(stop),
            }
        }
        if pile.ids.len() > 1 || self.deletes_superseded() {
            // An ETag is not an id: somebody else may have put the same bytes between ours.
            let made = pile.copies.clone();
            let progress = self.whereabouts(pile, target).await?;
            if progress != Progress::Complete || pile.copies != made {
                return Err(self.lost(pile, "somebody else wrote meanwhile"));
            }
        }
        Ok(true)
    }

    /// Judges a failed attempt, waits, and looks where things are where it may have happened. `false`: all is to be planned anew.
    async fn may_go_on(
        &mut self,
        pile: &mut Pile<'_, 'a>,
        target: &Target,
        error: &S3Error,
    ) -> Result<bool, Stop> {
        let look = pile.next();
        let source = look.map_or(&Encryption::NotSse, |look| &look.head.encryption);
        let operation = match look {
            Some(_) => Operation::CopyObject,
            None => Operation::DeleteObject,
        };
        let verdict = retry::judge_rewrite(error, source, target);
        if verdict == Verdict::LookFirst {
            self.started = Started::Now;
        }
        let mut attempts = self.attempts;
        let paused = self.pause(operation, &mut attempts, &verdict, error).await;
        self.attempts = attempts;
        match (verdict, paused) {
            (Verdict::Again { .. } | Verdict::Stall, Ok(())) => Ok(true),
            (_, Ok(())) => self.find_next(pile, target).await,
            (Verdict::LookFirst | Verdict::Conflict, Err(Stop::Row(failure))) => {
                self.given_up = Some(failure);
                self.find_next(pile, target).await
            }
            (_, Err(Stop::Row(cause))) if !pile.copies.is_empty() => {
                Err(self.lost(pile, &cause.message))
            }
            (_, Err(stop)) => Err(stop),
        }
    }

    /// Looks whether the copy that was tried last is there. `false`: all is to be planned anew.
    async fn find_next(&mut self, pile: &mut Pile<'_, 'a>, target: &Target) -> Result<bool, Stop> {
        let before = pile.copies.len();
        let bytes = pile.next().map_or(0, |look| look.head.size);
        let top = pile.top.clone();
        let progress = self.whereabouts(pile, target).await?;
        let is_as_it_was = match progress {
            Progress::Complete | Progress::Halfway(_) => pile.copies.len() >= before,
            Progress::Untouched => before == 0,
            Progress::Lost(_) => false,
        };
        let given_up = self.given_up.take();
        if !is_as_it_was {
            return Err(self.lost(pile, "somebody else wrote meanwhile"));
        }
        if pile.copies.len() > before {
            if self.ctx.settings.evidence
                && let Some(Some(old)) = pile.old.get(before)
                && let Some(old) = &old.look
            {
                let copy = self.look_at(Some(&pile.copies[before])).await?;
                let old = Some(State::of(&old.head));
                self.bear_witness(Told::Look, Some(self.method), old, &written_as(&copy.head));
            }
            pile.ways.pop();
            pile.bytes += bytes;
            self.attempts = Attempts::default();
            return Ok(true);
        }
        match given_up {
            Some(failure) if before > 0 => Err(self.lost(pile, &failure.message)),
            Some(failure) => Err(Stop::Row(failure)),
            None => Ok(before > 0 || pile.top == top),
        }
    }

    /// Puts the next version on top. The inner error is a request's; `None`: it may or may not have happened, and that was waited for.
    async fn put_next(
        &mut self,
        pile: &mut Pile<'_, 'a>,
        target: &Target,
    ) -> Result<Result<Option<Top>, S3Error>, Stop> {
        let is_enabled = self.ctx.bucket.versioning == Some(Versioning::Enabled);
        let top = match pile.next() {
            Some(look) => {
                let before = self.whole_before(look).await?;
                let written = match self.copy_next(pile, look, target).await? {
                    Ok(Some(written)) => written,
                    Ok(None) => return Ok(Ok(None)),
                    Err(error) => return Ok(Err(error)),
                };
                if let Some(before) = &before
                    && !self.verify(before, target, &written).await?
                {
                    return Ok(Err(changed()));
                }
                if is_enabled && written.version_id.is_none() {
                    // The store does not name what it has made: the listing does.
                    return Ok(Ok(None));
                }
                let before = Some(State::of(&look.head));
                self.bear_witness(Told::Answer, Some(self.method), before, &written);
                pile.bytes += look.head.size;
                Top {
                    version_id: written.version_id.unwrap_or(NULL_VERSION.to_owned()),
                    etag: written.etag,
                }
            }
            None => match self.put_delete_marker(pile, target).await? {
                Ok(version_id) => Top {
                    version_id,
                    etag: None,
                },
                Err(error) => return Ok(Err(error)),
            },
        };
        let is_new = top.version_id != NULL_VERSION
            && !pile.ids.contains(&top.version_id)
            && !pile.copies.contains(&top.version_id);
        if is_enabled && !is_new {
            return Err(Stop::Row(Failure {
                code: INTERRUPTED.to_owned(),
                http_status: 200,
                message: "the store answered OK and made no new version: was versioning suspended meanwhile?"
                    .to_owned(),
            }));
        }
        Ok(Ok(Some(top)))
    }

    async fn copy_next(
        &mut self,
        pile: &Pile<'_, 'a>,
        look: &Look<'a>,
        target: &Target,
    ) -> Result<Result<Option<Written>, S3Error>, Stop> {
        let on_top = pile.top.as_ref().and_then(|top| top.etag.as_deref());
        let destination = on_top.map_or(Destination::Absent, Destination::Etag);
        let (carry, directive) = match pile.ways.last() {
            Some(Way::Copy { carry, directive }) => (carry, *directive),
            Some(Way::Parts { carry }) => {
                let written = self.copy_in_parts(look, target, carry, destination).await;
                self.method = Method::Restack;
                return Ok(Ok(written?));
            }
            Some(Way::DeleteMarker) | None => unreachable!("every object of a pile has its way"),
        };
        let copy = Copy {
            object: self.version_of(look),
            head: &look.head,
            target,
            source_key: look.key,
            directive,
            carry,
            source: SourceCondition::Etag,
            destination,
        };
        let request = self.ctx.s3.copy_in_place(copy);
        match self.send(self.asked_to_copy(look, target), request).await? {
            Ok(written) => Ok(Ok(Some(self.check(target, written).await?))),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Puts a delete marker on top. No condition can be sent with it, so a look comes right before it, by the same permit, and the
    /// listing after the last copy tells whether that was soon enough.
    async fn put_delete_marker(
        &self,
        pile: &Pile<'_, 'a>,
        target: &Target,
    ) -> Result<Result<String, S3Error>, Stop> {
        let (ctx, key) = (self.ctx, &self.entry.key);
        let asked = Asked::from(Operation::DeleteObject).after_a_look();
        for _ in 0..MARKER_LOOKS_MAX {
            let permit = self.permit(asked).await?;
            let ask = Ask {
                customer_key: target_key(target),
                ..Ask::default()
            };
            let look = ctx.s3.head(self.object(None), ask);
            let found = match self.observed(Operation::HeadObject, look).await {
                Ok(head) => Some(head.etag),
                Err(error) if error.code == DELETE_MARKER => None,
                Err(error) => {
                    permit.answered(key, Answered::of::<()>(&Err(error)));
                    // What is the matter with the store, or with this object, is waited for, or told, as with any look.
                    match self.head(None, target_key(target)).await? {
                        Err(error) if error.code != DELETE_MARKER => return Ok(Err(error)),
                        Ok(_) | Err(_) => continue,
                    }
                }
            };
            if pile.top.as_ref().is_none_or(|top| top.etag != found) {
                permit.answered(key, Answered::Taken);
                return Ok(Err(changed()));
            }
            if !self.is_leader() {
                permit.answered(key, Answered::Taken);
                continue;
            }
            let request = ctx.s3.put_delete_marker(&ctx.bucket.name, key);
            let answer = self.observed(asked.operation, request).await;
            permit.answered(key, Answered::of(&answer));
            return Ok(answer.map(|version_id| version_id.unwrap_or(NULL_VERSION.to_owned())));
        }
        let message = format!("{MARKER_LOOKS_MAX} looks before a delete marker had no answer");
        Ok(Err(S3Error::no_answer(Operation::HeadObject, message)))
    }

    /// Lists the key, and finds the copies: those that are known by their ids, and those that mirror what they would be copies of.
    pub(super) async fn whereabouts(
        &self,
        pile: &mut Pile<'_, 'a>,
        target: &Target,
    ) -> Result<Progress, Stop> {
        let listed = self.listed().await?;
        let is_listed = |id: &String| listed.iter().any(|version| version.version_id == *id);
        let recorded: Vec<_> = pile.ids.iter().map(is_listed).collect();
        let above = listed
            .iter()
            .position(|version| pile.ids.contains(&version.version_id))
            .unwrap_or(listed.len());
        let mut copies = Vec::new();
        for (number, candidate) in listed[..above]
            .iter()
            .rev()
            .take(pile.ids.len())
            .enumerate()
        {
            let is_known = pile.copies.get(number) == Some(&candidate.version_id);
            if !is_known && !self.mirrors(candidate, pile.old[number], target).await? {
                break;
            }
            copies.push(candidate.version_id.clone());
        }
        pile.others = listed[..above - copies.len()]
            .iter()
            .map(|version| version.version_id.clone())
            .collect();
        pile.top = listed.first().map(Top::of);
        let progress = stack::progress(&recorded, above, copies.len());
        pile.copies = copies;
        Ok(progress)
    }

    /// Whether a version is what a copy of another would be. Of what is not there any more, any version under the target may be one.
    async fn mirrors(
        &self,
        candidate: &Version,
        old: Option<&Layer<'a>>,
        target: &Target,
    ) -> Result<bool, Stop> {
        let is_marker = old.map(|old| old.look.is_none());
        if candidate.is_delete_marker {
            return Ok(is_marker != Some(false));
        }
        let is_size = old.is_none_or(|old| old.version.size == candidate.size);
        if is_marker == Some(true) || !is_size {
            return Ok(false);
        }
        let copy = self.look_at(Some(&candidate.version_id)).await?;
        let is_alike = match old.and_then(|old| old.look.as_ref()) {
            Some(old) => self.looks_same(&copy, old),
            None => true,
        };
        Ok(is_alike && target.is_confirmed_by(&copy.head.encryption))
    }

    /// The failure of a row whose key is left halfway: which versions are where.
    pub(super) fn lost(&self, pile: &Pile<'_, 'a>, cause: &str) -> Stop {
        let done = pile.copies.len();
        if done > 0 {
            self.ctx.learnt.keys.lose(&self.entry.key);
        }
        let mut message = format!(
            "{done} of {} versions are rewritten, oldest first: {}",
            pile.ids.len(),
            named(&pile.ids[..done])
        );
        for (what, ids) in [
            ("as", &pile.copies[..]),
            ("not rewritten", &pile.ids[done..]),
            ("above those, other versions", &pile.others[..]),
        ] {
            if !ids.is_empty() {
                message.push_str(&format!("; {what}: {}", named(ids)));
            }
        }
        message.push_str(&format!(
            "; nothing was deleted or covered. Stopped by: {cause}"
        ));
        Stop::Row(Failure {
            code: INTERRUPTED.to_owned(),
            http_status: 0,
            message,
        })
    }
}

/// The key is not what it was, as a look has told.
fn changed() -> S3Error {
    S3Error::changed_meanwhile(Operation::ListObjectVersions.name())
}

/// Version ids in a message.
fn named(ids: &[String]) -> String {
    let shown = ids.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    match ids {
        [] => "none".to_owned(),
        [.., last] if ids.len() > NAMED_MAX + 1 => {
            format!("{} … {last} ({} in all)", shown.join(" "), ids.len())
        }
        _ => ids.join(" "),
    }
}
