//! `reseal verify`: whether the target holds for every row of a manifest, or every version that a bucket lists, and whether keys may
//! be retired.

mod pages;

use std::sync::Arc;

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::evidence;
use super::reporting::{Begin, Reporting};
use super::source::patiently;
use super::survey::{self, Known, Survey, SurveyConfig};
use crate::bucket::{BucketFacts, Versioning};
use crate::chain::Line;
use crate::config::Location;
use crate::encryption::{CustomerKey, Target};
use crate::engine::Rows;
use crate::error::Error;
use crate::event::Event;
use crate::human;
use crate::limiter::Kind;
use crate::listing::{PAGE_ROWS_MAX, Scope};
use crate::manifest::Reading;
use crate::object::{Compared, Known as RowKnown, ManifestEntry, NULL_VERSION, ObjectHead};
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};
use crate::profile::StoreProfile;
use crate::progress::Progress;
use crate::report::{self, Told};
use crate::shutdown::{self, Shutdown};
use crate::task::{self, Context, Looked, Unsettled};
use crate::verification::{
    CHANGED_SINCE, CHECKSUM_MISMATCH, CheckedChain, Collector, Coverage, Held, SUPERSEDED, Seen,
    Uploads, Verification, Wish,
};

/// Where the report goes that nobody wanted elsewhere.
pub const REPORT_DEFAULT: &str = ".reseal/verify";

/// What is verified.
#[derive(Clone, Debug)]
pub enum Scrutiny {
    /// The rows of a manifest, and how that is read.
    Manifest(Location, Box<Reading>),
    /// What the bucket lists now.
    Bucket {
        /// The bucket.
        name: String,
        /// Keys that begin so; empty is all.
        prefix: String,
        /// Whether noncurrent versions are looked at too.
        all_versions: bool,
    },
    /// What a job has kept evidence of: its chain, and the objects where something is asked of them.
    Evidence {
        /// Where it is.
        at: Location,
        /// SHA-256 that its `evidence.json` must have, in hexadecimal.
        sha256: Option<String>,
    },
}

/// One `reseal verify`.
#[derive(Debug)]
pub struct VerifyConfig {
    /// The store and the bounds.
    pub survey: SurveyConfig,
    /// What is verified.
    pub scrutiny: Scrutiny,
    /// What is asked of the objects.
    pub wish: Wish,
    /// Keys that SSE-C objects may be under.
    pub source_keys: Vec<CustomerKey>,
    /// The share of the objects that is read back, from 0 to 1.
    pub read: f64,
    /// A row that names a version holds where that was superseded by one that does.
    pub accept_superseded: bool,
    /// Where the report goes: a folder or a prefix in S3.
    pub report: Location,
    /// Which rows it has.
    pub report_scope: report::Scope,
}

/// Looks at everything, and changes nothing.
///
/// # Errors
/// What kept it from looking at everything; asked to stop.
pub async fn verify(
    config: VerifyConfig,
    progress: Progress,
    mut shutdown: Shutdown,
) -> Result<Verification, Error> {
    let survey = Survey::new(&config.survey, progress).await?;
    let verifying = Verifying {
        config: &config,
        survey: &survey,
    };
    survey.during(verifying.to_the_end(&mut shutdown)).await
}

struct Verifying<'a> {
    config: &'a VerifyConfig,
    survey: &'a Survey,
}

/// What is to be looked at, opened.
struct Opened {
    bucket: String,
    rows: Rows,
    /// How many they are; 0 is not known.
    total: u64,
    with_versions: bool,
    /// What tells this verification's rows from another's.
    identity: String,
    coverage: Coverage,
    /// What is to be listed, and into what: the rows come from there.
    lists: Option<(Scope, pages::Sender)>,
    /// What was fetched of a manifest: it must be there as long as its rows are read.
    _listing: Option<survey::Listing>,
    /// The evidence whose chain was checked.
    evidence: Option<CheckedChain>,
}

/// What came of one row.
struct Row {
    held: Held,
    /// The versions that were seen for it: its own, and the current one where that was asked too.
    seen: Vec<(ObjectHead, Option<bool>)>,
    /// It could not be looked at, though it is there.
    is_unseen: bool,
    /// What came of reading it back; the inner `None` is a failure.
    read: Option<(Option<Compared>, u64)>,
}

