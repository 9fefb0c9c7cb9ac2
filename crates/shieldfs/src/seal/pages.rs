// SPDX-License-Identifier: Apache-2.0
//! From the collected entries to the FSPF's bytes.
//!
//! Order in the file: header, then per leaf the blob pages of its entries and the leaf, then the
//! branch levels from the bottom up, then the root page. Everything follows from the sorted
//! entries alone.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{OrderKey, Pending, PendingBody, SealError, SealStats, SealedFspf, order_key, place};
use crate::blob::{Blob, FAN_OUT, PIECE};
use crate::entry::{FileContent, Kind, Node};
use crate::header::{self, HEADER_LEN, Header};
use crate::key::FspfKey;
use crate::page::{
    self, Body, Child, MAX_LEVEL, OwnedKey, PageRef, Role, RootPage, TARGET, encode_key, set_count,
};
use crate::path::{PathText, join};
use crate::region::{Regions, Storage};

/// A branch page takes this many children even if they make it longer than the target, so that
/// the tree stays shallow whatever the names are.
const MIN_CHILDREN: u32 = 8;

struct Writer<'a> {
    key: &'a FspfKey,
    bytes: Vec<u8>,
    pages: u64,
}

impl Writer<'_> {
    fn page(&mut self, mut page: Vec<u8>) -> PageRef {
        let reference = page::seal(self.key, &mut page, self.bytes.len() as u64);
        self.bytes.extend_from_slice(&page);
        self.pages = self.pages.saturating_add(1);
        reference
    }

    fn blob(&mut self, bytes: Vec<u8>) -> Blob {
        place(bytes, |bytes| Blob::Paged {
            length: bytes.len() as u64,
            root: self.long(bytes),
        })
    }

    /// Writes a long string as pieces and the levels of references above them.
    fn long(&mut self, bytes: &[u8]) -> PageRef {
        let piece = usize::try_from(PIECE).unwrap_or(usize::MAX);
        let fan_out = usize::try_from(FAN_OUT).unwrap_or(usize::MAX);
        let mut refs: Vec<PageRef> = Vec::new();
        for part in bytes.chunks(piece) {
            let mut page = page::start(Role::BlobPiece, 0);
            set_count(&mut page, u32::try_from(part.len()).unwrap_or(u32::MAX));
            page.extend_from_slice(part);
            refs.push(self.page(page));
        }
        let mut level = 0_u8;
        loop {
            if let [only] = refs.as_slice() {
                return *only;
            }
            level = level.saturating_add(1);
            let mut above = Vec::new();
            for group in refs.chunks(fan_out) {
                let mut page = page::start(Role::BlobBranch, level);
                set_count(&mut page, u32::try_from(group.len()).unwrap_or(u32::MAX));
                for reference in group {
                    reference.encode(&mut page);
                }
                above.push(self.page(page));
            }
            refs = above;
        }
    }

    fn leaves(&mut self, entries: Vec<(OrderKey, Body)>) -> Vec<Child> {
        let mut children = Vec::new();
        let mut open: Option<OpenPage> = None;
        for (position, ((parent, name), body)) in entries.into_iter().enumerate() {
            let mut encoded = Vec::new();
            body.encode(&mut encoded);
            // The longest form of a key: a new parent with its two length fields and its mark.
            let most = parent.len() + name.len() + 4 + encoded.len();
            if let Some(full) = open.take_if(|page| page.bytes.len() + most > TARGET) {
                children.push(self.close(full));
            }
            let page = open.get_or_insert_with(|| {
                let mut bytes = page::start(Role::Leaf, 0);
                bytes.extend_from_slice(&(position as u64).to_le_bytes());
                OpenPage::new(bytes, position as u64, &parent, &name)
            });
            let previous = page.last_parent.take();
            encode_key(&mut page.bytes, previous.as_deref(), (&parent, &name));
            page.bytes.extend_from_slice(&encoded);
            page.count = page.count.saturating_add(1);
            page.last_parent = Some(parent);
        }
        children.extend(open.map(|page| self.close(page)));
        children
    }

    fn branches(&mut self, below: Vec<Child>, level: u8) -> Vec<Child> {
        let mut children = Vec::new();
        let mut open: Option<OpenPage> = None;
        for child in below {
            let most = child.key.parent.len() + child.key.name.len() + 12 + PageRef::LEN;
            let is_full = |page: &mut OpenPage| {
                page.count >= MIN_CHILDREN && page.bytes.len() + most > TARGET
            };
            if let Some(full) = open.take_if(is_full) {
                children.push(self.close(full));
            }
            let page = open.get_or_insert_with(|| {
                let bytes = page::start(Role::Branch, level);
                OpenPage::new(bytes, child.first, &child.key.parent, &child.key.name)
            });
            let previous = page.last_parent.take();
            child.encode(&mut page.bytes, previous.as_deref());
            page.count = page.count.saturating_add(1);
            page.last_parent = Some(child.key.parent.to_vec());
        }
        children.extend(open.map(|page| self.close(page)));
        children
    }

    fn close(&mut self, mut open: OpenPage) -> Child {
        set_count(&mut open.bytes, open.count);
        Child {
            key: open.key,
            first: open.first,
            page: self.page(open.bytes),
        }
    }
}

