//! What is made of what comes back.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::connection::ConnectionMetadata;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;
use crate::s3::credentials::Renewing;
use crate::s3_error::{
    CREDENTIALS_UNAVAILABLE, EMPTY_ANSWER, NO_ANSWER, NO_CONNECTION, NOT_SENT, UNREADABLE_ANSWER,
};

type Headers = &'static [(&'static str, &'static [u8])];

/// What a store may say of an object, or of a copy.
const HEADERS: &[Headers] = &[
    &[],
    &[("etag", b"\"e\""), ("content-length", b"5")],
    &[("etag", b"\"e\""), ("content-length", b"no number")],
    &[("etag", b"\"e\""), ("content-length", b"-1")],
    &[("x-amz-request-id", b"ID"), ("retry-after", b" 7 ")],
    &[("x-amz-request-id", b"\xff"), ("retry-after", b"tomorrow")],
    &[("x-amz-delete-marker", b"true"), ("x-amz-version-id", b"v")],
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        ("x-amz-version-id", b"v2"),
        ("x-amz-server-side-encryption", b"aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", b"arn"),
        ("x-amz-server-side-encryption-bucket-key-enabled", b"true"),
        ("last-modified", b"Wed, 12 Oct 2022 17:50:00 GMT"),
        ("content-type", b"text/plain"),
        ("content-encoding", b"gzip"),
        ("content-disposition", b"attachment"),
        ("content-language", b"de"),
        ("cache-control", b"no-store"),
        ("expires", b"some day"),
        ("x-amz-meta-a", b"1"),
        ("x-amz-meta-b", b"gr\xc3\xbcn"),
        ("x-amz-storage-class", b"GLACIER"),
        ("x-amz-restore", b"ongoing-request=\"false\""),
        ("x-amz-website-redirect-location", b"/there"),
        ("x-amz-tagging-count", b"3"),
        ("x-amz-mp-parts-count", b"7"),
        ("x-amz-object-lock-mode", b"COMPLIANCE"),
        (
            "x-amz-object-lock-retain-until-date",
            b"2096-10-02T07:06:40.123Z",
        ),
        ("x-amz-object-lock-legal-hold", b"ON"),
        ("x-amz-checksum-crc32", b"AAAAAA=="),
        ("x-amz-checksum-xxhash3", b"abc="),
        ("x-amz-checksum-type", b"COMPOSITE"),
    ],
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        ("expires", b"Wed, 12 Oct 2022 17:50:00 GMT"),
    ],
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        ("x-amz-meta-a", b"1"),
        ("x-amz-meta-a", b"2"),
    ],
    // No text, no date, no number.
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        ("x-amz-meta-a", b"gr\xfcn"),
        ("x-amz-meta-b", b"\xff"),
        ("x-amz-meta-b", b"text"),
        ("x-amz-missing-meta", b"1"),
        ("expires", b"\xff"),
        ("server", b"\xff"),
    ],
    &[
        ("etag", b"\"e\""),
        ("last-modified", b"\xff"),
        ("content-length", b"5"),
    ],
    &[
        ("etag", b"\"e\""),
        ("last-modified", b"yesterday"),
        ("content-length", b"5"),
    ],
    &[
        ("etag", b"\"e\""),
        ("x-amz-missing-meta", b"x"),
        ("content-length", b"5"),
    ],
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        (
            "x-amz-server-side-encryption-bucket-key-enabled",
            b"perhaps",
        ),
    ],
    &[
        ("etag", b"\"e\""),
        ("content-length", b"5"),
        ("x-amz-server-side-encryption-customer-algorithm", b"AES256"),
        ("x-amz-server-side-encryption-customer-key-md5", b"md5="),
    ],
];

const BODIES: &[&str] = &[
    "",
    "   ",
    COPIED,
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\n\n<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
     <LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;new&quot;</ETag>\
     <ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType></CopyObjectResult>",
    "<CopyObjectResult><LastModified>yesterday</LastModified><ETag>e</ETag></CopyObjectResult>",
    "<CopyObjectResult><ETag>\"new\"</ET",
    "<CopyObjectResult/>",
    "<SomethingElse/>",
    "no document",
    "<Error><Code>InternalError</Code><Message>We &amp; they</Message><RequestId>R</RequestId></Error>",
    "<?xml version=\"1.0\"?>\n\n<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>",
    "<Error><Code>ObjectNotInActiveTierError</Code><Message>archived</Message></Error>",
    "<Error><Code>NotFound</Code></Error>",
    "<Error><Code></Code><Message>nobody knows</Message></Error>",
    "<Error><Message>no code</Message></Error>",
    "<Error><Code>Cut",
    "<html><body>502 Bad Gateway</body></html>",
];

const STATUSES: &[u16] = &[
    200, 204, 206, 301, 307, 400, 401, 403, 404, 405, 409, 412, 416, 418, 429, 500, 501, 502, 503,
    504, 599,
];

