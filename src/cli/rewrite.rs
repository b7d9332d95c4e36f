//! How objects are rewritten, and how far the store is trusted: flags of `reseal run`.

use std::str::FromStr;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use crate::closure::{Loss, Losses};
use crate::config::{Location, Probe, Trust};
use crate::error::Error;
use crate::job::evidence::NO_PLACE;
use crate::object::COPY_OBJECT_BYTES_MAX;
use crate::plan::{MethodChoice, PART_BYTES_MAX, PART_BYTES_MIN, Rules, Versions};
use crate::selection::Selection;
use crate::task::{Settings, Verify};

/// The word for no loss at all.
const NONE: &str = "none";

/// How objects are rewritten.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rewriting")]
pub struct RewriteArgs {
    /// auto updates the encryption in place where the store has shown that it can and copies the rest; copy only copies;
    /// update only updates.
    #[arg(
        long,
        env = "RESEAL_METHOD",
        default_value = "auto",
        value_name = "METHOD"
    )]
    pub method: Method,
    /// Copy larger objects in parts; at most 5GiB.
    #[arg(
        long,
        env = "RESEAL_MULTIPART_THRESHOLD",
        default_value = "5GiB",
        value_name = "BYTES"
    )]
    pub multipart_threshold: ByteSize,
    /// Bytes of a part, 5MiB to 5GiB [default: the object's own parts, else by its size].
    #[arg(long, env = "RESEAL_PART_SIZE", value_name = "BYTES")]
    pub part_size: Option<ByteSize>,
    /// What becomes of noncurrent versions where they can't be updated in place: current refuses them, restack rewrites all
    /// versions of a key in their order.
    #[arg(
        long,
        env = "RESEAL_VERSIONS",
        default_value = "current",
        value_name = "WHICH"
    )]
    pub versions: VersionsMode,
    /// Delete each version that a rewrite has superseded, once the new one is verified byte for byte.
    #[arg(long, env = "RESEAL_DELETE_SUPERSEDED", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub delete_superseded: bool,
    /// What may be lost.
    #[command(flatten)]
    pub losses: LossArgs,
    /// Keep evidence of each rewritten object, before and after, in files that are chained by their digests: below this folder or
    /// s3://bucket/prefix. Each object is looked at then.
    #[arg(
        long,
        env = "RESEAL_EVIDENCE",
        value_name = "DIR|S3-URL",
        help_heading = "State and report"
    )]
    pub evidence: Option<Location>,
}

impl RewriteArgs {
    /// What was meant.
    ///
    /// # Errors
    /// Sizes that S3 does not take, an unknown loss, evidence that would go nowhere.
    pub fn into_settings(self, verify: Verify, selection: Selection) -> Result<Settings, Error> {
        if self.evidence == Some(Location::Stdin) {
            return Err(Error::usage(NO_PLACE));
        }
        let threshold = self.multipart_threshold.as_u64();
        if threshold > COPY_OBJECT_BYTES_MAX {
            return Err(Error::usage(format!(
                "--multipart-threshold {threshold} is above {COPY_OBJECT_BYTES_MAX} bytes (5GiB), the most that CopyObject takes"
            )));
        }
        let part_bytes = self.part_size.map(|size| size.as_u64());
        if let Some(bytes) = part_bytes
            && !(PART_BYTES_MIN..=PART_BYTES_MAX).contains(&bytes)
        {
            return Err(Error::usage(format!(
                "--part-size {bytes} is not between {PART_BYTES_MIN} and {PART_BYTES_MAX} bytes (5MiB and 5GiB), which S3 asks for"
            )));
        }
        Ok(Settings {
            rules: Rules {
                method: self.method.into(),
                multipart_threshold: threshold,
                versions: self.versions.into(),
                allowed: self.losses.losses()?,
                selection,
            },
            part_bytes,
            delete_superseded: self.delete_superseded,
            verify,
            evidence: self.evidence.is_some(),
        })
    }
}

/// What may be lost.
#[derive(Clone, Debug, Args)]
pub struct LossArgs {
    /// What may be lost where it can't be seen: none, or some of tags, acl, object-lock, annotations, kms-context, metadata.
    #[arg(
        long,
        env = "RESEAL_ALLOW_LOSS",
        default_value = "kms-context",
        value_name = "LOSS,...",
        value_delimiter = ','
    )]
    pub allow_loss: Vec<String>,
}

