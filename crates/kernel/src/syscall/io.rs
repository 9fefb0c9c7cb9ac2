// SPDX-License-Identifier: Apache-2.0
//! Calls on files and sockets.

pub(crate) mod create;
mod fcntl;
mod ioctl;
mod metadata;
mod names;
mod open;
#[cfg(test)]
mod tests;
mod transfer;
pub(crate) mod vector;
mod wait;
mod xattr;

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as nr;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::{Namespace, OpenFile, OpenFlags};

/// `dirfd` that stands for the working directory.
const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const AT_EMPTY_PATH: u64 = 0x1000;

/// Serves a call on files or sockets; `None` if the number is none of them.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Option<Result<u64, Errno>> {
    let [a, b, c, d, e, f] = args;
    let here = AT_FDCWD as u64;
    let number = u32::try_from(number).ok()?;
    Some(match number {
        nr::__NR_read => transfer::read(cx, a, b, c),
        nr::__NR_write => transfer::write(cx, a, b, c),
        nr::__NR_pread64 => transfer::pread(cx, a, b, c, d),
        nr::__NR_pwrite64 => transfer::pwrite(cx, a, b, c, d),
        nr::__NR_readv => vector::readv(cx, a, b, c),
        nr::__NR_writev => vector::writev(cx, a, b, c),
        nr::__NR_preadv => vector::preadv(cx, a, b, c, d, e, 0),
        nr::__NR_pwritev => vector::pwritev(cx, a, b, c, d, e, 0),
        nr::__NR_preadv2 => vector::preadv(cx, a, b, c, d, e, f),
        nr::__NR_pwritev2 => vector::pwritev(cx, a, b, c, d, e, f),
        nr::__NR_lseek => transfer::lseek(cx, a, b, c),
        nr::__NR_sendfile => transfer::sendfile(cx, a, b, c, d),
        nr::__NR_copy_file_range => transfer::copy_file_range(cx, args),
        nr::__NR_splice | nr::__NR_tee | nr::__NR_vmsplice => Err(Errno::ENOSYS),

        nr::__NR_open => open::openat(cx, here, a, b, c),
        nr::__NR_openat => open::openat(cx, a, b, c, d),
        nr::__NR_openat2 => open::openat2(cx, a, b, c, d),
        nr::__NR_creat => open::creat(cx, a, b),
        nr::__NR_close => open::close(cx, a),
        nr::__NR_close_range => open::close_range(cx, a, b, c),
        nr::__NR_dup => open::dup(cx, a),
        nr::__NR_dup2 => open::dup2(cx, a, b),
        nr::__NR_dup3 => open::dup3(cx, a, b, c),
        nr::__NR_umask => Ok(cx.process().files.set_umask(a as u32).into()),
        nr::__NR_fcntl => fcntl::fcntl(cx, a, b, c),
        nr::__NR_flock => fcntl::flock(cx, a, b),
        nr::__NR_ioctl => ioctl::ioctl(cx, a, b, c),

        nr::__NR_stat => metadata::stat(cx, here, a, b, 0),
        nr::__NR_lstat => metadata::stat(cx, here, a, b, AT_SYMLINK_NOFOLLOW),
        nr::__NR_fstat => metadata::fstat(cx, a, b),
        nr::__NR_newfstatat => metadata::stat(cx, a, b, c, d),
        nr::__NR_statx => metadata::statx(cx, a, b, c, d, e),
        nr::__NR_access => metadata::access(cx, here, a, b, 0),
        nr::__NR_faccessat => metadata::access(cx, a, b, c, 0),
        nr::__NR_faccessat2 => metadata::access(cx, a, b, c, d),
        nr::__NR_readlink => metadata::readlink(cx, here, a, b, c),
        nr::__NR_readlinkat => metadata::readlink(cx, a, b, c, d),
        nr::__NR_chmod => metadata::chmod(cx, here, a, b, 0),
        nr::__NR_fchmod => metadata::fchmod(cx, a, b),
        nr::__NR_fchmodat => metadata::chmod(cx, a, b, c, 0),
        nr::__NR_fchmodat2 => metadata::chmod(cx, a, b, c, d),
        nr::__NR_chown => metadata::chown(cx, here, a, [b, c], 0),
        nr::__NR_lchown => metadata::chown(cx, here, a, [b, c], AT_SYMLINK_NOFOLLOW),
        nr::__NR_fchown => metadata::fchown(cx, a, [b, c]),
        nr::__NR_fchownat => metadata::chown(cx, a, b, [c, d], e),
        nr::__NR_utimensat => metadata::utimensat(cx, a, b, c, d),
        nr::__NR_utimes => metadata::futimesat(cx, here, a, b),
        nr::__NR_futimesat => metadata::futimesat(cx, a, b, c),
        nr::__NR_utime => metadata::utime(cx, a, b),
        nr::__NR_statfs => metadata::statfs(cx, a, b),
        nr::__NR_fstatfs => metadata::fstatfs(cx, a, b),
        nr::__NR_truncate => metadata::truncate(cx, a, b),
        nr::__NR_ftruncate => metadata::ftruncate(cx, a, b),
        nr::__NR_fallocate => metadata::fallocate(cx, a, b, c, d),
        nr::__NR_fsync | nr::__NR_syncfs => metadata::fsync(cx, a, false),
        nr::__NR_fdatasync => metadata::fsync(cx, a, true),
        nr::__NR_sync => Ok(0),
        nr::__NR_sync_file_range => metadata::fsync(cx, a, true),
        nr::__NR_fadvise64 => metadata::advise(cx, a, d),
        nr::__NR_readahead => metadata::advise(cx, a, 0),

        nr::__NR_getcwd => names::getcwd(cx, a, b),
        nr::__NR_chdir => names::chdir(cx, a),
        nr::__NR_fchdir => names::fchdir(cx, a),
        nr::__NR_mkdir => names::mkdirat(cx, here, a, b),
        nr::__NR_mkdirat => names::mkdirat(cx, a, b, c),
        nr::__NR_rmdir => names::unlinkat(cx, here, a, AT_REMOVEDIR),
        nr::__NR_unlink => names::unlinkat(cx, here, a, 0),
        nr::__NR_unlinkat => names::unlinkat(cx, a, b, c),
        nr::__NR_rename => names::renameat(cx, here, a, here, b, 0),
        nr::__NR_renameat => names::renameat(cx, a, b, c, d, 0),
        nr::__NR_renameat2 => names::renameat(cx, a, b, c, d, e),
        nr::__NR_link => names::linkat(cx, here, a, here, b, 0),
        nr::__NR_linkat => names::linkat(cx, a, b, c, d, e),
        nr::__NR_symlink => names::symlinkat(cx, a, here, b),
        nr::__NR_symlinkat => names::symlinkat(cx, a, b, c),
        nr::__NR_getdents64 => names::getdents64(cx, a, b, c),
        nr::__NR_mknod | nr::__NR_mknodat => Err(Errno::EPERM),

        nr::__NR_getxattr => xattr::get(cx, a, b, c, d, true),
        nr::__NR_lgetxattr => xattr::get(cx, a, b, c, d, false),
        nr::__NR_fgetxattr => xattr::fget(cx, a, b, c, d),
        nr::__NR_listxattr => xattr::list(cx, a, b, c, true),
        nr::__NR_llistxattr => xattr::list(cx, a, b, c, false),
        nr::__NR_flistxattr => xattr::flist(cx, a, b, c),
        nr::__NR_setxattr
        | nr::__NR_lsetxattr
        | nr::__NR_fsetxattr
        | nr::__NR_removexattr
        | nr::__NR_lremovexattr
        | nr::__NR_fremovexattr => Err(Errno::EOPNOTSUPP),

        nr::__NR_pipe => create::pipe(cx, a, 0),
        nr::__NR_pipe2 => create::pipe(cx, a, b),
        nr::__NR_eventfd => create::eventfd(cx, a, 0),
        nr::__NR_eventfd2 => create::eventfd(cx, a, b),
        nr::__NR_timerfd_create => create::timerfd_create(cx, a, b),
        nr::__NR_timerfd_settime => create::timerfd_settime(cx, a, b, c, d),
        nr::__NR_timerfd_gettime => create::timerfd_gettime(cx, a, b),
        nr::__NR_memfd_create => create::memfd_create(cx, a, b),
        nr::__NR_inotify_init | nr::__NR_inotify_init1 | nr::__NR_fanotify_init => {
            Err(Errno::ENOSYS)
        }

        nr::__NR_poll => wait::poll(cx, a, b, c),
        nr::__NR_ppoll => wait::ppoll(cx, a, b, c, [d, e]),
        nr::__NR_select => wait::select(cx, a, [b, c, d], e),
        nr::__NR_pselect6 => wait::pselect6(cx, a, [b, c, d], e, f),
        nr::__NR_epoll_create => create::epoll_create(cx, a),
        nr::__NR_epoll_create1 => create::epoll_create1(cx, a),
        nr::__NR_epoll_ctl => wait::epoll_ctl(cx, a, b, c, d),
        nr::__NR_epoll_wait => wait::epoll_wait(cx, a, b, c, d),
        nr::__NR_epoll_pwait => wait::epoll_pwait(cx, args),
        nr::__NR_epoll_pwait2 => wait::epoll_pwait2(cx, args),

        _ => return None,
    })
}

