//! What the vault does for objects: make data keys, find them again, wrap them anew.

use super::Vault;
use super::binding::{Binding, Role};
use super::customer::CustomerKey;
use super::envelope::{DataKeys, EncryptionContext, Envelope, Mode, Sealing, Want};
use super::error::VaultError;
use super::keyring::AWS_S3_ALIAS;
use super::secret::{Secret, Wrapped};

impl Vault {
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
        let bind = |mode, context| Binding::new(mode, bucket, key, context);
        let mut keys = DataKeys {
            inner: Secret::random()?,
            outer: None,
        };
        let sealing = match want {
            Want::SseS3 => self.seal_under_root(bind(Mode::SseS3, None)?, &keys.inner)?,
            Want::SseKms {
                key,
                bucket_key,
                context,
            } => {
                let binding = bind(Mode::SseKms, Some(context))?;
                let bucket = bucket_key.then_some(bucket);
                self.seal_under_kms(binding, key.as_deref(), bucket, context, &keys.inner)?
            }
            Want::DsseKms { key, context } => {
                let binding = bind(Mode::DsseKms, Some(context))?;
                let outer = keys.outer.insert(Secret::random()?);
                self.seal_twice(binding, key.as_deref(), context, &keys.inner, outer)?
            }
            Want::SseC(customer_key) => {
                seal_under_customer(bind(Mode::SseC, None)?, customer_key, &keys.inner)?
            }
        };
        Ok((Envelope(sealing), keys))
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
        let binding = Binding::new(envelope.mode(), bucket, key, envelope.context())?;
        match (&envelope.0, customer_key) {
            (
                Sealing::SseC {
                    key_mark, data_key, ..
                },
                Some(customer_key),
            ) => {
                customer_key.check(key_mark)?;
                let inner = binding.unwrap(customer_key.secret(), data_key, Role::Inner)?;
                Ok(DataKeys { inner, outer: None })
            }
            (Sealing::SseC { .. }, None) => Err(VaultError::CustomerKeyRequired),
            (_, Some(_)) => Err(VaultError::CustomerKeyNotApplicable),
            (
                Sealing::SseS3 {
                    root_version,
                    data_key,
                },
                None,
            ) => {
                let roots = self.shared.root.load()?;
                let root = roots.version(*root_version)?;
                let inner = binding.unwrap(root, data_key, Role::Inner)?;
                Ok(DataKeys { inner, outer: None })
            }
            (
                Sealing::SseKms {
                    key_arn,
                    bucket_key,
                    data_key,
                    ..
                },
                None,
            ) => self.open_under_kms(binding, key_arn, bucket_key.as_ref(), data_key),
            (
                Sealing::DsseKms {
                    key_arn,
                    inner_key,
                    outer_key,
                    ..
                },
                None,
            ) => {
                let ring = self.shared.keyring.load()?;
                let kms_key = &ring.usable(key_arn)?.material;
                let inner = binding.unwrap(kms_key, inner_key, Role::Inner)?;
                let outer = Some(binding.unwrap(kms_key, outer_key, Role::Outer)?);
                Ok(DataKeys { inner, outer })
            }
        }
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
        let none = EncryptionContext::new();
        let context = envelope.context().unwrap_or(&none);
        let binding = Binding::new(Mode::SseKms, bucket, key, Some(context))?;
        let key_bucket = bucket_key.then_some(bucket);
        let sealing =
            self.seal_under_kms(binding, Some(kms_key), key_bucket, context, &keys.inner)?;
        Ok(Envelope(sealing))
    }

    fn seal_under_root(&self, binding: Binding, inner: &Secret) -> Result<Sealing, VaultError> {
        let roots = self.shared.root.load()?;
        let (root_version, root) = roots.newest()?;
        Ok(Sealing::SseS3 {
            root_version,
            data_key: binding.wrap(root, inner, Role::Inner)?,
        })
    }

    /// With a bucket key when `key_bucket` names the bucket.
    fn seal_under_kms(
        &self,
        binding: Binding,
        kms_key: Option<&str>,
        key_bucket: Option<&str>,
        context: &EncryptionContext,
        inner: &Secret,
    ) -> Result<Sealing, VaultError> {
        let ring = self.shared.keyring.load()?;
        let kms_key = ring.usable(kms_key.unwrap_or(AWS_S3_ALIAS))?;
        let (bucket_key, data_key) = match key_bucket {
            None => (None, binding.wrap(&kms_key.material, inner, Role::Inner)?),
            Some(bucket) => {
                let bucket_key = self.shared.bucket_keys.current(kms_key, bucket)?;
                let data_key = binding.wrap(&bucket_key.secret, inner, Role::Inner)?;
                (Some(bucket_key.wrapped), data_key)
            }
        };
        Ok(Sealing::SseKms {
            key_arn: kms_key.arn(),
            context: context.clone(),
            bucket_key,
            data_key,
        })
    }

    fn open_under_kms(
        &self,
        binding: Binding,
        key_arn: &str,
        bucket_key: Option<&Wrapped>,
        data_key: &Wrapped,
    ) -> Result<DataKeys, VaultError> {
        let ring = self.shared.keyring.load()?;
        let kms_key = &ring.usable(key_arn)?.material;
        let inner = match bucket_key {
            None => binding.unwrap(kms_key, data_key, Role::Inner)?,
            Some(wrapped) => {
                let bucket_key = binding.unwrap_bucket_key(kms_key, wrapped)?;
                binding.unwrap(&bucket_key, data_key, Role::Inner)?
            }
        };
        Ok(DataKeys { inner, outer: None })
    }

    fn seal_twice(
        &self,
        binding: Binding,
        kms_key: Option<&str>,
        context: &EncryptionContext,
        inner: &Secret,
        outer: &Secret,
    ) -> Result<Sealing, VaultError> {
        let ring = self.shared.keyring.load()?;
        let kms_key = ring.usable(kms_key.unwrap_or(AWS_S3_ALIAS))?;
        Ok(Sealing::DsseKms {
            key_arn: kms_key.arn(),
            context: context.clone(),
            inner_key: binding.wrap(&kms_key.material, inner, Role::Inner)?,
            outer_key: binding.wrap(&kms_key.material, outer, Role::Outer)?,
        })
    }
}

fn seal_under_customer(
    binding: Binding,
    customer_key: &CustomerKey,
    inner: &Secret,
) -> Result<Sealing, VaultError> {
    Ok(Sealing::SseC {
        key_md5: customer_key.md5_base64(),
        key_mark: customer_key.mark()?,
        data_key: binding.wrap(customer_key.secret(), inner, Role::Inner)?,
    })
}
