// SPDX-License-Identifier: Apache-2.0
//! What memory management asks of the machine, and what it knows of each page.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use bitflags::bitflags;

/// Bytes of a page.
pub const PAGE: u64 = sgx::PAGE_SIZE as u64;

bitflags! {
    /// Permissions, numbered as in SECINFO.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Prot: u8 {
        /// Readable.
        const R = 1;
        /// Writable.
        const W = 2;
        /// Executable.
        const X = 4;
    }
}

/// Operations on enclave pages. Addresses are page-aligned unless said otherwise.
pub trait Pages: Send + Sync {
    /// Adds fresh pages: zeroed, readable, writable.
    fn accept(&self, start: u64, pages: u64);
    /// Adds permissions.
    fn extend(&self, start: u64, pages: u64, prot: Prot);
    /// Takes permissions away until `prot` is left.
    fn restrict(&self, start: u64, pages: u64, prot: Prot);
    /// Gives pages back to the host.
    fn trim(&self, start: u64, pages: u64);
    /// Zeroes committed writable pages.
    fn zero(&self, start: u64, pages: u64);
    /// Writes into committed writable pages; `at` may be any address.
    fn fill(&self, at: u64, bytes: &[u8]);
    /// Reads from committed readable pages; `at` may be any address.
    fn read(&self, at: u64, out: &mut [u8]);
    /// Copies committed pages; the target is writable, the source readable.
    fn copy(&self, to: u64, from: u64, pages: u64);
}

/// One byte per page of the programs' addresses.
pub struct Table {
    first: u64,
    bytes: Vec<AtomicU8>,
}

/// A page is part of the enclave.
pub const PRESENT: u8 = 8;

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Table")
            .field("pages", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Table {
    /// For the pages of `start..end`.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        let count = ((end - start) / PAGE) as usize;
        let mut bytes = Vec::with_capacity(count);
        bytes.resize_with(count, AtomicU8::default);
        Self {
            first: start / PAGE,
            bytes,
        }
    }

    /// The state of the page at `addr`; 0 outside of the table.
    #[must_use]
    pub fn get(&self, addr: u64) -> u8 {
        (addr / PAGE)
            .checked_sub(self.first)
            .and_then(|index| self.bytes.get(index as usize))
            .map_or(0, |byte| byte.load(Ordering::Acquire))
    }

    /// Sets the state of a range.
    pub fn set(&self, start: u64, end: u64, state: u8) {
        let mut at = start;
        while at < end {
            if let Some(byte) = (at / PAGE)
                .checked_sub(self.first)
                .and_then(|index| self.bytes.get(index as usize))
            {
                byte.store(state, Ordering::Release);
            }
            at += PAGE;
        }
    }

    /// The longest run of pages from `at` (below `end`) whose state satisfies
    /// `is`, as its end.
    pub fn run(&self, at: u64, end: u64, is: impl Fn(u8) -> bool) -> u64 {
        let mut to = at;
        while to < end && is(self.get(to)) {
            to += PAGE;
        }
        to
    }
}
