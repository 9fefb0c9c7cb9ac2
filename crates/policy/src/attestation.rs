// SPDX-License-Identifier: Apache-2.0
//! Which enclaves and platforms a session accepts, and the comparison with what was found.

use std::collections::BTreeSet;

/// The identity of an enclave as its verified evidence states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveIdentity {
    /// Measurement of code and initial data.
    pub mrenclave: [u8; 32],
    /// SHA-256 of the signer's modulus.
    pub mrsigner: [u8; 32],
    /// Product number chosen by the signer.
    pub isvprodid: u16,
    /// Security version chosen by the signer.
    pub isvsvn: u16,
}

/// One acceptable enclave: every factor that is present must hold, and at least one is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// Any of these measurements; empty: not a factor.
    pub mrenclaves: BTreeSet<[u8; 32]>,
    /// The signer and its numbers.
    pub signer: Option<Signer>,
}

/// A signer of enclaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// SHA-256 of the signer's modulus.
    pub mrsigner: [u8; 32],
    /// Product number.
    pub isvprodid: u16,
    /// Acceptable security versions.
    pub isvsvn: Svn,
}

/// Acceptable security versions; both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Svn {
    /// Exactly this one.
    Exact(u16),
    /// From `min` (or 0) to `max` (or the largest).
    Range {
        /// Smallest acceptable.
        min: Option<u16>,
        /// Largest acceptable.
        max: Option<u16>,
    },
}

impl Svn {
    /// Whether `svn` is acceptable.
    pub fn admits(self, svn: u16) -> bool {
        match self {
            Self::Exact(exact) => svn == exact,
            Self::Range { min, max } => {
                min.is_none_or(|min| svn >= min) && max.is_none_or(|max| svn <= max)
            }
        }
    }
}

impl std::fmt::Display for Svn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exact(svn) => write!(f, "{svn}"),
            Self::Range { min, max } => {
                write!(f, "{} to {}", min.unwrap_or(0), max.unwrap_or(u16::MAX))
            }
        }
    }
}

/// A factor of a variant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The measurement is not listed.
    #[error("mrenclave is {actual}, the variant lists {expected}")]
    Mrenclave {
        /// Hex of the measurement found.
        actual: String,
        /// Hex of the measurements listed.
        expected: String,
    },
    /// Another signer.
    #[error("signer.mrsigner is {actual}, the variant wants {expected}")]
    Mrsigner {
        /// Hex of the signer found.
        actual: String,
        /// Hex of the signer wanted.
        expected: String,
    },
    /// Another product.
    #[error("signer.isvprodid is {actual}, the variant wants {expected}")]
    Isvprodid {
        /// Found.
        actual: u16,
        /// Wanted.
        expected: u16,
    },
    /// A security version outside the range.
    #[error("signer.isvsvn is {actual}, the variant wants {expected}")]
    Isvsvn {
        /// Found.
        actual: u16,
        /// Wanted.
        expected: Svn,
    },
}

impl Variant {
    /// Every factor that does not hold for `found`; empty means that the variant accepts it.
    pub fn mismatches(&self, found: &EnclaveIdentity) -> Vec<Mismatch> {
        let mut all = Vec::new();
        if !self.mrenclaves.is_empty() && !self.mrenclaves.contains(&found.mrenclave) {
            let listed: Vec<String> = self.mrenclaves.iter().map(hex::encode).collect();
            all.push(Mismatch::Mrenclave {
                actual: hex::encode(found.mrenclave),
                expected: listed.join(" or "),
            });
        }
        if self.mrenclaves.is_empty() && self.signer.is_none() {
            // The parser never makes one; an empty variant must not mean "anything".
            all.push(Mismatch::Mrenclave {
                actual: hex::encode(found.mrenclave),
                expected: "nothing".to_owned(),
            });
        }
        if let Some(signer) = &self.signer {
            if signer.mrsigner != found.mrsigner {
                all.push(Mismatch::Mrsigner {
                    actual: hex::encode(found.mrsigner),
                    expected: hex::encode(signer.mrsigner),
                });
            }
            if signer.isvprodid != found.isvprodid {
                all.push(Mismatch::Isvprodid {
                    actual: found.isvprodid,
                    expected: signer.isvprodid,
                });
            }
            if !signer.isvsvn.admits(found.isvsvn) {
                all.push(Mismatch::Isvsvn {
                    actual: found.isvsvn,
                    expected: signer.isvsvn,
                });
            }
        }
        all
    }
}

