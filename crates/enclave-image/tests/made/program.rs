// SPDX-License-Identifier: Apache-2.0
//! A program of one executable segment, without sections and symbols.

/// Offset of the code in the file.
pub(crate) const CODE_OFFSET: usize = 0x1000;
/// Address of the code.
pub(crate) const CODE_ADDRESS: usize = 0x1000;

/// The file.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [3u16, 62] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&1u32.to_le_bytes());
    // Entry, program headers, section headers.
    for word in [CODE_ADDRESS as u64, 64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for half in [1u32, 5] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let (offset, address) = (CODE_OFFSET as u64, CODE_ADDRESS as u64);
    let len = code.len() as u64;
    for word in [offset, address, address, len, len, 0x1000] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.resize(CODE_OFFSET, 0);
    out.extend_from_slice(code);
    out
}
