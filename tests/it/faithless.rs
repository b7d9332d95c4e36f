//! The faithless stores that other tests run against are as faithless as they say, and no more.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::update_object_encryption::builders::UpdateObjectEncryptionFluentBuilder;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, MetadataDirective, ObjectEncryption,
    ServerSideEncryption, SsekmsEncryption,
};

use crate::support::faults::{Proxy, Weather};
use crate::support::objects;
use crate::support::{BUCKET, Store};

/// A client that goes through a proxy.
struct Through {
    store: Store,
    proxy: Proxy,
    client: Client,
}

impl Through {
    async fn start(weather: Weather) -> Self {
        let store = Store::start().await;
        let proxy = Proxy::before(&store.s3, weather);
        let config = store.client.config().to_builder();
        let config = config.endpoint_url(proxy.url()).build();
        Self {
            client: Client::from_conf(config),
            store,
            proxy,
        }
    }

    async fn read(&self, key: &str) -> Vec<u8> {
        let read = objects::read(&self.client, key, None).await;
        read.expect("readable")
    }

    /// A copy onto itself that asks for SSE-KMS.
    fn rewrite(&self, key: &str) -> CopyObjectFluentBuilder {
        let copy = self.client.copy_object().bucket(BUCKET).key(key);
        copy.copy_source(format!("{BUCKET}/{}", crate::support::url_encode(key)))
            .server_side_encryption(ServerSideEncryption::AwsKms)
    }

    fn update(&self, key: &str) -> UpdateObjectEncryptionFluentBuilder {
        let arn = self.store.add_kms_key(None);
        let kms = SsekmsEncryption::builder().kms_key_arn(arn).build();
        let update = self.client.update_object_encryption().bucket(BUCKET);
        update
            .key(key)
            .object_encryption(ObjectEncryption::Ssekms(kms.expect("an ARN")))
    }
}

