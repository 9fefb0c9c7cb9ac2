// SPDX-License-Identifier: Apache-2.0
//! The end of threads and processes.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use enclave_abi::call::Op;

use super::{Process, Task};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Word;
use crate::signal::{self, SigInfo};

/// exit: ends the calling thread; the last one ends the process.
pub fn thread(cx: &Context<'_>, status: u32) -> ! {
    let task = cx.task;
    leave_memory(cx);
    let last = {
        let mut tasks = task.process.tasks.lock();
        tasks.retain(|other| !Arc::ptr_eq(other, task));
        tasks.is_empty()
    };
    if last {
        finish(cx, (status & 0xff) << 8);
    }
    end_thread(cx)
}

/// exit_group, or death by a signal: `status` is as wait4 tells it.
pub fn process(cx: &Context<'_>, status: u32) -> ! {
    let task = cx.task;
    if task.process.pid == 1 {
        finish(cx, status);
    }
    let others = {
        let mut ended = task.process.ended.lock();
        if ended.is_none() {
            *ended = Some(status);
        }
        drop(ended);
        task.process.tasks.lock().clone()
    };
    for other in &others {
        if !Arc::ptr_eq(other, task)
            && !other.dying.swap(true, Ordering::AcqRel)
            && let Some(cpu) = cx.machine.cpu()
        {
            cpu.attention(other);
        }
    }
    drop(others);
    thread(cx, status >> 8)
}

/// Tells futex waiters that this thread is gone.
fn leave_memory(cx: &Context<'_>) {
    crate::sync::futex::exit_robust(cx);
    let clear = cx.task.clear_tid.swap(0, Ordering::AcqRel);
    if clear != 0 && cx.write_u32(clear, 0).is_ok() {
        crate::sync::futex::wake(cx.machine, clear, 1, u32::MAX);
    }
}

/// The last thread of a process is about to end. Process 1 takes the enclave along.
fn finish(cx: &Context<'_>, status: u32) {
    let process = &cx.task.process;
    let status = {
        let mut ended = process.ended.lock();
        *ended.get_or_insert(status)
    };
    if let Some(memory) = crate::memory::current() {
        let (start, end) = memory.range();
        // The program is gone: there is nobody to tell.
        let _ = memory.sync(cx.machine, process.pid, start, end - start);
    }
    process.files.close_all();
    if process.pid == 1 {
        end_enclave(cx, status);
    }
    if let Some(memory) = crate::memory::current() {
        memory.release(process.pid);
    }
    if let Some(parent) = super::find(process.parent) {
        signal::send::to_process(cx.machine, &parent, SigInfo::child(process.pid, status));
        parent.end.wake_all(cx.machine);
    }
}

fn end_enclave(cx: &Context<'_>, status: u32) -> ! {
    loop {
        let _ = match status & 0x7f {
            0 => cx.host(Op::Exit, &mut [Word::Value((status >> 8 & 0xff).into())]),
            number => cx.host(Op::DieBySignal, &mut [Word::Value(number.into())]),
        };
    }
}

fn end_thread(cx: &Context<'_>) -> ! {
    loop {
        if let Some(cpu) = cx.machine.cpu() {
            cpu.end_thread();
        }
    }
}

/// wait4 for children: pid and status, or 0 if none has ended (`block` false).
///
/// # Errors
/// `ECHILD`, `EINTR`.
pub fn wait(cx: &Context<'_>, pid: i32, block: bool) -> Result<Option<(u32, u32)>, Errno> {
    let me = cx.process();
    let wanted = |child: &Process| {
        child.parent == me.pid && (pid <= 0 || u32::try_from(pid).is_ok_and(|pid| pid == child.pid))
    };
    loop {
        let children: alloc::vec::Vec<Arc<Process>> = super::all()
            .into_iter()
            .filter(|child| wanted(child))
            .collect();
        if children.is_empty() {
            return Err(Errno::ECHILD);
        }
        let dead = |child: &Arc<Process>| {
            child
                .tasks
                .lock()
                .is_empty()
                .then(|| *child.ended.lock())
                .flatten()
        };
        if let Some((child, status)) = children
            .iter()
            .find_map(|child| dead(child).map(|status| (child, status)))
        {
            super::unregister(child.pid);
            return Ok(Some((child.pid, status)));
        }
        if !block {
            return Ok(None);
        }
        me.end.wait_until(cx, None, || {
            children.iter().any(|child| dead(child).is_some())
        })?;
    }
}

/// Whether the calling thread must end instead of returning to its program.
#[must_use]
pub fn is_dying(task: &Task) -> bool {
    task.dying.load(Ordering::Acquire)
}
