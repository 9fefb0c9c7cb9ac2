// SPDX-License-Identifier: Apache-2.0
//! Programs' memory as the kernel reads and writes it.

use core::sync::atomic::{AtomicU32, Ordering};

use super::copy::copy_bytes;
use crate::errno::Errno;
use crate::memory;

/// Makes `len` bytes usable: mapped, permitted and committed.
pub(crate) fn prepare(addr: u64, len: usize, write: bool) -> Result<(), Errno> {
    memory::current().ok_or(Errno::EFAULT)?.prepare(
        &super::enclave::ENCLAVE,
        addr,
        len as u64,
        write,
    )
}

pub(crate) fn read(from: u64, to: &mut [u8]) -> Result<(), Errno> {
    prepare(from, to.len(), false)?;
    let at = to.as_mut_ptr() as u64;
    // SAFETY: `to` is a live buffer of that length; `from` lies in the programs'
    // part of ELRANGE, and a fault there ends the copy.
    let left = unsafe { copy_bytes(at, from, to.len() as u64) };
    if left == 0 {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

pub(crate) fn write(to: u64, from: &[u8]) -> Result<(), Errno> {
    prepare(to, from.len(), true)?;
    // SAFETY: as in `read`, the other way round: only program memory is written.
    let left = unsafe { copy_bytes(to, from.as_ptr() as u64, from.len() as u64) };
    if left == 0 {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Reads and perhaps replaces an aligned word.
pub(crate) fn update(addr: u64, change: &dyn Fn(u32) -> Option<u32>) -> Result<(u32, bool), Errno> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    prepare(addr, 4, false)?;
    // SAFETY: an aligned word of committed program memory. Programs change it
    // at any time, which atomics allow. A program that unmaps it at this very
    // moment ends its own enclave.
    let word =
        unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(addr as usize)) };
    let mut old = word.load(Ordering::SeqCst);
    loop {
        let Some(new) = change(old) else {
            return Ok((old, false));
        };
        prepare(addr, 4, true)?;
        match word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok((old, true)),
            Err(now) => old = now,
        }
    }
}
