//! HTTP messages as they pass a proxy, and the S3 operation that a request is.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A request or an answer, taken apart.
#[derive(Clone, Debug)]
pub struct Message {
    /// The request line, or the status line.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What follows the headers, as it is on the wire.
    pub body: Vec<u8>,
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("a message has an end of its headers");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            line,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    /// An answer with a body, or with what would be its headers.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &str, is_head: bool) -> Self {
        let own = [("content-type", "application/xml")];
        let mut headers: Vec<_> = own
            .iter()
            .chain(headers)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        headers.push(("content-length".to_owned(), body.len().to_string()));
        let body = if is_head { "" } else { body };
        Self {
            line: format!("HTTP/1.1 {status} Tampered"),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    pub fn error(status: u16, code: &str, is_head: bool) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
        );
        Self::answer(status, &[], &body, is_head)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(other, _)| other == name);
        named.next().map(|(_, value)| value.as_str())
    }

    pub fn drop_headers(&mut self, starting_with: &str) {
        self.headers
            .retain(|(name, _)| !name.starts_with(starting_with));
    }

    /// The second word of the first line.
    fn word(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.word().parse().expect("a status")
    }

    pub fn body_contains(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }

    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// Bucket and key of a request in path style, still URL-encoded.
    pub fn place(&self) -> (&str, &str) {
        let path = self.word().split('?').next().unwrap_or_default();
        let path = path.trim_start_matches('/');
        path.split_once('/').unwrap_or((path, ""))
    }

    fn has(&self, parameter: &str) -> bool {
        let query = self.word().split_once('?').map_or("", |(_, query)| query);
        let mut names = query.split('&').filter_map(|pair| pair.split('=').next());
        names.any(|name| name == parameter)
    }

    /// The S3 operation that a request is, in the API's own words.
    pub fn operation(&self) -> String {
        let has_key = !self.place().1.is_empty();
        let is_copy = self.header("x-amz-copy-source").is_some();
        let verb = match self.method() {
            "GET" => "Get",
            "PUT" => "Put",
            "HEAD" => "Head",
            "DELETE" => "Delete",
            other => other,
        };
        if let Some(resource) = self.subresource(has_key) {
            return match (verb, resource) {
                ("Put", "ObjectEncryption") => "UpdateObjectEncryption".to_owned(),
                ("Get", "ObjectAnnotation") if !self.has("annotationName") => {
                    "ListObjectAnnotations".to_owned()
                }
                ("Get", "ObjectVersions") => "ListObjectVersions".to_owned(),
                ("POST", "Object") => "RestoreObject".to_owned(),
                _ => format!("{verb}{resource}"),
            };
        }
        let name = match (self.method(), has_key) {
            ("POST", true) if self.has("uploads") => "CreateMultipartUpload",
            ("POST", true) => "CompleteMultipartUpload",
            ("DELETE", true) if self.has("uploadId") => "AbortMultipartUpload",
            ("GET", true) if self.has("uploadId") => "ListParts",
            ("PUT", true) if self.has("uploadId") && is_copy => "UploadPartCopy",
            ("PUT", true) if self.has("uploadId") => "UploadPart",
            ("PUT", true) if is_copy => "CopyObject",
            ("GET", false) if self.has("list-type") => "ListObjectsV2",
            ("GET", false) if self.has("uploads") => "ListMultipartUploads",
            ("POST", false) => "DeleteObjects",
            (_, true) => return format!("{verb}Object"),
            (_, false) => return format!("{verb}Bucket"),
        };
        name.to_owned()
    }

    fn subresource(&self, has_key: bool) -> Option<&'static str> {
        let of_objects = [
            ("acl", "ObjectAcl"),
            ("annotation", "ObjectAnnotation"),
            ("attributes", "ObjectAttributes"),
            ("encryption", "ObjectEncryption"),
            ("legal-hold", "ObjectLegalHold"),
            ("restore", "Object"),
            ("retention", "ObjectRetention"),
            ("tagging", "ObjectTagging"),
        ];
        let of_buckets = [
            ("acl", "BucketAcl"),
            ("encryption", "BucketEncryption"),
            ("lifecycle", "BucketLifecycleConfiguration"),
            ("location", "BucketLocation"),
            ("notification", "BucketNotificationConfiguration"),
            ("object-lock", "ObjectLockConfiguration"),
            ("ownershipControls", "BucketOwnershipControls"),
            ("policy", "BucketPolicy"),
            ("replication", "BucketReplication"),
            ("tagging", "BucketTagging"),
            ("versioning", "BucketVersioning"),
            ("versions", "ObjectVersions"),
            ("website", "BucketWebsite"),
        ];
        let names: &[_] = if has_key { &of_objects } else { &of_buckets };
        let mut found = names.iter().filter(|(parameter, _)| self.has(parameter));
        found.next().map(|(_, resource)| *resource)
    }
}

/// Reads one HTTP message whole. `no_body`: it answers a HEAD.
pub async fn read_message(
    from: &mut (impl AsyncRead + Unpin),
    no_body: bool,
) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    read_until(from, &mut message, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap_or(0));
    if no_body {
        return Ok(message);
    }
    if head.contains("transfer-encoding: chunked") {
        loop {
            let start = message.len();
            read_until(from, &mut message, b"\r\n").await?;
            let size = String::from_utf8_lossy(&message[start..]).trim().to_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            read_exactly(from, &mut message, size + 2).await?;
            if size == 0 {
                return Ok(message);
            }
        }
    }
    read_exactly(from, &mut message, length).await?;
    Ok(message)
}

async fn read_until(
    from: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
    end: &[u8],
) -> io::Result<()> {
    while !message.ends_with(end) {
        message.push(from.read_u8().await?);
    }
    Ok(())
}

async fn read_exactly(
    from: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
    bytes: usize,
) -> io::Result<()> {
    let start = message.len();
    message.resize(start + bytes, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(())
}
