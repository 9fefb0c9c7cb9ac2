// SPDX-License-Identifier: Apache-2.0
//! Names and directories.

use alloc::vec::Vec;

use super::{
    AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, file, namespace, new_mode, only, path_at,
    usable,
};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::OpenFlags;
use crate::vfs::directory::{encode_record, record_len};
use crate::vfs::file::Record;
use crate::vfs::stat::FileType;

/// Most bytes of records given by one call.
const MAX_RECORDS: u64 = 1 << 20;

pub(super) fn getcwd(cx: &Context<'_>, out: u64, len: u64) -> Result<u64, Errno> {
    let mut cwd = cx.process().files.cwd();
    cwd.push(0);
    if len < cwd.len() as u64 {
        return Err(if len == 0 {
            Errno::EINVAL
        } else {
            Errno::ERANGE
        });
    }
    cx.write(out, &cwd)?;
    Ok(cwd.len() as u64)
}

pub(super) fn chdir(cx: &Context<'_>, path: u64) -> Result<u64, Errno> {
    let path = cx.read_path(path)?;
    let files = &cx.process().files;
    let (path, stat) = namespace(cx).real_path(cx, &files.cwd(), &path)?;
    if stat.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    files.set_cwd(path);
    Ok(0)
}

pub(super) fn fchdir(cx: &Context<'_>, fd: u64) -> Result<u64, Errno> {
    let directory = file(cx, fd)?;
    if !directory.flags().contains(OpenFlags::DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    cx.process().files.set_cwd(directory.path.clone());
    Ok(0)
}

pub(super) fn mkdirat(cx: &Context<'_>, dirfd: u64, path: u64, mode: u64) -> Result<u64, Errno> {
    let (base, path) = path_at(cx, dirfd, path)?;
    namespace(cx).mkdir(cx, &base, &path, new_mode(cx, mode))?;
    Ok(0)
}

pub(super) fn unlinkat(cx: &Context<'_>, dirfd: u64, path: u64, flags: u64) -> Result<u64, Errno> {
    only(flags, AT_REMOVEDIR)?;
    let (base, path) = path_at(cx, dirfd, path)?;
    namespace(cx).unlink(cx, &base, &path, flags & AT_REMOVEDIR != 0)?;
    Ok(0)
}

pub(super) fn renameat(
    cx: &Context<'_>,
    from_fd: u64,
    from: u64,
    to_fd: u64,
    to: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let (from_base, from) = path_at(cx, from_fd, from)?;
    let (to_base, to) = path_at(cx, to_fd, to)?;
    namespace(cx).rename(cx, (&from_base, &from), (&to_base, &to), flags)?;
    Ok(0)
}

pub(super) fn linkat(
    cx: &Context<'_>,
    from_fd: u64,
    from: u64,
    to_fd: u64,
    to: u64,
    flags: u64,
) -> Result<u64, Errno> {
    only(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)?;
    let (from_base, from) = path_at(cx, from_fd, from)?;
    let (to_base, to) = path_at(cx, to_fd, to)?;
    let follow = flags & AT_SYMLINK_FOLLOW != 0;
    namespace(cx).link(cx, (&from_base, &from), (&to_base, &to), follow)?;
    Ok(0)
}

pub(super) fn symlinkat(
    cx: &Context<'_>,
    target: u64,
    dirfd: u64,
    path: u64,
) -> Result<u64, Errno> {
    let target = cx.read_path(target)?;
    let (base, path) = path_at(cx, dirfd, path)?;
    namespace(cx).symlink(cx, &target, &base, &path)?;
    Ok(0)
}

pub(super) fn getdents64(cx: &Context<'_>, fd: u64, out: u64, len: u64) -> Result<u64, Errno> {
    let directory = usable(cx, fd)?;
    if !directory.flags().contains(OpenFlags::DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    let room = u64::from(len as u32).min(MAX_RECORDS) as usize;
    let mut bytes = Vec::new();
    let mut is_too_small = false;
    directory.read_directory(cx, |record: &Record, next| {
        if bytes.len() + record_len(&record.name) > room {
            is_too_small = bytes.is_empty();
            return false;
        }
        encode_record(&mut bytes, record, next);
        true
    })?;
    if is_too_small {
        return Err(Errno::EINVAL);
    }
    cx.write(out, &bytes)?;
    Ok(bytes.len() as u64)
}
