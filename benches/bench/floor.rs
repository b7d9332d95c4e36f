//! What the same requests cost without reseal: a bare loop over hyper that signs with aws-sigv4, and a bare loop over the AWS SDK.

use std::cell::Cell;
use std::error::Error;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::null_s3::ETAG;
use super::run::{self, BUCKET, Cost, KEY_ARN, Manifest, NullStore, Rows, key};

/// Requests in flight.
const IN_FLIGHT: usize = 256;

/// CPU time for each object, of the whole runner and of what can't be left out. Each is run twice, and the second time counts.
pub fn cost() -> Result<(), Box<dyn Error>> {
    let objects = super::number("RESEAL_BENCH_OBJECTS", 50_000)?;
    let manifests = [
        ("reseal, full row", Manifest::write(Rows::Full, objects)?),
        ("reseal, bare row", Manifest::write(Rows::Bare, objects)?),
    ];
    type Run<'r> = &'r dyn Fn(&NullStore) -> Result<Cost, Box<dyn Error>>;
    let twice = |run: Run<'_>| {
        run(&NullStore::start("")?)?;
        let store = NullStore::start("")?;
        let cost = run(&store)?;
        Ok::<_, Box<dyn Error>>((cost, store.counts()?))
    };
    let bare = |which| {
        let program = std::env::current_exe()?;
        twice(&|store| {
            let objects = objects.to_string();
            let words = ["floor", which, &store.url, &objects].map(AsRef::as_ref);
            run::measured(&[&[program.as_os_str()], &words[..]].concat())
        })
    };
    let (sdk, sdk_counts) = bare("sdk")?;
    let (hyper, hyper_counts) = bare("hyper")?;
    let show = |name: &str, cost: Cost, counts: super::null_s3::Counts| {
        let each = |sum: f64| sum / objects as f64;
        println!(
            "{name:<18} {:6.1} µs of CPU an object  {:5.2} × SDK  {:5.2} × hyper  {:6.0} objects/s  {:5.1} MiB  {:.3} requests an object  {} twice",
            each(cost.cpu * 1e6),
            cost.cpu / sdk.cpu,
            cost.cpu / hyper.cpu,
            objects as f64 / cost.wall,
            cost.mebibytes(),
            each((counts.heads + counts.copies + counts.others) as f64),
            counts.keys_twice,
        );
    };
    show("SDK alone", sdk, sdk_counts);
    show("hyper alone", hyper, hyper_counts);
    for (name, manifest) in &manifests {
        let (cost, counts) = twice(&|store| run::reseal(manifest, &store.url, &[]))?;
        show(name, cost, counts);
    }
    Ok(())
}

/// Sends `objects` copies by one of the bare loops.
pub fn send(which: &str, url: &str, objects: u64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match which {
            "hyper" => hyper(url, objects).await,
            _ => sdk(url, objects).await,
        }
    })
}

fn credentials() -> Credentials {
    Credentials::from_keys("AKIAIOSFODNN7EXAMPLE", "bench", None)
}

/// Sends `objects` copies by hyper alone, one connection for each in flight.
async fn hyper(url: &str, objects: u64) -> Result<(), Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("no host")?.to_string();
    let identity: Identity = credentials().into();
    let next = Cell::new(0);
    let worker = async || -> Result<(), Box<dyn Error>> {
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        loop {
            let number = next.get();
            if number >= objects {
                return Ok(());
            }
            next.set(number + 1);
            copy(&mut sender, &authority, &identity, &key(number)).await?;
        }
    };
    let workers = (0..IN_FLIGHT).map(|_| worker());
    futures::future::try_join_all(workers).await.map(|_| ())
}

async fn copy(
    sender: &mut SendRequest<Empty<Bytes>>,
    authority: &str,
    identity: &Identity,
    key: &str,
) -> Result<(), Box<dyn Error>> {
    let path = format!("/{BUCKET}/{key}");
    let source = format!("{BUCKET}/{key}");
    let headers = [
        ("host", authority),
        ("x-amz-copy-source", &source),
        ("x-amz-copy-source-if-match", ETAG),
        ("if-match", ETAG),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", KEY_ARN),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ("x-amz-user-agent", "bench"),
    ];
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = SigningParams::builder()
        .identity(identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let url = format!("http://{authority}{path}");
    let signable = SignableRequest::new("PUT", url, headers.into_iter(), SignableBody::Bytes(b""))?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    let mut request = Request::builder().method(Method::PUT).uri(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request.body(Empty::new())?;
    instructions.apply_to_request_http1x(&mut request);
    debug_assert!(request.headers().contains_key(HOST));
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(answer.status().to_string().into());
    }
    answer.into_body().collect().await?;
    Ok(())
}

/// Sends `objects` copies by the AWS SDK as it comes, but for retries, which would hide what is measured.
async fn sdk(url: &str, objects: u64) -> Result<(), Box<dyn Error>> {
    let config = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(credentials())
        .endpoint_url(url)
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let copies = stream::iter(0..objects).map(|number| {
        let key = key(number);
        client
            .copy_object()
            .bucket(BUCKET)
            .copy_source(format!("{BUCKET}/{key}"))
            .key(key)
            .copy_source_if_match(ETAG)
            .if_match(ETAG)
            .storage_class(aws_sdk_s3::types::StorageClass::Standard)
            .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
            .ssekms_key_id(KEY_ARN)
            .bucket_key_enabled(true)
            .send()
    });
    let mut copies = copies.buffer_unordered(IN_FLIGHT);
    while let Some(copied) = copies.next().await {
        copied?;
    }
    Ok(())
}
