// SPDX-License-Identifier: Apache-2.0
//! What a file can do without blocking, and who says so.

use bitflags::bitflags;

use crate::host::HostFd;
use crate::sync::WaitQueue;

bitflags! {
    /// Events of `poll` and `epoll`, with Linux's numbers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Events: u32 {
        /// Data to read.
        const IN = 0x1;
        /// Urgent data.
        const PRI = 0x2;
        /// Room to write.
        const OUT = 0x4;
        /// An error.
        const ERR = 0x8;
        /// The other end is gone.
        const HUP = 0x10;
        /// Not an open descriptor.
        const NVAL = 0x20;
        /// As `IN`.
        const RDNORM = 0x40;
        /// Priority band data to read.
        const RDBAND = 0x80;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority band data may be written.
        const WRBAND = 0x200;
        /// The other end will write no more.
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// Normal reading.
    pub const READ: Self = Self::IN.union(Self::RDNORM);
    /// Normal writing.
    pub const WRITE: Self = Self::OUT.union(Self::WRNORM);
    /// What is told without being asked for.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);

    /// What of `self` is told to somebody who asked for `asked`.
    #[must_use]
    pub fn told(self, asked: Self) -> Self {
        self & (asked | Self::ALWAYS)
    }
}

/// Who knows what a file can do.
#[derive(Debug)]
pub enum Readiness<'a> {
    /// It never changes.
    Always(Events),
    /// The kernel.
    Inside(Inside<'a>),
    /// The host: ask it about this descriptor.
    Host(HostFd),
}

/// What the kernel knows about a file of its own.
#[derive(Debug, Default)]
pub struct Inside<'a> {
    /// The state now.
    pub now: Events,
    /// Queues that are woken when the state may have changed.
    pub queues: [Option<&'a WaitQueue>; 2],
    /// When the state changes by itself, in nanoseconds of CLOCK_MONOTONIC.
    pub at: Option<u64>,
}
