// SPDX-License-Identifier: Apache-2.0
//! Signal calls.

use core::sync::atomic::Ordering;

use crate::context::Context;
use crate::errno::Errno;
use crate::process;
use crate::signal::fd::SignalFile;
use crate::signal::{
    self, Action, Altstack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, SigInfo, UNBLOCKABLE, bit,
};
use crate::sync::Waiter;
use crate::vfs::file::Class;
use crate::vfs::{OpenFile, OpenFlags};

/// Bytes of a signal set.
const SET: u64 = 8;
/// Smallest alternate stack.
const MINSIGSTKSZ: u64 = 2048;

fn number(signal: u64) -> Result<u32, Errno> {
    u32::try_from(signal)
        .ok()
        .filter(|signal| (1..=signal::COUNT).contains(signal))
        .ok_or(Errno::EINVAL)
}

/// rt_sigaction.
///
/// # Errors
/// As in Linux.
pub fn sigaction(
    cx: &Context<'_>,
    signal: u64,
    new: u64,
    old: u64,
    size: u64,
) -> Result<u64, Errno> {
    let signal = number(signal)?;
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let before = cx.process().actions.lock().get(signal);
    if new != 0 {
        if bit(signal) & UNBLOCKABLE != 0 {
            return Err(Errno::EINVAL);
        }
        let bytes = cx.read_array::<32>(new)?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let action = Action {
            handler: word(0),
            flags: word(8),
            restorer: word(16),
            mask: word(24) & !UNBLOCKABLE,
        };
        let ignores = {
            let mut actions = cx.process().actions.lock();
            actions.set(signal, action);
            actions.ignores(signal)
        };
        if ignores {
            cx.process().pending.discard(signal);
            for task in cx.process().tasks.lock().iter() {
                task.pending.discard(signal);
            }
        }
    }
    if old != 0 {
        let mut bytes = [0; 32];
        for (at, word) in [before.handler, before.flags, before.restorer, before.mask]
            .into_iter()
            .enumerate()
        {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        cx.write(old, &bytes)?;
    }
    Ok(0)
}

/// Sets the mask; a signal that it no longer blocks is delivered before the
/// call returns.
fn set_mask(cx: &Context<'_>, mask: u64) {
    cx.task.mask.store(mask & !UNBLOCKABLE, Ordering::Release);
    if cx.task.interrupted()
        && let Some(cpu) = cx.machine.cpu()
    {
        cpu.attention(cx.task);
    }
}

/// rt_sigprocmask.
///
/// # Errors
/// As in Linux.
pub fn sigprocmask(
    cx: &Context<'_>,
    how: u64,
    new: u64,
    old: u64,
    size: u64,
) -> Result<u64, Errno> {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let before = cx.task.mask.load(Ordering::Acquire);
    if new != 0 {
        let set = cx.read_u64(new)?;
        let mask = match how {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        set_mask(cx, mask);
    }
    if old != 0 {
        cx.write_u64(old, before)?;
    }
    Ok(0)
}

/// rt_sigpending.
///
/// # Errors
/// As in Linux.
pub fn sigpending(cx: &Context<'_>, out: u64, size: u64) -> Result<u64, Errno> {
    if size > SET {
        return Err(Errno::EINVAL);
    }
    let waiting = cx.task.pending.set() | cx.process().pending.set();
    cx.write_u64(out, waiting & cx.task.mask.load(Ordering::Acquire))?;
    Ok(0)
}

/// Sleeps until a signal arrives.
fn sleep(cx: &Context<'_>, deadline: Option<u64>) -> Errno {
    let waiter = Waiter::new(cx);
    match waiter.park(cx, deadline) {
        Ok(()) => Errno::EINTR,
        Err(errno) => errno,
    }
}

/// pause.
///
/// # Errors
/// Always `EINTR`.
pub fn pause(cx: &Context<'_>) -> Result<u64, Errno> {
    Err(sleep(cx, None))
}

/// rt_sigsuspend.
///
/// # Errors
/// `EINTR` after a handler has run.
pub fn sigsuspend(cx: &Context<'_>, set: u64, size: u64) -> Result<u64, Errno> {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let mask = cx.read_u64(set)?;
    let before = cx.task.mask.swap(mask & !UNBLOCKABLE, Ordering::AcqRel);
    *cx.task.saved_mask.lock() = Some(before);
    Err(sleep(cx, None))
}

/// rt_sigtimedwait.
///
/// # Errors
/// `EAGAIN` after the timeout, `EINTR` for signals outside the set.
pub fn sigtimedwait(
    cx: &Context<'_>,
    set: u64,
    info: u64,
    timeout: u64,
    size: u64,
) -> Result<u64, Errno> {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let wanted = cx.read_u64(set)? & !UNBLOCKABLE;
    let deadline = match timeout {
        0 => None,
        at => Some(cx.now().saturating_add(super::time::read_timespec(cx, at)?)),
    };
    cx.task.awaited.store(wanted, Ordering::Release);
    let found = loop {
        let found = cx
            .task
            .pending
            .take(wanted)
            .or_else(|| cx.process().pending.take(wanted));
        if let Some(found) = found {
            break Ok(found);
        }
        let ended = sleep(cx, deadline);
        let waiting = cx.task.pending.set() | cx.process().pending.set();
        if waiting & wanted == 0 {
            break Err(if ended == Errno::ETIMEDOUT {
                Errno::EAGAIN
            } else {
                ended
            });
        }
    };
    cx.task.awaited.store(0, Ordering::Release);
    let found = found?;
    if info != 0 {
        cx.write(info, &found.to_bytes())?;
    }
    Ok(found.signal.into())
}

/// sigaltstack.
///
/// # Errors
/// As in Linux.
pub fn sigaltstack(cx: &Context<'_>, new: u64, old: u64) -> Result<u64, Errno> {
    let before = *cx.task.altstack.lock();
    // Programs switch stacks before they call; what counts is the signal frame's view.
    if new != 0 {
        let bytes = cx.read_array::<24>(new)?;
        let mut start = [0; 8];
        start.copy_from_slice(&bytes[..8]);
        let mut flags = [0; 4];
        flags.copy_from_slice(&bytes[8..12]);
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[16..24]);
        let flags = u32::from_le_bytes(flags);
        let next = Altstack {
            start: u64::from_le_bytes(start),
            size: u64::from_le_bytes(size),
            flags: flags & !SS_ONSTACK,
        };
        if flags & !(SS_DISABLE | SS_ONSTACK | SS_AUTODISARM) != 0 {
            return Err(Errno::EINVAL);
        }
        if next.flags & SS_DISABLE != 0 {
            *cx.task.altstack.lock() = Altstack::default();
        } else if next.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        } else {
            *cx.task.altstack.lock() = next;
        }
    }
    if old != 0 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&before.start.to_le_bytes());
        bytes[8..12].copy_from_slice(&before.flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&before.size.to_le_bytes());
        cx.write(old, &bytes)?;
    }
    Ok(0)
}

