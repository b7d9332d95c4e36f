//! `reseal verify`: whether the target holds for every row of a manifest, or every version that a bucket lists, and whether keys may
//! be retired.

use std::path::PathBuf;

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::home::scratch_in;
use super::source::patiently;
use super::survey::{self, Known, Survey, SurveyConfig};
use crate::bucket::{BucketFacts, Versioning};
use crate::config::Location;
use crate::encryption::{CustomerKey, Target};
use crate::engine::Rows;
use crate::error::Error;
use crate::event::{Event, Operation};
use crate::exit::Exit;
use crate::limiter::Kind;
use crate::manifest::Reading;
use crate::object::{
    Compared, Known as RowKnown, ListedObject, ManifestEntry, NULL_VERSION, ObjectHead,
};
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};
use crate::profile::StoreProfile;
use crate::progress::Progress;
use crate::report::{Destination, Report, ReportError, ReportWriter, Scope, Told};
use crate::s3::{ListPage, S3};
use crate::s3_error::S3Error;
use crate::shutdown::{self, Shutdown};
use crate::stall::Stall;
use crate::task::{self, Context, Looked, Unsettled};
use crate::verification::{
    CHECKSUM_MISMATCH, Collector, Coverage, Held, SUPERSEDED, Seen, Uploads, Verification, Wish,
};

/// Where the report goes that nobody wanted elsewhere.
pub const REPORT_DEFAULT: &str = ".reseal/verify";
/// Rows of a page of a listing. Source: S3 API Reference, ListObjectVersions: up to 1,000.
const PAGE_ROWS: u16 = 1_000;
/// Pages that wait for the looks.
const PAGES_MAX: usize = 16;
/// Bytes of the digest that make a report's id.
const ID_BYTES: usize = 16;

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
    pub report_scope: Scope,
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
    /// What was fetched of a manifest: it must be there as long as its rows are read.
    _listing: Option<survey::Listing>,
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
        let facts = match opened.bucket.as_str() {
            // A report without failed rows has no bucket.
            "" => BucketFacts::unknown(""),
            name => survey.bucket(name, shutdown).await?,
        };
        opened.coverage = covered(opened.coverage, &facts);
        if let Scrutiny::Bucket {
            name,
            prefix,
            all_versions,
        } = &config.scrutiny
        {
            // Where there never were versions, none is named: not every store knows their ids there.
            let all = *all_versions && facts.versioning != Some(Versioning::Never);
            opened.rows = list(survey, name.clone(), prefix.clone(), all);
        }
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
        let mut report = self.report(&opened)?;
        let mut collector = Collector::new(wish.clone(), config.read > 0.0);
        let look = async |entry: &ManifestEntry| self.row(&ctx, &wish, entry).await;
        let fold = |entry: &ManifestEntry, row: Row| {
            count(&mut collector, entry, &row);
            let outcome = outcome_of(&row.held);
            emit(Event::Settled {
                key: &entry.key,
                outcome: &outcome,
            });
            tell(&mut report.writer, entry, &row.held).map_err(unwritable)
        };
        survey
            .each(&ctx, opened.total, opened.rows, shutdown, look, fold)
            .await?;
        let uploads = match wish.retired.is_empty() {
            true => None,
            false => Some(self.uploads(&opened.bucket, shutdown).await?),
        };
        let default_key = facts.default_encryption.as_ref();
        let default_key = default_key.map(|default| default.kms_key.as_deref());
        let mut verified = collector.verification(opened.coverage, uploads, default_key);
        verified.report = Some(self.publish(report).await?);
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
                let (mut gaps, mut notes) = (Vec::new(), Vec::new());
                if lists_all {
                    notes.push(
                        "an inventory lists what was there when it was made: what was written since was not looked at".to_owned(),
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
                    _listing: Some(listing),
                })
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
                let (_, rows) = mpsc::channel(1);
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
                    _listing: None,
                })
            }
        }
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
        if matches!(self.config.scrutiny, Scrutiny::Bucket { .. }) || wish.target.is_none() {
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
            Scrutiny::Manifest(..) => "",
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

    fn report(&self, opened: &Opened) -> Result<Reporting, Error> {
        let config = self.config;
        let (folder, destination, scratch) = match &config.report {
            Location::Path(path) => (path.clone(), Destination::Directory, None),
            Location::S3 { bucket, key } => {
                let prefix = match key.trim_end_matches('/') {
                    "" => String::new(),
                    prefix => format!("{prefix}/"),
                };
                let scratch = scratch_in(&std::env::temp_dir())?;
                let destination = Destination::S3 {
                    bucket: bucket.clone(),
                    prefix,
                };
                (scratch.path().to_owned(), destination, Some(scratch))
            }
            Location::Stdin => {
                return Err(Error::usage("--report is a folder or s3://bucket/prefix"));
            }
        };
        let id = report_id(&opened.identity, &config.wish);
        let writer = ReportWriter::create(
            &folder,
            &id,
            &opened.bucket,
            opened.with_versions,
            config.report_scope,
            destination.clone(),
            &format!("verify-{}", std::process::id()),
        );
        Ok(Reporting {
            writer: writer.map_err(unwritable)?,
            destination,
            _scratch: scratch,
        })
    }

    /// Puts the report in its place; tells where.
    async fn publish(&self, reporting: Reporting) -> Result<String, Error> {
        let created = OffsetDateTime::now_utc();
        let created = created.replace_nanosecond(0).unwrap_or(created);
        let Report {
            manifest_path,
            files,
            ..
        } = reporting.writer.finish(created).map_err(unwritable)?;
        let Destination::S3 { bucket, prefix } = &reporting.destination else {
            return Ok(manifest_path.display().to_string());
        };
        let mut last = String::new();
        for file in &files {
            let key = format!("{prefix}{}", file.name);
            let upload = || self.survey.s3.upload(bucket, &key, &file.path);
            patiently(&self.survey.stall, upload)
                .await
                .map_err(|error| {
                    Error::new(
                        Exit::Internal,
                        format!("cannot upload the report to s3://{bucket}/{key}: {error}"),
                    )
                    .hint("nothing was changed; the same command begins anew")
                })?;
            last = format!("s3://{bucket}/{key}");
        }
        Ok(last)
    }
}

