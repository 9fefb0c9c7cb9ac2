// SPDX-License-Identifier: Apache-2.0
//! Layers: tar archives of changes to a root file system.
//!
//! [`walk`] reads entries without trusting any of them, [`mod@write`] makes new
//! layers, [`rewrite`] copies one and leaves entries out, [`recall`] stands in
//! for reading one again.

pub mod entry;
pub mod pax;
pub mod recall;
pub mod rewrite;
pub mod walk;
pub mod write;

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::compression::{BUFFER, Compression};
use crate::digest::{Digest, Hasher, HashingReader};
use crate::slice::FileSlice;
use entry::TarEntry;
use recall::{LayerKey, Lazy, Memory};

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
        let (digest, content) = self.decompress(temp, limit)?;
        Ok(Layer {
            blob: self.as_blob(digest),
            content: Content::Read(content),
        })
    }

    /// What it may be remembered by; `None` if nothing says which bytes are
    /// stored, as in compressed docker archives.
    #[must_use]
    pub fn key(&self) -> Option<LayerKey> {
        let plain = (self.compression == Compression::None).then_some(self.diff_id);
        Some(LayerKey {
            digest: self.digest.or(plain)?,
            diff_id: self.diff_id,
            compression: self.compression,
        })
    }

    /// The layer as it was seen earlier, unless that was too large for `limit`.
    fn recall(&self, memory: &dyn Memory, temp: &Path, limit: u64) -> Option<Layer> {
        let key = self.key()?;
        let recalled = memory.recall(&key).filter(|it| it.size <= limit)?;
        let lazy = Lazy::new(self.clone(), recalled, temp.into());
        Some(Layer {
            blob: self.as_blob(key.digest),
            content: Content::Recalled(Arc::new(lazy)),
        })
    }

    /// As [`Self::open`], but asks `memory` first.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_or_recall(
        &self,
        memory: &dyn Memory,
        temp: &Path,
        limit: u64,
    ) -> Result<Layer, LayerError> {
        match self.recall(memory, temp, limit) {
            Some(layer) => Ok(layer),
            None => self.open(temp, limit),
        }
    }

    fn as_blob(&self, digest: Digest) -> LayerBlob {
        LayerBlob {
            digest,
            diff_id: self.diff_id,
            compression: self.compression,
            bytes: self.blob.clone(),
            is_private: false,
        }
    }

    /// Digest of the stored bytes, and the decompressed ones.
    fn decompress(&self, temp: &Path, limit: u64) -> Result<(Digest, FileSlice), LayerError> {
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
        Ok((digest, decompressed.content))
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

/// A layer whose digests were verified, now or when it was read first.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(crate) blob: LayerBlob,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Read(FileSlice),
    Recalled(Arc<Lazy>),
}

impl Layer {
    /// The layer in the form in which images store it.
    #[must_use]
    pub fn blob(&self) -> &LayerBlob {
        &self.blob
    }

    /// The decompressed archive. One that was only remembered so far is
    /// decompressed now.
    ///
    /// # Errors
    /// As [`StoredLayer::open`]; never for a layer that was opened so.
    pub fn content(&self) -> Result<FileSlice, LayerError> {
        match &self.content {
            Content::Read(content) => Ok(content.clone()),
            Content::Recalled(lazy) => lazy.content(),
        }
    }

    /// Bytes of the decompressed archive.
    ///
    /// # Errors
    /// `UnexpectedEof` behind the end, and those of [`Self::content`].
    pub fn slice(&self, offset: u64, size: u64) -> io::Result<FileSlice> {
        match &self.content {
            Content::Read(content) => content
                .slice(offset, size)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
            Content::Recalled(lazy) => lazy.slice(offset, size),
        }
    }

    /// Decompressed size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Read(content) => content.len(),
            Content::Recalled(lazy) => lazy.recalled.size,
        }
    }

    /// What it may be remembered by.
    #[must_use]
    pub fn key(&self) -> LayerKey {
        LayerKey {
            digest: self.blob.digest,
            diff_id: self.blob.diff_id,
            compression: self.blob.compression,
        }
    }

    /// The entries of a layer that was not read but remembered.
    #[must_use]
    pub fn recalled_entries(&self) -> Option<&[TarEntry]> {
        match &self.content {
            Content::Read(_) => None,
            Content::Recalled(lazy) => Some(&lazy.recalled.entries),
        }
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
    /// A layer that the caller wrote and kept. All of it is believed, so
    /// `stored` must be a file that nobody else can change.
    #[must_use]
    pub fn kept(key: &LayerKey, stored: FileSlice) -> Self {
        Self {
            digest: key.digest,
            diff_id: key.diff_id,
            compression: key.compression,
            bytes: stored,
            is_private: true,
        }
    }

    /// The stored bytes.
    #[must_use]
    pub fn stored(&self) -> &FileSlice {
        &self.bytes
    }

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
