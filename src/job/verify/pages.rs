//! What a bucket lists, as rows: one page after the other.

use tokio::sync::mpsc;

use crate::engine::Rows;
use crate::error::Error;
use crate::event::Operation;
use crate::job::source::patiently;
use crate::job::survey::Survey;
use crate::object::{Known, ListedObject, ManifestEntry};
use crate::s3::{ListPage, S3};
use crate::s3_error::S3Error;
use crate::stall::Stall;

/// Rows of a page of a listing. Source: S3 API Reference, ListObjectVersions: up to 1,000.
const PAGE_ROWS: u16 = 1_000;
/// Pages that wait for the looks.
const PAGES_MAX: usize = 16;

/// What the bucket lists, a few pages ahead of the looks: one page after the other.
pub(super) fn list(survey: &Survey, bucket: String, prefix: String, all_versions: bool) -> Rows {
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
        known: Known {
            is_latest: Some(listed.is_latest),
            is_delete_marker: listed.is_delete_marker,
            ..Known::default()
        },
    }
}
