//! What stands between the socket and s3s: one request in, one answer out.
//!
//! s3s knows the protocol; this layer adds what AWS adds around it: request ids, whole error
//! documents, the access log, and bounds on a client that stalls while sending or receiving.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::Credentials;
use s3s::host::{S3Host, VirtualHost};
use s3s::service::S3Service;
use s3s::{Body, S3Result, s3_error};
use time::OffsetDateTime;
use tokio::time::Sleep;

use super::access_log::{AccessLog, Counted, Entry, operation};
use super::error::{default_message, take_details};
use super::service::ACCOUNT_ID;

/// A client that sends no byte of its body for so long has lost its request.
/// Source: S3 answers RequestTimeout after about 20 seconds; local disks and debuggers want more.
const BODY_STALL_MAX: Duration = Duration::from_secs(60);

/// An error answered before the body was read would reset the connection under a client that is
/// still sending; so much of the body is read and dropped first, for so long.
const DRAIN_BYTES_MAX: u64 = 16 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Error documents are a few hundred bytes; a longer one is passed on as it is not.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Hosts under which a bucket can be the first label: `bucket.localhost`.
const HOST_SUFFIX: &str = ".localhost";

/// The one answer whose ETag S3 writes without quotes, and s3s with them.
const OBJECT_ATTRIBUTES: &str = "REST.GET.OBJECT_ATTRIBUTES";
/// Such an answer has 1,000 parts with checksums at most.
const ATTRIBUTES_BYTES_MAX: usize = 1 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const EXPECTED_OWNER: HeaderName = HeaderName::from_static("x-amz-expected-bucket-owner");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// A request extension: who signed it, once that is known.
#[derive(Debug, Clone, Default)]
pub struct Requester(Arc<OnceLock<String>>);

impl Requester {
    /// Notes the access key of a request whose signature held.
    pub fn note(&self, access_key: &str) {
        self.0.get_or_init(|| access_key.to_owned());
    }
}

/// Lets every signed request in and no other: there is one owner here.
#[derive(Debug, Clone, Copy)]
pub struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result {
        let credentials = request.credentials();
        admit(credentials, request.headers())?;
        let access_key = credentials.map(|c| c.access_key.clone());
        if let (Some(access_key), Some(requester)) =
            (access_key, request.extensions_mut().get::<Requester>())
        {
            requester.note(&access_key);
        }
        Ok(())
    }
}

/// Admits a request whose signature held, unless it expects the bucket to be somebody else's.
///
/// # Errors
/// 403 AccessDenied.
pub(super) fn admit(credentials: Option<&Credentials>, headers: &HeaderMap) -> S3Result {
    let expected_owner = headers.get(EXPECTED_OWNER);
    let is_owner = expected_owner.is_none_or(|owner| owner == ACCOUNT_ID);
    if credentials.is_none() || !is_owner {
        return Err(s3_error!(AccessDenied, "Access Denied"));
    }
    Ok(())
}

/// `bucket.localhost:9000` names a bucket; every other host has it in the path.
#[derive(Debug, Clone, Copy)]
pub struct LocalHost;

