// SPDX-License-Identifier: Apache-2.0
//! Content hashes: what identifies a chunk and what identifies a file.
//!
//! ```text
//! chunk hash  = SHA-256("ensconce-chunk-v1\0" || bytes)
//! file digest = SHA-256("ensconce-file-v1\0" || u64le size || u32le chunk size || chunk hashes…)
//! ```
//!
//! The file digest is the one identity of a file's plaintext in the project: the startup list of an
//! enclave image and the FSPF hold the same value, and either can check the file chunk by chunk.

use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Chunk size of image files in bytes, unless an FSPF says otherwise.
pub const CHUNK: u32 = 64 * 1024;
/// Smallest chunk size a file may be cut into, in bytes.
pub const MIN_CHUNK: u32 = 4 * 1024;
/// Largest chunk size a file may be cut into, in bytes.
pub const MAX_CHUNK: u32 = 16 * 1024 * 1024;
/// Largest file the format can describe, in bytes (16 TiB).
pub const MAX_FILE_SIZE: u64 = 1 << 44;
/// Length of a hash in bytes.
pub const HASH_LEN: usize = 32;

const CHUNK_DOMAIN: &[u8] = b"ensconce-chunk-v1\0";
const SEALED_CHUNK_DOMAIN: &[u8] = b"ensconce-sealed-chunk-v1\0";
const FILE_DOMAIN: &[u8] = b"ensconce-file-v1\0";

/// A SHA-256 value over one chunk.
pub type ChunkHash = [u8; HASH_LEN];

/// Hashes one plaintext chunk.
pub fn chunk_hash(bytes: &[u8]) -> ChunkHash {
    domain_hash(CHUNK_DOMAIN, &[bytes])
}

/// Hashes one sealed chunk (ciphertext followed by its GCM tag).
pub fn sealed_chunk_hash(bytes: &[u8]) -> ChunkHash {
    domain_hash(SEALED_CHUNK_DOMAIN, &[bytes])
}

/// SHA-256 over a domain label and the parts.
pub(crate) fn domain_hash(domain: &[u8], parts: &[&[u8]]) -> ChunkHash {
    let mut state = Sha256::new();
    state.update(domain);
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// Identity of a file's plaintext content, its size and its chunk size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest(pub [u8; HASH_LEN]);

impl FileDigest {
    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; HASH_LEN] {
        &self.0
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDigest({self})")
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a chunk list or a chunk was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The chunk size is not a power of two between [`MIN_CHUNK`] and [`MAX_CHUNK`].
    #[error("Chunk size {found} is not a power of two between {MIN_CHUNK} and {MAX_CHUNK}")]
    ChunkSize {
        /// The refused size in bytes.
        found: u32,
    },
    /// The file is larger than [`MAX_FILE_SIZE`].
    #[error("A file of {found} bytes is larger than the limit of {MAX_FILE_SIZE}")]
    FileTooLarge {
        /// The refused size in bytes.
        found: u64,
    },
    /// The number of chunk hashes does not fit the file size.
    #[error("A file of {size} bytes needs {expected} chunk hashes, found {found}")]
    HashCount {
        /// File size in bytes.
        size: u64,
        /// Number of chunks the size calls for.
        expected: u64,
        /// Number of hashes given.
        found: u64,
    },
    /// The chunk index lies behind the end of the file.
    #[error("Chunk {index} does not exist, the file has {count}")]
    NoSuchChunk {
        /// The index asked for.
        index: u64,
        /// Number of chunks in the file.
        count: u64,
    },
    /// The chunk has another length than its place in the file demands.
    #[error("Chunk {index} has {found} bytes instead of {expected}")]
    ChunkLength {
        /// The chunk's index.
        index: u64,
        /// Expected length in bytes.
        expected: u32,
        /// Length given in bytes.
        found: u64,
    },
    /// The chunk's bytes are not those that were listed.
    #[error("Chunk {index} does not match its listed hash")]
    Mismatch {
        /// The chunk's index.
        index: u64,
    },
}

/// Size, chunk size and derived geometry of a file; always within the format's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    size: u64,
    chunk_size: u32,
}

impl Geometry {
    /// Checks a file size and chunk size (both in bytes).
    ///
    /// # Errors
    /// [`DigestError::ChunkSize`] or [`DigestError::FileTooLarge`].
    pub fn new(size: u64, chunk_size: u32) -> Result<Self, DigestError> {
        if !chunk_size.is_power_of_two() || !(MIN_CHUNK..=MAX_CHUNK).contains(&chunk_size) {
            return Err(DigestError::ChunkSize { found: chunk_size });
        }
        if size > MAX_FILE_SIZE {
            return Err(DigestError::FileTooLarge { found: size });
        }
        Ok(Self { size, chunk_size })
    }

