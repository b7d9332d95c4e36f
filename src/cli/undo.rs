//! `reseal undo`.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::rewrite::{losses, verify};
use super::shards::CONCURRENCY_DEFAULT;
use super::{BudgetArgs, LimitArgs, Scope, SourceKeyArgs, StoreArgs, TellingArgs};
use crate::config::Location;
use crate::error::Error;
use crate::job::survey::SurveyConfig;
use crate::job::undo::{REPORT_DEFAULT, UndoConfig};
use crate::plan::Rules;
use crate::task::{Settings, Verify};

/// `reseal undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The evidence that a run has kept: a folder or s3://bucket/prefix, or its evidence.json.
    #[arg(long, env = "RESEAL_EVIDENCE", value_name = "DIR|S3-URL")]
    pub evidence: Location,
    /// SHA-256 that evidence.json must have, as the run's summary told it.
    #[arg(long, env = "RESEAL_EVIDENCE_SHA256", value_name = "HEX")]
    pub evidence_sha256: Option<String>,
    /// Look at everything and say what would be written back; change nothing.
    #[arg(long, env = "RESEAL_DRY_RUN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// The customer keys that objects are under now.
    #[command(flatten)]
    pub source_keys: SourceKeyArgs,
    /// What may be lost where it can't be seen: as for run.
    #[arg(
        long,
        env = "RESEAL_ALLOW_LOSS",
        default_value = "kms-context",
        value_name = "LOSS,...",
        value_delimiter = ','
    )]
    pub allow_loss: Vec<String>,
    /// How each object that was written back is checked: as for run.
    #[arg(
        long,
        env = "RESEAL_VERIFY",
        default_value = "answer",
        value_name = "HOW",
        value_parser = verify
    )]
    pub verify: Verify,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where the report goes: a folder or s3://bucket/prefix.
    #[arg(
        long,
        env = "RESEAL_REPORT",
        default_value = REPORT_DEFAULT,
        value_name = "DIR|S3-URL",
        help_heading = "Report"
    )]
    pub report: Location,
    /// Which rows the report has.
    #[arg(
        long,
        env = "RESEAL_REPORT_SCOPE",
        default_value = "all",
        value_name = "SCOPE",
        help_heading = "Report"
    )]
    pub report_scope: Scope,
    /// Most requests on the wire [default: 256].
    #[arg(
        long,
        env = "RESEAL_CONCURRENCY",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=4096),
        help_heading = "Budgets"
    )]
    pub concurrency: Option<u16>,
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
        if self.report == Location::Stdin {
            return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
        }
        Ok(UndoConfig {
            survey: SurveyConfig {
                connection: self.store.into(),
                budgets: self.budgets.budgets()?,
                concurrency: self.concurrency.unwrap_or(CONCURRENCY_DEFAULT).into(),
                max_stall: self.limits.max_stall,
                throttle_file: self.limits.throttle_file.clone(),
                throttle_url: self.limits.throttle_url.clone(),
            },
            evidence: self.evidence,
            sha256: self.evidence_sha256,
            source_keys,
            settings: Settings {
                rules: Rules {
                    allowed: losses(&self.allow_loss)?,
                    ..Rules::default()
                },
                verify: self.verify,
                ..Settings::default()
            },
            dry_run: self.dry_run,
            report: self.report,
            report_scope: self.report_scope.into(),
        })
    }
}
