//! One run of a job, from the configuration to the summary: the only place where the rooms are wired together.
//!
//! ```text
//! open the state ─→ prepare the manifest, once ─→ replay the journal ─→ engine ─→ report ─→ summary
//! ```

mod bucket;
mod completion;
mod ending;
pub mod evidence;
mod feed;
mod home;
mod live;
mod newest;
mod open;
mod pinned;
pub mod plan;
mod preflight;
mod pulse;
mod push;
mod report;
mod reporting;
mod shards;
mod source;
mod spec;
pub mod survey;
mod trust;
pub mod undo;
pub mod verify;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::{oneshot, watch};

use completion::{Completion, Written};
use ending::{came_back_wrong, judge, too_many_failed};
use evidence::{Keeping, Kept};
pub use home::Home;
use live::{Live, Standing};
use open::Opened;
use preflight::Rewrites;
use pulse::Pulse;
pub use report::{ReportConfig, Reported, report};
pub use shards::{Seen, look};
pub use spec::{JobFile, JobSpec, ShardFile};

use crate::bucket::BucketFacts;
use crate::config::JobConfig;
use crate::control::Socket;
use crate::encryption::{Mode, Target};
use crate::engine::{self, Crossed, End, EngineError};
use crate::error::Error;
use crate::event::{Event, Level};
use crate::exit::Exit;
use crate::human;
use crate::journal::{Record, Replay, ShardState, StateError, Writer};
use crate::limiter::Limiter;
use crate::manifest::Prepared;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::report::Scope;
use crate::s3::S3;
use crate::s3_error::S3Error;
use crate::selection::Filter;
use crate::shard::Shard;
use crate::shutdown::{self, Shutdown};
use crate::stall::Stall;
use crate::summary::{Collector, ManifestCounts, Summary};
use crate::task::{Canary, Context, Learnt, Notes, Right, Witness};

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

/// Runs a job until it is complete, fails or is asked to stop. What came of it, or kept it from running at all or from going on (the
/// manifest, the state), is `told`; then Prometheus may ask for a while longer.
pub async fn run(
    config: JobConfig,
    progress: Progress,
    shutdown: Shutdown,
    told: impl FnOnce(Result<Done, Error>),
) {
    let mut told = Some(told);
    let mut tell = |done| {
        if let Some(told) = told.take() {
            told(done);
        }
    };
    if let Err(error) = run_and_linger(config, progress, shutdown, &mut tell).await {
        tell(Err(error));
    }
}

async fn run_and_linger(
    config: JobConfig,
    progress: Progress,
    mut shutdown: Shutdown,
    tell: &mut dyn FnMut(Result<Done, Error>),
) -> Result<(), Error> {
    let s3 = tokio::select! {
        s3 = S3::connect(&config.connection) => s3,
        _ = shutdown::asked(&mut shutdown) => return Err(interrupted_preparing()),
    };
    let metrics = Metrics::new(config.shard);
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
    let home = match &config.state {
        // Where each inventory has a state of its own, none goes on with another's.
        Some(state) if newest::is_folder(&config.manifest) && !state.names_inventory() => {
            Some(Home::look(state, &config.connection).await?)
        }
        _ => None,
    };
    let manifest = tokio::select! {
        manifest = newest::resolve(&s3, &config.manifest, home, &emit) => manifest?,
        _ = shutdown::asked(&mut shutdown) => return Err(interrupted_preparing()),
    };
    let state = newest::state_of(config.state.as_ref(), &manifest)?;
    let config = JobConfig {
        manifest,
        state,
        ..config
    };
    if let Some(at) = config.deadline {
        listeners.borrow().metrics.ends_at(at);
    }
    let stall = Stall::new(config.max_stall);
    let limiter = Limiter::new(&config.budgets, config.concurrency, config.shard.count);
    let throttle = live::throttle(config.throttle_file.clone(), config.throttle_url.as_ref())?;
    throttle.look(|by, why| limiter.hold(by, why)).await;
    let standing = || {
        let collector = &listeners.borrow().collector;
        Standing {
            total: collector.total(),
            tally: collector.tally().clone(),
        }
    };
    let live = Live {
        shard: config.shard,
        limiter: &limiter,
        standing: &standing,
    };
    let (listening, socket) = oneshot::channel();
    let run = Run {
        config: &config,
        s3: &s3,
        emit: &emit,
        stall: &stall,
        limiter: &limiter,
    };
    let mut pulse = Pulse::new(&emit, stall.watch(), &limiter);
    let work = run.to_the_end(&mut pulse, &listeners, listening, &mut shutdown);
    let done = tokio::select! {
        biased;
        done = work => done,
        () = live.watch(&throttle, socket) => unreachable!("it looks for ever"),
    };
    let exit = done
        .as_ref()
        .map_or_else(|error| error.exit, |done| done.exit);
    run.push_the_end(&done, &listeners).await;
    tell(done);
    run.linger(exit, &mut shutdown).await;
    Ok(())
}

