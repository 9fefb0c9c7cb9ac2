// SPDX-License-Identifier: Apache-2.0
//! The emulated CPU's keys: what EGETKEY and EREPORT compute when the silicon
//! is emulated (SDM vol. 3D, "EGETKEY" and "EREPORT" in chapter 40).
//!
//! The rules of who may derive what are the SDM's. The secret beneath and the
//! layout of the key dependencies are the emulated platform's own: real fuses
//! and their derivation are not public, and no key ever has to agree with one
//! of real silicon.

use aes::{Aes128, Aes256};
use cmac::{Cmac, KeyInit as _, Mac as _};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::attributes::{Attributes, Flags, MiscSelect};
use crate::key::{KeyPolicy, KeyRequest, name};
use crate::leaf::error;
use crate::report::{Report, ReportBody, ReportFields, TargetInfo};
use crate::secs::Secs;

/// A derived key.
pub type Key = Zeroizing<[u8; 16]>;

/// The emulated CPU's fuses: the secret beneath all of its keys.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FuseKey([u8; 32]);

impl FuseKey {
    /// Takes the secret over.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

impl core::fmt::Debug for FuseKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FuseKey([redacted])")
    }
}

/// The fields of a SECS that keys and reports depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecsIdentity {
    /// Flags and XFRM.
    pub attributes: Attributes,
    /// MISCSELECT.
    pub miscselect: MiscSelect,
    /// Measurement.
    pub mrenclave: [u8; 32],
    /// Signer.
    pub mrsigner: [u8; 32],
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// KSS configuration id.
    pub config_id: [u8; 64],
    /// KSS configuration security version.
    pub config_svn: u16,
    /// KSS extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// KSS family id.
    pub isv_family_id: [u8; 16],
}

impl From<&Secs> for SecsIdentity {
    fn from(secs: &Secs) -> Self {
        Self {
            attributes: secs.attributes,
            miscselect: secs.miscselect,
            mrenclave: secs.mrenclave,
            mrsigner: secs.mrsigner,
            isv_prod_id: secs.isv_prod_id,
            isv_svn: secs.isv_svn,
            config_id: secs.config_id,
            config_svn: secs.config_svn,
            isv_ext_prod_id: secs.isv_ext_prod_id,
            isv_family_id: secs.isv_family_id,
        }
    }
}

impl SecsIdentity {
    /// TARGETINFO that names this enclave.
    #[must_use]
    pub const fn target_info(&self) -> TargetInfo {
        TargetInfo {
            mrenclave: self.mrenclave,
            attributes: self.attributes,
            config_svn: self.config_svn,
            miscselect: self.miscselect,
            config_id: self.config_id,
        }
    }
}

/// Why EGETKEY derives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// KEYPOLICY holds a reserved bit: EGETKEY raises #GP.
    #[error("key policy {policy:#06x} holds reserved bits")]
    ReservedPolicy {
        /// All bits of the policy.
        policy: u16,
    },
    /// KEYPOLICY uses KSS but the enclave was created without: #GP.
    #[error("key policy {policy:#06x} needs an enclave with KSS")]
    KssDisabled {
        /// All bits of the policy.
        policy: u16,
    },
    /// The key does not exist, or the emulated platform has none of the kind.
    #[error("key name {key_name} is not available")]
    KeyName {
        /// The requested name.
        key_name: u16,
    },
    /// The enclave lacks the attribute that the key needs.
    #[error("enclave lacks the attribute that key name {key_name} needs")]
    Attribute {
        /// The requested name.
        key_name: u16,
    },
    /// The request's CPUSVN is above the platform's.
    #[error("requested CPUSVN is above the platform's")]
    CpuSvn,
    /// The request's ISVSVN or CONFIGSVN is above the enclave's.
    #[error("requested security version {requested} is above the enclave's {available}")]
    IsvSvn {
        /// What was asked for.
        requested: u16,
        /// What the enclave has.
        available: u16,
    },
}

impl DeriveError {
    /// The value that EGETKEY leaves in RAX; `None` where it raises #GP.
    #[must_use]
    pub const fn rax(self) -> Option<u64> {
        match self {
            Self::ReservedPolicy { .. } | Self::KssDisabled { .. } => None,
            Self::KeyName { .. } => Some(error::INVALID_KEYNAME),
            Self::Attribute { .. } => Some(error::INVALID_ATTRIBUTE),
            Self::CpuSvn => Some(error::INVALID_CPUSVN),
            Self::IsvSvn { .. } => Some(error::INVALID_ISVSVN),
        }
    }
}

