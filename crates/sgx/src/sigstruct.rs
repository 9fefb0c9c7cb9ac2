// SPDX-License-Identifier: Apache-2.0
//! SIGSTRUCT: who signed which enclave (SDM vol. 3D §38.13).
//!
//! The signature itself is made and checked by the caller's RSA: this module
//! gives the signed bytes and, from signature and modulus, q1 and q2, which let
//! a CPU verify RSA-3072 with e = 3 without dividing.

use alloc::vec::Vec;

use crypto_bigint::{NonZero, U3072, U6144};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::attributes::{Attributes, MiscSelect};
use crate::field::{array, put, u16_at, u32_at};

const HEADER1: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const HEADER2: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];
/// Bytes of a 3072-bit number.
pub const KEY_SIZE: usize = 384;

/// Why bytes are not a SIGSTRUCT.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigstructError {
    /// A fixed header differs from the SDM's.
    #[error("SIGSTRUCT header {number} is not the one that the SDM gives")]
    Header {
        /// 1 or 2.
        number: u8,
    },
    /// The exponent is not 3.
    #[error("SIGSTRUCT exponent is {got}, only 3 is possible")]
    Exponent {
        /// The exponent found.
        got: u32,
    },
    /// A reserved byte is not zero.
    #[error("SIGSTRUCT has a reserved byte set at offset {offset}")]
    Reserved {
        /// Where.
        offset: usize,
    },
    /// q1 or q2 are not what signature and modulus give.
    #[error("SIGSTRUCT q1 and q2 do not belong to its signature and modulus")]
    Quotients,
    /// The signature is not smaller than the modulus, or the modulus is zero.
    #[error("SIGSTRUCT signature is not a number below the modulus")]
    Range,
    /// The RSA signature does not verify.
    #[error("SIGSTRUCT signature does not verify")]
    Signature,
}

/// What the signer states; everything but key and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// 0 for everybody but Intel.
    pub vendor: u32,
    /// Build date as BCD yyyymmdd.
    pub date: u32,
    /// Free for the signer.
    pub sw_defined: u32,
    /// MISCSELECT that the enclave must have under `misc_mask`.
    pub miscselect: MiscSelect,
    /// Which MISCSELECT bits are enforced.
    pub misc_mask: MiscSelect,
    /// KSS family id.
    pub isv_family_id: [u8; 16],
    /// ATTRIBUTES that the enclave must have under `attribute_mask`.
    pub attributes: Attributes,
    /// Which attribute bits are enforced.
    pub attribute_mask: Attributes,
    /// The measurement.
    pub mrenclave: [u8; 32],
    /// KSS extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
}

impl Body {
    /// The bytes that the RSA signature (PKCS#1 v1.5, SHA-256) covers:
    /// offsets 0..128 and 900..1028 of the whole.
    #[must_use]
    pub fn signed_bytes(&self) -> [u8; 256] {
        let mut whole = [0; Sigstruct::SIZE];
        self.write(&mut whole);
        let mut out = [0; 256];
        out[..128].copy_from_slice(&whole[..128]);
        out[128..].copy_from_slice(&whole[900..1028]);
        out
    }

    fn write(&self, out: &mut [u8; Sigstruct::SIZE]) {
        put(out, 0, &HEADER1);
        put(out, 16, &self.vendor.to_le_bytes());
        put(out, 20, &self.date.to_le_bytes());
        put(out, 24, &HEADER2);
        put(out, 40, &self.sw_defined.to_le_bytes());
        put(out, 900, &self.miscselect.bits().to_le_bytes());
        put(out, 904, &self.misc_mask.bits().to_le_bytes());
        put(out, 912, &self.isv_family_id);
        put(out, 928, &self.attributes.to_bytes());
        put(out, 944, &self.attribute_mask.to_bytes());
        put(out, 960, &self.mrenclave);
        put(out, 1008, &self.isv_ext_prod_id);
        put(out, 1024, &self.isv_prod_id.to_le_bytes());
        put(out, 1026, &self.isv_svn.to_le_bytes());
    }
}

/// A whole SIGSTRUCT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigstruct {
    /// What is signed.
    pub body: Body,
    /// RSA modulus, little-endian.
    pub modulus: [u8; KEY_SIZE],
    /// RSA signature, little-endian.
    pub signature: [u8; KEY_SIZE],
    q1: [u8; KEY_SIZE],
    q2: [u8; KEY_SIZE],
}

impl Sigstruct {
    /// Size of the binary form in bytes.
    pub const SIZE: usize = 1808;

    /// Joins a body, its signer's modulus and the signature, both little-endian.
    ///
    /// # Errors
    /// [`SigstructError::Range`] if the signature is no number below the modulus.
    pub fn new(
        body: Body,
        modulus: [u8; KEY_SIZE],
        signature: [u8; KEY_SIZE],
    ) -> Result<Self, SigstructError> {
        let (q1, q2) = quotients(&signature, &modulus)?;
        Ok(Self {
            body,
            modulus,
            signature,
            q1,
            q2,
        })
    }

