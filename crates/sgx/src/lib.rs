// SPDX-License-Identifier: Apache-2.0
//! SGX architectural facts: structures, measurement stream, signing digest,
//! reports, keys and quotes. No I/O, no allocation beyond `alloc`, no `unsafe`.
#![no_std]
extern crate alloc;
