// SPDX-License-Identifier: Apache-2.0
//! Building blocks of an SGX PKI: the same objects that Intel issues, under a
//! root of our own.

mod documents;
mod extension;

use std::fmt;

use attest::dcap::PckExtension;
use attest::time::UnixTime;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use documents::{
    QE_IDENTITY_ID, QeIdentitySpec, TCB_INFO_ID, TcbInfoSpec, TcbLevelSpec, qe_identity_text,
    tcb_info_text,
};
pub use extension::encode_sgx_extension;

/// Why a PKI object could not be made or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The certificate library refused.
    #[error("certificate or revocation list could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A key could not be made, read or used.
    #[error("ECDSA P-256 key could not be used")]
    Key,
    /// A certificate could not be read.
    #[error("certificate is not PEM")]
    Pem,
    /// DER could not be written.
    #[error("DER could not be written")]
    Der(#[from] der::Error),
    /// A time outside what certificates can say.
    #[error("time {time} cannot be written into a certificate")]
    Time {
        /// The time.
        time: UnixTime,
    },
}

/// An ECDSA P-256 private key: zeroized, never printed.
pub struct Key {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// [`PkiError::Key`] if there is no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| PkiError::Key)?;
        let der = pair.to_pkcs8v1().map_err(|_| PkiError::Key)?;
        Self::from_pkcs8(der.as_ref())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, PkiError> {
        Ok(Self {
            pkcs8: Zeroizing::new(der.to_vec()),
            pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                .map_err(|_| PkiError::Key)?,
        })
    }

    /// Reads a PKCS#8 PEM text.
    ///
    /// # Errors
    /// [`PkiError::Key`] if it is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PkiError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| PkiError::Key)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// The key as PKCS#8 PEM, for its file.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] if the library refuses the key.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, PkiError> {
        Ok(Zeroizing::new(self.rcgen()?.serialize_pem()))
    }

    fn rcgen(&self) -> Result<KeyPair, PkiError> {
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(self.pkcs8.as_slice()),
            &rcgen::PKCS_ECDSA_P256_SHA256,
        )?)
    }

    /// The public point, `x` and `y` big-endian.
    ///
    /// # Errors
    /// [`PkiError::Key`] never in practice: the key is on P-256.
    pub fn point(&self) -> Result<[u8; 64], PkiError> {
        self.pair
            .public_key()
            .as_ref()
            .get(1..)
            .and_then(|point| point.try_into().ok())
            .ok_or(PkiError::Key)
    }

    /// Signs with ECDSA and SHA-256; `r` and `s` big-endian.
    ///
    /// # Errors
    /// [`PkiError::Key`] if there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], PkiError> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .ok()
            .and_then(|signature| signature.as_ref().try_into().ok())
            .ok_or(PkiError::Key)
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// A CA; the number of CAs that may follow.
    Ca(u8),
    /// Signs TCB info and QE identity.
    DocumentSigner,
    /// Certifies a platform.
    Pck(PckExtension),
}

/// A certificate to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec<'a> {
    /// Common name.
    pub common_name: &'a str,
    /// What it is for.
    pub profile: Profile,
    /// First valid second.
    pub not_before: UnixTime,
    /// Last valid second.
    pub not_after: UnixTime,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Entity {
    /// The certificate, PEM.
    pub pem: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
    key: Key,
}

impl Entity {
    /// Reads a certificate and its key from PEM texts.
    ///
    /// # Errors
    /// [`PkiError`] if one is malformed.
    pub fn from_pem(certificate: &str, key: &[u8]) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| PkiError::Pem)?
            .to_vec();
        Ok(Self {
            pem: certificate.to_owned(),
            der,
            key: Key::from_pem(key)?,
        })
    }

    /// The key.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The certificate's serial number: big-endian, no redundant zeros.
    ///
    /// # Errors
    /// [`PkiError::Key`] never in practice: the key is on P-256.
    pub fn serial(&self) -> Result<Vec<u8>, PkiError> {
        serial_of(&self.key)
    }

    /// Issues a certificate for a fresh key; self-signed without `issuer`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(spec: &CertificateSpec<'_>, issuer: Option<&Self>) -> Result<Self, PkiError> {
        let key = Key::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = date(spec.not_before)?;
        params.not_after = date(spec.not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial_of(&key)?));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, spec.common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Ensconce emulated platform");
        params.use_authority_key_identifier_extension = true;
        match &spec.profile {
            Profile::Ca(path_len) => {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(*path_len));
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            }
            Profile::DocumentSigner => end_entity(&mut params),
            Profile::Pck(extension) => {
                end_entity(&mut params);
                params
                    .custom_extensions
                    .push(CustomExtension::from_oid_content(
                        &[1, 2, 840, 113_741, 1, 13, 1],
                        encode_sgx_extension(extension)?,
                    ));
            }
        }
        let rcgen_key = key.rcgen()?;
        let certificate = match issuer {
            None => params.self_signed(&rcgen_key)?,
            Some(issuer) => params.signed_by(&rcgen_key, &issuer.issuer()?)?,
        };
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_der(
            &CertificateDer::from(self.der.as_slice()),
            self.key.rcgen()?,
        )?)
    }

    /// Issues a revocation list (DER).
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue_crl(&self, spec: &CrlSpec<'_>) -> Result<Vec<u8>, PkiError> {
        let this_update = date(spec.this_update)?;
        let params = CertificateRevocationListParams {
            this_update,
            next_update: date(spec.next_update)?,
            crl_number: SerialNumber::from(spec.number),
            issuing_distribution_point: None,
            revoked_certs: spec
                .revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer()?)?.der().to_vec())
    }

    /// Signs a document: hexadecimal `r` and `s` over its exact text.
    ///
    /// # Errors
    /// [`PkiError::Key`].
    pub fn sign_document(&self, text: &str) -> Result<String, PkiError> {
        Ok(hex::encode(self.key.sign(text.as_bytes())?))
    }
}

/// A revocation list to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlSpec<'a> {
    /// Time of issue.
    pub this_update: UnixTime,
    /// When the next one is due.
    pub next_update: UnixTime,
    /// Number of the list; each list of an issuer has a higher one.
    pub number: u64,
    /// Serial numbers of revoked certificates.
    pub revoked: &'a [Vec<u8>],
}

/// Serial numbers are taken from the key: different for each certificate, and
/// recomputable.
fn serial_of(key: &Key) -> Result<Vec<u8>, PkiError> {
    let hash = digest(&SHA256, &key.point()?);
    // A leading byte below 0x80 and above 0 makes the INTEGER canonical.
    let mut serial = vec![0x01];
    serial.extend(hash.as_ref().iter().take(18));
    Ok(serial)
}

fn end_entity(params: &mut CertificateParams) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
    ];
}

fn date(time: UnixTime) -> Result<OffsetDateTime, PkiError> {
    i64::try_from(time.0)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(PkiError::Time { time })
}
