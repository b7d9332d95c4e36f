//! Where a job's state is, and what lies beside it.

use std::path::Path;

use super::spec::JobFile;
use crate::config::Location;
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{S3Store, StateRoot};
use crate::s3::{Connection, S3};
use crate::shard::Shard;

/// The report that nobody wanted elsewhere, below the state.
const REPORT: &str = "report";

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
            Location::Path(path) => scratch_in(path),
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

/// A folder in `parent` that vanishes when it is dropped.
///
/// # Errors
/// It can't be made.
pub fn scratch_in(parent: &Path) -> Result<tempfile::TempDir, Error> {
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
