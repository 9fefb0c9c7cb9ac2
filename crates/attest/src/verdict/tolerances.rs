// SPDX-License-Identifier: Apache-2.0
//! What a session tolerates.

use thiserror::Error;

use super::Category;

/// Advisories with a tolerance of their own.
const NAMED_ADVISORIES: [(&str, &str); 3] = [
    ("hyperthreading", "INTEL-SA-00233"),
    ("insecure-igpu", "INTEL-SA-00219"),
    ("aepic-leak", "INTEL-SA-00657"),
];

/// `tolerate` and `ignore_advisories` of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tolerances {
    /// `debug-mode`
    pub debug_mode: bool,
    /// `software-hardening-needed`
    pub software_hardening_needed: bool,
    /// `insecure-configuration`
    pub insecure_configuration: bool,
    /// `outdated-tcb`
    pub outdated_tcb: bool,
    /// `emulated-platform:<SHA-256 of the anchor's SubjectPublicKeyInfo>`
    pub emulated_platforms: Vec<[u8; 32]>,
    /// Advisories by name.
    pub advisories: Vec<String>,
    /// `"*"`: counts only together with `debug_mode`.
    pub all_advisories: bool,
}

/// An entry that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ToleranceError {
    /// Not a known tolerance.
    #[error("{entry:?} is not a known tolerance")]
    Unknown {
        /// The entry.
        entry: String,
    },
    /// A tolerance that exists in the language but has no effect here yet.
    #[error("tolerance {entry:?} is not supported yet")]
    Unsupported {
        /// The entry.
        entry: String,
    },
    /// The anchor is not 64 hexadecimal digits.
    #[error("{entry:?} does not name an anchor by 64 hexadecimal digits")]
    Anchor {
        /// The entry.
        entry: String,
    },
    /// Not an advisory's name.
    #[error("{entry:?} is not the name of an advisory (INTEL-SA-NNNNN)")]
    Advisory {
        /// The entry.
        entry: String,
    },
    /// `"*"` without `debug-mode`.
    #[error("all advisories may be ignored only together with debug-mode")]
    WildcardWithoutDebug,
}

impl Tolerances {
    /// Reads the two lists as a session spells them.
    ///
    /// # Errors
    /// [`ToleranceError`] for the first entry that is not understood.
    pub fn from_entries<'a>(
        tolerate: impl IntoIterator<Item = &'a str>,
        ignore_advisories: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ToleranceError> {
        let mut this = Self::default();
        for entry in tolerate {
            this.tolerate(entry)?;
        }
        for entry in ignore_advisories {
            if entry == "*" {
                this.all_advisories = true;
            } else if is_advisory(entry) {
                this.advisories.push(entry.to_owned());
            } else {
                return Err(ToleranceError::Advisory {
                    entry: entry.to_owned(),
                });
            }
        }
        if this.all_advisories && !this.debug_mode {
            return Err(ToleranceError::WildcardWithoutDebug);
        }
        Ok(this)
    }

    fn tolerate(&mut self, entry: &str) -> Result<(), ToleranceError> {
        if let Some(anchor) = entry.strip_prefix("emulated-platform:") {
            let mut bytes = [0; 32];
            hex::decode_to_slice(anchor, &mut bytes).map_err(|_| ToleranceError::Anchor {
                entry: entry.to_owned(),
            })?;
            self.emulated_platforms.push(bytes);
            return Ok(());
        }
        if let Some((_, advisory)) = NAMED_ADVISORIES.iter().find(|(name, _)| *name == entry) {
            self.advisories.push((*advisory).to_owned());
            return Ok(());
        }
        match entry {
            // The published example of the language writes `debug`.
            "debug-mode" | "debug" => self.debug_mode = true,
            "software-hardening-needed" => self.software_hardening_needed = true,
            "insecure-configuration" => self.insecure_configuration = true,
            "outdated-tcb" => self.outdated_tcb = true,
            "maa-managed-tcb" | "local-attestation-trust-cas-tcb" => {
                return Err(ToleranceError::Unsupported {
                    entry: entry.to_owned(),
                });
            }
            _ => {
                return Err(ToleranceError::Unknown {
                    entry: entry.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether a category of TCB status is tolerated.
    pub const fn tolerates_category(&self, category: Category) -> bool {
        match category {
            Category::SoftwareHardeningNeeded => self.software_hardening_needed,
            Category::InsecureConfiguration => self.insecure_configuration,
            Category::OutdatedTcb => self.outdated_tcb,
        }
    }

    /// Whether an advisory is ignored.
    pub fn ignores_advisory(&self, id: &str) -> bool {
        (self.all_advisories && self.debug_mode) || self.advisories.iter().any(|known| known == id)
    }
}

fn is_advisory(entry: &str) -> bool {
    entry
        .strip_prefix("INTEL-SA-")
        .is_some_and(|number| number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit()))
}
