//! `reseal inventory`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::limits::LimitArgs;
use super::{StoreArgs, TellingArgs};
use crate::config::Location;
use crate::error::Error;
use crate::inventory::{self, InventoryConfig};
use crate::limiter::Budgets;

/// `reseal inventory`.
#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// The bucket that is listed, or its keys that begin with a prefix.
    #[arg(env = "RESEAL_SOURCE", value_name = "S3-URL")]
    pub source: Location,
    /// Where the inventory goes: a folder or s3://bucket/prefix.
    #[arg(long, env = "RESEAL_OUT", value_name = "DIR|S3-URL")]
    pub out: Location,
    /// The folder in it that has this bucket's inventories of one kind, one name [default: reseal; with --diff reseal-diff].
    #[arg(long, env = "RESEAL_CONFIG_ID", value_name = "NAME")]
    pub config_id: Option<String>,
    /// How data files look.
    #[arg(
        long,
        env = "RESEAL_FORMAT",
        default_value = "csv",
        value_name = "FORMAT"
    )]
    pub format: DataFormat,
    /// Current objects, or all versions and delete markers.
    #[arg(
        long,
        env = "RESEAL_VERSIONS",
        default_value = "current",
        value_name = "WHICH"
    )]
    pub versions: Which,
    /// What a listing does not show: encryption costs a HeadObject for each row.
    #[arg(long, env = "RESEAL_WITH", value_name = "WHAT")]
    pub with: Option<With>,
    /// Only what is new or changed since this inventory: its manifest.json, as a path or s3://bucket/key.
    #[arg(long, env = "RESEAL_DIFF", value_name = "PATH|S3-URL")]
    pub diff: Option<Location>,
    /// Rows of a data file. What is in none that is whole is listed again after a crash.
    #[arg(
        long,
        env = "RESEAL_PART_ROWS",
        default_value_t = 1_000_000,
        value_name = "ROWS",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub part_rows: u64,
    /// Where progress is kept until it is complete [default: a folder in .reseal].
    #[arg(long, env = "RESEAL_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Most requests on the wire.
    #[arg(
        long,
        env = "RESEAL_CONCURRENCY",
        default_value_t = 64,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=4_096),
        help_heading = "Limits"
    )]
    pub concurrency: u32,
    /// Most requests per second about the bucket, of any kind.
    #[arg(
        long,
        env = "RESEAL_REQUEST_RATE",
        value_name = "REQUESTS/S",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Limits"
    )]
    pub request_rate: Option<u32>,
    /// When it ends before everything is listed, and what comes first.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How it tells what it came to.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// How data files look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    /// CSV, gzip.
    Csv,
    /// Parquet, Snappy.
    Parquet,
}

/// Which versions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Current objects.
    Current,
    /// All versions and delete markers.
    All,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum With {
    /// Encryption, bucket key, replication.
    Encryption,
}

impl InventoryArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense.
    pub fn into_config(self) -> Result<InventoryConfig, Error> {
        let Location::S3 {
            bucket,
            key: prefix,
        } = self.source
        else {
            return Err(Error::usage(
                "what is listed is s3://bucket or s3://bucket/prefix",
            ));
        };
        if let Some(id) = &self.config_id {
            check_config_id(id)?;
        }
        if self.diff == Some(Location::Stdin) {
            return Err(Error::usage("--diff is a path or s3://bucket/key"));
        }
        if self
            .state
            .as_deref()
            .is_some_and(|state| state.starts_with("s3:"))
        {
            return Err(Error::usage("--state of an inventory is a folder")
                .hint("it is small, and gone when the inventory is complete; data files go to --out meanwhile"));
        }
        Ok(InventoryConfig {
            bucket,
            prefix,
            out: self.out,
            config_id: self.config_id,
            format: match self.format {
                DataFormat::Csv => inventory::Format::Csv,
                DataFormat::Parquet => inventory::Format::Parquet,
            },
            with_versions: self.versions == Which::All,
            with_encryption: self.with == Some(With::Encryption),
            diff: self.diff,
            state: self.state,
            part_rows: self.part_rows,
            connection: self.store.into(),
            budgets: Budgets {
                requests: self.request_rate.and_then(std::num::NonZeroU32::new),
                ..Budgets::default()
            },
            concurrency: self.concurrency as usize,
            max_stall: self.limits.max_stall,
            throttle_file: self.limits.throttle_file,
            throttle_url: self.limits.throttle_url,
        })
    }
}

/// Longest name of a kind of inventories. Source: S3 API Reference, PutBucketInventoryConfiguration: an id has letters, digits, periods,
/// dashes and underscores, 64 at most.
const CONFIG_ID_CHARS_MAX: usize = 64;

fn check_config_id(id: &str) -> Result<(), Error> {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=CONFIG_ID_CHARS_MAX).contains(&id.len()) && id.chars().all(is_sign);
    // It is a folder's name.
    if is_name && !id.starts_with('.') {
        return Ok(());
    }
    Err(Error::usage(format!("--config-id: {id:?} is no name"))
        .hint("letters, digits, -, _ and ., at most 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_id_is_one_folder() {
        for (id, is_one) in [
            ("reseal", true),
            ("weekly-2026_01.all", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(check_config_id(id).is_ok(), is_one, "{id}");
        }
    }
}
