// SPDX-License-Identifier: Apache-2.0
//! KEYREQUEST: what EGETKEY derives (SDM vol. 3D §38.18).

use bitflags::bitflags;

use crate::attributes::{Attributes, MiscSelect};
use crate::field::{array, put, u16_at, u32_at};

/// Key names (SDM vol. 3D table 38-23).
pub mod name {
    #![allow(missing_docs, reason = "each constant is named after its key")]
    pub const EINITTOKEN: u16 = 0;
    pub const PROVISION: u16 = 1;
    pub const PROVISION_SEAL: u16 = 2;
    pub const REPORT: u16 = 3;
    pub const SEAL: u16 = 4;
}

bitflags! {
    /// KEYPOLICY.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct KeyPolicy: u16 {
        /// Bind to MRENCLAVE.
        const MRENCLAVE = 1 << 0;
        /// Bind to MRSIGNER.
        const MRSIGNER = 1 << 1;
        /// KSS: do not bind to ISVPRODID.
        const NOISVPRODID = 1 << 2;
        /// KSS: bind to CONFIGID and CONFIGSVN.
        const CONFIGID = 1 << 3;
        /// KSS: bind to ISVFAMILYID.
        const ISVFAMILYID = 1 << 4;
        /// KSS: bind to ISVEXTPRODID.
        const ISVEXTPRODID = 1 << 5;
        /// Bits without a meaning are kept; EGETKEY refuses them.
        const _ = !0;
    }
}

/// KEYREQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// Which key; see [`name`].
    pub key_name: u16,
    /// What the key is bound to.
    pub key_policy: KeyPolicy,
    /// ISV security version, at most the enclave's own.
    pub isv_svn: u16,
    /// CPU security version, at most the platform's own.
    pub cpu_svn: [u8; 16],
    /// Which attribute bits the key is bound to.
    pub attribute_mask: Attributes,
    /// Key wear-out protection.
    pub key_id: [u8; 32],
    /// Which MISCSELECT bits the key is bound to.
    pub misc_mask: MiscSelect,
    /// KSS: configuration security version, at most the enclave's own.
    pub config_svn: u16,
}

impl KeyRequest {
    /// Size of the binary form in bytes; it must be aligned to 512.
    pub const SIZE: usize = 512;

    /// Decodes the binary form; `None` when a reserved byte is set.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        if bytes[6..8].iter().chain(&bytes[78..]).any(|&b| b != 0) {
            return None;
        }
        Some(Self {
            key_name: u16_at(bytes, 0),
            key_policy: KeyPolicy::from_bits_retain(u16_at(bytes, 2)),
            isv_svn: u16_at(bytes, 4),
            cpu_svn: array(bytes, 8),
            attribute_mask: Attributes::from_bytes(&array(bytes, 24)),
            key_id: array(bytes, 40),
            misc_mask: MiscSelect::from_bits_retain(u32_at(bytes, 72)),
            config_svn: u16_at(bytes, 76),
        })
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &self.key_name.to_le_bytes());
        put(&mut out, 2, &self.key_policy.bits().to_le_bytes());
        put(&mut out, 4, &self.isv_svn.to_le_bytes());
        put(&mut out, 8, &self.cpu_svn);
        put(&mut out, 24, &self.attribute_mask.to_bytes());
        put(&mut out, 40, &self.key_id);
        put(&mut out, 72, &self.misc_mask.bits().to_le_bytes());
        put(&mut out, 76, &self.config_svn.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_round_trips_and_refuses_reserved_bytes() {
        let request = KeyRequest {
            key_name: name::SEAL,
            key_policy: KeyPolicy::MRENCLAVE | KeyPolicy::CONFIGID,
            isv_svn: 1,
            cpu_svn: [2; 16],
            attribute_mask: Attributes::from_bytes(&[3; 16]),
            key_id: [4; 32],
            misc_mask: MiscSelect::EXINFO,
            config_svn: 5,
        };
        let mut bytes = request.to_bytes();
        assert_eq!(KeyRequest::from_bytes(&bytes), Some(request));
        bytes[511] = 1;
        assert_eq!(KeyRequest::from_bytes(&bytes), None);
    }
}
