//! The one pair of credentials that a folder of the embedded S3 answers to.
//!
//! It is made at random when a folder is first served and kept beside the data, so that a
//! second start answers to the same pair. The file has the form of AWS's shared credentials file,
//! so that `AWS_SHARED_CREDENTIALS_FILE=DIR/aws-credentials` is all that an AWS tool needs.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The name of the credentials file in the data folder.
pub const CREDENTIALS_FILE: &str = "aws-credentials";

/// AWS access keys start so; the rest tells a reader of a log where the key belongs.
const ACCESS_KEY_PREFIX: &str = "AKLOCAL";

/// Length of an access key id. Source: IAM User Guide, "AKIA" and 16 characters.
const ACCESS_KEY_CHARS: usize = 20;

/// Length of a secret access key. Source: IAM User Guide.
const SECRET_KEY_CHARS: usize = 40;

/// An access key and its secret. The secret is not shown by `Debug` and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: String,
    secret_key: Zeroizing<String>,
}

impl Credentials {
    /// A pair that somebody chose.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: Zeroizing::new(secret_key.into()),
        }
    }

    /// The access key id: no secret.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret access key.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Reads the folder's credentials, or makes and keeps new ones.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no pair of keys.
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let path = folder.join(CREDENTIALS_FILE);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it holds no aws_access_key_id and aws_secret_access_key; \
                     delete it to have new ones made",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Self::random();
                made.write(&path)?;
                Ok(made)
            }
            Err(error) => Err(error),
        }
    }

    fn random() -> Self {
        let access_key = random_text(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            ACCESS_KEY_CHARS - ACCESS_KEY_PREFIX.len(),
        );
        // Without `/` and `+`, which need quoting in too many places.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let secret_key = random_text(alphabet, SECRET_KEY_CHARS);
        Self::new(format!("{ACCESS_KEY_PREFIX}{access_key}"), secret_key)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        let access_key = value("aws_access_key_id").filter(|key| !key.is_empty())?;
        let secret_key = value("aws_secret_access_key").filter(|key| !key.is_empty())?;
        Some(Self::new(access_key, secret_key))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let text = Zeroizing::new(format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            self.access_key(),
            self.secret_key(),
        ));
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

fn random_text(alphabet: &[u8], chars: usize) -> String {
    (0..chars)
        .map(|_| char::from(alphabet[rand::random_range(0..alphabet.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let made = Credentials::of_folder(folder.path()).unwrap();
        assert_eq!(made.access_key().len(), ACCESS_KEY_CHARS);
        assert_eq!(made.secret_key().len(), SECRET_KEY_CHARS);
        assert_eq!(Credentials::of_folder(folder.path()).unwrap(), made);
        let kept = fs::metadata(folder.path().join(CREDENTIALS_FILE)).unwrap();
        assert_eq!(kept.permissions().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(made.secret_key()));
    }

    #[test]
    fn a_file_without_a_pair_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CREDENTIALS_FILE);
        fs::write(&path, "[default]\naws_access_key_id = only\n").unwrap();
        let error = Credentials::of_folder(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
