// SPDX-License-Identifier: Apache-2.0
//! Reserved address ranges. ELRANGE lies at address 0, so its first bytes
//! (below `vm.mmap_min_addr`) stay a hole.

use std::io;

/// Where ELRANGE starts to be mapped; the default of `vm.mmap_min_addr`.
pub(crate) const LOWEST: u64 = 0x1_0000;

/// An address or length of ELRANGE as the machine's own.
pub(crate) const fn machine(value: u64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "SGX enclaves of this project exist on x86-64 only"
    )]
    let value = value as usize;
    value
}

/// Access to a range, as `mprotect` takes it.
pub(crate) const NONE: i32 = libc::PROT_NONE;
pub(crate) const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// An anonymous mapping that belongs to its owner alone. Pages take memory
/// when they are touched.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    /// Reserves `LOWEST..end` without access.
    pub(crate) fn elrange(end: u64) -> io::Result<Self> {
        let len = machine(end - LOWEST);
        let wanted = machine(LOWEST);
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: NOREPLACE makes the kernel refuse to touch existing mappings.
        let start = unsafe { libc::mmap(wanted as *mut _, len, NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self {
            start: start as usize,
            len,
        };
        if mapping.start != wanted {
            // Kernels before 4.17 take the address as a hint.
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        // SAFETY: the range is the mapping made above. Enclave memory does not
        // belong into core files; a refusal is harmless.
        unsafe { libc::madvise(start, len, libc::MADV_DONTDUMP) };
        Ok(mapping)
    }

    /// Maps `len` zero bytes somewhere.
    pub(crate) fn anywhere(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, READ_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start as usize,
            len,
        })
    }

    /// Maps `len` zero bytes at a multiple of `len`, a power of two.
    pub(crate) fn aligned(len: usize) -> io::Result<Self> {
        let whole = Self::anywhere(len * 2)?;
        let start = whole.start.next_multiple_of(len);
        let (before, after) = (start - whole.start, whole.start + len - start);
        let whole = std::mem::ManuallyDrop::new(whole);
        for (at, len) in [(whole.start, before), (start + len, after)] {
            if len > 0 {
                // SAFETY: the edges of the mapping made above, not yet used.
                unsafe { libc::munmap(at as *mut _, len) };
            }
        }
        Ok(Self { start, len })
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value alone.
        unsafe { libc::munmap(self.start as *mut _, self.len) };
    }
}

/// Sets the access to pages of ELRANGE.
///
/// # Safety
/// The range belongs to an enclave of the caller and no Rust reference points
/// into it.
pub(crate) unsafe fn protect(start: u64, len: u64, access: i32) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::mprotect(start as *mut _, machine(len), access) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives writable pages of ELRANGE their memory at once: one call in the place of
/// a host fault per page. A machine that cannot (Linux before 5.14) faults.
///
/// # Safety
/// As for [`protect`].
pub(crate) unsafe fn populate(start: u64, len: u64) {
    // SAFETY: the caller's promise; the call changes no content.
    unsafe { libc::madvise(start as *mut _, machine(len), libc::MADV_POPULATE_WRITE) };
}

/// Drops the content of pages of ELRANGE: they read as zero afterwards.
///
/// # Safety
/// As for [`protect`].
pub(crate) unsafe fn discard(start: u64, len: u64) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::madvise(start as *mut _, machine(len), libc::MADV_DONTNEED) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
