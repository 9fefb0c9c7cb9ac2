// SPDX-License-Identifier: Apache-2.0
//! The identity of a CAS: root `CN=cas`, intermediate `CN=cas-instance`, TLS leaf. All keys are EC P-256.
//!
//! The root's public key is the CAS's identity: clients pin its hash, and services carry it in their
//! CONFIGID. Root and intermediate last; the leaf is made at each start.

use std::fmt;
use std::net::IpAddr;

use policy::KeyHash;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The keys and certificates that a CAS keeps.
pub struct Identity {
    root_certificate: Vec<u8>,
    root_key: Zeroizing<Vec<u8>>,
    instance_certificate: Vec<u8>,
    instance_key: Zeroizing<Vec<u8>>,
    key_hash: KeyHash,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.key_hash)
    }
}

/// What a TLS listener presents.
pub struct Leaf {
    /// Leaf, intermediate, root.
    pub chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaf({} certificates)", self.chain.len())
    }
}

/// An identity cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A key or certificate cannot be made.
    #[error("A certificate of the CAS cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The stored identity has an unknown form.
    #[error("The stored identity of the CAS has an unknown form")]
    Form,
    /// A name for the leaf is neither a host name nor an address.
    #[error("'{name}' is not a host name or address")]
    Name {
        /// As given.
        name: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    root_certificate: Vec<u8>,
    root_key: Zeroizing<Vec<u8>>,
    instance_certificate: Vec<u8>,
    instance_key: Zeroizing<Vec<u8>>,
}

/// Version of the stored form.
const VERSION: u32 = 1;

fn params(common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    // The key is the identity; it is replaced by handover, not by expiry.
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    Ok(params)
}

fn root_params() -> Result<CertificateParams, rcgen::Error> {
    let mut root = params("cas")?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(root)
}

fn instance_params() -> Result<CertificateParams, rcgen::Error> {
    let mut instance = params("cas-instance")?;
    instance.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    instance.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(instance)
}

impl Identity {
    /// Makes a new root and intermediate.
    ///
    /// # Errors
    /// A key or certificate cannot be made.
    pub fn generate() -> Result<Self, IdentityError> {
        let root_key = KeyPair::generate()?;
        let root = root_params()?.self_signed(&root_key)?;
        let root_pkcs8 = Zeroizing::new(root_key.serialize_der());
        let issuer = Issuer::new(root_params()?, root_key);
        let instance_key = KeyPair::generate()?;
        let instance = instance_params()?.signed_by(&instance_key, &issuer)?;
        let instance_pkcs8 = Zeroizing::new(instance_key.serialize_der());
        Self::assemble(
            root.der().to_vec(),
            root_pkcs8,
            instance.der().to_vec(),
            instance_pkcs8,
        )
    }

    fn assemble(
        root_certificate: Vec<u8>,
        root_key: Zeroizing<Vec<u8>>,
        instance_certificate: Vec<u8>,
        instance_key: Zeroizing<Vec<u8>>,
    ) -> Result<Self, IdentityError> {
        let key_hash =
            KeyHash::of_certificate_der(&root_certificate).map_err(|_| IdentityError::Form)?;
        Ok(Self {
            root_certificate,
            root_key,
            instance_certificate,
            instance_key,
            key_hash,
        })
    }

    /// The form that is sealed and stored.
    ///
    /// # Errors
    /// Never in practice; the form is plain data.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let stored = Stored {
            version: VERSION,
            root_certificate: self.root_certificate.clone(),
            root_key: self.root_key.clone(),
            instance_certificate: self.instance_certificate.clone(),
            instance_key: self.instance_key.clone(),
        };
        let json = serde_json::to_vec(&stored).map_err(|_| IdentityError::Form)?;
        Ok(Zeroizing::new(json))
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| IdentityError::Form)?;
        if stored.version != VERSION {
            return Err(IdentityError::Form);
        }
        Self::assemble(
            stored.root_certificate,
            stored.root_key,
            stored.instance_certificate,
            stored.instance_key,
        )
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo: the CAS key hash.
    pub fn key_hash(&self) -> &KeyHash {
        &self.key_hash
    }

    /// A fresh TLS leaf for these host names and addresses.
    ///
    /// # Errors
    /// A name is not one, or the certificate cannot be made.
    pub fn leaf(&self, names: &[String]) -> Result<Leaf, IdentityError> {
        let mut leaf = params("cas-tls")?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for name in names {
            leaf.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(dns_name(name)?),
            });
        }
        let der = PrivatePkcs8KeyDer::from(self.instance_key.as_slice());
        let instance_key =
            KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::new(instance_params()?, instance_key);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        Ok(Leaf {
            chain: vec![
                certificate.der().clone(),
                CertificateDer::from(self.instance_certificate.clone()),
                CertificateDer::from(self.root_certificate.clone()),
            ],
            key: Zeroizing::new(key.serialize_der()),
        })
    }

    /// Intermediate and root as PEM, usable as a trust file.
    pub fn chain_pem(&self) -> String {
        let both = [&self.instance_certificate, &self.root_certificate];
        both.map(|der| crate::pem::certificate(der)).concat()
    }
}

fn dns_name(name: &str) -> Result<rcgen::string::Ia5String, IdentityError> {
    let bad = || IdentityError::Name {
        name: name.to_owned(),
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
        return Err(bad());
    }
    name.try_into().map_err(|_| bad())
}

impl Leaf {
    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_keeps_its_key_and_issues_leaves_that_chain_to_it() {
        let identity = Identity::generate().unwrap();
        let again = Identity::decode(&identity.encode().unwrap()).unwrap();
        assert_eq!(again.key_hash(), identity.key_hash());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = again.leaf(&names).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(leaf.chain[2].clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
        for name in ["localhost", "127.0.0.1"] {
            let name = rustls_pki_types::ServerName::try_from(name).unwrap();
            let now = rustls_pki_types::UnixTime::now();
            use rustls::client::danger::ServerCertVerifier as _;
            verifier
                .verify_server_cert(&leaf.chain[0], &leaf.chain[1..2], &name, &[], now)
                .unwrap();
        }
        assert!(again.leaf(&["a b".to_owned()]).is_err());
    }

    #[test]
    fn nothing_printed_of_an_identity_is_secret() {
        let identity = Identity::generate().unwrap();
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.key_hash())
        );
    }
}