/// Finds the first variant that accepts the enclave.
///
/// # Errors
/// No variant does: the mismatches of each variant in the order of the session.
pub fn first_match(
    variants: &[Variant],
    found: &EnclaveIdentity,
) -> Result<usize, Vec<Vec<Mismatch>>> {
    let mut refused = Vec::with_capacity(variants.len());
    for (index, variant) in variants.iter().enumerate() {
        let mismatches = variant.mismatches(found);
        if mismatches.is_empty() {
            return Ok(index);
        }
        refused.push(mismatches);
    }
    Err(refused)
}

/// The `security` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// How services are attested.
    pub mode: Mode,
    /// Weaknesses that the session accepts.
    pub tolerate: BTreeSet<Tolerance>,
    /// Advisories that do not count.
    pub ignore_advisories: Advisories,
}

/// `security.attestation.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Evidence of SGX hardware, or of an emulated platform that the session tolerates.
    #[default]
    Hardware,
    /// No evidence at all: anybody who names the service receives its configuration.
    None,
}

impl Mode {
    /// The value in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::None => "none",
        }
    }
}

/// One entry of `security.attestation.tolerate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tolerance {
    /// The host may read and change the enclave.
    DebugMode,
    /// INTEL-SA-00233.
    Hyperthreading,
    /// INTEL-SA-00219.
    InsecureIgpu,
    /// INTEL-SA-00657.
    AepicLeak,
    /// Software must be hardened; each advisory is listed as well.
    SoftwareHardeningNeeded,
    /// The platform's configuration is insecure; each advisory is listed as well.
    InsecureConfiguration,
    /// The platform's microcode is out of date; each advisory is listed as well.
    OutdatedTcb,
    /// An emulated platform whose anchor has this SHA-256 of its SPKI. Protects nothing from its root.
    EmulatedPlatform([u8; 32]),
}

impl Tolerance {
    /// Every entry without a parameter, with its name in the language.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("debug-mode", Self::DebugMode),
        ("hyperthreading", Self::Hyperthreading),
        ("insecure-igpu", Self::InsecureIgpu),
        ("aepic-leak", Self::AepicLeak),
        ("software-hardening-needed", Self::SoftwareHardeningNeeded),
        ("insecure-configuration", Self::InsecureConfiguration),
        ("outdated-tcb", Self::OutdatedTcb),
    ];

    /// Prefix of the entry that names an emulated platform's anchor.
    pub const EMULATED_PREFIX: &'static str = "emulated-platform:";

    /// The advisory that this entry alone forgives.
    pub fn advisory(self) -> Option<&'static str> {
        match self {
            Self::Hyperthreading => Some("INTEL-SA-00233"),
            Self::InsecureIgpu => Some("INTEL-SA-00219"),
            Self::AepicLeak => Some("INTEL-SA-00657"),
            _ => None,
        }
    }

    /// Whether the entry is a category that each advisory must accompany.
    pub fn is_category(self) -> bool {
        matches!(
            self,
            Self::SoftwareHardeningNeeded | Self::InsecureConfiguration | Self::OutdatedTcb
        )
    }
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::EmulatedPlatform(anchor) = self {
            return write!(f, "{}{}", Self::EMULATED_PREFIX, hex::encode(anchor));
        }
        let name = Self::NAMED.iter().find(|(_, t)| t == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// `security.attestation.ignore_advisories`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// `"*"`; only together with `debug-mode`.
    All,
    /// These, written `INTEL-SA-NNNNN`.
    Listed(BTreeSet<String>),
}

impl Default for Advisories {
    fn default() -> Self {
        Self::Listed(BTreeSet::new())
    }
}

