// SPDX-License-Identifier: Apache-2.0
//! The reading side: opens an FSPF of which only the key and the tag are trusted.
//!
//! Nothing is read ahead. Opening verifies the header and the root page; looking a path up
//! verifies the pages from the root to one leaf; verified pages are kept, bounded in bytes.

mod cache;
mod descent;
mod error;
mod file;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

pub use error::ReadError;
pub use file::{ChunkError, ChunkSlot, FileReader};

use crate::backing::{Backing, fill};
use crate::blob::Blob;
use crate::digest::ChunkList;
use crate::entry::{DirEntry, Entry, Kind, Node};
use crate::header::{self, HEADER_LEN, Header};
use crate::key::{FspfKey, FspfTag};
use crate::page::{self, Body, Page, PageError, PageRef, Refusal, Role, RootPage};
use crate::path::{self, PathText};
use crate::region::{Class, Regions, Storage};
use crate::sites;
use crate::xattr::{self, Xattrs};
use cache::Cache;

/// Bytes of verified pages kept by [`Fspf::open`].
pub const DEFAULT_CACHE_BYTES: usize = 1024 * 1024;

/// An open, verified FSPF. One user at a time: callers that share it put it under a lock.
#[derive(Debug)]
pub struct Fspf<B> {
    backing: B,
    key: FspfKey,
    tag: FspfTag,
    header: Header,
    root: RootPage,
    /// Level of the tree's top page.
    level: u8,
    cache: Cache,
    pages_read: u64,
}

impl<B: Backing> Fspf<B> {
    /// Opens an FSPF and verifies its header, region table and root against the tag.
    ///
    /// # Errors
    /// [`ReadError`]; nothing of the file is believed before the tag fits.
    pub fn open(backing: B, key: &FspfKey, tag: FspfTag) -> Result<Self, ReadError<B::Error>> {
        Self::open_with_cache(backing, key, tag, DEFAULT_CACHE_BYTES)
    }

