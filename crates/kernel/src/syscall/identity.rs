// SPDX-License-Identifier: Apache-2.0
//! Who a program is: one user, number 0, and numbers of the kernel's making.

use super::number as nr;
use crate::context::Context;
use crate::errno::Errno;

/// Serves a call about identity; `None` if the number is none of them.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Option<Result<u64, Errno>> {
    let [a, b, c, ..] = args;
    let process = cx.process();
    Some(match number {
        nr::GETPID => Ok(process.pid.into()),
        nr::GETPPID => Ok(process.parent.into()),
        nr::GETTID => Ok(cx.task.tid.into()),
        nr::GETUID | nr::GETGID | nr::GETEUID | nr::GETEGID => Ok(0),
        nr::SETUID | nr::SETGID => only_root(&[a]),
        nr::SETREUID | nr::SETREGID => only_root(&[a, b]),
        nr::SETRESUID | nr::SETRESGID => only_root(&[a, b, c]),
        // These return the former number and change nothing they may not.
        nr::SETFSUID | nr::SETFSGID => Ok(0),
        nr::GETRESUID | nr::GETRESGID => three_zeroes(cx, [a, b, c]),
        nr::GETGROUPS => Ok(0),
        nr::SETGROUPS => Ok(0),
        nr::GETPGRP => Ok(process.pid.into()),
        nr::GETPGID | nr::GETSID => own(cx, a).map(|()| process.pid.into()),
        nr::SETPGID => own(cx, a).map(|()| 0),
        nr::CAPGET => capget(cx, a, b),
        nr::CAPSET => Err(Errno::EPERM),
        // Every process leads its own session already.
        nr::SETSID => Err(Errno::EPERM),
        _ => return None,
    })
}

/// -1 keeps a number, 0 is the only other one there is.
fn only_root(ids: &[u64]) -> Result<u64, Errno> {
    let fine = |id: &u64| matches!(*id as u32, 0 | u32::MAX);
    if ids.iter().all(fine) {
        Ok(0)
    } else {
        Err(Errno::EINVAL)
    }
}

/// capget: user 0 has no capability, for there is nothing that they could allow.
fn capget(cx: &Context<'_>, header: u64, data: u64) -> Result<u64, Errno> {
    const VERSION_1: u32 = 0x1998_0330;
    const VERSION_2: u32 = 0x2007_1026;
    const VERSION_3: u32 = 0x2008_0522;
    let words = match cx.read_u32(header)? {
        VERSION_1 => 3,
        VERSION_2 | VERSION_3 => 6,
        _ => {
            cx.write_u32(header, VERSION_3)?;
            return if data == 0 { Ok(0) } else { Err(Errno::EINVAL) };
        }
    };
    for word in 0..words {
        if data != 0 {
            cx.write_u32(data + word * 4, 0)?;
        }
    }
    Ok(0)
}

fn three_zeroes(cx: &Context<'_>, addrs: [u64; 3]) -> Result<u64, Errno> {
    for addr in addrs {
        cx.write_u32(addr, 0)?;
    }
    Ok(0)
}

fn own(cx: &Context<'_>, pid: u64) -> Result<(), Errno> {
    if pid == 0 || pid == u64::from(cx.process().pid) {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}
