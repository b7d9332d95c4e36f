//! Whether the target holds for every row, and whether a key may be retired: what looking at all of them comes to.
//!
//! Nothing is claimed that was not looked at. A key may be retired where everything that can lie under it was seen and is not; where
//! a part was not seen, or can't be, the answer is *unknown*, with the reason.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::encryption::{Encryption, Mode, Target, is_kms_key};
use crate::human;
use crate::object::{Compared, ObjectHead};
use crate::outcome::{FAILURE_CODES_MAX, Failure, OTHER_CODES};

/// Encryptions that are counted apart; what comes after them counts as one. Keys come from the store, so their number is not ours to
/// trust.
const FOUND_MAX: usize = 64;
/// Versions, or uploads, under a key that are named; the others are counted.
const EXAMPLES_MAX: usize = 10;

/// Code of a row whose object is under another encryption than the target's. Ours.
pub const NOT_UNDER_TARGET: &str = "NotUnderTarget";
/// Code of a row whose object is under the target's mode and key, and not as its bucket key was asked for. Ours.
pub const BUCKET_KEY_DIFFERS: &str = "BucketKeyDiffers";
/// Code of a row that names a version which was superseded by one that is under the target. Ours.
pub const SUPERSEDED: &str = "VersionSuperseded";
/// Code of a row whose object is under a key that is to be retired, where there is no target. Ours.
pub const UNDER_RETIRED_KEY: &str = "UnderRetiredKey";
/// Code of a row whose bytes are not those that the store's checksum is of. Ours.
pub const CHECKSUM_MISMATCH: &str = "ChecksumMismatch";

/// What is asked of the objects.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What they shall be under.
    pub target: Option<Target>,
    /// Keys that nothing shall be under: KMS keys by ARN or id, customers' keys by their MD5.
    pub retired: Vec<String>,
}

impl Wish {
    /// Holds an object against it: what to tell of it.
    ///
    /// # Errors
    /// It does not hold, and why.
    pub fn hold(&self, found: &Encryption) -> Result<String, Failure> {
        let Some(target) = &self.target else {
            let under = |key: &&String| found.is_under(key) == Some(true);
            return match self.retired.iter().find(under) {
                Some(_) => Err(ours(UNDER_RETIRED_KEY, format!("under {}", shown(found)))),
                None => Ok(format!("Not under a key to be retired: {}", shown(found))),
            };
        };
        if target.is_satisfied_by(found) {
            return Ok(format!("Holds: {}", shown(found)));
        }
        let is_key_the_same = matches!(target, Target::SseKms(_)) && target.is_confirmed_by(found);
        let code = match is_key_the_same {
            true => BUCKET_KEY_DIFFERS,
            false => NOT_UNDER_TARGET,
        };
        let message = format!("under {}, not {}", shown(found), wanted(target));
        Err(ours(code, message))
    }
}

fn ours(code: &str, message: String) -> Failure {
    Failure {
        code: code.to_owned(),
        http_status: 200,
        message,
    }
}

/// An encryption in words.
pub fn shown(found: &Encryption) -> String {
    let key = |key: &Option<String>| match key {
        Some(key) => key.clone(),
        None => "a key that the store does not name".to_owned(),
    };
    match found {
        Encryption::NotSse | Encryption::SseS3 => found.mode().to_string(),
        Encryption::SseKms {
            key: of,
            bucket_key,
        } => {
            let with = if *bucket_key { "with" } else { "without" };
            format!("SSE-KMS, {}, {with} a bucket key", key(of))
        }
        Encryption::DsseKms { key: of } => format!("DSSE-KMS, {}", key(of)),
        Encryption::SseC { key_md5 } => format!("SSE-C, key with MD5 {key_md5}"),
    }
}

fn wanted(target: &Target) -> String {
    let mode = target.mode();
    match target {
        Target::SseS3 => mode.to_string(),
        Target::SseC(key) => format!("{mode}, key with MD5 {}", key.md5_base64()),
        Target::SseKms(kms) | Target::DsseKms(kms) => {
            let key = kms.resolved.as_deref().or(kms.key_id.as_deref());
            let bucket_key = match kms.bucket_key {
                Some(true) => ", with a bucket key",
                Some(false) => ", without a bucket key",
                None => "",
            };
            format!("{mode}, {}{bucket_key}", key.unwrap_or("aws/s3"))
        }
    }
}

