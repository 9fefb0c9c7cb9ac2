// SPDX-License-Identifier: Apache-2.0
//! The tiny enclave's instructions.

use std::arch::global_asm;

use super::CODE;

unsafe extern "C" {
    static tiny_begin: u8;
    static tiny_end: u8;
    static tiny_gate: u8;
    static tiny_entry: u8;
    static tiny_snippet_syscall: u8;
    static tiny_snippet_cpuid: u8;
    static tiny_snippet_in: u8;
    static tiny_snippet_int: u8;
    static tiny_snippet_ud2: u8;
    static tiny_snippet_div: u8;
    static tiny_snippet_int3: u8;
    static tiny_snippet_hlt: u8;
}

global_asm!(
    r#"
    .pushsection .rodata.tiny, "a", @progbits
    .p2align 12
    .globl tiny_begin, tiny_end, tiny_gate, tiny_entry
tiny_begin:
tiny_gate:
    .byte 0x0f, 0x01, 0xd7, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x0f, 0x1f, 0x44, 0x00, 0x00
    ret

tiny_entry:
    cld
    mov gs:[0], rsp
    mov gs:[8], rbp
    mov gs:[16], rcx
    test rax, rax
    jnz 90f
    mov rsp, gs:[24]
    cmp rdi, 0
    je 10f
    cmp rdi, 1
    je 11f
    cmp rdi, 2
    je 12f
    cmp rdi, 3
    je 13f
    cmp rdi, 4
    je 14f
    cmp rdi, 5
    je 15f
    cmp rdi, 6
    je 16f
    cmp rdi, 7
    je 17f
    cmp rdi, 8
    je 18f
    ud2

10: # echo: RSI + 1
    lea rsi, [rsi + 1]
    mov edi, 0x55
    jmp 99f

11: # leaf ESI with operands from the data page at 64, 72, 80
    mov rax, rsi
    mov rbx, gs:[64]
    mov rcx, gs:[72]
    mov rdx, gs:[80]
    mov r8, 0x1111
    mov r15, 0x2222
    movq xmm7, r8
    call tiny_gate
    setz gs:[96]
    mov gs:[88], rax
    movq rsi, xmm7
    add rsi, r8
    add rsi, r15
    mov edi, 0x56
    jmp 99f

12: # read a byte at RSI
    movzx esi, byte ptr [rsi]
    mov edi, 0x57
    jmp 99f

13: # write at RSI
    mov qword ptr [rsi], 77
    mov edi, 0x58
    jmp 99f

14: # spin until an exit was seen
    mov r12, 0x1234567
    xor esi, esi
20:
    inc rsi
    cmp qword ptr gs:[32], 0
    je 20b
    mov rsi, r12
    mov edi, 0x59
    jmp 99f

15: # call RSI
    call rsi
    mov rsi, rax
    mov edi, 0x5a
    jmp 99f

16: # vector and x87 state through many exits: RSI = number of rounds
    mov rcx, 0x5a5a5a5aa5a5a5a5
    movq xmm0, rcx
    vpbroadcastq ymm15, xmm0
    vpbroadcastq ymm3, xmm0
    fninit
    fldpi
    fld1
    mov r13, rsi
21:
    dec r13
    jz 22f
    pause
    cmp qword ptr gs:[32], 100
    jb 21b
22:
    xor esi, esi
    vpxor ymm15, ymm15, ymm3
    vptest ymm15, ymm15
    jz 23f
    or esi, 1
23:
    vmovq rax, xmm3
    cmp rax, rcx
    je 24f
    or esi, 2
24:
    fld1
    fcomip st, st(1)
    je 25f
    or esi, 4
25:
    fstp st(0)
    fldpi
    fcomip st, st(1)
    je 26f
    or esi, 8
26:
    fninit
    vzeroupper
    mov edi, 0x5b
    jmp 99f

17: # ENCLU that is not the gate, leaf ESI
    mov rax, rsi
    mov rbx, gs:[64]
    mov rcx, gs:[72]
    mov rdx, gs:[80]
    .byte 0x0f, 0x01, 0xd7
    setz gs:[96]
    mov gs:[88], rax
    mov edi, 0x5c
    jmp 99f

18: # RSI times the leaf of the data page, counting in R14
    mov r13, rsi
    xor r14d, r14d
27:
    mov rax, gs:[104]
    mov rbx, gs:[64]
    mov rcx, gs:[72]
    mov rdx, gs:[80]
    call tiny_gate
    inc r14
    dec r13
    jnz 27b
    mov rsi, r14
    mov edi, 0x5d
    jmp 99f

90: # CSSA >= 1: look at the frame below
    mov r10, gs:[40]
    dec rax
    shl rax, 12
    add r10, rax
    inc qword ptr gs:[160]
    mov eax, [r10 + 3912 + 160]
    mov gs:[128], rax
    mov rcx, [r10 + 3912 + 136]
    mov gs:[136], rcx
    test eax, eax
    jns 91f
    mov rcx, [r10 + 3912 - 16]
    mov gs:[144], rcx
    mov rcx, [r10 + 3912 - 8]
    mov gs:[152], rcx
    cmp qword ptr gs:[168], 0
    jne 92f
    mov rcx, gs:[48]
    add [r10 + 3912 + 136], rcx
    jmp 93f
91:
    inc qword ptr gs:[32]
    jmp 93f
92: # demand paging: accept the page that faulted
    mov rcx, gs:[144]
    and rcx, -4096
    mov rbx, gs:[176]
    mov rsp, gs:[184]
    mov eax, 5
    call tiny_gate
    mov gs:[88], rax
93:
    mov edi, 1
    xor esi, esi

99: # EEXIT
    xor edx, edx
    xor r8d, r8d
    mov rbx, gs:[16]
    mov rsp, gs:[0]
    mov rbp, gs:[8]
    mov eax, 4
    jmp tiny_gate

    .globl tiny_snippet_syscall, tiny_snippet_cpuid, tiny_snippet_in, tiny_snippet_int
    .globl tiny_snippet_ud2, tiny_snippet_div, tiny_snippet_int3, tiny_snippet_hlt
tiny_snippet_syscall:
    mov eax, 39
    syscall
    ret
tiny_snippet_cpuid:
    xor eax, eax
    cpuid
    ret
tiny_snippet_in:
    in al, dx
    nop
    ret
tiny_snippet_int:
    int 0x21
    ret
tiny_snippet_ud2:
    ud2
    ret
tiny_snippet_div:
    xor edx, edx
    xor ecx, ecx
    div ecx
    ret
tiny_snippet_int3:
    int3
    nop
    ret
tiny_snippet_hlt:
    hlt
    nop
    ret
    .p2align 12
tiny_end:
    .popsection
    "#
);

