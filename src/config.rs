//! What the operator means: the checked form of what was typed.
//!
//! Everything after the command line works with these types; a combination that makes no sense does not get past
//! [`Target`]'s construction here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::encryption::{CustomerKey, KmsTarget, Target};
use crate::engine::Settings;
use crate::error::Error;
use crate::http::Address;
use crate::limiter::Budgets;
use crate::manifest::Reading;
use crate::plan::{MethodChoice, Rules, Versions};
use crate::report::Scope;
use crate::s3::Connection;
use crate::shard::Shard;
use crate::task;

/// Largest SSE-C key file that is read, in bytes: base64 of 32 bytes with some white space.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// One `reseal run`.
#[derive(Debug)]
pub struct JobConfig {
    /// Where the list of objects is: a file, or a folder of inventories, which ends with a slash or is one.
    pub manifest: Location,
    /// How it is read, and which of its rows are meant.
    pub reading: Reading,
    /// What the objects shall be under.
    pub target: Target,
    /// Keys that SSE-C objects are under now.
    pub source_keys: Vec<CustomerKey>,
    /// The store.
    pub connection: Connection,
    /// Where the state is kept; `None` is `.reseal/<job id>`.
    pub state: Option<Location>,
    /// Which shard of the job this run has.
    pub shard: Shard,
    /// Where the report goes; `None` is the state.
    pub report: Option<Location>,
    /// Which rows the report has.
    pub report_scope: Scope,
    /// Where evidence of what is rewritten goes; `None` keeps none.
    pub evidence: Option<Location>,
    /// How the engine runs.
    pub settings: Settings,
    /// How objects are rewritten.
    pub rewriting: task::Settings,
    /// How far the store is trusted.
    pub trust: Trust,
    /// Objects that came back wrong and have been looked at: the job goes on in spite of them.
    pub acknowledged_wrong: u64,
    /// What may be sent in a second, of all shards.
    pub budgets: Budgets,
    /// Most requests of this shard on the wire.
    pub concurrency: usize,
    /// How long it is waited while nothing goes on; zero is not at all.
    pub max_stall: Duration,
    /// The job sends nothing while this is there.
    pub throttle_file: Option<PathBuf>,
    /// The job sends nothing while this answers other than 2xx.
    pub throttle_url: Option<Address>,
    /// Where the operator reaches the run; `None` is a socket beside a state in a directory.
    pub control_socket: Option<PathBuf>,
    /// When the run ends by itself, in seconds since 1970.
    pub deadline: Option<f64>,
    /// Where the summary of the run is pushed to at its end.
    pub pushgateway: Option<Address>,
    /// Where Prometheus may ask.
    pub metrics_listen: Option<SocketAddr>,
    /// How long Prometheus may still ask after the end.
    pub metrics_linger: Duration,
}

/// How far the store is trusted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// When the store is probed on scratch keys.
    pub probe: Probe,
    /// Objects that are read back and compared before the rest is begun; `None` is the default.
    pub canary: Option<u64>,
    /// Whether to go on where the store ignores conditions and nothing keeps what is overwritten.
    pub accept_race: bool,
}

/// When the store is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Where it is not AWS; on AWS for UpdateObjectEncryption alone.
    #[default]
    Auto,
    /// Anywhere.
    Always,
    /// Nowhere: it is taken for a store that does what AWS documents, without UpdateObjectEncryption.
    Off,
}

/// A file, a folder, or something in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Standard input.
    Stdin,
    /// A path of this machine.
    Path(PathBuf),
    /// An object, or a prefix, in S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key or prefix, as it is: not URL-encoded.
        key: String,
    },
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err("an S3 location is s3://bucket/key".to_owned());
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            });
        }
        if text.is_empty() {
            return Err("empty; give a path or s3://bucket/key".to_owned());
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(format!(
                "{scheme}:// is not supported; give a path or s3://bucket/key"
            )),
            None => Ok(Self::Path(PathBuf::from(text))),
        }
    }
}

/// What stands in a place for the inventory that is taken: the name of its dated folder.
pub const INVENTORY: &str = "{inventory}";

impl Location {
    /// Whether each inventory has a place of its own.
    pub fn names_inventory(&self) -> bool {
        self.to_string().contains(INVENTORY)
    }

