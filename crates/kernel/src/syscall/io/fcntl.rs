// SPDX-License-Identifier: Apache-2.0
//! fcntl and flock.

use super::{file, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::file::Class;
use crate::vfs::record_lock::{self, Owner, Record};
use crate::vfs::{OpenFile, OpenFlags};

const F_DUPFD: u64 = 0;
const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;
const F_SETFL: u64 = 4;
const F_GETLK: u64 = 5;
const F_SETLK: u64 = 6;
const F_SETLKW: u64 = 7;
const F_SETOWN: u64 = 8;
const F_GETOWN: u64 = 9;
const F_OFD_GETLK: u64 = 36;
const F_OFD_SETLK: u64 = 37;
const F_OFD_SETLKW: u64 = 38;
const F_DUPFD_CLOEXEC: u64 = 1030;
const F_SETPIPE_SZ: u64 = 1031;
const F_GETPIPE_SZ: u64 = 1032;
const F_ADD_SEALS: u64 = 1033;
const F_GET_SEALS: u64 = 1034;
const FD_CLOEXEC: u64 = 1;

pub(super) fn fcntl(cx: &Context<'_>, fd: u64, command: u64, arg: u64) -> Result<u64, Errno> {
    let table = cx.process().files.table();
    match command & 0xffff_ffff {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let file = file(cx, fd)?;
            let from = u64::from(arg as u32);
            if i32::try_from(from).is_err() {
                return Err(Errno::EINVAL);
            }
            table.lock().add(file, command == F_DUPFD_CLOEXEC, from)
        }
        F_GETFD => Ok(table.lock().close_on_exec(fd)?.into()),
        F_SETFD => {
            table.lock().set_close_on_exec(fd, arg & FD_CLOEXEC != 0)?;
            Ok(0)
        }
        F_GETFL => {
            // Directories are shown without what only the kernel notes.
            let flags = file(cx, fd)?.flags() | OpenFlags::LARGE_FILE;
            Ok(flags.bits().into())
        }
        F_SETFL => {
            let new = OpenFlags::from_bits_truncate(arg as u32);
            usable(cx, fd)?.set_flags(cx, new)?;
            Ok(0)
        }
        F_GETLK | F_OFD_GETLK => query(cx, fd, arg, command == F_OFD_GETLK),
        F_SETLK | F_SETLKW => set(cx, fd, arg, false, command == F_SETLKW),
        F_OFD_SETLK | F_OFD_SETLKW => set(cx, fd, arg, true, command == F_OFD_SETLKW),
        F_SETOWN => {
            // Nobody is signalled about files: O_ASYNC is not offered.
            file(cx, fd)?;
            Ok(0)
        }
        F_GETOWN => {
            file(cx, fd)?;
            Ok(0)
        }
        F_GETPIPE_SZ => match usable(cx, fd)?.file.class() {
            Class::Pipe(pipe) => Ok(pipe.capacity() as u64),
            _ => Err(Errno::EBADF),
        },
        F_SETPIPE_SZ => match usable(cx, fd)?.file.class() {
            Class::Pipe(pipe) => Ok(pipe.set_capacity(arg as u32 as usize)? as u64),
            _ => Err(Errno::EBADF),
        },
        // Memory files without MFD_ALLOW_SEALING, and everything else.
        F_ADD_SEALS | F_GET_SEALS => {
            usable(cx, fd)?;
            Err(Errno::EINVAL)
        }
        _ => {
            file(cx, fd)?;
            Err(Errno::EINVAL)
        }
    }
}

const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

/// `struct flock` as the program gave it.
struct Wanted {
    kind: u16,
    first: u64,
    last: u64,
    bytes: [u8; 32],
}

