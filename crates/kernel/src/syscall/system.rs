// SPDX-License-Identifier: Apache-2.0
//! What the system says about itself, and small services.

use crate::context::Context;
use crate::errno::Errno;
use crate::memory;

/// `struct utsname`: six fields.
const UTS_FIELD: usize = 65;
/// What programs read; the host's kernel is the host's business.
const UTS: [&[u8]; 6] = [
    b"Linux",
    b"enclave",
    b"6.1.0-ensconce",
    b"#1 SMP",
    b"x86_64",
    b"(none)",
];
/// Most bytes of one getrandom, as in Linux.
const RANDOM_MAX: u64 = 32 << 20;

/// uname.
///
/// # Errors
/// `EFAULT`.
pub fn uname(cx: &Context<'_>, out: u64) -> Result<u64, Errno> {
    let mut bytes = [0; UTS_FIELD * UTS.len()];
    for (index, text) in UTS.iter().enumerate() {
        let at = index * UTS_FIELD;
        if let Some(to) = bytes.get_mut(at..at + text.len()) {
            to.copy_from_slice(text);
        }
    }
    cx.write(out, &bytes)?;
    Ok(0)
}

/// sysinfo: the memory that the manifest grants.
///
/// # Errors
/// `EFAULT`.
pub fn sysinfo(cx: &Context<'_>, out: u64) -> Result<u64, Errno> {
    let memory = memory::current().ok_or(Errno::ENOSYS)?;
    let (total, used) = (memory.limit(), memory.committed());
    let mut bytes = [0; 112];
    let mut put = |at: usize, value: u64| {
        if let Some(to) = bytes.get_mut(at..at + 8) {
            to.copy_from_slice(&value.to_le_bytes());
        }
    };
    put(
        0,
        (cx.now().saturating_sub(cx.process().started)) / 1_000_000_000,
    );
    put(32, total);
    put(40, total.saturating_sub(used));
    let threads: usize = crate::process::all()
        .iter()
        .map(|process| process.tasks.lock().len())
        .sum();
    bytes[80..82].copy_from_slice(&(threads as u16).to_le_bytes());
    bytes[104..108].copy_from_slice(&1_u32.to_le_bytes());
    cx.write(out, &bytes)?;
    Ok(0)
}

/// getrandom: the CPU's randomness only (rule S20).
///
/// # Errors
/// As in Linux.
pub fn getrandom(cx: &Context<'_>, out: u64, len: u64, flags: u64) -> Result<u64, Errno> {
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(RANDOM_MAX);
    let mut done = 0;
    while done < len {
        let mut piece = [0; 256];
        let step = (len - done).min(256) as usize;
        if let Some(piece) = piece.get_mut(..step) {
            cx.machine.random(piece);
            cx.write(out + done, piece)?;
        }
        done += step as u64;
    }
    Ok(done)
}

/// prctl options that programs use.
mod option {
    pub(super) const SET_PDEATHSIG: u64 = 1;
    pub(super) const GET_PDEATHSIG: u64 = 2;
    pub(super) const GET_DUMPABLE: u64 = 3;
    pub(super) const SET_DUMPABLE: u64 = 4;
    pub(super) const GET_KEEPCAPS: u64 = 7;
    pub(super) const SET_NAME: u64 = 15;
    pub(super) const GET_NAME: u64 = 16;
    pub(super) const GET_SECCOMP: u64 = 21;
    pub(super) const CAPBSET_READ: u64 = 23;
    pub(super) const SET_TIMERSLACK: u64 = 29;
    pub(super) const GET_TIMERSLACK: u64 = 30;
    pub(super) const SET_NO_NEW_PRIVS: u64 = 38;
    pub(super) const GET_NO_NEW_PRIVS: u64 = 39;
    pub(super) const SET_THP_DISABLE: u64 = 41;
    pub(super) const GET_THP_DISABLE: u64 = 42;
}

/// prctl.
///
/// # Errors
/// `EINVAL` for options that do not exist here.
pub fn prctl(cx: &Context<'_>, [code, arg, ..]: [u64; 6]) -> Result<u64, Errno> {
    match code {
        option::SET_NAME => {
            let mut name = [0; 16];
            let text = match cx.read_cstr(arg, 16) {
                Err(Errno::ENAMETOOLONG) => cx.read_vec(arg, 15)?,
                other => other?,
            };
            if let Some(to) = name.get_mut(..text.len()) {
                to.copy_from_slice(&text);
            }
            *cx.task.name.lock() = name;
            Ok(0)
        }
        option::GET_NAME => {
            let name = *cx.task.name.lock();
            cx.write(arg, &name)?;
            Ok(0)
        }
        option::GET_PDEATHSIG => {
            cx.write_u32(arg, 0)?;
            Ok(0)
        }
        // There is one user with all rights and none outside; cores are never dumped.
        option::GET_DUMPABLE
        | option::GET_KEEPCAPS
        | option::GET_SECCOMP
        | option::CAPBSET_READ
        | option::GET_NO_NEW_PRIVS
        | option::GET_THP_DISABLE => Ok(0),
        option::GET_TIMERSLACK => Ok(50_000),
        option::SET_PDEATHSIG
        | option::SET_DUMPABLE
        | option::SET_TIMERSLACK
        | option::SET_NO_NEW_PRIVS
        | option::SET_THP_DISABLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// membarrier: query says that nothing is supported, so that callers use their
/// own means.
///
/// # Errors
/// `EINVAL` for every other command.
pub fn membarrier(_cx: &Context<'_>, command: u64, flags: u64) -> Result<u64, Errno> {
    if command == 0 && flags == 0 {
        Ok(0)
    } else {
        Err(Errno::EINVAL)
    }
}

/// getcpu: always processor 0; which one it is, is nobody's business.
///
/// # Errors
/// `EFAULT`.
pub fn getcpu(cx: &Context<'_>, cpu: u64, node: u64) -> Result<u64, Errno> {
    for addr in [cpu, node] {
        if addr != 0 {
            cx.write_u32(addr, 0)?;
        }
    }
    Ok(0)
}
