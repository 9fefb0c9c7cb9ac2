// SPDX-License-Identifier: Apache-2.0
//! Delivery and return of signals.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use enclave_abi::call::HINT_MASK;
use proptest::prelude::*;

use super::frame::{pop, push};
use super::*;
use crate::context::Context;
use crate::errno::Errno;
use crate::process::Task;
use crate::process::frame::{Frame, NO_CALL, NO_VECTOR, REASON_TRAP};
use crate::process::testing::{BASE, FakeCpu};

const STACK: u64 = BASE + 0x8_0000;

fn running() -> Frame {
    Frame {
        r15: 15,
        r8: 8,
        rax: 1,
        rbx: 3,
        rdi: 5,
        rip: 0x40_1000,
        rsp: STACK,
        rflags: 0x246,
        xmm: core::array::from_fn(|index| index as u128 * 0x1_0000_0001),
        reason: REASON_TRAP,
        orig_rax: NO_CALL,
        vector: NO_VECTOR,
        ..Frame::default()
    }
}

fn action(handler: u64, flags: u64) -> Action {
    Action {
        handler,
        flags,
        restorer: 0x40_2000,
        mask: bit(SIGHUP),
    }
}

fn install(task: &Arc<Task>, signal: u32, flags: u64) {
    task.process
        .actions
        .lock()
        .set(signal, action(0x40_3000, flags));
}

/// What `ret` of the handler and rt_sigreturn do.
fn leave_handler(cx: &Context<'_>, frame: &mut Frame) -> Result<(), Errno> {
    assert_eq!(
        cx.read_u64(frame.rsp).unwrap(),
        0x40_2000,
        "the return address"
    );
    frame.rsp += 8;
    pop(cx, frame)
}

#[test]
fn a_handler_runs_on_an_aligned_stack_below_the_red_zone_and_everything_returns() {
    let machine = FakeCpu::new(0xe7);
    let task = machine.task();
    let cx = machine.cx(&task);
    install(&task, SIGALRM, 0);
    task.raise(machine, SIGALRM);
    let mut frame = running();
    deliver::before_return(&cx, &mut frame);
    assert_eq!(frame.rip, 0x40_3000);
    assert_eq!(frame.rdi, u64::from(SIGALRM));
    assert_eq!(frame.rsp % 16, 8, "as after a call");
    assert!(frame.rsp + 440 + 128 <= STACK, "the red zone is untouched");
    let blocked = task.mask.load(Ordering::SeqCst);
    assert_eq!(blocked, bit(SIGALRM) | bit(SIGHUP));
    frame.xmm = [7; 16];
    frame.r15 = 0;
    leave_handler(&cx, &mut frame).unwrap();
    let before = running();
    assert_eq!(
        (frame.rip, frame.rsp, frame.rax, frame.r15),
        (before.rip, before.rsp, 1, 15)
    );
    assert_eq!(frame.xmm, before.xmm);
    assert_eq!(task.mask.load(Ordering::SeqCst), 0);
}

#[test]
fn nodefer_and_resethand_do_what_they_say() {
    let machine = FakeCpu::new(0x7);
    let task = machine.task();
    install(&task, SIGALRM, sa::NODEFER | sa::RESETHAND);
    task.raise(machine, SIGALRM);
    deliver::before_return(&machine.cx(&task), &mut running());
    assert_eq!(task.mask.load(Ordering::SeqCst), bit(SIGHUP));
    assert_eq!(task.process.actions.lock().get(SIGALRM).handler, DEFAULT);
}

#[test]
fn blocked_signals_wait_and_ignored_ones_vanish() {
    let machine = FakeCpu::new(0x7);
    let task = machine.task();
    let cx = machine.cx(&task);
    install(&task, SIGALRM, 0);
    task.mask.store(bit(SIGALRM), Ordering::SeqCst);
    task.raise(machine, SIGALRM);
    task.raise(machine, SIGCHLD);
    let mut frame = running();
    deliver::before_return(&cx, &mut frame);
    assert_eq!(frame.rip, running().rip);
    assert!(!task.interrupted());
    task.mask.store(0, Ordering::SeqCst);
    assert!(task.interrupted());
    deliver::before_return(&cx, &mut frame);
    assert_eq!(frame.rip, 0x40_3000);
    assert_eq!(task.pending.set(), 0, "SIGCHLD is ignored by default");
}

