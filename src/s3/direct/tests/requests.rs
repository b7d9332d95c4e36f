//! What is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use time::macros::format_description;

use super::*;
use crate::object::{Acl, ContentHeaders, Grant, Grantee, Lock, Retention, Tag};
use crate::s3_error::NOT_SENT;

/// What a [`Copy`] refers to.
#[derive(Clone, Debug)]
struct Case {
    key: String,
    version: Option<String>,
    head: ObjectHead,
    target: Target,
    source_key: Option<CustomerKey>,
    replaces: bool,
    carry: Carry,
    source: SourceCondition,
    destination: u8,
}

impl Case {
    fn copy(&self) -> Copy<'_> {
        Copy {
            object: ObjectRef {
                bucket: BUCKET,
                key: &self.key,
                version_id: self.version.as_deref(),
            },
            head: &self.head,
            target: &self.target,
            source_key: self.source_key.as_ref(),
            directive: if self.replaces {
                Directive::Replace
            } else {
                Directive::Copy
            },
            carry: &self.carry,
            source: self.source,
            destination: match self.destination {
                0 => Destination::Etag(&self.head.etag),
                1 => Destination::Absent,
                _ => Destination::Any,
            },
        }
    }
}

/// Any key: any characters at all, or mostly those that an URI has another use for.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,30}",
        "[a/.~+%?&=# \"<>\\\\^`{|}\\x00-\\x1f\\x7fäß€😀]{1,30}",
        Just("..".to_owned()),
        Just("/a//b/../c/./".to_owned()),
    ]
}

/// What a header may hold, seldom what it may not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[ -~]{0,20}",
        4 => "[ -~äß€]{0,20}",
        1 => "[a\\n\\x00\\x7f]{1,3}",
    ]
}

fn content() -> impl Strategy<Value = ContentHeaders> {
    let of = || option::of(value());
    (of(), of(), of(), of(), of(), of()).prop_map(|(a, b, c, d, e, f)| ContentHeaders {
        content_type: a,
        content_encoding: b,
        content_disposition: c,
        content_language: d,
        cache_control: e,
        expires: f,
    })
}

fn customer_key() -> impl Strategy<Value = CustomerKey> {
    any::<[u8; 32]>().prop_map(|key| CustomerKey::from_file_content(&key).expect("32 bytes"))
}

fn target() -> impl Strategy<Value = Target> {
    let kms = || {
        let key = option::of("[a-z:/0-9-]{1,20}");
        let context = option::of("[ -~ä]{0,20}");
        let resolved = option::of(Just("arn:aws:kms:r:1:key/2".to_owned()));
        (key, option::of(any::<bool>()), context, resolved).prop_map(
            |(key_id, bucket_key, context, resolved)| KmsTarget {
                key_id,
                bucket_key,
                context,
                resolved,
            },
        )
    };
    prop_oneof![
        Just(Target::SseS3),
        kms().prop_map(Target::SseKms),
        kms().prop_map(Target::DsseKms),
        customer_key().prop_map(Target::SseC),
    ]
}

fn lock() -> impl Strategy<Value = Lock> {
    let until = prop_oneof![Just(1_000), 4_000_000_000_000_i64..5_000_000_000_000];
    let retention = ("GOVERNANCE|COMPLIANCE|OTHER", until)
        .prop_map(|(mode, until_ms)| Retention { mode, until_ms });
    (option::of(retention), any::<bool>()).prop_map(|(retention, legal_hold)| Lock {
        retention,
        legal_hold,
    })
}

