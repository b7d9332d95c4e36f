//! A small JSON file of keys that several processes read and, now and then, one of them rewrites.
//!
//! Written whole under a lock, with a temporary file, a sync and a rename: a reader sees the old
//! content or the new, and so does whoever comes after a crash. Read afresh at every use, because
//! `reseal local-s3 keys` may have changed it a moment ago; parsed again only when its bytes differ.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::VaultError;

/// More than a key file ever holds; what is longer is not one.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The content of a key file in both forms: as read, to notice changes, and parsed.
struct Seen<T> {
    bytes: Zeroizing<Vec<u8>>,
    parsed: Arc<T>,
}

pub(super) struct KeyFile<T> {
    path: PathBuf,
    seen: Mutex<Option<Seen<T>>>,
}

impl<T: Serialize + DeserializeOwned + Clone> KeyFile<T> {
    pub(super) fn new(path: PathBuf) -> KeyFile<T> {
        KeyFile {
            path,
            seen: Mutex::new(None),
        }
    }

    pub(super) fn exists(&self) -> Result<bool, VaultError> {
        self.path
            .try_exists()
            .map_err(|error| VaultError::io_at("looking for", &self.path, error))
    }

    /// What the file says now.
    pub(super) fn load(&self) -> Result<Arc<T>, VaultError> {
        let bytes = self.read()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &*seen
            && *seen.bytes == *bytes
        {
            return Ok(Arc::clone(&seen.parsed));
        }
        let parsed = serde_json::from_slice(&bytes).map_err(|error| {
            VaultError::Damaged(format!(
                "{} is not a key file: {error}",
                self.path.display()
            ))
        })?;
        let parsed = Arc::new(parsed);
        *seen = Some(Seen {
            bytes,
            parsed: Arc::clone(&parsed),
        });
        Ok(parsed)
    }

    /// Changes the file, or leaves it alone when `change` refuses. The caller holds the [`lock`].
    pub(super) fn update<R>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, VaultError>,
    ) -> Result<R, VaultError> {
        let mut content = T::clone(&*self.load()?);
        let answer = change(&mut content)?;
        self.write(&content)?;
        Ok(answer)
    }

    /// Replaces the file. The caller holds the [`lock`].
    pub(super) fn write(&self, content: &T) -> Result<(), VaultError> {
        let bytes = serde_json::to_vec_pretty(content)
            .map(Zeroizing::new)
            .expect("key files hold only strings and numbers");
        replace(&self.path, &bytes).map_err(|error| VaultError::io_at("writing", &self.path, error))
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let failed = |error| VaultError::io_at("reading", &self.path, error);
        let file = File::open(&self.path).map_err(failed)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(KEY_FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(bytes)
    }
}

/// Keeps every other process and thread from changing the key files of `dir` until it is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, VaultError> {
    let path = dir.join("lock");
    let failed = |error| VaultError::io_at("locking", &path, error);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    owner_only(&mut options);
    let file = options.open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// tempfile makes its files with mode 0600, which the rename keeps.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failure| failure.error)?;
    sync_dir(dir)
}

/// A rename is durable when the directory is.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}

/// Makes `dir` and what leads to it, `dir` itself for the owner only.
pub(super) fn create_private_dir(dir: &Path) -> Result<(), VaultError> {
    let failed = |error| VaultError::io_at("creating", dir, error);
    fs::create_dir_all(dir).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}
