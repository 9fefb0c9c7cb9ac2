// SPDX-License-Identifier: Apache-2.0
//! The files of new processes.

use alloc::vec::Vec;

use enclave_abi::manifest::{ProgramConfig, StartMode};
use enclave_abi::startup::StartupList;

use super::{
    cache::ChunkCache, hostfs::HostFs, namespace::Namespace, startup::StartupFiles, stdio,
};
use crate::context::Context;
use crate::errno::Errno;
use crate::process::start::Boot;

/// Bytes of verified chunks that are kept.
const CACHE: usize = 8 << 20;

/// Sets up the files of process 1.
///
/// # Errors
/// `EINVAL` for a startup list that does not fit together.
pub fn first(cx: &Context<'_>, facts: &'static Boot, startup: StartupList) -> Result<(), Errno> {
    let cache = ChunkCache::new(CACHE);
    let startup = StartupFiles::new(startup, &cache, |_, _| true)?;
    let mut namespace = Namespace::new().with_startup(startup);
    if facts.manifest.start_mode == StartMode::Test {
        namespace = namespace.with(b"/", HostFs::new());
    }
    let files = &cx.process().files;
    files.set_namespace(alloc::sync::Arc::new(namespace));
    *files.table().lock() = stdio::table(cx);
    if facts.manifest.start_mode == StartMode::Test {
        files.set_cwd(facts.block.cwd.clone());
    }
    Ok(())
}

/// Sets up the files of the program that the agent starts; `cx` is the program's.
///
/// # Errors
/// `ENOSYS`: nothing is mounted yet.
pub fn program(_cx: &Context<'_>, _config: &ProgramConfig) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

/// Path of an interpreter, symbolic links resolved.
///
/// # Errors
/// As open(2).
pub fn loader_path(cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let files = &cx.process().files;
    let (path, _) = files.namespace().real_path(cx, &files.cwd(), path)?;
    Ok(path)
}
