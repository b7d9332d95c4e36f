//! What has to be known of Thrift's compact protocol before a Parquet file's own words are given to a decoder: that a structure is
//! whole, that its lists are no longer than their bytes can be, that columns don't lie too deep, and how large a page is.
//! Source: Apache Thrift, "Thrift Compact protocol encoding"; parquet-format, `parquet.thrift`, `FileMetaData` and `PageHeader`.

/// The deepest nesting that is followed; Parquet's own is below ten.
const DEPTH_MAX: usize = 32;

/// The most columns, those that hold others among them.
const COLUMNS_MAX: u64 = 10_000;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// The sizes in a page's header, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageSizes {
    /// Of the header itself.
    pub(super) header: u64,
    /// Of the page as it lies there.
    pub(super) stored: u64,
    /// Of the page once it is decompressed.
    pub(super) unpacked: u64,
}

/// What a page's header says; `None` where these bytes are none, or not all of it.
pub(super) fn page_sizes(bytes: &[u8]) -> Option<PageSizes> {
    const KIND: i64 = 1;
    const INDEX_PAGE: i64 = 1;
    const UNPACKED: i64 = 2;
    const STORED: i64 = 3;
    let mut walk = Walk { rest: bytes };
    let mut sizes = PageSizes::default();
    let mut field = 0;
    while let Some(kind) = walk.field(&mut field)? {
        match (kind, field) {
            // Nobody has ever written one; a decoder would pass over it without a word.
            (I32, KIND) if walk.signed()? == INDEX_PAGE => return None,
            (I32, KIND) => {}
            (I32, UNPACKED) => sizes.unpacked = u64::try_from(walk.signed()?).ok()?,
            (I32, STORED) => sizes.stored = u64::try_from(walk.signed()?).ok()?,
            _ => walk.skip(kind, DEPTH_MAX)?,
        }
    }
    sizes.header = (bytes.len() - walk.rest.len()) as u64;
    Some(sizes)
}

/// Whether these bytes begin with the whole description of a file, whose columns are no more and no deeper than is usual.
pub(super) fn is_description(bytes: &[u8]) -> bool {
    const SCHEMA: i64 = 2;
    let mut walk = Walk { rest: bytes };
    let mut field = 0;
    let mut look = || {
        while let Some(kind) = walk.field(&mut field)? {
            match (kind, field) {
                (LIST, SCHEMA) => walk.schema()?,
                _ => walk.skip(kind, DEPTH_MAX)?,
            }
        }
        Some(())
    };
    look().is_some()
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The kind of the next field, whose id is put into `id`; the inner `None` is the end of the structure.
    fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = match head >> 4 {
            0 => self.signed()?,
            delta => id.checked_add(i64::from(delta))?,
        };
        Some(Some(head & 0x0f))
    }

    /// The tree of columns, each with the number of those in it, from the top down.
    fn schema(&mut self) -> Option<()> {
        const CHILDREN: i64 = 5;
        let elements = self.list_length()?;
        if elements > COLUMNS_MAX {
            return None;
        }
        // How many are still to come of each that is open.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..elements {
            let (mut field, mut children) = (0, 0);
            while let Some(kind) = self.field(&mut field)? {
                match (kind, field) {
                    (I32, CHILDREN) => children = self.signed()?,
                    _ => self.skip(kind, DEPTH_MAX)?,
                }
            }
            if !(0..=COLUMNS_MAX as i64).contains(&children) || open.len() > DEPTH_MAX {
                return None;
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            open.push(children);
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Some(())
    }

    fn list_length(&mut self) -> Option<u64> {
        let head = self.byte()?;
        match head >> 4 {
            15 => self.varint(),
            few => Some(u64::from(few)),
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let bytes = self.varint()?;
                self.pass(bytes)
            }
            LIST | SET => {
                let kind = *self.rest.first()? & 0x0f;
                let elements = self.list_length()?;
                self.skip_elements(elements, &[kind], depth)
            }
            MAP => match self.varint()? {
                0 => Some(()),
                entries => {
                    let kinds = self.byte()?;
                    self.skip_elements(entries, &[kinds >> 4, kinds & 0x0f], depth)
                }
            },
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Each element has a byte at least: more of them than bytes is a lie that a decoder might make room for.
    fn skip_elements(&mut self, elements: u64, kinds: &[u8], depth: usize) -> Option<()> {
        if elements > self.rest.len() as u64 {
            return None;
        }
        for _ in 0..elements {
            for kind in kinds {
                match *kind {
                    // In a list, truth takes a byte.
                    TRUE | FALSE => self.pass(1)?,
                    kind => self.skip(kind, depth)?,
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_tells_its_sizes_and_lies_are_not_believed() {
        // type = DATA_PAGE, uncompressed 300, compressed 2, data_page_header {num_values 1, …}, stop
        let header = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x04, 0x2c, 0x15, 0x02, 0x00, 0x00, 9,
        ];
        let sizes = page_sizes(&header).expect("whole");
        assert_eq!(
            sizes,
            PageSizes {
                header: 12,
                stored: 2,
                unpacked: 300
            }
        );
        for cut in 0..12 {
            assert_eq!(page_sizes(&header[..cut]), None, "{cut}");
        }
        // A negative size.
        assert_eq!(page_sizes(&[0x25, 0x01, 0x00]), None);
        // A list of 2^28 structures in no bytes, and nesting without end.
        assert!(!is_description(&[
            0x19, 0xfc, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00
        ]));
        assert!(!is_description(&[0x1c; 1_000]));
        assert!(is_description(&header));
    }

    #[test]
    fn columns_that_lie_too_deep_are_told_before_a_decoder_follows_them() {
        // version 1; a schema of so many elements, each with one in it but for the last.
        let of = |elements: u8| {
            let mut bytes = vec![0x15, 0x02, 0x19, 0xfc, elements];
            for left in (0..elements).rev() {
                // num_children; stop
                bytes.extend([0x55, if left == 0 { 0 } else { 2 }, 0x00]);
            }
            bytes.push(0);
            bytes
        };
        assert!(is_description(&of(20)));
        assert!(!is_description(&of(40)));
        // As many side by side.
        let mut flat = vec![0x19, 0xfc, 40, 0x55, 78, 0x00];
        flat.extend([0x00; 39]);
        flat.push(0);
        flat.insert(0, 0x02);
        flat.insert(0, 0x15);
        assert!(is_description(&flat));
        // More children than there can be.
        assert!(!is_description(&[
            0x15, 0x02, 0x19, 0x1c, 0x55, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x00
        ]));
    }
}
