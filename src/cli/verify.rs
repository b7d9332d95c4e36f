//! `reseal verify`.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ArgGroup, Args, ValueEnum};

use super::commands::keep_out_of_core_dumps;
use super::survey::{ConcurrencyArgs, RowReportArgs, sha256};
use super::{FilterArgs, LimitArgs, ReadingArgs, SourceKeyArgs, StoreArgs, TellingArgs, ToMode};
use crate::config::{self, Location, TargetOptions};
use crate::encryption::is_kms_key;
use crate::error::Error;
use crate::job::survey::SurveyConfig;
use crate::job::verify::{REPORT_DEFAULT, Scrutiny, VerifyConfig};
use crate::limiter::Budgets;
use crate::verification::Wish;

/// Bytes of an MD5.
const MD5_BYTES: usize = 16;

/// `reseal verify`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("scrutiny").args(["manifest", "bucket", "evidence"]).required(true),
)]
pub struct VerifyArgs {
    /// Look at the rows of this manifest: whatever `reseal run` takes, as a path or s3://bucket/key; - is standard input.
    #[arg(long, env = "RESEAL_MANIFEST", value_name = "PATH|S3-URL|-")]
    pub manifest: Option<Location>,
    /// How it is read.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Look at what this bucket lists.
    #[arg(long, env = "RESEAL_BUCKET", value_name = "BUCKET")]
    pub bucket: Option<String>,
    /// Check the chain of the evidence that a run has kept, a folder or s3://bucket/prefix; with --to or --retire-key, look at its objects too.
    #[arg(long, env = "RESEAL_EVIDENCE", value_name = "DIR|S3-URL")]
    pub evidence: Option<Location>,
    /// SHA-256 that evidence.json must have, as the run's summary told it; with --evidence.
    #[arg(
        long,
        env = "RESEAL_EVIDENCE_SHA256",
        value_name = "HEX",
        value_parser = sha256
    )]
    pub evidence_sha256: Option<String>,
    /// Only keys that begin so; with --bucket.
    #[arg(long, env = "RESEAL_PREFIX", value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Which versions of the bucket are looked at, with --bucket [default: all].
    #[arg(long, env = "RESEAL_VERSIONS_LISTED", value_name = "WHICH")]
    pub versions_listed: Option<VersionsListed>,
    /// The encryption that the objects shall be under.
    #[arg(long, env = "RESEAL_TO", value_name = "MODE")]
    pub to: Option<ToMode>,
    /// The KMS key: ARN, id, alias or alias ARN. Without it, the AWS-managed key aws/s3.
    #[arg(
        long,
        env = "RESEAL_KMS_KEY_ID",
        value_name = "KEY",
        help_heading = "Target"
    )]
    pub kms_key_id: Option<String>,
    /// Whether objects must use an S3 Bucket Key (SSE-KMS). Left out, either holds.
    #[arg(
        long,
        env = "RESEAL_BUCKET_KEY",
        value_name = "BOOL",
        help_heading = "Target"
    )]
    pub bucket_key: Option<bool>,
    /// The customer key that objects shall be under (SSE-C): a file with 32 raw bytes or their base64.
    #[arg(
        long,
        env = "RESEAL_SSE_C_KEY_FILE",
        value_name = "FILE",
        help_heading = "Target"
    )]
    pub sse_c_key_file: Option<PathBuf>,
    /// The customer keys that objects are under now.
    #[command(flatten)]
    pub source_keys: SourceKeyArgs,
    /// Say whether this key may be retired: a KMS key's ARN or id, or the MD5 of a customer's key in base64; may be given again.
    #[arg(
        long,
        env = "RESEAL_RETIRE_KEY",
        value_name = "KEY",
        value_delimiter = ','
    )]
    pub retire_key: Vec<String>,
    /// A row that names a version which was superseded since holds where the current version of its key does.
    #[arg(long, env = "RESEAL_ACCEPT_SUPERSEDED", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub accept_superseded: bool,
    /// Read objects back and compare their bytes with the checksum that the store keeps: none, all, or sample=1% of them.
    #[arg(
        long,
        env = "RESEAL_READ",
        default_value = "none",
        value_name = "HOW",
        value_parser = share
    )]
    pub read: f64,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// What is reported.
    #[command(flatten)]
    pub report: RowReportArgs,
    /// Within which bounds.
    #[command(flatten)]
    pub bounds: SurveyArgs,
    /// When it ends before its rows do.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How it tells what it came to.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// What a survey may send.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Budgets")]
