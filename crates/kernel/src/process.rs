// SPDX-License-Identifier: Apache-2.0
//! Processes and threads.
//!
//! Process 1 is the agent, or the program itself where no agent is. The
//! program under an agent is process 2. Threads share the numbers of processes,
//! as in Linux.

pub mod cpuid;
pub mod elf;
pub mod exit;
pub mod frame;
pub mod spawn;
pub mod stack;
pub mod start;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod trap;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use enclave_abi::manifest::Dlopen;

use crate::host::Machine;
use crate::memory::brk::Break;
use crate::signal::{Actions, Altstack, Queue, SigInfo};
use crate::sync::{Lock, WaitQueue};
use crate::vfs::ProcessFiles;

/// A process: the agent, or the program.
#[derive(Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// The parent's id; 0 for process 1.
    pub parent: u32,
    /// Whether this is the agent, who alone sees `/dev/ensconce`.
    agent: bool,
    /// Open files, working directory, umask, mounts.
    pub files: ProcessFiles,
    /// The running program: path, arguments, environment as /proc/self shows them.
    pub program: Lock<Program>,
    /// The break.
    pub brk: Lock<Break>,
    /// What signals do.
    pub actions: Lock<Actions>,
    /// Signals for any of its threads.
    pub pending: Queue,
    /// Threads waiting for any signal, by signalfd.
    pub arrivals: WaitQueue,
    /// Its threads that have not ended.
    pub tasks: Lock<Vec<Arc<Task>>>,
    /// How it ended, as wait4 tells.
    pub ended: Lock<Option<u32>>,
    /// Its parent's threads waiting for that.
    pub end: WaitQueue,
    /// Where code may come from.
    pub dlopen: Dlopen,
    /// CLOCK_MONOTONIC at its start, in nanoseconds.
    pub started: u64,
    /// Resource limits that a program has set: (soft, hard) by number.
    pub limits: Lock<BTreeMap<u32, (u64, u64)>>,
    /// ITIMER_REAL.
    pub timer: Lock<Timer>,
}

/// ITIMER_REAL as the program set it, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer {
    /// Interval; 0 for once.
    pub interval: u64,
    /// CLOCK_MONOTONIC of the first expiry; 0 while it is off.
    pub next: u64,
}

/// What /proc/self says about a program.
#[derive(Clone, Default)]
pub struct Program {
    /// Absolute path of the executable, without symbolic links.
    pub path: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
    /// Auxiliary vector as the program got it.
    pub auxv: Vec<u8>,
}

// Arguments and variables may be secrets of a session (rule S23).
impl core::fmt::Debug for Program {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Program([redacted])")
    }
}

static PROCESSES: Lock<BTreeMap<u32, Arc<Process>>> = Lock::new(BTreeMap::new());
/// The agent, or the program where no agent is.
pub const FIRST: u32 = 1;
/// The program that the agent starts.
pub const PROGRAM: u32 = 2;
static NEXT_ID: AtomicU32 = AtomicU32::new(PROGRAM + 1);

/// A new thread's number.
pub(crate) fn next_id() -> u32 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The process with this number.
#[must_use]
pub fn find(pid: u32) -> Option<Arc<Process>> {
    PROCESSES.lock().get(&pid).cloned()
}

/// All processes, ascending.
#[must_use]
pub fn all() -> Vec<Arc<Process>> {
    PROCESSES.lock().values().cloned().collect()
}

pub(crate) fn register(process: &Arc<Process>) {
    PROCESSES.lock().insert(process.pid, Arc::clone(process));
}

pub(crate) fn unregister(pid: u32) {
    PROCESSES.lock().remove(&pid);
}

impl Process {
    /// A process without threads.
    #[must_use]
    pub fn new(pid: u32, parent: u32, agent: bool, files: ProcessFiles, dlopen: Dlopen) -> Self {
        Self {
            pid,
            parent,
            agent,
            files,
            program: Lock::new(Program::default()),
            brk: Lock::new(Break::default()),
            actions: Lock::new(Actions::default()),
            pending: Queue::default(),
            arrivals: WaitQueue::new(),
            tasks: Lock::new(Vec::new()),
            ended: Lock::new(None),
            end: WaitQueue::new(),
            dlopen,
            started: 0,
            limits: Lock::new(BTreeMap::new()),
            timer: Lock::new(Timer::default()),
        }
    }

    /// Whether this process is the agent, who alone sees `/dev/ensconce`.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        self.agent
    }

    /// Its threads' numbers.
    #[must_use]
    pub fn thread_ids(&self) -> Vec<u32> {
        self.tasks.lock().iter().map(|task| task.tid).collect()
    }
}

/// A thread.
#[derive(Debug)]
pub struct Task {
    /// Thread id; the first thread's is the process id.
    pub tid: u32,
    /// The process.
    pub process: Arc<Process>,
    /// Index of the TCS that runs it.
    thread: AtomicU32,
    /// Signals for this thread alone.
    pub pending: Queue,
    /// Blocked signals (bit n-1 = signal n).
    pub mask: AtomicU64,
    /// Signals that rt_sigtimedwait waits for although they are blocked.
    pub awaited: AtomicU64,
    /// The mask to restore after rt_sigsuspend and friends.
    pub saved_mask: Lock<Option<u64>>,
    /// The alternate signal stack.
    pub altstack: Lock<Altstack>,
    /// set_tid_address.
    pub clear_tid: AtomicU64,
    /// set_robust_list.
    pub robust_list: AtomicU64,
    /// The thread must end instead of returning to its program.
    pub dying: AtomicBool,
    /// PR_SET_NAME.
    pub name: Lock<[u8; 16]>,
}

impl Task {
    /// A thread that does not run yet.
    #[must_use]
    pub fn new(tid: u32, process: &Arc<Process>) -> Self {
        Self {
            tid,
            process: Arc::clone(process),
            thread: AtomicU32::new(0),
            pending: Queue::default(),
            mask: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            saved_mask: Lock::new(None),
            altstack: Lock::new(Altstack::default()),
            clear_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            dying: AtomicBool::new(false),
            name: Lock::new([0; 16]),
        }
    }

    /// Index of the TCS that runs it.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.thread.load(Ordering::Acquire)
    }

    /// Notes which TCS runs it.
    pub fn set_thread(&self, index: u32) {
        self.thread.store(index, Ordering::Release);
    }

    /// Whether a signal waits that the program would notice.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        if self.dying.load(Ordering::Acquire) {
            return true;
        }
        let pending = self.pending.set() | self.process.pending.set();
        pending & self.open() != 0
    }

    /// Signals that reach this thread: not blocked, or waited for.
    #[must_use]
    pub fn open(&self) -> u64 {
        !self.mask.load(Ordering::Acquire) | self.awaited.load(Ordering::Acquire)
    }

    /// Sends a signal of the kernel's making to this thread.
    pub fn raise(&self, machine: &dyn Machine, signal: u32) {
        crate::signal::send::to_task(machine, self, SigInfo::kernel(signal));
    }

    /// A process and its first thread without a machine below, for tests of logic.
    #[must_use]
    pub fn detached(pid: u32, files: ProcessFiles) -> Arc<Self> {
        let process = Arc::new(Process::new(pid, 0, false, files, Dlopen::Any));
        let task = Arc::new(Self::new(pid, &process));
        process.tasks.lock().push(Arc::clone(&task));
        task
    }
}
