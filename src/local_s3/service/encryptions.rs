//! `?encryption` of objects and buckets.
//!
//! s3s 0.14 knows neither UpdateObjectEncryption nor the `BlockedEncryptionTypes` of a bucket's
//! configuration, so both are read and written here.
//!
//! UpdateObjectEncryption wraps the object's data key anew and leaves everything else as it is: version id,
//! ETag, date, bytes. Its rules: S3 API Reference, UpdateObjectEncryption.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::xml::{DeResult, Deserializer, SerResult, Serializer};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt as _, Limited};
use md5::{Digest as _, Md5};

use super::routes::parameter;
use super::{Service, blocking, lock, object_version};
use crate::local_s3::model::{DefaultEncryption, Moment, SseAlgorithm};
use crate::local_s3::vault::Mode;

/// Both documents are a few hundred bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// Source: S3 API, SSEKMSEncryption.
const KEY_ARN_CHARS: std::ops::RangeInclusive<usize> = 20..=2048;

/// The checksums that a document can come with, besides `Content-MD5`.
const CHECKSUM_HEADERS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-crc64nvme",
];

const XMLNS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Answers `GET`, `PUT` and `DELETE` of `/bucket?encryption`, and `PUT` of `/bucket/key?encryption`.
pub struct Encryptions {
    service: Service,
}

impl Encryptions {
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
        match (&request.method, key.is_empty()) {
            (&Method::PUT, false) => self.update_object_encryption(request, bucket, key).await,
            (&Method::PUT, true) => self.put_bucket_encryption(request, bucket).await,
            (&Method::GET, true) => self.get_bucket_encryption(&bucket),
            (&Method::DELETE, true) => self.delete_bucket_encryption(&bucket).await,
            _ => Err(s3_error!(MethodNotAllowed)),
        }
    }

    async fn update_object_encryption(
        &self,
        request: S3Request<Body>,
        bucket_name: String,
        key: String,
    ) -> S3Result<S3Response<Body>> {
        if !is_sig_v4(&request) {
            return Err(invalid_request(
                "UpdateObjectEncryption requires AWS Signature Version 4.",
            ));
        }
        let version_id = parameter(&request.uri, "versionId");
        let version_id = object_version::parse_version_id(version_id.as_deref())?;
        let (headers, body) = (request.headers, request.input);
        let document = whole_document(&headers, body).await?;
        let wanted = SseKms::read(&document)?;
        let bucket = self.service.bucket(&bucket_name)?;
        let vault = self.service.vault.clone();
        blocking(move || {
            object_version::change(&bucket, &key, version_id.as_ref(), |object| {
                if lock::protects(&object.properties.lock, Moment::now(), false) {
                    return Err(s3_error!(
                        AccessDenied,
                        "Access Denied because object protected by object lock."
                    ));
                }
                if matches!(object.envelope.mode(), Mode::DsseKms | Mode::SseC) {
                    return Err(invalid_request(
                        "The encryption type of the source object is not supported by UpdateObjectEncryption.",
                    ));
                }
                let (arn, bucket_key) = (&wanted.key_arn, wanted.bucket_key_enabled);
                let envelope = &object.envelope;
                object.envelope = vault.rewrap(envelope, &bucket_name, &key, arn, bucket_key)?;
                Ok(())
            })
        })
        .await?;
        Ok(S3Response::new(Body::empty()))
    }

    fn get_bucket_encryption(&self, bucket: &str) -> S3Result<S3Response<Body>> {
        let config = self.service.bucket(bucket)?.config();
        let default = config.encryption.clone().unwrap_or(DefaultEncryption {
            algorithm: SseAlgorithm::Aes256,
            kms_key_id: None,
            bucket_key_enabled: false,
            blocks_sse_c: None,
        });
        let mut document = Vec::new();
        let mut xml = Serializer::new(&mut document);
        xml.decl()
            .and_then(|()| write_configuration(&mut xml, &default))
            .map_err(S3Error::internal_error)?;
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_static("application/xml");
        headers.insert(header::CONTENT_TYPE, content_type);
        Ok(S3Response::with_headers(Body::from(document), headers))
    }

    async fn put_bucket_encryption(
        &self,
        request: S3Request<Body>,
        bucket: String,
    ) -> S3Result<S3Response<Body>> {
        let document = whole_document(&request.headers, request.input).await?;
        let wanted = read_configuration(&document)?;
        self.service
            .change_bucket(&bucket, move |bucket| {
                bucket.encryption = Some(wanted);
                Ok(())
            })
            .await?;
        Ok(S3Response::new(Body::empty()))
    }

    async fn delete_bucket_encryption(&self, bucket: &str) -> S3Result<S3Response<Body>> {
        self.service
            .change_bucket(bucket, |bucket| {
                bucket.encryption = None;
                Ok(())
            })
            .await?;
        let no_content = StatusCode::NO_CONTENT;
        Ok(S3Response::with_status(Body::empty(), no_content))
    }
}

