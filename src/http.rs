//! Plain HTTP for what is not S3: whether another application is well, and a Pushgateway.
//!
//! One request on a connection of its own, over TLS where the address says so. Nothing is tried again: who asks knows when to.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::rt::{Read, Write};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service as _;

/// Most time that a request takes, from the connection to the head of its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Source: Prometheus, "Exposition formats", text format 0.0.4: what a Pushgateway takes. Others don't care.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An address of the web: `http` or `https`, with a host, and without credentials in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Uri);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What is typed may have a password in it, and is not told.
        let uri: Uri = text.parse().map_err(|_| "no URL".to_owned())?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err("credentials in a URL are not supported".to_owned())
            }
            (Some("http" | "https"), Some(_)) => Ok(Self(uri)),
            _ => Err("give http://host… or https://host…".to_owned()),
        }
    }
}

impl Address {
    /// Whether it names a host and nothing of it.
    pub fn is_bare(&self) -> bool {
        self.0.query().is_none() && matches!(self.0.path(), "" | "/")
    }

    /// That path at the same host, or below this path.
    ///
    /// # Panics
    /// `path` has characters that no path has.
    pub fn below(&self, path: &str) -> Self {
        let mut parts = self.0.clone().into_parts();
        let path = format!("{}{path}", self.0.path().trim_end_matches('/'));
        parts.path_and_query = Some(path.parse().expect("letters and slashes"));
        Self(Uri::from_parts(parts).expect("only its path is another"))
    }
}

/// Without its query, which may be secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let host = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{host}{}", self.0.path())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The system has no certificates to trust.
    #[error("no certificates to trust: {0}")]
    NoRoots(std::io::Error),
    /// The connection did not come up, or broke.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It took too long.
    #[error("no answer within {} s", ANSWER_TIME_MAX.as_secs())]
    TimedOut,
}

/// A connection, whatever it goes over.
trait Stream: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Stream for T {}

/// Sends requests to one address.
pub struct Http {
    address: Address,
    /// For `https`.
    tls: Option<HttpsConnector<HttpConnector>>,
}

impl Http {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpError::NoRoots`], for an `https` address.
    pub fn to(address: &Address) -> Result<Self, HttpError> {
        let tls = match address.0.scheme_str() {
            Some("https") => {
                let roots = HttpsConnectorBuilder::new().with_native_roots();
                let connector = roots.map_err(HttpError::NoRoots)?.https_only();
                Some(connector.enable_http1().build())
            }
            _ => None,
        };
        Ok(Self {
            address: address.clone(),
            tls,
        })
    }

    /// The status of a GET.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&self) -> Result<u16, HttpError> {
        self.send(Method::GET, String::new()).await
    }

    /// The status of a POST of text.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn post(&self, text: String) -> Result<u16, HttpError> {
        self.send(Method::POST, text).await
    }

    async fn send(&self, method: Method, text: String) -> Result<u16, HttpError> {
        match timeout(ANSWER_TIME_MAX, self.sent(method, text)).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(HttpError::NoAnswer(causes(&*error))),
            Err(_) => Err(HttpError::TimedOut),
        }
    }

    async fn sent(
        &self,
        method: Method,
        text: String,
    ) -> Result<u16, Box<dyn Error + Send + Sync>> {
        let uri = &self.address.0;
        let request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", PathAndQuery::as_str))
            .header(HOST, uri.authority().map_or("", Authority::as_str))
            .header(USER_AGENT, concat!("reseal/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, TEXT)
            .body(Full::<Bytes>::from(text))?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(connector) => Box::new(connector.clone().call(uri.clone()).await?),
            None => {
                let host = uri.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let port = uri.port_u16().unwrap_or(80);
                Box::new(TokioIo::new(TcpStream::connect((host, port)).await?))
            }
        };
        let (mut sender, connection) = http1::handshake(stream).await?;
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // The answer may be there by then.
            ended = connection => {
                ended?;
                answer.await?
            }
        };
        Ok(answer.status().as_u16())
    }
}

/// An error, and what is behind it.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        told.push_str(": ");
        told.push_str(&cause.to_string());
        next = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_no_secret() {
        for (text, expected) in [
            ("http://host:1/health?token=x", Ok("http://host:1/health")),
            ("https://host", Ok("https://host/")),
            ("http://user:secret@host/", Err("credentials")),
            ("ftp://host/", Err("http://host")),
            ("host:1", Err("http://host")),
            ("", Err("no URL")),
            ("http://", Err("no URL")),
        ] {
            match (text.parse::<Address>(), expected) {
                (Ok(address), Ok(told)) => assert_eq!(address.to_string(), told),
                (Err(error), Err(phrase)) => assert!(error.contains(phrase), "{text}: {error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn a_path_is_put_below_what_there_is() {
        let below = |text: &str| {
            text.parse::<Address>()
                .unwrap()
                .below("/metrics/job/reseal")
        };
        assert_eq!(
            below("http://host").to_string(),
            "http://host/metrics/job/reseal"
        );
        assert_eq!(
            below("http://host/a/").to_string(),
            "http://host/a/metrics/job/reseal"
        );
    }
}
