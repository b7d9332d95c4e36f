//! Objects in a store: put under a mode, looked at, read back.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption, StorageClass};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use super::BUCKET;

/// A customer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseC(pub [u8; 32]);

impl SseC {
    pub fn base64(self) -> String {
        BASE64.encode(self.0)
    }

    pub fn md5(self) -> String {
        BASE64.encode(Md5::digest(self.0))
    }
}

/// What an object is put under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Under {
    SseS3,
    /// A KMS key.
    Kms(String),
    /// Two layers under a KMS key.
    Dsse(String),
    Customer(SseC),
}

impl Under {
    pub fn customer_key(&self) -> Option<SseC> {
        match self {
            Self::Customer(key) => Some(*key),
            Self::SseS3 | Self::Kms(_) | Self::Dsse(_) => None,
        }
    }

    /// Whether a look shows this mode under this key.
    pub fn is_shown_by(&self, head: &HeadObjectOutput) -> bool {
        let mode = head.server_side_encryption.as_ref();
        let kms_key = head.ssekms_key_id.as_deref();
        match self {
            Self::SseS3 => mode == Some(&ServerSideEncryption::Aes256),
            Self::Kms(key) => {
                mode == Some(&ServerSideEncryption::AwsKms) && kms_key == Some(key.as_str())
            }
            Self::Dsse(key) => {
                mode == Some(&ServerSideEncryption::AwsKmsDsse) && kms_key == Some(key.as_str())
            }
            Self::Customer(key) => head.sse_customer_key_md5 == Some(key.md5()),
        }
    }
}

/// Everything that a copy onto itself must keep.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    metadata: Vec<(String, String)>,
    content_type: Option<String>,
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    expires: Option<String>,
    storage_class: Option<StorageClass>,
    website_redirect: Option<String>,
    length: Option<i64>,
    tags: Vec<(String, String)>,
    /// Grantee and permission, sorted.
    pub grants: Vec<(String, String)>,
    lock: (Option<String>, Option<i64>, Option<String>),
    /// CRC64NVME, where it is over the whole object.
    checksum: Option<String>,
    pub body: Vec<u8>,
}

/// Puts an object with everything on it that a copy might lose.
pub async fn put(client: &Client, key: &str, body: &[u8], under: &Under) {
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from(body.to_vec()))
        .metadata("colour", "green")
        .metadata("number", "1,2 and 3")
        .metadata("greeting", "=?UTF-8?B?R3LDvMOfZSDigqw=?=")
        .content_type("text/x-test; charset=utf-8")
        .cache_control("max-age=60")
        .content_disposition("attachment; filename=\"a b.txt\"")
        .content_language("de-AT")
        .content_encoding("identity")
        .expires(DateTime::from_secs(2_364_220_800))
        .website_redirect_location("/elsewhere")
        .tagging("team=storage&cost%20centre=a%2Bb")
        .storage_class(StorageClass::StandardIa);
    let put = match under {
        Under::SseS3 => put.server_side_encryption(ServerSideEncryption::Aes256),
        Under::Kms(key) => put
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(key),
        Under::Dsse(key) => put
            .server_side_encryption(ServerSideEncryption::AwsKmsDsse)
            .ssekms_key_id(key),
        Under::Customer(key) => put
            .sse_customer_algorithm("AES256")
            .sse_customer_key(key.base64())
            .sse_customer_key_md5(key.md5()),
    };
    put.send()
        .await
        .unwrap_or_else(|error| panic!("put {key:?} {under:?}: {error:?}"));
}

/// Puts a small object that asks for nothing.
pub async fn put_plain(client: &Client, key: &str, body: &[u8]) {
    let put = client.put_object().bucket(BUCKET).key(key);
    let put = put.body(ByteStream::from(body.to_vec()));
    put.send()
        .await
        .unwrap_or_else(|error| panic!("put {key:?}: {error:?}"));
}

/// Puts many small objects, a few at a time.
pub async fn put_many(client: &Client, keys: &[String]) {
    use futures::stream::{self, StreamExt as _};
    stream::iter(keys)
        .for_each_concurrent(16, |key| put_plain(client, key, key.as_bytes()))
        .await;
}

pub async fn head(client: &Client, key: &str, customer_key: Option<SseC>) -> HeadObjectOutput {
    let mut head = client
        .head_object()
        .bucket(BUCKET)
        .key(key)
        .checksum_mode(ChecksumMode::Enabled);
    if let Some(customer_key) = customer_key {
        head = head
            .sse_customer_algorithm("AES256")
            .sse_customer_key(customer_key.base64())
            .sse_customer_key_md5(customer_key.md5());
    }
    head.send()
        .await
        .unwrap_or_else(|error| panic!("head {key:?}: {error:?}"))
}

/// The bytes, or status and code of the refusal.
pub async fn read(
    client: &Client,
    key: &str,
    customer_key: Option<SseC>,
) -> Result<Vec<u8>, (u16, String)> {
    let mut get = client.get_object().bucket(BUCKET).key(key);
    if let Some(customer_key) = customer_key {
        get = get
            .sse_customer_algorithm("AES256")
            .sse_customer_key(customer_key.base64())
            .sse_customer_key_md5(customer_key.md5());
    }
    match get.send().await {
        Ok(answer) => {
            let body = answer.body.collect().await.expect("a body");
            Ok(body.into_bytes().into())
        }
        Err(SdkError::ServiceError(error)) => Err((
            error.raw().status().as_u16(),
            error.err().code().unwrap_or_default().to_owned(),
        )),
        Err(error) => panic!("get {key:?}: {error:?}"),
    }
}

/// Looks at everything that must not change.
pub async fn kept(client: &Client, key: &str, customer_key: Option<SseC>) -> Kept {
    let head = head(client, key, customer_key).await;
    let tagging = client.get_object_tagging().bucket(BUCKET).key(key);
    let tagging = tagging.send().await.expect("tags");
    let mut tags: Vec<_> = tagging
        .tag_set()
        .iter()
        .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
        .collect();
    tags.sort();
    let acl = client.get_object_acl().bucket(BUCKET).key(key);
    let acl = acl.send().await.expect("an ACL");
    let mut grants: Vec<_> = acl
        .grants()
        .iter()
        .map(|grant| {
            let grantee = grant.grantee().expect("a grantee");
            let name = grantee.id().or(grantee.uri()).unwrap_or_default();
            let permission = grant.permission().expect("a permission").as_str();
            (name.to_owned(), permission.to_owned())
        })
        .collect();
    grants.sort();
    let mut metadata: Vec<_> = head
        .metadata
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    metadata.sort();
    Kept {
        metadata,
        content_type: head.content_type.clone(),
        cache_control: head.cache_control.clone(),
        content_disposition: head.content_disposition.clone(),
        content_encoding: head.content_encoding.clone(),
        content_language: head.content_language.clone(),
        expires: head.expires_string.clone(),
        storage_class: head.storage_class.clone(),
        website_redirect: head.website_redirect_location.clone(),
        length: head.content_length,
        tags,
        grants,
        lock: (
            head.object_lock_mode
                .as_ref()
                .map(|mode| mode.as_str().to_owned()),
            head.object_lock_retain_until_date.map(|at| at.secs()),
            head.object_lock_legal_hold_status
                .as_ref()
                .map(|hold| hold.as_str().to_owned()),
        ),
        checksum: head.checksum_crc64_nvme.clone(),
        body: read(client, key, customer_key).await.expect("readable"),
    }
}
