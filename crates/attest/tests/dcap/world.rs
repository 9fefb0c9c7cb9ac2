// SPDX-License-Identifier: Apache-2.0
//! A whole emulated PKI of which every part can be made wrong on its own.

use attest::anchor::Anchor;
use attest::collateral::Collateral;
use attest::dcap::{PckExtension, SgxEvidence, TcbStatus, Verified, VerifyError, verify};
use attest::time::UnixTime;
use las::pki::{
    CertificateSpec, CrlSpec, Entity, Profile, QeIdentitySpec, TcbInfoSpec, qe_identity_text,
    tcb_info_text,
};
use las::quoting::{QuotingEnclave, qe_attributes, qe_identity, qe_mrsigner};
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::derive::{FuseKey, SecsIdentity, ereport};

/// The time at which everything is verified.
pub(crate) const NOW: UnixTime = UnixTime(1_790_000_000);
/// One day.
pub(crate) const DAY: u64 = 86_400;
/// CPUSVN of the machine.
pub(crate) const CPU_SVN: [u8; 16] = [9; 16];

/// A time `days` before or after [`NOW`].
pub(crate) fn day(days: i64) -> UnixTime {
    UnixTime(NOW.0.saturating_add_signed(days * DAY.cast_signed()))
}

/// Everything that goes into certificates, lists and documents.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) pck_name: &'static str,
    pub(crate) pck_profile: Profile,
    pub(crate) tcb_name: &'static str,
    pub(crate) certificates: (UnixTime, UnixTime),
    pub(crate) crls: (UnixTime, UnixTime),
    pub(crate) revoke_pck: bool,
    pub(crate) revoke_pck_ca: bool,
    pub(crate) revoke_tcb_signer: bool,
    pub(crate) tcb_info: TcbInfoSpec,
    pub(crate) qe_identity: QeIdentitySpec,
    pub(crate) qe: SecsIdentity,
}

/// What the PCK certificate of the good recipe says.
pub(crate) fn extension() -> PckExtension {
    PckExtension {
        fmspc: *b"\x00\xa0\x67\x11\x00\x00",
        pce_id: [0, 0],
        components: [5; 16],
        pce_svn: 7,
        cpu_svn: CPU_SVN,
    }
}

impl Recipe {
    /// A recipe without a fault.
    pub(crate) fn good() -> Self {
        Self {
            pck_name: "Ensconce Emulated SGX PCK Certificate",
            pck_profile: Profile::Pck(extension()),
            tcb_name: "Ensconce Emulated SGX TCB Signing",
            certificates: (day(-10), day(3650)),
            crls: (day(-1), day(29)),
            revoke_pck: false,
            revoke_pck_ca: false,
            revoke_tcb_signer: false,
            tcb_info: TcbInfoSpec {
                issued: day(-1),
                next_update: day(29),
                fmspc: extension().fmspc,
                pce_id: extension().pce_id,
                evaluation: 3,
                levels: vec![([5; 16], 7, TcbStatus::UpToDate, Vec::new())],
            },
            qe_identity: QeIdentitySpec {
                issued: day(-1),
                next_update: day(29),
                evaluation: 4,
                attributes: qe_attributes().to_bytes(),
                mrsigner: qe_mrsigner(),
                isv_prod_id: 1,
                levels: vec![(1, TcbStatus::UpToDate, Vec::new())],
            },
            qe: qe_identity(),
        }
    }

    /// A recipe with one change.
    pub(crate) fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut recipe = Self::good();
        change(&mut recipe);
        recipe
    }
}

/// A machine with its PKI, a quote and the collateral for it.
pub(crate) struct World {
    pub(crate) root: Entity,
    pub(crate) pck_ca: Entity,
    pub(crate) tcb_signer: Entity,
    pub(crate) pck: Entity,
    pub(crate) quote: Vec<u8>,
    pub(crate) collateral: Collateral,
}

