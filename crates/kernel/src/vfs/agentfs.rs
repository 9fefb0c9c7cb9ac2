// SPDX-License-Identifier: Apache-2.0
//! `/dev/ensconce`: how the agent hands keys, files and arguments to the kernel.
//! Only process 1 of start mode `session` has it mounted, and once the program
//! has been started everything but `report` is gone for good.

#[cfg(test)]
mod tests;

use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::codec::Reader;
use enclave_abi::manifest::ProgramConfig;
use enclave_abi::start::{BLOCK_MAX, DIRECTORY, INJECT_MAX, Inject, Mount};
use sgx::key::{KeyPolicy, KeyRequest, name as key_name};
use sgx::report::{Report, TargetInfo};
use shieldfs::key::{FspfKey, FspfTag};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::errno::Errno;
use crate::process::start::Boot;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::cache::ChunkCache;
use crate::vfs::file::{File, Record};
use crate::vfs::filesystem::{FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::path;
use crate::vfs::protected::{self, Tree};
use crate::vfs::startup::StartupFiles;
use crate::vfs::stat::{self, FileType, Stat};

/// Most injected files.
const INJECTED_MAX: usize = 1024;
/// Bytes of a configuration.
const CONFIG_MAX: usize = 4 << 20;
/// First inode number here.
const INODES: u64 = 1 << 44;

/// What the agent has handed over, until the program takes it.
#[derive(Debug, Default)]
struct Handed {
    tree: Option<Arc<Tree>>,
    injected: Vec<Inject>,
    config: Option<ProgramConfig>,
    started: bool,
}

/// The agent's files.
#[derive(Debug)]
pub struct AgentFs {
    me: Weak<Self>,
    boot: &'static Boot,
    startup: Arc<StartupFiles>,
    cache: Arc<ChunkCache>,
    handed: Lock<Handed>,
}

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Block,
    Manifest,
    Report,
    Sealkey,
    Mount,
    Inject,
    Config,
    Start,
}

