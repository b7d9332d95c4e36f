//! What is learnt, and of whom nothing is.

use super::*;

/// A signed HEAD, as the SDK sends it; and with these headers otherwise.
async fn learnt_with(headers: &[(&'static str, Option<&str>)]) -> bool {
    let wire = Wire::new();
    let s3 = client(&wire, None, Signer::Fixed(credentials()));
    s3.head(object("k"), Ask::default()).await.expect("a look");
    let mut request = wire.last();
    for (name, value) in headers {
        match value {
            Some(value) => _ = request.headers_mut().insert(*name, (*value).to_owned()),
            None => _ = request.headers_mut().remove(*name),
        }
    }
    let written = learn::Written {
        path_and_query: "/k".to_owned(),
        headers: Vec::new(),
    };
    learn::way(&request, &written, SharedHttpConnector::new(wire)).is_some()
}

#[tokio::test]
async fn only_plain_signatures_are_learnt() {
    let scope = |algorithm: &str, scope: &str| {
        format!("{algorithm} Credential={scope}, SignedHeaders=host, Signature=00")
    };
    let plain = "AWS4-HMAC-SHA256";
    let ours = scope(plain, "A/K/20240101/eu-central-1/s3/aws4_request");
    assert!(learnt_with(&[]).await);
    assert!(learnt_with(&[("authorization", Some(&ours))]).await);
    for signature in [
        scope("AWS4-ECDSA-P256-SHA256", "AK/20240101/s3/aws4_request"),
        scope(plain, "AK/20240101/eu-central-1/s3express/aws4_request"),
        scope(
            plain,
            "AK/20240101/eu-central-1/s3-object-lambda/aws4_request",
        ),
        scope(plain, "AK/20240101/eu-central-1/s3/aws5_request"),
        "AWS AK:signature".to_owned(),
        "Bearer token".to_owned(),
    ] {
        let other = [("authorization", Some(&*signature))];
        assert!(!learnt_with(&other).await, "{signature}");
    }
    for (name, value) in [
        ("authorization", None),
        ("x-amz-content-sha256", None),
        ("x-amz-content-sha256", Some("UNSIGNED-PAYLOAD")),
        ("x-amz-s3session-token", Some("token")),
        ("x-amz-region-set", Some("*")),
        ("x-amz-trailer", Some("x-amz-checksum-crc32")),
        ("x-something-new", Some("1")),
    ] {
        assert!(!learnt_with(&[(name, value)]).await, "{name} {value:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_signed_for_otherwise_stays_with_the_sdk() {
    // Directory buckets want a session, which is asked for first.
    let wire = Wire::new();
    wire.answers(|request| {
        HttpConnectorFuture::ready(Ok(if request.uri().contains("?session") {
            let session = "<CreateSessionResult><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey>\
                           <AccessKeyId>A</AccessKeyId><Expiration>2096-10-02T07:06:40Z</Expiration></Credentials></CreateSessionResult>";
            response(200, &[], session)
        } else {
            response(200, &[("etag", b"\"e\""), ("content-length", b"1")], "")
        }))
    });
    let s3 = client(&wire, None, Signer::Fixed(credentials()));
    let directory = ObjectRef {
        bucket: "bucket--euc1-az1--x-s3",
        ..object("k")
    };
    for _ in 0..2 {
        s3.head(directory, Ask::default()).await.expect("a look");
        let headers = wire.last();
        let headers = headers.headers();
        assert!(headers.contains_key("x-amz-s3session-token"));
        assert!(headers.contains_key("amz-sdk-invocation-id"));
        assert!(matches!(
            s3.direct.known(directory.bucket),
            Some(Known::None)
        ));
    }
}

#[tokio::test]
async fn each_bucket_has_its_way_and_there_are_not_many() {
    let wire = Wire::new();
    let s3 = client(&wire, None, Signer::Fixed(credentials()));
    let is_direct = || !wire.last().headers().contains_key("amz-sdk-invocation-id");
    for number in 0..=WAYS_MAX {
        let bucket = format!("bucket-{number}");
        for time in 0..2 {
            let object = ObjectRef {
                bucket: &bucket,
                ..object("k")
            };
            s3.head(object, Ask::default()).await.expect("a look");
            assert_eq!(is_direct(), time > 0 && number < WAYS_MAX);
            assert!(wire.last().uri().contains(&bucket));
        }
    }
    let ways = s3.direct.ways.read().unwrap();
    assert_eq!(ways.len(), WAYS_MAX);
}

#[tokio::test]
async fn a_copy_teaches_as_a_look_does() {
    let wire = Wire::new();
    let s3 = client(&wire, None, Signer::Fixed(credentials()));
    let (mut head, carry) = (head(), Carry::default());
    head.headers.expires = Some("some day".to_owned());
    let copy = Copy {
        directive: Directive::Replace,
        ..copy(&head, &carry)
    };
    for is_direct in [false, true] {
        s3.copy_in_place(copy).await.expect("a copy");
        let sent = wire.last();
        let of_the_sdk = sent.headers().contains_key("amz-sdk-invocation-id");
        assert_eq!(of_the_sdk, !is_direct);
        assert_eq!(sent.headers().get("expires"), Some("some day"));
    }
}

#[tokio::test]
async fn no_debug_shows_a_secret() {
    let wire = Wire::new();
    let s3 = client(&wire, None, Signer::Fixed(credentials()));
    let key = CustomerKey::from_file_content(&[7; 32]).expect("32 bytes");
    let (head, carry) = (head(), Carry::default());
    s3.head(object("k"), Ask::default()).await.expect("a look");
    let target = Target::SseC(key.clone());
    let copy = Copy {
        target: &target,
        source_key: Some(&key),
        ..copy(&head, &carry)
    };
    s3.copy_in_place(copy).await.expect("a copy");
    let shown = format!("{s3:?} {:?} {:?}", wire.last(), s3.direct);
    for secret in ["hush", "tok/en", key.expose_base64()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
