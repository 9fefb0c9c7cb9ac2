// SPDX-License-Identifier: Apache-2.0
//! Ways down: from the root to a leaf, and from an entry to a piece of its long byte strings.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Fspf, ReadError, fetch, inconsistent};
use crate::backing::Backing;
use crate::blob::{Blob, height, span};
use crate::entry::Entry;
use crate::page::{Body, Key, LeafPage, OwnedKey, Page, PageError, PageRef, Role};
use crate::path;

impl<B: Backing> Fspf<B> {
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<(u64, Body)>, ReadError<B::Error>> {
        let key = path::split(path);
        let leaf = self.descend(Target::Key(key))?;
        Ok(leaf.and_then(|leaf| leaf.find(key).map(|(at, body)| (at, body.clone()))))
    }

    pub(super) fn lower_bound(&mut self, key: Key<'_>) -> Result<u64, ReadError<B::Error>> {
        let leaf = self.descend(Target::Key(key))?;
        Ok(leaf.map_or(0, |leaf| leaf.lower_bound(key)))
    }

    /// The leaf that holds a position, `None` behind the last entry.
    pub(super) fn leaf_at(
        &mut self,
        position: u64,
    ) -> Result<Option<LeafHandle>, ReadError<B::Error>> {
        let leaf = self.descend(Target::Position(position))?;
        Ok(leaf.filter(|leaf| leaf.at(position).is_some()))
    }

    pub(super) fn descend(
        &mut self,
        target: Target<'_>,
    ) -> Result<Option<LeafHandle>, ReadError<B::Error>> {
        let mut reference = self.root.tree;
        let mut level = self.level;
        let mut expected: Option<(OwnedKey, u64)> = None;
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
    pub(super) fn page(
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
    pub(super) fn blob_piece(
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

    pub(super) fn whole_blob(
        &mut self,
        blob: &Blob,
        entry: &Entry,
    ) -> Result<Vec<u8>, ReadError<B::Error>> {
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
}

#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Key(Key<'a>),
    Position(u64),
}

/// A page that is known to be a leaf.
pub(super) struct LeafHandle(Arc<Page>);

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

    pub(super) fn find(&self, key: Key<'_>) -> Option<(u64, &Body)> {
        self.leaf()?.find(key)
    }

    pub(super) fn at(&self, position: u64) -> Option<(&OwnedKey, &Body)> {
        self.leaf()?.at(position)
    }

    pub(super) fn lower_bound(&self, key: Key<'_>) -> u64 {
        self.leaf().map_or(0, |leaf| leaf.lower_bound(key))
    }
}

enum Holder {
    Inline(Vec<u8>),
    Page(Arc<Page>),
}

/// A part of a blob and how far into it the wanted byte lies.
pub(super) struct Piece {
    holder: Holder,
    pub(super) skip: u64,
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.holder {
            Holder::Inline(bytes) => bytes,
            Holder::Page(page) => match &**page {
                Page::BlobPiece(bytes) => bytes,
                _ => &[],
            },
        }
    }
}
