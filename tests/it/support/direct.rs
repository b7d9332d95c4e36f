//! The library's S3 client alone, without a job around it.

use reseal::encryption::{KmsTarget, Target};
use reseal::object::{ContentHeaders, ObjectRef, Tag};
use reseal::s3::{Connection, S3, StaticCredentials};
use reseal::s3_error::S3Error;

use super::canned::Canned;
use super::{BUCKET, Store};

/// The library's own client.
pub async fn connect(endpoint_url: String, access_key: &str, secret_key: &str) -> S3 {
    S3::connect(&Connection {
        endpoint_url: Some(endpoint_url),
        region: Some("us-east-1".to_owned()),
        credentials: Some(StaticCredentials {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        }),
        path_style: true,
        ..Connection::default()
    })
    .await
}

/// The same, of an embedded S3.
pub async fn connect_to(store: &Store) -> S3 {
    let keys = store.s3.credentials();
    let url = store.s3.endpoint_url();
    connect(url, keys.access_key(), keys.secret_key()).await
}

/// The same, of a store that says one thing.
pub async fn canned(head: &[u8], body: &str) -> (Canned, S3) {
    let store = Canned::start(head, body);
    let s3 = connect(store.url(), "key", "secret").await;
    (store, s3)
}

/// The current version of a key.
pub fn object(key: &str) -> ObjectRef<'_> {
    ObjectRef {
        bucket: BUCKET,
        key,
        version_id: None,
    }
}

/// One version of a key.
pub fn version<'a>(key: &'a str, version_id: &'a str) -> ObjectRef<'a> {
    ObjectRef {
        version_id: Some(version_id),
        ..object(key)
    }
}

pub fn kms(arn: &str) -> Target {
    Target::SseKms(KmsTarget {
        key_id: Some(arn.to_owned()),
        ..KmsTarget::default()
    })
}

pub fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(answer: Result<T, S3Error>) -> String {
    answer.expect_err("a refusal").code
}

/// Content headers, all of them.
pub fn headers() -> ContentHeaders {
    ContentHeaders {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        content_encoding: Some("identity".to_owned()),
        content_disposition: Some("attachment; filename=\"a b\"".to_owned()),
        content_language: Some("de-AT".to_owned()),
        cache_control: Some("max-age=60".to_owned()),
        expires: Some("Wed, 21 Oct 2037 07:28:00 GMT".to_owned()),
    }
}
