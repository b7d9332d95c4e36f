//! What a run would come to: a fold over what would become of each row, and what that takes. Pure.
//!
//! ```text
//! Foreseen (object, course, requests) ─add→ Forecast ─told→ Told: text, JSON, a page for whoever signs off
//! ```
//!
//! Everything that is counted is a `Line`: so many objects or bytes of something, requests, money. Rows that were looked at, or
//! that need no look, count as they are. Where only a sample was looked at, a line is an [`Estimate`]: what was found, times how
//! many rows each one stands for, and the bounds within which the truth lies with a probability of 95 %.

mod page;
mod prices;
mod text;
mod time;
mod told;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub use page::page;
pub use prices::{PRICES_BYTES_MAX, Prices};
pub use time::{Limits, Pace};
pub use told::{About, Finding, Number, Share, Told};

use crate::bucket::Versioning;
use crate::encryption::{Encryption, Target};
use crate::event::Operation;
use crate::human;
use crate::object::{COPY_OBJECT_BYTES_MAX, ObjectHead};
use crate::outcome::{Failure, Method, SkipReason};
use crate::plan::Requests;

/// Names of one kind that are kept apart: codes, classes and keys come from the store, so their number is not ours to trust.
const NAMES_MAX: usize = 64;
/// What those beyond are counted as.
const OTHERS: &str = "other";
/// Keys that are shown of each reason.
const EXAMPLES_MAX: usize = 3;
/// Characters of them.
const EXAMPLE_CHARS_MAX: usize = 200;
/// Standard errors between an estimate and its bounds, for a probability of 95 %.
const Z: f64 = 1.96;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// What would become of one row.
#[derive(Clone, Copy, Debug)]
pub enum Course<'a> {
    /// Its object is rewritten.
    Rewrite(Method),
    /// Nothing is to be done.
    Skip(SkipReason),
    /// It fails, or is refused: nothing is sent that could change it.
    Fail(&'a Failure),
}

/// One row, and what a run would do with it.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen<'a> {
    /// Its key: untrusted text.
    pub key: &'a str,
    /// Its object, as a look or the row tells it.
    pub found: Option<&'a ObjectHead>,
    /// What becomes of it.
    pub course: Course<'a>,
    /// The requests that tell what becomes of it.
    pub asked: &'a Requests,
    /// The versions that are rewritten: more than one where all of a key's are.
    pub rewritten: &'a [Rewritten<'a>],
    /// Whether it took a look to tell: where only a sample is looked at, it stands for others then.
    pub was_looked_at: bool,
}

/// A version that is rewritten.
#[derive(Clone, Copy, Debug)]
pub struct Rewritten<'a> {
    /// The version; `None` is a delete marker.
    pub found: Option<&'a ObjectHead>,
    /// Whether it is copied, and not changed where it is.
    pub moves: bool,
    /// The requests that rewrite and check it.
    pub requests: Requests,
}

/// What is the same for all rows.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the objects shall be under.
    pub target: &'a Target,
    /// Whether what is rewritten stays, as an old version.
    pub versioning: Option<Versioning>,
    /// Whether it is deleted then.
    pub deletes_superseded: bool,
    /// What things cost; `None` where nothing does.
    pub prices: Option<&'a Prices>,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// What is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facet {
    /// Whether it is rewritten, skipped, refused or fails.
    Course,
    /// How it is rewritten.
    Method,
    /// Why it is skipped.
    Skip,
    /// Why it is refused: a code.
    Refusal,
    /// Why it fails otherwise: a code.
    Failure,
    /// What it is under now.
    Encryption,
    /// The KMS key that it is under now.
    KmsKey,
    /// Its storage class.
    StorageClass,
    /// How large it is.
    Size,
    /// Where a copy costs for each byte that it reads: the storage class.
    Retrieved,
    /// What would be deleted or replaced before its storage class lets it: the storage class.
    EarlyDeletion,
    /// What stays as an old version beside the new one: the storage class.
    NewVersion,
}

/// What is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Requests to S3.
    Requests,
    /// Requests to KMS.
    Kms,
    /// The second layer of DSSE-KMS.
    Dsse,
    /// Reading from classes where that costs.
    Retrieval,
    /// The rest of a class's minimum duration.
    EarlyDeletion,
    /// Old versions, for each month that they stay.
    VersionsPerMonth,
}

