//! Where the manifest comes from: found, fetched where it is not local, and prepared once.
//!
//! What is not local is kept under `manifest/` in the state, so that a run, its resumption and its report read local files: that folder takes
//! as much room as the manifest is large, compressed, until the job is complete.

mod compare;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::Location;
use crate::durable::sync_parent;
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::manifest::{Fingerprint, ManifestError, Origin, Preparation, Prepared, Reading, Source};
use crate::object::ObjectRef;
use crate::s3::{Ask, S3};
use crate::s3_error::S3Error;
use crate::shard::Shard;
use crate::stall::{Patience, Stall};

pub use compare::{Comparison, compare};

/// The folder in the state for what was fetched.
const FOLDER: &str = "manifest";
/// The name there of the file that `--manifest` names.
const TOP: &str = "top";
/// Between two events of the validating pass.
const PREPARING_INTERVAL: Duration = Duration::from_millis(200);

/// Where a manifest was and what tells it from another without reading it: the same source needs no second pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// As it was typed.
    pub location: String,
    /// ETag in S3, length and times of a local file; `None` where nothing tells, as of standard input.
    pub version: Option<String>,
}

/// Where one part of the manifest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartSource {
    /// A file of this machine.
    Path(PathBuf),
    /// An object, and a copy of it in the state.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Pins the content.
        etag: String,
    },
    /// Standard input, of which the state has the only copy.
    Spooled,
}

/// A manifest that could not be looked at.
#[derive(Debug)]
pub struct Unseen {
    /// Why not.
    pub error: Error,
    /// Whether it is known not to be there.
    pub is_gone: bool,
}

/// Looks where a manifest is and what tells it from another.
///
/// # Errors
/// It is not there, or S3 refuses to say.
pub async fn identify(s3: &S3, location: &Location) -> Result<ManifestSource, Unseen> {
    let version = match location {
        Location::Stdin => None,
        Location::Path(path) => {
            let metadata = std::fs::metadata(path).map_err(|error| Unseen {
                is_gone: error.kind() == io::ErrorKind::NotFound,
                error: Error::usage(format!("{}: {error}", path.display())),
            })?;
            Some(Fingerprint::of(&metadata).to_string())
        }
        Location::S3 { bucket, key } => {
            let object = ObjectRef {
                bucket,
                key,
                version_id: None,
            };
            let head = patiently(&unbegun(), || s3.head(object, Ask::default()))
                .await
                .map_err(|error| Unseen {
                    is_gone: error.http_status == 404,
                    error: unreadable(location, error),
                })?;
            Some(head.etag)
        }
    };
    Ok(ManifestSource {
        location: location.to_string(),
        version,
    })
}

/// Why a manifest could not be prepared.
#[derive(Debug)]
pub enum Unprepared {
    /// It is not sound, or can't be read.
    Manifest(ManifestError),
    /// Something else did not work.
    Other(Error),
}

