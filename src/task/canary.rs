//! The canary: the first rewritten objects of a job are read back and compared before the rest is rewritten.
//!
//! Looking goes on meanwhile; it is the rewriting that waits. The first object is alone, and then there are as many at once as have been
//! proven, and one: a store that answers 200 and writes rubbish has spoilt one object, and one that begins to later as many as held.

use std::cell::Cell;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Stop, Task};

/// How far the store has earned trust.
#[derive(Debug)]
pub struct Canary {
    wanted: u64,
    proven: Cell<u64>,
    places: Semaphore,
}

impl Canary {
    /// `wanted`: so many objects are to be proven; `before`: so many were rewritten by earlier runs.
    pub fn new(wanted: u64, before: u64) -> Self {
        let at_once = before.min(wanted).saturating_add(1);
        Self {
            wanted,
            proven: Cell::new(before),
            places: Semaphore::new(
                usize::try_from(at_once)
                    .map_or(Semaphore::MAX_PERMITS, |n| n.min(Semaphore::MAX_PERMITS)),
            ),
        }
    }

    /// Whether the rest may be rewritten.
    pub(super) fn is_over(&self) -> bool {
        self.proven.get() >= self.wanted
    }

    /// Waits for a place among those that are rewritten to be proven; `None` once the canary is over.
    async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        if self.is_over() {
            return None;
        }
        let place = self.places.acquire().await.ok()?;
        // Whoever waited behind the last one passes on.
        (!self.is_over()).then_some(place)
    }

    /// One more came through.
    pub(super) fn prove(&self) {
        self.proven.set(self.proven.get() + 1);
        self.places.add_permits(1);
    }
}

impl<'c> Task<'c, '_> {
    /// Waits until this object may be rewritten, and settles how much of it is checked.
    pub(super) async fn enter_canary(&mut self) -> Result<(), Stop> {
        if self.place.is_some() {
            return Ok(());
        }
        let ctx = self.ctx;
        let place = ctx.unless_drained(ctx.canary.enter()).await?;
        if place.is_none() {
            self.proof = self.usual_proof;
        }
        self.place = place;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_alone_then_as_many_as_held_and_then_everybody() {
        let canary = Canary::new(3, 0);
        let first = canary.enter().await.expect("a place");
        assert!(futures::poll!(std::pin::pin!(canary.enter())).is_pending());
        canary.prove();
        drop(first);
        let pair = (canary.enter().await, canary.enter().await);
        let mut waits = std::pin::pin!(canary.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        canary.prove();
        canary.prove();
        assert!(waits.await.is_none());
        drop(pair);
        assert!(canary.enter().await.is_none());
        assert!(Canary::new(0, 0).is_over());
        assert!(Canary::new(5, 5).is_over());
    }
}
