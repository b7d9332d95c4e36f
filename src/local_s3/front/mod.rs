//! What stands between the socket and s3s: one request in, one answer out.
//!
//! s3s knows the protocol; this layer adds what AWS adds around it: request ids, whole error
//! documents, the access log, and bounds on a client that stalls while sending or receiving.

mod address;
mod admission;
mod body;
mod document;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use s3s::Body;
use s3s::service::S3Service;
use time::OffsetDateTime;

pub use address::LocalHost;
pub(super) use address::address;
pub(super) use admission::admit;
pub use admission::{Requester, SignedOnly};
pub use body::AnswerBody;

use super::access_log::{AccessLog, Counted, Entry, operation};
use address::copy_source;
use body::{RequestBody, Unread};
pub use document::VersionsInOrder;
use document::{whole_error, with_bare_etag, with_versions_in_order};

/// A client that sends no byte of its body for so long has lost its request.
/// Source: S3 answers RequestTimeout after about 20 seconds; local disks and debuggers want more.
const BODY_STALL_MAX: Duration = Duration::from_secs(60);

/// The one answer whose ETag S3 writes without quotes, and s3s with them.
const OBJECT_ATTRIBUTES: &str = "REST.GET.OBJECT_ATTRIBUTES";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// A response extension: the status of an answer for which s3s has another one.
#[derive(Debug, Clone, Copy)]
pub struct StatusInstead(pub StatusCode);

/// One server's requests.
#[derive(Clone)]
pub struct Front {
    pub service: S3Service,
    pub log: Arc<AccessLog>,
}

impl Front {
    /// Answers one request; never fails, because a failure is an answer too.
    pub async fn answer<B>(&self, request: Request<B>, remote: IpAddr) -> Response<AnswerBody>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<s3s::StdError>,
    {
        let started = Instant::now();
        let requester = Requester::default();
        let asked = Asked::new(&request, remote);
        let expects_continue = request.headers().contains_key(header::EXPECT);
        let is_empty =
            (request.headers().get(header::CONTENT_LENGTH)).is_some_and(|length| length == "0");

        let unread = Unread(Arc::default());
        let mut request = request.map(|body| {
            Body::http_body_unsync(RequestBody::new(body, BODY_STALL_MAX, unread.clone()))
        });
        request.extensions_mut().insert(requester.clone());

        let mut response = self.service.call(request).await.unwrap_or_else(|error| {
            tracing::error!(?error, "a request failed without an answer");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        });
        let mut error_code = None;
        if response.status().as_u16() >= 300 {
            (response, error_code) = whole_error(response, &asked).await;
            if !expects_continue {
                unread.drain().await;
            }
        }
        if let Some(StatusInstead(status)) = response.extensions().get().copied() {
            *response.status_mut() = status;
        }
        // s3s answers every HEAD with 200; for a part of an object S3 says 206, as for GET.
        let is_part = response.headers().contains_key(header::CONTENT_RANGE);
        if is_part && response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        if asked.entry.operation == OBJECT_ATTRIBUTES && response.status() == StatusCode::OK {
            response = with_bare_etag(response).await;
        }
        if let Some(order) = response.extensions_mut().remove::<VersionsInOrder>() {
            response = with_versions_in_order(response, order).await;
        }
        let headers = response.headers_mut();
        for (name, value) in [(REQUEST_ID, &asked.request_id), (HOST_ID, &asked.host_id)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.insert(header::SERVER, HeaderValue::from_static("reseal-local-s3"));
        if expects_continue && is_empty {
            // Nobody reads the body that there isn't, so that no "100 Continue" is sent; botocore, which waited for it, then
            // stumbles over the next answer of the connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }

        let status = response.status().as_u16();
        let entries = asked.entries(&response, &requester, error_code, started);
        for entry in &entries {
            self.log.count(Counted {
                operation: entry.operation.clone(),
                bucket: entry.bucket.clone(),
                key: entry.key.clone(),
                status,
            });
        }
        let log = Arc::clone(&self.log);
        response.map(|body| AnswerBody::new(body, log, entries, started))
    }
}

/// What is to be remembered of a request whose parts have moved on to s3s.
struct Asked {
    entry: Entry,
    /// Bucket and key that a copy reads.
    source: Option<(String, String)>,
    request_id: String,
    host_id: String,
}

impl Asked {
    fn new<B>(request: &Request<B>, remote: IpAddr) -> Self {
        let (headers, uri) = (request.headers(), request.uri());
        let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let host = text(header::HOST);
        let (bucket, key) = address(host.as_deref(), uri.path());
        let parameters: Vec<&str> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|parameter| parameter.split('=').next())
            .collect();
        let (authentication, signature_version) = authentication(headers, &parameters);
        let source = text(COPY_SOURCE);
        let operation = match bucket.is_empty() {
            true => format!("REST.{}.SERVICE", request.method()),
            false => operation(
                request.method(),
                !key.is_empty(),
                source.is_some(),
                &parameters,
            ),
        };
        let request_id = format!("{:016X}", rand::random::<u64>());
        let entry = Entry {
            time: OffsetDateTime::now_utc(),
            remote,
            requester: None,
            request_id: request_id.clone(),
            operation,
            bucket,
            key,
            method: request.method().clone(),
            uri: uri.to_string(),
            status: 0,
            error_code: None,
            bytes_sent: 0,
            total_ms: 0,
            turnaround_ms: 0,
            referer: text(header::REFERER),
            user_agent: text(header::USER_AGENT),
            version_id: None,
            host,
            authentication,
            signature_version,
        };
        Self {
            entry,
            source: source.map(|source| copy_source(&source)),
            request_id,
            host_id: format!("{:032x}", rand::random::<u128>()),
        }
    }

    fn entries(
        self,
        response: &Response<Body>,
        requester: &Requester,
        error_code: Option<String>,
        started: Instant,
    ) -> Vec<Entry> {
        let version_id = response.headers().get(VERSION_ID);
        let entry = Entry {
            requester: requester.0.get().cloned(),
            status: response.status().as_u16(),
            error_code,
            turnaround_ms: started.elapsed().as_millis(),
            version_id: version_id.and_then(|id| Some(id.to_str().ok()?.to_owned())),
            ..self.entry
        };
        let source = self.source.map(|(bucket, key)| Entry {
            operation: format!("{}_GET", entry.operation),
            bucket,
            key,
            version_id: None,
            ..entry.clone()
        });
        std::iter::once(entry).chain(source).collect()
    }
}

fn authentication(
    headers: &HeaderMap,
    parameters: &[&str],
) -> (Option<&'static str>, Option<&'static str>) {
    let authorization = headers.get(header::AUTHORIZATION);
    if let Some(value) = authorization {
        let v4 = value.as_bytes().starts_with(b"AWS4");
        return (Some("AuthHeader"), Some(if v4 { "SigV4" } else { "SigV2" }));
    }
    let has = |name: &str| parameters.iter().any(|p| p.eq_ignore_ascii_case(name));
    if has("x-amz-signature") {
        (Some("QueryString"), Some("SigV4"))
    } else if has("signature") {
        (Some("QueryString"), Some("SigV2"))
    } else {
        (None, None)
    }
}
