//! Which rows of a manifest a job is about: the filters, all of which a row has to pass.
//!
//! | filter | passes | told by the row | told by a look |
//! |---|---|---|---|
//! | `--bucket` | rows of that bucket | always | |
//! | `--include` | keys that match one of the patterns | always | |
//! | `--exclude` | keys that match none | always | |
//! | `--min-size`, `--max-size` | so many bytes, and more; or fewer | Size | Content-Length |
//! | `--modified-after` | written at that time, or later | LastModifiedDate | Last-Modified |
//! | `--modified-before` | written earlier | LastModifiedDate | Last-Modified |
//! | `--storage-class` | one of these classes | StorageClass | its header, STANDARD without |
//! | `--encryption` | one of these modes | EncryptionStatus | its headers |
//! | `--current-kms-key` | under one of these keys | never, but that it is under none | its header |
//! | `--latest-only` | the current version | IsLatest; no version id | whether it is what the key shows |
//!
//! What the row alone leaves out is no row of the job. What only a look can tell is a row, and is skipped where the look says so. A look
//! is believed rather than the row: an inventory is some days old. What nobody tells passes no filter that asks for it.

mod pattern;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use pattern::{PATTERN_BYTES_MAX, Pattern};

use crate::encryption::{Encryption, Mode, same_key};
use crate::object::{ManifestEntry, ObjectHead};

/// The filters of a job. The default passes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// `--bucket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// `--include`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Pattern>,
    /// `--exclude`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Pattern>,
    /// `--min-size`, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// `--max-size`, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// `--modified-after`, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_after: Option<i64>,
    /// `--modified-before`, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_before: Option<i64>,
    /// `--storage-class`, S3's spelling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub storage_classes: Vec<String>,
    /// `--encryption`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encryptions: Vec<Mode>,
    /// `--current-kms-key`: ids or ARNs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub current_kms_keys: Vec<String>,
    /// `--latest-only`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub latest_only: bool,
}

/// One of the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `--bucket`: the row is of another one.
    Bucket,
    /// `--include`.
    Include,
    /// `--exclude`.
    Exclude,
    /// `--min-size`.
    MinSize,
    /// `--max-size`.
    MaxSize,
    /// `--modified-after`.
    ModifiedAfter,
    /// `--modified-before`.
    ModifiedBefore,
    /// `--storage-class`.
    StorageClass,
    /// `--encryption`.
    Encryption,
    /// `--current-kms-key`.
    CurrentKmsKey,
    /// `--latest-only`.
    LatestOnly,
}

impl Filter {
    /// Every filter, in the order in which they are asked: the first that a row does not pass is the one that is counted.
    pub const ALL: [Self; 11] = [
        Self::Bucket,
        Self::Include,
        Self::Exclude,
        Self::MinSize,
        Self::MaxSize,
        Self::ModifiedAfter,
        Self::ModifiedBefore,
        Self::StorageClass,
        Self::Encryption,
        Self::CurrentKmsKey,
        Self::LatestOnly,
    ];

    /// Its name in the summary: that of the flag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Include => "include",
            Self::Exclude => "exclude",
            Self::MinSize => "min-size",
            Self::MaxSize => "max-size",
            Self::ModifiedAfter => "modified-after",
            Self::ModifiedBefore => "modified-before",
            Self::StorageClass => "storage-class",
            Self::Encryption => "encryption",
            Self::CurrentKmsKey => "current-kms-key",
            Self::LatestOnly => "latest-only",
        }
    }
}

/// What the filters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes all of them.
    Taken,
    /// It does not pass this one.
    LeftOut(Filter),
    /// It passes those that can be asked, and some can't.
    Unknown,
}

/// What filters ask of an object; `None` is what is not told.
#[derive(Clone, Copy)]
struct Facts<'a> {
    key: &'a str,
    size: Option<u64>,
    modified: Option<i64>,
    class: Option<&'a str>,
    mode: Option<Mode>,
    /// The KMS key; the inner `None` is that there is none.
    kms_key: Option<Option<&'a str>>,
    is_latest: Option<bool>,
}

impl Selection {
    /// Whether everything passes.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a look may find otherwise than a row that names the same ETag and date: an update in place and a lifecycle rule change
    /// neither.
    pub fn asks_what_changes_in_place(&self) -> bool {
        !self.encryptions.is_empty() || !self.storage_classes.is_empty()
    }