impl S3Host for LocalHost {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match bucket_of_host(host) {
            Some(bucket) => VirtualHost::new("localhost").with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

fn bucket_of_host(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix(HOST_SUFFIX)
        .filter(|bucket| !bucket.is_empty())
}

/// One server's requests.
#[derive(Clone)]
pub struct Front {
    pub service: S3Service,
    pub log: Arc<AccessLog>,
}

impl Front {
    /// Answers one request; never fails, because a failure is an answer too.
    pub async fn answer(&self, request: Request<Incoming>, remote: IpAddr) -> Response<AnswerBody> {
        let started = Instant::now();
        let requester = Requester::default();
        let asked = Asked::new(&request, remote);
        let expects_continue = request.headers().contains_key(header::EXPECT);

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
        if asked.entry.operation == OBJECT_ATTRIBUTES && response.status() == StatusCode::OK {
            response = with_bare_etag(response).await;
        }
        let headers = response.headers_mut();
        for (name, value) in [(REQUEST_ID, &asked.request_id), (HOST_ID, &asked.host_id)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.insert(header::SERVER, HeaderValue::from_static("reseal-local-s3"));

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
    fn new(request: &Request<Incoming>, remote: IpAddr) -> Self {
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

/// The bucket and the key of a request, decoded; empty where there is none.
pub(super) fn address(host: Option<&str>, path: &str) -> (String, String) {
    let path = percent_decoded(path.strip_prefix('/').unwrap_or(path));
    match host.and_then(bucket_of_host) {
        Some(bucket) => (bucket.to_owned(), path),
        None => split_bucket(&path),
    }
}

fn copy_source(header: &str) -> (String, String) {
    let path = header.split_once("?versionId=").map_or(header, |(p, _)| p);
    let path = path.replace('+', " ");
    split_bucket(&percent_decoded(path.strip_prefix('/').unwrap_or(&path)))
}

fn split_bucket(path: &str) -> (String, String) {
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (bucket.to_owned(), key.to_owned())
}

/// For the log only: what is no UTF-8 is shown with replacement characters.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Completes an error document as AWS writes it, and tells its code. An answer to HEAD and a 304 have
/// no document.
async fn whole_error(response: Response<Body>, asked: &Asked) -> (Response<Body>, Option<String>) {
    let (mut parts, body) = response.into_parts();
    let details = take_details(&mut parts.headers);
    let document = match Limited::new(body, ERROR_BYTES_MAX).collect().await {
        Ok(collected) => String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let code = element(&document, "Code").map(str::to_owned);
    let is_bare = asked.entry.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
    let body = match &code {
        _ if is_bare => Body::empty(),
        None => Body::from(document),
        Some(code) => {
            let xml = HeaderValue::from_static("application/xml");
            parts.headers.insert(header::CONTENT_TYPE, xml);
            Body::from(with_elements(&document, code, &details, asked))
        }
    };
    (Response::from_parts(parts, body), code)
}

async fn with_bare_etag(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let Ok(document) = Limited::new(body, ATTRIBUTES_BYTES_MAX).collect().await else {
        parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        return Response::from_parts(parts, Body::empty());
    };
    let document = String::from_utf8_lossy(&document.to_bytes()).into_owned();
    let document = match element(&document, "ETag") {
        Some(etag) => document.replacen(etag, etag.trim_matches('"'), 1),
        None => document,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(document))
}

fn with_elements(
    document: &str,
    code: &str,
    details: &[(String, String)],
    asked: &Asked,
) -> String {
    let mut added = String::new();
    let mut add = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = write!(added, "<{name}>{}</{name}>", escaped(value));
    };
    if element(document, "Message").is_none() {
        add("Message", default_message(code));
    }
    for (name, value) in details {
        add(name, value);
    }
    match code {
        "NoSuchBucket" => add("BucketName", &asked.entry.bucket),
        "NoSuchKey" | "NoSuchVersion" => add("Key", &asked.entry.key),
        _ => {}
    }
    let path = asked.entry.uri.split('?').next().unwrap_or_default();
    add("Resource", path);
    add("RequestId", &asked.request_id);
    add("HostId", &asked.host_id);
    match document.rfind("</Error>") {
        Some(end) => format!("{}{added}{}", &document[..end], &document[end..]),
        None => document.to_owned(),
    }
}

fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let start = document.find(&format!("<{name}>"))? + name.len() + 2;
    let end = document[start..].find("</")?;
    Some(&document[start..start + end])
}

fn escaped(value: &str) -> String {
    let mut xml = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            // Control characters have no place in XML 1.0, not even escaped.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
    xml
}

/// Where a request body goes that nobody read to its end.
struct Unread<B>(Arc<Mutex<Option<B>>>);

impl<B> Clone for Unread<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Unread<B> {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drain(&self) {
        let Some(mut body) = self.slot().take() else {
            return;
        };
        let read = async {
            let mut bytes = 0;
            while bytes < DRAIN_BYTES_MAX
                && let Some(Ok(frame)) = body.frame().await
            {
                bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
        };
        // Too slow or too long: the connection is closed, as without draining.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, read).await;
    }
}

/// A request's body, which fails when the client stalls.
struct RequestBody<B: HttpBody<Data = Bytes> + Unpin> {
    incoming: Option<B>,
    patience: Duration,
    stall: Pin<Box<Sleep>>,
    unread: Unread<B>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> RequestBody<B> {
    fn new(incoming: B, patience: Duration, unread: Unread<B>) -> Self {
        Self {
            incoming: Some(incoming),
            patience,
            stall: Box::pin(tokio::time::sleep(patience)),
            unread,
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<s3s::StdError>,
{
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let deadline = tokio::time::Instant::now() + this.patience;
                this.stall.as_mut().reset(deadline);
                if !matches!(frame, Some(Ok(_))) {
                    this.incoming = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(this.stall.as_mut().poll(cx));
                this.incoming = None;
                let error = io::Error::new(io::ErrorKind::TimedOut, "the request body stalled");
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let exact_zero = || SizeHint::with_exact(0);
        self.incoming
            .as_ref()
            .map_or_else(exact_zero, HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            *self.unread.slot() = Some(incoming);
        }
    }
}

/// An answer's body, which writes the access log when its last byte is handed over, or when the
/// client leaves.
pub struct AnswerBody {
    body: Body,
    log: Arc<AccessLog>,
    /// Empty once written.
    entries: Vec<Entry>,
    started: Instant,
    bytes: u64,
}

impl AnswerBody {
    fn new(body: Body, log: Arc<AccessLog>, entries: Vec<Entry>, started: Instant) -> Self {
        let mut answer = Self {
            body,
            log,
            entries,
            started,
            bytes: 0,
        };
        if answer.body.is_end_stream() {
            answer.write();
        }
        answer
    }

    fn write(&mut self) {
        for mut entry in self.entries.drain(..) {
            entry.bytes_sent = self.bytes;
            entry.total_ms = self.started.elapsed().as_millis();
            self.log.write(&entry);
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.write();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_addressed_by_path_or_by_host() {
        let table = [
            (None, "/", "", ""),
            (Some("127.0.0.1:9000"), "/b", "b", ""),
            (Some("localhost:9000"), "/b/", "b", ""),
            (
                Some("localhost:9000"),
                "/b/a%2Fb%20c%25%zz",
                "b",
                "a/b c%%zz",
            ),
            (Some("b.localhost:9000"), "/a/c", "b", "a/c"),
            (Some("b.c.localhost"), "//x", "b.c", "/x"),
        ];
        for (host, path, bucket, key) in table {
            assert_eq!(address(host, path), (bucket.to_owned(), key.to_owned()));
        }
        let source = copy_source("/b/a+b%2Bc?versionId=v");
        assert_eq!(source, ("b".to_owned(), "a b+c".to_owned()));
    }

    #[tokio::test]
    async fn a_body_that_stalls_fails_and_one_that_is_left_is_drained() {
        use futures::stream::{self, StreamExt as _};
        use http_body_util::StreamBody;
        type Frames = Vec<Result<Frame<Bytes>, io::Error>>;
        let frames = || -> Frames { vec![Ok(Frame::data(Bytes::from_static(b"abc")))] };
        let patience = Duration::from_millis(20);

        let unread = Unread(Arc::default());
        let stalling = StreamBody::new(stream::iter(frames()).chain(stream::pending()));
        let mut body = RequestBody::new(stalling, patience, unread.clone());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        drop(body);
        assert!(unread.slot().is_none());

        let unread = Unread(Arc::default());
        let left = StreamBody::new(stream::iter(frames()));
        drop(RequestBody::new(left, patience, unread.clone()));
        assert!(unread.slot().is_some());
        unread.drain().await;
        assert!(unread.slot().is_none());
    }

    #[test]
    fn elements_are_found_and_values_escaped() {
        let document = "<Error><Code>NoSuchKey</Code></Error>";
        assert_eq!(element(document, "Code"), Some("NoSuchKey"));
        assert_eq!(element(document, "Message"), None);
        assert_eq!(escaped("a<b>&\u{1}\n"), "a&lt;b&gt;&amp;\u{fffd}\n");
    }
}
