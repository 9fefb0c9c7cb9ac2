// SPDX-License-Identifier: Apache-2.0
//! From evidence to a decision under a session, with every reason.

use attest::anchor::Platform;
use attest::channel::binding;
use attest::channel::frame::Evidence;
use attest::collateral::Collateral;
use attest::dcap::{SgxEvidence, Verified};
use attest::verdict::{self, Tolerances};
use policy::ConfigId;
use policy::attestation::{Advisories, EnclaveIdentity, Mode, Security, Tolerance, first_match};
use sgx::attributes::Flags;
use subtle::ConstantTimeEq as _;

use super::trust::Trust;
use crate::audit::{Reason, Verdict};
use crate::sessions::Active;

/// A refusal: reasons for the owner, and what verified evidence showed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reasons: Vec<Reason>,
    pub(super) verdict: Option<Box<Verdict>>,
}

impl Refusal {
    pub(super) fn because(problem: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason(problem)],
            verdict: None,
        }
    }
}

pub(super) fn reason(problem: impl Into<String>) -> Reason {
    Reason {
        problem: problem.into(),
        tolerate: None,
    }
}

/// The collateral to try, in order: the operator's, then what the evidence brings along. Each proves
/// itself by its signatures.
pub(super) fn candidates(evidence: &Evidence, trust: &Trust) -> (Vec<Collateral>, Vec<Reason>) {
    let mut bundles = trust.collateral.clone();
    let mut problems = Vec::new();
    if let Some(text) = &evidence.claims.collateral {
        match Collateral::from_json(text.as_bytes()) {
            Ok(bundle) => bundles.push(bundle),
            Err(error) => {
                let error = chain(&error);
                problems.push(reason(format!("the collateral of the evidence: {error}")));
            }
        }
    }
    if bundles.is_empty() && problems.is_empty() {
        problems.push(reason(
            "there is no collateral: start the CAS with --collateral, or let the LAS send it along",
        ));
    }
    (bundles, problems)
}

/// Whether the evidence was made for exactly this connection and service (rules S1 and S10).
pub(super) fn bound(
    evidence: &SgxEvidence,
    report_data: &[u8; 64],
    cas_root_spki: &[u8; 32],
    id: &ConfigId,
) -> Result<(), Refusal> {
    let mut reasons = Vec::new();
    if !bool::from(evidence.report.report_data().ct_eq(report_data)) {
        reasons.push(reason(
            "the report data does not cover this connection, its keys and nonce",
        ));
    }
    let (session, service) = (id.session.as_str(), id.service.as_str());
    let expected = binding::config_id(cas_root_spki, session, service, None);
    if !bool::from(evidence.report.config_id().ct_eq(&expected)) {
        reasons.push(reason(format!(
            "CONFIGID is {}, that of {id} at this CAS is {}",
            hex::encode(evidence.report.config_id()),
            hex::encode(expected)
        )));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        reasons,
        verdict: Some(Box::new(describe(evidence, Vec::new()))),
    })
}

/// Judges verified and bound evidence by the session: platform, attributes, and one variant.
pub(super) fn judge(
    evidence: &Verified<SgxEvidence>,
    active: &Active,
    id: &ConfigId,
) -> Result<Verdict, Refusal> {
    let Some(service) = active.session.services.get(id.service.as_str()) else {
        return Err(Refusal::because("the session no longer has this service"));
    };
    let mut reasons = Vec::new();
    if active.session.security.mode != Mode::Hardware {
        reasons.push(reason(
            "this CAS serves only sessions with attestation mode 'hardware'",
        ));
    }
    let tolerances = tolerances(&active.session.security);
    let platform = verdict::appraise(evidence, &tolerances);
    let mut tolerated = Vec::new();
    for found in &platform.reasons {
        if found.tolerated {
            tolerated.push(found.problem.to_string());
        } else {
            let remedy = found.problem.remedy();
            reasons.push(Reason {
                problem: found.problem.to_string(),
                tolerate: remedy.map(|(member, entry)| {
                    format!("security: {{ attestation: {{ {member}: [ \"{entry}\" ] }} }}")
                }),
            });
        }
    }
    let identity = EnclaveIdentity {
        mrenclave: evidence.report.mrenclave(),
        mrsigner: evidence.report.mrsigner(),
        isvprodid: evidence.report.isv_prod_id(),
        isvsvn: evidence.report.isv_svn(),
    };
    if let Err(variants) = first_match(&service.attestation, &identity) {
        for (index, mismatches) in variants.iter().enumerate() {
            for mismatch in mismatches {
                reasons.push(reason(format!(
                    "attestation variant {} of service '{}': {mismatch}",
                    index + 1,
                    id.service
                )));
            }
        }
        if service.attestation.is_empty() {
            reasons.push(reason("the service has no attestation variant"));
        }
    }
    let described = describe(evidence, tolerated);
    if reasons.is_empty() {
        return Ok(described);
    }
    Err(Refusal {
        reasons,
        verdict: Some(Box::new(described)),
    })
}

/// The session's tolerances in the verifier's terms.
fn tolerances(security: &Security) -> Tolerances {
    let mut tolerances = Tolerances::default();
    for tolerance in &security.tolerate {
        match tolerance {
            Tolerance::DebugMode => tolerances.debug_mode = true,
            Tolerance::SoftwareHardeningNeeded => tolerances.software_hardening_needed = true,
            Tolerance::InsecureConfiguration => tolerances.insecure_configuration = true,
            Tolerance::OutdatedTcb => tolerances.outdated_tcb = true,
            Tolerance::EmulatedPlatform(anchor) => tolerances.emulated_platforms.push(*anchor),
            // The others stand for one advisory each; what a later version adds tolerates nothing here.
            other => tolerances
                .advisories
                .extend(other.advisory().map(str::to_owned)),
        }
    }
    match &security.ignore_advisories {
        Advisories::All => tolerances.all_advisories = true,
        Advisories::Listed(list) => tolerances.advisories.extend(list.iter().cloned()),
    }
    tolerances
}

fn describe(evidence: &SgxEvidence, tolerated: Vec<String>) -> Verdict {
    let report = &evidence.report;
    let (anchor, emulated) = match evidence.platform {
        Platform::Intel => ("intel".to_owned(), false),
        Platform::Emulated(anchor) => (hex::encode(anchor), true),
    };
    Verdict {
        mrenclave: hex::encode(report.mrenclave()),
        mrsigner: hex::encode(report.mrsigner()),
        isvprodid: report.isv_prod_id(),
        isvsvn: report.isv_svn(),
        debug: report.attributes().flags.contains(Flags::DEBUG),
        anchor,
        emulated,
        tcb_status: evidence.status.to_string(),
        advisories: evidence.advisories.clone(),
        tolerated,
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
