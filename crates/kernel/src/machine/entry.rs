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
//! xmm0-15; the upper parts stay in the registers. `machine_exit` saves what is
//! in use, shows the host initial state, and restores it.

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
}

global_asm!(
    r#"
    .section .text.machine, "ax", @progbits

    .macro clear_general
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    .endm

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
    mov ecx, 1
    xgetbv
    and eax, gs:[{XFRM}]
    mov r9d, gs:[{INUSE}]
    test r9b, 1
    jnz 30f
    # What the host has left in x87.
    test al, 1
    jz 20f
    mov r10d, eax
    mov eax, 1
    xor edx, edx
    xrstor64 [rip + CLEAN]
    mov eax, r10d
20: test dword ptr gs:[{XFRM}], 4
    jz 21f
    vzeroall
21: test r9b, 0x44
    jz 23f
    test dword ptr gs:[{XFRM}], 0x40
    jz 22f
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqa64 zmm\i, [r8 + {XSAVE} + 64 * \i]
    .endr
    jmp 23f
22:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqa ymm\i, [r8 + {XSAVE} + 64 * \i]
    .endr
23: test r9b, 0x80
    jz 24f
    .irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqa64 zmm\i, [r8 + {XSAVE} + 64 * \i]
    .endr
    jmp 25f
24: test al, 0x80
    jz 25f
    .irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vpxorq zmm\i, zmm\i, zmm\i
    .endr
25: test r9b, 0x20
    jz 26f
    .irp i, 0,1,2,3,4,5,6,7
    kmovq k\i, [r8 + {XSAVE} + 2048 + 8 * \i]
    .endr
    jmp 27f
26: test al, 0x20
    jz 27f
    .irp i, 0,1,2,3,4,5,6,7
    kxorq k\i, k\i, k\i
    .endr
27: ldmxcsr gs:[{MXCSR}]
    jmp 31f
30: mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [r8 + {XSAVE}]
31:
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
    clear_general
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
    mov edi, {CALL}
    xor esi, esi
    mov qword ptr gs:[{STATE}], {CALLING}
    # Components in use. xmm0-15 are scratch here; those of the program are in
    # its frame. XSAVE and XRSTOR cost hundreds of cycles, so only x87 takes them.
    mov ecx, 1
    xgetbv
    and eax, gs:[{XFRM}]
    mov gs:[{INUSE}], eax
    test al, 1
    jnz 10f
    stmxcsr gs:[{MXCSR}]
    test al, 0x44
    jz 12f
    test dword ptr gs:[{XFRM}], 0x40
    jz 11f
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqa64 [r8 + {XSAVE} + 64 * \i], zmm\i
    .endr
    jmp 12f
11:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqa [r8 + {XSAVE} + 64 * \i], ymm\i
    .endr
12: test al, 0x80
    jz 13f
    .irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqa64 [r8 + {XSAVE} + 64 * \i], zmm\i
    .endr
    .irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vpxorq zmm\i, zmm\i, zmm\i
    .endr
13: test al, 0x20
    jz 14f
    .irp i, 0,1,2,3,4,5,6,7
    kmovq [r8 + {XSAVE} + 2048 + 8 * \i], k\i
    .endr
    .irp i, 0,1,2,3,4,5,6,7
    kxorq k\i, k\i, k\i
    .endr
14: test dword ptr gs:[{XFRM}], 4
    jz 15f
    vzeroall
    jmp 16f
15:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    pxor xmm\i, xmm\i
    .endr
16: ldmxcsr [rip + MXCSR_DEFAULT]
    jmp leave_clean
10: mov eax, gs:[{XFRM}]
    xor edx, edx
    xsavec64 [r8 + {XSAVE}]
leave:
    mov eax, gs:[{XFRM}]
    xor edx, edx
    xrstor64 [rip + CLEAN]
leave_clean:
    mov rbx, gs:[{HOST_RETURN}]
    mov rsp, gs:[{HOST_RSP}]
    mov rbp, gs:[{HOST_RBP}]
    clear_general
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
    clear_general
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
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [rsp + {F_XMM} + 16 * \i], xmm\i
    .endr
    cld
    mov rdi, rsp
    call kernel_syscall
    jmp return_to_user

    .p2align 4
    .globl trap_entry
trap_entry:
    mov rsp, gs:[{FRAME}]
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [rsp + {F_XMM} + 16 * \i], xmm\i
    .endr
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
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps xmm\i, [rsp + {F_XMM} + 16 * \i]
    .endr
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

    .section .rodata.machine, "a", @progbits
    .p2align 6
# Compacted form, nothing present: loads initial state of everything.
CLEAN:
    .zero 512
    .quad 0
    .quad 0x8000000000000000
    .zero 48

MXCSR_DEFAULT:
    .long 0x1f80

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
    INUSE = const slot::INUSE,
    MXCSR = const slot::MXCSR,
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

const _: () = assert!(KERNEL_STACK_TOP.is_multiple_of(64) && size_of::<Frame>().is_multiple_of(64));
const _: () = assert!(REASON_TRAP != REASON_SYSCALL);
