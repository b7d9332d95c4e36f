//! All keys of a bucket, or all its versions, listed by many at once: without being told where its keys are, each exactly once.
//!
//! ```text
//! Range ─cut where somebody is idle→ Ranges ─Ask→ page (permit, retries) ─checked→ Batch → whoever takes it
//! ```
//!
//! - `keys`: where a range is cut, and how much may be left of it. Guesses; pure.
//! - `ranges`: who lists what. Cutting is by giving away the end of a range, so ranges never overlap and never leave a gap; pure.
//! - `page`: whether a page is what was asked for. A store that keeps no order is told, and not believed; pure.
//! - `asking`: one request, with a permit of the budgets, until it is answered.
//!
//! What is written meanwhile is in the listing or not, as with S3's own; a key that is there all the time is in it once. Memory holds a page
//! for each range that is listed, and as many ranges are as may be on the wire.

mod asking;
mod keys;
mod page;
mod ranges;

use std::cell::RefCell;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

pub use asking::{Asker, Requests, Stop};
pub use page::{Disorder, Place};
use ranges::{Ask, Ranges};
pub use ranges::{Batch, Range};

use crate::limiter::Need;
use crate::s3::ListPage;
use crate::shutdown;

/// Rows of a page. Source: S3 API Reference, ListObjectsV2: 1,000 at most.
pub const PAGE_ROWS_MAX: u16 = 1_000;

/// What is listed.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The bucket.
    pub bucket: String,
    /// Its keys that begin with this.
    pub prefix: String,
    /// All versions and delete markers; else what is current.
    pub with_versions: bool,
    /// Rows of a page, at most [`PAGE_ROWS_MAX`].
    pub page_rows: u16,
}

/// Why a listing ended before its end.
#[derive(Debug)]
pub enum Ended<E> {
    /// The process was asked to stop.
    Drained,
    /// The store refuses, or is not there.
    Store(crate::s3_error::S3Error),
    /// The store's listing can't be relied on.
    Disorder(Disorder),
    /// Who takes the batches can't.
    Taker(E),
}

impl<E> From<Stop> for Ended<E> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Drained => Self::Drained,
            Stop::Store(error) => Self::Store(error),
        }
    }
}

/// Lists ranges, with so many at work at a time at most, and hands on what it finds, a page at a time. Ranges that are being listed are
/// told to `watch` with each page.
///
/// # Errors
/// Why not all of it was listed. What was taken stands.
pub async fn list<E>(
    asker: &Asker,
    scope: &Scope,
    ranges: Vec<Range>,
    lanes_max: usize,
    take: impl AsyncFn(Batch) -> Result<(), E>,
    watch: impl Fn(usize),
) -> Result<(), Ended<E>> {
    let ranges = Ranges::new(&scope.prefix, scope.with_versions, scope.page_rows, ranges);
    let ranges = RefCell::new(ranges);
    let mut lanes = FuturesUnordered::new();
    let mut shutdown = asker.shutdown();
    let one_page = async |ask: Ask| -> Result<(), Ended<E>> {
        let page = page_of(asker, scope, &ask).await?;
        let batch = ranges
            .borrow_mut()
            .take(&ask, page)
            .map_err(Ended::Disorder)?;
        watch(ranges.borrow().live());
        take(batch).await.map_err(Ended::Taker)?;
        ranges.borrow_mut().release(ask.range);
        Ok(())
    };
    let mut ended = None;
    loop {
        while ended.is_none() && lanes.len() < lanes_max {
            // Not in the condition: it would be borrowed as long as the lane begins.
            let ask = ranges.borrow_mut().next();
            let Some(ask) = ask else { break };
            lanes.push(Box::pin(one_page(ask)));
        }
        let done = tokio::select! {
            biased;
            () = shutdown::given_up(&mut shutdown) => return Err(Ended::Drained),
            done = lanes.next() => done,
        };
        match done {
            Some(Ok(())) => {}
            // The first is the one to tell; the others may still end what they have begun.
            Some(Err(why)) => ended = ended.or(Some(why)),
            None => break,
        }
        if asker.is_drained() {
            ended = ended.or(Some(Ended::Drained));
        }
    }
    debug_assert!(ended.is_some() || ranges.borrow().are_done());
    ended.map_or(Ok(()), Err)
}

async fn page_of(asker: &Asker, scope: &Scope, ask: &Ask) -> Result<ListPage, Stop> {
    let Scope {
        bucket,
        prefix,
        with_versions,
        page_rows,
    } = scope;
    let at = &ask.at;
    let need = Need::ABOUT_THE_BUCKET;
    if *with_versions {
        let version = at.version_id.as_deref();
        let page = || {
            asker
                .s3
                .list_versions(bucket, prefix, &at.key, version, *page_rows)
        };
        return asker.ask("ListObjectVersions", need, page).await;
    }
    let token = ask.token.as_deref();
    let page = || {
        asker
            .s3
            .list_objects(bucket, prefix, &at.key, token, *page_rows)
    };
    asker.ask("ListObjectsV2", need, page).await
}
