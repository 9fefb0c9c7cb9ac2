// SPDX-License-Identifier: Apache-2.0
//! Parking for tests: every wake wakes everybody, which callers must bear anyway.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Parking {
    tokens: Mutex<u64>,
    given: Condvar,
}

impl Parking {
    pub(super) fn park(&self, timeout_ns: u64) {
        let tokens = self.tokens.lock().unwrap();
        // Short sleeps make up for tokens that another thread consumed.
        let limit = Duration::from_nanos(timeout_ns.min(5_000_000));
        drop(self.given.wait_timeout(tokens, limit).unwrap());
    }

    pub(super) fn unpark(&self) {
        *self.tokens.lock().unwrap() += 1;
        self.given.notify_all();
    }
}
