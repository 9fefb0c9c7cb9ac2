// SPDX-License-Identifier: Apache-2.0
//! Unpacks a merged root below a private directory, for running an image
//! without a container.
//!
//! The image is hostile: every path is opened below the directory with
//! `openat2` and without following any link, devices are not made, and
//! set-user-ID bits, owners and extended attributes are not applied. Links
//! are created as data for whoever resolves them inside the root later.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use std::collections::HashMap;

use rustix::fs::{self as sys, AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use crate::layer::entry::Timestamp;
use crate::path::RootPath;
use crate::root::{FileData, Node, NodeKind, RootView};

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// Reading a file's content from the layers failed.
    #[error("Cannot read '{path}' of the image")]
    Content {
        /// The file.
        path: RootPath,
        /// The reason.
        source: io::Error,
    },
    /// Creating something failed.
    #[error("Cannot create '{path}' below the private directory")]
    Create {
        /// The path inside the image.
        path: RootPath,
        /// The reason.
        source: io::Error,
    },
    /// The directory is open to other users.
    #[error("Directory for unpacking has mode {mode:03o}; it must be 700")]
    NotPrivate {
        /// Its permission bits.
        mode: u32,
    },
    /// The kernel is older than Linux 5.6 or a filter forbids the call.
    #[error("System call openat2 is not available; it is needed to unpack images safely")]
    Openat2,
    /// The directory cannot be examined.
    #[error("Cannot examine the directory for unpacking")]
    Target(#[source] io::Error),
}

/// What was unpacked and what was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Unpacked {
    /// Directories, files, links and pipes that were created.
    pub created: u64,
    /// Devices, which are never created.
    pub skipped_devices: Vec<RootPath>,
    /// Files that lost a set-user-ID or set-group-ID bit.
    pub cleared_set_id: Vec<RootPath>,
    /// How many entries had extended attributes, which are not applied.
    pub without_xattrs: u64,
}

/// Unpacks the merged root below `directory`, which must be empty and have
/// mode 0700. Owners stay the caller's, whoever that is.
///
/// # Errors
/// [`UnpackError`]; what was created until then stays for the caller to
/// remove with the directory.
pub fn unpack_below(directory: impl AsFd, view: &RootView) -> Result<Unpacked, UnpackError> {
    let directory = directory.as_fd();
    let stat = sys::fstat(directory).map_err(|error| UnpackError::Target(error.into()))?;
    if stat.st_mode & 0o077 != 0 {
        return Err(UnpackError::NotPrivate {
            mode: stat.st_mode & 0o777,
        });
    }
    let mut unpack = Unpack {
        directory,
        view,
        parent: None,
        first_names: HashMap::new(),
        done: Unpacked::default(),
    };
    for (path, node) in view.iter().filter(|(path, _)| !path.is_root()) {
        unpack.node(path, node)?;
    }
    Ok(unpack.done)
}

struct Unpack<'a> {
    directory: BorrowedFd<'a>,
    view: &'a RootView,
    /// The last directory used: paths come sorted.
    parent: Option<(RootPath, OwnedFd)>,
    /// Where a file with several names was created first.
    first_names: HashMap<FileData, RootPath>,
    done: Unpacked,
}

