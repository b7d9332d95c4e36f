//! `reseal inventory`: a list of a bucket's objects as S3 Inventory writes one, made by listing it.
//!
//! ```text
//! listing ─Batch→ (a look at each) ─rows→ data files, on threads ─Part→ where they belong ─line→ journal; at the end manifest.json, manifest.checksum
//! ```
//!
//! A part counts once its data file is where it belongs and a line of the journal says which stretch of the keys is in it. So the same
//! command goes on with the stretches that no line names, and each key is in one part, whenever the process was killed.
//!
//! - `row`, `csv`, `parquet`, `layout`: what S3's own inventories look like.
//! - `part`: data files while they are written.
//! - `covered`, `state`: which stretches are in a part for good; pure, and the journal of it.
//! - `encryption`: what a listing does not show.
//! - `diff`: against an earlier inventory.
//! - `out`: a folder, or a prefix in S3.

mod covered;
mod csv;
mod diff;
mod encryption;
mod layout;
mod out;
mod parquet;
mod part;
mod row;
mod state;
mod summary;
mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use md5::{Digest as _, Md5};
use rand::RngExt as _;
use sha2::Sha256;
use tokio::time::Instant;

pub use part::Format;
pub use row::{Counts, Unknown};
pub use summary::Summary;

use crate::config::Location;
use crate::durable::sync_parent;
use crate::error::Error;
use crate::exit::Exit;
use crate::http::Address;
use crate::job::survey::{self, Listing, Survey, SurveyConfig};
use crate::limiter::{Budgets, Limiter};
use crate::listing::Asker;
use crate::manifest::Reading;
use crate::object::ManifestEntry;
use crate::progress::{Progress, Style, Ticker};
use crate::s3::{Connection, S3};
use crate::s3_error::S3Error;
use crate::shutdown::{self, Shutdown};
use crate::stall::Stall;
use diff::{Compared, Difference, Files};
use layout::{Content, Layout, Named, data_name};
use out::Out;
use part::{DataFile, Written};
use row::Column;
use state::{Claim, Kept, KeptFile, Pinned, State};
use write::Ended;

/// The folder for states, in the working directory.
const STATES: &str = ".reseal";

/// Bytes of an inventory's id.
const ID_BYTES: usize = 16;

/// Minutes that an inventory's folder may be named ahead, where the folders of those before it have their names.
const MINUTES_AHEAD_MAX: i64 = 60;

/// Requests on the wire that put data files in their place.
const PUTS_AT_ONCE: usize = 4;

/// One `reseal inventory`.
#[derive(Debug)]
pub struct InventoryConfig {
    /// The bucket that is listed.
    pub bucket: String,
    /// The keys that begin with this.
    pub prefix: String,
    /// Where the inventory goes.
    pub out: Location,
    /// The folder in it, below the bucket's name; `None` is the default.
    pub config_id: Option<String>,
    /// How data files look.
    pub format: Format,
    /// All versions and delete markers; else what is current.
    pub with_versions: bool,
    /// Whether each object's encryption is asked for.
    pub with_encryption: bool,
    /// Only what is new or changed since this inventory.
    pub diff: Option<Location>,
    /// Where progress is kept; `None` is a folder below `STATES` that is named after what is listed, how and where to.
    pub state: Option<PathBuf>,
    /// Rows of a data file.
    pub part_rows: u64,
    /// The store.
    pub connection: Connection,
    /// What may be sent in a second.
    pub budgets: Budgets,
    /// Most requests on the wire.
    pub concurrency: usize,
    /// How long it is waited while nothing goes on; zero is not at all.
    pub max_stall: Duration,
    /// Nothing is sent while this is there.
    pub throttle_file: Option<PathBuf>,
    /// Nothing is sent while this answers other than 2xx.
    pub throttle_url: Option<Address>,
}

impl InventoryConfig {
    fn config_id(&self) -> String {
        let given = self.config_id.clone();
        given.unwrap_or_else(|| layout::config_id(&self.prefix, self.diff.is_some()))
    }

