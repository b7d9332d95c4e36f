use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;
use crate::local_s3::vault::error::VaultError;

const FRAME: u64 = FRAME_BYTES as u64;

fn keys(layers: u8) -> DataKeys {
    let random = || Secret::random().unwrap();
    DataKeys {
        inner: random(),
        outer: (layers == 2).then(random),
    }
}

/// Bytes that differ from frame to frame, so that no two frames can stand for each other.
fn data(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn seal(keys: &DataKeys, segment: u32, data: &[u8], piece: usize) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = SegmentWriter::create(file.try_clone().unwrap(), keys, segment).unwrap();
    for piece in data.chunks(piece) {
        writer.write(piece).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), data.len() as u64);
    let mut sealed = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut sealed).unwrap();
    sealed
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(
    sealed: &[u8],
    keys: &DataKeys,
    segment: u32,
    plain_len: u64,
    (offset, max): (u64, usize),
) -> Result<Vec<u8>, VaultError> {
    let mut reader = SegmentReader::open(file_of(sealed), keys, segment, plain_len)?;
    let mut out = Vec::new();
    let n = reader.read_at(offset, max, &mut out)?;
    assert_eq!(n, out.len());
    Ok(out)
}

fn read_all(
    sealed: &[u8],
    keys: &DataKeys,
    segment: u32,
    plain_len: u64,
) -> Result<Vec<u8>, VaultError> {
    read(sealed, keys, segment, plain_len, (0, usize::MAX))
}

#[track_caller]
fn assert_damaged(result: Result<Vec<u8>, VaultError>) {
    match result {
        Err(VaultError::Damaged(_)) => {}
        other => panic!("expected damage, got {:?}", other.map(|bytes| bytes.len())),
    }
}

/// Where frame `n` lies in a segment of full frames.
fn frame_range(n: usize, layers: u8) -> std::ops::Range<usize> {
    let start = HEADER_BYTES + n * sealed_frame_bytes(layers);
    start..start + sealed_frame_bytes(layers)
}

