//! Who asked for what: a log in the form of S3's server access logs, and counts for tests.
//!
//! Source of the line format: S3 User Guide, "Amazon S3 server access log format". Fields that have
//! no meaning here are `-`. A copy is two lines, as on AWS: `REST.COPY.OBJECT` for the destination
//! and `REST.COPY.OBJECT_GET` for the source.
//!
//! A request is counted before its answer leaves, and logged before the last byte of it does, so
//! whoever has the answer finds the count. The file lags behind by at most a second.
//! Secrets stay out: the parameters of a presigned URL that give access are cut.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::Method;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// The name of the log in the data folder.
pub const ACCESS_LOG_FILE: &str = "access.log";

/// Distinct requests that are counted one by one; further ones are counted with an empty key.
pub const COUNTED_REQUESTS_MAX: usize = 200_000;

const LOG_TIME: &[FormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// Parameters of a URL whose values are secrets or give access.
const SECRET_PARAMETERS: [&str; 4] = [
    "x-amz-signature",
    "x-amz-security-token",
    "signature",
    "x-amz-server-side-encryption-customer-key",
];

/// What a request asked for, by the names of the access log, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// As in the log, for example `REST.COPY.OBJECT`.
    pub operation: String,
    /// Empty for requests that name no bucket.
    pub bucket: String,
    /// Decoded; empty for requests that name no key.
    pub key: String,
    /// The HTTP status.
    pub status: u16,
}

/// One line of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    pub time: OffsetDateTime,
    pub remote: IpAddr,
    /// The access key of a request whose signature held.
    pub requester: Option<String>,
    pub request_id: String,
    pub operation: String,
    pub bucket: String,
    pub key: String,
    pub method: Method,
    /// Path and query as they came.
    pub uri: String,
    pub status: u16,
    pub error_code: Option<String>,
    pub bytes_sent: u64,
    pub total_ms: u128,
    pub turnaround_ms: u128,
    pub referer: Option<String>,
    pub user_agent: Option<String>,
    pub version_id: Option<String>,
    pub host: Option<String>,
    /// `AuthHeader`, `QueryString`, or nothing for an anonymous request.
    pub authentication: Option<&'static str>,
    pub signature_version: Option<&'static str>,
}

/// The log file and the counts of one server.
#[derive(Debug)]
pub struct AccessLog {
    file: Mutex<BufWriter<File>>,
    /// After a failed write the log is silent: a full disk must not fail requests.
    failed: AtomicBool,
    counts: Option<Mutex<BTreeMap<Counted, u64>>>,
}

impl AccessLog {
    /// Opens the folder's log for appending. `count` is for tests: a long-lived server would only
    /// collect keys.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(folder: &Path, count: bool) -> io::Result<Self> {
        let path = folder.join(ACCESS_LOG_FILE);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file: Mutex::new(BufWriter::new(file)),
            failed: AtomicBool::new(false),
            counts: count.then(Mutex::default),
        })
    }

    /// Counts a request; `source` is the bucket and key that a copy reads.
    pub fn count(&self, request: Counted) {
        let Some(counts) = &self.counts else { return };
        let mut counts = lock(counts);
        let known = counts.contains_key(&request);
        let request = if known || counts.len() < COUNTED_REQUESTS_MAX {
            request
        } else {
            Counted {
                key: String::new(),
                ..request
            }
        };
        *counts.entry(request).or_default() += 1;
    }

    /// What was counted so far; empty when counting is off.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Counted, u64> {
        self.counts
            .as_ref()
            .map(|counts| lock(counts).clone())
            .unwrap_or_default()
    }

    /// Appends a line.
    pub fn write(&self, entry: &Entry) {
        self.attempt(|file| file.write_all(entry.line().as_bytes()));
    }

    /// Hands what was written to the operating system.
    pub fn flush(&self) {
        self.attempt(BufWriter::flush);
    }

    fn attempt(&self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = act(&mut lock(&self.file)) {
            self.failed.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "the access log cannot be written; requests go on without it");
        }
    }
}

