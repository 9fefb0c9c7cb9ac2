// SPDX-License-Identifier: Apache-2.0
//! Hashes of public keys: SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 §4.1), written in Base58Check.
//!
//! Base58Check = Base58(version byte ‖ hash ‖ first four bytes of the double SHA-256 of both).

use std::fmt;

use der::{Decode, DecodePem, Encode};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;

/// Base58Check version byte of a TLS public key's hash.
const VERSION: u8 = 0x01;
/// Largest certificate that is looked at, in bytes of PEM or DER.
const MAX_CERTIFICATE: usize = 64 * 1024;
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 37 bytes never need more Base58 digits than this.
const MAX_DIGITS: usize = 51;

/// SHA-256 of a DER SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

/// A text or certificate does not give a key hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyHashError {
    /// Not Base58Check, or the checksum is wrong.
    #[error("Not a Base58Check key hash: a character is wrong or missing")]
    Checksum,
    /// Base58Check of something else.
    #[error("Base58Check version {found:#04x} is not that of a TLS key hash (0x01)")]
    Version {
        /// The version byte found.
        found: u8,
    },
    /// Not an X.509 certificate.
    #[error("Not a readable X.509 certificate")]
    Certificate,
}

impl KeyHash {
    /// Takes a hash that was computed elsewhere.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes a DER SubjectPublicKeyInfo.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// Hashes the public key of a DER certificate; nothing else of the certificate is checked.
    ///
    /// # Errors
    /// The bytes are not a certificate.
    pub fn of_certificate_der(der: &[u8]) -> Result<Self, KeyHashError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(KeyHashError::Certificate);
        }
        let certificate = Certificate::from_der(der).map_err(|_| KeyHashError::Certificate)?;
        Self::of_certificate(&certificate)
    }

    /// Hashes the public key of a PEM certificate; nothing else of the certificate is checked.
    ///
    /// # Errors
    /// The text is not a certificate.
    pub fn of_certificate_pem(pem: &str) -> Result<Self, KeyHashError> {
        if pem.len() > MAX_CERTIFICATE {
            return Err(KeyHashError::Certificate);
        }
        let certificate =
            Certificate::from_pem(pem.trim()).map_err(|_| KeyHashError::Certificate)?;
        Self::of_certificate(&certificate)
    }

    fn of_certificate(certificate: &Certificate) -> Result<Self, KeyHashError> {
        let spki = certificate
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(|_| KeyHashError::Certificate)?;
        Ok(Self::of_spki(&spki))
    }

    /// Reads Base58Check.
    ///
    /// # Errors
    /// The text is not Base58Check, or of another version.
    pub fn parse(text: &str) -> Result<Self, KeyHashError> {
        let bytes = decode(text).ok_or(KeyHashError::Checksum)?;
        let (payload, check) = bytes
            .split_last_chunk::<4>()
            .ok_or(KeyHashError::Checksum)?;
        if &checksum(payload) != check {
            return Err(KeyHashError::Checksum);
        }
        match payload.split_first() {
            Some((&VERSION, hash)) => {
                let hash = hash.try_into().map_err(|_| KeyHashError::Checksum)?;
                Ok(Self(hash))
            }
            Some((&found, _)) => Err(KeyHashError::Version { found }),
            None => Err(KeyHashError::Checksum),
        }
    }

    /// The hash as 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.0);
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        f.write_str(&encode(&bytes))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(Sha256::digest(payload)));
    [a, b, c, d]
}

/// Base58 of a number in base 256, most significant byte first; a leading zero byte is a '1'.
fn encode(bytes: &[u8]) -> String {
    let mut digits: Vec<u8> = Vec::new(); // least significant first
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58).to_le_bytes()[0];
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58).to_le_bytes()[0]);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let ones = std::iter::repeat_n(0, zeros);
    ones.chain(digits.into_iter().rev())
        .filter_map(|digit| ALPHABET.get(usize::from(digit)))
        .map(|c| char::from(*c))
        .collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new(); // least significant first
    for c in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == c)?;
        let mut carry = u32::try_from(digit).ok()?;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 58;
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry.to_le_bytes()[0]);
            carry >>= 8;
        }
    }
    let ones = text.bytes().take_while(|c| *c == b'1').count();
    bytes.extend(std::iter::repeat_n(0, ones));
    bytes.reverse();
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base58_agrees_with_the_published_vectors() {
        // draft-msporny-base58-03 §5.
        assert_eq!(encode(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(encode(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd]), "11233QC4");
        assert_eq!(decode("11233QC4").unwrap(), [0, 0, 0x28, 0x7f, 0xb4, 0xcd]);
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = vec![0x0a];
        bytes.extend_from_slice(&[7; 32]);
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        assert_eq!(
            KeyHash::parse(&encode(&bytes)),
            Err(KeyHashError::Version { found: 10 })
        );
    }

    proptest! {
        #[test]
        fn text_form_round_trips_and_notices_any_changed_character(hash: [u8; 32], at in 0usize..49, to in 0usize..58) {
            let text = KeyHash(hash).to_string();
            prop_assert_eq!(KeyHash::parse(&text), Ok(KeyHash(hash)));
            let mut changed = text.clone().into_bytes();
            let at = at % changed.len();
            changed[at] = ALPHABET[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assert!(changed == text || KeyHash::parse(&changed).is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}", der: Vec<u8>) {
            let _ = KeyHash::parse(&text);
            let _ = KeyHash::of_certificate_pem(&text);
            let _ = KeyHash::of_certificate_der(&der);
        }
    }
}