/// Requests to KMS, as they would be …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KmsCase {
    /// … with the target that was asked for.
    AsAsked,
    /// … if everything that is written had a bucket key.
    WithBucketKey,
    /// … if nothing had one.
    WithoutBucketKey,
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Objects(Facet, String),
    Bytes(Facet, String),
    Requests(Operation),
    Writes,
    AllRequests,
    BytesMoved,
    Kms(KmsCase),
    Cost(Cost),
    CostOnce,
    /// Writes under a prefix of that many levels.
    WritesUnder(usize, String),
}

/// A sum over rows, and what it takes to say how sure one can be of it.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    total: f64,
    squares: f64,
    /// The most that one row has.
    largest: f64,
}

impl Foreseen<'_> {
    /// Every request for it.
    fn requests(&self) -> Requests {
        let mut all = *self.asked;
        for version in self.rewritten {
            all.add_all(&version.requests);
        }
        all
    }
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.total += value;
        self.squares += value * value;
        self.largest = self.largest.max(value);
    }
}

/// A number, and the bounds within which it lies with a probability of 95 %. Where every row was looked at, they are one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Not less.
    pub low: f64,
    /// Not more.
    pub high: f64,
}

/// What a run would come to.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Rows that tell what becomes of them.
    told: u64,
    /// Rows that were looked at.
    looked_at: u64,
    /// Rows that would have to be, and were not.
    passed_over: u64,
    of_told: BTreeMap<Line, Sum>,
    of_looked_at: BTreeMap<Line, Sum>,
    names: BTreeMap<Facet, BTreeSet<String>>,
    examples: BTreeMap<(Facet, String), Vec<String>>,
    /// Prefixes of that many levels under which something is written.
    prefixes: BTreeMap<usize, BTreeSet<String>>,
}

impl Forecast {
    /// Adds one row.
    pub fn add(&mut self, row: &Foreseen<'_>, terms: &Terms<'_>) {
        match row.was_looked_at {
            true => self.looked_at += 1,
            false => self.told += 1,
        }
        let rewritten = row.rewritten.iter().filter_map(|version| version.found);
        let bytes = match row.course {
            Course::Rewrite(_) => rewritten.map(|found| found.size).sum(),
            _ => row.found.map_or(0, |found| found.size),
        };
        let (course, by, why): (_, _, Cow<'_, str>) = match row.course {
            Course::Rewrite(method) => ("rewrite", Facet::Method, method.name().into()),
            Course::Skip(reason) => ("skip", Facet::Skip, reason.name().into()),
            Course::Fail(failure) if failure.is_refused() => {
                ("refuse", Facet::Refusal, failure.code.as_str().into())
            }
            Course::Fail(failure) => ("fail", Facet::Failure, failure.code.as_str().into()),
        };
        self.count(row, Facet::Course, course, bytes);
        let why = self.count(row, by, &why, bytes);
        self.show(by, why, row.key);
        if let Some(found) = row.found {
            self.count_found(row, found);
        }
        let requests = row.requests();
        for (operation, count) in requests.iter() {
            self.sum(row, Line::Requests(operation), f64::from(count));
        }
        let writes = requests.writes();
        self.sum(row, Line::Writes, f64::from(writes));
        self.sum(row, Line::AllRequests, f64::from(requests.total()));
        if writes > 0 {
            self.count_prefixes(row, writes);
        }
        let mut spent = terms.prices.map_or(0.0, |prices| {
            let class = prices.class(row.found.map_or("STANDARD", ObjectHead::storage_class_name));
            requests
                .iter()
                .map(|(operation, count)| class.requests(operation, u64::from(count)))
                .sum()
        });
        self.sum(row, Line::Cost(Cost::Requests), spent);
        spent += self.add_kms(row, terms);
        for version in row.rewritten.iter().filter(|version| version.moves) {
            if let Some(found) = version.found {
                spent += self.add_copy(row, found, terms);
            }
        }
        self.sum(row, Line::CostOnce, spent);
    }

    /// A row that would have to be looked at, and is not: the sample stands for it.
    pub fn pass_over(&mut self) {
        self.passed_over += 1;
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.told + self.looked_at + self.passed_over
    }

