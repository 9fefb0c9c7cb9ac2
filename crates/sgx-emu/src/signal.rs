// SPDX-License-Identifier: Apache-2.0
//! Faults and signals: which of them are asynchronous exits, which are ENCLU,
//! and which belong to the host.

use std::io;
use std::sync::OnceLock;

use sgx::secinfo::PageFlags;
use sgx::ssa::vector;

use crate::enclave::EmulatedEnclave;
use crate::leaf::{Fault, low_half};
use crate::platform;
use crate::processor::aex::{Cause, Interrupted, TRAP_FLAG, stop, take_leaf_fault};
use crate::processor::block::{Block, MAGIC};
use crate::processor::switch;

/// The owner's part of an asynchronous signal: it sees the context after the
/// processor has left the enclave, may change it, and records the signal. It
/// runs on the signal stack and must be async-signal-safe. The processor passes
/// the pointers that the kernel gave its handler.
pub type Callback = unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::ucontext_t);

/// Signals that exceptions arrive as.
const SYNCHRONOUS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];
/// `si_code` of Syscall User Dispatch.
const SYS_USER_DISPATCH: i32 = 2;
const ENCLU: [u8; 3] = [0x0f, 0x01, 0xd7];
const CPUID: [u8; 2] = [0x0f, 0xa2];
/// Length of SYSCALL, SYSENTER and INT 0x80.
const SYSCALL_LEN: u64 = 2;

static CALLBACK: OnceLock<Callback> = OnceLock::new();

