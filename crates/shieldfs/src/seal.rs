// SPDX-License-Identifier: Apache-2.0
//! The writing side: collects entries, seals file content, writes the FSPF.

mod content;
mod pages;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

use crate::backing::{Sink, Source};
use crate::blob::Blob;
use crate::digest::{CHUNK, ChunkList, DigestError, Geometry};
use crate::entry::{DeviceNumber, Kind, MAX_TARGET, Meta};
use crate::key::{FspfKey, FspfTag};
use crate::path::{self, PathError, PathText};
use crate::region::{Class, Regions, Storage};
use crate::sites::{self, SitesError};
use crate::xattr::{self, XattrError, Xattrs};

/// Why an entry was refused, or the whole tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The path is not normalised and absolute, or too long.
    #[error("The path cannot be sealed")]
    Path(#[from] PathError),
    /// The path was added before.
    #[error("{path} was added twice")]
    Duplicate {
        /// The path.
        path: PathText,
    },
    /// The region of the path is not protected, so the tree may not list content in it.
    #[error("{path} lies in a region of class {class}, whose content the tree does not list")]
    NotProtected {
        /// The path.
        path: PathText,
        /// Its class.
        class: Class,
    },
    /// Hashes alone were given for a file that is stored encrypted.
    #[error("{path} is stored encrypted, which takes its content")]
    NeedsContent {
        /// The path.
        path: PathText,
    },
    /// Mode or time out of range.
    #[error("{path} has a mode or time that cannot be recorded")]
    Meta {
        /// The path.
        path: PathText,
    },
    /// A symlink target that is empty, too long or holds a NUL byte.
    #[error("{path} has a link target that cannot be recorded")]
    Target {
        /// The path.
        path: PathText,
    },
    /// Extended attributes out of bounds.
    #[error("The extended attributes of {path} cannot be recorded")]
    Xattrs {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: XattrError,
    },
    /// A syscall-site list out of order or bounds.
    #[error("The syscall sites of {path} cannot be recorded")]
    Sites {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: SitesError,
    },
    /// The path was not added, or is not of the type the call needs.
    #[error("{path} is not a {wanted} of this tree")]
    NoSuchEntry {
        /// The path.
        path: PathText,
        /// What it should have been.
        wanted: &'static str,
    },
    /// The parent of an entry is missing or not a directory.
    #[error("{path} has no parent directory in the tree")]
    NoParent {
        /// The entry's path.
        path: PathText,
    },
    /// A hard link whose target lies in a region of another class.
    #[error(
        "{path} is a hard link to {target}, which is protected differently; add it as a file of its own"
    )]
    LinkAcrossRegions {
        /// The link.
        path: PathText,
        /// The file it names.
        target: PathText,
    },
    /// A size or chunk size out of range.
    #[error("The size cannot be recorded")]
    Size(#[from] DigestError),
    /// The tree would be deeper than readers accept.
    #[error("The tree has too many long names: {levels} levels are needed")]
    TooDeep {
        /// Branch levels needed.
        levels: usize,
    },
}

/// Why a file's content could not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddFileError<R: Debug + Display, W: Debug + Display> {
    /// The entry itself was refused.
    #[error(transparent)]
    Entry(#[from] SealError),
    /// The plaintext could not be read.
    #[error("Reading {path} failed: {error}")]
    Read {
        /// The file.
        path: PathText,
        /// The source's own error.
        error: R,
    },
    /// The stored bytes could not be written.
    #[error("Writing the stored form of {path} failed: {error}")]
    Write {
        /// The file.
        path: PathText,
        /// The sink's own error.
        error: W,
    },
    /// The source ended early, or gave other bytes when read again.
    #[error("{path} changed while it was being sealed, at chunk {chunk}")]
    Changed {
        /// The file.
        path: PathText,
        /// The first chunk that differs.
        chunk: u64,
    },
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedFile {
    /// Hashes of the plaintext chunks; its digest is the file's identity.
    pub plaintext: ChunkList,
    /// How the file is stored.
    pub storage: Storage,
    /// Number of bytes the sink took.
    pub stored_size: u64,
}

/// Counts of a finished FSPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SealStats {
    /// All entries.
    pub entries: u64,
    /// Regular files stored in clear.
    pub authenticated_files: u64,
    /// Regular files stored encrypted.
    pub encrypted_files: u64,
    /// Pages written, the root page included.
    pub pages: u64,
    /// Pages from the root page down to a leaf, both included.
    pub depth: u8,
}

/// A finished FSPF: what to store, and what pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedFspf {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The tag that pins them.
    pub tag: FspfTag,
    /// Counts.
    pub stats: SealStats,
}

#[derive(Debug)]
struct Pending {
    meta: Meta,
    xattrs: Vec<u8>,
    body: PendingBody,
}

