// SPDX-License-Identifier: Apache-2.0
//! Making evidence: REPORT, quote and, where the local service has it,
//! collateral.

use anyhow::{Context as _, Result, bail, ensure};
use attest::channel::binding::{config_id, split_config_id};
use attest::channel::client::EvidenceRequest;
use attest::channel::encoding::Bytes;
use attest::channel::frame::{Claims, Evidence, EvidenceKind};
use attest::dcap::platform_of;
use attest::las::{Address, Client};
use enclave_abi::las::{Answer, Base64, Request};
use sgx::report::TargetInfo;

use crate::control::Control;

/// Makes evidence for `request`, after checking that this enclave was created
/// for the CAS and the service that it talks to.
///
/// # Errors
/// With the next step: no service, a foreign CAS, a refused REPORT.
pub fn make(
    control: &mut impl Control,
    las: &Address,
    config: &str,
    request: &EvidenceRequest,
) -> Result<Evidence> {
    let mut client = Client::connect(las).context(
        "cannot attest: start ensconce-las on this machine and give its address in SCONE_LAS_ADDR",
    )?;
    let Answer::Info { qe_target_info, .. } = client.ask(&Request::Info {})? else {
        bail!("attestation service does not say for whom REPORTs have to be made");
    };
    let target = qe_target_info
        .0
        .as_slice()
        .try_into()
        .ok()
        .and_then(TargetInfo::from_bytes)
        .context("attestation service sends a malformed TARGETINFO")?;
    let report = control.report(&request.report_data, &target)?;
    ensure!(
        report.body.report_data() == request.report_data,
        "kernel's REPORT does not hold the report data asked for"
    );
    check_config_id(&report.body.config_id(), config, request)?;

    let answer = client.ask(&Request::Quote {
        report: Base64(report.to_bytes().to_vec()),
    })?;
    let Answer::Quote { quote } = answer else {
        bail!("attestation service gives no quote");
    };
    // Collateral helps a CAS that has none of its own; without it the CAS
    // decides.
    let collateral = platform_of(&quote.0).and_then(|platform| {
        let answer = client.ask(&Request::Collateral {
            fmspc: platform.fmspc_hex(),
            ca: platform.ca.to_owned(),
        });
        match answer {
            Ok(Answer::Collateral { bundle }) => Some(bundle),
            _ => None,
        }
    });
    Ok(Evidence {
        kind: EvidenceKind::SgxDcap,
        quote: Bytes(quote.0),
        claims: Claims { collateral },
    })
}

/// S1: CONFIGID was fixed when the enclave was created; another CAS, session or
/// service than the one in it gets no evidence and starts nothing.
fn check_config_id(own: &[u8; 64], config: &str, request: &EvidenceRequest) -> Result<()> {
    let (session, service) =
        split_config_id(config).context("SCONE_CONFIG_ID must have the form session/service")?;
    let expected = config_id(
        &request.cas_root_spki,
        session,
        service,
        request.singleton.as_ref(),
    );
    ensure!(
        *own == expected,
        "this enclave was not created for the CAS that answers: its CONFIGID names another CAS key, \
         session, service or singleton token; check SCONE_CAS_ADDR and SCONE_CONFIG_ID and start again"
    );
    Ok(())
}