    /// The place for an inventory.
    ///
    /// # Panics
    /// `name` is not the name of a dated folder.
    pub fn for_inventory(&self, name: &str) -> Self {
        let place = self.to_string().replace(INVENTORY, name);
        place
            .parse()
            .expect("a date is as good as what it stands for")
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("-"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// The target's parameters as they were typed, before they are held against its mode.
#[derive(Clone, Debug, Default)]
pub struct TargetOptions {
    /// `--kms-key-id`.
    pub kms_key_id: Option<String>,
    /// `--bucket-key`.
    pub bucket_key: Option<bool>,
    /// `--kms-encryption-context`.
    pub kms_encryption_context: Option<String>,
    /// `--sse-c-key-file`.
    pub sse_c_key_file: Option<PathBuf>,
}

/// A target's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetMode {
    /// Keys that S3 manages.
    SseS3,
    /// A KMS key.
    SseKms,
    /// Two layers under a KMS key.
    DsseKms,
    /// A customer's key.
    SseC,
}

/// Puts a target together.
///
/// # Errors
/// Options that the mode does not have or is missing, a context that is no JSON object of strings, a key file that can't
/// be read.
pub fn target(mode: TargetMode, options: TargetOptions) -> Result<Target, Error> {
    let kms_only = [
        ("--kms-key-id", options.kms_key_id.is_some()),
        ("--bucket-key", options.bucket_key.is_some()),
        (
            "--kms-encryption-context",
            options.kms_encryption_context.is_some(),
        ),
    ];
    let has_kms = matches!(mode, TargetMode::SseKms | TargetMode::DsseKms);
    if !has_kms && let Some((flag, _)) = kms_only.iter().find(|(_, given)| *given) {
        return Err(Error::usage(format!(
            "{flag} goes with --to sse-kms or dsse-kms only"
        )));
    }
    if mode != TargetMode::SseC && options.sse_c_key_file.is_some() {
        return Err(Error::usage("--sse-c-key-file goes with --to sse-c only")
            .hint("a key that objects are under now is given with --source-sse-c-key-file"));
    }
    let kms = || -> Result<KmsTarget, Error> {
        let key_id = options.kms_key_id.clone();
        if key_id.as_deref().is_some_and(|id| id.trim().is_empty()) {
            return Err(Error::usage("--kms-key-id is empty")
                .hint("leave it out for the AWS-managed key aws/s3"));
        }
        Ok(KmsTarget {
            key_id,
            bucket_key: options.bucket_key,
            context: options
                .kms_encryption_context
                .as_deref()
                .map(context)
                .transpose()?,
            resolved: None,
        })
    };
    match mode {
        TargetMode::SseS3 => Ok(Target::SseS3),
        TargetMode::SseKms => Ok(Target::SseKms(kms()?)),
        TargetMode::DsseKms if options.bucket_key == Some(true) => Err(Error::usage(
            "--bucket-key true does not go with --to dsse-kms: DSSE-KMS has no bucket keys",
        )),
        TargetMode::DsseKms => Ok(Target::DsseKms(KmsTarget {
            bucket_key: None,
            ..kms()?
        })),
        TargetMode::SseC => match &options.sse_c_key_file {
            Some(file) => Ok(Target::SseC(customer_key(file)?)),
            None => Err(Error::usage("--to sse-c needs --sse-c-key-file").hint(
                "make one with: head -c 32 /dev/urandom > key; whoever loses it loses the objects",
            )),
        },
    }
}

/// Holds `--method` against the target.
///
/// # Errors
/// UpdateObjectEncryption has SSE-KMS as its only target, and takes no encryption context.
pub fn method_serves(method: MethodChoice, target: &Target) -> Result<(), Error> {
    if method != MethodChoice::Update {
        return Ok(());
    }
    match target {
        Target::SseKms(kms) if kms.context.is_some() => Err(Error::usage(
            "--method update does not go with --kms-encryption-context: UpdateObjectEncryption takes none",
        )),
        Target::SseKms(_) => Ok(()),
        Target::SseS3 | Target::DsseKms(_) | Target::SseC(_) => Err(Error::usage(
            "--method update goes with --to sse-kms only: UpdateObjectEncryption has no other target",
        )),
    }
}

/// Holds `--versions` against the filters.
///
/// # Errors
/// A restack rewrites all versions of a key: filters can't leave some of them out.
pub fn versions_go_with(rules: &Rules) -> Result<(), Error> {
    if rules.versions == Versions::Restack && rules.selection.tells_versions_apart() {
        return Err(Error::usage(
            "--versions restack rewrites all versions of a key, so it goes with --bucket, --include and --exclude and with no other \
             filter",
        ));
    }
    Ok(())
}

/// A JSON object of strings, written the one way: keys sorted, no white space.
fn context(text: &str) -> Result<String, Error> {
    let map: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| {
            Error::usage(format!(
                "--kms-encryption-context is not a JSON object of strings: {error}"
            ))
            .hint("for example: {\"department\":\"finance\"}")
        })?;
    Ok(serde_json::to_string(&map).expect("strings only"))
}

/// Reads an SSE-C key file.
///
/// # Errors
/// It can't be read, or is no key.
pub fn customer_key(file: &Path) -> Result<CustomerKey, Error> {
    let unreadable =
        |error: &dyn std::fmt::Display| Error::usage(format!("{}: {error}", file.display()));
    let bytes = std::fs::metadata(file)
        .map_err(|error| unreadable(&error))?
        .len();
    if bytes > KEY_FILE_BYTES_MAX {
        return Err(unreadable(&format!(
            "{bytes} bytes are no SSE-C key: it is 32 raw bytes or their base64"
        )));
    }
    let content = zeroize::Zeroizing::new(std::fs::read(file).map_err(|error| unreadable(&error))?);
    CustomerKey::from_file_content(&content).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_an_s3_url_or_standard_input() {
        for (text, expected) in [
            ("-", Ok(Location::Stdin)),
            ("a/b.csv", Ok(Location::Path("a/b.csv".into()))),
            (
                "s3://b/k/l",
                Ok(Location::S3 {
                    bucket: "b".into(),
                    key: "k/l".into(),
                }),
            ),
            (
                "s3://b",
                Ok(Location::S3 {
                    bucket: "b".into(),
                    key: String::new(),
                }),
            ),
        ] {
            assert_eq!(text.parse(), expected);
        }
        for bad in ["", "s3://", "s3:///k", "https://b/k"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }

    #[test]
    fn options_of_another_mode_are_refused() {
        let kms = TargetOptions {
            kms_key_id: Some("k".to_owned()),
            ..TargetOptions::default()
        };
        let bucket_key = TargetOptions {
            bucket_key: Some(true),
            ..TargetOptions::default()
        };
        let context = |text: &str| TargetOptions {
            kms_encryption_context: Some(text.to_owned()),
            ..TargetOptions::default()
        };
        let key_file = TargetOptions {
            sse_c_key_file: Some("/nonexistent/key".into()),
            ..TargetOptions::default()
        };
        for (mode, options, phrase) in [
            (TargetMode::SseS3, kms.clone(), "--kms-key-id"),
            (TargetMode::SseC, kms.clone(), "--kms-key-id"),
            (TargetMode::DsseKms, bucket_key.clone(), "--bucket-key"),
            (
                TargetMode::SseC,
                TargetOptions::default(),
                "--sse-c-key-file",
            ),
            (TargetMode::SseKms, key_file.clone(), "--sse-c-key-file"),
            (TargetMode::SseC, key_file, "/nonexistent/key"),
            (
                TargetMode::SseKms,
                context("[1]"),
                "--kms-encryption-context",
            ),
            (
                TargetMode::SseKms,
                context("{\"a\":1}"),
                "--kms-encryption-context",
            ),
        ] {
            let error = target(mode, options).expect_err(phrase);
            assert_eq!(error.exit, crate::exit::Exit::Usage);
            assert!(error.message.contains(phrase), "{error}");
        }
        let sorted = target(
            TargetMode::SseKms,
            context("{ \"b\": \"2\", \"a\": \"1\" }"),
        )
        .expect("sound");
        assert_eq!(
            sorted.kms().and_then(|kms| kms.context.as_deref()),
            Some("{\"a\":\"1\",\"b\":\"2\"}")
        );
        assert!(target(TargetMode::SseKms, kms).is_ok());
    }
}
