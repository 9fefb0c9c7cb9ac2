// SPDX-License-Identifier: Apache-2.0
//! The order of checks. Numbers are those of the rules in the attestation
//! specification.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use sgx::quote::{Certification, Quote};

use super::certificate::{Certificate, PublicKey};
use super::chain::{Chain, Verifications, check_window};
use super::crl::{Crl, MAX_CRL};
use super::document::{QeIdentity, TcbInfo};
use super::extension::{self, PckExtension, SGX_EXTENSION};
use super::status::TcbStatus;
use super::{CollateralFreshness, Part, SgxEvidence, Verified, VerifyError};
use crate::anchor::Anchor;
use crate::channel::binding::sha256;
use crate::collateral::Collateral;
use crate::time::UnixTime;

/// Common-name phrases of a PCK chain.
const PCK_NAMES: [&str; 3] = ["SGX PCK Certificate", "CA", "SGX Root CA"];
/// Common-name phrases of a CRL issuer's chain.
const CRL_NAMES: [&str; 2] = ["CA", "SGX Root CA"];
/// Common-name phrases of a document signer's chain.
const TCB_NAMES: [&str; 2] = ["SGX TCB Signing", "SGX Root CA"];

/// Verifies a quote at the time `now` under one of `anchors`.
///
/// Bytes after the quote are ignored. The result is the only way to get a
/// [`Verified`].
///
/// # Errors
/// [`VerifyError`]: the first check that failed.
pub fn verify(
    quote: &[u8],
    collateral: &Collateral,
    anchors: &[Anchor],
    now: UnixTime,
) -> Result<Verified<SgxEvidence>, VerifyError> {
    // Rules 1 to 5.
    let quote = Quote::parse(quote)?;
    let pem: Cow<'_, [u8]> = match quote.certification {
        Certification::Chain(pem) => Cow::Borrowed(pem),
        _ => collateral
            .pck_certificate_chain
            .as_deref()
            .map(|pem| Cow::Borrowed(pem.as_bytes()))
            .ok_or(VerifyError::NoPckChain)?,
    };

    // Rule 6, and S9: the PCK chain chooses the anchor, all others must follow.
    let pck_chain = Chain::parse(Part::PckChain, &pem, 3)?;
    let anchor = pck_chain.anchor(anchors)?;
    let mut verified = Verifications::default();
    pck_chain.verify(&PCK_NAMES, anchor, now, &mut verified)?;
    let pck = pck_chain.leaf()?;
    let pck_ca = pck_chain.at(1)?;
    let root = pck_chain.root()?;
    if let Certification::Leaf(der) = quote.certification
        && der != pck.der()
    {
        return Err(VerifyError::Chain {
            part: Part::PckChain,
            problem: "is not that of the certificate in the quote",
        });
    }
    let extension = pck
        .extension(SGX_EXTENSION)
        .and_then(extension::parse)
        .ok_or(VerifyError::Extension)?;
    check_platform_id(&quote.certification, &extension)?;

    // Rule 7.
    let crl_chain = Chain::parse(
        Part::PckCrlChain,
        collateral.pck_crl_issuer_chain.as_bytes(),
        2,
    )?;
    crl_chain.verify(&CRL_NAMES, anchor, now, &mut verified)?;
    let root_crl = verified_crl(Part::RootCrl, &collateral.root_ca_crl, root, now)?;
    let crl_issuer = crl_chain.leaf()?;
    if crl_issuer.subject() != pck_ca.subject() || crl_issuer.spki() != pck_ca.spki() {
        return Err(VerifyError::CrlIssuer { part: Part::PckCrl });
    }
    let pck_crl = verified_crl(Part::PckCrl, &collateral.pck_crl, pck_ca, now)?;
    for (part, list, certificate) in [
        (Part::PckChain, &root_crl, pck_ca),
        (Part::PckCrlChain, &root_crl, crl_issuer),
        (Part::PckChain, &pck_crl, pck),
    ] {
        if list.revokes(certificate) {
            return Err(VerifyError::RevokedCertificate { part });
        }
    }

    // Rules 7 and 8.
    let signer = DocumentSigner {
        anchor,
        root_crl: &root_crl,
        now,
    };
    let tcb_chain = Chain::parse(
        Part::TcbInfoChain,
        collateral.tcb_info_issuer_chain.as_bytes(),
        2,
    )?;
    signer.check(
        &tcb_chain,
        Part::TcbInfo,
        &collateral.tcb_info,
        &collateral.tcb_info_signature,
        Part::TcbInfoChain,
        &mut verified,
    )?;
    let qe_chain = Chain::parse(
        Part::QeIdentityChain,
        collateral.qe_identity_issuer_chain.as_bytes(),
        2,
    )?;
    signer.check(
        &qe_chain,
        Part::QeIdentity,
        &collateral.qe_identity,
        &collateral.qe_identity_signature,
        Part::QeIdentityChain,
        &mut verified,
    )?;
    let tcb_info =
        TcbInfo::parse(&collateral.tcb_info).map_err(|source| document(Part::TcbInfo, source))?;
    let qe_identity = QeIdentity::parse(&collateral.qe_identity)
        .map_err(|source| document(Part::QeIdentity, source))?;
    for (part, issue) in [
        (Part::TcbInfo, tcb_info.issue),
        (Part::QeIdentity, qe_identity.issue),
    ] {
        check_window(part, issue.issued, issue.next_update, now)?;
    }

    // Rule 9.
    if tcb_info.fmspc != extension.fmspc {
        return Err(VerifyError::WrongPlatform { what: "FMSPC" });
    }
    if tcb_info.pce_id != extension.pce_id {
        return Err(VerifyError::WrongPlatform { what: "PCEID" });
    }

    check_quoting_enclave(&quote, pck, &qe_identity)?;

    // Rules 14 and 15.
    let platform_level = tcb_info.level(&extension).ok_or(VerifyError::NoLevel {
        part: Part::TcbInfo,
    })?;
    let qe_level = qe_identity
        .level(quote.qe_report.isv_svn())
        .ok_or(VerifyError::NoLevel {
            part: Part::QeIdentity,
        })?;
    let status = platform_level.status.with_component(qe_level.status);
    if status == TcbStatus::Revoked {
        return Err(VerifyError::RevokedTcb);
    }
    let advisories: BTreeSet<&String> = platform_level
        .advisories
        .iter()
        .chain(&qe_level.advisories)
        .collect();

    let mut qe_id = [0; 16];
    for (slot, byte) in qe_id.iter_mut().zip(quote.header.user_data) {
        *slot = byte;
    }
    Ok(Verified(SgxEvidence {
        platform: anchor.platform(),
        report: quote.report,
        status,
        advisories: advisories.into_iter().cloned().collect(),
        tcb_date: platform_level.date.min(qe_level.date),
        pck: extension,
        qe_id,
        freshness: freshness(&tcb_info, &qe_identity, &root_crl, &pck_crl, pck_ca),
    }))
}

