// SPDX-License-Identifier: Apache-2.0
//! Buffers for stored bytes on their way to a program, kept for the next read:
//! zeroing a fresh one would cost a tenth of the read.

use alloc::vec;
use alloc::vec::Vec;

use crate::sync::Lock;

/// Most buffers kept.
const KEPT: usize = 2;

static POOL: Lock<Vec<Vec<u8>>> = Lock::new(Vec::new());

/// A buffer with unspecified content; it goes back when it is dropped.
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    len: usize,
}

impl Scratch {
    /// A buffer of this length.
    pub(crate) fn new(len: usize) -> Self {
        let kept = POOL.lock().pop();
        let mut bytes = kept.unwrap_or_default();
        if bytes.len() < len {
            bytes = vec![0; len];
        }
        Self { bytes, len }
    }

    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// Forgets the bytes behind `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let bytes = core::mem::take(&mut self.bytes);
        let mut pool = POOL.lock();
        if pool.len() < KEPT {
            pool.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_the_length_asked_for_and_are_few() {
        let mut many: Vec<Scratch> = (1..10).map(|len| Scratch::new(len * 100)).collect();
        for (at, scratch) in many.iter_mut().enumerate() {
            assert_eq!(scratch.bytes().len(), (at + 1) * 100);
            scratch.truncate(50);
            assert_eq!(scratch.bytes().len(), 50);
        }
        drop(many);
        assert!(POOL.lock().len() <= KEPT);
    }
}
