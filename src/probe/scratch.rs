//! Scratch objects: put, and looked at whole.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Reason;
use super::asking::{ask, said};
use crate::bucket::{BucketFacts, Versioning};
use crate::encryption::{CustomerKey, Target};
use crate::limiter::{Kind, Limiter};
use crate::object::{ContentHeaders, ObjectHead, ObjectRef, Tag};
use crate::s3::{Ask, Put, ReadBack, S3, Version, unpaced};
use crate::s3_error::S3Error;

/// Size of a scratch object: enough that a store which puts something else in its place is found out.
pub(super) const BODY_BYTES: usize = 4_099;

/// What the scratch objects of one probe have in common, and what has to be removed after it.
pub(super) struct Scratch<'a> {
    pub(super) s3: &'a S3,
    limiter: &'a Limiter,
    pub(super) bucket: &'a BucketFacts,
    pub(super) prefix: &'a str,
    tagging: Tagging,
    /// How many were put: no two have the same content, not even under one key.
    puts: u32,
    /// Every key that something may be under, with the versions that were seen.
    pub(super) keys: BTreeMap<String, BTreeSet<String>>,
    /// Whether a probe of this kind begins uploads at all.
    pub(super) may_begin_uploads: bool,
    /// Whether any upload was to be begun.
    pub(super) uploads_begin: bool,
    /// Key and id of every upload that is not known to be over.
    pub(super) uploads: BTreeSet<(String, String)>,
    /// What the operator has to know.
    pub(super) notes: Vec<String>,
}

/// Whether scratch objects have tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tagging {
    /// They are sent; whether the store keeps them is not known yet.
    Untried,
    /// They are sent, and what comes back is compared.
    Compared,
    /// They are neither sent nor compared.
    LeftOut,
}

/// A scratch object as it was found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: String,
    pub(super) head: ObjectHead,
    pub(super) body: ReadBack,
    /// Sorted; `None` where tags are left out.
    pub(super) tags: Option<Vec<Tag>>,
}

impl Seen {
    /// Whether the look told how many tags there are.
    pub(super) fn shows_tag_count(&self) -> bool {
        let tags = self.tags.as_ref().map(Vec::len);
        tags.is_some_and(|tags| self.head.tag_count.map(|count| count as usize) == Some(tags))
    }
}

