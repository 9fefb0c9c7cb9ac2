// SPDX-License-Identifier: Apache-2.0
//! The first 128 bytes of an FSPF file, and the tag over them.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 8 | magic `ENSCFSPF` |
//! | 8 | 4 | version, 2 (1 had no second word per syscall site) |
//! | 12 | 2 | hash: 1 = SHA-256 |
//! | 14 | 2 | cipher: 1 = AES-256-GCM |
//! | 16 | 2 | key derivation: 1 = HKDF-SHA256 |
//! | 18 | 6 | zero |
//! | 24 | 4 | chunk size in bytes |
//! | 28 | 4 | sealed length of the root page |
//! | 32 | 8 | offset of the root page |
//! | 40 | 8 | length of the whole file |
//! | 48 | 16 | zero |
//! | 64 | 32 | plain hash of the root page |
//! | 96 | 32 | sealed hash of the root page: the root hash |
//!
//! All numbers are little-endian.
//! `FSPF tag = first 16 bytes of SHA-256("ensconce-fspf-v1\0" || header bytes 0..96 || root hash)`.

use alloc::vec::Vec;

use crate::digest::{DigestError, Geometry, domain_hash};
use crate::key::{FspfTag, TAG_LEN};
use crate::page::PageRef;
use crate::wire::{Reader, WireError};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 128;
/// The format version this crate reads and writes.
pub const VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"ENSCFSPF";
const TAG_DOMAIN: &[u8] = b"ensconce-fspf-v1\0";
const ALGORITHMS: [(&str, u16); 3] = [("hash", 1), ("cipher", 1), ("key derivation", 1)];

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file does not start with the magic bytes.
    #[error("This is not an FSPF file")]
    Magic,
    /// Another format version.
    #[error("FSPF version {found} is not supported, this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// An algorithm this version does not know.
    #[error("FSPF {what} algorithm {found} is not supported")]
    Algorithm {
        /// Which algorithm.
        what: &'static str,
        /// The number found.
        found: u16,
    },
    /// Bytes that must be zero are not.
    #[error("Reserved bytes of the FSPF header are not zero")]
    Reserved,
    /// The chunk size is out of range.
    #[error("The FSPF header's chunk size is wrong")]
    ChunkSize(#[source] DigestError),
    /// The root page does not lie within the file.
    #[error("The FSPF root page lies outside the file")]
    Bounds,
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("The FSPF file is truncated within its header")]
    Wire(#[from] WireError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) chunk_size: u32,
    pub(crate) file_length: u64,
    pub(crate) root: PageRef,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for (_, code) in ALGORITHMS {
            out.extend_from_slice(&code.to_le_bytes());
        }
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.chunk_size.to_le_bytes());
        out.extend_from_slice(&self.root.length.to_le_bytes());
        out.extend_from_slice(&self.root.offset.to_le_bytes());
        out.extend_from_slice(&self.file_length.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&self.root.plain_hash);
        out.extend_from_slice(&self.root.sealed_hash);
        out
    }

    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(HeaderError::Magic);
        }
        let found = reader.u32()?;
        if found != VERSION {
            return Err(HeaderError::Version { found });
        }
        for (what, code) in ALGORITHMS {
            let found = reader.u16()?;
            if found != code {
                return Err(HeaderError::Algorithm { what, found });
            }
        }
        if reader.array()? != [0; 6] {
            return Err(HeaderError::Reserved);
        }
        let chunk_size = reader.u32()?;
        Geometry::new(0, chunk_size).map_err(HeaderError::ChunkSize)?;
        let length = reader.u32()?;
        let offset = reader.u64()?;
        let file_length = reader.u64()?;
        if reader.array()? != [0; 16] {
            return Err(HeaderError::Reserved);
        }
        let plain_hash = reader.array()?;
        let sealed_hash = reader.array()?;
        reader.end()?;
        let header = Self {
            chunk_size,
            file_length,
            root: PageRef {
                offset,
                length,
                sealed_hash,
                plain_hash,
            },
        };
        if !header.holds(&header.root) {
            return Err(HeaderError::Bounds);
        }
        Ok(header)
    }

    /// Whether a page reference stays between the header and the end of the file.
    pub(crate) fn holds(&self, page: &PageRef) -> bool {
        page.checked_length().is_some()
            && page.offset >= HEADER_LEN as u64
            && page
                .offset
                .checked_add(u64::from(page.length))
                .is_some_and(|end| end <= self.file_length)
    }
}

/// The tag over an encoded header; the root hash is the header's last field.
pub(crate) fn tag(header: &[u8]) -> FspfTag {
    let hash = domain_hash(TAG_DOMAIN, &[header]);
    let mut tag = [0; TAG_LEN];
    for (to, from) in tag.iter_mut().zip(hash) {
        *to = from;
    }
    FspfTag(tag)
}

/// Checks the form of a header; what [`crate::read::Fspf::open`] does before it trusts one.
///
/// # Errors
/// [`HeaderError`].
pub fn check(bytes: &[u8; HEADER_LEN]) -> Result<(), HeaderError> {
    Header::parse(bytes).map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            chunk_size: 65_536,
            file_length: 5000,
            root: PageRef {
                offset: 128,
                length: 4000,
                sealed_hash: [1; 32],
                plain_hash: [2; 32],
            },
        }
    }

    fn bytes() -> [u8; HEADER_LEN] {
        header().encode().try_into().unwrap()
    }

    #[test]
    fn round_trips() {
        assert_eq!(Header::parse(&bytes()), Ok(header()));
    }

    #[test]
    fn names_what_is_wrong() {
        let with = |at: usize, value: u8| {
            let mut bytes = bytes();
            bytes[at] = value;
            check(&bytes).unwrap_err()
        };
        assert_eq!(with(0, b'X'), HeaderError::Magic);
        assert_eq!(with(8, 1), HeaderError::Version { found: 1 });
        let (what, found) = ("cipher", 9);
        assert_eq!(with(14, 9), HeaderError::Algorithm { what, found });
        assert_eq!(with(19, 1), HeaderError::Reserved);
        assert_eq!(with(63, 1), HeaderError::Reserved);
        assert!(matches!(with(24, 1), HeaderError::ChunkSize(_)));
        assert_eq!(with(32, 127), HeaderError::Bounds);
        assert_eq!(with(39, 0xff), HeaderError::Bounds);
        assert_eq!(with(31, 0xff), HeaderError::Bounds);
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(mut hostile in prop::array::uniform32(any::<[u8; 4]>()), keep in any::<bool>()) {
            if keep {
                for (to, from) in hostile.iter_mut().zip(bytes().chunks(4)).take(6) {
                    to.copy_from_slice(from);
                }
            }
            let flat: Vec<u8> = hostile.concat();
            let flat: [u8; HEADER_LEN] = flat.try_into().unwrap();
            if let Ok(header) = Header::parse(&flat) {
                prop_assert_eq!(header.encode(), flat);
            }
        }
    }
}
