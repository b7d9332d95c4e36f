//! Which bucket and key a request is about.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// Hosts under which a bucket can be the first label: `bucket.localhost`.
const HOST_SUFFIX: &str = ".localhost";

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

/// The bucket and the key of a request, decoded; empty where there is none.
pub(in crate::local_s3) fn address(host: Option<&str>, path: &str) -> (String, String) {
    let path = percent_decoded(path.strip_prefix('/').unwrap_or(path));
    match host.and_then(bucket_of_host) {
        Some(bucket) => (bucket.to_owned(), path),
        None => split_bucket(&path),
    }
}

/// The bucket and the key of an `x-amz-copy-source`.
pub(super) fn copy_source(header: &str) -> (String, String) {
    let path = header.split_once("?versionId=").map_or(header, |(p, _)| p);
    let path = path.replace('+', " ");
    split_bucket(&percent_decoded(path.strip_prefix('/').unwrap_or(&path)))
}

fn split_bucket(path: &str) -> (String, String) {
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (bucket.to_owned(), key.to_owned())
}

/// What is no UTF-8 becomes replacement characters; s3s refuses it, so that happens in the log only.
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
}
