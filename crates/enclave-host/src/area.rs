// SPDX-License-Identifier: Apache-2.0
//! One thread's call area, seen from outside the enclave.

use std::io;
use std::ptr::{self, NonNull};

use enclave_abi::call::{
    AREA_LEN, ARGS, ARGS_OFFSET, DATA_LEN, DATA_OFFSET, OP_OFFSET, RESULT_OFFSET,
};

/// A Linux error number, positive.
pub type Errno = i32;

/// A call area. While its thread is outside the enclave nobody else uses it.
#[derive(Debug)]
pub struct CallArea(NonNull<u8>);

// SAFETY: the area belongs to one thread at a time; the value may move to the
// thread that is about to use it.
unsafe impl Send for CallArea {}

/// Memory for a call area, with a page without access on both sides.
#[derive(Debug)]
pub struct AreaMemory(NonNull<u8>);

const GUARD: usize = 4096;
const MAPPED: usize = AREA_LEN + 2 * GUARD;

impl AreaMemory {
    /// Maps the memory; pages are taken when they are touched.
    ///
    /// # Errors
    /// What `mmap` gives.
    pub fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), MAPPED, libc::PROT_NONE, flags, -1, 0) };
        let Some(base) = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED)
        else {
            return Err(io::Error::last_os_error());
        };
        let memory = Self(base);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the middle of the mapping made above.
        if unsafe { libc::mprotect(memory.base().as_ptr().cast(), AREA_LEN, access) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(memory)
    }

    /// The area's first byte.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        // SAFETY: inside the mapping.
        unsafe { self.0.add(GUARD) }
    }
}

impl Drop for AreaMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value alone.
        unsafe { libc::munmap(self.0.as_ptr().cast(), MAPPED) };
    }
}

impl CallArea {
    /// Wraps the area at `base`.
    ///
    /// # Safety
    /// `base` points to `AREA_LEN` bytes, aligned to 8, readable and writable for
    /// as long as the value lives, and no other `CallArea` wraps them.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>) -> Self {
        Self(base)
    }

    /// The area's address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The area's length.
    #[must_use]
    pub fn len(&self) -> usize {
        AREA_LEN
    }

    /// Never: the area has a fixed length.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The number of the call.
    #[must_use]
    pub fn op(&self) -> u64 {
        self.read(OP_OFFSET)
    }

    /// Argument word `index`; zero beyond the last.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        if index < ARGS {
            self.read(ARGS_OFFSET + 8 * index)
        } else {
            0
        }
    }

    /// The bytes that words `index` and `index + 1` name.
    ///
    /// # Errors
    /// `EFAULT` if they do not lie in the data part.
    pub fn input(&self, index: usize) -> Result<&[u8], Errno> {
        let (start, len) = self.range(index)?;
        // SAFETY: `range` checked that the bytes lie in the area, which is
        // readable; the enclave's thread is outside and does not write.
        Ok(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Room at the bytes that words `index` and `index + 1` name.
    ///
    /// # Errors
    /// `EFAULT` if it does not lie in the data part.
    pub fn output(&mut self, index: usize) -> Result<&mut [u8], Errno> {
        let (start, len) = self.range(index)?;
        // SAFETY: as in `input`; `self` is borrowed mutably, so no other slice of
        // this area lives.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    /// Address and length that words `index` and `index + 1` name, for system
    /// calls with more than one buffer.
    ///
    /// # Errors
    /// `EFAULT` if they do not lie in the data part.
    pub fn raw(&self, index: usize) -> Result<(*mut u8, usize), Errno> {
        self.range(index)
    }

    /// Room for the first bytes of the data part, where the start block goes.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: the data part lies in the area.
        let start = unsafe { self.0.as_ptr().add(DATA_OFFSET) };
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start, DATA_LEN) }
    }

    /// Stores the call's result: a number, or a negated errno.
    pub fn set_result(&mut self, result: i64) {
        // SAFETY: the field lies in the area and is aligned to 8.
        let field = unsafe { self.0.as_ptr().add(RESULT_OFFSET) }.cast::<i64>();
        // SAFETY: as above; the area is writable.
        unsafe { field.write_volatile(result) };
    }

    fn read(&self, offset: usize) -> u64 {
        // SAFETY: callers pass offsets of header fields, which lie in the area.
        let field = unsafe { self.0.as_ptr().add(offset) }.cast::<u64>();
        // SAFETY: as above; header fields are aligned to 8.
        unsafe { field.read_volatile() }
    }

    fn range(&self, index: usize) -> Result<(*mut u8, usize), Errno> {
        let (offset, len) = (self.word(index) as usize, self.word(index + 1) as usize);
        if offset.checked_add(len).is_none_or(|end| end > DATA_LEN) {
            return Err(libc::EFAULT);
        }
        // SAFETY: the sum was checked against the area's length.
        Ok((unsafe { self.0.as_ptr().add(DATA_OFFSET + offset) }, len))
    }
}