    /// File size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Chunk size in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Number of chunks; an empty file has none.
    pub fn chunk_count(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_size))
    }

    /// Offset of a chunk's first byte in the plaintext.
    pub fn chunk_start(&self, index: u64) -> Option<u64> {
        if index >= self.chunk_count() {
            return None;
        }
        index.checked_mul(u64::from(self.chunk_size))
    }

    /// Plaintext length of a chunk in bytes; only the last one may be short.
    pub fn chunk_len(&self, index: u64) -> Option<u32> {
        let rest = self.size.checked_sub(self.chunk_start(index)?)?;
        u32::try_from(rest.min(u64::from(self.chunk_size))).ok()
    }
}

/// The hashes of all plaintext chunks of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    geometry: Geometry,
    hashes: Vec<ChunkHash>,
}

impl ChunkList {
    /// Builds a list from parts that came from elsewhere.
    ///
    /// # Errors
    /// Refuses bad sizes and a count of hashes that does not fit the size.
    pub fn new(size: u64, chunk_size: u32, hashes: Vec<ChunkHash>) -> Result<Self, DigestError> {
        let geometry = Geometry::new(size, chunk_size)?;
        let (expected, found) = (geometry.chunk_count(), hashes.len() as u64);
        if expected != found {
            return Err(DigestError::HashCount {
                size,
                expected,
                found,
            });
        }
        Ok(Self { geometry, hashes })
    }

    /// Size, chunk size and what follows from them.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// File size in bytes.
    pub fn size(&self) -> u64 {
        self.geometry.size
    }

    /// Chunk size in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.geometry.chunk_size
    }

    /// The chunk hashes in file order.
    pub fn hashes(&self) -> &[ChunkHash] {
        &self.hashes
    }

    /// The file digest over this list.
    pub fn digest(&self) -> FileDigest {
        let mut state = Sha256::new();
        state.update(FILE_DOMAIN);
        state.update(self.geometry.size.to_le_bytes());
        state.update(self.geometry.chunk_size.to_le_bytes());
        for hash in &self.hashes {
            state.update(hash);
        }
        FileDigest(state.finalize().into())
    }

    /// Checks the plaintext of chunk `index` against the list.
    ///
    /// # Errors
    /// Names an index behind the end, a wrong length, or other bytes than listed.
    pub fn verify(&self, index: u64, bytes: &[u8]) -> Result<(), DigestError> {
        let no_such_chunk = DigestError::NoSuchChunk {
            index,
            count: self.geometry.chunk_count(),
        };
        let Some(expected) = self.geometry.chunk_len(index) else {
            return Err(no_such_chunk);
        };
        let Some(listed) = usize::try_from(index)
            .ok()
            .and_then(|at| self.hashes.get(at))
        else {
            return Err(no_such_chunk);
        };
        let found = bytes.len() as u64;
        if found != u64::from(expected) {
            return Err(DigestError::ChunkLength {
                index,
                expected,
                found,
            });
        }
        if bool::from(chunk_hash(bytes).ct_eq(listed)) {
            Ok(())
        } else {
            Err(DigestError::Mismatch { index })
        }
    }
}

/// Builds a [`ChunkList`] from a file's bytes, given in pieces of any length.
#[derive(Debug, Clone)]
pub struct FileDigester {
    chunk_size: u32,
    size: u64,
    in_chunk: u32,
    state: Sha256,
    hashes: Vec<ChunkHash>,
}

impl FileDigester {
    /// Starts a file that will be cut into chunks of `chunk_size` bytes.
    ///
    /// # Errors
    /// [`DigestError::ChunkSize`].
    pub fn new(chunk_size: u32) -> Result<Self, DigestError> {
        Geometry::new(0, chunk_size)?;
        Ok(Self {
            chunk_size,
            size: 0,
            in_chunk: 0,
            state: started_chunk(),
            hashes: Vec::new(),
        })
    }

