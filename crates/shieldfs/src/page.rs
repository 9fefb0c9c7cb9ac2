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

use alloc::vec::Vec;

use subtle::ConstantTimeEq as _;

use crate::cipher::OVERHEAD;
use crate::digest::{HASH_LEN, domain_hash};
use crate::key::FspfKey;
use crate::wire::{Reader, WireError};

/// Length to which pages are filled, in bytes of plaintext.
pub(crate) const TARGET: usize = 16 * 1024;
/// Longest page in bytes of plaintext.
pub(crate) const MAX: usize = 64 * 1024;

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
