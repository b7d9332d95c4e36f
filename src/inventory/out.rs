//! Where an inventory goes: a folder, or a prefix in S3.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::Location;
use crate::durable::sync_parent;
use crate::error::Error;
use crate::exit::Exit;
use crate::limiter::Need;
use crate::listing::{Asker, Stop};
use crate::object::ObjectRef;
use crate::s3::{Ask, PutBytes};
use crate::s3_error::S3Error;

/// The place.
#[derive(Clone, Debug)]
pub enum Out {
    /// A folder.
    Folder(PathBuf),
    /// A prefix.
    S3 {
        /// The bucket.
        bucket: String,
        /// Empty, or without a slash at its end.
        prefix: String,
    },
}

impl Out {
    /// What `--out` names.
    ///
    /// # Errors
    /// It is standard output.
    pub fn of(location: &Location) -> Result<Self, Error> {
        Ok(match location {
            Location::Path(path) => Self::Folder(path.clone()),
            Location::S3 { bucket, key } => Self::S3 {
                bucket: bucket.clone(),
                prefix: key.trim_end_matches('/').to_owned(),
            },
            Location::Stdin => return Err(Error::usage("--out is a folder or s3://bucket/prefix")),
        })
    }

    /// The bucket, where it is in one.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::S3 { bucket, .. } => Some(bucket),
        }
    }

    /// The key of a name in the bucket; in a folder, its path from there.
    pub fn key(&self, name: &str) -> String {
        match self {
            Self::S3 { prefix, .. } if !prefix.is_empty() => format!("{prefix}/{name}"),
            Self::S3 { .. } | Self::Folder(_) => name.to_owned(),
        }
    }

    /// A name, for a person and for `--manifest`.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::S3 { bucket, .. } => format!("s3://{bucket}/{}", self.key(name)),
        }
    }

    /// A folder for data files on their way: where they go by a rename, if there is such a place.
    pub fn staging(&self, data: &str, id: &str, state: PathBuf) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(data).join(format!(".{id}")),
            Self::S3 { .. } => state,
        }
    }

    /// Whether a name is there. Where that may not be asked it is not.
    ///
    /// # Errors
    /// The store is not there, or refuses for another reason.
    pub async fn has(&self, asker: &Asker, name: &str) -> Result<bool, Error> {
        let (bucket, key) = match self {
            Self::Folder(folder) => return Ok(folder.join(name).exists()),
            Self::S3 { bucket, .. } => (bucket, self.key(name)),
        };
        let object = ObjectRef {
            bucket,
            key: &key,
            version_id: None,
        };
        let head = || asker.s3.head(object, Ask::default());
        match asker.ask("HeadObject", Need::ABOUT_THE_BUCKET, head).await {
            Ok(_) => Ok(true),
            Err(Stop::Store(error)) if matches!(error.http_status, 403 | 404) => Ok(false),
            Err(stop) => Err(unwritten(&self.place(name), stop)),
        }
    }

    /// Puts a file there that is on the disk of this machine, in place of one that may be there.
    ///
    /// # Errors
    /// It can't be put there.
    pub async fn put_file(&self, asker: &Asker, name: &str, file: &Path) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let moved = fs::rename(file, &path).and_then(|()| sync_parent(&path));
                moved.map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))
            }
            Self::S3 { bucket, .. } => {
                let key = self.key(name);
                let upload = || asker.s3.upload(bucket, &key, file);
                let put = asker.ask("PutObject", Need::ABOUT_THE_BUCKET, upload).await;
                put.map_err(|stop| unwritten(&self.place(name), stop))?;
                // It only takes room.
                let _ = fs::remove_file(file);
                Ok(())
            }
        }
    }

    /// Puts a small file there, in place of one that may be there.
    ///
    /// # Errors
    /// It can't be put there.
    pub async fn put_bytes(&self, asker: &Asker, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                write_whole(&path, bytes)
                    .map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))
            }
            Self::S3 { bucket, .. } => {
                let key = self.key(name);
                let put = || asker.s3.put_bytes(bucket, &key, bytes, PutBytes::Any);
                let put = asker.ask("PutObject", Need::ABOUT_THE_BUCKET, put).await;
                put.map_err(|stop| unwritten(&self.place(name), stop))
            }
        }
    }

    /// Makes what data files go to, where it has to be made.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make_folder(&self, name: &str) -> Result<(), Error> {
        let Self::Folder(folder) = self else {
            return Ok(());
        };
        let path = folder.join(name);
        fs::create_dir_all(&path)
            .map_err(|error| Error::io(format!("cannot make {}", path.display()), &error))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_parent(path)
}

fn unwritten(place: &str, stop: Stop) -> Error {
    let error = match stop {
        Stop::Store(error) => error,
        Stop::Drained => {
            return Error::new(Exit::Interrupted, format!("{place} is not written yet"));
        }
    };
    let hint = refusal_hint(&error);
    let error = Error {
        message: format!("cannot write {place}: {error}"),
        ..Error::from(error)
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn refusal_hint(error: &S3Error) -> Option<&'static str> {
    match error.code.as_str() {
        "NoSuchBucket" => Some("make the bucket of --out first; the same command continues then"),
        "AccessDenied" => Some("--out needs s3:PutObject; the same command continues then"),
        _ => None,
    }
}