impl Name {
    const ALL: [(Self, &'static [u8]); 8] = [
        (Self::Block, b"start-block"),
        (Self::Manifest, b"manifest"),
        (Self::Report, b"report"),
        (Self::Sealkey, b"sealkey"),
        (Self::Mount, b"mount"),
        (Self::Inject, b"inject"),
        (Self::Config, b"config"),
        (Self::Start, b"start"),
    ];
}

/// What the agent handed over for the program.
#[derive(Debug)]
pub struct Handover {
    /// The mounted tree.
    pub tree: Arc<Tree>,
    /// Files in enclave memory.
    pub injected: Vec<Inject>,
}

impl AgentFs {
    /// The files of process 1.
    #[must_use]
    pub fn new(
        boot: &'static Boot,
        startup: &Arc<StartupFiles>,
        cache: &Arc<ChunkCache>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            boot,
            startup: Arc::clone(startup),
            cache: Arc::clone(cache),
            handed: Lock::new(Handed::default()),
        })
    }

    /// What the program gets; once.
    ///
    /// # Errors
    /// `EINVAL` without a mounted FSPF: a program of start mode `session` has no
    /// other files.
    pub fn take(&self) -> Result<Handover, Errno> {
        let mut handed = self.handed.lock();
        let tree = handed.tree.take().ok_or(Errno::EINVAL)?;
        Ok(Handover {
            tree,
            injected: core::mem::take(&mut handed.injected),
        })
    }

    /// All startup files, the agent's own included.
    #[must_use]
    pub fn startup(&self) -> &Arc<StartupFiles> {
        &self.startup
    }

    fn name(&self, at: &[u8]) -> Result<Option<Name>, Errno> {
        let rest = path::below(at, DIRECTORY.as_bytes()).ok_or(Errno::ENOENT)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let found = Name::ALL.iter().find(|(_, name)| *name == rest);
        let (name, _) = found.ok_or(Errno::ENOENT)?;
        if self.handed.lock().started && *name != Name::Report {
            return Err(Errno::ENOENT);
        }
        Ok(Some(*name))
    }

    fn mount(&self, cx: &Context<'_>, message: &[u8]) -> Result<(), Errno> {
        let mount = Mount::decode(message).map_err(|_| Errno::EINVAL)?;
        if self.handed.lock().tree.is_some() {
            return Err(Errno::EBUSY);
        }
        let tree = protected::mount(
            cx,
            &mount.path,
            &FspfKey::from_bytes(mount.key),
            FspfTag(mount.tag),
            &self.startup,
            &self.cache,
            self.boot.debug,
        )
        .map_err(|error| match error {
            protected::MountError::Fspf(errno) => errno,
            protected::MountError::Disagreement { .. } => Errno::EIO,
        })?;
        self.handed.lock().tree = Some(tree);
        Ok(())
    }

    fn inject(&self, message: &[u8]) -> Result<(), Errno> {
        let file = Inject::decode(message).map_err(|_| Errno::EINVAL)?;
        let mut handed = self.handed.lock();
        if handed.injected.len() >= INJECTED_MAX {
            return Err(Errno::ENOSPC);
        }
        handed.injected.push(file);
        Ok(())
    }

    fn configure(&self, message: &[u8]) -> Result<(), Errno> {
        let mut reader = Reader::new(message);
        let config = ProgramConfig::read(&mut reader).map_err(|_| Errno::EINVAL)?;
        reader.finish().map_err(|_| Errno::EINVAL)?;
        self.handed.lock().config = Some(config);
        Ok(())
    }

    fn start(&self, cx: &Context<'_>) -> Result<(), Errno> {
        let config = self.handed.lock().config.take().ok_or(Errno::EINVAL)?;
        crate::process::spawn::start_program(cx, &config)?;
        let mut handed = self.handed.lock();
        handed.started = true;
        handed.injected.clear();
        Ok(())
    }
}

impl FileSystem for AgentFs {
    fn stat(&self, _cx: &Context<'_>, at: &[u8]) -> Result<Stat, Errno> {
        Ok(match self.name(at)? {
            None => Stat::new(FileType::Directory, 0o500, INODES),
            Some(name) => Stat::new(FileType::CharDevice, 0o600, INODES + 1 + name as u64),
        })
    }

    fn readlink(&self, _cx: &Context<'_>, at: &[u8]) -> Result<Vec<u8>, Errno> {
        self.name(at)?;
        Err(Errno::EINVAL)
    }

