//! Requests that are sent so often that the SDK's machinery would be most of their cost: HeadObject and CopyObject.
//!
//! The SDK builds its interceptors, bags of configuration, endpoint rules and choice of an auth scheme anew for each request,
//! which is about three quarters of what a request costs here. None of that comes out otherwise for the second request to a
//! bucket. So the first one goes the SDK's way, and what came out is remembered as the bucket's [`Way`] (`learn`): the
//! connector, which is the SDK's own with its TLS, pool and proxy, where requests go, and what they are signed for. Those that
//! follow are written and read by the SDK's own code for the operation, so that they say the same, and signed by its own
//! crate; only what is between is left out. A bucket whose requests are signed in any other manner than plainly stays with the
//! SDK.

mod learn;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::ConfigBag;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::error::{BoxError, BuildError, ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::{CopyObject, CopyObjectError, CopyObjectOutput};
use aws_sdk_s3::operation::head_object::{HeadObject, HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::interceptors::context::Input;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{
    DeserializeResponse as _, SerializeRequest as _, SharedRequestSerializer,
    SharedResponseDeserializer,
};
use http_body_util::{BodyExt as _, Limited};

use super::credentials::Signer;
use super::error::translate;
use super::headers::only_text;
use crate::event::{Operation, ResponseClass};
use crate::object::ObjectRef;
use crate::s3_error::S3Error;

pub(super) use learn::Learn;

/// Buckets whose ways are remembered; requests to any other go the SDK's way. A job has one, and a few for its files.
const WAYS_MAX: usize = 8;

/// The longest answer that is read. Source: S3's are below 2 KiB; a store may have more to say.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// SHA-256 of no bytes, as `x-amz-content-sha256` has it: neither request has a body.
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What goes around the SDK's machinery.
pub(super) struct Direct {
    signer: Signer,
    ways: RwLock<Vec<(String, Known)>>,
    head: Wording,
    copy: Wording,
}

/// What is known of a bucket.
#[derive(Clone)]
enum Known {
    Way(Arc<Way>),
    /// There is no way but the SDK's.
    None,
}

/// How requests get to a bucket.
pub(super) struct Way {
    connector: SharedHttpConnector,
    /// All of the URI before the key's slash.
    endpoint: String,
    region: String,
    /// Headers that say who we are.
    agent: Vec<(&'static str, String)>,
}

/// How an operation's requests are written and its answers read.
struct Wording {
    operation: &'static str,
    of_the_sdk: ConfigBag,
}

impl Wording {
    fn of(operation: Operation, sdks: &impl RuntimePlugin) -> Self {
        let mut of_the_sdk = ConfigBag::base();
        if let Some(layer) = sdks.config() {
            of_the_sdk.push_shared_layer(layer);
        }
        Self {
            operation: operation.name(),
            of_the_sdk,
        }
    }

    fn write(&self, input: Input) -> Result<HttpRequest, BoxError> {
        let serializer = self.of_the_sdk.load::<SharedRequestSerializer>();
        let serializer = serializer.expect("every operation of the SDK has one");
        serializer.serialize_input(input, &mut ConfigBag::base())
    }

    #[expect(
        clippy::result_large_err,
        reason = "it is the SDK's, and taken apart at once"
    )]
    fn read<O, E>(&self, response: HttpResponse) -> Result<O, SdkError<E>>
    where
        O: fmt::Debug + Send + Sync + 'static,
        E: Error + Send + Sync + 'static,
    {
        let deserializer = self.of_the_sdk.load::<SharedResponseDeserializer>();
        let deserializer = deserializer.expect("every operation of the SDK has one");
        let read = deserializer.deserialize_nonstreaming_with_config(&response, &self.of_the_sdk);
        let error = match read {
            Ok(output) => return Ok(output.downcast().expect("the operation's own output")),
            Err(error) => error,
        };
        let mut told = None;
        let other = error.map_operation_error(|error| told = error.downcast().ok());
        Err(match told {
            Some(told) => SdkError::service_error(told, response),
            None => SdkError::response_error(other.to_string(), response),
        })
    }
}

impl Direct {
    pub(super) fn new(signer: Signer) -> Self {
        Self {
            signer,
            ways: RwLock::default(),
            head: Wording::of(Operation::HeadObject, &HeadObject::new()),
            copy: Wording::of(Operation::CopyObject, &CopyObject::new()),
        }
    }

    /// The way to an object's bucket, where it is known. The SDK refuses keys that are blank, and shall be the one who does.
    pub(super) fn way(&self, object: ObjectRef<'_>) -> Option<Arc<Way>> {
        if object.key.trim().is_empty() {
            return None;
        }
        match self.known(object.bucket)? {
            Known::Way(way) => Some(way),
            Known::None => None,
        }
    }

