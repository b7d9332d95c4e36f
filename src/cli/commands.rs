//! From what was typed to what is done.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, ParseError, Targets, filter_fn};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, registry};

use super::control::control;
use super::shards::completion_index;
use super::{
    Cli, Command, DemoArgs, InventoryArgs, KeyAction, LocalS3Command, LogFormat, OutputFormat,
    PlanArgs, ProgressMode, ReportArgs, RunArgs, Scope, StatusArgs, StoreArgs, UndoArgs,
    VerifyArgs,
};
use crate::config::{self, JobConfig};
use crate::engine::{self, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::job;
use crate::local_s3::admin;
use crate::local_s3::server::{LocalS3, Options};
use crate::local_s3::vault::{KeyState, KmsKey};
use crate::progress::{Progress, StderrBesideBar, Style, Ticker};
use crate::s3::Connection;
use crate::shutdown::{Limits, Shutdown};
use crate::{demo, forecast, inventory, report, shutdown, status};

/// The stack of the thread that runs a job: as much as a main thread has.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// For the summary, once the time to drain is over and nothing is waited for any more.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Does what was asked. Results go to `out`; what is told on the way goes to standard error. `fail` tells why it was not done, and may
/// be called before the end.
pub fn execute(cli: Cli, out: &mut dyn Write, fail: &dyn Fn(&Error)) -> Exit {
    let format = cli.log_format;
    let done = match cli.command {
        Command::Run(args) => run(*args, format, out, fail),
        Command::Plan(args) => plan(*args, format, out),
        Command::Verify(args) => verify(*args, format, out),
        Command::Undo(args) => undo(*args, format, out),
        Command::Status(args) => status(&args, out),
        Command::Control(args) => control(&args, out),
        Command::Report(args) => write_report(args, format, out),
        Command::Inventory(args) => inventory(*args, format, out),
        Command::Demo(args) => demo(&args, format, out),
        Command::LocalS3(command) => local_s3(command, format, out),
    };
    done.unwrap_or_else(|error| {
        fail(&error);
        error.exit
    })
}

fn run(
    args: RunArgs,
    format: LogFormat,
    out: &mut dyn Write,
    fail: &dyn Fn(&Error),
) -> Result<Exit, Error> {
    let progress = Progress::new(args.telling.progress.style());
    start_log(format, &progress)?;
    let output = args.telling.output;
    let limits = args.limits.limits()?;
    let config = JobConfig {
        deadline: limits.end(),
        ..args.into_config()?
    };
    allow_open_files();
    let work = |shutdown, told: Told<job::Done>| job::run(config, progress, shutdown, told);
    let mut exit = Exit::Internal;
    bounded_then(limits, work, |done| {
        let told = done.and_then(|done| {
            tell(out, output, &done.summary, |told| told.to_json())?;
            done.error.map_or(Ok(done.exit), Err)
        });
        // Before the run lingers for its metrics: who reads it need not wait for that.
        exit = told.unwrap_or_else(|error| {
            fail(&error);
            error.exit
        });
    })?;
    Ok(exit)
}

fn plan(args: PlanArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let progress = Progress::new(args.telling.progress.style());
    start_log(format, &progress)?;
    let output = args.telling.output;
    let html = args.html.clone();
    let limits = args.limits.limits()?;
    let config = args.into_config()?;
    allow_open_files();
    let planned = bounded(limits, |shutdown| {
        job::plan::plan(config, progress, shutdown)
    })?;
    if let Some(path) = html {
        std::fs::write(&path, forecast::page(&planned.told))
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))?;
    }
    tell(out, output, &planned.told, |told| told.to_json())?;
    match planned.stop {
        Some(why) => Err(Error::new(
            Exit::JobFailed,
            format!("a run would end before its first row: {why}"),
        )),
        None => Ok(Exit::Complete),
    }
}

fn verify(args: VerifyArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let progress = Progress::new(args.telling.progress.style());
    start_log(format, &progress)?;
    let output = args.telling.output;
    let limits = args.limits.limits()?;
    let config = args.into_config()?;
    allow_open_files();
    let verified = bounded(limits, |shutdown| {
        job::verify::verify(config, progress, shutdown)
    })?;
    tell(out, output, &verified, |told| told.to_json())?;
    Ok(match verified.holds {
        true => Exit::Complete,
        false => Exit::RowsFailed,
    })
}

