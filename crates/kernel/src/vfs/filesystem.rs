// SPDX-License-Identifier: Apache-2.0
//! What a file system answers. Paths are absolute in the container, normalised,
//! and no component but the last is a symbolic link.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::file::{Change, File};
use crate::vfs::flags::OpenFlags;
use crate::vfs::opened::OpenFile;
use crate::vfs::stat::Stat;

/// What a component of a path is, as far as walking it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// A directory.
    Directory,
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// Anything else.
    Other,
}

/// The result of opening a path.
#[derive(Debug)]
pub enum Opened {
    /// A file, of which a new description is made.
    File(Arc<dyn File>),
    /// The same for a directory.
    Directory(Arc<dyn File>),
    /// A link of /proc/self/fd: another descriptor of the same file.
    Same(Arc<OpenFile>),
}

/// Names and values of extended attributes.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Flags of `renameat2`.
pub const RENAME_NOREPLACE: u64 = 1;
/// Flags of `renameat2`.
pub const RENAME_EXCHANGE: u64 = 2;

/// A file system. What it cannot do keeps the default answer: read-only.
pub trait FileSystem: Send + Sync + core::fmt::Debug {
    /// Metadata; of a symbolic link, its own.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EIO`; the host's errno.
    fn stat(&self, cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno>;

    /// Metadata of what a link leads to, where the link is more than its text:
    /// /proc/self/fd/N of a file without a name.
    ///
    /// # Errors
    /// As [`Self::stat`].
    fn stat_target(&self, _cx: &Context<'_>, _path: &[u8]) -> Result<Option<Stat>, Errno> {
        Ok(None)
    }

    /// What a component is. May be answered from a cache.
    ///
    /// # Errors
    /// As [`Self::stat`].
    fn component(&self, cx: &Context<'_>, path: &[u8]) -> Result<Component, Errno> {
        use crate::vfs::stat::FileType;
        Ok(match self.stat(cx, path)?.kind() {
            FileType::Directory => Component::Directory,
            FileType::Symlink => Component::Symlink(self.readlink(cx, path)?),
            _ => Component::Other,
        })
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is none, `ENOENT`.
    fn readlink(&self, cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Opens a path; `mode` holds for a file that is created.
    ///
    /// # Errors
    /// `ELOOP` if the last component is a symbolic link; open(2)'s others.
    fn open(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Opened, Errno>;

    /// Checks permissions (`R_OK` and so on) of the calling program.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, and [`Self::stat`]'s.
    fn access(&self, cx: &Context<'_>, path: &[u8], wanted: u32) -> Result<(), Errno> {
        const W_OK: u32 = 2;
        const X_OK: u32 = 1;
        let stat = self.stat(cx, path)?;
        if wanted & W_OK != 0 && self.is_read_only() {
            return Err(Errno::EROFS);
        }
        let is_directory = stat.kind() == crate::vfs::stat::FileType::Directory;
        if wanted & X_OK != 0 && !is_directory && stat.mode & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether nothing here can be changed.
    fn is_read_only(&self) -> bool {
        true
    }

    /// Where the host has a path, if names here are the host's: for sockets,
    /// which it opens by name.
    fn host_path(&self, _path: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// mkdir(2)'s.
    fn mkdir(&self, cx: &Context<'_>, path: &[u8], _mode: u32) -> Result<(), Errno> {
        self.refuse_new(cx, path)
    }

    /// Removes a name.
    ///
    /// # Errors
    /// unlink(2)'s and rmdir(2)'s.
    fn unlink(&self, cx: &Context<'_>, path: &[u8], _directory: bool) -> Result<(), Errno> {
        self.stat(cx, path)?;
        Err(Errno::EROFS)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// rename(2)'s.
    fn rename(&self, cx: &Context<'_>, from: &[u8], _to: &[u8], _flags: u64) -> Result<(), Errno> {
        self.stat(cx, from)?;
        Err(Errno::EROFS)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// symlink(2)'s.
    fn symlink(&self, cx: &Context<'_>, _target: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.refuse_new(cx, path)
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// link(2)'s.
    fn link(&self, cx: &Context<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        self.stat(cx, from)?;
        self.refuse_new(cx, to)
    }

    /// Changes metadata.
    ///
    /// # Errors
    /// `EROFS` and [`Self::stat`]'s.
    fn change(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        _follow: bool,
        _change: Change,
    ) -> Result<(), Errno> {
        self.stat(cx, path)?;
        Err(Errno::EROFS)
    }

    /// `struct statfs`.
    ///
    /// # Errors
    /// [`Self::stat`]'s.
    fn statfs(&self, cx: &Context<'_>, path: &[u8]) -> Result<[u8; 120], Errno>;

    /// Names and values of extended attributes.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if there are none here.
    fn xattrs(&self, _cx: &Context<'_>, _path: &[u8]) -> Result<Attributes, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The answer to making something on a read-only file system.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, else `EROFS`.
    fn refuse_new(&self, cx: &Context<'_>, path: &[u8]) -> Result<(), Errno> {
        match self.stat(cx, path) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => Err(Errno::EROFS),
            Err(errno) => Err(errno),
        }
    }
}
