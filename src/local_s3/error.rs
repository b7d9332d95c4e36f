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

/// S3's own words for a code, for errors that were raised without any.
/// Source: S3 API Reference, "Error responses".
#[must_use]
pub fn default_message(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "BadDigest" => {
            "The Content-MD5 or checksum value that you specified did not match what the server received."
        }
        "BucketAlreadyExists" => "The requested bucket name is not available.",
        "BucketAlreadyOwnedByYou" => {
            "Your previous request to create the named bucket succeeded and you already own it."
        }
        "BucketNotEmpty" => "The bucket you tried to delete is not empty.",
        "EntityTooLarge" => "Your proposed upload exceeds the maximum allowed object size.",
        "EntityTooSmall" => "Your proposed upload is smaller than the minimum allowed size.",
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header."
        }
        "InternalError" => "We encountered an internal error. Please try again.",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidDigest" => "The Content-MD5 you specified is not valid.",
        "InvalidPart" => {
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
        }
        "InvalidPartOrder" => {
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        }
        "InvalidRange" => "The requested range is not satisfiable",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema"
        }
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "NoSuchBucket" => "The specified bucket does not exist",
        "NoSuchKey" => "The specified key does not exist.",
        "NoSuchUpload" => {
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
        }
        "NoSuchVersion" => "The specified version does not exist.",
        "NotImplemented" => "A header you provided implies functionality that is not implemented",
        "PreconditionFailed" => "At least one of the pre-conditions you specified did not hold",
        "RequestTimeTooSkewed" => {
            "The difference between the request time and the current time is too large."
        }
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        _ => "The request could not be served.",
    }
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
