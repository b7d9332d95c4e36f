//! The embedded S3 without sockets and threads, for tests that own the clock: a request is answered in the task that asks, and what
//! is stored can be looked at without asking.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};

use super::access_log::AccessLog;
use super::credentials::Credentials;
use super::front::Front;
use super::model::{self, Object, Version};
use super::server::{StartError, build};
use super::service::{Routes, Service};
use super::store::{Store, StoreError};
use super::vault::{Mode, Vault};
use crate::bucket::Versioning;
use crate::encryption::Encryption;

const REGION: &str = "us-east-1";

/// A store in a folder, behind no address.
pub(crate) struct InProcess {
    front: Front,
    store: Arc<Store>,
    vault: Vault,
    credentials: Credentials,
}

/// One version of a key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) version_id: String,
    /// Counts the writes of the store, but those that change a version where it is.
    pub(crate) written: u64,
    /// `None` is a delete marker.
    pub(crate) object: Option<StoredObject>,
}

/// What there is to an object but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredObject {
    pub(crate) etag: String,
    pub(crate) encryption: Encryption,
    /// Size, checksum, metadata, tags, class ...: everything that has to come through, to be compared and shown.
    pub(crate) kept: String,
}

impl InProcess {
    pub(crate) fn open(folder: &Path) -> Result<Self, StartError> {
        let store = Store::open(folder)?;
        let vault = Vault::open(folder)?;
        let credentials = Credentials::new("AKLOCALINPROCESS", "secret");
        let service = Service::new(Arc::clone(&store), vault.clone(), REGION);
        let route = Routes::new(&service);
        let log = AccessLog::open(folder, false).map_err(|source| StartError::File {
            path: folder.to_owned(),
            source,
        })?;
        let front = Front {
            service: build(service, route, &credentials),
            log: Arc::new(log),
        };
        Ok(Self {
            front,
            store,
            vault,
            credentials,
        })
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Makes a KMS key; its ARN.
    pub(crate) fn add_key(&self, alias: Option<&str>) -> String {
        self.vault.add_key(alias).expect("a key").arn
    }

    /// Makes a bucket.
    pub(crate) fn create_bucket(&self, name: &str, versioning: Versioning) {
        let mut bucket = model::Bucket::new(name, REGION);
        bucket.versioning = match versioning {
            Versioning::Never => model::Versioning::Unversioned,
            Versioning::Enabled => model::Versioning::Enabled,
            Versioning::Suspended => model::Versioning::Suspended,
        };
        self.store.create_bucket(bucket).expect("a bucket");
    }

    /// Answers one request, body and all.
    pub(crate) async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let request = request.map(Full::new);
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (head, body) = self.front.answer(request, remote).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Response::from_parts(head, body)
    }

    /// The versions of a key, newest first.
    pub(crate) fn versions(&self, bucket: &str, key: &str) -> Vec<Stored> {
        let bucket = self.store.bucket(bucket).expect("a bucket");
        bucket.keys().versions(key).iter().map(stored).collect()
    }

    /// The uploads that are neither completed nor aborted: key and id.
    pub(crate) fn uploads(&self, bucket: &str) -> Result<Vec<(String, String)>, StoreError> {
        let uploads = self.store.bucket(bucket)?.uploads();
        let named = uploads
            .iter()
            .map(|open| (open.upload.key.clone(), open.upload.upload_id.clone()));
        Ok(named.collect())
    }
}

fn stored(version: &Arc<Version>) -> Stored {
    Stored {
        version_id: version.version_id.to_string(),
        written: version.written,
        object: version.object().map(stored_object),
    }
}

fn stored_object(object: &Object) -> StoredObject {
    let envelope = &object.envelope;
    let key = envelope.kms_key_arn().map(str::to_owned);
    StoredObject {
        etag: object.etag.clone(),
        encryption: match envelope.mode() {
            Mode::SseS3 => Encryption::SseS3,
            Mode::SseKms => Encryption::SseKms {
                key,
                bucket_key: envelope.bucket_key(),
            },
            Mode::DsseKms => Encryption::DsseKms { key },
            Mode::SseC => Encryption::SseC {
                key_md5: envelope
                    .customer_key_md5_base64()
                    .unwrap_or_default()
                    .to_owned(),
            },
        },
        kept: format!(
            "{} {:?} {:?}",
            object.size, object.checksum, object.properties
        ),
    }
}
