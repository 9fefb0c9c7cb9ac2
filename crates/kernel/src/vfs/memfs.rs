// SPDX-License-Identifier: Apache-2.0
//! A file system in enclave memory: ephemeral regions, injected files, memfd.

mod content;
mod node;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use content::Content;
pub use content::Quota;
use node::{Kind, MemFile, Node};

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::Lock;
use crate::vfs::file::{Change, File};
use crate::vfs::filesystem::{FileSystem, Opened, RENAME_EXCHANGE, RENAME_NOREPLACE};
use crate::vfs::flags::OpenFlags;
use crate::vfs::path;
use crate::vfs::stat::{FileType, Stat};

/// A file system in enclave memory.
#[derive(Debug)]
pub struct MemFs {
    prefix: Vec<u8>,
    root: Arc<Node>,
    quota: Arc<Quota>,
    /// Serialises changes of names, so that two renames cannot make a loop.
    names: Lock<()>,
}

impl MemFs {
    /// An empty file system for the region at `prefix`.
    #[must_use]
    pub fn new(cx: &Context<'_>, prefix: &[u8], permissions: u32, quota: &Arc<Quota>) -> Arc<Self> {
        let kind = Kind::Directory(Lock::new(BTreeMap::new()));
        Arc::new(Self {
            prefix: prefix.to_vec(),
            root: Node::new(cx, kind, permissions, quota),
            quota: Arc::clone(quota),
            names: Lock::new(()),
        })
    }

    /// A single read-only file at `path`.
    ///
    /// # Errors
    /// `ENOSPC` above the quota.
    pub fn single(
        cx: &Context<'_>,
        path: &[u8],
        permissions: u32,
        content: &[u8],
        quota: &Arc<Quota>,
    ) -> Result<Arc<Self>, Errno> {
        let file = Content::new(quota);
        let source = crate::vfs::buffer::Source::Kernel(content);
        if file.write(cx, 0, source)? != content.len() {
            return Err(Errno::ENOSPC);
        }
        let template = Node::new(cx, Kind::Symlink(Vec::new()), permissions, quota);
        let meta = *template.meta.lock();
        Ok(Arc::new(Self {
            prefix: path.to_vec(),
            root: Node::with_meta(Kind::File(file), meta, quota, true),
            quota: Arc::clone(quota),
            names: Lock::new(()),
        }))
    }

    /// Shows the verified content of `lower` below the region: directories and
    /// links are copied, file contents are read when they are needed and copied
    /// when they change.
    ///
    /// # Errors
    /// `lower`'s errors.
    pub fn fill_from(&self, cx: &Context<'_>, lower: &Arc<dyn FileSystem>) -> Result<(), Errno> {
        let mut links: BTreeMap<u64, Arc<Node>> = BTreeMap::new();
        // A list, not recursion: the kernel's stacks are small and paths are deep.
        let mut todo = Vec::from([(Arc::clone(&self.root), self.prefix.clone())]);
        while let Some((directory, at)) = todo.pop() {
            let listing = match lower.open(cx, &at, OpenFlags::DIRECTORY, 0) {
                Ok(Opened::Directory(file)) => file.list(cx)?,
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(errno) => return Err(errno),
            };
            for record in listing {
                let path = path::join(&at, &record.name);
                let stat = lower.stat(cx, &path)?;
                let node = match links.get(&stat.inode) {
                    Some(known) => Arc::clone(known),
                    None => match self.copy_of(cx, lower, &path, &stat)? {
                        Some(node) => node,
                        None => continue,
                    },
                };
                match stat.kind() {
                    FileType::Directory => todo.push((Arc::clone(&node), path)),
                    FileType::Regular if stat.links > 1 => {
                        links.insert(stat.inode, Arc::clone(&node));
                    }
                    _ => {}
                }
                directory.directory()?.lock().insert(record.name, node);
            }
        }
        Ok(())
    }

