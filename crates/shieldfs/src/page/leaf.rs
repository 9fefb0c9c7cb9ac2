// SPDX-License-Identifier: Apache-2.0
//! Leaf pages: the position of the first entry in the whole order (`u64le`), then per entry its
//! key and one of
//!
//! ```text
//! u8 1 file        node, u8 storage (1 authenticated, 2 encrypted), u64le size, file digest,
//!                  hashes blob, sites blob
//! u8 2 directory   node
//! u8 3 symlink     node, u16le length, target
//! u8 4 FIFO        node
//! u8 5 socket      node
//! u8 6 char device node, u32le major, u32le minor
//! u8 7 block dev.  node, u32le major, u32le minor
//! u8 8 hard link   u64le inode number, u16le length, path of the file's first name
//! node = u16le mode, u32le uid, u32le gid, i64le seconds, u32le nanoseconds, u32le links,
//!        xattrs blob
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Key, KeyReader, OwnedKey, PageError};
use crate::blob::Blob;
use crate::digest::{FileDigest, Geometry};
use crate::entry::{DeviceNumber, FileContent, FileType, Kind, MAX_TARGET, Meta, Node};
use crate::region::Storage;
use crate::wire::Reader;
use crate::{path, sites, xattr};

const HARD_LINK: u8 = 8;

/// An entry's content: an inode, or another name of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Node(Node),
    Link { ino: u64, target: Vec<u8> },
}

impl Body {
    pub(crate) fn file_type(&self) -> FileType {
        match self {
            Self::Node(node) => node.kind.file_type(),
            Self::Link { .. } => FileType::File,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Link { ino, target } => {
                out.push(HARD_LINK);
                out.extend_from_slice(&ino.to_le_bytes());
                encode_long(out, target);
            }
            Self::Node(node) => {
                out.push(code(node.kind.file_type()));
                encode_node(out, node);
            }
        }
    }

    fn parse(reader: &mut Reader<'_>, chunk_size: u32) -> Result<Self, PageError> {
        let code = reader.u8()?;
        if code == HARD_LINK {
            let ino = reader.u64()?;
            let target = parse_long(reader)?;
            path::check(&target)?;
            if ino == 0 {
                return Err(PageError::Field { field: "inode" });
            }
            return Ok(Self::Link { ino, target });
        }
        let meta = Meta {
            mode: reader.u16()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            mtime_s: reader.i64()?,
            mtime_ns: reader.u32()?,
        };
        if !meta.is_valid() {
            return Err(PageError::Field { field: "metadata" });
        }
        let nlink = reader.u32()?;
        let xattrs = Blob::parse(reader, xattr::MAX_ENCODED)?;
        let kind = parse_kind(reader, code, chunk_size)?;
        Ok(Self::Node(Node {
            meta,
            nlink,
            xattrs,
            kind,
        }))
    }
}

fn code(file_type: FileType) -> u8 {
    match file_type {
        FileType::File => 1,
        FileType::Directory => 2,
        FileType::Symlink => 3,
        FileType::Fifo => 4,
        FileType::Socket => 5,
        FileType::CharDevice => 6,
        FileType::BlockDevice => 7,
    }
}

