// SPDX-License-Identifier: Apache-2.0
//! EENTER and ERESUME on silicon, with an AEP of our own.
//!
//! After an interrupt the processor lands at AEP, whose ERESUME goes on at once.
//! When a signal is delivered there, the handler moves RIP on to where the call
//! returns: exceptions arrive as signals with RIP at AEP too, so the enclave's
//! handler gets its turn in both cases. Before the ENCLU of an entry, the
//! handler moves RIP to where nothing was entered (see `signals`).
//!
//! RSP is the same at each EENTER of a thread: it points to a small stack of its
//! own, on whose top lies the address of the thread's [`Block`].

use std::arch::global_asm;
use std::io;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use sgx::leaf::enclu;

use crate::backend::{Outcome, Processor, SignalCallback};

const SIGNAL_STACK: usize = 128 << 10;
const EXIT: u64 = 0;
const SIGNAL: u64 = 1;
const EXCEPTION: u64 = 2;
const NOT_ENTERED: u64 = 3;
const REFUSED: u64 = 4;

/// What the assembly reads and writes.
#[repr(C, align(64))]
struct Block {
    host_rsp: u64,
    switch_rsp: u64,
    pending: u64,
    tcs: u64,
    outcome: u64,
    switch_stack: [u64; 16],
}

#[repr(C)]
struct Values {
    number: u64,
    argument: u64,
}

unsafe extern "C" {
    fn ensconce_sgx_enclu(block: *mut Block, rdi: u64, rsi: u64, rdx: u64, leaf: u64) -> Values;
    fn ensconce_sgx_begin();
    fn ensconce_sgx_entering();
    fn ensconce_sgx_aep();
    fn ensconce_sgx_signal();
    fn ensconce_sgx_exception();
    fn ensconce_sgx_not_entered();
    fn ensconce_sgx_refused();
}

global_asm!(
    r#"
    .macro ENSCONCE_SGX_LABEL name
    .globl \name
    .hidden \name
\name:
    .endm
    .pushsection .text.ensconce_sgx, "ax", @progbits
    .p2align 4
    # rdi block, rsi RDI, rdx RSI, rcx RDX, r8 leaf
    ENSCONCE_SGX_LABEL ensconce_sgx_enclu
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    stmxcsr [rsp]
    fnstcw [rsp + 4]
    mov [rdi + {HOST_RSP}], rsp
    mov rsp, [rdi + {SWITCH_RSP}]
    mov [rsp], rdi
    mov rbx, [rdi + {TCS}]
    mov r9, [rdi + {PENDING}]
    mov rax, r8
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    lea rcx, [rip + ensconce_sgx_aep]
    xor ebp, ebp
    ENSCONCE_SGX_LABEL ensconce_sgx_begin
    cmp qword ptr [r9], 0
    jne ensconce_sgx_not_entered
    ENSCONCE_SGX_LABEL ensconce_sgx_entering
    .byte 0x0f, 0x01, 0xd7
    # EEXIT comes here: EENTER has told the enclave this address
    mov rax, rdi
    mov rdx, rsi
    mov ecx, {EXIT}
    jmp 2f
    ENSCONCE_SGX_LABEL ensconce_sgx_aep
    .byte 0x0f, 0x01, 0xd7
    ENSCONCE_SGX_LABEL ensconce_sgx_signal
    mov ecx, {SIGNAL}
    jmp 2f
    ENSCONCE_SGX_LABEL ensconce_sgx_exception
    mov ecx, {EXCEPTION}
    jmp 2f
    ENSCONCE_SGX_LABEL ensconce_sgx_not_entered
    mov ecx, {NOT_ENTERED}
    jmp 2f
    ENSCONCE_SGX_LABEL ensconce_sgx_refused
    mov ecx, {REFUSED}
2:
    mov r8, [rsp]
    mov [r8 + {OUTCOME}], rcx
    mov rsp, [r8 + {HOST_RSP}]
    cld
    ldmxcsr [rsp]
    fldcw [rsp + 4]
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .popsection
    "#,
    HOST_RSP = const offset_of!(Block, host_rsp),
    SWITCH_RSP = const offset_of!(Block, switch_rsp),
    TCS = const offset_of!(Block, tcs),
    PENDING = const offset_of!(Block, pending),
    OUTCOME = const offset_of!(Block, outcome),
    EXIT = const EXIT,
    SIGNAL = const SIGNAL,
    EXCEPTION = const EXCEPTION,
    NOT_ENTERED = const NOT_ENTERED,
    REFUSED = const REFUSED,
);

fn address(label: unsafe extern "C" fn()) -> u64 {
    label as usize as u64
}

/// A host thread that enters one TCS.
#[derive(Debug)]
pub(super) struct HardwareProcessor {
    block: *mut Block,
    _pending: Arc<AtomicU64>,
    _signal_stack: Vec<u8>,
    old_stack: libc::stack_t,
    stay: PhantomData<*mut ()>,
}

