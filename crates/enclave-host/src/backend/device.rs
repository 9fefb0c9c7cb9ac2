// SPDX-License-Identifier: Apache-2.0
//! The SGX device as a backend: Linux 6.0 or later with EDMM.
//!
//! Written after the driver's interface (`arch/x86/include/uapi/asm/sgx.h`) and
//! the SDM; **no machine with SGX2 was at hand**, so nothing beyond the
//! structures' sizes and the refusals has been executed. For the first run on a
//! real machine, in this order:
//!
//! 1. `/dev/sgx_enclave` is readable and writable, `/dev` not mounted noexec;
//! 2. `vm.mmap_min_addr` is at most 65536;
//! 3. `SCONE_HASH=1` prints the MRENCLAVE of the SIGSTRUCT;
//! 4. ECREATE, EADD, EINIT succeed (each failure names its step);
//! 5. a program that only exits; then `strict` emulation as the comparison.

mod ioctl;
mod processor;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use enclave_abi::layout::USER_START;
use sgx::PAGE_SIZE;
use sgx::secinfo::{PageFlags, PageType, SecInfo};
use sgx::secs::Secs;
use sgx::sigstruct::Sigstruct;

use super::{Backend, BackendError, Building, Identity, Processor, SignalCallback};
use crate::image::Image;
use crate::private;

/// Devices in the order in which they are tried.
pub const PATHS: [&str; 5] = [
    "/dev/sgx_enclave",
    "/dev/sgx/enclave",
    "/dev/sgx/sgx_enclave",
    "/dev/sgx",
    "/dev/isgx",
];
/// How many of them belong to the driver of the Linux kernel; the others have
/// another interface.
const OF_LINUX: usize = 2;

/// The first device that exists.
#[must_use]
pub fn find() -> Option<&'static str> {
    PATHS
        .into_iter()
        .find(|path| Path::new(path).exists() && !Path::new(path).is_dir())
}

/// ECREATE on the device.
///
/// # Errors
/// [`BackendError::NoDevice`], [`BackendError::ForeignDriver`], or a refused
/// step.
pub fn create(image: &Image, identity: &Identity) -> Result<Box<dyn Building>, BackendError> {
    let path = find().ok_or(BackendError::NoDevice)?;
    if !PATHS.iter().take(OF_LINUX).any(|known| *known == path) {
        return Err(BackendError::ForeignDriver { path });
    }
    let failed = |step| move |source| BackendError::Device { path, step, source };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed("to be opened"))?;
    let file = File::from(private::keep(opened.as_fd()).map_err(failed("to be kept"))?);
    drop(opened);
    let header = image.header();
    let mut attributes = header.attributes;
    attributes.xfrm = identity.xfrm;
    let secs = Secs {
        size: header.elrange,
        base: 0,
        ssa_frame_size: header.ssa_frame_size,
        miscselect: header.miscselect,
        attributes,
        mrenclave: [0; 32],
        mrsigner: [0; 32],
        config_id: identity.config_id,
        isv_prod_id: 0,
        isv_svn: 0,
        config_svn: 0,
        isv_ext_prod_id: [0; 16],
        isv_family_id: [0; 16],
    };
    let device = Device { path, file };
    device
        .reserve(header.elrange)
        .map_err(failed("addresses for the enclave"))?;
    ioctl::create(&device.file, &secs.creation_page()).map_err(failed("ECREATE"))?;
    Ok(Box::new(DeviceBuilding {
        device,
        size: header.elrange,
        added: Vec::new(),
    }))
}

#[derive(Debug)]
struct Device {
    path: &'static str,
    file: File,
}

impl Device {
    fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> BackendError + use<> {
        let path = self.path;
        move |source| BackendError::Device { path, step, source }
    }

