// SPDX-License-Identifier: Apache-2.0
//! Pipes between threads of the enclave; their bytes never leave it.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{Class, File};
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::ring::{ReadMode, Ring};
use crate::vfs::stat::{FileType, Stat};

const FIONREAD: u64 = 0x541b;
const SIGPIPE: u32 = 13;
static NEXT_INODE: AtomicU64 = AtomicU64::new(1);

/// One end of a pipe.
#[derive(Debug)]
pub struct Pipe {
    ring: Arc<Ring>,
    is_writer: bool,
    inode: u64,
    machine: &'static dyn Machine,
}

impl core::fmt::Debug for dyn Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Machine")
    }
}

impl Pipe {
    /// A new pipe: its reading and its writing end.
    #[must_use]
    pub fn pair(machine: &'static dyn Machine) -> [Arc<Self>; 2] {
        let ring = Arc::new(Ring::new());
        let inode = NEXT_INODE.fetch_add(1, Ordering::Relaxed);
        [false, true].map(|is_writer| {
            Arc::new(Self {
                ring: Arc::clone(&ring),
                is_writer,
                inode,
                machine,
            })
        })
    }

    /// Inode number: /proc/self/fd shows `pipe:[N]`.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// F_GETPIPE_SZ.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// F_SETPIPE_SZ.
    ///
    /// # Errors
    /// `EBUSY` if more bytes wait already, `EPERM` above the limit.
    pub fn set_capacity(&self, capacity: usize) -> Result<usize, Errno> {
        self.ring.set_capacity(capacity)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.is_writer {
            self.ring.close_writer(self.machine);
        } else {
            self.ring.close_reader(self.machine);
        }
    }
}

impl File for Pipe {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        const PIPE_DEVICE: u64 = 0xe;
        let mut stat = Stat::new(FileType::Fifo, 0o600, self.inode);
        stat.device = PIPE_DEVICE;
        Ok(stat)
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        let mode = ReadMode {
            nonblock,
            peek: false,
        };
        self.ring.read(cx, to, mode)
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, nonblock: bool) -> Result<usize, Errno> {
        let written = self.ring.write(cx, from, nonblock);
        if written == Err(Errno::EPIPE) {
            cx.task.raise(cx.machine, SIGPIPE);
        }
        written
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        cx.write_u32(arg, self.ring.pending() as u32)?;
        Ok(0)
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        let mut now = Events::empty();
        let queue = if self.is_writer {
            let (has_room, no_reader) = self.ring.write_state();
            now.set(Events::WRITE, has_room || no_reader);
            now.set(Events::ERR, no_reader);
            &self.ring.writable
        } else {
            let (has_data, no_writer) = self.ring.read_state();
            now.set(Events::READ, has_data);
            now.set(Events::HUP, no_writer);
            &self.ring.readable
        };
        Readiness::Inside(Inside {
            now,
            queues: [Some(queue), None],
            at: None,
        })
    }

    fn class(&self) -> Class<'_> {
        Class::Pipe(self)
    }
}
