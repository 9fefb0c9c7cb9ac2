// SPDX-License-Identifier: Apache-2.0
//! The reading side: opens an FSPF of which only the key and the tag are trusted.
//!
//! Nothing is read ahead. Opening verifies the header and the root page; looking a path up
//! verifies the pages from the root to one leaf; verified pages are kept, bounded in bytes.

mod cache;
mod file;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

pub use file::{ChunkError, ChunkSlot, FileReader};

use crate::backing::{Backing, fill};
use crate::blob::{Blob, height, span};
use crate::digest::{ChunkList, DigestError};
use crate::entry::{DirEntry, Entry, Kind, Node};
use crate::header::{self, HEADER_LEN, Header, HeaderError};
use crate::key::{FspfKey, FspfTag};
use crate::page::{self, Body, Key, LeafPage, Page, PageError, PageRef, Refusal, Role, RootPage};
use crate::path::{self, PathError, PathText};
use crate::region::{Class, Regions, Storage};
use crate::sites::{self, SitesError};
use crate::xattr::{self, XattrError, Xattrs};
use cache::Cache;

/// Bytes of verified pages kept by [`Fspf::open`].
pub const DEFAULT_CACHE_BYTES: usize = 1024 * 1024;

/// Why an FSPF or a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E: Debug + Display> {
    /// The backing failed.
    #[error("Reading the stored bytes failed: {0}")]
    Backing(E),
    /// The FSPF ends early.
    #[error("The FSPF is truncated: bytes {start}..{end} are wanted, {found} of them are there")]
    Truncated {
        /// First byte wanted.
        start: u64,
        /// Byte behind the last one wanted.
        end: u64,
        /// Number of bytes found.
        found: u64,
    },
    /// The header is malformed, or of another version.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header is not the one the tag pins: another FSPF, an older one, or a changed one.
    #[error("The FSPF tag is {found}, expected {expected}: this is not the pinned FSPF")]
    WrongTag {
        /// The tag expected.
        expected: FspfTag,
        /// The tag of the header found.
        found: FspfTag,
    },
    /// The bytes are the pinned ones, but the key does not open them.
    #[error("The FSPF key does not open this FSPF")]
    WrongKey,
    /// A page's bytes are not those its parent names.
    #[error("The FSPF was changed: bytes {start}..{end} do not match the tree")]
    PageMismatch {
        /// First byte of the page.
        start: u64,
        /// Byte behind the page.
        end: u64,
    },
    /// A page reference leaves the file.
    #[error("The FSPF's tree points outside the file, to byte {offset}")]
    OutOfBounds {
        /// Where it points.
        offset: u64,
    },
    /// A verified page is malformed: whoever holds the key wrote it wrongly.
    #[error("The FSPF page at byte {offset} is malformed")]
    Page {
        /// First byte of the page.
        offset: u64,
        /// What is wrong with it.
        source: PageError,
    },
    /// Verified parts contradict each other: whoever holds the key wrote them wrongly.
    #[error("The FSPF contradicts itself about {path}: {what}")]
    Inconsistent {
        /// The path.
        path: PathText,
        /// The contradiction.
        what: &'static str,
    },
    /// The path asked for is not normalised.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path does not exist or is not a directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathText,
    },
    /// The entry is not a regular file.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathText,
    },
    /// An entry's extended attributes are malformed.
    #[error("The extended attributes of {path} are malformed")]
    Xattrs {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: XattrError,
    },
    /// A file's syscall sites are malformed.
    #[error("The syscall sites of {path} are malformed")]
    Sites {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: SitesError,
    },
    /// A file's chunk hashes are malformed.
    #[error("The chunk hashes of {path} are malformed")]
    Chunks {
        /// The path.
        path: PathText,
        /// What is wrong with them.
        source: DigestError,
    },
    /// A file's stored bytes are wrong.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

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

    /// File offsets of the syscall instructions of a file; empty if none were recorded.
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

    fn find(&mut self, path: &[u8]) -> Result<Option<(u64, Body)>, ReadError<B::Error>> {
        let key = path::split(path);
        let leaf = self.descend(Target::Key(key))?;
        Ok(leaf.and_then(|leaf| leaf.find(key).map(|(at, body)| (at, body.clone()))))
    }

    fn lower_bound(&mut self, key: Key<'_>) -> Result<u64, ReadError<B::Error>> {
        let leaf = self.descend(Target::Key(key))?;
        Ok(leaf.map_or(0, |leaf| leaf.lower_bound(key)))
    }

    /// The leaf that holds a position, `None` behind the last entry.
    fn leaf_at(&mut self, position: u64) -> Result<Option<LeafHandle>, ReadError<B::Error>> {
        let leaf = self.descend(Target::Position(position))?;
        Ok(leaf.filter(|leaf| leaf.at(position).is_some()))
    }

    fn descend(&mut self, target: Target<'_>) -> Result<Option<LeafHandle>, ReadError<B::Error>> {
        let mut reference = self.root.tree;
        let mut level = self.level;
        let mut expected: Option<(page::OwnedKey, u64)> = None;
        loop {
            let role = if level == 0 { Role::Leaf } else { Role::Branch };
            let page = self.page(&reference, role, level)?;
            let found = match &*page {
                Page::Leaf(leaf) => leaf.first_key().map(|key| (key.clone(), leaf.first)),
                Page::Branch(branch) => branch.first().map(|it| (it.key.clone(), it.first)),
                _ => None,
            };
            if expected.is_some() && expected != found {
                return Err(ReadError::Page {
                    offset: reference.offset,
                    source: PageError::Order,
                });
            }
            let Page::Branch(branch) = &*page else {
                return Ok(LeafHandle::new(page));
            };
            let child = match target {
                Target::Key(key) => branch.child_of_key(key),
                Target::Position(position) => branch.child_of_position(position),
            };
            let Some(child) = child else {
                return Ok(None);
            };
            expected = Some((child.key.clone(), child.first));
            reference = child.page;
            level = level.saturating_sub(1);
        }
    }

    /// A verified, parsed page, from the cache or the backing.
    fn page(
        &mut self,
        reference: &PageRef,
        role: Role,
        level: u8,
    ) -> Result<Arc<Page>, ReadError<B::Error>> {
        if let Some(page) = self.cache.find(reference, role, level) {
            return Ok(page);
        }
        let plaintext = fetch(&self.backing, &self.key, &self.header, reference)?;
        self.pages_read = self.pages_read.saturating_add(1);
        let page =
            Page::parse(&plaintext, role, level, self.header.chunk_size).map_err(|source| {
                ReadError::Page {
                    offset: reference.offset,
                    source,
                }
            })?;
        let page = Arc::new(page);
        self.cache
            .insert(*reference, role, level, Arc::clone(&page), plaintext.len());
        Ok(page)
    }

    /// The piece of a blob that holds the byte at `offset`.
    fn blob_piece(
        &mut self,
        blob: &Blob,
        offset: u64,
        path: &[u8],
    ) -> Result<Piece, ReadError<B::Error>> {
        let too_short = || inconsistent(path, "one of its byte strings is short");
        let (length, root) = match blob {
            Blob::Inline(bytes) => {
                return Ok(Piece {
                    holder: Holder::Inline(bytes.clone()),
                    skip: offset,
                });
            }
            Blob::Paged { length, root } => (*length, *root),
        };
        let mut level = height(length).ok_or_else(too_short)?;
        let mut reference = root;
        let mut skip = offset;
        while level > 0 {
            let page = self.page(&reference, Role::BlobBranch, level)?;
            level = level.saturating_sub(1);
            // span is at least PIECE, so the division is always by more than zero.
            let below = span(level);
            let at = usize::try_from(skip / below).map_err(|_| too_short())?;
            let Page::BlobBranch(refs) = &*page else {
                return Err(too_short());
            };
            reference = *refs.get(at).ok_or_else(too_short)?;
            skip %= below;
        }
        let page = self.page(&reference, Role::BlobPiece, 0)?;
        Ok(Piece {
            holder: Holder::Page(page),
            skip,
        })
    }

    fn whole_blob(&mut self, blob: &Blob, entry: &Entry) -> Result<Vec<u8>, ReadError<B::Error>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < blob.length() {
            let piece = self.blob_piece(blob, bytes.len() as u64, &entry.path)?;
            let fresh = usize::try_from(piece.skip)
                .ok()
                .and_then(|skip| piece.bytes().get(skip..))
                .filter(|fresh| !fresh.is_empty())
                .ok_or_else(|| inconsistent(&entry.path, "one of its byte strings is short"))?;
            bytes.extend_from_slice(fresh);
        }
        if bytes.len() as u64 != blob.length() {
            return Err(inconsistent(&entry.path, "one of its byte strings is long"));
        }
        Ok(bytes)
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

