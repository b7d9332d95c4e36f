//! The listing, wired to what writes it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::covered::Segment;
use super::encryption::Looks;
use super::part::{Part, Tell, Writing, write_parts};
use super::row::{Looked, Row, Unknown};
use super::state::State;
use super::{Format, Job};
use crate::error::Error;
use crate::event::Limit;
use crate::exit::Exit;
use crate::human;
use crate::listing::{self, Batch, Disorder, PAGE_ROWS_MAX, Scope, Stop};
use crate::progress::Ticker;
use crate::s3_error::S3Error;

/// Threads that write data files: one compresses some 100,000 rows a second.
const WRITERS_MAX: usize = 4;
/// Pages that wait for each of them.
const BATCHES_WAITING_MAX: usize = 4;
/// Data files that wait to be put where they belong.
const PARTS_WAITING_MAX: usize = 2;
/// A data file is open so long at most: what is in none that is whole is listed again after a crash.
const PART_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Rows of a page, where each is looked at: what is not looked at to its end when the process is asked to stop is listed again.
const LOOKED_PAGE_ROWS: u16 = 100;
/// Requests on the wire for each page whose rows are looked at.
const LOOKS_PER_PAGE: usize = 32;

/// Between two looks at how far it is.
const TICK: Duration = Duration::from_millis(200);

/// Why an inventory ends before it is complete.
pub enum Ended {
    /// The process was asked to stop.
    Drained,
    /// The store refuses, or is not there.
    Store(S3Error),
    /// The store's listing can't be relied on.
    Disorder(Disorder),
    /// Something else did not work.
    Local(Error),
}

impl From<listing::Ended<Ended>> for Ended {
    fn from(ended: listing::Ended<Ended>) -> Self {
        match ended {
            listing::Ended::Drained => Self::Drained,
            listing::Ended::Store(error) => Self::Store(error),
            listing::Ended::Disorder(disorder) => Self::Disorder(disorder),
            listing::Ended::Taker(ended) => ended,
        }
    }
}

/// The threads that write.
struct Writers {
    tell: Vec<mpsc::Sender<Tell>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// What they have written.
    parts: mpsc::Receiver<Part>,
}

/// How far it is.
#[derive(Default)]
struct Far {
    rows: Cell<u64>,
    ranges: Cell<usize>,
}

impl Far {
    fn line(&self, since: Instant, before: u64, held_by: Option<Limit>) -> String {
        let rows = self.rows.get();
        let rate = (rows - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
        let limit = held_by.map_or("not limited".to_owned(), |limit| {
            format!("limited by {}", limit.name())
        });
        format!(
            "listed {}, {}/s, {} at a time, {limit}",
            human::count_of(rows, "row"),
            human::count(rate as u64),
            human::count_of(self.ranges.get() as u64, "range"),
        )
    }
}

impl Job<'_> {
    /// Lists what no part has, until every part is where it belongs. What was listed is kept however it ends.
    pub(super) async fn list(&self, state: &mut State, ticker: &mut Ticker) -> Result<(), Ended> {
        let left = state.covered().left();
        if left.is_empty() {
            return Ok(());
        }
        let staging = self.staging_of_listed(state);
        self.out
            .make_folder(&self.layout.data())
            .map_err(Ended::Local)?;
        make_anew(&staging).map_err(Ended::Local)?;
        let before = state.counts().rows;
        let Writers {
            tell,
            threads,
            mut parts,
        } = self.start_writers(&staging);
        let listing = self.list_ranges(left, tell, before, ticker);
        let keeping = async {
            while let Some(part) = parts.recv().await {
                self.keep(state, part).await?;
            }
            Ok(())
        };
        // Who can't keep parts ends the listing; a listing that has ended has its parts kept.
        let ended = async { Ok(listing.await) };
        let done: Result<_, Error> = futures::future::try_join(ended, keeping).await;
        let (ended, ()) = done.map_err(Ended::Local)?;
        for thread in threads {
            let written = thread
                .await
                .map_err(io::Error::other)
                .and_then(|written| written);
            written.map_err(|error| {
                Ended::Local(Error::io(
                    format!("cannot write data files in {}", staging.display()),
                    &error,
                ))
            })?;
        }
        remove(&staging);
        ended?;
        match state.covered().left().is_empty() {
            true => Ok(()),
            false => Err(Ended::Local(Error::new(
                Exit::Internal,
                "the listing has ended, and not all keys are in a part; this is a fault of reseal",
            ))),
        }
    }

