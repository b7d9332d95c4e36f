//! A survey: the rows of a manifest, each looked at, none changed. It has no state: what it has not told is gone when it ends.
//!
//! ```text
//! Listing (prepared in a scratch folder) ─rows→ each: look, side by side within the budgets ─→ fold, in the order of the manifest
//! ```
//!
//! Its tasks are those of a run, in a [`Context`] without a leader: no request that changes anything gets a permit there.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

pub use super::live::throttle;

use super::home::{LEFT_AFTER, remove_left, scratch_in};
use super::pulse::Pulse;
use super::source::{self, PartSource};
use super::spec::ShardFile;
use super::{bucket, feed, live, newest};
use crate::bucket::BucketFacts;
use crate::config::Location;
use crate::encryption::{CustomerKey, Target};
use crate::engine::{self, Rows};
use crate::error::Error;
use crate::event::{Event, Operation};
use crate::exit::Exit;
use crate::http::Address;
use crate::journal::Replay;
use crate::limiter::{Budgets, Limiter};
use crate::manifest::{Prepared, Reading};
use crate::outcome::Tally;
use crate::profile::StoreProfile;
use crate::progress::Progress;
use crate::s3::{Connection, S3};
use crate::shard::Shard;
use crate::shutdown::{self, Shutdown, Urgency};
use crate::stall::Stall;
use crate::task::{self, Canary, Context, Learnt, Notes, Right, Unsettled, Witness};
use crate::throttle::Throttle;

/// Rows between the lowest one that is not folded yet and the next that is begun, at most: so much is kept while one row hangs.
const WINDOW_ROWS_MAX: u64 = 16_384;
/// Bytes of the digest that make the id of a report without a job.
pub const ID_BYTES: usize = 16;

/// Within which bounds a survey is made, and of which store.
#[derive(Debug)]
pub struct SurveyConfig {
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

/// A manifest that is open for one pass.
pub struct Listing {
    /// What preparing found.
    pub prepared: Prepared,
    /// Where it is; of a folder of inventories, the one that was taken.
    pub source: String,
    parts: Vec<PartSource>,
    /// What was fetched; it vanishes with the listing.
    folder: TempDir,
}

/// What is known before the first row.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The bucket.
    pub facts: &'a BucketFacts,
    /// What the store does.
    pub profile: &'a StoreProfile,
    /// What the operator has set.
    pub settings: &'a task::Settings,
    /// Keys that SSE-C objects may be under, the target's among them: see [`keys`].
    pub keys: &'a [CustomerKey],
}

/// What a survey works with.
pub struct Survey {
    /// The store.
    pub s3: S3,
    /// The budgets.
    pub limiter: Limiter,
    /// Whether anything goes on at all.
    pub stall: Stall,
    throttle: Throttle,
    tasks: usize,
    progress: RefCell<Progress>,
    requests: RefCell<BTreeMap<Operation, u64>>,
}

impl Survey {
    /// Connects to the store; nothing is sent yet.
    ///
    /// # Errors
    /// An address to be asked that can't be.
    pub async fn new(config: &SurveyConfig, progress: Progress) -> Result<Self, Error> {
        let limiter = Limiter::new(&config.budgets, config.concurrency, Shard::ONLY.count);
        let throttle = live::throttle(config.throttle_file.clone(), config.throttle_url.as_ref())?;
        throttle.look(|by, why| limiter.hold(by, why)).await;
        Ok(Self {
            s3: S3::connect(&config.connection).await,
            limiter,
            stall: Stall::new(config.max_stall),
            throttle,
            tasks: engine::tasks_for(config.concurrency),
            progress: RefCell::new(progress),
            requests: RefCell::default(),
        })
    }

    /// Takes an event: progress shows it, and requests are counted.
    pub fn on(&self, event: &Event<'_>) {
        if let Event::Request { operation, .. } = event {
            *self.requests.borrow_mut().entry(*operation).or_default() += 1;
        }
        self.progress.borrow_mut().on(event);
    }

    /// The requests for objects that were sent, retries among them.
    pub fn requests(&self) -> BTreeMap<Operation, u64> {
        self.requests.borrow().clone()
    }

