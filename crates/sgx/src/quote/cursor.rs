// SPDX-License-Identifier: Apache-2.0
//! Reading hostile bytes from front to back.

use super::QuoteError;

/// The rest of an input.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) const fn position(&self) -> usize {
        self.position
    }

    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    pub(super) fn take(&mut self, len: usize, part: &'static str) -> Result<&'a [u8], QuoteError> {
        let truncated = QuoteError::Truncated { part };
        let end = self.position.checked_add(len).ok_or(truncated)?;
        let taken = self.bytes.get(self.position..end).ok_or(truncated)?;
        self.position = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        part: &'static str,
    ) -> Result<&'a [u8; N], QuoteError> {
        self.take(N, part)?
            .first_chunk()
            .ok_or(QuoteError::Truncated { part })
    }

    pub(super) fn u16(&mut self, part: &'static str) -> Result<u16, QuoteError> {
        self.array(part).map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// A `u32` that counts bytes of this input.
    pub(super) fn length_u32(&mut self, part: &'static str) -> Result<usize, QuoteError> {
        let len = u32::from_le_bytes(*self.array(part)?);
        usize::try_from(len).map_err(|_| QuoteError::Truncated { part })
    }
}