/// Code of a row whose object is not what the rewrite has left there. Ours.
pub const CHANGED_SINCE: &str = "ChangedSinceRewrite";

/// Evidence whose chain was found whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedChain {
    /// Path or URL of its `evidence.json`.
    pub index: String,
    /// SHA-256 of that file.
    pub sha256: String,
    /// The job.
    pub job_id: String,
    /// Rewrites in it.
    pub rewrites: u64,
    /// Rows of the job that had succeeded when it was written.
    pub succeeded: u64,
}

/// How one row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// What is asked holds; what to tell of it.
    Holds(String),
    /// There is nothing to hold it against: a delete marker, or an object that is gone since it was listed.
    Nothing(&'static str),
    /// It does not, or can't be told.
    Fails(Failure),
}

/// One version that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its key.
    pub key: &'a str,
    /// What was found.
    pub head: &'a ObjectHead,
    /// Whether it is the current version; `None` is not known.
    pub is_current: Option<bool>,
}

/// How much of a bucket was looked at: what a verdict about a key depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// `listing` or `manifest`.
    pub source: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The prefix of a listing; the manifest as it was named.
    pub of: String,
    /// `all`, `current`, or `as-listed` in a manifest that does not say.
    pub versions: &'static str,
    /// Why there may be versions that were not looked at.
    pub gaps: Vec<String>,
    /// What has to be known beside it.
    pub notes: Vec<String>,
}

/// Uploads in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uploads {
    /// Their number; `None` where the store would not say.
    pub in_progress: Option<u64>,
    /// Keys of some.
    pub examples: Vec<String>,
}

impl Uploads {
    /// One more.
    pub fn add(&mut self, key: String) {
        *self.in_progress.get_or_insert(0) += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(key);
        }
    }
}

/// May a key be retired?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing that was looked at is under it, and everything was.
    Yes,
    /// Something is, or will be.
    No,
    /// Nothing that was looked at is, and not everything was.
    Unknown,
}

/// What is told of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyVerdict {
    /// The key.
    pub key: String,
    /// The answer.
    pub may_be_retired: Answer,
    /// Why not, or why that is not known.
    pub reasons: Vec<String>,
    /// Current versions under it.
    pub current: u64,
    /// Noncurrent ones.
    pub noncurrent: u64,
    /// Versions under it of which it is not known whether they are current.
    pub either: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its key: untrusted text.
    pub key: String,
    /// Its version id, where it has one.
    pub version_id: Option<String>,
}

/// Versions under one encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The mode, as S3 Inventory spells it.
    pub encryption: String,
    /// The key as the store names it, the MD5 of a customer's.
    pub key: Option<String>,
    /// Whether it uses a bucket key, where its mode can have one.
    pub bucket_key: Option<bool>,
    /// How many versions.
    pub rows: u64,
    /// Their size together.
    pub bytes: u64,
}

/// What was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Objects whose bytes are those of the store's checksum.
    pub same: u64,
    /// Objects whose bytes are others.
    pub differ: u64,
    /// Objects that were read, and have no checksum of the whole object that could be computed: nothing is said of their bytes.
    pub nothing_to_compare: u64,
    /// Objects that were not read, because they are archived.
    pub archived: u64,
    /// Objects that could not be read.
    pub unread: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// What a verification came to; the field names are those of `--output json`.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Whether all of it holds.
    pub holds: bool,
    /// The evidence, where it was checked: its chain is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<CheckedChain>,
    /// The target's name on the command line.
    pub target: Option<String>,
    /// What was looked at.
    pub coverage: Coverage,
    /// Rows.
    pub rows: u64,
    /// Rows for which it holds.
    pub held: u64,
    /// Rows with nothing to look at: delete markers, and objects that are gone since they were listed.
    pub nothing: u64,
    /// Rows for which it does not hold, or can't be told.
    pub failed: u64,
    /// These by code.
    pub failures: BTreeMap<String, u64>,
    /// Versions by encryption, the most frequent first.
    pub found: Vec<Found>,
    /// What was read back; `None` where nothing was to be.
    pub read: Option<Read>,
    /// Keys that are to be retired.
    pub keys: Vec<KeyVerdict>,
    /// Uploads in progress, where a key is to be retired.
    pub uploads: Option<Uploads>,
    /// Requests by operation, retries included.
    pub requests: BTreeMap<&'static str, u64>,
    /// Path or URL of the report's `manifest.json`.
    pub report: Option<String>,
    /// Duration, in seconds.
    pub elapsed_seconds: f64,
}

