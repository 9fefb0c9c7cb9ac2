// SPDX-License-Identifier: Apache-2.0
//! Host descriptors that close themselves.

use enclave_abi::call::{DATA_LEN, Op};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine, Word};
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::flags::OpenFlags;
use crate::vfs::stat::Stat;

/// Most bytes moved by one host call: whole pages inside the call area.
pub(crate) const STEP: usize = (DATA_LEN / 4096 - 2) * 4096;

/// A host descriptor; dropping it closes it.
pub(crate) struct HostHandle {
    fd: HostFd,
    machine: &'static dyn Machine,
    /// Standard streams outlive every file of ours.
    is_borrowed: bool,
}

impl core::fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HostHandle({:?})", self.fd)
    }
}

impl HostHandle {
    pub(crate) fn from_result(machine: &'static dyn Machine, result: u64) -> Result<Self, Errno> {
        let fd = HostFd::from_result(result)?;
        // The standard streams are ours from the start; the host cannot have
        // opened them again.
        if HostFd::STDIO.contains(&fd) {
            return Err(Errno::EIO);
        }
        Ok(Self {
            fd,
            machine,
            is_borrowed: false,
        })
    }

    pub(crate) fn borrowed(machine: &'static dyn Machine, fd: HostFd) -> Self {
        Self {
            fd,
            machine,
            is_borrowed: true,
        }
    }

    pub(crate) fn fd(&self) -> HostFd {
        self.fd
    }

    pub(crate) fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    pub(crate) fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        self.stat_on(cx.machine)
    }

    pub(crate) fn stat_on(&self, machine: &dyn Machine) -> Result<Stat, Errno> {
        let mut out = [0; Stat::LEN];
        machine.host_call(Op::Fstat, &mut [Word::Fd(self.fd), Word::Out(&mut out)])?;
        Stat::from_host(&out)
    }

    /// One stream read. Never more than there is room for.
    pub(crate) fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>) -> Result<usize, Errno> {
        let mut room = to.part(0, STEP);
        let asked = room.len();
        let count = cx.host(Op::Read, &mut [Word::Fd(self.fd), room.word()])?;
        counted(count, asked)
    }

    /// One stream write.
    pub(crate) fn write(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        let from = from.part(0, STEP);
        let count = cx.host(Op::Write, &mut [Word::Fd(self.fd), from.word()])?;
        counted(count, from.len())
    }

    /// Reads until the room is full or the file ends.
    pub(crate) fn read_at(
        &self,
        machine: &dyn Machine,
        at: u64,
        to: &mut Sink<'_>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < to.len() {
            let position = at.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            let mut room = to.part(done, STEP);
            let asked = room.len();
            let words = &mut [Word::Fd(self.fd), room.word(), Word::Value(position)];
            let count = match machine.host_call(Op::Pread, words) {
                Err(_) if done > 0 => break,
                other => counted(other?, asked)?,
            };
            done += count;
            if count < asked {
                break;
            }
        }
        Ok(done)
    }

    /// Writes until everything is written or the host takes no more.
    pub(crate) fn write_at(
        &self,
        cx: &Context<'_>,
        at: u64,
        from: Source<'_>,
    ) -> Result<usize, Errno> {
        self.write_on(cx.machine, at, from)
    }

    pub(crate) fn write_on(
        &self,
        machine: &dyn Machine,
        at: u64,
        from: Source<'_>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < from.len() {
            let position = at.checked_add(done as u64).ok_or(Errno::EFBIG)?;
            let piece = from.part(done, STEP);
            let words = &mut [Word::Fd(self.fd), piece.word(), Word::Value(position)];
            let count = match machine.host_call(Op::Pwrite, words) {
                Err(_) if done > 0 => break,
                other => counted(other?, piece.len())?,
            };
            done += count;
            if count < piece.len() {
                break;
            }
        }
        Ok(done)
    }

    pub(crate) fn set_flags(&self, cx: &Context<'_>, flags: OpenFlags) -> Result<(), Errno> {
        let flags = flags & (OpenFlags::NONBLOCK | OpenFlags::APPEND);
        let words = &mut [Word::Fd(self.fd), Word::Value(flags.bits().into())];
        cx.host(Op::SetFlags, words).map(|_| ())
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        if !self.is_borrowed {
            // Nothing to do about a host that does not close.
            let _ = self.machine.host_call(Op::Close, &mut [Word::Fd(self.fd)]);
        }
    }
}

/// Checks a count against what was asked for, once more than the copy layer does.
pub(crate) fn counted(count: u64, asked: usize) -> Result<usize, Errno> {
    match usize::try_from(count) {
        Ok(count) if count <= asked => Ok(count),
        _ => Err(Errno::EIO),
    }
}
