// SPDX-License-Identifier: Apache-2.0
//! Layers: tar archives of changes to a root file system.
//!
//! [`walk`] reads entries without trusting any of them, [`write`] makes new
//! layers, [`rewrite`] copies one and leaves entries out.

pub mod entry;
pub mod pax;
pub mod rewrite;
pub mod walk;
pub mod write;

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use crate::compression::{BUFFER, Compression};
use crate::digest::{Digest, Hasher, HashingReader};
use crate::slice::FileSlice;

/// Why a layer's stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The stored bytes are not the ones the manifest names.
    #[error("Layer has the digest {found} where {expected} is expected")]
    Digest {
        /// From the manifest.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// The decompressed bytes are not the ones the configuration names.
    #[error("Decompressed layer has the digest {found} where {expected} is expected")]
    DiffId {
        /// From the configuration.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// Reading, decompressing or spooling failed.
    #[error("Cannot decompress a layer stored as {compression:?}")]
    Io {
        /// How it is stored.
        compression: Compression,
        /// The reason.
        source: io::Error,
    },
    /// It decompresses to more than the limits allow.
    #[error("Layer decompresses to more than {limit} bytes")]
    TooLarge {
        /// What was left of the limit.
        limit: u64,
    },
}

/// A layer as stored in an image, not yet read.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    pub(crate) blob: FileSlice,
    pub(crate) compression: Compression,
    /// From the manifest; docker archives do not say.
    pub(crate) digest: Option<Digest>,
    /// From the configuration.
    pub(crate) diff_id: Digest,
}

impl StoredLayer {
    /// How it is stored.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The digest of the decompressed bytes that the configuration promises.
    #[must_use]
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// The stored size in bytes.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.blob.len()
    }

    /// Decompresses into a private unlinked file below `temp`, verifying both
    /// digests in the same pass.
    ///
    /// # Errors
    /// [`LayerError`] for wrong digests, bad compression, more than `limit`
    /// decompressed bytes, or a full disk.
    pub fn open(&self, temp: &Path, limit: u64) -> Result<Layer, LayerError> {
        let decompressed = Decompressed::read(&self.blob, self.compression, temp, limit)?;
        let (digest, found) = (decompressed.stored, decompressed.plain);
        if let Some(expected) = self.digest
            && expected != digest
        {
            return Err(LayerError::Digest {
                expected,
                found: digest,
            });
        }
        if found != self.diff_id {
            return Err(LayerError::DiffId {
                expected: self.diff_id,
                found,
            });
        }
        Ok(Layer {
            blob: LayerBlob {
                digest,
                diff_id: found,
                compression: self.compression,
                bytes: self.blob.clone(),
                is_private: false,
            },
            content: decompressed.content,
        })
    }
}

/// Decompresses a whole stream into a private unlinked file below `temp`.
pub(crate) fn decompress(
    stored: &FileSlice,
    compression: Compression,
    temp: &Path,
    limit: u64,
) -> Result<FileSlice, LayerError> {
    Decompressed::read(stored, compression, temp, limit).map(|read| read.content)
}

struct Decompressed {
    content: FileSlice,
    /// Digest of the stored bytes.
    stored: Digest,
    /// Digest of the decompressed bytes.
    plain: Digest,
}

impl Decompressed {
    fn read(
        blob: &FileSlice,
        compression: Compression,
        temp: &Path,
        limit: u64,
    ) -> Result<Self, LayerError> {
        let failed = |source| LayerError::Io {
            compression,
            source,
        };
        let stored = HashingReader::new(blob.reader());
        let mut decoder = compression
            .decoder(BufReader::with_capacity(BUFFER, stored))
            .map_err(failed)?;
        let mut spool = tempfile::tempfile_in(temp).map_err(failed)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        let mut total = 0_u64;
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            total = total.saturating_add(read as u64);
            if total > limit {
                return Err(LayerError::TooLarge { limit });
            }
            // What is stored plainly was hashed on its way already.
            if compression != Compression::None {
                hasher.update(bytes);
            }
            spool.write_all(bytes).map_err(failed)?;
        }
        let mut rest = decoder.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(failed)?;
        let (stored, _) = rest.into_inner().finish();
        Ok(Self {
            content: FileSlice::whole(spool).map_err(failed)?,
            stored,
            plain: match compression {
                Compression::None => stored,
                Compression::Gzip | Compression::Zstd => hasher.finish(),
            },
        })
    }
}

/// A layer whose digests were verified and whose content is at hand.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(crate) blob: LayerBlob,
    pub(crate) content: FileSlice,
}

impl Layer {
    /// The layer in the form in which images store it.
    #[must_use]
    pub fn blob(&self) -> &LayerBlob {
        &self.blob
    }

    /// The decompressed archive.
    #[must_use]
    pub fn content(&self) -> &FileSlice {
        &self.content
    }
}

/// A layer in storage form with its digests, ready to be part of an image.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
    pub(crate) bytes: FileSlice,
    /// Whether only this process can change the bytes. If not, they are
    /// hashed again when they are copied.
    pub(crate) is_private: bool,
}

impl LayerBlob {
    /// How it is stored.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The digest of the decompressed archive.
    #[must_use]
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// The digest of the stored bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The stored size in bytes.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.bytes.len()
    }
}
