//! What is typed. The only room that knows clap: everything behind it works with [`crate::config`].

mod budgets;
mod commands;
mod control;
mod inventory;
mod limits;
mod plan;
mod rewrite;
mod selection;
mod shards;
mod state;
mod survey;
mod target;
mod undo;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use budgets::BudgetArgs;
pub use commands::execute;
pub use control::ControlArgs;
pub use inventory::InventoryArgs;
pub use limits::LimitArgs;
pub use plan::PlanArgs;
pub use rewrite::{ProbeMode, RewriteArgs, TrustArgs};
pub use selection::{FilterArgs, ReadingArgs};
pub use shards::ShardArgs;
pub use state::{ReportArgs, StatusArgs};
pub use target::{SourceKeyArgs, TargetArgs, TellingArgs};
pub use undo::UndoArgs;
pub use verify::VerifyArgs;

use crate::config::{Location, TargetMode};
use crate::http::Address;

/// Rewrites existing S3 objects under a new server-side encryption mode.
#[derive(Debug, Parser)]
#[command(
    name = "reseal",
    version,
    about,
    max_term_width = 110,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look, on standard error.
    #[arg(
        long,
        global = true,
        env = "RESEAL_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Re-encrypt the objects of a manifest.
    Run(Box<RunArgs>),
    /// What a run would come to: decisions, requests, cost, time. Changes nothing.
    Plan(Box<PlanArgs>),
    /// Look at every object of a manifest or a bucket: whether the target holds, and which keys may be retired. Changes nothing.
    Verify(Box<VerifyArgs>),
    /// Write back the versions that a run has superseded, by the evidence that it kept.
    Undo(Box<UndoArgs>),
    /// Where a job stands with all its shards, read from its state; also while it runs.
    Status(StatusArgs),
    /// Reach into a run: pause it, let it go on, change its rate, ask it.
    Control(ControlArgs),
    /// Write the report of what is settled in all shards of a job; also while it runs.
    Report(ReportArgs),
    /// Make an inventory of a bucket by listing it, for stores without S3 Inventory.
    Inventory(Box<InventoryArgs>),
    /// All of it in one go on the embedded S3: objects of all modes, an inventory, a run, a proof.
    Demo(DemoArgs),
    /// The embedded S3: for a laptop and for tests, not for production.
    #[command(subcommand, name = "local-s3")]
    LocalS3(LocalS3Command),
}

/// `reseal run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The objects: CSV (bucket,key[,version-id], URL-encoded keys, no header; gzip too), ORC or Parquet, the manifest.json of an S3
    /// Inventory, or that of a completion report, as a path or s3://bucket/key; a folder of inventories, with a slash at its end, for
    /// the newest complete one; - is standard input.
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
    /// The customer keys that objects are under now.
    #[command(flatten)]
    pub source_keys: SourceKeyArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How objects are rewritten.
    #[command(flatten)]
    pub rewrite: RewriteArgs,
    /// How far the store is trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The part of the job that this process has.
    #[command(flatten)]
    pub shards: ShardArgs,
    /// Where progress is kept: a folder or s3://bucket/prefix of this job alone [default: .reseal/JOB-ID].
    #[arg(
        long,
        env = "RESEAL_STATE",
        value_name = "DIR|S3-URL",
        help_heading = "State and report"
    )]
    pub state: Option<Location>,
    /// Where the completion report goes: a folder or s3://bucket/prefix [default: report/ in the state].
    #[arg(
        long,
        env = "RESEAL_REPORT",
        value_name = "DIR|S3-URL",
        help_heading = "State and report"
    )]
    pub report: Option<Location>,
    /// Which rows the report has.
    #[arg(
        long,
        env = "RESEAL_REPORT_SCOPE",
        default_value = "all",
        value_name = "SCOPE",
        help_heading = "State and report"
    )]
    pub report_scope: Scope,
    /// What may be sent in a second.
    #[command(flatten)]
    pub budgets: BudgetArgs,
    /// Stop when more than so many percent of the job's rows failed, once 1,000 have settled; each shard counts its own.
    #[arg(
        long,
        env = "RESEAL_FAILURE_THRESHOLD",
        default_value_t = 50,
        value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(0..=100),
        help_heading = "Limits"
    )]
    pub failure_threshold: u8,
    /// Stop when a row would fail with one of these codes, as the report has them; it stays unsettled.
    #[arg(
        long,
        env = "RESEAL_STOP_ON",
        value_name = "CODE,...",
        value_delimiter = ',',
        help_heading = "Limits"
    )]
    pub stop_on: Vec<String>,
    /// When it ends before its rows do.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Serve Prometheus metrics on this address, at /metrics.
    #[arg(
        long,
        env = "RESEAL_METRICS_LISTEN",
        value_name = "ADDR:PORT",
        help_heading = "Telling"
    )]
    pub metrics_listen: Option<SocketAddr>,
    /// Keep serving them so long after the end, for a last scrape.
    #[arg(
        long,
        env = "RESEAL_METRICS_LINGER",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        help_heading = "Telling"
    )]
    pub metrics_linger: Duration,
    /// Push the summary of the run to this Pushgateway at its end: its address, or the whole URL of a group.
    #[arg(
        long,
        env = "RESEAL_PUSHGATEWAY",
        value_name = "URL",
        help_heading = "Telling"
    )]
    pub pushgateway: Option<Address>,
    /// Where `reseal control` reaches the run [default: control.sock beside a state in a folder].
    #[arg(
        long,
        env = "RESEAL_CONTROL_SOCKET",
        value_name = "PATH",
        help_heading = "State and report"
    )]
    pub control_socket: Option<PathBuf>,
    /// How it tells what it came to.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// The store and who we are to it. Credentials come as in every AWS SDK.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// A store other than AWS.
    #[arg(long, env = "RESEAL_ENDPOINT_URL", value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// The bucket's Region [default: AWS's own configuration, else us-east-1].
    #[arg(long, env = "RESEAL_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// A profile of AWS's configuration files.
    #[arg(long, env = "RESEAL_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Address buckets by path: https://host/bucket/key.
    #[arg(long, env = "RESEAL_PATH_STYLE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub path_style: bool,
}