    fn count_found(&mut self, row: &Foreseen<'_>, found: &ObjectHead) {
        let bytes = found.size;
        let mode = found.encryption.mode().inventory_name();
        self.count(row, Facet::Encryption, mode, bytes);
        if let Encryption::SseKms { key: Some(key), .. } | Encryption::DsseKms { key: Some(key) } =
            &found.encryption
        {
            self.count(row, Facet::KmsKey, key, bytes);
        }
        self.count(row, Facet::StorageClass, found.storage_class_name(), bytes);
        self.count(row, Facet::Size, size_class(bytes), bytes);
    }

    fn count_prefixes(&mut self, row: &Foreseen<'_>, writes: u32) {
        for levels in 1..=time::PREFIX_LEVELS_MAX {
            let prefix = time::prefix(row.key, levels);
            let known = self.prefixes.entry(levels).or_default();
            let prefix = match known.contains(prefix) || known.len() < time::PREFIXES_MAX {
                true => prefix,
                false => OTHERS,
            };
            if !known.contains(prefix) {
                known.insert(prefix.to_owned());
            }
            let line = Line::WritesUnder(levels, prefix.to_owned());
            self.sum(row, line, f64::from(writes));
        }
    }

    /// Requests to KMS; what they cost.
    fn add_kms(&mut self, row: &Foreseen<'_>, terms: &Terms<'_>) -> f64 {
        let kms = |target: &Target| -> u32 {
            let looks = row
                .found
                .map_or(0, |found| row.asked.kms(&found.encryption, target));
            let rewrites = row.rewritten.iter().filter_map(|version| {
                let found = version.found?;
                Some(version.requests.kms(&found.encryption, target))
            });
            looks + rewrites.sum::<u32>()
        };
        let asked = kms(terms.target);
        let with = kms(&with_bucket_key(terms.target, true));
        let without = kms(&with_bucket_key(terms.target, false));
        for (case, requests) in [
            (KmsCase::AsAsked, asked),
            (KmsCase::WithBucketKey, with),
            (KmsCase::WithoutBucketKey, without),
        ] {
            self.sum(row, Line::Kms(case), f64::from(requests));
        }
        let cost = terms
            .prices
            .map_or(0.0, |prices| prices.kms(u64::from(asked)));
        self.sum(row, Line::Cost(Cost::Kms), cost);
        cost
    }

    /// What a copy takes beside its requests; what of it is paid once.
    fn add_copy(&mut self, row: &Foreseen<'_>, found: &ObjectHead, terms: &Terms<'_>) -> f64 {
        self.sum(row, Line::BytesMoved, found.size as f64);
        let class_name = found.storage_class_name();
        let stays = terms.versioning == Some(Versioning::Enabled) && !terms.deletes_superseded;
        if stays {
            self.count(row, Facet::NewVersion, class_name, found.size);
        }
        let Some(prices) = terms.prices else {
            return 0.0;
        };
        let class = prices.class(class_name);
        let gb = found.size as f64 / prices::GB;
        let monthly = gb * class.storage_per_gb_month;
        let mut costs = Vec::new();
        if matches!(terms.target, Target::DsseKms(_)) {
            costs.push((Cost::Dsse, prices.dsse_kms(found.size)));
        }
        if class.retrieval_per_gb > 0.0 {
            self.count(row, Facet::Retrieved, class_name, found.size);
            costs.push((Cost::Retrieval, gb * class.retrieval_per_gb));
        }
        let left = days_left(class.minimum_days, found.last_modified, terms.now);
        if stays {
            self.sum(row, Line::Cost(Cost::VersionsPerMonth), monthly);
        } else if left > 0.0 {
            self.count(row, Facet::EarlyDeletion, class_name, found.size);
            costs.push((Cost::EarlyDeletion, monthly * left / prices::MONTH_DAYS));
        }
        for (cost, amount) in &costs {
            self.sum(row, Line::Cost(*cost), *amount);
        }
        costs.iter().map(|(_, amount)| amount).sum()
    }

    /// Counts an object and its bytes; the name that it was counted under.
    fn count(&mut self, row: &Foreseen<'_>, facet: Facet, name: &str, bytes: u64) -> String {
        let names = self.names.entry(facet).or_default();
        let name = match names.contains(name) || names.len() < NAMES_MAX {
            true => name,
            false => OTHERS,
        };
        names.insert(name.to_owned());
        self.sum(row, Line::Objects(facet, name.to_owned()), 1.0);
        self.sum(row, Line::Bytes(facet, name.to_owned()), bytes as f64);
        name.to_owned()
    }

