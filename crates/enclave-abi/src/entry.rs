// SPDX-License-Identifier: Apache-2.0
//! Registers at every entry and exit, and the gate.
//!
//! | event | registers |
//! |---|---|
//! | EENTER, CSSA 0, first on this TCS | RDI = address of the call area, RSI = its length, RDX = length of the start block at [`crate::call::DATA_OFFSET`] (first thread of the enclave; 0 for every other) |
//! | EENTER, CSSA 0, return of a host call | RDI = signal hints; the result is in the call area |
//! | EENTER, CSSA ≥ 1 | RDI = signal hints; the kernel looks at SSA\[CSSA-1\] and leaves with [`Exit::Resume`] |
//! | EEXIT | RAX = 4, RBX = return address given in RCX at EENTER, RDI = [`Exit`] number, RSP and RBP as the host had them, everything else zero |
//!
//! The kernel accepts the call area once per TCS; a second first-entry, an
//! entry on a TCS that nobody started and a return without a pending call end
//! the enclave. RSP and the call site are the same at every EENTER of a thread.
//! Signal hints are an untrusted bitmap (bit n-1 = signal n).

/// Why the enclave leaves: RDI at EEXIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Exit {
    /// The call area holds a host call; enter again with its result.
    Call = 0,
    /// Issue ERESUME on this TCS.
    Resume = 1,
    /// The kernel has found itself attacked or broken; RSI holds an [`AbortReason`].
    Abort = 2,
}

impl Exit {
    /// The exit with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Call,
            1 => Self::Resume,
            2 => Self::Abort,
            _ => return None,
        })
    }
}

/// Why the kernel gave up. The number reaches the host and says nothing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum AbortReason {
    /// A Rust panic in the kernel.
    Panic = 1,
    /// An entry that the rules of this module forbid.
    BadEntry = 2,
    /// A fault inside the kernel.
    KernelFault = 3,
    /// A host answer that breaks the rules of [`crate::call`].
    HostLied = 4,
    /// The measured boot data do not fit together.
    BadImage = 5,
    /// RDRAND failed repeatedly.
    NoEntropy = 6,
    /// The kernel's own memory is exhausted.
    OutOfMemory = 7,
    /// A page fault that the kernel's map says cannot happen kept coming back (rule S12).
    FaultInjected = 8,
    /// Bytes that the FSPF or the measured startup list pins cannot be had: the
    /// host gives others, or none.
    Tampered = 9,
}

/// The gate: every ENCLU of the kernel is this one. `ENCLU` (0f 01 d7), NOPs up
/// to [`GATE_LEN`] bytes, then `RET`. A backend may overwrite the first
/// [`GATE_LEN`] bytes with `jmp [rip+0]` and an address after EINIT; the
/// measurement does not notice because it is made of the file's bytes.
pub const GATE_LEN: usize = 14;

/// The gate's bytes as measured: ENCLU and eleven bytes of NOP.
pub const GATE_BYTES: [u8; GATE_LEN] = [
    0x0f, 0x01, 0xd7, // enclu
    0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, // nopw 0(%rax,%rax,1)
    0x0f, 0x1f, 0x44, 0x00, 0x00, // nopl 0(%rax,%rax,1)
];
