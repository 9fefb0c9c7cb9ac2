// SPDX-License-Identifier: Apache-2.0
//! Every instruction between the host or a program and Rust.
//!
//! Three ways in: EENTER (`enclave_entry`), a rewritten system-call site
//! (`syscall_entry`) and the continuation of an exception (`trap_entry`, where
//! stage 1 points RIP). One way back to programs: `return_to_user`, which may be
//! started again from its first instruction at any point; stage 1 does so when
//! a signal arrives in its midst, so no check is ever missed. Ways out: the
//! gate alone.
//!
//! Kernel Rust is compiled for SSE2 without VEX, so entering it saves only
//! xmm0-15; the upper parts stay in the registers. `machine_exit` saves all of
//! it (XSAVEC), shows the host initial state, and restores it.

use core::arch::global_asm;

use enclave_abi::entry::{AbortReason, Exit};
use sgx::ssa::{GPRSGX_OFFSET, gpr};

use super::thread::{EXCEPTION_STACK_TOP, FRAME_AT, KERNEL_STACK_TOP, SSA_BELOW, slot, state};
use crate::process::frame::{Frame, REASON_SYSCALL, REASON_TRAP};

unsafe extern "C" {
    /// Where rewritten sites jump, RCX being the return address.
    pub(crate) fn syscall_entry();
    /// Where stage 1 points RIP after it has filled the frame.
    pub(crate) fn trap_entry();
    /// First instruction of the restartable return.
    pub(crate) fn return_to_user() -> !;
    /// First instruction after the restartable return.
    pub(crate) fn return_to_user_end();
    /// Leaves for a host call (or resumes); gives the signal hints at return.
    pub(crate) fn machine_exit() -> u64;
    /// Leaves for good, freeing the thread's slot with the last store.
    pub(crate) fn machine_end_thread() -> !;
    /// Leaves for good with an abort reason.
    pub(crate) fn machine_abort(reason: u64) -> !;
    /// Copies bytes; a fault inside ends it early. Gives the bytes not copied.
    pub(crate) fn copy_bytes(to: u64, from: u64, len: u64) -> u64;
    /// Copies 8-byte words; a fault inside ends it early. Gives the words not copied.
    pub(crate) fn copy_words(to: u64, from: u64, count: u64) -> u64;
    /// The instructions of the two copies above that may fault, and where they go on.
    pub(crate) fn copy_bytes_rep();
    pub(crate) fn copy_words_rep();
    pub(crate) fn copy_bytes_out();
    pub(crate) fn copy_words_out();
    /// ENCLU with a leaf number and RBX, RCX, RDX; gives RAX.
    pub(crate) fn gate_call(leaf: u64, rbx: u64, rcx: u64, rdx: u64) -> u64;
    /// Saves the extended state of `mask` in standard form.
    pub(crate) fn vector_save(area: *mut u8, mask: u64);
    /// Loads the extended state of `mask`.
    pub(crate) fn vector_load(area: *const u8, mask: u64);
}

