//! Runs of values: truth, bytes and numbers.
//! Source: ORC specification, "Run Length Encoding".

use super::super::{RecordError, damaged};
use super::stream::Stream;

/// Values that a run of numbers has at most: nine bits, and one.
const RUN_MAX: usize = 512;

/// Widths in bits by their codes, from 24 on; below that a code is its width less one.
const WIDE: [u32; 8] = [26, 28, 30, 32, 40, 48, 56, 64];

fn width_of(code: u8) -> u32 {
    let code = u32::from(code & 0x1f);
    let wide = code.checked_sub(24).and_then(|at| WIDE.get(at as usize));
    wide.copied().unwrap_or(code + 1)
}

/// The narrowest width that a code stands for and that has room for so many bits.
fn width_with_room(bits: u32) -> u32 {
    (0..32)
        .map(width_of)
        .find(|width| *width >= bits)
        .unwrap_or(64)
}

/// Bytes.
struct Bytes {
    stream: Stream,
    left: usize,
    /// The byte of a run; none where each has its own.
    same: Option<u8>,
}

impl Bytes {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            left: 0,
            same: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<u8, RecordError> {
        if self.left == 0 {
            let control = self.stream.byte()?.cast_signed();
            if control < 0 {
                self.left = usize::from(control.unsigned_abs());
                self.same = None;
            } else {
                self.left = control as usize + 3;
                self.same = Some(self.stream.byte()?);
            }
        }
        self.left -= 1;
        match self.same {
            Some(byte) => Ok(byte),
            None => self.stream.byte(),
        }
    }
}

/// Truth: eight in a byte, the first in its highest bit.
pub(super) struct Bits {
    bytes: Bytes,
    byte: u8,
    left: u32,
}

