// SPDX-License-Identifier: Apache-2.0
//! Metadata, lengths and durability.

use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, file, namespace, only, path_at, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::file::{Change, NewTime};
use crate::vfs::stat::{FileType, Stat, Time};
use crate::vfs::{OpenFlags, path};

const AT_NO_AUTOMOUNT: u64 = 0x800;
/// AT_STATX_FORCE_SYNC and AT_STATX_DONT_SYNC: hints.
const AT_STATX_SYNC: u64 = 0x6000;

fn find(cx: &Context<'_>, dirfd: u64, path: u64, flags: u64) -> Result<Stat, Errno> {
    only(
        flags,
        AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC,
    )?;
    if flags & AT_EMPTY_PATH != 0 && (path == 0 || cx.read_array::<1>(path)? == [0]) {
        return if dirfd as i32 == super::AT_FDCWD {
            namespace(cx).stat(cx, b"/", &cx.process().files.cwd(), true)
        } else {
            file(cx, dirfd)?.file.stat(cx)
        };
    }
    let (base, path) = path_at(cx, dirfd, path)?;
    namespace(cx).stat(cx, &base, &path, flags & AT_SYMLINK_NOFOLLOW == 0)
}

pub(super) fn stat(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    out: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let found = find(cx, dirfd, path, flags)?;
    cx.write(out, &found.encode())?;
    Ok(0)
}

pub(super) fn fstat(cx: &Context<'_>, fd: u64, out: u64) -> Result<u64, Errno> {
    let found = file(cx, fd)?.file.stat(cx)?;
    cx.write(out, &found.encode())?;
    Ok(0)
}

pub(super) fn statx(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    flags: u64,
    mask: u64,
    out: u64,
) -> Result<u64, Errno> {
    const RESERVED: u64 = 0x8000_0000;
    if mask & RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(cx, dirfd, path, flags)?;
    cx.write(out, &found.encode_statx())?;
    Ok(0)
}

