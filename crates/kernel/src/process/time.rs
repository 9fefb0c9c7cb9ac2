// SPDX-License-Identifier: Apache-2.0
//! Clocks. The host tells the time; the kernel keeps it from going back.

use core::sync::atomic::{AtomicU64, Ordering};

use enclave_abi::call::Op;

use crate::errno::Errno;
use crate::host::{Machine, Word};

/// CLOCK_MONOTONIC.
pub const CLOCK_MONOTONIC: u64 = 1;

static FLOOR: AtomicU64 = AtomicU64::new(0);

/// Reads a host clock in nanoseconds, without any protection.
///
/// # Errors
/// The host's errno, `EIO` for a meaningless time.
pub fn host_clock(machine: &dyn Machine, clock: u64) -> Result<u64, Errno> {
    let mut out = [0; 16];
    machine.host_call(
        Op::ClockGettime,
        &mut [Word::Value(clock), Word::Out(&mut out)],
    )?;
    let [seconds, nanos] = [0, 8].map(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&out[at..at + 8]);
        u64::from_le_bytes(word)
    });
    if nanos >= 1_000_000_000 {
        return Err(Errno::EIO);
    }
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos))
        .ok_or(Errno::EIO)
}

/// CLOCK_MONOTONIC in nanoseconds. A host that tells an earlier time than
/// before, or none, is answered with the latest time known (rule S14).
pub fn monotonic(machine: &dyn Machine) -> u64 {
    let told = host_clock(machine, CLOCK_MONOTONIC).unwrap_or(0);
    FLOOR.fetch_max(told, Ordering::AcqRel).max(told)
}

/// A clock in nanoseconds, as clock_gettime numbers them.
///
/// # Errors
/// `EINVAL` for clocks that do not exist here; the host's errno.
pub fn clock(machine: &dyn Machine, id: u64) -> Result<u64, Errno> {
    match id {
        // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME: one clock that never goes back.
        1 | 4 | 6 | 7 => Ok(monotonic(machine)),
        0 | 5 | 11 => host_clock(machine, 0),
        2 | 3 => host_clock(machine, id),
        // A thread's or process's CPU clock (negative numbers): this thread's, this process's.
        id if (id as i32) < 0 => host_clock(machine, if id & 4 == 0 { 2 } else { 3 }),
        _ => Err(Errno::EINVAL),
    }
}
