//! Snapshots: the fold of a journal up to a batch, so that reading it back does not begin at the first.
//!
//! A snapshot is a copy of what the journal says and nothing more. One that is damaged is left out and the journal read from its
//! start; one of an earlier batch only makes the tail longer. So it needs no care about who writes it last.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StateError;
use super::document;
use super::replay::Replay;
use super::store::{Mark, Store};

/// The name in the shard's folder.
const NAME: &str = "snapshot";

/// A snapshot is due after so many batches: on S3 each is a request when it is read back.
pub(super) const SNAPSHOT_BATCHES: u64 = 1024;

/// A snapshot is due after so many bytes of journal.
pub(super) const SNAPSHOT_BYTES: u64 = 16 * 1024 * 1024;

/// How long a store may take for a snapshot: nothing becomes durable meanwhile, and a snapshot only saves time.
pub(super) const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Snapshot<R> {
    mark: Mark,
    replay: R,
}

/// Whether so much has been written since the last snapshot that another one is worth its while.
pub(super) fn is_due(last: Mark, now: Mark) -> bool {
    now.batches - last.batches >= SNAPSHOT_BATCHES || now.bytes - last.bytes >= SNAPSHOT_BYTES
}

/// Puts a snapshot in place of the one before, or gives up after [`WRITE_TIME_MAX`]; it may be put there later then, which does no harm.
///
/// # Errors
/// It can't be written. Nothing is lost by that.
pub(super) async fn write(
    store: &dyn Store,
    folder: &str,
    mark: Mark,
    replay: &Replay,
) -> Result<(), StateError> {
    let name = format!("{folder}/{NAME}");
    let place = store.place(&name);
    let sealed = document::seal(&Snapshot { mark, replay }, &place)?;
    let written = tokio::time::timeout(WRITE_TIME_MAX, store.replace(&name, sealed));
    written.await.unwrap_or_else(|_| {
        let slow = io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the store took more than {} s", WRITE_TIME_MAX.as_secs()),
        );
        Err(StateError::io("write", place, slow))
    })
}

/// The last snapshot of the job's journal in a folder; `None` where there is none that can be used.
///
/// # Errors
/// The store can't be read.
pub(super) async fn read(
    store: &dyn Store,
    folder: &str,
    job_id: &str,
) -> Result<Option<(Mark, Replay)>, StateError> {
    let name = format!("{folder}/{NAME}");
    let Some(sealed) = store.read(&name).await? else {
        return Ok(None);
    };
    match document::unseal::<Snapshot<Replay>>(&sealed, &store.place(&name)) {
        Ok(snapshot) if snapshot.replay.job_id == job_id => {
            Ok(Some((snapshot.mark, snapshot.replay)))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::warn!("{error}; the journal is read from its start instead");
            Ok(None)
        }
    }
}
