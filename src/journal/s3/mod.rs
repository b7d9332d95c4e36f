//! A state in S3: documents and batches as objects under a prefix.
//!
//! | key                                      | what                                                                       |
//! |------------------------------------------|----------------------------------------------------------------------------|
//! | `PREFIX/lock`                            | says what the prefix is; made once, and tried again by whoever opens it     |
//! | `PREFIX/NAME`                            | a document, replaced as a whole by one PutObject                           |
//! | `PREFIX/FOLDER/journal/00…00`            | a journal's header                                                         |
//! | `PREFIX/FOLDER/journal/NUMBER`           | the frame of that number, from 1 on, in 20 digits                          |
//!
//! Headers and frames are those of the file `journal` of a directory: one after the other they are that file, byte for byte.
//!
//! # Who has a number
//!
//! An object under a number is made with `If-None-Match: *` and never written again, so that each number is one runner's. A store
//! without that can't keep a state; `trial` finds out. A 412 may be the answer to an attempt that was done and whose answer was
//! lost: the object that is there tells. The same bytes are ours, for a number's batch is only ever sent as it was sent first.
//!
//! # What is sent again
//!
//! Reading and whole documents, here and within the bounds of [`Attempts`]. A batch is sent once: whether it is still wanted is for
//! the writer to say.

mod log;
#[cfg(test)]
mod tests;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::fs::{DirBuilder, OpenOptions};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use self::log::{S3Log, newest};
use super::store::{Hold, Log, Store};
use super::{DOCUMENT_BYTES_MAX, FRAME_BYTES_MAX, StateError, frame, is_passing};
use crate::retry::{self, Attempts, Verdict};
use crate::s3::{PutBytes, S3, TOO_LARGE};
use crate::s3_error::S3Error;

/// Keys of a page of a listing. Source: S3 API Reference, ListObjectsV2, `max-keys`: there are never more.
const PAGE_KEYS: u16 = 1000;

/// A state under a prefix of a bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    home: Arc<Home>,
}

impl S3Store {
    /// A state to read, which may not be there. Sends nothing.
    pub fn at(s3: S3, bucket: &str, prefix: &str) -> Self {
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let bucket = bucket.to_owned();
        Self {
            home: Arc::new(Home {
                s3,
                bucket,
                prefix,
                page_keys: PAGE_KEYS,
            }),
        }
    }

    /// A state to write. Tries whether the store can keep one.
    ///
    /// # Errors
    /// [`StateError::NoConditionalCreate`] where it can't; [`StateError::Store`] where the bucket is not there or may not be
    /// written.
    pub async fn open(s3: S3, bucket: &str, prefix: &str) -> Result<Self, StateError> {
        let store = Self::at(s3, bucket, prefix);
        trial::hold(&store.home).await?;
        Ok(store)
    }
}

#[async_trait]
impl Store for S3Store {
    fn place(&self, name: &str) -> String {
        self.home.url(name)
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.home.get(name, DOCUMENT_BYTES_MAX).await
    }

    async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        patiently(|| self.home.put(name, &bytes, PutBytes::Any))
            .await
            .map_err(|error| self.home.error("write", name, error))
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StateError> {
        self.home.create(name, &bytes).await
    }

    /// Nobody is kept out: whoever loses a number has been replaced.
    async fn hold(&self, _: &str) -> Result<Hold, StateError> {
        Ok(Arc::new(()))
    }

    async fn log(&self, folder: &str, job_id: &str) -> Result<Box<dyn Log>, StateError> {
        let log = S3Log::open(Arc::clone(&self.home), folder, job_id).await?;
        Ok(Box::new(log))
    }

    async fn peek(&self, folder: &str) -> Result<Option<Box<dyn Log>>, StateError> {
        let log = S3Log::find(Arc::clone(&self.home), folder).await?;
        Ok(log.map(|log| Box::new(log) as Box<dyn Log>))
    }

