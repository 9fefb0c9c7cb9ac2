// SPDX-License-Identifier: Apache-2.0
//! Open files and directories of the host.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::call::Op;

use super::handle::{HostHandle, counted};
use super::{host_change, host_stat};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine, Word};
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::directory::decode_records;
use crate::vfs::file::{Change, File, Record};
use crate::vfs::flags::OpenFlags;
use crate::vfs::map::{MapSource, ReadAt};
use crate::vfs::path;
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::stat::{FileType, Stat};

/// Most names the host may list in one directory.
const MAX_NAMES: usize = 1 << 20;

/// A host file that is no directory.
#[derive(Debug)]
pub(crate) struct HostFile {
    handle: Arc<HostHandle>,
    path: Vec<u8>,
    kind: FileType,
}

impl HostFile {
    pub(crate) fn new(handle: HostHandle, path: &[u8], kind: FileType) -> Self {
        Self {
            handle: Arc::new(handle),
            path: path.to_vec(),
            kind,
        }
    }

    fn is_stream(&self) -> bool {
        !matches!(self.kind, FileType::Regular | FileType::BlockDevice)
    }
}

impl File for HostFile {
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        let stat = self.handle.stat(cx)?;
        // What was opened as one kind cannot become another.
        if stat.kind() != self.kind {
            return Err(Errno::EIO);
        }
        Ok(stat)
    }

    fn is_seekable(&self) -> bool {
        !self.is_stream()
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, _nonblock: bool) -> Result<usize, Errno> {
        self.handle.read(cx, to)
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, nonblock: bool) -> Result<usize, Errno> {
        let mut done = 0;
        while done < from.len() {
            match self.handle.write(cx, from.part(done, usize::MAX)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::EPIPE) if done == 0 => {
                    const SIGPIPE: u32 = 13;
                    cx.task.raise(cx.machine, SIGPIPE);
                    return Err(Errno::EPIPE);
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            if nonblock {
                break;
            }
        }
        Ok(done)
    }

    fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        if self.is_stream() {
            return Err(Errno::ESPIPE);
        }
        self.handle.read_at(cx.machine, at, to)
    }

    fn write_at(&self, cx: &Context<'_>, at: u64, from: Source<'_>) -> Result<usize, Errno> {
        if self.is_stream() {
            return Err(Errno::ESPIPE);
        }
        self.handle.write_at(cx, at, from)
    }

    fn append(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        // The host's descriptor appends by its own flag.
        let mut done = 0;
        while done < from.len() {
            match self.handle.write(cx, from.part(done, usize::MAX)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn truncate(&self, cx: &Context<'_>, len: u64) -> Result<(), Errno> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(len)];
        cx.host(Op::Ftruncate, words).map(|_| ())
    }

    fn allocate(&self, cx: &Context<'_>, mode: u64, at: u64, len: u64) -> Result<(), Errno> {
        let words = &mut [
            Word::Fd(self.handle.fd()),
            Word::Value(mode),
            Word::Value(at),
            Word::Value(len),
        ];
        cx.host(Op::Fallocate, words).map(|_| ())
    }

    fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<(), Errno> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(data_only.into())];
        cx.host(Op::Fsync, words).map(|_| ())
    }

    fn change(&self, cx: &Context<'_>, change: Change) -> Result<(), Errno> {
        host_change(cx, &self.path, false, change)
    }

    fn statfs(&self, cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        let mut out = [0; 120];
        let words = &mut [Word::In(&self.path), Word::Out(&mut out)];
        cx.host(Op::Statfs, words)?;
        Ok(out)
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        crate::vfs::terminal::host_ioctl(cx, self.handle.fd(), request, arg)
    }

    fn set_flags(&self, cx: &Context<'_>, flags: OpenFlags) -> Result<(), Errno> {
        self.handle.set_flags(cx, flags)
    }

    fn host_flock(&self, cx: &Context<'_>, operation: u64) -> Option<Result<(), Errno>> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(operation)];
        Some(cx.host(Op::Flock, words).map(|_| ()))
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        if self.is_stream() {
            Readiness::Host(self.handle.fd())
        } else {
            Readiness::Always(Events::READ | Events::WRITE)
        }
    }

    fn host(&self) -> Option<HostFd> {
        Some(self.handle.fd())
    }

    fn map_source(&self, cx: &Context<'_>) -> Result<MapSource, Errno> {
        if self.kind != FileType::Regular {
            return Err(Errno::ENODEV);
        }
        Ok(MapSource {
            bytes: Arc::new(Mapped(Arc::clone(&self.handle))),
            size: self.stat(cx)?.size,
            path: self.path.as_slice().into(),
            protected: false,
            startup: false,
            sites: Arc::new(Vec::new()),
            chunk: 4096,
        })
    }
}

struct Mapped(Arc<HostHandle>);

impl ReadAt for Mapped {
    fn read_at(&self, machine: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        self.0.read_at(machine, offset, &mut Sink::Kernel(out))
    }

    fn can_write(&self) -> bool {
        true
    }

    fn write_at(&self, machine: &dyn Machine, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let size = self.0.stat_on(machine)?.size;
        let Some(rest) = size.checked_sub(offset) else {
            return Ok(());
        };
        let len = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let bytes = Source::Kernel(bytes.get(..len).unwrap_or_default());
        if self.0.write_on(machine, offset, bytes)? == len {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }
}

/// A host directory.
#[derive(Debug)]
pub(super) struct HostDirectory {
    handle: HostHandle,
    path: Vec<u8>,
}

impl HostDirectory {
    pub(super) fn new(handle: HostHandle, path: &[u8]) -> Self {
        Self {
            handle,
            path: path.to_vec(),
        }
    }
}

impl File for HostDirectory {
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        let stat = self.handle.stat(cx)?;
        if stat.kind() != FileType::Directory {
            return Err(Errno::EIO);
        }
        Ok(stat)
    }

    fn read(&self, _cx: &Context<'_>, _to: &mut Sink<'_>, _: bool) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn list(&self, cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        const SEEK_SET: u64 = 0;
        let fd = self.handle.fd();
        cx.host(
            Op::Lseek,
            &mut [Word::Fd(fd), Word::Value(0), Word::Value(SEEK_SET)],
        )?;
        let mut all = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = cx.host(Op::Getdents, &mut [Word::Fd(fd), Word::Out(&mut buffer)])?;
            let count = counted(count, buffer.len())?;
            if count == 0 {
                return Ok(all);
            }
            let records = buffer.get(..count).unwrap_or_default();
            all.extend(decode_records(records, |name| {
                Ok(host_stat(cx, &path::join(&self.path, name))?.kind())
            })?);
            if all.len() > MAX_NAMES {
                return Err(Errno::EIO);
            }
        }
    }

    fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<(), Errno> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(data_only.into())];
        cx.host(Op::Fsync, words).map(|_| ())
    }

    fn change(&self, cx: &Context<'_>, change: Change) -> Result<(), Errno> {
        host_change(cx, &self.path, false, change)
    }

    fn statfs(&self, cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        let mut out = [0; 120];
        let words = &mut [Word::In(&self.path), Word::Out(&mut out)];
        cx.host(Op::Statfs, words)?;
        Ok(out)
    }

    fn host_flock(&self, cx: &Context<'_>, operation: u64) -> Option<Result<(), Errno>> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(operation)];
        Some(cx.host(Op::Flock, words).map(|_| ()))
    }

    fn host(&self) -> Option<HostFd> {
        Some(self.handle.fd())
    }
}
