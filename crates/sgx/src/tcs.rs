// SPDX-License-Identifier: Apache-2.0
//! TCS: a thread's control structure (SDM vol. 3D §38.8).

use crate::PAGE_SIZE;
use crate::field::{array, put, u32_at, u64_at};

/// Offset of CSSA, which the CPU changes at AEX and ERESUME.
pub const CSSA_OFFSET: usize = 24;

/// The fields of a TCS that software chooses. FLAGS.DBGOPTIN is always zero
/// here: rule S18 refuses pages that set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcs {
    /// Offset of the first SSA frame from the enclave's base.
    pub ossa: u64,
    /// Number of SSA frames.
    pub nssa: u32,
    /// Offset of the entry point from the enclave's base.
    pub oentry: u64,
    /// Offset of the FS base at entry.
    pub ofsbase: u64,
    /// Offset of the GS base at entry.
    pub ogsbase: u64,
}

impl Tcs {
    /// Encodes the page that EADD reads.
    #[must_use]
    pub fn to_page(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        put(&mut page, 16, &self.ossa.to_le_bytes());
        put(&mut page, 28, &self.nssa.to_le_bytes());
        put(&mut page, 32, &self.oentry.to_le_bytes());
        put(&mut page, 48, &self.ofsbase.to_le_bytes());
        put(&mut page, 56, &self.ogsbase.to_le_bytes());
        // FSLIMIT and GSLIMIT: unused in 64-bit mode, but EADD checks their low bits.
        put(&mut page, 64, &0xffff_ffff_u32.to_le_bytes());
        put(&mut page, 68, &0xffff_ffff_u32.to_le_bytes());
        page
    }

    /// Decodes a TCS page; `None` when a field that must be zero is not:
    /// STATE, FLAGS, CSSA, AEP or the reserved rest.
    #[must_use]
    pub fn from_page(page: &[u8; PAGE_SIZE]) -> Option<Self> {
        let zero = |from: usize, to: usize| page[from..to].iter().all(|&b| b == 0);
        if !zero(0, 16) || u32_at(page, CSSA_OFFSET) != 0 || !zero(40, 48) || !zero(72, PAGE_SIZE) {
            return None;
        }
        if array::<8>(page, 64) != [0xff; 8] {
            return None;
        }
        Some(Self {
            ossa: u64_at(page, 16),
            nssa: u32_at(page, 28),
            oentry: u64_at(page, 32),
            ofsbase: u64_at(page, 48),
            ogsbase: u64_at(page, 56),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCS: Tcs = Tcs {
        ossa: 0x1000,
        nssa: 3,
        oentry: 0x2000,
        ofsbase: 0x3000,
        ogsbase: 0x4000,
    };

    #[test]
    fn page_round_trips() {
        assert_eq!(Tcs::from_page(&TCS.to_page()), Some(TCS));
    }

    #[test]
    fn debug_opt_in_is_refused() {
        let mut page = TCS.to_page();
        page[8] = 1;
        assert_eq!(Tcs::from_page(&page), None);
    }
}
