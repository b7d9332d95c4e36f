//! What a job is: everything that decides an outcome, and the id that follows from it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::source::{ManifestSource, PartSource};
use crate::config::JobConfig;
use crate::encryption::Target;
use crate::error::Error;
use crate::exit::Exit;
use crate::human;
use crate::manifest::{Prepared, Reading};
use crate::plan::{MethodChoice, Versions};
use crate::profile::StoreProfile;
use crate::shard::Shard;

/// Bytes of the digest that make a job id.
const JOB_ID_BYTES: usize = 16;

/// What decides how objects end, beside the manifest. Concurrency, rates, the report and the like may change between two
/// runs of a job; this may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The target's name.
    pub target: String,
    /// The KMS key as it was typed.
    pub kms_key_id: Option<String>,
    /// Whether a bucket key was asked for.
    pub bucket_key: Option<bool>,
    /// The encryption context.
    pub kms_encryption_context: Option<String>,
    /// MD5 of the target's customer key.
    pub customer_key_md5: Option<String>,
    /// MD5s of the keys that objects may be under now, sorted.
    pub source_key_md5s: Vec<String>,
    /// The store; `None` is AWS.
    pub endpoint_url: Option<String>,
    /// `--method`.
    pub method: String,
    /// `--versions`.
    pub versions: String,
    /// `--delete-superseded`.
    pub delete_superseded: bool,
    /// `--allow-loss`, sorted.
    pub allow_loss: Vec<String>,
    /// How the manifest is read, and which of its rows are meant.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
}

impl JobSpec {
    /// What a configuration decides.
    pub fn of(config: &JobConfig, endpoint_url: Option<&str>) -> Self {
        let kms = config.target.kms();
        let rules = &config.rewriting.rules;
        let mut source_key_md5s: Vec<_> = config
            .source_keys
            .iter()
            .map(|key| key.md5_base64().to_owned())
            .collect();
        source_key_md5s.sort();
        source_key_md5s.dedup();
        Self {
            target: config.target.name().to_owned(),
            kms_key_id: kms.and_then(|kms| kms.key_id.clone()),
            bucket_key: kms.and_then(|kms| kms.bucket_key),
            kms_encryption_context: kms.and_then(|kms| kms.context.clone()),
            customer_key_md5: match &config.target {
                Target::SseC(key) => Some(key.md5_base64().to_owned()),
                Target::SseS3 | Target::SseKms(_) | Target::DsseKms(_) => None,
            },
            source_key_md5s,
            endpoint_url: endpoint_url.map(str::to_owned),
            method: match rules.method {
                MethodChoice::Auto => "auto",
                MethodChoice::Copy => "copy",
                MethodChoice::Update => "update",
            }
            .to_owned(),
            versions: match rules.versions {
                Versions::Current => "current",
                Versions::Restack => "restack",
            }
            .to_owned(),
            delete_superseded: config.rewriting.delete_superseded,
            allow_loss: rules
                .allowed
                .names()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            reading: config.reading.clone(),
        }
    }

    /// The id of the job over a manifest of that digest: 32 hexadecimal digits.
    pub fn job_id(&self, manifest_digest: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(serde_json::to_vec(self).expect("strings only"));
        digest.update(manifest_digest);
        human::hex(&digest.finalize()[..JOB_ID_BYTES])
    }

    /// The flags in which two jobs differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            ("--to", self.target != other.target),
            ("--kms-key-id", self.kms_key_id != other.kms_key_id),
            ("--bucket-key", self.bucket_key != other.bucket_key),
            (
                "--kms-encryption-context",
                self.kms_encryption_context != other.kms_encryption_context,
            ),
            (
                "--sse-c-key-file",
                self.customer_key_md5 != other.customer_key_md5,
            ),
            (
                "--source-sse-c-key-file",
                self.source_key_md5s != other.source_key_md5s,
            ),
            ("--endpoint-url", self.endpoint_url != other.endpoint_url),
            ("--method", self.method != other.method),
            ("--versions", self.versions != other.versions),
            (
                "--delete-superseded",
                self.delete_superseded != other.delete_superseded,
            ),
            ("--allow-loss", self.allow_loss != other.allow_loss),
        ]
        .into_iter()
        .filter_map(|(flag, differs)| differs.then_some(flag))
        .chain(self.reading.differences(&other.reading))
        .collect()
    }
}

