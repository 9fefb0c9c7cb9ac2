// SPDX-License-Identifier: Apache-2.0
//! Writing TCB info and QE identity in the form of Intel's provisioning
//! certification service, version 4.

use attest::dcap::TcbStatus;
use attest::time::UnixTime;
use serde_json::json;

/// `id` of an SGX TCB info.
pub const TCB_INFO_ID: &str = "SGX";
/// `id` of the SGX quoting enclave's identity.
pub const QE_IDENTITY_ID: &str = "QE";

/// One TCB level of a platform.
pub type TcbLevelSpec = ([u8; 16], u16, TcbStatus, Vec<String>);

/// What a TCB info says.
#[derive(Debug, Clone)]
pub struct TcbInfoSpec {
    /// Time of issue.
    pub issued: UnixTime,
    /// When the next one is due.
    pub next_update: UnixTime,
    /// For which platforms.
    pub fmspc: [u8; 6],
    /// For which provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// Components, PCESVN, status and advisories of each level.
    pub levels: Vec<TcbLevelSpec>,
}

/// The text of a TCB info, version 3.
pub fn tcb_info_text(spec: &TcbInfoSpec) -> String {
    let levels: Vec<_> = spec
        .levels
        .iter()
        .map(|(components, pce_svn, status, advisories)| {
            let components: Vec<_> = components.iter().map(|svn| json!({ "svn": svn })).collect();
            json!({
                "tcb": { "sgxtcbcomponents": components, "pcesvn": pce_svn },
                "tcbDate": spec.issued.to_string(),
                "tcbStatus": status,
                "advisoryIDs": advisories,
            })
        })
        .collect();
    json!({
        "id": TCB_INFO_ID,
        "version": 3,
        "issueDate": spec.issued.to_string(),
        "nextUpdate": spec.next_update.to_string(),
        "fmspc": hex::encode_upper(spec.fmspc),
        "pceId": hex::encode_upper(spec.pce_id),
        "tcbType": 0,
        "tcbEvaluationDataNumber": spec.evaluation,
        "tcbLevels": levels,
    })
    .to_string()
}

/// What a QE identity says.
#[derive(Debug, Clone)]
pub struct QeIdentitySpec {
    /// Time of issue.
    pub issued: UnixTime,
    /// When the next one is due.
    pub next_update: UnixTime,
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// Expected attributes; all bits of MISCSELECT and of the flags but
    /// MODE64BIT are compared, XFRM is not.
    pub attributes: [u8; 16],
    /// Expected signer.
    pub mrsigner: [u8; 32],
    /// Expected product id.
    pub isv_prod_id: u16,
    /// ISVSVN, status and advisories of each level.
    pub levels: Vec<(u16, TcbStatus, Vec<String>)>,
}

/// The text of a QE identity, version 2.
pub fn qe_identity_text(spec: &QeIdentitySpec) -> String {
    let levels: Vec<_> = spec
        .levels
        .iter()
        .map(|(isv_svn, status, advisories)| {
            json!({
                "tcb": { "isvsvn": isv_svn },
                "tcbDate": spec.issued.to_string(),
                "tcbStatus": status,
                "advisoryIDs": advisories,
            })
        })
        .collect();
    json!({
        "id": QE_IDENTITY_ID,
        "version": 2,
        "issueDate": spec.issued.to_string(),
        "nextUpdate": spec.next_update.to_string(),
        "tcbEvaluationDataNumber": spec.evaluation,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": hex::encode_upper(spec.attributes),
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(spec.mrsigner),
        "isvprodid": spec.isv_prod_id,
        "tcbLevels": levels,
    })
    .to_string()
}
