// SPDX-License-Identifier: Apache-2.0
//! The emulated SGX processor.
//!
//! It does to an ordinary process what SGX silicon and the Linux driver do
//! together: it lays pages out in ELRANGE and measures them, checks the
//! SIGSTRUCT, enters and leaves the enclave, saves state at asynchronous exits
//! and executes the ENCLU leaves. The enclave's bytes are the same as on
//! hardware, and so is MRENCLAVE. It protects nothing against the machine's
//! owner.
//!
//! | module | what |
//! |---|---|
//! | [`platform`] | what this machine's CPU and kernel can do for the emulation |
//! | [`enclave`] | ECREATE, EADD, EEXTEND, EINIT |
//! | [`edmm`] | the driver's dynamic memory calls, EACCEPT and EMODPE |
//! | [`keys`] | who answers EREPORT and EGETKEY |
//! | [`processor`] | one logical processor: EENTER, ERESUME |
//! | [`signal`] | how faults and signals become AEX |
//!
//! # Modes
//! [`Mode::Strict`] lets every ENCLU fault, enforces the permissions of each
//! page and wants CPUID to fault. [`Mode::Fast`] overwrites the kernel's gate
//! after the measurement with a jump to a trampoline and leaves pages that
//! nobody restricted readable, writable and executable. MRENCLAVE is equal.
//!
//! # What differs from silicon
//! * Nothing is encrypted or isolated, EPC paging and its timing do not exist.
//! * ENCLS restrictions, launch control and AEX-Notify are not modelled.
//! * XGETBV shows the machine's XCR0 where silicon shows XFRM.
//! * IRET and far branches run where silicon raises #UD.
//! * CPUID runs on the machine where it cannot be made to fault
//!   ([`platform::Support::cpuid_faulting`]).
//! * A stack fault (#SS) ends the process: SGX does not report it to an enclave.

pub mod edmm;
pub mod enclave;
mod epcm;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod keys;
mod leaf;
mod memory;
pub mod platform;
pub mod processor;
pub mod signal;

/// How faithful the emulation is; see the crate's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Gate patched, pages writable and executable unless restricted.
    Fast,
    /// ENCLU by fault, page permissions enforced.
    Strict,
}
