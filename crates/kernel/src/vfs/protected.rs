// SPDX-License-Identifier: Apache-2.0
//! Files that an FSPF pins: authenticated and encrypted regions.
//!
//! Names, types, metadata and absence come from the tree alone; the host is asked
//! only for stored bytes, and those are verified before anybody sees them. Nothing
//! here can be changed.

mod file;
mod mount;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;

use enclave_abi::call::Op;
use enclave_abi::entry::AbortReason;
use enclave_abi::start::LogLevel;
use shieldfs::backing::Backing;
use shieldfs::entry::{Entry, FileType as Kind, Kind as Detail};
use shieldfs::key::{FspfKey, FspfTag};
use shieldfs::read::Fspf;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{Machine, Word};
use crate::sync::Lock;
use crate::vfs::buffer::Sink;
use crate::vfs::cache::ChunkCache;
use crate::vfs::file::{File, Record};
use crate::vfs::filesystem::{Attributes, FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::hostfs::handle::HostHandle;
use crate::vfs::path;
use crate::vfs::stat::{self, FileType, Stat, Time};

use file::ProtectedFile;
pub use mount::{MountError, mount, namespace};

/// Device number that protected files show.
const DEVICE: u64 = 3;
/// Where the inode numbers of protected files start among cached chunks.
const CACHED: u64 = 1 << 41;
/// Bytes of verified tree pages that are kept.
const PAGES: usize = 4 << 20;

/// A mounted FSPF.
pub struct Tree {
    fspf: Lock<Fspf<Stored>>,
    cache: Arc<ChunkCache>,
    machine: &'static dyn Machine,
    debug: bool,
}

impl core::fmt::Debug for Tree {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Tree(..)")
    }
}

/// The FSPF's own bytes, as the host gives them.
#[derive(Debug)]
struct Stored(HostHandle);

impl Backing for Stored {
    type Error = NotRead;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, NotRead> {
        self.0
            .read_at(self.0.machine(), offset, &mut Sink::Kernel(buf))
            .map_err(NotRead)
    }
}

/// The host does not give the bytes.
#[derive(Clone, Copy, Debug)]
struct NotRead(Errno);

impl Display for NotRead {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the host answers {:?}", self.0)
    }
}

impl Tree {
    /// Opens an FSPF of the container.
    ///
    /// # Errors
    /// `EIO`, said in the log of a DEBUG enclave, if it is not the one that the
    /// tag pins; the host's errno if it does not open.
    pub fn open(
        machine: &'static dyn Machine,
        path: &[u8],
        key: &FspfKey,
        tag: FspfTag,
        cache: &Arc<ChunkCache>,
        debug: bool,
    ) -> Result<Arc<Self>, Errno> {
        let stored = Stored(open_stored(machine, path)?);
        let fspf = Fspf::open_with_cache(stored, key, tag, PAGES).map_err(|error| {
            report(
                machine,
                debug,
                &format!("{}: {error}", String::from_utf8_lossy(path)),
            );
            Errno::EIO
        })?;
        Ok(Arc::new(Self {
            fspf: Lock::new(fspf),
            cache: Arc::clone(cache),
            machine,
            debug,
        }))
    }

    /// What the tree says about a path; `None` is proven.
    ///
    /// # Errors
    /// `EIO` if the host's bytes do not verify.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Entry>, Errno> {
        let found = self.fspf.lock().lookup(path);
        found.map_err(|error| self.refuse(&error))
    }

    fn entry(&self, path: &[u8]) -> Result<Entry, Errno> {
        self.lookup(path)?.ok_or(Errno::ENOENT)
    }

    fn refuse(&self, error: &dyn Display) -> Errno {
        report(self.machine, self.debug, &format!("refused: {error}"));
        lost(self.machine)
    }

    /// The host does not give a file that the tree lists.
    fn withheld(&self, path: &[u8], errno: Errno) -> Errno {
        let path = String::from_utf8_lossy(path);
        self.refuse(&format_args!(
            "the host answers {errno:?} instead of giving {path}"
        ))
    }
}

/// Ends the enclave because bytes that are pinned cannot be had. An error would
/// not do: many programs take a read error for the end of a file, so a host could
/// cut their input where it likes. Only where no enclave is, in tests, does this
/// return.
pub(crate) fn lost(machine: &dyn Machine) -> Errno {
    if let Some(cpu) = machine.cpu() {
        cpu.abort(AbortReason::Tampered);
    }
    Errno::EIO
}

/// Opens bytes of the container that will be verified.
fn open_stored(machine: &'static dyn Machine, path: &[u8]) -> Result<HostHandle, Errno> {
    let flags = OpenFlags::CLOEXEC | OpenFlags::NO_CTTY;
    let words = &mut [
        Word::In(path),
        Word::Value(flags.bits().into()),
        Word::Value(0),
    ];
    HostHandle::from_result(machine, machine.host_call(Op::Open, words)?)
}