/// Lengths near a boundary between frames, where an off-by-one would live.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..200_u64,
        (1..4_u64, -20..20_i64)
            .prop_map(|(frames, off)| (frames * FRAME).saturating_add_signed(off)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_of_any_length_comes_back(
        len in length(),
        layers in 1..=2_u8,
        piece in prop_oneof![1_000..200_000_usize, FRAME_BYTES - 2..FRAME_BYTES + 3],
        ranges in prop::collection::vec((0..5 * FRAME, 0..3 * FRAME_BYTES), 1..6),
    ) {
        let (keys, data) = (keys(layers), data(len));
        let sealed = seal(&keys, 7, &data, piece);
        prop_assert_eq!(Some(sealed.len() as u64), file_bytes(len, layers));
        let mut reader = SegmentReader::open(file_of(&sealed), &keys, 7, len).unwrap();
        for (offset, max) in ranges {
            let mut out = b"before".to_vec();
            let n = reader.read_at(offset, max, &mut out).unwrap();
            let start = offset.min(len) as usize;
            let end = data.len().min(start + max);
            prop_assert_eq!(n, end - start);
            prop_assert_eq!(&out[..6], b"before");
            prop_assert_eq!(&out[6..], &data[start..end]);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_whoever_reads_its_frame_and_by_nobody_else(
        layers in 1..=2_u8,
        frame in 0..3_usize,
        within in 0..FRAME_BYTES + TAG_BYTES,
        bit in 0..8_u8,
    ) {
        let keys = keys(layers);
        let data = data(3 * FRAME);
        let mut sealed = seal(&keys, 0, &data, FRAME_BYTES);
        sealed[frame_range(frame, layers).start + within] ^= 1 << bit;
        let mut reader = SegmentReader::open(file_of(&sealed), &keys, 0, 3 * FRAME).unwrap();
        // In one reader, each frame before and after the damaged one.
        for other in [0, frame, 0, 1, frame, 1, 2, frame, 2] {
            let start = other * FRAME_BYTES;
            let mut out = Vec::new();
            let result = reader.read_at(start as u64, FRAME_BYTES, &mut out);
            if other == frame {
                assert_damaged(result.map(|_| out.clone()));
                prop_assert!(out.is_empty());
            } else {
                prop_assert_eq!(&out, &data[start..start + FRAME_BYTES]);
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_a_small_segment_is_found() {
    for (layers, len) in [(1, 0), (1, 1), (1, 300), (2, 0), (2, 300)] {
        let keys = keys(layers);
        let sealed = seal(&keys, 1, &data(len), 64);
        read_all(&sealed, &keys, 1, len).unwrap();
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x40;
            assert_damaged(read_all(&flipped, &keys, 1, len));
        }
    }
}

#[test]
fn a_cut_or_lengthened_file_is_found() {
    let keys = keys(1);
    let len = 2 * FRAME + 5;
    let sealed = seal(&keys, 0, &data(len), FRAME_BYTES);
    for cut in [0, 1, HEADER_BYTES, frame_range(1, 1).end, sealed.len() - 1] {
        assert_damaged(read_all(&sealed[..cut], &keys, 0, len));
    }
    let longer = [&sealed[..], b"x"].concat();
    assert_damaged(read_all(&longer, &keys, 0, len));
}

#[test]
fn a_file_cut_together_with_its_recorded_length_is_found() {
    for layers in [1, 2] {
        let keys = keys(layers);
        let sealed = seal(&keys, 0, &data(3 * FRAME), FRAME_BYTES);
        let cut = &sealed[..frame_range(1, layers).end];
        assert_damaged(read_all(cut, &keys, 0, 2 * FRAME));
        let lengthened = [&sealed[..], &sealed[frame_range(0, layers)]].concat();
        assert_damaged(read_all(&lengthened, &keys, 0, 4 * FRAME));
    }
}

#[test]
fn frames_and_segments_cannot_change_places() {
    let keys = keys(1);
    let len = 3 * FRAME;
    let sealed = seal(&keys, 1, &data(len), FRAME_BYTES);

    let mut reordered = sealed.clone();
    reordered[frame_range(0, 1)].copy_from_slice(&sealed[frame_range(1, 1)]);
    reordered[frame_range(1, 1)].copy_from_slice(&sealed[frame_range(0, 1)]);
    assert_damaged(read_all(&reordered, &keys, 1, len));

    // The same part uploaded twice, and a frame of the first upload put into the second.
    let again = seal(&keys, 1, &data(len), FRAME_BYTES);
    let mut mixed = again.clone();
    mixed[frame_range(1, 1)].copy_from_slice(&sealed[frame_range(1, 1)]);
    assert_damaged(read_all(&mixed, &keys, 1, len));

    // Part 1 in part 2's place.
    assert_damaged(read_all(&sealed, &keys, 2, len));
    assert_eq!(read_all(&again, &keys, 1, len).unwrap(), data(len));
}

#[test]
fn the_same_bytes_never_seal_alike() {
    let keys = keys(1);
    let zeros = vec![0; 2 * FRAME_BYTES];
    let (one, two) = (
        seal(&keys, 1, &zeros, FRAME_BYTES),
        seal(&keys, 1, &zeros, FRAME_BYTES),
    );
    let frames = [&one, &two].map(|sealed| [0, 1].map(|n| &sealed[frame_range(n, 1)][..32]));
    let distinct: std::collections::BTreeSet<_> = frames.iter().flatten().collect();
    assert_eq!(
        distinct.len(),
        4,
        "two frames were sealed with the same key stream"
    );
}

#[test]
fn two_layers_need_both_keys() {
    let right = keys(2);
    let len = 1_000;
    let sealed = seal(&right, 0, &data(len), 100);
    let mix = |inner: &DataKeys, outer: &DataKeys| DataKeys {
        inner: inner.inner.clone(),
        outer: outer.outer.clone(),
    };
    let wrong = keys(2);
    assert_damaged(read_all(&sealed, &mix(&right, &wrong), 0, len));
    assert_damaged(read_all(&sealed, &mix(&wrong, &right), 0, len));
    let single = DataKeys {
        inner: right.inner.clone(),
        outer: None,
    };
    assert_damaged(read_all(&sealed, &single, 0, len));
    let layered_once = seal(&single, 0, &data(len), 100);
    assert_damaged(read_all(&layered_once, &right, 0, len));
}

/// Segments that are on somebody's disk must stay readable.
#[test]
fn the_format_stays_readable() {
    let kept: serde_json::Value = serde_json::from_str(include_str!("../kept.json")).unwrap();
    let sealed = BASE64.decode(kept["segment"].as_str().unwrap()).unwrap();
    let key = |byte| Secret::from_slice(&[byte; 32]).unwrap();
    let keys = DataKeys {
        inner: key(1),
        outer: Some(key(2)),
    };
    let plain = read_all(&sealed, &keys, 3, 14).unwrap();
    assert_eq!(plain, b"hello, segment");
}