    fn sum(&mut self, row: &Foreseen<'_>, line: Line, value: f64) {
        if value == 0.0 {
            return;
        }
        let sums = match row.was_looked_at {
            true => &mut self.of_looked_at,
            false => &mut self.of_told,
        };
        sums.entry(line).or_default().add(value);
    }

    fn show(&mut self, facet: Facet, name: String, key: &str) {
        if facet == Facet::Method {
            return;
        }
        let shown = self.examples.entry((facet, name)).or_default();
        if shown.len() < EXAMPLES_MAX {
            shown.push(human::sanitize(key, EXAMPLE_CHARS_MAX));
        }
    }

    /// What of all rows comes to, from what of the sample does: simple random sampling without replacement.
    fn estimate(&self, line: &Line) -> Estimate {
        let of = |sums: &BTreeMap<Line, Sum>| sums.get(line).copied().unwrap_or_default();
        let exact = of(&self.of_told).total;
        let found = of(&self.of_looked_at);
        if self.passed_over == 0 || self.looked_at == 0 {
            let value = exact + found.total;
            return Estimate {
                value,
                low: value,
                high: value,
            };
        }
        let n = self.looked_at as f64;
        let left = self.passed_over as f64;
        let guess = found.total * (n + left) / n;
        let (low, high) = found.bounds(n, left);
        // No row is two objects.
        let most = match line {
            Line::Objects(..) => found.total + left,
            _ => f64::INFINITY,
        };
        Estimate {
            value: exact + guess,
            // What was seen is there.
            low: exact + low.clamp(found.total, guess),
            high: exact + high.clamp(guess, most.max(guess)),
        }
    }
}

impl Sum {
    /// Between what all rows come to, where this was seen in `n` of them and `left` were not looked at: what the spread of the sample says,
    /// and the interval of Agresti and Coull, whichever reaches further; with the correction for a finite population. The latter is as if
    /// some rows more had been seen, a half of them with as much as any row has, and a half with nothing: where nearly all rows of a sample
    /// are alike, their spread alone would say that all others are too.
    /// Source: Agresti and Coull, "Approximate Is Better than \"Exact\" for Interval Estimation of Binomial Proportions" (1998).
    fn bounds(&self, n: f64, left: f64) -> (f64, f64) {
        let all = n + left;
        let unseen = left / all;
        let within = |more: f64| {
            let n = n + more;
            let mean = (self.total + more / 2.0 * self.largest) / n;
            let squares = (self.squares + more / 2.0 * self.largest * self.largest) / n;
            let spread = (squares - mean * mean).max(0.0);
            let error = Z * (unseen * spread / n).sqrt();
            (all * (mean - error), all * (mean + error))
        };
        let (seen, more) = (within(0.0), within(Z * Z * unseen));
        (seen.0.min(more.0), seen.1.max(more.1))
    }
}

/// The sizes that are told apart, each with the first one above it. Source: S3 User Guide, "Understanding and managing Amazon S3
/// storage classes": what is smaller than 128 KiB is billed as that in some of them; and the 5 GiB of CopyObject.
const SIZES: [(&str, u64); 7] = [
    ("empty", 1),
    ("below 128 KiB", 128 << 10),
    ("128 KiB to 1 MiB", 1 << 20),
    ("1 to 100 MiB", 100 << 20),
    ("100 MiB to 1 GiB", 1 << 30),
    ("1 to 5 GiB", COPY_OBJECT_BYTES_MAX + 1),
    ("above 5 GiB", u64::MAX),
];

fn size_class(bytes: u64) -> &'static str {
    let class = SIZES.iter().find(|(_, above)| bytes < *above);
    class.unwrap_or(&SIZES[SIZES.len() - 1]).0
}

/// Days that are billed for what is deleted now, of a class with that minimum.
fn days_left(minimum: u32, last_modified: Option<i64>, now: i64) -> f64 {
    let age = last_modified.map_or(0.0, |at| now.saturating_sub(at) as f64 / DAY);
    (f64::from(minimum) - age.max(0.0)).max(0.0)
}

/// The same target with everything under a bucket key, or nothing.
fn with_bucket_key(target: &Target, bucket_key: bool) -> Target {
    let mut target = target.clone();
    if let Target::SseKms(kms) = &mut target {
        kms.bucket_key = Some(bucket_key);
    }
    target
}
