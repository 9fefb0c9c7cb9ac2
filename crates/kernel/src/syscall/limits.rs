// SPDX-License-Identifier: Apache-2.0
//! Resource limits. They describe; the manifest decides.

use crate::context::Context;
use crate::errno::Errno;

const INFINITY: u64 = u64::MAX;
const STACK: u32 = 3;
const CORE: u32 = 4;
const NPROC: u32 = 6;
const NOFILE: u32 = 7;
const LAST: u32 = 15;

fn default(cx: &Context<'_>, which: u32) -> (u64, u64) {
    let facts = crate::process::start::facts();
    match which {
        STACK => (
            facts.map_or(8 << 20, |facts| facts.manifest.stack),
            INFINITY,
        ),
        CORE => (0, 0),
        NPROC => {
            let threads = facts.map_or(1, |facts| u64::from(facts.manifest.threads));
            (threads, threads)
        }
        NOFILE => {
            let limit = cx.process().files.table().lock().limit();
            (limit, limit.max(1 << 20))
        }
        _ => (INFINITY, INFINITY),
    }
}

fn current(cx: &Context<'_>, which: u32) -> (u64, u64) {
    let set = cx.process().limits.lock().get(&which).copied();
    set.unwrap_or_else(|| default(cx, which))
}

fn number(which: u64) -> Result<u32, Errno> {
    u32::try_from(which)
        .ok()
        .filter(|&which| which <= LAST)
        .ok_or(Errno::EINVAL)
}

fn set(cx: &Context<'_>, which: u32, addr: u64) -> Result<(), Errno> {
    let wanted = (cx.read_u64(addr)?, cx.read_u64(addr + 8)?);
    let (_, hard) = current(cx, which);
    if wanted.0 > wanted.1 {
        return Err(Errno::EINVAL);
    }
    if wanted.1 > hard {
        return Err(Errno::EPERM);
    }
    if which == NOFILE {
        cx.process().files.table().lock().set_limit(wanted.0);
    }
    cx.process().limits.lock().insert(which, wanted);
    Ok(())
}

fn get(cx: &Context<'_>, which: u32, addr: u64) -> Result<(), Errno> {
    let (soft, hard) = current(cx, which);
    cx.write_u64(addr, soft)?;
    cx.write_u64(addr + 8, hard)
}

/// prlimit64 of the calling process.
///
/// # Errors
/// As in Linux; `ESRCH` for other processes.
pub fn prlimit64(cx: &Context<'_>, pid: u64, which: u64, new: u64, old: u64) -> Result<u64, Errno> {
    if pid != 0 && pid != u64::from(cx.process().pid) {
        return Err(Errno::ESRCH);
    }
    let which = number(which)?;
    let before = current(cx, which);
    if new != 0 {
        set(cx, which, new)?;
    }
    if old != 0 {
        cx.write_u64(old, before.0)?;
        cx.write_u64(old + 8, before.1)?;
    }
    Ok(0)
}

/// getrlimit.
///
/// # Errors
/// As in Linux.
pub fn getrlimit(cx: &Context<'_>, which: u64, out: u64) -> Result<u64, Errno> {
    get(cx, number(which)?, out)?;
    Ok(0)
}

/// setrlimit.
///
/// # Errors
/// As in Linux.
pub fn setrlimit(cx: &Context<'_>, which: u64, new: u64) -> Result<u64, Errno> {
    set(cx, number(which)?, new)?;
    Ok(0)
}
