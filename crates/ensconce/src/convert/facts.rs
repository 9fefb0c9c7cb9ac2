// SPDX-License-Identifier: Apache-2.0
//! What follows from a file's content alone: chunk hashes and syscall sites.
//! Found once per file, whatever stage asks first.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use enclave_abi::startup::{Role, Site, StartupFile};
use enclave_image::elf::ElfError;
use enclave_image::root::FILE_MAX;
use enclave_image::{sites, startup};
use oci::root::FileData;
use oci::slice::FileSlice;
use shieldfs::digest::{ChunkList, DigestError};

/// Bytes that tell an ELF file from others.
const HEAD: usize = 20;

/// What is known about one file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its chunk hashes.
    pub(crate) list: ChunkList,
    /// Where it has `syscall` instructions; empty for all but programs and
    /// libraries.
    pub(crate) sites: Vec<Site>,
}

impl Known {
    /// Looks at a program or library.
    ///
    /// # Errors
    /// [`LookError`] for anything but 64-bit x86 ELF.
    pub(crate) fn of_code(bytes: &[u8]) -> Result<Self, LookError> {
        let file = startup::file(Role::Library, b"/", bytes)?;
        Ok(Self::of_startup(&file)?)
    }

    /// Learns from a startup file, which was looked at already.
    pub(crate) fn of_startup(file: &StartupFile) -> Result<Self, DigestError> {
        Ok(Self {
            list: ChunkList::new(file.size, file.chunk_size, file.chunks.clone())?,
            sites: file.sites.clone(),
        })
    }

    /// The startup file at `path` with this content.
    pub(crate) fn to_startup(&self, role: Role, path: &[u8]) -> StartupFile {
        StartupFile {
            role,
            path: path.to_vec(),
            size: self.list.size(),
            chunk_size: self.list.chunk_size(),
            chunks: self.list.hashes().to_vec(),
            sites: self.sites.clone(),
        }
    }
}

/// The flat form in which a sealed tree carries sites.
pub(crate) fn words(sites: &[Site]) -> Vec<u32> {
    sites.iter().copied().flat_map(Site::to_words).collect()
}

/// Sites of a file if it is code for this machine. Files that only look like
/// it have none: a `syscall` that is not listed works, only slower.
pub(crate) fn sites_of(content: &FileSlice) -> io::Result<Vec<Site>> {
    let mut head = [0; HEAD];
    let read = content.read_at(0, &mut head)?;
    // ELF specification, "ELF Header": class 2 is 64-bit, data 1 is
    // little-endian, types 2 and 3 are programs and libraries, machine 62 is
    // x86-64.
    let is_code = read == HEAD
        && head.starts_with(b"\x7fELF\x02\x01")
        && matches!(head.get(16..), Some([2 | 3, 0, 62, 0]));
    if !is_code || content.len() > FILE_MAX {
        return Ok(Vec::new());
    }
    let file = content.read_all(FILE_MAX)?;
    Ok(sites::find(&file).map_or_else(|_| Vec::new(), |found| found.sites))
}

/// All that is known so far.
#[derive(Debug, Default)]
pub(crate) struct Facts(HashMap<FileData, Arc<Known>>);

impl Facts {
    /// What is known about a file.
    pub(crate) fn get(&self, data: &FileData) -> Option<Arc<Known>> {
        self.0.get(data).map(Arc::clone)
    }

    /// All files that something is known about.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FileData, &Arc<Known>)> {
        self.0.iter()
    }

    /// Takes over what is known from elsewhere.
    pub(crate) fn share(&mut self, data: FileData, known: Arc<Known>) {
        self.0.insert(data, known);
    }

    /// Remembers a file.
    pub(crate) fn learn(&mut self, data: FileData, known: Known) {
        self.0.insert(data, Arc::new(known));
    }

    /// The startup file with this content, looked at only if need be.
    ///
    /// # Errors
    /// [`LookError`] for anything but 64-bit x86 ELF.
    pub(crate) fn startup_file(
        &mut self,
        data: FileData,
        role: Role,
        path: &[u8],
        bytes: &[u8],
    ) -> Result<StartupFile, LookError> {
        if let Some(known) = self.get(&data) {
            return Ok(known.to_startup(role, path));
        }
        let file = startup::file(role, path, bytes)?;
        self.learn(data, Known::of_startup(&file)?);
        Ok(file)
    }
}

/// Why a file cannot be a startup file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error(transparent)]
    Size(#[from] DigestError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(bytes: &[u8]) -> FileSlice {
        FileSlice::spool(&std::env::temp_dir(), bytes).expect("spool")
    }

    #[test]
    fn sites_are_looked_for_in_code_only() {
        let own = std::fs::read("/proc/self/exe").expect("this program");
        assert!(!sites_of(&spooled(&own)).expect("read").is_empty());
        for (at, value) in [(0, 0), (4, 1), (5, 2), (16, 1), (18, 183)] {
            let mut other = own.clone();
            other[at] = value;
            let sites = sites_of(&spooled(&other)).expect("read");
            assert_eq!(sites, [], "byte {at}");
        }
        assert_eq!(sites_of(&spooled(&own[..HEAD - 1])).expect("read"), []);
        // Damaged behind its first bytes.
        assert_eq!(sites_of(&spooled(&own[..HEAD])).expect("read"), []);
    }

    #[test]
    fn what_is_known_survives_the_way_through_a_startup_file() {
        let own = std::fs::read("/proc/self/exe").expect("this program");
        let file = startup::file(Role::Library, b"/lib/x.so", &own).expect("ELF");
        let known = Known::of_startup(&file).expect("sizes");
        assert_eq!(known.to_startup(Role::Library, b"/lib/x.so"), file);
    }
}
