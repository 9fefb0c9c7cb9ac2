// SPDX-License-Identifier: Apache-2.0
//! File systems whose content the kernel makes up: /proc, /sys, /dev.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{Change, File, Record};
use crate::vfs::filesystem::{FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::opened::OpenFile;
use crate::vfs::path;
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::stat::{self, FileType, Stat};

/// What lies at a path.
#[derive(Debug)]
pub(crate) enum Item {
    /// A directory with these names.
    Directory(Vec<(Vec<u8>, FileType)>),
    /// Text, fixed when opened.
    Text(Vec<u8>),
    /// A number or word that programs may write but nothing reads.
    Setting(Vec<u8>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A link of /proc/self/fd: its target, and the description itself where
    /// the target is no path.
    Descriptor(Vec<u8>, Arc<OpenFile>),
    /// A device: its file and its number.
    Device(Arc<dyn File>, u32, u32),
    /// A device that cannot be opened now, and its number.
    Absent(u32, u32),
}

impl Item {
    /// A directory of names given as text.
    pub(crate) fn directory(names: &[(&str, FileType)]) -> Self {
        Self::Directory(
            names
                .iter()
                .map(|(name, kind)| (name.as_bytes().to_vec(), *kind))
                .collect(),
        )
    }

    fn kind(&self) -> FileType {
        match self {
            Self::Directory(_) => FileType::Directory,
            Self::Text(_) | Self::Setting(_) => FileType::Regular,
            Self::Symlink(_) | Self::Descriptor(..) => FileType::Symlink,
            Self::Device(..) | Self::Absent(..) => FileType::CharDevice,
        }
    }
}

/// Finds what lies below the prefix of a file system.
pub(crate) trait Tree: Send + Sync + core::fmt::Debug {
    /// Where the file system stands.
    const PREFIX: &'static [u8];
    /// `f_type` of statfs.
    const MAGIC: u64;

    /// What lies at these components.
    ///
    /// # Errors
    /// `ENOENT`.
    fn find(&self, cx: &Context<'_>, components: &[&[u8]]) -> Result<Item, Errno>;
}

/// A file system over a tree.
#[derive(Debug)]
pub(crate) struct Synthetic<T>(pub(crate) T);

fn number(path: &[u8]) -> u64 {
    super::namespace::bare_stat(path).inode
}

/// Whether a descriptor's link leads to its path: files with a name are opened
/// anew there, as Linux does.
fn is_opened_anew(target: &[u8], file: &OpenFile) -> bool {
    target.first() == Some(&b'/')
        && (file.file.is_seekable() || file.flags().contains(OpenFlags::DIRECTORY))
}

fn describe(item: &Item, path: &[u8]) -> Stat {
    let permissions = match item {
        Item::Directory(_) => 0o555,
        Item::Text(_) => 0o444,
        Item::Setting(_) => 0o644,
        Item::Symlink(_) | Item::Descriptor(..) => 0o777,
        Item::Device(..) | Item::Absent(..) => 0o666,
    };
    let mut stat = Stat::new(item.kind(), permissions, number(path));
    stat.device = 3;
    match item {
        Item::Directory(_) => stat.links = 2,
        Item::Symlink(target) | Item::Descriptor(target, _) => stat.size = target.len() as u64,
        Item::Device(_, major, minor) | Item::Absent(major, minor) => {
            stat.rdev = stat::device(*major, *minor);
        }
        Item::Text(_) | Item::Setting(_) => {}
    }
    stat
}

impl<T: Tree> Synthetic<T> {
    fn item(&self, cx: &Context<'_>, path: &[u8]) -> Result<Item, Errno> {
        let rest = path::below(path, T::PREFIX).ok_or(Errno::ENOENT)?;
        let components: Vec<&[u8]> = path::components(rest).collect();
        self.0.find(cx, &components)
    }
}

impl<T: Tree> FileSystem for Synthetic<T> {
    fn stat(&self, cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno> {
        Ok(describe(&self.item(cx, path)?, path))
    }

    fn stat_target(&self, cx: &Context<'_>, path: &[u8]) -> Result<Option<Stat>, Errno> {
        match self.item(cx, path)? {
            Item::Descriptor(target, file) if !is_opened_anew(&target, &file) => {
                file.file.stat(cx).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn readlink(&self, cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.item(cx, path)? {
            Item::Symlink(target) | Item::Descriptor(target, _) => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        flags: OpenFlags,
        _mode: u32,
    ) -> Result<Opened, Errno> {
        let item = match self.item(cx, path) {
            Err(Errno::ENOENT) if flags.contains(OpenFlags::CREATE) => {
                return Err(Errno::EACCES);
            }
            other => other?,
        };
        let stat = describe(&item, path);
        let exclusive = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        if flags.contains(exclusive) {
            return Err(Errno::EEXIST);
        }
        Ok(match item {
            Item::Symlink(_) => return Err(Errno::ELOOP),
            Item::Descriptor(..) if flags.contains(OpenFlags::NO_FOLLOW) => {
                return Err(Errno::ELOOP);
            }
            Item::Descriptor(target, file) if is_opened_anew(&target, &file) => {
                return Err(Errno::ELOOP);
            }
            Item::Descriptor(_, file) => Opened::Same(file),
            Item::Directory(names) => {
                let records = names
                    .into_iter()
                    .map(|(name, kind)| Record {
                        inode: number(&path::join(path, &name)),
                        name,
                        kind,
                    })
                    .collect();
                Opened::Directory(Arc::new(Listing {
                    stat,
                    records,
                    magic: T::MAGIC,
                }))
            }
            Item::Text(_) if flags.can_write() => return Err(Errno::EACCES),
            Item::Text(text) => Opened::File(Arc::new(Text {
                stat,
                text,
                is_setting: false,
                magic: T::MAGIC,
            })),
            Item::Setting(text) => Opened::File(Arc::new(Text {
                stat,
                text,
                is_setting: true,
                magic: T::MAGIC,
            })),
            Item::Device(file, ..) => Opened::File(file),
            Item::Absent(..) => return Err(Errno::ENXIO),
        })
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn mkdir(&self, cx: &Context<'_>, path: &[u8], _mode: u32) -> Result<(), Errno> {
        self.refuse(cx, path)
    }

    fn symlink(&self, cx: &Context<'_>, _target: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.refuse(cx, path)
    }

    fn unlink(&self, cx: &Context<'_>, path: &[u8], _directory: bool) -> Result<(), Errno> {
        self.item(cx, path)?;
        Err(Errno::EPERM)
    }

    fn rename(&self, cx: &Context<'_>, from: &[u8], _to: &[u8], _flags: u64) -> Result<(), Errno> {
        self.item(cx, from)?;
        Err(Errno::EPERM)
    }

    fn change(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        _follow: bool,
        _change: Change,
    ) -> Result<(), Errno> {
        self.item(cx, path)?;
        Err(Errno::EPERM)
    }

    fn statfs(&self, cx: &Context<'_>, path: &[u8]) -> Result<[u8; 120], Errno> {
        self.item(cx, path)?;
        Ok(stat::encode_statfs(T::MAGIC, 0, 0, false))
    }
}

impl<T: Tree> Synthetic<T> {
    fn refuse(&self, cx: &Context<'_>, path: &[u8]) -> Result<(), Errno> {
        match self.item(cx, path) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => Err(Errno::EACCES),
            Err(errno) => Err(errno),
        }
    }
}

#[derive(Debug)]
struct Listing {
    stat: Stat,
    records: Vec<Record>,
    magic: u64,
}

impl File for Listing {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn read(&self, _cx: &Context<'_>, _to: &mut Sink<'_>, _: bool) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        Ok(self.records.clone())
    }

    fn statfs(&self, _cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        Ok(stat::encode_statfs(self.magic, 0, 0, false))
    }
}

#[derive(Debug)]
struct Text {
    stat: Stat,
    text: Vec<u8>,
    is_setting: bool,
    magic: u64,
}

impl File for Text {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, _cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = self.text.get(at..).unwrap_or_default();
        let piece = rest.get(..to.len().min(rest.len())).unwrap_or_default();
        to.put(0, piece)?;
        Ok(piece.len())
    }

    fn write_at(&self, _cx: &Context<'_>, _at: u64, from: Source<'_>) -> Result<usize, Errno> {
        if self.is_setting {
            // Taken and without effect: what it would tune does not exist here.
            Ok(from.len())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn truncate(&self, _cx: &Context<'_>, _len: u64) -> Result<(), Errno> {
        if self.is_setting {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn statfs(&self, _cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        Ok(stat::encode_statfs(self.magic, 0, 0, false))
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        Readiness::Always(Events::READ)
    }
}
