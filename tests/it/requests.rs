//! Every request of `s3`, alone, against the embedded S3.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule, VersioningConfiguration,
};
use reseal::bucket::{Acls, DefaultEncryption, Lifecycle, Notifications, ObjectLock, Versioning};
use reseal::encryption::{CustomerKey, Encryption, Mode, Target};
use reseal::object::{ChecksumKind, Grant, Grantee, Lock, ObjectHead, Retention};
use reseal::s3::{
    Ask, Carry, Complete, Copy, CopyPart, Create, Destination, Directive, Part, Put, S3,
    SourceCondition, unpaced,
};
use reseal::s3_error::{DELETE_MARKER, S3Error};
use sha2::{Digest as _, Sha256};

use crate::support::direct::{code, connect_to, headers, kms, object, tag, version};
use crate::support::{BUCKET, Store};

/// The smallest part that S3 takes, but for the last.
const PART: u64 = 5 << 20;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What a rewrite must not change.
fn kept(head: &ObjectHead) -> impl PartialEq + std::fmt::Debug {
    (
        (head.size, head.headers.clone(), head.metadata.clone()),
        (head.storage_class.clone(), head.website_redirect.clone()),
        (head.lock.clone(), head.tag_count),
    )
}

/// A bucket with all that S3 can do to an object.
async fn demanding_bucket() -> (Store, S3) {
    let store = Store::without_bucket();
    let bucket = store.client.create_bucket().bucket(BUCKET);
    let bucket = bucket.object_lock_enabled_for_bucket(true);
    bucket.send().await.expect("a bucket");
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter);
    let controls = OwnershipControls::builder().rules(rule.build().expect("a rule"));
    let request = store.client.put_bucket_ownership_controls().bucket(BUCKET);
    let request = request.ownership_controls(controls.build().expect("controls"));
    request.send().await.expect("ACLs");
    let s3 = connect_to(&store).await;
    (store, s3)
}

async fn put(s3: &S3, key: &str, target: &Target) {
    let metadata = BTreeMap::from([
        ("colour".to_owned(), "green, and so on".to_owned()),
        ("greeting".to_owned(), "grüß dich".to_owned()),
    ]);
    let (headers, tags) = (headers(), [tag("a b", "1+1=2"), tag("ö", "")]);
    let put = Put {
        object: object(key),
        body: b"some bytes",
        target: Some(target),
        headers: &headers,
        metadata: &metadata,
        tags: &tags,
        storage_class: Some("STANDARD_IA"),
    };
    let written = s3.put(put).await.expect("put");
    let said = written.encryption.expect("an encryption");
    assert!(target.is_satisfied_by(&said), "{said:?}");
}

