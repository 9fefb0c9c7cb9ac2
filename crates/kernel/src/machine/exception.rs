// SPDX-License-Identifier: Apache-2.0
//! After an AEX. Stage 1 runs on the exception stack and touches only the SSA
//! and the thread's own frame: it either resumes, or points the interrupted
//! program's RIP at the kernel. Stage 2 runs where system calls run.
//!
//! What happened is taken from EXITINFO and EXINFO, which the CPU wrote, never
//! from the host's words (rule S12). An exception inside the kernel that is not
//! a copy from or to a program ends the enclave.

use core::sync::atomic::{AtomicU64, Ordering};

use enclave_abi::call::{HINT_MASK, Op};
use enclave_abi::entry::AbortReason;
use sgx::ssa::{EXINFO_OFFSET, ExitInfo, GPRSGX_OFFSET, gpr, vector};

use super::copy::{copy_bytes_out, copy_bytes_rep, copy_words_out, copy_words_rep};
use super::enclave::ENCLAVE;
use super::entry::{return_to_user, return_to_user_end, trap_entry};
use super::thread::{DataPage, slot};
use crate::context::Context;
use crate::host::Word;
use crate::process::Task;
use crate::process::frame::{Frame, NO_CALL, NO_VECTOR, REASON_TRAP};

/// Signals that the host has hinted at and nobody has looked at yet.
static HINTS: AtomicU64 = AtomicU64::new(0);

/// Notes the host's hints; the calling thread looks at them soon.
pub(crate) fn take_hints(hints: u64) {
    let hints = hints & HINT_MASK;
    if hints != 0 {
        HINTS.fetch_or(hints, Ordering::AcqRel);
        DataPage::current().attention().store(1, Ordering::Release);
    }
}

/// Hints noted since the last look.
pub(crate) fn drain_hints() -> u64 {
    if HINTS.load(Ordering::Acquire) == 0 {
        0
    } else {
        HINTS.swap(0, Ordering::AcqRel)
    }
}

/// Makes a task's thread look at its signals soon.
pub(crate) fn ask_attention(task: &Task) {
    let layout = &super::boot::facts().layout;
    let page = DataPage::of(layout, task.thread());
    page.attention().store(1, Ordering::Release);
    if page.addr() != DataPage::current().addr() {
        let thread = Word::Value(task.thread().into());
        // Parked: the token wakes it. Running or in a host call: the kick does.
        // The host may deny both, which it is free to do at any time.
        let _ = super::area::call(Op::Unpark, &mut [thread]);
        let words = &mut [Word::Value(0), Word::Value(task.thread().into())];
        let _ = super::area::call(Op::Kick, words);
    }
}

/// GPRSGX and EXINFO of the interrupted state.
struct Saved(*mut u8);

impl Saved {
    fn get(&self, offset: usize) -> u64 {
        let at = self.0.wrapping_add(offset).cast::<u64>();
        // SAFETY: the first SSA frame of this thread, which only this thread's
        // stage 1 touches while CSSA is 1.
        unsafe { at.read_unaligned() }
    }

    fn gpr(&self, register: usize) -> u64 {
        self.get(GPRSGX_OFFSET + register)
    }

    fn set(&self, register: usize, value: u64) {
        let at = self.0.wrapping_add(GPRSGX_OFFSET + register).cast::<u64>();
        // SAFETY: as in `get`.
        unsafe { at.write_unaligned(value) };
    }

    fn info(&self) -> ExitInfo {
        ExitInfo::from_bits(self.gpr(gpr::EXITINFO) as u32)
    }
}

fn is_program(rip: u64) -> bool {
    rip < super::boot::facts().layout.kernel
}

