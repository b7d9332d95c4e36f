//! The S3 that objects live in: the only room that knows the AWS SDK.
//!
//! [`S3`] is a concrete client over the SDK with the SDK's retries off and an end to every request: each method sends exactly
//! one request (a listing as many as it has pages), and what went wrong comes back as an [`S3Error`] that [`crate::retry`] can
//! judge. Nothing here decides.
//!
//! - `look`, `copy`, `update`, `multipart`: an object, and the three ways of rewriting it.
//! - `properties`, `versions`: what a look does not show.
//! - `read`, `scratch`: bytes back, and objects to try things on.
//! - `list`: pages of a listing.
//! - `bucket`: what is true of a whole bucket.
//! - `transfer`: whole objects to and from local files.
//! - `small`: objects of a program's own, in memory.
//! - `credentials`: who we are to the store, renewed in time.
//! - `direct`: how looks and copies, which are nearly all requests of a job, go around the SDK's machinery.
//! - `request`, `headers`, `error`: what requests have in common; answers that the SDK would stumble over; errors.

mod bucket;
mod copy;
mod credentials;
mod direct;
mod error;
mod headers;
mod list;
mod look;
mod multipart;
mod properties;
mod read;
mod request;
mod scratch;
mod small;
mod transfer;
mod update;
mod versions;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    AppName, IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use credentials::{Renewing, Signer, TellRefused};
use direct::{Direct, Learn};

pub use copy::{Carry, Copy, Destination, Directive, SourceCondition, Written};
pub use list::ListPage;
pub use look::Ask;
pub use multipart::{Complete, CopyPart, Create, Part, PartsPage, Upload, UploadsPage};
pub use read::{ReadBack, unpaced};
pub use scratch::Put;
pub use small::{Listed, Page, PutBytes, TOO_LARGE};
pub use transfer::{Fetched, UPLOAD_PART_BYTES};
pub use versions::{TOO_MANY_VERSIONS, VERSIONS_MAX, Version};

use crate::s3_error::{EMPTY_ANSWER, NO_ANSWER, NOT_SENT, S3Error, UNREADABLE_ANSWER};

/// How long a connection may take to come up. Source: the SDK's own default is 3.1 s; a busy store on a loaded network gets more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Region that requests are signed for where nothing names one: compatible stores mostly don't care.
const REGION_DEFAULT: &str = "us-east-1";

/// Where the store is and who we are to it. Credentials come from the SDK's default chain: environment, profile, web
/// identity, container, instance.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// A store other than AWS.
    pub endpoint_url: Option<String>,
    /// The Region; else the SDK's chain, else `us-east-1`.
    pub region: Option<String>,
    /// A profile of AWS's configuration files.
    pub profile: Option<String>,
    /// Credentials for a store of our own making; everywhere else the SDK's chain finds them.
    pub credentials: Option<StaticCredentials>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    pub path_style: bool,
}

/// An access key and its secret, which no `Debug` shows.
#[derive(Clone)]
pub struct StaticCredentials {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// A connection to one store.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    direct: Arc<Direct>,
    endpoint_url: Option<String>,
}

