//! Answers that s3s leaves short of what AWS sends: error documents, one ETag, and the order of versions.

use std::fmt::Write as _;

use http_body_util::{BodyExt as _, Limited};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use s3s::Body;

use super::Asked;
use crate::local_s3::error::{default_message, take_details};

/// Error documents are a few hundred bytes; a longer one is passed on as it is not.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Such an answer has 1,000 parts with checksums at most.
const ATTRIBUTES_BYTES_MAX: usize = 1 << 20;

/// A page of versions: 1,000 with keys of 1,024 bytes that are URL-encoded, and what is said of each.
const VERSIONS_BYTES_MAX: usize = 8 << 20;

/// What an element of a list of versions is, in the order of the list: `true` is a delete marker. S3 lists them as they come; s3s
/// puts all of one kind before all of the other.
#[derive(Clone, Debug)]
pub struct VersionsInOrder(pub Vec<bool>);

/// Completes an error document as AWS writes it, and tells its code. An answer to HEAD and a 304 have
/// no document.
pub(super) async fn whole_error(
    response: Response<Body>,
    asked: &Asked,
) -> (Response<Body>, Option<String>) {
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

/// Takes the quotes off the ETag of GetObjectAttributes.
pub(super) async fn with_bare_etag(response: Response<Body>) -> Response<Body> {
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

/// Puts the elements of a list of versions into their order.
pub(super) async fn with_versions_in_order(
    response: Response<Body>,
    VersionsInOrder(order): VersionsInOrder,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let Ok(document) = Limited::new(body, VERSIONS_BYTES_MAX).collect().await else {
        parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        return Response::from_parts(parts, Body::empty());
    };
    let document = String::from_utf8_lossy(&document.to_bytes()).into_owned();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(in_order(&document, &order)))
}

fn in_order(document: &str, order: &[bool]) -> String {
    let (rest, versions) = without(document, "Version");
    let (mut rest, markers) = without(&rest, "DeleteMarker");
    let (mut versions, mut markers) = (versions.into_iter(), markers.into_iter());
    let kind = |is_marker: &bool| match is_marker {
        true => markers.next(),
        false => versions.next(),
    };
    let elements: String = order.iter().filter_map(kind).collect();
    let end = rest.rfind("</").unwrap_or(rest.len());
    rest.insert_str(end, &elements);
    rest
}

/// A document without its elements of that name, and those.
fn without(document: &str, name: &str) -> (String, Vec<String>) {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (mut rest, mut elements) = (String::new(), Vec::new());
    let mut left = document;
    while let Some(start) = left.find(&open) {
        let Some(length) = left[start..].find(&close) else {
            break;
        };
        let end = start + length + close.len();
        rest.push_str(&left[..start]);
        elements.push(left[start..end].to_owned());
        left = &left[end..];
    }
    rest.push_str(left);
    (rest, elements)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_delete_markers_stand_as_they_came() {
        let document = "<L><DeleteMarker>1</DeleteMarker><DeleteMarker>2</DeleteMarker><Max>3</Max>\
                        <Version>a</Version><Version>b</Version></L>";
        assert_eq!(
            in_order(document, &[false, true, true, false]),
            "<L><Max>3</Max><Version>a</Version><DeleteMarker>1</DeleteMarker>\
             <DeleteMarker>2</DeleteMarker><Version>b</Version></L>"
        );
        assert_eq!(in_order("<L></L>", &[]), "<L></L>");
    }

    #[test]
    fn elements_are_found_and_values_escaped() {
        let document = "<Error><Code>NoSuchKey</Code></Error>";
        assert_eq!(element(document, "Code"), Some("NoSuchKey"));
        assert_eq!(element(document, "Message"), None);
        assert_eq!(escaped("a<b>&\u{1}\n"), "a&lt;b&gt;&amp;\u{fffd}\n");
    }
}
