//! Records, and how they lie in a frame's payload.
//!
//! A record is a tag byte and its fields. Numbers are varints (LEB128: seven bits a byte, lowest first); strings are
//! their length and UTF-8. A row is written as the difference from the last row before it in the same frame (0 at the
//! frame's start), zigzag: rows settle almost in order, so it is mostly one byte.
//!
//! ```text
//! 0x01         reserved      up_to
//! 0x02         key resolved  arn
//! 0x03         epoch         runner
//! 0x04         limited by    number of the limit, 0 for none
//! 0x10 + m     succeeded by method m     row difference · bytes
//! 0x20 + r     skipped for reason r      row difference
//! 0x40         failed                    row difference · HTTP status · code · message
//! 0x50         upload created            row difference · upload id · ETag
//! 0x51         restack begun             row difference · number of versions · version ids
//! 0x52         superseding               row difference · version id
//! 0x53         updating                  row difference · version id
//! 0x60         rewritten                 row difference · key · method, 1 more than above or 0 · how it is known · time · request id ·
//!                                        state after · whether there is a state before · state before
//! ```
//!
//! A state is: mode (0 where it is not known) · bucket key · key · ETag · version id · size, 1 more or 0 · checksum's algorithm · its value.
//! What may be missing is a text's length and 1, then the text; 0 for none, and for one that is longer than its bound: a part of it
//! would name something else.
//!
//! ```text
//! ```
//!
//! Tags and the numbers of methods and reasons are on disks: they are never given a second meaning. There is no tag 0, so a
//! run of zeros is no record.

mod evidence;

use crate::checkpoint::{
    Checkpoint, ETAG_BYTES_MAX, UPLOAD_ID_BYTES_MAX, VERSION_ID_BYTES_MAX, VERSIONS_BYTES_MAX,
    VERSIONS_MAX,
};
use crate::event::Limit;
use crate::evidence::Rewritten;
use crate::outcome::{Failure, Method, SkipReason, TaskOutcome};

/// The longest error code that is kept, in bytes; what is beyond it is cut off. S3's longest is half of this.
pub const CODE_BYTES_MAX: usize = 128;

/// The longest error message that is kept, in bytes; what is beyond it is cut off.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// The longest key ARN that is kept, in bytes. A longer one is not recorded at all, since a part of it would name another
/// key; a resume then asks the store again. Source: KMS API Reference, `KeyId`: "Maximum length of 2048".
pub const ARN_BYTES_MAX: usize = 2048;

/// The longest encoded outcome: tag, row, status, and two strings with their lengths.
pub(super) const OUTCOME_BYTES_MAX: usize = 1 + 10 + 3 + 2 + CODE_BYTES_MAX + 2 + MESSAGE_BYTES_MAX;

/// The longest encoded record: that of a restack, which is tag, row, number, and the ids with their lengths.
pub(super) const RECORD_BYTES_MAX: usize = 1 + 10 + 2 + 2 * VERSIONS_MAX + VERSIONS_BYTES_MAX;
const _: () = assert!(OUTCOME_BYTES_MAX <= RECORD_BYTES_MAX);
const _: () = assert!(1 + 2 + ARN_BYTES_MAX <= RECORD_BYTES_MAX);
const _: () = assert!(1 + 10 + 2 + UPLOAD_ID_BYTES_MAX + 2 + ETAG_BYTES_MAX <= RECORD_BYTES_MAX);

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Rows below `up_to` may have been started. Those of them that are not settled after a crash are doubtful: they
    /// are looked at before anything is done to them.
    Reserved {
        /// The first row that is not reserved.
        up_to: u64,
    },
    /// A row has ended. A row settles once; if the journal says it twice, the first one counts.
    Settled {
        /// The row.
        row: u64,
        /// How it ended.
        outcome: TaskOutcome,
    },
    /// A runner has taken the state over, or is still the one that has.
    Epoch {
        /// A number that it has drawn, and nobody else.
        runner: u64,
    },
    /// The store has told which key the target's key id stands for.
    KeyResolved {
        /// The key's ARN.
        arn: String,
    },
    /// What holds the run for the moment, for whoever asks how it stands.
    LimitedBy {
        /// The limit; none where requests hardly wait.
        limit: Option<Limit>,
    },
    /// Evidence of a rewrite, before the outcome of its row.
    Rewritten {
        /// The row.
        row: u64,
        /// What was seen.
        rewritten: Box<Rewritten>,
    },
    /// A row that has no outcome yet leaves word of what it is about to do. One that is not
    /// [within its bounds](Checkpoint::is_within_bounds) is not recorded.
    Checkpoint {
        /// The row.
        row: u64,
        /// How far it has come.
        checkpoint: Checkpoint,
    },
}

