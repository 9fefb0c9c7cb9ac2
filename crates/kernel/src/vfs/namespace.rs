// SPDX-License-Identifier: Apache-2.0
//! What a process sees: file systems by region, and startup files above them.
//!
//! The longest prefix, counted by whole components, decides which file system a
//! path belongs to. Symbolic links are walked here, one component at a time, so
//! that a link of one region into another ends where the regions say.

mod resolve;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::directory::{Bare, Merged};
use crate::vfs::file::{Change, Record};
use crate::vfs::filesystem::{Attributes, FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::opened::OpenFile;
use crate::vfs::path;
use crate::vfs::startup::StartupFiles;
use crate::vfs::stat::{FileType, Stat};

/// Most symbolic links followed for one path (Linux MAXSYMLINKS).
const MAX_LINKS: u32 = 40;
/// First inode number of directories that exist only because a region lies below.
const BARE_INODES: u64 = 1 << 48;

#[derive(Clone, Debug)]
struct Mount {
    prefix: Vec<u8>,
    fs: Arc<dyn FileSystem>,
}

/// The file systems a process sees.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Longest prefixes first.
    mounts: Vec<Mount>,
    startup: Option<Arc<StartupFiles>>,
}

/// Where a path leads.
#[derive(Debug)]
struct Place {
    fs: Arc<dyn FileSystem>,
    path: Vec<u8>,
}

impl Namespace {
    /// A namespace without any file system: everything is missing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file system at a normalised absolute path; it replaces one there.
    #[must_use]
    pub fn with(mut self, prefix: &[u8], fs: Arc<dyn FileSystem>) -> Self {
        self.mounts.retain(|mount| mount.prefix != prefix);
        self.mounts.push(Mount {
            prefix: prefix.to_vec(),
            fs,
        });
        self.mounts
            .sort_by_key(|mount| core::cmp::Reverse(mount.prefix.len()));
        self
    }

    /// Lets startup files stand before whatever lies at their paths.
    #[must_use]
    pub fn with_startup(mut self, startup: Arc<StartupFiles>) -> Self {
        self.startup = Some(startup);
        self
    }

    /// The startup files, if any are seen.
    #[must_use]
    pub fn startup(&self) -> Option<&Arc<StartupFiles>> {
        self.startup.as_ref()
    }

    /// Prefixes of all file systems, for /proc/mounts.
    #[must_use]
    pub fn prefixes(&self) -> Vec<(Vec<u8>, bool)> {
        let mut all: Vec<_> = self
            .mounts
            .iter()
            .map(|mount| (mount.prefix.clone(), mount.fs.is_read_only()))
            .collect();
        all.sort();
        all
    }

