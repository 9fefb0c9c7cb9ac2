// SPDX-License-Identifier: Apache-2.0
//! `enclave.img`: what the host needs to build an enclave, readable without an
//! ELF parser. The SIGSTRUCT lies beside it as `enclave.img.sig`.
//!
//! ```text
//! magic "ENSCIMG1"  version u32  SSA frame size u32 (pages)
//! ELRANGE size u64  ATTRIBUTES 16  MISCSELECT u32  gate offset u64 (from base)
//! runs: count u32, then per run: offset u64, pages u32, SECINFO flags u64,
//!       measured u8, source u64 (file offset, or u64::MAX for zero pages)
//! page bytes, from the next page boundary of the file
//! ```
//!
//! Runs ascend without overlap; pages are added in that order, each followed by
//! its EEXTENDs, which fixes MRENCLAVE.

use alloc::vec::Vec;

use sgx::PAGE_SIZE;
use sgx::attributes::{Attributes, MiscSelect};
use sgx::secinfo::SecInfo;

use crate::codec::{DecodeError, Reader, Writer};

const MAGIC: &[u8; 8] = b"ENSCIMG1";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Most runs of an image.
pub const RUNS_MAX: usize = 1 << 16;
/// Most pages of an image (4 GiB).
pub const PAGES_MAX: u64 = 1 << 20;
/// Name of the image inside a converted container, below [`DIRECTORY`].
pub const FILE_NAME: &str = "enclave.img";
/// Where a converted container keeps launcher, image and agent.
pub const DIRECTORY: &str = "/ensconce";

const ZERO: u64 = u64::MAX;

/// Pages with equal treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the first page.
    pub offset: u64,
    /// Number of pages.
    pub pages: u32,
    /// Type and permissions.
    pub secinfo: SecInfo,
    /// Whether the bytes are EEXTENDed. Always true in images made by this project.
    pub measured: bool,
    /// Where the bytes lie in the file; `None` for zero pages.
    pub source: Option<u64>,
}

/// The header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// SSA frame size in pages.
    pub ssa_frame_size: u32,
    /// Size of ELRANGE.
    pub elrange: u64,
    /// ATTRIBUTES for ECREATE (without INIT).
    pub attributes: Attributes,
    /// MISCSELECT for ECREATE.
    pub miscselect: MiscSelect,
    /// Address of the gate.
    pub gate: u64,
    /// Page table.
    pub runs: Vec<Run>,
}

impl Header {
    /// Encodes the header, padded to a page boundary: `source` offsets start there.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC)
            .u32(VERSION)
            .u32(self.ssa_frame_size)
            .u64(self.elrange);
        w.raw(&self.attributes.to_bytes())
            .u32(self.miscselect.bits())
            .u64(self.gate);
        w.count(self.runs.len());
        for run in &self.runs {
            w.u64(run.offset).u32(run.pages).u64(run.secinfo.bits());
            w.u8(run.measured.into()).u64(run.source.unwrap_or(ZERO));
        }
        let mut out = w.finish();
        out.resize(out.len().next_multiple_of(PAGE_SIZE), 0);
        out
    }

    /// The encoded header's length for this many runs: where page bytes start.
    #[must_use]
    pub fn encoded_len(runs: usize) -> usize {
        (8 + 4 + 4 + 8 + 16 + 4 + 8 + 4 + runs * 29).next_multiple_of(PAGE_SIZE)
    }

    /// Decodes the header of a file of `file_len` bytes, given its beginning.
    ///
    /// # Errors
    /// Anything out of bounds: runs outside ELRANGE, overlapping or unordered,
    /// sources outside the file.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.array::<8>("magic")? != *MAGIC {
            return Err(DecodeError::Invalid {
                field: "magic",
                got: 0,
            });
        }
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(DecodeError::Invalid {
                field: "version",
                got: version.into(),
            });
        }
        let ssa_frame_size = r.u32("SSA frame size")?;
        let elrange = r.u64("ELRANGE size")?;
        if !elrange.is_power_of_two() || elrange > 1 << 46 {
            return Err(DecodeError::Invalid {
                field: "ELRANGE size",
                got: elrange,
            });
        }
        let attributes = Attributes::from_bytes(&r.array("attributes")?);
        let miscselect = MiscSelect::from_bits_retain(r.u32("miscselect")?);
        let gate = r.u64("gate")?;
        let count = r.count("runs", RUNS_MAX)?;
        let mut runs = Vec::with_capacity(count);
        let mut end = 0;
        let mut total = 0;
        for _ in 0..count {
            let run = decode_run(&mut r)?;
            let len = u64::from(run.pages) * PAGE_SIZE as u64;
            total += u64::from(run.pages);
            let in_order = run.offset >= end && run.offset % PAGE_SIZE as u64 == 0;
            end = run.offset.saturating_add(len);
            if !in_order || end > elrange || run.pages == 0 || total > PAGES_MAX {
                return Err(DecodeError::Invalid {
                    field: "run offset",
                    got: run.offset,
                });
            }
            if let Some(source) = run.source
                && source.checked_add(len).is_none_or(|end| end > file_len)
            {
                return Err(DecodeError::Invalid {
                    field: "run source",
                    got: source,
                });
            }
            runs.push(run);
        }
        Ok(Self {
            ssa_frame_size,
            elrange,
            attributes,
            miscselect,
            gate,
            runs,
        })
    }
}

fn decode_run(r: &mut Reader<'_>) -> Result<Run, DecodeError> {
    let offset = r.u64("run offset")?;
    let pages = r.u32("run pages")?;
    let bits = r.u64("SECINFO")?;
    let secinfo = SecInfo::from_bits(bits).ok_or(DecodeError::Invalid {
        field: "SECINFO",
        got: bits,
    })?;
    let measured = r.bool("measured")?;
    let source = Some(r.u64("run source")?).filter(|&source| source != ZERO);
    Ok(Run {
        offset,
        pages,
        secinfo,
        measured,
        source,
    })
}
