// SPDX-License-Identifier: Apache-2.0
//! ECDSA quotes as made by DCAP: layout only, no judgement.
//!
//! [`Quote::parse`] borrows from the bytes, allocates nothing and never
//! panics. Version 3 is read and written; versions 4 and 5 are recognised and
//! refused by name. Layout: "Intel SGX ECDSA QuoteLibraryReference", appendix
//! A.1 to A.4.

mod cursor;
mod encode;

use core::fmt;

use thiserror::Error;

use crate::report::ReportBody;
use cursor::Cursor;

pub use encode::QuoteParts;

/// Longest quote that is looked at, tail included.
pub const MAX_QUOTE: usize = 64 << 10;

/// Size of the header in bytes.
pub const HEADER_SIZE: usize = 48;

/// Size of what the attestation key signs in a version 3 quote.
pub const SIGNED_SIZE: usize = HEADER_SIZE + ReportBody::SIZE;

/// Attestation key type: ECDSA over P-256.
pub const KEY_TYPE_P256: u16 = 2;

/// Vendor id of Intel's quoting enclaves.
pub const INTEL_QE_VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

/// Why bytes are not a quote that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// More bytes than any quote has.
    #[error("quote of {len} bytes exceeds the limit of {MAX_QUOTE}")]
    TooLong {
        /// Length of the input.
        len: usize,
    },
    /// The bytes end inside a part.
    #[error("quote ends inside its {part}")]
    Truncated {
        /// The part.
        part: &'static str,
    },
    /// A version that is not supported.
    #[error("quote version {version} is not supported, only version 3")]
    Version {
        /// The version.
        version: u16,
    },
    /// A signature algorithm that is not supported.
    #[error("attestation key type {key_type} is not supported, only 2 (ECDSA P-256)")]
    KeyType {
        /// The type.
        key_type: u16,
    },
    /// Version 3 exists for SGX only; these bytes must be zero.
    #[error("TEE type {tee:#x} is not possible in a version 3 quote")]
    Tee {
        /// The value found.
        tee: u32,
    },
    /// The quoting enclave is not of the expected vendor.
    #[error("quoting enclave has an unknown vendor id")]
    Vendor,
    /// Certification data of an unknown type.
    #[error("certification data type {kind} is not supported, only 1 to 5")]
    CertificationType {
        /// The type.
        kind: u16,
    },
    /// Certification data of an impossible size.
    #[error("certification data type {kind} cannot have {len} bytes")]
    CertificationSize {
        /// The type.
        kind: u16,
        /// Its size.
        len: usize,
    },
    /// The signature data holds more than its parts.
    #[error("signature data has {extra} bytes too many")]
    Surplus {
        /// How many.
        extra: usize,
    },
}

/// The header of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Layout version.
    pub version: u16,
    /// Attestation key type.
    pub key_type: u16,
    /// ISVSVN of the quoting enclave.
    pub qe_svn: u16,
    /// ISVSVN of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Vendor of the quoting enclave.
    pub qe_vendor: [u8; 16],
    /// Vendor's data; Intel puts an identifier of the platform in bytes 0..16.
    pub user_data: [u8; 20],
}

/// How the quote says which PCK certificate vouches for it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certification<'a> {
    /// Types 1 to 3: a platform identifier; the chain comes from elsewhere.
    Platform(PlatformId<'a>),
    /// Type 4: the PCK certificate alone.
    Leaf(&'a [u8]),
    /// Type 5: the PCK certificate, its CA and the root, PEM, possibly with a
    /// terminating zero byte.
    Chain(&'a [u8]),
}

/// A platform identifier, certification data type 1 to 3.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PlatformId<'a> {
    /// 1 = clear, 2 = RSA-2048-OAEP, 3 = RSA-3072-OAEP.
    pub kind: u16,
    /// PPID, encrypted unless `kind` is 1.
    pub ppid: &'a [u8],
    /// CPUSVN.
    pub cpu_svn: [u8; 16],
    /// PCESVN.
    pub pce_svn: u16,
    /// PCEID.
    pub pce_id: u16,
}

impl fmt::Debug for Certification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(id) => write!(f, "Platform(type {})", id.kind),
            Self::Leaf(bytes) => write!(f, "Leaf({} bytes)", bytes.len()),
            Self::Chain(bytes) => write!(f, "Chain({} bytes)", bytes.len()),
        }
    }
}

impl fmt::Debug for PlatformId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The PPID identifies a machine; it does not belong in logs.
        write!(f, "PlatformId(type {})", self.kind)
    }
}

