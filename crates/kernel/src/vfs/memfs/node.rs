// SPDX-License-Identifier: Apache-2.0
//! Files and directories in enclave memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::content::{Content, Quota};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::clock;
use crate::vfs::file::{Change, File, Record};
use crate::vfs::map::{MapSource, ReadAt};
use crate::vfs::stat::{FileType, Stat, Time};

static NEXT_INODE: AtomicU64 = AtomicU64::new(2);
/// `f_type` of tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;

#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    pub(super) accessed: Time,
    pub(super) modified: Time,
    pub(super) changed: Time,
}

/// The names of a directory.
pub(super) type Names = Lock<BTreeMap<Vec<u8>, Arc<Node>>>;

#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Directory(Names),
    Symlink(Vec<u8>),
}

/// One inode.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) inode: u64,
    pub(super) meta: Lock<Meta>,
    pub(super) kind: Kind,
    pub(super) quota: Arc<Quota>,
    /// Size and permissions never change (an injected file).
    pub(super) read_only: bool,
}

impl Node {
    pub(super) fn new(
        cx: &Context<'_>,
        kind: Kind,
        permissions: u32,
        quota: &Arc<Quota>,
    ) -> Arc<Self> {
        let now = clock::realtime(cx.machine);
        let links = if matches!(kind, Kind::Directory(_)) {
            2
        } else {
            1
        };
        let meta = Meta {
            mode: permissions & 0o7777,
            uid: 0,
            gid: 0,
            links,
            accessed: now,
            modified: now,
            changed: now,
        };
        Self::with_meta(kind, meta, quota, false)
    }

    pub(super) fn with_meta(
        kind: Kind,
        meta: Meta,
        quota: &Arc<Quota>,
        read_only: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            meta: Lock::new(meta),
            kind,
            quota: Arc::clone(quota),
            read_only,
        })
    }

    pub(super) fn file_type(&self) -> FileType {
        match self.kind {
            Kind::File(_) => FileType::Regular,
            Kind::Directory(_) => FileType::Directory,
            Kind::Symlink(_) => FileType::Symlink,
        }
    }

    pub(super) fn directory(&self) -> Result<&Names, Errno> {
        match &self.kind {
            Kind::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn content(&self) -> Result<&Content, Errno> {
        match &self.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Symlink(_) => Err(Errno::EINVAL),
        }
    }

    pub(super) fn metadata(&self) -> Stat {
        const TMPFS_DEVICE: u64 = 0x20;
        let meta = *self.meta.lock();
        let (size, held) = match &self.kind {
            Kind::File(content) => (content.len(), content.held()),
            Kind::Directory(names) => (20 * (2 + names.lock().len() as u64), 0),
            Kind::Symlink(target) => (target.len() as u64, 0),
        };
        let mut stat = Stat::new(self.file_type(), meta.mode, self.inode).with_size(size);
        stat.device = TMPFS_DEVICE;
        stat.blocks = held.div_ceil(4096) * 8;
        stat.links = meta.links;
        stat.uid = meta.uid;
        stat.gid = meta.gid;
        stat.accessed = meta.accessed;
        stat.modified = meta.modified;
        stat.changed = meta.changed;
        stat
    }

    /// Notes a change of content.
    pub(super) fn touch(&self, machine: &dyn Machine) {
        let now = clock::realtime(machine);
        let mut meta = self.meta.lock();
        meta.modified = now;
        meta.changed = now;
    }

    pub(super) fn apply(&self, machine: &dyn Machine, change: Change) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::EROFS);
        }
        let now = clock::realtime(machine);
        let mut meta = self.meta.lock();
        match change {
            Change::Mode(mode) => meta.mode = mode & 0o7777,
            Change::Owner(uid, gid) => {
                meta.uid = uid.unwrap_or(meta.uid);
                meta.gid = gid.unwrap_or(meta.gid);
            }
            Change::Times(accessed, modified) => {
                meta.accessed = clock::choose(accessed, meta.accessed, now);
                meta.modified = clock::choose(modified, meta.modified, now);
            }
        }
        meta.changed = now;
        Ok(())
    }

    pub(super) fn statfs_of(quota: &Quota) -> [u8; 120] {
        let (limit, used) = quota.usage();
        let free = limit.saturating_sub(used) / 4096;
        crate::vfs::stat::encode_statfs(TMPFS_MAGIC, limit / 4096, free, false)
    }

    fn writable(&self) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::EROFS);
        }
        Ok(())
    }
}