fn wanted(cx: &Context<'_>, file: &OpenFile, addr: u64) -> Result<Wanted, Errno> {
    let bytes: [u8; 32] = cx.read_array(addr)?;
    let half = |at: usize| match bytes.get(at..at + 2) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let word = |at: usize| {
        bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map_or(0, |word| i64::from_le_bytes(*word))
    };
    let base = match half(2) {
        0 => 0,
        1 => file.seek(cx, 0, crate::vfs::opened::Whence::Current)?,
        2 => file.file.stat(cx)?.size,
        _ => return Err(Errno::EINVAL),
    };
    let (start, len) = (word(8), word(16));
    let start = base.checked_add_signed(start).ok_or(Errno::EINVAL)?;
    // A length below 0 means the bytes before the start (fcntl(2)).
    let (first, last) = match len {
        0 => (start, u64::MAX),
        1.. => (
            start,
            start.checked_add_signed(len - 1).ok_or(Errno::EOVERFLOW)?,
        ),
        _ => (
            start.checked_add_signed(len).ok_or(Errno::EINVAL)?,
            start.checked_sub(1).ok_or(Errno::EINVAL)?,
        ),
    };
    if half(0) > F_UNLCK {
        return Err(Errno::EINVAL);
    }
    Ok(Wanted {
        kind: half(0),
        first,
        last,
        bytes,
    })
}

fn owner(cx: &Context<'_>, file: &OpenFile, is_ofd: bool) -> Owner {
    if is_ofd {
        Owner::Description(file.id())
    } else {
        Owner::Process(cx.process().pid)
    }
}

fn query(cx: &Context<'_>, fd: u64, addr: u64, is_ofd: bool) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    let mut wanted = wanted(cx, &file, addr)?;
    let stat = file.file.stat(cx)?;
    let record = Record {
        owner: owner(cx, &file, is_ofd),
        first: wanted.first,
        last: wanted.last,
        exclusive: wanted.kind == F_WRLCK,
    };
    let mut put = |at: usize, value: &[u8]| {
        if let Some(room) = wanted.bytes.get_mut(at..at + value.len()) {
            room.copy_from_slice(value);
        }
    };
    match record_lock::conflict((stat.device, stat.inode), &record) {
        None => put(0, &F_UNLCK.to_le_bytes()),
        Some(found) => {
            let kind = if found.exclusive { F_WRLCK } else { F_RDLCK };
            put(0, &kind.to_le_bytes());
            put(2, &0_u16.to_le_bytes());
            put(8, &found.first.to_le_bytes());
            let len = match found.last {
                u64::MAX => 0,
                last => last - found.first + 1,
            };
            put(16, &len.to_le_bytes());
            let pid = match found.owner {
                Owner::Process(pid) => pid as i32,
                _ => -1,
            };
            put(24, &pid.to_le_bytes());
        }
    }
    cx.write(addr, &wanted.bytes)?;
    Ok(0)
}

fn set(cx: &Context<'_>, fd: u64, addr: u64, is_ofd: bool, wait: bool) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    let wanted = wanted(cx, &file, addr)?;
    let stat = file.file.stat(cx)?;
    let key = (stat.device, stat.inode);
    let owner = owner(cx, &file, is_ofd);
    match wanted.kind {
        F_UNLCK => {
            record_lock::release(cx.machine, key, owner, wanted.first, wanted.last);
            return Ok(0);
        }
        F_WRLCK => file.writable()?,
        _ => file.readable()?,
    }
    let record = Record {
        owner,
        first: wanted.first,
        last: wanted.last,
        exclusive: wanted.kind == F_WRLCK,
    };
    record_lock::take(cx, key, record, wait)?;
    Ok(0)
}

pub(super) fn flock(cx: &Context<'_>, fd: u64, operation: u64) -> Result<u64, Errno> {
    const LOCK_SH: u64 = 1;
    const LOCK_EX: u64 = 2;
    const LOCK_NB: u64 = 4;
    const LOCK_UN: u64 = 8;
    let file = usable(cx, fd)?;
    let kind = operation & !LOCK_NB;
    if ![LOCK_SH, LOCK_EX, LOCK_UN].contains(&kind) {
        return Err(Errno::EINVAL);
    }
    // Other containers may share a host file, so the host decides about those.
    if let Some(answer) = file.file.host_flock(cx, operation) {
        return answer.map(|()| 0);
    }
    let stat = file.file.stat(cx)?;
    let key = (stat.device, stat.inode);
    let owner = Owner::Flock(file.id());
    if kind == LOCK_UN {
        record_lock::release(cx.machine, key, owner, 0, u64::MAX);
        return Ok(0);
    }
    let record = Record {
        owner,
        first: 0,
        last: u64::MAX,
        exclusive: kind == LOCK_EX,
    };
    record_lock::take(cx, key, record, operation & LOCK_NB == 0)?;
    Ok(0)
}
