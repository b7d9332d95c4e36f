//! Where a job's state is, and what lies beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spec::JobFile;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{S3Store, StateRoot};
use crate::s3::{Connection, S3};
use crate::shard::Shard;

/// The report that nobody wanted elsewhere, below the state.
const REPORT: &str = "report";

/// How the names of scratch folders begin.
const SCRATCH: &str = ".preparing-";

/// Where several processes may be at work, a scratch folder of this age is nobody's any more: preparing a manifest and writing a report
/// take hours at most.
pub const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What standard input is not.
const NO_PLACE: &str = "--state is a folder or s3://bucket/prefix";

/// The home of a job.
pub struct Home {
    /// Its state.
    pub root: StateRoot,
    location: Location,
}

impl Home {
    /// The home in a directory, which need not be there yet.
    pub fn dir(path: &Path) -> Self {
        Self {
            root: StateRoot::dir(path),
            location: Location::Path(path.to_owned()),
        }
    }

    /// The home at a place that somebody named, to run the job. One in S3 is in the store of the job.
    ///
    /// # Errors
    /// Nothing can be kept there.
    pub async fn open(location: &Location, s3: &S3) -> Result<Self, Error> {
        match location {
            Location::Path(path) => Ok(Self::dir(path)),
            Location::S3 { bucket, key } => {
                let store = S3Store::open(s3.clone(), bucket, key).await?;
                Ok(Self::on(store, location))
            }
            Location::Stdin => Err(Error::usage(NO_PLACE)),
        }
    }

    /// The home at a place that somebody named, to look at the job. Writes nothing, and connects only to what is in S3.
    ///
    /// # Errors
    /// There can't be one there.
    pub async fn look(location: &Location, connection: &Connection) -> Result<Self, Error> {
        match location {
            Location::Path(path) => Ok(Self::dir(path)),
            Location::S3 { bucket, key } => {
                let s3 = S3::connect(connection).await;
                Ok(Self::on(S3Store::at(s3, bucket, key), location))
            }
            Location::Stdin => Err(Error::usage(NO_PLACE)),
        }
    }

    fn on(store: S3Store, location: &Location) -> Self {
        Self {
            root: StateRoot::on(store),
            location: location.clone(),
        }
    }

    /// The job that lives here.
    ///
    /// # Errors
    /// There is none, or what it says of itself is damaged.
    pub async fn job(&self) -> Result<JobFile, Error> {
        let job = self.root.read_job().await?;
        job.ok_or_else(|| {
            let place = self.root.place();
            Error::new(Exit::Usage, format!("{place} holds no job")).hint(
                "give the state that `reseal run` names at its start, by default .reseal/<job id>",
            )
        })
    }

    /// Where the report goes that nobody wanted elsewhere: one for all shards.
    pub fn report(&self) -> Location {
        match &self.location {
            Location::S3 { bucket, key } => Location::S3 {
                bucket: bucket.clone(),
                key: below(key, REPORT),
            },
            Location::Path(path) => Location::Path(path.join(REPORT)),
            Location::Stdin => Location::Path(REPORT.into()),
        }
    }

    /// The folder of a shard, where the state is in a directory.
    pub fn shard_folder(&self, shard: Shard) -> Option<PathBuf> {
        let Location::Path(path) = &self.location else {
            return None;
        };
        Some(path.join(format!("shard-{}", shard.index)))
    }

    /// Bucket and key of the copy of what a shard was given on standard input, where the state is in S3.
    pub fn spool(&self, shard: Shard) -> Option<(&str, String)> {
        let Location::S3 { bucket, key } = &self.location else {
            return None;
        };
        let name = format!("shard-{}/manifest", shard.index);
        Some((bucket, below(key, &name)))
    }

    /// A folder that vanishes when it is dropped: beside the state where that is in a directory, which has the room.
    ///
    /// # Errors
    /// It can't be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir, Error> {
        match &self.location {
            Location::Path(path) => {
                remove_left(path, LEFT_AFTER);
                scratch_in(path)
            }
            Location::S3 { .. } | Location::Stdin => scratch_in(&std::env::temp_dir()),
        }
    }
}

/// A name below a prefix of S3.
fn below(prefix: &str, name: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    }
}

/// Removes the scratch folders in `parent` that processes left which were killed: those that are so old. With zero nobody else may be at
/// work there.
pub fn remove_left(parent: &Path, age: Duration) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_left = || {
            let old = modified.ok().and_then(|at| at.elapsed().ok());
            age.is_zero() || old.is_some_and(|old| old >= age)
        };
        if is_scratch && is_left() {
            // It only takes room.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder in `parent` that vanishes when it is dropped.
///
/// # Errors
/// It can't be made.
pub fn scratch_in(parent: &Path) -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new()
        .prefix(SCRATCH)
        .tempdir_in(parent)
        .map_err(|error| {
            Error::io(
                format!("cannot make a folder in {}", parent.display()),
                &error,
            )
        })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_killed_processes_left_is_removed_when_it_is_nobodys() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str, age: Duration| {
            let path = parent.path().join(name);
            fs::create_dir_all(path.join("manifest")).unwrap();
            let at = SystemTime::now() - age;
            File::open(&path).unwrap().set_modified(at).unwrap();
            path
        };
        let minute = Duration::from_secs(60);
        let old = folder(".preparing-old", LEFT_AFTER + minute);
        let young = folder(".preparing-young", LEFT_AFTER - minute);
        let other = folder("shard-0", LEFT_AFTER * 2);
        let there = || [&old, &young, &other].map(|path| path.exists());
        remove_left(parent.path(), LEFT_AFTER);
        assert_eq!(there(), [false, true, true]);
        remove_left(parent.path(), Duration::ZERO);
        assert_eq!(there(), [false, false, true]);
    }
}
