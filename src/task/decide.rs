//! What would be done with a row, without doing it: everything up to its first write, asked and decided as the run would.
//!
//! What only a write can show is not foreseen: that the store refuses an update for one object (it is copied then), that somebody
//! writes it meanwhile, and what is asked after the write.

use super::pile::Way;
use super::restack::{Layer, has_only_markers, no_version};
use super::verify::Proof;
use super::{Beginning, Context, Look, Start, Stop, Task, Unsettled};
use crate::encryption::Target;
use crate::object::{ManifestEntry, ObjectHead};
use crate::outcome::{Failure, SkipReason};
use crate::plan::{Layout, Plan, Requests};
use crate::s3::{Carry, Directive};

/// What would be done with a row.
#[derive(Debug)]
pub struct Decision {
    /// The object, as it was looked at or as the row says; `None` where the row alone decided, or the look has failed. Of a key whose
    /// versions are rewritten together, the newest one that is no delete marker.
    pub head: Option<ObjectHead>,
    /// The row stands for the look: nobody has looked, nor would the run.
    pub is_unseen: bool,
    /// What would be done.
    pub decided: Decided,
    /// What was asked and answered for it: the run would ask the same.
    pub asked: Requests,
    /// The first of it: the looks, and the listing where all of a key's versions are looked at. Nothing where the row stands for the look.
    pub(super) looked: Requests,
    /// How much of the rewrite would be checked.
    pub(super) proof: Proof,
}

/// What would be done with a row.
#[derive(Debug)]
pub enum Decided {
    /// Nothing.
    Skip(SkipReason),
    /// Nothing: the row fails. It is refused ([`Failure::is_refused`]), or can't be looked at.
    Fail(Failure),
    /// Its object is rewritten.
    Rewrite(Act),
    /// Its key's versions are rewritten: each with what is done to it, in that order. `None` is a delete marker.
    Restack(Vec<(Option<ObjectHead>, Act)>),
    /// Nothing more: another row of its key has decided what is done to its version.
    WithItsKey,
}

/// A rewrite of one version.
#[derive(Debug)]
pub enum Act {
    /// UpdateObjectEncryption.
    Update,
    /// CopyObject.
    Copy {
        /// What is sent along.
        carry: Carry,
        /// Who brings metadata along.
        directive: Directive,
    },
    /// A copy in parts.
    InParts {
        /// What is sent along.
        carry: Carry,
        /// The parts.
        layout: Layout,
    },
    /// A delete marker is put on top again.
    DeleteMarker,
}

/// Decides a row as the run would, and changes nothing.
///
/// # Errors
/// Nothing can be said of the row: the survey drains, or met a fault that every object would meet.
pub async fn decide(ctx: &Context<'_>, entry: &ManifestEntry) -> Result<Decision, Unsettled> {
    let mut task = Task::new(ctx, entry, Start::default());
    let (mut seen, mut looked) = (None, Requests::default());
    let decided = match task.decide(&mut seen, &mut looked).await {
        Ok(decided) => decided,
        Err(Stop::Row(failure) | Stop::Wrong(failure)) => Decided::Fail(failure),
        Err(Stop::Skip(reason)) => Decided::Skip(reason),
        Err(Stop::Unsettled(why)) => return Err(why),
    };
    Ok(Decision {
        is_unseen: seen.as_ref().is_some_and(|look| look.is_unseen),
        head: seen.map(|look| look.head),
        decided,
        asked: task.counted.get(),
        looked,
        proof: task.proof,
    })
}

/// Whether deciding a row takes a look at its object: it does not tell enough itself.
pub fn takes_a_look(ctx: &Context<'_>, entry: &ManifestEntry) -> bool {
    let task = Task::new(ctx, entry, Start::default());
    let target = ctx.target.borrow();
    matches!(
        task.begin(&target),
        Ok(Beginning::Look | Beginning::Restack)
    )
}

