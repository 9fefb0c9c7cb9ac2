// SPDX-License-Identifier: Apache-2.0
//! Certificates of the SGX PKI: X.509 v3, ECDSA P-256 with SHA-256.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use der::asn1::{BitString, ObjectIdentifier};
use der::{Decode as _, Encode as _, Header, Reader as _, SliceReader};
use thiserror::Error;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::time::UnixTime;

/// Longest certificate in bytes.
pub(crate) const MAX_CERTIFICATE: usize = 16 << 10;
/// Most extensions of a certificate.
const MAX_EXTENSIONS: usize = 32;

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// Why bytes are not a certificate or CRL of the SGX PKI.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Longer than any such object.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLong {
        /// Length of the input.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Not strict DER of the expected structure.
    #[error("not valid DER")]
    Der(#[from] der::Error),
    /// Signed by something else than ECDSA with SHA-256, or the two algorithm
    /// fields differ.
    #[error("signature algorithm is not ECDSA with SHA-256")]
    SignatureAlgorithm,
    /// The key is not an uncompressed point on P-256.
    #[error("public key is not an ECDSA P-256 key")]
    Key,
    /// A critical extension that is not understood, or a repeated one.
    #[error("extension {oid} is critical and unknown, or repeated")]
    Extension {
        /// Its object identifier.
        oid: String,
    },
    /// Too many entries of a kind.
    #[error("too many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

/// A P-256 public key: 0x04, `x`, `y`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey([u8; 65]);

impl PublicKey {
    /// From `x` and `y` alone, as in quotes.
    pub(crate) fn from_point(point: &[u8; 64]) -> Self {
        let mut key = [4; 65];
        let (_, rest) = key.split_at_mut(1);
        rest.copy_from_slice(point);
        Self(key)
    }

    /// Checks an ASN.1 signature, as in certificates.
    fn verify_der(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0)
            .verify(message, signature)
            .is_ok()
    }

    /// Checks an `r`, `s` signature, as in quotes and collateral.
    pub(crate) fn verify_fixed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// The raw first element of an outer SEQUENCE: what its signature covers.
pub(crate) fn signed_part(bytes: &[u8]) -> Result<&[u8], der::Error> {
    let mut reader = SliceReader::new(bytes)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// Requires ECDSA with SHA-256 in both algorithm fields and a whole number of
/// signature bytes.
pub(crate) fn signature_bytes<'a>(
    inner: &AlgorithmIdentifierOwned,
    outer: &AlgorithmIdentifierOwned,
    signature: &'a BitString,
) -> Result<&'a [u8], CertificateError> {
    if outer.oid != ECDSA_WITH_SHA256 || outer.parameters.is_some() || inner != outer {
        return Err(CertificateError::SignatureAlgorithm);
    }
    signature
        .as_bytes()
        .ok_or(CertificateError::SignatureAlgorithm)
}

/// A parsed certificate; trusted only after its chain is verified.
#[derive(Clone)]
pub(crate) struct Certificate {
    der: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    spki: Vec<u8>,
    key: PublicKey,
    parsed: x509_cert::Certificate,
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.common_name())
    }
}

