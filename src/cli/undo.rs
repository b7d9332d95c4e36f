//! `reseal undo`.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::rewrite::{LossArgs, ProofArgs};
use super::survey::{ConcurrencyArgs, RowReportArgs, sha256};
use super::{BudgetArgs, LimitArgs, SourceKeyArgs, StoreArgs, TellingArgs};
use crate::config::Location;
use crate::error::Error;
use crate::job::undo::{REPORT_DEFAULT, UndoConfig};
use crate::plan::Rules;
use crate::task::Settings;

/// `reseal undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The evidence that a run has kept: a folder or s3://bucket/prefix, or its evidence.json.
    #[arg(long, env = "RESEAL_EVIDENCE", value_name = "DIR|S3-URL")]
    pub evidence: Location,
    /// SHA-256 that evidence.json must have, as the run's summary told it.
    #[arg(long, env = "RESEAL_EVIDENCE_SHA256", value_name = "HEX", value_parser = sha256)]
    pub evidence_sha256: Option<String>,
    /// Look at everything and say what would be written back; change nothing.
    #[arg(long, env = "RESEAL_DRY_RUN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// The customer keys that objects are under now.
    #[command(flatten)]
    pub source_keys: SourceKeyArgs,
    /// What may be lost.
    #[command(flatten)]
    pub losses: LossArgs,
    /// How each object that was written back is checked.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// What is reported.
    #[command(flatten)]
    pub report: RowReportArgs,
    /// How much is done at once.
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// What may be sent in a second.
    #[command(flatten)]
    pub budgets: BudgetArgs,
    /// When it ends before its rows do.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How it tells what it came to.
    #[command(flatten)]
    pub telling: TellingArgs,
}

impl UndoArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a key file that can't be read.
    pub fn into_config(self) -> Result<UndoConfig, Error> {
        let source_keys = self.source_keys.keys()?;
        let budgets = self.budgets.budgets()?;
        Ok(UndoConfig {
            survey: self.concurrency.survey(self.store, budgets, self.limits),
            evidence: self.evidence,
            sha256: self.evidence_sha256,
            source_keys,
            settings: Settings {
                rules: Rules {
                    allowed: self.losses.losses()?,
                    ..Rules::default()
                },
                verify: self.proof.verify,
                ..Settings::default()
            },
            dry_run: self.dry_run,
            report_scope: self.report.report_scope.into(),
            report: self.report.place(REPORT_DEFAULT)?,
        })
    }
}
