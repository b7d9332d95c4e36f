//! S3's operations on the store, one file per family. [`Service`] implements s3s's trait; each method
//! is a function in the file of its family.

use std::sync::Arc;

use s3s::{S3, S3Error, S3ErrorCode, S3Result};

use super::store::{BucketStore, Store, StoreError};
use super::vault::Vault;

/// The embedded S3 behind the HTTP protocol.
#[derive(Clone)]
pub struct Service {
    store: Arc<Store>,
    vault: Vault,
    region: String,
}

impl Service {
    /// A service on an open store, whose objects are encrypted by `vault`. Buckets are in `region` unless they
    /// say otherwise.
    pub fn new(store: Arc<Store>, vault: Vault, region: &str) -> Self {
        Self {
            store,
            vault,
            region: region.to_owned(),
        }
    }

    fn bucket(&self, name: &str) -> S3Result<Arc<BucketStore>> {
        Ok(self.store.bucket(name)?)
    }
}

/// The one account of the embedded S3, as canonical user id.
pub const OWNER_ID: &str = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a";
/// What the account is called.
pub const OWNER_NAME: &str = "reseal-local";

/// Runs what blocks (files, ciphers) on a thread for it.
///
/// # Errors
/// What `work` says; InternalError when it panicked.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(S3Error::internal_error)?
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
            StoreError::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
            StoreError::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
            StoreError::NoSuchVersion => S3ErrorCode::NoSuchVersion,
            StoreError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            StoreError::InUse(_) | StoreError::Damaged { .. } | StoreError::Io { .. } => {
                tracing::error!(%error, "the store failed");
                S3ErrorCode::InternalError
            }
        };
        Self::new(code)
    }
}

#[async_trait::async_trait]
impl S3 for Service {}
