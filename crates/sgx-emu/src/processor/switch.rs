// SPDX-License-Identifier: Apache-2.0
//! The switches between host and enclave, in assembly: EENTER, ERESUME, the
//! trampoline behind the gate and the entry of every signal handler.
//!
//! Neither signal delivery nor sigreturn changes FS and GS (Linux x86-64), so
//! whoever leaves the enclave here writes the host's bases before any Rust runs:
//! thread-local storage, errno and stack protectors need them.
//!
//! The entries can be abandoned: between `…_begin` and `…_end` the signal
//! handler may move RIP to `ensconce_emu_not_entered`; nothing that cannot be
//! taken back has happened. The last instruction before `…_end` is the one that
//! enters. So a signal is either seen by the check of `pending` at `…_begin`,
//! abandons the entry, or finds the enclave running.

use std::arch::global_asm;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use sgx::ssa::{GPRSGX_OFFSET, gpr};

use super::block::{
    Block, InterruptFrame, OUTCOME_AEX, OUTCOME_EXIT, OUTCOME_NOT_ENTERED, OUTCOME_REFUSED, REGION,
    SWITCH_STACK_TOP, XSAVE_OFFSET,
};

/// RDI and RSI at EEXIT.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Values {
    pub(crate) number: u64,
    pub(crate) argument: u64,
}

unsafe extern "C" {
    #[link_name = "ensconce_emu_enter"]
    pub(crate) fn enter(block: *mut Block, rdi: u64, rsi: u64, rdx: u64) -> Values;
    #[link_name = "ensconce_emu_resume"]
    pub(crate) fn resume(block: *mut Block, frame: u64) -> Values;
    fn ensconce_emu_enter_begin();
    fn ensconce_emu_enter_end();
    fn ensconce_emu_resume_begin();
    fn ensconce_emu_resume_end();
    fn ensconce_emu_not_entered();
    fn ensconce_emu_refused();
    fn ensconce_emu_aep();
    fn ensconce_emu_gate();
    fn ensconce_emu_leaf_end();
    fn ensconce_emu_exit_begin();
    fn ensconce_emu_exit_end();
    fn ensconce_emu_signal();
    static ensconce_emu_blocks: AtomicU64;
    static ensconce_emu_block_count: AtomicU64;
}

fn address(label: unsafe extern "C" fn()) -> u64 {
    label as usize as u64
}

/// Where AEX continues.
pub(crate) fn aep_address() -> u64 {
    address(ensconce_emu_aep)
}

/// Where the patched gate jumps.
pub(crate) fn gate_address() -> u64 {
    address(ensconce_emu_gate)
}

/// Where the kernel calls for every signal.
pub(crate) fn signal_address() -> usize {
    ensconce_emu_signal as *const () as usize
}

/// Where an abandoned entry continues.
pub(crate) fn not_entered_address() -> u64 {
    address(ensconce_emu_not_entered)
}

/// Where a faulting entry continues.
pub(crate) fn refused_address() -> u64 {
    address(ensconce_emu_refused)
}

/// Whether `rip` is in an entry that can be abandoned.
pub(crate) fn is_entering(rip: u64) -> bool {
    let within = |begin: unsafe extern "C" fn(), end| (address(begin)..address(end)).contains(&rip);
    within(ensconce_emu_enter_begin, ensconce_emu_enter_end)
        || within(ensconce_emu_resume_begin, ensconce_emu_resume_end)
}

/// Whether `rip` is in the trampoline's own instructions for a leaf that
/// returns to the enclave. The EEXIT path inside it does not.
pub(crate) fn is_in_leaf(rip: u64) -> bool {
    let exit = address(ensconce_emu_exit_begin)..address(ensconce_emu_exit_end);
    (gate_address()..address(ensconce_emu_leaf_end)).contains(&rip) && !exit.contains(&rip)
}

