// SPDX-License-Identifier: Apache-2.0
//! Trust anchors. What kind of platform made a piece of evidence follows from
//! the anchor that its chains end in, and from nothing else (S9).

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::channel::binding::sha256;
use crate::dcap::certificate::{Certificate, CertificateError};

/// SHA-256 of Intel's SGX root certificate (DER).
const INTEL_ROOT: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];

/// Who made the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Intel silicon.
    Intel,
    /// An emulated processor under the anchor with this SHA-256 of the
    /// SubjectPublicKeyInfo. It protects nothing against root of its machine.
    Emulated([u8; 32]),
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel => f.write_str("intel"),
            Self::Emulated(anchor) => write!(f, "emulated-platform:{}", hex::encode(anchor)),
        }
    }
}

/// Why a certificate cannot be an anchor.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Not a certificate of the expected form.
    #[error("anchor is not a usable certificate")]
    Certificate(#[from] CertificateError),
    /// Not self-signed, or not a CA.
    #[error("anchor is not a self-signed CA certificate")]
    NotARoot,
    /// Intel's anchor is compiled in.
    #[error("Intel's root cannot be installed as the anchor of an emulated platform")]
    Intel,
}

/// A root certificate that chains may end in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    certificate_sha256: [u8; 32],
    platform: Platform,
}

impl Anchor {
    /// Intel's SGX root CA, compiled in.
    pub const fn intel() -> Self {
        Self {
            certificate_sha256: INTEL_ROOT,
            platform: Platform::Intel,
        }
    }

    /// The root of an emulated platform, installed by an operator.
    ///
    /// # Errors
    /// [`AnchorError`] if it is not a self-signed CA certificate over P-256.
    pub fn emulated(root_der: &[u8]) -> Result<Self, AnchorError> {
        let certificate_sha256 = sha256(root_der);
        if certificate_sha256 == INTEL_ROOT {
            return Err(AnchorError::Intel);
        }
        let root = Certificate::from_der(root_der)?;
        if !root.is_ca() || !root.is_issued_by(&root) || !root.is_signed_by(&root) {
            return Err(AnchorError::NotARoot);
        }
        Ok(Self {
            certificate_sha256,
            platform: Platform::Emulated(sha256(root.spki())),
        })
    }

    /// What evidence under this anchor comes from.
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// SHA-256 of the root certificate (DER).
    pub const fn certificate_sha256(&self) -> &[u8; 32] {
        &self.certificate_sha256
    }
}