fn carry() -> impl Strategy<Value = Carry> {
    let tag = (value(), value()).prop_map(|(key, value)| Tag { key, value });
    let grantee = prop_oneof![
        "[a-f0-9]{8}".prop_map(Grantee::Account),
        "http://[a-z/]{8}".prop_map(Grantee::Group),
        Just(Grantee::Other),
    ];
    let grant = (grantee, "READ|READ_ACP|WRITE_ACP|FULL_CONTROL|WRITE").prop_map(
        |(grantee, permission)| Grant {
            grantee,
            permission,
        },
    );
    let acl = vec(grant, 0..4).prop_map(|grants| Acl {
        owner: None,
        grants,
    });
    (option::of(vec(tag, 0..3)), option::of(acl), lock()).prop_map(|(tags, acl, lock)| Carry {
        tags,
        acl,
        lock,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let metadata = btree_map("[a-z0-9-]{1,8}|[A-Zä ]{1,3}", value(), 0..4);
    let class = option::of("STANDARD_IA|GLACIER_IR|SOME_CLASS");
    let head = (
        "\"[0-9a-f]{8}\"|[a-z]{3}|\"\n\"",
        class,
        option::of(value()),
        content(),
        metadata,
    )
        .prop_map(
            |(etag, storage_class, website_redirect, headers, metadata)| ObjectHead {
                storage_class,
                website_redirect,
                headers,
                metadata,
                ..ObjectHead::bare(etag, 1, Encryption::SseS3)
            },
        );
    let source = prop_oneof![
        Just(SourceCondition::Etag),
        Just(SourceCondition::None),
        (0_i64..4_000_000_000).prop_map(SourceCondition::UnmodifiedSince),
    ];
    let version = option::of("null|[A-Za-z0-9._+/= ä]{1,12}");
    (
        (key(), version, head, target(), option::of(customer_key())),
        (any::<bool>(), carry(), source, 0_u8..3),
    )
        .prop_map(
            |((key, version, head, target, source_key), (replaces, carry, source, destination))| {
                Case {
                    key,
                    version,
                    head,
                    target,
                    source_key,
                    replaces,
                    carry,
                    source,
                    destination,
                }
            },
        )
}

/// All that is the same for both ways: method, URI, headers.
fn said(request: &HttpRequest) -> (String, String, BTreeMap<String, Vec<u8>>) {
    let headers = request.headers().iter_bytes();
    let headers = headers.filter(|(name, _)| {
        !name.starts_with("amz-sdk-") && !matches!(*name, "authorization" | "x-amz-date")
    });
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let count = headers.len();
    let headers = BTreeMap::from_iter(headers);
    assert_eq!(headers.len(), count, "no header twice");
    let (method, uri) = (request.method().to_owned(), request.uri().to_owned());
    assert_eq!(request.body().bytes(), Some(&b""[..]));
    (method, uri, headers)
}

/// Signs a request that has been signed already, for the same time, and holds the signatures against each other.
fn assert_signed_as_we_sign(way: &Way, request: &HttpRequest) {
    let mut again = request.try_clone().expect("no stream");
    let header = |name| request.headers().get(name).expect("signed").to_owned();
    let (signature, date) = (header("authorization"), header("x-amz-date"));
    for name in [
        "authorization",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        // The SDK does not sign them.
        "amz-sdk-invocation-id",
        "amz-sdk-request",
    ] {
        again.headers_mut().remove(name);
    }
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = time::PrimitiveDateTime::parse(&date, format).expect("a date");
    let seconds = u64::try_from(date.assume_utc().unix_timestamp()).expect("after 1970");
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    way.sign(&mut again, credentials(), date).expect("signed");
    assert_eq!(again.headers().get("authorization"), Some(&*signature));
    assert_eq!(said(&again), said(request));
}

fn assert_same<T: fmt::Debug + PartialEq>(
    way: &Way,
    both: [(Result<T, S3Error>, Option<HttpRequest>); 2],
) -> bool {
    let [(direct, of_direct), (sdk, of_sdk)] = both;
    let (Some(of_direct), Some(of_sdk)) = (&of_direct, &of_sdk) else {
        let neither = of_direct.is_none() && of_sdk.is_none();
        assert!(neither, "{direct:?} {sdk:?}");
        // Of two headers that can't be, either may be named.
        let code = |answer: Result<T, S3Error>| answer.expect_err("nothing was sent").code;
        assert_eq!((&*code(direct), &*code(sdk)), (NOT_SENT, NOT_SENT));
        return false;
    };
    assert_eq!(direct, sdk);
    assert!(of_sdk.headers().contains_key("amz-sdk-invocation-id"));
    assert!(!of_direct.headers().contains_key("amz-sdk-invocation-id"));
    assert_eq!(said(of_direct), said(of_sdk));
    assert_signed_as_we_sign(way, of_direct);
    assert_signed_as_we_sign(way, of_sdk);
    true
}

const ENDPOINTS: [Option<&str>; 4] = [
    None,
    Some("http://store.test:9000"),
    Some("https://store.test/below/"),
    Some("http://[::1]:9000/"),
];

fn run(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_copy_is_sent_as_the_sdk_sends_it(case in case(), endpoint in 0..ENDPOINTS.len()) {
        run(async {
            let both = Both::to(ENDPOINTS[endpoint]).await;
            let way = both.direct.direct.way(object("k")).expect("learnt");
            assert_same(&way, both.copy(case.copy()).await);
        });
    }

    #[test]
    fn a_look_is_sent_as_the_sdk_sends_it(
        key in key(),
        version in option::of("null|[A-Za-z0-9._+/= ä&?]{1,12}"),
        customer_key in option::of(customer_key()),
        checksums in any::<bool>(),
        part in option::of(any::<u32>()),
        endpoint in 0..ENDPOINTS.len(),
    ) {
        run(async {
            let both = Both::to(ENDPOINTS[endpoint]).await;
            let way = both.direct.direct.way(object("k")).expect("learnt");
            let object = ObjectRef { version_id: version.as_deref(), ..object(&key) };
            let ask = Ask { customer_key: customer_key.as_ref(), checksums, part };
            let is_sent = assert_same(&way, both.look(object, ask).await);
            assert_eq!(is_sent, !key.trim().is_empty());
        });
    }
}

#[tokio::test]
async fn what_no_header_can_hold_is_not_sent() {
    let both = Both::to(None).await;
    let way = both.direct.direct.way(object("k")).expect("learnt");
    let mut head = head();
    head.website_redirect = Some("/a\nb".to_owned());
    let carry = Carry::default();
    assert!(!assert_same(&way, both.copy(copy(&head, &carry)).await));
    // Blank keys are none to the SDK.
    head.website_redirect = None;
    for key in ["", " ", "\t\u{3000}"] {
        let nowhere = Copy {
            object: object(key),
            ..copy(&head, &carry)
        };
        assert!(!assert_same(&way, both.copy(nowhere).await));
        assert!(!assert_same(
            &way,
            both.look(object(key), Ask::default()).await
        ));
    }
}