    /// Adds the next bytes of the file.
    ///
    /// # Errors
    /// [`DigestError::FileTooLarge`].
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), DigestError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > MAX_FILE_SIZE {
            return Err(DigestError::FileTooLarge { found: size });
        }
        self.size = size;
        while !bytes.is_empty() {
            // in_chunk < chunk_size holds between rounds, so room is at least one byte.
            let room = self.chunk_size.saturating_sub(self.in_chunk);
            let take = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, later) = bytes.split_at(take);
            self.state.update(now);
            self.in_chunk = self
                .in_chunk
                .saturating_add(u32::try_from(take).unwrap_or(room));
            if self.in_chunk == self.chunk_size {
                self.close_chunk();
            }
            bytes = later;
        }
        Ok(())
    }

    /// Ends the file and gives its list.
    pub fn finish(mut self) -> ChunkList {
        if self.in_chunk > 0 {
            self.close_chunk();
        }
        ChunkList {
            geometry: Geometry {
                size: self.size,
                chunk_size: self.chunk_size,
            },
            hashes: self.hashes,
        }
    }

    fn close_chunk(&mut self) {
        let state = core::mem::replace(&mut self.state, started_chunk());
        self.hashes.push(state.finalize().into());
        self.in_chunk = 0;
    }
}

fn started_chunk() -> Sha256 {
    let mut state = Sha256::new();
    state.update(CHUNK_DOMAIN);
    state
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn follows_the_documented_formula() {
        let bytes = vec![7_u8; 70_000];
        let mut digester = FileDigester::new(CHUNK).unwrap();
        digester.update(&bytes).unwrap();
        let list = digester.finish();

        let one = |part: &[u8]| -> [u8; 32] {
            let mut input = b"ensconce-chunk-v1\0".to_vec();
            input.extend_from_slice(part);
            Sha256::digest(&input).into()
        };
        let (first, second) = (one(&bytes[..65_536]), one(&bytes[65_536..]));
        assert_eq!(list.hashes(), [first, second]);
        let mut input = b"ensconce-file-v1\0".to_vec();
        input.extend_from_slice(&70_000_u64.to_le_bytes());
        input.extend_from_slice(&65_536_u32.to_le_bytes());
        input.extend_from_slice(&first);
        input.extend_from_slice(&second);
        assert_eq!(list.digest().0, <[u8; 32]>::from(Sha256::digest(&input)));
    }

    #[test]
    fn digest_of_the_empty_file_is_fixed() {
        let list = FileDigester::new(CHUNK).unwrap().finish();
        assert_eq!(list.geometry().chunk_count(), 0);
        let mut input = b"ensconce-file-v1\0".to_vec();
        input.extend_from_slice(&[0; 8]);
        input.extend_from_slice(&[0, 0, 1, 0]);
        assert_eq!(list.digest().0, <[u8; 32]>::from(Sha256::digest(&input)));
    }

    #[test]
    fn plain_and_sealed_chunks_live_in_different_domains() {
        assert_ne!(chunk_hash(b"x"), sealed_chunk_hash(b"x"));
    }

    #[test]
    fn verify_names_what_is_wrong() {
        let mut digester = FileDigester::new(4096).unwrap();
        digester.update(&[1; 5000]).unwrap();
        let list = digester.finish();
        assert_eq!(list.verify(0, &[1; 4096]), Ok(()));
        assert_eq!(list.verify(1, &[1; 904]), Ok(()));
        assert_eq!(
            list.verify(1, &[2; 904]),
            Err(DigestError::Mismatch { index: 1 })
        );
        assert_eq!(
            list.verify(1, &[1; 905]),
            Err(DigestError::ChunkLength {
                index: 1,
                expected: 904,
                found: 905
            })
        );
        assert_eq!(
            list.verify(2, &[]),
            Err(DigestError::NoSuchChunk { index: 2, count: 2 })
        );
    }

    #[test]
    fn refuses_bad_geometry() {
        assert_eq!(
            Geometry::new(1, 5000),
            Err(DigestError::ChunkSize { found: 5000 })
        );
        assert_eq!(
            Geometry::new(1, 2048),
            Err(DigestError::ChunkSize { found: 2048 })
        );
        let found = MAX_FILE_SIZE + 1;
        assert_eq!(
            Geometry::new(found, CHUNK),
            Err(DigestError::FileTooLarge { found })
        );
        assert_eq!(
            ChunkList::new(1, CHUNK, vec![]),
            Err(DigestError::HashCount {
                size: 1,
                expected: 1,
                found: 0
            })
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..20_000), cut in 1_usize..9000) {
            let mut whole = FileDigester::new(4096).unwrap();
            whole.update(&bytes).unwrap();
            let whole = whole.finish();
            let mut pieces = FileDigester::new(4096).unwrap();
            for piece in bytes.chunks(cut) {
                pieces.update(piece).unwrap();
            }
            prop_assert_eq!(&pieces.finish(), &whole);
            for (index, chunk) in bytes.chunks(4096).enumerate() {
                prop_assert_eq!(whole.verify(index as u64, chunk), Ok(()));
            }
        }
    }
}
