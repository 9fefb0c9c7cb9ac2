// SPDX-License-Identifier: Apache-2.0
//! A program's first stack: strings, auxiliary vector, environment, arguments
//! (System V ABI, AMD64 supplement §3.4.1).

use alloc::vec::Vec;

use super::elf::Loaded;
use crate::context::Context;
use crate::errno::Errno;
use crate::memory::area::Label;
use crate::memory::pages::{PAGE, Prot};
use crate::memory::{Memory, Request};

/// Auxiliary vector keys (`elf.h`).
mod at {
    pub(super) const PHDR: u64 = 3;
    pub(super) const PHENT: u64 = 4;
    pub(super) const PHNUM: u64 = 5;
    pub(super) const PAGESZ: u64 = 6;
    pub(super) const BASE: u64 = 7;
    pub(super) const FLAGS: u64 = 8;
    pub(super) const ENTRY: u64 = 9;
    pub(super) const UID: u64 = 11;
    pub(super) const EUID: u64 = 12;
    pub(super) const GID: u64 = 13;
    pub(super) const EGID: u64 = 14;
    pub(super) const PLATFORM: u64 = 15;
    pub(super) const HWCAP: u64 = 16;
    pub(super) const CLKTCK: u64 = 17;
    pub(super) const SECURE: u64 = 23;
    pub(super) const RANDOM: u64 = 25;
    pub(super) const HWCAP2: u64 = 26;
    pub(super) const EXECFN: u64 = 31;
    pub(super) const MINSIGSTKSZ: u64 = 51;
}

/// HWCAP2: FSGSBASE may be used.
const HWCAP2_FSGSBASE: u64 = 2;

/// What the stack is made from.
#[derive(Debug)]
pub struct Content<'a> {
    /// Arguments.
    pub argv: &'a [Vec<u8>],
    /// Environment.
    pub env: &'a [Vec<u8>],
    /// Path of the executable.
    pub path: &'a [u8],
    /// The program.
    pub program: Loaded,
    /// Where its interpreter was loaded; 0 without one.
    pub interpreter: u64,
    /// CPUID.1:EDX.
    pub hwcap: u32,
    /// Room a signal frame needs.
    pub signal_frame: u64,
}

/// Maps a stack of `size` bytes and fills it. Gives RSP and the auxiliary vector.
///
/// # Errors
/// `ENOMEM`, `E2BIG` if the strings take more than a quarter of the stack.
pub fn build(
    cx: &Context<'_>,
    memory: &Memory,
    owner: u32,
    size: u64,
    content: &Content<'_>,
) -> Result<(u64, Vec<u8>), Errno> {
    let size = size.next_multiple_of(PAGE).max(16 * PAGE);
    let guard = memory.map(owner, &Request::anonymous(size + PAGE, Prot::empty()))?;
    let low = guard + PAGE;
    let request = Request {
        addr: low,
        fixed: true,
        label: Label::Stack,
        ..Request::anonymous(size, Prot::R | Prot::W)
    };
    memory.map(owner, &request)?;
    let high = low + size;

    let mut random = [0; 16];
    cx.machine.random(&mut random);
    let mut strings = Vec::new();
    let mut place = |text: &[u8]| {
        let offset = strings.len() as u64;
        strings.extend_from_slice(text);
        strings.push(0);
        offset
    };
    let argv: Vec<u64> = content.argv.iter().map(|text| place(text)).collect();
    let env: Vec<u64> = content.env.iter().map(|text| place(text)).collect();
    let path = place(content.path);
    let platform = place(b"x86_64");
    let random_at = strings.len() as u64;
    strings.extend_from_slice(&random);
    if strings.len() as u64 > size / 4 {
        return Err(Errno::E2BIG);
    }
    let base = (high - strings.len() as u64) & !15;

    let mut words: Vec<u64> = Vec::new();
    words.push(argv.len() as u64);
    words.extend(argv.iter().map(|offset| base + offset));
    words.push(0);
    words.extend(env.iter().map(|offset| base + offset));
    words.push(0);
    let auxv_at = words.len();
    let program = &content.program;
    for (key, value) in [
        (at::PHDR, program.headers),
        (at::PHENT, 56),
        (at::PHNUM, program.header_count.into()),
        (at::PAGESZ, PAGE),
        (at::BASE, content.interpreter),
        (at::FLAGS, 0),
        (at::ENTRY, program.entry),
        (at::UID, 0),
        (at::EUID, 0),
        (at::GID, 0),
        (at::EGID, 0),
        (at::SECURE, 0),
        (at::RANDOM, base + random_at),
        (at::HWCAP, content.hwcap.into()),
        (at::HWCAP2, HWCAP2_FSGSBASE),
        (at::CLKTCK, 100),
        (at::EXECFN, base + path),
        (at::PLATFORM, base + platform),
        (at::MINSIGSTKSZ, content.signal_frame),
        (0, 0),
    ] {
        words.extend([key, value]);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let top = (base - bytes.len() as u64) & !15;
    if top < low + size / 2 {
        return Err(Errno::E2BIG);
    }
    cx.write(base, &strings)?;
    cx.write(top, &bytes)?;
    let auxv = bytes.get(auxv_at * 8..).unwrap_or_default().to_vec();
    Ok((top, auxv))
}
