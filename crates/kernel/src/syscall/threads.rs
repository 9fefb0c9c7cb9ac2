// SPDX-License-Identifier: Apache-2.0
//! Threads and children.

use core::sync::atomic::Ordering;

use crate::context::Context;
use crate::errno::Errno;
use crate::process::frame::Frame;
use crate::process::spawn::{self, Clone};
use crate::process::{self, exit};

/// The low byte of clone's flags: the signal at exit.
const EXIT_SIGNAL: u64 = 0xff;
/// Smallest `struct clone_args`.
const CLONE_ARGS: u64 = 64;
/// Largest one whose fields are known.
const CLONE_ARGS_MAX: u64 = 88;
const WNOHANG: u64 = 1;

/// clone.
///
/// # Errors
/// `ENOSYS` for what is not a thread.
pub fn clone(cx: &Context<'_>, frame: &Frame) -> Result<u64, Errno> {
    let wanted = Clone {
        flags: frame.rdi & !EXIT_SIGNAL,
        stack: frame.rsi,
        parent_tid: frame.rdx,
        child_tid: frame.r10,
        tls: frame.r8,
    };
    spawn::thread(cx, frame, &wanted)
}

/// clone3.
///
/// # Errors
/// As [`clone`]; `E2BIG` for fields that are not known.
pub fn clone3(cx: &Context<'_>, frame: &Frame) -> Result<u64, Errno> {
    let size = frame.rsi;
    if size < CLONE_ARGS {
        return Err(Errno::EINVAL);
    }
    if size > CLONE_ARGS_MAX {
        return Err(Errno::E2BIG);
    }
    let bytes = cx.read_vec(frame.rdi, size as usize)?;
    let word = |index: usize| {
        let mut word = [0; 8];
        if let Some(from) = bytes.get(index * 8..index * 8 + 8) {
            word.copy_from_slice(from);
        }
        u64::from_le_bytes(word)
    };
    let (stack, stack_size) = (word(5), word(6));
    let wanted = Clone {
        flags: word(0),
        stack: if stack == 0 {
            0
        } else {
            stack.checked_add(stack_size).ok_or(Errno::EINVAL)?
        },
        child_tid: word(2),
        parent_tid: word(3),
        tls: word(7),
    };
    if word(8) != 0 || word(9) != 0 || word(10) != 0 {
        // set_tid and cgroup: ids are the kernel's to choose.
        return Err(Errno::EINVAL);
    }
    spawn::thread(cx, frame, &wanted)
}

/// set_tid_address.
///
/// # Errors
/// None.
pub fn set_tid_address(cx: &Context<'_>, addr: u64) -> Result<u64, Errno> {
    cx.task.clear_tid.store(addr, Ordering::Release);
    Ok(cx.task.tid.into())
}

/// set_robust_list.
///
/// # Errors
/// `EINVAL` for another size.
pub fn set_robust_list(cx: &Context<'_>, head: u64, len: u64) -> Result<u64, Errno> {
    if len != 24 {
        return Err(Errno::EINVAL);
    }
    cx.task.robust_list.store(head, Ordering::Release);
    Ok(0)
}

/// get_robust_list of the calling thread.
///
/// # Errors
/// `ESRCH` for other threads.
pub fn get_robust_list(cx: &Context<'_>, tid: u64, head: u64, len: u64) -> Result<u64, Errno> {
    if tid != 0 && tid != u64::from(cx.task.tid) {
        return Err(Errno::ESRCH);
    }
    cx.write_u64(head, cx.task.robust_list.load(Ordering::Acquire))?;
    cx.write_u64(len, 24)?;
    Ok(0)
}

/// wait4.
///
/// # Errors
/// `ECHILD`, `EINTR`.
pub fn wait4(cx: &Context<'_>, pid: u64, status: u64, options: u64) -> Result<u64, Errno> {
    let found = exit::wait(cx, pid as i32, options & WNOHANG == 0)?;
    let Some((pid, ended)) = found else {
        return Ok(0);
    };
    if status != 0 {
        cx.write_u32(status, ended)?;
    }
    Ok(pid.into())
}

/// Whether a process with this number exists.
#[must_use]
pub fn exists(pid: u32) -> bool {
    process::find(pid).is_some()
}
