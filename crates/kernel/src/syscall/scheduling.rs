// SPDX-License-Identifier: Apache-2.0
//! Scheduling: the host does as it likes, so these calls describe one policy.

use super::number as nr;
use crate::context::Context;
use crate::errno::Errno;

/// Serves a scheduling call; `None` if the number is none of them.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Option<Result<u64, Errno>> {
    let [_, b, c, ..] = args;
    Some(match number {
        nr::SCHED_YIELD => yield_now(cx),
        nr::SCHED_GETAFFINITY => affinity(cx, b, c),
        nr::SCHED_SETAFFINITY => Ok(0),
        nr::SCHED_GETSCHEDULER => Ok(0),
        nr::SCHED_SETSCHEDULER | nr::SCHED_SETPARAM => other_only(cx, number, args),
        nr::SCHED_GETPARAM => cx.write_u32(b, 0).map(|()| 0),
        nr::SCHED_GET_PRIORITY_MAX | nr::SCHED_GET_PRIORITY_MIN => priority_bound(number, args[0]),
        // The system call counts from 20 - nice.
        nr::GETPRIORITY => Ok(20),
        nr::SETPRIORITY => Ok(0),
        _ => return None,
    })
}

/// A short park is the only way to let the host run something else.
fn yield_now(cx: &Context<'_>) -> Result<u64, Errno> {
    let _ = cx.host(
        enclave_abi::call::Op::Park,
        &mut [crate::host::Word::Value(0)],
    );
    Ok(0)
}

/// As many processors as the image has threads, but no more than a mask of one
/// word: programs size their pools by it.
fn affinity(cx: &Context<'_>, len: u64, out: u64) -> Result<u64, Errno> {
    if len < 8 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    cx.write_u64(out, (1_u64 << processors()) - 1)?;
    Ok(8)
}

/// Processors that programs see.
#[must_use]
pub fn processors() -> u32 {
    crate::process::start::facts().map_or(1, |facts| facts.manifest.threads.clamp(1, 4))
}

/// SCHED_OTHER with priority 0 is all there is.
fn other_only(cx: &Context<'_>, number: u64, [_, b, c, ..]: [u64; 6]) -> Result<u64, Errno> {
    let (policy, param) = if number == nr::SCHED_SETPARAM {
        (0, b)
    } else {
        (b, c)
    };
    match (policy, cx.read_u32(param)?) {
        (0 | 3 | 5, 0) => Ok(0),
        (1 | 2, _) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn priority_bound(number: u64, policy: u64) -> Result<u64, Errno> {
    match policy {
        0 | 3 | 5 => Ok(0),
        1 | 2 => Ok(if number == nr::SCHED_GET_PRIORITY_MAX {
            99
        } else {
            1
        }),
        _ => Err(Errno::EINVAL),
    }
}
