// SPDX-License-Identifier: Apache-2.0
//! What can be done with a file of any kind.

use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::HostFd;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::flags::OpenFlags;
use crate::vfs::map::MapSource;
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::stat::{FileType, Stat, Time};

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Vec<u8>,
    /// Inode number, not 0.
    pub inode: u64,
    /// Type.
    pub kind: FileType,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    /// Leave it.
    Omit,
    /// The present.
    Now,
    /// This one.
    At(Time),
}

/// A change of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Permission bits.
    Mode(u32),
    /// Owner and group; `None` leaves one.
    Owner(Option<u32>, Option<u32>),
    /// Access and modification time.
    Times(NewTime, NewTime),
}

/// Kinds of files that calls of their own work on.
#[derive(Debug)]
pub enum Class<'a> {
    /// None of the others.
    Plain,
    /// A socket.
    Socket(&'a dyn crate::net::Socket),
    /// An epoll set.
    Epoll(&'a super::epoll::Epoll),
    /// A timer.
    Timer(&'a super::timer::Timer),
    /// One end of a pipe inside.
    Pipe(&'a super::pipe::Pipe),
    /// A signalfd.
    Signals(&'a crate::signal::fd::SignalFile),
}

/// A file of any kind; what a kind cannot do keeps the default answer.
pub trait File: Send + Sync + core::fmt::Debug {
    /// Metadata.
    ///
    /// # Errors
    /// The host's errno or `EIO`.
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno>;

    /// Whether the file has a position and [`Self::read_at`] works.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Reads from a stream; 0 is its end.
    ///
    /// # Errors
    /// `EAGAIN` instead of blocking, `EINTR`, `EFAULT`, `EINVAL` if it cannot be read.
    fn read(&self, _cx: &Context<'_>, _to: &mut Sink<'_>, _nonblock: bool) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes to a stream.
    ///
    /// # Errors
    /// `EAGAIN` instead of blocking, `EINTR`, `EFAULT`, `EINVAL` if it cannot be written.
    fn write(&self, _cx: &Context<'_>, _from: Source<'_>, _nonblock: bool) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Reads at a position.
    ///
    /// # Errors
    /// `ESPIPE` for streams, `EFAULT`, `EIO` for bytes that do not verify.
    fn read_at(&self, _cx: &Context<'_>, _at: u64, _to: &mut Sink<'_>) -> Result<usize, Errno> {
        Err(Errno::ESPIPE)
    }

    /// Writes at a position.
    ///
    /// # Errors
    /// `ESPIPE` for streams, `EFAULT`, `EROFS`, `ENOSPC`, `EFBIG`.
    fn write_at(&self, _cx: &Context<'_>, _at: u64, _from: Source<'_>) -> Result<usize, Errno> {
        Err(Errno::ESPIPE)
    }

    /// Writes at the end, as one step.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    fn append(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        let end = self.stat(cx)?.size;
        self.write_at(cx, end, from)
    }

    /// Sets the length.
    ///
    /// # Errors
    /// `EINVAL` if it has none, `EROFS`, `ENOSPC`.
    fn truncate(&self, _cx: &Context<'_>, _len: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `fallocate`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the kind or mode is not served.
    fn allocate(&self, _cx: &Context<'_>, _mode: u64, _at: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes written data durable, where that means something.
    ///
    /// # Errors
    /// `EINVAL` for streams; the host's errno.
    fn sync(&self, _cx: &Context<'_>, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// All names of a directory, without `.` and `..`.
    ///
    /// # Errors
    /// `ENOTDIR` for everything else.
    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Changes metadata.
    ///
    /// # Errors
    /// `EPERM` if the kind has none to change, `EROFS`.
    fn change(&self, _cx: &Context<'_>, _change: Change) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// `statfs` of its file system.
    ///
    /// # Errors
    /// The host's errno.
    fn statfs(&self, _cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
        Ok(super::stat::encode_statfs(ANON_INODE_FS_MAGIC, 0, 0, false))
    }

    /// `ioctl` beyond the requests that every file knows.
    ///
    /// # Errors
    /// `ENOTTY` if it does not know the request.
    fn ioctl(&self, _cx: &Context<'_>, _request: u64, _arg: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Learns new status flags before they hold.
    ///
    /// # Errors
    /// The host's errno.
    fn set_flags(&self, _cx: &Context<'_>, _flags: OpenFlags) -> Result<(), Errno> {
        Ok(())
    }

    /// `flock` by the host, if the file is the host's alone.
    fn host_flock(&self, _cx: &Context<'_>, _operation: u64) -> Option<Result<(), Errno>> {
        None
    }

    /// What can be done without blocking.
    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        Readiness::Always(Events::READ | Events::WRITE)
    }

    /// The host descriptor behind it, where the host holds the file.
    fn host(&self) -> Option<HostFd> {
        None
    }

    /// The file as memory mappings see it.
    ///
    /// # Errors
    /// `ENODEV` if it cannot be mapped.
    fn map_source(&self, _cx: &Context<'_>) -> Result<MapSource, Errno> {
        Err(Errno::ENODEV)
    }

    /// For calls that want a certain kind.
    fn class(&self) -> Class<'_> {
        Class::Plain
    }
}
