// SPDX-License-Identifier: Apache-2.0
//! Revocation lists (RFC 5280 §5), complete ones only.

use der::Decode as _;
use der::asn1::{ObjectIdentifier, Uint};
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;

use super::certificate::{Certificate, CertificateError, signature_bytes, signed_part};
use crate::time::UnixTime;

/// Longest list in bytes.
pub(crate) const MAX_CRL: usize = 256 << 10;
/// Most revoked certificates on a list.
const MAX_REVOKED: usize = 8192;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// A parsed revocation list; trusted only after its signature is verified.
pub(crate) struct Crl {
    signed: Vec<u8>,
    signature: Vec<u8>,
    parsed: CertificateList,
    number: Option<u64>,
}

impl Crl {
    /// Parses strict DER.
    pub(crate) fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CRL {
            return Err(CertificateError::TooLong {
                len: bytes.len(),
                limit: MAX_CRL,
            });
        }
        let parsed = CertificateList::from_der(bytes)?;
        let tbs = &parsed.tbs_cert_list;
        let signature = signature_bytes(
            &tbs.signature,
            &parsed.signature_algorithm,
            &parsed.signature,
        )?
        .to_vec();
        let revoked = tbs.revoked_certificates.as_deref().unwrap_or(&[]);
        if revoked.len() > MAX_REVOKED {
            return Err(CertificateError::TooMany {
                what: "revoked certificates",
            });
        }
        let mut number = None;
        for extension in tbs.crl_extensions.iter().flatten() {
            // Critical extensions turn a list into a partial or indirect one.
            let repeated = extension.extn_id == CRL_NUMBER && number.is_some();
            if extension.critical || repeated {
                return Err(CertificateError::Extension {
                    oid: extension.extn_id.to_string(),
                });
            }
            if extension.extn_id == CRL_NUMBER {
                number = Some(small_number(extension.extn_value.as_bytes())?);
            }
        }
        for extension in revoked
            .iter()
            .flat_map(|entry| entry.crl_entry_extensions.iter().flatten())
        {
            if extension.critical {
                return Err(CertificateError::Extension {
                    oid: extension.extn_id.to_string(),
                });
            }
        }
        Ok(Self {
            signed: signed_part(bytes)?.to_vec(),
            signature,
            number,
            parsed,
        })
    }

    /// Who issued it.
    pub(crate) const fn issuer(&self) -> &Name {
        &self.parsed.tbs_cert_list.issuer
    }

    /// The list's number; absent on lists without one.
    pub(crate) const fn number(&self) -> Option<u64> {
        self.number
    }

    /// When it was issued.
    pub(crate) fn this_update(&self) -> UnixTime {
        UnixTime(
            self.parsed
                .tbs_cert_list
                .this_update
                .to_unix_duration()
                .as_secs(),
        )
    }

    /// When the next one is due; a list without such a date is expired.
    pub(crate) fn next_update(&self) -> UnixTime {
        UnixTime(
            self.parsed
                .tbs_cert_list
                .next_update
                .map_or(0, |time| time.to_unix_duration().as_secs()),
        )
    }

    /// Whether the key of `issuer` signed the list.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        issuer.verifies(&self.signed, &self.signature)
    }

    /// Whether it names this certificate.
    pub(crate) fn revokes(&self, certificate: &Certificate) -> bool {
        self.parsed
            .tbs_cert_list
            .revoked_certificates
            .iter()
            .flatten()
            .any(|entry| entry.serial_number.as_bytes() == certificate.serial())
    }
}

/// A CRL number as `u64`; Intel counts from 1.
fn small_number(der: &[u8]) -> Result<u64, CertificateError> {
    let number = Uint::from_der(der)?;
    let bytes = number.as_bytes();
    if bytes.len() > 8 {
        return Err(CertificateError::TooMany {
            what: "digits in a CRL number",
        });
    }
    Ok(bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
