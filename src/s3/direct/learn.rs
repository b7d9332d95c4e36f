//! What the SDK does with a bucket's requests, seen once.

use std::sync::Arc;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::copy_object::CopyObjectInput;
use aws_sdk_s3::operation::head_object::HeadObjectInput;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::{Direct, SHA256_OF_NOTHING, Way};

/// The service that requests are signed for. S3 Express and Object Lambda have others, and rules of their own.
pub(super) const SERVICE: &str = "s3";

/// How a plain signature begins. Source: S3 API Reference, "Signature calculations for the Authorization header".
const PLAINLY_SIGNED: &str = "AWS4-HMAC-SHA256 Credential=";

/// Headers that say who we are.
const AGENT: [&str; 2] = ["user-agent", "x-amz-user-agent"];

/// Headers that the SDK adds for others than the operation: those that are made anew for each request, and those that are left
/// out, since they number the SDK's attempts. Expires comes from us (`send_expires`).
const MADE_ANEW: [&str; 7] = [
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "expires",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// Looks at the requests that go the SDK's way, until the ways to their buckets are known.
#[derive(Debug)]
pub(in crate::s3) struct Learn(pub(in crate::s3) Arc<Direct>);

/// The bucket that a request is for, where its way is not known yet.
#[derive(Debug)]
struct For(String);

/// A request as the operation has written it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) path_and_query: String,
    /// Names.
    pub(super) headers: Vec<String>,
}

impl Storable for For {
    type Storer = StoreReplace<Self>;
}

impl Storable for Written {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Learn {
    fn name(&self) -> &'static str {
        "Learn"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        request: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input();
        let bucket = match input.downcast_ref::<HeadObjectInput>() {
            Some(head) => head.bucket(),
            None => input
                .downcast_ref::<CopyObjectInput>()
                .and_then(CopyObjectInput::bucket),
        };
        if let Some(bucket) = bucket.filter(|bucket| self.0.known(bucket).is_none()) {
            request
                .interceptor_state()
                .store_put(For(bucket.to_owned()));
        }
        Ok(())
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        request: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if request.load::<For>().is_some() {
            let written = context.request();
            let names = written.headers().iter().map(|(name, _)| name.to_owned());
            let written = Written {
                path_and_query: written.uri().to_owned(),
                headers: names.collect(),
            };
            request.interceptor_state().store_put(written);
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        request: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(For(bucket)), Some(written)) = (request.load::<For>(), request.load::<Written>())
        else {
            return Ok(());
        };
        let connector = connector(components, request);
        let way = connector.and_then(|connector| way(context.request(), written, connector));
        match &way {
            Some(way) => tracing::debug!(bucket, way.endpoint, way.region, "requests go directly"),
            None => tracing::debug!(bucket, "requests go the SDK's way"),
        }
        self.0.remember(bucket.clone(), way);
        Ok(())
    }
}

/// The connector of a request, taken as the SDK takes it: the same settings are the same pool.
fn connector(components: &RuntimeComponents, request: &ConfigBag) -> Option<SharedHttpConnector> {
    let timeouts = request.load::<TimeoutConfig>()?;
    let mut settings = HttpConnectorSettings::builder();
    settings
        .set_connect_timeout(timeouts.connect_timeout())
        .set_read_timeout(timeouts.read_timeout());
    let client = components.http_client()?;
    Some(client.http_connector(&settings.build(), components))
}

/// The way that a signed request goes, if it can be gone by others. What is not known is not imitated.
pub(super) fn way(
    signed: &HttpRequest,
    written: &Written,
    connector: SharedHttpConnector,
) -> Option<Way> {
    let headers = signed.headers();
    let signature = headers.get("authorization")?.strip_prefix(PLAINLY_SIGNED)?;
    let (scope, _) = signature.split_once(',')?;
    // An access key of a store of one's own may hold a slash.
    let mut scope = scope.rsplit('/');
    let ("aws4_request", SERVICE, region) = (scope.next()?, scope.next()?, scope.next()?) else {
        return None;
    };
    let is_ours = |name: &str| {
        AGENT.contains(&name)
            || MADE_ANEW.contains(&name)
            || written.headers.iter().any(|written| written == name)
    };
    let is_plain = headers.get("x-amz-content-sha256") == Some(SHA256_OF_NOTHING)
        && headers.iter().all(|(name, _)| is_ours(name));
    let agent = AGENT.map(|name| Some((name, headers.get(name)?.to_owned())));
    is_plain.then_some(Way {
        connector,
        endpoint: signed
            .uri()
            .strip_suffix(&written.path_and_query)?
            .to_owned(),
        region: region.to_owned(),
        agent: agent.into_iter().flatten().collect(),
    })
}