/// A panic while holding one of these locks leaves nothing half done, so poison is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn line(&self) -> String {
        let time = self.time.format(LOG_TIME).unwrap_or_default();
        let uri = without_secrets(&self.uri);
        format!(
            "local {bucket} [{time}] {remote} {requester} {id} {operation} {key} \
             \"{method} {uri} HTTP/1.1\" {status} {error} {sent} - {total} {turnaround} \
             \"{referer}\" \"{agent}\" {version} - {signature} - {authentication} {host} - - -\n",
            bucket = field(Some(&self.bucket)),
            remote = self.remote,
            requester = field(self.requester.as_deref()),
            id = self.request_id,
            operation = self.operation,
            key = field(Some(&self.key)),
            method = self.method,
            uri = quoted(&uri),
            status = self.status,
            error = field(self.error_code.as_deref()),
            sent = self.bytes_sent,
            total = self.total_ms,
            turnaround = self.turnaround_ms,
            referer = quoted(self.referer.as_deref().unwrap_or("-")),
            agent = quoted(self.user_agent.as_deref().unwrap_or("-")),
            version = field(self.version_id.as_deref()),
            signature = self.signature_version.unwrap_or("-"),
            authentication = self.authentication.unwrap_or("-"),
            host = field(self.host.as_deref()),
        )
    }
}

/// A field outside quotes: percent-encoded, so that a key with spaces or line breaks stays one field.
fn field(value: Option<&str>) -> String {
    let value = value.unwrap_or_default();
    if value.is_empty() {
        return "-".to_owned();
    }
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:[]".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A field inside quotes: what would end the field or the line is percent-encoded.
fn quoted(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' => encoded.push_str("%22"),
            c if c.is_control() => encoded.push_str(&format!("%{:02X}", u32::from(c))),
            c => encoded.push(c),
        }
    }
    encoded
}

fn without_secrets(uri: &str) -> String {
    let Some((path, query)) = uri.split_once('?') else {
        return uri.to_owned();
    };
    let parameters = query.split('&').map(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        let secret = SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str());
        if secret {
            format!("{name}=***")
        } else {
            parameter.to_owned()
        }
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}

/// The operation's name in the log: `REST.<method>.<resource>`.
/// `parameters` are the names in the query.
#[must_use]
pub fn operation(method: &Method, has_key: bool, is_copy: bool, parameters: &[&str]) -> String {
    let has = |name: &str| parameters.contains(&name);
    let verb = match (method, is_copy) {
        (&Method::PUT, true) => "COPY",
        _ => method.as_str(),
    };
    let subresource = parameters
        .iter()
        .find_map(|name| subresource(name, has_key));
    let resource = match subresource {
        Some(resource) => resource,
        None if has("uploadId") && has("partNumber") => "PART",
        None if has("uploadId") => "UPLOAD",
        None if has_key => "OBJECT",
        None if has("delete") => "MULTI_OBJECT_DELETE",
        None => "BUCKET",
    };
    format!("REST.{verb}.{resource}")
}

