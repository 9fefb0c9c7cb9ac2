// SPDX-License-Identifier: Apache-2.0
//! Whether an interrupted call starts again (signal(7)).

use crate::errno::Errno;
use crate::process::frame::{Frame, NO_CALL, REASON_SYSCALL};

/// From the return address of a stub back to its first instruction that enters
/// the kernel: `lea` and `jmp`.
const STUB: u64 = 13;
/// Length of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// Calls that return EINTR to a handler even with SA_RESTART: those with
/// timeouts, and those whose point is to wait for a signal.
fn never_restarts(number: u64) -> bool {
    matches!(
        number,
        7 | 23 | 232 | 270 | 271 | 281 | 441 // poll, select, epoll_wait and kin
            | 34 | 128 | 130 // pause, rt_sigtimedwait, rt_sigsuspend
            | 35 | 230 // nanosleep, clock_nanosleep
            | 202 // futex: with a timeout; without one Linux restarts, which callers cannot tell from a spurious wake
    )
}

fn is_interrupted(frame: &Frame) -> bool {
    frame.orig_rax != NO_CALL && frame.rax == i64::from(-Errno::EINTR.number()).cast_unsigned()
}

fn rewind(frame: &mut Frame) {
    frame.rax = frame.orig_rax;
    frame.rip -= if frame.reason == REASON_SYSCALL {
        STUB
    } else {
        SYSCALL
    };
}

/// A handler is about to run: the call starts again afterwards if SA_RESTART is
/// set and the call allows it.
pub fn for_handler(frame: &mut Frame, restart: bool) {
    if is_interrupted(frame) && restart && !never_restarts(frame.orig_rax) {
        rewind(frame);
    }
    frame.orig_rax = NO_CALL;
}

/// No handler has run: the program must not notice that anything happened.
pub fn unless_handled(frame: &mut Frame) {
    if is_interrupted(frame) {
        rewind(frame);
    }
    frame.orig_rax = NO_CALL;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupted(number: u64, reason: u64) -> Frame {
        Frame {
            orig_rax: number,
            rax: (-4_i64).cast_unsigned(),
            rip: 0x1000,
            reason,
            ..Frame::default()
        }
    }

    #[test]
    fn without_a_handler_every_call_starts_again() {
        let mut frame = interrupted(35, REASON_SYSCALL);
        unless_handled(&mut frame);
        assert_eq!(
            (frame.rax, frame.rip, frame.orig_rax),
            (35, 0x1000 - 13, NO_CALL)
        );
        let mut frame = interrupted(0, crate::process::frame::REASON_TRAP);
        unless_handled(&mut frame);
        assert_eq!((frame.rax, frame.rip), (0, 0x1000 - 2));
    }

    #[test]
    fn a_handler_sees_eintr_unless_it_asked_for_restart() {
        let mut frame = interrupted(0, REASON_SYSCALL);
        for_handler(&mut frame, false);
        assert_eq!((frame.rax, frame.rip), ((-4_i64).cast_unsigned(), 0x1000));
        let mut frame = interrupted(0, REASON_SYSCALL);
        for_handler(&mut frame, true);
        assert_eq!(frame.rax, 0);
        let mut frame = interrupted(7, REASON_SYSCALL);
        for_handler(&mut frame, true);
        assert_eq!(frame.rip, 0x1000, "poll never restarts");
    }

    #[test]
    fn results_other_than_eintr_stay() {
        let mut frame = interrupted(0, REASON_SYSCALL);
        frame.rax = 7;
        unless_handled(&mut frame);
        assert_eq!((frame.rax, frame.rip), (7, 0x1000));
    }
}