#[tokio::test]
async fn a_copy_that_replaces_brings_everything_along() {
    let (store, s3) = demanding_bucket().await;
    let arn = store.add_kms_key(None);
    let (key, target) = ("a/b c+ä", kms(&arn));
    put(&s3, key, &Target::SseS3).await;
    let acl = s3.acl(object(key)).await.expect("an ACL");
    assert!(acl.is_owners_only(), "{acl:?}");
    let mut shared = acl.clone();
    let readers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
    for permission in ["READ", "READ_ACP"] {
        shared.grants.push(Grant {
            grantee: Grantee::Group(readers.to_owned()),
            permission: permission.to_owned(),
        });
    }
    shared.grants.sort();
    let before = s3.head(object(key), Ask::default()).await.expect("a look");
    let before_tags = s3.tags(object(key)).await.expect("tags");
    assert_eq!(before_tags, [tag("a b", "1+1=2"), tag("ö", "")]);
    assert_eq!(before.headers, headers());
    let lock = Lock {
        retention: Some(Retention {
            mode: "GOVERNANCE".to_owned(),
            until_ms: 4_000_000_000_000,
        }),
        legal_hold: true,
    };
    let carry = Carry {
        tags: Some(before_tags.clone()),
        acl: Some(shared.clone()),
        lock: lock.clone(),
    };
    let copy = Copy {
        object: object(key),
        head: &before,
        target: &target,
        source_key: None,
        directive: Directive::Replace,
        carry: &carry,
        source: SourceCondition::Etag,
        destination: Destination::Etag(&before.etag),
    };
    let written = s3.copy_in_place(copy).await.expect("copied");
    assert!(target.is_satisfied_by(&written.encryption.expect("an encryption")));
    let after = s3.head(object(key), Ask::default()).await.expect("a look");
    let expected = ObjectHead {
        lock: lock.clone(),
        ..before.clone()
    };
    assert_eq!(
        format!("{:?}", kept(&after)),
        format!("{:?}", kept(&expected))
    );
    assert_eq!(
        (written.etag, written.version_id),
        (Some(after.etag.clone()), after.version_id.clone())
    );
    assert_eq!(s3.tags(object(key)).await, Ok(before_tags));
    assert_eq!(s3.acl(object(key)).await, Ok(shared));
    assert_eq!(s3.retention(object(key)).await, Ok(lock.retention));
    assert_eq!(s3.legal_hold(object(key)).await, Ok(true));
    // The conditions, at either end.
    let stale = "\"00000000000000000000000000000000\"";
    let old = ObjectHead {
        etag: stale.to_owned(),
        ..before.clone()
    };
    for copy in [
        Copy {
            head: &old,
            destination: Destination::Any,
            ..copy
        },
        Copy {
            source: SourceCondition::None,
            destination: Destination::Etag(stale),
            ..copy
        },
        Copy {
            destination: Destination::Absent,
            ..copy
        },
        Copy {
            source: SourceCondition::UnmodifiedSince(1),
            ..copy
        },
    ] {
        assert_eq!(
            code(s3.copy_in_place(copy).await),
            "PreconditionFailed",
            "{copy:?}"
        );
    }
    // Nothing carried: the store copies the metadata, and the tags go where none are sent.
    let none = Carry {
        tags: Some(Vec::new()),
        ..Carry::default()
    };
    let old_version = before.version_id.as_deref().expect("a version");
    let bare = Copy {
        object: version(key, old_version),
        directive: Directive::Copy,
        carry: &none,
        destination: Destination::Any,
        ..copy
    };
    s3.copy_in_place(bare).await.expect("copied");
    let bare = s3.head(object(key), Ask::default()).await.expect("a look");
    assert_eq!(
        (&bare.metadata, &bare.headers),
        (&before.metadata, &before.headers)
    );
    assert_eq!(s3.tags(object(key)).await, Ok(Vec::new()));
    assert_eq!(s3.acl(object(key)).await, Ok(acl));
    assert_eq!(s3.retention(object(key)).await, Ok(None));
    assert_eq!(s3.legal_hold(object(key)).await, Ok(false));
}

#[tokio::test]
async fn versions_are_listed_marked_updated_and_removed() {
    let store = Store::start().await;
    let (s3, arn) = (connect_to(&store).await, store.add_kms_key(None));
    assert_eq!(s3.versioning(BUCKET).await, Ok(Versioning::Never));
    let key = "a\u{1}b";
    put(&s3, key, &Target::SseS3).await;
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
    let request = store.client.put_bucket_versioning().bucket(BUCKET);
    let request = request.versioning_configuration(versioning.build());
    request.send().await.expect("versioning");
    let marker = s3.put_delete_marker(BUCKET, key).await.expect("a marker");
    let marker = marker.expect("its version");
    assert_eq!(
        code(s3.head(object(key), Ask::default()).await),
        DELETE_MARKER
    );
    assert_eq!(
        code(s3.head(version(key, &marker), Ask::default()).await),
        DELETE_MARKER
    );
    for other in [key, "a\u{1}b/c", "a"] {
        put(&s3, other, &Target::SseS3).await;
    }
    let all = s3.versions(BUCKET, key).await.expect("versions");
    let kinds: Vec<_> = all.iter().map(|v| (v.is_delete_marker, v.size)).collect();
    assert_eq!(kinds, [(false, 10), (true, 0), (false, 10)]);
    assert_eq!(
        (all[1].version_id.as_str(), all[2].version_id.as_str()),
        (marker.as_str(), "null")
    );

    let null = version(key, "null");
    let before = s3.head(null, Ask::default()).await.expect("a look");
    assert_eq!(before.encryption, Encryption::SseS3);
    assert_eq!(all[2].etag.as_ref(), Some(&before.etag));
    s3.update_encryption(null, &arn, true)
        .await
        .expect("updated");
    let after = s3.head(null, Ask::default()).await.expect("a look");
    let expected = ObjectHead {
        encryption: Encryption::SseKms {
            key: Some(arn),
            bucket_key: true,
        },
        ..before
    };
    assert_eq!(after, expected);
    let read = s3
        .read(null, None, Some(&after.etag), unpaced)
        .await
        .expect("bytes");
    assert_eq!((read.sha256, read.size), (sha256(b"some bytes"), 10));
    assert_eq!(
        code(s3.read(null, None, Some("\"0\""), unpaced).await),
        "PreconditionFailed"
    );

    s3.delete_version(version(key, &marker))
        .await
        .expect("removed");
    let left = s3.versions(BUCKET, key).await.expect("versions");
    assert_eq!(left, [all[0].clone(), all[2].clone()]);
    assert!(s3.delete_version(object(key)).await.is_err());
    assert_eq!(s3.versions(BUCKET, key).await, Ok(left));
    assert_eq!(s3.versions(BUCKET, "a\u{1}").await, Ok(Vec::new()));
}

