//! What objects shall be under, the customer keys that they are under now, and how a command tells what it came to: flags of several
//! commands.

use std::path::PathBuf;

use clap::Args;

use super::commands::keep_out_of_core_dumps;
use super::{OutputFormat, ProgressMode, ToMode};
use crate::config::{self, TargetOptions};
use crate::encryption::{CustomerKey, Target};
use crate::error::Error;

/// What the objects shall be under.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetArgs {
    /// The encryption that the objects shall be under.
    #[arg(long, env = "RESEAL_TO", value_name = "MODE")]
    pub to: ToMode,
    /// The KMS key: ARN, id, alias or alias ARN. Without it, the AWS-managed key aws/s3.
    #[arg(long, env = "RESEAL_KMS_KEY_ID", value_name = "KEY")]
    pub kms_key_id: Option<String>,
    /// Whether objects use an S3 Bucket Key (SSE-KMS). Left out, what is written uses one, but no object is rewritten for it.
    #[arg(long, env = "RESEAL_BUCKET_KEY", value_name = "BOOL")]
    pub bucket_key: Option<bool>,
    /// Additional encryption context: a JSON object of strings.
    #[arg(long, env = "RESEAL_KMS_ENCRYPTION_CONTEXT", value_name = "JSON")]
    pub kms_encryption_context: Option<String>,
    /// The new customer key (SSE-C): a file with 32 raw bytes or their base64.
    #[arg(long, env = "RESEAL_SSE_C_KEY_FILE", value_name = "FILE")]
    pub sse_c_key_file: Option<PathBuf>,
}

impl TargetArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a key file that can't be read.
    pub fn into_target(self) -> Result<Target, Error> {
        if self.sse_c_key_file.is_some() {
            keep_out_of_core_dumps()?;
        }
        let options = TargetOptions {
            kms_key_id: self.kms_key_id,
            bucket_key: self.bucket_key,
            kms_encryption_context: self.kms_encryption_context,
            sse_c_key_file: self.sse_c_key_file,
        };
        config::target(self.to.into(), options)
    }
}

/// The customer keys that objects are under now.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceKeyArgs {
    /// A customer key that objects are under now; may be given again.
    #[arg(
        long,
        env = "RESEAL_SOURCE_SSE_C_KEY_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub source_sse_c_key_file: Vec<PathBuf>,
}

impl SourceKeyArgs {
    /// The keys.
    ///
    /// # Errors
    /// A file that can't be read, or has no key in it.
    pub fn keys(&self) -> Result<Vec<CustomerKey>, Error> {
        if !self.source_sse_c_key_file.is_empty() {
            keep_out_of_core_dumps()?;
        }
        let files = self.source_sse_c_key_file.iter();
        files.map(|file| config::customer_key(file)).collect()
    }
}

/// How a command tells what it came to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Telling")]
pub struct TellingArgs {
    /// What it came to, on standard output.
    #[arg(
        long,
        env = "RESEAL_OUTPUT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
    /// Progress on standard error; auto is a bar on a terminal and log lines elsewhere.
    #[arg(
        long,
        env = "RESEAL_PROGRESS",
        default_value = "auto",
        value_name = "STYLE"
    )]
    pub progress: ProgressMode,
}
