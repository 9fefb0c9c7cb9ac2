// SPDX-License-Identifier: Apache-2.0
//! `kernel.elf`, checked and cut into pages.

use enclave_abi::entry::GATE_BYTES;
use object::elf::{DT_JMPREL, R_X86_64_RELATIVE};
use object::elf::{DT_NEEDED, DT_REL, DT_RELA, DT_RELASZ, DT_RELR, PT_INTERP, PT_TLS};
use sgx::PAGE_SIZE;
use sgx::secinfo::{PageFlags, SecInfo};
use thiserror::Error;

use super::PlanError;
use crate::elf::{Elf, Segment};

const PAGE: u64 = PAGE_SIZE as u64;
/// Largest kernel image in memory.
const LEN_MAX: u64 = 64 << 20;
/// The RET that follows the gate.
const RET: u8 = 0xc3;

/// Why the kernel breaks a rule.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// Not position-independent, or it wants an interpreter or libraries.
    #[error("It is not a static position-independent executable")]
    NotStaticPie,
    /// It has thread-local storage, which needs FS.
    #[error("It has thread-local storage")]
    ThreadLocal,
    /// No loadable segment, or more memory than allowed.
    #[error("Its loadable segments take {len} bytes, allowed are up to {LEN_MAX}")]
    Size {
        /// Bytes from address 0 to the end of the last segment.
        len: u64,
    },
    /// A segment is both writable and executable.
    #[error("Its segment at {address:#x} is writable and executable")]
    WritableCode {
        /// Where.
        address: u64,
    },
    /// Two segments share a page or are out of order.
    #[error(
        "Its segment at {address:#x} shares a page with the one before (link with -z separate-code -z norelro)"
    )]
    SharedPage {
        /// Where.
        address: u64,
    },
    /// A relocation that the kernel does not apply itself, or a table that is damaged.
    #[error(
        "It has a relocation of type {kind} at {address:#x}, only relative ones in writable pages are applied"
    )]
    Relocation {
        /// `r_type`; 0 stands for a table in another format.
        kind: u32,
        /// Where.
        address: u64,
    },
    /// The entry point is not in an executable segment.
    #[error("Its entry point {address:#x} is not executable")]
    Entry {
        /// Where.
        address: u64,
    },
    /// The gate is missing, doubled or different.
    #[error("It has {count} gates (ENCLU with padding and RET), exactly one is allowed")]
    Gate {
        /// How many were found.
        count: usize,
    },
}

/// One segment's pages.
#[derive(Clone, Debug)]
pub struct Part {
    /// First page's address relative to the kernel's first byte.
    pub offset: u64,
    /// Type and permissions.
    pub secinfo: SecInfo,
    /// Whole pages.
    pub bytes: Vec<u8>,
}

/// The kernel, ready to be placed.
#[derive(Clone, Debug)]
pub struct KernelImage {
    /// Its segments, ascending, without shared pages.
    pub parts: Vec<Part>,
    /// Entry point relative to the first byte.
    pub entry: u64,
    /// The gate relative to the first byte.
    pub gate: u64,
    len: u64,
}

impl KernelImage {
    /// Checks `kernel.elf` and cuts it into pages.
    ///
    /// # Errors
    /// [`PlanError::Elf`] or [`PlanError::Kernel`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        let elf = Elf::parse(bytes).map_err(PlanError::Elf)?;
        Self::from_elf(&elf).map_err(PlanError::Kernel)
    }

    /// Bytes from address 0 to the end of the last page.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: an image without pages is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn from_elf(elf: &Elf<'_>) -> Result<Self, KernelError> {
        let needs = elf
            .dynamic()
            .iter()
            .any(|&(tag, _)| tag == DT_NEEDED.0 as u64);
        if elf.is_fixed() || needs || elf.first_of_kind(PT_INTERP.0).is_some() {
            return Err(KernelError::NotStaticPie);
        }
        if elf
            .first_of_kind(PT_TLS.0)
            .is_some_and(|s| s.memory_size > 0)
        {
            return Err(KernelError::ThreadLocal);
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut end = 0;
        for segment in elf.loads().filter(|s| s.memory_size > 0) {
            let part = cut(elf, segment)?;
            if part.offset < end {
                return Err(KernelError::SharedPage {
                    address: segment.address,
                });
            }
            end = part.offset + part.bytes.len() as u64;
            parts.push(part);
        }
        if end == 0 {
            return Err(KernelError::Size { len: 0 });
        }
        check_relocations(elf)?;
        let entry = elf.entry();
        if !executable(elf, entry) {
            return Err(KernelError::Entry { address: entry });
        }
        Ok(Self {
            entry,
            gate: find_gate(elf)?,
            parts,
            len: end,
        })
    }
}

