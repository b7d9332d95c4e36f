//! The server over TCP, asked by the AWS SDK.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BlockedEncryptionTypes, BucketVersioningStatus, EncryptionType, ObjectAttributes,
    ObjectEncryption, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode,
    ObjectLockRetention, ObjectLockRetentionMode, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    SsekmsEncryption, Tag, Tagging, VersioningConfiguration,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::admin;
use super::server::{LocalS3, Options};
use super::vault::KeyState;

const BUCKET: &str = "bucket";

/// A server on a folder of its own, with one bucket.
struct Setup {
    server: LocalS3,
    client: Client,
    folder: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let setup = Self::without_bucket();
        let bucket = setup.client.create_bucket().bucket(BUCKET);
        bucket.send().await.unwrap();
        setup
    }

    async fn with_object_lock() -> Self {
        let setup = Self::without_bucket();
        let bucket = setup.client.create_bucket().bucket(BUCKET);
        let bucket = bucket.object_lock_enabled_for_bucket(true);
        bucket.send().await.unwrap();
        setup
    }

    fn without_bucket() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalS3::start(Options::for_tests(folder.path())).unwrap();
        Self {
            client: server.client(),
            server,
            folder,
        }
    }

    async fn put(&self, key: &str, body: &'static str) -> Option<String> {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        let put = put.body(ByteStream::from_static(body.as_bytes()));
        put.send().await.unwrap().version_id
    }

    async fn get(&self, key: &str) -> String {
        let get = self.client.get_object().bucket(BUCKET).key(key);
        let body = get.send().await.unwrap().body.collect().await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn add_kms_key(&self) -> String {
        admin::add_key(self.folder.path(), None).unwrap().arn
    }

    async fn update_encryption(&self, key: &str, to: SsekmsEncryption) -> (u16, String) {
        let update = self.client.update_object_encryption();
        let update = update.bucket(BUCKET).key(key);
        let update = update.object_encryption(ObjectEncryption::Ssekms(to));
        told(update.send().await)
    }

    async fn enable_versioning(&self) {
        let enabled = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = self.client.put_bucket_versioning().bucket(BUCKET);
        put.versioning_configuration(enabled).send().await.unwrap();
    }
}

