//! A forecast as it is told: numbers with names, for JSON, the text and the page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Cost, Estimate, Facet, Forecast, KmsCase, Limits, Line, Pace, Prices, SIZES};
use crate::event::Operation;

/// What is told beside the numbers.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Where the manifest is.
    pub manifest: String,
    /// The bucket of its rows.
    pub bucket: String,
    /// The store, where it is not AWS.
    pub endpoint_url: Option<String>,
    /// The target's name.
    pub target: String,
    /// The target's KMS key as it was given, or as the store tells it.
    pub kms_key: Option<String>,
    /// When it was planned: RFC 3339.
    pub planned_at: String,
    /// What was asked for, as it was typed.
    pub command: String,
    /// Rows of the manifest that the filters leave out, by filter: they are none of the plan's.
    pub left_out: BTreeMap<&'static str, u64>,
}

/// One thing that was found about the bucket or the store.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its name, the same in every run.
    pub code: String,
    /// `stop`, `warning` or `note`.
    pub level: &'static str,
    /// One or two sentences.
    pub message: String,
}

/// A count; its bounds are others than itself where it is an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Number {
    /// The best guess.
    pub value: u64,
    /// Not less, with a probability of 95 %.
    pub low: u64,
    /// Not more.
    pub high: u64,
}

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What kind.
    pub name: String,
    /// How many.
    pub objects: Number,
    /// Their size together.
    pub bytes: Number,
    /// Some of their keys, where it matters which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// Money.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Money {
    /// The best guess.
    pub value: f64,
    /// Not less, with a probability of 95 %.
    pub low: f64,
    /// Not more.
    pub high: f64,
}

/// What it would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// The currency of all of it.
    pub currency: String,
    /// Of when and where the prices are.
    pub prices_of: String,
    /// Requests to S3.
    pub requests: Money,
    /// Requests to KMS.
    pub kms: Money,
    /// The second layer of DSSE-KMS.
    pub dsse: Money,
    /// Reading from classes where that costs.
    pub retrieval: Money,
    /// The rest of minimum storage durations.
    pub early_deletion: Money,
    /// All of these.
    pub total: Money,
    /// Old versions, for each month that they stay: on top.
    pub old_versions_per_month: Money,
}

/// Requests to KMS that the rewrites would set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KmsRequests {
    /// With the target that was asked for.
    pub as_asked: Number,
    /// If what is written had a bucket key.
    pub with_bucket_key: Number,
    /// If it had none.
    pub without_bucket_key: Number,
}

/// Requests of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestsOf {
    /// Which.
    pub operation: &'static str,
    /// How many.
    pub requests: Number,
}

/// Everything that is told.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// Rows of the manifest.
    pub rows: u64,
    /// Rows whose object was looked at.
    pub looked_at: u64,
    /// Rows that tell all that a look would.
    pub told_by_the_manifest: u64,
    /// Rows that would have to be looked at, and were not: the others stand for them, and all numbers are estimates.
    pub not_looked_at: u64,
    /// What becomes of the rows: `rewrite`, `skip`, `refuse`, `fail`.
    pub courses: Vec<Share>,
    /// How they would be rewritten.
    pub methods: Vec<Share>,
    /// Why rows would be skipped.
    pub skips: Vec<Share>,
    /// Why rows would be refused.
    pub refusals: Vec<Share>,
    /// Why rows would fail.
    pub failures: Vec<Share>,
    /// What objects are under now.
    pub encryption: Vec<Share>,
    /// The KMS keys among that.
    pub kms_keys: Vec<Share>,
    /// Where they are stored.
    pub storage_classes: Vec<Share>,
    /// How large they are.
    pub sizes: Vec<Share>,
    /// What would be read from classes where that costs, by class.
    pub retrieved: Vec<Share>,
    /// What would be replaced before its minimum duration is over, by class.
    pub early_deletions: Vec<Share>,
    /// What would stay as old versions, by class.
    pub old_versions: Vec<Share>,
    /// Requests for objects, by operation.
    pub requests: Vec<RequestsOf>,
    /// Requests to KMS.
    pub kms_requests: KmsRequests,
    /// Bytes that the store would copy.
    pub bytes_copied: Number,
    /// What it would cost; `None` where nothing is known to.
    pub cost: Option<Costs>,
    /// How long it would take under each limit, the longest first.
    pub time: Vec<Pace>,
    /// What was found of the bucket and the store.
    pub findings: Vec<Finding>,
}

