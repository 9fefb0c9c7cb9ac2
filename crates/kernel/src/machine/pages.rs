// SPDX-License-Identifier: Apache-2.0
//! Changes to enclave pages, each proposed by the host and accepted here.

use enclave_abi::call::Op;
use enclave_abi::entry::AbortReason;
use sgx::PAGE_SIZE;
use sgx::secinfo::PageFlags;

use super::{area, gate};
use crate::host::Word;
use crate::memory::pages::{Pages, Prot};

/// The CPU's pages.
#[derive(Debug)]
pub(crate) struct EnclavePages;

fn flags(prot: Prot) -> PageFlags {
    PageFlags::from_bits_truncate(prot.bits().into())
}

/// A request that the host must grant: memory that it keeps is memory that it
/// denies, so refusing ends the enclave.
fn demand(op: Op, words: &mut [Word<'_>]) {
    if area::call(op, words).is_err() {
        super::abort(AbortReason::HostLied);
    }
}

impl Pages for EnclavePages {
    fn accept(&self, start: u64, pages: u64) {
        gate::accept_new(start, pages);
    }

    fn extend(&self, start: u64, pages: u64, prot: Prot) {
        gate::extend(start, pages, flags(prot));
    }

    fn restrict(&self, start: u64, pages: u64, prot: Prot) {
        let len = pages * PAGE_SIZE as u64;
        demand(
            Op::Restrict,
            &mut [
                Word::Value(start),
                Word::Value(len),
                Word::Value(flags(prot).bits()),
            ],
        );
        gate::accept_restricted(start, pages, flags(prot));
    }

    fn trim(&self, start: u64, pages: u64) {
        let len = pages * PAGE_SIZE as u64;
        demand(Op::Trim, &mut [Word::Value(start), Word::Value(len)]);
        gate::accept_trimmed(start, pages);
        demand(Op::Remove, &mut [Word::Value(start), Word::Value(len)]);
    }

    fn zero(&self, start: u64, pages: u64) {
        // SAFETY: the memory map says that these pages are committed, writable
        // and a program's; no Rust value lies in them.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(start as usize)
                .write_bytes(0, pages as usize * PAGE_SIZE);
        }
    }

    fn fill(&self, at: u64, bytes: &[u8]) {
        // SAFETY: as in `zero`; the source is a live kernel buffer.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(at as usize)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        // SAFETY: the memory map says that these pages are committed and
        // readable; programs may change them meanwhile, which tears bytes only.
        unsafe {
            out.as_mut_ptr().copy_from_nonoverlapping(
                core::ptr::with_exposed_provenance::<u8>(at as usize),
                out.len(),
            );
        }
    }

    fn copy(&self, to: u64, from: u64, pages: u64) {
        // SAFETY: as in `zero`, both ranges being committed program pages.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(to as usize).copy_from(
                core::ptr::with_exposed_provenance::<u8>(from as usize),
                pages as usize * PAGE_SIZE,
            );
        }
    }
}
