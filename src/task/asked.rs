//! What a request takes of the budgets, and the right to send it.

use super::{Right, Stop, Task, Unsettled};
use crate::encryption::{Encryption, Mode, Target};
use crate::event::Operation;
use crate::limiter::{Kind, Need, Permit, Units};
use crate::plan;

/// A request, as the budgets see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    units: Units,
}

impl From<Operation> for Asked {
    fn from(operation: Operation) -> Self {
        Self {
            operation,
            units: Units::ONE,
        }
    }
}

impl Asked {
    /// One that has the store copy so many bytes.
    pub(super) fn moving(self, bytes: u64) -> Self {
        let units = Units {
            bytes,
            ..self.units
        };
        Self { units, ..self }
    }

    /// One that may have the store ask KMS.
    pub(super) fn with_keys(self, source: &Encryption, target: &Target) -> Self {
        let is_kms = |mode| matches!(mode, Mode::SseKms | Mode::DsseKms);
        let units = Units {
            kms: plan::kms_requests(self.operation, source, target),
            may_ask_kms: is_kms(source.mode()) || is_kms(target.mode()),
            ..self.units
        };
        Self { units, ..self }
    }

    /// One that may have the store ask KMS for what it reads.
    pub(super) fn reading(self, source: &Encryption) -> Self {
        self.with_keys(source, &Target::SseS3)
    }

    /// One right before which another one goes, by the same permit.
    pub(super) fn after_a_look(self) -> Self {
        let units = Units {
            requests: 2,
            ..self.units
        };
        Self { units, ..self }
    }
}

impl Task<'_, '_> {
    /// Counts a question that has been answered, once however often it was sent.
    pub(super) fn count(&self, asked: Asked) {
        let mut counted = self.counted.get();
        match asked.operation {
            Operation::HeadObject => counted.add_look(asked.units.kms > 0),
            operation => counted.add(operation, 1),
        }
        self.counted.set(counted);
    }

    /// A look. To show the checksum of an object under a KMS key, S3 has to decrypt it; where nobody has looked yet, it may be one.
    pub(super) fn asked_to_head(&self, checksums: bool) -> Asked {
        let known = self.entry.known.encryption;
        let may_be_kms = known.is_none_or(|mode| matches!(mode, Mode::SseKms | Mode::DsseKms));
        let is_under_kms = self.ctx.target.borrow().kms().is_some() || may_be_kms;
        let asked = Asked::from(Operation::HeadObject);
        match checksums && is_under_kms {
            true => asked.reading(&Encryption::SseKms {
                key: None,
                bucket_key: false,
            }),
            false => asked,
        }
    }

    /// The right to send one request, within the budgets. A change may be sent by the runner alone that holds the state.
    ///
    /// # Errors
    /// Nothing may be sent: the run drains, or this runner is not the one any more. What follows a change is sent all the same.
    pub(super) async fn permit(&self, asked: Asked) -> Result<Permit<'_>, Stop> {
        let need = Need {
            kind: match asked.operation.writes() {
                true => Kind::Write,
                false => Kind::Read,
            },
            key: &self.entry.key,
            units: asked.units,
        };
        let may = need.kind == Kind::Read || self.is_leader();
        if may && !*self.ctx.draining.borrow() {
            // Nearly always.
            if let Some(permit) = self.ctx.limiter.permit_now(need) {
                self.wrote.set(self.wrote.get() || need.kind == Kind::Write);
                return Ok(permit);
            }
        }
        Box::pin(self.permit_later(need)).await
    }

    /// The same, where something has to be waited for.
    async fn permit_later(&self, need: Need<'_>) -> Result<Permit<'_>, Stop> {
        if need.kind == Kind::Read {
            let permit = self.ctx.limiter.permit(need);
            return match self.wrote.get() {
                true => Ok(permit.await),
                false => self.unless_drained(permit).await,
            };
        }
        loop {
            self.leads().await?;
            let permit = self.unless_drained(self.ctx.limiter.permit(need)).await?;
            // The wait may have been long. While nobody knows who leads, no permit lies about in anybody's hands: all of them would
            // be used in the same moment then.
            if self.is_leader() {
                self.wrote.set(true);
                return Ok(permit);
            }
            permit.unused();
        }
    }

    /// Whether a change may be sent just now. Whoever only looks never may.
    pub(super) fn is_leader(&self) -> bool {
        match &self.ctx.right {
            Right::ToLook => false,
            Right::ToLead(leader) => leader.is_proven(),
            Right::Alone => true,
        }
    }

    /// Makes sure that this runner is still the one: whoever has been stopped for a while may have been replaced.
    async fn leads(&self) -> Result<(), Stop> {
        let leader = match &self.ctx.right {
            Right::ToLook => {
                debug_assert!(false, "a survey asks for the right to change something");
                return Err(Stop::Unsettled(Unsettled::Drained));
            }
            Right::ToLead(leader) => leader,
            Right::Alone => return Ok(()),
        };
        let confirmed = self.unless_drained(leader.confirm()).await?;
        // Why it does not, the journal tells the engine.
        confirmed.map_err(|_| Stop::Unsettled(Unsettled::Drained))
    }
}
