//! `reseal plan`: what a run would come to. Every row is decided as the run would decide it, and none is changed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::index;
use rand::{RngExt as _, SeedableRng as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::preflight::{self, Rewrites};
use super::survey::{Known, Listing, Survey, SurveyConfig, keys};
use super::trust::{SCRATCH, default_canary};
use super::{bucket, left_out};
use crate::bucket::BucketFacts;
use crate::config::{Location, Probe, Trust};
use crate::encryption::{CustomerKey, Target};
use crate::error::Error;
use crate::event::{Event, Level, Operation};
use crate::forecast::{
    About, Course, Finding, Forecast, Foreseen, Limits, Prices, Rewritten, Terms, Told,
};
use crate::manifest::Reading;
use crate::object::ManifestEntry;
use crate::outcome::{Method, SkipReason, TaskOutcome};
use crate::plan::{MethodChoice, Requests};
use crate::probe::{self, Wish};
use crate::profile::StoreProfile;
use crate::progress::Progress;
use crate::shutdown::{self, Shutdown};
use crate::task::{self, Decided, Decision, foretell, foretell_questions};

/// Rows that a sample has at most: so many numbers are kept.
pub const SAMPLE_MAX: u64 = 1_000_000;

/// One `reseal plan`.
#[derive(Debug)]
pub struct PlanConfig {
    /// The store and the bounds, which are taken to be those of the run too.
    pub survey: SurveyConfig,
    /// Where the list of objects is.
    pub manifest: Location,
    /// How it is read, and which of its rows are meant.
    pub reading: Reading,
    /// What the objects shall be under.
    pub target: Target,
    /// Keys that SSE-C objects are under now.
    pub source_keys: Vec<CustomerKey>,
    /// How the run would rewrite.
    pub rewriting: task::Settings,
    /// How far it would trust the store. Scratch objects are made where this says so, and for nothing else.
    pub trust: Trust,
    /// Objects that are looked at, at most; `None` is all.
    pub sample: Option<u64>,
    /// What things cost; `None` is what AWS lists, and nothing elsewhere.
    pub prices: Option<Prices>,
    /// What was typed, for whoever signs it off.
    pub command: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Planned {
    /// What is told.
    pub told: Told,
    /// Why the run would not begin, where it would not.
    pub stop: Option<String>,
}

/// Decides every row, and changes none.
///
/// # Errors
/// What would keep the run from beginning, such as a manifest that is not sound; asked to stop.
pub async fn plan(
    config: PlanConfig,
    progress: Progress,
    mut shutdown: Shutdown,
) -> Result<Planned, Error> {
    let survey = Survey::new(&config.survey, progress).await?;
    let planning = Planning {
        config: &config,
        survey: &survey,
        looks: Cell::default(),
    };
    survey.during(planning.to_the_end(&mut shutdown)).await
}

struct Planning<'a> {
    config: &'a PlanConfig,
    survey: &'a Survey,
    /// How many looks were answered, and how long they took together.
    looks: Cell<(u32, Duration)>,
}

/// What is known before the first row.
struct Basis {
    facts: BucketFacts,
    profile: StoreProfile,
    target: Target,
    findings: Vec<Finding>,
}

impl Planning<'_> {
    async fn to_the_end(&self, shutdown: &mut Shutdown) -> Result<Planned, Error> {
        let (config, survey) = (self.config, self.survey);
        let listing = survey
            .open(&config.manifest, &config.reading, shutdown)
            .await?;
        let rows = listing.prepared.own_rows();
        let basis = self.basis(&listing.prepared.bucket, rows, shutdown).await?;
        let shipped = survey.s3.is_aws().then(Prices::shipped);
        let prices = config.prices.clone().or(shipped);
        let terms = Terms {
            target: &basis.target,
            versioning: basis.facts.versioning,
            deletes_superseded: config.rewriting.delete_superseded,
            prices: prices.as_ref(),
            now: OffsetDateTime::now_utc().unix_timestamp(),
        };
        let keys = keys(&config.source_keys, &basis.target);
        let known = Known {
            facts: &basis.facts,
            profile: &basis.profile,
            settings: &config.rewriting,
            keys: &keys,
        };
        let emit = |event: Event<'_>| self.on(&event);
        let ctx = survey.context(known, basis.target.clone(), &emit);
        let sample = config.sample.map(|size| chosen(rows, size));
        // The few objects that are read back first are no sample of anything.
        let canary = match sample {
            Some(_) => 0,
            None => config
                .trust
                .canary
                .unwrap_or_else(|| default_canary(&survey.s3, &basis.profile, Probe::Auto)),
        };
        let mut folding = Folding {
            forecast: Forecast::default(),
            ctx: &ctx,
            canary_left: canary,
        };
        let decide = async |entry: &ManifestEntry| {
            let is_chosen = sample.as_ref().is_none_or(|rows| rows.contains(&entry.row));
            if !is_chosen && task::takes_a_look(&ctx, entry) {
                return Ok(None);
            }
            task::decide(&ctx, entry).await.map(Some)
        };
        let entries = survey.rows(&listing);
        survey
            .each(&ctx, rows, entries, shutdown, decide, |entry, decision| {
                folding.add(&entry.key, decision.as_ref(), &terms);
                // The row is done with; what would become of it is told at the end.
                emit(Event::Settled {
                    key: &entry.key,
                    outcome: &TaskOutcome::Skipped(SkipReason::AlreadyEncrypted),
                });
                Ok(())
            })
            .await?;
        let limits = Limits {
            budgets: config.survey.budgets,
            concurrency: config.survey.concurrency,
            latency: self.latency(),
            is_aws: survey.s3.is_aws(),
        };
        let stop = basis
            .findings
            .iter()
            .find(|finding| finding.level == Level::Stop.name())
            .map(|finding| finding.message.clone());
        let about = self.about(&basis, &listing);
        let told = folding
            .forecast
            .told(about, basis.findings, &limits, prices.as_ref());
        Ok(Planned { told, stop })
    }

    fn on(&self, event: &Event<'_>) {
        if let Event::Request {
            operation: Operation::HeadObject,
            elapsed,
            ..
        } = event
        {
            let (count, time) = self.looks.get();
            self.looks.set((count.saturating_add(1), time + *elapsed));
        }
        self.survey.on(event);
    }

    fn latency(&self) -> Option<Duration> {
        let (count, time) = self.looks.get();
        time.checked_div(count)
    }

    fn about(&self, basis: &Basis, listing: &Listing) -> About {
        let key = basis.target.kms();
        let planned_at = OffsetDateTime::now_utc()
            .truncate_to_second()
            .format(&Rfc3339);
        About {
            manifest: listing.source.clone(),
            bucket: basis.facts.name.clone(),
            endpoint_url: self.survey.s3.endpoint_url().map(str::to_owned),
            target: basis.target.name().to_owned(),
            kms_key: key.and_then(|kms| kms.resolved.clone().or_else(|| kms.key_id.clone())),
            planned_at: planned_at.expect("UTC has a spelling"),
            command: self.config.command.clone(),
            left_out: left_out(&listing.prepared),
        }
    }

    /// What is true of the bucket and the store, and what is to be said of it.
    async fn basis(
        &self,
        bucket: &str,
        rows: u64,
        shutdown: &mut Shutdown,
    ) -> Result<Basis, Error> {
        let config = self.config;
        let mut found = Vec::new();
        if bucket.is_empty() {
            // A report without failed rows names none.
            return Ok(Basis {
                facts: BucketFacts::unknown(""),
                profile: StoreProfile::documented(),
                target: config.target.clone(),
                findings: found,
            });
        }
        let facts = self.survey.bucket(bucket, shutdown).await?;
        let (profile, told) = tokio::select! {
            profile = self.profile(&facts, &mut found) => profile?,
            _ = shutdown::asked(shutdown) => return Err(super::survey::interrupted()),
        };
        let target = self.resolved(&facts, &profile, told, &mut found).await?;
        let rules = &config.rewriting.rules;
        let rewrites = Rewrites {
            rows,
            method: rules.method,
            delete_superseded: config.rewriting.delete_superseded,
            allowed: &rules.allowed,
        };
        let of_the_bucket = preflight::findings(&facts, &target, &rewrites);
        let of_the_bucket = of_the_bucket
            .into_iter()
            .map(|finding| told_as(finding.code, finding.level, finding.message));
        let mut findings: Vec<_> = of_the_bucket.collect();
        findings.append(&mut found);
        Ok(Basis {
            facts,
            profile,
            target,
            findings,
        })
    }

    /// What the store does: as it shows on scratch objects where that was asked for, else as AWS documents it.
    async fn profile(
        &self,
        facts: &BucketFacts,
        found: &mut Vec<Finding>,
    ) -> Result<(StoreProfile, Option<String>), Error> {
        let (config, s3) = (self.config, &self.survey.s3);
        let method = config.rewriting.rules.method;
        if config.trust.probe == Probe::Off {
            let updates = s3.is_aws() && method != MethodChoice::Copy;
            found.push(told_as(
                "store-not-probed",
                Level::Note,
                match updates {
                    true => "taken for AWS as it is documented: a run first tries the update in place on a scratch object \
                             (--probe auto does so here too)",
                    false => "the store is taken to copy as AWS documents it: a run first tries on scratch objects whether it \
                              does (--probe auto does so here too)",
                },
            ));
            let profile = StoreProfile {
                updates_encryption: updates,
                ..StoreProfile::documented()
            };
            return Ok((profile, None));
        }
        let number: u64 = SmallRng::from_rng(&mut rand::rng()).random();
        let prefix = format!("{SCRATCH}/plan/{number:016x}/");
        let wish = Wish {
            bucket: facts,
            prefix: &prefix,
            shard_prefix: &prefix,
            target: &config.target,
            source_keys: &config.source_keys,
            wants_update: method != MethodChoice::Copy,
            wants_copies: config.trust.probe == Probe::Always || !s3.is_aws(),
            wants_parts: false,
        };
        let probed = probe::probe(s3, &self.survey.limiter, &wish).await?;
        let notes = probed.notes.iter();
        found.extend(notes.map(|note| told_as("probe", Level::Warning, note.clone())));
        match probe::verdict(&probed.profile, facts, config.trust.accept_race) {
            Ok(lines) => {
                let lines = lines.into_iter();
                found.extend(lines.map(|line| told_as("store", Level::Warning, line)));
            }
            Err(reason) => found.push(told_as("store", Level::Stop, reason)),
        }
        Ok((probed.profile, probed.key_arn))
    }

    /// The target with the key that its id or alias stands for, where it matters and the store tells.
    async fn resolved(
        &self,
        facts: &BucketFacts,
        profile: &StoreProfile,
        told: Option<String>,
        found: &mut Vec<Finding>,
    ) -> Result<Target, Error> {
        let survey = self.survey;
        let mut target = self.config.target.clone();
        let (Target::SseKms(kms) | Target::DsseKms(kms)) = &mut target else {
            return Ok(target);
        };
        if kms.full_arn().is_some() || !(profile.updates_encryption || kms.needs_resolving()) {
            return Ok(target);
        }
        let given = &self.config.target;
        kms.resolved = match told {
            Some(arn) => Some(arn),
            None => bucket::resolve_key(&survey.s3, &survey.stall, &facts.name, given).await?,
        };
        if kms.resolved.is_none() {
            found.push(told_as(
                "key-not-told",
                Level::Warning,
                "the store does not tell which key the target's alias stands for: objects that are under it already count as to be \
                 rewritten; --kms-key-id with the key's ARN tells them apart",
            ));
        }
        Ok(target)
    }
}

