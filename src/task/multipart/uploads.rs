//! The uploads that a row has begun, in this run or in one that was interrupted: continued, or given up.

use std::time::Duration;

use super::Rewrite;
use crate::checkpoint::Checkpoint;
use crate::event::Operation;
use crate::outcome::{Failure, TaskOutcome};
use crate::retry::{self, Attempts, Verdict};
use crate::s3::Part;
use crate::s3_error::S3Error;
use crate::task::{Stop, Task};

/// Most times that an upload is aborted before it counts as left behind: parts that were on their way come late.
const ABORTS_MAX: u32 = 5;
/// Between two of them.
const ABORT_PAUSE: Duration = Duration::from_secs(1);

/// One upload.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) id: String,
    /// ETag of what its parts are copied from.
    pub(super) etag: String,
    /// Fingerprint of what was sent along.
    pub(super) sent: u64,
}

/// The uploads of a row that may be on the store still, oldest first: at most one for each attempt of a rewrite.
#[derive(Debug, Default)]
pub(in crate::task) struct Uploads(Vec<Upload>);

impl Uploads {
    /// Those that an earlier run has left word of.
    pub(in crate::task) fn of(checkpoints: &[Checkpoint]) -> Self {
        let uploads = checkpoints
            .iter()
            .filter_map(|checkpoint| match checkpoint {
                Checkpoint::Upload {
                    upload_id,
                    etag,
                    sent,
                } => Some(Upload {
                    id: upload_id.clone(),
                    etag: etag.clone(),
                    sent: *sent,
                }),
                _ => None,
            });
        Self(uploads.collect())
    }

    pub(super) fn add(&mut self, upload: Upload) {
        self.0.push(upload);
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.0.retain(|upload| upload.id != id);
    }
}

impl<'a> Task<'_, 'a> {
    /// The last upload, where it is of the same object and of the same parts, with those that it has. All others are given up.
    pub(super) async fn resume(
        &mut self,
        rewrite: &Rewrite<'_, 'a>,
    ) -> Result<Option<(String, Vec<Part>)>, Stop> {
        let mut found = None;
        if let Some(last) = self
            .uploads
            .0
            .pop_if(|last| last.etag == rewrite.look.head.etag && last.sent == rewrite.sent)
        {
            let parts = self.listed_parts(rewrite, &last.id).await;
            match parts {
                Ok(Some(parts)) => found = Some((last, parts)),
                Ok(None) => self.uploads.add(last),
                Err(stop) => {
                    self.uploads.add(last);
                    return Err(stop);
                }
            }
        }
        let aborted = self.abort_uploads().await;
        let found = found.map(|(last, parts)| {
            self.uploads.add(last.clone());
            (last.id, parts)
        });
        aborted.map(|_| found)
    }

    /// The parts that an upload has; `None` where it is gone, or has others than are wanted, or none.
    async fn listed_parts(
        &self,
        rewrite: &Rewrite<'_, 'a>,
        upload_id: &str,
    ) -> Result<Option<Vec<Part>>, Stop> {
        let mut parts: Vec<Part> = Vec::new();
        let mut after = 0;
        // Each page begins behind the one before, so that there are at most as many as parts.
        loop {
            let object = self.object(None);
            let request = || self.ctx.s3.list_parts(object, upload_id, after);
            let Ok(page) = self.ask(Operation::ListParts, request).await? else {
                return Ok(None);
            };
            let goes_on = !page.parts.is_empty();
            for part in page.parts {
                if part.number <= after || !rewrite.has(&part) {
                    return Ok(None);
                }
                after = part.number;
                parts.push(part);
            }
            if !page.more || !goes_on {
                return Ok((!parts.is_empty()).then_some(parts));
            }
        }
    }

    /// Ends a row: what has an outcome leaves no upload behind. What has none leaves its own to the next run.
    pub(in crate::task) async fn without_uploads(
        &mut self,
        ended: Result<TaskOutcome, Stop>,
    ) -> Result<TaskOutcome, Stop> {
        if matches!(ended, Err(Stop::Unsettled(_))) {
            return ended;
        }
        let why = match self.abort_uploads().await {
            Ok(None) => return ended,
            Ok(Some(why)) => why,
            Err(stop) => {
                return match ended {
                    // That is told at once, whatever else happens.
                    Err(Stop::Wrong(_)) => ended,
                    _ => Err(stop),
                };
            }
        };
        let ids: Vec<_> = self.uploads.0.iter().map(|upload| &*upload.id).collect();
        let left = format!(
            "a multipart upload is left on the store and costs what its parts hold, abort it: upload id {} ({})",
            ids.join(", "),
            why.message
        );
        let with = |failure: Failure| Failure {
            message: format!("{}; {left}", failure.message),
            ..failure
        };
        Err(match ended {
            Err(Stop::Row(failure)) => Stop::Row(with(failure)),
            Err(Stop::Wrong(failure)) => Stop::Wrong(with(failure)),
            Ok(TaskOutcome::Failed(failure)) => Stop::Row(with(failure)),
            Ok(_) | Err(Stop::Skip(_) | Stop::Unsettled(_)) => Stop::Row(Failure {
                code: "UploadLeft".to_owned(),
                message: format!("the object is under the target, or was not to be; but {left}"),
                ..why
            }),
        })
    }

    /// Gives all uploads of the row up. Those that can't be are kept in mind, and why the last of them can't is told.
    pub(super) async fn abort_uploads(&mut self) -> Result<Option<Failure>, Stop> {
        let mut left = None;
        let mut index = 0;
        while let Some(upload) = self.uploads.0.get(index) {
            match self.abort(&upload.id).await? {
                None => {
                    self.uploads.0.remove(index);
                }
                Some(why) => {
                    left = Some(why);
                    index += 1;
                }
            }
        }
        Ok(left)
    }

    /// Aborts an upload until the store has none of that id; or tells why that can't be.
    async fn abort(&self, upload_id: &str) -> Result<Option<Failure>, Stop> {
        let (ctx, object) = (self.ctx, self.object(None));
        for turn in 0..ABORTS_MAX {
            if turn > 0 {
                self.unless_drained(tokio::time::sleep(ABORT_PAUSE)).await?;
            }
            if let Some(why) = self.abort_once(upload_id).await? {
                return Ok(Some(why));
            }
            let request = || ctx.s3.list_parts(object, upload_id, 0);
            match self.ask(Operation::ListParts, request).await {
                Ok(Ok(_)) => {}
                // It is gone; or the store does not say, and its word for the abort has to do.
                Ok(Err(_)) | Err(Stop::Row(_)) => return Ok(None),
                Err(stop) => return Err(stop),
            }
        }
        let operation = Operation::AbortMultipartUpload;
        let message = format!("it is still there after {ABORTS_MAX} aborts");
        Ok(Some(S3Error::no_answer(operation, message).to_failure()))
    }

    async fn abort_once(&self, upload_id: &str) -> Result<Option<Failure>, Stop> {
        let (ctx, operation) = (self.ctx, Operation::AbortMultipartUpload);
        let mut attempts = Attempts::default();
        loop {
            let request = ctx.s3.abort_upload(self.object(None), upload_id);
            let error = match self.send(operation, request).await? {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            let verdict = retry::judge_look(&error);
            if verdict == Verdict::FailRow {
                return Ok(Some(error.to_failure()));
            }
            match self.pause(operation, &mut attempts, &verdict, &error).await {
                Ok(()) => {}
                Err(Stop::Row(why)) => return Ok(Some(why)),
                Err(stop) => return Err(stop),
            }
        }
    }
}
