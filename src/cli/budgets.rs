//! What may be sent in a second, and at once: flags of `reseal run`.

use std::num::{NonZeroU32, NonZeroU64};

use bytesize::ByteSize;
use clap::Args;

use crate::error::Error;
use crate::limiter::{Budgets, Depth};

/// The word for a depth that the keys show.
const AUTO: &str = "auto";
/// Levels of a prefix at most: a key has no more than it has bytes.
const DEPTH_MAX: u32 = 1_024;

/// What may be sent in a second. Each is a ceiling in every second, of all shards together; below it, the rate adapts to what the
/// store takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Budgets")]
pub struct BudgetArgs {
    /// Most requests per second that change objects, retries among them [default: no ceiling].
    #[arg(long, env = "RESEAL_RATE", value_name = "WRITES/S")]
    pub rate: Option<NonZeroU32>,
    /// Most requests per second of any kind [default: no ceiling].
    #[arg(long, env = "RESEAL_REQUEST_RATE", value_name = "REQUESTS/S")]
    pub request_rate: Option<NonZeroU32>,
    /// Most bytes per second that the store copies, or that are read back [default: no ceiling].
    #[arg(long, env = "RESEAL_BANDWIDTH", value_name = "BYTES/S")]
    pub bandwidth: Option<ByteSize>,
    /// Most writes per second under each key prefix; S3 is good for 3,500 [default: no ceiling].
    #[arg(long, env = "RESEAL_PREFIX_RATE", value_name = "WRITES/S")]
    pub prefix_rate: Option<NonZeroU32>,
    /// How many levels, each up to a slash, make a prefix; auto is the first level at which the keys differ.
    #[arg(
        long,
        env = "RESEAL_PREFIX_DEPTH",
        default_value = AUTO,
        value_name = "LEVELS",
        value_parser = depth
    )]
    pub prefix_depth: Depth,
    /// Most requests per second that the store sends to KMS for us, counted as AWS documents them; objects with a bucket key count
    /// none [default: no ceiling].
    #[arg(long, env = "RESEAL_KMS_RATE", value_name = "REQUESTS/S")]
    pub kms_rate: Option<NonZeroU32>,
}

impl BudgetArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A bandwidth of nothing.
    pub fn budgets(&self) -> Result<Budgets, Error> {
        let bytes = self.bandwidth.map(|bandwidth| bandwidth.as_u64());
        if bytes == Some(0) {
            return Err(Error::usage(
                "--bandwidth is nothing: give one, or leave it out",
            ));
        }
        Ok(Budgets {
            writes: self.rate,
            requests: self.request_rate,
            bytes: bytes.and_then(NonZeroU64::new),
            prefix_writes: self.prefix_rate,
            prefix_depth: self.prefix_depth,
            kms: self.kms_rate,
        })
    }
}

fn depth(text: &str) -> Result<Depth, String> {
    if text == AUTO {
        return Ok(Depth::Learnt);
    }
    match text.parse() {
        Ok(levels) if levels <= DEPTH_MAX => Ok(Depth::Levels(levels)),
        _ => Err(format!(
            "{text:?} is neither {AUTO} nor a number from 0 to {DEPTH_MAX}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_number_of_levels_or_learnt() {
        assert_eq!(depth("auto"), Ok(Depth::Learnt));
        assert_eq!(depth("0"), Ok(Depth::Levels(0)));
        assert_eq!(depth("3"), Ok(Depth::Levels(3)));
        for bad in ["", "-1", "1025", "all"] {
            assert!(depth(bad).is_err(), "{bad}");
        }
    }
}