fn told_as(code: &str, level: Level, message: impl Into<String>) -> Finding {
    Finding {
        code: code.to_owned(),
        level: level.name(),
        message: message.into(),
    }
}

/// The numbers of the rows that are looked at.
fn chosen(rows: u64, size: u64) -> BTreeSet<u64> {
    let size = size.min(SAMPLE_MAX).min(rows);
    let (Ok(length), Ok(amount)) = (usize::try_from(rows), usize::try_from(size)) else {
        return (0..size).collect();
    };
    let rng = &mut SmallRng::from_rng(&mut rand::rng());
    index::sample(rng, length, amount)
        .into_iter()
        .map(|row| row as u64)
        .collect()
}

/// Adds decisions to the forecast, in the order of the rows.
struct Folding<'c, 'a> {
    forecast: Forecast,
    ctx: &'c task::Context<'a>,
    /// Objects that would still be read back before the rest is begun.
    canary_left: u64,
}

impl Folding<'_, '_> {
    fn add(&mut self, key: &str, decision: Option<&Decision>, terms: &Terms<'_>) {
        let Some(decision) = decision else {
            return self.forecast.pass_over();
        };
        let is_canary = self.canary_left > 0;
        let versions = foretell(self.ctx, decision, is_canary);
        self.canary_left = self
            .canary_left
            .saturating_sub(u64::from(!versions.is_empty()));
        let rewritten: Vec<_> = versions
            .iter()
            .map(|version| Rewritten {
                found: version.head,
                moves: version
                    .method
                    .is_some_and(|method| method != Method::Update),
                requests: version.requests,
            })
            .collect();
        let course = match &decision.decided {
            Decided::Skip(reason) => Course::Skip(*reason),
            Decided::Fail(failure) => Course::Fail(failure),
            Decided::Rewrite(_) => Course::Rewrite(
                versions
                    .first()
                    .and_then(|version| version.method)
                    .unwrap_or(Method::Copy),
            ),
            Decided::Restack(_) | Decided::WithItsKey => Course::Rewrite(Method::Restack),
        };
        let told = Requests::default();
        self.forecast.add(
            &Foreseen {
                key,
                found: decision.head.as_ref(),
                course,
                asked: &foretell_questions(decision, is_canary && !versions.is_empty()),
                rewritten: &rewritten,
                was_looked_at: decision.asked != told,
            },
            terms,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_so_many_rows_and_none_twice() {
        for (rows, size, expected) in [(100, 10, 10), (5, 10, 5), (0, 10, 0), (10, 10, 10)] {
            let chosen = chosen(rows, size);
            assert_eq!(chosen.len(), expected);
            assert!(chosen.iter().all(|row| *row < rows));
        }
        assert_ne!(chosen(1_000_000, 10), chosen(1_000_000, 10));
    }
}