pub(super) fn code() -> &'static [u8] {
    let begin = &raw const tiny_begin;
    let end = &raw const tiny_end;
    // SAFETY: both labels bound the section above.
    unsafe { std::slice::from_raw_parts(begin, end as usize - begin as usize) }
}

/// The entry point's address inside the enclave.
pub(super) fn entry() -> u64 {
    offset_of(&raw const tiny_entry)
}

fn offset_of(label: *const u8) -> u64 {
    CODE + (label as usize - (&raw const tiny_begin) as usize) as u64
}

/// The address of a snippet inside the enclave and of its faulting instruction.
pub(crate) fn snippet(name: &str) -> (u64, u64) {
    let (label, before) = match name {
        "syscall" => (&raw const tiny_snippet_syscall, 5),
        "cpuid" => (&raw const tiny_snippet_cpuid, 2),
        "in" => (&raw const tiny_snippet_in, 0),
        "int" => (&raw const tiny_snippet_int, 0),
        "ud2" => (&raw const tiny_snippet_ud2, 0),
        "div" => (&raw const tiny_snippet_div, 4),
        "int3" => (&raw const tiny_snippet_int3, 0),
        "hlt" => (&raw const tiny_snippet_hlt, 0),
        _ => panic!("no such snippet"),
    };
    (offset_of(label), offset_of(label) + before)
}