/// The resource that a query parameter names, in the words of the log. Names that the User Guide does
/// not list are formed in the same way.
fn subresource(parameter: &str, has_key: bool) -> Option<&'static str> {
    Some(match parameter {
        "acl" => "ACL",
        "tagging" if has_key => "OBJECT_TAGGING",
        "tagging" => "TAGGING",
        "encryption" if has_key => "OBJECT_ENCRYPTION",
        "encryption" => "ENCRYPTION",
        "annotation" => "OBJECT_ANNOTATION",
        "attributes" => "OBJECT_ATTRIBUTES",
        "retention" => "OBJECT_RETENTION",
        "restore" => "OBJECT_RESTORE",
        "legal-hold" => "OBJECT_LEGAL_HOLD",
        "object-lock" => "OBJECT_LOCK_CONFIGURATION",
        "uploads" => "UPLOADS",
        "versions" => "BUCKETVERSIONS",
        "versioning" => "VERSIONING",
        "location" => "LOCATION",
        "policy" => "BUCKETPOLICY",
        "policyStatus" => "BUCKETPOLICYSTATUS",
        "lifecycle" => "LIFECYCLE",
        "website" => "WEBSITE",
        "cors" => "CORS",
        "notification" => "NOTIFICATION",
        "replication" => "REPLICATION",
        "logging" => "LOGGING_STATUS",
        "ownershipControls" => "OWNERSHIP_CONTROLS",
        "publicAccessBlock" => "PUBLIC_ACCESS_BLOCK",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn entry() -> Entry {
        Entry {
            time: datetime!(2026-02-03 04:05:06 UTC),
            remote: IpAddr::from([127, 0, 0, 1]),
            requester: Some("AKLOCAL".to_owned()),
            request_id: "0123456789ABCDEF".to_owned(),
            operation: "REST.GET.OBJECT".to_owned(),
            bucket: "b".to_owned(),
            key: "a b\n\u{e9}".to_owned(),
            method: Method::GET,
            uri: "/b/a%20b?X-Amz-Date=1&X-Amz-Signature=c0ffee&versionId=2".to_owned(),
            status: 404,
            error_code: Some("NoSuchKey".to_owned()),
            bytes_sent: 7,
            total_ms: 3,
            turnaround_ms: 2,
            referer: None,
            user_agent: Some("say \"hi\"\r".to_owned()),
            version_id: None,
            host: Some("localhost:9000".to_owned()),
            authentication: Some("QueryString"),
            signature_version: Some("SigV4"),
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_format() {
        assert_eq!(
            entry().line(),
            "local b [03/Feb/2026:04:05:06 +0000] 127.0.0.1 AKLOCAL 0123456789ABCDEF \
             REST.GET.OBJECT a%20b%0A%C3%A9 \
             \"GET /b/a%20b?X-Amz-Date=1&X-Amz-Signature=***&versionId=2 HTTP/1.1\" \
             404 NoSuchKey 7 - 3 2 \"-\" \"say %22hi%22%0D\" - - SigV4 - QueryString localhost:9000 - - -\n"
        );
    }

    #[test]
    fn operations_are_named_as_in_the_log() {
        let table = [
            (Method::GET, true, false, &[][..], "REST.GET.OBJECT"),
            (Method::PUT, true, true, &[], "REST.COPY.OBJECT"),
            (
                Method::PUT,
                true,
                true,
                &["partNumber", "uploadId"],
                "REST.COPY.PART",
            ),
            (
                Method::PUT,
                true,
                false,
                &["partNumber", "uploadId"],
                "REST.PUT.PART",
            ),
            (Method::POST, true, false, &["uploads"], "REST.POST.UPLOADS"),
            (Method::POST, true, false, &["uploadId"], "REST.POST.UPLOAD"),
            (
                Method::GET,
                true,
                false,
                &["tagging"],
                "REST.GET.OBJECT_TAGGING",
            ),
            (Method::GET, false, false, &["tagging"], "REST.GET.TAGGING"),
            (Method::HEAD, false, false, &[], "REST.HEAD.BUCKET"),
            (
                Method::POST,
                false,
                false,
                &["delete"],
                "REST.POST.MULTI_OBJECT_DELETE",
            ),
            (Method::GET, true, false, &["x-id"], "REST.GET.OBJECT"),
        ];
        for (method, has_key, is_copy, parameters, expected) in table {
            assert_eq!(operation(&method, has_key, is_copy, parameters), expected);
        }
    }

    #[test]
    fn counts_are_bounded_and_the_file_follows_on_flush() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog::open(folder.path(), true).unwrap();
        let request = |key: &str| Counted {
            operation: "REST.PUT.OBJECT".to_owned(),
            bucket: "b".to_owned(),
            key: key.to_owned(),
            status: 200,
        };
        for i in 0..COUNTED_REQUESTS_MAX + 5 {
            log.count(request(&format!("k{i}")));
        }
        log.count(request("k0"));
        let counts = log.counts();
        assert_eq!(counts.len(), COUNTED_REQUESTS_MAX + 1);
        assert_eq!((counts[&request("")], counts[&request("k0")]), (5, 2));

        log.write(&entry());
        log.flush();
        let text = std::fs::read_to_string(folder.path().join(ACCESS_LOG_FILE)).unwrap();
        assert_eq!(text, entry().line());
    }
}