    /// Does `work`, and tells meanwhile that time passes and what holds it.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let emit = |event: Event<'_>| self.on(&event);
        let mut pulse = Pulse::new(&emit, self.stall.watch(), &self.limiter);
        let watch = self.throttle.watch(|by, why| self.limiter.hold(by, why));
        let done = tokio::select! {
            biased;
            done = pulse.during(work) => done,
            () = watch => unreachable!("it looks for ever"),
        };
        let exit = done
            .as_ref()
            .map_or_else(|error| error.exit, |_| Exit::Complete);
        self.on(&Event::Finished { exit });
        done
    }

    /// Opens a manifest: the validating pass over all of it.
    ///
    /// # Errors
    /// Every fault of the manifest; asked to stop meanwhile.
    pub async fn open(
        &self,
        manifest: &Location,
        reading: &Reading,
        shutdown: &mut Shutdown,
    ) -> Result<Listing, Error> {
        let parent = std::env::temp_dir();
        remove_left(&parent, LEFT_AFTER);
        let scratch = scratch_in(&parent)?;
        let folder = source::folder(scratch.path())?;
        let emit = |event: Event<'_>| self.on(&event);
        let prepare = async {
            let manifest = newest::resolve(&self.s3, manifest, None, &emit).await?;
            let prepared =
                source::prepare(&self.s3, &manifest, reading, &folder, Shard::ONLY, &emit).await?;
            Ok::<_, Error>((manifest.to_string(), prepared))
        };
        let prepared = tokio::select! {
            prepared = prepare => prepared,
            _ = shutdown::asked(shutdown) => return Err(interrupted()),
        };
        let (source, (parts, prepared)) = prepared?;
        Ok(Listing {
            prepared,
            source,
            parts,
            folder: scratch,
        })
    }

    /// What is true of the bucket.
    ///
    /// # Errors
    /// What every object would meet too; asked to stop meanwhile.
    pub async fn bucket(&self, name: &str, shutdown: &mut Shutdown) -> Result<BucketFacts, Error> {
        tokio::select! {
            facts = bucket::ask(&self.s3, &self.stall, &self.limiter, name) => Ok(facts?),
            _ = shutdown::asked(shutdown) => Err(interrupted()),
        }
    }

    /// The target with the key that its alias stands for. Where only the store can tell, it is asked by an upload that is created and
    /// given up at once: no object comes into being.
    ///
    /// # Errors
    /// What every object would meet too, and that the store does not tell.
    pub async fn resolved(&self, bucket: &str, target: &Target) -> Result<Target, Error> {
        let mut target = target.clone();
        if !target.kms().is_some_and(|kms| kms.needs_resolving()) {
            return Ok(target);
        }
        let told = bucket::resolve_key(&self.s3, &self.stall, bucket, &target).await?;
        let told = told.ok_or_else(|| {
            Error::usage("the store does not tell which key the target's alias stands for")
                .hint("give --kms-key-id the key's ARN")
        })?;
        if let Target::SseKms(kms) | Target::DsseKms(kms) = &mut target {
            kms.resolved = Some(told);
        }
        Ok(target)
    }

    /// What its tasks share. No request that changes anything gets a permit in it.
    pub fn context<'a>(
        &'a self,
        known: Known<'a>,
        target: Target,
        emit: &'a dyn Fn(Event<'_>),
    ) -> Context<'a> {
        // Nobody listens: who looks leaves no notes.
        let (notes, _) = Notes::channel(1);
        self.context_with(known, target, emit, Right::ToLook, notes)
    }

    /// The same for tasks that change objects without a job: nobody keeps what they note.
    pub fn writing_context<'a>(
        &'a self,
        known: Known<'a>,
        target: Target,
        emit: &'a dyn Fn(Event<'_>),
    ) -> Context<'a> {
        let (notes, mut noted) = Notes::channel(self.tasks);
        tokio::spawn(async move {
            while let Some(note) = noted.recv().await {
                // A task that is gone needs no answer.
                let _ = note.durable.send(());
            }
        });
        self.context_with(known, target, emit, Right::Alone, notes)
    }

    fn context_with<'a>(
        &'a self,
        known: Known<'a>,
        target: Target,
        emit: &'a dyn Fn(Event<'_>),
        right: Right,
        notes: Notes,
    ) -> Context<'a> {
        Context {
            s3: &self.s3,
            profile: known.profile,
            settings: known.settings,
            bucket: known.facts,
            source_keys: known.keys,
            limiter: &self.limiter,
            right,
            emit,
            target: RefCell::new(target),
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            witness: Witness::default(),
            learnt: Learnt::default(),
            draining: watch::Sender::new(false),
            notes,
            canary: Canary::new(0, 0),
            stall: self.stall.clone(),
        }
    }

    /// The rows of a manifest, read a few batches ahead. They end with the first error.
    pub fn rows(&self, listing: &Listing) -> Rows {
        let job = ShardFile::of_survey(&listing.source, &listing.parts, &listing.prepared);
        feed::start(
            self.s3.clone(),
            self.stall.clone(),
            listing.folder(),
            Arc::new(job),
            Arc::new(Replay::default()),
        )
    }

    /// Looks at every row, side by side within the budgets, and hands what came of it to `fold`, in the order of the rows. `total`
    /// rows are expected.
    ///
    /// # Errors
    /// Asked to stop; what every object would meet; a manifest that can't be read on; what `fold` says.
    pub async fn each<R, T>(
        &self,
        ctx: &Context<'_>,
        total: u64,
        mut rows: mpsc::Receiver<Result<Vec<R>, Error>>,
        shutdown: &mut Shutdown,
        look: impl AsyncFn(&R) -> Result<T, Unsettled>,
        fold: impl FnMut(&R, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.on(&Event::Started {
            total,
            before: &Tally::default(),
            doubtful: 0,
        });
        let look = &look;
        let mut folding = Folding::new(fold);
        let mut tasks = FuturesUnordered::new();
        let mut queue = VecDeque::new();
        let mut rows_ended = false;
        let mut end: Option<Error> = None;
        let mut stop = shutdown.clone();
        loop {
            while end.is_none()
                && tasks.len() < self.tasks
                && folding.has_room()
                && let Some(entry) = queue.pop_front()
            {
                let turn = folding.begin();
                self.on(&Event::TaskStarted);
                tasks.push(async move {
                    let looked = look(&entry).await;
                    (turn, entry, looked)
                });
            }
            if tasks.is_empty() {
                if let Some(end) = end.take() {
                    return Err(end);
                }
                if rows_ended && queue.is_empty() {
                    return Ok(());
                }
            }
            let stops = |end: Error| {
                ctx.drain();
                Some(end)
            };
            tokio::select! {
                biased;
                urgency = shutdown::asked(shutdown), if end.is_none() => {
                    if let Urgency::Drain(reason) = urgency {
                        let (reason, in_flight) = (reason.to_string(), tasks.len());
                        self.on(&Event::Draining { reason: &reason, in_flight });
                    }
                    end = stops(interrupted());
                }
                () = shutdown::given_up(&mut stop) => {
                    folding.give_up()?;
                    return Err(end.unwrap_or_else(interrupted));
                }
                Some((turn, entry, looked)) = tasks.next() => {
                    self.on(&Event::TaskEnded);
                    let folded = match looked {
                        Ok(looked) => folding.end(turn, Some((entry, looked))),
                        Err(Unsettled::Drained) => folding.end(turn, None),
                        Err(Unsettled::Fault(error)) => {
                            folding.end(turn, None).and(Err(error.into()))
                        }
                    };
                    if let Err(error) = folded && end.is_none() {
                        end = stops(error);
                    }
                }
                batch = rows.recv(), if queue.is_empty() && !rows_ended && end.is_none() => match batch {
                    Some(Ok(batch)) => queue.extend(batch),
                    Some(Err(error)) => end = stops(error),
                    None => rows_ended = true,
                },
            }
        }
    }
}

