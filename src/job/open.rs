//! Opens the state of a job: finds it, or makes it and prepares the manifest.
//!
//! ```text
//! is it this job's? ─→ take the shard ─→ prepare, once ─→ say what the job is, or hear it ─→ say what the shard is
//! ```
//!
//! All shards may do so at once. Each reads the whole manifest and none waits for another; the first that is done says in
//! `job.json` what the job is, and the others hold what they have found against it before they keep a word of their own.

mod gone;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::home::{Home, LEFT_AFTER, remove_left, scratch_in};
use super::pinned;
use super::source::{self, ManifestSource, PartSource, Unprepared, blocking};
use super::spec::{JobFile, JobSpec, ShardFile};
use crate::config::{JobConfig, Location};
use crate::durable::sync_parent;
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::{ShardState, StateRoot};
use crate::manifest::Prepared;
use crate::object::ObjectRef;
use crate::s3::{Ask, S3};
use crate::shard::Shard;

/// Where states are that nobody gave a place.
const STATES: &str = ".reseal";
/// Most states there that are looked into for one that fits.
const STATES_MAX: usize = 10_000;

/// A shard whose manifest is prepared, and its state, held by this process.
pub struct Opened {
    /// Where the whole job is.
    pub home: Home,
    /// The state of this shard.
    pub state: ShardState,
    /// The shard.
    pub job: ShardFile,
}

/// Opens the shard's state, and prepares the manifest where no earlier run has.
///
/// # Errors
/// The manifest is not sound; the state is another job's, damaged, or in use.
pub async fn open(config: &JobConfig, s3: &S3, emit: &dyn Fn(Event<'_>)) -> Result<Opened, Error> {
    let opening = Opening {
        spec: JobSpec::of(config, s3.endpoint_url()),
        shard: config.shard,
        config,
        s3,
        emit,
    };
    // The manifest first: one that is not there leaves nothing behind.
    let source = match source::identify(s3, &config.manifest).await {
        Ok(source) => source,
        // It is not there, or may not be read.
        Err(unseen) if unseen.error.exit == Exit::Usage => {
            return opening.go_on_without(unseen).await;
        }
        Err(unseen) => return Err(unseen.error),
    };
    match &config.state {
        Some(location) => {
            if let Location::Path(path) = location {
                refuse_foreign(path)?;
            }
            let home = Home::open(location, s3).await?;
            opening.enter(home, source).await
        }
        None => match opening.find(Path::new(STATES), &source).await {
            Some(path) => opening.enter(Home::dir(&path), source).await,
            None => opening.settle(Path::new(STATES), source).await,
        },
    }
}

/// A folder with somebody else's files is no state.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Ok(());
    };
    let names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .take(STATES_MAX)
        .collect();
    // A volume of its own comes with a lost+found.
    let is_free = names.iter().all(|name| name == "lost+found");
    let is_ours = |name: &str| name == "job.json" || name.starts_with("shard-");
    if is_free || names.iter().any(|name| name.to_str().is_some_and(is_ours)) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} is not empty and holds no state",
        path.display()
    ))
    .hint("give --state a folder of its own, a new or an empty one"))
}

struct Opening<'a> {
    config: &'a JobConfig,
    spec: JobSpec,
    shard: Shard,
    s3: &'a S3,
    emit: &'a dyn Fn(Event<'_>),
}