    /// An inode over one of `lower`; `None` for kinds that cannot be used here.
    fn copy_of(
        &self,
        cx: &Context<'_>,
        lower: &Arc<dyn FileSystem>,
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<Arc<Node>>, Errno> {
        let kind = match stat.kind() {
            FileType::Directory => Kind::Directory(Lock::new(BTreeMap::new())),
            FileType::Symlink => Kind::Symlink(lower.readlink(cx, path)?),
            FileType::Regular => match lower.open(cx, path, OpenFlags::empty(), 0)? {
                Opened::File(file) => Kind::File(Content::over(&self.quota, file, stat.size)),
                _ => return Err(Errno::EIO),
            },
            _ => return Ok(None),
        };
        let meta = node::Meta {
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            links: stat.links,
            accessed: stat.modified,
            modified: stat.modified,
            changed: stat.modified,
        };
        Ok(Some(Node::with_meta(kind, meta, &self.quota, false)))
    }

    /// A file without a name.
    #[must_use]
    pub fn unnamed(cx: &Context<'_>, quota: &Arc<Quota>, path: &[u8]) -> Arc<dyn File> {
        let node = Node::new(cx, Kind::File(Content::new(quota)), 0o777, quota);
        node.meta.lock().links = 0;
        Arc::new(MemFile {
            node,
            path: path.to_vec(),
        })
    }

    fn find(&self, path: &[u8]) -> Result<Arc<Node>, Errno> {
        let rest = path::below(path, &self.prefix).ok_or(Errno::ENOENT)?;
        let mut node = Arc::clone(&self.root);
        for name in path::components(rest) {
            let next = node
                .directory()?
                .lock()
                .get(name)
                .cloned()
                .ok_or(Errno::ENOENT)?;
            node = next;
        }
        Ok(node)
    }

    /// The directory that a path lies in, and its last name.
    fn parent<'a>(&self, path: &'a [u8]) -> Result<(Arc<Node>, &'a [u8]), Errno> {
        if path == self.prefix.as_slice() {
            return Err(Errno::EBUSY);
        }
        let (parent, name) = path::split(path);
        let node = self.find(parent)?;
        node.directory()?;
        if node.read_only {
            return Err(Errno::EROFS);
        }
        Ok((node, name))
    }

    fn insert(&self, cx: &Context<'_>, path: &[u8], node: &Arc<Node>) -> Result<(), Errno> {
        let _names = self.names.lock();
        let (parent, name) = match self.parent(path) {
            Err(Errno::EBUSY) => return Err(Errno::EEXIST),
            other => other?,
        };
        {
            let mut names = parent.directory()?.lock();
            if names.contains_key(name) {
                return Err(Errno::EEXIST);
            }
            // A removed directory takes no new names.
            if parent.meta.lock().links == 0 {
                return Err(Errno::ENOENT);
            }
            names.insert(name.to_vec(), Arc::clone(node));
        }
        if node.file_type() == FileType::Directory {
            parent.meta.lock().links += 1;
        }
        parent.touch(cx.machine);
        Ok(())
    }

    fn make(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        kind: Kind,
        mode: u32,
    ) -> Result<Arc<Node>, Errno> {
        let node = Node::new(cx, kind, mode, &self.quota);
        self.insert(cx, path, &node)?;
        Ok(node)
    }

    fn opened(&self, node: Arc<Node>, path: &[u8]) -> Opened {
        let is_directory = node.file_type() == FileType::Directory;
        let file = Arc::new(MemFile {
            node,
            path: path.to_vec(),
        });
        if is_directory {
            Opened::Directory(file)
        } else {
            Opened::File(file)
        }
    }
}

fn forget(node: &Arc<Node>) {
    let mut meta = node.meta.lock();
    if node.file_type() == FileType::Directory {
        meta.links = 0;
    } else {
        meta.links = meta.links.saturating_sub(1);
    }
}

fn check_replace(source: &Arc<Node>, target: &Arc<Node>) -> Result<(), Errno> {
    match (source.directory(), target.directory()) {
        (Ok(_), Ok(names)) if names.lock().is_empty() => Ok(()),
        (Ok(_), Ok(_)) => Err(Errno::ENOTEMPTY),
        (Ok(_), Err(_)) => Err(Errno::ENOTDIR),
        (Err(_), Ok(_)) => Err(Errno::EISDIR),
        (Err(_), Err(_)) => Ok(()),
    }
}

