// SPDX-License-Identifier: Apache-2.0
//! Finds the `syscall` instructions of an ELF file and says how each may be
//! replaced by a jump.
//!
//! A `syscall` inside an enclave faults; the kernel can serve the fault, but a
//! jump is an order of magnitude cheaper. Rewriting needs certainty that the
//! replaced bytes are whole instructions, mean the same elsewhere, and that
//! nothing jumps between them. Whatever is not certain is left out: an unlisted
//! `syscall` works, only slower.
//!
//! Where instructions begin is known from the symbols, from the unwind table
//! and, between them, from decoding on. Code that neither symbol nor unwind
//! table covers might be data; there a site counts only if it looks like a
//! system call on both the byte and the instruction level.

mod choose;
mod code;
mod replay;
mod sweep;
mod unwind;

use enclave_abi::startup::{SITES_MAX, Site};

use crate::elf::{Elf, ElfError};
use code::CodeMap;

/// What was found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// The sites, ascending by offset in the file.
    pub sites: Vec<Site>,
    /// How many `syscall` instructions the decoder met, listed or not.
    pub decoded: usize,
}

/// Finds the sites of one file.
///
/// # Errors
/// Anything but a 64-bit x86 ELF file, or one whose code overlaps itself.
pub fn find(file: &[u8]) -> Result<Sites, ElfError> {
    let elf = Elf::parse(file)?;
    let mut code = CodeMap::new(&elf)?;
    code.mark_pointers(file);
    code.mark_starts(&elf, &unwind::functions(&elf));
    let swept = sweep::sweep(&mut code, elf.is_fixed());
    code.mark_jump_tables(&elf, swept.tables);
    let mut sites: Vec<Site> = Vec::new();
    let mut free_from = 0;
    for candidate in &swept.candidates {
        if let Some((site, end)) = choose::choose(&code, candidate, free_from) {
            free_from = end;
            sites.push(site);
        }
    }
    sites.sort_unstable();
    sites.dedup_by_key(|site| site.at);
    sites.truncate(SITES_MAX);
    Ok(Sites {
        sites,
        decoded: swept.decoded,
    })
}