/// `reseal demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where everything is kept: objects, keys, state and report. Must be empty or absent.
    #[arg(long, default_value = "reseal-demo", value_name = "DIR")]
    pub data: PathBuf,
    /// How many objects.
    #[arg(
        long,
        default_value_t = 400,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(50..=100_000),
    )]
    pub objects: u32,
    /// Progress on standard error.
    #[arg(
        long,
        env = "RESEAL_PROGRESS",
        default_value = "auto",
        value_name = "STYLE"
    )]
    pub progress: ProgressMode,
}

/// `reseal local-s3`.
#[derive(Debug, Subcommand)]
pub enum LocalS3Command {
    /// Serve it on a TCP port until interrupted.
    Serve {
        /// The folder of this store.
        #[command(flatten)]
        data: DataDir,
        /// Address to listen on; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDR:PORT")]
        listen: SocketAddr,
    },
    /// The KMS keys: list them, or add, enable, disable one.
    Keys {
        /// The folder of this store.
        #[command(flatten)]
        data: DataDir,
        /// What to do; without it, list.
        #[command(subcommand)]
        action: Option<KeyAction>,
    },
    /// Rotate the SSE-S3 root key. Old objects stay readable.
    Rotate {
        /// The folder of this store.
        #[command(flatten)]
        data: DataDir,
    },
}

/// Where an embedded S3 keeps everything.
#[derive(Clone, Debug, Args)]
pub struct DataDir {
    /// The folder of this store: objects, metadata and keys.
    #[arg(
        long,
        env = "RESEAL_LOCAL_S3_DATA",
        value_name = "DIR",
        global = true,
        default_value = "reseal-local-s3"
    )]
    pub data: PathBuf,
}

/// What to do with a KMS key.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyAction {
    /// List the keys.
    List,
    /// Add a key.
    Add {
        /// Its alias, for example alias/app.
        #[arg(long, value_name = "ALIAS")]
        alias: Option<String>,
    },
    /// Enable a key again.
    Enable {
        /// Id, ARN or alias.
        key: String,
    },
    /// Disable a key: objects under it can't be read until it is enabled.
    Disable {
        /// Id, ARN or alias.
        key: String,
    },
    /// Mark a key as pending deletion.
    ScheduleDeletion {
        /// Id, ARN or alias.
        key: String,
    },
}

/// A target mode as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ToMode {
    /// Keys that S3 manages.
    SseS3,
    /// A KMS key.
    SseKms,
    /// Two layers under a KMS key.
    DsseKms,
    /// A customer's key.
    SseC,
}

impl From<ToMode> for TargetMode {
    fn from(mode: ToMode) -> Self {
        match mode {
            ToMode::SseS3 => Self::SseS3,
            ToMode::SseKms => Self::SseKms,
            ToMode::DsseKms => Self::DsseKms,
            ToMode::SseC => Self::SseC,
        }
    }
}

/// Which rows the report has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Every settled row.
    All,
    /// Failed rows only.
    Failed,
}

/// How results are written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For a person.
    Text,
    /// One JSON object.
    Json,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, log lines elsewhere.
    Auto,
    /// A bar.
    Bar,
    /// A log line every few seconds.
    Log,
    /// Nothing.
    None,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_flag_of_a_job_is_a_variable_too() {
        Cli::command().debug_assert();
        let command = Cli::command();
        let of = |name: &str| {
            let found = command.find_subcommand(name).expect("the command");
            found.get_arguments().collect::<Vec<_>>()
        };
        for argument in ["run", "verify", "undo"]
            .into_iter()
            .flat_map(of)
            .filter(|argument| argument.get_id() != "help")
        {
            let flag = argument.get_long().expect("they have flags only");
            let variable = format!("RESEAL_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                (flag != "version").then_some(variable.as_str()),
                "--{flag}"
            );
        }
    }
}
