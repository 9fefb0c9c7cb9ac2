// SPDX-License-Identifier: Apache-2.0
//! SSA: where an AEX saves a thread's state (SDM vol. 3D §38.9).
//!
//! A frame is `SSAFRAMESIZE` pages. XSAVE data starts at its beginning; GPRSGX
//! ends it; MISC (EXINFO) lies directly below GPRSGX.

use crate::PAGE_SIZE;

/// Size of GPRSGX in bytes.
pub const GPRSGX_SIZE: usize = 184;
/// Size of the EXINFO part of MISC in bytes.
pub const EXINFO_SIZE: usize = 16;
/// Offset of GPRSGX in a frame of one page.
pub const GPRSGX_OFFSET: usize = PAGE_SIZE - GPRSGX_SIZE;
/// Offset of EXINFO in a frame of one page.
pub const EXINFO_OFFSET: usize = GPRSGX_OFFSET - EXINFO_SIZE;

/// Offsets of the fields of GPRSGX (SDM vol. 3D §38.9.1).
pub mod gpr {
    #![allow(missing_docs, reason = "each constant is named after its register")]
    pub const RAX: usize = 0;
    pub const RCX: usize = 8;
    pub const RDX: usize = 16;
    pub const RBX: usize = 24;
    pub const RSP: usize = 32;
    pub const RBP: usize = 40;
    pub const RSI: usize = 48;
    pub const RDI: usize = 56;
    pub const R8: usize = 64;
    pub const R9: usize = 72;
    pub const R10: usize = 80;
    pub const R11: usize = 88;
    pub const R12: usize = 96;
    pub const R13: usize = 104;
    pub const R14: usize = 112;
    pub const R15: usize = 120;
    pub const RFLAGS: usize = 128;
    pub const RIP: usize = 136;
    pub const URSP: usize = 144;
    pub const URBP: usize = 152;
    pub const EXITINFO: usize = 160;
    pub const AEXNOTIFY: usize = 167;
    pub const FSBASE: usize = 168;
    pub const GSBASE: usize = 176;
}

/// EXITINFO (SDM vol. 3D §38.9.1.1): what interrupted the enclave, if it may know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Exception vector; meaningful only if `valid`.
    pub vector: u8,
    /// 3 hardware exception, 6 software exception.
    pub exit_type: u8,
    /// Whether an exception, rather than an interrupt, caused the exit.
    pub valid: bool,
}

impl ExitInfo {
    /// Exit type of a hardware exception.
    pub const HARDWARE: u8 = 3;
    /// Exit type of a software exception (#BP).
    pub const SOFTWARE: u8 = 6;

    /// Decodes the 32-bit field.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self {
            vector: (bits & 0xff) as u8,
            exit_type: ((bits >> 8) & 7) as u8,
            valid: bits >> 31 == 1,
        }
    }

    /// Encodes the 32-bit field.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        u32::from(self.vector) | u32::from(self.exit_type & 7) << 8 | u32::from(self.valid) << 31
    }
}

/// Exception vectors that EXITINFO can report (SDM vol. 3D table 38-10).
pub mod vector {
    #![allow(missing_docs, reason = "each constant is named after its exception")]
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const BP: u8 = 3;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
    pub const CP: u8 = 21;
}
