// SPDX-License-Identifier: Apache-2.0
//! eventfd: a counter to wait for.

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::{Lock, WaitQueue};
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::stat::{FileType, Stat};

/// Largest value of the counter (eventfd(2)).
const MAX: u64 = u64::MAX - 1;

/// A counter.
#[derive(Debug)]
pub struct EventCounter {
    value: Lock<u64>,
    is_semaphore: bool,
    changed: WaitQueue,
}

impl EventCounter {
    /// A counter; a semaphore gives its value one by one.
    #[must_use]
    pub fn new(value: u32, is_semaphore: bool) -> Self {
        Self {
            value: Lock::new(value.into()),
            is_semaphore,
            changed: WaitQueue::new(),
        }
    }

    fn take(&self) -> Option<u64> {
        let mut value = self.value.lock();
        if *value == 0 {
            return None;
        }
        let taken = if self.is_semaphore { 1 } else { *value };
        *value -= taken;
        Some(taken)
    }

    fn add(&self, more: u64) -> bool {
        let mut value = self.value.lock();
        match value.checked_add(more).filter(|sum| *sum <= MAX) {
            Some(sum) => {
                *value = sum;
                true
            }
            None => false,
        }
    }
}

impl File for EventCounter {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Anonymous, 0o600, 1))
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        if to.len() < 8 {
            return Err(Errno::EINVAL);
        }
        loop {
            if let Some(taken) = self.take() {
                self.changed.wake_all(cx.machine);
                to.put(0, &taken.to_le_bytes())?;
                return Ok(8);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            self.changed
                .wait_until(cx, None, || *self.value.lock() > 0)?;
        }
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, nonblock: bool) -> Result<usize, Errno> {
        let mut bytes = [0; 8];
        if from.len() < 8 {
            return Err(Errno::EINVAL);
        }
        from.take(0, &mut bytes)?;
        let more = u64::from_le_bytes(bytes);
        if more > MAX {
            return Err(Errno::EINVAL);
        }
        loop {
            if self.add(more) {
                self.changed.wake_all(cx.machine);
                return Ok(8);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            self.changed
                .wait_until(cx, None, || *self.value.lock() <= MAX - more)?;
        }
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        let value = *self.value.lock();
        let mut now = Events::empty();
        now.set(Events::READ, value > 0);
        now.set(Events::WRITE, value < MAX);
        Readiness::Inside(Inside {
            now,
            queues: [Some(&self.changed), None],
            at: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::testing::Bench;

    fn read(bench: &Bench, counter: &EventCounter) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        counter.read(&bench.cx(), &mut Sink::Kernel(&mut bytes), true)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(bench: &Bench, counter: &EventCounter, value: u64) -> Result<usize, Errno> {
        counter.write(&bench.cx(), Source::Kernel(&value.to_le_bytes()), true)
    }

    #[test]
    fn a_counter_gives_everything_at_once() {
        let bench = Bench::new();
        let counter = EventCounter::new(2, false);
        write(&bench, &counter, 3).unwrap();
        assert_eq!(read(&bench, &counter), Ok(5));
        assert_eq!(read(&bench, &counter), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_semaphore_gives_one_at_a_time() {
        let bench = Bench::new();
        let counter = EventCounter::new(2, true);
        assert_eq!(read(&bench, &counter), Ok(1));
        assert_eq!(read(&bench, &counter), Ok(1));
        assert_eq!(read(&bench, &counter), Err(Errno::EAGAIN));
    }

    #[test]
    fn the_counter_never_overflows() {
        let bench = Bench::new();
        let counter = EventCounter::new(0, false);
        assert_eq!(write(&bench, &counter, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(write(&bench, &counter, MAX), Ok(8));
        assert_eq!(write(&bench, &counter, 1), Err(Errno::EAGAIN));
    }
}
