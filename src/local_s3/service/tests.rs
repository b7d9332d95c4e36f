//! Objects through real HTTP, with the AWS SDK as the client.

use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, MetadataDirective,
    ObjectCannedAcl, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, StorageClass,
    VersioningConfiguration,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use tempfile::TempDir;

use crate::local_s3::server::{LocalS3, Options};

pub(super) const BUCKET: &str = "bucket";

pub(super) struct Fixture {
    pub client: Client,
    _server: LocalS3,
    dir: TempDir,
}

impl Fixture {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = LocalS3::start(Options::for_tests(dir.path())).unwrap();
        let client = server.client();
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        Self {
            client,
            _server: server,
            dir,
        }
    }

    /// The folder with the server's data.
    pub fn data(&self) -> &Path {
        self.dir.path()
    }

    pub async fn put(&self, key: &str, body: &[u8]) -> String {
        let body = ByteStream::from(body.to_vec());
        let put = self
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await
            .unwrap();
        put.e_tag.unwrap()
    }

    pub fn get(&self, key: &str) -> GetObjectFluentBuilder {
        self.client.get_object().bucket(BUCKET).key(key)
    }

    pub async fn head(&self, key: &str) -> HeadObjectOutput {
        let head = self.client.head_object().bucket(BUCKET).key(key);
        head.send().await.unwrap()
    }

    pub fn copy_onto_itself(&self, key: &str) -> CopyObjectFluentBuilder {
        self.client
            .copy_object()
            .bucket(BUCKET)
            .key(key)
            .copy_source(format!("{BUCKET}/{key}"))
    }
}

pub(super) async fn read(get: GetObjectFluentBuilder) -> Vec<u8> {
    get.send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap()
        .to_vec()
}

/// Status and code of an answer; a success is 200 without a code.
pub(super) fn told<T, E: ProvideErrorMetadata>(
    answer: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> (u16, String) {
    match answer {
        Ok(_) => (200, String::new()),
        Err(error) => {
            let status = error
                .raw_response()
                .map_or(0, |response| response.status().as_u16());
            (status, error.code().unwrap_or_default().to_owned())
        }
    }
}

pub(super) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

pub(super) fn customer_key(byte: u8) -> (String, String) {
    let key = [byte; 32];
    (BASE64.encode(key), BASE64.encode(Md5::digest(key)))
}

/// Keys are opaque: each is its own object, through PUT, GET, copy onto itself and listing, and none leaves the folder.
#[tokio::test]
async fn keys_are_opaque() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(1_024);
    let mut keys = vec![
        "..",
        "../../etc/passwd",
        "/lead",
        "//",
        "a",
        "a/",
        "a/b",
        "a%2Fb",
        "a+b",
        "a b",
        "new\nline",
        "?versionId=x",
        "ünï/日本",
        "\u{10FFFF}",
        &long,
    ];
    for key in &keys {
        fixture.put(key, key.as_bytes()).await;
        let source: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let copy = fixture
            .client
            .copy_object()
            .bucket(BUCKET)
            .key(*key)
            .copy_source(format!("{BUCKET}/{source}"));
        let copied = copy
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .send()
            .await
            .unwrap();
        assert_eq!(
            copied.server_side_encryption,
            Some(ServerSideEncryption::AwsKms)
        );
    }
    for key in &keys {
        assert_eq!(read(fixture.get(key)).await, key.as_bytes());
    }
    keys.sort_unstable();
    let listed = fixture.client.list_objects_v2().bucket(BUCKET);
    let listed = listed
        .encoding_type(aws_sdk_s3::types::EncodingType::Url)
        .send()
        .await
        .unwrap();
    let encoded = keys.iter().map(|key| super::list::url_encoded(key));
    assert_eq!(
        listed
            .contents()
            .iter()
            .map(|o| o.key().unwrap().to_owned())
            .collect::<Vec<_>>(),
        encoded.collect::<Vec<_>>()
    );
    let too_long = fixture
        .client
        .put_object()
        .bucket(BUCKET)
        .key(format!("{long}x"))
        .send()
        .await;
    assert_eq!(told(too_long), refused(400, "KeyTooLongError"));
}

