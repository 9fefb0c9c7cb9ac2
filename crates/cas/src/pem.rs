// SPDX-License-Identifier: Apache-2.0
//! PEM as RFC 7468 writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A block of PEM.
pub(crate) fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut out = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for (index, c) in body.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str(&format!("\n-----END {label}-----\n"));
    out
}

/// A certificate as PEM.
pub(crate) fn certificate(der: &[u8]) -> String {
    block("CERTIFICATE", der).to_string()
}
