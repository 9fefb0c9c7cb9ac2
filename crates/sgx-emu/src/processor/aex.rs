// SPDX-License-Identifier: Apache-2.0
//! What interrupts an enclave: the asynchronous exit and the trampoline's
//! leaves.

use std::sync::atomic::Ordering;

use sgx::PAGE_SIZE;
use sgx::attributes::MiscSelect;
use sgx::leaf::enclu;
use sgx::secinfo::PageFlags;
use sgx::ssa::{EXINFO_OFFSET, ExitInfo, GPRSGX_OFFSET, gpr, vector};

use super::block::{Block, RAX, RBP, RBX, RCX, RDX, REGION, RSP, Registers};
use crate::enclave::EmulatedEnclave;
use crate::leaf::{self, Fault, Operands};
use crate::memory::machine;

/// RFLAGS.TF.
pub(crate) const TRAP_FLAG: u64 = 1 << 8;
/// Bytes that the gate's jump replaces and after which the enclave continues.
const GATE_LEN: u64 = enclave_abi::entry::GATE_LEN as u64;

/// Order of `ucontext` registers (Linux `struct sigcontext`), as GPRSGX wants them.
pub(crate) const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// A signal frame's view of the interrupted thread.
pub(crate) struct Interrupted<'a> {
    pub(crate) context: &'a mut libc::ucontext_t,
    pub(crate) block: &'a mut Block,
    pub(crate) enclave: &'a EmulatedEnclave,
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
}

/// Why the enclave is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An interrupt: the enclave learns nothing.
    Interrupt,
    /// An exception that SGX reports to the enclave.
    Exception(Fault),
}

