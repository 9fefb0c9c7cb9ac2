// SPDX-License-Identifier: Apache-2.0
//! The page plan: which pages an enclave is made of, in which order, and hence
//! MRENCLAVE.
//!
//! ```text
//! K            boot page                                R
//! K + 0x1000   kernel image, by its program headers     R, RX or RW
//!              manifest, startup list                   R
//! thread 0     TCS; SSA, data page and stacks           RW, zero
//! thread 1…    TCS only
//! ```
//!
//! Every page is measured. `.data.rel.ro` of the kernel stays writable, because
//! the kernel relocates itself at the first entry; hence the kernel must be
//! linked without RELRO and have relative relocations only, which is checked.

mod kernel;

use enclave_abi::boot::{BootPage, Extent};
use enclave_abi::image::{Header, Run};
use enclave_abi::layout::{Layout, SSA_FRAMES, THREADS_MAX, thread};
use enclave_abi::manifest::{Dlopen, Manifest, StartMode};
use enclave_abi::startup::StartupList;
use sgx::PAGE_SIZE;
use sgx::attributes::{Attributes, Flags, MiscSelect, XFRM_ALLOWED};
use sgx::measurement::Measurement;
use sgx::secinfo::{PageFlags, SecInfo};
use sgx::tcs::Tcs;
use thiserror::Error;

pub use kernel::{KernelError, KernelImage, Part};

use crate::elf::ElfError;

const PAGE: u64 = PAGE_SIZE as u64;
/// SSA frame size in pages: XSAVE area of XFRM 0xe7, EXINFO and GPRSGX fit one.
pub const SSA_FRAME_PAGES: u32 = 1;

