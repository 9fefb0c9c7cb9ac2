// SPDX-License-Identifier: Apache-2.0
//! The only room of the kernel with `unsafe`: entry and exit, the gate, the
//! copy layer, exceptions, the kernel's own memory, locks.
//!
//! Locks are built everywhere; the rest exists in the bootable image alone.
#![allow(
    unsafe_code,
    reason = "this is the room for it; each block says why it is sound"
)]

pub mod lock;
