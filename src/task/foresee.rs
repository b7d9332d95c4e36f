//! Which requests would follow a decision: the rewrite's and those that check it. Beside the code that sends them, since it has to
//! say the same; a test holds both against each other.
//!
//! Taken to go as it should: no answer is lost, every answer names the target, every store tells the version that it makes, and of several
//! customer keys the last one that has opened something opens the next.

use super::decide::{Act, Decided, Decision};
use super::verify::Proof;
use super::{Context, Method};
use crate::bucket::{Acls, ObjectLock, Versioning};
use crate::encryption::Mode;
use crate::event::Operation;
use crate::object::ObjectHead;
use crate::plan::Requests;

/// What would be done to one version, and what that takes.
#[derive(Debug)]
pub struct Foretold<'d> {
    /// The version; `None` is a delete marker.
    pub head: Option<&'d ObjectHead>,
    /// How it would be rewritten; `None` for a delete marker, which is put again.
    pub method: Option<Method>,
    /// The requests.
    pub requests: Requests,
}

/// What would be done to each version that a decision rewrites, and what that takes. `is_canary`: it is among the first, and read back.
pub fn foretell<'d>(
    ctx: &Context<'_>,
    decision: &'d Decision,
    is_canary: bool,
) -> Vec<Foretold<'d>> {
    let mut foresight = Foresight {
        ctx,
        proof: if is_canary {
            Proof::Read
        } else {
            decision.proof
        },
    };
    match &decision.decided {
        Decided::Rewrite(act) => vec![foresight.rewrite(decision.head.as_ref(), act)],
        Decided::Restack(acts) => foresight.restack(acts),
        Decided::Skip(_) | Decided::Fail(_) | Decided::WithItsKey => Vec::new(),
    }
}

/// The questions that would come before. `is_canary`: it is looked at once more then, with its checksums, which nobody has to ask for later.
pub fn foretell_questions(decision: &Decision, is_canary: bool) -> Requests {
    let mut asked = decision.asked;
    if !is_canary || decision.proof.looks() {
        return asked;
    }
    if decision.is_unseen {
        asked.add_look(true);
    } else {
        asked.add_all(&decision.looked.with_checksums());
    }
    let in_parts = |act: &Act| matches!(act, Act::InParts { .. });
    let copies = match &decision.decided {
        Decided::Rewrite(act) => usize::from(in_parts(act)),
        Decided::Restack(acts) => acts.iter().filter(|(_, act)| in_parts(act)).count(),
        Decided::Skip(_) | Decided::Fail(_) | Decided::WithItsKey => 0,
    };
    for _ in 0..copies {
        asked.remove_look();
    }
    asked
}

struct Foresight<'c, 'a> {
    ctx: &'c Context<'a>,
    proof: Proof,
}