/// A leaf or branch page that still takes items.
struct OpenPage {
    bytes: Vec<u8>,
    count: u32,
    key: OwnedKey,
    first: u64,
    last_parent: Option<Vec<u8>>,
}

impl OpenPage {
    fn new(bytes: Vec<u8>, first: u64, parent: &[u8], name: &[u8]) -> Self {
        Self {
            bytes,
            count: 0,
            key: OwnedKey {
                parent: parent.into(),
                name: name.to_vec(),
            },
            first,
            last_parent: None,
        }
    }
}

pub(super) fn write(
    key: &FspfKey,
    regions: Regions,
    chunk_size: u32,
    entries: BTreeMap<OrderKey, Pending>,
) -> Result<SealedFspf, SealError> {
    let links = link_counts(&regions, &entries)?;
    let mut stats = SealStats {
        entries: entries.len() as u64,
        ..SealStats::default()
    };
    let mut writer = Writer {
        key,
        bytes: alloc::vec![0; HEADER_LEN],
        pages: 0,
    };
    let inodes: BTreeMap<OrderKey, u64> = entries.keys().cloned().zip(1..).collect();
    let mut bodies = Vec::with_capacity(entries.len());
    for (order, pending) in entries {
        let extra = links.get(&order).copied().unwrap_or(0);
        let body = body(&mut writer, &mut stats, &inodes, extra, pending);
        bodies.push((order, body));
    }
    let mut level = writer.leaves(bodies);
    let mut height = 0_usize;
    let top = loop {
        if let [only] = level.as_slice() {
            break only.page;
        }
        height = height.saturating_add(1);
        let Some(number) = u8::try_from(height).ok().filter(|it| *it <= MAX_LEVEL) else {
            return Err(SealError::TooDeep { levels: height });
        };
        level = writer.branches(level, number);
    };
    let height = u8::try_from(height).unwrap_or(MAX_LEVEL);
    let root = RootPage {
        entries: stats.entries,
        regions,
        tree: top,
    };
    let root = writer.page(root.encode(height));
    stats.pages = writer.pages;
    stats.depth = height.saturating_add(2);
    let mut bytes = writer.bytes;
    let header = Header {
        chunk_size,
        file_length: bytes.len() as u64,
        root,
    }
    .encode();
    let tag = header::tag(&header);
    if let Some(front) = bytes.get_mut(..HEADER_LEN) {
        front.copy_from_slice(&header);
    }
    Ok(SealedFspf { bytes, tag, stats })
}

/// Checks parents and hard links, and counts what each inode's link count needs beyond its own
/// name: further names of a file, subdirectories of a directory.
fn link_counts(
    regions: &Regions,
    entries: &BTreeMap<OrderKey, Pending>,
) -> Result<BTreeMap<OrderKey, u32>, SealError> {
    let mut counts: BTreeMap<OrderKey, u32> = BTreeMap::new();
    let mut add = |key: OrderKey| {
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    };
    for ((parent, name), pending) in entries {
        if parent.is_empty() {
            continue;
        }
        let path = join(parent, name);
        let parent_key = order_key(parent);
        let is_dir = |it: &Pending| matches!(it.body, PendingBody::Other(Kind::Directory));
        if !entries.get(&parent_key).is_some_and(is_dir) {
            return Err(SealError::NoParent {
                path: PathText::new(&path),
            });
        }
        match &pending.body {
            PendingBody::Other(Kind::Directory) => add(parent_key),
            PendingBody::Link { target } => {
                let target_key = order_key(target);
                let is_file = |it: &Pending| matches!(it.body, PendingBody::File { .. });
                if !entries.get(&target_key).is_some_and(is_file) {
                    return Err(SealError::NoSuchEntry {
                        path: PathText::new(target),
                        wanted: "file",
                    });
                }
                if regions.class_of(&path) != regions.class_of(target) {
                    return Err(SealError::LinkAcrossRegions {
                        path: PathText::new(&path),
                        target: PathText::new(target),
                    });
                }
                add(target_key);
            }
            _ => {}
        }
    }
    Ok(counts)
}

fn body(
    writer: &mut Writer<'_>,
    stats: &mut SealStats,
    inodes: &BTreeMap<OrderKey, u64>,
    extra_links: u32,
    pending: Pending,
) -> Body {
    let kind = match pending.body {
        PendingBody::Link { target } => {
            // link_counts found the target, so it has a number.
            let ino = inodes.get(&order_key(&target)).copied().unwrap_or(0);
            return Body::Link { ino, target };
        }
        PendingBody::Other(kind) => kind,
        PendingBody::File {
            list,
            storage,
            hashes,
            sites,
        } => {
            let count = match storage {
                Storage::Authenticated => &mut stats.authenticated_files,
                Storage::Encrypted => &mut stats.encrypted_files,
            };
            *count = count.saturating_add(1);
            Kind::File(Box::new(FileContent {
                geometry: list.geometry(),
                storage,
                digest: list.digest(),
                hashes: writer.blob(hashes),
                sites: writer.blob(sites),
            }))
        }
    };
    let own = if kind == Kind::Directory { 2 } else { 1 };
    Body::Node(Node {
        meta: pending.meta,
        nlink: extra_links.saturating_add(own),
        xattrs: writer.blob(pending.xattrs),
        kind,
    })
}
