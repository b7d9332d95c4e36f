//! How long it would take: for each limit, what there is to be done divided by what it lets through.

use std::time::Duration;

use serde::Serialize;

use super::{Estimate, Forecast, KmsCase, Line};
use crate::limiter::{Budgets, Depth};

/// Levels of key prefixes that are counted by, each up to a slash. Deeper ones are seldom what S3 has a partition for.
pub(super) const PREFIX_LEVELS_MAX: usize = 3;
/// Prefixes of each depth that are told apart.
pub(super) const PREFIXES_MAX: usize = 1_024;
/// Requests per second that change objects which S3 takes under each prefix, before it has divided it further.
/// Source: S3 User Guide, "Best practices design patterns: optimizing Amazon S3 performance".
const S3_PREFIX_WRITES: f64 = 3_500.0;

/// What a run may do in a second.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What the operator has set.
    pub budgets: Budgets,
    /// Requests on the wire.
    pub concurrency: usize,
    /// How long a look took, on average; `None` where there was none.
    pub latency: Option<Duration>,
    /// Whether it is AWS.
    pub is_aws: bool,
}

/// One limit, and how long it would take if there were no other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// The flag that sets it, or what else it is.
    pub limit: String,
    /// What it lets through in a second.
    pub per_second: f64,
    /// The time, in seconds.
    pub seconds: f64,
}

/// The first levels of a key, each with its slash; all of it but what follows the last slash, where it has fewer.
pub(super) fn prefix(key: &str, levels: usize) -> &str {
    let slashes = key.match_indices('/').map(|(at, _)| at + 1);
    key.get(..slashes.take(levels).last().unwrap_or(0))
        .unwrap_or_default()
}

impl Forecast {
    /// The limits that apply, the one that takes longest first.
    pub(super) fn paces(&self, limits: &Limits) -> Vec<Pace> {
        let budgets = &limits.budgets;
        let all = self.estimate(&Line::AllRequests).value;
        let mut paces = Vec::new();
        let mut add = |limit: &str, per_second: Option<f64>, amount: f64| {
            if let Some(per_second) = per_second.filter(|_| amount > 0.0) {
                paces.push(Pace {
                    limit: limit.to_owned(),
                    per_second,
                    seconds: amount / per_second,
                });
            }
        };
        let number = |n: std::num::NonZeroU32| f64::from(n.get());
        let writes = self.estimate(&Line::Writes).value;
        add("--rate", budgets.writes.map(number), writes);
        add("--request-rate", budgets.requests.map(number), all);
        let bytes = self.estimate(&Line::BytesMoved).value;
        add("--bandwidth", budgets.bytes.map(|n| n.get() as f64), bytes);
        let kms = self.estimate(&Line::Kms(KmsCase::AsAsked)).value;
        add("--kms-rate", budgets.kms.map(number), kms);
        let hottest = self.hottest_prefix(budgets.prefix_depth).value;
        add("--prefix-rate", budgets.prefix_writes.map(number), hottest);
        let of_s3 = limits.is_aws.then_some(S3_PREFIX_WRITES);
        add("3,500 writes/s of S3 under a prefix", of_s3, hottest);
        let seconds = limits.latency.map(|latency| latency.as_secs_f64());
        let on_the_wire = seconds.filter(|seconds| *seconds > 0.0);
        let on_the_wire = on_the_wire.map(|seconds| limits.concurrency as f64 / seconds);
        add("--concurrency, at the latency of a look", on_the_wire, all);
        paces.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        paces
    }

    /// Most writes under one prefix.
    fn hottest_prefix(&self, depth: Depth) -> Estimate {
        let levels = match depth {
            Depth::Levels(levels) => (levels as usize).min(PREFIX_LEVELS_MAX),
            // The first at which keys differ.
            Depth::Learnt => (1..PREFIX_LEVELS_MAX)
                .find(|levels| self.prefixes.get(levels).is_some_and(|all| all.len() > 1))
                .unwrap_or(PREFIX_LEVELS_MAX),
        };
        if levels == 0 {
            return self.estimate(&Line::Writes);
        }
        let prefixes = self.prefixes.get(&levels).into_iter().flatten();
        let writes =
            prefixes.map(|prefix| self.estimate(&Line::WritesUnder(levels, prefix.clone())));
        writes
            .max_by(|a, b| a.value.total_cmp(&b.value))
            .unwrap_or_default()
    }
}
