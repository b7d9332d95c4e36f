//! One run of a job, from the configuration to the summary: the only place where the rooms are wired together.
//!
//! ```text
//! open the state ─→ prepare the manifest, once ─→ replay the journal ─→ engine ─→ report ─→ summary
//! ```

mod bucket;
mod completion;
mod feed;
mod open;
mod source;
mod spec;

use std::cell::RefCell;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;

pub use spec::{JobFile, JobSpec};

use crate::config::JobConfig;
use crate::encryption::Target;
use crate::engine::{self, End, EngineError};
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::s3::S3;
use crate::shutdown::{Shutdown, Urgency};
use crate::summary::{Collector, Summary};
use crate::task::{Context, Learnt};

/// A run that got as far as to have a summary.
#[derive(Debug)]
pub struct Done {
    /// How the process ends.
    pub exit: Exit,
    /// What happened.
    pub summary: Summary,
    /// Why the job failed, where it did.
    pub error: Option<Error>,
}

/// Runs a job until it is complete, fails or is asked to stop.
///
/// # Errors
/// What kept it from running at all or from going on: the manifest, the state, the report.
pub async fn run(
    config: JobConfig,
    progress: Progress,
    mut shutdown: Shutdown,
) -> Result<Done, Error> {
    let s3 = S3::connect(&config.connection).await;
    let metrics = Metrics::new();
    if let Some(address) = config.metrics_listen {
        let endpoint = metrics
            .listen(address)
            .await
            .map_err(|error| Error::usage(error.to_string()))?;
        tracing::info!("metrics at http://{}/metrics", endpoint.addr());
        tokio::spawn(endpoint.serve());
    }
    let listeners = RefCell::new(Listeners {
        progress,
        metrics,
        collector: Collector::new(),
    });
    let emit = |event: Event<'_>| listeners.borrow_mut().on(&event);

    let opened = tokio::select! {
        opened = open::open(&config, &s3, &emit) => opened?,
        () = asked_to_stop(&mut shutdown) => {
            return Err(Error::new(Exit::Interrupted, "interrupted while preparing; nothing was changed"));
        }
    };
    let job = Arc::new(opened.job);
    let state = opened.state;
    let (before, mut journal) = state.journal(&job.job_id)?;
    let before = Arc::new(before);
    emit(Event::Started {
        total: job.prepared.rows,
        before: &before.tally,
    });
    tracing::info!(
        "job {}: {} rows in {}, {} settled, state in {}",
        job.job_id,
        job.prepared.rows,
        job.prepared.bucket,
        before.settled.len(),
        state.path().display()
    );

    if before.settled_twice > 0 {
        emit(Event::Warning {
            message: "the journal has rows that were settled twice; the first record of each counts",
        });
    }
    if config.target.kms().is_some_and(|kms| kms.context.is_some()) {
        emit(Event::Warning {
            message: "S3 does not show an object's encryption context: what is under the key already is skipped, whatever its \
                      context is",
        });
    }
    let limiter = Limiter::new(config.rate);
    let mut source_keys = config.source_keys.clone();
    if let Target::SseC(key) = &config.target {
        // What is under the target already shows itself only to the target's key.
        source_keys.push(key.clone());
    }
    let is_settled = before.settled.len() == job.prepared.rows;
    let end = if is_settled {
        Ok(End::Complete)
    } else {
        let facts = tokio::select! {
            facts = bucket::ask(&s3, &job.prepared.bucket, &emit) => facts.map_err(End::Fault),
            () = asked_to_stop(&mut shutdown) => Err(End::Interrupted),
        };
        match facts {
            Err(end) => Ok(end),
            Ok(bucket) => {
                let ctx = Context {
                    s3: &s3,
                    bucket: &bucket,
                    source_keys: &source_keys,
                    limiter: &limiter,
                    emit: &emit,
                    target: RefCell::new(resolved(
                        config.target.clone(),
                        before.resolved_key.clone(),
                    )),
                    rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
                    learnt: Learnt::default(),
                    draining: watch::Sender::new(false),
                };
                let rows = feed::start(
                    s3.clone(),
                    state.path(),
                    Arc::clone(&job),
                    Arc::clone(&before),
                );
                engine::run(
                    &ctx,
                    config.settings,
                    rows,
                    &before,
                    &mut journal,
                    shutdown.clone(),
                )
                .await
            }
        }
    };
    // What has ended gets to the disk whatever the end is: it need not be looked at again then.
    let closed = journal.close();
    let end = match end {
        Ok(end) => end,
        Err(EngineError::Feed(error)) => return Err(error),
        Err(EngineError::State(error)) => return Err((*error).clone().into()),
        Err(EngineError::JournalGone) => {
            return Err(Error::new(Exit::Internal, "the journal's writer has ended"));
        }
    };
    closed?;

    let (mut exit, mut error) = judge(end, listeners.borrow().collector.tally().failed_total());
    let mut report = None;
    if exit != Exit::Interrupted {
        let to = config.report.as_ref();
        let written = tokio::select! {
            written = completion::write(&s3, state.path(), &job, config.report_scope, to) => written,
            () = asked_to_stop(&mut shutdown) => {
                Err(Error::new(Exit::Interrupted, "interrupted before the report was written")
                    .hint("every row is settled; the same command writes the report"))
            }
        };
        match written {
            Ok(manifest) => report = Some(manifest),
            // What made the job fail is the news then.
            Err(_) if error.is_some() => {}
            Err(unwritten) => {
                exit = unwritten.exit;
                error = Some(unwritten);
            }
        }
    }
    if matches!(exit, Exit::Complete | Exit::RowsFailed) {
        source::forget_copies(state.path(), &job.parts);
    }
    emit(Event::Finished);
    let summary =
        listeners
            .borrow()
            .collector
            .summary(&job.job_id, config.target.name(), exit, report);
    if config.metrics_listen.is_some() && exit != Exit::Interrupted {
        tokio::select! {
            () = tokio::time::sleep(config.metrics_linger) => {}
            () = asked_to_stop(&mut shutdown) => {}
        }
    }
    Ok(Done {
        exit,
        summary,
        error,
    })
}

/// Everybody who is told. They don't know each other, nor who tells them.
struct Listeners {
    progress: Progress,
    metrics: Metrics,
    collector: Collector,
}

impl Listeners {
    fn on(&mut self, event: &Event<'_>) {
        self.progress.on(event);
        self.metrics.on(event);
        self.collector.on(event);
    }
}

/// The exit code of an end, and the error behind a job that failed.
fn judge(end: End, failed_rows: u64) -> (Exit, Option<Error>) {
    match end {
        End::Complete if failed_rows == 0 => (Exit::Complete, None),
        End::Complete => (Exit::RowsFailed, None),
        End::Interrupted => (Exit::Interrupted, None),
        End::Fault(error) => {
            let error = Error::from(error);
            (error.exit, Some(error))
        }
        End::ThresholdCrossed { failed, settled } => {
            let error = Error::new(
                Exit::JobFailed,
                format!(
                    "{failed} of {settled} rows failed, more than the failure threshold allows"
                ),
            )
            .hint("see the report's failed rows; --failure-threshold sets the percentage");
            (error.exit, Some(error))
        }
    }
}

fn resolved(mut target: Target, key: Option<String>) -> Target {
    if let Target::SseKms(kms) | Target::DsseKms(kms) = &mut target {
        kms.resolved = key;
    }
    target
}

/// Resolves when the process is asked to stop, in whatever way.
async fn asked_to_stop(shutdown: &mut Shutdown) {
    if shutdown
        .wait_for(|urgency| *urgency > Urgency::None)
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}