impl From<ManifestError> for Unprepared {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl From<Error> for Unprepared {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Unprepared> for Error {
    fn from(error: Unprepared) -> Self {
        match error {
            Unprepared::Manifest(error) => error.into(),
            Unprepared::Other(error) => error,
        }
    }
}

/// Makes the validating pass for a shard. What is fetched goes to `folder`.
///
/// # Errors
/// Every fault of the manifest.
pub async fn prepare(
    s3: &S3,
    location: &Location,
    reading: &Reading,
    folder: &Path,
    shard: Shard,
    emit: &dyn Fn(Event<'_>),
) -> Result<(Vec<PartSource>, Prepared), Unprepared> {
    let top = fetch_top(s3, location, folder).await?;
    let name = location.to_string();
    let source = {
        let (path, reading) = (top.path.clone(), reading.clone());
        blocking(move || Source::detect(&path, &name, &reading)).await??
    };
    check_checksum(s3, location, &source, &top.path, folder).await?;
    if let Source::Inventory(inventory) = &source
        && inventory.files.iter().any(|file| file.md5.is_none())
    {
        emit(Event::Warning {
            message: "the inventory names no MD5 for some of its data files: they are taken as they are",
        });
    }
    let mut parts = part_sources(location, &source, top.source)?;
    let mut preparation = Preparation::new(&source, reading).of_shard(shard);
    if matches!(source, Source::File { .. })
        && let [PartSource::S3 { .. }] = parts.as_slice()
    {
        let path = part_path(folder, 0);
        std::fs::rename(&top.path, &path)
            .map_err(|error| Error::io(format!("cannot move {}", top.path.display()), &error))?;
        preparation = add_part(preparation, path, Origin::Fetched, emit).await?;
    } else {
        // While a part is read, the next one is on its way.
        let mut next = match parts.first_mut() {
            Some(part) => Some(at_hand(s3, part, 0, folder).await?),
            None => None,
        };
        let mut rest = parts.iter_mut().enumerate().skip(1);
        while let Some((path, origin)) = next {
            let fetched = async {
                match rest.next() {
                    Some((index, part)) => at_hand(s3, part, index, folder).await.map(Some),
                    None => Ok(None),
                }
            };
            let added = add_part(preparation, path, origin, emit);
            let (added, fetched) = futures::join!(added, fetched);
            preparation = added?;
            next = fetched?;
        }
    }
    let prepared = blocking(move || preparation.finish()).await??;
    Ok((parts, prepared))
}

/// The local file of a part that is to be prepared; it is fetched where it is in S3, and its ETag noted.
async fn at_hand(
    s3: &S3,
    part: &mut PartSource,
    index: usize,
    folder: &Path,
) -> Result<(PathBuf, Origin), Error> {
    Ok(match part {
        PartSource::Path(path) => (path.clone(), Origin::Local),
        PartSource::Spooled => (folder.join(TOP), Origin::Fetched),
        PartSource::S3 { bucket, key, etag } => {
            let path = part_path(folder, index);
            *etag = fetch(s3, &unbegun(), bucket, key, None, &path).await?;
            (path, Origin::Fetched)
        }
    })
}

/// The local file of a part; fetches it again where the state's copy is gone.
///
/// # Errors
/// It can't be had, or is not what was prepared any more.
pub async fn local_part(
    s3: &S3,
    stall: &Stall,
    part: &PartSource,
    index: usize,
    state: &Path,
) -> Result<PathBuf, Error> {
    let folder = state.join(FOLDER);
    match part {
        PartSource::Path(path) => Ok(path.clone()),
        PartSource::Spooled => {
            let kept = spooled(state);
            if kept.exists() {
                return Ok(kept);
            }
            let lost =
                "the state has no copy any more of its manifest, which came on standard input";
            Err(Error::new(Exit::State, lost).hint("give it again to the run that goes on"))
        }
        PartSource::S3 { bucket, key, etag } => {
            let path = part_path(&folder, index);
            if !path.exists() {
                make_folder(&folder)?;
                fetch(s3, stall, bucket, key, Some(etag), &path).await?;
            }
            Ok(path)
        }
    }
}

/// Removes the copies that can be fetched again; standard input's is kept.
pub fn forget_copies(state: &Path, parts: &[PartSource]) {
    let folder = state.join(FOLDER);
    for (index, part) in parts.iter().enumerate() {
        if matches!(part, PartSource::S3 { .. }) {
            // They only take room: the next run fetches what it needs.
            let _ = std::fs::remove_file(part_path(&folder, index));
        }
    }
}

/// Puts what came on standard input into S3, where a state outlives this machine.
///
/// # Errors
/// It can't be put there.
pub async fn keep(s3: &S3, state: &Path, bucket: &str, key: &str) -> Result<PartSource, Error> {
    let file = spooled(state);
    let unkept = |error| Error {
        message: format!("cannot keep standard input in s3://{bucket}/{key}: {error}"),
        ..Error::from(error)
    };
    patiently(&unbegun(), || s3.upload(bucket, key, &file))
        .await
        .map_err(unkept)?;
    let object = ObjectRef {
        bucket,
        key,
        version_id: None,
    };
    let head = patiently(&unbegun(), || s3.head(object, Ask::default()))
        .await
        .map_err(unkept)?;
    Ok(PartSource::S3 {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        etag: head.etag,
    })
}

/// Where the state keeps what came on standard input.
pub fn spooled(state: &Path) -> PathBuf {
    state.join(FOLDER).join(TOP)
}

/// Where the pass over standard input leaves it, in the folder that it was given.
pub fn top(folder: &Path) -> PathBuf {
    folder.join(TOP)
}

/// Where the state keeps a part that was fetched.
pub fn kept_part(state: &Path, index: usize) -> PathBuf {
    part_path(&kept_in(state), index)
}

/// The folder for what was fetched, which need not be there.
pub fn kept_in(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

/// The manifest, or a part of it, can't be had where it was, and nowhere else.
pub fn gone(error: &Error, place: &str) -> Error {
    Error::new(
        Exit::State,
        format!("{error}; {place} has no copy of it"),
    )
    .hint(
        "put it back, or give the manifest from where it is now with --manifest (its content is compared); what is settled is kept",
    )
}

/// The folder for fetched parts below `parent`, made.
///
/// # Errors
/// It can't be made.
pub fn folder(parent: &Path) -> Result<PathBuf, Error> {
    let folder = parent.join(FOLDER);
    make_folder(&folder)?;
    sync_parent(&folder)
        .map_err(|error| Error::io(format!("cannot sync {}", parent.display()), &error))?;
    Ok(folder)
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::io(format!("cannot make {}", folder.display()), &error))
}

fn part_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("part-{index:06}"))
}

struct Top {
    path: PathBuf,
    source: PartSource,
}

/// The file that `--manifest` names, as a local file.
async fn fetch_top(s3: &S3, location: &Location, folder: &Path) -> Result<Top, Error> {
    match location {
        Location::Path(path) => {
            // The state may be read from another working directory.
            let path = std::path::absolute(path)
                .map_err(|error| Error::io(format!("cannot find {}", path.display()), &error))?;
            Ok(Top {
                source: PartSource::Path(path.clone()),
                path,
            })
        }
        Location::Stdin => {
            let path = folder.join(TOP);
            let target = path.clone();
            blocking(move || {
                let mut file = std::fs::File::create(&target)?;
                std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
                file.sync_all()?;
                // The shard will say that it is there, and there is no other.
                sync_parent(&target)
            })
            .await?
            .map_err(|error| Error::io("cannot keep standard input in the state", &error))?;
            Ok(Top {
                path,
                source: PartSource::Spooled,
            })
        }
        Location::S3 { bucket, key } => {
            let path = folder.join(TOP);
            let etag = fetch(s3, &unbegun(), bucket, key, None, &path).await?;
            Ok(Top {
                path,
                source: PartSource::S3 {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    etag,
                },
            })
        }
    }
}

/// Holds a `manifest.json` against the file with its checksum beside it, where there is one.
async fn check_checksum(
    s3: &S3,
    location: &Location,
    source: &Source,
    json: &Path,
    folder: &Path,
) -> Result<(), Unprepared> {
    let checksum = match location {
        Location::Stdin => return Ok(()),
        Location::Path(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(beside) = source.checksum_name(&name) else {
                return Ok(());
            };
            path.with_file_name(beside)
        }
        Location::S3 { bucket, key } => {
            let Some(beside) = source.checksum_name(key) else {
                return Ok(());
            };
            let path = folder.join("checksum");
            match patiently(&unbegun(), || s3.fetch(bucket, &beside, None, &path)).await {
                Ok(_) => path,
                // Whoever may not see it (403) need not: the data files have MD5s of their own.
                Err(error) if matches!(error.http_status, 403 | 404) => return Ok(()),
                Err(error) => return Err(unreadable(location, error).into()),
            }
        }
    };
    let content = match std::fs::read(&checksum) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Error::io(format!("cannot read {}", checksum.display()), &error).into());
        }
    };
    let json = std::fs::read(json)
        .map_err(|error| Error::io(format!("cannot read {location}"), &error))?;
    let name = location.to_string();
    Ok(source.check_checksum(&json, &content, &name)?)
}

