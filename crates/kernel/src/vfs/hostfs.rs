// SPDX-License-Identifier: Apache-2.0
//! Files served straight from the container, without any protection: `test`
//! mode, host-path and plain regions.
//!
//! Nothing here is believed beyond its form. Paths handed to the host have no
//! symbolic links except possibly as the last component, which the host is told
//! not to follow.

mod cache;
mod file;
pub(crate) mod handle;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use cache::DirectoryCache;
use enclave_abi::call::Op;
use file::{HostDirectory, HostFile};
use handle::HostHandle;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Word;
use crate::vfs::file::{Change, NewTime};
use crate::vfs::filesystem::{Component, FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::path;
use crate::vfs::stat::{FileType, Stat};

/// The host shall not follow a last symbolic link.
const NO_FOLLOW: u64 = 0;

/// The container's own files.
#[derive(Debug, Default)]
pub struct HostFs {
    directories: DirectoryCache,
}

impl HostFs {
    /// The container's own files.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn call(cx: &Context<'_>, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
        loop {
            match cx.host(op, words) {
                // These calls do not block, so a signal is no reason to give up.
                Err(Errno::EINTR) if !cx.interrupted() => {}
                other => return other,
            }
        }
    }

    fn done(cx: &Context<'_>, op: Op, words: &mut [Word<'_>]) -> Result<(), Errno> {
        match Self::call(cx, op, words)? {
            0 => Ok(()),
            _ => Err(Errno::EIO),
        }
    }
}

