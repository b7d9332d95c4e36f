//! The rewrite in parts: a multipart copy of the object onto itself.
//!
//! Every part is pinned to the ETag and the version that were looked at, and so is what the completion replaces. What an upload has
//! become nobody can tell from its answers alone: after a completion that did not tell, the object is looked at, and where it is
//! what it was, the upload is found again with the parts that it has. The same finds the upload of a run that was interrupted.
//!
//! - `source`: what the object tells of its parts and checksums.
//! - `parts`: the parts, side by side.
//! - `uploads`: the uploads of a row, continued or given up. None is left when the row ends.

mod parts;
mod source;
mod uploads;

use std::cell::RefCell;
use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

pub(super) use uploads::Uploads;

use super::asked::Asked;
use super::rewrite::{Next, target_key};
use super::{Look, Stop, Task};
use crate::checkpoint::Checkpoint;
use crate::closure::Whole;
use crate::encryption::Target;
use crate::event::{Operation, ResponseClass};
use crate::object::{ChecksumKind, Checksums, ObjectHead};
use crate::outcome::{CAME_BACK_WRONG, Failure, Method};
use crate::plan::{Layout, PART_BYTES_DEFAULT, checksum_to_ask};
use crate::retry::{self, Verdict};
use crate::s3::{Ask, Carry, Complete, Create, Destination, Part, Written};
use crate::s3_error::S3Error;
use source::Source;
use uploads::Upload;

/// What the tasks of a job share about copies in parts.
#[derive(Debug, Default)]
pub(super) struct InParts {
    /// Algorithms of checksums that the store has refused to make: as many as there are algorithms.
    refused: RefCell<BTreeSet<String>>,
}

/// One rewrite in parts, decided.
struct Rewrite<'r, 'a> {
    look: &'r Look<'a>,
    target: &'r Target,
    carry: &'r Carry,
    /// What must be in the object's place when the parts come there.
    destination: Destination<'r>,
    layout: Layout,
    /// Whether the parts are those that the object was uploaded in.
    same_parts: bool,
    /// What the object's checksums are now.
    before: Checksums,
    /// Algorithm and kind of the checksum that the store is asked to make.
    checksum: (String, ChecksumKind),
    /// Fingerprint of what is sent along.
    sent: u64,
}

impl<'r, 'a> Rewrite<'r, 'a> {
    fn new(
        look: &'r Look<'a>,
        target: &'r Target,
        carry: &'r Carry,
        destination: Destination<'r>,
        source: Source,
        part_bytes: Option<u64>,
    ) -> Self {
        let same_parts = source.layout.is_some();
        let layout = layout(look, source.layout, part_bytes);
        let (algorithm, kind) = checksum_to_ask(&source.checksums, same_parts);
        Self {
            look,
            target,
            carry,
            destination,
            layout,
            same_parts,
            checksum: (algorithm.to_owned(), kind),
            before: source.checksums,
            sent: fingerprint(look, carry),
        }
    }

    /// What one of its requests takes of the budgets.
    fn asked(&self, operation: Operation) -> Asked {
        Asked::from(operation).with_keys(&self.look.head.encryption, self.target)
    }

    /// Whether a part that an upload has already is one of these.
    fn has(&self, part: &Part) -> bool {
        let bytes = self.layout.part(part.number);
        let sums = &part.checksums.values;
        !bytes.is_empty()
            && part.size == Some(bytes.end - bytes.start)
            && (sums.is_empty() || sums.contains_key(&self.checksum.0))
    }
}

/// The parts that an object gets: its own, else by what the operator has said, else of a size of ours.
fn layout(look: &Look<'_>, own: Option<Layout>, part_bytes: Option<u64>) -> Layout {
    let part_bytes = part_bytes.unwrap_or(PART_BYTES_DEFAULT);
    own.unwrap_or_else(|| Layout::even(look.head.size, part_bytes))
}

