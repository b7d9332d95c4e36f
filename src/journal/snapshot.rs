//! Snapshots: the fold of a journal up to a batch, so that reading it back does not begin at the first.
//!
//! A snapshot is a copy of what the journal says and nothing more. One that is damaged is left out and the journal read from its
//! start; one of an earlier batch only makes the tail longer. So it needs no care about who writes it last.

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

#[derive(Serialize, Deserialize)]
struct Snapshot<R> {
    mark: Mark,
    replay: R,
}

/// Whether so much has been written since the last snapshot that another one is worth its while.
pub(super) fn is_due(last: Mark, now: Mark) -> bool {
    now.batches - last.batches >= SNAPSHOT_BATCHES || now.bytes - last.bytes >= SNAPSHOT_BYTES
}

/// Puts a snapshot in place of the one before.
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
    let sealed = document::seal(&Snapshot { mark, replay }, &store.place(&name))?;
    store.replace(&name, sealed).await
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
