//! Evidence of a rewrite, in a record.

use super::{
    ARN_BYTES_MAX, Malformed, RECORD_BYTES_MAX, Records, method_number, put_text, put_varint,
};
use crate::checkpoint::{ETAG_BYTES_MAX, VERSION_ID_BYTES_MAX};
use crate::encryption::{Encryption, Mode};
use crate::evidence::{Rewritten, State, Told};
use crate::object::KEY_BYTES_MAX;
use crate::outcome::Method;

/// The longest name of a checksum's algorithm, the longest value of one, and the longest id of a request that are kept, in bytes. S3's
/// are a third of this at most.
const ALGORITHM_BYTES_MAX: usize = 32;
const CHECKSUM_BYTES_MAX: usize = 256;
const REQUEST_ID_BYTES_MAX: usize = 256;

/// The longest encoded state: two numbers of one byte, five texts with their lengths, a size.
const STATE_BYTES_MAX: usize = 2
    + 5 * 3
    + ARN_BYTES_MAX
    + ETAG_BYTES_MAX
    + VERSION_ID_BYTES_MAX
    + 10
    + ALGORITHM_BYTES_MAX
    + CHECKSUM_BYTES_MAX;
const _: () = assert!(
    1 + 10 + 3 + KEY_BYTES_MAX + 2 + 10 + 3 + REQUEST_ID_BYTES_MAX + 1 + 2 * STATE_BYTES_MAX
        <= RECORD_BYTES_MAX
);

pub(super) fn encode(rewritten: &Rewritten, payload: &mut Vec<u8>) {
    put_text(&rewritten.key, KEY_BYTES_MAX, payload);
    payload.push(
        rewritten
            .method
            .map_or(0, |method| 1 + method_number(method)),
    );
    payload.push(told_number(rewritten.told));
    put_varint(rewritten.at_ms.try_into().unwrap_or(0), payload);
    put_some(
        rewritten.request_id.as_deref(),
        REQUEST_ID_BYTES_MAX,
        payload,
    );
    encode_state(&rewritten.after, payload);
    payload.push(u8::from(rewritten.before.is_some()));
    if let Some(before) = &rewritten.before {
        encode_state(before, payload);
    }
}

pub(super) fn decode(records: &mut Records<'_>) -> Result<Rewritten, Malformed> {
    Ok(Rewritten {
        key: records.text(KEY_BYTES_MAX)?,
        method: match records.byte()? {
            0 => None,
            number => Some(
                Method::ALL
                    .into_iter()
                    .find(|method| method_number(*method) + 1 == number)
                    .ok_or(Malformed::Unknown(number))?,
            ),
        },
        told: {
            let number = records.byte()?;
            let told = Told::ALL.into_iter();
            let mut told = told.filter(|told| told_number(*told) == number);
            told.next().ok_or(Malformed::Unknown(number))?
        },
        at_ms: i64::try_from(records.varint()?)
            .map_err(|_| Malformed::Field("a time that is too late"))?,
        request_id: some(records, REQUEST_ID_BYTES_MAX)?,
        after: decode_state(records)?,
        before: match records.byte()? {
            0 => None,
            _ => Some(decode_state(records)?),
        },
    })
}

fn told_number(told: Told) -> u8 {
    match told {
        Told::Answer => 0,
        Told::Look => 1,
        Told::Interruption => 2,
    }
}

fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::NotSse => 1,
        Mode::SseS3 => 2,
        Mode::SseKms => 3,
        Mode::DsseKms => 4,
        Mode::SseC => 5,
    }
}

