// SPDX-License-Identifier: Apache-2.0
//! Blocking system calls that a signal cannot miss.
//!
//! A signal that arrives between looking at the pending bitmap and blocking
//! would be slept through. The check and the `syscall` instruction therefore lie
//! between two labels; the signal handler asks [`fix_up`] whether it interrupted
//! that range, and if so continues at the EINTR exit. Once inside the system
//! call Linux itself returns EINTR, because handlers are installed without
//! SA_RESTART.

use std::arch::global_asm;
use std::sync::atomic::AtomicU64;

global_asm!(
    ".pushsection .text.ensconce_cancellable, \"ax\", @progbits",
    ".global ensconce_cancellable",
    ".type ensconce_cancellable, @function",
    "ensconce_cancellable:",
    // rdi = pending bitmap, rsi = number and six arguments
    "push r12",
    "mov r12, rdi",
    "mov r11, rsi",
    "mov rax, [r11]",
    "mov rdi, [r11 + 8]",
    "mov rsi, [r11 + 16]",
    "mov rdx, [r11 + 24]",
    "mov r10, [r11 + 32]",
    "mov r8, [r11 + 40]",
    "mov r9, [r11 + 48]",
    ".global ensconce_cancellable_start",
    "ensconce_cancellable_start:",
    "cmp qword ptr [r12], 0",
    "jne ensconce_cancellable_interrupted",
    ".global ensconce_cancellable_end",
    "ensconce_cancellable_end:",
    "syscall",
    "pop r12",
    "ret",
    ".global ensconce_cancellable_interrupted",
    "ensconce_cancellable_interrupted:",
    "mov rax, -4", // -EINTR
    "pop r12",
    "ret",
    ".size ensconce_cancellable, . - ensconce_cancellable",
    ".popsection",
);

unsafe extern "C" {
    fn ensconce_cancellable(pending: *const AtomicU64, words: *const [u64; 7]) -> i64;
    static ensconce_cancellable_start: u8;
    static ensconce_cancellable_end: u8;
    static ensconce_cancellable_interrupted: u8;
}

/// Performs a system call unless a signal is pending; gives Linux's result, or
/// `-EINTR`.
///
/// # Safety
/// As for the system call itself: every pointer among `args` is valid for what
/// the call does with it.
pub unsafe fn cancellable(pending: &AtomicU64, number: i64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    let words = [number as u64, a, b, c, d, e, f];
    // SAFETY: both pointers are valid for the call; the rest is the caller's word.
    unsafe { ensconce_cancellable(pending, &raw const words) }
}

/// Where to continue if a signal interrupted the thread at `rip`: somewhere else
/// if it was about to block.
#[must_use]
pub fn fix_up(rip: u64) -> Option<u64> {
    let address = |label: *const u8| label as u64;
    let start = address(&raw const ensconce_cancellable_start);
    let end = address(&raw const ensconce_cancellable_end);
    (start..=end)
        .contains(&rip)
        .then(|| address(&raw const ensconce_cancellable_interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_signal_prevents_blocking() {
        let pending = AtomicU64::new(1);
        // SAFETY: pause takes no pointers.
        let result = unsafe { cancellable(&pending, libc::SYS_pause, [0; 6]) };
        assert_eq!(result, -i64::from(libc::EINTR));
    }

    #[test]
    fn without_a_signal_the_call_is_made() {
        let pending = AtomicU64::new(0);
        // SAFETY: getpid takes no pointers.
        let result = unsafe { cancellable(&pending, libc::SYS_getpid, [0; 6]) };
        assert_eq!(result, i64::from(std::process::id()));
    }

    #[test]
    fn only_the_window_is_fixed_up() {
        let start = &raw const ensconce_cancellable_start as u64;
        let end = &raw const ensconce_cancellable_end as u64;
        let exit = &raw const ensconce_cancellable_interrupted as u64;
        assert_eq!(fix_up(start), Some(exit));
        assert_eq!(
            fix_up(end),
            Some(exit),
            "the syscall instruction has not run yet"
        );
        assert_eq!(fix_up(end + 2), None, "the call's result must not be lost");
        assert_eq!(fix_up(start - 1), None);
    }
}
