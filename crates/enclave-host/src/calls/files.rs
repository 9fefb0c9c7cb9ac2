// SPDX-License-Identifier: Apache-2.0
//! Files: paths below the root, and descriptors of what was opened there.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};

use enclave_abi::call::Op;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::descriptors::last_error;
use super::{Answer, Host, answer, blocking, fd, new_fd, raw_fd};
use crate::area::{CallArea, Errno};
use crate::root::number;

pub(super) fn serve(host: &Host, op: Op, area: &mut CallArea) -> Answer {
    match op {
        Op::Open => {
            let flags = OFlags::from_bits_retain(area.word(2) as u32);
            let mode = Mode::from_raw_mode(area.word(3) as u32 & 0o7777);
            new_fd(host.root.open(area.input(0)?, flags, mode)?.into_raw_fd())
        }
        Op::Close => {
            let fd = raw_fd(host, area, 0)?;
            // SAFETY: the enclave opened it, and the launcher's own are refused.
            checked(unsafe { libc::close(fd) })
        }
        Op::Read | Op::Write => {
            let (number, fd) = (
                if op == Op::Read {
                    libc::SYS_read
                } else {
                    libc::SYS_write
                },
                raw_fd(host, area, 0)?,
            );
            let (buffer, len) = area.raw(1)?;
            // SAFETY: pointer and length name bytes of the area.
            unsafe {
                blocking(
                    host,
                    number,
                    [fd as u64, buffer as u64, len as u64, 0, 0, 0],
                )
            }
        }
        Op::Pread | Op::Pwrite => {
            let fd = raw_fd(host, area, 0)?;
            let (buffer, len) = area.raw(1)?;
            let offset = area.word(3) as i64;
            let result = if op == Op::Pread {
                // SAFETY: pointer and length name bytes of the area.
                unsafe { libc::pread(fd, buffer.cast(), len, offset) }
            } else {
                // SAFETY: as above.
                unsafe { libc::pwrite(fd, buffer.cast(), len, offset) }
            };
            if result < 0 {
                Err(last_error())
            } else {
                Ok(result as i64)
            }
        }
        Op::Fstat | Op::Stat | Op::Statfs | Op::Readlink | Op::Getdents => look(host, op, area),
        Op::Lseek => {
            let (fd, offset, whence) = (
                raw_fd(host, area, 0)?,
                area.word(1) as i64,
                area.word(2) as i32,
            );
            // SAFETY: no pointers.
            let result = unsafe { libc::lseek(fd, offset, whence) };
            if result < 0 {
                Err(last_error())
            } else {
                Ok(result)
            }
        }
        Op::Ftruncate => done(rustix::fs::ftruncate(fd(host, area, 0)?, area.word(1))),
        Op::Fsync if area.word(1) == 0 => done(rustix::fs::fsync(fd(host, area, 0)?)),
        Op::Fsync => done(rustix::fs::fdatasync(fd(host, area, 0)?)),
        Op::Fallocate => {
            let (fd, mode) = (raw_fd(host, area, 0)?, area.word(1) as i32);
            // SAFETY: no pointers.
            checked(unsafe { libc::fallocate(fd, mode, area.word(2) as i64, area.word(3) as i64) })
        }
        Op::Flock => {
            let (fd, operation) = (raw_fd(host, area, 0)?, area.word(1));
            // SAFETY: no pointers.
            unsafe { blocking(host, libc::SYS_flock, [fd as u64, operation, 0, 0, 0, 0]) }
        }
        _ => change(host, op, area),
    }
}

fn done(result: rustix::io::Result<()>) -> Answer {
    result.map(|()| 0).map_err(number)
}

fn checked(result: i32) -> Answer {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(i64::from(result))
    }
}

/// Calls that only look.
fn look(host: &Host, op: Op, area: &mut CallArea) -> Answer {
    match op {
        Op::Fstat => {
            let stat = rustix::fs::fstat(fd(host, area, 0)?).map_err(number)?;
            put_stat(area.output(1)?, &stat)
        }
        Op::Stat => {
            let stat = if area.word(2) == 0 {
                let at = host.root.parent(area.input(0)?)?;
                rustix::fs::statat(
                    at.dir(),
                    at.name(),
                    AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
                )
            } else {
                let file = host
                    .root
                    .open(area.input(0)?, OFlags::PATH, Mode::empty())?;
                rustix::fs::fstat(file)
            };
            put_stat(area.output(3)?, &stat.map_err(number)?)
        }
        Op::Statfs => {
            let file = host
                .root
                .open(area.input(0)?, OFlags::PATH, Mode::empty())?;
            let out = area.output(2)?;
            if out.len() < size_of::<libc::statfs>() {
                return Err(libc::EFAULT);
            }
            // SAFETY: the room is as large as the structure.
            checked(unsafe { libc::fstatfs(file.as_raw_fd(), out.as_mut_ptr().cast()) })
        }
        Op::Readlink => {
            let at = host.root.parent(area.input(0)?)?;
            let target = rustix::fs::readlinkat(at.dir(), at.name(), Vec::new()).map_err(number)?;
            let out = area.output(2)?;
            let count = target.as_bytes().len().min(out.len());
            let (room, kept) = (out.get_mut(..count), target.as_bytes().get(..count));
            room.ok_or(libc::EFAULT)?
                .copy_from_slice(kept.ok_or(libc::EFAULT)?);
            Ok(count as i64)
        }
        _ => {
            let fd = raw_fd(host, area, 0)?;
            let (buffer, len) = area.raw(1)?;
            // SAFETY: pointer and length name bytes of the area.
            let result = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer, len) };
            if result < 0 {
                Err(last_error())
            } else {
                answer(result)
            }
        }
    }
}

