//! What an object tells of the parts that it was uploaded in, and of its checksums.
//!
//! Nothing here has to be known: an object that does not tell gets parts and a checksum of our choice. Nor is it pinned here that it is
//! the object that was looked at: every part that is copied is.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::parts::PARTS_PER_OBJECT_MAX;
use crate::object::{ChecksumKind, Checksums, ObjectHead};
use crate::plan::{Layout, PARTS_MAX};
use crate::s3::Ask;
use crate::task::{Look, Stop, Task};

/// Most parts that are asked about one by one, where they are not all of one size. For an object whose checksum is made of its
/// parts' every part is asked about: it is the same again only with the same parts.
const ASKED_PARTS_MAX: u32 = 100;

/// What an object told.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Its parts, where it has some, and S3 takes them again.
    pub(super) layout: Option<Layout>,
    /// Its checksums, where it has some and they may be seen.
    pub(super) checksums: Checksums,
}

impl Task<'_, '_> {
    /// Asks for the object's checksums, which for one under a KMS key takes the right to decrypt; and for its parts, where the
    /// operator has not said how large they shall be.
    pub(super) async fn source(&self, look: &Look<'_>) -> Result<Source, Stop> {
        let mut checksums = look.head.checksums.clone();
        if !look.has_checksums {
            let head = self.ask_source(look, true, None).await?;
            checksums = head.map(|head| head.checksums).unwrap_or_default();
        }
        let is_composite = checksums.kind == Some(ChecksumKind::Composite);
        let layout = match self.ctx.settings.part_bytes {
            Some(_) => None,
            None => self.source_layout(look, is_composite).await?,
        };
        Ok(Source { layout, checksums })
    }

    async fn source_layout(
        &self,
        look: &Look<'_>,
        is_composite: bool,
    ) -> Result<Option<Layout>, Stop> {
        // The ETag of an object that was uploaded in parts ends in a dash and their number.
        if !look.head.etag.contains('-') {
            return Ok(None);
        }
        let size = look.head.size;
        let Some(first) = self.ask_source(look, false, Some(1)).await? else {
            return Ok(None);
        };
        let count = first.parts.unwrap_or(0);
        if let Some(layout) = Layout::evenly_of_source(size, count, first.size)
            && !is_composite
        {
            let part = layout.part(count);
            let last = self.ask_source(look, false, Some(count)).await?;
            if last.is_some_and(|last| last.size == part.end - part.start) {
                return Ok(Some(layout));
            }
        }
        let asked_max = if is_composite {
            PARTS_MAX
        } else {
            ASKED_PARTS_MAX
        };
        if !(1..=asked_max).contains(&count) {
            return Ok(None);
        }
        let sizes: Vec<_> = stream::iter(2..=count)
            .map(|number| self.ask_source(look, false, Some(number)))
            .buffered(PARTS_PER_OBJECT_MAX)
            .map_ok(|head| head.map(|head| head.size))
            .try_collect()
            .await?;
        let sizes: Option<Vec<_>> = std::iter::once(Some(first.size)).chain(sizes).collect();
        Ok(sizes.and_then(|sizes| Layout::of_source(size, &sizes)))
    }

    /// One look at what was looked at before; `None` where the store refuses, or it is not that any more.
    async fn ask_source(
        &self,
        look: &Look<'_>,
        checksums: bool,
        part: Option<u32>,
    ) -> Result<Option<ObjectHead>, Stop> {
        let ask = Ask {
            customer_key: look.key,
            checksums,
            part,
        };
        let object = self.version_of(look);
        let request = || self.ctx.s3.head(object, ask);
        let answer = self.ask(self.asked_to_head(checksums), request).await?;
        Ok(answer.ok().filter(|head| head.etag == look.head.etag))
    }
}