pub(super) fn access(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    wanted: u64,
    flags: u64,
) -> Result<u64, Errno> {
    const AT_EACCESS: u64 = 0x200;
    only(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    only(wanted, 7)?;
    if flags & AT_EMPTY_PATH != 0 && cx.read_array::<1>(path)? == [0] {
        file(cx, dirfd)?;
        return Ok(0);
    }
    let (base, path) = path_at(cx, dirfd, path)?;
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
    namespace(cx).access(cx, &base, &path, follow, wanted as u32)?;
    Ok(0)
}

pub(super) fn readlink(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    out: u64,
    len: u64,
) -> Result<u64, Errno> {
    let len = len as i32;
    if len <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = if cx.read_array::<1>(path)? == [0] && dirfd as i32 != super::AT_FDCWD {
        // An O_PATH descriptor of the link itself.
        let link = file(cx, dirfd)?;
        namespace(cx).readlink(cx, b"/", &link.path)?
    } else {
        let (base, name) = path_at(cx, dirfd, path)?;
        namespace(cx).readlink(cx, &base, &name)?
    };
    let count = target.len().min(len as usize);
    cx.write(out, target.get(..count).unwrap_or_default())?;
    Ok(count as u64)
}

fn change(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    flags: u64,
    change: Change,
) -> Result<u64, Errno> {
    only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    if flags & AT_EMPTY_PATH != 0 && cx.read_array::<1>(path)? == [0] {
        file(cx, dirfd)?.file.change(cx, change)?;
        return Ok(0);
    }
    let (base, path) = path_at(cx, dirfd, path)?;
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
    namespace(cx).change(cx, &base, &path, follow, change)?;
    Ok(0)
}

pub(super) fn chmod(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    mode: u64,
    flags: u64,
) -> Result<u64, Errno> {
    if flags & AT_SYMLINK_NOFOLLOW != 0 {
        let found = find(cx, dirfd, path, AT_SYMLINK_NOFOLLOW)?;
        if found.kind() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
    }
    change(cx, dirfd, path, flags, Change::Mode(mode as u32 & 0o7777))
}

pub(super) fn fchmod(cx: &Context<'_>, fd: u64, mode: u64) -> Result<u64, Errno> {
    let change = Change::Mode(mode as u32 & 0o7777);
    usable(cx, fd)?.file.change(cx, change)?;
    Ok(0)
}

fn owner([uid, gid]: [u64; 2]) -> Change {
    let id = |id: u64| (id as u32 != u32::MAX).then_some(id as u32);
    Change::Owner(id(uid), id(gid))
}

pub(super) fn chown(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    ids: [u64; 2],
    flags: u64,
) -> Result<u64, Errno> {
    change(cx, dirfd, path, flags, owner(ids))
}

pub(super) fn fchown(cx: &Context<'_>, fd: u64, ids: [u64; 2]) -> Result<u64, Errno> {
    usable(cx, fd)?.file.change(cx, owner(ids))?;
    Ok(0)
}

fn new_time(cx: &Context<'_>, addr: u64) -> Result<NewTime, Errno> {
    const UTIME_NOW: u64 = 0x3fff_ffff;
    const UTIME_OMIT: u64 = 0x3fff_fffe;
    let seconds = cx.read_u64(addr)? as i64;
    match cx.read_u64(addr.wrapping_add(8))? {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Omit),
        nanos if nanos < 1_000_000_000 => Ok(NewTime::At(Time {
            seconds,
            nanos: nanos as u32,
        })),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn utimensat(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    times: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let new = if times == 0 {
        Change::Times(NewTime::Now, NewTime::Now)
    } else {
        Change::Times(new_time(cx, times)?, new_time(cx, times.wrapping_add(16))?)
    };
    if path == 0 {
        // futimens: the descriptor itself.
        usable(cx, dirfd)?.file.change(cx, new)?;
        return Ok(0);
    }
    if new == Change::Times(NewTime::Omit, NewTime::Omit) {
        find(cx, dirfd, path, flags)?;
        return Ok(0);
    }
    change(cx, dirfd, path, flags, new)
}

pub(super) fn futimesat(cx: &Context<'_>, dirfd: u64, path: u64, times: u64) -> Result<u64, Errno> {
    let micro = |at: u64| -> Result<NewTime, Errno> {
        let seconds = cx.read_u64(at)? as i64;
        let micros = cx.read_u64(at.wrapping_add(8))?;
        if micros >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(NewTime::At(Time {
            seconds,
            nanos: micros as u32 * 1000,
        }))
    };
    let new = if times == 0 {
        Change::Times(NewTime::Now, NewTime::Now)
    } else {
        Change::Times(micro(times)?, micro(times.wrapping_add(16))?)
    };
    change(cx, dirfd, path, 0, new)
}

pub(super) fn utime(cx: &Context<'_>, path: u64, times: u64) -> Result<u64, Errno> {
    let second = |at: u64| -> Result<NewTime, Errno> {
        Ok(NewTime::At(Time {
            seconds: cx.read_u64(at)? as i64,
            nanos: 0,
        }))
    };
    let new = if times == 0 {
        Change::Times(NewTime::Now, NewTime::Now)
    } else {
        Change::Times(second(times)?, second(times.wrapping_add(8))?)
    };
    change(cx, super::AT_FDCWD as u64, path, 0, new)
}

pub(super) fn statfs(cx: &Context<'_>, path: u64, out: u64) -> Result<u64, Errno> {
    let path = cx.read_path(path)?;
    let found = namespace(cx).statfs(cx, &cx.process().files.cwd(), &path)?;
    cx.write(out, &found)?;
    Ok(0)
}

pub(super) fn fstatfs(cx: &Context<'_>, fd: u64, out: u64) -> Result<u64, Errno> {
    let found = file(cx, fd)?.file.statfs(cx)?;
    cx.write(out, &found)?;
    Ok(0)
}

fn length(len: u64) -> Result<u64, Errno> {
    i64::try_from(len).map_or(Err(Errno::EINVAL), |_| Ok(len))
}

pub(super) fn truncate(cx: &Context<'_>, name: u64, len: u64) -> Result<u64, Errno> {
    let len = length(len)?;
    let name = cx.read_path(name)?;
    path::check(&name)?;
    let cwd = cx.process().files.cwd();
    let opened = namespace(cx).open(cx, &cwd, &name, OpenFlags::WRITE_ONLY, 0)?;
    opened.file.truncate(cx, len)?;
    Ok(0)
}

pub(super) fn ftruncate(cx: &Context<'_>, fd: u64, len: u64) -> Result<u64, Errno> {
    let len = length(len)?;
    let file = usable(cx, fd)?;
    if !file.flags().can_write() {
        return Err(Errno::EINVAL);
    }
    file.file.truncate(cx, len)?;
    Ok(0)
}

pub(super) fn fallocate(
    cx: &Context<'_>,
    fd: u64,
    mode: u64,
    at: u64,
    len: u64,
) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    file.writable()?;
    let end = length(at)?.checked_add(length(len)?).ok_or(Errno::EFBIG)?;
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    length(end).map_err(|_| Errno::EFBIG)?;
    file.file.allocate(cx, mode, at, len)?;
    Ok(0)
}

pub(super) fn fsync(cx: &Context<'_>, fd: u64, data_only: bool) -> Result<u64, Errno> {
    usable(cx, fd)?.file.sync(cx, data_only)?;
    Ok(0)
}

pub(super) fn advise(cx: &Context<'_>, fd: u64, advice: u64) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    if advice > 5 {
        return Err(Errno::EINVAL);
    }
    if file.file.stat(cx)?.kind() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    Ok(0)
}
