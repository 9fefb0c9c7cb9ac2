// SPDX-License-Identifier: Apache-2.0
//! ELF headers from hostile hands.

use std::vec::Vec;

use proptest::prelude::*;

use super::{ElfError, HEADER, Image, PROGRAM_HEADER};

/// A header with one segment (type, offset, address, file length, length).
fn image(segments: &[[u64; 4]]) -> ([u8; HEADER], Vec<u8>) {
    let mut header = [0; HEADER];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 3;
    header[18] = 62;
    header[32] = 64;
    header[54] = 56;
    header[56] = segments.len() as u8;
    let mut table = Vec::new();
    for [offset, addr, file_len, len] in segments {
        let mut entry = [0; PROGRAM_HEADER];
        entry[0] = 1;
        entry[4] = 5;
        entry[8..16].copy_from_slice(&offset.to_le_bytes());
        entry[16..24].copy_from_slice(&addr.to_le_bytes());
        entry[32..40].copy_from_slice(&file_len.to_le_bytes());
        entry[40..48].copy_from_slice(&len.to_le_bytes());
        table.extend(entry);
    }
    (header, table)
}

fn parse(segments: &[[u64; 4]], size: u64) -> Result<Image, ElfError> {
    let (header, table) = image(segments);
    Image::parse(&header, &table, size)
}

#[test]
fn accepts_segments_in_order_inside_the_file() {
    let found = parse(&[[0, 0, 100, 100], [0x1000, 0x1000, 50, 5000]], 0x1100).unwrap();
    assert_eq!(found.span(), (0, 0x3000));
}

#[test]
fn refuses_what_lies_outside_or_overlaps_or_wraps() {
    for (segments, size) in [
        (&[[0, 0, 100, 100]][..], 99),
        (&[[u64::MAX, 0xfff, 10, 10]], 4096),
        (&[[0, u64::MAX - 4095, 10, 8192]], 4096),
        (&[[0, 0, 100, 50]], 4096),
        (&[[1, 0, 10, 10]], 4096),
        (&[[0, 0, 10, 8192], [0, 4096, 10, 10]], 4096),
        (&[[0, 1 << 46, 10, 10]], 4096),
    ] {
        assert_eq!(
            parse(segments, size),
            Err(ElfError::Bounds),
            "{segments:x?}"
        );
    }
    assert_eq!(parse(&[], 4096), Err(ElfError::Format));
}

proptest! {
    #[test]
    fn never_panics(header: [u8; 32], rest: [u8; 32], table in proptest::collection::vec(any::<u8>(), 0..600), size: u64, magic: bool) {
        let mut bytes = [0; HEADER];
        bytes[..32].copy_from_slice(&header);
        bytes[32..].copy_from_slice(&rest);
        if magic {
            let (good, _) = image(&[[0; 4]]);
            bytes[..20].copy_from_slice(&good[..20]);
            bytes[54..56].copy_from_slice(&good[54..56]);
        }
        if let Ok(image) = Image::parse(&bytes, &table, size) {
            let (start, end) = image.span();
            prop_assert!(start < end && end <= 1 << 46);
        }
    }
}