/// `job.json` at the root of a state: what all shards have to agree on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobFile {
    /// The version of reseal that made it.
    pub version: String,
    /// The job's id.
    pub job_id: String,
    /// What decides an outcome.
    pub spec: JobSpec,
    /// How many shards the job is cut in.
    pub shards: u32,
    /// The list of objects.
    pub manifest: ManifestFacts,
}

/// What a manifest is, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFacts {
    /// Where the shard that came first found it, as it was typed.
    pub location: String,
    /// The bucket of every row.
    pub bucket: String,
    /// Its rows, of all shards.
    pub rows: u64,
    /// Pins the content: [`Prepared::digest`].
    pub digest: String,
    /// Its parts, so that what changed can be told.
    pub parts: Vec<PartDigest>,
}

/// The content of one part of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDigest {
    /// The manifest's name, or the data file's key.
    pub name: String,
    /// SHA-256 of it as it is stored, in hexadecimal.
    pub sha256: String,
}

impl JobFile {
    /// The document of the job that a shard has prepared.
    pub fn of(shard: &ShardFile, spec: JobSpec) -> Self {
        Self {
            version: shard.version.clone(),
            job_id: shard.job_id.clone(),
            spec,
            shards: shard.prepared.shard.count,
            manifest: ManifestFacts::of(&shard.source.location, &shard.prepared),
        }
    }

    /// Holds a run against the job that the state belongs to.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, place: &str, spec: &JobSpec, shard: Shard) -> Result<(), Error> {
        let differences = self.spec.differences(spec);
        if !differences.is_empty() {
            return Err(Error::new(
                Exit::State,
                format!(
                    "the state {place} belongs to job {}, which differs in {}",
                    self.job_id,
                    differences.join(", ")
                ),
            )
            .hint("give the flags of that job to continue it, or another --state for a new one"));
        }
        if self.shards != shard.count {
            return Err(Error::new(
                Exit::State,
                format!(
                    "the state {place} belongs to job {}, which is cut in {}, and this is one of {}",
                    self.job_id,
                    human::count_of(self.shards.into(), "shard"),
                    shard.count
                ),
            )
            .hint(format!(
                "give --shards {} to continue it: a row must stay with its shard; or give another --state for a new job",
                self.shards
            )));
        }
        Ok(())
    }
}

impl ManifestFacts {
    /// What preparing found of the manifest at that place.
    pub fn of(location: &str, prepared: &Prepared) -> Self {
        let parts = prepared.parts.iter().map(|part| PartDigest {
            name: part.name.clone(),
            sha256: part.sha256.clone(),
        });
        Self {
            location: location.to_owned(),
            bucket: prepared.bucket.clone(),
            rows: prepared.rows,
            digest: prepared.digest.clone(),
            parts: parts.collect(),
        }
    }
}

/// `shard.json`: what one shard has found and is to find again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardFile {
    /// The version of reseal that prepared it.
    pub version: String,
    /// The job's id.
    pub job_id: String,
    /// Where the manifest was, and what told it from another.
    pub source: ManifestSource,
    /// Where its parts are.
    pub parts: Vec<PartSource>,
    /// Rows of the shard.
    pub rows: u64,
    /// What preparing found.
    pub prepared: Prepared,
    /// What the store has shown that it does, once it was asked.
    #[serde(default)]
    pub profile: Option<StoreProfile>,
}

impl ShardFile {
    /// The document of a shard whose manifest has just been prepared.
    pub fn new(
        spec: &JobSpec,
        source: ManifestSource,
        parts: Vec<PartSource>,
        prepared: Prepared,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            job_id: spec.job_id(&prepared.digest),
            source,
            parts,
            rows: prepared.own_rows(),
            prepared,
            profile: None,
        }
    }

    /// The document of a manifest that was prepared for a survey: nobody keeps it, and there is no job.
    pub fn of_survey(location: &str, parts: &[PartSource], prepared: &Prepared) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            job_id: String::new(),
            source: ManifestSource {
                location: location.to_owned(),
                version: None,
            },
            parts: parts.to_vec(),
            rows: prepared.own_rows(),
            prepared: prepared.clone(),
            profile: None,
        }
    }

    /// Which shard it is.
    pub fn shard(&self) -> Shard {
        self.prepared.shard
    }
}
