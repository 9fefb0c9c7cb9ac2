// SPDX-License-Identifier: Apache-2.0
//! AES-256-GCM in place, under a key that belongs to exactly one plaintext.

use aes_gcm::{AeadInOut as _, Nonce, Tag};
use ctr::CtrCore;
use ctr::cipher::{InnerIvInit as _, StreamCipherCore as _};
use ctr::flavors::Ctr32BE;

use crate::key::SealingCipher;

/// Bytes that sealing adds: the GCM tag.
pub const OVERHEAD: usize = 16;

/// The tag did not fit: another key, or other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unauthentic;

/// Associated data of a file chunk: `u64le index || u64le file size`.
pub(crate) fn chunk_aad(index: u64, file_size: u64) -> [u8; 16] {
    let mut aad = [0; 16];
    let (left, right) = aad.split_at_mut(8);
    left.copy_from_slice(&index.to_le_bytes());
    right.copy_from_slice(&file_size.to_le_bytes());
    aad
}

/// The number as a 96-bit big-endian nonce.
fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&number.to_be_bytes());
    nonce
}

impl SealingCipher {
    /// Encrypts in place and gives the tag.
    pub(crate) fn seal(&self, number: u64, aad: &[u8], buffer: &mut [u8]) -> [u8; OVERHEAD] {
        #[cfg(test)]
        observed::record(self.id, number, buffer);
        self.cipher
            .encrypt_inout_detached(&Nonce::from(nonce(number)), aad, buffer.into())
            .expect("a chunk or page is far below GCM's limit of 64 GiB")
            .into()
    }

    /// Decrypts ciphertext followed by its tag in place and gives the plaintext's length.
    pub(crate) fn open(
        &self,
        number: u64,
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        let length = sealed.len().checked_sub(OVERHEAD).ok_or(Unauthentic)?;
        let (text, tag) = sealed.split_at_mut(length);
        let tag: [u8; OVERHEAD] = (&*tag).try_into().map_err(|_| Unauthentic)?;
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(nonce(number)),
                aad,
                text.into(),
                &Tag::from(tag),
            )
            .map_err(|_| Unauthentic)?;
        Ok(length)
    }

    /// Decrypts in place what has already been compared, tag included, with a hash that the tree
    /// pins; gives the plaintext's length. GCM's own tag adds nothing then, and computing it costs
    /// three times the rest where no carry-less multiplication may be used: see
    /// `docs/decisions/0006-file-chunks-without-tag-check.md`.
    pub(crate) fn open_hashed(&self, number: u64, sealed: &mut [u8]) -> Result<usize, Unauthentic> {
        let length = sealed.len().checked_sub(OVERHEAD).ok_or(Unauthentic)?;
        let (text, _tag) = sealed.split_at_mut(length);
        // GCM numbers its blocks from 1 and keeps the first for the tag (NIST SP 800-38D §7.1).
        let mut counter = [0; 16];
        let (left, right) = counter.split_at_mut(12);
        left.copy_from_slice(&nonce(number));
        right.copy_from_slice(&2_u32.to_be_bytes());
        CtrCore::<_, Ctr32BE>::inner_iv_init(&self.blocks, &counter.into())
            .apply_keystream_partial(text.into());
        Ok(length)
    }
}

/// Records every (key, nonce) pair that seals something, in test builds of this crate only.
#[cfg(test)]
pub(crate) mod observed {
    extern crate std;

    use std::cell::RefCell;
    use std::vec::Vec;

    use crate::digest::chunk_hash;

    /// One sealing: key, nonce number, hash of the plaintext.
    pub(crate) type Sealing = ([u8; 32], u64, [u8; 32]);

    std::thread_local! {
        static SEALINGS: RefCell<Vec<Sealing>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn record(key: [u8; 32], number: u64, plaintext: &[u8]) {
        SEALINGS.with_borrow_mut(|all| all.push((key, number, chunk_hash(plaintext))));
    }

    /// Takes what this thread sealed since the last call.
    pub(crate) fn take() -> Vec<Sealing> {
        SEALINGS.take()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::key::FspfKey;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let cipher = FspfKey::from_bytes([1; 32]).page_cipher(&[2; 32]);
        let mut sealed: Vec<u8> = b"plaintext".to_vec();
        let tag = cipher.seal(3, b"aad", &mut sealed);
        sealed.extend_from_slice(&tag);
        assert_ne!(&sealed[..9], b"plaintext");
        assert_eq!(
            cipher.open(4, b"aad", &mut sealed.clone()),
            Err(Unauthentic)
        );
        assert_eq!(
            cipher.open(3, b"aae", &mut sealed.clone()),
            Err(Unauthentic)
        );
        assert_eq!(
            cipher.open(3, b"aad", &mut sealed.clone()[..8]),
            Err(Unauthentic)
        );
        assert_eq!(cipher.open(3, b"aad", &mut sealed), Ok(9));
        assert_eq!(&sealed[..9], b"plaintext");
    }

    #[test]
    fn hashed_content_opens_to_the_same_plaintext() {
        let cipher = FspfKey::from_bytes([1; 32]).page_cipher(&[2; 32]);
        for length in [0, 1, 15, 16, 17, 255, 4096, 65_536] {
            let plaintext: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
            for number in [0, 1, u64::MAX] {
                let mut sealed = plaintext.clone();
                let tag = cipher.seal(number, b"aad", &mut sealed);
                sealed.extend_from_slice(&tag);
                assert_eq!(cipher.open_hashed(number, &mut sealed), Ok(length));
                assert!(
                    sealed[..length] == plaintext,
                    "{length} bytes, number {number}"
                );
            }
        }
        assert_eq!(cipher.open_hashed(0, &mut [0; 15]), Err(Unauthentic));
    }

    #[test]
    fn nonce_is_the_big_endian_number() {
        assert_eq!(nonce(0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