#[derive(Clone, Copy)]
enum Target<'a> {
    Key(Key<'a>),
    Position(u64),
}

/// A page that is known to be a leaf.
struct LeafHandle(Arc<Page>);

impl LeafHandle {
    fn new(page: Arc<Page>) -> Option<Self> {
        matches!(&*page, Page::Leaf(_)).then_some(Self(page))
    }

    fn leaf(&self) -> Option<&LeafPage> {
        match &*self.0 {
            Page::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    fn find(&self, key: Key<'_>) -> Option<(u64, &Body)> {
        self.leaf()?.find(key)
    }

    fn at(&self, position: u64) -> Option<(&page::OwnedKey, &Body)> {
        self.leaf()?.at(position)
    }

    fn lower_bound(&self, key: Key<'_>) -> u64 {
        self.leaf().map_or(0, |leaf| leaf.lower_bound(key))
    }
}

enum Holder {
    Inline(Vec<u8>),
    Page(Arc<Page>),
}

/// A part of a blob and how far into it the wanted byte lies.
struct Piece {
    holder: Holder,
    skip: u64,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match &self.holder {
            Holder::Inline(bytes) => bytes,
            Holder::Page(page) => match &**page {
                Page::BlobPiece(bytes) => bytes,
                _ => &[],
            },
        }
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