#[tokio::test]
async fn every_answer_means_the_same_both_ways() {
    let both = Both::to(None).await;
    let (head, carry) = (head(), Carry::default());
    let mut table = Vec::new();
    for &status in STATUSES {
        table.extend(BODIES.iter().map(|&body| (status, HEADERS[4], body)));
    }
    for &headers in HEADERS {
        let cases = [(200, ""), (200, COPIED), (404, ""), (500, BODIES[9])];
        table.extend(cases.map(|(status, body)| (status, headers, body)));
    }
    let mut looks = Vec::new();
    for (status, headers, body) in table {
        let say =
            move |_: &HttpRequest| HttpConnectorFuture::ready(Ok(response(status, headers, body)));
        both.wire.answers(say);
        let told = format!("{status} {headers:?} {body}");
        let [(direct, _), (sdk, _)] = both.copy(copy(&head, &carry)).await;
        assert_eq!(direct, sdk, "{told}");
        // An answer to a HEAD has no body, but for some proxies.
        let [(direct, _), (sdk, _)] = both.look(object("k"), Ask::default()).await;
        assert_eq!(direct, sdk, "{told}");
        looks.extend(direct.ok());
    }
    // The table holds an object of which all is told.
    let whole = looks.iter().find(|head| head.parts == Some(7));
    let whole = whole.expect("read");
    assert_eq!(whole.headers.expires.as_deref(), Some("some day"));
    assert_eq!(whole.metadata["b"], "grün");
    assert!(whole.lock.legal_hold && whole.lock.retention.is_some());
    let dated = |head: &ObjectHead| {
        head.headers.expires.as_deref() == Some("Wed, 12 Oct 2022 17:50:00 GMT")
    };
    assert!(looks.iter().any(dated));
}

/// What a transport may say.
/// A failure, and the code that it gets.
type Failing = (fn() -> ConnectorError, &'static str);

fn failures() -> Vec<Failing> {
    vec![
        (|| ConnectorError::io("reset".into()), NO_ANSWER),
        (|| ConnectorError::timeout("slow".into()), NO_ANSWER),
        (|| ConnectorError::user("no URI".into()), NOT_SENT),
        (|| ConnectorError::other("?".into(), None), NO_ANSWER),
        (
            || ConnectorError::io("client error (Connect)".into()),
            NO_CONNECTION,
        ),
    ]
}

#[tokio::test]
async fn every_failure_means_the_same_both_ways() {
    let both = Both::to(None).await;
    let (head, carry) = (head(), Carry::default());
    for (failure, code) in failures() {
        both.wire
            .answers(move |_| HttpConnectorFuture::ready(Err(failure())));
        let [(direct, _), (sdk, _)] = both.copy(copy(&head, &carry)).await;
        assert_eq!(direct, sdk);
        assert_eq!(direct.expect_err("failed").code, code);
        let [(direct, _), (sdk, _)] = both.look(object("k"), Ask::default()).await;
        assert_eq!(direct, sdk);
        assert_eq!(direct.expect_err("failed").code, code);
    }
    // Cut off after some of it.
    for (status, code) in [(200, UNREADABLE_ANSWER), (503, "ServiceUnavailable")] {
        both.wire.answers(move |_| {
            let frames = [Ok(Frame::data(COPIED[..20].into())), Err("cut".into())];
            let frames = futures::stream::iter(frames).map(|frame: Result<_, BoxError>| frame);
            let mut answer = response(status, &[("x-amz-request-id", b"ID")], "");
            *answer.body_mut() = SdkBody::from_body_1_x(StreamBody::new(frames));
            HttpConnectorFuture::ready(Ok(answer))
        });
        let [(direct, _), (sdk, _)] = both.copy(copy(&head, &carry)).await;
        assert_eq!(direct, sdk);
        let error = direct.expect_err("cut");
        assert_eq!((&*error.code, error.http_status), (code, status));
        assert_eq!(error.request_id.as_deref(), Some("ID"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_waited_for_as_long_both_ways() {
    let both = Both::to(None).await;
    let carry = Carry::default();
    let head = ObjectHead::bare("\"e\"".to_owned(), 5 << 30, Encryption::SseS3);
    both.wire
        .answers(|_| HttpConnectorFuture::new(std::future::pending()));
    let [(direct, _), (sdk, _)] = both.copy(copy(&head, &carry)).await;
    assert_eq!(direct, sdk);
    assert_eq!(
        direct.expect_err("silence").message,
        "no answer within 1084 s"
    );
    let [(direct, _), (sdk, _)] = both.look(object("k"), Ask::default()).await;
    assert_eq!(direct, sdk);
    assert_eq!(direct.expect_err("silence").code, NO_ANSWER);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let both = Both::to(None).await;
    both.wire.answers(|_| {
        let frame = || Ok::<_, BoxError>(Frame::data(vec![b' '; 64 << 10].into()));
        let frames = futures::stream::repeat_with(frame);
        let mut answer = response(200, &[], "");
        *answer.body_mut() = SdkBody::from_body_1_x(StreamBody::new(frames));
        HttpConnectorFuture::ready(Ok(answer))
    });
    let (head, carry) = (head(), Carry::default());
    let error = both.direct.copy_in_place(copy(&head, &carry)).await;
    let error = error.expect_err("too long");
    assert_eq!(error.code, UNREADABLE_ANSWER, "{error}");
    assert!(error.message.contains("length limit exceeded"), "{error}");
    both.wire
        .answers(|_| HttpConnectorFuture::ready(Ok(response(200, &[], ""))));
    let error = both.direct.copy_in_place(copy(&head, &carry)).await;
    assert_eq!(error.expect_err("empty").code, EMPTY_ANSWER);
}

/// Credentials of a chain that gives these, in turn, and then for ever the last.
fn chain(gives: &'static [fn() -> Result<Credentials, CredentialsError>]) -> Signer {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    Signer::Renewing(Arc::new(Renewing::new(Box::new(move || {
        let turn = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(std::future::ready(gives[turn.min(gives.len() - 1)]()))
    }))))
}

