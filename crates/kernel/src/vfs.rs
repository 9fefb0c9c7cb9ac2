// SPDX-License-Identifier: Apache-2.0
//! Files: what processes see, have open and can wait for.
//!
//! | module | what |
//! |---|---|
//! | [`namespace`] | file systems by region, walking paths |
//! | [`hostfs`] | unprotected files of the container |
//! | [`memfs`] | files in enclave memory |
//! | [`protected`] | files that an FSPF pins |
//! | [`startup`] | files bound to MRENCLAVE |
//! | [`agentfs`], [`attestationfs`] | control files of the agent, REPORTs for programs |
//! | [`mod@file`], [`opened`], [`table`] | files, open descriptions, descriptors |
//! | [`pipe`], [`event`], [`timer`], [`epoll`] | files without a name |
//! | [`record_lock`] | advisory locks |

pub mod agentfs;
pub mod attestationfs;
pub(crate) mod bell;
pub mod boot;
pub mod buffer;
pub mod cache;
pub mod clock;
pub mod devfs;
pub mod directory;
pub mod epoll;
pub mod event;
pub mod file;
pub mod filesystem;
pub mod flags;
pub mod hostfs;
pub mod map;
pub mod memfs;
pub mod namespace;
pub mod opened;
pub mod path;
pub mod pipe;
pub mod poll;
pub mod procfs;
pub mod protected;
pub mod readiness;
pub mod record_lock;
pub(crate) mod ring;
pub(crate) mod scratch;
pub mod startup;
pub mod stat;
pub mod stdio;
pub(crate) mod synthetic;
pub mod sysfs;
pub mod table;
pub(crate) mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub mod timer;
pub(crate) mod turn;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

pub use flags::OpenFlags;
pub use map::{MapSource, ReadAt};
pub use namespace::Namespace;
pub use opened::OpenFile;
pub use table::FdTable;

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::Lock;

/// What a process has open, where it stands and what it sees.
#[derive(Debug)]
pub struct ProcessFiles {
    table: Lock<FdTable>,
    cwd: Lock<Vec<u8>>,
    umask: AtomicU32,
    namespace: Lock<Arc<Namespace>>,
}

impl Default for ProcessFiles {
    fn default() -> Self {
        Self::new(
            Arc::new(Namespace::new()),
            FdTable::default(),
            b"/".to_vec(),
        )
    }
}

impl ProcessFiles {
    /// Files of a new process; `cwd` is absolute.
    #[must_use]
    pub fn new(namespace: Arc<Namespace>, table: FdTable, cwd: Vec<u8>) -> Self {
        Self {
            table: Lock::new(table),
            cwd: Lock::new(path::normalise(&cwd)),
            umask: AtomicU32::new(0o022),
            namespace: Lock::new(namespace),
        }
    }

    /// The descriptors. Never keep the lock over anything that may block.
    #[must_use]
    pub fn table(&self) -> &Lock<FdTable> {
        &self.table
    }

    /// The description behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        self.table.lock().get(fd)
    }

    /// Gives a description the lowest free number.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn add(&self, file: Arc<OpenFile>, close_on_exec: bool) -> Result<u64, Errno> {
        self.table.lock().add(file, close_on_exec, 0)
    }

    /// What the process sees.
    #[must_use]
    pub fn namespace(&self) -> Arc<Namespace> {
        Arc::clone(&self.namespace.lock())
    }

    /// Changes what the process sees.
    pub fn set_namespace(&self, namespace: Arc<Namespace>) {
        let old = core::mem::replace(&mut *self.namespace.lock(), namespace);
        drop(old);
    }

    /// Working directory: absolute, without symbolic links.
    #[must_use]
    pub fn cwd(&self) -> Vec<u8> {
        self.cwd.lock().clone()
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, path: Vec<u8>) {
        *self.cwd.lock() = path;
    }

    /// Permission bits that new files do not get.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Changes the mask; the old one comes back.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }

    /// Closes everything at the end of a process.
    pub fn close_all(&self) {
        let files = self.table.lock().close_range(0, u64::MAX, false);
        drop(files);
    }

    /// Closes what closes on exec.
    pub fn close_on_exec(&self) {
        let files = self.table.lock().take_close_on_exec();
        drop(files);
    }
}

/// Opens an absolute or relative path for the calling process, following
/// symbolic links: for the kernel's own needs.
///
/// # Errors
/// open(2)'s.
pub fn open(cx: &Context<'_>, path: &[u8], flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    let files = &cx.process().files;
    files.namespace().open(cx, &files.cwd(), path, flags, 0)
}

/// Bytes that files in enclave memory may hold together.
const MEMORY_LIMIT: u64 = 128 << 20;

static MEMORY: Lock<Option<Arc<memfs::Quota>>> = Lock::new(None);

/// The room that all files in enclave memory share.
#[must_use]
pub fn memory_quota() -> Arc<memfs::Quota> {
    let mut slot = MEMORY.lock();
    Arc::clone(slot.get_or_insert_with(|| memfs::Quota::new(MEMORY_LIMIT)))
}
