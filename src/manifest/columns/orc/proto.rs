//! Protocol Buffers, as far as ORC's own words need them.
//! Source: Protocol Buffers documentation, "Encoding"; ORC specification, "File Tail" and "Stripe Footer" (`orc_proto.proto`).

use super::super::RecordError;
use super::super::damaged;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width: none that is used.
    Other,
}

impl<'a> Field<'a> {
    pub(super) fn number(self) -> Result<u64, RecordError> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Other => Err(broken()),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], RecordError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Other => Err(broken()),
        }
    }

    pub(super) fn text(self) -> Result<String, RecordError> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| broken())?;
        Ok(text.to_owned())
    }

    /// Numbers that are packed, or one that is not.
    pub(super) fn numbers(self, into: &mut Vec<u64>) -> Result<(), RecordError> {
        match self {
            Self::Number(number) => into.push(number),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    into.push(varint(&mut bytes).ok_or_else(broken)?);
                }
            }
            Self::Other => return Err(broken()),
        }
        Ok(())
    }
}

/// The fields of a message, with their numbers.
pub(super) fn fields(
    mut message: &[u8],
) -> impl Iterator<Item = Result<(u64, Field<'_>), RecordError>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let field = next(&mut message);
        if field.is_none() {
            // The end, after the error.
            message = &[];
        }
        Some(field.ok_or_else(broken))
    })
}

fn broken() -> RecordError {
    damaged("its description is not whole")
}

fn next<'a>(message: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = varint(message)?;
    let mut take = |bytes: u64| {
        let (taken, rest) = message.split_at_checked(usize::try_from(bytes).ok()?)?;
        *message = rest;
        Some(taken)
    };
    let field = match key & 7 {
        0 => Field::Number(varint(message)?),
        1 => take(8).map(|_| Field::Other)?,
        2 => {
            let bytes = varint(message)?;
            let (taken, rest) = message.split_at_checked(usize::try_from(bytes).ok()?)?;
            *message = rest;
            Field::Bytes(taken)
        }
        5 => take(4).map(|_| Field::Other)?,
        _ => return None,
    };
    Some((key >> 3, field))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
