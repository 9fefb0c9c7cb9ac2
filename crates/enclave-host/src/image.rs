// SPDX-License-Identifier: Apache-2.0
//! `enclave.img` and its SIGSTRUCT as files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;

use enclave_abi::boot::BootPage;
use enclave_abi::codec::DecodeError;
use enclave_abi::image::{Header, Run};
use enclave_abi::manifest::Manifest;
use sgx::PAGE_SIZE;
use sgx::measurement::Measurement;
use sgx::sigstruct::Sigstruct;
use thiserror::Error;

/// Largest manifest.
const MANIFEST_MAX: u64 = 64 << 20;

/// Why an image cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read the enclave image")]
    Io(#[from] io::Error),
    /// The header, boot page or manifest does not decode.
    #[error("{part} of the enclave image is damaged")]
    Decode {
        /// Which part.
        part: &'static str,
        /// How.
        source: DecodeError,
    },
    /// A measured part lies in no page of the image.
    #[error("the enclave image lacks the pages of its {part}")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// The SIGSTRUCT file has another size.
    #[error("the signature file has {len} bytes instead of {size}", size = Sigstruct::SIZE)]
    SignatureLength {
        /// Its size.
        len: usize,
    },
}

/// An opened image: the file is mapped, never copied whole.
#[derive(Debug)]
pub struct Image {
    bytes: FileBytes,
    header: Header,
    boot: BootPage,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
}

impl Image {
    /// Opens an image and decodes header, boot page and manifest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(file: &File) -> Result<Self, ImageError> {
        let bytes = FileBytes::map(file)?;
        let whole = bytes.as_slice();
        let header = Header::decode(whole, whole.len() as u64).map_err(decode("the header"))?;
        let first = header
            .runs
            .first()
            .and_then(|run| page_bytes(whole, run))
            .ok_or(ImageError::Missing { part: "boot page" })?;
        let boot = BootPage::decode(first.get(..PAGE_SIZE).unwrap_or(first))
            .map_err(decode("the boot page"))?;
        let manifest_bytes = collect(whole, &header, boot.manifest.offset, boot.manifest.len)
            .ok_or(ImageError::Missing { part: "manifest" })?;
        let manifest = Manifest::decode(&manifest_bytes).map_err(decode("the manifest"))?;
        Ok(Self {
            header,
            boot,
            manifest,
            manifest_bytes,
            bytes,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The boot page.
    #[must_use]
    pub fn boot(&self) -> &BootPage {
        &self.boot
    }

    /// The measured configuration.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's encoded form.
    #[must_use]
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The pages of a run; `None` if they are zero.
    #[must_use]
    pub fn run_bytes(&self, run: &Run) -> Option<&[u8]> {
        page_bytes(self.bytes.as_slice(), run)
    }

    /// MRENCLAVE, from the file alone.
    #[must_use]
    pub fn mrenclave(&self) -> [u8; 32] {
        let mut stream = Measurement::ecreate(self.header.ssa_frame_size, self.header.elrange);
        let zero = [0; PAGE_SIZE];
        for run in &self.header.runs {
            let pages = self
                .run_bytes(run)
                .map(|bytes| bytes.as_chunks::<PAGE_SIZE>().0);
            let mut offset = run.offset;
            for index in 0..run.pages as usize {
                let page = pages.and_then(|pages| pages.get(index)).unwrap_or(&zero);
                if run.measured {
                    stream.measured_page(offset, &run.secinfo, page);
                } else {
                    stream.eadd(offset, &run.secinfo);
                }
                offset += PAGE_SIZE as u64;
            }
        }
        stream.finish()
    }
}

fn decode(part: &'static str) -> impl Fn(DecodeError) -> ImageError {
    move |source| ImageError::Decode { part, source }
}

fn page_bytes<'a>(file: &'a [u8], run: &Run) -> Option<&'a [u8]> {
    let start = usize::try_from(run.source?).ok()?;
    let len = run.pages as usize * PAGE_SIZE;
    file.get(start..start.checked_add(len)?)
}

/// The bytes that lie at `offset` in the enclave.
fn collect(file: &[u8], header: &Header, offset: u64, len: u64) -> Option<Vec<u8>> {
    if len > MANIFEST_MAX {
        return None;
    }
    let mut out = Vec::new();
    let end = offset.checked_add(len)?;
    let mut at = offset;
    while at < end {
        let run = header.runs.iter().find(|run| {
            let run_end = run.offset + u64::from(run.pages) * PAGE_SIZE as u64;
            (run.offset..run_end).contains(&at)
        })?;
        let run_end = run.offset + u64::from(run.pages) * PAGE_SIZE as u64;
        let from = usize::try_from(at - run.offset).ok()?;
        let to = usize::try_from(end.min(run_end) - run.offset).ok()?;
        match page_bytes(file, run) {
            Some(bytes) => out.extend_from_slice(bytes.get(from..to)?),
            None => out.resize(out.len() + (to - from), 0),
        }
        at = end.min(run_end);
    }
    Some(out)
}

/// Reads a SIGSTRUCT file.
///
/// # Errors
/// [`ImageError`].
pub fn read_sigstruct(file: &mut File) -> Result<[u8; Sigstruct::SIZE], ImageError> {
    let mut bytes = Vec::new();
    file.take(Sigstruct::SIZE as u64 + 1)
        .read_to_end(&mut bytes)?;
    let len = bytes.len();
    bytes
        .try_into()
        .map_err(|_| ImageError::SignatureLength { len })
}

/// A private read-only mapping of a file.
#[derive(Debug)]
struct FileBytes {
    start: *const u8,
    len: usize,
}

// SAFETY: the mapping is read-only and belongs to the value.
unsafe impl Send for FileBytes {}
// SAFETY: as above.
unsafe impl Sync for FileBytes {}

impl FileBytes {
    fn map(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes while `self` lives. Whoever can write
        // the file can end this process with SIGBUS or change bytes between two
        // reads; neither gains anything, EINIT compares the measurement.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for FileBytes {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value alone.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
    }
}