pub struct SurveyArgs {
    /// How much is done at once.
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// Most requests per second [default: no ceiling].
    #[arg(long, env = "RESEAL_REQUEST_RATE", value_name = "REQUESTS/S")]
    pub request_rate: Option<NonZeroU32>,
    /// Most bytes per second that are read back [default: no ceiling].
    #[arg(long, env = "RESEAL_BANDWIDTH", value_name = "BYTES/S")]
    pub bandwidth: Option<ByteSize>,
}

impl SurveyArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A bandwidth of nothing.
    pub fn into_config(self, store: StoreArgs, limits: LimitArgs) -> Result<SurveyConfig, Error> {
        let bytes = self.bandwidth.map(|bandwidth| bandwidth.as_u64());
        if bytes == Some(0) {
            return Err(Error::usage(
                "--bandwidth is nothing: give one, or leave it out",
            ));
        }
        let budgets = Budgets {
            requests: self.request_rate,
            bytes: bytes.and_then(NonZeroU64::new),
            ..Budgets::default()
        };
        Ok(self.concurrency.survey(store, budgets, limits))
    }
}

/// Which versions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VersionsListed {
    /// Noncurrent ones too.
    All,
    /// The current ones.
    Current,
}

impl VerifyArgs {
    /// What was meant.
    ///
    /// # Errors
    /// A combination that makes no sense, or a key file that can't be read.
    pub fn into_config(self) -> Result<VerifyConfig, Error> {
        if self.sse_c_key_file.is_some() {
            keep_out_of_core_dumps()?;
        }
        let options = TargetOptions {
            kms_key_id: self.kms_key_id,
            bucket_key: self.bucket_key,
            kms_encryption_context: None,
            sse_c_key_file: self.sse_c_key_file,
        };
        let target = match self.to {
            Some(mode) => Some(config::target(mode.into(), options)?),
            None if options.kms_key_id.is_some()
                || options.bucket_key.is_some()
                || options.sse_c_key_file.is_some() =>
            {
                return Err(Error::usage(
                    "--kms-key-id, --bucket-key and --sse-c-key-file go with --to",
                ));
            }
            None => None,
        };
        let source_keys = self.source_keys.keys()?;
        if target.is_none() && self.retire_key.is_empty() && self.evidence.is_none() {
            return Err(Error::usage("nothing is asked of the objects")
                .hint("give --to, what they shall be under, or --retire-key, what they shall not be under"));
        }
        // clap asks for no flag that another one excludes.
        for (is_given, flag, is_there, other) in [
            (
                self.prefix.is_some(),
                "--prefix",
                self.bucket.is_some(),
                "--bucket",
            ),
            (
                self.versions_listed.is_some(),
                "--versions-listed",
                self.bucket.is_some(),
                "--bucket",
            ),
            (
                self.evidence_sha256.is_some(),
                "--evidence-sha256",
                self.evidence.is_some(),
                "--evidence",
            ),
            (
                self.accept_superseded,
                "--accept-superseded",
                self.manifest.is_some(),
                "--manifest",
            ),
        ] {
            if is_given && !is_there {
                return Err(Error::usage(format!("{flag} goes with {other}")));
            }
        }
        if self.read > 0.0 && target.is_none() && self.retire_key.is_empty() {
            return Err(Error::usage(
                "--read goes with --to or --retire-key: without them no object is looked at",
            ));
        }
        let reading = self.reading.with(FilterArgs::default())?;
        let scrutiny = match (self.manifest, self.evidence, self.bucket) {
            (Some(manifest), ..) => Scrutiny::Manifest(manifest, Box::new(reading)),
            _ if !reading.is_default() => {
                return Err(Error::usage(
                    "--manifest-columns, --manifest-encoding and --manifest-rows go with --manifest",
                ));
            }
            (None, Some(at), _) => Scrutiny::Evidence {
                at,
                sha256: self.evidence_sha256,
            },
            (None, None, bucket) => Scrutiny::Bucket {
                name: bucket.unwrap_or_default(),
                prefix: self.prefix.unwrap_or_default(),
                all_versions: self.versions_listed != Some(VersionsListed::Current),
            },
        };
        Ok(VerifyConfig {
            survey: self.bounds.into_config(self.store, self.limits)?,
            scrutiny,
            wish: Wish {
                target,
                retired: self
                    .retire_key
                    .iter()
                    .map(|key| retired(key))
                    .collect::<Result<_, _>>()?,
            },
            source_keys,
            read: self.read,
            accept_superseded: self.accept_superseded,
            report_scope: self.report.report_scope.into(),
            report: self.report.place(REPORT_DEFAULT)?,
        })
    }
}