/// Why no image can be planned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The kernel is not a usable ELF file.
    #[error("The kernel cannot be read")]
    Elf(#[source] ElfError),
    /// The kernel breaks a rule of this module.
    #[error("The kernel cannot be loaded")]
    Kernel(#[source] KernelError),
    /// Heap, stack or threads are out of bounds.
    #[error("{what} of {got} is out of bounds: at least {least}, at most {most}")]
    OutOfBounds {
        /// Which value.
        what: &'static str,
        /// What the manifest says.
        got: u64,
        /// Smallest value.
        least: u64,
        /// Largest value.
        most: u64,
    },
    /// The manifest would not be accepted by the kernel.
    #[error("The manifest contradicts itself")]
    Manifest(#[source] enclave_abi::codec::DecodeError),
    /// The startup list would not be accepted by the kernel.
    #[error("The startup list contradicts itself")]
    Startup(#[source] enclave_abi::codec::DecodeError),
    /// The manifest allows something that only a DEBUG enclave may.
    #[error("{what} is for DEBUG enclaves only")]
    NeedsDebug {
        /// What was asked for.
        what: &'static str,
    },
    /// A file that the manifest names is not in the startup list.
    #[error("{} is not in the startup list", path.escape_ascii())]
    NotListed {
        /// The file's path.
        path: Vec<u8>,
    },
    /// The image is larger than the format allows.
    #[error("The image has more pages than the format allows")]
    TooLarge,
}

/// A planned image.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// The header of `enclave.img`.
    pub header: Header,
    /// The addresses.
    pub layout: Layout,
    /// The measurement.
    pub mrenclave: [u8; 32],
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("layout", &self.layout)
            .field("runs", &self.header.runs.len())
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Image {
    /// The bytes of `enclave.img`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Plans an image.
///
/// `kernel` is `kernel.elf`. With `debug`, ATTRIBUTES has DEBUG. XFRM in the
/// header is the largest allowed value, 0xe7; a host whose XCR0 lacks AVX-512
/// creates the enclave with 0x7 instead, which [`crate::sign`] permits and the
/// kernel reads from its own REPORT.
///
/// # Errors
/// Inputs out of bounds or in contradiction to each other.
pub fn plan(
    kernel: &[u8],
    manifest: &Manifest,
    startup: &StartupList,
    debug: bool,
) -> Result<Image, PlanError> {
    check_manifest(manifest, startup, debug)?;
    let kernel = KernelImage::parse(kernel)?;
    let manifest_bytes = manifest.encode();
    Manifest::decode(&manifest_bytes).map_err(PlanError::Manifest)?;
    let startup_bytes = startup.encode();
    StartupList::decode(&startup_bytes).map_err(PlanError::Startup)?;

    let kernel_at = PAGE;
    let manifest_at = kernel_at + kernel.len();
    let startup_at = manifest_at + pages(manifest_bytes.len()) * PAGE;
    let kernel_len = startup_at + pages(startup_bytes.len()) * PAGE;
    let layout =
        Layout::new(manifest.heap, manifest.threads, kernel_len).ok_or(PlanError::TooLarge)?;
    let base = layout.kernel;
    let boot = BootPage {
        layout,
        kernel_image: Extent {
            offset: base + kernel_at,
            len: kernel.len(),
        },
        manifest: Extent {
            offset: base + manifest_at,
            len: manifest_bytes.len() as u64,
        },
        startup: Extent {
            offset: base + startup_at,
            len: startup_bytes.len() as u64,
        },
    };

    let read_only = SecInfo::reg(PageFlags::R);
    let mut builder = Builder::default();
    builder.bytes(base, read_only, &boot.encode());
    for part in &kernel.parts {
        builder.bytes(base + kernel_at + part.offset, part.secinfo, &part.bytes);
    }
    builder.bytes(base + manifest_at, read_only, &manifest_bytes);
    builder.bytes(base + startup_at, read_only, &startup_bytes);
    let entry = base + kernel_at + kernel.entry;
    for index in 0..layout.thread_count {
        add_thread(&mut builder, layout.thread(index), index, entry);
    }

    let mut flags = Flags::MODE64BIT | Flags::KSS;
    flags.set(Flags::DEBUG, debug);
    let header = Header {
        ssa_frame_size: SSA_FRAME_PAGES,
        elrange: layout.elrange,
        attributes: Attributes {
            flags,
            xfrm: XFRM_ALLOWED,
        },
        miscselect: MiscSelect::EXINFO,
        gate: base + kernel_at + kernel.gate,
        runs: Vec::new(),
    };
    let (header, bytes) = builder.finish(header);
    // The decoder knows every bound of the format; what it refuses must not leave here.
    Header::decode(&bytes, bytes.len() as u64).map_err(|_| PlanError::TooLarge)?;
    let mrenclave = measure(&header, &bytes).ok_or(PlanError::TooLarge)?;
    Ok(Image {
        header,
        layout,
        mrenclave,
        bytes,
    })
}

/// MRENCLAVE of an image file; `None` if a run's bytes lie outside it.
#[must_use]
pub fn measure(header: &Header, file: &[u8]) -> Option<[u8; 32]> {
    let mut measurement = Measurement::ecreate(header.ssa_frame_size, header.elrange);
    for run in &header.runs {
        for index in 0..u64::from(run.pages) {
            let at = run.offset.checked_add(index * PAGE)?;
            let page: &[u8; PAGE_SIZE] = match run.source {
                Some(source) => {
                    let start = usize::try_from(source.checked_add(index * PAGE)?).ok()?;
                    file.get(start..)?.first_chunk()?
                }
                None => &[0; PAGE_SIZE],
            };
            if run.measured {
                measurement.measured_page(at, &run.secinfo, page);
            } else {
                measurement.eadd(at, &run.secinfo);
            }
        }
    }
    Some(measurement.finish())
}

fn check_manifest(
    manifest: &Manifest,
    startup: &StartupList,
    debug: bool,
) -> Result<(), PlanError> {
    use enclave_abi::layout::HEAP_MAX;
    let bounds = [
        ("A heap", manifest.heap, PAGE, HEAP_MAX),
        ("A stack", manifest.stack, 4 * PAGE, manifest.heap),
        (
            "A number of threads",
            u64::from(manifest.threads),
            1,
            u64::from(THREADS_MAX),
        ),
    ];
    for (what, got, least, most) in bounds {
        if got < least || got > most {
            return Err(PlanError::OutOfBounds {
                what,
                got,
                least,
                most,
            });
        }
    }
    if !debug && manifest.start_mode == StartMode::Test {
        return Err(PlanError::NeedsDebug {
            what: "Start mode `test`",
        });
    }
    if !debug && manifest.dlopen == Dlopen::Any {
        return Err(PlanError::NeedsDebug {
            what: "Loading code from unprotected files",
        });
    }
    for path in [&manifest.program, &manifest.agent] {
        if !path.is_empty() && startup.find(path).is_none() {
            return Err(PlanError::NotListed { path: path.clone() });
        }
    }
    Ok(())
}

fn add_thread(builder: &mut Builder, area: u64, index: u32, entry: u64) {
    let tcs = Tcs {
        ossa: area + thread::SSA,
        nssa: SSA_FRAMES,
        oentry: entry,
        ofsbase: 0,
        ogsbase: area + thread::DATA,
    };
    builder.bytes(area + thread::TCS, SecInfo::tcs(), &tcs.to_page());
    if index == 0 {
        // The kernel EACCEPTs these parts of every other thread itself.
        for (from, to) in [
            (thread::SSA, thread::DATA + PAGE),
            (
                thread::EXCEPTION_STACK,
                thread::EXCEPTION_STACK + thread::EXCEPTION_STACK_SIZE,
            ),
            (
                thread::KERNEL_STACK,
                thread::KERNEL_STACK + thread::KERNEL_STACK_SIZE,
            ),
        ] {
            let writable = SecInfo::reg(PageFlags::R | PageFlags::W);
            builder.zeros(area + from, writable, (to - from) / PAGE);
        }
    }
}

fn pages(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(PAGE)
}

/// Collects runs in ascending order and the bytes behind them.
#[derive(Default)]
struct Builder {
    runs: Vec<Run>,
    pages: Vec<u8>,
}

impl Builder {
    /// Adds `bytes`, padded to whole pages. Pages of zeros take no room in the file.
    fn bytes(&mut self, offset: u64, secinfo: SecInfo, bytes: &[u8]) {
        for (at, page) in (offset..).step_by(PAGE_SIZE).zip(bytes.chunks(PAGE_SIZE)) {
            if page.iter().all(|&b| b == 0) {
                self.zeros(at, secinfo, 1);
            } else {
                let source = self.pages.len() as u64;
                self.pages.extend_from_slice(page);
                let whole = self.pages.len().next_multiple_of(PAGE_SIZE);
                self.pages.resize(whole, 0);
                self.add(at, secinfo, 1, Some(source));
            }
        }
    }

    fn zeros(&mut self, offset: u64, secinfo: SecInfo, pages: u64) {
        self.add(offset, secinfo, pages, None);
    }

    fn add(&mut self, offset: u64, secinfo: SecInfo, pages: u64, source: Option<u64>) {
        let Ok(pages) = u32::try_from(pages) else {
            unreachable!("callers add at most a segment, which is bounded far below this");
        };
        if let Some(last) = self.runs.last_mut() {
            let len = u64::from(last.pages) * PAGE;
            let follows = last.offset + len == offset && last.secinfo == secinfo;
            if follows && last.source.map(|start| start + len) == source {
                last.pages += pages;
                return;
            }
        }
        self.runs.push(Run {
            offset,
            pages,
            secinfo,
            measured: true,
            source,
        });
    }

    fn finish(self, mut header: Header) -> (Header, Vec<u8>) {
        let start = Header::encoded_len(self.runs.len()) as u64;
        header.runs = self.runs;
        for run in &mut header.runs {
            run.source = run.source.map(|source| source + start);
        }
        let mut file = header.encode();
        file.extend_from_slice(&self.pages);
        (header, file)
    }
}
