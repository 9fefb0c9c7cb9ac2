// SPDX-License-Identifier: Apache-2.0
//! Clocks, sleeping, interval timers, resource use.

use enclave_abi::call::Op;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Word;
use crate::process::time::{CLOCK_MONOTONIC, clock};
use crate::sync::Waiter;

const NANOS: u64 = 1_000_000_000;
const TIMER_ABSTIME: u64 = 1;
/// Coarsest clock id: CLOCK_TAI.
const CLOCK_LAST: u64 = 11;

/// Reads a `struct timespec` as nanoseconds.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn read_timespec(cx: &Context<'_>, addr: u64) -> Result<u64, Errno> {
    let seconds = cx.read_u64(addr)?;
    let nanos = cx.read_u64(addr + 8)?;
    if nanos >= NANOS || seconds.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NANOS).saturating_add(nanos))
}

fn write_pair(cx: &Context<'_>, addr: u64, first: u64, second: u64) -> Result<(), Errno> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    cx.write(addr, &bytes)
}

/// clock_gettime.
///
/// # Errors
/// As in Linux.
pub fn clock_gettime(cx: &Context<'_>, id: u64, out: u64) -> Result<u64, Errno> {
    let now = clock(cx.machine, id)?;
    write_pair(cx, out, now / NANOS, now % NANOS)?;
    Ok(0)
}

