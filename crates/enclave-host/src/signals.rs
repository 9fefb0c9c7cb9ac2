// SPDX-License-Identifier: Apache-2.0
//! Signals that the program may hear of, and the kick.
//!
//! A signal only ever leaves a bit in the pending word of the thread that it
//! interrupted. The word keeps that thread out of the enclave and out of
//! blocking calls until its loop has taken the bits and carries them inside as
//! hints. No signal can be lost between a check and a wait: the entry and the
//! blocking call check the word in their last instructions before the point of
//! no return, and the handler moves RIP away when it finds it there.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::call::HINT_MASK;

use crate::interrupt;
use crate::threads::ThreadState;

/// The bit of a kick in a pending word; no signal has it.
pub const KICK: u64 = 1 << 63;

/// The signal behind [`KICK`]: the first that the C library leaves free.
#[must_use]
pub fn kick_signal() -> i32 {
    libc::SIGRTMIN() + 1
}

thread_local! {
    /// This thread's state while it serves the enclave.
    static CURRENT: Cell<*const ThreadState> = const { Cell::new(std::ptr::null()) };
}

static REAP: AtomicBool = AtomicBool::new(false);

/// Signals that are passed on: those of [`HINT_MASK`] that this process does
/// not ignore (a program started by `nohup` must not hear SIGHUP), and the kick.
///
/// # Errors
/// What `sigaction` refuses.
pub fn forwarded() -> io::Result<Vec<i32>> {
    let mut out = vec![kick_signal()];
    for signal in (1..=63).filter(|signal| HINT_MASK & bit(*signal) != 0) {
        // SAFETY: an all-zero sigaction is valid; only read below.
        let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks for the current disposition.
        if unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut current) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if current.sa_sigaction != libc::SIG_IGN {
            out.push(signal);
        }
    }
    Ok(out)
}

/// Ignores SIGPIPE (writes return EPIPE) and, as PID 1, reaps orphans.
pub fn settle_process() {
    // SAFETY: changes a disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    REAP.store(std::process::id() == 1, Ordering::Relaxed);
}

/// Blocks or unblocks `signals` in the calling thread.
pub fn set_blocked(signals: &[i32], blocked: bool) {
    let how = if blocked {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    // SAFETY: a zeroed set is initialised by sigemptyset next.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid value.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: as above.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: changes this thread's mask.
    unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
}

/// Makes `state` the calling thread's own until the result is dropped.
/// Forwarded signals must be blocked now and when it is dropped.
#[must_use]
pub fn adopt(state: &Arc<ThreadState>) -> Adopted {
    CURRENT.with(|current| current.set(Arc::as_ptr(state)));
    Adopted {
        _state: Arc::clone(state),
    }
}

/// See [`adopt`].
#[derive(Debug)]
pub struct Adopted {
    _state: Arc<ThreadState>,
}

impl Drop for Adopted {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(std::ptr::null()));
    }
}

/// The handler's part that belongs to the host; the backend has left the
/// enclave before.
///
/// # Safety
/// `context` is the frame that the kernel made for this handler.
pub unsafe extern "C" fn on_signal(
    signal: i32,
    _info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    if signal == libc::SIGCHLD && REAP.load(Ordering::Relaxed) {
        reap();
    }
    let bits = if signal == kick_signal() {
        KICK
    } else {
        bit(signal)
    };
    CURRENT.with(|current| {
        // SAFETY: null or the state that `adopt` keeps alive on this thread.
        if let Some(state) = unsafe { current.get().as_ref() } {
            state.pending().fetch_or(bits, Ordering::SeqCst);
        }
    });
    // SAFETY: the caller's promise; nobody else uses the frame.
    let gregs = unsafe { &mut (*context).uc_mcontext.gregs };
    let Some(rip) = usize::try_from(libc::REG_RIP)
        .ok()
        .and_then(|at| gregs.get_mut(at))
    else {
        return;
    };
    if let Some(target) = interrupt::fix_up(rip.cast_unsigned()) {
        *rip = target.cast_signed();
    }
}

fn reap() {
    loop {
        // SAFETY: collects whichever child has ended; async-signal-safe.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } <= 0 {
            return;
        }
    }
}

/// Signal `signal` in a bitmap.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1).clamp(0, 62)
}

/// Ends the process as if `signal` had its default effect. PID 1 is immune to
/// signals without a handler, so it exits with 128 + signal.
pub fn die_by(signal: i32) -> ! {
    let core_free = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a core file of this process would hold enclave memory.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const core_free) };
    // SAFETY: restores the default disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    set_blocked(&[signal], false);
    // To this thread: it must not go on before the signal has had its effect.
    // SAFETY: sends the signal.
    unsafe { libc::raise(signal) };
    // Not reached unless the signal's default is harmless or this is PID 1.
    // SAFETY: ends the process without running anything else.
    unsafe { libc::_exit(128 + signal) }
}
