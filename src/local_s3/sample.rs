//! A bucket of sample objects under all four modes, with awkward keys, and the check that they came through whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::server::LocalS3;
use crate::encryption::{CustomerKey, Mode};
use crate::manifest::encode_key;

/// Objects that are put or read at the same time.
const IN_FLIGHT: usize = 16;
/// The largest sample object, in bytes: a few frames of the store's encryption.
const OBJECT_BYTES_MAX: usize = 200_000;
/// The modes that objects are put under, in turn.
const MODES: [Mode; 4] = [Mode::SseS3, Mode::SseKms, Mode::DsseKms, Mode::SseC];
/// Keys that break tools: each is used once, as long as there are objects enough.
const AWKWARD_KEYS: [&str; 16] = [
    "../outside",
    "/leading/slash",
    "a//b",
    "folder/",
    "space and  two",
    "plus+plus",
    "percent%41%zz",
    "quote\"quote",
    "comma,comma",
    "new\nline",
    "tab\tand\rreturn",
    "ünïcödé/日本語/🔐",
    "question?versionId=x&a=b#c",
    ".",
    "..",
    "~tilde*star",
];

/// A bucket with sample objects.
pub struct Sample<'a> {
    client: Client,
    bucket: &'a str,
    objects: Vec<SampleObject>,
    /// The key of the SSE-C objects.
    customer_key: &'a CustomerKey,
}

struct SampleObject {
    key: String,
    mode: Mode,
    seed: usize,
}

/// What a look at every object found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects by mode.
    pub modes: BTreeMap<Mode, u64>,
    /// Objects whose bytes, metadata, tags, content type or storage class are not what was put, each with what differs.
    pub altered: Vec<String>,
}

/// The text of an error with its causes, for a person.
type Told = String;

