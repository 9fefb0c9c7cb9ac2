// SPDX-License-Identifier: Apache-2.0
//! Files without a name: pipes, counters, timers, epoll sets, memory files.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{only, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::epoll::Epoll;
use crate::vfs::event::EventCounter;
use crate::vfs::file::{Class, File};
use crate::vfs::memfs::MemFs;
use crate::vfs::pipe::Pipe;
use crate::vfs::timer::Timer;
use crate::vfs::{OpenFile, OpenFlags};

const CLOEXEC: u64 = OpenFlags::CLOEXEC.bits() as u64;
const NONBLOCK: u64 = OpenFlags::NONBLOCK.bits() as u64;

/// Opens a nameless file; `flags` may hold CLOEXEC and NONBLOCK.
pub(crate) fn add(
    cx: &Context<'_>,
    file: Arc<dyn File>,
    flags: u64,
    access: OpenFlags,
    name: &[u8],
) -> Result<u64, Errno> {
    let mut open = access;
    open.set(OpenFlags::NONBLOCK, flags & NONBLOCK != 0);
    let file = OpenFile::new(cx.machine, file, open, name.to_vec());
    cx.process().files.add(file, flags & CLOEXEC != 0)
}

pub(super) fn pipe(cx: &Context<'_>, out: u64, flags: u64) -> Result<u64, Errno> {
    let direct = u64::from(OpenFlags::DIRECT.bits());
    only(flags, CLOEXEC | NONBLOCK | direct)?;
    if flags & direct != 0 {
        // Packet mode is not offered.
        return Err(Errno::EINVAL);
    }
    let [reader, writer] = Pipe::pair(cx.machine);
    let name = alloc::format!("pipe:[{}]", reader.inode()).into_bytes();
    let read = add(cx, reader, flags, OpenFlags::empty(), &name)?;
    let written = add(cx, writer, flags, OpenFlags::WRITE_ONLY, &name).and_then(|write| {
        let mut both = (read as u32).to_le_bytes().to_vec();
        both.extend_from_slice(&(write as u32).to_le_bytes());
        cx.write(out, &both).inspect_err(|_| {
            let _ = super::open::close(cx, write);
        })
    });
    if let Err(errno) = written {
        let _ = super::open::close(cx, read);
        return Err(errno);
    }
    Ok(0)
}

pub(super) fn eventfd(cx: &Context<'_>, value: u64, flags: u64) -> Result<u64, Errno> {
    const SEMAPHORE: u64 = 1;
    only(flags, CLOEXEC | NONBLOCK | SEMAPHORE)?;
    let counter = EventCounter::new(value as u32, flags & SEMAPHORE != 0);
    let access = OpenFlags::READ_WRITE;
    add(
        cx,
        Arc::new(counter),
        flags,
        access,
        b"anon_inode:[eventfd]",
    )
}

pub(super) fn timerfd_create(cx: &Context<'_>, clock: u64, flags: u64) -> Result<u64, Errno> {
    only(flags, CLOEXEC | NONBLOCK)?;
    let realtime = match clock as u32 {
        0 | 8 => true,
        1 | 7 | 9 => false,
        _ => return Err(Errno::EINVAL),
    };
    let timer = Arc::new(Timer::new(realtime));
    add(
        cx,
        timer,
        flags,
        OpenFlags::READ_WRITE,
        b"anon_inode:[timerfd]",
    )
}

/// A `struct timespec` in nanoseconds.
pub(super) fn nanos(cx: &Context<'_>, addr: u64) -> Result<u64, Errno> {
    let seconds = cx.read_u64(addr)?;
    let nanos = cx.read_u64(addr.wrapping_add(8))?;
    if i64::try_from(seconds).is_err() || nanos >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn write_setting(cx: &Context<'_>, out: u64, (value, interval): (u64, u64)) -> Result<(), Errno> {
    let mut bytes = Vec::with_capacity(32);
    for ns in [interval, value] {
        bytes.extend_from_slice(&(ns / 1_000_000_000).to_le_bytes());
        bytes.extend_from_slice(&(ns % 1_000_000_000).to_le_bytes());
    }
    cx.write(out, &bytes)
}

pub(super) fn timerfd_settime(
    cx: &Context<'_>,
    fd: u64,
    flags: u64,
    new: u64,
    old: u64,
) -> Result<u64, Errno> {
    const ABSTIME: u64 = 1;
    const CANCEL_ON_SET: u64 = 2;
    only(flags, ABSTIME | CANCEL_ON_SET)?;
    let file = usable(cx, fd)?;
    let Class::Timer(timer) = file.file.class() else {
        return Err(Errno::EINVAL);
    };
    let interval = nanos(cx, new)?;
    let value = nanos(cx, new.wrapping_add(16))?;
    let before = timer.set(cx, value, interval, flags & ABSTIME != 0);
    if old != 0 {
        write_setting(cx, old, before)?;
    }
    Ok(0)
}

pub(super) fn timerfd_gettime(cx: &Context<'_>, fd: u64, out: u64) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    let Class::Timer(timer) = file.file.class() else {
        return Err(Errno::EINVAL);
    };
    write_setting(cx, out, timer.get(cx))?;
    Ok(0)
}

pub(super) fn memfd_create(cx: &Context<'_>, name: u64, flags: u64) -> Result<u64, Errno> {
    const MFD_CLOEXEC: u64 = 1;
    const MFD_ALLOW_SEALING: u64 = 2;
    const MFD_NOEXEC_SEAL: u64 = 8;
    const MFD_EXEC: u64 = 16;
    only(
        flags,
        MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC,
    )?;
    let given = cx.read_cstr(name, 250).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let mut name = b"/memfd:".to_vec();
    name.extend_from_slice(&given);
    name.extend_from_slice(b" (deleted)");
    let quota = crate::vfs::memory_quota();
    let file = MemFs::unnamed(cx, &quota, &name);
    let cloexec = if flags & MFD_CLOEXEC != 0 { CLOEXEC } else { 0 };
    add(cx, file, cloexec, OpenFlags::READ_WRITE, &name)
}

pub(super) fn epoll_create(cx: &Context<'_>, size: u64) -> Result<u64, Errno> {
    if size as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(cx, 0)
}

pub(super) fn epoll_create1(cx: &Context<'_>, flags: u64) -> Result<u64, Errno> {
    only(flags, CLOEXEC)?;
    let set = Arc::new(Epoll::new());
    add(
        cx,
        set,
        flags,
        OpenFlags::READ_WRITE,
        b"anon_inode:[eventpoll]",
    )
}
