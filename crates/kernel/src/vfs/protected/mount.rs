// SPDX-License-Identifier: Apache-2.0
//! From an FSPF to what the program sees.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::start::Inject;
use shieldfs::key::{FspfKey, FspfTag};
use shieldfs::region::Class;
use thiserror::Error;

use super::{ProtectedFs, Tree, is_normal, report};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::cache::ChunkCache;
use crate::vfs::filesystem::FileSystem;
use crate::vfs::hostfs::HostFs;
use crate::vfs::memfs::{MemFs, Quota};
use crate::vfs::namespace::Namespace;
use crate::vfs::startup::StartupFiles;

/// Why an FSPF was not mounted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountError {
    /// It cannot be read, or is not the one that key and tag belong to.
    #[error("the FSPF is refused: {0:?}")]
    Fspf(Errno),
    /// A startup file is not in the tree, or is another one (rule S15).
    #[error("startup file `{path}` and the FSPF disagree")]
    Disagreement {
        /// The startup file.
        path: String,
    },
}

/// Opens an FSPF and compares it with the measured startup list: what runs before
/// any key is known must be what the session's tree pins.
///
/// # Errors
/// [`MountError`].
pub fn mount(
    cx: &Context<'_>,
    path: &[u8],
    key: &FspfKey,
    tag: FspfTag,
    startup: &StartupFiles,
    cache: &Arc<ChunkCache>,
    debug: bool,
) -> Result<Arc<Tree>, MountError> {
    let tree = Tree::open(cx.machine, path, key, tag, cache, debug).map_err(MountError::Fspf)?;
    for (path, _, digest) in startup.digests() {
        let entry = tree.lookup(path).map_err(MountError::Fspf)?;
        let agrees = entry
            .as_ref()
            .and_then(|entry| entry.file())
            .is_some_and(|content| *content.digest() == digest);
        if !agrees {
            let error = MountError::Disagreement {
                path: String::from_utf8_lossy(path).into_owned(),
            };
            report(cx.machine, debug, &alloc::format!("{error}"));
            return Err(error);
        }
    }
    Ok(tree)
}

/// Gives the file system that the kernel makes up for a region, if there is one.
pub(super) type Synthetic<'a> = dyn Fn(&[u8]) -> Option<Arc<dyn FileSystem>> + 'a;

/// The file systems of a program: one for each region of the tree's table, and
/// one for each injected file.
///
/// # Errors
/// `ENOSPC` if injected files exceed the quota, `EIO` if the tree's bytes do not
/// verify, `EINVAL` for an injected path that is not normalised.
pub fn namespace(
    cx: &Context<'_>,
    tree: &Arc<Tree>,
    startup: Arc<StartupFiles>,
    injected: &[Inject],
    quota: &Arc<Quota>,
    synthetic: &Synthetic<'_>,
) -> Result<Namespace, Errno> {
    let protected: Arc<dyn FileSystem> = ProtectedFs::new(tree);
    let host: Arc<dyn FileSystem> = HostFs::new();
    let regions: Vec<(Vec<u8>, Class)> = {
        let fspf = tree.fspf.lock();
        let all = fspf.regions().iter();
        all.map(|(path, class)| (path.to_vec(), class)).collect()
    };
    let mut namespace = Namespace::new().with(b"/", Arc::clone(&protected));
    for (path, class) in regions {
        let fs = match class {
            Class::Encrypted | Class::Authenticated => Arc::clone(&protected),
            Class::Ephemeral => ephemeral(cx, &path, &protected, quota)?,
            Class::HostPath | Class::Plain => Arc::clone(&host),
            // Without its file system a synthetic region is empty, never the host's.
            Class::Synthetic => match synthetic(&path) {
                Some(fs) => fs,
                None => MemFs::new(cx, &path, 0o555, quota),
            },
            // A class that this version does not know is not served.
            _ => return Err(Errno::EINVAL),
        };
        namespace = namespace.with(&path, fs);
    }
    for file in injected {
        if !is_normal(&file.path) {
            return Err(Errno::EINVAL);
        }
        let fs = MemFs::single(cx, &file.path, file.mode, &file.content, quota)?;
        namespace = namespace.with(&file.path, fs);
    }
    Ok(namespace.with_startup(startup))
}

/// Enclave memory over what the tree lists there.
fn ephemeral(
    cx: &Context<'_>,
    path: &[u8],
    lower: &Arc<dyn FileSystem>,
    quota: &Arc<Quota>,
) -> Result<Arc<dyn FileSystem>, Errno> {
    const STICKY: u32 = 0o1777;
    let mode = match lower.stat(cx, path) {
        Ok(stat) => stat.mode & 0o7777,
        Err(Errno::ENOENT) => STICKY,
        Err(errno) => return Err(errno),
    };
    let fs = MemFs::new(cx, path, mode, quota);
    fs.fill_from(cx, lower)?;
    Ok(fs)
}
