//! What a listing does not show of objects: a look at each.

use std::cell::Cell;

use futures::{StreamExt as _, TryStreamExt as _};

use super::row::{Looked, Row, Unknown};
use crate::encryption::Mode;
use crate::human;
use crate::limiter::Need;
use crate::listing::{Asker, Stop};
use crate::object::{ListedObject, ObjectRef};
use crate::retry::{self, Verdict};
use crate::s3::Ask;
use crate::s3_error::S3Error;

/// Characters of a key that are shown.
const KEY_CHARS_MAX: usize = 200;

/// S3's code for an object that it can't show without its customer key.
/// Source: its message, "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve
/// the object."
const NEEDS_A_KEY: &str = "InvalidRequest";

/// What became of a look.
enum Told {
    This(Looked),
    Refused(S3Error),
    Gone,
    Changed,
}

/// Looks at objects.
#[derive(Debug)]
pub struct Looks<'a> {
    asker: &'a Asker,
    bucket: &'a str,
    at_once: usize,
    has_warned: Cell<bool>,
}

impl<'a> Looks<'a> {
    /// At objects of a bucket, so many of one page at once.
    pub fn new(asker: &'a Asker, bucket: &'a str, at_once: usize) -> Self {
        Self {
            asker,
            bucket,
            at_once,
            has_warned: Cell::new(false),
        }
    }

    /// Looks at everything on a page.
    ///
    /// # Errors
    /// The store is not there, or nothing more may be sent.
    pub async fn at_all(&self, page: Vec<ListedObject>) -> Result<(Vec<Row>, Unknown), Stop> {
        let mut unknown = Unknown::default();
        let looks = futures::stream::iter(page).map(async |listed| {
            let told = self.at(&listed).await?;
            Ok((listed, told))
        });
        let looked: Vec<_> = looks.buffered(self.at_once).try_collect().await?;
        let mut rows = Vec::with_capacity(looked.len());
        for (listed, told) in looked {
            let looked = match told {
                Told::This(looked) => looked,
                Told::Refused(error) => {
                    self.warn_once(&listed.key, &error);
                    unknown.refused += 1;
                    Looked::default()
                }
                Told::Gone => {
                    unknown.gone += 1;
                    Looked::default()
                }
                Told::Changed => {
                    unknown.changed += 1;
                    Looked::default()
                }
            };
            rows.push(Row { listed, looked });
        }
        Ok((rows, unknown))
    }

    async fn at(&self, listed: &ListedObject) -> Result<Told, Stop> {
        if listed.is_delete_marker {
            return Ok(Told::This(Looked::default()));
        }
        // The SDK sends no request for such a key, and complains as if it were about everything.
        if listed.key.trim().is_empty() {
            return Ok(Told::Refused(S3Error::unsupported_key()));
        }
        let object = ObjectRef {
            bucket: self.bucket,
            key: &listed.key,
            version_id: listed.version_id.as_deref(),
        };
        let refused = match self.head(object, listed).await? {
            Ok(told) => return Ok(told),
            Err(refused) => refused,
        };
        match self.why_refused(object).await? {
            Some(told) => Ok(told),
            // Credentials that have been renewed meanwhile, say.
            None => Ok(self
                .head(object, listed)
                .await?
                .unwrap_or(Told::Refused(refused))),
        }
    }

    /// The inner error is a refusal.
    async fn head(
        &self,
        object: ObjectRef<'_>,
        listed: &ListedObject,
    ) -> Result<Result<Told, S3Error>, Stop> {
        let look = || self.asker.s3.head(object, Ask::default());
        match self
            .asker
            .ask("HeadObject", Need::read(object.key), look)
            .await
        {
            Ok(head) => {
                let etag = head.etag.trim_matches('"');
                if listed.etag.as_deref().is_some_and(|listed| listed != etag) {
                    return Ok(Ok(Told::Changed));
                }
                // HEAD has a word of its own for it.
                let replication = head.replication_status.map(|status| match status.as_str() {
                    "COMPLETE" => "COMPLETED".to_owned(),
                    _ => status,
                });
                Ok(Ok(Told::This(Looked {
                    replication,
                    ..Looked::of(&head.encryption)
                })))
            }
            Err(Stop::Store(error)) if error.http_status == 404 => Ok(Ok(Told::Gone)),
            Err(Stop::Store(error)) if (400..500).contains(&error.http_status) => Ok(Err(error)),
            Err(stop) => Err(stop),
        }
    }

    /// A HEAD is refused without a word. Its first byte is refused with one: is it a customer's key that is wanted, a right that is
    /// missing, or are it the credentials, which are no row's affair? `None` where it is not refused.
    async fn why_refused(&self, object: ObjectRef<'_>) -> Result<Option<Told>, Stop> {
        let read = || self.asker.s3.first_byte(object);
        let error = match self
            .asker
            .ask("GetObject", Need::read(object.key), read)
            .await
        {
            Ok(()) => return Ok(None),
            Err(Stop::Store(error)) => error,
            Err(stop) => return Err(stop),
        };
        let is_of_all = retry::judge_look(&error).without_waiting(&error) == Verdict::FailJob;
        match (error.http_status, error.code.as_str()) {
            (400, NEEDS_A_KEY) => Ok(Some(Told::This(Looked {
                encryption: Some(Mode::SseC.inventory_name()),
                bucket_key: Some("DISABLED"),
                replication: None,
            }))),
            (400..500, _) if is_of_all => Err(Stop::Store(error)),
            (404, _) => Ok(Some(Told::Gone)),
            (400..500, _) => Ok(Some(Told::Refused(error))),
            _ => Err(Stop::Store(error)),
        }
    }

    /// The first says what the matter is; the summary counts them.
    fn warn_once(&self, key: &str, error: &S3Error) {
        if !self.has_warned.replace(true) {
            tracing::warn!(
                "{}: its encryption can't be asked, and stays empty: {error}; others are counted",
                human::sanitize(key, KEY_CHARS_MAX)
            );
        }
    }
}