/// What UpdateObjectEncryption asks for.
#[derive(Debug, PartialEq, Eq)]
struct SseKms {
    key_arn: String,
    bucket_key_enabled: bool,
}

impl SseKms {
    fn read(document: &[u8]) -> S3Result<Self> {
        let mut types = Vec::new();
        let (mut key_arn, mut bucket_key) = (None, None);
        let mut xml = Deserializer::new(document);
        let read = xml.named_element("ObjectEncryption", |xml| {
            xml.for_each_element(|xml, name| {
                types.push(String::from_utf8_lossy(name).into_owned());
                if name != b"SSE-KMS" {
                    return skip(xml);
                }
                xml.for_each_element(|xml, name| match name {
                    b"KMSKeyArn" => set(&mut key_arn, text(xml)?),
                    b"BucketKeyEnabled" => set(&mut bucket_key, text(xml)?),
                    _ => skip(xml),
                })
            })
        });
        read.and_then(|()| xml.expect_eof())
            .map_err(|_| s3_error!(MalformedXML))?;
        if types != ["SSE-KMS"] {
            return Err(invalid_request(
                "The request must specify exactly one encryption type, which must be SSE-KMS.",
            ));
        }
        let key_arn = key_arn.unwrap_or_default();
        if !is_key_arn(&key_arn) {
            return Err(invalid_request(
                "The request must specify the full ARN of a KMS key.",
            ));
        }
        let bucket_key_enabled = match bucket_key.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(invalid_request("BucketKeyEnabled must be true or false.")),
        };
        Ok(Self {
            key_arn,
            bucket_key_enabled,
        })
    }
}

/// `arn:<partition>:kms:<region>:<account>:key/<id>`: no bare id, no alias.
fn is_key_arn(text: &str) -> bool {
    let fields: Vec<&str> = text.split(':').collect();
    let [arn, partition, service, region, account, resource] = fields[..] else {
        return false;
    };
    KEY_ARN_CHARS.contains(&text.len())
        && arn == "arn"
        && partition.starts_with("aws")
        && service == "kms"
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && resource
            .strip_prefix("key/")
            .is_some_and(|id| !id.is_empty())
}

