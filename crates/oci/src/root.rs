// SPDX-License-Identifier: Apache-2.0
//! The merged root file system of an image, without unpacking it.
//!
//! Layers are decompressed once into private unlinked files; the view maps
//! each path to its metadata and to where its content lies in them. Nothing
//! is ever created on the host, and links are resolved inside the view.

mod merge;
mod resolve;
mod selection;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::image::Image;
use crate::layer::entry::{Metadata, TarEntry, WhiteoutError};
use crate::layer::recall::{Forgetful, Memory};
use crate::layer::walk::WalkError;
use crate::layer::{Layer, LayerError};
use crate::limits::Limits;
use crate::path::RootPath;
use crate::slice::FileSlice;

pub use resolve::ResolveError;
pub use selection::Selection;

/// Why layers do not make a root file system. Layers count from 0, the
/// bottom.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// A hard link to nothing, or to a directory.
    #[error("Layer {layer} links '{path}' to '{target}', which is no file")]
    HardLink {
        /// The layer.
        layer: usize,
        /// The link.
        path: RootPath,
        /// What it points to.
        target: RootPath,
    },
    /// A layer's stored bytes.
    #[error("Layer {layer} is unusable")]
    Layer {
        /// The layer.
        layer: usize,
        /// The reason.
        source: LayerError,
    },
    /// An entry that would have to lie in something that is no directory, in
    /// a loop of links, or too deep.
    #[error("Layer {layer} has the entry '{path}', whose directory cannot exist")]
    Parent {
        /// The layer.
        layer: usize,
        /// The entry.
        path: RootPath,
        /// The reason.
        source: ResolveError,
    },
    /// An entry for `/` that is no directory.
    #[error("Layer {layer} replaces the root by something else")]
    Root {
        /// The layer.
        layer: usize,
    },
    /// A layer's entries.
    #[error("Layer {layer} is not a usable archive")]
    Walk {
        /// The layer.
        layer: usize,
        /// The reason.
        source: WalkError,
    },
    /// A whiteout that names nothing.
    #[error("Layer {layer} has a malformed whiteout")]
    Whiteout {
        /// The layer.
        layer: usize,
        /// The reason.
        source: WhiteoutError,
    },
}

/// Where a file's content lies. Equal for all hard links of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileData {
    /// The layer, from 0 at the bottom.
    pub layer: usize,
    /// Bytes from the decompressed layer's start.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// What a path of the merged root is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    File(FileData),
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Vec<u8>,
    },
}

/// One path of the merged root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Owner, permissions, time, extended attributes. Directories that no
    /// layer lists belong to root with mode 0755.
    pub metadata: Metadata,
    /// The uppermost layer that says something about this path itself.
    pub layer: usize,
}

impl Node {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory)
    }
}

/// An entry of a layer together with where it took effect.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) entry: TarEntry,
    /// The entry's path after following links of its directory; for a
    /// whiteout still with the `.wh.` name.
    pub(crate) effective: RootPath,
    /// For regular files and hard links.
    pub(crate) data: Option<FileData>,
}

/// The merged root of an image and what each layer contributes.
#[derive(Debug)]
pub struct RootView {
    nodes: BTreeMap<RootPath, Node>,
    layers: Vec<Layer>,
    records: Vec<Vec<Record>>,
    /// What content was asked for.
    asked: Mutex<BTreeSet<FileData>>,
}

impl RootView {
    /// Decompresses, verifies and merges the layers of an image.
    ///
    /// Private unlinked files below `temp` hold the decompressed layers until
    /// the view and all its [`FileSlice`]s are dropped.
    ///
    /// # Errors
    /// [`RootError`] for anything in the image that is damaged, hostile or
    /// beyond `limits`.
    pub fn open(image: &Image, limits: &Limits, temp: &Path) -> Result<Self, RootError> {
        Self::open_with(image, limits, temp, &Forgetful)
    }

    /// As [`Self::open`], but layers that `memory` knows are not read until
    /// something of them is needed that it does not know.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        image: &Image,
        limits: &Limits,
        temp: &Path,
        memory: &dyn Memory,
    ) -> Result<Self, RootError> {
        let mut left = limits.content;
        let mut layers = Vec::new();
        for (number, stored) in image.layers().iter().enumerate() {
            let layer = stored
                .open_or_recall(memory, temp, left)
                .map_err(|source| RootError::Layer {
                    layer: number,
                    source,
                })?;
            left = left.saturating_sub(layer.size());
            layers.push(layer);
        }
        Self::merge(layers, limits)
    }

    /// The layers from the bottom, verified.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The entries of a layer in their order; none for an unknown layer.
    pub fn entries(&self, layer: usize) -> impl Iterator<Item = &TarEntry> {
        self.records
            .get(layer)
            .into_iter()
            .flatten()
            .map(|record| &record.entry)
    }

    /// What lies at exactly this path, links not followed.
    #[must_use]
    pub fn node(&self, path: &RootPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All paths in ascending order, the root first.
    pub fn iter(&self) -> impl Iterator<Item = (&RootPath, &Node)> {
        self.nodes.iter()
    }

    /// A path and all below it in ascending order.
    pub fn subtree(&self, path: &RootPath) -> impl Iterator<Item = (&RootPath, &Node)> {
        let itself = self.nodes.get_key_value(path);
        let below = path.before_children()..path.after_subtree();
        let below = self.nodes.range(below);
        // "/" is its own first child position.
        itself
            .into_iter()
            .chain(below.filter(move |(below, _)| !below.is_root()))
    }

    /// The members of a directory in ascending order.
    pub fn children(&self, path: &RootPath) -> Children<'_> {
        Children {
            nodes: &self.nodes,
            directory: path.clone(),
            next: path.before_children(),
            end: path.after_subtree(),
        }
    }

    /// The files whose content was asked for so far: what a caller needs
    /// beyond names, and may want to keep for the next time.
    #[must_use]
    pub fn asked_for(&self) -> Vec<FileData> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().copied().collect()
    }

    /// A file's content, readable at random.
    ///
    /// # Errors
    /// `UnexpectedEof` for data of another view; those of
    /// [`Layer::content`] for a layer that was only remembered.
    pub fn content(&self, data: &FileData) -> io::Result<FileSlice> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*data);
        self.layers
            .get(data.layer)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            .and_then(|layer| layer.slice(data.offset, data.size))
    }
}

/// Iterates over the members of a directory without visiting what lies
/// deeper.
#[derive(Debug)]
pub struct Children<'a> {
    nodes: &'a BTreeMap<RootPath, Node>,
    directory: RootPath,
    next: RootPath,
    end: RootPath,
}

impl<'a> Iterator for Children<'a> {
    type Item = (&'a RootPath, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next >= self.end {
                return None;
            }
            let found = self.nodes.range(&self.next..&self.end).next()?;
            self.next = found.0.successor();
            if found.0.is_root() {
                continue;
            }
            let prefix = self.directory.children_prefix();
            let below = found.0.as_bytes().get(prefix.len()..)?;
            let Some(slash) = below.iter().position(|byte| *byte == b'/') else {
                return Some(found);
            };
            // Deeper: skip the whole subtree of the member it belongs to.
            let member = self.directory.join(below.get(..slash)?).ok()?;
            self.next = member.after_subtree();
        }
    }
}
