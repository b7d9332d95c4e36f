//! How far the store is trusted: what it has shown on scratch keys, and what that means for this job.
//!
//! The profile is kept in the job document, so that a job is carried through by one and the same. A resolved key is kept in the
//! journal.

use std::sync::Arc;

use super::spec::ShardFile;
use crate::bucket::BucketFacts;
use crate::config::{JobConfig, Probe};
use crate::engine::{End, EngineError};
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::{Leader, ShardState};
use crate::limiter::Limiter;
use crate::outcome::Tally;
use crate::plan::MethodChoice;
use crate::probe::{self, Wish};
use crate::profile::StoreProfile;
use crate::s3::S3;

/// Where scratch objects are put, and removed again, in the bucket of the job.
pub(super) const SCRATCH: &str = ".reseal-scratch";
/// Objects that are read back before the rest is begun, on a store other than AWS that nobody has said anything about.
const CANARY_DEFAULT: u64 = 10;

/// What is known of the store.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// What it does.
    pub profile: StoreProfile,
    /// What it calls the target's KMS key, where it was asked just now.
    pub key_arn: Option<String>,
    /// Objects that are read back before the rest is begun.
    pub canary: u64,
}

/// What there is to be said of the store, before its first object is touched.
pub struct Question<'a> {
    /// The store.
    pub s3: &'a S3,
    /// The budgets.
    pub limiter: &'a Limiter,
    /// What the operator wants.
    pub config: &'a JobConfig,
    /// Where the profile is kept.
    pub state: &'a ShardState,
    /// The job.
    pub job: &'a ShardFile,
    /// The bucket.
    pub facts: &'a BucketFacts,
    /// The number that this runner took the state over with.
    pub runner: u64,
    /// Whether it still has it.
    pub leader: Leader,
    /// Who is told.
    pub emit: &'a dyn Fn(Event<'_>),
}

impl Question<'_> {
    /// Takes the profile from the state, or probes the store. The inner error is why no object may be touched.
    ///
    /// # Errors
    /// The state is another runner's, or does not answer.
    pub async fn answer(&self) -> Result<Result<Trusted, End>, EngineError> {
        let (profile, key_arn) = match &self.job.profile {
            Some(profile) if self.config.trust.probe != Probe::Always => (profile.clone(), None),
            _ => match self.probe().await? {
                Ok(found) => found,
                Err(error) => return Ok(Err(End::Stopped(error))),
            },
        };
        Ok(self.judge(profile, key_arn))
    }

    fn judge(&self, profile: StoreProfile, key_arn: Option<String>) -> Result<Trusted, End> {
        let config = self.config;
        let verdict = probe::verdict(&profile, self.facts, config.trust.accept_race);
        for line in verdict.map_err(|reason| stopped(reason, None))? {
            self.warn(&line);
        }
        if config.rewriting.rules.method == MethodChoice::Update && !profile.updates_encryption {
            return Err(stopped(
                "--method update: the store has not shown that it updates an object's encryption in place".to_owned(),
                Some("--method auto copies what it can't update"),
            ));
        }
        let default = default_canary(self.s3, &profile, config.trust.probe);
        Ok(Trusted {
            canary: config.trust.canary.unwrap_or(default),
            profile,
            key_arn,
        })
    }

    /// Probes the store, and keeps what that found. Whoever takes the state over removes what it finds of scratch objects, so that
    /// the tries of a runner that was replaced meanwhile say nothing about the store: it hears that first, whatever came of them.
    async fn probe(&self) -> Result<Result<(StoreProfile, Option<String>), Error>, EngineError> {
        let config = self.config;
        let when = config.trust.probe;
        if when == Probe::Off {
            return Ok(Ok((StoreProfile::documented(), None)));
        }
        // Shards may try it at once, and so may a runner that does not know yet that it was replaced: each has scratch objects of
        // its own.
        let shard = self.job.shard().index;
        let shard_prefix = format!("{SCRATCH}/{}/{shard}/", self.job.job_id);
        let prefix = format!("{shard_prefix}{:016x}/", self.runner);
        let rules = &config.rewriting.rules;
        let wish = Wish {
            bucket: self.facts,
            prefix: &prefix,
            shard_prefix: &shard_prefix,
            target: &config.target,
            source_keys: &config.source_keys,
            wants_update: rules.method != MethodChoice::Copy,
            wants_copies: when == Probe::Always || !self.s3.is_aws(),
            wants_parts: false,
        };
        self.leader.confirm().await.map_err(EngineError::State)?;
        let probed = probe::probe(self.s3, self.limiter, &wish).await;
        self.leader.prove().await.map_err(EngineError::State)?;
        let findings = match probed {
            Ok(findings) => findings,
            Err(error) => return Ok(Err(error.into())),
        };
        for note in &findings.notes {
            self.warn(note);
        }
        let job = ShardFile {
            profile: Some(findings.profile.clone()),
            ..self.job.clone()
        };
        let kept = self.state.write(&job).await;
        kept.map_err(|error| EngineError::State(Arc::new(error)))?;
        Ok(Ok((findings.profile, findings.key_arn)))
    }

    fn warn(&self, message: &str) {
        (self.emit)(Event::Warning { message });
    }
}

/// Objects that are read back before the rest is begun, where the operator has not said.
pub(super) fn default_canary(s3: &S3, profile: &StoreProfile, probe: Probe) -> u64 {
    // On AWS copies are what is documented. Another store proves itself, also where nothing could be tried on scratch objects.
    let is_trusted = !profile.probed && s3.is_aws();
    if is_trusted || probe == Probe::Off {
        0
    } else {
        CANARY_DEFAULT
    }
}

/// Objects of earlier runs that speak for the store. Once one has come back wrong, none does.
pub(super) fn proven(before: &Tally) -> u64 {
    match before.came_back_wrong() {
        0 => before.succeeded_total(),
        _ => 0,
    }
}

fn stopped(reason: String, hint: Option<&str>) -> End {
    let error = Error::new(Exit::JobFailed, reason);
    End::Stopped(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}
