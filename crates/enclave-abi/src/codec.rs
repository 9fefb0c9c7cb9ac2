// SPDX-License-Identifier: Apache-2.0
//! The canonical binary encoding of every form in this crate: little-endian
//! integers, byte strings with a `u32` length, lists with a `u32` count.

use alloc::vec::Vec;

use thiserror::Error;

/// Why bytes do not decode.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("input ends inside `{field}`")]
    Truncated {
        /// The field being read.
        field: &'static str,
    },
    /// A length or count exceeds the format's bound.
    #[error("`{field}` has {got} elements, at most {limit} are allowed")]
    TooLong {
        /// The field being read.
        field: &'static str,
        /// What the input claims.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// A value has no meaning.
    #[error("`{field}` has the meaningless value {got:#x}")]
    Invalid {
        /// The field being read.
        field: &'static str,
        /// The value found.
        got: u64,
    },
    /// Bytes follow the end of the form.
    #[error("{count} bytes follow the end")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Appends fields to a byte vector.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Appends a `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends a `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends a `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a `u32` length and the bytes.
    ///
    /// # Panics
    /// If there are 4 GiB or more: forms are built from checked parts.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// Appends a `u32` count.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("forms are far smaller than 4 Gi elements"))
    }

    /// The bytes written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields from untrusted bytes; never panics, never allocates more than
/// the input's own length.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn raw(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .0
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated { field })?;
        self.0 = tail;
        Ok(head)
    }

    /// Takes an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(field, N)?);
        Ok(out)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    /// Takes a `u16`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Takes a `u32`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Takes a `u64`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Takes a byte that must be 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::Invalid`].
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Invalid {
                field,
                got: u64::from(got),
            }),
        }
    }

    /// Takes a byte string of at most `limit` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::TooLong`].
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.count(field, limit)?;
        self.raw(field, len)
    }

    /// Takes a count of at most `limit`. Elements have at least one byte, so a
    /// count beyond the rest of the input is refused before anybody allocates.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::TooLong`].
    pub fn count(&mut self, field: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let got = self.u32(field)?;
        let count = usize::try_from(got).unwrap_or(usize::MAX);
        if count > limit {
            return Err(DecodeError::TooLong {
                field,
                got: u64::from(got),
                limit: limit as u64,
            });
        }
        if count > self.0.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(count)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}
