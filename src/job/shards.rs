//! The shards of a job, seen from outside: also while others run them.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use crate::error::Error;
use crate::event::Limit;
use crate::journal::StateRoot;
use crate::outcome::Tally;
use crate::shard::Shard;

/// Most shards that are looked at at once: each is a few small reads, and on S3 it is the waiting that takes time.
const LOOKS_MAX: usize = 16;

/// What can be seen of a shard.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which it is.
    pub shard: Shard,
    /// Its rows; `None` where it has not read the manifest yet.
    pub rows: Option<u64>,
    /// How many of them have an outcome.
    pub settled: u64,
    /// Rows below this may have been started.
    pub reserved: u64,
    /// Rows among them that have no outcome.
    pub doubtful: u64,
    /// The outcomes.
    pub tally: Tally,
    /// How often its state was taken over.
    pub epochs: u64,
    /// What held its last run, when that was last recorded.
    pub limited_by: Option<Limit>,
    /// How long ago an outcome reached the state, where that was asked for and can be told.
    pub last_written: Option<Duration>,
}

impl Seen {
    /// Whether every row of it has an outcome.
    pub fn is_finished(&self) -> bool {
        self.rows == Some(self.settled)
    }
}

/// What is looked for in a `shard.json`, which may be large.
#[derive(Deserialize)]
struct Gist {
    rows: u64,
}

/// Looks at all shards of a job, in their order. Writes nothing.
///
/// # Errors
/// The state of one is damaged or can't be read.
pub async fn look(root: &StateRoot, count: u32) -> Result<Vec<Seen>, Error> {
    let looks = Shard::all(count).map(async |shard| {
        let mut seen = look_at(root, shard).await?;
        if seen.epochs > 0 {
            seen.last_written = root.last_written(shard).await?;
        }
        Ok(seen)
    });
    all(looks).await
}

/// The shards that still have rows without an outcome.
///
/// # Errors
/// As [`look`].
pub async fn unfinished(root: &StateRoot, count: u32) -> Result<Vec<u32>, Error> {
    let seen = all(Shard::all(count).map(|shard| look_at(root, shard))).await?;
    let unfinished = seen.iter().filter(|seen| !seen.is_finished());
    Ok(unfinished.map(|seen| seen.shard.index).collect())
}

async fn all<F>(looks: impl Iterator<Item = F>) -> Result<Vec<Seen>, Error>
where
    F: Future<Output = Result<Seen, Error>>,
{
    let looks = futures::stream::iter(looks).buffered(LOOKS_MAX);
    looks.try_collect().await
}

async fn look_at(root: &StateRoot, shard: Shard) -> Result<Seen, Error> {
    let gist: Option<Gist> = root.read_shard(shard).await?;
    let replay = root.peek(shard).await?.unwrap_or_default();
    let rows = gist.map(|gist| gist.rows);
    Ok(Seen {
        shard,
        rows,
        doubtful: replay.doubtful(rows.unwrap_or_default()),
        settled: replay.settled.len(),
        reserved: replay.reserved,
        tally: replay.tally,
        epochs: replay.epochs,
        limited_by: replay.limited_by,
        last_written: None,
    })
}
