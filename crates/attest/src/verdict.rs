// SPDX-License-Identifier: Apache-2.0
//! From verified evidence to a verdict: every reason against it, and for each
//! the exact line of a session that would tolerate it.
//!
//! [`crate::dcap::verify`] refuses what nothing can tolerate. What remains is
//! judged here, without stopping at the first problem, so that an owner sees
//! the whole list at once.

mod tolerances;

use std::fmt;

use sgx::attributes::{Flags, MiscSelect, XFRM_ALLOWED, XFRM_REQUIRED};
use sgx::report::ReportBody;

use crate::anchor::Platform;
use crate::dcap::{SgxEvidence, TcbStatus, Verified};

pub use tolerances::{ToleranceError, Tolerances};

/// One thing that speaks against the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What is wrong.
    pub problem: Problem,
    /// Whether the session tolerates it.
    pub tolerated: bool,
}

/// What can speak against verified evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The processor is emulated.
    EmulatedPlatform {
        /// SHA-256 of the anchor's SubjectPublicKeyInfo.
        anchor: [u8; 32],
    },
    /// The enclave can be debugged.
    Debug,
    /// The TCB status belongs to this category.
    Status {
        /// The category.
        category: Category,
        /// The status.
        status: TcbStatus,
    },
    /// An advisory applies.
    Advisory {
        /// Its name.
        id: String,
    },
    /// ATTRIBUTES flags are not exactly those of an enclave of this project.
    Flags {
        /// Flags that are set and must not be.
        surplus: u64,
        /// Flags that are missing.
        missing: u64,
    },
    /// MISCSELECT is not exactly EXINFO.
    MiscSelect {
        /// The value found.
        found: u32,
    },
    /// XFRM lacks a needed state component or has one too many.
    Xfrm {
        /// The value found.
        found: u64,
    },
}

/// Categories of TCB status that a session may tolerate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// `software-hardening-needed`
    SoftwareHardeningNeeded,
    /// `insecure-configuration`
    InsecureConfiguration,
    /// `outdated-tcb`
    OutdatedTcb,
}

impl Category {
    /// The spelling in sessions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftwareHardeningNeeded => "software-hardening-needed",
            Self::InsecureConfiguration => "insecure-configuration",
            Self::OutdatedTcb => "outdated-tcb",
        }
    }

    /// The categories of a status.
    const fn of(status: TcbStatus) -> &'static [Self] {
        match status {
            TcbStatus::UpToDate | TcbStatus::Revoked => &[],
            TcbStatus::SWHardeningNeeded => &[Self::SoftwareHardeningNeeded],
            TcbStatus::ConfigurationNeeded => &[Self::InsecureConfiguration],
            TcbStatus::ConfigurationAndSWHardeningNeeded => {
                &[Self::InsecureConfiguration, Self::SoftwareHardeningNeeded]
            }
            TcbStatus::OutOfDate => &[Self::OutdatedTcb],
            TcbStatus::OutOfDateConfigurationNeeded => {
                &[Self::OutdatedTcb, Self::InsecureConfiguration]
            }
        }
    }
}

impl Problem {
    /// The member of `security.attestation` and the entry in it that would
    /// tolerate the problem; `None` where nothing does.
    pub fn remedy(&self) -> Option<(&'static str, String)> {
        match self {
            Self::EmulatedPlatform { anchor } => {
                Some(("tolerate", Platform::Emulated(*anchor).to_string()))
            }
            Self::Debug => Some(("tolerate", "debug-mode".to_owned())),
            Self::Status { category, .. } => Some(("tolerate", category.name().to_owned())),
            Self::Advisory { id } => Some(("ignore_advisories", id.clone())),
            Self::Flags { .. } | Self::MiscSelect { .. } | Self::Xfrm { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmulatedPlatform { anchor } => write!(
                f,
                "the processor is emulated (anchor {}), it protects nothing against root",
                hex::encode(anchor)
            ),
            Self::Debug => f.write_str("the enclave is a debug enclave, its memory is open"),
            Self::Status { category, status } => {
                write!(f, "TCB status is {status} ({})", category.name())
            }
            Self::Advisory { id } => write!(f, "advisory {id} applies"),
            Self::Flags { surplus, missing } => write!(
                f,
                "ATTRIBUTES differ (set but forbidden {surplus:#x}, missing {missing:#x})"
            ),
            Self::MiscSelect { found } => {
                write!(f, "MISCSELECT is {found:#x} instead of 0x1 (EXINFO)")
            }
            Self::Xfrm { found } => write!(
                f,
                "XFRM is {found:#x}, which must include {XFRM_REQUIRED:#x} and stay within {XFRM_ALLOWED:#x}"
            ),
        }
    }
}

/// The judgement over verified evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that speaks against it, tolerated or not.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether every reason is tolerated.
    pub fn is_accepted(&self) -> bool {
        self.reasons.iter().all(|reason| reason.tolerated)
    }

