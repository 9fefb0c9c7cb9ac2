// SPDX-License-Identifier: Apache-2.0
//! Wall-clock time as files show it: the host's claim.

use crate::host::Machine;
use crate::process::time::host_clock;
use crate::vfs::file::NewTime;
use crate::vfs::stat::Time;

const CLOCK_REALTIME: u64 = 0;

/// CLOCK_REALTIME; 1970 if the host tells none.
#[must_use]
pub fn realtime(machine: &dyn Machine) -> Time {
    let ns = host_clock(machine, CLOCK_REALTIME).unwrap_or(0);
    Time {
        seconds: (ns / 1_000_000_000) as i64,
        nanos: (ns % 1_000_000_000) as u32,
    }
}

/// The time that a request leads to.
#[must_use]
pub fn choose(asked: NewTime, old: Time, now: Time) -> Time {
    match asked {
        NewTime::Omit => old,
        NewTime::Now => now,
        NewTime::At(time) => time,
    }
}