fn encode_state(state: &State, payload: &mut Vec<u8>) {
    let encryption = state.encryption.as_ref();
    payload.push(encryption.map_or(0, |encryption| mode_number(encryption.mode())));
    let bucket_key = matches!(
        encryption,
        Some(Encryption::SseKms {
            bucket_key: true,
            ..
        })
    );
    payload.push(u8::from(bucket_key));
    put_some(encryption.and_then(Encryption::key), ARN_BYTES_MAX, payload);
    put_some(state.etag.as_deref(), ETAG_BYTES_MAX, payload);
    put_some(state.version_id.as_deref(), VERSION_ID_BYTES_MAX, payload);
    put_varint(state.size.map_or(0, |size| size.saturating_add(1)), payload);
    let checksum = state.checksum.as_ref();
    let algorithm = checksum.map(|(algorithm, _)| algorithm.as_str());
    put_some(algorithm, ALGORITHM_BYTES_MAX, payload);
    put_some(
        checksum.map(|(_, value)| value.as_str()),
        CHECKSUM_BYTES_MAX,
        payload,
    );
}

fn decode_state(records: &mut Records<'_>) -> Result<State, Malformed> {
    let mode = records.byte()?;
    let bucket_key = records.byte()? != 0;
    let key = some(records, ARN_BYTES_MAX)?;
    let encryption = match mode {
        0 => None,
        1 => Some(Encryption::NotSse),
        2 => Some(Encryption::SseS3),
        3 => Some(Encryption::SseKms { key, bucket_key }),
        4 => Some(Encryption::DsseKms { key }),
        5 => key.map(|key_md5| Encryption::SseC { key_md5 }),
        mode => return Err(Malformed::Unknown(mode)),
    };
    Ok(State {
        encryption,
        etag: some(records, ETAG_BYTES_MAX)?,
        version_id: some(records, VERSION_ID_BYTES_MAX)?,
        size: records.varint()?.checked_sub(1),
        checksum: some(records, ALGORITHM_BYTES_MAX)?.zip(some(records, CHECKSUM_BYTES_MAX)?),
    })
}

/// A text that may be missing; one that is too long is.
fn put_some(text: Option<&str>, bytes_max: usize, payload: &mut Vec<u8>) {
    match text.filter(|text| text.len() <= bytes_max) {
        Some(text) => {
            put_varint(text.len() as u64 + 1, payload);
            payload.extend_from_slice(text.as_bytes());
        }
        None => payload.push(0),
    }
}

fn some(records: &mut Records<'_>, bytes_max: usize) -> Result<Option<String>, Malformed> {
    match records.varint()? {
        0 => Ok(None),
        length => records.text_of(length - 1, bytes_max).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Position, Record};
    use super::*;
    use crate::evidence::any;

    fn through(row: u64, rewritten: &Rewritten) -> Rewritten {
        let (mut row_before, mut payload) = (7, Vec::new());
        let rewritten = Box::new(rewritten.clone());
        super::super::encode(
            &Record::Rewritten { row, rewritten },
            &mut row_before,
            &mut payload,
        );
        let mut records = Records::new(
            &payload,
            Position {
                at: 0,
                row_before: 7,
            },
        );
        let record = records.next().expect("a record").expect("sound");
        assert!(records.next().is_none());
        match record {
            Record::Rewritten {
                row: found,
                rewritten,
            } if found == row => *rewritten,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read_back(row in any::<u64>(), rewritten in any::rewritten()) {
            prop_assert_eq!(through(row, &rewritten), rewritten);
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_none_and_not_another() {
        let long = |bytes: usize| Some("x".repeat(bytes));
        let sample = |bytes: usize| Rewritten {
            key: "k".to_owned(),
            method: Some(Method::Copy),
            told: Told::Answer,
            at_ms: 0,
            before: None,
            after: State {
                version_id: long(bytes),
                ..State::default()
            },
            request_id: None,
        };
        let kept = |bytes| through(0, &sample(bytes)).after.version_id;
        assert_eq!(kept(VERSION_ID_BYTES_MAX), long(VERSION_ID_BYTES_MAX));
        assert_eq!(kept(VERSION_ID_BYTES_MAX + 1), None);
    }
}