    /// As [`Self::open`], keeping at most `cache_bytes` of verified pages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_cache(
        backing: B,
        key: &FspfKey,
        tag: FspfTag,
        cache_bytes: usize,
    ) -> Result<Self, ReadError<B::Error>> {
        let mut bytes = [0; HEADER_LEN];
        read_exactly(&backing, 0, &mut bytes)?;
        let header = Header::parse(&bytes)?;
        let found = header::tag(&bytes);
        if !found.matches(&tag) {
            let expected = tag;
            return Err(ReadError::WrongTag { expected, found });
        }
        let plaintext = fetch(&backing, key, &header, &header.root)?;
        let offset = header.root.offset;
        let malformed = |source| ReadError::Page { offset, source };
        let level = RootPage::level_of(&plaintext).map_err(malformed)?;
        let parsed = Page::parse(&plaintext, Role::Root, level, header.chunk_size);
        let Page::Root(root) = parsed.map_err(malformed)? else {
            return Err(malformed(PageError::Field { field: "role" }));
        };
        Ok(Self {
            backing,
            key: key.clone(),
            tag,
            header,
            root,
            level,
            cache: Cache::new(cache_bytes),
            pages_read: 1,
        })
    }

    /// The region table.
    pub fn regions(&self) -> &Regions {
        &self.root.regions
    }

    /// The tag that pins this FSPF.
    pub fn tag(&self) -> FspfTag {
        self.tag
    }

    /// Chunk size of all files, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.header.chunk_size
    }

    /// Number of entries in the tree.
    pub fn entry_count(&self) -> u64 {
        self.root.entries
    }

    /// Pages fetched from the backing and verified since opening, the root page included.
    pub fn pages_read(&self) -> u64 {
        self.pages_read
    }

    /// Looks a normalised absolute path up; symlinks are not followed. `None` is proven by the
    /// tree: in a protected region the path does not exist.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Entry>, ReadError<B::Error>> {
        path::check(path)?;
        let Some((position, body)) = self.find(path)? else {
            return Ok(None);
        };
        let ino = position.saturating_add(1);
        let (stored_path, ino, node) = match body {
            Body::Node(node) => (path.to_vec(), ino, node),
            Body::Link { ino, target } => {
                let node = self.follow_link(path, ino, &target)?;
                (target, ino, node)
            }
        };
        // The class of the path and the way the content is stored are both under the tag; they
        // must say the same (S15).
        if let Kind::File(content) = &node.kind {
            let class = self.root.regions.class_of(path);
            if class.storage() != Some(content.storage) {
                return Err(inconsistent(path, "its region asks for another protection"));
            }
        }
        Ok(Some(Entry {
            path: path.to_vec(),
            stored_path,
            ino,
            node,
        }))
    }

    /// Lists a directory in the tree's order: calls `visit` for each entry from `cursor` on until
    /// it returns `false`, and gives the cursor of the first entry that was not taken.
    ///
    /// Cursor 0 is the start; other cursors come from [`DirEntry::next`] or this function. They
    /// stay valid for as long as the FSPF does. `.` and `..` are not listed, and neither are
    /// regions without an entry: see [`Regions::children_of`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_dir(
        &mut self,
        path: &[u8],
        cursor: u64,
        mut visit: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<u64, ReadError<B::Error>> {
        let is_dir = matches!(self.lookup(path)?, Some(entry) if *entry.kind() == Kind::Directory);
        if !is_dir {
            let path = PathText::new(path);
            return Err(ReadError::NotADirectory { path });
        }
        let mut position = cursor.max(self.lower_bound((path, b""))?);
        loop {
            let Some(leaf) = self.leaf_at(position)? else {
                return Ok(position);
            };
            while let Some((key, body)) = leaf.at(position) {
                if *key.parent != *path {
                    return Ok(position);
                }
                let next = position.saturating_add(1);
                let entry = DirEntry {
                    name: &key.name,
                    ino: match body {
                        Body::Node(_) => next,
                        Body::Link { ino, .. } => *ino,
                    },
                    file_type: body.file_type(),
                    next,
                };
                if !visit(&entry) {
                    return Ok(position);
                }
                position = next;
            }
        }
    }

    /// Prepares to read a file's content.
    ///
    /// # Errors
    /// [`ReadError::NotAFile`], or a digest that does not fit the hashes.
    pub fn open_file(&mut self, entry: &Entry) -> Result<FileReader, ReadError<B::Error>> {
        let content = content_of(entry)?;
        // Long hash lists are not read as a whole; chunk_list does that for who wants it.
        if let (Storage::Authenticated, Blob::Inline(_)) = (content.storage, &content.hashes) {
            self.chunk_list(entry)?;
        }
        Ok(FileReader::new(&self.key, &entry.stored_path, content))
    }

    /// The hashes of the stored chunks of a file. Of an authenticated file they are those of its
    /// plaintext, and the file digest is checked against them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn chunk_list(&mut self, entry: &Entry) -> Result<ChunkList, ReadError<B::Error>> {
        let content = content_of(entry)?;
        let bytes = self.whole_blob(&content.hashes, entry)?;
        let (hashes, _) = bytes.as_chunks::<32>();
        let list = ChunkList::new(
            content.size(),
            content.geometry.chunk_size(),
            hashes.to_vec(),
        )
        .map_err(|source| ReadError::Chunks {
            path: entry.text(),
            source,
        })?;
        if content.storage == Storage::Authenticated && list.digest() != content.digest {
            return Err(inconsistent(
                &entry.path,
                "its digest is not that of its chunks",
            ));
        }
        Ok(list)
    }

    /// The extended attributes of an entry.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn xattrs(&mut self, entry: &Entry) -> Result<Xattrs, ReadError<B::Error>> {
        let bytes = self.whole_blob(&entry.node.xattrs, entry)?;
        xattr::parse(&bytes).map_err(|source| ReadError::Xattrs {
            path: entry.text(),
            source,
        })
    }

    /// Syscall sites of a file, two words each as [`crate::sites`] describes them; empty if none were
    /// recorded.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn sites(&mut self, entry: &Entry) -> Result<Vec<u32>, ReadError<B::Error>> {
        let content = content_of(entry)?;
        let bytes = self.whole_blob(&content.sites, entry)?;
        sites::parse(&bytes).map_err(|source| ReadError::Sites {
            path: entry.text(),
            source,
        })
    }

    /// Where a chunk lies in the file's stored bytes, and what it must be.
    ///
    /// # Errors
    /// [`ReadError`]; a chunk behind the end is [`ChunkError::NoSuchChunk`].
    pub fn slot(
        &mut self,
        file: &FileReader,
        index: u64,
    ) -> Result<ChunkSlot, ReadError<B::Error>> {
        let place = file.place(index)?;
        // At most 2^32 chunks of 32 bytes.
        let offset = index.saturating_mul(32);
        let piece = self.blob_piece(file.hashes(), offset, file.path())?;
        let hash = usize::try_from(piece.skip)
            .ok()
            .and_then(|skip| piece.bytes().get(skip..)?.first_chunk::<32>())
            .ok_or_else(|| inconsistent(file.path(), "its list of chunk hashes is short"))?;
        Ok(place.with_hash(*hash))
    }

    /// Turns a mismatch into the name of the chunk that lies in its place, if it is a neighbour:
    /// one whose hash is listed in the same page.
    pub(crate) fn explain(&mut self, file: &FileReader, error: ChunkError) -> ChunkError {
        let Some((chunk, found_hash)) = error.mismatch() else {
            return error;
        };
        let Ok(piece) = self.blob_piece(file.hashes(), chunk.saturating_mul(32), file.path())
        else {
            return error;
        };
        let (hashes, _) = piece.bytes().as_chunks::<32>();
        let first = (chunk.saturating_mul(32).saturating_sub(piece.skip)) / 32;
        match hashes.iter().position(|hash| *hash == found_hash) {
            Some(at) => error.swapped_with(first.saturating_add(at as u64)),
            None => error,
        }
    }

    fn follow_link(
        &mut self,
        path: &[u8],
        ino: u64,
        target: &[u8],
    ) -> Result<Node, ReadError<B::Error>> {
        match self.find(target)? {
            Some((position, Body::Node(node)))
                if position.saturating_add(1) == ino && matches!(node.kind, Kind::File(_)) =>
            {
                Ok(node)
            }
            _ => Err(inconsistent(path, "it is a hard link to no file")),
        }
    }

    /// Whether the path lies in a region in which an unlisted path does not exist.
    pub fn is_protected(&self, path: &[u8]) -> bool {
        self.class_of(path).is_protected()
    }

    /// The class of a normalised absolute path.
    pub fn class_of(&self, path: &[u8]) -> Class {
        self.root.regions.class_of(path)
    }
}

