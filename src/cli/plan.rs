//! `reseal plan`.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::rewrite::ProofArgs;
use super::survey::ConcurrencyArgs;
use super::{
    BudgetArgs, FilterArgs, LimitArgs, ProbeMode, ReadingArgs, RewriteArgs, SourceKeyArgs,
    StoreArgs, TargetArgs, TellingArgs,
};
use crate::config::{self, Location, Probe, Trust};
use crate::error::Error;
use crate::forecast::{PRICES_BYTES_MAX, Prices};
use crate::job::plan::{PlanConfig, SAMPLE_MAX};

/// `reseal plan`. What it has in common with `reseal run` is named the same.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The objects: whatever `reseal run` takes, as a path or s3://bucket/key; - is standard input.
    #[arg(long, env = "RESEAL_MANIFEST", value_name = "PATH|S3-URL|-")]
    pub manifest: Location,
    /// How it is read.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Which of its rows are meant.
    #[command(flatten)]
    pub filters: FilterArgs,
    /// What the objects shall be under.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Look at so many rows only, chosen by chance, and estimate: at most 1,000,000 [default: all].
    #[arg(long, env = "RESEAL_SAMPLE", value_name = "ROWS")]
    pub sample: Option<NonZeroU64>,
    /// Prices in place of AWS's list: a file like src/forecast/prices.json.
    #[arg(long, env = "RESEAL_PRICES", value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Write a page for whoever signs it off, which needs nothing else.
    #[arg(long, env = "RESEAL_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The customer keys that objects are under now.
    #[command(flatten)]
    pub source_keys: SourceKeyArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How objects would be rewritten.
    #[command(flatten)]
    pub rewrite: RewriteArgs,
    /// Try on scratch keys what the store does, as a run with the same would [default: a run that does, and a plan that doesn't and so
    /// changes nothing at all].
    #[arg(
        long,
        env = "RESEAL_PROBE",
        value_name = "WHEN",
        help_heading = "Trust"
    )]
    pub probe: Option<ProbeMode>,
    /// A run that goes on in an unversioned bucket of a store that ignores conditions.
    #[arg(long, env = "RESEAL_ACCEPT_RACE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Trust")]
    pub accept_race: bool,
    /// Objects that would be read back before the rest is begun [default: as for run].
    #[arg(long, env = "RESEAL_CANARY", value_name = "N", help_heading = "Trust")]
    pub canary: Option<u64>,
    /// How each rewrite would be checked.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// What the run may send in a second, and the looks of the plan too.
    #[command(flatten)]
    pub budgets: BudgetArgs,
    /// How much is done at once, by the run and by the plan.
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// When it ends before its rows do.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How it tells what it came to.
    #[command(flatten)]
    pub telling: TellingArgs,
}

impl PlanArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a file that can't be read.
    pub fn into_config(self) -> Result<PlanConfig, Error> {
        let target = self.target.into_target()?;
        let source_keys = self.source_keys.keys()?;
        let reading = self.reading.with(self.filters)?;
        let selection = reading.selection.clone();
        let rewriting = self.rewrite.into_settings(self.proof.verify, selection)?;
        config::method_serves(rewriting.rules.method, &target)?;
        config::versions_go_with(&rewriting.rules)?;
        let sample = self.sample.map(NonZeroU64::get);
        if let Some(rows) = sample.filter(|rows| *rows > SAMPLE_MAX) {
            return Err(Error::usage(format!(
                "--sample {rows} is above {SAMPLE_MAX} rows: leave it out to look at all"
            )));
        }
        let budgets = self.budgets.budgets()?;
        Ok(PlanConfig {
            survey: self.concurrency.survey(self.store, budgets, self.limits),
            manifest: self.manifest,
            reading,
            target,
            source_keys,
            rewriting,
            trust: Trust {
                probe: self.probe.map_or(Probe::Off, Probe::from),
                // A run that does not try the store reads nothing back either, unless it is told to.
                canary: self
                    .canary
                    .or((self.probe == Some(ProbeMode::Off)).then_some(0)),
                accept_race: self.accept_race,
            },
            sample,
            prices: self.prices.as_deref().map(prices).transpose()?,
            command: typed(),
        })
    }
}

/// What was typed after the name of the program. No secret is typed: keys are in files.
fn typed() -> String {
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// Reads a price table.
fn prices(path: &Path) -> Result<Prices, Error> {
    let fault = |what: String| Error::usage(format!("--prices {}: {what}", path.display()));
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut json = Vec::new();
    file.take(PRICES_BYTES_MAX + 1)
        .read_to_end(&mut json)
        .map_err(|error| fault(error.to_string()))?;
    if json.len() as u64 > PRICES_BYTES_MAX {
        return Err(fault(format!("it is above {PRICES_BYTES_MAX} bytes")));
    }
    Prices::parse(&json).map_err(|error| {
        fault(error)
            .hint("it is JSON like the table that comes with reseal, src/forecast/prices.json")
    })
}
