//! What a probe has put is removed again, with every version and every upload.

use std::collections::BTreeSet;

use super::Reason;
use super::asking::said;
use super::scratch::Scratch;
use crate::bucket::Versioning;
use crate::object::ObjectRef;
use crate::s3_error::S3Error;

/// Most keys of earlier runners that one probe removes. One that was killed leaves some thirty.
const LEFT_KEYS_MAX: u16 = 1_000;

impl Scratch<'_> {
    /// Removes what runners before this one have left below a prefix, a page of it: the next probe goes on. Returns what is left all
    /// the same. Where the store lists nothing, nothing is found: it is of no use to anybody, and in nobody's way.
    ///
    /// # Errors
    /// The store does not answer, or says something of the job.
    pub(super) async fn remove_left(&mut self, below: &str) -> Result<Option<String>, Reason> {
        let bucket = self.bucket.name.as_str();
        let versions = match self.bucket.versioning {
            Some(Versioning::Never) => None,
            _ => self
                .ask(|| self.s3.keys_of_versions(bucket, below))
                .await?
                .ok(),
        };
        let keys = match versions {
            Some(keys) => keys,
            None => {
                let page = self
                    .ask(|| self.s3.keys_after(bucket, below, below, LEFT_KEYS_MAX))
                    .await?;
                let listed = page.map(|page| page.keys).unwrap_or_default();
                listed.into_iter().map(|listed| listed.key).collect()
            }
        };
        for key in keys {
            self.keys.entry(key).or_default();
        }
        if self.may_begin_uploads {
            let listed = self.ask(|| self.s3.uploads_below(bucket, below)).await?;
            self.uploads.extend(listed.unwrap_or_default());
        }
        Ok(self.remove_all().await)
    }

    /// Aborts what was begun and removes what was put. Returns what is left, with the last reason. A store that does not answer any
    /// more is not asked for each.
    pub(super) async fn remove_all(&mut self) -> Option<String> {
        let mut left = Left::default();
        let uploads = self.unfinished().await;
        let keys = std::mem::take(&mut self.keys);
        for (key, upload) in &uploads {
            let what = format!("upload {upload} of {key}");
            if left.may_ask(&what) {
                left.add(what, self.abort(key, upload).await);
            }
        }
        for (key, seen) in &keys {
            if left.may_ask(key) {
                left.add(key.clone(), self.remove(key, seen).await);
            }
        }
        let Left { what, why, .. } = left;
        (!what.is_empty()).then(|| {
            format!(
                "{} of the probe's scratch keys and uploads could not be removed from bucket {} ({why}); they are of no use to \
                 anybody: {}",
                what.len(),
                self.bucket.name,
                what.join(", ")
            )
        })
    }

    /// The uploads that are begun; where the store lists them, also those whose creation it did not answer.
    async fn unfinished(&mut self) -> BTreeSet<(String, String)> {
        let mut uploads = std::mem::take(&mut self.uploads);
        if std::mem::take(&mut self.uploads_begin) {
            let bucket = self.bucket.name.as_str();
            let listed = self
                .ask(|| self.s3.uploads_below(bucket, self.prefix))
                .await;
            uploads.extend(listed.ok().and_then(Result::ok).unwrap_or_default());
        }
        uploads
    }

    async fn abort(&self, key: &str, upload: &str) -> Removal {
        self.ask(|| self.s3.abort_upload(self.object(key), upload))
            .await
            .into()
    }

    /// Removes every version of a key. Where the store does not list versions, those that were seen.
    async fn remove(&self, key: &str, seen: &BTreeSet<String>) -> Removal {
        let bucket = self.bucket.name.as_str();
        let versions: Vec<_> = match self.versions(key).await {
            Err(fault) => return Err(fault).into(),
            Ok(Some(listed)) => listed.into_iter().map(|it| it.version_id).collect(),
            Ok(None) if seen.is_empty() => {
                // No version id was ever shown: this removes the object itself.
                let removed = self.ask(|| self.s3.put_delete_marker(bucket, key)).await;
                return removed.map(|answer| answer.map(|_| ())).into();
            }
            Ok(None) => seen.iter().cloned().collect(),
        };
        for version in &versions {
            let object = ObjectRef {
                version_id: Some(version),
                ..self.object(key)
            };
            let removed = self.ask(|| self.s3.delete_version(object)).await.into();
            if !matches!(removed, Removal::Done) {
                return removed;
            }
        }
        Removal::Done
    }
}

/// What became of something that was to be removed.
enum Removal {
    /// It is not there any more.
    Done,
    /// The store says why not.
    Refused(String),
    /// The store does not say anything.
    Unanswered(String),
}

impl From<Result<Result<(), S3Error>, Reason>> for Removal {
    fn from(answer: Result<Result<(), S3Error>, Reason>) -> Self {
        match answer {
            Ok(Ok(())) => Self::Done,
            Ok(Err(refused)) if refused.http_status == 404 => Self::Done,
            Ok(Err(refused)) => Self::Refused(said(&refused)),
            Err(fault) => Self::Unanswered(fault.to_string()),
        }
    }
}

/// What could not be removed.
#[derive(Default)]
struct Left {
    what: Vec<String>,
    /// The last reason.
    why: String,
    /// Whether the store does not answer any more.
    is_gone: bool,
}

impl Left {
    /// Whether there is a point in asking; else it is left.
    fn may_ask(&mut self, what: &str) -> bool {
        if self.is_gone {
            self.what.push(what.to_owned());
        }
        !self.is_gone
    }

    fn add(&mut self, what: String, removal: Removal) {
        match removal {
            Removal::Done => return,
            Removal::Refused(why) => self.why = why,
            Removal::Unanswered(why) => {
                self.why = why;
                self.is_gone = true;
            }
        }
        self.what.push(what);
    }
}
