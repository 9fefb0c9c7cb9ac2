// SPDX-License-Identifier: Apache-2.0
//! Verification of DCAP evidence: quote and collateral in, verified claims out.
//!
//! All five chains (PCK certificate, PCK CRL, TCB info, QE identity and, through
//! them, both CRLs) must end in one and the same [`crate::anchor::Anchor`]. Every failure here
//! is final: no policy can tolerate an invalid signature, an expired document or
//! a revoked certificate. What policy may tolerate is in
//! [`crate::verdict`].
//!
//! Time is an input. Nothing here reads a clock, a file or the network.

pub(crate) mod certificate;
pub(crate) mod chain;
pub(crate) mod crl;
pub(crate) mod document;
mod extension;
mod status;
mod verify;

use thiserror::Error;

use sgx::quote::QuoteError;
use sgx::report::ReportBody;

use crate::anchor::Platform;
use crate::time::UnixTime;

pub use certificate::CertificateError;
pub use document::DocumentError;
pub use extension::{PckExtension, SGX_EXTENSION};
pub use status::TcbStatus;
pub use verify::{ClaimedPlatform, platform_of, verify};

/// A part of evidence or collateral, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// PCK certificate, its CA, root.
    PckChain,
    /// Issuer chain of the PCK CRL.
    PckCrlChain,
    /// Issuer chain of the TCB info.
    TcbInfoChain,
    /// Issuer chain of the QE identity.
    QeIdentityChain,
    /// The root's revocation list.
    RootCrl,
    /// The PCK CA's revocation list.
    PckCrl,
    /// TCB info.
    TcbInfo,
    /// Identity of the quoting enclave.
    QeIdentity,
    /// REPORT of the quoting enclave.
    QeReport,
    /// The quote itself.
    Quote,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PckChain => "PCK certificate chain",
            Self::PckCrlChain => "issuer chain of the PCK CRL",
            Self::TcbInfoChain => "issuer chain of the TCB info",
            Self::QeIdentityChain => "issuer chain of the QE identity",
            Self::RootCrl => "root CRL",
            Self::PckCrl => "PCK CRL",
            Self::TcbInfo => "TCB info",
            Self::QeIdentity => "QE identity",
            Self::QeReport => "report of the quoting enclave",
            Self::Quote => "quote",
        })
    }
}

/// Why evidence is not verified. Final, whatever the policy says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The quote is malformed or of an unsupported kind.
    #[error("quote cannot be read")]
    Quote(#[from] QuoteError),
    /// The quote names no chain and the collateral brings none.
    #[error("quote carries no PCK certificate chain and the collateral has none")]
    NoPckChain,
    /// A chain has the wrong shape.
    #[error("{part} {problem}")]
    Chain {
        /// Which chain.
        part: Part,
        /// What is wrong.
        problem: &'static str,
    },
    /// A certificate or CRL is malformed.
    #[error("{part} cannot be read")]
    Certificate {
        /// Where it stands.
        part: Part,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// A signed document is malformed.
    #[error("{part} cannot be used")]
    Document {
        /// Which document.
        part: Part,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// A member of the bundle is not hexadecimal of the right length.
    #[error("{part} is not encoded as expected")]
    Encoding {
        /// Which member.
        part: Part,
    },
    /// A certificate is not named as its role demands.
    #[error("{part} names {found:?} where {expected:?} is due")]
    Name {
        /// Which chain.
        part: Part,
        /// The common name.
        found: String,
        /// What it must contain.
        expected: String,
    },
    /// The chain ends in no anchor that is installed.
    #[error(
        "{part} ends in an unknown root (SHA-256 {})",
        hex::encode(root_sha256)
    )]
    UnknownRoot {
        /// Which chain.
        part: Part,
        /// SHA-256 of the root certificate.
        root_sha256: [u8; 32],
    },
    /// The chain ends in another anchor than the PCK chain.
    #[error("{part} does not end in the anchor of the PCK certificate chain")]
    MixedAnchors {
        /// Which chain.
        part: Part,
    },
    /// A signature does not verify.
    #[error("{part} has an invalid signature")]
    Signature {
        /// What is signed.
        part: Part,
    },
    /// Looked at too early.
    #[error("{part} is not valid before {from}, the time is {now}")]
    NotYetValid {
        /// What.
        part: Part,
        /// From when.
        from: UnixTime,
        /// The given time.
        now: UnixTime,
    },
    /// Looked at too late; fetch new collateral.
    #[error("{part} expired at {until}, the time is {now}")]
    Expired {
        /// What.
        part: Part,
        /// Until when.
        until: UnixTime,
        /// The given time.
        now: UnixTime,
    },
    /// A certificate is on a revocation list.
    #[error("{part} holds a revoked certificate")]
    RevokedCertificate {
        /// Which chain.
        part: Part,
    },
    /// A CRL is not of the issuer whose certificates it is needed for.
    #[error("{part} is of another issuer")]
    CrlIssuer {
        /// Which list.
        part: Part,
    },
    /// The PCK certificate has no usable SGX extension.
    #[error("PCK certificate has no usable SGX extension")]
    Extension,
    /// The TCB info is for other machines.
    #[error("TCB info is for another {what}")]
    WrongPlatform {
        /// FMSPC or PCEID.
        what: &'static str,
    },
    /// The quoting enclave is not the one of the identity.
    #[error("quoting enclave differs from its identity in {field}")]
    QeMismatch {
        /// Which field.
        field: &'static str,
    },
    /// The quoting enclave does not vouch for the attestation key.
    #[error("quoting enclave does not vouch for the attestation key")]
    QeBinding,
    /// No TCB level fits: the platform is older than anything known.
    #[error("no level of the {part} applies to this platform")]
    NoLevel {
        /// TCB info or QE identity.
        part: Part,
    },
    /// The platform or its quoting enclave is revoked.
    #[error("TCB status of the platform is Revoked")]
    RevokedTcb,
}

/// Evidence that passed its checker, and only that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<E>(E);

impl<E> std::ops::Deref for Verified<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

/// What a verified SGX quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxEvidence {
    /// Whose processor; derived from the anchor.
    pub platform: Platform,
    /// What the attested enclave reported.
    pub report: ReportBody,
    /// Combined status of platform and quoting enclave, never revoked.
    pub status: TcbStatus,
    /// Advisories of all levels that apply, sorted, without repetitions.
    pub advisories: Vec<String>,
    /// Earliest date of the levels that apply.
    pub tcb_date: UnixTime,
    /// What the PCK certificate says of the machine.
    pub pck: PckExtension,
    /// The quoting enclave's identifier of the machine (`INTEL_QE_ID`).
    pub qe_id: [u8; 16],
    /// How fresh the collateral was.
    pub freshness: CollateralFreshness,
}

/// Facts from which a verifier that remembers them notices old collateral (S14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollateralFreshness {
    /// Latest issue date of the signed collateral: time cannot be earlier.
    pub issued: UnixTime,
    /// When the first part of the collateral expires.
    pub expires: UnixTime,
    /// `tcbEvaluationDataNumber` of the TCB info.
    pub tcb_evaluation: u32,
    /// `tcbEvaluationDataNumber` of the QE identity.
    pub qe_evaluation: u32,
    /// Number of the root's CRL, where it has one.
    pub root_crl_number: Option<u64>,
    /// Number of the PCK CA's CRL, where it has one.
    pub pck_crl_number: Option<u64>,
    /// SHA-256 of the PCK CA's SubjectPublicKeyInfo: whose CRL number it is.
    pub pck_ca_spki: [u8; 32],
}