impl Interrupted<'_> {
    pub(crate) fn get(&self, register: i32) -> u64 {
        usize::try_from(register)
            .ok()
            .and_then(|at| self.context.uc_mcontext.gregs.get(at))
            .map_or(0, |value| value.cast_unsigned())
    }

    pub(crate) fn set(&mut self, register: i32, value: u64) {
        if let Some(cell) = usize::try_from(register)
            .ok()
            .and_then(|at| self.context.uc_mcontext.gregs.get_mut(at))
        {
            *cell = value.cast_signed();
        }
    }

    pub(crate) fn rip(&self) -> u64 {
        self.get(libc::REG_RIP)
    }

    /// The general registers as the signal found them.
    pub(crate) fn registers(&self) -> Registers {
        GREGS.map(|register| self.get(register))
    }

    /// AEX: saves state to the SSA and continues the host at AEP
    /// (SDM vol. 3D §39.4).
    pub(crate) fn exit(&mut self, cause: Cause, registers: &Registers, rip: u64, rflags: u64) {
        #[cfg(feature = "hostile")]
        let rflags = if self.enclave.is_attacked() {
            rflags & !TRAP_FLAG
        } else {
            rflags
        };
        let frame = self.block.ssa;
        let writable = self
            .enclave
            .epcm
            .get(frame)
            .is_some_and(|entry| entry.allows(PageFlags::R | PageFlags::W))
            && self.enclave.catch_up_with(frame);
        if self.block.cssa >= self.block.nssa || !writable {
            stop("an exception found no usable SSA frame");
        }
        self.save_vector_state(frame);
        let put = |at: usize, value: u64| {
            // SAFETY: the frame is a writable page of the enclave (checked),
            // offsets lie inside it.
            unsafe { write_at(machine(frame) as *mut u8, at, value) };
        };
        for (index, value) in registers.iter().enumerate() {
            put(GPRSGX_OFFSET + 8 * index, *value);
        }
        put(GPRSGX_OFFSET + gpr::RFLAGS, rflags);
        put(GPRSGX_OFFSET + gpr::RIP, rip);
        put(GPRSGX_OFFSET + gpr::FSBASE, self.fs_base);
        put(GPRSGX_OFFSET + gpr::GSBASE, self.gs_base);
        let info = match cause {
            Cause::Interrupt => ExitInfo::default(),
            Cause::Exception(fault) => ExitInfo {
                vector: fault.vector,
                exit_type: if fault.vector == vector::BP {
                    ExitInfo::SOFTWARE
                } else {
                    ExitInfo::HARDWARE
                },
                valid: true,
            },
        };
        // The upper half is reserved and AEXNOTIFY, which is off.
        put(GPRSGX_OFFSET + gpr::EXITINFO, info.to_bits().into());
        if let Cause::Exception(fault) = cause
            && matches!(fault.vector, vector::PF | vector::GP)
            && self.enclave.secs().miscselect.contains(MiscSelect::EXINFO)
        {
            put(EXINFO_OFFSET, fault.address);
            put(EXINFO_OFFSET + 8, fault.error.into());
        }
        self.block.exception = u64::from(cause != Cause::Interrupt);
        self.block.set_cssa(self.block.cssa + 1);
        self.enclave
            .statistics
            .exits
            .fetch_add(1, Ordering::Relaxed);
        self.continue_at(self.block.aep);
        let tcs = self.block.tcs;
        for register in GREGS {
            self.set(register, 0);
        }
        self.set(libc::REG_RAX, enclu::ERESUME.into());
        self.set(libc::REG_RBX, tcs);
        self.set(libc::REG_RCX, self.block.aep);
        self.set(libc::REG_RSP, self.block.switch_rsp);
    }

    /// Makes the signal return to host code at `rip` with the switch stack.
    pub(crate) fn continue_at(&mut self, rip: u64) {
        self.set(libc::REG_RIP, rip);
        self.set(libc::REG_RSP, self.block.switch_rsp);
        // Reserved bit 1 and IF; everything else, DF and TF included, clear.
        self.set(libc::REG_EFL, 0x202);
    }

    /// Copies XSAVE data from the signal frame to the SSA and gives the host a
    /// clean state.
    fn save_vector_state(&mut self, frame: u64) {
        // Offsets: SDM vol. 1 §13.4; 464..512 holds Linux' own words (struct
        // _fpx_sw_bytes), whose fifth word is the size.
        const MXCSR: usize = 24;
        const SOFTWARE: usize = 464;
        const COMPONENTS: usize = 512;
        const HEADER_REST: usize = 520;
        const HEADER_END: usize = 576;
        const MAGIC: u32 = 0x4650_5853;
        let source = self.context.uc_mcontext.fpregs.cast::<u8>();
        if source.is_null() {
            stop("the kernel delivers signals without vector state");
        }
        // SAFETY: Linux puts at least 512 bytes of FXSAVE data there.
        let magic: u32 = unsafe { read_at(source, SOFTWARE) };
        // SAFETY: as above.
        let size: u32 = unsafe { read_at(source, SOFTWARE + 16) };
        let size = size as usize;
        if magic != MAGIC || size < HEADER_END {
            stop("the kernel delivers signals without extended vector state");
        }
        let len = size.min(EXINFO_OFFSET);
        let target = machine(frame) as *mut u8;
        // SAFETY: the signal frame holds `size` bytes; the SSA frame is a
        // writable page (checked by the caller) and `len` is below its size.
        unsafe { std::ptr::copy_nonoverlapping(source, target, len) };
        // SAFETY: inside the page; XRSTOR wants zeroes in the header's rest.
        unsafe { write_at(target, SOFTWARE, [0u8; COMPONENTS - SOFTWARE]) };
        // SAFETY: as above.
        unsafe { write_at(target, HEADER_REST, [0u8; HEADER_END - HEADER_REST]) };
        // SAFETY: XSTATE_BV, inside the page.
        let components: u64 = unsafe { read_at(target, COMPONENTS) };
        // SAFETY: as above.
        unsafe { write_at(target, COMPONENTS, components & self.block.xmask) };
        // SAFETY: the same word of the signal frame: every component is initial.
        unsafe { write_at(source, COMPONENTS, 0u64) };
        // SAFETY: MXCSR at its default.
        unsafe { write_at(source, MXCSR, 0x1f80_u32) };
    }

    /// ENCLU that arrived as a fault at RIP.
    pub(crate) fn trapped_leaf(&mut self) {
        self.enclave
            .statistics
            .trapped_leaves
            .fetch_add(1, Ordering::Relaxed);
        let rip = self.rip();
        if self.get(libc::REG_RAX) & 0xffff_ffff == u64::from(enclu::EEXIT) {
            let target = self.get(libc::REG_RBX);
            let aep = self.block.aep;
            self.set(libc::REG_RIP, target);
            self.set(libc::REG_RCX, aep);
            #[cfg(feature = "hostile")]
            if self.enclave.is_attacked() {
                let rflags = self.get(libc::REG_EFL) & !TRAP_FLAG;
                self.set(libc::REG_EFL, rflags);
            }
            return;
        }
        let mut operands = Operands {
            rax: self.get(libc::REG_RAX),
            rbx: self.get(libc::REG_RBX),
            rcx: self.get(libc::REG_RCX),
            rdx: self.get(libc::REG_RDX),
            rflags: self.get(libc::REG_EFL),
        };
        match leaf::execute(self.enclave, &mut operands) {
            Ok(()) => {
                self.set(libc::REG_RAX, operands.rax);
                self.set(libc::REG_EFL, operands.rflags);
                self.set(libc::REG_RIP, rip + 3);
            }
            Err(fault) => {
                let registers = self.registers();
                let rflags = self.get(libc::REG_EFL);
                self.exit(Cause::Exception(fault), &registers, rip, rflags);
            }
        }
    }
}

