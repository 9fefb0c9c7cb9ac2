// SPDX-License-Identifier: Apache-2.0
//! Sealing of records: AES-256-GCM under a key derived from a fresh random 192-bit nonce.
//!
//! No (key, nonce) pair depends on state that the host can restore (security rule S3): the nonce is
//! drawn for each sealing, HKDF-SHA-256 (RFC 5869) makes a key of it that encrypts one message only,
//! and the GCM nonce under that key is zero.
//!
//! Sealed form: 24 bytes nonce ‖ ciphertext ‖ 16 bytes tag. The associated data names the place of the
//! record, so one record cannot stand for another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// Bytes of the random nonce in front of a sealed record.
pub const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const DOMAIN: &[u8] = b"ensconce-cas-record-v1";

/// The key that every record is sealed under.
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

/// A record cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The cryptographic library refused; in practice the random generator failed.
    #[error("Sealing failed")]
    Crypto,
    /// Not sealed by this key for this place, or altered since.
    #[error("The sealed record is altered, misplaced or of another key")]
    Broken,
}

impl SealingKey {
    /// Takes 32 secret bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    ///
    /// # Errors
    /// The random generator failed.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(&mut *bytes).map_err(|_| SealError::Crypto)?;
        Ok(Self(bytes))
    }

    /// The bytes, for storing the key where that is allowed.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn one_time(&self, nonce: &[u8]) -> Result<LessSafeKey, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, nonce)
            .extract(&self.0[..])
            .expand(&[DOMAIN], &AES_256_GCM)
            .and_then(|okm| okm.fill(&mut *key))
            .map_err(|_| SealError::Crypto)?;
        let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| SealError::Crypto)?;
        Ok(LessSafeKey::new(key))
    }

    /// Seals a record for the place that `aad` names.
    ///
    /// # Errors
    /// The random generator failed.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Crypto)?;
        let key = self.one_time(&nonce)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_LEN);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let body = sealed.get_mut(NONCE_LEN..).ok_or(SealError::Crypto)?;
        let zero = Nonce::assume_unique_for_key([0; 12]);
        let tag = key
            .seal_in_place_separate_tag(zero, Aad::from(aad), body)
            .map_err(|_| SealError::Crypto)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens a record of the place that `aad` names.
    ///
    /// # Errors
    /// [`SealError::Broken`] unless this key sealed exactly these bytes for exactly this place.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, body) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(SealError::Broken)?;
        let key = self.one_time(nonce)?;
        let mut body = Zeroizing::new(body.to_vec());
        let zero = Nonce::assume_unique_for_key([0; 12]);
        let length = key
            .open_in_place(zero, Aad::from(aad), &mut body)
            .map_err(|_| SealError::Broken)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_nonce_repeats_however_often_the_same_state_is_sealed() {
        let key = SealingKey::generate().unwrap();
        let mut seen = BTreeSet::new();
        for round in 0..1000_u32 {
            // The state is the restored one each time; only what is written differs.
            let sealed = key.seal(b"place", &round.to_le_bytes()).unwrap();
            assert!(seen.insert(sealed[..NONCE_LEN].to_vec()));
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_only_unchanged_and_in_its_place(plain: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let key = SealingKey::generate().unwrap();
            let mut sealed = key.seal(b"a", &plain).unwrap();
            let opened = key.open(b"a", &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), plain.as_slice());
            prop_assert_eq!(key.open(b"b", &sealed), Err(SealError::Broken));
            prop_assert!(SealingKey::generate().unwrap().open(b"a", &sealed).is_err());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(key.open(b"a", &sealed), Err(SealError::Broken));
        }

        #[test]
        fn any_bytes_are_opened_or_refused(bytes: Vec<u8>) {
            prop_assert!(SealingKey::generate().unwrap().open(b"a", &bytes).is_err());
        }
    }
}