fn cut(elf: &Elf<'_>, segment: &Segment) -> Result<Part, KernelError> {
    let offset = segment.address / PAGE * PAGE;
    let end = segment.address.saturating_add(segment.memory_size);
    if end > LEN_MAX {
        return Err(KernelError::Size { len: end });
    }
    if segment.write && segment.execute {
        return Err(KernelError::WritableCode {
            address: segment.address,
        });
    }
    let mut flags = PageFlags::R;
    flags.set(PageFlags::W, segment.write);
    flags.set(PageFlags::X, segment.execute);
    let too_large = KernelError::Size { len: end };
    let lead = usize::try_from(segment.address - offset).map_err(|_| too_large)?;
    let total = usize::try_from(end.next_multiple_of(PAGE) - offset).map_err(|_| too_large)?;
    let mut bytes = vec![0; lead];
    bytes.extend_from_slice(elf.segment_bytes(segment));
    bytes.resize(total, 0);
    Ok(Part {
        offset,
        secinfo: SecInfo::reg(flags),
        bytes,
    })
}

fn executable(elf: &Elf<'_>, address: u64) -> bool {
    elf.loads()
        .any(|s| s.execute && (s.address..s.address.saturating_add(s.file_size)).contains(&address))
}

/// The kernel relocates itself; what it cannot do must not be there.
fn check_relocations(elf: &Elf<'_>) -> Result<(), KernelError> {
    let dynamic = elf.dynamic();
    let value = |tag: i64| {
        let found = dynamic.iter().find(|&&(t, _)| t.cast_signed() == tag);
        found.map(|&(_, value)| value)
    };
    for tag in [DT_REL.0, DT_RELR.0, DT_JMPREL.0] {
        if let Some(address) = value(tag) {
            return Err(KernelError::Relocation { kind: 0, address });
        }
    }
    let Some(table) = value(DT_RELA.0) else {
        return Ok(());
    };
    let damaged = KernelError::Relocation {
        kind: 0,
        address: table,
    };
    let len = usize::try_from(value(DT_RELASZ.0).unwrap_or(0)).map_err(|_| damaged)?;
    let bytes = elf.bytes_from(table).and_then(|b| b.get(..len));
    for entry in bytes.ok_or(damaged)?.as_chunks::<24>().0 {
        let (address, rest) = entry.split_first_chunk::<8>().ok_or(damaged)?;
        let address = u64::from_le_bytes(*address);
        let kind = rest.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        let writable = elf.loads().any(|s| {
            let end = s.address.saturating_add(s.memory_size);
            s.write && address >= s.address && address.saturating_add(8) <= end
        });
        if kind != R_X86_64_RELATIVE.0 || !writable {
            return Err(KernelError::Relocation { kind, address });
        }
    }
    Ok(())
}

/// Finds the gate by its bytes: the kernel is shipped without symbols.
fn find_gate(elf: &Elf<'_>) -> Result<u64, KernelError> {
    let mut found = Vec::new();
    for segment in elf.loads().filter(|s| s.execute) {
        let windows = elf.segment_bytes(segment).windows(GATE_BYTES.len() + 1);
        for (at, window) in windows.enumerate() {
            if window.strip_prefix(&GATE_BYTES) == Some(&[RET]) {
                found.push(segment.address + at as u64);
            }
        }
    }
    match found.as_slice() {
        [gate] => Ok(*gate),
        _ => Err(KernelError::Gate { count: found.len() }),
    }
}
