// SPDX-License-Identifier: Apache-2.0
//! Copies that may fault: between the kernel, programs and the call area.

use core::arch::global_asm;

unsafe extern "C" {
    /// Copies bytes; a fault inside ends it early. Gives the bytes not copied.
    pub(crate) fn copy_bytes(to: u64, from: u64, len: u64) -> u64;
    /// Copies 8-byte words; a fault inside ends it early. Gives the words not copied.
    pub(crate) fn copy_words(to: u64, from: u64, count: u64) -> u64;
    /// The instructions of the two copies above that may fault, and where they go on.
    pub(crate) fn copy_bytes_rep();
    pub(crate) fn copy_words_rep();
    pub(crate) fn copy_bytes_out();
    pub(crate) fn copy_words_out();
}

global_asm!(
    r#"
    .section .text.machine, "ax", @progbits
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
    .text
"#
);