/// A parsed quote, borrowing from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote<'a> {
    /// The header.
    pub header: Header,
    /// What the attested enclave reported.
    pub report: ReportBody,
    /// Exactly the bytes that [`Quote::signature`] covers.
    pub signed: &'a [u8; SIGNED_SIZE],
    /// ECDSA P-256 signature by the attestation key, `r` and `s` big-endian.
    pub signature: [u8; 64],
    /// Attestation key, `x` and `y` big-endian.
    pub attestation_key: [u8; 64],
    /// REPORT of the quoting enclave.
    pub qe_report: ReportBody,
    /// ECDSA P-256 signature over `qe_report` by the PCK key.
    pub qe_report_signature: [u8; 64],
    /// Further data that the quoting enclave's report data covers.
    pub qe_auth_data: &'a [u8],
    /// Who vouches for the quoting enclave.
    pub certification: Certification<'a>,
    /// Bytes used; what follows is padding that nothing covers.
    pub len: usize,
}

impl<'a> Quote<'a> {
    /// Parses a quote. Bytes after it are allowed and ignored.
    ///
    /// # Errors
    /// [`QuoteError`] for anything but a well-formed version 3 quote with a
    /// P-256 key.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE {
            return Err(QuoteError::TooLong { len: bytes.len() });
        }
        let mut input = Cursor::new(bytes);
        let header = parse_header(&mut input)?;
        let report = ReportBody::from_bytes(input.array("report")?);
        let signed = bytes
            .first_chunk::<SIGNED_SIZE>()
            .ok_or(QuoteError::Truncated { part: "report" })?;
        let auth_len = input.length_u32("signature data length")?;
        let auth = input.take(auth_len, "signature data")?;
        let len = input.position();

        let mut auth = Cursor::new(auth);
        let signature = *auth.array("signature")?;
        let attestation_key = *auth.array("attestation key")?;
        let qe_report = ReportBody::from_bytes(auth.array("quoting enclave report")?);
        let qe_report_signature = *auth.array("quoting enclave report signature")?;
        let qe_auth_len = usize::from(auth.u16("quoting enclave data length")?);
        let qe_auth_data = auth.take(qe_auth_len, "quoting enclave data")?;
        let kind = auth.u16("certification data type")?;
        let data_len = auth.length_u32("certification data length")?;
        let data = auth.take(data_len, "certification data")?;
        if auth.remaining() != 0 {
            return Err(QuoteError::Surplus {
                extra: auth.remaining(),
            });
        }
        Ok(Self {
            header,
            report,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_auth_data,
            certification: parse_certification(kind, data)?,
            len,
        })
    }
}

fn parse_header(input: &mut Cursor<'_>) -> Result<Header, QuoteError> {
    const PART: &str = "header";
    let version = input.u16(PART)?;
    if version != 3 {
        return Err(QuoteError::Version { version });
    }
    let key_type = input.u16(PART)?;
    if key_type != KEY_TYPE_P256 {
        return Err(QuoteError::KeyType { key_type });
    }
    let tee = u32::from_le_bytes(*input.array(PART)?);
    if tee != 0 {
        return Err(QuoteError::Tee { tee });
    }
    let header = Header {
        version,
        key_type,
        qe_svn: input.u16(PART)?,
        pce_svn: input.u16(PART)?,
        qe_vendor: *input.array(PART)?,
        user_data: *input.array(PART)?,
    };
    if header.qe_vendor != INTEL_QE_VENDOR {
        return Err(QuoteError::Vendor);
    }
    Ok(header)
}

/// Bytes of the PPID by certification data type.
const fn ppid_len(kind: u16) -> usize {
    match kind {
        1 => 16,
        2 => 256,
        _ => 384,
    }
}

fn parse_certification(kind: u16, data: &[u8]) -> Result<Certification<'_>, QuoteError> {
    let size = QuoteError::CertificationSize {
        kind,
        len: data.len(),
    };
    match kind {
        1..=3 => {
            let mut input = Cursor::new(data);
            let part = "platform identifier";
            let id = PlatformId {
                kind,
                ppid: input.take(ppid_len(kind), part).map_err(|_| size)?,
                cpu_svn: *input.array(part).map_err(|_| size)?,
                pce_svn: input.u16(part).map_err(|_| size)?,
                pce_id: input.u16(part).map_err(|_| size)?,
            };
            if input.remaining() != 0 {
                return Err(size);
            }
            Ok(Certification::Platform(id))
        }
        4 | 5 if data.is_empty() => Err(size),
        4 => Ok(Certification::Leaf(data)),
        5 => Ok(Certification::Chain(data)),
        kind => Err(QuoteError::CertificationType { kind }),
    }
}

#[cfg(test)]
mod tests;
