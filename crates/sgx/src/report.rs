// SPDX-License-Identifier: Apache-2.0
//! TARGETINFO and REPORT (SDM vol. 3D §38.15, §38.16).

use crate::attributes::{Attributes, MiscSelect};
use crate::field::{array, put, u16_at, u32_at};

/// TARGETINFO: for whom EREPORT computes the MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// The target's MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// The target's attributes.
    pub attributes: Attributes,
    /// The target's CONFIGSVN.
    pub config_svn: u16,
    /// The target's MISCSELECT.
    pub miscselect: MiscSelect,
    /// The target's CONFIGID.
    pub config_id: [u8; 64],
}

impl TargetInfo {
    /// Size of the binary form in bytes; it must be aligned to 512.
    pub const SIZE: usize = 512;

    /// Decodes the binary form; `None` when a reserved byte is set.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let reserved = bytes[48..50]
            .iter()
            .chain(&bytes[56..64])
            .chain(&bytes[128..]);
        if reserved.into_iter().any(|&b| b != 0) {
            return None;
        }
        Some(Self {
            mrenclave: array(bytes, 0),
            attributes: Attributes::from_bytes(&array(bytes, 32)),
            config_svn: u16_at(bytes, 50),
            miscselect: MiscSelect::from_bits_retain(u32_at(bytes, 52)),
            config_id: array(bytes, 64),
        })
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &self.mrenclave);
        put(&mut out, 32, &self.attributes.to_bytes());
        put(&mut out, 50, &self.config_svn.to_le_bytes());
        put(&mut out, 52, &self.miscselect.bits().to_le_bytes());
        put(&mut out, 64, &self.config_id);
        out
    }
}

/// The 384 bytes of a REPORT that its MAC covers and that a quote carries.
///
/// The exact bytes are kept: signatures and MACs are over bytes, not over a
/// re-encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReportBody([u8; Self::SIZE]);

impl core::fmt::Debug for ReportBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ReportBody")
            .field("mrenclave", &self.mrenclave())
            .field("mrsigner", &self.mrsigner())
            .field("attributes", &self.attributes())
            .finish_non_exhaustive()
    }
}

/// The fields of a report body, for building one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFields {
    /// CPU security version.
    pub cpu_svn: [u8; 16],
    /// MISCSELECT.
    pub miscselect: MiscSelect,
    /// KSS extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// Flags and XFRM.
    pub attributes: Attributes,
    /// Measurement.
    pub mrenclave: [u8; 32],
    /// Signer.
    pub mrsigner: [u8; 32],
    /// KSS configuration id.
    pub config_id: [u8; 64],
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// KSS configuration security version.
    pub config_svn: u16,
    /// KSS family id.
    pub isv_family_id: [u8; 16],
    /// What the enclave says.
    pub report_data: [u8; 64],
}

impl ReportBody {
    /// Size of the binary form in bytes.
    pub const SIZE: usize = 384;

    /// Takes the bytes as they are. Reserved bytes are not judged here:
    /// verification covers all 384 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        Self(*bytes)
    }

    /// Encodes `fields`.
    #[must_use]
    pub fn new(fields: &ReportFields) -> Self {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &fields.cpu_svn);
        put(&mut out, 16, &fields.miscselect.bits().to_le_bytes());
        put(&mut out, 32, &fields.isv_ext_prod_id);
        put(&mut out, 48, &fields.attributes.to_bytes());
        put(&mut out, 64, &fields.mrenclave);
        put(&mut out, 128, &fields.mrsigner);
        put(&mut out, 192, &fields.config_id);
        put(&mut out, 256, &fields.isv_prod_id.to_le_bytes());
        put(&mut out, 258, &fields.isv_svn.to_le_bytes());
        put(&mut out, 260, &fields.config_svn.to_le_bytes());
        put(&mut out, 304, &fields.isv_family_id);
        put(&mut out, 320, &fields.report_data);
        Self(out)
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// Decodes every field.
    #[must_use]
    pub fn fields(&self) -> ReportFields {
        ReportFields {
            cpu_svn: self.cpu_svn(),
            miscselect: self.miscselect(),
            isv_ext_prod_id: array(&self.0, 32),
            attributes: self.attributes(),
            mrenclave: self.mrenclave(),
            mrsigner: self.mrsigner(),
            config_id: self.config_id(),
            isv_prod_id: self.isv_prod_id(),
            isv_svn: self.isv_svn(),
            config_svn: u16_at(&self.0, 260),
            isv_family_id: array(&self.0, 304),
            report_data: self.report_data(),
        }
    }

    /// CPU security version.
    #[must_use]
    pub fn cpu_svn(&self) -> [u8; 16] {
        array(&self.0, 0)
    }

    /// MISCSELECT.
    #[must_use]
    pub fn miscselect(&self) -> MiscSelect {
        MiscSelect::from_bits_retain(u32_at(&self.0, 16))
    }

    /// Flags and XFRM.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes::from_bytes(&array(&self.0, 48))
    }

    /// Measurement.
    #[must_use]
    pub fn mrenclave(&self) -> [u8; 32] {
        array(&self.0, 64)
    }

    /// Signer.
    #[must_use]
    pub fn mrsigner(&self) -> [u8; 32] {
        array(&self.0, 128)
    }

    /// KSS configuration id.
    #[must_use]
    pub fn config_id(&self) -> [u8; 64] {
        array(&self.0, 192)
    }

    /// Product id.
    #[must_use]
    pub fn isv_prod_id(&self) -> u16 {
        u16_at(&self.0, 256)
    }

    /// Security version.
    #[must_use]
    pub fn isv_svn(&self) -> u16 {
        u16_at(&self.0, 258)
    }

    /// What the enclave says.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        array(&self.0, 320)
    }
}

/// REPORT: body, key id and MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is reported.
    pub body: ReportBody,
    /// Which report key was used.
    pub key_id: [u8; 32],
    /// AES-CMAC of the body under the target's report key.
    pub mac: [u8; 16],
}

impl Report {
    /// Size of the binary form in bytes; it must be aligned to 512.
    pub const SIZE: usize = 432;

    /// Decodes the binary form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            body: ReportBody(array(bytes, 0)),
            key_id: array(bytes, 384),
            mac: array(bytes, 416),
        }
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, self.body.as_bytes());
        put(&mut out, 384, &self.key_id);
        put(&mut out, 416, &self.mac);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn report_keeps_every_byte(bytes in proptest::collection::vec(any::<u8>(), Report::SIZE)) {
            let bytes: [u8; Report::SIZE] = bytes.try_into().unwrap();
            prop_assert_eq!(Report::from_bytes(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn body_fields_round_trip(bytes in proptest::collection::vec(any::<u8>(), ReportBody::SIZE)) {
            let bytes: [u8; ReportBody::SIZE] = bytes.try_into().unwrap();
            let fields = ReportBody::from_bytes(&bytes).fields();
            prop_assert_eq!(ReportBody::new(&fields).fields(), fields);
        }
    }

    #[test]
    fn target_info_refuses_reserved_bytes() {
        let target = TargetInfo {
            mrenclave: [1; 32],
            attributes: Attributes::from_bytes(&[2; 16]),
            config_svn: 3,
            miscselect: MiscSelect::EXINFO,
            config_id: [4; 64],
        };
        let mut bytes = target.to_bytes();
        assert_eq!(TargetInfo::from_bytes(&bytes), Some(target));
        bytes[200] = 1;
        assert_eq!(TargetInfo::from_bytes(&bytes), None);
    }
}
