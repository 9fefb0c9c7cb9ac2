// SPDX-License-Identifier: Apache-2.0
//! SIGSTRUCT: signs a measurement with an RSA-3072 key whose exponent is 3.
//!
//! What a signature made here enforces:
//!
//! | field | value | mask |
//! |---|---|---|
//! | ATTRIBUTES | MODE64BIT, KSS, DEBUG if asked for | every bit but INIT, which EINIT sets |
//! | XFRM | 0x7 | every bit but 0xe0: with or without AVX-512, nothing else (no AMX, PKRU, CET) |
//! | MISCSELECT | EXINFO | every bit |

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use der::asn1::UintRef;
use der::{Decode as _, Reader as _, SecretDocument, SliceReader};
use sgx::attributes::{Attributes, Flags, MiscSelect, XFRM_ALLOWED, XFRM_REQUIRED};
use sgx::sigstruct::{Body, KEY_SIZE, Sigstruct, SigstructError};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// ISVPRODID of the configuration server. Only its own build may use it: rule S7.
pub const RESERVED_ISV_PROD_ID: u16 = 0xca5;
/// SIGSTRUCT.DATE of every signature, 1970-01-01 as BCD: a real date would make
/// two builds of the same image differ.
pub const DATE: u32 = 0x1970_0101;
/// Largest key file in bytes.
const KEY_FILE_MAX: usize = 64 << 10;
/// The key of unsigned enclaves. Everybody has it; it signs DEBUG enclaves only.
const DEBUG_KEY_INSECURE: &str = include_str!("debug-key.pem");

/// Why a key or a signature is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// Not PEM, or PEM of something else.
    #[error("The key is not a PEM file with an RSA private key (PKCS#8 or PKCS#1)")]
    NotPem,
    /// A pass phrase would be needed.
    #[error("The key is encrypted; decrypt it first, for example with `openssl pkey`")]
    Encrypted,
    /// PEM of another kind.
    #[error("The PEM file holds {label:?} instead of a private key")]
    Label {
        /// The PEM label.
        label: String,
    },
    /// The key's numbers do not fit together, or it is no RSA key.
    #[error("The key is not a valid RSA key")]
    NotRsa(#[source] KeyRejected),
    /// SGX knows 3072 bits only.
    #[error("The key has {bits} bits, SGX needs 3072 (openssl genrsa -3 3072)")]
    KeySize {
        /// Its size.
        bits: usize,
    },
    /// SGX knows exponent 3 only.
    #[error("The key's public exponent is not 3, which SGX needs (openssl genrsa -3 3072)")]
    Exponent,
    /// The product id belongs to the configuration server.
    #[error("ISVPRODID {RESERVED_ISV_PROD_ID:#x} is reserved for the configuration server")]
    ReservedProductId,
    /// The debug key may sign DEBUG enclaves only.
    #[error("The debug key signs DEBUG enclaves only; give a key of your own")]
    DebugKey,
    /// The library failed to sign.
    #[error("Signing failed")]
    Failed,
    /// The signature cannot be a SIGSTRUCT's.
    #[error("The signature is not usable")]
    Sigstruct(#[source] SigstructError),
}

/// Product identity that a signer states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// KSS extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// KSS family id.
    pub isv_family_id: [u8; 16],
}

impl Identity {
    /// The identity of a converted program.
    ///
    /// # Errors
    /// [`SignError::ReservedProductId`].
    pub fn new(isv_prod_id: u16, isv_svn: u16) -> Result<Self, SignError> {
        if isv_prod_id == RESERVED_ISV_PROD_ID {
            return Err(SignError::ReservedProductId);
        }
        Ok(Self {
            isv_prod_id,
            isv_svn,
            ..Self::default()
        })
    }

    /// The identity of the configuration server itself. Not for converted images.
    #[must_use]
    pub fn configuration_server(isv_svn: u16) -> Self {
        Self {
            isv_prod_id: RESERVED_ISV_PROD_ID,
            isv_svn,
            ..Self::default()
        }
    }

    /// The product id.
    #[must_use]
    pub fn isv_prod_id(&self) -> u16 {
        self.isv_prod_id
    }
}

/// A signing key.
pub struct Signer {
    key: KeyPair,
    modulus: [u8; KEY_SIZE],
    is_debug: bool,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer([redacted])")
    }
}

