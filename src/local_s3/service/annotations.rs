//! Annotations of objects: named texts beside the bytes, by operations of their own.
//!
//! A copy takes them along unless it is told not to, a multipart upload does not, and an object under SSE-C has none.
//! Source: S3 API, PutObjectAnnotation, ListObjectAnnotations and CopyObject.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use md5::{Digest as _, Md5};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::xml::{SerResult, Serializer};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::encryptions::whole_body;
use super::properties::form_decoded;
use super::routes::parameter;
use super::{Service, blocking, object_version};
use crate::local_s3::model::{Annotation, Moment, Object, Version, VersionId};
use crate::local_s3::vault::Mode;

/// Bytes of one annotation. Source: S3 API, PutObjectAnnotation.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a name. Source: as above.
const NAME_BYTES_MAX: usize = 512;
/// Annotations of one version. S3 allows 1,000; here they are kept in memory with what describes the version.
const ANNOTATIONS_MAX: usize = 10;

const OBJECT_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-object-version-id");
const OBJECT_IF_MATCH: &str = "x-amz-object-if-match";

/// Answers `GET`, `PUT` and `DELETE` of `/bucket/key?annotation`.
pub struct Annotations {
    service: Service,
}

impl Annotations {
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self { service }
    }

    pub(super) async fn answer(
        &self,
        request: S3Request<Body>,
        bucket: String,
        key: String,
    ) -> S3Result<S3Response<Body>> {
        if key.is_empty() {
            return Err(s3_error!(MethodNotAllowed));
        }
        let version_id = parameter(&request.uri, "versionId");
        let version_id = object_version::parse_version_id(version_id.as_deref())?;
        let name = decoded(&request, "annotationName")?;
        match (&request.method, name) {
            (&Method::GET, None) => {
                let prefix = decoded(&request, "annotation-prefix")?.unwrap_or_default();
                self.list(&bucket, &key, version_id.as_ref(), &prefix)
            }
            (&Method::GET, Some(name)) => self.get(&bucket, &key, version_id.as_ref(), &name),
            (&Method::PUT, Some(name)) => self.put(request, &bucket, key, version_id, name).await,
            (&Method::DELETE, Some(name)) => self.delete(&bucket, key, version_id, name).await,
            _ => Err(error("InvalidAnnotationName", StatusCode::BAD_REQUEST)),
        }
    }

    fn list(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&VersionId>,
        prefix: &str,
    ) -> S3Result<S3Response<Body>> {
        let store = self.service.bucket(bucket)?;
        let version = object_version::find(&store, key, version_id)?;
        let all = version
            .object()
            .map(|object| &object.properties.annotations);
        let listed: Vec<_> = all
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.starts_with(prefix))
            .collect();
        let mut document = Vec::new();
        let mut xml = Serializer::new(&mut document);
        xml.decl()
            .and_then(|()| write_list(&mut xml, bucket, key, &listed))
            .map_err(S3Error::internal_error)?;
        let mut headers = shown_version(&version)?;
        let content_type = HeaderValue::from_static("application/xml");
        headers.insert(header::CONTENT_TYPE, content_type);
        Ok(S3Response::with_headers(Body::from(document), headers))
    }

    fn get(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&VersionId>,
        name: &str,
    ) -> S3Result<S3Response<Body>> {
        let store = self.service.bucket(bucket)?;
        let version = object_version::find(&store, key, version_id)?;
        let object = version.object().ok_or(S3ErrorCode::InternalError)?;
        let found = object.properties.annotations.get(name);
        let found = found.ok_or_else(|| error("NoSuchAnnotation", StatusCode::NOT_FOUND))?;
        let mut headers = shown_version(&version)?;
        headers.insert(header::ETAG, quoted(&found.etag())?);
        Ok(S3Response::with_headers(
            Body::from(found.payload.clone()),
            headers,
        ))
    }

    async fn put(
        &self,
        request: S3Request<Body>,
        bucket: &str,
        key: String,
        version_id: Option<VersionId>,
        name: String,
    ) -> S3Result<S3Response<Body>> {
        if name.len() > NAME_BYTES_MAX {
            return Err(error("AnnotationNameTooLong", StatusCode::BAD_REQUEST));
        }
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(error("InvalidAnnotationName", StatusCode::BAD_REQUEST));
        }
        let (headers, body) = (request.headers, request.input);
        let payload = whole_body(&headers, body, PAYLOAD_BYTES_MAX).await?;
        if payload.is_empty() {
            return Err(s3_error!(InvalidRequest, "An annotation is not empty."));
        }
        let payload = String::from_utf8(payload)
            .map_err(|_| error("UnsupportedMediaType", StatusCode::UNSUPPORTED_MEDIA_TYPE))?;
        let annotation = Annotation {
            payload,
            last_modified: Moment::now(),
        };
        let etag = quoted(&annotation.etag())?;
        let store = self.service.bucket(bucket)?;
        let change = move |object: &mut Object| {
            check(object, &headers, &name)?;
            object.properties.annotations.insert(name, annotation);
            Ok(())
        };
        let version =
            blocking(move || object_version::change(&store, &key, version_id.as_ref(), change))
                .await?;
        let mut headers = shown_version(&version)?;
        headers.insert(header::ETAG, etag);
        Ok(S3Response::with_headers(Body::empty(), headers))
    }

    async fn delete(
        &self,
        bucket: &str,
        key: String,
        version_id: Option<VersionId>,
        name: String,
    ) -> S3Result<S3Response<Body>> {
        let store = self.service.bucket(bucket)?;
        let change = move |object: &mut Object| {
            object.properties.annotations.remove(&name);
            Ok(())
        };
        blocking(move || object_version::change(&store, &key, version_id.as_ref(), change)).await?;
        let no_content = StatusCode::NO_CONTENT;
        Ok(S3Response::with_status(Body::empty(), no_content))
    }
}