    /// Decodes the binary form and checks everything that needs no RSA library:
    /// headers, exponent, reserved bytes, q1 and q2.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self, SigstructError> {
        if array::<16>(bytes, 0) != HEADER1 {
            return Err(SigstructError::Header { number: 1 });
        }
        if array::<16>(bytes, 24) != HEADER2 {
            return Err(SigstructError::Header { number: 2 });
        }
        let got = u32_at(bytes, 512);
        if got != 3 {
            return Err(SigstructError::Exponent { got });
        }
        for (from, to) in [(44, 128), (908, 912), (992, 1008), (1028, 1040)] {
            if let Some(at) = bytes[from..to].iter().position(|&b| b != 0) {
                return Err(SigstructError::Reserved { offset: from + at });
            }
        }
        let whole = Self::new(
            Body {
                vendor: u32_at(bytes, 16),
                date: u32_at(bytes, 20),
                sw_defined: u32_at(bytes, 40),
                miscselect: MiscSelect::from_bits_retain(u32_at(bytes, 900)),
                misc_mask: MiscSelect::from_bits_retain(u32_at(bytes, 904)),
                isv_family_id: array(bytes, 912),
                attributes: Attributes::from_bytes(&array(bytes, 928)),
                attribute_mask: Attributes::from_bytes(&array(bytes, 944)),
                mrenclave: array(bytes, 960),
                isv_ext_prod_id: array(bytes, 1008),
                isv_prod_id: u16_at(bytes, 1024),
                isv_svn: u16_at(bytes, 1026),
            },
            array(bytes, 128),
            array(bytes, 516),
        )?;
        if whole.q1 != array(bytes, 1040) || whole.q2 != array(bytes, 1424) {
            return Err(SigstructError::Quotients);
        }
        Ok(whole)
    }

    /// Encodes the binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        self.body.write(&mut out);
        put(&mut out, 128, &self.modulus);
        put(&mut out, 512, &3u32.to_le_bytes());
        put(&mut out, 516, &self.signature);
        put(&mut out, 1040, &self.q1);
        put(&mut out, 1424, &self.q2);
        out
    }

    /// MRSIGNER: SHA-256 of the little-endian modulus.
    #[must_use]
    pub fn mrsigner(&self) -> [u8; 32] {
        Sha256::digest(self.modulus).into()
    }

    /// Verifies the RSA signature, as EINIT does.
    ///
    /// # Errors
    /// [`SigstructError::Signature`] if signature^3 mod modulus is not the
    /// PKCS#1 v1.5 encoding of the body's digest.
    pub fn verify(&self) -> Result<(), SigstructError> {
        let n = U3072::from_le_slice(&self.modulus);
        let s = U3072::from_le_slice(&self.signature);
        let n = Option::<NonZero<U3072>>::from(NonZero::new(n)).ok_or(SigstructError::Range)?;
        let square = reduce(&s.concatenating_mul(&s), &n);
        let cube = reduce(&square.concatenating_mul(&s), &n);
        let digest: [u8; 32] = Sha256::digest(self.body.signed_bytes()).into();
        if cube.to_be_bytes().as_ref() == pkcs1_sha256(&digest).as_slice() {
            Ok(())
        } else {
            Err(SigstructError::Signature)
        }
    }
}

/// EMSA-PKCS1-v1_5 of a SHA-256 digest in 384 bytes (RFC 8017 §9.2).
fn pkcs1_sha256(digest: &[u8; 32]) -> Vec<u8> {
    const PREFIX: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let mut out = Vec::with_capacity(KEY_SIZE);
    out.extend_from_slice(&[0, 1]);
    out.resize(KEY_SIZE - PREFIX.len() - digest.len() - 1, 0xff);
    out.push(0);
    out.extend_from_slice(&PREFIX);
    out.extend_from_slice(digest);
    out
}

fn reduce(value: &U6144, n: &NonZero<U3072>) -> U3072 {
    value.rem_vartime(n)
}

/// q1 = floor(s^2 / n), q2 = floor((s^2 mod n) * s / n), all little-endian
/// (SDM vol. 3D §38.13).
///
/// # Errors
/// [`SigstructError::Range`] if the signature is no number below the modulus.
pub fn quotients(
    signature: &[u8; KEY_SIZE],
    modulus: &[u8; KEY_SIZE],
) -> Result<([u8; KEY_SIZE], [u8; KEY_SIZE]), SigstructError> {
    let n = U3072::from_le_slice(modulus);
    let s = U3072::from_le_slice(signature);
    let nonzero = Option::<NonZero<U3072>>::from(NonZero::new(n)).ok_or(SigstructError::Range)?;
    if s >= n {
        return Err(SigstructError::Range);
    }
    let (q1, rest) = s.concatenating_mul(&s).div_rem_vartime(&nonzero);
    let (q2, _) = rest.concatenating_mul(&s).div_rem_vartime(&nonzero);
    Ok((low_half(&q1), low_half(&q2)))
}

/// The low 3072 bits; both quotients are below the modulus.
fn low_half(value: &U6144) -> [u8; KEY_SIZE] {
    let mut out = [0; KEY_SIZE];
    out.copy_from_slice(&value.to_le_bytes().as_ref()[..KEY_SIZE]);
    out
}
