// SPDX-License-Identifier: Apache-2.0
//! A stream of bytes from writers to readers inside the enclave: pipes and
//! stream socket pairs.

use alloc::collections::VecDeque;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::{Lock, WaitQueue};
use crate::vfs::buffer::{Sink, Source};

/// Bytes a stream holds unless told otherwise (Linux: 16 pages).
pub(crate) const DEFAULT_CAPACITY: usize = 64 << 10;
/// Most bytes a stream may be told to hold (Linux: pipe-max-size).
pub(crate) const MAX_CAPACITY: usize = 1 << 20;
/// Writes up to this length are not torn (PIPE_BUF).
pub(crate) const ATOMIC: usize = 4096;

struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    readers: usize,
    writers: usize,
}

/// A stream of bytes.
pub(crate) struct Ring {
    state: Lock<State>,
    pub(crate) readable: WaitQueue,
    pub(crate) writable: WaitQueue,
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ring(..)")
    }
}

/// How a read treats the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadMode {
    pub(crate) nonblock: bool,
    pub(crate) peek: bool,
}

impl Ring {
    /// A stream with one reader and one writer.
    pub(crate) fn new() -> Self {
        Self {
            state: Lock::new(State {
                bytes: VecDeque::new(),
                capacity: DEFAULT_CAPACITY,
                readers: 1,
                writers: 1,
            }),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
        }
    }

    /// Reads what is there; 0 at the end of the stream.
    pub(crate) fn read(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        mode: ReadMode,
    ) -> Result<usize, Errno> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.read_now(to, mode.peek)? {
                if count > 0 && !mode.peek {
                    self.writable.wake_all(cx.machine);
                }
                return Ok(count);
            }
            if mode.nonblock {
                return Err(Errno::EAGAIN);
            }
            self.readable.wait_until(cx, None, || self.has_news())?;
        }
    }

    fn has_news(&self) -> bool {
        let state = self.state.lock();
        !state.bytes.is_empty() || state.writers == 0
    }

    fn read_now(&self, to: &mut Sink<'_>, peek: bool) -> Result<Option<usize>, Errno> {
        let mut state = self.state.lock();
        if state.bytes.is_empty() {
            return Ok((state.writers == 0).then_some(0));
        }
        let count = to.len().min(state.bytes.len());
        let (front, back) = state.bytes.as_slices();
        let front = front.get(..count.min(front.len())).unwrap_or_default();
        let back = back.get(..count - front.len()).unwrap_or_default();
        to.put(0, front)?;
        to.put(front.len(), back)?;
        if !peek {
            state.bytes.drain(..count);
            if state.bytes.is_empty() && state.bytes.capacity() > DEFAULT_CAPACITY {
                state.bytes.shrink_to(0);
            }
        }
        Ok(Some(count))
    }

    /// Writes everything, or as much as there is room for without blocking.
    ///
    /// # Errors
    /// `EPIPE` without a reader; the caller raises the signal.
    pub(crate) fn write(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        nonblock: bool,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < from.len() {
            let rest = from.part(done, usize::MAX);
            match self.write_now(rest) {
                Ok(0) => {}
                Ok(count) => {
                    done += count;
                    self.readable.wake_all(cx.machine);
                    continue;
                }
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
            if nonblock {
                return if done > 0 {
                    Ok(done)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let want = if from.len() <= ATOMIC { from.len() } else { 1 };
            let slept = self.writable.wait_until(cx, None, || {
                let state = self.state.lock();
                state.readers == 0 || state.capacity.saturating_sub(state.bytes.len()) >= want
            });
            match slept {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn write_now(&self, from: Source<'_>) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let room = state.capacity.saturating_sub(state.bytes.len());
        if room == 0 || from.len() <= ATOMIC && room < from.len() {
            return Ok(0);
        }
        let count = room.min(from.len());
        state.bytes.try_reserve(count).map_err(|_| Errno::ENOBUFS)?;
        let mut done = 0;
        let mut piece = [0; 1024];
        while done < count {
            let now = (count - done).min(piece.len());
            let piece = piece.get_mut(..now).unwrap_or_default();
            if let Err(errno) = from.take(done, piece) {
                return if done > 0 { Ok(done) } else { Err(errno) };
            }
            state.bytes.extend(piece.iter());
            done += now;
        }
        Ok(count)
    }

    /// Bytes waiting to be read.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().bytes.len()
    }

    /// Most bytes it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Changes the most bytes it holds.
    ///
    /// # Errors
    /// `EBUSY` if more are held already, `EPERM` above the limit.
    pub(crate) fn set_capacity(&self, capacity: usize) -> Result<usize, Errno> {
        if capacity > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        let capacity = capacity.max(ATOMIC).next_power_of_two();
        let mut state = self.state.lock();
        if state.bytes.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        Ok(capacity)
    }

    /// Whether reading would not block, and whether no writer is left.
    pub(crate) fn read_state(&self) -> (bool, bool) {
        let state = self.state.lock();
        (!state.bytes.is_empty(), state.writers == 0)
    }

    /// Whether writing would not block, and whether no reader is left.
    pub(crate) fn write_state(&self) -> (bool, bool) {
        let state = self.state.lock();
        let room = state.capacity.saturating_sub(state.bytes.len());
        (room >= ATOMIC, state.readers == 0)
    }

    /// One reader less; waiting bytes go with the last one.
    pub(crate) fn close_reader(&self, machine: &dyn Machine) {
        {
            let mut state = self.state.lock();
            state.readers = state.readers.saturating_sub(1);
            if state.readers == 0 {
                state.bytes = VecDeque::new();
            }
        }
        self.writable.wake_all(machine);
        self.readable.wake_all(machine);
    }

    /// One writer less.
    pub(crate) fn close_writer(&self, machine: &dyn Machine) {
        {
            let mut state = self.state.lock();
            state.writers = state.writers.saturating_sub(1);
        }
        self.readable.wake_all(machine);
        self.writable.wake_all(machine);
    }
}