#[derive(Debug)]
enum PendingBody {
    File {
        list: ChunkList,
        storage: Storage,
        /// Hashes of the stored chunks.
        hashes: Vec<u8>,
        sites: Vec<u8>,
    },
    Link {
        target: Vec<u8>,
    },
    Other(Kind),
}

/// Parent path and name, in the order of the tree.
type OrderKey = (Vec<u8>, Vec<u8>);

/// Collects a tree and writes it as an FSPF.
///
/// The result depends on the key, the regions and the entries, not on the order of the calls.
#[derive(Debug)]
pub struct Sealer {
    key: FspfKey,
    regions: Regions,
    chunk_size: u32,
    entries: BTreeMap<OrderKey, Pending>,
}

impl Sealer {
    /// Starts an empty tree with chunks of [`CHUNK`] bytes.
    pub fn new(key: FspfKey, regions: Regions) -> Self {
        Self {
            key,
            regions,
            chunk_size: CHUNK,
            entries: BTreeMap::new(),
        }
    }

    /// Starts an empty tree with another chunk size, in bytes.
    ///
    /// # Errors
    /// [`SealError::Size`].
    pub fn with_chunk_size(
        key: FspfKey,
        regions: Regions,
        chunk_size: u32,
    ) -> Result<Self, SealError> {
        Geometry::new(0, chunk_size)?;
        Ok(Self {
            chunk_size,
            ..Self::new(key, regions)
        })
    }