fn undo(args: UndoArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let progress = Progress::new(args.telling.progress.style());
    start_log(format, &progress)?;
    let output = args.telling.output;
    let limits = args.limits.limits()?;
    let config = args.into_config()?;
    allow_open_files();
    let done = bounded(limits, |shutdown| {
        job::undo::undo(config, progress, shutdown)
    })?;
    tell(out, output, &done.undoing, |told| told.to_json())?;
    match done.error {
        Some(error) => Err(error),
        None if done.undoing.failed > 0 => Ok(Exit::RowsFailed),
        None => Ok(Exit::Complete),
    }
}

/// Keeps the memory of this process out of core dumps: it holds customer keys from here on.
///
/// # Errors
/// The system does not let us.
pub(super) fn keep_out_of_core_dumps() -> Result<(), Error> {
    use rustix::process::{self, Resource, Rlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let kept = process::setrlimit(Resource::Core, none);
    // A pattern that pipes dumps to a program has no regard for the limit.
    #[cfg(target_os = "linux")]
    let kept =
        kept.and_then(|()| process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable));
    kept.map_err(|error| Error::io("cannot keep customer keys out of core dumps", &error.into()))
}

impl RunArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a key file that can't be read.
    pub fn into_config(self) -> Result<JobConfig, Error> {
        let target = self.target.into_target()?;
        let source_keys = self.source_keys.keys()?;
        if self.report == Some(config::Location::Stdin) {
            return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
        }
        if self.state == Some(config::Location::Stdin) {
            return Err(Error::usage("--state is a folder or s3://bucket/prefix"));
        }
        let stop_on = super::limits::codes(&self.stop_on)?;
        let shard = self.shards.shard(completion_index().as_deref())?;
        let concurrency = self.shards.concurrency(shard)?;
        let reading = self.reading.with(self.filters)?;
        let selection = reading.selection.clone();
        let evidence = self.rewrite.evidence.clone();
        let rewriting = self
            .rewrite
            .into_settings(self.trust.proof.verify, selection)?;
        config::method_serves(rewriting.rules.method, &target)?;
        config::versions_go_with(&rewriting.rules)?;
        Ok(JobConfig {
            manifest: self.manifest,
            reading,
            target,
            source_keys,
            connection: self.store.into(),
            state: self.state,
            shard,
            report: self.report,
            report_scope: self.report_scope.into(),
            evidence,
            settings: Settings {
                tasks: engine::tasks_for(concurrency),
                failure_threshold_percent: self.failure_threshold,
                stop_on,
            },
            rewriting,
            trust: self.trust.trust(),
            acknowledged_wrong: self.trust.acknowledge_wrong,
            budgets: self.budgets.budgets()?,
            concurrency,
            max_stall: self.limits.max_stall,
            throttle_file: self.limits.throttle_file.clone(),
            throttle_url: self.limits.throttle_url.clone(),
            control_socket: self.control_socket,
            deadline: None,
            pushgateway: self.pushgateway,
            metrics_listen: self.metrics_listen,
            metrics_linger: self.metrics_linger,
        })
    }
}

impl ProgressMode {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Auto if std::io::stderr().is_terminal() => Style::Bar,
            Self::Bar => Style::Bar,
            Self::Auto | Self::Log => Style::Log,
            Self::None => Style::None,
        }
    }
}

impl From<StoreArgs> for Connection {
    fn from(store: StoreArgs) -> Self {
        Self {
            endpoint_url: store.endpoint_url,
            region: store.region,
            profile: store.profile,
            credentials: None,
            path_style: store.path_style,
        }
    }
}

impl From<Scope> for report::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::All => Self::All,
            Scope::Failed => Self::Failed,
        }
    }
}

/// A report of many shards reads all their journals at once, and a run has a connection for each object in flight: the limit that
/// a shell gives is often 1,024.
fn allow_open_files() {
    use rustix::process::{self, Resource, Rlimit};

    let limit = process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where the system refuses, what is there has to do.
    let _ = process::setrlimit(Resource::Nofile, raised);
}

fn write_report(args: ReportArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    start_log(format, &Progress::new(Style::None))?;
    allow_open_files();
    let config = job::ReportConfig {
        state: args.state,
        report: args.report,
        evidence: args.evidence,
        scope: args.report_scope.into(),
        connection: args.store.into(),
    };
    let reported = block_on(job::report(config))?;
    tell(out, args.output, &reported, |told| told.to_json())?;
    Ok(Exit::Complete)
}

fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<Exit, Error> {
    block_on(async {
        let mut shutdown = signals(Limits::default())?;
        let home = job::Home::look(&args.state, &args.store.clone().into()).await?;
        loop {
            let status = status::read(&home, args.shard).await?;
            tell(out, args.output, &status, |told| told.to_json())?;
            let every = args.watch.filter(|_| status.status != "complete");
            let Some(every) = every else {
                return Ok(Exit::Complete);
            };
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = shutdown::asked(&mut shutdown) => return Ok(Exit::Complete),
            }
            if args.output == OutputFormat::Text {
                write_out(out, "")?;
            }
        }
    })
}

