// SPDX-License-Identifier: Apache-2.0
//! The files of new processes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::manifest::{Manifest, ProgramConfig, RegionClass, StartMode};
use enclave_abi::start::DIRECTORY;
use enclave_abi::startup::{Role, StartupList};

use super::agentfs::AgentFs;
use super::attestationfs::{self, AttestationFs};
use super::filesystem::FileSystem;
use super::memfs::{MemFs, Quota};
use super::stat::FileType;
use super::{
    cache::ChunkCache, hostfs::HostFs, namespace::Namespace, protected, startup::StartupFiles,
    stdio,
};
use crate::context::Context;
use crate::errno::Errno;
use crate::process::start::Boot;
use crate::sync::Lock;

/// Bytes of verified chunks that are kept.
const CACHE: usize = 8 << 20;

/// The agent's files, while there is an agent.
static AGENT: Lock<Option<Arc<AgentFs>>> = Lock::new(None);

/// Sets up the files of process 1.
///
/// # Errors
/// `EINVAL` for a startup list that does not fit together.
pub fn first(cx: &Context<'_>, facts: &'static Boot, startup: StartupList) -> Result<(), Errno> {
    let cache = ChunkCache::new(CACHE);
    let startup = StartupFiles::new(startup, &cache, |_, _| true)?;
    let mode = facts.manifest.start_mode;
    let namespace = match mode {
        StartMode::Test | StartMode::Standalone => by_regions(cx, &facts.manifest, startup)
            .with(attestationfs::DIRECTORY, AttestationFs::new()),
        StartMode::Session => agents(cx, facts, &startup, &cache),
    };
    let files = &cx.process().files;
    files.set_namespace(Arc::new(namespace));
    *files.table().lock() = stdio::table(cx);
    let cwd = match (mode, &facts.manifest.standalone) {
        (StartMode::Test, _) => facts.block.cwd.as_slice(),
        (StartMode::Standalone, Some(config)) => config.cwd.as_slice(),
        _ => b"/",
    };
    // A directory that does not exist inside is the root's.
    let found = files.namespace().real_path(cx, b"/", cwd);
    if let Ok((cwd, stat)) = found
        && stat.kind() == FileType::Directory
    {
        files.set_cwd(cwd);
    }
    Ok(())
}

/// What a program without an agent sees: the manifest's regions. In `test` mode
/// the whole container lies behind them.
fn by_regions(cx: &Context<'_>, manifest: &Manifest, startup: Arc<StartupFiles>) -> Namespace {
    let host: Arc<dyn FileSystem> = HostFs::new();
    let quota = super::memory_quota();
    let mut namespace = Namespace::new();
    if manifest.start_mode == StartMode::Test {
        namespace = namespace.with(b"/", Arc::clone(&host));
        // What the kernel itself answers is never the host's to answer.
        for prefix in SYNTHETIC {
            if let Some(fs) = synthetic(cx, prefix) {
                namespace = namespace.with(prefix, fs);
            }
        }
    }
    for region in &manifest.regions {
        let fs = match region.class {
            RegionClass::HostPath => Some(Arc::clone(&host)),
            RegionClass::Synthetic => synthetic(cx, &region.path),
            RegionClass::Ephemeral => Some(ephemeral(cx, &region.path, &quota)),
        };
        if let Some(fs) = fs {
            namespace = namespace.with(&region.path, fs);
        }
    }
    namespace.with_startup(startup)
}

fn ephemeral(cx: &Context<'_>, path: &[u8], quota: &Arc<Quota>) -> Arc<dyn FileSystem> {
    // /tmp and its like are everybody's, /run is root's.
    let is_shared = matches!(path, b"/tmp" | b"/var/tmp" | b"/dev/shm");
    let permissions = if is_shared { 0o1777 } else { 0o755 };
    MemFs::new(cx, path, permissions, quota)
}

/// What the agent sees: itself, its control files, and the regions that need no
/// FSPF. The rest of the container does not exist for it.
fn agents(
    cx: &Context<'_>,
    facts: &'static Boot,
    startup: &Arc<StartupFiles>,
    cache: &Arc<ChunkCache>,
) -> Namespace {
    let agent = AgentFs::new(facts, startup, cache);
    *AGENT.lock() = Some(Arc::clone(&agent));
    let host: Arc<dyn FileSystem> = HostFs::new();
    let mut namespace = Namespace::new();
    for region in &facts.manifest.regions {
        let fs = match region.class {
            RegionClass::HostPath => Some(Arc::clone(&host)),
            RegionClass::Synthetic => synthetic(cx, &region.path),
            RegionClass::Ephemeral => None,
        };
        if let Some(fs) = fs {
            namespace = namespace.with(&region.path, fs);
        }
    }
    namespace
        .with(DIRECTORY.as_bytes(), agent)
        .with_startup(startup.narrowed(|_, role| role == Role::Agent))
}

/// Sets up the files of the program that the agent starts; `cx` is the program's.
///
/// # Errors
/// `EINVAL` if no FSPF is mounted, `ENOENT` or `ENOTDIR` if the working directory
/// is none, and those of building the namespace.
pub fn program(cx: &Context<'_>, config: &ProgramConfig) -> Result<(), Errno> {
    let agent = AGENT.lock().clone().ok_or(Errno::ENOSYS)?;
    let facts = crate::process::start::facts().ok_or(Errno::ENOSYS)?;
    let handover = agent.take()?;
    let quota = Quota::new(facts.manifest.heap);
    let startup = agent.startup().narrowed(|_, role| role != Role::Agent);
    let namespace = protected::namespace(
        cx,
        &handover.tree,
        startup,
        &handover.injected,
        &quota,
        &|path| synthetic(cx, path),
    )?
    .with(attestationfs::DIRECTORY, AttestationFs::new());
    let (cwd, stat) = namespace.real_path(cx, b"/", &config.cwd)?;
    if stat.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let files = &cx.process().files;
    files.set_namespace(Arc::new(namespace));
    *files.table().lock() = stdio::table(cx);
    files.set_cwd(cwd);
    Ok(())
}

/// The regions whose content the kernel makes up.
const SYNTHETIC: [&[u8]; 3] = [b"/proc", b"/sys", b"/dev"];

/// The file system that the kernel makes up for a synthetic region.
fn synthetic(_cx: &Context<'_>, path: &[u8]) -> Option<Arc<dyn FileSystem>> {
    match path {
        b"/proc" => Some(super::procfs::new()),
        b"/sys" => Some(super::sysfs::new()),
        b"/dev" => Some(super::devfs::new()),
        _ => None,
    }
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