pub(super) fn host_stat(cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno> {
    let mut out = [0; Stat::LEN];
    let words = &mut [Word::In(path), Word::Value(NO_FOLLOW), Word::Out(&mut out)];
    HostFs::call(cx, Op::Stat, words)?;
    Stat::from_host(&out)
}

pub(super) fn host_change(
    cx: &Context<'_>,
    path: &[u8],
    follow: bool,
    change: Change,
) -> Result<(), Errno> {
    let path = Word::In(path);
    match change {
        Change::Mode(mode) => HostFs::done(cx, Op::Chmod, &mut [path, Word::Value(mode.into())]),
        Change::Owner(uid, gid) => {
            let id = |id: Option<u32>| Word::Value(id.unwrap_or(u32::MAX).into());
            let follow = Word::Value(follow.into());
            HostFs::done(cx, Op::Chown, &mut [path, id(uid), id(gid), follow])
        }
        Change::Times(accessed, modified) => {
            const UTIME_NOW: u64 = 0x3fff_ffff;
            const UTIME_OMIT: u64 = 0x3fff_fffe;
            let mut times = Vec::with_capacity(32);
            for time in [accessed, modified] {
                let (seconds, nanos) = match time {
                    NewTime::Omit => (0, UTIME_OMIT),
                    NewTime::Now => (0, UTIME_NOW),
                    NewTime::At(time) => (time.seconds, time.nanos.into()),
                };
                times.extend_from_slice(&seconds.to_le_bytes());
                times.extend_from_slice(&nanos.to_le_bytes());
            }
            let follow = Word::Value(follow.into());
            HostFs::done(cx, Op::Utimens, &mut [path, Word::In(&times), follow])
        }
    }
}

impl FileSystem for HostFs {
    fn host_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        Some(path.to_vec())
    }

    fn stat(&self, cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno> {
        let stat = host_stat(cx, path)?;
        if stat.kind() == FileType::Directory {
            self.directories.add(path);
        }
        Ok(stat)
    }

    fn component(&self, cx: &Context<'_>, path: &[u8]) -> Result<Component, Errno> {
        if self.directories.has(path) {
            return Ok(Component::Directory);
        }
        match self.stat(cx, path)?.kind() {
            FileType::Directory => Ok(Component::Directory),
            FileType::Symlink => Ok(Component::Symlink(self.readlink(cx, path)?)),
            _ => Ok(Component::Other),
        }
    }

    fn readlink(&self, cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0; path::MAX_PATH];
        let words = &mut [Word::In(path), Word::Out(&mut out)];
        let count = Self::call(cx, Op::Readlink, words)?;
        out.truncate(usize::try_from(count).map_err(|_| Errno::EIO)?);
        if out.is_empty() || out.contains(&0) {
            return Err(Errno::EIO);
        }
        Ok(out)
    }

    fn open(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Opened, Errno> {
        let wanted = flags | OpenFlags::NO_FOLLOW | OpenFlags::CLOEXEC | OpenFlags::NO_CTTY;
        let unnamed = OpenFlags::TEMPORARY | OpenFlags::DIRECTORY;
        let creates = flags.contains(OpenFlags::CREATE) || flags.contains(unnamed);
        // openat2 refuses a mode for a file that is not created.
        let mode = if creates { mode & 0o7777 } else { 0 };
        let words = &mut [
            Word::In(path),
            Word::Value(wanted.bits().into()),
            Word::Value(mode.into()),
        ];
        let handle = HostHandle::from_result(cx.machine, cx.host(Op::Open, words)?)?;
        let stat = handle.stat(cx)?;
        if flags.contains(OpenFlags::CREATE) {
            // A path that was missing may have been cached as missing elsewhere.
            self.directories.forget(path);
        }
        Ok(match stat.kind() {
            FileType::Directory => {
                self.directories.add(path);
                Opened::Directory(Arc::new(HostDirectory::new(handle, path)))
            }
            FileType::Symlink => return Err(Errno::ELOOP),
            kind => Opened::File(Arc::new(HostFile::new(handle, path, kind))),
        })
    }

    fn access(&self, cx: &Context<'_>, path: &[u8], wanted: u32) -> Result<(), Errno> {
        Self::done(
            cx,
            Op::Access,
            &mut [Word::In(path), Word::Value(wanted.into())],
        )
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn mkdir(&self, cx: &Context<'_>, path: &[u8], mode: u32) -> Result<(), Errno> {
        let mode = Word::Value((mode & 0o7777).into());
        Self::done(cx, Op::Mkdir, &mut [Word::In(path), mode])
    }

    fn unlink(&self, cx: &Context<'_>, path: &[u8], directory: bool) -> Result<(), Errno> {
        self.directories.forget(path);
        let directory = Word::Value(directory.into());
        Self::done(cx, Op::Unlink, &mut [Word::In(path), directory])
    }

    fn rename(&self, cx: &Context<'_>, from: &[u8], to: &[u8], flags: u64) -> Result<(), Errno> {
        let words = &mut [Word::In(from), Word::In(to), Word::Value(flags)];
        let renamed = Self::done(cx, Op::Rename, words);
        self.directories.forget(from);
        self.directories.forget(to);
        renamed
    }

    fn symlink(&self, cx: &Context<'_>, target: &[u8], path: &[u8]) -> Result<(), Errno> {
        Self::done(cx, Op::Symlink, &mut [Word::In(target), Word::In(path)])
    }

    fn link(&self, cx: &Context<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        Self::done(cx, Op::Link, &mut [Word::In(from), Word::In(to)])
    }

    fn change(
        &self,
        cx: &Context<'_>,
        path: &[u8],
        follow: bool,
        change: Change,
    ) -> Result<(), Errno> {
        host_change(cx, path, follow, change)
    }

    fn statfs(&self, cx: &Context<'_>, path: &[u8]) -> Result<[u8; 120], Errno> {
        let mut out = [0; 120];
        let words = &mut [Word::In(path), Word::Out(&mut out)];
        Self::call(cx, Op::Statfs, words)?;
        Ok(out)
    }
}

/// A host descriptor as a stream, for tests of waiting.
#[cfg(test)]
pub(crate) fn stream_for_tests(
    handle: HostHandle,
    kind: FileType,
) -> Arc<dyn crate::vfs::file::File> {
    Arc::new(HostFile::new(handle, b"/test", kind))
}