impl Run<'_> {
    /// The run, from the state to the summary. Where the operator reaches it is told as soon as there is a place.
    async fn to_the_end(
        &self,
        pulse: &mut Pulse<'_>,
        listeners: &RefCell<Listeners>,
        listening: oneshot::Sender<Socket>,
        shutdown: &mut Shutdown,
    ) -> Result<Done, Error> {
        let (run, config, emit) = (self, self.config, self.emit);
        let Opened { home, state, job } = pulse.during(run.open(shutdown)).await?;
        listeners.borrow().tell_manifest(&job.prepared);
        let folder = home.shard_folder(config.shard);
        if let Some(socket) = live::listen(config.control_socket.as_deref(), folder)? {
            // Whoever waits for it is there as long as the run.
            let _ = listening.send(socket);
        }
        let job = Arc::new(job);
        let end = pulse.during(run.rewrite(&state, &job, shutdown)).await?;
        let scope = match end {
            // What was rewritten before it has to be looked at too.
            End::CameBackWrong { .. } => Scope::All,
            _ => config.report_scope,
        };
        let (mut exit, mut error) = judge(end, listeners.borrow().collector.tally().failed_total());
        let (mut report, mut evidence) = (None, None);
        let mut unfinished = Vec::new();
        // Of a job that failed, whoever looks after all of its shards asks for the report.
        let reports = match exit {
            Exit::Complete | Exit::RowsFailed => true,
            Exit::Interrupted => false,
            _ => config.shard.count == 1,
        };
        if reports {
            let work = run.report(&home, &state, &job, scope, shutdown);
            match pulse.during(work).await {
                Ok(ReportEnd::Written(written, kept)) => {
                    report = Some(written);
                    evidence = kept;
                }
                Ok(ReportEnd::Left(to)) => unfinished = to,
                // What made the job fail is the news then, and this comes with it.
                Err(unwritten) if error.is_some() => {
                    let message = format!("there is no report of this run: {unwritten}");
                    emit(Event::Warning { message: &message });
                }
                Err(unwritten) => {
                    exit = unwritten.exit;
                    error = Some(unwritten);
                }
            }
        }
        if matches!(exit, Exit::Complete | Exit::RowsFailed) {
            source::forget_copies(state.folder(), &job.parts);
        }
        emit(Event::Finished { exit });
        let (report, needs_restore) = report.map_or((None, None), |written| {
            (Some(written.manifest), written.needs_restore)
        });
        let is_cut = config.shard.count > 1;
        let summary = Summary {
            manifest: counts_of(&job),
            needs_restore,
            evidence: evidence.as_ref().map(|kept| kept.index.clone()),
            evidence_sha256: evidence.map(|kept| kept.sha256),
            shard: is_cut.then_some(config.shard.index),
            shards: is_cut.then_some(config.shard.count),
            unfinished_shards: unfinished,
            ..listeners
                .borrow()
                .collector
                .summary(&job.job_id, config.target.name(), exit, report)
        };
        Ok(Done {
            exit,
            summary,
            error,
        })
    }
}

/// What the stages of a run share.
struct Run<'a> {
    config: &'a JobConfig,
    s3: &'a S3,
    emit: &'a dyn Fn(Event<'_>),
    stall: &'a Stall,
    limiter: &'a Limiter,
}