/// Copying an object onto itself needs a reason: that one of some headers is there, whatever it says.
#[tokio::test]
async fn an_object_is_copied_onto_itself_for_a_reason() {
    type Reason = fn(CopyObjectFluentBuilder) -> CopyObjectFluentBuilder;
    let reasons: [(&str, bool, Reason); 8] = [
        ("none", false, |copy| copy),
        ("acl", false, |copy| {
            copy.acl(ObjectCannedAcl::BucketOwnerFullControl)
        }),
        ("metadata copied", false, |copy| {
            copy.metadata("a", "b")
                .metadata_directive(MetadataDirective::Copy)
        }),
        ("metadata replaced", true, |copy| {
            copy.metadata_directive(MetadataDirective::Replace)
        }),
        ("same class", true, |copy| {
            copy.storage_class(StorageClass::Standard)
        }),
        ("redirect", true, |copy| {
            copy.website_redirect_location("/to")
        }),
        ("same mode", true, |copy| {
            copy.server_side_encryption(ServerSideEncryption::Aes256)
        }),
        ("customer key", true, |copy| {
            let (key, md5) = customer_key(1);
            copy.sse_customer_algorithm("AES256")
                .sse_customer_key(key)
                .sse_customer_key_md5(md5)
        }),
    ];
    let fixture = Fixture::new().await;
    let expected = |allowed: bool| {
        if allowed {
            refused(200, "")
        } else {
            refused(400, "InvalidRequest")
        }
    };
    for (name, allowed, reason) in reasons {
        fixture.put("key", b"x").await;
        let answer = told(reason(fixture.copy_onto_itself("key")).send().await);
        assert_eq!(answer, expected(allowed), "{name}");
    }
    // The default would change the object's mode.
    fixture.put("key", b"x").await;
    let to_kms = fixture
        .copy_onto_itself("key")
        .server_side_encryption(ServerSideEncryption::AwsKms);
    to_kms.send().await.unwrap();
    let back = fixture.copy_onto_itself("key").send().await.unwrap();
    assert_eq!(
        back.server_side_encryption,
        Some(ServerSideEncryption::Aes256)
    );
    assert_eq!(
        told(fixture.copy_onto_itself("key").send().await),
        expected(false)
    );
    // The bucket has a default of its own, even the one that S3 has anyway.
    let by_default =
        ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(by_default.build().unwrap())
        .build();
    let config = ServerSideEncryptionConfiguration::builder()
        .rules(rule)
        .build()
        .unwrap();
    let put = fixture.client.put_bucket_encryption().bucket(BUCKET);
    put.server_side_encryption_configuration(config)
        .send()
        .await
        .unwrap();
    assert_eq!(
        told(fixture.copy_onto_itself("key").send().await),
        expected(true)
    );
}

/// What a copy takes over and what it does not.
#[tokio::test]
async fn a_copy_keeps_what_aws_keeps() {
    let fixture = Fixture::new().await;
    let put = fixture
        .client
        .put_object()
        .bucket(BUCKET)
        .key("key")
        .body(ByteStream::from_static(b"bytes"));
    let put = put
        .metadata("name", "value")
        .content_type("text/x")
        .cache_control("no-store")
        .tagging("a=b");
    let put = put
        .storage_class(StorageClass::StandardIa)
        .website_redirect_location("/to");
    put.checksum_sha256(BASE64.encode(sha2::Sha256::digest(b"bytes")))
        .send()
        .await
        .unwrap();
    let copy = fixture
        .copy_onto_itself("key")
        .server_side_encryption(ServerSideEncryption::AwsKmsDsse);
    let result = copy.send().await.unwrap().copy_object_result.unwrap();
    assert_eq!(
        result.checksum_sha256,
        Some(BASE64.encode(sha2::Sha256::digest(b"bytes")))
    );
    let head = fixture
        .client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.server_side_encryption,
        Some(ServerSideEncryption::AwsKmsDsse)
    );
    assert!(head.ssekms_key_id().unwrap().starts_with("arn:aws:kms:"));
    assert_eq!(head.metadata().unwrap()["name"], "value");
    assert_eq!(
        (head.content_type(), head.cache_control()),
        (Some("text/x"), Some("no-store"))
    );
    assert_eq!(
        (head.storage_class(), head.website_redirect_location()),
        (None, None)
    );
    let tags = fixture
        .client
        .get_object_tagging()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    assert_eq!(tags.tag_set().len(), 1);
    assert_eq!(read(fixture.get("key")).await, b"bytes");
}