    fn open(
        &self,
        cx: &Context<'_>,
        at: &[u8],
        _flags: OpenFlags,
        _mode: u32,
    ) -> Result<Opened, Errno> {
        let Some(name) = self.name(at)? else {
            let names = if self.handed.lock().started {
                vec![Name::ALL[2]]
            } else {
                Name::ALL.to_vec()
            };
            return Ok(Opened::Directory(Arc::new(Directory(names))));
        };
        let answer = match name {
            Name::Block => self.boot.block.encode(),
            Name::Manifest => self.boot.manifest.encode(),
            Name::Sealkey => seal_key(cx)?.to_vec(),
            _ => Vec::new(),
        };
        let filesystem = self.me.upgrade().ok_or(Errno::ENOENT)?;
        Ok(Opened::File(Arc::new(AgentFile {
            filesystem,
            name,
            state: Lock::new(State {
                answer: Zeroizing::new(answer),
                taken: 0,
            }),
        })))
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn statfs(&self, _cx: &Context<'_>, _at: &[u8]) -> Result<[u8; 120], Errno> {
        const DEVTMPFS_MAGIC: u64 = 0x0102_1994;
        Ok(stat::encode_statfs(DEVTMPFS_MAGIC, 0, 0, false))
    }
}

/// The seal key bound to MRENCLAVE and CONFIGID (rule S1).
fn seal_key(cx: &Context<'_>) -> Result<[u8; 16], Errno> {
    let zero = TargetInfo::from_bytes(&[0; TargetInfo::SIZE]).ok_or(Errno::EIO)?;
    let own = cx.machine.report(&zero, &[0; 64]).body.fields();
    let request = KeyRequest {
        key_name: key_name::SEAL,
        key_policy: KeyPolicy::MRENCLAVE | KeyPolicy::CONFIGID,
        isv_svn: own.isv_svn,
        cpu_svn: own.cpu_svn,
        attribute_mask: sgx::attributes::Attributes::from_bytes(&[0xff; 16]),
        key_id: [0; 32],
        misc_mask: sgx::attributes::MiscSelect::all(),
        config_svn: own.config_svn,
    };
    cx.machine.key(&request)
}

#[derive(Debug)]
struct State {
    answer: Zeroizing<Vec<u8>>,
    taken: usize,
}

/// An open control file: a message per write, the answer by reads.
#[derive(Debug)]
struct AgentFile {
    filesystem: Arc<AgentFs>,
    name: Name,
    state: Lock<State>,
}

impl File for AgentFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(
            FileType::CharDevice,
            0o600,
            INODES + 1 + self.name as u64,
        ))
    }

    fn read(&self, _cx: &Context<'_>, to: &mut Sink<'_>, _nonblock: bool) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let rest = state.answer.get(state.taken..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(to.len())).unwrap_or_default();
        to.put(0, piece)?;
        let count = piece.len();
        state.taken += count;
        Ok(count)
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, _nonblock: bool) -> Result<usize, Errno> {
        if self.filesystem.handed.lock().started && self.name != Name::Report {
            return Err(Errno::ENXIO);
        }
        let limit = match self.name {
            Name::Block | Name::Manifest | Name::Sealkey => return Err(Errno::EINVAL),
            Name::Report => 64 + TargetInfo::SIZE,
            Name::Mount => 8192,
            Name::Inject => INJECT_MAX + 8192,
            Name::Config => CONFIG_MAX.max(BLOCK_MAX),
            Name::Start => 16,
        };
        let message = Zeroizing::new(from.to_vec(limit)?);
        match self.name {
            Name::Report => {
                let report = agent_report(cx, &message)?;
                let mut state = self.state.lock();
                state.answer = Zeroizing::new(report.to_bytes().to_vec());
                state.taken = 0;
            }
            Name::Mount => self.filesystem.mount(cx, &message)?,
            Name::Inject => self.filesystem.inject(&message)?,
            Name::Config => self.filesystem.configure(&message)?,
            _ => self.filesystem.start(cx)?,
        }
        Ok(message.len())
    }
}

/// A REPORT in the agent's form, whose last 32 bytes of report data are not zero
/// (rule S10): a program cannot make one, see `/dev/attestation`.
fn agent_report(cx: &Context<'_>, message: &[u8]) -> Result<Report, Errno> {
    let (data, target) = message.split_first_chunk::<64>().ok_or(Errno::EINVAL)?;
    let target: &[u8; TargetInfo::SIZE] = target.try_into().map_err(|_| Errno::EINVAL)?;
    let target = TargetInfo::from_bytes(target).ok_or(Errno::EINVAL)?;
    if data
        .get(32..)
        .unwrap_or_default()
        .iter()
        .all(|&byte| byte == 0)
    {
        return Err(Errno::EINVAL);
    }
    Ok(cx.machine.report(&target, data))
}

/// The directory itself.
#[derive(Debug)]
struct Directory(Vec<(Name, &'static [u8])>);

impl File for Directory {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Directory, 0o500, INODES))
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let records = self.0.iter().map(|(name, text)| Record {
            name: text.to_vec(),
            inode: INODES + 1 + *name as u64,
            kind: FileType::CharDevice,
        });
        Ok(records.collect())
    }
}
