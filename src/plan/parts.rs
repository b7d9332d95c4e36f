//! Into which parts an object is copied, and which checksum they shall have.

use std::ops::Range;

use crate::object::{ChecksumKind, Checksums};

/// Most parts of an upload. Source: S3 User Guide, "Amazon S3 multipart upload limits".
pub const PARTS_MAX: u32 = 10_000;
/// The largest part, in bytes. Source: the same.
pub const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// The smallest part but the last, in bytes. Source: the same.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Bytes of a part where neither the operator nor the object says: eleven parts at 5 GiB, enough of them to be copied side by side
/// and few enough that their requests cost little. Above 4.88 TiB, where these would be more than [`PARTS_MAX`], they grow.
pub const PART_BYTES_DEFAULT: u64 = 512 * 1024 * 1024;

/// Algorithms that S3 computes over a whole object out of its parts' checksums.
/// Source: S3 User Guide, "Checking object integrity", multipart uploads.
const FULL_OBJECT_ALGORITHMS: [&str; 3] = ["CRC64NVME", "CRC32", "CRC32C"];
/// The checksum of an object that has none which parts can have too: S3's own default.
const CHECKSUM_DEFAULT: &str = "CRC64NVME";

/// The parts of an object: without gap or overlap, from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    /// All of these bytes, but for the last.
    Even(u64),
    /// Where each ends: its last byte and one.
    Ends(Vec<u64>),
}

impl Layout {
    /// Parts of `part_bytes`, or as near to it as S3 takes. `size`: 1 byte to [`PARTS_MAX`] times [`PART_BYTES_MAX`].
    pub fn even(size: u64, part_bytes: u64) -> Self {
        let least = size.div_ceil(u64::from(PARTS_MAX)).max(PART_BYTES_MIN);
        let part_bytes = part_bytes.max(least).min(PART_BYTES_MAX);
        Self {
            size,
            parts: Parts::Even(part_bytes),
        }
    }

    /// The layout of an object of which the number of parts and the first one's size are known, if all but the last can be as
    /// large as the first.
    pub fn evenly_of_source(size: u64, count: u32, first: u64) -> Option<Self> {
        let fits = (1..=PARTS_MAX).contains(&count)
            && (PART_BYTES_MIN..=PART_BYTES_MAX).contains(&first)
            && size.div_ceil(first) == u64::from(count);
        // The only part is as small as it may be.
        let is_only = count == 1 && first == size && (1..=PART_BYTES_MAX).contains(&size);
        (fits || is_only).then_some(Self {
            size,
            parts: Parts::Even(first),
        })
    }