impl<'a> Task<'_, 'a> {
    /// The same; what was looked at is left in `seen`. Every turn but the first follows a counted conflict.
    async fn decide(
        &mut self,
        seen: &mut Option<Look<'a>>,
        looked: &mut Requests,
    ) -> Result<Decided, Stop> {
        let target = self.ctx.target.borrow().clone();
        let mut known = match self.begin(&target)? {
            Beginning::Restack => return Box::pin(self.decide_stack(&target, seen, looked)).await,
            Beginning::Restacked => return Ok(Decided::WithItsKey),
            Beginning::Known(look) => Some(*look),
            Beginning::Look => None,
        };
        loop {
            let look = match known.take() {
                Some(look) => look,
                None => {
                    let before = self.counted.get();
                    let look = self.look().await?;
                    *looked = self.counted.get().since(&before);
                    look
                }
            };
            let look = seen.insert(look).clone();
            match self.decide_on(&look, &target, seen, looked).await {
                // What is asked is pinned to the look.
                Err(Stop::Row(failure)) if failure.http_status == 412 => {
                    Box::pin(self.changed_meanwhile(&look, &target)).await?;
                }
                decided => return decided,
            }
        }
    }

    async fn decide_on(
        &mut self,
        look: &Look<'a>,
        target: &Target,
        seen: &mut Option<Look<'a>>,
        looked: &mut Requests,
    ) -> Result<Decided, Stop> {
        Ok(Decided::Rewrite(match self.planned(look, target) {
            Plan::Done => unreachable!("nothing was done"),
            Plan::Skip(reason) => return Ok(Decided::Skip(reason)),
            Plan::Refuse(refusal) => return Ok(Decided::Fail(refusal.to_failure())),
            Plan::Restack => return Box::pin(self.decide_stack(target, seen, looked)).await,
            Plan::UpdateEncryption => Act::Update,
            Plan::CopyInPlace { resend } => Act::Copy {
                carry: self.gather(look, target, resend, false).await?,
                directive: if resend {
                    Directive::Replace
                } else {
                    Directive::Copy
                },
            },
            Plan::MultipartCopy => Act::InParts {
                carry: self.gather(look, target, true, true).await?,
                layout: self.layout(look).await?,
            },
        }))
    }

    /// What would be done to the versions of the row's key.
    async fn decide_stack(
        &mut self,
        target: &Target,
        seen: &mut Option<Look<'a>>,
        looked: &mut Requests,
    ) -> Result<Decided, Stop> {
        let ctx = self.ctx;
        let mut alone = ctx.learnt.keys.queue(&self.entry.key);
        ctx.unless_drained(alone.reached()).await?;
        if self.is_restacked() {
            return Ok(Decided::WithItsKey);
        }
        let before = self.counted.get();
        let layers = self.layers().await?;
        *looked = self.counted.get().since(&before);
        *seen = layers.iter().find_map(|layer| layer.look.clone());
        let (kinds, work) = self.work(&layers, target).await?;
        if work.is_nothing() {
            return match layers.is_empty() {
                true => Err(Stop::Row(no_version())),
                false if has_only_markers(&layers) => Ok(Decided::Skip(SkipReason::DeleteMarker)),
                false => Ok(Decided::Skip(SkipReason::AlreadyEncrypted)),
            };
        }
        self.refuse_halfway(&layers, &kinds, work.rewritten).await?;
        let stack = &layers[..work.rewritten];
        let pile = self.pile(stack, layers.len(), target).await?;
        let mut acts = Vec::new();
        for at in work.updates {
            let look = layers[at].look.as_ref();
            acts.push((look.map(|look| look.head.clone()), Act::Update));
            self.remember_superseded(&layers[at].version.version_id);
        }
        // The oldest is written first, and its way is the last.
        for (layer, way) in pile.old.iter().flatten().zip(pile.ways.into_iter().rev()) {
            acts.push(self.act(layer, way).await?);
        }
        for id in &pile.ids {
            self.remember_superseded(id);
        }
        Ok(Decided::Restack(acts))
    }

    async fn act(&self, layer: &Layer<'a>, way: Way) -> Result<(Option<ObjectHead>, Act), Stop> {
        let head = layer.look.as_ref().map(|look| look.head.clone());
        let act = match (way, &layer.look) {
            (Way::Copy { carry, directive }, _) => Act::Copy { carry, directive },
            (Way::Parts { carry }, Some(look)) => Act::InParts {
                carry,
                layout: self.layout(look).await?,
            },
            (Way::DeleteMarker | Way::Parts { .. }, _) => Act::DeleteMarker,
        };
        Ok((head, act))
    }
}
