//! Parquet's delta encodings, turned into the plain one.
//! Source: parquet-format, `Encodings.md`, "Delta Encoding", "Delta-length byte array" and "Delta Strings".

use super::super::cells::CELL_BYTES_MAX;

/// The most values of a page, and the most bytes that they have, plain.
const VALUES_MAX: u64 = 4 * 1024 * 1024;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a page is no such page.
const BROKEN: &str = "a page of deltas that is not whole";
const TOO_LARGE: &str = "a page of deltas that are too many, or too long";

/// Numbers of that width in bytes.
pub(super) fn numbers(mut bytes: &[u8], width: usize) -> Result<Vec<u8>, &'static str> {
    let numbers = take_numbers(&mut bytes)?;
    let plain = numbers.iter().flat_map(|number| {
        let all = number.to_le_bytes();
        all.into_iter().take(width)
    });
    Ok(plain.collect())
}

/// Texts, one after the other behind their lengths.
pub(super) fn texts(mut bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let lengths = take_numbers(&mut bytes)?;
    let mut plain = Vec::new();
    for length in lengths {
        let text = take(&mut bytes, length)?;
        push(&mut plain, text)?;
    }
    Ok(plain)
}

/// Texts that begin as the one before them does, for so many bytes.
pub(super) fn prefixed_texts(mut bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let prefixes = take_numbers(&mut bytes)?;
    let lengths = take_numbers(&mut bytes)?;
    if prefixes.len() != lengths.len() {
        return Err(BROKEN);
    }
    let (mut plain, mut before) = (Vec::new(), Vec::new());
    for (prefix, length) in prefixes.into_iter().zip(lengths) {
        let prefix = usize::try_from(prefix).map_err(|_| BROKEN)?;
        if prefix > before.len() {
            return Err(BROKEN);
        }
        before.truncate(prefix);
        before.extend_from_slice(take(&mut bytes, length)?);
        push(&mut plain, &before)?;
    }
    Ok(plain)
}

fn push(plain: &mut Vec<u8>, text: &[u8]) -> Result<(), &'static str> {
    let length = text.len();
    if length > CELL_BYTES_MAX || plain.len() + length > BYTES_MAX {
        return Err(TOO_LARGE);
    }
    plain.extend_from_slice(&(length as u32).to_le_bytes());
    plain.extend_from_slice(text);
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: i64) -> Result<&'a [u8], &'static str> {
    let length = usize::try_from(length).map_err(|_| BROKEN)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(BROKEN)?;
    *bytes = rest;
    Ok(taken)
}

/// Numbers, each as its distance from the one before it, in blocks of miniblocks with a width each.
fn take_numbers(bytes: &mut &[u8]) -> Result<Vec<i64>, &'static str> {
    let (block, miniblocks) = (varint(bytes)?, varint(bytes)?);
    let (count, first) = (varint(bytes)?, varint(bytes)?);
    if count > VALUES_MAX {
        return Err(TOO_LARGE);
    }
    let per_miniblock = block.checked_div(miniblocks).unwrap_or(0);
    // A multiple of 32 is asked for; eight numbers end on a byte.
    if miniblocks > block || per_miniblock % 8 != 0 || per_miniblock == 0 || block > VALUES_MAX {
        return Err(BROKEN);
    }
    let mut numbers = Vec::new();
    let mut number = unzigzag(first);
    if count > 0 {
        numbers.push(number);
    }
    while (numbers.len() as u64) < count {
        let least = unzigzag(varint(bytes)?);
        let widths = take(bytes, miniblocks as i64)?;
        for &width in widths {
            if numbers.len() as u64 == count {
                break;
            }
            if width > 64 {
                return Err(BROKEN);
            }
            let packed = take(bytes, (per_miniblock / 8 * u64::from(width)) as i64)?;
            let mut packed = packed.iter();
            let (mut held, mut bits) = (0_u128, 0_u32);
            for _ in 0..per_miniblock.min(count - numbers.len() as u64) {
                while bits < u32::from(width) {
                    held |= u128::from(*packed.next().ok_or(BROKEN)?) << bits;
                    bits += 8;
                }
                let mask = (1_u128 << width) - 1;
                let delta = (held & mask) as u64;
                held >>= width;
                bits -= u32::from(width);
                number = number.wrapping_add(least).wrapping_add(delta.cast_signed());
                numbers.push(number);
            }
        }
    }
    Ok(numbers)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(BROKEN)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BROKEN)
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
