// SPDX-License-Identifier: Apache-2.0
//! Taking turns over sections that may leave the enclave. [`crate::sync::Lock`]
//! spins and must not be held across a host call that can block.

use core::ops::{Deref, DerefMut};

use enclave_abi::call::Op;

use crate::context::Context;
use crate::host::{Machine, Word};
use crate::sync::{Guard, Lock, WaitQueue};

/// Nanoseconds between two looks of a thread that must not sleep.
const RETRY_NS: u64 = 50_000;

/// A value that one thread at a time works on, others asleep.
pub(crate) struct Turn<T> {
    value: Lock<Option<T>>,
    queue: WaitQueue,
}

impl<T> core::fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Turn(..)")
    }
}

impl<T: Default> Default for Turn<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Turn<T> {
    /// A value that nobody works on.
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: Lock::new(Some(value)),
            queue: WaitQueue::new(),
        }
    }

    /// Waits for the turn. Signals do not end the wait: turns are short.
    pub(crate) fn take(&self, cx: &Context<'_>) -> Taken<'_, T> {
        loop {
            if let Some(taken) = self.try_take(cx.machine) {
                return taken;
            }
            let waited = self
                .queue
                .wait_until(cx, None, || self.value.lock().is_some());
            if waited.is_err() {
                // A signal waits and nobody may sleep long: look again soon.
                let _ = cx.host(Op::Park, &mut [Word::Value(RETRY_NS)]);
            }
        }
    }

    fn try_take(&self, machine: &'static dyn Machine) -> Option<Taken<'_, T>> {
        let mut slot: Guard<'_, Option<T>> = self.value.lock();
        let value = slot.take()?;
        Some(Taken {
            turn: self,
            value: Some(value),
            machine,
        })
    }
}

/// The value, for as long as the turn lasts.
pub(crate) struct Taken<'a, T> {
    turn: &'a Turn<T>,
    value: Option<T>,
    machine: &'static dyn Machine,
}

impl<T> core::fmt::Debug for Taken<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Taken(..)")
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("present until dropped")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("present until dropped")
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        *self.turn.value.lock() = self.value.take();
        self.turn.queue.wake_one(self.machine);
    }
}