/// Status and code of a failure; 200 and nothing for a success.
fn told<T, E: ProvideErrorMetadata>(
    result: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> (u16, String) {
    match result {
        Ok(_) => (200, String::new()),
        Err(error) => {
            let status = error.raw_response().map_or(0, |r| r.status().as_u16());
            (status, error.code().unwrap_or_default().to_owned())
        }
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn to_key(arn: &str, bucket_key: bool) -> SsekmsEncryption {
    SsekmsEncryption::builder()
        .kms_key_arn(arn)
        .bucket_key_enabled(bucket_key)
        .build()
        .unwrap()
}

/// A plain HTTP exchange with the server, as curl would have it; gives the status and the body.
async fn exchange(method: &str, url: &str, body: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer[9..12].parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn update_object_encryption_changes_the_key_and_nothing_else() {
    let s3 = Setup::new().await;
    let (first, second) = (s3.add_kms_key(), s3.add_kms_key());
    s3.enable_versioning().await;
    let version = s3.put("k", "content").await;
    let head = || async {
        let head = s3.client.head_object().bucket(BUCKET).key("k");
        head.send().await.unwrap()
    };
    let before = head().await;
    assert_eq!(before.version_id, version);
    for (arn, bucket_key) in [(&first, true), (&second, false), (&second, true)] {
        let updated = s3.update_encryption("k", to_key(arn, bucket_key)).await;
        assert_eq!(updated, (200, String::new()));
        let after = head().await;
        assert_eq!(after.ssekms_key_id.as_ref(), Some(arn));
        assert_eq!(after.bucket_key_enabled.unwrap_or(false), bucket_key);
        let mode = after.server_side_encryption;
        assert_eq!(mode, Some(ServerSideEncryption::AwsKms));
        assert_eq!(after.e_tag, before.e_tag);
        assert_eq!(after.last_modified, before.last_modified);
        assert_eq!(after.version_id, before.version_id);
        assert_eq!(s3.get("k").await, "content");
    }
    // The new key really holds the data key: without it the object cannot be read.
    admin::set_key_state(s3.folder.path(), &second, KeyState::Disabled).unwrap();
    let get = s3.client.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(told(get), refused(400, "KMS.DisabledException"));
}

#[tokio::test]
async fn update_object_encryption_refuses_what_aws_refuses() {
    let s3 = Setup::with_object_lock().await;
    let arn = s3.add_kms_key();
    s3.put("plain", "x").await;
    let put = s3.client.put_object().bucket(BUCKET).key("dsse");
    let put = put.server_side_encryption(ServerSideEncryption::AwsKmsDsse);
    put.send().await.unwrap();
    let put = s3.client.put_object().bucket(BUCKET).key("held");
    let put = put.checksum_crc32("AAAAAA==");
    let put = put.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
    put.send().await.unwrap();
    let later = DateTime::from(SystemTime::now() + Duration::from_secs(3600));
    let put = s3.client.put_object().bucket(BUCKET).key("retained");
    let put = put.checksum_crc32("AAAAAA==");
    let put = put.object_lock_mode(ObjectLockMode::Governance);
    let put = put.object_lock_retain_until_date(later);
    put.send().await.unwrap();

    let id = arn.rsplit('/').next().unwrap();
    let unknown = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-4000-8000-000000000000";
    let table = [
        ("plain", id, refused(400, "InvalidRequest")),
        ("plain", unknown, refused(400, "KMS.NotFoundException")),
        ("dsse", &arn, refused(400, "InvalidRequest")),
        ("held", &arn, refused(403, "AccessDenied")),
        ("retained", &arn, refused(403, "AccessDenied")),
        ("absent", &arn, refused(404, "NoSuchKey")),
        ("plain", &arn, (200, String::new())),
    ];
    for (key, arn, expected) in table {
        let answer = s3.update_encryption(key, to_key(arn, false)).await;
        assert_eq!(answer, expected, "{key} to {arn}");
    }
}

#[tokio::test]
async fn presigned_urls_work_the_same_after_re_encryption() {
    let s3 = Setup::new().await;
    let arn = s3.add_kms_key();
    let in_an_hour = || PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let put = s3.client.put_object().bucket(BUCKET).key("a b/c+d");
    let put = put.presigned(in_an_hour()).await.unwrap();
    let get = s3.client.get_object().bucket(BUCKET).key("a b/c+d");
    let get = get.presigned(in_an_hour()).await.unwrap();

    assert_eq!(exchange("PUT", put.uri(), "content").await.0, 200);
    let before = exchange("GET", get.uri(), "").await;
    assert_eq!(before, (200, "content".to_owned()));
    let updated = s3.update_encryption("a b/c+d", to_key(&arn, true)).await;
    assert_eq!(updated.0, 200);
    assert_eq!(exchange("GET", get.uri(), "").await, before);

    let forged = get
        .uri()
        .replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    let (status, body) = exchange("GET", &forged, "").await;
    assert_eq!(status, 403);
    assert!(
        body.contains("<Code>SignatureDoesNotMatch</Code>"),
        "{body}"
    );

    let folder = s3.folder;
    s3.server.stop();
    let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    let signature = get.uri().split("X-Amz-Signature=").nth(1).unwrap();
    assert!(!log.contains(&signature[..16]), "{log}");
    assert!(log.contains("REST.GET.OBJECT a%20b/c%2Bd "), "{log}");
}

#[tokio::test]
async fn locked_versions_stay() {
    let s3 = Setup::with_object_lock().await;
    let version = s3.put("k", "x").await.unwrap();
    let delete = |bypass: bool| {
        let delete = s3.client.delete_object().bucket(BUCKET).key("k");
        let delete = delete.version_id(&version);
        delete.bypass_governance_retention(bypass).send()
    };
    let hold = |status| {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = s3.client.put_object_legal_hold().bucket(BUCKET).key("k");
        put.legal_hold(hold).send()
    };
    hold(ObjectLockLegalHoldStatus::On).await.unwrap();
    assert_eq!(told(delete(true).await), refused(403, "AccessDenied"));
    hold(ObjectLockLegalHoldStatus::Off).await.unwrap();

    let retain = |hours: u64, bypass: bool| {
        let until = SystemTime::now() + Duration::from_secs(3600 * hours);
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(DateTime::from(until))
            .build();
        let put = s3.client.put_object_retention().bucket(BUCKET).key("k");
        let put = put.retention(retention);
        put.bypass_governance_retention(bypass).send()
    };
    assert_eq!(told(retain(2, false).await).0, 200);
    assert_eq!(told(retain(3, false).await).0, 200);
    assert_eq!(told(retain(1, false).await), refused(403, "AccessDenied"));
    assert_eq!(told(delete(false).await), refused(403, "AccessDenied"));
    // A delete marker is no harm to a locked version.
    let marker = s3.client.delete_object().bucket(BUCKET).key("k");
    assert_eq!(marker.send().await.unwrap().delete_marker, Some(true));
    assert_eq!(told(retain(1, true).await), refused(404, "NoSuchKey"));
    assert_eq!(told(delete(true).await).0, 200);
}

#[tokio::test]
async fn tags_belong_to_a_version() {
    let s3 = Setup::new().await;
    s3.enable_versioning().await;
    let old = s3.put("k", "old").await.unwrap();
    s3.put("k", "new").await;
    let tagging = |value: &str| {
        let tag = Tag::builder().key("t").value(value).build().unwrap();
        Tagging::builder().tag_set(tag).build().unwrap()
    };
    let put = s3.client.put_object_tagging().bucket(BUCKET).key("k");
    put.tagging(tagging("new")).send().await.unwrap();
    let put = s3.client.put_object_tagging().bucket(BUCKET).key("k");
    let put = put.tagging(tagging("old")).version_id(&old);
    put.send().await.unwrap();

    let get = |version: Option<String>| async {
        let get = s3.client.get_object_tagging().bucket(BUCKET).key("k");
        let got = get.set_version_id(version).send().await.unwrap();
        got.tag_set.into_iter().map(|t| t.value).collect::<Vec<_>>()
    };
    assert_eq!(get(None).await, ["new"]);
    assert_eq!(get(Some(old.clone())).await, ["old"]);
    let delete = s3.client.delete_object_tagging().bucket(BUCKET).key("k");
    delete.send().await.unwrap();
    assert_eq!(get(None).await, Vec::<String>::new());
    assert_eq!(get(Some(old)).await, ["old"]);
}

#[tokio::test]
async fn a_bucket_can_block_sse_c() {
    let s3 = Setup::new().await;
    let default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::AwsKms)
        .build()
        .unwrap();
    let blocked = BlockedEncryptionTypes::builder()
        .encryption_type(EncryptionType::SseC)
        .build();
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default)
        .bucket_key_enabled(true)
        .blocked_encryption_types(blocked)
        .build();
    let configuration = ServerSideEncryptionConfiguration::builder()
        .rules(rule)
        .build()
        .unwrap();
    let put = s3.client.put_bucket_encryption().bucket(BUCKET);
    let put = put.server_side_encryption_configuration(configuration.clone());
    put.send().await.unwrap();
    let get = || async {
        let get = s3.client.get_bucket_encryption().bucket(BUCKET);
        let got = get.send().await.unwrap();
        got.server_side_encryption_configuration.unwrap()
    };
    assert_eq!(get().await, configuration);
    let put = s3.client.put_object().bucket(BUCKET).key("c");
    let put = put
        .sse_customer_algorithm("AES256")
        .sse_customer_key("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
        .sse_customer_key_md5("hRasmdxgYDKV3nvbahU1MA==");
    let answer = told(put.send().await);
    assert_eq!(answer, refused(403, "AccessDenied"));

    let delete = s3.client.delete_bucket_encryption().bucket(BUCKET);
    delete.send().await.unwrap();
    let rules = get().await.rules;
    let default = rules[0].apply_server_side_encryption_by_default.as_ref();
    let algorithm = &default.unwrap().sse_algorithm;
    assert_eq!(*algorithm, ServerSideEncryption::Aes256);
}

#[tokio::test]
async fn attributes_are_told() {
    let s3 = Setup::new().await;
    s3.put("k", "content").await;
    let get = s3.client.get_object_attributes().bucket(BUCKET).key("k");
    let got = get
        .object_attributes(ObjectAttributes::Etag)
        .object_attributes(ObjectAttributes::ObjectSize)
        .object_attributes(ObjectAttributes::Checksum)
        .send()
        .await
        .unwrap();
    // MD5 of "content", without quotes here and only here.
    let md5 = "9a0364b9e99bb480dd25e1f0284c8555";
    assert_eq!(got.e_tag.as_deref(), Some(md5));
    assert_eq!(got.object_size, Some(7));
    assert!(got.checksum.unwrap().checksum_crc64_nvme.is_some());
    assert_eq!(got.storage_class, None);
}

#[tokio::test]
async fn somebody_elses_bucket_is_not_touched() {
    let s3 = Setup::new().await;
    let ask = |owner: &'static str| {
        let get = s3.client.get_bucket_versioning().bucket(BUCKET);
        get.expected_bucket_owner(owner).send()
    };
    assert_eq!(told(ask("000000000000").await).0, 200);
    let stranger = told(ask("123456789012").await);
    assert_eq!(stranger, refused(403, "AccessDenied"));
}
