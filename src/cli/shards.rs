//! Which part of a job a process has: flags of `reseal run`.

use std::str::FromStr;

use clap::Args;

use crate::error::Error;
use crate::shard::{SHARDS_MAX, Shard};

/// Kubernetes' variable with the index of a pod of an Indexed Job.
/// Source: Kubernetes documentation, "Jobs", completion mode.
const COMPLETION_INDEX: &str = "JOB_COMPLETION_INDEX";

/// Requests on the wire where nobody says.
pub(super) const CONCURRENCY_DEFAULT: u16 = 256;

/// Which part of a job a process has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Shards")]
pub struct ShardArgs {
    /// Cut the job in N shards, for as many processes with one --state. Rows go by their keys.
    #[arg(
        long,
        env = "RESEAL_SHARDS",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)),
    )]
    pub shards: Option<u32>,
    /// Which of them this process has, from 0 on; I/N says both [default: JOB_COMPLETION_INDEX, with --shards].
    #[arg(long, env = "RESEAL_SHARD", value_name = "I")]
    pub shard: Option<ShardIndex>,
    /// Most requests on the wire, of all shards; as many are as the rate needs [default: 256].
    #[arg(
        long,
        env = "RESEAL_CONCURRENCY",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=4096),
        help_heading = "Budgets"
    )]
    pub concurrency: Option<u16>,
}

/// `--shard`: an index, and perhaps of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    index: u32,
    count: Option<u32>,
}

impl FromStr for ShardIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| format!("{text:?} is no number; shards are numbered from 0 on"))
        };
        let (index, count) = match text.split_once('/') {
            Some((index, count)) => (index, Some(number(count)?)),
            None => (text, None),
        };
        Ok(Self {
            index: number(index)?,
            count,
        })
    }
}

impl ShardArgs {
    /// What was meant; `completion_index` is what Kubernetes says.
    ///
    /// # Errors
    /// No index where there is more than one shard, or one that is none of them.
    pub fn shard(&self, completion_index: Option<&str>) -> Result<Shard, Error> {
        let in_one = self.shard.and_then(|shard| shard.count);
        if let (Some(count), Some(in_one)) = (self.shards, in_one)
            && count != in_one
        {
            return Err(Error::usage(format!(
                "--shards {count} and --shard …/{in_one} name two numbers of shards"
            )));
        }
        let Some(count) = self.shards.or(in_one) else {
            if let Some(index) = completion_index.filter(|index| *index != "0") {
                tracing::warn!(
                    "{COMPLETION_INDEX} is {index} and there is no --shards: this process takes the whole job"
                );
            }
            return match self.shard {
                Some(shard) if shard.index > 0 => Err(Error::usage(format!(
                    "--shard {} needs --shards, the number of shards",
                    shard.index
                ))),
                _ => Ok(Shard::ONLY),
            };
        };
        if !(1..=SHARDS_MAX).contains(&count) {
            return Err(Error::usage(format!(
                "{count} shards: there are 1 to {SHARDS_MAX}"
            )));
        }
        let (index, source) = match (self.shard, completion_index) {
            (Some(shard), _) => (shard.index, "--shard"),
            (None, Some(text)) => {
                let index = text.parse().map_err(|_| {
                    Error::usage(format!(
                        "{COMPLETION_INDEX} is {text:?}, which is no number"
                    ))
                })?;
                (index, COMPLETION_INDEX)
            }
            (None, None) if count == 1 => (0, "--shard"),
            (None, None) => {
                return Err(Error::usage(format!(
                    "--shards {count} and nothing says which of them this process has"
                ))
                .hint(format!(
                    "give --shard 0 to {}, or run it as a Kubernetes Job with completionMode: Indexed, which sets {COMPLETION_INDEX}",
                    count - 1
                )));
            }
        };
        if index >= count {
            return Err(Error::usage(format!(
                "{source} is {index}, and --shards {count} are numbered 0 to {}",
                count - 1
            )));
        }
        Ok(Shard { index, count })
    }

    /// The shard's share of the objects in flight: one at least.
    ///
    /// # Errors
    /// Fewer than there are shards.
    pub fn concurrency(&self, shard: Shard) -> Result<usize, Error> {
        let whole = match self.concurrency.map(u32::from) {
            Some(whole) if whole < shard.count => {
                return Err(Error::usage(format!(
                    "--concurrency {whole} is for all {} shards, and each needs one at least",
                    shard.count
                )));
            }
            Some(whole) => whole,
            None => shard.count.max(CONCURRENCY_DEFAULT.into()),
        };
        Ok(usize::try_from(shard.share_of(whole.into())).unwrap_or(usize::MAX))
    }
}

/// The index that Kubernetes gave this pod.
pub fn completion_index() -> Option<String> {
    std::env::var(COMPLETION_INDEX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(shards: Option<u32>, shard: Option<&str>) -> ShardArgs {
        ShardArgs {
            shards,
            shard: shard.map(|text| text.parse().expect("sound")),
            concurrency: None,
        }
    }

    #[test]
    fn who_is_meant_is_taken_or_refused_with_a_reason() {
        let of = |index, count| Ok((index, count));
        for (shards, shard, index, expected) in [
            (None, None, None, of(0, 1)),
            (None, None, Some("3"), of(0, 1)),
            (None, Some("0"), None, of(0, 1)),
            (Some(4), Some("3"), None, of(3, 4)),
            (Some(4), Some("1"), Some("3"), of(1, 4)),
            (Some(4), None, Some("3"), of(3, 4)),
            (None, Some("2/4"), None, of(2, 4)),
            (Some(1), None, None, of(0, 1)),
            (Some(4), None, None, Err("JOB_COMPLETION_INDEX")),
            (Some(4), None, None, Err("--shard 0 to 3")),
            (Some(4), Some("4"), None, Err("--shard is 4")),
            (Some(4), None, Some("4"), Err("JOB_COMPLETION_INDEX is 4")),
            (Some(4), None, Some("x"), Err("no number")),
            (Some(4), Some("1/3"), None, Err("two numbers")),
            (None, Some("1"), None, Err("needs --shards")),
            (None, Some("0/2000"), None, Err("1 to 1024")),
        ] {
            let found = args(shards, shard).shard(index);
            match expected {
                Ok((index, count)) => assert_eq!(found, Ok(Shard { index, count })),
                Err(phrase) => {
                    let error = found.expect_err(phrase);
                    let told = format!("{error} {}", error.hint.as_deref().unwrap_or_default());
                    assert!(told.contains(phrase), "{told}");
                }
            }
        }
        assert!("x".parse::<ShardIndex>().is_err() && "1/".parse::<ShardIndex>().is_err());
    }

    #[test]
    fn what_is_in_flight_is_shared() {
        let shares = |concurrency: Option<u16>, count: u32| -> Vec<usize> {
            let args = ShardArgs {
                concurrency,
                ..args(None, None)
            };
            Shard::all(count)
                .map(|shard| args.concurrency(shard).unwrap_or_default())
                .collect()
        };
        assert_eq!(shares(None, 1), [256]);
        assert_eq!(shares(Some(10), 4), [3, 3, 2, 2]);
        assert_eq!(shares(Some(3), 4), [0; 4], "refused");
        assert_eq!(shares(None, 1_024), [1; 1_024]);
    }
}
