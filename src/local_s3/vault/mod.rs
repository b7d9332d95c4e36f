//! Keys and ciphers of the embedded S3.
//!
//! # What is kept where
//!
//! `DIR/keys/` holds `root.json`, the root keys of SSE-S3 in all their versions, `keyring.json`, the
//! KMS keys, and `lock`. **Both key files hold key material in clear** (mode 0600): this stands in for
//! AWS's key services in local use and in tests, and whoever can read the folder can read every
//! object that is not SSE-C.
//!
//! Each object has fresh data keys. Wrapped, they make its [`Envelope`], which is stored beside the
//! object; plain, as [`DataKeys`], they live only as long as a request. An object's data lies in
//! *segments*, one for a PUT and one for each part of a multipart upload, each in a file of its own
//! and all under the object's data keys.
//!
//! # Wrapping
//!
//! | mode | wraps the data key |
//! |---|---|
//! | SSE-S3 | the newest root key; its version is in the envelope |
//! | SSE-KMS | the KMS key |
//! | SSE-KMS with a bucket key | the bucket key, which the KMS key wraps; the envelope carries it |
//! | DSSE-KMS | the KMS key, two data keys one by one |
//! | SSE-C | the customer key |
//!
//! A wrapped key is `salt (32) ‖ ciphertext (32) ‖ tag (16)`: AES-256-GCM under
//! HMAC-SHA256(wrapping key, label ‖ salt), a key used this once, so the nonce is zero and there is
//! no bound on how many data keys one root key wraps. Associated data is the mode, the part the key
//! plays and the canonical encryption context: the client's pairs and `aws:s3:arn`, the object's ARN,
//! or the bucket's for a bucket key. An envelope therefore opens for its own bucket and key only; an
//! object that is copied gets a new one. Versions of one object have the same name: keeping their
//! envelopes apart is the object store's affair.
//!
//! Of a customer key nothing is kept but its MD5, which HEAD has to show, and a salted HMAC, which
//! tells a wrong key (403) from damaged data (500).
//!
//! # Segments
//!
//! ```text
//! file   = header ‖ frame 0 ‖ … ‖ frame n
//! header = "RESEAL1" ‖ layers (1 byte: 1, or 2 for DSSE) ‖ salt (32, random)
//! frame  = AES-256-GCM(layer key, nonce, plaintext of 64 KiB, in the last frame 0..=64 KiB) ‖ tag (16)
//! layer key = HMAC-SHA256(data key, label ‖ layer ‖ segment number ‖ header)
//! nonce  = 0 (8 bytes) ‖ frame number (4 bytes)
//! associated data = segment number ‖ frame number ‖ is it the last? (1 byte)
//! ```
//!
//! Numbers are big-endian. An empty segment has one empty frame. For DSSE a frame is sealed twice,
//! with two data keys drawn independently: the inner ciphertext and its tag are the outer plaintext.
//!
//! - *Nonces never repeat.* Every file has its own random salt and so its own keys; under these a
//!   frame number is used once. A part that is uploaded again under the same number gets another file.
//! - *Nothing can be moved or cut.* Another segment's file, frames swapped, a flipped bit anywhere,
//!   the header included, a file made shorter or longer, even together with the recorded length: each
//!   fails to authenticate at the frame where it matters, before a byte of that frame is given out.
//! - *A range costs its frames.* A frame's place in the file is a multiplication; nothing else is read.
//! - *Part numbers are free.* A segment is sealed under its part number, so Complete rewrites nothing.
//!   Which parts make up the object, and how long each is, the object store records.
//!
//! # Assumptions
//!
//! A file that was synced stays; a rename within a directory is atomic. The object store makes a
//! segment visible only after [`SegmentWriter::finish`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use time::OffsetDateTime;

use bucket_keys::BucketKeys;
use keyfile::KeyFile;
use keyring::Keyring;
use root::RootKeys;

mod binding;
mod bucket_keys;
mod customer;
mod envelope;
mod error;
mod keyfile;
mod keyring;
mod root;
mod sealing;
mod secret;
mod segment;
#[cfg(test)]
mod tests;