impl<'a> Scratch<'a> {
    pub(super) fn new(
        s3: &'a S3,
        limiter: &'a Limiter,
        bucket: &'a BucketFacts,
        prefix: &'a str,
        with_copies: bool,
    ) -> Self {
        Self {
            s3,
            limiter,
            bucket,
            prefix,
            tagging: if with_copies {
                Tagging::Untried
            } else {
                Tagging::LeftOut
            },
            puts: 0,
            keys: BTreeMap::new(),
            may_begin_uploads: with_copies,
            uploads_begin: false,
            uploads: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    /// Waits until one more request is within the job's budgets. Most of them change something.
    pub(super) async fn turn(&self) {
        self.limiter.turn(Kind::Write).await;
    }

    /// Sends a request, in its turn, until it is answered.
    pub(super) async fn ask<T, F>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<Result<T, S3Error>, Reason>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        ask(|| async {
            self.turn().await;
            request().await
        })
        .await
    }

    /// The current version of a scratch key.
    pub(super) fn object<'k>(&'k self, key: &'k str) -> ObjectRef<'k> {
        ObjectRef {
            bucket: &self.bucket.name,
            key,
            version_id: None,
        }
    }

    /// Puts a scratch object with everything on it that a rewrite might lose, and looks at it. `under` is the encryption that it is
    /// put under; `None` sends no header. The inner error is the store's refusal.
    pub(super) async fn put(
        &mut self,
        name: &str,
        bytes: usize,
        under: Option<&Target>,
    ) -> Result<Result<Seen, S3Error>, Reason> {
        let key = format!("{}{name}", self.prefix);
        self.puts += 1;
        let body = body(&key, self.puts, bytes);
        self.keys.entry(key.clone()).or_default();
        let mut sent = self.put_body(&key, &body, under).await?;
        if let (Err(refused), Tagging::Untried) = (&sent, self.tagging) {
            let why = said(refused);
            self.tagging = Tagging::LeftOut;
            let bare = self.put_body(&key, &body, under).await?;
            if bare.is_ok() {
                self.no_tags(&format!("PutObject with tags is refused ({why})"));
                sent = bare;
            } else {
                self.tagging = Tagging::Untried;
            }
        }
        if let Err(refused) = sent {
            return Ok(Err(refused));
        }
        self.look(&key, customer_key(under)).await
    }

    async fn put_body(
        &self,
        key: &str,
        body: &[u8],
        under: Option<&Target>,
    ) -> Result<Result<(), S3Error>, Reason> {
        let (headers, metadata) = (headers(), metadata());
        let tags = match self.tagging {
            Tagging::LeftOut => Vec::new(),
            Tagging::Untried | Tagging::Compared => tags(),
        };
        let put = Put {
            object: self.object(key),
            body,
            target: under,
            headers: &headers,
            metadata: &metadata,
            tags: &tags,
            storage_class: None,
        };
        Ok(self.ask(|| self.s3.put(put)).await?.map(|_| ()))
    }

    /// Looks at a scratch object, reads it back and reads its tags.
    pub(super) async fn look(
        &mut self,
        key: &str,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Result<Seen, S3Error>, Reason> {
        let object = ObjectRef {
            bucket: &self.bucket.name,
            key,
            version_id: None,
        };
        let questions = Ask {
            customer_key,
            ..Ask::default()
        };
        let head = match self.ask(|| self.s3.head(object, questions)).await? {
            Ok(head) => head,
            Err(refused) => return Ok(Err(refused)),
        };
        self.saw(key, head.version_id.clone());
        let body = match self
            .ask(|| self.s3.read(object, customer_key, None, unpaced))
            .await?
        {
            Ok(body) => body,
            Err(refused) => return Ok(Err(refused)),
        };
        let tags = match self.tagging {
            Tagging::LeftOut => None,
            Tagging::Untried | Tagging::Compared => self.tags_of(object).await?,
        };
        Ok(Ok(Seen {
            key: key.to_owned(),
            head,
            body,
            tags,
        }))
    }

    /// An object's tags, sorted. The first look tells whether the store has tags at all.
    async fn tags_of(&mut self, object: ObjectRef<'_>) -> Result<Option<Vec<Tag>>, Reason> {
        let found = self.ask(|| self.s3.tags(object)).await?;
        match (found, self.tagging) {
            (Ok(found), Tagging::Untried) if found.is_empty() => {
                self.no_tags("the store does not keep what is put with an object");
            }
            (Ok(mut found), _) => {
                self.tagging = Tagging::Compared;
                found.sort();
                return Ok(Some(found));
            }
            // They could be read of the original.
            (Err(_), Tagging::Compared) => return Ok(Some(Vec::new())),
            (Err(refused), _) => {
                self.no_tags(&format!("GetObjectTagging is refused ({})", said(&refused)));
            }
        }
        Ok(None)
    }

    fn no_tags(&mut self, why: &str) {
        self.tagging = Tagging::LeftOut;
        self.notes.push(format!(
            "tags: {why}; whether a rewrite keeps tags was not tried"
        ));
    }

    /// Whether a scratch object can be read with a customer's key.
    pub(super) async fn opens(&self, key: &str, by: &CustomerKey) -> Result<bool, Reason> {
        let object = self.object(key);
        Ok(self
            .ask(|| self.s3.read(object, Some(by), None, unpaced))
            .await?
            .is_ok())
    }

    /// The versions of a scratch key; `None` where there can be none, or the store does not tell.
    pub(super) async fn versions(&self, key: &str) -> Result<Option<Vec<Version>>, Reason> {
        if self.bucket.versioning == Some(Versioning::Never) {
            return Ok(None);
        }
        let bucket = self.bucket.name.as_str();
        Ok(self.ask(|| self.s3.versions(bucket, key)).await?.ok())
    }

    /// Remembers a version of a scratch key.
    pub(super) fn saw(&mut self, key: &str, version: Option<String>) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        versions.extend(version);
    }

    /// An upload is about to be begun, and its id may get lost.
    pub(super) fn begins(&mut self) {
        self.uploads_begin = true;
    }

    /// Remembers an upload that was begun.
    pub(super) fn began(&mut self, key: &str, upload_id: &str) {
        self.uploads.insert((key.to_owned(), upload_id.to_owned()));
    }

    /// Forgets an upload that was completed.
    pub(super) fn completed(&mut self, key: &str, upload_id: &str) {
        self.uploads.remove(&(key.to_owned(), upload_id.to_owned()));
    }
}

/// The customer's key among the encryptions that an object can be put under.
pub(super) fn customer_key(under: Option<&Target>) -> Option<&CustomerKey> {
    match under {
        Some(Target::SseC(key)) => Some(key),
        Some(Target::SseS3 | Target::SseKms(_) | Target::DsseKms(_)) | None => None,
    }
}

/// The content of a scratch object: no two alike, and no two stretches of one.
fn body(key: &str, number: u32, bytes: usize) -> Vec<u8> {
    let mut seed = DefaultHasher::new();
    (key, number).hash(&mut seed);
    let mut rng = SmallRng::seed_from_u64(seed.finish());
    let mut body = vec![0; bytes];
    rng.fill(&mut body[..]);
    body
}

fn headers() -> ContentHeaders {
    let some = |value: &str| Some(value.to_owned());
    ContentHeaders {
        content_type: some("text/x-reseal; charset=utf-8"),
        content_encoding: some("identity"),
        content_disposition: some("attachment; filename=\"a b.txt\""),
        content_language: some("de-AT"),
        cache_control: some("max-age=61"),
        expires: some("Fri, 01 Jan 2100 00:00:00 GMT"),
    }
}

/// One value as S3 shows what is not ASCII.
fn metadata() -> BTreeMap<String, String> {
    [
        ("reseal-plain", "1, 2 and 3"),
        ("reseal-encoded", "=?UTF-8?B?w6TDtsO8?="),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Sorted.
fn tags() -> Vec<Tag> {
    [("reseal a", "1+2"), ("reseal-b", "ä")]
        .map(|(key, value)| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        })
        .into()
}