impl Verifying<'_> {
    async fn to_the_end(&self, shutdown: &mut Shutdown) -> Result<Verification, Error> {
        let (config, survey) = (self.config, self.survey);
        let begun = Instant::now();
        let emit = |event: Event<'_>| survey.on(&event);
        let mut opened = self.open(shutdown).await?;
        if opened.evidence.is_some() && self.asks_nothing() {
            let collector = Collector::new(config.wish.clone(), false);
            let mut verified = collector.verification(opened.coverage, None, None);
            verified.evidence = opened.evidence;
            verified.elapsed_seconds = begun.elapsed().as_secs_f64();
            return Ok(verified);
        }
        let facts = match opened.bucket.as_str() {
            // A report without failed rows has no bucket.
            "" => BucketFacts::unknown(""),
            name => survey.bucket(name, shutdown).await?,
        };
        opened.coverage = covered(opened.coverage, &facts);
        let checked = opened.evidence.take();
        let mut wish = config.wish.clone();
        if let Some(target) = &mut wish.target {
            *target = survey.resolved(&opened.bucket, target).await?;
        }
        let keys = match &wish.target {
            Some(target) => survey::keys(&config.source_keys, target),
            None => config.source_keys.clone(),
        };
        let (profile, settings) = (StoreProfile::documented(), task::Settings::default());
        let known = Known {
            facts: &facts,
            profile: &profile,
            settings: &settings,
            keys: &keys,
        };
        let target = wish.target.clone().unwrap_or(Target::SseS3);
        let ctx = survey.context(known, target, &emit);
        let mut report = Reporting::begin(&Begin {
            to: &config.report,
            id: &report_id(&opened.identity, &config.wish),
            bucket: &opened.bucket,
            with_versions: opened.with_versions,
            scope: config.report_scope,
        })?;
        let mut collector = Collector::new(wish.clone(), config.read > 0.0);
        let look = async |entry: &ManifestEntry| self.row(&ctx, &wish, entry).await;
        let fold = |entry: &ManifestEntry, row: Row| {
            count(&mut collector, entry, &row);
            let outcome = outcome_of(&row.held);
            emit(Event::Settled {
                key: &entry.key,
                outcome: &outcome,
            });
            tell(&mut report, entry, &row.held)
        };
        let asked_to_stop = shutdown.clone();
        let listed = async {
            if let Some((mut scope, rows)) = opened.lists {
                // Where there never were versions, none is named: not every store knows their ids there.
                scope.with_versions &= facts.versioning != Some(Versioning::Never);
                pages::list(survey, &scope, asked_to_stop, rows).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            looked = survey.each(&ctx, opened.total, opened.rows, shutdown, look, fold) => looked?,
            () = listed => unreachable!("it waits for the looks"),
        }
        if let Scrutiny::Bucket { name, prefix, .. } = &config.scrutiny
            && !prefix.is_empty()
            && collector.rows() == 0
        {
            return Err(Error::usage(format!(
                "no key of {name} begins with {prefix:?}: nothing was looked at"
            )));
        }
        let uploads = match wish.retired.is_empty() {
            true => None,
            false => Some(self.uploads(&opened.bucket, shutdown).await?),
        };
        let default_key = facts.default_encryption.as_ref();
        let default_key = default_key.map(|default| default.kms_key.as_deref());
        let mut verified = collector.verification(opened.coverage, uploads, default_key);
        verified.evidence = checked;
        verified.report = Some(report.publish(&survey.s3, &survey.stall).await?);
        verified.requests = survey
            .requests()
            .into_iter()
            .map(|(operation, n)| (operation.name(), n))
            .collect();
        verified.elapsed_seconds = begun.elapsed().as_secs_f64();
        Ok(verified)
    }

    async fn open(&self, shutdown: &mut Shutdown) -> Result<Opened, Error> {
        match &self.config.scrutiny {
            Scrutiny::Manifest(location, reading) => {
                let listing = self.survey.open(location, reading, shutdown).await?;
                let prepared = &listing.prepared;
                let lists_all = prepared.schema.names_latest();
                let (mut gaps, notes) = (Vec::new(), Vec::new());
                if lists_all {
                    gaps.push(
                        "an inventory does not say whether it is of the whole bucket, nor what was written since (--bucket looks at everything)"
                            .to_owned(),
                    );
                } else {
                    gaps.push(
                        "the manifest is no inventory of all versions: what it does not list was not looked at (--bucket looks at everything)"
                            .to_owned(),
                    );
                }
                Ok(Opened {
                    bucket: prepared.bucket.clone(),
                    rows: self.survey.rows(&listing),
                    total: prepared.own_rows(),
                    with_versions: prepared.schema.names_versions(),
                    identity: prepared.digest.clone(),
                    coverage: Coverage {
                        source: "manifest",
                        bucket: prepared.bucket.clone(),
                        of: listing.source.clone(),
                        versions: if lists_all { "all" } else { "as-listed" },
                        gaps,
                        notes,
                    },
                    lists: None,
                    _listing: Some(listing),
                    evidence: None,
                })
            }
            Scrutiny::Evidence { at, sha256 } => {
                self.open_evidence(at, sha256.as_deref(), shutdown).await
            }
            Scrutiny::Bucket {
                name,
                prefix,
                all_versions,
            } => {
                let of = format!("s3://{name}/{prefix}");
                let mut gaps = Vec::new();
                if !prefix.is_empty() {
                    gaps.push(format!("only keys that begin with {prefix} were looked at"));
                }
                let (sender, rows) = mpsc::channel(pages::PAGES_MAX);
                let scope = Scope {
                    bucket: name.clone(),
                    prefix: prefix.clone(),
                    with_versions: *all_versions,
                    page_rows: PAGE_ROWS_MAX,
                };
                Ok(Opened {
                    bucket: name.clone(),
                    rows,
                    total: 0,
                    with_versions: *all_versions,
                    identity: format!("{of}\n{all_versions}"),
                    coverage: Coverage {
                        source: "listing",
                        bucket: name.clone(),
                        of,
                        versions: if *all_versions { "all" } else { "current" },
                        gaps,
                        notes: Vec::new(),
                    },
                    lists: Some((scope, sender)),
                    _listing: None,
                    evidence: None,
                })
            }
        }
    }

    /// Whether the objects need not be looked at.
    fn asks_nothing(&self) -> bool {
        self.config.wish.target.is_none() && self.config.wish.retired.is_empty()
    }

    /// Checks the chain of evidence; its rows are what the job has rewritten.
    async fn open_evidence(
        &self,
        at: &Location,
        sha256: Option<&str>,
        shutdown: &mut Shutdown,
    ) -> Result<Opened, Error> {
        let (s3, stall) = (&self.survey.s3, &self.survey.stall);
        let opened = evidence::Opened::checked(self.survey, at, sha256, shutdown).await?;
        let kept = opened.kept.clone();
        let index = &opened.index;
        let checked = CheckedChain {
            index: kept.index.clone(),
            sha256: kept.sha256.clone(),
            job_id: index.job_id.clone(),
            rewrites: index.rewrites,
            succeeded: index.succeeded,
        };
        let bucket = index.bucket.clone();
        let (total, rows) = match self.asks_nothing() {
            true => (0, mpsc::channel(1).1),
            false => {
                let total = index.rewrites;
                let opened = Arc::new(opened);
                let lines = evidence::lines(opened, s3.clone(), stall.clone(), entry_of_line);
                (total, lines)
            }
        };
        Ok(Opened {
            bucket: bucket.clone(),
            rows,
            total,
            with_versions: true,
            identity: kept.sha256,
            coverage: Coverage {
                source: "evidence",
                bucket,
                of: kept.index,
                versions: "as-listed",
                gaps: vec!["evidence has what the job rewrote and nothing else".to_owned()],
                notes: vec![
                    "the versions that the rewrites made were looked at, and not whether they are the current ones still: an undo, or \
                     somebody's upload, puts another on top"
                        .to_owned(),
                ],
            },
            lists: None,
            _listing: None,
            evidence: Some(checked),
        })
    }

    /// Looks at what a row means, and perhaps reads it.
    async fn row(
        &self,
        ctx: &Context<'_>,
        wish: &Wish,
        entry: &ManifestEntry,
    ) -> Result<Row, Unsettled> {
        let mut row = Row {
            held: Held::Nothing(SkipReason::DeleteMarker.message()),
            seen: Vec::new(),
            is_unseen: false,
            read: None,
        };
        if entry.known.is_delete_marker {
            return Ok(row);
        }
        let version_id = entry.version_id.as_deref();
        let looked = match version_id {
            // Not every store knows this id where there never were versions.
            Some(NULL_VERSION) if entry.known.is_latest == Some(true) => {
                let current = self.look(ctx, entry, None, &mut row).await?;
                let is_it = match &current {
                    Looked::Found { head, .. } => head
                        .version_id
                        .as_deref()
                        .is_none_or(|id| id == NULL_VERSION),
                    Looked::DeleteMarker => false,
                    Looked::Failed(failure) => failure.http_status != 404,
                };
                match is_it {
                    true => current,
                    false => self.look(ctx, entry, version_id, &mut row).await?,
                }
            }
            _ => self.look(ctx, entry, version_id, &mut row).await?,
        };
        match looked {
            Looked::DeleteMarker => {}
            Looked::Failed(failure) => {
                let is_gone = failure.http_status == 404;
                row.is_unseen = !is_gone;
                row.held = match &self.config.scrutiny {
                    Scrutiny::Bucket { .. } if is_gone => {
                        Held::Nothing("Nothing to look at: gone since it was listed")
                    }
                    _ => Held::Fails(failure),
                };
                if is_gone && version_id.is_some() {
                    self.by_the_current(ctx, wish, entry, &mut row).await?;
                }
            }
            Looked::Found { head, is_current } => {
                let is_current = is_current.then_some(true).or(entry.known.is_latest);
                let held = wish.hold(&head.encryption);
                let held = held.and_then(|told| self.unchanged(entry, &head, told));
                row.seen.push((*head, is_current));
                let is_spoilt = matches!(row.held, Held::Fails(_));
                match held {
                    Ok(told) if !is_spoilt => row.held = Held::Holds(with_read(told, &row.read)),
                    Ok(_) => {}
                    Err(failure) => {
                        if !is_spoilt {
                            row.held = Held::Fails(failure);
                        }
                        if version_id.is_some() && is_current != Some(false) && !is_spoilt {
                            self.by_the_current(ctx, wish, entry, &mut row).await?;
                        }
                    }
                }
            }
        }
        Ok(row)
    }

    /// Holds an object against the ETag that a rewrite has left it with, where evidence tells it.
    fn unchanged(
        &self,
        entry: &ManifestEntry,
        head: &ObjectHead,
        told: String,
    ) -> Result<String, Failure> {
        let left = entry.known.etag.as_deref();
        match (&self.config.scrutiny, left) {
            (Scrutiny::Evidence { .. }, Some(left)) if left != head.etag => Err(Failure {
                code: CHANGED_SINCE.to_owned(),
                http_status: 200,
                message: format!("its ETag is {}, and the rewrite has left {left}", head.etag),
            }),
            _ => Ok(told),
        }
    }

    /// Looks at a version, and reads it where it is one of those that are read.
    async fn look(
        &self,
        ctx: &Context<'_>,
        entry: &ManifestEntry,
        version_id: Option<&str>,
        row: &mut Row,
    ) -> Result<Looked, Unsettled> {
        let share = self.config.read;
        let reads = share > 0.0 && (share >= 1.0 || ctx.rng.borrow_mut().random_bool(share));
        if !reads {
            return task::look_at_row(ctx, entry, version_id).await;
        }
        let read = task::read_row(ctx, entry, version_id).await?;
        if let Some(compared) = read.compared {
            row.held = match &compared {
                Err(failure) => Held::Fails(failure.clone()),
                Ok(Compared::Differs { .. }) => Held::Fails(mismatch(&compared)),
                Ok(_) => Held::Nothing(SkipReason::DeleteMarker.message()),
            };
            row.read = Some((compared.ok(), read.bytes));
        }
        Ok(read.looked)
    }

    /// A row whose version does not hold: perhaps it was superseded by one that does.
    async fn by_the_current(
        &self,
        ctx: &Context<'_>,
        wish: &Wish,
        entry: &ManifestEntry,
        row: &mut Row,
    ) -> Result<(), Unsettled> {
        if !matches!(self.config.scrutiny, Scrutiny::Manifest(..)) || wish.target.is_none() {
            return Ok(());
        }
        let Looked::Found { head, .. } = task::look_at_row(ctx, entry, None).await? else {
            return Ok(());
        };
        let is_another = head.version_id.as_deref() != entry.version_id.as_deref();
        for (_, is_current) in &mut row.seen {
            *is_current = Some(!is_another);
        }
        if !is_another || wish.hold(&head.encryption).is_err() {
            return Ok(());
        }
        let superseded = format!(
            "the version was superseded by {}, which holds",
            head.version_id.as_deref().unwrap_or("another")
        );
        row.seen.push((*head, Some(true)));
        row.held = match &row.held {
            _ if self.config.accept_superseded => Held::Holds(format!("Holds: {superseded}")),
            Held::Fails(failure) => Held::Fails(Failure {
                code: SUPERSEDED.to_owned(),
                message: format!("{superseded}; it is itself: {}", failure.message),
                ..failure.clone()
            }),
            held => held.clone(),
        };
        Ok(())
    }

    /// The uploads in progress, all of them.
    async fn uploads(&self, bucket: &str, shutdown: &mut Shutdown) -> Result<Uploads, Error> {
        let survey = self.survey;
        let prefix = match &self.config.scrutiny {
            Scrutiny::Bucket { prefix, .. } => prefix.as_str(),
            Scrutiny::Manifest(..) | Scrutiny::Evidence { .. } => "",
        };
        let mut uploads = Uploads {
            in_progress: Some(0),
            ..Uploads::default()
        };
        let mut after = None;
        loop {
            let page = patiently(&survey.stall, async || {
                survey.limiter.turn(Kind::Read).await;
                survey.s3.list_uploads(bucket, prefix, after.as_ref()).await
            });
            let page = tokio::select! {
                page = page => page,
                _ = shutdown::asked(shutdown) => return Err(survey::interrupted()),
            };
            let page = match page {
                Ok(page) => page,
                // It may not be asked, or the store can't say.
                Err(error) if matches!(error.http_status, 400..=499 | 501) => {
                    return Ok(Uploads::default());
                }
                Err(error) => return Err(error.into()),
            };
            for key in page.keys {
                uploads.add(key);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(uploads),
            }
        }
    }
}