/// Where the parts are. A file of rows is its own only one; what a `manifest.json` lists lies beside a local one. Else an inventory's files
/// are in the bucket that it was read from, a report's where it says.
fn part_sources(
    location: &Location,
    source: &Source,
    top: PartSource,
) -> Result<Vec<PartSource>, ManifestError> {
    let in_s3 = |(bucket, key)| PartSource::S3 {
        bucket,
        key,
        etag: String::new(),
    };
    let beside = |manifest: &Path, key: &str| {
        let manifest = std::path::absolute(manifest).unwrap_or_else(|_| manifest.to_owned());
        Ok(PartSource::Path(source.find_local(&manifest, key)?))
    };
    match source {
        Source::File { .. } => Ok(vec![top]),
        Source::Inventory(inventory) => {
            let files = inventory.files.iter();
            files
                .map(|file| match location {
                    Location::Path(path) => beside(path, &file.key),
                    Location::S3 { bucket, .. } => Ok(in_s3((bucket.clone(), file.key.clone()))),
                    Location::Stdin => {
                        let bucket = inventory.destination_bucket.clone().unwrap_or_default();
                        Ok(in_s3((bucket, file.key.clone())))
                    }
                })
                .collect()
        }
        Source::Report(report) => {
            let results = report.files.iter();
            results
                .map(|result| match location {
                    Location::Path(path) => beside(path, &result.file.key),
                    Location::S3 { bucket, key } => Ok(in_s3(result.in_s3(bucket, key))),
                    Location::Stdin => result.by_name().map(in_s3),
                })
                .collect()
        }
    }
}

