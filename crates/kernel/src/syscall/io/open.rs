// SPDX-License-Identifier: Apache-2.0
//! Opening, closing and duplicating.

use alloc::sync::Arc;

use super::{file, namespace, new_mode, only, path_at};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::{OpenFile, OpenFlags, record_lock};

pub(super) fn openat(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    flags: u64,
    mode: u64,
) -> Result<u64, Errno> {
    open_with(cx, dirfd, path, OpenFlags::from_user(flags), mode)
}

fn open_with(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    flags: OpenFlags,
    mode: u64,
) -> Result<u64, Errno> {
    let (base, path) = path_at(cx, dirfd, path)?;
    let opened = namespace(cx).open(cx, &base, &path, flags, new_mode(cx, mode))?;
    cx.process()
        .files
        .add(opened, flags.contains(OpenFlags::CLOEXEC))
}

pub(super) fn creat(cx: &Context<'_>, path: u64, mode: u64) -> Result<u64, Errno> {
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    open_with(cx, super::AT_FDCWD as u64, path, flags, mode)
}

pub(super) fn openat2(
    cx: &Context<'_>,
    dirfd: u64,
    path: u64,
    how: u64,
    size: u64,
) -> Result<u64, Errno> {
    /// RESOLVE_CACHED is only a hint that may be answered with EAGAIN.
    const RESOLVE_CACHED: u64 = 0x20;
    if size < 24 {
        return Err(Errno::EINVAL);
    }
    if size > 24 {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = [0, 8, 16].map(|at| cx.read_u64(how.wrapping_add(at)));
    let (flags, mode, resolve) = (flags?, mode?, resolve?);
    if resolve & RESOLVE_CACHED != 0 {
        return Err(Errno::EAGAIN);
    }
    if resolve != 0 {
        // Confined resolution is not offered; programs fall back to their own.
        return Err(Errno::ENOSYS);
    }
    let known = OpenFlags::all().bits().into();
    only(flags, known)?;
    only(mode, 0o7777)?;
    openat(cx, dirfd, path, flags, mode)
}

pub(super) fn close(cx: &Context<'_>, fd: u64) -> Result<u64, Errno> {
    let removed = cx.process().files.table().lock().remove(fd)?;
    closed(cx, &removed);
    Ok(0)
}

/// A process loses its record locks on a file when it closes any descriptor of it.
fn closed(cx: &Context<'_>, file: &OpenFile) {
    let pid = cx.process().pid;
    if record_lock::process_holds(pid)
        && let Ok(stat) = file.file.stat(cx)
    {
        record_lock::release_process_file(cx.machine, pid, (stat.device, stat.inode));
    }
}

pub(super) fn close_range(
    cx: &Context<'_>,
    first: u64,
    last: u64,
    flags: u64,
) -> Result<u64, Errno> {
    const UNSHARE: u64 = 2;
    const CLOEXEC: u64 = 4;
    let (first, last) = (u64::from(first as u32), u64::from(last as u32));
    only(flags, UNSHARE | CLOEXEC)?;
    if first > last {
        return Err(Errno::EINVAL);
    }
    let only_mark = flags & CLOEXEC != 0;
    let removed = cx
        .process()
        .files
        .table()
        .lock()
        .close_range(first, last, only_mark);
    for file in &removed {
        closed(cx, file);
    }
    Ok(0)
}

pub(super) fn dup(cx: &Context<'_>, fd: u64) -> Result<u64, Errno> {
    let file = file(cx, fd)?;
    cx.process().files.add(file, false)
}

pub(super) fn dup2(cx: &Context<'_>, from: u64, to: u64) -> Result<u64, Errno> {
    let file = file(cx, from)?;
    if from as u32 == to as u32 {
        return Ok(to);
    }
    replace(cx, file, to, false)
}

pub(super) fn dup3(cx: &Context<'_>, from: u64, to: u64, flags: u64) -> Result<u64, Errno> {
    let cloexec = u64::from(OpenFlags::CLOEXEC.bits());
    only(flags, cloexec)?;
    if from as u32 == to as u32 {
        return Err(Errno::EINVAL);
    }
    let file = file(cx, from)?;
    replace(cx, file, to, flags & cloexec != 0)
}

fn replace(cx: &Context<'_>, file: Arc<OpenFile>, to: u64, cloexec: bool) -> Result<u64, Errno> {
    let old = cx
        .process()
        .files
        .table()
        .lock()
        .replace(to, file, cloexec)?;
    if let Some(old) = old {
        closed(cx, &old);
    }
    Ok(u64::from(to as u32))
}
