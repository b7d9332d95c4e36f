//! A look that reads the object too, and holds its bytes against the checksum that the store keeps of them.

use super::asked::Asked;
use super::verify::{AHEAD_BYTES, Proof, paced};
use super::{Context, Look, Looked, Start, Stop, Task, Unsettled};
use crate::checksum::Hasher;
use crate::event::Operation;
use crate::object::{Compared, ManifestEntry, ObjectHead};
use crate::outcome::Failure;

/// An object, looked at and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadObject {
    /// The look.
    pub looked: Looked,
    /// What came of the reading; `None` where there was nothing to read. A refusal is a failure of the row.
    pub compared: Option<Result<Compared, Failure>>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// What an object is held against.
struct Stored {
    algorithm: String,
    value: String,
    /// Whether another value is no proof of damage: an ETag that is an MD5 on AWS may be anything elsewhere.
    is_doubtful: bool,
}

/// Looks at one version of a row's key and reads it back.
///
/// # Errors
/// As [`super::look_at_row`].
pub async fn read_row(
    ctx: &Context<'_>,
    entry: &ManifestEntry,
    version_id: Option<&str>,
) -> Result<ReadObject, Unsettled> {
    let mut task = Task::new(ctx, entry, Start::default());
    // It asks for checksums, then.
    task.proof = Proof::Read;
    let look = match task.look_at(version_id).await {
        Ok(look) => look,
        Err(stop) => {
            return Ok(ReadObject {
                looked: Looked::without(stop)?,
                compared: None,
                bytes: 0,
            });
        }
    };
    let compared = match task.compare_bytes(&look).await {
        Ok(compared) => Ok(compared),
        Err(Stop::Row(failure) | Stop::Wrong(failure)) => Err(failure),
        Err(Stop::Unsettled(why)) => return Err(why),
        Err(Stop::Skip(_)) => unreachable!("reading skips nothing"),
    };
    let is_read = matches!(&compared, Ok(compared) if *compared != Compared::Archived);
    Ok(ReadObject {
        bytes: if is_read { look.head.size } else { 0 },
        looked: Looked::of(look),
        compared: Some(compared),
    })
}

impl<'a> Task<'_, 'a> {
    async fn compare_bytes(&self, look: &Look<'a>) -> Result<Compared, Stop> {
        let head = &look.head;
        if head.archived {
            return Ok(Compared::Archived);
        }
        let stored = self.stored(head);
        let algorithm = stored.as_ref().map_or("MD5", |stored| &*stored.algorithm);
        let (ctx, object) = (self.ctx, self.version_of(look));
        let paid = head.size.min(AHEAD_BYTES);
        let request = async || {
            let mut hasher = Hasher::of(algorithm).expect("one that can be computed");
            let pace = paced(ctx.limiter, paid);
            let take = |chunk: &[u8]| hasher.update(chunk);
            let read = ctx
                .s3
                .read_into(object, look.key, Some(&head.etag), pace, take);
            read.await?;
            Ok(hasher)
        };
        let asked = Asked::from(Operation::GetObject)
            .reading(&head.encryption)
            .moving(paid);
        let hasher = self.ask(asked, request).await?;
        let hasher = hasher.map_err(|error| Stop::Row(error.to_failure()))?;
        let Some(stored) = stored else {
            return Ok(Compared::NothingToCompare);
        };
        let read = hasher.finish_base64();
        let is_same = read == stored.value;
        Ok(match (is_same, stored.is_doubtful) {
            (true, _) => Compared::Same(stored.algorithm),
            (false, true) => Compared::NothingToCompare,
            (false, false) => Compared::Differs {
                algorithm: stored.algorithm,
                stored: stored.value,
                read,
            },
        })
    }

    fn stored(&self, head: &ObjectHead) -> Option<Stored> {
        let known = head.checksums.of_whole();
        let mut known = known.filter(|(algorithm, _)| Hasher::of(algorithm).is_some());
        if let Some((algorithm, value)) = known.next() {
            return Some(Stored {
                algorithm: algorithm.to_owned(),
                value: value.to_owned(),
                is_doubtful: false,
            });
        }
        let value = base64_of_hex(head.md5_by_etag()?)?;
        Some(Stored {
            algorithm: "MD5".to_owned(),
            value,
            is_doubtful: !self.ctx.s3.is_aws(),
        })
    }
}

/// Hexadecimal digits as base64, which is how S3 writes checksums.
fn base64_of_hex(hex: &str) -> Option<String> {
    use base64::Engine as _;
    let digits = hex.as_bytes().chunks(2);
    let bytes: Option<Vec<_>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(base64::engine::general_purpose::STANDARD.encode(bytes?))
}
