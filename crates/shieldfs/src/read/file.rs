// SPDX-License-Identifier: Apache-2.0
//! Reading a file's content chunk by chunk: verify the stored bytes, then decrypt them in place.

use alloc::vec::Vec;

use subtle::ConstantTimeEq as _;

use super::{Fspf, ReadError};
use crate::backing::{Backing, fill};
use crate::blob::Blob;
use crate::cipher::OVERHEAD;
use crate::digest::{ChunkHash, FileDigest, Geometry, chunk_hash, sealed_chunk_hash};
use crate::entry::FileContent;
use crate::key::{FspfKey, SealingCipher};
use crate::path::PathText;
use crate::region::Storage;

/// Why a chunk was refused. Byte ranges are of the stored file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The stored file ends early.
    #[error("{path} is truncated: chunk {chunk}, bytes {start}..{end}, has {found} bytes")]
    Truncated {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
        /// First stored byte.
        start: u64,
        /// Byte behind the last stored one.
        end: u64,
        /// Number of bytes found.
        found: u64,
    },
    /// The stored bytes are not those the tree lists.
    #[error("{path} was changed: chunk {chunk}, bytes {start}..{end}, does not match its hash")]
    Mismatch {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
        /// First stored byte.
        start: u64,
        /// Byte behind the last stored one.
        end: u64,
        /// Hash of the bytes found.
        found_hash: ChunkHash,
    },
    /// The stored bytes are another chunk of the same file.
    #[error(
        "{path} was changed: in place of chunk {chunk}, bytes {start}..{end}, lies chunk {other}"
    )]
    Swapped {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
        /// First stored byte.
        start: u64,
        /// Byte behind the last stored one.
        end: u64,
        /// Index of the chunk found in its place.
        other: u64,
    },
    /// The stored bytes are the listed ones, but the key does not open them.
    #[error("The FSPF key does not open chunk {chunk} of {path}")]
    WrongKey {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
    },
    /// The chunk lies behind the end of the file.
    #[error("{path} has no chunk {chunk}, only {count}")]
    NoSuchChunk {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
        /// Number of chunks.
        count: u64,
    },
    /// The caller's buffer is too small for the stored chunk.
    #[error("Chunk {chunk} of {path} needs a buffer of {needed} bytes, not {found}")]
    Buffer {
        /// Path of the stored file.
        path: PathText,
        /// The chunk's index.
        chunk: u64,
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
}

impl ChunkError {
    pub(super) fn mismatch(&self) -> Option<(u64, ChunkHash)> {
        match self {
            Self::Mismatch {
                chunk, found_hash, ..
            } => Some((*chunk, *found_hash)),
            _ => None,
        }
    }

    pub(super) fn swapped_with(self, other: u64) -> Self {
        match self {
            Self::Mismatch {
                path,
                chunk,
                start,
                end,
                ..
            } => Self::Swapped {
                path,
                chunk,
                start,
                end,
                other,
            },
            error => error,
        }
    }
}

/// Where a chunk lies in the stored file, and the hash its stored bytes must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSlot {
    index: u64,
    offset: u64,
    stored_len: usize,
    hash: ChunkHash,
}

impl ChunkSlot {
    /// The chunk's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// First byte in the stored file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of stored bytes: the plaintext's, plus 16 if encrypted.
    pub fn stored_len(&self) -> usize {
        self.stored_len
    }

    pub(super) fn with_hash(self, hash: ChunkHash) -> Self {
        Self { hash, ..self }
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored_len as u64)
    }
}

/// Verifies and decrypts the chunks of one file. Holds the file's key, not the FSPF: after
/// [`Fspf::slot`], chunks can be opened without it.
#[derive(Debug, Clone)]
pub struct FileReader {
    stored_path: Vec<u8>,
    geometry: Geometry,
    digest: FileDigest,
    hashes: Blob,
    /// None for authenticated files.
    cipher: Option<SealingCipher>,
}

impl FileReader {
    pub(super) fn new(key: &FspfKey, stored_path: &[u8], content: &FileContent) -> Self {
        let chunk_size = content.geometry.chunk_size();
        let cipher = match content.storage {
            Storage::Authenticated => None,
            Storage::Encrypted => Some(key.file_cipher(stored_path, &content.digest, chunk_size)),
        };
        Self {
            stored_path: stored_path.to_vec(),
            geometry: content.geometry,
            digest: content.digest,
            hashes: content.hashes.clone(),
            cipher,
        }
    }

