// SPDX-License-Identifier: Apache-2.0
//! ENCLU leaves that return (SDM vol. 3D §40.4), all through the one gate.

use core::arch::global_asm;

use enclave_abi::entry::AbortReason;
use sgx::PAGE_SIZE;
use sgx::key::KeyRequest;
use sgx::leaf::{enclu, error};
use sgx::report::{Report, TargetInfo};
use sgx::secinfo::{PageFlags, PageType, SecInfo};

unsafe extern "C" {
    /// ENCLU with a leaf number and RBX, RCX, RDX; gives RAX.
    pub(crate) fn gate_call(leaf: u64, rbx: u64, rcx: u64, rdx: u64) -> u64;
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
    .globl gate_call
gate_call:
    push rbx
    mov rax, rdi
    mov rbx, rsi
    xchg rdx, rcx
    call enclave_gate
    pop rbx
    ret
    .text
"#
);

#[repr(C, align(512))]
struct Aligned<const N: usize>([u8; N]);

fn leaf(number: u32, rbx: u64, rcx: u64, rdx: u64) -> u64 {
    // SAFETY: the callers of this function give addresses of live, aligned
    // structures of the leaf's size, or of enclave pages nothing refers to yet.
    unsafe { gate_call(number.into(), rbx, rcx, rdx) }
}

fn addr<T>(value: &T) -> u64 {
    core::ptr::from_ref(value) as u64
}

/// EREPORT.
pub(crate) fn report(target: &TargetInfo, data: &[u8; 64]) -> Report {
    let target = Aligned(target.to_bytes());
    let data = Aligned(*data);
    let mut out = Aligned([0; Report::SIZE]);
    let to = core::ptr::from_mut(&mut out) as u64;
    leaf(enclu::EREPORT, addr(&target), addr(&data), to);
    Report::from_bytes(&core::hint::black_box(&out).0)
}

/// EGETKEY; the error code otherwise.
pub(crate) fn key(request: &KeyRequest) -> Result<[u8; 16], u64> {
    let request = Aligned(request.to_bytes());
    let mut out = Aligned([0; 16]);
    let to = core::ptr::from_mut(&mut out) as u64;
    match leaf(enclu::EGETKEY, addr(&request), to, 0) {
        error::SUCCESS => Ok(core::hint::black_box(&out).0),
        code => Err(code),
    }
}

/// EACCEPT of one page; any error means that the host did not do its part or
/// did something else, and ends the enclave.
fn accept(page: u64, info: SecInfo) {
    let info = Aligned(info.to_bytes());
    if leaf(enclu::EACCEPT, addr(&info), page, 0) != error::SUCCESS {
        super::abort(AbortReason::HostLied);
    }
}

/// Accepts fresh pages, which come zeroed, readable and writable.
pub(crate) fn accept_new(start: u64, pages: u64) {
    for index in 0..pages {
        accept(
            start + index * PAGE_SIZE as u64,
            SecInfo::reg(PageFlags::R | PageFlags::W | PageFlags::PENDING),
        );
    }
}

/// Accepts that the host has taken permissions away.
pub(crate) fn accept_restricted(start: u64, pages: u64, left: PageFlags) {
    for index in 0..pages {
        accept(
            start + index * PAGE_SIZE as u64,
            SecInfo::reg(left | PageFlags::PR),
        );
    }
}

/// Accepts that pages are about to be removed.
pub(crate) fn accept_trimmed(start: u64, pages: u64) {
    for index in 0..pages {
        accept(
            start + index * PAGE_SIZE as u64,
            SecInfo {
                flags: PageFlags::MODIFIED,
                page_type: PageType::Trim,
            },
        );
    }
}

/// EMODPE: adds permissions.
pub(crate) fn extend(start: u64, pages: u64, flags: PageFlags) {
    let info = Aligned(SecInfo::reg(flags).to_bytes());
    for index in 0..pages {
        leaf(
            enclu::EMODPE,
            addr(&info),
            start + index * PAGE_SIZE as u64,
            0,
        );
    }
}