impl Opening<'_> {
    /// Opens the state in a home that was named or found.
    async fn enter(&self, home: Home, source: ManifestSource) -> Result<Opened, Error> {
        let said = home.root.read_job::<JobFile>().await?;
        if let Some(job) = &said {
            job.check(&home.root.place(), &self.spec, self.shard)?;
        }
        let state = self.take(&home).await?;
        let job = match state.read().await? {
            Some(job) => self.reopen(&home, &state, job, source).await?,
            None => {
                // Before a copy that may be there is overwritten with it.
                if let (Some(said), Location::Stdin) = (&said, &self.config.manifest)
                    && gone::input_is_empty().await?
                {
                    return Err(gone::wants_input(&home, said));
                }
                let folder = source::folder(state.folder())?;
                let (parts, prepared) = self.prepare(&folder).await?;
                self.begin(&home, &state, source, parts, prepared).await?
            }
        };
        Ok(Opened { home, state, job })
    }

    /// Takes the shard's state. What an earlier run has left there that was killed while it prepared is removed: nobody else is there.
    async fn take(&self, home: &Home) -> Result<ShardState, Error> {
        let state = home.root.take(self.shard).await?;
        remove_left(state.folder(), Duration::ZERO);
        Ok(state)
    }

    /// Makes a home below `states`. The job's id, and so its folder, follows from the manifest's content.
    async fn settle(&self, states: &Path, source: ManifestSource) -> Result<Opened, Error> {
        std::fs::create_dir_all(states)
            .map_err(|error| Error::io(format!("cannot make {}", states.display()), &error))?;
        remove_left(states, LEFT_AFTER);
        let scratch = scratch_in(states)?;
        let folder = source::folder(scratch.path())?;
        let (parts, prepared) = self.prepare(&folder).await?;
        let home = Home::dir(&states.join(self.spec.job_id(&prepared.digest)));
        if let Some(job) = home.root.read_job::<JobFile>().await? {
            job.check(&home.root.place(), &self.spec, self.shard)?;
        }
        let state = self.take(&home).await?;
        let job = match state.read().await? {
            Some(job) => {
                self.agree(&home.root, &job).await?;
                refreshed(&state, job, source, parts, prepared).await?
            }
            None => {
                let kept = state.folder().join(folder.file_name().unwrap_or_default());
                // Left by a run that was killed before it could write down what it had.
                let _ = std::fs::remove_dir_all(&kept);
                std::fs::rename(&folder, &kept)
                    .and_then(|()| sync_parent(&kept))
                    .map_err(|error| {
                        Error::io(format!("cannot move {}", folder.display()), &error)
                    })?;
                self.begin(&home, &state, source, parts, prepared).await?
            }
        };
        Ok(Opened { home, state, job })
    }

    /// The state of the same job over the same source, if one is there: it saves the pass over the manifest.
    async fn find(&self, states: &Path, source: &ManifestSource) -> Option<PathBuf> {
        source.version.as_ref()?;
        let folders = std::fs::read_dir(states).ok()?;
        let paths = folders
            .take(STATES_MAX)
            .flatten()
            .map(|folder| folder.path());
        for path in paths {
            // A damaged one is met, and told, when its turn comes.
            let root = StateRoot::dir(&path);
            let Ok(Some(job)) = root.read_job::<JobFile>().await else {
                continue;
            };
            if job.spec != self.spec || job.shards != self.shard.count {
                continue;
            }
            let own = root.read_shard::<ShardFile>(self.shard).await;
            if let Ok(Some(own)) = own
                && own.source == *source
            {
                return Some(path);
            }
        }
        None
    }

    async fn prepare(&self, folder: &Path) -> Result<(Vec<PartSource>, Prepared), Unprepared> {
        source::prepare(
            self.s3,
            &self.config.manifest,
            &self.config.reading,
            folder,
            self.shard,
            self.emit,
        )
        .await
    }

    /// A shard that has just been prepared, in the folder of its state.
    async fn begin(
        &self,
        home: &Home,
        state: &ShardState,
        source: ManifestSource,
        parts: Vec<PartSource>,
        prepared: Prepared,
    ) -> Result<ShardFile, Error> {
        let mut job = ShardFile::new(&self.spec, source, parts, prepared);
        // First: what is kept of standard input takes the place of what is there.
        self.agree(&home.root, &job).await?;
        let spool = home.spool(self.shard);
        if let Some((bucket, key)) = spool.filter(|_| self.config.manifest == Location::Stdin) {
            let kept = source::keep(self.s3, state.folder(), bucket, &key).await?;
            for part in &mut job.parts {
                if *part == PartSource::Spooled {
                    *part = kept.clone();
                }
            }
        }
        state.write(&job).await?;
        Ok(job)
    }

    /// Says what the job is, or holds the shard against what another has said.
    async fn agree(&self, root: &StateRoot, own: &ShardFile) -> Result<JobFile, Error> {
        let place = root.place();
        let said: Option<JobFile> = match root.read_job().await? {
            None if self.spec.job_id(&own.prepared.digest) == own.job_id => {
                root.create_job(&JobFile::of(own, self.spec.clone()))
                    .await?;
                root.read_job().await?
            }
            said => said,
        };
        if let Some(job) = &said {
            job.check(&place, &self.spec, self.shard)?;
            pinned::check(&job.manifest, &own.prepared, &place)?;
        }
        let said = said.filter(|job| job.job_id == own.job_id && own.shard() == self.shard);
        said.ok_or_else(|| {
            Error::new(
                Exit::State,
                format!(
                    "the state {place} is not of one piece: its shard {} is of job {}",
                    own.shard(),
                    own.job_id
                ),
            )
            .hint("restore the state from a copy, or give another --state for a new job")
        })
    }

    /// A shard that was prepared before: its manifest must be this one.
    async fn reopen(
        &self,
        home: &Home,
        state: &ShardState,
        job: ShardFile,
        source: ManifestSource,
    ) -> Result<ShardFile, Error> {
        let said = self.agree(&home.root, &job).await?;
        let manifest = &self.config.manifest;
        if *manifest == Location::Stdin && job.source.location == manifest.to_string() {
            if self.fetch_kept_input(home, state).await? {
                self.check_stdin(state).await?;
                return Ok(job);
            }
            return self.take_input_again(home, state, &said, job).await;
        }
        if source.version.is_some()
            && source == job.source
            && pinned::are_unchanged(self.s3, manifest, &job).await?
        {
            return Ok(job);
        }
        // Moved, touched or written again: the content decides.
        let scratch = scratch_in(state.folder())?;
        let now = self.prepare(scratch.path()).await;
        let place = home.root.place();
        let (parts, prepared) = pinned::held_against(&said.manifest, now, &place)?;
        refreshed(state, job, source, parts, prepared).await
    }

    /// Whether what came on standard input is in the state; from S3 it is fetched.
    async fn fetch_kept_input(&self, home: &Home, state: &ShardState) -> Result<bool, Error> {
        let kept = source::spooled(state.folder());
        let Some((bucket, key)) = home.spool(self.shard) else {
            return Ok(kept.exists());
        };
        source::folder(state.folder())?;
        let object = ObjectRef {
            bucket,
            key: &key,
            version_id: None,
        };
        let unbegun = source::unbegun();
        let looked = source::patiently(&unbegun, || self.s3.head(object, Ask::default())).await;
        let etag = match looked {
            Ok(head) => head.etag,
            Err(error) if error.http_status == 404 => return Ok(false),
            Err(error) => return Err(source::unreadable(&self.config.manifest, error)),
        };
        source::fetch(self.s3, &unbegun, bucket, &key, Some(&etag), &kept).await?;
        Ok(true)
    }

    /// Standard input is in the state already; if there is some again, it must be the same.
    async fn check_stdin(&self, state: &ShardState) -> Result<(), Error> {
        if std::io::stdin().is_terminal() {
            return Ok(());
        }
        let kept = source::spooled(state.folder());
        blocking(move || {
            let failed = |error: std::io::Error| Error::io("cannot compare standard input with the state", &error);
            match source::compare(&mut std::io::stdin().lock(), &kept).map_err(failed)? {
                source::Comparison::Nothing | source::Comparison::Same => Ok(()),
                source::Comparison::Differs => Err(Error::new(
                    Exit::State,
                    "standard input is not the manifest that this state belongs to",
                )
                .hint("give nothing or the same on standard input to continue, or another --state for a new job")),
            }
        })
        .await?
    }
}

/// The shard with its manifest where it is now. What came on standard input is not kept a second time: the state reads on where it
/// did.
async fn refreshed(
    state: &ShardState,
    job: ShardFile,
    source: ManifestSource,
    parts: Vec<PartSource>,
    prepared: Prepared,
) -> Result<ShardFile, Error> {
    if parts.contains(&PartSource::Spooled) || source.location == Location::Stdin.to_string() {
        return Ok(job);
    }
    let job = ShardFile {
        source,
        parts,
        prepared,
        ..job
    };
    state.write(&job).await?;
    Ok(job)
}
