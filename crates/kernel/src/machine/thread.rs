// SPDX-License-Identifier: Apache-2.0
//! The page behind GS: one thread's part of the machine.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use enclave_abi::layout::thread as area;

use crate::process::frame::Frame;

/// Offsets inside the page. Assembly uses them through `const` operands.
pub(crate) mod slot {
    pub(crate) const STATE: usize = 0x00;
    pub(crate) const HOST_RETURN: usize = 0x08;
    pub(crate) const HOST_RSP: usize = 0x10;
    pub(crate) const HOST_RBP: usize = 0x18;
    pub(crate) const KERNEL_RSP: usize = 0x20;
    pub(crate) const USER_RSP: usize = 0x28;
    pub(crate) const USER_RIP: usize = 0x30;
    pub(crate) const AREA: usize = 0x38;
    pub(crate) const TASK: usize = 0x40;
    pub(crate) const FRAME: usize = 0x48;
    pub(crate) const ATTENTION: usize = 0x50;
    pub(crate) const XFRM: usize = 0x58;
    /// State components in use when the thread left (32 bits).
    pub(crate) const INUSE: usize = 0x60;
    /// MXCSR when the thread left (32 bits).
    pub(crate) const MXCSR: usize = 0x64;
    /// Extended state during host calls: by register, or in XSAVEC form if x87 is in use.
    pub(crate) const XSAVE: usize = 0x400;
}

/// What a thread may do at its next CSSA-0 entry.
pub(crate) mod state {
    /// Nothing: nobody started this thread, or it has ended.
    pub(crate) const FREE: u64 = 0;
    /// Enter for the first time.
    pub(crate) const STARTABLE: u64 = 1;
    /// Nothing: it is inside.
    pub(crate) const RUNNING: u64 = 2;
    /// Return from a host call.
    pub(crate) const CALLING: u64 = 3;
    /// Nothing: somebody inside prepares it for its first entry.
    pub(crate) const CLAIMED: u64 = 4;
}

/// Distance from the data page to the end of the kernel stack.
pub(crate) const KERNEL_STACK_TOP: usize =
    (area::KERNEL_STACK + area::KERNEL_STACK_SIZE - area::DATA) as usize;
/// Distance from the data page to the end of the exception stack.
pub(crate) const EXCEPTION_STACK_TOP: usize =
    (area::EXCEPTION_STACK + area::EXCEPTION_STACK_SIZE - area::DATA) as usize;
/// Distance from the data page down to the first SSA frame.
pub(crate) const SSA_BELOW: usize = (area::DATA - area::SSA) as usize;
/// Distance from the data page to the frame of a program's registers.
pub(crate) const FRAME_AT: usize = KERNEL_STACK_TOP - size_of::<Frame>();

/// A thread's data page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataPage(u64);

impl DataPage {
    /// The calling thread's page.
    pub(crate) fn current() -> Self {
        let base: u64;
        // SAFETY: reads a register that enclaves may read; the kernel owns GS.
        unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        Self(base)
    }

    /// The page of thread `index`; its pages must have been accepted.
    pub(crate) fn of(layout: &enclave_abi::layout::Layout, index: u32) -> Self {
        Self(layout.thread(index) + area::DATA)
    }

    pub(crate) fn addr(self) -> u64 {
        self.0
    }

    fn word(self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: a data page is accepted before its `DataPage` is made, stays for
        // the enclave's life, and its slots are only used as atomics or by assembly.
        unsafe { &*((self.0 as usize + offset) as *const AtomicU64) }
    }

    pub(crate) fn get(self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    pub(crate) fn set(self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Takes a free thread; the caller prepares it and sets its state.
    pub(crate) fn claim(self) -> bool {
        self.word(slot::STATE)
            .compare_exchange(
                state::FREE,
                state::CLAIMED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Takes back the permission to start; false if it has started.
    pub(crate) fn unstart(self) -> bool {
        self.word(slot::STATE)
            .compare_exchange(
                state::STARTABLE,
                state::CLAIMED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Asks the thread to look at its signals before it returns to the program.
    pub(crate) fn attention(self) -> &'static AtomicU32 {
        // SAFETY: as in `word`; the slot is used as 32 bits everywhere.
        unsafe { &*((self.0 as usize + slot::ATTENTION) as *const AtomicU32) }
    }

    /// Where the program's registers lie while its thread is in the kernel.
    pub(crate) fn frame(self) -> *mut Frame {
        (self.0 as usize + FRAME_AT) as *mut Frame
    }

    /// The first SSA frame.
    pub(crate) fn ssa(self) -> *mut u8 {
        (self.0 as usize - SSA_BELOW) as *mut u8
    }
}
