// SPDX-License-Identifier: Apache-2.0
//! An emulated machine whose enclaves say what a test wants: real quotes of crafted REPORTs.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use attest::channel::binding;
use attest::channel::client::{ClientError, Connect, EvidenceRequest, Session};
use attest::channel::config::Config;
use attest::channel::encoding::Bytes;
use attest::channel::frame::{Claims, Evidence, EvidenceKind, RefusalCode};
use attest::time::UnixTime;
use las::platform::{CPU_SVN, Platform};
use las::quoting::QuotingEnclave;
use policy::KeyHash;
use serde_json::Value;
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::derive::{FuseKey, SecsIdentity, ereport};

use crate::support::Cas;

/// Measurement of the enclave that the tests run.
pub(crate) const MRENCLAVE: [u8; 32] = [0x11; 32];
/// Its signer.
pub(crate) const MRSIGNER: [u8; 32] = [0x22; 32];

pub(crate) struct Machine {
    platform: Platform,
    quoting: QuotingEnclave,
    fuses: FuseKey,
    dir: PathBuf,
}

impl Machine {
    pub(crate) fn new(dir: &Path) -> Self {
        Self::made_at(dir, UnixTime::from_system())
    }

    pub(crate) fn made_at(dir: &Path, now: UnixTime) -> Self {
        let dir = dir.join("platform");
        let platform = Platform::init(&dir, now).expect("a platform");
        let fuses = std::fs::read(dir.join("fuse.key")).expect("the fuses");
        Self {
            quoting: platform.quoting_enclave().expect("a quoting enclave"),
            fuses: FuseKey::new(fuses.try_into().expect("32 bytes")),
            platform,
            dir,
        }
    }

    /// Path of the root certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root.crt")
    }

    /// The tolerance that names this machine.
    pub(crate) fn tolerance(&self) -> String {
        format!("emulated-platform:{}", self.platform.info().anchor)
    }

    /// A development CAS that believes this machine.
    pub(crate) fn cas(&self, dir: &Path) -> Cas {
        Cas::start_with(dir, &["--anchor", self.root().to_str().expect("UTF-8")])
    }

    /// The collateral as of `now`.
    pub(crate) fn collateral(&mut self, now: UnixTime) -> String {
        let bundle = self.platform.collateral(now).expect("collateral");
        bundle.to_json().expect("JSON")
    }

    /// A quote over what the enclave reports.
    pub(crate) fn quote(&self, enclave: &SecsIdentity, report_data: &[u8; 64]) -> Vec<u8> {
        let target = self.quoting.target_info();
        let report = ereport(
            &self.fuses,
            enclave,
            &target,
            report_data,
            &[9; 32],
            &CPU_SVN,
        );
        self.quoting
            .quote(&self.fuses, &CPU_SVN, &report)
            .expect("a quote")
    }

    /// Evidence with the collateral of today.
    pub(crate) fn evidence(&mut self, enclave: &SecsIdentity, report_data: &[u8; 64]) -> Evidence {
        Evidence {
            kind: EvidenceKind::SgxDcap,
            quote: Bytes(self.quote(enclave, report_data)),
            claims: Claims {
                collateral: Some(self.collateral(UnixTime::from_system())),
            },
        }
    }
}

/// The enclave of the tests, configured for a service of a CAS.
pub(crate) fn enclave(cas: &KeyHash, session: &str, service: &str) -> SecsIdentity {
    SecsIdentity {
        attributes: Attributes {
            flags: Flags::INIT | Flags::MODE64BIT | Flags::KSS,
            xfrm: 7,
        },
        miscselect: MiscSelect::EXINFO,
        mrenclave: MRENCLAVE,
        mrsigner: MRSIGNER,
        isv_prod_id: 7,
        isv_svn: 4,
        config_id: binding::config_id(cas.as_bytes(), session, service, None),
        config_svn: 0,
        isv_ext_prod_id: [0; 16],
        isv_family_id: [0; 16],
    }
}

/// A connection to the attested port.
pub(crate) fn dial(cas: &Cas) -> TcpStream {
    TcpStream::connect(cas.address.attested()).expect("the CAS listens")
}

/// What an agent asks for.
pub(crate) fn ask<'a>(cas: &Cas, config_id: &'a str) -> Connect<'a> {
    Connect {
        server_name: "localhost",
        pin: Some(*cas.key.as_bytes()),
        config_id,
        otp: None,
        token: None,
    }
}

/// Attests with evidence that `make` produces.
pub(crate) fn attest_with(
    cas: &Cas,
    config_id: &str,
    make: impl FnOnce(&EvidenceRequest) -> Evidence,
) -> Result<(Config, Session), ClientError> {
    Session::connect(dial(cas), &ask(cas, config_id), |request| {
        Ok::<_, io::Error>(make(request))
    })
}

/// Attests as `enclave`.
pub(crate) fn attest(
    cas: &Cas,
    machine: &mut Machine,
    config_id: &str,
    enclave: &SecsIdentity,
) -> Result<(Config, Session), ClientError> {
    attest_with(cas, config_id, |request| {
        machine.evidence(enclave, &request.report_data)
    })
}

/// The code of a refusal.
pub(crate) fn code<T>(result: Result<T, ClientError>) -> RefusalCode {
    match result {
        Ok(_) => panic!("accepted"),
        Err(ClientError::Refused { code, .. }) => code,
        Err(error) => panic!("not a refusal: {error:?}"),
    }
}

/// The reasons of the last refusal in the audit log, problems and remedies joined.
pub(crate) fn last_reasons(cas: &Cas) -> String {
    let audit = cas.audit();
    let last = audit.iter().rev().find(|e| e["event"] == "service-refused");
    let reasons = last.expect("a refusal")["reasons"]
        .as_array()
        .expect("reasons");
    let texts = reasons.iter().map(|r: &Value| {
        let text = |name: &str| r[name].as_str().unwrap_or_default().to_owned();
        format!("{} [{}]", text("problem"), text("tolerate"))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A session with one service that runs the enclave of the tests.
pub(crate) fn session(name: &str, tolerate: &[&str], rest: &str) -> String {
    format!(
        "version: \"0.3.12\"\nname: {name}\nsecurity: {{attestation: {{tolerate: [{}]}}}}\nservices:\n  - name: api\n    command: [run]\n    attestation: {{mrenclave: {}}}\n{rest}",
        tolerate.join(", "),
        hex::encode(MRENCLAVE)
    )
}