global_asm!(
    r#"
    .section .text.machine, "ax", @progbits

# The gate. The host may have replaced its first 14 bytes by a jump.
    .p2align 4
    .globl enclave_gate
    .hidden enclave_gate
enclave_gate:
    .byte 0x0f, 0x01, 0xd7
    .byte 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00
    .byte 0x0f, 0x1f, 0x44, 0x00, 0x00
    ret

    .p2align 4
    .globl enclave_entry
enclave_entry:
    cld
    cmp dword ptr [rip + DEAD], 0
    jne 9f
    test rax, rax
    jnz exception_entry
    cmp qword ptr gs:[{STATE}], {CALLING}
    jne first_entry

# Return of a host call: RDI = hints.
    mov qword ptr gs:[{STATE}], {RUNNING}
    mov gs:[{HOST_RETURN}], rcx
    mov gs:[{HOST_RSP}], rsp
    mov gs:[{HOST_RBP}], rbp
    mov rsp, gs:[{KERNEL_RSP}]
    push 2
    popfq
    rdgsbase r8
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [r8 + {XSAVE}]
    mov rax, rdi
    pop rdx
    wrfsbase rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

first_entry:
    mov gs:[{HOST_RETURN}], rcx
    mov gs:[{HOST_RSP}], rsp
    mov gs:[{HOST_RBP}], rbp
    rdgsbase r8
    cmp qword ptr gs:[{STATE}], {STARTABLE}
    je 2f
    cmp qword ptr gs:[{STATE}], {FREE}
    jne 9f
    # Only the very first entry of the enclave may find a free thread.
    mov eax, 1
    xchg eax, [rip + BOOTED]
    test eax, eax
    jnz 9f
    mov qword ptr gs:[{STATE}], {RUNNING}
    lea rsp, [r8 + {FRAME_AT}]
    mov gs:[{FRAME}], rsp
    push 2
    popfq
    mov r12, rdi
    mov r13, rsi
    mov r14, rdx
    mov eax, 7
    mov gs:[{XFRM}], rax
    xor edx, edx
    xrstor64 [rip + CLEAN]

    # Apply R_X86_64_RELATIVE; nothing relocated is used before that.
    lea r8, [rip + __ehdr_start]
    lea r9, [rip + _DYNAMIC]
    xor r10d, r10d
    xor r11d, r11d
3:  mov rax, [r9]
    mov rdx, [r9 + 8]
    add r9, 16
    test rax, rax
    jz 5f
    cmp rax, 7
    jne 4f
    lea r10, [r8 + rdx]
4:  cmp rax, 8
    jne 3b
    mov r11, rdx
    jmp 3b
5:  add r11, r10
6:  cmp r10, r11
    jae 7f
    cmp dword ptr [r10 + 8], 8
    jne 8f
    mov rax, [r10]
    mov rdx, [r10 + 16]
    add rdx, r8
    mov [r8 + rax], rdx
    add r10, 24
    jmp 6b
7:  mov rdi, r12
    mov rsi, r13
    mov rdx, r14
    mov rcx, r8
    call kernel_boot
    jmp return_to_user
8:  mov edi, {BAD_IMAGE}
    jmp machine_abort

# First entry of a started thread.
2:  mov qword ptr gs:[{STATE}], {RUNNING}
    lea rsp, [r8 + {FRAME_AT}]
    push 2
    popfq
    mov r12, rdi
    mov r13, rsi
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [rip + CLEAN]
    mov rdi, r12
    mov rsi, r13
    call kernel_thread_start
    jmp return_to_user

9:  mov edi, {BAD_ENTRY}
    jmp machine_abort

# CSSA > 0: RAX = CSSA, RDI = hints.
exception_entry:
    cmp rax, 1
    jne nested_entry
    rdgsbase r8
    mov r9, rsp
    lea rsp, [r8 + {EXCEPTION_TOP}]
    push 2
    popfq
    push rcx
    push r9
    push rbp
    push rbp
    call kernel_exception
    pop rbp
    pop rbp
    pop r9
    pop rbx
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [rip + CLEAN]
    mov rsp, r9
resume:
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    mov edi, {RESUME}
    mov eax, 4
    jmp enclave_gate

# An AEX inside stage 1. Interrupts are harmless; an exception is the end.
nested_entry:
    cmp rax, 2
    jne 2f
    rdgsbase r8
    test dword ptr [r8 - {SSA_BELOW} + 4096 + {EXITINFO}], 0x80000000
    jnz 2f
    mov rbx, rcx
    jmp resume
2:  mov gs:[{HOST_RETURN}], rcx
    mov gs:[{HOST_RSP}], rsp
    mov gs:[{HOST_RBP}], rbp
    mov edi, {KERNEL_FAULT}
    jmp machine_abort

# Never returns; may be reached on any stack.
    .globl machine_abort
machine_abort:
    mov dword ptr [rip + DEAD], 1
    mov rsi, rdi
    mov edi, {ABORT}
    mov qword ptr gs:[{STATE}], {RUNNING}
    jmp leave

    .p2align 4
    .globl machine_exit
machine_exit:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    rdfsbase rax
    push rax
    mov gs:[{KERNEL_RSP}], rsp
    rdgsbase r8
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xsavec64 [r8 + {XSAVE}]
    mov edi, {CALL}
    xor esi, esi
    mov qword ptr gs:[{STATE}], {CALLING}
leave:
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [rip + CLEAN]
    mov rbx, gs:[{HOST_RETURN}]
    mov rsp, gs:[{HOST_RSP}]
    mov rbp, gs:[{HOST_RBP}]
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    xor ecx, ecx
    xor edx, edx
    mov eax, 4
    jmp enclave_gate

# The thread's slot may be taken again right after the store to STATE.
    .globl machine_end_thread
machine_end_thread:
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [rip + CLEAN]
    mov rbx, gs:[{HOST_RETURN}]
    mov rsp, gs:[{HOST_RSP}]
    mov rbp, gs:[{HOST_RBP}]
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    xor ecx, ecx
    xor esi, esi
    mov edi, {CALL}
    mov qword ptr gs:[{STATE}], {FREE}
    mov eax, 4
    jmp enclave_gate

    .p2align 4
    .globl syscall_entry
syscall_entry:
    mov gs:[{USER_RSP}], rsp
    mov rsp, gs:[{FRAME}]
    mov [rsp + {F_RAX}], rax
    mov [rsp + {F_ORIG}], rax
    mov [rsp + {F_RIP}], rcx
    mov rax, gs:[{USER_RSP}]
    mov [rsp + {F_RSP}], rax
    mov [rsp + {F_RDI}], rdi
    mov [rsp + {F_RSI}], rsi
    mov [rsp + {F_RDX}], rdx
    mov [rsp + {F_R10}], r10
    mov [rsp + {F_R8}], r8
    mov [rsp + {F_R9}], r9
    mov [rsp + {F_RCX}], rcx
    mov [rsp + {F_RBX}], rbx
    mov [rsp + {F_RBP}], rbp
    mov [rsp + {F_R12}], r12
    mov [rsp + {F_R13}], r13
    mov [rsp + {F_R14}], r14
    mov [rsp + {F_R15}], r15
    pushfq
    pop r11
    mov [rsp + {F_RFLAGS}], r11
    mov [rsp + {F_R11}], r11
    mov qword ptr [rsp + {F_REASON}], {SYSCALL}
    movaps [rsp + {F_XMM} + 0x00], xmm0
    movaps [rsp + {F_XMM} + 0x10], xmm1
    movaps [rsp + {F_XMM} + 0x20], xmm2
    movaps [rsp + {F_XMM} + 0x30], xmm3
    movaps [rsp + {F_XMM} + 0x40], xmm4
    movaps [rsp + {F_XMM} + 0x50], xmm5
    movaps [rsp + {F_XMM} + 0x60], xmm6
    movaps [rsp + {F_XMM} + 0x70], xmm7
    movaps [rsp + {F_XMM} + 0x80], xmm8
    movaps [rsp + {F_XMM} + 0x90], xmm9
    movaps [rsp + {F_XMM} + 0xa0], xmm10
    movaps [rsp + {F_XMM} + 0xb0], xmm11
    movaps [rsp + {F_XMM} + 0xc0], xmm12
    movaps [rsp + {F_XMM} + 0xd0], xmm13
    movaps [rsp + {F_XMM} + 0xe0], xmm14
    movaps [rsp + {F_XMM} + 0xf0], xmm15
    cld
    mov rdi, rsp
    call kernel_syscall
    jmp return_to_user

    .p2align 4
    .globl trap_entry
trap_entry:
    mov rsp, gs:[{FRAME}]
    movaps [rsp + {F_XMM} + 0x00], xmm0
    movaps [rsp + {F_XMM} + 0x10], xmm1
    movaps [rsp + {F_XMM} + 0x20], xmm2
    movaps [rsp + {F_XMM} + 0x30], xmm3
    movaps [rsp + {F_XMM} + 0x40], xmm4
    movaps [rsp + {F_XMM} + 0x50], xmm5
    movaps [rsp + {F_XMM} + 0x60], xmm6
    movaps [rsp + {F_XMM} + 0x70], xmm7
    movaps [rsp + {F_XMM} + 0x80], xmm8
    movaps [rsp + {F_XMM} + 0x90], xmm9
    movaps [rsp + {F_XMM} + 0xa0], xmm10
    movaps [rsp + {F_XMM} + 0xb0], xmm11
    movaps [rsp + {F_XMM} + 0xc0], xmm12
    movaps [rsp + {F_XMM} + 0xd0], xmm13
    movaps [rsp + {F_XMM} + 0xe0], xmm14
    movaps [rsp + {F_XMM} + 0xf0], xmm15
    cld
    mov rdi, rsp
    call kernel_trap
    jmp return_to_user

attention:
    mov rdi, rsp
    call kernel_attention

# Restartable: reads the frame, changes nothing but registers and USER_RIP.
    .p2align 4
    .globl return_to_user
return_to_user:
    mov rsp, gs:[{FRAME}]
    cmp dword ptr gs:[{ATTENTION}], 0
    jne attention
    movaps xmm0, [rsp + {F_XMM} + 0x00]
    movaps xmm1, [rsp + {F_XMM} + 0x10]
    movaps xmm2, [rsp + {F_XMM} + 0x20]
    movaps xmm3, [rsp + {F_XMM} + 0x30]
    movaps xmm4, [rsp + {F_XMM} + 0x40]
    movaps xmm5, [rsp + {F_XMM} + 0x50]
    movaps xmm6, [rsp + {F_XMM} + 0x60]
    movaps xmm7, [rsp + {F_XMM} + 0x70]
    movaps xmm8, [rsp + {F_XMM} + 0x80]
    movaps xmm9, [rsp + {F_XMM} + 0x90]
    movaps xmm10, [rsp + {F_XMM} + 0xa0]
    movaps xmm11, [rsp + {F_XMM} + 0xb0]
    movaps xmm12, [rsp + {F_XMM} + 0xc0]
    movaps xmm13, [rsp + {F_XMM} + 0xd0]
    movaps xmm14, [rsp + {F_XMM} + 0xe0]
    movaps xmm15, [rsp + {F_XMM} + 0xf0]
    mov rax, [rsp + {F_RIP}]
    mov gs:[{USER_RIP}], rax
    cmp qword ptr [rsp + {F_REASON}], {SYSCALL}
    je 2f
    # Flags of an interrupted program; a system call leaves them undefined.
    push qword ptr [rsp + {F_RFLAGS}]
    popfq
2:  mov rax, [rsp + {F_RAX}]
    mov rbx, [rsp + {F_RBX}]
    mov rcx, [rsp + {F_RCX}]
    mov rdx, [rsp + {F_RDX}]
    mov rsi, [rsp + {F_RSI}]
    mov rdi, [rsp + {F_RDI}]
    mov rbp, [rsp + {F_RBP}]
    mov r8, [rsp + {F_R8}]
    mov r9, [rsp + {F_R9}]
    mov r10, [rsp + {F_R10}]
    mov r11, [rsp + {F_R11}]
    mov r12, [rsp + {F_R12}]
    mov r13, [rsp + {F_R13}]
    mov r14, [rsp + {F_R14}]
    mov r15, [rsp + {F_R15}]
    mov rsp, [rsp + {F_RSP}]
    jmp qword ptr gs:[{USER_RIP}]
    .globl return_to_user_end
return_to_user_end:
    ud2

    .p2align 4
    .globl copy_bytes
copy_bytes:
    mov rcx, rdx
    .globl copy_bytes_rep
copy_bytes_rep:
    rep movsb
    .globl copy_bytes_out
copy_bytes_out:
    mov rax, rcx
    ret

    .p2align 4
    .globl copy_words
copy_words:
    mov rcx, rdx
    .globl copy_words_rep
copy_words_rep:
    rep movsq
    .globl copy_words_out
copy_words_out:
    mov rax, rcx
    ret

    .p2align 4
    .globl gate_call
gate_call:
    push rbx
    mov rax, rdi
    mov rbx, rsi
    xchg rdx, rcx
    call enclave_gate
    pop rbx
    ret

    .globl vector_save
vector_save:
    mov eax, esi
    xor edx, edx
    xsave64 [rdi]
    ret

    .globl vector_load
vector_load:
    mov eax, esi
    xor edx, edx
    xrstor64 [rdi]
    ret

    .section .rodata.machine, "a", @progbits
    .p2align 6
# Compacted form, nothing present: loads initial state of everything.
CLEAN:
    .zero 512
    .quad 0
    .quad 0x8000000000000000
    .zero 48

    .section .data.machine, "aw", @progbits
    .p2align 3
BOOTED:
    .long 0
    .globl DEAD
DEAD:
    .long 0
    .text
"#,
    STATE = const slot::STATE,
    HOST_RETURN = const slot::HOST_RETURN,
    HOST_RSP = const slot::HOST_RSP,
    HOST_RBP = const slot::HOST_RBP,
    KERNEL_RSP = const slot::KERNEL_RSP,
    USER_RSP = const slot::USER_RSP,
    USER_RIP = const slot::USER_RIP,
    FRAME = const slot::FRAME,
    ATTENTION = const slot::ATTENTION,
    XFRM = const slot::XFRM,
    XSAVE = const slot::XSAVE,
    FREE = const state::FREE,
    STARTABLE = const state::STARTABLE,
    RUNNING = const state::RUNNING,
    CALLING = const state::CALLING,
    FRAME_AT = const FRAME_AT,
    EXCEPTION_TOP = const EXCEPTION_STACK_TOP,
    SSA_BELOW = const SSA_BELOW,
    EXITINFO = const GPRSGX_OFFSET + gpr::EXITINFO,
    CALL = const Exit::Call as u64,
    RESUME = const Exit::Resume as u64,
    ABORT = const Exit::Abort as u64,
    BAD_ENTRY = const AbortReason::BadEntry as u64,
    BAD_IMAGE = const AbortReason::BadImage as u64,
    KERNEL_FAULT = const AbortReason::KernelFault as u64,
    SYSCALL = const REASON_SYSCALL,
    F_R15 = const core::mem::offset_of!(Frame, r15),
    F_R14 = const core::mem::offset_of!(Frame, r14),
    F_R13 = const core::mem::offset_of!(Frame, r13),
    F_R12 = const core::mem::offset_of!(Frame, r12),
    F_RBP = const core::mem::offset_of!(Frame, rbp),
    F_RBX = const core::mem::offset_of!(Frame, rbx),
    F_R11 = const core::mem::offset_of!(Frame, r11),
    F_R10 = const core::mem::offset_of!(Frame, r10),
    F_R9 = const core::mem::offset_of!(Frame, r9),
    F_R8 = const core::mem::offset_of!(Frame, r8),
    F_RAX = const core::mem::offset_of!(Frame, rax),
    F_RCX = const core::mem::offset_of!(Frame, rcx),
    F_RDX = const core::mem::offset_of!(Frame, rdx),
    F_RSI = const core::mem::offset_of!(Frame, rsi),
    F_RDI = const core::mem::offset_of!(Frame, rdi),
    F_ORIG = const core::mem::offset_of!(Frame, orig_rax),
    F_RIP = const core::mem::offset_of!(Frame, rip),
    F_RFLAGS = const core::mem::offset_of!(Frame, rflags),
    F_RSP = const core::mem::offset_of!(Frame, rsp),
    F_XMM = const core::mem::offset_of!(Frame, xmm),
    F_REASON = const core::mem::offset_of!(Frame, reason),
);

const _: () = assert!(KERNEL_STACK_TOP % 64 == 0 && size_of::<Frame>() % 64 == 0);
const _: () = assert!(REASON_TRAP != REASON_SYSCALL);
