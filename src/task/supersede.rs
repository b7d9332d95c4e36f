//! Versions that a rewrite has superseded: proven to be in their copies, and then deleted where that was asked for.
//!
//! Deleting is the one thing that can't be made good again. So a version is deleted only where the listing shows it right under the
//! copy that this job has made of it, and where everything that a look shows is the same, and the bytes are: by a checksum over the
//! whole object that S3 itself keeps of both, else by reading both. Which version it is was noted before the copy, so that a run
//! after a crash deletes that one, or none.

use std::collections::BTreeMap;

use super::{Look, Stop, Task};
use crate::bucket::{Acls, Versioning};
use crate::checkpoint::Checkpoint;
use crate::closure::{self, Whole};
use crate::encryption::Target;
use crate::event::Operation;
use crate::object::{ChecksumKind, Checksums, NULL_VERSION};
use crate::outcome::{CAME_BACK_WRONG, Failure};
use crate::s3::{Ask, Version, Written};

/// Code of a row that was rewritten and whose superseded version is there still.
const KEPT: &str = "SupersededVersionKept";

/// SHA-256 of versions that were read, by version id.
pub(super) type Read = BTreeMap<String, [u8; 32]>;

/// How sure it must be that two versions have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// Their checksums may tell.
    ToLeaveIt,
    /// One is about to be deleted: only AWS's checksums over the whole object are believed.
    ToDelete,
}