impl Unpack<'_> {
    fn node(&mut self, path: &RootPath, node: &Node) -> Result<(), UnpackError> {
        let failed = |source: io::Error| UnpackError::Create {
            path: path.clone(),
            source,
        };
        let Some(parent_path) = path.parent() else {
            return Ok(());
        };
        match &self.parent {
            Some((open, _)) if *open == parent_path => {}
            _ => {
                let opened = open_directory(self.directory, &parent_path)
                    .map_err(|error| unavailable(error).unwrap_or_else(|| failed(error.into())))?;
                self.parent = Some((parent_path, opened));
            }
        }
        let Some((_, parent)) = &self.parent else {
            return Ok(());
        };
        let name = path.file_name();
        // The owner can always read what was unpacked, and remove it again.
        let permissions = |owner: u32| Mode::from_raw_mode(node.metadata.mode & 0o777 | owner);
        match &node.kind {
            NodeKind::BlockDevice { .. } | NodeKind::CharDevice { .. } => {
                self.done.skipped_devices.push(path.clone());
                return Ok(());
            }
            NodeKind::Directory => {
                sys::mkdirat(parent, name, Mode::RWXU)
                    .and_then(|()| open_child(parent, name))
                    .and_then(|made| sys::fchmod(made, permissions(0o700)))
                    .map_err(|error| failed(error.into()))?;
            }
            NodeKind::Fifo => {
                sys::mknodat(parent, name, sys::FileType::Fifo, permissions(0o600), 0)
                    .map_err(|error| failed(error.into()))?;
            }
            NodeKind::File(data) => {
                if let Some(first) = self.first_names.get(data) {
                    let first_parent = first.parent().unwrap_or_else(RootPath::root);
                    let first_parent = open_directory(self.directory, &first_parent)
                        .map_err(|error| failed(error.into()))?;
                    sys::linkat(
                        first_parent,
                        first.file_name(),
                        parent,
                        name,
                        AtFlags::empty(),
                    )
                    .map_err(|error| failed(error.into()))?;
                } else {
                    self.file(parent, path, data, permissions(0o400), node.metadata.mtime)?;
                    self.first_names.insert(*data, path.clone());
                }
            }
            NodeKind::Symlink { target } => {
                sys::symlinkat(target.as_slice(), parent, name)
                    .map_err(|error| failed(error.into()))?;
            }
        }
        self.done.created += 1;
        let is_link = matches!(node.kind, NodeKind::Symlink { .. });
        if node.metadata.mode & 0o6000 != 0 && !is_link {
            self.done.cleared_set_id.push(path.clone());
        }
        if !node.metadata.xattrs.is_empty() {
            self.done.without_xattrs += 1;
        }
        Ok(())
    }

    fn file(
        &self,
        parent: &OwnedFd,
        path: &RootPath,
        data: &FileData,
        mode: Mode,
        mtime: Timestamp,
    ) -> Result<(), UnpackError> {
        let create = || -> io::Result<File> {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let file = sys::openat2(parent, path.file_name(), flags, Mode::RUSR, beneath)?;
            Ok(File::from(file))
        };
        let failed = |source| UnpackError::Create {
            path: path.clone(),
            source,
        };
        let file = create().map_err(failed)?;
        let content = self
            .view
            .content(data)
            .map_err(|source| UnpackError::Content {
                path: path.clone(),
                source,
            })?;
        copy_content(&content, &file).map_err(failed)?;
        // After the content: writing would clear nothing here, but a mode
        // without write permission must not be in the way either.
        let finish = || -> io::Result<()> {
            sys::fchmod(&file, mode)?;
            let time = Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: mtime.nanoseconds.into(),
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            sys::futimens(&file, &times)?;
            Ok(())
        };
        finish().map_err(failed)
    }
}

/// Copies inside the kernel where it can, which on some file systems shares
/// the blocks instead.
fn copy_content(content: &crate::slice::FileSlice, to: &File) -> io::Result<()> {
    let (from, start) = content.parts();
    let mut position = start;
    let mut left = content.len();
    while left > 0 {
        let wanted = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        match sys::copy_file_range(from, Some(&mut position), to, None, wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => left = left.saturating_sub(copied as u64),
            Err(rustix::io::Errno::INTR) => {}
            // Different file systems, or one without the call.
            Err(_) => {
                let done = content.len() - left;
                let rest = content
                    .slice(done, left)
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                let mut to = to;
                let copied = io::copy(&mut rest.reader(), &mut to)?;
                if copied != left {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unavailable(error: rustix::io::Errno) -> Option<UnpackError> {
    matches!(error, rustix::io::Errno::NOSYS | rustix::io::Errno::PERM)
        .then_some(UnpackError::Openat2)
}

/// Opens a directory below `root`; no component may be a link.
fn open_directory(root: BorrowedFd<'_>, path: &RootPath) -> rustix::io::Result<OwnedFd> {
    let relative = if path.is_root() {
        b"."
    } else {
        path.relative()
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    sys::openat2(root, relative, flags, Mode::empty(), beneath)
}

fn open_child(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    sys::openat2(parent, name, flags, Mode::empty(), beneath)
}
