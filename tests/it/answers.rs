//! What `s3` makes of the answers of AWS and of other stores, where the embedded S3 can't give them; and what it sends there.

use std::collections::BTreeMap;

use reseal::bucket::{DefaultEncryption, Lifecycle, Notifications, ReplicationRule};
use reseal::object::{Acl, ChecksumKind, ContentHeaders, Grant, Grantee, Lock, Retention};
use reseal::s3::{
    Ask, Carry, Copy, Destination, Directive, SourceCondition, TOO_MANY_VERSIONS, VERSIONS_MAX,
};
use reseal::s3_error::UNREADABLE_ANSWER;

use crate::support::BUCKET;
use crate::support::direct::{canned, code, headers, kms, object, version};

#[tokio::test]
async fn configurations_are_read_as_aws_writes_them() {
    let (_store, s3) = canned(
        b"",
        "<NotificationConfiguration>\
         <TopicConfiguration><Id>1</Id><Topic>t</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>\
         <QueueConfiguration><Id>2</Id><Queue>q</Queue><Event>s3:ObjectCreated:Put</Event>\
         <Event>s3:ObjectCreated:Copy</Event></QueueConfiguration>\
         <QueueConfiguration><Id>3</Id><Queue>q</Queue><Event>s3:ObjectRemoved:*</Event></QueueConfiguration>\
         <EventBridgeConfiguration/></NotificationConfiguration>",
    )
    .await;
    let expected = Notifications {
        destinations: 2,
        event_bridge: true,
    };
    assert_eq!(s3.notifications(BUCKET).await, Ok(expected));
    let (_store, s3) = canned(
        b"",
        "<LifecycleConfiguration>\
         <Rule><ID>1</ID><Status>Enabled</Status><Filter><Prefix/></Filter>\
         <Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>\
         <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>\
         <Rule><ID>2</ID><Status>Disabled</Status><Filter><Prefix/></Filter>\
         <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>\
         <Rule><ID>3</ID><Status>Enabled</Status><Filter><Prefix/></Filter><AbortIncompleteMultipartUpload>\
         <DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
         </LifecycleConfiguration>",
    )
    .await;
    let expected = Lifecycle {
        transitions: true,
        aborts_uploads: true,
        ..Lifecycle::default()
    };
    assert_eq!(s3.lifecycle(BUCKET).await, Ok(expected));
    let rule = |id: &str, status: &str, kms: &str| {
        format!(
            "<Rule><ID>{id}</ID><Status>{status}</Status><SourceSelectionCriteria><SseKmsEncryptedObjects>\
             <Status>{kms}</Status></SseKmsEncryptedObjects></SourceSelectionCriteria>\
             <Destination><Bucket>arn:aws:s3:::b</Bucket></Destination></Rule>"
        )
    };
    let rules = rule("1", "Enabled", "Enabled")
        + &rule("2", "Disabled", "Enabled")
        + &rule("3", "Enabled", "Disabled");
    let document =
        format!("<ReplicationConfiguration><Role>r</Role>{rules}</ReplicationConfiguration>");
    let (_store, s3) = canned(b"", &document).await;
    let rule = |id: &str, includes_kms| ReplicationRule {
        id: id.to_owned(),
        includes_kms,
    };
    assert_eq!(
        s3.replication(BUCKET).await,
        Ok(vec![rule("1", true), rule("3", false)])
    );
    let (_store, s3) = canned(
        b"",
        "<ServerSideEncryptionConfiguration><Rule><BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType>\
         </BlockedEncryptionTypes></Rule></ServerSideEncryptionConfiguration>",
    )
    .await;
    let expected = DefaultEncryption {
        blocks_sse_c: true,
        ..DefaultEncryption::default()
    };
    assert_eq!(s3.default_encryption(BUCKET).await, Ok(expected));
}