/// The description behind a descriptor.
fn file(cx: &Context<'_>, fd: u64) -> Result<Arc<OpenFile>, Errno> {
    cx.process().files.get(fd)
}

/// The description behind a descriptor that is more than a name.
pub(crate) fn usable(cx: &Context<'_>, fd: u64) -> Result<Arc<OpenFile>, Errno> {
    let file = file(cx, fd)?;
    if file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    Ok(file)
}

fn namespace(cx: &Context<'_>) -> Arc<Namespace> {
    cx.process().files.namespace()
}

/// Where a path relative to `dirfd` starts.
fn base(cx: &Context<'_>, dirfd: u64, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.first() == Some(&b'/') {
        return Ok(b"/".to_vec());
    }
    if dirfd as i32 == AT_FDCWD {
        return Ok(cx.process().files.cwd());
    }
    let directory = file(cx, dirfd)?;
    if !directory.flags().contains(OpenFlags::DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    Ok(directory.path.clone())
}

/// Reads a path and finds where it starts.
fn path_at(cx: &Context<'_>, dirfd: u64, addr: u64) -> Result<(Vec<u8>, Vec<u8>), Errno> {
    let path = cx.read_path(addr)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    Ok((base(cx, dirfd, &path)?, path))
}

/// Permission bits of something new.
fn new_mode(cx: &Context<'_>, mode: u64) -> u32 {
    mode as u32 & 0o7777 & !cx.process().files.umask()
}

/// Refuses flags other than those known.
fn only(flags: u64, known: u64) -> Result<(), Errno> {
    if flags & !known == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
