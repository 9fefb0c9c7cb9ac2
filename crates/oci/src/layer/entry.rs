// SPDX-License-Identifier: Apache-2.0
//! One entry of a layer, with every field checked.

use std::collections::BTreeMap;

use crate::path::RootPath;

/// Extended attributes: name to value, both as bytes.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A point in time since 1970 as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanoseconds: u32,
}

/// Owner, permissions, time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with set-user-ID, set-group-ID and sticky (0o7777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Metadata {
    /// Metadata of something owned by root with these permission bits and no
    /// time, as new layers use it.
    #[must_use]
    pub fn of_root(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

/// What an archive entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
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
    /// A regular file; its content lies in the decompressed layer.
    File {
        /// Where the content starts, in bytes from the layer's start.
        offset: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// Another name of a file of this or a lower layer.
    HardLink {
        /// That file.
        target: RootPath,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds: any bytes without NUL, never followed on the host.
        target: Vec<u8>,
    },
}

/// One entry as it stands in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Its path as written, normalised. Whiteouts are still ordinary names.
    pub path: RootPath,
    /// What it is.
    pub kind: EntryKind,
    /// Owner, permissions, time, extended attributes.
    pub metadata: Metadata,
    /// Where its first header starts in the decompressed layer.
    pub record_start: u64,
    /// Where the next entry starts.
    pub record_end: u64,
}

/// What an entry's name says about lower layers
/// (OCI image specification, "Whiteouts").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whiteout {
    /// Hides everything that lower layers put into this directory.
    Opaque(RootPath),
    /// Hides one path of lower layers.
    Path(RootPath),
    /// A marker of union file systems that means nothing in an image.
    Reserved,
}

/// A whiteout whose target is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Whiteout '{path}' names nothing")]
pub struct WhiteoutError {
    /// The entry.
    pub path: RootPath,
}

impl Whiteout {
    /// Interprets a path as a whiteout, if its name is one.
    ///
    /// # Errors
    /// [`WhiteoutError`] for `.wh.` followed by nothing, `.` or `..`.
    pub fn parse(path: &RootPath) -> Result<Option<Self>, WhiteoutError> {
        let name = path.file_name();
        let (Some(hidden), Some(parent)) = (name.strip_prefix(b".wh."), path.parent()) else {
            return Ok(None);
        };
        if hidden == b".wh..opq" {
            return Ok(Some(Self::Opaque(parent)));
        }
        if hidden.starts_with(b".wh.") {
            return Ok(Some(Self::Reserved));
        }
        let hidden = parent
            .join(hidden)
            .map_err(|_| WhiteoutError { path: path.clone() })?;
        Ok(Some(Self::Path(hidden)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whiteout(path: &str) -> Result<Option<Whiteout>, WhiteoutError> {
        Whiteout::parse(&RootPath::parse(path).expect("test path"))
    }

    fn at(path: &str) -> RootPath {
        RootPath::parse(path).expect("test path")
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        assert_eq!(whiteout("/a/.wh.b"), Ok(Some(Whiteout::Path(at("/a/b")))));
        assert_eq!(
            whiteout("/a/.wh..wh..opq"),
            Ok(Some(Whiteout::Opaque(at("/a"))))
        );
        assert_eq!(whiteout("/a/.wh..wh.plnk"), Ok(Some(Whiteout::Reserved)));
        assert_eq!(whiteout("/a/.who"), Ok(None));
        assert_eq!(whiteout("/"), Ok(None));
    }

    #[test]
    fn whiteouts_of_nothing_or_the_parent_are_refused() {
        for path in ["/a/.wh.", "/a/.wh..", "/a/.wh..."] {
            assert!(whiteout(path).is_err(), "{path}");
        }
    }
}
