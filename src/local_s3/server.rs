//! The embedded S3 as a server: a thread of its own with a runtime of its own, so that whoever starts
//! it, asynchronous or not, gets a handle and nothing else.
//!
//! A folder has one server at a time (the store locks it), one pair of credentials and one access log. No
//! client can hang or exhaust the server: connections are counted, headers and bodies have to arrive
//! in time, answers have to be taken in time.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::route::S3Route;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Result, s3_error};
use tokio::sync::watch;

use super::access_log::{ACCESS_LOG_FILE, AccessLog, Counted};
use super::connections;
use super::credentials::{CREDENTIALS_FILE, Credentials};
use super::front::{Front, LocalHost, SignedOnly};
use super::service::{Routes, Service};
use super::store::{Store, StoreError};
use super::vault::{Vault, VaultError};

/// An AWS configuration file in the data folder, for `AWS_CONFIG_FILE`: endpoint, region, addressing.
pub const CONFIG_FILE: &str = "aws-config";

/// Threads that serve requests. Two leave room for the client on a small machine.
const WORKER_THREADS: usize = 2;

/// Threads for reading and writing files.
const BLOCKING_THREADS_MAX: usize = 16;

/// For running requests to finish once the server stops.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Bodies that are read whole: 10,000 parts with checksums, or 1,000 keys to delete, fit well.
const XML_BYTES_MAX: usize = 8 << 20;

/// s3s keeps the file of a browser upload (POST with a form) in memory.
const POST_BYTES_MAX: u64 = 16 << 20;

/// What a server serves, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with everything the server keeps. It is made when it is missing.
    pub data: PathBuf,
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Nothing: the folder's own, made once and kept in `aws-credentials`.
    pub credentials: Option<Credentials>,
    /// The region that buckets are in.
    pub region: String,
    /// Whether [`LocalS3::requests`] counts: for tests, since it remembers every key.
    pub count_requests: bool,
}

