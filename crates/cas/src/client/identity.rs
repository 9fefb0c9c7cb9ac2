// SPDX-License-Identifier: Apache-2.0
//! The identity of a client: a private key and a certificate, of which only the public key counts.
//! Whoever holds it is the user.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use policy::KeyHash;
use policy::model::Creator;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Largest identity file.
const MAX_FILE: u64 = 1 << 20;

/// Key and certificate.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: Zeroizing<String>,
    key_hash: KeyHash,
}

impl Drop for Identity {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.key.zeroize();
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.key_hash)
    }
}

/// An identity is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("Cannot read the identity '{path}'")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not UTF-8, or too long.
    #[error("The identity file is not a text of PEM or JSON")]
    NotText,
    /// JSON without `identity`.
    #[error("The configuration file has no 'identity' with key and certificate")]
    NoIdentity,
    /// No private key in the text.
    #[error(
        "The identity has no private key; it needs '-----BEGIN PRIVATE KEY-----' (PKCS#8, not encrypted)"
    )]
    NoKey,
    /// No certificate in the text.
    #[error("The identity has no certificate; add one, for example with openssl req -x509")]
    NoCertificate,
    /// The certificate is not X.509.
    #[error("The certificate of the identity cannot be read")]
    Certificate,
    /// The key is of an unsupported kind.
    #[error(
        "The private key of the identity is of an unsupported kind; use P-256, P-384, Ed25519 or RSA"
    )]
    Key,
    /// The certificate is of another key.
    #[error("The certificate of the identity is not of its private key")]
    Mismatch,
    /// A new identity cannot be made.
    #[error("A new identity cannot be made")]
    Generate(#[from] rcgen::Error),
}

impl Identity {
    /// Makes a new identity: P-256, self-signed, valid from 1975 to 4096.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["ensconce-client".to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "ensconce client");
        params.not_before = date_time_ymd(1975, 1, 1);
        params.not_after = date_time_ymd(4096, 1, 1);
        let certificate = params.self_signed(&key)?;
        let der = Zeroizing::new(key.serialize_der());
        let mut pem = crate::pem::block("PRIVATE KEY", &der);
        pem.push_str(&crate::pem::certificate(certificate.der()));
        Self::from_pem(&pem)
    }

    /// Reads a PEM text with a private key and a certificate in any order.
    ///
    /// # Errors
    /// One of them is missing, unreadable, or they do not belong together.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let key =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| IdentityError::NoKey)?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| IdentityError::NoCertificate)?;
        let key_hash =
            KeyHash::of_certificate_der(&certificate).map_err(|_| IdentityError::Certificate)?;
        let identity = Self {
            certificate,
            key,
            pem: Zeroizing::new(text.to_owned()),
            key_hash,
        };
        let certified = identity.certified_key()?;
        certified
            .keys_match()
            .map_err(|_| IdentityError::Mismatch)?;
        Ok(identity)
    }

    /// Reads an identity file: PEM, or the JSON configuration of a client with the member `identity`.
    ///
    /// # Errors
    /// The file cannot be read or holds no identity.
    pub fn from_file(path: &Path) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Io {
            path: path.display().to_string(),
            source,
        };
        let mut bytes = Zeroizing::new(Vec::new());
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| IdentityError::NotText)?;
        if text.trim_start().starts_with('{') {
            return super::state::identity_of_json(text)?.ok_or(IdentityError::NoIdentity);
        }
        Self::from_pem(text)
    }

    /// Key and certificate as PEM.
    pub fn to_pem(&self) -> &Zeroizing<String> {
        &self.pem
    }

    /// Hash of the public key, as access policies name it.
    pub fn key_hash(&self) -> &KeyHash {
        &self.key_hash
    }

    /// The certificate as PEM, without the key.
    pub fn certificate_pem(&self) -> String {
        crate::pem::certificate(&self.certificate)
    }

    /// This identity as the creator of a session.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn creator(&self) -> Result<Creator, IdentityError> {
        Creator::from_certificate_pem(&self.certificate_pem())
            .map_err(|_| IdentityError::Certificate)
    }

    pub(super) fn certified_key(&self) -> Result<Arc<CertifiedKey>, IdentityError> {
        let key = any_supported_type(&self.key).map_err(|_| IdentityError::Key)?;
        Ok(Arc::new(CertifiedKey::new(
            vec![self.certificate.clone()],
            key,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_identity_reads_back() {
        let one = Identity::generate().unwrap();
        let two = Identity::from_pem(one.to_pem()).unwrap();
        assert_eq!(one.key_hash(), two.key_hash());
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn incomplete_or_mixed_identities_are_refused() {
        let one = Identity::generate().unwrap();
        let two = Identity::generate().unwrap();
        let pem = one.to_pem().as_str();
        let at = pem.find("-----BEGIN CERTIFICATE").unwrap();
        let (key, certificate) = pem.split_at(at);
        assert!(matches!(
            Identity::from_pem(key),
            Err(IdentityError::NoCertificate)
        ));
        assert!(matches!(
            Identity::from_pem(certificate),
            Err(IdentityError::NoKey)
        ));
        let mixed = format!("{key}{}", two.certificate_pem());
        assert!(matches!(
            Identity::from_pem(&mixed),
            Err(IdentityError::Mismatch)
        ));
        assert!(Identity::from_pem(&format!("{certificate}{key}")).is_ok());
    }
}