/// Bits of ATTRIBUTES that every sealing key is bound to whatever the mask
/// says: INIT and DEBUG, and the bits that select other keys.
const ALWAYS_BOUND: Flags = Flags::INIT
    .union(Flags::DEBUG)
    .union(Flags::PROVISIONKEY)
    .union(Flags::EINITTOKEN_KEY);

/// KEYPOLICY bits that exist only for enclaves with KSS.
const KSS_POLICY: KeyPolicy = KeyPolicy::NOISVPRODID
    .union(KeyPolicy::CONFIGID)
    .union(KeyPolicy::ISVFAMILYID)
    .union(KeyPolicy::ISVEXTPRODID);

/// Every KEYPOLICY bit with a meaning.
const KNOWN_POLICY: KeyPolicy = KeyPolicy::MRENCLAVE
    .union(KeyPolicy::MRSIGNER)
    .union(KSS_POLICY);

/// Everything that a key depends on. Fields that a key is not bound to are zero.
#[derive(Default)]
struct Dependencies {
    key_name: u16,
    key_policy: u16,
    isv_prod_id: u16,
    isv_svn: u16,
    config_svn: u16,
    cpu_svn: [u8; 16],
    attributes: Attributes,
    attribute_mask: Attributes,
    misc_select: u32,
    misc_mask: u32,
    mrenclave: [u8; 32],
    mrsigner: [u8; 32],
    key_id: [u8; 32],
    config_id: Option<[u8; 64]>,
    isv_ext_prod_id: [u8; 16],
    isv_family_id: [u8; 16],
}

impl Dependencies {
    /// AES-256-CMAC (NIST SP 800-38B) of a fixed-length encoding.
    fn derive(&self, fuses: &FuseKey) -> Key {
        let mut mac = Cmac::<Aes256>::new((&fuses.0).into());
        mac.update(b"ensconce-emulated-egetkey-v1");
        for word in [
            self.key_name,
            self.key_policy,
            self.isv_prod_id,
            self.isv_svn,
            self.config_svn,
        ] {
            mac.update(&word.to_le_bytes());
        }
        mac.update(&self.cpu_svn);
        mac.update(&self.attributes.to_bytes());
        mac.update(&self.attribute_mask.to_bytes());
        mac.update(&self.misc_select.to_le_bytes());
        mac.update(&self.misc_mask.to_le_bytes());
        mac.update(&self.mrenclave);
        mac.update(&self.mrsigner);
        mac.update(&self.key_id);
        mac.update(&self.config_id.unwrap_or([0; 64]));
        mac.update(&self.isv_ext_prod_id);
        mac.update(&self.isv_family_id);
        Key::new(mac.finalize().into_bytes().into())
    }
}

/// EGETKEY: derives the key that `request` asks for, for the enclave `secs` on
/// a platform of version `cpu_svn`.
///
/// # Errors
/// [`DeriveError`]; its [`DeriveError::rax`] is what the instruction returns.
pub fn derive(
    fuses: &FuseKey,
    request: &KeyRequest,
    secs: &SecsIdentity,
    cpu_svn: &[u8; 16],
) -> Result<Key, DeriveError> {
    let policy = request.key_policy;
    if !KNOWN_POLICY.contains(policy) {
        return Err(DeriveError::ReservedPolicy {
            policy: policy.bits(),
        });
    }
    if policy.intersects(KSS_POLICY) && !secs.attributes.flags.contains(Flags::KSS) {
        return Err(DeriveError::KssDisabled {
            policy: policy.bits(),
        });
    }
    match request.key_name {
        name::REPORT => Ok(report_key(
            fuses,
            &secs.target_info(),
            &request.key_id,
            cpu_svn,
        )),
        name::SEAL => {
            check_versions(request, secs, cpu_svn)?;
            let bound = |bit| policy.contains(bit);
            Ok(Dependencies {
                key_policy: policy.bits(),
                isv_prod_id: if bound(KeyPolicy::NOISVPRODID) {
                    0
                } else {
                    secs.isv_prod_id
                },
                mrenclave: keep(bound(KeyPolicy::MRENCLAVE), &secs.mrenclave),
                mrsigner: keep(bound(KeyPolicy::MRSIGNER), &secs.mrsigner),
                key_id: request.key_id,
                config_svn: if bound(KeyPolicy::CONFIGID) {
                    request.config_svn
                } else {
                    0
                },
                config_id: bound(KeyPolicy::CONFIGID).then_some(secs.config_id),
                isv_ext_prod_id: keep(bound(KeyPolicy::ISVEXTPRODID), &secs.isv_ext_prod_id),
                isv_family_id: keep(bound(KeyPolicy::ISVFAMILYID), &secs.isv_family_id),
                ..masked(request, secs)
            }
            .derive(fuses))
        }
        name::PROVISION_SEAL => {
            if !secs.attributes.flags.contains(Flags::PROVISIONKEY) {
                return Err(DeriveError::Attribute {
                    key_name: request.key_name,
                });
            }
            check_versions(request, secs, cpu_svn)?;
            Ok(Dependencies {
                isv_prod_id: secs.isv_prod_id,
                mrsigner: secs.mrsigner,
                ..masked(request, secs)
            }
            .derive(fuses))
        }
        key_name => Err(DeriveError::KeyName { key_name }),
    }
}

