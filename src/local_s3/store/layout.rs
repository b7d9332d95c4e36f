//! Where things are on disk, and the one way in which descriptions get there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::StoreError;
use crate::human;
use crate::local_s3::model::{Bucket, VersionId};

/// Length of the random ids of versions, uploads and data. 32 of 62 letters: they do not collide.
const ID_LENGTH: usize = 32;

/// A new random id of letters and digits.
pub(super) fn random_id() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), ID_LENGTH)
}

/// The folder as a whole.
#[derive(Debug)]
pub(super) struct Root {
    dir: PathBuf,
}

impl Root {
    pub(super) fn create(dir: &Path) -> Result<Self, StoreError> {
        let root = Self {
            dir: dir.to_owned(),
        };
        for folder in [root.buckets(), root.tmp()] {
            fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
        }
        Ok(root)
    }

    /// Takes the folder for this process, until the file is closed.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let path = self.dir.join("store.lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(StoreError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(self.dir.clone())),
            Err(TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
        }
    }

    pub(super) fn buckets(&self) -> PathBuf {
        self.dir.join("buckets")
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub(super) fn empty_tmp(&self) -> Result<(), StoreError> {
        let tmp = self.tmp();
        fs::remove_dir_all(&tmp).map_err(StoreError::io(&tmp))?;
        fs::create_dir(&tmp).map_err(StoreError::io(&tmp))
    }

    pub(super) fn bucket_dir(&self, name: &str) -> BucketDir {
        BucketDir {
            dir: self.buckets().join(name),
            tmp: self.tmp(),
        }
    }

    /// Makes a bucket's folder; it appears with its configuration in it.
    pub(super) fn create_bucket(&self, config: &Bucket) -> Result<BucketDir, StoreError> {
        let made = BucketDir {
            dir: self.tmp().join(random_id()),
            tmp: self.tmp(),
        };
        for folder in [made.objects(), made.data(), made.uploads()] {
            fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
        }
        made.write(&made.config(), config)?;
        let bucket = self.bucket_dir(&config.name);
        fs::rename(&made.dir, &bucket.dir).map_err(StoreError::io(&bucket.dir))?;
        sync_dir(&self.buckets())?;
        Ok(bucket)
    }

    /// Makes a folder disappear in one step; what it takes to remove its content comes after.
    pub(super) fn discard_dir(&self, dir: &Path) -> Result<(), StoreError> {
        discard_dir(dir, &self.tmp())
    }
}

/// One bucket's folder.
#[derive(Debug, Clone)]
pub(super) struct BucketDir {
    dir: PathBuf,
    tmp: PathBuf,
}

impl BucketDir {
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("bucket.json")
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// Where a version of a key is described.
    pub(super) fn version(&self, key: &str, version_id: &VersionId) -> PathBuf {
        let hash = human::hex(&Sha256::digest(key.as_bytes()));
        self.objects()
            .join(&hash[..2])
            .join(format!("{hash}.{version_id}.json"))
    }

    pub(super) fn upload(&self, upload_id: &str) -> PathBuf {
        self.uploads().join(upload_id)
    }

    pub(super) fn upload_description(&self, upload_id: &str) -> PathBuf {
        self.upload(upload_id).join("upload.json")
    }

    pub(super) fn part_description(&self, upload_id: &str, number: u32) -> PathBuf {
        self.upload(upload_id).join(format!("part-{number}.json"))
    }

    /// Writes a description so that it is there as a whole or not at all, also after a power cut: the bytes
    /// are synced before the rename and the rename before this returns.
    ///
    /// # Errors
    /// [`StoreError::InDoubt`] when only the last of these steps failed; after another error nothing has changed.
    pub(super) fn write<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StoreError> {
        let json = serde_json::to_vec(value).map_err(|e| StoreError::Io {
            path: path.to_owned(),
            source: io::Error::other(e),
        })?;
        let tmp = self.tmp.join(random_id());
        let written = write_synced(&tmp, &json).and_then(|()| rename_into(&tmp, path));
        if let Err(source) = written {
            // It is under tmp/ and would go at the next start; a full disk wants it gone now.
            let _ = fs::remove_file(&tmp);
            return Err(StoreError::Io {
                path: path.to_owned(),
                source,
            });
        }
        sync_parent(path).map_err(in_doubt)
    }

    /// Removes a description for good.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        fs::remove_file(path).map_err(StoreError::io(path))?;
        sync_parent(path).map_err(in_doubt)
    }

    /// As [`Root::discard_dir`].
    pub(super) fn discard_dir(&self, dir: &Path) -> Result<(), StoreError> {
        discard_dir(dir, &self.tmp)
    }
}

fn in_doubt(error: StoreError) -> StoreError {
    match error {
        StoreError::Io { path, source } => StoreError::InDoubt { path, source },
        other => other,
    }
}

/// Reads a description.
pub(super) fn read_description<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let json = fs::read(path).map_err(StoreError::io(path))?;
    serde_json::from_slice(&json).map_err(|e| StoreError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames; the folder to rename into is made when it is the first to need it.
fn rename_into(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_parent(to)?;
            fs::rename(from, to)
        }
        other => other,
    }
}

/// Makes the folder of `path`, one level, and syncs the level above so that it stays.
pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let above = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(above)?.sync_all()
}

/// Makes the entries of the folder that `path` is in durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io(dir))
}

fn discard_dir(dir: &Path, tmp: &Path) -> Result<(), StoreError> {
    let grave = tmp.join(random_id());
    fs::rename(dir, &grave).map_err(StoreError::io(dir))?;
    sync_parent(dir)?;
    if let Err(e) = fs::remove_dir_all(&grave) {
        tracing::warn!(path = %grave.display(), error = %e, "leftover stays until the next start");
    }
    Ok(())
}