pub use customer::CustomerKey;
pub use envelope::{DataKeys, EncryptionContext, Envelope, Mode, Want};
pub use error::VaultError;
pub use keyring::{KeyState, KmsKey};
pub use segment::{FRAME_BYTES, SegmentReader, SegmentWriter};

/// The keys of one data folder. Cheap to clone; all methods may be called from any thread, and they
/// block on small files.
///
/// Every call sees what other processes did to the key files before it.
#[derive(Clone)]
pub struct Vault {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    root: KeyFile<RootKeys>,
    keyring: KeyFile<Keyring>,
    bucket_keys: BucketKeys,
}

impl Vault {
    /// Opens the vault in `dir/keys`, or makes it there: a first root key, and a keyring with the
    /// AWS-managed `alias/aws/s3`.
    ///
    /// # Errors
    /// `Io`; `Damaged` when a key file cannot be read as one, or when one of the two is gone.
    pub fn open(dir: &Path) -> Result<Vault, VaultError> {
        let dir = dir.join("keys");
        keyfile::create_private_dir(&dir)?;
        let shared = Shared {
            root: KeyFile::new(dir.join("root.json")),
            keyring: KeyFile::new(dir.join("keyring.json")),
            bucket_keys: BucketKeys::default(),
            dir,
        };
        let lock = keyfile::lock(&shared.dir)?;
        match (shared.root.exists()?, shared.keyring.exists()?) {
            (true, true) => {}
            // In this order: a crash in between leaves what the next arm completes.
            (false, false) => {
                shared.root.write(&RootKeys::first(now_unix_seconds())?)?;
                shared.keyring.write(&Keyring::first(now_unix_seconds())?)?;
            }
            (true, false) => shared.keyring.write(&Keyring::first(now_unix_seconds())?)?,
            (false, true) => {
                return Err(VaultError::Damaged(format!(
                    "{} has a keyring but no root.json; put it back, or no SSE-S3 object can be read",
                    shared.dir.display()
                )));
            }
        }
        shared.root.load()?;
        shared.keyring.load()?;
        drop(lock);
        Ok(Vault {
            shared: Arc::new(shared),
        })
    }

    /// Adds a root key, under which SSE-S3 seals from now on, and returns its version. Objects under
    /// older versions stay readable.
    ///
    /// # Errors
    /// `LimitExceeded`, `Damaged`, `Io`.
    pub fn rotate_root(&self) -> Result<u32, VaultError> {
        let _lock = keyfile::lock(&self.shared.dir)?;
        self.shared
            .root
            .update(|roots| roots.rotate(now_unix_seconds()))
    }

    /// All KMS keys, oldest first.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn keys(&self) -> Result<Vec<KmsKey>, VaultError> {
        Ok(self.shared.keyring.load()?.public())
    }

    /// Makes a KMS key, enabled, with an alias (`NAME` or `alias/NAME`) if one is given.
    ///
    /// # Errors
    /// `InvalidAlias`, `AliasTaken`, `LimitExceeded`, `Damaged`, `Io`.
    pub fn add_key(&self, alias: Option<&str>) -> Result<KmsKey, VaultError> {
        let _lock = keyfile::lock(&self.shared.dir)?;
        self.shared
            .keyring
            .update(|ring| ring.add(alias, now_unix_seconds()))
    }

    /// Switches a KMS key, named in any form.
    ///
    /// # Errors
    /// `KeyNotFound`, `AwsManagedKey`, `Damaged`, `Io`.
    pub fn set_key_state(&self, key: &str, state: KeyState) -> Result<KmsKey, VaultError> {
        let _lock = keyfile::lock(&self.shared.dir)?;
        self.shared
            .keyring
            .update(|ring| ring.set_state(key, state))
    }

    /// The KMS key that an id, a key ARN, an alias name or an alias ARN means, in whatever state it is.
    ///
    /// # Errors
    /// `KeyNotFound`, `Damaged`, `Io`.
    pub fn resolve(&self, key: &str) -> Result<KmsKey, VaultError> {
        Ok(self.shared.keyring.load()?.find(key)?.public())
    }
}

fn now_unix_seconds() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
