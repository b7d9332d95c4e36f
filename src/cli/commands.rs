//! From what was typed to what is done.

use std::io::{IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;

use super::{Cli, Command, LogFormat, OutputFormat, ProgressMode, RunArgs, Scope};
use crate::config::{self, JobConfig, TargetOptions};
use crate::engine::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::job;
use crate::progress::{Progress, Style};
use crate::s3::Connection;
use crate::{report, shutdown};

/// Does what was asked. Results go to `out`; what is told on the way goes to standard error.
///
/// # Errors
/// Why it was not done, with the exit code.
pub fn execute(cli: Cli, out: &mut dyn Write) -> Result<Exit, Error> {
    let format = cli.log_format;
    match cli.command {
        Command::Run(args) => run(*args, format, out),
        Command::Status(_) | Command::Demo(_) | Command::LocalS3(_) => Ok(Exit::Usage),
    }
}

fn run(args: RunArgs, format: LogFormat, out: &mut dyn Write) -> Result<Exit, Error> {
    let progress = Progress::new(args.progress.style());
    start_log(format, &progress);
    let output = args.output;
    let config = args.into_config()?;
    let done = runtime()?.block_on(async {
        let shutdown = shutdown::on_signals()
            .map_err(|error| Error::io("cannot listen for signals", &error))?;
        job::run(config, progress, shutdown).await
    })?;
    let summary = match output {
        OutputFormat::Text => done.summary.to_string(),
        OutputFormat::Json => done.summary.to_json(),
    };
    write_out(out, &summary)?;
    match done.error {
        Some(error) => Err(error),
        None => Ok(done.exit),
    }
}

impl RunArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a key file that can't be read.
    pub fn into_config(self) -> Result<JobConfig, Error> {
        let target = config::target(
            self.to.into(),
            TargetOptions {
                kms_key_id: self.kms_key_id,
                bucket_key: self.bucket_key,
                kms_encryption_context: self.kms_encryption_context,
                sse_c_key_file: self.sse_c_key_file,
            },
        )?;
        let source_keys = self
            .source_sse_c_key_file
            .iter()
            .map(|file| config::customer_key(file))
            .collect::<Result<_, _>>()?;
        if self.report == Some(config::Location::Stdin) {
            return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
        }
        Ok(JobConfig {
            manifest: self.manifest,
            target,
            source_keys,
            connection: Connection {
                endpoint_url: self.store.endpoint_url,
                region: self.store.region,
                profile: self.store.profile,
                path_style: self.store.path_style,
            },
            state: self.state,
            report: self.report,
            report_scope: match self.report_scope {
                Scope::All => report::Scope::All,
                Scope::Failed => report::Scope::Failed,
            },
            settings: Settings {
                concurrency: self.concurrency.into(),
                failure_threshold_percent: self.failure_threshold,
            },
            rate: self.rate,
            metrics_listen: self.metrics_listen,
            metrics_linger: self.metrics_linger,
        })
    }
}

impl ProgressMode {
    fn style(self) -> Style {
        match self {
            Self::Auto if std::io::stderr().is_terminal() => Style::Bar,
            Self::Bar => Style::Bar,
            Self::Auto | Self::Log => Style::Log,
            Self::None => Style::None,
        }
    }
}

/// One thread for everything that waits: two would cost a third more CPU for each request.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start the runtime", &error))
}

/// Log lines go to standard error, above the progress bar. `RESEAL_LOG` filters them, in tracing's syntax.
fn start_log(format: LogFormat, progress: &Progress) {
    let writer = progress.writer();
    let filter = EnvFilter::try_from_env("RESEAL_LOG")
        .unwrap_or_else(|_| EnvFilter::new("reseal=info,error"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Another subscriber is there already only where tests run several commands in one process.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

fn write_out(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("cannot write to standard output", &error))
}
