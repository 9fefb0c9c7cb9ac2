// SPDX-License-Identifier: Apache-2.0
//! Sending signals.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{Action, DEFAULT, IGNORE, SigInfo, bit};
use crate::context::Context;
use crate::host::Machine;
use crate::process::{Process, Task};

/// Sends to one thread.
pub fn to_task(machine: &dyn Machine, task: &Task, info: SigInfo) {
    let blocked = task.mask.load(Ordering::Acquire) & bit(info.signal) != 0;
    if !blocked && task.process.actions.lock().ignores(info.signal) {
        return;
    }
    task.pending.push(info);
    if let Some(cpu) = machine.cpu()
        && !blocked
    {
        cpu.attention(task);
    }
}

/// Sends to a process: to any thread that does not block the signal.
pub fn to_process(machine: &dyn Machine, process: &Arc<Process>, info: SigInfo) {
    let tasks = process.tasks.lock().clone();
    let open = tasks
        .iter()
        .find(|task| task.mask.load(Ordering::Acquire) & bit(info.signal) == 0);
    if open.is_some() && process.actions.lock().ignores(info.signal) {
        return;
    }
    process.pending.push(info);
    if let (Some(task), Some(cpu)) = (open, machine.cpu()) {
        cpu.attention(task);
    }
}

/// A signal that the calling thread has earned at this very instruction. If it
/// is blocked or ignored the program dies of it, as in Linux.
pub fn force(cx: &Context<'_>, info: SigInfo) {
    let mut actions = cx.process().actions.lock();
    let blocked = cx.task.mask.load(Ordering::Acquire) & bit(info.signal) != 0;
    if blocked || actions.get(info.signal).handler == IGNORE {
        actions.set(
            info.signal,
            Action {
                handler: DEFAULT,
                ..Action::default()
            },
        );
        cx.task.mask.fetch_and(!bit(info.signal), Ordering::AcqRel);
    }
    drop(actions);
    cx.task.pending.push(info);
}

/// Turns the host's hints into signals: for the program, or for the agent while
/// there is none.
pub fn absorb_hints(machine: &dyn Machine) {
    let Some(cpu) = machine.cpu() else {
        return;
    };
    let mut hints = cpu.take_hints();
    while hints != 0 {
        let signal = hints.trailing_zeros() + 1;
        hints &= hints - 1;
        if let Some(process) = crate::process::all().into_iter().next_back() {
            to_process(machine, &process, SigInfo::user(signal, super::SI_USER, 0));
        }
    }
}
