// SPDX-License-Identifier: Apache-2.0
//! signalfd: blocked signals as a stream of records.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{SigInfo, UNBLOCKABLE};
use crate::context::Context;
use crate::errno::Errno;
use crate::process::Process;
use crate::vfs::buffer::Sink;
use crate::vfs::file::{Class, File};
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::stat::{FileType, Stat};

/// `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// A signalfd.
pub struct SignalFile {
    set: AtomicU64,
    process: Arc<Process>,
}

impl core::fmt::Debug for SignalFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SignalFile(..)")
    }
}

impl SignalFile {
    /// For the signals of a set (bit n-1 = signal n).
    #[must_use]
    pub fn new(process: &Arc<Process>, set: u64) -> Self {
        Self {
            set: AtomicU64::new(set & !UNBLOCKABLE),
            process: Arc::clone(process),
        }
    }

    /// Replaces the set.
    pub fn set(&self, set: u64) {
        self.set.store(set & !UNBLOCKABLE, Ordering::Release);
    }

    fn wanted(&self) -> u64 {
        self.set.load(Ordering::Acquire)
    }

    fn waits(&self, cx: &Context<'_>) -> bool {
        (cx.task.pending.set() | cx.process().pending.set()) & self.wanted() != 0
    }
}

/// One record (`linux/signalfd.h`).
fn record(info: &SigInfo) -> [u8; RECORD] {
    let from = info.to_bytes();
    let mut out = [0; RECORD];
    let mut copy = |to: usize, at: usize, len: usize| {
        out[to..to + len].copy_from_slice(&from[at..at + len]);
    };
    copy(0, 0, 4); // ssi_signo
    copy(4, 4, 4); // ssi_errno
    copy(8, 8, 4); // ssi_code
    copy(12, 16, 4); // ssi_pid
    copy(16, 20, 4); // ssi_uid
    copy(40, 24, 4); // ssi_status of SIGCHLD
    copy(44, 24, 4); // ssi_int of queued signals
    copy(48, 24, 8); // ssi_ptr
    out
}

impl File for SignalFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Anonymous, 0o600, 1))
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        if to.len() < RECORD {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        loop {
            while done + RECORD <= to.len() {
                let wanted = self.wanted();
                let next = cx
                    .task
                    .pending
                    .take(wanted)
                    .or_else(|| cx.process().pending.take(wanted));
                let Some(info) = next else {
                    break;
                };
                to.put(done, &record(&info))?;
                done += RECORD;
            }
            if done > 0 {
                return Ok(done);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            cx.process()
                .arrivals
                .wait_until(cx, None, || self.waits(cx))?;
        }
    }

    fn readiness(&self, cx: &Context<'_>) -> Readiness<'_> {
        let mut now = Events::empty();
        now.set(Events::READ, self.waits(cx));
        Readiness::Inside(Inside {
            now,
            queues: [Some(&self.process.arrivals), None],
            at: None,
        })
    }

    fn class(&self) -> Class<'_> {
        Class::Signals(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_signal_code_and_sender() {
        let bytes = record(&SigInfo::user(10, super::super::SI_USER, 77));
        assert_eq!(bytes[..4], 10_u32.to_le_bytes());
        assert_eq!(bytes[8..12], 0_u32.to_le_bytes());
        assert_eq!(bytes[12..16], 77_u32.to_le_bytes());
    }
}