fn inventory(args: InventoryArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let ticker = Ticker::new(args.telling.progress.style());
    start_log_to(format, ticker.writer())?;
    let output = args.telling.output;
    let limits = args.limits.limits()?;
    let config = args.into_config()?;
    allow_open_files();
    let done = bounded(limits, |shutdown| inventory::run(config, ticker, shutdown))?;
    tell(out, output, &done.summary, |told| told.to_json())?;
    match done.error {
        Some(error) => Err(error),
        None => Ok(done.exit),
    }
}

fn demo(args: &DemoArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let progress = Progress::new(args.progress.style());
    start_log(format, &progress)?;
    let shown = block_on(async {
        let shutdown = signals(Limits::default())?;
        demo::run(&args.data, args.objects as usize, progress, shutdown).await
    })?;
    write_out(out, &shown.to_string())?;
    let exit = shown.exit();
    match shown.done.error {
        Some(error) => Err(error),
        None => Ok(exit),
    }
}

fn local_s3(
    command: LocalS3Command,
    format: LogFormat,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    match command {
        LocalS3Command::Serve { data, listen } => return serve(data.data, listen, format, out),
        LocalS3Command::Keys { data, action } => {
            let data = &data.data;
            let keys = match action.unwrap_or(KeyAction::List) {
                KeyAction::List => admin::list_keys(data),
                KeyAction::Add { alias } => {
                    admin::add_key(data, alias.as_deref()).map(|key| vec![key])
                }
                KeyAction::Enable { key } => set_state(data, &key, KeyState::Enabled),
                KeyAction::Disable { key } => set_state(data, &key, KeyState::Disabled),
                KeyAction::ScheduleDeletion { key } => {
                    set_state(data, &key, KeyState::PendingDeletion)
                }
            };
            for key in keys.map_err(|error| Error::usage(error.to_string()))? {
                let aliases = key.aliases.join(",");
                write_out(
                    out,
                    &format!("{:<16}  {}  {aliases}", key_state_name(key.state), key.arn),
                )?;
            }
        }
        LocalS3Command::Rotate { data } => {
            let version =
                admin::rotate_root(&data.data).map_err(|error| Error::usage(error.to_string()))?;
            write_out(
                out,
                &format!(
                    "SSE-S3 root key version {version}; objects under older versions stay readable"
                ),
            )?;
        }
    }
    Ok(Exit::Complete)
}

fn set_state(data: &Path, key: &str, state: KeyState) -> Result<Vec<KmsKey>, admin::AdminError> {
    admin::set_key_state(data, key, state).map(|key| vec![key])
}

fn key_state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
        KeyState::PendingDeletion => "pending-deletion",
    }
}

fn serve(
    data: PathBuf,
    listen: SocketAddr,
    format: LogFormat,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    start_log(format, &Progress::new(Style::None))?;
    allow_open_files();
    block_on(async {
        let mut shutdown = signals(Limits::default())?;
        let options = Options::new(data, listen);
        let mut greeted = Ok(());
        let started = |server: &LocalS3| greeted = write_out(out, &greeting(server));
        admin::serve(options, started, async {
            shutdown::asked(&mut shutdown).await;
        })
        .await
        .map_err(|error| Error::usage(error.to_string()))?;
        greeted.map(|()| Exit::Complete)
    })
}

/// What somebody needs who wants to use the store.
fn greeting(server: &LocalS3) -> String {
    let keys = server.credentials();
    format!(
        "embedded S3 on {url}, data in {folder}\n\
         for local use and tests: not a production store\n\n\
         export AWS_ENDPOINT_URL={url}\n\
         export AWS_REGION={region}\n\
         export AWS_ACCESS_KEY_ID={access}\n\
         export AWS_SECRET_ACCESS_KEY={secret}",
        url = server.endpoint_url(),
        folder = server.folder().display(),
        region = server.region(),
        access = keys.access_key(),
        secret = keys.secret_key(),
    )
}

