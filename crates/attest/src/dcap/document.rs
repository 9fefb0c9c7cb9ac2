// SPDX-License-Identifier: Apache-2.0
//! The two signed JSON documents: TCB info and the quoting enclave's identity.
//!
//! The signature is over the exact text received; it is parsed only after it
//! verified. Members that are not understood are allowed because the signer may
//! add some; statuses, versions and lengths that are not understood are errors.

use std::borrow::Cow;

use serde::Deserialize;
use sgx::attributes::Flags;
use sgx::report::ReportBody;
use thiserror::Error;

use super::extension::PckExtension;
use super::status::TcbStatus;
use crate::time::UnixTime;

/// Longest document in bytes.
pub(crate) const MAX_DOCUMENT: usize = 512 << 10;
/// Most levels in a document.
const MAX_LEVELS: usize = 256;
/// Most advisories of a level.
const MAX_ADVISORIES: usize = 256;

/// Why a signed document cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Longer than any such document.
    #[error("{len} bytes are more than the limit")]
    TooLong {
        /// Length of the input.
        len: usize,
    },
    /// Not the expected JSON.
    #[error("not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// A document for something else.
    #[error("identifier {id:?} instead of {expected:?}")]
    Id {
        /// What it is for.
        id: String,
        /// What was needed.
        expected: &'static str,
    },
    /// A version that is not known.
    #[error("version {version} is not supported")]
    Version {
        /// The version.
        version: u32,
    },
    /// A member whose text has not the expected form.
    #[error("member {member} is malformed")]
    Member {
        /// Its name.
        member: &'static str,
    },
    /// More entries than any real document has.
    #[error("too many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

/// Status of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) status: TcbStatus,
    pub(crate) date: UnixTime,
    pub(crate) advisories: Vec<String>,
}

/// What both documents have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) issued: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) evaluation: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLevel<'a, T> {
    tcb: T,
    #[serde(borrow)]
    tcb_date: Cow<'a, str>,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Vec<String>,
}

impl<T> RawLevel<'_, T> {
    fn level(self) -> Result<(T, Level), DocumentError> {
        if self.advisory_ids.len() > MAX_ADVISORIES {
            return Err(DocumentError::TooMany { what: "advisories" });
        }
        if !self.advisory_ids.iter().all(|id| is_advisory(id)) {
            return Err(DocumentError::Member {
                member: "advisoryIDs",
            });
        }
        let level = Level {
            status: self.tcb_status,
            date: time(&self.tcb_date, "tcbDate")?,
            advisories: self.advisory_ids,
        };
        Ok((self.tcb, level))
    }
}

/// Advisory names end up in messages and in policy lines that users paste.
fn is_advisory(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTcbInfo<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    version: u32,
    #[serde(borrow)]
    issue_date: Cow<'a, str>,
    #[serde(borrow)]
    next_update: Cow<'a, str>,
    #[serde(borrow)]
    fmspc: Cow<'a, str>,
    #[serde(borrow)]
    pce_id: Cow<'a, str>,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    #[serde(borrow)]
    tcb_levels: Vec<RawLevel<'a, RawSgxTcb>>,
}

#[derive(Deserialize)]
struct RawSgxTcb {
    sgxtcbcomponents: Vec<RawComponent>,
    pcesvn: u16,
}

#[derive(Deserialize)]
struct RawComponent {
    svn: u8,
}

/// TCB info of an SGX platform, version 3.
#[derive(Debug)]
pub(crate) struct TcbInfo {
    pub(crate) issue: Issue,
    pub(crate) fmspc: [u8; 6],
    pub(crate) pce_id: [u8; 2],
    /// Highest first.
    levels: Vec<(([u8; 16], u16), Level)>,
}

impl TcbInfo {
    /// Parses the text; its signature must have been verified.
    pub(crate) fn parse(text: &str) -> Result<Self, DocumentError> {
        check_len(text)?;
        let raw: RawTcbInfo<'_> = serde_json::from_str(text)?;
        if raw.id != "SGX" {
            return Err(DocumentError::Id {
                id: raw.id.into_owned(),
                expected: "SGX",
            });
        }
        if raw.version != 3 {
            return Err(DocumentError::Version {
                version: raw.version,
            });
        }
        // Type 0 is the only comparison rule that exists.
        if raw.tcb_type != 0 {
            return Err(DocumentError::Member { member: "tcbType" });
        }
        check_levels(raw.tcb_levels.len())?;
        let mut levels = Vec::with_capacity(raw.tcb_levels.len());
        for raw_level in raw.tcb_levels {
            let (tcb, level) = raw_level.level()?;
            let components: Vec<u8> = tcb.sgxtcbcomponents.iter().map(|c| c.svn).collect();
            let components = components.try_into().map_err(|_| DocumentError::Member {
                member: "sgxtcbcomponents",
            })?;
            levels.push(((components, tcb.pcesvn), level));
        }
        // The first level that fits decides, counted from the highest.
        levels.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(Self {
            issue: issue(
                &raw.issue_date,
                &raw.next_update,
                raw.tcb_evaluation_data_number,
            )?,
            fmspc: bytes(&raw.fmspc, "fmspc")?,
            pce_id: bytes(&raw.pce_id, "pceId")?,
            levels,
        })
    }

