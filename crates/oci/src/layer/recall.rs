// SPDX-License-Identifier: Apache-2.0
//! Layers that were read before: what is remembered of them takes the place
//! of decompressing them again.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::entry::TarEntry;
use super::{LayerError, StoredLayer};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::slice::FileSlice;

/// What a layer is remembered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerKey {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Digest of the decompressed bytes.
    pub diff_id: Digest,
    /// How it is stored.
    pub compression: Compression,
}

/// What was seen when a layer was read and both its digests were verified.
#[derive(Debug)]
pub struct Recalled {
    /// Decompressed size in bytes.
    pub size: u64,
    /// All entries in their order.
    pub entries: Vec<TarEntry>,
    /// Content of files.
    pub contents: Box<dyn Contents>,
}

/// Content of files of one remembered layer, as far as it was kept.
pub trait Contents: Debug + Send + Sync {
    /// The `size` bytes at `offset` of the decompressed layer; `None` if they
    /// were not kept. The layer is decompressed then.
    fn at(&self, offset: u64, size: u64) -> Option<FileSlice>;
}

/// Remembers layers.
///
/// Whoever implements it vouches for what it returns as for a verified layer:
/// the layer's stored bytes are checked against their digest only when they
/// are copied or decompressed.
pub trait Memory: Debug {
    /// What is known about a layer.
    fn recall(&self, key: &LayerKey) -> Option<Recalled>;
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl Memory for Forgetful {
    fn recall(&self, _key: &LayerKey) -> Option<Recalled> {
        None
    }
}

/// A remembered layer, decompressed after all when something asks for bytes
/// that were not kept.
#[derive(Debug)]
pub(super) struct Lazy {
    stored: StoredLayer,
    pub(super) recalled: Recalled,
    temp: PathBuf,
    opened: Mutex<Option<FileSlice>>,
}

impl Lazy {
    pub(super) fn new(stored: StoredLayer, recalled: Recalled, temp: PathBuf) -> Self {
        Self {
            stored,
            recalled,
            temp,
            opened: Mutex::new(None),
        }
    }

    pub(super) fn content(&self) -> Result<FileSlice, LayerError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = &*opened {
            return Ok(content.clone());
        }
        let content = self.stored.decompress(&self.temp, self.recalled.size)?.1;
        *opened = Some(content.clone());
        Ok(content)
    }

    pub(super) fn slice(&self, offset: u64, size: u64) -> io::Result<FileSlice> {
        if let Some(kept) = self.recalled.contents.at(offset, size)
            && kept.len() == size
        {
            return Ok(kept);
        }
        let content = self.content().map_err(io::Error::other)?;
        content
            .slice(offset, size)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
