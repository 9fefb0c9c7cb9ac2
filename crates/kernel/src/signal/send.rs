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
    let process = &task.process;
    if is_lost(process, task.mask.load(Ordering::Acquire), info.signal) {
        return;
    }
    task.pending.push(info);
    if let Some(cpu) = machine.cpu()
        && task.open() & bit(info.signal) != 0
    {
        cpu.attention(task);
    }
    process.arrivals.wake_all(machine);
}

/// Sends to a process: to a thread that does not block the signal, if there is one.
pub fn to_process(machine: &dyn Machine, process: &Arc<Process>, info: SigInfo) {
    let tasks = process.tasks.lock().clone();
    let blocked = tasks
        .iter()
        .fold(!0, |all, task| all & task.mask.load(Ordering::Acquire));
    if is_lost(process, blocked, info.signal) {
        return;
    }
    process.pending.push(info);
    let chosen = tasks
        .iter()
        .find(|task| task.open() & bit(info.signal) != 0);
    if let (Some(task), Some(cpu)) = (chosen, machine.cpu()) {
        cpu.attention(task);
    }
    process.arrivals.wake_all(machine);
}

/// An ignored signal that nobody blocks vanishes at once; a blocked one waits,
/// because somebody may ask for it or change what it does.
fn is_lost(process: &Process, blocked: u64, signal: u32) -> bool {
    blocked & bit(signal) == 0 && process.actions.lock().ignores(signal)
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
        let running = crate::process::all();
        let last = running
            .iter()
            .rev()
            .find(|process| !process.tasks.lock().is_empty());
        if let Some(process) = last {
            to_process(machine, process, SigInfo::user(signal, super::SI_USER, 0));
        }
    }
}