impl Options {
    /// A server with the folder's own credentials, in `us-east-1`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data: data.into(),
            listen,
            credentials: None,
            region: "us-east-1".to_owned(),
            count_requests: false,
        }
    }

    /// A server for tests: a free port on the loopback interface, counting requests.
    #[must_use]
    pub fn for_tests(data: impl Into<PathBuf>) -> Self {
        Self {
            count_requests: true,
            ..Self::new(data, SocketAddr::from(([127, 0, 0, 1], 0)))
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder is in use by another server, damaged, or cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder's keys are damaged or cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A file of the server's own.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start the server's threads: {0}")]
    Thread(#[source] io::Error),
}

/// A running server. Dropping it stops it, as [`LocalS3::stop`] does.
#[derive(Debug)]
pub struct LocalS3 {
    addr: SocketAddr,
    credentials: Credentials,
    region: String,
    folder: PathBuf,
    log: Arc<AccessLog>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LocalS3 {
    /// Opens the folder, or makes it, and serves it until the handle is stopped or dropped.
    ///
    /// # Errors
    /// When the folder is being served already, is damaged or cannot be used, and when the address
    /// cannot be listened on.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let store = Store::open(&options.data)?;
        let vault = Vault::open(&options.data)?;
        let service = Service::new(store, vault, &options.region);
        let route = Routes::new(&service);
        Self::serve_service(options, service, route)
    }

    fn serve_service(
        options: Options,
        service: impl S3,
        route: impl S3Route,
    ) -> Result<Self, StartError> {
        let Options {
            data: folder,
            listen,
            credentials,
            region,
            count_requests,
        } = options;
        let in_file = |name: &str| {
            let path = folder.join(name);
            move |source| StartError::File { path, source }
        };
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => Credentials::of_folder(&folder).map_err(in_file(CREDENTIALS_FILE))?,
        };
        let log = AccessLog::open(&folder, count_requests).map_err(in_file(ACCESS_LOG_FILE))?;
        let log = Arc::new(log);
        let listening = |source| StartError::Listen { listen, source };
        let listener = StdTcpListener::bind(listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let addr = listener.local_addr().map_err(listening)?;
        write_config(&folder, addr, &region).map_err(in_file(CONFIG_FILE))?;

        let front = Front {
            service: build(service, route, &credentials),
            log: Arc::clone(&log),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("local-s3")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("local-s3".to_owned())
            .spawn(move || {
                let log = Arc::clone(&front.log);
                // The service, and with it the lock on the folder, goes with the last connection.
                runtime.block_on(connections::run(listener, front, stopped));
                runtime.shutdown_timeout(SHUTDOWN_GRACE);
                log.flush();
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            addr,
            credentials,
            region,
            folder,
            log,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What clients take for their endpoint: `http://` and the address.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The pair that it answers to.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The Region that its buckets are in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The folder with its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How often what was asked for and how it was answered. A request is counted before its answer
    /// leaves. Empty unless [`Options::count_requests`] is set.
    #[must_use]
    pub fn requests(&self) -> std::collections::BTreeMap<Counted, u64> {
        self.log.counts()
    }

    /// An SDK client for this server: path style, its credentials, no retries.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        use aws_sdk_s3::config::retry::RetryConfig;
        use aws_sdk_s3::config::{
            BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation,
            ResponseChecksumValidation,
        };
        let (access_key, secret_key) =
            (self.credentials.access_key(), self.credentials.secret_key());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .endpoint_url(self.endpoint_url())
            .credentials_provider(Credentials::new(
                access_key, secret_key, None, None, "local-s3",
            ))
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Stops accepting, gives running requests a few seconds, writes the log out, and waits for
    /// all that. It blocks; asynchronous callers that care use a blocking thread.
    pub fn stop(mut self) {
        self.stop_and_wait();
    }

    fn stop_and_wait(&mut self) {
        // An error means that the server is gone already.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded S3 panicked");
        }
    }
}

impl Drop for LocalS3 {
    fn drop(&mut self) {
        self.stop_and_wait();
    }
}

/// The one account: s3s's own answers an unknown access key in a way that AWS does not.
struct OneAccount {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneAccount {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

pub(super) fn build(
    service: impl S3,
    route: impl S3Route,
    credentials: &Credentials,
) -> s3s::service::S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_BYTES_MAX;
    config.post_object_max_file_size = POST_BYTES_MAX;
    let mut builder = S3ServiceBuilder::new(service);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(OneAccount {
        access_key: credentials.access_key().to_owned(),
        secret_key: credentials.secret_key().into(),
    });
    builder.set_access(SignedOnly);
    builder.set_host(LocalHost);
    builder.set_route(route);
    builder.build()
}

fn write_config(folder: &Path, addr: SocketAddr, region: &str) -> io::Result<()> {
    let text = format!(
        "[default]\nregion = {region}\nendpoint_url = http://{addr}\ns3 =\n  addressing_style = path\n"
    );
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(folder.join(CONFIG_FILE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::error::ProvideErrorMetadata;
    use s3s::dto::{HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput};
    use s3s::{Body, S3Request, S3Response};
    use std::fs;
    use std::io::Read;
    use std::net::TcpStream as StdTcpStream;

    struct Empty;

    #[async_trait::async_trait]
    impl S3 for Empty {
        async fn list_buckets(
            &self,
            _: S3Request<ListBucketsInput>,
        ) -> S3Result<S3Response<ListBucketsOutput>> {
            Ok(S3Response::new(ListBucketsOutput::default()))
        }

        async fn head_bucket(
            &self,
            _: S3Request<HeadBucketInput>,
        ) -> S3Result<S3Response<HeadBucketOutput>> {
            Err(s3_error!(NoSuchBucket))
        }
    }

    struct NoRoute;

    #[async_trait::async_trait]
    impl S3Route for NoRoute {
        fn is_match(
            &self,
            _: &hyper::Method,
            _: &hyper::Uri,
            _: &hyper::HeaderMap,
            _: &mut hyper::http::Extensions,
        ) -> bool {
            false
        }

        async fn call(&self, _: S3Request<Body>) -> S3Result<S3Response<Body>> {
            Err(s3_error!(NotImplemented))
        }
    }

    fn start(data: &Path) -> LocalS3 {
        LocalS3::serve_service(Options::for_tests(data), Empty, NoRoute).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_served_counted_and_logged() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path());
        let client = server.client();
        client.list_buckets().send().await.unwrap();
        client
            .head_bucket()
            .bucket("gone")
            .send()
            .await
            .unwrap_err();
        let error = client
            .get_object()
            .bucket("bkt")
            .key("k")
            .send()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some("NotImplemented"));

        let counted = |operation: &str, bucket: &str, key: &str, status| Counted {
            operation: operation.to_owned(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            status,
        };
        let expected = [
            (counted("REST.GET.OBJECT", "bkt", "k", 501), 1),
            (counted("REST.GET.SERVICE", "", "", 200), 1),
            (counted("REST.HEAD.BUCKET", "gone", "", 404), 1),
        ];
        assert_eq!(server.requests().into_iter().collect::<Vec<_>>(), expected);

        let access_key = server.credentials().access_key().to_owned();
        server.stop();
        let log = fs::read_to_string(folder.path().join(ACCESS_LOG_FILE)).unwrap();
        assert_eq!(log.lines().count(), 3);
        assert!(log.lines().all(|line| line.contains(&access_key)), "{log}");
    }

    #[test]
    fn strangers_are_turned_away_with_a_whole_error_document() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path());
        let mut stream = StdTcpStream::connect(server.addr()).unwrap();
        let request = b"GET /bkt/k?a=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-amz-request-id: "))
            .unwrap();
        let document = format!(
            "<Code>AccessDenied</Code><Message>Access Denied</Message>\
             <Resource>/bkt/k</Resource><RequestId>{id}</RequestId>"
        );
        assert!(answer.contains(&document), "{answer}");
    }

    #[test]
    fn a_folder_has_one_server_and_keeps_its_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let options = || Options::for_tests(folder.path());
        let first = LocalS3::start(options()).unwrap();
        let second = LocalS3::start(options()).unwrap_err();
        let in_use = matches!(second, StartError::Store(StoreError::InUse(_)));
        assert!(in_use, "{second}");
        let kept = first.credentials().clone();
        first.stop();
        let again = LocalS3::start(options()).unwrap();
        assert_eq!(again.credentials(), &kept);
        let config = fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
        assert!(config.contains(&again.endpoint_url()), "{config}");
    }
}
