//! Stores that do something else than they say, made of one that does what it says.
//!
//! A request cannot be changed on its way: it is signed. So the proxy answers in the store's place, or changes the store's
//! answer, or acts with a client of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTimeFormat};

use tokio::sync::watch;

use super::Weather;
use super::message::Message;
use crate::support::url_decode;

/// Below this, reseal tries a store out.
const SCRATCH: &str = ".reseal-scratch/";

/// How long the first who makes an object waits for a second.
const COMPANY_WAIT: Duration = Duration::from_millis(500);

/// Headers of S3's own that the repeated copy has for itself.
const NOT_REPEATED: [&str; 5] = [
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-amz-user-agent",
    "x-amz-copy-source",
];

/// Headers that say what a copy asks for, besides S3's own.
const CONTENT: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// What a store does otherwise, and what it remembers of it.
pub struct Faithless {
    weather: Weather,
    client: Option<Client>,
    rewrites: Mutex<Rewrites>,
    /// How many make an object, by bucket and key. Once they are two nobody is taken away.
    makers: watch::Sender<BTreeMap<(String, String), u64>>,
}

#[derive(Default)]
struct Rewrites {
    done: u64,
    /// Bucket and key of what was rewritten as rubbish.
    rubbish: BTreeSet<(String, String)>,
}

impl Faithless {
    pub fn new(weather: Weather, client: Option<Client>) -> Self {
        let acts = matches!(
            weather,
            Weather::OverwritesOnUpdate
                | Weather::IgnoresDestination
                | Weather::IgnoresIfNoneMatch
                | Weather::LetsAllWin
        );
        assert!(
            client.is_some() || !acts,
            "{weather:?} needs `Proxy::before`"
        );
        Self {
            weather,
            client,
            rewrites: Mutex::default(),
            makers: watch::Sender::default(),
        }
    }

    pub fn weather(&self) -> Weather {
        self.weather
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("asserted in `new`")
    }

    /// The answer to a request that is not passed on.
    pub async fn instead(&self, request: &Message) -> Option<Message> {
        let operation = request.operation();
        let updates = operation == "UpdateObjectEncryption";
        let is_head = request.method() == "HEAD";
        let creates = operation == "PutObject" && request.header("if-none-match").is_some();
        match self.weather {
            Weather::RefusesSelfCopy if is_plain_self_copy(request) => {
                Some(Message::error(400, "InvalidRequest", false))
            }
            Weather::NoUpdate if updates => Some(Message::error(501, "NotImplemented", false)),
            Weather::OverwritesOnUpdate if updates => Some(self.overwrite(request).await),
            Weather::NoIfNoneMatch if creates => Some(Message::error(501, "NotImplemented", false)),
            Weather::IgnoresIfNoneMatch if creates => Some(self.overwrite(request).await),
            Weather::LetsAllWin if creates && self.has_company(request).await => {
                Some(self.overwrite(request).await)
            }
            Weather::Forbids(operations) if operations.contains(&operation.as_str()) => {
                Some(Message::error(403, "AccessDenied", is_head))
            }
            _ => None,
        }
    }

    /// The answer that the client gets, where it is not the store's own.
    pub async fn changed(&self, request: &Message, answer: &[u8]) -> Option<Message> {
        match self.weather {
            Weather::Rubbish { after } => self.with_rubbish(after, request, answer),
            Weather::SilentlyUnencrypted => {
                let mut answer = Message::parse(answer);
                answer.drop_headers("x-amz-server-side-encryption");
                Some(answer)
            }
            Weather::IgnoresDestination if request.operation() == "CopyObject" => {
                let answer = Message::parse(answer);
                let refused = ["If-Match", "If-None-Match"].iter().any(|condition| {
                    answer.body_contains(&format!("<Condition>{condition}</Condition>"))
                });
                if answer.status() != 412 || !refused {
                    return None;
                }
                self.copy_anyway(request).await
            }
            _ => None,
        }
    }