impl Run<'_> {
    /// Opens the state, and prepares the manifest where no earlier run has.
    async fn open(&self, shutdown: &mut Shutdown) -> Result<Opened, Error> {
        tokio::select! {
            opened = open::open(self.config, self.s3, self.emit) => opened,
            _ = shutdown::asked(shutdown) => Err(interrupted_preparing()),
        }
    }

    /// Replays the journal and runs what is not settled.
    async fn rewrite(
        &self,
        state: &ShardState,
        job: &Arc<ShardFile>,
        shutdown: &mut Shutdown,
    ) -> Result<End, Error> {
        let (before, mut journal) = tokio::select! {
            taken = state.journal(&job.job_id, self.config.max_stall) => taken.map_err(before_all)?,
            _ = shutdown::asked(shutdown) => return Err(interrupted_preparing()),
        };
        let before = Arc::new(before);
        self.begin(state, job, &before);
        let percent = self.config.settings.failure_threshold_percent;
        let wrong = before.tally.came_back_wrong();
        let end = if wrong > self.config.acknowledged_wrong {
            Ok(End::Stopped(came_back_wrong(wrong)))
        } else if let Some(crossed) = Crossed::by(&before.tally, percent) {
            let when = " in earlier runs of this job";
            Ok(End::Stopped(too_many_failed(crossed, when)))
        } else if before.settled.len() == job.rows {
            Ok(End::Complete)
        } else {
            let asked = tokio::select! {
                asked = bucket::ask(self.s3, self.stall, self.limiter, &job.prepared.bucket) => asked.map_err(End::Fault),
                _ = shutdown::asked(shutdown) => Err(End::Interrupted),
            };
            match asked.and_then(|facts| self.preflight(facts, job, &before)) {
                Err(end) => Ok(end),
                Ok(facts) => {
                    self.engine(state, job, &before, &mut journal, &facts, shutdown)
                        .await
                }
            }
        };
        // What has ended gets to the disk whatever the end is: it need not be looked at again then.
        let closed = tokio::select! {
            biased;
            closed = journal.close() => closed,
            // What is not there by then was not told either.
            () = shutdown::over(shutdown) => Ok(()),
        };
        match (end, closed) {
            // What is not durable was not told, and is looked at first by the next run: an interruption is one all the same.
            (Ok(End::Interrupted), Err(error)) if error.is_passing() => {
                let message = format!("the last outcomes could not be recorded: {error}");
                (self.emit)(Event::Warning { message: &message });
                Ok(End::Interrupted)
            }
            (Ok(end), closed) => closed.map(|()| end).map_err(Error::from),
            (Err(EngineError::Feed(error)), _) => Err(error),
            (Err(EngineError::State(error)), _) => Err(StateError::clone(&error).into()),
            (Err(gone @ EngineError::JournalGone), _) => {
                Err(Error::new(Exit::Internal, gone.to_string()))
            }
        }
    }

    /// Tells how things stand before the first row.
    fn begin(&self, state: &ShardState, job: &ShardFile, before: &Replay) {
        (self.emit)(Event::Started {
            total: job.rows,
            before: &before.tally,
            doubtful: before.doubtful(job.rows),
        });
        let shard = match job.shard() {
            Shard::ONLY => String::new(),
            shard => format!(", shard {shard}"),
        };
        tracing::info!(
            "job {}{shard}: {} in {}, {} settled, state in {}",
            job.job_id,
            human::count_of(job.rows, "row"),
            job.prepared.bucket,
            before.settled.len(),
            state.place()
        );
        if job.prepared.rows == 0 {
            (self.emit)(Event::Warning {
                message: "the manifest has no rows for this job (an empty inventory, a report without such rows, or filters that leave all \
                          of them out): there is nothing to do",
            });
        }
        if job.rows > 0 && before.settled.len() == job.rows {
            (self.emit)(Event::Warning {
                message: "earlier runs have settled every row: no object is looked at again; for that, give another --state",
            });
        }
        if before.settled_twice > 0 {
            (self.emit)(Event::Warning {
                message: "the journal has rows that were settled twice; the first record of each counts",
            });
        }
        if self
            .config
            .target
            .kms()
            .is_some_and(|kms| kms.context.is_some())
        {
            (self.emit)(Event::Warning {
                message: "S3 does not show an object's encryption context: what is under the key already is skipped, \
                          whatever its context is",
            });
        }
    }

    /// Tells what the job will set off in its bucket, or run into.
    ///
    /// # Errors
    /// The end of a job that would fail with every object.
    fn preflight(
        &self,
        facts: BucketFacts,
        job: &ShardFile,
        before: &Replay,
    ) -> Result<BucketFacts, End> {
        let mut target = self.config.target.clone();
        if let Target::SseKms(kms) | Target::DsseKms(kms) = &mut target {
            kms.resolved = before.resolved_key.clone();
        }
        let rewriting = &self.config.rewriting;
        let rewrites = Rewrites {
            rows: job.rows,
            method: rewriting.rules.method,
            delete_superseded: rewriting.delete_superseded,
            allowed: &rewriting.rules.allowed,
        };
        let findings = preflight::findings(&facts, &target, &rewrites);
        for finding in &findings {
            (self.emit)(Event::Finding {
                level: finding.level,
                code: finding.code,
                message: &finding.message,
            });
        }
        match findings
            .into_iter()
            .find(|finding| finding.level == Level::Stop)
        {
            Some(stop) => Err(End::Stopped(
                Error::new(Exit::JobFailed, stop.message).hint(
                    "this run has changed nothing; remove the cause, then the same command goes on",
                ),
            )),
            None => Ok(facts),
        }
    }

    async fn engine(
        &self,
        state: &ShardState,
        job: &Arc<ShardFile>,
        before: &Arc<Replay>,
        journal: &mut Writer,
        facts: &BucketFacts,
        shutdown: &Shutdown,
    ) -> Result<End, EngineError> {
        let mut source_keys = self.config.source_keys.clone();
        if let Target::SseC(key) = &self.config.target {
            // What is under the target already shows itself only to the target's key.
            source_keys.push(key.clone());
        }
        let question = trust::Question {
            s3: self.s3,
            limiter: self.limiter,
            config: self.config,
            state,
            job,
            facts,
            runner: before
                .runner
                .expect("whoever runs has taken the state over"),
            leader: journal.leader(),
            emit: self.emit,
        };
        let mut stop = shutdown.clone();
        let known = {
            let prepare = async {
                let trusted = match question.answer().await? {
                    Ok(trusted) => trusted,
                    Err(end) => return Ok(Err(end)),
                };
                let told = trusted.key_arn.clone();
                let wants_arn = trusted.profile.updates_encryption;
                let target = self
                    .resolved_target(before, journal, &facts.name, told, wants_arn)
                    .await;
                Ok(target.map(|target| (trusted, target)).map_err(End::Fault))
            };
            let mut prepare = std::pin::pin!(prepare);
            tokio::select! {
                known = &mut prepare => known,
                _ = shutdown::asked(&mut stop) => {
                    // Scratch objects are removed at the end of the probe.
                    tokio::select! {
                        _ = prepare => {}
                        () = shutdown::given_up(&mut stop) => {}
                    }
                    return Ok(End::Interrupted);
                }
            }
        };
        let (trusted, target) = match known? {
            Ok(known) => known,
            Err(end) => return Ok(end),
        };
        let (notes, noted) = Notes::channel(self.config.settings.tasks);
        let ctx = Context {
            s3: self.s3,
            bucket: facts,
            profile: &trusted.profile,
            settings: &self.config.rewriting,
            source_keys: &source_keys,
            limiter: self.limiter,
            right: Right::ToLead(journal.leader()),
            emit: self.emit,
            target: RefCell::new(target),
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            witness: Witness::default(),
            learnt: Learnt::after(before.checkpoints.values().flatten()),
            draining: watch::Sender::new(false),
            notes,
            canary: Canary::new(trusted.canary, trust::proven(&before.tally)),
            stall: self.stall.clone(),
        };
        let rows = feed::start(
            self.s3.clone(),
            self.stall.clone(),
            state.folder(),
            Arc::clone(job),
            Arc::clone(before),
        );
        engine::run(
            &ctx,
            self.config.settings.clone(),
            rows,
            noted,
            before,
            journal,
            shutdown.clone(),
        )
        .await
    }

    /// The target with the key that its id or alias stands for: as the journal has it, else as the store tells it. Before any row,
    /// so that "under the target already" can be told from the first object on.
    ///
    /// # Errors
    /// A fault that every object would meet, such as a key that is disabled.
    async fn resolved_target(
        &self,
        before: &Replay,
        journal: &mut Writer,
        bucket: &str,
        told: Option<String>,
        wants_arn: bool,
    ) -> Result<Target, S3Error> {
        let mut target = self.config.target.clone();
        let (Target::SseKms(kms) | Target::DsseKms(kms)) = &mut target else {
            return Ok(target);
        };
        kms.resolved = before.resolved_key.clone();
        if kms.full_arn().is_some() {
            return Ok(target);
        }
        let told = match told {
            Some(arn) => Some(arn),
            None if wants_arn || kms.needs_resolving() => {
                bucket::resolve_key(self.s3, self.stall, bucket, &self.config.target).await?
            }
            None => return Ok(target),
        };
        match told {
            Some(arn) => {
                journal.append(&Record::KeyResolved { arn: arn.clone() });
                kms.resolved = Some(arn);
            }
            None => (self.emit)(Event::Warning {
                message: "the store does not tell beforehand which key the target's alias stands for: the first rewrite will, \
                          and an object that is under that key already may be rewritten for it",
            }),
        }
        Ok(target)
    }

    /// Writes the report of what is settled, unless other shards are still at work: then it is for the last of them. It is in flight,
    /// and so has the time that there is to drain.
    async fn report(
        &self,
        home: &Home,
        state: &ShardState,
        job: &ShardFile,
        scope: Scope,
        shutdown: &mut Shutdown,
    ) -> Result<ReportEnd, Error> {
        let completion = Completion {
            s3: self.s3,
            stall: self.stall,
            home,
            shard: job,
            folder: state.folder(),
            writer: format!("shard-{}", job.shard().index),
            scope,
            to: self.config.report.as_ref(),
        };
        let keeping = |to| Keeping {
            s3: self.s3,
            stall: self.stall,
            home,
            shard: job,
            folder: state.folder(),
            to,
        };
        let write = async {
            let count = job.shard().count;
            if count > 1 {
                let unfinished = shards::unfinished(&home.root, count).await?;
                if !unfinished.is_empty() {
                    return Ok(ReportEnd::Left(unfinished));
                }
            }
            let written = completion.write().await?;
            let kept = match &self.config.evidence {
                Some(to) => Some(keeping(to).write().await?),
                None => None,
            };
            Ok(ReportEnd::Written(written, kept))
        };
        tokio::select! {
            reported = write => reported,
            () = shutdown::given_up(shutdown) => {
                Err(Error::new(Exit::Interrupted, "interrupted before the report was written")
                    .hint("what is settled is kept; the same command writes the report"))
            }
        }
    }
}

