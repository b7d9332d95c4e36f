//! Opens the state of a job: finds it, or makes it and prepares the manifest.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::pinned;
use super::source::{self, ManifestSource, PartSource, blocking};
use super::spec::{JobFile, JobSpec};
use crate::config::{JobConfig, Location};
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::{ShardState, StateRoot};
use crate::manifest::Prepared;
use crate::s3::S3;
use crate::shard::Shard;

/// Where states are that nobody gave a place.
const STATES: &str = ".reseal";
/// Most states there that are looked into for one that fits.
const STATES_MAX: usize = 10_000;

/// A job whose manifest is prepared, and its state, held by this process.
pub struct Opened {
    /// The state of the whole job.
    pub root: StateRoot,
    /// That of this shard.
    pub state: ShardState,
    /// The job.
    pub job: JobFile,
}

/// Opens the job's state, and prepares the manifest where no earlier run has.
///
/// # Errors
/// The manifest is not sound; the state is another job's, damaged, or in use.
pub async fn open(config: &JobConfig, s3: &S3, emit: &dyn Fn(Event<'_>)) -> Result<Opened, Error> {
    let spec = JobSpec::of(config, s3.endpoint_url());
    match &config.state {
        Some(path) => open_at(path, config, spec, s3, emit).await,
        None => open_default(config, spec, s3, emit).await,
    }
}

async fn open_at(
    path: &Path,
    config: &JobConfig,
    spec: JobSpec,
    s3: &S3,
    emit: &dyn Fn(Event<'_>),
) -> Result<Opened, Error> {
    // The manifest first: one that is not there leaves nothing behind.
    let source = source::identify(s3, &config.manifest).await?;
    refuse_foreign(path)?;
    let root = StateRoot::dir(path);
    let state = root.take(Shard::ONLY).await?;
    if let Some(job) = state.read().await? {
        return reopen(root, state, job, config, &spec, source, s3, emit).await;
    }
    let folder = source::folder(state.folder())?;
    let (parts, prepared) = source::prepare(s3, &config.manifest, &folder, emit).await?;
    let job = JobFile::new(spec, source, parts, prepared);
    state.write(&job).await?;
    Ok(Opened { root, state, job })
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
    if is_free || names.iter().any(|name| name == "shard-0") {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} is not empty and holds no state",
        path.display()
    ))
    .hint("give --state a folder of its own, a new or an empty one"))
}

/// A state that has a job: it must be this one.
async fn reopen(
    root: StateRoot,
    state: ShardState,
    job: JobFile,
    config: &JobConfig,
    spec: &JobSpec,
    source: ManifestSource,
    s3: &S3,
    emit: &dyn Fn(Event<'_>),
) -> Result<Opened, Error> {
    let differences = job.spec.differences(spec);
    if !differences.is_empty() {
        return Err(Error::new(
            Exit::State,
            format!(
                "the state {} belongs to job {}, which differs in {}",
                state.place(),
                job.job_id,
                differences.join(", ")
            ),
        )
        .hint("give the flags of that job to continue it, or another --state for a new one"));
    }
    if config.manifest == Location::Stdin && job.source.location == config.manifest.to_string() {
        check_stdin(&state).await?;
        return Ok(Opened { root, state, job });
    }
    if source.version.is_some()
        && source == job.source
        && pinned::are_unchanged(s3, &config.manifest, &job).await?
    {
        return Ok(Opened { root, state, job });
    }
    // Moved, touched or written again: the content decides.
    let scratch = scratch(state.folder())?;
    let now = source::prepare(s3, &config.manifest, scratch.path(), emit).await;
    let (parts, prepared) = pinned::held_against(&job.prepared, now, &state.place())?;
    let job = refreshed(&state, job, source, parts, prepared).await?;
    Ok(Opened { root, state, job })
}

/// The job with its manifest where it is now. What came on standard input is not kept a second time: the state reads on where it
/// did.
async fn refreshed(
    state: &ShardState,
    job: JobFile,
    source: ManifestSource,
    parts: Vec<PartSource>,
    prepared: Prepared,
) -> Result<JobFile, Error> {
    if parts.contains(&PartSource::Spooled) || source.location == Location::Stdin.to_string() {
        return Ok(job);
    }
    let job = JobFile {
        source,
        parts,
        prepared,
        ..job
    };
    state.write(&job).await?;
    Ok(job)
}

/// Standard input is in the state already; if there is some again, it must be the same.
async fn check_stdin(state: &ShardState) -> Result<(), Error> {
    let kept = source::spooled(state.folder());
    blocking(move || {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Ok(());
        }
        let failed = |error: std::io::Error| Error::io("cannot compare standard input with the state", &error);
        match source::compare(&mut stdin.lock(), &kept).map_err(failed)? {
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

async fn open_default(
    config: &JobConfig,
    spec: JobSpec,
    s3: &S3,
    emit: &dyn Fn(Event<'_>),
) -> Result<Opened, Error> {
    let states = Path::new(STATES);
    let source = source::identify(s3, &config.manifest).await?;
    if let Some(path) = find_state(states, &spec, &source).await {
        let root = StateRoot::dir(&path);
        let state = root.take(Shard::ONLY).await?;
        if let Some(job) = state.read().await? {
            return reopen(root, state, job, config, &spec, source, s3, emit).await;
        }
    }
    std::fs::create_dir_all(states)
        .map_err(|error| Error::io(format!("cannot make {}", states.display()), &error))?;
    // The job's id, and so its folder, follows from the manifest's content.
    let scratch = scratch(states)?;
    let folder = source::folder(scratch.path())?;
    let (parts, prepared) = source::prepare(s3, &config.manifest, &folder, emit).await?;
    let job_id = spec.job_id(&prepared.digest);
    let root = StateRoot::dir(&states.join(&job_id));
    let state = root.take(Shard::ONLY).await?;
    if let Some(job) = state.read().await? {
        let job = refreshed(&state, job, source, parts, prepared).await?;
        return Ok(Opened { root, state, job });
    }
    let kept = state.folder().join(folder.file_name().unwrap_or_default());
    // Left by a run that was killed before it could write the job.
    let _ = std::fs::remove_dir_all(&kept);
    std::fs::rename(&folder, &kept)
        .map_err(|error| Error::io(format!("cannot move {}", folder.display()), &error))?;
    let job = JobFile::new(spec, source, parts, prepared);
    state.write(&job).await?;
    Ok(Opened { root, state, job })
}

/// The state of the same job over the same source, if one is there: it saves the pass over the manifest.
async fn find_state(states: &Path, spec: &JobSpec, source: &ManifestSource) -> Option<PathBuf> {
    source.version.as_ref()?;
    let folders = std::fs::read_dir(states).ok()?;
    let paths = folders
        .take(STATES_MAX)
        .flatten()
        .map(|folder| folder.path());
    for path in paths {
        // A damaged one is met, and told, when its turn comes.
        let job = StateRoot::dir(&path)
            .read_shard::<JobFile>(Shard::ONLY)
            .await;
        if let Ok(Some(job)) = job
            && job.spec == *spec
            && job.source == *source
        {
            return Some(path);
        }
    }
    None
}

/// A folder that vanishes when it is dropped.
fn scratch(parent: &Path) -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new()
        .prefix(".preparing-")
        .tempdir_in(parent)
        .map_err(|error| {
            Error::io(
                format!("cannot make a folder in {}", parent.display()),
                &error,
            )
        })
}