impl Bits {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            bytes: Bytes::new(stream),
            byte: 0,
            left: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<bool, RecordError> {
        if self.left == 0 {
            self.byte = self.bytes.next()?;
            self.left = 8;
        }
        self.left -= 1;
        Ok(self.byte >> self.left & 1 == 1)
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    /// The second version of runs.
    pub(super) second: bool,
    /// Whether numbers have a sign.
    pub(super) signed: bool,
}

/// Numbers.
pub(super) struct Numbers {
    stream: Stream,
    coding: Coding,
    run: Vec<i64>,
    /// Numbers of the run that are read.
    read: usize,
}

impl Numbers {
    pub(super) fn new(stream: Stream, coding: Coding) -> Self {
        Self {
            stream,
            coding,
            run: Vec::with_capacity(RUN_MAX),
            read: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<i64, RecordError> {
        if self.read == self.run.len() {
            self.run.clear();
            self.read = 0;
            if self.coding.second {
                self.second_version()?;
            } else {
                self.first_version()?;
            }
        }
        let number = self.run.get(self.read).copied();
        self.read += 1;
        number.ok_or_else(|| damaged("an empty run of numbers"))
    }

    fn first_version(&mut self) -> Result<(), RecordError> {
        let control = self.stream.byte()?.cast_signed();
        if control < 0 {
            for _ in 0..control.unsigned_abs() {
                let number = self.number()?;
                self.run.push(number);
            }
            return Ok(());
        }
        let step = i64::from(self.stream.byte()?.cast_signed());
        let mut number = self.number()?;
        for _ in 0..control as usize + 3 {
            self.run.push(number);
            number = number.wrapping_add(step);
        }
        Ok(())
    }

    fn second_version(&mut self) -> Result<(), RecordError> {
        let head = self.stream.byte()?;
        match head >> 6 {
            0 => self.short_repeat(head),
            1 => self.direct(head),
            2 => self.patched_base(head),
            _ => self.delta(head),
        }
    }

    fn short_repeat(&mut self, head: u8) -> Result<(), RecordError> {
        let value = self.big_endian(u32::from(head >> 3 & 7) + 1)?;
        let value = self.signed_or_not(value);
        for _ in 0..(head & 7) + 3 {
            self.run.push(value);
        }
        Ok(())
    }

    fn direct(&mut self, head: u8) -> Result<(), RecordError> {
        let length = self.length(head)?;
        let signed = self.coding.signed;
        self.packed(length, width_of(head >> 1), |number| {
            if signed {
                unzigzag(number)
            } else {
                number.cast_signed()
            }
        })
    }

    fn patched_base(&mut self, head: u8) -> Result<(), RecordError> {
        let (width, length) = (width_of(head >> 1), self.length(head)?);
        let (third, fourth) = (self.stream.byte()?, self.stream.byte()?);
        let base_bytes = u32::from(third >> 5) + 1;
        let patch_width = width_of(third);
        let gap_width = u32::from(fourth >> 5) + 1;
        let patches = usize::from(fourth & 0x1f);
        // The highest bit is the sign, the rest is the amount.
        let base = self.big_endian(base_bytes)?;
        let sign = 1 << (base_bytes * 8 - 1);
        let base = match base & sign {
            0 => base.cast_signed(),
            _ => (base & !sign).cast_signed().wrapping_neg(),
        };
        self.packed(length, width, u64::cast_signed)?;
        let numbers = std::mem::take(&mut self.run);
        if gap_width + patch_width > 64 {
            return Err(damaged("a patch that is too wide"));
        }
        self.packed(
            patches,
            width_with_room(gap_width + patch_width),
            u64::cast_signed,
        )?;
        let list = std::mem::replace(&mut self.run, numbers);
        let mut at = 0;
        for patch in list {
            let patch = patch.cast_unsigned();
            let mask = u64::MAX >> (64 - patch_width);
            at += (patch.checked_shr(patch_width).unwrap_or(0)) as usize;
            let number = self.run.get_mut(at);
            let number = number.ok_or_else(|| damaged("a patch of no number"))?;
            *number |= (patch & mask).checked_shl(width).unwrap_or(0).cast_signed();
        }
        for number in &mut self.run {
            *number = number.wrapping_add(base);
        }
        Ok(())
    }

    fn delta(&mut self, head: u8) -> Result<(), RecordError> {
        let length = self.length(head)?;
        // Code 0 is no width here: all steps are alike.
        let width = if head >> 1 & 0x1f == 0 {
            0
        } else {
            width_of(head >> 1)
        };
        let mut number = self.number()?;
        let step = unzigzag(self.varint()?);
        self.run.push(number);
        if length == 1 {
            return Ok(());
        }
        number = number.wrapping_add(step);
        self.run.push(number);
        if width == 0 {
            for _ in 2..length {
                number = number.wrapping_add(step);
                self.run.push(number);
            }
            return Ok(());
        }
        self.packed(length - 2, width, |delta| {
            let delta = delta.cast_signed();
            number = if step < 0 {
                number.wrapping_sub(delta)
            } else {
                number.wrapping_add(delta)
            };
            number
        })
    }

    /// The length of a run of the second version: a bit of the first byte, and the second.
    fn length(&mut self, head: u8) -> Result<usize, RecordError> {
        let low = self.stream.byte()?;
        Ok((usize::from(head & 1) << 8 | usize::from(low)) + 1)
    }

    /// Numbers of that width in bits, the first in the highest ones.
    fn packed(
        &mut self,
        numbers: usize,
        width: u32,
        mut made: impl FnMut(u64) -> i64,
    ) -> Result<(), RecordError> {
        let (mut held, mut bits) = (0_u128, 0);
        for _ in 0..numbers {
            while bits < width {
                held = held << 8 | u128::from(self.stream.byte()?);
                bits += 8;
            }
            bits -= width;
            let number = (held >> bits) as u64 & (u64::MAX >> (64 - width));
            self.run.push(made(number));
        }
        Ok(())
    }

    fn big_endian(&mut self, bytes: u32) -> Result<u64, RecordError> {
        let mut value = 0;
        for _ in 0..bytes {
            value = value << 8 | u64::from(self.stream.byte()?);
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.stream.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number without end"))
    }

    fn number(&mut self) -> Result<i64, RecordError> {
        let number = self.varint()?;
        Ok(self.signed_or_not(number))
    }

    fn signed_or_not(&self, number: u64) -> i64 {
        if self.coding.signed {
            unzigzag(number)
        } else {
            number.cast_signed()
        }
    }
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