fn read_configuration(document: &[u8]) -> S3Result<DefaultEncryption> {
    let malformed = || s3_error!(MalformedXML);
    let mut rules = 0;
    let (mut algorithm, mut kms_key_id, mut bucket_key) = (None, None, None);
    let mut blocked = Vec::new();
    let mut xml = Deserializer::new(document);
    let read = xml.named_element("ServerSideEncryptionConfiguration", |xml| {
        xml.for_each_element(|xml, name| {
            if name != b"Rule" {
                return skip(xml);
            }
            rules += 1;
            xml.for_each_element(|xml, name| match name {
                b"ApplyServerSideEncryptionByDefault" => {
                    xml.for_each_element(|xml, name| match name {
                        b"SSEAlgorithm" => set(&mut algorithm, text(xml)?),
                        b"KMSMasterKeyID" => set(&mut kms_key_id, text(xml)?),
                        _ => skip(xml),
                    })
                }
                b"BucketKeyEnabled" => set(&mut bucket_key, text(xml)?),
                b"BlockedEncryptionTypes" => xml.for_each_element(|xml, _| {
                    blocked.push(text(xml)?);
                    Ok(())
                }),
                _ => skip(xml),
            })
        })
    });
    read.and_then(|()| xml.expect_eof())
        .map_err(|_| malformed())?;
    if rules != 1 {
        return Err(malformed());
    }
    let algorithm = match algorithm.as_deref() {
        None if blocked.is_empty() => return Err(malformed()),
        None => SseAlgorithm::Aes256,
        Some(name) => SseAlgorithm::parse(name).ok_or_else(malformed)?,
    };
    if algorithm == SseAlgorithm::Aes256 && kms_key_id.is_some() {
        return Err(s3_error!(
            InvalidArgument,
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse"
        ));
    }
    let blocks_sse_c = match blocked.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["NONE"] => Some(false),
        ["SSE-C"] => Some(true),
        _ => return Err(malformed()),
    };
    let bucket_key_enabled = match bucket_key.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(malformed()),
    };
    Ok(DefaultEncryption {
        algorithm,
        kms_key_id,
        bucket_key_enabled,
        blocks_sse_c,
    })
}

fn write_configuration<W: std::io::Write>(
    xml: &mut Serializer<W>,
    default: &DefaultEncryption,
) -> SerResult {
    xml.element_with_ns("ServerSideEncryptionConfiguration", XMLNS, |xml| {
        xml.element("Rule", |xml| {
            xml.element("ApplyServerSideEncryptionByDefault", |xml| {
                xml.content("SSEAlgorithm", default.algorithm.as_str())?;
                match &default.kms_key_id {
                    Some(id) => xml.content("KMSMasterKeyID", id.as_str()),
                    None => Ok(()),
                }
            })?;
            xml.content("BucketKeyEnabled", &default.bucket_key_enabled)?;
            let Some(blocks_sse_c) = default.blocks_sse_c else {
                return Ok(());
            };
            let blocked = if blocks_sse_c { "SSE-C" } else { "NONE" };
            xml.element("BlockedEncryptionTypes", |xml| {
                xml.content("EncryptionType", blocked)
            })
        })
    })
}

/// As [`whole_body`], with a checksum: both operations demand one.
async fn whole_document(headers: &HeaderMap, body: Body) -> S3Result<Vec<u8>> {
    let has_checksum = headers
        .keys()
        .any(|name| name == "content-md5" || CHECKSUM_HEADERS.contains(&name.as_str()));
    if !has_checksum {
        return Err(invalid_request(
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        ));
    }
    whole_body(headers, body, DOCUMENT_BYTES_MAX).await
}

/// Reads a body whole, and checks that it is what the checksums among its headers say.
pub(super) async fn whole_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> S3Result<Vec<u8>> {
    let document = match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => collected.to_bytes().to_vec(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(S3ErrorCode::MaxMessageLengthExceeded.into());
        }
        Err(_) => return Err(s3_error!(IncompleteBody)),
    };
    let sent = |name: &str| Some(headers.get(name)?.to_str().unwrap_or_default());
    let checksum = |name: &str| sent(&format!("x-amz-checksum-{name}"));
    let mut hasher = ChecksumHasher {
        crc32: checksum("crc32").map(|_| Crc32::new()),
        crc32c: checksum("crc32c").map(|_| Crc32c::new()),
        sha1: checksum("sha1").map(|_| Sha1::new()),
        sha256: checksum("sha256").map(|_| Sha256::new()),
        crc64nvme: checksum("crc64nvme").map(|_| Crc64Nvme::new()),
    };
    hasher.update(&document);
    let computed = hasher.finalize();
    let pairs = [
        (checksum("crc32"), computed.checksum_crc32),
        (checksum("crc32c"), computed.checksum_crc32c),
        (checksum("sha1"), computed.checksum_sha1),
        (checksum("sha256"), computed.checksum_sha256),
        (checksum("crc64nvme"), computed.checksum_crc64nvme),
        (
            sent("content-md5"),
            Some(BASE64.encode(Md5::digest(&document))),
        ),
    ];
    let mut checked = pairs.iter().filter(|(sent, _)| sent.is_some());
    if checked.any(|(sent, computed)| *sent != computed.as_deref()) {
        return Err(S3ErrorCode::BadDigest.into());
    }
    Ok(document)
}