impl S3 {
    /// Prepares a client. Nothing is sent, so that it can't fail here: a wrong endpoint or missing credentials show with
    /// the first request.
    pub async fn connect(connection: &Connection) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .app_name(AppName::new("reseal").expect("letters only"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(profile) = &connection.profile {
            loader = loader.profile_name(profile);
        }
        let given = connection.credentials.as_ref().map(|keys| {
            let (access, secret) = (keys.access_key.as_str(), keys.secret_key.as_str());
            Credentials::from_keys(access, secret, None)
        });
        if let Some(given) = &given {
            loader = loader.credentials_provider(given.clone());
        }
        if let Some(region) = &connection.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &connection.endpoint_url {
            loader = loader.endpoint_url(url);
            if connection.region.is_none() {
                loader = loader.region(region_of_files(connection));
            }
        }
        let shared = loader.load().await;
        let endpoint_url = connection
            .endpoint_url
            .clone()
            .or_else(|| endpoint_of_service(&shared))
            .or_else(|| shared.endpoint_url().map(str::to_owned));
        let region = shared
            .region()
            .cloned()
            .unwrap_or(Region::from_static(REGION_DEFAULT));
        let mut config = aws_sdk_s3::config::Builder::from(&shared);
        let signer = if let Some(given) = given {
            Signer::Fixed(given)
        } else {
            let renewing = Arc::new(of_the_chain(connection.profile.clone(), region.clone()));
            let provider: Arc<dyn ProvideCredentials> = renewing.clone();
            config = config
                .credentials_provider(provider)
                .identity_cache(IdentityCache::no_cache())
                .interceptor(TellRefused(Arc::clone(&renewing)));
            Signer::Renewing(renewing)
        };
        let config = config
            .region(region)
            .force_path_style(connection.path_style);
        Self::of(config, signer, endpoint_url)
    }

    /// A client whose requests go to `http`, wherever that takes them.
    #[cfg(test)]
    pub(crate) fn over(
        http: impl aws_sdk_s3::config::HttpClient + 'static,
        keys: &StaticCredentials,
    ) -> Self {
        const NOWHERE: &str = "http://s3.test";
        let (access, secret) = (keys.access_key.as_str(), keys.secret_key.as_str());
        let credentials = Credentials::from_keys(access, secret, None);
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(credentials.clone())
            .region(Region::from_static(REGION_DEFAULT))
            .endpoint_url(NOWHERE)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        Self::of(config, Signer::Fixed(credentials), Some(NOWHERE.to_owned()))
    }

    fn of(
        config: aws_sdk_s3::config::Builder,
        signer: Signer,
        endpoint_url: Option<String>,
    ) -> Self {
        let direct = Arc::new(Direct::new(signer));
        Self {
            client: client(config.interceptor(Learn(Arc::clone(&direct)))),
            direct,
            endpoint_url,
        }
    }

    /// The store's address, wherever it was named: flag, AWS's variables or profile. `None` is AWS.
    pub fn endpoint_url(&self) -> Option<&str> {
        self.endpoint_url.as_deref()
    }

    /// Whether the store is AWS, by its address: no endpoint of one's own, or one of AWS's (a VPC endpoint, say).
    pub fn is_aws(&self) -> bool {
        let Some(url) = &self.endpoint_url else {
            return true;
        };
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.split(['/', ':', '?']).next().unwrap_or_default();
        [".amazonaws.com", ".amazonaws.com.cn"]
            .iter()
            .any(|suffix| host.ends_with(suffix))
    }
}

/// Credentials of the SDK's default chain, which is built anew for each fetch: it keeps what it has read of AWS's files.
fn of_the_chain(profile: Option<String>, region: Region) -> Renewing {
    Renewing::new(Box::new(move || {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
        if let Some(profile) = &profile {
            loader = loader.profile_name(profile);
        }
        Box::pin(async move {
            let nobody = || CredentialsError::not_loaded("there is no chain of credentials");
            let shared = loader.load().await;
            let chain = shared.credentials_provider().ok_or_else(nobody)?;
            chain.provide_credentials().await
        })
    }))
}

/// A client with what every one of ours has.
fn client(config: aws_sdk_s3::config::Builder) -> Client {
    let config = config
        // Compatible stores refuse checksums that they don't know; what needs one asks for it.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(headers::OnlyText);
    Client::from_conf(config.build())
}

/// The endpoint that AWS's variables and files name for S3 alone, found as the SDK's client finds it.
fn endpoint_of_service(shared: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three are given");
    shared.service_config()?.load_config(key)
}

/// The Region of the environment or of AWS's files. A store of one's own is not in the Region of the machine that reseal
/// runs on, so the instance's metadata service is not asked.
fn region_of_files(connection: &Connection) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &connection.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
        .or_else(REGION_DEFAULT)
}

/// Sends a request, gives it an end, and translates what went wrong. The SDK by itself waits for ever for an answer that does
/// not come.
fn answer<T, E>(
    limit: Duration,
    operation: &'static str,
    request: impl Future<Output = Result<T, SdkError<E>>>,
) -> impl Future<Output = Result<T, S3Error>>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // The SDK's futures are large. In a box they burden nobody's task, which has room for all that it may come to send.
    let request = Box::pin(request);
    async move {
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer.map_err(|error| error::translate(operation, error)),
            Err(_) => Err(silence(limit, operation)),
        }
    }
}

/// Gives an end to a request that goes around the SDK's machinery.
async fn within<T>(
    limit: Duration,
    operation: &'static str,
    request: impl Future<Output = Result<T, S3Error>>,
) -> Result<T, S3Error> {
    let answer = tokio::time::timeout(limit, request).await;
    answer.unwrap_or_else(|_| Err(silence(limit, operation)))
}

/// The error of a request whose time is over.
fn silence(limit: Duration, operation: &'static str) -> S3Error {
    let message = format!("no answer within {} s", limit.as_secs());
    ours(operation, NO_ANSWER, 0, message)
}

/// An error that no store answered.
fn ours(operation: &'static str, code: &str, http_status: u16, message: String) -> S3Error {
    S3Error {
        operation,
        code: code.to_owned(),
        http_status,
        message,
        request_id: None,
        retry_after: None,
    }
}

/// An answer that says OK and lacks what S3 always sends.
fn empty(operation: &'static str, message: &str) -> S3Error {
    ours(operation, EMPTY_ANSWER, 200, message.to_owned())
}

/// An answer that says OK, and what else it says makes no sense.
fn unreadable(operation: &'static str, message: &str) -> S3Error {
    ours(operation, UNREADABLE_ANSWER, 200, message.to_owned())
}

/// A request that makes no sense.
fn not_sent(operation: &'static str, message: String) -> S3Error {
    ours(operation, NOT_SENT, 0, message)
}
