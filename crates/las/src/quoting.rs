// SPDX-License-Identifier: Apache-2.0
//! The emulated quoting enclave: checks a REPORT that was made for it and turns
//! it into a version 3 quote.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::derive::{FuseKey, SecsIdentity, report_is_for};
use sgx::quote::{Header, INTEL_QE_VENDOR, KEY_TYPE_P256, QuoteError, QuoteParts};
use sgx::report::{Report, ReportBody, ReportFields, TargetInfo};
use thiserror::Error;

use crate::pki::{Entity, Key, PkiError};

/// ISVSVN of the emulated quoting enclave.
pub const QE_ISV_SVN: u16 = 1;
/// ISVPRODID of the emulated quoting enclave.
pub const QE_ISV_PROD_ID: u16 = 1;

/// Why no quote was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuotingError {
    /// The REPORT was not made on this platform for its quoting enclave.
    #[error("REPORT was not made for the quoting enclave of this platform")]
    ForeignReport,
    /// A signature could not be made.
    #[error("quote could not be signed")]
    Pki(#[from] PkiError),
    /// The quote would be too long.
    #[error("quote could not be encoded")]
    Quote(#[from] QuoteError),
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// MRSIGNER of the emulated quoting enclave.
pub fn qe_mrsigner() -> [u8; 32] {
    sha256(b"ensconce emulated platform enclaves signer v1")
}

/// ATTRIBUTES of the emulated quoting enclave.
pub fn qe_attributes() -> Attributes {
    Attributes {
        flags: Flags::INIT | Flags::MODE64BIT | Flags::PROVISIONKEY,
        xfrm: 3,
    }
}

/// Identity of the emulated quoting enclave.
pub fn qe_identity() -> SecsIdentity {
    SecsIdentity {
        attributes: qe_attributes(),
        miscselect: MiscSelect::empty(),
        mrenclave: sha256(b"ensconce emulated quoting enclave v1"),
        mrsigner: qe_mrsigner(),
        isv_prod_id: QE_ISV_PROD_ID,
        isv_svn: QE_ISV_SVN,
        config_id: [0; 64],
        config_svn: 0,
        isv_ext_prod_id: [0; 16],
        isv_family_id: [0; 16],
    }
}

/// The quoting enclave with the attestation key of this run.
pub struct QuotingEnclave {
    identity: SecsIdentity,
    qe_id: [u8; 16],
    key: Key,
    report: ReportBody,
    report_signature: [u8; 64],
    chain_pem: String,
}

impl fmt::Debug for QuotingEnclave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotingEnclave")
            .field("qe_id", &self.qe_id)
            .finish_non_exhaustive()
    }
}

/// Data that the quoting enclave's report covers beside the attestation key.
const AUTH_DATA: [u8; 32] = *b"ensconce emulated quoting enclav";

impl QuotingEnclave {
    /// Makes an attestation key and has it certified by the PCK key, as the
    /// provisioning certification enclave does.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn new(
        identity: SecsIdentity,
        pck: &Entity,
        chain_pem: String,
        cpu_svn: [u8; 16],
        qe_id: [u8; 16],
    ) -> Result<Self, PkiError> {
        let key = Key::generate()?;
        let mut context = Context::new(&SHA256);
        context.update(&key.point()?);
        context.update(&AUTH_DATA);
        let mut report_data = [0; 64];
        let (hash, _) = report_data.split_at_mut(32);
        hash.copy_from_slice(context.finish().as_ref());
        let report = ReportBody::new(&ReportFields {
            cpu_svn,
            miscselect: identity.miscselect,
            isv_ext_prod_id: identity.isv_ext_prod_id,
            attributes: identity.attributes,
            mrenclave: identity.mrenclave,
            mrsigner: identity.mrsigner,
            config_id: identity.config_id,
            isv_prod_id: identity.isv_prod_id,
            isv_svn: identity.isv_svn,
            config_svn: identity.config_svn,
            isv_family_id: identity.isv_family_id,
            report_data,
        });
        Ok(Self {
            report_signature: pck.key().sign(report.as_bytes())?,
            identity,
            qe_id,
            key,
            report,
            chain_pem,
        })
    }

    /// TARGETINFO for REPORTs that shall be quoted.
    pub const fn target_info(&self) -> TargetInfo {
        self.identity.target_info()
    }

    /// Checks the REPORT's MAC and makes a quote.
    ///
    /// # Errors
    /// [`QuotingError::ForeignReport`] for a REPORT of another platform or
    /// target, or a forged one.
    pub fn quote(
        &self,
        fuses: &FuseKey,
        cpu_svn: &[u8; 16],
        report: &Report,
    ) -> Result<Vec<u8>, QuotingError> {
        if !report_is_for(fuses, &self.target_info(), report, cpu_svn) {
            return Err(QuotingError::ForeignReport);
        }
        self.sign(&report.body)
    }

    /// Signs a report body whose MAC was checked.
    fn sign(&self, body: &ReportBody) -> Result<Vec<u8>, QuotingError> {
        let mut user_data = [0; 20];
        let (id, _) = user_data.split_at_mut(16);
        id.copy_from_slice(&self.qe_id);
        let header = Header {
            version: 3,
            key_type: KEY_TYPE_P256,
            qe_svn: self.identity.isv_svn,
            pce_svn: crate::platform::PCE_SVN,
            qe_vendor: INTEL_QE_VENDOR,
            user_data,
        };
        let signed = QuoteParts::signed(&header, body);
        Ok(QuoteParts {
            signed: &signed,
            signature: &self.key.sign(&signed)?,
            attestation_key: &self.key.point()?,
            qe_report: &self.report,
            qe_report_signature: &self.report_signature,
            qe_auth_data: &AUTH_DATA,
            chain_pem: self.chain_pem.as_bytes(),
        }
        .encode()?)
    }
}
