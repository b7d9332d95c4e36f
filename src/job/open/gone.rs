//! A job that has begun, and whose manifest can't be had any more: the state may have a copy, else it is wanted again.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;

use super::{Opened, Opening, STATES, STATES_MAX};
use crate::config::Location;
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::job::home::{Home, scratch_in};
use crate::job::pinned;
use crate::job::source::{self, PartSource, Unseen, blocking};
use crate::job::spec::{JobFile, ShardFile};
use crate::journal::{ShardState, StateError};

impl Opening<'_> {
    /// Goes on with what the state has of a manifest that can't be looked at any more. The rows are those that were prepared: each part
    /// is held against its SHA-256 when it is opened.
    ///
    /// # Errors
    /// Why it can't be looked at, where no job has begun with it; that the state lacks it too.
    pub(super) async fn go_on_without(&self, manifest: Unseen) -> Result<Opened, Error> {
        let Unseen { error, is_gone } = manifest;
        let Some((home, own)) = self.begun_with_it().await? else {
            return Err(error);
        };
        if !self.has_top(&home, &own) {
            return Err(match is_gone {
                true => source::gone(&error, &home.root.place()),
                false => error,
            });
        }
        let message = format!("{error}; this run goes on with what the state has of it");
        (self.emit)(Event::Warning { message: &message });
        // Looking at it needed no right to write, which going on does.
        let home = match &self.config.state {
            Some(location) => Home::open(location, self.s3).await?,
            None => home,
        };
        self.enter(home, own.source).await
    }

    /// The shard that was prepared from a manifest of that name.
    async fn begun_with_it(&self) -> Result<Option<(Home, ShardFile)>, Error> {
        if let Some(location) = &self.config.state {
            let home = Home::look(location, &self.config.connection).await?;
            let own = self.shard_in(&home).await?;
            return Ok(own.map(|own| (home, own)));
        }
        let Ok(folders) = std::fs::read_dir(STATES) else {
            return Ok(None);
        };
        let mut found = None;
        for folder in folders.take(STATES_MAX).flatten() {
            let home = Home::dir(&folder.path());
            // A damaged one is met, and told, when its turn comes.
            let Ok(Some(job)) = home.root.read_job::<JobFile>().await else {
                continue;
            };
            if job.spec != self.spec || job.shards != self.shard.count {
                continue;
            }
            let Ok(Some(own)) = self.shard_in(&home).await else {
                continue;
            };
            // One that is complete has no copy any more.
            let can_go_on = self.has_top(&home, &own);
            match &found {
                Some((_, _, true)) if can_go_on => {
                    return Err(Error::new(
                        Exit::State,
                        format!("several states in {STATES} are of manifests that were there"),
                    )
                    .hint("name the one that shall go on with --state"));
                }
                Some((_, _, true)) => {}
                _ => found = Some((home, own, can_go_on)),
            }
        }
        Ok(found.map(|(home, own, _)| (home, own)))
    }

    async fn shard_in(&self, home: &Home) -> Result<Option<ShardFile>, StateError> {
        let own: Option<ShardFile> = home.root.read_shard(self.shard).await?;
        let name = self.config.manifest.to_string();
        Ok(own.filter(|own| own.source.location == name))
    }

    /// Whether the file that `--manifest` names is not needed, or kept. Others are looked for when they are opened.
    fn has_top(&self, home: &Home, own: &ShardFile) -> bool {
        let folder = home.shard_folder(self.shard);
        let is_there = |(index, part): (usize, &PartSource)| match part {
            PartSource::Path(path) => path.exists(),
            PartSource::Spooled => true,
            PartSource::S3 { bucket, key, .. } => {
                let location = Location::S3 {
                    bucket: bucket.clone(),
                    key: key.clone(),
                };
                let kept = |folder: &Path| source::kept_part(folder, index).exists();
                location != self.config.manifest || folder.as_deref().is_some_and(kept)
            }
        };
        own.parts.iter().enumerate().all(is_there)
    }

    /// Prepares what came on standard input again, holds it against what the job began with and keeps it.
    pub(super) async fn take_input_again(
        &self,
        home: &Home,
        state: &ShardState,
        said: &JobFile,
        mut job: ShardFile,
    ) -> Result<ShardFile, Error> {
        if input_is_empty().await? {
            return Err(wants_input(home, said));
        }
        let scratch = scratch_in(state.folder())?;
        let now = self.prepare(scratch.path()).await;
        pinned::held_against(&said.manifest, now, &home.root.place())?;
        source::folder(state.folder())?;
        let kept = source::spooled(state.folder());
        std::fs::rename(source::top(scratch.path()), &kept)
            .map_err(|error| Error::io(format!("cannot keep {}", kept.display()), &error))?;
        let Some((bucket, key)) = home.spool(self.shard) else {
            return Ok(job);
        };
        // Its ETag may be another although its content is not.
        let now = source::keep(self.s3, state.folder(), bucket, &key).await?;
        for part in &mut job.parts {
            if is_at(part, bucket, &key) {
                *part = now.clone();
            }
        }
        state.write(&job).await?;
        Ok(job)
    }
}

fn is_at(part: &PartSource, wanted: &str, name: &str) -> bool {
    matches!(part, PartSource::S3 { bucket, key, .. } if bucket == wanted && key == name)
}

/// The state has nothing to go on with, and nobody gave it anything.
pub(super) fn wants_input(home: &Home, said: &JobFile) -> Error {
    let place = home.root.place();
    let message = format!(
        "the state {place} belongs to job {}, whose manifest came on standard input, and what was kept of it is not all there",
        said.job_id
    );
    Error::new(Exit::State, message)
        .hint("give the same manifest on standard input again; what is settled is kept")
}

/// Whether nothing comes on standard input. Takes nothing of it.
pub(super) async fn input_is_empty() -> Result<bool, Error> {
    blocking(|| {
        let input = std::io::stdin();
        if input.is_terminal() {
            return Ok(true);
        }
        let read = input.lock().fill_buf().map(<[u8]>::is_empty);
        read.map_err(|error| Error::io("cannot read standard input", &error))
    })
    .await?
}
