// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with an FSPF.

use core::fmt::{Debug, Display};

use super::ChunkError;
use crate::digest::DigestError;
use crate::header::HeaderError;
use crate::key::FspfTag;
use crate::page::PageError;
use crate::path::{PathError, PathText};
use crate::sites::SitesError;
use crate::xattr::XattrError;

/// Why an FSPF or a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E: Debug + Display> {
    /// The backing failed.
    #[error("Reading the stored bytes failed: {0}")]
    Backing(E),
    /// The FSPF ends early.
    #[error("The FSPF is truncated: bytes {start}..{end} are wanted, {found} of them are there")]
    Truncated {
        /// First byte wanted.
        start: u64,
        /// Byte behind the last one wanted.
        end: u64,
        /// Number of bytes found.
        found: u64,
    },
    /// The header is malformed, or of another version.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header is not the one the tag pins: another FSPF, an older one, or a changed one.
    #[error("The FSPF tag is {found}, expected {expected}: this is not the pinned FSPF")]
    WrongTag {
        /// The tag expected.
        expected: FspfTag,
        /// The tag of the header found.
        found: FspfTag,
    },
    /// The bytes are the pinned ones, but the key does not open them.
    #[error("The FSPF key does not open this FSPF")]
    WrongKey,
    /// A page's bytes are not those its parent names.
    #[error("The FSPF was changed: bytes {start}..{end} do not match the tree")]
    PageMismatch {
        /// First byte of the page.
        start: u64,
        /// Byte behind the page.
        end: u64,
    },
    /// A page reference leaves the file.
    #[error("The FSPF's tree points outside the file, to byte {offset}")]
    OutOfBounds {
        /// Where it points.
        offset: u64,
    },
    /// A verified page is malformed: whoever holds the key wrote it wrongly.
    #[error("The FSPF page at byte {offset} is malformed")]
    Page {
        /// First byte of the page.
        offset: u64,
        /// What is wrong with it.
        source: PageError,
    },
    /// Verified parts contradict each other: whoever holds the key wrote them wrongly.
    #[error("The FSPF contradicts itself about {path}: {what}")]
    Inconsistent {
        /// The path.
        path: PathText,
        /// The contradiction.
        what: &'static str,
    },
    /// The path asked for is not normalised.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path does not exist or is not a directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathText,
    },
    /// The entry is not a regular file.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathText,
    },
    /// An entry's extended attributes are malformed.
    #[error("The extended attributes of {path} are malformed")]
    Xattrs {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: XattrError,
    },
    /// A file's syscall sites are malformed.
    #[error("The syscall sites of {path} are malformed")]
    Sites {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: SitesError,
    },
    /// A file's chunk hashes are malformed.
    #[error("The chunk hashes of {path} are malformed")]
    Chunks {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: DigestError,
    },
    /// A file's stored bytes are wrong.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}
