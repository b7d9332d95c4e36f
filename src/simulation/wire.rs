//! The HTTP line: from the SDK to the embedded S3 without a socket, and what goes wrong on the way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};

use super::faults::Fault;
use super::scenario::BUCKET;
use super::world::World;

/// Who is at the other end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The so-manieth runner.
    Runner(u32),
    /// Somebody else, who writes to the same bucket.
    Writer,
    /// Who sets things up and looks afterwards.
    Judge,
}

/// What a request is about, as far as the simulation cares.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: &'static str,
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
    pub upload: Option<String>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of the state may be drawn anew in each run.
        let key = match self.key.split_once("/journal/") {
            Some((_, number)) => number.trim_start_matches('0'),
            None if self.is_of_the_job() => &self.key,
            None => "(state)",
        };
        write!(f, "{} {key}", self.operation)?;
        match &self.version {
            // Ids are drawn by the store, others in each run.
            Some(_) => write!(f, " (version)"),
            None => Ok(()),
        }
    }
}

/// Requests that a permit is needed for.
pub const WRITES: [&str; 7] = [
    "CopyObject",
    "UpdateObjectEncryption",
    "CreateMultipartUpload",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "DeleteObject",
];

impl Asked {
    fn of(request: &Request<Bytes>) -> Self {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        let value = |name: &str| {
            let found = parameters.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| *value)
        };
        let has = |name: &str| value(name).is_some();
        let copies = request.headers().contains_key("x-amz-copy-source");
        // The simulation's keys need no decoding.
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let operation = match request.method().as_str() {
            "HEAD" => "HeadObject",
            "PUT" if has("partNumber") && copies => "UploadPartCopy",
            "PUT" if has("encryption") => "UpdateObjectEncryption",
            "PUT" if copies => "CopyObject",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "DELETE" => "DeleteObject",
            "GET" if has("uploadId") => "ListParts",
            "GET" if has("versions") => "ListObjectVersions",
            "GET" if has("tagging") => "GetObjectTagging",
            "GET" if key.is_empty() => "ListObjects",
            "GET" => "GetObject",
            _ => "?",
        };
        Self {
            operation,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: value("versionId").map(str::to_owned),
            upload: value("uploadId").map(str::to_owned),
        }
    }

    /// Whether it is about the job's bucket, and not about its state.
    pub fn is_of_the_job(&self) -> bool {
        self.bucket == BUCKET
    }

    pub fn is_head(&self) -> bool {
        self.operation == "HeadObject"
    }

    pub fn writes(&self) -> bool {
        self.is_of_the_job() && WRITES.contains(&self.operation)
    }

    /// Whether S3 may find out that it fails when it has said 200 already.
    pub fn may_fail_inside(&self) -> bool {
        matches!(
            self.operation,
            "CopyObject" | "UploadPartCopy" | "CompleteMultipartUpload"
        )
    }

    /// Whether an answer without content is none.
    pub fn tells_something(&self) -> bool {
        !matches!(
            self.operation,
            "HeadObject"
                | "UpdateObjectEncryption"
                | "AbortMultipartUpload"
                | "DeleteObject"
                | "GetObject"
        )
    }
}

/// One end of the line.
#[derive(Clone, Debug)]
pub struct Line {
    pub world: Arc<World>,
    pub by: By,
}

impl HttpClient for Line {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let line = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().expect("a request");
            let mut request =
                request.map(|body| Bytes::copy_from_slice(body.bytes().expect("in memory")));
            // As a client does when it puts a request on a connection.
            let host = request.uri().authority().expect("a host").as_str();
            let host = HeaderValue::from_str(host).expect("text");
            request.headers_mut().insert(HOST, host);
            let answer = line.exchange(request).await;
            let answer = answer.ok_or_else(|| ConnectorError::io("the line is cut".into()))?;
            Ok(HttpResponse::try_from(answer.map(Into::into)).expect("an answer"))
        })
    }
}

impl Line {
    /// One request and its answer, or none.
    async fn exchange(self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let asked = Asked::of(&request);
        let By::Runner(runner) = self.by else {
            return Some(self.world.apply(self.by, &asked, request).await);
        };
        let world = self.world;
        world.step(runner, || format!("asks {asked}")).await;
        let _in_flight = world.sent(runner, &asked);
        let (fault, there, back) = world.weather(runner, &asked);
        tokio::time::sleep(there).await;
        let late = match fault {
            Some(Fault::Late(late)) => late,
            _ => Duration::ZERO,
        };
        let real = if fault.is_none_or(Fault::is_applied) {
            // The store goes on with what it has begun, whether anybody waits for it or not.
            let (world, asked) = (Arc::clone(&world), asked.clone());
            let at_work = world.at_work();
            let work = tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let answer = world.apply(self.by, &asked, request).await;
                drop(at_work);
                answer
            });
            Some(work.await.expect("the store answers"))
        } else {
            None
        };
        let status = real.as_ref().map(|answer| answer.status().as_u16());
        if fault == Some(Fault::Slow) {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        tokio::time::sleep(back).await;
        let answer = match fault {
            None => real,
            Some(fault) => fault.answer(&asked, real),
        };
        world
            .step(runner, || {
                let told = answer.as_ref().map(|answer| answer.status().as_u16());
                match fault {
                    None => format!("{asked}: {}", status.unwrap_or_default()),
                    Some(fault) => format!("{asked}: {status:?}, told {told:?} ({fault:?})"),
                }
            })
            .await;
        world.told(runner, &asked, answer.as_ref());
        answer
    }
}