impl World {
    /// Follows a recipe.
    pub(crate) fn new(recipe: &Recipe) -> Self {
        let issue = |common_name, profile, issuer| {
            let spec = CertificateSpec {
                common_name,
                profile,
                not_before: recipe.certificates.0,
                not_after: recipe.certificates.1,
            };
            Entity::issue(&spec, issuer).expect("a certificate")
        };
        let root = issue("Ensconce Emulated SGX Root CA", Profile::Ca(2), None);
        let pck_ca = issue(
            "Ensconce Emulated SGX PCK Platform CA",
            Profile::Ca(1),
            Some(&root),
        );
        let tcb_signer = issue(recipe.tcb_name, Profile::DocumentSigner, Some(&root));
        let pck = issue(recipe.pck_name, recipe.pck_profile.clone(), Some(&pck_ca));
        let mut by_root = Vec::new();
        if recipe.revoke_pck_ca {
            by_root.push(pck_ca.serial().expect("serial"));
        }
        if recipe.revoke_tcb_signer {
            by_root.push(tcb_signer.serial().expect("serial"));
        }
        let by_ca = if recipe.revoke_pck {
            vec![pck.serial().expect("serial")]
        } else {
            Vec::new()
        };
        let crl = |issuer: &Entity, revoked: &[Vec<u8>]| {
            let spec = CrlSpec {
                this_update: recipe.crls.0,
                next_update: recipe.crls.1,
                number: 11,
                revoked,
            };
            hex::encode(issuer.issue_crl(&spec).expect("a CRL"))
        };
        let mut collateral = Collateral {
            pck_crl_issuer_chain: format!("{}{}", pck_ca.pem, root.pem),
            root_ca_crl: crl(&root, &by_root),
            pck_crl: crl(&pck_ca, &by_ca),
            tcb_info_issuer_chain: format!("{}{}", tcb_signer.pem, root.pem),
            tcb_info: String::new(),
            tcb_info_signature: String::new(),
            qe_identity_issuer_chain: format!("{}{}", tcb_signer.pem, root.pem),
            qe_identity: String::new(),
            qe_identity_signature: String::new(),
            pck_certificate_chain: None,
        };
        sign_documents(
            &mut collateral,
            &tcb_signer,
            tcb_info_text(&recipe.tcb_info),
            qe_identity_text(&recipe.qe_identity),
        );
        let chain = format!("{}{}{}", pck.pem, pck_ca.pem, root.pem);
        let quote = quote(&recipe.qe, &pck, chain);
        Self {
            root,
            pck_ca,
            tcb_signer,
            pck,
            quote,
            collateral,
        }
    }

    /// The good world.
    pub(crate) fn good() -> Self {
        Self::new(&Recipe::good())
    }

    /// The world's anchor.
    pub(crate) fn anchor(&self) -> Anchor {
        Anchor::emulated(&self.root.der).expect("an anchor")
    }

    /// Verifies the quote under the world's own anchor.
    pub(crate) fn verify(&self) -> Result<Verified<SgxEvidence>, VerifyError> {
        verify(&self.quote, &self.collateral, &[self.anchor()], NOW)
    }

    /// Replaces the TCB info by another text, properly signed.
    pub(crate) fn sign_tcb_info(&mut self, text: String) {
        self.collateral.tcb_info_signature = self.tcb_signer.sign_document(&text).expect("signed");
        self.collateral.tcb_info = text;
    }

    /// Replaces the QE identity by another text, properly signed.
    pub(crate) fn sign_qe_identity(&mut self, text: String) {
        self.collateral.qe_identity_signature =
            self.tcb_signer.sign_document(&text).expect("signed");
        self.collateral.qe_identity = text;
    }

    /// Replaces the certification data of the quote.
    pub(crate) fn certify(&mut self, kind: u16, data: &[u8]) {
        let start = 436 + 576 + 2 + 32;
        self.quote.truncate(start);
        self.quote.extend_from_slice(&kind.to_le_bytes());
        let len = u32::try_from(data.len()).expect("small");
        self.quote.extend_from_slice(&len.to_le_bytes());
        self.quote.extend_from_slice(data);
        let auth = u32::try_from(self.quote.len() - 436).expect("small");
        self.quote[432..436].copy_from_slice(&auth.to_le_bytes());
    }

    /// The PCK chain, PEM.
    pub(crate) fn chain(&self) -> String {
        format!("{}{}{}", self.pck.pem, self.pck_ca.pem, self.root.pem)
    }
}

fn sign_documents(
    collateral: &mut Collateral,
    signer: &Entity,
    tcb_info: String,
    qe_identity: String,
) {
    collateral.tcb_info_signature = signer.sign_document(&tcb_info).expect("signed");
    collateral.tcb_info = tcb_info;
    collateral.qe_identity_signature = signer.sign_document(&qe_identity).expect("signed");
    collateral.qe_identity = qe_identity;
}

/// A quote about an enclave of this project, by the quoting enclave `qe`.
fn quote(qe: &SecsIdentity, pck: &Entity, chain: String) -> Vec<u8> {
    let fuses = FuseKey::new([3; 32]);
    let quoting = QuotingEnclave::new(qe.clone(), pck, chain, CPU_SVN, [6; 16]).expect("QE");
    let enclave = SecsIdentity {
        attributes: Attributes {
            flags: Flags::INIT | Flags::MODE64BIT | Flags::KSS,
            xfrm: 0xe7,
        },
        miscselect: MiscSelect::EXINFO,
        mrenclave: [1; 32],
        mrsigner: [2; 32],
        isv_prod_id: 0,
        isv_svn: 0,
        config_id: [0; 64],
        config_svn: 0,
        isv_ext_prod_id: [0; 16],
        isv_family_id: [0; 16],
    };
    let report = ereport(
        &fuses,
        &enclave,
        &quoting.target_info(),
        &[4; 64],
        &[0; 32],
        &CPU_SVN,
    );
    quoting.quote(&fuses, &CPU_SVN, &report).expect("a quote")
}