impl Security {
    /// Whether the session accepts the weakness.
    pub fn tolerates(&self, tolerance: Tolerance) -> bool {
        self.tolerate.contains(&tolerance)
    }

    /// Whether the session forgives the advisory, by listing it or by a tolerance that stands for it.
    pub fn ignores_advisory(&self, advisory: &str) -> bool {
        let listed = match &self.ignore_advisories {
            Advisories::All => self.tolerates(Tolerance::DebugMode),
            Advisories::Listed(list) => list.contains(advisory),
        };
        listed || self.tolerate.iter().any(|t| t.advisory() == Some(advisory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: EnclaveIdentity = EnclaveIdentity {
        mrenclave: [1; 32],
        mrsigner: [2; 32],
        isvprodid: 7,
        isvsvn: 4,
    };

    fn signer(mrsigner: u8, isvprodid: u16, isvsvn: Svn) -> Option<Signer> {
        Some(Signer {
            mrsigner: [mrsigner; 32],
            isvprodid,
            isvsvn,
        })
    }

    fn any() -> Svn {
        Svn::Range {
            min: None,
            max: None,
        }
    }

    #[test]
    fn factors_of_one_variant_must_all_hold() {
        for (mrenclaves, signer, wrong) in [
            (vec![1], None, 0),
            (vec![9, 1], None, 0),
            (vec![9], None, 1),
            (vec![], signer(2, 7, any()), 0),
            (vec![1], signer(2, 7, Svn::Exact(4)), 0),
            (vec![1], signer(2, 7, Svn::Exact(5)), 1),
            (vec![1], signer(3, 7, any()), 1),
            (vec![9], signer(2, 7, any()), 1),
            (vec![9], signer(3, 8, Svn::Exact(3)), 4),
            (
                vec![],
                signer(
                    2,
                    7,
                    Svn::Range {
                        min: Some(4),
                        max: Some(4),
                    },
                ),
                0,
            ),
            (
                vec![],
                signer(
                    2,
                    7,
                    Svn::Range {
                        min: Some(5),
                        max: None,
                    },
                ),
                1,
            ),
            (
                vec![],
                signer(
                    2,
                    7,
                    Svn::Range {
                        min: None,
                        max: Some(3),
                    },
                ),
                1,
            ),
            (vec![], None, 1),
        ] {
            let mrenclaves = mrenclaves.into_iter().map(|b| [b; 32]).collect();
            let variant = Variant { mrenclaves, signer };
            assert_eq!(variant.mismatches(&FOUND).len(), wrong, "{variant:?}");
        }
    }

    #[test]
    fn one_variant_suffices_and_none_refuses() {
        let bad = Variant {
            mrenclaves: BTreeSet::from([[9; 32]]),
            signer: None,
        };
        let good = Variant {
            mrenclaves: BTreeSet::from([[1; 32]]),
            signer: None,
        };
        assert_eq!(first_match(&[bad.clone(), good], &FOUND), Ok(1));
        let refused = first_match(&[bad.clone(), bad], &FOUND).unwrap_err();
        assert_eq!(refused.len(), 2);
        assert!(refused[0][0].to_string().contains(&"01".repeat(32)));
        assert_eq!(first_match(&[], &FOUND), Err(vec![]));
    }

    #[test]
    fn debug_mode_does_not_imply_an_emulated_platform() {
        let security = Security {
            tolerate: BTreeSet::from([Tolerance::DebugMode]),
            ..Security::default()
        };
        assert!(!security.tolerates(Tolerance::EmulatedPlatform([0; 32])));
    }

    #[test]
    fn an_advisory_is_forgiven_by_name_or_by_its_tolerance() {
        let mut security = Security::default();
        assert!(!security.ignores_advisory("INTEL-SA-00233"));
        security.tolerate.insert(Tolerance::Hyperthreading);
        assert!(security.ignores_advisory("INTEL-SA-00233"));
        assert!(!security.ignores_advisory("INTEL-SA-00615"));
    }
}
