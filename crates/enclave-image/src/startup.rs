// SPDX-License-Identifier: Apache-2.0
//! Startup files: chunk hashes and system-call sites of a closure.

use enclave_abi::startup::{Role, StartupFile, StartupList};
use shieldfs::digest::{CHUNK, chunk_hash};

use crate::closure::Closure;
use crate::elf::ElfError;
use crate::sites;

/// Describes one file.
///
/// # Errors
/// Files that are not 64-bit x86 ELF.
pub fn file(role: Role, path: &[u8], bytes: &[u8]) -> Result<StartupFile, ElfError> {
    let chunk = usize::try_from(CHUNK).unwrap_or(usize::MAX);
    Ok(StartupFile {
        role,
        path: path.to_vec(),
        size: bytes.len() as u64,
        chunk_size: CHUNK,
        chunks: bytes.chunks(chunk).map(chunk_hash).collect(),
        sites: sites::find(bytes)?.sites,
    })
}

/// Describes all files of a closure, in its order.
///
/// # Errors
/// Files that are not 64-bit x86 ELF.
pub fn list(closure: &Closure) -> Result<StartupList, ElfError> {
    let files = closure
        .files
        .iter()
        .map(|f| file(f.role, &f.path, &f.bytes))
        .collect::<Result<_, _>>()?;
    Ok(StartupList { files })
}
