// SPDX-License-Identifier: Apache-2.0
//! One logical processor: a host thread that may enter one TCS.

pub(crate) mod aex;
pub(crate) mod block;
pub(crate) mod switch;

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sgx::PAGE_SIZE;
use sgx::secinfo::PageFlags;
use thiserror::Error;

use crate::enclave::{EmulatedEnclave, Thread};
use crate::memory::Mapping;
use crate::platform;
use block::{ALT_STACK_OFFSET, Block, GUARD_LEN, GUARD_OFFSET, REGION};

/// Why a host thread cannot become a processor for a TCS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no TCS at that address.
    #[error("no TCS lies at {tcs:#x}")]
    NoTcs {
        /// The address.
        tcs: u64,
    },
    /// Another thread is in it: try again.
    #[error("the TCS at {tcs:#x} is busy")]
    Busy {
        /// The address.
        tcs: u64,
    },
    /// The kernel refuses Syscall User Dispatch.
    #[error(
        "the kernel refuses Syscall User Dispatch (prctl 59); a seccomp profile may forbid it, or Linux is older than 5.11"
    )]
    SyscallDispatch(#[source] io::Error),
    /// The kernel or CPU does not let user code set FS and GS.
    #[error(
        "the kernel does not enable FSGSBASE (Linux 5.9 or later and a CPU that has it are needed)"
    )]
    FsGsBase,
    /// CPUID faulting was asked for and is refused.
    #[error(
        "CPUID faulting (arch_prctl ARCH_CPUID) is refused; this CPU or hypervisor lacks it, or a seccomp profile forbids it"
    )]
    CpuidFaulting(#[source] io::Error),
    /// No memory for the processor's state.
    #[error("no memory for the emulated processor")]
    Memory(#[from] io::Error),
}

/// How an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// EEXIT; the enclave's RDI and RSI.
    Exit {
        /// RDI.
        number: u64,
        /// RSI.
        argument: u64,
    },
    /// An asynchronous exit: CSSA has risen by one.
    Asynchronous {
        /// Whether an exception caused it, rather than a signal: resuming alone
        /// would raise it again.
        exception: bool,
    },
    /// A signal arrived first; the enclave was not entered.
    NotEntered,
    /// The instruction faulted (no free SSA frame, SSA not accessible, invalid
    /// state to resume).
    Refused,
}

/// What to do about CPUID inside the enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpuid {
    /// It raises an exception, as on silicon; refuse to run otherwise.
    Fault,
    /// It shows the machine's CPU.
    Native,
}

/// A host thread attached to a TCS. It cannot leave its thread.
#[derive(Debug)]
pub struct Processor {
    region: Mapping,
    enclave: Arc<EmulatedEnclave>,
    thread: Arc<Thread>,
    pending: Arc<AtomicU64>,
    old_stack: libc::stack_t,
    cpuid: Cpuid,
    stay: PhantomData<*mut ()>,
}