fn target(pid: u64) -> Result<alloc::sync::Arc<process::Process>, Errno> {
    u32::try_from(pid)
        .ok()
        .and_then(process::find)
        .ok_or(Errno::ESRCH)
}

/// Programs may signal themselves; the agent and its program leave each other alone,
/// but that a parent may signal its child.
fn may_signal(cx: &Context<'_>, other: &process::Process) -> bool {
    let me = cx.process();
    other.pid == me.pid || other.parent == me.pid
}

/// kill.
///
/// # Errors
/// As in Linux.
pub fn kill(cx: &Context<'_>, pid: u64, signal: u64) -> Result<u64, Errno> {
    let me = cx.process();
    let pid = match i64::from(pid as i32) {
        0 | -1 => me.pid.into(),
        group if group < 0 => group.unsigned_abs(),
        pid => pid.unsigned_abs(),
    };
    let process = target(pid)?;
    if !may_signal(cx, &process) {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        let info = SigInfo::user(number(signal)?, signal::SI_USER, me.pid);
        signal::send::to_process(cx.machine, &process, info);
    }
    Ok(0)
}

/// tgkill and tkill.
///
/// # Errors
/// As in Linux.
pub fn tgkill(cx: &Context<'_>, pid: Option<u64>, tid: u64, signal: u64) -> Result<u64, Errno> {
    let process = match pid {
        Some(pid) => target(pid)?,
        None => alloc::sync::Arc::clone(cx.process()),
    };
    if !may_signal(cx, &process) {
        return Err(Errno::EPERM);
    }
    let tasks = process.tasks.lock().clone();
    let task = tasks
        .iter()
        .find(|task| u64::from(task.tid) == tid)
        .ok_or(Errno::ESRCH)?;
    if signal != 0 {
        let info = SigInfo::user(number(signal)?, signal::SI_TKILL, cx.process().pid);
        signal::send::to_task(cx.machine, task, info);
    }
    Ok(0)
}

/// rt_sigqueueinfo.
///
/// # Errors
/// As in Linux.
pub fn sigqueueinfo(cx: &Context<'_>, pid: u64, signal: u64, info: u64) -> Result<u64, Errno> {
    let process = target(pid)?;
    if !may_signal(cx, &process) {
        return Err(Errno::EPERM);
    }
    let info = SigInfo::queued(number(signal)?, &cx.read_array::<128>(info)?);
    signal::send::to_process(cx.machine, &process, info);
    Ok(0)
}

/// SFD_CLOEXEC, SFD_NONBLOCK.
const SFD_CLOEXEC: u64 = 0o2_000_000;
const SFD_NONBLOCK: u64 = 0o4000;

/// signalfd4.
///
/// # Errors
/// As in Linux.
pub fn signalfd(cx: &Context<'_>, fd: u64, set: u64, size: u64, flags: u64) -> Result<u64, Errno> {
    if size != SET || flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = cx.read_u64(set)?;
    let files = &cx.process().files;
    if fd as i32 != -1 {
        let open = files.get(fd)?;
        let Class::Signals(file) = open.file.class() else {
            return Err(Errno::EINVAL);
        };
        file.set(set);
        return Ok(fd);
    }
    let file = alloc::sync::Arc::new(SignalFile::new(cx.process(), set));
    let mut open = OpenFlags::from_user(0o2);
    if flags & SFD_NONBLOCK != 0 {
        open |= OpenFlags::from_user(SFD_NONBLOCK);
    }
    let file = OpenFile::new(cx.machine, file, open, b"anon_inode:[signalfd]".to_vec());
    files.add(file, flags & SFD_CLOEXEC != 0)
}