/// Tells the trampoline where it finds blocks by GS base.
pub(crate) fn publish_blocks(table: u64, count: u64) {
    // SAFETY: both are 8-byte words in this module's data section, used only
    // as atomics here and by single loads in the trampoline.
    unsafe { &ensconce_emu_block_count }.store(0, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { &ensconce_emu_blocks }.store(table, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { &ensconce_emu_block_count }.store(count, Ordering::SeqCst);
}

global_asm!(
    r#"
    .pushsection .data.ensconce_emu, "aw", @progbits
    .p2align 3
    .globl ensconce_emu_blocks
    .hidden ensconce_emu_blocks
ensconce_emu_blocks: .quad 0
    .globl ensconce_emu_block_count
    .hidden ensconce_emu_block_count
ensconce_emu_block_count: .quad 0
    .popsection

    .macro ENSCONCE_LABEL name
    .globl \name
    .hidden \name
\name:
    .endm

    .macro ENSCONCE_SAVE_HOST
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
    mov r8, rdi
    mov r9, [r8 + {PENDING}]
    .endm

    .pushsection .text.ensconce_emu, "ax", @progbits
    .p2align 4
    # rdi block, rsi RDI, rdx RSI, rcx RDX
    ENSCONCE_LABEL ensconce_emu_enter
    ENSCONCE_SAVE_HOST
    ENSCONCE_LABEL ensconce_emu_enter_begin
    cmp qword ptr [r9], 0
    jne 2f
    mov r10, [r8 + {SSA}]
    mov rsp, [r8 + {SWITCH_RSP}]
    xor ebp, ebp
    mov [r10 + {URSP}], rsp
    mov [r10 + {URBP}], rbp
    mov rax, [r8 + {FS_BASE}]
    wrfsbase rax
    mov rax, [r8 + {GS_BASE}]
    wrgsbase rax
    mov rbx, [r8 + {TCS}]
    mov rax, [r8 + {CSSA}]
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    lea rcx, [rip + ensconce_emu_left]
    jmp qword ptr [r8 + {ENTRY}]
    ENSCONCE_LABEL ensconce_emu_enter_end
2:
    mov rsp, [r8 + {SWITCH_RSP}]
    jmp ensconce_emu_not_entered

    .p2align 4
    # EEXIT's target: rsp is what EENTER had
    ENSCONCE_LABEL ensconce_emu_left
    mov rax, rdi
    mov rdx, rsi
    mov ecx, {OUTCOME_EXIT}
ensconce_emu_return:
    mov r8, rsp
    and r8, -{REGION}
    mov rsp, [r8 + {HOST_RSP}]
    mov [r8 + {OUTCOME}], rcx
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

    ENSCONCE_LABEL ensconce_emu_aep
    mov ecx, {OUTCOME_AEX}
    jmp ensconce_emu_return
    ENSCONCE_LABEL ensconce_emu_not_entered
    mov ecx, {OUTCOME_NOT_ENTERED}
    jmp ensconce_emu_return
    ENSCONCE_LABEL ensconce_emu_refused
    mov ecx, {OUTCOME_REFUSED}
    jmp ensconce_emu_return

    .p2align 4
    # rdi block, rsi SSA frame
    ENSCONCE_LABEL ensconce_emu_resume
    ENSCONCE_SAVE_HOST
    ENSCONCE_LABEL ensconce_emu_resume_begin
    cmp qword ptr [r9], 0
    jne 2b
    mov rsp, [r8 + {SWITCH_RSP}]
    # EENTER's successor, an AEX, restores these
    mov [rsi + {URSP}], rsp
    mov qword ptr [rsi + {URBP}], 0
    mov eax, [r8 + {XMASK}]
    mov edx, [r8 + {XMASK} + 4]
    xrstor64 [rsi]
    mov eax, ss
    push rax
    push qword ptr [rsi + {GPRSGX} + {G_RSP}]
    push qword ptr [rsi + {GPRSGX} + {G_RFLAGS}]
    mov eax, cs
    push rax
    push qword ptr [rsi + {GPRSGX} + {G_RIP}]
    mov rax, [rsi + {GPRSGX} + {G_FSBASE}]
    wrfsbase rax
    mov rax, [rsi + {GPRSGX} + {G_GSBASE}]
    wrgsbase rax
    mov rax, [rsi + {GPRSGX} + 0]
    mov rcx, [rsi + {GPRSGX} + 8]
    mov rdx, [rsi + {GPRSGX} + 16]
    mov rbx, [rsi + {GPRSGX} + 24]
    mov rbp, [rsi + {GPRSGX} + 40]
    mov rdi, [rsi + {GPRSGX} + 56]
    mov r8, [rsi + {GPRSGX} + 64]
    mov r9, [rsi + {GPRSGX} + 72]
    mov r10, [rsi + {GPRSGX} + 80]
    mov r11, [rsi + {GPRSGX} + 88]
    mov r12, [rsi + {GPRSGX} + 96]
    mov r13, [rsi + {GPRSGX} + 104]
    mov r14, [rsi + {GPRSGX} + 112]
    mov r15, [rsi + {GPRSGX} + 120]
    mov rsi, [rsi + {GPRSGX} + 48]
    iretq
    ENSCONCE_LABEL ensconce_emu_resume_end

    .p2align 4
    # the patched gate jumps here with the enclave's registers
    ENSCONCE_LABEL ensconce_emu_gate
    cmp eax, 4
    jne 3f
    ENSCONCE_LABEL ensconce_emu_exit_begin
    # rsp is what EENTER had
    mov rax, rsp
    and rax, -{REGION}
    mov rcx, [rax + {HOST_FS}]
    wrfsbase rcx
    mov rcx, [rax + {HOST_GS}]
    wrgsbase rcx
    mov rcx, [rax + {AEP}]
    jmp rbx
    ENSCONCE_LABEL ensconce_emu_exit_end
3:
    # the kernel's stack; the gate was called, so below RSP is free
    push r11
    push r10
    rdgsbase r11
    shr r11, 12
    cmp r11, [rip + ensconce_emu_block_count]
    jae 4f
    mov r10, [rip + ensconce_emu_blocks]
    mov r11, [r10 + r11 * 8]
    test r11, r11
    jz 4f
    pop r10
    mov [r11 + {REGS} + 80], r10
    pop r10
    mov [r11 + {REGS} + 88], r10
    mov [r11 + {REGS} + 0], rax
    mov [r11 + {REGS} + 8], rcx
    mov [r11 + {REGS} + 16], rdx
    mov [r11 + {REGS} + 24], rbx
    mov [r11 + {REGS} + 32], rsp
    mov [r11 + {REGS} + 40], rbp
    mov [r11 + {REGS} + 48], rsi
    mov [r11 + {REGS} + 56], rdi
    mov [r11 + {REGS} + 64], r8
    mov [r11 + {REGS} + 72], r9
    mov [r11 + {REGS} + 96], r12
    mov [r11 + {REGS} + 104], r13
    mov [r11 + {REGS} + 112], r14
    mov [r11 + {REGS} + 120], r15
    mov [r11 + {FRAME} + {F_RSP}], rsp
    mov rbx, r11
    mov rsp, [rbx + {HOST_RSP}]
    sub rsp, 256
    and rsp, -64
    pushfq
    pop [rbx + {FRAME} + {F_RFLAGS}]
    cld
    mov eax, cs
    mov [rbx + {FRAME} + {F_CS}], rax
    mov eax, ss
    mov [rbx + {FRAME} + {F_SS}], rax
    rdfsbase r12
    rdgsbase r13
    mov rax, [rbx + {HOST_FS}]
    wrfsbase rax
    mov rax, [rbx + {HOST_GS}]
    wrgsbase rax
    mov eax, [rbx + {XMASK}]
    mov edx, [rbx + {XMASK} + 4]
    xsave64 [rbx + {XSAVE}]
    mov qword ptr [rbx + {IN_LEAF}], 1
    mov rdi, rbx
    call {leaf}
    mov qword ptr [rbx + {IN_LEAF}], 0
    mov eax, [rbx + {XMASK}]
    mov edx, [rbx + {XMASK} + 4]
    xrstor64 [rbx + {XSAVE}]
    wrfsbase r12
    wrgsbase r13
    mov rax, [rbx + {LEAF_TRAP}]
    or [rbx + {FRAME} + {F_RFLAGS}], rax
    lea rsp, [rbx + {FRAME}]
    mov rax, [rbx + {REGS} + 0]
    mov rcx, [rbx + {REGS} + 8]
    mov rdx, [rbx + {REGS} + 16]
    mov rbp, [rbx + {REGS} + 40]
    mov rsi, [rbx + {REGS} + 48]
    mov rdi, [rbx + {REGS} + 56]
    mov r8, [rbx + {REGS} + 64]
    mov r9, [rbx + {REGS} + 72]
    mov r10, [rbx + {REGS} + 80]
    mov r11, [rbx + {REGS} + 88]
    mov r12, [rbx + {REGS} + 96]
    mov r13, [rbx + {REGS} + 104]
    mov r14, [rbx + {REGS} + 112]
    mov r15, [rbx + {REGS} + 120]
    mov rbx, [rbx + {REGS} + 24]
    iretq
4:
    ud2
    ENSCONCE_LABEL ensconce_emu_leaf_end

    .p2align 4
    # signal handler: rdi signal, rsi siginfo, rdx ucontext, on the signal stack
    ENSCONCE_LABEL ensconce_emu_signal
    push rbx
    push r12
    push r13
    mov rcx, rsp
    and rcx, -{REGION}
    rdfsbase r12
    rdgsbase r13
    mov rax, [rcx + {HOST_FS}]
    wrfsbase rax
    mov rax, [rcx + {HOST_GS}]
    wrgsbase rax
    mov r8, r12
    mov r9, r13
    cld
    call {handler}
    test eax, eax
    jnz 5f
    wrfsbase r12
    wrgsbase r13
5:
    pop r13
    pop r12
    pop rbx
    ret
    .popsection
    "#,
    HOST_RSP = const offset_of!(Block, host_rsp),
    HOST_FS = const offset_of!(Block, host_fs),
    HOST_GS = const offset_of!(Block, host_gs),
    AEP = const offset_of!(Block, aep),
    SWITCH_RSP = const offset_of!(Block, switch_rsp),
    ENTRY = const offset_of!(Block, entry),
    TCS = const offset_of!(Block, tcs),
    FS_BASE = const offset_of!(Block, fs_base),
    GS_BASE = const offset_of!(Block, gs_base),
    SSA = const offset_of!(Block, ssa),
    CSSA = const offset_of!(Block, cssa),
    PENDING = const offset_of!(Block, pending),
    XMASK = const offset_of!(Block, xmask),
    OUTCOME = const offset_of!(Block, outcome),
    IN_LEAF = const offset_of!(Block, in_leaf),
    LEAF_TRAP = const offset_of!(Block, leaf_trap),
    FRAME = const offset_of!(Block, frame),
    F_CS = const offset_of!(InterruptFrame, cs),
    F_RFLAGS = const offset_of!(InterruptFrame, rflags),
    F_RSP = const offset_of!(InterruptFrame, rsp),
    F_SS = const offset_of!(InterruptFrame, ss),
    REGS = const offset_of!(Block, regs),
    REGION = const REGION,
    XSAVE = const XSAVE_OFFSET,
    URSP = const GPRSGX_OFFSET + gpr::URSP,
    URBP = const GPRSGX_OFFSET + gpr::URBP,
    GPRSGX = const GPRSGX_OFFSET,
    G_RSP = const gpr::RSP,
    G_RFLAGS = const gpr::RFLAGS,
    G_RIP = const gpr::RIP,
    G_FSBASE = const gpr::FSBASE,
    G_GSBASE = const gpr::GSBASE,
    OUTCOME_EXIT = const OUTCOME_EXIT,
    OUTCOME_AEX = const OUTCOME_AEX,
    OUTCOME_NOT_ENTERED = const OUTCOME_NOT_ENTERED,
    OUTCOME_REFUSED = const OUTCOME_REFUSED,
    leaf = sym super::aex::leaf,
    handler = sym crate::signal::on_signal,
);

const _: () = assert!(SWITCH_STACK_TOP.is_multiple_of(16) && REGION.is_power_of_two());
