// SPDX-License-Identifier: Apache-2.0
//! Where reads put bytes and writes take them from: kernel or program memory.

use alloc::vec;
use alloc::vec::Vec;

use crate::errno::Errno;
use crate::host::{Machine, UserSlice, Word};

/// Room for the bytes of a read.
pub enum Sink<'a> {
    /// In the kernel.
    Kernel(&'a mut [u8]),
    /// In a program; checked at each access.
    User(&'a dyn Machine, UserSlice),
}

impl core::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sink({} bytes)", self.len())
    }
}

impl<'a> Sink<'a> {
    /// Room in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Kernel(bytes) => bytes.len(),
            Self::User(_, slice) => slice.len,
        }
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes at an offset.
    ///
    /// # Errors
    /// `EFAULT` if the program's memory is not writable or there is no room.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let end = at.checked_add(bytes.len()).ok_or(Errno::EFAULT)?;
        match self {
            Self::Kernel(room) => {
                room.get_mut(at..end)
                    .ok_or(Errno::EFAULT)?
                    .copy_from_slice(bytes);
                Ok(())
            }
            Self::User(machine, slice) => {
                if end > slice.len {
                    return Err(Errno::EFAULT);
                }
                let to = slice.addr.checked_add(at as u64).ok_or(Errno::EFAULT)?;
                machine.write_user(to, bytes)
            }
        }
    }

    /// Puts `len` zero bytes at an offset.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_zeros(&mut self, at: usize, len: usize) -> Result<(), Errno> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let now = (len - done).min(ZEROS.len());
            self.put(at + done, ZEROS.get(..now).unwrap_or_default())?;
            done += now;
        }
        Ok(())
    }

    /// The room from `at`, at most `len` bytes.
    #[must_use]
    pub fn part(&mut self, at: usize, len: usize) -> Sink<'_> {
        match self {
            Self::Kernel(bytes) => {
                let rest = bytes.get_mut(at..).unwrap_or_default();
                let len = len.min(rest.len());
                Sink::Kernel(rest.get_mut(..len).unwrap_or_default())
            }
            Self::User(machine, slice) => Sink::User(*machine, cut(*slice, at, len)),
        }
    }

    /// The room as an argument of a host call.
    #[must_use]
    pub fn word(&mut self) -> Word<'_> {
        match self {
            Self::Kernel(bytes) => Word::Out(bytes),
            Self::User(_, slice) => Word::OutUser(*slice),
        }
    }
}

/// The bytes of a write.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// In the kernel.
    Kernel(&'a [u8]),
    /// In a program; checked at each access.
    User(&'a dyn Machine, UserSlice),
}

impl core::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Source({} bytes)", self.len())
    }
}

impl<'a> Source<'a> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Kernel(bytes) => bytes.len(),
            Self::User(_, slice) => slice.len,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from an offset.
    ///
    /// # Errors
    /// `EFAULT` if the program's memory is not readable or too few bytes are there.
    pub fn take(&self, at: usize, to: &mut [u8]) -> Result<(), Errno> {
        let end = at.checked_add(to.len()).ok_or(Errno::EFAULT)?;
        match self {
            Self::Kernel(bytes) => {
                to.copy_from_slice(bytes.get(at..end).ok_or(Errno::EFAULT)?);
                Ok(())
            }
            Self::User(machine, slice) => {
                if end > slice.len {
                    return Err(Errno::EFAULT);
                }
                let from = slice.addr.checked_add(at as u64).ok_or(Errno::EFAULT)?;
                machine.read_user(from, to)
            }
        }
    }

    /// Copies everything, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// `EINVAL` above the limit, `EFAULT` as [`Self::take`].
    pub fn to_vec(&self, limit: usize) -> Result<Vec<u8>, Errno> {
        if self.len() > limit {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; self.len()];
        self.take(0, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from `at`, at most `len`.
    #[must_use]
    pub fn part(&self, at: usize, len: usize) -> Self {
        match self {
            Self::Kernel(bytes) => {
                let rest = bytes.get(at..).unwrap_or_default();
                Self::Kernel(rest.get(..len.min(rest.len())).unwrap_or_default())
            }
            Self::User(machine, slice) => Self::User(*machine, cut(*slice, at, len)),
        }
    }

    /// The bytes as an argument of a host call. They must be meant to leave.
    #[must_use]
    pub fn word(&self) -> Word<'a> {
        match self {
            Self::Kernel(bytes) => Word::In(bytes),
            Self::User(_, slice) => Word::InUser(*slice),
        }
    }
}

fn cut(slice: UserSlice, at: usize, len: usize) -> UserSlice {
    let at = at.min(slice.len);
    UserSlice {
        addr: slice.addr.saturating_add(at as u64),
        len: len.min(slice.len - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_inside() {
        let mut room = [0_u8; 8];
        let mut sink = Sink::Kernel(&mut room);
        assert_eq!(sink.part(6, 10).len(), 2);
        assert_eq!(sink.part(9, 1).len(), 0);
        assert_eq!(sink.put(7, b"ab"), Err(Errno::EFAULT));
        assert_eq!(sink.part(2, 2).put(0, b"xy"), Ok(()));
        assert_eq!(sink.put_zeros(0, 1), Ok(()));
        assert_eq!(&room, b"\0\0xy\0\0\0\0");
    }

    #[test]
    fn sources_are_cut_and_bounded() {
        let source = Source::Kernel(b"hello");
        assert_eq!(source.part(3, 9).to_vec(9).unwrap(), b"lo");
        assert_eq!(source.to_vec(4), Err(Errno::EINVAL));
        let mut two = [0; 2];
        assert_eq!(source.take(4, &mut two), Err(Errno::EFAULT));
    }
}
