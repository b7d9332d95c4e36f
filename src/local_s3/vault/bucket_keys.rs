//! S3 Bucket Keys: keys of short life that stand between a KMS key and the data keys of a bucket.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::binding;
use super::error::VaultError;
use super::keyring::RingKey;
use super::secret::{Secret, Wrapped};

/// How many data keys a bucket key wraps before the next one takes over.
const BUCKET_KEY_USES_MAX: u32 = 65_536;
/// How many pairs of KMS key and bucket are remembered; beyond that all are forgotten and made anew.
const BUCKET_KEYS_MAX: usize = 1_024;

/// A bucket key, plain and as envelopes carry it.
#[derive(Clone)]
pub(super) struct BucketKey {
    pub(super) secret: Secret,
    pub(super) wrapped: Wrapped,
}

struct Current {
    key: BucketKey,
    uses: u32,
}

/// The bucket keys in use, by KMS key ARN and bucket. In memory only: an envelope carries its own, wrapped.
#[derive(Default)]
pub(super) struct BucketKeys {
    current: Mutex<HashMap<(String, String), Current>>,
}

impl BucketKeys {
    /// The bucket key to wrap one more data key with.
    pub(super) fn current(&self, kms_key: &RingKey, bucket: &str) -> Result<BucketKey, VaultError> {
        let place = (kms_key.arn(), bucket.to_owned());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.get_mut(&place)
            && known.uses < BUCKET_KEY_USES_MAX
        {
            known.uses += 1;
            return Ok(known.key.clone());
        }
        let secret = Secret::random()?;
        let wrapped = binding::wrap_bucket_key(&kms_key.material, &secret, bucket)?;
        let key = BucketKey { secret, wrapped };
        if current.len() >= BUCKET_KEYS_MAX {
            current.clear();
        }
        let made = Current {
            key: key.clone(),
            uses: 1,
        };
        current.insert(place, made);
        Ok(key)
    }
}
