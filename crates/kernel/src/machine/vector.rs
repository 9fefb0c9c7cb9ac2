// SPDX-License-Identifier: Apache-2.0
//! Extended state for signal frames.

use alloc::boxed::Box;

use super::entry::{vector_load, vector_save};
use super::thread::{DataPage, slot};

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
