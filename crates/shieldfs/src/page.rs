// SPDX-License-Identifier: Apache-2.0
//! Pages of the tree: how they are named, sealed and opened.
//!
//! ```text
//! plain hash  = SHA-256("ensconce-page-v1\0" || plaintext)
//! sealed page = AES-256-GCM(page key(plain hash), nonce 0, no associated data, plaintext)
//! sealed hash = SHA-256("ensconce-sealed-page-v1\0" || u32le sealed length || sealed page)
//! reference   = u64le offset || u32le sealed length || sealed hash || plain hash
//! ```
//!
//! A parent holds the reference. The sealed hash binds the bytes before anything is decrypted; GCM
//! gives secrecy; the plain hash names the key and is checked again after opening.

mod branch;
mod leaf;
mod root;

use alloc::sync::Arc;
use alloc::vec::Vec;

use subtle::ConstantTimeEq as _;

pub(crate) use branch::{BranchPage, Child};
pub(crate) use leaf::{Body, LeafPage};
pub(crate) use root::RootPage;

use crate::blob::{BlobError, FAN_OUT, PIECE};
use crate::cipher::OVERHEAD;
use crate::digest::{HASH_LEN, domain_hash};
use crate::key::FspfKey;
use crate::path::{self, PathError};
use crate::region::RegionError;
use crate::wire::{Reader, WireError};

/// Length to which pages are filled, in bytes of plaintext.
pub(crate) const TARGET: usize = 16 * 1024;
/// Longest page in bytes of plaintext.
pub(crate) const MAX: usize = 64 * 1024;
/// Most branch levels between the root page and the leaves.
pub(crate) const MAX_LEVEL: u8 = 7;

const PAGE_DOMAIN: &[u8] = b"ensconce-page-v1\0";
const SEALED_PAGE_DOMAIN: &[u8] = b"ensconce-sealed-page-v1\0";

/// Where a sealed page lies and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRef {
    /// First byte in the FSPF file.
    pub(crate) offset: u64,
    /// Sealed length in bytes.
    pub(crate) length: u32,
    pub(crate) sealed_hash: [u8; HASH_LEN],
    pub(crate) plain_hash: [u8; HASH_LEN],
}

impl PageRef {
    /// Encoded length in bytes.
    pub(crate) const LEN: usize = 8 + 4 + 2 * HASH_LEN;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.sealed_hash);
        out.extend_from_slice(&self.plain_hash);
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            offset: reader.u64()?,
            length: reader.u32()?,
            sealed_hash: reader.array()?,
            plain_hash: reader.array()?,
        })
    }

    /// Sealed length if it can be that of a page.
    pub(crate) fn checked_length(&self) -> Option<usize> {
        let length = usize::try_from(self.length).ok()?;
        (OVERHEAD..=MAX.checked_add(OVERHEAD)?)
            .contains(&length)
            .then_some(length)
    }
}

/// Why a page could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The sealed bytes are not those the parent names.
    Hash,
    /// The bytes are right, the key is not.
    Key,
    /// Decrypted, but not to the plaintext the parent names.
    Plaintext,
}

/// Seals a page in place; `page` becomes the bytes to store at `offset`.
pub(crate) fn seal(key: &FspfKey, page: &mut Vec<u8>, offset: u64) -> PageRef {
    let plain_hash = domain_hash(PAGE_DOMAIN, &[page]);
    let tag = key.page_cipher(&plain_hash).seal(0, &[], page);
    page.extend_from_slice(&tag);
    // At most MAX + OVERHEAD by construction.
    let length = u32::try_from(page.len()).unwrap_or(u32::MAX);
    PageRef {
        offset,
        length,
        sealed_hash: sealed_hash(length, page),
        plain_hash,
    }
}

