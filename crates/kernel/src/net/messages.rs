// SPDX-License-Identifier: Apache-2.0
//! A queue of messages from one end of a pair to the other.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::{Lock, WaitQueue};
use crate::vfs::buffer::{Sink, Source};

/// Bytes a queue holds unless told otherwise, its bookkeeping included (Linux:
/// wmem_default).
const DEFAULT_CAPACITY: usize = 212_992;
/// Bounds of what it may be told (Linux: SOCK_MIN_SNDBUF; pipes' limit here).
const MIN_CAPACITY: usize = 4608;
const MAX_CAPACITY: usize = 1 << 20;
/// Bookkeeping of one message, so that empty ones are bounded too.
const OVERHEAD: usize = 256;

struct State {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    capacity: usize,
    has_reader: bool,
    has_writer: bool,
}

impl State {
    /// Whether a message of this length can be put now.
    fn check(&self, len: usize) -> Result<(), Errno> {
        let needed = len.saturating_add(OVERHEAD);
        if !self.has_reader {
            Err(Errno::EPIPE)
        } else if needed > self.capacity {
            Err(Errno::EMSGSIZE)
        } else if self.bytes.saturating_add(needed) > self.capacity {
            Err(Errno::EAGAIN)
        } else {
            Ok(())
        }
    }
}

/// Messages on their way.
pub(crate) struct Messages {
    state: Lock<State>,
    pub(crate) readable: WaitQueue,
    pub(crate) writable: WaitQueue,
}

impl core::fmt::Debug for Messages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Messages(..)")
    }
}

/// What one look into the queue finds.
pub(crate) struct Taken {
    /// Bytes put into the room.
    pub(crate) count: usize,
    /// Length of the message.
    pub(crate) whole: usize,
    /// There was no message and there will be none.
    pub(crate) is_end: bool,
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self {
            state: Lock::new(State {
                messages: VecDeque::new(),
                bytes: 0,
                capacity: DEFAULT_CAPACITY,
                has_reader: true,
                has_writer: true,
            }),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
        }
    }

    /// Takes the first message, or only looks at it.
    ///
    /// # Errors
    /// `EAGAIN` if there is none yet, `EFAULT`.
    pub(crate) fn take(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        peek: bool,
    ) -> Result<Taken, Errno> {
        let taken = {
            let mut state = self.state.lock();
            let Some(message) = state.messages.front() else {
                if state.has_writer {
                    return Err(Errno::EAGAIN);
                }
                return Ok(Taken {
                    count: 0,
                    whole: 0,
                    is_end: true,
                });
            };
            let whole = message.len();
            let kept = message.get(..whole.min(to.len())).unwrap_or_default();
            to.put(0, kept)?;
            let count = kept.len();
            if !peek {
                state.messages.pop_front();
                state.bytes = state.bytes.saturating_sub(whole + OVERHEAD);
            }
            Taken {
                count,
                whole,
                is_end: false,
            }
        };
        if !peek {
            self.writable.wake_all(cx.machine);
        }
        Ok(taken)
    }

    /// Appends a message.
    ///
    /// # Errors
    /// `EAGAIN` without room, `EPIPE` without a reader, `EMSGSIZE`, `EFAULT`.
    pub(crate) fn put(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        let len = from.len();
        self.state.lock().check(len)?;
        // Copied outside the lock: a fault while copying takes time.
        let message = from.to_vec(MAX_CAPACITY)?;
        {
            let mut state = self.state.lock();
            state.check(len)?;
            state.bytes += len + OVERHEAD;
            state.messages.push_back(message);
        }
        self.readable.wake_all(cx.machine);
        Ok(len)
    }

    /// Whether a message of this length could be put, or never will be.
    pub(crate) fn accepts(&self, len: usize) -> bool {
        let state = self.state.lock();
        state.check(len) != Err(Errno::EAGAIN)
    }

    /// Whether a message waits, and whether no writer is left.
    pub(crate) fn read_state(&self) -> (bool, bool) {
        let state = self.state.lock();
        (!state.messages.is_empty(), !state.has_writer)
    }

    /// Whether there is room, and whether no reader is left.
    pub(crate) fn write_state(&self) -> (bool, bool) {
        let state = self.state.lock();
        // As for sockets of Linux: half of the buffer is free.
        (state.bytes * 2 <= state.capacity, !state.has_reader)
    }

    /// Length of the first message, 0 if there is none.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().messages.front().map_or(0, Vec::len)
    }

    /// Bytes it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Changes that, within bounds.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.state.lock().capacity = capacity.clamp(MIN_CAPACITY, MAX_CAPACITY);
    }

    pub(crate) fn close_reader(&self, machine: &dyn Machine) {
        let dropped = {
            let mut state = self.state.lock();
            state.has_reader = false;
            state.bytes = 0;
            core::mem::take(&mut state.messages)
        };
        drop(dropped);
        self.wake(machine);
    }

    pub(crate) fn close_writer(&self, machine: &dyn Machine) {
        self.state.lock().has_writer = false;
        self.wake(machine);
    }

    fn wake(&self, machine: &dyn Machine) {
        self.readable.wake_all(machine);
        self.writable.wake_all(machine);
    }
}
