// SPDX-License-Identifier: Apache-2.0
//! The only room of the kernel with `unsafe`: entry and exit, the gate, the
//! copy layer, exceptions, the kernel's own memory, locks.
//!
//! Locks are built everywhere; the rest exists in the bootable image alone.
//!
//! | module | what |
//! |---|---|
//! | `entry` | every instruction between the host or a program and Rust |
//! | `thread` | the page behind GS |
//! | `gate` | ENCLU leaves |
//! | `area` | the copy layer: the one place that names host addresses (rule S17) |
//! | `copy` | copies that may fault |
//! | `user` | programs' memory |
//! | `exception` | what happens after an AEX, in two stages (rule S12) |
//! | `heap` | the kernel's own memory |
//! | `boot` | first entry |
#![allow(
    unsafe_code,
    reason = "this is the room for it; each block says why it is sound"
)]

pub mod lock;
pub mod once;

#[cfg(all(feature = "image", not(test)))]
mod area;
#[cfg(all(feature = "image", not(test)))]
mod boot;
#[cfg(all(feature = "image", not(test)))]
mod copy;
#[cfg(all(feature = "image", not(test)))]
mod enclave;
#[cfg(all(feature = "image", not(test)))]
mod entry;
#[cfg(all(feature = "image", not(test)))]
mod exception;
#[cfg(all(feature = "image", not(test)))]
mod gate;
#[cfg(all(feature = "image", not(test)))]
mod heap;
#[cfg(all(feature = "image", not(test)))]
mod intrinsics;
#[cfg(all(feature = "image", not(test)))]
mod pages;
#[cfg(all(feature = "image", not(test)))]
mod thread;
#[cfg(all(feature = "image", not(test)))]
mod user;
#[cfg(all(feature = "image", not(test)))]
mod vector;

/// Ends the enclave. The number says why; nothing else leaves.
#[cfg(all(feature = "image", not(test)))]
pub(crate) fn abort(reason: enclave_abi::entry::AbortReason) -> ! {
    // SAFETY: never returns and needs no state but the thread's page.
    unsafe { entry::machine_abort(reason as u64) }
}