/// Types 1 to 3 name the machine themselves; it must be that of the chain.
fn check_platform_id(
    certification: &Certification<'_>,
    extension: &PckExtension,
) -> Result<(), VerifyError> {
    let Certification::Platform(id) = certification else {
        return Ok(());
    };
    if id.pce_id.to_le_bytes() != extension.pce_id
        || id.cpu_svn != extension.cpu_svn
        || id.pce_svn != extension.pce_svn
    {
        return Err(VerifyError::WrongPlatform {
            what: "CPUSVN, PCESVN or PCEID",
        });
    }
    Ok(())
}

/// Rules 11 to 13.
fn check_quoting_enclave(
    quote: &Quote<'_>,
    pck: &Certificate,
    identity: &QeIdentity,
) -> Result<(), VerifyError> {
    if !pck
        .key()
        .verify_fixed(quote.qe_report.as_bytes(), &quote.qe_report_signature)
    {
        return Err(VerifyError::Signature {
            part: Part::QeReport,
        });
    }
    let mut context = Context::new(&SHA256);
    context.update(&quote.attestation_key);
    context.update(quote.qe_auth_data);
    let bound = context.finish();
    let data = quote.qe_report.report_data();
    let (hash, rest) = data.split_at(32);
    if hash != bound.as_ref() || rest.iter().any(|byte| *byte != 0) {
        return Err(VerifyError::QeBinding);
    }
    if let Some(field) = identity.mismatch(&quote.qe_report) {
        return Err(VerifyError::QeMismatch { field });
    }
    let key = PublicKey::from_point(&quote.attestation_key);
    if !key.verify_fixed(quote.signed, &quote.signature) {
        return Err(VerifyError::Signature { part: Part::Quote });
    }
    Ok(())
}