/// A mode, a key, and whether it is used by way of a bucket key.
type Kind = (Mode, Option<String>, Option<bool>);

/// Counts a verification.
#[derive(Debug)]
pub struct Collector {
    wish: Wish,
    rows: u64,
    held: u64,
    nothing: u64,
    failures: BTreeMap<String, u64>,
    /// Versions and bytes of each.
    found: BTreeMap<Kind, (u64, u64)>,
    others: (u64, u64),
    read: Option<Read>,
    keys: Vec<KeyVerdict>,
    /// Rows that could not be looked at.
    unseen: u64,
    /// Versions under a key that the store does not name.
    unnamed: u64,
    /// Versions under a key that has the id of one to be retired, in another Region or account.
    namesakes: u64,
}

impl Collector {
    /// Nothing is counted yet. `reads`: objects are read back.
    pub fn new(wish: Wish, reads: bool) -> Self {
        let verdict = |key: &String| KeyVerdict {
            key: key.clone(),
            may_be_retired: Answer::Unknown,
            reasons: Vec::new(),
            current: 0,
            noncurrent: 0,
            either: 0,
            examples: Vec::new(),
        };
        Self {
            keys: wish.retired.iter().map(verdict).collect(),
            wish,
            rows: 0,
            held: 0,
            nothing: 0,
            failures: BTreeMap::new(),
            found: BTreeMap::new(),
            others: (0, 0),
            read: reads.then(Read::default),
            unseen: 0,
            unnamed: 0,
            namesakes: 0,
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What is asked of the objects.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Counts a version that was looked at.
    pub fn see(&mut self, seen: Seen<'_>) {
        let found = &seen.head.encryption;
        let bucket_key = match found {
            Encryption::SseKms { bucket_key, .. } => Some(*bucket_key),
            _ => None,
        };
        let kind = (found.mode(), found.key().map(str::to_owned), bucket_key);
        let has_room = self.found.len() < FOUND_MAX || self.found.contains_key(&kind);
        let counts = match has_room {
            true => self.found.entry(kind).or_default(),
            false => &mut self.others,
        };
        counts.0 += 1;
        counts.1 += seen.head.size;
        let id = |key: &str| key.rsplit('/').next().map(str::to_owned);
        let found_id = found.key().and_then(id);
        let mut is_namesake = false;
        for verdict in &mut self.keys {
            if found.is_under(&verdict.key) == Some(true) {
                verdict.add(&seen);
            } else {
                is_namesake |= found_id.is_some() && found_id == id(&verdict.key);
            }
        }
        self.namesakes += u64::from(is_namesake);
        // Some stores show the alias that was asked for: which key that was, nobody knows.
        let is_named = !matches!(found.mode(), Mode::SseKms | Mode::DsseKms)
            || found.key().is_some_and(is_kms_key);
        self.unnamed += u64::from(!is_named);
    }

    /// Counts a row that could not be looked at: nobody knows what it is under.
    pub fn miss(&mut self) {
        self.unseen += 1;
    }

    /// Counts what came of reading an object back.
    pub fn read(&mut self, compared: Option<&Compared>, bytes: u64) {
        let read = self.read.get_or_insert_default();
        read.bytes += bytes;
        match compared {
            Some(Compared::Same(_)) => read.same += 1,
            Some(Compared::Differs { .. }) => read.differ += 1,
            Some(Compared::NothingToCompare) => read.nothing_to_compare += 1,
            Some(Compared::Archived) => read.archived += 1,
            None => read.unread += 1,
        }
    }

    /// Counts how a row ended.
    pub fn end(&mut self, held: &Held) {
        self.rows += 1;
        match held {
            Held::Holds(_) => self.held += 1,
            Held::Nothing(_) => self.nothing += 1,
            Held::Fails(failure) => {
                let has_room = self.failures.len() < FAILURE_CODES_MAX
                    || self.failures.contains_key(&failure.code);
                let code = if has_room { &failure.code } else { OTHER_CODES };
                *self.failures.entry(code.to_owned()).or_default() += 1;
            }
        }
    }

    /// What it comes to. `default_key`: the bucket's default encryption key; the outer `None` is not known.
    pub fn verification(
        mut self,
        coverage: Coverage,
        uploads: Option<Uploads>,
        default_key: Option<Option<&str>>,
    ) -> Verification {
        let keys = std::mem::take(&mut self.keys);
        let keys: Vec<_> = keys
            .into_iter()
            .map(|verdict| self.judged(verdict, &coverage, uploads.as_ref(), default_key))
            .collect();
        let failed = self.failures.values().sum();
        let may_all = keys.iter().all(|key| key.may_be_retired == Answer::Yes);
        let mut found: Vec<_> = self
            .found
            .into_iter()
            .map(|((mode, key, bucket_key), (rows, bytes))| Found {
                encryption: mode.to_string(),
                key,
                bucket_key,
                rows,
                bytes,
            })
            .collect();
        found.sort_by_key(|found| std::cmp::Reverse(found.rows));
        if self.others.0 > 0 {
            found.push(Found {
                encryption: "others".to_owned(),
                key: None,
                bucket_key: None,
                rows: self.others.0,
                bytes: self.others.1,
            });
        }
        Verification {
            holds: failed == 0 && may_all,
            evidence: None,
            target: self
                .wish
                .target
                .as_ref()
                .map(|target| target.name().to_owned()),
            coverage,
            rows: self.rows,
            held: self.held,
            nothing: self.nothing,
            failed,
            failures: self.failures,
            found,
            read: self.read,
            keys,
            uploads,
            requests: BTreeMap::new(),
            report: None,
            elapsed_seconds: 0.0,
        }
    }

    fn judged(
        &self,
        mut verdict: KeyVerdict,
        coverage: &Coverage,
        uploads: Option<&Uploads>,
        default_key: Option<Option<&str>>,
    ) -> KeyVerdict {
        let mut certain = Vec::new();
        let under = verdict.current + verdict.noncurrent + verdict.either;
        if under > 0 {
            certain.push(versions(under, "under it"));
        }
        if default_key.flatten().is_some_and(|key| {
            let default = Encryption::SseKms {
                key: Some(key.to_owned()),
                bucket_key: false,
            };
            default.is_under(&verdict.key) == Some(true)
        }) {
            certain.push(
                "it is the key of the bucket's default encryption: new objects come under it"
                    .to_owned(),
            );
        }
        let mut open = coverage.gaps.clone();
        if self.unseen > 0 {
            open.push(versions(self.unseen, "that could not be looked at"));
        }
        if self.unnamed > 0 {
            open.push(versions(
                self.unnamed,
                "under a KMS key that the store does not name",
            ));
        }
        if self.namesakes > 0 {
            open.push(versions(
                self.namesakes,
                "under a key of the same id in another Region or account",
            ));
        }
        match uploads.and_then(|uploads| uploads.in_progress) {
            Some(0) => {}
            Some(n) => open.push(format!(
                "{} in progress, and S3 does not show which key an upload is under: complete or abort them",
                human::count_of(n, "multipart upload")
            )),
            None => open.push("whether uploads are in progress could not be learnt (s3:ListBucketMultipartUploads)".to_owned()),
        }
        if default_key.is_none() {
            open.push("what the bucket's default encryption is could not be learnt (s3:GetEncryptionConfiguration)".to_owned());
        }
        verdict.may_be_retired = match (certain.is_empty(), open.is_empty()) {
            (false, _) => Answer::No,
            (true, true) => Answer::Yes,
            (true, false) => Answer::Unknown,
        };
        certain.extend(open);
        verdict.reasons = certain;
        verdict
    }
}

fn versions(n: u64, what: &str) -> String {
    format!("{} {what}", human::count_of(n, "version"))
}

impl KeyVerdict {
    fn add(&mut self, seen: &Seen<'_>) {
        match seen.is_current {
            Some(true) => self.current += 1,
            Some(false) => self.noncurrent += 1,
            None => self.either += 1,
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(Example {
                key: seen.key.to_owned(),
                version_id: seen.head.version_id.clone(),
            });
        }
    }
}