    fn known(&self, bucket: &str) -> Option<Known> {
        let ways = self.ways.read().unwrap_or_else(PoisonError::into_inner);
        let of_the_bucket = ways.iter().find(|(name, _)| name == bucket);
        of_the_bucket.map(|(_, known)| known.clone())
    }

    fn remember(&self, bucket: String, way: Option<Way>) {
        let mut ways = self.ways.write().unwrap_or_else(PoisonError::into_inner);
        if ways.len() < WAYS_MAX && ways.iter().all(|(name, _)| *name != bucket) {
            let known = way.map_or(Known::None, |way| Known::Way(Arc::new(way)));
            ways.push((bucket, known));
        }
    }

    /// Sends a HeadObject.
    pub(super) async fn head(
        &self,
        way: Arc<Way>,
        input: Result<Input, BuildError>,
    ) -> Result<HeadObjectOutput, S3Error> {
        self.send::<_, HeadObjectError>(&self.head, &way, input, None)
            .await
    }

    /// Sends a CopyObject, with an Expires header to the letter.
    pub(super) async fn copy(
        &self,
        way: Arc<Way>,
        input: Result<Input, BuildError>,
        expires: Option<String>,
    ) -> Result<CopyObjectOutput, S3Error> {
        self.send::<_, CopyObjectError>(&self.copy, &way, input, expires)
            .await
    }

    async fn send<O, E>(
        &self,
        wording: &Wording,
        way: &Way,
        input: Result<Input, BuildError>,
        expires: Option<String>,
    ) -> Result<O, S3Error>
    where
        O: fmt::Debug + Send + Sync + 'static,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let connection = CaptureSmithyConnection::new();
        let sent = async {
            let input = input.map_err(SdkError::construction_failure)?;
            let request = wording.write(input);
            let mut request = request.map_err(SdkError::construction_failure)?;
            if let Some(expires) = expires {
                // It came as a header, so it can go as one.
                let _ = request.headers_mut().try_insert("expires", expires);
            }
            let (credentials, number) = self.signer.credentials().await.map_err(undelivered)?;
            way.address(&mut request).map_err(undelivered)?;
            way.sign(&mut request, credentials, SystemTime::now())
                .map_err(undelivered)?;
            request.add_extension(connection.clone());
            let response = way.exchange(request).await?;
            self.signer.hear(number, &response);
            wording.read::<O, E>(response)
        };
        let answer: Result<O, SdkError<E>> = sent.await;
        answer.map_err(|error| {
            let error = translate(wording.operation, error);
            if is_of_the_server(&error)
                && let Some(connection) = connection.get()
            {
                connection.poison();
            }
            error
        })
    }
}

/// Whether the next request should rather go over another connection, where another server may be: what the SDK does after
/// errors of this kind.
fn is_of_the_server(error: &S3Error) -> bool {
    error.class() == ResponseClass::ServerError && error.http_status != 501
}

/// What went wrong before anything was sent counts as what the SDK makes of it: a request that nobody took.
fn undelivered<E>(error: impl Into<BoxError>) -> SdkError<E> {
    SdkError::dispatch_failure(ConnectorError::other(error.into(), None))
}

impl Way {
    /// Adds what is the same for every request.
    fn address(&self, request: &mut HttpRequest) -> Result<(), BoxError> {
        request.uri_mut().set_endpoint(&self.endpoint)?;
        for (name, value) in &self.agent {
            request.headers_mut().try_insert(*name, value.clone())?;
        }
        Ok(())
    }

    fn sign(
        &self,
        request: &mut HttpRequest,
        credentials: Credentials,
        now: SystemTime,
    ) -> Result<(), BoxError> {
        // As S3 wants it. Source: S3 API Reference, "Signature calculations for the Authorization header".
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(learn::SERVICE)
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let signable = SignableRequest::new(
            request.method(),
            request.uri(),
            request.headers().iter(),
            SignableBody::Precomputed(SHA256_OF_NOTHING.to_owned()),
        )?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        for header in signature.into_parts().0 {
            let value = header.value().to_owned();
            request.headers_mut().try_insert(header.name(), value)?;
        }
        Ok(())
    }

    /// Sends a request and reads the whole answer.
    async fn exchange<E>(&self, request: HttpRequest) -> Result<HttpResponse, SdkError<E>> {
        let answer = self.connector.call(request).await;
        let mut response = answer.map_err(SdkError::dispatch_failure)?;
        let headers = response.headers_mut();
        only_text(headers);
        // An Expires to the letter has this name in the SDK's own code.
        if let Some(expires) = headers.remove("expires") {
            headers
                .try_insert("expiresstring", expires)
                .map_err(undelivered)?;
        }
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => {
                *response.body_mut() = SdkBody::from(body.to_bytes());
                Ok(response)
            }
            Err(error) => Err(SdkError::response_error(error, response)),
        }
    }
}

/// Whose credentials these are is nobody's business.
impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
