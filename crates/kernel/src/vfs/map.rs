// SPDX-License-Identifier: Apache-2.0
//! What memory mappings and the program loader read from.

use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::startup::Site;

use crate::errno::Errno;
use crate::host::Machine;

/// Reads bytes that are already verified, if the file is of a protected kind.
pub trait ReadAt: Send + Sync {
    /// Fills `out` from `offset`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// `EIO` when the host's bytes do not verify; the host's errno otherwise.
    fn read_at(&self, machine: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno>;

    /// Whether [`Self::write_at`] works: the file's bytes can be changed.
    fn can_write(&self) -> bool {
        false
    }

    /// Writes bytes of a shared mapping back. Nothing is written behind the end
    /// that the file has now.
    ///
    /// # Errors
    /// `EROFS` if the bytes cannot be changed, the host's errno.
    fn write_at(&self, _machine: &dyn Machine, _offset: u64, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
}

/// A file as a memory mapping sees it. Cheap to clone.
#[derive(Clone)]
pub struct MapSource {
    /// The bytes.
    pub bytes: Arc<dyn ReadAt>,
    /// Length when opened.
    pub size: u64,
    /// Absolute path for /proc/self/maps.
    pub path: Arc<[u8]>,
    /// Whether the bytes are bound to the measurement or to an FSPF: code may
    /// come only from such files unless the manifest allows more.
    pub protected: bool,
    /// A startup file: its code may always run.
    pub startup: bool,
    /// System-call sites, ascending.
    pub sites: Arc<Vec<Site>>,
    /// Bytes that are verified together; reads of whole multiples are cheapest.
    pub chunk: u32,
}

impl core::fmt::Debug for MapSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MapSource")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