/// Rows that the filters leave out, by filter.
fn left_out(prepared: &Prepared) -> BTreeMap<&'static str, u64> {
    let counts = prepared.counts();
    let left_out = Filter::ALL.map(|filter| (filter.name(), counts.left_out_by(filter)));
    left_out.into_iter().filter(|(_, rows)| *rows > 0).collect()
}

/// What preparing found in the manifest, for the summary.
fn counts_of(job: &ShardFile) -> ManifestCounts {
    let (counts, duplicates) = (job.prepared.counts(), job.prepared.duplicates);
    ManifestCounts {
        location: job.source.location.clone(),
        rows: job.rows + counts.left_out(),
        left_out: left_out(&job.prepared),
        duplicates: duplicates.found,
        duplicates_compared: duplicates.compared,
        delete_markers: counts.delete_markers,
        directory_markers: counts.directory_markers,
        empty_version_ids: counts.empty_version_ids,
        plus_or_percent: counts.plus_or_percent,
    }
}

/// What became of the report.
enum ReportEnd {
    /// It is there, and with it the evidence.
    Written(Written, Option<Kept>),
    /// It is left to these shards.
    Left(Vec<u32>),
}

/// Everybody who is told. They don't know each other, nor who tells them.
struct Listeners {
    progress: Progress,
    metrics: Metrics,
    collector: Collector,
}

impl Listeners {
    /// What the manifest has and lists, which no event tells: it is known once, and only the metrics want it.
    fn tell_manifest(&self, prepared: &Prepared) {
        self.metrics.is_of(prepared.rows);
        let listed = prepared.listed();
        for mode in Mode::ALL {
            self.metrics.lists(Some(mode), listed.of(mode));
        }
        self.metrics.lists(None, listed.unknown);
    }

    fn on(&mut self, event: &Event<'_>) {
        self.progress.on(event);
        self.metrics.on(event);
        self.collector.on(event);
    }
}

/// A journal that can't be read back: no row was begun.
fn before_all(error: StateError) -> Error {
    let is_damaged = matches!(error, StateError::Damaged { .. });
    let mut error = Error::from(error);
    if is_damaged {
        error.message.push_str("; this run has changed nothing");
    }
    error
}

/// Asked to stop before there was anything to drain.
fn interrupted_preparing() -> Error {
    Error::new(
        Exit::Interrupted,
        "interrupted while preparing; nothing was changed",
    )
}
