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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::Mac as _;
use time::OffsetDateTime;

use binding::{Binding, Role};
use bucket_keys::BucketKeys;
use envelope::{Recognition, Sealing};
use keyfile::KeyFile;
use keyring::{AWS_S3_ALIAS, Keyring, RingKey};
use root::RootKeys;
use secret::{SALT_BYTES, Secret, Wrapped, random_bytes};

mod binding;
mod bucket_keys;
mod customer;
mod envelope;
mod error;
mod keyfile;
mod keyring;
mod root;
mod secret;
mod segment;
#[cfg(test)]
mod tests;

pub use customer::CustomerKey;
pub use envelope::{DataKeys, EncryptionContext, Envelope, Mode, Want};
pub use error::VaultError;
pub use keyring::{KeyState, KmsKey};
pub use segment::{FRAME_BYTES, SegmentReader, SegmentWriter};

const RECOGNITION_LABEL: &str = "reseal vault v1 customer key";

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

    /// New data keys for the object `key` in `bucket`. The envelope is stored with the object; the
    /// keys seal its segments.
    ///
    /// # Errors
    /// `KeyNotFound`, `KeyDisabled`, `KeyPendingDeletion`, `ReservedContext`; `Damaged` or `Io` when
    /// the key files cannot be read.
    pub fn seal(
        &self,
        want: &Want,
        bucket: &str,
        key: &str,
    ) -> Result<(Envelope, DataKeys), VaultError> {
        let inner = Secret::random()?;
        let mut outer = None;
        let sealing = match want {
            Want::SseS3 => self.seal_under_root(bucket, key, &inner)?,
            Want::SseKms {
                key: kms_key,
                bucket_key,
                context,
            } => {
                let name = kms_key.as_deref().unwrap_or(AWS_S3_ALIAS);
                self.seal_under_kms(bucket, key, name, *bucket_key, context, &inner)?
            }
            Want::DsseKms {
                key: kms_key,
                context,
            } => {
                let name = kms_key.as_deref().unwrap_or(AWS_S3_ALIAS);
                let outer = outer.insert(Secret::random()?);
                self.seal_twice(bucket, key, name, context, &inner, outer)?
            }
            Want::SseC(customer_key) => seal_under_customer(bucket, key, customer_key, &inner)?,
        };
        Ok((Envelope(sealing), DataKeys { inner, outer }))
    }

    /// The data keys of a stored object. A customer key must come exactly when the envelope is SSE-C.
    ///
    /// # Errors
    /// `CustomerKeyRequired`, `CustomerKeyNotApplicable`, `CustomerKeyWrong`; `KeyNotFound`,
    /// `KeyDisabled`, `KeyPendingDeletion`; `Damaged` when the envelope was not made for this object;
    /// `Io`.
    pub fn unseal(
        &self,
        envelope: &Envelope,
        bucket: &str,
        key: &str,
        customer_key: Option<&CustomerKey>,
    ) -> Result<DataKeys, VaultError> {
        let binding = Binding {
            mode: envelope.mode(),
            bucket,
            key,
            context: envelope.context(),
        };
        if customer_key.is_some() && binding.mode != Mode::SseC {
            return Err(VaultError::CustomerKeyNotApplicable);
        }
        let unwrap = |wrapped: &Wrapped, under: &Secret, role| {
            let opened = wrapped.unwrap(under, &binding.data_key(role));
            opened.ok_or_else(|| foreign_envelope(&binding))
        };
        let mut outer = None;
        let inner = match &envelope.0 {
            Sealing::SseS3 {
                root_version,
                data_key,
            } => {
                let roots = self.shared.root.load()?;
                unwrap(data_key, roots.version(*root_version)?, Role::Inner)?
            }
            Sealing::SseKms {
                key_arn,
                bucket_key,
                data_key,
                ..
            } => {
                let ring = self.shared.keyring.load()?;
                let kms_key = ring.usable(key_arn)?;
                match bucket_key {
                    None => unwrap(data_key, &kms_key.material, Role::Inner)?,
                    Some(wrapped) => {
                        let aad = binding::bucket_key(bucket);
                        let bucket_key = wrapped
                            .unwrap(&kms_key.material, &aad)
                            .ok_or_else(|| foreign_envelope(&binding))?;
                        unwrap(data_key, &bucket_key, Role::Inner)?
                    }
                }
            }
            Sealing::DsseKms {
                key_arn,
                inner_key,
                outer_key,
                ..
            } => {
                let ring = self.shared.keyring.load()?;
                let kms_key = ring.usable(key_arn)?;
                outer = Some(unwrap(outer_key, &kms_key.material, Role::Outer)?);
                unwrap(inner_key, &kms_key.material, Role::Inner)?
            }
            Sealing::SseC {
                recognition,
                data_key,
                ..
            } => {
                let customer_key = customer_key.ok_or(VaultError::CustomerKeyRequired)?;
                recognition.check(customer_key)?;
                unwrap(data_key, customer_key.secret(), Role::Inner)?
            }
        };
        Ok(DataKeys { inner, outer })
    }

    /// What `UpdateObjectEncryption` does: the same data key, wrapped by another KMS key. The segments
    /// stay as they are. From SSE-S3 or SSE-KMS to SSE-KMS; the client's context, if any, stays.
    ///
    /// `kms_key` may have any form; that S3 takes only a key ARN here is for the caller to check.
    ///
    /// # Errors
    /// `NotRewrappable` for DSSE-KMS and SSE-C; what [`Vault::unseal`] says of the old key and
    /// [`Vault::seal`] of the new one.
    pub fn rewrap(
        &self,
        envelope: &Envelope,
        bucket: &str,
        key: &str,
        kms_key: &str,
        bucket_key: bool,
    ) -> Result<Envelope, VaultError> {
        let mode = envelope.mode();
        if matches!(mode, Mode::DsseKms | Mode::SseC) {
            return Err(VaultError::NotRewrappable(mode));
        }
        let keys = self.unseal(envelope, bucket, key, None)?;
        let no_context = EncryptionContext::new();
        let context = envelope.context().unwrap_or(&no_context);
        let sealing =
            self.seal_under_kms(bucket, key, kms_key, bucket_key, context, &keys.inner)?;
        Ok(Envelope(sealing))
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

    fn seal_under_root(
        &self,
        bucket: &str,
        key: &str,
        inner: &Secret,
    ) -> Result<Sealing, VaultError> {
        let binding = Binding {
            mode: Mode::SseS3,
            bucket,
            key,
            context: None,
        };
        let roots = self.shared.root.load()?;
        let (root_version, root) = roots.newest()?;
        Ok(Sealing::SseS3 {
            root_version,
            data_key: Wrapped::wrap(root, inner, &binding.data_key(Role::Inner))?,
        })
    }

    fn seal_under_kms(
        &self,
        bucket: &str,
        key: &str,
        kms_key: &str,
        bucket_key: bool,
        context: &EncryptionContext,
        inner: &Secret,
    ) -> Result<Sealing, VaultError> {
        let binding = kms_binding(Mode::SseKms, bucket, key, context)?;
        let aad = binding.data_key(Role::Inner);
        let ring = self.shared.keyring.load()?;
        let kms_key = ring.usable(kms_key)?;
        let (bucket_key, data_key) = if bucket_key {
            let bucket_key = self.shared.bucket_keys.current(kms_key, bucket)?;
            let data_key = Wrapped::wrap(&bucket_key.secret, inner, &aad)?;
            (Some(bucket_key.wrapped), data_key)
        } else {
            (None, Wrapped::wrap(&kms_key.material, inner, &aad)?)
        };
        Ok(Sealing::SseKms {
            key_arn: kms_key.arn(),
            context: context.clone(),
            bucket_key,
            data_key,
        })
    }

    fn seal_twice(
        &self,
        bucket: &str,
        key: &str,
        kms_key: &str,
        context: &EncryptionContext,
        inner: &Secret,
        outer: &Secret,
    ) -> Result<Sealing, VaultError> {
        let binding = kms_binding(Mode::DsseKms, bucket, key, context)?;
        let ring = self.shared.keyring.load()?;
        let kms_key: &RingKey = ring.usable(kms_key)?;
        let wrap =
            |data_key, role| Wrapped::wrap(&kms_key.material, data_key, &binding.data_key(role));
        Ok(Sealing::DsseKms {
            key_arn: kms_key.arn(),
            context: context.clone(),
            inner_key: wrap(inner, Role::Inner)?,
            outer_key: wrap(outer, Role::Outer)?,
        })
    }
}

