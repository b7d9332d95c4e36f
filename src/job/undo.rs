//! `reseal undo`: writes back what a job has superseded, by the evidence that it kept.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::evidence::{self, Opened};
use super::reporting::{Begin, Reporting};
use super::survey::{self, Known, Survey, SurveyConfig};
use crate::chain::Line;
use crate::config::Location;
use crate::encryption::{CustomerKey, Target};
use crate::error::Error;
use crate::event::Event;
use crate::evidence::Rewritten;
use crate::exit::Exit;
use crate::human;
use crate::object::{Known as RowKnown, ManifestEntry};
use crate::outcome::{Method, SkipReason, TaskOutcome};
use crate::profile::StoreProfile;
use crate::progress::Progress;
use crate::report::{Scope, Told};
use crate::shutdown::Shutdown;
use crate::task::{self, Undone};
use crate::undo::{Collector, Undoing};

/// Where the report goes that nobody wanted elsewhere.
pub const REPORT_DEFAULT: &str = ".reseal/undo";

/// One `reseal undo`.
#[derive(Debug)]
pub struct UndoConfig {
    /// The store and the bounds.
    pub survey: SurveyConfig,
    /// Where the evidence is.
    pub evidence: Location,
    /// SHA-256 that its `evidence.json` must have, in hexadecimal.
    pub sha256: Option<String>,
    /// Keys that SSE-C objects are under, or were.
    pub source_keys: Vec<CustomerKey>,
    /// How objects are written.
    pub settings: task::Settings,
    /// Nothing is changed.
    pub dry_run: bool,
    /// Where the report goes: a folder or a prefix in S3.
    pub report: Location,
    /// Which rows it has.
    pub report_scope: Scope,
}

/// An undo that got as far as to have something to tell.
#[derive(Debug)]
pub struct Done {
    /// What it came to.
    pub undoing: Undoing,
    /// Why it did not go on to the end, where it did not.
    pub error: Option<Error>,
}

/// A line of the evidence, and the object that it means.
struct Row {
    entry: ManifestEntry,
    rewritten: Rewritten,
}

/// Writes back all that can be, each under its condition.
///
/// # Errors
/// The evidence is not whole, or nothing could be begun.
pub async fn undo(
    config: UndoConfig,
    progress: Progress,
    mut shutdown: Shutdown,
) -> Result<Done, Error> {
    let survey = Survey::new(&config.survey, progress).await?;
    survey
        .during(to_the_end(&config, &survey, &mut shutdown))
        .await
}

async fn to_the_end(
    config: &UndoConfig,
    survey: &Survey,
    shutdown: &mut Shutdown,
) -> Result<Done, Error> {
    let begun = Instant::now();
    let emit = |event: Event<'_>| survey.on(&event);
    let opened =
        Opened::checked(survey, &config.evidence, config.sha256.as_deref(), shutdown).await?;
    let (bucket, total) = (opened.index.bucket.clone(), opened.index.rewrites);
    let id = report_id(&opened.kept.sha256, config.dry_run);
    let facts = survey.bucket(&bucket, shutdown).await?;
    let profile = StoreProfile::documented();
    let known = Known {
        facts: &facts,
        profile: &profile,
        settings: &config.settings,
        keys: &config.source_keys,
    };
    // Each object has a target of its own.
    let target = Target::SseS3;
    let ctx = match config.dry_run {
        true => survey.context(known, target, &emit),
        false => survey.writing_context(known, target, &emit),
    };
    let mut report = Reporting::begin(&Begin {
        to: &config.report,
        id: &id,
        bucket: &bucket,
        with_versions: true,
        scope: config.report_scope,
    })?;
    let mut collector = Collector::new(config.dry_run);
    let rows = evidence::lines(
        Arc::new(opened),
        survey.s3.clone(),
        survey.stall.clone(),
        row_of,
    );
    let look = async |row: &Row| task::undo(&ctx, &row.entry, &row.rewritten, config.dry_run).await;
    let fold = |row: &Row, undone: Undone| {
        let outcome = outcome_of(&undone);
        emit(Event::Settled {
            key: &row.entry.key,
            outcome: &outcome,
        });
        collector.end(&outcome);
        let told = match &undone {
            Undone::WrittenBack => Told::Succeeded("Written back"),
            Undone::Would => Told::Succeeded("Would be written back"),
            Undone::Already => Told::Succeeded("Skipped: on top again already"),
            Undone::Failed(failure) => Told::Failed(failure),
        };
        report.tell(&row.entry.key, row.entry.version_id.as_deref(), told)
    };
    let worked = survey.each(&ctx, total, rows, shutdown, look, fold).await;
    // What was changed is told, whatever kept it from going on.
    let report = report.publish(&survey.s3, &survey.stall).await?;
    let requests = survey.requests().into_iter();
    let requests = requests.map(|(operation, n)| (operation.name(), n));
    let error = worked.err().map(|error| match error.exit {
        Exit::Interrupted => Error::new(
            Exit::Interrupted,
            "interrupted: the report has what was written back so far",
        )
        .hint("the same command goes on: what is on top again already is left"),
        _ => error,
    });
    Ok(Done {
        undoing: collector.undoing(total, requests.collect(), report, begun.elapsed()),
        error,
    })
}

fn row_of(row: u64, line: Line) -> Row {
    Row {
        entry: ManifestEntry {
            row,
            key: line.rewritten.key.clone(),
            version_id: line.rewritten.after.version_id.clone(),
            known: RowKnown::default(),
        },
        rewritten: line.rewritten,
    }
}

fn outcome_of(undone: &Undone) -> TaskOutcome {
    match undone {
        Undone::WrittenBack | Undone::Would => TaskOutcome::Succeeded {
            method: Method::Copy,
            bytes: 0,
        },
        Undone::Already => TaskOutcome::Skipped(SkipReason::AlreadyEncrypted),
        Undone::Failed(failure) => TaskOutcome::Failed(failure.clone()),
    }
}

fn report_id(evidence: &str, dry_run: bool) -> String {
    let hash = Sha256::digest(format!("reseal undo\n{evidence}\n{dry_run}"));
    human::hex(&hash[..survey::ID_BYTES])
}
