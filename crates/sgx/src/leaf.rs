// SPDX-License-Identifier: Apache-2.0
//! ENCLU leaf numbers (SDM vol. 3D table 37-3) and error codes in RAX
//! (SDM vol. 3D table 37-4).

/// Leaf numbers, given in EAX.
pub mod enclu {
    #![allow(missing_docs, reason = "each constant is named after its leaf")]
    pub const EREPORT: u32 = 0;
    pub const EGETKEY: u32 = 1;
    pub const EENTER: u32 = 2;
    pub const ERESUME: u32 = 3;
    pub const EEXIT: u32 = 4;
    pub const EACCEPT: u32 = 5;
    pub const EMODPE: u32 = 6;
    pub const EACCEPTCOPY: u32 = 7;
}

/// Error codes.
pub mod error {
    #![allow(missing_docs, reason = "each constant is named after its error")]
    pub const SUCCESS: u64 = 0;
    pub const INVALID_SIG_STRUCT: u64 = 1;
    pub const INVALID_ATTRIBUTE: u64 = 2;
    pub const INVALID_MEASUREMENT: u64 = 4;
    pub const INVALID_SIGNATURE: u64 = 8;
    pub const PAGE_ATTRIBUTES_MISMATCH: u64 = 19;
    pub const INVALID_CPUSVN: u64 = 32;
    pub const INVALID_ISVSVN: u64 = 64;
    pub const INVALID_KEYNAME: u64 = 256;
}
