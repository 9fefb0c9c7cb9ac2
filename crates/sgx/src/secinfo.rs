// SPDX-License-Identifier: Apache-2.0
//! SECINFO: type and permissions of one enclave page (SDM vol. 3D §38.11).

use bitflags::bitflags;

use crate::field::{put, u64_at};

bitflags! {
    /// SECINFO.FLAGS below the page type.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PageFlags: u64 {
        /// Readable inside the enclave.
        const R = 1 << 0;
        /// Writable inside the enclave.
        const W = 1 << 1;
        /// Executable inside the enclave.
        const X = 1 << 2;
        /// Waits for EACCEPT after EAUG.
        const PENDING = 1 << 3;
        /// Waits for EACCEPT after EMODT.
        const MODIFIED = 1 << 4;
        /// Waits for EACCEPT after EMODPR.
        const PR = 1 << 5;
    }
}

/// Page type (SDM vol. 3D §38.12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageType {
    /// The enclave's control structure.
    Secs = 0,
    /// A thread's control structure.
    Tcs = 1,
    /// Ordinary code or data.
    Reg = 2,
    /// A version array.
    Va = 3,
    /// About to be removed.
    Trim = 4,
}

impl PageType {
    /// The type with this number, if it is defined.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Secs,
            1 => Self::Tcs,
            2 => Self::Reg,
            3 => Self::Va,
            4 => Self::Trim,
            _ => return None,
        })
    }
}

/// SECINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecInfo {
    /// Permissions and pending state.
    pub flags: PageFlags,
    /// What the page is.
    pub page_type: PageType,
}

impl SecInfo {
    /// Size of the binary form in bytes; it must be aligned to 64.
    pub const SIZE: usize = 64;

    /// A regular page with these permissions.
    #[must_use]
    pub fn reg(flags: PageFlags) -> Self {
        Self {
            flags,
            page_type: PageType::Reg,
        }
    }

    /// A thread control structure. Its permission bits are zero by definition.
    #[must_use]
    pub fn tcs() -> Self {
        Self {
            flags: PageFlags::empty(),
            page_type: PageType::Tcs,
        }
    }

    /// FLAGS as one number.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.flags.bits() | (u64::from(self.page_type as u8) << 8)
    }

    /// Decodes FLAGS; `None` when a reserved bit or type is set.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let page_type = u8::try_from(bits >> 8)
            .ok()
            .and_then(PageType::from_number)?;
        Some(Self {
            flags: PageFlags::from_bits(bits & 0xff)?,
            page_type,
        })
    }

    /// Decodes the binary form; `None` when anything reserved is set.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        if bytes[8..].iter().any(|&b| b != 0) {
            return None;
        }
        Self::from_bits(u64_at(bytes, 0))
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &self.bits().to_le_bytes());
        out
    }
}