impl From<Estimate> for Number {
    fn from(estimate: Estimate) -> Self {
        let whole = |number: f64| number.round() as u64;
        Self {
            value: whole(estimate.value),
            low: whole(estimate.low),
            high: whole(estimate.high),
        }
    }
}

impl From<Estimate> for Money {
    fn from(estimate: Estimate) -> Self {
        // A hundredth of a cent: what is less is noise.
        let rounded = |amount: f64| (amount * 10_000.0).round() / 10_000.0;
        Self {
            value: rounded(estimate.value),
            low: rounded(estimate.low),
            high: rounded(estimate.high),
        }
    }
}

impl Number {
    /// Whether it is a guess.
    pub fn is_estimate(self) -> bool {
        self.low != self.high
    }
}

impl Forecast {
    /// What is told of it.
    pub fn told(
        &self,
        about: About,
        findings: Vec<Finding>,
        limits: &Limits,
        prices: Option<&Prices>,
    ) -> Told {
        let requests = Operation::ALL.into_iter().map(|operation| RequestsOf {
            operation: operation.name(),
            requests: self.number(&Line::Requests(operation)),
        });
        let kms = |case| self.number(&Line::Kms(case));
        Told {
            about,
            rows: self.rows(),
            looked_at: self.looked_at,
            told_by_the_manifest: self.told,
            not_looked_at: self.passed_over,
            courses: self.shares(Facet::Course),
            methods: self.shares(Facet::Method),
            skips: self.shares(Facet::Skip),
            refusals: self.shares(Facet::Refusal),
            failures: self.shares(Facet::Failure),
            encryption: self.shares(Facet::Encryption),
            kms_keys: self.shares(Facet::KmsKey),
            storage_classes: self.shares(Facet::StorageClass),
            sizes: self.sizes(),
            retrieved: self.shares(Facet::Retrieved),
            early_deletions: self.shares(Facet::EarlyDeletion),
            old_versions: self.shares(Facet::NewVersion),
            requests: requests
                .filter(|requests| requests.requests.value > 0)
                .collect(),
            kms_requests: KmsRequests {
                as_asked: kms(KmsCase::AsAsked),
                with_bucket_key: kms(KmsCase::WithBucketKey),
                without_bucket_key: kms(KmsCase::WithoutBucketKey),
            },
            bytes_copied: self.number(&Line::BytesMoved),
            cost: prices.map(|prices| self.costs(prices)),
            time: self.paces(limits),
            findings,
        }
    }

    fn number(&self, line: &Line) -> Number {
        self.estimate(line).into()
    }

    /// The most frequent first.
    fn shares(&self, facet: Facet) -> Vec<Share> {
        let names = self.names.get(&facet).into_iter().flatten();
        let mut shares: Vec<Share> = names.map(|name| self.share(facet, name)).collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.objects.value));
        shares
    }

    /// From small to large.
    fn sizes(&self) -> Vec<Share> {
        let all = SIZES.iter().map(|(name, _)| self.share(Facet::Size, name));
        all.filter(|share| share.objects.value > 0).collect()
    }

    fn share(&self, facet: Facet, name: &str) -> Share {
        let examples = self.examples.get(&(facet, name.to_owned()));
        Share {
            objects: self.number(&Line::Objects(facet, name.to_owned())),
            bytes: self.number(&Line::Bytes(facet, name.to_owned())),
            examples: examples.cloned().unwrap_or_default(),
            name: name.to_owned(),
        }
    }

    fn costs(&self, prices: &Prices) -> Costs {
        let of = |cost| self.estimate(&Line::Cost(cost)).into();
        Costs {
            currency: prices.currency.clone(),
            prices_of: format!("{}, {}", prices.date, prices.region),
            requests: of(Cost::Requests),
            kms: of(Cost::Kms),
            dsse: of(Cost::Dsse),
            retrieval: of(Cost::Retrieval),
            early_deletion: of(Cost::EarlyDeletion),
            total: self.estimate(&Line::CostOnce).into(),
            old_versions_per_month: of(Cost::VersionsPerMonth),
        }
    }
}

impl Told {
    /// One object on one line, as `--output json` prints it.
    ///
    /// # Panics
    /// Never: it is numbers, strings and lists.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists are always JSON")
    }

    /// The shares of one course.
    pub fn course(&self, name: &str) -> Option<&Share> {
        self.courses.iter().find(|share| share.name == name)
    }
}