/// The same verification has the same report.
fn report_id(identity: &str, wish: &Wish) -> String {
    let mut digest = Sha256::new();
    let target = wish.target.as_ref().map(|target| {
        let kms = target.kms();
        (
            target.name(),
            kms.map(|kms| (kms.key_id.clone(), kms.bucket_key)),
        )
    });
    digest.update(format!(
        "reseal verify\n{identity}\n{target:?}\n{:?}",
        wish.retired
    ));
    human::hex(&digest.finalize()[..survey::ID_BYTES])
}

/// What the bucket's facts say of the coverage.
fn covered(mut coverage: Coverage, facts: &BucketFacts) -> Coverage {
    let never = facts.versioning == Some(Versioning::Never);
    match coverage.versions {
        "current" if never => coverage.versions = "all",
        "current" => coverage
            .gaps
            .push("noncurrent versions were not looked at".to_owned()),
        _ => {}
    }
    let default = facts.default_encryption.as_ref();
    if let Some(key) = default.and_then(|default| default.kms_key.as_deref())
        && (key.starts_with("alias/") || key.contains(":alias/"))
    {
        coverage.gaps.push(format!(
            "the bucket's default encryption names {key}, and which key that stands for is not known"
        ));
    }
    coverage
}

fn mismatch(compared: &Result<Compared, Failure>) -> Failure {
    let message = match compared {
        Ok(Compared::Differs {
            algorithm,
            stored,
            read,
        }) => format!("the store keeps {algorithm} {stored} of it, and what was read has {read}"),
        _ => String::new(),
    };
    Failure {
        code: CHECKSUM_MISMATCH.to_owned(),
        http_status: 200,
        message,
    }
}