impl<'a> Task<'_, 'a> {
    /// Whether superseded versions are deleted. While versioning is suspended a rewrite replaces what it supersedes, or leaves it.
    pub(super) fn deletes_superseded(&self) -> bool {
        self.ctx.settings.delete_superseded
            && self.ctx.bucket.versioning == Some(Versioning::Enabled)
    }

    /// Has it remembered which version is about to be rewritten: superseded by a copy, or updated where it is. Where evidence is kept,
    /// what was rewritten before an interruption is told by that from what nobody has touched.
    pub(super) async fn note_rewriting(
        &mut self,
        look: &Look<'a>,
        updates: bool,
    ) -> Result<(), Stop> {
        let found = look.head.version_id.clone();
        let deletes = self.deletes_superseded() && !updates && found.is_some();
        if !deletes && !self.ctx.settings.evidence {
            return Ok(());
        }
        let version_id = found.unwrap_or_else(|| NULL_VERSION.to_owned());
        if deletes && self.superseding.as_ref() == Some(&version_id) {
            return Ok(());
        }
        let noted = match updates {
            true => Checkpoint::Updating {
                version_id: version_id.clone(),
            },
            false => Checkpoint::Superseding {
                version_id: version_id.clone(),
            },
        };
        if self.noted.as_ref() != Some(&noted) && !self.checkpoints.contains(&noted) {
            self.ctx.note(self.entry.row, noted.clone()).await?;
            self.noted = Some(noted);
        }
        if deletes {
            self.superseding = Some(version_id);
        }
        Ok(())
    }

    /// Deletes the version that was noted, if what stands right above it is its copy. `written` is what this run has just made;
    /// `None`: whether there is a copy, the listing has to tell.
    ///
    /// # Errors
    /// The copy came back wrong, or the version is still there and should not be.
    pub(super) async fn delete_superseded(
        &mut self,
        target: &Target,
        written: Option<&Written>,
    ) -> Result<(), Stop> {
        match self.superseding.take() {
            Some(old) if self.deletes_superseded() => {
                Box::pin(self.delete_version_below(&old, target, written)).await
            }
            _ => Ok(()),
        }
    }

    async fn delete_version_below(
        &mut self,
        old: &str,
        target: &Target,
        written: Option<&Written>,
    ) -> Result<(), Stop> {
        let listed = self.listed().await?;
        let at = listed.iter().position(|version| version.version_id == old);
        let Some(newer) = at.and_then(|at| listed.get(at.checked_sub(1)?)) else {
            return Ok(());
        };
        let is_the_copy = !newer.is_delete_marker
            && written.is_none_or(|written| written.version_id.as_ref() == Some(&newer.version_id));
        if !is_the_copy {
            return match written {
                Some(_) => Err(kept(old, "somebody else's version stands right above it")),
                None => Ok(()),
            };
        }
        let before = match self.look_at(Some(old)).await {
            // Another row of the same key was faster.
            Err(Stop::Row(gone)) if gone.http_status == 404 => return Ok(()),
            before => before?,
        };
        let after = self.look_at(Some(&newer.version_id)).await?;
        let is_same = match target.is_confirmed_by(&after.head.encryption) {
            true => {
                let read = &mut Read::new();
                self.is_same(&after, &before, Sure::ToDelete, read).await
            }
            false => Ok(false),
        };
        let is_equal = match is_same {
            Err(Stop::Row(failure)) if failure.http_status == 404 => {
                return self
                    .unless_deleted_by_others(old, &newer.version_id, failure)
                    .await;
            }
            is_same => is_same?,
        };
        match (is_equal, written) {
            (true, _) => self.delete_version(old).await,
            // Somebody else's, under the target by the bucket's default.
            (false, None) => Ok(()),
            (false, Some(_)) => Err(came_back_wrong(old)),
        }
    }

    /// Nothing is left to be done where a runner that was replaced a moment ago, or another row, has deleted the old version meanwhile.
    async fn unless_deleted_by_others(
        &self,
        old: &str,
        copy: &str,
        failure: Failure,
    ) -> Result<(), Stop> {
        self.look_at(Some(copy)).await?;
        match self.look_at(Some(old)).await {
            Err(Stop::Row(gone)) if gone.http_status == 404 => Ok(()),
            Err(stop) => Err(stop),
            Ok(_) => Err(Stop::Row(failure)),
        }
    }

    /// Whether two versions are the same in all that a look shows but the encryption, and in their bytes.
    ///
    /// # Errors
    /// It can't be told.
    pub(super) async fn is_same(
        &self,
        copy: &Look<'a>,
        old: &Look<'a>,
        sure: Sure,
        read: &mut Read,
    ) -> Result<bool, Stop> {
        let (seen, before) = match sure {
            Sure::ToLeaveIt => (Whole::of(copy.head.clone()), Whole::of(old.head.clone())),
            Sure::ToDelete => (self.whole_of(copy).await?, self.whole_of(old).await?),
        };
        if !self.is_alike(&before, &seen) {
            return Ok(false);
        }
        if old.head.size == 0 {
            return Ok(true);
        }
        let (a, b) = (self.checksums(copy).await?, self.checksums(old).await?);
        let is_believed = sure == Sure::ToLeaveIt
            || (self.ctx.s3.is_aws()
                && [&a, &b]
                    .iter()
                    .all(|sums| sums.kind == Some(ChecksumKind::FullObject)));
        match a.agree(&b) {
            Some(false) => Ok(false),
            Some(true) if is_believed => Ok(true),
            Some(true) | None => {
                Ok(self.digest(copy, read).await? == self.digest(old, read).await?)
            }
        }
    }

    /// Whether two versions are the same in all that a look shows but the encryption.
    pub(super) fn looks_same(&self, copy: &Look<'a>, old: &Look<'a>) -> bool {
        self.is_alike(&Whole::of(old.head.clone()), &Whole::of(copy.head.clone()))
    }

    pub(super) fn is_alike(&self, before: &Whole, after: &Whole) -> bool {
        closure::differences(before, after, &self.ctx.settings.rules.allowed).is_empty()
    }

    /// What a look shows, and what it doesn't.
    pub(super) async fn whole_of(&self, look: &Look<'a>) -> Result<Whole, Stop> {
        let (object, etag) = (self.version_of(look), &*look.head.etag);
        let mut whole = Whole::of(look.head.clone());
        whole.tags = self.tags(object, etag).await?;
        if self.ctx.bucket.acls != Some(Acls::Disabled) {
            whole.acl = self.acl(object, etag).await?;
        }
        Ok(whole)
    }

    /// The checksums of a version. For an object under a KMS key S3 shows them to those who may decrypt it; who may not reads it
    /// neither, and hears about it there.
    async fn checksums(&self, look: &Look<'a>) -> Result<Checksums, Stop> {
        if look.has_checksums {
            return Ok(look.head.checksums.clone());
        }
        let ask = Ask {
            customer_key: look.key,
            checksums: true,
            part: None,
        };
        let object = self.version_of(look);
        let asked = || self.ctx.s3.head(object, ask);
        let head = self.ask(self.asked_to_head(true), asked).await?;
        Ok(head.map(|head| head.checksums).unwrap_or_default())
    }

    /// SHA-256 of a version's bytes; each is read once.
    async fn digest(&self, look: &Look<'a>, read: &mut Read) -> Result<[u8; 32], Stop> {
        let id = look.head.version_id.clone().unwrap_or_default();
        if let Some(digest) = read.get(&id) {
            return Ok(*digest);
        }
        let object = self.version_of(look);
        let digest = self.read(object, look.key, &look.head).await?.sha256;
        read.insert(id, digest);
        Ok(digest)
    }

    /// Deletes one version for good.
    pub(super) async fn delete_version(&self, version_id: &str) -> Result<(), Stop> {
        let object = self.object(Some(version_id));
        let asked = || self.ctx.s3.delete_version(object);
        // Also while the run drains: what is deleted was proven just now.
        let had_to = self.must_finish.replace(true);
        let deleted = self.ask(Operation::DeleteObject, asked).await;
        self.must_finish.set(had_to);
        match deleted? {
            Ok(()) => Ok(()),
            Err(error) => {
                let mut failure = error.to_failure();
                KEPT.clone_into(&mut failure.code);
                failure.message = format!(
                    "rewritten and verified, the superseded version {version_id} could not be deleted: {}",
                    failure.message
                );
                Err(Stop::Row(failure))
            }
        }
    }

    /// The versions of the row's key, newest first.
    pub(super) async fn listed(&self) -> Result<Vec<Version>, Stop> {
        let (bucket, key) = (&self.ctx.bucket.name, &self.entry.key);
        let asked = || self.ctx.s3.versions(bucket, key);
        let listed = self.ask(Operation::ListObjectVersions, asked).await?;
        listed.map_err(|error| match error.code.as_str() {
            crate::s3::TOO_MANY_VERSIONS => {
                Stop::Row(crate::plan::Refusal::TooManyVersions.to_failure())
            }
            _ => Stop::Row(error.to_failure()),
        })
    }
}

/// A version that was superseded and stays.
fn kept(version_id: &str, why: &str) -> Stop {
    Stop::Row(Failure {
        code: KEPT.to_owned(),
        http_status: 0,
        message: format!("rewritten, but version {version_id} was not deleted: {why}"),
    })
}

/// A copy that is not what it was made of.
pub(super) fn came_back_wrong(version_id: &str) -> Stop {
    Stop::Wrong(Failure {
        code: CAME_BACK_WRONG.to_owned(),
        http_status: 200,
        message: format!(
            "the store answered OK, but the copy of version {version_id} is not the same; nothing was deleted"
        ),
    })
}
