// SPDX-License-Identifier: Apache-2.0
//! The FSPF key, the FSPF tag, and the keys derived from the former.
//!
//! ```text
//! file key = HKDF-SHA256(FSPF key, "ensconce-file-key-v1" || u32le path length || path
//!                                  || file digest || u32le chunk size)
//! page key = HKDF-SHA256(FSPF key, "ensconce-page-key-v1" || plaintext page hash)
//! ```
//!
//! Both derivations include a hash of what will be encrypted, so a key belongs to one plaintext and
//! fixed nonces (chunk index, zero) never meet a second one, whatever was built before.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use aes::Aes256;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::digest::{FileDigest, HASH_LEN};

/// Length of an FSPF key in bytes.
pub const KEY_LEN: usize = 32;
/// Length of an FSPF tag in bytes.
pub const TAG_LEN: usize = 16;

const FILE_KEY_LABEL: &[u8] = b"ensconce-file-key-v1";
const PAGE_KEY_LABEL: &[u8] = b"ensconce-page-key-v1";

/// Why the text form of a key or tag was refused. Never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not hexadecimal digits of the right number.
    #[error("{what} must be {digits} hexadecimal digits")]
    NotHex {
        /// What was being read.
        what: &'static str,
        /// Number of digits wanted.
        digits: usize,
    },
}

/// The secret from which all keys of one FSPF derive. Zeroized on drop, never printed.
#[derive(Clone, ZeroizeOnDrop)]
pub struct FspfKey([u8; KEY_LEN]);

impl FspfKey {
    /// Takes over key bytes; the caller's copy is the caller's to erase.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, the form used in sessions.
    ///
    /// # Errors
    /// [`KeyError::NotHex`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = Self([0; KEY_LEN]);
        hex::decode_to_slice(text, &mut key.0).map_err(|_| KeyError::NotHex {
            what: "An FSPF key",
            digits: KEY_LEN * 2,
        })?;
        Ok(key)
    }

    /// The raw key, for handing it to the session or the kernel.
    pub fn expose_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The key as 64 hexadecimal digits, for writing the session.
    pub fn expose_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }

    /// The cipher for the chunks of one file.
    pub(crate) fn file_cipher(
        &self,
        path: &[u8],
        digest: &FileDigest,
        chunk_size: u32,
    ) -> SealingCipher {
        // A path is at most 4095 bytes (path::MAX_PATH), so the length always fits.
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        self.derive(&[
            FILE_KEY_LABEL,
            &length.to_le_bytes(),
            path,
            &digest.0,
            &chunk_size.to_le_bytes(),
        ])
    }

    /// The cipher for one page of the tree, named by the hash of its plaintext.
    pub(crate) fn page_cipher(&self, plain_hash: &[u8; HASH_LEN]) -> SealingCipher {
        self.derive(&[PAGE_KEY_LABEL, plain_hash])
    }

    fn derive(&self, info: &[&[u8]]) -> SealingCipher {
        let mut key = [0_u8; KEY_LEN];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand_multi_info(info, &mut key)
            .expect("32 bytes are far below HKDF's limit of 255 hash lengths");
        let cipher = Aes256Gcm::new(&key.into());
        let blocks = Aes256::new(&key.into());
        #[cfg(test)]
        let id = key;
        key.zeroize();
        SealingCipher {
            cipher,
            blocks,
            #[cfg(test)]
            id,
        }
    }
}

impl fmt::Debug for FspfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FspfKey([redacted])")
    }
}

/// AES-256-GCM under a derived key; the round keys are erased on drop.
#[derive(Clone)]
pub(crate) struct SealingCipher {
    pub(crate) cipher: Aes256Gcm,
    /// The same key's block cipher, for content whose hash has been compared already.
    pub(crate) blocks: Aes256,
    /// The key itself, kept in test builds only: tests look for repeated (key, nonce) pairs.
    #[cfg(test)]
    pub(crate) id: [u8; KEY_LEN],
}

impl fmt::Debug for SealingCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingCipher([redacted])")
    }
}

/// The 16 bytes that pin one exact state of a whole FSPF. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FspfTag(pub [u8; TAG_LEN]);

impl FspfTag {
    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for FspfTag {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut tag = [0; TAG_LEN];
        hex::decode_to_slice(text, &mut tag).map_err(|_| KeyError::NotHex {
            what: "An FSPF tag",
            digits: TAG_LEN * 2,
        })?;
        Ok(Self(tag))
    }
}

impl fmt::Display for FspfTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FspfTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FspfTag({self})")
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn key_text_round_trips_and_debug_hides_it() {
        let text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let key = FspfKey::from_hex(text).unwrap();
        assert_eq!(*key.expose_hex(), text);
        assert_eq!(format!("{key:?}"), "FspfKey([redacted])");
    }

    #[test]
    fn refusals_do_not_repeat_the_text() {
        let error = FspfKey::from_hex("5ec2e7").unwrap_err();
        assert_eq!(
            error.to_string(),
            "An FSPF key must be 64 hexadecimal digits"
        );
        assert!("zz".parse::<FspfTag>().is_err());
    }

    #[test]
    fn tag_text_round_trips() {
        let tag: FspfTag = "3f1d6a0b9c7e4458a2b16d90c1e2f345".parse().unwrap();
        assert_eq!(tag.to_string(), "3f1d6a0b9c7e4458a2b16d90c1e2f345");
        assert!(tag.matches(&tag));
        assert!(!tag.matches(&FspfTag([0; 16])));
    }

    #[test]
    fn every_input_changes_the_file_key() {
        let key = FspfKey::from_bytes([1; 32]);
        let digest = FileDigest([2; 32]);
        let base = key.file_cipher(b"/a", &digest, 65_536).id;
        assert_ne!(base, key.file_cipher(b"/b", &digest, 65_536).id);
        assert_ne!(base, key.file_cipher(b"/a", &digest, 4096).id);
        assert_ne!(
            base,
            key.file_cipher(b"/a", &FileDigest([3; 32]), 65_536).id
        );
        let other = FspfKey::from_bytes([4; 32]);
        assert_ne!(base, other.file_cipher(b"/a", &digest, 65_536).id);
        assert_ne!(base, key.page_cipher(&[2; 32]).id);
    }

    #[test]
    fn file_key_follows_the_documented_formula() {
        let key = FspfKey::from_bytes([1; 32]);
        let mut info = b"ensconce-file-key-v1".to_vec();
        info.extend_from_slice(&2_u32.to_le_bytes());
        info.extend_from_slice(b"/a");
        info.extend_from_slice(&[2; 32]);
        info.extend_from_slice(&65_536_u32.to_le_bytes());
        let mut expected = [0; 32];
        Hkdf::<Sha256>::new(None, &[1; 32])
            .expand(&info, &mut expected)
            .unwrap();
        let derived = key.file_cipher(b"/a", &FileDigest([2; 32]), 65_536).id;
        assert_eq!(derived, expected);
    }
}