impl Foresight<'_, '_> {
    /// The rewrite of a current version.
    fn rewrite<'d>(&mut self, head: Option<&'d ObjectHead>, act: &Act) -> Foretold<'d> {
        // What is copied in parts is looked at afterwards in any case.
        if matches!(act, Act::InParts { .. }) {
            self.proof = self.proof.at_least_head();
        }
        let mut version = self.version(head, act);
        if self.supersedes(&version) {
            // Which version stands below its copy, and what it is.
            version.requests.add(Operation::ListObjectVersions, 1);
            let mode = head.map(|head| head.encryption.mode());
            self.add_look_at(&mut version.requests, mode);
            self.add_deletion(&mut version, self.proof.looks());
        }
        version
    }

    /// The rewrite of a key's versions, in their order. What was looked at before has the checksums that the first looks asked for.
    fn restack<'d>(&mut self, acts: &'d [(Option<ObjectHead>, Act)]) -> Vec<Foretold<'d>> {
        let looked = self.proof.looks();
        let mut versions = Vec::with_capacity(acts.len());
        for (head, act) in acts {
            versions.push(self.version(head.as_ref(), act));
            if matches!(act, Act::InParts { .. }) {
                self.proof = self.proof.at_least_head();
            }
        }
        let stack = versions
            .iter()
            .filter(|version| version.method != Some(Method::Update));
        let is_listed = match stack.count() {
            0 => false,
            1 => self.deletes(),
            _ => true,
        };
        if let Some(last) = versions.last_mut().filter(|_| is_listed) {
            last.requests.add(Operation::ListObjectVersions, 1);
        }
        for version in &mut versions {
            if self.supersedes(version) {
                self.add_deletion(version, looked);
            }
        }
        versions
    }

    /// One version, rewritten and checked.
    fn version<'d>(&self, head: Option<&'d ObjectHead>, act: &Act) -> Foretold<'d> {
        let mut requests = Requests::default();
        let method = match act {
            Act::Update => {
                requests.add(Operation::UpdateObjectEncryption, 1);
                // Its answer says nothing.
                requests.add_look(self.proof.looks());
                Some(Method::Update)
            }
            Act::Copy { .. } => {
                requests.add(Operation::CopyObject, 1);
                Some(Method::Copy)
            }
            Act::InParts { layout, .. } => {
                requests.add(Operation::CreateMultipartUpload, 1);
                requests.add(Operation::UploadPartCopy, layout.count());
                requests.add(Operation::CompleteMultipartUpload, 1);
                Some(Method::MultipartCopy)
            }
            Act::DeleteMarker => {
                requests.add_look(false);
                requests.add(Operation::DeleteObject, 1);
                None
            }
        };
        if let Some(head) = head {
            self.add_proof(&mut requests, head);
        }
        Foretold {
            head,
            method,
            requests,
        }
    }

    fn add_proof(&self, requests: &mut Requests, head: &ObjectHead) {
        if self.proof.looks() {
            requests.add_look(true);
        }
        if self.proof == Proof::Read {
            for _before_and_after in 0..2 {
                self.add_reading(requests, head);
            }
        }
    }

    /// Everything of an object beside what a look shows.
    fn add_reading(&self, requests: &mut Requests, head: &ObjectHead) {
        let bucket = self.ctx.bucket;
        requests.add(Operation::GetObjectTagging, 1);
        if bucket.acls != Some(Acls::Disabled) {
            requests.add(Operation::GetObjectAcl, 1);
        }
        if bucket.object_lock != Some(ObjectLock::Disabled) {
            let asked = [
                (head.lock.retention.is_none(), Operation::GetObjectRetention),
                (!head.lock.legal_hold, Operation::GetObjectLegalHold),
            ];
            for (_, operation) in asked.into_iter().filter(|(is_asked, _)| *is_asked) {
                requests.add(operation, 1);
            }
        }
        if !head.archived {
            requests.add(Operation::GetObject, 1);
        }
    }

    /// Whether superseded versions are deleted.
    fn deletes(&self) -> bool {
        self.ctx.settings.delete_superseded
            && self.ctx.bucket.versioning == Some(Versioning::Enabled)
    }

    /// Whether what this one supersedes is.
    fn supersedes(&self, version: &Foretold<'_>) -> bool {
        self.deletes() && version.method != Some(Method::Update)
    }

    /// A look at a version in that mode. Under SSE-C it is refused without a key, and then the last one is tried that opened something.
    fn add_look_at(&self, requests: &mut Requests, mode: Option<Mode>) {
        let checksums = self.proof.looks();
        requests.add_look(checksums);
        if mode == Some(Mode::SseC) {
            requests.add_look(checksums);
        }
    }

    /// The proof that a copy is the same, and the deletion of what it is of. `looked`: what that is was looked at with its checksums.
    fn add_deletion(&self, version: &mut Foretold<'_>, looked: bool) {
        let requests = &mut version.requests;
        requests.add(Operation::DeleteObject, 1);
        let Some(head) = version.head else {
            return;
        };
        self.add_look_at(requests, Some(self.ctx.target.borrow().mode()));
        for has_checksums in [looked, self.proof.looks()] {
            requests.add(Operation::GetObjectTagging, 1);
            if self.ctx.bucket.acls != Some(Acls::Disabled) {
                requests.add(Operation::GetObjectAcl, 1);
            }
            if head.size == 0 {
                continue;
            }
            if !has_checksums {
                requests.add_look(true);
            }
            // AWS's checksums over the whole object are believed.
            if !self.ctx.s3.is_aws() {
                requests.add(Operation::GetObject, 1);
            }
        }
    }
}