/// A key that is to be retired, by a name that nothing else can come to have.
fn retired(key: &str) -> Result<String, Error> {
    let key = key.trim();
    if key.is_empty() {
        return Err(Error::usage("--retire-key has an empty key"));
    }
    let is_md5 = BASE64.decode(key).is_ok_and(|md5| md5.len() == MD5_BYTES);
    if key.starts_with("alias/") || key.contains(":alias/") {
        return Err(Error::usage(format!(
            "--retire-key {key}: an alias may stand for another key tomorrow"
        ))
        .hint("give the key's ARN or id"));
    }
    if is_md5 {
        return Ok(key.to_owned());
    }
    // Hexadecimal digits are spelt either way.
    let key = match key.rsplit_once('/') {
        Some((head, id)) => format!("{head}/{}", id.to_ascii_lowercase()),
        None => key.to_ascii_lowercase(),
    };
    if !is_kms_key(&key) {
        return Err(Error::usage(format!("--retire-key {key}: no key is called that")).hint(
            "give a KMS key's ARN (arn:aws:kms:…:key/…) or its id (a UUID, or mrk-…), or the MD5 of a customer's key in base64",
        ));
    }
    Ok(key)
}

fn share(text: &str) -> Result<f64, String> {
    let unknown = || format!("{text:?} is none of none, all, sample=PERCENT%");
    match text {
        "none" => Ok(0.0),
        "all" => Ok(1.0),
        _ => {
            let percent = text.strip_prefix("sample=").ok_or_else(unknown)?;
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            let percent: f64 = percent.parse().map_err(|_| unknown())?;
            match percent > 0.0 && percent <= 100.0 {
                true => Ok(percent / 100.0),
                false => Err("a sample is above 0 % and at most 100 %".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_none_all_or_a_sample_and_an_alias_is_no_key_to_retire() {
        assert_eq!(share("none"), Ok(0.0));
        assert_eq!(share("all"), Ok(1.0));
        assert_eq!(share("sample=1%"), Ok(0.01));
        for bad in ["", "read", "sample=0%", "sample=101%", "sample=x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert!(
            retired("arn:aws:kms:us-east-1:111122223333:key/1234ABCD-12ab-34cd-56ef-1234567890ab")
                .is_ok()
        );
        for bad in [
            "",
            "alias/app",
            "arn:aws:kms:us-east-1:1:alias/app",
            "nonsense",
            "key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "1234abcd-12ab-34cd-56ef-1234567890a",
            "aws/s3",
        ] {
            assert!(retired(bad).is_err(), "{bad}");
        }
    }
}