/// Whether an object takes an annotation of this name now.
fn check(object: &Object, headers: &HeaderMap, name: &str) -> S3Result {
    if object.envelope.mode() == Mode::SseC {
        return Err(s3_error!(
            InvalidRequest,
            "An object that is encrypted with SSE-C can't have annotations."
        ));
    }
    let wanted = headers.get(OBJECT_IF_MATCH).map(HeaderValue::to_str);
    let wanted = wanted.and_then(Result::ok);
    if wanted.is_some_and(|etag| etag.trim_matches('"') != object.etag) {
        return Err(S3ErrorCode::PreconditionFailed.into());
    }
    let present = &object.properties.annotations;
    if present.len() >= ANNOTATIONS_MAX && !present.contains_key(name) {
        return Err(error("AnnotationLimitExceeded", StatusCode::BAD_REQUEST));
    }
    Ok(())
}

impl Annotation {
    fn etag(&self) -> String {
        let md5 = Md5::digest(&self.payload);
        md5.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn write_list<W: std::io::Write>(
    xml: &mut Serializer<W>,
    bucket: &str,
    key: &str,
    listed: &[(&String, &Annotation)],
) -> SerResult {
    xml.element("ListObjectAnnotationsOutput", |xml| {
        xml.content("Bucket", bucket)?;
        xml.content("Key", key)?;
        xml.content("AnnotationCount", listed.len().to_string().as_str())?;
        xml.element("Annotations", |xml| {
            for (name, annotation) in listed {
                xml.element("AnnotationEntry", |xml| {
                    let date = Timestamp::from(annotation.last_modified.whole_second());
                    let size = annotation.payload.len().to_string();
                    xml.content("AnnotationName", name.as_str())?;
                    xml.timestamp("LastModified", &date, TimestampFormat::DateTime)?;
                    xml.content("ETag", format!("\"{}\"", annotation.etag()).as_str())?;
                    xml.content("Size", size.as_str())
                })?;
            }
            Ok(())
        })
    })
}

fn shown_version(version: &Version) -> S3Result<HeaderMap> {
    let id = HeaderValue::from_str(version.version_id.as_str());
    let id = id.map_err(S3Error::internal_error)?;
    Ok(HeaderMap::from_iter([(OBJECT_VERSION_ID, id)]))
}

fn quoted(etag: &str) -> S3Result<HeaderValue> {
    HeaderValue::from_str(&format!("\"{etag}\"")).map_err(S3Error::internal_error)
}

fn decoded(request: &S3Request<Body>, name: &str) -> S3Result<Option<String>> {
    let Some(value) = parameter(&request.uri, name) else {
        return Ok(None);
    };
    let value = form_decoded(&value).ok_or_else(|| s3_error!(InvalidURI))?;
    Ok(Some(value))
}

fn error(code: &'static str, status: StatusCode) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::Custom(code.into()));
    error.set_status_code(status);
    error
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::ByteStream;
    use aws_sdk_s3::types::{AnnotationDirective, ServerSideEncryption};

    use crate::local_s3::service::tests::{BUCKET, Fixture, customer_key, read, refused, told};

    async fn put(fixture: &Fixture, name: &str, payload: &'static [u8]) -> (u16, String) {
        let put = fixture.client.put_object_annotation().bucket(BUCKET);
        let put = put.key("a b").annotation_name(name);
        let put = put.annotation_payload(ByteStream::from_static(payload));
        told(put.send().await)
    }

    async fn names(fixture: &Fixture) -> Vec<String> {
        let list = fixture.client.list_object_annotations().bucket(BUCKET);
        let listed = list.key("a b").send().await.unwrap();
        let listed = listed.annotations.unwrap_or_default();
        listed.into_iter().map(|it| it.annotation_name).collect()
    }

    async fn rewrite(fixture: &Fixture, directive: Option<AnnotationDirective>) {
        let copy = fixture.client.copy_object().bucket(BUCKET).key("a b");
        let copy = copy
            .copy_source(format!("{BUCKET}/a%20b"))
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .set_annotation_directive(directive);
        copy.send().await.unwrap();
    }

    #[tokio::test]
    async fn annotations_stay_beside_the_object() {
        let fixture = Fixture::new().await;
        fixture.put("a b", b"bytes").await;
        let etag = fixture.head("a b").await.e_tag;
        assert_eq!(names(&fixture).await, [""; 0]);
        for name in ["ü+ /1", "label"] {
            assert_eq!(put(&fixture, name, b"{\"a\": 1}").await, refused(200, ""));
        }
        assert_eq!(names(&fixture).await, ["label", "ü+ /1"]);
        let get = fixture.client.get_object_annotation().bucket(BUCKET);
        let get = get.key("a b").annotation_name("ü+ /1");
        let payload = get.send().await.unwrap().annotation_payload;
        let payload = payload.collect().await.unwrap().to_vec();
        assert_eq!(payload, b"{\"a\": 1}");
        let delete = fixture.client.delete_object_annotation().bucket(BUCKET);
        let delete = delete.key("a b").annotation_name("label");
        delete.send().await.unwrap();
        assert_eq!(names(&fixture).await, ["ü+ /1"]);
        assert_eq!(read(fixture.get("a b")).await, b"bytes");
        assert_eq!(fixture.head("a b").await.e_tag, etag);

        rewrite(&fixture, None).await;
        assert_eq!(names(&fixture).await, ["ü+ /1"]);
        rewrite(&fixture, Some(AnnotationDirective::Exclude)).await;
        assert_eq!(names(&fixture).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_no_annotation_is_refused() {
        let fixture = Fixture::new().await;
        assert_eq!(put(&fixture, "n", b"x").await, refused(404, "NoSuchKey"));
        fixture.put("a b", b"bytes").await;
        let long = "n".repeat(513);
        for (name, payload, expected) in [
            (long.as_str(), &b"x"[..], (400, "AnnotationNameTooLong")),
            ("n", b"", (400, "InvalidRequest")),
            ("n", b"\xff", (415, "UnsupportedMediaType")),
        ] {
            let (status, code) = expected;
            assert_eq!(put(&fixture, name, payload).await, refused(status, code));
        }
        for n in 0..super::ANNOTATIONS_MAX {
            let name = n.to_string();
            assert_eq!(put(&fixture, &name, b"x").await, refused(200, ""));
        }
        let one_more = refused(400, "AnnotationLimitExceeded");
        assert_eq!(put(&fixture, "more", b"x").await, one_more);
        assert_eq!(put(&fixture, "0", b"y").await, refused(200, ""));

        let (key, md5) = customer_key(1);
        let to_sse_c = fixture.client.copy_object().bucket(BUCKET).key("a b");
        let to_sse_c = to_sse_c
            .copy_source(format!("{BUCKET}/a%20b"))
            .sse_customer_algorithm("AES256")
            .sse_customer_key(key)
            .sse_customer_key_md5(md5);
        to_sse_c.send().await.unwrap();
        assert_eq!(names(&fixture).await, [""; 0]);
        assert_eq!(
            put(&fixture, "n", b"x").await,
            refused(400, "InvalidRequest")
        );
    }
}