fn keep<const N: usize>(bound: bool, value: &[u8; N]) -> [u8; N] {
    if bound { *value } else { [0; N] }
}

/// The dependencies that both sealing keys share.
fn masked(request: &KeyRequest, secs: &SecsIdentity) -> Dependencies {
    let mask = Attributes {
        flags: request.attribute_mask.flags | ALWAYS_BOUND,
        xfrm: request.attribute_mask.xfrm,
    };
    Dependencies {
        key_name: request.key_name,
        isv_svn: request.isv_svn,
        cpu_svn: request.cpu_svn,
        attributes: secs.attributes.masked(&mask),
        attribute_mask: request.attribute_mask,
        misc_select: (secs.miscselect & request.misc_mask).bits(),
        misc_mask: request.misc_mask.bits(),
        ..Dependencies::default()
    }
}

fn check_versions(
    request: &KeyRequest,
    secs: &SecsIdentity,
    cpu_svn: &[u8; 16],
) -> Result<(), DeriveError> {
    // CPUSVN is opaque on silicon; the emulated platform orders it by component.
    if request
        .cpu_svn
        .iter()
        .zip(cpu_svn)
        .any(|(asked, have)| asked > have)
    {
        return Err(DeriveError::CpuSvn);
    }
    let config_svn = request
        .key_policy
        .contains(KeyPolicy::CONFIGID)
        .then_some((request.config_svn, secs.config_svn));
    for (requested, available) in [(request.isv_svn, secs.isv_svn)]
        .into_iter()
        .chain(config_svn)
    {
        if requested > available {
            return Err(DeriveError::IsvSvn {
                requested,
                available,
            });
        }
    }
    Ok(())
}

/// The report key of the enclave that `target` names. It is always bound to
/// the platform's current CPUSVN, whatever a KEYREQUEST says.
#[must_use]
pub fn report_key(
    fuses: &FuseKey,
    target: &TargetInfo,
    key_id: &[u8; 32],
    cpu_svn: &[u8; 16],
) -> Key {
    Dependencies {
        key_name: name::REPORT,
        config_svn: target.config_svn,
        cpu_svn: *cpu_svn,
        attributes: target.attributes,
        misc_select: target.miscselect.bits(),
        mrenclave: target.mrenclave,
        key_id: *key_id,
        config_id: Some(target.config_id),
        ..Dependencies::default()
    }
    .derive(fuses)
}

/// The MAC of a REPORT: AES-128-CMAC of its body under the target's report key.
#[must_use]
pub fn report_mac(key: &[u8; 16], body: &ReportBody) -> [u8; 16] {
    let mut mac = Cmac::<Aes128>::new(key.into());
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().into()
}

/// EREPORT: what the enclave `secs` says to the enclave `target`.
#[must_use]
pub fn ereport(
    fuses: &FuseKey,
    secs: &SecsIdentity,
    target: &TargetInfo,
    report_data: &[u8; 64],
    key_id: &[u8; 32],
    cpu_svn: &[u8; 16],
) -> Report {
    let body = ReportBody::new(&ReportFields {
        cpu_svn: *cpu_svn,
        miscselect: secs.miscselect,
        isv_ext_prod_id: secs.isv_ext_prod_id,
        attributes: secs.attributes,
        mrenclave: secs.mrenclave,
        mrsigner: secs.mrsigner,
        config_id: secs.config_id,
        isv_prod_id: secs.isv_prod_id,
        isv_svn: secs.isv_svn,
        config_svn: secs.config_svn,
        isv_family_id: secs.isv_family_id,
        report_data: *report_data,
    });
    Report {
        body,
        key_id: *key_id,
        mac: report_mac(&report_key(fuses, target, key_id, cpu_svn), &body),
    }
}

/// Whether `report` was made on this platform for the enclave `target`; the
/// comparison takes constant time.
#[must_use]
pub fn report_is_for(
    fuses: &FuseKey,
    target: &TargetInfo,
    report: &Report,
    cpu_svn: &[u8; 16],
) -> bool {
    let key = report_key(fuses, target, &report.key_id, cpu_svn);
    report_mac(&key, &report.body).ct_eq(&report.mac).into()
}

#[cfg(test)]
mod tests;