    /// Takes ELRANGE before anything else of this process comes to lie in it.
    fn reserve(&self, size: u64) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        let len = (size - USER_START) as usize;
        // SAFETY: NOREPLACE makes the kernel refuse to touch existing mappings.
        let start = unsafe { libc::mmap(USER_START as *mut _, len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Maps enclave memory with this access, in place of the reservation.
    fn map(&self, start: u64, end: u64, access: i32) -> io::Result<()> {
        if start == end {
            return Ok(());
        }
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let (address, len) = (start as *mut libc::c_void, (end - start) as usize);
        // SAFETY: the range lies in ELRANGE, which `reserve` has taken and in
        // which no Rust value lives.
        let mapped = unsafe { libc::mmap(address, len, access, flags, self.file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

struct DeviceBuilding {
    device: Device,
    size: u64,
    /// Start, end and access of what was added, ascending.
    added: Vec<(u64, u64, i32)>,
}

impl Building for DeviceBuilding {
    fn add_pages(
        &mut self,
        offset: u64,
        pages: u32,
        secinfo: &SecInfo,
        bytes: Option<&[u8]>,
        measured: bool,
    ) -> Result<(), BackendError> {
        let failed = self.device.failed("EADD");
        let len = u64::from(pages) * PAGE_SIZE as u64;
        let zero;
        let source = match bytes {
            Some(bytes) => bytes,
            None => {
                zero = ioctl::ZeroPages::map(len as usize).map_err(&failed)?;
                zero.as_slice()
            }
        };
        ioctl::add_pages(&self.device.file, source, offset, secinfo, measured).map_err(&failed)?;
        self.added.push((offset, offset + len, access(secinfo)));
        Ok(())
    }

    fn init(
        self: Box<Self>,
        sigstruct: &[u8; Sigstruct::SIZE],
        _gate: u64,
    ) -> Result<Arc<dyn Backend>, BackendError> {
        ioctl::init(&self.device.file, sigstruct).map_err(self.device.failed("EINIT"))?;
        // A mapping may ask for no more than its pages have: what was added gets
        // its own access, dynamic memory between it everything.
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let failed = self
            .device
            .failed("to map the enclave (is /dev mounted noexec?)");
        let mut at = USER_START;
        for &(start, end, access) in &self.added {
            self.device.map(at, start, all).map_err(&failed)?;
            self.device.map(start, end, access).map_err(&failed)?;
            at = end;
        }
        self.device.map(at, self.size, all).map_err(&failed)?;
        Ok(Arc::new(Enclave {
            device: self.device,
        }))
    }
}

fn access(secinfo: &SecInfo) -> i32 {
    if secinfo.page_type == PageType::Tcs {
        return libc::PROT_READ | libc::PROT_WRITE;
    }
    [
        (PageFlags::R, libc::PROT_READ),
        (PageFlags::W, libc::PROT_WRITE),
        (PageFlags::X, libc::PROT_EXEC),
    ]
    .into_iter()
    .filter(|(flag, _)| secinfo.flags.contains(*flag))
    .fold(libc::PROT_NONE, |access, (_, bit)| access | bit)
}

struct Enclave {
    device: Device,
}

impl Backend for Enclave {
    fn install_signals(
        &self,
        signals: &[i32],
        callback: SignalCallback,
    ) -> Result<(), BackendError> {
        processor::install(signals, callback).map_err(BackendError::Signals)
    }

    fn attach(
        &self,
        tcs: u64,
        pending: &Arc<AtomicU64>,
    ) -> Result<Option<Box<dyn Processor>>, BackendError> {
        let attached = processor::HardwareProcessor::attach(tcs, pending)
            .map_err(self.device.failed("a thread"))?;
        Ok(Some(Box::new(attached)))
    }

    fn restrict(&self, address: u64, len: u64, permissions: u64) -> Result<(), i32> {
        ioctl::restrict(&self.device.file, address, len, permissions)
    }

    fn trim(&self, address: u64, len: u64) -> Result<(), i32> {
        ioctl::trim(&self.device.file, address, len)
    }

    fn remove(&self, address: u64, len: u64) -> Result<(), i32> {
        ioctl::remove(&self.device.file, address, len)
    }
}
