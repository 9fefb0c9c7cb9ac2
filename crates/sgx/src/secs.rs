// SPDX-License-Identifier: Apache-2.0
//! SECS: the enclave's control structure (SDM vol. 3D §38.7).

use crate::PAGE_SIZE;
use crate::attributes::{Attributes, MiscSelect};
use crate::field::put;

/// The identity that EINIT fixes in the SECS and that reports and keys carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secs {
    /// Size of ELRANGE in bytes, a power of two.
    pub size: u64,
    /// Linear base address of ELRANGE, aligned to `size`.
    pub base: u64,
    /// SSA frame size in pages.
    pub ssa_frame_size: u32,
    /// Saved exception details.
    pub miscselect: MiscSelect,
    /// Flags and XFRM.
    pub attributes: Attributes,
    /// The measurement, final after EINIT.
    pub mrenclave: [u8; 32],
    /// SHA-256 of the signer's modulus.
    pub mrsigner: [u8; 32],
    /// KSS: chosen by the host at ECREATE, fixed afterwards, not measured.
    pub config_id: [u8; 64],
    /// Product id within the signer's name space.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// KSS: security version of the configuration.
    pub config_svn: u16,
    /// KSS: extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// KSS: family id.
    pub isv_family_id: [u8; 16],
}

impl Secs {
    /// The page that ECREATE reads. Fields that EINIT sets are zero here.
    #[must_use]
    pub fn creation_page(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        put(&mut page, 0, &self.size.to_le_bytes());
        put(&mut page, 8, &self.base.to_le_bytes());
        put(&mut page, 16, &self.ssa_frame_size.to_le_bytes());
        put(&mut page, 20, &self.miscselect.bits().to_le_bytes());
        put(&mut page, 48, &self.attributes.to_bytes());
        put(&mut page, 192, &self.config_id);
        put(&mut page, 260, &self.config_svn.to_le_bytes());
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Flags;

    #[test]
    fn creation_page_holds_what_ecreate_reads() {
        let secs = Secs {
            size: 0x8000_0000,
            base: 0,
            ssa_frame_size: 1,
            miscselect: MiscSelect::EXINFO,
            attributes: Attributes {
                flags: Flags::MODE64BIT | Flags::KSS,
                xfrm: 0xe7,
            },
            mrenclave: [1; 32],
            mrsigner: [2; 32],
            config_id: [3; 64],
            isv_prod_id: 4,
            isv_svn: 5,
            config_svn: 6,
            isv_ext_prod_id: [7; 16],
            isv_family_id: [8; 16],
        };
        let page = secs.creation_page();
        assert_eq!(page[..8], 0x8000_0000u64.to_le_bytes());
        assert_eq!(page[16..24], [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(page[48], 0x84);
        assert_eq!(page[56], 0xe7);
        assert_eq!(page[192..256], [3; 64]);
        assert_eq!(page[260..262], [6, 0]);
        assert!(
            page[64..192].iter().all(|&b| b == 0),
            "MRENCLAVE and MRSIGNER are EINIT's"
        );
    }
}
