// SPDX-License-Identifier: Apache-2.0
//! Collateral of the emulated platform: issued for 30 days, renewed when little
//! of that is left.

use attest::collateral::Collateral;
use attest::dcap::TcbStatus;
use attest::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CPU_SVN, FMSPC, PCE_ID, PCE_SVN, Platform, PlatformError, files};
use crate::pki::{CrlSpec, QeIdentitySpec, TcbInfoSpec, qe_identity_text, tcb_info_text};
use crate::quoting::{QE_ISV_PROD_ID, QE_ISV_SVN, qe_attributes, qe_mrsigner};

/// For how long collateral is valid.
const VALID_SECONDS: u64 = 30 * 86_400;
/// Collateral with less time than this left is renewed.
const RENEW_BELOW_SECONDS: u64 = 10 * 86_400;
/// How far back the issue dates lie, for verifiers whose clocks run behind.
const BACKDATED_SECONDS: u64 = 600;
/// There is one generation of evaluation data for emulated platforms.
const EVALUATION: u32 = 1;

/// Intel's envelope of a TCB info.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedTcbInfo {
    tcb_info: Box<RawValue>,
    signature: String,
}

/// Intel's envelope of a QE identity.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedQeIdentity {
    enclave_identity: Box<RawValue>,
    signature: String,
}

/// The two dates of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dates {
    next_update: String,
}

/// A bundle before anything was issued.
pub(super) const fn empty() -> Collateral {
    Collateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: String::new(),
        pck_crl: String::new(),
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: String::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: String::new(),
        pck_certificate_chain: None,
    }
}

impl Platform {
    /// The collateral, renewed first if it is about to expire.
    ///
    /// # Errors
    /// [`PlatformError`] if new collateral cannot be issued or stored.
    pub fn collateral(&mut self, now: UnixTime) -> Result<&Collateral, PlatformError> {
        if now.plus(RENEW_BELOW_SECONDS) >= self.expires {
            self.renew(now)?;
        }
        Ok(&self.collateral)
    }

    /// Issues CRLs and documents anew and stores them.
    pub(super) fn renew(&mut self, now: UnixTime) -> Result<(), PlatformError> {
        let issued = UnixTime(now.0.saturating_sub(BACKDATED_SECONDS));
        let next_update = now.plus(VALID_SECONDS);
        // CRL numbers must grow with each list; the time of issue does.
        let crl = CrlSpec {
            this_update: issued,
            next_update,
            number: issued.0,
            revoked: &[],
        };
        let root_crl = self.root.issue_crl(&crl)?;
        let pck_crl = self.pck_ca.issue_crl(&crl)?;
        let tcb_info = tcb_info_text(&TcbInfoSpec {
            issued,
            next_update,
            fmspc: FMSPC,
            pce_id: PCE_ID,
            evaluation: EVALUATION,
            levels: vec![(CPU_SVN, PCE_SVN, TcbStatus::UpToDate, Vec::new())],
        });
        let qe_identity = qe_identity_text(&QeIdentitySpec {
            issued,
            next_update,
            evaluation: EVALUATION,
            attributes: qe_attributes().to_bytes(),
            mrsigner: qe_mrsigner(),
            isv_prod_id: QE_ISV_PROD_ID,
            levels: vec![(QE_ISV_SVN, TcbStatus::UpToDate, Vec::new())],
        });
        let tcb_info_signature = self.tcb_signing.sign_document(&tcb_info)?;
        let qe_identity_signature = self.tcb_signing.sign_document(&qe_identity)?;

        files::replace(&self.dir.join("crl/root.crl"), &root_crl)?;
        files::replace(&self.dir.join("crl/pck-ca.crl"), &pck_crl)?;
        let text = format!(r#"{{"tcbInfo":{tcb_info},"signature":"{tcb_info_signature}"}}"#);
        files::replace(&self.dir.join("tcb-info.json"), text.as_bytes())?;
        let text =
            format!(r#"{{"enclaveIdentity":{qe_identity},"signature":"{qe_identity_signature}"}}"#);
        files::replace(&self.dir.join("qe-identity.json"), text.as_bytes())?;
        self.load_collateral()
    }

    /// Reads CRLs and documents from their files.
    pub(super) fn load_collateral(&mut self) -> Result<(), PlatformError> {
        let dir = &self.dir;
        let damaged = |name: &str, problem| PlatformError::Damaged {
            path: dir.join(name),
            problem,
        };
        let tcb: SignedTcbInfo = serde_json::from_slice(&files::read(&dir.join("tcb-info.json"))?)
            .map_err(|_| damaged("tcb-info.json", "not a signed TCB info"))?;
        let qe: SignedQeIdentity =
            serde_json::from_slice(&files::read(&dir.join("qe-identity.json"))?)
                .map_err(|_| damaged("qe-identity.json", "not a signed QE identity"))?;
        let expiry = |text: &RawValue, name| {
            serde_json::from_str::<Dates>(text.get())
                .ok()
                .and_then(|dates| UnixTime::parse(&dates.next_update))
                .ok_or_else(|| damaged(name, "has no date of its next update"))
        };
        // CRLs are issued together with the documents and share their dates.
        self.expires = expiry(&tcb.tcb_info, "tcb-info.json")?
            .min(expiry(&qe.enclave_identity, "qe-identity.json")?);
        let below_root = |certificate: &str| format!("{certificate}{}", self.root.pem);
        self.collateral = Collateral {
            pck_crl_issuer_chain: below_root(&self.pck_ca.pem),
            root_ca_crl: hex::encode(files::read(&dir.join("crl/root.crl"))?),
            pck_crl: hex::encode(files::read(&dir.join("crl/pck-ca.crl"))?),
            tcb_info_issuer_chain: below_root(&self.tcb_signing.pem),
            tcb_info: tcb.tcb_info.get().to_owned(),
            tcb_info_signature: tcb.signature,
            qe_identity_issuer_chain: below_root(&self.tcb_signing.pem),
            qe_identity: qe.enclave_identity.get().to_owned(),
            qe_identity_signature: qe.signature,
            pck_certificate_chain: None,
        };
        Ok(())
    }
}