    /// Opens a path.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Arc<OpenFile>, Errno> {
        let follow = !flags.contains(OpenFlags::NO_FOLLOW)
            && !flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        self.at_last(cx, base, name, follow, |place, must_be_directory| {
            if must_be_directory && flags.contains(OpenFlags::CREATE) {
                return Err(Errno::EISDIR);
            }
            let mut flags = flags;
            if must_be_directory {
                flags |= OpenFlags::DIRECTORY;
            }
            self.open_place(cx, place, flags, mode, follow)
        })
    }

    fn open_place(
        &self,
        cx: &Context<'_>,
        place: &Place,
        flags: OpenFlags,
        mode: u32,
        follow: bool,
    ) -> Result<Arc<OpenFile>, Errno> {
        // O_TMPFILE holds the bit of O_DIRECTORY, but makes a file.
        let is_unnamed = flags.contains(OpenFlags::TEMPORARY | OpenFlags::DIRECTORY);
        if is_unnamed && !flags.can_write() {
            return Err(Errno::EINVAL);
        }
        let wants_directory = flags.contains(OpenFlags::DIRECTORY) && !is_unnamed;
        if flags.contains(OpenFlags::PATH) {
            let stat = self.stat_place(cx, place)?;
            match stat.kind() {
                FileType::Symlink if follow => return Err(Errno::ELOOP),
                FileType::Directory => {}
                _ if wants_directory => return Err(Errno::ENOTDIR),
                _ => {}
            }
            let file = super::directory::Name::new(Arc::clone(&place.fs), &place.path, stat);
            let mut flags = flags - OpenFlags::DIRECTORY;
            if stat.kind() == FileType::Directory {
                flags |= OpenFlags::DIRECTORY;
            }
            return Ok(OpenFile::new(
                cx.machine,
                Arc::new(file),
                flags,
                place.path.clone(),
            ));
        }
        if let Some(startup) = &self.startup
            && !flags.changes()
            && let Some(file) = startup.file(&place.path)
        {
            if wants_directory {
                return Err(Errno::ENOTDIR);
            }
            return Ok(OpenFile::new(cx.machine, file, flags, place.path.clone()));
        }
        let opened = match place.fs.open(cx, &place.path, flags, mode) {
            Err(Errno::ENOENT) if self.is_bare(&place.path) && !flags.changes() => {
                Opened::Directory(Arc::new(Bare::new(bare_stat(&place.path))))
            }
            other => other?,
        };
        match opened {
            Opened::Same(file) => Ok(file),
            Opened::File(_) if wants_directory => Err(Errno::ENOTDIR),
            Opened::File(file) => Ok(OpenFile::new(
                cx.machine,
                file,
                flags - OpenFlags::DIRECTORY,
                place.path.clone(),
            )),
            Opened::Directory(_) if flags.changes() => Err(Errno::EISDIR),
            Opened::Directory(file) => {
                let extra = self.mounts_in(cx, &place.path);
                let file = if extra.is_empty() {
                    file
                } else {
                    Arc::new(Merged::new(file, extra))
                };
                let flags = flags | OpenFlags::DIRECTORY;
                Ok(OpenFile::new(cx.machine, file, flags, place.path.clone()))
            }
        }
    }

    /// Metadata of a path.
    ///
    /// # Errors
    /// stat(2)'s.
    pub fn stat(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
    ) -> Result<Stat, Errno> {
        self.at_last(cx, base, name, follow, |place, must_be_directory| {
            let stat = self.stat_place(cx, place)?;
            match stat.kind() {
                FileType::Symlink if follow || must_be_directory => {
                    place.fs.stat_target(cx, &place.path)?.ok_or(Errno::ELOOP)
                }
                FileType::Directory => Ok(stat),
                _ if must_be_directory => Err(Errno::ENOTDIR),
                _ => Ok(stat),
            }
        })
    }

    /// The path without symbolic links; what it names must exist.
    ///
    /// # Errors
    /// stat(2)'s.
    pub fn real_path(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
    ) -> Result<(Vec<u8>, Stat), Errno> {
        self.at_last(cx, base, name, true, |place, must_be_directory| {
            let stat = self.stat_place(cx, place)?;
            match stat.kind() {
                FileType::Symlink => Err(Errno::ELOOP),
                FileType::Directory => Ok((place.path.clone(), stat)),
                _ if must_be_directory => Err(Errno::ENOTDIR),
                _ => Ok((place.path.clone(), stat)),
            }
        })
    }

    /// Checks permissions.
    ///
    /// # Errors
    /// access(2)'s.
    pub fn access(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
        wanted: u32,
    ) -> Result<(), Errno> {
        self.at_last(cx, base, name, follow, |place, must_be_directory| {
            let stat = self.stat_place(cx, place)?;
            match stat.kind() {
                FileType::Symlink if follow => {
                    let target = place.fs.stat_target(cx, &place.path)?;
                    return target.map_or(Err(Errno::ELOOP), |_| Ok(()));
                }
                FileType::Symlink => return Ok(()),
                FileType::Directory => {}
                _ if must_be_directory => return Err(Errno::ENOTDIR),
                _ => {}
            }
            if wanted == 0 || self.is_shadowed(place) || self.is_bare(&place.path) {
                return Ok(());
            }
            place.fs.access(cx, &place.path, wanted)
        })
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// readlink(2)'s.
    pub fn readlink(&self, cx: &Context<'_>, base: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
        let (place, must_be_directory) = self.place_of(cx, base, name)?;
        if must_be_directory || self.is_shadowed(&place) || self.is_bare(&place.path) {
            return Err(Errno::EINVAL);
        }
        place.fs.readlink(cx, &place.path)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn mkdir(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        mode: u32,
    ) -> Result<(), Errno> {
        let (place, _) = self.place_of(cx, base, name)?;
        if self.is_bare(&place.path) {
            return Err(Errno::EEXIST);
        }
        place.fs.mkdir(cx, &place.path, mode)
    }

    /// Removes a name.
    ///
    /// # Errors
    /// unlink(2)'s and rmdir(2)'s.
    pub fn unlink(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        directory: bool,
    ) -> Result<(), Errno> {
        if directory && path::components(name).next_back() == Some(b"..") {
            return Err(Errno::ENOTEMPTY);
        }
        let (place, must_be_directory) = self.place_of(cx, base, name)?;
        if self.is_bare(&place.path) {
            return Err(if directory {
                Errno::EBUSY
            } else {
                Errno::EISDIR
            });
        }
        if must_be_directory && !directory {
            let stat = place.fs.stat(cx, &place.path)?;
            return Err(if stat.kind() == FileType::Directory {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            });
        }
        place.fs.unlink(cx, &place.path, directory)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn rename(
        &self,
        cx: &Context<'_>,
        from: (&[u8], &[u8]),
        to: (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Errno> {
        let (source, source_directory) = self.place_of(cx, from.0, from.1)?;
        let (target, target_directory) = self.place_of(cx, to.0, to.1)?;
        if self.is_bare(&source.path) || self.is_bare(&target.path) {
            return Err(Errno::EBUSY);
        }
        if !Arc::ptr_eq(&source.fs, &target.fs) {
            self.stat_place(cx, &source)?;
            return Err(Errno::EXDEV);
        }
        if path::below(&target.path, &source.path).is_some_and(|rest| !rest.is_empty()) {
            return Err(Errno::EINVAL);
        }
        if (source_directory || target_directory)
            && self.stat_place(cx, &source)?.kind() != FileType::Directory
        {
            return Err(Errno::ENOTDIR);
        }
        source.fs.rename(cx, &source.path, &target.path, flags)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// symlink(2)'s.
    pub fn symlink(
        &self,
        cx: &Context<'_>,
        target: &[u8],
        base: &[u8],
        name: &[u8],
    ) -> Result<(), Errno> {
        path::check(target)?;
        let (place, must_be_directory) = self.place_of(cx, base, name)?;
        if self.is_bare(&place.path) {
            return Err(Errno::EEXIST);
        }
        if must_be_directory {
            return Err(Errno::ENOENT);
        }
        place.fs.symlink(cx, target, &place.path)
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// link(2)'s.
    pub fn link(
        &self,
        cx: &Context<'_>,
        from: (&[u8], &[u8]),
        to: (&[u8], &[u8]),
        follow: bool,
    ) -> Result<(), Errno> {
        let source = self.at_last(cx, from.0, from.1, follow, |place, _| {
            let kind = self.stat_place(cx, place)?.kind();
            match kind {
                FileType::Symlink if follow => Err(Errno::ELOOP),
                FileType::Directory => Err(Errno::EPERM),
                _ => Ok(Place {
                    fs: Arc::clone(&place.fs),
                    path: place.path.clone(),
                }),
            }
        })?;
        let (target, must_be_directory) = self.place_of(cx, to.0, to.1)?;
        if self.is_bare(&target.path) {
            return Err(Errno::EEXIST);
        }
        if must_be_directory {
            return Err(Errno::ENOENT);
        }
        if !Arc::ptr_eq(&source.fs, &target.fs) {
            return Err(Errno::EXDEV);
        }
        source.fs.link(cx, &source.path, &target.path)
    }

    /// Changes metadata.
    ///
    /// # Errors
    /// chmod(2)'s, chown(2)'s, utimensat(2)'s.
    pub fn change(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
        change: Change,
    ) -> Result<(), Errno> {
        self.at_last(cx, base, name, follow, |place, must_be_directory| {
            let stat = self.stat_place(cx, place)?;
            match stat.kind() {
                FileType::Symlink if follow => return Err(Errno::ELOOP),
                FileType::Directory => {}
                _ if must_be_directory => return Err(Errno::ENOTDIR),
                _ => {}
            }
            place.fs.change(cx, &place.path, follow, change)
        })
    }

    /// `struct statfs` of a path.
    ///
    /// # Errors
    /// statfs(2)'s.
    pub fn statfs(&self, cx: &Context<'_>, base: &[u8], name: &[u8]) -> Result<[u8; 120], Errno> {
        let (path, _) = self.real_path(cx, base, name)?;
        self.fs_of(&path)?.statfs(cx, &path)
    }

    /// Extended attributes of a path.
    ///
    /// # Errors
    /// listxattr(2)'s.
    pub fn xattrs(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
    ) -> Result<Attributes, Errno> {
        self.at_last(cx, base, name, follow, |place, _| {
            if follow && self.stat_place(cx, place)?.kind() == FileType::Symlink {
                return Err(Errno::ELOOP);
            }
            place.fs.xattrs(cx, &place.path)
        })
    }

    fn stat_place(&self, cx: &Context<'_>, place: &Place) -> Result<Stat, Errno> {
        if let Some(stat) = self
            .startup
            .as_ref()
            .and_then(|startup| startup.stat(&place.path))
        {
            return Ok(stat);
        }
        match place.fs.stat(cx, &place.path) {
            Err(Errno::ENOENT) if self.is_bare(&place.path) => Ok(bare_stat(&place.path)),
            other => other,
        }
    }

    fn is_shadowed(&self, place: &Place) -> bool {
        self.startup
            .as_ref()
            .is_some_and(|startup| startup.stat(&place.path).is_some())
    }

    /// Whether a path is a mount point, or a region or startup file lies below
    /// it, so that it exists whatever its own file system says.
    fn is_bare(&self, path: &[u8]) -> bool {
        self.mounts
            .iter()
            .any(|mount| path::below(&mount.prefix, path).is_some())
            || self
                .startup
                .as_ref()
                .is_some_and(|startup| startup.has_below(path))
    }

    /// Names in a directory that are there because a file system or startup file
    /// lies there or below.
    fn mounts_in(&self, cx: &Context<'_>, directory: &[u8]) -> Vec<Record> {
        let mut names = BTreeMap::new();
        for mount in &self.mounts {
            let Some(rest) = path::below(&mount.prefix, directory) else {
                continue;
            };
            let Some(name) = path::components(rest).next() else {
                continue;
            };
            let path = path::join(directory, name);
            let stat = if path == mount.prefix {
                mount.fs.stat(cx, &path).ok()
            } else {
                Some(bare_stat(&path))
            };
            if let Some(stat) = stat {
                names.insert(name.to_vec(), stat);
            }
        }
        if let Some(startup) = &self.startup {
            for (name, stat) in startup.names_in(directory) {
                names.entry(name).or_insert(stat);
            }
        }
        names
            .into_iter()
            .map(|(name, stat)| Record {
                name,
                inode: stat.inode,
                kind: stat.kind(),
            })
            .collect()
    }
}

/// A directory that only leads to regions below it.
pub(crate) fn bare_stat(path: &[u8]) -> Stat {
    // Equal paths have equal numbers, and nothing secret depends on others differing.
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut stat = Stat::new(FileType::Directory, 0o755, BARE_INODES | hash >> 16);
    stat.links = 2;
    stat
}