/// Three parts copied from `source`, and the whole put in its place.
async fn in_parts(
    s3: &S3,
    key: &str,
    head: &ObjectHead,
    (source_key, target): (Option<&CustomerKey>, &Target),
    checksum: (&str, ChecksumKind),
) -> Result<reseal::s3::Written, S3Error> {
    let carry = Carry {
        tags: Some(vec![tag("a", "b")]),
        ..Carry::default()
    };
    let create = Create {
        object: object(key),
        head,
        target,
        carry: &carry,
        checksum: Some(checksum),
    };
    let upload = s3.create_upload(create).await?;
    assert!(target.is_satisfied_by(&upload.encryption.expect("an encryption")));
    let mut parts: Vec<Part> = Vec::new();
    for (number, first) in (1..).zip((0..head.size).step_by(PART as usize)) {
        let part = CopyPart {
            object: object(key),
            upload_id: &upload.id,
            number,
            first,
            last: head.size.min(first + PART) - 1,
            etag: &head.etag,
            source_key,
            target,
        };
        parts.push(s3.copy_part(part).await?);
        let stale = CopyPart {
            etag: "\"0\"",
            ..part
        };
        assert_eq!(code(s3.copy_part(stale).await), "PreconditionFailed");
    }
    let listed = s3.list_parts(object(key), &upload.id, 0).await?;
    assert_eq!((&listed.parts, listed.more), (&parts, false));
    let rest = s3.list_parts(object(key), &upload.id, 2).await?;
    assert_eq!(rest.parts, parts[2..]);
    let complete = Complete {
        object: object(key),
        upload_id: &upload.id,
        parts: &parts,
        destination: Destination::Etag(&head.etag),
        target,
        checksum: Some(checksum.1),
        size: head.size,
    };
    let stale = Complete {
        destination: Destination::Etag("\"0\""),
        ..complete
    };
    assert_eq!(code(s3.complete_upload(stale).await), "PreconditionFailed");
    let short = Complete {
        size: head.size - 1,
        ..complete
    };
    assert_eq!(code(s3.complete_upload(short).await), "InvalidRequest");
    s3.complete_upload(complete).await
}

