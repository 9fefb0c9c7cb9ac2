// SPDX-License-Identifier: Apache-2.0
//! Processes and threads.

pub mod time;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::host::Machine;
use crate::sync::Lock;
use crate::vfs::ProcessFiles;

/// A process: the agent, or the program.
#[derive(Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// The parent's id; 0 for process 1.
    pub parent: u32,
    /// Open files, working directory, umask, mounts.
    pub files: ProcessFiles,
    /// The running program: path, arguments, environment as /proc/self shows them.
    pub program: Lock<Program>,
}

/// What /proc/self says about a program.
#[derive(Clone, Debug, Default)]
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

impl Process {
    /// Whether this process is the agent, who alone sees `/dev/ensconce`.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        false
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
    thread: u32,
    /// Signals waiting for this thread (bit n-1 = signal n).
    pending: AtomicU64,
}

impl Task {
    /// Index of the TCS that runs it.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Whether a signal waits that the program would notice.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    /// Sends a signal to this thread.
    pub fn raise(&self, _machine: &dyn Machine, signal: u32) {
        self.pending.fetch_or(1 << (signal - 1), Ordering::AcqRel);
    }

    /// A process and its first thread without a machine below, for tests of logic.
    #[must_use]
    pub fn detached(pid: u32, files: ProcessFiles) -> Arc<Self> {
        let process = Arc::new(Process {
            pid,
            parent: 0,
            files,
            program: Lock::new(Program::default()),
        });
        Arc::new(Self {
            tid: pid,
            process,
            thread: 0,
            pending: AtomicU64::new(0),
        })
    }
}
