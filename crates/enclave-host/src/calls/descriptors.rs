// SPDX-License-Identifier: Apache-2.0
//! Descriptors of any kind: flags, control, waiting.

use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use enclave_abi::call::Op;
use rustix::fs::OFlags;

use super::{Answer, Host, answer, blocking, fd, new_fd, raw_fd, timeout};
use crate::area::{CallArea, Errno};
use crate::root::number;

/// Requests that may be made, with the bytes they take and give.
const IOCTLS: [(u64, usize, usize); 8] = [
    (libc::TCGETS, 0, 36),
    (libc::TCSETS, 36, 0),
    (libc::TCSETSW, 36, 0),
    (libc::TCSETSF, 36, 0),
    (libc::TIOCGWINSZ, 0, 8),
    (libc::TIOCSWINSZ, 8, 0),
    (libc::TIOCGPGRP, 0, 4),
    (libc::FIONREAD, 0, 4),
];
/// Most entries of one poll.
const POLL_MAX: usize = 16384;

pub(super) fn serve(host: &Host, op: Op, area: &mut CallArea) -> Answer {
    match op {
        Op::SetFlags => set_flags(host, area),
        Op::Ioctl => ioctl(host, area),
        Op::Poll => poll(host, area),
        Op::Eventfd => {
            let flags = rustix::event::EventfdFlags::from_bits_truncate(area.word(1) as u32);
            let made = rustix::event::eventfd(
                area.word(0) as u32,
                flags | rustix::event::EventfdFlags::CLOEXEC,
            );
            new_fd(made.map_err(number)?.into_raw_fd())
        }
        Op::EpollCreate => {
            let made = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC);
            new_fd(made.map_err(number)?.into_raw_fd())
        }
        Op::EpollCtl => epoll_ctl(host, area),
        _ => epoll_wait(host, area),
    }
}

fn set_flags(host: &Host, area: &CallArea) -> Answer {
    let allowed = OFlags::NONBLOCK | OFlags::APPEND;
    let flags = OFlags::from_bits_retain(area.word(1) as u32) & allowed;
    let fd = fd(host, area, 0)?;
    let now = rustix::fs::fcntl_getfl(fd).map_err(number)?;
    rustix::fs::fcntl_setfl(fd, (now - allowed) | flags).map_err(number)?;
    Ok(0)
}

fn ioctl(host: &Host, area: &mut CallArea) -> Answer {
    let fd = raw_fd(host, area, 0)?;
    let request = area.word(1);
    let &(_, takes, gives) = IOCTLS
        .iter()
        .find(|(known, ..)| *known == request)
        .ok_or(libc::ENOTTY)?;
    let mut buffer = [0; 64];
    let input = area.input(2)?;
    let input = input.get(..takes).ok_or(libc::EINVAL)?;
    buffer
        .get_mut(..takes)
        .ok_or(libc::EINVAL)?
        .copy_from_slice(input);
    // SAFETY: every request of the closed list reads or writes at most 36 bytes.
    let result = unsafe { libc::ioctl(fd, request, buffer.as_mut_ptr()) };
    if result < 0 {
        return Err(last_error());
    }
    let out = area.output(4)?;
    let out = out.get_mut(..gives).ok_or(libc::EINVAL)?;
    out.copy_from_slice(buffer.get(..gives).ok_or(libc::EINVAL)?);
    Ok(i64::from(result))
}

fn poll(host: &Host, area: &CallArea) -> Answer {
    let (from, from_len) = area.raw(0)?;
    let (to, to_len) = area.raw(2)?;
    let count = from_len / size_of::<libc::pollfd>();
    if from_len != to_len || count > POLL_MAX {
        return Err(libc::EINVAL);
    }
    if from != to {
        // SAFETY: both ranges lie in the area; `copy` allows them to overlap.
        unsafe { std::ptr::copy(from, to, from_len) };
    }
    let time = timeout(area.word(4));
    let time = time
        .as_ref()
        .map_or(0, |time| std::ptr::from_ref(time) as u64);
    // Polling one of the launcher's own descriptors tells nothing but readiness.
    // SAFETY: `to` has room for `count` entries; the timespec lives on.
    unsafe {
        blocking(
            host,
            libc::SYS_ppoll,
            [to as u64, count as u64, time, 0, 8, 0],
        )
    }
}

fn epoll_ctl(host: &Host, area: &CallArea) -> Answer {
    let (epoll, target) = (raw_fd(host, area, 0)?, raw_fd(host, area, 2)?);
    let mut event = libc::epoll_event {
        events: area.word(3) as u32,
        u64: area.word(4),
    };
    // SAFETY: the pointer is valid for the call.
    let result = unsafe { libc::epoll_ctl(epoll, area.word(1) as i32, target, &raw mut event) };
    if result < 0 { Err(last_error()) } else { Ok(0) }
}

fn epoll_wait(host: &Host, area: &CallArea) -> Answer {
    let epoll = fd(host, area, 0)?.as_raw_fd();
    let (to, len) = area.raw(1)?;
    let count = (len / size_of::<libc::epoll_event>()).min(POLL_MAX);
    let time = timeout(area.word(3));
    let time = time
        .as_ref()
        .map_or(0, |time| std::ptr::from_ref(time) as u64);
    // SAFETY: `to` has room for `count` entries; the timespec lives on.
    let result = unsafe {
        blocking(
            host,
            libc::SYS_epoll_pwait2,
            [epoll as u64, to as u64, count as u64, time, 0, 8],
        )
    };
    if result != Err(libc::ENOSYS) {
        return result;
    }
    // Before Linux 5.11: milliseconds, rounded up so that a wait never spins.
    let ns = area.word(3);
    let ms = if ns == u64::MAX {
        -1
    } else {
        ns.div_ceil(1_000_000).min(i32::MAX as u64) as i64
    };
    // SAFETY: as above.
    unsafe {
        blocking(
            host,
            libc::SYS_epoll_pwait,
            [epoll as u64, to as u64, count as u64, ms as u64, 0, 8],
        )
    }
}

/// The error of the last libc call of this thread.
pub(super) fn last_error() -> Errno {
    match answer(-i64::from(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    )) {
        Err(errno) => errno,
        Ok(_) => libc::EIO,
    }
}