/// Installs the processor's handler for exceptions and for `asynchronous`
/// signals, which `callback` sees. Threads without a processor must block the
/// latter.
///
/// # Errors
/// What `sigaction` refuses, or a second installation with another callback.
pub fn install(asynchronous: &[i32], callback: Callback) -> io::Result<()> {
    if !std::ptr::fn_addr_eq(*CALLBACK.get_or_init(|| callback), callback) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = switch::signal_address();
    // No signal of the host interrupts a handler: nested frames would find the
    // block half changed.
    for &signal in asynchronous {
        // SAFETY: adds to a set that is a valid value.
        unsafe { libc::sigaddset(&raw mut action.sa_mask, signal) };
    }
    for (signals, flags) in [(&SYNCHRONOUS[..], libc::SA_NODEFER), (asynchronous, 0)] {
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
        for &signal in signals {
            // SAFETY: the handler restores every register it uses.
            if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Called by the assembly for every signal, with the host's FS and GS.
/// Returns whether they stay; else the interrupted ones are put back.
pub(crate) extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
    block: *mut Block,
    fs_base: u64,
    gs_base: u64,
) -> u32 {
    // SAFETY: glibc's location of this thread's errno; the bases are the host's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // SAFETY: the kernel passes a valid frame; the block is the one whose
    // region holds the signal stack.
    let stay = unsafe { handle(signal, info, context, block, fs_base, gs_base) };
    // SAFETY: as above.
    unsafe { *errno = saved };
    u32::from(stay)
}

/// # Safety
/// The pointers are those of a signal delivered on a processor's signal stack.
unsafe fn handle(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
    block: *mut Block,
    fs_base: u64,
    gs_base: u64,
) -> bool {
    // SAFETY: the caller's promise.
    let code = unsafe { (*info).si_code };
    // SAFETY: the caller's promise; the frame belongs to this handler.
    let context_ref = unsafe { &mut *context };
    // SAFETY: the caller's promise. Host code that this signal interrupted uses
    // the block through raw pointers and short references that end before any
    // instruction of the switch.
    let block = unsafe { &mut *block };
    if block.magic != MAGIC {
        stop("a signal arrived on a thread that is no processor");
    }
    // SAFETY: the processor holds an Arc while it is attached.
    let enclave = unsafe { &*(block.enclave as *const EmulatedEnclave) };
    let mut at = Interrupted {
        context: context_ref,
        block,
        enclave,
        fs_base,
        gs_base,
    };
    let synchronous = SYNCHRONOUS.contains(&signal);
    // Somebody sent it by kill(2): no exception happened, and the enclave must
    // not believe one did (rule S12).
    let sent = synchronous && code <= 0;
    if at.rip() < enclave.size() {
        if sent {
            return false;
        }
        if synchronous {
            return inside(&mut at, signal, code);
        }
        interrupt(&mut at);
    } else if synchronous {
        return outside(&mut at, signal, sent);
    } else if switch::is_entering(at.rip()) {
        at.continue_at(switch::not_entered_address());
    } else if at.block.in_leaf != 0 || switch::is_in_leaf(at.rip()) {
        // Logically inside: let the trampoline finish and stop at the enclave's
        // next instruction.
        at.block.leaf_trap = TRAP_FLAG;
        at.block.frame.rflags |= TRAP_FLAG;
        notify(signal, info, context);
        return false;
    } else {
        notify(signal, info, context);
        return false;
    }
    notify(signal, info, context);
    true
}

fn notify(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    if let Some(callback) = CALLBACK.get() {
        // SAFETY: the kernel's own pointers.
        unsafe { callback(signal, info, context) };
    }
}

/// AEX without a cause that the enclave may know.
fn interrupt(at: &mut Interrupted<'_>) {
    let registers = at.registers();
    let (rip, rflags) = (at.rip(), at.get(libc::REG_EFL));
    at.exit(Cause::Interrupt, &registers, rip, rflags);
}

/// An exception while RIP is in ELRANGE. Returns whether the host runs next.
fn inside(at: &mut Interrupted<'_>, signal: i32, code: i32) -> bool {
    let rip = at.rip();
    if signal == libc::SIGSYS {
        if code != SYS_USER_DISPATCH {
            stop("a seccomp profile forbids a system call with SIGSYS");
        }
        // The kernel reports the next instruction and has put RAX back. RCX
        // and R11 are lost, which silicon would keep.
        return exception(at, vector::UD, rip - SYSCALL_LEN);
    }
    let trap = u8::try_from(at.get(libc::REG_TRAPNO)).unwrap_or(u8::MAX);
    match trap {
        vector::UD | vector::GP if starts_with(at, rip, &ENCLU) => {
            let before = at.block.cssa;
            at.trapped_leaf();
            at.block.cssa != before || at.rip() >= at.enclave.size()
        }
        vector::GP if is_illegal_in_enclaves(at, rip) => exception(at, vector::UD, rip),
        vector::DB => debug(at, rip),
        // Silicon reports INT3 as a fault: RIP is the instruction itself
        // (SDM vol. 3D §41.4.1).
        vector::BP => exception(at, vector::BP, rip - 1),
        vector::PF => {
            let address = at.get(libc::REG_CR2);
            if signal == libc::SIGSEGV && at.enclave.resolve_fault(address, wanted_access(at)) {
                return false;
            }
            let error = page_fault_code(at, address);
            let registers = at.registers();
            let rflags = at.get(libc::REG_EFL);
            let fault = Fault {
                vector: vector::PF,
                error,
                address,
            };
            at.exit(Cause::Exception(fault), &registers, rip, rflags);
            true
        }
        vector::DE
        | vector::BR
        | vector::UD
        | vector::GP
        | vector::MF
        | vector::AC
        | vector::XM
        | vector::CP => exception(at, trap, rip),
        _ => stop("an exception happened that SGX does not report to enclaves"),
    }
}

fn exception(at: &mut Interrupted<'_>, vector: u8, rip: u64) -> bool {
    let registers = at.registers();
    let rflags = at.get(libc::REG_EFL);
    let error = if vector == vector::GP {
        u32::try_from(at.get(libc::REG_ERR)).unwrap_or(0)
    } else {
        0
    };
    let fault = Fault {
        vector,
        error,
        address: 0,
    };
    at.exit(Cause::Exception(fault), &registers, rip, rflags);
    true
}

/// A single step: the end of a leaf that was interrupted or faulted, or the
/// program's own.
fn debug(at: &mut Interrupted<'_>, rip: u64) -> bool {
    #[cfg(feature = "hostile")]
    if at.enclave.is_attacked() {
        return crate::hostile::step(at);
    }
    if at.block.leaf_trap == 0 {
        return exception(at, vector::DB, rip);
    }
    at.block.leaf_trap = 0;
    if let Some((fault, registers, rflags)) = take_leaf_fault(at.block) {
        let gate = at.enclave.gate;
        at.exit(Cause::Exception(fault), &registers, gate, rflags);
    } else {
        let registers = at.registers();
        let rflags = at.get(libc::REG_EFL) & !TRAP_FLAG;
        at.exit(Cause::Interrupt, &registers, rip, rflags);
    }
    true
}

/// The access that the faulting instruction wanted, as `mprotect` names it.
fn wanted_access(at: &Interrupted<'_>) -> i32 {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    let code = at.get(libc::REG_ERR);
    if code & FETCH != 0 {
        libc::PROT_EXEC
    } else if code & WRITE != 0 {
        libc::PROT_WRITE
    } else {
        libc::PROT_READ
    }
}

/// The error code that silicon would give: pages of ELRANGE are always mapped
/// by the driver, so the EPCM refuses.
fn page_fault_code(at: &Interrupted<'_>, address: u64) -> u32 {
    const PRESENT: u32 = 1;
    const SGX: u32 = 1 << 15;
    let code = u32::try_from(at.get(libc::REG_ERR)).unwrap_or(0) & 0x1f;
    if address < at.enclave.size() {
        code | PRESENT | SGX
    } else {
        code
    }
}

/// Whether the code at `rip` starts with `bytes`. Never reads a page that the
/// enclave cannot read.
fn starts_with(at: &Interrupted<'_>, rip: u64, bytes: &[u8]) -> bool {
    bytes
        .iter()
        .zip(rip..)
        .all(|(&byte, address)| code_byte(at, address) == Some(byte))
}

fn code_byte(at: &Interrupted<'_>, address: u64) -> Option<u8> {
    let entry = at.enclave.epcm.get(address)?;
    if !entry.allows(PageFlags::R) {
        return None;
    }
    at.enclave.peek(address)
}

/// Instructions that raise #GP in ordinary code of ring 3 and #UD in enclaves:
/// CPUID under CPUID faulting, INT n, IN, OUT, INS, OUTS (SDM vol. 3D table 39-1).
fn is_illegal_in_enclaves(at: &Interrupted<'_>, rip: u64) -> bool {
    if starts_with(at, rip, &CPUID) {
        return true;
    }
    for address in rip..rip + 4 {
        match code_byte(at, address) {
            // Prefixes: operand size, REP, REX.
            Some(0x66 | 0xf2 | 0xf3 | 0x40..=0x4f) => {}
            Some(0xcd | 0xe4..=0xe7 | 0xec..=0xef | 0x6c..=0x6f) => return true,
            _ => return false,
        }
    }
    false
}

/// An exception in host code, among them the first touch of pages whose access
/// was deferred. Returns whether the host's FS and GS stay.
fn outside(at: &mut Interrupted<'_>, signal: i32, sent: bool) -> bool {
    let rip = at.rip();
    if sent {
        return false;
    }
    #[cfg(feature = "hostile")]
    if signal == libc::SIGTRAP && at.enclave.is_attacked() {
        return false;
    }
    if switch::is_entering(rip) {
        // ERESUME with an invalid state, or an SSA frame that vanished.
        at.continue_at(switch::refused_address());
        return true;
    }
    if signal == libc::SIGTRAP && at.block.leaf_trap != 0 {
        // Single-stepping through the trampoline's last instructions.
        return false;
    }
    if at.get(libc::REG_TRAPNO) == u64::from(vector::PF)
        && at
            .enclave
            .resolve_fault(at.get(libc::REG_CR2), wanted_access(at))
    {
        return false;
    }
    if at.get(libc::REG_TRAPNO) == u64::from(vector::GP) && host_cpuid(at) {
        return false;
    }
    // A defect of the host program: let it happen again with the default action.
    // SAFETY: restores the default disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    false
}

/// CPUID in host code under CPUID faulting: runs it.
fn host_cpuid(at: &mut Interrupted<'_>) -> bool {
    let rip = at.rip();
    // SAFETY: the host's own code, which was just fetched from there; a short
    // instruction at the end of a mapping would have faulted with #PF instead.
    let bytes = unsafe { std::ptr::read_unaligned(rip as *const [u8; 2]) };
    if bytes != CPUID || platform::set_cpuid_faulting(false).is_err() {
        return false;
    }
    let leaf = low_half(at.get(libc::REG_RAX));
    let subleaf = low_half(at.get(libc::REG_RCX));
    let answer = std::arch::x86_64::__cpuid_count(leaf, subleaf);
    let _ = platform::set_cpuid_faulting(true);
    at.set(libc::REG_RAX, answer.eax.into());
    at.set(libc::REG_RBX, answer.ebx.into());
    at.set(libc::REG_RCX, answer.ecx.into());
    at.set(libc::REG_RDX, answer.edx.into());
    at.set(libc::REG_RIP, rip + 2);
    true
}