fn encode_node(out: &mut Vec<u8>, node: &Node) {
    let meta = &node.meta;
    out.extend_from_slice(&meta.mode.to_le_bytes());
    out.extend_from_slice(&meta.uid.to_le_bytes());
    out.extend_from_slice(&meta.gid.to_le_bytes());
    out.extend_from_slice(&meta.mtime_s.to_le_bytes());
    out.extend_from_slice(&meta.mtime_ns.to_le_bytes());
    out.extend_from_slice(&node.nlink.to_le_bytes());
    node.xattrs.encode(out);
    match &node.kind {
        Kind::File(content) => {
            out.push(match content.storage {
                Storage::Authenticated => 1,
                Storage::Encrypted => 2,
            });
            out.extend_from_slice(&content.geometry.size().to_le_bytes());
            out.extend_from_slice(&content.digest.0);
            content.hashes.encode(out);
            content.sites.encode(out);
        }
        Kind::Symlink { target } => encode_long(out, target),
        Kind::CharDevice(number) | Kind::BlockDevice(number) => {
            out.extend_from_slice(&number.major.to_le_bytes());
            out.extend_from_slice(&number.minor.to_le_bytes());
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
}

fn parse_kind(reader: &mut Reader<'_>, code: u8, chunk_size: u32) -> Result<Kind, PageError> {
    Ok(match code {
        1 => Kind::File(Box::new(parse_content(reader, chunk_size)?)),
        2 => Kind::Directory,
        3 => Kind::Symlink {
            target: parse_long(reader)?,
        },
        4 => Kind::Fifo,
        5 => Kind::Socket,
        6 => Kind::CharDevice(parse_device(reader)?),
        7 => Kind::BlockDevice(parse_device(reader)?),
        _ => return Err(PageError::Field { field: "kind" }),
    })
}

fn parse_device(reader: &mut Reader<'_>) -> Result<DeviceNumber, PageError> {
    Ok(DeviceNumber {
        major: reader.u32()?,
        minor: reader.u32()?,
    })
}

fn parse_content(reader: &mut Reader<'_>, chunk_size: u32) -> Result<FileContent, PageError> {
    let storage = match reader.u8()? {
        1 => Storage::Authenticated,
        2 => Storage::Encrypted,
        _ => return Err(PageError::Field { field: "storage" }),
    };
    let geometry =
        Geometry::new(reader.u64()?, chunk_size).map_err(|_| PageError::Field { field: "size" })?;
    let digest = FileDigest(reader.array()?);
    // At most 2^44 / 2^12 chunks of 32 bytes.
    let hash_bytes = geometry.chunk_count().saturating_mul(32);
    let hashes = Blob::parse(reader, hash_bytes)?;
    if hashes.length() != hash_bytes {
        return Err(PageError::Field {
            field: "chunk hashes",
        });
    }
    let sites = Blob::parse(reader, sites::MAX_ENCODED)?;
    Ok(FileContent {
        geometry,
        storage,
        digest,
        hashes,
        sites,
    })
}

fn encode_long(out: &mut Vec<u8>, bytes: &[u8]) {
    // Targets and paths were checked against MAX_TARGET and MAX_PATH.
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn parse_long(reader: &mut Reader<'_>) -> Result<Vec<u8>, PageError> {
    let length = usize::from(reader.u16()?);
    if length == 0 || length > MAX_TARGET {
        return Err(PageError::Field { field: "target" });
    }
    Ok(reader.bytes(length)?.to_vec())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafPage {
    /// Position of the first entry in the order of all entries.
    pub(crate) first: u64,
    entries: Vec<(OwnedKey, Body)>,
}

impl LeafPage {
    pub(super) fn parse(
        reader: &mut Reader<'_>,
        count: u32,
        chunk_size: u32,
    ) -> Result<Self, PageError> {
        if count == 0 {
            return Err(PageError::Count { count: 0 });
        }
        let first = reader.u64()?;
        if first.checked_add(u64::from(count)).is_none() {
            return Err(PageError::Field { field: "position" });
        }
        let mut entries = Vec::new();
        let mut keys = KeyReader::new();
        for _ in 0..count {
            let key = keys.next(reader)?;
            entries.push((key, Body::parse(reader, chunk_size)?));
        }
        Ok(Self { first, entries })
    }

    /// Finds an entry and its position.
    pub(crate) fn find(&self, key: Key<'_>) -> Option<(u64, &Body)> {
        let at = self
            .entries
            .binary_search_by(|(own, _)| own.as_key().cmp(&key))
            .ok()?;
        let (_, body) = self.entries.get(at)?;
        Some((self.first.saturating_add(at as u64), body))
    }

    /// Position of the first entry whose key is not below `key`.
    pub(crate) fn lower_bound(&self, key: Key<'_>) -> u64 {
        let at = self.entries.partition_point(|(own, _)| own.as_key() < key);
        self.first.saturating_add(at as u64)
    }

    /// The entry at a position.
    pub(crate) fn at(&self, position: u64) -> Option<(&OwnedKey, &Body)> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(at).map(|(key, body)| (key, body))
    }

    /// The first entry's key.
    pub(crate) fn first_key(&self) -> Option<&OwnedKey> {
        self.entries.first().map(|(key, _)| key)
    }
}