/// Says in the host's log why something was refused. Names of image files and
/// positions in them are not secret, but production enclaves say nothing at all.
fn report(machine: &dyn Machine, debug: bool, text: &str) {
    if debug {
        let level = Word::Value(LogLevel::Error as u64);
        // A host that does not log changes nothing.
        let _ = machine.host_call(Op::Log, &mut [level, Word::In(text.as_bytes())]);
    }
}

fn metadata(entry: &Entry) -> Stat {
    let kind = match entry.kind().file_type() {
        Kind::File => FileType::Regular,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    };
    let meta = entry.meta();
    let mut stat = Stat::new(kind, meta.mode.into(), entry.ino());
    stat.device = DEVICE;
    stat.links = entry.nlink().into();
    (stat.uid, stat.gid) = (meta.uid, meta.gid);
    let time = Time {
        seconds: meta.mtime_s,
        nanos: meta.mtime_ns,
    };
    (stat.accessed, stat.modified, stat.changed) = (time, time, time);
    match entry.kind() {
        Detail::File(content) => stat.with_size(content.size()),
        Detail::Symlink { target } => stat.with_size(target.len() as u64),
        Detail::CharDevice(number) | Detail::BlockDevice(number) => {
            stat.rdev = stat::device(number.major, number.minor);
            stat
        }
        _ => stat,
    }
}

/// The protected files of a namespace.
#[derive(Debug)]
pub struct ProtectedFs {
    tree: Arc<Tree>,
}

impl ProtectedFs {
    /// All files of a tree.
    #[must_use]
    pub fn new(tree: &Arc<Tree>) -> Arc<Self> {
        Arc::new(Self {
            tree: Arc::clone(tree),
        })
    }
}

impl FileSystem for ProtectedFs {
    fn stat(&self, _cx: &Context<'_>, path: &[u8]) -> Result<Stat, Errno> {
        Ok(metadata(&self.tree.entry(path)?))
    }

    fn readlink(&self, _cx: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.tree.entry(path)?.kind() {
            Detail::Symlink { target } => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        &self,
        _cx: &Context<'_>,
        path: &[u8],
        flags: OpenFlags,
        _mode: u32,
    ) -> Result<Opened, Errno> {
        let Some(entry) = self.tree.lookup(path)? else {
            let makes = flags.contains(OpenFlags::CREATE);
            return Err(if makes { Errno::EROFS } else { Errno::ENOENT });
        };
        if flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
            return Err(Errno::EEXIST);
        }
        match entry.kind() {
            Detail::Directory => Ok(Opened::Directory(Arc::new(ProtectedDirectory {
                tree: Arc::clone(&self.tree),
                path: path.to_vec(),
                stat: metadata(&entry),
            }))),
            Detail::Symlink { .. } => Err(Errno::ELOOP),
            Detail::File(_) if flags.can_write() || flags.contains(OpenFlags::TRUNCATE) => {
                Err(Errno::EROFS)
            }
            Detail::File(_) => {
                let file = ProtectedFile::open(&self.tree, &entry)?;
                Ok(Opened::File(Arc::new(file)))
            }
            // Devices and pipes of an image are recorded, not usable.
            _ => Err(Errno::ENXIO),
        }
    }

    fn statfs(&self, _cx: &Context<'_>, path: &[u8]) -> Result<[u8; 120], Errno> {
        const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
        self.tree.entry(path)?;
        Ok(stat::encode_statfs(OVERLAYFS_MAGIC, 1 << 20, 0, true))
    }

    fn xattrs(&self, _cx: &Context<'_>, path: &[u8]) -> Result<Attributes, Errno> {
        let entry = self.tree.entry(path)?;
        let found = self.tree.fspf.lock().xattrs(&entry);
        let found = found.map_err(|error| self.tree.refuse(&error))?;
        Ok(found.into_iter().collect())
    }
}

/// An open directory.
#[derive(Debug)]
struct ProtectedDirectory {
    tree: Arc<Tree>,
    path: Vec<u8>,
    stat: Stat,
}

impl File for ProtectedDirectory {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn read(&self, _cx: &Context<'_>, _to: &mut Sink<'_>, _: bool) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let mut all = Vec::new();
        let listed = self.tree.fspf.lock().read_dir(&self.path, 0, |entry| {
            all.push(Record {
                name: entry.name.to_vec(),
                inode: entry.ino,
                kind: match entry.file_type {
                    Kind::File => FileType::Regular,
                    Kind::Directory => FileType::Directory,
                    Kind::Symlink => FileType::Symlink,
                    Kind::Fifo => FileType::Fifo,
                    Kind::Socket => FileType::Socket,
                    Kind::CharDevice => FileType::CharDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                },
            });
            true
        });
        listed.map_err(|error| self.tree.refuse(&error))?;
        Ok(all)
    }

    fn sync(&self, _cx: &Context<'_>, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn statfs(&self, cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        ProtectedFs::new(&self.tree).statfs(cx, &self.path)
    }
}

/// Whether a path may be mounted at all: normalised and absolute.
fn is_normal(path: &[u8]) -> bool {
    path::normalise(path) == path
}
