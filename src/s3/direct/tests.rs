//! The same is asked both ways, directly and the SDK's; the same must be sent and come of it.

mod answers;
mod learning;
mod requests;

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::config::{BehaviorVersion, Region, SharedCredentialsProvider, retry::RetryConfig};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorFuture};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::*;
use crate::encryption::{CustomerKey, Encryption, KmsTarget, Target};
use crate::object::{ObjectHead, ObjectRef};
use crate::s3::credentials::TellRefused;
use crate::s3::{Ask, Carry, Copy, Destination, Directive, S3, SourceCondition, Written};

const BUCKET: &str = "bucket";

/// What a CopyObject is answered with.
const COPIED: &str = "<CopyObjectResult><ETag>\"new\"</ETag></CopyObjectResult>";

type Answer = dyn Fn(&HttpRequest) -> HttpConnectorFuture + Send + Sync;

/// An HTTP client that notes what it is given.
#[derive(Clone)]
struct Wire {
    seen: Arc<Mutex<Vec<HttpRequest>>>,
    answer: Arc<Mutex<Arc<Answer>>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// One at whose end all is well.
    fn new() -> Self {
        let answer: Arc<Answer> = Arc::new(|request| {
            HttpConnectorFuture::ready(Ok(match request.method() {
                "HEAD" => response(200, &[("etag", b"\"e\""), ("content-length", b"1")], ""),
                _ => response(200, &[("x-amz-request-id", b"ID")], COPIED),
            }))
        });
        Self {
            seen: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        }
    }

    fn answers(
        &self,
        answer: impl Fn(&HttpRequest) -> HttpConnectorFuture + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    fn last(&self) -> HttpRequest {
        let seen = self.seen.lock().unwrap();
        seen.last()
            .expect("a request")
            .try_clone()
            .expect("no stream")
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _: &aws_smithy_runtime_api::client::http::HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl aws_smithy_runtime_api::client::http::HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = Arc::clone(&self.answer.lock().unwrap());
        let future = answer(&request);
        self.seen.lock().unwrap().push(request);
        future
    }
}

fn response(status: u16, headers: &[(&'static str, &[u8])], body: &str) -> HttpResponse {
    let mut answer = hyper::Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    let answer = answer.body(SdkBody::from(body)).expect("an answer");
    answer.try_into().expect("an answer")
}

fn credentials() -> Credentials {
    Credentials::new("AKID", "hush", Some("tok/en+=".to_owned()), None, "test")
}

/// A client over `wire` with these credentials.
fn client(wire: &Wire, endpoint: Option<&str>, signer: Signer) -> S3 {
    let mut config = aws_sdk_s3::config::Builder::new();
    let provider = match &signer {
        Signer::Fixed(credentials) => SharedCredentialsProvider::new(credentials.clone()),
        Signer::Renewing(renewing) => {
            config = config.interceptor(TellRefused(Arc::clone(renewing)));
            let provider: Arc<dyn ProvideCredentials> = Arc::clone(renewing) as _;
            SharedCredentialsProvider::from(provider)
        }
    };
    let mut config = config
        .behavior_version(BehaviorVersion::latest())
        .http_client(wire.clone())
        .credentials_provider(provider)
        .identity_cache(aws_sdk_s3::config::IdentityCache::no_cache())
        .region(Region::from_static("eu-central-1"))
        .retry_config(RetryConfig::disabled());
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    S3::of(config, signer, None)
}

/// One client for each way, to the same store.
struct Both {
    wire: Wire,
    direct: S3,
    sdk: S3,
}

impl Both {
    async fn to(endpoint: Option<&str>) -> Self {
        Self::with(endpoint, || Signer::Fixed(credentials())).await
    }

    async fn with(endpoint: Option<&str>, signer: impl Fn() -> Signer) -> Self {
        let wire = Wire::new();
        let direct = client(&wire, endpoint, signer());
        let first = direct.head(object("first"), Ask::default()).await;
        first.expect("a look, to learn from");
        assert!(direct.direct.way(object("k")).is_some());
        let sdk = client(&wire, endpoint, signer());
        sdk.direct.remember(BUCKET.to_owned(), None);
        Self { wire, direct, sdk }
    }

    /// Copies directly and the SDK's way. What came of it, and what was sent for it, if anything was.
    async fn copy(&self, copy: Copy<'_>) -> [(Result<Written, S3Error>, Option<HttpRequest>); 2] {
        let before = self.wire.count();
        let direct = self.direct.copy_in_place(copy).await;
        let of_direct = (self.wire.count() > before).then(|| self.wire.last());
        let before = self.wire.count();
        let sdk = self.sdk.copy_in_place(copy).await;
        let of_sdk = (self.wire.count() > before).then(|| self.wire.last());
        [(direct, of_direct), (sdk, of_sdk)]
    }

    /// Looks directly and the SDK's way.
    async fn look(
        &self,
        object: ObjectRef<'_>,
        ask: Ask<'_>,
    ) -> [(Result<ObjectHead, S3Error>, Option<HttpRequest>); 2] {
        let before = self.wire.count();
        let direct = self.direct.head(object, ask).await;
        let of_direct = (self.wire.count() > before).then(|| self.wire.last());
        let before = self.wire.count();
        let sdk = self.sdk.head(object, ask).await;
        let of_sdk = (self.wire.count() > before).then(|| self.wire.last());
        [(direct, of_direct), (sdk, of_sdk)]
    }
}

fn object(key: &str) -> ObjectRef<'_> {
    ObjectRef {
        bucket: BUCKET,
        key,
        version_id: None,
    }
}

fn head() -> ObjectHead {
    ObjectHead::bare("\"e\"".to_owned(), 1, Encryption::SseS3)
}

/// A plain copy.
fn copy<'a>(head: &'a ObjectHead, carry: &'a Carry) -> Copy<'a> {
    Copy {
        object: object("k"),
        head,
        target: &Target::SseS3,
        source_key: None,
        directive: Directive::Copy,
        carry,
        source: SourceCondition::Etag,
        destination: Destination::Any,
    }
}
