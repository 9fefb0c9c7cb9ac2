// SPDX-License-Identifier: Apache-2.0
//! The collateral bundle: everything beside the quote that verification needs,
//! as one JSON object. It is what the LAS serves and what files hold.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest bundle in bytes.
pub const MAX_BUNDLE: usize = 1 << 20;

/// A collateral bundle. Nothing in it is trusted before [`crate::dcap::verify`].
///
/// TCB info and QE identity are the *exact* texts that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collateral {
    /// PEM: the CA of the PCK certificate, then the root.
    pub pck_crl_issuer_chain: String,
    /// Hex of DER: the root's CRL.
    pub root_ca_crl: String,
    /// Hex of DER: the PCK CA's CRL.
    pub pck_crl: String,
    /// PEM: the TCB-signing certificate, then the root.
    pub tcb_info_issuer_chain: String,
    /// JSON text of the TCB info, version 3.
    pub tcb_info: String,
    /// Hex: ECDSA signature over `tcb_info`, `r` and `s`.
    pub tcb_info_signature: String,
    /// PEM: the TCB-signing certificate, then the root.
    pub qe_identity_issuer_chain: String,
    /// JSON text of the quoting enclave's identity, version 2.
    pub qe_identity: String,
    /// Hex: ECDSA signature over `qe_identity`, `r` and `s`.
    pub qe_identity_signature: String,
    /// PEM: PCK certificate, its CA, the root; for quotes that carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
}

/// Why bytes are not a collateral bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// More than [`MAX_BUNDLE`].
    #[error("collateral of {len} bytes exceeds the limit of {MAX_BUNDLE}")]
    TooLong {
        /// Length of the input.
        len: usize,
    },
    /// Not the expected JSON object.
    #[error("collateral is not a bundle")]
    Json(#[from] serde_json::Error),
}

impl Collateral {
    /// Parses a bundle.
    ///
    /// # Errors
    /// [`CollateralError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CollateralError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(CollateralError::TooLong { len: bytes.len() });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The bundle as JSON text.
    ///
    /// # Errors
    /// [`CollateralError::TooLong`] if nobody would read it.
    pub fn to_json(&self) -> Result<String, CollateralError> {
        let text = serde_json::to_string(self)?;
        if text.len() > MAX_BUNDLE {
            return Err(CollateralError::TooLong { len: text.len() });
        }
        Ok(text)
    }
}