impl Processor {
    /// Makes the calling thread a processor for the TCS at `tcs`.
    ///
    /// `pending` is where the owner's signal handler leaves work: while it is
    /// not zero the enclave is not entered.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(
        enclave: &Arc<EmulatedEnclave>,
        tcs: u64,
        pending: &Arc<AtomicU64>,
        cpuid: Cpuid,
    ) -> Result<Self, AttachError> {
        if !platform::has_fsgsbase() {
            return Err(AttachError::FsGsBase);
        }
        let thread = enclave
            .threads
            .get(&tcs)
            .ok_or(AttachError::NoTcs { tcs })?;
        let region = Mapping::aligned(REGION)?;
        let guard = region.start() + GUARD_OFFSET;
        // SAFETY: pages of the region made above, which nothing uses yet.
        if unsafe { libc::mprotect(guard as *mut _, GUARD_LEN, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
        if thread
            .busy
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(AttachError::Busy { tcs });
        }
        let mut processor = Self {
            region,
            enclave: Arc::clone(enclave),
            thread: Arc::clone(thread),
            pending: Arc::clone(pending),
            old_stack: EMPTY_STACK,
            cpuid: Cpuid::Native,
            stay: PhantomData,
        };
        processor.fill_block(tcs);
        processor.take_alt_stack()?;
        platform::dispatch_syscalls_below(enclave.size()).map_err(AttachError::SyscallDispatch)?;
        if cpuid == Cpuid::Fault {
            platform::set_cpuid_faulting(true).map_err(AttachError::CpuidFaulting)?;
            processor.cpuid = cpuid;
        }
        if let Some(cell) = enclave.block_cell(thread.tcs.ogsbase) {
            cell.store(processor.region.start() as u64, Ordering::Release);
        }
        Ok(processor)
    }

    fn block(&self) -> *mut Block {
        self.region.start() as *mut Block
    }

    fn fill_block(&mut self, tcs: u64) {
        let (host_fs, host_gs) = platform::segment_bases();
        let layout = &self.thread.tcs;
        let start = self.region.start() as u64;
        // SAFETY: the region starts with a zeroed block that only this thread
        // and its own signal handlers touch.
        let block = unsafe { &mut *self.block() };
        block.magic = block::MAGIC;
        block.host_fs = host_fs;
        block.host_gs = host_gs;
        block.aep = switch::aep_address();
        block.switch_rsp = start + block::SWITCH_STACK_TOP as u64;
        block.entry = layout.oentry;
        block.tcs = tcs;
        block.fs_base = layout.ofsbase;
        block.gs_base = layout.ogsbase;
        block.xmask = self.enclave.secs().attributes.xfrm;
        block.pending = Arc::as_ptr(&self.pending) as u64;
        block.enclave = Arc::as_ptr(&self.enclave) as u64;
        block.ossa = layout.ossa;
        block.nssa = u64::from(layout.nssa);
        block.set_cssa(self.thread.cssa.load(Ordering::Relaxed).into());
    }

    fn take_alt_stack(&mut self) -> io::Result<()> {
        let stack = libc::stack_t {
            ss_sp: (self.region.start() + ALT_STACK_OFFSET) as *mut _,
            ss_flags: 0,
            ss_size: REGION - ALT_STACK_OFFSET,
        };
        // SAFETY: the stack lies in the region, which outlives its use: `drop`
        // puts the old one back.
        if unsafe { libc::sigaltstack(&raw const stack, &raw mut self.old_stack) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// EENTER with these values in RDI, RSI and RDX.
    pub fn enter(&mut self, rdi: u64, rsi: u64, rdx: u64) -> Outcome {
        let (cssa, ssa) = {
            // SAFETY: this thread's own block; the reference ends here.
            let block = unsafe { &*self.block() };
            (block.cssa, block.ssa)
        };
        if cssa >= u64::from(self.thread.tcs.nssa) || !self.frame_is_usable(ssa) {
            return Outcome::Refused;
        }
        #[cfg(feature = "hostile")]
        if self.enclave.is_attacked() {
            crate::hostile::single_step(true);
        }
        // SAFETY: the block is filled, the SSA frame usable, the enclave alive;
        // the assembly keeps the C calling convention.
        let values = unsafe { switch::enter(self.block(), rdi, rsi, rdx) };
        #[cfg(feature = "hostile")]
        if self.enclave.is_attacked() {
            crate::hostile::single_step(false);
        }
        self.outcome(values)
    }

    /// ERESUME.
    pub fn resume(&mut self) -> Outcome {
        let (cssa, frame) = {
            // SAFETY: this thread's own block; the reference ends here.
            let block = unsafe { &mut *self.block() };
            if block.cssa == 0 {
                return Outcome::Refused;
            }
            block.set_cssa(block.cssa - 1);
            (block.cssa, block.ssa)
        };
        let outcome = if self.frame_is_usable(frame) {
            #[cfg(feature = "hostile")]
            if let Some(exception) = crate::hostile::resume(&self.enclave, frame) {
                // SAFETY: as above.
                unsafe { &mut *self.block() }.set_cssa(cssa + 1);
                return Outcome::Asynchronous { exception };
            }
            // SAFETY: as for `enter`; an invalid state in the frame faults in the
            // assembly, whose addresses the signal handler knows.
            let values = unsafe { switch::resume(self.block(), frame) };
            self.outcome(values)
        } else {
            Outcome::Refused
        };
        if matches!(outcome, Outcome::NotEntered | Outcome::Refused) {
            // SAFETY: as above.
            unsafe { &mut *self.block() }.set_cssa(cssa + 1);
        }
        outcome
    }

    fn frame_is_usable(&self, ssa: u64) -> bool {
        let usable = PageFlags::R | PageFlags::W;
        self.enclave
            .epcm
            .get(ssa)
            .is_some_and(|entry| entry.allows(usable))
            && self.enclave.catch_up_with(ssa)
    }

    fn outcome(&self, values: switch::Values) -> Outcome {
        // SAFETY: this thread's own block; the assembly has stored the kind.
        let block = unsafe { &*self.block() };
        match block.outcome {
            block::OUTCOME_EXIT => Outcome::Exit {
                number: values.number,
                argument: values.argument,
            },
            block::OUTCOME_AEX => Outcome::Asynchronous {
                exception: block.exception != 0,
            },
            block::OUTCOME_NOT_ENTERED => Outcome::NotEntered,
            _ => Outcome::Refused,
        }
    }

    /// CSSA: how many SSA frames hold interrupted state.
    #[must_use]
    pub fn cssa(&self) -> u64 {
        // SAFETY: this thread's own block.
        unsafe { &*self.block() }.cssa
    }

    /// The address of SSA frame `index` of this TCS.
    #[must_use]
    pub fn ssa_frame(&self, index: u64) -> u64 {
        self.thread.tcs.ossa + index * PAGE_SIZE as u64
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if let Some(cell) = self.enclave.block_cell(self.thread.tcs.ogsbase) {
            let mine = self.region.start() as u64;
            let _ = cell.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
        }
        // SAFETY: this thread's own block.
        let cssa = unsafe { &*self.block() }.cssa;
        self.thread
            .cssa
            .store(u32::try_from(cssa).unwrap_or(u32::MAX), Ordering::Relaxed);
        let _ = platform::allow_all_syscalls();
        if self.cpuid == Cpuid::Fault {
            let _ = platform::set_cpuid_faulting(false);
        }
        let mut stack = self.old_stack;
        if stack.ss_sp.is_null() {
            stack.ss_flags = libc::SS_DISABLE;
        }
        // SAFETY: puts back what `attach` replaced.
        unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
        self.thread.busy.store(false, Ordering::Release);
    }
}

const EMPTY_STACK: libc::stack_t = libc::stack_t {
    ss_sp: std::ptr::null_mut(),
    ss_flags: libc::SS_DISABLE,
    ss_size: 0,
};