/// Of everything that an upload gets when it is created, and of the object's last write: a different one is another upload.
fn fingerprint(look: &Look<'_>, carry: &Carry) -> u64 {
    let head = &look.head;
    let sent = format!(
        "{:?}",
        (
            &head.version_id,
            head.last_modified,
            &head.headers,
            &head.metadata,
            head.storage_class_name(),
            &head.website_redirect,
            carry
        )
    );
    let digest = Sha256::digest(sent.as_bytes());
    let (first, _) = digest.split_first_chunk().expect("32 bytes");
    u64::from_be_bytes(*first)
}

impl<'a> Task<'_, 'a> {
    /// The parts that the version would be copied in.
    pub(super) async fn layout(&self, look: &Look<'a>) -> Result<Layout, Stop> {
        let source = self.source(look).await?;
        Ok(layout(look, source.layout, self.ctx.settings.part_bytes))
    }

    /// Copies the version that was looked at onto its key in parts; `None` means: look again. `destination`: what must be in that
    /// place still.
    pub(super) async fn copy_in_parts(
        &mut self,
        look: &Look<'a>,
        target: &Target,
        carry: &Carry,
        destination: Destination<'_>,
    ) -> Result<Option<Written>, Stop> {
        self.method = Method::MultipartCopy;
        let source = self.source(look).await?;
        let part_bytes = self.ctx.settings.part_bytes;
        // A completion that does not tell is proven by what there was before, checksums included.
        self.proof = self.proof.at_least_head();
        self.before.get_or_insert_with(|| {
            Whole::of(ObjectHead {
                checksums: source.checksums.clone(),
                ..look.head.clone()
            })
        });
        let rewrite = Rewrite::new(look, target, carry, destination, source, part_bytes);
        let (upload_id, have) = match self.resume(&rewrite).await? {
            Some(found) => found,
            None => match self.create(&rewrite).await? {
                Some(upload_id) => (upload_id, Vec::new()),
                None => return Ok(None),
            },
        };
        let parts = match self.copy_parts(&rewrite, &upload_id, have).await? {
            Ok(parts) => parts,
            Err(error) => {
                self.abort_uploads().await?;
                let operation = Operation::UploadPartCopy;
                self.failed_as(Verdict::Conflict, operation, look, &error)
                    .await?;
                return Ok(None);
            }
        };
        let Some(written) = self.complete(&rewrite, &upload_id, &parts).await? else {
            return Ok(None);
        };
        self.compare(&rewrite, written).await.map(Some)
    }

    /// Creates an upload and has its id remembered; `None` means: look again.
    async fn create(&mut self, rewrite: &Rewrite<'_, 'a>) -> Result<Option<String>, Stop> {
        let (ctx, look) = (self.ctx, rewrite.look);
        let (algorithm, kind) = &rewrite.checksum;
        let refused = &ctx.learnt.in_parts.refused;
        let mut checksum = Some((algorithm.as_str(), *kind));
        if refused.borrow().contains(algorithm) {
            checksum = None;
        }
        loop {
            let create = Create {
                object: self.object(None),
                head: &look.head,
                target: rewrite.target,
                carry: rewrite.carry,
                checksum,
            };
            let request = ctx.s3.create_upload(create);
            let operation = Operation::CreateMultipartUpload;
            let error = match self.send(rewrite.asked(operation), request).await? {
                Ok(upload) => {
                    if checksum.is_none() {
                        refused.borrow_mut().insert(algorithm.clone());
                    }
                    return self.remember(rewrite, upload.id).await.map(Some);
                }
                Err(error) => error,
            };
            if checksum.is_some() && may_be_for_the_checksum(&error) {
                checksum = None;
                continue;
            }
            let verdict = retry::judge_part(&error, &look.head.encryption, rewrite.target);
            match self.failed_as(verdict, operation, look, &error).await? {
                Next::Again => {}
                Next::Look => return Ok(None),
            }
        }
    }

    /// From here on nobody forgets the upload.
    async fn remember(&mut self, rewrite: &Rewrite<'_, 'a>, id: String) -> Result<String, Stop> {
        let (etag, sent) = (rewrite.look.head.etag.clone(), rewrite.sent);
        let checkpoint = Checkpoint::Upload {
            upload_id: id.clone(),
            etag: etag.clone(),
            sent,
        };
        self.uploads.add(Upload {
            id: id.clone(),
            etag,
            sent,
        });
        self.ctx.note(self.entry.row, checkpoint).await?;
        Ok(id)
    }

    /// Puts the parts in the object's place; `None` means: look again.
    async fn complete(
        &mut self,
        rewrite: &Rewrite<'_, 'a>,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Option<Written>, Stop> {
        let (ctx, look) = (self.ctx, rewrite.look);
        let (algorithm, kind) = &rewrite.checksum;
        // A store that takes no checksums, or takes no notice of them, shows none of its parts.
        let summed = |part: &Part| part.checksums.values.contains_key(algorithm);
        let checksum = parts.iter().all(summed).then_some(*kind);
        loop {
            let complete = Complete {
                object: self.object(None),
                upload_id,
                parts,
                destination: rewrite.destination,
                target: rewrite.target,
                checksum,
                size: rewrite.layout.size(),
            };
            let request = ctx.s3.complete_upload(complete);
            let operation = Operation::CompleteMultipartUpload;
            let error = match self.send(rewrite.asked(operation), request).await? {
                Ok(written) => {
                    self.uploads.forget(upload_id);
                    return self.check(rewrite.target, written).await.map(Some);
                }
                Err(error) => error,
            };
            let verdict = retry::judge_completion(&error, &look.head.encryption, rewrite.target);
            if verdict == Verdict::Conflict {
                self.abort_uploads().await?;
            }
            match self.failed_as(verdict, operation, look, &error).await? {
                Next::Again => {}
                Next::Look => return Ok(None),
            }
        }
    }

    /// Holds the new object's checksum against the old one's, where they can be.
    ///
    /// # Errors
    /// They differ.
    async fn compare(&self, rewrite: &Rewrite<'_, 'a>, written: Written) -> Result<Written, Stop> {
        let (before, kind) = (&rewrite.before, rewrite.checksum.1);
        let is_composite = kind == ChecksumKind::Composite;
        let comparable =
            before.kind.unwrap_or(ChecksumKind::FullObject) == kind && !before.values.is_empty();
        if !comparable || (is_composite && !rewrite.same_parts) {
            return Ok(written);
        }
        let answered = before.agree(&written.checksums);
        if answered == Some(true) {
            return Ok(written);
        }
        // What a look shows has the form of what the look before showed.
        let found = match self.checksums_of(&written, rewrite.target).await? {
            Some(checksums) => before.agree(&checksums),
            None => answered.filter(|_| !is_composite),
        };
        if found != Some(false) {
            return Ok(written);
        }
        Err(Stop::Wrong(Failure {
            code: CAME_BACK_WRONG.to_owned(),
            http_status: 200,
            message: format!(
                "the store answered OK, but the object's {} is not what it was before the rewrite",
                rewrite.checksum.0
            ),
        }))
    }

    /// The checksums that a look at what was written shows; `None` where it is not what was written, or may not be seen.
    async fn checksums_of(
        &self,
        written: &Written,
        target: &Target,
    ) -> Result<Option<Checksums>, Stop> {
        let ask = Ask {
            customer_key: target_key(target),
            checksums: true,
            part: None,
        };
        let object = self.object(written.version_id.as_deref());
        let request = || self.ctx.s3.head(object, ask);
        let asked = self.asked_to_head(ask.checksums);
        let answer = self.ask(asked, request).await?.ok();
        Ok(answer
            .filter(|head| written.etag.as_ref() == Some(&head.etag))
            .map(|head| head.checksums))
    }
}

/// Whether a store that refuses to create an upload may do so because of the checksum that it was asked to make.
fn may_be_for_the_checksum(error: &S3Error) -> bool {
    let is_refused = error.http_status == 400 && error.class() == ResponseClass::ClientError;
    let is_of_others = error.code.starts_with("KMS.") || error.is_of_credentials();
    (is_refused && !is_of_others) || error.http_status == 501
}
