// SPDX-License-Identifier: Apache-2.0
//! Byte strings that belong to an entry: kept in the entry while short, in pages of their own when
//! long (hash lists of large files, big attribute sets, long syscall-site lists).
//!
//! A long string is cut into pieces of 16 000 bytes, one per page; pages of references above
//! them form a tree whose height follows from the length, so any offset is reached by one path.

use alloc::vec::Vec;

use crate::page::PageRef;
use crate::wire::{Reader, WireError};

/// Longest string kept inside the entry, in bytes.
pub(crate) const MAX_INLINE: usize = 1024;
/// Bytes per page of a long string; a multiple of the hash length.
pub(crate) const PIECE: u64 = 16_000;
/// References per page above the pieces.
pub(crate) const FAN_OUT: u64 = 200;
/// Most levels of references above the pieces.
pub(crate) const MAX_HEIGHT: u8 = 4;

/// Why a blob was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Neither a short nor a long string.
    #[error("Blob form {form} is unknown")]
    Form {
        /// The code found.
        form: u8,
    },
    /// The length does not fit the form, the use or the height.
    #[error("A blob of {length} bytes is not allowed here")]
    Length {
        /// The length found, in bytes.
        length: u64,
    },
    /// The bytes end early.
    #[error("A blob's bytes are malformed")]
    Wire(#[from] WireError),
}

/// A short string, or the reference to a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blob {
    Inline(Vec<u8>),
    Paged { length: u64, root: PageRef },
}

impl Blob {
    pub(crate) fn is_empty(&self) -> bool {
        self.length() == 0
    }

    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Paged { length, .. } => *length,
        }
    }

    /// Form 0: `u16le length, bytes`; form 1: `u64le length, page reference`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inline(bytes) => {
                out.push(0);
                // At most MAX_INLINE by construction.
                out.extend_from_slice(
                    &u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes(),
                );
                out.extend_from_slice(bytes);
            }
            Self::Paged { length, root } => {
                out.push(1);
                out.extend_from_slice(&length.to_le_bytes());
                root.encode(out);
            }
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, max: u64) -> Result<Self, BlobError> {
        let blob = match reader.u8()? {
            0 => {
                let length = reader.u16()?;
                if usize::from(length) > MAX_INLINE {
                    let length = u64::from(length);
                    return Err(BlobError::Length { length });
                }
                Self::Inline(reader.bytes(usize::from(length))?.to_vec())
            }
            1 => {
                let length = reader.u64()?;
                if length <= MAX_INLINE as u64 || height(length).is_none() {
                    return Err(BlobError::Length { length });
                }
                let root = PageRef::parse(reader)?;
                Self::Paged { length, root }
            }
            form => return Err(BlobError::Form { form }),
        };
        if blob.length() > max {
            let length = blob.length();
            return Err(BlobError::Length { length });
        }
        Ok(blob)
    }
}

/// Levels of references above the pieces of a string of `length` bytes; `None` if it is too long.
pub(crate) fn height(length: u64) -> Option<u8> {
    let mut pages = length.div_ceil(PIECE);
    let mut height = 0_u8;
    while pages > 1 {
        pages = pages.div_ceil(FAN_OUT);
        height = height.checked_add(1)?;
    }
    (height <= MAX_HEIGHT).then_some(height)
}

/// Bytes of the string below one reference in a page at `level` (pieces are level 0).
pub(crate) fn span(level: u8) -> u64 {
    FAN_OUT
        .saturating_pow(u32::from(level))
        .saturating_mul(PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn height_follows_from_length() {
        assert_eq!(height(1025), Some(0));
        assert_eq!(height(PIECE), Some(0));
        assert_eq!(height(PIECE + 1), Some(1));
        assert_eq!(height(PIECE * FAN_OUT), Some(1));
        assert_eq!(height(PIECE * FAN_OUT + 1), Some(2));
        assert_eq!(height(u64::MAX), None);
    }

    #[test]
    fn the_largest_file_has_a_hash_list_that_fits() {
        let hashes = crate::digest::MAX_FILE_SIZE / u64::from(crate::digest::MIN_CHUNK) * 32;
        assert!(height(hashes).is_some());
    }

    #[test]
    fn refuses_forms_that_are_not_canonical() {
        let mut long_inline = alloc::vec![0, 1, 4];
        long_inline.extend_from_slice(&[0; 1025]);
        assert_eq!(
            Blob::parse(&mut Reader::new(&long_inline), 5000),
            Err(BlobError::Length { length: 1025 })
        );
        let mut short_paged = alloc::vec![1];
        short_paged.extend_from_slice(&1024_u64.to_le_bytes());
        short_paged.extend_from_slice(&[0; PageRef::LEN]);
        assert_eq!(
            Blob::parse(&mut Reader::new(&short_paged), 5000),
            Err(BlobError::Length { length: 1024 })
        );
        assert_eq!(
            Blob::parse(&mut Reader::new(&[0, 2, 0, 7, 7]), 1),
            Err(BlobError::Length { length: 2 })
        );
        assert_eq!(
            Blob::parse(&mut Reader::new(&[9]), 1),
            Err(BlobError::Form { form: 9 })
        );
    }
}
