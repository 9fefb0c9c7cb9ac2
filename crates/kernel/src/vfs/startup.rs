// SPDX-License-Identifier: Apache-2.0
//! Startup files: the program, its loader and libraries, the agent. Their
//! content is bound to MRENCLAVE through the measured list, so they may be read
//! before any key is known.

mod file;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::startup::{Role, StartupList};
use shieldfs::digest::{ChunkList, FileDigest};

pub use file::StartupFile;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::cache::ChunkCache;
use crate::vfs::file::File;
use crate::vfs::map::MapSource;
use crate::vfs::path;
use crate::vfs::stat::{FileType, Stat};

/// First inode number of startup files.
const INODES: u64 = 1 << 40;

/// The startup files that one process sees.
#[derive(Debug)]
pub struct StartupFiles {
    files: BTreeMap<Vec<u8>, Arc<Described>>,
}

/// One line of the list.
#[derive(Debug)]
pub(crate) struct Described {
    path: Vec<u8>,
    role: Role,
    chunks: ChunkList,
    sites: Arc<Vec<enclave_abi::startup::Site>>,
    inode: u64,
    cache: Arc<ChunkCache>,
}

impl StartupFiles {
    /// The files of a measured list for which `wanted` holds.
    ///
    /// # Errors
    /// `EINVAL` if a line's sizes do not fit together or a path is not normalised.
    pub fn new(
        list: StartupList,
        cache: &Arc<ChunkCache>,
        wanted: impl Fn(&[u8], Role) -> bool,
    ) -> Result<Arc<Self>, Errno> {
        let mut files = BTreeMap::new();
        for (at, file) in list.files.into_iter().enumerate() {
            if path::normalise(&file.path) != file.path {
                return Err(Errno::EINVAL);
            }
            if !wanted(&file.path, file.role) {
                continue;
            }
            let chunks = ChunkList::new(file.size, file.chunk_size, file.chunks)
                .map_err(|_| Errno::EINVAL)?;
            let described = Described {
                path: file.path.clone(),
                role: file.role,
                chunks,
                sites: Arc::new(file.sites),
                inode: INODES + at as u64,
                cache: Arc::clone(cache),
            };
            files.insert(file.path, Arc::new(described));
        }
        Ok(Arc::new(Self { files }))
    }

    /// The same files seen by another process, or fewer.
    #[must_use]
    pub fn narrowed(&self, wanted: impl Fn(&[u8], Role) -> bool) -> Arc<Self> {
        let files = self
            .files
            .iter()
            .filter(|(path, file)| wanted(path, file.role))
            .map(|(path, file)| (path.clone(), Arc::clone(file)))
            .collect();
        Arc::new(Self { files })
    }

    /// Paths, roles and digests, for the comparison with an FSPF (rule S15).
    pub fn digests(&self) -> impl Iterator<Item = (&[u8], Role, FileDigest)> {
        self.files
            .values()
            .map(|file| (file.path.as_slice(), file.role, file.chunks.digest()))
    }

    /// The file at a path, opened.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> Option<Arc<dyn File>> {
        let described = self.files.get(path)?;
        Some(Arc::new(StartupFile::new(described)))
    }

    /// Metadata of the file at a path.
    #[must_use]
    pub fn stat(&self, path: &[u8]) -> Option<Stat> {
        self.files.get(path).map(|file| file.stat())
    }

    /// Whether a file lies below a directory.
    #[must_use]
    pub fn has_below(&self, directory: &[u8]) -> bool {
        self.files
            .range(directory.to_vec()..)
            .take_while(|(path, _)| path.starts_with(directory))
            .any(|(path, _)| path::below(path, directory).is_some_and(|rest| !rest.is_empty()))
    }

    /// Names in a directory that lead to startup files.
    #[must_use]
    pub fn names_in(&self, directory: &[u8]) -> Vec<(Vec<u8>, Stat)> {
        let mut names = BTreeMap::new();
        for (path, file) in &self.files {
            let Some(rest) = path::below(path, directory) else {
                continue;
            };
            let mut rest = path::components(rest);
            let Some(name) = rest.next() else {
                continue;
            };
            let stat = if rest.next().is_none() {
                file.stat()
            } else {
                super::namespace::bare_stat(&path::join(directory, name))
            };
            names.insert(name.to_vec(), stat);
        }
        names.into_iter().collect()
    }
}

impl Described {
    fn stat(&self) -> Stat {
        let mut stat =
            Stat::new(FileType::Regular, 0o755, self.inode).with_size(self.chunks.size());
        stat.device = 2;
        stat
    }
}

/// The startup file at a path, for the program loader. `path` must be free of
/// symbolic links, as the measured list and the manifest are.
///
/// # Errors
/// `ENOENT` if the list has no such file; the host's errno.
pub fn open(cx: &Context<'_>, path: &[u8]) -> Result<MapSource, Errno> {
    let namespace = cx.process().files.namespace();
    let startup = namespace.startup().ok_or(Errno::ENOENT)?;
    let described = startup.files.get(path).ok_or(Errno::ENOENT)?;
    StartupFile::new(described).map_source(cx)
}