/// Stage 1.
#[unsafe(no_mangle)]
extern "C" fn kernel_exception(hints: u64) {
    let page = DataPage::current();
    take_hints(hints);
    let saved = Saved(page.ssa());
    let info = saved.info();
    let rip = saved.gpr(gpr::RIP);
    if info.valid {
        // Consumed: the same report must not be believed twice.
        saved.set(gpr::EXITINFO, saved.gpr(gpr::EXITINFO) & !(1 << 31));
        if is_program(rip) {
            redirect(page, &saved, info.vector.into());
        } else if info.vector == vector::PF {
            fix_copy(&saved, rip);
        } else {
            super::abort(AbortReason::KernelFault);
        }
        return;
    }
    if page.attention().load(Ordering::Acquire) == 0 {
        return;
    }
    if is_program(rip) {
        redirect(page, &saved, NO_VECTOR);
    } else if (return_to_user as *const () as u64..return_to_user_end as *const () as u64)
        .contains(&rip)
    {
        saved.set(gpr::RIP, return_to_user as *const () as u64);
    }
}

/// A fault in a copy from or to a program ends the copy early.
fn fix_copy(saved: &Saved, rip: u64) {
    let out = if rip == copy_bytes_rep as *const () as u64 {
        copy_bytes_out as *const () as u64
    } else if rip == copy_words_rep as *const () as u64 {
        copy_words_out as *const () as u64
    } else {
        super::abort(AbortReason::KernelFault);
    };
    saved.set(gpr::RIP, out);
}

/// Saves the program's registers and lets it continue in the kernel.
fn redirect(page: DataPage, saved: &Saved, vector: u64) {
    // SAFETY: a program was interrupted, so its thread is not in the kernel and
    // its frame is unused.
    let frame = unsafe { &mut *page.frame() };
    for (to, from) in [
        (&mut frame.r15, gpr::R15),
        (&mut frame.r14, gpr::R14),
        (&mut frame.r13, gpr::R13),
        (&mut frame.r12, gpr::R12),
        (&mut frame.rbp, gpr::RBP),
        (&mut frame.rbx, gpr::RBX),
        (&mut frame.r11, gpr::R11),
        (&mut frame.r10, gpr::R10),
        (&mut frame.r9, gpr::R9),
        (&mut frame.r8, gpr::R8),
        (&mut frame.rax, gpr::RAX),
        (&mut frame.rcx, gpr::RCX),
        (&mut frame.rdx, gpr::RDX),
        (&mut frame.rsi, gpr::RSI),
        (&mut frame.rdi, gpr::RDI),
        (&mut frame.rip, gpr::RIP),
        (&mut frame.rflags, gpr::RFLAGS),
        (&mut frame.rsp, gpr::RSP),
    ] {
        *to = saved.gpr(from);
    }
    frame.orig_rax = NO_CALL;
    frame.reason = REASON_TRAP;
    frame.vector = vector;
    frame.address = saved.get(EXINFO_OFFSET);
    frame.error = saved.get(EXINFO_OFFSET + 8) & 0xffff_ffff;
    saved.set(gpr::RIP, trap_entry as *const () as u64);
    // Flags for the kernel: nothing that single-steps, checks alignment or counts down.
    saved.set(gpr::RFLAGS, 2);
}

/// The calling thread's task.
fn task() -> &'static alloc::sync::Arc<Task> {
    let pointer = DataPage::current().get(slot::TASK) as *const alloc::sync::Arc<Task>;
    // SAFETY: set before the thread first ran, freed by itself at its very end.
    unsafe { &*pointer }
}

fn context() -> Context<'static> {
    Context {
        machine: &ENCLAVE,
        task: task(),
    }
}

/// A system call from a rewritten site.
#[unsafe(no_mangle)]
extern "C" fn kernel_syscall(frame: *mut Frame) {
    // SAFETY: the entry code passes this thread's frame, which nobody else uses now.
    let frame = unsafe { &mut *frame };
    crate::syscall::enter(&context(), frame);
}

/// Stage 2.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(frame: *mut Frame) {
    // SAFETY: as in `kernel_syscall`.
    let frame = unsafe { &mut *frame };
    crate::process::trap::enter(&context(), frame);
}

/// Something to look at before the program goes on.
#[unsafe(no_mangle)]
extern "C" fn kernel_attention(frame: *mut Frame) {
    DataPage::current().attention().store(0, Ordering::Release);
    // SAFETY: as in `kernel_syscall`.
    let frame = unsafe { &mut *frame };
    crate::signal::deliver::before_return(&context(), frame);
}
