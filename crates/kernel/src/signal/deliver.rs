// SPDX-License-Identifier: Apache-2.0
//! Delivery: the last thing before a thread returns to its program.

use core::sync::atomic::Ordering;

use super::{
    Action, DEFAULT, IGNORE, SigInfo, UNBLOCKABLE, bit, frame as signal_frame,
    is_ignored_by_default, sa,
};
use crate::context::Context;
use crate::process::exit;
use crate::process::frame::{Frame, NO_CALL};
use crate::syscall::restart;

/// Delivers what waits; ends the thread if it must.
pub fn before_return(cx: &Context<'_>, frame: &mut Frame) {
    loop {
        super::send::absorb_hints(cx.machine);
        if exit::is_dying(cx.task) {
            exit::thread(cx, 0);
        }
        let wanted = !cx.task.mask.load(Ordering::Acquire) | UNBLOCKABLE;
        let next = cx
            .task
            .pending
            .take(wanted)
            .or_else(|| cx.process().pending.take(wanted));
        let Some(info) = next else {
            break;
        };
        let action = cx.process().actions.lock().get(info.signal);
        match action.handler {
            IGNORE => {}
            DEFAULT if is_ignored_by_default(info.signal) => {}
            DEFAULT => kill(cx, info.signal),
            _ => {
                handle(cx, frame, &info, action);
                // Further signals interrupt the handler at its first instruction.
                continue;
            }
        }
    }
    // Nothing (more) to run: an interrupted call goes on.
    restart::unless_handled(frame);
    if let Some(mask) = cx.task.saved_mask.lock().take() {
        cx.task.mask.store(mask, Ordering::Release);
        if cx.task.interrupted() {
            before_return(cx, frame);
        }
    }
}

/// Ends the program by a signal.
pub fn kill(cx: &Context<'_>, signal: u32) -> ! {
    exit::process(cx, signal & 0x7f)
}

fn handle(cx: &Context<'_>, frame: &mut Frame, info: &SigInfo, action: Action) {
    restart::for_handler(frame, action.flags & sa::RESTART != 0);
    frame.orig_rax = NO_CALL;
    let saved = cx.task.saved_mask.lock().take();
    let old = cx.task.mask.load(Ordering::Acquire);
    let in_frame = saved.unwrap_or(old);
    if action.flags & sa::RESETHAND != 0 {
        cx.process()
            .actions
            .lock()
            .set(info.signal, Action::default());
    }
    if signal_frame::push(cx, frame, info, &action, in_frame).is_err() {
        crate::log::line(
            cx.machine,
            enclave_abi::start::LogLevel::Debug,
            format_args!("no room for a signal frame at {:#x}", frame.rsp),
        );
        // No room for the frame: Linux sends SIGSEGV, and its handler has none either.
        kill(cx, super::SIGSEGV);
    }
    let mut mask = old | action.mask;
    if action.flags & sa::NODEFER == 0 {
        mask |= bit(info.signal);
    }
    cx.task.mask.store(mask & !UNBLOCKABLE, Ordering::Release);
}
