// SPDX-License-Identifier: Apache-2.0
//! Wait queues. All state lives inside; the host only carries wake tokens, so
//! a lost or invented token costs time, never order.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::call::Op;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{Machine, Word};
use crate::sync::Lock;

/// Something a queue can wake: a parked thread, or a thread in a host call that
/// a host eventfd ends.
pub trait Wake: Send + Sync {
    /// Wakes it. Must be harmless when it is awake already.
    fn wake(&self, machine: &dyn Machine);
}

/// One thread's readiness to be woken; it may be registered in many queues.
#[derive(Debug)]
pub struct Waiter {
    thread: u32,
    woken: AtomicBool,
}

impl Wake for Waiter {
    fn wake(&self, machine: &dyn Machine) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // The token may be lost or late by the host's will; nothing to do about it.
            let _ = machine.host_call(Op::Unpark, &mut [Word::Value(self.thread.into())]);
        }
    }
}

impl Waiter {
    /// A waiter for the calling thread.
    #[must_use]
    pub fn new(cx: &Context<'_>) -> Arc<Self> {
        Arc::new(Self {
            thread: cx.task.thread(),
            woken: AtomicBool::new(false),
        })
    }

    /// Whether somebody has woken it since [`Self::rearm`].
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Makes the waiter ready for another wake.
    pub fn rearm(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Sleeps until woken. `deadline` is CLOCK_MONOTONIC in nanoseconds.
    ///
    /// # Errors
    /// `EINTR` if a signal is to be delivered, `ETIMEDOUT` after the deadline.
    pub fn park(&self, cx: &Context<'_>, deadline: Option<u64>) -> Result<(), Errno> {
        loop {
            if self.is_woken() {
                return Ok(());
            }
            if cx.interrupted() {
                return Err(Errno::EINTR);
            }
            let timeout = match deadline {
                None => u64::MAX,
                Some(deadline) => match deadline.checked_sub(cx.now()) {
                    None | Some(0) => return Err(Errno::ETIMEDOUT),
                    Some(left) => left,
                },
            };
            // Nothing that could consume the token may stand between the checks
            // above and this call. Whatever the host answers, look again.
            let _ = cx.host(Op::Park, &mut [Word::Value(timeout)]);
        }
    }
}

/// Threads waiting for one condition, first come first served.
#[derive(Default)]
pub struct WaitQueue {
    waiters: Lock<Vec<Arc<dyn Wake>>>,
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WaitQueue(..)")
    }
}

fn same(a: &Arc<dyn Wake>, b: &Arc<dyn Wake>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiters: Lock::new(Vec::new()),
        }
    }

    /// Adds a waiter. Register first, then look at the condition, then park.
    pub fn register(&self, waiter: Arc<dyn Wake>) {
        self.waiters.lock().push(waiter);
    }

    /// Removes a waiter; false if a wake has removed it before.
    pub fn unregister(&self, waiter: &Arc<dyn Wake>) -> bool {
        let mut waiters = self.waiters.lock();
        let before = waiters.len();
        waiters.retain(|other| !same(other, waiter));
        waiters.len() != before
    }

    /// Sleeps until `condition` holds, looking again after each wake.
    /// `deadline` is CLOCK_MONOTONIC in nanoseconds ([`Context::now`]).
    ///
    /// # Errors
    /// `EINTR` if a signal is to be delivered, `ETIMEDOUT` after the deadline.
    pub fn wait_until(
        &self,
        cx: &Context<'_>,
        deadline: Option<u64>,
        mut condition: impl FnMut() -> bool,
    ) -> Result<(), Errno> {
        if condition() {
            return Ok(());
        }
        let waiter = Waiter::new(cx);
        let token: Arc<dyn Wake> = Arc::clone(&waiter) as Arc<dyn Wake>;
        loop {
            waiter.rearm();
            self.register(Arc::clone(&token));
            if condition() {
                self.retire(cx.machine, &token);
                return Ok(());
            }
            let slept = waiter.park(cx, deadline);
            if condition() {
                self.unregister(&token);
                return Ok(());
            }
            if let Err(errno) = slept {
                self.retire(cx.machine, &token);
                return Err(errno);
            }
        }
    }

    /// Leaves the queue; a wake that had chosen this waiter goes to the next.
    fn retire(&self, machine: &dyn Machine, token: &Arc<dyn Wake>) {
        if !self.unregister(token) {
            self.wake_one(machine);
        }
    }

    /// Wakes the first waiter; whether there was one.
    pub fn wake_one(&self, machine: &dyn Machine) -> bool {
        let first = {
            let mut waiters = self.waiters.lock();
            if waiters.is_empty() {
                None
            } else {
                Some(waiters.remove(0))
            }
        };
        first.is_some_and(|waiter| {
            waiter.wake(machine);
            true
        })
    }

    /// Wakes everybody; how many there were.
    pub fn wake_all(&self, machine: &dyn Machine) -> usize {
        let all = core::mem::take(&mut *self.waiters.lock());
        for waiter in &all {
            waiter.wake(machine);
        }
        all.len()
    }

    /// Whether anybody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.lock().is_empty()
    }
}
