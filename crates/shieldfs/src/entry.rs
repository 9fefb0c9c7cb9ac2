// SPDX-License-Identifier: Apache-2.0
//! What the tree says about one path.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::blob::Blob;
use crate::digest::{FileDigest, Geometry};
use crate::path::PathText;
use crate::region::Storage;

/// Permission and set-id bits an entry may carry.
pub const MODE_BITS: u16 = 0o7777;
/// Longest symlink target in bytes.
pub const MAX_TARGET: usize = 4095;

/// Ownership, permissions and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Permission, set-uid, set-gid and sticky bits; nothing outside [`MODE_BITS`].
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime_s: i64,
    /// Modification time, nanoseconds below one second.
    pub mtime_ns: u32,
}

impl Meta {
    /// Metadata of root's own files: the mode given, owner and group 0, time 0.
    pub fn with_mode(mode: u16) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            mtime_s: 0,
            mtime_ns: 0,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.mode & !MODE_BITS == 0 && self.mtime_ns < 1_000_000_000
    }
}

/// Major and minor number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// The type of an entry, without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO; recorded, not openable.
    Fifo,
    /// A socket; recorded, not openable.
    Socket,
    /// A character device; recorded, not openable.
    CharDevice,
    /// A block device; recorded, not openable.
    BlockDevice,
}

/// The type of an entry with its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(Box<FileContent>),
    /// A directory.
    Directory,
    /// A symbolic link; the target is arbitrary bytes, not a checked path.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A FIFO; recorded, not openable.
    Fifo,
    /// A socket; recorded, not openable.
    Socket,
    /// A character device; recorded, not openable.
    CharDevice(DeviceNumber),
    /// A block device; recorded, not openable.
    BlockDevice(DeviceNumber),
}

impl Kind {
    /// The type without its details.
    pub fn file_type(&self) -> FileType {
        match self {
            Self::File(_) => FileType::File,
            Self::Directory => FileType::Directory,
            Self::Symlink { .. } => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::CharDevice(_) => FileType::CharDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
        }
    }
}

/// How a file's content is stored and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    pub(crate) geometry: Geometry,
    pub(crate) storage: Storage,
    pub(crate) digest: FileDigest,
    /// Hashes of the stored chunks, 32 bytes each.
    pub(crate) hashes: Blob,
    /// Encoded syscall sites.
    pub(crate) sites: Blob,
}

impl FileContent {
    /// Size and chunk size of the plaintext.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Size of the plaintext in bytes.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// Whether the stored bytes are plaintext or ciphertext.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Digest of the plaintext; the startup list of the enclave image holds the same one.
    pub fn digest(&self) -> &FileDigest {
        &self.digest
    }

    /// Size of the stored bytes: the plaintext's, plus 16 per chunk if encrypted.
    pub fn stored_size(&self) -> u64 {
        let overhead = match self.storage {
            Storage::Authenticated => 0,
            Storage::Encrypted => crate::cipher::OVERHEAD as u64,
        };
        let count = self.geometry.chunk_count();
        // At most 2^44 + 16 * 2^32, so neither step can overflow.
        self.size().saturating_add(count.saturating_mul(overhead))
    }
}

/// A verified entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) stored_path: Vec<u8>,
    pub(crate) ino: u64,
    pub(crate) node: Node,
}

impl Entry {
    /// The path that was looked up.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path under which the content is stored: of a hard link, the path of its first name.
    pub fn stored_path(&self) -> &[u8] {
        &self.stored_path
    }

    /// Inode number, the same for all hard links of a file, never 0.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Number of hard links; of a directory, two plus its subdirectories.
    pub fn nlink(&self) -> u32 {
        self.node.nlink
    }

    /// Ownership, permissions and time.
    pub fn meta(&self) -> &Meta {
        &self.node.meta
    }

    /// Type and details.
    pub fn kind(&self) -> &Kind {
        &self.node.kind
    }

    /// The content description if this is a regular file.
    pub fn file(&self) -> Option<&FileContent> {
        match &self.node.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Whether the entry has extended attributes.
    pub fn has_xattrs(&self) -> bool {
        !self.node.xattrs.is_empty()
    }

    pub(crate) fn text(&self) -> PathText {
        PathText::new(&self.path)
    }
}

/// Everything about an inode except its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) nlink: u32,
    /// Encoded extended attributes.
    pub(crate) xattrs: Blob,
    pub(crate) kind: Kind,
}

/// One line of a directory listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Name within the directory.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// Type; a hard link shows as the file it is.
    pub file_type: FileType,
    /// Cursor with which a later call continues after this entry.
    pub next: u64,
}
