// SPDX-License-Identifier: Apache-2.0
//! New threads, and the program that the agent starts.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::manifest::ProgramConfig;
use enclave_abi::start::LogLevel;

use super::frame::{Frame, NO_CALL, NO_VECTOR, REASON_TRAP};
use super::{Process, Task};
use crate::context::Context;
use crate::errno::Errno;

/// clone flags (`linux/sched.h`).
mod flag {
    pub(super) const VM: u64 = 0x100;
    pub(super) const FS: u64 = 0x200;
    pub(super) const FILES: u64 = 0x400;
    pub(super) const SIGHAND: u64 = 0x800;
    pub(super) const THREAD: u64 = 0x1_0000;
    pub(super) const SYSVSEM: u64 = 0x4_0000;
    pub(super) const SETTLS: u64 = 0x8_0000;
    pub(super) const PARENT_SETTID: u64 = 0x10_0000;
    pub(super) const CHILD_CLEARTID: u64 = 0x20_0000;
    pub(super) const DETACHED: u64 = 0x40_0000;
    pub(super) const CHILD_SETTID: u64 = 0x100_0000;
    pub(super) const IO: u64 = 0x8000_0000;
    /// What a thread shares with its creator.
    pub(super) const THREAD_ALL: u64 = VM | FS | FILES | SIGHAND | THREAD;
    pub(super) const KNOWN: u64 = THREAD_ALL
        | SYSVSEM
        | SETTLS
        | PARENT_SETTID
        | CHILD_CLEARTID
        | DETACHED
        | CHILD_SETTID
        | IO;
}

/// What a new thread wants.
#[derive(Clone, Copy, Debug)]
pub struct Clone {
    /// CLONE_*.
    pub flags: u64,
    /// Its RSP; 0 for its creator's.
    pub stack: u64,
    /// Where the creator finds its number.
    pub parent_tid: u64,
    /// Where it finds it, and what is cleared when it ends.
    pub child_tid: u64,
    /// Its FS base.
    pub tls: u64,
}

/// The program is started at most once.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Whether an FS base is an address at all.
#[must_use]
pub fn is_canonical(base: u64) -> bool {
    base < 1 << 47
}

/// clone for threads; anything that would make a process is `ENOSYS`.
///
/// # Errors
/// `ENOSYS`, `EINVAL`, `EAGAIN` if the image has no thread left.
pub fn thread(cx: &Context<'_>, frame: &Frame, wanted: &Clone) -> Result<u64, Errno> {
    let flags = wanted.flags;
    if flags & flag::THREAD_ALL != flag::THREAD_ALL {
        // fork and its kin: there is one address space.
        return Err(Errno::ENOSYS);
    }
    if flags & !flag::KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & flag::SETTLS != 0 && !is_canonical(wanted.tls) {
        return Err(Errno::EPERM);
    }
    let process = cx.process();
    let cpu = cx.machine.cpu().ok_or(Errno::ENOSYS)?;
    if process.tasks.lock().len() == 1
        && let Some(memory) = crate::memory::current()
    {
        memory.populate_files(cx.machine, process.pid);
    }
    let tid = super::next_id();
    let task = Arc::new(Task::new(tid, process));
    task.mask
        .store(cx.task.mask.load(Ordering::Acquire), Ordering::Release);
    *task.name.lock() = *cx.task.name.lock();
    if flags & flag::PARENT_SETTID != 0 {
        cx.write_u32(wanted.parent_tid, tid)?;
    }
    if flags & flag::CHILD_SETTID != 0 {
        cx.write_u32(wanted.child_tid, tid)?;
    }
    if flags & flag::CHILD_CLEARTID != 0 {
        task.clear_tid.store(wanted.child_tid, Ordering::Release);
    }
    let mut child = frame.clone();
    child.rax = 0;
    child.reason = REASON_TRAP;
    child.orig_rax = NO_CALL;
    child.vector = NO_VECTOR;
    if wanted.stack != 0 {
        child.rsp = wanted.stack;
    }
    let fs = if flags & flag::SETTLS != 0 {
        wanted.tls
    } else {
        cpu.fs_base()
    };
    process.tasks.lock().push(Arc::clone(&task));
    if let Err(errno) = cpu.start_thread(&task, &child, fs) {
        process
            .tasks
            .lock()
            .retain(|other| !Arc::ptr_eq(other, &task));
        return Err(errno);
    }
    Ok(tid.into())
}

/// Starts the program as process 2 on a thread of its own. The agent's part is
/// over with that, except for waiting.
///
/// # Errors
/// `EPERM` for anybody but the agent, `EBUSY` if it runs already, `EAGAIN`
/// without a free thread, `ENOEXEC` if the program cannot be loaded.
pub fn start_program(cx: &Context<'_>, config: &ProgramConfig) -> Result<u32, Errno> {
    let agent = cx.process();
    if !agent.is_agent() {
        return Err(Errno::EPERM);
    }
    if STARTED.swap(true, Ordering::AcqRel) {
        return Err(Errno::EBUSY);
    }
    let facts = super::start::facts().ok_or(Errno::ENOSYS)?;
    let cpu = cx.machine.cpu().ok_or(Errno::ENOSYS)?;
    let pid = super::PROGRAM;
    let process = Arc::new(Process::new(
        pid,
        agent.pid,
        false,
        crate::vfs::ProcessFiles::default(),
        facts.manifest.dlopen,
    ));
    let task = Arc::new(Task::new(pid, &process));
    process.tasks.lock().push(Arc::clone(&task));
    super::register(&process);
    let mut frame = Frame::default();
    let program = Context {
        machine: cx.machine,
        task: &task,
    };
    let ready = crate::vfs::boot::program(&program, config);
    let loaded = ready
        .map_err(super::start::StartError::Files)
        .and_then(|()| {
            super::start::load(
                &program,
                &facts.manifest.program,
                config,
                facts.manifest.stack,
                &mut frame,
            )
        });
    let started = match loaded {
        Ok(()) => cpu.start_thread(&task, &frame, 0),
        Err(error) => {
            crate::log::line(
                cx.machine,
                LogLevel::Error,
                format_args!("the program cannot start: {error}"),
            );
            Err(Errno::ENOEXEC)
        }
    };
    if let Err(errno) = started {
        super::unregister(pid);
        if let Some(memory) = crate::memory::current() {
            memory.release(pid);
        }
        return Err(errno);
    }
    Ok(pid)
}