fn kms_binding<'a>(
    mode: Mode,
    bucket: &'a str,
    key: &'a str,
    context: &'a EncryptionContext,
) -> Result<Binding<'a>, VaultError> {
    if context.contains_key(binding::ARN_PAIR) {
        return Err(VaultError::ReservedContext);
    }
    Ok(Binding {
        mode,
        bucket,
        key,
        context: Some(context),
    })
}

fn seal_under_customer(
    bucket: &str,
    key: &str,
    customer_key: &CustomerKey,
    inner: &Secret,
) -> Result<Sealing, VaultError> {
    let binding = Binding {
        mode: Mode::SseC,
        bucket,
        key,
        context: None,
    };
    let aad = binding.data_key(Role::Inner);
    Ok(Sealing::SseC {
        key_md5: customer_key.md5_base64(),
        recognition: Recognition::of(customer_key)?,
        data_key: Wrapped::wrap(customer_key.secret(), inner, &aad)?,
    })
}

impl Recognition {
    fn of(customer_key: &CustomerKey) -> Result<Recognition, VaultError> {
        let salt = random_bytes::<SALT_BYTES>()?;
        let mac = customer_key.secret().mac(RECOGNITION_LABEL, &[&salt]);
        let mac = mac.finalize().into_bytes();
        Ok(Recognition(BASE64.encode([&salt[..], &mac].concat())))
    }

    /// `CustomerKeyWrong` unless it is the key that this was made of.
    fn check(&self, customer_key: &CustomerKey) -> Result<(), VaultError> {
        let unreadable = || VaultError::Damaged("the mark of a customer key".to_owned());
        let bytes = BASE64.decode(&self.0).map_err(|_| unreadable())?;
        let (salt, mac) = bytes.split_at_checked(SALT_BYTES).ok_or_else(unreadable)?;
        customer_key
            .secret()
            .mac(RECOGNITION_LABEL, &[salt])
            .verify_slice(mac)
            .map_err(|_| VaultError::CustomerKeyWrong)
    }
}

fn foreign_envelope(binding: &Binding) -> VaultError {
    VaultError::Damaged(format!(
        "the {} envelope of {:?} in bucket {:?} is damaged or belongs to another object",
        binding.mode, binding.key, binding.bucket
    ))
}

fn now_unix_seconds() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
