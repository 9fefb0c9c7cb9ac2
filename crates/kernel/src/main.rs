// SPDX-License-Identifier: Apache-2.0
//! The bootable image: everything is in the library, the entry point in
//! `machine/entry.rs`.
#![no_std]
#![no_main]

use kernel as _;
