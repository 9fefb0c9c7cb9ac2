// SPDX-License-Identifier: Apache-2.0
//! Clocks, the interval timer, resource usage.

use enclave_abi::call::Op;

use super::Answer;
use crate::area::CallArea;

/// Clocks that may be asked for.
const CLOCKS: [i32; 8] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_PROCESS_CPUTIME_ID,
    libc::CLOCK_THREAD_CPUTIME_ID,
    libc::CLOCK_MONOTONIC_RAW,
    libc::CLOCK_REALTIME_COARSE,
    libc::CLOCK_MONOTONIC_COARSE,
    libc::CLOCK_BOOTTIME,
];

pub(super) fn serve(op: Op, area: &mut CallArea) -> Answer {
    match op {
        Op::ClockGettime => clock(area),
        Op::SetTimer => timer(area.word(0), area.word(1)),
        _ => usage(area),
    }
}

fn clock(area: &mut CallArea) -> Answer {
    let id = area.word(0) as i32;
    if !CLOCKS.contains(&id) {
        return Err(libc::EINVAL);
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for the call.
    if unsafe { libc::clock_gettime(id, &raw mut time) } != 0 {
        return Err(libc::EINVAL);
    }
    let out = area
        .output(1)?
        .first_chunk_mut::<16>()
        .ok_or(libc::EFAULT)?;
    out[..8].copy_from_slice(&time.tv_sec.to_le_bytes());
    out[8..].copy_from_slice(&time.tv_nsec.to_le_bytes());
    Ok(0)
}

fn timer(interval_ns: u64, value_ns: u64) -> Answer {
    let part = |ns: u64| libc::timeval {
        tv_sec: (ns / 1_000_000_000) as i64,
        // Rounded up: a timer of a few nanoseconds must not become none.
        tv_usec: (ns % 1_000_000_000).div_ceil(1000).min(999_999) as i64,
    };
    let timer = libc::itimerval {
        it_interval: part(interval_ns),
        it_value: part(value_ns),
    };
    // SAFETY: the pointer is valid for the call; the old value is not wanted.
    match unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) } {
        0 => Ok(0),
        _ => Err(libc::EINVAL),
    }
}

fn usage(area: &mut CallArea) -> Answer {
    let who = area.word(0) as i32;
    let out = area.output(1)?;
    if out.len() < size_of::<libc::rusage>() {
        return Err(libc::EFAULT);
    }
    // SAFETY: the room is as large as the structure, which has no alignment that
    // Linux would insist on.
    match unsafe { libc::getrusage(who, out.as_mut_ptr().cast()) } {
        0 => Ok(0),
        _ => Err(libc::EINVAL),
    }
}