    /// The first level that the platform reaches in every component and PCESVN.
    pub(crate) fn level(&self, pck: &PckExtension) -> Option<&Level> {
        let reaches = |components: &[u8; 16], pce_svn: u16| {
            pck.components
                .iter()
                .zip(components)
                .all(|(has, needs)| has >= needs)
                && pck.pce_svn >= pce_svn
        };
        self.levels
            .iter()
            .find(|((components, pce_svn), _)| reaches(components, *pce_svn))
            .map(|(_, level)| level)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawQeIdentity<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    version: u32,
    #[serde(borrow)]
    issue_date: Cow<'a, str>,
    #[serde(borrow)]
    next_update: Cow<'a, str>,
    tcb_evaluation_data_number: u32,
    #[serde(borrow)]
    miscselect: Cow<'a, str>,
    #[serde(borrow)]
    miscselect_mask: Cow<'a, str>,
    #[serde(borrow)]
    attributes: Cow<'a, str>,
    #[serde(borrow)]
    attributes_mask: Cow<'a, str>,
    #[serde(borrow)]
    mrsigner: Cow<'a, str>,
    isvprodid: u16,
    #[serde(borrow)]
    tcb_levels: Vec<RawLevel<'a, RawQeTcb>>,
}

#[derive(Deserialize)]
struct RawQeTcb {
    isvsvn: u16,
}

/// Identity of the quoting enclave, version 2.
#[derive(Debug)]
pub(crate) struct QeIdentity {
    pub(crate) issue: Issue,
    miscselect: [u8; 4],
    miscselect_mask: [u8; 4],
    attributes: [u8; 16],
    attributes_mask: [u8; 16],
    mrsigner: [u8; 32],
    isv_prod_id: u16,
    /// Highest first.
    levels: Vec<(u16, Level)>,
}

impl QeIdentity {
    /// Parses the text; its signature must have been verified.
    pub(crate) fn parse(text: &str) -> Result<Self, DocumentError> {
        check_len(text)?;
        let raw: RawQeIdentity<'_> = serde_json::from_str(text)?;
        if raw.id != "QE" {
            return Err(DocumentError::Id {
                id: raw.id.into_owned(),
                expected: "QE",
            });
        }
        if raw.version != 2 {
            return Err(DocumentError::Version {
                version: raw.version,
            });
        }
        check_levels(raw.tcb_levels.len())?;
        let mut levels = Vec::with_capacity(raw.tcb_levels.len());
        for raw_level in raw.tcb_levels {
            let (tcb, level) = raw_level.level()?;
            levels.push((tcb.isvsvn, level));
        }
        levels.sort_by_key(|(isv_svn, _)| std::cmp::Reverse(*isv_svn));
        Ok(Self {
            issue: issue(
                &raw.issue_date,
                &raw.next_update,
                raw.tcb_evaluation_data_number,
            )?,
            miscselect: bytes(&raw.miscselect, "miscselect")?,
            miscselect_mask: bytes(&raw.miscselect_mask, "miscselectMask")?,
            attributes: bytes(&raw.attributes, "attributes")?,
            attributes_mask: bytes(&raw.attributes_mask, "attributesMask")?,
            mrsigner: bytes(&raw.mrsigner, "mrsigner")?,
            isv_prod_id: raw.isvprodid,
            levels,
        })
    }

    /// The first field in which the quoting enclave's REPORT differs.
    pub(crate) fn mismatch(&self, report: &ReportBody) -> Option<&'static str> {
        let masked = |value: &[u8], mask: &[u8], expected: &[u8]| {
            value
                .iter()
                .zip(mask)
                .zip(expected)
                .all(|((value, mask), expected)| value & mask == *expected & mask)
        };
        let miscselect = report.miscselect().bits().to_le_bytes();
        let attributes = report.attributes();
        if !masked(&miscselect, &self.miscselect_mask, &self.miscselect) {
            Some("MISCSELECT")
        } else if !masked(
            &attributes.to_bytes(),
            &self.attributes_mask,
            &self.attributes,
        ) {
            Some("ATTRIBUTES")
        } else if attributes.flags.contains(Flags::DEBUG) {
            Some("DEBUG")
        } else if report.mrsigner() != self.mrsigner {
            Some("MRSIGNER")
        } else if report.isv_prod_id() != self.isv_prod_id {
            Some("ISVPRODID")
        } else {
            None
        }
    }

    /// The first level that the quoting enclave reaches.
    pub(crate) fn level(&self, isv_svn: u16) -> Option<&Level> {
        self.levels
            .iter()
            .find(|(needs, _)| isv_svn >= *needs)
            .map(|(_, level)| level)
    }
}

fn check_len(text: &str) -> Result<(), DocumentError> {
    if text.len() > MAX_DOCUMENT {
        return Err(DocumentError::TooLong { len: text.len() });
    }
    Ok(())
}

fn check_levels(count: usize) -> Result<(), DocumentError> {
    if count > MAX_LEVELS {
        return Err(DocumentError::TooMany { what: "levels" });
    }
    Ok(())
}

fn issue(issued: &str, next_update: &str, evaluation: u32) -> Result<Issue, DocumentError> {
    Ok(Issue {
        issued: time(issued, "issueDate")?,
        next_update: time(next_update, "nextUpdate")?,
        evaluation,
    })
}

fn time(text: &str, member: &'static str) -> Result<UnixTime, DocumentError> {
    UnixTime::parse(text).ok_or(DocumentError::Member { member })
}

fn bytes<const N: usize>(text: &str, member: &'static str) -> Result<[u8; N], DocumentError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| DocumentError::Member { member })?;
    Ok(out)
}
