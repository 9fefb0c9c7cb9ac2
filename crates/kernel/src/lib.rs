// SPDX-License-Identifier: Apache-2.0
//! The in-enclave kernel: memory, processes, threads, signals, system calls,
//! files and sockets.
//!
//! Everything here but [`machine`] is free of `unsafe`, builds on any host and
//! is unit-tested there against the [`host::Machine`] trait; the bootable image
//! (feature `image`) supplies the machine that really leaves the enclave.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod context;
pub mod errno;
pub mod host;
pub mod log;
pub mod machine;
pub mod memory;
pub mod net;
pub mod process;
pub mod signal;
pub mod sync;
pub mod syscall;
pub mod vfs;

pub use context::Context;
