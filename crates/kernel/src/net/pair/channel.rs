// SPDX-License-Identifier: Apache-2.0
//! One direction of a pair: bytes or messages.

use alloc::sync::Arc;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::net::Kind;
use crate::net::messages::{Messages, Taken};
use crate::sync::WaitQueue;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::ring::{ReadMode, Ring};

/// Nothing more comes.
pub(super) const END: Taken = Taken {
    count: 0,
    whole: 0,
    is_end: true,
};

#[derive(Clone, Debug)]
pub(super) enum Channel {
    Bytes(Arc<Ring>),
    /// `is_connected`: reading ends when the other end is gone.
    Messages {
        queue: Arc<Messages>,
        is_connected: bool,
    },
}

impl Channel {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Stream => Self::Bytes(Arc::new(Ring::new())),
            Kind::Datagram | Kind::Packet => Self::Messages {
                queue: Arc::new(Messages::new()),
                is_connected: kind == Kind::Packet,
            },
        }
    }

    /// `EAGAIN` instead of waiting.
    pub(super) fn take(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        peek: bool,
    ) -> Result<Taken, Errno> {
        match self {
            Self::Bytes(ring) => {
                let mode = ReadMode {
                    nonblock: true,
                    peek,
                };
                let count = ring.read(cx, to, mode)?;
                Ok(Taken {
                    count,
                    whole: count,
                    is_end: count == 0,
                })
            }
            Self::Messages {
                queue,
                is_connected,
            } => match queue.take(cx, to, peek)? {
                // Datagrams have no end: somebody else might send.
                taken if taken.is_end && !is_connected => Err(Errno::EAGAIN),
                taken => Ok(taken),
            },
        }
    }

    /// `EAGAIN` instead of waiting.
    pub(super) fn put(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        match self {
            Self::Bytes(ring) => ring.write(cx, from, true),
            Self::Messages { queue, .. } => queue.put(cx, from),
        }
    }

    pub(super) fn wait_readable(
        &self,
        cx: &Context<'_>,
        deadline: Option<u64>,
        is_shut: impl Fn() -> bool,
    ) -> Result<(), Errno> {
        self.readable().wait_until(cx, deadline, || {
            let (has_data, is_end) = self.read_state();
            has_data || is_end && self.has_end() || is_shut()
        })
    }

    pub(super) fn wait_writable(
        &self,
        cx: &Context<'_>,
        deadline: Option<u64>,
        len: usize,
        is_shut: impl Fn() -> bool,
    ) -> Result<(), Errno> {
        self.writable().wait_until(cx, deadline, || {
            let has_room = match self {
                Self::Bytes(_) => self.write_state().0,
                Self::Messages { queue, .. } => queue.accepts(len),
            };
            has_room || self.write_state().1 || is_shut()
        })
    }

    fn has_end(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::Messages { is_connected, .. } => *is_connected,
        }
    }

    pub(super) fn read_state(&self) -> (bool, bool) {
        match self {
            Self::Bytes(ring) => ring.read_state(),
            Self::Messages { queue, .. } => queue.read_state(),
        }
    }

    pub(super) fn write_state(&self) -> (bool, bool) {
        match self {
            Self::Bytes(ring) => ring.write_state(),
            Self::Messages { queue, .. } => queue.write_state(),
        }
    }

    pub(super) fn readable(&self) -> &WaitQueue {
        match self {
            Self::Bytes(ring) => &ring.readable,
            Self::Messages { queue, .. } => &queue.readable,
        }
    }

    pub(super) fn writable(&self) -> &WaitQueue {
        match self {
            Self::Bytes(ring) => &ring.writable,
            Self::Messages { queue, .. } => &queue.writable,
        }
    }

    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Bytes(ring) => ring.pending(),
            Self::Messages { queue, .. } => queue.pending(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Bytes(ring) => ring.capacity(),
            Self::Messages { queue, .. } => queue.capacity(),
        }
    }

    /// Takes an `int`. Like Linux, what is out of range becomes what is possible,
    /// and a buffer in use keeps what it holds.
    pub(super) fn set_capacity(&self, value: &[u8]) {
        let wanted = value
            .first_chunk::<4>()
            .map_or(0, |v| i32::from_le_bytes(*v));
        let wanted = usize::try_from(wanted).unwrap_or(0);
        match self {
            Self::Bytes(ring) => {
                let _ = ring.set_capacity(wanted.min(crate::vfs::ring::MAX_CAPACITY));
            }
            Self::Messages { queue, .. } => queue.set_capacity(wanted),
        }
    }

    pub(super) fn close_reader(&self, machine: &dyn Machine) {
        match self {
            Self::Bytes(ring) => ring.close_reader(machine),
            Self::Messages { queue, .. } => queue.close_reader(machine),
        }
    }

    pub(super) fn close_writer(&self, machine: &dyn Machine) {
        match self {
            Self::Bytes(ring) => ring.close_writer(machine),
            Self::Messages { queue, .. } => queue.close_writer(machine),
        }
    }
}
