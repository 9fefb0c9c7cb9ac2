// SPDX-License-Identifier: Apache-2.0
//! timerfd: expirations to wait for.

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::{Lock, WaitQueue};
use crate::vfs::buffer::Sink;
use crate::vfs::file::{Class, File};
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::stat::{FileType, Stat};

#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    /// Next expiration, in nanoseconds of CLOCK_MONOTONIC.
    next: Option<u64>,
    /// Nanoseconds between expirations; 0: only one.
    interval: u64,
}

/// A timer.
#[derive(Debug, Default)]
pub struct Timer {
    schedule: Lock<Schedule>,
    changed: WaitQueue,
    realtime: bool,
}

impl Schedule {
    /// Expirations up to `now`, which are then forgotten.
    fn take(&mut self, now: u64) -> u64 {
        let Some(next) = self.next.filter(|next| *next <= now) else {
            return 0;
        };
        if self.interval == 0 {
            self.next = None;
            return 1;
        }
        let more = (now - next) / self.interval;
        self.next = next.checked_add((more + 1).saturating_mul(self.interval));
        more + 1
    }
}

impl Timer {
    /// A timer that is not set; `realtime` says which clock absolute times mean.
    #[must_use]
    pub fn new(realtime: bool) -> Self {
        Self {
            realtime,
            ..Self::default()
        }
    }

    /// Sets the timer: nanoseconds to the first expiration (0: unset it) and
    /// between later ones. Gives what was set before, in the same form.
    pub fn set(
        &self,
        cx: &Context<'_>,
        value: u64,
        interval: u64,
        is_absolute: bool,
    ) -> (u64, u64) {
        let now = cx.now();
        let next = if value == 0 {
            None
        } else if !is_absolute {
            Some(now.saturating_add(value))
        } else if self.realtime {
            let wall = crate::vfs::clock::realtime(cx.machine);
            let wall = (wall.seconds as u64)
                .saturating_mul(1_000_000_000)
                .saturating_add(wall.nanos.into());
            Some(now.saturating_add(value.saturating_sub(wall)))
        } else {
            Some(value)
        };
        let old = {
            let mut schedule = self.schedule.lock();
            core::mem::replace(&mut *schedule, Schedule { next, interval })
        };
        self.changed.wake_all(cx.machine);
        remaining(old, now)
    }

    /// Nanoseconds to the next expiration (0: unset) and between later ones.
    pub fn get(&self, cx: &Context<'_>) -> (u64, u64) {
        let now = cx.now();
        let mut schedule = *self.schedule.lock();
        if schedule.interval > 0 {
            schedule.take(now);
        }
        remaining(schedule, now)
    }
}

fn remaining(schedule: Schedule, now: u64) -> (u64, u64) {
    let left = schedule.next.map_or(0, |next| {
        // An expired timer that nobody has read yet is not unset.
        next.saturating_sub(now).max(1)
    });
    (left, schedule.interval)
}

impl File for Timer {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Anonymous, 0o600, 1))
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        if to.len() < 8 {
            return Err(Errno::EINVAL);
        }
        loop {
            let (count, next) = {
                let now = cx.now();
                let mut schedule = self.schedule.lock();
                (schedule.take(now), schedule.next)
            };
            if count > 0 {
                to.put(0, &count.to_le_bytes())?;
                return Ok(8);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let slept = self
                .changed
                .wait_until(cx, next, || self.schedule.lock().next != next);
            match slept {
                Ok(()) | Err(Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn readiness(&self, cx: &Context<'_>) -> Readiness<'_> {
        let next = self.schedule.lock().next;
        let mut now = Events::empty();
        let is_due = next.is_some_and(|next| next <= cx.now());
        now.set(Events::READ, is_due);
        Readiness::Inside(Inside {
            now,
            queues: [Some(&self.changed), None],
            at: next.filter(|_| !is_due),
        })
    }

    fn class(&self) -> Class<'_> {
        Class::Timer(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_counted_and_forgotten() {
        let mut schedule = Schedule {
            next: Some(100),
            interval: 10,
        };
        assert_eq!(schedule.take(99), 0);
        assert_eq!(schedule.take(100), 1);
        assert_eq!(schedule.take(135), 3);
        assert_eq!(schedule.next, Some(140));
        let mut once = Schedule {
            next: Some(5),
            interval: 0,
        };
        assert_eq!(once.take(1000), 1);
        assert_eq!(once.next, None);
        assert_eq!(once.take(1000), 0);
    }

    #[test]
    fn an_unread_expiration_does_not_look_unset() {
        let schedule = Schedule {
            next: Some(5),
            interval: 0,
        };
        assert_eq!(remaining(schedule, 50), (1, 0));
    }
}