impl Listing {
    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Puts rows that have ended in any order into the order in which they were begun.
struct Folding<R, T, F> {
    fold: F,
    /// The turn of the next row to begin, and of the next to be folded.
    begun: u64,
    folded: u64,
    /// Rows that have ended before one that was begun earlier; nothing is known of those that were drained.
    early: BTreeMap<u64, Option<(R, T)>>,
}

impl<R, T, F: FnMut(&R, T) -> Result<(), Error>> Folding<R, T, F> {
    fn new(fold: F) -> Self {
        Self {
            fold,
            begun: 0,
            folded: 0,
            early: BTreeMap::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.begun - self.folded < WINDOW_ROWS_MAX
    }

    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun - 1
    }

    /// Takes a row that has ended; `None` is one that was drained.
    fn end(&mut self, turn: u64, row: Option<(R, T)>) -> Result<(), Error> {
        self.early.insert(turn, row);
        while let Some(row) = self.early.remove(&self.folded) {
            self.folded += 1;
            if let Some((entry, looked)) = row {
                (self.fold)(&entry, looked)?;
            }
        }
        Ok(())
    }

    /// Folds what has ended, though rows before it have not and will not.
    fn give_up(mut self) -> Result<(), Error> {
        for (entry, looked) in std::mem::take(&mut self.early).into_values().flatten() {
            (self.fold)(&entry, looked)?;
        }
        Ok(())
    }
}

/// The keys that a look may need: the sources', and the target's, to which alone what is under it shows itself.
pub fn keys(source_keys: &[CustomerKey], target: &Target) -> Vec<CustomerKey> {
    let of_target = match target {
        Target::SseC(key) => Some(key),
        Target::SseS3 | Target::SseKms(_) | Target::DsseKms(_) => None,
    };
    source_keys.iter().chain(of_target).cloned().collect()
}

/// Asked to stop: nothing is kept, and nothing was changed.
pub fn interrupted() -> Error {
    Error::new(Exit::Interrupted, "interrupted; nothing was changed")
        .hint("the same command begins anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Known as RowKnown, ManifestEntry};

    fn entry(row: u64) -> ManifestEntry {
        ManifestEntry {
            row,
            key: row.to_string(),
            version_id: None,
            known: RowKnown::default(),
        }
    }

    #[test]
    fn rows_are_folded_in_their_order_however_they_end() {
        let mut seen = Vec::new();
        let mut folding = Folding::new(|entry: &ManifestEntry, n: u64| {
            assert_eq!(entry.row, n);
            seen.push(n);
            Ok(())
        });
        for _ in 0..4 {
            folding.begin();
        }
        // The second one was drained, and holds nobody up.
        for turn in [2, 0, 3, 1] {
            let row = (turn != 1).then(|| (entry(turn), turn));
            folding.end(turn, row).expect("folded");
        }
        assert!(folding.early.is_empty());
        while folding.has_room() {
            folding.begin();
        }
        assert_eq!(folding.begun - folding.folded, WINDOW_ROWS_MAX);
        folding.end(9, Some((entry(9), 9))).expect("it waits");
        folding.give_up().expect("folded");
        assert_eq!(seen, [0, 2, 3, 9]);
    }
}