impl LossArgs {
    /// What was meant.
    ///
    /// # Errors
    /// An unknown loss, or none among others.
    pub fn losses(&self) -> Result<Losses, Error> {
        if self.allow_loss.iter().any(|name| name == NONE) {
            if self.allow_loss.len() > 1 {
                return Err(Error::usage("--allow-loss none goes alone"));
            }
            return Ok(Losses::default());
        }
        let losses = self.allow_loss.iter().map(|name| Loss::from_str(name));
        losses
            .collect::<Result<_, _>>()
            .map(Losses::new)
            .map_err(|error| Error::usage(format!("--allow-loss: {error}")))
    }
}

/// How far the store is trusted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Trust")]
pub struct TrustArgs {
    /// Try on scratch keys what the store does: auto on stores other than AWS, and on AWS for the update in place; always;
    /// off for whoever knows the store.
    #[arg(
        long,
        env = "RESEAL_PROBE",
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub probe: ProbeMode,
    /// Read back and compare the first N objects that each shard rewrites before the rest is begun [default: 10; on AWS and
    /// with --probe off 0].
    #[arg(long, env = "RESEAL_CANARY", value_name = "N")]
    pub canary: Option<u64>,
    /// How each rewrite is checked.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// Go on although N objects (of this shard) came back wrong in earlier runs: they have been looked at. What is left begins with a
    /// canary of its own.
    #[arg(
        long,
        env = "RESEAL_ACKNOWLEDGE_WRONG",
        default_value = "0",
        value_name = "N"
    )]
    pub acknowledge_wrong: u64,
    /// Go on in an unversioned bucket of a store that ignores conditions: what somebody else writes during a copy may be
    /// overwritten.
    #[arg(long, env = "RESEAL_ACCEPT_RACE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub accept_race: bool,
}

impl TrustArgs {
    /// What was meant.
    pub fn trust(&self) -> Trust {
        Trust {
            probe: self.probe.into(),
            canary: self.canary,
            accept_race: self.accept_race,
        }
    }
}

/// How each rewrite is checked.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Trust")]
pub struct ProofArgs {
    /// How each rewrite is checked: answer (what the store's answer names), head (HEAD before and after), read (bytes, tags,
    /// everything), sample=1% (read, for that share).
    #[arg(
        long,
        env = "RESEAL_VERIFY",
        default_value = "answer",
        value_name = "HOW",
        value_parser = verify
    )]
    pub verify: Verify,
}

fn verify(text: &str) -> Result<Verify, String> {
    let unknown = || format!("{text:?} is none of answer, head, read, sample=PERCENT%");
    match text {
        "answer" => Ok(Verify::Answer),
        "head" => Ok(Verify::Head),
        "read" => Ok(Verify::Read),
        _ => {
            let percent = text.strip_prefix("sample=").ok_or_else(unknown)?;
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            let percent: f64 = percent.parse().map_err(|_| unknown())?;
            if percent > 0.0 && percent <= 100.0 {
                Ok(Verify::Sample(percent / 100.0))
            } else {
                Err("a sample is above 0 % and at most 100 %".to_owned())
            }
        }
    }
}

/// A method as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The best that serves.
    Auto,
    /// Copies only.
    Copy,
    /// UpdateObjectEncryption only.
    Update,
}

impl From<Method> for MethodChoice {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Copy => Self::Copy,
            Method::Update => Self::Update,
        }
    }
}

/// Which versions, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VersionsMode {
    /// The current one.
    Current,
    /// All of them, in their order.
    Restack,
}

impl From<VersionsMode> for Versions {
    fn from(mode: VersionsMode) -> Self {
        match mode {
            VersionsMode::Current => Self::Current,
            VersionsMode::Restack => Self::Restack,
        }
    }
}

/// When the store is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeMode {
    /// Where it is not AWS.
    Auto,
    /// Always.
    Always,
    /// Never.
    Off,
}

impl From<ProbeMode> for Probe {
    fn from(mode: ProbeMode) -> Self {
        match mode {
            ProbeMode::Auto => Self::Auto,
            ProbeMode::Always => Self::Always,
            ProbeMode::Off => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_taken_or_refused_with_a_reason() {
        assert_eq!(verify("sample=1%"), Ok(Verify::Sample(0.01)));
        assert_eq!(verify("read"), Ok(Verify::Read));
        for bad in ["", "sample", "sample=0%", "sample=101%", "sample=x%", "all"] {
            assert!(verify(bad).is_err(), "{bad}");
        }
        let names = |names: &[&str]| {
            let allow_loss = names.iter().map(|&name| name.to_owned()).collect();
            LossArgs { allow_loss }.losses()
        };
        assert_eq!(names(&["none"]).expect("sound"), Losses::default());
        let some = names(&["tags", "acl"]).expect("sound");
        assert_eq!(some.names(), ["tags", "acl"]);
        for bad in [&["none", "tags"][..], &["owner"]] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }
}