    /// What must stay as it is for the same inventory to go on.
    fn pinned(&self, endpoint: Option<&str>) -> Result<Pinned, Error> {
        let out = match &self.out {
            Location::Path(path) => absolute(path)?.display().to_string(),
            location => location.to_string(),
        };
        let diff = match &self.diff {
            Some(Location::Path(path)) => absolute(path)?.display().to_string(),
            Some(location) => location.to_string(),
            None => "none".to_owned(),
        };
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Ok(Pinned::from([
            of(
                "the source",
                &format!("s3://{}/{}", self.bucket, self.prefix),
            ),
            of("--endpoint-url", endpoint.unwrap_or("AWS")),
            of("--out", &out),
            of("--config-id", &self.config_id()),
            of("--format", self.format.name()),
            of(
                "--versions",
                if self.with_versions { "all" } else { "current" },
            ),
            of(
                "--with",
                if self.with_encryption {
                    "encryption"
                } else {
                    "none"
                },
            ),
            of("--diff", &diff),
        ]))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot find {}", path.display()), &error))
}

/// An inventory that got as far as to have a summary.
#[derive(Debug)]
pub struct Done {
    /// How the process ends.
    pub exit: Exit,
    /// What there is.
    pub summary: Summary,
    /// Why it failed, where it did.
    pub error: Option<Error>,
}

/// An inventory at work.
struct Job<'a> {
    config: &'a InventoryConfig,
    /// About the bucket that is listed.
    asker: &'a Asker,
    /// About where the inventory goes: what is on its way there is not given up when nothing more is listed.
    putter: &'a Asker,
    out: &'a Out,
    layout: &'a Layout,
    columns: &'a [Column],
}

/// Makes an inventory, or goes on with one, until it is complete or the process is asked to stop.
///
/// # Errors
/// What kept it from beginning.
pub async fn run(
    config: InventoryConfig,
    mut ticker: Ticker,
    mut shutdown: Shutdown,
) -> Result<Done, Error> {
    let began = Instant::now();
    let out = Out::of(&config.out)?;
    let s3 = S3::connect(&config.connection).await;
    let stall = Stall::new(config.max_stall);
    let limiter = Limiter::new(&config.budgets, config.concurrency, 1);
    let putters = Limiter::new(&Budgets::default(), PUTS_AT_ONCE, 1);
    let asker = Asker::new(s3.clone(), limiter, stall.clone(), shutdown.clone());
    let putter = Asker::new(s3.clone(), putters, stall, shutdown::never());
    let earlier = match &config.diff {
        Some(location) => Some(Earlier::open(&config, location, &mut shutdown).await?),
        None => None,
    };
    let pinned = config.pinned(s3.endpoint_url())?;
    let folder = config.state.clone().unwrap_or_else(|| state_of(&pinned));
    let mut state = open(&config, &out, &putter, &folder, pinned).await?;
    let already_listed = state.counts().rows;
    let layout = Layout::new(&config.bucket, &config.config_id(), state.folder_at())
        .ok_or_else(|| Error::new(Exit::State, "the state's date is none"))?;
    let columns = Column::of(config.with_versions, config.with_encryption);
    let of = Job {
        config: &config,
        asker: &asker,
        putter: &putter,
        out: &out,
        layout: &layout,
        columns: &columns,
    };
    let throttle = survey::throttle(config.throttle_file.clone(), config.throttle_url.as_ref())?;
    let hold = |by, why| asker.limiter.hold(by, why);
    throttle.look(hold).await;
    let ended = tokio::select! {
        ended = of.list(&mut state, &mut ticker) => ended,
        () = throttle.watch(hold) => unreachable!("it looks for ever"),
    };
    let mut summary = of.summary(&state, &folder, already_listed);
    let finished = match ended {
        Ok(()) => of.finish(state, earlier, &mut summary, &mut ticker).await,
        Err(ended) => {
            if state.kept.is_empty() {
                // There is nothing to go on with.
                state.remove()?;
                summary.state = None;
            }
            Err(ended)
        }
    };
    let requests = asker.requests();
    summary.requests = requests.sent;
    summary.retries = requests.retries;
    summary.throttles = requests.throttles;
    summary.elapsed_seconds = began.elapsed().as_secs_f64();
    let (exit, error) = match finished {
        Ok(())
            if summary
                .encryption_unknown
                .is_some_and(|unknown| unknown.refused > 0) =>
        {
            (Exit::RowsFailed, None)
        }
        Ok(()) => (Exit::Complete, None),
        Err(Ended::Drained) => (Exit::Interrupted, None),
        Err(ended) => {
            let error = Error::from(ended);
            (error.exit, Some(error))
        }
    };
    summary.status = exit.status();
    Ok(Done {
        exit,
        summary,
        error,
    })
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Drained => Self::new(Exit::Interrupted, "asked to stop"),
            Ended::Store(error) => refused(error),
            Ended::Disorder(disorder) => disorder.into(),
            Ended::Local(error) => error,
        }
    }
}