fn put_stat(out: &mut [u8], stat: &rustix::fs::Stat) -> Answer {
    let len = size_of::<rustix::fs::Stat>();
    // SAFETY: a `struct stat` of Linux has no bytes that are not initialised by it.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast::<u8>(), len) };
    out.get_mut(..len)
        .ok_or(libc::EFAULT)?
        .copy_from_slice(bytes);
    Ok(0)
}

/// Calls that change the tree.
fn change(host: &Host, op: Op, area: &CallArea) -> Answer {
    let root = &host.root;
    match op {
        Op::Unlink => {
            let at = root.parent(area.input(0)?)?;
            let flags = if area.word(2) == 0 {
                AtFlags::empty()
            } else {
                AtFlags::REMOVEDIR
            };
            done(rustix::fs::unlinkat(at.dir(), at.name(), flags))
        }
        Op::Rename => {
            let (old, new) = (root.parent(area.input(0)?)?, root.parent(area.input(2)?)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(area.word(4) as u32);
            done(rustix::fs::renameat_with(
                old.dir(),
                old.name(),
                new.dir(),
                new.name(),
                flags,
            ))
        }
        Op::Mkdir => {
            let at = root.parent(area.input(0)?)?;
            done(rustix::fs::mkdirat(
                at.dir(),
                at.name(),
                Mode::from_raw_mode(area.word(2) as u32 & 0o7777),
            ))
        }
        Op::Symlink => {
            let target = CString::new(area.input(0)?).map_err(|_| libc::EINVAL)?;
            let at = root.parent(area.input(2)?)?;
            done(rustix::fs::symlinkat(&target, at.dir(), at.name()))
        }
        Op::Link => {
            let (old, new) = (root.parent(area.input(0)?)?, root.parent(area.input(2)?)?);
            done(rustix::fs::linkat(
                old.dir(),
                old.name(),
                new.dir(),
                new.name(),
                AtFlags::empty(),
            ))
        }
        Op::Chmod => {
            let at = followed(root, area.input(0)?)?;
            let path = proc_path(&at);
            done(rustix::fs::chmod(
                &path,
                Mode::from_raw_mode(area.word(2) as u32 & 0o7777),
            ))
        }
        Op::Chown => chown(host, area),
        Op::Utimens => utimens(host, area),
        Op::Access => {
            let file = followed(root, area.input(0)?)?;
            let access = rustix::fs::Access::from_bits_retain(area.word(2) as u32);
            done(rustix::fs::access(proc_path(&file), access))
        }
        _ => Err(libc::ENOSYS),
    }
}

/// The file that a path leads to, links included.
fn followed(root: &crate::root::Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    root.open(path, OFlags::PATH, Mode::empty())
}

/// A path by which an O_PATH descriptor's file can be changed.
fn proc_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn chown(host: &Host, area: &CallArea) -> Answer {
    let id = |word: u64| (word as u32 != u32::MAX).then_some(word as u32);
    let owner = id(area.word(2)).map(rustix::fs::Uid::from_raw);
    let group = id(area.word(3)).map(rustix::fs::Gid::from_raw);
    if area.word(4) == 0 {
        let at = host.root.parent(area.input(0)?)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        return done(rustix::fs::chownat(
            at.dir(),
            at.name(),
            owner,
            group,
            flags,
        ));
    }
    let file = followed(&host.root, area.input(0)?)?;
    done(rustix::fs::chownat(
        &file,
        c"",
        owner,
        group,
        AtFlags::EMPTY_PATH,
    ))
}

fn utimens(host: &Host, area: &CallArea) -> Answer {
    let times = area.input(2)?.first_chunk::<32>().ok_or(libc::EINVAL)?;
    let field = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&times[at..at + 8]);
        i64::from_le_bytes(bytes)
    };
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: field(0),
            tv_nsec: field(8),
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: field(16),
            tv_nsec: field(24),
        },
    };
    if area.word(4) == 0 {
        let at = host.root.parent(area.input(0)?)?;
        return done(rustix::fs::utimensat(
            at.dir(),
            at.name(),
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        ));
    }
    let file = followed(&host.root, area.input(0)?)?;
    done(rustix::fs::utimensat(
        rustix::fs::CWD,
        proc_path(&file),
        &times,
        AtFlags::empty(),
    ))
}