/// A multipart object in each mode: its bytes, ranges across parts, parts by number, and who may read it.
#[tokio::test]
async fn parts_become_an_object_in_every_mode() {
    let fixture = Fixture::new().await;
    let first: Vec<u8> = (0..5 << 20)
        .map(|i: u32| i.to_le_bytes()[i as usize % 3])
        .collect();
    let whole = [&first[..], b"the tail"].concat();
    let edge = first.len();
    for mode in [
        Some(ServerSideEncryption::Aes256),
        Some(ServerSideEncryption::AwsKms),
        Some(ServerSideEncryption::AwsKmsDsse),
        None,
    ] {
        let key = mode.is_none().then(|| customer_key(7));
        let etag = upload(&fixture, mode.clone(), key.as_ref(), &[&first, b"the tail"]).await;
        let digests = [Md5::digest(&first), Md5::digest(b"the tail")].concat();
        let of_md5s: String = Md5::digest(digests)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            etag == format!("\"{of_md5s}-2\""),
            mode == Some(ServerSideEncryption::Aes256)
        );
        let get = || match &key {
            None => fixture.get("big"),
            Some((key, md5)) => fixture
                .get("big")
                .sse_customer_algorithm("AES256")
                .sse_customer_key(key)
                .sse_customer_key_md5(md5),
        };
        assert!(read(get()).await == whole);
        for (from, to) in [
            (0, 0),
            (edge - 3, edge + 2),
            (65_535, 65_536),
            (edge, edge + 7),
        ] {
            assert_eq!(
                read(get().range(format!("bytes={from}-{to}"))).await,
                whole[from..=to]
            );
        }
        let tail = get().part_number(2).send().await.unwrap();
        assert_eq!(
            (tail.parts_count(), tail.content_length()),
            (Some(2), Some(8))
        );
        assert_eq!(
            told(get().range("bytes=9000000-").send().await),
            refused(416, "InvalidRange")
        );
        if mode.is_none() {
            assert_eq!(
                told(fixture.get("big").send().await),
                refused(400, "InvalidRequest")
            );
            let (key, md5) = customer_key(8);
            let wrong = fixture
                .get("big")
                .sse_customer_algorithm("AES256")
                .sse_customer_key(key)
                .sse_customer_key_md5(md5);
            assert_eq!(told(wrong.send().await), refused(403, "AccessDenied"));
        }
    }
}

async fn upload(
    fixture: &Fixture,
    mode: Option<ServerSideEncryption>,
    key: Option<&(String, String)>,
    parts: &[&[u8]],
) -> String {
    let client = &fixture.client;
    let (algorithm, customer_key, md5) = key.map_or((None, None, None), |(key, md5)| {
        (
            Some("AES256".to_owned()),
            Some(key.clone()),
            Some(md5.clone()),
        )
    });
    let create = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .set_server_side_encryption(mode);
    let create = create
        .set_sse_customer_algorithm(algorithm.clone())
        .set_sse_customer_key(customer_key.clone());
    let created = create
        .set_sse_customer_key_md5(md5.clone())
        .send()
        .await
        .unwrap();
    let upload_id = created.upload_id.unwrap();
    let mut completed = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(parts) {
        let put = client
            .upload_part()
            .bucket(BUCKET)
            .key("big")
            .upload_id(&upload_id)
            .part_number(number);
        let put = put
            .set_sse_customer_algorithm(algorithm.clone())
            .set_sse_customer_key(customer_key.clone());
        let put = put
            .set_sse_customer_key_md5(md5.clone())
            .body(ByteStream::from(part.to_vec()));
        let etag = put.send().await.unwrap().e_tag.unwrap();
        completed = completed.parts(
            CompletedPart::builder()
                .part_number(number)
                .e_tag(etag)
                .build(),
        );
    }
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .upload_id(upload_id);
    complete
        .multipart_upload(completed.build())
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap()
}