fn refused(error: S3Error) -> Error {
    let hint = match error.code.as_str() {
        "NoSuchBucket" => "check the bucket, --endpoint-url and --region",
        "AccessDenied" => {
            "a listing needs s3:ListBucket, one of all versions s3:ListBucketVersions; the same command goes on"
        }
        _ => return Error::from(error),
    };
    Error::from(error).hint(hint)
}

/// The state of what is listed, how and where to, where nobody has said where it shall be.
fn state_of(pinned: &Pinned) -> PathBuf {
    let json = serde_json::to_vec(pinned).expect("text only");
    let digest = Sha256::digest(json);
    let id: String = digest[..ID_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Path::new(STATES).join(format!("inventory-{id}"))
}

async fn open(
    config: &InventoryConfig,
    out: &Out,
    putter: &Asker,
    folder: &Path,
    pinned: Pinned,
) -> Result<State, Error> {
    let claim = match Claim::take(folder)?.open(&pinned)? {
        Ok(state) => {
            let rows = state.counts().rows;
            tracing::info!(
                "going on with the state in {}: {rows} rows are listed",
                folder.display()
            );
            return Ok(state);
        }
        Err(claim) => claim,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(|_| Error::new(Exit::Internal, "this machine's clock is before 1970"))?;
    let began_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let folder_at = free_minute(config, out, putter, began_ms / 1_000).await?;
    let id: [u8; ID_BYTES] = rand::rng().random();
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    claim.create(id, began_ms, folder_at, pinned)
}

/// When the inventory is said to have begun, in seconds since 1970: folders are named by the minute, and one that is taken is another's.
async fn free_minute(
    config: &InventoryConfig,
    out: &Out,
    putter: &Asker,
    began: i64,
) -> Result<i64, Error> {
    for minutes in 0..MINUTES_AHEAD_MAX {
        let at = began + minutes * 60;
        let layout = Layout::new(&config.bucket, &config.config_id(), at);
        let layout =
            layout.ok_or_else(|| Error::new(Exit::Internal, "this machine's clock is wrong"))?;
        if !out.has(putter, &layout.file(CHECKSUM)).await? {
            return Ok(at);
        }
    }
    Err(Error::usage(format!(
        "the inventories of the next {MINUTES_AHEAD_MAX} minutes are there already, below {}",
        out.place(&layout_base(config))
    ))
    .hint("give another --config-id"))
}

fn layout_base(config: &InventoryConfig) -> String {
    format!("{}/{}", config.bucket, config.config_id())
}

const MANIFEST: &str = "manifest.json";
const CHECKSUM: &str = "manifest.checksum";
/// Rows of the earlier inventory that are gone.
const GONE: &str = "gone.csv.gz";

/// The earlier inventory.
struct Earlier {
    survey: Survey,
    listing: Listing,
}

impl Earlier {
    async fn open(
        config: &InventoryConfig,
        location: &Location,
        shutdown: &mut Shutdown,
    ) -> Result<Self, Error> {
        let within = SurveyConfig {
            connection: config.connection.clone(),
            budgets: config.budgets,
            concurrency: config.concurrency,
            max_stall: config.max_stall,
            throttle_file: None,
            throttle_url: None,
        };
        let survey = Survey::new(&within, Progress::new(Style::None)).await?;
        let listing = survey.open(location, &Reading::default(), shutdown).await?;
        let of_bucket = &listing.prepared.bucket;
        if listing.prepared.rows > 0 && *of_bucket != config.bucket {
            return Err(Error::usage(format!(
                "--diff: {location} is of the bucket {of_bucket}, and {} is listed",
                config.bucket
            )));
        }
        if config.with_versions && !listing.prepared.schema.names_versions() {
            return Err(Error::usage(format!(
                "--diff: {location} has current objects only, and all versions are listed"
            )));
        }
        Ok(Self { survey, listing })
    }
}

impl Job<'_> {
    fn summary(&self, state: &State, folder: &Path, already_listed: u64) -> Summary {
        let counts = state.counts();
        let mut summary = Summary {
            status: Exit::Interrupted.status(),
            bucket: self.config.bucket.clone(),
            prefix: self.config.prefix.clone(),
            manifest: None,
            format: self.config.format.name(),
            files: state.kept.iter().filter(|kept| kept.file.is_some()).count(),
            rows: 0,
            objects: 0,
            noncurrent_versions: 0,
            delete_markers: 0,
            bytes: 0,
            encryption: Default::default(),
            encryption_unknown: self.config.with_encryption.then_some(counts.unknown),
            difference: None,
            gone: None,
            already_listed,
            elapsed_seconds: 0.0,
            requests: Default::default(),
            retries: 0,
            throttles: 0,
            state: Some(folder.display().to_string()),
        };
        summary.count(counts);
        summary
    }

    /// How data files of the listing look: what is compared is read again.
    fn listed_format(&self) -> Format {
        match self.config.diff {
            Some(_) => Format::Csv,
            None => self.config.format,
        }
    }

    /// Everything is listed: compares it, if it shall be, and writes what says so.
    async fn finish(
        &self,
        state: State,
        earlier: Option<Earlier>,
        summary: &mut Summary,
        ticker: &mut Ticker,
    ) -> Result<(), Ended> {
        let files = match earlier {
            None => state
                .kept
                .iter()
                .filter_map(|kept| kept.file.clone())
                .collect(),
            Some(earlier) => {
                ticker.tell(|| "comparing".to_owned());
                self.compare(&state, earlier, summary).await?
            }
        };
        summary.files = files.len();
        self.write_manifest(&state, &files)
            .await
            .map_err(Ended::Local)?;
        summary.manifest = Some(self.out.place(&self.layout.file(MANIFEST)));
        summary.state = None;
        state.remove().map_err(Ended::Local)
    }

    /// `manifest.checksum` is the last: an inventory without it is none.
    async fn write_manifest(&self, state: &State, files: &[KeptFile]) -> Result<(), Error> {
        let (out, putter) = (self.out, self.putter);
        let named: Vec<_> = files
            .iter()
            .map(|file| Named {
                key: out.key(&self.layout.data_file(&file.name)),
                size: file.bytes,
                md5: file.md5.clone(),
            })
            .collect();
        if let Some(bucket) = out.bucket() {
            let lines: String = named
                .iter()
                .map(|file| format!("s3://{bucket}/{}\n", file.key))
                .collect();
            out.put_bytes(putter, &self.layout.symlink(), lines.as_bytes())
                .await?;
        }
        let content = Content {
            source_bucket: &self.config.bucket,
            destination_bucket: out.bucket(),
            began_ms: state.began_ms(),
            format: self.config.format,
            columns: self.columns,
            files: &named,
        };
        let json = content.to_json();
        let md5: String = Md5::digest(&json)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        out.put_bytes(putter, &self.layout.file(MANIFEST), json.as_bytes())
            .await?;
        out.put_bytes(putter, &self.layout.file(CHECKSUM), md5.as_bytes())
            .await
    }

    /// Compares what was listed with the earlier inventory; the data files of what is new or changed. All of it is done anew where a process
    /// was killed meanwhile: names follow from the inventory's id.
    async fn compare(
        &self,
        state: &State,
        earlier: Earlier,
        summary: &mut Summary,
    ) -> Result<Vec<KeptFile>, Ended> {
        let scratch = state.parts().join("compared");
        write::make_anew(&scratch).map_err(Ended::Local)?;
        let staging = self.staging(state);
        write::make_anew(&staging).map_err(Ended::Local)?;
        self.out
            .make_folder(&self.layout.data())
            .map_err(Ended::Local)?;
        let kept = state.kept.iter().filter_map(|kept| kept.file.as_ref());
        let listed = kept.map(|file| state.parts().join(&file.name)).collect();
        let mut rows = earlier.survey.rows(&earlier.listing);
        let work = Work {
            scratch: scratch.clone(),
            staging: staging.clone(),
            bucket: self.config.bucket.clone(),
            prefix: self.config.prefix.clone(),
            columns: self.columns.to_vec(),
            format: self.config.format,
            listed,
            earlier_rows: earlier.listing.prepared.rows,
            part_rows: self.config.part_rows,
        };
        let earlier_rows = std::iter::from_fn(move || rows.blocking_recv());
        let compared = tokio::task::spawn_blocking(move || work.compare(earlier_rows));
        let mut shutdown = self.asker.shutdown();
        let compared = tokio::select! {
            // Nothing of it is kept: it is done in one go, or again.
            () = shutdown::given_up(&mut shutdown) => return Err(Ended::Drained),
            compared = compared => compared,
        };
        let (difference, files) = compared
            .map_err(|error| Error::new(Exit::Internal, format!("a worker thread failed: {error}")))
            .and_then(|compared| compared)
            .map_err(Ended::Local)?;
        let mut named = Vec::with_capacity(files.len());
        for (number, written) in files.into_iter().enumerate() {
            named.push(
                self.put(state, number, written)
                    .await
                    .map_err(Ended::Local)?,
            );
        }
        let gone = self.layout.file(GONE);
        self.out
            .make_folder(&self.layout.folder())
            .map_err(Ended::Local)?;
        let list = staging.join(GONE);
        let put = self.out.put_file(self.putter, &gone, &list);
        put.await.map_err(Ended::Local)?;
        write::remove(&staging);
        summary.difference = Some(difference);
        summary.gone = Some(self.out.place(&gone));
        Ok(named)
    }

    /// Puts a data file of the inventory where it belongs.
    async fn put(&self, state: &State, number: usize, written: Written) -> Result<KeptFile, Error> {
        let name = data_name(state.id(), number, self.config.format);
        let place = self.layout.data_file(&name);
        self.out
            .put_file(self.putter, &place, &written.path)
            .await?;
        Ok(KeptFile {
            name,
            bytes: written.bytes,
            md5: written.md5,
        })
    }

    /// A folder for data files that are written, from which a rename takes them where they belong.
    fn staging(&self, state: &State) -> PathBuf {
        let of_state = state.parts().join("open");
        self.out.staging(&self.layout.data(), state.id(), of_state)
    }

    /// The same for what is listed, which stays in the state where it is compared.
    fn staging_of_listed(&self, state: &State) -> PathBuf {
        match self.config.diff {
            Some(_) => state.parts().join("listed"),
            None => self.staging(state),
        }
    }

    /// Puts what was listed where it belongs: what is compared stays in the state.
    async fn keep(&self, state: &mut State, part: part::Part) -> Result<(), Error> {
        let number = state.kept.len();
        let file = match part.file {
            None => None,
            Some(written) if self.config.diff.is_some() => {
                let name = data_name(state.id(), number, Format::Csv);
                let path = state.parts().join(&name);
                let moved = std::fs::rename(&written.path, &path).and_then(|()| sync_parent(&path));
                moved.map_err(|error| {
                    Error::io(format!("cannot write {}", path.display()), &error)
                })?;
                Some(KeptFile {
                    name,
                    bytes: written.bytes,
                    md5: written.md5,
                })
            }
            Some(written) => Some(self.put(state, number, written).await?),
        };
        state.keep(Kept {
            file,
            counts: part.counts,
            segments: part.segments,
        })
    }
}

/// What a comparison has to know, on a thread of its own.
struct Work {
    scratch: PathBuf,
    staging: PathBuf,
    bucket: String,
    prefix: String,
    columns: Vec<Column>,
    format: Format,
    listed: Vec<PathBuf>,
    earlier_rows: u64,
    part_rows: u64,
}

impl Work {
    fn compare(
        &self,
        earlier: impl Iterator<Item = Result<Vec<ManifestEntry>, Error>>,
    ) -> Result<(Difference, Vec<Written>), Error> {
        let create = |number: usize| {
            let path = self.staging.join(format!("{number}.new"));
            DataFile::create(&path, &self.bucket, &self.columns, self.format)
        };
        let mut files = Files::new(self.part_rows, &create);
        let of = Compared {
            scratch: &self.scratch,
            bucket: &self.bucket,
            prefix: &self.prefix,
            columns: &self.columns,
            files: &self.listed,
            earlier_rows: self.earlier_rows,
        };
        let rows = earlier.flat_map(|batch| match batch {
            Ok(batch) => batch.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(Failed(error))],
        });
        let difference = diff::compare(&of, rows, |row| files.add(row), &self.staging.join(GONE));
        let difference = difference.map_err(|Failed(error)| error)?;
        files.end().map_err(|error| failed(&error))?;
        Ok((difference, files.done))
    }
}

/// An error, or one of a file.
struct Failed(Error);

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(failed(&error))
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::io("cannot compare with the earlier inventory", error)
}