impl Certificate {
    /// Parses strict DER.
    pub(crate) fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong {
                len: bytes.len(),
                limit: MAX_CERTIFICATE,
            });
        }
        let parsed = x509_cert::Certificate::from_der(bytes)?;
        let tbs = parsed.tbs_certificate();
        let signature = signature_bytes(
            tbs.signature(),
            parsed.signature_algorithm(),
            parsed.signature(),
        )?
        .to_vec();
        let info = tbs.subject_public_key_info();
        let curve: ObjectIdentifier = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.decode_as().ok())
            .ok_or(CertificateError::Key)?;
        if info.algorithm.oid != EC_PUBLIC_KEY || curve != PRIME256V1 {
            return Err(CertificateError::Key);
        }
        let key: [u8; 65] = info
            .subject_public_key
            .as_bytes()
            .and_then(|point| point.try_into().ok())
            .filter(|point: &[u8; 65]| point.first() == Some(&4))
            .ok_or(CertificateError::Key)?;
        check_extensions(tbs.extensions().map_or(&[], Vec::as_slice))?;
        Ok(Self {
            der: bytes.to_vec(),
            signed: signed_part(bytes)?.to_vec(),
            signature,
            spki: info.to_der()?,
            key: PublicKey(key),
            constraints: tbs.get_extension()?.map(|(_, value)| value),
            usage: tbs.get_extension()?.map(|(_, value)| value),
            parsed,
        })
    }

    /// The exact bytes.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// SubjectPublicKeyInfo (DER).
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subject's key.
    pub(crate) const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The subject.
    pub(crate) fn subject(&self) -> &Name {
        self.parsed.tbs_certificate().subject()
    }

    /// The issuer.
    pub(crate) fn issuer(&self) -> &Name {
        self.parsed.tbs_certificate().issuer()
    }

    /// Serial number, big-endian without redundant zeros.
    pub(crate) fn serial(&self) -> &[u8] {
        self.parsed.tbs_certificate().serial_number().as_bytes()
    }

    /// Common name of the subject; empty if there is none.
    pub(crate) fn common_name(&self) -> String {
        self.subject()
            .common_name()
            .ok()
            .flatten()
            .map(|name| name.value().into_owned())
            .unwrap_or_default()
    }

    /// Whether it may issue certificates.
    pub(crate) fn is_ca(&self) -> bool {
        self.constraints.as_ref().is_some_and(|basic| basic.ca)
            && self.usage.as_ref().is_some_and(KeyUsage::key_cert_sign)
    }

    /// How many CAs may follow below it.
    pub(crate) fn path_len(&self) -> Option<u8> {
        self.constraints
            .as_ref()
            .and_then(|basic| basic.path_len_constraint)
    }

    /// Whether it may sign revocation lists.
    pub(crate) fn may_sign_crls(&self) -> bool {
        self.is_ca() && self.usage.as_ref().is_some_and(KeyUsage::crl_sign)
    }

    /// Whether it may sign data and is no CA.
    pub(crate) fn is_end_entity(&self) -> bool {
        self.constraints.as_ref().is_none_or(|basic| !basic.ca)
            && self.usage.as_ref().is_some_and(|usage| {
                usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign()
            })
    }

    /// Whether `issuer` names itself the way this certificate names its issuer.
    pub(crate) fn is_issued_by(&self, issuer: &Self) -> bool {
        self.issuer() == issuer.subject()
    }

    /// Whether the key of `issuer` signed this certificate.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        issuer.key.verify_der(&self.signed, &self.signature)
    }

    /// Validity, both ends inclusive.
    pub(crate) fn validity(&self) -> (UnixTime, UnixTime) {
        let validity = self.parsed.tbs_certificate().validity();
        (
            UnixTime(validity.not_before.to_unix_duration().as_secs()),
            UnixTime(validity.not_after.to_unix_duration().as_secs()),
        )
    }

    /// Content of the extension with this identifier.
    pub(crate) fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        self.parsed
            .tbs_certificate()
            .extensions()?
            .iter()
            .find(|extension| extension.extn_id == oid)
            .map(|extension| extension.extn_value.as_bytes())
    }

    /// Checks a signature over other DER by this certificate's key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_der(message, signature)
    }
}

fn check_extensions(extensions: &[x509_cert::ext::Extension]) -> Result<(), CertificateError> {
    if extensions.len() > MAX_EXTENSIONS {
        return Err(CertificateError::TooMany { what: "extensions" });
    }
    for (index, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        let unknown = extension.critical && oid != BASIC_CONSTRAINTS && oid != KEY_USAGE;
        let repeated = extensions
            .iter()
            .take(index)
            .any(|earlier| earlier.extn_id == oid);
        if unknown || repeated {
            return Err(CertificateError::Extension {
                oid: oid.to_string(),
            });
        }
    }
    Ok(())
}