    /// The lines of `security.attestation` that would make this verdict an
    /// acceptance; `None` if nothing would. Empty if it is accepted already.
    ///
    /// The lines are advice from unauthenticated evidence: whoever pastes them
    /// decides.
    pub fn remedy(&self) -> Option<Vec<String>> {
        let mut members: [(&str, Vec<String>); 2] =
            [("tolerate", Vec::new()), ("ignore_advisories", Vec::new())];
        for reason in self.reasons.iter().filter(|reason| !reason.tolerated) {
            let (member, entry) = reason.problem.remedy()?;
            for (name, entries) in &mut members {
                if *name == member && !entries.contains(&entry) {
                    entries.push(entry.clone());
                }
            }
        }
        Some(
            members
                .into_iter()
                .filter(|(_, entries)| !entries.is_empty())
                .map(|(member, entries)| format!("{member}: [{}]", entries.join(", ")))
                .collect(),
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_accepted() {
            f.write_str("accepted")?;
        } else {
            f.write_str("refused")?;
        }
        for reason in &self.reasons {
            let mark = if reason.tolerated {
                "tolerated"
            } else {
                "refused"
            };
            write!(f, "\n  {mark}: {}", reason.problem)?;
            if let Some((member, entry)) = reason.problem.remedy().filter(|_| !reason.tolerated) {
                write!(f, " [to tolerate: {member}: [{entry}]]")?;
            }
        }
        Ok(())
    }
}

/// Judges everything: platform, TCB, attributes.
pub fn appraise(evidence: &Verified<SgxEvidence>, tolerances: &Tolerances) -> Verdict {
    let mut reasons = appraise_platform(evidence, tolerances).reasons;
    reasons.extend(check_attributes(&evidence.report, tolerances));
    Verdict { reasons }
}

/// Judges the platform alone: anchor, TCB status and advisories.
pub fn appraise_platform(evidence: &Verified<SgxEvidence>, tolerances: &Tolerances) -> Verdict {
    let mut reasons = Vec::new();
    if let Platform::Emulated(anchor) = evidence.platform {
        reasons.push(Reason {
            tolerated: tolerances.emulated_platforms.contains(&anchor),
            problem: Problem::EmulatedPlatform { anchor },
        });
    }
    for category in Category::of(evidence.status) {
        reasons.push(Reason {
            problem: Problem::Status {
                category: *category,
                status: evidence.status,
            },
            tolerated: tolerances.tolerates_category(*category),
        });
    }
    if evidence.status != TcbStatus::UpToDate {
        for id in &evidence.advisories {
            reasons.push(Reason {
                tolerated: tolerances.ignores_advisory(id),
                problem: Problem::Advisory { id: id.clone() },
            });
        }
    }
    Verdict { reasons }
}

/// Compares ATTRIBUTES exactly (S18): flags INIT, MODE64BIT and KSS; DEBUG only
/// if tolerated; MISCSELECT EXINFO; XFRM within the project's profile. Returns
/// what differs.
pub fn check_attributes(report: &ReportBody, tolerances: &Tolerances) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let attributes = report.attributes();
    let expected = Flags::INIT | Flags::MODE64BIT | Flags::KSS;
    if attributes.flags.contains(Flags::DEBUG) {
        reasons.push(Reason {
            problem: Problem::Debug,
            tolerated: tolerances.debug_mode,
        });
    }
    let mut refuse = |problem| {
        reasons.push(Reason {
            problem,
            tolerated: false,
        });
    };
    let surplus = attributes.flags & !(expected | Flags::DEBUG);
    let missing = expected & !attributes.flags;
    if !surplus.is_empty() || !missing.is_empty() {
        refuse(Problem::Flags {
            surplus: surplus.bits(),
            missing: missing.bits(),
        });
    }
    if report.miscselect() != MiscSelect::EXINFO {
        refuse(Problem::MiscSelect {
            found: report.miscselect().bits(),
        });
    }
    if attributes.xfrm & XFRM_REQUIRED != XFRM_REQUIRED || attributes.xfrm & !XFRM_ALLOWED != 0 {
        refuse(Problem::Xfrm {
            found: attributes.xfrm,
        });
    }
    reasons
}
