// SPDX-License-Identifier: Apache-2.0
//! Signals. All state lies inside; the host may only hint at a closed list of
//! them (rule S12).

pub mod deliver;
#[cfg(test)]
mod delivery_tests;
pub mod fd;
pub mod frame;
pub mod send;

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::sync::Lock;

/// Number of signals.
pub const COUNT: u32 = 64;

#[allow(missing_docs, reason = "named as in Linux")]
mod number {
    pub const SIGHUP: u32 = 1;
    pub const SIGINT: u32 = 2;
    pub const SIGILL: u32 = 4;
    pub const SIGTRAP: u32 = 5;
    pub const SIGABRT: u32 = 6;
    pub const SIGBUS: u32 = 7;
    pub const SIGFPE: u32 = 8;
    pub const SIGKILL: u32 = 9;
    pub const SIGSEGV: u32 = 11;
    pub const SIGPIPE: u32 = 13;
    pub const SIGALRM: u32 = 14;
    pub const SIGCHLD: u32 = 17;
    pub const SIGCONT: u32 = 18;
    pub const SIGSTOP: u32 = 19;
    pub const SIGTSTP: u32 = 20;
    pub const SIGTTIN: u32 = 21;
    pub const SIGTTOU: u32 = 22;
    pub const SIGURG: u32 = 23;
    pub const SIGWINCH: u32 = 28;
}
pub use number::*;

#[allow(missing_docs, reason = "named as in Linux")]
mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTINV: i32 = 7;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_TRACE: i32 = 2;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
}
pub use code::*;

/// The bit of a signal in a set.
#[must_use]
pub fn bit(signal: u32) -> u64 {
    1 << (signal.clamp(1, COUNT) - 1)
}

/// Signals that nobody can block or catch.
pub const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);

/// What a handler learns: `siginfo_t` (128 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// The signal.
    pub signal: u32,
    bytes: [u8; 32],
}

impl SigInfo {
    fn new(signal: u32, code: i32) -> Self {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&signal.to_le_bytes());
        bytes[8..12].copy_from_slice(&code.to_le_bytes());
        Self { signal, bytes }
    }

    fn with(mut self, offset: usize, value: &[u8]) -> Self {
        if let Some(to) = self.bytes.get_mut(offset..offset + value.len()) {
            to.copy_from_slice(value);
        }
        self
    }

    /// From the kernel itself.
    #[must_use]
    pub fn kernel(signal: u32) -> Self {
        Self::new(signal, SI_KERNEL)
    }

    /// From a process.
    #[must_use]
    pub fn user(signal: u32, code: i32, pid: u32) -> Self {
        Self::new(signal, code).with(16, &pid.to_le_bytes())
    }

    /// From an exception at or about `addr`.
    #[must_use]
    pub fn fault(signal: u32, code: i32, addr: u64) -> Self {
        Self::new(signal, code).with(16, &addr.to_le_bytes())
    }

    /// A child has ended; `status` as wait4 tells it.
    #[must_use]
    pub fn child(pid: u32, status: u32) -> Self {
        let (code, value) = match status & 0x7f {
            0 => (CLD_EXITED, status >> 8 & 0xff),
            signal => (CLD_KILLED, signal),
        };
        Self::new(SIGCHLD, code)
            .with(16, &pid.to_le_bytes())
            .with(24, &value.to_le_bytes())
    }

    /// As rt_sigqueueinfo gives it.
    #[must_use]
    pub fn queued(signal: u32, given: &[u8; 128]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&given[..32]);
        Self { signal, bytes }.with(0, &signal.to_le_bytes())
    }

    /// `siginfo_t`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut out = [0; 128];
        out[..32].copy_from_slice(&self.bytes);
        out
    }

    /// si_addr.
    #[must_use]
    pub fn addr(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[16..24]);
        u64::from_le_bytes(word)
    }
}

/// What one signal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// SIG_DFL (0), SIG_IGN (1) or an address.
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked meanwhile.
    pub mask: u64,
}

/// SIG_DFL.
pub const DEFAULT: u64 = 0;
/// SIG_IGN.
pub const IGNORE: u64 = 1;

/// sigaction flags.
#[allow(missing_docs, reason = "named as in Linux")]
pub mod sa {
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// What each signal does.
#[derive(Clone, Debug)]
pub struct Actions([Action; COUNT as usize]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); COUNT as usize])
    }
}

impl Actions {
    /// The action of a signal.
    #[must_use]
    pub fn get(&self, signal: u32) -> Action {
        self.0.get(signal as usize - 1).copied().unwrap_or_default()
    }

