//! The canary: the first rewritten objects of a job are read back and compared before the rest is rewritten.
//!
//! Looking goes on meanwhile; it is the rewriting that waits. The first object is alone, and then there are as many at once as have been
//! proven, and one: a store that answers 200 and writes rubbish has spoilt one object, and one that begins to later as many as held.
//! No more are in it than are wanted, so that what a run asks can be told before it.

use std::cell::Cell;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::verify::Proof;
use super::{Stop, Task};

/// How far the store has earned trust.
#[derive(Debug)]
pub struct Canary {
    wanted: u64,
    proven: Cell<u64>,
    /// As many as may be rewritten at once; closed when all are proven.
    places: Semaphore,
}

/// How many may be at work when so many are proven: as many and one, and never more than are wanted yet.
fn at_once(wanted: u64, proven: u64) -> u64 {
    wanted
        .saturating_sub(proven)
        .min(proven.saturating_add(1))
        .min(Semaphore::MAX_PERMITS as u64)
}

impl Canary {
    /// `wanted`: so many objects are to be proven; `before`: so many were rewritten by earlier runs.
    pub fn new(wanted: u64, before: u64) -> Self {
        let places = usize::try_from(at_once(wanted, before)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            wanted,
            proven: Cell::new(before),
            places: Semaphore::new(places),
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
        // Closed when it is over.
        self.places.acquire().await.ok()
    }

    /// One more came through, and gives its place back.
    pub(super) fn prove(&self, place: SemaphorePermit<'_>) {
        let before = at_once(self.wanted, self.proven.get());
        self.proven.set(self.proven.get() + 1);
        if self.is_over() {
            self.places.close();
        }
        let now = at_once(self.wanted, self.proven.get());
        if now < before {
            place.forget();
        } else if now > before {
            self.places.add_permits(1);
        }
    }
}

impl<'c> Task<'c, '_> {
    /// Waits until this object may be rewritten, and settles how much of it is checked.
    pub(super) async fn enter_canary(&mut self) -> Result<(), Stop> {
        if self.place.is_some() {
            return Ok(());
        }
        let ctx = self.ctx;
        self.place = ctx.unless_drained(ctx.canary.enter()).await?;
        self.proof = match self.place {
            Some(_) => Proof::Read,
            None => self.usual_proof,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn one_alone_then_as_many_as_held_and_no_more_than_are_wanted() {
        for (wanted, before, expected) in [
            (5, 0, vec![1, 2, 3, 2, 1]),
            (4, 1, vec![2, 2, 1]),
            (1, 0, vec![1]),
            (0, 0, vec![]),
            (5, 5, vec![]),
        ] {
            let canary = Canary::new(wanted, before);
            let mut inside = Vec::new();
            let mut at_once = Vec::new();
            while !canary.is_over() {
                while let Poll::Ready(place) = futures::poll!(std::pin::pin!(canary.enter())) {
                    inside.push(place.expect("not over yet"));
                }
                at_once.push(inside.len());
                let mut waits = std::pin::pin!(canary.enter());
                assert!(futures::poll!(&mut waits).is_pending());
                canary.prove(inside.pop().expect("somebody is in"));
                if canary.is_over() {
                    assert!(waits.await.is_none(), "whoever waited passes on");
                }
            }
            assert_eq!(at_once, expected, "{wanted} wanted, {before} before");
            assert!(inside.is_empty(), "{wanted} wanted, {before} before");
            assert!(canary.enter().await.is_none());
        }
    }

    #[tokio::test]
    async fn who_fails_leaves_the_place_to_the_next() {
        let canary = Canary::new(2, 1);
        let place = canary.enter().await;
        let mut waits = std::pin::pin!(canary.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        drop(place);
        assert!(waits.await.is_some());
    }
}
