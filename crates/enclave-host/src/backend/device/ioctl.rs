// SPDX-License-Identifier: Apache-2.0
//! The driver's calls (Linux `arch/x86/include/uapi/asm/sgx.h`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use sgx::PAGE_SIZE;
use sgx::secinfo::{PageType, SecInfo};
use sgx::sigstruct::Sigstruct;

/// `_IOW` and `_IOWR` of the driver's letter.
const fn request(direction: u64, number: u64, size: usize) -> u64 {
    const MAGIC: u64 = 0xa4;
    direction << 30 | (size as u64) << 16 | MAGIC << 8 | number
}
const WRITE: u64 = 1;
const READ_WRITE: u64 = 3;

const CREATE: u64 = request(WRITE, 0, size_of::<Create>());
const ADD_PAGES: u64 = request(READ_WRITE, 1, size_of::<AddPages>());
const INIT: u64 = request(WRITE, 2, size_of::<Init>());
const RESTRICT: u64 = request(READ_WRITE, 5, size_of::<Restrict>());
const MODIFY_TYPES: u64 = request(READ_WRITE, 6, size_of::<ModifyTypes>());
const REMOVE: u64 = request(READ_WRITE, 7, size_of::<Remove>());
/// `SGX_PAGE_MEASURE`.
const MEASURE: u64 = 1;

#[repr(C)]
struct Create {
    src: u64,
}

#[repr(C)]
struct AddPages {
    src: u64,
    offset: u64,
    length: u64,
    secinfo: u64,
    flags: u64,
    count: u64,
}

#[repr(C)]
struct Init {
    sigstruct: u64,
}

#[repr(C)]
struct Restrict {
    offset: u64,
    length: u64,
    permissions: u64,
    result: u64,
    count: u64,
}

#[repr(C)]
struct ModifyTypes {
    offset: u64,
    length: u64,
    page_type: u64,
    result: u64,
    count: u64,
}

#[repr(C)]
struct Remove {
    offset: u64,
    length: u64,
    count: u64,
}

/// # Safety
/// `argument` is the structure of the request, and what it points to is valid.
unsafe fn ask<T>(file: &File, request: u64, argument: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    match done {
        0 => Ok(()),
        // EINIT's SGX error codes come as positive results.
        code if code > 0 => Err(io::Error::other(format!("SGX error code {code}"))),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn create(file: &File, secs: &[u8; PAGE_SIZE]) -> io::Result<()> {
    let mut argument = Create {
        src: secs.as_ptr() as u64,
    };
    // SAFETY: `secs` is a whole page.
    unsafe { ask(file, CREATE, &mut argument) }
}

/// SECINFO where the processor wants it.
#[repr(C, align(64))]
struct AlignedSecInfo([u8; SecInfo::SIZE]);

/// EADD, and EEXTEND if `measured`, of `source`, whose address is page-aligned.
pub(super) fn add_pages(
    file: &File,
    source: &[u8],
    offset: u64,
    secinfo: &SecInfo,
    measured: bool,
) -> io::Result<()> {
    let secinfo = AlignedSecInfo(secinfo.to_bytes());
    let mut done = 0;
    while done < source.len() as u64 {
        let mut argument = AddPages {
            src: source.as_ptr() as u64 + done,
            offset: offset + done,
            length: source.len() as u64 - done,
            secinfo: secinfo.0.as_ptr() as u64,
            flags: if measured { MEASURE } else { 0 },
            count: 0,
        };
        // SAFETY: `length` bytes from `src` on lie in `source`.
        let result = unsafe { ask(file, ADD_PAGES, &mut argument) };
        done += argument.count;
        go_on(result, argument.count)?;
    }
    Ok(())
}

/// The driver stops early at signals and when memory is short; what it did is
/// in the count.
fn go_on(result: io::Result<()>, count: u64) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => Ok(()),
        Ok(()) if count == 0 => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}

pub(super) fn init(file: &File, sigstruct: &[u8; Sigstruct::SIZE]) -> io::Result<()> {
    let mut argument = Init {
        sigstruct: sigstruct.as_ptr() as u64,
    };
    // SAFETY: `sigstruct` is whole.
    unsafe { ask(file, INIT, &mut argument) }
}

/// Calls `step` with what is left until everything is done.
fn all(len: u64, mut step: impl FnMut(u64) -> (io::Result<()>, u64)) -> Result<(), i32> {
    let mut done = 0;
    while done < len {
        let (result, count) = step(done);
        done += count;
        go_on(result, count).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    }
    Ok(())
}

pub(super) fn restrict(file: &File, offset: u64, len: u64, permissions: u64) -> Result<(), i32> {
    all(len, |done| {
        let mut argument = Restrict {
            offset: offset + done,
            length: len - done,
            permissions,
            result: 0,
            count: 0,
        };
        // SAFETY: the structure holds no pointers.
        let result = unsafe { ask(file, RESTRICT, &mut argument) };
        (result, argument.count)
    })
}

pub(super) fn trim(file: &File, offset: u64, len: u64) -> Result<(), i32> {
    all(len, |done| {
        let mut argument = ModifyTypes {
            offset: offset + done,
            length: len - done,
            page_type: PageType::Trim as u64,
            result: 0,
            count: 0,
        };
        // SAFETY: the structure holds no pointers.
        let result = unsafe { ask(file, MODIFY_TYPES, &mut argument) };
        (result, argument.count)
    })
}

pub(super) fn remove(file: &File, offset: u64, len: u64) -> Result<(), i32> {
    all(len, |done| {
        let mut argument = Remove {
            offset: offset + done,
            length: len - done,
            count: 0,
        };
        // SAFETY: the structure holds no pointers.
        let result = unsafe { ask(file, REMOVE, &mut argument) };
        (result, argument.count)
    })
}

/// Zero pages as a source for EADD.
#[derive(Debug)]
pub(super) struct ZeroPages {
    start: *const u8,
    len: usize,
}

impl ZeroPages {
    pub(super) fn map(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped readable for `len` bytes while `self` lives.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for ZeroPages {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value alone.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernels_header() {
        assert_eq!(CREATE, 0x4008_a400);
        assert_eq!(ADD_PAGES, 0xc030_a401);
        assert_eq!(INIT, 0x4008_a402);
        assert_eq!(RESTRICT, 0xc028_a405);
        assert_eq!(MODIFY_TYPES, 0xc028_a406);
        assert_eq!(REMOVE, 0xc018_a407);
    }

    #[test]
    fn a_file_that_is_no_device_refuses_each_call() {
        let file = File::open("/dev/null").unwrap();
        assert!(create(&file, &[0; PAGE_SIZE]).is_err());
        assert!(init(&file, &[0; Sigstruct::SIZE]).is_err());
        assert_eq!(trim(&file, 0, 4096), Err(libc::ENOTTY));
        let zero = ZeroPages::map(2 * PAGE_SIZE).unwrap();
        assert!(add_pages(&file, zero.as_slice(), 0, &SecInfo::tcs(), true).is_err());
    }
}