    fn start_writers(&self, staging: &Path) -> Writers {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (hand_over, parts) = mpsc::channel(PARTS_WAITING_MAX);
        let start = |number: usize| {
            let (tell, mut told) = mpsc::channel(BATCHES_WAITING_MAX);
            let writing = Writing {
                path: staging.join(format!("{number}.open")),
                bucket: self.config.bucket.clone(),
                columns: self.columns.to_vec(),
                format: self.listed_format(),
                rows_max: self.config.part_rows,
            };
            let hand_over = hand_over.clone();
            let thread =
                tokio::task::spawn_blocking(move || write_parts(&writing, &mut told, &hand_over));
            (tell, thread)
        };
        let (tell, threads) = (0..cores.min(WRITERS_MAX)).map(start).unzip();
        Writers {
            tell,
            threads,
            parts,
        }
    }

    /// Lists ranges and hands on what is found, until there is nothing more or it can't go on.
    async fn list_ranges(
        &self,
        ranges: Vec<listing::Range>,
        tell: Vec<mpsc::Sender<Tell>>,
        before: u64,
        ticker: &mut Ticker,
    ) -> Result<(), Ended> {
        let config = self.config;
        let (page_rows, lanes) = match config.with_encryption {
            true => (
                LOOKED_PAGE_ROWS,
                config.concurrency.div_ceil(LOOKS_PER_PAGE) * 2,
            ),
            false => (PAGE_ROWS_MAX, config.concurrency),
        };
        // Ranges begin at keys that need not be there. Some stores leave out the first version behind such a marker (moto does), and
        // nothing on the page shows it: there, versions are listed one page after the other, each behind a version that is there.
        let lanes = match config.with_versions && !self.asker.s3.is_aws() {
            true => 1,
            false => lanes,
        };
        let scope = Scope {
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            with_versions: config.with_versions,
            page_rows,
        };
        let far = Far::default();
        far.rows.set(before);
        let at_once = LOOKS_PER_PAGE.min(config.concurrency);
        let looks = Looks::new(self.asker, &config.bucket, at_once);
        let take = async |batch: Batch| {
            let rows = batch.rows.len() as u64;
            let place = (batch.range % tell.len() as u64) as usize;
            let batch = self.looked(&looks, batch).await?;
            far.rows.set(far.rows.get() + rows);
            // Who writes has failed, and says why.
            tell[place].send(batch).await.map_err(|_| Ended::Drained)
        };
        let listed = listing::list(self.asker, &scope, ranges, lanes, take, |live| {
            far.ranges.set(live)
        });
        tokio::select! {
            ended = listed => Ok(ended?),
            () = keep_time(&tell) => unreachable!("time does not end"),
            () = self.show(&far, before, ticker) => unreachable!("nor does it"),
        }
    }

    /// Tells how far it is, and what holds it.
    async fn show(&self, far: &Far, before: u64, ticker: &mut Ticker) {
        let since = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            ticker.tell(|| far.line(since, before, self.asker.limiter.pressure().held_by));
        }
    }

    async fn looked(&self, looks: &Looks<'_>, batch: Batch) -> Result<Tell, Ended> {
        let (rows, unknown) = if self.config.with_encryption {
            looks.at_all(batch.rows).await.map_err(|stop| match stop {
                Stop::Drained => Ended::Drained,
                Stop::Store(error) => Ended::Store(error),
            })?
        } else {
            let row = |listed| Row {
                listed,
                looked: Looked::default(),
            };
            (
                batch.rows.into_iter().map(row).collect(),
                Unknown::default(),
            )
        };
        Ok(Tell::Batch {
            range: batch.range,
            segment: Segment::new(batch.from, batch.to),
            rows,
            unknown,
        })
    }
}

/// Ends data files that have been open for long.
async fn keep_time(tell: &[mpsc::Sender<Tell>]) {
    loop {
        tokio::time::sleep(PART_AGE_MAX).await;
        for writer in tell {
            // Who is gone says why elsewhere.
            let _ = writer.send(Tell::End).await;
        }
    }
}

/// Makes a folder without anything in it: what a killed process has left is not listed for good.
pub(super) fn make_anew(folder: &Path) -> Result<(), Error> {
    remove(folder);
    fs::create_dir_all(folder)
        .map_err(|error| Error::io(format!("cannot make {}", folder.display()), &error))
}

/// Removes a folder that only takes room.
pub(super) fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

impl Format {
    /// As it is typed.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}