/// A leaf through the patched gate; called by the trampoline on the host's stack.
pub(crate) extern "C" fn leaf(block: *mut Block) {
    // SAFETY: the trampoline passes this thread's own block; signal handlers of
    // the thread touch it only through the words `leaf_trap` and `frame.rflags`,
    // which are written here before and after nothing else depends on them.
    let block = unsafe { &mut *block };
    // SAFETY: the processor holds an Arc while it is attached.
    let enclave = unsafe { &*(block.enclave as *const EmulatedEnclave) };
    block.frame.rip = enclave.gate + GATE_LEN;
    let mut operands = Operands {
        rax: block.regs[RAX],
        rbx: block.regs[RBX],
        rcx: block.regs[RCX],
        rdx: block.regs[RDX],
        rflags: block.frame.rflags,
    };
    match leaf::execute(enclave, &mut operands) {
        Ok(()) => {
            block.regs[RAX] = operands.rax;
            // A signal handler may have set TF meanwhile: change the others only.
            // SAFETY: a word of the block.
            let flags = unsafe { std::ptr::read_volatile(&raw const block.frame.rflags) };
            block.frame.rflags = operands.rflags | flags & TRAP_FLAG;
        }
        Err(fault) => {
            block.leaf_fault = [1, fault.vector.into(), fault.error.into(), fault.address];
            block.leaf_trap = TRAP_FLAG;
        }
    }
}

/// The fault that a leaf left behind, with the state before the instruction.
pub(crate) fn take_leaf_fault(block: &mut Block) -> Option<(Fault, Registers, u64)> {
    let [1, vector, error, address] = block.leaf_fault else {
        return None;
    };
    block.leaf_fault = [0; 4];
    let fault = Fault {
        vector: u8::try_from(vector).unwrap_or(vector::GP),
        error: u32::try_from(error).unwrap_or(0),
        address,
    };
    Some((fault, block.regs, block.frame.rflags & !TRAP_FLAG))
}

/// Reads `T` at `base + offset`.
///
/// # Safety
/// The bytes are readable memory and every pattern is a `T`.
unsafe fn read_at<T>(base: *const u8, offset: usize) -> T {
    // SAFETY: the caller's promise.
    let at = unsafe { base.add(offset) };
    // SAFETY: the caller's promise.
    unsafe { at.cast::<T>().read_unaligned() }
}

/// Writes `value` at `base + offset`.
///
/// # Safety
/// The bytes are writable memory.
unsafe fn write_at<T>(base: *mut u8, offset: usize, value: T) {
    // SAFETY: the caller's promise.
    let at = unsafe { base.add(offset) };
    // SAFETY: the caller's promise.
    unsafe { at.cast::<T>().write_unaligned(value) };
}

/// The machine cannot go on.
pub(crate) fn stop(reason: &str) -> ! {
    eprintln!("[ENSCONCE|FATAL] emulated processor: {reason}");
    std::process::abort()
}

const _: () = assert!(GPRSGX_OFFSET + 184 == PAGE_SIZE && REGION > PAGE_SIZE);
const _: () = assert!(gpr::RSP == RSP * 8 && gpr::RBP == RBP * 8);
