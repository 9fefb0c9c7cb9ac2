// SPDX-License-Identifier: Apache-2.0
//! `/dev/attestation`: how a program gets REPORTs of its own, by the names that
//! Gramine's users know. Report data has the program's form (rule S10): its last
//! 32 bytes are zero, so that no program can speak for the agent.
//!
//! | file | use |
//! |---|---|
//! | `user_report_data` | write and read 64 bytes |
//! | `target_info` | write and read 512 bytes: for whom the REPORT is |
//! | `report` | read 432 bytes |
//! | `my_target_info` | read 512 bytes: this enclave as a target |
//! | `quote` | refused: `ENOSYS`, the kernel does not speak to a quoting service yet |

use alloc::sync::Arc;
use alloc::vec::Vec;

use sgx::report::TargetInfo;

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{File, Record};
use crate::vfs::filesystem::{FileSystem, Opened};
use crate::vfs::flags::OpenFlags;
use crate::vfs::path;
use crate::vfs::stat::{self, FileType, Stat};

/// Where it is mounted.
pub const DIRECTORY: &[u8] = b"/dev/attestation";
/// First inode number here.
const INODES: u64 = 1 << 45;

const NAMES: [&[u8]; 5] = [
    b"user_report_data",
    b"target_info",
    b"report",
    b"my_target_info",
    b"quote",
];
const DATA: usize = 0;
const TARGET: usize = 1;
const REPORT: usize = 2;
const OWN: usize = 3;
const QUOTE: usize = 4;

/// What the program has asked for.
#[derive(Debug)]
struct Asked {
    data: [u8; 64],
    target: [u8; TargetInfo::SIZE],
}

/// The files.
#[derive(Debug)]
pub struct AttestationFs {
    asked: Arc<Lock<Asked>>,
}

impl AttestationFs {
    /// Files that nobody has written yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Arc::new(Lock::new(Asked {
                data: [0; 64],
                target: [0; TargetInfo::SIZE],
            })),
        })
    }
}

/// Number of the file at a path; `None` for the directory.
fn number(at: &[u8]) -> Result<Option<usize>, Errno> {
    let rest = path::below(at, DIRECTORY).ok_or(Errno::ENOENT)?;
    if rest.is_empty() {
        return Ok(None);
    }
    let found = NAMES.iter().position(|name| *name == rest);
    found.map(Some).ok_or(Errno::ENOENT)
}

fn metadata(number: Option<usize>) -> Stat {
    match number {
        None => Stat::new(FileType::Directory, 0o555, INODES),
        Some(number) => Stat::new(FileType::Regular, 0o666, INODES + 1 + number as u64),
    }
}

impl FileSystem for AttestationFs {
    fn stat(&self, _cx: &Context<'_>, at: &[u8]) -> Result<Stat, Errno> {
        Ok(metadata(number(at)?))
    }

    fn readlink(&self, _cx: &Context<'_>, at: &[u8]) -> Result<Vec<u8>, Errno> {
        number(at)?;
        Err(Errno::EINVAL)
    }

    fn open(
        &self,
        _cx: &Context<'_>,
        at: &[u8],
        _flags: OpenFlags,
        _mode: u32,
    ) -> Result<Opened, Errno> {
        match number(at)? {
            None => Ok(Opened::Directory(Arc::new(Directory))),
            Some(QUOTE) => Err(Errno::ENOSYS),
            Some(number) => Ok(Opened::File(Arc::new(AttestationFile {
                asked: Arc::clone(&self.asked),
                number,
            }))),
        }
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn statfs(&self, _cx: &Context<'_>, _at: &[u8]) -> Result<[u8; 120], Errno> {
        const DEVTMPFS_MAGIC: u64 = 0x0102_1994;
        Ok(stat::encode_statfs(DEVTMPFS_MAGIC, 0, 0, false))
    }
}

#[derive(Debug)]
struct AttestationFile {
    asked: Arc<Lock<Asked>>,
    number: usize,
}

impl AttestationFile {
    fn bytes(&self, cx: &Context<'_>) -> Result<Vec<u8>, Errno> {
        let (data, target) = {
            let asked = self.asked.lock();
            (asked.data, asked.target)
        };
        Ok(match self.number {
            DATA => data.to_vec(),
            TARGET => target.to_vec(),
            REPORT => {
                let target = TargetInfo::from_bytes(&target).ok_or(Errno::EINVAL)?;
                cx.machine.report(&target, &data).to_bytes().to_vec()
            }
            OWN => own_target(cx)?.to_bytes().to_vec(),
            _ => return Err(Errno::ENOSYS),
        })
    }
}

/// This enclave as the target of another's REPORT.
fn own_target(cx: &Context<'_>) -> Result<TargetInfo, Errno> {
    let nobody = TargetInfo::from_bytes(&[0; TargetInfo::SIZE]).ok_or(Errno::EIO)?;
    let own = cx.machine.report(&nobody, &[0; 64]).body.fields();
    Ok(TargetInfo {
        mrenclave: own.mrenclave,
        attributes: own.attributes,
        config_svn: own.config_svn,
        miscselect: own.miscselect,
        config_id: own.config_id,
    })
}

impl File for AttestationFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(metadata(Some(self.number)))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        let bytes = self.bytes(cx)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(to.len())).unwrap_or_default();
        to.put(0, piece)?;
        Ok(piece.len())
    }

    fn write_at(&self, _cx: &Context<'_>, at: u64, from: Source<'_>) -> Result<usize, Errno> {
        if at != 0 {
            return Err(Errno::EINVAL);
        }
        let bytes = from.to_vec(TargetInfo::SIZE)?;
        match self.number {
            DATA => {
                let data: [u8; 64] = bytes.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
                // The agent's form begins where the program's ends.
                if data.iter().skip(32).any(|&byte| byte != 0) {
                    return Err(Errno::EINVAL);
                }
                self.asked.lock().data = data;
            }
            TARGET => {
                let target: [u8; TargetInfo::SIZE] =
                    bytes.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
                TargetInfo::from_bytes(&target).ok_or(Errno::EINVAL)?;
                self.asked.lock().target = target;
            }
            _ => return Err(Errno::EACCES),
        }
        Ok(bytes.len())
    }

    fn truncate(&self, _cx: &Context<'_>, _len: u64) -> Result<(), Errno> {
        // Shells open these files with O_TRUNC.
        Ok(())
    }
}

#[derive(Debug)]
struct Directory;

impl File for Directory {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(metadata(None))
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let records = NAMES.iter().enumerate().map(|(number, name)| Record {
            name: name.to_vec(),
            inode: INODES + 1 + number as u64,
            kind: FileType::Regular,
        });
        Ok(records.collect())
    }
}
