// SPDX-License-Identifier: Apache-2.0
//! Extended state for signal frames.

use alloc::boxed::Box;
use core::arch::global_asm;

use super::thread::{DataPage, slot};

unsafe extern "C" {
    /// Saves the extended state of `mask` in standard form.
    pub(crate) fn vector_save(area: *mut u8, mask: u64);
    /// Loads the extended state of `mask`.
    pub(crate) fn vector_load(area: *const u8, mask: u64);
}

global_asm!(
    r#"
    .section .text.machine, "ax", @progbits
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
    .text
"#
);

/// Room for the standard form of every component of XFRM 0xe7.
pub(crate) const SIZE: usize = 2752;

/// An XSAVE area.
#[repr(C, align(64))]
pub(crate) struct Image(pub(crate) [u8; SIZE]);

/// The components this enclave uses.
pub(crate) fn mask() -> u64 {
    DataPage::current().get(slot::XFRM)
}

/// The registers as they are: of the program, but for xmm0-15.
pub(crate) fn save() -> Box<Image> {
    let mut image = Box::new(Image([0; SIZE]));
    // SAFETY: the area is large enough for every component that XFRM may name.
    unsafe { vector_save(image.0.as_mut_ptr(), mask()) };
    image
}

/// Loads a checked area.
pub(crate) fn load(image: &Image) {
    // SAFETY: the area is whole and its header was rebuilt by the caller, so XRSTOR cannot fault.
    unsafe { vector_load(image.0.as_ptr(), mask()) };
}