/// Status and code of an answer; a success is 200 without a code.
fn told<T, E: ProvideErrorMetadata>(
    answer: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> (u16, String) {
    let Err(error) = answer else {
        return (200, String::new());
    };
    let status = error.raw_response().expect("an answer").status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn after_a_while_what_is_rewritten_is_rubbish() {
    let through = Through::start(Weather::Rubbish { after: 2 }).await;
    let keys = ["a", "b", "c d", ".reseal-scratch/x", "untouched", "parts"];
    for key in keys {
        objects::put_plain(&through.client, key, b"bytes").await;
    }
    for key in [".reseal-scratch/x", "a", "b", ".reseal-scratch/x", "c d"] {
        through.rewrite(key).send().await.expect("done");
    }
    for key in keys.into_iter().filter(|key| *key != "c d") {
        assert_eq!(through.read(key).await, b"bytes", "{key}");
    }
    // Every look says that all is well, also with the checksum.
    let get = through.client.get_object().bucket(BUCKET).key("c d");
    let get = get.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled);
    let body = get.send().await.expect("found").body;
    let body = body.collect().await.expect("no complaint").to_vec();
    assert_eq!((body.len(), body == b"bytes"), (5, false));
    let head = objects::head(&through.client, "c d", None).await;
    assert_eq!(head.content_length, Some(5));
    assert_eq!(through.proxy.seen().operations["CopyObject"], 5);

    let parts = |client: &Client| client.create_multipart_upload().bucket(BUCKET).key("parts");
    let created = parts(&through.client).send().await.expect("an upload");
    let upload_id = created.upload_id.expect("an id");
    let copy = through.client.upload_part_copy().bucket(BUCKET);
    let copy = copy.key("parts").upload_id(&upload_id).part_number(1);
    let copied = copy.copy_source(format!("{BUCKET}/parts")).send().await;
    let etag = copied.expect("a part").copy_part_result.expect("a result");
    let part = CompletedPart::builder().part_number(1);
    let part = part.e_tag(etag.e_tag.expect("an ETag")).build();
    let complete = through.client.complete_multipart_upload().bucket(BUCKET);
    let complete = complete.key("parts").upload_id(upload_id);
    let upload = CompletedMultipartUpload::builder().parts(part).build();
    let completed = complete.multipart_upload(upload).send().await;
    completed.expect("an object");
    assert_ne!(through.read("parts").await, b"bytes");

    objects::put_plain(&through.client, "c d", b"new").await;
    assert_eq!(through.read("c d").await, b"new");
}

#[tokio::test]
async fn a_copy_onto_itself_wants_replaced_metadata() {
    let through = Through::start(Weather::RefusesSelfCopy).await;
    for key in ["a b", "other"] {
        objects::put_plain(&through.client, key, b"bytes").await;
    }
    let told_of = async |copy: CopyObjectFluentBuilder| told(copy.send().await);
    let illegal = refused(400, "InvalidRequest");
    let itself = || through.rewrite("a b");
    assert_eq!(told_of(itself()).await, illegal);
    let copied = itself().metadata_directive(MetadataDirective::Copy);
    assert_eq!(told_of(copied).await, illegal);
    let replaced = itself().metadata_directive(MetadataDirective::Replace);
    assert_eq!(told_of(replaced).await, refused(200, ""));
    let elsewhere = itself().key("other");
    assert_eq!(told_of(elsewhere).await, refused(200, ""));
}

#[tokio::test]
async fn no_answer_shows_encryption() {
    let through = Through::start(Weather::SilentlyUnencrypted).await;
    let put = through.client.put_object().bucket(BUCKET).key("key");
    let put = put.server_side_encryption(ServerSideEncryption::AwsKms);
    let put = put.send().await.expect("put");
    assert_eq!(
        (put.server_side_encryption, put.ssekms_key_id),
        (None, None)
    );
    let copy = through.rewrite("key").send().await.expect("copied");
    assert_eq!(
        (copy.server_side_encryption, copy.ssekms_key_id),
        (None, None)
    );
    let head = objects::head(&through.client, "key", None).await;
    assert_eq!(
        (head.server_side_encryption, head.ssekms_key_id),
        (None, None)
    );
    let get = through.client.get_object().bucket(BUCKET).key("key");
    let get = get.send().await.expect("found");
    assert_eq!(
        (get.server_side_encryption, get.ssekms_key_id),
        (None, None)
    );
    let really = objects::head(&through.store.client, "key", None).await;
    assert_eq!(
        really.server_side_encryption,
        Some(ServerSideEncryption::AwsKms)
    );
}

#[tokio::test]
async fn an_update_overwrites() {
    let through = Through::start(Weather::OverwritesOnUpdate).await;
    objects::put_plain(&through.client, "a b", b"bytes").await;
    assert_eq!(told(through.update("a b").send().await), refused(200, ""));
    let found = through.read("a b").await;
    let found = String::from_utf8_lossy(&found);
    assert!(found.contains("<ObjectEncryption"), "{found}");
    let head = objects::head(&through.client, "a b", None).await;
    assert_eq!(head.content_length, i64::try_from(found.len()).ok());
}

#[tokio::test]
async fn an_update_is_not_implemented() {
    let through = Through::start(Weather::NoUpdate).await;
    objects::put_plain(&through.client, "key", b"bytes").await;
    let told = told(through.update("key").send().await);
    assert_eq!(told, refused(501, "NotImplemented"));
    assert_eq!(through.read("key").await, b"bytes");
    through.rewrite("key").send().await.expect("a copy works");
}

#[tokio::test]
async fn conditions_on_the_destination_are_ignored() {
    let through = Through::start(Weather::IgnoresDestination).await;
    let put = through.client.put_object().bucket(BUCKET).key("a b");
    let put = put.metadata("colour", "green").tagging("a=b");
    put.send().await.expect("put");
    let arn = through.store.add_kms_key(None);
    let stale = through.rewrite("a b").ssekms_key_id(&arn);
    let stale = stale.if_match("\"stale\"").send().await.expect("copied");
    assert_eq!(stale.ssekms_key_id.as_deref(), Some(arn.as_str()));
    let head = objects::head(&through.client, "a b", None).await;
    let result = stale.copy_object_result.expect("a result");
    assert_eq!(result.e_tag, head.e_tag);
    assert_eq!(result.last_modified, head.last_modified);
    assert_eq!(head.ssekms_key_id, Some(arn));
    assert_eq!(head.metadata.expect("metadata")["colour"], "green");
    assert_eq!(head.tag_count, Some(1));

    let exists = through.rewrite("a b").if_none_match("*").send().await;
    exists.expect("copied");
    // What a copy says of its source still holds.
    let both = through.rewrite("a b").if_match("\"stale\"");
    let both = both.copy_source_if_match("\"stale\"").send().await;
    assert_eq!(told(both), refused(412, "PreconditionFailed"));
}

#[tokio::test]
async fn what_is_forbidden_is_denied() {
    const FORBIDDEN: &[&str] = &[
        "GetBucketOwnershipControls",
        "GetBucketVersioning",
        "GetObjectAcl",
        "GetObjectLegalHold",
        "GetObjectLockConfiguration",
        "GetObjectRetention",
        "GetObjectTagging",
        "HeadObject",
    ];
    let through = Through::start(Weather::Forbids(FORBIDDEN)).await;
    let client = &through.client;
    objects::put_plain(client, "key", b"bytes").await;
    assert_eq!(through.read("key").await, b"bytes");
    let denied = refused(403, "AccessDenied");
    macro_rules! of_object {
        ($operation:ident) => {
            told(client.$operation().bucket(BUCKET).key("key").send().await)
        };
    }
    macro_rules! of_bucket {
        ($operation:ident) => {
            told(client.$operation().bucket(BUCKET).send().await)
        };
    }
    assert_eq!(of_object!(get_object_acl), denied);
    assert_eq!(of_object!(get_object_legal_hold), denied);
    assert_eq!(of_object!(get_object_retention), denied);
    assert_eq!(of_object!(get_object_tagging), denied);
    // An answer to HEAD has no body, so no code.
    assert_eq!(of_object!(head_object).0, 403);
    assert_eq!(of_bucket!(get_bucket_ownership_controls), denied);
    assert_eq!(of_bucket!(get_bucket_versioning), denied);
    assert_eq!(of_bucket!(get_object_lock_configuration), denied);
    assert_eq!(of_bucket!(get_bucket_encryption), refused(200, ""));
    assert_eq!(of_bucket!(list_object_versions), refused(200, ""));
    for operation in FORBIDDEN {
        assert_eq!(through.proxy.seen().operations[*operation], 1);
    }
}