    /// Path of the stored file.
    pub fn path(&self) -> &[u8] {
        &self.stored_path
    }

    /// Size and chunk size of the plaintext.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Digest of the plaintext.
    pub fn digest(&self) -> &FileDigest {
        &self.digest
    }

    /// Buffer length that is enough for every stored chunk: a chunk plus 16 bytes.
    pub fn buffer_len(&self) -> usize {
        usize::try_from(self.geometry.chunk_size())
            .unwrap_or(usize::MAX)
            .saturating_add(OVERHEAD)
    }

    pub(super) fn hashes(&self) -> &Blob {
        &self.hashes
    }

    /// The chunk's place, with an empty hash.
    pub(super) fn place(&self, index: u64) -> Result<ChunkSlot, ChunkError> {
        let overhead = if self.cipher.is_some() { OVERHEAD } else { 0 };
        let place = || {
            let start = self.geometry.chunk_start(index)?;
            let length = usize::try_from(self.geometry.chunk_len(index)?).ok()?;
            Some(ChunkSlot {
                index,
                offset: start.checked_add(index.checked_mul(overhead as u64)?)?,
                stored_len: length.checked_add(overhead)?,
                hash: [0; 32],
            })
        };
        place().ok_or_else(|| ChunkError::NoSuchChunk {
            path: PathText::new(&self.stored_path),
            chunk: index,
            count: self.geometry.chunk_count(),
        })
    }

    /// Verifies stored bytes and decrypts them in place; gives the plaintext's length. `stored`
    /// must be a private copy: it is read more than once.
    ///
    /// # Errors
    /// [`ChunkError`]; `stored` holds no plaintext then.
    pub fn open_chunk(&self, slot: &ChunkSlot, stored: &mut [u8]) -> Result<usize, ChunkError> {
        let path = || PathText::new(&self.stored_path);
        let chunk = slot.index;
        if stored.len() != slot.stored_len {
            return Err(ChunkError::Truncated {
                path: path(),
                chunk,
                start: slot.offset,
                end: slot.end(),
                found: stored.len() as u64,
            });
        }
        let found_hash = match self.cipher {
            Some(_) => sealed_chunk_hash(stored),
            None => chunk_hash(stored),
        };
        if !bool::from(found_hash.ct_eq(&slot.hash)) {
            return Err(ChunkError::Mismatch {
                path: path(),
                chunk,
                start: slot.offset,
                end: slot.end(),
                found_hash,
            });
        }
        match &self.cipher {
            None => Ok(stored.len()),
            // The hash that was just compared covers the sealed bytes with their tag.
            Some(cipher) => {
                let opened = cipher.open_hashed(chunk, stored);
                opened.map_err(|_| ChunkError::WrongKey {
                    path: path(),
                    chunk,
                })
            }
        }
    }

    /// Reads a chunk from the stored file into `out` (of at least [`Self::buffer_len`] bytes, or
    /// the stored chunk's) and gives the plaintext's length. Bytes behind that are undefined.
    ///
    /// # Errors
    /// [`ReadError`]; an error of `stored` is given as [`ReadError::Backing`].
    pub fn read_chunk<B, S>(
        &self,
        fspf: &mut Fspf<B>,
        index: u64,
        stored: &S,
        out: &mut [u8],
    ) -> Result<usize, ReadError<B::Error>>
    where
        B: Backing,
        S: Backing<Error = B::Error> + ?Sized,
    {
        let slot = fspf.slot(self, index)?;
        let found = out.len();
        let Some(buffer) = out.get_mut(..slot.stored_len) else {
            return Err(ReadError::Chunk(ChunkError::Buffer {
                path: PathText::new(&self.stored_path),
                chunk: index,
                needed: slot.stored_len,
                found,
            }));
        };
        let read = fill(stored, slot.offset, buffer).map_err(ReadError::Backing)?;
        let Some(buffer) = buffer.get_mut(..read) else {
            return Err(ReadError::OutOfBounds {
                offset: slot.offset,
            });
        };
        self.open_chunk(&slot, buffer)
            .map_err(|error| ReadError::Chunk(fspf.explain(self, error)))
    }
}