#[tokio::test]
async fn a_copy_in_parts_brings_everything_along() {
    let store = Store::start().await;
    let (s3, arn) = (connect_to(&store).await, store.add_kms_key(None));
    let old = CustomerKey::from_file_content(b"old customer key, 32 bytes long!").expect("32");
    let new = CustomerKey::from_file_content(b"new customer key, 32 bytes long!").expect("32");
    let body: Vec<u8> = (0..2 * PART + 1000).map(|n| (n % 251) as u8).collect();
    let key = "large";
    let request = store.client.put_object().bucket(BUCKET).key(key);
    let request = request
        .body(ByteStream::from(body.clone()))
        .content_type("x/y")
        .metadata("m", "n")
        .sse_customer_algorithm("AES256")
        .sse_customer_key(old.expose_base64())
        .sse_customer_key_md5(old.md5_base64());
    request.send().await.expect("put");
    let (to_customer, to_kms) = (Target::SseC(new.clone()), kms(&arn));
    let whole = ("CRC64NVME", ChecksumKind::FullObject);
    let of_parts = ("SHA256", ChecksumKind::Composite);
    let rewrites = [
        (Some(&old), &to_customer, whole, Some(true)),
        (Some(&new), &to_kms, of_parts, None),
    ];
    for (source_key, target, checksum, agree) in rewrites {
        let ask = Ask {
            customer_key: source_key,
            checksums: true,
            part: None,
        };
        let before = s3.head(object(key), ask).await.expect("a look");
        let written = in_parts(&s3, key, &before, (source_key, target), checksum);
        let written = written.await.expect("a copy in parts");
        let customer_key = match target {
            Target::SseC(key) => Some(key),
            _ => None,
        };
        let ask = Ask {
            customer_key,
            checksums: true,
            part: Some(3),
        };
        let after = s3.head(object(key), ask).await.expect("a look");
        assert_eq!((after.parts, after.size), (Some(3), 1000));
        let after = s3
            .head(object(key), Ask { part: None, ..ask })
            .await
            .expect("a look");
        assert!(target.is_satisfied_by(&after.encryption), "{after:?}");
        assert_eq!(written.etag.as_ref(), Some(&after.etag));
        assert_eq!(
            (&after.metadata, &after.headers),
            (&before.metadata, &before.headers)
        );
        assert_eq!(s3.tags(object(key)).await, Ok(vec![tag("a", "b")]));
        let (kind, value) = (after.checksums.kind, after.checksums.values.get(checksum.0));
        assert_eq!(kind, Some(checksum.1));
        assert_eq!(value, written.checksums.values.get(checksum.0));
        assert_eq!(before.checksums.agree(&after.checksums), agree);
        let of_parts = value.is_some_and(|value| value.ends_with("-3"));
        assert_eq!(of_parts, checksum == ("SHA256", ChecksumKind::Composite));
        let read = s3
            .read(object(key), customer_key, None, unpaced)
            .await
            .expect("bytes");
        assert_eq!((read.sha256, read.size), (sha256(&body), body.len() as u64));
    }
    let head = s3.head(object(key), Ask::default()).await.expect("a look");
    let create = Create {
        object: object("other"),
        head: &head,
        target: &to_kms,
        carry: &Carry::default(),
        checksum: None,
    };
    let upload = s3.create_upload(create).await.expect("an upload");
    for _ in 0..2 {
        s3.abort_upload(object("other"), &upload.id)
            .await
            .expect("aborted");
    }
    let gone = s3.list_parts(object("other"), &upload.id, 0).await;
    assert_eq!(code(gone), "NoSuchUpload");
}

#[tokio::test]
async fn a_bucket_tells_what_it_has_and_that_it_has_nothing() {
    let (store, s3) = demanding_bucket().await;
    assert_eq!(s3.versioning(BUCKET).await, Ok(Versioning::Enabled));
    assert_eq!(s3.acls(BUCKET).await, Ok(Acls::Enabled));
    assert_eq!(s3.object_lock(BUCKET).await, Ok(ObjectLock::Enabled));
    assert_eq!(s3.website(BUCKET).await, Ok(false));
    assert_eq!(s3.replication(BUCKET).await, Ok(Vec::new()));
    assert_eq!(s3.notifications(BUCKET).await, Ok(Notifications::default()));
    assert_eq!(s3.lifecycle(BUCKET).await, Ok(Lifecycle::default()));
    let arn = store.add_kms_key(None);
    let default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::AwsKms)
        .kms_master_key_id(&arn)
        .build();
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default.expect("a default"))
        .bucket_key_enabled(true);
    let rules = ServerSideEncryptionConfiguration::builder().rules(rule.build());
    let request = store.client.put_bucket_encryption().bucket(BUCKET);
    let request = request.server_side_encryption_configuration(rules.build().expect("rules"));
    request.send().await.expect("a default encryption");
    let told = s3.default_encryption(BUCKET).await.expect("an answer");
    let expected = DefaultEncryption {
        mode: Some(Mode::SseKms),
        kms_key: Some(arn),
        bucket_key: true,
        blocks_sse_c: told.blocks_sse_c,
    };
    assert_eq!(told, expected);
    assert_eq!(code(s3.website("no-such-bucket").await), "NoSuchBucket");
}
