// SPDX-License-Identifier: Apache-2.0
//! CPUID inside the enclave: the table of [`enclave_abi::cpuid`], nothing else
//! (rule S13).

pub use enclave_abi::cpuid::answer;

use super::frame::Frame;

/// Answers the CPUID instruction that the frame stands on.
pub fn serve(frame: &mut Frame, xfrm: u64) {
    let [eax, ebx, ecx, edx] = answer(frame.rax as u32, frame.rcx as u32, xfrm);
    frame.rax = eax.into();
    frame.rbx = ebx.into();
    frame.rcx = ecx.into();
    frame.rdx = edx.into();
    frame.rip += 2;
}
