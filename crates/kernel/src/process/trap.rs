// SPDX-License-Identifier: Apache-2.0
//! Stage 2 of exceptions: why a program stopped, and what becomes of it.
//!
//! A signal is delivered only if our own map, decoder and CPUID table say that
//! the program deserves it (rule S12); what they cannot explain is tried again,
//! a bounded number of times.

use core::sync::atomic::{AtomicU64, Ordering};

use enclave_abi::entry::AbortReason;
use enclave_abi::start::LogLevel;
use sgx::ssa::vector;

use super::frame::{Frame, NO_CALL, NO_VECTOR};
use crate::context::Context;
use crate::memory::fault::Outcome;
use crate::memory::pages::Prot;
use crate::signal::{self, SigInfo};

/// How often one page may fault in a row although it is there.
const SPURIOUS_MAX: u64 = 10_000;

/// Error-code bits of #PF (SDM vol. 3A §4.7).
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// The last page that faulted without a reason, and how often (low 16 bits).
static SPURIOUS: AtomicU64 = AtomicU64::new(0);

/// Serves a trap and whatever waits behind it.
pub fn enter(cx: &Context<'_>, frame: &mut Frame) {
    match frame.vector {
        NO_VECTOR => {}
        number => serve(cx, frame, number as u8),
    }
    signal::deliver::before_return(cx, frame);
}

fn serve(cx: &Context<'_>, frame: &mut Frame, number: u8) {
    match number {
        vector::PF => page_fault(cx, frame),
        vector::UD => undefined(cx, frame),
        vector::GP => force(
            cx,
            frame,
            SigInfo::fault(signal::SIGSEGV, signal::SI_KERNEL, 0),
        ),
        vector::DE => {
            let info = SigInfo::fault(signal::SIGFPE, signal::FPE_INTDIV, frame.rip);
            force(cx, frame, info);
        }
        vector::BP => {
            // SGX reports INT3 before it is executed.
            frame.rip += 1;
            force(
                cx,
                frame,
                SigInfo::fault(signal::SIGTRAP, signal::SI_KERNEL, 0),
            );
        }
        vector::DB => {
            let info = SigInfo::fault(signal::SIGTRAP, signal::TRAP_TRACE, frame.rip);
            force(cx, frame, info);
        }
        vector::MF | vector::XM => {
            let info = SigInfo::fault(signal::SIGFPE, signal::FPE_FLTINV, frame.rip);
            force(cx, frame, info);
        }
        vector::AC => {
            let info = SigInfo::fault(signal::SIGBUS, signal::BUS_ADRALN, 0);
            force(cx, frame, info);
        }
        _ => force(
            cx,
            frame,
            SigInfo::fault(signal::SIGSEGV, signal::SI_KERNEL, 0),
        ),
    }
}

fn page_fault(cx: &Context<'_>, frame: &mut Frame) {
    let addr = frame.address;
    let access = if frame.error & FETCH != 0 {
        Prot::X
    } else if frame.error & WRITE != 0 {
        Prot::W
    } else {
        Prot::R
    };
    let Some(memory) = crate::memory::current() else {
        return;
    };
    let segv = |code| SigInfo::fault(signal::SIGSEGV, code, addr);
    match memory.fault(cx.machine, addr, access) {
        Outcome::Resolved => {}
        Outcome::Spurious => spurious(cx, addr),
        Outcome::Unmapped => force(cx, frame, segv(signal::SEGV_MAPERR)),
        Outcome::Forbidden => force(cx, frame, segv(signal::SEGV_ACCERR)),
        Outcome::Bus => force(
            cx,
            frame,
            SigInfo::fault(signal::SIGBUS, signal::BUS_ADRERR, addr),
        ),
        Outcome::NoMemory => {
            // Linux would kill somebody, too.
            signal::deliver::kill(cx, signal::SIGKILL);
        }
    }
}

fn spurious(cx: &Context<'_>, addr: u64) {
    let page = addr & !0xffff;
    let before = SPURIOUS.load(Ordering::Relaxed);
    let count = if before & !0xffff == page {
        (before & 0xffff) + 1
    } else {
        1
    };
    if count >= SPURIOUS_MAX
        && let Some(cpu) = cx.machine.cpu()
    {
        cpu.abort(AbortReason::FaultInjected);
    }
    SPURIOUS.store(page | count, Ordering::Relaxed);
}

fn undefined(cx: &Context<'_>, frame: &mut Frame) {
    match cx.read_array::<2>(frame.rip) {
        Ok([0x0f, 0x05]) => {
            frame.rip += 2;
            frame.orig_rax = frame.rax;
            frame.rcx = frame.rip;
            frame.r11 = frame.rflags;
            crate::syscall::serve(cx, frame);
        }
        Ok([0x0f, 0xa2]) => {
            let xfrm = super::start::facts().map_or(0x3, |facts| facts.xfrm);
            super::cpuid::serve(frame, xfrm);
        }
        // RDTSC, RDTSCP and the like run inside an SGX2 enclave; what remains is
        // undefined, or forbidden there (IN, OUT, INT, SYSENTER).
        _ => {
            let info = SigInfo::fault(signal::SIGILL, signal::ILL_ILLOPN, frame.rip);
            force(cx, frame, info);
        }
    }
}

/// A signal that cannot be blocked or ignored: the program did it to itself.
fn force(cx: &Context<'_>, frame: &mut Frame, info: SigInfo) {
    frame.orig_rax = NO_CALL;
    crate::log::line(
        cx.machine,
        LogLevel::Debug,
        format_args!(
            "thread {}: signal {} for exception {} (error {:#x}) at {:#x}, about {:#x}, stack {:#x}",
            cx.task.tid,
            info.signal,
            frame.vector,
            frame.error,
            frame.rip,
            frame.address,
            frame.rsp,
        ),
    );
    signal::send::force(cx, info);
}
