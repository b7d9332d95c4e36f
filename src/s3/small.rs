//! Objects that are a program's own: small enough to be held in memory, made once or replaced, and listed in the order of their keys.

use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::EncodingType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use super::read::{each_chunk, unpaced};
use super::request::decoded;
use super::{S3, answer, empty, ours, unreadable};
use crate::s3_error::S3Error;

/// Code of an object that is larger than whoever asks for it takes. Ours.
pub const TOO_LARGE: &str = "ObjectTooLarge";

/// How long the answer to a listing, the first byte of an object, or an upload of nothing may take: whoever waits can do nothing
/// else meanwhile, and asks again.
const BYTES_TIMEOUT: Duration = Duration::from_secs(30);

/// What an upload gets on top: a second for each so many bytes.
const UPLOAD_BYTES_PER_SECOND: u64 = 1 << 20;

/// Names of folders after which no further page is asked for, and most pages.
const FOLDERS_MAX: usize = 100_000;
const FOLDER_PAGES_MAX: usize = 1_000;

/// Whether there may be an object already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBytes {
    /// Then it is refused: 412 PreconditionFailed. `If-None-Match: *`.
    New,
    /// Then it is replaced.
    Any,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The object's size in bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970.
    pub last_modified: Option<i64>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, rising in the order of their bytes.
    pub keys: Vec<Listed>,
    /// Whether there are keys after the last of these.
    pub has_more: bool,
}

impl S3 {
    /// GetObject into memory, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// What the store answered; [`TOO_LARGE`].
    pub async fn get_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, S3Error> {
        const OPERATION: &str = "GetObject";
        let request = self.client.get_object().bucket(bucket).key(key);
        let answer = answer(BYTES_TIMEOUT, OPERATION, request.send()).await?;
        let mut bytes = Vec::new();
        each_chunk(OPERATION, answer, unpaced, |chunk| {
            bytes.extend_from_slice(chunk);
            if bytes.len() as u64 > bytes_max {
                let message = format!("the object has more than {bytes_max} bytes");
                return Err(ours(OPERATION, TOO_LARGE, 200, message));
            }
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// PutObject. Its MD5 goes along, so that what is kept is what was sent; buckets with an Object Lock of their own ask for it.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: &[u8],
        put: PutBytes,
    ) -> Result<(), S3Error> {
        const OPERATION: &str = "PutObject";
        let seconds = bytes.len() as u64 / UPLOAD_BYTES_PER_SECOND;
        let request = self
            .client
            .put_object()
            .bucket(bucket)
            .key(key)
            .content_md5(BASE64.encode(Md5::digest(bytes)))
            .set_if_none_match((put == PutBytes::New).then(|| "*".to_owned()))
            .body(ByteStream::from(bytes.to_vec()));
        let limit = BYTES_TIMEOUT + Duration::from_secs(seconds);
        let answer = answer(limit, OPERATION, request.send()).await?;
        match answer.e_tag() {
            Some(_) => Ok(()),
            None => Err(empty(OPERATION, "the answer says OK and nothing else")),
        }
    }

    /// ListObjectsV2: the names between a prefix and the next slash, those of the first `FOLDERS_MAX` or some more.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn folders(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, S3Error> {
        const OPERATION: &str = "ListObjectsV2";
        let mut names = Vec::new();
        let mut token = None;
        for _ in 0..FOLDER_PAGES_MAX {
            let request = self
                .client
                .list_objects_v2()
                .bucket(bucket)
                .prefix(prefix)
                .delimiter("/")
                .set_continuation_token(token.take())
                .encoding_type(EncodingType::Url);
            let page = answer(BYTES_TIMEOUT, OPERATION, request.send()).await?;
            let encoding = page.encoding_type();
            names.extend(page.common_prefixes().iter().filter_map(|folder| {
                let folder = decoded(folder.prefix()?, encoding);
                let name = folder.strip_prefix(prefix)?.strip_suffix('/')?;
                Some(name.to_owned())
            }));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || page.is_truncated() != Some(true) || names.len() >= FOLDERS_MAX {
                break;
            }
        }
        Ok(names)
    }

    /// ListObjectsV2: a page of the keys with a prefix that come after a key, at most `keys_max` of them and 1,000.
    ///
    /// # Errors
    /// What the store answered; a page that is not in order.
    pub async fn keys_after(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        keys_max: u16,
    ) -> Result<Page, S3Error> {
        const OPERATION: &str = "ListObjectsV2";
        let request = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .start_after(after)
            .max_keys(i32::from(keys_max))
            // Keys may hold characters that XML can't.
            .encoding_type(EncodingType::Url);
        let page = answer(BYTES_TIMEOUT, OPERATION, request.send()).await?;
        let encoding = page.encoding_type();
        let keys = page.contents().iter().filter_map(|object| {
            Some(Listed {
                key: decoded(object.key()?, encoding),
                size: object.size().and_then(|size| u64::try_from(size).ok())?,
                last_modified: object.last_modified().map(DateTime::secs),
            })
        });
        let keys: Vec<_> = keys.collect();
        let rises = keys.is_sorted_by(|one, next| one.key < next.key);
        let begins_behind = keys.first().is_none_or(|first| first.key.as_str() > after);
        let below = keys.iter().all(|listed| listed.key.starts_with(prefix));
        let has_more = page.is_truncated() == Some(true);
        let is_whole = keys.len() == page.contents().len() && !(has_more && keys.is_empty());
        if rises && begins_behind && below && is_whole {
            Ok(Page { keys, has_more })
        } else {
            let message =
                "a listing that is not in the order of the keys, or not of what was asked for";
            Err(unreadable(OPERATION, message))
        }
    }
}
