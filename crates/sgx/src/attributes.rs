// SPDX-License-Identifier: Apache-2.0
//! ATTRIBUTES and MISCSELECT (SDM vol. 3D §38.7.1, §38.7.2).

use bitflags::bitflags;

use crate::field::u64_at;

bitflags! {
    /// The low 64 bits of ATTRIBUTES.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// Set by a successful EINIT.
        const INIT = 1 << 0;
        /// The enclave may be debugged: its memory is open to the host.
        const DEBUG = 1 << 1;
        /// The enclave runs in 64-bit mode.
        const MODE64BIT = 1 << 2;
        /// The provisioning key is available.
        const PROVISIONKEY = 1 << 4;
        /// The launch-token key is available.
        const EINITTOKEN_KEY = 1 << 5;
        /// Control-flow enforcement.
        const CET = 1 << 6;
        /// Key separation and sharing: CONFIGID and friends.
        const KSS = 1 << 7;
        /// AEX-Notify.
        const AEX_NOTIFY = 1 << 10;
        /// Bits without a meaning are kept, so that comparisons stay exact.
        const _ = !0;
    }
}

bitflags! {
    /// MISCSELECT: what EXINFO-like state an AEX saves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MiscSelect: u32 {
        /// Page-fault and general-protection details are saved in the SSA.
        const EXINFO = 1 << 0;
        /// Bits without a meaning are kept, so that comparisons stay exact.
        const _ = !0;
    }
}

/// ATTRIBUTES: flags and the XCR0 value the enclave runs with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Enclave flags.
    pub flags: Flags,
    /// XFRM: the extended state components the enclave may use.
    pub xfrm: u64,
}

impl Attributes {
    /// Size of the binary form in bytes.
    pub const SIZE: usize = 16;

    /// Decodes the binary form. Unknown bits are kept.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            flags: Flags::from_bits_retain(u64_at(bytes, 0)),
            xfrm: u64_at(bytes, 8),
        }
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(&self.flags.bits().to_le_bytes());
        out[8..].copy_from_slice(&self.xfrm.to_le_bytes());
        out
    }

    /// `self & mask`, field by field, as EINIT and EGETKEY do.
    #[must_use]
    pub fn masked(&self, mask: &Self) -> Self {
        Self {
            flags: self.flags & mask.flags,
            xfrm: self.xfrm & mask.xfrm,
        }
    }
}

/// The XCR0 bits that every enclave of this project may rely on: x87, SSE, AVX.
pub const XFRM_REQUIRED: u64 = 0x7;
/// The XCR0 bits that an enclave of this project may use at most: adds AVX-512.
pub const XFRM_ALLOWED: u64 = 0xe7;