    /// Fetched anew each time, as `FOLDER.journal`, with `-` for `/`.
    async fn file(&self, folder: &str, scratch: &Path) -> Result<Option<PathBuf>, StateError> {
        let Some(mut log) = S3Log::find(Arc::clone(&self.home), folder).await? else {
            return Ok(None);
        };
        let path = scratch.join(format!("{}.journal", folder.replace('/', "-")));
        let unwritable = |error| StateError::io("write", path.display(), error);
        // As everything of a state: object keys and error messages are nobody else's business.
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700);
        folders.create(scratch).await.map_err(unwritable)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).await.map_err(unwritable)?;
        let mut file = BufWriter::with_capacity(FRAME_BYTES_MAX, file);
        let header = frame::header(log.job_id());
        file.write_all(&header).await.map_err(unwritable)?;
        while let Some(batch) = log.next().await? {
            let frame = frame::frame(log.seed(), batch.number, &batch.payload);
            file.write_all(&frame).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        Ok(Some(path))
    }

    /// By the clocks of this machine and the store.
    async fn last_written(&self, folder: &str) -> Result<Option<Duration>, StateError> {
        let newest = newest(&self.home, folder).await?;
        let written = newest
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Ok(written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default()))
    }
}

/// The prefix, and the ways to what is below it.
#[derive(Debug)]
struct Home {
    s3: S3,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// Keys of a page of a listing.
    page_keys: u16,
}

impl Home {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What to call a name; the empty name is the whole state.
    fn url(&self, name: &str) -> String {
        let url = format!("s3://{}/{}{name}", self.bucket, self.prefix);
        url.trim_end_matches('/').to_owned()
    }

    /// An object, whole; `None` where there is none.
    async fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StateError> {
        patiently(|| self.get_once(name, bytes_max))
            .await
            .or_else(none_where_missing)
            .map_err(|error| self.error("read", name, error))
    }

    async fn get_once(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, S3Error> {
        let key = self.key(name);
        let bytes = self.s3.get_bytes(&self.bucket, &key, bytes_max).await?;
        Ok(Some(bytes))
    }

    /// Sends a PutObject, once.
    async fn put(&self, name: &str, bytes: &[u8], put: PutBytes) -> Result<(), S3Error> {
        let key = self.key(name);
        self.s3.put_bytes(&self.bucket, &key, bytes, put).await
    }

    /// Makes an object; `false` where there is one that is not of ours.
    async fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StateError> {
        let mut attempts = 0_u32;
        let made = patiently(|| {
            attempts += 1;
            self.put(name, bytes, PutBytes::New)
        });
        match made.await {
            Ok(()) => Ok(true),
            Err(error) if !is_there_already(&error) => Err(self.error("write", name, error)),
            // An attempt before may have made it, and its answer got lost.
            Err(_) if attempts > 1 => {
                let there = self.get(name, DOCUMENT_BYTES_MAX).await?;
                Ok(there.as_deref() == Some(bytes))
            }
            Err(_) => Ok(false),
        }
    }

    /// What the store answered, or what it says of the state.
    fn error(&self, action: &'static str, name: &str, error: S3Error) -> StateError {
        let place = self.url(name);
        match error.code.as_str() {
            TOO_LARGE => StateError::damaged(&place, 0, error.message),
            _ => StateError::store(action, place, error),
        }
    }
}

/// Whether a PutObject with `If-None-Match: *` found an object.
fn is_there_already(error: &S3Error) -> bool {
    error.http_status == 412
}

/// No object is an answer, too; no bucket is not.
fn none_where_missing(error: S3Error) -> Result<Option<Vec<u8>>, S3Error> {
    if error.http_status == 404 && error.code != "NoSuchBucket" {
        Ok(None)
    } else {
        Err(error)
    }
}

/// Sends a request until it is answered, within the bounds of [`Attempts`].
async fn patiently<T, F>(mut request: impl FnMut() -> F) -> Result<T, S3Error>
where
    F: Future<Output = Result<T, S3Error>>,
{
    let mut attempts = Attempts::default();
    // A simulation is the same each time.
    let mut rng = if cfg!(test) {
        SmallRng::seed_from_u64(0)
    } else {
        SmallRng::from_rng(&mut rand::rng())
    };
    loop {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_passing(&error) {
            return Err(error);
        }
        let verdict = match retry::judge_look(&error) {
            again @ Verdict::Again { .. } => again,
            // Credentials that expired, and whoever else is writing: both pass.
            _ => Verdict::Again { throttled_by: None },
        };
        match attempts.next(&verdict, &error, &mut rng) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
    }
}
