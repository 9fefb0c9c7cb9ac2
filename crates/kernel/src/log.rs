// SPDX-License-Identifier: Apache-2.0
//! Lines for the host's log. DEBUG enclaves only: what a kernel notices about
//! its program is nobody else's business.

use alloc::string::String;
use core::fmt::Write as _;

use enclave_abi::call::Op;
use enclave_abi::start::LogLevel;

use crate::host::{Machine, Word};
use crate::process::start;

/// Longest line in bytes.
const LINE_MAX: usize = 512;

/// Whether lines of this level are wanted.
#[must_use]
pub fn wants(level: LogLevel) -> bool {
    start::facts().is_some_and(|facts| facts.debug && facts.block.log >= level)
}

/// Writes one line.
pub fn line(machine: &dyn Machine, level: LogLevel, text: core::fmt::Arguments<'_>) {
    if !wants(level) {
        return;
    }
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    let bytes = out.as_bytes();
    let bytes = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let _ = machine.host_call(Op::Log, &mut [Word::Value(level as u64), Word::In(bytes)]);
}