/// `If-Match` on Complete fails after any write since the upload was begun, even of the same bytes.
#[tokio::test]
async fn a_conditional_complete_sees_every_write() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    for (write_between, condition, expected) in [
        (false, None, refused(200, "")),
        (true, None, refused(409, "ConditionalRequestConflict")),
        (true, Some("\"other\""), refused(412, "PreconditionFailed")),
    ] {
        let etag = fixture.put("key", b"same").await;
        let created = client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key("key")
            .send()
            .await
            .unwrap();
        let upload_id = created.upload_id.unwrap();
        let part = client
            .upload_part()
            .bucket(BUCKET)
            .key("key")
            .upload_id(&upload_id)
            .part_number(1);
        let part = part
            .body(ByteStream::from_static(b"part"))
            .send()
            .await
            .unwrap();
        if write_between {
            assert_eq!(fixture.put("key", b"same").await, etag);
        }
        let part = CompletedPart::builder()
            .part_number(1)
            .e_tag(part.e_tag.unwrap())
            .build();
        let complete = client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("key")
            .upload_id(upload_id);
        let complete =
            complete.multipart_upload(CompletedMultipartUpload::builder().parts(part).build());
        assert_eq!(
            told(complete.if_match(condition.unwrap_or(&etag)).send().await),
            expected
        );
    }
}

/// `If-None-Match` on Complete is not content with an object that was deleted since the upload was begun.
#[tokio::test]
async fn a_complete_that_wants_no_object_sees_one_that_was_there() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let conflict = refused(409, "ConditionalRequestConflict");
    for (put_before, deleted, expected) in [
        (false, false, refused(200, "")),
        (true, false, refused(412, "PreconditionFailed")),
        (true, true, conflict),
    ] {
        let delete = || client.delete_object().bucket(BUCKET).key("key").send();
        delete().await.unwrap();
        if put_before {
            fixture.put("key", b"before").await;
        }
        let create = client.create_multipart_upload().bucket(BUCKET).key("key");
        let upload_id = create.send().await.unwrap().upload_id.unwrap();
        let part = client.upload_part().bucket(BUCKET).key("key");
        let part = part.upload_id(&upload_id).part_number(1);
        let part = part.body(ByteStream::from_static(b"part"));
        let etag = part.send().await.unwrap().e_tag.unwrap();
        if deleted {
            delete().await.unwrap();
        }
        let part = CompletedPart::builder().part_number(1).e_tag(etag).build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("key");
        let complete = complete.upload_id(upload_id).multipart_upload(parts);
        assert_eq!(told(complete.if_none_match("*").send().await), expected);
    }
}

/// Delete markers hide an object; by its id a marker is neither read nor copied, and says what it is.
#[tokio::test]
async fn delete_markers_are_not_objects() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    client
        .put_bucket_versioning()
        .bucket(BUCKET)
        .versioning_configuration(enabled)
        .send()
        .await
        .unwrap();
    fixture.put("key", b"x").await;
    let deleted = client
        .delete_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    let marker = deleted.version_id().unwrap();

    let hidden = client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap_err();
    let by_id = client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .version_id(marker)
        .send()
        .await
        .unwrap_err();
    for (error, status) in [(hidden, 404), (by_id, 405)] {
        let response = error.raw_response().unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers().get("x-amz-delete-marker"), Some("true"));
    }
    assert_eq!(
        told(fixture.get("key").send().await),
        refused(404, "NoSuchKey")
    );
    let copy = |source: String| {
        client
            .copy_object()
            .bucket(BUCKET)
            .key("to")
            .copy_source(source)
            .send()
    };
    assert_eq!(
        told(copy(format!("{BUCKET}/key")).await),
        refused(404, "NoSuchKey")
    );
    let named = copy(format!("{BUCKET}/key?versionId={marker}")).await;
    assert_eq!(told(named), refused(400, "InvalidRequest"));
    client
        .delete_object()
        .bucket(BUCKET)
        .key("key")
        .version_id(marker)
        .send()
        .await
        .unwrap();
    assert_eq!(read(fixture.get("key")).await, b"x");
}
