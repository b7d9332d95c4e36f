//! Errors in S3's shape: the details that s3s's error type has no room for.
//!
//! S3 puts extra elements into some error documents (`<Condition>`, `<Header>`, `<Key>` ...). An
//! `S3Error` carries a code, a message and response headers only, so a detail travels in a private
//! response header, and the outermost layer (`server`) turns it into an element of the document.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use s3s::S3Error;

/// The private header in which a detail travels from an operation to the outermost layer.
/// It never reaches a client.
pub const ERROR_DETAIL: HeaderName = HeaderName::from_static("x-local-s3-error-detail");

/// Adds `<name>value</name>` to the error document. A value that no header can carry is left out.
#[must_use]
pub fn with_detail(mut error: S3Error, name: &str, value: &str) -> S3Error {
    let mut headers = error.headers().cloned().unwrap_or_default();
    if let Ok(detail) = HeaderValue::from_str(&format!("{name}={value}")) {
        headers.append(ERROR_DETAIL, detail);
        error.set_headers(headers);
    }
    error
}

/// Adds a response header to an error, for example `x-amz-delete-marker` to a 404.
#[must_use]
pub fn with_header(mut error: S3Error, name: HeaderName, value: HeaderValue) -> S3Error {
    let mut headers = error.headers().cloned().unwrap_or_default();
    headers.insert(name, value);
    error.set_headers(headers);
    error
}

/// Takes the details out of a response's headers, in the order in which they were added.
pub fn take_details(headers: &mut HeaderMap) -> Vec<(String, String)> {
    let details = headers
        .get_all(&ERROR_DETAIL)
        .iter()
        .filter_map(|value| value.to_str().ok()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.remove(&ERROR_DETAIL);
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::S3ErrorCode;

    #[test]
    fn details_are_taken_once_and_in_order() {
        let error = S3Error::new(S3ErrorCode::PreconditionFailed);
        let error = with_detail(error, "Condition", "If-Match");
        let error = with_detail(error, "Key", "a=b");
        let error = with_detail(error, "Key", "new\nline");
        let mut headers = error.headers().cloned().unwrap();
        let expected = [("Condition", "If-Match"), ("Key", "a=b")];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(take_details(&mut headers), expected);
        assert!(headers.is_empty());
    }
}
