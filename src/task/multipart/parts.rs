//! The parts of an upload, copied side by side.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::stream::{self, StreamExt as _};
use tokio::sync::watch;

use super::Rewrite;
use crate::event::Operation;
use crate::limiter::Answered;
use crate::retry::{self, Attempts, Verdict};
use crate::s3::{CopyPart, Part};
use crate::s3_error::S3Error;
use crate::task::{Stop, Task, Unsettled};

/// Most requests about the parts of one object in flight; those of all objects together have the bound of all requests.
pub(super) const PARTS_PER_OBJECT_MAX: usize = 32;

/// Why a part is not copied.
enum Ended {
    /// The upload is not to be gone on with: what was looked at is not there any more, or the upload itself isn't.
    Anew(S3Error),
    /// The row is not gone on with.
    Stop(Stop),
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl<'a> Task<'_, 'a> {
    /// Copies the parts that the upload does not have yet. Whatever it returns, nothing is on the wire any more.
    ///
    /// The inner error says that the upload has to be begun anew.
    pub(super) async fn copy_parts(
        &self,
        rewrite: &Rewrite<'_, 'a>,
        upload_id: &str,
        have: Vec<Part>,
    ) -> Result<Result<Vec<Part>, S3Error>, Stop> {
        let have = have.into_iter().map(|part| (part.number, part));
        let mut parts: BTreeMap<u32, Part> = have.collect();
        let numbers = 1..=rewrite.layout.count();
        let missing: Vec<_> = numbers
            .filter(|number| !parts.contains_key(number))
            .collect();
        let halt = watch::Sender::new(false);
        let copies = stream::iter(missing)
            .map(|number| self.copy_part(rewrite, upload_id, number, &halt))
            .buffer_unordered(PARTS_PER_OBJECT_MAX);
        let mut copies = pin!(copies);
        let mut first_end = None;
        while let Some(copied) = copies.next().await {
            match copied {
                Ok(part) => {
                    parts.insert(part.number, part);
                }
                Err(end) => {
                    halt.send_replace(true);
                    first_end.get_or_insert(end);
                }
            }
        }
        match first_end {
            None => Ok(Ok(parts.into_values().collect())),
            Some(Ended::Anew(error)) => Ok(Err(error)),
            Some(Ended::Stop(stop)) => Err(stop),
        }
    }

    /// Copies one part. It may be sent again whatever became of it: a part replaces the one of its number.
    async fn copy_part(
        &self,
        rewrite: &Rewrite<'_, 'a>,
        upload_id: &str,
        number: u32,
        halt: &watch::Sender<bool>,
    ) -> Result<Part, Ended> {
        let (ctx, look) = (self.ctx, rewrite.look);
        let operation = Operation::UploadPartCopy;
        let bytes = rewrite.layout.part(number);
        let mut attempts = Attempts::default();
        loop {
            let asked = rewrite.asked(operation).moving(bytes.end - bytes.start);
            let permit = unless_halted(halt, self.permit(asked)).await?;
            let part = CopyPart {
                object: self.version_of(look),
                upload_id,
                number,
                first: bytes.start,
                last: bytes.end - 1,
                etag: &look.head.etag,
                source_key: look.key,
                target: rewrite.target,
            };
            let answer = self.observed(operation, ctx.s3.copy_part(part)).await;
            permit.answered(&self.entry.key, Answered::of(&answer));
            let error = match answer {
                Ok(part) => return Ok(part),
                Err(error) => error,
            };
            let verdict = retry::judge_part(&error, &look.head.encryption, rewrite.target);
            if verdict == Verdict::Conflict {
                return Err(Ended::Anew(error));
            }
            let pause = self.pause(operation, &mut attempts, &verdict, &error);
            unless_halted(halt, pause).await?;
        }
    }
}

/// Waits for `what`, unless another part has ended the upload: then nobody asks why this one is not copied.
async fn unless_halted<T>(
    halt: &watch::Sender<bool>,
    what: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    let mut halted = halt.subscribe();
    tokio::select! {
        biased;
        _ = halted.wait_for(|on| *on) => Err(Stop::Unsettled(Unsettled::Drained)),
        done = what => done,
    }
}