impl FileSystem for MemFs {
    fn stat(&self, _cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno> {
        Ok(self.find(path)?.metadata())
    }

    fn readlink(&self, _cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        match &self.find(path)?.kind {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Opened, Errno> {
        if flags.contains(OpenFlags::TEMPORARY | OpenFlags::DIRECTORY) {
            self.find(path)?.directory()?;
            return Ok(Opened::File(Self::unnamed(cx, &self.quota, path)));
        }
        let node = match self.find(path) {
            Ok(_) if flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) => {
                return Err(Errno::EEXIST);
            }
            Ok(node) => node,
            Err(Errno::ENOENT) if flags.contains(OpenFlags::CREATE) => {
                let kind = Kind::File(Content::new(&self.quota));
                match self.make(cx, path, kind, mode) {
                    Ok(node) => return Ok(self.opened(node, path)),
                    // Another thread was faster.
                    Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCLUSIVE) => {
                        self.find(path)?
                    }
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        };
        match node.file_type() {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Regular if flags.contains(OpenFlags::DIRECTORY) => {
                return Err(Errno::ENOTDIR);
            }
            FileType::Regular if flags.changes() && node.read_only => return Err(Errno::EROFS),
            FileType::Regular if flags.contains(OpenFlags::TRUNCATE) => {
                node.content()?.truncate(0)?;
                node.touch(cx.machine);
            }
            _ => {}
        }
        Ok(self.opened(node, path))
    }

    fn is_read_only(&self) -> bool {
        self.root.read_only
    }

    fn mkdir(&self, cx: &Context<'_>, path: &[u8], mode: u32) -> Result<(), Errno> {
        let kind = Kind::Directory(Lock::new(BTreeMap::new()));
        self.make(cx, path, kind, mode).map(|_| ())
    }

    fn unlink(&self, cx: &Context<'_>, path: &[u8], directory: bool) -> Result<(), Errno> {
        let _names = self.names.lock();
        let (parent, name) = self.parent(path)?;
        let node = self.find(path)?;
        match (&node.kind, directory) {
            (Kind::Directory(names), true) => {
                if !names.lock().is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                let mut meta = parent.meta.lock();
                meta.links = meta.links.saturating_sub(1);
            }
            (Kind::Directory(_), false) => return Err(Errno::EISDIR),
            (_, true) => return Err(Errno::ENOTDIR),
            (_, false) => {}
        }
        parent.directory()?.lock().remove(name);
        forget(&node);
        parent.touch(cx.machine);
        Ok(())
    }

    fn rename(&self, cx: &Context<'_>, from: &[u8], to: &[u8], flags: u64) -> Result<(), Errno> {
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0
            || flags == RENAME_NOREPLACE | RENAME_EXCHANGE
        {
            return Err(Errno::EINVAL);
        }
        let _names = self.names.lock();
        let (source_parent, source_name) = self.parent(from)?;
        let (target_parent, target_name) = self.parent(to)?;
        let source = self.find(from)?;
        let target = match self.find(to) {
            Ok(target) => Some(target),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        match &target {
            Some(_) if flags == RENAME_NOREPLACE => return Err(Errno::EEXIST),
            None if flags == RENAME_EXCHANGE => return Err(Errno::ENOENT),
            Some(target) if Arc::ptr_eq(&source, target) => return Ok(()),
            Some(target) if flags == 0 => check_replace(&source, target)?,
            _ => {}
        }
        if flags == RENAME_EXCHANGE && path::below(from, to).is_some() {
            return Err(Errno::EINVAL);
        }
        source_parent.directory()?.lock().remove(source_name);
        target_parent
            .directory()?
            .lock()
            .insert(target_name.to_vec(), Arc::clone(&source));
        let moved_back = match target {
            Some(target) if flags == RENAME_EXCHANGE => {
                source_parent
                    .directory()?
                    .lock()
                    .insert(source_name.to_vec(), Arc::clone(&target));
                Some(target)
            }
            Some(target) => {
                if target.file_type() == FileType::Directory {
                    let mut meta = target_parent.meta.lock();
                    meta.links = meta.links.saturating_sub(1);
                }
                forget(&target);
                None
            }
            None => None,
        };
        let gain = |node: &Arc<Node>, gains: bool| {
            let mut meta = node.meta.lock();
            meta.links = if gains {
                meta.links + 1
            } else {
                meta.links.saturating_sub(1)
            };
        };
        if source.file_type() == FileType::Directory {
            gain(&source_parent, false);
            gain(&target_parent, true);
        }
        if moved_back.is_some_and(|node| node.file_type() == FileType::Directory) {
            gain(&source_parent, true);
            gain(&target_parent, false);
        }
        source_parent.touch(cx.machine);
        target_parent.touch(cx.machine);
        Ok(())
    }

    fn symlink(&self, cx: &Context<'_>, target: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.make(cx, path, Kind::Symlink(target.to_vec()), 0o777)
            .map(|_| ())
    }

    fn link(&self, cx: &Context<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let node = self.find(from)?;
        if node.file_type() == FileType::Directory {
            return Err(Errno::EPERM);
        }
        self.insert(cx, to, &node)?;
        node.meta.lock().links += 1;
        Ok(())
    }

    fn change(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        _follow: bool,
        change: Change,
    ) -> Result<(), Errno> {
        self.find(path)?.apply(cx.machine, change)
    }

    fn statfs(&self, _cx: &Context<'_>, path: &[u8]) -> Result<[u8; 120], Errno> {
        self.find(path)?;
        Ok(Node::statfs_of(&self.quota))
    }
}
