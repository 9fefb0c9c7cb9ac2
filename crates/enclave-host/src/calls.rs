// SPDX-License-Identifier: Apache-2.0
//! The host calls that the Linux kernel answers, one file per group. Calls that
//! concern threads, the enclave's memory or its end belong to the launcher's
//! loop.

mod descriptors;
mod files;
mod sockets;
mod time;

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use enclave_abi::call::Op;
use enclave_abi::start::LogLevel;

use crate::area::{CallArea, Errno};
use crate::interrupt::cancellable;
use crate::log;
use crate::private;
use crate::root::Root;

/// What calls need from the launcher.
#[derive(Debug)]
pub struct Host {
    /// Where paths start.
    pub root: Arc<Root>,
    /// What keeps the calling thread from blocking: see `signals`.
    pub pending: Arc<AtomicU64>,
    /// How to lie.
    #[cfg(feature = "hostile")]
    pub plan: Option<Arc<crate::hostile::Plan>>,
}

impl Host {
    /// The same for another thread.
    #[must_use]
    pub fn of_thread(&self, pending: &Arc<AtomicU64>) -> Self {
        Self {
            root: Arc::clone(&self.root),
            pending: Arc::clone(pending),
            #[cfg(feature = "hostile")]
            plan: self.plan.clone(),
        }
    }
}

/// Answers a call whose number is `op`. `None`: the call is not one of these.
pub fn serve(host: &Host, op: Op, area: &mut CallArea) -> Option<i64> {
    let result = match op as u64 {
        0..=15 if matches!(op, Op::Log | Op::Complain) => say(op, area),
        32..=63 => files::serve(host, op, area),
        64..=79 => descriptors::serve(host, op, area),
        80..=95 => sockets::serve(host, op, area),
        96..=111 => time::serve(op, area),
        _ => return None,
    };
    Some(result.unwrap_or_else(|errno| -i64::from(errno)))
}

/// What one call gives.
type Answer = Result<i64, Errno>;

/// Descriptor in word `index`, unless it is one of the launcher's own.
fn fd<'a>(host: &Host, area: &CallArea, index: usize) -> Result<BorrowedFd<'a>, Errno> {
    let fd = raw_fd(host, area, index)?;
    // SAFETY: the descriptor is only used by the call that is being served. If
    // the enclave named one that is not open, Linux says EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

fn raw_fd(_host: &Host, area: &CallArea, index: usize) -> Result<RawFd, Errno> {
    match RawFd::try_from(area.word(index)) {
        Ok(fd) if (0..private::first()).contains(&fd) => Ok(fd),
        _ => Err(libc::EBADF),
    }
}

/// A system call's result as a host call's.
fn answer(result: i64) -> Answer {
    if result < 0 {
        Err(-result as Errno)
    } else {
        Ok(result)
    }
}

/// A system call that must not sleep through a signal.
///
/// # Safety
/// As for the system call itself.
unsafe fn blocking(host: &Host, number: i64, args: [u64; 6]) -> Answer {
    // SAFETY: the caller's word.
    answer(unsafe { cancellable(&host.pending, number, args) })
}

/// A `struct timespec` for a timeout in ns; `u64::MAX` means none.
fn timeout(ns: u64) -> Option<libc::timespec> {
    (ns != u64::MAX).then_some(libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    })
}

/// A descriptor that Linux has just made, on its way into the enclave.
fn new_fd(fd: RawFd) -> Answer {
    if fd < private::first() {
        return Ok(i64::from(fd));
    }
    // SAFETY: made for the enclave, which never hears of it.
    unsafe { libc::close(fd) };
    Err(libc::EMFILE)
}

fn say(op: Op, area: &CallArea) -> Answer {
    let text = area.input(1)?;
    let text = text.get(..text.len().min(4096)).unwrap_or_default();
    // Control characters would let an enclave forge other lines of the log.
    let shown: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let level = match op {
        Op::Complain => LogLevel::Fatal,
        _ => u8::try_from(area.word(0))
            .ok()
            .and_then(LogLevel::from_number)
            .unwrap_or(LogLevel::Trace),
    };
    log::write(level, format_args!("enclave: {}", shown.trim_end()));
    Ok(0)
}