impl HardwareProcessor {
    /// Prepares the calling thread. A TCS that another thread is still leaving
    /// makes the first entry fault, which [`Outcome::Refused`] tells.
    pub(super) fn attach(tcs: u64, pending: &Arc<AtomicU64>) -> io::Result<Self> {
        let mut block = Box::new(Block {
            host_rsp: 0,
            switch_rsp: 0,
            pending: Arc::as_ptr(pending) as u64,
            tcs,
            outcome: EXIT,
            switch_stack: [0; 16],
        });
        block.switch_rsp = &raw const block.switch_stack[8] as u64;
        let mut signal_stack = vec![0; SIGNAL_STACK];
        let stack = libc::stack_t {
            ss_sp: signal_stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: SIGNAL_STACK,
        };
        let mut old_stack = libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        // SAFETY: the stack lives as long as the processor, whose `drop` puts
        // the old one back.
        if unsafe { libc::sigaltstack(&raw const stack, &raw mut old_stack) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            block: Box::into_raw(block),
            _pending: Arc::clone(pending),
            _signal_stack: signal_stack,
            old_stack,
            stay: PhantomData,
        })
    }

    fn enclu(&mut self, leaf: u32, rdi: u64, rsi: u64, rdx: u64) -> Outcome {
        // SAFETY: the block is filled and belongs to this thread; the assembly
        // keeps the C calling convention.
        let values = unsafe { ensconce_sgx_enclu(self.block, rdi, rsi, rdx, leaf.into()) };
        // SAFETY: the block outlives the call, which has stored the outcome.
        match unsafe { (*self.block).outcome } {
            EXIT => Outcome::Exit {
                number: values.number,
                argument: values.argument,
            },
            SIGNAL => Outcome::Asynchronous { exception: false },
            EXCEPTION => Outcome::Asynchronous { exception: true },
            NOT_ENTERED => Outcome::NotEntered,
            _ => Outcome::Refused,
        }
    }
}

impl Processor for HardwareProcessor {
    fn enter(&mut self, rdi: u64, rsi: u64, rdx: u64) -> Outcome {
        self.enclu(enclu::EENTER, rdi, rsi, rdx)
    }

    fn resume(&mut self) -> Outcome {
        self.enclu(enclu::ERESUME, 0, 0, 0)
    }
}

impl Drop for HardwareProcessor {
    fn drop(&mut self) {
        // SAFETY: puts back what `attach` replaced.
        unsafe { libc::sigaltstack(&raw const self.old_stack, std::ptr::null_mut()) };
        // SAFETY: made by `Box::into_raw` in `attach`; nobody else frees it.
        drop(unsafe { Box::from_raw(self.block) });
    }
}

const SYNCHRONOUS: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
];

static CALLBACK: OnceLock<SignalCallback> = OnceLock::new();

/// Installs the handlers.
pub(super) fn install(asynchronous: &[i32], callback: SignalCallback) -> io::Result<()> {
    let _ = CALLBACK.set(callback);
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    for &signal in asynchronous {
        // SAFETY: adds to a set that is a valid value.
        unsafe { libc::sigaddset(&raw mut action.sa_mask, signal) };
    }
    for (signals, flags) in [(&SYNCHRONOUS[..], libc::SA_NODEFER), (asynchronous, 0)] {
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
        for &signal in signals {
            // SAFETY: the handler follows the rules of signal handlers.
            if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Where a signal at `rip` continues. `None`: where it was; for an exception
/// that means a defect of the host.
fn continuation(rip: u64, is_exception: bool) -> Option<u64> {
    if rip == address(ensconce_sgx_aep) {
        return Some(if is_exception {
            address(ensconce_sgx_exception)
        } else {
            address(ensconce_sgx_signal)
        });
    }
    if !(address(ensconce_sgx_begin)..=address(ensconce_sgx_entering)).contains(&rip) {
        return None;
    }
    Some(if is_exception {
        address(ensconce_sgx_refused)
    } else {
        address(ensconce_sgx_not_entered)
    })
}

unsafe extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    // SAFETY: the kernel's frame for this handler.
    let code = unsafe { (*info).si_code };
    // SAFETY: as above.
    let gregs = unsafe { &mut (*context).uc_mcontext.gregs };
    let Some(rip) = usize::try_from(libc::REG_RIP)
        .ok()
        .and_then(|at| gregs.get_mut(at))
    else {
        return;
    };
    let is_exception = SYNCHRONOUS.contains(&signal);
    if is_exception && code <= 0 {
        // Sent by kill(2): no exception happened.
        return;
    }
    match continuation(rip.cast_unsigned(), is_exception) {
        Some(target) => *rip = target.cast_signed(),
        None if is_exception => {
            // SAFETY: restores the default disposition; the defect happens again.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            return;
        }
        None => {}
    }
    if !is_exception && let Some(callback) = CALLBACK.get() {
        // SAFETY: the kernel's own pointers.
        unsafe { callback(signal, info, context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_at_aep_leave_and_before_the_entry_prevent_it() {
        let aep = address(ensconce_sgx_aep);
        assert_eq!(
            continuation(aep, true),
            Some(address(ensconce_sgx_exception))
        );
        assert_eq!(continuation(aep, false), Some(address(ensconce_sgx_signal)));
        for rip in [address(ensconce_sgx_begin), address(ensconce_sgx_entering)] {
            assert_eq!(
                continuation(rip, false),
                Some(address(ensconce_sgx_not_entered))
            );
            assert_eq!(continuation(rip, true), Some(address(ensconce_sgx_refused)));
        }
        assert_eq!(
            continuation(address(ensconce_sgx_entering) + 3, false),
            None
        );
        assert_eq!(continuation(0x1000, true), None);
    }

    #[test]
    fn pending_work_prevents_the_entry() {
        let pending = Arc::new(AtomicU64::new(1));
        let mut processor = HardwareProcessor::attach(0x1000, &pending).unwrap();
        assert_eq!(processor.enter(1, 2, 3), Outcome::NotEntered);
        assert_eq!(processor.resume(), Outcome::NotEntered);
    }
}