    /// Replaces it.
    pub fn set(&mut self, signal: u32, action: Action) {
        if let Some(slot) = self.0.get_mut(signal as usize - 1) {
            *slot = action;
        }
    }

    /// Whether nothing happens at all.
    #[must_use]
    pub fn ignores(&self, signal: u32) -> bool {
        match self.get(signal).handler {
            IGNORE => !matches!(signal, SIGKILL | SIGSTOP),
            DEFAULT => is_ignored_by_default(signal),
            _ => false,
        }
    }
}

/// Ignored, or would stop the process, which is not possible here.
fn is_ignored_by_default(signal: u32) -> bool {
    matches!(
        signal,
        SIGCHLD | SIGURG | SIGWINCH | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU
    )
}

/// Waiting signals: standard ones once, real-time ones in order.
#[derive(Debug, Default)]
pub struct Queue {
    set: AtomicU64,
    infos: Lock<VecDeque<SigInfo>>,
}

/// Most queued signals.
const QUEUE_MAX: usize = 1024;
/// First real-time signal.
const REALTIME: u32 = 32;

impl Queue {
    /// Which signals wait (bit n-1 = signal n).
    #[must_use]
    pub fn set(&self) -> u64 {
        self.set.load(Ordering::Acquire)
    }

    /// Adds a signal; a standard one that waits already is not added again.
    pub fn push(&self, info: SigInfo) {
        let mut infos = self.infos.lock();
        let waits = self.set() & bit(info.signal) != 0;
        if (info.signal >= REALTIME || !waits) && infos.len() < QUEUE_MAX {
            infos.push_back(info);
        }
        self.set.fetch_or(bit(info.signal), Ordering::AcqRel);
    }

    /// Takes the lowest signal of `wanted`.
    pub fn take(&self, wanted: u64) -> Option<SigInfo> {
        let mut infos = self.infos.lock();
        let ready = self.set() & wanted;
        if ready == 0 {
            return None;
        }
        let signal = ready.trailing_zeros() + 1;
        let at = infos.iter().position(|info| info.signal == signal);
        let info = at
            .and_then(|at| infos.remove(at))
            .unwrap_or_else(|| SigInfo::kernel(signal));
        if !infos.iter().any(|other| other.signal == signal) {
            self.set.fetch_and(!bit(signal), Ordering::AcqRel);
        }
        Some(info)
    }

    /// Forgets a signal.
    pub fn discard(&self, signal: u32) {
        let mut infos = self.infos.lock();
        infos.retain(|info| info.signal != signal);
        self.set.fetch_and(!bit(signal), Ordering::AcqRel);
    }
}

/// An alternate signal stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Altstack {
    /// Lowest address.
    pub start: u64,
    /// Length.
    pub size: u64,
    /// SS_DISABLE, SS_AUTODISARM.
    pub flags: u32,
}

/// No alternate stack.
pub const SS_DISABLE: u32 = 2;
/// The alternate stack is in use.
pub const SS_ONSTACK: u32 = 1;
/// It is disarmed while a handler runs.
pub const SS_AUTODISARM: u32 = 1 << 31;

impl Default for Altstack {
    fn default() -> Self {
        Self {
            start: 0,
            size: 0,
            flags: SS_DISABLE,
        }
    }
}

impl Altstack {
    /// Whether `rsp` lies on it.
    #[must_use]
    pub fn holds(&self, rsp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0
            && self.is_set()
            && rsp > self.start
            && rsp - self.start <= self.size
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flags & SS_DISABLE == 0 && self.size > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_signals_wait_once_and_realtime_ones_queue() {
        let queue = Queue::default();
        for pid in 1..=3 {
            queue.push(SigInfo::user(SIGHUP, SI_USER, pid));
            queue.push(SigInfo::user(40, SI_USER, pid));
        }
        assert_eq!(queue.take(!0), Some(SigInfo::user(SIGHUP, SI_USER, 1)));
        for pid in 1..=3 {
            assert_eq!(queue.take(!0), Some(SigInfo::user(40, SI_USER, pid)));
        }
        assert_eq!(queue.take(!0), None);
        assert_eq!(queue.set(), 0);
    }

    #[test]
    fn only_wanted_signals_are_taken() {
        let queue = Queue::default();
        queue.push(SigInfo::kernel(SIGALRM));
        assert_eq!(queue.take(!bit(SIGALRM)), None);
        assert_eq!(
            queue.take(bit(SIGALRM)).map(|info| info.signal),
            Some(SIGALRM)
        );
    }
}