    /// The region table the tree will carry.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Adds a directory. `/` is added by itself if it never is: mode 0755, owned by root.
    ///
    /// # Errors
    /// [`SealError`]; a directory of an unprotected region may only be the region's own prefix.
    pub fn add_dir(&mut self, path: &[u8], meta: Meta) -> Result<(), SealError> {
        path::check(path)?;
        let (prefix, class) = self.regions.region_of(path);
        if !class.is_protected() && prefix != path {
            return Err(not_protected(path, class));
        }
        self.insert(path, meta, PendingBody::Other(Kind::Directory))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn add_symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), SealError> {
        self.storage_of(path)?;
        if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
            let path = PathText::new(path);
            return Err(SealError::Target { path });
        }
        let target = target.to_vec();
        self.insert(path, meta, PendingBody::Other(Kind::Symlink { target }))
    }

    /// Adds a further name for a file; the file itself may be added later.
    ///
    /// # Errors
    /// [`SealError`]; whether the target is a file in a region of the same class is checked by
    /// [`Self::finish`].
    pub fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), SealError> {
        self.storage_of(path)?;
        path::check(target)?;
        let target = target.to_vec();
        // A link has no metadata of its own; it shows the file's.
        self.insert(path, Meta::with_mode(0), PendingBody::Link { target })
    }

    /// Records a FIFO; it can be seen, not opened.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn add_fifo(&mut self, path: &[u8], meta: Meta) -> Result<(), SealError> {
        self.add_other(path, meta, Kind::Fifo)
    }

    /// Records a socket; it can be seen, not opened.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn add_socket(&mut self, path: &[u8], meta: Meta) -> Result<(), SealError> {
        self.add_other(path, meta, Kind::Socket)
    }

    /// Records a character device; it can be seen, not opened.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn add_char_device(
        &mut self,
        path: &[u8],
        meta: Meta,
        number: DeviceNumber,
    ) -> Result<(), SealError> {
        self.add_other(path, meta, Kind::CharDevice(number))
    }

    /// Records a block device; it can be seen, not opened.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn add_block_device(
        &mut self,
        path: &[u8],
        meta: Meta,
        number: DeviceNumber,
    ) -> Result<(), SealError> {
        self.add_other(path, meta, Kind::BlockDevice(number))
    }

    /// Adds a file: hashes its plaintext and gives its stored form to the sink, as plaintext or
    /// as sealed chunks, whichever its region asks for.
    ///
    /// # Errors
    /// [`AddFileError`]; nothing is recorded then, and what the sink took is worthless.
    pub fn add_file<S: Source + ?Sized, K: Sink + ?Sized>(
        &mut self,
        path: &[u8],
        meta: Meta,
        source: &S,
        sink: &mut K,
    ) -> Result<AddedFile, AddFileError<S::Error, K::Error>> {
        let storage = self.storage_of(path)?;
        self.check_new(path, &meta)?;
        let stored = content::store(&self.key, path, self.chunk_size, storage, source, sink)?;
        let added = AddedFile {
            plaintext: stored.list.clone(),
            storage,
            stored_size: stored.size,
        };
        let body = PendingBody::File {
            list: stored.list,
            storage,
            hashes: stored.hashes,
            sites: Vec::new(),
        };
        self.insert(path, meta, body)?;
        Ok(added)
    }

    /// Adds a file of an authenticated region whose chunk hashes are known from an earlier reading.
    ///
    /// Wrong hashes weaken nothing: whoever opens the file finds that it does not match them.
    ///
    /// # Errors
    /// [`SealError::NeedsContent`] in an encrypted region; [`SealError::Size`] for hashes over chunks of another size than this tree's.
    pub fn add_known_file(
        &mut self,
        path: &[u8],
        meta: Meta,
        list: ChunkList,
    ) -> Result<(), SealError> {
        let storage = self.storage_of(path)?;
        if storage != Storage::Authenticated {
            let path = PathText::new(path);
            return Err(SealError::NeedsContent { path });
        }
        if list.chunk_size() != self.chunk_size {
            let found = list.chunk_size();
            return Err(DigestError::ChunkSize { found }.into());
        }
        let body = PendingBody::File {
            hashes: list.hashes().as_flattened().to_vec(),
            list,
            storage,
            sites: Vec::new(),
        };
        self.insert(path, meta, body)
    }

    /// Sets the extended attributes of an entry that was added and is not a hard link.
    ///
    /// # Errors
    /// [`SealError::NoSuchEntry`] or [`SealError::Xattrs`].
    pub fn set_xattrs(&mut self, path: &[u8], xattrs: &Xattrs) -> Result<(), SealError> {
        let text = || PathText::new(path);
        let encoded = xattr::encode(xattrs).map_err(|source| SealError::Xattrs {
            path: text(),
            source,
        })?;
        match self.entries.get_mut(&order_key(path)) {
            Some(Pending { body, xattrs, .. }) if !matches!(body, PendingBody::Link { .. }) => {
                *xattrs = encoded;
                Ok(())
            }
            _ => Err(SealError::NoSuchEntry {
                path: text(),
                wanted: "file, directory or symlink",
            }),
        }
    }

    /// Records the syscall sites of an added file: pairs of words as [`sites`] describes them.
    ///
    /// # Errors
    /// [`SealError::NoSuchEntry`] or [`SealError::Sites`].
    pub fn set_sites(&mut self, path: &[u8], words: &[u32]) -> Result<(), SealError> {
        let text = || PathText::new(path);
        let encoded = sites::encode(words).map_err(|source| SealError::Sites {
            path: text(),
            source,
        })?;
        match self
            .entries
            .get_mut(&order_key(path))
            .map(|it| &mut it.body)
        {
            Some(PendingBody::File { sites, .. }) => {
                *sites = encoded;
                Ok(())
            }
            _ => Err(SealError::NoSuchEntry {
                path: text(),
                wanted: "file",
            }),
        }
    }

    /// Writes the tree.
    ///
    /// # Errors
    /// Missing parents, hard links to nowhere, or a tree that is too deep.
    pub fn finish(mut self) -> Result<SealedFspf, SealError> {
        if !self.entries.contains_key(&order_key(b"/")) {
            let body = PendingBody::Other(Kind::Directory);
            self.insert(b"/", Meta::with_mode(0o755), body)?;
        }
        pages::write(&self.key, self.regions, self.chunk_size, self.entries)
    }

    fn add_other(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), SealError> {
        self.storage_of(path)?;
        self.insert(path, meta, PendingBody::Other(kind))
    }

    fn storage_of(&self, path: &[u8]) -> Result<Storage, SealError> {
        path::check(path)?;
        let class = self.regions.class_of(path);
        class.storage().ok_or_else(|| not_protected(path, class))
    }

    fn check_new(&self, path: &[u8], meta: &Meta) -> Result<(), SealError> {
        let path_text = || PathText::new(path);
        if !meta.is_valid() {
            return Err(SealError::Meta { path: path_text() });
        }
        if self.entries.contains_key(&order_key(path)) {
            return Err(SealError::Duplicate { path: path_text() });
        }
        Ok(())
    }

    fn insert(&mut self, path: &[u8], meta: Meta, body: PendingBody) -> Result<(), SealError> {
        self.check_new(path, &meta)?;
        if path == b"/" && !matches!(body, PendingBody::Other(Kind::Directory)) {
            return Err(SealError::NoParent {
                path: PathText::new(path),
            });
        }
        let xattrs = Vec::new();
        let pending = Pending { meta, xattrs, body };
        self.entries.insert(order_key(path), pending);
        Ok(())
    }
}

fn not_protected(path: &[u8], class: Class) -> SealError {
    SealError::NotProtected {
        path: PathText::new(path),
        class,
    }
}

fn order_key(path: &[u8]) -> OrderKey {
    let (parent, name) = path::split(path);
    (parent.to_vec(), name.to_vec())
}

/// A short string stays in the entry, a long one is written out.
fn place(bytes: Vec<u8>, write: impl FnOnce(&[u8]) -> Blob) -> Blob {
    if bytes.len() <= crate::blob::MAX_INLINE {
        Blob::Inline(bytes)
    } else {
        write(&bytes)
    }
}

#[cfg(test)]
mod tests;
