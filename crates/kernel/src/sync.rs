// SPDX-License-Identifier: Apache-2.0
//! Waiting for one another: locks, wait queues, futexes.

pub mod futex;
pub mod wait;

pub use crate::machine::lock::{Guard, Lock};
pub use wait::{WaitQueue, Waiter, Wake};