fn invalid_request(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message)
}

fn is_sig_v4(request: &S3Request<Body>) -> bool {
    let authorization = request.headers.get(header::AUTHORIZATION);
    authorization.map_or_else(
        || parameter(&request.uri, "X-Amz-Signature").is_some(),
        |value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"),
    )
}

fn text(xml: &mut Deserializer<'_>) -> DeResult<String> {
    xml.text(|text| Ok(text.trim().to_owned()))
}

fn set(slot: &mut Option<String>, value: String) -> DeResult {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(s3s::xml::DeError::DuplicateField),
    }
}

/// Passes over an element with all that is in it.
fn skip(xml: &mut Deserializer<'_>) -> DeResult {
    xml.for_each_element(|xml, _| skip(xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1";

    fn code<T: std::fmt::Debug>(result: S3Result<T>) -> String {
        result.unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn an_update_names_one_key_by_its_arn() {
        let document = |inner: &str| format!("<ObjectEncryption>{inner}</ObjectEncryption>");
        let kms = |inner: &str| document(&format!("<SSE-KMS>{inner}</SSE-KMS>"));
        let arn = format!("<KMSKeyArn>{ARN}</KMSKeyArn>");
        let read = SseKms::read(kms(&arn).as_bytes()).unwrap();
        assert_eq!(
            (read.key_arn.as_str(), read.bucket_key_enabled),
            (ARN, false)
        );
        let with_key = kms(&format!("{arn}<BucketKeyEnabled>true</BucketKeyEnabled>"));
        assert!(
            SseKms::read(with_key.as_bytes())
                .unwrap()
                .bucket_key_enabled
        );

        let alias = "arn:aws:kms:us-east-1:000000000000:alias/mine";
        let refused = [
            document(""),
            document("<SSE-S3/>"),
            document(&format!("<SSE-KMS>{arn}</SSE-KMS><SSE-S3/>")),
            kms(""),
            kms("<KMSKeyArn>1234</KMSKeyArn>"),
            kms(&format!("<KMSKeyArn>{alias}</KMSKeyArn>")),
            kms(&format!("{arn}<BucketKeyEnabled>yes</BucketKeyEnabled>")),
        ];
        for document in refused {
            let told = code(SseKms::read(document.as_bytes()));
            assert_eq!(told, "InvalidRequest", "{document}");
        }
        for document in [
            "",
            "<Other/>",
            "<ObjectEncryption>",
            &kms(&format!("{arn}{arn}")),
        ] {
            let told = code(SseKms::read(document.as_bytes()));
            assert_eq!(told, "MalformedXML", "{document}");
        }
    }

    #[test]
    fn a_configuration_survives_the_way_out_and_in() {
        for (blocks_sse_c, kms_key_id) in [
            (None, None),
            (Some(false), None),
            (Some(true), Some("alias/a&b".to_owned())),
        ] {
            let default = DefaultEncryption {
                algorithm: SseAlgorithm::AwsKms,
                kms_key_id,
                bucket_key_enabled: true,
                blocks_sse_c,
            };
            let mut document = Vec::new();
            write_configuration(&mut Serializer::new(&mut document), &default).unwrap();
            assert_eq!(read_configuration(&document).unwrap(), default);
        }
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        let rule = |inner: &str| {
            let root = "ServerSideEncryptionConfiguration";
            format!("<{root}><Rule>{inner}</Rule></{root}>")
        };
        let by_default = |inner: &str| {
            let name = "ApplyServerSideEncryptionByDefault";
            rule(&format!("<{name}>{inner}</{name}>"))
        };
        let table = [
            (rule(""), "MalformedXML"),
            (
                by_default("<SSEAlgorithm>rot13</SSEAlgorithm>"),
                "MalformedXML",
            ),
            (
                by_default("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"),
                "InvalidArgument",
            ),
            (
                rule(
                    "<BlockedEncryptionTypes><EncryptionType>SSE-X</EncryptionType></BlockedEncryptionTypes>",
                ),
                "MalformedXML",
            ),
        ];
        for (document, expected) in table {
            let told = code(read_configuration(document.as_bytes()));
            assert_eq!(told, expected, "{document}");
        }
    }

    #[tokio::test]
    async fn a_body_needs_a_checksum_that_holds() {
        let read = |name: &'static str, value: &'static str| async move {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            whole_document(&headers, Body::from("hello".to_owned())).await
        };
        assert_eq!(code(read("x-other", "1").await), "InvalidRequest");
        assert_eq!(
            code(read("x-amz-checksum-crc32", "AAAAAA==").await),
            "BadDigest"
        );
        assert_eq!(
            read("x-amz-checksum-crc32", "NhCmhg==").await.unwrap(),
            b"hello"
        );
        let md5 = read("content-md5", "XUFAKrxLKna5cZ2REBfFkg==").await;
        assert_eq!(md5.unwrap(), b"hello");
    }

    /// A bucket that blocks SSE-C takes no such writes; what is under it is read, and copied to another mode.
    #[tokio::test]
    async fn blocked_sse_c_is_left_behind() {
        use crate::local_s3::service::tests::{BUCKET, Fixture, customer_key, read, refused, told};
        use aws_sdk_s3::types::{
            BlockedEncryptionTypes, EncryptionType, ServerSideEncryption,
            ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
            ServerSideEncryptionRule,
        };
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let (key, md5) = customer_key(1);
        macro_rules! under_sse_c {
            ($request:expr) => {
                $request
                    .sse_customer_algorithm("AES256")
                    .sse_customer_key(&key)
                    .sse_customer_key_md5(&md5)
            };
        }
        let put = || under_sse_c!(client.put_object().bucket(BUCKET).key("key")).send();
        put().await.unwrap();

        let blocked = BlockedEncryptionTypes::builder().encryption_type(EncryptionType::SseC);
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(ServerSideEncryption::Aes256)
            .build();
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default.unwrap())
            .blocked_encryption_types(blocked.build())
            .build();
        let wanted = ServerSideEncryptionConfiguration::builder().rules(rule);
        let configure = client.put_bucket_encryption().bucket(BUCKET);
        let configure = configure.server_side_encryption_configuration(wanted.build().unwrap());
        configure.send().await.unwrap();
        let shown = client.get_bucket_encryption().bucket(BUCKET).send();
        let shown = shown.await.unwrap().server_side_encryption_configuration;
        let shown = shown.unwrap().rules()[0].blocked_encryption_types.clone();
        assert_eq!(shown.unwrap().encryption_type(), [EncryptionType::SseC]);

        let denied = refused(403, "AccessDenied");
        assert_eq!(told(put().await), denied);
        let create = client.create_multipart_upload().bucket(BUCKET).key("key");
        assert_eq!(told(under_sse_c!(create).send().await), denied);
        let copy = || {
            let copy = client.copy_object().bucket(BUCKET).key("key");
            copy.copy_source(format!("{BUCKET}/key"))
                .copy_source_sse_customer_algorithm("AES256")
                .copy_source_sse_customer_key(&key)
                .copy_source_sse_customer_key_md5(&md5)
        };
        assert_eq!(told(under_sse_c!(copy()).send().await), denied);
        let get = under_sse_c!(fixture.get("key"));
        assert_eq!(read(get).await, b"");
        copy().send().await.unwrap();
        assert_eq!(read(fixture.get("key")).await, b"");
    }
}