/// A report that is being written.
struct Reporting {
    writer: ReportWriter,
    destination: Destination,
    /// Where it lies until it is uploaded.
    _scratch: Option<tempfile::TempDir>,
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
    let hash = digest.finalize();
    let hex = hash.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}"));
    hex.collect()
}

fn unwritable(error: ReportError) -> Error {
    Error::new(Exit::Internal, error.to_string())
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

fn tell(writer: &mut ReportWriter, entry: &ManifestEntry, held: &Held) -> Result<(), ReportError> {
    let told = match held {
        Held::Holds(message) => Told::Succeeded(message),
        Held::Nothing(message) => Told::Succeeded(message),
        Held::Fails(failure) => Told::Failed(failure),
    };
    writer.tell(&entry.key, entry.version_id.as_deref(), told)
}

/// What the bucket lists, a few pages ahead of the looks: one page after the other.
fn list(survey: &Survey, bucket: String, prefix: String, all_versions: bool) -> Rows {
    let (sender, rows) = mpsc::channel(PAGES_MAX);
    let (s3, stall) = (survey.s3.clone(), survey.stall.clone());
    tokio::spawn(async move {
        let listing = Pages {
            s3: &s3,
            stall: &stall,
            bucket: &bucket,
            prefix: &prefix,
            all_versions,
        };
        if let Err(error) = listing.send_all(&sender).await {
            // Nobody may be there any more; then nobody needs to know.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    rows
}

struct Pages<'a> {
    s3: &'a S3,
    stall: &'a Stall,
    bucket: &'a str,
    prefix: &'a str,
    all_versions: bool,
}

impl Pages<'_> {
    async fn send_all(
        &self,
        sender: &mpsc::Sender<Result<Vec<ManifestEntry>, Error>>,
    ) -> Result<(), S3Error> {
        let mut row = 0;
        let mut last = ListPage::default();
        loop {
            let page = patiently(self.stall, || self.page(&last)).await?;
            let leads_on = page.token != last.token || page.next != last.next;
            if page.has_more && (!leads_on || (page.token.is_none() && page.next.is_none())) {
                return Err(S3Error::no_answer(
                    Operation::ListObjectVersions,
                    "a page of the listing that does not lead to the next".to_owned(),
                ));
            }
            let entries = page.rows.iter().map(|listed| {
                row += 1;
                entry_of(row - 1, listed)
            });
            let entries: Vec<_> = entries.collect();
            if sender.send(Ok(entries)).await.is_err() || !page.has_more {
                return Ok(());
            }
            last = page;
        }
    }

    async fn page(&self, last: &ListPage) -> Result<ListPage, S3Error> {
        let (bucket, prefix) = (self.bucket, self.prefix);
        if !self.all_versions {
            let token = last.token.as_deref();
            return self
                .s3
                .list_objects(bucket, prefix, "", token, PAGE_ROWS)
                .await;
        }
        let (key, version) = last.next.as_ref().map_or(("", None), |(key, version)| {
            (key.as_str(), version.as_deref())
        });
        self.s3
            .list_versions(bucket, prefix, key, version, PAGE_ROWS)
            .await
    }
}

fn entry_of(row: u64, listed: &ListedObject) -> ManifestEntry {
    ManifestEntry {
        row,
        key: listed.key.clone(),
        version_id: listed.version_id.clone(),
        known: RowKnown {
            is_latest: Some(listed.is_latest),
            is_delete_marker: listed.is_delete_marker,
            ..RowKnown::default()
        },
    }
}

impl VerifyConfig {
    /// Where reports go that nobody wanted elsewhere.
    pub fn report_default() -> Location {
        Location::Path(PathBuf::from(REPORT_DEFAULT))
    }
}