fn new_credentials() -> Result<Credentials, CredentialsError> {
    Ok(Credentials::new("NEW", "hush", None, None, "test"))
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_fetched_anew() {
    let both = Both::with(None, || chain(&[|| Ok(credentials()), new_credentials])).await;
    both.wire.answers(|_| {
        let document = "<Error><Code>ExpiredToken</Code></Error>";
        HttpConnectorFuture::ready(Ok(response(400, &[], document)))
    });
    let (head, carry) = (head(), Carry::default());
    for s3 in [&both.direct, &both.sdk] {
        for key in ["AKID", "NEW", "NEW"] {
            let error = s3.copy_in_place(copy(&head, &carry)).await;
            assert!(error.expect_err("refused").is_of_credentials());
            let sent = both.wire.last();
            let signature = sent.headers().get("authorization").expect("signed");
            assert!(
                signature.contains(&format!("Credential={key}/")),
                "{signature}"
            );
            tokio::time::advance(Duration::from_secs(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_can_not_be_had_are_told_the_same_both_ways() {
    // Those that expire at once, and then none.
    fn expired() -> Result<Credentials, CredentialsError> {
        let expiry = SystemTime::now() + Duration::from_secs(8);
        Ok(Credentials::new("OLD", "hush", None, Some(expiry), "test"))
    }
    let both = Both::with(None, || {
        chain(&[expired, || {
            Err(CredentialsError::provider_error("the file is gone"))
        }])
    })
    .await;
    let ours = both.sdk.head(object("k"), Ask::default()).await;
    ours.expect("they are good still");
    tokio::time::advance(Duration::from_secs(20)).await;
    let (head, carry) = (head(), Carry::default());
    let [(direct, of_direct), (sdk, of_sdk)] = both.copy(copy(&head, &carry)).await;
    assert!(of_direct.is_none() && of_sdk.is_none());
    assert_eq!(direct, sdk);
    let error = direct.expect_err("no credentials");
    assert_eq!(error.code, CREDENTIALS_UNAVAILABLE);
    assert!(error.message.contains("the file is gone"), "{error}");
}

#[tokio::test]
async fn a_connection_on_which_the_server_failed_is_left() {
    let both = Both::to(None).await;
    let left = Arc::new(Mutex::new(0));
    for (status, body, leaves) in [
        (200, COPIED, false),
        (404, "", false),
        (500, "", true),
        (503, "<Error><Code>SlowDown</Code></Error>", false),
        (503, "", true),
        (501, "", false),
        (200, "<Error><Code>InternalError</Code></Error>", true),
    ] {
        let counted = Arc::clone(&left);
        both.wire.answers(move |request| {
            let counted = Arc::clone(&counted);
            if let Some(connection) = request.extension::<CaptureSmithyConnection>() {
                connection.set_connection_retriever(move || {
                    let counted = Arc::clone(&counted);
                    let poison = move || *counted.lock().unwrap() += 1;
                    Some(
                        ConnectionMetadata::builder()
                            .proxied(false)
                            .poison_fn(poison)
                            .build(),
                    )
                });
            }
            HttpConnectorFuture::ready(Ok(response(status, &[], body)))
        });
        let (head, carry) = (head(), Carry::default());
        for s3 in [&both.direct, &both.sdk] {
            *left.lock().unwrap() = 0;
            let _ = s3.copy_in_place(copy(&head, &carry)).await;
            assert_eq!(*left.lock().unwrap(), i32::from(leaves), "{status} {body}");
        }
    }
}