#[test]
fn the_alternate_stack_is_used_once_and_too_small_a_one_is_an_error() {
    let machine = FakeCpu::new(0x7);
    let task = machine.task();
    let cx = machine.cx(&task);
    *task.altstack.lock() = Altstack {
        start: BASE + 0x1000,
        size: 0x4000,
        flags: 0,
    };
    let mut frame = running();
    let onstack = action(0x40_3000, sa::ONSTACK);
    push(&cx, &mut frame, &SigInfo::kernel(SIGSEGV), &onstack, 0).unwrap();
    assert!((BASE + 0x1000..BASE + 0x5000).contains(&frame.rsp));
    let first = frame.rsp;
    push(&cx, &mut frame, &SigInfo::kernel(SIGBUS), &onstack, 0).unwrap();
    assert!(
        frame.rsp < first && frame.rsp > BASE + 0x1000,
        "nested on the same stack"
    );
    *task.altstack.lock() = Altstack {
        start: BASE + 0x1000,
        size: 0x400,
        flags: 0,
    };
    let mut frame = running();
    assert_eq!(
        push(&cx, &mut frame, &SigInfo::kernel(SIGSEGV), &onstack, 0),
        Err(Errno::EFAULT)
    );
}

#[test]
fn hints_of_the_host_are_only_those_of_the_closed_list() {
    assert_eq!(
        HINT_MASK & (bit(SIGSEGV) | bit(SIGILL) | bit(SIGFPE) | bit(SIGBUS) | bit(SIGTRAP)),
        0
    );
    assert_eq!(HINT_MASK & (bit(SIGKILL) | bit(SIGSTOP) | bit(SIGABRT)), 0);
}

#[test]
fn a_signal_earned_by_the_program_cannot_be_blocked_or_ignored_away() {
    let machine = FakeCpu::new(0x7);
    let task = machine.task();
    let cx = machine.cx(&task);
    install(&task, SIGSEGV, 0);
    task.mask.store(bit(SIGSEGV), Ordering::SeqCst);
    send::force(&cx, SigInfo::fault(SIGSEGV, SEGV_MAPERR, 5));
    assert_eq!(task.process.actions.lock().get(SIGSEGV).handler, DEFAULT);
    assert!(task.interrupted());
}

#[test]
fn awaited_signals_reach_a_thread_that_blocks_them() {
    let machine = FakeCpu::new(0x7);
    let task = machine.task();
    task.mask.store(bit(SIGCHLD), Ordering::SeqCst);
    task.raise(machine, SIGCHLD);
    assert!(!task.interrupted());
    task.awaited.store(bit(SIGCHLD), Ordering::SeqCst);
    assert!(task.interrupted(), "rt_sigtimedwait wakes up");
}

proptest! {
    /// Whatever a program writes into its frame, the CPU gets a well-formed area.
    #[test]
    fn forged_frames_load_only_well_formed_state(
        seed in proptest::collection::vec(any::<u8>(), 2752),
        wide: bool,
        fp_offset in 0..4096_u64,
    ) {
        let machine = FakeCpu::new(if wide { 0xe7 } else { 0x7 });
        let task = machine.task();
        let cx = machine.cx(&task);
        let mut frame = running();
        push(&cx, &mut frame, &SigInfo::kernel(SIGHUP), &action(1, 0), 0).unwrap();
        let base = frame.rsp;
        let fp = BASE + fp_offset * 64;
        cx.write(fp, &seed).unwrap();
        // Half of the forgeries claim to be extended.
        if seed[0] % 2 == 0 {
            cx.write_u32(fp + 464, 0x4650_5853).unwrap();
            cx.write_u64(fp + 480, if wide { 2688 } else { 832 }).unwrap();
        }
        cx.write_u64(base + 8 + 40 + 184, fp).unwrap();
        frame.rsp = base + 8;
        if pop(&cx, &mut frame).is_ok() {
            let loaded = machine.loaded.lock().unwrap().clone();
            let word = |at: usize| u64::from_le_bytes(loaded[at..at + 8].try_into().unwrap());
            prop_assert_eq!(word(512) & !machine.xfrm, 0, "XSTATE_BV within XFRM");
            prop_assert!(loaded[520..576].iter().all(|&b| b == 0), "standard form, reserved zero");
            let mxcsr = u32::from_le_bytes(loaded[24..28].try_into().unwrap());
            prop_assert_eq!(mxcsr & !0xffff, 0);
            prop_assert_eq!(frame.rflags & 0x3000, 0, "no I/O privilege");
            prop_assert_eq!(task.mask.load(Ordering::SeqCst) & UNBLOCKABLE, 0);
        }
    }
}