/// Takes what came of a command's work, which may have something to do after that.
type Told<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// [`bounded_then`] for work that is over when it is.
fn bounded<T, F>(
    limits: Limits,
    work: impl FnOnce(Shutdown) -> F + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>>,
{
    let mut done = None;
    let work = |shutdown, told: Told<T>| async move { told(work(shutdown).await) };
    bounded_then(limits, work, |told| done = Some(told))?;
    done.expect("work tells what came of it")
}

fn signals(limits: Limits) -> Result<Shutdown, Error> {
    shutdown::start(limits).map_err(|error| Error::io("cannot listen for signals", &error))
}

/// Does `work` on a thread of its own and listens for signals on this one, so that the process ends in time even where the
/// work can't be stopped: where a disk does not answer, or a computation takes long.
fn bounded_then<T, F>(
    limits: Limits,
    work: impl FnOnce(Shutdown, Told<T>) -> F + Send + 'static,
    tell: impl FnOnce(Result<T, Error>),
) -> Result<(), Error>
where
    T: Send + 'static,
    F: Future<Output = ()>,
{
    block_on(async {
        let mut shutdown = signals(limits)?;
        let (told, mut result) = oneshot::channel();
        let (ended, mut end) = oneshot::channel();
        let of_work = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name("run".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let told: Told<T> = Box::new(move |result| {
                    // Nobody waits for a result that comes too late.
                    let _ = told.send(result);
                });
                let work = async {
                    work(of_work, told).await;
                    Ok(())
                };
                let _ = ended.send(block_on(work));
            })
            .map_err(|error| Error::io("cannot start a thread", &error))?;
        let told = tokio::select! {
            result = &mut result => match result {
                Ok(result) => result,
                Err(_) => match thread.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => unreachable!("a thread that ends without a panic has told its result"),
                },
            },
            () = hung(&mut shutdown) => Err(Error::new(
                Exit::Interrupted,
                "the time to drain is over, and something still has not answered",
            )
            .hint("what is settled is kept; the same command continues")),
        };
        tell(told);
        tokio::select! {
            _ = &mut end => {}
            () = hung(&mut shutdown) => {}
        }
        Ok(())
    })
}

/// Resolves when the work should have ended by itself, and has not.
async fn hung(shutdown: &mut Shutdown) {
    shutdown::over(shutdown).await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// One thread for everything that waits: more of them cost more CPU for each request than they bring.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start the runtime", &error))?;
    let result = runtime.block_on(work);
    // A thread that still reads standard input would be waited for otherwise.
    runtime.shutdown_background();
    result
}

fn log_filter(text: &str) -> Result<Targets, String> {
    let targets: Targets = text
        .parse()
        .map_err(|error: ParseError| error.to_string())?;
    // A level that is mistyped would be taken for a module of which everything is wanted, and of all others nothing.
    let bare = text.split(',').find(|word| {
        !word.contains('=') && word.parse::<LevelFilter>().is_err() && !word.starts_with("reseal")
    });
    match bare {
        Some(word) => Err(format!("{word} is no level")),
        None => Ok(targets),
    }
}

/// Which log lines are wanted: levels, for modules or for all.
const LOG_FILTER: &str = "RESEAL_LOG";

/// Log lines go to standard error, above the progress bar.
fn start_log(format: LogFormat, progress: &Progress) -> Result<(), Error> {
    start_log_to(format, progress.writer())
}

fn start_log_to(format: LogFormat, writer: StderrBesideBar) -> Result<(), Error> {
    let wanted = match std::env::var(LOG_FILTER) {
        Ok(text) if !text.is_empty() => log_filter(&text).map_err(|error| {
            Error::usage(format!("{LOG_FILTER}: {text}: {error}"))
                .hint("it is a level like debug, or levels for modules like info,reseal::s3=debug")
        })?,
        _ => Targets::new().with_default(LevelFilter::INFO),
    };
    // What others log of a request has customer keys in it, so no setting turns it on.
    let ours = filter_fn(|metadata| {
        let target = metadata.target();
        target == "reseal" || target.starts_with("reseal::")
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Another subscriber is there already only where tests run several commands in one process.
    let _ = match format {
        // A line says for a person what its fields say for a program.
        LogFormat::Text => registry()
            .with(
                lines
                    .fmt_fields(debug_fn(|out, field, value| match field.name() {
                        "message" => write!(out, "{value:?}"),
                        name if name.starts_with("run.") => Ok(()),
                        name => write!(out, " {name}={value:?}"),
                    }))
                    .with_filter(wanted.and(ours)),
            )
            .try_init(),
        LogFormat::Json => registry()
            .with(lines.json().with_filter(wanted.and(ours)))
            .try_init(),
    };
    Ok(())
}

/// Writes what came of a command, as it is wanted.
fn tell<T: Display>(
    out: &mut dyn Write,
    output: OutputFormat,
    told: &T,
    to_json: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    let text = match output {
        OutputFormat::Text => told.to_string(),
        OutputFormat::Json => to_json(told),
    };
    write_out(out, &text)
}

pub(super) fn write_out(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("cannot write to standard output", &error))
}
