// SPDX-License-Identifier: Apache-2.0
//! TLS of the attested channel (S11): version 1.3 only, no tickets, no PSK, no
//! early data, the same for both ends.

use std::sync::Arc;

use der::{Decode as _, Encode as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, DistinguishedName,
    Error as RustlsError, PeerIncompatible, ProtocolVersion, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use x509_cert::Certificate;

use super::binding::sha256;
use super::{ALPN, EXPORTER_LABEL};

/// Most certificates that an end may present.
const MAX_CHAIN: usize = 4;

/// Why a connection cannot carry the protocol.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// rustls refused.
    #[error("TLS failed")]
    Rustls(#[from] RustlsError),
    /// A certificate could not be parsed.
    #[error("certificate is not valid DER")]
    Certificate(#[from] der::Error),
    /// The own certificate could not be made.
    #[error("client certificate could not be made")]
    SelfSigned(#[from] rcgen::Error),
    /// The peer presented no certificate.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// Not TLS 1.3.
    #[error("connection is not TLS 1.3")]
    Version,
    /// The peer does not speak the attested protocol.
    #[error("peer did not agree on the protocol ensconce-attest/1")]
    Alpn,
}

/// What both ends know about an established connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// SubjectPublicKeyInfo (DER) of the peer's end-entity certificate.
    pub leaf_spki: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo of the last certificate that the
    /// peer presented. For a CAS that passed the client's check, its root.
    pub root_spki: [u8; 32],
    /// TLS exporter under [`EXPORTER_LABEL`].
    pub exporter: [u8; 32],
}

/// SubjectPublicKeyInfo (DER) of a certificate.
///
/// # Errors
/// If the certificate is not strict DER.
pub fn spki_of(certificate: &[u8]) -> Result<Vec<u8>, der::Error> {
    Certificate::from_der(certificate)?
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
}

/// Reads [`Peer`] from a connection whose handshake is complete.
///
/// # Errors
/// If it is not TLS 1.3 with our ALPN and a peer certificate.
pub fn peer_of<D>(connection: &ConnectionCommon<D>) -> Result<Peer, TlsError> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(TlsError::Version);
    }
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Alpn);
    }
    let chain = connection
        .peer_certificates()
        .ok_or(TlsError::NoCertificate)?;
    let (Some(leaf), Some(root)) = (chain.first(), chain.last()) else {
        return Err(TlsError::NoCertificate);
    };
    let exporter = connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))?;
    Ok(Peer {
        leaf_spki: spki_of(leaf)?,
        root_spki: sha256(&spki_of(root)?),
        exporter,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The agent's TLS configuration and the SubjectPublicKeyInfo (DER) of the
/// fresh self-signed certificate in it.
///
/// The CAS must present its chain up to and including its root. With a pin the
/// SHA-256 of the root's SubjectPublicKeyInfo must equal it; without one any
/// root is taken and the caller compares [`Peer::root_spki`] with its CONFIGID.
/// Names in the certificate are not compared: the root key is the identity.
///
/// # Errors
/// If the key or certificate cannot be made.
pub fn client_config(pin: Option<[u8; 32]>) -> Result<(ClientConfig, Vec<u8>), TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "ensconce agent");
    let certificate = params.self_signed(&key)?;
    let own_spki = spki_of(certificate.der())?;
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CasVerifier { pin, provider }))
        .with_client_auth_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((config, own_spki))
}

/// The CAS's TLS configuration. `chain` = end entity first, root last. Any
/// client certificate is accepted, but the client must prove possession of its
/// key; the evidence vouches for it afterwards.
///
/// # Errors
/// If chain and key do not fit.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey { provider }))
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Checks that the CAS's chain ends in the pinned root.
#[derive(Debug)]
struct CasVerifier {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CasVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let root = intermediates.last().unwrap_or(end_entity);
        if let Some(pin) = &self.pin {
            let spki = spki_of(root).map_err(|_| CertificateError::BadEncoding)?;
            if !bool::from(sha256(&spki).ct_eq(pin)) {
                return Err(CertificateError::UnknownIssuer.into());
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Accepts any client key whose possession is proved in the handshake.
#[derive(Debug)]
struct AnyKey {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, RustlsError> {
        if !intermediates.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