impl Record {
    /// Whether somebody does not go on before it is durable.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self, Self::Reserved { .. } | Self::Checkpoint { .. })
    }
}

const RESERVED: u8 = 0x01;
const KEY_RESOLVED: u8 = 0x02;
const EPOCH: u8 = 0x03;
const LIMITED_BY: u8 = 0x04;
const SUCCEEDED: u8 = 0x10;
const SKIPPED: u8 = 0x20;
const FAILED: u8 = 0x40;
const UPLOAD: u8 = 0x50;
const RESTACK: u8 = 0x51;
const SUPERSEDING: u8 = 0x52;
const UPDATING: u8 = 0x53;
const REWRITTEN: u8 = 0x60;

/// The method's number on disk, below 16.
fn method_number(method: Method) -> u8 {
    match method {
        Method::Copy => 0,
        Method::Update => 1,
        Method::MultipartCopy => 2,
        Method::Restack => 3,
    }
}

/// The reason's number on disk, below 32.
fn reason_number(reason: SkipReason) -> u8 {
    match reason {
        SkipReason::AlreadyEncrypted => 0,
        SkipReason::DoneBeforeInterruption => 1,
        SkipReason::DeleteMarker => 2,
        SkipReason::Filtered => 3,
    }
}

/// The limit's number on disk, from 1 on.
fn limit_number(limit: Limit) -> u64 {
    match limit {
        Limit::Rate => 1,
        Limit::RequestRate => 2,
        Limit::Bandwidth => 3,
        Limit::PrefixRate => 4,
        Limit::KmsRate => 5,
        Limit::Concurrency => 6,
        Limit::RampUp => 7,
        Limit::S3Throttling => 8,
        Limit::PrefixThrottling => 9,
        Limit::KmsThrottling => 10,
        Limit::StoreOverload => 11,
        Limit::Paused => 12,
        Limit::ThrottleFile => 13,
        Limit::ThrottleUrl => 14,
    }
}

/// Appends a record to a frame's payload. `row_before` is the frame's running row: 0 for an empty payload.
pub(super) fn encode(record: &Record, row_before: &mut u64, payload: &mut Vec<u8>) {
    match record {
        Record::Reserved { up_to } => {
            payload.push(RESERVED);
            put_varint(*up_to, payload);
        }
        Record::Epoch { runner } => {
            payload.push(EPOCH);
            put_varint(*runner, payload);
        }
        Record::LimitedBy { limit } => {
            payload.push(LIMITED_BY);
            put_varint(limit.map_or(0, limit_number), payload);
        }
        Record::KeyResolved { arn } => {
            if arn.len() <= ARN_BYTES_MAX {
                payload.push(KEY_RESOLVED);
                put_text(arn, ARN_BYTES_MAX, payload);
            }
        }
        Record::Settled { row, outcome } => {
            payload.push(match outcome {
                TaskOutcome::Succeeded { method, .. } => SUCCEEDED + method_number(*method),
                TaskOutcome::Skipped(reason) => SKIPPED + reason_number(*reason),
                TaskOutcome::Failed(_) => FAILED,
            });
            put_row(*row, row_before, payload);
            match outcome {
                TaskOutcome::Succeeded { bytes, .. } => put_varint(*bytes, payload),
                TaskOutcome::Skipped(_) => {}
                TaskOutcome::Failed(failure) => {
                    put_varint(failure.http_status.into(), payload);
                    put_text(&failure.code, CODE_BYTES_MAX, payload);
                    put_text(&failure.message, MESSAGE_BYTES_MAX, payload);
                }
            }
        }
        Record::Rewritten { row, rewritten } => {
            payload.push(REWRITTEN);
            put_row(*row, row_before, payload);
            evidence::encode(rewritten, payload);
        }
        Record::Checkpoint { row, checkpoint } => {
            if checkpoint.is_within_bounds() {
                encode_checkpoint(*row, checkpoint, row_before, payload);
            }
        }
    }
}

