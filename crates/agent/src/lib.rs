// SPDX-License-Identifier: Apache-2.0
//! The agent: process 1 of an enclave that starts nothing without a verified
//! configuration.
//!
//! It reads what the host claims ([`enclave_abi::start::StartBlock`]) and what
//! is measured ([`enclave_abi::manifest::Manifest`]), attests to the CAS over
//! the attested channel, hands keys, files and arguments to the kernel, starts
//! the program and stays: at the end it tells the CAS how the program ended.
//!
//! * [`run`]: the whole story, in order.
//! * [`control`]: the kernel's side, as files.
//! * [`address`]: where the CAS is.
//! * [`evidence`]: REPORT, quote, collateral; and the check that this enclave
//!   was created for the CAS it talks to (S1).
//! * [`program`]: from configuration to arguments, with host placeholders.

pub mod address;
pub mod control;
pub mod evidence;
pub mod program;
pub mod run;