fn content_of<E: Debug + Display>(
    entry: &Entry,
) -> Result<&crate::entry::FileContent, ReadError<E>> {
    entry
        .file()
        .ok_or_else(|| ReadError::NotAFile { path: entry.text() })
}

fn inconsistent<E: Debug + Display>(path: &[u8], what: &'static str) -> ReadError<E> {
    ReadError::Inconsistent {
        path: PathText::new(path),
        what,
    }
}

fn read_exactly<B: Backing>(
    backing: &B,
    start: u64,
    buffer: &mut [u8],
) -> Result<(), ReadError<B::Error>> {
    let read = fill(backing, start, buffer).map_err(ReadError::Backing)?;
    if read == buffer.len() {
        return Ok(());
    }
    Err(ReadError::Truncated {
        start,
        end: start.saturating_add(buffer.len() as u64),
        found: read as u64,
    })
}

/// Reads, verifies and opens one page.
fn fetch<B: Backing>(
    backing: &B,
    key: &FspfKey,
    header: &Header,
    reference: &PageRef,
) -> Result<Vec<u8>, ReadError<B::Error>> {
    let start = reference.offset;
    let length = reference
        .checked_length()
        .filter(|_| header.holds(reference))
        .ok_or(ReadError::OutOfBounds { offset: start })?;
    let mut page = vec![0; length];
    read_exactly(backing, start, &mut page)?;
    match page::open(key, reference, &mut page) {
        Ok(()) => Ok(page),
        Err(Refusal::Hash) => Err(ReadError::PageMismatch {
            start,
            end: start.saturating_add(length as u64),
        }),
        Err(Refusal::Key) => Err(ReadError::WrongKey),
        Err(Refusal::Plaintext) => Err(ReadError::Page {
            offset: start,
            source: PageError::Field {
                field: "plain hash",
            },
        }),
    }
}

#[cfg(test)]
mod tests;