fn encode_checkpoint(
    row: u64,
    checkpoint: &Checkpoint,
    row_before: &mut u64,
    payload: &mut Vec<u8>,
) {
    payload.push(match checkpoint {
        Checkpoint::Upload { .. } => UPLOAD,
        Checkpoint::Restack { .. } => RESTACK,
        Checkpoint::Superseding { .. } => SUPERSEDING,
        Checkpoint::Updating { .. } => UPDATING,
    });
    put_row(row, row_before, payload);
    match checkpoint {
        Checkpoint::Upload {
            upload_id,
            etag,
            sent,
        } => {
            put_text(upload_id, UPLOAD_ID_BYTES_MAX, payload);
            put_text(etag, ETAG_BYTES_MAX, payload);
            put_varint(*sent, payload);
        }
        Checkpoint::Restack { versions } => {
            put_varint(versions.len() as u64, payload);
            for id in versions {
                put_text(id, VERSION_ID_BYTES_MAX, payload);
            }
        }
        Checkpoint::Superseding { version_id } | Checkpoint::Updating { version_id } => {
            put_text(version_id, VERSION_ID_BYTES_MAX, payload);
        }
    }
}

fn put_row(row: u64, row_before: &mut u64, payload: &mut Vec<u8>) {
    put_varint(zigzag(row.wrapping_sub(*row_before)), payload);
    *row_before = row;
}