    /// Whether two versions of one key may fare differently.
    pub fn tells_versions_apart(&self) -> bool {
        let Self {
            bucket: _,
            include: _,
            exclude: _,
            min_size,
            max_size,
            modified_after,
            modified_before,
            storage_classes,
            encryptions,
            current_kms_keys,
            latest_only,
        } = self;
        min_size.or(*max_size).is_some()
            || modified_after.or(*modified_before).is_some()
            || !(storage_classes.is_empty() && encryptions.is_empty())
            || !current_kms_keys.is_empty()
            || *latest_only
    }

    /// What a row says of its object. Its bucket is the manifest's matter.
    pub fn judge_row(&self, entry: &ManifestEntry) -> Verdict {
        let known = &entry.known;
        let has_no_kms_key = |mode: &Mode| !matches!(mode, Mode::SseKms | Mode::DsseKms);
        self.judge(Facts {
            key: &entry.key,
            size: known.size,
            modified: known.last_modified,
            class: known.storage_class.as_deref(),
            mode: known.encryption,
            kms_key: known.encryption.filter(has_no_kms_key).map(|_| None),
            // Without a version the current one is meant.
            is_latest: match &entry.version_id {
                None => known.is_latest.or(Some(true)),
                Some(_) => known.is_latest,
            },
        })
    }

    /// What a look says of an object: the filter that it does not pass.
    pub fn rejects(&self, key: &str, head: &ObjectHead, is_current: bool) -> Option<Filter> {
        let facts = Facts {
            key,
            size: Some(head.size),
            modified: head.last_modified,
            class: Some(head.storage_class_name()),
            mode: Some(head.encryption.mode()),
            kms_key: Some(match &head.encryption {
                Encryption::SseKms { key, .. } | Encryption::DsseKms { key } => key.as_deref(),
                Encryption::NotSse | Encryption::SseS3 | Encryption::SseC { .. } => None,
            }),
            is_latest: Some(is_current),
        };
        // There is nobody else to ask.
        Filter::ALL
            .into_iter()
            .find(|filter| self.passes(*filter, facts) != Some(true))
    }

    fn judge(&self, facts: Facts<'_>) -> Verdict {
        let mut verdict = Verdict::Taken;
        for filter in Filter::ALL {
            match self.passes(filter, facts) {
                Some(true) => {}
                Some(false) => return Verdict::LeftOut(filter),
                None => verdict = Verdict::Unknown,
            }
        }
        verdict
    }

    /// Whether an object passes one filter; `None` where what it asks for is not told.
    fn passes(&self, filter: Filter, facts: Facts<'_>) -> Option<bool> {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|one| one.matches(facts.key));
        match filter {
            Filter::Bucket => Some(true),
            Filter::Include => Some(self.include.is_empty() || matches(&self.include)),
            Filter::Exclude => Some(!matches(&self.exclude)),
            Filter::MinSize => asked(self.min_size, facts.size, |min, size| size >= min),
            Filter::MaxSize => asked(self.max_size, facts.size, |max, size| size <= max),
            Filter::ModifiedAfter => {
                asked(self.modified_after, facts.modified, |from, at| at >= from)
            }
            Filter::ModifiedBefore => {
                asked(self.modified_before, facts.modified, |until, at| at < until)
            }
            Filter::StorageClass => {
                let classes = Some(&self.storage_classes).filter(|some| !some.is_empty());
                asked(classes, facts.class, |classes, found| {
                    classes
                        .iter()
                        .any(|class| class.eq_ignore_ascii_case(found))
                })
            }
            Filter::Encryption => {
                let modes = Some(&self.encryptions).filter(|some| !some.is_empty());
                asked(modes, facts.mode, |modes, found| modes.contains(&found))
            }
            Filter::CurrentKmsKey => {
                let keys = Some(&self.current_kms_keys).filter(|some| !some.is_empty());
                asked(keys, facts.kms_key, |keys, found| {
                    found.is_some_and(|found| keys.iter().any(|key| same_key(key, found)))
                })
            }
            Filter::LatestOnly => {
                let latest = self.latest_only.then_some(());
                asked(latest, facts.is_latest, |(), is_latest| is_latest)
            }
        }
    }
}

/// What nobody wants is passed by everything; what is wanted and not known, by nobody knows whom.
fn asked<W, F>(wanted: Option<W>, found: Option<F>, passes: impl Fn(W, F) -> bool) -> Option<bool> {
    match (wanted, found) {
        (None, _) => Some(true),
        (Some(_), None) => None,
        (Some(wanted), Some(found)) => Some(passes(wanted, found)),
    }
}
