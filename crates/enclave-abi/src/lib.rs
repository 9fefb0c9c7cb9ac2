// SPDX-License-Identifier: Apache-2.0
//! Binary forms between kernel, host, agent and image builder.
//!
//! Layer 0: facts without I/O. Whoever changes a form raises its version here
//! first; golden files beside the tests hold each one still.
//!
//! | module | between | what |
//! |---|---|---|
//! | [`entry`] | host ↔ kernel | registers at EENTER and EEXIT, the gate |
//! | [`call`] | host ↔ kernel | the call area and the closed list of host calls |
//! | [`cpuid`] | kernel, host | the CPU that programs see |
//! | [`layout`] | builder, kernel | where everything lies inside ELRANGE |
//! | [`boot`] | builder → kernel | the measured page from which the kernel finds the rest |
//! | [`manifest`] | builder → kernel, host | the measured configuration of one image |
//! | [`startup`] | builder → kernel | files that may run before any key is known |
//! | [`image`] | builder → host | `enclave.img` |
//! | [`start`] | host → kernel → agent | the start block and the agent's control files |
//! | `las` | agent, host ↔ quoting service | JSON messages (feature `wire`) |
#![no_std]
extern crate alloc;

pub mod boot;
pub mod call;
pub mod codec;
pub mod cpuid;
pub mod entry;
pub mod image;
#[cfg(feature = "wire")]
pub mod las;
pub mod layout;
pub mod manifest;
pub mod start;
pub mod startup;
