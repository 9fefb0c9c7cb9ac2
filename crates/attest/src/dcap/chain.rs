// SPDX-License-Identifier: Apache-2.0
//! Certificate chains: leaf first, root last, and the root is the anchor.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::{Certificate, MAX_CERTIFICATE};
use super::{Part, VerifyError};
use crate::anchor::Anchor;
use crate::channel::binding::sha256;
use crate::time::UnixTime;

/// Longest PEM text of a chain in bytes.
const MAX_PEM: usize = 64 << 10;

/// Signatures that verified already. Chains share certificates, and an ECDSA
/// verification costs more than everything else about a certificate.
#[derive(Default)]
pub(crate) struct Verifications(Vec<(Vec<u8>, Vec<u8>)>);

impl Verifications {
    /// Whether the key of `issuer` signed exactly these bytes of `subject`.
    fn check(&mut self, subject: &Certificate, issuer: &Certificate) -> bool {
        let known = self
            .0
            .iter()
            .any(|(der, key)| der == subject.der() && key == issuer.spki());
        if known {
            return true;
        }
        let valid = subject.is_signed_by(issuer);
        if valid {
            self.0
                .push((subject.der().to_vec(), issuer.spki().to_vec()));
        }
        valid
    }
}

/// A chain whose certificates are parsed and nothing more.
pub(crate) struct Chain {
    part: Part,
    certificates: Vec<Certificate>,
}

impl Chain {
    /// Parses exactly `count` PEM certificates.
    pub(crate) fn parse(part: Part, pem: &[u8], count: usize) -> Result<Self, VerifyError> {
        let malformed = || VerifyError::Chain {
            part,
            problem: "is not PEM",
        };
        if pem.len() > MAX_PEM {
            return Err(malformed());
        }
        let mut certificates = Vec::with_capacity(count);
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| malformed())?;
            if certificates.len() == count || der.len() > MAX_CERTIFICATE {
                return Err(VerifyError::Chain {
                    part,
                    problem: "has too many or too long certificates",
                });
            }
            certificates.push(
                Certificate::from_der(&der)
                    .map_err(|source| VerifyError::Certificate { part, source })?,
            );
        }
        if certificates.len() != count {
            return Err(VerifyError::Chain {
                part,
                problem: "has too few certificates",
            });
        }
        Ok(Self { part, certificates })
    }

    /// The first certificate.
    pub(crate) fn leaf(&self) -> Result<&Certificate, VerifyError> {
        self.at(0)
    }

    /// The certificate at this distance from the leaf.
    pub(crate) fn at(&self, index: usize) -> Result<&Certificate, VerifyError> {
        self.certificates.get(index).ok_or(VerifyError::Chain {
            part: self.part,
            problem: "has too few certificates",
        })
    }

    /// The last certificate.
    pub(crate) fn root(&self) -> Result<&Certificate, VerifyError> {
        self.at(self.certificates.len().saturating_sub(1))
    }

    /// The anchor that the chain ends in.
    pub(crate) fn anchor<'a>(&self, anchors: &'a [Anchor]) -> Result<&'a Anchor, VerifyError> {
        let root = sha256(self.root()?.der());
        anchors
            .iter()
            .find(|anchor| *anchor.certificate_sha256() == root)
            .ok_or(VerifyError::UnknownRoot {
                part: self.part,
                root_sha256: root,
            })
    }

    /// Checks names, validity, CA rights and signatures up to `anchor`.
    pub(crate) fn verify(
        &self,
        names: &[&str],
        anchor: &Anchor,
        now: UnixTime,
        verified: &mut Verifications,
    ) -> Result<(), VerifyError> {
        let part = self.part;
        let problem = |problem| VerifyError::Chain { part, problem };
        let root = self.root()?;
        if sha256(root.der()) != *anchor.certificate_sha256() {
            return Err(VerifyError::MixedAnchors { part });
        }
        for (certificate, name) in self.certificates.iter().zip(names) {
            let common_name = certificate.common_name();
            if !common_name.contains(name) {
                return Err(VerifyError::Name {
                    part,
                    found: common_name,
                    expected: (*name).to_owned(),
                });
            }
            let (from, until) = certificate.validity();
            check_window(part, from, until, now)?;
        }
        if !root.may_sign_crls() {
            return Err(problem("ends in a certificate that is no CA"));
        }
        let leaf = self.leaf()?;
        let (fits, wrong) = if part == Part::PckCrlChain {
            (
                leaf.may_sign_crls(),
                "starts with a certificate that signs no CRLs",
            )
        } else {
            (
                leaf.is_end_entity(),
                "starts with a certificate that is no end entity",
            )
        };
        if !fits {
            return Err(problem(wrong));
        }
        for (depth, (subject, issuer)) in self
            .certificates
            .iter()
            .zip(self.certificates.iter().skip(1))
            .enumerate()
        {
            if !subject.is_issued_by(issuer) {
                return Err(problem("is out of order"));
            }
            let cas_below = if part == Part::PckCrlChain {
                depth + 1
            } else {
                depth
            };
            if !issuer.is_ca()
                || issuer
                    .path_len()
                    .is_some_and(|limit| cas_below > usize::from(limit))
            {
                return Err(problem("has an issuer that is no CA"));
            }
            if !verified.check(subject, issuer) {
                return Err(VerifyError::Signature { part });
            }
        }
        Ok(())
    }
}

/// Requires `from <= now <= until`.
pub(crate) fn check_window(
    part: Part,
    from: UnixTime,
    until: UnixTime,
    now: UnixTime,
) -> Result<(), VerifyError> {
    if now < from {
        return Err(VerifyError::NotYetValid { part, from, now });
    }
    if now > until {
        return Err(VerifyError::Expired { part, until, now });
    }
    Ok(())
}