/// An open node.
#[derive(Debug)]
pub(super) struct MemFile {
    pub(super) node: Arc<Node>,
    pub(super) path: Vec<u8>,
}

impl File for MemFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.node.metadata())
    }

    fn is_seekable(&self) -> bool {
        matches!(self.node.kind, Kind::File(_))
    }

    fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.node.content()?.read(cx, at, to)
    }

    fn read(&self, _cx: &Context<'_>, _to: &mut Sink<'_>, _: bool) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, cx: &Context<'_>, at: u64, from: Source<'_>) -> Result<usize, Errno> {
        self.node.writable()?;
        let count = self.node.content()?.write(cx, at, from)?;
        self.node.touch(cx.machine);
        Ok(count)
    }

    fn append(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        self.node.writable()?;
        let count = self.node.content()?.append(cx, from)?;
        self.node.touch(cx.machine);
        Ok(count)
    }

    fn truncate(&self, cx: &Context<'_>, len: u64) -> Result<(), Errno> {
        self.node.writable()?;
        self.node.content()?.truncate(len)?;
        self.node.touch(cx.machine);
        Ok(())
    }

    fn allocate(&self, cx: &Context<'_>, mode: u64, at: u64, len: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u64 = 1;
        self.node.writable()?;
        let content = self.node.content()?;
        let end = at.checked_add(len).ok_or(Errno::EFBIG)?;
        match mode {
            0 => content.extend(end)?,
            KEEP_SIZE => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.node.touch(cx.machine);
        Ok(())
    }

    fn sync(&self, _cx: &Context<'_>, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let names = self.node.directory()?.lock();
        Ok(names
            .iter()
            .map(|(name, node)| Record {
                name: name.clone(),
                inode: node.inode,
                kind: node.file_type(),
            })
            .collect())
    }

    fn change(&self, cx: &Context<'_>, change: Change) -> Result<(), Errno> {
        self.node.apply(cx.machine, change)
    }

    fn statfs(&self, _cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        Ok(Node::statfs_of(&self.node.quota))
    }

    fn map_source(&self, cx: &Context<'_>) -> Result<MapSource, Errno> {
        let size = self.node.content().map_err(|_| Errno::ENODEV)?.len();
        Ok(MapSource {
            bytes: Arc::new(Mapped {
                node: Arc::clone(&self.node),
                task: Arc::clone(cx.task),
                machine: cx.machine,
            }),
            size,
            path: self.path.as_slice().into(),
            protected: false,
            startup: false,
            sites: Arc::new(Vec::new()),
            chunk: 4096,
        })
    }
}

struct Mapped {
    node: Arc<Node>,
    task: Arc<crate::process::Task>,
    machine: &'static dyn Machine,
}

impl ReadAt for Mapped {
    fn read_at(&self, _machine: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let cx = Context {
            machine: self.machine,
            task: &self.task,
        };
        self.node
            .content()?
            .read(&cx, offset, &mut Sink::Kernel(out))
    }

    fn can_write(&self) -> bool {
        !self.node.read_only
    }

    fn write_at(&self, _machine: &dyn Machine, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.node.writable()?;
        let cx = Context {
            machine: self.machine,
            task: &self.task,
        };
        let content = self.node.content()?;
        let Some(rest) = content.len().checked_sub(offset) else {
            return Ok(());
        };
        let len = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let bytes = Source::Kernel(bytes.get(..len).unwrap_or_default());
        if content.write(&cx, offset, bytes)? != len {
            return Err(Errno::ENOSPC);
        }
        self.node.touch(self.machine);
        Ok(())
    }
}
