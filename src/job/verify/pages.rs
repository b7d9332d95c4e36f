//! What a bucket lists, as rows in the order of its keys.

use std::cell::Cell;

use tokio::sync::mpsc;

use crate::error::Error;
use crate::job::survey::Survey;
use crate::listing::{self, Asker, Batch, Ended, Range, Scope};
use crate::object::{Known, ListedObject, ManifestEntry};
use crate::shutdown::Shutdown;

/// Pages that wait for the looks.
pub(super) const PAGES_MAX: usize = 16;
/// One page after the other, so that rows come in their order. The looks are slower: a thousand of them take a page's time only where a
/// thousand are on the wire.
const LANES: usize = 1;

/// Where the rows go.
pub(super) type Sender = mpsc::Sender<Result<Vec<ManifestEntry>, Error>>;

/// Lists into `rows`, a few pages ahead of the looks, until everything is listed, nobody wants more, or the process is asked to stop.
pub(super) async fn list(survey: &Survey, scope: &Scope, shutdown: Shutdown, rows: Sender) {
    let (s3, limiter, stall) = (&survey.s3, &survey.limiter, &survey.stall);
    let asker = Asker::new(s3.clone(), limiter.clone(), stall.clone(), shutdown);
    let next = Cell::new(0);
    let take = async |batch: Batch| {
        let entries = batch.rows.into_iter().map(|listed| {
            let row = next.replace(next.get() + 1);
            entry_of(row, listed)
        });
        rows.send(Ok(entries.collect())).await.map_err(|_| ())
    };
    let ranges = vec![Range::whole()];
    let error = match listing::list(&asker, scope, ranges, LANES, take, |_| ()).await {
        Ok(()) | Err(Ended::Drained | Ended::Taker(())) => return,
        Err(Ended::Store(error)) => error.into(),
        Err(Ended::Disorder(disorder)) => disorder.into(),
    };
    // Nobody may be there any more; then nobody needs to know.
    let _ = rows.send(Err(error)).await;
}

fn entry_of(row: u64, listed: ListedObject) -> ManifestEntry {
    ManifestEntry {
        row,
        key: listed.key,
        version_id: listed.version_id,
        known: Known {
            is_latest: Some(listed.is_latest),
            is_delete_marker: listed.is_delete_marker,
            ..Known::default()
        },
    }
}
