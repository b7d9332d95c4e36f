//! A journal as objects, one for each number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;

use super::{Home, is_there_already, none_where_missing, patiently};
use crate::journal::frame::{self, FRAME_HEADER_BYTES, HEADER_BYTES_MAX, Header};
use crate::journal::store::{Batch, Log, Mark};
use crate::journal::{FRAME_BYTES_MAX, StateError};
use crate::s3::{Listed, Page, PutBytes};

/// How long records are collected before they become an object. Each costs a PutObject ($0.000005 on AWS), so that a month of
/// them is 13 dollars; what a crash costs is that the rows of the last second are looked at again.
pub(super) const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Most batches that are asked for ahead of the one that is read: 4 MiB of frames of the largest size.
pub(super) const READ_AHEAD_MAX: usize = 16;

/// Digits of a number in a key: all of a `u64`'s, so that keys sort as numbers do.
const NUMBER_DIGITS: usize = 20;

/// The journal in a folder.
pub(super) struct S3Log {
    home: Arc<Home>,
    folder: String,
    place: String,
    header: Header,
    mark: Mark,
    tail: Tail,
}

/// What is behind the mark, as far as it is known.
#[derive(Default)]
struct Tail {
    /// Numbers that are listed and not asked for; those of one page at most.
    listed: VecDeque<u64>,
    /// The last number that was listed.
    listed_to: u64,
    /// Whether the listing has come to its end.
    is_listed: bool,
    /// Frames that are asked for, in the order of their numbers.
    ahead: FuturesOrdered<BoxFuture<'static, Result<Vec<u8>, StateError>>>,
    /// Whether [`S3Log::next`] has come to the end.
    is_read: bool,
}

impl Tail {
    fn behind(mark: Mark) -> Self {
        Self {
            listed_to: mark.batches,
            ..Self::default()
        }
    }
}

impl S3Log {
    /// The journal in a folder; `None` where there is none.
    pub(super) async fn find(home: Arc<Home>, folder: &str) -> Result<Option<Self>, StateError> {
        let name = name_of(folder, 0);
        let Some(bytes) = home.get(&name, HEADER_BYTES_MAX).await? else {
            return Ok(None);
        };
        let place = home.url(&name);
        let header = Header::parse(&place, &bytes)?;
        if header.bytes != bytes.len() as u64 {
            let problem = "bytes follow the header";
            return Err(StateError::damaged(&place, header.bytes, problem));
        }
        let mark = Mark {
            batches: 0,
            bytes: header.bytes,
        };
        Ok(Some(Self {
            place: home.url(&journal_of(folder)),
            folder: folder.to_owned(),
            home,
            header,
            mark,
            tail: Tail::behind(mark),
        }))
    }

    /// The journal in a folder, begun where there is none.
    pub(super) async fn open(
        home: Arc<Home>,
        folder: &str,
        job_id: &str,
    ) -> Result<Self, StateError> {
        let found = match Self::find(Arc::clone(&home), folder).await? {
            Some(log) => Some(log),
            None => {
                // Whoever else begins it meanwhile does no harm: what counts is what is there then.
                let name = name_of(folder, 0);
                home.create(&name, &frame::header(job_id)).await?;
                Self::find(Arc::clone(&home), folder).await?
            }
        };
        let place = home.url(&journal_of(folder));
        let log = found.ok_or_else(|| {
            StateError::damaged(&place, 0, "its header was written and is not there")
        })?;
        if log.job_id() == job_id {
            return Ok(log);
        }
        Err(StateError::OtherJob {
            place,
            found: log.header.job_id,
            wanted: job_id.to_owned(),
        })
    }

    /// The CRC of the header.
    pub(super) fn seed(&self) -> u32 {
        self.header.seed
    }

    fn name(&self, number: u64) -> String {
        name_of(&self.folder, number)
    }

    /// Something is wrong with the object of that number.
    fn damaged(&self, number: u64, problem: impl ToString) -> StateError {
        StateError::damaged(&self.home.url(&self.name(number)), 0, problem)
    }

    /// Lists what comes next.
    async fn list(&mut self) -> Result<(), StateError> {
        let page = page_after(&self.home, &self.folder, self.tail.listed_to).await?;
        for listed in &page.keys {
            let expected = self.tail.listed_to + 1;
            let number = number_in(&self.home, &self.folder, listed)?;
            if number != expected {
                let problem = format!("it is not there, though batch {number} is");
                return Err(self.damaged(expected, problem));
            }
            self.tail.listed.push_back(number);
            self.tail.listed_to = number;
        }
        self.tail.is_listed = !page.has_more;
        Ok(())
    }

    /// Asks for a batch that is listed.
    fn fetch(&self, number: u64) -> BoxFuture<'static, Result<Vec<u8>, StateError>> {
        let (home, name) = (Arc::clone(&self.home), self.name(number));
        Box::pin(async move {
            let bytes = home.get(&name, FRAME_BYTES_MAX as u64).await?;
            let gone = "it is listed and is not there";
            bytes.ok_or_else(|| StateError::damaged(&home.url(&name), 0, gone))
        })
    }

    /// The frame after the mark.
    async fn next_frame(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        if self.tail.is_read {
            // Somebody else has appended since. A listing of stores that are behind may not show it.
            let name = self.name(self.mark.batches + 1);
            return self.home.get(&name, FRAME_BYTES_MAX as u64).await;
        }
        while self.tail.ahead.len() < READ_AHEAD_MAX {
            match self.tail.listed.pop_front() {
                Some(number) => self.tail.ahead.push_back(self.fetch(number)),
                None if self.tail.is_listed => break,
                None => self.list().await?,
            }
        }
        let frame = self.tail.ahead.next().await.transpose()?;
        self.tail.is_read = frame.is_none();
        Ok(frame)
    }

    /// Counts a frame that was read or written.
    fn pass(&mut self, payload_len: usize) {
        self.mark.batches += 1;
        self.mark.bytes += (FRAME_HEADER_BYTES + payload_len) as u64;
    }
}

