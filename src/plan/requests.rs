//! Counts of requests by operation.

use super::kms_requests;
use crate::encryption::{Encryption, Target};
use crate::event::Operation;

/// How many requests of each operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    counts: [u32; Operation::ALL.len()],
    /// Looks that ask for checksums, which a plain one does not.
    with_checksums: u32,
}

impl Requests {
    /// `count` more of them.
    pub fn add(&mut self, operation: Operation, count: u32) {
        let sum = &mut self.counts[operation as usize];
        *sum = sum.saturating_add(count);
    }

    /// A look; for an object under a KMS key, the checksums take a request to KMS.
    pub fn add_look(&mut self, checksums: bool) {
        self.add(Operation::HeadObject, 1);
        self.with_checksums += u32::from(checksums);
    }

    /// A look with checksums fewer.
    pub fn remove_look(&mut self) {
        let looks = &mut self.counts[Operation::HeadObject as usize];
        *looks = looks.saturating_sub(1);
        self.with_checksums = self.with_checksums.saturating_sub(1);
    }

    /// All of `others` more.
    pub fn add_all(&mut self, others: &Self) {
        for (operation, count) in others.iter() {
            self.add(operation, count);
        }
        self.with_checksums += others.with_checksums;
    }

    /// Those that have come since there were so many as `before`.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (count, earlier) in self.counts.iter_mut().zip(before.counts) {
            *count = count.saturating_sub(earlier);
        }
        self.with_checksums = self.with_checksums.saturating_sub(before.with_checksums);
        self
    }

    /// The same, each look with checksums.
    #[must_use]
    pub fn with_checksums(mut self) -> Self {
        self.with_checksums = self.counts[Operation::HeadObject as usize];
        self
    }

    /// The operations of which there are any, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, u32)> {
        Operation::ALL
            .into_iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
    }

    /// Those that change an object, or make a part of one.
    pub fn writes(&self) -> u32 {
        let writes = self.iter().filter(|(operation, _)| operation.writes());
        writes.map(|(_, count)| count).sum()
    }

    /// All of them.
    pub fn total(&self) -> u32 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// The requests to KMS that they set off, from an object that is under `source` to one that shall be under `target`.
    pub fn kms(&self, source: &Encryption, target: &Target) -> u32 {
        let of = |(operation, count)| {
            let counted = match operation {
                Operation::HeadObject => self.with_checksums,
                _ => count,
            };
            counted * kms_requests(operation, source, target)
        };
        self.iter().map(of).sum()
    }
}