#[tokio::test]
async fn headers_that_are_no_ascii_are_shown_or_counted() {
    let (_store, s3) = canned(
        b"etag: \"e\"\r\nx-amz-meta-a: gr\xc3\xbcn\r\nx-amz-meta-b: gr\xfcn\r\nexpires: \xff\r\nx-amz-missing-meta: 1\r\n\
          x-amz-checksum-xxhash3: abc=\r\nx-amz-checksum-type: COMPOSITE\r\nx-amz-tagging-count: 4\r\n",
        "",
    )
    .await;
    let ask = Ask {
        checksums: true,
        ..Ask::default()
    };
    let head = s3.head(object("k"), ask).await.expect("a look");
    assert_eq!(
        head.metadata,
        BTreeMap::from([("a".to_owned(), "grün".to_owned())])
    );
    assert_eq!((head.headers.expires, head.missing_meta), (None, 3));
    assert_eq!(head.checksums.kind, Some(ChecksumKind::Composite));
    assert_eq!(
        head.checksums.values.get("XXHASH3").map(String::as_str),
        Some("abc=")
    );
    assert_eq!(head.tag_count, Some(4));
}

#[tokio::test]
async fn an_acl_names_whom_a_header_can_name() {
    let grant = |kind: &str, grantee: &str, permission: &str| {
        format!(
            "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\">{grantee}</Grantee>\
             <Permission>{permission}</Permission></Grant>"
        )
    };
    let grants = grant("Group", "<URI>http://g</URI>", "READ")
        + &grant(
            "AmazonCustomerByEmail",
            "<EmailAddress>a@b.c</EmailAddress>",
            "READ_ACP",
        )
        + &grant("CanonicalUser", "<ID>me</ID>", "FULL_CONTROL");
    let document = format!(
        "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    );
    let (_store, s3) = canned(b"", &document).await;
    let grant = |grantee, permission: &str| Grant {
        grantee,
        permission: permission.to_owned(),
    };
    let expected = Acl {
        owner: Some("me".to_owned()),
        grants: vec![
            grant(Grantee::Account("me".to_owned()), "FULL_CONTROL"),
            grant(Grantee::Group("http://g".to_owned()), "READ"),
            grant(Grantee::Other, "READ_ACP"),
        ],
    };
    assert!(!expected.can_be_sent());
    assert_eq!(s3.acl(object("k")).await, Ok(expected));
}

#[tokio::test]
async fn annotations_are_seen_and_an_object_is_not_taken_for_them() {
    let entry = "<AnnotationEntry><AnnotationName>n</AnnotationName></AnnotationEntry>";
    for (inside, expected) in [("", false), (entry, true)] {
        let document = format!(
            "<ListObjectAnnotationsOutput><Annotations>{inside}</Annotations></ListObjectAnnotationsOutput>"
        );
        let (store, s3) = canned(b"", &document).await;
        let answer = s3.has_annotations(version("k", "v")).await;
        assert_eq!(answer, Ok(expected), "{}", store.asked());
    }
    // Stores that don't know the question answer with the object.
    let (_store, s3) = canned(b"", "plain bytes").await;
    assert_eq!(
        code(s3.has_annotations(object("k")).await),
        UNREADABLE_ANSWER
    );
    let (_store, s3) = canned(b"content-length: 2000000\r\n", "never ending").await;
    let refused = s3
        .has_annotations(object("k"))
        .await
        .expect_err("no document");
    assert_eq!(refused.code, UNREADABLE_ANSWER, "{refused}");
    assert!(refused.message.contains("with an object"), "{refused}");
}

#[tokio::test]
async fn a_listing_keeps_the_documents_order() {
    let element = |kind: &str, id: &str, latest: bool, date: &str| {
        format!(
            "<{kind}><Key>k%20k</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>\
             <LastModified>{date}</LastModified><Size>1</Size></{kind}>"
        )
    };
    // An upload in parts bears the date of its beginning.
    let document = [
        element("Version", "3", true, "2024-01-01T00:00:00.000Z"),
        element("DeleteMarker", "2", false, "2024-01-03T00:00:00.000Z"),
        element("Version", "1", false, "2024-01-02T00:00:00.000Z"),
    ];
    let document = format!(
        "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{}</ListVersionsResult>",
        document.concat()
    );
    let (store, s3) = canned(b"", &document).await;
    let all = s3.versions(BUCKET, "k k").await.expect("versions");
    let ids: Vec<_> = all.iter().map(|v| v.version_id.as_str()).collect();
    assert_eq!(ids, ["3", "2", "1"], "{}", store.asked());
    // More than can be put in order is refused, not cut off.
    let date = "2024-01-01T00:00:00.000Z";
    let many = element("Version", "1", false, date).repeat(VERSIONS_MAX + 1);
    let document =
        format!("<ListVersionsResult><EncodingType>url</EncodingType>{many}</ListVersionsResult>");
    let (_store, s3) = canned(b"", &document).await;
    assert_eq!(code(s3.versions(BUCKET, "k k").await), TOO_MANY_VERSIONS);
}

#[tokio::test]
async fn what_the_sdk_would_change_is_sent_to_the_letter() {
    let document = "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>";
    let (store, s3) = canned(b"x-amz-version-id: v2\r\n", document).await;
    let (_look, looker) = canned(b"etag: \"e\"\r\n", "").await;
    let mut head = looker
        .head(object("k"), Ask::default())
        .await
        .expect("a look");
    head.headers = ContentHeaders {
        content_disposition: Some("attachment; filename=grün".to_owned()),
        expires: Some("some day, no date".to_owned()),
        ..headers()
    };
    let sent = [("a", "=?UTF-8?B?w6Q=?="), ("b", "ä")];
    let sent = sent.map(|(name, value)| (name.to_owned(), value.to_owned()));
    head.metadata = BTreeMap::from(sent);
    let carry = Carry {
        tags: Some(Vec::new()),
        lock: Lock {
            retention: Some(Retention {
                mode: "COMPLIANCE".to_owned(),
                until_ms: 4_000_000_000_123,
            }),
            legal_hold: false,
        },
        ..Carry::default()
    };
    let copy = Copy {
        object: version("k", "v1"),
        head: &head,
        target: &kms("alias/a"),
        source_key: None,
        directive: Directive::Replace,
        carry: &carry,
        source: SourceCondition::UnmodifiedSince(86_400),
        destination: Destination::Absent,
    };
    let written = s3.copy_in_place(copy).await.expect("copied");
    assert_eq!(written.version_id.as_deref(), Some("v2"));
    assert_eq!(written.encryption, None);
    let asked = store.asked();
    for line in [
        "expires: some day, no date",
        "content-disposition: attachment; filename=grün",
        "x-amz-meta-a: =?UTF-8?B?w6Q=?=",
        "x-amz-meta-b: =?UTF-8?B?w6Q=?=",
        "x-amz-metadata-directive: REPLACE",
        "x-amz-tagging-directive: REPLACE",
        "x-amz-object-lock-mode: COMPLIANCE",
        "x-amz-object-lock-retain-until-date: 2096-10-02T07:06:40.123Z",
        "x-amz-copy-source: bucket/k?versionId=v1",
        "x-amz-copy-source-if-unmodified-since: Fri, 02 Jan 1970 00:00:00 GMT",
        "if-none-match: *",
        "x-amz-server-side-encryption-bucket-key-enabled: true",
    ] {
        assert!(asked.lines().any(|sent| sent == line), "{line}\n{asked}");
    }
    for absent in ["x-amz-tagging:", "legal-hold", "if-match", "annotation"] {
        assert!(!asked.contains(absent), "{absent}\n{asked}");
    }
    let none = Carry::default();
    let plain = Copy {
        directive: Directive::Copy,
        carry: &none,
        ..copy
    };
    s3.copy_in_place(plain).await.expect("copied");
    let asked = store.asked();
    for absent in ["directive", "x-amz-meta", "\r\nexpires", "\r\ncontent-"] {
        assert!(!asked.contains(absent), "{absent}\n{asked}");
    }
}