    /// Remembers what is rewritten, and changes one byte of what is read.
    fn with_rubbish(&self, after: u64, request: &Message, answer: &[u8]) -> Option<Message> {
        let (bucket, key) = request.place();
        let place = (bucket.to_owned(), key.to_owned());
        let mut answer = Message::parse(answer);
        let done = answer.status() == 200 && !answer.body_contains("<Error>");
        let mut rewrites = self.rewrites.lock().expect("nobody panicked");
        match request.operation().as_str() {
            "CopyObject" | "CompleteMultipartUpload" if done && !key.starts_with(SCRATCH) => {
                rewrites.done += 1;
                if rewrites.done > after {
                    rewrites.rubbish.insert(place);
                }
                None
            }
            "PutObject" if done => {
                rewrites.rubbish.remove(&place);
                None
            }
            "GetObject" if rewrites.rubbish.contains(&place) => {
                assert_eq!(answer.header("transfer-encoding"), None);
                // It is the store's own idea of the bytes that its checksum would be of.
                answer.drop_headers("x-amz-checksum-");
                let byte = answer.body.last_mut()?;
                *byte ^= 1;
                Some(answer)
            }
            _ => None,
        }
    }

    async fn overwrite(&self, request: &Message) -> Message {
        let (bucket, key) = decoded(request);
        let put = self.client().put_object().bucket(bucket).key(key);
        let put = put.body(ByteStream::from(request.body.clone()));
        let put = put.send().await.expect("the store takes an object");
        let etag = put.e_tag().expect("an ETag");
        Message::answer(200, &[("etag", etag)], "", false)
    }

    /// Whether somebody else makes the same object at the same time.
    async fn has_company(&self, request: &Message) -> bool {
        let place = decoded(request);
        self.makers.send_modify(|makers| {
            *makers.entry(place.clone()).or_default() += 1;
        });
        let mut makers = self.makers.subscribe();
        let company = makers.wait_for(|makers| makers.get(&place).is_some_and(|n| *n > 1));
        let has_company = tokio::time::timeout(COMPANY_WAIT, company).await.is_ok();
        if !has_company {
            self.makers.send_modify(|makers| {
                makers.remove(&place);
            });
        }
        has_company
    }

    /// Does a copy without its conditions on the destination; `None` when the store refuses it even so.
    async fn copy_anyway(&self, request: &Message) -> Option<Message> {
        let (bucket, key) = decoded(request);
        let asked: Vec<(String, String)> = request
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-") || CONTENT.contains(&name.as_str()))
            .filter(|(name, _)| !NOT_REPEATED.contains(&name.as_str()))
            .cloned()
            .collect();
        let copy = self.client().copy_object().bucket(bucket).key(key);
        let copy = copy.copy_source(request.header("x-amz-copy-source")?);
        let copy = copy.customize().mutate_request(move |request| {
            for (name, value) in &asked {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        });
        copy.send().await.ok().map(|done| copied(&done))
    }
}

/// Whether a request copies an object onto itself and does not replace its metadata.
fn is_plain_self_copy(request: &Message) -> bool {
    let source = request.header("x-amz-copy-source").unwrap_or_default();
    let source = source.split('?').next().unwrap_or_default();
    let source = url_decode(source.trim_start_matches('/'));
    let (bucket, key) = decoded(request);
    request.operation() == "CopyObject"
        && source == format!("{bucket}/{key}")
        && request.header("x-amz-metadata-directive") != Some("REPLACE")
}

fn decoded(request: &Message) -> (String, String) {
    let (bucket, key) = request.place();
    (url_decode(bucket), url_decode(key))
}

/// The answer to a copy that the proxy has made.
fn copied(done: &CopyObjectOutput) -> Message {
    let result = done.copy_object_result();
    let date = result.and_then(|result| result.last_modified());
    let date = date.and_then(|date| date.fmt(DateTimeFormat::DateTime).ok());
    let etag = result.and_then(|result| result.e_tag()).unwrap_or_default();
    let body = format!(
        "<CopyObjectResult><LastModified>{}</LastModified><ETag>{}</ETag></CopyObjectResult>",
        date.unwrap_or_default(),
        etag.replace('"', "&quot;")
    );
    let sse = "x-amz-server-side-encryption";
    let bucket_key = done.bucket_key_enabled().map(|enabled| enabled.to_string());
    let headers: Vec<(String, &str)> = [
        (
            sse.to_owned(),
            done.server_side_encryption().map(|mode| mode.as_str()),
        ),
        (format!("{sse}-aws-kms-key-id"), done.ssekms_key_id()),
        (format!("{sse}-bucket-key-enabled"), bucket_key.as_deref()),
        (
            format!("{sse}-customer-algorithm"),
            done.sse_customer_algorithm(),
        ),
        (
            format!("{sse}-customer-key-md5"),
            done.sse_customer_key_md5(),
        ),
        ("x-amz-version-id".to_owned(), done.version_id()),
        (
            "x-amz-copy-source-version-id".to_owned(),
            done.copy_source_version_id(),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    Message::answer(200, &headers, &body, false)
}
