// SPDX-License-Identifier: Apache-2.0
//! Bounded reading of little-endian fields.

/// The bytes are not as long as their fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A field reaches behind the end.
    #[error("{wanted} bytes wanted, {left} left")]
    Short {
        /// Length of the field in bytes.
        wanted: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// Bytes remain after the last field.
    #[error("{left} bytes follow the last field")]
    Trailing {
        /// Bytes that remain.
        left: usize,
    },
}

/// Takes fields off the front of a slice; every step is checked.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (now, later) = self.rest.split_at_checked(length).ok_or(WireError::Short {
            wanted: length,
            left: self.rest.len(),
        })?;
        self.rest = later;
        Ok(now)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (now, later) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short {
            wanted: N,
            left: self.rest.len(),
        })?;
        self.rest = later;
        Ok(*now)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(&self) -> Result<(), WireError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing {
                left: self.rest.len(),
            })
        }
    }
}
