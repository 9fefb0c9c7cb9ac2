// SPDX-License-Identifier: Apache-2.0
//! Where bytes come from and go to. Whatever a backing returns is verified by its reader.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt::{Debug, Display};

/// Untrusted bytes that can be read at any offset.
pub trait Backing {
    /// Why a read failed.
    type Error: Debug + Display;

    /// Reads into `buf` from `offset` and gives the number of bytes read; 0 means the end.
    ///
    /// # Errors
    /// The backing's own.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;
}

/// A file's plaintext at conversion: it can be read twice and knows its size.
///
/// Encrypted files are read twice because their key depends on their content; the second reading
/// is compared with the first before anything is encrypted.
pub trait Source: Backing {
    /// Size in bytes.
    fn size(&self) -> u64;
}

/// Takes the stored bytes of a file, in order.
pub trait Sink {
    /// Why a write failed.
    type Error: Debug + Display;

    /// Appends bytes.
    ///
    /// # Errors
    /// The sink's own.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A sink for files whose stored bytes are already where they belong (authenticated files of a
/// layer that is reused as it is).
#[derive(Debug, Clone, Copy, Default)]
pub struct InPlace;

impl Sink for InPlace {
    type Error = Infallible;

    fn write(&mut self, _bytes: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Sink for Vec<u8> {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl Backing for [u8] {
    type Error = Infallible;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let length = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl Backing for Vec<u8> {
    type Error = Infallible;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        self.as_slice().read_at(offset, buf)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl<T: Backing + ?Sized> Backing for &T {
    type Error = T::Error;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, T::Error> {
        (**self).read_at(offset, buf)
    }
}

impl<T: Source + ?Sized> Source for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// Fills `buf` as far as the backing goes and gives the number of bytes read.
pub(crate) fn fill<B: Backing + ?Sized>(
    backing: &B,
    offset: u64,
    buf: &mut [u8],
) -> Result<usize, B::Error> {
    let mut done = 0_usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        // A backing that claims more than was asked for gets no credit for it.
        let read = backing.read_at(at, rest)?.min(rest.len());
        if read == 0 {
            break;
        }
        done = done.saturating_add(read);
    }
    Ok(done)
}
