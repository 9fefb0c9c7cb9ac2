// SPDX-License-Identifier: Apache-2.0
//! Standard input, output and error, which the host holds from the start.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Word};
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{Change, File};
use crate::vfs::flags::OpenFlags;
use crate::vfs::hostfs::handle::HostHandle;
use crate::vfs::opened::OpenFile;
use crate::vfs::readiness::Readiness;
use crate::vfs::stat::{self, FileType, Stat};
use crate::vfs::table::FdTable;

use enclave_abi::call::Op;

/// One of the standard streams.
#[derive(Debug)]
pub struct Stdio {
    handle: HostHandle,
}

impl Stdio {
    fn new(cx: &Context<'_>, fd: HostFd) -> Self {
        Self {
            handle: HostHandle::borrowed(cx.machine, fd),
        }
    }
}

/// The three standard streams themselves.
pub(crate) fn streams(cx: &Context<'_>) -> [Arc<dyn File>; 3] {
    HostFd::STDIO.map(|fd| Arc::new(Stdio::new(cx, fd)) as Arc<dyn File>)
}

/// A table with the three standard streams as 0, 1 and 2.
#[must_use]
pub fn table(cx: &Context<'_>) -> FdTable {
    let mut table = FdTable::default();
    for (number, fd) in (0..).zip(HostFd::STDIO) {
        let file = Arc::new(Stdio::new(cx, fd));
        let name = name(cx, &file, number);
        let file = OpenFile::new(cx.machine, file, OpenFlags::READ_WRITE, name);
        // The table is empty and its limit far above.
        let _ = table.replace(number, file, false);
    }
    table
}

/// What /proc/self/fd shows: a name that leads nowhere but to the stream itself.
fn name(cx: &Context<'_>, file: &Stdio, number: u64) -> Vec<u8> {
    match file.stat(cx) {
        Ok(stat) => match stat.kind() {
            FileType::Fifo => format!("pipe:[{}]", stat.inode),
            FileType::Socket => format!("socket:[{}]", stat.inode),
            FileType::CharDevice if stat.rdev == stat::device(1, 3) => "/dev/null".into(),
            FileType::CharDevice => "/dev/tty".into(),
            _ => format!("file:[{number}]"),
        },
        Err(_) => format!("file:[{number}]"),
    }
    .into_bytes()
}

impl File for Stdio {
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        self.handle.stat(cx)
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
                Err(_) if done > 0 => break,
                Err(Errno::EPIPE) => {
                    const SIGPIPE: u32 = 13;
                    cx.task.raise(cx.machine, SIGPIPE);
                    return Err(Errno::EPIPE);
                }
                Err(errno) => return Err(errno),
            }
            if nonblock {
                break;
            }
        }
        Ok(done)
    }

    fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<(), Errno> {
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(data_only.into())];
        cx.host(Op::Fsync, words).map(|_| ())
    }

    fn truncate(&self, cx: &Context<'_>, len: u64) -> Result<(), Errno> {
        if self.stat(cx)?.kind() != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        let words = &mut [Word::Fd(self.handle.fd()), Word::Value(len)];
        cx.host(Op::Ftruncate, words).map(|_| ())
    }

    fn change(&self, _cx: &Context<'_>, _change: Change) -> Result<(), Errno> {
        // Programs adjust their terminal's owner; the streams are not theirs.
        Err(Errno::EPERM)
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        crate::vfs::terminal::host_ioctl(cx, self.handle.fd(), request, arg)
    }

    fn set_flags(&self, cx: &Context<'_>, flags: OpenFlags) -> Result<(), Errno> {
        self.handle.set_flags(cx, flags)
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        Readiness::Host(self.handle.fd())
    }

    fn host(&self) -> Option<HostFd> {
        Some(self.handle.fd())
    }
}