#[async_trait]
impl Log for S3Log {
    fn place(&self) -> &str {
        &self.place
    }

    fn job_id(&self) -> &str {
        &self.header.job_id
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn commit_interval(&self) -> Duration {
        COMMIT_INTERVAL
    }

    async fn skip_to(&mut self, mark: Mark) -> Result<(), StateError> {
        // The batch at the mark is the first that is listed: it is what the mark is of.
        let Some(before) = mark.batches.checked_sub(1) else {
            return Ok(());
        };
        self.tail = Tail::behind(Mark {
            batches: before,
            ..mark
        });
        self.list().await?;
        if self.tail.listed.pop_front() != Some(mark.batches) {
            return Err(self.damaged(mark.batches, "it is not there, though a snapshot counts it"));
        }
        self.mark = mark;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>, StateError> {
        let frame = match self.next_frame().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(error) => {
                // What was asked for behind it is asked for again.
                self.tail = Tail::behind(self.mark);
                return Err(error);
            }
        };
        let number = self.mark.batches + 1;
        let Some(payload) = frame::payload(self.header.seed, number, &frame) else {
            let problem = "it is not what was written as this batch of this journal: a length or a checksum is wrong";
            return Err(self.damaged(number, problem));
        };
        let batch = Batch {
            number,
            payload_at: self.mark.bytes + FRAME_HEADER_BYTES as u64,
            payload: payload.to_vec(),
        };
        self.pass(batch.payload.len());
        Ok(Some(batch))
    }

    fn mark(&self) -> Mark {
        self.mark
    }

    /// An object is there as a whole or not at all.
    fn torn_bytes(&self) -> u64 {
        0
    }

    async fn recover(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    async fn append(&mut self, payload: Vec<u8>) -> Result<bool, StateError> {
        let number = self.mark.batches + 1;
        let (name, frame) = (
            self.name(number),
            frame::frame(self.header.seed, number, &payload),
        );
        match self.home.put(&name, &frame, PutBytes::New).await {
            Ok(()) => {}
            Err(error) if is_there_already(&error) => {
                // An attempt before may have made it, and its answer got lost.
                let there = self.home.get_once(&name, FRAME_BYTES_MAX as u64).await;
                let there = there.or_else(none_where_missing);
                match there.map_err(|error| self.home.error("read", &name, error))? {
                    Some(there) if there == frame => {}
                    Some(_) => return Ok(false),
                    None => {
                        let problem =
                            "the store refused to make it because it is there, and it is not there";
                        return Err(self.damaged(number, problem));
                    }
                }
            }
            Err(error) => return Err(self.home.error("write", &name, error)),
        }
        self.pass(payload.len());
        Ok(true)
    }
}

/// When the journal in a folder was appended to last, in seconds since 1970; `None` where there is none. Numbers have no gaps, so
/// that its end is found without listing all of it: by steps that double, and then halve.
pub(super) async fn newest(home: &Home, folder: &str) -> Result<Option<i64>, StateError> {
    let before_all = format!("{}/", home.key(&journal_of(folder)));
    let mut page = list(home, folder, &before_all).await?;
    let Some(mut last) = page.keys.pop() else {
        return Ok(None);
    };
    let page_keys = u64::from(home.page_keys);
    let (mut has_more, mut step, mut doubles) = (page.has_more, page_keys, true);
    while has_more {
        let behind = if step < page_keys { 0 } else { step };
        let from = number_in(home, folder, &last)?;
        let mut page = page_after(home, folder, from.saturating_add(behind)).await?;
        match page.keys.pop() {
            Some(listed) => (last, has_more) = (listed, page.has_more),
            // There was something a moment ago.
            None if behind == 0 => break,
            None => doubles = false,
        }
        step = if doubles {
            step.saturating_mul(2)
        } else {
            step / 2
        };
    }
    Ok(last.last_modified)
}

fn journal_of(folder: &str) -> String {
    format!("{folder}/journal")
}

fn name_of(folder: &str, number: u64) -> String {
    format!("{}/{number:0NUMBER_DIGITS$}", journal_of(folder))
}

/// A page of the batches after a number.
async fn page_after(home: &Home, folder: &str, number: u64) -> Result<Page, StateError> {
    list(home, folder, &home.key(&name_of(folder, number))).await
}

/// A page of the objects of a journal after a key.
async fn list(home: &Home, folder: &str, after: &str) -> Result<Page, StateError> {
    let journal = journal_of(folder);
    let below = format!("{}/", home.key(&journal));
    patiently(|| {
        home.s3
            .keys_after(&home.bucket, &below, after, home.page_keys)
    })
    .await
    .map_err(|error| home.error("list", &journal, error))
}

/// The number that is an object's name.
fn number_in(home: &Home, folder: &str, listed: &Listed) -> Result<u64, StateError> {
    let below = format!("{}/", home.key(&journal_of(folder)));
    let digits = listed.key.strip_prefix(&below).unwrap_or_default();
    let number = Some(digits)
        .filter(|digits| {
            digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit())
        })
        .and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| {
        let place = format!("s3://{}/{}", home.bucket, listed.key);
        StateError::damaged(&place, 0, "it is among a journal's batches and is none")
    })
}