    /// The layout of an object all of whose parts are known, if S3 takes it again.
    pub fn of_source(size: u64, sizes: &[u64]) -> Option<Self> {
        let (_, all_but_last) = sizes.split_last()?;
        let taken = sizes.len() <= PARTS_MAX as usize
            && sizes
                .iter()
                .all(|bytes| (1..=PART_BYTES_MAX).contains(bytes))
            && all_but_last.iter().all(|bytes| *bytes >= PART_BYTES_MIN);
        let ends = sizes.iter().scan(0_u64, |end, bytes| {
            *end = end.checked_add(*bytes)?;
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        (taken && ends.last() == Some(&size)).then_some(Self {
            size,
            parts: Parts::Ends(ends),
        })
    }

    /// Bytes of all parts together.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many parts there are; their numbers begin at 1.
    pub fn count(&self) -> u32 {
        let count = match &self.parts {
            Parts::Even(bytes) => self.size.div_ceil(*bytes),
            Parts::Ends(ends) => ends.len() as u64,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The bytes of a part; empty where there is none of that number.
    pub fn part(&self, number: u32) -> Range<u64> {
        let Some(index) = number.checked_sub(1) else {
            return 0..0;
        };
        match &self.parts {
            Parts::Even(bytes) => {
                let first = u64::from(index).saturating_mul(*bytes).min(self.size);
                first..first.saturating_add(*bytes).min(self.size)
            }
            Parts::Ends(ends) => {
                let end = |index: usize| ends.get(index).copied().unwrap_or(self.size);
                let first = (index as usize).checked_sub(1).map_or(0, end);
                first..end(index as usize)
            }
        }
    }
}

/// The checksum that a copy in parts is given: of the object's own algorithm where it can have that, over the whole object
/// where the algorithm allows it, because then it can be held against the object's.
///
/// One over the parts' checksums is the same again only with the same parts. With others it would be another value for the same
/// bytes under the same name, which reads as damage: so an algorithm that is only made of parts gives way, then.
pub fn checksum_to_ask(source: &Checksums, same_parts: bool) -> (&str, ChecksumKind) {
    let Some(algorithm) = source.values.keys().next() else {
        return (CHECKSUM_DEFAULT, ChecksumKind::FullObject);
    };
    let is_composite = source.kind == Some(ChecksumKind::Composite);
    let whole = FULL_OBJECT_ALGORITHMS.contains(&algorithm.as_str());
    match (is_composite, same_parts) {
        (true, true) => (algorithm, ChecksumKind::Composite),
        (_, _) if whole => (algorithm, ChecksumKind::FullObject),
        (false, _) => (algorithm, ChecksumKind::Composite),
        (true, false) => (CHECKSUM_DEFAULT, ChecksumKind::FullObject),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;
    /// The largest object. Source: S3 User Guide, "Amazon S3 multipart upload limits": 48.8 TiB.
    const OBJECT_BYTES_MAX: u64 = PARTS_MAX as u64 * PART_BYTES_MAX;

    #[track_caller]
    fn assert_taken(layout: &Layout, size: u64) {
        let count = layout.count();
        assert!((1..=PARTS_MAX).contains(&count), "{count} parts");
        let mut reached = 0;
        for number in 1..=count {
            let part = layout.part(number);
            let bytes = part.end - part.start;
            assert_eq!(part.start, reached, "part {number}");
            assert!(
                bytes > 0 && bytes <= PART_BYTES_MAX,
                "part {number}: {bytes}"
            );
            assert!(
                bytes >= PART_BYTES_MIN || number == count,
                "part {number}: {bytes}"
            );
            reached = part.end;
        }
        assert_eq!((reached, layout.size()), (size, size));
        assert!(layout.part(count + 1).is_empty() && layout.part(0).is_empty());
    }

    #[test]
    fn parts_cover_an_object_at_every_limit() {
        let grows_at = u64::from(PARTS_MAX) * PART_BYTES_DEFAULT;
        for at in [
            1,
            PART_BYTES_MIN,
            PART_BYTES_DEFAULT,
            5 * GIB,
            grows_at,
            OBJECT_BYTES_MAX,
        ] {
            for size in [at - 1, at, at + 1] {
                if (1..=OBJECT_BYTES_MAX).contains(&size) {
                    for asked in [0, PART_BYTES_MIN, PART_BYTES_DEFAULT, 5 * GIB, u64::MAX] {
                        assert_taken(&Layout::even(size, asked), size);
                    }
                }
            }
        }
        assert_eq!(Layout::even(5 * GIB + 1, PART_BYTES_DEFAULT).count(), 11);
        assert_eq!(Layout::even(grows_at, PART_BYTES_DEFAULT).count(), 10_000);
    }

    #[test]
    fn a_layout_that_s3_does_not_take_is_nobodys() {
        let min = PART_BYTES_MIN;
        let takes = |sizes: &[u64]| Layout::of_source(sizes.iter().sum(), sizes).is_some();
        assert!(takes(&[min, min + 7, min, 1]) && takes(&[1]) && takes(&[5 * GIB, 5 * GIB]));
        assert!(!takes(&[]) && !takes(&[0]) && !takes(&[min - 1, min]) && !takes(&[min, 0]));
        assert!(!takes(&[5 * GIB + 1, min]) && !takes(&vec![min; 10_001]));
        assert_eq!(Layout::of_source(3 * min, &[min, min]), None);
        assert_eq!(Layout::of_source(min, &[min, u64::MAX, 1]), None);

        let even = |size, count, first| Layout::evenly_of_source(size, count, first).is_some();
        assert!(even(2 * min, 2, min) && even(2 * min + 1, 3, min) && even(7, 1, 7));
        assert!(!even(2 * min, 3, min) && !even(2 * min + 1, 2, min) && !even(9, 2, 7));
        assert!(!even(7, 0, 7) && !even(5 * GIB + 1, 1, 5 * GIB + 1) && !even(0, 0, 0));
    }

    proptest! {
        #[test]
        fn any_object_is_covered(size in 1..=OBJECT_BYTES_MAX, asked in 0..8 * GIB) {
            let layout = Layout::even(size, asked);
            assert_taken(&layout, size);
            let first = layout.part(1);
            let again = Layout::evenly_of_source(size, layout.count(), first.end - first.start);
            if layout.count() > 1 {
                prop_assert_eq!(again, Some(layout));
            }
        }

        #[test]
        fn any_parts_are_kept(mut sizes in proptest::collection::vec(PART_BYTES_MIN..=PART_BYTES_MAX, 0..200), last in 1..=PART_BYTES_MAX) {
            sizes.push(last);
            let size = sizes.iter().sum();
            let layout = Layout::of_source(size, &sizes).expect("S3 takes it");
            assert_taken(&layout, size);
            for (number, bytes) in (1..).zip(sizes) {
                let part = layout.part(number);
                prop_assert_eq!(part.end - part.start, bytes);
            }
        }
    }

    #[test]
    fn an_object_keeps_its_algorithm_where_the_value_can_be_told_apart() {
        use ChecksumKind::{Composite, FullObject};
        let of = |kind, algorithm: &str| Checksums {
            kind,
            values: [(algorithm.to_owned(), "value".to_owned())].into(),
        };
        for (kind, algorithm, same_parts, asked) in [
            (FullObject, "CRC32", false, ("CRC32", FullObject)),
            (FullObject, "CRC64NVME", true, ("CRC64NVME", FullObject)),
            (FullObject, "SHA256", false, ("SHA256", Composite)),
            (Composite, "SHA256", true, ("SHA256", Composite)),
            (Composite, "SHA256", false, ("CRC64NVME", FullObject)),
            (Composite, "CRC32C", true, ("CRC32C", Composite)),
            (Composite, "CRC32C", false, ("CRC32C", FullObject)),
        ] {
            let source = of(Some(kind), algorithm);
            assert_eq!(checksum_to_ask(&source, same_parts), asked, "{algorithm}");
        }
        let none = Checksums::default();
        assert_eq!(checksum_to_ask(&none, true), ("CRC64NVME", FullObject));
    }
}
