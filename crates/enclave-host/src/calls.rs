// SPDX-License-Identifier: Apache-2.0
//! The host calls that the Linux kernel answers, one file per group. Calls that
//! concern threads, the enclave's memory or its end belong to the launcher's
//! loop.

mod descriptors;
mod files;
mod sockets;
mod time;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use enclave_abi::call::Op;

use crate::area::{CallArea, Errno};
use crate::interrupt::cancellable;
use crate::root::Root;

/// What calls need from the launcher.
#[derive(Debug)]
pub struct Host {
    /// Where paths start.
    pub root: Root,
    /// Descriptors of the launcher that enclaves must not use.
    pub private: BTreeSet<RawFd>,
    /// Signals that wait to be hinted at: bit n-1 = signal n.
    pub pending: AtomicU64,
    /// The launcher's own standard error, a private descriptor.
    pub log: Mutex<std::fs::File>,
}

/// Answers a call whose number is `op`. `None`: the call is not one of these.
pub fn serve(host: &Host, op: Op, area: &mut CallArea) -> Option<i64> {
    let result = match op as u64 {
        0..=15 if matches!(op, Op::Log | Op::Complain) => log(host, op, area),
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

fn raw_fd(host: &Host, area: &CallArea, index: usize) -> Result<RawFd, Errno> {
    match RawFd::try_from(area.word(index)) {
        Ok(fd) if fd >= 0 && !host.private.contains(&fd) => Ok(fd),
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
    (ns != u64::MAX).then(|| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    })
}

fn log(host: &Host, op: Op, area: &CallArea) -> Answer {
    let text = area.input(1)?;
    let text = text.get(..text.len().min(4096)).unwrap_or_default();
    // Control characters would let an enclave forge other lines of the log.
    let shown: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let level = match (op, area.word(0)) {
        (Op::Complain, _) => "FATAL",
        (_, 0) => "FATAL",
        (_, 1) => "ERROR",
        (_, 2) => "WARNING",
        (_, 3) => "INFO",
        (_, 4) => "DEBUG",
        _ => "TRACE",
    };
    if let Ok(mut out) = host.log.lock() {
        // A closed log must not stop the enclave.
        let _ = writeln!(out, "[ENSCONCE|{level}] enclave: {}", shown.trim_end());
    }
    Ok(0)
}