/// Verifies and opens a page in place; `page` becomes the plaintext.
pub(crate) fn open(key: &FspfKey, reference: &PageRef, page: &mut Vec<u8>) -> Result<(), Refusal> {
    let found = sealed_hash(reference.length, page);
    if !bool::from(found.ct_eq(&reference.sealed_hash)) {
        return Err(Refusal::Hash);
    }
    let length = key
        .page_cipher(&reference.plain_hash)
        .open(0, &[], page)
        .map_err(|_| Refusal::Key)?;
    page.truncate(length);
    if !bool::from(domain_hash(PAGE_DOMAIN, &[page]).ct_eq(&reference.plain_hash)) {
        return Err(Refusal::Plaintext);
    }
    Ok(())
}

fn sealed_hash(length: u32, sealed: &[u8]) -> [u8; HASH_LEN] {
    domain_hash(SEALED_PAGE_DOMAIN, &[&length.to_le_bytes(), sealed])
}

/// What a page is for; the first byte of its plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root = 1,
    Branch = 2,
    Leaf = 3,
    BlobBranch = 4,
    BlobPiece = 5,
}

/// Length of the fields every page starts with: `u8 role, u8 level, u16le zero, u32le count`.
pub(crate) const PREFIX: usize = 8;

/// Why a page's plaintext was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Another role or level than its place in the tree demands.
    #[error("The page has role {role} and level {level}, which do not belong here")]
    Place {
        /// Role found.
        role: u8,
        /// Level found.
        level: u8,
    },
    /// The page is longer than pages can be.
    #[error("A page of {length} bytes is too long")]
    Length {
        /// Length of the plaintext in bytes.
        length: usize,
    },
    /// A number that counts something is impossible.
    #[error("The page cannot hold {count} items")]
    Count {
        /// The number found.
        count: u64,
    },
    /// A field holds a value that is never written.
    #[error("Field {field} of a page holds an impossible value")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// Keys are not in strictly ascending order.
    #[error("A page is not in strictly ascending order")]
    Order,
    /// A path is not normalised.
    #[error("A page holds an impossible path")]
    Path(#[from] PathError),
    /// A blob is malformed.
    #[error("A page holds a malformed blob")]
    Blob(#[from] BlobError),
    /// The region table is malformed.
    #[error("The region table is malformed")]
    Regions(#[from] RegionError),
    /// The bytes end early or go on too long.
    #[error("The bytes of a page are malformed")]
    Wire(#[from] WireError),
}

/// A page's parsed plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Root(RootPage),
    Branch(BranchPage),
    Leaf(LeafPage),
    BlobBranch(Vec<PageRef>),
    BlobPiece(Vec<u8>),
}

/// Starts a page's plaintext; [`set_count`] completes the prefix.
pub(crate) fn start(role: Role, level: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(TARGET.saturating_add(OVERHEAD));
    out.extend_from_slice(&[role as u8, level, 0, 0, 0, 0, 0, 0]);
    out
}

/// Writes the number of items into a page that [`start`] began.
pub(crate) fn set_count(page: &mut [u8], count: u32) {
    if let Some(field) = page.get_mut(4..PREFIX) {
        field.copy_from_slice(&count.to_le_bytes());
    }
}

impl Page {
    /// Parses a plaintext as what its place demands.
    pub(crate) fn parse(
        bytes: &[u8],
        role: Role,
        level: u8,
        chunk_size: u32,
    ) -> Result<Self, PageError> {
        let length = bytes.len();
        if length > MAX {
            return Err(PageError::Length { length });
        }
        let mut reader = Reader::new(bytes);
        let found = (reader.u8()?, reader.u8()?);
        if found != (role as u8, level) {
            let (role, level) = found;
            return Err(PageError::Place { role, level });
        }
        if reader.u16()? != 0 {
            return Err(PageError::Field { field: "reserved" });
        }
        let count = reader.u32()?;
        let page = match role {
            Role::Root => Self::Root(RootPage::parse(&mut reader, count)?),
            Role::Branch => Self::Branch(BranchPage::parse(&mut reader, count)?),
            Role::Leaf => Self::Leaf(LeafPage::parse(&mut reader, count, chunk_size)?),
            Role::BlobBranch => {
                if count == 0 || u64::from(count) > FAN_OUT {
                    let count = u64::from(count);
                    return Err(PageError::Count { count });
                }
                let refs = (0..count).map(|_| PageRef::parse(&mut reader));
                Self::BlobBranch(refs.collect::<Result<_, _>>()?)
            }
            Role::BlobPiece => {
                if count == 0 || u64::from(count) > PIECE {
                    let count = u64::from(count);
                    return Err(PageError::Count { count });
                }
                let length = usize::try_from(count).unwrap_or(usize::MAX);
                Self::BlobPiece(reader.bytes(length)?.to_vec())
            }
        };
        reader.end()?;
        Ok(page)
    }
}

/// Parses a plaintext as the page its own first bytes claim it is; tests and fuzzers feed hostile
/// bytes here.
///
/// # Errors
/// [`PageError`].
pub fn check(bytes: &[u8], chunk_size: u32) -> Result<(), PageError> {
    let mut reader = Reader::new(bytes);
    let (role, level) = (reader.u8()?, reader.u8()?);
    let role = match role {
        1 => Role::Root,
        2 => Role::Branch,
        3 => Role::Leaf,
        4 => Role::BlobBranch,
        5 => Role::BlobPiece,
        _ => return Err(PageError::Place { role, level }),
    };
    Page::parse(bytes, role, level, chunk_size).map(|_| ())
}

/// A key of the tree: parent path and name.
pub(crate) type Key<'a> = (&'a [u8], &'a [u8]);

/// Writes a key: `u8 1, u16le length, parent` or `u8 0` if the parent is the previous key's; then
/// `u8 length, name`.
pub(crate) fn encode_key(out: &mut Vec<u8>, previous_parent: Option<&[u8]>, key: Key<'_>) {
    let (parent, name) = key;
    if previous_parent == Some(parent) {
        out.push(0);
    } else {
        out.push(1);
        // Paths and names were checked against MAX_PATH and MAX_NAME.
        out.extend_from_slice(
            &u16::try_from(parent.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        out.extend_from_slice(parent);
    }
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
}

/// Reads keys in strictly ascending order.
pub(crate) struct KeyReader {
    last: Option<(Arc<[u8]>, Vec<u8>)>,
}

impl KeyReader {
    pub(crate) fn new() -> Self {
        Self { last: None }
    }

    pub(crate) fn next(&mut self, reader: &mut Reader<'_>) -> Result<OwnedKey, PageError> {
        let parent: Arc<[u8]> = match (reader.u8()?, &self.last) {
            (0, Some((parent, _))) => Arc::clone(parent),
            (1, last) => {
                let length = usize::from(reader.u16()?);
                let parent = reader.bytes(length)?;
                if !parent.is_empty() {
                    path::check(parent)?;
                }
                // A repeated parent would have been written in the short form.
                if last.as_ref().is_some_and(|(last, _)| **last >= *parent) {
                    return Err(PageError::Order);
                }
                parent.into()
            }
            _ => return Err(PageError::Field { field: "parent" }),
        };
        let length = usize::from(reader.u8()?);
        let name = reader.bytes(length)?;
        let is_root = parent.is_empty() && name.is_empty();
        if !is_root && (parent.is_empty() || !path::is_name(name)) {
            return Err(PageError::Field { field: "name" });
        }
        if let Some((last_parent, last_name)) = &self.last
            && *last_parent == parent
            && last_name.as_slice() >= name
        {
            return Err(PageError::Order);
        }
        self.last = Some((Arc::clone(&parent), name.to_vec()));
        Ok(OwnedKey {
            parent,
            name: name.to_vec(),
        })
    }
}

/// A key that a parsed page holds; keys of one directory share the parent's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedKey {
    pub(crate) parent: Arc<[u8]>,
    pub(crate) name: Vec<u8>,
}

impl OwnedKey {
    pub(crate) fn as_key(&self) -> Key<'_> {
        (&self.parent, &self.name)
    }
}