/// A difference of rows, modulo 2⁶⁴, with the small ones of either sign made small numbers.
fn zigzag(difference: u64) -> u64 {
    let signed = difference.cast_signed();
    ((signed << 1) ^ (signed >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put_varint(mut number: u64, payload: &mut Vec<u8>) {
    while number >= 0x80 {
        payload.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    payload.push(number as u8);
}

/// Writes as much of `text` as fits in `bytes_max`, whole characters only.
fn put_text(text: &str, bytes_max: usize, payload: &mut Vec<u8>) {
    let kept = &text[..text.floor_char_boundary(bytes_max)];
    put_varint(kept.len() as u64, payload);
    payload.extend_from_slice(kept.as_bytes());
}

/// Why bytes that passed their CRC are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A tag, method or reason that this version does not know.
    Unknown(u8),
    /// A field that ends too early or is not what it must be.
    Field(&'static str),
}

/// How far a payload has been read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// Where in the payload the next record begins.
    pub(super) at: usize,
    row_before: u64,
}

/// The records of a payload, in order. It ends after the first error.
pub(super) struct Records<'a> {
    payload: &'a [u8],
    at: usize,
    row_before: u64,
}

impl<'a> Records<'a> {
    /// Begins, or goes on, at a position.
    pub(super) fn new(payload: &'a [u8], Position { at, row_before }: Position) -> Self {
        Self {
            payload,
            at,
            row_before,
        }
    }

    pub(super) fn reached(&self) -> Position {
        Position {
            at: self.at,
            row_before: self.row_before,
        }
    }

    fn decode(&mut self) -> Result<Record, Malformed> {
        let tag = self.byte()?;
        match tag {
            RESERVED => Ok(Record::Reserved {
                up_to: self.varint()?,
            }),
            EPOCH => Ok(Record::Epoch {
                runner: self.varint()?,
            }),
            LIMITED_BY => {
                let number = self.varint()?;
                let has_it = |limit: &Limit| limit_number(*limit) == number;
                // One that this version does not know is none that it could name.
                let limit = Limit::ALL.into_iter().find(has_it);
                Ok(Record::LimitedBy { limit })
            }
            KEY_RESOLVED => Ok(Record::KeyResolved {
                arn: self.text(ARN_BYTES_MAX)?,
            }),
            REWRITTEN => Ok(Record::Rewritten {
                row: self.row()?,
                rewritten: Box::new(evidence::decode(self)?),
            }),
            UPLOAD | RESTACK | SUPERSEDING | UPDATING => {
                let row = self.row()?;
                let checkpoint = self.checkpoint(tag)?;
                Ok(Record::Checkpoint { row, checkpoint })
            }
            _ => {
                let outcome_of = outcome_decoder(tag).ok_or(Malformed::Unknown(tag))?;
                let row = self.row()?;
                let outcome = self.outcome(outcome_of)?;
                Ok(Record::Settled { row, outcome })
            }
        }
    }

    fn row(&mut self) -> Result<u64, Malformed> {
        let row = self.row_before.wrapping_add(unzigzag(self.varint()?));
        self.row_before = row;
        Ok(row)
    }

    fn checkpoint(&mut self, tag: u8) -> Result<Checkpoint, Malformed> {
        Ok(match tag {
            UPLOAD => Checkpoint::Upload {
                upload_id: self.text(UPLOAD_ID_BYTES_MAX)?,
                etag: self.text(ETAG_BYTES_MAX)?,
                sent: self.varint()?,
            },
            RESTACK => {
                let number = self.varint()?;
                if number > VERSIONS_MAX as u64 {
                    return Err(Malformed::Field("more versions than a key may have"));
                }
                let ids = (0..number).map(|_| self.text(VERSION_ID_BYTES_MAX));
                Checkpoint::Restack {
                    versions: ids.collect::<Result<_, _>>()?,
                }
            }
            SUPERSEDING => Checkpoint::Superseding {
                version_id: self.text(VERSION_ID_BYTES_MAX)?,
            },
            UPDATING => Checkpoint::Updating {
                version_id: self.text(VERSION_ID_BYTES_MAX)?,
            },
            _ => return Err(Malformed::Unknown(tag)),
        })
    }

    fn outcome(&mut self, kind: OutcomeKind) -> Result<TaskOutcome, Malformed> {
        Ok(match kind {
            OutcomeKind::Succeeded(method) => TaskOutcome::Succeeded {
                method,
                bytes: self.varint()?,
            },
            OutcomeKind::Skipped(reason) => TaskOutcome::Skipped(reason),
            OutcomeKind::Failed => TaskOutcome::Failed(Failure {
                http_status: u16::try_from(self.varint()?)
                    .map_err(|_| Malformed::Field("an HTTP status that is too large"))?,
                code: self.text(CODE_BYTES_MAX)?,
                message: self.text(MESSAGE_BYTES_MAX)?,
            }),
        })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self
            .payload
            .get(self.at)
            .ok_or(Malformed::Field("a record that ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Field("a number that is too large"))
    }

    fn text(&mut self, bytes_max: usize) -> Result<String, Malformed> {
        let len = self.varint()?;
        self.text_of(len, bytes_max)
    }

    fn text_of(&mut self, len: u64, bytes_max: usize) -> Result<String, Malformed> {
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= bytes_max)
            .ok_or(Malformed::Field("a text that is too long"))?;
        let bytes = self
            .payload
            .get(self.at..self.at + len)
            .ok_or(Malformed::Field("a text that ends too early"))?;
        self.at += len;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Field("a text that is not UTF-8"))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let record = self.decode();
        if record.is_err() {
            self.at = self.payload.len();
        }
        Some(record)
    }
}

#[derive(Clone, Copy)]
enum OutcomeKind {
    Succeeded(Method),
    Skipped(SkipReason),
    Failed,
}

fn outcome_decoder(tag: u8) -> Option<OutcomeKind> {
    if tag == FAILED {
        return Some(OutcomeKind::Failed);
    }
    let methods = Method::ALL.into_iter().map(|method| {
        (
            SUCCEEDED + method_number(method),
            OutcomeKind::Succeeded(method),
        )
    });
    let reasons = SkipReason::ALL.into_iter().map(|reason| {
        (
            SKIPPED + reason_number(reason),
            OutcomeKind::Skipped(reason),
        )
    });
    methods
        .chain(reasons)
        .find_map(|(known, kind)| (known == tag).then_some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reread(record: &Record) -> Vec<Record> {
        let mut payload = Vec::new();
        encode(record, &mut 0, &mut payload);
        assert!(payload.len() <= RECORD_BYTES_MAX, "{} bytes", payload.len());
        Records::new(&payload, Position::default())
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        // An odd byte before two-byte characters: both limits fall inside one.
        let text = format!("x{}", "é".repeat(2_000));
        let outcome = TaskOutcome::Failed(Failure {
            code: text.clone(),
            http_status: u16::MAX,
            message: text.clone(),
        });
        let row = u64::MAX;
        let cut = TaskOutcome::Failed(Failure {
            code: text[..CODE_BYTES_MAX - 1].to_owned(),
            http_status: u16::MAX,
            message: text[..MESSAGE_BYTES_MAX - 1].to_owned(),
        });
        assert_eq!(
            reread(&Record::Settled { row, outcome }),
            [Record::Settled { row, outcome: cut }]
        );
    }

    #[test]
    fn half_a_key_arn_is_never_recorded() {
        let arn = "a".repeat(ARN_BYTES_MAX);
        let longer = format!("{arn}a");
        let kept = Record::KeyResolved { arn };
        assert_eq!(reread(&kept), [kept]);
        assert_eq!(reread(&Record::KeyResolved { arn: longer }), []);
    }

    #[test]
    fn the_longest_checkpoints_fit_and_longer_ones_are_never_recorded() {
        let checkpoint = |checkpoint| Record::Checkpoint {
            row: u64::MAX,
            checkpoint,
        };
        let upload = |id: usize, etag: usize| {
            checkpoint(Checkpoint::Upload {
                upload_id: "u".repeat(id),
                etag: "e".repeat(etag),
                sent: u64::MAX,
            })
        };
        let restack = |number: usize, bytes: usize| {
            checkpoint(Checkpoint::Restack {
                versions: vec!["v".repeat(bytes); number],
            })
        };
        let superseding = |bytes: usize| {
            checkpoint(Checkpoint::Superseding {
                version_id: "v".repeat(bytes),
            })
        };
        let each = VERSIONS_BYTES_MAX / VERSIONS_MAX;
        for kept in [
            upload(UPLOAD_ID_BYTES_MAX, ETAG_BYTES_MAX),
            restack(VERSIONS_MAX, each),
            restack(
                VERSIONS_BYTES_MAX / VERSION_ID_BYTES_MAX,
                VERSION_ID_BYTES_MAX,
            ),
            restack(0, 0),
            superseding(VERSION_ID_BYTES_MAX),
        ] {
            assert_eq!(reread(&kept), [kept]);
        }
        for dropped in [
            upload(UPLOAD_ID_BYTES_MAX + 1, 0),
            upload(0, ETAG_BYTES_MAX + 1),
            restack(VERSIONS_MAX + 1, 1),
            restack(VERSIONS_MAX, each + 1),
            restack(1, VERSION_ID_BYTES_MAX + 1),
            superseding(VERSION_ID_BYTES_MAX + 1),
        ] {
            assert_eq!(reread(&dropped), [], "{:.100}", format!("{dropped:?}"));
        }
    }

    /// As the rest of the format is pinned in the journal's own tests.
    #[test]
    fn the_format_of_checkpoints_is_pinned() {
        let (mut payload, mut row_before) = (Vec::new(), 7);
        let upload = Checkpoint::Upload {
            upload_id: "up".to_owned(),
            etag: "\"e\"".to_owned(),
            sent: 1,
        };
        let restack = Checkpoint::Restack {
            versions: vec!["null".to_owned(), "v".to_owned()],
        };
        let superseding = Checkpoint::Superseding {
            version_id: "v".to_owned(),
        };
        let updating = Checkpoint::Updating {
            version_id: "v".to_owned(),
        };
        for (row, checkpoint) in [(8, upload), (7, restack), (7, superseding), (8, updating)] {
            let record = Record::Checkpoint { row, checkpoint };
            encode(&record, &mut row_before, &mut payload);
        }
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            "50020275700322652201",
            "510102046e756c6c0176",
            "52000176",
            "53020176",
        ];
        assert_eq!(hex, parts.concat());
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let cases: [&[u8]; 9] = [
            &[RESERVED],
            &[RESERVED, 0x80],
            // 2⁶⁴, and a varint without an end.
            &[
                RESERVED, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02,
            ],
            &[
                RESERVED, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[KEY_RESOLVED, 3, b'a', b'b'],
            &[KEY_RESOLVED, 2, 0xc3, 0x28],
            &[FAILED, 0, 0x80, 0x80, 0x04, 0, 0],
            // 1,001 versions, and fewer ids than were promised.
            &[RESTACK, 0, 0xe9, 0x07, 0],
            &[RESTACK, 0, 2, 1, b'v'],
        ];
        for bytes in cases {
            let read: Vec<_> = Records::new(bytes, Position::default()).collect();
            assert!(
                matches!(read[..], [Err(Malformed::Field(_))]),
                "{bytes:x?}: {read:?}"
            );
        }
        let greatest = Record::Reserved { up_to: u64::MAX };
        assert_eq!(reread(&greatest), [greatest]);
    }
}