/// Reads one part on a thread of its own and tells how far it is.
async fn add_part(
    mut preparation: Preparation,
    path: PathBuf,
    origin: Origin,
    emit: &dyn Fn(Event<'_>),
) -> Result<Preparation, Error> {
    let rows = Arc::new(AtomicU64::new(0));
    // Dropping the future, when a signal ends the pass, stops the thread.
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let counted = Arc::clone(&rows);
    let mut pass = Box::pin(blocking(move || {
        let mut progress = |rows| {
            counted.store(rows, Ordering::Relaxed);
            if watched.strong_count() == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        preparation
            .add_part(&path, origin, &mut progress)
            .map(|()| preparation)
    }));
    let mut ticks = tokio::time::interval(PREPARING_INTERVAL);
    let result = loop {
        tokio::select! {
            result = &mut pass => break result?,
            _ = ticks.tick() => emit(Event::Preparing { rows: rows.load(Ordering::Relaxed) }),
        }
    };
    emit(Event::Preparing {
        rows: rows.load(Ordering::Relaxed),
    });
    drop(alive);
    Ok(result?)
}

/// Fetches an object into `path`, whole or not at all; returns its ETag.
///
/// # Errors
/// S3 refuses it, or it can't be written.
pub async fn fetch(
    s3: &S3,
    stall: &Stall,
    bucket: &str,
    key: &str,
    if_match: Option<&str>,
    path: &Path,
) -> Result<String, Error> {
    let location = Location::S3 {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
    };
    let partial = path.with_extension("partial");
    let fetched = patiently(stall, || s3.fetch(bucket, key, if_match, &partial))
        .await
        .map_err(|error| match error.http_status {
            412 => ManifestError::Changed {
                what: location.to_string(),
            }
            .into(),
            // Whoever knows its ETag has begun with it.
            404 if if_match.is_some() => gone(&unreadable(&location, error), "the state"),
            _ => unreadable(&location, error),
        })?;
    std::fs::rename(&partial, path)
        .map_err(|error| Error::io(format!("cannot move {}", partial.display()), &error))?;
    Ok(fetched.etag)
}

/// Before a job has begun nothing is waited for: whoever has just typed the command looks on.
pub(super) fn unbegun() -> Stall {
    Stall::new(Duration::ZERO)
}

/// Sends a request until it is answered, within the bounds of [`Patience`].
pub(super) async fn patiently<T, F>(
    stall: &Stall,
    mut request: impl FnMut() -> F,
) -> Result<T, S3Error>
where
    F: Future<Output = Result<T, S3Error>>,
{
    let mut patience = Patience::default();
    loop {
        let sent = Instant::now();
        let answer = request().await;
        stall.heard(sent, &answer);
        match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => tokio::time::sleep(patience.pause(stall, &error, sent)?).await,
        }
    }
}

/// What is refused or not there is the operator's to mend; what is silent may be tried again.
pub(super) fn unreadable(location: &Location, error: S3Error) -> Error {
    let exit = if (400..500).contains(&error.http_status) {
        Exit::Usage
    } else {
        Exit::Internal
    };
    Error {
        message: format!("cannot read the manifest {location}: {error}"),
        exit,
        ..Error::from(error)
    }
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Exit::Internal, format!("a worker thread failed: {error}")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::event::Operation;
    use crate::s3_error::{FILE_NOT_WRITTEN, STALLED};

    fn lost() -> S3Error {
        S3Error::no_answer(Operation::HeadObject, "cut off".to_owned())
    }

    /// One whose attempts are used up, while others get answers all the time, so that no stall lasts.
    #[tokio::test(start_paused = true)]
    async fn who_alone_gets_no_answer_asks_with_pauses_and_not_for_ever() {
        let stall = Stall::new(Duration::from_secs(60));
        stall.heard(Instant::now(), &Ok(()));
        let (begun, asked) = (Instant::now(), Cell::new(0));
        let error = patiently(&stall, || {
            asked.set(asked.get() + 1);
            assert!(asked.get() < 1_000, "without a pause");
            stall.heard(Instant::now(), &Ok(()));
            async { Err::<(), _>(lost()) }
        })
        .await
        .expect_err("never an answer");
        assert_eq!(error.code, STALLED);
        assert!(
            begun.elapsed() < Duration::from_secs(240),
            "{:?}",
            begun.elapsed()
        );
        assert!(asked.get() > 20, "{}", asked.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_written_is_not_waited_for() {
        let stall = Stall::new(Duration::from_secs(60));
        stall.heard(Instant::now(), &Ok(()));
        let full = S3Error {
            code: FILE_NOT_WRITTEN.to_owned(),
            ..lost()
        };
        let asked = Cell::new(0);
        let error = patiently(&stall, || {
            asked.set(asked.get() + 1);
            let full = full.clone();
            async { Err::<(), _>(full) }
        });
        assert_eq!(error.await.expect_err("full"), full);
        assert_eq!((asked.get(), stall.is_on()), (1, false));
    }
}