/// clock_getres.
///
/// # Errors
/// As in Linux.
pub fn clock_getres(cx: &Context<'_>, id: u64, out: u64) -> Result<u64, Errno> {
    if id > CLOCK_LAST {
        return Err(Errno::EINVAL);
    }
    if out != 0 {
        let coarse = matches!(id, 5 | 6);
        write_pair(cx, out, 0, if coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

/// Sleeps until CLOCK_MONOTONIC reaches `deadline`.
fn sleep_until(cx: &Context<'_>, deadline: u64) -> Result<(), Errno> {
    match Waiter::new(cx).park(cx, Some(deadline)) {
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// nanosleep.
///
/// # Errors
/// As in Linux.
pub fn nanosleep(cx: &Context<'_>, wanted: u64, rest: u64) -> Result<u64, Errno> {
    clock_nanosleep(cx, CLOCK_MONOTONIC, 0, wanted, rest)
}

/// clock_nanosleep.
///
/// # Errors
/// As in Linux.
pub fn clock_nanosleep(
    cx: &Context<'_>,
    id: u64,
    flags: u64,
    wanted: u64,
    rest: u64,
) -> Result<u64, Errno> {
    let time = read_timespec(cx, wanted)?;
    let now = cx.now();
    let deadline = if flags & TIMER_ABSTIME == 0 {
        now.saturating_add(time)
    } else {
        now.saturating_add(time.saturating_sub(clock(cx.machine, id)?))
    };
    match sleep_until(cx, deadline) {
        Ok(()) => Ok(0),
        Err(errno) => {
            if rest != 0 && flags & TIMER_ABSTIME == 0 {
                let left = deadline.saturating_sub(cx.now());
                write_pair(cx, rest, left / NANOS, left % NANOS)?;
            }
            Err(errno)
        }
    }
}

/// gettimeofday.
///
/// # Errors
/// As in Linux.
pub fn gettimeofday(cx: &Context<'_>, out: u64, zone: u64) -> Result<u64, Errno> {
    if out != 0 {
        let now = clock(cx.machine, 0)?;
        write_pair(cx, out, now / NANOS, now % NANOS / 1000)?;
    }
    if zone != 0 {
        cx.write_u64(zone, 0)?;
    }
    Ok(0)
}

/// time.
///
/// # Errors
/// As in Linux.
pub fn time(cx: &Context<'_>, out: u64) -> Result<u64, Errno> {
    let now = clock(cx.machine, 0)? / NANOS;
    if out != 0 {
        cx.write_u64(out, now)?;
    }
    Ok(now)
}

/// ITIMER_REAL as the program last set it: interval, and CLOCK_MONOTONIC of expiry.
fn left(cx: &Context<'_>) -> (u64, u64) {
    let timer = *cx.process().timer.lock();
    let now = cx.now();
    if timer.next == 0 {
        return (timer.interval, 0);
    }
    if timer.next > now {
        return (timer.interval, timer.next - now);
    }
    match timer.interval {
        0 => (0, 0),
        interval => (interval, interval - (now - timer.next) % interval),
    }
}

fn arm(cx: &Context<'_>, interval: u64, value: u64) -> Result<(), Errno> {
    cx.host(
        Op::SetTimer,
        &mut [Word::Value(interval), Word::Value(value)],
    )?;
    let next = if value == 0 {
        0
    } else {
        cx.now().saturating_add(value)
    };
    *cx.process().timer.lock() = crate::process::Timer { interval, next };
    Ok(())
}

fn write_itimer(cx: &Context<'_>, addr: u64, (interval, value): (u64, u64)) -> Result<(), Errno> {
    let micros = |ns: u64| (ns / NANOS, (ns % NANOS).div_ceil(1000).min(999_999));
    let (a, b) = micros(interval);
    write_pair(cx, addr, a, b)?;
    let (a, b) = micros(value);
    write_pair(cx, addr + 16, a, b)
}

fn read_timeval(cx: &Context<'_>, addr: u64) -> Result<u64, Errno> {
    let seconds = cx.read_u64(addr)?;
    let micros = cx.read_u64(addr + 8)?;
    if micros >= 1_000_000 || seconds.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NANOS).saturating_add(micros * 1000))
}

/// setitimer, ITIMER_REAL only.
///
/// # Errors
/// As in Linux; `EINVAL` for the CPU-time timers.
pub fn setitimer(cx: &Context<'_>, which: u64, new: u64, old: u64) -> Result<u64, Errno> {
    if which != 0 {
        return Err(Errno::EINVAL);
    }
    let before = left(cx);
    if new != 0 {
        arm(cx, read_timeval(cx, new)?, read_timeval(cx, new + 16)?)?;
    }
    if old != 0 {
        write_itimer(cx, old, before)?;
    }
    Ok(0)
}

/// getitimer, ITIMER_REAL only.
///
/// # Errors
/// As in Linux; `EINVAL` for the CPU-time timers.
pub fn getitimer(cx: &Context<'_>, which: u64, out: u64) -> Result<u64, Errno> {
    if which != 0 {
        return Err(Errno::EINVAL);
    }
    write_itimer(cx, out, left(cx))?;
    Ok(0)
}

/// alarm.
///
/// # Errors
/// None.
pub fn alarm(cx: &Context<'_>, seconds: u64) -> Result<u64, Errno> {
    let (_, before) = left(cx);
    arm(cx, 0, u64::from(seconds as u32) * NANOS)?;
    Ok(before.div_ceil(NANOS))
}

fn usage(cx: &Context<'_>, who: u64) -> Result<[u8; 144], Errno> {
    let mut out = [0; 144];
    cx.host(Op::Getrusage, &mut [Word::Out(&mut out), Word::Value(who)])?;
    Ok(out)
}

/// getrusage: the host's claims, which is what CPU times are.
///
/// # Errors
/// As in Linux.
pub fn getrusage(cx: &Context<'_>, who: u64, out: u64) -> Result<u64, Errno> {
    let bytes = match who as i32 {
        0 | 1 => usage(cx, who)?,
        -1 => [0; 144],
        _ => return Err(Errno::EINVAL),
    };
    cx.write(out, &bytes)?;
    Ok(0)
}

/// times: hundredths of seconds.
///
/// # Errors
/// As in Linux.
pub fn times(cx: &Context<'_>, out: u64) -> Result<u64, Errno> {
    if out != 0 {
        let bytes = usage(cx, 0)?;
        let ticks = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            let seconds = u64::from_le_bytes(word);
            word.copy_from_slice(&bytes[at + 8..at + 16]);
            seconds
                .wrapping_mul(100)
                .wrapping_add(u64::from_le_bytes(word) / 10_000)
        };
        write_pair(cx, out, ticks(0), ticks(16))?;
        write_pair(cx, out + 16, 0, 0)?;
    }
    Ok(cx.now() / 10_000_000)
}
