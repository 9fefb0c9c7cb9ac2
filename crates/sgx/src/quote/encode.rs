// SPDX-License-Identifier: Apache-2.0
//! Writing version 3 quotes, for the emulated quoting enclave.

use alloc::vec::Vec;

use super::{HEADER_SIZE, Header, MAX_QUOTE, QuoteError, SIGNED_SIZE};
use crate::report::ReportBody;

impl Header {
    /// Encodes the binary form of a version 3 header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        let parts: [(usize, &[u8]); 6] = [
            (0, &self.version.to_le_bytes()),
            (2, &self.key_type.to_le_bytes()),
            (8, &self.qe_svn.to_le_bytes()),
            (10, &self.pce_svn.to_le_bytes()),
            (12, &self.qe_vendor),
            (28, &self.user_data),
        ];
        for (offset, part) in parts {
            crate::field::put(&mut out, offset, part);
        }
        out
    }
}

/// The parts of a version 3 quote with a PEM chain (certification data type 5).
#[derive(Debug, Clone, Copy)]
pub struct QuoteParts<'a> {
    /// Header and report as made by [`QuoteParts::signed`].
    pub signed: &'a [u8; SIGNED_SIZE],
    /// Signature over `signed` by the attestation key.
    pub signature: &'a [u8; 64],
    /// The attestation key.
    pub attestation_key: &'a [u8; 64],
    /// REPORT of the quoting enclave.
    pub qe_report: &'a ReportBody,
    /// Signature over `qe_report` by the PCK key.
    pub qe_report_signature: &'a [u8; 64],
    /// Data that the quoting enclave's report data covers.
    pub qe_auth_data: &'a [u8],
    /// PEM chain, leaf first.
    pub chain_pem: &'a [u8],
}

impl QuoteParts<'_> {
    /// The bytes that the attestation key has to sign.
    #[must_use]
    pub fn signed(header: &Header, report: &ReportBody) -> [u8; SIGNED_SIZE] {
        let mut out = [0; SIGNED_SIZE];
        crate::field::put(&mut out, 0, &header.to_bytes());
        crate::field::put(&mut out, HEADER_SIZE, report.as_bytes());
        out
    }

    /// Encodes the quote.
    ///
    /// # Errors
    /// [`QuoteError::TooLong`] if it would exceed [`MAX_QUOTE`].
    pub fn encode(&self) -> Result<Vec<u8>, QuoteError> {
        let auth_len = 576_usize
            .saturating_add(2 + 6)
            .saturating_add(self.qe_auth_data.len())
            .saturating_add(self.chain_pem.len());
        let len = auth_len.saturating_add(SIGNED_SIZE + 4);
        let too_long = QuoteError::TooLong { len };
        if len > MAX_QUOTE {
            return Err(too_long);
        }
        let auth_len = u32::try_from(auth_len).map_err(|_| too_long)?;
        let qe_auth_len = u16::try_from(self.qe_auth_data.len()).map_err(|_| too_long)?;
        let chain_len = u32::try_from(self.chain_pem.len()).map_err(|_| too_long)?;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(self.signed);
        out.extend_from_slice(&auth_len.to_le_bytes());
        out.extend_from_slice(self.signature);
        out.extend_from_slice(self.attestation_key);
        out.extend_from_slice(self.qe_report.as_bytes());
        out.extend_from_slice(self.qe_report_signature);
        out.extend_from_slice(&qe_auth_len.to_le_bytes());
        out.extend_from_slice(self.qe_auth_data);
        out.extend_from_slice(&5_u16.to_le_bytes());
        out.extend_from_slice(&chain_len.to_le_bytes());
        out.extend_from_slice(self.chain_pem);
        Ok(out)
    }
}