impl Signer {
    /// Reads a private key from PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// Anything but an unencrypted RSA-3072 key with exponent 3.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignError> {
        let mut signer = Self::parse(pem)?;
        signer.is_debug = signer.modulus == Self::debug().modulus;
        Ok(signer)
    }

    /// The well-known debug key.
    ///
    /// # Panics
    /// Never: the key is part of the program and tested.
    #[must_use]
    pub fn debug() -> Self {
        let mut signer = Self::parse(DEBUG_KEY_INSECURE.as_bytes())
            .expect("the built-in key is a valid RSA-3072 key");
        signer.is_debug = true;
        signer
    }

    /// Whether this is the well-known debug key, however it was given.
    #[must_use]
    pub fn is_debug_key(&self) -> bool {
        self.is_debug
    }

    /// MRSIGNER of everything that this key signs.
    #[must_use]
    pub fn mrsigner(&self) -> [u8; 32] {
        Sha256::digest(self.modulus).into()
    }

    /// Signs a measurement.
    ///
    /// # Errors
    /// [`SignError::DebugKey`] when the debug key is to sign a production enclave.
    pub fn sign(
        &self,
        mrenclave: [u8; 32],
        debug: bool,
        identity: &Identity,
    ) -> Result<Sigstruct, SignError> {
        if self.is_debug && !debug {
            return Err(SignError::DebugKey);
        }
        let body = body(mrenclave, debug, identity);
        let mut signature = [0; KEY_SIZE];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                &body.signed_bytes(),
                &mut signature,
            )
            .map_err(|_| SignError::Failed)?;
        signature.reverse();
        let signed = Sigstruct::new(body, self.modulus, signature).map_err(SignError::Sigstruct)?;
        signed.verify().map_err(SignError::Sigstruct)?;
        Ok(signed)
    }

    fn parse(pem: &[u8]) -> Result<Self, SignError> {
        let text = std::str::from_utf8(pem).map_err(|_| SignError::NotPem)?;
        if text.len() > KEY_FILE_MAX {
            return Err(SignError::NotPem);
        }
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(SignError::Encrypted);
        }
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| SignError::NotPem)?;
        let key = match label {
            "PRIVATE KEY" => KeyPair::from_pkcs8(document.as_bytes()),
            "RSA PRIVATE KEY" => KeyPair::from_der(document.as_bytes()),
            other => {
                return Err(SignError::Label {
                    label: other.to_owned(),
                });
            }
        }
        .map_err(SignError::NotRsa)?;
        let bits = key.public_modulus_len() * 8;
        if key.public_modulus_len() != KEY_SIZE {
            return Err(SignError::KeySize { bits });
        }
        let (modulus, exponent) =
            public_numbers(key.public_key().as_ref()).ok_or(SignError::NotPem)?;
        if exponent != [3] {
            return Err(SignError::Exponent);
        }
        Ok(Self {
            key,
            modulus,
            is_debug: false,
        })
    }
}

/// What is signed for this measurement.
fn body(mrenclave: [u8; 32], debug: bool, identity: &Identity) -> Body {
    let mut flags = Flags::MODE64BIT | Flags::KSS;
    flags.set(Flags::DEBUG, debug);
    Body {
        vendor: 0,
        date: DATE,
        sw_defined: 0,
        miscselect: MiscSelect::EXINFO,
        misc_mask: MiscSelect::from_bits_retain(u32::MAX),
        isv_family_id: identity.isv_family_id,
        attributes: Attributes {
            flags,
            xfrm: XFRM_REQUIRED,
        },
        attribute_mask: Attributes {
            flags: !Flags::INIT,
            xfrm: !(XFRM_ALLOWED & !XFRM_REQUIRED),
        },
        mrenclave,
        isv_ext_prod_id: identity.isv_ext_prod_id,
        isv_prod_id: identity.isv_prod_id,
        isv_svn: identity.isv_svn,
    }
}

/// Modulus (little-endian) and exponent (big-endian) of an `RSAPublicKey`
/// (RFC 8017 appendix A.1.1).
fn public_numbers(public_key: &[u8]) -> Option<([u8; KEY_SIZE], Vec<u8>)> {
    let mut reader = SliceReader::new(public_key).ok()?;
    let (modulus, exponent) = reader
        .sequence(|inner| {
            let modulus = UintRef::decode(inner)?.as_bytes().to_vec();
            let exponent = UintRef::decode(inner)?.as_bytes().to_vec();
            Ok::<_, der::Error>((modulus, exponent))
        })
        .ok()?;
    let mut modulus: [u8; KEY_SIZE] = modulus.try_into().ok()?;
    modulus.reverse();
    Some((modulus, exponent))
}