impl<'a> Sample<'a> {
    /// Makes the bucket and puts `count` objects, under `kms_key` where they are under a KMS key.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn fill(
        server: &LocalS3,
        bucket: &'a str,
        count: usize,
        kms_key: &str,
        customer_key: &'a CustomerKey,
    ) -> Result<Self, Told> {
        let client = server.client();
        client
            .create_bucket()
            .bucket(bucket)
            .send()
            .await
            .map_err(told)?;
        let objects = (0..count).map(|seed| SampleObject {
            key: match AWKWARD_KEYS.get(seed) {
                Some(key) => (*key).to_owned(),
                None => format!("data/{:02}/object {seed:05}.bin", seed % 16),
            },
            mode: MODES[seed % MODES.len()],
            seed,
        });
        let sample = Self {
            client,
            bucket,
            objects: objects.collect(),
            customer_key,
        };
        stream::iter(&sample.objects)
            .map(Ok)
            .try_for_each_concurrent(IN_FLIGHT, |object| sample.put(object, kms_key))
            .await?;
        Ok(sample)
    }

    async fn put(&self, object: &SampleObject, kms_key: &str) -> Result<(), Told> {
        let mut request = self
            .client
            .put_object()
            .bucket(self.bucket)
            .key(&object.key)
            .body(ByteStream::from(object.body()))
            .content_type(object.content_type())
            .metadata("seed", object.seed.to_string())
            .tagging(format!("team={}", object.team()))
            .storage_class(object.storage_class());
        request = match object.mode {
            Mode::SseKms => request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key),
            Mode::DsseKms => request
                .server_side_encryption(ServerSideEncryption::AwsKmsDsse)
                .ssekms_key_id(kms_key),
            Mode::SseC => request
                .sse_customer_algorithm("AES256")
                .sse_customer_key(self.customer_key.expose_base64())
                .sse_customer_key_md5(self.customer_key.md5_base64()),
            Mode::SseS3 | Mode::NotSse => request,
        };
        request.send().await.map_err(told)?;
        Ok(())
    }

    /// An inventory of the bucket as S3 writes it: the rows of one data file, not yet compressed.
    pub fn inventory_csv(&self) -> String {
        let mut csv = String::new();
        for object in &self.objects {
            let _ = writeln!(
                csv,
                "\"{}\",\"{}\",\"{}\",\"{}\",\"{}\"",
                self.bucket,
                encode_key(&object.key),
                object.body().len(),
                object.storage_class().as_str(),
                object.mode
            );
        }
        csv
    }

    /// The columns of [`inventory_csv`](Self::inventory_csv).
    pub const INVENTORY_SCHEMA: &'static str = "Bucket, Key, Size, StorageClass, EncryptionStatus";

    /// Reads every object back, and compares it with what was put.
    ///
    /// # Errors
    /// An object can't be read.
    pub async fn check(&self) -> Result<Checked, Told> {
        let checks: Vec<(Mode, Option<String>)> = stream::iter(&self.objects)
            .map(|object| self.check_object(object))
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        let mut checked = Checked::default();
        for (mode, altered) in checks {
            *checked.modes.entry(mode).or_default() += 1;
            checked.altered.extend(altered);
        }
        Ok(checked)
    }

    async fn check_object(&self, object: &SampleObject) -> Result<(Mode, Option<String>), Told> {
        let get = |with_key: bool| {
            let request = self
                .client
                .get_object()
                .bucket(self.bucket)
                .key(&object.key);
            if !with_key {
                return request.send();
            }
            request
                .sse_customer_algorithm("AES256")
                .sse_customer_key(self.customer_key.expose_base64())
                .sse_customer_key_md5(self.customer_key.md5_base64())
                .send()
        };
        let mut answer = get(false).await;
        if object.mode == Mode::SseC && answer.is_err() {
            answer = get(true).await;
        }
        let answer = answer.map_err(told)?;
        let mode = match (
            answer.sse_customer_key_md5(),
            answer.server_side_encryption(),
        ) {
            (Some(_), _) => Mode::SseC,
            (None, Some(ServerSideEncryption::Aes256)) => Mode::SseS3,
            (None, Some(ServerSideEncryption::AwsKms)) => Mode::SseKms,
            (None, Some(ServerSideEncryption::AwsKmsDsse)) => Mode::DsseKms,
            (None, _) => Mode::NotSse,
        };
        let seed = answer.metadata().and_then(|metadata| metadata.get("seed"));
        let mut differs = Vec::new();
        if seed != Some(&object.seed.to_string()) {
            differs.push("metadata");
        }
        if answer.content_type() != Some(object.content_type()) {
            differs.push("content type");
        }
        if answer.storage_class().unwrap_or(&StorageClass::Standard) != &object.storage_class() {
            differs.push("storage class");
        }
        let body = answer
            .body
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        if body.into_bytes() != object.body() {
            differs.push("bytes");
        }
        let tags = self
            .client
            .get_object_tagging()
            .bucket(self.bucket)
            .key(&object.key);
        let tags = tags.send().await.map_err(told)?;
        if !matches!(tags.tag_set(), [tag] if tag.key() == "team" && tag.value() == object.team()) {
            differs.push("tags");
        }
        let altered =
            (!differs.is_empty()).then(|| format!("{:?}: {}", object.key, differs.join(", ")));
        Ok((mode, altered))
    }
}

impl SampleObject {
    /// Bytes that follow from the seed: as many as it says, none of them twice in a row.
    fn body(&self) -> Vec<u8> {
        let bytes = self.seed * 7_919 % OBJECT_BYTES_MAX;
        (0..bytes)
            .map(|i| ((i + 1) * (self.seed + 1) % 251) as u8)
            .collect()
    }

    fn content_type(&self) -> &'static str {
        ["text/plain", "image/png", "application/json"][self.seed % 3]
    }

    fn team(&self) -> &'static str {
        ["red", "green", "blue"][self.seed % 3]
    }

    fn storage_class(&self) -> StorageClass {
        match self.seed % 5 {
            0 => StorageClass::StandardIa,
            _ => StorageClass::Standard,
        }
    }
}

fn told(error: impl std::error::Error) -> Told {
    DisplayErrorContext(error).to_string()
}