fn with_read(told: String, read: &Option<(Option<Compared>, u64)>) -> String {
    match read {
        Some((Some(Compared::Same(algorithm)), _)) => {
            format!("{told}; read back, {algorithm} is the same")
        }
        Some((Some(Compared::NothingToCompare), _)) => {
            format!("{told}; read back, and there is no checksum to compare with")
        }
        Some((Some(Compared::Archived), _)) => format!("{told}; not read, it is archived"),
        _ => told,
    }
}

fn count(collector: &mut Collector, entry: &ManifestEntry, row: &Row) {
    for (head, is_current) in &row.seen {
        collector.see(Seen {
            key: &entry.key,
            head,
            is_current: *is_current,
        });
    }
    if row.is_unseen {
        collector.miss();
    }
    if let Some((compared, bytes)) = &row.read {
        collector.read(compared.as_ref(), *bytes);
    }
    collector.end(&row.held);
}

/// What progress shows of a row.
fn outcome_of(held: &Held) -> TaskOutcome {
    match held {
        Held::Holds(_) => TaskOutcome::Succeeded {
            method: Method::Copy,
            bytes: 0,
        },
        Held::Nothing(_) => TaskOutcome::Skipped(SkipReason::DeleteMarker),
        Held::Fails(failure) => TaskOutcome::Failed(failure.clone()),
    }
}

fn tell(report: &mut Reporting, entry: &ManifestEntry, held: &Held) -> Result<(), Error> {
    let told = match held {
        Held::Holds(message) => Told::Succeeded(message),
        Held::Nothing(message) => Told::Succeeded(message),
        Held::Fails(failure) => Told::Failed(failure),
    };
    report.tell(&entry.key, entry.version_id.as_deref(), told)
}

/// What a rewrite has left.
fn entry_of_line(row: u64, line: Line) -> ManifestEntry {
    let after = line.rewritten.after;
    ManifestEntry {
        row,
        key: line.rewritten.key,
        version_id: after.version_id,
        known: RowKnown {
            etag: after.etag,
            ..RowKnown::default()
        },
    }
}