/// Decodes a CRL and checks issuer, time and signature.
fn verified_crl(
    part: Part,
    text: &str,
    issuer: &Certificate,
    now: UnixTime,
) -> Result<Crl, VerifyError> {
    if text.len() > 2 * MAX_CRL {
        return Err(VerifyError::Encoding { part });
    }
    let der = hex::decode(text).map_err(|_| VerifyError::Encoding { part })?;
    let crl = Crl::from_der(&der).map_err(|source| VerifyError::Certificate { part, source })?;
    if crl.issuer() != issuer.subject() || !issuer.may_sign_crls() {
        return Err(VerifyError::CrlIssuer { part });
    }
    check_window(part, crl.this_update(), crl.next_update(), now)?;
    if !crl.is_signed_by(issuer) {
        return Err(VerifyError::Signature { part });
    }
    Ok(crl)
}

/// Under what a signed document has to stand.
struct DocumentSigner<'a> {
    anchor: &'a Anchor,
    root_crl: &'a Crl,
    now: UnixTime,
}

impl DocumentSigner<'_> {
    fn check(
        &self,
        chain: &Chain,
        part: Part,
        text: &str,
        signature: &str,
        chain_part: Part,
        verified: &mut Verifications,
    ) -> Result<(), VerifyError> {
        chain.verify(&TCB_NAMES, self.anchor, self.now, verified)?;
        let signer = chain.leaf()?;
        if self.root_crl.revokes(signer) {
            return Err(VerifyError::RevokedCertificate { part: chain_part });
        }
        let mut bytes = [0; 64];
        hex::decode_to_slice(signature, &mut bytes).map_err(|_| VerifyError::Encoding { part })?;
        if !signer.key().verify_fixed(text.as_bytes(), &bytes) {
            return Err(VerifyError::Signature { part });
        }
        Ok(())
    }
}

fn document(part: Part, source: super::DocumentError) -> VerifyError {
    VerifyError::Document { part, source }
}

fn freshness(
    tcb_info: &TcbInfo,
    qe_identity: &QeIdentity,
    root_crl: &Crl,
    pck_crl: &Crl,
    pck_ca: &Certificate,
) -> CollateralFreshness {
    CollateralFreshness {
        issued: tcb_info
            .issue
            .issued
            .max(qe_identity.issue.issued)
            .max(root_crl.this_update())
            .max(pck_crl.this_update()),
        expires: tcb_info
            .issue
            .next_update
            .min(qe_identity.issue.next_update)
            .min(root_crl.next_update())
            .min(pck_crl.next_update()),
        tcb_evaluation: tcb_info.issue.evaluation,
        qe_evaluation: qe_identity.issue.evaluation,
        root_crl_number: root_crl.number(),
        pck_crl_number: pck_crl.number(),
        pck_ca_spki: sha256(pck_ca.spki()),
    }
}

/// What a quote claims about its machine, without any verification: enough to
/// ask for collateral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedPlatform {
    /// Family, model, stepping, platform type, customer SKU.
    pub fmspc: [u8; 6],
    /// `platform` or `processor`: which CA issued the PCK certificate.
    pub ca: &'static str,
}

impl ClaimedPlatform {
    /// FMSPC in upper-case hex, as requests spell it.
    pub fn fmspc_hex(&self) -> String {
        hex::encode_upper(self.fmspc)
    }
}

/// Reads [`ClaimedPlatform`] from the certificate chain inside a quote; `None`
/// if there is none. Never to be used for a decision.
pub fn platform_of(quote: &[u8]) -> Option<ClaimedPlatform> {
    let quote = Quote::parse(quote).ok()?;
    let Certification::Chain(pem) = quote.certification else {
        return None;
    };
    let chain = Chain::parse(Part::PckChain, pem, 3).ok()?;
    let extension = extension::parse(chain.leaf().ok()?.extension(SGX_EXTENSION)?)?;
    let ca = if chain.at(1).ok()?.common_name().contains("Processor") {
        "processor"
    } else {
        "platform"
    };
    Some(ClaimedPlatform {
        fmspc: extension.fmspc,
        ca,
    })
}
